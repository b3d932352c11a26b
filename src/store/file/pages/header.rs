//! The first page of the file: the file's layout, and its two commits.

use super::PAGE;
use super::page::{Root, little};
use super::tally::{self, Written};
use crate::files::STORE_MAGIC;
use redb::StorageBackend;
use std::io;
use std::ops::Range;
#[cfg(feature = "owner")]
use std::path::Path;
use twox_hash::XxHash3_128;

pub(crate) const HEADER_BYTES: usize = 320;
/// Bits: which of the two commits is current, whether the file is open, and whether the commit was synced before the header
/// named it.
pub(crate) const FLAGS: usize = 9;
pub(crate) const PRIMARY: u8 = 1;
pub(crate) const IS_OPEN: u8 = 2;
const TWO_PHASE: u8 = 4;
pub(crate) const COMMITS: usize = 64;
pub(crate) const COMMIT_BYTES: usize = 128;
/// Offsets in a commit: whether it has user tables, whether it has redb's own; the checksum over everything before it.
const USER: usize = 1;
const OWN: usize = 2;
pub(crate) const CHECKSUM: usize = 112;

const PAGE_SIZE: usize = 12;
/// Offsets: the number of pages in each region before its first data page, and the number of data pages.
const REGION_HEADER: usize = 16;
const REGION_PAGES: usize = 20;
/// Offsets: the number of full regions, and of data pages in the last one. redb keeps these correct only in files that were
/// closed.
const FULL_REGIONS: usize = 24;
const LAST_PAGES: usize = 28;
/// Offsets in a commit: format version, root of the tree of user tables, root of the tree of redb's own, and transaction
/// number.
const VERSION: usize = 0;
pub(crate) const USER_ROOT: usize = 8;
pub(crate) const OWN_ROOT: usize = 40;
const TRANSACTION: usize = 104;
const FORMAT: u8 = 3;

/// Maximum number of pages in a region.
const MOST_PAGES: u64 = 1 << 20;

/// The checksum of a commit: 128-bit XXH3 over the commit's bytes before it.
pub(crate) fn checksum(commit: &[u8; COMMIT_BYTES]) -> [u8; 16] {
    XxHash3_128::oneshot(&commit[..CHECKSUM]).to_le_bytes()
}

/// Whether the file at `path` was not closed since it was opened for writing: another process has it open, or ended without closing
/// it, and opening it takes longer. `false` also for what is no store.
#[cfg(feature = "owner")]
pub(crate) fn was_left_open(path: &Path) -> bool {
    let mut head = [0; FLAGS + 1];
    let read = std::fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && head.starts_with(STORE_MAGIC) && head[FLAGS] & IS_OPEN != 0
}

/// The layout of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many pages of a region come before its data pages.
    pub before: u64,
    pub pages: u64,
    /// The length of the file.
    pub length: u64,
}

impl Layout {
    /// The length of a file with this many full regions and data pages in the last one.
    fn told(&self, full: u64, last: u64) -> u64 {
        let last = if last == 0 { 0 } else { self.before + last };
        PAGE.saturating_mul(1 + last + full.saturating_mul(self.before + self.pages))
    }

    /// The first data page of a region, counted from the start of the file.
    pub fn start_of(&self, region: u64) -> u64 {
        1 + region * (self.before + self.pages) + self.before
    }

    /// The bytes of a region's data pages from the page `known` on, as far as they lie within the file.
    pub fn added(&self, region: u64, known: u64) -> Option<Range<u64>> {
        let start = self.start_of(region);
        let end = start + (self.length / PAGE).saturating_sub(start).min(self.pages);
        (start + known < end).then(|| PAGE * (start + known)..PAGE * end)
    }
}

/// A commit: the roots of its trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) layout: Layout,
    /// The transaction number that redb gave it; it rises with each commit.
    pub(crate) transaction: u64,
    /// Whether it was synced before the header named it. For other commits redb determines the free pages itself.
    pub(crate) two_phase: bool,
    /// The tree of tables; `None` while the file has no table.
    pub(crate) root: Option<Root>,
    /// The tree of redb's own tables.
    pub(crate) own: Option<Root>,
    /// What is wrong with it or with the header; if set, nothing below it is examined.
    pub(crate) flaw: Option<&'static str>,
}

impl Commit {
    /// Reads the current commit. Only while nobody commits.
    ///
    /// # Errors
    /// I/O errors of the storage.
    pub(crate) fn read(bytes: &dyn StorageBackend) -> io::Result<Commit> {
        Ok(Header::read(bytes)?.primary)
    }

    fn parse(header: &[u8; HEADER_BYTES], slot: usize, layout: Layout, flaw: Option<&'static str>) -> Commit {
        let at = COMMITS + slot * COMMIT_BYTES;
        let mut commit = [0; COMMIT_BYTES];
        commit.copy_from_slice(&header[at..at + COMMIT_BYTES]);
        let flaw = flaw.or(match () {
            () if commit[VERSION] != FORMAT => {
                Some("a commit is in a version of redb's format that this program does not know")
            }
            () if commit[CHECKSUM..] != checksum(&commit) => Some("the commit does not have the checksum that it says"),
            () => None,
        });
        let root =
            |there: usize, at: usize| (flaw.is_none() && commit[there] != 0).then(|| Root::read(&commit, at)).flatten();
        let transaction = little(&commit, TRANSACTION, 8);
        let two_phase = header[FLAGS] & TWO_PHASE != 0;
        Commit { layout, transaction, two_phase, root: root(USER, USER_ROOT), own: root(OWN, OWN_ROOT), flaw }
    }
}

