//! `serve`: has the store open for other processes, until it is told to end.

use super::exit::{End, Failure, Outcome, complain};
use super::store::{Alerts, StoreArgs};
#[cfg(unix)]
use attestlog::owner::SharedStore;
#[cfg(unix)]
use attestlog::{AuditLog, ErrorKind};
use clap::Args;

/// Keep the store open for other processes, until SIGTERM or SIGINT
///
/// Not needed: whichever process opens a store first serves the others. But with one that does nothing else they need
/// not take over from each other.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Serve although the store's key file is missing: calls are recorded, the log says so, and what is recorded is not signed. Without
    /// it a store whose keys are missing is not served
    #[arg(long)]
    unsigned: bool,
}

#[cfg(unix)]
pub fn run(args: &ServeArgs) -> Outcome {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|e| Failure::Store(format!("signals: {e}")))?;
    let options = args.store.key.options()?.unsigned(args.unsigned);
    let joint = args.store.join(options, Alerts::Raised { taken: false }, None)?;
    let end = signals.handle();
    let waiting = joint.clone();
    let owned = std::thread::spawn(move || {
        if waiting.owned(|_| ()).is_none() {
            complain("another process has the store open; this one takes over when it goes");
        }
        let owned = waiting.wait_to_own().and_then(|()| fit(&waiting));
        match &owned {
            Ok(()) => complain("serving the store"),
            // Also after a close: then the signals have ended already.
            Err(_) => end.close(),
        }
        owned
    });
    let told = signals.forever().next();
    if told.is_none() {
        let failed = owned.join().map_err(|_| Failure::Store("a thread of this program died".to_owned()))?;
        failed.map_err(|e| args.store.failed(e))?;
    }
    joint.close().map_err(|e| args.store.failed(e))?;
    Ok(End::Done)
}

/// Refuses where nothing could be recorded through this process for want of keys. A store that was opened with damage is served to
/// those who read it, which is said.
#[cfg(unix)]
fn fit(joint: &SharedStore) -> attestlog::Result<()> {
    match joint.owned(AuditLog::check_recording) {
        Some(Err(e)) if e.kind() == ErrorKind::Damaged => {
            complain(e);
            Ok(())
        }
        fit => fit.unwrap_or(Ok(())),
    }
}

#[cfg(not(unix))]
pub fn run(_: &ServeArgs) -> Outcome {
    complain("not made for this platform yet");
    Err(Failure::Input("serve is not made for this platform yet".to_owned()))
}
