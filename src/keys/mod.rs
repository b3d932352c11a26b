//! The key file: all secrets of a log, stored beside the store and never in it.
//!
//! Invariants: the origin ends in the fingerprint of epoch 0's public key; there is always a newest pseudonym key and a
//! newest master key, and each is last in its list; key ids are computed from the keys, so two files cannot give two keys one id;
//! the mark is a prefix commitment (K4): nothing is signed that is smaller than it or does not begin with it, and it is replaced
//! only by a state of the log that begins with it, or by a restored copy whose restore the log itself records. Secrets are
//! zeroized when they are dropped or replaced, and appear in no error and no `Debug`.
//!
//! A change that destroys a secret has two steps with the store's durable write between them, because after a crash at
//! any point either the old or the new secret must match the store. Call [`KeyFile::begin_rotation`] or
//! [`KeyFile::add_master_key`] and save; write the store; then call [`KeyFile::settle_rotation`] or
//! [`KeyFile::retire_master_keys`] and save again.
//!
//! This file holds the keys and calls `text` (the file's format), `wrap` (the passphrase), `file` (the disk) and `vault` (other
//! places for it); only the last two do I/O, and randomness is passed in everywhere.

mod file;
mod secret;
mod text;
mod vault;
mod wrap;

pub(crate) use file::{check_only_name, whole};
pub use secret::{KeyId, NamedKey};
pub use text::MAX_KEY_FILE_BYTES;
#[cfg(feature = "keyring")]
pub use vault::OsKeyring;
pub use vault::{EnvironmentKeys, KeyVault};
pub use wrap::Passphrase;

use crate::note::{self, Checkpoint, Rotation, SignedCheckpoint, SigningKey, VerifierKey};
use crate::redact::{Policy, Preset, PseudonymKey, Sanitizer, Secrets};
use crate::{Error, ErrorKind, Facet, Hash, Result};
use secret::Secret;
use std::fmt;
use std::path::{Path, PathBuf};
use wrap::Wrap;

/// The most pseudonym or master keys that a file keeps.
pub const MAX_KEYS: usize = 200;

/// The most rotations that a file keeps, so that it does not grow for ever: five years at one in 30 days.
pub const MAX_ROTATIONS: usize = 64;

/// The most losses that a file remembers.
pub const MAX_LOST: usize = 32;

/// Size and root of the last signed checkpoint: a store that is smaller, or has another root there, is an older copy or another
/// history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The size.
    pub size: u64,
    /// The root at that size.
    pub root: Hash,
    /// Digests of what was in force at that size.
    pub in_force: InForce,
}

/// Digests of what is in force in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// Of policies, holds, keys, purges and open emergency grants. A store in which something else is in force was changed after
    /// it was signed.
    pub all: Hash,
    /// Of what a restore from a copy must not lose unnoticed: all policies, the holds in force, open emergency grants, and
    /// restores that nobody has confirmed.
    pub standing: Hash,
}

/// The result of settling a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// No rotation was under way.
    Unchanged,
    /// The store recorded it: the new key signs now, the old one is destroyed.
    Completed,
    /// The store did not record it: the old key stays in use, the new one is destroyed.
    Abandoned,
}

/// All keys of one log.
///
/// ```
/// use attestlog::keys::KeyFile;
/// // A fixed source, so that the example is the same every time; a program passes the operating system's.
/// let mut random = |out: &mut [u8]| out.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
/// let keys = KeyFile::generate("example.com/ward-3", &mut random).unwrap();
/// assert!(keys.origin().starts_with("example.com/ward-3/"));
/// println!("give this to your auditor: {}", keys.verifier());
/// ```
pub struct KeyFile {
    origin: String,
    log: Secret,
    epoch: (u32, Secret),
    next_epoch: Option<(u32, Secret)>,
    /// The newest rotations of the epoch key, in order, including one under way: if an older copy of the store is restored, it takes
    /// the rotations it lacks from here (R54). Not secret.
    rotations: Vec<Rotation>,
    digest: Secret,
    pseudonym: Vec<NamedKey>,
    master: Vec<NamedKey>,
    mark: Option<Mark>,
    /// Size and root of what had been signed before each of the newest restores that lost a part of it. Not secret.
    lost: Vec<(u64, Hash)>,
    /// The path of this file when it was last written, and of the store that it was written for. Not secret.
    used_by: Option<(PathBuf, PathBuf)>,
    /// Which file this text was written to as the keys in use; the file that the keys are in is a copy unless it is this one. Not
    /// secret.
    file_id: Option<file::FileId>,
    wrap: Option<Wrap>,
    /// The file that it was last read from or written to, and its content then.
    on_disk: Option<file::OnDisk>,
    /// A secret was dropped since the file was written: the next save also overwrites the old bytes.
    stale: bool,
}

