//! Rewrites a store without what a purge removes.
//!
//! Deleted bytes stay in a redb file until their pages are reused, and the file keeps its length. So a purge does not delete:
//! it copies what remains to a new file beside the old one, and then renames the new file to the store's path. Until the
//! rename nothing has changed; after it nothing of what was purged is in the file, and its space is
//! given back.
//!
//! Invariant X1: the copy is made from a snapshot while recording goes on. What was recorded meanwhile is carried over in
//! rounds, each with what was added during the previous one, and only the last few entries under the writer lock. Invariant
//! X2: a leaf hash stays where its entry stays; where entries are removed, `covers` and `nodes` hold the smallest set of
//! Merkle nodes that still gives the root of every size that was ever signed.
//!
//! Long work is written in small steps that are synced one by one: while a file system writes a large amount for one file,
//! the syncs of other files wait, and recording is one of them.

use crate::codec;
use crate::merkle::{self, Nodes};
use crate::retention::SeqSet;
use crate::rows::{BATCH, List, row_inner};
use crate::store::engine::changes::Changes;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::open_table::open_made;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables::{self, Copying, EachTable, InPurge};
use crate::store::layout::NODE_LEVEL;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::index_key::key_prefix;
use crate::store::layout::index_row::PurgedRow;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::segment::{ClusterKey, LeafRows, RowOf, pack};
use crate::store::layout::state::{STATE_KEY, State};
use crate::store::layout::tail_row::TailRows;
use crate::store::layout::zone_map;
use crate::store::maintain::backup;
#[cfg(debug_assertions)]
use crate::store::maintain::carried_over::check;
use crate::store::maintain::seal::SegmentTables;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Result};
use attestlog_proof::entry::Facet;
use redb::{Durability, Key, TableDefinition, Value, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

/// How many bytes of rows are written per sync.
const STEP_BYTES: usize = 2 << 20;
/// How many bytes of rows are sorted by key at a time, where they come in another order.
const SORTED_BYTES: usize = 16 << 20;

/// What a purge removes.
#[derive(Debug, Default)]
pub(crate) struct PurgeSet {
    /// The seqs that this purge removes.
    pub taken: SeqSet,
    /// All seqs that are purged after it.
    pub gone: SeqSet,
    /// Every size whose root must remain computable.
    pub sizes: Vec<u64>,
    /// The new rollups of the tools and days from which calls are removed; `None` if no calls are left.
    pub cells: BTreeMap<(u64, i32), Option<Vec<u8>>>,
}

/// The progress of the new file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    /// Entries below this seq are in its segments.
    sealed: u64,
    /// So many entries are in it, with their Merkle nodes.
    pub size: u64,
    /// The checkpoints up to this size are in it.
    signed: u64,
}

/// A rewrite in progress.
pub(crate) struct Rewriter<'a> {
    pub to: &'a DatabaseHandle,
    pub cut: &'a PurgeSet,
}

