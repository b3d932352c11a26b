//! By what a process knows the owner of a store before it sends it anything (R72).

use super::remote::Connection;
use crate::keys::KeyFile;
use crate::note::VerifierKey;
use crate::store::KeySource;
use crate::{Error, ErrorKind, Options, Result};
use std::path::Path;
use std::sync::OnceLock;

/// The keys that a process has for the store at `store`; nothing where it has none.
///
/// Where a passphrase was given there have to be keys: else whoever can take the key file away would have this process go on
/// without. That they are keys which it opens [`KeyFile::parse`] sees to.
///
/// # Errors
/// [`Key`](ErrorKind::Key) where there are keys and they cannot be read, and where a passphrase was given that none needs.
pub fn keys(options: &Options, store: &Path) -> Result<Option<KeyFile>> {
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

/// The log's key, as a process that records knows it.
#[derive(Debug, Default)]
pub(super) struct Trust {
    pinned: Option<VerifierKey>,
    own: OnceLock<Option<VerifierKey>>,
}

impl Trust {
    /// With the key that the caller gave, if he did.
    pub(super) fn new(pinned: Option<VerifierKey>) -> Trust {
        Trust { pinned, own: OnceLock::new() }
    }

    /// The key that the caller gave, or that of his key file. Whoever cannot open a key file, and has no passphrase for one, records
    /// without: that is what a passphrase keeps from him.
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

    /// Makes sure that whoever is at the other end has the store's keys, where this process knows them. Says whether it is there.
    pub(super) fn confirm(&self, connection: &mut Connection, options: &Options, store: &Path) -> Result<bool> {
        match self.key(options, store)? {
            Some(key) => connection.confirm(key, &*options.random),
            None => Ok(true),
        }
    }

    /// Refuses a store of another log than the one whose key the caller gave.
    pub(super) fn check(&self, own: Option<&VerifierKey>) -> Result<()> {
        match &self.pinned {
            Some(pinned) if own != Some(pinned) => {
                let own = own.map_or_else(|| "none".to_owned(), ToString::to_string);
                let message =
                    format!("the store's key is {own} and not the one that was given, {pinned}; nothing was recorded");
                Err(Error::new(ErrorKind::Key, message))
            }
            _ => Ok(()),
        }
    }
}
