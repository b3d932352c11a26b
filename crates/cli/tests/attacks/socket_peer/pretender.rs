//! A process of the same user that pretends to have the store open, or stands between it and the others.

use super::*;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

/// Whoever has locked the store's file and listens on its socket, with none of its keys. It says that all is well, whatever is asked.
struct Pretender {
    lock: File,
    socket: PathBuf,
    /// Calls and commands that were sent to it.
    taken: Arc<Mutex<Vec<u8>>>,
}

const SHOW: u8 = 7;
const LIES: &str = "nothing wrong found: 52 entries checked in 9 ms";

impl Pretender {
    fn new(store: &Path, socket: &Path, id: &str) -> Pretender {
        let lock = File::options().read(true).write(true).open(store).unwrap();
        lock.lock().unwrap();
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let mut hello = vec![4];
        text(&mut hello, "0.1.0-dev");
        integer(&mut hello, std::process::id().into());
        text(&mut hello, id);
        hello.extend_from_slice(&[7; 32]);
        let inside = taken.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (hello, taken) = (hello.clone(), inside.clone());
                std::thread::spawn(move || Pretender::serve(Peer(stream), &hello, &taken));
            }
        });
        Pretender { lock, socket: socket.to_owned(), taken }
    }

    fn serve(mut peer: Peer, hello: &[u8], taken: &Mutex<Vec<u8>>) {
        peer.say(hello);
        while let Some(said) = peer.hear() {
            match said[0] {
                PROVE => peer.say(&[0]),
                SHOW => peer.say(&[&[9, 64][..], &[1; 64]].concat()),
                RECORD => {
                    taken.lock().unwrap().extend_from_slice(&said);
                    peer.say(&[&[1, 1, 52][..], &[5; 32]].concat());
                }
                RUN => {
                    taken.lock().unwrap().extend_from_slice(&said);
                    let mut out = vec![4];
                    text(&mut out, LIES);
                    peer.say(&out);
                    peer.say(&[EXIT, 0]);
                }
                _ => {}
            }
        }
    }

    fn stop(self) {
        std::fs::remove_file(&self.socket).unwrap();
        self.lock.unlock().unwrap();
    }
}

/// A process without a key locked the store and listened on its socket. `record` gave receipts of its making, `verify` printed its
/// text with a pinned key, `erase` and holds were done, for all that one could see, and it got the calls as they were before any
/// redaction. Those who had the key proved it to him; he proved nothing to them.
#[test]
fn who_locks_the_file_is_not_believed_by_those_who_know_the_key() {
    let owned = Owned::new();
    let genesis = owned.run(&["query", "s", "--json", "--limit", "1", "--key", NOWHERE]).ok();
    let id = genesis.split("\"store_id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let socket = owned.socket();
    let place = &owned.place;
    owned.kill();
    let before = std::fs::read(place.path("s")).unwrap();
    let pretender = Pretender::new(&place.path("s"), &socket, &id);
    place.write("secret", call("c", "u", "login", r#""arguments":{"password":"hunter2-secret"}"#));
    let with_key = ["--passphrase-file", "passphrase"];
    let pinned = ["--key", NOWHERE, "--public-key", "public"];
    let refused: [(&[&str], &[&str]); 5] = [
        (&["record", "s", "secret", "--receipts"], &with_key),
        (&["verify", "s", "--public-key", "public"], &with_key),
        (&["erase", "s", "--subject", "user:u", "--actor", "a", "--reason", "r"], &with_key),
        (&["record", "s", "secret", "--receipts"], &pinned),
        (&["verify", "s"], &pinned),
    ];
    let me = format!("process {} of this user", std::process::id());
    for (args, by) in refused {
        let ran = owned.run(&[args, by].concat()).code(3);
        assert!(ran.err.contains(&me) && ran.err.contains("does not show"), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
    assert!(pretender.taken.lock().unwrap().is_empty(), "nothing was sent");
    // He takes the key file away, so that nobody seems to have a key; or puts one of his own there.
    std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
    let ran = owned.run(&[&["record", "s", "secret"][..], &with_key].concat()).code(3);
    assert!(ran.err.contains("a passphrase was given and no key file is there"), "{}", ran.err);
    place.run(&["init", "his"]).ok();
    std::fs::rename(place.path("his.key"), place.path("s.key")).unwrap();
    let ran = owned.run(&[&["verify", "s"][..], &with_key].concat()).code(3);
    assert!(ran.err.contains("protected by none"), "{}", ran.err);
    assert!(pretender.taken.lock().unwrap().is_empty());
    // Who has nothing to tell him by is told whose word it is.
    let ran = owned.run(&["verify", "s", "--key", NOWHERE]);
    assert!(ran.err.contains(&me) && ran.err.contains("proven nothing"), "{}", ran.err);
    assert_eq!(ran.ok(), LIES);
    pretender.stop();
    std::fs::rename(place.path("away"), place.path("s.key")).unwrap();
    assert!(std::fs::read(place.path("s")).unwrap() == before, "and nothing was done to the store");
    owned.run(&[&["record", "s", "secret"][..], &with_key].concat()).ok();
}

/// Somebody in between passes on what both ends say, so the owner's proof is a real one. It names the process that the kernel saw.
#[test]
#[cfg(target_os = "linux")]
fn a_proof_that_is_passed_on_is_none() {
    let owned = Owned::new();
    let socket = owned.socket();
    let real = socket.with_file_name("real");
    std::fs::rename(&socket, &real).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut near, _)) = listener.accept() {
            let mut far = UnixStream::connect(&real).unwrap();
            let (mut from, mut to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut near, &mut far);
                let _ = far.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    let line = call("c", "u", "t", r#""arguments":{"password":"hunter2"}"#);
    for args in [&["query", "s"][..], &["record", "s"]] {
        let ran = owned.run_with(&[args, &["--passphrase-file", "passphrase"]].concat(), &line).code(3);
        assert!(ran.err.contains("does not show"), "{}", ran.err);
    }
    assert_eq!(owned.run(&["query", "s", "--tool", "t", "--count", "--key", NOWHERE]).ok(), "1\n");
}
