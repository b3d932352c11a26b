//! redb's table of free pages: for each region and page size, the free pages as bits in trees with 64 branches.
//!
//! redb trusts what the file says, and panics in the middle of a commit if it is inconsistent. So all of it must be as redb
//! writes it: lengths, the agreement of each level with the one below, no page free in two sizes, none beyond the end of the
//! file.
//!
//! The file may be longer than the table knows: redb makes the file longer before it writes the pages of a commit, and if the
//! disk is full, or the power fails, the commit is not made and the length stays. redb takes what the table does not know for
//! free, and so do these checks: a page of a tree there is found like one anywhere else in free space [R58].

use super::PAGE;
use super::header::Commit;
use super::page::little;
use std::ops::Range;

pub(crate) const TABLE: &str = "allocator_state";

/// The kinds of rows, in the order in which they occur.
const REGION: u8 = 3;
const TRACKER: u8 = 4;
const TRANSACTION: u8 = 5;

/// Pages are 2^0 to 2^20 times the smallest size.
const MOST_ORDER: u32 = 20;
const MOST_REGIONS: u64 = 1 << 20;

const TORN: &str = "what it says of free pages is cut short";
const OTHER_SIZE: &str = "it is of a file of another size";
const ODD: &str = "what it says of free pages contradicts itself";

/// The rows of the table.
#[derive(Debug, Default)]
pub(crate) struct Allocators {
    regions: Vec<Vec<u8>>,
    tracker: Option<Vec<u8>>,
    transaction: Option<Vec<u8>>,
    unknown: bool,
}

impl Allocators {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        match (key.first().copied(), little(key, 1, 4)) {
            (Some(REGION), n) if n == self.regions.len() as u64 => self.regions.push(value.to_vec()),
            (Some(TRACKER), 0) => self.tracker = Some(value.to_vec()),
            (Some(TRANSACTION), 0) => self.transaction = Some(value.to_vec()),
            _ => self.unknown = true,
        }
    }

    /// The free ranges of the file. Empty where redb ignores the table and determines the free pages itself: if the table is
    /// missing, belongs to another commit, or to one that was not synced before the header named it.
    pub(crate) fn free(&self, commit: &Commit) -> Result<Vec<Range<u64>>, &'static str> {
        if self.unknown {
            return Err("it has a row of a kind that redb does not make");
        }
        let (tracker, transaction) = match (&self.tracker, &self.transaction) {
            (None, None) if self.regions.is_empty() => return Ok(Vec::new()),
            (Some(tracker), Some(transaction)) => (tracker, transaction),
            _ => return Err("a row of it is missing"),
        };
        if transaction.len() != 8 {
            return Err(TORN);
        }
        if !commit.two_phase || little(transaction, 0, 8) != commit.transaction {
            return Ok(Vec::new());
        }
        let mut free = Vec::new();
        let known = self.regions.len() as u64;
        for (region, bytes) in (0..).zip(&self.regions) {
            // Only the last region can be smaller than the file has it.
            if region + 1 < known && little(bytes, 4, 4) != commit.layout.pages {
                return Err(OTHER_SIZE);
            }
            free_of(region, bytes, commit, &mut free)?;
        }
        track(tracker, known)?;
        // Regions that the file has and the table does not: the file was made longer.
        free.extend((known..MOST_REGIONS).map_while(|region| commit.layout.added(region, 0)));
        Ok(free)
    }
}

/// Adds the free ranges of a region.
fn free_of(region: u64, bytes: &[u8], commit: &Commit, free: &mut Vec<Range<u64>>) -> Result<(), &'static str> {
    let layout = &commit.layout;
    let (most, pages) = (little(bytes, 0, 1) as u32, little(bytes, 4, 4));
    if most != layout.pages.ilog2().min(MOST_ORDER) || pages > layout.pages {
        return Err(OTHER_SIZE);
    }
    let start = layout.start_of(region);
    let mut at = 8 + 4 * (most as usize + 1);
    // The free pages of every size, in units of the smallest.
    let mut within: Vec<Range<u64>> = Vec::new();
    for order in 0..=most {
        let end = little(bytes, 8 + 4 * order as usize, 4) as usize;
        let bits = Bits::read(bytes.get(at..end).ok_or(TORN)?, pages >> order, layout.pages >> order)?;
        at = end;
        let mut last = None;
        for n in bits.unset() {
            // Two free halves must have been one larger free page.
            if order < most && n % 2 == 1 && last == n.checked_sub(1) {
                return Err(ODD);
            }
            last = Some(n);
            within.push(n << order..(n + 1) << order);
        }
    }
    within.sort_unstable_by_key(|place| place.start);
    if within.windows(2).any(|two| two[0].end > two[1].start) {
        return Err("it calls a page free twice");
    }
    free.extend(within.into_iter().map(|place| PAGE * (start + place.start)..PAGE * (start + place.end)));
    // Pages beyond the end of the file must all be marked as free.
    let (end, length) = (PAGE * (start + pages), layout.length.max(PAGE * start));
    let behind: u64 = free.iter().map(|place| place.end.min(end).saturating_sub(place.start.max(length))).sum();
    if end > length && behind != end - length {
        return Err(OTHER_SIZE);
    }
    free.extend(layout.added(region, pages));
    Ok(())
}

