//! CSV as in RFC 4180, safe against formula injection in spreadsheets.
//!
//! A spreadsheet evaluates a cell that starts with `=`, `+`, `-`, `@`, a tab or a line break, and the arguments of an
//! agent's call can be whatever somebody talked the agent into. Every such cell is therefore prefixed with an
//! apostrophe, which spreadsheets read as "this is text". [`unguard`] restores the original exactly:
//!
//! - An apostrophe is inserted at the start of a cell, and after each `;`, tab, CR and LF inside it (where a
//!   spreadsheet configured for another separator than the comma starts a new cell), if the next character that is
//!   neither blank nor invisible is one of `= + - @`, their full-width forms, `|` or `%`, or a tab, CR or LF; or if the
//!   next character already is an apostrophe.
//! - So removing one apostrophe at each of these places restores what was recorded, whoever wrote it.
//!
//! A terminal that displays the file obeys control characters even inside quotes. So as the first step each control
//! character other than tab and LF, and each character that changes the writing direction, is written as `\u{HEX}`, and
//! the backslash of a recorded `\u{` as `\u{5c}`: each such sequence in the file stands for one character, and all
//! other text is unchanged.
//!
//! Rows end in CRLF. A cell with a comma, a quote, a semicolon, a blank at an end or a control character is quoted.

mod guard;

pub use guard::{guard, unguard};

use attestlog::entry::{
    Approval, CallError, Circumstances, Completion, Decision, Peer, Phase, Resource, Retention, SHA256, Source,
};
use attestlog::json::{Canonical, Json, Number, Object};
use attestlog::{Body, Call, Content, Entry, Result, Sender, SystemEvent, Timestamp, Trigger};
use std::io::Write;

/// The columns of an export of entries, in order: the members of an entry's line under their own names, then
/// `error_type` and `error_message` for `error`, `sender_id` and `sender_number` for `sender`, `approval_…` for the members of
/// `approval`, and the entry's hash.
pub const COLUMNS: &[&str] = &[
    "seq",
    "kind",
    "timestamp",
    "recorded_at",
    "conversation_id",
    "turn_number",
    "user_id",
    "model",
    "agent_id",
    "tool_name",
    "tool_server",
    "arguments",
    "call_trigger",
    "call_id",
    "begun_seq",
    "retry_of",
    "follow_up_of",
    "patient_ids",
    "policy_seq",
    "purpose",
    "emergency",
    "grant",
    "success",
    "outcome",
    "duration_ms",
    "error_type",
    "error_message",
    "result_summary",
    "session_metadata",
    "backfilled",
    "late_answer",
    "treated",
    "restated",
    "sender_id",
    "sender_number",
    "given",
    "detail_of",
    "trace_id",
    "span_id",
    "prompt_id",
    "parent_agent_id",
    "parent_call_id",
    "sources",
    "approval_decision",
    "approval_by",
    "approval_source",
    "approval_asked_at",
    "approval_answered_at",
    "digests",
    "peer",
    "resources",
    "contradicts",
    "detail",
    "retention_class",
    "retain_until",
    "nonce",
    "prev",
    "hash",
];

/// Writes entries as CSV, one row each.
///
/// `arguments`, `result_summary`, `session_metadata`, `treated`, `detail`, `digests`, `peer` and the lists are canonical JSON text. A
/// member that an entry does not have is an empty cell. System events are rows too, with their `kind` and `detail`. A
/// call recorded in two steps is two entries and so two rows; `begun_seq` links them.
///
/// ```
/// use attestlog_report::csv::CsvWriter;
/// let mut csv = CsvWriter::new(Vec::new())?;
/// // for entry in … { csv.write(&entry)?; }
/// let text = csv.finish()?;
/// assert!(text.starts_with(b"seq,kind,timestamp,"));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct CsvWriter<W: Write> {
    out: W,
    row: Row,
}

impl<W: Write> CsvWriter<W> {
    /// Creates a writer and writes the header.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if `out` fails.
    pub fn new(mut out: W) -> Result<CsvWriter<W>> {
        let mut row = Row::default();
        for name in COLUMNS {
            row.text(name);
        }
        row.end(&mut out)?;
        Ok(CsvWriter { out, row })
    }

    /// Writes one entry as one row.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if the output fails.
    pub fn write(&mut self, entry: &Entry) -> Result<()> {
        entry_row(&mut self.row, entry);
        self.row.end(&mut self.out)
    }

