//! The trees of redb's file as its format says they are, read and written by the tests themselves: where each page of each
//! table is and what is in it, how checksums are made right again after an edit, and how a small store gets many pages.
#![allow(dead_code, reason = "each test file uses its part")]

use attestlog::Hash;
use std::collections::BTreeMap;
use std::ops::Range;
use twox_hash::XxHash3_128;

const PAGE: usize = 4096;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// A page of a tree.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where in the file it begins, and up to where its checksum goes.
    pub at: usize,
    pub used: usize,
    pub is_leaf: bool,
    /// Where its keys are, in the file, and its values.
    pub keys: Vec<Range<usize>>,
    pub values: Vec<Range<usize>>,
    /// Where it says which pages its children are, and their checksums.
    pub children: Vec<(usize, usize)>,
    /// Where what points at it has its checksum.
    pub sum_at: usize,
}

/// The tree of a table; that of all tables has no name. Children come before what points at them.
#[derive(Debug, Clone)]
pub struct Tree {
    pub name: String,
    pub pages: Vec<Page>,
    /// Where in the file its row among the tables is.
    pub definition: Range<usize>,
    widths: (Option<usize>, Option<usize>),
}

impl Tree {
    pub fn branches(&self) -> impl Iterator<Item = &Page> {
        self.pages.iter().filter(|page| !page.is_leaf)
    }

    pub fn leaves(&self) -> impl Iterator<Item = &Page> {
        self.pages.iter().filter(|page| page.is_leaf)
    }
}

pub fn number(bytes: &[u8], at: usize, count: usize) -> u64 {
    bytes[at..at + count].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
}

/// Where the commit that counts is.
pub fn commit_at(bytes: &[u8]) -> usize {
    64 + 128 * usize::from(bytes[9] & 1)
}

/// Where a page lies, by its number.
fn place(bytes: &[u8], page: u64) -> Range<usize> {
    let (before, pages) = (number(bytes, 16, 4), number(bytes, 20, 4));
    let (order, region) = (page >> 59, page >> 20 & 0xf_ffff);
    let index = page & (0xf_ffff >> order);
    let start = PAGE * (1 + region * (before + pages) + before + (index << order)) as usize;
    start..start + (PAGE << order)
}

fn walk(bytes: &[u8], page: u64, sum_at: usize, widths: (Option<usize>, Option<usize>), pages: &mut Vec<Page>) {
    let at = place(bytes, page).start;
    let is_leaf = bytes[at] == LEAF;
    assert!(is_leaf || bytes[at] == BRANCH, "no page at {at}");
    let count = number(bytes, at + 2, 2) as usize;
    let mut offset = if is_leaf { at + 4 } else { at + 8 + 24 * (count + 1) };
    let mut ends = |width: Option<usize>| -> Option<Vec<usize>> {
        width.is_none().then(|| {
            let ends = (0..count).map(|n| at + number(bytes, offset + 4 * n, 4) as usize).collect();
            offset += 4 * count;
            ends
        })
    };
    let key_ends = ends(widths.0);
    let value_ends = if is_leaf { ends(widths.1) } else { None };
    let mut strip = |ends: Option<Vec<usize>>, width: Option<usize>| -> Vec<Range<usize>> {
        (0..count)
            .map(|n| {
                let end = ends.as_ref().map_or_else(|| offset + width.unwrap(), |ends| ends[n]);
                std::mem::replace(&mut offset, end)..end
            })
            .collect()
    };
    let keys = strip(key_ends, widths.0);
    let values = if is_leaf { strip(value_ends, widths.1) } else { Vec::new() };
    let children: Vec<_> = if is_leaf {
        Vec::new()
    } else {
        (0..=count).map(|n| (at + 8 + 16 * (count + 1) + 8 * n, at + 8 + 16 * n)).collect()
    };
    for &(child, sum_at) in &children {
        walk(bytes, number(bytes, child, 8), sum_at, widths, pages);
    }
    pages.push(Page { at, used: offset, is_leaf, keys, values, children, sum_at });
}

/// Every tree of the tables, that of all tables last.
pub fn trees(bytes: &[u8]) -> Vec<Tree> {
    trees_of(bytes, 1, 8)
}

