//! What a run found: rows of figures with targets, printed as Markdown and written as JSON.
//!
//! Every figure is a number in the row's unit, so that a program can read a run again: the plots are made from the JSON.

use serde_json::{Map, Value, json};

/// The stores, as the tables and the JSON name them.
pub const OURS: &str = "attestlog";
pub const SQLITE: &str = "SQLite";
pub const ROWS: &str = "redb rows";

/// What a row's figures are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Micros,
    Bytes,
    Megabytes,
    Times,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "a second",
            Unit::Micros => "µs",
            Unit::Bytes => "bytes",
            Unit::Megabytes => "MB",
            Unit::Times => "times",
        }
    }

    pub fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "-".to_owned(),
            Unit::PerSecond => format!("{}/s", count(value)),
            Unit::Micros => micros(value),
            Unit::Bytes => count(value),
            Unit::Megabytes => format!("{value:.0} MB"),
            Unit::Times => format!("{value:.2} ×"),
        }
    }
}

/// What a target is set for.
#[derive(Clone, Copy)]
pub enum Target {
    /// The ratio.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// attestlog's own figure.
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    /// The bound that is set for stores of at least so many entries, of those given in rising order; `None` below all.
    pub fn by_size(entries: u64, bounds: &[(u64, f64)], target: fn(f64) -> Target) -> Option<Target> {
        bounds.iter().rev().find(|(from, _)| entries >= *from).map(|&(_, bound)| target(bound))
    }

    fn met(self, row: &Row) -> Option<bool> {
        let (value, met) = match self {
            Target::RatioAtMost(bound) => (row.ratio()?, row.ratio()? <= bound),
            Target::RatioAtLeast(bound) => (row.ratio()?, row.ratio()? >= bound),
            Target::AtMost(bound) => (row.of(OURS)?, row.of(OURS)? <= bound),
            Target::AtLeast(bound) => (row.of(OURS)?, row.of(OURS)? >= bound),
        };
        (!value.is_nan()).then_some(met)
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Target::RatioAtMost(bound) => format!("≤ {bound}"),
            Target::RatioAtLeast(bound) => format!("≥ {bound}"),
            Target::AtMost(bound) => format!("≤ {}", unit.show(bound)),
            Target::AtLeast(bound) => format!("≥ {}", unit.show(bound)),
        }
    }
}

/// One measurement.
pub struct Row {
    /// Names the measurement in the JSON, at every size.
    pub id: &'static str,
    what: String,
    unit: Unit,
    values: Vec<(&'static str, f64)>,
    /// The ratio, and of what it is one.
    ratio: Option<(f64, String)>,
    target: Option<Target>,
    note: String,
}

impl Row {
    pub fn new(id: &'static str, what: impl Into<String>, unit: Unit) -> Row {
        let note = String::new();
        Row { id, what: what.into(), unit, values: Vec::new(), ratio: None, target: None, note }
    }

    /// The figure of a store; one that was not measured is no figure.
    pub fn value(mut self, store: &'static str, value: f64) -> Row {
        if value.is_finite() {
            self.values.push((store, value));
        }
        self
    }

    /// attestlog's figure divided by this other one.
    pub fn ratio_to(self, what: &str, other: f64) -> Row {
        let ratio = self.of(OURS).unwrap_or(f64::NAN) / other;
        self.ratio_of(ratio, what)
    }

    pub fn ratio_of(mut self, ratio: f64, what: &str) -> Row {
        self.ratio = ratio.is_finite().then(|| (ratio, what.to_owned()));
        self
    }

    pub fn target(mut self, target: impl Into<Option<Target>>) -> Row {
        self.target = target.into();
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    fn of(&self, store: &str) -> Option<f64> {
        self.values.iter().find(|(name, _)| *name == store).map(|&(_, value)| value)
    }

    fn ratio(&self) -> Option<f64> {
        self.ratio.as_ref().map(|(ratio, _)| *ratio)
    }

    fn cell(&self, store: &str) -> String {
        self.of(store).map_or_else(|| "-".to_owned(), |value| self.unit.show(value))
    }
}

/// The rows of one size.
pub struct Report {
    pub entries: u64,
    rows: Vec<Row>,
    peers: Vec<(&'static str, Vec<String>)>,
    /// Whether targets are judged.
    judged: bool,
}

impl Report {
    pub fn new(entries: u64, judged: bool) -> Report {
        Report { entries, rows: Vec::new(), peers: Vec::new(), judged }
    }

