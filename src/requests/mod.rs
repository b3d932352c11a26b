//! The requests of a handle to the process that has the store open: one type per operation, all listed in one table.
//!
//! The table says which authority each request needs (I13, see `owner/authority`). The owner checks it in one place, before it
//! answers a request of another process; no other way of asking exists.

#![cfg_attr(
    not(feature = "owner"),
    allow(dead_code, reason = "without other processes nobody sends a request by its name")
)]

#[macro_use]
mod table;
mod kinds;
mod pages;
#[cfg(all(test, feature = "owner"))]
mod tests;

pub(crate) use kinds::*;
pub(crate) use pages::{Found, Page};
#[cfg(feature = "owner")]
pub(crate) use table::Need;
pub(crate) use table::Request;
#[cfg(feature = "owner")]
pub(crate) use table::{Effect, Row};

use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The table row of the request with this name.
#[cfg(feature = "owner")]
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// A request or an answer as JSON.
pub(crate) fn to_text<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::invalid(format!("a request or an answer has no form as JSON: {e}")))
}

/// Parses a request or an answer from another process.
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("a request of another process cannot be understood: {e}")))
}
