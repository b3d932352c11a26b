//! Reads the pages of the file without redb, to see that what redb finds by looking a key up is what it finds by walking.
//!
//! redb checks no checksum when it reads and trusts what its pages say. A walk through a table goes from child to child; a
//! look-up goes where the keys in the branch pages send it. Whoever changes such a key, by a flipped bit or with every
//! checksum made again, hides rows from look-ups that each walk still meets. So verification goes through the trees of its
//! own snapshot here: the checksum of the commit and of each page; kind, counts and lengths within each page; that keys
//! rise, in the order in which redb compares keys of that type; that each separator bounds what is below it; that a table
//! has as many rows as it says, and no page has two places. Where all of that holds, walks and look-ups agree (V4).
//!
//! It knows no table: which there should be, with keys and values of which types, is given to it ([`Shape`]). `header` reads
//! the commit, `definition` what the file says of a table, `order` compares keys, `page` takes a page apart, `walk` goes
//! from page to page. Everything that a page says is held against the page's or the file's length before it is used.
//!
//! This is the file format, version 3, that redb 4.4 writes; Cargo.toml pins redb to the version that it was written for.

pub(crate) mod definition;
pub(crate) mod header;
pub(crate) mod order;
pub(crate) mod page;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

pub(crate) use header::Commit;
pub(crate) use walk::check;

use redb::{Key, TableDefinition, TableHandle, Value};

/// The size of redb's smallest page. Larger ones are twice as large, or four times, and so on.
pub(crate) const PAGE: u64 = 4096;

/// How deep a tree may be. A branch has at least two children, and a file fewer than 2^40 pages.
const DEPTH: u32 = 40;

/// A table that should be in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub name: String,
    /// redb's names for the types of key and value, and how many bytes each has where that is fixed.
    pub key: (String, Option<usize>),
    pub value: (String, Option<usize>),
}

impl Shape {
    /// The shape of a table that the program opens.
    pub(crate) fn of<K: Key, V: Value>(table: &TableDefinition<'_, K, V>) -> Shape {
        let (key, value) = (K::type_name(), V::type_name());
        Shape {
            name: table.name().to_owned(),
            key: (key.name().to_owned(), K::fixed_width()),
            value: (value.name().to_owned(), V::fixed_width()),
        }
    }
}

/// What is wrong with the trees of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The table, where it is one's.
    pub table: Option<String>,
    /// Where in the file the page begins, where it is a page's.
    pub at: Option<u64>,
    pub what: String,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub tables: u64,
    pub pages: u64,
    pub rows: u64,
}
