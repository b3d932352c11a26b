//! How a recording command ends on a signal: what it recorded is signed first.
//!
//! Invariant: a signal that would end the process closes the store, reports what was recorded, and then ends the process as
//! that signal does by default; the same signal a second time ends it at once. A signal that the parent process had set to
//! be ignored stays ignored.

use super::exit::Failure;
use attestlog::AuditLog;

/// Watches for signals that end the process.
#[derive(Debug)]
pub struct Ending {
    #[cfg(unix)]
    told: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(unix)]
impl Ending {
    /// Starts watching, until the process ends. `said` reports what was recorded, once the store is closed.
    pub fn watch(log: &AuditLog, said: impl Fn() + Send + Sync + 'static) -> Result<Ending, Failure> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        let told = Arc::new(AtomicBool::new(false));
        let watched = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal));
        let mut signals =
            signal_hook::iterator::Signals::new(watched).map_err(|e| Failure::Store(format!("signals: {e}")))?;
        let (seen, log, said) = (told.clone(), log.clone(), Arc::new(said));
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let die = move || signal_hook::low_level::emulate_default_handler(signal);
                if seen.swap(true, Ordering::SeqCst) {
                    let _ = die();
                }
                let (log, said) = (log.clone(), said.clone());
                std::thread::spawn(move || {
                    // If it cannot be signed now, the next command that records signs it.
                    let _ = log.close();
                    said();
                    let _ = die();
                });
            }
        });
        Ok(Ending { told })
    }

    /// If a signal came, waits for it to end the process: the command's errors about the closed store would only confuse.
    pub fn wait_if_told(&self) {
        while self.told.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// Whether this process was started with the signal ignored, as far as the system reports.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

#[cfg(not(unix))]
impl Ending {
    pub fn watch(_: &AuditLog, _: impl Fn() + Send + Sync + 'static) -> Result<Ending, Failure> {
        Ok(Ending {})
    }

    pub fn wait_if_told(&self) {}
}
