"""Every tool call of LangChain and LangGraph, in an attestlog log.

    from attestlog import AuditLog
    from attestlog.adapters.langchain import AuditHandler

    audit = AuditHandler(AuditLog.open_or_create("audit.log"), user_id="usr_1")
    agent.invoke(question, config={"callbacks": [audit], "configurable": {"thread_id": "conv_1"}})

Seen: every tool that runs under these callbacks: in parallel, async, streamed, failing, in sub-graphs and in agents that are called as
tools (with the outer call as their parent); tools whose error became an answer; tools that do not exist, arguments that are no JSON, and
calls that a person or a middleware refused, as soon as the model is asked again or the run ends. With the thread as the conversation (else
the run), the model, the call's id, the agent and the graph's node.
Not seen: tools that are called without these callbacks; a call that a middleware answers in the tool's place looks like one that was
refused; the user, unless `user_id` or the run's metadata (`user_id`) names one.
Fails closed: `raise_error` is set, so a call that cannot be recorded raises in the tool's place, and the tool does not run. LangGraph's
`ToolNode(handle_tool_errors=True)` then tells the model about it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage

from ._calls import Calls, OpenCall, error, failed, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from .. import AuditLog
    from ._calls import User

__all__ = ["AuditHandler"]

# Members of a run's metadata that name its conversation, the first that is there.
_CONVERSATION = ("thread_id", "conversation_id", "session_id")
# What LangGraph raises when a tool waits for a person, or gives way to another node.
_INTERRUPTED = {"GraphInterrupt", "NodeInterrupt", "GraphBubbleUp", "ParentCommand"}


class AuditHandler(BaseCallbackHandler):
    """Records each tool call of the runs that have it among their callbacks. One can serve many runs at once.

    `user_id` is a text, or a function of the run's metadata; without it, the metadata's `user_id` is used.
    """

    raise_error = True

    def __init__(
        self,
        log: AuditLog,
        *,
        user_id: User | None = None,
        conversation_id: str | None = None,
        **members: Any,
    ) -> None:
        super().__init__()
        self._calls = Calls(log, "langchain-core", user_id, conversation_id, members)
        self._runs = _Runs()

    # ---- tools

    def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None, tool_call_id: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """LangChain calls it before a tool runs."""
        metadata = metadata or {}
        self._runs.begin(run_id, parent_run_id, metadata)
        root = self._runs.root(run_id)
        asked = self._calls.asked((root, tool_call_id)) or self._calls.asked((metadata.get("thread_id"), tool_call_id)) or {}
        name = (serialized or {}).get("name") or kwargs.get("name") or asked.get("tool_name") or ""
        arguments = parsed(input_str) if inputs is None else {name: value for name, value in inputs.items() if not _injected(value)}
        call = self._describe(run_id, name, metadata, arguments=arguments, call_id=tool_call_id, model=asked.get("model"))
        opened = self._calls.opened(run_id, call)
        opened.kept = root
        try:
            self._calls.start(opened)
        except BaseException:
            self._runs.end(run_id)
            raise

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """LangChain calls it after a tool has answered, also if its answer is an error."""
        self._runs.end(run_id)
        self._calls.end(run_id, **_ending(output))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """LangChain calls it after a tool has raised."""
        self._runs.end(run_id)
        self._calls.end(run_id, **_raised(error))

    # ---- models: what they ask for, and what they are told

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[Any]], *, run_id: UUID, parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        """LangChain calls it before it asks a model: the messages have the answers to calls that no tool was run for."""
        self._runs.begin(run_id, parent_run_id, metadata)
        scopes = self._scopes(run_id)
        for message in (message for batch in messages for message in _messages(batch)):
            self._settle(scopes, message)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        """LangChain calls it after a model has answered."""
        metadata = self._runs.metadata(run_id)
        scope = self._scopes(run_id)[-1]
        for generation in (generation for batch in response.generations for generation in batch):
            message = getattr(generation, "message", None)
            if not isinstance(message, AIMessage):
                continue
            model = (message.response_metadata or {}).get("model_name") or metadata.get("ls_model_name")
            for asked in message.tool_calls:
                call = self._describe(run_id, asked["name"], metadata, arguments=asked["args"], call_id=asked["id"], model=model)
                self._calls.ask((scope, asked["id"]), call)
            for asked in message.invalid_tool_calls:
                call = self._describe(
                    run_id, asked["name"], metadata, arguments=parsed(asked["args"]), call_id=asked["id"], model=model
                )
                why = error("InvalidArguments", asked.get("error") or "the arguments are no JSON")
                self._calls.record(call, outcome="protocol_error", error=why)
        self._runs.end(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """LangChain calls it after a model has failed."""
        self._runs.end(run_id)

    # ---- chains and graphs: what belongs to what

    def on_chain_start(
        self, serialized: dict[str, Any], inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None, name: str | None = None, **_: Any,
    ) -> None:  # fmt: skip
        """LangChain calls it before a chain, a graph or a node of a graph runs."""
        self._runs.begin(run_id, parent_run_id, metadata, name)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """LangChain calls it after them: answers to calls that no tool was run for are in what a node gives."""
        scopes = self._scopes(run_id)
        for message in _messages(outputs.get("messages") if isinstance(outputs, dict) else outputs):
            self._settle(scopes, message)
        self._over(run_id, "the run ended before the call did")

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """LangChain calls it after they have failed or were cancelled."""
        self._over(run_id, f"the run ended before the call did: {type(error).__name__}", not _is_interrupt(error))

    def close(self) -> None:
        """Abandons the calls that have not ended, and records those that the model asked for and nobody ran."""
        self._calls.close()

    # ----

    def _over(self, run_id: UUID, why: str, failed: bool = False) -> None:
        root, scopes = self._runs.root(run_id), self._scopes(run_id)
        self._runs.end(run_id)
        if root == run_id:
            for opened in self._calls.all():
                if opened.kept == root:
                    self._runs.end(opened.key)
            self._calls.abandon(why, lambda opened: opened.kept == root)
            # A thread may go on after an interrupt; what an ended run alone asked for is over.
            self._calls.unasked(why, lambda key: key[0] == root or (failed and key[0] in scopes))

    def _settle(self, scopes: list[Any], message: ToolMessage) -> None:
        for scope in scopes:
            call = self._calls.asked((scope, message.tool_call_id))
            if call is not None:
                self._calls.record(call, **_refused(message))

    def _scopes(self, run_id: UUID) -> list[Any]:
        """Where calls of this run may have been asked for: in its root, or, if it has one, in its thread, which is the last."""
        thread = self._runs.metadata(run_id).get("thread_id")
        return [self._runs.root(run_id)] + ([thread] if thread else [])

    def _describe(self, run_id: UUID, name: str, metadata: Mapping[str, Any], **said: Any) -> dict[str, Any]:
        conversation = next((str(metadata[member]) for member in _CONVERSATION if metadata.get(member)), None)
        outer = self._outer(run_id)
        # Within the tool of another agent, the metadata still name that one.
        agent = (metadata.get("lc_agent_name") if outer is None else None) or self._runs.graph(run_id)
        node = {
            member: metadata[member] for member in ("langgraph_node", "langgraph_step", "checkpoint_ns") if metadata.get(member)
        }
        call = self._calls.describe(
            name, metadata, conversation_id=conversation or f"run-{self._runs.root(run_id)}", user_id=metadata.get("user_id"), agent_id=agent,
            noted=node, **said,
        )  # fmt: skip
        if outer is not None:
            call["parent_call_id"] = outer.call.get("call_id")
            if outer.call.get("agent_id") != call.get("agent_id"):
                call["parent_agent_id"] = outer.call.get("agent_id")
        return {name: value for name, value in call.items() if value is not None}

    def _outer(self, run_id: UUID) -> OpenCall | None:
        """The call in whose tool this run takes place."""
        for above in self._runs.above(run_id):
            opened = self._calls.get(above)
            if opened is not None:
                return opened
        return None


class _Run(NamedTuple):
    parent: UUID | None
    metadata: Mapping[str, Any]
    name: str | None


_NO_RUN = _Run(None, {}, None)


class _Runs:
    """Which run was started by which, and with what metadata, as long as they last."""

    LIMIT = 100_000

    def __init__(self) -> None:
        self._runs: OrderedDict[UUID, _Run] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, run_id: UUID, parent: UUID | None, metadata: Mapping[str, Any] | None, name: str | None = None) -> None:
        with self._lock:
            if len(self._runs) >= self.LIMIT:
                self._runs.popitem(last=False)
            self._runs[run_id] = _Run(parent, metadata or {}, name)

    def end(self, run_id: UUID) -> None:
        with self._lock:
            self._runs.pop(run_id, None)

    def metadata(self, run_id: UUID) -> Mapping[str, Any]:
        return self._runs.get(run_id, _NO_RUN).metadata

    def graph(self, run_id: UUID) -> str | None:
        """The name of the graph whose node this run takes place in, if it has one."""
        for above in [run_id, *self.above(run_id)]:
            run = self._runs.get(above, _NO_RUN)
            if run.name is not None and run.name == run.metadata.get("langgraph_node") and run.parent is not None:
                name = self._runs.get(run.parent, _NO_RUN).name
                return name if name != "LangGraph" else None
        return None

    def above(self, run_id: UUID) -> list[UUID]:
        """The runs in which this one takes place, the nearest first."""
        with self._lock:
            found: list[UUID] = []
            while len(found) < 1_000 and (parent := self._runs.get(run_id, _NO_RUN).parent) is not None:
                found.append(parent)
                run_id = parent
            return found

    def root(self, run_id: UUID) -> UUID:
        above = self.above(run_id)
        return above[-1] if above else run_id


def _ending(output: Any) -> dict[str, Any]:
    if isinstance(output, ToolMessage):
        if output.status == "error":
            return {"outcome": "tool_error", "error": error("ToolError", output.content)}
        return {"result": parsed(output.content) if isinstance(output.content, str) else output.content}
    return {"result": output}


def _refused(message: ToolMessage) -> dict[str, Any]:
    """How a call ended that the model was given this answer to, and that no tool was run for."""
    text = message.content if isinstance(message.content, str) else str(message.content)
    if "is not a valid tool" in text:
        return {"outcome": "protocol_error", "error": error("UnknownTool", text)}
    return {"outcome": "denied", "error": error("NotRun", text)}


def _raised(e: BaseException) -> dict[str, Any]:
    if _is_interrupt(e):
        return {
            "outcome": "abandoned",
            "error": error(type(e).__name__, "the tool was interrupted and runs again when the graph goes on"),
        }
    return failed(e)


def _is_interrupt(e: BaseException) -> bool:
    return any(kind.__name__ in _INTERRUPTED for kind in type(e).__mro__)


def _injected(value: Any) -> bool:
    """Whether an argument came from LangGraph and not from the model."""
    return type(value).__name__ in ("ToolRuntime", "Runtime", "InMemoryStore") or hasattr(value, "stream_writer")


def _messages(messages: Any) -> list[ToolMessage]:
    """The answers to calls in what came after the model last spoke: older ids may have been used again since."""
    new: list[ToolMessage] = []
    for message in reversed(messages if isinstance(messages, (list, tuple)) else []):
        if isinstance(message, AIMessage):
            break
        if isinstance(message, ToolMessage):
            new.append(message)
    return new
