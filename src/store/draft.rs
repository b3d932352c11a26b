//! Drafts: calls of which everything is written but what only the writer knows.
//!
//! An entry's line and its stored form hold a few things that follow from its place in the chain; all the rest is known
//! before. So it is written on the caller's thread, and the writer puts the few things in. A job keeps the texts of all its
//! calls together: a thousand calls are a handful of allocations, made by one thread and given back by another.

use super::part;
use super::pending::Indexed;
use super::prepare::Prepared;
use super::subjects::NewSubject;
use crate::line::{self, GAPS, Place};
use crate::{Hash, Result, Timestamp, codec};
use attestlog_proof::entry::{Body, Call, Content, Field, Kind, Outcome, Phase, Retention, Sender};

/// What callers queue up with: calls that are recorded together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub calls: Vec<Draft>,
    /// Of each call the text of its line without the gaps, then its stored content.
    text: Vec<u8>,
    /// The values of all facets of all calls.
    names: String,
    /// Which facet, and where its value ends in `names`.
    facets: Vec<(Field, usize)>,
}

/// One call of a job.
#[derive(Debug)]
pub(crate) struct Draft {
    pub phase: Phase,
    pub follows: Option<u64>,
    pub late_answer: bool,
    /// Its caller said when it was made.
    pub timed: bool,
    pub grant: Option<u64>,
    pub sender: Option<Sender>,
    pub retention_class: Option<String>,
    pub retain_until: Option<Timestamp>,
    /// The key that values of the call are sealed under, where the disk does not have it yet.
    pub subject: Option<NewSubject>,
    /// Its sender's number is that of the whole batch that it begins.
    pub numbers_batch: bool,
    pub has_patient: bool,
    timestamp: Timestamp,
    counted: Option<(bool, Option<u64>)>,
    gaps: [usize; GAPS],
    /// Where its line ends in the job's text, and its stored content.
    line_end: usize,
    end: usize,
    /// Where its facets end.
    facets_end: usize,
}

/// What statistics count of a call: whether it succeeded, and how long it took.
fn counted(call: &Call) -> Option<(bool, Option<u64>)> {
    let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
    call.is_counted().then(|| (success, call.duration_nanos()))
}

impl Job {
    /// A job of these calls. Those without a time happened `now`.
    pub(crate) fn of(calls: Vec<Prepared>, now: Timestamp) -> Result<Job> {
        let mut job = Job::default();
        calls.into_iter().try_for_each(|prepared| job.push(prepared, now))?;
        Ok(job)
    }

    /// Adds a call.
    pub(crate) fn push(&mut self, prepared: Prepared, now: Timestamp) -> Result<()> {
        let Prepared { mut call, timestamp, retention_class, retain_until, subject, numbers_batch } = prepared;
        call.timestamp = timestamp.unwrap_or(now);
        let (phase, follows, grant, sender) = (call.phase, call.follows, call.grant, call.sender.clone());
        let (late_answer, timed) = (call.late_answer, timestamp.is_some());
        let (timestamp, has_patient, counted) = (call.timestamp, !call.patient_ids.is_empty(), counted(&call));
        let content = Content::Call(call);
        let gaps = line::write_around(&mut self.text, &content);
        let line_end = self.text.len();
        codec::append(&content, &mut self.text)?;
        content.facets(&mut |field, value| {
            self.names.push_str(value);
            self.facets.push((field, self.names.len()));
        });
        self.calls.push(Draft {
            phase,
            follows,
            late_answer,
            timed,
            grant,
            sender,
            retention_class,
            retain_until,
            subject,
            numbers_batch,
            has_patient,
            timestamp,
            counted,
            gaps,
            line_end,
            end: self.text.len(),
            facets_end: self.facets.len(),
        });
        Ok(())
    }

    /// The draft before the one at `at`.
    fn before(&self, at: usize) -> Option<&Draft> {
        self.calls.get(at.checked_sub(1)?)
    }

    /// Appends the line of a call in this place.
    pub(crate) fn line(&self, at: usize, place: &Place<'_>, out: &mut Vec<u8>) {
        let draft = &self.calls[at];
        let start = self.before(at).map_or(0, |before| before.end);
        line::fill(out, &self.text[..draft.line_end], start, &draft.gaps, place);
    }

    /// The stored content of a call.
    pub(crate) fn content(&self, at: usize) -> &[u8] {
        &self.text[self.calls[at].line_end..self.calls[at].end]
    }

