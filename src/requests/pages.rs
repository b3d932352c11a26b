//! The results of a query and the steps of a timeline, sent in pages.

use crate::query::{Cursor, Step};
use crate::store::OpenStore;
use crate::{Entry, Error, Query, Result};
use serde::{Deserialize, Serialize};

/// The size limits of one page.
const ENTRIES: usize = 512;
const BYTES: usize = 1 << 20;
/// A page ends after this many entries that were read and are not meant: whoever asks is answered soon, however rare its entries are.
const READ: u64 = 8192;

/// An item that was found, or the error in its place.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Found<T> {
    Value(T),
    Error(Error),
}

impl<T> Found<T> {
    pub(crate) fn result(self) -> Result<T> {
        match self {
            Found::Value(value) => Ok(value),
            Found::Error(e) => Err(e),
        }
    }
}

impl<T> From<Result<T>> for Found<T> {
    fn from(found: Result<T>) -> Found<T> {
        found.map_or_else(Found::Error, Found::Value)
    }
}

/// A page of what was found: entries that match a query, or steps of a timeline.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page<T> {
    pub found: Vec<Found<T>>,
    /// Where this page begins.
    pub first: Cursor,
    /// Where the next page begins; `None` after the last page.
    pub next: Option<Cursor>,
}

/// The next page of a query. The first page fixes the snapshot that all pages are read from.
pub(crate) fn entries(store: &OpenStore, query: &Query, as_stored: bool, from: Option<Cursor>) -> Result<Page<Entry>> {
    let hits = match from {
        None => store.query(query)?,
        Some(cursor) => store.query_on(query, cursor)?,
    };
    let mut hits = if as_stored { hits.stored() } else { hits }.pausing(READ);
    let (first, mut found, mut bytes) = (hits.cursor(), Vec::new(), 0);
    while found.len() < ENTRIES && bytes < BYTES || hits.stays() {
        let Some(next) = hits.next() else {
            let next = hits.has_paused().then(|| hits.cursor());
            return Ok(Page { found, first, next });
        };
        bytes += next.as_ref().map_or(0, |entry| entry.line().len());
        found.push(next.into());
    }
    Ok(Page { found, first, next: Some(hits.cursor()) })
}

/// The next page of a timeline. The first page fixes the moment of which all pages are.
pub(crate) fn steps(store: &OpenStore, conversation: &str, from: Option<Cursor>) -> Result<Page<Step>> {
    let mut timeline = match from {
        None => store.timeline(conversation)?,
        Some(cursor) => store.timeline_on(conversation, cursor)?,
    };
    let (first, mut found, mut bytes) = (timeline.cursor(), Vec::new(), 0);
    while found.len() < ENTRIES && bytes < BYTES || timeline.stays() {
        let Some(next) = timeline.next() else { return Ok(Page { found, first, next: None }) };
        bytes += next.as_ref().map_or(0, |step| step.entry.line().len());
        found.push(next.into());
    }
    Ok(Page { found, first, next: Some(timeline.cursor()) })
}
