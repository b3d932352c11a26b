//! The file itself.
//!
//! `tables` lists its tables, `all_tables` has what is done with each, `redb_errors` translates errors, `database_handle` is the
//! database in it, `open_table` a table of a read transaction, `read_view` a transaction that readers share, and `replacement` puts another file in its place.
//! `storage` is for stores that are in no file of their own. `overlay` reads a file and changes no byte of it. `first_look`,
//! `panic_guard` and `watched` deal with files that are damaged or that something else writes to, and `pages` reads redb's pages
//! without redb. `one_sync` writes redb's commits so that small ones need one sync. `held_leaves` remembers which entries were held against what is signed.

pub(crate) mod all_tables;
pub(crate) mod database_handle;
pub(crate) mod first_look;
pub(crate) mod held_leaves;
pub(crate) mod one_sync;
pub(crate) mod open_table;
pub(crate) mod overlay;
pub(crate) mod pages;
pub(crate) mod panic_guard;
pub(crate) mod paths;
pub(crate) mod read_view;
pub(crate) mod redb_errors;
pub(crate) mod replacement;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod watched;
