"""The adapter for the Claude Agent SDK: the real SDK, the real Claude Code in it, and a model on loopback that plays a scenario."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time

import pytest

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed: pip install claude-agent-sdk")

from claude_agent_sdk import (  # noqa: E402
    ClaudeAgentOptions,
    ClaudeSDKClient,
    PermissionResultDeny,
    ResultMessage,
    create_sdk_mcp_server,
    tool,
)
from scenarios import INNER, MODEL, SCENARIOS, USER, Asked, ended, entries  # noqa: E402

from attestlog.adapters.claude_agent_sdk import AuditHooks  # noqa: E402

SERVER = "shop"
# How long a session may take, in seconds.
SESSION = 120
ran = []


class Played(http.server.BaseHTTPRequestHandler):
    """The Messages API: asks for the server's turns, one after another, and then says that it is done."""

    protocol_version = "HTTP/1.1"
    timeout = SESSION

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(404, "application/json", b'{"type":"error","error":{"type":"not_found_error","message":"no"}}')

    do_HEAD = do_GET

    def answer(self, code, kind, body):
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if "count_tokens" in self.path:
            return self.answer(200, "application/json", b'{"input_tokens":1}')
        messages = request.get("messages", [])
        turns = self.server.inner if "SUBAGENT-TASK" in json.dumps(messages[:1]) else self.server.turns
        at = sum(message["role"] == "assistant" for message in messages)
        if request.get("tools") and at < len(turns):
            blocks = [{"type": "tool_use", "id": call.id, "name": named(call.tool), "input": call.arguments} for call in turns[at]]
        else:
            blocks = [{"type": "text", "text": "done"}]
        message = {"id": f"msg_{time.monotonic_ns()}", "type": "message", "role": "assistant", "model": request.get("model"), "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
        stop = "tool_use" if blocks[0]["type"] == "tool_use" else "end_turn"
        if not request.get("stream"):
            whole = {**message, "content": blocks, "stop_reason": stop}
            return self.answer(200, "application/json", json.dumps(whole).encode())
        events = [{"type": "message_start", "message": message}]
        for index, block in enumerate(blocks):
            if block["type"] == "text":
                start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events += [
                {"type": "content_block_start", "index": index, "content_block": start},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            ]
        events.append(
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 1}}
        )
        events.append({"type": "message_stop"})
        self.answer(200, "text/event-stream", "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode())


def named(name):
    """The name by which Claude Code knows a tool of the scenarios."""
    return name if name[0].isupper() or name == "nope" else f"mcp__{SERVER}__{name}"


@tool("add", "Adds.", {"a": int, "b": int})
async def add(args):
    ran.append("add")
    return {"content": [{"type": "text", "text": str(args["a"] + args["b"])}]}


@tool("add_later", "Adds.", {"a": int, "b": int})
async def add_later(args):
    await asyncio.sleep(0)
    return {"content": [{"type": "text", "text": str(args["a"] + args["b"])}]}


@tool("boom", "Fails.", {"text": str})
async def boom(args):
    raise ValueError(args["text"])


@tool("forever", "Waits.", {})
async def forever(args):
    ran.append("forever")
    await asyncio.Event().wait()


@tool("mail", "Sends.", {"to": str})
async def mail(args):
    ran.append("mail")
    return {"content": [{"type": "text", "text": "sent"}]}


@pytest.fixture
def played(tmp_path):
    """Runs a session with these turns; returns when it is over."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Played)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ran.clear()
    for folder in ("home", "work"):
        (tmp_path / folder).mkdir()

    async def session(audit, turns, act=None, **how):
        server.turns, server.inner = turns, INNER
        env = {
            "HOME": str(tmp_path / "home"), "CLAUDE_CONFIG_DIR": str(tmp_path / "home" / ".claude"), "ANTHROPIC_API_KEY": "sk-ant-none",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "ENABLE_TOOL_SEARCH": "false",
        }  # fmt: skip
        tools = create_sdk_mcp_server(SERVER, tools=[add, add_later, boom, forever, mail])
        allowed = [named(name) for name in ("add", "add_later", "boom", "forever")] + ["Agent", "Read", "Bash(echo:*)"]
        options = ClaudeAgentOptions(
            hooks=audit.hooks(), model=MODEL, cwd=tmp_path / "work", env=env, mcp_servers={SERVER: tools}, setting_sources=[],
            **{"allowed_tools": allowed, **how},
        )  # fmt: skip
        async with ClaudeSDKClient(options) as client:
            await client.query("go")
            if act is not None:
                await act(client)
            async for message in client.receive_messages():
                if isinstance(message, ResultMessage):
                    break
        audit.close()

    yield lambda *args, **how: asyncio.run(asyncio.wait_for(session(*args, **how), SESSION))
    server.shutdown()
    server.server_close()


def outcomes(found):
    return {id: line["outcome"] for id, line in found.items()}


def wanted(name):
    return {id: outcome for id, (outcome, _) in SCENARIOS[name].ends.items()}


@pytest.mark.parametrize("name", ["parallel", "turns", "async", "failing", "unknown"])
def test_calls(log, played, name):
    played(AuditHooks(log, user_id=USER, model=MODEL), SCENARIOS[name].turns)
    found = ended(log)
    assert outcomes(found) == wanted(name)
    assert len({line["conversation_id"] for line in found.values()}) == 1
    for call in (call for turn in SCENARIOS[name].turns for call in turn):
        line = found[call.id]
        assert line["tool_name"] == named(call.tool) and line["arguments"] == call.arguments
        assert (line["user_id"], line["model"]) == (USER, MODEL)
        assert line["session_metadata"]["framework"] == "claude-agent-sdk" and line["session_metadata"]["cwd"].endswith("work")
        if name != "unknown":
            assert line["tool_server"] == SERVER and line["begun_seq"] < line["seq"]
    if name == "failing":
        assert "no such order" in found["f1"]["error"]["message"]


def test_denied(log, played):
    async def no(name, arguments, context):
        return PermissionResultDeny(message="not today")

    played(AuditHooks(log, user_id=USER), SCENARIOS["denied"].turns, can_use_tool=no)
    found = ended(log)
    assert outcomes(found) == wanted("denied") and not ran
    assert "not today" in found["d1"]["error"]["message"] and found["d1"]["approval"]["decision"] == "denied"


def test_denied_by_a_rule(log, played):
    played(
        AuditHooks(log, user_id=USER), [[Asked("d2", "add", {"a": 1, "b": 2})]], disallowed_tools=[named("add")], allowed_tools=[]
    )
    assert ended(log)["d2"]["outcome"] in ("denied", "protocol_error") and not ran


def test_interrupted(log, played):
    async def act(client):
        while not ran:
            await asyncio.sleep(0.05)
        await client.interrupt()

    played(AuditHooks(log, user_id=USER), SCENARIOS["cancelled"].turns, act)
    assert outcomes(ended(log)) == wanted("cancelled")


def test_sub_agent(log, played):
    start = {"description": "adds", "prompt": "SUBAGENT-TASK: add", "subagent_type": "general-purpose"}
    done = [[Asked("o1", "Agent", start)]]
    played(AuditHooks(log, user_id=USER, agent_id="main", model=MODEL), done)
    found = ended(log)
    assert found["o1"]["outcome"] == "ok" and found["o1"]["agent_id"] == "main"
    inner = found["i1"]
    assert inner["agent_id"] not in (None, "main") and inner["parent_agent_id"] == "main"
    assert inner["session_metadata"]["agent_type"] == "general-purpose"
    assert inner.get("parent_call_id") in (None, "o1")


def test_fails_closed(log, played):
    log.close()
    played(AuditHooks(log, user_id=USER), SCENARIOS["parallel"].turns)
    assert not ran


def test_nobody_says_who(log, played):
    played(AuditHooks(log), SCENARIOS["parallel"].turns)
    assert not ran and not [line for line in entries(log) if line["kind"] == "tool_call" and line["outcome"] != "denied"]


def test_other_hooks_are_kept(log):
    mine = object()
    hooks = AuditHooks(log, user_id=USER).hooks({"PreToolUse": [mine], "UserPromptSubmit": [mine]})
    assert hooks["PreToolUse"][-1] is mine and len(hooks["PreToolUse"]) == 2 and hooks["UserPromptSubmit"] == [mine]
