//! Index batches: move the in-memory index of a memory segment to rows of the file and an entry of the chain.
//!
//! Invariant M1: the rows of a batch are invisible until the commit that writes its chain entry moves `indexed` to its end;
//! that commit also writes what is aggregated rather than added as rows (zones, rollups). Everything before it can be
//! repeated after a crash, for the same range, over whatever was left. Invariant M2: the writer lock is held for at most one
//! slice at a time, so that recording goes on meanwhile.

use crate::codec::{self};
use crate::host::Random;
use crate::json::{Json, Object};
use crate::merkle::Frontier;
use crate::note::SignedCheckpoint;
use crate::rows::{List, SALT_BYTES, encode, row_order};
use crate::store::engine::Engine;
use crate::store::engine::mem_index::{Index, MemSegment};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::index_key::{key_prefix, term_key};
use crate::store::layout::index_row::{Column, Row};
use crate::store::layout::rollup::Cell;
use crate::store::layout::state::STATE_KEY;
use crate::store::layout::zone_map;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Hash, Kind, Result, Timestamp};
use attestlog_proof::entry::Facet;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a slice may hold the writer lock, not counting the time to commit it.
const SLICE: Duration = Duration::from_millis(4);

/// An index batch that is being written to the file.
#[derive(Debug)]
struct Merge {
    from: u64,
    to: u64,
    /// New terms of the batch, with their ids.
    new_terms: Vec<((u8, Vec<u8>), u64)>,
    next_term: u64,
    /// Rows of `postings`, by key.
    rows: Vec<((u8, u64, u64), Vec<u8>)>,
    zones: BTreeMap<(u8, u64), (i64, i64)>,
    cells: BTreeMap<(u64, i32), Cell>,
    /// The new values of the rollups, with what the file already counts.
    sums: Vec<((u64, i32), Vec<u8>)>,
    column: Vec<u8>,
    rows_root: Hash,
    column_root: Hash,
    /// Whether the state in the file records that the batch is in progress.
    begun: bool,
    /// How many new terms were written.
    terms_done: usize,
    /// How many rows were written.
    done: usize,
}

fn column_of(index: &Index) -> Column {
    Column { classes: index.classes.clone(), rows: index.retentions.clone() }
}

impl Merge {
    /// Computes all rows without holding the writer lock: a memory segment that is being merged no longer grows.
    fn prepare(snapshot: &Snapshot, mem_segment: &MemSegment, random: &dyn Random) -> Result<Merge> {
        let index = mem_segment.read();
        let from = mem_segment.from;
        let to = from + index.times.len() as u64;
        let terms = snapshot.table(tables::TERMS)?;
        let mut merge = Merge {
            from,
            to,
            new_terms: Vec::new(),
            next_term: snapshot.state.next_term,
            rows: Vec::new(),
            zones: zone_map::of(from, &index.times),
            cells: BTreeMap::new(),
            sums: Vec::new(),
            column: Vec::new(),
            rows_root: Hash::ZERO,
            column_root: Hash::ZERO,
            begun: false,
            terms_done: 0,
            done: 0,
        };
        let mut ids: HashMap<Facet, Vec<u64>> = HashMap::new();
        let mut order: Vec<(Facet, usize)> = Vec::new();
        for &field in Facet::ALL {
            let lists = index.terms(field);
            let mut field_ids = Vec::with_capacity(lists.len());
            for (value, _) in lists {
                let key = (field as u8, term_key(value.as_bytes()));
                let id = match terms.get((key.0, &*key.1)).stored()? {
                    Some(id) => id.value(),
                    None => {
                        merge.new_terms.push(((key.0, key.1.into_owned()), merge.next_term));
                        merge.next_term += 1;
                        merge.next_term - 1
                    }
                };
                field_ids.push(id);
            }
            order.extend((0..lists.len()).map(|i| (field, i)));
            ids.insert(field, field_ids);
        }
        let place = |&(field, i): &(Facet, usize)| row_order(field, &index.terms(field)[i].0);
        order.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let mut salts = vec![0; order.len() * SALT_BYTES];
        random.fill(&mut salts);
        let mut tree = Frontier::empty();
        for ((position, &(field, i)), salt) in (0..).zip(&order).zip(salts.as_chunks::<SALT_BYTES>().0) {
            let (value, offsets) = &index.terms(field)[i];
            let seqs: Vec<u64> = offsets.iter().map(|&o| from + u64::from(o)).collect();
            let list = encode(&seqs);
            let row = Row { salt: *salt, position, list: List { first: seqs[0], bytes: &list } };
            tree.append(row.leaf(field, value), &mut |_, _, _| {});
            merge.rows.push(((key_prefix(field), ids[&field][i], seqs[0]), row.encode()));
        }
        merge.rows.sort_unstable_by_key(|(key, _)| *key);
        merge.new_terms.sort_unstable();
        merge.rows_root = tree.root();
        merge.add_up(&index, &ids);
        merge.sum_up(snapshot)?;
        let column = column_of(&index);
        merge.column_root = column.root();
        merge.column = column.encode()?;
        Ok(merge)
    }

