//! `backup`, `restore`, `health`: a copy that is made while the store lives, the way back, and what needs somebody's care.

use crate::common::{Place, call};
use attestlog::json::Json;

fn record(place: &Place, tool: &str) {
    place.run_with(&["record", "s"], call("c", "u", tool, "").as_bytes()).ok();
}

#[test]
fn a_backup_is_the_store_of_its_moment_and_coming_back_is_on_record() {
    let place = Place::with_store();
    record(&place, "lookup");
    let made = place.run(&["backup", "s", "copy", "--json"]).json();
    let figure = |key: &str| made.get(key).and_then(Json::as_u64).unwrap();
    assert_eq!(figure("seq"), figure("size"), "the entry of the backup is not in the backup");
    assert!(place.run(&["query", "s", "--kind", "backup", "--json"]).ok().contains(r#""file":"copy""#));
    let text = place.run(&["backup", "s", "again"]).ok();
    assert!(text.contains("keys are not in it"), "{text}");

    let refused = place.run(&["backup", "s", "copy"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("copy"), "{}", refused.err);

    // The store is lost; its key file is not.
    record(&place, "lost");
    std::fs::remove_file(place.path("s")).unwrap();
    let refused = place.run(&["restore", "nothing", "s", "--actor", "ops", "--reason", "disk failure"]);
    assert_eq!(refused.code, 2);
    assert!(!place.path("s").exists());
    assert_eq!(place.run(&["restore", "copy", "s", "--actor", "ops"]).code, 2, "a reason is wanted");
    place.run(&["restore", "copy", "s", "--actor", "ops", "--reason", "disk failure"]).ok();
    assert_eq!(place.count(&["--tool", "lookup"]), 1);
    assert_eq!(place.count(&["--tool", "lost"]), 0);
    let entry = place.run(&["query", "s", "--kind", "restore", "--json"]).ok();
    for said in [r#""actor":"ops""#, r#""reason":"disk failure""#, r#""signed_size""#] {
        assert!(entry.contains(said), "{said} is not in {entry}");
    }
    assert_eq!(place.run(&["verify", "s", "--json"]).json().get("ok"), Some(&Json::Bool(true)));
    record(&place, "goes_on");
}

#[test]
fn who_has_lost_the_keys_too_gets_at_what_was_recorded_and_records_nothing() {
    let place = Place::with_store();
    record(&place, "lookup");
    place.run(&["backup", "s", "copy"]).ok();
    place.run(&["keys", "backup", "s", "kept.key"]).ok();
    let restore = ["restore", "copy", "r", "--actor", "ops", "--reason", "disk failure"];
    let done = place.run(&restore);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("key file is missing"), "{}", done.err);
    assert_eq!(place.run(&["query", "r", "--tool", "lookup", "--count"]).ok().trim(), "1");
    assert!(place.run(&["query", "r", "--kind", "key", "--json"]).ok().contains("opened_without_key"));
    let verified = place.run(&["verify", "r", "--json"]).json();
    let size = |key: &str| verified.get(key).and_then(Json::as_u64).unwrap();
    assert_eq!(verified.get("ok"), Some(&Json::Bool(true)));
    assert!(size("signed_size") < size("size"), "what was recorded without the key is not signed");
    let refused = place.run_with(&["record", "r"], call("c", "u", "t", "").as_bytes());
    assert_eq!(refused.code, 3, "{}", refused.err);
    // The keys turn up again.
    std::fs::remove_file(place.path("r")).unwrap();
    std::fs::copy(place.path("kept.key"), place.path("r.key")).unwrap();
    let done = place.run(&restore);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    place.run_with(&["record", "r"], call("c", "u", "t", "").as_bytes()).ok();
    place.run(&["verify", "r"]).ok();
}

#[test]
fn an_older_copy_put_in_place_without_restore_is_refused() {
    let place = Place::with_store();
    place.run(&["backup", "s", "copy"]).ok();
    record(&place, "lost");
    std::fs::rename(place.path("copy"), place.path("s")).unwrap();
    let verified = place.run(&["verify", "s"]);
    assert_eq!(verified.code, 1);
    assert!(verified.out.contains("older"), "{}", verified.out);
}

#[test]
fn health_ends_with_one_where_somebody_should_act() {
    let place = Place::with_store();
    let well = place.run(&["health", "s", "--json"]).json();
    assert_eq!(well.get("concerns"), Some(&Json::Array(Vec::new())));
    assert_eq!(well.get("expiry_clock").and_then(|c| c.get("frozen")), Some(&Json::Bool(false)));
    let over = place.run(&["health", "s", "--quota", "1K"]);
    assert_eq!(over.code, 1);
    assert!(over.out.contains("larger than its quota"), "{}", over.out);
    assert_eq!(place.run(&["health", "s", "--quota", "1G"]).code, 0);
    assert_eq!(place.run(&["health", "s", "--quota", "much"]).code, 2);
    assert_eq!(place.run(&["health", "missing"]).code, 3);
}

/// Where checkpoints go stands beside a store and not in it. A log that was restored under another name handed nothing over any more, and
/// nothing said so: owed is a checkpoint only to anchors that are configured.
#[test]
fn a_store_that_is_restored_without_its_anchors_says_so() {
    let place = Place::with_store();
    place.write("anchors.toml", "[[anchor]]\nfile = \"kept\"\n");
    place.run(&["anchors", "set", "s", "anchors.toml"]).ok();
    record(&place, "lookup");
    place.run(&["backup", "s", "copy"]).ok();
    for (from, to) in [("s", "gone"), ("s.key", "r.key")] {
        std::fs::rename(place.path(from), place.path(to)).unwrap();
    }
    let restore = |to: &str| place.run(&["restore", "copy", to, "--actor", "ops", "--reason", "disk failure"]).code(0);
    let told = restore("r").err;
    assert!(told.contains("r.anchors") && told.contains("anchors set"), "{told}");
    std::fs::rename(place.path("r.key"), place.path("s.key")).unwrap();
    std::fs::remove_file(place.path("r")).unwrap();
    assert_eq!(restore("s").err, "");
}
