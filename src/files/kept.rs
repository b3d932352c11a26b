//! Which files are kept for stores: the stores, their key files, the files beside them, what anchors and receivers are told. One
//! function decides whether something may be written at a path, and everything that this program writes asks it.
//!
//! Invariant R98: nothing that this program writes is ever written into, or put in the place of, a file that is kept for this
//! store or for another one. A file is known by what it holds, so links of either kind hide nothing; by its name beside a store;
//! and, when it is configured for a store, by being one of that store's own files.

use crate::{Error, ErrorKind, Result};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The first bytes of redb's files.
pub(crate) const STORE_MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// The beginning of every key file's first line.
const KEY_FILE: &[u8] = b"attestlog-key ";
/// The first line of `STORE.anchors` and `STORE.receivers`, by which they are known under any name.
pub const COMPANION_LINE: &str = "# attestlog: read by the program together with the store beside it\n";
/// How an anchor's record and `STORE.verified` begin.
const RECORD: &[u8] = b"{\"checkpoint\":\"";
const VERIFIED: &[u8] = b"{\"found\":";
/// How many bytes tell what a file is.
const HEAD: u64 = 8 << 10;
/// The extensions of the files beside a store, besides `key`.
const COMPANIONS: [&str; 3] = ["anchors", "receivers", "verified"];
/// No file system takes longer names.
const LONGEST_NAME: usize = 255;
/// What is added to a store's name, at most, by what is written beside it (`.receivers.part-PID`, `.purge-ID`).
const ADDED: usize = 32;

/// What somebody is about to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// A store: a new one, a copy, a restored one.
    Store,
    /// A key file, or a copy of one.
    Keys,
    /// One of the files beside a store, under its own name.
    Companion,
    /// Checkpoints, appended by an anchor.
    Checkpoints,
    /// Alerts, appended by a receiver.
    Alerts,
    /// Whatever else somebody asked for: an export, a folder of evidence.
    Output,
}

/// What a file is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Store,
    Keys,
    Companion,
    Checkpoints,
    Alerts,
}

impl Kept {
    fn as_str(self) -> &'static str {
        match self {
            Kept::Store => "is a store",
            Kept::Keys => "is a store's key file, or has the name of one",
            Kept::Companion => "belongs to a store, or has the name of a file that does",
            Kept::Checkpoints => "is a file in which checkpoints are kept",
            Kept::Alerts => "is a file in which alerts are kept",
        }
    }
}

impl Writes {
    /// Whether this may be written to such a file.
    fn fits(self, kept: Kept) -> bool {
        matches!(
            (self, kept),
            (Writes::Keys, Kept::Keys)
                | (Writes::Companion, Kept::Companion)
                | (Writes::Checkpoints, Kept::Checkpoints)
                | (Writes::Alerts, Kept::Alerts)
        )
    }

    fn refuse(self, kept: Option<Kept>) -> Result<()> {
        match kept.filter(|kept| !self.fits(*kept)) {
            Some(kept) => Err(Error::invalid(format!("{}; choose another name", kept.as_str()))),
            None => Ok(()),
        }
    }
}

/// Refuses to write at `path` if that would destroy a file that is kept for a store, or take its place.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput), which says what the file is; errors of the file system.
pub fn check(path: &Path, writes: Writes) -> Result<()> {
    let checked = check_name(path, writes).and_then(|()| writes.refuse(at(path)?));
    checked.map_err(|e| e.in_file(path))
}

/// The same for a path in the configuration of a store that may not exist yet: its own files are refused too, under every name.
///
/// # Errors
/// As [`check`].
pub fn check_beside(path: &Path, writes: Writes, store: &Path, key: &Path) -> Result<()> {
    check(path, writes)?;
    let own = |file: &Path, kept| {
        let same = is_same_file(path, file).then_some(kept);
        writes.refuse(same).map_err(|e| e.in_file(path))
    };
    own(store, Kept::Store)?;
    own(key, Kept::Keys)?;
    own(&beside(store, "key"), Kept::Keys)?;
    COMPANIONS.iter().try_for_each(|name| own(&beside(store, name), Kept::Companion))
}

/// Refuses a name that a file beside a store has, or that is too long for a store with files beside it.
pub(super) fn check_name(path: &Path, writes: Writes) -> Result<()> {
    if writes == Writes::Store && path.file_name().is_some_and(|name| name.len() + ADDED > LONGEST_NAME) {
        let message = format!(
            "the name of a store has at most {} bytes, since the files beside it have longer ones; choose a shorter name",
            LONGEST_NAME - ADDED
        );
        return Err(Error::invalid(message));
    }
    writes.refuse(by_name(path))?;
    // A link, where it leads.
    writes.refuse(std::fs::canonicalize(path).ok().and_then(|real| by_name(&real)))
}

/// Refuses an open file that is kept for something else. It is read from its start.
pub(super) fn check_open(file: &mut File, path: &Path, writes: Writes) -> Result<()> {
    writes.refuse(of(file, path)?)
}

