//! Uses of an open store's keys: signing checkpoints, rotating keys, refusing to record without them.

use crate::chain_state::ChainState;
use crate::json::{Json, Object};
use crate::keys::Settled;
use crate::note::SignedCheckpoint;
use crate::policy::KeyPolicy;
use crate::store::engine::Engine;
use crate::store::engine::keyring::{Keyring, pseudonym_key_event};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::open_table::ReadTable;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::series::{SERIES_KEY, Series};
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Hash, Kind, Result, Timestamp};
use std::sync::PoisonError;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

impl Keyring {
    pub(crate) fn save(&mut self, engine: &Engine) -> Result<()> {
        if engine.is_reading() {
            return Ok(());
        }
        match &self.path {
            Some(path) => {
                if let Some(store) = engine.config.source.path() {
                    self.file.set_used_by(path, store);
                }
                self.file.save_own(path, &mut |out| engine.config.random.fill(out))?;
            }
            None => match &self.vault {
                Some(vault) if vault.is_replaceable() => {
                    self.file.in_no_file();
                    let text = self.file.text_within(vault.capacity(), &mut |out| engine.config.random.fill(out))?;
                    vault.store(text.as_bytes())?;
                }
                // In memory, like the store.
                None => {}
                Some(_) => return Ok(()),
            },
        }
        self.kept = self.file.mark();
        Ok(())
    }

    /// Checks that these are the keys of this store, at its current epoch: a rotation whose commit failed, in this process or
    /// before a crash, is completed or undone according to the store.
    pub(crate) fn check(&mut self, engine: &Engine, chain_state: &ChainState, size: u64) -> Result<()> {
        self.check_log(chain_state)?;
        self.check_newest(chain_state)?;
        if let Some(epoch) = chain_state.succession.as_ref().map(|s| s.current()) {
            let root_at = |size| engine.root_at(size);
            let settled = self.file.settle_rotation(epoch.number(), epoch.key().public(), size, &root_at)?;
            if settled != Settled::Unchanged {
                self.save(engine)?;
            }
        }
        Ok(())
    }
}

fn missing() -> Error {
    Error::new(
        ErrorKind::Key,
        "the store's key file is missing, so nothing can be recorded: put it back, or name it with --key. If it must not lie here, record \
         through a process that has it (`attestlog serve`). --unsigned (Options::unsigned) records calls without it, and the log says so",
    )
}

impl Engine {
    /// `KEY-ID:HMAC` of an entire result under the digest key, if the store has one.
    pub(crate) fn digest(&self, whole: &[u8]) -> Option<String> {
        self.keys().as_ref()?.digest(whole)
    }

    pub(crate) fn keys(&self) -> std::sync::MutexGuard<'_, Option<Keyring>> {
        self.write.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the available keys allow recording; records in the chain if recording continues without keys.
    pub(crate) fn check_keys(&self, staging: &mut Staging<'_>, writer: &WriterState) -> Result<()> {
        if let Some(stray) = &self.config.stray {
            return Err(Error::new(ErrorKind::Key, stray.clone()));
        }
        let chain_state = self.chain_state();
        // The store is being created.
        let Some(genesis) = &chain_state.genesis else { return Ok(()) };
        if let Some(keys) = &mut *self.keys() {
            keys.check_history(writer.state.size, &|size| self.root_at(size)).map_err(|e| self.explained(e))?;
            keys.check_kept(writer.state.size)?;
        }
        match (&*self.keys(), &genesis.keys) {
            (None, None) => Ok(()),
            (Some(_), _) => {
                // After a crash in a rotation, for instance: readers of the log must know of every key before it is used, or
                // a completeness proof could omit what was recorded under this one.
                let policies = self.policies();
                let used = policies.sanitizer.iter().flat_map(|s| s.pseudonym_keys());
                for id in used.filter(|id| !chain_state.pseudonym_keys.contains(*id)) {
                    staging.system_event(Kind::Key, pseudonym_key_event(id), None)?;
                }
                Ok(())
            }
            (None, Some(_)) if !self.config.settings.unsigned => Err(missing()),
            (None, Some(_)) if writer.unsigned_said => Ok(()),
            (None, Some(_)) => {
                let detail = Object::from_iter([("event", Json::from("opened_without_key"))]);
                staging.system_event(Kind::Key, detail, None).map(|_| staging.unsigned_said = true)
            }
        }
    }

