//! Promise: a process that only reads never stands in the way of one that records, and is never the one through which others
//! record (R96); and it loses nothing by giving the store up (R97).
#![cfg(unix)]

use crate::common::*;
use crate::mcp_common::Host;
use attestlog::json::Json;
use attestlog::owner::reach;
use attestlog::{AuditLog, ErrorKind, Options, Query, ToolCall};
use nix::sys::signal::{Signal, kill};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// A key file that is not there: the process reads without keys.
const NOWHERE: &str = "/nonexistent/key";

/// A command that goes on reading; it is killed when this is dropped.
struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    fn start(place: &Place, args: &[&str]) -> Reader {
        let mut child = place.command(args).stderr(std::process::Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Reader { child, lines }
    }

    /// A `tail` of everything, which has the store open.
    fn tail(place: &Place, more: &[&str]) -> Reader {
        let mut tail = Reader::start(place, &[&["tail", "s", "--json", "--from", "0"], more].concat());
        tail.lines.next().unwrap().unwrap();
        tail
    }

    /// The seqs that a tail shows from here on, up to the entry of this conversation.
    fn seqs_until(&mut self, conversation: &str) -> Vec<u64> {
        let mut seqs = Vec::new();
        for line in &mut self.lines {
            let event = json(&line.unwrap());
            seqs.push(event.get("seq").and_then(Json::as_u64).unwrap());
            let about = event.get("entry").and_then(|entry| entry.get("conversation_id")?.as_str());
            if about == Some(conversation) {
                return seqs;
            }
        }
        panic!("it ended: {seqs:?}");
    }

    fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(child: &Child, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// A `serve`, and what it says.
struct Serve {
    child: Child,
    said: Lines<BufReader<std::process::ChildStderr>>,
}

impl Serve {
    /// Starts it; the first thing that it says contains this.
    fn start(place: &Place, first: &str) -> Serve {
        let mut child = place.command(&["serve", "s"]).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut serve = Serve { child, said };
        serve.says(first);
        serve
    }

    fn says(&mut self, what: &str) {
        let line = self.said.next().expect("it says something").unwrap();
        assert!(line.contains(what), "{line}");
    }

    fn end(mut self, signal: Signal) {
        send(&self.child, signal);
        self.child.wait().unwrap();
    }
}

fn record(place: &Place, conversation: &str) -> Ran {
    place.run_with(&["record", "s", "--receipts"], call(conversation, "u", "t", "").as_bytes())
}

/// Waits until this holds; whatever it waits for happens in another process.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "no {what} in time");
        std::thread::yield_now();
    }
}

/// The seqs from the one after `first` on.
fn in_order(seqs: &[u64]) -> bool {
    seqs.windows(2).all(|two| two[1] == two[0] + 1)
}

