//! Rows of small tables that decide something and that nothing in the log bears out: they carry a MAC under a key that
//! follows from the key file, over the store, the table, the key and the value.
//!
//! Invariant U4: what such a row says counts only where its MAC is right, if the keys are here. A store without keys and
//! whoever reads without them has nothing to check it with; verification names these tables as not authenticated. A row that was
//! right once and was put back later is not found by a MAC.

use crate::store::engine::Engine;
use crate::store::engine::keyring::Keyring;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA-256, cut to 128 bits.
pub(crate) type RowMac = [u8; 16];

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouched {
    /// It was written with the store's keys.
    Yes,
    /// It was not, or was changed since.
    No,
    /// There are no keys here to tell.
    Unknown,
}

/// The key of these MACs, of the digest key.
pub(crate) fn key_of(digest_key: &[u8; 32]) -> Option<Hmac<Sha256>> {
    let derived = Hmac::<Sha256>::new_from_slice(digest_key).ok()?.chain_update(b"attestlog table rows v1");
    Hmac::new_from_slice(&zeroize::Zeroizing::new(<[u8; 32]>::from(derived.finalize().into_bytes()))[..]).ok()
}

impl Keyring {
    fn row_mac(&self, parts: [&[u8]; 4]) -> RowMac {
        let mut mac = self.rows.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|i| whole[i])
    }
}

impl Engine {
    /// The MAC of a row; zeros where there are no keys here.
    pub(crate) fn row_mac(&self, table: &str, key: &[u8], value: &[u8]) -> RowMac {
        let chain_state = self.chain_state();
        let store = chain_state.genesis.as_ref().map_or("", |genesis| genesis.store_id.as_str());
        let keys = self.keys();
        keys.as_ref().map_or([0; 16], |keys| keys.row_mac([store.as_bytes(), table.as_bytes(), key, value]))
    }

    /// Whether a row was written with the store's keys.
    pub(crate) fn vouches(&self, table: &str, key: &[u8], value: &[u8], mac: &RowMac) -> Vouched {
        if self.keys().is_none() {
            return Vouched::Unknown;
        }
        // Compared bit by bit in the same time, wherever they differ.
        let differ = self.row_mac(table, key, value).iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        if differ == 0 { Vouched::Yes } else { Vouched::No }
    }
}
