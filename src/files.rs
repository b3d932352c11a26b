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

/// Refuses what has no end that could be waited for: a pipe, a device. Before it is opened, which may wait too.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file (a pipe, a device, a folder)"))
}

/// What about a store's file and its folder lets others than its owner take it away, replace it or read it: a sentence
/// each. Nothing where the file system does not say.
#[cfg(unix)]
pub(crate) fn warnings(path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut warnings = Vec::new();
    let Ok(file) = std::fs::metadata(path) else { return warnings };
    // Where a link leads, there the file can be replaced.
    let Ok(real) = std::fs::canonicalize(path) else { return warnings };
    if file.mode() & 0o077 != 0 {
        let mode = file.mode() & 0o7777;
        warnings.push(format!("{}: others can use the store (mode {mode:04o}): run `chmod 600` on it", path.display()));
    }
    let Some((folder, about)) = real.parent().and_then(|f| Some((f, std::fs::metadata(f).ok()?))) else {
        return warnings;
    };
    let shown = folder.display();
    // The sticky bit leaves a file to its owner and the folder's.
    if about.mode() & 0o002 != 0 && about.mode() & 0o1000 == 0 {
        warnings.push(format!(
            "{shown}: everybody may write in this folder, and so replace the store and its key file: run `chmod o-w` on it"
        ));
    }
    if about.uid() != file.uid() && about.uid() != 0 {
        warnings.push(format!(
            "{shown}: this folder belongs to another user (uid {}) than the store (uid {}), who may replace it",
            about.uid(),
            file.uid()
        ));
    }
    warnings
}

/// Elsewhere permissions are not looked at.
#[cfg(not(unix))]
pub(crate) fn warnings(_: &Path) -> Vec<String> {
    Vec::new()
}
