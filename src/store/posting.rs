//! Posting lists: the seqs of one term in one index batch.
//!
//! Stored as a tag, then the list in whichever of three ways is shortest, always relative to the first seq, which is
//! the last part of the row's key. Invariant P1: a list has one stored form (ties go to the lower tag).

use super::block::{read_varint, write_varint};

/// A gap after each seq but the first, in base 128.
const GAPS: u8 = 0;
/// Bit `i` stands for the first seq + `i`.
const BITMAP: u8 = 1;
/// Pairs of how many follow each other, and how many are left out then.
const RUNS: u8 = 2;

/// The stored form of a rising list of seqs that starts with `first`.
pub(crate) fn encode(seqs: &[u64]) -> Vec<u8> {
    let mut gaps = vec![GAPS];
    for pair in seqs.windows(2) {
        write_varint(pair[1] - pair[0], &mut gaps);
    }
    let (Some(&first), Some(&last)) = (seqs.first(), seqs.last()) else { return gaps };
    if seqs.len() < 16 {
        return gaps;
    }
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
        if runs.len() >= best.len() {
            return best;
        }
    }
    write_varint(length, &mut runs);
    if runs.len() < best.len() { runs } else { best }
}

/// The seqs of a stored list that starts with `first`; `None` where the bytes are no list. `limit` bounds how many
/// there may be, since a few bytes of runs can stand for any number.
pub(crate) fn decode(first: u64, bytes: &[u8], limit: usize) -> Option<Vec<u64>> {
    let (&tag, mut rest) = bytes.split_first()?;
    let mut seqs = Vec::new();
    match tag {
        GAPS => {
            seqs.push(first);
            let mut at = first;
            while !rest.is_empty() {
                let (gap, after) = read_varint(rest)?;
                at = at.checked_add(gap).filter(|&next| next > at)?;
                seqs.push(at);
                rest = after;
            }
        }
        BITMAP => {
            for (i, byte) in rest.iter().enumerate() {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    seqs.push(first.checked_add(i as u64 * 8 + bit)?);
                }
            }
        }
        RUNS => {
            let mut at = first;
            loop {
                let (length, after) = read_varint(rest)?;
                let end = at.checked_add(length).filter(|_| length > 0 && length <= (limit - seqs.len()) as u64)?;
                seqs.extend(at..end);
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
    (seqs.first() == Some(&first) && seqs.len() <= limit).then_some(seqs)
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
            prop_assert_eq!(decode(first, &encode(&seqs), 1 << 16), Some(seqs));
        }

        #[test]
        fn any_bytes_are_a_list_or_refused(first: u64, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(seqs) = decode(first, &bytes, 1000) {
                prop_assert!(seqs.is_sorted() && seqs.len() <= 1000);
            }
        }
    }
}