    /// Flushes and returns the output.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if the output fails.
    pub fn finish(mut self) -> Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The cells of an entry, in the order of [`COLUMNS`]. Every struct is taken apart without `..`: a member that is added has a
/// column.
fn entry_row(row: &mut Row, entry: &Entry) {
    let Entry { seq, prev, body } = entry;
    let Body { nonce, recorded_at, retention, content } = body;
    row.plain(seq);
    row.text(entry.kind().as_str());
    match content {
        Content::Call(call) => call_cells(row, call, *recorded_at),
        Content::System(SystemEvent { kind: _, detail }) => {
            row.empty_before("recorded_at");
            row.plain(recorded_at);
            row.empty_before("detail");
            row.json(Some(detail));
        }
    }
    row.empty_before("retention_class");
    let (class, until) = retention.as_ref().map(|Retention { class, until }| (class.as_str(), until)).unzip();
    row.opt_text(class);
    row.opt_plain(until);
    row.text(&nonce.map(|byte| format!("{byte:02x}")).concat());
    row.plain(prev);
    row.plain(entry.hash());
}

/// The cells from `timestamp` to `contradicts`.
fn call_cells(row: &mut Row, call: &Call, recorded_at: Timestamp) {
    let Call {
        phase,
        policy_seq,
        follows,
        grant,
        emergency,
        backfilled,
        late_answer,
        trigger,
        timestamp,
        turn_number,
        completion,
        conversation_id,
        user_id,
        patient_ids,
        model,
        agent_id,
        tool_server,
        tool_name,
        purpose,
        session_metadata,
        arguments,
        call_id,
        treated,
        restated,
        sender,
        given,
        circumstances,
    } = call;
    row.plain(timestamp);
    row.plain(recorded_at);
    row.text(conversation_id);
    row.opt_plain(*turn_number);
    row.text(user_id);
    row.opt_text(model.as_deref());
    row.opt_text(agent_id.as_deref());
    row.text(tool_name);
    row.opt_text(tool_server.as_deref());
    row.json(arguments.as_ref());
    row.opt_text(trigger.map(Trigger::as_str));
    row.opt_text(call_id.as_deref());
    row.opt_plain(match phase {
        Phase::Finished(begun) => Some(begun),
        Phase::Whole | Phase::Begun | Phase::Detail(_) => None,
    });
    let follow_up = *trigger == Some(Trigger::FollowUp);
    row.opt_plain(follows.filter(|_| !follow_up));
    row.opt_plain(follows.filter(|_| follow_up));
    row.list(Some(patient_ids));
    row.plain(policy_seq);
    row.opt_text(purpose.as_deref());
    row.plain(emergency);
    row.opt_plain(*grant);
    row.opt_plain(call.success());
    completion_cells(row, call, completion.as_ref());
    row.json(session_metadata.as_ref());
    row.plain(backfilled);
    row.plain(late_answer);
    row.json(treated.as_ref());
    row.list(Some(restated));
    let (id, number) = sender.as_ref().map(|Sender { id, number }| (id.as_str(), number)).unzip();
    row.opt_text(id);
    row.opt_plain(number);
    row.opt_text(given.as_deref());
    row.opt_plain(call.detail_of());
    circumstances_cells(row, circumstances.as_deref());
}

/// The cells from `trace_id` to `contradicts`. What is not one value is canonical JSON text, as in the line.
fn circumstances_cells(row: &mut Row, around: Option<&Circumstances>) {
    let Some(around) = around else { return row.empty_before("detail") };
    let Circumstances {
        trace_id,
        span_id,
        prompt_id,
        parent_agent_id,
        parent_call_id,
        sources,
        approval,
        digests,
        peer,
        resources,
        contradicts,
        // The cell `duration_ms` has it.
        duration_ms: _,
    } = around;
    let text = |text: &Option<String>| text.as_deref().map(Json::from);
    for id in [trace_id, span_id, prompt_id, parent_agent_id, parent_call_id] {
        row.opt_text(id.as_deref());
    }
    row.objects(sources.iter().map(|Source { kind, program, version, added }| {
        let added = (!added.is_empty()).then(|| added.clone().into());
        let kind = Some(kind.as_str().into());
        [("source", kind), ("program", text(program)), ("version", text(version)), ("added", added)]
    }));
    match approval {
        Some(Approval { decision, by, source, asked_at, answered_at }) => {
            row.text(Decision::as_str(*decision));
            row.opt_text(by.as_deref());
            row.opt_text(source.as_deref());
            row.opt_plain(*asked_at);
            row.opt_plain(*answered_at);
        }
        None => row.empty_before("digests"),
    }
    let named = digests.named().map(|(name, digest)| (name, digest.map(|digest| format!("{SHA256}{digest}").into())));
    row.object(named);
    match peer {
        Some(Peer { uid, gid, pid, started, program }) => row.object([
            ("uid", Some((*uid).into())),
            ("gid", Some((*gid).into())),
            ("pid", Some((*pid).into())),
            ("started", started.map(|at| at.to_string().into())),
            ("program", text(program)),
        ]),
        None => row.next(),
    }
    row.objects(
        resources.iter().map(|Resource { name, kind }| {
            [("kind", Some(kind.as_str().into())), ("name", Some(name.as_str().into()))]
        }),
    );
    row.list(Some(contradicts));
}

/// The cells from `outcome` to `result_summary`.
fn completion_cells(row: &mut Row, call: &Call, completion: Option<&Completion>) {
    let Some(Completion { duration_ms: _, outcome, result_summary, error }) = completion else {
        row.empty_before("duration_ms");
        row.opt_plain(call.duration_ms().map(duration));
        return row.empty_before("session_metadata");
    };
    row.text(outcome.as_str());
    row.opt_plain(call.duration_ms().map(duration));
    let (kind, message) = error.as_ref().map(|CallError { kind, message }| (kind.as_deref(), message.as_str())).unzip();
    row.opt_text(kind.flatten());
    row.opt_text(message);
    row.json(result_summary.as_ref());
}

/// The number as in the entry's line.
fn duration(ms: f64) -> String {
    Number::from_f64(ms).map(|ms| Json::Number(ms).to_canonical().to_string()).unwrap_or_default()
}

/// A row under construction.
#[derive(Debug, Default)]
pub(super) struct Row {
    text: String,
    cells: usize,
}

impl Row {
    fn next(&mut self) {
        if self.cells > 0 {
            self.text.push(',');
        }
        self.cells += 1;
    }

