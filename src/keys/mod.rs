//! The key file: every secret of a log, kept beside the store and never in it.
//!
//! Invariants: the origin ends in the fingerprint of epoch 0's public key; there is always a newest pseudonym key and a
//! newest master key, and they stand last; key ids follow from the keys, so two files cannot give one id to two keys;
//! the mark is a prefix commitment (K4): nothing is signed below it or beside it, and it is replaced only by a state of the log
//! that begins with it, or by a copy whose restoring the log itself says. Secrets are zeroized when they are dropped or
//! replaced, and appear in no error and no `Debug`.
//!
//! A change that destroys a secret comes in two steps with the store's durable write between them, because after a
//! crash at any point either the old or the new secret must still fit what the store says. [`KeyFile::begin_rotation`]
//! or [`KeyFile::add_master_key`], save; write the store; then [`KeyFile::settle_rotation`] or
//! [`KeyFile::retire_master_keys`], save again.
//!
//! This file holds the keys and calls `text` (the file's form), `wrap` (the passphrase), `file` (the disk) and `vault` (other
//! places for it); only these two do I/O, and randomness is passed in everywhere.

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
use crate::{Error, ErrorKind, Hash, Result};
use secret::Secret;
use std::fmt;
use std::path::{Path, PathBuf};
use wrap::Wrap;

/// The most pseudonym or master keys that a file keeps.
pub const MAX_KEYS: usize = 200;

/// The most hand-overs of epochs that a file keeps, so that it does not grow for ever: five years at one in 30 days.
pub const MAX_ROTATIONS: usize = 64;

/// Size and root of the last checkpoint that was signed: a store that has less, or something else, is an older copy.
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
    /// Of policies, holds, keys, purges and open emergency grants. A store in which something else is found to be in force was
    /// changed since.
    pub all: Hash,
    /// Of what must not be lost unnoticed when a copy is restored: all policies, the holds that stand, open emergency grants, and
    /// restorings that nobody has confirmed.
    pub standing: Hash,
}

/// What became of a rotation that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// None was under way.
    Unchanged,
    /// The store holds it: the new key signs now, the old one is destroyed.
    Completed,
    /// The store does not hold it: the old key goes on, the new one is destroyed.
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
    /// How the newest epochs were handed over to, one after the other, the one under way included: a copy of the store from before
    /// them takes them from here when it is restored (R54). Nothing secret.
    rotations: Vec<Rotation>,
    digest: Secret,
    pseudonym: Vec<NamedKey>,
    master: Vec<NamedKey>,
    mark: Option<Mark>,
    /// Where this file lay when it was written last, and the store that it was written for. Nothing secret.
    used_by: Option<(PathBuf, PathBuf)>,
    wrap: Option<Wrap>,
    /// Which file it was read from or written to last, and what was in it then.
    on_disk: Option<file::OnDisk>,
    /// A secret was dropped since the file was written: its old bytes are overwritten with the next save.
    stale: bool,
}

