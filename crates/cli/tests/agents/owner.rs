//! Many processes on one store: who owns it, what is trusted about a socket, and what happens when the owner exits.
#![cfg(unix)]

use crate::common::*;
use attestlog::host::Random;
use attestlog::json::Json;
use attestlog::owner::reach;
use attestlog::{ErrorKind, Options, Sender, ToolCall};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A store with its sockets in a directory of their own, and a process that owns it.
struct Shared {
    place: Place,
    sockets: PathBuf,
    owner: Option<Child>,
}

impl Shared {
    fn new() -> Shared {
        let place = Place::with_store();
        let sockets = place.path("sockets");
        Shared { place, sockets, owner: None }
    }

    fn owned() -> Shared {
        let mut shared = Shared::new();
        shared.serve();
        shared
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("ATTESTLOG_SOCKET_DIR", &self.sockets);
        command
    }

    fn serve(&mut self) {
        let mut child = self.command(&["serve", "s"]).spawn().unwrap();
        // It prints a message when it serves.
        let mut said = [0; 16];
        child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        self.owner = Some(child);
    }

    fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    fn record(&self, conversation: &str) -> Ran {
        let file = self.place.write("line", call(conversation, "u", "t", r#""arguments":{"password":"hunter2"}"#));
        self.run(&["record", "s", file.to_str().unwrap()])
    }

    fn socket(&self) -> PathBuf {
        let mut all = std::fs::read_dir(&self.sockets).unwrap();
        all.next().expect("there is a socket").unwrap().path()
    }

    fn kill(&mut self) {
        let mut owner = self.owner.take().unwrap();
        owner.kill().unwrap();
        owner.wait().unwrap();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.owner.is_some() {
            self.kill();
        }
    }
}

#[test]
fn commands_do_not_notice_that_another_process_has_the_store() {
    let alone = Shared::new();
    let shared = Shared::owned();
    for of in [&alone, &shared] {
        of.record("c 1").ok();
        of.place.write("calls.jsonl", [call("c 2", "u", "t", ""), call("c 2", "v", "t", "")].concat());
        of.run(&["record", "s", "calls.jsonl"]).ok();
        assert_eq!(of.run(&["query", "s", "--kind", "tool_call", "--count"]).ok(), "3\n");
        assert_eq!(of.run(&["query", "s", "--conversation", "c 2", "--count"]).ok(), "2\n");
        assert!(of.run(&["timeline", "s", "c 1"]).ok().contains("REDACTED"));
        assert!(of.run(&["stats", "s", "--json"]).ok().contains("\"total_calls\":3"));
        of.run(&["verify", "s"]).ok();
        of.run(&["export", "s", "--format", "csv", "-o", "out.csv"]).ok();
        assert!(of.place.path("out.csv").exists(), "relative paths are the caller's");
        of.run(&["checkpoint", "s"]).ok();
        let hold = of.run(&["hold", "place", "s", "--actor", "a", "--reason", "r", "--case", "k", "--everything"]).ok();
        of.run(&["hold", "release", "s", hold.trim(), "--actor", "a", "--reason", "r"]).ok();
        of.run(&["prove", "s", "2"]).ok();
        of.run(&["keys", "rotate", "s"]).ok();
        of.run(&["keys", "rotate", "s", "--pseudonyms"]).ok();
        of.record("c 3").ok();
        assert_eq!(of.run(&["query", "s", "--limit", "x"]).code, 2);
        assert_eq!(of.run(&["reveal", "s", "2", "x", "--actor", "a", "--reason", "r"]).code, 2);
        let mut from_stdin = of.command(&["prove", "s", "--consistent-with", "-"]);
        let mut child = from_stdin.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(of.run(&["checkpoint", "s"]).ok().as_bytes()).unwrap();
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let sent = shared.run(&["query", "s", "--conversation", "c 1", "--json"]).ok();
    assert!(sent.contains("\"sender\":{\"id\":\"process-"), "it went through the socket: {sent}");
}

/// A random source that produces the number of a card.
#[derive(Debug)]
struct Card;

impl Random for Card {
    fn fill(&self, out: &mut [u8]) {
        out.iter_mut().enumerate().for_each(|(i, byte)| *byte = if i % 8 == 0 { 0x41 } else { 0x11 });
    }
}

/// A process used a random sender id of sixteen hexadecimal digits. Once in some thousand times it contained the number of
/// a card, and none of the process's records was accepted.
#[test]
fn no_process_sends_under_the_number_of_a_card() {
    let place = Place::with_store();
    let owner = Options::new().open(place.path("s")).unwrap();
    let other = Options::new().random(Arc::new(Card)).open(place.path("s")).unwrap();
    let seq = other.record(ToolCall::new("c", "u", "t")).unwrap().seq;
    drop((other, owner));
    let sender = place.run(&["query", "s", "--json"]).ok();
    let id = sender.split("\"id\":\"process-").nth(1).and_then(|rest| rest.split('"').next());
    assert!(id.is_some_and(|id| id.len() == 32 && id.chars().all(|c| ('a'..='p').contains(&c))), "{seq}: {sender}");
}

/// A process whose number was already used, by a row in the file or by chance, was told that it was another call, and its
/// call was not recorded.
#[test]
fn who_finds_his_number_taken_records_under_another_sender() {
    let place = Place::with_store();
    let open = |options: Options| options.open(place.path("s")).unwrap();
    let owner = open(Options::new());
    let same = || open(Options::new().random(Arc::new(attestlog::host::SeededRandom::new(1))));
    let (first, second) = (same(), same());
    let a = first.record(ToolCall::new("a", "u", "t")).unwrap();
    let b = second.record(ToolCall::new("b", "u", "t")).unwrap();
    assert_eq!(b.seq, a.seq + 1);
    let begun = second.begin(ToolCall::new("b", "u", "t")).unwrap();
    let end = begun.finish(|call| call.result(true)).unwrap();
    drop((second, first, owner));
    assert_eq!(place.count(&["--kind", "tool_call"]), 3);
    assert_eq!(end.seq, a.seq + 3);
}

#[test]
fn the_socket_is_private_and_its_path_short_however_deep_the_store_lies() {
    let shared = Shared::owned();
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&shared.sockets), mode(&shared.socket())), (0o700, 0o600));
    let deep = shared.place.path(&["a-rather-long-name-of-a-folder"; 12].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    let store = deep.join("s");
    shared.run(&["init", store.to_str().unwrap()]).ok();
    let shared = Options::new().open(&store).unwrap();
    let connection = reach(&store).unwrap().expect("it is shared");
    assert_eq!(connection.process(), std::process::id());
    shared.close().unwrap();
    assert!(reach(&store).unwrap().is_none(), "the socket went with it");
}

#[test]
fn a_dead_owner_s_socket_is_cleaned_up_and_another_takes_over() {
    let mut shared = Shared::owned();
    let socket = shared.socket();
    shared.record("before").ok();
    shared.kill();
    assert!(socket.exists(), "nobody could remove it");
    shared.record("after").ok();
    assert!(!socket.exists(), "who came next cleaned up");
    shared.serve();
    shared.record("again").ok();
    assert_eq!(shared.run(&["query", "s", "--kind", "tool_call", "--count"]).ok(), "3\n");
}

/// An owner was killed after it had sent an entry and before it reported that it had; the next owner showed the entry
/// again.
#[test]
fn tail_goes_on_when_the_owner_is_killed() {
    let mut shared = Shared::owned();
    shared.record("first").ok();
    let mut tail = shared.command(&["tail", "s", "--json", "--kind", "tool_call", "-n", "1"]).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || {
        let event = json(&lines.next().unwrap().unwrap());
        assert_eq!(event.get("target").and_then(Json::as_str), Some("tool_audit"));
        event.get("entry").and_then(|e| e.get("conversation_id")?.as_str()).unwrap().to_owned()
    };
    assert_eq!(next(), "first");
    shared.record("through").ok();
    assert_eq!(next(), "through");
    shared.kill();
    // Whichever process comes first owns the store now: the tail, or this one.
    shared.record("after").ok();
    assert_eq!(next(), "after");
    shared.record("again").ok();
    assert_eq!(next(), "again");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

/// The owner was killed while it gave a long answer: what it had said was all that the command said, and the command failed. Now the
/// answer goes on with the next owner, which may be the command itself, at the entry at which it stopped.
#[test]
fn a_long_answer_goes_on_when_the_owner_is_killed() {
    let mut shared = Shared::owned();
    let lines: String = (0..1500)
        .map(|i| call("long", "u", "t", &format!(r#""arguments":{{"i":{i},"x":"{}"}}"#, "so ".repeat(200))))
        .collect();
    shared.place.write("calls.jsonl", lines);
    shared.run(&["record", "s", "calls.jsonl", "--no-alerts"]).ok();
    for args in [&["query", "s", "--conversation", "long", "--json"][..], &["timeline", "s", "long", "--json"]] {
        let mut asking = shared.command(args).spawn().unwrap();
        let mut said = BufReader::new(asking.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut all: Vec<String> = said.by_ref().take(10).collect();
        shared.kill();
        all.extend(said);
        assert_eq!(asking.wait().unwrap().code(), Some(0));
        let number = |line: &String| json(line).get("arguments").and_then(|a| a.get("i")?.as_u64()).unwrap();
        assert_eq!(all.iter().map(number).collect::<Vec<_>>(), (0..1500).collect::<Vec<_>>(), "{args:?}");
        shared.serve();
    }
}

#[test]
fn serve_waits_for_its_turn_and_closes_cleanly() {
    let mut shared = Shared::owned();
    let mut second = shared.command(&["serve", "s"]).spawn().unwrap();
    let mut said = BufReader::new(second.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("takes over when it goes"));
    shared.kill();
    assert!(said.next().unwrap().unwrap().contains("serving"));
    shared.record("c").ok();
    let term = Command::new("kill").args(["-TERM", &second.id().to_string()]).status().unwrap();
    assert!(term.success());
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(std::fs::read_dir(&shared.sockets).unwrap().next().is_none(), "its socket went with it");
    let signed = shared.run(&["verify", "s", "--json"]).json();
    assert_eq!(signed.get("signed_size"), signed.get("size"), "closing signs");
}

/// Thirty calls were recorded through `serve`. Ten seconds later none of them was signed, `health` showed that rules had
/// not looked at them, and after a `kill -9` of the owner nothing was ever signed, without any message.
#[test]
fn whoever_stays_signs_what_others_recorded_and_says_how_far_rules_are() {
    let mut shared = Shared::owned();
    shared.record("c").ok();
    let end = Instant::now() + Duration::from_secs(120);
    let health = || shared.run(&["health", "s", "--json"]).json();
    let told = |health: &Json| {
        let behind = health.get("alerts").and_then(|alerts| alerts.get("behind")?.as_u64());
        health.get("signed_size") == health.get("size") && behind == Some(0)
    };
    while !told(&health()) {
        assert!(Instant::now() < end, "{}", health().to_canonical());
        std::thread::yield_now();
    }
    shared.kill();
    let left = shared.run(&["verify", "s", "--json"]).json();
    assert_eq!(left.get("signed_size"), left.get("size"));
}

#[test]
fn a_client_that_sends_rubbish_harms_nobody() {
    let shared = Shared::owned();
    let rubbish: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x04\0\0\0\x01\xff\xff\xff",
        b"\0\0\0\0",
        b"\x10\0\0\0",
        b"",
    ];
    let mut held = Vec::new();
    for bytes in rubbish {
        let mut stream = UnixStream::connect(shared.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        held.push(stream);
    }
    shared.record("c").ok();
    // Connections that sent something wrong are dropped; those that sent too little wait without holding up others.
    let mut answer = Vec::new();
    held[1].read_to_end(&mut answer).unwrap();
    drop(held);
    assert_eq!(shared.run(&["query", "s", "--kind", "tool_call", "--count"]).ok(), "1\n");
    shared.run(&["verify", "s"]).ok();
}

#[test]
fn what_is_planted_in_the_socket_s_place_is_refused() {
    // A file, and a link to a socket of the same user, at the socket's path.
    let mut shared = Shared::owned();
    let socket = shared.socket();
    shared.kill();
    let elsewhere = shared.place.path("elsewhere");
    let _listening = UnixListener::bind(&elsewhere).unwrap();
    for plant in [&|p: &Path| std::fs::write(p, "x").unwrap(), &|p: &Path| symlink(&elsewhere, p).unwrap()]
        as [&dyn Fn(&Path); 2]
    {
        let _ = std::fs::remove_file(&socket);
        plant(&socket);
        let ran = shared.run(&["query", "s"]).code(0);
        assert!(ran.err.contains("is not a socket of this user"), "{}", ran.err);
        assert!(std::fs::symlink_metadata(&socket).is_ok(), "and left where it is");
    }
    // A directory that others may enter, and a link to one.
    let open = Shared::new();
    std::fs::create_dir(&open.sockets).unwrap();
    std::fs::set_permissions(&open.sockets, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = open.run(&["query", "s"]).code(0);
    assert!(ran.err.contains("mode 0700"), "{}", ran.err);
    std::fs::remove_dir(&open.sockets).unwrap();
    let private = open.place.path("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&private, &open.sockets).unwrap();
    let ran = open.run(&["query", "s"]).code(0);
    assert!(ran.err.contains("no link"), "{}", ran.err);
}

#[test]
fn one_joint_takes_over_from_another_in_the_middle_of_a_call() {
    let place = Place::with_store();
    let open = || Options::new().open(place.path("s")).unwrap();
    let (first, second) = (open(), open());
    assert!(first.is_owner() && !second.is_owner());
    let begun = second.begin(ToolCall::new("c", "u", "t")).unwrap();
    let batch = second.record_batch((0..200).map(|i| ToolCall::new("c", "u", "t").turn(i))).unwrap();
    assert_eq!(batch.last().unwrap().seq - batch[0].seq, 199);
    first.close().unwrap();
    begun.finish(|call| call.result(true)).unwrap();
    assert!(second.is_owner());
    let third = open();
    let numbered = |n| ToolCall::new("c", "u", "t").sender(Sender::new("mine", n));
    let a = third.record(numbered(1)).unwrap();
    second.close().unwrap();
    assert_eq!(third.record(numbered(1)).unwrap(), a, "the number is known to the next owner");
    third.close().unwrap();
    assert_eq!(place.count(&["--kind", "tool_call"]), 202);
    place.run(&["verify", "s"]).ok();
}

#[test]
fn sealed_values_and_new_policies_reach_the_senders() {
    let place = Place::with_store();
    let open = || Options::new().open(place.path("s")).unwrap();
    let (owner, sender) = (open(), open());
    let call = || {
        let arguments = json(r#"{"note":"mail a@example.com"}"#);
        ToolCall::new("c", "dr_a", "t").patient("P-9").arguments(arguments)
    };
    sender.record(call()).unwrap();
    let policy = "[redaction]\ndetectors = { email = \"seal\" }\nfacets = { user = \"pseudonymise\" }\n";
    let policy = attestlog::PolicySet::from_toml(policy, "p.toml").unwrap();
    owner.retention().set_policies(policy).unwrap();
    let sealed = sender.record(call()).unwrap();
    let again = sender.record(call()).unwrap();
    let line = owner.entry(sealed.seq).unwrap().line();
    assert!(line.contains("\"sealed\"") && !line.contains("a@example.com") && !line.contains("dr_a"), "{line}");
    owner.keys().rotate_pseudonym_key().unwrap();
    assert!(owner.entry(again.seq).unwrap().line().contains("\"sealed\""));
    let rotated = sender.record(call()).unwrap();
    assert_ne!(owner.entry(rotated.seq).unwrap().line().find("ps_"), None);
    owner.close().unwrap();
    sender.close().unwrap();
    place.run(&["verify", "s"]).ok();
}

#[test]
fn a_store_that_is_not_shared_is_locked() {
    let place = Place::with_store();
    let log = Options::new().exclusive().open(place.path("s")).unwrap();
    let refused = Options::new().open(place.path("s")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Locked);
    log.close().unwrap();
}

/// Through the owner's socket an importer must get the same answers as from the store itself: about a call that differs,
/// about an answer that changed. This had never been tested.
#[test]
fn an_importer_through_an_owner_gets_the_same_answers_as_alone() {
    let message = |id: &str, answer: &str| {
        format!(
            r#"{{"role":"assistant","tool_calls":[{{"id":"{id}","function":{{"name":"t","arguments":"{{}}"}}}}]}},
            {{"role":"tool","tool_call_id":"{id}","content":"{answer}"}}"#
        )
    };
    let open = r#"{"role":"assistant","tool_calls":[{"id":"open","function":{"name":"t","arguments":"{}"}}]}"#;
    let file = |user: &str, messages: &[String]| {
        format!(r#"{{"id":"s","user_id":"{user}","messages":[{}]}}"#, messages.join(","))
    };
    let nameless = |messages: &[String]| format!("[{}]", messages.join(","));
    let unique = |n: u8| message(&format!("call_{n}kXw81LmZq07bTnRvYd2"), "x");
    let steps = [
        file("u", &[message("a", "one"), open.to_owned()]),
        file("u", &[message("a", "one"), open.to_owned()]),
        file("u", &[message("a", "one"), message("open", "late"), message("b", "two")]),
        file("u", &[message("a", "other"), message("open", "later"), message("b", "two")]),
        file("mallory", &[message("a", "one"), message("c", "three")]),
        nameless(&[unique(1), unique(2)]),
        nameless(&[unique(2), unique(3)]),
    ];
    let (alone, shared) = (Shared::new(), Shared::owned());
    for (step, (text, code)) in steps.iter().zip([0, 0, 0, 1, 1, 0, 0]).enumerate() {
        let import = |of: &Shared| {
            of.place.write("t.json", text);
            let mut args = vec!["import", "s", "--format", "openai-chat", "t.json", "--json"];
            if step >= 5 {
                args.extend(["--user", "u"]);
            }
            let ran = of.run(&args).code(code);
            let json = json(&ran.out);
            let figures = ["calls", "recorded", "already_there", "late_answers", "known_by_beginning", "unmatched"];
            let figures = figures.map(|key| json.get(key).and_then(Json::as_u64));
            let named = json.get("not_taken").and_then(Json::as_array).unwrap_or_default().iter();
            let named: Vec<_> = named.map(|one| (one.get("kind").cloned(), one.get("place").cloned())).collect();
            // The stores' own entries lie between them.
            (figures, named, ran.err.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
        };
        assert_eq!(import(&alone), import(&shared), "step {step}");
    }
}
