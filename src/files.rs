//! File system operations that the store, its key file and its anchors share. Every file that this program makes or appends to is
//! opened here, after `kept` was asked whether it may be (R98).

mod folder;
mod kept;

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

pub use folder::NewFolder;
pub use kept::{COMPANION_LINE, Writes, beside, check, check_beside, is_same_file, resolve};
pub(crate) use kept::{STORE_MAGIC, check_only_name, is_database, is_same};

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

/// Whether this process may write to the file, and its owner has not write-protected it: the system lets root write to it
/// anyway. Found out without opening it.
#[cfg(feature = "owner")]
pub(crate) fn may_write(path: &Path) -> bool {
    let unprotected = std::fs::metadata(path).is_ok_and(|about| !about.permissions().readonly());
    #[cfg(unix)]
    let unprotected = unprotected && {
        use nix::fcntl::{AT_FDCWD, AtFlags};
        use nix::unistd::{AccessFlags, faccessat};
        faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
    };
    unprotected
}

/// Requires an absolute path: whoever names it from another process does not know this one's working directory.
pub(crate) fn absolute(path: &Path) -> Result<&Path> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Error::invalid(format!("{}: must be an absolute path", path.display())))
    }
}

/// Refuses a pipe or a device, whose end might never come. Call it before opening, which may block too.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file (a pipe, a device, a folder)"))
}

/// Creates a file that only its owner may read. Never follows or replaces an existing file or symbolic link.
///
/// # Errors
/// As [`check`]; [`AlreadyExists`](crate::ErrorKind::AlreadyExists); the error of the file system.
pub fn create(path: &Path, writes: Writes) -> Result<File> {
    kept::check_name(path, writes).map_err(|e| e.in_file(path))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|e| Error::from(e).in_file(path))
}

/// Moves a finished file to its place, over the file that is there.
///
/// # Errors
/// As [`check`]; the error of the file system.
pub fn put_in_place(finished: &Path, path: &Path, writes: Writes) -> Result<()> {
    check(path, writes)?;
    std::fs::rename(finished, path).map_err(|e| Error::from(e).in_file(path))
}

/// Moves a finished file to a place where nothing may be: what came there meanwhile is not replaced.
///
/// # Errors
/// As [`create`].
pub(crate) fn put_in_new_place(finished: &Path, path: &Path, writes: Writes) -> Result<()> {
    drop(create(path, writes)?);
    let placed = std::fs::rename(finished, path).and_then(|()| sync_parent(path));
    placed.map_err(|e| {
        // An empty file, or the finished one whose name may not be durable.
        let _ = std::fs::remove_file(path);
        Error::from(e).in_file(path)
    })
}

/// Opens a file for appending, and returns whether it is new; a new one is readable only by its owner. Never follows a symbolic
/// link, and opens nothing but a regular file: somebody who can create a link or a pipe in the folder could otherwise
/// redirect the writes, or make opening block for ever. Nor does it open a file that another user made or may write to: they
/// would read what is written, and could take it back.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput): a link, a pipe, a device, a folder, another user's file, a file that is kept
/// for something else; or the error of the file system.
pub fn open_to_append(path: &Path, writes: Writes) -> Result<(File, bool)> {
    kept::check_name(path, writes)?;
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
        Ok(seen) => {
            let mut file = open_seen(path, &seen, &mut options)?;
            check_ours(&file)?;
            kept::check_open(&mut file, path, writes)?;
            Ok((file, false))
        }
    }
}

/// Refuses a file that belongs to neither this user nor the system's administrator, or that others may write to.
#[cfg(unix)]
fn check_ours(file: &File) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let about = file.metadata()?;
    #[cfg(feature = "owner")]
    if about.uid() != 0 && about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::invalid(format!(
            "it belongs to another user (uid {}), so nothing is written to it: remove it, or name another file",
            about.uid()
        )));
    }
    if about.mode() & 0o022 != 0 {
        let message = "others can write to it, so nothing is written to it: run `chmod go-w` on it if it is yours, or name another file";
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// On other systems only the folder's permissions protect it.
#[cfg(not(unix))]
fn check_ours(_: &File) -> Result<()> {
    Ok(())
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
    if let Err(e) = check_only_name(&file, path) {
        warnings.push(e.to_string());
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
