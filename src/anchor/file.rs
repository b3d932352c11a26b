//! An anchor that is a file elsewhere: on another disk, a share, or write-once media.
//!
//! Invariants: the file is only ever appended to, one record per write. The record and the file's name are on the disk
//! when [`FileAnchor::submit`](Anchor::submit) returns. A partial record left by a crash stays in place and is ended by
//! a newline, so that the next record begins its own line.

use super::{Anchor, AnchorReceipt, Consistency, Record};
use crate::Result;
use crate::files::{Writes, open_to_append, sync_parent};
use crate::note::SignedCheckpoint;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Keeps checkpoints in a file, which [`read_anchor_file`](super::read_anchor_file) reads. The file is created with
/// mode 0600; an existing file keeps its mode, since shares often force one.
#[derive(Debug, Clone)]
pub struct FileAnchor {
    path: PathBuf,
}

impl FileAnchor {
    /// The anchor file at `path`. The first checkpoint creates it.
    pub fn new(path: impl Into<PathBuf>) -> FileAnchor {
        FileAnchor { path: path.into() }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&self, record: &Record) -> Result<()> {
        let (mut file, created) = open_to_append(&self.path, Writes::Checkpoints)?;
        let mut line = record.to_string();
        if ends_inside_a_line(&mut file)? {
            line.insert(0, '\n');
        }
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        if created {
            sync_parent(&self.path)?;
        }
        Ok(())
    }
}

impl Anchor for FileAnchor {
    fn name(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn submit(&self, signed: &SignedCheckpoint, _: &Consistency<'_>) -> Result<AnchorReceipt> {
        let record = Record { checkpoint: signed.clone(), token: None };
        self.append(&record).map_err(|e| e.in_file(&self.path))?;
        Ok(AnchorReceipt::kept())
    }
}

fn ends_inside_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