/// The same of redb's own tables.
pub fn own_trees(bytes: &[u8]) -> Vec<Tree> {
    trees_of(bytes, 2, 40)
}

/// Of a commit: where it says whether there are any, and where their root is.
fn trees_of(bytes: &[u8], there: usize, root: usize) -> Vec<Tree> {
    if bytes[commit_at(bytes) + there] == 0 {
        return Vec::new();
    }
    let root = commit_at(bytes) + root;
    let mut pages = Vec::new();
    walk(bytes, number(bytes, root, 8), root + 8, (None, None), &mut pages);
    let mut trees = Vec::new();
    for page in pages.iter().filter(|page| page.is_leaf) {
        for (key, value) in page.keys.iter().zip(&page.values) {
            let at = value.start;
            // Kind, rows, whether it has a page, that with checksum and rows, and how wide keys and values are.
            let width = |at: usize| (bytes[at] != 0).then(|| number(bytes, at + 1, 4) as usize);
            let widths = (width(at + 42), width(at + 47));
            let mut pages = Vec::new();
            if bytes[at + 9] != 0 {
                walk(bytes, number(bytes, at + 10, 8), at + 18, widths, &mut pages);
            }
            let name = String::from_utf8(bytes[key.clone()].to_vec()).unwrap();
            trees.push(Tree { name, pages, definition: value.clone(), widths });
        }
    }
    trees.push(Tree { name: String::new(), pages, definition: 0..0, widths: (None, None) });
    trees
}

pub fn tree(bytes: &[u8], name: &str) -> Tree {
    trees(bytes).into_iter().find(|tree| tree.name == name).unwrap()
}

/// Makes every checksum right again, up to the header's: what somebody does who edits the file and knows how redb makes it.
pub fn seal(bytes: &mut [u8]) {
    let before = bytes.to_vec();
    seal_as(&before, bytes);
}

/// The same where the pages lie as they did before they were edited, whatever they say now.
pub fn seal_as(before: &[u8], bytes: &mut [u8]) {
    for tree in trees(before).into_iter().chain(own_trees(before)) {
        for page in tree.pages {
            let sum = XxHash3_128::oneshot(&bytes[page.at..page.used]).to_le_bytes();
            bytes[page.sum_at..][..16].copy_from_slice(&sum);
        }
    }
    let commit = commit_at(bytes);
    let sum = XxHash3_128::oneshot(&bytes[commit..commit + 112]).to_le_bytes();
    bytes[commit + 112..][..16].copy_from_slice(&sum);
}

type Row = (Vec<u8>, Vec<u8>);

fn rows(bytes: &[u8], tree: &Tree) -> Vec<Row> {
    let row = |page: &Page, n: usize| (bytes[page.keys[n].clone()].to_vec(), bytes[page.values[n].clone()].to_vec());
    tree.leaves().flat_map(|page| (0..page.keys.len()).map(move |n| row(page, n))).collect()
}

/// Puts a page behind the others and gives its number.
fn append(bytes: &mut Vec<u8>, page: &[u8]) -> u64 {
    let order = page.len().div_ceil(PAGE).next_power_of_two().trailing_zeros() as usize;
    let before = 1 + number(bytes, 16, 4) as usize;
    while !(bytes.len() / PAGE - before).is_multiple_of(1 << order) {
        bytes.extend([0; PAGE]);
    }
    let index = (bytes.len() / PAGE - before) >> order;
    let end = bytes.len() + (PAGE << order);
    bytes.extend_from_slice(page);
    bytes.resize(end, 0);
    index as u64 | (order as u64) << 59
}

fn leaf(rows: &[Row], widths: (Option<usize>, Option<usize>)) -> Vec<u8> {
    let mut page = vec![LEAF, 0];
    page.extend((rows.len() as u16).to_le_bytes());
    let lists = [widths.0, widths.1].iter().filter(|width| width.is_none()).count();
    let mut end = page.len() + lists * 4 * rows.len();
    let mut end_after = |bytes: &[u8]| {
        end += bytes.len();
        end
    };
    let keys: Vec<usize> = rows.iter().map(|row| end_after(&row.0)).collect();
    let values: Vec<usize> = rows.iter().map(|row| end_after(&row.1)).collect();
    for (ends, width) in [(keys, widths.0), (values, widths.1)] {
        if width.is_none() {
            ends.iter().for_each(|&end| page.extend((end as u32).to_le_bytes()));
        }
    }
    rows.iter().for_each(|row| page.extend(&row.0));
    rows.iter().for_each(|row| page.extend(&row.1));
    page
}

