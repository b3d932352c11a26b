//! The key file on the disk: nobody else may read it, nothing is overwritten by accident, and a crash leaves either the
//! old file or the new one.
//!
//! Invariant R51: what replaces a key file was made from what is in it. Two processes with two copies of one store and the same key
//! file would otherwise take turns at replacing each other's mark, and both sign. Under a lock on the file its bytes are compared with
//! those that were read or written last; where they are others nothing is written. (Unix; elsewhere without the lock.)
//!
//! Invariant R61: nothing is acknowledged that these keys will not sign. Before each commit the file is looked at: another file, or
//! another time of its last change, and its bytes are compared.
//!
//! On Unix a file is created with mode 0600 and refused when group or others may do anything with it. On other systems
//! the directory's own protection is all there is.

use super::{KeyFile, MAX_KEY_FILE_BYTES, Passphrase};
use crate::files::sync_parent;
use crate::{Error, ErrorKind, Hash, Result};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a key file was when it was read or written last.
pub(super) struct OnDisk {
    path: PathBuf,
    hash: Hash,
    /// Of the file that has these bytes; `None` where it is not known.
    seen: Option<Seen>,
}

/// What tells that a file was neither replaced nor written to: which it is, its length, when it was changed last.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    length: u64,
    #[cfg(unix)]
    of_unix: [i64; 6],
    #[cfg(not(unix))]
    modified: Option<std::time::SystemTime>,
}

impl Seen {
    #[cfg(unix)]
    fn of(about: &Metadata) -> Seen {
        use std::os::unix::fs::MetadataExt;
        let file = [about.dev().cast_signed(), about.ino().cast_signed()];
        let [[mtime, mtime_nanos], [ctime, ctime_nanos]] =
            [[about.mtime(), about.mtime_nsec()], [about.ctime(), about.ctime_nsec()]];
        Seen { length: about.len(), of_unix: [file[0], file[1], mtime, mtime_nanos, ctime, ctime_nanos] }
    }

    #[cfg(not(unix))]
    fn of(about: &Metadata) -> Seen {
        Seen { length: about.len(), modified: about.modified().ok() }
    }
}

