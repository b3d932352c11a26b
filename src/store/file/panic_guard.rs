//! Where panics end. redb trusts the bytes of its file and panics on some that nobody wrote with it; a damaged file must
//! be an error that says so, not the end of the host's thread. With `panic = "abort"` there is nothing to be caught.

use crate::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic of this thread would become an error now: the storage below panics over some damaged files, and whoever asked
/// gets an error that says that the file is damaged. For a program's panic hook, which need not tell of those.
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

/// Runs what may panic over the bytes of a file, and gives its panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let done = catch_unwind(AssertUnwindSafe(work));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    done
}

/// Runs what reads or writes the file; a panic in it is a damaged file. What the panic says is the error's source.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Whoever changes anything under this marks it as unknown when it does not come to its end (see `with_writer`).
    caught(work).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(unreadable(text.unwrap_or("the storage gave up").to_owned()))
    })
}

/// What whoever asked is told where redb cannot go on, with what redb says as the source.
pub(crate) fn unreadable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::damaged(
        "the file is damaged and cannot be read or written here; `attestlog verify` names what is wrong and where, and a backup \
         can be restored (`attestlog restore`)",
    )
    .with_source(why)
}
