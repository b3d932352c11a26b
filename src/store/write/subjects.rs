//! The keys of data subjects: created when something about a person is first sealed, destroyed when that person is erased.
//!
//! Invariant U1: a subject's key is on the disk no later than the first entry sealed under it; both are in one commit.
//! Invariant U2: a subject has at most one key at a time, whichever threads ask; a destroyed key never comes back, not even
//! with an entry that was in preparation when it was destroyed. Invariant U3: every row is wrapped under a master key that
//! the key file on the disk holds, or under one that, by the entry of a restore, no longer existed at that time; an old
//! master key is destroyed only when no row needs it any more, and not while a row names any other key. Invariant U5: the
//! subjects of a key are bound into its wrapping, and checked before anything is sealed under it or destroyed because of it:
//! an attacker with write access to the file cannot have one person's values destroyed in place of another's, or keep them
//! from being destroyed.
//!
//! Invariant R91: a call that was begun before a person in it was erased seals nothing about that person that could be opened
//! later. Its end is sealed under a key that nobody keeps, with the id of one that the erasure destroyed, so that revealing it
//! names the erasure.
//!
//! A subject is found by its pseudonyms under the live pseudonym keys, so without the key file nobody learns whose key a row
//! holds. A call may concern several people. Its sealed values are sealed under one key of all of them together, which is
//! destroyed when one of them is erased: nobody can tell whose value it was, so it must not outlive any of them. An entry
//! after which its call may name further people (a beginning, a call without an answer) gets a key of its own, which can be
//! destroyed for these people without loss to others.

use crate::hash::to_hex;
use crate::keys::KeyId;
use crate::redact::{IdentityKind, MasterKey, Sanitizer, SubjectKey, SubjectKeys, is_pseudonym};
use crate::store::engine::Engine;
use crate::store::engine::subject_keys::{NewSubject, Row, concerns};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::open_table::ReadTable;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables::{SUBJECT_TAGS, SUBJECTS};
use crate::store::read::snapshot::Snapshot;
use crate::store::write::subject_rows::tag;
use crate::{Error, ErrorKind, Result, codec};
use redb::{ReadableTable, WriteTransaction};
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// What is wrong with the rows of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flaw {
    /// The key, or its subjects.
    Row(&'static str),
    /// The tags by which it is found; they decide only under which key the next value is sealed.
    Tag(&'static str),
}

/// The members of these people's common key under each live pseudonym key, newest first.
fn spellings(sanitizer: &Sanitizer, facet: IdentityKind, clear: &[String]) -> Vec<Vec<String>> {
    let under_all = |name: &String| sanitizer.pseudonyms_of(facet.field(), name);
    let each: Vec<Vec<String>> = clear.iter().map(under_all).collect();
    let keys = each.iter().map(Vec::len).max().unwrap_or_default();
    let under = |i: usize| {
        let mut members: Vec<String> = each.iter().filter_map(|p| p.get(i).cloned()).collect();
        members.sort_unstable();
        members.dedup();
        members
    };
    (0..keys).map(under).collect()
}

/// The pseudonyms of a name under each live key, newest first.
pub(crate) fn pseudonyms(sanitizer: &Sanitizer, facet: IdentityKind, clear: &str) -> Vec<String> {
    sanitizer.lookup(facet, clear).into_iter().filter(|p| is_pseudonym(p)).collect()
}

/// Provides one call with the key of its subject, on first use.
pub(crate) struct CallKeys<'a> {
    engine: &'a Engine,
    sanitizer: &'a Sanitizer,
    facet: IdentityKind,
    clear: &'a [String],
    /// Whether the call may come to concern other people.
    is_open: bool,
    /// The id of a destroyed key, if what this entry belongs to was erased meanwhile (R91).
    erased: Option<String>,
    found: Option<NewSubject>,
    fresh: bool,
}

/// With what the member begins by which a key belongs to one entry alone; no pseudonym does.
const ALONE: &str = "entry ";

/// Whether a key with these members seals the values of one entry alone.
pub(crate) fn is_of_one_entry(members: &[String]) -> bool {
    members.iter().any(|member| member.starts_with(ALONE))
}

