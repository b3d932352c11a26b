//! The story: an agent's host had the store open with `AuditLog::open_or_create`, as the README shows it. Whoever then ran
//! `attestlog query` beside it was told that "the process that has the store open runs no commands for others", and so for every
//! other command: the command line sent its arguments to the owner, and only the program itself could run them. The log of a running
//! agent could not be looked at without stopping the agent.
//!
//! Promise: whichever process has the store open, each command prints what it prints when nobody has it open.
#![cfg(target_os = "linux")]

use crate::common::*;
use attestlog::json::Json;
use attestlog::{AuditLog, Query, ToolCall};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

/// A store that this test process has open, as any host does, and a copy of it that nobody has open.
struct Hosted {
    place: Place,
    alone: Place,
    host: AuditLog,
}

impl Hosted {
    fn new(lines: &str) -> Hosted {
        let place = Place::with_lines(lines);
        let alone = Place::empty();
        for file in ["s", "s.key"] {
            std::fs::copy(place.path(file), alone.path(file)).unwrap();
        }
        let host = AuditLog::open_or_create(place.path("s")).unwrap();
        assert!(host.is_owner());
        Hosted { place, alone, host }
    }

    /// The command prints the same, and ends in the same way, whether or not the host has the store open.
    #[track_caller]
    fn same(&self, args: &[&str]) -> String {
        let (through, alone) = (self.place.run(args), self.alone.run(args));
        assert_eq!(settled(&through.out, &self.place), settled(&alone.out, &self.alone), "{args:?}: {}", through.err);
        assert_eq!(settled(&through.err, &self.place), settled(&alone.err, &self.alone), "{args:?}");
        assert_eq!(through.code, alone.code, "{args:?}");
        through.out
    }
}

