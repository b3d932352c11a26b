//! Stored bytes: how values lie in the file. The only user of bincode.
//!
//! Invariant C1: every stored value starts with a format byte. Invariant C2: a value has one encoding; bytes that
//! decode but would be encoded otherwise, or are followed by more, are refused, so no stored byte can change without
//! either failing here or changing the value. bincode itself accepts over-long integers and trailing bytes, and
//! allocates whatever a hostile length asks for unless it is given a limit; hence the one configuration here.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// The format of stored values. Another byte is another, newer, program's.
pub(crate) const FORMAT: u8 = 1;

/// The largest value that is decoded. Blocks hold their entries as one byte string, so this bounds a block.
pub(crate) const MAX_BYTES: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_BYTES>> = bincode::config::standard().with_limit();

/// Why stored bytes are not what the program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("the value is of format {0}, this program knows format {FORMAT}")]
    Format(u8),
    #[error("the stored value is damaged: {0}")]
    Damaged(&'static str),
    #[error("the value is too large to store")]
    TooLarge,
}

impl From<CodecError> for crate::Error {
    fn from(e: CodecError) -> crate::Error {
        let kind = match e {
            CodecError::Format(_) => crate::ErrorKind::NewerFormat,
            CodecError::Damaged(_) => crate::ErrorKind::Damaged,
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

/// Appends the stored form of `value` without its format byte: fields that follow those that stand there.
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

/// The value that `bytes` are the stored form of.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let value = decode_trusted(bytes)?;
    match is_form_of(bytes, &value) {
        true => Ok(value),
        false => Err(CodecError::Damaged("it is not in its one form")),
    }
}

/// Whether these bytes are the stored form of `value`, written nowhere.
pub(crate) fn is_form_of<T: Serialize>(bytes: &[u8], value: &T) -> bool {
    struct Same<'a>(&'a [u8]);
    impl bincode::enc::write::Writer for Same<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
            let rest = self.0.strip_prefix(bytes);
            self.0 = rest.ok_or(bincode::error::EncodeError::Other("another form"))?;
            Ok(())
        }
    }
    let Some((&FORMAT, rest)) = bytes.split_first() else { return false };
    let mut same = Same(rest);
    bincode::serde::encode_into_writer(value, &mut same, CONFIG).is_ok() && same.0.is_empty()
}

/// As [`decode`], without the check for the one form: for reading what a hash covers anyway.
pub(crate) fn decode_trusted<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&format, rest) = bytes.split_first().ok_or(CodecError::Damaged("it is empty"))?;
    if format != FORMAT {
        return Err(CodecError::Format(format));
    }
    let (value, used) =
        bincode::serde::decode_from_slice(rest, CONFIG).map_err(|_| CodecError::Damaged("it does not decode"))?;
    if used != rest.len() {
        return Err(CodecError::Damaged("something follows it"));
    }
    Ok(value)
}

/// As [`decode_trusted`], for values that borrow from the bytes.
pub(crate) fn decode_borrowed<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (&format, rest) = bytes.split_first().ok_or(CodecError::Damaged("it is empty"))?;
    if format != FORMAT {
        return Err(CodecError::Format(format));
    }
    let (value, used) = bincode::serde::borrow_decode_from_slice(rest, CONFIG)
        .map_err(|_| CodecError::Damaged("it does not decode"))?;
    if used != rest.len() {
        return Err(CodecError::Damaged("something follows it"));
    }
    Ok(value)
}