impl<'a> CallKeys<'a> {
    /// The keys for an entry that concerns these patients, or the user if there are none; `is_open` if what is recorded of the
    /// call later may name further people.
    pub(crate) fn new(
        engine: &'a Engine,
        sanitizer: &'a Sanitizer,
        (patients, user): (&'a [String], &'a String),
        is_open: bool,
    ) -> CallKeys<'a> {
        let (facet, clear) = match patients {
            [] => (IdentityKind::User, std::slice::from_ref(user)),
            patients => (IdentityKind::Patient, patients),
        };
        CallKeys { engine, sanitizer, facet, clear, is_open, erased: None, found: None, fresh: false }
    }

    /// The same for an entry that belongs to the call at `first`: if the person was erased since, nothing is sealed so that it
    /// could be opened.
    pub(crate) fn continuing(mut self, first: Option<u64>) -> Result<CallKeys<'a>> {
        self.erased = first.map(|first| self.erasure_of(first)).transpose()?.flatten();
        Ok(self)
    }

    /// The id of a key that an erasure destroyed: one under which the entry at `first` is sealed, or one of a person whom this
    /// entry or that one concerns and who was erased after it. Details need not name the patients of their call.
    fn erasure_of(&self, first: u64) -> Result<Option<String>> {
        let chain_state = self.engine.chain_state();
        if chain_state.erasures.is_empty() {
            return Ok(None);
        }
        let stored = self.engine.stored()?;
        let before = if first < stored.state.size { stored.checked(first)? } else { None };
        let before = before.as_ref().and_then(|entry| entry.call());
        let keys = before.map(|call| call.sealed_under()).unwrap_or_default();
        let named = self.clear.iter().map(|name| (self.facet, name));
        let patients = before.into_iter().flat_map(|call| &call.patient_ids).map(|id| (IdentityKind::Patient, id));
        let people: BTreeSet<(&str, String)> = named
            .chain(patients)
            .flat_map(|(facet, name)| {
                let forms = match is_pseudonym(name) {
                    true => self.sanitizer.forms(name),
                    false => pseudonyms(self.sanitizer, facet, name),
                };
                forms.into_iter().map(move |form| (facet.name(), form))
            })
            .collect();
        Ok(chain_state.erasures.iter().find_map(|(seq, erasure)| {
            let is_whose = *seq > first && people.contains(&(&*erasure.of, erasure.subject.clone()));
            match is_whose {
                true => erasure.keys.first().cloned(),
                false => erasure.keys.intersection(&keys).next().cloned(),
            }
        }))
    }

    /// The key that must be committed with the call, if it is new.
    pub(crate) fn into_fresh(self) -> Option<NewSubject> {
        self.found.filter(|_| self.fresh)
    }
}

impl SubjectKeys for CallKeys<'_> {
    fn key_for(&mut self, _: &str) -> Result<(String, SubjectKey)> {
        if let (None, Some(id)) = (&self.found, &self.erased) {
            let mut random = |out: &mut [u8]| {
                self.engine.config.random.fill(out);
                Ok(())
            };
            let key = SubjectKey::generate(&mut random)?;
            self.found = Some(NewSubject { id: id.clone(), key, members: Vec::new() });
        }
        if self.found.is_none() {
            let mut spellings = spellings(self.sanitizer, self.facet, self.clear);
            if self.is_open {
                let mut id = [0; 16];
                self.engine.config.random.fill(&mut id);
                // Sorts before every pseudonym.
                spellings.iter_mut().for_each(|members| members.insert(0, format!("{ALONE}{}", to_hex(&id))));
            }
            let (subject, durable) = guarded(|| self.engine.subject(&spellings))?;
            (self.found, self.fresh) = (Some(subject), !durable);
        }
        let found = self.found.as_ref().ok_or_else(no_keys)?;
        Ok((found.id.clone(), found.key.clone()))
    }
}

fn no_keys() -> Error {
    Error::new(ErrorKind::Key, "the store's key file is not here, and sealed values need it; bring it back")
}

fn changed(id: &str) -> Error {
    Error::damaged(format!(
        "the key {id} of sealed values, its owners or the master key that it names were changed in the file (or the key file is \
         an older copy): nothing is shown or destroyed with it; find out what else was changed (attestlog verify), and restore a backup"
    ))
}

