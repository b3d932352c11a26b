"""The package itself: what it promises in its README, its size, its import, its types."""

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import attestlog

HERE = Path(__file__).resolve().parent.parent


def test_the_readmes_first_lines_work(tmp_path):
    (code, *_) = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'order_id': 'o-1'" in done.stdout and "entry 3 is in the log" in done.stdout and "ok=True" in done.stdout


def test_the_first_page_of_the_project_shows_the_same_lines():
    (own, *_), (shown, *_) = (
        re.findall(r"```python\n(.*?)```", readme.read_text(), re.S) for readme in (HERE / "README.md", HERE.parent.parent / "README.md")
    )
    assert own.startswith(shown)


def test_the_import_loads_nothing_that_takes_long():
    """Twenty milliseconds are promised; asyncio and inspect alone would take them."""
    code = "import sys, attestlog; print(*(name for name in ('asyncio', 'inspect', 'typing', 'json', 'logging', 're') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def environment():
    """An environment in which a Python without site-packages finds the package."""
    import os

    return {**os.environ, "PYTHONPATH": str(Path(attestlog.__file__).parent.parent)}


def test_the_stub_names_what_the_package_has():
    stub = Path(attestlog.__file__).with_suffix(".pyi").read_text()
    named = set(re.findall(r"^(?:class|def|async def) (\w+)", stub, re.M)) - {"Members", "Filters", "Options"}
    assert named == set(attestlog.__all__)
    for name in ["AuditLog", "Begun", "Entry", "Entries", "Receipt", "Verification", "Checked"]:
        body = re.search(rf"^class {name}\b.*?(?=^(?:@final|class|def|async def) |\Z)", stub, re.M | re.S).group()
        methods = set(re.findall(r"^    (?:async )?def (\w+)", body, re.M))
        missing = [method for method in methods if not hasattr(getattr(attestlog, name), method)]
        assert not missing, (name, missing)
        public = {member for member, _ in inspect.getmembers(getattr(attestlog, name)) if not member.startswith("_")}
        attributes = set(re.findall(r"^    (\w+):", body, re.M))
        assert public - methods - attributes <= {"record_begin", "record_end"}, name


def test_everything_public_says_what_it_is():
    for name in attestlog.__all__:
        assert getattr(attestlog, name).__doc__, name
    for name in ["AuditLog", "Begun", "Entry", "Entries", "Timeline", "Receipt"]:
        for member, value in vars(getattr(attestlog, name)).items():
            if not member.startswith("_") and callable(value):
                assert value.__doc__, f"{name}.{member}"


def test_the_example_draws_tool_use(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "examples/tool_use.py"), str(tmp_path / "audit.log")],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "lookup_order" in done.stdout or (tmp_path / "tool_use.png").exists(), textwrap.shorten(done.stdout, 500)
