//! How a command that records ends when it is told to: what it recorded is signed first.
//!
//! Invariant: a signal that would end the process closes the store and then ends it, as that signal does; the same signal once
//! more ends it at once. A signal that whoever started the command has it ignore stays ignored.

use super::exit::Failure;
use attestlog::owner::SharedStore;

/// Watches for such a signal.
#[derive(Debug)]
pub struct Ending {
    #[cfg(unix)]
    told: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(unix)]
impl Ending {
    /// Begins to watch, until the process ends.
    pub fn watch(log: &SharedStore) -> Result<Ending, Failure> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        let told = Arc::new(AtomicBool::new(false));
        let watched = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal));
        let mut signals =
            signal_hook::iterator::Signals::new(watched).map_err(|e| Failure::Store(format!("signals: {e}")))?;
        let (seen, log) = (told.clone(), log.clone());
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let die = move || signal_hook::low_level::emulate_default_handler(signal);
                if seen.swap(true, Ordering::SeqCst) {
                    let _ = die();
                }
                let log = log.clone();
                std::thread::spawn(move || {
                    // Where it cannot be signed now, the next command that records signs it.
                    let _ = log.close();
                    let _ = die();
                });
            }
        });
        Ok(Ending { told })
    }

    /// Leaves the end to the signal, if there was one: what the command says of the closed store is of no use to anybody.
    pub fn wait_if_told(&self) {
        while self.told.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// Whether this process was started so that it ignores a signal, as far as the system tells.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

#[cfg(not(unix))]
impl Ending {
    pub fn watch(_: &SharedStore) -> Result<Ending, Failure> {
        Ok(Ending {})
    }

    pub fn wait_if_told(&self) {}
}
