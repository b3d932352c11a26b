"""Every tool call of a Pydantic AI agent, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.pydantic_ai import AuditCapability

    log = AuditLog.open_or_create("audit.log")
    agent = Agent("openai:gpt-5", name="orders", capabilities=[AuditCapability(log, user_id=lambda ctx: ctx.deps.user)])

Put it first among the capabilities: the first is the outermost, and sees what the others refuse.

Seen: every function tool, in parallel, streamed, failing, asking the model to try again, cancelled, and called within another agent's
tool (with the outer call as its parent); arguments that are refused; tools that do not exist; calls that wait for approval, and those that
are denied; tools that the model's provider runs. With the conversation, the agent, the model and the call's id.
Not seen: output tools and output functions, which are how the agent answers; what an external tool did, whose result comes with a later
run; the user, whom `user_id` must name or find in the run's context.
Fails closed: a call that cannot be recorded raises, and the tool does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.messages import ModelRequest, ModelResponse

from ._calls import INSIDE, Calls, around, error, failed, off_loop, parsed

if TYPE_CHECKING:
    from .. import AuditLog
    from ._calls import User

__all__ = ["AuditCapability"]

# Exceptions by which a tool says that it has not run yet: an approval is missing, or something else runs it.
_DEFERRED = {"ApprovalRequired", "CallDeferred"}


class AuditCapability(AbstractCapability[Any]):
    """Records each tool call of the agents that have it. One can serve many agents and runs at once.

    `user_id` is a text, or a function of Pydantic AI's `RunContext`.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        user_id: User | None = None,
        conversation_id: str | None = None,
        **members: Any,
    ) -> None:
        self._calls = Calls(log, "pydantic-ai", user_id, conversation_id, members)

    def get_ordering(self) -> CapabilityOrdering:
        """It wants to be around all other capabilities."""
        return CapabilityOrdering(position="outermost")

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """A log cannot be written into a specification."""
        return None

    async def after_model_request(self, ctx: RunContext[Any], *, request_context: Any, response: ModelResponse) -> ModelResponse:
        """Keeps what the model asks for, and records what cannot run: tools that do not exist, and those that its provider has run."""
        known = ctx.tools
        for call in response.tool_calls:
            tool = known.get(call.tool_name)
            described = self._describe(ctx, call, call.args, response.model_name)
            if tool is None:
                ending = {"outcome": "protocol_error", "error": error("UnknownTool", f"there is no tool {call.tool_name!r}")}
                await off_loop(lambda described=described, ending=ending: self._calls.record(described, **ending))
            elif tool.kind != "output":
                self._calls.ask(_key(ctx, call.tool_call_id), described)
        for call, answer in _by_provider(response):
            described = self._describe(ctx, call, call.args, response.model_name)
            described["tool_server"] = call.provider_name or "provider"
            await off_loop(lambda described=described, answer=answer: self._calls.record(described, **_answered(answer)))
        return response

    async def before_model_request(self, ctx: RunContext[Any], request_context: Any) -> Any:
        """Records the calls that were answered without being run: denied, or refused by validation."""
        await off_loop(self._settle, ctx, request_context.messages)
        return request_context

    async def after_run(self, ctx: RunContext[Any], *, result: Any) -> Any:
        """The same for the last answers, which no model sees."""
        await off_loop(self._settle, ctx, result.all_messages())
        return result

    async def on_run_error(self, ctx: RunContext[Any], *, error: BaseException) -> Any:
        """What a failed run leaves behind is not run."""
        why = f"the run failed: {type(error).__name__}"
        await off_loop(self._calls.unasked, why, lambda key: key[0] == ctx.conversation_id)
        raise error

    async def wrap_tool_execute(self, ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        """Pydantic AI calls it around each tool."""
        if tool_def.kind == "output":
            return await handler(args)
        asked = self._calls.asked(_key(ctx, call.tool_call_id))
        described = self._describe(ctx, call, args, (asked or {}).get("model"))
        if ctx.tool_call_approved:
            described["approval"] = {"decision": "allowed"}
        return await around(self._calls, described, lambda: handler(args), raised=_raised)

    def close(self) -> None:
        """Abandons the calls that have not ended, and records those that were asked for and never run."""
        self._calls.close()

    def _settle(self, ctx: RunContext[Any], messages: list[Any]) -> None:
        for part in _answers(messages):
            call = self._calls.asked(_key(ctx, part.tool_call_id))
            if call is not None:
                self._calls.record(call, **_refused(part))

    def _describe(self, ctx: RunContext[Any], call: Any, args: Any, model: str | None) -> dict[str, Any]:
        agent = ctx.agent.name if ctx.agent is not None else None
        said = {
            "arguments": {} if args is None else parsed(args),
            "call_id": call.tool_call_id,
            "conversation_id": ctx.conversation_id,
            "agent_id": agent,
            "model": model or ctx.model.model_name,
            "noted": {"run_id": ctx.run_id, **({"retry": ctx.retry} if ctx.retry else {})},
        }
        outer = INSIDE.get()
        if outer is not None and outer.call["session_metadata"].get("run_id") != ctx.run_id:
            said["parent_agent_id"] = outer.call.get("agent_id")
            said["parent_call_id"] = outer.call.get("call_id")
        return self._calls.describe(call.tool_name, ctx, **said)


def _key(ctx: RunContext[Any], call_id: str) -> tuple[Any, ...]:
    # A run that goes on after an approval has another id and the same conversation.
    return (ctx.conversation_id, call_id)


def _answers(messages: list[Any]) -> list[Any]:
    """The answers to calls in what is new since the model spoke."""
    new: list[Any] = []
    for message in reversed(messages):
        if not isinstance(message, ModelRequest):
            break
        new.extend(
            part
            for part in message.parts
            if getattr(part, "tool_call_id", None) and part.part_kind in ("tool-return", "retry-prompt")
        )
    return new


def _refused(part: Any) -> dict[str, Any]:
    """How a call ended that the model was given this answer to, and that no tool was run for."""
    outcome, text = getattr(part, "outcome", None), str(part.content)
    if outcome == "denied":
        return {"outcome": "denied", "error": error("Denied", text), "approval": {"decision": "denied"}}
    if outcome == "retried" or part.part_kind == "retry-prompt":
        return {"outcome": "protocol_error", "error": error("InvalidArguments", text)}
    if outcome == "interrupted":
        return {"outcome": "abandoned", "error": error("Interrupted", text)}
    # With an answer all the same: another program ran it, or nobody had to.
    return {"outcome": "tool_error", "error": error(None, text)} if outcome == "failed" else {"result": part.content}


def _raised(e: Exception) -> dict[str, Any]:
    if type(e).__name__ in _DEFERRED:
        return {"outcome": "abandoned", "error": error(type(e).__name__, "the tool waits for an approval, or for another program")}
    if type(e).__name__ == "SkipToolExecution":
        return {"outcome": "denied", "error": error("SkipToolExecution", "another capability answered in the tool's place")}
    retry = getattr(e, "tool_retry", None)
    return {"outcome": "tool_error", "error": error("ModelRetry", retry.content)} if retry is not None else failed(e)


def _by_provider(response: ModelResponse) -> list[tuple[Any, Any]]:
    """The calls that the model's provider has run, with their answers."""
    kinds = ("builtin-tool-call", "native-tool-call")
    calls = [part for part in response.parts if part.part_kind in kinds]
    answers = {
        part.tool_call_id: part for part in response.parts if part.part_kind in ("builtin-tool-return", "native-tool-return")
    }
    return [(call, answers.get(call.tool_call_id)) for call in calls]


def _answered(answer: Any) -> dict[str, Any]:
    if answer is None:
        return {"outcome": "abandoned", "error": error("NoAnswer", "the model's answer does not say how the call ended")}
    return {"result": answer.content}
