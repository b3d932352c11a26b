//! What is recorded: each call once, as it was said, in whatever form it came.

mod concurrency;
mod determinism;
mod fuzz_regressions;
mod golden;
mod handlers;
mod import_formats;
mod json_input;
mod line;
mod mcp_observed;
mod model;
mod queue;
mod recording;
mod senders;
#[path = "../store_common/mod.rs"]
mod store_common;
#[path = "../tampering/mod.rs"]
mod tampering;
mod two_step;
