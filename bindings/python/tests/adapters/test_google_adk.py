"""The adapter for Google's Agent Development Kit, with the real kit and a model that plays a scenario."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="google-adk is not installed: pip install google-adk")

from google.adk.agents import LlmAgent  # noqa: E402
from google.adk.agents.run_config import RunConfig, StreamingMode  # noqa: E402
from google.adk.apps import App  # noqa: E402
from google.adk.models import BaseLlm, LlmResponse  # noqa: E402
from google.adk.plugins.base_plugin import BasePlugin  # noqa: E402
from google.adk.runners import InMemoryRunner  # noqa: E402
from google.adk.tools import FunctionTool  # noqa: E402
from google.adk.tools.agent_tool import AgentTool  # noqa: E402
from google.genai import types  # noqa: E402
from scenarios import INNER, MODEL, SCENARIOS, USER, Asked, check, ended, entries  # noqa: E402

import attestlog  # noqa: E402
from attestlog.adapters.google_adk import AuditPlugin  # noqa: E402

ran = []


class Played(BaseLlm):
    """Asks for the scenario's calls, turn by turn, and then says that it is done."""

    model: str = MODEL
    turns: list = []
    asked: int = 0

    async def generate_content_async(self, request: Any, stream: bool = False) -> Any:
        turn = self.turns[self.asked] if self.asked < len(self.turns) else None
        self.asked += 1
        if turn is None:
            parts = [types.Part(text="done")]
        else:
            parts = [types.Part(function_call=types.FunctionCall(id=call.id, name=call.tool, args=call.arguments)) for call in turn]
        yield LlmResponse(content=types.Content(role="model", parts=parts), partial=False, turn_complete=True)


def add(a: int, b: int) -> int:
    """Adds."""
    ran.append("add")
    return a + b


async def add_later(a: int, b: int) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


def boom(text: str) -> dict:
    """Says that it failed."""
    return {"status": "error", "error": text}


def bang(text: str) -> str:
    """Fails."""
    raise ValueError(text)


async def forever() -> None:
    """Waits."""
    ran.append("forever")
    await asyncio.Event().wait()


def mail(to: str) -> str:
    """Sends."""
    ran.append("mail")
    return to


TOOLS = (add, add_later, boom, bang, forever, FunctionTool(mail, require_confirmation=True))


def agent(turns, tools=TOOLS, **how):
    return LlmAgent(name="orders", model=Played(turns=turns), tools=list(tools), **how)


async def play(agent, audit, session="conv_1", *, plugins=(), message="go", streamed=False, runner=None):
    runner = runner or InMemoryRunner(app=App(name="shop", root_agent=agent, plugins=[audit, *plugins]))
    sessions = runner.session_service
    if await sessions.get_session(app_name="shop", user_id=USER, session_id=session) is None:
        await sessions.create_session(app_name="shop", user_id=USER, session_id=session)
    content = types.Content(role="user", parts=[types.Part(text=message)]) if isinstance(message, str) else message
    config = RunConfig(streaming_mode=StreamingMode.SSE if streamed else StreamingMode.NONE)
    events = [event async for event in runner.run_async(user_id=USER, session_id=session, new_message=content, run_config=config)]
    return runner, events


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing"])
@pytest.mark.parametrize("streamed", [False, True])
def test_calls(log, name, streamed):
    asyncio.run(play(agent(SCENARIOS[name].turns), AuditPlugin(log), streamed=streamed))
    found = ended(log)
    outcomes = {id: line["outcome"] for id, line in found.items()}
    assert outcomes == {id: outcome for id, (outcome, _) in SCENARIOS[name].ends.items()}
    for line in found.values():
        assert line["begun_seq"] < line["seq"] and line["duration_ms"] >= 0 and line["user_id"] == USER
        assert (line["conversation_id"], line["agent_id"], line["model"]) == ("conv_1", "orders", MODEL)
        assert line["session_metadata"]["framework"] == "google-adk" and line["session_metadata"]["app_name"] == "shop"


def test_raising(log):
    with pytest.raises(ValueError, match="first"):
        asyncio.run(play(agent([[Asked("e1", "bang", {"text": "first"})]]), AuditPlugin(log)))
    assert ended(log)["e1"]["error"] == {"type": "ValueError", "message": "first"}


