//! A new folder that appears under its name only when it is finished.

use super::{Writes, beside, check, create, put_in_place, sync_parent};
use crate::{Error, ErrorKind, Result};
use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A folder that is being written, under another name until it is [finished](NewFolder::put_in_place). It is removed if it is dropped
/// before. Only its owner may read it.
#[derive(Debug)]
pub struct NewFolder {
    path: PathBuf,
    dest: PathBuf,
    /// What to remove if it is not finished: files, then folders from the inside out.
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    finished: bool,
}

impl NewFolder {
    /// Begins a folder for `dest`, where nothing may be.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists); as [`check`]; the error of the file system.
    ///
    /// ```
    /// # let parent = tempfile::tempdir()?;
    /// # let dest = parent.path().join("folder");
    /// let mut folder = attestlog::files::NewFolder::new(&dest)?;
    /// folder.folder("proofs")?;
    /// folder.write("proofs/one", |out| Ok(out.write_all(b"1")?))?;
    /// assert!(!dest.exists());
    /// folder.put_in_place()?;
    /// assert_eq!(std::fs::read(dest.join("proofs/one"))?, b"1");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn new(dest: &Path) -> Result<NewFolder> {
        check(dest, Writes::Output)?;
        free(dest)?;
        let path = beside(dest, &format!("part-{}", std::process::id()));
        make(&path)?;
        let folders = vec![path.clone()];
        Ok(NewFolder { path, dest: dest.to_owned(), files: Vec::new(), folders, finished: false })
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn folder(&mut self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        make(&path)?;
        self.folders.push(path);
        Ok(())
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// As [`create`]; those of `write`.
    pub fn write(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let path = self.path.join(name);
        let mut out = BufWriter::with_capacity(1 << 16, create(&path, Writes::Output)?);
        self.files.push(path);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(())
    }

    /// Gives the finished folder its name.
    ///
    /// # Errors
    /// As [`NewFolder::new`].
    pub fn put_in_place(mut self) -> Result<()> {
        if cfg!(unix) {
            for folder in self.folders.iter().rev() {
                File::open(folder)?.sync_all()?;
            }
        }
        free(&self.dest)?;
        put_in_place(&self.path, &self.dest, Writes::Output)?;
        self.finished = true;
        sync_parent(&self.dest).map_err(|e| Error::from(e).in_file(&self.dest))
    }
}

fn make(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| Error::from(e).in_file(path))
}

/// Refuses a place where anything is.
fn free(dest: &Path) -> Result<()> {
    match std::fs::symlink_metadata(dest) {
        Ok(_) => {
            let message = "something exists there already; this goes into a new folder";
            Err(Error::new(ErrorKind::AlreadyExists, message).in_file(dest))
        }
        Err(_) => Ok(()),
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.finished {
            for file in &self.files {
                let _ = std::fs::remove_file(file);
            }
            for folder in self.folders.iter().rev() {
                let _ = std::fs::remove_dir(folder);
            }
        }
    }
}
