//! What a snapshot holds of the segment that it read last, and of the tail.
//!
//! The calls of a conversation lie in one or two blocks of a segment, and those that follow each other in the log in as many blocks as
//! the segment has. So all blocks that were read of one segment stay until another is read, up to a limit: the second access to a
//! block finds its row here, and the third decodes the block for all later ones. Whoever reads a whole segment in the order of the
//! log decodes each block once.

use crate::codec::CodecError;
use crate::store::file::read_view::ReadView;
use crate::store::file::redb_errors::Stored;
use crate::store::layout::block::{Block, Place};
use crate::store::layout::directory::Directory;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::leaf_row::LeafRow;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::segment::Cuts;
use crate::store::layout::tail_row::{TailEntry, TailRow};
use crate::{Error, Hash, Result};
use redb::AccessGuard;
use std::collections::HashMap;
use std::fmt;

/// How many bytes of blocks are held at most.
const MOST: usize = 4 << 20;

/// A row as redb lends it.
type Lent = AccessGuard<'static, &'static [u8]>;

/// What is held.
#[derive(Default)]
pub(crate) struct Held {
    /// The first seq of the segment.
    segment: u64,
    /// Its directory, if it was read and is there.
    directory: Option<Option<Lent>>,
    /// The key of the row of leaf hashes that was read last, and the row if it is there.
    leaves: Option<(u64, Option<HeldLeaves>)>,
    seeds: Option<Seeds>,
    blocks: HashMap<u64, HeldBlock>,
    bytes: usize,
    /// The row of the tail that was read last, with its first seq and how many entries it has.
    tail: Option<(u64, u64, Lent)>,
}

/// A block that was read.
enum HeldBlock {
    Row { row: Lent, again: bool },
    Open { block: Box<Block<'static>>, places: Vec<Place> },
}

/// A row of leaf hashes that was read: as it is for the first access, decoded for those after the second.
struct HeldLeaves {
    row: Lent,
    again: bool,
    open: Option<LeafRow<'static>>,
}

impl HeldLeaves {
    fn find(&mut self, seq: u64) -> Result<Option<(Hash, Option<Hash>)>, CodecError> {
        if let Some(open) = &self.open {
            return Ok(open.find(seq));
        }
        let row = LeafRow::decode(self.row.value())?;
        let found = row.find(seq);
        if std::mem::replace(&mut self.again, true) {
            self.open = Some(row.into_owned());
        }
        Ok(found)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks of the segment of {}", self.blocks.len(), self.segment)
    }
}

/// Touches the bytes of a block at intervals: reading an entry accesses about ten places in its block, which the processor
/// then fetches in parallel instead of one after the other.
fn fetch(row: &[u8]) {
    std::hint::black_box(row.iter().take(1536).step_by(64).fold(0, |all, byte| all | byte));
}

impl Held {
    /// Lets go of another segment than that of this seq.
    fn enter(&mut self, cuts: Cuts, seq: u64) {
        let segment = cuts.start(seq);
        if self.segment != segment {
            let tail = self.tail.take();
            *self = Held { segment, tail, ..Held::default() };
        }
    }

    /// The hash of the entry at `seq`, which is in a segment, and the hash before it unless that is kept elsewhere; `None` if the
    /// entry is gone.
    pub(crate) fn leaf(&mut self, view: &ReadView, cuts: Cuts, seq: u64) -> Result<Option<(Hash, Option<Hash>)>> {
        self.enter(cuts, seq);
        let key = cuts.leaf_row(seq).start;
        if self.leaves.as_ref().is_none_or(|(held, _)| *held != key) {
            let row = view.leaves()?.get(key).stored()?;
            self.leaves = Some((key, row.map(|row| HeldLeaves { row, again: false, open: None })));
        }
        let Some((_, Some(row))) = &mut self.leaves else { return Ok(None) };
        row.find(seq).map_err(|e| Error::from(e).at(format!("the hashes from entry {key} on")))
    }