    fn add_up(&mut self, index: &Index, ids: &HashMap<Facet, Vec<u64>>) {
        for row in &index.calls {
            let id = |field: Facet, i: u32| ids.get(&field).and_then(|ids| ids.get(i as usize)).copied();
            let (Some(tool), Some(user)) = (id(Facet::Tool, row.tool), id(Facet::User, row.user)) else { continue };
            let day = Timestamp::from_nanos(index.times[row.offset as usize]).day();
            self.cells.entry((tool, day)).or_default().add(user, row.success, row.nanos);
        }
    }

    /// Adds what the file has for the same tools and days. Only index batches and purges change that, and only one of them
    /// runs at a time, so this needs no writer lock.
    fn sum_up(&mut self, snapshot: &Snapshot) -> Result<()> {
        let (rollups, zones) = (snapshot.table(tables::ROLLUPS)?, snapshot.table(tables::ZONES)?);
        for (key, mut sum) in std::mem::take(&mut self.cells) {
            if let Some(old) = rollups.get(key).stored()? {
                sum.merge(&Cell::decode(old.value())?);
            }
            self.sums.push((key, sum.encode()?));
        }
        for (key, zone) in &mut self.zones {
            if let Some(old) = zones.get(*key).stored()? {
                let (low, high) = old.value();
                *zone = (zone.0.min(low), zone.1.max(high));
            }
        }
        Ok(())
    }

    /// Writes terms, then rows, until the slice is over. The first slice also reserves the term ids, so that a retry after a
    /// crash does not assign them again.
    fn slice(&mut self, engine: &Engine, writer: &mut WriterState) -> Result<()> {
        let start = engine.config.clock.monotonic();
        let over = |i: usize| i % 64 == 63 && engine.config.clock.monotonic() - start > SLICE;
        let armed = writer.arm();
        let mut state = armed.state.clone();
        let database = engine.database()?;
        let txn = engine.begin_write(database.get()?)?;
        if !self.begun {
            state.merging = Some(self.to);
            state.next_term = self.next_term;
            txn.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
            self.begun = true;
        }
        let mut ended = false;
        {
            let mut terms = txn.open_table(tables::TERMS).stored()?;
            for (i, ((field, key), id)) in self.new_terms[self.terms_done..].iter().enumerate() {
                if over(i) {
                    ended = true;
                    break;
                }
                terms.insert((*field, &**key), id).stored()?;
                self.terms_done += 1;
            }
        }
        if !ended {
            let mut postings = txn.open_table(tables::POSTINGS).stored()?;
            for (i, (key, row)) in self.rows[self.done..].iter().enumerate() {
                if over(i) {
                    break;
                }
                postings.insert(key, &**row).stored()?;
                self.done += 1;
            }
        }
        txn.commit().stored()?;
        armed.disarm();
        writer.state = state;
        Ok(())
    }

    /// Makes the batch visible and records it in the chain.
    fn finish(self, engine: &Engine, writer: &mut WriterState) -> Result<()> {
        let mut staging = Staging::new(engine, writer)?;
        let receipt = staging.system_event(
            Kind::IndexBatch,
            Object::from_iter([
                ("first", Json::from(self.from)),
                ("end", self.to.into()),
                ("rows", (self.rows.len() as u64).into()),
                ("rows_root", self.rows_root.to_string().into()),
                ("column_root", self.column_root.to_string().into()),
            ]),
            None,
        )?;
        staging.state.indexed = self.to;
        staging.state.merging = None;
        engine.commit(writer, staging, |txn| {
            txn.open_table(tables::BATCHES).stored()?.insert(self.from, (self.to, receipt.seq)).stored()?;
            txn.open_table(tables::COLUMNS).stored()?.insert(self.from, &*self.column).stored()?;
            let mut zones = txn.open_table(tables::ZONES).stored()?;
            for (key, zone) in &self.zones {
                zones.insert(key, zone).stored()?;
            }
            let mut rollups = txn.open_table(tables::ROLLUPS).stored()?;
            for (key, sum) in &self.sums {
                rollups.insert(key, &**sum).stored()?;
            }
            Ok(())
        })
    }
}

