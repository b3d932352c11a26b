//! Records imported calls in a log, each call once.
//!
//! Invariant H7: importing a file again, unchanged or grown, by any process, records what is new in it and nothing
//! else. The log recognises calls by their identities (see `identity`), including calls that were purged. A call that
//! was recorded as unanswered and has an answer now is not recorded again: a follow-up entry adds the answer. Invariant
//! R40: an answer that differs from the one in the log is reported, and so is everything else that is not recorded.

use super::identity::{self, Identities, Identity, Source};
use super::{Imported, NotTaken, Untaken};
use attestlog::json::{Json, Object};
use attestlog::{AuditLog, Error, ErrorKind, Outcome, Receipt, Result, ToolCall};
use attestlog::{CapturedBy, NOWHERE};
use std::collections::HashSet;

/// The most calls in one commit. A file with no more calls than this is recorded completely or not at all.
const BATCH: usize = 10_000;

/// A log that calls can be imported into.
pub trait Log {
    /// Records calls in one commit.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`].
    fn put(&self, calls: Vec<ToolCall>) -> Result<Vec<Receipt>>;
    /// The number of entries in the log.
    ///
    /// # Errors
    /// As [`AuditLog::entry`].
    fn entries(&self) -> Result<u64>;
    /// Returns those of `seqs` at which a call is recorded that was never answered.
    ///
    /// # Errors
    /// As [`AuditLog::entry`].
    fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>>;
}

impl Log for AuditLog {
    fn put(&self, calls: Vec<ToolCall>) -> Result<Vec<Receipt>> {
        self.record_batch(calls)
    }

    fn entries(&self) -> Result<u64> {
        Ok(self.size())
    }

    fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>> {
        AuditLog::unanswered(self, seqs)
    }
}

impl Log for attestlog::owner::SharedStore {
    fn put(&self, calls: Vec<ToolCall>) -> Result<Vec<Receipt>> {
        self.record_batch(calls)
    }

    fn entries(&self) -> Result<u64> {
        self.look(&[]).map(|(entries, _)| entries)
    }

    fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>> {
        self.look(seqs).map(|(_, unanswered)| unanswered)
    }
}

/// The result of recording a file's calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recorded {
    /// The receipts of the new calls.
    pub receipts: Vec<Receipt>,
    /// The seqs of calls that were already in the log. The seq of a purged call may be missing.
    pub already_there: Vec<u64>,
    /// The number of calls that were already in the log.
    pub repeated: usize,
    /// The receipts of answers to calls that were recorded earlier without an answer.
    pub answers: Vec<Receipt>,
    /// Calls not recorded because the log has another call under their identity, and answers to calls that have another
    /// answer in the log. The caller must report them to the user.
    pub not_taken: Vec<NotTaken>,
    /// How many of the new calls are identified only by how their conversation begins. An import of a file that has
    /// lost that beginning would record them again.
    pub by_beginning: usize,
}

