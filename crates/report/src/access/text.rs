//! The report as text for a terminal.

use super::{Access, AccessReport, Statement, Subject, Tally};
use crate::text::{shortened, width, wrap};
use crate::zone::Zone;
use std::fmt::Write;

/// The layout of a report on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextStyle {
    /// Width of the terminal in columns.
    pub width: usize,
    /// Whether to use colours.
    pub color: bool,
}

impl TextStyle {
    /// A style without colours, `width` columns wide.
    pub fn plain(width: usize) -> TextStyle {
        TextStyle { width, color: false }
    }

    /// A style with colours, `width` columns wide.
    pub fn colored(width: usize) -> TextStyle {
        TextStyle { width, color: true }
    }
}

impl Default for TextStyle {
    /// 100 columns, no colours.
    fn default() -> TextStyle {
        TextStyle::plain(100)
    }
}

/// Longer ids are shortened in the middle; JSON and CSV have them in full.
const MAX_VALUE: usize = 120;
/// On a narrower terminal the accesses are listed one below the other instead of in a table.
const MIN_TABLE: usize = 72;
const LABEL: usize = 11;
const GAP: usize = 2;

#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

impl AccessReport {
    /// The report as text for a terminal: no line is wider than `style.width` (but at least 40), and nothing that a
    /// caller wrote acts as a terminal command.
    pub fn to_text(&self, style: &TextStyle) -> String {
        let context = self.context();
        let zone = context.zone;
        let mut page = Page { out: String::new(), width: style.width.max(40), color: style.color, zone };
        page.line(&context.subject.title().to_uppercase(), Ink::Bold);
        let subject = shortened(context.subject.shown(), MAX_VALUE);
        page.label(context.subject.noun(), &subject, Ink::Bold);
        if let Some(sentence) = self.unknown() {
            page.label("", &format!("UNKNOWN TO THIS LOG. {sentence}"), Ink::Bad);
        }
        if !context.recorded_as.is_empty() {
            let known: Vec<String> = context.recorded_as.iter().map(|r| shortened(r, MAX_VALUE)).collect();
            page.label("Known as", &known.join(", "), Ink::Plain);
        }
        page.label("Period", &context.period_text(), Ink::Plain);
        if let Some(log) = &context.log {
            page.label("Log", &shortened(log, MAX_VALUE), Ink::Plain);
        }
        if let (Some(size), Some(root)) = (context.size, context.root) {
            page.label("Size", &format!("{size} entries, with the root {root}"), Ink::Plain);
        }
        if let Some(key) = &context.public_key {
            page.label("Key", key, Ink::Plain);
        }
        if let Some(at) = context.generated_at {
            page.label("Made", &zone.moment_named(at), Ink::Plain);
        }
        page.label("Accesses", &self.summary(), Ink::Plain);
        if !self.totals().purposes.is_empty() {
            page.label("Purposes", &self.purposes(), Ink::Plain);
        }
        for (name, Statement { good, word, sentence }) in
            [("Integrity", self.integrity()), ("Anchoring", self.anchoring())]
        {
            page.label(name, &format!("{word}. {sentence}"), if good { Ink::Good } else { Ink::Bad });
        }
        if let Some(sentence) = self.doubtful_times() {
            page.label("Times", &sentence, Ink::Bad);
        }
        for (i, sentence) in self.purges().iter().enumerate() {
            page.label(if i == 0 { "Purged" } else { "" }, sentence, Ink::Plain);
        }
        for (i, told) in self.grants(MAX_VALUE).iter().enumerate() {
            let ink = if told.open { Ink::Bad } else { Ink::Plain };
            page.label(if i == 0 { "Emergency" } else { "" }, &told.sentence(), ink);
        }
        for (i, tally) in self.tallies().iter().enumerate() {
            page.label(if i == 0 { "Who" } else { "" }, &told(tally, zone), Ink::Plain);
        }
        page.blank();
        if self.rows().is_empty() {
            page.line("No accesses in this period.", Ink::Plain);
        } else if page.width < MIN_TABLE {
            self.rows().iter().for_each(|row| page.record(row));
        } else {
            page.table(self);
        }
        page.out
    }
}

struct Page {
    out: String,
    width: usize,
    color: bool,
    /// In which times are shown.
    zone: Zone,
}