    /// The facets of a call with their values, without its retention class.
    fn facets(&self, at: usize) -> impl Iterator<Item = (Field, &str)> {
        let from = self.before(at).map_or(0, |before| before.facets_end);
        let mut start = from.checked_sub(1).map_or(0, |last| self.facets[last].1);
        self.facets[from..self.calls[at].facets_end].iter().map(move |&(field, end)| {
            let value = &self.names[std::mem::replace(&mut start, end)..end];
            (field, value)
        })
    }

    /// The tool that a call is of.
    pub(crate) fn tool(&self, at: usize) -> &str {
        self.facets(at).find(|(field, _)| *field == Field::Tool).map_or("", |(_, name)| name)
    }

    /// The conversation, the user and the tool of a call.
    pub(crate) fn names(&self, at: usize) -> [Option<&str>; 3] {
        let wanted = [Field::Conversation, Field::User, Field::Tool];
        wanted.map(|field| self.facets(at).find(|(of, _)| *of == field).map(|(_, name)| name))
    }
}

/// Entries on their way into one commit, in the order of the chain.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    all: Vec<Staged>,
    /// The stored forms of all of them.
    bytes: Vec<u8>,
    /// Nearly all entries of a commit have one of very few.
    retentions: Vec<Retention>,
    jobs: Vec<Job>,
}

#[derive(Debug)]
struct Staged {
    prev: Hash,
    hash: Hash,
    /// Where its stored form ends.
    end: usize,
    retention: Option<usize>,
    said: Said,
}

#[derive(Debug, Clone, Copy)]
enum Said {
    Own(Kind, Timestamp),
    /// The call at this place of this job.
    Call(usize, usize),
}

/// What an entry says, before it has its place.
pub(crate) enum What<'a> {
    /// One of the store's own, with the time of the commit.
    Own(Kind, Timestamp, &'a Content),
    Call(&'a Job, usize),
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn reserve(&mut self, entries: usize) {
        self.all.reserve(entries);
    }

    pub(crate) fn hash(&self, at: usize) -> Option<Hash> {
        self.all.get(at).map(|staged| staged.hash)
    }

    /// The stored content of the call at this place; `own` is the job that is not handed over yet.
    pub(crate) fn content<'j>(&'j self, at: usize, own: &'j Job) -> Option<&'j [u8]> {
        match self.all.get(at)?.said {
            Said::Own(..) => None,
            Said::Call(job, at) => Some(self.jobs.get(job).unwrap_or(own).content(at)),
        }
    }

    /// How long the entry at this place is kept.
    pub(crate) fn retention(&self, at: usize) -> Option<&Retention> {
        self.retentions.get(self.all.get(at)?.retention?)
    }

    /// Adds an entry. A job whose calls are added is handed over with [`Entries::took`] when it is complete.
    pub(crate) fn push(&mut self, place: &Place<'_>, hash: Hash, what: &What<'_>, content: &[u8]) -> Result<()> {
        codec::encode_into(&place.head(), &mut self.bytes)?;
        self.bytes.extend_from_slice(content);
        let said = match what {
            What::Own(kind, now, _) => Said::Own(*kind, *now),
            What::Call(_, at) => Said::Call(self.jobs.len(), *at),
        };
        let retention = place.retention.map(|retention| self.keep(retention));
        self.all.push(Staged { prev: *place.prev, hash, end: self.bytes.len(), retention, said });
        Ok(())
    }

    /// Where this retention stands among those of the commit.
    fn keep(&mut self, retention: &Retention) -> usize {
        const NEWEST: usize = 8;
        let from = self.retentions.len().saturating_sub(NEWEST);
        let known = self.retentions[from..].iter().position(|known| known == retention);
        known.map_or_else(
            || {
                self.retentions.push(retention.clone());
                self.retentions.len() - 1
            },
            |i| from + i,
        )
    }

    /// Keeps a job whose calls were all added.
    pub(crate) fn took(&mut self, job: Job) {
        self.jobs.push(job);
    }

    /// Takes out all but the first `entries`.
    pub(crate) fn truncate(&mut self, entries: usize) {
        self.all.truncate(entries);
        self.bytes.truncate(self.all.last().map_or(0, |last| last.end));
    }

    /// The rows of the tail of all but the first `skipped` entries.
    pub(crate) fn rows(&self, skipped: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut start = skipped.checked_sub(1).and_then(|last| self.all.get(last)).map_or(0, |last| last.end);
        self.all.iter().skip(skipped).map(move |staged| {
            let body = &self.bytes[std::mem::replace(&mut start, staged.end)..staged.end];
            part::row(&staged.prev, &staged.hash, body)
        })
    }

    /// The entries as the index takes them.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = impl Indexed + '_> {
        self.all.iter().map(|staged| View { entries: self, staged })
    }
}

