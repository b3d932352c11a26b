"""What the adapters for agent frameworks share, without any framework. Those with one are in adapters/."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

import attestlog
from attestlog.adapters._calls import INSIDE, NAME, Calls, around, begin_async, error, failed, parsed


def calls_of(log, **members):
    return Calls(log, "framework", "usr_1", "conv_1", members)


def lines(log):
    found = [json.loads(bytes(entry.line)) for entry in log.query()]
    return [line for line in found if line["kind"] in ("tool_call", "call_begun")]


class Slow:
    """A log that begins calls when it is told to."""

    def __init__(self, log):
        self._log, self.asked, self.go = log, threading.Event(), threading.Event()

    def begin(self, *args, **how):
        self.asked.set()
        assert self.go.wait(30)
        return self._log.begin(*args, **how)

    def record(self, *args, **how):
        return self._log.record(*args, **how)


def test_no_framework_is_imported():
    seen = "import attestlog, sys; print([name for name in sys.modules if name.startswith('attestlog.adapters')])"
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_around(log):
    calls = calls_of(log, agent_id="agent", model="model", session_metadata={"host": "h"})

    async def run():
        async def answer():
            assert INSIDE.get().call["tool_name"] == "t"
            assert [line["kind"] for line in lines(log)] == ["call_begun"]  # on the disk before the tool runs
            return {"sum": 3}

        assert await around(calls, calls.describe("t", arguments={"a": 1}, call_id="c"), answer) == {"sum": 3}
        assert INSIDE.get() is None

        async def fail():
            raise LookupError("no such order")

        with pytest.raises(LookupError):
            await around(calls, calls.describe("t"), fail)

    asyncio.run(run())
    _, ok, _, wrong = lines(log)
    assert (ok["outcome"], ok["agent_id"], ok["model"], ok["call_id"]) == ("ok", "agent", "model", "c")
    assert ok["session_metadata"] == {"framework": "framework", "host": "h"} and ok["arguments"] == {"a": 1}
    assert wrong["outcome"] == "tool_error" and wrong["error"] == {"type": "LookupError", "message": "no such order"}
    assert not calls.all()


def test_cancelled_while_it_begins(log):
    # A sibling failed while the beginning was being written. The entry was in the log and nobody ended it: the await had been
    # given up, so nobody knew that there was one.
    slow = Slow(log)
    calls = calls_of(slow)

    async def run():
        async def never():
            raise AssertionError("the tool ran")

        task = asyncio.create_task(around(calls, calls.describe("t"), never))
        await asyncio.to_thread(slow.asked.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [line.get("outcome") for line in lines(log)] == [None, "abandoned"] and not calls.all()


def test_cancelled_while_the_tool_runs(log):
    calls = calls_of(log)

    async def run():
        started = asyncio.Event()

        async def forever():
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(around(calls, calls.describe("t"), forever))
        await started.wait()
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [line.get("outcome") for line in lines(log)] == [None, "abandoned"]


@pytest.mark.parametrize("deep", [{"a": 1}, None])
def test_arguments_that_cannot_be_recorded(log, deep):
    for _ in range(200):
        deep = [deep]
    calls = calls_of(log)
    with pytest.raises(ValueError, match="nested"):
        calls.begin("k", calls.describe("t", arguments=deep, call_id="c"))
    (line,) = lines(log)
    assert (line["outcome"], line["error"]["type"], line["call_id"]) == ("denied", "NotRecordable", "c")
    assert "arguments" not in line and not calls.all()


def test_a_result_that_cannot_be_recorded(log):
    deep = []
    for _ in range(200):
        deep = [deep]
    calls = calls_of(log)
    calls.begin("k", calls.describe("t"))
    assert calls.end("k", result=deep)
    assert lines(log)[-1]["outcome"] == "ok" and "begun_seq" in lines(log)[-1]
    # With an error beside it, it is that of the call.
    calls.begin("k", calls.describe("t"))
    assert calls.end("k", result=deep, error=error("E", "m"), outcome="tool_error")
    assert lines(log)[-1]["error"] == {"type": "E", "message": "m"}


def test_an_end_is_recorded_once(log):
    calls = calls_of(log)
    opened = calls.begin("k", calls.describe("t"))
    assert opened.end(result=1) and not opened.end(result=2) and not opened.abandon("late")
    calls.forget(opened)
    assert not calls.end("k", result=3)
    assert len(lines(log)) == 2


def test_an_id_that_is_used_again(log):
    calls = calls_of(log)
    calls.begin("k", calls.describe("first"))
    calls.begin("k", calls.describe("second"))
    assert calls.end("k", result=1)
    assert [(line["tool_name"], line.get("outcome")) for line in lines(log)] == [
        ("first", None), ("first", "abandoned"), ("second", None), ("second", "ok"),
    ]  # fmt: skip


def test_what_is_kept_is_bounded(log, monkeypatch):
    monkeypatch.setattr(Calls, "LIMIT", 3)
    calls = calls_of(log)
    for at in range(5):
        calls.begin(at, calls.describe(f"t{at}"))
        calls.ask(at, calls.describe(f"a{at}"))
    assert len(calls.all()) == 3 and len(calls._asked) == 3
    calls.close()
    ends = {line["tool_name"]: line["error"]["type"] for line in lines(log) if "outcome" in line}
    assert ends == {**{f"t{at}": "Abandoned" for at in range(5)}, **{f"a{at}": "NotRun" for at in range(5)}}


def test_who_and_where(log):
    calls = Calls(log, "framework", lambda context: context, None, {})
    assert calls.describe("t", "usr_f", user_id="usr_x")["user_id"] == "usr_f"
    assert calls.describe("t", None, user_id="usr_x")["user_id"] == "usr_x"
    assert calls.describe("t", "u", conversation_id="conv_x")["conversation_id"] == "conv_x"
    assert calls.describe("t", "u")["conversation_id"] == calls.describe("t", "u")["conversation_id"]
    with attestlog.session(user_id="usr_s", conversation_id="conv_s", purpose="treatment"):
        call = calls.describe("t", "usr_f", conversation_id="conv_x")
    assert (call["user_id"], call["conversation_id"], call["purpose"]) == ("usr_s", "conv_s", "treatment")
    with pytest.raises(attestlog.InputError, match="nobody says who"):
        calls.describe("t")


@pytest.mark.parametrize("name", ["", "a\0b", "half \ud800", "x" * 100_000, 7, None])
def test_names_that_a_model_makes_up(log, name):
    calls = calls_of(log)
    calls.begin("k", calls.describe(name, call_id=name, arguments={"text": "half \ud800"}))
    assert calls.end("k", result="half \ud800")
    begun, line = lines(log)
    assert line["outcome"] == "ok" and 0 < len(line["tool_name"]) <= NAME + 20
    assert begun["restated"] == ["arguments.text"]


def test_names_stay_apart(log):
    calls = calls_of(log)
    names = ["a\0", "a\ud800", "a\ud801", "x" * 5_000 + "1", "x" * 5_000 + "2"]
    assert len({calls.describe(name)["tool_name"] for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        (None, {}),
        ('{"a": ', '{"a": '),
        ({"a": 1}, {"a": 1}),
        ("[" * 100_000, "[" * 100_000),
        (b"[1]", [1]),
    ],
)
def test_arguments_as_a_model_writes_them(text, value):
    assert parsed(text) == value


def test_numbers_that_no_json_has(log):
    calls = calls_of(log)
    calls.begin("k", calls.describe("t", arguments=parsed('{"big": 123456789012345678901234567890, "none": NaN, "more": 1e999}')))
    calls.end("k", result=float("inf"))
    assert set(lines(log)[0]["restated"]) == {"arguments.big", "arguments.more", "arguments.none"}


def test_how_exceptions_end_a_call():
    assert failed(TimeoutError("late"))["outcome"] == "timeout"
    assert failed(asyncio.CancelledError())["outcome"] == "abandoned"
    assert failed(ValueError("x" * 10_000))["error"]["message"] == "x" * 4_000


def test_many_threads_and_one_adapter(log):
    calls = calls_of(log)

    def work(name):
        for at in range(20):
            calls.begin((name, at), calls.describe("t", call_id=f"{name}.{at}"))
            calls.end((name, at), result=at)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = [line for line in lines(log) if "outcome" in line]
    assert len({line["call_id"] for line in ended}) == len(ended) == 160 and not calls.all()


def test_another_event_loop(log):
    # Without asyncio there is nobody to wait on a thread: the record is written at once.
    calls = calls_of(log)
    starting = begin_async(calls, "k", calls.describe("t"))
    with pytest.raises(StopIteration):
        starting.send(None)
    assert [line["kind"] for line in lines(log)] == ["call_begun"]
    calls.close()
