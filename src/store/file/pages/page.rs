//! Decoding of one page. Every number in it is checked against the page's length before it is used.

use super::PAGE;
use super::header::Layout;
use std::ops::Range;
use twox_hash::XxHash3_128;

const LEAF: u8 = 1;
pub(crate) const BRANCH: u8 = 2;
/// The largest page is 2^20 of the smallest.
const MOST_ORDER: u8 = 20;
/// The widths in bytes of a page number and of a checksum.
const NUMBER: usize = 8;
const SUM: usize = 16;

/// The little-endian integer of up to eight bytes at `at`; zero where the bytes end too early.
pub(crate) fn little(bytes: &[u8], at: usize, count: usize) -> u64 {
    let there = at.checked_add(count).and_then(|end| bytes.get(at..end)).unwrap_or_default();
    there.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
}

fn sum(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(bytes.get(at..at.checked_add(SUM)?)?.try_into().ok()?))
}

/// A page's location: region, index in units of the page's own size, and that size as a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    region: u64,
    index: u64,
    order: u8,
}

impl Number {
    pub(crate) fn from_bits(bits: u64) -> Number {
        let order = (bits >> 59) as u8;
        // Only as many bits of the index count as are needed for the pages of this size in a region.
        Number { region: bits >> 20 & 0xf_ffff, index: bits & (0xf_ffff >> order), order }
    }

    /// Its byte range in the file, if it lies within the file.
    pub(crate) fn place(self, layout: &Layout) -> Option<Range<u64>> {
        let (index, order) = (self.index, self.order);
        if order > MOST_ORDER || (index + 1) << order > layout.pages {
            return None;
        }
        let region = self.region * (layout.before + layout.pages);
        let start = PAGE * (1 + region + layout.before + (index << order));
        let end = start + (PAGE << order);
        (end <= layout.length).then_some(start..end)
    }
}

/// A pointer to a page, with the page's expected checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub page: Number,
    pub sum: u128,
}

/// A tree: its root page, and its number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub pointer: Pointer,
    pub rows: u64,
}

impl Root {
    pub(crate) const BYTES: usize = NUMBER + SUM + 8;

    pub(crate) fn read(bytes: &[u8], at: usize) -> Option<Root> {
        let pointer = Pointer { page: Number::from_bits(little(bytes, at, NUMBER)), sum: sum(bytes, at + NUMBER)? };
        Some(Root { pointer, rows: little(bytes, at + NUMBER + SUM, 8) })
    }
}

/// A decoded page.
#[derive(Debug)]
pub(crate) enum Page<'a> {
    Leaf(Leaf<'a>),
    Branch(Branch<'a>),
}

/// The widths of keys and values in the pages of a tree, where fixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    pub key: Option<usize>,
    pub value: Option<usize>,
}

impl<'a> Page<'a> {
    /// Decodes a page and checks its checksum.
    pub(crate) fn parse(bytes: &'a [u8], widths: Widths, wanted: u128) -> Result<Page<'a>, &'static str> {
        let (page, used) = Page::apart(bytes, widths)?;
        if XxHash3_128::oneshot(used) != wanted {
            return Err("it does not have the checksum that its parent page records");
        }
        Ok(page)
    }

    /// Decodes a page without checking its checksum; returns also the bytes that the checksum covers.
    pub(crate) fn apart(bytes: &'a [u8], widths: Widths) -> Result<(Page<'a>, &'a [u8]), &'static str> {
        let count = little(bytes, 2, 2) as usize;
        let (page, end) = match bytes.first() {
            Some(&LEAF) => {
                let leaf = Leaf::parse(bytes, count, widths).ok_or("its rows do not lie within it")?;
                let end = leaf.values.end(count).ok_or("its rows do not lie within it")?;
                (Page::Leaf(leaf), end)
            }
            Some(&BRANCH) => {
                let branch = Branch::parse(bytes, count, widths).ok_or("its keys do not lie within it")?;
                let end = branch.keys.end(count).ok_or("its keys do not lie within it")?;
                (Page::Branch(branch), end)
            }
            _ => return Err("it is neither a leaf nor a branch"),
        };
        let used = bytes.get(..end).ok_or("what is in it does not lie within it")?;
        Ok((page, used))
    }
}

/// Consecutive items: of fixed width, or each with its end offset in a list of four-byte numbers.
#[derive(Debug, Clone, Copy)]
struct Strip<'a> {
    bytes: &'a [u8],
    start: usize,
    width: Option<usize>,
    /// Offset of the list of ends.
    ends: usize,
}

