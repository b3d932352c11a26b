"""One store, many processes: forks, servers that fork, and the program beside Python, as owner and as guest."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from samples import NAMES

import attestlog

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
PROGRAM = os.environ.get("ATTESTLOG_PROGRAM")
program = pytest.mark.skipif(not PROGRAM, reason="ATTESTLOG_PROGRAM does not name the program attestlog")


def run(code, *arguments, **options):
    """Runs a script in a Python of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def python(code, *arguments, after=None):
    """Starts a script in a Python of its own, and returns when it has printed its first line, "open"."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdout.readline() != "open\n":
        process.kill()
        if after is not None:
            after.kill()
        pytest.fail("the script did not begin")
    return process


def attest(*arguments, **options):
    """Runs a command of the program; what it printed."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_opening(path, tmp_path):
    with pytest.raises(attestlog.NotFoundError):
        attestlog.AuditLog.open(path)
    with attestlog.AuditLog.create(path, name="example.com/ward-3") as log:
        assert log.is_owner and log.public_key().startswith("example.com/ward-3/")
        with pytest.raises(attestlog.AlreadyExistsError):
            attestlog.AuditLog.create(path)
        key = log.public_key()
    with attestlog.AuditLog.open(path, public_key=key) as log:
        assert log.size() > 1
    with attestlog.AuditLog.in_memory() as other, pytest.raises(attestlog.KeyFileError):
        attestlog.AuditLog.open(path, public_key=other.public_key())
    (tmp_path / "text").write_text("not a store")
    with pytest.raises(attestlog.NotAStoreError):
        attestlog.AuditLog.open(tmp_path / "text")
    with pytest.raises(TypeError):
        attestlog.AuditLog.open(path, colour="red")
    with pytest.raises(attestlog.InputError, match="policies"):
        attestlog.AuditLog.create(tmp_path / "other", policies={"colour": "red"})


def test_a_closed_log_says_so(path):
    log = attestlog.AuditLog.open_or_create(path)
    again = attestlog.AuditLog.open_or_create(path)
    log.close()
    for use in [lambda: log.record(NAMES), log.size, lambda: log.query(), lambda: log.begin(NAMES), log.checkpoint]:
        with pytest.raises(attestlog.ClosedError):
            use()
    log.close()
    assert again.record(NAMES).seq > 1
    again.close()


def test_a_program_that_closes_nothing_leaves_a_signed_log(path):
    done = run(
        """
        import sys, attestlog
        log = attestlog.AuditLog.create(sys.argv[1])
        log.record(conversation_id="c", user_id="u", tool_name="t")
        """,
        path,
    )
    assert done.returncode == 0 and done.stderr == ""
    with attestlog.AuditLog.open(path, read_only=True) as log:
        assert log.health()["signed_size"] == log.size()


def test_an_exclusive_log_locks_others_out(path):
    with attestlog.AuditLog.create(path, exclusive=True):
        done = run("import sys, attestlog; attestlog.AuditLog.open(sys.argv[1])", path)
        assert "LockedError" in done.stderr


def test_threads_record_side_by_side(log):
    def work(thread):
        for n in range(10):
            log.record(NAMES, user_id=f"u{thread}", turn_number=n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count(tool="lookup") == 160
    assert log.verify().ok


def in_a_fork(log, tried):
    """What a forked process finds: nothing works, and nothing hangs, not even its end."""
    found = []
    uses = [lambda: log.record(NAMES), log.size, lambda: log.query(), lambda: list(log.query()), log.close, lambda: log.begin(NAMES)]
    for use in uses:
        try:
            use()
            found.append("done")
        except attestlog.ClosedError as error:
            found.append("after the fork" in str(error))
    tried.send(found)


@forks
def test_a_forked_process_cannot_harm_its_parents_log(log):
    """multiprocessing forks by default on Linux before Python 3.14: a store that parent and child both wrote to would be lost."""
    log.record(NAMES)
    begun = log.begin(NAMES)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=in_a_fork, args=(log, there))
    child.start()
    assert here.poll(60)
    assert here.recv() == [True] * 6
    child.join(60)
    assert child.exitcode == 0
    begun.finish(1)
    log.record(NAMES)
    assert log.count(tool="lookup") == 4
    assert log.verify().ok


