//! A configuration file of an agent: read, replaced, removed.

use crate::exit::Failure;
use attestlog::files::{self, Writes};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No configuration is longer.
const MOST: u64 = 4 << 20;

/// How often another process that changes configurations is waited for, and how long each time.
const PAUSES: usize = 2_000;
const PAUSE: Duration = Duration::from_millis(5);

/// Keeps others that run this program from changing configurations under this folder until the file is dropped. Nothing is left
/// behind.
pub fn lock(folder: &Path) -> Result<Option<File>, Failure> {
    // Where a folder cannot be opened, there is only the comparison before a file is replaced.
    let Ok(opened) = File::open(folder) else { return Ok(None) };
    for _ in 0..PAUSES {
        match opened.try_lock() {
            Ok(()) => return Ok(Some(opened)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
    let why = "another process changes the configurations under it; try again";
    Err(Failure::Input(format!("{}: {why}", folder.display())))
}

/// Puts a file with this text in the place of another, with the permissions of `like`, if `check` agrees at the last moment.
fn replace(path: &Path, like: &Path, text: &str, check: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::file(path, &e);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".attestlog-{}", std::process::id()));
    let part = folder.join(name);
    let written = files::create(&part, Writes::Output).map_err(Failure::from).and_then(|mut new| {
        new.write_all(text.as_bytes())
            .and_then(|()| give_mode(&new, like))
            .and_then(|()| new.sync_all())
            .map_err(failed)?;
        check()?;
        files::put_in_place(&part, path, Writes::Output).map_err(Failure::from)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Gives a new file the permissions of this one, if there is one.
fn give_mode(new: &File, like: &Path) -> io::Result<()> {
    match std::fs::metadata(like) {
        Ok(about) => new.set_permissions(about.permissions()),
        #[cfg(unix)]
        Err(_) => new.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)),
        #[cfg(not(unix))]
        Err(_) => Ok(()),
    }
}

/// A configuration file, and what it holds.
#[derive(Debug)]
pub struct Configured {
    path: PathBuf,
    text: Option<String>,
}

impl Configured {
    /// Reads the file, which need not exist. Where the path is a symbolic link, the file that it leads to is meant: people keep
    /// their configurations elsewhere.
    pub fn read(path: &Path) -> Result<Configured, Failure> {
        let path = files::resolve(path);
        let about = match std::fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                return Err(Failure::Input(format!("{}: is a symbolic link that leads nowhere", path.display())));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Configured { path, text: None }),
            about => about.map_err(|e| Failure::file(&path, &e))?,
        };
        if !about.is_file() || about.len() > MOST {
            return Err(Failure::Input(format!("{}: is not a configuration file", path.display())));
        }
        let bytes = std::fs::read(&path).map_err(|e| Failure::file(&path, &e))?;
        let text = String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
        Ok(Configured { path, text: Some(text) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds; `None` if there is no file.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Fails if the file is not what was read: somebody else, the agent or an editor, has written it meanwhile.
    fn is_as_read(&self) -> Result<(), Failure> {
        if Configured::read(&self.path)?.text == self.text {
            return Ok(());
        }
        Err(Failure::Input(format!("{}: somebody else has just changed it; try again", self.path.display())))
    }

    /// Puts a file with this text in its place, whole or not at all, which everybody may read who could read the old one.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        self.write_like(&self.path, text)
    }

    /// As [`write`](Configured::write), with the permissions of another file.
    pub fn write_like(&self, other: &Path, text: &str) -> Result<(), Failure> {
        replace(&self.path, other, text, || self.is_as_read())
    }

    /// Removes the file, and the folders around it that are empty because of that, up to the one that is the agent's own.
    pub fn remove(&self) -> Result<(), Failure> {
        self.is_as_read()?;
        std::fs::remove_file(&self.path).map_err(|e| Failure::file(&self.path, &e))?;
        let is_own = |folder: &&Path| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            ["hooks", "plugins", "opencode"].contains(&&*name) || name.starts_with('.')
        };
        for folder in self.path.ancestors().skip(1).take(2).take_while(is_own) {
            // One that is not empty is refused.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}
