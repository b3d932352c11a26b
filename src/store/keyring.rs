//! The keys of an open store, and what they are used for: digests of results, pseudonyms, signatures.

use super::commit::Staging;
use super::engine::Engine;
use super::panic_guard::guarded;
use super::series::{SERIES_KEY, Series};
use super::tables::{self, Stored};
use super::writer_state::WriterState;
use crate::chain_state::{ChainState, Genesis};
use crate::hash::to_hex;
use crate::json::{Json, Object};
use crate::keys::{KeyFile, KeyId, KeyVault, Mark, Passphrase, Settled};
use crate::names::PSEUDONYM_KEY_EVENT;
use crate::note::SignedCheckpoint;
use crate::policy::{KeyPolicy, Policies, PolicySet};
use crate::redact::{PseudonymKey, Sanitizer, Secrets};
use crate::{Error, ErrorKind, Hash, Kind, Result, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use redb::ReadableDatabase;
use sha2::Sha256;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Where the keys of a store are.
#[derive(Clone, Default)]
pub(crate) enum KeySource {
    /// Beside the store: its path with `.key` behind it. In memory for a store in memory.
    #[default]
    Beside,
    At(PathBuf),
    Vault(Arc<dyn KeyVault>),
    /// There are none.
    Nowhere,
}

/// The keys, and the file or the vault that they must be kept in.
pub(crate) struct Keyring {
    pub file: KeyFile,
    pub path: Option<PathBuf>,
    pub vault: Option<Arc<dyn KeyVault>>,
    /// The master key under which subjects' keys are wrapped: one that the file on the disk holds.
    pub master: KeyId,
    /// The mark that this store was found to begin with.
    vouched: Option<Mark>,
    /// The mark as it stands where the keys are kept: what the next opening goes by.
    kept: Option<Mark>,
    /// The digest key's id, and the key ready for use: a digest of a short result is mostly getting ready.
    digest: (String, Hmac<Sha256>),
    /// The key of the MACs over rows of small tables.
    pub(crate) rows: Hmac<Sha256>,
}

/// What keys signed last of their store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed {
    pub mark: Mark,
    /// Whether the mark is kept with each signature. Where it is not, it is of when the keys were put there.
    pub is_kept: bool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vault = self.vault.as_ref().map(|vault| vault.name());
        f.debug_struct("Keyring").field("file", &self.file).field("path", &self.path).field("vault", &vault).finish()
    }
}

impl Keyring {
    /// The keys as they are kept; `None` only for a file without a master key, which none is.
    pub(crate) fn new(file: KeyFile, path: Option<PathBuf>) -> Option<Keyring> {
        let master = file.master_keys().next()?.id();
        let key = file.digest_key();
        let id = Hash::of(&[b"attestlog digest key\0", &key[..]].concat());
        let rows = super::row_mac::key_of(key)?;
        let digest = (to_hex(&id.0[..4]), Hmac::new_from_slice(key).ok()?);
        let (kept, path) = (file.mark(), path.as_deref().map(crate::keys::whole));
        Some(Keyring { file, path, vault: None, master, vouched: None, kept, digest, rows })
    }

    /// As [`Keyring::new`], for keys that are in a vault.
    pub(crate) fn in_vault(file: KeyFile, vault: Arc<dyn KeyVault>) -> Option<Keyring> {
        Keyring::new(file, None).map(|keys| Keyring { vault: Some(vault), ..keys })
    }

    /// What they signed last, as far as that is kept with them.
    pub(crate) fn signed(&self) -> Option<Signed> {
        self.kept.map(|mark| Signed { mark, is_kept: self.is_replaceable() })
    }

    /// Whether a key can be destroyed where it is kept.
    pub(crate) fn is_replaceable(&self) -> bool {
        self.vault.as_ref().is_none_or(|vault| vault.is_replaceable())
    }

