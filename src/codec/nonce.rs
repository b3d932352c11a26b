//! A nonce is stored as one number: storing its bytes one by one would take longer than the rest of the entry.

use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(nonce: &[u8; 16], out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u128(u128::from_le_bytes(*nonce))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
    u128::deserialize(from).map(u128::to_le_bytes)
}
