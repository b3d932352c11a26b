//! Operations on a log as a whole, which need queries and verification: `purge`, `restore`, `health`, and `privacy` (revealing and
//! erasing sealed values). Recording is in `store/log`; reading is in `query`, `prove` and `verify`.

#[cfg(test)]
mod forged;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing_pages;
mod health;
mod privacy;
mod purge;
mod restore;

pub use health::{Health, Unsealed};
pub use purge::Purged;
