//! Encodes calls on the caller's thread, except for the parts that only the writer knows.
//!
//! A few parts of an entry's line and stored form depend on its position in the chain; the rest is known earlier. So the rest
//! is encoded on the caller's thread, and the writer fills in the missing parts. A batch keeps the text of all its calls
//! together: a thousand calls take a handful of allocations, made by one thread and freed by another.

use crate::line::{self, ChainSlot, SLOT_FIELDS};
use crate::store::engine::mem_index::Indexed;
use crate::store::engine::subject_keys::NewSubject;
use crate::store::layout::stored_entry::{Head, append_content};
use crate::store::layout::tail_row::{TailEntry, TailRows};
use crate::{Error, ErrorKind, Hash, Result, Timestamp, codec};
use attestlog_proof::entry::{Body, Call, Content, Facet, Kind, Outcome, Phase, Retention, Sender};

/// A call that lacks only what the writer assigns: position, time, retention.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub call: Box<Call>,
    /// The caller's time; if `None`, the writer's clock is used.
    pub timestamp: Option<Timestamp>,
    pub retention_class: Option<String>,
    pub retain_until: Option<Timestamp>,
    /// The key that seals values of the call, if it is not on the disk yet.
    pub subject: Option<NewSubject>,
    /// Whether its sender's number is that of the whole batch that it begins.
    pub numbers_batch: bool,
}

/// What callers put in the queue: calls that are recorded together or not at all.
#[derive(Debug, Default)]
pub(crate) struct EncodedBatch {
    pub calls: Vec<EncodedCall>,
    /// Whether an error that is one call's fault names the call by its index.
    named: bool,
    /// For each call, the text of its line without the slot fields, then its stored content.
    text: Vec<u8>,
    /// The values of all facets of all calls, concatenated.
    names: String,
    /// Each facet, and where its value ends in `names`.
    facets: Vec<(Facet, usize)>,
}

/// One call of a batch.
#[derive(Debug)]
pub(crate) struct EncodedCall {
    pub phase: Phase,
    pub follows: Option<u64>,
    pub late_answer: bool,
    /// Whether the caller said when the call was made.
    pub timed: bool,
    pub grant: Option<u64>,
    pub sender: Option<Sender>,
    pub retention_class: Option<String>,
    pub retain_until: Option<Timestamp>,
    /// The key that seals values of the call, if it is not on the disk yet.
    pub subject: Option<NewSubject>,
    /// Whether its sender's number is that of the whole batch that it begins.
    pub numbers_batch: bool,
    pub has_patient: bool,
    timestamp: Timestamp,
    counted: Option<(bool, Option<u64>)>,
    slot_fields: [usize; SLOT_FIELDS],
    /// Where its line and its stored content end in the batch's text.
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

impl EncodedBatch {
    /// An empty batch. `named`: whether errors name the call by its index.
    pub(crate) fn new(named: bool) -> EncodedBatch {
        EncodedBatch { named, ..EncodedBatch::default() }
    }

    /// Encodes a batch. Calls without a time of their own get `now`.
    pub(crate) fn of(calls: Vec<Prepared>, now: Timestamp) -> Result<EncodedBatch> {
        let mut batch = EncodedBatch::default();
        calls.into_iter().try_for_each(|prepared| batch.push(prepared, now))?;
        Ok(batch)
    }

    /// Adds a call.
    pub(crate) fn push(&mut self, prepared: Prepared, now: Timestamp) -> Result<()> {
        let Prepared { mut call, timestamp, retention_class, retain_until, subject, numbers_batch } = prepared;
        call.timestamp = timestamp.unwrap_or(now);
        let (phase, follows, grant, sender) = (call.phase, call.follows, call.grant, call.sender.clone());
        let (late_answer, timed) = (call.late_answer, timestamp.is_some());
        let (timestamp, has_patient, counted) = (call.timestamp, !call.patient_ids.is_empty(), counted(&call));
        let content = Content::Call(call);
        let slot_fields = line::write_around(&mut self.text, &content);
        let line_end = self.text.len();
        append_content(&content, &mut self.text)?;
        content.facets(&mut |field, value| {
            self.names.push_str(value);
            self.facets.push((field, self.names.len()));
        });
        self.calls.push(EncodedCall {
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
            slot_fields,
            line_end,
            end: self.text.len(),
            facets_end: self.facets.len(),
        });
        Ok(())
    }

    /// The error with the index of the call whose fault it is, if errors name calls. An error that is no call's fault, such as
    /// a full disk, names none.
    pub(crate) fn blame(&self, at: usize, e: Error) -> Error {
        let kinds = [ErrorKind::InvalidInput, ErrorKind::TooLarge, ErrorKind::Conflict, ErrorKind::NoSuchEntry];
        if self.named && kinds.contains(&e.kind()) { e.in_call(at) } else { e }
    }

