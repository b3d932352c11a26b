//! File system operations that the store, its key file and its anchors share.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Makes the name of a new or renamed file durable.
#[cfg(unix)]
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

/// On other systems a directory cannot be synced.
#[cfg(not(unix))]
pub(crate) fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Refuses a pipe or a device, whose end might never come. Call it before opening, which may block too.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file (a pipe, a device, a folder)"))
}

/// Opens a file for appending, and returns whether it is new; a new one is readable only by its owner. Never follows a symbolic
/// link, and opens nothing but a regular file: somebody who can create a link or a pipe in the folder could otherwise
/// redirect the writes, or make opening block for ever.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput): a link, a pipe, a device, a folder; or the error of the file system.
pub(crate) fn open_to_append(path: &Path) -> Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Exclusive creation follows no link either, should one have appeared.
            options.create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            Ok((options.open(path)?, true))
        }
        Err(e) => Err(e.into()),
        Ok(seen) => Ok((open_seen(path, &seen, &mut options)?, false)),
    }
}

/// The content of a small file beside a store; `None` if there is no such file.
///
/// # Errors
/// As [`open_to_append`]; also [`InvalidInput`](crate::ErrorKind::InvalidInput) if it has more than `most` bytes.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let seen = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        seen => seen?,
    };
    let mut bytes = Vec::new();
    open_seen(path, &seen, OpenOptions::new().read(true))?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(Error::invalid(format!("it has more than {most} bytes"))),
        false => Ok(Some(bytes)),
    }
}

/// Opens the file that was just seen at `path`, if it is a regular file and still there.
fn open_seen(path: &Path, seen: &std::fs::Metadata, options: &mut OpenOptions) -> Result<File> {
    if seen.is_symlink() {
        return Err(Error::invalid("it is a symbolic link; name the file itself"));
    }
    if !seen.is_file() {
        return Err(Error::invalid("it is not a regular file: fix the path"));
    }
    // A pipe put there in the meantime must not block the open.
    #[cfg(all(unix, feature = "owner"))]
    {
        use nix::fcntl::OFlag;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    }
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
            return Err(Error::invalid("it was replaced while it was being opened; try again"));
        }
    }
    Ok(file)
}

/// Warnings, one sentence each, if the permissions of a store's file or folder let users other than its owner remove,
/// replace or read it. Empty if the file system does not tell.
#[cfg(unix)]
pub(crate) fn warnings(path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut warnings = Vec::new();
    let Ok(file) = std::fs::metadata(path) else { return warnings };
    // Behind a link, the file can be replaced where the link leads.
    let Ok(real) = std::fs::canonicalize(path) else { return warnings };
    if file.mode() & 0o077 != 0 {
        let mode = file.mode() & 0o7777;
        warnings.push(format!("{}: others can use the store (mode {mode:04o}): run `chmod 600` on it", path.display()));
    }
    let Some((folder, about)) = real.parent().and_then(|f| Some((f, std::fs::metadata(f).ok()?))) else {
        return warnings;
    };
    let shown = folder.display();
    // With the sticky bit, only the owners of a file and of the folder can replace it.
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

/// On other systems permissions are not checked.
#[cfg(not(unix))]
pub(crate) fn warnings(_: &Path) -> Vec<String> {
    Vec::new()
}
