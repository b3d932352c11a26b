//! Sealing: the oldest entries of the tail become a segment.
//!
//! Whoever records only appends rows to the tail. Once a segment's worth of entries is there, the background thread, or the thread that
//! committed if there is none, sorts and packs them without holding the writer lock, and writes the rows in slices.
//!
//! Invariant W7: the rows of a segment do not count until the commit that moves `sealed` to its end, which also removes its entries from
//! the tail. Everything before it can be repeated after a crash, over whatever was left. Invariant R104: the tail does not grow without
//! bound: if sealing lags, whoever has just committed waits for it, or seals itself.

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
use crate::{Error, Result};
use redb::{Table, WriteTransaction};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// How many bytes of rows a slice writes for each entry of a segment, about, while it holds the writer lock: some 256 KB where
/// segments have 7,168 entries.
const SLICE_BYTES: u64 = 36;

/// How many segments of entries the tail may have before whoever commits waits for them to be sealed.
pub(crate) const LAG: u64 = 4;

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

    fn clear(&mut self, segment: Range<u64>) -> Result<()> {
        for table in [&mut self.leaves, &mut self.blocks, &mut self.directories] {
            table.retain_in(segment.clone(), |_, _| false).stored()?;
        }
        Ok(())
    }
}

/// The rows of a segment of entries that are in the tail of this snapshot, handed over in no order.
fn rows(snapshot: &Snapshot, segment: &Range<u64>, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
    let cuts = snapshot.cuts();
    let mut leaves = LeafRows::new(cuts);
    let mut entries = Vec::new();
    let mut next = segment.start;
    snapshot.scan_tail(segment.start, segment.end, &mut |first, row| {
        let row = row.map_err(|e| e.at(first))?;
        for (seq, entry) in (first..).zip(row.entries()) {
            // A row that reaches into another, or over the border, would lose entries.
            if seq < next || seq >= segment.end {
                return Err(Error::damaged(format!("entry {seq} stands in the tail where it should not")));
            }
            // The hash before a gap may be among those that the purge kept.
            let kept = seq > next && snapshot.hash_before(seq).is_ok();
            let prev = Some(&entry.prev).filter(|_| !kept);
            leaves.add(seq, &entry.hash, prev, &mut |of, key, row| each((of, key, row)))?;
            let part = entry.part().map_err(|e| Error::from(e).at(seq))?;
            entries.push(ClusterKey::of_record(seq, &part));
            next = seq + 1;
        }
        Ok(())
    })?;
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
    segment: Range<u64>,
    /// What was purged when the rows were read.
    purged: Arc<SeqSet>,
    slice: Vec<Row>,
    bytes: u64,
    begun: bool,
}

impl Sealing<'_> {
    /// Whether the tail still has what was read from it: neither has somebody else sealed it, nor has a purge taken any of it.
    fn stands(&self, writer: &WriterState) -> bool {
        writer.state.sealed == self.segment.start && Arc::ptr_eq(&self.purged, &self.engine.purged())
    }

    fn add(&mut self, row: Row) -> Result<()> {
        self.bytes += row.2.len() as u64;
        self.slice.push(row);
        if self.bytes < SLICE_BYTES * self.engine.config.segment { Ok(()) } else { self.put(false) }
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
                    // What an interrupted attempt left.
                    tables.clear(self.segment.clone())?;
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
        self.config.process.check()?;
        let _one = self.write.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.unsealed()? == 0 {
            return Ok(false);
        }
        // A purge that puts another file in place changes this before anybody can read that file.
        let purged = self.purged();
        let snapshot = self.stored()?;
        let segment = snapshot.cuts().segment(snapshot.state.sealed);
        if segment.end > snapshot.state.size {
            return Ok(false);
        }
        let mut sealing = Sealing { engine: self, segment, purged, slice: Vec::new(), bytes: 0, begun: false };
        guarded(|| {
            let segment = sealing.segment.clone();
            rows(&snapshot, &segment, &mut |row| sealing.add(row))
        })?;
        drop(snapshot);
        sealing.put(true)?;
        Ok(true)
    }

    /// How many segments' worth of entries the tail has, as far as they are shown.
    pub(crate) fn unsealed(&self) -> Result<u64> {
        let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
        Ok(published.size.saturating_sub(published.sealed) / self.config.segment)
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
