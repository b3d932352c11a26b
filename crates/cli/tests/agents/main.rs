//! What agents, hosts and servers send to the program: imports, the MCP proxy, many processes on one store.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

mod airline;
mod children;
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod embedded_host;
mod full_disk;
#[cfg(unix)]
mod hooks;
#[cfg(unix)]
mod hooks_config;
mod imports_lose_nothing;
mod imports_refused;
#[path = "../mcp_common/mod.rs"]
mod mcp_common;
mod mcp_hosts;
mod mcp_proxy;
mod mcp_real;
mod mcp_servers;
mod mcp_truth;
mod one_call;
mod owner;
mod owner_changes;
mod processes;
mod readers;
mod sessions;
#[path = "../../../../tests/store_common/mod.rs"]
mod store_common;
mod told;