/// A `tail` was the first to open the store. Others recorded through it: a broken glass and what was done with it, and no rule
/// looked, no receiver was told, and `health` was green.
#[test]
fn rules_run_while_somebody_follows_the_log() {
    let place = Place::empty();
    let rule = "[[alerts]]\nname = 'vip'\nseverity = 'critical'\nattributes.vip = true\nkey = ['user']\nwindow = '1h'\ncount = 1\n\
                [[receivers]]\nname = 'told'\nfile = 'told.jsonl'\n";
    place.write("p.toml", rule);
    place.run(&["init", "s", "--config", "p.toml"]).ok();
    let mut tail = Reader::tail(&place, &[]);
    let glass = ["--user", "dr_j", "--patient", "P-1", "--ttl", "1h", "--reason", "unconscious"];
    place.run(&[&["break-glass", "open", "s"][..], &glass].concat()).ok();
    let vip = call("vip", "dr_j", "t", r#""patient_id":"P-2","grant":2,"session_metadata":{"vip":true}"#);
    place.run_with(&["record", "s"], vip.as_bytes()).ok();
    let alerts = place.run(&["alerts", "list", "s", "--json"]).ok();
    assert!(alerts.contains("\"vip\"") && alerts.contains("break-glass"), "{alerts}");
    let told = std::fs::read_to_string(place.path("told.jsonl")).unwrap();
    assert!(told.contains("\"vip\""), "{told}");
    wait_until("rule", || {
        let health = json(&place.run(&["health", "s", "--json"]).out);
        health.get("alerts").and_then(|alerts| alerts.get("behind")?.as_u64()) == Some(0)
    });
    record(&place, "last").ok();
    let seqs = tail.seqs_until("last");
    assert!(seqs[0] == 1 && in_order(&seqs), "{seqs:?}");
}

/// Somebody without the key followed the log and was the first to open it: everybody who knew the key refused to record, until the
/// viewer was killed. The same after a restart of `serve`, and after its end by SIGKILL while another `serve` waited.
#[test]
fn who_reads_without_the_key_stops_nobody() {
    let place = Place::with_store();
    let mut tail = Reader::tail(&place, &["--key", NOWHERE]);
    record(&place, "alone").ok();
    let mut all = tail.seqs_until("alone");
    for round in 0..4 {
        let first = Serve::start(&place, "serving");
        let mut second = Serve::start(&place, "takes over when it goes");
        record(&place, &format!("through {round}")).ok();
        all.extend(tail.seqs_until(&format!("through {round}")));
        first.end([Signal::SIGKILL, Signal::SIGTERM][round % 2]);
        record(&place, &format!("after {round}")).ok();
        second.says("serving");
        let query = place.run(&["query", "s", "--conversation", &format!("after {round}"), "--count"]);
        assert_eq!(query.ok(), "1\n");
        second.end(Signal::SIGTERM);
        all.extend(tail.seqs_until(&format!("after {round}")));
        // Nobody else has it open now, so the tail opens it again, and gives it up again.
        wait_until("reader", || {
            reach(&place.path("s")).ok().flatten().is_some_and(|owner| owner.process() == tail.child.id())
        });
    }
    assert_eq!(
        place.run(&["query", "s", "--kind", "tool_call", "--count"]).ok(),
        "9\n",
        "with the key, beside that tail"
    );
    record(&place, "last").ok();
    all.extend(tail.seqs_until("last"));
    assert!(all[0] == 1 && in_order(&all), "{all:?}");
    place.run(&["verify", "s"]).ok();
}

/// An agent's recorder was attached to `serve`, and so was a viewer without the key; `serve` was restarted, and half of the agent's
/// calls were not made, since they could not be recorded.
#[test]
fn an_agents_calls_go_on_when_the_owner_goes_and_a_viewer_stays() {
    let place = Place::with_store();
    let echo = "while read -r line; do id=${line#*'\"id\":'}; id=${id%%,*}; \
                echo \"{\\\"jsonrpc\\\":\\\"2.0\\\",\\\"id\\\":$id,\\\"result\\\":{\\\"content\\\":[]}}\"; done";
    let mut calls = 0;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let serve = Serve::start(&place, "serving");
        let _tail = Reader::tail(&place, &["--key", NOWHERE]);
        let mut agent = Host::sh(&place, &[], echo);
        let mut ask = |agent: &mut Host| {
            calls += 1;
            agent.say(crate::mcp_common::call(&calls.to_string(), "write_note", "{}"));
            let answer = agent.hear();
            assert!(answer.contains("\"content\":[]"), "{answer}");
        };
        ask(&mut agent);
        serve.end(signal);
        for _ in 0..5 {
            ask(&mut agent);
        }
        agent.end();
    }
    assert_eq!(place.count(&["--kind", "tool_call"]), calls);
}

