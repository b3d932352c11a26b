//! What the fuzz targets use to reach stored bytes. Compiled only with the feature `fuzzing`; not part of the public interface.

pub use super::fuzzing_pages::pages;
use crate::codec;
use crate::retention::SeqSet;
use crate::rows::BATCH;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::block::Block;
use crate::store::layout::directory::{self, Directory};
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::index_row::{Column, Row};
use crate::store::layout::leaf_row::{LeafRow, LeafRowBuilder};
use crate::store::layout::rollup::Cell;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::sender_window::Window;
use crate::store::layout::state::State;
use crate::store::layout::stored_entry::encode_body;
use crate::store::layout::tail_row::{TailRow, TailRows};
use crate::{Hash, Result, ToolCall, line};
pub use redb::StorageBackend;

/// How many kinds of stored value there are.
pub const KINDS: u8 = 12;

/// Decodes `bytes` as the stored value of this kind. Whatever the bytes, decoding must not panic, and its memory and time must stay
/// in proportion to their length; where nothing else vouches for a value, only its one canonical form may be accepted (C2, P1).
pub fn stored(kind: u8, bytes: &[u8]) {
    match kind % KINDS {
        0 => {
            if let Ok((head, content)) = codec::decode_first(bytes)
                && let Ok(body) = (EntryRecord { head, content: content.into() }).body::<String>()
            {
                assert_eq!(encode_body(&body).ok().as_deref(), Some(bytes), "a body has one form");
                let mut text = Vec::new();
                line::write(&mut text, 7, &Hash::ZERO, &body);
                body.facets(&mut |_, _| {});
            }
        }
        1 => block(bytes),
        2 => {
            if let Ok(row) = TailRow::decode(bytes) {
                let mut again = TailRows::default();
                (1000..).zip(row.entries()).for_each(|(seq, entry)| again.add(seq, &entry, u64::MAX));
                let again = again.finish();
                assert!(again.len() > 1 || again.iter().all(|(_, row)| row == bytes), "a row of the tail has one form");
            }
        }
        3 => {
            if let Some(row) = Row::read(1000, bytes) {
                assert_eq!(row.encode(), bytes, "a posting row has one form");
                if let Some(seqs) = row.list.seqs(BATCH as usize) {
                    assert!(seqs.is_sorted() && seqs.first() == Some(&1000), "a posting list rises");
                }
            }
        }
        4 => {
            if let Ok(column) = Column::decode(bytes) {
                let _ = column.root();
                column.rows.iter().for_each(|&row| _ = column.retention(row));
            }
        }
        5 => {
            if let Ok(mut cell) = Cell::decode(bytes) {
                [0.0, 0.5, 0.99, 1.0].iter().for_each(|&p| _ = cell.percentile(p));
            }
        }
        6 => {
            if let Ok(window) = Window::decode(bytes) {
                assert_eq!(window.encode().ok().as_deref(), Some(bytes), "a sender's row has one form");
            }
        }
        7 => {
            if let Ok(state) = State::decode(bytes) {
                assert_eq!(codec::encode(&state).ok().as_deref(), Some(bytes), "the state has one form");
            }
        }
        9 => {
            if let Ok(row) = LeafRow::decode(bytes) {
                let mut again = LeafRowBuilder::default();
                for (seq, hash, prev) in row.entries() {
                    assert_eq!(row.find(seq), Some((hash, prev)), "a row of hashes finds its own");
                    again.add(seq, &hash, prev.as_ref());
                }
                assert_eq!(again.finish().ok().flatten().as_deref(), Some(bytes), "a row of hashes has one form");
            }
        }
        10 => {
            if let Ok(seeds) = Seeds::decode(bytes) {
                assert_eq!(seeds.encode(), bytes, "seeds have one form");
                let (first, walked) = (seeds.nonce(0), seeds.clone().next_nonce(0));
                assert_eq!(first, walked, "a nonce is one, however it is found");
            }
        }
        11 => {
            let entries = bytes.len().saturating_sub(1) as u64;
            for entries in [entries, entries / 2] {
                if let Ok(directory) = Directory::read(bytes, entries)
                    && directory.is_canonical()
                {
                    let places: Vec<_> = (0..entries).map(|offset| directory.place(offset)).collect();
                    assert_eq!(directory::encode(&places), bytes, "a directory has one form");
                }
            }
        }
        _ => {
            if let Ok(set) = SeqSet::decode(bytes) {
                assert_eq!(set.encode(), bytes, "a set of seqs has one form");
            }
        }
    }
}

