//! The report as one table for a spreadsheet: the accesses, then the purges, then the statements about the whole
//! report.

use super::{AccessReport, Subject};
use crate::csv::Row;
use attestlog::Result;
use attestlog::entry::ClaimedTime;
use std::io::Write;

/// The columns. `row` is `access`, `grant`, `purged` or `report`; the last three kinds use only `seq` and `note`.
const COLUMNS: &[&str] = &[
    "row",
    "seq",
    "timestamp",
    "recorded_at",
    "claimed_time",
    "accessed_by",
    "role",
    "agent",
    "model",
    "tool",
    "viewed_fields",
    "viewed_record_ids",
    "purpose",
    "success",
    "outcome",
    "emergency",
    "patient_ids",
    "finished_seq",
    "answered_seq",
    "note",
];

impl AccessReport {
    /// Writes the report as CSV, guarded against formulas as described in [`csv`](crate::csv).
    ///
    /// The accesses are followed by a row for each emergency grant and each purge and, always, by rows named `report`
    /// with the totals, integrity, anchoring and purposes, so that even a table without accesses shows how reliable it
    /// is.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if `out` fails.
    pub fn write_csv(&self, mut out: impl Write) -> Result<()> {
        let mut row = Row::default();
        COLUMNS.iter().for_each(|name| row.text(name));
        row.end(&mut out)?;
        for access in self.rows() {
            row.text("access");
            row.plain(access.seq);
            row.plain(access.timestamp);
            row.plain(access.recorded_at);
            let doubt = access.claimed_time.map(ClaimedTime::as_str);
            row.opt_text(doubt.or(access.by_wrong_clock.then_some("by_wrong_clock")));
            row.text(&access.accessed_by);
            row.opt_text(access.role.as_deref());
            row.opt_text(access.agent.as_deref());
            row.opt_text(access.model.as_deref());
            row.text(&access.tool);
            row.list(Some(&access.viewed.fields));
            let ids = &access.viewed.record_ids;
            match ids.is_empty() {
                true => row.text(""),
                false => row.text(attestlog::json::Json::from(ids.clone()).to_canonical().as_str()),
            }
            row.opt_text(access.purpose.as_deref());
            row.opt_plain(access.success());
            row.text(access.outcome_name());
            row.plain(access.emergency);
            row.list(Some(&access.patients));
            row.opt_plain(access.finished_seq);
            row.opt_plain(access.answered_seq);
            let shown = access.showed_data.then(|| "the reply showed more than its error".to_owned());
            let misuse = access.misuse.map(|misuse| misuse.to_string());
            row.text(&shown.into_iter().chain(misuse).collect::<Vec<_>>().join("; "));
            row.end(&mut out)?;
        }
        for told in self.grants(usize::MAX) {
            note(&mut row, "grant", Some(told.seq), &told.sentence());
            row.end(&mut out)?;
        }
        for (purged, sentence) in self.context().purged.iter().zip(self.purges()) {
            note(&mut row, "purged", Some(purged.purge_seq), &sentence);
            row.end(&mut out)?;
        }
        let subject = &self.context().subject;
        let of = match subject {
            Subject::User(_) => "user",
            Subject::Patient(_) | Subject::Disclosures(_) => "patient",
        };
        let title = subject.title().to_lowercase();
        let period = self.context().period_text();
        let (integrity, anchoring) = (self.integrity(), self.anchoring());
        let mut notes = vec![
            format!("{title} of {of} {}, {period}: {}", subject.shown(), self.summary()),
            format!("integrity: {}. {}", integrity.word, integrity.sentence),
            format!("anchoring: {}. {}", anchoring.word, anchoring.sentence),
        ];
        if !self.totals().purposes.is_empty() {
            notes.push(format!("purposes: {}", self.purposes()));
        }
        notes.extend(self.unknown().map(|text| format!("unknown to this log: {text}")));
        notes.extend(self.doubtful_times().map(|text| format!("times: {text}")));
        for text in notes {
            note(&mut row, "report", None, &text);
            row.end(&mut out)?;
        }
        Ok(out.flush()?)
    }
}

fn note(row: &mut Row, kind: &str, seq: Option<u64>, text: &str) {
    row.text(kind);
    row.opt_plain(seq);
    (2..COLUMNS.len() - 1).for_each(|_| row.text(""));
    row.text(text);
}
