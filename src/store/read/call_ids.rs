//! The entries of one conversation by the ids of their calls, for those who ask for one after the other.
//!
//! No index has call ids: few ask for them, and then for those of one conversation. The entries are checked again when they are read.

use crate::store::read::snapshot::Snapshot;
use crate::store::read::stream::backwards;
use crate::{Hash, Result};
use attestlog_proof::entry::Facet;
use std::collections::HashMap;

/// How many of the newest entries of a conversation are looked at.
const LOOKED_AT: usize = 20_000;

/// The ids of the calls of one conversation.
#[derive(Debug, Default)]
pub(crate) struct CallIds {
    /// The conversation, as the log may have it.
    of: Vec<String>,
    /// The entries before this seq are known.
    upto: u64,
    count: usize,
    seqs: HashMap<Hash, Vec<u64>>,
}

impl CallIds {
    /// The entries of this conversation whose call has this id, oldest first.
    pub(crate) fn with(
        &mut self,
        snapshot: &Snapshot,
        conversation: &(Facet, Vec<String>),
        id: &str,
    ) -> Result<&[u64]> {
        if self.of != conversation.1 || self.upto > snapshot.size || self.count > 2 * LOOKED_AT {
            *self = CallIds { of: conversation.1.clone(), ..CallIds::default() };
        }
        let (mut fresh, mut left) = (Vec::new(), LOOKED_AT);
        backwards(snapshot, std::slice::from_ref(conversation), snapshot.size, &mut |seq| {
            if seq < self.upto {
                return Ok(false);
            }
            left -= 1;
            let entry = snapshot.checked(seq)?;
            let id = entry.as_ref().and_then(|entry| entry.call()?.call_id.as_ref());
            fresh.extend(id.map(|id| (Hash::of(id.as_bytes()), seq)));
            Ok(left > 0)
        })?;
        self.upto = snapshot.size;
        self.count += fresh.len();
        for (id, seq) in fresh.into_iter().rev() {
            self.seqs.entry(id).or_default().push(seq);
        }
        Ok(self.seqs.get(&Hash::of(id.as_bytes())).map_or(&[], Vec::as_slice))
    }
}
