//! Collects the values of one facet from entries, and joins them for the index rows that the entries should have.
//!
//! A million entries have ten million values, most of which occurred a moment ago. So a value is recognised by its
//! length and its first and last bytes, and a new one needs no allocation of its own: all values share one buffer.

/// The values of one facet in a segment, in order of appearance, each with the places where it occurs.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// The values, concatenated.
    text: String,
    values: Vec<Value>,
    /// A hash table of indexes into `values`; `FREE` marks an empty slot. At most half of the slots are in use.
    slots: Vec<u32>,
    /// Pairs of value and place, in the order they were added.
    hits: Vec<(u32, u32)>,
}

/// A value, and the part of it that is compared first.
#[derive(Debug, Clone, Copy)]
struct Value {
    ends: Ends,
    start: usize,
}

/// The length and the first and last bytes of a text. They determine a text of up to 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ends {
    length: usize,
    head: u64,
    tail: u64,
}

const FREE: u32 = u32::MAX;
/// How many slots are tried for a value. A value that is not found there is entered again: values chosen to collide
/// then cost a few extra rows instead of quadratic time.
const TRIES: usize = 16;

impl Ends {
    #[inline]
    fn of(text: &str) -> Ends {
        let (bytes, length) = (text.as_bytes(), text.len());
        if let (Some(head), Some(tail)) = (bytes.first_chunk(), bytes.last_chunk()) {
            return Ends { length, head: u64::from_le_bytes(*head), tail: u64::from_le_bytes(*tail) };
        }
        let head = bytes.iter().rev().fold(0, |head, byte| head << 8 | u64::from(*byte));
        Ends { length, head, tail: 0 }
    }

    /// Mixes both halves of the product, since they depend on all bits of both factors.
    #[inline]
    fn hash(&self) -> usize {
        const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
        let product = u128::from(self.head ^ ODD[0]) * u128::from(self.tail.wrapping_add(self.length as u64) ^ ODD[1]);
        (product as u64 ^ (product >> 64) as u64) as usize
    }
}

impl Terms {
    /// Allocates room for one value for each of this many entries.
    pub(super) fn new(entries: usize) -> Terms {
        Terms { hits: Vec::with_capacity(entries), ..Terms::default() }
    }

    /// Adds a place where a value occurs, and returns the value's number. Places must not decrease. The same value may
    /// get several numbers.
    pub(super) fn add(&mut self, value: &str, place: u32) -> u32 {
        let number = self.number(value);
        self.hits.push((number, place));
        number
    }

    /// The number of a value, without a place.
    pub(super) fn number(&mut self, value: &str) -> u32 {
        let ends = Ends::of(value);
        self.find(value, &ends).unwrap_or_else(|| self.enter(value, ends))
    }

    #[inline]
    fn find(&self, value: &str, ends: &Ends) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let from = ends.hash();
        for at in 0..TRIES {
            let number = *self.slots.get((from + at) & mask)?;
            let known = self.values.get(number as usize)?;
            if known.ends == *ends && (ends.length <= 16 || self.text(known) == value) {
                return Some(number);
            }
        }
        None
    }

    #[cold]
    fn enter(&mut self, value: &str, ends: Ends) -> u32 {
        if self.values.len() * 2 >= self.slots.len() {
            self.slots = vec![FREE; (self.slots.len() * 2).max(64)];
            for number in 0..self.values.len() {
                self.put(number as u32);
            }
        }
        let number = self.values.len() as u32;
        self.values.push(Value { ends, start: self.text.len() });
        self.text.push_str(value);
        self.put(number);
        number
    }

    fn put(&mut self, number: u32) {
        let (from, mask) = (self.values[number as usize].ends.hash(), self.slots.len() - 1);
        let free = (0..TRIES).map(|at| (from + at) & mask).find(|&slot| self.slots[slot] == FREE);
        if let Some(slot) = free {
            self.slots[slot] = number;
        }
    }

    fn text(&self, value: &Value) -> &str {
        self.text.get(value.start..value.start + value.ends.length).unwrap_or_default()
    }

    /// The value of a number.
    pub(super) fn name(&self, number: u32) -> &str {
        self.values.get(number as usize).map_or("", |value| self.text(value))
    }

    /// Sorts everything by value, once nothing more is added.
    pub(super) fn collected(self) -> Collected {
        let Terms { text, values, hits, .. } = self;
        let mut ends = vec![0usize; values.len()];
        hits.iter().for_each(|(number, _)| ends[*number as usize] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        // At first, each end is where its value's places begin; writing them moves it to where they end.
        let mut places = vec![0; hits.len()];
        for (number, place) in hits {
            let end = &mut ends[number as usize];
            places[*end] = place;
            *end += 1;
        }
        let values = values.iter().zip(ends).map(|(value, end)| (value.start + value.ends.length, end)).collect();
        Collected { text, values, places }
    }
}

