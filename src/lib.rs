//! attestlog
#![forbid(unsafe_code)]

pub mod json;
pub mod keys;
pub mod merkle;
pub mod note;
pub mod proof;

mod error;
mod hash;

pub use error::{Error, ErrorKind, Result};
pub use hash::{Hash, ParseHashError};
