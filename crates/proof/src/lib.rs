//! What an auditor needs: entries in the form that is hashed, signed checkpoints, and the checking of every proof.
//!
//! No store, no clock, no I/O: [`proof::check`] takes the bytes of a proof and returns what they prove. The log that makes
//! the proofs is the crate `attestlog`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::restriction, clippy::disallowed_methods))]

mod accents;
pub mod entry;
mod error;
pub mod folders;
pub mod hash;
pub mod json;
#[doc(hidden)]
pub mod line;
#[doc(hidden)]
pub mod members;
pub mod merkle;
#[doc(hidden)]
pub mod names;
pub mod note;
pub mod proof;
pub mod purge;
#[doc(hidden)]
pub mod rows;
#[doc(hidden)]
pub mod sealed;
pub mod seqs;
#[doc(hidden)]
pub mod spelling;
#[doc(hidden)]
pub mod text;
mod time;
pub mod verifiers;

pub use entry::{
    Approval, Attribution, Body, CLAIMED_TIME_BOUND, Call, CallError, Circumstances, ClaimedTime, Completion, Content,
    Decision, Digests, Entry, Facet, Kind, Outcome, Peer, Phase, Resource, Retention, Sender, Source, SourceKind,
    SystemEvent, Trigger,
};
pub use error::{Error, ErrorKind, Place, Result};
pub use hash::{Hash, ParseHashError};
pub use purge::PurgeRecord;
pub use seqs::SeqSet;
#[doc(hidden)]
pub use time::TimeFault;
pub use time::Timestamp;
