//! The public error: its kind tells the caller what to do; the message and the source chain carry the detail.

use crate::json::form::{self, Form};
use crate::json::{Json, Object};
use crate::members::Members;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What went wrong, grouped by what the caller can do about it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $variant,)* }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$variant,)*];

            /// The kind's name, as in an error's JSON form.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorKind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// The input is invalid; the message says where. Fix the input.
    InvalidInput = "invalid_input",
    /// The input is larger than a limit; nothing of it was recorded. Send less or raise the limit.
    TooLarge = "too_large",
    /// There is no store at that path. Create it, or fix the path.
    NotFound = "not_found",
    /// Something already exists where a new store, key or anchor would go. Choose another path.
    AlreadyExists = "already_exists",
    /// The file is not an attestlog store. Fix the path.
    NotAStore = "not_a_store",
    /// The store has another layout: that of a newer version (upgrade the program), or of a development version before the first release
    /// (the message says how to export it).
    NewerFormat = "newer_format",
    /// Another process has the store open. Wait, or go through that process.
    Locked = "locked",
    /// The data on disk is inconsistent. Restore a backup; `verify` says what is wrong.
    Damaged = "damaged",
    /// No room on the disk; nothing was recorded. Make room and retry.
    DiskFull = "disk_full",
    /// The operating system reported an error, or the process that has the store open ended or failed before it answered; the
    /// message carries the reason, and says so if it is not known whether something was recorded.
    Io = "io",
    /// The key file is missing, unreadable or belongs to another store. Put the right one back.
    Key = "key",
    /// The queue is full, the call would have to wait for its answer, a write failed and the store's file could not be opened
    /// again yet, or a purge took entries that an answer had still to read. Retry later.
    Busy = "busy",
    /// This handle was closed, or it was opened by the parent process before a fork, or a write failed half-way and the store
    /// must be reopened.
    Closed = "closed",
    /// The request contradicts what is recorded (a number used twice, a policy that would shorten retention).
    Conflict = "conflict",
    /// The store is not the history that its key file has signed: it is an older copy, or another history was put in its
    /// place. Put the right one back, or restore this one; the log records the restore.
    OtherHistory = "other_history",
    /// Expiry is frozen until somebody confirms the clock.
    ClockFrozen = "clock_frozen",
    /// Nothing with that name or number is recorded.
    NoSuchEntry = "no_such_entry",
    /// The store is open for reading only. Open it for writing.
    ReadOnly = "read_only",
    /// What was asked is done, recorded and in force, up to the entry that [`Error::seq`] names. Only what comes after recording
    /// failed: the signature over it, or the destruction of an old key, which follows with the next signature. Do not repeat it.
    Recorded = "recorded",
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

crate::named_form!(serde ErrorKind, "kind of error");

/// Where an error is, as far as it is known: data for programs, beside the message that says it to people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Place {
    /// The file, as the message names it.
    pub file: Option<String>,
    /// The call of a batch, from 0.
    pub call: Option<usize>,
    /// The line of the text, from 1.
    pub line: Option<usize>,
    /// The character within the line, from 1.
    pub column: Option<usize>,
    /// How many bytes of the text stand before it.
    pub offset: Option<usize>,
    /// The member at fault, as a path: `alerts[2].window`.
    pub member: Option<String>,
}

impl Place {
    /// The place that many bytes into a text; of the first `offset` bytes only line and column are taken.
    pub fn in_text(text: &[u8], offset: usize) -> Place {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        Place {
            line: Some(before.iter().filter(|b| **b == b'\n').count() + 1),
            // The bytes that go on with a character begin with the bits 10.
            column: Some(line.iter().filter(|b| **b & 0xC0 != 0x80).count() + 1),
            offset: Some(offset),
            ..Place::default()
        }
    }

    /// The same in this file.
    #[must_use]
    pub fn file(self, file: impl Into<String>) -> Place {
        Place { file: Some(file.into()), ..self }
    }

    /// The same at this member.
    #[must_use]
    pub fn member(self, member: impl Into<String>) -> Place {
        Place { member: Some(member.into()), ..self }
    }
}

impl fmt::Display for Place {
    /// `file:line:column`, as far as they are known: what editors and terminals jump to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [self.line, self.column].into_iter().flatten().map(|n| n.to_string());
        let parts: Vec<String> = self.file.iter().cloned().chain(numbers).collect();
        f.write_str(&parts.join(":"))
    }
}

