//! Verification: finds everything that is wrong with a store, and trusts nothing that is stored in it.
//!
//! The log is divided into the batches of the index, and these into segments. `segment` reads every entry of a segment,
//! rebuilds its line, hashes it, follows the links, and collects what the index should say about it (`terms`). `batch`
//! compares the collected terms of a whole batch with the index. `work` distributes both over all cores. `log_check`
//! takes the results in order and checks what spans batches: the tree, signatures and what was kept elsewhere
//! (`signed`), and the tables derived from entries (`derived_tables`). `contents` compares where contents lie with the entries, `sealed` checks the keys of sealed values,
//! `small` the tables that no entry vouches for, `grants` the reviews of emergency access. `pages` checks the pages of
//! the file, and that look-ups find the same rows as a walk over the table. `finding` defines what can be reported,
//! `json` its JSON, `settled` what somebody has settled, and `verification_record` keeps what was found last. All findings are
//! reported, not only the first.

mod batch;
mod contents;
mod derived_tables;
mod finding;
mod grants;
mod json;
mod log_check;
mod pages;
pub(crate) mod sealed;
mod segment;
pub(crate) mod settled;
mod signed;
mod small;
mod terms;
pub(crate) mod verification_record;
mod work;

pub use crate::chain_state::Standing;
pub use crate::keyless::Keyless;
pub use crate::restored::{Confirmed, Restored, Stands};
pub use finding::{Finding, FindingKind};
pub use settled::Settled;
pub use signed::LostAnchors;
pub use verification_record::{VerificationRecord, Verifications};

use crate::anchor::{Kept, Unreadable};
use crate::note::VerifierKey;
use crate::store::OpenStore;
use crate::{Hash, Result};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Called with the number of entries verified so far and the number of all entries.
pub(crate) type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How to verify.
#[derive(Clone, Default)]
pub struct VerifyOptions {
    threads: Option<usize>,
    progress: Option<Progress>,
    public_key: Option<VerifierKey>,
    against: Vec<Kept>,
    unreadable: Vec<(String, Unreadable)>,
}

impl VerifyOptions {
    /// Verifies on all cores, without reporting progress.
    pub fn new() -> VerifyOptions {
        VerifyOptions::default()
    }

    /// Sets the number of threads.
    pub fn threads(mut self, threads: usize) -> VerifyOptions {
        self.threads = Some(threads.max(1));
        self
    }

    /// Sets the log key, as obtained from outside the store. Without it, a store that was rewritten with a new key
    /// passes, as unpinned.
    pub fn public_key(mut self, key: VerifierKey) -> VerifyOptions {
        self.public_key = Some(key);
        self
    }

    /// Adds checkpoints, anchor files and time-stamps that were kept elsewhere. Without any, an older copy of the whole
    /// store passes, as unanchored.
    pub fn against(mut self, kept: impl IntoIterator<Item = Kept>) -> VerifyOptions {
        self.against.extend(kept);
        self
    }

    /// Adds the places in `file`, which was kept elsewhere, that cannot be read or are not valid
    /// ([`Evidence::unreadable`]). Each becomes a finding, since it may be the one that would have shown what is wrong.
    /// The exception is a last line that was cut off: a crash can cause that, and somebody who could cut the line could
    /// also have removed it.
    ///
    /// [`Evidence::unreadable`]: crate::anchor::Evidence::unreadable
    pub fn against_unreadable(mut self, file: &str, places: impl IntoIterator<Item = Unreadable>) -> VerifyOptions {
        let places = places.into_iter().filter(|place| !place.cut_off);
        self.unreadable.extend(places.map(|place| (file.to_owned(), place)));
        self
    }

    /// Sets a function that is called with the number of entries verified so far and the number of all entries, by one
    /// thread at a time.
    pub fn progress(mut self, progress: Progress) -> VerifyOptions {
        self.progress = Some(progress);
        self
    }

    /// Sets that function, unless one was set.
    pub(crate) fn telling(mut self, progress: Option<&Progress>) -> VerifyOptions {
        self.progress = self.progress.or_else(|| progress.cloned());
        self
    }

    /// That function. It is no part of what is sent to another process.
    pub(crate) fn told(&self) -> Option<Progress> {
        self.progress.clone()
    }
}

impl fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// What a verification found. Only [`AuditLog::verify`](crate::AuditLog::verify) makes one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verification {
    /// How many entries were recorded in all.
    pub size: u64,
    /// How many of them are in the store.
    pub entries: u64,
    /// How many of them were purged by policy.
    pub purged: u64,
    /// The RFC 6962 root over all of them, computed from what the store holds.
    pub root: Hash,
    /// The hash of the newest entry.
    pub head: Hash,
    /// Whether a valid signature of the store's key covers any entries.
    pub signed: bool,
    /// How many entries the newest valid signature covers.
    pub signed_size: u64,
    /// Whether the key was given from outside the store.
    pub key_pinned: bool,
    /// Whether something kept elsewhere agrees with the store, and everything kept elsewhere that was given could be
    /// read.
    pub anchored: bool,
    /// How many entries are covered by something kept elsewhere.
    pub anchored_size: u64,
    /// The first entry that a holder of the current key file could have rewritten without this verification noticing:
    /// the first after everything that was kept elsewhere and after the beginning of the current epoch. (The epoch
    /// counts only if the key was given from outside. If a restore began the current epoch, what an ended epoch had
    /// signed counts instead.) Equals the size of the log if no entry could have been rewritten.
    pub rewritable_from: u64,
    /// When the log was restored from an older copy, as its entries say: what was recorded and signed after the copy is
    /// lost.
    pub restored: Vec<Restored>,
    /// Checkpoints kept elsewhere that cover entries lost by restores, one item for each restore. They are not compared
    /// with what was recorded in place of the lost entries.
    pub lost_anchors: Vec<LostAnchors>,
    /// What was recorded without the store's key, as its entries say. A later signature covers it like everything else.
    pub recorded_without_key: Vec<Keyless>,
    /// The small tables with contents that neither the entries nor a MAC can vouch for here, because the store has no
    /// keys or they are not available.
    pub not_authenticated: Vec<Cow<'static, str>>,
    /// Whether the file holds a commit that is newer than the current one and has other rows. This is so after
    /// a crash in the middle of a commit, which was never acknowledged. It is also so if somebody changed one bit of
    /// what the last commit wrote in a file that was not closed, to undo it. Only the key file's mark or something kept
    /// elsewhere can tell the two apart.
    pub unfinished_commit: bool,
    /// Whether only the pages of the file were checked ([`Verification::of_pages`]), and no entry. Then size, root,
    /// head and signed size mean nothing.
    pub pages_only: bool,
    /// Everything that is wrong: first what was changed, then what may follow from it; each ordered by seq, then by kind, then by its
    /// place in the store.
    pub findings: Vec<Finding>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Verification {
    /// Whether nothing is wrong. This does not say how far the verification reaches: see `signed_size` and
    /// `anchored_size`.
    pub fn ok(&self) -> bool {
        self.findings.is_empty()
    }
}

impl OpenStore {
    /// Checks every entry, every link and every derived row.
    pub(crate) fn verify(&self, options: &VerifyOptions) -> Result<Verification> {
        log_check::verify(self, options)
    }
}
