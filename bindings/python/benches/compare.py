"""Recording from Python: attestlog beside the sqlite3 of Python with a hash chain. `python3 compare.py [--quick]`

The table is what a good engineer writes by hand: WAL, synchronous=FULL, a column for each member, five indexes, triggers against
changes, a SHA-256 chain. It has no proofs, signatures, redaction or summaries, and its rows are not checked when they are read.
Both record the same calls, each by turns, into files of one folder; the median of several rounds is told.
"""

import hashlib
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import attestlog

WORDS = [f"word{n}" for n in range(2000)]


def calls(count: int) -> list[dict]:
    """Calls as agents make them: some hundred bytes of arguments, a result of as many."""
    chance = random.Random(7)
    return [
        {
            "conversation_id": f"conv_{n // 12}",
            "user_id": f"usr_{chance.randrange(500)}",
            "tool_name": f"tool_{chance.randrange(20)}",
            "turn_number": n % 12,
            "model": "gpt-4.1",
            "patient_id": f"P-{chance.randrange(300)}",
            "call_trigger": "user_request",
            "purpose": "operations",
            "session_metadata": {"user_role": "support_agent", "client_ip": f"10.0.{n % 200}.7"},
            "arguments": {"order_id": f"o-{n}", "note": " ".join(chance.choices(WORDS, k=12)), "amount": n / 8},
            "result": {"id": n, "status": "shipped", "text": " ".join(chance.choices(WORDS, k=12))},
            "duration_ms": chance.uniform(1, 500),
        }
        for n in range(count)
    ]


SCHEMA = """
    PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, conversation_id TEXT NOT NULL, turn_number INTEGER,
        user_id TEXT NOT NULL, model TEXT, tool_name TEXT NOT NULL, patient_id TEXT, call_trigger TEXT, purpose TEXT,
        outcome TEXT NOT NULL, duration_ms REAL, arguments TEXT, result TEXT, error TEXT, session_metadata TEXT,
        recorded_at INTEGER NOT NULL, nonce BLOB NOT NULL, hash BLOB NOT NULL);
    CREATE INDEX by_conversation ON entries (conversation_id);
    CREATE INDEX by_user ON entries (user_id);
    CREATE INDEX by_tool ON entries (tool_name);
    CREATE INDEX by_patient ON entries (patient_id) WHERE patient_id IS NOT NULL;
    CREATE INDEX by_time ON entries (timestamp);
    CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
    CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
TEXTS = ["conversation_id", "turn_number", "user_id", "model", "tool_name", "patient_id", "call_trigger", "purpose"]
VALUES = ["arguments", "result", "error", "session_metadata"]
INSERT = f"INSERT INTO entries VALUES ({', '.join('?' * 19)})"


class Sqlite:
    """The log as a table with a hash chain: the schema of benches/compare/sqlite.rs."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(SCHEMA)
        self.head, self.seq = bytes(32).hex(), 0

    def record_batch(self, calls: list[dict]) -> None:
        rows = []
        for call in calls:
            now, nonce = time.time_ns(), os.urandom(16)
            line = {**call, "seq": self.seq, "recorded_at": now, "nonce": nonce.hex(), "prev": self.head}
            digest = hashlib.sha256(json.dumps(line, sort_keys=True, separators=(",", ":")).encode())
            values = [json.dumps(call[name]) if name in call else None for name in VALUES]
            texts = [call.get(name) for name in TEXTS]
            rows.append((self.seq, now, *texts, "ok", call["duration_ms"], *values, now, nonce, digest.digest()))
            self.head, self.seq = digest.hexdigest(), self.seq + 1
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(INSERT, rows)
        self.db.execute("COMMIT")

    def record(self, call: dict) -> None:
        self.record_batch([call])

    def close(self) -> None:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()


OPEN = {"attestlog": attestlog.AuditLog.create, "sqlite3": Sqlite}


def measured(work) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def batches(who: str, path: Path, all_calls: list[dict]) -> tuple[float, float, float]:
    """Microseconds a call in batches of a thousand, wall and processor, until the file is closed; bytes a call."""

    def work() -> None:
        log = OPEN[who](path)
        for start in range(0, len(all_calls), 1000):
            log.record_batch(all_calls[start : start + 1000])
        log.close()

    wall, processor = measured(work)
    return wall / len(all_calls) * 1e6, processor / len(all_calls) * 1e6, path.stat().st_size / len(all_calls)


def singles(who: str, path: Path, all_calls: list[dict]) -> tuple[float, float, float]:
    """Microseconds a call that is on the disk before the next begins: median, processor, 95th of a hundred."""
    log, times = OPEN[who](path), []
    processor = time.process_time()
    for call in all_calls:
        began = time.perf_counter()
        log.record(call)
        times.append((time.perf_counter() - began) * 1e6)
    processor = (time.process_time() - processor) / len(all_calls) * 1e6
    log.close()
    return statistics.median(times), processor, statistics.quantiles(times, n=20)[-1]


def main() -> None:
    quick = "--quick" in sys.argv
    rounds = 1 if quick else 5
    jobs = [
        ("batches of 1,000", batches, calls(2_000 if quick else 20_000), ["µs wall", "µs processor", "bytes"]),
        ("single durable records", singles, calls(100 if quick else 1_000), ["µs median", "µs processor", "µs p95"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for title, job, all_calls, units in jobs:
            seen: dict[str, list] = {who: [] for who in OPEN}
            for turn in range(rounds):
                for who in OPEN:
                    seen[who].append(job(who, Path(folder) / f"{job.__name__}-{who}-{turn}", all_calls))
            print(f"{title} ({len(all_calls)} calls, median of {rounds})")
            told = {who: [statistics.median(column) for column in zip(*rows)] for who, rows in seen.items()}
            for who, figures in told.items():
                print(f"  {who:<10}" + "".join(f"{figure:>12,.1f} {unit}" for figure, unit in zip(figures, units)))
            ratios = [theirs / ours for ours, theirs in zip(told["attestlog"], told["sqlite3"])]
            print(f"  {'ratio':<10}" + "".join(f"{ratio:>11.2f}x {unit}" for ratio, unit in zip(ratios, units)))


if __name__ == "__main__":
    main()
