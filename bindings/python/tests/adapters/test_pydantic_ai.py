"""The adapter for Pydantic AI, with the real package and a model that plays a scenario."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed: pip install pydantic-ai-slim")

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ModelRetry, RunContext, ToolDenied  # noqa: E402
from pydantic_ai.exceptions import UnexpectedModelBehavior  # noqa: E402
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart  # noqa: E402
from pydantic_ai.models.function import DeltaToolCall, FunctionModel  # noqa: E402
from scenarios import INNER, SCENARIOS, USER, Asked, check, ended, entries  # noqa: E402

import attestlog  # noqa: E402
from attestlog.adapters.pydantic_ai import AuditCapability  # noqa: E402

MODEL = "fake-model"
ran = []


def played(turns, name=MODEL):
    """A model that asks for the scenario's calls, turn by turn, and then says that it is done. The turn is that of its run."""

    def turn(messages):
        at = sum(isinstance(message, ModelResponse) for message in messages)
        return turns[at] if at < len(turns) else None

    def answer(messages, info):
        asked = turn(messages)
        if asked is None:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(call.tool, call.arguments, tool_call_id=call.id) for call in asked])

    async def stream(messages, info):
        import json

        asked = turn(messages)
        if asked is None:
            yield "done"
            return
        for at, call in enumerate(asked):
            yield {at: DeltaToolCall(name=call.tool, json_args=json.dumps(call.arguments), tool_call_id=call.id)}

    return FunctionModel(answer, stream_function=stream, model_name=name)


def add(a: int, b: int) -> int:
    ran.append("add")
    return a + b


async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def boom(text: str) -> str:
    raise ModelRetry(text)


def bang(text: str) -> str:
    raise ValueError(text)


async def forever() -> None:
    ran.append("forever")
    await asyncio.Event().wait()


def mail(to: str) -> str:
    ran.append("mail")
    return to


def agent(turns, audit, tools=(add, add_later, boom, bang, forever), **how):
    agent = Agent(played(turns), name="orders", capabilities=[audit], tools=list(tools), **how)
    agent.tool_plain(requires_approval=True)(mail)
    return agent


def capability(log, **how):
    return AuditCapability(log, user_id=USER, **how)


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing"])
@pytest.mark.parametrize("how", ["run", "stream", "sync"])
def test_calls(log, name, how):
    orders = agent(SCENARIOS[name].turns, capability(log))

    async def run():
        if how == "stream":
            async with orders.run_stream("go", conversation_id="conv_1") as result:
                assert await result.get_output() == "done"
        else:
            assert (await orders.run("go", conversation_id="conv_1")).output == "done"

    if how == "sync":
        assert orders.run_sync("go", conversation_id="conv_1").output == "done"
    else:
        asyncio.run(run())
    for line in check(log, name, conversation_id="conv_1", agent_id="orders", model=MODEL).values():
        assert line["begun_seq"] < line["seq"] and line["duration_ms"] >= 0
        assert line["session_metadata"]["framework"] == "pydantic-ai"


def test_sub_agent(log):
    audit = capability(log)
    inner = Agent(played(INNER, "inner-model"), name="adder", capabilities=[audit], tools=[add])

    async def helper(ctx: RunContext, request: str) -> str:
        return (await inner.run(request, usage=ctx.usage, conversation_id=ctx.conversation_id)).output

    agent(SCENARIOS["sub-agent"].turns, audit, [helper]).run_sync("go", conversation_id="conv_1")
    found = check(log, "sub-agent", conversation_id="conv_1")
    assert found["i1"]["agent_id"] == "adder" and found["i1"]["model"] == "inner-model"
    assert found["i1"]["parent_agent_id"] == "orders" and found["i1"]["parent_call_id"] == "o1"
    assert "parent_call_id" not in found["o1"]


def test_cancelled(log):
    async def run():
        task = asyncio.create_task(agent(SCENARIOS["cancelled"].turns, capability(log)).run("go"))
        while not ran:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    check(log, "cancelled")


