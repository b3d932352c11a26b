//! The in-memory index of the newest entries: what `postings`, `zones` and `rollups` do not hold yet.
//!
//! Invariant G1: a memory segment holds consecutive seqs starting at its `from`, and only grows. Invariant G2: the memory
//! segments of a store follow each other without a gap from `indexed` to the end of the log. A reader keeps the memory
//! segments that it started with, and reads no seq at or beyond the size that it started with, so it never sees a partly
//! added entry.

use crate::Timestamp;
use crate::rows::BATCH;
use attestlog_proof::entry::{Facet, Retention};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A run of entries that are not in an index batch yet.
#[derive(Debug)]
pub(crate) struct MemSegment {
    /// The first seq.
    pub from: u64,
    frozen: AtomicBool,
    index: RwLock<Index>,
}

/// What the index needs of an entry.
pub(crate) trait Indexed {
    fn timestamp(&self) -> Timestamp;
    fn retention(&self) -> Option<&Retention>;
    /// For a call that statistics count: whether it succeeded, and its duration.
    fn counted(&self) -> Option<(bool, Option<u64>)>;
    /// Every facet with its value.
    fn facets(&self, found: &mut impl FnMut(Facet, &str));
}

/// The indexed data of a memory segment's entries.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the index of the facet among all facets.
    fields: Vec<Terms>,
    /// The timestamp of each entry.
    pub times: Vec<i64>,
    /// The retention of each entry: index in `classes` + 1 and end in seconds, or zeros.
    pub retentions: Vec<(u16, i64)>,
    /// Names of retention classes in order of appearance.
    pub classes: Vec<String>,
    /// The calls that statistics count.
    pub calls: Vec<CallRow>,
    /// Offsets of entries that are unreadable or differ from what was recorded: they have no terms.
    pub unplaced: Vec<u32>,
}

/// The values of one facet in order of appearance, each with the offsets of its entries.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    ids: HashMap<Arc<str>, u32>,
    pub lists: Vec<(Arc<str>, Vec<u32>)>,
    /// The last added value: for many facets the next entry has the same one.
    last: u32,
}

/// What statistics need of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallRow {
    /// Offset of the entry in its memory segment.
    pub offset: u32,
    /// Index of the tool among its facet's values.
    pub tool: u32,
    /// Index of the user among its facet's values.
    pub user: u32,
    pub success: bool,
    pub nanos: Option<u64>,
}

impl Terms {
    /// Adds an entry with this value; returns the index of the value.
    pub(crate) fn add(&mut self, value: &str, offset: u32) -> u32 {
        let same = self.lists.get(self.last as usize).is_some_and(|(last, _)| **last == *value);
        let known = match self.lists.len() {
            _ if same => Some(self.last),
            // Comparing with a few values is faster than hashing one.
            0..=8 => self.lists.iter().position(|(known, _)| **known == *value).map(|place| place as u32),
            _ => self.ids.get(value).copied(),
        };
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.lists.len() as u32;
                let value: Arc<str> = value.into();
                self.ids.insert(value.clone(), id);
                self.lists.push((value, Vec::new()));
                id
            }
        };
        self.last = id;
        let list = &mut self.lists[id as usize].1;
        if list.last() != Some(&offset) {
            list.push(offset);
        }
        id
    }

    fn find(&self, value: &str) -> Option<u32> {
        self.ids.get(value).copied()
    }
}

impl Index {
    fn add(&mut self, entry: &impl Indexed) {
        let offset = self.times.len() as u32;
        self.times.push(entry.timestamp().nanos());
        self.retentions.push(match entry.retention() {
            None => (0, 0),
            Some(retention) => {
                let class = self.classes.iter().position(|c| *c == retention.class).unwrap_or_else(|| {
                    self.classes.push(retention.class.clone());
                    self.classes.len() - 1
                });
                (class as u16 + 1, retention.until.nanos().div_euclid(1_000_000_000))
            }
        });
        let mut row = CallRow { offset, tool: 0, user: 0, success: false, nanos: None };
        entry.facets(&mut |field, value| {
            let place = field.place();
            if self.fields.len() <= place {
                self.fields.resize_with(Facet::ALL.len(), Terms::default);
            }
            let id = self.fields[place].add(value, offset);
            match field {
                Facet::Tool => row.tool = id,
                Facet::User => row.user = id,
                _ => {}
            }
        });
        if let Some((success, nanos)) = entry.counted() {
            (row.success, row.nanos) = (success, nanos);
            self.calls.push(row);
        }
    }

    /// The values of a facet.
    pub(crate) fn terms(&self, field: Facet) -> &[(Arc<str>, Vec<u32>)] {
        self.fields.get(field.place()).map_or(&[], |t| &t.lists)
    }

    /// The index of a value among its facet's values.
    pub(crate) fn term(&self, field: Facet, value: &str) -> Option<u32> {
        self.fields.get(field.place())?.find(value)
    }
}

impl MemSegment {
    pub(crate) fn new(from: u64) -> MemSegment {
        MemSegment { from, frozen: AtomicBool::new(false), index: RwLock::default() }
    }

    /// Adds the entries that follow the last one.
    pub(crate) fn add(&self, entries: impl Iterator<Item = impl Indexed>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        entries.for_each(|entry| index.add(&entry));
    }

    /// Reserves the offset of an entry that cannot be read.
    pub(crate) fn add_unreadable(&self) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let place = u32::try_from(index.times.len()).unwrap_or(u32::MAX);
        index.unplaced.push(place);
        index.times.push(0);
        index.retentions.push((0, 0));
    }

    /// The data of the entries so far.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the segment from growing.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Whether the segment no longer grows.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    /// Whether the segment can be written to the file.
    pub(crate) fn is_complete(&self) -> bool {
        let length = self.end() - self.from;
        length >= BATCH || (length > 0 && self.is_frozen())
    }

    /// The seq after its last entry.
    pub(crate) fn end(&self) -> u64 {
        self.from + self.read().times.len() as u64
    }

    /// The rising seqs, below `limit`, of the entries with this value.
    pub(crate) fn seqs(&self, field: Facet, value: &str, limit: u64) -> Vec<u64> {
        let index = self.read();
        let list = index.term(field, value).and_then(|id| index.terms(field).get(id as usize)).map(|(_, list)| list);
        let list = list.map_or(&[][..], |l| l);
        list.iter().map(|&offset| self.from + u64::from(offset)).take_while(|&seq| seq < limit).collect()
    }
}
