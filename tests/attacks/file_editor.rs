//! Somebody who writes to the store's file and has none of its keys.

mod small_tables;
