"""The adapter for smolagents, with the real package and a model that plays a scenario."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("smolagents", reason="smolagents is not installed: pip install smolagents")

from scenarios import INNER, MODEL, SCENARIOS, USER, Asked, check, ended, entries  # noqa: E402
from smolagents import CodeAgent, Model, ToolCallingAgent, tool  # noqa: E402
from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole  # noqa: E402

from smolagents.utils import AgentError  # noqa: E402

import attestlog  # noqa: E402
from attestlog.adapters.smolagents import audited  # noqa: E402

ran = []


class Played(Model):
    """Asks for the scenario's calls, turn by turn, and then gives its answer. A turn that is a text is the code of a `CodeAgent`."""

    def __init__(self, turns, name=MODEL):
        super().__init__(model_id=name)
        self._turns = iter([*turns, [Asked("end", "final_answer", {"answer": "done"})]])

    def generate(self, messages, **_):
        turn = next(self._turns)
        if isinstance(turn, str):
            return ChatMessage(role=MessageRole.ASSISTANT, content=f"<code>\n{turn}\n</code>")
        calls = [
            ChatMessageToolCall(
                id=call.id, type="function", function=ChatMessageToolCallFunction(name=call.tool, arguments=call.arguments)
            )
            for call in turn
        ]
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=calls)


@tool
def add(a: int, b: int) -> int:
    """Adds.

    Args:
        a: one
        b: another
    """
    ran.append("add")
    return a + b


@tool
def boom(text: str) -> str:
    """Fails.

    Args:
        text: why
    """
    raise ValueError(text)


def agent(turns, log, kind=ToolCallingAgent, **how):
    return audited(
        kind(tools=[add, boom], model=Played(turns), name="orders", max_steps=5, verbosity_level=0, **how), log, user_id=USER
    )


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


def check_all(log, name, **common):
    """As `check`, without the call by which the agent answers."""

    class Without:
        def query(self):
            return [entry for entry in log.query() if b'"tool_name":"final_answer"' not in bytes(entry.line)]

    return check(Without(), name, **common)


@pytest.mark.parametrize("name", ["parallel", "turns", "failing", "unknown"])
@pytest.mark.parametrize("streamed", [False, True])
def test_calls(log, name, streamed):
    result = agent(SCENARIOS[name].turns, log).run("go", stream=streamed)
    if streamed:
        list(result)
    for line in check_all(log, name, agent_id="orders", model=MODEL).values():
        assert line["session_metadata"]["framework"] == "smolagents" and (name == "unknown" or line["begun_seq"] < line["seq"])


def test_arguments_that_do_not_fit(log):
    agent([[Asked("j1", "add", {"a": "many", "b": 2})]], log).run("go")
    found = ended(log)["j1"]
    assert found["outcome"] == "protocol_error" and found["error"]["type"] == "InvalidArguments" and not ran


def test_managed_agent(log):
    inner = ToolCallingAgent(
        tools=[add], model=Played(INNER, "inner-model"), name="helper", description="adds", max_steps=3, verbosity_level=0
    )
    turns = [[Asked("o1", "helper", {"task": "add"})]]
    with attestlog.session(conversation_id="conv_1"):
        agent(turns, log, managed_agents=[inner]).run("go")
    found = {line["call_id"]: line for line in entries(log) if line["kind"] == "tool_call"}
    assert found["o1"]["outcome"] == found["i1"]["outcome"] == "ok" and found["o1"]["agent_id"] == "orders"
    assert found["i1"]["agent_id"] == "helper" and found["i1"]["model"] == "inner-model"
    assert found["i1"]["parent_agent_id"] == "orders" and found["i1"]["parent_call_id"] == "o1"
    assert {line["conversation_id"] for line in found.values()} == {"conv_1"}


def test_code(log):
    code = "total = add(1, b=2)\ntry:\n    boom(text='first')\nexcept ValueError:\n    pass\nfinal_answer(total)"
    assert agent([code], log, CodeAgent).run("go") == 3
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert [(line["tool_name"], line["outcome"]) for line in lines][:2] == [("add", "ok"), ("boom", "tool_error")]
    assert lines[0]["arguments"] == {"a": 1, "b": 2} and lines[1]["error"] == {"type": "ValueError", "message": "first"}


def test_fails_closed(log):
    log.close()
    orders = agent([], log)
    with pytest.raises(attestlog.ClosedError):
        orders.tools["add"](a=1, b=2)
    with pytest.raises(AgentError, match="ClosedError"):
        orders.execute_tool_call("add", {"a": 1, "b": 2})
    assert not ran


def test_two_agents_and_one_log(log):
    def run(name):
        turns = [[Asked(f"{name}.{turn}.{n}", "add", {"a": n, "b": turn}) for n in range(5)] for turn in range(3)]
        with attestlog.session(conversation_id=name):
            agent(turns, log).run("go")

    threads = [threading.Thread(target=run, args=(name,)) for name in ("conv_a", "conv_b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for line in entries(log) if line["kind"] == "tool_call" and line["tool_name"] == "add"]
    assert sorted(line["conversation_id"] for line in lines) == ["conv_a"] * 15 + ["conv_b"] * 15
    assert all(line["outcome"] == "ok" and line["call_id"].startswith(line["conversation_id"]) for line in lines)