    pub fn add(&mut self, row: Row) {
        eprintln!("  {}: {} | {} | {}", row.what, row.cell(OURS), row.cell(SQLITE), row.cell(ROWS));
        self.rows.push(row);
    }

    /// A peer's figures join the rows that measure the same; what is different about them is said below the table.
    pub fn add_peer(&mut self, peer: &'static str, values: &[(String, f64)], notes: Vec<String>) {
        for row in &mut self.rows {
            let value = values.iter().find(|(id, _)| id == row.id);
            row.values.extend(value.filter(|(_, value)| value.is_finite()).map(|&(_, value)| (peer, value)));
        }
        self.peers.push((peer, notes));
    }

    fn verdict(&self, row: &Row) -> &'static str {
        match row.target.and_then(|target| target.met(row)) {
            None => "",
            Some(_) if !self.judged => "not judged",
            Some(true) => "met",
            Some(false) => "missed",
        }
    }

    /// The tables, as Markdown.
    pub fn markdown(&self) -> String {
        let mut rows = vec![["what", OURS, SQLITE, ROWS, "ratio", "target", "verdict"].map(str::to_owned).to_vec()];
        for row in &self.rows {
            let ratio = row.ratio.as_ref().map_or_else(String::new, |(ratio, of)| format!("{ratio:.2} {of}"));
            let target = row.target.map_or_else(String::new, |target| target.show(row.unit));
            let what = if row.note.is_empty() { row.what.clone() } else { format!("{} ({})", row.what, row.note) };
            let cells = [row.cell(OURS), row.cell(SQLITE), row.cell(ROWS)];
            let mut line = vec![what];
            line.extend(cells);
            line.extend([ratio, target, self.verdict(row).to_owned()]);
            rows.push(line);
        }
        let mut text = format!("## {} entries\n\n{}", count(self.entries as f64), table(&rows));
        if !self.peers.is_empty() {
            text.push_str(&format!("\n## {} entries: the other crates\n\n", count(self.entries as f64)));
            text.push_str(&self.peer_table());
        }
        text
    }

    fn peer_table(&self) -> String {
        let stores: Vec<&str> = [OURS, SQLITE].into_iter().chain(self.peers.iter().map(|(name, _)| *name)).collect();
        let mut rows = vec![std::iter::once("what").chain(stores.iter().copied()).map(str::to_owned).collect()];
        let shared = |row: &&Row| self.peers.iter().any(|(name, _)| row.of(name).is_some());
        for row in self.rows.iter().filter(shared) {
            rows.push(std::iter::once(row.what.clone()).chain(stores.iter().map(|store| row.cell(store))).collect());
        }
        let mut text = table(&rows);
        text.push_str("\nWhat is not the same:\n\n");
        for (name, notes) in &self.peers {
            notes.iter().for_each(|note| text.push_str(&format!("- **{name}**: {note}\n")));
        }
        text
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let values: Map<String, Value> = row.values.iter().map(|(s, v)| ((*s).to_owned(), json!(v))).collect();
            json!({
                "id": row.id, "what": row.what, "unit": row.unit.name(), "values": values, "note": row.note,
                "ratio": row.ratio(), "ratio_of": row.ratio.as_ref().map(|(_, of)| of),
                "target": row.target.map(|target| target.show(row.unit)),
                "met": row.target.filter(|_| self.judged).and_then(|target| target.met(row)),
            })
        });
        let peers: Map<String, Value> = self.peers.iter().map(|(n, notes)| ((*n).to_owned(), json!(notes))).collect();
        json!({ "entries": self.entries, "rows": rows.collect::<Vec<_>>(), "peers": peers })
    }
}

fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:w$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if i == 0 {
            let rules: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
            text.push_str(&format!("|{}|\n", rules.join("|")));
        }
    }
    text
}

/// 1234567 → "1,234,567".
pub fn count(n: f64) -> String {
    let digits = format!("{n:.0}");
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
        us if us >= 10_000_000.0 => format!("{:.1} s", us / 1e6),
        us if us >= 10_000.0 => format!("{:.1} ms", us / 1000.0),
        us if us >= 100.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}
