"""The adapter for Microsoft's Agent Framework, with the real package and a model that plays a scenario."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("agent_framework", reason="agent-framework-core is not installed: pip install agent-framework-core")

from agent_framework import (  # noqa: E402
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    tool,
)
from agent_framework.exceptions import AgentFrameworkException  # noqa: E402
from scenarios import INNER, MODEL, SCENARIOS, USER, Asked, check, ended, entries  # noqa: E402

from attestlog.adapters.agent_framework import AuditMiddleware  # noqa: E402

ran = []


class Played(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """Asks for the scenario's calls, turn by turn, and then says that it is done."""

    def __init__(self, turns, name=MODEL):
        super().__init__()
        self.turns, self.name = iter(turns), name

    def _contents(self):
        turn = next(self.turns, None)
        if turn is None:
            return [Content.from_text("done")]
        return [Content.from_function_call(call_id=call.id, name=call.tool, arguments=json.dumps(call.arguments)) for call in turn]

    def _inner_get_response(self, *, messages, stream, options, **_):
        contents = self._contents()
        if stream:

            async def updates():
                yield ChatResponseUpdate(role="assistant", contents=contents, model=self.name)

            return ResponseStream(updates(), finalizer=ChatResponse.from_updates)

        async def response():
            return ChatResponse(messages=[Message(role="assistant", contents=contents)], model=self.name)

        return response()


@tool(approval_mode="never_require")
def add(a: int, b: int) -> int:
    """Adds."""
    ran.append("add")
    return a + b


@tool(approval_mode="never_require")
async def add_later(a: int, b: int) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


@tool(approval_mode="never_require")
def boom(text: str) -> str:
    """Fails."""
    raise ValueError(text)


@tool(approval_mode="never_require")
async def forever() -> None:
    """Waits."""
    ran.append("forever")
    await asyncio.Event().wait()


@tool(approval_mode="always_require")
def mail(to: str) -> str:
    """Sends."""
    ran.append("mail")
    return to


def agent(turns, audit, tools=(add, add_later, boom, forever, mail), name="orders"):
    return Agent(Played(turns), name=name, tools=list(tools), middleware=audit.middleware())


def middleware(log, **how):
    return AuditMiddleware(log, user_id=USER, **how)


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing"])
@pytest.mark.parametrize("streamed", [False, True])
def test_calls(log, name, streamed):
    async def run():
        orders = agent(SCENARIOS[name].turns, middleware(log))
        session = orders.create_session(session_id="conv_1")
        if streamed:
            async for _ in orders.run("go", session=session, stream=True):
                pass
        else:
            assert (await orders.run("go", session=session)).text == "done"

    asyncio.run(run())
    for line in check(log, name, conversation_id="conv_1", agent_id="orders", model=MODEL).values():
        assert line["begun_seq"] < line["seq"] and line["session_metadata"]["framework"] == "agent-framework-core"


def test_sub_agent(log):
    async def run():
        audit = middleware(log)
        inner = Agent(Played(INNER, "inner-model"), name="adder", tools=[add], middleware=audit.middleware())
        helper = inner.as_tool(name="helper", description="adds", arg_name="request")
        orders = agent(SCENARIOS["sub-agent"].turns, audit, [helper])
        await orders.run("go", session=orders.create_session(session_id="conv_1"))

    asyncio.run(run())
    found = check(log, "sub-agent", conversation_id="conv_1")
    assert found["i1"]["agent_id"] == "adder" and found["i1"]["model"] == "inner-model"
    assert found["i1"]["parent_agent_id"] == "orders" and found["i1"]["parent_call_id"] == "o1"


def test_cancelled(log):
    async def run():
        task = asyncio.create_task(agent(SCENARIOS["cancelled"].turns, middleware(log)).run("go"))
        while not ran:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    check(log, "cancelled")


def test_unknown(log):
    asyncio.run(agent(SCENARIOS["unknown"].turns, middleware(log)).run("go"))
    check(log, "unknown", agent_id="orders", model=MODEL)


@pytest.mark.parametrize("allowed", [False, True])
def test_denied(log, allowed):
    async def run():
        orders = agent(SCENARIOS["denied"].turns, middleware(log))
        session = orders.create_session(session_id="conv_1")
        first = await orders.run("go", session=session)
        (request,) = first.user_input_requests
        answer = Message(role="user", contents=[request.to_function_approval_response(allowed)])
        assert (await orders.run(answer, session=session)).text == "done"

    asyncio.run(run())
    if allowed:
        found = ended(log)
        assert list(found) == ["d1"] and found["d1"]["outcome"] == "ok" and found["d1"]["approval"]["decision"] == "allowed"
    else:
        check(log, "denied", conversation_id="conv_1", agent_id="orders")
        assert not ran


def test_fails_closed(log):
    log.close()
    with pytest.raises(AgentFrameworkException, match="could not be recorded"):
        asyncio.run(agent(SCENARIOS["parallel"].turns, middleware(log)).run("go"))
    assert not ran


def test_two_agents_and_one_log(log):
    async def run():
        audit = middleware(log)
        turns = [[Asked(f"{turn}.{n}", "add_later", {"a": n, "b": 0}) for n in range(5)] for turn in range(3)]

        async def one(audit, name):
            orders = agent(turns, audit)
            await orders.run("go", session=orders.create_session(session_id=name))

        await asyncio.gather(one(audit, "conv_a"), one(audit, "conv_b"), one(middleware(log), "conv_c"))
        assert not audit._calls.all() and not audit._calls._asked

    asyncio.run(run())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert sorted(line["conversation_id"] for line in lines) == sorted(["conv_a", "conv_b", "conv_c"] * 15)
    assert all(line["outcome"] == "ok" for line in lines)
