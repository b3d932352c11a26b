//! Restoring a store from a copy.

use crate::chain_state::{ChainState, Standing};
use crate::json::{Json, Object};
use crate::keys::KeyFile;
use crate::restored::{self, Restored, Stands};
use crate::store::OpenStore;
use crate::store::engine::Engine;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::panic_guard::guarded;
use crate::store::maintain::backup::{Partial, file_name, lock_source};
use crate::store::open::key_path;
use crate::store::options::Options;
use crate::store::write::staging::Staging;
use crate::text::Justification;
use crate::verify::VerifyOptions;
use crate::{Error, ErrorKind, Hash, Kind, Result};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The longest actor or reason that is recorded.
const MAX_TEXT_BYTES: usize = 64 << 10;

impl Options {
    /// Restores the copy at `src` to `dest` and opens it: see [`Options::restore`].
    pub(crate) fn restore_store(mut self, src: &Path, dest: &Path, by: Justification<'_>) -> Result<OpenStore> {
        let Justification { actor, reason } = by;
        check_said(actor, reason)?;
        let name = file_name(src)?;
        self.check_unused(dest)?;
        let replaced = self.replaced.as_deref().map(|path| self.look_at(path, dest)).transpose()?;
        if let (Some(path), Some(false)) = (&self.replaced, replaced.as_ref().map(|replaced| replaced.is_newest)) {
            let message = "does not have what the keys signed last, so it is not the store that was in use (an older one, or one that \
                           an earlier restore replaced), and what was lost since cannot be named by it; nothing was restored. Name the \
                           newest store, or restore without naming one";
            return Err(Error::new(ErrorKind::Conflict, message).in_file(path));
        }
        let lock = guarded(|| lock_source(src))?;
        let (partial, mut file) = Partial::beside(dest)?;
        io::copy(&mut File::open(src)?, &mut file).map_err(|e| Error::from(e).in_file(dest))?;
        drop(lock);
        partial.sync(file)?;
        let partial = partial.put_in_place(dest)?;
        self.check_copy(dest).map_err(|e| e.in_file(src))?;
        self.settings.restoring = true;
        let log = self.open_store(dest)?;
        let told = log.restored()?;
        let recorded = log.engine().with_writer(|engine, writer| {
            let detail = Object::from_iter([
                ("actor", Json::from(engine.clean(actor)?)),
                ("reason", engine.clean(reason)?.into()),
                ("file", engine.clean(&name)?.into()),
                ("size", writer.state.size.into()),
                ("head", writer.state.head.to_string().into()),
            ]);
            record(engine, writer, detail, replaced.as_ref(), &told)
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

/// Records, with the writer lock held, that the log was restored, and moves the key file's mark to it. `told` are the restores that
/// the copy itself records.
fn record(
    engine: &Engine,
    writer: &mut WriterState,
    mut detail: Object,
    replaced: Option<&Replaced>,
    told: &[Restored],
) -> Result<()> {
    let size = writer.state.size;
    // Values under these master keys stay sealed, and no later row may name another missing master key.
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
    // The keys show what was in force at their last signature, if it was kept with each signature. A copy of them does not know
    // whether that was the last one (R87).
    let mut stands = Stands::Unknown;
    if let Some(keys) = &mut *engine.keys() {
        if keys.signed().is_some_and(|signed| signed.is_kept) && !keys.was_copy {
            stands = Stands::Kept;
        }
        // An earlier restore that this one undoes would otherwise be forgotten, and with it what that restore lost.
        let is_told =
            |lost: &(u64, Hash)| told.iter().any(|restored| restored.had_signed().any(|known| known == *lost));
        let is_here = |&(lost, root): &(u64, Hash)| lost <= size && root_at(lost).is_ok_and(|here| here == root);
        let earlier: Vec<_> = keys.file.lost().iter().filter(|lost| !is_told(lost) && !is_here(lost)).collect();
        if !earlier.is_empty() {
            detail.insert("earlier", earlier.into_iter().map(restored::loss).collect::<Vec<_>>());
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
    // This entry comes before anything else that the store must record now: entries of another history after the copy's are lost,
    // and the seq of this entry is where the loss begins. Without keys it proves nothing, and the entry that says so comes first.
    let has_keys = engine.keys().is_some();
    let mut staging = Staging::after(engine, writer, has_keys.then(|| (Kind::Restore, detail.clone())))?;
    if !has_keys {
        staging.system_event(Kind::Restore, detail, None)?;
    }
    engine.commit(writer, staging, |_| Ok(()))?;
    // The key file forgets what it signed only after the log records why.
    if engine.keys().is_some() { engine.sign_bare(writer).map(|_| ()) } else { Ok(()) }
}

/// The store that the copy replaces, as far as it could be read.
struct Replaced {
    size: u64,
    root: Hash,
    chain_state: Arc<ChainState>,
    /// Whether it begins with what the keys signed last: otherwise it is not the one that was in use.
    is_newest: bool,
    /// What was lost in restores that this store records and nobody has confirmed.
    lost: Vec<Standing>,
}

impl Replaced {
    /// What is in force in this store and not in the copy of `size` entries; nothing if the copy extends this store.
    fn beyond(&self, copy: &ChainState, size: u64, root_at: &dyn Fn(u64) -> Result<Hash>) -> Result<Standing> {
        let id = |chain_state: &ChainState| chain_state.genesis.as_ref().map(|genesis| genesis.store_id.clone());
        if id(&self.chain_state) != id(copy) {
            return Err(Error::invalid(
                "the store that is to be replaced is another log: name the one that was backed up",
            ));
        }
        match self.size <= size && root_at(self.size)? == self.root {
            true => Ok(Standing::default()),
            false => {
                let mut lost = self.chain_state.standing_beside(copy);
                self.lost.iter().for_each(|earlier| lost.add(earlier));
                Ok(lost)
            }
        }
    }
}

impl OpenStore {
    /// Confirms that somebody checked, after a restore, what is in force: that holds, policies and emergency grants that the copy
    /// lacked were placed again, or that none is missing. Until then nothing is purged or erased
    /// ([`Restored::to_do`](crate::restored::Restored::to_do)). The reason in `by` says what was found.
    pub(crate) fn confirm_restored(&self, by: Justification<'_>) -> Result<Receipt> {
        let Justification { actor, reason } = by;
        check_said(actor, reason)?;
        self.engine().with_writer(|engine, writer| {
            let chain_state = engine.chain_state();
            if chain_state.unconfirmed.is_empty() {
                return Err(Error::new(ErrorKind::Conflict, "there is no restore that has to be confirmed"));
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
    /// Refuses a key file that another, existing store uses: that store could no longer record, since the key file's mark would be
    /// the copy's.
    fn check_unused(&self, dest: &Path) -> Result<()> {
        let Some(key) = key_path(self, Some(dest)).filter(|key| key.exists()) else { return Ok(()) };
        let keys = KeyFile::load(&key, self.passphrase.as_deref())?;
        let Some(store) = keys.used_by(&key).filter(|store| store.exists()) else { return Ok(()) };
        let read = Options::new().without_keys().read_only().background(false).open_store(store);
        let other = |log: &OpenStore| log.public_key().is_none_or(|log_key| log_key != keys.verifier());
        if read.as_ref().is_ok_and(other) {
            return Ok(());
        }
        let message = format!(
            "this key file is used by {}, which could record nothing more after this restore; nothing was changed. To bring the copy \
             back in its place, move that store away first. To look at the copy beside it, give it keys of its own: `attestlog keys \
             backup {} COPY.key`, and restore with --key COPY.key",
            store.display(),
            store.display()
        );
        Err(Error::new(ErrorKind::Conflict, message).in_file(key))
    }

    /// Reads what is in force in the store that the copy replaces.
    fn look_at(&self, replaced: &Path, dest: &Path) -> Result<Replaced> {
        let key = key_path(self, Some(dest)).filter(|key| key.exists());
        let mark = key.and_then(|key| KeyFile::load(&key, self.passphrase.as_deref()).ok()?.mark());
        let mut options = self.clone();
        options.settings.is_copy = true;
        let looked = options.read_only().background(false).open_store(replaced).and_then(|log| {
            let (size, root) = (log.size(), log.engine().writer().frontier.root());
            let chain_state = log.engine().chain_state();
            let is_newest = match mark {
                Some(mark) => {
                    mark.size <= size && crate::merkle::root(&log.engine().stored()?, mark.size)? == mark.root
                }
                None => true,
            };
            let restored = log.restored()?.into_iter().filter(|restored| restored.unconfirmed().is_some());
            let lost = restored.map(|restored| restored.lost).collect();
            log.close().map(|()| Replaced { size, root, chain_state, is_newest, lost })
        });
        looked.map_err(|e| {
            let message = format!(
"it cannot be read, so what it held cannot be named, and nothing was restored ({e}): restore without naming it"
);
            Error::new(e.kind(), message).in_file(replaced).with_source(e)
        })
    }

    /// Refuses a copy if a verification finds anything in it; uses the keys if they are available. Changes nothing. What the keys
    /// signed beyond the copy is not a finding: the restore's entry records it (R62).
    fn check_copy(&self, copy: &Path) -> Result<()> {
        let mut options = self.clone();
        options.settings.is_copy = true;
        let log = options.read_only().background(false).open_store(copy)?;
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
