//! How redb's errors become the caller's.

use crate::{Error, ErrorKind, Result};

/// The message where the file's lock is held. A socket is found by the store's path, so one that another path led to is not.
pub(crate) const IN_USE: &str = "another process has the store open; wait for it, or go through it. If it opened the file by another path (a \
                                 read-only mount, a bind mount, a hard link), it cannot be reached from here: use its path, or end it";

/// Converts redb's errors to the caller's.
pub(crate) trait Stored<T> {
    /// Converts redb's error.
    fn stored(self) -> Result<T>;
}

impl<T, E: Into<redb::Error>> Stored<T> for std::result::Result<T, E> {
    fn stored(self) -> Result<T> {
        self.map_err(|e| from_redb(e.into()))
    }
}

pub(crate) fn from_redb(e: redb::Error) -> Error {
    let (kind, message) = match &e {
        redb::Error::Io(io) => return io_error(io).with_source(e),
        redb::Error::DatabaseAlreadyOpen => (ErrorKind::Locked, IN_USE.to_owned()),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            (ErrorKind::Closed, "an earlier write failed; open the store again".to_owned())
        }
        redb::Error::Corrupted(what) => (ErrorKind::Damaged, format!("the file is damaged: {what}; restore a backup")),
        redb::Error::UpgradeRequired(version) => {
            (ErrorKind::NewerFormat, format!("the file has format {version} of redb, which this program cannot read"))
        }
        redb::Error::TableDoesNotExist(table) => {
            (ErrorKind::NotAStore, format!("the file is not an attestlog store: it has no table {table:?}"))
        }
        redb::Error::TableTypeMismatch { table, .. } | redb::Error::TableIsMultimap(table) => {
            (ErrorKind::NotAStore, format!("the file is not an attestlog store: its table {table:?} has other types"))
        }
        other => (ErrorKind::Damaged, format!("the store could not be used: {other}")),
    };
    Error::new(kind, message).with_source(e)
}

fn io_error(io: &std::io::Error) -> Error {
    if let Some(ours) = io.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        return Error::new(ours.kind(), ours.to_string());
    }
    let translated = Error::from(std::io::Error::from(io.kind()));
    match translated.kind() {
        ErrorKind::DiskFull => Error::new(ErrorKind::DiskFull, "the disk is full; make room"),
        // redb reports a foreign file as invalid data.
        _ if io.kind() == std::io::ErrorKind::InvalidData => {
            Error::new(ErrorKind::NotAStore, "the file is not an attestlog store")
        }
        _ if io.kind() == std::io::ErrorKind::UnexpectedEof => Error::damaged("the file is shorter than it says"),
        kind => Error::new(kind, format!("the store's file: {io}")),
    }
}
