"""Decorated functions and async code: every call is recorded, however it ends, and once."""

import asyncio
import inspect

import pytest
from samples import NAMES

import attestlog

SESSION = {"conversation_id": "conv_1", "user_id": "usr_7"}


def calls(log, **filters):
    """The calls of the log that have ended, oldest first."""
    return list(log.query(kind="tool_call", **filters))


def test_a_function_is_recorded_with_its_arguments_by_name(log):
    @log.tool
    def lookup(order_id, *rest, verbose=False, **more):
        """Looks an order up."""
        return {"order_id": order_id}

    with attestlog.session(**SESSION, model="gpt-4.1"):
        assert lookup("o-1", 2, verbose=True, shade="red") == {"order_id": "o-1"}
    (call,) = calls(log)
    assert call.arguments == {"order_id": "o-1", "rest": [2], "verbose": True, "more": {"shade": "red"}}
    assert (call.tool_name, call.model, call.outcome) == ("lookup", "gpt-4.1", "ok")
    assert call.part_of is not None and call.duration_ms >= 0
    assert (lookup.__name__, lookup.__doc__) == ("lookup", "Looks an order up.")
    assert str(inspect.signature(lookup)) == "(order_id, *rest, verbose=False, **more)"


def test_arguments_that_the_function_does_not_take_are_a_recorded_failure(log):
    @log.tool(**SESSION)
    def lookup(order_id):
        return order_id

    with pytest.raises(TypeError, match="unexpected keyword argument 'order'"):
        lookup(order="o-1")
    (call,) = calls(log)
    assert (call.outcome, call.error["type"]) == ("tool_error", "TypeError")
    assert call.arguments == {"args": [], "kwargs": {"order": "o-1"}}


def test_a_method_is_recorded_without_its_object(log):
    class Shop:
        @log.tool(name="shop.cancel", **SESSION)
        def cancel(self, order_id):
            return True

    assert Shop().cancel("o-1")
    assert calls(log)[0].arguments == {"order_id": "o-1"}
    assert calls(log, tool="shop.cancel")


def test_a_call_that_cannot_be_recorded_is_not_made(log):
    ran = []

    @log.tool
    def refund():
        ran.append(1)

    with pytest.raises(attestlog.InputError, match="conversation_id is missing"):
        refund()
    log.close()
    with pytest.raises(attestlog.ClosedError), attestlog.session(**SESSION):
        refund()
    assert not ran


def test_a_function_that_fails_is_recorded_and_fails(log):
    @log.tool(**SESSION)
    def fail(how):
        raise how("no such order")

    for how, outcome in [(KeyError, "tool_error"), (TimeoutError, "timeout"), (KeyboardInterrupt, "abandoned")]:
        with pytest.raises(how):
            fail(how)
        call = calls(log)[-1]
        assert (call.outcome, call.error["type"]) == (outcome, how.__name__)
        # A class is no JSON; of what is unknown only the class is told.
        assert call.arguments == {"how": {"class": "builtins.type"}}
    assert log.count(unfinished=True) == 0


def test_what_a_function_returns_need_not_be_json(log):
    class Odd:
        pass

    odd = Odd()

    @log.tool(**SESSION)
    def give(value):
        return value

    assert give(odd) is odd
    knot = []
    knot.append(knot)
    # A call whose arguments cannot be kept is not made; a result that cannot be kept has been given.
    with pytest.raises(ValueError, match="contains itself"):
        give(knot)

    @log.tool(**SESSION)
    def tie():
        return knot

    assert tie() is knot
    assert calls(log)[-1].result_summary["fields"] == ["result_not_kept"]


def test_an_end_that_cannot_be_recorded_gives_the_result_in_the_error(log):
    @log.tool(**SESSION)
    def close_and_answer():
        log.close()
        return 42

    with pytest.raises(attestlog.NotRecordedError, match="was made, but its end could not be recorded") as failed:
        close_and_answer()
    assert failed.value.result == 42
    assert isinstance(failed.value.__cause__, attestlog.ClosedError)


def test_one_step_is_one_entry(log):
    before = log.size()

    @log.tool(two_step=False, **SESSION)
    def lookup():
        return 1

    @log.tool(two_step=False, **SESSION)
    async def fails():
        raise KeyError("x")

    lookup()
    with pytest.raises(KeyError):
        asyncio.run(fails())
    assert log.size() == before + 2
    assert [call.outcome for call in calls(log)] == ["ok", "tool_error"]
    assert all(call.duration_ms is not None for call in calls(log))