impl Rewriter<'_> {
    /// A write transaction; if not `durable`, it reaches the disk with a later durable one.
    fn step(&self, durable: bool) -> Result<WriteTransaction> {
        let mut txn = self.to.begin_write()?;
        if !durable {
            txn.set_durability(Durability::None).stored()?;
        }
        Ok(txn)
    }

    /// Copies what `snapshot` holds, without what is purged.
    pub(crate) fn copy(&self, snapshot: &Snapshot) -> Result<Reached> {
        snapshot.check_tables()?;
        let covers = covers(&self.cut.gone, &self.cut.sizes);
        let zones = self.entries(snapshot, &covers)?;
        self.seeds(snapshot, 0)?.flush()?;
        self.covers(snapshot, covers)?;
        let kept_terms = self.postings(snapshot)?;
        let mut terms = Rows::new(self, tables::TERMS);
        for row in snapshot.table(tables::TERMS)?.iter().stored()? {
            let (key, id) = row.stored()?;
            if kept_terms.contains(&id.value()) {
                terms.push(key.value(), id.value())?;
            }
        }
        terms.flush()?;
        let mut to = Rows::new(self, tables::ZONES);
        for (key, zone) in zones {
            to.push(key, zone)?;
        }
        to.flush()?;
        let mut to = Rows::new(self, tables::ROLLUPS);
        for row in snapshot.table(tables::ROLLUPS)?.iter().stored()? {
            let (key, cell) = row.stored()?;
            match self.cut.cells.get(&key.value()) {
                None => to.push(key.value(), cell.value())?,
                Some(Some(cell)) => to.push(key.value(), cell)?,
                Some(None) => {}
            }
        }
        to.flush()?;
        tables::each(&mut VerbatimTables { anew: self, snapshot })?;
        self.verbatim(snapshot, tables::CHECKPOINTS)?;
        let txn = self.step(true)?;
        tables::each(&mut SmallTables { snapshot, txn: &txn, noted: None })?;
        self.without_purged(&txn)?;
        txn.commit().stored()?;
        Ok(Reached { sealed: snapshot.state.sealed, size: snapshot.state.size, signed: snapshot.state.signed })
    }

    fn verbatim<K: Key + 'static, V: Value + 'static>(
        &self,
        snapshot: &Snapshot,
        table: TableDefinition<'static, K, V>,
    ) -> Result<()> {
        let mut to = Rows::new(self, table);
        for row in snapshot.table(table)?.range::<K::SelfType<'_>>(..).stored()? {
            let (key, value) = row.stored()?;
            to.push(key.value(), value.value())?;
        }
        to.flush()
    }

    /// Carries over what was recorded, sealed or changed since. With `last` also the state; that transaction becomes durable with the
    /// next one.
    pub(crate) fn catch_up(
        &self,
        snapshot: &Snapshot,
        changes: &Changes,
        from: Reached,
        last: bool,
    ) -> Result<Reached> {
        let state = &snapshot.state;
        let covers = covers(&self.cut.gone, &self.cut.sizes);
        let mut segments = SegmentRows::new(self, last);
        let mut start = snapshot.cuts().start(from.sealed);
        if start < from.sealed && from.sealed < state.sealed {
            // More of the segment was sealed since, so its rows are others.
            let txn = self.step(!last)?;
            SegmentTables::open(&txn)?.clear(start..u64::MAX)?;
            txn.commit().stored()?;
        } else {
            start = from.sealed;
        }
        while start < state.sealed {
            self.segment(snapshot, start, &covers, &mut segments, &mut |_, _| Ok(()))?;
            start = snapshot.cuts().segment(start).end;
        }
        let mut tail = self.tail(snapshot, from.size.max(state.sealed), &mut |_, _| Ok(()))?;
        let mut seeds = self.seeds(snapshot, snapshot.cuts().start(from.size))?;
        let txn = match last {
            false => {
                segments.flush()?;
                tail.flush()?;
                seeds.flush()?;
                self.step(true)?
            }
            true => {
                let txn = self.step(false)?;
                segments.write(&txn)?;
                tail.write(&txn)?;
                seeds.write(&txn)?;
                txn
            }
        };
        if let Some(mut tail) = open_made(&txn, tables::TAIL)? {
            tail.retain_in(..state.sealed, |_, _| false).stored()?;
        }
        if state.size >> NODE_LEVEL > from.size >> NODE_LEVEL {
            let mut nodes = txn.open_table(tables::NODES).stored()?;
            for level in NODE_LEVEL..64 {
                let (had, has) = (from.size >> level, state.size >> level);
                for index in had..has {
                    nodes.insert((level, index), snapshot.node(level, index)?.0).stored()?;
                }
                if has == 0 {
                    break;
                }
            }
        }
        let source = snapshot.transaction();
        backup::copy(source, &txn, tables::CHECKPOINTS, Bound::Included(from.signed), usize::MAX, |_| true)?;
        let noted = (!changes.any).then_some(changes);
        tables::each(&mut SmallTables { snapshot, txn: &txn, noted })?;
        self.without_purged(&txn)?;
        if last {
            backup::copy_tables(source, &txn, |copying| copying.purge == InPurge::Last)?;
            let mut meta = txn.open_table(tables::META).stored()?;
            // What is half sealed stays in the old file.
            let state = State { sealing: false, ..state.clone() };
            meta.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
        }
        txn.commit().stored()?;
        Ok(Reached { sealed: state.sealed, size: state.size, signed: state.signed })
    }

    /// Purged calls are not unfinished.
    fn without_purged(&self, txn: &WriteTransaction) -> Result<()> {
        let unfinished = open_made(txn, tables::UNFINISHED)?;
        unfinished.map_or(Ok(()), |mut all| all.retain(|seq, ()| !self.cut.taken.contains(seq)).stored())
    }

    /// Checks that every row of the tables that are carried over equals that in `snapshot`: a change that was not noted would
    /// be lost. Too slow for every purge; for tests.
    #[cfg(debug_assertions)]
    pub(crate) fn check_carried_over(&self, snapshot: &Snapshot) -> Result<()> {
        check(snapshot, self.to.begin_read()?)
    }
}