def test_raising_and_answered(log):
    class Answers(BasePlugin):
        async def on_tool_error_callback(self, *, tool, tool_args, tool_context, error):
            return {"status": "the tool is out of order"}

    asyncio.run(play(agent([[Asked("e1", "bang", {"text": "first"})]]), AuditPlugin(log), plugins=[Answers("answers")]))
    found = ended(log)["e1"]
    assert found["outcome"] == "tool_error" and found["error"]["message"] == "first"


def test_agent_as_tool(log):
    inner = LlmAgent(name="helper", model=Played(model="inner-model", turns=INNER), tools=[add])
    asyncio.run(play(agent(SCENARIOS["sub-agent"].turns, [AgentTool(inner)]), AuditPlugin(log)))
    found = check(log, "sub-agent", conversation_id="conv_1")
    assert found["i1"]["agent_id"] == "helper" and found["i1"]["model"] == "inner-model"
    assert found["i1"]["parent_agent_id"] == "orders" and found["i1"]["parent_call_id"] == "o1"
    assert "parent_call_id" not in found["o1"]


def test_transfer(log):
    refunds = LlmAgent(name="refunds", model=Played(turns=[[Asked("h2", "add", {"a": 1, "b": 2})]]), tools=[add])
    first = agent([[Asked("h1", "transfer_to_agent", {"agent_name": "refunds"})]], sub_agents=[refunds])
    asyncio.run(play(first, AuditPlugin(log)))
    found = ended(log)
    assert found["h1"]["agent_id"] == "orders" and found["h1"]["outcome"] == "ok"
    assert found["h2"]["agent_id"] == "refunds" and found["h2"]["parent_agent_id"] == "orders"
    assert found["h2"]["parent_call_id"] == "h1"


def test_cancelled(log):
    async def run():
        task = asyncio.create_task(play(agent(SCENARIOS["cancelled"].turns), AuditPlugin(log)))
        while not ran:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    check(log, "cancelled")


def test_cancelled_with_a_failing_sibling(log):
    with pytest.raises(ValueError, match="first"):
        asyncio.run(play(agent(SCENARIOS["sibling"].turns), AuditPlugin(log)))
    found = check(log, "sibling")
    assert found["s2"]["error"] == {"type": "ValueError", "message": "first"}


def test_unknown(log):
    asyncio.run(play(agent(SCENARIOS["unknown"].turns), AuditPlugin(log)))
    check(log, "unknown", conversation_id="conv_1", agent_id="orders")


@pytest.mark.parametrize("allowed", [False, True])
def test_denied(log, allowed):
    async def run():
        audit = AuditPlugin(log)
        runner, events = await play(agent(SCENARIOS["denied"].turns), audit)
        asked = next(call for event in events for call in event.get_function_calls() if call.name == "adk_request_confirmation")
        answer = types.FunctionResponse(id=asked.id, name=asked.name, response={"confirmed": allowed})
        await play(None, audit, message=types.Content(role="user", parts=[types.Part(function_response=answer)]), runner=runner)

    asyncio.run(run())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert [line["outcome"] for line in lines] == ["abandoned", "ok" if allowed else "denied"]
    assert lines[0]["error"]["type"] == "ConfirmationRequested"
    assert lines[1]["approval"] == {"decision": "allowed" if allowed else "denied"}
    assert {line["call_id"] for line in lines} == {"d1"} and ran == (["mail"] if allowed else [])


def test_fails_closed(log):
    log.close()
    with pytest.raises(RuntimeError, match="attestlog"):
        asyncio.run(play(agent(SCENARIOS["parallel"].turns), AuditPlugin(log)))
    assert not ran


def test_two_agents_and_one_log(log):
    async def run():
        audit = AuditPlugin(log)
        turns = [[Asked(f"{n}", "add_later", {"a": n, "b": 0}) for n in range(5)] for _ in range(4)]
        runs = [(audit, "conv_a"), (audit, "conv_b"), (AuditPlugin(log), "conv_c")]
        await asyncio.gather(*(play(agent(turns), audit, name) for audit, name in runs))
        assert not audit._calls.all()

    asyncio.run(run())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert sorted(line["conversation_id"] for line in lines) == sorted(["conv_a", "conv_b", "conv_c"] * 20)
    assert all(line["outcome"] == "ok" for line in lines)


def test_a_user_of_the_hosts(log):
    with attestlog.session(user_id="usr_9"):
        asyncio.run(play(agent(SCENARIOS["turns"].turns), AuditPlugin(log)))
    assert {line["user_id"] for line in ended(log).values()} == {"usr_9"}
