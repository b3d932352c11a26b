//! Plots of a run, drawn from its JSON as SVG: latency by size, and cost by entry.

use crate::Failure;
use crate::report::{count, micros};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// What is drawn: the id of a row, and a title.
const LATENCIES: [(&str, &str); 9] = [
    ("by_conversation", "A conversation"),
    ("by_user", "A user's newest 50"),
    ("by_patient", "A patient's 30 days"),
    ("by_time", "Fifty entries by time"),
    ("by_user_tool", "A user's newest 50 with a tool"),
    ("failed", "The newest 50 that failed"),
    ("count_user", "Count: a user's calls"),
    ("count_tool", "Count: a tool's calls of 30 days"),
    ("record", "One durable record"),
];
/// The id, a title, whether the row has entries a second (drawn is the time an entry takes), and the unit.
const COSTS: [(&str, &str, bool, &str); 6] = [
    ("disk", "Bytes on the disk an entry", false, ""),
    ("bulk", "Recording in batches: time an entry", true, "µs"),
    ("record", "One durable record: median", false, "µs"),
    ("verify", "Verifying: time an entry", true, "µs"),
    ("by_conversation", "A conversation: median", false, "µs"),
    ("memory", "Memory while recording: peak", false, " MB"),
];
/// Stores in the order of the legend, with their colours.
const STORES: [(&str, &str); 6] = [
    ("attestlog", "#0b6e4f"),
    ("SQLite", "#c1440e"),
    ("redb rows", "#8a8a8a"),
    ("quipu-core", "#3d5a98"),
    ("audit-trail", "#b38600"),
    ("witness-log-core", "#8b4a8b"),
];
const PANEL: (f64, f64) = (300.0, 190.0);

/// Draws the plots of a run whose JSON is in a file.
pub fn again(file: &Path, dir: &Path) -> Result<(), Failure> {
    draw(&serde_json::from_slice(&std::fs::read(file)?)?, dir)
}

/// Writes `latency.svg` and `cost.svg`.
pub fn draw(found: &Value, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("latency.svg"), latency(found))?;
    Ok(std::fs::write(dir.join("cost.svg"), cost(found))?)
}

fn runs(found: &Value) -> &[Value] {
    found["runs"].as_array().map_or(&[], Vec::as_slice)
}

/// A store's figure in the row with this id.
fn figure(run: &Value, id: &str, store: &str) -> Option<f64> {
    let row = run["rows"].as_array()?.iter().find(|row| row["id"] == id)?;
    row["values"][store].as_f64().filter(|value| *value > 0.0)
}

/// A picture of panels, three in a row, below a title and a legend of the stores that are in it.
fn picture(title: &str, stores: &[&(&str, &str)], panels: &[String]) -> String {
    let (width, top) = (PANEL.0 * 3.0 + 20.0, 64.0);
    let height = top + PANEL.1 * panels.len().div_ceil(3) as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"#222\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let mut x = 12.0;
    for (name, colour) in stores {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"46\">{name}</text>",
            x + 17.0
        );
        x += 40.0 + name.len() as f64 * 6.5;
    }
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = (10.0 + PANEL.0 * (i % 3) as f64, top + PANEL.1 * (i / 3) as f64);
        let _ = writeln!(svg, "<g transform=\"translate({x},{y})\">\n{panel}</g>");
    }
    svg + "</svg>\n"
}

/// Medians against the number of entries, both axes logarithmic.
fn latency(found: &Value) -> String {
    let runs = runs(found);
    let entries = |run: &Value| run["entries"].as_f64().unwrap_or(1.0);
    let sizes = (runs.first().map_or(1.0, entries), runs.last().map_or(1.0, entries));
    let mut panels = Vec::new();
    let mut shown = Vec::new();
    for (id, title) in LATENCIES {
        let line = |store: &str| -> Vec<(f64, f64)> {
            runs.iter().filter_map(|run| Some((entries(run), figure(run, id, store)?))).collect()
        };
        let lines: Vec<_> = STORES.iter().map(|s| (s, line(s.0))).filter(|(_, points)| !points.is_empty()).collect();
        shown.extend(lines.iter().map(|(store, _)| *store));
        if !lines.is_empty() {
            panels.push(curves(title, sizes, &lines));
        }
    }
    let stores: Vec<_> = STORES.iter().filter(|store| shown.contains(store)).collect();
    picture("How long an answer takes: median, by the number of entries", &stores, &panels)
}