/// Copies the tables that stay as they are.
struct VerbatimTables<'t, 'a> {
    anew: &'t Rewriter<'a>,
    snapshot: &'t Snapshot,
}

impl EachTable for VerbatimTables<'_, '_> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<()> {
        match copying.purge {
            InPurge::Verbatim => self.anew.verbatim(self.snapshot, table),
            _ => Ok(()),
        }
    }
}

/// Brings the small tables up to date: as a whole, since an erasure, for instance, may have deleted rows; or, if what
/// changed was `noted`, these rows.
struct SmallTables<'t> {
    snapshot: &'t Snapshot,
    txn: &'t WriteTransaction,
    noted: Option<&'t Changes>,
}

impl EachTable for SmallTables<'_> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<()> {
        match (copying.purge, self.noted) {
            (InPurge::Noted, Some(noted)) => {
                let mut keys = noted.of(&table).peekable();
                if keys.peek().is_none() {
                    return Ok(());
                }
                let from = self.snapshot.table(table)?;
                let mut to = self.txn.open_table(table).stored()?;
                for key in keys {
                    match from.get(K::from_bytes(key)).stored()? {
                        Some(row) => to.insert(K::from_bytes(key), row.value()).stored().map(|_| ())?,
                        None => to.remove(K::from_bytes(key)).stored().map(|_| ())?,
                    }
                }
                Ok(())
            }
            (InPurge::Noted, None) | (InPurge::Replaced, _) => {
                if let Some(mut rows) = open_made(self.txn, table)? {
                    rows.retain(|_, _| false).stored()?;
                }
                backup::copy(self.snapshot.transaction(), self.txn, table, Bound::Unbounded, usize::MAX, |_| true)?;
                Ok(())
            }
            (InPurge::Own | InPurge::Verbatim | InPurge::Last, _) => Ok(()),
        }
    }
}

/// Buffered rows for a table of the new file.
struct Rows<'a, K: Key + 'static, V: Value + 'static> {
    anew: &'a Rewriter<'a>,
    table: TableDefinition<'static, K, V>,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl<'a, K: Key + 'static, V: Value + 'static> Rows<'a, K, V> {
    fn new(anew: &'a Rewriter<'a>, table: TableDefinition<'static, K, V>) -> Rows<'a, K, V> {
        Rows { anew, table, rows: Vec::new(), bytes: 0 }
    }

    fn hold<'k, 'v>(&mut self, key: K::SelfType<'k>, value: V::SelfType<'v>)
    where
        K: 'k,
        V: 'v,
    {
        let row = (K::as_bytes(&key).as_ref().to_vec(), V::as_bytes(&value).as_ref().to_vec());
        self.bytes += row.0.len() + row.1.len();
        self.rows.push(row);
    }

    fn push<'k, 'v>(&mut self, key: K::SelfType<'k>, value: V::SelfType<'v>) -> Result<()>
    where
        K: 'k,
        V: 'v,
    {
        self.hold(key, value);
        if self.bytes < STEP_BYTES { Ok(()) } else { self.flush() }
    }

    fn write(&mut self, txn: &WriteTransaction) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut table = txn.open_table(self.table).stored()?;
        for (key, value) in self.rows.drain(..) {
            table.insert(K::from_bytes(&key), V::from_bytes(&value)).stored()?;
        }
        self.bytes = 0;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while !self.rows.is_empty() {
            let mut bytes = 0;
            let step = self.rows.iter().take_while(|row| {
                let more = bytes < STEP_BYTES;
                bytes += row.0.len() + row.1.len();
                more
            });
            let later = self.rows.split_off(step.count());
            let txn = self.anew.step(true)?;
            self.write(&txn)?;
            txn.commit().stored()?;
            self.rows = later;
        }
        Ok(())
    }
}

/// Buffered rows for the tables of segments.
struct SegmentRows<'a> {
    leaves: Rows<'a, u64, &'static [u8]>,
    blocks: Rows<'a, u64, &'static [u8]>,
    directories: Rows<'a, u64, &'static [u8]>,
    /// Whether all rows are written in one transaction at the end.
    holds: bool,
}