/// The whole header, as redb reads it when it opens the file.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// The commit that the header names.
    pub(crate) primary: Commit,
    /// The previous commit, or one that was not finished.
    pub(crate) secondary: Commit,
    /// Whether the named commit was synced before the header named it; redb then never takes the other one.
    pub(crate) two_phase: bool,
    /// Whether this is a redb header at all, however damaged.
    pub(crate) is_redb: bool,
    /// Whether the file was not closed since it was opened for writing.
    is_open: bool,
    /// Which of the two is the primary.
    pub(crate) named: usize,
    /// Whether neither of the two commits is known to be whole.
    torn: bool,
    /// What the primary wrote with a single sync, if its tally says so.
    pub(crate) written: Option<Written>,
}

impl Header {
    pub(crate) fn read(bytes: &dyn StorageBackend) -> io::Result<Header> {
        let length = bytes.len()?;
        let mut header = [0; HEADER_BYTES];
        bytes.read(0, &mut header)?;
        Ok(Header::parse(&header, length))
    }

    /// The header as this program has redb open the file: if it was not closed, the primary is the newest commit that is there as its
    /// tally says, or the one before it [R121].
    ///
    /// # Errors
    /// I/O errors of the storage.
    pub(crate) fn settled(bytes: &dyn StorageBackend) -> io::Result<Header> {
        let length = bytes.len()?;
        let mut raw = [0; HEADER_BYTES];
        bytes.read(0, &mut raw)?;
        let mut header = Header::parse(&raw, length);
        if !header.is_open || (header.primary.flaw.is_some() && header.secondary.flaw.is_some()) {
            return Ok(header);
        }
        if header.primary.flaw.is_some() || header.is_behind() {
            header.swap();
        }
        match tally::check(bytes, header.named, tally::commit(&raw, header.named))? {
            Some(written) => header.written = Some(written),
            None if header.secondary.flaw.is_none() => header.swap(),
            None => header.torn = true,
        }
        header.two_phase = true;
        (header.primary.two_phase, header.secondary.two_phase) = (true, true);
        Ok(header)
    }

    fn swap(&mut self) {
        std::mem::swap(&mut self.primary, &mut self.secondary);
        self.named ^= 1;
    }

    /// The flags with which redb takes the primary, if the file was not closed.
    pub(crate) fn flags(&self) -> Option<u8> {
        self.is_open.then_some(IS_OPEN | TWO_PHASE | self.named as u8)
    }

    pub(crate) fn parse(header: &[u8; HEADER_BYTES], length: u64) -> Header {
        let number = |at: usize| little(header, at, 4);
        let layout = Layout { before: number(REGION_HEADER), pages: number(REGION_PAGES), length };
        let is_open = header[FLAGS] & IS_OPEN != 0;
        let flaw = if !header.starts_with(STORE_MAGIC) {
            Some("the file does not begin as redb's files do")
        } else if number(PAGE_SIZE) != PAGE {
            Some("its pages have another size than this program writes")
        } else if layout.before > MOST_PAGES || !(1..=MOST_PAGES).contains(&layout.pages) {
            Some("its regions have a size that redb does not make")
        } else if !is_open && layout.told(number(FULL_REGIONS), number(LAST_PAGES)) > length {
            Some("the file was closed and is shorter than it says")
        } else if !is_open && !length.is_multiple_of(PAGE) {
            Some("the file was closed and ends in the middle of a page")
        } else {
            None
        };
        let slot = |slot| Commit::parse(header, slot, layout, flaw);
        let is_redb =
            header.starts_with(STORE_MAGIC) || (0..2).any(|n| Commit::parse(header, n, layout, None).flaw.is_none());
        let named = usize::from(header[FLAGS] & PRIMARY);
        let two_phase = header[FLAGS] & TWO_PHASE != 0;
        let (primary, secondary) = (slot(named), slot(named ^ 1));
        Header { primary, secondary, two_phase, is_redb, is_open, named, torn: false, written: None }
    }

    /// Whether the commit that the header does not name is valid and newer than the one that it names.
    pub(crate) fn is_behind(&self) -> bool {
        self.secondary.flaw.is_none() && self.secondary.transaction > self.primary.transaction
    }

    /// The commit that redb takes: the named one if it was synced before it was named, otherwise the newest valid one.
    pub(crate) fn taken(&self) -> &Commit {
        let other =
            !self.two_phase && (self.primary.flaw.is_some() && self.secondary.flaw.is_none() || self.is_behind());
        if other { &self.secondary } else { &self.primary }
    }

    /// The commit that redb does not take.
    pub(crate) fn other(&self) -> &Commit {
        if std::ptr::eq(self.taken(), &self.primary) { &self.secondary } else { &self.primary }
    }

    /// The flaw that concerns both commits: one has an unknown format version, with which redb does not open the file, or the newer
    /// is not as it was written, and there is no other.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        if self.torn {
            return Some("the last commit is not there as it was written, and the one before it cannot be read");
        }
        self.secondary.flaw.or(self.primary.flaw).filter(|flaw| flaw.contains("version"))
    }

    /// Whether the file holds a commit that is newer than the current one, has other rows, and is not current, or if it was not
    /// closed one that cannot be read [R59]. That is the state after a crash in the middle of a commit, which was never acknowledged,
    /// and after somebody has reverted the last commit of a file that was not closed. When redb closes or repairs a file, it makes a
    /// commit with the same rows.
    pub(crate) fn is_unfinished(&self) -> bool {
        let newer = self.is_behind() && self.primary.root != self.secondary.root;
        let torn = self.is_open && self.secondary.flaw.is_some();
        self.two_phase && self.primary.flaw.is_none() && (newer || torn)
    }
}
