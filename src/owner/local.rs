//! Local sockets. Only this file knows the platform. A port to another platform needs the same few functions: on Windows,
//! named pipes with the same checks of the other end.

use std::io;

#[cfg(unix)]
pub(super) use unix::{Listener, Peer, Stream, bind, connect, home, is_alive, is_stopped, user};

#[cfg(not(unix))]
pub(super) use other::{Listener, Peer, Stream, bind, connect, home, is_alive, is_stopped, user};

/// Why there is no connection to a socket.
#[derive(Debug)]
pub(super) enum NoPeer {
    /// Nobody listens there, or the path does not exist.
    Nobody,
    /// Something at that path must not be trusted.
    Refused(String),
    /// The operating system returned an error.
    Io(io::Error),
}

#[cfg(unix)]
mod unix {
    use super::NoPeer;
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};

    pub(crate) type Stream = UnixStream;

    /// One end of a connection, as the kernel describes it.
    #[derive(Debug)]
    pub(crate) struct Peer {
        /// The process that connected or listened; 0 where the platform does not report it.
        pub process: u32,
        /// The name of the end that connected, which no other connection has while this one exists; empty where the platform
        /// gives none.
        pub name: Vec<u8>,
    }

    /// A listening socket; its path is removed when it is dropped.
    #[derive(Debug)]
    pub(crate) struct Listener {
        inner: UnixListener,
    }

    impl Listener {
        /// The next connection from a process of this user, with that process; `None` for a connection from another user.
        pub(crate) fn accept(&self) -> io::Result<Option<(Stream, Peer)>> {
            let (stream, address) = self.inner.accept()?;
            let (user_id, process) = peer(&stream)?;
            Ok((user_id == user()).then_some((stream, Peer { process, name: name(&address) })))
        }
    }

    /// The effective user of this process.
    pub(crate) fn user() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    /// This user's home directory, from the system's user database.
    pub(crate) fn home() -> Option<PathBuf> {
        Some(nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??.dir)
    }

    /// The user and the process at the other end (the process that connected or listened), as this process sees them. The
    /// process is 0 where the platform does not report it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn peer(stream: &Stream) -> io::Result<(u32, u32)> {
        let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
        Ok((peer.uid(), peer.pid().unsigned_abs()))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn peer(stream: &Stream) -> io::Result<(u32, u32)> {
        Ok((nix::unistd::getpeereid(stream)?.0.as_raw(), 0))
    }

    #[cfg(target_os = "linux")]
    fn name(address: &std::os::unix::net::SocketAddr) -> Vec<u8> {
        std::os::linux::net::SocketAddrExt::as_abstract_name(address).map(<[u8]>::to_vec).unwrap_or_default()
    }

    #[cfg(not(target_os = "linux"))]
    fn name(_: &std::os::unix::net::SocketAddr) -> Vec<u8> {
        Vec::new()
    }

    /// A connection whose near end has a name chosen by the kernel.
    #[cfg(target_os = "linux")]
    fn connected(path: &Path) -> io::Result<Stream> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
        use std::os::fd::AsRawFd;
        let end = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(end.as_raw_fd(), &UnixAddr::new_unnamed())?;
        connect(end.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(end.into())
    }

    #[cfg(not(target_os = "linux"))]
    fn connected(path: &Path) -> io::Result<Stream> {
        UnixStream::connect(path)
    }

    /// Whether a process of this user with this id exists.
    pub(crate) fn is_alive(process: u32) -> bool {
        let Ok(process) = i32::try_from(process) else { return true };
        process == 0
            || !matches!(
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), None),
                Err(nix::errno::Errno::ESRCH)
            )
    }

    /// Whether a process was stopped by a signal, as far as the system tells.
    pub(crate) fn is_stopped(process: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    }

    /// Connects to this user's socket at `path`; returns which process listens there, and the name of the near end.
    pub(crate) fn connect(path: &Path) -> Result<(Stream, Peer), NoPeer> {
        let about = match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(NoPeer::Nobody),
            other => other.map_err(NoPeer::Io)?,
        };
        if !about.file_type().is_socket() || about.uid() != user() {
            return Err(NoPeer::Refused(format!("{}: is not a socket of this user; remove it", path.display())));
        }
        let stream = match connected(path) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
                return Err(NoPeer::Nobody);
            }
            Err(e) => return Err(NoPeer::Io(e)),
        };
        match peer(&stream) {
            Ok((user_id, process)) if user_id == user() => {
                let address = stream.local_addr().map_err(NoPeer::Io)?;
                Ok((stream, Peer { process, name: name(&address) }))
            }
            Ok(_) => Err(NoPeer::Refused(format!("{}: another user listens there", path.display()))),
            Err(e) => Err(NoPeer::Io(e)),
        }
    }

    /// Listens at `path`. Only for the holder of the store's lock: a socket that already exists was left by a dead owner.
    pub(crate) fn bind(path: &Path) -> io::Result<Listener> {
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
            Ok(about) if about.file_type().is_socket() && about.uid() == user() => std::fs::remove_file(path)?,
            Ok(_) => {
                let message = format!("{}: is not a socket of this user; remove it", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
        }
        let inner = UnixListener::bind(path)?;
        // The directory is private already; the mode makes this visible on the socket too.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Listener { inner })
    }
}

#[cfg(not(unix))]
mod other {
    use super::NoPeer;
    use std::io;
    use std::path::Path;

    pub(crate) type Stream = std::net::TcpStream;

    #[derive(Debug)]
    pub(crate) struct Peer {
        pub process: u32,
        pub name: Vec<u8>,
    }

    #[derive(Debug)]
    pub(crate) struct Listener;

    impl Listener {
        pub(crate) fn accept(&self) -> io::Result<Option<(Stream, Peer)>> {
            Err(unsupported())
        }
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "sharing a store between processes is not made for this platform yet",
        )
    }

    pub(crate) fn user() -> u32 {
        0
    }

    pub(crate) fn home() -> Option<std::path::PathBuf> {
        None
    }

    pub(crate) fn is_alive(_: u32) -> bool {
        true
    }

    pub(crate) fn is_stopped(_: u32) -> bool {
        false
    }

    pub(crate) fn connect(_: &Path) -> Result<(Stream, Peer), NoPeer> {
        Err(NoPeer::Nobody)
    }

    pub(crate) fn bind(_: &Path) -> io::Result<Listener> {
        Err(unsupported())
    }
}
