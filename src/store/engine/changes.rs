//! What changes in the small tables while a purge writes the store anew.

use std::collections::BTreeSet;

/// Rows of tables that are small and may change with any commit, which changed while the store was being written anew.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub senders: BTreeSet<String>,
    pub unfinished: BTreeSet<u64>,
    /// Ids of subjects' keys.
    pub subjects: BTreeSet<String>,
    pub subject_tags: BTreeSet<String>,
    /// What anchors have answered: size and name of each.
    pub attestations: BTreeSet<(u64, String)>,
    /// Any other row of these tables may have changed as well.
    pub any: bool,
}
