//! Finding entries.
//!
//! A [`Query`] (`filter`) describes what to find. `store/read/stream` turns its facets into streams of seqs and
//! intersects them; `hits` fetches the entries. `calls` says which entries are one call. `timeline` and `statistics` are
//! built on both. `values` looks up which values exist, `alike` which of them look alike, and `persons` counts the people
//! behind names. Nothing here uses redb: all data comes from the store's snapshot.

mod alike;
mod calls;
pub(crate) mod filter;
mod hits;
mod persons;
mod statistics;
mod timeline;
mod values;

pub use calls::{Calls, Part};
pub(crate) use filter::Query;
pub(crate) use hits::{Cursor, Hits};
pub use persons::Persons;
pub use statistics::{Statistics, ToolStatistics};
pub use timeline::Step;
pub(crate) use timeline::Timeline;
pub use values::UnknownValue;
