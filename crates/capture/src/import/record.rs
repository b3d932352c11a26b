//! Records imported calls in a log, each call once.
//!
//! Invariant H7: importing a file again, unchanged or grown, by any process, records what is new in it and nothing
//! else. The log recognises calls by their identities (see `identity`), including calls that were purged. Invariant R108: a call
//! that the log has from somebody else, such as a hook or a file of another kind, is not recorded once more; what the file tells of it
//! becomes its details, under the number of the call's answer if it has ended. The log decides that and records in one step (R112).
//! A call that was recorded as unanswered and has an answer now is not recorded again: a follow-up entry adds the answer. Invariant
//! R40: an answer that differs from the one in the log is reported, and so is everything else that is not recorded: a call
//! that the log refuses is reported with its place, and does not keep those around it from being recorded.

use super::identity::{self, Identities, Identity, Source};
use super::{Imported, NotTaken, Untaken};
use attestlog::NOWHERE;
use attestlog::entry::SourceKind;
use attestlog::json::{Json, Object};
use attestlog::redact::Policy;
use attestlog::{AuditLog, Error, ErrorKind, Hash, IMPORTED, Outcome, Receipt, Result, Told, ToolCall};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The most calls in one commit.
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
    /// The redaction policy in force.
    ///
    /// # Errors
    /// As [`AuditLog::entry`].
    fn policy(&self) -> Result<Policy>;
    /// Records calls of which nobody has told, and what the file tells of those that the log has.
    ///
    /// # Errors
    /// As [`AuditLog::tell`].
    fn tell(&self, calls: Vec<(ToolCall, u64)>) -> Result<Vec<Told>>;
}

impl Log for AuditLog {
    fn put(&self, calls: Vec<ToolCall>) -> Result<Vec<Receipt>> {
        self.record_batch(calls)
    }

    fn entries(&self) -> Result<u64> {
        self.size()
    }

    fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>> {
        AuditLog::unanswered(self, seqs)
    }

    fn policy(&self) -> Result<Policy> {
        Ok(self.retention().policies()?.redaction)
    }

    fn tell(&self, calls: Vec<(ToolCall, u64)>) -> Result<Vec<Told>> {
        AuditLog::tell(self, calls)
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
    /// The receipts of what the file tells of calls that the log has from somebody else, such as a hook. These calls are among those
    /// that were already there.
    pub details: Vec<Receipt>,
    /// Calls and answers that were not recorded: the log refused them, has another call under their identity, or another
    /// answer to the call. The caller must report them to the user.
    pub not_taken: Vec<NotTaken>,
    /// How many of the new calls are identified only by how their conversation begins. An import of a file that has
    /// lost that beginning would record them again.
    pub by_beginning: usize,
}

/// The store failed while calls were being recorded.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// What failed.
    pub error: Error,
    /// What was done before. Import the file again later: what is in the log already is not recorded again.
    pub recorded: Box<Recorded>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.recorded.receipts.len() {
            0 => write!(f, "{}", self.error),
            1 => write!(f, "{} (1 call before that was recorded)", self.error),
            n => write!(f, "{} ({n} calls before that were recorded)", self.error),
        }
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Error {
        Error::new(stopped.error.kind(), stopped.to_string()).with_source(stopped)
    }
}

/// Records the calls of a file that are not yet in `log`. `again`: records all of them, including those in the log.
/// `progress` is called with the number of calls done. A call that the log refuses is in [`Recorded::not_taken`] with its
/// place in the file, and the others are recorded.
///
/// # Errors
/// [`Stopped`] holds what was recorded before, and one of the errors of [`AuditLog::record_batch`] that are no call's fault; or
/// [`InvalidInput`](ErrorKind::InvalidInput), before anything is recorded, if the log's policy seals values and the file was not
/// read with it ([`ImportOptions::policy`](super::ImportOptions::policy)).
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
pub fn record(
    log: &impl Log,
    imported: Imported,
    again: bool,
    mut progress: impl FnMut(usize),
) -> Result<Recorded, Stopped> {
    let mut recorder = Recorder {
        log,
        again,
        only_answered: imported.only_answered,
        places: imported.places,
        sources: imported.sources,
        refused_as: if imported.of_lines { Untaken::Line } else { Untaken::Call },
        floor: 0,
        new: HashSet::new(),
        recorded: Recorded::default(),
    };
    match recorder.all(imported.calls, imported.policy.as_deref(), &mut progress) {
        Ok(()) => Ok(recorder.recorded),
        Err(mut error) => {
            // It is not about a call, whichever was being recorded.
            error.take_call();
            Err(Stopped { error, recorded: Box::new(recorder.recorded) })
        }
    }
}

