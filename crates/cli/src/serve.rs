//! `serve`: keeps the store open for other processes until it is told to end.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::store::{Alerts, StoreArgs};
#[cfg(unix)]
use attestlog::{AuditLog, Error, ErrorKind};
use clap::Args;
#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

/// Keep the store open for other processes, until SIGTERM or SIGINT
///
/// Not required: whichever process opens a store first serves the others. But with a dedicated owner they need not take
/// over from each other.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Serve even if the store's key file is missing: calls are recorded, the log says so, and what is recorded is not
    /// signed. Without this flag a store whose keys are missing is not served
    #[arg(long)]
    unsigned: bool,
    /// End when nothing was recorded for this time, or if another process has the store open: seconds, or a time such as 10m
    #[arg(long, value_name = "TIME", value_parser = super::named::time)]
    idle: Option<Duration>,
    /// Begin a session of its own, so that what ends whoever started this does not end it too
    #[arg(long, hide = true)]
    detached: bool,
}

/// Closes what this process has inherited beside its standard streams: a pipe or lock of an agent would stay open as long as it
/// does. It has opened nothing itself yet.
#[cfg(unix)]
fn close_inherited() {
    let open = std::fs::read_dir("/dev/fd").into_iter().flatten();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // One of them was that of the folder, which is closed already.
        let _ = nix::unistd::close(number);
    }
}

#[cfg(unix)]
pub fn run(cx: &Context, args: &ServeArgs) -> Outcome {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    if args.detached {
        // Refused to the leader of a group of processes, which nobody ends together with others.
        let _ = nix::unistd::setsid();
        close_inherited();
    }
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|e| Failure::Store(format!("signals: {e}")))?;
    let options = args.store.key.options(cx)?.unsigned(args.unsigned);
    let log = args.store.join(cx, options, Alerts::Raised { taken: false }, None)?;
    let end = signals.handle();
    let (told, waiting, store, idle) = (cx.clone(), log.clone(), args.store.store.clone(), args.idle);
    let owned = std::thread::spawn(move || {
        if !waiting.is_owner() {
            if idle.is_some() {
                told.complain("another process has the store open");
                end.close();
                return Ok(());
            }
            told.complain("another process has the store open; this one takes over when it goes");
        }
        let owned = waiting.wait_to_own().and_then(|()| fit(&told, &waiting, &store));
        match &owned {
            Ok(()) => {
                told.complain("serving the store");
                if let Some(idle) = idle {
                    until_idle(&waiting, idle);
                    end.close();
                }
            }
            // The error may also come from a close; then the signals have ended already.
            Err(_) => end.close(),
        }
        owned
    });
    let signal = signals.forever().next();
    if signal.is_none() {
        let failed = owned.join().map_err(|_| Failure::Store("a thread of this program died".to_owned()))?;
        failed.map_err(|e| args.store.failed(e))?;
    }
    log.close().map_err(|e| args.store.failed(e))?;
    Ok(End::Done)
}

/// Returns when nothing was recorded for this time, or the store was closed.
#[cfg(unix)]
fn until_idle(log: &AuditLog, idle: Duration) {
    use std::time::Instant;
    let (mut size, mut since) = (log.size().ok(), Instant::now());
    while since.elapsed() < idle {
        std::thread::sleep(
            idle.saturating_sub(since.elapsed()).clamp(Duration::from_millis(10), Duration::from_secs(1)),
        );
        match log.size().ok() {
            None => return,
            now if now == size => {}
            now => (size, since) = (now, Instant::now()),
        }
    }
}

/// Refuses to serve if no other process could reach this one, or nothing could be recorded through it because the keys are
/// missing. A store that was opened with damage is served to readers, and a message says so.
#[cfg(unix)]
fn fit(cx: &Context, log: &AuditLog, store: &Path) -> attestlog::Result<()> {
    // What is in the way was said when the store was opened.
    if attestlog::owner::reach(store)?.is_none() {
        return Err(Error::new(ErrorKind::Io, "not served: no other process could reach the store through this one"));
    }
    match log.check_recording() {
        Err(e) if e.kind() == ErrorKind::Damaged => {
            cx.complain(e);
            Ok(())
        }
        fit => fit,
    }
}

#[cfg(not(unix))]
pub fn run(cx: &Context, _: &ServeArgs) -> Outcome {
    cx.complain("not made for this platform yet");
    Err(Failure::Input("serve is not made for this platform yet".to_owned()))
}
