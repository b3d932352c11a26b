//! What agents, hosts and servers feed the program: imports, the MCP proxy, many processes on one store.

mod airline;
mod children;
#[path = "../common/mod.rs"]
mod common;
mod imports_lose_nothing;
#[path = "../mcp_common/mod.rs"]
mod mcp_common;
mod mcp_proxy;
mod mcp_real;
mod mcp_servers;
mod mcp_truth;
mod owner;
mod owner_changes;
mod processes;
#[path = "../../../../tests/store_common/mod.rs"]
mod store_common;
