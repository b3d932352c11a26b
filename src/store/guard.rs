//! Where panics end. redb trusts the bytes of its file and panics on some that nobody wrote with it; a damaged file must
//! be an error that says so, not the end of the host's thread. With `panic = "abort"` there is nothing to be caught.

use crate::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what reads or writes the file; a panic in it is a damaged file.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Whoever changes anything under this marks it as unknown when it does not come to its end (see `exclusive`).
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Error::damaged(format!(
            "the file cannot be read or written ({}); restore a backup, `attestlog verify` may say more",
            text.unwrap_or("the storage gave up")
        )))
    })
}