/// Checks the record of which regions may have room.
fn track(bytes: &[u8], regions: u64) -> Result<(), &'static str> {
    let orders = little(bytes, 0, 4) as usize;
    if orders != MOST_ORDER as usize + 1 {
        return Err(ODD);
    }
    let mut at = 4 + 4 * orders;
    let mut tracked = None;
    for order in 0..orders {
        let end = little(bytes, 4 + 4 * order, 4) as usize;
        let end = at.saturating_add(end);
        let bits = bytes.get(at..end).ok_or(TORN)?;
        at = end;
        // All page sizes track the same number of regions.
        let long = *tracked.get_or_insert(Bits::length(bits)?);
        if long < regions || Bits::read(bits, long, MOST_REGIONS)?.unset().any(|region| region >= regions) {
            return Err(ODD);
        }
    }
    Ok(())
}

/// A tree of bits; each bit says whether all 64 bits below it are set. Unset means free.
struct Bits<'a> {
    /// The lowest level.
    words: &'a [[u8; 8]],
}

impl<'a> Bits<'a> {
    /// The number of bits in the lowest level.
    fn length(bytes: &[u8]) -> Result<u64, &'static str> {
        let height = little(bytes, 0, 4) as usize;
        let before = height.checked_sub(1).ok_or(ODD)?;
        let start = if before == 0 { 4 + 4 * height } else { little(bytes, before.saturating_mul(4), 4) as usize };
        bytes.get(start..start.saturating_add(4)).map(|_| little(bytes, start, 4)).ok_or(TORN)
    }

    /// Decodes a tree with `count` bits and a capacity of `room`.
    fn read(bytes: &'a [u8], count: u64, room: u64) -> Result<Bits<'a>, &'static str> {
        let mut lengths = vec![count];
        let mut room = room;
        while room > 64 {
            room = room.div_ceil(64);
            lengths.insert(0, lengths[0].div_ceil(64));
        }
        let height = lengths.len();
        if little(bytes, 0, 4) != height as u64 {
            return Err(ODD);
        }
        let mut at = 4 + 4 * height;
        let mut above: Option<&[[u8; 8]]> = None;
        for (level, length) in lengths.into_iter().enumerate() {
            let end = little(bytes, 4 + 4 * level, 4) as usize;
            let (said, words) = bytes.get(at..end).and_then(|level| level.split_at_checked(4)).ok_or(TORN)?;
            at = end;
            let (words, rest) = words.as_chunks::<8>();
            if little(said, 0, 4) != length || !rest.is_empty() || words.len() as u64 != length.div_ceil(64) {
                return Err(ODD);
            }
            // Unused bits are set.
            let last = words.last().filter(|_| length % 64 != 0).map(|word| u64::from_le_bytes(*word));
            if last.is_some_and(|word| word >> (length % 64) != u64::MAX >> (length % 64)) {
                return Err(ODD);
            }
            if let Some(above) = above {
                let full = |n: usize| above.get(n / 64).is_some_and(|w| u64::from_le_bytes(*w) >> (n % 64) & 1 != 0);
                if (0..).zip(words).any(|(n, word)| full(n) != (*word == [0xff; 8])) {
                    return Err(ODD);
                }
            }
            above = Some(words);
        }
        Ok(Bits { words: above.unwrap_or_default() })
    }

    /// The indexes of unset bits, rising.
    fn unset(&self) -> impl Iterator<Item = u64> {
        (0..).zip(self.words).filter(|(_, word)| **word != [0xff; 8]).flat_map(|(n, word)| {
            let word = u64::from_le_bytes(*word);
            (0..64).filter(move |bit| word >> bit & 1 == 0).map(move |bit| n * 64 + bit)
        })
    }
}
