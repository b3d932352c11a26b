//! Sealed values shown, and destroyed.
//!
//! Invariant Z1: a value is handed out only after the entry that says so is on the disk. Invariant Z2: an erasure leaves
//! the store and its key file usable together after a crash between any two of its steps:
//!
//! 1. the key file gets a new master key beside the old one, and is saved;
//! 2. one commit takes the subject's rows out, wraps all others under the new master key, and chains the erasure;
//! 3. the key file loses the old master key, and is saved.
//!
//! Invariant R81: nobody is erased, and of nobody it is said that nothing is sealed, unless a verification has just found each
//! key that sealed values name, or the erasure that destroyed it. A row that somebody took out of the file would else pass for
//! values that never were, and they would be lost with the master key at anybody's erasure.
//!
//! Until 2 the erasure has not happened, from then on it has. What a crash left is finished when the store is opened
//! next, or before the next erasure. After 3 nothing opens what older copies of the file and its free pages still hold.

use crate::json::{Json, Object, Path};
use crate::redact::{IdentityKind, Opened, open, sealed_subject};
use crate::store::engine::receipt::Receipt;
use crate::store::log::AuditLog;
use crate::store::write::commit::Staging;
use crate::store::write::subjects::pseudonyms;
use crate::{Entry, Error, ErrorKind, FindingKind, Kind, Query, Result, VerifyOptions};
use std::collections::BTreeSet;