    /// Adds to the error that the key file knows another history what to do if a restore without the key file made it.
    fn explained(&self, e: Error) -> Error {
        match self.chain_state().restored_without_keys().filter(|_| e.kind() == ErrorKind::OtherHistory) {
            Some(to_do) => Error::new(e.kind(), format!("{e}; {to_do}")).with_source(e),
            None => e,
        }
    }

    /// Refuses if keys that recording needs are missing, or are no longer where they were.
    pub(crate) fn check_keys_there(&self) -> Result<()> {
        if let Some(stray) = &self.config.stray {
            return Err(Error::new(ErrorKind::Key, stray.clone()));
        }
        let signed = self.chain_state().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some());
        match &mut *self.keys() {
            None if signed && !self.config.settings.unsigned => Err(missing()),
            None => Ok(()),
            Some(keys) if keys.path.is_some() => keys.file.check_on_disk(),
            Some(_) => Ok(()),
        }
    }

    /// How the store differs from what the available keys have signed, if it does.
    pub(crate) fn key_conflict(&self, size: u64) -> Option<String> {
        let mut keys = self.keys();
        let conflict =
            |keys: &mut Keyring| keys.check_history(size, &|size| self.root_at(size)).err().map(|e| self.explained(e));
        let conflict = keys.as_mut().and_then(conflict).map(|e| e.to_string());
        self.config.stray.clone().or(conflict)
    }

    /// Signs the current state of the store. The caller holds the writer lock. Where the keys are there and cannot be saved, the
    /// error is that everything is recorded and only the signature is missing (R86).
    pub(crate) fn sign(&self, writer: &mut WriterState) -> Result<SignedCheckpoint> {
        self.sign_bare(writer).map_err(|e| match writer.state.size.checked_sub(1) {
            Some(newest) if writer.state.signed <= newest && self.keys().is_some() => recorded(
                writer.state.signed,
                newest,
                "only the signature is missing, which the next checkpoint brings",
                e,
            ),
            _ => e,
        })
    }

    /// Returns when a checkpoint covers the entry with this seq, or the newest entry if there are fewer (R100). Those that wait at
    /// the same time share one. Without keys nothing can be signed, which is an error unless the store was opened so.
    #[cfg(feature = "owner")]
    pub(crate) fn sign_through(&self, newest: u64) -> Result<()> {
        let covered = |size: u64, signed: u64| signed >= newest.saturating_add(1).min(size);
        {
            let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
            if covered(published.size, published.signed) {
                return Ok(());
            }
        }
        self.check_keys_there()?;
        self.with_writer(|engine, writer| {
            match covered(writer.state.size, writer.state.signed) || engine.keys().is_none() {
                true => Ok(()),
                false => engine.sign(writer).map(drop),
            }
        })
    }

    /// Like [`Engine::sign`], with the error of what failed: for an operation that is undone or not begun without the signature.
    pub(crate) fn sign_bare(&self, writer: &mut WriterState) -> Result<SignedCheckpoint> {
        let (size, root) = (writer.state.size, writer.frontier.root());
        let root_at = |at| if at == size { Ok(root) } else { self.root_at(at) };
        if let Some(keys) = &mut *self.keys() {
            keys.check_history(size, &root_at).map_err(|e| self.explained(e))?;
        }
        if let Some(signed) = self.checkpoint_at(size, &root)? {
            return Ok(signed);
        }
        let series = self.series()?;
        let (signed, series) = {
            let mut keys = self.keys();
            let keys = keys.as_mut().ok_or_else(|| {
                Error::new(
                    ErrorKind::Key,
                    "the store has no keys here, so nothing can be signed; bring back its key file",
                )
            })?;
            keys.check(self, &self.chain_state(), size)?;
            let signed = keys.file.sign_checkpoint(size, self.chain_state().in_force(), &root_at)?;
            // Saved before anybody sees the signature, so that an older copy of the store is recognized from then on.
            keys.save(self).map_err(|e| match e.kind() {
                ErrorKind::OtherHistory => keys.unsigned(size, e),
                _ => e,
            })?;
            keys.vouched = keys.file.mark();
            let series = Series::next(series.as_deref(), size, signed.to_string().as_bytes(), &keys.file)?;
            (signed, series)
        };
        let owed = self.jobs.anchoring.owe(size);
        let armed = writer.arm();
        let mut state = armed.state.clone();
        state.signed = size;
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        txn.open_table(tables::CHECKPOINTS).stored()?.insert(size, signed.to_string().as_bytes()).stored()?;
        if let Some(owed) = owed {
            self.write_owed(&txn, &owed)?;
        }
        let bytes = crate::codec::encode(&state)?;
        {
            let mut meta = txn.open_table(tables::META).stored()?;
            meta.insert(SERIES_KEY, series.as_bytes()).stored()?;
            meta.insert(crate::store::layout::state::STATE_KEY, &*bytes).stored()?;
        }
        txn.commit().stored()?;
        armed.disarm();
        writer.state = state;
        self.read.published.write().unwrap_or_else(PoisonError::into_inner).signed = size;
        self.hand_over();
        Ok(signed)
    }

    /// The series of checkpoints as stored.
    fn series(&self) -> Result<Option<Vec<u8>>> {
        let txn = self.database()?.get()?.begin_read()?;
        ReadTable::open(&txn, tables::META)?.bytes(SERIES_KEY)
    }

    /// The checkpoint of this size and root that the log key already signed, if the store has it.
    fn checkpoint_at(&self, size: u64, root: &Hash) -> Result<Option<SignedCheckpoint>> {
        let chain_state = self.chain_state();
        let Some((key, _)) = chain_state.genesis.as_ref().and_then(|g| g.keys.as_ref()) else { return Ok(None) };
        let txn = self.database()?.get()?.begin_read()?;
        let note = ReadTable::open(&txn, tables::CHECKPOINTS)?.bytes(size)?;
        let signed = note.and_then(|note| SignedCheckpoint::parse(&note).ok());
        Ok(signed.filter(|signed| {
            let checkpoint = signed.checkpoint();
            checkpoint.size() == size && checkpoint.root() == *root && signed.verify(key).is_ok()
        }))
    }

    /// The root of the stored tree at this size.
    fn root_at(&self, size: u64) -> Result<Hash> {
        guarded(|| crate::merkle::root(&self.stored()?, size))
    }

    /// Before a purge: makes sure that the purge keeps the root of the mark's size. It would not after a crash between the
    /// writes of the key file and of the store. The caller holds the writer lock.
    pub(crate) fn settle_mark(&self, writer: &mut WriterState) -> Result<()> {
        let Some(mark) = self.keys().as_ref().and_then(|keys| keys.file.mark()) else { return Ok(()) };
        let rotated = self.chain_state().rotation_roots().any(|(size, _)| size == mark.size);
        if rotated || self.checkpoint_at(mark.size, &mark.root)?.is_some() {
            return Ok(());
        }
        let signed = self.sign_bare(writer);
        signed.map(|_| ()).map_err(|e| e.at("nothing was purged, as what the log has now cannot be signed first"))
    }

    /// Whether the policy requires a new epoch key at `size` entries. An epoch that contains nothing but the entry of its own
    /// beginning has nothing to hand over.
    pub(crate) fn wants_rotation(&self, size: u64) -> bool {
        let KeyPolicy { rotate_entries, rotate_days } = self.policies().set.keys;
        if rotate_entries.is_none() && rotate_days.is_none() {
            return false;
        }
        let Some(from) = self.chain_state().succession.as_ref().map(|s| s.current().from_size()) else { return false };
        let is_over = |began: Timestamp, days: u32| self.config.clock.now().since(began) >= days * DAY;
        size > from + 1
            && (rotate_entries.is_some_and(|n| size - from >= n)
                || rotate_days.is_some_and(|days| self.epoch_began(from).is_some_and(|began| is_over(began, days))))
    }

    /// Like [`Engine::wants_rotation`], if there are keys that can be replaced.
    pub(crate) fn is_rotation_due(&self, size: u64) -> bool {
        self.wants_rotation(size) && self.keys().as_ref().is_some_and(Keyring::is_replaceable)
    }

    /// When the entry at `from`, which begins the current epoch, was recorded.
    fn epoch_began(&self, from: u64) -> Option<Timestamp> {
        let known = || self.facts.epoch_began.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, began)) = known().filter(|(seq, _)| *seq == from) {
            return Some(began);
        }
        let began = self.snapshot().and_then(|s| guarded(|| s.entry(from))).ok()?.body.recorded_at;
        *known() = Some((from, began));
        Some(began)
    }

    /// Rotates to a new epoch key and destroys the old one.
    pub(crate) fn rotate(&self, writer: &mut WriterState) -> Result<()> {
        let missing = || Error::new(ErrorKind::Key, "the store has no keys here, so none can be rotated");
        let mut staging = Staging::new(self, writer)?;
        if !staging.is_empty() {
            // Clock events are committed first: the rotation names the size at which it takes place.
            self.commit(writer, staging, |_| Ok(()))?;
            staging = Staging::new(self, writer)?;
        }
        let rotation = {
            let mut keys = self.keys();
            let keys = keys.as_mut().ok_or_else(missing)?;
            keys.check_replaceable()?;
            keys.check(self, &self.chain_state(), writer.state.size)?;
            let root_at = |size| self.root_at(size);
            let in_force = self.chain_state().in_force();
            let random = &mut |out: &mut [u8]| self.config.random.fill(out);
            let rotation = keys.file.begin_rotation(writer.state.size, in_force, &root_at, random)?;
            keys.save(self).map_err(|e| e.at("no key was replaced"))?;
            rotation
        };
        let (number, public) = (rotation.number, rotation.public);
        let detail =
            Object::from_iter([("event", Json::from("epoch_rotated")), ("rotation", rotation.to_json().into())]);
        let seq = staging.system_event(Kind::Key, detail, None)?.seq;
        self.commit(writer, staging, |_| Ok(()))?;
        let mut keys = self.keys();
        let keys = keys.as_mut().ok_or_else(missing)?;
        keys.file.settle_rotation(number, &public, writer.state.size, &|size| self.root_at(size))?;
        let still = "only the old key is still in the key file, until the next checkpoint";
        keys.save(self).map_err(|e| recorded(seq, seq, still, e))
    }
}

/// The error of an operation that is recorded, in these entries, of which something is missing that follows by itself. Every
/// operation that commits entries reports a failure after the commit this way (R86). An error that does not pass by itself stays
/// what it is.
pub(crate) fn recorded(from: u64, newest: u64, missing: &str, e: Error) -> Error {
    if matches!(e.kind(), ErrorKind::OtherHistory | ErrorKind::Damaged | ErrorKind::Closed) {
        return e;
    }
    let what = match newest - from {
        0 => format!("entry {newest} is recorded and in force"),
        _ => format!("entries {from} to {newest} are recorded and in force"),
    };
    let message = format!(
        "{e}. Do not repeat anything: {what}; {missing}. Remove the cause, then run `attestlog checkpoint`, or whatever records next"
    );
    let place = e.place().cloned().unwrap_or_default();
    Error::new(ErrorKind::Recorded, message).about(newest).with_place(place).with_source(e)
}
