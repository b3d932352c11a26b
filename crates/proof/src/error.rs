//! One public error: what the caller can do about it outside, the detail in the message and the source chain.

use std::fmt;

/// What the library returns wherever something can go wrong.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is not what it must be; the message names the place. Fix the input.
    InvalidInput,
    /// The input is larger than a limit; nothing of it was recorded. Send less or raise the limit.
    TooLarge,
    /// There is no store at that path. Create it, or fix the path.
    NotFound,
    /// Something stands where a new store, key or anchor would go. Choose another path.
    AlreadyExists,
    /// The file is not an attestlog store. Fix the path.
    NotAStore,
    /// The store was written by a newer version. Upgrade the program.
    NewerFormat,
    /// Another process has the store open. Wait, or go through that process.
    Locked,
    /// What is on the disk contradicts itself. Restore a backup; `verify` says what is wrong.
    Damaged,
    /// No room on the disk; nothing was recorded. Make room and retry.
    DiskFull,
    /// The operating system refused; the message carries its reason.
    Io,
    /// The key file is missing, unreadable or not this store's. Bring it back.
    Key,
    /// The queue is full or the answer would have to wait. Retry later.
    Busy,
    /// This handle was closed, it was opened in the process that this one was forked from, or a write failed half-way and the
    /// store must be opened again.
    Closed,
    /// The request contradicts what is recorded (a number used twice, a policy that would shorten).
    Conflict,
    /// The store is not the one that its key file has signed: an older copy, or another history in its place. Bring the right one
    /// back, or restore this one, which the log then says.
    OtherHistory,
    /// Expiry is frozen until somebody confirms the clock.
    ClockFrozen,
    /// Nothing with that name or number is recorded.
    NoSuchEntry,
    /// The store is open for reading only. Open it for writing.
    ReadOnly,
}

/// An error with what to do about it ([`Error::kind`]), what happened and where (its text), and why (its source).
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

    /// The same with the error that caused it.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The same with `place` before its message, so that a caller further up can say where.
    pub fn at(mut self, place: impl fmt::Display) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same, about the entry at `seq`.
    pub fn about(mut self, seq: u64) -> Error {
        self.seq = Some(seq);
        self
    }

    /// The entry of an answer that is not the one that was recorded, where that is what is wrong.
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
