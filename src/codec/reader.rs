//! Reads stored values: what bincode writes, but only the shortest form of each integer.
//!
//! bincode's own reader accepts over-long integers, so a value that it reads would have to be encoded again and compared to make
//! sure of its one form (C2). This reader need not compare: integers are the only part of the format that can be written in
//! more than one way. (The order of a map is the other; code that stores a map checks that its keys ascend.) It
//! allocates no more than the input accounts for, and texts and byte strings can be borrowed from the input.

use super::CodecError;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

type Result<T> = std::result::Result<T, CodecError>;

const SHORT: CodecError = CodecError::Damaged("it ends early");
const LONG_FORM: CodecError = CodecError::Damaged("it is not in canonical form");
const WRONG: CodecError = CodecError::Damaged("it cannot be decoded");

/// The largest integer that is encoded as itself; the tags of wider ones follow.
const ONE_BYTE: u8 = 250;
const TWO_BYTES: u8 = 251;
const FOUR_BYTES: u8 = 252;
const EIGHT_BYTES: u8 = 253;
const SIXTEEN_BYTES: u8 = 254;

/// A reader over the bytes that are left.
pub(super) struct Reader<'de> {
    left: &'de [u8],
    /// The stretch of bytes last found to be UTF-8; the lengths and short numbers between texts may be characters in it too.
    /// Validating many short texts at once takes half as long.
    text: &'de str,
    /// How many bytes follow that stretch in the input.
    behind: usize,
}

impl serde::de::Error for CodecError {
    fn custom<T: std::fmt::Display>(_: T) -> CodecError {
        WRONG
    }
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Reader<'de> {
        Reader { left: bytes, text: "", behind: bytes.len() }
    }

    /// The bytes that were not read.
    pub(super) fn rest(&self) -> &'de [u8] {
        self.left
    }

    /// Whether everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.left.split_first_chunk().ok_or(SHORT)?;
        self.left = rest;
        Ok(*bytes)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An integer of up to 64 bits.
    #[inline]
    fn integer(&mut self) -> Result<u64> {
        let first = self.byte()?;
        if first <= ONE_BYTE { Ok(first.into()) } else { self.wide(first) }
    }

    fn wide(&mut self, tag: u8) -> Result<u64> {
        let (n, least) = match tag {
            TWO_BYTES => (u16::from_le_bytes(self.array()?).into(), u64::from(ONE_BYTE)),
            FOUR_BYTES => (u32::from_le_bytes(self.array()?).into(), u64::from(u16::MAX)),
            EIGHT_BYTES => (u64::from_le_bytes(self.array()?), u64::from(u32::MAX)),
            _ => return Err(WRONG),
        };
        if n > least { Ok(n) } else { Err(LONG_FORM) }
    }

    #[inline]
    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T> {
        self.integer()?.try_into().map_err(|_| WRONG)
    }

    /// Signed integers are zigzag-encoded: 0, -1, 1, -2 are stored as 0, 1, 2, 3.
    #[inline]
    fn signed(&mut self) -> Result<i64> {
        let n = self.integer()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'de [u8]> {
        let length = self.narrow()?;
        let (bytes, rest) = self.left.split_at_checked(length).ok_or(SHORT)?;
        self.left = rest;
        Ok(bytes)
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str> {
        let length: usize = self.narrow()?;
        let (_, rest) = self.left.split_at_checked(length).ok_or(SHORT)?;
        if self.left.len() <= self.behind {
            self.find_text()?;
        }
        // A part of valid UTF-8 is valid exactly if it begins and ends at character boundaries.
        let from = (self.text.len() + self.behind).checked_sub(self.left.len()).ok_or(WRONG)?;
        let text = self.text.get(from..from + length).ok_or(WRONG)?;
        self.left = rest;
        Ok(text)
    }

    /// Finds how much of the remaining bytes is UTF-8.
    fn find_text(&mut self) -> Result<()> {
        self.text = match std::str::from_utf8(self.left) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&self.left[..e.valid_up_to()]).map_err(|_| WRONG)?,
        };
        self.behind = self.left.len() - self.text.len();
        Ok(())
    }

    /// How many elements follow. Each takes at least one byte.
    #[inline]
    fn count(&mut self) -> Result<usize> {
        let count = self.narrow()?;
        if count <= self.left.len() { Ok(count) } else { Err(SHORT) }
    }
}

/// Methods that read a number and pass it to the visitor.
macro_rules! numbers {
    ($($method:ident => $visit:ident, $read:expr;)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
                let read: fn(&mut Reader<'de>) -> Result<_> = $read;
                visitor.$visit(read(self)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = CodecError;

    numbers! {
        deserialize_u8 => visit_u8, |r| r.byte();
        deserialize_u16 => visit_u16, |r| r.narrow();
        deserialize_u32 => visit_u32, |r| r.narrow();
        deserialize_u64 => visit_u64, |r| r.integer();
        deserialize_i8 => visit_i8, |r| r.byte().map(|b| b as i8);
        deserialize_i16 => visit_i16, |r| r.signed()?.try_into().map_err(|_| WRONG);
        deserialize_i32 => visit_i32, |r| r.signed()?.try_into().map_err(|_| WRONG);
        deserialize_i64 => visit_i64, |r| r.signed();
        deserialize_f32 => visit_f32, |r| r.array().map(f32::from_le_bytes);
        deserialize_f64 => visit_f64, |r| r.array().map(f64::from_le_bytes);
        deserialize_str => visit_borrowed_str, |r| r.text();
        deserialize_string => visit_borrowed_str, |r| r.text();
        deserialize_bytes => visit_borrowed_bytes, |r| r.bytes();
        deserialize_byte_buf => visit_borrowed_bytes, |r| r.bytes();
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(WRONG),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            SIXTEEN_BYTES => match u128::from_le_bytes(self.array()?) {
                n if n > u64::MAX.into() => visitor.visit_u128(n),
                _ => Err(LONG_FORM),
            },
            small @ ..=ONE_BYTE => visitor.visit_u128(small.into()),
            tag => visitor.visit_u128(self.wide(tag)?.into()),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(WRONG),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.count()?;
        visitor.visit_seq(Elements { reader: self, left })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Elements { reader: self, left })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, left: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Elements { reader: self, left })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.count()?;
        visitor.visit_map(Elements { reader: self, left })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_seq(Elements { reader: self, left: fields.len() })
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }

    // The format stores no types and names, and no stored value contains a `char`.
    serde::forward_to_deserialize_any! { char identifier ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(WRONG)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, the members of a struct, the pairs of a map.
struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        match self.left.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.left = left;
                seed.deserialize(&mut *self.reader).map(Some)
            }
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> EnumAccess<'de> for &mut Reader<'de> {
    type Error = CodecError;
    type Variant = Self;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self)> {
        let variant: u32 = self.narrow()?;
        let variant: U32Deserializer<CodecError> = variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = CodecError;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Elements { reader: self, left })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Elements { reader: self, left: fields.len() })
    }
}
