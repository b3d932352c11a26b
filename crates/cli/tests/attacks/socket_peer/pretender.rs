//! A process of the same user pretends to have the store open, or stands between the owner and the others.

use super::*;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

/// A process that has locked the store's file and listens on its socket, without any of its keys. It answers that all is
/// well, whatever is asked.
struct Pretender {
    lock: File,
    socket: PathBuf,
    /// The calls and questions that were sent to it.
    taken: Arc<Mutex<Vec<u8>>>,
}

/// What it does with calls.
#[derive(Clone, Copy, PartialEq)]
enum Calls {
    Acknowledged,
    /// It ends the connection, as an owner does that is killed meanwhile.
    Lost,
    /// It says that it only reads and that it gives the store up, and keeps it.
    Kept,
    /// It says that it only reads, and nothing more.
    Silent,
}

const SHOW: u8 = 5;
/// What it answers, to whatever is asked.
const LIES: &str = "52";

impl Pretender {
    fn new(store: &Path, socket: &Path, id: &str, calls: Calls) -> Pretender {
        let lock = File::options().read(true).write(true).open(store).unwrap();
        lock.lock().unwrap();
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let mut hello = vec![7];
        text(&mut hello, "0.1.0-dev");
        integer(&mut hello, std::process::id().into());
        text(&mut hello, id);
        hello.extend_from_slice(&[7; 32]);
        hello.push(u8::from(matches!(calls, Calls::Kept | Calls::Silent)));
        let inside = taken.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (hello, taken) = (hello.clone(), inside.clone());
                std::thread::spawn(move || Pretender::serve(Peer(stream), &hello, &taken, calls));
            }
        });
        Pretender { lock, socket: socket.to_owned(), taken }
    }

    fn serve(mut peer: Peer, hello: &[u8], taken: &Mutex<Vec<u8>>, calls: Calls) {
        peer.say(hello);
        while let Some(said) = peer.hear() {
            match said[0] {
                GIVE_WAY if calls == Calls::Kept => peer.say(&[GAVE_WAY]),
                PROVE => peer.say(&[0]),
                SHOW => peer.say(&[&[5, 64][..], &[1; 64]].concat()),
                RECORD => {
                    taken.lock().unwrap().extend_from_slice(&said);
                    if calls == Calls::Lost {
                        return;
                    }
                    peer.say(&[&[1, 1, 52][..], &[5; 32]].concat());
                }
                ASK => {
                    taken.lock().unwrap().extend_from_slice(&said);
                    if said.windows(11).any(|name| name == b"ReleaseHold") {
                        return;
                    }
                    let damage = said.windows(9).any(|name| name == b"GetDamage");
                    let values = said.windows(13).any(|name| name == b"UnknownValues");
                    let mut out = vec![2];
                    text(
                        &mut out,
                        if damage {
                            "null"
                        } else if values {
                            "[]"
                        } else {
                            LIES
                        },
                    );
                    peer.say(&out);
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

/// A process without a key locked the store and listened on its socket. `record` printed receipts that it had made up,
/// `verify` printed its text with a pinned key, `erase` and holds seemed to succeed, and it received the calls before any
/// redaction. Clients that had the key proved it to that process; it proved nothing to them.
#[test]
fn who_locks_the_file_is_not_believed_by_those_who_know_the_key() {
    let owned = Owned::new();
    let id = owned.id();
    let socket = owned.socket();
    let place = &owned.place;
    owned.kill();
    let before = std::fs::read(place.path("s")).unwrap();
    let pretender = Pretender::new(&place.path("s"), &socket, &id, Calls::Acknowledged);
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
    // The attacker removes the key file, so that it seems that nobody has a key; or puts another one there.
    std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
    let ran = owned.run(&[&["record", "s", "secret"][..], &with_key].concat()).code(3);
    assert!(ran.err.contains("a passphrase was given and no key file is there"), "{}", ran.err);
    place.run(&["init", "his"]).ok();
    std::fs::rename(place.path("his.key"), place.path("s.key")).unwrap();
    let ran = owned.run(&[&["verify", "s"][..], &with_key].concat()).code(3);
    assert!(ran.err.contains("not protected by one"), "{}", ran.err);
    assert!(pretender.taken.lock().unwrap().is_empty());
    // A client that cannot check the owner is told whose claim it reads.
    let ran =
        owned.run(&["query", "s", "--count", "--kind", "tool_call", "--trigger", "user_request", "--key", NOWHERE]);
    assert!(ran.err.contains(&me) && ran.err.contains("proven nothing"), "{}", ran.err);
    assert_eq!(ran.ok().trim(), LIES);
    // A change whose owner goes in the middle of it is not sent to the next: nobody knows whether it was made.
    let release = ["hold", "release", "s", "3", "--actor", "a", "--reason", "r", "--key", NOWHERE];
    let ran = owned.run(&release).code(3);
    assert!(ran.err.contains("it is not known whether it was done; look at the log first"), "{}", ran.err);
    let sent = pretender.taken.lock().unwrap().windows(11).filter(|name| name == b"ReleaseHold").count();
    assert_eq!(sent, 1);
    // What he answers and nobody can understand is his failure, not bad input.
    let hold = ["hold", "place", "s", "--case", "k", "--everything", "--actor", "a", "--reason", "r", "--key", NOWHERE];
    let ran = owned.run(&hold).code(3);
    assert!(ran.err.contains("cannot be understood"), "{}", ran.err);
    pretender.stop();
    std::fs::rename(place.path("away"), place.path("s.key")).unwrap();
    assert!(std::fs::read(place.path("s")).unwrap() == before, "and nothing was done to the store");
    owned.run(&[&["record", "s", "secret"][..], &with_key].concat()).ok();
}

/// Owners ended one after the other, each after it had the calls and before it answered. The sender gave up with an error
/// that means that nothing was recorded.
#[test]
fn calls_whose_owners_all_ended_are_perhaps_recorded() {
    let owned = Owned::new();
    let (id, socket) = (owned.id(), owned.socket());
    owned.kill();
    let pretender = Pretender::new(&owned.place.path("s"), &socket, &id, Calls::Lost);
    let ran = owned.run_with(&["record", "s", "--key", NOWHERE], &call("c", "u", "t", "")).code(3);
    assert!(ran.err.contains("it is not known whether this was recorded"), "{}", ran.err);
    assert!(!pretender.taken.lock().unwrap().is_empty());
    pretender.stop();
}

/// A process that has the store locked says that it only reads, so that others ask it to give the store up before they have any
/// proof. It gets nothing but that question, and they end in a bounded time and say which process it is (R72, R96).
#[test]
fn who_only_says_that_it_reads_gets_no_call_and_keeps_nobody_for_ever() {
    let owned = Owned::new();
    let (id, socket) = (owned.id(), owned.socket());
    owned.kill();
    for (calls, why) in [(Calls::Kept, "says that it only reads"), (Calls::Silent, "does not answer")] {
        let pretender = Pretender::new(&owned.place.path("s"), &socket, &id, calls);
        for key in [&["--passphrase-file", "passphrase"][..], &["--key", NOWHERE]] {
            let ran = owned.run_with(&[&["record", "s"][..], key].concat(), &call("c", "u", "t", "")).code(3);
            assert!(
                ran.err.contains(&format!("process {}", std::process::id())) && ran.err.contains(why),
                "{}",
                ran.err
            );
        }
        assert!(pretender.taken.lock().unwrap().is_empty(), "nothing was sent");
        pretender.stop();
    }
    owned.run_with(&["record", "s", "--passphrase-file", "passphrase"], &call("c", "u", "t", "")).ok();
}

/// A process in between forwards what both ends say, so the owner's proof is genuine. But it names the process that the
/// kernel saw.
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
