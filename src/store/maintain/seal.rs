//! Sealing: the oldest entries of the tail become a segment.
//!
//! Whoever records only appends rows to the tail. Once a segment's worth of entries is there, the background thread, or the thread that
//! committed if there is none, sorts and packs them without holding the writer lock, and writes the rows in slices.
//!
//! When the store is closed, a tail that has grown by a quarter of what is sealed of its segment becomes a part of that segment: so a
//! store in which little is recorded is packed too, and an entry is packed a few times at most before its segment is complete, however
//! often the store is opened and closed. The rows of a part count, so they are replaced in one commit.
//!
//! Invariant W7: the rows of a segment do not count until the commit that moves `sealed`, which also removes its entries from the tail.
//! Everything before it can be repeated after a crash, over whatever was left. Invariant R104: the tail does not grow without bound: if
//! sealing lags, whoever has just committed waits for it, or seals itself.

use crate::codec;
use crate::retention::SeqSet;
use crate::store::engine::Engine;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::segment::{ClusterKey, LeafRows, RowOf, pack};
use crate::store::layout::state::{STATE_KEY, State};
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Hash, Result};
use redb::{Table, WriteTransaction};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// How many bytes of rows a slice writes for each entry of a segment, about, while it holds the writer lock: some 256 KB where
/// segments have 7,168 entries.
const SLICE_BYTES: u64 = 36;

/// How many segments of entries the tail may have before whoever commits waits for them to be sealed.
pub(crate) const LAG: u64 = 4;

/// A tail is sealed on closing if it has this share of a segment's entries, and [`GROWN`] of those that are sealed of its segment.
const LEAST: u64 = 32;

/// See [`LEAST`].
const GROWN: u64 = 4;

/// A row with its table and key.
type Row = (RowOf, u64, Vec<u8>);

/// The tables of a segment, open for writing.
pub(crate) struct SegmentTables<'t> {
    leaves: Table<'t, u64, &'static [u8]>,
    blocks: Table<'t, u64, &'static [u8]>,
    directories: Table<'t, u64, &'static [u8]>,
}

impl<'t> SegmentTables<'t> {
    pub(crate) fn open(txn: &'t WriteTransaction) -> Result<SegmentTables<'t>> {
        Ok(SegmentTables {
            leaves: txn.open_table(tables::LEAVES).stored()?,
            blocks: txn.open_table(tables::BLOCKS).stored()?,
            directories: txn.open_table(tables::DIRECTORIES).stored()?,
        })
    }

    pub(crate) fn insert(&mut self, (of, key, row): &Row) -> Result<()> {
        let table = match of {
            RowOf::Leaves => &mut self.leaves,
            RowOf::Blocks => &mut self.blocks,
            RowOf::Directory => &mut self.directories,
        };
        table.insert(key, &**row).stored().map(|_| ())
    }

    /// Removes the rows of these segments.
    pub(crate) fn clear(&mut self, segment: Range<u64>) -> Result<()> {
        for table in [&mut self.leaves, &mut self.blocks, &mut self.directories] {
            table.retain_in(segment.clone(), |_, _| false).stored()?;
        }
        Ok(())
    }
}

/// What the rows of a segment are made of.
struct Gathered {
    leaves: LeafRows,
    entries: Vec<ClusterKey>,
    /// The seq after the newest entry so far.
    next: u64,
}

impl Gathered {
    /// Adds the hashes and the place of an entry, `prev` unless the hash before it is among those that a purge kept.
    fn add(
        &mut self,
        seq: u64,
        (hash, prev): (&Hash, Option<&Hash>),
        key: ClusterKey,
        each: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        self.leaves.add(seq, hash, prev, &mut |of, key, row| each((of, key, row)))?;
        self.entries.push(key);
        self.next = seq + 1;
        Ok(())
    }
}

/// The rows of a segment, or of a part that begins with it, whose entries are in the tail of this snapshot or in such a part; handed
/// over in no order.
fn rows(snapshot: &Snapshot, segment: &Range<u64>, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
    let (cuts, sealed) = (snapshot.cuts(), snapshot.state.sealed);
    let mut gathered = Gathered { leaves: LeafRows::new(cuts), entries: Vec::new(), next: segment.start };
    snapshot.scan_leaves(segment.start..sealed.max(segment.start), &mut |first, row| {
        for (seq, hash, prev) in row.map_err(|e| e.at(format!("the hashes from entry {first} on")))?.entries() {
            let key = snapshot.read(seq, |_, _, record| Ok(ClusterKey::of_record(seq, &record)))?;
            let key = key.filter(|_| seq >= gathered.next && seq < sealed);
            let key =
                key.ok_or_else(|| Error::damaged(format!("the hash of entry {seq} stands where it should not")))?;
            gathered.add(seq, (&hash, prev.as_ref()), key, each)?;
        }
        Ok(())
    })?;
    snapshot.scan_tail(segment.start.max(sealed), segment.end, &mut |first, row| {
        let row = row.map_err(|e| e.at(first))?;
        for (seq, entry) in (first..).zip(row.entries()) {
            // A row that reaches into another, or over the border, would lose entries.
            if seq < gathered.next.max(sealed) || seq >= segment.end {
                return Err(Error::damaged(format!("entry {seq} stands in the tail where it should not")));
            }
            // The hash before a gap may be among those that the purge kept.
            let kept = seq > gathered.next && snapshot.hash_before(seq).is_ok();
            let prev = Some(&entry.prev).filter(|_| !kept);
            let part = entry.part().map_err(|e| Error::from(e).at(seq))?;
            gathered.add(seq, (&entry.hash, prev), ClusterKey::of_record(seq, &part), each)?;
        }
        Ok(())
    })?;
    let Gathered { mut leaves, entries, .. } = gathered;
    leaves.finish(&mut |of, key, row| each((of, key, row)))?;
    let seeds = snapshot.seeds(segment.start)?;
    let read = &mut |seq: u64, found: &mut dyn FnMut(&EntryRecord<'_>) -> Result<()>| {
        let read = snapshot.read(seq, |_, _, record| found(&record))?;
        read.ok_or_else(|| Error::damaged(format!("entry {seq} is missing from the tail")))
    };
    pack(cuts, segment.start, entries, &seeds, read, &mut |of, key, row| each((of, key, row)))
}

/// Writes rows of a segment in slices.
struct Sealing<'a> {
    engine: &'a Engine,
    /// The seqs of the segment, or of the part of it that is sealed.
    segment: Range<u64>,
    /// Up to where the log was sealed when the rows were read: beyond the segment's start if a part of it was.
    sealed: u64,
    /// What was purged when the rows were read.
    purged: Arc<SeqSet>,
    slice: Vec<Row>,
    bytes: u64,
    begun: bool,
}

