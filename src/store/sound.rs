//! Whether a file can be written to, before redb does.
//!
//! redb checks its checksums after a crash only. Of a file that was closed cleanly it takes over its own tables as they are:
//! which pages are free, and which become so. Where they are damaged it panics in the middle of its next commit, at the latest
//! in the one with which it closes, and again in a destructor that runs because of the first panic. Nobody can catch that:
//! the process ends. So redb is made to check these tables when the file is opened, as it would after a crash. The tables of
//! the log itself are left out of it: they are most of the file, and verification is for them.
//!
//! Invariant W5: nothing is written to a file whose own tables redb would refuse after a crash, and nothing to one in which
//! redb has panicked while it wrote, not even as it is closed. What was committed can be read all the same.

use super::pages::header::{CHECKSUM, COMMIT_BYTES, COMMITS, FLAGS, HEADER_BYTES, MAGIC, OWN, USER, checksum};
use super::pages::{self, Commit, Flaw, Seen, Shape};
use super::place::check_named;
use super::rows::Held;
use super::storage::Backend;
use super::tables::Stored;
use super::view::{View, Views};
use crate::process::Process;
use crate::{Error, Result};
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};
use std::fs::Metadata;
use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Why nothing may be written to a store that was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    /// This entry, on which the next ones rest, cannot be read.
    Entry(u64),
    /// redb's own tables.
    Tables,
}

impl Damage {
    /// What whoever wants to record is told.
    pub(crate) fn refusal(self) -> Error {
        let what = match self {
            Damage::Entry(seq) => {
                format!("entry {seq} cannot be read, or its text has another hash than it was recorded with")
            }
            Damage::Tables => "the tables in which the file keeps its free pages are damaged".to_owned(),
        };
        Error::damaged(format!(
            "{what}, so nothing is recorded into this store: see what `attestlog verify` finds, and restore a backup"
        ))
    }
}

/// An open database, which is left as a killed process would leave it where nothing may be written to its file.
#[derive(Debug)]
pub(crate) struct Handle {
    /// There until it is dropped.
    database: Option<Database>,
    /// What it lies in.
    bytes: Arc<dyn StorageBackend>,
    /// redb's own tables were damaged when it was opened.
    damaged: bool,
    /// Nothing more is to be written to the file.
    still: AtomicBool,
    views: Views,
    /// How far its index was held against the chain.
    pub held: Mutex<Held>,
    process: Process,
    /// The path that named its file when it was opened, and the file; `None` on other storage.
    named: Option<(PathBuf, Metadata)>,
}

impl Handle {
    /// Opens what lies there, or makes a database where nothing does, and tries nothing.
    pub(crate) fn fresh(builder: &Builder, bytes: Arc<dyn StorageBackend>) -> Result<Handle> {
        let database = Some(builder.create_with_backend(Backend(bytes.clone())).stored()?);
        let (still, views, process) = (AtomicBool::new(false), Views::default(), Process::this());
        Ok(Handle { database, bytes, damaged: false, still, views, held: Mutex::default(), process, named: None })
    }

    /// Opens what lies there and tries its tables.
    pub(crate) fn open(builder: &mut Builder, bytes: Box<dyn StorageBackend>) -> Result<Handle> {
        let bytes: Arc<dyn StorageBackend> = bytes.into();
        // First, so that what is tried is locked.
        let mut handle = Handle::fresh(builder, bytes.clone())?;
        // Until it is known that it may be closed like any other.
        handle.distrust();
        handle.damaged = !is_sound(&bytes)?;
        *handle.still.get_mut() = handle.damaged;
        Ok(handle)
    }

    /// The same with the file that it lies in, and the path that names it.
    pub(crate) fn named(mut self, path: &Path, file: Metadata) -> Result<Handle> {
        // Absolute, so that it names the same whatever folder the process goes to.
        self.named = Some((std::path::absolute(path)?, file));
        Ok(self)
    }

    /// Refuses where the path names another file now, or none.
    pub(crate) fn check_named(&self) -> Result<()> {
        self.named.as_ref().map_or(Ok(()), |(path, file)| check_named(path, file))
    }

    /// From now on nothing more is to be written to the file.
    pub(crate) fn distrust(&self) {
        self.still.store(true, Ordering::SeqCst);
    }

    /// Whether redb's own tables were damaged when it was opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    fn may_write(&self) -> bool {
        !self.still.load(Ordering::SeqCst)
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

impl Handle {
    /// What the file holds now.
    pub(crate) fn view(&self) -> Result<View> {
        View::new(self.database())
    }

    /// What the file held when somebody else looked at it, where that `serves`, otherwise what it holds now.
    pub(crate) fn shared_view(&self, serves: impl Fn(&View) -> bool) -> Result<Arc<View>> {
        self.views.get(self.database(), serves)
    }

