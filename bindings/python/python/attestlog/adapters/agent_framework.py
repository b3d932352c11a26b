"""Every tool call of Microsoft's Agent Framework, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.agent_framework import AuditMiddleware

    audit = AuditMiddleware(AuditLog.open_or_create("audit.log"), user_id="usr_1")
    agent = Agent(client, name="orders", tools=[lookup], middleware=audit.middleware())
    await agent.run("…", session=agent.create_session(session_id="conv_1"))

Put it before all other middleware: what another one refuses or answers is seen only from outside of it.

Seen: function tools, in parallel, async, streamed, failing, cancelled, and agents that are tools (with the outer call as the parent of
theirs); tools that do not exist; approvals, and calls that were rejected, as soon as the model is asked again. With the session as the
conversation, the agent, the model and the call's id.
Not seen: tools that the provider runs; functions of workflows that no agent calls; the user, whom `user_id` must name or find.
Fails closed: a call that cannot be recorded ends the run, and the tool does not run.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from agent_framework import AgentMiddleware, ChatMiddleware, FunctionMiddleware, MiddlewareFailure

from .. import Error
from ._calls import INSIDE, Calls, around, error, off_loop, parsed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .. import AuditLog
    from ._calls import User

__all__ = ["AuditMiddleware"]

# The agent whose run the present code is a part of.
_AGENT: ContextVar[Any] = ContextVar("attestlog_agent", default=None)


class AuditMiddleware:
    """Records each tool call of the agents that have its middleware. One can serve many agents and runs at once.

    `user_id` is a text, or a function of the framework's `FunctionInvocationContext` or `ChatContext`.
    """

    def __init__(self, log: AuditLog, *, user_id: User | None = None, conversation_id: str | None = None, **members: Any) -> None:
        self._calls = Calls(log, "agent-framework-core", user_id, conversation_id, members)

    def middleware(self) -> list[Any]:
        """What to give to `Agent(middleware=…)`: all of it, before your own."""
        return [_OfAgents(), _OfModels(self), _OfTools(self)]

    def close(self) -> None:
        """Abandons the calls that have not ended, and records those that were asked for and never run."""
        self._calls.close()

    def describe(self, name: Any, context: Any, said: dict[str, Any]) -> dict[str, Any]:
        """A call, with what is known of the run that it is a part of."""
        agent, outer = _AGENT.get(), INSIDE.get()
        said["agent_id"] = getattr(agent, "name", None) or getattr(agent, "id", None)
        said["conversation_id"] = _session(context)
        if outer is not None and outer.call.get("agent_id") != said["agent_id"]:
            said["parent_agent_id"], said["parent_call_id"] = outer.call.get("agent_id"), outer.call.get("call_id")
            said["conversation_id"] = outer.call["conversation_id"]
        return self._calls.describe(name, context, **said)

    async def settle(self, context: Any) -> None:
        """Records the calls that the model is now told the answer of, and that no tool was run for."""
        for content in (content for message in context.messages for content in message.contents):
            if content.type != "function_result":
                continue
            call = self._calls.asked((_session(context), content.call_id))
            if call is None:
                continue
            unknown = "not found" in str(content.exception or content.result)
            end = ("protocol_error", "UnknownTool") if unknown else ("denied", "Denied")
            why = error(end[1], content.exception or content.result)
            await off_loop(lambda call=call, end=end, why=why: self._calls.record(call, outcome=end[0], error=why))

    def ask(self, context: Any, response: Any) -> None:
        """Keeps what the model asks for."""
        for content in (content for message in response.messages for content in message.contents):
            if content.type == "function_call":
                model = getattr(response, "model", None) or (context.options or {}).get("model")
                said = {"arguments": parsed(content.arguments), "call_id": content.call_id, "model": model}
                self._calls.ask((_session(context), content.call_id), self.describe(content.name, context, said))

    async def run(self, context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
        """Records a call around its tool."""
        call_id, approval = context.metadata.get("call_id"), context.metadata.get("approval_response")
        asked = self._calls.asked((_session(context), call_id)) or {}
        said: dict[str, Any] = {"arguments": dict(context.arguments or {}), "call_id": call_id, "model": asked.get("model")}
        if approval is not None:
            said["approval"] = {"decision": "allowed"}
        ran = False

        async def run() -> Any:
            nonlocal ran
            ran = True
            await call_next()
            return context.result

        try:
            await around(
                self._calls, self.describe(context.function.name, context, said), run, lambda result: {"result": _shown(result)}
            )
        except (Error, ValueError, TypeError) as e:
            if ran:
                raise
            # Anything else would be told to the model as the tool's own failure.
            raise MiddlewareFailure(f"the call could not be recorded: {e}") from e


class _OfAgents(AgentMiddleware):
    async def process(self, context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
        token = _AGENT.set(context.agent)
        try:
            await call_next()
        finally:
            # A stream is read after this, by the same task.
            if not context.stream:
                _AGENT.reset(token)


class _OfModels(ChatMiddleware):
    def __init__(self, audit: AuditMiddleware) -> None:
        self._audit = audit

    async def process(self, context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
        await self._audit.settle(context)
        if context.stream:
            context.stream_result_hooks.append(lambda response: self._asked(context, response))
            await call_next()
        else:
            await call_next()
            self._asked(context, context.result)

    def _asked(self, context: Any, response: Any) -> Any:
        self._audit.ask(context, response)
        return response


class _OfTools(FunctionMiddleware):
    def __init__(self, audit: AuditMiddleware) -> None:
        self._audit = audit

    async def process(self, context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
        await self._audit.run(context, call_next)


def _session(context: Any) -> str | None:
    return getattr(context.session, "session_id", None)


def _shown(result: Any) -> Any:
    contents = result if isinstance(result, list) else [result]
    shown = [getattr(content, "text", None) or getattr(content, "result", None) or content for content in contents]
    return parsed(shown[0]) if len(shown) == 1 and isinstance(shown[0], str) else shown
