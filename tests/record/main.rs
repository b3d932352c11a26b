//! What is recorded, by whom it may be fed, and that each call stands there once.

mod airline;
mod bad_input;
mod children;
mod claimed_times;
mod cli_record;
#[path = "../common/mod.rs"]
mod common;
mod concurrency;
mod determinism;
mod fuzz_regressions;
mod golden;
mod handlers;
mod import_formats;
mod imports_lose_nothing;
mod json_input;
mod line;
#[path = "../mcp_common/mod.rs"]
mod mcp_common;
mod mcp_proxy;
mod mcp_real;
mod mcp_servers;
mod mcp_truth;
mod model;
mod owner;
mod processes;
mod queue;
mod recording;
mod senders;
#[path = "../store_common/mod.rs"]
mod store_common;
#[path = "../tampering/mod.rs"]
mod tampering;
mod two_step;
