//! The keys of an open store, and their uses: digests of results, pseudonyms, signatures.

use crate::chain_state::{ChainState, Genesis};
use crate::hash::to_hex;
use crate::json::Object;
use crate::keys::{KeyFile, KeyId, KeyVault, Mark, Passphrase};
use crate::names::PSEUDONYM_KEY_EVENT;
use crate::policy::{Policies, PolicySet};
use crate::redact::{PseudonymKey, Sanitizer, Secrets};
use crate::store::engine::row_mac::RowMac;
use crate::{Error, ErrorKind, Hash, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The keys, and the file or vault where they are kept.
pub(crate) struct Keyring {
    pub file: KeyFile,
    pub path: Option<PathBuf>,
    pub vault: Option<Arc<dyn KeyVault>>,
    /// The master key that wraps data subjects' keys: one that the key file on the disk already holds.
    pub master: KeyId,
    /// The mark that the start of this store was last checked against.
    pub(crate) vouched: Option<Mark>,
    /// The mark as it is saved with the keys: the next opening checks against it.
    pub(crate) kept: Option<Mark>,
    /// Whether these keys were a copy of the key file when they were read.
    pub(crate) was_copy: bool,
    /// The digest key's id, and its prepared HMAC state: for a short result, preparing the key is most of the cost.
    digest: (String, Hmac<Sha256>),
    /// The key of the MACs over rows of small tables.
    pub(crate) rows: Hmac<Sha256>,
    /// The key of senders' ids, and of the digests of what they gave.
    senders: Hmac<Sha256>,
}

/// What the keys last signed of their store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed {
    pub mark: Mark,
    /// Whether the mark is saved with each signature. Otherwise it dates from when the keys were put into the vault.
    pub is_kept: bool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vault = self.vault.as_ref().map(|vault| vault.name());
        f.debug_struct("Keyring").field("file", &self.file).field("path", &self.path).field("vault", &vault).finish()
    }
}

impl Keyring {
    pub(crate) fn row_mac(&self, parts: [&[u8]; 4]) -> RowMac {
        let mut mac = self.rows.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|i| whole[i])
    }

    /// A keyring for the key file at `path`; `None` only for a file without a master key, which does not occur.
    pub(crate) fn new(file: KeyFile, path: Option<PathBuf>) -> Option<Keyring> {
        let master = file.master_keys().next()?.id();
        let key = file.digest_key();
        let id = Hash::of(&[b"attestlog digest key\0", &key[..]].concat());
        let rows = crate::store::engine::row_mac::key_of(key, b"attestlog table rows v1")?;
        let senders = crate::store::engine::row_mac::key_of(key, b"attestlog senders v1")?;
        let digest = (to_hex(&id.0[..4]), Hmac::new_from_slice(key).ok()?);
        let (kept, was_copy, path) = (file.mark(), file.is_copy(), path.as_deref().map(crate::keys::whole));
        Some(Keyring { file, path, vault: None, master, vouched: None, kept, was_copy, digest, rows, senders })
    }

    /// Like [`Keyring::new`], for keys that are in a vault.
    pub(crate) fn in_vault(file: KeyFile, vault: Arc<dyn KeyVault>) -> Option<Keyring> {
        Keyring::new(file, None).map(|keys| Keyring { vault: Some(vault), ..keys })
    }

    /// What the keys last signed, as far as that is saved with them.
    pub(crate) fn signed(&self) -> Option<Signed> {
        self.kept.map(|mark| Signed { mark, is_kept: self.is_replaceable() })
    }

    /// Whether a key can be destroyed where it is kept.
    pub(crate) fn is_replaceable(&self) -> bool {
        self.vault.as_ref().is_none_or(|vault| vault.is_replaceable())
    }

    /// Fails if a key cannot be destroyed where it is kept; to be called before any operation that needs it.
    pub(crate) fn check_replaceable(&self) -> Result<()> {
        if let Some(path) = &self.path {
            crate::keys::check_only_name(path)?;
        }
        match &self.vault {
            Some(vault) if !vault.is_replaceable() => vault.store(&[]),
            _ => Ok(()),
        }
    }

    /// Refuses an older copy of the key file: entries recorded with it would use keys that were replaced or destroyed, and
    /// what it signs would make the newer key file useless.
    pub(crate) fn check_newest(&self, chain_state: &ChainState) -> Result<()> {
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

    /// Checks that these are the keys of this log, of whatever epoch.
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

    /// Checks that the store begins with what these keys last signed (K4). A mark that was checked once is not checked again:
    /// recording only appends.
    pub(crate) fn check_history(&mut self, size: u64, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<()> {
        let mark = self.file.mark();
        if mark != self.vouched {
            self.file.check_mark(size, root_at)?;
            self.vouched = mark;
        }
        Ok(())
    }

    /// Checks that the key file is still there and records no signatures by others: nothing is acknowledged that will not be
    /// signed (R61). A vault is not checked.
    pub(crate) fn check_kept(&mut self, size: u64) -> Result<()> {
        let checked = if self.path.is_some() { self.file.check_on_disk() } else { Ok(()) };
        checked.map_err(|e| self.unsigned(size, e))
    }

    /// Adds to the error how many acknowledged entries can no longer be signed.
    pub(crate) fn unsigned(&self, size: u64, e: Error) -> Error {
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

    /// The message for a store that was made without keys, when these keys were found for it.
    pub(crate) fn stray(&self) -> String {
        format!(
            "the store was made without keys, and its key file is that of {}: another store was put in the place of the signed \
             one; bring that back, or move the key file away if this store was meant to be without keys",
            self.file.origin()
        )
    }

    /// To be called when the file was reopened, as it may be a different one.
    pub(crate) fn forget_history(&mut self) {
        self.vouched = None;
    }

    /// The id of the pseudonym key for new values, as pseudonyms carry it.
    pub(crate) fn pseudonym_key(&self) -> Option<String> {
        self.pseudonyms().pseudonyms.first().map(|key| key.id().to_owned())
    }

    /// `KEY-ID:HMAC` of an entire result under the digest key.
    pub(crate) fn digest(&self, whole: &[u8]) -> Option<String> {
        let mut mac = self.digest.1.clone();
        mac.update(whole);
        Some([&*self.digest.0, ":", &*to_hex(&mac.finalize().into_bytes())].concat())
    }

    /// A MAC over what a sender gave: its id, or a part of its call.
    pub(crate) fn sender_mac(&self, part: &str, given: &[u8]) -> [u8; 32] {
        let mut mac = self.senders.clone();
        mac.update(part.as_bytes());
        mac.update(&[0]);
        mac.update(given);
        mac.finalize().into_bytes().into()
    }

    fn pseudonyms(&self) -> Secrets {
        Secrets { pseudonyms: self.file.pseudonym_keys().map(|key| PseudonymKey::new(*key.bytes())).collect() }
    }
}

/// Reads a key file, if it exists.
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

/// Prepares policies for use with the available keys.
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
