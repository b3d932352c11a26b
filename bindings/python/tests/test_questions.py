"""Finding entries, figures, tables, verification and proofs."""

import datetime
import importlib.util
import itertools

import pytest
from samples import NAMES

import attestlog


@pytest.fixture
def shop(log):
    """A log of six calls, two of which failed."""
    calls = []
    for n, (user, tool) in enumerate(itertools.product(["usr_7", "usr_8", "usr_9"], ["lookup", "refund"])):
        call = dict(NAMES, user_id=user, tool_name=tool, turn_number=n, model="gpt-4.1", duration_ms=10 * n)
        ends = {"error": {"type": "Busy", "message": "later"}} if n % 3 == 2 else {"result": {"id": n}}
        calls.append({**call, **ends, "arguments": {"n": n}, "patient_ids": [f"P-{n % 2}"], "tool_server": "crm"})
    log.record_batch(calls)
    return log


def turns(entries):
    return [entry.turn_number for entry in entries]


def test_values_of_a_facet_are_alternatives_and_facets_narrow(shop):
    assert turns(shop.query(user="usr_7")) == [0, 1]
    assert turns(shop.query(user=["usr_7", "usr_9"], tool="refund")) == [1, 5]
    assert turns(shop.query(tool="lookup", newest_first=True, limit=2)) == [4, 2]
    assert turns(shop.query(patient="P-1", model="gpt-4.1", server=("crm",))) == [1, 3, 5]
    assert turns(shop.query(failed=True)) == turns(shop.query(outcome="tool_error")) == turns(shop.query(error="Busy")) == [2, 5]
    assert turns(shop.query(slower_than=0.035)) == turns(shop.query(slower_than=datetime.timedelta(milliseconds=35))) == [4, 5]
    assert turns(shop.query(containing="LATER")) == [2, 5]
    assert shop.count(user="usr_7", newest_first=False, since=None) == 2
    assert shop.count() == shop.size() == 8


