//! What an import counts and says: for one file, or for all.

use crate::context::Context;
use crate::render::{clean, count, counted};
use attestlog::json::{Json, Object};
use attestlog_capture::import::{self, Format, NotTaken, Recorded, Totals};

/// How many of the items that were not taken from a file are listed one by one; JSON lists all.
const NAMED: usize = 10;

/// The totals for one file, or for all.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) totals: Totals,
    pub(super) recorded: usize,
    pub(super) answers: usize,
    pub(super) already_there: usize,
    /// What was told of calls that the log has from somebody else.
    pub(super) details: usize,
    /// Examples of those already there.
    pub(super) seqs: Vec<u64>,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    /// The format of all files so far.
    pub(super) format: Option<Format>,
    pub(super) by_order: usize,
    pub(super) by_beginning: usize,
    pub(super) unmatched: usize,
    /// With the file's name.
    pub(super) not_taken: Vec<(String, &'static str, String, String)>,
}

impl Sum {
    /// Notes the format of one more file. Files of several formats have none in common.
    pub(super) fn of_format(&mut self, format: Format) {
        self.format = match self.format {
            None => Some(format),
            Some(same) if same == format => Some(same),
            Some(_) => Some(Format::Auto),
        };
    }

    pub(super) fn add(&mut self, file: &str, recorded: &Recorded, not_taken: &[NotTaken]) {
        self.recorded += recorded.receipts.len();
        self.answers += recorded.answers.len();
        self.already_there += recorded.repeated;
        self.details += recorded.details.len();
        self.by_beginning += recorded.by_beginning;
        let room = NAMED.saturating_sub(self.seqs.len());
        self.seqs.extend(recorded.already_there.iter().take(room));
        self.first = self.first.or(recorded.receipts.first().map(|r| r.seq));
        self.last = recorded.receipts.last().map(|r| r.seq).or(self.last);
        self.unmatched += not_taken.iter().filter(|one| one.kind == import::Untaken::Answer).count();
        let named = |one: &NotTaken| (file.to_owned(), one.kind.as_str(), one.place.clone(), one.why.clone());
        self.not_taken.extend(not_taken.iter().map(named));
    }

    pub(super) fn json(&self, files: usize) -> Object {
        let number = |n: usize| Json::from(n as u64);
        let tally = self.totals.tally();
        let named = |(file, kind, place, why): &(String, &str, String, String)| {
            Json::from(Object::from_iter([("file", file.as_str()), ("kind", kind), ("place", place), ("why", why)]))
        };
        Object::from_iter([
            ("files", number(files)),
            ("calls", number(tally.calls)),
            ("recorded", number(self.recorded)),
            ("already_there", number(self.already_there)),
            ("already_there_seqs", Json::from(self.seqs.clone())),
            ("details", number(self.details)),
            ("late_answers", number(self.answers)),
            ("conversations", number(tally.conversations + tally.without_calls)),
            ("without_calls", number(tally.without_calls)),
            ("users", number(tally.users)),
            ("tools", number(tally.tools)),
            ("failures", number(tally.failures)),
            ("abandoned", number(tally.abandoned)),
            ("joined_by_order", number(self.by_order)),
            ("known_by_beginning", number(self.by_beginning)),
            ("unmatched", number(self.unmatched)),
            ("not_taken", Json::Array(self.not_taken.iter().map(named).collect())),
            ("first_seq", Json::from(self.first)),
            ("last_seq", Json::from(self.last)),
            ("format", Json::from(self.format.unwrap_or(Format::Auto).as_str())),
        ])
    }

    /// The end of the summary if recording ended early: how far the file was recorded.
    pub(super) fn stopped(&self) -> String {
        let recorded = counted(self.recorded as u64, "new call was", "new calls were");
        let last = self.last.map_or(String::new(), |seq| format!(" (to seq {seq})"));
        format!("; {recorded} recorded{last} before that ended early")
    }

