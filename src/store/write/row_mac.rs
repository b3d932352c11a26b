//! Rows of small tables that decide something and that nothing in the log bears out: they carry a MAC under a key that
//! follows from the key file, over the store, the table, the key and the value.
//!
//! Invariant U4: what such a row says counts only where its MAC is right, if the keys are here. A store without keys and
//! whoever reads without them has nothing to check it with; verification names these tables as not authenticated. A row that was
//! right once and was put back later is not found by a MAC.

use crate::store::engine::Engine;
use crate::store::engine::row_mac::{RowMac, Vouched};

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
