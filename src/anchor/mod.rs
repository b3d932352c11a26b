//! Where checkpoints are handed, so that they are kept where whoever rewrites the log cannot reach them.
//!
//! Invariants: an anchor is given signed checkpoints and nothing else of the log; what it answers is checked before it
//! counts (a cosignature against the witness's key, a token against what was sent); everything it sends is bounded, in
//! bytes and in time. A failure is an error with its reason and stays owed in the [`AnchorQueue`] until it is made good.
//!
//! `file`, `command`, `witness` and `timestamp` are the anchors. `record` is the form in which checkpoints are kept,
//! `evidence` reads what was kept elsewhere back for a verification, `queue` says what is owed to whom. `der`, `process`
//! and `http` carry bytes for them. `record`, `evidence`, `der` and `queue` need no clock, no randomness and, but for
//! [`Evidence::read`], no I/O. Calls go from the anchors downwards; nothing here knows the store.
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
pub use config::{AnchorConfig, Channel};
pub use evidence::{Evidence, Form, Kept, Source};
pub use file::FileAnchor;
pub use queue::{AnchorQueue, AnchorStatus, Backoff, Due, Failure, MAX_ANCHORS, Success};
pub use record::{AnchorFile, MAX_ANCHOR_FILE_BYTES, Record, Unreadable, read_anchor_file};
pub use timestamp::{TimestampAnchor, TimestampRequest, check_token};
#[cfg(feature = "witness")]
pub use witness::WitnessAnchor;

use crate::note::{Signature, SignedCheckpoint};
use crate::{Hash, Result, Timestamp};
use std::fmt;
use std::path::Path;

/// Gives the RFC 6962 consistency proof from a smaller size of the log to the checkpoint that is being handed over.
/// Asked only for sizes from 1 to one less than the checkpoint's.
pub type Consistency<'a> = dyn Fn(u64) -> Result<Vec<Hash>> + 'a;

/// Somewhere a checkpoint is kept, or witnessed, outside the log.
pub trait Anchor: fmt::Debug + Send + Sync {
    /// What it is called in reports and in the [`AnchorQueue`]: stable, and without secrets.
    fn name(&self) -> String;

    /// Hands over `signed` and waits for the answer, for no longer than the anchor's timeout. Handing over the same
    /// checkpoint again does no harm.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) where the anchor has something else on record than this log says;
    /// any other kind where it could not be reached, refused, or gave an answer that does not hold. Try again later.
    fn submit(&self, signed: &SignedCheckpoint, consistency: &Consistency<'_>) -> Result<AnchorReceipt>;

    /// Whether the times in its receipts were checked, so that entries may expire by them. A witness's are: its
    /// cosignature is over the time. Nobody's else are, unless whoever runs the store says so.
    fn tells_time(&self) -> bool {
        false
    }

    /// The file in which it keeps checkpoints, if it is one. No new store is made where that file is already: a log that
    /// was deleted and begun anew must not go unnoticed.
    fn file(&self) -> Option<&Path> {
        None
    }
}

/// What an anchor gave for a checkpoint that it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AnchorReceipt {
    /// When the anchor says that it saw the checkpoint, on a clock that is not this machine's. `None` from anchors that
    /// only keep.
    pub at: Option<Timestamp>,
    /// What proves that to others, to be kept with the checkpoint. `None` from anchors that only keep.
    pub attestation: Option<Attestation>,
}

impl AnchorReceipt {
    /// The receipt of an anchor that keeps the checkpoint itself.
    pub fn kept() -> AnchorReceipt {
        AnchorReceipt::default()
    }

    /// A receipt with the anchor's time and what proves it.
    pub fn attested(at: Timestamp, attestation: Attestation) -> AnchorReceipt {
        AnchorReceipt { at: Some(at), attestation: Some(attestation) }
    }

    /// The checkpoint together with the attestation, as a record that can be kept anywhere and given to a verification.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorKind::TooLarge) where the note cannot bear another signature.
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

/// What an anchor hands back for others to check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attestation {
    /// A witness's signature over checkpoint and time, to be added to the note.
    Cosignature(Signature),
    /// An RFC 3161 time-stamp token (DER) over the bytes of the note.
    TimeStamp(Vec<u8>),
}

/// Text from outside as a message can carry it: one line, no control characters, at most 300 characters.
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
