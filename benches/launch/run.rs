//! Starts a program of the package in `benches/`, built in the same target directory.

use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs it with the arguments of the command line.
pub fn run(name: &str) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--locked", "--quiet", "--bin", name]).arg("--manifest-path").arg(manifest);
    // This program is TARGET/release/deps/NAME-HASH.
    if let Some(target) = std::env::current_exe().ok().as_deref().and_then(|me| me.ancestors().nth(3)) {
        command.arg("--target-dir").arg(target);
    }
    command.arg("--").args(std::env::args_os().skip(1));
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("cargo could not be started: {e}");
            ExitCode::FAILURE
        }
    }
}
