//! A copy brought back as the store.

use crate::chain_state::{ChainState, Standing};
use crate::json::{Json, Object};
use crate::keys::KeyFile;
use crate::restored::Stands;
use crate::store::engine::Engine;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::panic_guard::guarded;
use crate::store::maintain::backup::{Partial, file_name, lock_source};
use crate::store::open::key_path;
use crate::store::options::Options;
use crate::{AuditLog, Error, ErrorKind, Hash, Kind, Result, VerifyOptions};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

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
    /// A hold, a policy or an emergency grant that was in force and is not in the copy is lost by it. The entry says so where the keys or
    /// the store that was replaced ([`Options::replaces`]) show it, and also where there are no keys that know; then nothing is purged or
    /// erased until [`AuditLog::confirm_restored`].
    ///
    /// The key file is looked for as by [`Options::open`]: beside `dest`, unless it was said where. It is the present one, also
    /// for a copy from before the epoch key was changed: the entry says how the epochs that the copy lacks were handed over to
    /// ([`MAX_ROTATIONS`](crate::keys::MAX_ROTATIONS) at most). What was purged after the copy was made is back; it has
    /// expired, so the next purge takes it again.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where another store uses the key file; [`InvalidInput`](crate::ErrorKind::InvalidInput) without actor or reason; [`AlreadyExists`](crate::ErrorKind::AlreadyExists) where
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
        check_said(actor, reason)?;
        let name = file_name(src)?;
        self.check_unused(dest)?;
        let replaced = self.replaced.as_deref().map(|path| self.look_at(path)).transpose()?;
        let lock = guarded(|| lock_source(src))?;
        let (partial, mut file) = Partial::create(dest)?;
        io::copy(&mut File::open(src)?, &mut file).map_err(|e| Error::from(e).in_file(dest))?;
        drop(lock);
        partial.sync(file)?;
        self.check_copy(dest).map_err(|e| e.in_file(src))?;
        self.settings.restoring = true;
        let log = self.open(dest)?;
        let recorded = log.engine().with_writer(|engine, writer| {
            let detail = Object::from_iter([
                ("actor", Json::from(engine.clean(actor)?)),
                ("reason", engine.clean(reason)?.into()),
                ("file", engine.clean(&name)?.into()),
                ("size", writer.state.size.into()),
                ("head", writer.state.head.to_string().into()),
            ]);
            record(engine, writer, detail, replaced.as_ref())
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

fn check_said(actor: &str, reason: &str) -> Result<()> {
    for (name, text) in [("actor", actor), ("reason", reason)] {
        if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
            return Err(Error::invalid(format!("{name}: must have 1 to {MAX_TEXT_BYTES} bytes and no NUL")));
        }
    }
    Ok(())
}

/// Records, with the writer lock, that the log was restored, and moves the key file's mark to it.
fn record(engine: &Engine, writer: &mut WriterState, mut detail: Object, replaced: Option<&Replaced>) -> Result<()> {
    let size = writer.state.size;
    // What lies under these stays sealed, and no later row may name another that is not here.
    let gone = engine.masters_missing()?;
    if !gone.is_empty() {
        detail.insert("master_keys_gone", gone.into_iter().collect::<Vec<_>>());
    }
    let root_at = |size| crate::merkle::root(&engine.stored()?, size);
    let chain_state = engine.chain_state();
    if let (Some(keys), Some(succession)) = (&*engine.keys(), &chain_state.succession) {
        let last = succession.current();
        let since = keys.file.rotations_since(last.key(), last.number())?;
        if !since.is_empty() {
            detail.insert("rotations", since.iter().map(|r| Json::from(r.to_json())).collect::<Vec<_>>());
        }
    }
    // The keys know what stood when they signed last, where that is kept with each signature.
    let mut stands = Stands::Unknown;
    if let Some(keys) = &mut *engine.keys() {
        if keys.signed().is_some_and(|signed| signed.is_kept) {
            stands = Stands::Kept;
        }
        if let Some(mark) = keys.file.accept_restored(size, chain_state.in_force(), &root_at)? {
            keys.check_replaceable()?;
            detail.insert("signed_size", mark.size);
            detail.insert("signed_root", mark.root.to_string());
            if mark.in_force.standing != chain_state.in_force().standing {
                stands = Stands::Changed;
            }
        }
    }
    let lost = replaced.map(|replaced| replaced.beyond(&chain_state, size, &root_at)).transpose()?.unwrap_or_default();
    if !lost.is_empty() {
        stands = Stands::Changed;
        detail.insert("lost", lost.to_json());
    }
    match stands {
        Stands::Kept => None,
        Stands::Changed => detail.insert("standing", "changed"),
        Stands::Unknown => detail.insert("standing", "unknown"),
    };
    engine.system_event(writer, Kind::Restore, detail)?;
    // The key file forgets what it had signed only now that the log says why.
    if engine.keys().is_some() { engine.sign(writer).map(|_| ()) } else { Ok(()) }
}

/// The store in whose place a copy goes, as far as it could be read.
struct Replaced {
    size: u64,
    root: Hash,
    chain_state: Arc<ChainState>,
}

impl Replaced {
    /// What stands in it and not in the copy of `size` entries; nothing where the copy goes on from it.
    fn beyond(&self, copy: &ChainState, size: u64, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<Standing> {
        let id = |chain_state: &ChainState| chain_state.genesis.as_ref().map(|genesis| genesis.store_id.clone());
        if id(&self.chain_state) != id(copy) {
            return Err(Error::invalid(
                "the store that is to be replaced is another log: name the one that was backed up",
            ));
        }
        match self.size <= size && root_at(self.size)? == self.root {
            true => Ok(Standing::default()),
            false => Ok(self.chain_state.standing_beside(copy)),
        }
    }
}

impl AuditLog {
    /// Says that somebody has looked, after a restoring, at what is in force: that holds, policies and emergency grants which the copy
    /// did not have were placed again, or that none is missing. Until then nothing is purged or erased
    /// ([`Restored::to_do`](crate::Restored::to_do)). `reason` says what was found.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where no restoring wants to be confirmed; [`InvalidInput`](ErrorKind::InvalidInput): no
    /// actor or no reason; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let (backup, store) = (dir.path().join("backup.log"), dir.path().join("audit.log"));
    /// # Options::new().without_keys().in_memory()?.backup(&backup)?;
    /// // A store without keys: nobody knows what was in force beyond the backup.
    /// let log = AuditLog::restore(&backup, &store, "ops@example.com", "disk failure on 6 July")?;
    /// assert!(log.purge("ops@example.com").is_err());
    /// log.confirm_restored("counsel@example.com", "the register of holds has none from after the backup")?;
    /// log.purge("ops@example.com")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn confirm_restored(&self, actor: &str, reason: &str) -> Result<Receipt> {
        check_said(actor, reason)?;
        self.engine().with_writer(|engine, writer| {
            let chain_state = engine.chain_state();
            if chain_state.unconfirmed.is_empty() {
                return Err(Error::new(ErrorKind::Conflict, "there is no restoring that wants to be confirmed"));
            }
            let restorings = chain_state.unconfirmed.keys().map(|seq| Json::from(*seq)).collect::<Vec<_>>();
            let detail = Object::from_iter([
                ("actor", Json::from(engine.clean(actor)?)),
                ("reason", engine.clean(reason)?.into()),
                ("restorings", restorings.into()),
            ]);
            engine.system_event(writer, Kind::RestoreConfirmed, detail)
        })
    }
}

impl Options {
    /// Refuses a key file that another store uses which is there: it would be stopped, since the key file's mark would be the copy's.
    fn check_unused(&self, dest: &Path) -> Result<()> {
        let Some(key) = key_path(self, Some(dest)).filter(|key| key.exists()) else { return Ok(()) };
        let keys = KeyFile::load(&key, self.passphrase.as_deref())?;
        let Some(store) = keys.used_by(&key).filter(|store| store.exists()) else { return Ok(()) };
        let read = Options::new().without_keys().read_only().background(false).open(store);
        let other = |log: &AuditLog| log.public_key().is_none_or(|log_key| log_key != keys.verifier());
        if read.as_ref().is_ok_and(other) {
            return Ok(());
        }
        let message = format!(
            "this key file is used by {}, which would record nothing more after the restoring; nothing was changed. To bring the copy \
             back in its place, move that store away first. To look at the copy beside it, give it keys of its own: `attestlog keys \
             backup {} COPY.key`, and restore with --key COPY.key",
            store.display(),
            store.display()
        );
        Err(Error::new(ErrorKind::Conflict, message).in_file(key))
    }

    /// Reads what stands in the store in whose place the copy goes.
    fn look_at(&self, replaced: &Path) -> Result<Replaced> {
        let mut options = self.clone();
        options.settings.is_copy = true;
        let looked = options.read_only().background(false).open(replaced).and_then(|log| {
            let (size, root) = (log.size(), log.engine().writer().frontier.root());
            let chain_state = log.engine().chain_state();
            log.close().map(|()| Replaced { size, root, chain_state })
        });
        looked.map_err(|e| {
            let message = format!(
"it cannot be read, so what stood in it cannot be named, and nothing was restored ({e}): restore without naming it"
);
            Error::new(e.kind(), message).in_file(replaced).with_source(e)
        })
    }

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
