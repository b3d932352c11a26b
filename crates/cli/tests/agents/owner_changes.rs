//! Promise: changes that a command makes to alert rules, receivers and anchors take effect in the process that has the
//! store open (R83).
#![cfg(unix)]

use crate::common::*;
use attestlog::json::Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VIP: &str = "[[alerts]]\nname = 'vip'\nseverity = 'critical'\nattributes.vip = true\nkey = ['user', 'patient']\nwindow = '1h'\n\
                   count = 1\n";

struct Owned {
    place: Place,
    owner: Option<Child>,
}

impl Owned {
    /// A store that another process has open: `serve`, or the recorder in front of a server.
    fn by(args: &[&str]) -> Owned {
        let place = Place::with_store();
        let mut owned = Owned { place, owner: None };
        let mut owner = owned.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // `serve` prints a message when it serves; the server behind the recorder echoes what it is sent.
        if args[0] == "serve" {
            let mut said = [0; 16];
            owner.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        } else {
            owner.stdin.as_mut().unwrap().write_all(b"{}\n").unwrap();
            let mut line = String::new();
            BufReader::new(owner.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        }
        owned.owner = Some(owner);
        owned
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("ATTESTLOG_SOCKET_DIR", self.place.path("sockets"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    fn record(&self, user: &str) {
        let more = r#""patient_id":"P","session_metadata":{"vip":true}"#;
        let file = self.place.write("line", call("c", user, "t", more));
        self.run(&["record", "s", file.to_str().unwrap()]).ok();
    }

    /// The alerts about users, by rule and user, once there are this many.
    fn alerts(&self, many: usize) -> Vec<(String, String)> {
        let list = || {
            let all = self.run(&["alerts", "list", "s", "--json"]).ok();
            let of = |line: &str| {
                let alert = json(line);
                let text = |value: Option<&Json>| value.and_then(Json::as_str).unwrap_or_default().to_owned();
                (text(alert.get("rule")), text(alert.get("key").and_then(|key| key.get("user"))))
            };
            all.lines().map(of).collect::<Vec<_>>()
        };
        wait_until("alerts", || Some(list()).filter(|all| all.len() >= many))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(mut owner) = self.owner.take() else { return };
        let _ = owner.kill();
        let _ = owner.wait();
    }
}

fn wait_until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(Instant::now() < until, "no {what} in time");
        std::thread::yield_now();
    }
}

fn vips(users: &[&str]) -> Vec<(String, String)> {
    users.iter().map(|user| ("vip".to_owned(), (*user).to_owned())).collect()
}

/// A process that had the store open continued with the rules, receivers and anchors with which it had started: `policy
/// set` and `anchors set` reported success, the chain had the policy, `health` was green, and alerts of the new rule were
/// never raised, not even later.
#[test]
fn whoever_has_the_store_open_uses_what_a_command_has_changed() {
    for owner in [&["serve", "s"][..], &["mcp", "s", "--user", "host", "--", "cat"][..]] {
        let owned = Owned::by(owner);
        owned.record("before");
        let receiver = format!("{VIP}[[receivers]]\nname = 'told'\nfile = 'told.jsonl'\n");
        owned.place.write("vip.toml", receiver);
        owned.run(&["policy", "set", "s", "vip.toml"]).ok();
        owned.record("first");
        assert_eq!(owned.alerts(1), vips(&["first"]), "{owner:?}");
        let told = || std::fs::read_to_string(owned.place.path("told.jsonl")).unwrap_or_default();
        wait_until("delivery", || (told().lines().count() == 1).then_some(()));

        owned.place.write("anchors.toml", "[[anchor]]\nfile = 'kept.jsonl'\n");
        owned.run(&["anchors", "set", "s", "anchors.toml"]).ok();
        owned.run(&["anchors", "flush", "s"]).ok();
        let kept = || std::fs::read_to_string(owned.place.path("kept.jsonl")).unwrap_or_default();
        assert!(!kept().is_empty(), "the anchor got nothing");

        // And what is removed stops.
        owned.place.write("none.toml", "[[alerts]]\nname = '*'\nenabled = false\n");
        owned.run(&["policy", "set", "s", "none.toml", "--no-receivers"]).ok();
        owned.run(&["anchors", "set", "s", "--none"]).ok();
        // Including what was under way.
        owned.run(&["anchors", "flush", "s"]).ok();
        let size = kept().len();
        owned.record("second");
        owned.run(&["anchors", "flush", "s"]).ok();
        // Anything raised by the second call comes before this one's alert.
        owned.place.write("only.toml", VIP);
        owned.run(&["policy", "set", "s", "only.toml"]).ok();
        owned.record("third");
        assert_eq!(owned.alerts(2), vips(&["first", "third"]), "{owner:?}");
        // An alert is delivered at least once: only the first one was, however often.
        assert!(told().lines().all(|line| Some(line) == told().lines().next()), "{}", told());
        assert_eq!(kept().len(), size);
    }
}

/// The same for a watch that has the store open, which also has receivers from its own flags.
#[test]
fn a_watch_goes_on_with_the_receivers_that_the_store_has_now() {
    let place = Place::with_store();
    let mut owned = Owned { place, owner: None };
    owned.owner = Some(owned.command(&["alerts", "watch", "s"]).spawn().unwrap());
    let sockets = owned.place.path("sockets");
    let listens = || std::fs::read_dir(&sockets).is_ok_and(|mut all| all.next().is_some());
    wait_until("owner", || listens().then_some(()));
    owned.place.write("vip.toml", format!("{VIP}[[receivers]]\nname = 'told'\nfile = 'told.jsonl'\n"));
    owned.run(&["policy", "set", "s", "vip.toml"]).ok();
    let told = || std::fs::read_to_string(owned.place.path("told.jsonl")).unwrap_or_default();
    // It looks once a second, and owes a new receiver what is raised from then on.
    let mut users = 0;
    wait_until("delivery", || {
        users += 1;
        owned.record(&format!("user {users}"));
        (told().lines().count() > 0).then_some(())
    });
}

/// A file beside the store in a form that must not be used is not ignored silently.
#[test]
fn a_change_that_the_owner_cannot_use_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let owned = Owned::by(&["serve", "s"]);
    owned.place.write("vip.toml", format!("{VIP}[[receivers]]\nfile = 'told.jsonl'\n"));
    owned.run(&["policy", "set", "s", "vip.toml"]).ok();
    std::fs::set_permissions(owned.place.path("s.receivers"), std::fs::Permissions::from_mode(0o666)).unwrap();
    owned.place.write("rules.toml", VIP);
    let ran = owned.run(&["policy", "set", "s", "rules.toml"]).code(3);
    assert!(ran.err.contains("the process that has the store open does not use all of it"), "{}", ran.err);
    assert!(owned.run(&["health", "s"]).code(1).out.contains("! no alert is delivered"));
}

/// When a recorder was ended by Ctrl-C, what it had recorded remained unsigned. And it said nothing, so that nobody knew from which
/// line to send the rest.
#[test]
fn what_a_recorder_recorded_is_signed_when_it_is_told_to_end() {
    let place = Place::with_store();
    let mut recorder = place.command(&["record", "s", "--receipts"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = recorder.stdin.take().unwrap();
    input.write_all(call("c", "u", "t", "").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(recorder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let process = nix::unistd::Pid::from_raw(i32::try_from(recorder.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = recorder.wait().unwrap();
    drop(input);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{status}");
    let mut said = String::new();
    recorder.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(
        said.contains(
            "standard input: ended by a signal; 1 call was recorded before that, the newest at seq 2; go on from line 2"
        ),
        "{said}"
    );
    let verified = place.run(&["verify", "s", "--json"]).json();
    assert_eq!(verified.get("signed_size"), verified.get("size"));
    // An import says how far it was, too.
    place.write("calls.jsonl", call("d", "u", "t", ""));
    let args = ["import", "s", "calls.jsonl", "-", "--format", "jsonl"];
    let mut import = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let waits = import.stdin.take();
    let mut line = String::new();
    BufReader::new(import.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let process = nix::unistd::Pid::from_raw(i32::try_from(import.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).unwrap();
    import.wait().unwrap();
    drop(waits);
    let mut said = String::new();
    import.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(
        said.contains("ended by a signal, after 1 file with 1 new call; import the same files again"),
        "{line}{said}"
    );
    // A time-out of zero leaves no time in which a server could answer.
    let ran = place.run(&["mcp", "s", "--timeout", "0", "--", "cat"]).code(2);
    assert!(ran.err.contains("--timeout"), "{}", ran.err);
}