/// What the file at `path` is kept for, if it is a regular one. Links are followed.
fn at(path: &Path) -> io::Result<Option<Kept>> {
    match std::fs::metadata(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
        Ok(about) if about.is_file() => of(&mut File::open(path)?, path),
        Ok(_) => Ok(None),
    }
}

fn of(file: &mut File, path: &Path) -> io::Result<Option<Kept>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(of_head(&head).or_else(|| is_key_file(&beside(path, "key")).then_some(Kept::Store)))
}

fn of_head(head: &[u8]) -> Option<Kept> {
    let begins = |with: &[u8]| head.starts_with(with);
    if begins(STORE_MAGIC) {
        Some(Kept::Store)
    } else if begins(KEY_FILE) {
        Some(Kept::Keys)
    } else if begins(COMPANION_LINE.as_bytes()) || begins(VERIFIED) {
        Some(Kept::Companion)
    } else if begins(RECORD) {
        Some(Kept::Checkpoints)
    } else {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let has = |member: &[u8]| line.windows(member.len()).any(|part| part == member);
        // An alert as it is delivered; no entry's line has these members.
        let is_alert = begins(b"{") && has(b"\"crossing\":") && has(b"\"raised_at\":\"") && has(b"\"severity\":\"");
        is_alert.then_some(Kept::Alerts)
    }
}

/// What a file of this name is kept for, going by what lies beside it.
fn by_name(path: &Path) -> Option<Kept> {
    let extension = path.extension()?.to_str()?;
    let base = path.with_extension("");
    match extension {
        "key" => is_store(&base).then_some(Kept::Keys),
        "sock" => {
            let name = base.file_name()?.to_str()?;
            (name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(Kept::Companion)
        }
        name if COMPANIONS.contains(&name) || name.starts_with("purge-") => is_store(&base).then_some(Kept::Companion),
        name if name.starts_with("part-") => by_name(&base),
        // `.NAME.new` is written before it becomes the key file NAME.
        "new" => {
            let name = base.file_name()?.to_str()?.strip_prefix('.').map(|name| base.with_file_name(name));
            name.filter(|name| is_key_file(name)).map(|_| Kept::Keys).or_else(|| by_name(&base))
        }
        _ => None,
    }
}

fn is_store(path: &Path) -> bool {
    matches!(at(path), Ok(Some(Kept::Store)))
}

fn is_key_file(path: &Path) -> bool {
    let mut head = [0; KEY_FILE.len()];
    let is_file = std::fs::metadata(path).is_ok_and(|about| about.is_file());
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == KEY_FILE
}

/// Whether the file at `path` is one of redb's, such as a store's.
pub(crate) fn is_database(path: &Path) -> bool {
    let mut head = [0; STORE_MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == STORE_MAGIC
}

/// The path of a file beside a store: `STORE.EXTENSION`.
pub fn beside(store: &Path, extension: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

/// The store's file itself, where the last part of `path` is a symbolic link: what lies beside a store is beside its file (R99).
/// Everything that opens a store begins with this. A link that leads nowhere is left as it is.
pub fn resolve(path: &Path) -> PathBuf {
    let mut file = path.to_owned();
    // As many as the system follows.
    for _ in 0..40 {
        match std::fs::read_link(&file) {
            Ok(to) => file = file.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => break,
        }
    }
    if std::fs::symlink_metadata(&file).is_ok_and(|about| !about.is_symlink()) { file } else { path.to_owned() }
}

/// Whether both paths name one file, or would, where there is none yet.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(one), Ok(other)) if cfg!(unix) => is_same(&one, &other),
        (Ok(_), Ok(_)) => matches!((std::fs::canonicalize(a), std::fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b),
        (Err(_), Err(_)) => {
            let place = |path: &Path| {
                let path = std::path::absolute(path).ok()?;
                Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
            };
            place(a).is_some_and(|place_of_a| place(b) == Some(place_of_a))
        }
        _ => false,
    }
}

/// Whether both are of one file.
#[cfg(unix)]
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// On other systems an open file cannot be replaced, and what is not open is known by its path alone.
#[cfg(not(unix))]
pub(crate) fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// Refuses a store whose file has two names: the files beside it are found by its name, so whoever opens it by the other one has
/// no anchors, no receivers and no findings (R99).
#[cfg(unix)]
pub(crate) fn check_only_name(about: &Metadata, path: &Path) -> Result<()> {
    match std::os::unix::fs::MetadataExt::nlink(about) {
        0 | 1 => Ok(()),
        names => {
            let message = format!(
                "the store's file has {names} names (hard links), and its key file, anchors, receivers and findings lie beside one of \
                 them only, so nothing is recorded: remove the others (`find . -samefile {}` shows them)",
                path.display()
            );
            Err(Error::new(ErrorKind::Conflict, message).in_file(path))
        }
    }
}

/// On other systems links are not counted.
#[cfg(not(unix))]
pub(crate) fn check_only_name(_: &Metadata, _: &Path) -> Result<()> {
    Ok(())
}
