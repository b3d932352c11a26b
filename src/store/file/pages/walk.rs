//! Walks through every page of every tree of a commit.

use super::definition::Definition;
use super::header::Layout;
use super::order::Order;
use super::page::{BRANCH, Branch, Page, Pointer, Root, Widths};
use super::{DEPTH, Flaw, PAGE, Seen, Shape};
use redb::StorageBackend;
use std::io;
use std::ops::Range;

/// Called for each row.
type Each<'e> = &'e mut dyn FnMut(&[u8], &[u8]);

/// Bounds for the keys of a page: above the first, not above the second.
type Bounds<'b> = (Option<&'b [u8]>, Option<&'b [u8]>);

/// Why a page is not examined further.
enum Stop {
    Flaw(String),
    Io(io::Error),
}

impl From<&str> for Stop {
    fn from(what: &str) -> Stop {
        Stop::Flaw(what.to_owned())
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Stop {
        Stop::Flaw(what)
    }
}

/// Which pages of the file are in use by a tree: one bit per smallest page.
#[derive(Debug, Clone)]
pub(crate) struct Taken(Vec<u64>);

impl Taken {
    /// No page of a file of this length.
    pub(crate) fn none(length: u64) -> Taken {
        Taken(vec![0; usize::try_from(length / PAGE / 64 + 1).unwrap_or_default()])
    }

    /// Marks the pages in this range as taken; returns whether none of them was.
    pub(crate) fn take(&mut self, place: &Range<u64>) -> bool {
        let mut free = true;
        for page in place.start / PAGE..place.end / PAGE {
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            match self.0.get_mut(word) {
                Some(word) => {
                    free &= *word & bit == 0;
                    *word |= bit;
                }
                None => free = false,
            }
        }
        free
    }

    /// The offsets of the pages in this range that are taken.
    pub(crate) fn of(&self, place: &Range<u64>) -> impl Iterator<Item = u64> {
        let is_taken = |page: &u64| self.0.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 != 0);
        (place.start / PAGE..place.end / PAGE).filter(is_taken).map(|page| page * PAGE)
    }
}

/// Which set of tables is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose<'s> {
    /// The log's tables. All of these must exist and no others.
    Log(&'s [Shape]),
    /// redb's own tables, each of which redb creates when it first needs it. No others may exist.
    Redb(&'s [Shape]),
}

pub(crate) struct Walk<'a> {
    bytes: &'a dyn StorageBackend,
    layout: Layout,
    pub taken: Taken,
    /// Page buffers for reuse.
    spare: Vec<Vec<u8>>,
    found: &'a mut dyn FnMut(Flaw),
    own: bool,
    pub seen: Seen,
}

/// The tree being walked.
struct Tree<'t> {
    table: Option<&'t str>,
    order: &'t Order,
    widths: Widths,
}

