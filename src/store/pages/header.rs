//! The first page of the file: how it is laid out, and the commit that counts.

use super::PAGE;
use super::page::{Root, little};
use redb::StorageBackend;
use std::io;
use twox_hash::XxHash3_128;

pub(crate) const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
pub(crate) const HEADER_BYTES: usize = 320;
/// Bit 0: which of the two commits counts; bit 2: nothing was left to check when it was made.
pub(crate) const FLAGS: usize = 9;
pub(crate) const COMMITS: usize = 64;
pub(crate) const COMMIT_BYTES: usize = 128;
/// Of a commit: whether it has tables of the user's, whether it has redb's own; the checksum over what is before it.
pub(crate) const USER: usize = 1;
pub(crate) const OWN: usize = 2;
pub(crate) const CHECKSUM: usize = 112;

const PAGE_SIZE: usize = 12;
/// How many pages each region has before its first page of data, and how many of these.
const REGION_HEADER: usize = 16;
const REGION_PAGES: usize = 20;
/// Of a commit: the version of the format, and where the tree of the user's tables is.
const VERSION: usize = 0;
const USER_ROOT: usize = 8;
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

/// The commit that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) layout: Layout,
    /// The tree of tables; there is none while the file has no table.
    pub(crate) root: Option<Root>,
    /// What is wrong with the header. Nothing below it is looked at then.
    pub(crate) flaw: Option<&'static str>,
}

impl Commit {
    /// Reads it, while nobody commits.
    ///
    /// # Errors
    /// What the storage says, where it cannot be read.
    pub(crate) fn read(bytes: &dyn StorageBackend) -> io::Result<Commit> {
        let length = bytes.len()?;
        let mut header = [0; HEADER_BYTES];
        bytes.read(0, &mut header)?;
        Ok(Commit::parse(&header, length))
    }

    pub(crate) fn parse(header: &[u8; HEADER_BYTES], length: u64) -> Commit {
        let number = |at: usize| little(header, at, 4);
        let layout = Layout { before: number(REGION_HEADER), pages: number(REGION_PAGES), length };
        let at = COMMITS + usize::from(header[FLAGS] & 1) * COMMIT_BYTES;
        let mut commit = [0; COMMIT_BYTES];
        commit.copy_from_slice(&header[at..at + COMMIT_BYTES]);
        let flaw = if !header.starts_with(MAGIC) {
            Some("the file does not begin as redb's files do")
        } else if commit[VERSION] != FORMAT {
            Some("the last commit is in a version of redb's format that this program does not know")
        } else if commit[CHECKSUM..] != checksum(&commit) {
            Some("the last commit does not have the checksum that it says")
        } else if number(PAGE_SIZE) != PAGE {
            Some("its pages have another size than this program writes")
        } else if layout.before > MOST_PAGES || !(1..=MOST_PAGES).contains(&layout.pages) {
            Some("its regions have a size that redb does not make")
        } else {
            None
        };
        let root = (flaw.is_none() && commit[USER] != 0).then(|| Root::read(&commit, USER_ROOT)).flatten();
        Commit { layout, root, flaw }
    }
}