def worker(path, user):
    with attestlog.AuditLog.open(path) as log:
        for n in range(20):
            log.record(NAMES, user_id=user, turn_number=n)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_that_open_the_log_themselves_record_through_its_owner(path, method):
    with attestlog.AuditLog.create(path) as log:
        context = multiprocessing.get_context(method)
        children = [context.Process(target=worker, args=(path, f"u{n}")) for n in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(120)
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert [log.count(user=f"u{n}") for n in range(3)] == [20, 20, 20]
        assert log.verify().ok


@forks
def test_a_server_that_forks_its_workers_records_in_each(path):
    """A server that opens the log, forks its workers and serves in them, as gunicorn --preload does. The first version of this
    package's prototype lost records that it had acknowledged, and then the store."""
    done = run(
        """
        import os, socket, sys
        import attestlog

        path = sys.argv[1]
        log = attestlog.AuditLog.create(path)  # before the fork
        log.record(conversation_id="c", user_id="parent", tool_name="start")
        listening = socket.create_server(("127.0.0.1", 0))

        def serve():
            refused = False
            try:
                log.record(conversation_id="c", user_id="child", tool_name="inherited")
            except attestlog.ClosedError:
                refused = True
            own = attestlog.AuditLog.open(path)  # after it
            for n in range(10):
                connection, _ = listening.accept()
                with connection, own.begin(conversation_id="c", user_id=f"w{os.getpid()}", tool_name="serve"):
                    connection.sendall(b"ok" if refused else b"no")
            own.close()

        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    serve()
                    code = 0
                finally:
                    os._exit(code)
            children.append(pid)
        answers = []
        for _ in range(30):
            with socket.create_connection(listening.getsockname(), timeout=60) as connection:
                answers.append(connection.recv(2))
        assert answers == [b"ok"] * 30, answers
        assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in children)
        assert log.count(tool="serve", kind="tool_call") == 30
        assert log.count(tool="inherited") == 0
        assert log.verify().ok
        log.close()
        """,
        path,
    )
    assert done.returncode == 0, done.stderr


def test_another_process_takes_over_when_the_owner_is_killed(path):
    """The owner is killed in the middle: what it acknowledged is there, and recording goes on through the guest."""
    owner = python(
        """
        import sys, attestlog
        log = attestlog.AuditLog.create(sys.argv[1])
        print("open", flush=True)
        sys.stdin.readline()
        """,
        path,
    )
    with attestlog.AuditLog.open(path) as log:
        assert not log.is_owner
        first = log.record(NAMES)
        owner.kill()
        owner.wait(60)
        second = log.record(NAMES)
        assert (log.is_owner, second.seq) == (True, first.seq + 1)
        assert log.verify().ok


@pytest.mark.skipif(sys.platform == "win32", reason="no signals as of Unix")
def test_an_interrupt_ends_the_wait_for_a_verification(path):
    """The owner is stopped, so that it never answers: Ctrl-C ended nothing, since Python looks for signals only between calls."""
    owner = python(
        """
        import sys, attestlog
        log = attestlog.AuditLog.create(sys.argv[1])
        print("open", flush=True)
        sys.stdin.readline()
        """,
        path,
    )
    guest = python(
        """
        import sys, attestlog
        log = attestlog.AuditLog.open(sys.argv[1])
        print("open", flush=True)
        sys.stdin.readline()
        try:
            print("asks", flush=True)
            log.verify()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            import os
            os._exit(0)
        """,
        path,
        after=owner,
    )
    try:
        owner.send_signal(signal.SIGSTOP)
        guest.stdin.write("go\n")
        guest.stdin.flush()
        assert guest.stdout.readline() == "asks\n"
        guest.send_signal(signal.SIGINT)
        assert guest.stdout.readline() == "interrupted\n"
        assert guest.wait(60) == 0
    finally:
        owner.send_signal(signal.SIGCONT)
        owner.kill()
        owner.wait(60)
        guest.kill()


@program
def test_the_program_reads_through_python_and_python_through_the_program(path):
    """While Python owned the store, the first prototype's program could read nothing."""
    with attestlog.AuditLog.create(path) as log:
        receipt = log.record(NAMES, arguments={"order_id": "o-1"})
        (line,) = attest("query", path, "--user", "usr_7", "--json").splitlines()
        assert line.encode() == log.entry(receipt.seq).line
        assert json.loads(attest("stats", path, "--json"))
        attest("record", path, input=json.dumps({**NAMES, "user_id": "usr_8"}))
        assert log.count(user="usr_8") == 1
        attest("verify", path, "--public-key", log.public_key())
        key = log.public_key()
    serving = subprocess.Popen([PROGRAM, "serve", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert serving.stdout.readline()
        with attestlog.AuditLog.open(path, public_key=key) as log:
            assert not log.is_owner
            with log.begin(NAMES) as call:
                call.result = 1
            assert log.entry(call.end.seq).part_of == call.receipt.seq
            assert log.record_batch([NAMES, NAMES])[1].seq == log.size() - 1
            assert [entry.seq for entry in log.query(user="usr_8")]
            assert log.verify().ok and log.prove(call.end.seq)
    finally:
        serving.terminate()
        serving.wait(60)


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="no signals as of Unix")
def test_an_interrupt_leaves_nothing_half_and_nothing_twice(path):
    """Ctrl-C at any moment of recording: each call is in the log whole, once, or not at all, and the block's end is recorded."""
    done = run(
        """
        import itertools, os, signal, sys, threading, attestlog
        log = attestlog.AuditLog.create(sys.argv[1])
        names = dict(conversation_id="c", user_id="u", tool_name="t")
        interrupted, acknowledged = 0, []
        numbers = itertools.count(1)
        main = threading.main_thread().ident
        for turn in range(20):
            try:
                threading.Timer(0.002 * turn, signal.pthread_kill, (main, signal.SIGINT)).start()
                while True:
                    number = next(numbers)
                    with log.begin(names, turn_number=number) as call:
                        call.result = number
                    acknowledged.append(call.end)
            except KeyboardInterrupt:
                interrupted += 1
        seqs = [receipt.seq for receipt in acknowledged]
        turns = [entry.turn_number for entry in log.query(kind="tool_call")]
        assert interrupted == 20 and len(set(turns)) == len(turns)
        assert set(seqs) <= {entry.seq for entry in log.query(kind="tool_call")}
        begun = log.count(kind="call_begun")
        assert begun - len(turns) == log.count(unfinished=True) <= 20
        assert log.verify().ok
        log.close()
        """,
        path,
    )
    assert done.returncode == 0, done.stderr
