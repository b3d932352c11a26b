//! What agents give: sessions and telemetry in files, and the protocol that they speak with their tools.
//!
//! [`import`] reads what other programs recorded; [`mcp`] watches a protocol. Both make
//! [`ToolCall`](attestlog::ToolCall)s and hand them to the log. What a Rust host that has the calls in its hands wants is
//! in the engine: [`attestlog::instrument`].
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

pub mod import;
pub mod mcp;
