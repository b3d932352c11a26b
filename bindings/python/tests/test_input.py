"""What goes in: Python values that are no JSON, or that JSON cannot keep, and where the errors say that they are."""

import datetime
import decimal
import enum
import math
import uuid
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from samples import NAMES

import attestlog

WHEN = datetime.datetime(2026, 7, 6, 14, 23, 1, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"items": [0, 0, 0, {"when": WHEN}]}, r"arguments\.items\[3\]\.when: a value of type datetime"),
        ({"raw": b"x"}, r"arguments\.raw: a value of type bytes"),
        ({"tags": {1, 2}}, r"arguments\.tags: a value of type set"),
        ({"odd key": {"a.b": object()}}, r'arguments\.odd key\["a\.b"\]: a value of type object'),
        ([1, (2, decimal.Decimal(3))], r"arguments\[1\]\[1\]: a value of type Decimal"),
        ({"a": {(1, 2): 3}}, r"arguments\.a: a key must be a string, not tuple"),
    ],
)
def test_what_is_no_json_is_a_type_error_that_names_its_place(log, arguments, where):
    size = log.size()
    with pytest.raises(TypeError, match=where):
        log.record(NAMES, arguments=arguments)
    with pytest.raises(TypeError, match=r"calls\[1\]\." + where):
        log.record_batch([NAMES, dict(NAMES, arguments=arguments)])
    assert log.size() == size


def test_a_value_inside_itself_is_named(log):
    knot = {"a": []}
    knot["a"].append(knot)
    with pytest.raises(ValueError, match=r"arguments\.a\[0\]: contains itself"):
        log.record(NAMES, arguments=knot)
    shared = {"x": 1}
    assert log.entry(log.record(NAMES, arguments=[shared, shared]).seq).arguments == [shared, shared]


def test_depth_and_number_of_values_are_bounded(log):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested deeper than 128 levels"):
        log.record(NAMES, arguments=deep)
    # Ten lists that hold the next one ten times each are ten thousand million values.
    wide = 1
    for _ in range(10):
        wide = [wide] * 10
    with pytest.raises(attestlog.TooLargeError, match="more than 2097152 values"):
        log.record(NAMES, arguments=wide)
    with pytest.raises(attestlog.TooLargeError, match="bytes of text"):
        log.record(NAMES, arguments=["x" * (1 << 20)] * 17)
    # Each of these is marked with its path, whose key has a megabyte.
    with pytest.raises(attestlog.TooLargeError):
        log.record(NAMES, arguments={"k" * (1 << 20): [math.nan] * 1000})


def test_what_json_cannot_keep_is_kept_in_another_form_and_marked(log):
    arguments = {
        "big": 2**60,
        "small": -(10**4000),
        "exact": 2**53 - 1,
        "nan": math.nan,
        "infinite": [-math.inf],
        "half": "a\ud800b\udc00",
        "pair": "\U0001f600",
        "nul": "a\0b",
    }
    entry = log.entry(log.record(NAMES, arguments=arguments).seq).to_dict()
    assert entry["arguments"] == {
        "big": "1152921504606846976",
        "small": "-1" + "0" * 4000,
        "exact": 9007199254740991,
        "nan": "NaN",
        "infinite": ["-inf"],
        "half": "a\ufffdb\ufffd",
        "pair": "\U0001f600",
        "nul": "a\u2400b",
    }
    marked = ["big", "half", "infinite[0]", "nan", "nul", "small"]
    assert sorted(entry["restated"]) == [f"arguments.{name}" for name in marked]
    with pytest.raises(ValueError, match=r"arguments\.n: an integer of 1000000 bits"):
        log.record(NAMES, arguments={"n": 1 << 999_999})


def test_names_with_halves_of_pairs_are_refused_because_two_could_become_one(log):
    for member in NAMES:
        with pytest.raises(attestlog.InputError, match=f"^{member}: "):
            log.record({**NAMES, member: "a\ud800"})


def test_keys_are_written_as_json_dumps_writes_them(log):
    entry = log.entry(log.record(NAMES, arguments={1: "a", 2.5: "b", True: "c", None: "d"}).seq)
    assert entry.arguments == {"1": "c", "2.5": "b", "null": "d"}
    with pytest.raises(ValueError, match='two keys are written "1"'):
        log.record(NAMES, arguments={1: "a", "1": "b"})


