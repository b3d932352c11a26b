//! Operations on a log as a whole, which need queries and verification: `purge`, `restore`, `health`, `privacy` (revealing and
//! erasing sealed values), `ends` (ends of calls that other processes began), and `details`
//! (what another source tells of a call, which `alike` finds). Recording is in `store/log`; reading is in `query`, `prove` and `verify`.

mod alike;
mod details;
mod ends;
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

pub use details::Told;
pub(crate) use ends::SentAbandoned;
pub use ends::{Abandoned, Unmatched};
pub use health::{Health, Unsealed};
pub use purge::Purged;
