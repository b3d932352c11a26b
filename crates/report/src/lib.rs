//! What leaves the log for people and for other systems: CSV, access reports, FHIR AuditEvent, OCSF.
//!
//! Everything here is pure: entries go in, in the order of their seq, and text comes out; nothing reads a store, a
//! clock or the network, and calls go from the formats (`csv`, `access`, `fhir`, `ocsf`) down to the small modules that
//! they share (`tools`, `purpose`, `pairing`, `text`).
//! Invariant O1: whatever a caller of the log wrote into an id, a name or an error comes out as data. No output lets it
//! become a formula, a tag, a terminal command, a second row or a second resource.
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

mod pairing;
mod purpose;
#[cfg(test)]
mod testing;
mod tools;

pub mod access;
pub mod csv;
pub mod fhir;
pub mod ocsf;
pub mod text;

pub use tools::{ToolKind, ToolKinds};
