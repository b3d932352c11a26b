//! An entry as it is stored: the few fields that follow from its position, and its content.

use crate::Timestamp;
use crate::codec::CodecError;
use crate::store::layout::stored_entry::{Head, decode_content};
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
