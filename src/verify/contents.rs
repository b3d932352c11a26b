//! Reads the contents of one segment of the file, and checks what says where they are.
//!
//! Blocks, their order, the directory and the seeds follow from the entries and from what was purged. Here they are compared with each
//! other by walking over them; that a look-up finds the same rows is checked for all tables (`pages`).

use super::finding::{Finding, FindingKind as K};
use crate::Result;
use crate::store::{Block, ClusterKey, Directory, Place, Seeds, Snapshot};
use std::ops::Range;

/// The contents of a segment.
pub(super) struct Contents {
    pub seeds: Seeds,
    blocks: Vec<Block<'static>>,
    /// By offset: the number of the block in `blocks`, and the place in it.
    places: Vec<Option<(usize, Place)>>,
}

impl Contents {
    /// Reads the segment with these seqs; adds a finding for each row that is not as it should be.
    pub(super) fn read(snapshot: &Snapshot, segment: &Range<u64>, findings: &mut Vec<Finding>) -> Result<Contents> {
        let (cuts, sealed) = (snapshot.cuts(), snapshot.state.sealed);
        let mut find = |kind: K, seq: u64, detail: String| findings.push(Finding::new(kind, seq, detail));
        let seeds = snapshot.seeds(segment.start).unwrap_or_else(|e| {
            find(K::BlockDamaged, segment.start, e.to_string());
            Seeds::default()
        });
        let mut contents = Contents { seeds, blocks: Vec::new(), places: vec![None; cuts.entries() as usize] };
        // The number of the block by key, as far as blocks can be read.
        let mut keys: Vec<u64> = Vec::new();
        snapshot.scan_blocks(segment.clone(), &mut |scanned| {
            let key = scanned.key;
            let block = match scanned.block {
                Ok(block) => block.into_owned(),
                Err(e) => {
                    find(K::BlockDamaged, key, format!("the block with this number: {e}"));
                    return Ok(());
                }
            };
            if block.first() != segment.start {
                find(K::BlockDamaged, key, "the block with this number is of another segment".to_owned());
            }
            if !block.is_whole() {
                find(
                    K::BlockDamaged,
                    key,
                    "the columns of the block with this number do not end with its last entry".to_owned(),
                );
            }
            let number = contents.blocks.len();
            for place in block.places() {
                let seq = place.seq;
                match contents.places.get_mut(seq.wrapping_sub(segment.start) as usize) {
                    Some(there) if segment.contains(&seq) && seq < sealed && there.is_none() => {
                        *there = Some((number, place))
                    }
                    _ => find(K::EntryUnexpected, seq, "stands in a block where it should not".to_owned()),
                }
            }
            contents.blocks.push(block);
            keys.push(key);
            Ok(())
        })?;
        contents.check_directory(snapshot, segment, &keys, &mut find)?;
        Ok(contents)
    }

    /// The block with the content of the entry at this offset, and the place in it.
    pub(super) fn place(&self, offset: u32) -> Option<(&Block<'static>, &Place)> {
        let (number, place) = self.places.get(offset as usize)?.as_ref()?;
        Some((self.blocks.get(*number)?, place))
    }

    /// The first entry that does not come after those that should be before it, if there is one. `keys` are the entries of the
    /// segment, all or some, by offset.
    pub(super) fn misplaced<'k>(&self, keys: impl Iterator<Item = (u32, ClusterKey<&'k str>)>) -> Option<u64> {
        let place =
            |offset: u32| self.places.get(offset as usize)?.as_ref().map(|(number, place)| (*number, place.index()));
        let mut keys: Vec<_> = keys.filter_map(|(offset, key)| Some((place(offset)?, key))).collect();
        keys.sort_unstable_by_key(|(place, _)| *place);
        keys.windows(2).find(|two| two[0].1 > two[1].1).map(|two| two[1].1.seq)
    }

    /// Compares the directory with the blocks.
    fn check_directory(
        &self,
        snapshot: &Snapshot,
        segment: &Range<u64>,
        keys: &[u64],
        find: &mut dyn FnMut(K, u64, String),
    ) -> Result<()> {
        let mut there = false;
        let entries = snapshot.cuts().entries();
        snapshot.scan_directories(segment.clone(), &mut |key, row| {
            there |= key == segment.start;
            let directory = match Directory::read(row, entries) {
                Ok(directory) if key == segment.start => directory,
                Ok(_) => {
                    find(K::BlockDamaged, key, "a directory begins within a segment".to_owned());
                    return Ok(());
                }
                Err(e) => {
                    find(K::BlockDamaged, key, e.to_string());
                    return Ok(());
                }
            };
            if !directory.is_canonical() {
                find(
                    K::BlockDamaged,
                    key,
                    "the directory of the segment is not in the form in which it is written".to_owned(),
                );
            }
            for (offset, place) in (0..entries).zip(&self.places) {
                let said = directory.place(offset).and_then(|place| place.checked_add(segment.start));
                let is = place.as_ref().and_then(|(number, _)| keys.get(*number).copied());
                if said != is {
                    let seq = segment.start + offset;
                    find(
                        K::BlockDamaged,
                        seq,
                        "the directory names another block than the one that has its content".to_owned(),
                    );
                }
            }
            Ok(())
        })?;
        if !there && !keys.is_empty() {
            find(K::BlockDamaged, segment.start, "the directory of the segment is missing".to_owned());
        }
        Ok(())
    }
}
