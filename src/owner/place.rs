//! Where a store's socket is: in a private directory of the user, under a name made of the store's path, so that it is
//! short enough for every platform however deep the store lies.
//!
//! Every process must come to the same place, whatever its environment says of temporary files, so that is not asked; one
//! variable, [`DIRECTORY`], can name another directory for all of them.

use super::local;
use crate::Hash;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that names the directory of sockets.
const DIRECTORY: &str = "ATTESTLOG_SOCKET_DIR";

/// The longest path that a socket can have everywhere (104 bytes with the final zero on some systems).
const LONGEST: usize = 103;

/// Where the socket of the store at `store` is.
pub(super) fn socket(store: &Path) -> io::Result<PathBuf> {
    // Through links and folders above, every process comes to the one name of the store.
    let store = store.canonicalize()?;
    let name = Hash::of(store.as_os_str().as_encoded_bytes()).to_string();
    let path = directory().join(format!("{}.sock", name.get(..32).unwrap_or(&name)));
    match path.as_os_str().len() > LONGEST {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: is too long for a socket; name a shorter {DIRECTORY}", path.display()),
        )),
        false => Ok(path),
    }
}

fn directory() -> PathBuf {
    if let Some(named) = std::env::var_os(DIRECTORY).filter(|d| !d.is_empty()) {
        return named.into();
    }
    let user = local::user();
    // Looked for by its fixed name: programs that a desktop starts and those that cron starts have different variables.
    let run = PathBuf::from(format!("/run/user/{user}"));
    if check(&run).is_ok() {
        return run.join("attestlog");
    }
    PathBuf::from(format!("/tmp/attestlog-{user}"))
}

/// Makes sure that the directory of sockets is there and private.
pub(super) fn prepare(socket: &Path) -> io::Result<()> {
    let Some(directory) = socket.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    check(directory)
}

/// Refuses a directory that somebody else could put something into. Links are not followed.
pub(super) fn check(directory: &Path) -> io::Result<()> {
    let about = std::fs::symlink_metadata(directory)?;
    #[cfg(unix)]
    let private = {
        use std::os::unix::fs::MetadataExt;
        about.uid() == local::user() && about.mode() & 0o077 == 0
    };
    #[cfg(not(unix))]
    let private = true;
    if about.is_dir() && private {
        return Ok(());
    }
    let message = format!(
        "{}: must be a directory of this user that nobody else may enter (mode 0700), and no link; remove it",
        directory.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}
