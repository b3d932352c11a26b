//! Writing a store anew, without what a purge takes.
//!
//! Deleted bytes stay in a redb file until their pages are used again, and the file keeps its length. So a purge does
//! not delete: it copies what stays into a new file beside the old one, and the new file takes the old one's name. Until
//! that moment nothing has happened; from then on nothing of what was purged is in the file, and the bytes are given back.
//!
//! Invariant X1: the copy is made from one snapshot while recording goes on; what was recorded since is carried over at
//! the end, with the turn. Invariant X2: a leaf hash stays where its entry stays; where entries are gone, `covers` and
//! `nodes` hold the smallest set of Merkle nodes that still gives the root of every size that was ever signed.

use super::block::{Packed, Sealer};
use super::merge::{Row, row_inner, write_husk};
use super::state::STATE_KEY;
use super::tables::{self, Stored};
use super::{NODE_LEVEL, Snapshot, zones};
use crate::codec;
use crate::entry::{Body, Field};
use crate::merkle::{self, Nodes};
use crate::retention::SeqSet;
use crate::{Error, Result};
use redb::{ReadableTable, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is taken out.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// What this purge takes.
    pub taken: SeqSet,
    /// All that is gone then.
    pub gone: SeqSet,
    /// Every size whose root must still be known.
    pub sizes: Vec<u64>,
    /// The new rollups of the tools and days from which calls are taken; `None` where none is left.
    pub cells: BTreeMap<(u64, i32), Option<Vec<u8>>>,
}

/// Copies everything that `snapshot` holds and `cut` leaves. Entries are sealed into blocks, the tail is empty.
pub(super) fn copy(snapshot: &Snapshot, txn: &WriteTransaction, cut: &Cut) -> Result<()> {
    snapshot.check_tables()?;
    tables::make_all(txn)?;
    let zones = entries(snapshot, txn, cut)?;
    proofs(snapshot, txn, cut)?;
    let kept_terms = postings(snapshot, txn, cut)?;
    {
        let mut to = txn.open_table(tables::TERMS).stored()?;
        for row in snapshot.table(tables::TERMS)?.iter().stored()? {
            let (key, id) = row.stored()?;
            if kept_terms.contains(&id.value()) {
                to.insert(key.value(), id.value()).stored()?;
            }
        }
    }
    {
        let mut to = txn.open_table(tables::ZONES).stored()?;
        for (key, zone) in zones {
            to.insert(key, zone).stored()?;
        }
    }
    {
        let mut to = txn.open_table(tables::ROLLUPS).stored()?;
        for row in snapshot.table(tables::ROLLUPS)?.iter().stored()? {
            let (key, cell) = row.stored()?;
            match cut.cells.get(&key.value()) {
                None => to.insert(key.value(), cell.value()).stored().map(|_| ())?,
                Some(Some(cell)) => to.insert(key.value(), &**cell).stored().map(|_| ())?,
                Some(None) => {}
            }
        }
    }
    macro_rules! verbatim {
        ($($table:expr),*) => {$({
            let mut to = txn.open_table($table).stored()?;
            for row in snapshot.table($table)?.iter().stored()? {
                let (key, value) = row.stored()?;
                to.insert(key.value(), value.value()).stored()?;
            }
        })*};
    }
    verbatim!(tables::COLUMNS, tables::BATCHES, tables::PURGES);
    small(snapshot, txn, cut)
}

/// Carries over what was recorded after `from` entries, and everything small that may have changed meanwhile. Gives the
/// seq from which entries stand in the tail. Whole blocks are sealed as they fill; with `seal`, the rest too.
pub(super) fn catch_up(snapshot: &Snapshot, txn: &WriteTransaction, cut: &Cut, from: u64, seal: bool) -> Result<u64> {
    let mut sealer = Sealer::default();
    let mut sealed = from;
    {
        let mut blocks = txn.open_table(tables::BLOCKS).stored()?;
        let mut pending = Vec::new();
        for seq in from..snapshot.size {
            let packed = present(snapshot, seq)?;
            if let Some((first, block)) = sealer.push(seq, &packed)? {
                blocks.insert(first, &*block).stored()?;
                sealed = seq;
                pending.clear();
            }
            pending.push(packed);
        }
        if seal {
            if let Some((first, block)) = sealer.finish()? {
                blocks.insert(first, &*block).stored()?;
            }
            sealed = snapshot.size;
        } else {
            let mut tail = txn.open_table(tables::TAIL).stored()?;
            for (seq, packed) in (sealed..).zip(&pending) {
                tail.insert(seq, &*packed.to_row()).stored()?;
            }
        }
    }
    let mut nodes = txn.open_table(tables::NODES).stored()?;
    for level in NODE_LEVEL..64 {
        let (had, has) = (from >> level, snapshot.size >> level);
        for index in had..has {
            nodes.insert((level, index), snapshot.node(level, index)?.0).stored()?;
        }
        if has == 0 {
            break;
        }
    }
    drop(nodes);
    small(snapshot, txn, cut)?;
    let mut state = snapshot.state.clone();
    state.sealed = sealed;
    state.size = snapshot.size;
    let mut meta = txn.open_table(tables::META).stored()?;
    for row in snapshot.table(tables::META)?.iter().stored()? {
        let (key, value) = row.stored()?;
        meta.insert(key.value(), value.value()).stored()?;
    }
    meta.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
    Ok(sealed)
}

