"""Plots how an agent used its tools: python3 tool_use.py audit.log

Makes a log with some calls if there is none. With matplotlib it writes tool_use.png, without it a chart of text.
"""

import random
import sys
from pathlib import Path

import attestlog


def make_up(log: attestlog.AuditLog) -> None:
    """A day of a shop's agent: five hundred calls of three tools."""
    chance = random.Random(7)
    tools = {"lookup_order": (0.02, 40), "issue_refund": (0.15, 300), "send_message": (0.05, 120)}

    def call(n: int) -> dict:
        tool = chance.choices(list(tools), [6, 1, 3])[0]
        fails, takes = tools[tool]
        end = {"error": {"type": "Busy", "message": "try later"}} if chance.random() < fails else {"result": {"ok": True}}
        names = {"conversation_id": f"conv_{n // 10}", "user_id": f"usr_{n % 23}", "tool_name": tool}
        return {**names, **end, "duration_ms": takes * chance.lognormvariate(0, 0.6)}

    log.record_batch(call(n) for n in range(500))


def chart(tools: list[dict]) -> str:
    """A line for each tool: successes, failures, how long it takes."""
    most = max(tool["total_calls"] for tool in tools)
    lines = []
    for tool in tools:
        good = round(40 * tool["total_calls"] * tool["success_rate"] / most)
        bad = round(40 * tool["total_calls"] / most) - good
        bar = "█" * good + "░" * bad
        lines.append(f"{tool['tool']:<14} {bar:<40} {tool['total_calls']:>5} calls, p95 {tool['p95_duration_ms']:.0f} ms")
    return "\n".join(lines)


def plot(tools: list[dict], to: Path) -> bool:
    """The same with matplotlib; False if it is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [tool["tool"] for tool in tools]
    good = [tool["total_calls"] * tool["success_rate"] for tool in tools]
    figure, (calls, times) = pyplot.subplots(1, 2, figsize=(9, 3), layout="constrained")
    calls.barh(names, good, label="ok")
    calls.barh(names, [tool["total_calls"] - ok for tool, ok in zip(tools, good)], left=good, label="failed")
    calls.set_xlabel("calls")
    calls.legend()
    times.barh(names, [tool["p95_duration_ms"] for tool in tools])
    times.set_xlabel("95 of 100 calls took at most, ms")
    figure.savefig(to)
    return True


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "audit.log")
    with attestlog.AuditLog.open_or_create(path) as log:
        if not log.statistics():
            make_up(log)
        tools = sorted(log.statistics(), key=lambda tool: -tool["total_calls"])
    if plot(tools, Path("tool_use.png")):
        print("wrote tool_use.png")
    else:
        print(chart(tools))


if __name__ == "__main__":
    main()
