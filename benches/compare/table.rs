//! The table of results.

/// Rows as they are measured; printed as Markdown.
pub struct Table(Vec<[String; 6]>);

impl Table {
    pub fn new() -> Table {
        Table(vec![["what", "attestlog", "SQLite", "redb rows", "ratio", "target"].map(str::to_owned)])
    }

    /// A row: what, three figures, what the target is about, the target.
    pub fn row(&mut self, what: &str, figures: [String; 3], ratio: String, target: &str) {
        let [ours, sqlite, rows] = figures;
        eprintln!("  {what}: {ours} | {sqlite} | {rows} | {ratio}");
        self.0.push([what.to_owned(), ours, sqlite, rows, ratio, target.to_owned()]);
    }

    pub fn print(&self) {
        let widths: Vec<usize> =
            (0..6).map(|c| self.0.iter().map(|r| r[c].chars().count()).max().unwrap_or_default()).collect();
        for (i, row) in self.0.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:w$}")).collect();
            println!("| {} |", cells.join(" | "));
            if i == 0 {
                println!("|{}|", widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("|"));
            }
        }
    }
}

/// 1234567 → "1,234,567".
pub fn count(n: f64) -> String {
    let digits = format!("{:.0}", n);
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Microseconds.
pub fn micros(us: f64) -> String {
    match us {
        us if us >= 10_000.0 => format!("{:.1} ms", us / 1000.0),
        us if us >= 100.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}

pub fn none() -> String {
    "-".to_owned()
}
