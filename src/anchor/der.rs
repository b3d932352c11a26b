//! The small part of DER that time-stamps need: reading elements in sequence, and writing a request.
//!
//! Invariants: reading copies nothing and does not recurse, so depth and memory depend on the reading code and not on
//! the input. Lengths are definite, in their shortest form and within the input. Tags have one byte.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of the constructed, context-specific element `number`, which is below 31.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Why the bytes are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time-stamp in DER: {0}")]
pub(super) struct DerError(pub(super) &'static str);

/// The unread rest of a sequence of elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// The next element's tag and contents.
    pub(super) fn element(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let (&tag, rest) = self.0.split_first().ok_or(DerError("an element is missing"))?;
        if tag & 0x1f == 0x1f {
            return Err(DerError("a tag of more than one byte"));
        }
        let (&first, rest) = rest.split_first().ok_or(DerError("cut off before a length"))?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x80 => return Err(DerError("an indefinite length")),
            0x81..=0x84 => {
                let (digits, rest) =
                    rest.split_at_checked(usize::from(first & 0x7f)).ok_or(DerError("cut off in a length"))?;
                let length = digits.iter().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
                if length < 0x80 || digits.first() == Some(&0) {
                    return Err(DerError("a length that is not in its shortest form"));
                }
                (length, rest)
            }
            _ => return Err(DerError("a length of more than four bytes")),
        };
        let (contents, rest) = rest.split_at_checked(length).ok_or(DerError("a length beyond the end"))?;
        self.0 = rest;
        Ok((tag, contents))
    }

    /// The contents of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], DerError> {
        match self.element()? {
            (found, contents) if found == tag => Ok(contents),
            _ => Err(DerError(what)),
        }
    }

    /// The elements in the next element, which must have this tag.
    pub(super) fn inside(&mut self, tag: u8, what: &'static str) -> Result<Reader<'a>, DerError> {
        self.expect(tag, what).map(Reader)
    }

    /// The contents of the next element if it has this tag; otherwise nothing is consumed.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.0.first() == Some(&tag) { self.element().map(|(_, contents)| Some(contents)) } else { Ok(None) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    pub(super) fn finish(&self) -> Result<(), DerError> {
        if self.0.is_empty() { Ok(()) } else { Err(DerError("something follows where nothing may")) }
    }
}

/// Encodes an element with these contents, concatenated.
pub(super) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let digits = digits.iter().skip_while(|&&byte| byte == 0);
            // At most eight digits.
            out.push(0x80 | digits.clone().count() as u8);
            out.extend(digits);
        }
    }
    contents.iter().for_each(|part| out.extend_from_slice(part));
    out
}