def test_classes_that_derive_from_json_types_are_what_they_derive_from(log):
    class Colour(str, enum.Enum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3
        HUGE = 2**70

    entry = log.entry(log.record(NAMES, arguments=[Colour.RED, Level.HIGH, Level.HUGE]).seq)
    assert entry.arguments == ["red", 3, str(2**70)]


def test_members_that_are_times_take_those_of_python(log):
    entry = log.entry(log.record(NAMES, timestamp=WHEN).seq)
    assert entry.timestamp == WHEN
    assert entry.to_dict()["timestamp"] == "2026-07-06T14:23:01Z"
    with pytest.raises(attestlog.InputError, match="timestamp: has no time zone"):
        log.record(NAMES, timestamp=WHEN.replace(tzinfo=None))
    assert log.count(since=WHEN, until=WHEN + datetime.timedelta(seconds=1), tool="lookup") == 1
    assert log.count(since=datetime.date(2026, 7, 6), until="2026-07-07", tool="lookup") == 1


def test_a_default_is_asked_as_that_of_json_dumps(log):
    entry = log.entry(log.record(NAMES, arguments={"raw": b"x"}, default=lambda value: [type(value).__name__]).seq)
    assert entry.arguments == {"raw": ["bytes"]}
    with pytest.raises(ValueError, match="contains itself"):
        log.record(NAMES, arguments=b"x", default=lambda value: [value])
    with pytest.raises(ValueError, match="nested deeper"):
        log.record(NAMES, arguments=b"x", default=lambda _: object())
    with pytest.raises(ZeroDivisionError):
        log.record(NAMES, arguments=b"x", default=lambda _: 1 / 0)

    # One that changes what is being read.
    victim = {"a": b"x", **{str(n): n for n in range(100)}}
    log.record(NAMES, arguments=victim, default=lambda _: victim.clear())
    growing = [b"x"]
    entry = log.entry(log.record(NAMES, arguments=growing, default=lambda _: growing.append(b"x")).seq)
    assert entry.arguments == [None]


def test_plain_says_what_usual_values_are(log):
    @dataclass
    class Order:
        id: str
        at: datetime.date

    class Secretive:
        def __repr__(self):
            return "Client(key='hunter2')"

    values = {
        "order": Order("o-1", datetime.date(2026, 7, 6)),
        "raw": b"x",
        "set": {"b", "a"},
        "id": uuid.UUID(int=7),
        "price": decimal.Decimal("1.10"),
        "path": Path("a/b"),
        "took": datetime.timedelta(seconds=1.5),
        "error": KeyError("k"),
        "colour": enum.Enum("Colour", {"RED": {"r": 1}}).RED,
        "other": Secretive(),
        "mock": mock.MagicMock(),
        "class": Order,
    }
    entry = log.entry(log.record(NAMES, arguments=values, default=attestlog.plain).seq)
    assert entry.arguments["order"] == {"id": "o-1", "at": "2026-07-06"}
    assert entry.arguments["raw"]["bytes"] == 1
    assert entry.arguments["set"] == ["a", "b"]
    assert entry.arguments["id"] == "00000000-0000-0000-0000-000000000007"
    assert (entry.arguments["price"], entry.arguments["path"], entry.arguments["took"]) == ("1.10", "a/b", 1.5)
    assert entry.arguments["error"] == {"type": "KeyError", "message": "'k'"}
    assert entry.arguments["colour"] == {"r": 1}
    assert entry.arguments["other"]["class"].endswith("Secretive")
    assert entry.arguments["class"] == {"class": "builtins.type"}
    assert b"hunter2" not in entry.line


def test_a_large_dict_in_the_worst_order_takes_no_longer_than_it_must(log):
    # Keys that come in descending order were each put before all others: minutes for these.
    keys = {f"{n:06}": 1 for n in range(100_000, 0, -1)}
    call = log.prepare(NAMES, result=keys)
    assert log.entry(log.record(call).seq).result_summary["type"] == "object"
