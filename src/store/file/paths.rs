//! Paths: whether a path still names the file that was opened, and creating private files.

use crate::files::Writes;
use crate::{Error, ErrorKind, Result};
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Creates a file for a store, or for what replaces one.
pub(crate) fn new_private_file(path: &Path, writes: Writes) -> Result<File> {
    crate::files::create(path, writes).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => taken(path),
        _ => e,
    })
}

/// The error of making a store where something is.
pub(crate) fn taken(path: &Path) -> Error {
    let message =
        "something exists there already; a store is never made over it. Use it as it is, or choose another name";
    Error::new(ErrorKind::AlreadyExists, message).in_file(path)
}

/// Fails if `path` no longer names `file`: what would be written is lost with the last process that has the file open, and
/// answers would not come from the file at the path.
pub(crate) fn check_named(path: &Path, file: &Metadata) -> Result<()> {
    let now = match std::fs::metadata(path) {
        Ok(there) if crate::files::is_same(file, &there) => return Ok(()),
        Ok(_) => "another file lies there now",
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            "nothing lies there now"
        }
        Err(e) => return Err(Error::from(e).in_file(path)),
    };
    let message = format!(
        "the store's file was removed or renamed while it was open, and {now}: put it back, or end the process that has it open and start it with the store that you mean; until then nothing is recorded or answered"
    );
    Err(Error::new(ErrorKind::Io, message).in_file(path))
}

/// The error for a file that cannot be opened for writing.
pub(crate) fn unwritable(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            let message = format!(
                "cannot be written to ({e}); commands that only read work on it as it is; for anything else copy it to a place where it can be written"
            );
            Error::new(ErrorKind::Io, message).in_file(path).with_source(e)
        }
        _ => Error::from(e).in_file(path),
    }
}