def test_generators_are_recorded_when_they_end(log):
    @log.tool(**SESSION)
    def count(to):
        got = []
        for n in range(to):
            got.append((yield n))
        return got

    assert list(count(3)) == [0, 1, 2]
    first = count(3)
    assert next(first) == 0
    assert first.send("sent") == 1
    with pytest.raises(StopIteration) as stopped:
        first.send(None), first.send(None)
    assert stopped.value.value == ["sent", None, None]
    left = count(3)
    next(left)
    left.close()
    never = count(3)
    never.close()
    outcomes = [(call.outcome, call.to_dict().get("error", {}).get("type")) for call in calls(log)]
    assert outcomes == [("ok", None), ("ok", None), ("abandoned", "GeneratorExit")]
    assert log.count(unfinished=True) == 0


def test_a_generator_that_handles_what_is_thrown_in_goes_on(log):
    @log.tool(**SESSION)
    def stubborn():
        try:
            yield 1
        except KeyError:
            yield 2

    items = stubborn()
    next(items)
    assert items.throw(KeyError("x")) == 2
    assert list(items) == []
    assert calls(log)[-1].outcome == "ok"


def test_async_generators(log):
    @log.tool(**SESSION)
    async def count(to):
        for n in range(to):
            yield n

    async def run():
        assert [n async for n in count(3)] == [0, 1, 2]
        left = count(3)
        await left.__anext__()
        await left.aclose()

    asyncio.run(run())
    assert [call.outcome for call in calls(log)] == ["ok", "abandoned"]
    assert log.count(unfinished=True) == 0


def test_async_functions_run_side_by_side_and_each_is_recorded(log):
    @log.tool
    async def lookup(n):
        await asyncio.sleep(0)
        if n % 3 == 0:
            raise KeyError(n)
        return n

    async def run():
        with attestlog.session(**SESSION):
            return await asyncio.gather(*(lookup(n) for n in range(30)), return_exceptions=True)

    answers = asyncio.run(run())
    assert sum(isinstance(answer, KeyError) for answer in answers) == 10
    assert sorted(call.arguments["n"] for call in calls(log)) == list(range(30))
    assert log.count(failed=True) == 10


def test_a_cancelled_call_is_recorded_as_abandoned(log):
    async def run():
        started = asyncio.Event()

        @log.tool(**SESSION)
        async def forever():
            started.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(forever())
        await asyncio.wait_for(started.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [call.outcome for call in calls(log)] == ["abandoned"]
    assert log.count(unfinished=True) == 0


def test_a_task_cancelled_at_any_step_leaves_no_half_call(log):
    """A failing sibling cancels the rest of its group at once: the awaits of their beginnings and ends are among what it hits."""

    @log.tool(**SESSION)
    async def lookup():
        return 1

    async def run(turns):
        task = asyncio.ensure_future(lookup())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    for turns in range(12):
        asyncio.run(run(turns))
        assert log.count(unfinished=True) == 0
    begun = log.count(kind="call_begun")
    assert log.count(kind="tool_call") == begun


def test_a_block_in_async_code(log):
    async def run():
        async with await log.begin_async(NAMES) as call:
            call.result = 1
        with pytest.raises(KeyError):
            async with await log.begin_async(NAMES) as call:
                raise KeyError("x")
        begun = await log.begin_async(NAMES)
        await begun.finish_async(2)
        await (await log.begin_async(NAMES)).fail_async(TimeoutError())
        await (await log.begin_async(NAMES)).abandon_async()
        receipt = await log.record_async(NAMES, turn_number=9)
        assert log.entry(receipt.seq).turn_number == 9
        assert len(await log.record_batch_async([NAMES, NAMES])) == 2
        with pytest.raises(TypeError, match=r"arguments: a value of type bytes"):
            await log.record_async(NAMES, arguments=b"x")

    asyncio.run(run())
    outcomes = [call.outcome for call in calls(log)]
    assert outcomes == ["ok", "tool_error", "ok", "timeout", "abandoned", "ok", "ok", "ok"]


def test_the_event_loop_goes_on_while_the_disk_is_waited_for(log):
    """Sixty-four records side by side: each waits for a sync, and none of these waits is one of the loop."""

    async def run():
        records = [asyncio.ensure_future(log.record_async(NAMES, turn_number=n)) for n in range(64)]
        turns = 0
        while not all(record.done() for record in records):
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(run()) > 1
    assert log.count(tool="lookup") == 64


def test_sessions_are_those_of_their_task_and_nest(log):
    @log.tool
    async def lookup():
        await asyncio.sleep(0)
        return attestlog.current()["user_id"]

    async def of(user):
        with attestlog.session(user_id=user):
            return await lookup()

    async def run():
        with attestlog.session(conversation_id="conv_1", user_id="nobody"):
            assert await asyncio.gather(*(of(f"u{n}") for n in range(5))) == [f"u{n}" for n in range(5)]
            assert attestlog.current()["user_id"] == "nobody"

    asyncio.run(run())
    assert attestlog.current() == {}
    assert sorted(call.user_id for call in calls(log)) == [f"u{n}" for n in range(5)]