    /// The summary of a file, for people.
    pub(super) fn line(&self, file: &str, failed: bool) -> String {
        let tally = self.totals.tally();
        let figure = |n: usize, one, many| counted(n as u64, one, many);
        let without = match tally.without_calls {
            0 => String::new(),
            n => format!(" ({} without a call)", count(n as u64)),
        };
        let mut line = format!(
            "{}: {} in {}{without} by {} with {}, {}",
            clean(file),
            figure(tally.calls, "call", "calls"),
            figure(tally.conversations + tally.without_calls, "conversation", "conversations"),
            figure(tally.users, "user", "users"),
            figure(tally.tools, "tool", "tools"),
            figure(tally.failures, "failure", "failures"),
        );
        if tally.abandoned > 0 {
            line += &format!(", {} never answered", count(tally.abandoned as u64));
        }
        if !failed && self.recorded != tally.calls {
            line += &format!("; {} recorded", figure(self.recorded, "new call was", "new calls were"));
        }
        if self.already_there > 0 {
            let seqs: Vec<String> = self.seqs.iter().map(u64::to_string).collect();
            let more = if self.already_there > seqs.len() { ", …" } else { "" };
            line += &format!(
                "; {} in the log already (seq {}{more}), not recorded again",
                figure(self.already_there, "call is", "calls are"),
                seqs.join(", ")
            );
        }
        if self.details > 0 {
            let calls = figure(self.details, "call", "calls");
            line += &format!("; details of {calls} that others recorded were added");
        }
        if self.answers > 0 {
            let recorded = if self.answers == 1 { "was" } else { "were" };
            line +=
                &format!("; {} to calls that had none {recorded} recorded", figure(self.answers, "answer", "answers"));
        }
        let of = |kind| self.not_taken.iter().filter(|(_, of, ..)| *of == kind).count();
        let kinds = [("call", "calls"), ("answer", "answers"), ("line", "lines")];
        let left: Vec<String> =
            kinds.iter().filter(|(one, _)| of(*one) > 0).map(|(one, many)| figure(of(*one), one, many)).collect();
        if !left.is_empty() {
            line += &format!("; NOT recorded: {}", left.join(", "));
        }
        if of("arguments") > 0 {
            line += &format!(
                "; {} nearly JSON, and kept as a text",
                figure(of("arguments"), "call's arguments are", "calls' arguments are")
            );
        }
        line
    }

    pub(super) fn complain(&self, cx: &Context, file: &str, format: Format, hint: Option<&str>) {
        if self.by_order > 0 {
            let answers = counted(self.by_order as u64, "answer has", "answers have");
            cx.complain(format!("{file}: {answers} no id of a call, and went to calls without ids by name and order"));
        }
        for (_, kind, place, why) in self.not_taken.iter().take(NAMED) {
            let end = if *kind == "arguments" { "" } else { "; it was not recorded" };
            cx.complain(format!("{file}: {place}: {why}{end}"));
        }
        if self.by_beginning > 0 {
            self.complain_of_beginning(cx, file, format);
        }
        if self.not_taken.len() > NAMED {
            let more = counted((self.not_taken.len() - NAMED) as u64, "more was", "more were");
            cx.complain(format!("{file}: {more} not recorded; --json names all"));
        }
        if let Some(what) = hint {
            cx.complain(format!("{file}: looks like {what}"));
        }
    }

    /// Says what the calls are recognised by that nothing in the file identifies.
    fn complain_of_beginning(&self, cx: &Context, file: &str, format: Format) {
        let n = self.by_beginning as u64;
        let they = if n == 1 { "it" } else { "they" };
        if format == Format::Jsonl {
            let correct = match self.not_taken.is_empty() {
                true => "",
                false => ". Put the lines that you correct into a file of their own",
            };
            return cx.complain(format!(
                "{file}: {} neither call_id nor timestamp, so all lines before tell whether {they} {} in the log already; if one of \
                 these lines is changed, {they} would be recorded again{correct}",
                counted(n, "call has", "calls have"),
                if n == 1 { "is" } else { "are" }
            ));
        }
        let (calls, them) = match n {
            1 => ("the session of 1 call has".to_owned(), "it is"),
            n => (format!("the session of {} calls has", count(n)), "they are"),
        };
        cx.complain(format!(
            "{file}: {calls} no id, so {them} recognised by the messages before; from a file without these messages {they} would be \
             recorded again. Only an id in the file (`conversation_id` or `id`) changes that; --conversation does not"
        ));
    }
}