impl<'a> Walk<'a> {
    /// A walk through the pages of a file, some of which are taken already.
    pub(crate) fn new(
        bytes: &'a dyn StorageBackend,
        layout: Layout,
        taken: Taken,
        found: &'a mut dyn FnMut(Flaw),
    ) -> Walk<'a> {
        Walk { bytes, layout, taken, spare: Vec::new(), found, own: false, seen: Seen::default() }
    }

    pub(crate) fn flaw(&mut self, table: Option<&str>, at: Option<u64>, what: impl Into<String>) {
        (self.found)(Flaw { table: table.map(str::to_owned), own: self.own, at, what: what.into() });
    }

    /// Walks a tree of tables and each of its tables, calls `each` with the table's name and each row, and reports every
    /// flaw.
    pub(crate) fn tables(
        &mut self,
        root: Option<&Root>,
        whose: Whose<'_>,
        each: &mut dyn FnMut(&str, &[u8], &[u8]),
    ) -> io::Result<()> {
        let (Whose::Log(shapes) | Whose::Redb(shapes)) = whose;
        self.own = matches!(whose, Whose::Redb(_));
        let Some(order) = Order::named("&str") else { return Ok(()) };
        let tree = Tree { table: None, order: &order, widths: Widths { key: None, value: None } };
        let mut rows = Vec::new();
        self.tree(&tree, root, root.map_or(0, |root| root.rows), &mut |name, definition| {
            rows.push((name.to_vec(), definition.to_vec()));
        })?;
        for (name, definition) in &rows {
            let Some(shape) = shapes.iter().find(|shape| shape.name.as_bytes() == name) else {
                let name: String = String::from_utf8_lossy(name).chars().take(80).collect();
                self.flaw(Some(&name), None, "this program has no such table, and has not looked at it");
                continue;
            };
            self.seen.tables += 1;
            match Definition::read(definition, shape) {
                Err(what) => self.flaw(Some(&shape.name), None, what),
                Ok(definition) => self.table(shape, &definition, each)?,
            }
        }
        Ok(())
    }

    fn table(
        &mut self,
        shape: &Shape,
        definition: &Definition,
        each: &mut dyn FnMut(&str, &[u8], &[u8]),
    ) -> io::Result<()> {
        let widths = Widths { key: shape.key.1, value: definition.value };
        let tree = Tree { table: Some(&shape.name), order: &definition.order, widths };
        let root = definition.root.as_ref();
        self.tree(&tree, root, definition.rows, &mut |key, value| each(&shape.name, key, value))?;
        Ok(())
    }

    /// Walks a tree that should have this many rows. Returns whether all of it could be examined.
    fn tree(&mut self, tree: &Tree<'_>, root: Option<&Root>, rows: u64, each: Each<'_>) -> io::Result<bool> {
        let Some(root) = root else {
            if rows != 0 {
                self.flaw(tree.table, None, format!("it has no page and is said to have {rows} rows"));
            }
            return Ok(rows == 0);
        };
        let before = self.seen.rows;
        let whole = self.page(tree, root.pointer, (None, None), DEPTH, each)?;
        let counted = self.seen.rows - before;
        if whole && (counted != rows || counted != root.rows) {
            let said = if counted == rows { root.rows } else { rows };
            self.flaw(tree.table, None, format!("it has {counted} rows and is said to have {said}"));
        }
        Ok(whole)
    }

    /// Walks a page and what is below it, and reports every flaw. Returns whether all of it could be examined.
    fn page(
        &mut self,
        tree: &Tree<'_>,
        at: Pointer,
        bounds: Bounds<'_>,
        depth: u32,
        each: Each<'_>,
    ) -> io::Result<bool> {
        let Some(place) = at.page.place(&self.layout) else {
            self.flaw(tree.table, None, format!("a page is said to lie where the file has none: {:?}", at.page));
            return Ok(false);
        };
        // The range is within the file, and no other page of a tree overlaps it.
        let length = match self.taken.take(&place).then(|| usize::try_from(place.end - place.start)) {
            Some(Ok(length)) => length,
            _ => {
                self.seen.leads_astray = true;
                self.flaw(tree.table, Some(place.start), "the page has two places in the trees");
                return Ok(false);
            }
        };
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.resize(length, 0);
        self.seen.pages += 1;
        let read = self.bytes.read(place.start, &mut buffer).map_err(Stop::Io);
        let went = read.and_then(|()| self.inside(tree, &buffer, at.sum, bounds, depth, each));
        // The rows of a leaf point to no other page, except in the tree of tables.
        let leads = tree.table.is_none() || buffer.first() == Some(&BRANCH);
        self.spare.push(buffer);
        match went {
            Ok(whole) => Ok(whole),
            Err(Stop::Io(e)) => Err(e),
            Err(Stop::Flaw(what)) => {
                self.seen.leads_astray |= leads;
                self.flaw(tree.table, Some(place.start), what);
                Ok(false)
            }
        }
    }

    fn inside(
        &mut self,
        tree: &Tree<'_>,
        bytes: &[u8],
        sum: u128,
        bounds: Bounds<'_>,
        depth: u32,
        each: Each<'_>,
    ) -> Result<bool, Stop> {
        match Page::parse(bytes, tree.widths, sum)? {
            Page::Leaf(leaf) => {
                rise(tree.order, bounds, leaf.count, |n| leaf.key(n))?;
                (0..leaf.count).for_each(|n| each(leaf.key(n), leaf.value(n)));
                self.seen.rows += leaf.count as u64;
                Ok(true)
            }
            Page::Branch(branch) => {
                rise(tree.order, bounds, branch.count, |n| branch.key(n))?;
                let depth = depth.checked_sub(1).ok_or("the tree is deeper than any that redb makes")?;
                self.children(tree, &branch, bounds, depth, each)
            }
        }
    }

    fn children(
        &mut self,
        tree: &Tree<'_>,
        branch: &Branch<'_>,
        (above, upto): Bounds<'_>,
        depth: u32,
        each: Each<'_>,
    ) -> Result<bool, Stop> {
        let mut whole = true;
        for n in 0..=branch.count {
            let child = branch.child(n).ok_or("its children do not lie within it")?;
            let above = n.checked_sub(1).map(|before| branch.key(before)).or(above);
            let upto = if n < branch.count { Some(branch.key(n)) } else { upto };
            whole &= self.page(tree, child, (above, upto), depth, each).map_err(Stop::Io)?;
        }
        Ok(whole)
    }
}

/// Checks that the keys of a page are keys, rise, and lie within its bounds.
fn rise<'k>(
    order: &Order,
    (above, upto): Bounds<'k>,
    count: usize,
    key: impl Fn(usize) -> &'k [u8],
) -> Result<(), Stop> {
    let mut before = above;
    for n in 0..count {
        let this = key(n);
        if !order.is_key(this) {
            return Err(format!("its key {n} is none of the table's type").into());
        }
        if before.is_some_and(|before| order.compare(before, this).is_ge()) {
            return Err(match n {
                0 => "its first key does not lie above the key that separates it from the page before".into(),
                _ => format!("its key {n} does not come after the one before it").into(),
            });
        }
        before = Some(this);
    }
    match before.zip(upto) {
        Some((last, upto)) if order.compare(last, upto).is_gt() => {
            Err("its last key lies above the key that separates it from the next page".into())
        }
        _ => Ok(()),
    }
}
