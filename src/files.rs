//! What every file of the log needs of the file system: the store, its key and its anchors alike.

use std::io;
use std::path::Path;

/// Makes a new or renamed file's name outlive a power failure.
#[cfg(unix)]
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

/// Elsewhere a directory cannot be synced.
#[cfg(not(unix))]
pub(crate) fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}
