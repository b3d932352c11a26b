//! The public error: its kind tells the caller what to do; the message and the source chain carry the detail.

use std::fmt;

/// The result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, grouped by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is invalid; the message says where. Fix the input.
    InvalidInput,
    /// The input is larger than a limit; nothing of it was recorded. Send less or raise the limit.
    TooLarge,
    /// There is no store at that path. Create it, or fix the path.
    NotFound,
    /// Something already exists where a new store, key or anchor would go. Choose another path.
    AlreadyExists,
    /// The file is not an attestlog store. Fix the path.
    NotAStore,
    /// The store was written by a newer version. Upgrade the program.
    NewerFormat,
    /// Another process has the store open. Wait, or go through that process.
    Locked,
    /// The data on disk is inconsistent. Restore a backup; `verify` says what is wrong.
    Damaged,
    /// No room on the disk; nothing was recorded. Make room and retry.
    DiskFull,
    /// The operating system reported an error; the message carries its reason.
    Io,
    /// The key file is missing, unreadable or belongs to another store. Put the right one back.
    Key,
    /// The queue is full, or the call would have to wait for its answer. Retry later.
    Busy,
    /// This handle was closed, or it was opened by the parent process before a fork, or a write failed half-way and the store
    /// must be reopened.
    Closed,
    /// The request contradicts what is recorded (a number used twice, a policy that would shorten retention).
    Conflict,
    /// The store is not the history that its key file has signed: it is an older copy, or another history was put in its
    /// place. Put the right one back, or restore this one; the log records the restore.
    OtherHistory,
    /// Expiry is frozen until somebody confirms the clock.
    ClockFrozen,
    /// Nothing with that name or number is recorded.
    NoSuchEntry,
    /// The store is open for reading only. Open it for writing.
    ReadOnly,
}

/// An error: what to do about it ([`Error::kind`]), what happened and where (its text), and why (its source).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    seq: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind with a message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), seq: None, source: None }
    }

    /// Adds the error that caused this one.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// Puts `place` in front of the message, so that a caller further up can say where it happened.
    pub fn at(mut self, place: impl fmt::Display) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Names the entry that the error is about.
    pub fn about(mut self, seq: u64) -> Error {
        self.seq = Some(seq);
        self
    }

    /// The seq of an entry that was read and is not the one that was recorded; `None` for other errors.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// [`ErrorKind::InvalidInput`] with this message.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::Damaged`] with this message.
    pub fn damaged(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Damaged, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Error {
        let kind = match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            _ => ErrorKind::Io,
        };
        Error::new(kind, e.to_string()).with_source(e)
    }
}