/// The output without what depends on when and where the command ran, and on how the file lies on the disk.
fn settled(out: &str, place: &Place) -> String {
    let here = place.dir.path().to_string_lossy().into_owned();
    let line = |line: &str| match Json::parse(line.as_bytes()) {
        Ok(parsed) => without_times(parsed.value).to_canonical().as_str().to_owned(),
        Err(_) => {
            let words = line.replace(&here, "HERE");
            let is_time = |word: &&str| {
                let first = word.trim_matches(|c: char| c.is_ascii_punctuation());
                first.is_empty()
                    || first.starts_with(|c: char| c.is_ascii_digit())
                    || (first.len() == 64 && first.chars().all(|c| c.is_ascii_hexdigit()))
                    || ["ms", "s", "µs", "min", "h", "d", "B", "KiB", "MiB"].contains(&first)
            };
            words.split_whitespace().filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
        }
    };
    out.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn without_times(json: Json) -> Json {
    // The hashes cover the times.
    const TIMES: [&str; 14] = [
        "bytes_before",
        "bytes_after",
        "cut_off",
        "now",
        "wall",
        "seconds",
        "checked_at",
        "size_bytes",
        "credited_nanos",
        "generated_at",
        "recorded_at",
        "timestamp",
        "root",
        "head",
    ];
    match json {
        Json::Object(members) => {
            let kept = members.iter().filter(|(name, _)| !TIMES.contains(name));
            Json::Object(kept.map(|(name, value)| (name.to_owned(), without_times(value.clone()))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(without_times).collect()),
        other => other,
    }
}

fn calls() -> String {
    let one = |i: usize| {
        let more = format!(
            r#""patient_id":"P-{}","turn_number":{},"model":"m","purpose":"treatment","duration_ms":{},"arguments":{{"order":{i}}},"{}":{}"#,
            i % 3,
            i / 4,
            10 + i,
            if i.is_multiple_of(5) { "error" } else { "result" },
            if i.is_multiple_of(5) { r#""no such order""# } else { r#"{"ok":true}"# },
        );
        call(
            &format!("c{}", i % 4),
            &format!("u{}", i % 2),
            if i.is_multiple_of(3) { "lookup" } else { "refund" },
            &more,
        )
    };
    (0..40).map(one).collect()
}

#[test]
fn a_host_serves_the_commands_of_others() {
    let hosted = Hosted::new(&calls());
    for args in [
        &["query", "s"][..],
        &["query", "s", "--json"],
        &["query", "s", "--newest-first", "--limit", "7", "--json"],
        &["query", "s", "--user", "u1", "--failed", "--count"],
        &["query", "s", "--patient", "nobody"],
        &["query", "s", "--tool", "re*", "--json"],
        &["timeline", "s", "c1"],
        &["timeline", "s", "c1", "--json"],
        &["timeline", "s", "none"],
        &["timeline", "s", "--last", "--failed"],
        &["conversations", "s"],
        &["conversations", "s", "--failed", "--json"],
        &["show", "s", "5"],
        &["show", "s", "5", "--json"],
        &["query", "s", "--grep", "no such order", "--columns", "seq,took,error"],
        &["query", "s", "--grep", "no such order", "--count"],
        &["stats", "s", "--by", "tool,user,day", "--compare", "7d"],
        &["stats", "s"],
        &["stats", "s", "--json"],
        &["stats", "s", "--tool", "refund", "--json"],
        &["verify", "s"],
        &["verify", "s", "--json"],
        &["report", "access", "s", "--patient", "P-1", "--format", "text"],
        &["report", "access", "s", "--patient", "P-1", "--format", "json"],
        &["report", "access", "s", "--user", "u0", "--format", "csv"],
        &["export", "s", "--format", "jsonl"],
        &["export", "s", "--format", "csv"],
        &["export", "s", "--format", "fhir-r5", "--ndjson"],
        &["export", "s", "--format", "ocsf"],
        &["health", "s"],
        &["health", "s", "--json"],
        &["prove", "s", "5"],
        &["prove", "s", "5", "--at-checkpoint"],
        &["checkpoint", "s"],
        &["keys", "show", "s"],
        &["policy", "show", "s"],
        &["clock", "show", "s"],
        &["alerts", "list", "s"],
        &["anchors", "show", "s"],
        &["break-glass", "list", "s"],
        &["purge", "s", "--dry-run", "--json"],
        &["query", "s", "--after", "x"],
        &["prove", "s", "5000"],
        &["timeline", "s", "c*"],
    ] {
        hosted.same(args);
    }
    assert_eq!(hosted.place.run(&["query", "s", "--json"]).ok().lines().count() as u64, hosted.host.size().unwrap());
}

#[test]
fn a_host_serves_the_changes_of_others() {
    let hosted = Hosted::new(&calls());
    let by = ["--actor", "officer", "--reason", "case 7"];
    for of in [&hosted.place, &hosted.alone] {
        of.write("more.jsonl", [call("late", "u9", "lookup", ""), call("late", "u9", "refund", "")].concat());
        of.write(
            "rules.toml",
            "[[alerts]]\nname = 'vip'\nseverity = 'critical'\nattributes.vip = true\nwindow = '1h'\ncount = 1\n",
        );
    }
    hosted.same(&["record", "s", "more.jsonl", "--no-alerts"]);
    assert_eq!(hosted.same(&["query", "s", "--conversation", "late", "--count"]), "2\n");
    assert_eq!(hosted.host.count(&Query::new().user("u9")).unwrap(), 2);
    let hold = hosted.same(&[&["hold", "place", "s", "--case", "k", "--user", "u9"][..], &by].concat());
    hosted.same(&["hold", "list", "s", "--json"]);
    hosted.same(&["hold", "list", "s"]);
    hosted.same(&[&["hold", "release", "s", hold.trim()][..], &by].concat());
    hosted.same(&["policy", "set", "s", "rules.toml"]);
    hosted.same(&["keys", "rotate", "s"]);
    hosted.same(&["keys", "rotate", "s", "--pseudonyms"]);
    hosted.same(&["backup", "s", "copy"]);
    hosted.same(&["reveal", "s", "5", "arguments.order", "--actor", "a", "--reason", "r"]);
    hosted.same(&["evidence", "s", "folder"]);
    assert!(hosted.place.path("folder/README.txt").exists(), "relative paths are the caller's");
    let package = &hosted.same(&["report", "package", "s", "package", "--patient", "P-1", "--neighbours"])[..40];
    assert!(package.starts_with("written to package") && hosted.place.path("package/proofs/complete.json").exists());
    hosted.same(&["verify", "s", "--json"]);
    let signed = hosted.host.verify(&Default::default()).unwrap();
    assert_eq!(signed.signed_size, signed.size, "what a command records is signed when it ends");
}

/// What is configured beside a store is used at once by any host that has it open, and where the host lacks what would use it, the
/// answer says so and what to do.
#[test]
fn a_host_uses_what_is_configured_beside_its_store() {
    let hosted = Hosted::new(&calls());
    let place = &hosted.place;
    place.write("anchors.toml", "[[anchor]]\nfile = 'kept.jsonl'\n");
    place.run(&["anchors", "set", "s", "anchors.toml"]).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    assert!(place.path("kept.jsonl").exists() && hosted.host.anchors().list().unwrap().len() == 1);
    place.run(&["anchors", "set", "s", "--none"]).ok();
    place.run(&["anchors", "forget", "s", &format!("file {}", place.path("kept.jsonl").display())]);
    place.write("told.toml", "[[receivers]]\nfile = 'told.jsonl'\n");
    let ran = place.run(&["policy", "set", "s", "told.toml"]);
    assert!(ran.err.contains("runs no alert rules") && ran.err.contains("alerts watch"), "{}", ran.err);
    ran.ok();
    // A watch lets the rules look, although the host runs none, and delivers itself.
    let vip = "[[alerts]]\nname = 'vip'\nseverity = 'critical'\nattributes.vip = true\nwindow = '1h'\ncount = 1\n";
    place.write("vip.toml", vip);
    place.run(&["policy", "set", "s", "vip.toml"]).ok();
    place.run(&["alerts", "watch", "s", "--once"]).ok();
    let vip = call("c", "u", "t", r#""session_metadata":{"vip":true}"#);
    place.run_with(&["record", "s", "--no-alerts"], vip.as_bytes()).ok();
    let said = place.run(&["alerts", "watch", "s", "--once"]).ok();
    assert_eq!(json(said.trim()).get("rule").and_then(Json::as_str), Some("vip"), "{said}");
    assert_eq!(std::fs::read_to_string(place.path("told.jsonl")).unwrap().lines().count(), 1);
    assert_eq!(place.run(&["alerts", "watch", "s", "--once"]).ok(), "", "each alert is delivered once");
    let alert = hosted.host.alerts().list().unwrap()[0].alert.seq.to_string();
    place.run(&["alerts", "ack", "s", &alert, "--actor", "a", "--disposition", "a drill"]).ok();
    assert!(!hosted.host.alerts().list().unwrap()[0].is_open());
}

#[test]
fn a_host_serves_who_follows_and_survives_who_leaves() {
    let hosted = Hosted::new(&calls());
    let follow = |place: &Place| {
        let mut tail = Ended(place.command(&["tail", "s", "--json", "-n", "3"]).spawn().unwrap());
        let lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
        (tail, lines.map(Result::unwrap))
    };
    let (tail, mut through) = follow(&hosted.place);
    let (_alone, mut alone) = follow(&hosted.alone);
    for _ in 0..3 {
        assert_eq!(through.next(), alone.next());
    }
    hosted.host.record(ToolCall::new("followed", "u", "t")).unwrap();
    assert!(through.next().unwrap().contains("followed"));
    // Ctrl-C, and a reader that goes: the host goes on.
    let process = nix::unistd::Pid::from_raw(i32::try_from(tail.0.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    drop((tail, through));
    let mut reader = Ended(hosted.place.command(&["export", "s", "--format", "jsonl"]).spawn().unwrap());
    drop(reader.0.stdout.take());
    assert_eq!(reader.0.wait().unwrap().code(), Some(0), "a reader that has gone is no error");
    let mut verify = Ended(hosted.place.command(&["verify", "s"]).spawn().unwrap());
    verify.0.kill().unwrap();
    verify.0.wait().unwrap();
    assert!(hosted.host.verify(&Default::default()).unwrap().ok());
    hosted.place.run(&["query", "s", "--conversation", "followed", "--count"]).ok();
}

fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// A long answer is read in pages: whoever asks holds one of them, not the answer.
#[test]
fn a_long_answer_takes_the_memory_of_a_page() {
    let lines: String = (0..1500)
        .map(|i| call("long", "u", "t", &format!(r#""arguments":{{"i":{i},"x":"{}"}}"#, "so ".repeat(4000))))
        .collect();
    let hosted = Hosted::new(&lines);
    for args in [&["query", "s", "--json"][..], &["timeline", "s", "long", "--json"]] {
        let mut command: Command = hosted.place.command(args);
        let mut asking = Ended(command.spawn().unwrap());
        let mut out = asking.0.stdout.take().unwrap();
        let (mut read, mut most, mut buffer) = (0, 0, vec![0; 1 << 20]);
        loop {
            let n = out.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            read += n;
            if Path::new(&format!("/proc/{}/status", asking.0.id())).exists() && read < 16 << 20 {
                most = most.max(memory(asking.0.id()));
            }
        }
        assert!(read > 17 << 20, "{read}");
        assert!(most > 0 && most < 12 << 20, "{most} bytes for an answer of {read}");
        assert!(asking.0.wait().unwrap().success());
    }
}