/// Records the calls of a file that are not yet in `log`. `again`: records all of them, including those in the log.
/// `progress` is called with the number of calls done.
///
/// # Errors
/// As [`AuditLog::record_batch`]; the message gives the call's place in the file, and how many calls were recorded
/// before it.
///
/// ```
/// use attestlog::AuditLog;
/// use attestlog_capture::import::{self, Format, ImportOptions};
/// let log = AuditLog::in_memory()?;
/// let file = br#"{"id":"conv_1","user_id":"usr_1","messages":[
///     {"role":"assistant","tool_calls":[{"id":"c1","function":{"name":"refund","arguments":"{}"}}]},
///     {"role":"tool","tool_call_id":"c1","content":"done"}]}"#;
/// for new in [1, 0] {
///     let imported = import::calls(Format::OpenAiChat, file, &ImportOptions::new())?;
///     assert_eq!(import::record(&log, imported, false, |_| ())?.receipts.len(), new);
/// }
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn record(log: &impl Log, imported: Imported, again: bool, mut progress: impl FnMut(usize)) -> Result<Recorded> {
    let mut recorded = Recorded::default();
    let floor = log.entries()?;
    let mut new = HashSet::new();
    let Imported { mut calls, places, sources, .. } = imported;
    calls.iter_mut().for_each(|call| call.captured_by = Some(CapturedBy::Import));
    for call in calls.iter_mut().filter(|call| call.timestamp.is_none() && call.backfilled) {
        // The store will use the time of the import.
        mark(call, "time_from", "import");
    }
    let mut all = Identities::default();
    let mut identities: Vec<Identity> = sources.iter().zip(&calls).map(|(source, call)| all.of(source, call)).collect();
    if !again {
        sooner(log, &sources, &calls, &mut identities)?;
    }
    let mut rest = calls.into_iter().zip(identities).enumerate().peekable();
    let mut done = 0;
    while rest.peek().is_some() {
        let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
        let calls = batch.iter().map(|(_, (call, identity))| match again {
            true => call.clone(),
            false => numbered(call, &identity.name),
        });
        let puts = put(log, calls.collect(), done).map_err(|e| at_place(e, &places, recorded.receipts.len()))?;
        done += batch.len();
        let mut known = Vec::new();
        for ((index, (call, identity)), put) in batch.into_iter().zip(puts) {
            let put = match put {
                Put::Other(why) if !again => settle(log, &call, &identity, why)
                    .map_err(|e| at_place(shifted(e, index), &places, recorded.receipts.len()))?,
                put => put,
            };
            let mut name = |kind, why| {
                let place = places.get(index).cloned().unwrap_or_default();
                recorded.not_taken.push(NotTaken { place, kind, call_id: call.call_id.clone(), why });
            };
            match put {
                Put::Other(there) => {
                    name(
                        Untaken::Call,
                        format!("another call of the same id and time is in the log already ({there})"),
                    );
                }
                Put::Changed(seq) => name(Untaken::Answer, changed(seq)),
                Put::At(receipt) if receipt.seq >= floor && new.insert(receipt.seq) => {
                    recorded.by_beginning +=
                        usize::from(!again && sources.get(index).is_some_and(|source| source.weak));
                    recorded.receipts.push(receipt);
                }
                put => {
                    let receipt = put.receipt();
                    recorded.repeated += 1;
                    recorded.already_there.extend(receipt.map(|r| r.seq));
                    if let Some(receipt) = receipt
                        && call.outcome != Some(Outcome::Abandoned)
                        && call.backfilled
                    {
                        known.push((index, receipt.seq, call, identity));
                    }
                }
            }
        }
        follow_up(log, known, floor, &places, &mut recorded)
            .map_err(|e| at_place(e, &places, recorded.receipts.len()))?;
        progress(done);
    }
    Ok(recorded)
}

/// The call with its identity as the sender, unless it has a sender of its own.
fn numbered(call: &ToolCall, name: &str) -> ToolCall {
    match call.sender {
        None => call.clone().sender(identity::call(name)),
        Some(_) => call.clone(),
    }
}

fn changed(seq: u64) -> String {
    format!("the log has another answer to this call, at seq {seq}")
}

/// Decides about a call whose identity the log has with other content: either the same call with another answer, or
/// another call.
fn settle(log: &impl Log, call: &ToolCall, identity: &Identity, why: String) -> Result<Put> {
    let mut bare = call.clone();
    (bare.result, bare.outcome, bare.duration_ms) = (None, Some(Outcome::Abandoned), None);
    bare.restated.clear();
    Ok(known(log, numbered(&bare, &identity.name))?.map_or(Put::Other(why), |receipt| Put::Changed(receipt.seq)))
}

