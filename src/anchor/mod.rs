//! Hands checkpoints to places that somebody who rewrites the log cannot reach.
//!
//! Invariants: an anchor gets signed checkpoints and nothing else from the log. Its answer is checked before it counts
//! (a cosignature against the witness's key, a token against what was sent). Everything sent is bounded in bytes and
//! time. A failure is an error with its reason, and the checkpoint stays owed in the [`AnchorQueue`] until it is
//! delivered.
//!
//! `file`, `command`, `witness` and `timestamp` are the anchors. `record` is the form in which checkpoints are kept,
//! `evidence` reads what was kept elsewhere back for a verification, and `queue` tracks which checkpoint is owed to
//! which anchor. `der`, `process` and `http` transport bytes for them. `record`, `evidence`, `der` and `queue` need no
//! clock, no randomness and, except for [`Evidence::read`], no I/O. Calls go from the anchors downwards; nothing here
//! knows the store.
//!
//! ```
//! use attestlog::anchor::{Anchor, Evidence, FileAnchor};
//! use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("kept.jsonl");
//! let key = SigningKey::from_seed("example.com/log", &[7; 32])?;
//! let checkpoint = Checkpoint::new("example.com/log", 0, attestlog::Hash::of(b""))?;
//! let signed = SignedCheckpoint::sign(checkpoint, &[&key])?;
//! FileAnchor::new(&path).submit(&signed, &|_| Ok(Vec::new()))?;
//! assert_eq!(Evidence::read(&path, &[])?.kept[0].checkpoint, signed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod command;
#[cfg(feature = "config")]
mod config;
mod der;
mod evidence;
mod file;
#[cfg(feature = "witness")]
pub(crate) mod http;
pub(crate) mod process;
mod queue;
mod record;
mod timestamp;
#[cfg(feature = "witness")]
mod witness;

pub use command::CommandAnchor;
#[cfg(feature = "config")]
pub use config::{AnchorConfig, Channel, check_names};
pub use evidence::{Evidence, Form, Kept, Source};
pub use file::FileAnchor;
pub use queue::{AnchorHealth, AnchorQueue, AnchorStatus, Backoff, Due, Failure, MAX_ANCHORS, Success};
pub use record::{AnchorFile, MAX_ANCHOR_FILE_BYTES, Record, Unreadable, read_anchor_file};
pub use timestamp::{TimestampAnchor, TimestampRequest, check_token};
#[cfg(feature = "witness")]
pub use witness::WitnessAnchor;

use crate::note::{Signature, SignedCheckpoint};
use crate::{Error, Hash, Result, Timestamp};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Returns the RFC 6962 consistency proof from a smaller size of the log to the checkpoint that is being handed over.
/// Only called with sizes from 1 to one less than the checkpoint's.
pub type Consistency<'a> = dyn Fn(u64) -> Result<Vec<Hash>> + 'a;

/// A place outside the log where a checkpoint is kept or witnessed.
pub trait Anchor: fmt::Debug + Send + Sync {
    /// Its name in reports and in the [`AnchorQueue`]: stable, and without secrets.
    fn name(&self) -> String;

    /// Hands over `signed` and waits for the answer, no longer than the anchor's timeout. Handing over the same
    /// checkpoint again is harmless.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the anchor's record contradicts this log; any other kind if the
    /// anchor could not be reached, refused, or gave an invalid answer: try again later.
    fn submit(&self, signed: &SignedCheckpoint, consistency: &Consistency<'_>) -> Result<AnchorReceipt>;

    /// Whether the times in its receipts are checked, so that entries may expire by them. A witness's times are: its
    /// cosignature covers the time. Those of other anchors are not, unless the operator of the store says so.
    fn tells_time(&self) -> bool {
        false
    }

    /// The file in which it keeps checkpoints, if it is a file. No new store is created while that file exists:
    /// deleting a log and starting a new one must not go unnoticed.
    fn file(&self) -> Option<&Path> {
        None
    }
}

/// The answer of an anchor that accepted a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AnchorReceipt {
    /// When the anchor says it saw the checkpoint, by a clock that is not this machine's. `None` if the anchor only
    /// keeps checkpoints.
    pub at: Option<Timestamp>,
    /// The proof of that for others, to be kept with the checkpoint. `None` if the anchor only keeps checkpoints.
    pub attestation: Option<Attestation>,
}

impl AnchorReceipt {
    /// The receipt of an anchor that keeps the checkpoint itself.
    pub fn kept() -> AnchorReceipt {
        AnchorReceipt::default()
    }

    /// A receipt with the anchor's time and the proof of it.
    pub fn attested(at: Timestamp, attestation: Attestation) -> AnchorReceipt {
        AnchorReceipt { at: Some(at), attestation: Some(attestation) }
    }

    /// The checkpoint together with the attestation, as a record that can be kept anywhere and passed to a
    /// verification.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the note cannot hold another signature.
    pub fn record(&self, signed: &SignedCheckpoint) -> Result<Record> {
        let mut record = Record { checkpoint: signed.clone(), token: None };
        match &self.attestation {
            Some(Attestation::Cosignature(signature)) => record.checkpoint.add(signature.clone())?,
            Some(Attestation::TimeStamp(token)) => record.token = Some(token.clone()),
            None => {}
        }
        Ok(record)
    }
}

/// What an anchor returns for others to check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attestation {
    /// A witness's signature over checkpoint and time, to be added to the note.
    Cosignature(Signature),
    /// An RFC 3161 time-stamp token (DER) over the bytes of the note.
    TimeStamp(Vec<u8>),
}

/// Refuses anchors of which two have one name: what is owed is kept by name, so only one of them would get anything.
pub(crate) fn check_anchors(anchors: &[Arc<dyn Anchor>]) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    match anchors.iter().map(|anchor| anchor.name()).find(|name| !names.insert(name.clone())) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!(
            "two anchors are called {name:?}, so only one of them would be given checkpoints: remove one; or, if both are wanted and \
             each is a program or an authority, give one of them a name (name = \"...\")"
        ))),
    }
}

/// Makes a text from outside fit for a message: one line, no control characters, at most 300 characters.
fn excerpt(text: &[u8]) -> String {
    const MAX: usize = 300;
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}
