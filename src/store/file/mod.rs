//! The file itself: its tables, the open database, reading it without redb, and replacing it.

pub(crate) mod database_handle;
pub(crate) mod first_look;
pub(crate) mod held_leaves;
pub(crate) mod overlay;
pub(crate) mod pages;
pub(crate) mod panic_guard;
pub(crate) mod paths;
pub(crate) mod read_view;
pub(crate) mod replacement;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod watched;
