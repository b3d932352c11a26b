//! Verification: finds everything that is wrong with a store, trusting nothing that lies in it.
//!
//! The log is cut into the index's batches, and these into segments. `segment` reads every entry of one, makes its line again, hashes it,
//! follows the links, and collects what the index should say of it (`terms`). `batch` compares what the segments of a batch come to with the
//! index. `work` has both done on all cores. `log_check` takes the results in order and checks what spans them: the tree, signatures and
//! what was kept elsewhere (`signed`), and the tables that are made from entries (`derived_tables`). `sealed` looks for the keys of sealed
//! values, `small` at the tables that no entry vouches for, `grants` at reviews of emergency access. `pages` checks the pages of the file, and
//! that look-ups lead to the rows that were walked over. `finding` is what any of them can report, `json` its JSON, and `verification_record`
//! keeps what was found last. All findings are reported, not only the first.

mod batch;
mod derived_tables;
mod finding;
mod grants;
mod json;
mod log_check;
mod pages;
mod sealed;
mod segment;
mod signed;
mod small;
mod terms;
mod verification_record;
mod work;

pub use finding::{Finding, FindingKind};
pub use signed::LostAnchors;
pub use verification_record::{VerificationRecord, Verifications};

use crate::anchor::{Kept, Unreadable};
use crate::keyless::Keyless;
use crate::note::VerifierKey;
use crate::restored::Restored;
use crate::{AuditLog, Hash, Result};
use std::fmt;
use std::sync::Arc;

/// Called with the entries that are verified and the entries that there are.
type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

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
    /// On all cores, silently.
    pub fn new() -> VerifyOptions {
        VerifyOptions::default()
    }

    /// On this many threads.
    pub fn threads(mut self, threads: usize) -> VerifyOptions {
        self.threads = Some(threads.max(1));
        self
    }

    /// The log key as it was given from outside. Without it a store that was written anew with a fresh key passes, as
    /// unpinned.
    pub fn public_key(mut self, key: VerifierKey) -> VerifyOptions {
        self.public_key = Some(key);
        self
    }

    /// What was kept elsewhere: checkpoints, anchor files, time-stamps. Without any, an older copy of the whole store
    /// passes, as unanchored.
    pub fn against(mut self, kept: impl IntoIterator<Item = Kept>) -> VerifyOptions {
        self.against.extend(kept);
        self
    }

    /// What of `file`, which was kept elsewhere, cannot be read or does not hold ([`Evidence::unreadable`]): each place is a
    /// finding, since it may be the one that would have shown what is wrong. But for a last line that was cut off: a crash leaves
    /// that, and whoever could cut it could have taken it away.
    ///
    /// [`Evidence::unreadable`]: crate::anchor::Evidence::unreadable
    pub fn against_unreadable(mut self, file: &str, places: impl IntoIterator<Item = Unreadable>) -> VerifyOptions {
        let places = places.into_iter().filter(|place| !place.cut_off);
        self.unreadable.extend(places.map(|place| (file.to_owned(), place)));
        self
    }

    /// Tells how far it is: entries verified, entries in all. Called from one thread at a time.
    pub fn progress(mut self, progress: Progress) -> VerifyOptions {
        self.progress = Some(progress);
        self
    }
}

impl fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// What a verification found. Only [`AuditLog::verify`] makes one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Verification {
    /// How many entries were recorded.
    pub size: u64,
    /// How many of them are there.
    pub entries: u64,
    /// How many were purged by policy.
    pub purged: u64,
    /// The RFC 6962 root over all of them, computed from what is there.
    pub root: Hash,
    /// The hash of the newest entry.
    pub head: Hash,
    /// Whether a checkpoint of the store's is signed.
    pub signed: bool,
    /// How many entries the newest good signature covers.
    pub signed_size: u64,
    /// Whether the key was given from outside the store.
    pub key_pinned: bool,
    /// Whether something that is kept elsewhere agrees with the store, and all that was given of it could be read.
    pub anchored: bool,
    /// How many entries that covers.
    pub anchored_size: u64,
    /// From which entry on whoever holds the present key file could have rewritten the log, and this verification would
    /// not show it: what lies behind everything that was kept elsewhere and behind the beginning of the present epoch
    /// (which counts only where the key was given from outside; after a restoring that brought the epoch it is what an epoch that is
    /// over had signed). The size of the log where nothing lies open.
    pub rewritable_from: u64,
    /// When the log was made out of an older copy, as its entries say: what was recorded and signed since the copy is lost.
    pub restored: Vec<Restored>,
    /// What was kept elsewhere of the entries that were lost by that, one for each restoring. It is not compared with what was recorded in their
    /// place.
    pub lost_anchors: Vec<LostAnchors>,
    /// What was recorded without the store's key, as its entries say. A signature of later covers it like everything else.
    pub recorded_without_key: Vec<Keyless>,
    /// The small tables that hold what neither the entries nor a MAC can vouch for here: the store has no keys, or they are
    /// not at hand.
    pub not_authenticated: Vec<&'static str>,
    /// Whether the file holds a commit that is whole, newer than the one that counts and with other rows. It is so
    /// after a crash in the middle of a commit, of which nobody was told that it is recorded. It is so as well where somebody changed
    /// one bit of the header of a file that was not closed, to take back the last commit: without the key file's mark or something
    /// kept elsewhere nothing tells these two apart.
    pub unfinished_commit: bool,
    /// Whether only the pages of the file were gone through ([`Verification::of_pages`]), and no entry: then size, root, head and
    /// what is signed say nothing.
    pub pages_only: bool,
    /// Everything that is wrong, by seq.
    pub findings: Vec<Finding>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Verification {
    /// Whether nothing is wrong. This says nothing of how far it reaches: see `signed_size` and `anchored_size`.
    pub fn ok(&self) -> bool {
        self.findings.is_empty()
    }
}

impl AuditLog {
    /// Checks every entry, every link and every derived row.
    ///
    /// # Errors
    /// Only where the store cannot be read at all; what is wrong with it is in [`Verification::findings`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall, VerifyOptions};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("c", "u", "lookup"))?;
    /// let verification = log.verify(&VerifyOptions::new())?;
    /// assert!(verification.ok(), "{:?}", verification.findings);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn verify(&self, options: &VerifyOptions) -> Result<Verification> {
        log_check::verify(self, options)
    }
}