impl Page {
    fn blank(&mut self) {
        self.out.push('\n');
    }

    fn ink(&mut self, text: &str, ink: Ink) {
        let code = match ink {
            Ink::Plain => "",
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Bad => "1;31",
        };
        if !self.color || code.is_empty() {
            self.out.push_str(text);
        } else {
            let _ = write!(self.out, "\u{1b}[{code}m{text}\u{1b}[0m");
        }
    }

    fn line(&mut self, text: &str, ink: Ink) {
        for line in wrap(text, self.width) {
            self.ink(&line, ink);
            self.blank();
        }
    }

    fn label(&mut self, label: &str, text: &str, ink: Ink) {
        for (i, line) in wrap(text, self.width - LABEL).iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            self.ink(&format!("{label:LABEL$}"), Ink::Dim);
            self.ink(line, ink);
            self.blank();
        }
    }

    fn record(&mut self, row: &Access) {
        self.line(&format!("#{}  {} {}", row.seq, self.zone.moment(row.timestamp), self.zone.name()), Ink::Bold);
        let (recorded, recorded_ink) = recorded(row, self.zone).unwrap_or((String::new(), Ink::Plain));
        for (label, value, ink) in [
            ("user", who(row), Ink::Plain),
            ("through", through(row), Ink::Plain),
            ("tool", shortened(&row.tool, MAX_VALUE), Ink::Plain),
            ("purpose", purpose(row), Ink::Plain),
            ("outcome", outcome(row), outcome_ink(row)),
            ("recorded", recorded, recorded_ink),
            ("viewed", viewed(row), Ink::Plain),
        ] {
            if !value.is_empty() {
                self.label(label, &value, ink);
            }
        }
        self.blank();
    }

    fn table(&mut self, report: &AccessReport) {
        let by_user = matches!(report.context().subject, Subject::User(_));
        let time = format!("TIME ({})", self.zone.name());
        let heads = ["SEQ", &time, if by_user { "PATIENT" } else { "USER (ROLE)" }];
        let heads = [heads[0], heads[1], heads[2], "THROUGH", "TOOL", "PURPOSE", "OUTCOME"];
        let rows: Vec<[String; 7]> = report
            .rows()
            .iter()
            .map(|row| {
                [
                    row.seq.to_string(),
                    self.zone.moment(row.timestamp),
                    if by_user { patients(row) } else { who(row) },
                    through(row),
                    shortened(&row.tool, MAX_VALUE),
                    purpose(row),
                    outcome(row),
                ]
            })
            .collect();
        let widths = fit(&heads, &rows, self.width);
        self.cells(&heads.map(str::to_owned), &widths, |_| Ink::Bold);
        for (cells, row) in rows.iter().zip(report.rows()) {
            let ink = outcome_ink(row);
            self.cells(cells, &widths, |column| if column == 6 { ink } else { Ink::Plain });
            let indent = widths[0] + GAP;
            if let Some((recorded, ink)) = recorded(row, self.zone) {
                self.below(indent, &format!("recorded: {recorded}"), ink);
            }
            let viewed = viewed(row);
            if !viewed.is_empty() {
                self.below(indent, &format!("viewed: {viewed}"), Ink::Dim);
            }
        }
    }

    /// Lines below a row of the table.
    fn below(&mut self, indent: usize, text: &str, ink: Ink) {
        for line in wrap(text, self.width.saturating_sub(indent)) {
            self.out.extend(std::iter::repeat_n(' ', indent));
            self.ink(&line, ink);
            self.blank();
        }
    }

    /// One row of the table, each cell wrapped within its column.
    fn cells(&mut self, cells: &[String; 7], widths: &[usize; 7], ink: impl Fn(usize) -> Ink) {
        let wrapped: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
        let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let mut pending = 0;
            for (column, (cell, room)) in wrapped.iter().zip(widths).enumerate() {
                let text = cell.get(line).map_or("", String::as_str);
                let space = room.saturating_sub(width(text));
                // Numbers are right-aligned; trailing blanks are not written.
                let (before, after) = if column == 0 { (space, 0) } else { (0, space) };
                pending += before;
                if !text.is_empty() {
                    self.out.extend(std::iter::repeat_n(' ', pending));
                    pending = 0;
                    self.ink(text, ink(column));
                } else {
                    pending += width(text);
                }
                pending += after + GAP;
            }
            self.blank();
        }
    }
}