impl Engine {
    /// Writes the oldest memory segment to the file if it is complete. Returns whether it did.
    pub(crate) fn write_next_batch(&self) -> Result<bool> {
        self.config.process.check()?;
        let _one = self.write.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mem_segment) = self.complete_generation() else { return Ok(false) };
        let snapshot = self.snapshot()?;
        let mut merge = guarded(|| Merge::prepare(&snapshot, &mem_segment, &*self.config.random))?;
        drop(snapshot);
        let still_there = |engine: &Engine| engine.complete_generation().is_some_and(|g| Arc::ptr_eq(&g, &mem_segment));
        loop {
            let written = self.with_writer(|engine, writer| {
                // The writer may have been recovered meanwhile, and everything read again.
                if !still_there(engine) {
                    return Ok(None);
                }
                merge.slice(engine, writer)?;
                Ok(Some(merge.done == merge.rows.len()))
            })?;
            match written {
                None => return Ok(true),
                Some(true) => break,
                Some(false) => {}
            }
        }
        self.with_writer(|engine, writer| {
            if still_there(engine) {
                merge.finish(engine, writer)?;
                // If the commit failed but had reached the disk, the state was read again, without this memory segment.
                let mut published = engine.read.published.write().unwrap_or_else(PoisonError::into_inner);
                published.mem_segments.retain(|g| !Arc::ptr_eq(g, &mem_segment));
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// Writes the whole in-memory index to the file, however small, so that an index batch covers every entry but the batch's
    /// own.
    pub(crate) fn write_all_batches(&self) -> Result<()> {
        let snapshot = self.snapshot()?;
        // The entry of the last batch alone needs no batch of its own, which would need another one.
        if snapshot.size == snapshot.indexed + 1
            && guarded(|| snapshot.entry(snapshot.indexed))?.kind() == Kind::IndexBatch
        {
            return Ok(());
        }
        drop(snapshot);
        self.freeze_newest();
        while self.write_next_batch()? {}
        Ok(())
    }

    /// Writes the whole in-memory index and signs, so that at most a few system events lie between the last batch and the
    /// checkpoint. Returns the checkpoint and a snapshot of that state.
    ///
    /// A completeness proof has to show the entries that no batch covers; otherwise these would include calls of other
    /// people.
    pub(crate) fn settle(&self) -> Result<(SignedCheckpoint, Snapshot)> {
        if self.keys().is_none() {
            let message = "the store has no keys here, so nothing can be signed; bring back its key file";
            return Err(Error::new(ErrorKind::Key, message));
        }
        if !is_settled(&self.snapshot()?)? {
            // In slices, while others keep recording; little is left to do while they wait.
            self.write_all_batches()?;
        }
        let _one = self.write.merging.lock().unwrap_or_else(PoisonError::into_inner);
        self.with_writer(|engine, writer| {
            while !is_settled(&engine.snapshot()?)? {
                engine.freeze_newest();
                let Some(mem_segment) = engine.complete_generation() else { break };
                let mut merge = Merge::prepare(&engine.snapshot()?, &mem_segment, &*engine.config.random)?;
                loop {
                    merge.slice(engine, writer)?;
                    if merge.done == merge.rows.len() {
                        break;
                    }
                }
                merge.finish(engine, writer)?;
                engine.read.published.write().unwrap_or_else(PoisonError::into_inner).mem_segments.remove(0);
            }
            Ok((engine.sign(writer)?, engine.snapshot()?))
        })
    }

    fn freeze_newest(&self) {
        let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = published.mem_segments.last() {
            newest.freeze();
        }
    }

    fn complete_generation(&self) -> Option<Arc<MemSegment>> {
        let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
        published.mem_segments.first().filter(|g| g.is_complete()).cloned()
    }
}

/// Whether the entries that no batch covers may be shown to anybody: a few system events that name nobody.
fn is_settled(snapshot: &Snapshot) -> Result<bool> {
    const FEW: u64 = 16;
    if snapshot.size - snapshot.indexed.min(snapshot.size) > FEW {
        return Ok(false);
    }
    for seq in snapshot.indexed..snapshot.size {
        if !is_impersonal(snapshot.entry(seq)?.kind()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether entries of this kind name nobody.
pub(crate) fn is_impersonal(kind: Kind) -> bool {
    matches!(kind, Kind::Genesis | Kind::Policy | Kind::Key | Kind::Clock | Kind::IndexBatch)
}
