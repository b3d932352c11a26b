//! The key file on disk: only its owner may read it, nothing is overwritten by accident, and a crash leaves either the
//! old file or the new one.
//!
//! Invariant R51: whatever replaces a key file was made from its current content. Otherwise two processes with two copies of one
//! store and the same key file would take turns replacing each other's mark, and both would sign. Under a lock on the file its
//! bytes are compared with those that were last read or written; if they differ, nothing is written. (On Unix; elsewhere without
//! the lock.)
//!
//! A key file that was moved away is not made anew: the file that replaces it gets its name only while the old one has it. What
//! was moved away still has the bytes that were last written, so recording goes on when it is put back.
//!
//! Invariant R61: nothing is acknowledged that these keys will not sign. Before each commit the file is checked: if it is another
//! file, or has another time of last change, its bytes are compared.
//!
//! On Unix a file is created with mode 0600, and refused if group or others have any access to it. On other systems
//! only the directory's permissions protect it.

use super::{KeyFile, MAX_KEY_FILE_BYTES, Passphrase};
use crate::files::{Writes, create, put_in_place, sync_parent};
use crate::{Error, ErrorKind, Hash, Result};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A key file when it was last read or written.
pub(super) struct OnDisk {
    path: PathBuf,
    hash: Hash,
    /// Metadata of the file that has these bytes; `None` if it is not known.
    seen: Option<Seen>,
    /// Whether it is another file than the one that its text was written to.
    pub(super) is_copy: bool,
}

/// Which file it is: no two files of one file system have the same number at the same time, and no program can set the time at which
/// one was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub number: u64,
    /// In nanoseconds since 1970.
    pub made: u64,
}

impl FileId {
    /// `None` where the system does not say.
    #[cfg(unix)]
    fn of(file: &File) -> Option<FileId> {
        let about = file.metadata().ok()?;
        let made = about.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        let number = std::os::unix::fs::MetadataExt::ino(&about);
        Some(FileId { number, made: u64::try_from(made.as_nanos()).ok()? })
    }

    #[cfg(not(unix))]
    fn of(_: &File) -> Option<FileId> {
        None
    }
}

