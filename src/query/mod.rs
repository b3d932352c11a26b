//! Finding entries again.
//!
//! A [`Query`] (`filter`) says what is wanted. `store/read/stream` turns its facets into streams of seqs and intersects them; `hits` fetches the
//! entries. `timeline` and `statistics` are built on both. `values` says which values there are to ask for, `alike` which look alike, and
//! `persons` how many people names stand for. Nothing here knows redb: everything is asked of the store's snapshot.

mod alike;
mod filter;
mod hits;
mod persons;
mod statistics;
mod timeline;
mod values;

pub use filter::Query;
pub use hits::Hits;
pub use persons::Persons;
pub use statistics::{Statistics, ToolStatistics};
pub use timeline::{Step, Timeline};
pub use values::UnknownValue;
