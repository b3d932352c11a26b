//! Writes redb's commits so that small ones need one sync, and others two.
//!
//! redb commits in two phases: it writes the pages and the header with the new commit in it and syncs, then writes the header
//! that names the commit and syncs again. If all that was written fits a tally, the first sync is left out, and the tally written in
//! its place (R121). Every other commit gets both syncs, those too for which redb asks for one only (when it compacts the file), and
//! an empty tally with the second.
//!
//! The header is held back until the sync that follows it, so that what it names can be synced first.
//!
//! Until the next commit is synced, a crash makes the tally of the last one decide, so what it lists must not change, though redb may
//! have given up such a page (one that it wrote early, because its memory was full). Whatever is written is compared with the list.
//!
//! redb takes no notice of the failure of such an early write, which may be that of a sync made before it. After a failed sync the
//! system takes what was to be synced for written, so no later sync can be trusted, and all of them fail until the file is opened again.

use crate::store::file::pages::header::{FLAGS, HEADER_BYTES, Header, IS_OPEN, PRIMARY};
use crate::store::file::pages::tally::{self, Tally};
use redb::StorageBackend;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Raw = [u8; HEADER_BYTES];

/// What was written and is not synced, and which commits have a tally.
#[derive(Debug, Default)]
pub(crate) struct OneSync(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The commit in force: the one that the header names, once anything is known of the file.
    named: Option<usize>,
    /// The commits whose tally is in the file, by their bytes in the header, and what the tally lists.
    tallied: [Option<(Vec<u8>, Vec<Range<u64>>)>; 2],
    /// A header that is not written yet, and the one in the file.
    header: Option<Box<Raw>>,
    last: Option<Box<Raw>>,
    /// What else was written since the last sync.
    unsynced: Unsynced,
    /// How a sync failed.
    failed: Option<io::ErrorKind>,
}

#[derive(Debug)]
enum Unsynced {
    Few(Tally),
    /// More than a tally lists, or something twice.
    Much,
}

impl Default for Unsynced {
    fn default() -> Unsynced {
        Unsynced::Few(Tally::default())
    }
}

impl OneSync {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads; `flags` are those with which redb is to open the file, until it has written the header itself.
    pub(crate) fn read(
        &self,
        bytes: &dyn StorageBackend,
        offset: u64,
        out: &mut [u8],
        flags: Option<u8>,
    ) -> io::Result<()> {
        if offset >= HEADER_BYTES as u64 {
            return bytes.read(offset, out);
        }
        let state = self.state();
        bytes.read(offset, out)?;
        let at = offset as usize;
        if let Some(header) = &state.header {
            let end = HEADER_BYTES.min(at + out.len());
            out[..end - at].copy_from_slice(&header[at..end]);
        } else if let Some((flags, place)) = flags.filter(|_| state.named.is_none()).zip(FLAGS.checked_sub(at))
            && let Some(place) = out.get_mut(place)
        {
            *place = flags;
        }
        Ok(())
    }

    pub(crate) fn write(&self, bytes: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.named.is_none() {
            state.load(bytes)?;
        }
        if let (0, Ok(header)) = (offset, <&Raw>::try_from(data)) {
            state.header = Some(Box::new(*header));
            return Ok(());
        }
        state.keep(bytes, &(offset..offset.saturating_add(data.len() as u64)))?;
        if let Unsynced::Few(tally) = &mut state.unsynced
            && !tally.add(offset, data)
        {
            state.unsynced = Unsynced::Much;
        }
        drop(state);
        bytes.write(offset, data)
    }

    pub(crate) fn set_len(&self, bytes: &dyn StorageBackend, length: u64) -> io::Result<()> {
        self.state().keep(bytes, &(length..u64::MAX))?;
        bytes.set_len(length)
    }

