//! Changes to the small tables while a purge rewrites the store.

use std::collections::BTreeSet;

/// Rows of small tables that changed while a purge was rewriting the store.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub senders: BTreeSet<String>,
    pub unfinished: BTreeSet<u64>,
    /// Ids of data subjects' keys.
    pub subjects: BTreeSet<String>,
    pub subject_tags: BTreeSet<String>,
    /// Answers of anchors: checkpoint size and anchor name.
    pub attestations: BTreeSet<(u64, String)>,
    /// Any other row of these tables may have changed as well.
    pub any: bool,
}
