//! Stored bytes: the encoding of values in the file. The only user of bincode.
//!
//! Invariant C1: every stored value starts with a format byte. Invariant C2: a value has exactly one encoding; bytes that
//! decode but would be encoded differently, or are followed by more, are refused, so no stored byte can change without
//! either failing here or changing the value. bincode only writes: its own reader accepts over-long integers and trailing
//! bytes, so `reader` reads.

mod bounded;
pub(crate) mod nonce;
mod reader;

pub(crate) use bounded::{MOST, bounded};

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use reader::Reader;
use serde::{Deserialize, Serialize};

/// The format byte of stored values. In the state row another byte means a newer program.
pub(crate) const FORMAT: u8 = 1;

/// The largest value that is decoded. A block holds its entries as one byte string, so this bounds a block.
pub(crate) const MAX_BYTES: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_BYTES>> = bincode::config::standard().with_limit();

/// Why stored bytes are not a value that this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("the value is of format {0}, this program knows format {FORMAT}")]
    Format(u8),
    #[error("the stored value is damaged: {0}")]
    Damaged(&'static str),
    #[error("the value is too large to store")]
    TooLarge,
}

const FOLLOWED: CodecError = CodecError::Damaged("something follows it");

impl From<CodecError> for crate::Error {
    fn from(e: CodecError) -> crate::Error {
        let kind = match e {
            // The state row says which layout a store has, and was read before: a value of another format in it was changed.
            CodecError::Format(_) | CodecError::Damaged(_) => crate::ErrorKind::Damaged,
            CodecError::TooLarge => crate::ErrorKind::TooLarge,
        };
        crate::Error::new(kind, e.to_string()).with_source(e)
    }
}

/// The stored form of `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(512);
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Appends the stored form of `value`.
pub(crate) fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.push(FORMAT);
    append(value, out)
}

/// Appends the stored form of `value` without a format byte: for fields that follow those already written.
pub(crate) fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    struct Sink<'a>(&'a mut Vec<u8>);
    impl bincode::enc::write::Writer for Sink<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    let start = out.len();
    bincode::serde::encode_into_writer(value, Sink(out), CONFIG).map_err(|_| CodecError::TooLarge)?;
    if out.len() - start > MAX_BYTES { Err(CodecError::TooLarge) } else { Ok(()) }
}

/// Decodes bytes that are exactly one stored value, which may borrow from them.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (value, rest) = decode_first(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(FOLLOWED) }
}

/// Decodes the stored value that `bytes` begin with, and returns the rest, which [`append`] wrote.
pub(crate) fn decode_first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    let (&format, rest) = bytes.split_first().ok_or(CodecError::Damaged("it is empty"))?;
    if format != FORMAT {
        return Err(CodecError::Format(format));
    }
    if rest.len() > MAX_BYTES {
        return Err(CodecError::TooLarge);
    }
    let mut reader = Reader::new(rest);
    let value = T::deserialize(&mut reader)?;
    Ok((value, reader.rest()))
}

