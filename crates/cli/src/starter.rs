//! Starts the server of `mcp`, so that it does not outlive this process.
//!
//! A host that waits no longer kills its child with SIGKILL, and its child is this process: the server must go with it, as it
//! goes without it. On Linux the kernel sends a signal when a parent ends, to who asked for it; so the program starts
//! itself, asks, looks whether the parent is still there, and becomes the server. Elsewhere a server that ignores the
//! end of its input outlives a proxy that is killed.

use super::exit::{Failure, Outcome};
use clap::Args;
use std::ffi::OsString;
use std::process::{Child, Command};

/// Become another program that ends with its parent
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The process that is its parent
    parent: u32,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Starts `command`; `with` says where its input and output go.
pub fn start(command: &[OsString], with: impl Fn(&mut Command) -> &mut Command) -> Result<Child, Failure> {
    let Some((program, rest)) = command.split_first() else {
        return Err(Failure::Input("there is no command".to_owned()));
    };
    #[cfg(target_os = "linux")]
    {
        // This very program, also where another file has taken its place since.
        let mut own = attestlog::child::command("/proc/self/exe");
        own.arg("start-child").arg(std::process::id().to_string()).arg("--").args(command);
        if let Ok(child) = with(&mut own).spawn() {
            return Ok(child);
        }
    }
    let mut own = attestlog::child::command(program);
    let child = with(own.args(rest)).spawn();
    child.map_err(|e| Failure::Input(format!("{}: {e}", program.display())))
}

/// Asks to end with the parent, and becomes the command.
#[cfg(target_os = "linux")]
pub fn run(args: &StartArgs) -> Outcome {
    use nix::sys::{prctl, signal::Signal};
    use std::os::unix::process::CommandExt;
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::Input("there is no command".to_owned()));
    };
    // Where it is not to be had the server runs all the same, and ends when its input does, or is ended.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if parent() != Some(args.parent) {
        return Err(Failure::Input("the parent ended before the server was started".to_owned()));
    }
    let e = attestlog::child::command(program).args(rest).exec();
    Err(Failure::Input(format!("{}: {e}", program.display())))
}

#[cfg(not(target_os = "linux"))]
pub fn run(args: &StartArgs) -> Outcome {
    Err(Failure::Input(format!("{:?} is not started this way here", args.command)))
}

/// The parent of this process; another one when it has ended.
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
        // It may have ended just now.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
    }
    #[cfg(not(unix))]
    let _ = child.kill();
}
