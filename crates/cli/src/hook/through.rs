//! Through which process an event is recorded.
//!
//! If a process has the store open, it records. Otherwise this process opens the store, if that is quick: the store is small and was
//! closed, and its key needs no passphrase. If it is not, a process is started that keeps the store open for the events to come, and ends when
//! none come any more; so does one that has to deliver alerts or checkpoints, which takes longer than an agent should wait.

use super::event::EventArgs;
use crate::context::Context;
use crate::exit::Failure;
use attestlog::child::{self, KEY, PASSPHRASE};
use attestlog::{Sharing, files, owner};
use attestlog_capture::hook::{self, Event};
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(5);
/// Opening a larger file takes more than 40 ms of processor time, as measured (docs/agents/README.md).
const LARGE: u64 = 512 << 10;
/// How often a store that is marked as open is looked at again: the events of tools that run at the same time come at the same time.
const OPENING: usize = 20;
/// The most of its messages that is repeated.
const MOST_SAID: u64 = 4 << 10;

/// Records an event; returns when it is on the disk.
pub fn record(cx: &Context, args: &EventArgs, event: Event) -> Result<(), Failure> {
    let failed = |e: &attestlog::Error| args.store.name(e, Failure::from(e));
    let mut reached = is_reached(args)?;
    // Whoever is just opening or closing it answers soon, or has closed it.
    for _ in 0..OPENING {
        if reached || !owner::was_left_open(&args.store.store) {
            break;
        }
        std::thread::sleep(PAUSE);
        reached = is_reached(args)?;
    }
    if !reached && !is_quick(args)? {
        start(args)?;
        reached = true;
    }
    let mut options = args.store.key.options_without_passphrase()?.compact_on_close(false).background(false);
    if !reached {
        options = options.anchor_on_open(false);
    }
    let mut sharing = Sharing::default();
    sharing.public_key = args.public_key.clone();
    if reached {
        let told = cx.clone();
        sharing.on_trouble = Some(std::sync::Arc::new(move |message| told.complain(message)));
    }
    let log = options.open_with(&args.store.store, sharing).map_err(|e| failed(&e))?;
    if log.is_owner() {
        log.check_recording().map_err(|e| failed(&e))?;
    }
    let recorded = hook::record(&log, event).map_err(|e| failed(&e));
    if log.is_owner() {
        let closed = log.close().map_err(|e| failed(&e));
        recorded.and(closed)
    } else {
        // The process that has the store open signs what this one recorded, and nobody has to wait for that.
        drop(log);
        recorded.map(|_| ())
    }
}

/// Whether a process that records has the store open.
fn is_reached(args: &EventArgs) -> Result<bool, Failure> {
    let reached = owner::reach(&args.store.store).map_err(|e| args.store.failed(e))?;
    Ok(reached.is_some_and(|connection| !connection.reads()))
}

/// Whether opening the store takes no longer than an agent should wait, and there is nothing to do for it beside recording.
fn is_quick(args: &EventArgs) -> Result<bool, Failure> {
    let store = &args.store.store;
    let beside = ["anchors", "receivers"].iter().any(|name| files::beside(store, name).exists());
    let keys = args.store.key.options_without_passphrase()?;
    let is_large = std::fs::metadata(store).is_ok_and(|about| about.len() > LARGE);
    Ok(!beside && !is_large && !owner::was_left_open(store) && owner::keys(&keys, store).is_ok())
}

/// Starts the process that keeps the store open, and waits until it answers.
fn start(args: &EventArgs) -> Result<(), Failure> {
    let mut child = spawn(args).map_err(|e| Failure::Store(format!("the process that keeps the store open: {e}")))?;
    loop {
        if is_reached(args)? {
            return Ok(());
        }
        match child.try_wait() {
            // Another one has the store open, or has just given it up.
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err(Failure::Store(said(&mut child))),
            Ok(None) => std::thread::sleep(PAUSE),
            Err(e) => return Err(Failure::Store(format!("the process that keeps the store open: {e}"))),
        }
    }
}

fn spawn(args: &EventArgs) -> std::io::Result<Child> {
    #[cfg(target_os = "linux")]
    let program = std::path::PathBuf::from("/proc/self/exe");
    #[cfg(not(target_os = "linux"))]
    let program = std::env::current_exe()?;
    let mut command = child::command(program);
    // It is this program, and opens the store as this process would.
    for secret in [KEY, PASSPHRASE] {
        if let Some(value) = std::env::var_os(secret) {
            command.env(secret, value);
        }
    }
    command.arg("serve").arg(std::path::absolute(&args.store.store)?).args(args.store.key.flags());
    command.arg("--idle").arg(args.idle.as_secs_f64().to_string()).arg("--detached");
    // It holds no folder that somebody may want to unmount or remove.
    command.current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

/// What the process said before it ended.
fn said(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(messages) = child.stderr.take() {
        let _ = messages.take(MOST_SAID).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().map(|line| line.trim_start_matches("attestlog: ")).collect();
    format!("the process that keeps the store open ended: {}", lines.join("; "))
}