impl Engine {
    /// The key of the subjects with these pseudonyms, created if there is none, and whether it is on the disk already.
    pub(crate) fn subject(&self, spellings: &[Vec<String>]) -> Result<(NewSubject, bool)> {
        let newest = spellings.first().filter(|members| !members.is_empty()).ok_or_else(no_keys)?;
        // Held until the key is in the cache, so that two threads never create two.
        let mut known = self.write.subjects.lock();
        let tags: Vec<String> = spellings.iter().map(|members| tag(members)).collect();
        if let Some(cached) = tags.iter().find_map(|tag| known.keys.get(tag)) {
            return Ok((cached.subject.clone(), cached.durable));
        }
        let mut row = None;
        // A tag that leads to a key of other subjects is ignored; verification reports it.
        {
            let txn = self.database()?.get()?.begin_read()?;
            let table = ReadTable::open(&txn, SUBJECT_TAGS)?;
            for tag in &tags {
                if let Some(id) = table.get(tag.as_str()).stored()? {
                    row = Some((tag, id.value().to_owned()));
                    break;
                }
            }
        }
        let found = match &row {
            Some((found, id)) => match self.subject_key(id) {
                // A store that was restored from before an erasure: the master key no longer exists. What was sealed then
                // stays sealed, and what is sealed from now on needs another key. The same if the row was changed.
                Err(e) if matches!(e.kind(), ErrorKind::Key | ErrorKind::Damaged) => None,
                other => other?.filter(|(row, _)| tag(&row.members) == **found),
            },
            None => None,
        };
        let (subject, durable) = match row.zip(found) {
            Some(((_, id), (row, key))) => (NewSubject { id, key, members: row.members }, true),
            None => {
                let mut random = |out: &mut [u8]| {
                    self.config.random.fill(out);
                    Ok(())
                };
                let mut id = [0; 16];
                random(&mut id)?;
                let key = SubjectKey::generate(&mut random)?;
                (NewSubject { id: to_hex(&id), key, members: newest.clone() }, false)
            }
        };
        known.remember(tags.into_iter().next().unwrap_or_default(), subject.clone(), durable);
        Ok((subject, durable))
    }

    /// The row and the unwrapped key with this id; `None` if there is none.
    pub(crate) fn subject_key(&self, id: &str) -> Result<Option<(Row, SubjectKey)>> {
        let txn = self.database()?.get()?.begin_read()?;
        let Some(row) = ReadTable::open(&txn, SUBJECTS)?.bytes(id)? else {
            return Ok(None);
        };
        let row: Row = codec::decode(&row)?;
        let keys = self.keys();
        let keys = keys.as_ref().ok_or_else(no_keys)?;
        let master = keys.file.master_key(KeyId(row.master)).ok_or_else(|| {
            let message = format!(
                "the key {id} names the master key {}, which this key file does not hold. Each erasure replaces the master key, so in a \
                 store that was restored from before one, what was sealed until then stays sealed for good. Otherwise this is an \
                 older copy of the store or of its key file (bring back the file that is older), or the row was changed in the \
                 file (`attestlog verify` tells, with the present key file; restore a backup)",
                KeyId(row.master)
            );
            Error::new(ErrorKind::Key, message)
        })?;
        let key = SubjectKey::unwrap(&row.wrapped, &MasterKey::new(*master.bytes()), id, &row.members);
        let key = key.map_err(|_| changed(id))?;
        Ok(Some((row, key)))
    }

    /// The rows for keys that the next commit writes. They are wrapped only here, under the writer lock: between preparing a
    /// call and recording it, the master key may have been replaced or the subject erased.
    pub(crate) fn wrap_subjects(&self, fresh: Vec<NewSubject>) -> Result<Vec<(String, Row)>> {
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let destroyed = self.write.subjects.lock();
        let fresh: Vec<NewSubject> = fresh.into_iter().filter(|s| !destroyed.destroyed.contains(&s.id)).collect();
        drop(destroyed);
        let keys = self.keys();
        let master = keys.as_ref().and_then(|keys| keys.file.master_key(keys.master)).ok_or_else(no_keys)?;
        let (id, master) = (master.id().0, MasterKey::new(*master.bytes()));
        let wrap = |subject: NewSubject| {
            let wrapped = subject.key.wrap(&master, &subject.id, &subject.members, &mut |out| {
                self.config.random.fill(out);
                Ok(())
            })?;
            Ok((subject.id, Row { members: subject.members, master: id, wrapped }))
        };
        fresh.into_iter().map(wrap).collect()
    }

    /// Whether rows must be wrapped again because an erasure was interrupted.
    pub(crate) fn masters_unsettled(&self) -> bool {
        self.keys().as_ref().is_some_and(|keys| keys.file.master_keys().nth(1).is_some())
    }

