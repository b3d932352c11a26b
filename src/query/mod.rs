//! Finding entries.
//!
//! A [`Query`] (`filter`) describes what to find. `store/read/stream` turns its facets into streams of seqs and
//! intersects them; `hits` fetches the entries, and asks of each what no index knows (`condition`). `calls` says which entries
//! are one call. `timeline`, `whole` (one call with all its parts), `conversations`, `statistics` and `breakdown` (figures by
//! groups) are built on both. `values` looks up which values exist, `alike` which of them look alike, and `persons` counts the people
//! behind names. Nothing here uses redb: all data comes from the store's snapshot.

mod alike;
mod breakdown;
mod calls;
mod condition;
mod conversations;
pub(crate) mod filter;
mod hits;
mod persons;
mod statistics;
mod timeline;
mod values;
mod whole;

pub use breakdown::{Breakdown, Figures, Group, Grouping};
pub use calls::{Calls, Part};
pub use conversations::{Conversation, Conversations, OlderConversations};
pub(crate) use filter::Query;
pub(crate) use hits::{Cursor, Hits};
pub use persons::Persons;
pub use statistics::{Statistics, ToolStatistics};
pub use timeline::Step;
pub(crate) use timeline::Timeline;
pub use values::UnknownValue;
pub use whole::WholeCall;
