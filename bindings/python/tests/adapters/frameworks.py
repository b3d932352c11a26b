"""Tests the adapters with their frameworks: `python3 frameworks.py WHEEL [--latest] [--all | NAME…]`, in an environment for each.

Without names: those that are quick to install. A framework that cannot be installed here is named and left out; one whose tests were
skipped all the same is an error. The versions are those that ADAPTERS.md names; `--latest` takes the newest.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What each adapter's tests need.
FRAMEWORKS = {
    "openai_agents": ["openai-agents==0.24.0"],
    "pydantic_ai": ["pydantic-ai-slim==2.68.0"],
    "langchain": ["langchain==1.5.2", "langgraph==1.2.24"],
    "fastmcp": ["fastmcp==4.2.3"],
    "agent_framework": ["agent-framework-core==1.23.0"],
    "smolagents": ["smolagents==1.26.0"],
    "google_adk": ["google-adk==2.13.0"],
    "claude_agent_sdk": ["claude-agent-sdk==0.2.189"],
}
# Installed within a minute, and small.
QUICK = ["openai_agents", "pydantic_ai", "langchain"]
# How long an installation, and the tests of a framework, may take, in seconds.
INSTALLING, TESTING = 900, 600


def tested(name: str, wheel: Path, latest: bool) -> bool:
    """Whether the tests of an adapter pass, or cannot be run here."""
    packages = [package.split("==")[0] if latest else package for package in FRAMEWORKS[name]]
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "bin", "python")
        began = time.monotonic()
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALLING)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
            subprocess.run([*install, "pytest", *packages, wheel], check=True, timeout=INSTALLING)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failed:
            print(f"SKIPPED: {name}: {' '.join(packages)} cannot be installed here: {failed}", flush=True)
            return True
        installed = time.monotonic() - began
        pytest = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", HERE / f"test_{name}.py"]
        try:
            ran = subprocess.run(pytest, cwd=folder, timeout=TESTING, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            print(f"{name}: the tests took more than {TESTING} s", flush=True)
            return False
    lines = ran.stdout.strip().splitlines() or [ran.stderr.strip()]
    passed = ran.returncode == 0 and " passed" in lines[-1]
    print("" if passed else ran.stdout + ran.stderr, end="")
    print(f"{name}: {lines[-1]}; installed in {installed:.0f} s ({' '.join(packages)})", flush=True)
    return passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(FRAMEWORKS)}")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--latest", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.names) - set(FRAMEWORKS):
        parser.error(f"no such framework: {', '.join(sorted(unknown))}")
    names = list(FRAMEWORKS) if given.all else given.names or QUICK
    failed = [name for name in names if not tested(name, given.wheel.resolve(), given.latest)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