    /// Completes an interrupted erasure: wraps every key under the newest master key, then destroys the others. The caller
    /// holds the writer lock.
    pub(crate) fn settle_masters(&self, writer: &mut WriterState) -> Result<()> {
        if !self.masters_unsettled() {
            return Ok(());
        }
        self.check_subjects()?;
        // An older copy of the store must not decide which master key is destroyed: the newest copy still needs them.
        // Creating a staging checks that.
        crate::store::write::staging::Staging::new(self, writer)?;
        let newest = {
            let mut keys = self.keys();
            let keys = keys.as_mut().ok_or_else(no_keys)?;
            keys.check_replaceable()?;
            // It may exist only in memory, if saving it failed.
            keys.save(self)?;
            keys.file.master_keys().next().map(|key| key.id()).ok_or_else(no_keys)?
        };
        let armed = writer.arm();
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        self.rewrap(&txn, newest, &[])?;
        txn.commit().stored()?;
        armed.disarm();
        self.retire_masters(newest)
    }

    /// Destroys all master keys but the newest. Every row must be wrapped under that one.
    pub(crate) fn retire_masters(&self, newest: KeyId) -> Result<()> {
        let mut keys = self.keys();
        let keys = keys.as_mut().ok_or_else(no_keys)?;
        keys.master = newest;
        keys.file.retire_master_keys();
        keys.save(self)
    }

    /// Deletes the rows with these ids and wraps the others under another master key. Returns how many were wrapped.
    pub(crate) fn rewrap(&self, txn: &WriteTransaction, newest: KeyId, gone: &[String]) -> Result<u64> {
        self.note(|changes| changes.any = true);
        let keys = self.keys();
        let file = &keys.as_ref().ok_or_else(no_keys)?.file;
        let master = file.master_key(newest).ok_or_else(no_keys)?;
        let master = MasterKey::new(*master.bytes());
        let mut subjects = txn.open_table(SUBJECTS).stored()?;
        let mut tags = txn.open_table(SUBJECT_TAGS).stored()?;
        for id in gone {
            let Some(row) = subjects.remove(id.as_str()).stored()?.map(|row| row.value().to_vec()) else { continue };
            tags.remove(tag(&codec::decode::<Row>(&row)?.members).as_str()).stored()?;
        }
        let mut wrapped = 0;
        // Rows change during the walk, so the walk proceeds by key.
        let mut at = String::new();
        loop {
            let Some((id, row)) = next_row(&subjects, &at)? else { return Ok(wrapped) };
            let mut row: Row = codec::decode(&row)?;
            if row.master != newest.0 {
                let Some(old) = file.master_key(KeyId(row.master)) else {
                    // A key whose master key no longer existed when the log was restored is already lost; its row is left as
                    // it is.
                    if !self.is_gone(row.master) {
                        return Err(changed(&id));
                    }
                    at = id;
                    at.push('\0');
                    continue;
                };
                let key = SubjectKey::unwrap(&row.wrapped, &MasterKey::new(*old.bytes()), &id, &row.members);
                let key = key.map_err(|_| changed(&id))?;
                row.wrapped = key.wrap(&master, &id, &row.members, &mut |out| {
                    self.config.random.fill(out);
                    Ok(())
                })?;
                row.master = newest.0;
                subjects.insert(id.as_str(), &*codec::encode(&row)?).stored()?;
                wrapped += 1;
            }
            at = id;
            at.push('\0');
        }
    }

    /// Calls `see` with the id of each stored key and what is wrong with its row: it cannot be decoded, it is not found by its
    /// subjects, or (if the key file is available) its master key does not open it.
    pub(crate) fn scan_subjects(&self, snapshot: &Snapshot, see: &mut dyn FnMut(&str, Option<Flaw>)) -> Result<()> {
        let subjects = snapshot.table(SUBJECTS)?;
        let tags = snapshot.table(SUBJECT_TAGS)?;
        for row in subjects.range::<&str>(..).stored()? {
            let (id, row) = row.stored()?;
            let id = id.value();
            let Ok(row) = codec::decode::<Row>(row.value()) else {
                see(id, Some(Flaw::Row("its row cannot be read")));
                continue;
            };
            let found = tags.get(tag(&row.members).as_str()).stored()?.is_some_and(|by| by.value() == id);
            let opens = self.keys().as_ref().is_none_or(|keys| match keys.file.master_key(KeyId(row.master)) {
                Some(master) => {
                    SubjectKey::unwrap(&row.wrapped, &MasterKey::new(*master.bytes()), id, &row.members).is_ok()
                }
                // Erased since the copy was made.
                None => self.config.settings.is_copy,
            });
            // No lock is held here, so an erasure may have rewrapped the row since the snapshot was taken.
            let lost = self.is_gone(row.master);
            let opens = opens || lost || self.is_rewrapped(id, &row)?;
            see(
                id,
                match (found, opens) {
                    (_, false) => Some(Flaw::Row(
                        "it, its owners, or the master key that it names are not as they were written: no master key in the key file opens it",
                    )),
                    // Newer values about these subjects are sealed under another key, which their tags lead to.
                    (false, _) if !lost => Some(Flaw::Tag("the look-up of its owners does not find it")),
                    _ => None,
                },
            );
        }
        for row in tags.range::<&str>(..).stored()? {
            let (by, id) = row.stored()?;
            let row = subjects.bytes(id.value())?.and_then(|row| codec::decode::<Row>(&row).ok());
            let found = |own: &str| tags.get(own).stored().ok().flatten().is_some_and(|to| to.value() == id.value());
            // A missing row, or one not found by its own subjects, is reported elsewhere.
            if row.map(|row| tag(&row.members)).is_some_and(|own| own != by.value() && found(&own)) {
                see(id.value(), Some(Flaw::Tag("the look-up of somebody else finds it")));
            }
        }
        Ok(())
    }