    /// The key of the block with the content of the entry at `seq`, which is in a segment; `None` if the entry is gone.
    pub(crate) fn block_of(&mut self, view: &ReadView, cuts: Cuts, seq: u64) -> Result<Option<u64>> {
        self.enter(cuts, seq);
        if self.directory.is_none() {
            self.directory = Some(view.directories()?.get(self.segment).stored()?);
        }
        let Some(Some(row)) = &self.directory else { return Ok(None) };
        let damaged = |e: CodecError| Error::from(e).at(format!("the segment of entry {}", self.segment));
        let directory = Directory::read(row.value(), cuts.entries()).map_err(damaged)?;
        Ok(directory.place(cuts.offset(seq).into()).and_then(|place| place.checked_add(self.segment)))
    }

    /// Reads the record of the entry at `seq` from the block with this key.
    ///
    /// # Errors
    /// `Damaged` if it is not there, or cannot be read.
    pub(crate) fn record<T>(
        &mut self,
        view: &ReadView,
        cuts: Cuts,
        (seq, key): (u64, u64),
        read: impl FnOnce(EntryRecord<'_>) -> Result<T>,
    ) -> Result<T> {
        self.enter(cuts, seq);
        if self.seeds.is_none() {
            self.seeds = Some(seeds_of(view, self.segment)?);
        }
        let nonce = self.seeds.as_ref().and_then(|seeds| seeds.nonce(cuts.offset(seq)));
        let missing =
            || Error::damaged(format!("the content of entry {seq} is not in the block that the directory names"));
        let record =
            |block: &Block<'_>, place: &Place| read(block.part(place, nonce).map_err(|e| Error::from(e).at(seq))?);
        let damaged = |e: CodecError| Error::from(e).at(format!("block {key}"));
        match self.blocks.get_mut(&key) {
            Some(HeldBlock::Open { block, places }) => {
                let at = places.binary_search_by_key(&seq, |place| place.seq).map_err(|_| missing())?;
                record(block, &places[at])
            }
            Some(HeldBlock::Row { row, again }) => {
                let block = Block::decode(row.value()).map_err(damaged)?;
                let done = record(&block, &block.find(seq).ok_or_else(missing)?)?;
                if std::mem::replace(again, true) {
                    let mut places: Vec<Place> = block.places().collect();
                    places.sort_by_key(|place| place.seq);
                    let block = Box::new(block.into_owned());
                    self.bytes += block.bytes();
                    self.blocks.insert(key, HeldBlock::Open { block, places });
                }
                Ok(done)
            }
            None => {
                let row = view.blocks()?.get(key).stored()?.ok_or_else(missing)?;
                fetch(row.value());
                let block = Block::decode(row.value()).map_err(damaged)?;
                let done = record(&block, &block.find(seq).ok_or_else(missing)?)?;
                drop(block);
                if self.bytes + row.value().len() > MOST {
                    self.blocks.clear();
                    self.bytes = 0;
                }
                self.bytes += row.value().len();
                self.blocks.insert(key, HeldBlock::Row { row, again: false });
                Ok(done)
            }
        }
    }

    /// Reads the entry at `seq` in the tail; `None` if it is not there.
    pub(crate) fn tail<T>(
        &mut self,
        view: &ReadView,
        seq: u64,
        read: impl FnOnce(TailEntry<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let holds = |(first, count, _): &(u64, u64, Lent)| seq.checked_sub(*first).is_some_and(|at| at < *count);
        if !self.tail.as_ref().is_some_and(holds) {
            let Some(row) = view.tail()?.range(..=seq).stored()?.next_back() else { return Ok(None) };
            let (key, row) = row.stored()?;
            let first = key.value();
            let count = tail_row(first, row.value())?.count();
            self.tail = Some((first, count, row));
        }
        let Some((first, _, row)) = self.tail.as_ref().filter(|tail| holds(tail)) else { return Ok(None) };
        let at = usize::try_from(seq - first).unwrap_or(usize::MAX);
        tail_row(*first, row.value())?.entries().nth(at).map(read).transpose()
    }
}

fn tail_row(first: u64, row: &[u8]) -> Result<TailRow<'_>> {
    TailRow::decode(row).map_err(|e| Error::from(e).at(first))
}

/// The seeds of the segment that begins at `start`; none if the file has none.
pub(crate) fn seeds_of(view: &ReadView, start: u64) -> Result<Seeds> {
    match view.seeds()?.get(start).stored()? {
        None => Ok(Seeds::default()),
        Some(row) => Seeds::decode(row.value())
            .map_err(|e| Error::from(e).at(format!("the seeds of the segment of entry {start}"))),
    }
}
