//! Where a store's socket is: in a private directory of the user. Its name is derived from the store's path, so it is short
//! enough for every platform, however deep the store lies.
//!
//! Every process must arrive at the same place, whatever its environment says about temporary files, so those variables are
//! ignored; one variable, [`DIRECTORY`], can name another directory for all processes. Without it there are several
//! candidates, because another user can block one: anybody can create a directory of any name in `/tmp`. The owner listens
//! in the first directory that it can use. The others try all of them in the same order, so they need not know which ones
//! were usable at that time.

use super::local;
use crate::Hash;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that names the directory of sockets.
const DIRECTORY: &str = "ATTESTLOG_SOCKET_DIR";

/// The longest socket path that works on every platform (some allow 104 bytes including the final zero).
const LONGEST: usize = 103;

/// Whether the store at `store` was not closed by whoever opened it last, or is open: opening it may take long.
pub fn was_left_open(store: &Path) -> bool {
    crate::store::was_left_open(store)
}

/// The possible sockets of the store at `store`, in order of preference.
pub(crate) fn sockets(store: &Path) -> io::Result<Vec<PathBuf>> {
    // With links resolved, every process arrives at the same name for the store.
    let store = store.canonicalize()?;
    let hash = Hash::of(store.as_os_str().as_encoded_bytes()).to_string();
    let name = format!("{}.sock", hash.get(..32).unwrap_or(&hash));
    let all: Vec<PathBuf> = directories().into_iter().map(|directory| directory.join(&name)).collect();
    let fits = |path: &PathBuf| path.as_os_str().len() <= LONGEST;
    match all.first() {
        Some(first) if !all.iter().any(fits) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: is too long for a socket; name a shorter {DIRECTORY}", first.display()),
        )),
        _ => Ok(all.into_iter().filter(fits).collect()),
    }
}

fn directories() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os(DIRECTORY).filter(|d| !d.is_empty()) {
        return vec![named.into()];
    }
    // Fixed directories, and the home directory from the system's user database: programs started by a desktop and by cron
    // have different environment variables.
    directories_of(local::user(), Path::new("/run/user"), Path::new("/tmp"), local::home())
}

fn directories_of(user: u32, run: &Path, tmp: &Path, home: Option<PathBuf>) -> Vec<PathBuf> {
    let run = run.join(user.to_string());
    let run = check(&run).is_ok().then(|| run.join("attestlog"));
    let tmp = tmp.join(format!("attestlog-{user}"));
    let home = home.filter(|home| home.is_absolute()).map(|home| home.join(".attestlog"));
    run.into_iter().chain([tmp]).chain(home).collect()
}

/// Calls `listen` at each of these places until one works. Returns where it listens, or what is wrong with each place.
pub(super) fn first_of<T>(
    sockets: Vec<PathBuf>,
    mut listen: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    let (mut kind, mut wrong) = (io::ErrorKind::NotFound, Vec::new());
    for socket in sockets {
        match prepare(&socket).and_then(|()| listen(&socket)) {
            Ok(listening) => return Ok((listening, socket)),
            Err(e) => {
                kind = e.kind();
                wrong.push(e.to_string());
            }
        }
    }
    let message = format!(
        "there is no private directory for the socket through which other processes reach this store: {}. Make one that only this \
         user may enter (mode 0700) and name it in {DIRECTORY}, for all processes that share the store",
        wrong.join("; ")
    );
    Err(io::Error::new(kind, message))
}

/// Creates the directory of sockets if necessary, and checks that it is private.
fn prepare(socket: &Path) -> io::Result<()> {
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

/// Refuses a directory in which another user could create files. Links are not followed.
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
        "{}: must be a directory of this user that nobody else may enter (mode 0700), and no link; remove it if it is yours",
        directory.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Another user created `/tmp/attestlog-UID` before this user did, and no process could share a store any more.
    #[test]
    fn who_takes_the_name_in_tmp_is_walked_around() {
        let dir = tempfile::tempdir().unwrap();
        let (run, tmp, home) = (dir.path().join("run"), dir.path().join("tmp"), dir.path().join("home"));
        for folder in [&run, &tmp, &home] {
            fs::create_dir(folder).unwrap();
        }
        let user = local::user();
        let sockets = || -> Vec<PathBuf> {
            let all = directories_of(user, &run, &tmp, Some(home.clone()));
            all.into_iter().map(|directory| directory.join("x.sock")).collect()
        };
        let listens = |path: &Path| fs::write(path, "");
        // A directory that others may enter is refused like another user's; so is a file, or a link.
        let taken = tmp.join(format!("attestlog-{user}"));
        let plants: [&dyn Fn(); 3] = [
            &|| {
                fs::create_dir(&taken).unwrap();
                fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).unwrap();
            },
            &|| fs::write(&taken, "").unwrap(),
            &|| std::os::unix::fs::symlink(&home, &taken).unwrap(),
        ];
        for plant in plants {
            plant();
            let ((), socket) = first_of(sockets(), listens).unwrap();
            assert_eq!(socket, home.join(".attestlog/x.sock"));
            // The obstacle is removed afterwards: a process that looks now still finds the place where the owner listens.
            let _ = fs::remove_file(&taken).or_else(|_| fs::remove_dir(&taken));
            assert!(sockets().contains(&socket));
        }
        let ((), socket) = first_of(sockets(), listens).unwrap();
        assert_eq!(socket, taken.join("x.sock"));
        // An account has no home directory, and another user owns its name in /tmp: the message says what is wrong and what
        // to do. It used to say 'remove it' about a directory that the user could not remove.
        fs::remove_file(&socket).unwrap();
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).unwrap();
        let alone =
            directories_of(user, &run, &tmp, None).into_iter().map(|directory| directory.join("x.sock")).collect();
        let e = first_of(alone, listens).unwrap_err().to_string();
        assert!(e.contains(taken.to_str().unwrap()) && e.contains(DIRECTORY) && e.contains("0700"), "{e}");
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o700)).unwrap();
        let own = run.join(user.to_string());
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(first_of(sockets(), listens).unwrap().1, own.join("attestlog/x.sock"));
    }
}
