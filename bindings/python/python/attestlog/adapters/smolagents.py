"""Every tool call of a smolagents agent, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.smolagents import audited

    agent = audited(CodeAgent(tools=[lookup], model=model, name="orders"), AuditLog.open_or_create("audit.log"), user_id="usr_1")
    agent.run("…")

smolagents has no hook around tools, so the agent gets copies of its tools that record; tools that are added later are not seen.

Seen: each tool that a `ToolCallingAgent` calls, in parallel and failing, with the call's id; each tool that the code of a `CodeAgent`
calls in this process; agents that are called like tools, and their own calls; tools that do not exist, and arguments that do not fit. With
the agent, its model, and the agent and the call that it was called by.
Not seen: what a `CodeAgent`'s code does without tools; tools in a remote executor (a sandbox gets the tool's source, and not this copy);
the conversation and the user, which `attestlog.session` or `conversation_id` and `user_id` must name.
Fails closed: a call that cannot be recorded raises in the tool's place.
"""

from __future__ import annotations

import copy
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from smolagents.utils import AgentError

from ._calls import INSIDE, Calls, OpenCall, error, failed, parsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import AuditLog
    from ._calls import User

__all__ = ["audited"]


class _Asked:
    """What a `ToolCallingAgent` was asked for, as its tools need to know it."""

    def __init__(self, call_id: str | None) -> None:
        self.call_id = call_id
        self.begun = False


_ASKED: ContextVar[_Asked | None] = ContextVar("attestlog_smolagents", default=None)


def audited(agent: Any, log: AuditLog, *, user_id: User | None = None, conversation_id: str | None = None, **members: Any) -> Any:
    """Has the tools of the agent, and of the agents that it manages, recorded, and returns the agent.

    `user_id` is a text, or a function of the agent.
    """
    return _audited(agent, Calls(log, "smolagents", user_id, conversation_id, members))


def _audited(agent: Any, calls: Calls) -> Any:
    if getattr(agent, "_attestlog", None) is not None:
        return agent
    agent._attestlog = calls
    agent.tools = {name: _tool(tool, agent, calls) for name, tool in agent.tools.items()}
    agent.managed_agents = {name: _Managed(_audited(other, calls), agent, calls) for name, other in agent.managed_agents.items()}
    if hasattr(agent, "execute_tool_call"):
        agent.execute_tool_call = functools.partial(_execute, agent, calls, agent.execute_tool_call)
        agent.process_tool_calls = functools.partial(_process, agent, agent.process_tool_calls)
    return agent


def _tool(tool: Any, agent: Any, calls: Calls) -> Any:
    """A copy of the tool that records."""
    recording, forward = copy.copy(tool), tool.forward

    @functools.wraps(forward)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        arguments = {**dict(zip(tool.inputs, args, strict=False)), **kwargs}
        return _recorded(calls, agent, tool.name, arguments, lambda: forward(*args, **kwargs))

    recording.forward = recorded
    return recording


class _Managed:
    """An agent that is called like a tool: all that it is, and recorded."""

    def __init__(self, managed: Any, agent: Any, calls: Calls) -> None:
        self.__dict__.update(_managed=managed, _agent=agent, _calls=calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._managed, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._managed, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = {**dict(zip(("task",), args, strict=False)), **kwargs}
        return _recorded(self._calls, self._agent, self._managed.name, arguments, lambda: self._managed(*args, **kwargs))


def _recorded(calls: Calls, agent: Any, name: str, arguments: dict[str, Any], run: Callable[[], Any]) -> Any:
    asked = _ASKED.get()
    call = _describe(calls, agent, name, arguments, asked.call_id if asked else None)
    if asked is not None:
        asked.begun = True
    opened = calls.begin(object(), call)
    inside, none = INSIDE.set(opened), _ASKED.set(None)
    try:
        result = run()
    except BaseException as e:
        _end(calls, opened, failed(e))
        raise
    finally:
        INSIDE.reset(inside)
        _ASKED.reset(none)
    _end(calls, opened, {"result": result})
    return result


def _end(calls: Calls, opened: OpenCall, ending: dict[str, Any]) -> None:
    calls.forget(opened)
    opened.end(**ending)


def _process(agent: Any, process: Callable[..., Any], chat_message: Any, memory_step: Any) -> Any:
    """Keeps the ids of the calls of one message, which the agent does not give to what runs them."""
    agent._attestlog_asked = [(call.function.name, call.function.arguments, call.id) for call in chat_message.tool_calls or []]
    yield from process(chat_message, memory_step)


def _execute(agent: Any, calls: Calls, execute: Callable[..., Any], tool_name: str, arguments: Any) -> Any:
    """Runs a call of a `ToolCallingAgent`, and records it if no tool was run for it."""
    waiting = getattr(agent, "_attestlog_asked", [])
    same = [one for one in waiting if one[0] == tool_name and (one[1] or {}) == arguments]
    asked = _Asked(same[0][2] if same else None)
    if same:
        waiting.remove(same[0])
    token = _ASKED.set(asked)
    try:
        return execute(tool_name, arguments)
    except AgentError as e:
        if not asked.begun:
            kind = "InvalidArguments" if tool_name in {**agent.tools, **agent.managed_agents} else "UnknownTool"
            call = _describe(calls, agent, tool_name, parsed(arguments), asked.call_id)
            calls.record(call, outcome="protocol_error", error=error(kind, e))
        raise
    finally:
        _ASKED.reset(token)


def _describe(calls: Calls, agent: Any, name: str, arguments: Any, call_id: str | None) -> dict[str, Any]:
    said = {"arguments": arguments, "call_id": call_id, "agent_id": agent.name, "model": getattr(agent.model, "model_id", None)}
    outer = INSIDE.get()
    if outer is not None:
        said["parent_call_id"] = outer.call.get("call_id")
        said["parent_agent_id"] = outer.call.get("agent_id")
        said["conversation_id"] = outer.call["conversation_id"]
    return calls.describe(name, agent, **said)
