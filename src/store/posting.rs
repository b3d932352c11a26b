//! Posting lists: the seqs of one term in one index batch.
//!
//! Stored as a tag, then the list in whichever of three ways is shortest, always relative to the first seq, which is
//! the last part of the row's key. Invariant P1: a list has one stored form (ties go to the lower tag). It is hashed in this
//! form (`merge`), so a list in another form is another list.

use super::block::{read_varint, write_varint};

/// A gap after each seq but the first, in base 128.
const GAPS: u8 = 0;
/// Bit `i` stands for the first seq + `i`.
const BITMAP: u8 = 1;
/// Pairs of how many follow each other, and how many are left out then.
const RUNS: u8 = 2;

/// A list as it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct List<'a> {
    /// The first seq.
    pub first: u64,
    /// Tag and list.
    pub bytes: &'a [u8],
}

impl List<'_> {
    /// Hands over the list as ranges, each up to and without its end, in order. `None` where the bytes are no list, or one
    /// of more than `limit` seqs, since a few bytes can stand for any number; what was handed over then means nothing.
    pub(crate) fn ranges(&self, limit: usize, mut each: impl FnMut(u64, u64)) -> Option<()> {
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

    /// The seqs; `None` where the bytes are no list, or one of more than `limit` seqs.
    pub(crate) fn seqs(&self, limit: usize) -> Option<Vec<u64>> {
        // A gap takes at least a byte.
        let mut seqs = Vec::with_capacity(self.bytes.len().min(limit));
        self.ranges(limit, |from, end| seqs.extend(from..end)).map(|()| seqs)
    }
}

/// The stored form of a rising list of seqs.
pub(crate) fn encode(seqs: &[u64]) -> Vec<u8> {
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

/// The list as runs, where these are shorter than `limit`.
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
    }
}
