//! Decides whether a file is safe to write to, before redb writes.
//!
//! redb verifies its checksums only after a crash. In a file that was closed cleanly it trusts its own tables as they are:
//! which pages are free, and which will be. If they are damaged it panics in the middle of its next commit, at the latest in
//! the one that it makes on closing, and again in a destructor that runs because of the first panic. That cannot be caught:
//! the process ends. So our own page reader checks these tables first, after redb has locked the file and before it has read
//! anything. The tables of the log itself are not checked here: they are most of the file, and verification covers them.
//!
//! Invariant W5: nothing is written to a file whose own tables are not as redb writes them, or to one in which redb has
//! panicked during a write, not even on closing. What was committed can still be read.

use crate::process::Process;
use crate::store::file::first_look::FirstLook;
use crate::store::file::held_leaves::HeldLeaves;
use crate::store::file::one_sync::OneSync;
use crate::store::file::pages::{self, Flaw, Present, Seen, Shape};
use crate::store::file::panic_guard::{caught, unreadable};
use crate::store::file::paths::check_named;
use crate::store::file::read_view::{ReadView, ReadViews};
use crate::store::file::redb_errors::Stored;
use crate::store::file::storage::Backend;
use crate::store::file::watched::{Watch, Watched};
use crate::{Error, ErrorKind, Result};
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};
use std::fs::Metadata;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Why nothing may be written to an open store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    /// This entry, which the next ones build on, cannot be read.
    Entry(u64),
    /// The system events that were found are not those that existed when the keys last signed, or contradict each other
    /// (R60).
    InForce,
    /// redb's own tables, the header, or a table that contradicts the entries.
    Tables,
}

/// How far the index of an open store was checked against the chain.
#[derive(Debug, Default)]
pub(crate) enum Held {
    /// Nothing was checked.
    #[default]
    Not,
    /// The batches before this seq.
    Before(u64),
    /// Everything that was in the file when it was opened, and so also what this process adds.
    All,
    /// It differs from the chain, for this reason. A file does not change while it is open.
    Wrong(String),
}

impl Damage {
    /// The error for callers who want to record.
    pub(crate) fn refusal(self) -> Error {
        let what = match self {
            Damage::Entry(seq) => {
                format!("entry {seq} cannot be read, or its text has another hash than it was recorded with")
            }
            Damage::InForce => "the policies, holds, keys and emergency grants that are found in it contradict each other, or are \
                 not those that its key file signed: entries, or rows of the index that lead to them, were changed or taken out"
                .to_owned(),
            Damage::Tables => {
                "the tables in which the file keeps its free pages and what is derived from its entries, or its header, are damaged"
                    .to_owned()
            }
        };
        Error::damaged(format!(
            "{what}, so nothing is recorded into this store, and its answers may lack what was recorded: see what \
             `attestlog verify` finds, and restore a backup"
        ))
    }
}

/// An open database. If its file must not be written to, it is left as a killed process would leave it.
#[derive(Debug)]
pub(crate) struct DatabaseHandle {
    /// Present until drop.
    database: Option<Database>,
    /// The underlying storage.
    bytes: Arc<dyn Watch>,
    /// What was found before redb read anything.
    before: Arc<FirstLook>,
    /// Whether nothing more may be written to the file.
    still: AtomicBool,
    views: ReadViews,
    /// How far the index was checked against the chain.
    pub held: Mutex<Held>,
    /// How far the leaves were checked against what is signed.
    pub bound: HeldLeaves,
    process: Process,
    /// The path of the file when it was opened, and the file's metadata; `None` on other storage.
    named: Option<(PathBuf, Metadata)>,
}

impl DatabaseHandle {
    /// Opens the storage, or creates a database in it if it is empty, without checking anything.
    pub(crate) fn fresh(builder: &Builder, bytes: Arc<dyn StorageBackend>) -> Result<DatabaseHandle> {
        DatabaseHandle::with(builder, Arc::new(Watched::new(bytes)), Arc::default())
    }

    fn with(builder: &Builder, bytes: Arc<dyn Watch>, before: Arc<FirstLook>) -> Result<DatabaseHandle> {
        let backend = Backend { bytes: bytes.clone(), before: before.clone(), commits: OneSync::default() };
        let database = Some(builder.create_with_backend(backend).stored()?);
        let (still, views, process) = (AtomicBool::new(false), ReadViews::default(), Process::this());
        Ok(DatabaseHandle {
            database,
            bytes,
            before,
            still,
            views,
            held: Mutex::default(),
            bound: HeldLeaves::default(),
            process,
            named: None,
        })
    }

    /// Opens the storage and checks redb's own tables; with `pages` also those of the log, all before redb reads any.
    pub(crate) fn open(builder: &mut Builder, bytes: Box<dyn StorageBackend>, pages: bool) -> Result<DatabaseHandle> {
        DatabaseHandle::tried(builder, Arc::new(Watched::new(bytes.into())), pages, true)
    }