/// Records the calls of one file.
pub(super) struct Recorder<'a, L: Log> {
    log: &'a L,
    again: bool,
    only_answered: bool,
    places: Vec<String>,
    sources: Vec<Source>,
    /// What a call that the log refuses is called.
    refused_as: Untaken,
    /// The number of entries before the import.
    floor: u64,
    /// The seqs of the new calls.
    new: HashSet<u64>,
    recorded: Recorded,
}

/// A call with its index in the file and its identity; and how many times the file has told of a call like it, with this one, if
/// somebody else may have told of it.
struct Identified {
    index: usize,
    call: ToolCall,
    identity: Identity,
    nth: Option<u64>,
}

impl<L: Log> Recorder<'_, L> {
    fn all(&mut self, mut calls: Vec<ToolCall>, policy: Option<&str>, progress: &mut impl FnMut(usize)) -> Result<()> {
        self.floor = self.log.entries()?;
        if self.sources.iter().any(|source| source.weak) {
            check_policy(&self.log.policy()?, policy)?;
        }
        for call in &mut calls {
            let sources = &mut call.circumstances.sources;
            // A reader may have said which program wrote the file.
            if !matches!(&sources[..], [one] if one.kind == SourceKind::Import) {
                *sources = vec![attestlog::entry::Source::new(SourceKind::Import)];
            }
        }
        for call in calls.iter_mut().filter(|call| call.timestamp.is_none() && call.backfilled) {
            // The store will use the time of the import.
            mark(call, "time_from", "import");
        }
        let mut all = Identities::default();
        let mut identities: Vec<Identity> =
            self.sources.iter().zip(&calls).map(|(source, call)| all.of(source, call)).collect();
        if !self.again {
            sooner(self.log, &self.sources, &calls, &mut identities)?;
        }
        let only_answered = self.only_answered;
        let is_wanted = |call: &ToolCall| !only_answered || is_answered(call);
        let mut occurrences = Occurrences::default();
        let mut rest = Vec::with_capacity(calls.len());
        for (index, (call, identity)) in calls.into_iter().zip(identities).enumerate() {
            let source = self.sources.get(index).filter(|_| !self.again);
            let nth = source.and_then(|source| occurrences.of(source, &call));
            rest.push(Identified { index, call, identity, nth });
        }
        let mut rest = rest.into_iter().filter(|one| is_wanted(&one.call)).peekable();
        let mut done = 0;
        while rest.peek().is_some() {
            let batch: Vec<Identified> = rest.by_ref().take(BATCH).collect();
            let calls = batch.iter().map(|Identified { call, identity, nth, .. }| match self.again {
                true => (call.clone(), None),
                false => (numbered(call, &identity.name), *nth),
            });
            let mut puts = Vec::with_capacity(batch.len());
            let put = put(self.log, calls.collect(), &mut puts);
            done += puts.len();
            let mut known = Vec::new();
            for (one, put) in batch.into_iter().zip(puts) {
                known.extend(self.settled(one, put)?);
            }
            // What was recorded before a failure is counted.
            put?;
            self.follow_up(known)?;
            progress(done);
        }
        Ok(())
    }

    /// Notes what became of a call; returns it with its seq if the log had it, so that its answer may be new.
    fn settled(&mut self, one: Identified, put: Put) -> Result<Option<Known>> {
        let Identified { index, call, identity, .. } = one;
        let put = match put {
            Put::Other(why) if !self.again => settle(self.log, &call, &identity, why)?,
            put => put,
        };
        match put {
            Put::Refused(why) => self.not_taken(index, self.refused_as, call.call_id, why),
            Put::Other(why) => self.not_taken(index, Untaken::Call, call.call_id, why),
            Put::Changed(seq) => self.not_taken(index, Untaken::Answer, call.call_id, changed(seq)),
            Put::At(receipt) if receipt.seq >= self.floor && self.new.insert(receipt.seq) => {
                let weak = self.sources.get(index).is_some_and(|source| source.weak);
                self.recorded.by_beginning += usize::from(!self.again && weak);
                self.recorded.receipts.push(receipt);
            }
            Put::There(seq) => self.is_there(seq),
            Put::Details(receipt, of) => {
                self.is_there(of);
                // Another process that imports the same file may have told it meanwhile.
                self.recorded.details.extend((receipt.seq >= self.floor).then_some(receipt));
            }
            put => {
                let receipt = put.receipt();
                self.recorded.repeated += 1;
                self.recorded.already_there.extend(receipt.map(|r| r.seq));
                let answered = is_answered(&call) && call.backfilled;
                return Ok(receipt.filter(|_| answered).map(|receipt| Known {
                    index,
                    seq: receipt.seq,
                    call,
                    identity,
                }));
            }
        }
        Ok(None)
    }

    fn is_there(&mut self, seq: u64) {
        self.recorded.repeated += 1;
        self.recorded.already_there.push(seq);
    }

    fn not_taken(&mut self, index: usize, kind: Untaken, call_id: Option<String>, why: String) {
        let place = self.places.get(index).cloned().unwrap_or_default();
        self.recorded.not_taken.push(NotTaken { place, kind, call_id, why });
    }

    /// Records the answers to calls that are in the log without one.
    fn follow_up(&mut self, known: Vec<Known>) -> Result<()> {
        let seqs: Vec<u64> = known.iter().map(|known| known.seq).collect();
        let unanswered: HashSet<u64> = match seqs.is_empty() {
            true => return Ok(()),
            false => self.log.unanswered(&seqs)?.into_iter().collect(),
        };
        for Known { index, seq, call, identity } in known.into_iter().filter(|known| unanswered.contains(&known.seq)) {
            let mut call = match call.follows {
                // The call already says which entry it follows.
                Some(_) => continue,
                None => call.follow_up_of(seq).sender(identity::answer(&identity.name)),
            };
            call.late_answer = true;
            let call_id = call.call_id.clone();
            match self.log.put(vec![call]) {
                Ok(receipts) => {
                    let new = receipts.into_iter().filter(|receipt| receipt.seq >= self.floor);
                    self.recorded.answers.extend(new);
                }
                // The answer was recorded and then purged.
                Err(e) if e.kind() == ErrorKind::NoSuchEntry => {}
                Err(mut e) if is_of_a_call(&e) => {
                    e.take_call();
                    let why = match e.kind() {
                        ErrorKind::Conflict => {
                            format!("the log has another answer to this call, which came later ({e})")
                        }
                        _ => e.to_string(),
                    };
                    self.not_taken(index, Untaken::Answer, call_id, why);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Whether the file has an answer to the call, if only what there was when it was broken off.
fn is_answered(call: &ToolCall) -> bool {
    call.outcome != Some(Outcome::Abandoned) || call.result.is_some()
}

/// A call that the log had already.
struct Known {
    index: usize,
    seq: u64,
    call: ToolCall,
    identity: Identity,
}

/// Refuses calls whose identities may cover what the log seals (R90).
fn check_policy(policy: &Policy, read_with: Option<&str>) -> Result<()> {
    if !policy.needs_subject_keys() || read_with == Some(policy.to_canonical().as_str()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        "the log's policy seals values, and the file was read without this policy, so its calls would be recognised by what is \
         sealed: read it again with the log's policy (ImportOptions::policy)",
    ))
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
    probe.circumstances.sources = vec![attestlog::entry::Source::new(SourceKind::Import)];
    match log.put(vec![probe]) {
        Ok(_) => Ok(false),
        Err(e) if matches!(e.kind(), ErrorKind::NoSuchEntry | ErrorKind::Conflict) => Ok(false),
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(true),
        Err(e) => Err(e),
    }
}

/// Calls keep the identity under which the log has them from an import made before their session had an answer, or before the
/// policy sealed something in it.
fn sooner(log: &impl Log, sources: &[Source], calls: &[ToolCall], identities: &mut [Identity]) -> Result<()> {
    let mut all = Identities::default();
    for ((source, call), identity) in sources.iter().zip(calls).zip(identities) {
        for sooner in source.sooner.iter().filter(|_| source.weak) {
            let known = all.of(&Source { session: sooner.clone(), weak: source.weak, ..Source::default() }, call);
            if !is_new(log, &known.name)? {
                *identity = known;
            }
        }
    }
    Ok(())
}

/// The result of recording one call.
enum Put {
    At(Receipt),
    /// The log has the call from somebody else, at this seq.
    There(u64),
    /// What the file tells of the call that is at this seq is here.
    Details(Receipt, u64),
    /// The call is known and was purged.
    Purged,
    /// The log has another call under this sender's number; the text says where, and how they differ.
    Other(String),
    /// The call is in the log at this seq, with another answer.
    Changed(u64),
    /// The log does not take this call; the text says why.
    Refused(String),
}

impl From<Told> for Put {
    fn from(told: Told) -> Put {
        match told {
            Told::Recorded(receipt) => Put::At(receipt),
            Told::NothingNew(seq) => Put::There(seq),
            Told::Added(receipt, of) => Put::Details(receipt, of),
        }
    }
}

impl Put {
    fn receipt(self) -> Option<Receipt> {
        match self {
            Put::At(receipt) => Some(receipt),
            _ => None,
        }
    }
}

/// Whether the error is the fault of the call that it names: the calls around it can be recorded.
fn is_of_a_call(e: &Error) -> bool {
    let named = e.place().is_some_and(|place| place.call.is_some());
    is_of_input(e) && (named || e.kind() == ErrorKind::TooLarge)
}

fn is_of_input(e: &Error) -> bool {
    use ErrorKind::{Conflict, InvalidInput, NoSuchEntry, TooLarge};
    matches!(e.kind(), InvalidInput | TooLarge | Conflict | NoSuchEntry)
}

/// Records calls, and adds what became of each to `puts`, up to where the store failed. A batch that is refused because of one
/// of its calls is split in halves, down to the single call.
fn put(log: &impl Log, mut calls: Vec<(ToolCall, Option<u64>)>, puts: &mut Vec<Put>) -> Result<()> {
    // Through another process, numbered calls go in several commits and others in one, so only calls of one kind can be sent
    // again after a refusal without being recorded twice.
    let numbered = calls.iter().filter(|(call, _)| call.sender.is_some()).count();
    let told = calls.iter().filter(|(_, nth)| nth.is_some()).count();
    let are_alike = [numbered, told].iter().all(|some| *some == 0 || *some == calls.len());
    let all = if are_alike { sent(log, &calls) } else { Err(Error::invalid("calls of several kinds together")) };
    let mut e = match all {
        Ok(all) => {
            puts.extend(all);
            return Ok(());
        }
        Err(e) => e,
    };
    if calls.len() > 1 && is_of_input(&e) {
        let second = calls.split_off(calls.len() / 2);
        put(log, calls, puts)?;
        return put(log, second, puts);
    }
    if !is_of_a_call(&e) {
        if numbered > 0 {
            puts.extend(before_failure(log, calls));
        }
        return Err(e);
    }
    e.take_call();
    puts.push(match e.kind() {
        ErrorKind::NoSuchEntry if numbered > 0 => Put::Purged,
        ErrorKind::Conflict if numbered > 0 => Put::Other(other(&e)),
        _ => Put::Refused(e.to_string()),
    });
    Ok(())
}

/// Sends calls of one kind to the log.
fn sent(log: &impl Log, calls: &[(ToolCall, Option<u64>)]) -> Result<Vec<Put>> {
    let told: Vec<(ToolCall, u64)> = calls.iter().filter_map(|(call, nth)| Some((call.clone(), (*nth)?))).collect();
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    if !told.is_empty() {
        return Ok(log.tell(told)?.into_iter().map(Put::from).collect());
    }
    let receipts = log.put(calls.iter().map(|(call, _)| call.clone()).collect())?;
    Ok(receipts.into_iter().map(Put::At).collect())
}

/// What became of those of these numbered calls that were recorded before the store failed: through another process they go
/// in several commits, in order.
fn before_failure(log: &impl Log, mut calls: Vec<(ToolCall, Option<u64>)>) -> Vec<Put> {
    let is_known = |call: ToolCall| matches!(known(log, call), Ok(Some(_)));
    let details = |call: &ToolCall| match &call.sender {
        Some(sender) => call.clone().sender(identity::answer(&sender.id)),
        None => call.clone(),
    };
    let recorded = calls.partition_point(|(call, _)| is_known(call.clone()) || is_known(details(call)));
    calls.truncate(recorded);
    sent(log, &calls).unwrap_or_default()
}

/// What the log has in the place of a call, in the words of somebody who imports.
fn other(e: &Error) -> String {
    match (e.seq(), e.place().and_then(|place| place.member.as_deref())) {
        (Some(seq), Some(member)) => {
            format!("entry {seq} has its session, id and time, and is another call: it differs in {member}")
        }
        _ => format!("another call of the same id and time is in the log already ({e})"),
    }
}

/// How many times a file has told of a call like another.
#[derive(Default)]
struct Occurrences(HashMap<Hash, u64>);

impl Occurrences {
    /// How many times, with this one, the file has told of a call with this conversation, agent, tool, id and arguments, in the same
    /// form: a trace and a log that are in one file tell of a call once each. `None` if nobody else can have told of it.
    fn of(&mut self, source: &Source, call: &ToolCall) -> Option<u64> {
        let nameless = call.conversation_id.starts_with(IMPORTED);
        if source.apart || nameless || call.sender.is_some() || call.follows.is_some() {
            return None;
        }
        let Some(id) = &call.call_id else { return Some(1) };
        let form = source.session.split(' ').next().unwrap_or_default();
        let arguments = call.arguments.as_ref().map(|arguments| arguments.to_canonical().to_string());
        let agent = call.agent_id.as_deref().unwrap_or_default();
        let parts = [form, &call.conversation_id, agent, &call.tool_name, id, arguments.as_deref().unwrap_or_default()];
        let nth = self.0.entry(identity::digest(&parts)).or_default();
        *nth += 1;
        Some(*nth)
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
