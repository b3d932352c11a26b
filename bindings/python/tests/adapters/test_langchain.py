"""The adapter for LangChain and LangGraph, with the real packages and a model that plays a scenario."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("langchain", reason="langchain is not installed: pip install langchain langgraph")
pytest.importorskip("langgraph", reason="langgraph is not installed: pip install langchain langgraph")

from langchain.agents import create_agent  # noqa: E402
from langchain.agents.middleware import HumanInTheLoopMiddleware  # noqa: E402
from langchain_core.language_models import BaseChatModel  # noqa: E402
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage  # noqa: E402
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult  # noqa: E402
from langchain_core.runnables import RunnableConfig  # noqa: E402
from langchain_core.tools import ToolException, tool  # noqa: E402
from langgraph.checkpoint.memory import InMemorySaver  # noqa: E402
from langgraph.types import Command  # noqa: E402
from scenarios import INNER, MODEL, SCENARIOS, USER, Asked, check, ended, entries  # noqa: E402

import attestlog  # noqa: E402
from attestlog.adapters.langchain import AuditHandler  # noqa: E402

ran = []


class Played(BaseChatModel):
    """Asks for the scenario's calls, turn by turn, and then says that it is done."""

    turns: list
    model_name: str = MODEL

    @property
    def _llm_type(self) -> str:
        return "played"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _message(self, messages: list) -> AIMessage:
        at = sum(isinstance(message, AIMessage) for message in messages)
        if at >= len(self.turns):
            return AIMessage("done", response_metadata={"model_name": self.model_name})
        calls = [{"name": call.tool, "args": call.arguments, "id": call.id} for call in self.turns[at] if isinstance(call, Asked)]
        broken = [call for call in self.turns[at] if not isinstance(call, Asked)]
        return AIMessage("", tool_calls=calls, invalid_tool_calls=broken, response_metadata={"model_name": self.model_name})

    def _generate(self, messages: list, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._message(messages))])

    def _stream(self, messages: list, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        import json

        message = self._message(messages)
        chunks = [
            {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": at}
            for at, call in enumerate(message.tool_calls)
        ]
        yield ChatGenerationChunk(
            message=AIMessageChunk(message.content, tool_call_chunks=chunks, response_metadata=message.response_metadata)
        )


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    ran.append("add")
    return a + b


@tool
async def add_later(a: int, b: int) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


@tool
def boom(text: str) -> str:
    """Fails; the model is told."""
    raise ToolException(text)


boom.handle_tool_error = True


@tool
def bang(text: str) -> str:
    """Fails, and the run with it."""
    raise ValueError(text)


@tool
async def forever() -> None:
    """Waits."""
    ran.append("forever")
    await asyncio.Event().wait()


@tool
def mail(to: str) -> str:
    """Sends."""
    ran.append("mail")
    return to


def agent(turns, tools=(add, add_later, boom, bang, forever, mail), **how):
    return create_agent(Played(turns=turns), list(tools), **{"name": "orders", **how})


def config(audit, thread="conv_1", **metadata):
    return {"callbacks": [audit], "configurable": {"thread_id": thread}, "metadata": metadata}


GO = {"messages": [("user", "go")]}


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing"])
@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
def test_calls(log, name, how):
    if name == "async" and how in ("invoke", "stream"):
        pytest.skip("LangChain does not run async tools in a run that is not")
    orders, settings = agent(SCENARIOS[name].turns), config(AuditHandler(log, user_id=USER))

    async def run():
        if how == "ainvoke":
            await orders.ainvoke(GO, settings)
        else:
            async for _ in orders.astream(GO, settings, stream_mode="messages"):
                pass

    if how == "invoke":
        orders.invoke(GO, settings)
    elif how == "stream":
        list(orders.stream(GO, settings, stream_mode="messages"))
    else:
        asyncio.run(run())
    for line in check(log, name, conversation_id="conv_1", agent_id="orders", model=MODEL).values():
        assert line["begun_seq"] < line["seq"] and line["duration_ms"] >= 0
        assert line["session_metadata"]["framework"] == "langchain-core"
        assert line["session_metadata"]["langgraph_node"] == "tools"


def test_sub_agent(log):
    inner = create_agent(Played(turns=INNER, model_name="inner-model"), [add], name="adder")

    @tool
    def helper(request: str, config: RunnableConfig) -> str:
        """Adds."""
        return inner.invoke({"messages": [("user", request)]}, config)["messages"][-1].content

    agent(SCENARIOS["sub-agent"].turns, [helper]).invoke(GO, config(AuditHandler(log, user_id=USER)))
    found = check(log, "sub-agent", conversation_id="conv_1")
    assert found["i1"]["agent_id"] == "adder" and found["i1"]["model"] == "inner-model"
    assert found["i1"]["parent_agent_id"] == "orders" and found["i1"]["parent_call_id"] == "o1"
    assert "parent_call_id" not in found["o1"]


def test_cancelled(log):
    async def run():
        audit = AuditHandler(log, user_id=USER)
        task = asyncio.create_task(agent(SCENARIOS["cancelled"].turns).ainvoke(GO, config(audit)))
        while not ran:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    check(log, "cancelled")


def test_cancelled_with_a_failing_sibling(log):
    with pytest.raises(ValueError, match="first"):
        asyncio.run(agent(SCENARIOS["sibling"].turns).ainvoke(GO, config(AuditHandler(log, user_id=USER))))
    found = check(log, "sibling")
    assert found["s2"]["error"] == {"type": "ValueError", "message": "first"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_unknown(log, asynchronous):
    orders, settings = agent(SCENARIOS["unknown"].turns), config(AuditHandler(log, user_id=USER))
    asyncio.run(orders.ainvoke(GO, settings)) if asynchronous else orders.invoke(GO, settings)
    check(log, "unknown", conversation_id="conv_1", model=MODEL)


def test_arguments_that_are_no_json(log):
    broken = {"name": "add", "args": '{"a": 1, ', "id": "j1", "error": "Unterminated"}
    agent([[broken, Asked("j2", "add", {"a": 1, "b": 2})]]).invoke(GO, config(AuditHandler(log, user_id=USER)))
    found = ended(log)
    assert found["j1"]["outcome"] == "protocol_error" and found["j1"]["arguments"] == '{"a": 1, '
    assert found["j2"]["outcome"] == "ok"


@pytest.mark.parametrize("allowed", [False, True])
def test_denied(log, allowed):
    asks = HumanInTheLoopMiddleware(interrupt_on={"mail": {"allowed_decisions": ["approve", "reject"]}})
    orders = agent(SCENARIOS["denied"].turns, middleware=[asks], checkpointer=InMemorySaver())
    audit = AuditHandler(log, user_id=USER)
    orders.invoke(GO, config(audit))
    assert not calls(log)
    decision = {"type": "approve"} if allowed else {"type": "reject", "message": "not today"}
    orders.invoke(Command(resume={"decisions": [decision]}), config(audit))
    if allowed:
        found = ended(log)
        assert list(found) == ["d1"] and found["d1"]["outcome"] == "ok"
    else:
        found = check(log, "denied", conversation_id="conv_1", model=MODEL)
        assert "not today" in found["d1"]["error"]["message"] and not ran


def test_a_tool_that_interrupts(log):
    from langgraph.types import interrupt

    @tool
    def ask(question: str) -> str:
        """Asks the person."""
        return interrupt(question)

    orders = agent([[Asked("k1", "ask", {"question": "sure?"})]], [ask], checkpointer=InMemorySaver())
    audit = AuditHandler(log, user_id=USER)
    orders.invoke(GO, config(audit))
    orders.invoke(Command(resume="yes"), config(audit))
    outcomes = [line["outcome"] for line in calls(log) if line["kind"] == "tool_call"]
    assert outcomes == ["abandoned", "ok"]


def test_calls_that_a_run_leaves_open(log):
    # The handler asked the open calls for an attribute that they did not have, as soon as a run ended while another had one open.
    audit, first, second = AuditHandler(log, user_id=USER), uuid4(), uuid4()
    for root in (first, second):
        audit.on_chain_start({}, {}, run_id=root, name="graph", metadata={"thread_id": str(root)})
        audit.on_tool_start({"name": "add"}, "", run_id=uuid4(), parent_run_id=root, tool_call_id=str(root), inputs={})
    audit.on_chain_error(asyncio.CancelledError(), run_id=first)
    assert [(line["call_id"], line["outcome"]) for line in calls(log) if "outcome" in line] == [(str(first), "abandoned")]
    assert len(audit._calls.all()) == 1
    audit.on_chain_end({}, run_id=second)
    assert set(ended(log)) == {str(first), str(second)} and not audit._runs._runs


def test_tools_without_an_agent(log):
    audit = AuditHandler(log, user_id=USER, conversation_id="conv_7", agent_id="script")
    assert add.invoke({"a": 1, "b": 2}, {"callbacks": [audit]}) == 3
    asked = {"type": "tool_call", "name": "add", "args": {"a": 1, "b": 2}, "id": "x1"}
    assert isinstance(add.invoke(asked, {"callbacks": [audit]}), ToolMessage)
    lines = [line for line in calls(log) if line["kind"] == "tool_call"]
    assert [line.get("call_id") for line in lines] == [None, "x1"]
    assert all((line["conversation_id"], line["agent_id"], line["outcome"]) == ("conv_7", "script", "ok") for line in lines)


def test_the_user_of_the_metadata(log):
    agent(SCENARIOS["turns"].turns).invoke(GO, config(AuditHandler(log), user_id="usr_5"))
    assert {line["user_id"] for line in ended(log).values()} == {"usr_5"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_fails_closed(log, asynchronous):
    log.close()
    orders, settings = agent(SCENARIOS["parallel"].turns), config(AuditHandler(log, user_id=USER))
    with pytest.raises(attestlog.ClosedError):
        asyncio.run(orders.ainvoke(GO, settings)) if asynchronous else orders.invoke(GO, settings)
    assert not ran


def test_two_agents_and_one_log(log):
    async def run():
        audit = AuditHandler(log, user_id=USER)
        turns = [[Asked(f"{n}", "add_later", {"a": n, "b": 0}) for n in range(5)] for _ in range(4)]
        runs = [(audit, "conv_a"), (audit, "conv_b"), (AuditHandler(log, user_id=USER), "conv_c")]
        await asyncio.gather(*(agent(turns).ainvoke(GO, config(audit, name)) for audit, name in runs))
        assert not audit._runs._runs and not audit._calls.all()

    asyncio.run(run())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert sorted(line["conversation_id"] for line in lines) == sorted(["conv_a", "conv_b", "conv_c"] * 20)
    assert all(line["outcome"] == "ok" for line in lines)


def calls(log):
    return [line for line in entries(log) if line["kind"] in ("tool_call", "call_begun")]
