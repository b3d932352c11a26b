//! Whether a file can be written to, before redb does.
//!
//! redb checks its checksums after a crash only. Of a file that was closed cleanly it takes over its own tables as they are:
//! which pages are free, and which become so. Where they are damaged it panics in the middle of its next commit, at the latest
//! in the one with which it closes, and again in a destructor that runs because of the first panic. Nobody can catch that:
//! the process ends. So our own reader of its pages goes through these tables first, when redb has locked the file and read
//! nothing yet. The tables of the log itself are left out: they are most of the file, and verification is for them.
//!
//! Invariant W5: nothing is written to a file whose own tables are not as redb writes them, and nothing to one in which
//! redb has panicked while it wrote, not even as it is closed. What was committed can be read all the same.

use crate::process::Process;
use crate::store::file::first_look::FirstLook;
use crate::store::file::held_leaves::HeldLeaves;
use crate::store::file::pages::{self, Flaw, Present, Seen, Shape};
use crate::store::file::panic_guard::{caught, unreadable};
use crate::store::file::paths::check_named;
use crate::store::file::read_view::{ReadView, ReadViews};
use crate::store::file::storage::Backend;
use crate::store::file::tables::Stored;
use crate::store::file::watched::{Watch, Watched};
use crate::{Error, ErrorKind, Result};
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};
use std::fs::Metadata;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Why nothing may be written to a store that was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    /// This entry, on which the next ones rest, cannot be read.
    Entry(u64),
    /// The store's own entries are not found to say what they said when the keys signed last, or contradict each other (R60).
    InForce,
    /// redb's own tables, or the header.
    Tables,
}

/// How far the index of a store that is open was held against the chain.
#[derive(Debug, Default)]
pub(crate) enum Held {
    /// Nothing of it was.
    #[default]
    Not,
    /// The batches before this seq.
    Before(u64),
    /// All that lay in the file when it was opened, and with it what this process adds.
    All,
    /// It is not what the chain says, for this reason. What lies in a file that is open does not change.
    Wrong(String),
}

impl Damage {
    /// What whoever wants to record is told.
    pub(crate) fn refusal(self) -> Error {
        let what = match self {
            Damage::Entry(seq) => {
                format!("entry {seq} cannot be read, or its text has another hash than it was recorded with")
            }
            Damage::InForce => "the policies, holds, keys and emergency grants that are found in it contradict each other, or are \
                 not those that its key file signed: entries, or rows of the index that lead to them, were changed or taken out"
                .to_owned(),
            Damage::Tables => {
                "the tables in which the file keeps its free pages, or its header, are damaged".to_owned()
            }
        };
        Error::damaged(format!(
            "{what}, so nothing is recorded into this store: see what `attestlog verify` finds, and restore a backup"
        ))
    }
}

/// An open database, which is left as a killed process would leave it where nothing may be written to its file.
#[derive(Debug)]
pub(crate) struct DatabaseHandle {
    /// There until it is dropped.
    database: Option<Database>,
    /// What it lies in.
    bytes: Arc<dyn Watch>,
    /// What was found before redb read anything.
    before: Arc<FirstLook>,
    /// Nothing more is to be written to the file.
    still: AtomicBool,
    views: ReadViews,
    /// How far its index was held against the chain.
    pub held: Mutex<Held>,
    /// How far its leaves were held against what is signed.
    pub bound: HeldLeaves,
    process: Process,
    /// The path that named its file when it was opened, and the file; `None` on other storage.
    named: Option<(PathBuf, Metadata)>,
}

impl DatabaseHandle {
    /// Opens what lies there, or makes a database where nothing does, and tries nothing.
    pub(crate) fn fresh(builder: &Builder, bytes: Arc<dyn StorageBackend>) -> Result<DatabaseHandle> {
        DatabaseHandle::with(builder, Arc::new(Watched::new(bytes)), Arc::default())
    }

