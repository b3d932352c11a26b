//! Calls that another process prepared and sent here, and what it must know to prepare them.
//!
//! Invariant I3: what crosses from process to process is sanitised; values that are sealed cross sealed, and their keys
//! wrapped under the master key. Invariant I4: a call from another process is recorded only if it could have been
//! prepared here: it is held against limits, policy and its own line before it gets a place in the queue.

use super::Shared;
use super::ground::Ground;
use super::keyring::{self, KeySource, Keyring};
use super::options::Options;
use super::prepare::{Prepared, prepare};
use super::subjects::{NewSubject, Row};
use crate::entry::{Body, Call, CallLimits, Content, Phase, ToolCall};
use crate::host::Random;
use crate::json::Json;
use crate::keys::KeyId;
use crate::policy::{Policies, PolicySet};
use crate::redact::{MasterKey, SubjectKey, normal};
use crate::{Entry, Error, ErrorKind, Hash, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// By what a call was prepared. Whoever prepared by another one prepares again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The seq of the policies' entry.
    pub policy: u64,
    /// The key that new pseudonyms are made under.
    pub pseudonym_key: Option<String>,
}

impl Stamp {
    fn of(policies: &Policies) -> Stamp {
        let mut keys = policies.sanitizer.iter().flat_map(|s| s.pseudonym_keys());
        Stamp { policy: policies.seq, pseudonym_key: keys.next().map(str::to_owned) }
    }
}

/// A prepared call on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sent {
    call: Box<Call>,
    timestamp: Option<Timestamp>,
    retention_class: Option<String>,
    retain_until: Option<Timestamp>,
    /// The id of the key that it is sealed under, where that was not on the disk yet.
    subject: Option<String>,
}

/// What a sender must know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    stamp: Stamp,
    policies: String,
    id_bytes: u64,
    patients: u64,
    line_bytes: u64,
    /// The store's log key, by which the sender knows that its key file is the store's.
    log_key: Option<String>,
}

/// A subject's key, wrapped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectTold {
    id: String,
    row: Row,
    durable: bool,
}

/// Why sent calls were not recorded.
pub(crate) enum Refused {
    /// They were prepared by something that is no longer in force, or under a key that went with an earlier owner.
    Stale,
    Error(Error),
}

impl From<Error> for Refused {
    fn from(e: Error) -> Refused {
        Refused::Error(e)
    }
}

/// The owner's side.
impl Shared {
    pub(crate) fn told(&self) -> Told {
        let policies = Shared::policies(self);
        let key = self.ledger().genesis.as_ref().and_then(|g| g.keys.as_ref().map(|(key, _)| key.to_string()));
        Told {
            stamp: Stamp::of(&policies),
            policies: policies.set.to_json().to_canonical().as_str().to_owned(),
            id_bytes: self.limits.id_bytes as u64,
            patients: self.limits.patients as u64,
            line_bytes: self.limits.line_bytes as u64,
            log_key: key,
        }
    }

    /// The key of those with these pseudonyms, as it may cross to another process.
    pub(crate) fn subject_told(&self, spellings: &[Vec<String>]) -> Result<SubjectTold> {
        let (subject, durable) = self.subject(spellings)?;
        let mut rows = self.wrap_subjects(vec![subject])?;
        let (id, row) = rows.pop().ok_or_else(|| Error::new(ErrorKind::Conflict, "the person was erased just now"))?;
        Ok(SubjectTold { id, row, durable })
    }

    /// Makes sure that sent calls could have been prepared here.
    pub(crate) fn received(&self, stamp: &Stamp, sent: Vec<Sent>) -> Result<Vec<Prepared>, Refused> {
        if *stamp != Stamp::of(&Shared::policies(self)) {
            return Err(Refused::Stale);
        }
        sent.into_iter().map(|sent| self.receive(stamp, sent)).collect()
    }

    fn receive(&self, stamp: &Stamp, sent: Sent) -> Result<Prepared, Refused> {
        let Sent { call, timestamp, retention_class, retain_until, subject } = sent;
        let subject = match subject {
            None => None,
            Some(id) => match self.subjects.lock().fresh(&id) {
                Some(fresh) => Some(fresh),
                None if self.subject_key(&id)?.is_some() => None,
                None => return Err(Refused::Stale),
            },
        };
        let call = check(call, stamp, &self.limits)?;
        Ok(Prepared { call, timestamp, retention_class, retain_until, subject, numbers_batch: false })
    }
}