    /// The commit that counts. Only while nobody commits.
    pub(crate) fn commit(&self) -> Result<Commit> {
        Ok(Commit::read(&*self.bytes)?)
    }

    /// Goes through the pages of a commit, which somebody still reads.
    pub(crate) fn check(&self, commit: &Commit, shapes: &[Shape], found: &mut dyn FnMut(Flaw)) -> Result<Seen> {
        Ok(pages::check(&*self.bytes, commit, shapes, found)?)
    }

    fn database(&self) -> &Database {
        match &self.database {
            Some(database) => database,
            #[allow(clippy::unreachable, reason = "only `drop` takes it, after which nobody has this")]
            None => unreachable!(),
        }
    }
}

impl Deref for Handle {
    type Target = Database;

    /// Whoever takes the database itself may write to it: what readers share is given up first.
    fn deref(&self) -> &Database {
        self.views.give_up();
        self.database()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // redb would write its last commit over what the other process has written since, and unlock the file for both.
            self.views.forget();
            std::mem::forget(self.database.take());
            return;
        }
        // A panic would be the end of the process where this is dropped because of another.
        let _ = catch_unwind(AssertUnwindSafe(|| self.views.give_up()));
        let Some(database) = self.database.take() else { return };
        if self.may_write() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        } else if cfg!(panic = "unwind") {
            // redb writes nothing as it is closed by a thread that panics; the file is given back all the same. This is no
            // panic that any hook would be told of.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let _database = database;
                resume_unwind(Box::new("closed without a last commit"));
            }));
        } else {
            // Better to keep the file until the process ends than to end the process.
            std::mem::forget(database);
        }
    }
}

/// Whether redb finds nothing wrong with its own tables in this file.
fn is_sound(bytes: &Arc<dyn StorageBackend>) -> Result<bool> {
    let mut header = [0; HEADER_BYTES];
    bytes.read(0, &mut header)?;
    let Some(header) = without_the_log(header) else { return Ok(true) };
    let trial =
        Arc::new(Trial { bytes: bytes.clone(), header, walked: AtomicBool::default(), ended: AtomicBool::default() });
    let walk = trial.clone();
    let mut builder = Builder::new();
    builder.set_cache_size(0).set_repair_callback(move |session| {
        // The last time it asks is when only its own tables are left.
        walk.walked.store(session.progress() > 0.8, Ordering::SeqCst);
    });
    let ended = trial.clone();
    let tried = catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(Trying(trial)).err()));
    if ended.ended.load(Ordering::SeqCst) {
        return Ok(true);
    }
    match tried {
        // The disk cannot be read: that says nothing of what is on it.
        Ok(Some(DatabaseError::Storage(StorageError::Io(e)))) if !is_beyond(&e) => Err(Error::from(e)),
        _ => Ok(false),
    }
}

/// Whether nothing lies where something was looked for.
fn is_beyond(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput)
}

/// The header of the same file with redb's own tables and no others, which was not closed cleanly. Nothing where there is
/// nothing to try: redb has no table in it yet, or it is no header that this program knows.
fn without_the_log(mut header: [u8; HEADER_BYTES]) -> Option<[u8; HEADER_BYTES]> {
    let at = COMMITS + usize::from(header[FLAGS] & 1) * COMMIT_BYTES;
    let mut commit = [0; COMMIT_BYTES];
    commit.copy_from_slice(&header[at..at + COMMIT_BYTES]);
    if !header.starts_with(MAGIC) || commit[OWN] == 0 || commit[CHECKSUM..] != checksum(&commit) {
        return None;
    }
    commit[USER] = 0;
    let sum = checksum(&commit);
    commit[CHECKSUM..].copy_from_slice(&sum);
    // Both, so that there is no other to go back to.
    header[COMMITS..][..COMMIT_BYTES].copy_from_slice(&commit);
    header[COMMITS + COMMIT_BYTES..][..COMMIT_BYTES].copy_from_slice(&commit);
    header[FLAGS] &= !4;
    Some(header)
}

/// A file under another header. The trial is over when redb has read what there is and begins to write.
#[derive(Debug)]
struct Trial {
    bytes: Arc<dyn StorageBackend>,
    header: [u8; HEADER_BYTES],
    walked: AtomicBool,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Trying(Arc<Trial>);

impl StorageBackend for Trying {
    fn len(&self) -> io::Result<u64> {
        self.0.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.bytes.read(offset, out)?;
        if let Some(header) = usize::try_from(offset).ok().and_then(|from| self.0.header.get(from..)) {
            let bytes = header.len().min(out.len());
            out[..bytes].copy_from_slice(&header[..bytes]);
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        self.write(0, &[])
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write(0, &[])
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        // Before it has looked it may put the header right, which it knows from then on.
        if !self.0.walked.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.ended.store(true, Ordering::SeqCst);
        Err(io::Error::other("nothing was wrong"))
    }
}
