//! A process makes a socket, leaves it to another process, and then becomes the program: the kernel goes on reporting its
//! process id for everything that comes through that socket.
#![cfg(target_os = "linux")]

use super::*;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

/// Selects what this program does when a test has restarted it: see [`acts`].
const ROLE: &str = "ATTESTLOG_TEST_ROLE";
const FAKE: &str = "fake";
const BETWEEN: &str = "between";
const REAL: &str = "real";

/// Starts this program again, in a role.
fn acting(place: &Path, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "socket_peer::becoming::acts", "--nocapture"]).env(ROLE, role).current_dir(place);
    command.env("ATTESTLOG_SOCKET_DIR", place.join("sockets"));
    command
}

fn become_program(args: &[&str]) {
    let failed = Command::new(env!("CARGO_BIN_EXE_attestlog"))
        .args(args)
        .args(["--passphrase-file", "passphrase"])
        .env_remove(ROLE)
        .exec();
    panic!("{failed}");
}

/// The incoming connections, until none comes for a minute.
fn accepted(listener: UnixListener) -> impl Iterator<Item = UnixStream> {
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || while told.send(listener.accept().unwrap().0).is_ok() {});
    std::iter::from_fn(move || heard.recv_timeout(Duration::from_secs(60)).ok())
}

/// Forwards data in both directions until both sides have ended.
fn pass_on(near: UnixStream, far: UnixStream) {
    let one_way = |mut from: UnixStream, mut to: UnixStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    let there = one_way(near.try_clone().unwrap(), far.try_clone().unwrap());
    let back = one_way(far, near);
    there.join().unwrap();
    back.join().unwrap();
}

/// Not a test of its own, but the code of the processes of the tests below: it ends at once unless one of them has started
/// it.
#[test]
#[allow(clippy::zombie_processes, reason = "this process becomes another program, and its children end by themselves")]
fn acts() {
    let handed = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let Ok(role) = std::env::var(ROLE) else { return };
    match &*role {
        // Listens, leaves the socket to a child, and becomes the owner.
        "owner" | "owner, with a way of its own" => {
            let listener = UnixListener::bind(FAKE).unwrap();
            let to = if role == "owner" { REAL } else { BETWEEN };
            let mut child = acting(Path::new("."), "relay");
            child.env("TO", to).stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
            child.spawn().unwrap();
            become_program(&["serve", "s"]);
        }
        "relay" => {
            for near in accepted(UnixListener::from(handed(std::io::stdin().as_fd()))) {
                let way = UnixStream::connect(std::env::var("TO").unwrap());
                let Ok(far) = way.or_else(|_| UnixStream::connect(REAL)) else { continue };
                std::thread::spawn(move || pass_on(near, far));
            }
        }
        // Connects to the owner, leaves the connection to a child, and becomes the client.
        "asker" => {
            let far = UnixStream::connect(REAL).unwrap();
            let listener = UnixListener::bind(BETWEEN).unwrap();
            let mut child = acting(Path::new("."), "way");
            child.stdin(OwnedFd::from(far)).stderr(OwnedFd::from(listener)).stdout(Stdio::null());
            child.spawn().unwrap();
            become_program(&["query", "s", "--patient", "P-1", "--count"]);
        }
        "way" => {
            // It has one connection from that process.
            let near = accepted(UnixListener::from(handed(std::io::stderr().as_fd()))).next().unwrap();
            pass_on(near, UnixStream::from(handed(std::io::stdin().as_fd())));
        }
        other => panic!("{other}"),
    }
}

/// An owner whose process id the kernel reports for the process that actually holds the socket.
fn owned_by(role: &str) -> Owned {
    let mut owned = Owned::new();
    owned.kill();
    owned.owner.wait().unwrap();
    let place = owned.place.path(".");
    let mut command = acting(&place, role);
    owned.owner = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 16];
    owned.owner.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    let socket = owned.socket();
    std::fs::rename(&socket, place.join(REAL)).unwrap();
    std::fs::rename(place.join(FAKE), &socket).unwrap();
    owned
}

/// A process listened, gave the socket to a child, and became the owner: to clients the kernel names the owner, and the
/// child forwards both directions. The owner sees the child's process id, which is not the client's.
#[test]
fn who_listened_before_it_became_the_owner_stands_not_in_between() {
    let owned = owned_by("owner");
    let ran = owned.run(&["query", "s", "--patient", "P-1", "--count", "--passphrase-file", "passphrase"]).code(3);
    assert!(ran.err.contains("does not show"), "{ran:?}");
}

/// The attack: the client had done the same. It had connected to the owner and given that connection to a child before it
/// became the client program, so both ends were told the right process ids, both proofs were valid, and the process in
/// between could read every call before it was redacted, and change it.
#[test]
fn nor_where_the_asker_connected_before_it_asked() {
    let owned = owned_by("owner, with a way of its own");
    let asker = acting(&owned.place.path("."), "asker").output().unwrap();
    let said = String::from_utf8_lossy(&asker.stderr);
    // Output of libtest before it becomes the program.
    let answer = String::from_utf8_lossy(&asker.stdout).replace("running 1 test", "");
    assert_eq!((asker.status.code(), answer.trim()), (Some(3), ""), "{said}");
}
