"""How much processor time an event of a hook costs: hook_cost.py PROGRAM. Stores of several sizes, without and with an owner."""
import json
import os
import resource
import subprocess
import sys
import tempfile

PROGRAM = os.path.abspath(sys.argv[1])


def event(name, number):
    told = {"session_id": "s", "cwd": "/w", "hook_event_name": name, "tool_name": "Bash",
            "tool_input": {"command": f"ls {number}"}, "tool_use_id": f"t{number}"}
    if name == "PostToolUse":
        told["tool_response"] = {"stdout": "x"}
    return json.dumps(told).encode()


def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(store, calls, first):
    """Milliseconds of processor time for an event of this many calls."""
    before = spent()
    for number in range(first, first + calls):
        for name in ("PreToolUse", "PostToolUse"):
            command = [PROGRAM, "hook", "claude-code", store, "--user", "u", "--idle", "2s"]
            subprocess.run(command, input=event(name, number), capture_output=True, check=True, timeout=60)
    return (spent() - before) / (2 * calls) * 1000


def fill(store, calls, first):
    def call(n):
        return json.dumps({"conversation_id": f"c{n // 50}", "user_id": f"u{n % 7}", "tool_name": "Bash", "call_id": f"x{n}",
                           "arguments": {"command": f"ls -la /home/user/project/{n}"}, "result": f"total {n}"})
    text = "".join(call(n) + "\n" for n in range(first, first + calls))
    subprocess.run([PROGRAM, "record", store], input=text.encode(), capture_output=True, check=True, timeout=600)


with tempfile.TemporaryDirectory() as folder:
    store = os.path.join(folder, "s")
    subprocess.run([PROGRAM, "init", store], check=True, capture_output=True, timeout=60)
    there = 0
    for size in (0, 500, 1_500, 10_000, 30_000):
        if size > there:
            fill(store, size - there, there)
        there = size
        cost(store, 1, 10**6 + size)
        kib = os.path.getsize(store) >> 10
        print(f"{size} calls, {kib} KiB, no owner: {cost(store, 10, 2 * 10**6 + size):.1f} ms", flush=True)
    with subprocess.Popen([PROGRAM, "serve", store], stderr=subprocess.PIPE) as owner:
        owner.stderr.readline()
        print(f"{there} calls, with an owner: {cost(store, 20, 4 * 10**6):.1f} ms")
        owner.terminate()
