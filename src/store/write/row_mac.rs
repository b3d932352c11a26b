//! MACs for rows of small tables that influence decisions and that no entry confirms. The MAC is under a key derived from the
//! key file, over the store, the table, the key and the value.
//!
//! Invariant U4: if the keys are available, such a row counts only if its MAC is valid. Without keys the MAC cannot be
//! checked; verification reports these tables as not authenticated. A MAC does not detect that an older valid row was put
//! back.

use crate::store::engine::Engine;
use crate::store::engine::row_mac::{RowMac, Vouched};

impl Engine {
    /// The MAC of a row; zeros if there are no keys here.
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
        // Compared in constant time.
        let differ = self.row_mac(table, key, value).iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        if differ == 0 { Vouched::Yes } else { Vouched::No }
    }
}
