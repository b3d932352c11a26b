//! Another process of the same user at the owner's socket.
#![cfg(unix)]

mod becoming;
mod crowding;
mod pretender;
mod reader;

use super::common::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const SSN: &str = "460-89-9847";
const NOWHERE: &str = "/nonexistent/key";

/// A store whose key file has a passphrase that only its owner knows, with sealed values of a patient.
struct Owned {
    place: Place,
    owner: Child,
}

impl Owned {
    fn new() -> Owned {
        let place = Place::empty();
        let policy = "[redaction]\nfields = { ssn = \"seal\" }\nfacets = { patient = \"pseudonymise\" }\n";
        place.write("p.toml", policy);
        place.write("passphrase", "correct horse\n");
        let public = place.run(&["init", "s", "--config", "p.toml", "--passphrase-file", "passphrase"]).ok();
        place.write("public", public);
        let line = call("c", "u", "t", &format!(r#""patient_id":"P-1","arguments":{{"ssn":"{SSN}","x":1}}"#));
        place.run_with(&["record", "s", "--no-alerts", "--passphrase-file", "passphrase"], line.as_bytes()).ok();
        let mut owner = Owned::command_in(&place, &["serve", "s", "--passphrase-file", "passphrase"]).spawn().unwrap();
        // It prints a message when it serves.
        let mut said = [0; 16];
        owner.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        Owned { place, owner }
    }

    fn command_in(place: &Place, args: &[&str]) -> Command {
        let mut command = place.command(args);
        command.env("ATTESTLOG_SOCKET_DIR", place.path("sockets"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = Owned::command_in(&self.place, args);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    fn size(&self) -> String {
        self.run(&["query", "s", "--count", "--key", NOWHERE]).ok()
    }

    fn socket(&self) -> PathBuf {
        std::fs::read_dir(self.place.path("sockets")).unwrap().next().unwrap().unwrap().path()
    }

    /// The id of the store, which an owner says.
    fn id(&self) -> String {
        let genesis = self.run(&["query", "s", "--json", "--limit", "1", "--key", NOWHERE]).ok();
        genesis.split("\"store_id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    fn peer(&self) -> Peer {
        Peer::new(&self.socket())
    }

    fn kill(&self) {
        let killed = Command::new("kill").args(["-KILL", &self.owner.id().to_string()]).status().unwrap();
        assert!(killed.success());
        // Its lock ends with it: whoever gets the lock knows that it has ended.
        let store = std::fs::File::open(self.place.path("s")).unwrap();
        store.lock().unwrap();
    }

    /// The peak resident memory of the owner.
    fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.owner.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.owner.kill();
        self.owner.wait().unwrap();
    }
}

/// A hand-written client of the socket: frames with a length, a format byte, and an encoded value.
struct Peer(UnixStream);

const HELLO: &[u8] = &[0, 7];
const PROVE: u8 = 1;
const RECORD: u8 = 2;
const ASK: u8 = 3;
const GIVE_WAY: u8 = 6;
const GAVE_WAY: u8 = 6;
const FAILED: u8 = 3;

fn text(out: &mut Vec<u8>, text: &str) {
    integer(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

impl Peer {
    fn new(socket: &Path) -> Peer {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Peer(stream)
    }

    /// A client after both sides have sent their hello.
    fn greeted(socket: &Path) -> Peer {
        let mut peer = Peer::new(socket);
        peer.hear().expect("the owner's hello");
        peer.say(HELLO);
        peer
    }

    fn say(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len() + 1).unwrap();
        self.0.write_all(&[&length.to_le_bytes()[..], &[1], value].concat()).unwrap();
    }

    /// The owner's next message, without its format byte; `None` if the owner has closed the connection.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).ok()?;
        let mut value = vec![0; u32::from_le_bytes(head) as usize];
        self.0.read_exact(&mut value).ok()?;
        Some(value.split_off(1))
    }

    /// Asks for one of the library's operations, by its name; gives the answer.
    fn ask(&mut self, name: &str, members: &str) -> Vec<u8> {
        let mut value = vec![ASK];
        text(&mut value, name);
        // It says that it goes on in spite of damage.
        value.push(1);
        text(&mut value, members);
        self.say(&value);
        self.hear().expect("an answer")
    }
}

fn integer(out: &mut Vec<u8>, value: u64) {
    let (tag, bytes) = match value {
        0..251 => (value as u8, 0),
        251..0x1_0000 => (251, 2),
        0x1_0000..0x1_0000_0000 => (252, 4),
        _ => (253, 8),
    };
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes()[..bytes]);
}

/// Whoever speaks to the socket by hand, without a proof, asks for what signs, reveals, destroys or writes files, for what is no operation, and
/// with members that are none (I13).
#[test]
fn a_request_without_a_proof_is_refused_whatever_it_says() {
    let owned = Owned::new();
    let before = owned.size();
    let by = r#"{"actor":"a","reason":"r"}"#;
    let refused = [
        ("Checkpoint", "{}".to_owned()),
        ("Reveal", format!(r#"{{"seq":2,"path":"arguments.ssn","by":{by}}}"#)),
        ("Erase", format!(r#"{{"subject":"P-1","by":{by}}}"#)),
        ("Purge", r#"{"actor":"a"}"#.to_owned()),
        ("BackUp", format!(r#"{{"dest":"{}"}}"#, owned.place.path("copy").display())),
        ("Nothing", "{}".to_owned()),
        ("GetEntry", "{}".to_owned()),
        ("GetEntry", r#"{"seq":0,"more":1}"#.to_owned()),
        ("GetEntry", "[".repeat(1 << 20)),
        ("GetEntry", "\"".to_owned()),
    ];
    let mut peer = Peer::greeted(&owned.socket());
    for (name, members) in &refused {
        let said = peer.ask(name, members);
        assert_eq!(said[0], FAILED, "{name}: {}", String::from_utf8_lossy(&said));
        assert!(!String::from_utf8_lossy(&said).contains(SSN));
    }
    assert_ne!(peer.ask("GetEntry", r#"{"seq":0}"#)[0], FAILED, "the connection is as good as before");
    assert_eq!(owned.size(), before, "nothing was done");
    assert!(!owned.place.path("copy").exists());
}

/// A call with these arguments, in its wire form.
fn record(arguments: &str) -> Vec<u8> {
    record_as(arguments, None, None)
}

/// The same with a sender given by the caller, or with a number of the sender derived from a secret.
fn record_as(arguments: &str, sender: Option<(&str, u64)>, own: Option<u64>) -> Vec<u8> {
    let mut value = vec![RECORD, 1, 0];
    ["by hand", "u", "t"].iter().for_each(|name| text(&mut value, name));
    // No time, turn, model, agent or server.
    value.extend_from_slice(&[0; 5]);
    value.push(1);
    text(&mut value, arguments);
    // No result, outcome or duration; no metadata.
    value.extend_from_slice(&[0; 3]);
    text(&mut value, "{}");
    // Nothing else: trigger, id, what it follows, patients, purpose, emergency, grant, back-filled, whether it is a late
    // answer, class, end, restated.
    value.extend_from_slice(&[0; 12]);
    value.push(u8::from(sender.is_some()));
    if let Some((id, number)) = sender {
        text(&mut value, id);
        integer(&mut value, number);
    }
    // No circumstances, and no call whose details these are.
    value.extend_from_slice(&[0; 2]);
    // Errors do not name the call by its index.
    value.extend_from_slice(&[0, u8::from(own.is_some())]);
    if let Some(number) = own {
        value.extend_from_slice(&[6; 32]);
        integer(&mut value, number);
    }
    value
}

/// The owner had the keys and asked nobody for them: passphrase and key were only checked by the client. With a key file
/// that does not exist, `reveal` showed the sealed value, and `query --patient`, `checkpoint`, `keys rotate` and `erase`
/// worked as they do for those who have the key.
#[test]
fn who_has_no_key_does_not_use_the_owners() {
    let owned = Owned::new();
    let before = owned.size();
    let policy = owned.place.path("p.toml");
    let because = ["--actor", "a", "--reason", "r"];
    let refused: [&[&str]; 13] = [
        &["reveal", "s", "2", "arguments.ssn"],
        &["erase", "s", "--subject", "P-1"],
        &["checkpoint", "s"],
        &["prove", "s", "2"],
        &["prove", "s", "2", "--reveal", "arguments.ssn"],
        &["keys", "rotate", "s"],
        &["keys", "rotate", "s", "--pseudonyms"],
        &["policy", "set", "s", policy.to_str().unwrap()],
        &["hold", "place", "s", "--case", "k", "--everything"],
        &["purge", "s", "--actor", "a"],
        &["clock", "confirm", "s"],
        &["backup", "s", "copy"],
        &["query", "s", "--patient", "P-1"],
    ];
    for args in refused {
        let wants = matches!(args[0], "reveal" | "erase" | "hold" | "clock");
        let args = [args, if wants { &because[..] } else { &[] }, &["--key", NOWHERE]].concat();
        let ran = owned.run(&args).code(3);
        assert!(ran.err.contains("key"), "{args:?}: {}", ran.err);
        assert!(!ran.out.contains(SSN) && !ran.err.contains(SSN), "{args:?}");
    }
    assert_eq!(owned.size(), before, "nothing was recorded");
    // Anybody who has the file can read this.
    assert!(owned.run(&["timeline", "s", "c", "--key", NOWHERE]).ok().contains("t"));
    owned.run(&["verify", "s", "--key", NOWHERE]).ok();
    owned.run(&["stats", "s", "--key", NOWHERE]).ok();
    // Without the passphrase the key file is useless.
    owned.run(&["query", "s"]).code(3);
    let with_key = |args: &[&str]| owned.run(&[args, &["--passphrase-file", "passphrase"]].concat());
    assert_eq!(with_key(&["query", "s", "--patient", "P-1", "--count"]).ok(), "1\n");
    assert!(with_key(&["reveal", "s", "2", "arguments.ssn", "--actor", "a", "--reason", "r"]).ok().contains(SSN));
}

/// The same with a hand-written client, without our program in between: an invalid proof ends the connection, and nothing after it is
/// read.
#[test]
fn a_wrong_proof_ends_the_connection() {
    let owned = Owned::new();
    let mut peer = Peer::greeted(&owned.socket());
    peer.say(&[&[PROVE][..], &[0; 32]].concat());
    assert_eq!(peer.hear().unwrap()[0], FAILED);
    assert_eq!(peer.hear(), None);
    // The challenge is different each time.
    let hello = || owned.peer().hear().unwrap();
    assert_ne!(hello(), hello());
}

/// Somebody who kept the key file from before a rotation can sign nothing with it. Through the owner, which has the new
/// one, they could.
#[test]
fn an_older_copy_of_the_key_file_is_no_proof() {
    let owned = Owned::new();
    std::fs::copy(owned.place.path("s.key"), owned.place.path("old.key")).unwrap();
    let with =
        |key: &str, args: &[&str]| owned.run(&[args, &["--key", key, "--passphrase-file", "passphrase"]].concat());
    with("old.key", &["checkpoint", "s"]).ok();
    with("s.key", &["keys", "rotate", "s"]).ok();
    let ran = with("old.key", &["checkpoint", "s"]).code(3);
    assert!(ran.err.contains("older copy"), "{}", ran.err);
    with("s.key", &["checkpoint", "s"]).ok();
}

/// The owner opened and wrote the files that a command named, with its own rights and in its own namespace, whoever had
/// sent the command. Now a command reads and writes its files itself, and who proves no key can name none to the owner.
#[test]
fn who_has_no_key_names_no_file_to_the_owner() {
    let owned = Owned::new();
    owned.run(&["export", "s", "--format", "jsonl", "-o", "out", "--key", NOWHERE]).ok();
    assert!(std::fs::read_to_string(owned.place.path("out")).unwrap().contains("tool_call"), "by the command itself");
    let ran = owned.run(&["verify", "s", "--against", "p.toml", "--key", NOWHERE]).code(2);
    assert!(ran.err.contains("p.toml"), "{}", ran.err);
    let target = owned.place.path("target");
    let target = target.to_str().unwrap();
    let options = r#"{"against":[],"against_unreadable":[]}"#;
    let asked = [
        ("BackUp", format!(r#"{{"dest":"{target}"}}"#)),
        ("WriteEvidence", format!(r#"{{"dir":"{target}","options":{options}}}"#)),
        ("WriteSignedEvidence", format!(r#"{{"size":2,"dir":"{target}","options":{options}}}"#)),
        ("SetAnchors", format!(r#"{{"anchors":"[[anchor]]\nfile = '{target}'\n"}}"#)),
        ("SetReceivers", format!(r#"{{"receivers":"[[receivers]]\nfile = '{target}'\n"}}"#)),
    ];
    let mut peer = Peer::greeted(&owned.socket());
    for (name, members) in asked {
        let said = peer.ask(name, &members);
        let said = (said[0], String::from_utf8_lossy(&said).into_owned());
        assert!(said.0 == FAILED && said.1.contains("prove that they have its key"), "{name}: {}", said.1);
    }
    owned.run_with(&["record", "s", "--key", NOWHERE], &call("c", "u", "t", "")).ok();
    assert!(!Path::new(target).exists());
}

/// A call that was sent as already sanitised was stored as it came. Now there is no such option: the owner prepares
/// everything that is sent.
#[test]
fn a_call_that_is_sent_by_hand_is_sanitised_by_the_owner() {
    let owned = Owned::new();
    let mut peer = Peer::greeted(&owned.socket());
    peer.say(&record(&format!(r#"{{"password":"hunter2","ssn":"{SSN}","note":"card 4111 1111 1111 1111"}}"#)));
    assert_ne!(peer.hear().expect("an answer")[0], FAILED);
    let line = owned.run(&["query", "s", "--json", "--conversation", "by hand", "--key", NOWHERE]).ok();
    assert!(line.contains("treated") && line.contains("sealed"), "{line}");
    for secret in ["hunter2", SSN, "4111"] {
        assert!(!line.contains(secret), "{secret}: {line}");
    }
    // An object that imitates a sealed value, with a key that never existed.
    let posed = r#"{"x":{"sealed":{"v":1,"subject":"00","ct":"AA==","commitment":"00"}}}"#;
    peer.say(&record(posed));
    assert_ne!(peer.hear().expect("an answer")[0], FAILED);
    let verified = owned.run(&["verify", "s", "--key", NOWHERE]).ok();
    assert!(!verified.contains("missing"), "{verified}");
    // The same through the program, without a key: an agent that records needs none.
    let line = call("no key", "u", "t", r#""arguments":{"password":"hunter2"}"#);
    owned.run_with(&["record", "s", "--key", NOWHERE], &line).ok();
    let line = owned.run(&["query", "s", "--json", "--conversation", "no key", "--key", NOWHERE]).ok();
    assert!(!line.contains("hunter2"), "{line}");
}

/// 256 idle connections took all places, and nobody could record any more.
#[test]
fn idle_connections_keep_nobody_out() {
    let owned = Owned::new();
    let silent: Vec<Peer> = (0..300).map(|_| owned.peer()).collect();
    let greeted: Vec<Peer> = (0..300).map(|_| Peer::greeted(&owned.socket())).collect();
    let line = call("through", "u", "t", "");
    owned.run_with(&["record", "s", "--key", NOWHERE], &line).ok();
    assert_eq!(owned.run(&["query", "s", "--count", "--conversation", "through", "--key", NOWHERE]).ok(), "1\n");
    drop((silent, greeted));
    owned.run(&["verify", "s", "--key", NOWHERE]).ok();
}

/// A frame took many times its length in memory, and there was no bound on how many were read at once.
#[test]
fn a_long_frame_costs_its_length_and_little_more() {
    let owned = Owned::new();
    let before = owned.most_memory();
    // 240 MB: refused by its length.
    let mut peer = Peer::greeted(&owned.socket());
    peer.0.write_all(&(240_000_000u32).to_le_bytes()).unwrap();
    assert_eq!(peer.hear(), None);
    // Six clients send frames of 6 MB at once, each with a single text: there is room for two, the others wait.
    let frame = record(&format!("{{\"x\":\"{}\"}}", "y y".repeat(2_000_000)));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut peer = Peer::greeted(&owned.socket());
                peer.say(&frame);
                assert_eq!(peer.hear().expect("an answer")[0], FAILED, "too large for an entry");
            });
        }
    });
    let grown = owned.most_memory() - before;
    println!("one frame of 240 MB and six of 6 MB at once: {} MB of memory", grown / 1_000_000);
    assert!(grown < 6 * (16 << 20), "{grown}");
}

/// A stopped owner kept readers waiting for a minute, while they retried again and again, and they were then told that it
/// had ended.
#[test]
fn a_stopped_owner_is_named_and_not_asked_again() {
    let owned = Owned::new();
    let process = owned.owner.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
    signal("-STOP");
    let ran = owned.run(&["query", "s", "--count", "--key", NOWHERE]);
    signal("-CONT");
    let ran = ran.code(3);
    assert!(ran.err.contains(&format!("kill -CONT {process}")), "{}", ran.err);
    assert_eq!(owned.size(), owned.size());
}

/// A message of many small parts took 130 times its length to parse, before its length was looked at.
#[test]
fn a_request_that_is_too_long_is_not_parsed() {
    let owned = Owned::new();
    let before = owned.most_memory();
    let said = Peer::greeted(&owned.socket()).ask("GetEntry", &"[".repeat((32 << 20) + 1));
    assert_eq!(said[0], FAILED);
    assert!(String::from_utf8_lossy(&said).contains("the request is too large"), "{}", String::from_utf8_lossy(&said));
    let grown = owned.most_memory() - before;
    assert!(grown < 4 * (32 << 20), "{grown}");
}
