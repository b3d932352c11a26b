//! A configuration file of an agent: read, replaced, removed.

use crate::exit::Failure;
use attestlog::files::{self, Writes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// No configuration is longer.
const MOST: u64 = 4 << 20;

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

    /// Puts a file with this text in its place, whole or not at all, which everybody may read who could read the old one.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::file(&self.path, &e);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".attestlog-{}", std::process::id()));
        let part = folder.join(name);
        let written = files::create(&part, Writes::Output).map_err(Failure::from).and_then(|mut new| {
            new.write_all(text.as_bytes())
                .and_then(|()| self.give_mode(&new))
                .and_then(|()| new.sync_all())
                .map_err(failed)?;
            files::put_in_place(&part, &self.path, Writes::Output).map_err(Failure::from)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }

    /// Gives a new file the permissions of the one that it replaces.
    fn give_mode(&self, new: &std::fs::File) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(about) => new.set_permissions(about.permissions()),
            #[cfg(unix)]
            Err(_) => new.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)),
            #[cfg(not(unix))]
            Err(_) => Ok(()),
        }
    }

    /// Removes the file, and the folders around it that are empty because of that, up to the one that is the agent's own.
    pub fn remove(&self) -> Result<(), Failure> {
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
