"""The adapter for the OpenAI Agents SDK, with the real SDK and a model that plays a scenario."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("agents", reason="openai-agents is not installed: pip install openai-agents")

from agents import (  # noqa: E402
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    ToolGuardrailFunctionOutput,
    Usage,
    function_tool,
    set_trace_processors,
    tool_input_guardrail,
)
from agents.exceptions import AgentsException, ModelBehaviorError, UserError  # noqa: E402
from openai.types.responses import (  # noqa: E402
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseFunctionWebSearch,
    ResponseOutputMessage,
    ResponseOutputText,
)
from scenarios import INNER, MODEL, SCENARIOS, USER, Asked, check, ended, entries  # noqa: E402

import attestlog  # noqa: E402
from attestlog.adapters.openai_agents import AuditHooks  # noqa: E402

set_trace_processors([])  # nothing is sent anywhere


class Played(Model):
    """Asks for the scenario's calls, turn by turn, and then says that it is done."""

    def __init__(self, turns, name=MODEL):
        self.model, self._turns = name, iter(turns)

    def _output(self):
        turn = next(self._turns, None)
        if turn is None:
            text = ResponseOutputText(annotations=[], text="done", type="output_text")
            return [ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")]
        return [
            asked if not isinstance(asked, Asked)
            else ResponseFunctionToolCall(arguments=json.dumps(asked.arguments), call_id=asked.id, name=asked.tool, type="function_call")
            for asked in turn
        ]  # fmt: skip

    async def get_response(self, *_, **__):
        return ModelResponse(output=self._output(), usage=Usage(), response_id=None)

    async def stream_response(self, *_, **__):
        response = Response(
            id="r", created_at=0, model=self.model, object="response", output=self._output(), tool_choice="auto", tools=[],
            parallel_tool_calls=True,
        )  # fmt: skip
        yield ResponseCompletedEvent(response=response, sequence_number=0, type="response.completed")


ran = []


@function_tool
def add(a: int, b: int) -> int:
    ran.append("add")
    return a + b


@function_tool
async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@function_tool(failure_error_function=lambda _, e: f"An error occurred while running the tool: {e}")
def boom(text: str) -> str:
    raise ValueError(text)


@function_tool(failure_error_function=None)
def bang(text: str) -> str:
    raise ValueError(text)


@function_tool
async def forever() -> None:
    ran.append("forever")
    await asyncio.Event().wait()


@function_tool(needs_approval=True)
def mail(to: str) -> str:
    ran.append("mail")
    return to


@function_tool(timeout=0.01)
async def slow() -> None:
    await asyncio.Event().wait()


def agent(turns, tools=(add, add_later, boom, forever, mail), **how):
    return Agent(name="orders", model=Played(turns), tools=list(tools), **how)


CONFIG = RunConfig(group_id="conv_1", workflow_name="test", trace_include_sensitive_data=True)


def hooks(log, **how):
    return AuditHooks(log, user_id=USER, **how)


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing"])
@pytest.mark.parametrize("streamed", [False, True])
def test_calls(log, name, streamed):
    async def run():
        with hooks(log) as audit:
            if streamed:
                result = Runner.run_streamed(agent(SCENARIOS[name].turns), "go", hooks=audit, run_config=CONFIG)
                async for _ in result.stream_events():
                    pass
            else:
                result = await Runner.run(agent(SCENARIOS[name].turns), "go", hooks=audit, run_config=CONFIG)
            assert result.final_output == "done"

    asyncio.run(run())
    for line in check(log, name, conversation_id="conv_1", agent_id="orders", model=MODEL).values():
        assert line["trace_id"].startswith("trace_") and line["span_id"].startswith("span_")
        assert line["begun_seq"] < line["seq"] and line["duration_ms"] >= 0
        assert line["session_metadata"]["framework"] == "openai-agents"


def test_failing_without_a_trace(log):
    # Without tracing the SDK has no span that tells of the error.
    config = RunConfig(tracing_disabled=True)
    with hooks(log, conversation_id="conv_1") as audit:
        Runner.run_sync(agent(SCENARIOS["failing"].turns), "go", hooks=audit, run_config=config)
    check(log, "failing", conversation_id="conv_1", trace_id=None)


def test_sub_agent(log):
    audit = hooks(log)
    inner = Agent(name="adder", model=Played(INNER, "inner-model"), tools=[add])
    helper = inner.as_tool("helper", "adds", hooks=audit, parameters=None)
    scenario = [[Asked("o1", "helper", {"input": "add"})]]
    with audit:
        Runner.run_sync(agent(scenario, [helper]), "go", hooks=audit, run_config=CONFIG)
    found = ended(log)
    assert set(found) == {"o1", "i1"}
    assert found["o1"]["outcome"] == found["i1"]["outcome"] == "ok"
    assert found["i1"]["agent_id"] == "adder" and found["i1"]["model"] == "inner-model"
    assert found["i1"]["parent_agent_id"] == "orders" and found["i1"]["parent_call_id"] == "o1"
    assert found["i1"]["conversation_id"] == found["o1"]["conversation_id"] == "conv_1"
    assert "parent_agent_id" not in found["o1"]


def test_hand_off(log):
    refunds = Agent(name="Refunds", model=Played([[Asked("h2", "add", {"a": 1, "b": 2})]]), tools=[add])
    first = Agent(name="orders", model=Played([[Asked("h1", "transfer_to_refunds", {})]]), handoffs=[refunds])
    with hooks(log) as audit:
        result = Runner.run_sync(first, "go", hooks=audit, run_config=CONFIG)
        assert result.last_agent is refunds
        found = ended(log)  # before the hooks are closed
    assert found["h1"]["tool_name"] == "transfer_to_refunds" and found["h1"]["outcome"] == "ok"
    assert found["h2"]["agent_id"] == "Refunds" and found["h2"]["outcome"] == "ok"
    assert found["h2"]["parent_agent_id"] == "orders" and found["h2"]["parent_call_id"] == "h1"
    assert len(ended(log)) == 2


def cancel(log, config):
    async def run():
        with hooks(log, conversation_id="conv_1") as audit:
            task = asyncio.create_task(Runner.run(agent(SCENARIOS["cancelled"].turns), "go", hooks=audit, run_config=config))
            while not ran:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            if not config.tracing_disabled:
                check(log, "cancelled")  # before the hooks are closed

    asyncio.run(run())
    check(log, "cancelled")


@pytest.mark.parametrize("traced", [True, False])
def test_cancelled(log, traced):
    cancel(log, CONFIG if traced else RunConfig(tracing_disabled=True))


def test_cancelled_with_a_failing_sibling(log):
    with hooks(log) as audit:
        with pytest.raises(UserError, match="first"):
            Runner.run_sync(agent(SCENARIOS["sibling"].turns, [forever, bang]), "go", hooks=audit, run_config=CONFIG)
        found = check(log, "sibling")  # before the hooks are closed
    assert found["s2"]["error"]["type"] == "ToolError"


def test_unknown(log):
    with hooks(log) as audit:
        with pytest.raises(ModelBehaviorError):
            Runner.run_sync(agent(SCENARIOS["unknown"].turns), "go", hooks=audit, run_config=CONFIG)
        check(log, "unknown", conversation_id="conv_1", agent_id="orders")


def test_denied(log):
    async def run():
        with hooks(log) as audit:
            orders = agent(SCENARIOS["denied"].turns)
            result = await Runner.run(orders, "go", hooks=audit, run_config=CONFIG)
            state = result.to_state()
            state.reject(result.interruptions[0])
            result = await Runner.run(orders, state, hooks=audit, run_config=CONFIG)
            assert result.final_output == "done" and not ran
            check(log, "denied", conversation_id="conv_1")  # before the hooks are closed

    asyncio.run(run())
    check(log, "denied")


def test_approved(log):
    async def run():
        with hooks(log) as audit:
            orders = agent(SCENARIOS["denied"].turns)
            result = await Runner.run(orders, "go", hooks=audit, run_config=CONFIG)
            state = result.to_state()
            state.approve(result.interruptions[0])
            await Runner.run(orders, state, hooks=audit, run_config=CONFIG)

    asyncio.run(run())
    found = ended(log)
    assert list(found) == ["d1"] and found["d1"]["outcome"] == "ok" and ran == ["mail"]


def test_refused_by_a_guardrail(log):
    @tool_input_guardrail
    def no(data):
        return ToolGuardrailFunctionOutput.reject_content("not today")

    @function_tool(tool_input_guardrails=[no])
    def guarded() -> str:
        ran.append("guarded")
        return ""

    with hooks(log) as audit:
        Runner.run_sync(agent([[Asked("g1", "guarded", {})]], [guarded]), "go", hooks=audit, run_config=CONFIG)
    found = ended(log)
    assert found["g1"]["outcome"] == "denied" and found["g1"]["error"]["message"] == "not today" and not ran


def test_timed_out(log):
    with hooks(log) as audit:
        Runner.run_sync(agent([[Asked("y1", "slow", {})]], [slow]), "go", hooks=audit, run_config=CONFIG)
    assert ended(log)["y1"]["outcome"] == "timeout"


def test_arguments_that_are_no_json(log):
    broken = ResponseFunctionToolCall(arguments='{"a": 1, ', call_id="j1", name="add", type="function_call")
    with hooks(log) as audit:
        Runner.run_sync(agent([[broken]]), "go", hooks=audit, run_config=CONFIG)
    found = ended(log)["j1"]
    assert found["outcome"] == "tool_error" and found["arguments"] == '{"a": 1, ' and not ran


def test_provider_tools(log):
    search = ResponseFunctionWebSearch(
        id="ws_1", action={"type": "search", "query": "orders"}, status="completed", type="web_search_call"
    )
    with hooks(log) as audit:
        Runner.run_sync(agent([[search, Asked("w1", "add", {"a": 1, "b": 2})]]), "go", hooks=audit, run_config=CONFIG)
    found = ended(log)
    assert (
        found["ws_1"]["tool_name"] == "web_search"
        and found["ws_1"]["outcome"] == "ok"
        and found["ws_1"]["tool_server"] == "provider"
    )
    assert found["ws_1"]["arguments"]["action"]["query"] == "orders"
    assert found["w1"]["outcome"] == "ok"


def test_fails_closed(log):
    log.close()
    with hooks(log) as audit, pytest.raises((attestlog.ClosedError, AgentsException)):
        Runner.run_sync(agent([[Asked("x1", "add", {"a": 1, "b": 2})]]), "go", hooks=audit, run_config=CONFIG)
    assert not ran


def test_nobody_says_who(log):
    with AuditHooks(log) as audit, pytest.raises((attestlog.InputError, AgentsException)):
        Runner.run_sync(agent([[Asked("x1", "add", {"a": 1, "b": 2})]]), "go", hooks=audit, run_config=CONFIG)
    assert not ran
    with AuditHooks(log) as audit, attestlog.session(user_id="usr_9", conversation_id="conv_9"):
        Runner.run_sync(agent([[Asked("x2", "add", {"a": 1, "b": 2})]]), "go", hooks=audit, run_config=CONFIG)
    line = ended(log)["x2"]
    assert (line["user_id"], line["conversation_id"]) == ("usr_9", "conv_9")


def test_two_agents_and_one_log(log):
    async def run():
        # Call ids that are the same in both, one pair of hooks for two runs, and one of their own.
        with hooks(log) as shared, hooks(log) as own:
            turns = [[Asked(f"{turn}.{n}", "add_later", {"a": n, "b": 0}) for n in range(5)] for turn in range(4)]
            runs = [(shared, "conv_a"), (shared, "conv_b"), (own, "conv_c")]
            await asyncio.gather(
                *(Runner.run(agent(turns), "go", hooks=audit, run_config=RunConfig(group_id=group)) for audit, group in runs)
            )

    asyncio.run(run())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert sorted(line["conversation_id"] for line in lines) == sorted(["conv_a", "conv_b", "conv_c"] * 20)
    assert all(line["outcome"] == "ok" for line in lines)
    assert len([line for line in entries(log) if line["kind"] == "call_begun"]) == len(lines)