/// The widths of the columns: as wide as their cells need, then the widest reduced until all fit.
fn fit(heads: &[&str; 7], rows: &[[String; 7]], total: usize) -> [usize; 7] {
    let mut widths = heads.map(width);
    for row in rows {
        for (needed, cell) in widths.iter_mut().zip(row) {
            *needed = (*needed).max(width(cell));
        }
    }
    let gaps = GAP * (widths.len() - 1);
    let fixed = widths[0] + widths[1] + gaps;
    let room = total.saturating_sub(fixed).max(5 * 4);
    while widths[2..].iter().sum::<usize>() > room {
        let Some(widest) = widths[2..].iter_mut().max() else { break };
        *widest -= 1;
    }
    widths
}

/// What one person did, or what was done to one patient's data, in a line.
fn told(tally: &Tally, zone: Zone) -> String {
    let roles: Vec<String> = tally.roles.iter().map(|role| shortened(role, MAX_VALUE)).collect();
    let roles = if roles.is_empty() { String::new() } else { format!(" ({})", roles.join(", ")) };
    let mut out = format!(
        "{}{roles}: {} {}",
        shortened(&tally.name, MAX_VALUE),
        tally.accesses,
        if tally.accesses == 1 { "access" } else { "accesses" }
    );
    for (n, what) in [(tally.failed, "failed or refused"), (tally.emergencies, "in an emergency")] {
        if n > 0 {
            out.push_str(&format!(", {n} {what}"));
        }
    }
    match tally.first == tally.last {
        true => out + &format!(", {}", zone.moment(tally.first)),
        false => out + &format!(", {} to {}", zone.moment(tally.first), zone.moment(tally.last)),
    }
}

fn who(row: &Access) -> String {
    let user = shortened(&row.accessed_by, MAX_VALUE);
    match &row.role {
        Some(role) => format!("{user} ({})", shortened(role, MAX_VALUE)),
        None => user,
    }
}

fn patients(row: &Access) -> String {
    match row.patients.as_slice() {
        [] => "-".to_owned(),
        [one] => shortened(one, MAX_VALUE),
        [first, rest @ ..] => format!("{} and {} more", shortened(first, MAX_VALUE), rest.len()),
    }
}

fn through(row: &Access) -> String {
    row.through().map_or_else(|| "-".to_owned(), |t| shortened(&t, MAX_VALUE))
}

fn purpose(row: &Access) -> String {
    row.purpose.as_deref().map_or_else(|| "not stated".to_owned(), |p| shortened(p, MAX_VALUE))
}

fn outcome(row: &Access) -> String {
    let mut text = row.outcome_words().to_owned();
    if row.showed_data {
        text.push_str(", data shown");
    }
    if row.emergency {
        text.push_str(" EMERGENCY");
    }
    if let Some(misuse) = row.misuse {
        text.push_str(&format!(": {misuse}"));
    }
    text
}

/// The time of recording, if it is another second than the one that the call states, or if the call comes from an import; and how it is
/// shown. Only a time that is far from the stated one, or by a wrong clock, is conspicuous.
fn recorded(row: &Access, zone: Zone) -> Option<(String, Ink)> {
    let mut text = zone.moment(row.recorded_at);
    let mut ink = Ink::Dim;
    if row.by_wrong_clock {
        text.push_str(" by a clock that may have been wrong");
        ink = Ink::Bad;
    }
    if let Some(claimed) = row.claimed_time {
        text.push_str(&format!(" ({claimed})"));
        ink = Ink::Bad;
    }
    if row.backfilled {
        text.push_str(", imported");
    }
    (row.backfilled || row.by_wrong_clock || row.claimed_time.is_some() || row.recorded_apart()).then_some((text, ink))
}

fn outcome_ink(row: &Access) -> Ink {
    match row.success() {
        Some(true) if !row.emergency => Ink::Plain,
        _ => Ink::Bad,
    }
}

fn viewed(row: &Access) -> String {
    let (fields, ids) = row.viewed.texts(MAX_VALUE);
    let mut text = fields;
    if !ids.is_empty() {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&ids);
    }
    text
}