    /// The same for an overlay, which keeps in memory what is written.
    pub(crate) fn over(builder: &mut Builder, bytes: Arc<dyn Watch>, pages: bool) -> Result<DatabaseHandle> {
        DatabaseHandle::tried(builder, bytes, pages, false)
    }

    fn tried(builder: &mut Builder, bytes: Arc<dyn Watch>, pages: bool, writes: bool) -> Result<DatabaseHandle> {
        let before = Arc::new(FirstLook { asked: true, pages, writes, ..FirstLook::default() });
        let mut handle = match DatabaseHandle::with(builder, bytes, before.clone()) {
            // Otherwise the caller would get redb's error for the damage it ran into.
            Err(e) if before.is_damaged() && e.kind() != ErrorKind::Locked => return Err(unreadable(e)),
            opened => opened?,
        };
        *handle.still.get_mut() = before.is_damaged();
        Ok(handle)
    }

    /// Adds the file that the database is in, and its path.
    pub(crate) fn named(mut self, path: &Path, file: Metadata) -> Result<DatabaseHandle> {
        // Absolute, so that it stays valid when the process changes its working directory.
        self.named = Some((std::path::absolute(path)?, file));
        Ok(self)
    }

    /// Fails if the path names another file now, or none, or if another program has overwritten the file.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.named.as_ref().map_or(Ok(()), |(path, file)| check_named(path, file))?;
        self.check_unchanged()
    }

    /// Fails if another program has overwritten the file.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let place = |e: Error| self.named.as_ref().map(|(path, _)| path).into_iter().fold(e, Error::in_file);
        self.bytes.check_unchanged().map_err(place)
    }

    /// Makes every later check fail: the content is known to be foreign.
    pub(crate) fn condemn(&self) {
        self.bytes.condemn();
    }

    /// Forbids all further writes to the file.
    pub(crate) fn poison(&self) {
        self.still.store(true, Ordering::SeqCst);
    }

    /// Whether redb's own tables were damaged when the store was opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.before.is_damaged()
    }

    /// Whether the file held a newer commit than the current one, which was not finished.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.before.found().is_some_and(|found| found.unfinished)
    }

    fn may_write(&self) -> bool {
        !self.still.load(Ordering::SeqCst) && self.bytes.check_unchanged().is_ok()
    }

    /// Compacts the file as far as possible. The file is valid either way; on failure it just stays larger.
    pub(crate) fn tighten(&mut self) {
        self.views.give_up();
        if self.may_write()
            && let Some(database) = &mut self.database
        {
            let _ = database.compact();
        }
    }
}

impl DatabaseHandle {
    /// A read view of the current content.
    pub(crate) fn view(&self) -> Result<ReadView> {
        ReadView::new(self.database())
    }

    /// A read view that another reader opened, if it `serves`; otherwise of the current content.
    pub(crate) fn shared_view(&self, serves: impl Fn(&ReadView) -> bool) -> Result<Arc<ReadView>> {
        self.views.get(self.database(), serves)
    }

    /// The current commit. Only while nobody commits.
    pub(crate) fn present(&self) -> Result<Present> {
        Ok(Present::read(&*self.bytes)?)
    }

    /// Checks the pages of a commit that some reader still holds.
    pub(crate) fn check(&self, present: &Present, shapes: &[Shape], found: &mut dyn FnMut(Flaw)) -> Result<Seen> {
        if let Some((of, flaws, seen)) = self.before.take_pages()
            && of.is_the_same(present)
        {
            flaws.into_iter().for_each(found);
            return Ok(seen);
        }
        Ok(pages::check(&*self.bytes, present, shapes, found)?)
    }

    /// What was wrong with redb's own tables and the header before redb read anything.
    pub(crate) fn flaws_before(&self) -> impl Iterator<Item = Flaw> {
        self.before.found().into_iter().flat_map(|found| found.flaws.iter().cloned())
    }

    /// A transaction of one's own that reads what the file holds now.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction> {
        self.database().begin_read().stored()
    }

    /// A transaction that writes. What readers share is given up first: an old transaction keeps pages from being used again.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction> {
        self.views.give_up();
        self.database().begin_write().stored()
    }

    fn database(&self) -> &Database {
        match &self.database {
            Some(database) => database,
            #[allow(clippy::unreachable, reason = "only `drop` takes it, after which this value cannot be used")]
            None => unreachable!(),
        }
    }
}

impl Drop for DatabaseHandle {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // redb would overwrite what the other process has written since with its last commit, and unlock the file for
            // both.
            self.views.forget();
            std::mem::forget(self.database.take());
            return;
        }
        // A panic during the unwinding of another one would abort the process.
        let _ = caught(|| self.views.give_up());
        let Some(database) = self.database.take() else { return };
        if self.may_write() {
            let _ = caught(|| drop(database));
        } else if cfg!(panic = "unwind") {
            // redb writes nothing when a panicking thread closes it, but still releases the file. `resume_unwind` does not
            // call the panic hook.
            let _ = caught(|| {
                let _database = database;
                resume_unwind(Box::new("closed without a last commit"));
            });
        } else {
            // Keeping the file open until the process ends is better than aborting the process.
            std::mem::forget(database);
        }
    }
}