def test_pages_go_on_after_the_last_entry(shop):
    first = list(shop.query(tool=["lookup", "refund"], limit=4))
    assert turns(shop.query(tool=["lookup", "refund"], after=first[-1].seq)) == [4, 5]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"usr": "usr_7"}, TypeError, "no keyword \"usr\"; it has conversation, user"),
        ({"outcome": "failed"}, attestlog.InputError, "outcome: "),
        ({"kind": "call"}, attestlog.InputError, "kind: "),
        ({"trigger": "me"}, attestlog.InputError, "trigger: "),
        ({"since": "yesterday-ish"}, attestlog.InputError, "since"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, attestlog.InputError, "inverted"),
        ({"limit": -1}, attestlog.InputError, "limit"),
        ({"user": 7}, attestlog.InputError, "user"),
        ({"user": []}, attestlog.InputError, "user"),
        ({"failed": "yes"}, TypeError, "failed: must be True or False"),
        ({"slower_than": -1}, ValueError, "slower_than"),
        ({"emergency": False}, ValueError, "emergency"),
        ({"containing": ""}, attestlog.InputError, "empty"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(shop, asked, error, message):
    with pytest.raises(error, match=message):
        shop.query(**asked)


def test_an_answer_is_of_the_moment_at_which_it_was_asked(shop):
    found = shop.query(user="usr_7")
    shop.record(NAMES, turn_number=100)
    assert turns(found) == [0, 1]
    assert list(found) == []


def test_entries_are_equal_if_they_are_the_same(shop):
    first, again = next(shop.query(user="usr_7")), next(shop.query(user="usr_7"))
    assert first == again and hash(first) == hash(again) and first != shop.entry(0)
    assert repr(first) == '<Entry 2 tool_call tool="lookup" user="usr_7" outcome=ok>'
    assert shop.entry(0).tool_name is None and shop.entry(0).kind == "genesis" and not shop.entry(0).is_call
    assert shop.query(user="usr_7").to_dicts()[0] == first.to_dict()


def test_the_timeline_has_a_call_in_two_steps_once(log):
    log.record(NAMES, turn_number=0)
    with log.begin(NAMES, turn_number=1):
        pass
    steps = list(log.timeline("conv_1"))
    assert turns(steps) == [0, 1]
    assert steps[0].begun_at is None and steps[1].begun_at <= steps[1].recorded_at
    assert list(log.timeline("conv_2")) == []


def test_figures(shop):
    by_tool = {tool["tool"]: tool for tool in shop.statistics()}
    assert by_tool["refund"]["total_calls"] == 3
    assert by_tool["refund"]["success_rate"] == pytest.approx(2 / 3)
    assert [tool["tool"] for tool in shop.statistics(tool="lookup", since="2026-01-01")] == ["lookup"]
    with pytest.raises(attestlog.InputError, match="colour"):
        shop.statistics(colour="red")
    groups = shop.breakdown(["user", "tool"], failed=True)
    assert {(group["user"], group["tool"]): group["errors"] for group in groups} == {
        ("usr_8", "lookup"): {"Busy": 1},
        ("usr_9", "refund"): {"Busy": 1},
    }
    assert len(shop.breakdown("tool")) == 2
    (conversation,) = shop.conversations(failed=True)["newest"]
    assert (conversation["id"], conversation["calls"], conversation["failed"]) == ("conv_1", 6, 2)
    begun = shop.begin(NAMES)
    begun.finish(1)
    assert len(shop.whole_call(begun.receipt.seq)["parts"]) == 2
    assert shop.health()["unfinished_calls"] == 0 and shop.warnings() == []


COLUMNS = ["seq", "kind", "timestamp", "recorded_at", "conversation_id", "user_id", "tool_name"]


def test_an_answer_is_a_table_of_arrow(shop):
    nanoarrow = pytest.importorskip("nanoarrow")
    found = shop.query(kind="tool_call")
    stream = nanoarrow.ArrayStream(found)
    assert [field.name for field in stream.schema.fields][: len(COLUMNS)] == COLUMNS
    rows = stream.read_all()
    columns = {field.name: rows.child(n).to_pylist() for n, field in enumerate(rows.schema.fields) if n not in (2, 3)}
    assert columns["turn_number"] == list(range(6))
    assert columns["patient_ids"] == [["P-0"], ["P-1"]] * 3
    assert columns["success"] == [True, True, False] * 2
    assert columns["error_type"] == [None, None, "Busy"] * 2
    assert columns["duration_ms"] == [0, 10, 20, 30, 40, 50]
    assert columns["line"] == [entry.line.decode() for entry in found]
    assert len(nanoarrow.ArrayStream(shop.query(user="nobody")).read_all()) == 0
    everything = nanoarrow.ArrayStream(shop.query()).read_all()
    assert everything.child(4).to_pylist()[:2] == [None, None]


@pytest.mark.parametrize("library", ["pyarrow", "pandas", "polars"])
def test_an_answer_is_a_table_of_other_libraries(shop, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    found = shop.query(kind="tool_call")
    table = {"pyarrow": found.to_arrow, "pandas": found.to_pandas, "polars": found.to_polars}[library]()
    names = table.column_names if library == "pyarrow" else list(table.columns)
    assert names[: len(COLUMNS)] == COLUMNS
    values = table["turn_number"]
    assert list(values.to_pylist() if library == "pyarrow" else values) == list(range(6))


def test_many_entries_come_in_order_and_in_batches(log):
    for start in range(0, 10_000, 2_000):
        log.record_batch({**NAMES, "turn_number": start + n} for n in range(2_000))
    assert turns(log.query(tool="lookup")) == list(range(10_000))
    nanoarrow = pytest.importorskip("nanoarrow")
    sizes = [len(batch) for batch in nanoarrow.ArrayStream(log.query(tool="lookup")).iter_chunks()]
    assert (sum(sizes), len(sizes)) == (10_000, 3)


def test_verification_says_what_it_found(shop):
    kept = shop.checkpoint()
    report = shop.verify(public_key=shop.public_key(), against=kept)
    assert report.ok and report.findings == []
    assert report.to_dict()["size"] == shop.size()
    with attestlog.AuditLog.in_memory() as other:
        assert not shop.verify(public_key=other.public_key()).ok
    with pytest.raises(attestlog.InputError, match="public_key"):
        shop.verify(public_key="nonsense")
    with pytest.raises(attestlog.InputError, match="against"):
        shop.verify(against="nonsense")


def test_a_proof_is_checked_without_the_log(shop):
    key = shop.public_key()
    kept = shop.checkpoint()
    proof = shop.prove(2)
    checked = attestlog.check(proof, key)
    assert checked.holds and "entry 2 is in the log" in str(checked)
    assert attestlog.check(proof.encode(), key).to_dict() == checked.to_dict()
    shop.record(NAMES)
    assert attestlog.check(shop.prove_consistent(kept), key).holds
    complete = attestlog.check(shop.prove_complete("patient", "P-1"), key)
    assert complete.holds
    line, hashes = proof.split("\n\n", 1)
    for wrong in [proof.replace("index 2", "index 3"), "", "nonsense"]:
        with pytest.raises(attestlog.InputError):
            attestlog.check(wrong, key)
    with attestlog.AuditLog.in_memory() as other, pytest.raises(attestlog.InputError):
        attestlog.check(proof, other.public_key())


def test_a_backup_is_a_store(shop, tmp_path):
    copy = shop.backup(tmp_path / "copy.log")
    with attestlog.AuditLog.open(tmp_path / "copy.log", read_only=True) as log:
        assert log.size() == copy["size"]
        with pytest.raises(attestlog.ReadOnlyError):
            log.record(NAMES)
    with pytest.raises(attestlog.AlreadyExistsError):
        shop.backup(tmp_path / "copy.log")