/// A block of contents, which nothing vouches for until its entries are hashed.
fn block(bytes: &[u8]) {
    if let Ok(block) = Block::decode(bytes) {
        let block = block.into_owned();
        let whole = block.is_whole();
        let places: Vec<_> = block.places().collect();
        assert!(!whole || !places.is_empty(), "a whole block has entries");
        for place in &places {
            let nonce = Some([7; 16]);
            let (part, alone) = (block.part(place, nonce), block.find(place.seq));
            let alone = alone.filter(|alone| alone.index() == place.index()).map(|alone| block.part(&alone, nonce));
            if let Some(alone) = alone {
                assert_eq!(part.is_ok(), alone.is_ok(), "an entry is read alone as it is among the others");
                if let (Ok(part), Ok(alone)) = (&part, &alone) {
                    assert_eq!(part.content, alone.content, "an entry is read alone as it is among the others");
                }
            }
            let _ = part.map(|part| part.body::<String>().is_ok());
        }
    }
}

/// Stored values of every kind from a small store, as the initial corpus.
///
/// # Errors
/// None expected.
pub fn samples() -> Result<Vec<(u8, Vec<u8>)>> {
    let random = std::sync::Arc::new(crate::host::SeededRandom::new(1));
    let log = crate::Options::new().random(random).segment_entries(32).store_in_memory()?;
    for i in 0..40u64 {
        let call = ToolCall::new(format!("conv_{}", i % 5), format!("usr_{}", i % 3), "lookup");
        let call = call.patient(format!("P-{}", i % 4)).duration(std::time::Duration::from_micros(100 * i));
        log.record(call.sender(crate::Sender::new("host", i + 1)).result(i % 7 != 0))?;
    }
    let source = || attestlog_proof::Source::new(attestlog_proof::SourceKind::Hook);
    let told = ToolCall::new("c", "u", "t").source(source()).trace("t-1", Some("s-1")).resource("file", "/x");
    let first = log.record(told.clone())?.seq;
    let newest = log.record(told.detail_of(first).contradicts(["model"]))?.seq;
    log.flush_index()?;
    let snapshot = log.snapshot()?;
    let mut samples = Vec::new();
    for seq in (0..4).chain(first..=newest) {
        if let Some(entry) = snapshot.find(seq)? {
            samples.push((0, encode_body(&entry.body)?));
        }
    }
    let mut each = |kind, bytes: &[u8]| samples.push((kind, bytes.to_vec()));
    for (kind, table) in
        [(1, tables::BLOCKS), (2, tables::TAIL), (9, tables::LEAVES), (10, tables::SEEDS), (11, tables::DIRECTORIES)]
    {
        for row in Stored::stored(snapshot.table(table)?.iter())?.take(4) {
            each(kind, Stored::stored(row)?.1.value());
        }
    }
    for row in Stored::stored(snapshot.table(tables::POSTINGS)?.iter())?.take(6) {
        each(3, Stored::stored(row)?.1.value());
    }
    let dense: Vec<u64> = (1000..1400).chain(1500..1600).collect();
    let sparse: Vec<u64> = (0..100).map(|i| 1000 + i * 3).collect();
    [dense, sparse].iter().for_each(|list| each(3, &[&[7; 16][..], &[5], &crate::rows::encode(list)].concat()));
    for row in Stored::stored(snapshot.table(tables::COLUMNS)?.iter())? {
        each(4, Stored::stored(row)?.1.value());
    }
    for row in Stored::stored(snapshot.table(tables::ROLLUPS)?.iter())? {
        each(5, Stored::stored(row)?.1.value());
    }
    for row in Stored::stored(snapshot.table(tables::SENDERS)?.iter())? {
        each(6, Stored::stored(row)?.1.value());
    }
    each(7, &codec::encode(&snapshot.state)?);
    each(8, &[0u64, 4, 7, 8, 9, 100_000].into_iter().collect::<SeqSet>().encode());
    Ok(samples)
}

/// Storage in memory for a fuzz target. Each call returns a backend with the same bytes, so the store can be reopened.
pub fn memory() -> impl Fn() -> Box<dyn redb::StorageBackend> + Send + Sync + Clone + 'static {
    let memory = crate::store::file::storage::Memory::default();
    move || Box::new(memory.clone())
}
