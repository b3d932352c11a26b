//! A copy brought back as the store.

use crate::json::{Json, Object};
use crate::store::file::panic_guard::guarded;
use crate::store::maintain::backup::{Partial, file_name, lock_source};
use crate::store::options::Options;
use crate::{AuditLog, Error, Kind, Result, VerifyOptions};
use std::fs::File;
use std::io;
use std::path::Path;

/// The longest name or reason that is recorded.
const MAX_TEXT_BYTES: usize = 64 << 10;

impl AuditLog {
    /// Brings a store back with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::restore`].
    pub fn restore(src: impl AsRef<Path>, dest: impl AsRef<Path>, actor: &str, reason: &str) -> Result<AuditLog> {
        Options::new().restore(src, dest, actor, reason)
    }
}

impl Options {
    /// Makes the store at `dest` out of the copy at `src` and opens it. An entry says that it was restored, by whom and
    /// why, from which file and up to where; where the key file has signed more than the copy has, it names that too, so
    /// that what was lost between the two is known to be lost. Without that entry an older copy in the place of a newer one
    /// is a rollback, and is refused when something is recorded.
    ///
    /// The key file is looked for as by [`Options::open`]: beside `dest`, unless it was said where. It is the present one, also
    /// for a copy from before the epoch key was changed: the entry says how the epochs that the copy lacks were handed over to
    /// ([`MAX_ROTATIONS`](crate::keys::MAX_ROTATIONS) at most). What was purged after the copy was made is back; it has
    /// expired, so the next purge takes it again.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without actor or reason; [`AlreadyExists`](crate::ErrorKind::AlreadyExists) where
    /// anything stands at `dest`; [`NotFound`](crate::ErrorKind::NotFound), [`NotAStore`](crate::ErrorKind::NotAStore),
    /// [`Locked`](crate::ErrorKind::Locked) for `src`; [`Damaged`](crate::ErrorKind::Damaged) where a verification finds anything in it, with the
    /// first [`Finding`](crate::Finding) as its source; as [`Options::open`] and [`AuditLog::record`]. Then nothing was made.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let (backup, store) = (dir.path().join("backup.log"), dir.path().join("audit.log"));
    /// # let log = Options::new().without_keys().in_memory()?;
    /// # log.backup(&backup)?;
    /// let log = AuditLog::restore(&backup, &store, "ops@example.com", "disk failure on 6 July")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(
        mut self,
        src: impl AsRef<Path>,
        dest: impl AsRef<Path>,
        actor: &str,
        reason: &str,
    ) -> Result<AuditLog> {
        let (src, dest) = (src.as_ref(), dest.as_ref());
        for (name, text) in [("actor", actor), ("reason", reason)] {
            if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
                return Err(Error::invalid(format!("{name}: must have 1 to {MAX_TEXT_BYTES} bytes and no NUL")));
            }
        }
        let name = file_name(src)?;
        let lock = guarded(|| lock_source(src))?;
        let (partial, mut file) = Partial::create(dest)?;
        io::copy(&mut File::open(src)?, &mut file).map_err(|e| Error::from(e).at(dest.display()))?;
        drop(lock);
        partial.sync(file)?;
        self.check_copy(dest).map_err(|e| e.at(src.display()))?;
        self.settings.restoring = true;
        let log = self.open(dest)?;
        let recorded = log.engine().with_writer(|engine, writer| {
            let (size, head) = (writer.state.size, writer.state.head);
            let mut detail = Object::from_iter([
                ("actor", Json::from(engine.clean(actor)?)),
                ("reason", engine.clean(reason)?.into()),
                ("file", engine.clean(&name)?.into()),
                ("size", size.into()),
                ("head", head.to_string().into()),
            ]);
            // What lies under these stays sealed, and no later row may name another that is not here.
            let gone = engine.masters_missing()?;
            if !gone.is_empty() {
                detail.insert("master_keys_gone", gone.into_iter().collect::<Vec<_>>());
            }
            let root_at = |size| crate::merkle::root(&engine.stored()?, size);
            if let (Some(keys), Some(succession)) = (&*engine.keys(), &engine.chain_state().succession) {
                let last = succession.current();
                let since = keys.file.rotations_since(last.key(), last.number())?;
                if !since.is_empty() {
                    detail.insert("rotations", since.iter().map(|r| Json::from(r.to_json())).collect::<Vec<_>>());
                }
            }
            if let Some(keys) = &mut *engine.keys()
                && let Some(mark) = keys.file.accept_restored(size, engine.chain_state().in_force(), &root_at)?
            {
                keys.check_replaceable()?;
                detail.insert("signed_size", mark.size);
                detail.insert("signed_root", mark.root.to_string());
            }
            engine.system_event(writer, Kind::Restore, detail)?;
            // The key file forgets what it had signed only now that the log says why.
            if engine.keys().is_some() { engine.sign(writer).map(|_| ()) } else { Ok(()) }
        });
        match recorded {
            Ok(()) => {
                partial.keep();
                Ok(log)
            }
            Err(e) => {
                drop(log);
                Err(e.at("restore"))
            }
        }
    }
}

impl Options {
    /// Refuses a copy in which a verification finds anything, with the keys where they are here. It changes nothing. What the keys
    /// signed beyond the copy is no finding: it is what the entry about the restoring is for (R62).
    fn check_copy(&self, copy: &Path) -> Result<()> {
        let mut options = self.clone();
        options.settings.is_copy = true;
        let log = options.read_only().background(false).open(copy)?;
        let findings = log.verify(&VerifyOptions::new())?.findings;
        log.close()?;
        let Some(first) = findings.first() else { return Ok(()) };
        Err(Error::damaged(format!(
            "verification finds {} wrong with this copy, so nothing was restored ({first}): restore another backup; \
             `attestlog verify` on the copy says what is wrong, and `attestlog export` still reads it",
            match findings.len() {
                1 => "1 thing".to_owned(),
                n => format!("{n} things"),
            }
        ))
        .with_source(first.clone()))
    }
}