impl AuditLog {
    /// Shows one sealed value. That it was shown, to whom and why, is recorded first, in the chain.
    ///
    /// `path` is where it stands, as the entry's `treated` names it: `arguments.ssn`, `session_metadata.x`, or
    /// `result.x` where whole results are kept.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): there is no such entry, nothing at that path, or the value was erased (the
    /// message says by which entry); [`InvalidInput`](ErrorKind::InvalidInput): it is not sealed, or nobody asks, or for no
    /// reason; [`Key`](ErrorKind::Key): the key file is missing or older; as [`AuditLog::record`], and nothing is shown then.
    ///
    /// ```
    /// use attestlog::redact::{Action, Policy, Preset};
    /// use attestlog::{AuditLog, Options, PolicySet, ToolCall, json::Json};
    /// let mut policies = PolicySet::default();
    /// policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build()?;
    /// let log = Options::new().policies(policies).in_memory()?;
    /// let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#)?.value;
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "enrol").patient("P-1").arguments(arguments))?;
    /// assert!(!log.entry(receipt.seq)?.line().contains("9847"));
    /// assert_eq!(log.reveal(receipt.seq, "arguments.ssn", "dr_no", "claim 17")?, Json::from("460-89-9847"));
    /// log.erase("P-1", "the patient's request of 2 May", "privacy_officer")?;
    /// assert!(log.reveal(receipt.seq, "arguments.ssn", "dr_no", "claim 17").is_err());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn reveal(&self, seq: u64, path: &str, actor: &str, reason: &str) -> Result<Json> {
        self.reveal_opened(seq, path, actor, reason).map(|opened| opened.value)
    }

    /// As [`AuditLog::reveal`], with the salt that proves the value to others.
    pub(crate) fn reveal_opened(&self, seq: u64, path: &str, actor: &str, reason: &str) -> Result<Opened> {
        let place = Path::parse(path).map_err(Error::invalid)?;
        let (actor, reason) = (self.statement("actor", actor)?, self.statement("reason", reason)?);
        let sealed = sealed_at(&self.entry(seq)?, &place)?;
        let id = sealed_subject(&sealed).unwrap_or_default().to_owned();
        self.engine().with_writer(|engine, writer| {
            // With the turn, so that no erasure comes between opening the value and saying so.
            let Some((_, key)) = engine.subject_key(&id)? else { return Err(self.gone(seq, &place, &id)) };
            let opened = open(&key, &place, &sealed)?;
            let detail = Object::from_iter([
                ("seq", Json::from(seq)),
                ("path", place.to_string().into()),
                ("actor", actor.into()),
                ("reason", reason.into()),
                ("subject", id.as_str().into()),
            ]);
            let mut staging = Staging::new(engine, writer)?;
            staging.system_event(Kind::Reveal, detail, None)?;
            engine.commit(writer, staging, |_| Ok(()))?;
            Ok(opened)
        })
    }

    /// Destroys everything sealed about a data subject, for good: its keys are taken out, and the master key is replaced,
    /// so that older copies of the store stay sealed too, as long as no older copy of the key file exists. Entries, chain
    /// and proofs stay as they are.
    ///
    /// The subject is named in clear: a patient, or a user where calls concerned no patient; `patient:X` and `user:X` tell
    /// the two apart. What was sealed of a call that concerned several patients goes with each of them.
    ///
    /// The log is verified first ([`AuditLog::verify`]), which takes the time that it takes: what is destroyed cannot be brought
    /// back, so the keys that are to stay must be there, and those of this subject all be known.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged): that found that entries or keys of sealed values are not as they were written, and
    /// nothing was destroyed (the message says where: restore a backup);
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): nothing is sealed about such a subject (any more: the message says which
    /// entry erased it); [`Conflict`](ErrorKind::Conflict): there is a patient and a user of that name, or a hold keeps an entry
    /// with such values (the message names it);
    /// [`InvalidInput`](ErrorKind::InvalidInput): nobody asks, or for no reason; [`Key`](ErrorKind::Key): the key file is
    /// missing; what the disk says: the message tells whether it has happened.
    pub fn erase(&self, subject: &str, reason: &str, actor: &str) -> Result<Receipt> {
        for (what, text) in [("subject", subject), ("reason", reason), ("actor", actor)] {
            check_said(what, text)?;
        }
        if self.engine().keys().is_some() {
            self.check_keys()?;
        }
        self.engine().with_writer(|engine, writer| {
            engine.check_subjects()?;
            engine.settle_masters(writer)
        })?;
        let target = self.target(subject)?;
        let (reason, actor) = (target.rename(reason), target.rename(actor));
        let (reason, actor) = (self.statement("reason", &reason)?, self.statement("actor", &actor)?);
        self.engine().with_writer(|engine, writer| {
            // No call gets one of these keys between now and the commit.
            let mut known = engine.write.subjects.lock();
            let mut gone = engine.subjects_of(&target.pseudonyms)?;
            gone.extend(known.pending_of(&target.pseudonyms));
            gone.sort_unstable();
            gone.dedup();
            if gone.is_empty() {
                return Err(self.nothing_sealed(&target.pseudonyms));
            }
            self.check_not_held(&target, &gone)?;
            let mut staging = Staging::new(engine, writer)?;
            let newest = {
                let mut keys = engine.keys();
                let keys = keys.as_mut().ok_or_else(|| Error::new(ErrorKind::Key, "the store's key file is not here"))?;
                keys.check_replaceable()?;
                let newest = keys.file.add_master_key(&mut |out| engine.config.random.fill(out))?;
                keys.save(engine)?;
                newest
            };
            let detail = Object::from_iter([
                ("of", Json::from(target.facet.name())),
                ("subject", target.pseudonyms.first().map_or("", String::as_str).into()),
                ("key_ids", gone.clone().into()),
                ("actor", actor.into()),
                ("reason", reason.into()),
                ("master_key", newest.to_string().into()),
            ]);
            let receipt = staging.system_event(Kind::Erasure, detail, None)?;
            let committed = engine.commit(writer, staging, |txn| engine.rewrap(txn, newest, &gone).map(|_| ()));
            match committed {
                Ok(()) => known.destroy(&gone),
                Err(e) => {
                    // It may have reached the disk all the same: whoever needs a key asks the file again.
                    known.forget();
                    return Err(e);
                }
            }
            drop(known);
            engine.retire_masters(newest).map_err(|e| {
                e.at(format!(
                    "the erasure is recorded as entry {}, but the old master key could not be destroyed in the key file; \
                     open the store again to finish it",
                    receipt.seq
                ))
            })?;
            Ok(receipt)
        })
    }

    /// Refuses where entries, or the keys that their sealed values name, are not as they were written.
    fn check_keys(&self) -> Result<()> {
        let findings = self.verify(&VerifyOptions::new())?.findings;
        let mut findings = findings.iter().filter(|finding| bears_on_keys(finding.kind));
        let Some(first) = findings.next() else { return Ok(()) };
        let more = match findings.count() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        Err(Error::damaged(format!(
            "nothing was erased: {first}{more}. Whose values are sealed under which key cannot be told any more; see what else was \
             changed (attestlog verify), and restore a backup"
        )))
    }

    /// Refuses to destroy what a hold keeps: values sealed under these keys in an entry that one covers.
    fn check_not_held(&self, target: &Target, keys: &[String]) -> Result<()> {
        let engine = self.engine();
        let chain_state = engine.chain_state();
        chain_state.check_confirmed()?;
        if chain_state.holds.is_empty() {
            return Ok(());
        }
        let aliases = engine.aliases();
        let (mut holds, mut entries) = (BTreeSet::new(), 0u64);
        let of = target.pseudonyms.iter().chain([&target.clear]);
        let query =
            of.fold(Query::new().kind(Kind::ToolCall).kind(Kind::CallBegun), |query, name| match target.facet {
                IdentityKind::Patient => query.patient(name),
                _ => query.user(name),
            });
        for entry in self.query_held(&query)? {
            let entry = entry?;
            let covering = chain_state.holds.covering_named(entry.seq, &entry.body, &aliases);
            let line = entry.line();
            if !covering.is_empty() && keys.iter().any(|key| line.contains(key)) {
                holds.extend(covering);
                entries += 1;
            }
        }
        if holds.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = holds.iter().map(u64::to_string).collect();
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "values of {entries} entries that hold {} keeps would be destroyed; nothing was. Release the hold first, or wait \
                 until it is released",
                named.join(" and hold ")
            ),
        ))
    }

    /// Who is meant by a clear name.
    fn target(&self, subject: &str) -> Result<Target> {
        let policies = self.engine().policies();
        let missing = || Error::new(ErrorKind::Key, "the store's key file is not here, so no subject can be found");
        let sanitizer = policies.sanitizer.as_ref().filter(|_| self.engine().keys().is_some()).ok_or_else(missing)?;
        let target = |facet: IdentityKind, name: &str| Target {
            facet,
            clear: name.to_owned(),
            pseudonyms: pseudonyms(sanitizer, facet, name),
        };
        let mut all = vec![target(IdentityKind::Patient, subject), target(IdentityKind::User, subject)];
        for facet in [IdentityKind::Patient, IdentityKind::User] {
            let name = subject.strip_prefix(facet.name()).and_then(|rest| rest.strip_prefix(':'));
            all.extend(name.filter(|name| !name.is_empty()).map(|name| target(facet, name)));
        }
        let mut found = Vec::new();
        for target in &all {
            let pending = self.engine().write.subjects.lock().pending_of(&target.pseudonyms);
            if !pending.is_empty() || !self.engine().subjects_of(&target.pseudonyms)?.is_empty() {
                found.push(target);
            }
        }
        match found[..] {
            [one] => Ok(one.clone()),
            // A pseudonym is the same whatever it stands for.
            [one, other] if one.pseudonyms == other.pseudonyms => Ok(one.clone()),
            [] => {
                let every: Vec<String> = all.iter().flat_map(|t| t.pseudonyms.clone()).collect();
                Err(self.nothing_sealed(&every))
            }
            _ => Err(Error::new(
                ErrorKind::Conflict,
                "values are sealed about a patient and a user of that name; say patient:NAME or user:NAME",
            )),
        }
    }

    /// An actor's or a reason's text, after the policy.
    fn statement(&self, what: &str, text: &str) -> Result<String> {
        check_said(what, text)?;
        self.engine().clean(text.trim())
    }

    /// Why the key of a sealed value is not there.
    fn gone(&self, seq: u64, path: &Path, id: &str) -> Error {
        match self.erasure(|detail| lists(detail, "key_ids", id)) {
            Ok(Some(by)) => {
                let message = format!("{path} of entry {seq} was erased by entry {by}; nothing brings it back");
                Error::new(ErrorKind::NoSuchEntry, message)
            }
            Ok(None) => Error::damaged(format!(
                "{path} of entry {seq} is sealed under the key {id}, which is missing although no entry says that it was \
                 erased; restore a backup"
            )),
            Err(e) => e,
        }
    }

    /// Says that there is nothing to erase, without the name.
    fn nothing_sealed(&self, pseudonyms: &[String]) -> Error {
        let by = self.erasure(|detail| {
            let named = detail.get("subject").and_then(Json::as_str).unwrap_or_default();
            pseudonyms.iter().any(|p| p == named)
        });
        match by {
            Ok(Some(by)) => {
                let message = format!("nothing is sealed about this subject any more: entry {by} erased it");
                Error::new(ErrorKind::NoSuchEntry, message)
            }
            Ok(None) => Error::new(ErrorKind::NoSuchEntry, "nothing is sealed about such a patient or user"),
            Err(e) => e,
        }
    }

    /// The newest erasure whose particulars fit.
    fn erasure(&self, fits: impl Fn(&Json) -> bool) -> Result<Option<u64>> {
        for entry in self.query(&Query::new().kind(Kind::Erasure).newest_first())?.beside() {
            let entry = entry?;
            if entry.own().is_some_and(|own| fits(&own.detail.to_json())) {
                return Ok(Some(entry.seq));
            }
        }
        Ok(None)
    }
}