impl Sealing<'_> {
    /// Whether the tail still has what was read from it: neither has somebody else sealed it, nor has a purge taken any of it.
    fn stands(&self, writer: &WriterState) -> bool {
        writer.state.sealed == self.sealed && Arc::ptr_eq(&self.purged, &self.engine.purged())
    }

    fn add(&mut self, row: Row) -> Result<()> {
        self.bytes += row.2.len() as u64;
        self.slice.push(row);
        // Rows that replace others count at once, so they wait for the last commit.
        let replaces = self.sealed > self.segment.start;
        if replaces || self.bytes < SLICE_BYTES * self.engine.config.segment { Ok(()) } else { self.put(false) }
    }

    /// Writes the slice; with `last` also what makes the segment count.
    fn put(&mut self, last: bool) -> Result<()> {
        let engine = self.engine;
        engine.with_writer(|engine, writer| {
            if !self.stands(writer) {
                return Err(Error::new(crate::ErrorKind::Busy, "the tail is not what it was"));
            }
            let mut state = writer.state.clone();
            state.sealing = !last;
            if last {
                state.sealed = self.segment.end;
            }
            engine.write_slice(writer, state, |txn| {
                let mut tables = SegmentTables::open(txn)?;
                if !self.begun {
                    // What an interrupted attempt left, or the part that was sealed before.
                    tables.clear(self.segment.start..u64::MAX)?;
                }
                self.slice.iter().try_for_each(|row| tables.insert(row))?;
                if last {
                    txn.open_table(tables::TAIL).stored()?.retain_in(self.segment.clone(), |_, _| false).stored()?;
                }
                Ok(())
            })?;
            if last {
                let mut published = engine.read.published.write().unwrap_or_else(PoisonError::into_inner);
                published.sealed = writer.state.sealed;
            }
            Ok(())
        })?;
        self.begun = true;
        self.bytes = 0;
        self.slice.clear();
        Ok(())
    }
}

impl Engine {
    /// Seals the oldest segment if all of its entries are recorded. Returns whether it did.
    pub(crate) fn seal_next(&self) -> Result<bool> {
        if self.unsealed()? == 0 {
            return Ok(false);
        }
        self.seal(|segment, _, size| (segment.end <= size).then_some(segment.end))
    }

    /// On closing: seals what is complete, and the rest of the tail if that is worth it.
    pub(crate) fn seal_rest(&self) -> Result<()> {
        while self.seal_next()? {}
        let segment_entries = self.config.segment;
        self.seal(|segment, sealed, size| {
            let (part, tail) = (sealed - segment.start, size - sealed);
            (tail > 0 && tail >= segment_entries / LEAST && tail >= part / GROWN).then_some(size)
        })?;
        Ok(())
    }

    /// Seals the segment in which the tail begins up to the seq that `to` names, given the segment, where the tail begins, and the size
    /// of the log. Returns whether it named one.
    fn seal(&self, to: impl FnOnce(&Range<u64>, u64, u64) -> Option<u64>) -> Result<bool> {
        self.config.process.check()?;
        let _one = self.write.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        // A purge that puts another file in place changes this before anybody can read that file.
        let purged = self.purged();
        let snapshot = self.stored()?;
        let (sealed, size) = (snapshot.state.sealed, snapshot.state.size);
        let segment = snapshot.cuts().segment(sealed);
        let Some(end) = to(&segment, sealed, size) else { return Ok(false) };
        let segment = segment.start..end;
        let mut sealing = Sealing {
            engine: self,
            segment: segment.clone(),
            sealed,
            purged,
            slice: Vec::new(),
            bytes: 0,
            begun: false,
        };
        guarded(|| rows(&snapshot, &segment, &mut |row| sealing.add(row)))?;
        drop(snapshot);
        sealing.put(true)?;
        Ok(true)
    }

    /// How many segments have all of their entries, among those already published, and are not sealed.
    pub(crate) fn unsealed(&self) -> Result<u64> {
        let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
        Ok(published.unsealed(self.config.segment))
    }

    /// Keeps the tail bounded: called by whoever has just committed, without any lock.
    pub(crate) fn catch_up_sealing(&self) {
        // What fails is tried again after the next commit.
        while self.unsealed().is_ok_and(|unsealed| unsealed > LAG) && self.seal_next().is_ok_and(|sealed| sealed) {}
    }

    /// A commit that writes rows that do not count yet, or makes them count, and this state.
    fn write_slice(
        &self,
        writer: &mut WriterState,
        state: State,
        write: impl FnOnce(&WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let armed = writer.arm();
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        write(&txn)?;
        txn.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
        txn.commit().stored()?;
        armed.disarm();
        writer.state = state;
        Ok(())
    }
}