    /// The call before the one at `at`.
    fn before(&self, at: usize) -> Option<&EncodedCall> {
        self.calls.get(at.checked_sub(1)?)
    }

    /// Appends the line of a call at this position in the chain.
    pub(crate) fn line(&self, at: usize, slot: &ChainSlot<'_>, out: &mut Vec<u8>) {
        let encoded = &self.calls[at];
        let start = self.before(at).map_or(0, |before| before.end);
        line::fill(out, &self.text[..encoded.line_end], start, &encoded.slot_fields, slot);
    }

    /// The stored content of a call.
    pub(crate) fn content(&self, at: usize) -> &[u8] {
        &self.text[self.calls[at].line_end..self.calls[at].end]
    }

    /// The facets of a call with their values, without its retention class.
    fn facets(&self, at: usize) -> impl Iterator<Item = (Facet, &str)> {
        let from = self.before(at).map_or(0, |before| before.facets_end);
        let mut start = from.checked_sub(1).map_or(0, |last| self.facets[last].1);
        self.facets[from..self.calls[at].facets_end].iter().map(move |&(field, end)| {
            let value = &self.names[std::mem::replace(&mut start, end)..end];
            (field, value)
        })
    }

    /// The tool of a call.
    pub(crate) fn tool(&self, at: usize) -> &str {
        self.facets(at).find(|(field, _)| *field == Facet::Tool).map_or("", |(_, name)| name)
    }

    /// The conversation, the user and the tool of a call.
    pub(crate) fn names(&self, at: usize) -> [Option<&str>; 3] {
        let wanted = [Facet::Conversation, Facet::User, Facet::Tool];
        wanted.map(|field| self.facets(at).find(|(of, _)| *of == field).map(|(_, name)| name))
    }
}

/// Entries to be written by one commit, in chain order.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    all: Vec<StagedEntry>,
    /// The stored forms of all entries, concatenated.
    bytes: Vec<u8>,
    /// Few distinct values: nearly all entries of a commit share them.
    retentions: Vec<Retention>,
    batches: Vec<EncodedBatch>,
}

#[derive(Debug)]
struct StagedEntry {
    prev: Hash,
    hash: Hash,
    /// Where its stored form ends.
    end: usize,
    retention: Option<usize>,
    said: StagedContent,
}

#[derive(Debug, Clone, Copy)]
enum StagedContent {
    Own(Kind, Timestamp),
    /// A call: index of its batch, and index in the batch.
    Call(usize, usize),
}

/// The content of an entry, before the entry has a position.
pub(crate) enum EntryContent<'a> {
    /// A system event, with the time of the commit.
    Own(Kind, Timestamp, &'a Content),
    Call(&'a EncodedBatch, usize),
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

    /// The stored content of the call at this index; `own` is the batch that was not handed over yet.
    pub(crate) fn content<'j>(&'j self, at: usize, own: &'j EncodedBatch) -> Option<&'j [u8]> {
        match self.all.get(at)?.said {
            StagedContent::Own(..) => None,
            StagedContent::Call(batch, at) => Some(self.batches.get(batch).unwrap_or(own).content(at)),
        }
    }

    /// The retention of the entry at this index.
    pub(crate) fn retention(&self, at: usize) -> Option<&Retention> {
        self.retentions.get(self.all.get(at)?.retention?)
    }

    /// Adds an entry. When all calls of a batch were added, the batch is handed over with [`Entries::took`].
    pub(crate) fn push(
        &mut self,
        slot: &ChainSlot<'_>,
        hash: Hash,
        what: &EntryContent<'_>,
        content: &[u8],
    ) -> Result<()> {
        codec::encode_into(&Head::of(slot), &mut self.bytes)?;
        self.bytes.extend_from_slice(content);
        let said = match what {
            EntryContent::Own(kind, now, _) => StagedContent::Own(*kind, *now),
            EntryContent::Call(_, at) => StagedContent::Call(self.batches.len(), *at),
        };
        let retention = slot.retention.map(|retention| self.keep(retention));
        self.all.push(StagedEntry { prev: *slot.prev, hash, end: self.bytes.len(), retention, said });
        Ok(())
    }

    /// The index of this retention, which is added if it is not among the newest ones.
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

    /// Takes over a batch whose calls were all added.
    pub(crate) fn took(&mut self, batch: EncodedBatch) {
        self.batches.push(batch);
    }

    /// Drops all but the first `entries`.
    pub(crate) fn truncate(&mut self, entries: usize) {
        self.all.truncate(entries);
        self.bytes.truncate(self.all.last().map_or(0, |last| last.end));
    }

    /// The rows of the tail for the entries, of which the first has this seq; `segment` is how many entries a segment has.
    pub(crate) fn rows(&self, first: u64, segment: u64) -> Vec<(u64, Vec<u8>)> {
        let mut rows = TailRows::default();
        let mut start = 0;
        for (seq, staged) in (first..).zip(&self.all) {
            let body = &self.bytes[std::mem::replace(&mut start, staged.end)..staged.end];
            rows.add(seq, &TailEntry { prev: staged.prev, hash: staged.hash, body }, segment);
        }
        rows.finish()
    }

    /// The entries in the form that the index takes.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = impl Indexed + '_> {
        self.all.iter().map(|staged| IndexedEntry { entries: self, staged })
    }
}

