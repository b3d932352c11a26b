//! redb's own tables: the free pages, and the pages that become free when nobody reads them any more.
//!
//! Invariant R58: no page in use by a tree is in redb's list of free pages, and no page in the lists of pages to be freed is
//! in use by a tree. redb trusts these tables in every file that was closed; if they are wrong, new entries overwrite old
//! ones, or nothing can be recorded any more.
//!
//! They are read while nobody commits, since redb reuses their pages as soon as it has committed. Whether a page of the log's
//! trees is listed as free is checked after these trees were walked ([`super::check`]).

use super::allocator::{Allocators, TABLE as ALLOCATORS};
use super::header::{Commit, Header};
use super::page::{Number, little};
use super::walk::{Taken, Walk, Whose};
use super::{Flaw, Seen, Shape};
use redb::StorageBackend;
use std::io;
use std::ops::Range;

/// Pages to be freed, of the log's tables and of redb's own.
const COMES_FREE: [&str; 2] = ["data_pages_unreachable", "system_pages_unreachable"];
/// Pages allocated since a savepoint. This program makes no savepoints.
const SAVEPOINT: &str = "data_pages_allocated";

/// redb's own tables, with its names for their types.
fn shapes() -> Vec<Shape> {
    let shape = |name: &str, key: (&str, usize), value: &str| Shape {
        name: name.to_owned(),
        key: (key.0.to_owned(), Some(key.1)),
        value: (value.to_owned(), None),
    };
    let mut shapes: Vec<Shape> = [COMES_FREE[0], COMES_FREE[1], SAVEPOINT]
        .map(|name| shape(name, ("redb::TransactionIdWithPagination", 16), "redb::PageList"))
        .into();
    shapes.push(shape(ALLOCATORS, ("redb::AllocatorStateKey", 5), "&[u8]"));
    shapes
}

/// A commit, with the content of redb's own tables.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) commit: Commit,
    /// The pages of redb's own tables, and those to be freed.
    pub(crate) taken: Taken,
    /// The free ranges according to redb.
    pub(crate) free: Vec<Range<u64>>,
    /// The flaws of redb's own tables.
    pub(crate) flaws: Vec<Flaw>,
    pub(crate) seen: Seen,
    certain: bool,
}

impl Present {
    /// Reads the current commit. Only while nobody commits.
    ///
    /// # Errors
    /// I/O errors of the storage.
    pub(crate) fn read(bytes: &dyn StorageBackend) -> io::Result<Present> {
        Present::of(bytes, Commit::read(bytes)?)
    }

    /// Reads the commit that redb takes when it opens the file, and checks the header. Returns also whether the file has a
    /// newer commit that was not finished.
    ///
    /// # Errors
    /// I/O errors of the storage.
    pub(crate) fn before_opening(bytes: &dyn StorageBackend) -> io::Result<(Present, bool)> {
        let header = Header::settled(bytes)?;
        let mut present = Present::of(bytes, header.taken().clone())?;
        present.certain = header.two_phase;
        if !present.certain {
            // In that case redb checks all of it itself, and takes what is valid.
            present.flaws.clear();
        }
        if let Some(what) = header.flaw() {
            present.flaws.insert(0, Flaw { table: None, own: false, at: Some(0), what: what.to_owned() });
        }
        Ok((present, header.is_unfinished()))
    }

    /// Whether redb is certain to take this commit: for a file that was not closed it may take the other one.
    pub(crate) fn is_certain(&self) -> bool {
        self.certain
    }

    /// Whether it is the same commit.
    pub(crate) fn is_the_same(&self, other: &Present) -> bool {
        self.commit == other.commit
    }

    pub(crate) fn of(bytes: &dyn StorageBackend, commit: Commit) -> io::Result<Present> {
        let (mut flaws, mut lists, mut allocators) = (Vec::new(), Vec::new(), Allocators::default());
        let mut found = |flaw| flaws.push(flaw);
        let mut walk = Walk::new(bytes, commit.layout, Taken::none(commit.layout.length), &mut found);
        walk.tables(commit.own.as_ref(), Whose::Redb(&shapes()), &mut |table, key, value| match table {
            ALLOCATORS => allocators.add(key, value),
            table => lists.push((table.to_owned(), little(key, 0, 8), value.to_vec())),
        })?;
        for (table, transaction, list) in &lists {
            if let Err(what) = comes_free(&mut walk.taken, &commit, table, *transaction, list) {
                walk.flaw(Some(table), None, what);
            }
        }
        let free = allocators.free(&commit).unwrap_or_else(|what| {
            walk.flaw(Some(ALLOCATORS), None, what);
            Vec::new()
        });
        let (taken, seen) = (walk.taken, walk.seen);
        Ok(Present { commit, taken, free, flaws, seen, certain: true })
    }
}

/// Marks the pages of a list of pages to be freed as taken; no other use of them may exist.
fn comes_free(
    taken: &mut Taken,
    commit: &Commit,
    table: &str,
    transaction: u64,
    list: &[u8],
) -> Result<(), &'static str> {
    if table == SAVEPOINT {
        return Err("it has rows, which only savepoints have, and this program makes none");
    }
    if transaction > commit.transaction {
        return Err("it has pages that come free after a commit that was not made yet");
    }
    let pages = list.get(2..2 + 8 * little(list, 0, 2) as usize).ok_or("a list of pages in it is cut short")?;
    for number in pages.as_chunks::<8>().0 {
        let place = Number::from_bits(u64::from_le_bytes(*number)).place(&commit.layout);
        let place = place.ok_or("a page in it lies where the file has none")?;
        if !taken.take(&place) {
            return Err("a page in it has another place in redb's own tables");
        }
    }
    Ok(())
}