struct View<'a> {
    entries: &'a Entries,
    staged: &'a Staged,
}

impl View<'_> {
    fn draft(&self) -> Option<(&Job, usize)> {
        match self.staged.said {
            Said::Own(..) => None,
            Said::Call(job, at) => Some((&self.entries.jobs[job], at)),
        }
    }
}

impl Indexed for View<'_> {
    fn timestamp(&self) -> Timestamp {
        match self.staged.said {
            Said::Own(_, now) => now,
            Said::Call(job, at) => self.entries.jobs[job].calls[at].timestamp,
        }
    }

    fn retention(&self) -> Option<&Retention> {
        self.staged.retention.map(|at| &self.entries.retentions[at])
    }

    fn counted(&self) -> Option<(bool, Option<u64>)> {
        self.draft().and_then(|(job, at)| job.calls[at].counted)
    }

    fn facets(&self, found: &mut impl FnMut(Field, &str)) {
        if let Some(retention) = self.retention() {
            found(Field::Class, &retention.class);
        }
        match (self.staged.said, self.draft()) {
            (Said::Own(kind, _), _) => found(Field::Kind, kind.as_str()),
            (_, Some((job, at))) => job.facets(at).for_each(|(field, value)| found(field, value)),
            _ => {}
        }
    }
}

impl Indexed for &Body {
    fn timestamp(&self) -> Timestamp {
        Body::timestamp(self)
    }

    fn retention(&self) -> Option<&Retention> {
        self.retention.as_ref()
    }

    fn counted(&self) -> Option<(bool, Option<u64>)> {
        match &self.content {
            Content::Call(call) => counted(call),
            Content::Own(_) => None,
        }
    }

    fn facets(&self, found: &mut impl FnMut(Field, &str)) {
        Body::facets(self, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuditLog, Entry, ToolCall, json::Json};

    /// What is written in two pieces on two threads must be what one thread would have written.
    #[test]
    fn a_draft_in_its_place_is_the_entry() -> Result<()> {
        let log = AuditLog::in_memory()?;
        let arguments = Json::parse(br#"{"order_id":"o-1","patient_id":"P-1"}"#)?.value;
        let calls = [
            ToolCall::new("c", "u", "t"),
            ToolCall::new("conv_\u{e9}\"", "u", "t").arguments(arguments).result("active").model("m").follow_up_of(1),
            ToolCall::new("c", "u", "other").error("no").patient("P-2").patient("P-3").emergency(Some(0)).role("nurse"),
        ];
        let now = Timestamp::from_nanos(1_751_811_781_000_000_000);
        let prepare = |call: &ToolCall| log.shared().prepare(call.clone(), Phase::Whole);
        let job = Job::of(calls.iter().map(prepare).collect::<Result<_>>()?, now)?;
        let kept = Retention { class: "general".to_owned(), until: now };
        for (at, call) in calls.iter().enumerate() {
            let mut call = prepare(call)?.call;
            call.timestamp = now;
            let (tool, content) = (call.tool_name.clone(), Content::Call(call));
            let body = Body { nonce: [7; 16], recorded_at: now, retention: Some(kept.clone()), content };
            let (seq, prev) = (41, Hash::of(b"before"));
            let place = Place { seq, prev: &prev, nonce: body.nonce, recorded_at: now, retention: Some(&kept) };
            let (mut line, mut stored) = (Vec::new(), Vec::new());
            job.line(at, &place, &mut line);
            codec::encode_into(&place.head(), &mut stored)?;
            stored.extend_from_slice(job.content(at));
            assert_eq!(stored, codec::encode(&body)?);
            let mut facets = vec![(Field::Class, "general")];
            facets.extend(job.facets(at));
            let mut expected = Vec::new();
            body.facets(&mut |field, value| expected.push((field, value)));
            assert_eq!(facets, expected);
            assert_eq!(job.tool(at), tool);
            assert_eq!(String::from_utf8_lossy(&line), Entry { seq, prev, body: body.clone() }.line());
        }
        Ok(())
    }
}