/// The receipt of the call in the log that has the same sender and number and differs from `call` at most in its
/// answer; `None` if the log has another call there or none. Records nothing: a follow-up of a nonexistent entry is
/// refused unless its sender's number is already known.
fn known(log: &impl Log, call: ToolCall) -> Result<Option<Receipt>> {
    match log.put(vec![call.follow_up_of(NOWHERE)]) {
        Ok(receipts) => Ok(receipts.into_iter().next()),
        Err(e) if matches!(e.kind(), ErrorKind::NoSuchEntry | ErrorKind::Conflict | ErrorKind::InvalidInput) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Whether this identity is new to the log.
fn is_new(log: &impl Log, name: &str) -> Result<bool> {
    let mut probe = ToolCall::new("probe", "probe", "probe").follow_up_of(NOWHERE).sender(identity::call(name));
    probe.captured_by = Some(CapturedBy::Import);
    match log.put(vec![probe]) {
        Ok(_) => Ok(false),
        Err(e) if matches!(e.kind(), ErrorKind::NoSuchEntry | ErrorKind::Conflict) => Ok(false),
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(true),
        Err(e) => Err(e),
    }
}

/// Calls keep the identity under which the log has them from an import made before their session had an answer.
fn sooner(log: &impl Log, sources: &[Source], calls: &[ToolCall], identities: &mut [Identity]) -> Result<()> {
    let mut all = Identities::default();
    for ((source, call), identity) in sources.iter().zip(calls).zip(identities) {
        let Some(sooner) = source.sooner.as_ref().filter(|_| source.weak) else { continue };
        let known = all.of(&Source { session: sooner.clone(), weak: source.weak, ..Source::default() }, call);
        if !is_new(log, &known.name)? {
            *identity = known;
        }
    }
    Ok(())
}

/// Records the answers to calls that are in the log without one.
fn follow_up(
    log: &impl Log,
    known: Vec<(usize, u64, ToolCall, Identity)>,
    floor: u64,
    places: &[String],
    recorded: &mut Recorded,
) -> Result<()> {
    let seqs: Vec<u64> = known.iter().map(|(_, seq, ..)| *seq).collect();
    let unanswered: HashSet<u64> = match seqs.is_empty() {
        true => return Ok(()),
        false => log.unanswered(&seqs)?.into_iter().collect(),
    };
    for (index, seq, call, identity) in known.into_iter().filter(|(_, seq, ..)| unanswered.contains(seq)) {
        let mut call = match call.follows {
            // The call already says which entry it follows.
            Some(_) => continue,
            None => call.follow_up_of(seq).sender(identity::answer(&identity.name)),
        };
        call.late_answer = true;
        let call_id = call.call_id.clone();
        match log.put(vec![call]) {
            Ok(receipts) => recorded.answers.extend(receipts.into_iter().filter(|receipt| receipt.seq >= floor)),
            // The answer was recorded and then purged.
            Err(e) if e.kind() == ErrorKind::NoSuchEntry => {}
            Err(e) if e.kind() == ErrorKind::Conflict => {
                let (place, kind) = (places.get(index).cloned().unwrap_or_default(), Untaken::Answer);
                let why = format!("the log has another answer to this call, which came later ({e})");
                recorded.not_taken.push(NotTaken { place, kind, call_id, why });
            }
            Err(e) => return Err(shifted(e, index)),
        }
    }
    Ok(())
}

/// The result of recording one call.
enum Put {
    At(Receipt),
    /// The call is known and was purged.
    Purged,
    /// The log has another call under this sender's number; the text is the error's message.
    Other(String),
    /// The call is in the log at this seq, with another answer.
    Changed(u64),
}

impl Put {
    fn receipt(self) -> Option<Receipt> {
        match self {
            Put::At(receipt) => Some(receipt),
            Put::Purged | Put::Other(_) | Put::Changed(_) => None,
        }
    }
}

/// Records calls. A batch that fails because of a known call is split in halves, down to the single call. `first`: the
/// position of the first call.
fn put(log: &impl Log, mut calls: Vec<ToolCall>, first: usize) -> Result<Vec<Put>> {
    let e = match log.put(calls.clone()) {
        Ok(receipts) => return Ok(receipts.into_iter().map(Put::At).collect()),
        Err(e) => e,
    };
    let known = |call: &ToolCall| call.sender.is_some() && call.follows.is_none() && call.grant.is_none();
    if !matches!(e.kind(), ErrorKind::NoSuchEntry | ErrorKind::Conflict) || !calls.iter().any(known) {
        return Err(shifted(e, first));
    }
    if calls.len() == 1 {
        return Ok(vec![if e.kind() == ErrorKind::Conflict { Put::Other(e.to_string()) } else { Put::Purged }]);
    }
    let second = calls.split_off(calls.len() / 2);
    let middle = first + calls.len();
    let mut receipts = put(log, calls, first)?;
    receipts.extend(put(log, second, middle)?);
    Ok(receipts)
}

/// A batch's error names the call by its place in the batch; here by its place among all.
fn shifted(mut e: Error, first: usize) -> Error {
    match e.take_call() {
        Some(call) => e.in_call(first + call),
        None => e,
    }
}

/// The user wants the place in the file.
fn at_place(mut e: Error, places: &[String], done: usize) -> Error {
    if let Some(place) = e.place().and_then(|place| places.get(place.call?)) {
        e.take_call();
        e = e.at(place);
    }
    match done {
        0 => e,
        _ => Error::new(
            e.kind(),
            format!("{e} ({done} {} recorded)", if done == 1 { "call before it was" } else { "calls before it were" }),
        )
        .with_source(e),
    }
}

/// Notes under `session_metadata.import` how a part of the call was obtained.
pub(super) fn mark(call: &mut ToolCall, key: &str, value: impl Into<Json>) {
    if let Some(Json::Object(members)) = call.session_metadata.get_mut("import") {
        members.insert(key, value);
        return;
    }
    if call.session_metadata.get("import").is_some() {
        return;
    }
    let mut members = Object::new();
    members.insert(key, value);
    call.session_metadata.insert("import", members);
}