impl KeyFile {
    /// Makes sure that the file which these keys were read from or written to last still has them.
    ///
    /// # Errors
    /// [`ErrorKind::OtherHistory`] where another process has replaced it; as [`KeyFile::load`] where it is gone.
    pub(crate) fn check_on_disk(&mut self) -> Result<()> {
        let Some(OnDisk { path, hash, seen }) = &mut self.on_disk else { return Ok(()) };
        match (&*seen, std::fs::symlink_metadata(&*path)) {
            (Some(seen), Ok(there)) if *seen == Seen::of(&there) => return Ok(()),
            (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => {
                let message = "the key file is gone, and nothing was recorded: put it back there. Recording goes on by itself then, in this \
                     process too";
                return Err(Error::new(ErrorKind::Key, message).in_file(path));
            }
            _ => {}
        }
        let file = open_private(path)?;
        let about = file.metadata().map_err(at(path))?;
        if Hash::of(&read(file).map_err(at(path))?) != *hash {
            return Err(changed(path));
        }
        // The same in another place: somebody moved it, or brought it back from a backup.
        *seen = Some(Seen::of(&about));
        Ok(())
    }

    /// Writes a new key file; it and its name are on the disk when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where anything stands at `path`, a symbolic link included; [`ErrorKind::Io`].
    pub fn create(&self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.write_new(path, random).map(drop)
    }

    /// As [`KeyFile::create`], for keys that go on being kept there.
    pub(crate) fn create_own(&mut self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let hash = self.write_new(path, random)?;
        self.on_disk = Some(OnDisk { path: whole(path), hash, seen: None });
        Ok(())
    }

    /// Gives the hash of what was written.
    fn write_new(&self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<Hash> {
        let text = self.to_text(random)?;
        let mut file = create_private(path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::new(
                ErrorKind::AlreadyExists,
                "something is there already, and a key file is never overwritten; choose another path",
            )
            .in_file(path),
            _ => at(path)(e),
        })?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        written.map(|()| Hash::of(text.as_bytes())).map_err(|e| {
            // It is ours, and half of a key file helps nobody.
            drop(std::fs::remove_file(path));
            at(path)(e)
        })
    }

    /// Writes a copy to `path`, with everything in it, under the same passphrase and with the same care as the file
    /// itself. A copy from before a rotation can sign nothing after it, and opens nothing sealed since.
    ///
    /// # Errors
    /// As [`KeyFile::create`].
    pub fn backup(&self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.create(path, random)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`ErrorKind::Key`], with what to do, where the file is missing, damaged, not a regular file, or open to others;
    /// or as [`KeyFile::parse`].
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<KeyFile> {
        let refuse = |why: &str| Error::new(ErrorKind::Key, why).in_file(path);
        let file = open_private(path)?;
        let about = file.metadata().map_err(at(path))?;
        if about.len() > MAX_KEY_FILE_BYTES as u64 {
            return Err(refuse(&format!("it has {} bytes, so it is not a key file: fix the path", about.len())));
        }
        let bytes = read(file).map_err(|e| refuse(&format!("it cannot be read: {e}")))?;
        let mut keys = KeyFile::parse(&bytes, passphrase).map_err(|e| e.in_file(path))?;
        keys.on_disk = Some(OnDisk { path: whole(path), hash: Hash::of(&bytes), seen: Some(Seen::of(&about)) });
        Ok(keys)
    }

    /// Replaces the file at `path` by these keys, in one step: after a crash there is the old file or this one. Where a
    /// secret was destroyed since the last save, the old file's bytes are overwritten as well; file systems that never
    /// write in place, and flash memory, may keep them all the same.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] where there is no private regular file to replace; [`ErrorKind::OtherHistory`] where another process has
    /// replaced it since it was read: then nothing was written; [`ErrorKind::Io`], [`ErrorKind::DiskFull`].
    pub fn save(&mut self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let text = self.to_text(random)?;
        let old = locked(path)?;
        if let Some(known) = &self.on_disk
            && known.path == whole(path)
            && Hash::of(&read(&old).map_err(at(path))?) != known.hash
        {
            return Err(changed(path));
        }
        let fresh = beside(path);
        let written = write_fresh(&fresh, &text).and_then(|()| replace(&fresh, path, self.stale));
        written.map_err(|e| {
            drop(std::fs::remove_file(&fresh));
            at(path)(e)
        })?;
        let seen = std::fs::symlink_metadata(path).ok().as_ref().map(Seen::of);
        drop(old);
        self.on_disk = Some(OnDisk { path: whole(path), hash: Hash::of(text.as_bytes()), seen });
        self.stale = false;
        Ok(())
    }
}

/// Absolute, so that it names the same whatever folder the process goes to.
pub(crate) fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn changed(path: &Path) -> Error {
    let message = "another process has changed the key file since it was read, and nothing was recorded, signed or changed here. Does a \
         copy of the store lie elsewhere, with the same key file? Only one may be recorded into: end this process, and open the \
         right one";
    Error::new(ErrorKind::OtherHistory, message).in_file(path)
}

/// All of a key file, and one byte more where it is too long.
fn read(file: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES + 2));
    file.take(MAX_KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How often a lock is tried for, and how long whoever waits rests in between. Whoever has it writes one small file.
#[cfg(unix)]
const TRIES: usize = 500;
#[cfg(unix)]
const REST: std::time::Duration = std::time::Duration::from_millis(10);

/// The file at `path`, which nobody else replaces as long as it is held.
#[cfg(unix)]
#[allow(clippy::disallowed_methods, reason = "waits for another process, in the time that it runs in")]
fn locked(path: &Path) -> Result<File> {
    use std::os::unix::fs::MetadataExt;
    for _ in 0..TRIES {
        let file = open_private(path)?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(REST),
            // Where locks are not to be had there is nothing to wait for.
            Err(std::fs::TryLockError::Error(_)) => return Ok(file),
            Ok(()) => {
                // It may have been replaced by whoever had the lock before.
                let (own, there) = (file.metadata().map_err(at(path))?, std::fs::metadata(path).map_err(at(path))?);
                if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
                    return Ok(file);
                }
            }
        }
    }
    Err(Error::new(ErrorKind::Locked, "another process holds a lock on the key file").in_file(path))
}

