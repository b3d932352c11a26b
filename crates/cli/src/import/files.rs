//! The files that an import reads: those that were named, and those in the folders that were named.
//!
//! Symbolic links in a folder are not followed: a link may lead out of it, or back into it. Of the files in a folder only those are
//! read whose names say that they may be sessions, transcripts or traces.

use super::opencode_db;
use crate::context::Context;
use crate::exit::Failure;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Endings of the names of files in a folder that are read.
const ENDINGS: &[&str] = &["json", "jsonl", "ndjson", "traj", "eval", "otlp", "pb", "binpb"];
const PACKED: &[&str] = &["gz", "zst", "zstd"];
/// Folders nested deeper are not looked into.
const DEEPEST: usize = 64;

/// A file to be read.
#[derive(Debug, Clone)]
pub struct Found {
    pub path: PathBuf,
    /// Whether it was found in a folder, and not named itself.
    pub in_folder: bool,
}

/// All files in `named`, in the order given, those of a folder by name; and what could not be looked into.
pub fn find(named: &[PathBuf]) -> (Vec<Found>, Vec<(PathBuf, String)>) {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for path in named {
        match path.as_os_str() != "-" && path.is_dir() {
            true => walk(path, 0, &mut found, &mut unread),
            false => found.push(Found { path: path.clone(), in_folder: false }),
        }
    }
    (found, unread)
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<Found>, unread: &mut Vec<(PathBuf, String)>) {
    if depth > DEEPEST {
        unread.push((dir.to_owned(), format!("{}: folders are nested deeper than {DEEPEST}", dir.display())));
        return;
    }
    let mut entries: Vec<fs::DirEntry> = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().collect(),
        Err(e) => {
            unread.push((dir.to_owned(), format!("{}: {e}", dir.display())));
            return;
        }
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // The kind of the entry itself: that of a link is a link.
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() {
            walk(&path, depth + 1, found, unread);
        } else if kind.is_file() && is_session(&path) {
            found.push(Found { path, in_folder: true });
        }
    }
}

/// Whether the name of a file says that it may be read.
fn is_session(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    let bare = PACKED.iter().find_map(|end| name.strip_suffix(&format!(".{end}"))).unwrap_or(&name);
    // What Claude Code writes beside the session of a sub-agent is read with it.
    if name == "opencode.db" {
        return true;
    }
    let is_ending = ENDINGS.iter().any(|end| bare.strip_suffix(end).is_some_and(|stem| stem.ends_with('.')));
    is_ending && !bare.ends_with(".meta.json")
}

/// Whether its name says that a file consists of lines.
pub fn has_lines(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "jsonl" || end == "ndjson")
}

impl Found {
    /// Its name in messages.
    pub fn name(&self) -> String {
        match self.path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => self.path.display().to_string(),
        }
    }

    /// Its bytes, up to `limit`.
    pub fn read(&self, cx: &Context, limit: usize) -> Result<Vec<u8>, Failure> {
        // A database may be larger than its sessions, and a process may be writing to it.
        if self.is_database() {
            return opencode_db::read(&self.path, limit);
        }
        cx.source_whole(&self.path)?.read_all(limit as u64)
    }

    /// The file, so that it can be read though its name is gone; `None` for a database, which is more than one file.
    pub fn open(&self) -> Option<fs::File> {
        let is_file = fs::metadata(&self.path).is_ok_and(|about| about.is_file());
        if is_file && !self.is_database() { fs::File::open(&self.path).ok() } else { None }
    }

    /// As [`has_lines`].
    pub fn has_lines(&self) -> bool {
        has_lines(&self.path)
    }

    fn is_database(&self) -> bool {
        let is_file = fs::metadata(&self.path).is_ok_and(|about| about.is_file());
        let mut begin = [0; 16];
        let mut read = || fs::File::open(&self.path)?.read_exact(&mut begin);
        is_file && self.path.as_os_str() != "-" && read().is_ok() && opencode_db::is_database(&begin)
    }

    /// What stands in the file beside it: `agent-1.meta.json` beside `agent-1.jsonl`.
    pub fn beside(&self) -> Option<Vec<u8>> {
        const MOST: u64 = 1 << 20;
        let meta = self.path.with_extension("meta.json");
        let is_small = fs::symlink_metadata(&meta).is_ok_and(|about| about.is_file() && about.len() <= MOST);
        if is_small && self.path.extension().is_some_and(|end| end == "jsonl") { fs::read(meta).ok() } else { None }
    }
}
