//! Segments: how a run of entries lies in the file once it is complete.
//!
//! A segment's leaf hashes lie in the order of the log ([`leaf_row`](super::leaf_row)). Its contents lie in clustered order, by user,
//! then conversation, then seq, in blocks of up to two pages ([`block`](super::block)): so the calls of a conversation are read with one
//! block or two, although those of hundreds of conversations lie between them in the log. A directory says in which block the
//! content of each entry is ([`directory`](super::directory)).
//!
//! Invariant B5: blocks, their order, and the directory follow from the entries of the segment; nothing in them decides what an
//! entry says. Invariant B6: a row of a segment has a key within the seqs of the segment: a block the first seq plus its place among
//! the blocks, a row of leaf hashes the first seq that it may have, directory and seeds the first seq.

use crate::store::layout::block::BlockBuilder;
use crate::store::layout::directory;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::leaf_row::LeafRowBuilder;
use crate::store::layout::seeds::{LEAVES, Seeds};
use crate::store::layout::stored_entry::decode_content;
use crate::{Error, Hash, Result};
use attestlog_proof::entry::Content;
use std::ops::Range;

/// How many entries a segment has. Measured with 300,000 calls of 200 conversations at a time: 1.3 blocks a conversation, 4.2 for the
/// newest 50 calls of a user. A segment of this size has 32 full rows of leaf hashes, and a directory that fits two pages.
pub(crate) const SEGMENT: u32 = 7_168;

/// How many entries a row of leaf hashes covers: what fits two pages.
pub(crate) const LEAF_ROW: u64 = 224;

const _: () = assert!(SEGMENT < LEAVES && (SEGMENT as u64).is_multiple_of(LEAF_ROW));

/// How the log is cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cuts(u64);

impl Cuts {
    /// Segments of this many entries.
    ///
    /// # Errors
    /// `Damaged` if no segment can have so many.
    pub(crate) fn every(entries: u32) -> Result<Cuts> {
        match entries {
            1..=SEGMENT => Ok(Cuts(entries.into())),
            _ => Err(Error::damaged(format!("the store says that its segments have {entries} entries"))),
        }
    }

    /// How many entries a segment has.
    pub(crate) fn entries(self) -> u64 {
        self.0
    }

    /// The first seq of the segment of this seq.
    pub(crate) fn start(self, seq: u64) -> u64 {
        seq - seq % self.0
    }

    /// The seqs of the segment of this seq.
    pub(crate) fn segment(self, seq: u64) -> Range<u64> {
        let start = self.start(seq);
        start..start.saturating_add(self.0)
    }

    /// The place of this seq in its segment.
    pub(crate) fn offset(self, seq: u64) -> u32 {
        (seq % self.0) as u32
    }

    /// The seqs of the row of leaf hashes of this seq.
    pub(crate) fn leaf_row(self, seq: u64) -> Range<u64> {
        let segment = self.segment(seq);
        let start = seq - (seq - segment.start) % LEAF_ROW;
        start..start.saturating_add(LEAF_ROW).min(segment.end)
    }
}

/// The place of an entry among the contents of its segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterKey<S = String> {
    pub user: S,
    pub conversation: S,
    pub seq: u64,
}

impl<'c> ClusterKey<&'c str> {
    /// The place of an entry with this content. System events, and what cannot be read, come first.
    pub(crate) fn of<S: AsRef<str>>(seq: u64, content: Option<&'c Content<S>>) -> ClusterKey<&'c str> {
        let (user, conversation) = match content {
            Some(Content::Call(call)) => (call.user_id.as_ref(), call.conversation_id.as_ref()),
            _ => ("", ""),
        };
        ClusterKey { user, conversation, seq }
    }
}

impl ClusterKey {
    /// The place of a stored entry.
    pub(crate) fn of_record(seq: u64, record: &EntryRecord<'_>) -> ClusterKey {
        let content = decode_content::<&str>(&record.content).ok();
        let ClusterKey { user, conversation, seq } = ClusterKey::of(seq, content.as_ref());
        ClusterKey { user: user.to_owned(), conversation: conversation.to_owned(), seq }
    }
}

/// A row of a segment, in the table that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOf {
    Leaves,
    Blocks,
    Directory,
}

/// A row that was made: its table, its key, its value.
pub(crate) type Made<'a> = dyn FnMut(RowOf, u64, Vec<u8>) -> Result<()> + 'a;

/// The rows of leaf hashes of a segment, made from its entries in the order of the log.
#[derive(Debug)]
pub(crate) struct LeafRows {
    cuts: Cuts,
    key: u64,
    builder: LeafRowBuilder,
}

impl LeafRows {
    pub(crate) fn new(cuts: Cuts) -> LeafRows {
        LeafRows { cuts, key: 0, builder: LeafRowBuilder::default() }
    }

    /// Adds an entry; `prev` is the hash before it unless `covers` has that.
    pub(crate) fn add(&mut self, seq: u64, hash: &Hash, prev: Option<&Hash>, made: &mut Made<'_>) -> Result<()> {
        let key = self.cuts.leaf_row(seq).start;
        if key != self.key {
            self.finish(made)?;
            self.key = key;
        }
        self.builder.add(seq, hash, prev);
        Ok(())
    }

    pub(crate) fn finish(&mut self, made: &mut Made<'_>) -> Result<()> {
        self.builder.finish()?.map_or(Ok(()), |row| made(RowOf::Leaves, self.key, row))
    }
}

/// Reads the record of an entry, and hands it over.
pub(crate) type Read<'a> = dyn FnMut(u64, &mut dyn FnMut(&EntryRecord<'_>) -> Result<()>) -> Result<()> + 'a;

/// Makes the blocks and the directory of the segment that begins at `start` from the entries with these keys. No more than one content
/// is held at a time.
pub(crate) fn pack(
    cuts: Cuts,
    start: u64,
    mut entries: Vec<ClusterKey>,
    seeds: &Seeds,
    read: &mut Read<'_>,
    made: &mut Made<'_>,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    entries.sort_unstable();
    let mut places: Vec<Option<u64>> = vec![None; cuts.entries() as usize];
    let mut builder = BlockBuilder::new(start);
    let mut blocks = 0;
    for ClusterKey { seq, .. } in &entries {
        let offset = cuts.offset(*seq);
        let mut full = None;
        read(*seq, &mut |record| {
            let own = seeds.nonce(offset) != Some(record.head.nonce);
            full = builder.push(*seq, record, own)?;
            Ok(())
        })?;
        if let Some(block) = full {
            made(RowOf::Blocks, start + blocks, block)?;
            blocks += 1;
        }
        if let Some(place) = places.get_mut(offset as usize) {
            *place = Some(blocks);
        }
    }
    if let Some(block) = builder.finish()? {
        made(RowOf::Blocks, start + blocks, block)?;
    }
    made(RowOf::Directory, start, directory::encode(&places))
}
