//! The first page of the file: how it is laid out, and its two commits.

use super::PAGE;
use super::page::{Root, little};
use redb::StorageBackend;
use std::io;
use twox_hash::XxHash3_128;

pub(crate) const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
pub(crate) const HEADER_BYTES: usize = 320;
/// Which of the two commits counts, whether the file is open, and whether that commit was synced before it was named.
pub(crate) const FLAGS: usize = 9;
pub(crate) const PRIMARY: u8 = 1;
const IS_OPEN: u8 = 2;
const TWO_PHASE: u8 = 4;
pub(crate) const COMMITS: usize = 64;
pub(crate) const COMMIT_BYTES: usize = 128;
/// Of a commit: whether it has tables of the user's, whether it has redb's own; the checksum over what is before it.
const USER: usize = 1;
const OWN: usize = 2;
pub(crate) const CHECKSUM: usize = 112;

const PAGE_SIZE: usize = 12;
/// How many pages each region has before its first page of data, and how many of these.
const REGION_HEADER: usize = 16;
const REGION_PAGES: usize = 20;
/// How many regions are full, and how many pages of data the last one has. redb keeps this right in files that were closed.
const FULL_REGIONS: usize = 24;
const LAST_PAGES: usize = 28;
/// Of a commit: the version of the format, where the tree of the user's tables is and that of redb's own, and its number.
const VERSION: usize = 0;
pub(crate) const USER_ROOT: usize = 8;
pub(crate) const OWN_ROOT: usize = 40;
const TRANSACTION: usize = 104;
const FORMAT: u8 = 3;

/// At most how many pages a region has.
const MOST_PAGES: u64 = 1 << 20;

/// The checksum of a commit: XXH3 of 128 bits over what a commit has before it.
pub(crate) fn checksum(commit: &[u8; COMMIT_BYTES]) -> [u8; 16] {
    XxHash3_128::oneshot(&commit[..CHECKSUM]).to_le_bytes()
}

/// How the file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many pages of a region lie before its data.
    pub before: u64,
    pub pages: u64,
    /// How long the file is.
    pub length: u64,
}

impl Layout {
    /// How long a file is with so many full regions and so many pages of data in the last one.
    fn told(&self, full: u64, last: u64) -> u64 {
        let last = if last == 0 { 0 } else { self.before + last };
        PAGE.saturating_mul(1 + last + full.saturating_mul(self.before + self.pages))
    }

    /// How many pages of data a region has room for in the file; none where it begins behind its end.
    pub fn pages_of(&self, region: u64) -> u64 {
        let before = 1 + region * (self.before + self.pages) + self.before;
        (self.length / PAGE).saturating_sub(before).min(self.pages)
    }
}

/// A commit: where its trees begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) layout: Layout,
    /// The number that redb gave it: each has a higher one than those before.
    pub(crate) transaction: u64,
    /// Whether it was synced before the header named it. Of others redb finds out itself which pages are free.
    pub(crate) two_phase: bool,
    /// The tree of tables; there is none while the file has no table.
    pub(crate) root: Option<Root>,
    /// The tree of redb's own tables.
    pub(crate) own: Option<Root>,
    /// What is wrong with it or with the header. Nothing below it is looked at then.
    pub(crate) flaw: Option<&'static str>,
}

impl Commit {
    /// Reads the one that counts, while nobody commits.
    ///
    /// # Errors
    /// What the storage says, where it cannot be read.
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
    /// The one before it, or one that was not finished.
    pub(crate) secondary: Commit,
    /// Whether the commit that is named was synced before it was named, so that no other is ever taken.
    pub(crate) two_phase: bool,
    /// Whether it is a header of redb's at all, damaged as it may be.
    pub(crate) is_redb: bool,
}

impl Header {
    pub(crate) fn read(bytes: &dyn StorageBackend) -> io::Result<Header> {
        let length = bytes.len()?;
        let mut header = [0; HEADER_BYTES];
        bytes.read(0, &mut header)?;
        Ok(Header::parse(&header, length))
    }

    pub(crate) fn parse(header: &[u8; HEADER_BYTES], length: u64) -> Header {
        let number = |at: usize| little(header, at, 4);
        let layout = Layout { before: number(REGION_HEADER), pages: number(REGION_PAGES), length };
        let is_open = header[FLAGS] & IS_OPEN != 0;
        let flaw = if !header.starts_with(MAGIC) {
            Some("the file does not begin as redb's files do")
        } else if number(PAGE_SIZE) != PAGE {
            Some("its pages have another size than this program writes")
        } else if layout.before > MOST_PAGES || !(1..=MOST_PAGES).contains(&layout.pages) {
            Some("its regions have a size that redb does not make")
        } else if !is_open && layout.told(number(FULL_REGIONS), number(LAST_PAGES)) != length {
            Some("the file was closed and is longer or shorter than it says")
        } else {
            None
        };
        let slot = |slot| Commit::parse(header, slot, layout, flaw);
        let is_redb =
            header.starts_with(MAGIC) || (0..2).any(|n| Commit::parse(header, n, layout, None).flaw.is_none());
        let named = usize::from(header[FLAGS] & PRIMARY);
        let two_phase = header[FLAGS] & TWO_PHASE != 0;
        Header { primary: slot(named), secondary: slot(named ^ 1), two_phase, is_redb }
    }

    /// Whether the commit that the header does not name is whole and newer than the one that it names.
    pub(crate) fn is_behind(&self) -> bool {
        self.secondary.flaw.is_none() && self.secondary.transaction > self.primary.transaction
    }

    /// The commit that redb takes: the one that is named if it was synced before that, otherwise the newest that is whole.
    pub(crate) fn taken(&self) -> &Commit {
        let other =
            !self.two_phase && (self.primary.flaw.is_some() && self.secondary.flaw.is_none() || self.is_behind());
        if other { &self.secondary } else { &self.primary }
    }

    /// The commit that redb does not take.
    pub(crate) fn other(&self) -> &Commit {
        if std::ptr::eq(self.taken(), &self.primary) { &self.secondary } else { &self.primary }
    }

    /// What is wrong with it besides the commit that counts: redb does not open a file of which either commit has another version.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        self.secondary.flaw.or(self.primary.flaw).filter(|flaw| flaw.contains("version"))
    }

    /// Whether the file holds a commit that is whole, newer than the one that counts and with other rows, and does not count [R59]. It is
    /// so after a crash between the two syncs of a commit, of which nobody was told, and where somebody takes back the last commit of
    /// a file that was not closed. As redb closes a file, and as it repairs one, it makes a commit with the same rows.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.two_phase && self.primary.flaw.is_none() && self.is_behind() && self.primary.root != self.secondary.root
    }
}
