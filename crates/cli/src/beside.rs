//! What lies beside a store and says which programs run: `STORE.anchors` and `STORE.receivers`.
//!
//! Invariant: the process that has the store open uses what these files say from the moment on at which a command has written
//! them (R83). Such a command is run in that process, and tells it; a process that takes the store over reads them then.

use super::alerting::{self, Alerting};
use super::anchors;
use super::exit::{Failure, complain};
use super::store::Alerts;
use attestlog::AuditLog;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a process that has a store open uses of them.
#[derive(Debug)]
pub struct Beside {
    store: PathBuf,
    /// The rules at work, where this process lets them look.
    alerting: Mutex<Option<Alerting>>,
}

impl Beside {
    pub fn new(store: PathBuf) -> Arc<Beside> {
        Arc::new(Beside { store, alerting: Mutex::new(None) })
    }

    fn alerting(&self) -> MutexGuard<'_, Option<Alerting>> {
        self.alerting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process has come to own the store, and records: uses what is there now, and lets rules look until what it gives is
    /// dropped.
    pub fn begin(self: &Arc<Beside>, log: &AuditLog, alerts: Alerts) -> Using {
        if let Some(m) = self.anchors(log).err().as_ref().and_then(Failure::message) {
            complain(format!("checkpoints are not anchored: {m}"));
        }
        if let Alerts::Raised { taken } = alerts {
            *self.alerting() = Some(Alerting::start(log, &self.store, taken));
        }
        Using(self.clone())
    }

    /// A command has written them: uses what they say from now on.
    pub fn changed(&self, log: &AuditLog) -> Result<(), Failure> {
        let used = || {
            self.anchors(log)?;
            let receivers = alerting::receivers(&self.store)?;
            self.alerting().as_mut().map_or(Ok(()), |alerting| alerting.deliver_instead_to(&receivers))
        };
        let why = "it is written, but the process that has the store open does not use all of it; start that one anew";
        used().map_err(|failure| failure.at(why))
    }

    fn anchors(&self, log: &AuditLog) -> Result<(), Failure> {
        Ok(log.set_anchors(anchors::of(&self.store)?)?)
    }
}

/// Ends the rules when it is dropped.
pub struct Using(Arc<Beside>);

impl Drop for Using {
    fn drop(&mut self) {
        let ended = self.0.alerting().take();
        if let Some(alerting) = ended {
            alerting.finish();
        }
    }
}

/// Such a file counts only where nobody can write to it but the store's owner, who is the user that runs this program, or the
/// system's administrator: a folder that somebody else hands over or shares must not run his programs as this user.
#[cfg(unix)]
pub fn trusted(path: &Path, about: &Metadata, store: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let owner = match std::fs::metadata(store) {
        Ok(about) => Some(about.uid()),
        // A store that is not there has no owner; whatever needs it says so better.
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