    /// Refuses where a key cannot be destroyed where it is kept; asked before anything is done that needs it.
    pub(crate) fn check_replaceable(&self) -> Result<()> {
        if let Some(path) = &self.path {
            crate::keys::check_only_name(path)?;
        }
        match &self.vault {
            Some(vault) if !vault.is_replaceable() => vault.store(&[]),
            _ => Ok(()),
        }
    }

    pub(crate) fn save(&mut self, engine: &Engine) -> Result<()> {
        if !engine.may_save_keys() {
            return Ok(());
        }
        match &self.path {
            Some(path) => self.file.save(path, &mut |out| engine.random.fill(out))?,
            None => match &self.vault {
                Some(vault) if vault.is_replaceable() => {
                    let text = self.file.text_within(vault.capacity(), &mut |out| engine.random.fill(out))?;
                    vault.store(text.as_bytes())?;
                }
                // In memory, with the store.
                None => {}
                Some(_) => return Ok(()),
            },
        }
        self.kept = self.file.mark();
        Ok(())
    }

    /// Makes sure that these are the keys of this store, at its present epoch: a rotation whose commit failed, in this
    /// process or before a crash, is settled by what the store says.
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

    /// Refuses an older copy of the key file: what is recorded with it is written under keys that were replaced or destroyed, and
    /// what it signs makes the newer key file useless.
    fn check_newest(&self, chain_state: &ChainState) -> Result<()> {
        let [pseudonym, master] = &chain_state.newest_keys;
        let lacks = |newest: &Option<(u64, String)>, ids: Vec<String>| {
            newest.as_ref().filter(|(_, id)| !ids.contains(id)).map(|(seq, _)| *seq)
        };
        let older = lacks(pseudonym, self.pseudonyms().pseudonyms.iter().map(|key| key.id().to_owned()).collect())
            .or_else(|| lacks(master, self.file.master_keys().map(|key| key.id().to_string()).collect()));
        let Some(seq) = older else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Key,
            format!(
                "the key file does not have the key that entry {seq} put into use: it is an older copy of the key file; bring back \
                 the newest one"
            ),
        ))
    }

    /// Makes sure that these are the keys of this log, of whatever epoch.
    pub(crate) fn check_log(&self, chain_state: &ChainState) -> Result<()> {
        let Some(Genesis { keys: Some((log_key, _)), .. }) = &chain_state.genesis else {
            return Err(Error::new(ErrorKind::Key, "the store was made without keys; open it without a key file"));
        };
        if self.file.verifier() != *log_key {
            let message = format!(
                "the key file belongs to {}, the store to {}: bring back the store of these keys, or name the key file of \
                 this one",
                self.file.origin(),
                log_key.name()
            );
            return Err(Error::new(ErrorKind::Key, message));
        }
        Ok(())
    }

    /// Makes sure that the store begins with what these keys signed last (K4). A mark that it was found to begin with is not
    /// looked for again: what is recorded only adds to it.
    pub(crate) fn check_history(&mut self, size: u64, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<()> {
        let mark = self.file.mark();
        if mark != self.vouched {
            self.file.check_mark(size, root_at)?;
            self.vouched = mark;
        }
        Ok(())
    }

    /// Makes sure that the keys are still where they are kept, and nobody else's signatures with them: nothing is acknowledged that will
    /// not be signed (R61). A vault is not looked at.
    fn check_kept(&mut self, size: u64) -> Result<()> {
        let checked = if self.path.is_some() { self.file.check_on_disk() } else { Ok(()) };
        checked.map_err(|e| self.unsigned(size, e))
    }

    /// The same failure, with what was acknowledged and cannot be signed any more.
    fn unsigned(&self, size: u64, e: Error) -> Error {
        let signed = self.kept.map_or(0, |mark| mark.size);
        let more = match size.saturating_sub(signed) {
            _ if !matches!(e.kind(), ErrorKind::OtherHistory | ErrorKind::Key) => return e,
            0 => "Everything that was acknowledged before is signed".to_owned(),
            n => format!(
                "{n} entries that were acknowledged before, from entry {signed} on, lie in this store and are not signed"
            ),
        };
        Error::new(e.kind(), format!("{e}. {more}")).with_source(e)
    }

    /// What is wrong where a store was made without keys and these were found for it.
    pub(crate) fn stray(&self) -> String {
        format!(
            "the store was made without keys, and its key file is that of {}: another store was put in the place of the signed \
             one; bring that back, or move the key file away if this store was meant to be without keys",
            self.file.origin()
        )
    }

    /// The file was opened anew, and may be another.
    pub(crate) fn forget_history(&mut self) {
        self.vouched = None;
    }

    /// The id of the pseudonym key that new values get, as pseudonyms carry it.
    pub(crate) fn pseudonym_key(&self) -> Option<String> {
        self.pseudonyms().pseudonyms.first().map(|key| key.id().to_owned())
    }

    /// `KEY-ID:HMAC` of a whole result under the digest key.
    pub(crate) fn digest(&self, whole: &[u8]) -> Option<String> {
        let mut mac = self.digest.1.clone();
        mac.update(whole);
        Some([&*self.digest.0, ":", &*to_hex(&mac.finalize().into_bytes())].concat())
    }

    fn pseudonyms(&self) -> Secrets {
        Secrets { pseudonyms: self.file.pseudonym_keys().map(|key| PseudonymKey::new(*key.bytes())).collect() }
    }
}

