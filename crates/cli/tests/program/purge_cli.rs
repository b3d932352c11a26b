//! `purge`, `purge --dry-run` and `clock confirm` as used by scripts.

use crate::common::{Ended, Place, call, json};
use attestlog::Justification;
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::{Options, ToolCall};
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::Arc;

/// A store that was created and closed in 2020, with calls of two classes and a hold.
fn old_store() -> Place {
    let place = Place::empty();
    let clock = Arc::new(ManualClock::at("2020-02-29T12:00:00Z".parse().unwrap()));
    let log = Options::new().clock(clock).background(false).create(place.path("s")).unwrap();
    for i in 0..30 {
        let tool = if i % 3 == 0 { "issue_refund" } else { "search" };
        log.record(ToolCall::new(format!("conv-{}", i / 10), "clerk", tool).retain_until(match i % 3 {
            0 => "2090-01-01".parse().unwrap(),
            _ => "2021-03-01".parse().unwrap(),
        }))
        .unwrap();
    }
    let mut selector = attestlog::retention::HoldSelector::default();
    selector.conversations.insert("conv-1".to_owned());
    log.retention().place_hold("case 7", selector, Justification { actor: "counsel", reason: "litigation" }).unwrap();
    log.close().unwrap();
    place
}

#[test]
fn a_frozen_clock_is_said_and_confirmed() {
    let place = old_store();
    for args in [&["purge", "s", "--actor", "ops"][..], &["purge", "s", "--dry-run"]] {
        let refused = place.run(args).code(1);
        assert!(refused.err.contains("frozen") && refused.err.contains("clock confirm"), "{}", refused.err);
    }
    // A script took the exit code 0 for a clock that runs.
    assert!(place.run(&["clock", "show", "s"]).code(1).out.contains("FROZEN"));
    place.run(&["clock", "confirm", "s", "--actor", "ops", "--reason", "it was in storage"]).ok();

    let plan = place.run(&["purge", "s", "--dry-run", "--json"]).json();
    let figure = |json: &Json, key: &str| json.get(key).and_then(Json::as_u64);
    assert_eq!(
        (figure(&plan, "purged"), figure(&plan, "would_purge"), figure(&plan, "kept_by_hold")),
        (Some(0), Some(13), Some(7))
    );
    let search = plan.get("classes").unwrap().get("general").unwrap().get("search").unwrap();
    assert_eq!((figure(search, "expired"), figure(search, "kept_by_hold")), (Some(13), Some(7)));
    assert_eq!(plan.get("next").unwrap().get("financial").unwrap().as_str(), Some("2090-01-01T00:00:00Z"));
    assert_eq!(plan.get("holds").unwrap().get("32").and_then(Json::as_u64), Some(7));
    assert_eq!(plan.get("purge_seq"), Some(&Json::Null));
    let text = place.run(&["purge", "s", "--dry-run"]).ok();
    for expected in ["13 entries would go", "search", "case 7", "next of financial: 2090-01-01"] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    // A dry run changed nothing.
    assert_eq!(place.count(&["--tool", "search"]), 20);
    place.run(&["purge", "s"]).code(2);

    let done = place.run(&["purge", "s", "--actor", "ops", "--json"]).json();
    assert_eq!((figure(&done, "purged"), figure(&done, "kept_by_hold")), (Some(13), Some(7)));
    assert!(figure(&done, "bytes_before").unwrap() > 0 && figure(&done, "bytes_after").unwrap() > 0);
    let seq = figure(&done, "purge_seq").unwrap();
    let line = place.run(&["query", "s", "--kind", "purge", "--json"]).ok();
    assert!(line.contains(&format!(r#""seq":{seq}"#)) && line.contains(r#""actor":"ops""#), "{line}");
    assert_eq!(place.count(&["--tool", "search"]), 7);
    let stats = place.run(&["stats", "s"]).ok();
    assert!(stats.contains("counts what remains, since 2020-02-29: 13 entries were purged"), "{stats}");
    let tool = place.run(&["stats", "s", "--tool", "search", "--json"]).json();
    assert_eq!((figure(&tool, "total_calls"), tool.get("since").unwrap().as_str()), (Some(7), Some("2020-02-29")));
    let verification = place.run(&["verify", "s", "--json"]).json();
    assert_eq!((verification.get("ok"), figure(&verification, "purged")), (Some(&Json::Bool(true)), Some(13)));

    let nothing = place.run(&["purge", "s", "--actor", "ops", "--json"]).json();
    assert_eq!((figure(&nothing, "purged"), nothing.get("purge_seq")), (Some(0), Some(&Json::Null)));
    place.run(&["hold", "release", "s", "32", "--actor", "counsel", "--reason", "settled"]).ok();
    assert!(place.run(&["purge", "s", "--actor", "ops"]).ok().contains("7 entries are gone"));
}

/// A dry run opened the store for writing: if the store had not been closed, this changed its bytes by recovering it,
/// although it only said what would be removed.
#[test]
fn a_dry_run_changes_no_byte() {
    let place = Place::with_store();
    let log = Options::new().background(false).open(place.path("s")).unwrap();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    // As a crash leaves it.
    std::fs::copy(place.path("s"), place.path("crashed")).unwrap();
    log.close().unwrap();
    let files = || -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut paths: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let before = files();
    let plan = place.run(&["purge", "crashed", "--key", "s.key", "--dry-run", "--json"]).json();
    assert_eq!(plan.get("would_purge").and_then(Json::as_u64), Some(0));
    assert!(files() == before, "a file was changed");
}

/// The story: `export` was read slowly, `purge` ran, and the file had the first 8,190 entries, then a gap, and not the purge's entry;
/// exit code 0, nothing on standard error. Likewise `query --json`, with an owner or without (R102).
#[test]
fn an_answer_that_a_purge_interrupts_says_so() {
    for (serve, args) in [
        (false, &["export", "s", "--format", "jsonl"][..]),
        (true, &["export", "s", "--format", "jsonl"]),
        (false, &["query", "s", "--json"]),
        (true, &["query", "s", "--json"]),
    ] {
        let place = Place::empty();
        let clock = Arc::new(ManualClock::at("2020-02-29T12:00:00Z".parse().unwrap()));
        let log = Options::new().clock(clock).background(false).create(place.path("s")).unwrap();
        log.record_batch((0..3000).map(|i| ToolCall::new(format!("conversation-{i}"), "clerk", "search"))).unwrap();
        log.close().unwrap();
        place.run(&["clock", "confirm", "s", "--actor", "ops", "--reason", "it was in storage"]).ok();
        let _owner = serve.then(|| {
            let mut child = place.command(&["serve", "s"]).spawn().unwrap();
            // It prints a line when it serves.
            BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
            Ended(child)
        });
        let mut reader = Ended(place.command(args).spawn().unwrap());
        let mut lines = BufReader::new(reader.0.stdout.take().unwrap()).lines();
        let mut read = vec![lines.next().unwrap().unwrap()];
        // More than a query in progress keeps its transaction for; the reader's pipe is full long before its end.
        let more: String = (0..400).map(|_| call("later", "clerk", "search", "")).collect();
        place.run_with(&["record", "s", "--no-alerts"], more.as_bytes()).ok();
        let done = place.run(&["purge", "s", "--actor", "ops", "--json"]).json();
        assert_eq!(done.get("purged").and_then(Json::as_u64), Some(3000));
        read.extend(lines.map(|line| line.unwrap()));
        let mut said = String::new();
        reader.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(reader.0.wait().unwrap().code(), Some(3), "{args:?}, served {serve}: {said}");
        assert!(said.contains("a purge") && said.contains("Ask again"), "{said}");
        assert!(read.len() < 3000, "{}", read.len());
        for (seq, line) in read.iter().enumerate() {
            assert_eq!(json(line).get("seq").and_then(Json::as_u64), Some(seq as u64), "{args:?}, served {serve}");
        }
        place.run(args).code(0);
    }
}
