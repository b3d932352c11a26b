//! Reads the pages of the file without redb, to check that redb's look-ups by key find the same rows as a walk through the
//! tree.
//!
//! redb verifies no checksum when it reads, and trusts its pages. A walk through a table goes from child to child; a look-up
//! follows the keys in the branch pages. Whoever changes such a key, by a flipped bit or with every checksum recomputed,
//! hides rows from look-ups that a walk still finds. So verification reads the trees of its own snapshot here and checks the
//! checksum of the commit and of each page; kind, counts and lengths within each page; that keys rise, in redb's order for
//! keys of that type; that each separator bounds the keys below it; that a table has as many rows as it says, and that no
//! page is used twice. If all of that holds, walks and look-ups agree (V4).
//!
//! This module knows no specific table: the caller passes the expected tables, with the types of their keys and values
//! ([`Shape`]). `header` reads the commits, `definition` the definition of a table, `order` compares keys, `page` decodes a
//! page, `walk` goes from page to page; `own` and `allocator` read redb's own tables (R58); `tally` tells which commit of a file that
//! was not closed is whole (R121). Every number in a page is checked
//! against the length of the page or the file before it is used.
//!
//! This is version 3 of the file format, which redb 4.4 writes; Cargo.toml pins redb to the version that this module was
//! written for.

pub(crate) mod allocator;
pub(crate) mod definition;
pub(crate) mod header;
pub(crate) mod order;
pub(crate) mod own;
pub(crate) mod page;
pub(crate) mod tally;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

pub(crate) use own::Present;

use redb::{Key, StorageBackend, TableDefinition, TableHandle, Value};
use std::io;
use walk::{Walk, Whose};

/// The size of redb's smallest page. Larger pages are twice as large, four times, and so on.
pub(crate) const PAGE: u64 = 4096;

/// Maximum depth of a tree. A branch has at least two children, and a file fewer than 2^40 pages.
const DEPTH: u32 = 40;

/// A table that may be in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub name: String,
    /// redb's names for the types of key and value, and their widths in bytes where fixed.
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

/// A flaw in the trees of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The table, if it concerns one.
    pub table: Option<String>,
    /// Whether it concerns one of redb's own tables, or their tree.
    pub own: bool,
    /// The file offset of the page, if it concerns one.
    pub at: Option<u64>,
    pub what: String,
}

/// What was examined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub tables: u64,
    pub pages: u64,
    pub rows: u64,
    /// Whether a page that points to others is damaged: redb could be misled into reading any page.
    pub leads_astray: bool,
}

/// Checks the header and the pages of a file that nobody has open, and reports every flaw. Returns whether the file has a
/// newer commit that was not finished, or `None` if it is not a redb file at all.
///
/// # Errors
/// I/O errors of the storage.
pub(crate) fn check_file(
    bytes: &dyn StorageBackend,
    shapes: &[Shape],
    found: &mut dyn FnMut(Flaw),
) -> io::Result<Option<bool>> {
    let length = bytes.len()?;
    if length < header::HEADER_BYTES as u64 {
        let mut start = vec![0; length as usize];
        bytes.read(0, &mut start)?;
        if !start.starts_with(crate::files::STORE_MAGIC) {
            return Ok(None);
        }
        found(Flaw {
            table: None,
            own: false,
            at: Some(0),
            what: "the file ends in the middle of its header".to_owned(),
        });
        return Ok(Some(false));
    }
    let header = header::Header::settled(bytes)?;
    if !header.is_redb {
        return Ok(None);
    }
    let (present, unfinished) = Present::before_opening(bytes)?;
    let mut flaws = Vec::new();
    if present.is_certain() {
        check(bytes, &present, shapes, &mut |flaw| flaws.push(flaw))?;
    } else {
        check(bytes, &Present::of(bytes, header.taken().clone())?, shapes, &mut |flaw| flaws.push(flaw))?;
        // redb takes the other commit then, if that is valid.
        let mut others = false;
        check(bytes, &Present::of(bytes, header.other().clone())?, shapes, &mut |_| others = true)?;
        if !others {
            flaws = present.flaws;
        }
    }
    flaws.into_iter().for_each(found);
    Ok(Some(unfinished))
}

/// Checks every tree of a commit, whose pages nobody may write to meanwhile, and reports every flaw. The commit may have
/// no other tables than these, and no page of theirs may be one that redb considers free [R58].
///
/// # Errors
/// I/O errors of the storage.
pub(crate) fn check(
    bytes: &dyn StorageBackend,
    present: &Present,
    shapes: &[Shape],
    found: &mut dyn FnMut(Flaw),
) -> io::Result<Seen> {
    for flaw in &present.flaws {
        found(flaw.clone());
    }
    let commit = &present.commit;
    let mut walk = Walk::new(bytes, commit.layout, present.taken.clone(), found);
    walk.seen = present.seen;
    if let Some(flaw) = commit.flaw {
        walk.seen.leads_astray = true;
        walk.flaw(None, Some(0), flaw);
        return Ok(walk.seen);
    }
    walk.tables(commit.root.as_ref(), Whose::Log(shapes), &mut |_, _, _| {})?;
    let mut overlaps = present.free.iter().flat_map(|free| walk.taken.of(free));
    if let Some(first) = overlaps.next() {
        let more = overlaps.count();
        let what = format!(
            "it is in use, and redb's own tables call it free: what is recorded next would be written over it{}",
            if more == 0 { String::new() } else { format!("; so with {more} more of {PAGE} bytes") }
        );
        walk.flaw(None, Some(first), what);
    }
    Ok(walk.seen)
}
