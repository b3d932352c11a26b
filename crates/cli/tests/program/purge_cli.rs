//! `purge`, `purge --dry-run` and `clock confirm` as scripts use them.

use crate::common::Place;
use attestlog::json::Json;
use attestlog::{ManualClock, Options, ToolCall};
use std::sync::Arc;

/// A store that was made and closed in 2020, with calls of two classes and a hold.
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
    log.place_hold("case 7", "litigation", "counsel", selector).unwrap();
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
    assert!(place.run(&["clock", "show", "s"]).ok().contains("FROZEN"));
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

/// A dry run opened the store for writing: of one that was not closed it changed the bytes, as whoever recovers it does, although it
/// only said what would go.
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
