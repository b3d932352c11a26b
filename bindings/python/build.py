"""Builds the wheel: `python3 build.py OUT`, with maturin in this Python's environment.

Nothing in the wheel names a folder of this machine: the compiler is told other names for them, and the finished wheel is searched.
`python3 build.py OUT dev` builds one for tests: quickly, from what was compiled before, and not to be given away.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def folders() -> dict[Path, str]:
    """Folders of this machine, and what they are called in the wheel."""
    home = Path.home()
    cargo = Path(os.environ.get("CARGO_HOME") or home / ".cargo")
    rustup = Path(os.environ.get("RUSTUP_HOME") or home / ".rustup")
    # Of several that fit, the compiler takes the last.
    return {home: "home", rustup: "rustup", cargo: "cargo", cargo / "registry" / "src": "crates", ROOT: "attestlog"}


def build(out: Path, profile: str) -> Path:
    """Builds the wheel into `out`, and returns its path."""
    env = dict(os.environ)
    if profile == "release":
        remap = [f"--remap-path-prefix={folder}={name}" for folder, name in folders().items()]
        # Functions of which the code is the same are kept once.
        remap.append("-Clink-arg=-Wl,--icf=all")
        env["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join([*env.get("RUSTFLAGS", "").split(), *remap])
    env.setdefault("CARGO_TARGET_DIR", str(ROOT / "target" / "python"))
    for old in out.glob("attestlog-*.whl"):
        old.unlink()
    maturin = [sys.executable, "-m", "maturin", "build", "--locked", "--profile", profile, "--out", str(out)]
    maturin += ["--compression-level", "9"] if profile == "release" else []
    subprocess.run(maturin, cwd=HERE, env=env, check=True)
    (wheel,) = out.glob("attestlog-*.whl")
    return wheel


def named_folders(wheel: Path) -> list[str]:
    """The folders of this machine that the files of a wheel name."""
    found = []
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            content = files.read(name)
            found += [f"{name}: {folder}" for folder in folders() if str(folder).encode() + b"/" in content]
    return found


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    profile = sys.argv[2] if len(sys.argv) > 2 else "release"
    wheel = build(out, profile)
    if profile == "release" and (found := named_folders(wheel)):
        sys.exit("the wheel names folders of this machine:\n" + "\n".join(found))
    print(f"{wheel} ({wheel.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
