//! Revealing and erasing sealed values.
//!
//! Invariant Z1: a value is handed out only after the entry that records it is on the disk. Invariant Z2: the store and its key
//! file can be used together after a crash between any two steps of an erasure:
//!
//! 1. a new master key is added to the key file beside the old one, and the file is saved;
//! 2. one commit removes the subject's rows, wraps all others under the new master key, and appends the erasure to the chain;
//! 3. the old master key is removed from the key file, and the file is saved.
//!
//! The erasure of a patient applies to whole calls. Values sealed in any entry of a call are destroyed when any patient named in
//! the call is erased, and are kept by a hold on any of these patients. A key that also seals values of other calls stays, and the
//! erasure's entry names the entries that therefore stay open (`stays`).
//!
//! Invariant R81: nobody is erased, and nobody is said to have no sealed values, unless a verification has just found each key that
//! sealed values name, or the erasure that destroyed it. Otherwise a row that an attacker removed from the file would look as if
//! those values had never existed, and they would be lost with the master key when anybody is erased.
//!
//! A call that is running when a person is erased seals nothing about that person anew: its end, and answers that come later, are
//! sealed under keys that are thrown away at once and have the id of a destroyed one (`erasure_of` in `store/write/subjects`).
//!
//! Before the commit of step 2 the erasure has not happened; after it, it has. An erasure interrupted by a crash is completed when
//! the store is next opened, or before the next erasure. After step 3 nothing can open the values that older copies of the file and
//! its free pages still contain.

use crate::json::{Json, Object, Path};
use crate::redact::{IdentityKind, Opened, open, sealed_subject};
use crate::store::engine::receipt::Receipt;
use crate::store::log::OpenStore;
use crate::store::write::signing::recorded;
use crate::store::write::staging::Staging;
use crate::store::write::subjects::{is_of_one_entry, pseudonyms};
use crate::text::Justification;
use crate::verify::{FindingKind, VerifyOptions};
use crate::{Entry, Error, ErrorKind, Kind, Query, Result};
use attestlog_proof::entry::Phase;
use std::collections::{BTreeMap, BTreeSet};

impl OpenStore {
    /// Reveals one sealed value. Before the value is returned, an entry records who asked for it and why.
    pub(crate) fn reveal(&self, seq: u64, path: &str, by: Justification<'_>) -> Result<Json> {
        self.reveal_opened(seq, path, by).map(|opened| opened.value)
    }

