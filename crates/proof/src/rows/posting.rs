//! Posting lists: the seqs of one term in one index batch.
//!
//! Stored as a tag, then the list in the shortest of three forms, always relative to the first seq, which is the last
//! part of the row's key. Invariant P1: a list has exactly one stored form (ties go to the lower tag). It is hashed in this
//! form ([`row_leaf`](super::row_leaf)), so another form of the same list gives another hash.

use super::varint::{read_varint, write_varint};

/// For each seq but the first, its distance from the one before, in base 128.
const GAPS: u8 = 0;
/// Bit `i` stands for the first seq + `i`.
const BITMAP: u8 = 1;
/// The length of a run of consecutive seqs, then the length of the gap after it, and so on.
const RUNS: u8 = 2;

/// A list in its stored form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct List<'a> {
    /// The first seq.
    pub first: u64,
    /// The tag and the list.
    pub bytes: &'a [u8],
}

impl List<'_> {
    /// Passes the list to `each` as ranges, end excluded, in order. `None` if the bytes are not a list, or list more than
    /// `limit` seqs (a few bytes can stand for any number); the ranges already passed must then be discarded.
    pub fn ranges(&self, limit: usize, mut each: impl FnMut(u64, u64)) -> Option<()> {
        let first = self.first;
        let (&tag, mut rest) = self.bytes.split_first()?;
        let mut room = limit as u64;
        let mut take = |from: u64, length: u64| {
            let end = from.checked_add(length).filter(|_| length > 0)?;
            room = room.checked_sub(length)?;
            each(from, end);
            Some(end)
        };
        match tag {
            GAPS => {
                let mut at = take(first, 1)?;
                while !rest.is_empty() {
                    let (gap, after) = read_varint(rest)?;
                    at = take(at.checked_add(gap.checked_sub(1)?)?, 1)?;
                    rest = after;
                }
            }
            BITMAP => {
                let end = first.checked_add(rest.len() as u64 * 8)?;
                let set = |at: u64| rest[((at - first) / 8) as usize] >> ((at - first) % 8) & 1 == 1;
                let mut begun = rest.first().filter(|byte| *byte & 1 == 1).map(|_| first);
                begun?;
                for at in first..end {
                    match (set(at), begun) {
                        (true, None) => begun = Some(at),
                        (false, Some(from)) => {
                            take(from, at - from)?;
                            begun = None;
                        }
                        _ => {}
                    }
                }
                if let Some(from) = begun {
                    take(from, end - from)?;
                }
            }
            RUNS => {
                let mut at = first;
                loop {
                    let (length, after) = read_varint(rest)?;
                    let end = take(at, length)?;
                    if after.is_empty() {
                        break;
                    }
                    let (gap, after) = read_varint(after)?;
                    at = end.checked_add(gap).filter(|_| gap > 0)?;
                    rest = after;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether it lists exactly these seqs, which must ascend. Does not say why not.
    pub fn is(&self, seqs: impl ExactSizeIterator<Item = u64> + Clone) -> bool {
        self.same(seqs).is_some()
    }

    fn same(&self, mut seqs: impl ExactSizeIterator<Item = u64> + Clone) -> Option<()> {
        let (&tag, mut rest) = self.bytes.split_first()?;
        let mut next = seqs.next().filter(|first| *first == self.first);
        let mut at = next?;
        match tag {
            GAPS => {
                for seq in seqs {
                    let (gap, after) = match rest {
                        // The common case.
                        [gap @ ..0x80, after @ ..] => (u64::from(*gap), after),
                        _ => read_varint(rest)?,
                    };
                    at = at.checked_add(gap).filter(|at| gap > 0 && *at == seq)?;
                    rest = after;
                }
                rest.is_empty().then_some(())
            }
            BITMAP => {
                // Each set bit, starting with the lowest of the first byte.
                for (i, byte) in rest.iter().enumerate() {
                    let mut bits = *byte;
                    while bits != 0 {
                        let seq = self.first.checked_add(i as u64 * 8 + u64::from(bits.trailing_zeros()))?;
                        if next? != seq {
                            return None;
                        }
                        next = seqs.next();
                        bits &= bits - 1;
                    }
                }
                next.is_none().then_some(())
            }
            RUNS => loop {
                let (length, after) = read_varint(rest)?;
                // The seqs ascend: if the one `more` steps on is `last`, the ones between are exactly this run.
                let more = usize::try_from(length.checked_sub(1)?).ok()?;
                let last = at.checked_add(more as u64)?;
                if more > 0 && seqs.nth(more - 1)? != last {
                    return None;
                }
                if after.is_empty() {
                    return seqs.next().is_none().then_some(());
                }
                let (gap, after) = read_varint(after)?;
                at = last.checked_add(1)?.checked_add(gap).filter(|_| gap > 0)?;
                if seqs.next()? != at {
                    return None;
                }
                rest = after;
            },
            _ => None,
        }
    }

    /// The seqs; `None` if the bytes are not a list, or list more than `limit` seqs.
    pub fn seqs(&self, limit: usize) -> Option<Vec<u64>> {
        // A gap takes at least one byte.
        let mut seqs = Vec::with_capacity(self.bytes.len().min(limit));
        self.ranges(limit, |from, end| seqs.extend(from..end)).map(|()| seqs)
    }
}

/// The stored form of an ascending list of seqs.
pub fn encode(seqs: &[u64]) -> Vec<u8> {
    let mut gaps = vec![GAPS];
    for pair in seqs.windows(2) {
        write_varint(pair[1] - pair[0], &mut gaps);
    }
    let (Some(&first), Some(&last)) = (seqs.first(), seqs.last()) else { return gaps };
    let bitmap_len = ((last - first) / 8 + 2) as usize;
    let mut best = gaps;
    if bitmap_len < best.len() {
        let mut bitmap = vec![0; bitmap_len];
        bitmap[0] = BITMAP;
        for seq in seqs {
            bitmap[1 + ((seq - first) / 8) as usize] |= 1 << ((seq - first) % 8);
        }
        best = bitmap;
    }
    runs(seqs, best.len()).unwrap_or(best)
}

/// The list as runs, if these are shorter than `limit`.
fn runs(seqs: &[u64], limit: usize) -> Option<Vec<u8>> {
    if limit <= 2 {
        return None;
    }
    let mut runs = vec![RUNS];
    let mut length = 1;
    for pair in seqs.windows(2) {
        if pair[1] == pair[0] + 1 {
            length += 1;
            continue;
        }
        write_varint(length, &mut runs);
        write_varint(pair[1] - pair[0] - 1, &mut runs);
        length = 1;
        if runs.len() >= limit {
            return None;
        }
    }
    write_varint(length, &mut runs);
    (runs.len() < limit).then_some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_comes_back(first in 0u64..1 << 50, gaps in prop::collection::vec(1u64..40, 0..300), dense: bool) {
            let mut seqs = vec![first];
            for gap in gaps {
                seqs.push(seqs[seqs.len() - 1] + if dense { gap / 20 + 1 } else { gap });
            }
            prop_assert_eq!(List { first, bytes: &encode(&seqs) }.seqs(1 << 16), Some(seqs));
        }

        #[test]
        fn any_bytes_are_a_list_or_refused(first: u64, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(seqs) = (List { first, bytes: &bytes }).seqs(1000) {
                prop_assert!(seqs.is_sorted() && seqs.len() <= 1000 && seqs[0] == first);
            }
        }

        /// A list equals the seqs that it was made from. Changed bytes, in any form, equal the seqs that they decode to.
        #[test]
        fn a_list_is_what_it_lists(
            first in 0u64..1 << 50,
            gaps in prop::collection::vec(prop_oneof![Just(1u64), 1u64..4, 1u64..60], 0..300),
            at: prop::sample::Index,
            with: u8,
            tag in 0u8..3,
        ) {
            let mut seqs = vec![first];
            gaps.iter().for_each(|gap| seqs.push(seqs[seqs.len() - 1] + gap));
            let mut bytes = encode(&seqs);
            let is = |first: u64, seqs: &[u64]| List { first, bytes: &bytes }.is(seqs.iter().copied());
            let answers = [is(first, &seqs), is(first + 1, &seqs), is(first, &seqs[1..]), is(first, &seqs[..seqs.len() - 1])];
            prop_assert_eq!(answers, [true, false, false, false]);
            let at = at.index(bytes.len());
            bytes[at] = with;
            bytes[0] = tag;
            let list = List { first, bytes: &bytes };
            prop_assert_eq!(list.is(seqs.iter().copied()), list.seqs(seqs.len()).as_ref() == Some(&seqs));
            if let Some(listed) = list.seqs(1 << 16) {
                prop_assert!(list.is(listed.iter().copied()));
            }
        }
    }
}