    /// To be called before anything is destroyed: the subjects of each key must be those that were written, or keys of others
    /// would be destroyed and those of the intended subject would remain.
    pub(crate) fn check_subjects(&self) -> Result<()> {
        if self.keys().is_none() {
            return Ok(());
        }
        let txn = self.database()?.get()?.begin_read()?;
        let table = ReadTable::open(&txn, SUBJECTS)?;
        let keys = self.keys();
        let file = &keys.as_ref().ok_or_else(no_keys)?.file;
        for row in table.range::<&str>(..).stored()? {
            let (id, row) = row.stored()?;
            let row: Row = codec::decode(row.value())?;
            let Some(master) = file.master_key(KeyId(row.master)) else {
                if self.is_gone(row.master) {
                    continue;
                }
                return Err(changed(id.value()));
            };
            let master = MasterKey::new(*master.bytes());
            SubjectKey::unwrap(&row.wrapped, &master, id.value(), &row.members).map_err(|_| changed(id.value()))?;
        }
        Ok(())
    }

    /// Whether a signed entry says that this master key no longer existed when the log was restored from a copy.
    fn is_gone(&self, master: [u8; 4]) -> bool {
        let signed = self.read.published.read().unwrap_or_else(PoisonError::into_inner).signed;
        let id = KeyId(master).to_string();
        self.chain_state().masters_gone.iter().any(|(seq, gone)| *seq < signed && *gone == id)
    }

    /// Whether a row has changed or disappeared since it was read. The master key that it names was in the key file as long
    /// as the row existed.
    fn is_rewrapped(&self, id: &str, row: &Row) -> Result<bool> {
        let txn = self.database()?.get()?.begin_read()?;
        let now = ReadTable::open(&txn, SUBJECTS)?.bytes(id)?;
        Ok(now.is_none_or(|now| codec::decode::<Row>(&now).ok().as_ref() != Some(row)))
    }

    /// The master keys that rows name but the key file, if available, does not hold.
    pub(crate) fn masters_missing(&self) -> Result<BTreeSet<String>> {
        let txn = self.database()?.get()?.begin_read()?;
        let table = ReadTable::open(&txn, SUBJECTS)?;
        let keys = self.keys();
        let Some(keys) = keys.as_ref() else { return Ok(BTreeSet::new()) };
        let mut missing = BTreeSet::new();
        for row in table.range::<&str>(..).stored()? {
            let master = KeyId(codec::decode::<Row>(row.stored()?.1.value())?.master);
            if keys.file.master_key(master).is_none() {
                missing.insert(master.to_string());
            }
        }
        Ok(missing)
    }

    /// The ids of keys that belong to a subject with one of these pseudonyms, alone or with others.
    pub(crate) fn subjects_of(&self, pseudonyms: &[String]) -> Result<Vec<String>> {
        guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            let table = ReadTable::open(&txn, SUBJECTS)?;
            let mut found = Vec::new();
            for row in table.range::<&str>(..).stored()? {
                let (id, row) = row.stored()?;
                if concerns(&codec::decode::<Row>(row.value())?.members, pseudonyms) {
                    found.push(id.value().to_owned());
                }
            }
            Ok(found)
        })
    }
}

/// The first row at or after this id.
fn next_row(table: &impl ReadableTable<&'static str, &'static [u8]>, at: &str) -> Result<Option<(String, Vec<u8>)>> {
    let Some(row) = table.range::<&str>(at..).stored()?.next() else { return Ok(None) };
    let (id, row) = row.stored()?;
    Ok(Some((id.value().to_owned(), row.value().to_vec())))
}
