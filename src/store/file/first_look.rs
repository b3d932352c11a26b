//! Checks a file after redb has locked it and before redb reads it: some damaged files would mislead redb.
//!
//! Invariant W6: no commit is built on pages that a failed sync may have left in the memory of the operating system alone.
//! When a sync fails, Linux takes the data for written: it can still be read, but no later sync writes it. Most commits name their
//! pages only after they were synced, so one that failed is not in force when the file is opened again. If the last commit was made
//! with one sync, its pages can be read, and may be gone once the power is: so they are written again as they are read, and
//! synced, before anything is based on them. The header redb writes itself.

use crate::store::file::all_tables;
use crate::store::file::pages::header::{HEADER_BYTES, Header};
use crate::store::file::pages::tally::Written;
use crate::store::file::pages::{self, Flaw, Present, Seen};
use redb::StorageBackend;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Checks a file after redb has locked it and before redb reads it.
#[derive(Debug, Default)]
pub(crate) struct FirstLook {
    /// Whether to check at all.
    pub(crate) asked: bool,
    /// Whether to check the pages of the log too.
    pub(crate) pages: bool,
    /// Whether the file may be written to.
    pub(crate) writes: bool,
    pub(crate) found: OnceLock<Found>,
}

#[derive(Debug)]
pub(crate) struct Found {
    /// The flaws of the header and of redb's own tables.
    pub(crate) flaws: Vec<Flaw>,
    pub(crate) unfinished: bool,
    /// The flags of the header with which redb is to open the file, if it was not closed.
    pub(crate) flags: Option<u8>,
    /// The flaws of the whole commit, until they are taken.
    pages: Mutex<Option<(Present, Vec<Flaw>, Seen)>>,
    pub(crate) leads_astray: bool,
}

impl FirstLook {
    /// # Errors
    /// If the file cannot be read, or would mislead redb.
    pub(crate) fn look(&self, bytes: &dyn StorageBackend) -> io::Result<()> {
        if !self.asked || bytes.len()? < HEADER_BYTES as u64 {
            return Ok(());
        }
        let found = match self.found.get() {
            Some(found) => found,
            None => {
                let found = self.first(bytes)?;
                if self.writes && found.flaws.is_empty() && !found.leads_astray {
                    write_again(bytes)?;
                }
                self.found.get_or_init(|| found)
            }
        };
        if found.leads_astray { Err(io::Error::other("a page that leads to others is damaged")) } else { Ok(()) }
    }

    fn first(&self, bytes: &dyn StorageBackend) -> io::Result<Found> {
        let (present, unfinished) = Present::before_opening(bytes)?;
        let (flaws, flags) = (present.flaws.clone(), Header::settled(bytes)?.flags());
        if !self.pages || !present.is_certain() {
            return Ok(Found { flaws, unfinished, flags, pages: Mutex::default(), leads_astray: false });
        }
        let mut all = Vec::new();
        let seen = pages::check(bytes, &present, &all_tables::shapes(), &mut |flaw| all.push(flaw))?;
        let pages = Mutex::new(Some((present, all, seen)));
        Ok(Found { flaws, unfinished, flags, pages, leads_astray: seen.leads_astray })
    }

    pub(crate) fn found(&self) -> Option<&Found> {
        self.found.get()
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.found().is_some_and(|found| !found.flaws.is_empty() || found.leads_astray)
    }

    pub(crate) fn take_pages(&self) -> Option<(Present, Vec<Flaw>, Seen)> {
        self.found()?.pages.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// If the file was not closed, writes again what the last commit wrote with a single sync, and its tally, and syncs them.
fn write_again(bytes: &dyn StorageBackend) -> io::Result<()> {
    let Some(Written { mut runs, tally }) = Header::settled(bytes)?.written else { return Ok(()) };
    runs.push(tally);
    for run in runs {
        let mut data = vec![0; (run.end - run.start) as usize];
        bytes.read(run.start, &mut data)?;
        bytes.write(run.start, &data)?;
    }
    bytes.sync_data()
}