impl<'a> SegmentRows<'a> {
    fn new(anew: &'a Rewriter<'a>, holds: bool) -> SegmentRows<'a> {
        SegmentRows {
            leaves: Rows::new(anew, tables::LEAVES),
            blocks: Rows::new(anew, tables::BLOCKS),
            directories: Rows::new(anew, tables::DIRECTORIES),
            holds,
        }
    }

    fn push(&mut self, of: RowOf, key: u64, row: &[u8]) -> Result<()> {
        let rows = match of {
            RowOf::Leaves => &mut self.leaves,
            RowOf::Blocks => &mut self.blocks,
            RowOf::Directory => &mut self.directories,
        };
        if self.holds {
            rows.hold(key, row);
            return Ok(());
        }
        rows.push(key, row)
    }

    fn all(&mut self) -> [&mut Rows<'a, u64, &'static [u8]>; 3] {
        [&mut self.leaves, &mut self.blocks, &mut self.directories]
    }

    fn flush(&mut self) -> Result<()> {
        self.all().into_iter().try_for_each(Rows::flush)
    }

    fn write(&mut self, txn: &WriteTransaction) -> Result<()> {
        self.all().into_iter().try_for_each(|rows| rows.write(txn))
    }
}

/// What is called with each entry that stays of a zone that loses some.
type Stays<'a> = dyn FnMut(u64, &EntryRecord<'_>) -> Result<()> + 'a;

