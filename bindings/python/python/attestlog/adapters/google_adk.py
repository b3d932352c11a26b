"""Every tool call of Google's Agent Development Kit, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.google_adk import AuditPlugin

    app = App(name="orders", root_agent=agent, plugins=[AuditPlugin(AuditLog.open_or_create("audit.log"))])
    runner = Runner(app=app, session_service=sessions)

Put it first among the plugins: ADK asks the plugins after the first that answers no more.

Seen: every function tool, in parallel, streamed, failing, cancelled; tools that do not exist; calls that wait for a confirmation (as
abandoned; what came of it is another call with the same id), and those that are denied; transfers to another agent, and agents that
are used as tools (with the outer call as the parent of theirs). With the session as the conversation, the user, the agent and the one that
it was transferred from, the model and the call's id.
Not seen: tools that the model's provider runs (`google_search`); tools in live (bidirectional) sessions of versions that do not ask plugins
about them. A call that another plugin or an agent's own callback answers in the tool's place looks like one that the tool answered.
Fails closed: a call that cannot be recorded raises, and the tool does not run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool

from ._calls import INSIDE, Calls, Newest, begin_async, error, failed, off_loop

if TYPE_CHECKING:
    from .. import AuditLog
    from ._calls import User

__all__ = ["AuditPlugin"]

_TRANSFER = "transfer_to_agent"


class AuditPlugin(BasePlugin):
    """Records each tool call of the runners that have it.

    `user_id` replaces the session's user: a text, or a function of ADK's `ToolContext`.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        user_id: User | None = None,
        conversation_id: str | None = None,
        name: str = "attestlog",
        **members: Any,
    ) -> None:
        super().__init__(name=name)
        self._calls = Calls(log, "google-adk", user_id, conversation_id, members)
        # Who transferred to an agent, and by which call, for the newest runs and agents.
        self._transfers = Newest()

    async def before_tool_callback(self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any) -> None:
        """ADK calls it before a tool runs."""
        opened = await begin_async(self._calls, _key(tool_context), self._describe(tool, tool_args, tool_context))
        # ADK calls no hook when a call is cancelled; the task in which it runs ends then.
        task = asyncio.current_task()
        if task is not None:
            loop = asyncio.get_running_loop()
            task.add_done_callback(lambda _: loop.run_in_executor(None, self._lost, opened) if not opened.ended else None)
        INSIDE.set(opened)

    async def after_tool_callback(self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, result: Any) -> None:
        """ADK calls it after a tool has answered."""
        if tool.name == _TRANSFER and tool_args.get("agent_name"):
            by = (tool_context.agent_name, tool_context.function_call_id)
            self._transfers.put((tool_context.invocation_id, str(tool_args["agent_name"])), by)
        await off_loop(lambda: self._calls.end(_key(tool_context), **_ending(result, tool_context)))

    async def on_tool_error_callback(self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, error: Exception) -> None:
        """ADK calls it after a tool has raised or was cancelled, and for tools that do not exist."""
        ending = _unknown(error) if type(tool) is BaseTool else failed(error)
        if self._calls.get(_key(tool_context)) is not None:
            await off_loop(lambda: self._calls.end(_key(tool_context), **ending))
        elif type(tool) is BaseTool:  # in versions that do not begin it first
            call = self._describe(tool, tool_args, tool_context)
            await off_loop(lambda: self._calls.record(call, **ending))

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """ADK calls it when a run has ended."""
        run = invocation_context.invocation_id
        await off_loop(self._calls.abandon, "the run ended before the call did", lambda opened: opened.key[0] == run)

    async def close(self) -> None:
        """ADK calls it when the runner is closed: abandons the calls that have not ended."""
        await off_loop(self._calls.close)

    def _lost(self, opened: Any) -> None:
        self._calls.forget(opened)
        opened.abandon("the task of the call ended before the call did")

    def _describe(self, tool: Any, tool_args: dict[str, Any], context: Any) -> dict[str, Any]:
        agent, run, outer = context.agent_name, context.invocation_id, INSIDE.get()
        said: dict[str, Any] = {"arguments": tool_args or {}, "call_id": context.function_call_id, "agent_id": agent}
        said["conversation_id"], said["user_id"] = context.session.id, context.session.user_id
        said["model"] = _model(getattr(context, "_invocation_context", None))
        said["noted"] = {"invocation_id": run, "app_name": context.session.app_name}
        if outer is not None and outer.call["session_metadata"].get("invocation_id") != run:
            # The agent is a tool of another one, in a session that ADK made up for it.
            said["parent_agent_id"], said["parent_call_id"] = outer.call.get("agent_id"), outer.call.get("call_id")
            said["conversation_id"], said["user_id"] = outer.call["conversation_id"], outer.call["user_id"]
            said["noted"]["session_id"] = context.session.id
        elif (by := self._transfers.get((run, agent))) is not None:
            said["parent_agent_id"], said["parent_call_id"] = by
        if (confirmation := getattr(context, "tool_confirmation", None)) is not None:
            said["approval"] = {"decision": "allowed" if confirmation.confirmed else "denied"}
        return self._calls.describe(tool.name, context, **said)


def _key(context: Any) -> tuple[str, str]:
    return (context.invocation_id, context.function_call_id or str(id(context)))


def _model(invocation: Any) -> str | None:
    model = getattr(getattr(invocation, "agent", None), "canonical_model", None)
    return getattr(model, "model", None)


def _ending(result: Any, context: Any) -> dict[str, Any]:
    confirmation = getattr(context, "tool_confirmation", None)
    if confirmation is not None and not confirmation.confirmed:
        return {"outcome": "denied", "error": error("Denied", result.get("error") if isinstance(result, dict) else result)}
    if context.function_call_id in (getattr(context.actions, "requested_tool_confirmations", None) or {}):
        return {
            "outcome": "abandoned",
            "error": error("ConfirmationRequested", "the tool waits for a confirmation and is called again"),
        }
    return {"result": result}


def _unknown(e: Exception) -> dict[str, Any]:
    return {"outcome": "protocol_error", "error": error("UnknownTool", e)}
