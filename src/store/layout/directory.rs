//! Directories: in which block of its segment the content of each entry lies.
//!
//! The first byte is the width of a number, one byte, or two if the segment has more than 255 blocks. Then comes a number for each
//! entry of the segment up to the last that is there, little-endian: 0 if it is gone, otherwise the block's place among those of the
//! segment, plus one.

use crate::codec::CodecError;

/// A directory, read from the bytes of its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory<'a> {
    width: usize,
    places: &'a [u8],
}

impl<'a> Directory<'a> {
    /// Reads the directory of a segment of this many entries.
    pub(crate) fn read(bytes: &'a [u8], entries: u64) -> Result<Directory<'a>, CodecError> {
        let (width, places) = match bytes {
            [width @ 1..=2, places @ ..] => (usize::from(*width), places),
            _ => return Err(CodecError::Damaged("the directory of a segment begins with another byte")),
        };
        let numbers = places.len() / width;
        if !places.len().is_multiple_of(width) || numbers == 0 || numbers as u64 > entries {
            return Err(CodecError::Damaged("the directory of a segment has another length"));
        }
        Ok(Directory { width, places })
    }

    /// The place of the block with the entry at this offset; `None` if the entry is gone.
    pub(crate) fn place(&self, offset: u64) -> Option<u64> {
        let number = match (self.width, usize::try_from(offset).ok()?) {
            (1, at) => u64::from(*self.places.get(at)?),
            (_, at) => {
                let bytes = self.places.get(at.checked_mul(2)?..)?.first_chunk::<2>()?;
                u64::from(u16::from_le_bytes(*bytes))
            }
        };
        number.checked_sub(1)
    }

    /// Whether its numbers are as wide as the largest needs, and the last is that of an entry.
    pub(crate) fn is_canonical(&self) -> bool {
        let wide = self.places.as_chunks::<2>().0.iter().any(|number| number[1] > 0);
        let last = (self.places.len() / self.width) as u64 - 1;
        (self.width == 1 || wide) && self.place(last).is_some()
    }
}

/// The directory with these places by offset.
pub(crate) fn encode(places: &[Option<u64>]) -> Vec<u8> {
    let number = |place: &Option<u64>| place.map_or(0, |place| place.saturating_add(1));
    let places = places.get(..places.iter().rposition(Option::is_some).map_or(0, |last| last + 1)).unwrap_or_default();
    let wide = places.iter().any(|place| number(place) > u64::from(u8::MAX));
    let mut out = Vec::with_capacity(1 + places.len() * (1 + usize::from(wide)));
    out.push(1 + u8::from(wide));
    for place in places {
        // A segment has no more blocks than entries, so the number fits.
        let [low, high, ..] = number(place).to_le_bytes();
        out.push(low);
        out.extend(wide.then_some(high));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_takes_a_byte_and_two_only_where_there_are_many_blocks() {
        for most in [0, 254, 255, 7_167] {
            let places: Vec<Option<u64>> = (0..7_168).map(|n| (n % 5 != 0).then_some(n * 31 % (most + 1))).collect();
            let bytes = encode(&places);
            assert_eq!(bytes.len(), if most < 255 { 7_169 } else { 14_337 });
            let directory = Directory::read(&bytes, 7_168).unwrap();
            assert!(directory.is_canonical());
            assert!((0..).zip(&places).all(|(at, place)| directory.place(at) == *place));
            assert_eq!(directory.place(7_168), None);
            assert!(Directory::read(&bytes[..1], 7_168).is_err() && Directory::read(&bytes, 7_167).is_err());
            assert_eq!(encode(&places[..7_166]), bytes[..bytes.len() - 3 * usize::from(bytes[0])]);
        }
        assert!(!Directory::read(&[2, 1, 0], 1).unwrap().is_canonical());
        assert!(
            Directory::read(&[1, 1], 9).unwrap().is_canonical()
                && !Directory::read(&[1, 1, 0], 9).unwrap().is_canonical()
        );
        assert_eq!(encode(&[None, Some(0), None, None]), [1, 0, 1]);
        assert!(Directory::read(&[3, 1, 0, 0], 1).is_err() && Directory::read(&[], 0).is_err());
    }
}
