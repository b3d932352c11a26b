"""Every call that a FastMCP server is asked for, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.fastmcp import AuditMiddleware

    server = FastMCP("orders")
    server.add_middleware(AuditMiddleware(AuditLog.open_or_create("audit.log"), user_id="service"))

Add it before all other middleware: what another one refuses or answers by itself is seen only from outside of it.

Seen: every `tools/call`, also of tools that do not exist, with arguments that are refused, that run into a time-out or are cancelled; the
session; the client's name; the user, where the server authenticates (the `sub` of the access token, or else its client id).
Not seen: the model and its agent; who the user is without authentication; calls of a tool's Python function that do not come through
the server.
Fails closed: a call that cannot be recorded is answered with an error, and the tool does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmcp.server.middleware import Middleware

from ._calls import Calls, around, error, failed

if TYPE_CHECKING:
    from .. import AuditLog
    from ._calls import User

__all__ = ["AuditMiddleware"]

# What these exceptions of FastMCP, MCP and Pydantic mean: the tool did not run.
_REFUSED = {
    "AuthorizationError": "denied",
    "InsufficientScopeError": "denied",
    "PermissionError": "denied",
    "DisabledError": "protocol_error",
    "NotFoundError": "protocol_error",
    "ValidationError": "protocol_error",
}


class AuditMiddleware(Middleware):
    """Records each call of the server's tools.

    `user_id` is used where the server authenticates nobody: a text, or a function of FastMCP's `MiddlewareContext`.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        user_id: User | None = None,
        conversation_id: str | None = None,
        **members: Any,
    ) -> None:
        self._calls = Calls(log, "fastmcp", user_id, conversation_id, members)

    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        """FastMCP calls it around each tool call."""
        message = context.message
        call = self._calls.describe(message.name, context, arguments=message.arguments or {}, **_said(context))
        return await around(self._calls, call, lambda: call_next(context), _ending, _failed)

    def close(self) -> None:
        """Abandons the calls that have not ended."""
        self._calls.close()


def _said(context: Any) -> dict[str, Any]:
    """What FastMCP knows of the request."""
    here = context.fastmcp_context
    if here is None:
        return {}
    said: dict[str, Any] = {"noted": {}}
    for member, find in (("conversation_id", _session), ("call_id", lambda here: str(here.request_id))):
        try:
            said[member] = find(here)
        except (RuntimeError, AttributeError, ValueError):  # outside of a request
            pass
    params = getattr(getattr(here, "session", None), "client_params", None)
    client = getattr(params, "client_info", None) or getattr(params, "clientInfo", None)
    if client is not None:
        said["noted"]["client"] = {"name": client.name, "version": client.version}
    server = getattr(getattr(here, "fastmcp", None), "name", None)
    if server:
        said["tool_server"] = server
    said["user_id"] = _user()
    return said


def _session(here: Any) -> str | None:
    """The session, if the protocol has one. Since 2026-07-28 it has none: over a pipe all calls are one client's, over HTTP each is alone."""
    alone = getattr(here, "_is_modern_protocol", lambda: False)() and here.transport not in ("sse", "streamable-http")
    return None if alone else str(here.session_id)


def _user() -> str | None:
    from fastmcp.server.dependencies import get_access_token

    token = get_access_token()
    if token is None:
        return None
    return str((getattr(token, "claims", None) or {}).get("sub") or token.client_id)


def _ending(result: Any) -> dict[str, Any]:
    shown = getattr(result, "structured_content", None)
    if shown is None:
        shown = [
            getattr(block, "text", None) or {"type": getattr(block, "type", "")} for block in getattr(result, "content", None) or []
        ]
    if getattr(result, "is_error", False) or getattr(result, "isError", False):
        return {"outcome": "tool_error", "error": error(None, shown)}
    return {"result": shown}


def _failed(e: Exception) -> dict[str, Any]:
    # FastMCP puts what a tool raised behind an error of its own.
    late = any(_is_timeout(one) for one in (e, e.__cause__))
    outcome = "timeout" if late else _REFUSED.get(type(e).__name__)
    return failed(e) if outcome is None else {"outcome": outcome, "error": error(type(e).__name__, e)}


def _is_timeout(e: BaseException | None) -> bool:
    return isinstance(e, TimeoutError) or (type(e).__name__ in ("MCPError", "McpError") and " timed out after " in str(e))