/// Decodes a value that [`append`] wrote.
pub(crate) fn decode_behind<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_BYTES {
        return Err(CodecError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    if reader.is_empty() { Ok(value) } else { Err(FOLLOWED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Sort {
        None,
        One(i64),
        Two(u16, bool),
        Named { text: String, more: Option<Box<Sort>> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct All {
        unsigned: (u8, u16, u32, u64, u128),
        signed: (i8, i16, i32, i64),
        float: f64,
        flags: Vec<Option<bool>>,
        texts: BTreeMap<String, u64>,
        sorts: Vec<Sort>,
        fixed: [u8; 4],
    }

    fn sort() -> impl Strategy<Value = Sort> {
        let leaf = prop_oneof![
            Just(Sort::None),
            any::<i64>().prop_map(Sort::One),
            any::<(u16, bool)>().prop_map(|(n, flag)| Sort::Two(n, flag)),
        ];
        leaf.prop_recursive(3, 8, 1, |inner| {
            (any::<String>(), prop::option::of(inner.prop_map(Box::new)))
                .prop_map(|(text, more)| Sort::Named { text, more })
        })
    }

    fn all() -> impl Strategy<Value = All> {
        // Integers of every width, not only the widest.
        let wide = (any::<u128>(), 0u32..128).prop_map(|(n, bits)| n >> bits);
        let long = (any::<i64>(), 0u32..64).prop_map(|(n, bits)| n >> bits);
        let parts = (any::<(u8, u16, u32)>(), 0u32..64, wide, any::<(i8, i16, i32)>(), long, -1e300f64..1e300);
        let lists = (any::<Vec<Option<bool>>>(), any::<BTreeMap<String, u64>>(), prop::collection::vec(sort(), 0..4));
        (parts, lists, any::<[u8; 4]>()).prop_map(|((u, bits, wide, i, long, float), (flags, texts, sorts), fixed)| {
            let unsigned = (u.0, u.1, u.2, u64::from(u.2) << 31 >> bits, wide);
            All { unsigned, signed: (i.0, i.1, i.2, long), float, flags, texts, sorts, fixed }
        })
    }

    /// A byte that is a character, or the first or a later byte of one.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![Just(b'a'), prop::sample::select(&[0xc3, 0x85, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x80, 0xfb][..])]
    }

    /// Mostly text: all of it, or all but one byte.
    fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        (length, any::<prop::sample::Index>(), prop::option::weighted(0.1, byte()), any::<bool>()).prop_map(
            |(length, at, with, wide)| {
                let mut text = if wide { "é".repeat(length / 2).into_bytes() } else { vec![b'x'; length] };
                if let (Some(with), false) = (with, text.is_empty()) {
                    let at = at.index(text.len());
                    text[at] = with;
                }
                text
            },
        )
    }

    /// The value that bincode's own reader decodes, if it would be encoded as the same bytes.
    fn by_bincode(bytes: &[u8]) -> Option<All> {
        let rest = bytes.strip_prefix(&[FORMAT])?;
        let (value, used): (All, usize) = bincode::serde::decode_from_slice(rest, CONFIG).ok()?;
        (used == rest.len() && encode(&value).ok()? == bytes).then_some(value)
    }

    proptest! {
        #[test]
        fn what_bincode_writes_is_read(value in all()) {
            prop_assert_eq!(decode::<All>(&encode(&value).unwrap()), Ok(value));
        }

        /// C2: what is accepted is exactly what bincode reads and would write again unchanged, apart from the order of a map.
        #[test]
        fn bytes_are_read_where_they_are_the_one_form(value in all(), at: prop::sample::Index, with: u8, more: bool) {
            let mut bytes = encode(&value).unwrap();
            let at = at.index(bytes.len());
            match more {
                true => bytes.insert(at, with),
                false => bytes[at] = with,
            }
            let texts_rise = |value: &All| encode(value).unwrap() == bytes;
            prop_assert_eq!(decode::<All>(&bytes).ok().filter(texts_rise), by_bincode(&bytes));
        }

        #[test]
        fn integers_have_one_form(n: u16, tag in 251u8..=254) {
            let mut long = vec![FORMAT, tag];
            long.extend_from_slice(&u128::from(n).to_le_bytes()[..1 << (tag - 250)]);
            let short = encode(&u128::from(n)).unwrap();
            prop_assert_eq!(decode::<u128>(&long).is_ok(), long == short);
            prop_assert_eq!(decode::<u64>(&long).is_ok(), long == short);
        }

        /// Several texts are validated at once; the bytes between them may look like a character or a part of one.
        #[test]
        fn each_text_is_text_whatever_lies_around_it(
            parts in prop::collection::vec((byte(), prop_oneof![text(0..4), text(60..70), text(128..140)]), 0..12),
        ) {
            let mut bytes = vec![FORMAT, parts.len() as u8];
            for (between, text) in &parts {
                bytes.extend([*between, text.len() as u8]);
                bytes.extend(text);
            }
            let whole = |(between, text): (u8, Vec<u8>)| String::from_utf8(text).ok().map(|text| (between, text));
            let expected: Option<Vec<(u8, String)>> = parts.into_iter().map(whole).collect();
            prop_assert_eq!(decode::<Vec<(u8, String)>>(&bytes).ok(), expected);
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(bytes: Vec<u8>) {
            let _ = decode::<All>(&bytes);
            let _ = decode::<Vec<Sort>>(&bytes);
        }
    }
}
