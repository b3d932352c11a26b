//! The files beside a store that say which programs run: `STORE.anchors` and `STORE.receivers`.
//!
//! Invariant: the process that has the store open uses the contents of these files as soon as a command has written them (R83). The
//! command sends them to that process; a process that takes over the store reads them then.

use super::alerting::{self, Alerting};
use super::anchors;
use super::context::Context;
use super::exit::Failure;
use super::store::{Alerts, StoreArgs};
use attestlog::AuditLog;
use attestlog::alert::{Receivers, To};
use attestlog::anchor::{AnchorConfig, Channel};
use attestlog::files::{self, Writes};
use std::fs::Metadata;
use std::path::Path;

/// Called when this process has become the owner of the store and records: uses the present files, and runs rules until the
/// returned value is dropped.
pub fn begin(cx: &Context, log: &AuditLog, store: &Path, alerts: Alerts) -> Using {
    let anchors = anchors::of(store).and_then(|anchors| Ok(log.anchors().set(anchors)?));
    if let Some(m) = anchors.err().as_ref().and_then(Failure::message) {
        cx.complain(format!("checkpoints are not anchored: {m}"));
    }
    Using(match alerts {
        Alerts::Raised { taken } => Some(Alerting::start(cx, log, store, taken)),
        Alerts::Off => None,
    })
}

/// Called when this command has written the files: the process that has the store open uses their contents from now on. If that is
/// this process, it runs only this command, and nothing has to be done. `anchored`: the anchors were written; otherwise those that a
/// host gave its store stay.
pub fn changed(cx: &Context, log: &AuditLog, store: &Path, anchored: bool) -> Result<(), Failure> {
    if log.is_owner() {
        return Ok(());
    }
    let used = || -> Result<(bool, bool), Failure> {
        let anchors = anchors::configured(store)?;
        if anchored {
            log.anchors().set_configured(&anchors)?;
        }
        let receivers = alerting::receivers(store)?;
        Ok((log.alerts().deliver_to(&receivers)?, receivers.0.is_empty()))
    };
    let why = "it is written, but the process that has the store open does not use all of it; start that one anew";
    let (runs, none) = used().map_err(|failure| failure.at(why))?;
    if !runs && !none {
        cx.complain(
            "the process that has the store open runs no alert rules, so alerts are delivered once a process does that runs them: \
             `attestlog alerts watch`, or `attestlog serve` in its place",
        );
    }
    Ok(())
}

/// Refuses anchors and receivers of a configuration file that would be written into a file that is kept for something else: a
/// store, a key file, a file beside a store, or each other's (R98).
pub fn check(store: &StoreArgs, config: &Path, anchors: &[AnchorConfig], receivers: &Receivers) -> Result<(), Failure> {
    let StoreArgs { store, key } = store;
    let key = key.path(store);
    let refuse = |what: &str, e: attestlog::Error| Failure::Input(format!("{}: {what} {e}", config.display()));
    let receivers: Vec<&Path> = receivers
        .0
        .iter()
        .filter_map(|receiver| match &receiver.to {
            To::File(file) => Some(file.as_path()),
            _ => None,
        })
        .collect();
    for file in &receivers {
        files::check_beside(file, Writes::Alerts, store, &key).map_err(|e| refuse("the receiver", e))?;
    }
    for anchor in anchors {
        let Channel::File(file) = &anchor.channel else { continue };
        files::check_beside(file, Writes::Checkpoints, store, &key).map_err(|e| refuse("the anchor", e))?;
        if receivers.iter().any(|receiver| files::is_same_file(receiver, file)) {
            return Err(Failure::Input(format!(
                "{}: {}: is an anchor and a receiver of alerts at once; each needs a file of its own",
                config.display(),
                file.display()
            )));
        }
    }
    Ok(())
}

/// Stops the rules when it is dropped.
pub struct Using(Option<Alerting>);

impl Drop for Using {
    fn drop(&mut self) {
        if let Some(alerting) = self.0.take() {
            alerting.finish();
        }
    }
}

/// Such a file counts only if nobody can write to it but the store's owner, who must be the user that runs this program, or
/// the system's administrator: a folder that somebody else hands over or shares must not run their programs as this user.
#[cfg(unix)]
pub fn trusted(path: &Path, about: &Metadata, store: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let owner = match std::fs::metadata(store) {
        Ok(about) => Some(about.uid()),
        // A store that does not exist has no owner; the code that needs the store gives the better error.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Failure::file(store, &e)),
    };
    let refuse = |why: &str| Err(Failure::Store(format!("{}: {why}, and it says which programs run", path.display())));
    if about.mode() & 0o022 != 0 {
        return refuse("others can write to it (chmod go-w)");
    }
    if about.uid() == 0 {
        return Ok(());
    }
    if owner.is_some_and(|owner| owner != about.uid()) {
        return refuse("it does not belong to the store's owner");
    }
    if about.uid() != nix::unistd::geteuid().as_raw() {
        return refuse("it does not belong to the user who runs this program");
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn trusted(_: &Path, _: &Metadata, _: &Path) -> Result<(), Failure> {
    Ok(())
}