/// Tables that are small and may change while the copy is made.
fn small(snapshot: &Snapshot, txn: &WriteTransaction, cut: &Cut) -> Result<()> {
    // Replaced as a whole: an erasure, say, may have taken rows away since the last time.
    macro_rules! replaced {
        ($($table:expr),*) => {$({
            let mut to = txn.open_table($table).stored()?;
            to.retain(|_, _| false).stored()?;
            for row in snapshot.table($table)?.iter().stored()? {
                let (key, value) = row.stored()?;
                to.insert(key.value(), value.value()).stored()?;
            }
        })*};
    }
    replaced!(
        tables::SENDERS,
        tables::CHECKPOINTS,
        tables::ATTESTATIONS,
        tables::MARKS,
        tables::SUBJECTS,
        tables::SUBJECT_TAGS
    );
    let mut unfinished = txn.open_table(tables::UNFINISHED).stored()?;
    unfinished.retain(|_, ()| false).stored()?;
    for row in snapshot.table(tables::UNFINISHED)?.iter().stored()? {
        let seq = row.stored()?.0.value();
        if !cut.taken.contains(seq) {
            unfinished.insert(seq, ()).stored()?;
        }
    }
    Ok(())
}

fn present(snapshot: &Snapshot, seq: u64) -> Result<Packed> {
    let found = snapshot.find(seq)?;
    found.map(|f| f.packed).ok_or_else(|| Error::damaged(format!("entry {seq} is missing; restore a backup")))
}

/// Copies the entries and works out the zones of what stays.
fn entries(snapshot: &Snapshot, txn: &WriteTransaction, cut: &Cut) -> Result<BTreeMap<(u8, u64), (i64, i64)>> {
    let mut blocks = txn.open_table(tables::BLOCKS).stored()?;
    let mut zones = BTreeMap::new();
    let mut sealer = Sealer::default();
    let indexed = snapshot.state.indexed;
    let mut add = |seq: u64, packed: &Packed, blocks: &mut redb::Table<'_, u64, &'static [u8]>| -> Result<()> {
        if seq < indexed && touches(&cut.taken, seq) {
            let body: Body = codec::decode_trusted(&packed.bytes).map_err(|e| Error::from(e).at(seq))?;
            for (key, zone) in zones::of(seq, &[body.timestamp().nanos()]) {
                if key.0 == 0 {
                    join(&mut zones, key, zone);
                }
            }
        }
        if let Some((first, block)) = sealer.push(seq, packed)? {
            blocks.insert(first, &*block).stored()?;
        }
        Ok(())
    };
    snapshot.scan_blocks(0, snapshot.state.sealed, &mut |scanned| {
        let block = scanned.block?;
        for (i, seq) in block.seqs().enumerate() {
            if seq < snapshot.size && !cut.taken.contains(seq) {
                let bytes = block.body(i).map_err(|e| Error::from(e).at(seq))?.into_owned();
                add(seq, &Packed { prev: block.prev(seq, i), hash: block.hash(i), bytes }, &mut blocks)?;
            }
        }
        Ok(())
    })?;
    for seq in snapshot.state.sealed..snapshot.size {
        if !cut.taken.contains(seq) {
            add(seq, &present(snapshot, seq)?, &mut blocks)?;
        }
    }
    if let Some((first, block)) = sealer.finish()? {
        blocks.insert(first, &*block).stored()?;
    }
    // Zones that lose nothing stay as they are; higher ones are made from the lowest.
    snapshot.scan_zones(&mut |level, index, zone| {
        if level == 0 && !touches(&cut.taken, index << zones::LEVELS[0]) {
            zones.insert((0, index), zone);
        }
        Ok(())
    })?;
    for ((_, index), zone) in zones.clone() {
        for level in 1..zones::LEVELS.len() {
            join(&mut zones, (level as u8, index >> (zones::LEVELS[level] - zones::LEVELS[0])), zone);
        }
    }
    Ok(zones)
}