/// What would not come out of preparing a call is refused: a text that is no JSON, a member that does not fit the others.
fn check(call: Box<Call>, stamp: &Stamp, limits: &CallLimits) -> Result<Box<Call>> {
    let bad = |what: &str| Err(Error::invalid(format!("a call that another process sent: {what}")));
    if call.policy_seq != stamp.policy {
        return bad("was prepared by another policy than it says");
    }
    if (call.phase == Phase::Begun) != call.completion.is_none() {
        return bad("its end does not fit its phase");
    }
    let texts = [Some(&call.conversation_id), Some(&call.user_id), Some(&call.tool_name)].into_iter();
    let optional = [&call.model, &call.agent_id, &call.tool_server, &call.call_id, &call.purpose];
    let sender = call.sender.as_ref().map(|s| &s.id);
    // Names in pseudonyms may be somewhat longer than they were.
    let longest = limits.id_bytes + 128;
    for text in texts.chain(optional.map(Option::as_ref)).chain([sender]).chain(call.patient_ids.iter().map(Some)) {
        if text.is_some_and(|text| text.is_empty() || text.len() > longest) {
            return bad("a name is empty or too long");
        }
    }
    let named = [Some(&call.conversation_id), Some(&call.user_id), Some(&call.tool_name)].into_iter();
    let found_by = [&call.model, &call.agent_id, &call.tool_server, &call.purpose].map(Option::as_ref);
    for text in named.chain(found_by).flatten().chain(&call.patient_ids) {
        if normal(text) != text.as_str() {
            return bad("a name is not in the form in which names are recorded");
        }
    }
    // Configured paths may have found more patients than the caller named, within their own limit.
    if call.patient_ids.len() > limits.patients.saturating_mul(2) || !call.patient_ids.is_sorted_by(|a, b| a < b) {
        return bad("its patients are too many or in disorder");
    }
    if call.sender.as_ref().is_some_and(|s| s.number == 0) {
        return bad("numbers begin at 1");
    }
    // The line says all of it, and reading it again finds whatever is not what it claims to be.
    let (recorded_at, content) = (Timestamp::from_nanos(0), Content::Call(call));
    let body = Body { nonce: [0; 16], recorded_at, retention: None, content };
    let entry = Entry { seq: 0, prev: Hash::ZERO, body };
    let line = entry.line();
    if line.len() > limits.line_bytes {
        let message = format!("the entry has {} bytes, more than the limit of {}", line.len(), limits.line_bytes);
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    match (Entry::from_line(&line), entry.body.content) {
        (Ok(again), Content::Call(call)) if again.call() == Some(&call) => Ok(call),
        _ => bad("is not in the form of an entry"),
    }
}

/// The sender's side: the ground of a process that does not have the store open.
#[derive(Debug)]
pub(crate) struct Away {
    stamp: Stamp,
    policies: Arc<Policies>,
    limits: CallLimits,
    keys: Option<Keyring>,
    /// Whether the store has keys.
    keyed: bool,
    random: Arc<dyn Random>,
}

/// Asks the owner for a subject's key.
pub(crate) type AskSubject<'a> = dyn Fn(&[Vec<String>]) -> Result<SubjectTold> + 'a;

impl Away {
    /// What the owner told, with the key file as it is now.
    pub(crate) fn new(told: Told, options: &Options, store: &Path) -> Result<Away> {
        let passphrase = options.passphrase.as_deref();
        let keys = match (&options.keys, super::open::key_path(options, Some(store))) {
            (KeySource::Vault(vault), _) => keyring::load_vault(vault.clone(), passphrase)?,
            (_, Some(path)) => keyring::load(&path, passphrase)?,
            (_, None) => None,
        };
        let keys = match (keys, &told.log_key) {
            (_, None) => None,
            (Some(keys), Some(key)) if keys.file.verifier().to_string() == *key => Some(keys),
            (Some(keys), Some(_)) => {
                let message = format!("the key file belongs to {}, not to this store", keys.file.origin());
                return Err(Error::new(ErrorKind::Key, message));
            }
            (None, Some(_)) if options.settings.unsigned => None,
            (None, Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Key,
                    "the store's key file is missing, nothing can be recorded; bring it back, or record as unsigned",
                ));
            }
        };
        let set = PolicySet::from_json(
            &Json::parse_within(told.policies.as_bytes(), &crate::json::Limits::UNBOUNDED)?.value,
        )?;
        let policies = keyring::ready(told.stamp.policy, set, keys.as_ref())?;
        let mut limits = CallLimits::default();
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        (limits.id_bytes, limits.patients) = (size(told.id_bytes), size(told.patients));
        limits.line_bytes = size(told.line_bytes);
        let random = options.random.clone();
        let keyed = told.log_key.is_some();
        Ok(Away { stamp: Stamp::of(&policies), policies: Arc::new(policies), limits, keys, keyed, random })
    }

    pub(crate) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Makes a call ready for being sent.
    pub(crate) fn prepare(&self, call: ToolCall, phase: Phase, ask: &AskSubject<'_>) -> Result<Sent> {
        let Prepared { call, timestamp, retention_class, retain_until, subject, .. } =
            prepare(&Asking { away: self, ask }, call, phase)?;
        Ok(Sent { call, timestamp, retention_class, retain_until, subject: subject.map(|s| s.id) })
    }

    fn unwrap(&self, told: SubjectTold) -> Result<(NewSubject, bool)> {
        let missing = || Error::new(ErrorKind::Key, "this key file lacks the master key that the store's owner uses");
        let keys = self.keys.as_ref().ok_or_else(missing)?;
        let master = keys.file.master_key(KeyId(told.row.master)).ok_or_else(missing)?;
        let key = SubjectKey::unwrap(&told.row.wrapped, &MasterKey::new(*master.bytes()), &told.id)?;
        Ok((NewSubject { id: told.id, key, members: told.row.members }, told.durable))
    }
}

struct Asking<'a> {
    away: &'a Away,
    ask: &'a AskSubject<'a>,
}

impl Ground for Asking<'_> {
    fn limits(&self) -> &CallLimits {
        &self.away.limits
    }

    fn policies(&self) -> Arc<Policies> {
        self.away.policies.clone()
    }

    fn has_keys(&self) -> bool {
        self.away.keys.is_some()
    }

    fn is_keyed(&self) -> bool {
        self.away.keyed
    }

    fn random(&self, out: &mut [u8]) {
        self.away.random.fill(out);
    }

    fn digest(&self, whole: &[u8]) -> Option<String> {
        self.away.keys.as_ref()?.digest(whole)
    }

    fn subject(&self, spellings: &[Vec<String>]) -> Result<(NewSubject, bool)> {
        self.away.unwrap((self.ask)(spellings)?)
    }
}
