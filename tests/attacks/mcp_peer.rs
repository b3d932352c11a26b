//! An MCP server or host that says what the proxy does not expect.