impl KeyFile {
    /// Makes the keys of a new log. `name` is what the origin begins with; `random` fills its argument with random bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] where `name` cannot be a key name.
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
            used_by: None,
            wrap: None,
            on_disk: None,
            stale: false,
        })
    }

    /// The log's name, which stands in every checkpoint.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The log key's public half: what auditors pin and witnesses know.
    pub fn verifier(&self) -> VerifierKey {
        self.log_key().verifier().clone()
    }

    /// The stable log key.
    pub fn log_key(&self) -> SigningKey {
        self.signing_key(&self.origin, &self.log)
    }

    /// The number of the present epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch.0
    }

    /// The key of the present epoch.
    pub fn epoch_key(&self) -> SigningKey {
        self.signing_key(&note::epoch_name(&self.origin, self.epoch.0), &self.epoch.1)
    }

    fn signing_key(&self, name: &str, secret: &Secret) -> SigningKey {
        // Origins are checked where a key file is made or read, with room for every epoch's number.
        SigningKey::named(name, secret.bytes())
    }

    /// Signs a checkpoint of `size` entries with the log key and the present epoch's, and raises the mark to it.
    /// `in_force` has the digests of what is in force at that size, `root_at` gives the root of the log at any size up to it. The
    /// entries must be durable before; save the file before the checkpoint is handed out.
    ///
    /// # Errors
    /// As [`KeyFile::raise_mark`]: nothing is signed that contradicts what was signed before. [`ErrorKind::Conflict`] while
    /// a rotation is under way: nobody knows yet whose turn it is.
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

    /// Notes which store these keys are used for, in the file at `key`. Too long a path, or one that is not UTF-8, is left out.
    pub(crate) fn set_used_by(&mut self, key: &Path, store: &Path) {
        let (key, store) = (whole(key), whole(store));
        let length = key.as_os_str().len() + store.as_os_str().len();
        let is_text = key.to_str().is_some() && store.to_str().is_some() && length < text::MAX_PATHS_BYTES;
        self.used_by = is_text.then_some((key, store));
    }

    /// The store that the key file at `key` was used for last. A copy of it that lies elsewhere is used by none.
    pub(crate) fn used_by(&self, key: &Path) -> Option<&Path> {
        self.used_by.as_ref().filter(|(at, _)| *at == whole(key)).map(|(_, store)| store.as_path())
    }

    /// Moves the mark to another history that is being restored: `size` entries, with the roots that `root_at` gives. Gives
    /// the mark that this history does not begin with, which the entry about the restoring must name; where it begins with
    /// the mark, nothing changes. Save the file only after that entry is durable: a copy without one must be found out.
    ///
    /// # Errors
    /// What `root_at` says.
    pub(crate) fn accept_restored(
        &mut self,
        size: u64,
        in_force: InForce,
        root_at: &dyn Fn(u64) -> Result<Hash>,
    ) -> Result<Option<Mark>> {
        match self.mark {
            Some(mark) if mark.size > size || root_at(mark.size)? != mark.root => {
                self.mark = Some(Mark { size, root: root_at(size)?, in_force });
                Ok(Some(mark))
            }
            _ => Ok(None),
        }
    }

    /// Notes that a checkpoint of this size was signed; `in_force` has the digests of what is in force at that size, `root_at` gives
    /// the root of the log at any size up to it.
    ///
    /// # Errors
    /// As [`KeyFile::check_mark`].
    pub fn raise_mark(&mut self, size: u64, in_force: InForce, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<()> {
        self.check_mark(size, root_at)?;
        self.mark = Some(Mark { size, root: root_at(size)?, in_force });
        Ok(())
    }

    /// Whether a log of `size` entries begins with what was signed last; `root_at` gives its root at any size up to that.
    ///
    /// # Errors
    /// [`ErrorKind::OtherHistory`] where it does not: the store is an older copy, or another history was put in its place.
    /// What `root_at` says.
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

    /// Makes the next epoch's key and the statement with which the present epoch hands over to it, at the tree of `size`
    /// entries, all of them durable; raises the mark to it. `in_force` and `root_at` are as for [`KeyFile::raise_mark`]. Save the file, record the statement as entry
    /// `size`, then call [`KeyFile::settle_rotation`] and save again. Until then nothing can be signed.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where a rotation is under way already, where there is no number left, or as
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
    /// epoch, `size` is its size, `root_at` gives its root at any size up to that. Call it after the rotation entry is durable, and whenever a store is opened. If it does
    /// not answer [`Settled::Unchanged`], save the file: a key was destroyed.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] where the store is at an epoch of which this file knows nothing: it is an older copy of the
    /// key file, or another store's. [`ErrorKind::OtherHistory`] where a rotation is under way and the store does not
    /// begin with what was signed: such a copy must not decide which key is destroyed. What `root_at` says.
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
                        "the store is at epoch {number} and the key file at epoch {}: where the store is an older copy, bring \
                         the newest one back or restore the copy with `attestlog restore`; where the key file is, bring back the \
                         newest of it",
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

    /// How the epochs after the one with this key were handed over to, up to the newest; a rotation that is under way counts. A
    /// copy of the store whose last epoch that is goes on with them.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] where the copy is of a later epoch than these keys, of other keys, or from before all that is kept.
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
                 to: restore a newer copy, or take a key file of nearer to that time"
            ));
        };
        let follows = match since.first() {
            Some(first) => first.signed_by(last),
            None => note::public_of(secret.bytes()) == *last.public(),
        };
        match follows {
            true => Ok(since),
            false => {
                refuse(format!("the copy has another key of epoch {number} than these keys: it is of another history"))
            }
        }
    }

    /// Leaves out the oldest hand-overs of epochs until the text has no more than `most` bytes.
    pub(crate) fn text_within(
        &mut self,
        most: usize,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<zeroize::Zeroizing<String>> {
        loop {
            let text = self.to_text(random)?;
            if text.len() <= most || self.rotations.len() <= 1 {
                return Ok(text);
            }
            self.rotations.remove(0);
        }
    }

    /// The key of the HMAC over results.
    pub fn digest_key(&self) -> &[u8; 32] {
        self.digest.bytes()
    }

    /// All live pseudonym keys, the newest first: new values get the first, searches try all.
    pub fn pseudonym_keys(&self) -> impl Iterator<Item = &NamedKey> {
        self.pseudonym.iter().rev()
    }

    /// Adds a pseudonym key, which is the newest from now on; the others stay live for searches.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_KEYS`].
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

    /// Adds a master key, which is the newest from now on. The others stay until [`KeyFile::retire_master_keys`].
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_KEYS`].
    pub fn add_master_key(&mut self, random: &mut dyn FnMut(&mut [u8])) -> Result<KeyId> {
        push_key(&mut self.master, "master", random)
    }

    /// Destroys all master keys but the newest, once nothing is wrapped under them that must be opened again.
    pub fn retire_master_keys(&mut self) {
        let last = self.master.len().saturating_sub(1);
        self.stale |= last > 0;
        self.master.drain(..last);
    }

    /// Protects the file with a passphrase from the next save on, or with `None` no longer. Deriving the key takes about
    /// 64 MiB and a tenth of a second or more, here and at each load.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] where the memory for that is not to be had.
    pub fn set_passphrase(&mut self, passphrase: Option<&Passphrase>, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.wrap = passphrase.map(|p| Wrap::new(p, random)).transpose()?;
        // What the disk still holds may be in the clear, or under a passphrase that is known.
        self.stale = true;
        Ok(())
    }

    /// Whether the file is protected by a passphrase.
    pub fn has_passphrase(&self) -> bool {
        self.wrap.is_some()
    }

    /// A key that only those can make who have every secret of this file as it is now; for a proof of having them.
    #[cfg(feature = "owner")]
    pub(crate) fn possession(&self) -> zeroize::Zeroizing<[u8; 32]> {
        let single = [&self.log, &self.epoch.1, &self.digest].map(Secret::bytes);
        let several = self.pseudonym.iter().chain(&self.master).map(NamedKey::bytes);
        let secrets = 3 + self.pseudonym.len() + self.master.len();
        // Room for all of it at once: growing would leave copies behind.
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
