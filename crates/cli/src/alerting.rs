//! Running alert rules in commands that record: one call for each such command.
//!
//! Invariant: any problem with rules, receivers or deliveries is reported on standard error and changes neither what the
//! command does nor how it ends.

use super::beside;
use super::context::Context;
use super::exit::Failure;
use super::line_reader::Source;
use attestlog::AuditLog;
use attestlog::alert::{Receivers, RunningEngine, To};
use attestlog::files::{self, COMPANION_LINE, Writes};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command that has done its work waits for alerts. The next command does the rest.
const AT_MOST: Duration = Duration::from_secs(2);
/// The longest receivers file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A running alert engine of a command.
#[derive(Debug)]
pub struct Alerting {
    cx: Context,
    engine: Option<RunningEngine>,
}

impl Alerting {
    /// Starts the rules of the store's policy, with the receivers that are configured beside it. If standard output is
    /// `taken`, by a protocol or by receipts, alerts that would go there go to standard error.
    pub fn start(cx: &Context, log: &AuditLog, store: &Path, taken: bool) -> Alerting {
        let receivers = receivers(store).unwrap_or_else(|failure| {
            if let Some(m) = failure.message() {
                cx.complain(format!("alerts are not delivered: {m}"));
            }
            Receivers::default()
        });
        let running = log.alerts().engine().and_then(|engine| engine.deliver_to_all(&receivers, taken).start());
        let engine = running.map_err(|e| cx.complain(format!("no alerts are raised: {e}"))).ok();
        Alerting { cx: cx.clone(), engine }
    }

    /// Waits until what was recorded has been evaluated and delivered, but only for a short time.
    pub fn finish(self) {
        let Some(running) = self.engine else { return };
        let status = running.finish(AT_MOST);
        self.cx.raised(status.raised);
        if let Some(e) = status.last_error {
            self.cx.complain(format!(
                "alerts: {e}. What the rules have not looked at, the next process that records looks at"
            ));
        }
        for (receiver, why) in status.failing {
            self.cx.complain(format!("alerts: {receiver}: {why}; what it is owed is delivered later"));
        }
    }
}

/// The path of a store's receivers: `STORE.receivers`.
pub fn path(store: &Path) -> PathBuf {
    files::beside(store, "receivers")
}

/// The receivers of a store; none if there is no such file.
pub fn receivers(store: &Path) -> Result<Receivers, Failure> {
    let path = path(store);
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Receivers::default()),
        Err(e) => return Err(Failure::file(&path, &e)),
        Ok(about) => beside::trusted(&path, &about, store)?,
    }
    let bytes = Source::whole_file(&path)?.read_all(MAX_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
    Ok(Receivers::from_toml(&text, &path.display().to_string())?)
}

/// The receivers named in the text of a configuration file, with absolute paths. Fails if one of them cannot work as things
/// are.
pub fn configured(text: &str, file: &Path) -> Result<Receivers, Failure> {
    let mut receivers = super::config::receivers(text, file)?;
    for receiver in &mut receivers.0 {
        let whole = |path: &mut PathBuf| -> Result<(), Failure> {
            *path = std::path::absolute(&*path).map_err(|e| Failure::file(&*path, &e))?;
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

/// The problems of a store's receivers that keep alerts from being delivered, one sentence each.
pub fn faults(store: &Path) -> Vec<String> {
    match receivers(store) {
        Err(failure) => failure.message().map(|m| format!("no alert is delivered: {m}")).into_iter().collect(),
        Ok(receivers) => {
            let fault = |e: attestlog::Error| format!("alerts are not delivered: {e}");
            receivers.0.iter().filter_map(|receiver| receiver.check().err().map(fault)).collect()
        }
    }
}

/// Replaces the receivers of a store.
pub fn configure(store: &Path, receivers: &Receivers) -> Result<(), Failure> {
    use std::io::Write;
    let path = path(store);
    if receivers.0.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(&path, &e)),
            _ => Ok(()),
        };
    }
    let mut out = super::export::OutFile::create(&path, Writes::Companion)?;
    let text = [COMPANION_LINE, &receivers.to_toml()].concat();
    out.out.write_all(text.as_bytes()).map_err(|e| Failure::file(&path, &e))?;
    out.finish()
}
