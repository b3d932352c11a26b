"""Every tool call of the Claude Agent SDK, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.claude_agent_sdk import AuditHooks

    audit = AuditHooks(AuditLog.open_or_create("audit.log"), user_id="usr_1")
    options = ClaudeAgentOptions(hooks=audit.hooks())
    async for message in query(prompt="…", options=options): …
    audit.close()

`audit.hooks({...})` adds to hooks of your own.

Seen: Claude Code's own tools, MCP servers and tools in this process, sub-agents, in parallel, failing, interrupted, denied by a rule, a
person or `can_use_tool`; tools that do not exist. With the session as the conversation, the prompt, the sub-agent, and the call in which it
was started where Claude Code tells that before the sub-agent's first call (background agents).
Not seen: the model (give `model`; that of a background sub-agent is told), who answered a permission prompt, the user.
Fails closed: a call that cannot be recorded is denied, with the reason. One whose recording takes longer than `timeout` seconds (60) is
blocked since version 0.2.189 of the SDK; older ones let it run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from claude_agent_sdk import HookMatcher

from ._calls import Calls, Newest, begin_async, error, off_loop

if TYPE_CHECKING:
    from .. import AuditLog
    from ._calls import User

__all__ = ["AuditHooks"]

_EVENTS = (
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "PermissionDenied",
    "SubagentStop",
    "Stop",
    "SessionEnd",
)
_CAN_BLOCK = any(field.name == "on_failure" for field in dataclasses.fields(HookMatcher))
# How the text begins that stands in place of a result if no tool was run, and by whom that was decided.
_NOT_RUN = "<tool_use_error>"
_REFUSED = (
    ("PreToolUse:", "hook"),
    ("Hook PreToolUse:", "hook"),
    ("The user doesn't want", "user"),
    ("Permission to use ", "rule"),
)


class AuditHooks:
    """Records each tool call of the sessions that have its hooks.

    `user_id` is a text, or a function of the hook's input. `model` is what Claude Code was told to use.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        user_id: User | None = None,
        conversation_id: str | None = None,
        timeout: float | None = None,
        **members: Any,
    ) -> None:
        self._calls = Calls(log, "claude-agent-sdk", user_id, conversation_id, members)
        self._agent = members.get("agent_id")
        self._timeout = timeout
        # The calls of which a hook has told, and the calls that started sub-agents: the newest.
        self._seen, self._started = Newest(), Newest()

    def hooks(self, others: Mapping[str, list[Any]] | None = None) -> dict[str, list[Any]]:
        """What to give to `ClaudeAgentOptions(hooks=…)`: these hooks, and `others` after them."""
        given = {event: list(matchers) for event, matchers in (others or {}).items()}
        for event in _EVENTS:
            # In versions that know it: a callback that fails, or takes too long, keeps the tool from running.
            closed = {"on_failure": "block"} if event == "PreToolUse" and _CAN_BLOCK else {}
            given[event] = [HookMatcher(hooks=[self._hook], timeout=self._timeout, **closed), *given.get(event, [])]
        return given

    def close(self) -> None:
        """Abandons the calls that have not ended."""
        self._calls.close()

    async def _hook(self, event: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
        name = event.get("hook_event_name")
        if name == "PreToolUse":
            return await self._before(event)
        if name == "PostToolBatch":
            await off_loop(self._batch, event)
        elif name in ("PostToolUse", "PostToolUseFailure", "PermissionDenied"):
            await off_loop(self._after, event, name)
        elif name in ("Stop", "SubagentStop", "SessionEnd"):
            whole, session, agent = name == "SessionEnd", event.get("session_id"), event.get("agent_id")
            which = lambda opened: opened.key[0] == session and (whole or opened.kept == agent)  # noqa: E731
            await off_loop(self._calls.abandon, f"the {'session' if whole else 'turn'} ended before the call did", which)
        return {}

    async def _before(self, event: Any) -> dict[str, Any]:
        try:
            call = self._describe(event, event)
            opened = await begin_async(self._calls, _key(event, event), call)
            opened.kept = event.get("agent_id")
            self._seen.put(_key(event, event), True)
            return {}
        except Exception as e:  # a hook that raises would let the call pass
            reason = f"the call could not be recorded: {type(e).__name__}: {e}"
            decision = {"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": reason}
            return {"hookSpecificOutput": decision}

    def _after(self, event: Any, name: str) -> None:
        key, response = _key(event, event), event.get("tool_response")
        if name == "PostToolUse":
            if isinstance(response, Mapping) and response.get("agentId"):
                by = (event.get("tool_use_id"), response.get("resolvedModel"))
                self._started.put((event.get("session_id"), response["agentId"]), by)
            ending = _ended(response)
        elif name == "PermissionDenied":
            ending = {
                "outcome": "denied",
                "error": error("Denied", event.get("reason")),
                "approval": {"decision": "denied", "source": "mode"},
            }
        else:
            outcome = "abandoned" if event.get("is_interrupt") else "tool_error"
            ending = {"outcome": outcome, "error": error(None, event.get("error"))}
        if not self._calls.end(key, duration_ms=event.get("duration_ms"), **ending) and not self._seen.get(key):
            self._calls.record(self._describe(event, event), **ending)
        self._seen.put(key, True)

    def _batch(self, event: Any) -> None:
        """The calls of one message, after all of them: those that no other hook has ended were refused, or do not exist."""
        for of in event.get("tool_calls") or []:
            key, response = _key(event, of), of.get("tool_response")
            text = response if isinstance(response, str) else ""
            by = next((by for beginning, by in _REFUSED if text.startswith(beginning)), None)
            opened = self._calls.get(key) is not None
            if text.startswith(_NOT_RUN):
                ending = {"outcome": "tool_error" if opened else "protocol_error", "error": error("NotRun", text)}
            elif by is not None or (opened and text):
                # It was begun, and neither of the hooks of its end was called: it was not run.
                approval = {"decision": "denied", **({"source": by} if by else {})}
                ending = {"outcome": "denied", "error": error("Denied", text), "approval": approval}
            else:
                ending = _ended(response)
            if opened:
                self._calls.end(key, **ending)
            elif not self._seen.get(key):
                self._calls.record(self._describe(event, of), **ending)
            self._seen.put(key, True)

    def _describe(self, event: Any, of: Any) -> dict[str, Any]:
        tool, agent = str(of.get("tool_name")), event.get("agent_id")
        server = of.get("mcp_server") or {}
        named = tool.split("__", 2)[1] if tool.startswith("mcp__") and tool.count("__") > 1 else None
        said = {
            "arguments": of.get("tool_input"),
            "call_id": of.get("tool_use_id"),
            "tool_server": (server.get("name") if isinstance(server, Mapping) else None) or named,
            "conversation_id": event.get("session_id"),
            "prompt_id": event.get("prompt_id"),
            "agent_id": agent,
            "model": event.get("model"),
            "noted": {name: event[name] for name in ("cwd", "permission_mode", "agent_type", "transcript_path") if event.get(name)},
        }
        call = self._calls.describe(tool, event, **said)
        if agent:
            # What was given of the main agent's model and name is not the sub-agent's.
            started, model = self._started.get((event.get("session_id"), agent)) or (None, None)
            parents = {"parent_agent_id": self._agent, "parent_call_id": started, "model": event.get("model") or model}
            call.pop("model", None)
            call.update({name: value for name, value in parents.items() if value})
        return call


def _key(event: Any, of: Any) -> tuple[Any, Any]:
    return (event.get("session_id"), of.get("tool_use_id"))


def _ended(response: Any) -> dict[str, Any]:
    # That the text of a result begins with "Error" does not make it one: Claude Code says that it is none.
    return {"result": response, "outcome": "ok"} if response is None or isinstance(response, str) else {"result": response}
