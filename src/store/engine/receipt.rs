//! What whoever recorded something gets.

use crate::Hash;

/// The proof that something was recorded: it is on the disk when this is in the caller's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// The entry's place in the log.
    pub seq: u64,
    /// The entry's hash, which an inclusion proof starts from.
    pub hash: Hash,
}

impl Receipt {
    pub(crate) fn new(seq: u64, hash: Hash) -> Receipt {
        Receipt { seq, hash }
    }
}