#[cfg(not(unix))]
fn locked(path: &Path) -> Result<File> {
    open_private(path)
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error {
    move |e| Error::from(e).in_file(path)
}

/// The name of the file that is written before it takes `path`'s place.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn write_fresh(fresh: &Path, text: &str) -> io::Result<()> {
    // One may be left from a crash. Nobody else writes there: the store that these keys belong to is ours alone.
    match std::fs::remove_file(fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = create_private(fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Refuses a key file that has another name too: under it the keys would stay that are to be destroyed.
///
/// # Errors
/// [`ErrorKind::Conflict`]; what the file system says.
#[cfg(unix)]
pub(crate) fn check_only_name(path: &Path) -> Result<()> {
    match std::os::unix::fs::MetadataExt::nlink(&std::fs::symlink_metadata(path).map_err(at(path))?) {
        0 | 1 => Ok(()),
        _ => Err(Error::new(
ErrorKind::Conflict,
"the key file has another name too (a hard link), under which the old key would stay; remove the other name",
)
.in_file(path)),
    }
}

/// Elsewhere links are not counted.
#[cfg(not(unix))]
pub(crate) fn check_only_name(_: &Path) -> Result<()> {
    Ok(())
}

/// Opens a key file for reading, if it is a regular file that only its owner can use.
fn open_private(path: &Path) -> Result<File> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Key, why).in_file(path));
    // Looked at before it is opened: opening a pipe would wait.
    let seen = match std::fs::symlink_metadata(path) {
        Ok(seen) => seen,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return refuse("there is no key file: bring it back from its backup, or name it (--key)");
        }
        Err(e) => return refuse(&format!("the key file cannot be looked at: {e}")),
    };
    if seen.is_symlink() {
        return refuse("it is a symbolic link; name the key file itself");
    }
    if !seen.is_file() {
        return refuse("it is not a regular file: fix the path");
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) => return refuse(&format!("the key file cannot be opened: {e}")),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let opened = file.metadata().map_err(at(path))?;
        if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
            return refuse("it was replaced while it was being opened; try again");
        }
        #[cfg(feature = "owner")]
        if opened.uid() != nix::unistd::geteuid().as_raw() {
            return refuse(&format!(
                "it belongs to another user (uid {}), who can read it: run this as that user, or `chown` it and rotate the keys",
                opened.uid()
            ));
        }
        let mode = opened.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return refuse(&format!(
                "others can use it (mode {mode:04o}): run `chmod 600` on it, and rotate the keys if somebody may have read it"
            ));
        }
    }
    Ok(file)
}

#[cfg(unix)]
fn replace(fresh: &Path, path: &Path, scrub: bool) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let old = if scrub { OpenOptions::new().write(true).open(path).ok() } else { None };
    std::fs::rename(fresh, path)?;
    sync_parent(path)?;
    // From here on the new file is in place whatever happens; overwriting the old bytes is a kindness, not a promise.
    if let Some(mut old) = old
        && let Ok(metadata) = old.metadata()
        && metadata.nlink() == 0
    {
        let zeros = vec![0; usize::try_from(metadata.len()).unwrap_or(0).min(MAX_KEY_FILE_BYTES)];
        drop(old.write_all(&zeros).and_then(|()| old.sync_data()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn replace(fresh: &Path, path: &Path, _scrub: bool) -> io::Result<()> {
    std::fs::rename(fresh, path)
}
