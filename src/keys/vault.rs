//! Places other than a file for the text of a key file: an environment variable, the operating system's keyring, or
//! wherever the host keeps its secrets.
//!
//! Invariant: what is read from a vault is held in memory that is zeroized, and none of it is in an error or a `Debug`.

use super::MAX_KEY_FILE_BYTES;
use crate::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Stores the text of a key file, as [`KeyFile::to_text`](super::KeyFile::to_text) writes it and
/// [`KeyFile::parse`](super::KeyFile::parse) reads it.
pub trait KeyVault: Send + Sync {
    /// Its name in messages. Not secret.
    fn name(&self) -> String;

    /// The text that it holds, if any.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key), with what to do, if it cannot be read.
    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>>;

    /// Replaces its content durably: the old text is gone, and after a crash it holds either the old text or the new one.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) if it cannot; the old text is kept then.
    fn store(&self, text: &[u8]) -> Result<()>;

    /// Whether [`store`](KeyVault::store) can ever succeed. If not, keys are not rotated and nobody is erased: both destroy
    /// a key, and a key that comes back at the next start cannot be destroyed.
    fn is_replaceable(&self) -> bool {
        true
    }

    /// The most bytes that it can hold. A key file that does not fit drops its oldest rotations, which are needed only to restore
    /// an old copy.
    fn capacity(&self) -> usize {
        MAX_KEY_FILE_BYTES
    }
}

impl<V: KeyVault + ?Sized> KeyVault for Box<V> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        (**self).load()
    }

    fn store(&self, text: &[u8]) -> Result<()> {
        (**self).store(text)
    }

    fn is_replaceable(&self) -> bool {
        (**self).is_replaceable()
    }

    fn capacity(&self) -> usize {
        (**self).capacity()
    }
}

/// A whole key file in an environment variable, as base64 (`base64 -w0 audit.log.key`).
///
/// Its content cannot be replaced. So the mark of the last signature is not kept from one run to the next, keys cannot be
/// rotated and nobody can be erased: do that with the key file, and update the variable.
#[derive(Debug, Clone)]
pub struct EnvironmentKeys(String);

impl EnvironmentKeys {
    /// The keys in this variable.
    pub fn new(variable: impl Into<String>) -> EnvironmentKeys {
        EnvironmentKeys(variable.into())
    }
}

impl KeyVault for EnvironmentKeys {
    fn name(&self) -> String {
        format!("the environment variable {}", self.0)
    }

    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(value) = std::env::var_os(&self.0) else { return Ok(None) };
        let text = Zeroizing::new(value.into_encoded_bytes());
        let refuse = |why: &str| Err(Error::new(ErrorKind::Key, format!("{}: {why}", self.name())));
        if text.len() > MAX_KEY_FILE_BYTES * 2 {
            return refuse("it is too long for a key file");
        }
        let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
        plain.extend(text.iter().filter(|b| !b.is_ascii_whitespace()));
        let mut out = Zeroizing::new(Vec::with_capacity(text.len() + 4));
        match STANDARD.decode_vec(&*plain, &mut out) {
            Ok(()) => Ok(Some(out)),
            Err(_) => refuse("it is not base64; put the whole key file into it, as `base64 -w0 STORE.key` prints it"),
        }
    }

    fn store(&self, _: &[u8]) -> Result<()> {
        let message = format!(
            "the keys come from {}, where nothing can be replaced: put them into a key file, do this there, and renew the \
             variable",
            self.name()
        );
        Err(Error::new(ErrorKind::Key, message))
    }

    fn is_replaceable(&self) -> bool {
        false
    }
}

/// The operating system's keyring: the Secret Service on Linux, the Keychain on macOS, the Credential Manager on Windows
/// (which takes at most 2,560 bytes, enough for a key file with a few pseudonym and master keys).
#[cfg(feature = "keyring")]
#[derive(Debug, Clone)]
pub struct OsKeyring {
    account: String,
}

#[cfg(feature = "keyring")]
impl OsKeyring {
    /// The keys under the service `attestlog` and this account: usually the store's path.
    pub fn new(account: impl Into<String>) -> OsKeyring {
        OsKeyring { account: account.into() }
    }

    fn entry(&self) -> Result<keyring::v1::Entry> {
        keyring::v1::Entry::new("attestlog", &self.account).map_err(|e| self.failed(&e))
    }

    fn failed(&self, e: &keyring::v1::Error) -> Error {
        // A keyring's error about data that it cannot decode contains the data.
        let why = match e {
            keyring::v1::Error::BadEncoding(_) => "what it holds cannot be read".to_owned(),
            keyring::v1::Error::NoDefaultStore => {
                "no keyring answers; on Linux that is the Secret Service, which needs a D-Bus session and an unlocked keyring".to_owned()
            }
            other => other.to_string(),
        };
        Error::new(ErrorKind::Key, format!("{}: {why}", self.name()))
    }
}

#[cfg(feature = "keyring")]
impl KeyVault for OsKeyring {
    fn name(&self) -> String {
        format!("the system's keyring (attestlog, {})", self.account)
    }

    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        match self.entry()?.get_secret() {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(keyring::v1::Error::NoEntry) => Ok(None),
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn store(&self, text: &[u8]) -> Result<()> {
        self.entry()?.set_secret(text).map_err(|e| self.failed(&e))
    }

    fn capacity(&self) -> usize {
        if cfg!(windows) { 2560 } else { MAX_KEY_FILE_BYTES }
    }
}
