//! Starts the server of `mcp` so that it does not outlive this process.
//!
//! A host that gives up waiting kills its child, which is this process, with SIGKILL; the server must end with it, as it
//! would if it were the host's child. On Linux the kernel signals a process that asked for it when its parent ends; so the
//! program starts itself, asks for that signal, checks that the parent is still there, and becomes the server. Elsewhere a
//! server that ignores the end of its input outlives a proxy that is killed.

use super::exit::{Failure, Outcome};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::io;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Become another program that ends with its parent
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The process id of its parent
    parent: u32,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Reports why `command` cannot be started, if that is known in advance.
pub fn check(command: &[OsString]) -> Result<(), Failure> {
    let Some(program) = command.first() else { return Err(Failure::Input("there is no command".to_owned())) };
    #[cfg(unix)]
    if let Err(why) = find(program) {
        return Err(Failure::Input(format!("the server cannot be started: {why}")));
    }
    #[cfg(not(unix))]
    let _ = program;
    Ok(())
}

/// Finds the file for a program's name as the system does; if there is none, says why.
#[cfg(unix)]
fn find(program: &OsStr) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;
    let name = program.display();
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        let from = match std::env::current_dir() {
            Ok(folder) if path.is_relative() => format!(" (looked for from {})", folder.display()),
            _ => String::new(),
        };
        return runs(&path).map(|()| path.clone()).map_err(|why| format!("{name} {why}{from}"));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut other = None;
    for folder in std::env::split_paths(&folders) {
        let path = folder.join(program);
        match runs(&path) {
            Ok(()) => return Ok(path),
            Err(why) if path.exists() => other = other.or(Some(format!("{} {why}", path.display()))),
            Err(_) => {}
        }
    }
    let there = other.map_or_else(String::new, |other| format!("; {other}"));
    Err(format!("{name} is in no folder of PATH ({}){there}; name the program by its whole path", folders.display()))
}

/// Fails with the reason if the file at `path` cannot be run.
#[cfg(unix)]
fn runs(path: &Path) -> Result<(), String> {
    use nix::unistd::{AccessFlags, access};
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err("does not exist".to_owned()),
        Err(e) => Err(format!("cannot be looked at: {e}")),
        Ok(about) if about.is_dir() => Err("is a folder".to_owned()),
        Ok(_) => access(path, AccessFlags::X_OK).map_err(|_| {
            "is not executable: set its x permission, or name the program that runs it before it".to_owned()
        }),
    }
}

/// The error for a program that exists and does not run.
fn failed(program: &OsStr, e: &io::Error) -> Failure {
    let why = match e.kind() {
        io::ErrorKind::NotFound => ": it is not there, or the interpreter that its first line names is not",
        _ => "",
    };
    Failure::Input(format!("the server cannot be started: {}: {e}{why}", program.display()))
}

/// Starts `command`; `with` sets its input and output.
pub fn start(command: &[OsString], with: impl Fn(&mut Command) -> &mut Command) -> Result<Child, Failure> {
    let Some((program, rest)) = command.split_first() else {
        return Err(Failure::Input("there is no command".to_owned()));
    };
    #[cfg(target_os = "linux")]
    {
        // This very program, even if another file has taken its place since.
        let mut own = attestlog::child::command("/proc/self/exe");
        own.arg("start-child").arg(std::process::id().to_string()).arg("--").args(command);
        if let Ok(child) = with(&mut own).spawn() {
            return Ok(child);
        }
    }
    let mut own = attestlog::child::command(program);
    let child = with(own.args(rest)).spawn();
    child.map_err(|e| failed(program, &e))
}

/// Asks to be ended with the parent, and becomes the command.
#[cfg(target_os = "linux")]
pub fn run(args: &StartArgs) -> Outcome {
    use nix::sys::{prctl, signal::Signal};
    use std::os::unix::process::CommandExt;
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::Input("there is no command".to_owned()));
    };
    // If this fails the server runs all the same, and ends when its input does, or is ended.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if parent() != Some(args.parent) {
        return Err(Failure::Input("the parent ended before the server was started".to_owned()));
    }
    let e = attestlog::child::command(program).args(rest).exec();
    Err(failed(program, &e))
}

#[cfg(not(target_os = "linux"))]
pub fn run(args: &StartArgs) -> Outcome {
    Err(Failure::Input(format!("{:?} is not started this way here", args.command)))
}

/// The process id of this process's parent; it changes when the parent has ended.
pub fn parent() -> Option<u32> {
    #[cfg(unix)]
    return u32::try_from(nix::unistd::getppid().as_raw()).ok();
    #[cfg(not(unix))]
    None
}

/// Tells a child to end.
pub fn tell_to_end(child: &mut Child) {
    #[cfg(unix)]
    if let Ok(id) = i32::try_from(child.id()) {
        // The child may have ended just now.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
    }
    #[cfg(not(unix))]
    let _ = child.kill();
}