/// A page's number, its checksum, and the greatest key below it.
type Child = (u64, u128, Vec<u8>);

fn branch(children: &[Child], width: Option<usize>) -> Vec<u8> {
    let keys: Vec<&Vec<u8>> = children[..children.len() - 1].iter().map(|child| &child.2).collect();
    let mut page = vec![BRANCH, 0];
    page.extend((keys.len() as u16).to_le_bytes());
    page.extend([0; 4]);
    children.iter().for_each(|child| page.extend(child.1.to_le_bytes()));
    children.iter().for_each(|child| page.extend(child.0.to_le_bytes()));
    if width.is_none() {
        let mut end = page.len() + 4 * keys.len();
        keys.iter().for_each(|key| {
            end += key.len();
            page.extend((end as u32).to_le_bytes());
        });
    }
    keys.iter().for_each(|key| page.extend(*key));
    page
}

/// Writes the rows as a tree with so many of them in a leaf, and three children in a branch.
fn grow(bytes: &mut Vec<u8>, rows: &[Row], in_leaf: usize, widths: (Option<usize>, Option<usize>)) -> (u64, u128) {
    let mut level: Vec<Child> = Vec::new();
    for rows in rows.chunks(in_leaf) {
        let page = leaf(rows, widths);
        level.push((append(bytes, &page), XxHash3_128::oneshot(&page), rows[rows.len() - 1].0.clone()));
    }
    while level.len() > 1 {
        let mut above = Vec::new();
        let mut rest = &level[..];
        while !rest.is_empty() {
            // None is left alone.
            let count = if rest.len() == 4 { 2 } else { rest.len().min(3) };
            let (children, others) = rest.split_at(count);
            let page = branch(children, widths.0);
            above.push((append(bytes, &page), XxHash3_128::oneshot(&page), children[count - 1].2.clone()));
            rest = others;
        }
        level = above;
    }
    (level[0].0, level[0].1)
}

/// The same tables with a few rows in each page, so that every table of two rows has a branch: as if the process had been
/// killed right after it had written them.
pub fn spread(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut tables = BTreeMap::new();
    for tree in trees(bytes) {
        let rows = rows(bytes, &tree);
        let mut definition = bytes[tree.definition.clone()].to_vec();
        if !tree.name.is_empty() {
            if !rows.is_empty() {
                let in_leaf = if rows.len() < 8 { 1 } else { 3 };
                let (page, sum) = grow(&mut out, &rows, in_leaf, tree.widths);
                definition[10..18].copy_from_slice(&page.to_le_bytes());
                definition[18..34].copy_from_slice(&sum.to_le_bytes());
            }
            tables.insert(tree.name.into_bytes(), definition);
        }
    }
    let tables: Vec<Row> = tables.into_iter().collect();
    let (page, sum) = grow(&mut out, &tables, 3, (None, None));
    let root = commit_at(bytes) + 8;
    out[root..root + 8].copy_from_slice(&page.to_le_bytes());
    out[root + 8..root + 24].copy_from_slice(&sum.to_le_bytes());
    // Somebody has it open, and this is a commit after the last, whose pages were synced: redb then finds out itself which pages
    // are free.
    out[9] |= 2;
    let number = commit_at(bytes) + 104;
    let next = u64::from_le_bytes(out[number..number + 8].try_into().unwrap()) + 1;
    out[number..number + 8].copy_from_slice(&next.to_le_bytes());
    seal(&mut out);
    tally(&mut out);
    out
}

/// Writes the tally of a commit that was synced before it was named.
fn tally(bytes: &mut [u8]) {
    let commit = &bytes[commit_at(bytes)..commit_at(bytes) + 128];
    let hash = Hash::of(&[b"attestlog tally\n", &[0; 2][..], commit].concat());
    let at = 512 + 1536 * usize::from(bytes[9] & 1);
    bytes[at..at + 2].fill(0);
    bytes[at + 2..at + 34].copy_from_slice(hash.as_bytes());
}
