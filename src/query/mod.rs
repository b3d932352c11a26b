//! Finding entries again.
//!
//! A [`Query`] says what is wanted; `store/stream` turns its facets into streams of seqs that can be sought in, and intersects
//! them; `hits` fetches the entries; `values` says which values there are to ask for; `timeline` and `statistics` are built on both. Nothing here knows redb: everything is
//! asked of the store's snapshot.

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
