//! Promise: the Python package works as installed, beside this program: its wheel is built, installed into an environment of its own,
//! and tested there, with this program reading and recording through Python and the other way round.
//!
//! What is needed besides is installed into `target/`. Where Python, pip's index or a crate cannot be had, the test says so; with
//! `ATTESTLOG_REQUIRE_PYTHON=1` that is a failure.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn the_python_package_is_built_installed_and_tested() {
    if let Err(why) = try_it() {
        assert!(std::env::var_os("ATTESTLOG_REQUIRE_PYTHON").is_none(), "required, but {why}");
        say(&format!("SKIPPED: the Python package was not tested: {why}"));
    }
}

/// What could not be had, as far as that is no fault of the package; a fault of the package is a panic.
fn try_it() -> Result<(), String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bindings/python");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-package");
    let python = python(&place)?;
    let fetch = ["fetch", "--quiet", "--locked", "--manifest-path"];
    done("cargo fetch", Command::new(env!("CARGO")).args(fetch).arg(package.join("Cargo.toml")))?;

    let wheels = place.join("wheels");
    let built = ran(quiet(&python).arg(package.join("build.py")).arg(&wheels).arg("dev"));
    assert!(built.status.success(), "the wheel cannot be built:\n{}", said(&built));
    let wheel = fs::read_dir(&wheels).unwrap().map(|file| file.unwrap().path()).next().unwrap();
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"];
    let installed = ran(quiet(&python).args(install).arg(&wheel));
    assert!(installed.status.success(), "{}", said(&installed));

    // Elsewhere, so that the installed package is tested and not its sources.
    let tests = package.join("tests");
    let tested = ran(quiet(&python)
        .args(["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"])
        .arg(&tests)
        .current_dir(&place)
        .env("ATTESTLOG_PROGRAM", env!("CARGO_BIN_EXE_attestlog")));
    let said = said(&tested);
    assert!(tested.status.success(), "{said}");
    said.lines().filter(|line| line.contains("SKIPPED") || line.contains(" passed")).for_each(say);
    Ok(())
}

/// A Python that has maturin and pytest.
fn python(place: &Path) -> Result<PathBuf, String> {
    let environment = place.join("environment");
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if done("import", quiet(&python).args(["-c", "import maturin, nanoarrow, pytest"])).is_ok() {
        return Ok(python);
    }
    let new_enough = "import sys; sys.exit(sys.version_info < (3, 10) and 'Python is older than 3.10')";
    done("python3", Command::new("python3").args(["-c", new_enough]))?;
    done("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let wanted =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "maturin>=1.9,<2", "nanoarrow", "pytest"];
    done("pip install", quiet(&python).args(wanted))?;
    Ok(python)
}

/// Python, which leaves no compiled files beside the sources.
fn quiet(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    // Of the test's own build.
    command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

fn ran(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Writes directly to standard error, which the test runner does not capture.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn done(what: &str, command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{what}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{what} failed: {}", said(&output).trim().lines().last().unwrap_or_default())),
    }
}