impl KeyFile {
    /// Makes the keys of a new log. The origin begins with `name`; `random` fills its argument with random bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `name` cannot be a key name.
    pub fn generate(name: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<KeyFile> {
        let epoch = Secret::random(random);
        let origin = note::origin(name, &note::public_of(epoch.bytes()))?;
        Ok(KeyFile {
            origin,
            log: Secret::random(random),
            epoch: (0, epoch),
            next_epoch: None,
            rotations: Vec::new(),
            digest: Secret::random(random),
            pseudonym: vec![NamedKey::new("pseudonym", Secret::random(random))],
            master: vec![NamedKey::new("master", Secret::random(random))],
            mark: None,
            lost: Vec::new(),
            used_by: None,
            file_id: None,
            wrap: None,
            on_disk: None,
            stale: false,
        })
    }

    /// The log's name, which is in every checkpoint.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The log key's public half, which auditors pin and witnesses know.
    pub fn verifier(&self) -> VerifierKey {
        self.log_key().verifier().clone()
    }

    /// The log key, which never changes.
    pub fn log_key(&self) -> SigningKey {
        self.signing_key(&self.origin, &self.log)
    }

    /// The number of the current epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch.0
    }

    /// The key of the current epoch.
    pub fn epoch_key(&self) -> SigningKey {
        self.signing_key(&note::epoch_name(&self.origin, self.epoch.0), &self.epoch.1)
    }

    fn signing_key(&self, name: &str, secret: &Secret) -> SigningKey {
        // Origins are checked when a key file is made or read, with room for every epoch number.
        SigningKey::named(name, secret.bytes())
    }

    /// Signs a checkpoint of `size` entries with the log key and the current epoch's key, and raises the mark to it. `in_force` holds
    /// the digests of what is in force at that size; `root_at` returns the root of the log at any size up to it. The entries must
    /// already be durable; save the file before the checkpoint is handed out.
    ///
    /// # Errors
    /// As [`KeyFile::raise_mark`]: nothing is signed that contradicts what was signed before. [`ErrorKind::Conflict`] while
    /// a rotation is under way, because it is not yet known which key is to sign.
    pub fn sign_checkpoint(
        &mut self,
        size: u64,
        in_force: InForce,
        root_at: &dyn Fn(u64) -> Result<Hash>,
    ) -> Result<SignedCheckpoint> {
        self.check_settled()?;
        self.check_mark(size, root_at)?;
        let checkpoint = Checkpoint::new(&self.origin, size, root_at(size)?)?;
        let signed = SignedCheckpoint::sign(checkpoint, &[&self.log_key(), &self.epoch_key()])?;
        self.mark = Some(Mark { size, root: signed.checkpoint().root(), in_force });
        Ok(signed)
    }

    /// The last checkpoint that was signed with these keys.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Notes which store uses these keys, and that they are kept in the file at `key`. Paths that are too long or not UTF-8 are left
    /// out.
    pub(crate) fn set_used_by(&mut self, key: &Path, store: &Path) {
        let (key, store) = (whole(key), whole(store));
        let length = key.as_os_str().len() + store.as_os_str().len();
        let is_text = key.to_str().is_some() && store.to_str().is_some() && length < text::MAX_PATHS_BYTES;
        self.used_by = is_text.then_some((key, store));
    }

    /// The store that the key file at `key` was last used for. `None` for a copy of the file in another place.
    pub(crate) fn used_by(&self, key: &Path) -> Option<&Path> {
        self.used_by.as_ref().filter(|(at, _)| *at == whole(key)).map(|(_, store)| store.as_path())
    }

    /// Whether these keys are a copy of a key file, as far as can be told: what was signed after the copy was made is not in it
    /// (R87). A file is the one that was last saved for its store, by number and time of creation, or it counts as a copy. Keys
    /// in a vault are a copy if they were saved to a file before.
    pub(crate) fn is_copy(&self) -> bool {
        match &self.on_disk {
            Some(on_disk) => on_disk.is_copy,
            None => self.file_id.is_some(),
        }
    }

    /// For keys that are saved to a vault from now on.
    pub(crate) fn in_no_file(&mut self) {
        self.file_id = None;
    }

