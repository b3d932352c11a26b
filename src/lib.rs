//! attestlog
#![forbid(unsafe_code)]

pub mod json;

mod error;
mod hash;

pub use error::{Error, ErrorKind, Result};
pub use hash::{Hash, ParseHashError};
