//! The keys of the tables `terms` and `postings`.

use crate::Hash;
use attestlog_proof::entry::Facet;

/// The key prefix of a facet's rows in `postings`. Facets with few values, whose rows are long, come before those with
/// many, whose rows are short: a long row has leaf pages to itself, and so would each row inserted directly before it.
/// Traces and conversations come last: nearly all of their terms are new, so their rows are appended.
pub(crate) const fn key_prefix(field: Facet) -> u8 {
    match field {
        Facet::User => 202,
        Facet::Patient => 204,
        Facet::Resource => 206,
        Facet::Trace => 254,
        Facet::Conversation => 255,
        other => other as u8,
    }
}

/// The number of the facet with this key prefix, or zero, which no facet has, if there is none.
pub(crate) const fn has_prefix(key_prefix: u8) -> u8 {
    match key_prefix {
        202 => Facet::User as u8,
        204 => Facet::Patient as u8,
        206 => Facet::Resource as u8,
        254 => Facet::Trace as u8,
        255 => Facet::Conversation as u8,
        1 | 2 | 4 | 14 | 15 => 0,
        other => other,
    }
}

/// The longest value that is stored in `terms` verbatim.
pub(crate) const TERM_BYTES: usize = 64;

/// The key of a facet's value in `terms`: the value, or `0xff` and its SHA-256. UTF-8 never starts with `0xff`.
pub(crate) fn term_key(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if value.len() <= TERM_BYTES {
        return value.into();
    }
    let mut key = vec![0xff];
    key.extend_from_slice(Hash::of(value).as_bytes());
    key.into()
}