    /// Moves the mark to another history that is being restored, of `size` entries and with the roots that `root_at` returns. Returns
    /// the old mark if this history does not begin with it; the restore entry must name it, and the file remembers it as lost.
    /// Otherwise nothing changes. Save the file only after that entry is durable: a copy without such an entry must be detected.
    ///
    /// # Errors
    /// The errors of `root_at`.
    pub(crate) fn accept_restored(
        &mut self,
        size: u64,
        in_force: InForce,
        root_at: &dyn Fn(u64) -> Result<Hash>,
    ) -> Result<Option<Mark>> {
        match self.mark {
            Some(mark) if mark.size > size || root_at(mark.size)? != mark.root => {
                self.mark = Some(Mark { size, root: root_at(size)?, in_force });
                self.lost.retain(|lost| *lost != (mark.size, mark.root));
                self.lost.push((mark.size, mark.root));
                let over = self.lost.len().saturating_sub(MAX_LOST);
                self.lost.drain(..over);
                Ok(Some(mark))
            }
            _ => Ok(None),
        }
    }

    /// Size and root of what had been signed before each restore that lost a part of it, the newest last. A copy from before such
    /// a restore does not say what that restore lost.
    pub(crate) fn lost(&self) -> &[(u64, Hash)] {
        &self.lost
    }