/// The sorted result of [`Terms`].
#[derive(Debug)]
pub(super) struct Collected {
    text: String,
    /// Where each value ends in `text`, and its places in `places`.
    values: Vec<(usize, usize)>,
    places: Vec<u32>,
}

impl Collected {
    /// Each value with the places where it occurs.
    fn values(&self) -> impl Iterator<Item = (&str, &[u32])> {
        let (mut text, mut place) = (0, 0);
        self.values.iter().map(move |&(text_end, place_end)| {
            let from = (std::mem::replace(&mut text, text_end), std::mem::replace(&mut place, place_end));
            let value = self.text.get(from.0..text_end).unwrap_or_default();
            (value, self.places.get(from.1..place_end).unwrap_or_default())
        })
    }
}

/// The values of a facet in a whole batch, in byte order, each with all places where it occurs.
#[derive(Debug, Default)]
pub(super) struct Joined<'a> {
    /// Each value, with the end of its places in `places`.
    values: Vec<(&'a str, usize)>,
    places: Vec<u32>,
}

impl<'a> Joined<'a> {
    /// Joins what was collected from consecutive segments.
    pub(super) fn of(stretches: impl Iterator<Item = &'a Collected>) -> Joined<'a> {
        let mut all: Vec<_> = stretches.flat_map(|stretch| stretch.values()).map(|(v, p)| (head(v), v, p)).collect();
        // The sort is stable, so the places of a value stay in order.
        all.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut joined = Joined::default();
        for same in all.chunk_by(|a, b| a.1 == b.1) {
            let start = joined.places.len();
            same.iter().for_each(|(_, _, places)| joined.places.extend_from_slice(places));
            // A value that was entered twice in a segment has its places in two lists, and an entry may name a value
            // twice.
            if !joined.places[start..].is_sorted_by(|a, b| a < b) {
                let mut places = joined.places.split_off(start);
                places.sort_unstable();
                places.dedup();
                joined.places.append(&mut places);
            }
            joined.values.push((same[0].1, joined.places.len()));
        }
        joined
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The value at this index, and its places.
    pub(super) fn get(&self, i: usize) -> (&'a str, &[u32]) {
        let start = i.checked_sub(1).and_then(|before| self.values.get(before)).map_or(0, |(_, end)| *end);
        let (value, end) = self.values.get(i).copied().unwrap_or(("", start));
        (value, self.places.get(start..end).unwrap_or_default())
    }
}

/// The first bytes of a text as a number that orders as the text does, unless the numbers are equal.
fn head(text: &str) -> u64 {
    let mut head = [0; 8];
    let bytes = text.as_bytes();
    let length = bytes.len().min(8);
    head[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn value() -> impl Strategy<Value = String> {
        // Texts of all lengths around that of the ends; many have the same ends.
        prop_oneof!["[ab]{0,9}", "[a-z]{7,9}[xy]{0,2}[a-z]{7,9}", "a{8}[bc]{1,9}d{8}", "é{0,9}", any::<String>()]
    }

    proptest! {
        #[test]
        fn every_value_comes_with_all_its_places(values in prop::collection::vec(value(), 0..400), cuts in 1usize..5) {
            let mut expected: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
            let mut stretches = vec![];
            let mut nth = 0;
            for stretch in values.chunks(values.len().div_ceil(cuts).max(1)) {
                let mut terms = Terms::default();
                for value in stretch {
                    // Two values per entry, which may be equal.
                    let place = nth / 2;
                    nth += 1;
                    let number = terms.add(value, place);
                    prop_assert_eq!(terms.name(number), value);
                    expected.entry(value).or_default().insert(place);
                }
                stretches.push(terms.collected());
            }
            let joined = Joined::of(stretches.iter());
            let found: Vec<_> = (0..joined.len()).map(|i| joined.get(i)).map(|(v, places)| (v, places.to_vec())).collect();
            let expected: Vec<_> = expected.into_iter().map(|(value, places)| (value, places.into_iter().collect())).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn values_that_fall_on_one_slot_are_all_there() {
        // Equal ends, and so equal hashes.
        let values: Vec<String> = (0..500).map(|i| format!("aaaaaaaa{i:03}bbbbbbbb")).collect();
        let mut terms = Terms::default();
        for place in 0..3 {
            values.iter().for_each(|value| _ = terms.add(value, place));
        }
        let collected = terms.collected();
        let joined = Joined::of([&collected].into_iter());
        assert_eq!(joined.len(), values.len());
        for (i, value) in values.iter().enumerate() {
            assert_eq!(joined.get(i), (&**value, &[0, 1, 2][..]));
        }
    }
}