impl Rewriter<'_> {
    /// Copies the segments and computes the zones of what remains. `covers` are the nodes that replace purged entries, in
    /// order.
    fn entries(&self, snapshot: &Snapshot, covers: &[(u8, u64)]) -> Result<BTreeMap<(u8, u64), (i64, i64)>> {
        let taken = &self.cut.taken;
        let mut zones = BTreeMap::new();
        let indexed = snapshot.state.indexed;
        let mut zoned = |seq: u64, record: &EntryRecord<'_>| {
            if seq < indexed {
                let time = record.timestamp().map_err(|e| Error::from(e).at(seq))?;
                for (key, zone) in zone_map::of(seq, &[time.nanos()]) {
                    if key.0 == 0 {
                        join(&mut zones, key, zone);
                    }
                }
            }
            Ok(())
        };
        let mut segments = SegmentRows::new(self, false);
        let mut start = 0;
        while start < snapshot.state.sealed {
            self.segment(snapshot, start, covers, &mut segments, &mut zoned)?;
            start = snapshot.cuts().segment(start).end;
        }
        segments.flush()?;
        // What stays of the tail counts for its zones too.
        self.tail(snapshot, snapshot.state.sealed, &mut zoned)?.flush()?;
        // Zones that lose nothing stay as they are; higher ones are computed from the lowest level.
        snapshot.scan_zones(&mut |level, index, zone| {
            if level == 0 && !touches(taken, index << zone_map::LEVELS[0]) {
                zones.insert((0, index), zone);
            }
            Ok(())
        })?;
        for ((_, index), zone) in zones.clone() {
            for level in 1..zone_map::LEVELS.len() {
                join(&mut zones, (level as u8, index >> (zone_map::LEVELS[level] - zone_map::LEVELS[0])), zone);
            }
        }
        Ok(zones)
    }

    /// Copies the segment that begins at `start`. If it loses entries, the others are packed anew, and what they lose is taken from the
    /// seeds of their nonces. Its leaf hashes are written anew in any case: what an earlier purge kept of an entry before one of them, this
    /// one may replace by a node above.
    fn segment(
        &self,
        snapshot: &Snapshot,
        start: u64,
        covers: &[(u8, u64)],
        to: &mut SegmentRows<'_>,
        stays: &mut Stays<'_>,
    ) -> Result<()> {
        let (cuts, taken) = (snapshot.cuts(), &self.cut.taken);
        let segment = cuts.segment(start);
        let last = segment.end - 1;
        let is_kept = |leaf: u64| {
            let at = covers.binary_search_by_key(&leaf, |&(level, index)| index << level);
            at.is_ok_and(|at| covers[at].0 == 0)
        };
        let mut leaves = LeafRows::new(cuts);
        let mut there = Vec::new();
        snapshot.scan_leaves(segment.clone(), &mut |key, row| {
            for (seq, hash, prev) in row.map_err(|e| e.at(format!("the hashes from entry {key} on")))?.entries() {
                if taken.contains(seq) {
                    continue;
                }
                there.push(seq);
                let prev = match prev {
                    _ if seq.checked_sub(1).is_some_and(|before| self.cut.gone.contains(before) && is_kept(before)) => {
                        None
                    }
                    Some(prev) => Some(prev),
                    None => Some(snapshot.hash_before(seq)?),
                };
                leaves.add(seq, &hash, prev.as_ref(), &mut |of, key, row| to.push(of, key, &row))?;
            }
            Ok(())
        })?;
        leaves.finish(&mut |of, key, row| to.push(of, key, &row))?;
        let read = |seq: u64, found: &mut dyn FnMut(&EntryRecord<'_>) -> Result<()>| {
            let read = snapshot.read(seq, |_, _, record| found(&record))?;
            read.ok_or_else(|| Error::damaged(format!("entry {seq} is missing")))
        };
        for &seq in there.iter().filter(|seq| touches(taken, **seq)) {
            read(seq, &mut |record| stays(seq, record))?;
        }
        if !taken.intersects(start, last) {
            snapshot.scan_blocks(segment.clone(), &mut |scanned| to.push(RowOf::Blocks, scanned.key, scanned.bytes))?;
            return snapshot.scan_directories(segment, &mut |key, row| to.push(RowOf::Directory, key, row));
        }
        let mut entries = Vec::with_capacity(there.len());
        for seq in there {
            read(seq, &mut |record| {
                entries.push(ClusterKey::of_record(seq, record));
                Ok(())
            })?;
        }
        // Nonces are compared with what the seeds still give.
        let seeds = self.seeds_of(snapshot, start, &snapshot.seeds(start)?);
        pack(cuts, start, entries, &seeds, &mut { read }, &mut |of, key, row| to.push(of, key, &row))
    }

    /// What stays of the seeds of the segment that begins at `start`.
    fn seeds_of(&self, snapshot: &Snapshot, start: u64, seeds: &Seeds) -> Seeds {
        let last = snapshot.cuts().segment(start).end - 1;
        let gone = self.cut.taken.ranges_within(start, last);
        let offset = |seq: u64| u32::try_from(seq - start).unwrap_or(u32::MAX);
        seeds.without(gone.map(|(first, last)| (offset(first), offset(last))))
    }

    /// The seeds of the segments from this one on.
    fn seeds(&self, snapshot: &Snapshot, from: u64) -> Result<Rows<'_, u64, &'static [u8]>> {
        let mut rows = Rows::new(self, tables::SEEDS);
        snapshot.scan_seeds(from..u64::MAX, &mut |start, row| {
            let seeds = Seeds::decode(row).map_err(|e| Error::from(e).at(format!("the seeds of entry {start}")))?;
            let left = self.seeds_of(snapshot, start, &seeds);
            // Nothing is left of a segment of which nothing is left.
            if !left.is_empty() {
                rows.hold(start, &left.encode());
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// The rows of the tail from this entry on, without what is taken.
    fn tail(&self, snapshot: &Snapshot, from: u64, stays: &mut Stays<'_>) -> Result<Rows<'_, u64, &'static [u8]>> {
        let from = from.max(snapshot.state.sealed);
        let mut left = TailRows::default();
        snapshot.scan_tail(from, u64::MAX, &mut |first, row| {
            for (seq, entry) in (first..).zip(row.map_err(|e| e.at(first))?.entries()) {
                if seq < from || self.cut.taken.contains(seq) {
                    continue;
                }
                if touches(&self.cut.taken, seq) {
                    let part = entry.part().map_err(|e| Error::from(e).at(seq))?;
                    stays(seq, &part)?;
                }
                left.add(seq, &entry, snapshot.cuts().entries());
            }
            Ok(())
        })?;
        let mut rows = Rows::new(self, tables::TAIL);
        for (first, row) in left.finish() {
            rows.hold(first, &row);
        }
        Ok(rows)
    }

    fn covers(&self, snapshot: &Snapshot, covers: Vec<(u8, u64)>) -> Result<()> {
        let mut covered = HashSet::new();
        let mut to = Rows::new(self, tables::COVERS);
        for (level, index) in covers {
            if level < NODE_LEVEL {
                to.push((index << level, level), snapshot.node(level, index)?.0)?;
            } else {
                covered.insert((level, index));
            }
        }
        to.flush()?;
        let mut to = Rows::new(self, tables::NODES);
        snapshot.scan_nodes(&mut |level, index, hash| {
            if !is_inside(&covered, level, index) {
                to.push((level, index), hash.0)?;
            }
            Ok(())
        })?;
        to.flush()
    }

    fn purged_rows(&self, purged_rows: BTreeMap<(u64, u64), Vec<u8>>) -> Result<()> {
        let mut to = Rows::new(self, tables::PURGED_ROWS);
        for (key, purged_row) in &purged_rows {
            to.push(*key, purged_row)?;
        }
        to.flush()
    }

    /// Copies the posting rows of terms that still have an entry; for the others writes a purged row. Returns the terms that
    /// stay.
    fn postings(&self, snapshot: &Snapshot) -> Result<BTreeSet<u64>> {
        let mut kept = BTreeSet::new();
        let mut rows = Rows::new(self, tables::POSTINGS);
        let mut purged_rows = BTreeMap::new();
        let mut held = 0;
        let mut keep = |key: (u64, u64), purged_row: Vec<u8>| -> Result<()> {
            held += purged_row.len() + 64;
            purged_rows.insert(key, purged_row);
            if held < SORTED_BYTES {
                return Ok(());
            }
            held = 0;
            self.purged_rows(std::mem::take(&mut purged_rows))
        };
        let mut batches = Vec::new();
        snapshot.scan_batches(&mut |first, _, _| {
            batches.push(first);
            Ok(())
        })?;
        snapshot.scan_purged_rows(&mut |first, position, purged_row| {
            let purged_row =
                purged_row.ok_or_else(|| Error::damaged("what a purge left of an index row is damaged"))?;
            keep((first, position), purged_row.encode())
        })?;
        snapshot.scan_postings(&mut |field, term, first, row| {
            let damaged =
                || Error::damaged(format!("the index row of facet {field}, term {term}, seq {first} is damaged"));
            let row = row.ok_or_else(damaged)?;
            let field = Facet::from_u8(field).ok_or_else(damaged)?;
            let mut stays = false;
            let whole = row.list.ranges(BATCH as usize, |from, end| {
                stays = stays || !self.cut.gone.contains_range(from, end - 1);
            });
            whole.ok_or_else(damaged)?;
            if stays {
                kept.insert(term);
                return rows.push((key_prefix(field), term, first), &row.encode());
            }
            let value = value_of(snapshot, field, term, row.list)?.ok_or_else(damaged)?;
            let batch = batches.partition_point(|&b| b <= first).checked_sub(1).map(|i| batches[i]);
            let purged_row = PurgedRow { inner: row_inner(&row.salt, field, &value), list: row.list }.encode();
            keep((batch.ok_or_else(damaged)?, row.position), purged_row)
        })?;
        self.purged_rows(purged_rows)?;
        rows.flush()?;
        Ok(kept)
    }
}

/// Whether anything is removed from the lowest-level zone that contains `seq`.
fn touches(taken: &SeqSet, seq: u64) -> bool {
    let first = seq >> zone_map::LEVELS[0] << zone_map::LEVELS[0];
    taken.intersects(first, first + (1 << zone_map::LEVELS[0]) - 1)
}

fn join(zones: &mut BTreeMap<(u8, u64), (i64, i64)>, key: (u8, u64), (low, high): (i64, i64)) {
    let zone = zones.entry(key).or_insert((low, high));
    *zone = (zone.0.min(low), zone.1.max(high));
}

/// The nodes that replace purged entries, by [`merkle::cover`].
pub(crate) fn covers(gone: &SeqSet, sizes: &[u64]) -> Vec<(u8, u64)> {
    let ranges: Vec<_> = gone.ranges().map(|(first, last)| first..last + 1).collect();
    merkle::cover(&ranges, sizes)
}

/// Whether a node lies inside one of these nodes.
pub(crate) fn is_inside(covers: &HashSet<(u8, u64)>, level: u8, index: u64) -> bool {
    (level + 1..64).any(|above| covers.contains(&(above, index >> (above - level))))
}

/// The value of a term, taken from an entry that has it.
fn value_of(snapshot: &Snapshot, field: Facet, term: u64, list: List<'_>) -> Result<Option<String>> {
    for seq in list.seqs(BATCH as usize).unwrap_or_default() {
        let Some(found) = snapshot.checked(seq)? else { continue };
        let mut values = Vec::new();
        found.body.facets(&mut |f, value| {
            if f == field {
                values.push(value.to_owned());
            }
        });
        for value in values {
            if snapshot.term_id(field, &value)? == Some(term) {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}
