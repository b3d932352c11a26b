//! Alerts where entries are recorded: one call for every command that records.
//!
//! Invariant: whatever is wrong with rules, receivers or deliveries is said on standard error and changes nothing of what
//! the command does or how it ends.

use super::beside;
use super::console;
use super::exit::{Failure, complain};
use super::line_reader::Source;
use attestlog::AuditLog;
use attestlog::alert::{AlertEngine, Receivers, RunningEngine, To};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command that has done its work waits for alerts. What is left then the next one does.
const AT_MOST: Duration = Duration::from_secs(2);
/// Nobody writes a longer one.
const MAX_BYTES: u64 = 1 << 20;

/// An engine at work for a command.
#[derive(Debug)]
pub struct Alerting {
    engine: Option<RunningEngine>,
    /// Standard output is for something else.
    taken: bool,
}

impl Alerting {
    /// Starts the rules of the store's policy, with the receivers that are configured beside it. Where standard output is
    /// `taken`, by a protocol or by receipts, alerts that were to go there go to standard error.
    pub fn start(log: &AuditLog, store: &Path, taken: bool) -> Alerting {
        let receivers = receivers(store).unwrap_or_else(|failure| {
            if let Some(m) = failure.message() {
                complain(format!("alerts are not delivered: {m}"));
            }
            Receivers::default()
        });
        let running = AlertEngine::new(log).and_then(|engine| engine.deliver_to_all(&receivers, taken).start());
        let engine = running.map_err(|e| complain(format!("no alerts are raised: {e}"))).ok();
        Alerting { engine, taken }
    }

    /// Goes on with the receivers that the store has now.
    pub fn deliver_instead_to(&mut self, receivers: &Receivers) -> Result<(), Failure> {
        let receivers = receivers.open(self.taken);
        Ok(self.engine.as_mut().map_or(Ok(()), |engine| engine.deliver_instead(receivers))?)
    }

    /// Waits for what was recorded to be looked at and delivered, but not long.
    pub fn finish(self) {
        let Some(running) = self.engine else { return };
        let status = running.finish(AT_MOST);
        if let Some(e) = status.last_error {
            complain(format!("alerts: {e}"));
        }
        for (receiver, why) in status.failing {
            complain(format!("alerts: {receiver}: {why}; it is told later"));
        }
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

/// The receivers of a configuration file's text that a store is to have: with whole paths, and none that could not be told
/// anything as things are.
pub fn configured(text: &str, file: &Path) -> Result<Receivers, Failure> {
    let mut receivers = super::config::receivers(text, file)?;
    for receiver in &mut receivers.0 {
        let whole = |path: &mut PathBuf| -> Result<(), Failure> {
            *path = std::path::absolute(console::path(path)).map_err(|e| Failure::file(&*path, &e))?;
            Ok(())
        };
        match &mut receiver.to {
            To::File(path) | To::Webhook(_, path) => whole(path)?,
            _ => {}
        }
        receiver.check().map_err(|e| Failure::Input(format!("{}: {e}", file.display())))?;
    }
    Ok(receivers)
}

/// What is wrong with the receivers that a store has, so that alerts go nowhere: a sentence each.
pub fn faults(store: &Path) -> Vec<String> {
    match receivers(store) {
        Err(failure) => failure.message().map(|m| format!("no alert is delivered: {m}")).into_iter().collect(),
        Ok(receivers) => {
            let fault = |e: attestlog::Error| format!("alerts are not delivered: {e}");
            receivers.0.iter().filter_map(|receiver| receiver.check().err().map(fault)).collect()
        }
    }
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