/// Whether a finding leaves open which values are sealed, or under which keys. What is made from the entries and can be made
/// again does not: nobody is kept from being erased because statistics are wrong.
fn bears_on_keys(kind: FindingKind) -> bool {
    use FindingKind as K;
    !matches!(
        kind,
        K::IndexRowMissing
            | K::IndexRowChanged
            | K::IndexRowUnexpected
            | K::TermMismatch
            | K::BatchMismatch
            | K::ColumnMismatch
            | K::ZoneMismatch
            | K::RollupMismatch
            | K::SenderMismatch
            | K::UnfinishedMismatch
            | K::PurgedEarly
            | K::SmallTableMismatch
    )
}

/// Refuses what says nothing.
fn check_said(what: &str, text: &str) -> Result<()> {
    match text.trim() {
        "" => Err(Error::invalid(format!("{what}: must not be empty"))),
        _ => Ok(()),
    }
}

/// Whose values are to be destroyed.
#[derive(Debug, Clone)]
struct Target {
    facet: IdentityKind,
    clear: String,
    /// Under each live key, the newest first.
    pseudonyms: Vec<String>,
}

impl Target {
    /// A text in which the subject is named by pseudonym.
    fn rename(&self, text: &str) -> String {
        let pseudonym = self.pseudonyms.first().cloned().unwrap_or_default();
        let names = crate::store::write::names::Names::new([(self.facet, self.clear.clone(), pseudonym)]);
        names.replaced(text).unwrap_or_else(|| text.to_owned())
    }
}