def test_cancelled_with_a_failing_sibling(log):
    with pytest.raises(ValueError, match="first"):
        agent(SCENARIOS["sibling"].turns, capability(log)).run_sync("go")
    found = check(log, "sibling")
    assert found["s2"]["error"] == {"type": "ValueError", "message": "first"}


def test_unknown(log):
    assert agent(SCENARIOS["unknown"].turns, capability(log)).run_sync("go").output == "done"
    check(log, "unknown", agent_id="orders", model=MODEL)


def test_arguments_that_do_not_fit(log):
    wrong = [[Asked("j1", "add", {"a": "many", "b": 2})]]
    assert agent(wrong, capability(log)).run_sync("go").output == "done"
    found = ended(log)["j1"]
    assert found["outcome"] == "protocol_error" and found["error"]["type"] == "InvalidArguments" and not ran
    assert found["arguments"] == {"a": "many", "b": 2}


@pytest.mark.parametrize("allowed", [False, True])
def test_denied(log, allowed):
    orders = agent(SCENARIOS["denied"].turns, capability(log), output_type=[str, DeferredToolRequests])
    first = orders.run_sync("go", conversation_id="conv_1")
    assert [call.tool_call_id for call in first.output.approvals] == ["d1"] and not entries_of(log)
    answer = DeferredToolResults(approvals={"d1": True if allowed else ToolDenied("not today")})
    second = orders.run_sync(message_history=first.all_messages(), deferred_tool_results=answer, conversation_id="conv_1")
    assert second.output == "done"
    if allowed:
        found = ended(log)
        assert list(found) == ["d1"] and found["d1"]["outcome"] == "ok" and found["d1"]["approval"]["decision"] == "allowed"
    else:
        found = check(log, "denied", conversation_id="conv_1")
        assert found["d1"]["error"]["message"] == "not today" and found["d1"]["approval"]["decision"] == "denied" and not ran


def test_asked_for_and_never_run(log):
    audit = capability(log)
    orders = agent([[Asked("d1", "mail", {"to": "a"})]], audit, output_type=[str, DeferredToolRequests])
    orders.run_sync("go")
    assert not entries_of(log)
    audit.close()
    assert ended(log)["d1"]["outcome"] == "abandoned"


def test_output_tools_are_no_calls(log):
    orders = Agent(
        played([[Asked("n1", "final_result", {"response": 3})]]), name="orders", output_type=int, capabilities=[capability(log)]
    )
    assert orders.run_sync("go").output == 3
    assert not entries_of(log)


def test_fails_closed(log):
    log.close()
    with pytest.raises(attestlog.ClosedError):
        agent(SCENARIOS["parallel"].turns, capability(log)).run_sync("go")
    assert not ran


def test_too_many_retries(log):
    turns = [[Asked(f"r{n}", "boom", {"text": "again"})] for n in range(3)]
    with pytest.raises(UnexpectedModelBehavior):
        agent(turns, capability(log)).run_sync("go")
    found = ended(log)
    assert {line["outcome"] for line in found.values()} == {"tool_error"}
    assert found["r1"]["session_metadata"]["retry"] == 1


def test_two_agents_and_one_log(log):
    async def run():
        audit = capability(log)
        turns = [[Asked(f"{n}", "add_later", {"a": n, "b": 0}) for n in range(5)] for _ in range(4)]
        runs = [(audit, "conv_a"), (audit, "conv_b"), (capability(log), "conv_c")]
        await asyncio.gather(*(agent(turns, audit).run("go", conversation_id=name) for audit, name in runs))

    asyncio.run(run())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert sorted(line["conversation_id"] for line in lines) == sorted(["conv_a", "conv_b", "conv_c"] * 20)
    assert all(line["outcome"] == "ok" for line in lines)


def entries_of(log):
    return [line for line in entries(log) if line["kind"] in ("tool_call", "call_begun")]
