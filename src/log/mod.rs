//! Operations on a log as a whole, which need queries and verification: `purge`, `restore`, `health`, `privacy` (revealing and
//! erasing sealed values), `ends` (calls that one process begins and another ends; `known` finds them, `abandon` gives them up),
//! `details` (what another source tells of a call, which `alike` finds; `untold` records what nobody has told of), and `held` (how
//! many entries a hold keeps). Recording is in `store/log`; reading is in `query`, `prove` and `verify`.

mod abandon;
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
mod held;
mod known;
mod privacy;
mod purge;
mod restore;
mod untold;

pub use abandon::Abandoned;
pub(crate) use abandon::SentAbandoned;
pub use ends::Unmatched;
pub use health::{Health, Unsealed};
pub use purge::Purged;
pub use untold::Told;
