//! Paths: whether a path still names the file that was opened, and creating private files.

use crate::{Error, ErrorKind, Result};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a file that only its owner may read. Never follows or replaces an existing file or symbolic link.
pub(crate) fn new_private_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, "something exists there already; a store is never made over it")
                .in_file(path)
        }
        _ => Error::from(e).in_file(path),
    })
}

/// Fails if `path` no longer names `file`: what would be written is lost with the last process that has the file open, and
/// answers would not come from the file at the path.
pub(crate) fn check_named(path: &Path, file: &Metadata) -> Result<()> {
    let now = match std::fs::metadata(path) {
        Ok(there) if is_same(file, &there) => return Ok(()),
        Ok(_) => "another file lies there now",
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            "nothing lies there now"
        }
        Err(e) => return Err(Error::from(e).in_file(path)),
    };
    let message = format!(
        "the store's file was removed or renamed while it was open, and {now}: put it back, or end what has it open and \
         start it with the store that is meant; until then nothing is recorded and nothing answered"
    );
    Err(Error::new(ErrorKind::Io, message).in_file(path))
}

/// The error for a file that cannot be opened for writing.
pub(crate) fn unwritable(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            let message = format!(
                "cannot be written to ({e}); what only reads works on it as it is, for anything else copy it to where it can"
            );
            Error::new(ErrorKind::Io, message).in_file(path).with_source(e)
        }
        _ => Error::from(e).in_file(path),
    }
}

#[cfg(unix)]
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// On other systems an open file cannot be replaced.
#[cfg(not(unix))]
pub(crate) fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}
