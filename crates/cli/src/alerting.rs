//! Alerts where entries are recorded: one call for every command that records.
//!
//! Invariant: whatever is wrong with rules, receivers or deliveries is said on standard error and changes nothing of what
//! the command does or how it ends.

use super::beside;
use super::exit::{Failure, complain};
use super::line_reader::Source;
use attestlog::AuditLog;
use attestlog::alert::{AlertEngine, Receivers, RunningEngine};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command that has done its work waits for alerts. What is left then the next one does.
const AT_MOST: Duration = Duration::from_secs(2);
/// Nobody writes a longer one.
const MAX_BYTES: u64 = 1 << 20;

/// An engine at work for a command.
pub struct Alerting(Option<RunningEngine>);

impl Alerting {
    /// Starts the rules of the store's policy, with the receivers that are configured beside it. Where standard output is
    /// `taken`, by a protocol or by receipts, alerts that were to go there go to standard error.
    pub fn start(log: &AuditLog, store: &Path, taken: bool) -> Alerting {
        let receivers = receivers(store).unwrap_or_else(|failure| {
            not_delivered(&failure);
            Receivers::default()
        });
        let with = |receivers: &Receivers| AlertEngine::new(log)?.deliver_to_all(receivers, taken)?.start();
        let running = with(&receivers).or_else(|e| {
            complain(format!("alerts are not delivered: {e}"));
            with(&Receivers::default())
        });
        Alerting(running.map_err(|e| complain(format!("no alerts are raised: {e}"))).ok())
    }

    /// Waits for what was recorded to be looked at and delivered, but not long.
    pub fn finish(self) {
        let Some(running) = self.0 else { return };
        let status = running.finish(AT_MOST);
        if let Some(e) = status.last_error {
            complain(format!("alerts: {e}"));
        }
        for (receiver, why) in status.failing {
            complain(format!("alerts: {receiver}: {why}; it is told later"));
        }
    }
}

fn not_delivered(failure: &Failure) {
    if let Failure::Found(m) | Failure::Input(m) | Failure::Store(m) | Failure::Locked(m) = failure {
        complain(format!("alerts are not delivered: {m}"));
    }
}

/// Where the receivers of a store stand: `STORE.receivers`.
pub fn path(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".receivers");
    path.into()
}

/// The receivers of a store; none where there is no such file.
pub fn receivers(store: &Path) -> Result<Receivers, Failure> {
    let path = path(store);
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Receivers::default()),
        Err(e) => return Err(Failure::file(&path, &e)),
        Ok(about) => beside::trusted(&path, &about, store)?,
    }
    let bytes = Source::open_whole(Some(&path))?.read_all(MAX_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
    Ok(Receivers::from_toml(&text, &path.display().to_string())?)
}

/// Puts receivers into the place of those that a store has.
pub fn configure(store: &Path, receivers: &Receivers) -> Result<(), Failure> {
    use std::io::Write;
    let path = path(store);
    if receivers.0.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(&path, &e)),
            _ => Ok(()),
        };
    }
    let mut out = super::export::OutFile::create(&path, &[])?;
    out.out.write_all(receivers.to_toml().as_bytes()).map_err(|e| Failure::file(&path, &e))?;
    out.finish()
}