    /// Adds a cell whose text may come from outside.
    pub(super) fn text(&mut self, value: &str) {
        self.next();
        write_cell(value, &mut self.text);
    }

    /// Adds a text cell, empty for `None`.
    pub(super) fn opt_text(&mut self, value: Option<&str>) {
        self.text(value.unwrap_or_default());
    }

    /// Adds a cell of only digits, letters, `:`, `.`, and `-` between them: a number, a time, a hash.
    pub(super) fn plain(&mut self, value: impl std::fmt::Display) {
        use std::fmt::Write;
        self.next();
        let _ = write!(self.text, "{value}");
    }

    /// Adds such a cell, empty for `None`.
    pub(super) fn opt_plain(&mut self, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.plain(value),
            None => self.next(),
        }
    }

    /// Adds empty cells up to this column of [`COLUMNS`].
    fn empty_before(&mut self, column: &str) {
        while COLUMNS.get(self.cells).is_some_and(|next| *next != column) {
            self.next();
        }
    }

    fn json(&mut self, value: Option<&Canonical>) {
        self.text(value.map_or("", Canonical::as_str));
    }

    /// Adds a list as a JSON array, because an id may contain any separator; empty for an empty list.
    pub(super) fn list(&mut self, values: Option<&Vec<String>>) {
        match values.filter(|v| !v.is_empty()) {
            Some(values) => self.text(Json::from(values.clone()).to_canonical().as_str()),
            None => self.next(),
        }
    }

    /// Adds an object as canonical JSON; empty for one without members.
    fn object<const N: usize>(&mut self, members: [(&str, Option<Json>); N]) {
        match present(members) {
            object if object.is_empty() => self.next(),
            object => self.text(Json::from(object).to_canonical().as_str()),
        }
    }

