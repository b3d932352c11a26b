"""The adapter for FastMCP, with a real server and a real client in this process."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

pytest.importorskip("fastmcp", reason="fastmcp is not installed: pip install fastmcp")

from fastmcp import Client, FastMCP  # noqa: E402
from fastmcp.exceptions import AuthorizationError, ToolError  # noqa: E402
from fastmcp.server.auth import AccessToken  # noqa: E402
from fastmcp.server.middleware import Middleware  # noqa: E402
from mcp.shared.exceptions import MCPError  # noqa: E402
from scenarios import SCENARIOS, USER, Asked, ended, entries  # noqa: E402

import attestlog  # noqa: E402
from attestlog.adapters.fastmcp import AuditMiddleware  # noqa: E402

ran = []


class Permissions(Middleware):
    """Refuses `mail`, as another middleware may."""

    async def on_call_tool(self, context, call_next):
        if context.message.name == "mail":
            raise AuthorizationError("not today")
        return await call_next(context)


def server(log, **how):
    mcp = FastMCP("orders")
    mcp.add_middleware(AuditMiddleware(log, **{"user_id": USER, **how}))
    mcp.add_middleware(Permissions())

    @mcp.tool
    def add(a: int, b: int) -> int:
        ran.append("add")
        return a + b

    @mcp.tool
    async def add_later(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    @mcp.tool
    def boom(text: str) -> str:
        raise ValueError(text)

    @mcp.tool
    async def forever() -> None:
        ran.append("forever")
        await asyncio.Event().wait()

    @mcp.tool
    def mail(to: str) -> str:
        ran.append("mail")
        return to

    @mcp.tool(timeout=0.05)
    async def slow() -> None:
        await asyncio.Event().wait()

    return mcp


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


def play(mcp, turns):
    """Makes the scenario's calls, those of a turn at once."""

    async def run():
        async with Client(mcp) as client:
            for turn in turns:
                calls = (client.call_tool(call.tool, call.arguments, raise_on_error=False) for call in turn)
                await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(run())


def by_order(log, name):
    """A client gives its calls numbers of its own: the scenario's ids, in the order in which the calls of each tool came."""
    wanted = [call for turn in SCENARIOS[name].turns for call in turn]
    lines = sorted(ended(log).values(), key=lambda line: line.get("begun_seq", line["seq"]))
    for line in lines:
        call = next(call for call in wanted if (call.tool, call.arguments) == (line["tool_name"], line["arguments"]))
        wanted.remove(call)
        line["call_id"] = call.id
    return {line["call_id"]: line for line in lines}


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing", "unknown", "denied"])
def test_calls(log, name):
    play(server(log), SCENARIOS[name].turns)
    scenario, found = SCENARIOS[name], by_order(log, name)
    assert {id: line["outcome"] for id, line in found.items()} == {id: outcome for id, (outcome, _) in scenario.ends.items()}
    for line in found.values():
        assert line["tool_server"] == "orders" and line["user_id"] == USER and line["begun_seq"] < line["seq"]
        assert line["session_metadata"]["framework"] == "fastmcp" and line["session_metadata"]["client"]["name"]
    assert len({line["conversation_id"] for line in found.values()}) == 1
    if name == "failing":
        assert "no such order" in found["f1"]["error"]["message"]
    if name == "unknown":
        assert found["u1"]["error"]["type"] in ("NotFoundError", "ToolError")
    if name == "denied":
        assert not ran and found["d1"]["error"] == {"type": "AuthorizationError", "message": "not today"}


def test_arguments_that_do_not_fit(log):
    play(server(log), [[Asked("j1", "add", {"a": "many", "b": 2})]])
    (line,) = ended(log).values()
    assert line["outcome"] == "protocol_error" and line["error"]["type"] == "ValidationError" and not ran


def test_timed_out(log):
    play(server(log), [[Asked("y1", "slow", {})]])
    (line,) = ended(log).values()
    assert line["outcome"] == "timeout"


def test_cancelled(log):
    async def run():
        mcp = server(log)
        async with Client(mcp) as client:
            task = asyncio.create_task(client.call_tool("forever", {}))
            while not ran:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())
    (line,) = ended(log).values()
    assert line["outcome"] == "abandoned" and line["tool_name"] == "forever"


def test_two_servers_and_one_log(log):
    async def run(name):
        async with Client(server(log, conversation_id=name)) as client:
            await asyncio.gather(*(client.call_tool("add_later", {"a": n, "b": 0}) for n in range(20)))

    async def both():
        await asyncio.gather(run("conv_a"), run("conv_b"))

    asyncio.run(both())
    lines = [line for line in entries(log) if line["kind"] == "tool_call"]
    assert sorted(line["conversation_id"] for line in lines) == ["conv_a"] * 20 + ["conv_b"] * 20
    assert all(line["outcome"] == "ok" for line in lines)


def test_mounted(log):
    outer = FastMCP("outer")
    outer.mount(server(log), namespace="shop")

    async def run():
        async with Client(outer) as client:
            await client.call_tool("shop_add", {"a": 1, "b": 2})

    asyncio.run(run())
    (line,) = ended(log).values()
    assert line["tool_name"] == "add" and line["outcome"] == "ok"


def test_user_by_token(log):
    # A server that authenticates tells who calls.
    token = AccessToken(token="t", client_id="client", scopes=[], claims={"sub": "usr_7"})
    with mock.patch("fastmcp.server.dependencies.get_access_token", return_value=token):
        play(server(log, user_id=None), [[Asked("x", "add", {"a": 1, "b": 2})]])
    (line,) = ended(log).values()
    assert line["user_id"] == "usr_7"


def test_fails_closed(log):
    log.close()

    async def run():
        async with Client(server(log)) as client:
            with pytest.raises((ToolError, MCPError)):
                await client.call_tool("add", {"a": 1, "b": 2})

    asyncio.run(run())
    assert not ran


def test_nobody_says_who(log):
    async def run():
        async with Client(server(log, user_id=None)) as client:
            with pytest.raises((ToolError, MCPError)):
                await client.call_tool("add", {"a": 1, "b": 2})

    asyncio.run(run())
    assert not ran and not ended(log)
    with attestlog.session(user_id="usr_8"):
        play(server(log, user_id=None), SCENARIOS["turns"].turns)
    assert {line["user_id"] for line in ended(log).values()} == {"usr_8"}