/// Metadata that shows whether a file was replaced or written to: its identity, length and time of last change.
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
    /// Checks that the file these keys were last read from or written to still holds them.
    ///
    /// # Errors
    /// [`ErrorKind::OtherHistory`] if another process has replaced it; [`ErrorKind::Key`] if it is gone or not private.
    pub(crate) fn check_on_disk(&mut self) -> Result<()> {
        let Some(OnDisk { path, hash, seen, .. }) = &mut self.on_disk else { return Ok(()) };
        match (&*seen, std::fs::symlink_metadata(&*path)) {
            (Some(seen), Ok(there)) if *seen == Seen::of(&there) => return Ok(()),
            (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => return Err(gone(path)),
            _ => {}
        }
        let file = open_private(path)?;
        let about = file.metadata().map_err(at(path))?;
        if Hash::of(&read(file).map_err(at(path))?) != *hash {
            return Err(changed(path));
        }
        // The same content in another file: it was moved, or brought back from a backup.
        *seen = Some(Seen::of(&about));
        Ok(())
    }

    /// Writes a new key file; when this returns, the file and its name are durable.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if anything is at `path`, even a symbolic link; [`ErrorKind::Io`], [`ErrorKind::DiskFull`].
    pub fn create(&self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        write_new(path, |_| self.to_text(random)).map(drop)
    }

    /// As [`KeyFile::create`], for keys that are kept in this file from now on.
    pub(crate) fn create_own(&mut self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let hash = write_new(path, |file| {
            self.file_id = FileId::of(file);
            self.to_text(random)
        })?;
        self.on_disk = Some(OnDisk { path: whole(path), hash, seen: None, is_copy: self.file_id.is_none() });
        Ok(())
    }

    /// Writes a complete copy to `path`, under the same passphrase and with the same care as the file itself. A copy made
    /// before a rotation can sign nothing after it, and opens nothing sealed since.
    ///
    /// # Errors
    /// As [`KeyFile::create`].
    pub fn backup(&self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.create(path, random)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`ErrorKind::Key`], with what to do, if the file is missing, damaged, not a regular file, or accessible to others;
    /// otherwise as [`KeyFile::parse`].
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<KeyFile> {
        let refuse = |why: &str| Error::new(ErrorKind::Key, why).in_file(path);
        let file = open_private(path)?;
        let about = file.metadata().map_err(at(path))?;
        if about.len() > MAX_KEY_FILE_BYTES as u64 {
            return Err(refuse(&format!("it has {} bytes, so it is not a key file: fix the path", about.len())));
        }
        let id = FileId::of(&file);
        let bytes = read(file).map_err(|e| refuse(&format!("it cannot be read: {e}")))?;
        let mut keys = KeyFile::parse(&bytes, passphrase).map_err(|e| e.in_file(path))?;
        let is_copy = id.is_none() || id != keys.file_id;
        keys.on_disk =
            Some(OnDisk { path: whole(path), hash: Hash::of(&bytes), seen: Some(Seen::of(&about)), is_copy });
        Ok(keys)
    }

    /// Replaces the file at `path` with these keys, atomically: after a crash it is the old file or this one. If a secret was
    /// destroyed since the last save, the old file's bytes are overwritten as well; file systems that never write in place,
    /// and flash memory, may keep them anyway.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] if there is no private regular file to replace; [`ErrorKind::OtherHistory`] if another process has
    /// replaced it since it was read: nothing was written then; [`ErrorKind::Locked`] if another process holds the lock on the
    /// file; [`ErrorKind::Io`], [`ErrorKind::DiskFull`].
    pub fn save(&mut self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.replace(path, self.is_copy(), random)
    }

    /// As [`KeyFile::save`], for the keys in use of an open store: whatever the file was before, it knows all that is signed from
    /// now on.
    pub(crate) fn save_own(&mut self, path: &Path, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.replace(path, false, random)
    }

    fn replace(&mut self, path: &Path, stays_copy: bool, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let old = locked(path)?;
        if let Some(known) = &self.on_disk
            && known.path == whole(path)
            && Hash::of(&read(&old).map_err(at(path))?) != known.hash
        {
            return Err(changed(path));
        }
        let fresh = beside(path);
        let id_before = self.file_id;
        let written = write_fresh(&fresh).and_then(|mut file| {
            if !stays_copy {
                self.file_id = FileId::of(&file);
            }
            let text = self.to_text(random)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))?;
            Ok(Hash::of(text.as_bytes()))
        });
        let hash =
            written.and_then(|hash| replace(&fresh, path, &old, self.stale).map(|()| hash)).inspect_err(|_| {
                self.file_id = id_before;
                drop(std::fs::remove_file(&fresh));
            })?;
        let seen = std::fs::symlink_metadata(path).ok().as_ref().map(Seen::of);
        drop(old);
        let is_copy = stays_copy || self.file_id.is_none();
        self.on_disk = Some(OnDisk { path: whole(path), hash, seen, is_copy });
        self.stale = false;
        Ok(())
    }
}

/// Makes a new key file with the text for it, and returns the hash of its bytes.
fn write_new(path: &Path, text: impl FnOnce(&File) -> Result<Zeroizing<String>>) -> Result<Hash> {
    let mut file = create(path, Writes::Keys).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Error::new(
            ErrorKind::AlreadyExists,
            "something is there already, and a key file is never overwritten; choose another path",
        )
        .in_file(path),
        _ => e,
    })?;
    let written = text(&file).and_then(|text| {
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.and_then(|()| sync_parent(path)).map_err(at(path)).map(|()| Hash::of(text.as_bytes()))
    });
    written.inspect_err(|_| {
        // This call created the file, and half a key file is of no use.
        drop(std::fs::remove_file(path));
    })
}

/// The absolute path, which stays the same when the process changes its working directory.
pub(crate) fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn gone(path: &Path) -> Error {
    let message = "the key file is gone, and nothing was recorded: put it back there. Recording then continues by itself, in this process too";
    Error::new(ErrorKind::Key, message).in_file(path)
}

fn changed(path: &Path) -> Error {
    let message = "another process has changed the key file since it was read, and nothing was recorded, signed or changed here. Does a \
         copy of the store lie elsewhere, with the same key file? Only one may be recorded into: end this process, and open the \
         right one";
    Error::new(ErrorKind::OtherHistory, message).in_file(path)
}

