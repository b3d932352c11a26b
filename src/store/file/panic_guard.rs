//! Catches panics of redb. redb trusts the bytes of its file and panics on some that it did not write; a damaged file must
//! become an error that says so, not the end of the host's thread. With `panic = "abort"` nothing can be caught.

use crate::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// The number of [`caught`] calls that this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic of this thread would now become an error: the underlying storage panics on some damaged files, and the
/// caller gets an error that says that the file is damaged. For a program's panic hook, which need not report those.
///
/// ```
/// let before = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |info| {
///     if !attestlog::is_guarded() {
///         before(info);
///     }
/// }));
/// assert!(!attestlog::is_guarded());
/// ```
pub fn is_guarded() -> bool {
    DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false)
}

/// Runs work that may panic on the bytes of a file, and returns the panic as an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let done = catch_unwind(AssertUnwindSafe(work));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    done
}

/// Runs work that reads or writes the file. A panic becomes a `Damaged` error with the panic's text as its source.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Code that changes state inside marks that state as unknown if it does not complete (see `with_writer`).
    caught(work).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(unreadable(text.unwrap_or("the storage gave up").to_owned()))
    })
}

/// The error for callers when redb cannot go on, with redb's message as the source.
pub(crate) fn unreadable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::damaged(
        "the file is damaged and cannot be read or written here; `attestlog verify` names what is wrong and where, and a backup \
         can be restored (`attestlog restore`)",
    )
    .with_source(why)
}
