//! attestlog is an audit log for the tool calls of AI agents: one file, embedded in the agent's process.
//!
//! It records which user let which model do what with which tool, finds it again, hides secrets before anything is written, and
//! proves to people who trust neither the machine nor the program that nothing was changed, inserted, left out or lost.
//!
//! # The model in ten lines
//!
//! 1. A **store** is one file (`audit.log`); its keys are in a **key file** beside it (`audit.log.key`).
//! 2. Every record is an **entry**: a tool call, or something that happened to the store itself. Entries are only ever appended.
//! 3. An entry has a number, its **seq**, and one canonical JSON text, its **line**. The line is what is hashed and exported.
//! 4. Each line names the hash of the entry before it: the **chain**. The hashes are the leaves of a Merkle tree.
//! 5. A **checkpoint** is the tree's size and root, signed. **Anchors** keep checkpoints where the operator of the log cannot
//!    change them.
//! 6. Entries are indexed by **facets**: conversation, user, tool, patient, model, outcome and others.
//! 7. A **policy** sets what is hidden before it is written (redaction), and how long entries are kept (retention).
//! 8. A **purge** removes expired entries. Their hashes stay, so every proof remains valid. A **hold** protects entries from
//!    purges.
//! 9. **Verification** reads everything and trusts nothing: it rebuilds each line, link and index, and reports every difference.
//! 10. One process has the file open, the **owner**; other processes record through it.
//!
//! # A first example
//!
//! ```
//! use attestlog::{AuditLog, Query, ToolCall};
//! use attestlog::verify::VerifyOptions;
//! use serde_json::json;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("audit.log");
//! let log = AuditLog::create(&path)?; // and its keys in audit.log.key
//! let receipt = log.record(
//!     ToolCall::new("conv_1", "usr_7", "update_order_status")
//!         .arguments(json!({"order_id": "o-1", "api_key": "never stored"}))
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
//! let auditors_key = log.public_key()?.expect("a store has keys unless it is made without");
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
//! | record calls: batches, queues, calls in two steps, wrapped handlers | [recording](_guide::recording) |
//! | find entries: queries, pages, timelines, statistics, following | [querying](_guide::querying) |
//! | convince somebody: proofs, verification, anchors | [proving](_guide::proving) |
//! | keep entries as long as you must and no longer | [retention](_guide::retention) |
//! | hide, pseudonymise, seal and erase | [privacy](_guide::privacy) |
#![cfg_attr(feature = "owner", doc = "| use one store from many processes | [processes](_guide::processes) |")]
//!
//! [`AuditLog`] is the handle; [`Options`] sets how a store is created and opened; [`ErrorKind`] tells the caller how to respond to
//! an error. The modules: [`alert`] (rules that raise alerts), [`anchor`], [`child`] (starting programs without the store's
//! secrets), [`emergency`] (grants), [`entry`] (the parts of an entry), [`groups`] (the handle's other operations), [`host`] (clock
//! and randomness), [`instrument`] (for hosts), [`json`], [`keys`], [`merkle`], [`note`] and [`proof`] (for auditors), [`query`]
//! (statistics and what else is asked of a log), [`redact`], [`retention`], [`verify`], and `owner`.
//!
//! # Features
//!
//! | feature | adds | default |
//! | --- | --- | --- |
//! | `owner` | many processes on one store | yes |
//! | `config` | policies, alert rules and receivers, patients and anchors in TOML files | no |
//! | `passphrase` | key files that a passphrase protects | no |
//! | `witness` | anchors over HTTP: witnesses and time-stamping authorities; `witness-tls` adds https | no |
//! | `keyring` | keys in the operating system's keyring | no |
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::restriction, clippy::disallowed_methods))]

pub mod alert;
pub mod anchor;
pub mod child;
pub mod emergency;
pub mod entry;
pub mod host;
pub mod instrument;
pub mod keys;
#[cfg(feature = "owner")]
pub mod owner;
pub mod query;
pub mod redact;
pub mod retention;
pub mod verify;

#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching {
    pub use crate::store::maintain::benching::{Blocks, encode, postings, row, write_line};

    /// A call in the form that the writer receives: validated, sanitised, with its retention.
    ///
    /// # Errors
    /// As [`AuditLog::record`](crate::AuditLog::record).
    pub fn entry(log: &crate::AuditLog, call: crate::ToolCall) -> crate::Result<crate::Entry> {
        crate::store::maintain::benching::entry(&log.own()?, call)
    }
}

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::log::fuzzing::*;
}

/// A guide to attestlog: pages to read, with examples that run. It contains no code.
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

mod audit_log;
mod chain_state;
mod codec;
#[cfg(feature = "config")]
mod config;
#[doc(hidden)]
pub mod files;
mod grants;
mod keyless;
mod log;
mod policy;
mod process;
mod prove;
mod requests;
mod restored;
mod rules;
mod store;
mod text;
#[cfg(feature = "config")]
mod toml_reader;

pub use attestlog_proof::{
    Body, Call, Content, Entry, Error, ErrorKind, Facet, Hash, Kind, Outcome, ParseHashError, Place, Result, Sender,
    SystemEvent, Timestamp, Trigger, folders, json, merkle, note, proof, verifiers,
};
use attestlog_proof::{hash, line, names, rows, sealed, spelling};
#[cfg(feature = "owner")]
pub use audit_log::Owner;
pub use audit_log::{AtCheckpoint, AuditLog, Begun, Hits, Sharing, Timeline, groups};
pub use entry::input::{CallResult, ToolCall};
#[doc(hidden)]
pub use entry::reserved::{IMPORTED, NOWHERE};
pub use log::{Abandoned, Health, Purged, Told, Unmatched, Unsealed};
pub use policy::{KeyPolicy, PolicySet};
pub use prove::Neighbours;
pub use query::filter::Query;
pub use store::{Backup, Options, Receipt, Storage, is_guarded};
pub use text::Justification;