struct IndexedEntry<'a> {
    entries: &'a Entries,
    staged: &'a StagedEntry,
}

impl IndexedEntry<'_> {
    fn encoded(&self) -> Option<(&EncodedBatch, usize)> {
        match self.staged.said {
            StagedContent::Own(..) => None,
            StagedContent::Call(batch, at) => Some((&self.entries.batches[batch], at)),
        }
    }
}

impl Indexed for IndexedEntry<'_> {
    fn timestamp(&self) -> Timestamp {
        match self.staged.said {
            StagedContent::Own(_, now) => now,
            StagedContent::Call(batch, at) => self.entries.batches[batch].calls[at].timestamp,
        }
    }

    fn retention(&self) -> Option<&Retention> {
        self.staged.retention.map(|at| &self.entries.retentions[at])
    }

    fn counted(&self) -> Option<(bool, Option<u64>)> {
        self.encoded().and_then(|(batch, at)| batch.calls[at].counted)
    }

    fn facets(&self, found: &mut impl FnMut(Facet, &str)) {
        if let Some(retention) = self.retention() {
            found(Facet::Class, &retention.class);
        }
        match (self.staged.said, self.encoded()) {
            (StagedContent::Own(kind, _), _) => found(Facet::Kind, kind.as_str()),
            (_, Some((batch, at))) => batch.facets(at).for_each(|(field, value)| found(field, value)),
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
            Content::System(_) => None,
        }
    }

    fn facets(&self, found: &mut impl FnMut(Facet, &str)) {
        Body::facets(self, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::stored_entry::encode_body;
    use crate::store::log::OpenStore;
    use crate::{Entry, ToolCall, json::Json};

    /// An entry encoded in two parts on two threads must equal one encoded as a whole.
    #[test]
    fn a_draft_in_its_place_is_the_entry() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let arguments = Json::parse(br#"{"order_id":"o-1","patient_id":"P-1"}"#)?.value;
        let calls = [
            ToolCall::new("c", "u", "t"),
            ToolCall::new("conv_\u{e9}\"", "u", "t").arguments(arguments).result("active").model("m").follow_up_of(1),
            ToolCall::new("c", "u", "other").error("no").patient("P-2").patient("P-3").emergency(Some(0)).role("nurse"),
        ];
        let now = Timestamp::from_nanos(1_751_811_781_000_000_000);
        let prepare = |call: &ToolCall| log.engine().prepare(call.clone(), Phase::Whole);
        let batch = EncodedBatch::of(calls.iter().map(prepare).collect::<Result<_>>()?, now)?;
        let kept = Retention { class: "general".to_owned(), until: now };
        for (at, call) in calls.iter().enumerate() {
            let mut call = prepare(call)?.call;
            call.timestamp = now;
            let (tool, content) = (call.tool_name.clone(), Content::Call(call));
            let body = Body { nonce: [7; 16], recorded_at: now, retention: Some(kept.clone()), content };
            let (seq, prev) = (41, Hash::of(b"before"));
            let slot = ChainSlot { seq, prev: &prev, nonce: body.nonce, recorded_at: now, retention: Some(&kept) };
            let (mut line, mut stored) = (Vec::new(), Vec::new());
            batch.line(at, &slot, &mut line);
            codec::encode_into(&Head::of(&slot), &mut stored)?;
            stored.extend_from_slice(batch.content(at));
            assert_eq!(stored, encode_body(&body)?);
            let mut facets = vec![(Facet::Class, "general")];
            facets.extend(batch.facets(at));
            let mut expected = Vec::new();
            body.facets(&mut |field, value| expected.push((field, value)));
            assert_eq!(facets, expected);
            assert_eq!(batch.tool(at), tool);
            assert_eq!(String::from_utf8_lossy(&line), Entry { seq, prev, body: body.clone() }.line());
        }
        Ok(())
    }
}