fn lists(detail: &Json, key: &str, value: &str) -> bool {
    let items = detail.get(key).and_then(Json::as_array).unwrap_or_default();
    items.iter().any(|item| item.as_str() == Some(value))
}

/// The sealed value at a place of an entry.
fn sealed_at(entry: &Entry, path: &Path) -> Result<Json> {
    let seq = entry.seq;
    let nothing = || Error::new(ErrorKind::NoSuchEntry, format!("entry {seq} has nothing at {path}"));
    let call =
        entry.call().ok_or_else(|| Error::invalid(format!("entry {seq} is no call, so nothing of it is sealed")))?;
    let summary = call.completion.as_ref().and_then(|c| c.result_summary.as_ref());
    let mut whole = Object::new();
    let parts = [("arguments", call.arguments.as_ref()), ("session_metadata", call.session_metadata.as_ref())];
    for (name, part) in parts {
        if let Some(part) = part {
            whole.insert(name, part.to_json());
        }
    }
    if let Some(full) = summary.and_then(|s| s.to_json().get("full").cloned()) {
        whole.insert("result", full);
    }
    let whole = Json::from(whole);
    let value = path.find(&whole).ok_or_else(nothing)?;
    match sealed_subject(value) {
        Some(_) => Ok(value.clone()),
        None => Err(Error::invalid(format!("{path} of entry {seq} is not sealed; the entry shows what is kept of it"))),
    }
}
