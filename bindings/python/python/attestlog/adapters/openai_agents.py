"""Every tool call of the OpenAI Agents SDK, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.openai_agents import AuditHooks

    log = AuditLog.open_or_create("audit.log")
    with AuditHooks(log, user_id=lambda context: context.context.user) as hooks:
        result = await Runner.run(agent, question, hooks=hooks)

`with` closes the hooks: what the model asked for and nobody ran is recorded then, and, in runs that are not traced, the end of calls that
were cancelled or whose error ended the run, of which no hook is told. One object can serve many runs; give agents that are tools the same
hooks (`agent.as_tool(…, hooks=hooks)`).

Seen: function tools, in parallel, streamed, failing (also those whose error became an answer), refused by a guardrail or by a person; tools
that do not exist; hand-offs; shell, computer and patch tools; tools that the provider runs (web search, code interpreter, hosted MCP). With
the trace's group as the conversation (else the trace), the agent, the one that handed over to it or called it as a tool, the call's id, and
the model where the agent or the run names one.
Not seen: what an error said, unless the run has `trace_include_sensitive_data` or the tool's `failure_error_function` tells it; the
user, whom `user_id` must name or find; the session (give `RunConfig(group_id=…)` or `conversation_id`); the calls of agents that are tools
without these hooks; why a call was refused, beyond the text that the model is told.
Fails closed: function, shell, computer and patch tools do not run if they cannot be recorded. Hand-offs and what the provider runs are
recorded afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents import Handoff, RunHooks, TracingProcessor, add_trace_processor, get_current_span, get_current_trace
from agents.tool_context import ToolContext

from ._calls import CANCELLED, Calls, Newest, begin_async, error, off_loop, parsed

if TYPE_CHECKING:
    from .. import AuditLog
    from ._calls import OpenCall, User

__all__ = ["AuditHooks"]

# Tools that this process runs without giving hooks the call's id, with what the model's answer names their calls (`shell_call`).
_LOCAL = {"ComputerTool": "computer", "LocalShellTool": "local_shell", "ShellTool": "shell", "ApplyPatchTool": "apply_patch"}
# Calls that the provider has run when the answer comes.
_HOSTED = {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call", "tool_search_call"}
# How the SDK's own answers for tools that raised begin.
_FAILED = ("An error occurred while running the tool", "An error occurred while parsing tool arguments")


class AuditHooks(RunHooks[Any]):
    """Records each tool call of the runs that have these hooks.

    `user_id` is a text, or a function of the SDK's `RunContextWrapper`.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        user_id: User | None = None,
        conversation_id: str | None = None,
        **members: Any,
    ) -> None:
        super().__init__()
        self._calls = Calls(log, "openai-agents", user_id, conversation_id, members)
        # The call that handed over to an agent, for each run and agent.
        self._handed = Newest()

    def __enter__(self) -> AuditHooks:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Abandons the calls that have not ended, and records those that the model asked for and nobody ran."""
        self._calls.close()

    # ---- tools

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """The SDK calls it before a tool runs."""
        run = _run(context, agent)
        said: dict[str, Any] = {"model": _model(agent, getattr(context, "run_config", None))}
        if isinstance(context, ToolContext):
            arguments = parsed(context.tool_arguments)
            self._asked(run, {context.tool_call_id: (context.tool_name, arguments)})
            said.update(arguments=arguments, call_id=context.tool_call_id)
        else:
            name = _LOCAL.get(type(tool).__name__)
            (asked,) = self._calls.asked_all(lambda key, call: key[:2] == run and call["tool_name"] == name, 1) or ({},)
            said.update(arguments=asked.get("arguments"), call_id=asked.get("call_id"))
        call = self._describe(tool.name, context, agent, said)
        opened = await begin_async(self._calls, _key(context, agent, tool), call)
        # The context is what the key is made of; it must not be reused before the call has ended.
        opened.kept = (context, getattr(tool, "_agent_instance", None))
        _SPANS.follow(self._calls, opened)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        """The SDK calls it after a tool has answered, also if the answer is that it failed."""
        key, ending = _key(context, agent, tool), _ending(tool, result)
        await off_loop(lambda: self._calls.end(key, **ending))

    # ---- the model

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: str | None, input_items: list[Any]) -> None:
        """The SDK calls it before it asks the model: the input has the answers to calls that no tool was run for."""
        await off_loop(self._settle, _run(context, agent), input_items)

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """The SDK calls it after the model has answered."""
        run, known = _run(context, agent), _tools(agent)
        for item in response.output:
            kind, said = getattr(item, "type", None), {"call_id": getattr(item, "call_id", None)}
            if kind in ("function_call", "custom_tool_call"):
                said["arguments"] = parsed(getattr(item, "arguments", None) or getattr(item, "input", None))
                call = self._describe(item.name, context, agent, said)
                if known is not None and item.name not in known:
                    end = {"outcome": "protocol_error", "error": error("UnknownTool", f"there is no tool {item.name!r}")}
                    await off_loop(lambda call=call, end=end: self._calls.record(call, **end))
                else:
                    self._calls.ask((*run, item.call_id), call)
            elif kind and kind.removesuffix("_call") in _LOCAL.values():
                said["arguments"] = _members(item)
                self._calls.ask((*run, item.call_id), self._describe(kind.removesuffix("_call"), context, agent, said))
            elif kind in _HOSTED:
                call, end = self._hosted(item, context, agent)
                await off_loop(lambda call=call, end=end: self._calls.record(call, **end))

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        """The SDK calls it when an agent has handed over to another."""
        run, names = _run(context, from_agent), _handoffs(from_agent, to_agent)
        (call,) = self._calls.asked_all(lambda key, call: key[:2] == run and call["tool_name"] in names, 1) or ({},)
        self._handed.put((run[0], to_agent.name), (from_agent.name, call.get("call_id")))
        if call:
            await off_loop(lambda: self._calls.record(call, result={"agent": to_agent.name}))

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        """The SDK calls it when an agent has given its last answer."""
        run = _run(context, agent)
        await off_loop(self._calls.unasked, "", lambda key: key[:2] == run)

    # ----

    def _asked(self, run: tuple[Any, ...], calls: dict[Any, tuple[str, Any]]) -> list[dict[str, Any]]:
        """What the model asked for under these ids, each with a name and arguments: in this run, or in one that goes on in this one,
        after an approval."""
        asked = [(id, self._calls.asked((*run, id))) for id in calls]
        rest = {id: calls[id] for id, call in asked if call is None}

        def resumed(key: Any, call: dict[str, Any]) -> bool:
            return key[1] == run[1] and rest.get(key[2]) == (call["tool_name"], call["arguments"])

        return [call for _, call in asked if call is not None] + self._calls.asked_all(resumed)

    def _settle(self, run: tuple[Any, ...], items: list[Any]) -> None:
        given = [item for item in items if isinstance(item, Mapping)]
        texts = {item.get("call_id"): str(item.get("output")) for item in given if str(item.get("type", "")).endswith("_output")}
        calls = {id: ("", None) for id in texts}
        for item in given:
            if item.get("call_id") in texts and item.get("type") in ("function_call", "custom_tool_call"):
                calls[item["call_id"]] = (str(item.get("name")), parsed(item.get("arguments") or item.get("input")))
        for call in self._asked(run, calls):
            text = texts.get(call["call_id"], "")
            unknown = text == f"Tool '{call['tool_name']}' not found."
            end = ("protocol_error", "UnknownTool") if unknown else ("denied", "Denied")
            self._calls.record(call, outcome=end[0], error=error(end[1], text))

    def _describe(self, name: str, context: Any, agent: Any, said: dict[str, Any]) -> dict[str, Any]:
        trace, span = get_current_trace(), get_current_span()
        metadata: dict[str, Any] = {}
        said["conversation_id"] = _conversation()
        if trace is not None and trace.trace_id != "no-op":
            said["trace_id"] = trace.trace_id
            metadata["workflow"] = trace.name
        if span is not None and span.span_id != "no-op" and "trace_id" in said:
            said["span_id"] = span.span_id
        said["agent_id"] = agent.name
        parent = self._handed.get((_run(context, agent)[0], agent.name))
        outer = [opened for opened in self._calls.all() if opened.kept is not None and opened.kept[1] is agent]
        if parent is not None:
            said["parent_agent_id"], said["parent_call_id"] = parent
        elif outer:
            # The agent is a tool. If it is called several times at once, the SDK does not tell by which call.
            callers = {opened.call.get("agent_id") for opened in outer}
            said["parent_agent_id"] = callers.pop() if len(callers) == 1 else None
            said["parent_call_id"] = outer[0].call.get("call_id") if len(outer) == 1 else None
        return self._calls.describe(name, context, noted=metadata, **said)

    def _hosted(self, item: Any, context: Any, agent: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        members = _members(item)
        answer = {name: members.pop(name) for name in ("output", "outputs", "result", "results", "error") if name in members}
        said = {"call_id": item.id, "tool_server": members.pop("server_label", None) or "provider"}
        said["arguments"] = parsed(members.pop("arguments")) if "arguments" in members else members
        call = self._describe(members.pop("name", None) or item.type.removesuffix("_call"), context, agent, said)
        if answer.get("error") or getattr(item, "status", None) in ("failed", "incomplete"):
            return call, {"outcome": "tool_error", "error": error(None, answer.get("error") or item.status)}
        return call, {"result": answer}


class _Spans(TracingProcessor):
    """Ends the calls of which hooks are not told how they end: the tool raised out of the run, or was cancelled. Their spans end."""

    def __init__(self) -> None:
        self._calls = Newest()
        self._added = False

    def follow(self, calls: Calls, opened: OpenCall) -> None:
        """Follows a call to the end of the present span, if the run is traced."""
        span = get_current_span()
        if span is None or span.span_id == "no-op":
            return
        if not self._added:
            self._added = True
            add_trace_processor(self)
        self._calls.put(span.span_id, (calls, opened))

    def on_span_end(self, span: Any) -> None:
        followed = self._calls.pop(span.span_id)
        if followed is None or followed[1].ended:
            return
        calls, opened = followed
        calls.forget(opened)
        opened.end(**(_wrong(span) or {"outcome": "abandoned", "error": error("Abandoned", CANCELLED)}))

    def on_span_start(self, span: Any) -> None: ...
    def on_trace_start(self, trace: Any) -> None: ...
    def on_trace_end(self, trace: Any) -> None: ...
    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...


_SPANS = _Spans()


def _run(context: Any, agent: Any) -> tuple[Any, ...]:
    """What tells this agent's part of this run from all others: each run counts its usage in an object of its own."""
    return (id(context.usage), agent.name)