/// A query whose output nobody read (`query | less`, not scrolled) had the store open, so that no rules ran, and without the key
/// nobody could record. What it had not shown yet is of the moment at which it began.
#[test]
fn an_answer_that_waits_for_its_reader_goes_on_where_it_was() {
    let place = Place::with_store();
    let lines: String = (0..3000)
        .map(|i| call("long", "u", "t", &format!(r#""arguments":{{"i":{i},"x":"{}"}}"#, "so ".repeat(100))))
        .collect();
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    let questions = [
        &["query", "s", "--conversation", "long", "--json", "--key", NOWHERE][..],
        &["timeline", "s", "long", "--json"],
        &["export", "s", "--format", "jsonl", "--conversation", "long"],
    ];
    for (round, args) in questions.into_iter().enumerate() {
        let mut asking = Reader::start(&place, args);
        let mut all: Vec<String> = asking.lines.by_ref().take(3).map(Result::unwrap).collect();
        let owner = reach(&place.path("s")).unwrap().expect("it has the store open");
        assert_eq!(owner.process(), asking.child.id());
        drop(owner);
        record(&place, "long").ok();
        record(&place, "other").ok();
        all.extend(asking.lines.by_ref().map(Result::unwrap));
        assert_eq!(asking.child.wait().unwrap().code(), Some(0), "{args:?}");
        let number = |line: &String| json(line).get("arguments").and_then(|a| a.get("i")?.as_u64());
        let numbers: Vec<_> = all.iter().filter_map(number).collect();
        assert_eq!(numbers, (0..3000).collect::<Vec<_>>(), "{args:?}");
        assert_eq!(all.len(), 3000 + round, "what was recorded meanwhile is not part of the answer");
    }
}

/// A verification takes long, and must find nothing wrong because the file was closed under it.
#[test]
fn a_verification_that_gives_the_store_up_finds_nothing_wrong() {
    let place = Place::with_store();
    let lines: String = (0..2000).map(|i| call(&format!("c{i}"), "u", "t", "")).collect();
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    let mut verifying: Vec<Child> =
        (0..6).map(|_| place.command(&["verify", "s", "--json"]).spawn().unwrap()).collect();
    let mut recorded = 0;
    for one in &mut verifying {
        while one.try_wait().unwrap().is_none() && recorded < 60 {
            record(&place, "meanwhile").ok();
            recorded += 1;
        }
        let status = one.wait().unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        one.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        one.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{out}");
    }
    assert!(recorded > 0);
}

/// Recorders, a server and readers start at the same time, with and without the key, and the server is killed: no call is refused, none
/// is lost, and who follows the log sees each entry once.
#[test]
fn whoever_starts_at_once_records() {
    let place = Place::with_store();
    let mut tail = Reader::tail(&place, &["--key", NOWHERE]);
    let mut seen = Vec::new();
    for round in 0..8 {
        let (_readers, serve) = std::thread::scope(|scope| {
            let recorders = [0, 1].map(|_| scope.spawn(|| record(&place, "c").ok()));
            let serve = place.command(&["serve", "s"]).stderr(std::process::Stdio::null()).spawn().unwrap();
            let readers = [
                Reader::start(&place, &["tail", "s", "--json"]),
                Reader::start(&place, &["tail", "s", "--json", "--key", NOWHERE]),
                Reader::start(&place, &["query", "s", "--json"]),
            ];
            recorders.into_iter().for_each(|recorder| assert!(recorder.join().unwrap().contains("\"seq\"")));
            (readers, serve)
        });
        let mut serve = serve;
        send(&serve, Signal::SIGKILL);
        serve.wait().unwrap();
        let end = format!("round {round}");
        record(&place, &end).ok();
        seen.extend(tail.seqs_until(&end));
    }
    assert!(seen[0] == 1 && in_order(&seen), "{seen:?}");
    assert_eq!(place.count(&["--kind", "tool_call"]), 24);
    place.run(&["verify", "s"]).ok();
}

/// A process that was stopped can answer nothing and may go on at any moment: whoever wants to record is told which one it is.
#[test]
fn a_reader_that_was_stopped_is_named() {
    let place = Place::with_store();
    let tail = Reader::tail(&place, &[]);
    tail.signal(Signal::SIGSTOP);
    let ran = record(&place, "c").code(3);
    assert!(ran.err.contains(&format!("kill -CONT {}", tail.child.id())), "{}", ran.err);
    // Nothing was said until the command gave up.
    let waits = format!("waiting for process {}, which has the store open", tail.child.id());
    assert!(ran.err.contains(&waits), "{}", ran.err);
    tail.signal(Signal::SIGCONT);
    record(&place, "c").ok();
}

/// A recorder that already sent calls through the owner waited for it in silence when that was stopped.
#[test]
fn a_recorder_is_told_that_its_owner_was_stopped() {
    let place = Place::with_store();
    let serve = Serve::start(&place, "serving");
    let mut recorder = place.command(&["record", "s", "--receipts"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = recorder.stdin.take().unwrap();
    let mut receipts = BufReader::new(recorder.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(recorder.stderr.take().unwrap()).lines();
    input.write_all(call("c", "u", "t", "").as_bytes()).unwrap();
    receipts.next().unwrap().unwrap();
    send(&serve.child, Signal::SIGSTOP);
    input.write_all(call("d", "u", "t", "").as_bytes()).unwrap();
    let line = said.next().unwrap().unwrap();
    assert!(line.contains(&format!("waiting for process {}", serve.child.id())), "{line}");
    assert!(line.contains(&format!("kill -CONT {}", serve.child.id())), "{line}");
    send(&serve.child, Signal::SIGCONT);
    receipts.next().unwrap().unwrap();
    drop(input);
    assert!(recorder.wait().unwrap().success());
    serve.end(Signal::SIGTERM);
    assert_eq!(place.count(&["--kind", "tool_call"]), 2);
}

/// The same for a host that embeds the library, whose handles only read: in the same process as one that records, and with a
/// follower between them.
#[test]
fn a_handle_that_only_reads_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    AuditLog::create(&path).unwrap().close().unwrap();
    let reading = AuditLog::open_read_only(&path).unwrap();
    assert!(reading.is_owner());
    let other = AuditLog::open_read_only(&path).unwrap();
    assert!(!other.is_owner(), "it reads through the first");
    let size = reading.size().unwrap();
    let mut follower = reading.follow(size);
    assert!(follower.try_next().unwrap().is_none());
    let found = reading.query(&Query::new()).unwrap();
    let writing = AuditLog::open(&path).unwrap();
    assert!(writing.is_owner() && !reading.is_owner());
    for conversation in ["a", "b"] {
        writing.record(ToolCall::new(conversation, "u", "t")).unwrap();
        let entry = follower.next_within(Duration::from_secs(60)).unwrap().expect("it was recorded");
        assert_eq!(entry.call().unwrap().conversation_id, conversation);
    }
    assert_eq!(found.map(|entry| entry.unwrap().seq).collect::<Vec<_>>(), (0..size).collect::<Vec<_>>());
    assert_eq!(reading.record(ToolCall::new("c", "u", "t")).unwrap_err().kind(), ErrorKind::ReadOnly);
    writing.close().unwrap();
    assert_eq!(reading.size().unwrap(), other.size().unwrap());
    let alone = Options::new().read_only().exclusive();
    other.close().unwrap();
    reading.close().unwrap();
    alone.open(&path).unwrap().close().unwrap();
}