    pub(crate) fn sync(&self, bytes: &dyn StorageBackend) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        let Some(header) = state.header.take() else {
            return state.sync(bytes);
        };
        let named = usize::from(header[FLAGS] & PRIMARY);
        // It may hold a commit that it does not name yet.
        let next = named ^ 1;
        if !state.has_tally(&header, named) {
            if !matches!(&state.unsynced, Unsynced::Few(tally) if tally.runs.is_empty()) {
                state.sync(bytes)?;
            }
            state.unsynced = Unsynced::default();
            state.tally(bytes, &header, named)?;
            if state.named == Some(named) {
                // Once the header says that the file is open, nobody believes this commit without its tally.
                state.sync(bytes)?;
            }
        } else if state.is_new(&header, next) && state.is_open(&header) && matches!(state.unsynced, Unsynced::Few(_)) {
            state.tally(bytes, &header, next)?;
            return state.write(bytes, header);
        }
        if header[FLAGS] & IS_OPEN == 0 && state.named == Some(named) {
            // Whatever happens to the pages of a closed file later is damage, and takes no commit back.
            state.vouch(bytes)?;
        }
        state.write(bytes, header)?;
        state.sync(bytes)?;
        state.named = Some(named);
        Ok(())
    }
}

impl State {
    /// Learns which commits of the file have a tally.
    fn load(&mut self, bytes: &dyn StorageBackend) -> io::Result<()> {
        if bytes.len()? < HEADER_BYTES as u64 {
            self.named = Some(0);
            return Ok(());
        }
        let mut header = [0; HEADER_BYTES];
        bytes.read(0, &mut header)?;
        for slot in 0..2 {
            let commit = tally::commit(&header, slot);
            let written = tally::check(bytes, slot, commit)?;
            self.tallied[slot] = written.map(|written| (commit.to_vec(), written.runs));
        }
        self.last = Some(Box::new(header));
        self.named = Some(Header::settled(bytes)?.named);
        Ok(())
    }

    /// Whether the header has another commit there than the file.
    fn is_new(&self, header: &Raw, slot: usize) -> bool {
        self.last.as_ref().is_some_and(|last| tally::commit(last, slot) != tally::commit(header, slot))
    }

    /// Whether the file says, before and after, that it is not closed. Otherwise nobody looks at tallies; redb commits so when it
    /// repairs a file.
    fn is_open(&self, header: &Raw) -> bool {
        self.last.as_ref().is_some_and(|last| last[FLAGS] & header[FLAGS] & IS_OPEN != 0)
    }

    fn has_tally(&self, header: &Raw, slot: usize) -> bool {
        self.tallied[slot].as_ref().is_some_and(|(of, _)| of == tally::commit(header, slot))
    }

    /// Writes the tally of this commit of the header.
    fn tally(&mut self, bytes: &dyn StorageBackend, header: &Raw, slot: usize) -> io::Result<()> {
        if let Unsynced::Few(tally) = &self.unsynced {
            let commit = tally::commit(header, slot);
            bytes.write(tally::place(slot), &tally.stored(commit))?;
            self.tallied[slot] = Some((commit.to_vec(), tally.runs.clone()));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &dyn StorageBackend, header: Box<Raw>) -> io::Result<()> {
        bytes.write(0, &*header)?;
        self.last = Some(header);
        Ok(())
    }

    /// To be called before these bytes are changed: the commit in force no longer depends on them. It was synced.
    fn keep(&mut self, bytes: &dyn StorageBackend, changed: &Range<u64>) -> io::Result<()> {
        let Some(named) = self.named else { return Ok(()) };
        if !self.tallied[named].as_ref().is_some_and(|(_, runs)| tally::overlaps(runs, changed)) {
            return Ok(());
        }
        self.vouch(bytes)?;
        self.sync(bytes)?;
        self.tallied[named].iter_mut().for_each(|(_, runs)| runs.clear());
        Ok(())
    }

    /// Writes an empty tally of the commit in force, which was synced.
    fn vouch(&self, bytes: &dyn StorageBackend) -> io::Result<()> {
        let Some(Some((commit, _))) = self.named.map(|named| &self.tallied[named]) else { return Ok(()) };
        bytes.write(tally::VOUCHED, &Tally::default().stored(commit))
    }

    /// Fails if a sync has failed.
    fn check(&self) -> io::Result<()> {
        let failed = |kind| Err(io::Error::new(kind, "what was written before cannot be synced any more"));
        self.failed.map_or(Ok(()), failed)
    }

    fn sync(&mut self, bytes: &dyn StorageBackend) -> io::Result<()> {
        self.check()?;
        bytes.sync_data().inspect_err(|e| self.failed = Some(e.kind()))?;
        self.unsynced = Unsynced::default();
        Ok(())
    }
}

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