    /// Adds a list of objects as canonical JSON; empty for an empty list.
    fn objects<const N: usize>(&mut self, all: impl Iterator<Item = [(&'static str, Option<Json>); N]>) {
        let all: Vec<Json> = all.map(|members| present(members).into()).collect();
        match all.is_empty() {
            true => self.next(),
            false => self.text(Json::from(all).to_canonical().as_str()),
        }
    }

    /// Ends the row, writes it, and starts the next.
    pub(super) fn end(&mut self, out: &mut impl Write) -> Result<()> {
        self.text.push_str("\r\n");
        out.write_all(self.text.as_bytes())?;
        self.text.clear();
        self.cells = 0;
        Ok(())
    }
}

fn present<const N: usize>(members: [(&str, Option<Json>); N]) -> Object {
    members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn write_cell(value: &str, out: &mut String) {
    let guarded = guard(value);
    let needs_quotes = guarded.starts_with(' ')
        || guarded.ends_with(' ')
        || guarded.contains(|c: char| matches!(c, ',' | '"' | ';') || c.is_control());
    if !needs_quotes {
        out.push_str(&guarded);
        return;
    }
    out.push('"');
    for c in guarded.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, failed, own};
    use super::guard::calculates;
    use super::*;
    use attestlog::{Kind, Outcome};
    use proptest::prelude::*;

    /// A minimal reader of RFC 4180, to check the writer.
    fn read(text: &str, separator: char) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
        let mut quoted = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    cell.push('"');
                }
                '"' if quoted => quoted = false,
                '"' if cell.is_empty() => quoted = true,
                c if quoted => cell.push(c),
                c if c == separator => row.push(std::mem::take(&mut cell)),
                '\r' if chars.peek() == Some(&'\n') => {}
                '\n' => {
                    row.push(std::mem::take(&mut cell));
                    rows.push(std::mem::take(&mut row));
                }
                c => cell.push(c),
            }
        }
        rows
    }

    fn export(entries: &[Entry]) -> Vec<Vec<String>> {
        let mut csv = CsvWriter::new(Vec::new()).unwrap();
        for entry in entries {
            csv.write(entry).unwrap();
        }
        read(&String::from_utf8(csv.finish().unwrap()).unwrap(), ',')
    }

    #[test]
    fn every_member_of_the_line_has_its_column() {
        let mut entry = call(7, |c| {
            c.trigger = Some(Trigger::Retry);
            c.follows = Some(3);
            c.patient_ids = vec!["P-1".to_owned(), "P,2".to_owned()];
            c.sender = Some(attestlog::Sender::new("s", 4));
            c.given = Some("0123456789abcdef".to_owned());
            c.restated = vec!["arguments.x".to_owned()];
            c.emergency = true;
            c.grant = Some(2);
        });
        for trigger in [Trigger::Retry, Trigger::FollowUp] {
            if let Content::Call(c) = &mut entry.body.content {
                c.trigger = Some(trigger);
            }
            let rows = export(std::slice::from_ref(&entry));
            let cell = |name: &str| {
                let at = COLUMNS.iter().position(|c| *c == name).unwrap_or_else(|| panic!("no column {name}"));
                unguard(&rows[1][at])
            };
            let line = Json::parse(entry.line().as_bytes()).unwrap().value;
            for (name, value) in line.as_object().unwrap().iter() {
                let shown = |v: &Json| v.as_str().map_or_else(|| v.to_canonical().to_string(), str::to_owned);
                match name {
                    "error" | "sender" => {
                        for (inner, value) in value.as_object().unwrap().iter() {
                            assert_eq!(cell(&format!("{name}_{inner}")), shown(value));
                        }
                    }
                    _ => assert_eq!(cell(name), shown(value), "{name}"),
                }
            }
            assert_eq!(cell("hash"), entry.hash().to_string());
        }
    }

    #[test]
    fn own_entries_are_rows_with_kind_and_detail() {
        let rows = export(&[own(3, Kind::Policy, r#"{"a":"=1"}"#)]);
        assert_eq!(rows[1].len(), COLUMNS.len());
        assert_eq!((&*rows[1][0], &*rows[1][1]), ("3", "policy"));
        assert!(rows[1].contains(&r#"{"a":"=1"}"#.to_owned()));
    }

    #[test]
    fn a_failed_call_says_so() {
        let mut denied = failed(1, Outcome::Denied);
        let Content::Call(call) = &mut denied.body.content else { unreachable!() };
        call.completion.as_mut().unwrap().error.as_mut().unwrap().message = "-1+1|calc\r\n=2".to_owned();
        let rows = export(&[denied]);
        assert!(rows[1].contains(&"denied".to_owned()));
        assert!(rows[1].contains(&"'-1+1|calc\\u{d}\n'=2".to_owned()), "{rows:?}");
    }

    proptest! {
        #[test]
        fn no_cell_calculates_under_any_separator(cell in "([=+@;'\t\r\n \"-]|[a-c]|,){0,12}") {
            let mut row = Row::default();
            row.text(&cell);
            row.text("end");
            let mut out = Vec::new();
            row.end(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let rows = read(&text, ',');
            prop_assert_eq!(rows.len(), 1);
            prop_assert_eq!(unguard(&rows[0][0]), cell);
            prop_assert!(!calculates(&rows[0][0]), "{:?}", rows);
            for piece in rows[0][0].split([';', '\t', '\r', '\n']) {
                prop_assert!(!calculates(piece), "{piece:?}");
            }
        }
    }
}