fn missing() -> Error {
    Error::new(
        ErrorKind::Key,
        "the store's key file is missing, so nothing can be recorded: bring it back from its backup, name it (--key) if it lies \
         elsewhere, or let a process that has the keys serve the store (`attestlog serve`). Until then calls can be recorded unsigned, \
         which the log will say, if the process that has the store open was started for it (`serve`, `mcp`, `record` and `import` with \
         --unsigned; Options::unsigned)",
    )
}

/// Reads a key file, if it is there.
pub(crate) fn load(path: &std::path::Path, passphrase: Option<&Passphrase>) -> Result<Option<Keyring>> {
    match KeyFile::load(path, passphrase) {
        Ok(file) => Ok(Keyring::new(file, Some(path.to_owned()))),
        Err(_) if !path.exists() && std::fs::symlink_metadata(path).is_err() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads the keys in a vault, if it has any.
pub(crate) fn load_vault(vault: Arc<dyn KeyVault>, passphrase: Option<&Passphrase>) -> Result<Option<Keyring>> {
    let Some(text) = vault.load()? else { return Ok(None) };
    let file = KeyFile::parse(&text, passphrase).map_err(|e| e.at(vault.name()))?;
    Ok(Keyring::in_vault(file, vault))
}

/// Policies ready to be applied, under the keys that are there.
pub(crate) fn ready(seq: u64, set: PolicySet, keys: Option<&Keyring>) -> Result<Policies> {
    set.keys.check()?;
    let secrets = keys.map(Keyring::pseudonyms).unwrap_or_default();
    let sanitizer = match Sanitizer::new(&set.redaction, secrets) {
        Ok(sanitizer) => Some(sanitizer),
        Err(e) if e.kind() == ErrorKind::Key => None,
        Err(e) => return Err(e),
    };
    Ok(Policies { seq, set, sanitizer })
}

/// The particulars of the entry that puts a pseudonym key into use.
pub(crate) fn pseudonym_key_event(id: &str) -> Object {
    Object::from_iter([("event", PSEUDONYM_KEY_EVENT), ("key_id", id)])
}

impl Engine {
    /// `KEY-ID:HMAC` of a whole result under the digest key, where the store has one.
    pub(crate) fn digest(&self, whole: &[u8]) -> Option<String> {
        self.keys().as_ref()?.digest(whole)
    }

    pub(crate) fn keys(&self) -> std::sync::MutexGuard<'_, Option<Keyring>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether recording may go on as far as keys are concerned; says in the chain that it goes on without.
    pub(crate) fn check_keys(&self, staging: &mut Staging<'_>, writer: &WriterState) -> Result<()> {
        if let Some(stray) = &self.stray {
            return Err(Error::new(ErrorKind::Key, stray.clone()));
        }
        let chain_state = self.chain_state();
        // A store without entries is being made.
        let Some(genesis) = &chain_state.genesis else { return Ok(()) };
        if let Some(keys) = &mut *self.keys() {
            keys.check_history(writer.state.size, &|size| self.root_at(size))?;
            keys.check_kept(writer.state.size)?;
        }
        match (&*self.keys(), &genesis.keys) {
            (None, None) => Ok(()),
            (Some(_), _) => {
                // After a crash in a rotation, say: who reads the log must know of every key before it is used, or a
                // proof that nothing is missing could leave out what stands under this one.
                let policies = self.policies();
                let used = policies.sanitizer.iter().flat_map(|s| s.pseudonym_keys());
                for id in used.filter(|id| !chain_state.pseudonym_keys.contains(*id)) {
                    staging.system_event(Kind::Key, pseudonym_key_event(id), None)?;
                }
                Ok(())
            }
            (None, Some(_)) if !self.settings.unsigned => Err(missing()),
            (None, Some(_)) if writer.unsigned_said => Ok(()),
            (None, Some(_)) => {
                let detail = Object::from_iter([("event", Json::from("opened_without_key"))]);
                staging.system_event(Kind::Key, detail, None).map(|_| staging.unsigned_said = true)
            }
        }
    }

    /// Refuses where the keys are missing without which nothing can be recorded, or are no longer where they were.
    pub(crate) fn check_keys_there(&self) -> Result<()> {
        if let Some(stray) = &self.stray {
            return Err(Error::new(ErrorKind::Key, stray.clone()));
        }
        let signed = self.chain_state().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some());
        match &mut *self.keys() {
            None if signed && !self.settings.unsigned => Err(missing()),
            None => Ok(()),
            Some(keys) if keys.path.is_some() => keys.file.check_on_disk(),
            Some(_) => Ok(()),
        }
    }

    /// Why the store is not the one that the keys here have signed, if it is not.
    pub(crate) fn key_conflict(&self, size: u64) -> Option<String> {
        let mut keys = self.keys();
        let conflict = |keys: &mut Keyring| keys.check_history(size, &|size| self.root_at(size)).err();
        let conflict = keys.as_mut().and_then(conflict).map(|e| e.to_string());
        self.stray.clone().or(conflict)
    }

    /// Signs the store as it is now, with the writer lock.
    pub(crate) fn sign(&self, writer: &mut WriterState) -> Result<SignedCheckpoint> {
        let (size, root) = (writer.state.size, writer.frontier.root());
        let root_at = |at| if at == size { Ok(root) } else { self.root_at(at) };
        if let Some(keys) = &mut *self.keys() {
            keys.check_history(size, &root_at)?;
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
            // Before anybody sees the signature, so that an older copy of the store is known as one ever after.
            keys.save(self).map_err(|e| keys.unsigned(size, e))?;
            keys.vouched = keys.file.mark();
            let series = Series::next(series.as_deref(), size, signed.to_string().as_bytes(), &keys.file)?;
            (signed, series)
        };
        let owed = self.anchoring.owe(size);
        writer.broken = true;
        let mut state = writer.state.clone();
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
            meta.insert(super::state::STATE_KEY, &*bytes).stored()?;
        }
        txn.commit().stored()?;
        writer.broken = false;
        writer.state = state;
        self.published.write().unwrap_or_else(PoisonError::into_inner).signed = size;
        self.hand_over();
        Ok(signed)
    }

    /// The series of checkpoints as it stands in the file.
    fn series(&self) -> Result<Option<Vec<u8>>> {
        let txn = self.database()?.get()?.begin_read().stored()?;
        tables::get_bytes(&txn.open_table(tables::META).stored()?, SERIES_KEY)
    }

    /// What the log key has signed of this size and root already, where it is in the store.
    fn checkpoint_at(&self, size: u64, root: &Hash) -> Result<Option<SignedCheckpoint>> {
        let chain_state = self.chain_state();
        let Some((key, _)) = chain_state.genesis.as_ref().and_then(|g| g.keys.as_ref()) else { return Ok(None) };
        let txn = self.database()?.get()?.begin_read().stored()?;
        let note = tables::get_bytes(&txn.open_table(tables::CHECKPOINTS).stored()?, size)?;
        let signed = note.and_then(|note| SignedCheckpoint::parse(&note).ok());
        Ok(signed.filter(|signed| {
            let checkpoint = signed.checkpoint();
            checkpoint.size() == size && checkpoint.root() == *root && signed.verify(key).is_ok()
        }))
    }

    /// The root of what the file holds at this size.
    fn root_at(&self, size: u64) -> Result<Hash> {
        guarded(|| crate::merkle::root(&self.stored()?, size))
    }

    /// Before a purge, with the writer lock: makes sure that the mark's size is one of those whose root it keeps. It is not after
    /// a crash between the key file's write and the store's.
    pub(crate) fn settle_mark(&self, writer: &mut WriterState) -> Result<()> {
        let Some(mark) = self.keys().as_ref().and_then(|keys| keys.file.mark()) else { return Ok(()) };
        let rotated = self.chain_state().rotation_roots().any(|(size, _)| size == mark.size);
        if rotated || self.checkpoint_at(mark.size, &mark.root)?.is_some() {
            return Ok(());
        }
        self.sign(writer).map(|_| ())
    }

    /// Whether the policy wants a new epoch key now that there are `size` entries. An epoch in which nothing but its own
    /// beginning was recorded has nothing to hand over.
    pub(crate) fn wants_rotation(&self, size: u64) -> bool {
        let KeyPolicy { rotate_entries, rotate_days } = self.policies().set.keys;
        if rotate_entries.is_none() && rotate_days.is_none() {
            return false;
        }
        let Some(from) = self.chain_state().succession.as_ref().map(|s| s.current().from_size()) else { return false };
        let is_over = |began: Timestamp, days: u32| self.clock.now().since(began) >= days * DAY;
        size > from + 1
            && (rotate_entries.is_some_and(|n| size - from >= n)
                || rotate_days.is_some_and(|days| self.epoch_began(from).is_some_and(|began| is_over(began, days))))
    }

    /// As [`Engine::wants_rotation`], where there are keys that can be replaced.
    pub(crate) fn is_rotation_due(&self, size: u64) -> bool {
        self.wants_rotation(size) && self.keys().as_ref().is_some_and(Keyring::is_replaceable)
    }

    /// When the entry at `from` was recorded, with which the present epoch begins.
    fn epoch_began(&self, from: u64) -> Option<Timestamp> {
        let known = || self.epoch_began.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, began)) = known().filter(|(seq, _)| *seq == from) {
            return Some(began);
        }
        let began = self.snapshot().and_then(|s| guarded(|| s.entry(from))).ok()?.body.recorded_at;
        *known() = Some((from, began));
        Some(began)
    }

    /// Hands over to a new epoch key and destroys the old one.
    pub(crate) fn rotate(&self, writer: &mut WriterState) -> Result<()> {
        let missing = || Error::new(ErrorKind::Key, "the store has no keys here, so none can be rotated");
        let mut staging = Staging::new(self, writer)?;
        if !staging.is_empty() {
            // What the clock had to say goes first: the rotation names the size that it stands at.
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
            let random = &mut |out: &mut [u8]| self.random.fill(out);
            let rotation = keys.file.begin_rotation(writer.state.size, in_force, &root_at, random)?;
            keys.save(self)?;
            rotation
        };
        let (number, public) = (rotation.number, rotation.public);
        let detail =
            Object::from_iter([("event", Json::from("epoch_rotated")), ("rotation", rotation.to_json().into())]);
        staging.system_event(Kind::Key, detail, None)?;
        self.commit(writer, staging, |_| Ok(()))?;
        let mut keys = self.keys();
        let keys = keys.as_mut().ok_or_else(missing)?;
        keys.file.settle_rotation(number, &public, writer.state.size, &|size| self.root_at(size))?;
        keys.save(self)
    }
}