/// The whole key file; if it is too long, one byte more than the limit.
fn read(file: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocated at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES + 2));
    file.take(MAX_KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How many times the lock is tried, and the pause in between. Whoever holds it writes only one small file.
#[cfg(unix)]
const TRIES: usize = 500;
#[cfg(unix)]
const REST: std::time::Duration = std::time::Duration::from_millis(10);

/// The file at `path`, locked: nobody else replaces it while it is held.
#[cfg(unix)]
#[allow(clippy::disallowed_methods, reason = "waits for another process, which runs in real time")]
fn locked(path: &Path) -> Result<File> {
    use std::os::unix::fs::MetadataExt;
    for _ in 0..TRIES {
        let file = open_private(path)?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(REST),
            // If locks are not available, there is nothing to wait for.
            Err(std::fs::TryLockError::Error(_)) => return Ok(file),
            Ok(()) => {
                // The previous holder of the lock may have replaced the file.
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

/// The name of the new file before it is renamed to `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn write_fresh(fresh: &Path) -> Result<File> {
    // A crash may have left one. Nobody else writes there: the store that these keys belong to is open only here.
    match std::fs::remove_file(fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(fresh)(e)),
        _ => {}
    }
    create(fresh, Writes::Keys)
}

/// Refuses a key file that has a second name (a hard link), which would keep the keys that are to be destroyed.
///
/// # Errors
/// [`ErrorKind::Conflict`], or the error of the file system.
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

/// On other systems links are not counted.
#[cfg(not(unix))]
pub(crate) fn check_only_name(_: &Path) -> Result<()> {
    Ok(())
}

/// Opens a key file for reading, if it is a regular file that only its owner can access.
fn open_private(path: &Path) -> Result<File> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Key, why).in_file(path));
    // Checked before it is opened: opening a pipe would block.
    let seen = match std::fs::symlink_metadata(path) {
        Ok(seen) => seen,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return refuse("there is no key file: bring it back from its backup, or name it (--key)");
        }
        Err(e) => return refuse(&format!("the key file cannot be inspected: {e}")),
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

/// Gives the new file the name of the old one, which is open. `scrub`: overwrites the old one's bytes, too.
#[cfg(unix)]
fn replace(fresh: &Path, path: &Path, old: &File, scrub: bool) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let identity = |about: &Metadata| (about.dev(), about.ino());
    let writable = if scrub { OpenOptions::new().write(true).open(path).ok() } else { None };
    // Writing the new file took some time, in which somebody may have moved the old one.
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(gone(path)),
        Err(e) => return Err(at(path)(e)),
        Ok(there) if identity(&there) != identity(&old.metadata().map_err(at(path))?) => return Err(changed(path)),
        Ok(_) => {}
    }
    put_in_place(fresh, path, Writes::Keys)?;
    sync_parent(path).map_err(at(path))?;
    // The new file is in place from here on; overwriting the old bytes is best effort.
    if let Some(mut writable) = writable
        && let Ok(metadata) = writable.metadata()
        && metadata.nlink() == 0
    {
        let zeros = vec![0; usize::try_from(metadata.len()).unwrap_or(0).min(MAX_KEY_FILE_BYTES)];
        drop(writable.write_all(&zeros).and_then(|()| writable.sync_data()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn replace(fresh: &Path, path: &Path, _: &File, _scrub: bool) -> Result<()> {
    put_in_place(fresh, path, Writes::Keys)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    /// The story: a key file was moved away while a process saved its keys. The new file got the name all the same; the moved one
    /// was put back later, and "another process has changed the key file" stopped recording until a restart.
    #[test]
    fn a_key_file_that_was_moved_away_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let [path, fresh, away] = ["k", ".k.new", "away"].map(|name| folder.path().join(name));
        let write = |path: &Path, bytes: &str| create(path, Writes::Keys).unwrap().write_all(bytes.as_bytes()).unwrap();
        write(&path, "old");
        write(&fresh, "new");
        let old = locked(&path).unwrap();
        std::fs::rename(&path, &away).unwrap();
        let e = replace(&fresh, &path, &old, true).unwrap_err();
        assert!(e.kind() == ErrorKind::Key && e.to_string().contains("put it back there"), "{e}");
        assert!(!path.exists(), "it was made anew");
        // Another file is there.
        write(&path, "other");
        assert_eq!(replace(&fresh, &path, &old, true).unwrap_err().kind(), ErrorKind::OtherHistory);
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
        // It is back.
        std::fs::rename(&away, &path).unwrap();
        replace(&fresh, &path, &old, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
