//! What lies beside a store and says which programs run: `STORE.anchors` and `STORE.receivers`.

use super::exit::Failure;
use std::fs::Metadata;
use std::path::Path;

/// Such a file counts only where nobody can write to it but the store's owner, who is the user that runs this program, or the
/// system's administrator: a folder that somebody else hands over or shares must not run his programs as this user.
#[cfg(unix)]
pub fn trusted(path: &Path, about: &Metadata, store: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let owner = match std::fs::metadata(store) {
        Ok(about) => Some(about.uid()),
        // A store that is not there has no owner; whatever needs it says so better.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Failure::file(store, &e)),
    };
    let refuse = |why: &str| Err(Failure::Store(format!("{}: {why}, and it says which programs run", path.display())));
    if about.mode() & 0o022 != 0 {
        return refuse("others can write to it (chmod go-w)");
    }
    if about.uid() == 0 {
        return Ok(());
    }
    if owner.is_some_and(|owner| owner != about.uid()) {
        return refuse("it does not belong to the store's owner");
    }
    if about.uid() != nix::unistd::geteuid().as_raw() {
        return refuse("it does not belong to the user who runs this program");
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn trusted(_: &Path, _: &Metadata, _: &Path) -> Result<(), Failure> {
    Ok(())
}