    fn with(builder: &Builder, bytes: Arc<dyn Watch>, before: Arc<FirstLook>) -> Result<DatabaseHandle> {
        let database = Some(builder.create_with_backend(Backend::after(bytes.clone(), before.clone())).stored()?);
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

    /// Opens what lies there and tries its tables; with `pages` those of the log too, before redb reads any.
    pub(crate) fn open(builder: &mut Builder, bytes: Box<dyn StorageBackend>, pages: bool) -> Result<DatabaseHandle> {
        DatabaseHandle::tried(builder, Arc::new(Watched::new(bytes.into())), pages)
    }

    /// The same where somebody looks after it already.
    pub(crate) fn tried(builder: &mut Builder, bytes: Arc<dyn Watch>, pages: bool) -> Result<DatabaseHandle> {
        let before = Arc::new(FirstLook { asked: true, pages, ..FirstLook::default() });
        let mut handle = match DatabaseHandle::with(builder, bytes, before.clone()) {
            // Otherwise redb's words for what it stumbled over.
            Err(e) if before.is_damaged() && e.kind() != ErrorKind::Locked => return Err(unreadable(e)),
            opened => opened?,
        };
        *handle.still.get_mut() = before.is_damaged();
        Ok(handle)
    }

    /// The same with the file that it lies in, and the path that names it.
    pub(crate) fn named(mut self, path: &Path, file: Metadata) -> Result<DatabaseHandle> {
        // Absolute, so that it names the same whatever folder the process goes to.
        self.named = Some((std::path::absolute(path)?, file));
        Ok(self)
    }

    /// Refuses where the path names another file now, or none, and where something else has written over the file.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.named.as_ref().map_or(Ok(()), |(path, file)| check_named(path, file))?;
        self.check_unchanged()
    }

    /// Refuses where something else has written over the file.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let place = |e: Error| self.named.as_ref().map(|(path, _)| path).into_iter().fold(e, Error::in_file);
        self.bytes.check_unchanged().map_err(place)
    }

    /// What the file holds is known to be another's: every check refuses it from now on.
    pub(crate) fn condemn(&self) {
        self.bytes.condemn();
    }

    /// From now on nothing more is to be written to the file.
    pub(crate) fn poison(&self) {
        self.still.store(true, Ordering::SeqCst);
    }

    /// Whether redb's own tables were damaged when it was opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.before.is_damaged()
    }

    /// Whether the file held a newer commit than the one that counts, which was not finished.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.before.found().is_some_and(|found| found.unfinished)
    }

    fn may_write(&self) -> bool {
        !self.still.load(Ordering::SeqCst) && self.bytes.check_unchanged().is_ok()
    }

    /// Makes the file as small as it can be. It is whole either way; where there is no room to move things there is nothing
    /// to gain.
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
    /// What the file holds now.
    pub(crate) fn view(&self) -> Result<ReadView> {
        ReadView::new(self.database())
    }

    /// What the file held when somebody else looked at it, where that `serves`, otherwise what it holds now.
    pub(crate) fn shared_view(&self, serves: impl Fn(&ReadView) -> bool) -> Result<Arc<ReadView>> {
        self.views.get(self.database(), serves)
    }

    /// The commit that counts. Only while nobody commits.
    pub(crate) fn present(&self) -> Result<Present> {
        Ok(Present::read(&*self.bytes)?)
    }

    /// Goes through the pages of a commit, which somebody still reads.
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
            #[allow(clippy::unreachable, reason = "only `drop` takes it, after which nobody has this")]
            None => unreachable!(),
        }
    }
}

impl Drop for DatabaseHandle {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // redb would write its last commit over what the other process has written since, and unlock the file for both.
            self.views.forget();
            std::mem::forget(self.database.take());
            return;
        }
        // A panic would be the end of the process where this is dropped because of another.
        let _ = caught(|| self.views.give_up());
        let Some(database) = self.database.take() else { return };
        if self.may_write() {
            let _ = caught(|| drop(database));
        } else if cfg!(panic = "unwind") {
            // redb writes nothing as it is closed by a thread that panics; the file is given back all the same. This is no
            // panic that any hook would be told of.
            let _ = caught(|| {
                let _database = database;
                resume_unwind(Box::new("closed without a last commit"));
            });
        } else {
            // Better to keep the file until the process ends than to end the process.
            std::mem::forget(database);
        }
    }
}
