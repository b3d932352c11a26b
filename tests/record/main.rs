//! Recording: each call once, as it was given, in whatever form it came.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

mod circumstances;
mod concurrency;
mod determinism;
mod fuzz_regressions;
mod golden;
mod handlers;
mod import_formats;
mod json_forms;
mod json_input;
mod line;
mod mcp_observed;
mod mcp_shown;
mod model;
mod queue;
mod recording;
mod segments;
mod senders;
#[path = "../store_common/mod.rs"]
mod store_common;
#[path = "../tampering/mod.rs"]
mod tampering;
mod two_step;