/// An error with what to do about it ([`Error::kind`]), what happened and where (its text, and [`Error::place`]), and why (its
/// source). Its `Debug` is its text too: what `unwrap` and a `main` that returns it show is for people.
pub struct Error {
    kind: ErrorKind,
    message: String,
    seq: Option<u64>,
    place: Option<Box<Place>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind with a message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), seq: None, place: None, source: None }
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

    /// The same with this place as data; the message stays as it is.
    pub fn with_place(mut self, place: Place) -> Error {
        self.place = Some(Box::new(place));
        self
    }

    /// The same about this file, whose name stands before the message. The innermost file is the one that is kept as data.
    pub fn in_file(self, path: impl AsRef<Path>) -> Error {
        let name = path.as_ref().display().to_string();
        let mut error = self.at(&name);
        error.place_mut().file.get_or_insert(name);
        error
    }

    /// The same about this member, whose name stands before the message: `arguments` of an error about `a.b` is one about
    /// `arguments.a.b`.
    pub fn in_member(self, member: &str) -> Error {
        let mut error = self.at(member);
        let within = error.place_mut().member.take();
        error.place_mut().member = Some(match within {
            None => member.to_owned(),
            Some(within) if within.starts_with('[') => format!("{member}{within}"),
            Some(within) => format!("{member}.{within}"),
        });
        error
    }

    /// The same about the call at this place of a batch, from 0, which stands before everything else that the error says.
    pub fn in_call(mut self, call: usize) -> Error {
        self.place_mut().call = Some(call);
        self
    }

    /// Takes out which call of a batch it is about, for a caller that knows a better name for it.
    pub fn take_call(&mut self) -> Option<usize> {
        self.place.as_mut()?.call.take()
    }

    /// The same, about the entry at `seq`.
    pub fn about(mut self, seq: u64) -> Error {
        self.seq = Some(seq);
        self
    }

    /// The seq of an entry that was read and is not the one that was recorded; of [`ErrorKind::Recorded`], the newest entry that is
    /// recorded. `None` for other errors.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// Where it is, as far as it is known.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_deref()
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

    /// The same error for another who waited for the same answer: all of it but its source, which there is only once.
    pub fn retold(&self) -> Error {
        Error { message: self.message.clone(), place: self.place.clone(), source: None, ..*self }
    }

    fn place_mut(&mut self) -> &mut Place {
        self.place.get_or_insert_default()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(call) = self.place().and_then(|place| place.call) {
            write!(f, "call {call}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

crate::json_form!(form Place { file, call, line, column, offset, member });

impl Form for Error {
    /// `{"kind","message","place","seq"}`; the source is left out.
    fn form(&self) -> Json {
        Object::from_iter([
            ("kind", self.kind.form()),
            ("message", Json::from(self.message.as_str())),
            ("place", self.place().map_or(Json::Null, Form::form)),
            ("seq", self.seq.into()),
        ])
        .into()
    }

    fn read(value: &Json) -> Result<Error> {
        let mut members = Members::of(value)?;
        let error = Error {
            kind: form::member(&mut members, "kind")?,
            message: form::member(&mut members, "message")?,
            seq: form::member(&mut members, "seq")?,
            place: form::member::<Option<Place>>(&mut members, "place")?.map(Box::new),
            source: None,
        };
        members.end()?;
        Ok(error)
    }
}

crate::json_form!(own Error);

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    /// `unwrap` and a `main` that returns an error printed `Error { kind: .., message: .., seq: None, source: Some(Os ..) }`.
    #[test]
    fn debug_is_the_message_and_the_source_stays() {
        let error = Error::from(std::io::Error::other("no power")).in_file("/log").in_call(3);
        assert_eq!((format!("{error:?}"), format!("{error:#?}")), (error.to_string(), error.to_string()));
        assert_eq!(error.to_string(), "call 3: /log: no power");
        assert_eq!(error.source().unwrap().to_string(), "no power");
        assert_eq!(error.retold().place(), error.place());
    }

    #[test]
    fn a_place_is_data() {
        let error =
            Error::invalid("must be a number").in_member("b[2]").in_member("a").in_file("inner").in_file("outer");
        assert_eq!(error.to_string(), "outer: inner: a: b[2]: must be a number");
        let place = error.place().unwrap();
        assert_eq!((place.file.as_deref(), place.member.as_deref()), (Some("inner"), Some("a.b[2]")));
        let place = Place::in_text("ab\nüx\n".as_bytes(), 6).file("f");
        assert_eq!((place.line, place.column, place.offset), (Some(2), Some(3), Some(6)));
        assert_eq!(place.to_string(), "f:2:3");
    }
}
