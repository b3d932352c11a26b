//! Reading: one moment of the store, and what is found in it.
//!
//! `snapshot` is that moment, and `held` what it keeps of what it has read. `lookup` reads postings and terms, `stream` intersects facets, `rows` reads index rows in the order
//! in which they were hashed, `moment` refuses to mix two moments in one answer, `scan` walks whole tables for verification,
//! `agree` compares walks with look-ups, `signed_leaves` holds what is shown against what is signed, and `call_ids` finds calls by their ids.

pub(crate) mod agree;
pub(crate) mod call_ids;
pub(crate) mod held;
pub(crate) mod lookup;
pub(crate) mod moment;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod signed_leaves;
pub(crate) mod snapshot;
pub(crate) mod stream;
