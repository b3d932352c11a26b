//! Exports of the log for people and other systems: CSV, access reports, FHIR AuditEvent, OCSF.
//!
//! Everything here is pure: entries go in, in order of seq, and text comes out; nothing reads a store, a clock or the
//! network. The formats (`csv`, `access`, `fhir`, `ocsf`) call the small modules that they share (`tools`, `purpose`,
//! `pairing`, `text`, `zone`), never the other way round.
//!
//! Invariant O1: whatever a caller of the log writes into an id, a name or an error is exported as data. In no output
//! does it become a formula, a tag, a terminal command, a second row or a second resource.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::restriction, clippy::disallowed_methods))]

mod pairing;
mod purpose;
#[cfg(test)]
mod testing;
mod tools;
mod zone;

pub mod access;
pub mod csv;
pub mod fhir;
pub mod ocsf;
pub mod text;

pub use tools::{ToolKind, ToolKinds};
pub use zone::Zone;
