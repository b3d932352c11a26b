"""Recording: one call, batches, calls in two steps, and what makes both fail."""

import json
import pickle

import pytest
from samples import NAMES

import attestlog


def test_a_call_is_in_the_log_when_record_returns(log):
    receipt = log.record(NAMES, arguments={"order_id": "o-1", "api_key": "hunter2"}, result={"status": "shipped"})
    entry = log.entry(receipt.seq)
    assert entry.hash == receipt.hash
    assert entry.arguments["order_id"] == "o-1"
    assert b"hunter2" not in entry.line
    assert (entry.outcome, entry.success, entry.tool_name) == ("ok", True, "lookup")
    assert json.loads(entry.line) == entry.to_dict()


def test_keywords_take_the_place_of_a_dicts_members_and_leave_it_as_it_is(log):
    base = dict(NAMES, model="a")
    entry = log.entry(log.record(base, model="b", turn_number=3).seq)
    assert (entry.model, entry.turn_number, base["model"]) == ("b", 3, "a")


def test_none_is_no_member_but_of_arguments_and_results(log):
    entry = log.entry(log.record(NAMES, model=None, arguments=None, result=None).seq)
    assert entry.model is None
    assert entry.to_dict()["arguments"] is None
    assert entry.result_summary["type"] == "null"


def test_a_batch_is_recorded_whole_or_not_at_all(log):
    receipts = log.record_batch({**NAMES, "turn_number": turn} for turn in range(3))
    assert [log.entry(receipt.seq).turn_number for receipt in receipts] == [0, 1, 2]
    size = log.size()
    with pytest.raises(attestlog.InputError) as refused:
        log.record_batch([NAMES, dict(NAMES, user_id=""), NAMES])
    assert refused.value.place == {"call": 1, "member": "user_id"}
    assert log.size() == size
    with pytest.raises(TypeError, match="not a dict"):
        log.record_batch(NAMES)


def test_a_numbered_call_that_is_sent_twice_is_in_the_log_once(log):
    numbered = dict(NAMES, sender={"id": "host-3", "number": 17})
    assert log.record(numbered) == log.record(numbered)
    with pytest.raises(attestlog.ConflictError):
        log.record(numbered, model="another")


def test_a_call_in_two_steps_leaves_a_trace_before_its_end(log):
    begun = log.begin(NAMES, arguments={"order_id": "o-1"})
    assert log.count(unfinished=True) == 1
    end = begun.finish({"status": "refunded"})
    entry = log.entry(end.seq)
    assert (log.count(unfinished=True), entry.part_of, begun.end) == (0, begun.receipt.seq, end)
    assert entry.duration_ms >= 0 and entry.arguments == {"order_id": "o-1"}


def test_a_call_ends_once(log):
    begun = log.begin(NAMES)
    begun.finish(1)
    with pytest.raises(attestlog.ConflictError, match="no unfinished call"):
        begun.finish(2)


def test_an_end_that_is_refused_can_be_recorded_otherwise(log):
    begun = log.begin(NAMES)
    with pytest.raises(TypeError, match=r"result\[1\]: a value of type bytes"):
        begun.finish([1, b"2"])
    with pytest.raises(TypeError, match="an end has no member .model."):
        begun.finish(1, model="m")
    assert log.entry(begun.finish([1, b"2"], default=attestlog.plain).seq).success


def test_failures_and_abandoned_calls(log):
    failed = log.entry(log.begin(NAMES).fail(KeyError("no such order")).seq)
    assert failed.error == {"type": "KeyError", "message": "'no such order'"}
    assert failed.outcome == "tool_error"
    assert log.entry(log.begin(NAMES).fail(TimeoutError()).seq).outcome == "timeout"
    assert log.entry(log.begin(NAMES).fail("refused", outcome="denied").seq).outcome == "denied"
    gone = log.entry(log.begin(NAMES).abandon("the worker ended").seq)
    assert (gone.outcome, gone.error) == ("abandoned", {"message": "the worker ended"})
    assert log.entry(log.begin(NAMES).abandon().seq).error is None


def test_a_block_records_its_end_however_it_ends(log):
    with log.begin(NAMES) as call:
        call.result = {"id": 7}
    assert log.entry(call.end.seq).result_summary["fields"] == ["id"]
    with pytest.raises(ZeroDivisionError), log.begin(NAMES) as call:
        1 / 0
    assert log.entry(call.end.seq).error["type"] == "ZeroDivisionError"
    with pytest.raises(KeyboardInterrupt), log.begin(NAMES) as call:
        raise KeyboardInterrupt
    assert log.entry(call.end.seq).outcome == "abandoned"
    with log.begin(NAMES) as call:
        call.finish(outcome="denied")
    assert log.entry(call.end.seq).outcome == "denied"
    assert log.count(unfinished=True) == 0


def test_a_block_whose_result_cannot_be_kept_ends_all_the_same(log):
    with log.begin(NAMES) as call:
        call.result = knot = []
        knot.append(knot)
    assert log.entry(call.end.seq).result_summary["fields"] == ["result_not_kept"]
    with log.begin(NAMES) as call:
        call.result = ["x" * 1000] * 20_000
    assert log.entry(call.end.seq).success


def test_errors_are_exceptions_of_their_kind_and_survive_a_pickle(log):
    with pytest.raises(attestlog.InputError, match="colour: is not a member of a call") as refused:
        log.record(NAMES, colour=1)
    assert isinstance(refused.value, attestlog.Error) and isinstance(refused.value, ValueError)
    again = pickle.loads(pickle.dumps(refused.value))
    assert (type(again), str(again), again.place) == (attestlog.InputError, str(refused.value), {"member": "colour"})
    with pytest.raises(attestlog.NoSuchEntryError):
        log.entry(10**6)
    with pytest.raises(attestlog.TooLargeError):
        log.record(NAMES, model="m" * 100_000)


def test_every_kind_of_error_has_an_exception():
    from attestlog import _errors, _native

    assert sorted(_errors.BY_KIND) == sorted(_native.error_kinds())
    assert all(error.__doc__ and error.__name__ in attestlog.__all__ for error in _errors.BY_KIND.values())


def test_a_prepared_call_is_recorded_as_it_was(log):
    arguments = {"order_id": "o-1"}
    call = log.prepare(NAMES, arguments=arguments)
    arguments["order_id"] = "o-2"
    assert log.entry(log.record(call).seq).arguments == {"order_id": "o-1"}
    assert len(log.record_batch([call, call])) == 2
    with pytest.raises(TypeError, match="takes no more members"):
        log.record(call, model="m")