fn curves(title: &str, sizes: (f64, f64), lines: &[(&(&str, &str), Vec<(f64, f64)>)]) -> String {
    let (left, right, top, bottom) = (58.0, PANEL.0 - 18.0, 26.0, PANEL.1 - 30.0);
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|p| p.1.log10()));
    let low = values().fold(f64::MAX, f64::min).floor();
    let high = values().fold(f64::MIN, f64::max).ceil().max(low + 1.0);
    let (from, to) = (sizes.0.log10(), sizes.1.log10());
    let x = |n: f64| match to > from {
        true => left + (n.log10() - from) / (to - from) * (right - left),
        false => (left + right) / 2.0,
    };
    let y = |value: f64| bottom - (value.log10() - low) / (high - low) * (bottom - top);
    let mut svg = format!("<text x=\"{left}\" y=\"14\" font-weight=\"bold\">{title}</text>\n");
    for decade in low as i32..=high as i32 {
        let (at, label) = (y(10f64.powi(decade)), power(decade));
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 5.0,
            at + 4.0
        );
    }
    let mut ticks: Vec<f64> = lines.iter().flat_map(|(_, points)| points.iter().map(|p| p.0)).collect();
    ticks.sort_unstable_by(f64::total_cmp);
    ticks.dedup();
    for size in ticks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(size),
            bottom + 17.0,
            count(size)
        );
    }
    for ((_, colour), points) in lines {
        let path: Vec<String> = points.iter().map(|p| format!("{:.1} {:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join("L"));
        for p in points {
            let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(p.0), y(p.1));
        }
    }
    svg
}

/// So many powers of ten of microseconds.
fn power(decade: i32) -> String {
    let (decade, unit) = match decade {
        ..3 => (decade, "µs"),
        3..6 => (decade - 3, "ms"),
        6.. => (decade - 6, "s"),
    };
    format!("{} {unit}", 10f64.powi(decade))
}

/// What an entry costs at the largest size, as bars.
fn cost(found: &Value) -> String {
    let Some(run) = runs(found).last() else { return picture("nothing was measured", &[], &[]) };
    let mut panels = Vec::new();
    for (id, title, inverse, unit) in COSTS {
        let value = |store: &str| figure(run, id, store).map(|v| if inverse { 1e6 / v } else { v });
        let bars: Vec<_> = STORES.iter().filter_map(|store| Some((store, value(store.0)?))).collect();
        if !bars.is_empty() {
            panels.push(chart(title, unit, &bars));
        }
    }
    let entries = count(run["entries"].as_f64().unwrap_or_default());
    picture(&format!("What an entry costs: {entries} entries"), &[], &panels)
}

fn chart(title: &str, unit: &str, bars: &[(&(&str, &str), f64)]) -> String {
    let (left, longest) = (104.0, PANEL.0 - 104.0 - 72.0);
    let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN, f64::max);
    let mut svg = format!("<text x=\"4\" y=\"14\" font-weight=\"bold\">{title}</text>\n");
    for (i, ((name, colour), value)) in bars.iter().enumerate() {
        let (y, length) = (26.0 + 25.0 * i as f64, (value / most * longest).max(1.0));
        let shown = if unit == "µs" { micros(*value) } else { format!("{}{unit}", count(*value)) };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text><rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" \
             height=\"16\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\">{shown}</text>",
            left - 6.0,
            y + 12.0,
            left + length + 5.0,
            y + 12.0
        );
    }
    svg
}
