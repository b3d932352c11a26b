//! How a process checks the owner of a store before it sends anything to it (R72).

use super::remote::Connection;
use crate::keys::KeyFile;
use crate::note::VerifierKey;
use crate::store::KeySource;
use crate::{Error, ErrorKind, Options, Result};
use std::path::Path;
use std::sync::OnceLock;

/// The keys that this process has for the store at `store`; `None` if it has none.
///
/// If a passphrase was given there must be keys: otherwise somebody who can remove the key file could make this process
/// continue without them. [`KeyFile::parse`] checks that the passphrase opens them.
///
/// # Errors
/// [`Key`](ErrorKind::Key) if there are keys that cannot be read, or if a passphrase was given and the keys need none.
pub fn keys(options: &Options, store: &Path) -> Result<Option<KeyFile>> {
    let store = &crate::files::resolve(store);
    let passphrase = options.passphrase.as_deref();
    let (loaded, place) = match (&options.keys, crate::store::key_path(options, Some(store))) {
        (KeySource::Vault(vault), _) => {
            let text = vault.load()?;
            let parsed = text.map(|text| KeyFile::parse(&text, passphrase).map_err(|e| e.at(vault.name()))).transpose();
            (parsed?, vault.name())
        }
        (_, Some(path)) => {
            let is_there = std::fs::symlink_metadata(&path).is_ok();
            let loaded = is_there.then(|| KeyFile::load(&path, passphrase)).transpose()?;
            (loaded, path.display().to_string())
        }
        (_, None) => return Ok(None),
    };
    let refuse = |why: &str| Err(Error::new(ErrorKind::Key, format!("{place}: {why}")));
    match (&loaded, passphrase) {
        (None, Some(_)) => refuse(
            "a passphrase was given and no key file is there, so it cannot be told whether the process that has the store open may \
             be believed: bring the key file back, or give no passphrase if you mean to go through that process without a key",
        ),
        _ => Ok(loaded),
    }
}

/// What the other end has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    Proven,
    /// Nothing, because this process knows no key of the log.
    Unproven,
    /// The other end has exited.
    Gone,
}

/// The log's public key, as a process that reaches the owner knows it.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    pinned: Option<VerifierKey>,
    own: OnceLock<Option<VerifierKey>>,
}

impl Trust {
    /// Starts with the public key that the caller gave, if any.
    pub(crate) fn new(pinned: Option<VerifierKey>) -> Trust {
        Trust { pinned, own: OnceLock::new() }
    }

    /// The key that the caller gave, or the one in the key file. A process that cannot open its key file, and has no
    /// passphrase for it, records without checking the owner: that is what the passphrase withholds from it.
    fn key(&self, options: &Options, store: &Path) -> Result<Option<&VerifierKey>> {
        if self.pinned.is_some() {
            return Ok(self.pinned.as_ref());
        }
        if let Some(own) = self.own.get() {
            return Ok(own.as_ref());
        }
        let loaded = match keys(options, store) {
            Err(_) if options.passphrase.is_none() => None,
            loaded => loaded?,
        };
        Ok(self.own.get_or_init(|| loaded.map(|keys| keys.verifier())).as_ref())
    }

    /// Checks that the other end has the store's keys, if this process knows them.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key): it does not show that it has them, or the keys of this process cannot be read.
    pub(crate) fn confirm(&self, connection: &mut Connection, options: &Options, store: &Path) -> Result<Confirmed> {
        let Some(key) = self.key(options, store)? else {
            return Ok(Confirmed::Unproven);
        };
        Ok(if connection.confirm(key, &*options.random)? { Confirmed::Proven } else { Confirmed::Gone })
    }
}
