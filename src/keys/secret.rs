//! Secret bytes: zeroized when dropped, never printed, never copied by a move.

use crate::Hash;
use crate::hash::{from_hex, to_hex};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// 32 secret bytes. Boxed, so that moving the owner leaves no copies behind.
pub(super) struct Secret(Box<Zeroizing<[u8; 32]>>);

impl Secret {
    pub(super) fn random(random: &mut dyn FnMut(&mut [u8])) -> Secret {
        let mut secret = Secret(Box::default());
        random(&mut secret.0[..]);
        secret
    }

    /// The bytes that `fill` writes.
    #[cfg(feature = "passphrase")]
    pub(super) fn filled<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Secret, E> {
        let mut secret = Secret(Box::default());
        fill(&mut secret.0)?;
        Ok(secret)
    }

    pub(super) fn copied(bytes: &[u8; 32]) -> Secret {
        let mut secret = Secret(Box::default());
        secret.0.copy_from_slice(bytes);
        secret
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Identifies a pseudonym or master key in entries without revealing it: eight hexadecimal digits of a hash of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<KeyId, crate::Error> {
        let id = from_hex(text).and_then(|b| b.try_into().ok()).map(KeyId);
        id.ok_or_else(|| crate::Error::invalid("a key id is eight lower-case hexadecimal digits"))
    }
}

/// A secret key and the id computed from it.
pub struct NamedKey {
    id: KeyId,
    secret: Secret,
}

impl NamedKey {
    /// The keys have 256 random bits, so a hash of one is safe to publish; `label` keeps the uses apart.
    pub(super) fn new(label: &str, secret: Secret) -> NamedKey {
        let input = Zeroizing::new([b"attestlog key id\n", label.as_bytes(), b"\n", secret.bytes()].concat());
        let [a, b, c, d, ..] = Hash::of(&input).0;
        NamedKey { id: KeyId([a, b, c, d]), secret }
    }

    /// The id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8; 32] {
        self.secret.bytes()
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedKey({})", self.id)
    }
}