def _key(context: Any, agent: Any, tool: Any) -> tuple[Any, ...]:
    # Tools that are told no call id run one after another.
    return (id(context),) if isinstance(context, ToolContext) else (*_run(context, agent), tool.name)


def _conversation() -> str | None:
    trace = get_current_trace()
    return None if trace is None or trace.trace_id == "no-op" else getattr(trace, "group_id", None) or trace.trace_id


def _model(agent: Any, config: Any) -> str | None:
    model = getattr(config, "model", None) or agent.model
    name = model if isinstance(model, str) else getattr(model, "model", None)
    return name if isinstance(name, str) else None


def _tools(agent: Any) -> set[str] | None:
    """The names that the model may call; `None` if MCP servers have more."""
    if getattr(agent, "mcp_servers", None):
        return None
    return {tool.name for tool in agent.tools} | {name for to in agent.handoffs for name in _handoff_names(to)}


def _handoff_names(to: Any) -> set[str]:
    return {to.tool_name} if isinstance(to, Handoff) else {Handoff.default_tool_name(to)}


def _handoffs(agent: Any, to_agent: Any) -> set[str]:
    names = (_handoff_names(to) for to in agent.handoffs if to is to_agent or getattr(to, "agent_name", None) == to_agent.name)
    return set().union(*names)


def _members(item: Any) -> dict[str, Any]:
    given = item.model_dump(exclude_none=True) if hasattr(item, "model_dump") else dict(item)
    return {name: value for name, value in given.items() if name not in ("id", "call_id", "type", "status")}


def _ending(tool: Any, result: Any) -> dict[str, Any]:
    if isinstance(result, str) and result.startswith(f"Tool '{tool.name}' timed out after "):
        return {"outcome": "timeout", "error": error("Timeout", result)}
    if wrong := _wrong(get_current_span()):
        return wrong
    if isinstance(result, str) and result.startswith(_FAILED):
        return {"outcome": "tool_error", "error": error("ToolError", result)}
    return {"result": result}


def _wrong(span: Any) -> dict[str, Any] | None:
    """How a call ended whose span tells of an error."""
    told = getattr(span, "error", None)
    if not told:
        return None
    return {"outcome": "tool_error", "error": error("ToolError", (told.get("data") or {}).get("error") or told.get("message"))}