    /// As [`Privacy::reveal`](crate::groups::Privacy::reveal), with the salt that proves the value to others.
    pub(crate) fn reveal_opened(&self, seq: u64, path: &str, by: Justification<'_>) -> Result<Opened> {
        let place = Path::parse(path).map_err(Error::invalid)?;
        let (actor, reason) = (self.statement("actor", by.actor)?, self.statement("reason", by.reason)?);
        let sealed = sealed_at(&self.entry(seq)?, &place)?;
        let id = sealed_subject(&sealed).unwrap_or_default().to_owned();
        self.engine().with_writer(|engine, writer| {
            // Holds the writer lock, so that no erasure takes place between opening the value and recording the reveal.
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

    /// Destroys everything sealed about a data subject, irreversibly: its keys are removed, and the master key is replaced, so that
    /// the values in older copies of the store cannot be opened either, provided that no older copy of the key file exists.
    /// Entries, chain and proofs stay as they are.
    pub(crate) fn erase(&self, subject: &str, by: Justification<'_>) -> Result<Receipt> {
        let Justification { actor, reason } = by;
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
            // The lock keeps calls from using one of these keys until the commit.
            let mut known = engine.write.subjects.lock();
            let mut own = engine.subjects_of(&target.pseudonyms)?;
            own.extend(known.pending_of(&target.pseudonyms));
            let calls = self.calls_of(&target)?;
            let (gone, stays) = self.keys_to_destroy(&target, own, &calls)?;
            if gone.is_empty() {
                return Err(if stays.is_empty() { self.nothing_sealed(&target.pseudonyms) } else { shared(&stays) });
            }
            self.check_not_held(&gone, &calls)?;
            let mut staging = Staging::new(engine, writer)?;
            let newest = {
                let mut keys = engine.keys();
                let keys =
                    keys.as_mut().ok_or_else(|| Error::new(ErrorKind::Key, "the store's key file is not here"))?;
                keys.check_replaceable()?;
                let newest = keys.file.add_master_key(&mut |out| engine.config.random.fill(out))?;
                keys.save(engine).map_err(|e| e.at("nothing was erased"))?;
                newest
            };
            let mut detail = Object::from_iter([
                ("of", Json::from(target.facet.name())),
                ("subject", target.pseudonyms.first().map_or("", String::as_str).into()),
                ("key_ids", gone.clone().into()),
                ("actor", actor.into()),
                ("reason", reason.into()),
                ("master_key", newest.to_string().into()),
            ]);
            if !stays.is_empty() {
                detail.insert("stays", stays.into_iter().map(Json::from).collect::<Vec<_>>());
            }
            let mut running = Vec::new();
            for begun in calls.without_end() {
                if engine.snapshot()?.is_unfinished(begun)? {
                    running.push(Json::from(begun));
                }
            }
            if !running.is_empty() {
                detail.insert("running", running);
            }
            let receipt = staging.system_event(Kind::Erasure, detail, None)?;
            let committed = engine.commit(writer, staging, |txn| engine.rewrap(txn, newest, &gone).map(|_| ()));
            match committed {
                Ok(()) => known.destroy(&gone),
                Err(e) => {
                    // The commit may have reached the disk all the same, so keys must be read from the file again.
                    known.forget();
                    return Err(e);
                }
            }
            drop(known);
            engine.retire_masters(newest).map_err(|e| {
                let still = "only the old master key is still in the key file, until the store is opened again";
                recorded(receipt.seq, receipt.seq, still, e)
            })?;
            Ok(receipt)
        })
    }

    /// Fails if entries, or the keys that their sealed values name, are not as they were written.
    fn check_keys(&self) -> Result<()> {
        let findings = self.verify(&VerifyOptions::new())?.findings;
        let mut findings = findings.iter().filter(|finding| bears_on_keys(finding.kind));
        let Some(first) = findings.next() else { return Ok(()) };
        let more = match findings.count() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        Err(Error::damaged(format!(
            "nothing was erased: {first}{more}. It is no longer known whose values are sealed under which key; find out what else was changed (attestlog verify), and restore a backup"
        )))
    }

    /// All entries of the calls in which any entry names this person.
    fn calls_of(&self, target: &Target) -> Result<Calls> {
        let engine = self.engine();
        let chain_state = engine.chain_state();
        chain_state.check_confirmed()?;
        let (holds, aliases) = (&chain_state.holds, engine.aliases());
        let covering = |entry: &Entry| match holds.is_empty() {
            true => BTreeSet::new(),
            false => holds.covering_named(entry.seq, &entry.body, &aliases),
        };
        let mut calls = Calls::default();
        let of = target.pseudonyms.iter().chain([&target.clear]);
        let query = of.fold(of_calls(), |query, name| named(query, target.facet, name));
        for entry in self.query_held(&query)? {
            let entry = entry?;
            calls.add(&entry, covering(&entry));
        }
        let there = |seq: u64| match self.entry(seq) {
            Err(e) if e.kind() == ErrorKind::NoSuchEntry => Ok(None),
            other => other.map(Some),
        };
        let mut missing: Vec<u64> = calls.wholes.values().copied().collect();
        while let Some(seq) = missing.pop() {
            if calls.parts.contains_key(&seq) {
                continue;
            }
            if let Some(entry) = there(seq)? {
                calls.add(&entry, covering(&entry));
                missing.extend(calls.wholes.get(&seq));
            }
        }
        for begun in calls.without_end() {
            if engine.snapshot()?.is_unfinished(begun)? {
                continue;
            }
            let Some(entry) = there(begun)? else { continue };
            let Some(call) = entry.call() else { continue };
            let query = of_calls().conversation(&call.conversation_id).tool(&call.tool_name).after(begun);
            for entry in self.query_held(&query)? {
                let entry = entry?;
                if entry.call().is_some_and(|call| call.phase == Phase::Finished(begun)) {
                    calls.add(&entry, covering(&entry));
                    break;
                }
            }
        }
        // An addition to a call comes after the call.
        for (part, whole) in self.additions()? {
            if calls.parts.contains_key(&whole)
                && !calls.parts.contains_key(&part)
                && let Some(entry) = there(part)?
            {
                calls.add(&entry, covering(&entry));
            }
        }
        Ok(calls)
    }

    /// The keys to destroy, sorted: this person's `own`, and those that seal other entries of the person's calls and nothing else.
    /// Also the entries that stay open, because their keys are needed for other calls.
    fn keys_to_destroy(
        &self,
        target: &Target,
        own: Vec<String>,
        calls: &Calls,
    ) -> Result<(Vec<String>, BTreeSet<u64>)> {
        let own: BTreeSet<String> = own.into_iter().collect();
        let (mut gone, mut shared, mut stays) = (own.clone(), BTreeSet::new(), BTreeSet::new());
        // Values sealed about the patients in a user's calls are not about the user.
        let others = calls.parts.iter().filter(|_| target.facet == IdentityKind::Patient);
        for (seq, part) in others {
            for key in part.keys.difference(&own) {
                if !gone.contains(key) && !shared.contains(key) {
                    let Some((row, _)) = self.engine().subject_key(key)? else { continue };
                    match is_of_one_entry(&row.members) || !self.is_needed(key, part, calls)? {
                        true => gone.insert(key.clone()),
                        false => shared.insert(key.clone()),
                    };
                }
                if shared.contains(key) {
                    stays.insert(*seq);
                }
            }
        }
        Ok((gone.into_iter().collect(), stays))
    }

    /// Whether a key also seals values of calls other than these.
    fn is_needed(&self, key: &String, part: &Part, calls: &Calls) -> Result<bool> {
        for entry in self.query_held(&named(of_calls(), part.subject.0, &part.subject.1))? {
            let entry = entry?;
            let seals = entry.call().is_some_and(|call| call.sealed_under().contains(key));
            if seals && !calls.parts.contains_key(&entry.seq) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fails if a hold covers an entry of a call in which these keys seal values.
    fn check_not_held(&self, keys: &[String], calls: &Calls) -> Result<()> {
        let mut covering: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (seq, part) in calls.parts.iter().filter(|(_, part)| !part.covering.is_empty()) {
            covering.entry(calls.first(*seq)).or_default().extend(&part.covering);
        }
        let (mut holds, mut entries) = (BTreeSet::new(), 0u64);
        let doomed = |part: &Part| keys.iter().any(|key| part.keys.contains(key));
        for seq in calls.parts.iter().filter(|(_, part)| doomed(part)).map(|(seq, _)| *seq) {
            if let Some(covering) = covering.get(&calls.first(seq)) {
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
                "values of {} that hold {} keeps would be destroyed; nothing was. Release the hold first, or wait until it is \
                 released",
                if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") },
                named.join(" and hold ")
            ),
        ))
    }

    /// Whether anything is sealed about a person, or in a call that concerns the person.
    fn has_sealed(&self, target: &Target) -> Result<bool> {
        let pending = self.engine().write.subjects.lock().pending_of(&target.pseudonyms);
        let own = self.engine().subjects_of(&target.pseudonyms)?;
        if !pending.is_empty() || !own.is_empty() || target.facet != IdentityKind::Patient {
            return Ok(!pending.is_empty() || !own.is_empty());
        }
        let (gone, stays) = self.keys_to_destroy(target, own, &self.calls_of(target)?)?;
        Ok(!gone.is_empty() || !stays.is_empty())
    }

    /// Finds the person whom a clear name refers to.
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
            if self.has_sealed(target)? {
                found.push(target);
            }
        }
        match found[..] {
            [one] => Ok(one.clone()),
            // The same pseudonyms mean the same keys, whether as patient or as user.
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

    /// An actor's or a reason's text, after redaction by the policy.
    fn statement(&self, what: &str, text: &str) -> Result<String> {
        check_said(what, text)?;
        self.engine().clean(text.trim())
    }

    /// The error for a sealed value whose key does not exist.
    fn gone(&self, seq: u64, path: &Path, id: &str) -> Error {
        match self.erasure(|detail| lists(detail, "key_ids", id)) {
            Ok(Some(by)) => {
                let message = format!("{path} of entry {seq} was erased by entry {by}; it cannot be recovered");
                Error::new(ErrorKind::NoSuchEntry, message)
            }
            Ok(None) => Error::damaged(format!(
                "{path} of entry {seq} is sealed under the key {id}, which is missing although no entry says that it was \
                 erased; restore a backup"
            )),
            Err(e) => e,
        }
    }

    /// The error if there is nothing to erase. It does not contain the name.
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

    /// The newest erasure whose details match.
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

/// Whether a finding leaves it uncertain which values are sealed, or under which keys. Findings about data derived from the entries
/// do not: wrong statistics are no reason to refuse an erasure.
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

/// Refuses an empty text.
fn check_said(what: &str, text: &str) -> Result<()> {
    match text.trim() {
        "" => Err(Error::invalid(format!("{what}: must not be empty"))),
        _ => Ok(()),
    }
}

/// The person whose values are to be destroyed.
#[derive(Debug, Clone)]
struct Target {
    facet: IdentityKind,
    clear: String,
    /// One per live key, newest first.
    pseudonyms: Vec<String>,
}

impl Target {
    /// Replaces the subject's name in a text by the pseudonym.
    fn rename(&self, text: &str) -> String {
        let pseudonym = self.pseudonyms.first().cloned().unwrap_or_default();
        let names = crate::store::write::names::Names::new([(self.facet, self.clear.clone(), pseudonym)]);
        names.replaced(text).unwrap_or_else(|| text.to_owned())
    }
}

/// The entries of calls, and which of them belong together.
#[derive(Debug, Default)]
struct Calls {
    parts: BTreeMap<u64, Part>,
    /// For an entry that ends or adds to a call: the entry that it belongs to.
    wholes: BTreeMap<u64, u64>,
}

/// What an erasure needs to know about one entry of a call.
#[derive(Debug)]
struct Part {
    /// The keys that seal its values.
    keys: BTreeSet<String>,
    /// The holds that cover it.
    covering: BTreeSet<u64>,
    /// One of the persons whom the entry concerns, as the entry names them.
    subject: (IdentityKind, String),
    is_begun: bool,
}

impl Calls {
    fn add(&mut self, entry: &Entry, covering: BTreeSet<u64>) {
        let Some(call) = entry.call() else { return };
        let subject = match call.patient_ids.first() {
            Some(patient) => (IdentityKind::Patient, patient.clone()),
            None => (IdentityKind::User, call.user_id.clone()),
        };
        let part = Part { keys: call.sealed_under(), covering, subject, is_begun: call.phase == Phase::Begun };
        self.parts.insert(entry.seq, part);
        self.wholes.extend(call.part_of().map(|whole| (entry.seq, whole)));
    }

    /// The calls that were begun and whose end is not among the entries.
    fn without_end(&self) -> Vec<u64> {
        let ended: BTreeSet<u64> = self.wholes.values().copied().collect();
        let begun = self.parts.iter().filter(|(seq, part)| part.is_begun && !ended.contains(seq));
        begun.map(|(seq, _)| *seq).collect()
    }

    /// The first entry of the call that this one is part of.
    fn first(&self, seq: u64) -> u64 {
        let mut at = seq;
        // An entry belongs to an earlier one.
        while let Some(before) = self.wholes.get(&at).copied().filter(|before| *before < at) {
            at = before;
        }
        at
    }
}

/// A query for the entries of calls.
fn of_calls() -> Query {
    Query::new().kind(Kind::ToolCall).kind(Kind::CallBegun).kind(Kind::CallDetail)
}

fn named(query: Query, facet: IdentityKind, name: &str) -> Query {
    match facet {
        IdentityKind::Patient => query.patient(name),
        _ => query.user(name),
    }
}

/// The error if nothing about a person can be destroyed without destroying values about others.
fn shared(stays: &BTreeSet<u64>) -> Error {
    let seqs: Vec<String> = stays.iter().map(u64::to_string).collect();
    Error::new(
        ErrorKind::Conflict,
        format!(
            "nothing is sealed about this subject alone. What entries {} of the same calls seal stays, because its keys also seal \
             values about others; erase those people too to destroy it",
            seqs.join(", ")
        ),
    )
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
        entry.call().ok_or_else(|| Error::invalid(format!("entry {seq} is not a call, so nothing of it is sealed")))?;
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
    let Some(value) = path.find(&whole) else {
        let mut sealed = Vec::new();
        sealed_below(&whole, &Path::root(), &mut sealed);
        return Err(match sealed.is_empty() {
            true => nothing(),
            false => Error::new(ErrorKind::NoSuchEntry, format!("{}; sealed are {}", nothing(), sealed.join(", "))),
        });
    };
    match sealed_subject(value) {
        Some(_) => Ok(value.clone()),
        None => Err(Error::invalid(format!("{path} of entry {seq} is not sealed; the entry shows what is kept of it"))),
    }
}

/// The most paths of sealed values that a message names.
const MAX_NAMED: usize = 20;

/// Adds the paths of the sealed values in `value`, which is at `at`.
fn sealed_below(value: &Json, at: &Path, all: &mut Vec<String>) {
    if all.len() >= MAX_NAMED {
        return;
    }
    match value {
        _ if sealed_subject(value).is_some() => all.push(at.to_string()),
        Json::Object(members) => members.iter().for_each(|(key, value)| sealed_below(value, &at.key(key), all)),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| sealed_below(item, &at.index(i), all));
        }
        _ => {}
    }
}