    /// Notes that a checkpoint of this size was signed; `in_force` holds the digests of what is in force at that size, `root_at`
    /// returns the root of the log at any size up to it.
    ///
    /// # Errors
    /// As [`KeyFile::check_mark`].
    pub fn raise_mark(&mut self, size: u64, in_force: InForce, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<()> {
        self.check_mark(size, root_at)?;
        self.mark = Some(Mark { size, root: root_at(size)?, in_force });
        Ok(())
    }

    /// Checks that a log of `size` entries begins with what was last signed; `root_at` returns its root at any size up to that.
    ///
    /// # Errors
    /// [`ErrorKind::OtherHistory`] if it does not: the store is an older copy, or another history was put in its place.
    /// The errors of `root_at`.
    pub fn check_mark(&self, size: u64, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<()> {
        let Some(mark) = self.mark else { return Ok(()) };
        let wrong = if size < mark.size {
            format!(
                "the store has {size} entries, its key file has signed {}: this is an older copy; bring back the newest one",
                mark.size
            )
        } else if root_at(mark.size)? != mark.root {
            format!(
                "the first {} entries of the store are not those that its key file has signed: another history was put in \
                 its place; keep this file as evidence and bring back the store that was signed",
                mark.size
            )
        } else {
            return Ok(());
        };
        let message = format!("{wrong}, or restore a copy with `attestlog restore`, which says so in the log");
        Err(Error::new(ErrorKind::OtherHistory, message))
    }

    /// Makes the next epoch's key and the statement by which the current epoch hands over to it, at the tree of `size`
    /// entries, all of them durable; raises the mark to it. `in_force` and `root_at` are as for [`KeyFile::raise_mark`]. Save the
    /// file, record the statement as entry `size`, then call [`KeyFile::settle_rotation`] and save again. Until then nothing can be
    /// signed.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if a rotation is already under way or there is no epoch number left; otherwise as
    /// [`KeyFile::raise_mark`].
    pub fn begin_rotation(
        &mut self,
        size: u64,
        in_force: InForce,
        root_at: &dyn Fn(u64) -> Result<Hash>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Rotation> {
        self.check_settled()?;
        let Some(number) = self.epoch.0.checked_add(1) else {
            return Err(Error::new(ErrorKind::Conflict, "there is no epoch number left"));
        };
        self.raise_mark(size, in_force, root_at)?;
        let root = root_at(size)?;
        let next = Secret::random(random);
        let public = note::public_of(next.bytes());
        let rotation = Rotation::sign(&self.origin, number, public, size, root, &self.epoch_key());
        self.next_epoch = Some((number, next));
        self.rotations.push(rotation.clone());
        let over = self.rotations.len().saturating_sub(MAX_ROTATIONS);
        self.rotations.drain(..over);
        Ok(rotation)
    }

    fn check_settled(&self) -> Result<()> {
        match self.next_epoch {
            Some(_) => {
                Err(Error::new(ErrorKind::Conflict, "a rotation of the epoch key is under way; settle it first"))
            }
            None => Ok(()),
        }
    }

    /// Brings the keys into line with what the store has recorded: `number` and `public` are those of the store's last
    /// epoch, `size` is its size, `root_at` returns its root at any size up to that. Call it after the rotation entry is durable,
    /// and whenever a store is opened. If it returns anything but [`Settled::Unchanged`], save the file: a key was destroyed.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] if this file does not know the store's epoch: it is an older copy of the key file, or another
    /// store's. [`ErrorKind::OtherHistory`] if a rotation is under way and the store does not begin with what was
    /// signed: such a copy must not decide which key is destroyed. The errors of `root_at`.
    pub fn settle_rotation(
        &mut self,
        number: u32,
        public: &[u8; 32],
        size: u64,
        root_at: &dyn Fn(u64) -> Result<Hash>,
    ) -> Result<Settled> {
        let is = |(own, secret): &(u32, Secret)| *own == number && note::public_of(secret.bytes()) == *public;
        let settled = match self.next_epoch.take_if(|next| is(next)) {
            Some(next) => {
                self.epoch = next;
                Settled::Completed
            }
            None if !is(&self.epoch) => {
                return Err(Error::new(
                    ErrorKind::Key,
                    format!(
                        "the store is at epoch {number} and the key file at epoch {}: if the store is an older copy, bring back the newest one or restore the copy with `attestlog restore`; if the key file is, bring back its newest version. To read or verify meanwhile, name a key file that is not there (--key /nonexistent)",
                        self.epoch.0
                    ),
                ));
            }
            None if self.next_epoch.is_none() => Settled::Unchanged,
            None => {
                self.check_mark(size, root_at)?;
                self.next_epoch = None;
                self.rotations.pop();
                Settled::Abandoned
            }
        };
        self.stale |= settled != Settled::Unchanged;
        Ok(settled)
    }

    /// The rotations after epoch `number`, whose key is `last`, up to the newest, including one under way. A copy of the store that
    /// ends in that epoch continues with them.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] if the copy is of a later epoch than these keys, has other keys, or is older than all rotations kept.
    pub(crate) fn rotations_since(&self, last: &VerifierKey, number: u32) -> Result<&[Rotation]> {
        let (newest, secret) = self.next_epoch.as_ref().unwrap_or(&self.epoch);
        let refuse = |why: String| Err(Error::new(ErrorKind::Key, why));
        let Some(missing) = newest.checked_sub(number) else {
            return refuse(format!(
                "the copy is at epoch {number} and the key file at epoch {newest}: it is an older copy of the key file; bring \
                 back the newest"
            ));
        };
        let kept = self.rotations.len();
        let since = kept.checked_sub(missing as usize).and_then(|from| self.rotations.get(from..));
        let Some(since) = since else {
            return refuse(format!(
                "the copy is at epoch {number} and the key file at epoch {newest}, which knows how the last {kept} were handed over \
                 to: restore a newer copy, or use a key file from nearer to that time"
            ));
        };
        let follows = match since.first() {
            Some(first) => first.signed_by(last),
            None => note::public_of(secret.bytes()) == *last.public(),
        };
        match follows {
            true => Ok(since),
            false => refuse(format!(
                "the copy's key of epoch {number} is not the one in the key file: the copy belongs to another history"
            )),
        }
    }

    /// Drops the oldest rotations, and then the oldest losses, until the text has no more than `most` bytes or one rotation is left.
    pub(crate) fn text_within(
        &mut self,
        most: usize,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<zeroize::Zeroizing<String>> {
        loop {
            let text = self.to_text(random)?;
            match (self.rotations.len(), self.lost.len()) {
                _ if text.len() <= most => return Ok(text),
                (0 | 1, 0) => return Ok(text),
                (0 | 1, _) => _ = self.lost.remove(0),
                _ => _ = self.rotations.remove(0),
            }
        }
    }

    /// The HMAC key for digests of results.
    pub fn digest_key(&self) -> &[u8; 32] {
        self.digest.bytes()
    }

    /// All live pseudonym keys, the newest first: new values use the first, searches try all.
    pub fn pseudonym_keys(&self) -> impl Iterator<Item = &NamedKey> {
        self.pseudonym.iter().rev()
    }

    /// The forms in which the log may hold a facet's value: the value itself, and its pseudonym under every live key. A pseudonym
    /// stands for itself.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the built-in policy were not valid, which it is.
    pub fn spellings(&self, facet: Facet, value: &str) -> Result<Vec<String>> {
        let pseudonyms = self.pseudonym_keys().map(|key| PseudonymKey::new(*key.bytes())).collect();
        Ok(Sanitizer::new(&Policy::preset(Preset::Floor), Secrets { pseudonyms })?.terms(facet, value))
    }

    /// Adds a pseudonym key, which becomes the newest; the others stay live for searches.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_KEYS`]; [`ErrorKind::Conflict`] if the new key has the id of another.
    pub fn rotate_pseudonym_key(&mut self, random: &mut dyn FnMut(&mut [u8])) -> Result<KeyId> {
        push_key(&mut self.pseudonym, "pseudonym", random)
    }

    /// All live master keys for sealed values, the newest first: new keys are wrapped under the first.
    pub fn master_keys(&self) -> impl Iterator<Item = &NamedKey> {
        self.master.iter().rev()
    }

    /// The master key with this id.
    pub fn master_key(&self, id: KeyId) -> Option<&NamedKey> {
        self.master.iter().find(|key| key.id() == id)
    }

    /// Adds a master key, which becomes the newest. The others stay until [`KeyFile::retire_master_keys`].
    ///
    /// # Errors
    /// As [`KeyFile::rotate_pseudonym_key`].
    pub fn add_master_key(&mut self, random: &mut dyn FnMut(&mut [u8])) -> Result<KeyId> {
        push_key(&mut self.master, "master", random)
    }

    /// Destroys all master keys but the newest. Call it when nothing that must be opened again is wrapped under the others.
    pub fn retire_master_keys(&mut self) {
        let last = self.master.len().saturating_sub(1);
        self.stale |= last > 0;
        self.master.drain(..last);
    }

    /// Protects the file with a passphrase from the next save on; `None` removes the protection. Deriving the key takes about
    /// 64 MiB and a tenth of a second or more, here and at each load.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] if there is not enough memory.
    pub fn set_passphrase(&mut self, passphrase: Option<&Passphrase>, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.wrap = passphrase.map(|p| Wrap::new(p, random)).transpose()?;
        // The file on disk may be in the clear, or under a passphrase that somebody knows.
        self.stale = true;
        Ok(())
    }

    /// Whether the file is protected by a passphrase.
    pub fn has_passphrase(&self) -> bool {
        self.wrap.is_some()
    }

    /// A key that can be derived only from all secrets of this file as it is now; used to prove possession of them.
    #[cfg(feature = "owner")]
    pub(crate) fn possession(&self) -> zeroize::Zeroizing<[u8; 32]> {
        let single = [&self.log, &self.epoch.1, &self.digest].map(Secret::bytes);
        let several = self.pseudonym.iter().chain(&self.master).map(NamedKey::bytes);
        let secrets = 3 + self.pseudonym.len() + self.master.len();
        // Allocated at once: growing would leave copies behind.
        let mut text = zeroize::Zeroizing::new(Vec::with_capacity(64 + self.origin.len() + 32 * secrets));
        text.extend_from_slice(b"attestlog/possession@v1\n");
        text.extend_from_slice(self.origin.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(&self.epoch.0.to_le_bytes());
        for count in [self.pseudonym.len(), self.master.len()] {
            text.extend_from_slice(&(count as u64).to_le_bytes());
        }
        single.into_iter().chain(several).for_each(|secret| text.extend_from_slice(secret));
        zeroize::Zeroizing::new(Hash::of(&text).0)
    }
}

fn push_key(keys: &mut Vec<NamedKey>, label: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<KeyId> {
    if keys.len() >= MAX_KEYS {
        return Err(Error::new(ErrorKind::TooLarge, format!("the key file has {MAX_KEYS} {label} keys, its limit")));
    }
    let key = NamedKey::new(label, Secret::random(random));
    let id = key.id();
    // Ids have 32 bits: two keys of one file must not share one.
    if keys.iter().any(|k| k.id() == id) {
        return Err(Error::new(ErrorKind::Conflict, "the new key has the id of another; try again"));
    }
    keys.push(key);
    Ok(id)
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |keys: &[NamedKey]| keys.iter().map(NamedKey::id).collect::<Vec<_>>();
        f.debug_struct("KeyFile")
            .field("origin", &self.origin)
            .field("epoch", &self.epoch.0)
            .field("rotating", &self.next_epoch.is_some())
            .field("pseudonym", &ids(&self.pseudonym))
            .field("master", &ids(&self.master))
            .field("mark", &self.mark)
            .field("passphrase", &self.wrap.is_some())
            .finish_non_exhaustive()
    }
}
