//! The tally of a commit: what it wrote, and a SHA-256 over that. It lets a commit do with one sync.
//!
//! A commit that is synced once may be half there after the power went, and something has to tell. redb's own checksums cannot: they
//! are XXH3, and whoever chooses what is recorded can choose it so that a page with a lost sector has the checksum that it
//! should. So the commit's tally is written with it: the place and length of each run of bytes that it wrote, and a SHA-256 over
//! these, over the bytes themselves and over redb's commit in the header.
//!
//! Invariant R121: in a file that was not closed, the newest of the two commits in the header is in force if everything that its
//! tally lists is there as it was written, and otherwise the one before it, which was synced before the newest was begun. The bit of
//! the header that names a commit does not count then: it may have reached the disk without the rest.
//!
//! There is a tally for each of the header's two commits, in the header's page after the header: writing one never touches the
//! other. A commit that was synced before the header named it has an empty list. What a list names stays as it is until the next
//! commit is synced. If redb is about to write over it nevertheless, or closes the file, the commit, which is synced by then, first gets
//! an empty tally in a third place (`one_sync`).

use super::header::{COMMIT_BYTES, HEADER_BYTES};
use super::page::little;
use redb::StorageBackend;
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;

/// Where the tallies of the two commits are, and an empty one of either. No two share a sector, nor does one share the header's.
const PLACES: [u64; 2] = [512, 2048];
const BYTES: usize = 1536;
pub(crate) const VOUCHED: u64 = 3584;
const HASH: usize = 32;
/// Bytes of a place and a length.
const RUN: usize = 12;
/// The length of a tally with an empty list.
const EMPTY: usize = 2 + HASH;
/// The most runs that a tally lists, and the most bytes in them.
const MOST_RUNS: usize = (BYTES - HASH - 2) / RUN;
const MOST_BYTES: usize = 256 << 10;

const _: () = assert!(HEADER_BYTES as u64 <= PLACES[0] && PLACES[0] + BYTES as u64 <= PLACES[1]);
const _: () = assert!(PLACES[1] + BYTES as u64 <= VOUCHED && VOUCHED + EMPTY as u64 <= super::PAGE);

/// A tally being made: what was written since the last sync.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) runs: Vec<Range<u64>>,
    data: Vec<u8>,
}

impl Tally {
    /// Adds bytes that were written. Returns `false` if there is no room for them, or if some of them were added before.
    pub(crate) fn add(&mut self, at: u64, data: &[u8]) -> bool {
        let run = at..at.saturating_add(data.len() as u64);
        let room = self.runs.len() < MOST_RUNS && data.len() <= MOST_BYTES - self.data.len();
        if !room || overlaps(&self.runs, &run) {
            return false;
        }
        self.data.extend_from_slice(data);
        self.runs.push(run);
        true
    }

    /// The tally as it is stored, of the commit with these bytes in the header.
    pub(crate) fn stored(&self, commit: &[u8]) -> Vec<u8> {
        let mut stored = (self.runs.len() as u16).to_le_bytes().to_vec();
        let mut hash = Sha256::new_with_prefix("attestlog tally\n");
        let mut data = &self.data[..];
        for run in &self.runs {
            let at = stored.len();
            stored.extend_from_slice(&run.start.to_le_bytes());
            stored.extend_from_slice(&((run.end - run.start) as u32).to_le_bytes());
            let (bytes, rest) = data.split_at((run.end - run.start) as usize);
            hash.update(&stored[at..]);
            hash.update(bytes);
            data = rest;
        }
        let hash = hash.chain_update(&stored[..2]).chain_update(commit).finalize();
        stored.extend_from_slice(&hash);
        stored
    }
}

/// Whether any of these runs has a byte of this one.
pub(crate) fn overlaps(runs: &[Range<u64>], with: &Range<u64>) -> bool {
    runs.iter().any(|run| run.start < with.end && with.start < run.end)
}

/// The offset of the tally of the header's commit 0 or 1.
pub(crate) fn place(slot: usize) -> u64 {
    PLACES[slot & 1]
}

/// The commit 0 or 1 in these bytes of a header.
pub(crate) fn commit(header: &[u8; HEADER_BYTES], slot: usize) -> &[u8] {
    let at = super::header::COMMITS + (slot & 1) * COMMIT_BYTES;
    &header[at..at + COMMIT_BYTES]
}

/// What the commit in this place of the header wrote with a single sync, if all of it is there as its tally says; and where its
/// tally is.
///
/// # Errors
/// I/O errors of the storage.
pub(crate) fn check(bytes: &dyn StorageBackend, slot: usize, commit: &[u8]) -> io::Result<Option<Written>> {
    let length = bytes.len()?;
    if length < super::PAGE {
        return Ok(None);
    }
    let mut vouched = [0; EMPTY];
    bytes.read(VOUCHED, &mut vouched)?;
    if Tally::default().stored(commit) == vouched {
        return Ok(Some(Written { runs: Vec::new(), tally: VOUCHED..VOUCHED + EMPTY as u64 }));
    }
    let mut stored = [0; BYTES];
    bytes.read(place(slot), &mut stored)?;
    let mut tally = Tally::default();
    let count = little(&stored, 0, 2) as usize;
    for run in 0..count.min(MOST_RUNS + 1) {
        let (at, long) = (little(&stored, 2 + run * RUN, 8), little(&stored, 10 + run * RUN, 4));
        if long > MOST_BYTES as u64 || at.checked_add(long).is_none_or(|end| end > length) {
            return Ok(None);
        }
        let mut data = vec![0; long as usize];
        bytes.read(at, &mut data)?;
        if !tally.add(at, &data) {
            return Ok(None);
        }
    }
    let made = tally.stored(commit);
    let place = place(slot)..place(slot) + made.len() as u64;
    Ok(stored.starts_with(&made).then_some(Written { runs: tally.runs, tally: place }))
}

/// What a commit wrote with a single sync.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) runs: Vec<Range<u64>>,
    pub(crate) tally: Range<u64>,
}