/// Whether anything is taken from the lowest zone that holds `seq`.
fn touches(taken: &SeqSet, seq: u64) -> bool {
    let first = seq >> zones::LEVELS[0] << zones::LEVELS[0];
    taken.intersects(first, first + (1 << zones::LEVELS[0]) - 1)
}

fn join(zones: &mut BTreeMap<(u8, u64), (i64, i64)>, key: (u8, u64), (low, high): (i64, i64)) {
    let zone = zones.entry(key).or_insert((low, high));
    *zone = (zone.0.min(low), zone.1.max(high));
}

/// The nodes that stand for what is gone, by [`merkle::cover`].
pub(crate) fn covers(gone: &SeqSet, sizes: &[u64]) -> Vec<(u8, u64)> {
    let ranges: Vec<_> = gone.ranges().map(|(first, last)| first..last + 1).collect();
    merkle::cover(&ranges, sizes)
}

/// Whether a node lies inside one that stands for it.
pub(crate) fn is_inside(covers: &HashSet<(u8, u64)>, level: u8, index: u64) -> bool {
    (level + 1..64).any(|above| covers.contains(&(above, index >> (above - level))))
}

fn proofs(snapshot: &Snapshot, txn: &WriteTransaction, cut: &Cut) -> Result<()> {
    let mut covered = HashSet::new();
    let mut to = txn.open_table(tables::COVERS).stored()?;
    for (level, index) in covers(&cut.gone, &cut.sizes) {
        if level < NODE_LEVEL {
            to.insert((level, index), snapshot.node(level, index)?.0).stored()?;
        } else {
            covered.insert((level, index));
        }
    }
    let mut to = txn.open_table(tables::NODES).stored()?;
    snapshot.scan_nodes(&mut |level, index, hash| {
        // What a commit after the snapshot's size completed comes with the catch-up.
        if index < snapshot.size >> level && !is_inside(&covered, level, index) {
            to.insert((level, index), hash.0).stored()?;
        }
        Ok(())
    })
}

/// Copies the posting rows of terms that still have an entry; of others a husk stays. Gives the terms that stay.
fn postings(snapshot: &Snapshot, txn: &WriteTransaction, cut: &Cut) -> Result<BTreeSet<u64>> {
    let mut kept = BTreeSet::new();
    let mut rows = txn.open_table(tables::POSTINGS).stored()?;
    let mut husks = txn.open_table(tables::HUSKS).stored()?;
    let mut batches = Vec::new();
    snapshot.scan_batches(&mut |first, _, _| {
        batches.push(first);
        Ok(())
    })?;
    snapshot.scan_husks(&mut |first, position, husk| {
        let (inner, seqs) = husk.ok_or_else(|| Error::damaged("what a purge left of an index row is damaged"))?;
        husks.insert((first, position), &*write_husk(&inner, &seqs)).stored()?;
        Ok(())
    })?;
    snapshot.scan_postings(&mut |field, term, first, row| {
        let damaged = || Error::damaged(format!("the index row of facet {field}, term {term}, seq {first} is damaged"));
        let row: Row = row.ok_or_else(damaged)?;
        if row.seqs.iter().any(|&seq| !cut.gone.contains(seq)) {
            kept.insert(term);
            rows.insert((field, term, first), &*row.encode()).stored()?;
            return Ok(());
        }
        let field = Field::from_u8(field).ok_or_else(damaged)?;
        let value = value_of(snapshot, field, term, &row.seqs)?.ok_or_else(damaged)?;
        let batch = batches.partition_point(|&b| b <= first).checked_sub(1).map(|i| batches[i]);
        let husk = write_husk(&row_inner(&row.salt, field, &value), &row.seqs);
        husks.insert((batch.ok_or_else(damaged)?, row.position), &*husk).stored()?;
        Ok(())
    })?;
    Ok(kept)
}

/// The value of a term, from an entry that has it.
fn value_of(snapshot: &Snapshot, field: Field, term: u64, seqs: &[u64]) -> Result<Option<String>> {
    for &seq in seqs {
        let Some(found) = snapshot.find(seq)? else { continue };
        let mut values = Vec::new();
        found.entry()?.body.facets(&mut |f, value| {
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
