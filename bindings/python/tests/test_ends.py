"""A call that failed is never recorded as one that did not."""

import asyncio
import functools

import pytest
from samples import NAMES

import attestlog


@pytest.fixture
def tools(log):
    with attestlog.session(conversation_id="c", user_id="u"):
        yield log


def ends(log):
    return [entry for entry in log.query(kind="tool_call")]


def test_a_failure_too_large_for_an_entry_is_still_a_failure(tools):
    """The end was recorded again without the error and the outcome, and the log said that all was well."""

    @tools.tool
    def refused(text):
        raise PermissionError("denied " * (1 << 20))

    with pytest.raises(PermissionError):
        refused("x")
    (end,) = ends(tools)
    assert (end.outcome, end.error["type"], end.error["message"][:6]) == ("tool_error", "PermissionError", "denied")
    assert tools.count(failed=True) >= 1


@pytest.mark.parametrize("error", ["", None, {}, TimeoutError()])
def test_a_failure_of_which_nothing_is_said_is_a_failure(log, error):
    """``fail(str(error))`` of an exception without a text was recorded as ok."""
    log.begin(NAMES).fail(error)
    (end,) = ends(log)
    assert end.outcome in ("tool_error", "timeout")


def test_an_empty_error_of_a_whole_call_is_a_failure(log):
    log.record(NAMES, error="")
    assert [end.outcome for end in ends(log)] == ["tool_error"]


def through(function):
    """A decorator that is no coroutine function itself."""
    return functools.wraps(function)(lambda *args: function(*args))


def test_what_is_awaited_later_ends_later(tools):
    """Whatever only returned something to await was recorded as ok before it ran, its failure never."""

    async def fails(text):
        raise ValueError(text)

    async def works(text):
        return text

    async def run():
        with pytest.raises(ValueError):
            await tools.tool(through(fails))("no")
        assert await tools.tool(through(works))("yes") == "yes"
        future = tools.tool(lambda text: asyncio.ensure_future(fails(text)), name="future")("no")
        with pytest.raises(ValueError):
            await future
        await asyncio.sleep(0)

    asyncio.run(run())
    assert [end.outcome for end in ends(tools)] == ["tool_error", "ok", "tool_error"]


def test_what_is_iterated_over_later_ends_later(tools):
    def broken():
        yield 1
        raise ValueError("no")

    async def breaks():
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError):
        list(tools.tool(through(broken))())

    async def run():
        with pytest.raises(ValueError):
            async for _ in tools.tool(through(breaks))():
                pass

    asyncio.run(run())
    assert [end.outcome for end in ends(tools)] == ["tool_error", "tool_error"]


def test_only_methods_leave_out_their_object(tools):
    """Arguments named ``self`` or ``cls`` of plain functions were lost."""

    @tools.tool
    def classify(cls, text):
        return text

    class Shop:
        @tools.tool
        def refund(self, order):
            return order

    classify("patient", "x")
    Shop().refund("o-1")
    assert [end.arguments for end in ends(tools)] == [{"cls": "patient", "text": "x"}, {"order": "o-1"}]


def test_an_asynchronous_generator_is_as_it_was(tools):
    """What was sent in was lost, what was thrown in closed it, and a failing cleanup left the call without an end."""

    @tools.tool
    async def echo():
        try:
            got = yield "first"
            try:
                got = yield got
            except KeyError:
                yield "caught"
        finally:
            raise ConnectionError("at the end")

    async def run():
        items = echo()
        assert await items.asend(None) == "first"
        assert await items.asend("sent") == "sent"
        assert await items.athrow(KeyError("k")) == "caught"
        with pytest.raises(ConnectionError):
            await items.aclose()

    asyncio.run(run())
    (end,) = ends(tools)
    assert (end.outcome, end.error["message"]) == ("tool_error", "at the end")
