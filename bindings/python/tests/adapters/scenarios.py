"""What every framework's agent is made to do, and what the log must say afterwards.

A scenario is what a fake model asks for, turn by turn, and how each call must end. The tests of a framework build an agent with the tools
`add`, `add_later` (async), `boom` (fails, and the model is told), `bang` (fails, and the run with it), `forever` (waits until it is
cancelled), `mail` (needs an approval, which is refused) and `helper` (another agent), play the turns to it, and call `check`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

MODEL = "fake-model"
USER = "usr_1"


class Asked(NamedTuple):
    """A call that the model asks for."""

    id: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """Turns of the model, and the end of each call: the outcome, and what the error's type or message must have in it."""

    turns: list[list[Asked]]
    ends: dict[str, tuple[str, str]]


def _adds(*ids: str, tool: str = "add") -> list[Asked]:
    return [Asked(id, tool, {"a": at, "b": 2}) for at, id in enumerate(ids)]


def _ok(*ids: str) -> dict[str, tuple[str, str]]:
    return {id: ("ok", "") for id in ids}


SCENARIOS = {
    "parallel": Scenario([_adds("p1", "p2", "p3")], _ok("p1", "p2", "p3")),
    "turns": Scenario([_adds("t1"), _adds("t2")], _ok("t1", "t2")),
    "async": Scenario([_adds("a1", "a2", tool="add_later")], _ok("a1", "a2")),
    "failing": Scenario(
        [[Asked("f1", "boom", {"text": "no such order"}), *_adds("f2")]], {"f1": ("tool_error", "no such order"), **_ok("f2")}
    ),
    "unknown": Scenario([[Asked("u1", "nope", {"x": 1})]], {"u1": ("protocol_error", "UnknownTool")}),
    "denied": Scenario([[Asked("d1", "mail", {"to": "the team"})]], {"d1": ("denied", "")}),
    "cancelled": Scenario([[Asked("c1", "forever", {})]], {"c1": ("abandoned", "")}),
    "sibling": Scenario(
        [[Asked("s1", "forever", {}), Asked("s2", "bang", {"text": "first"})]],
        {"s1": ("abandoned", ""), "s2": ("tool_error", "first")},
    ),
    "sub-agent": Scenario([[Asked("o1", "helper", {"request": "add"})]], _ok("o1", "i1")),
}
# What the agent `helper` is asked for in the scenario `sub-agent`.
INNER = [_adds("i1")]


def entries(log: Any) -> list[dict[str, Any]]:
    """All calls in the log, as their lines say."""
    return [json.loads(bytes(entry.line)) for entry in log.query()]


def ended(log: Any) -> dict[str, dict[str, Any]]:
    """The calls that have ended, by their id; none may have ended twice, and none may still be open."""
    found: dict[str, dict[str, Any]] = {}
    begun = set()
    for line in entries(log):
        if line["kind"] == "call_begun":
            begun.add(line["seq"])
        elif line["kind"] == "tool_call":
            assert line["call_id"] not in found, f"{line['call_id']} ended twice"
            found[line["call_id"]] = line
            begun.discard(line.get("begun_seq"))
    assert not begun, f"calls that never ended: {begun}"
    return found


def check(log: Any, name: str, **common: Any) -> dict[str, dict[str, Any]]:
    """The log has the scenario's calls and no others, ended as they must, each with what is common to all."""
    scenario, found = SCENARIOS[name], ended(log)
    assert set(found) == set(scenario.ends)
    asked = {call.id: call for turn in [*scenario.turns, *INNER] for call in turn}
    for id, (outcome, text) in scenario.ends.items():
        line = found[id]
        assert line["outcome"] == outcome, (id, line)
        assert line["tool_name"] == asked[id].tool, line
        assert line["arguments"] == asked[id].arguments, line
        assert line["user_id"] == USER, line
        told = line.get("error") or {}
        assert text in f"{told.get('type')}: {told.get('message')}", (id, told)
        for member, value in common.items():
            assert line.get(member) == value, (id, member, line.get(member))
    return found
