//! Somebody who kept an older copy of the store.
