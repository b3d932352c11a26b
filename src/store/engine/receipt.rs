//! What the caller gets for a recorded call.

use crate::Hash;

/// Confirms that a call was recorded: the entry is durable by the time the caller has the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// The entry's sequence number in the log.
    pub seq: u64,
    /// The entry's hash, which an inclusion proof starts from.
    pub hash: Hash,
}

attestlog_proof::json_form!(members Receipt { seq, hash });

impl Receipt {
    pub(crate) fn new(seq: u64, hash: Hash) -> Receipt {
        Receipt { seq, hash }
    }
}
