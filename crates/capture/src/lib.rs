//! Input from agents: session and telemetry files, and the protocol that agents use to call their tools.
//!
//! [`import`] reads files that other programs recorded; [`mcp`] watches a live protocol. Both produce
//! [`ToolCall`](attestlog::ToolCall)s and pass them to the log. A Rust host that makes its calls itself uses
//! [`attestlog::instrument`], which is part of the engine.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::restriction, clippy::disallowed_methods))]

pub mod import;
pub mod mcp;
