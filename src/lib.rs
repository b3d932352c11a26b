//! attestlog is an audit log for the tool calls of AI agents: one file, embedded in the agent's process.
//!
//! It records who let which model do what with which tool, finds it again, hides secrets before anything is written, and proves to
//! people who trust neither the machine nor the program that nothing was changed, inserted, left out or lost.
//!
//! # The model in ten lines
//!
//! 1. A **store** is one file (`audit.log`); its keys are in a **key file** beside it (`audit.log.key`).
//! 2. Whatever is recorded is an **entry**: a tool call, or something that happened to the store itself. Entries are only ever appended.
//! 3. An entry has a number, its **seq**, and one canonical JSON text, its **line**. The line is what is hashed and what is exported.
//! 4. Each line names the hash of the entry before it: the **chain**. The hashes are the leaves of a Merkle tree.
//! 5. A **checkpoint** is the tree's size and root, signed. **Anchors** keep checkpoints where the log's keeper cannot reach them.
//! 6. Entries are indexed by **facets**: conversation, user, tool, patient, model, outcome and others.
//! 7. A **policy** says what is hidden before it is written (redaction), and how long entries are kept (retention).
//! 8. A **purge** takes expired entries out. Their hashes stay, so every proof stays too. A **hold** keeps entries from it.
//! 9. **Verification** reads everything and trusts nothing: it rebuilds each line, link and index, and reports every difference.
//! 10. One process has the file open, its **owner**; others record through it.
//!
//! # A first example
//!
//! ```
//! use attestlog::json::Json;
//! use attestlog::{AuditLog, Query, ToolCall, VerifyOptions};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("audit.log");
//! let log = AuditLog::create(&path)?; // and its keys in audit.log.key
//! let receipt = log.record(
//!     ToolCall::new("conv_1", "usr_7", "update_order_status")
//!         .arguments(Json::parse(br#"{"order_id": "o-1", "api_key": "never stored"}"#)?.value)
//!         .result(true)
//!         .model("gpt-4.1"),
//! )?; // on the disk now, not soon
//!
//! for entry in log.query(&Query::new().user("usr_7").newest_first().limit(10))? {
//!     let line = entry?.line();
//!     assert!(line.contains("o-1") && !line.contains("never stored"));
//! }
//!
//! let proof = log.prove(receipt.seq)?.to_string(); // checks anywhere, without the store
//! let auditors_key = log.public_key().expect("a store has keys unless it is made without");
//! println!("{}", attestlog::proof::check(proof.as_bytes(), &auditors_key)?);
//!
//! assert!(log.verify(&VerifyOptions::new())?.ok());
//! log.close()?; // signs a checkpoint
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to go on
//!
//! | you want to | read |
//! | --- | --- |
//! | record calls: batches, queues, two steps, handlers that are wrapped | [recording](_guide::recording) |
//! | find entries: queries, pages, timelines, statistics, following | [querying](_guide::querying) |
//! | convince somebody: proofs, verification, anchors | [proving](_guide::proving) |
//! | keep entries as long as you must and no longer | [retention](_guide::retention) |
//! | hide, pseudonymise, seal and erase | [privacy](_guide::privacy) |
#![cfg_attr(feature = "owner", doc = "| use one store from many processes | [processes](_guide::processes) |")]
//!
//! [`AuditLog`] is the handle; [`Options`] says how a store is made and opened; [`ErrorKind`] says what to do about an error. Beside
//! them: [`alert`] (rules over what is recorded), [`anchor`], [`instrument`] (what a host uses), [`keys`], [`note`] and [`proof`] (what an
//! auditor uses), [`redact`], [`retention`], and `owner`.
//!
//! # Features
//!
//! | feature | brings | default |
//! | --- | --- | --- |
//! | `owner` | many processes on one store | yes |
//! | `config` | policies and alert rules in TOML files | no |
//! | `witness` | anchors over HTTP: witnesses and time-stamping authorities; `witness-tls` adds https | no |
//! | `keyring` | keys in the operating system's keyring | no |
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    warn(
        clippy::dbg_macro,
        clippy::disallowed_methods,
        clippy::exit,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used,
    )
)]

pub mod alert;
pub mod anchor;
pub mod child;
pub mod instrument;
pub mod keys;
pub mod redact;
pub mod retention;

#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching {
    pub use crate::store::maintain::benching::*;
}

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::log::fuzzing::*;
}

/// A guide to attestlog: pages to be read, with examples that run. No code lives here.
pub mod _guide {
    #[doc = include_str!("_guide/recording.md")]
    pub mod recording {}
    #[doc = include_str!("_guide/querying.md")]
    pub mod querying {}
    #[doc = include_str!("_guide/proving.md")]
    pub mod proving {}
    #[doc = include_str!("_guide/retention.md")]
    pub mod retention {}
    #[doc = include_str!("_guide/privacy.md")]
    pub mod privacy {}
    #[cfg(feature = "owner")]
    #[doc = include_str!("_guide/processes.md")]
    pub mod processes {}
}

mod chain_state;
mod codec;
#[cfg(feature = "config")]
mod config;
mod emergency;
mod entry;
mod files;
mod grants;
mod host;
mod keyless;
mod log;
#[cfg(feature = "owner")]
pub mod owner;
mod policy;
mod process;
mod prove;
mod query;
mod restored;
mod rules;
mod store;
mod text;
#[cfg(feature = "config")]
mod toml_reader;
mod verify;

pub use attestlog_proof::{
    Attribution, Body, CLAIMED_TIME_BOUND, Call, CallError, CapturedBy, ClaimedTime, Completion, Content, Entry, Facet,
    Kind, Outcome, Phase, Retention, Sender, SystemEvent, Trigger,
};
pub use attestlog_proof::{
    Error, ErrorKind, Hash, ParseHashError, Place, Result, Timestamp, json, merkle, note, proof,
};
use attestlog_proof::{hash, line, names, rows, sealed, spelling};
pub use chain_state::Standing;
pub use entry::failure;
pub use entry::{CallLimits, CallResult, ResultPolicy, Summary, ToolCall};
#[doc(hidden)]
pub use entry::{IMPORTED, NOWHERE};
pub use grants::{Grant, GrantEnd, GrantState, GrantUse, Misuse, Review};
pub use host::{Clock, ManualClock, Random, SeededRandom, SystemClock, SystemRandom};
pub use keyless::Keyless;
pub use log::{Health, Purged, Unsealed};
pub use policy::{KeyPolicy, PolicySet};
pub use prove::{AtCheckpoint, Neighbours};
pub use query::{Hits, Persons, Query, Statistics, Step, Timeline, ToolStatistics, UnknownValue};
pub use restored::{Confirmed, Restored, Stands};
pub use store::{AnchorHealth, AuditLog, Backup, Begun, Options, Receipt, Storage, is_guarded};
pub use verify::{Finding, FindingKind, LostAnchors, Verification, VerificationRecord, Verifications, VerifyOptions};
