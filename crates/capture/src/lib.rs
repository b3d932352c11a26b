//! Input from agents: session and telemetry files, the events of their hooks, and the protocol that agents use to call their tools.
//!
//! [`import`] reads files that other programs recorded; [`hook`] reads the events that coding agents report as they happen; [`mcp`]
//! watches a live protocol; `ended` knows the signs of how a call ended, for the first two. All produce
//! [`ToolCall`](attestlog::ToolCall)s and pass them to the log. A Rust host that makes its calls itself uses [`attestlog::instrument`],
//! which is part of the engine.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::restriction, clippy::disallowed_methods))]

mod ended;
pub mod hook;
pub mod import;
pub mod mcp;
mod quoted;
mod shorten;
