//! The MAC of a row, under a key derived from the key file.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA-256, truncated to 128 bits.
pub(crate) type RowMac = [u8; 16];

/// Whether a row is authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouched {
    /// It was written with the store's keys.
    Yes,
    /// It was not, or it was changed since.
    No,
    /// There are no keys here to check with.
    Unknown,
}

/// Derives the key of MACs for this use from the digest key.
pub(crate) fn key_of(digest_key: &[u8; 32], purpose: &[u8]) -> Option<Hmac<Sha256>> {
    let derived = Hmac::<Sha256>::new_from_slice(digest_key).ok()?.chain_update(purpose);
    Hmac::new_from_slice(&zeroize::Zeroizing::new(<[u8; 32]>::from(derived.finalize().into_bytes()))[..]).ok()
}