impl<'a> Strip<'a> {
    /// Checks that all items lie within the page, one after the other.
    fn new(bytes: &'a [u8], start: usize, width: Option<usize>, ends: usize, count: usize) -> Option<Strip<'a>> {
        let strip = Strip { bytes, start, width, ends };
        let last = match width {
            Some(_) => strip.end(count)?,
            None => (1..=count).try_fold(start, |before, n| strip.end(n).filter(|end| *end >= before))?,
        };
        (start <= last && last <= bytes.len()).then_some(strip)
    }

    /// Where the first `n` items end.
    fn end(&self, n: usize) -> Option<usize> {
        match (n.checked_sub(1), self.width) {
            (None, _) => Some(self.start),
            (_, Some(width)) => self.start.checked_add(width.checked_mul(n)?),
            (Some(before), None) => {
                let at = self.ends.checked_add(before.checked_mul(4)?)?;
                Some(u32::from_le_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
            }
        }
    }

    /// Item `n`, which lies within the page.
    fn get(&self, n: usize) -> &'a [u8] {
        let range = self.end(n).zip(self.end(n + 1));
        range.and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }
}

/// A page of rows.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    pub count: usize,
    keys: Strip<'a>,
    values: Strip<'a>,
}

impl<'a> Leaf<'a> {
    fn parse(bytes: &'a [u8], count: usize, widths: Widths) -> Option<Leaf<'a>> {
        let key_ends = 4;
        let value_ends = key_ends + if widths.key.is_none() { 4 * count } else { 0 };
        let start = value_ends + if widths.value.is_none() { 4 * count } else { 0 };
        let keys = Strip::new(bytes, start, widths.key, key_ends, count)?;
        let values = Strip::new(bytes, keys.end(count)?, widths.value, value_ends, count)?;
        // A tree has no empty pages.
        (count > 0).then_some(Leaf { count, keys, values })
    }

    pub(crate) fn key(&self, n: usize) -> &'a [u8] {
        self.keys.get(n)
    }

    pub(crate) fn value(&self, n: usize) -> &'a [u8] {
        self.values.get(n)
    }
}

/// A page of child pages: one more child than keys. A key is not less than any key below the child before it and less than
/// any key below the child after it.
#[derive(Debug)]
pub(crate) struct Branch<'a> {
    bytes: &'a [u8],
    /// The number of keys.
    pub count: usize,
    keys: Strip<'a>,
}

impl<'a> Branch<'a> {
    fn parse(bytes: &'a [u8], count: usize, widths: Widths) -> Option<Branch<'a>> {
        let ends = 8 + (NUMBER + SUM) * (count + 1);
        let start = ends + if widths.key.is_none() { 4 * count } else { 0 };
        let keys = Strip::new(bytes, start, widths.key, ends, count)?;
        (count > 0).then_some(Branch { bytes, count, keys })
    }

    pub(crate) fn key(&self, n: usize) -> &'a [u8] {
        self.keys.get(n)
    }

    /// Child `n`, which the page has room for.
    pub(crate) fn child(&self, n: usize) -> Option<Pointer> {
        let numbers = 8 + SUM * (self.count + 1);
        let page = Number::from_bits(little(self.bytes, numbers + NUMBER * n, NUMBER));
        Some(Pointer { page, sum: sum(self.bytes, 8 + SUM * n)? })
    }
}
