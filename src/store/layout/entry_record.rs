//! An entry as it is stored: the few fields that follow from its position, and its content.

use crate::codec::{self, CodecError};
use crate::store::layout::stored_entry::{Head, decode_content};
use crate::{Hash, Timestamp};
use attestlog_proof::entry::{Body, Retention};
use serde::Deserialize;
use std::borrow::Cow;

/// A stored entry.
#[derive(Debug, Clone)]
pub(crate) struct EntryRecord<'a> {
    pub head: Head<'a>,
    /// The content as `codec` writes it, without a format byte.
    pub content: Cow<'a, [u8]>,
}

impl EntryRecord<'_> {
    /// The decoded body, which may borrow from this record.
    pub(crate) fn body<'p, S>(&'p self) -> Result<Body<S>, CodecError>
    where
        S: AsRef<str> + Deserialize<'p> + From<&'p str>,
    {
        let Head { nonce, recorded_at, retention } = &self.head;
        let retention = retention.as_ref().map(|r| Retention { class: r.class.into(), until: r.until });
        let content = decode_content(&self.content)?;
        Ok(Body { nonce: *nonce, recorded_at: *recorded_at, retention, content })
    }

    /// When it happened: the time given by the caller for a call, the recording time for a system event.
    pub(crate) fn timestamp(&self) -> Result<Timestamp, CodecError> {
        self.body::<&str>().map(|body| body.timestamp())
    }
}

/// The nonce of the entry at `seq` in a block whose nonces are derived from `seed`: the first half of SHA-256 over the seed
/// and the seq, 8 bytes big-endian. Knowing some nonces but not the seed reveals nothing about the others.
pub(crate) fn nonce_of(seed: &[u8; 16], seq: u64) -> [u8; 16] {
    let mut text = [0; 24];
    text[..16].copy_from_slice(seed);
    text[16..].copy_from_slice(&seq.to_be_bytes());
    let Hash(hash) = Hash::of(&text);
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&hash[..16]);
    nonce
}

/// A row of the tail: the entry's hash, the previous hash, and the stored body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TailRow {
    pub prev: Hash,
    pub hash: Hash,
    pub bytes: Vec<u8>,
}

impl TailRow {
    /// Decodes a row of the tail.
    pub(crate) fn from_row(row: &[u8]) -> Result<TailRow, CodecError> {
        let damaged = CodecError::Damaged("a row of the tail is too short");
        let (prev, rest) = row.split_first_chunk::<32>().ok_or(damaged.clone())?;
        let (hash, body) = rest.split_first_chunk::<32>().ok_or(damaged)?;
        Ok(TailRow { prev: Hash(*prev), hash: Hash(*hash), bytes: body.to_vec() })
    }

    /// The entry.
    pub(crate) fn part(&self) -> Result<EntryRecord<'_>, CodecError> {
        let (head, content) = codec::decode_first(&self.bytes)?;
        Ok(EntryRecord { head, content: content.into() })
    }
}

/// Encodes a row of the tail: the two hashes, then the body.
pub(crate) fn row(prev: &Hash, hash: &Hash, body: &[u8]) -> Vec<u8> {
    [prev.as_bytes(), hash.as_bytes(), body].concat()
}
