//! `backup`, `restore`, `health`: a copy made while the store is in use, restoring it, and what needs attention.

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
    assert_eq!(figure("seq") + 1, figure("size"), "the entry of the backup is in the backup");
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
    // The keys are found again.
    std::fs::remove_file(place.path("r")).unwrap();
    std::fs::copy(place.path("kept.key"), place.path("r.key")).unwrap();
    let done = place.run(&restore);
    // They are a copy, and so may not know what came last.
    assert!(done.code == 0 && done.err.lines().count() == 1 && done.err.contains("it was a copy too"), "{done:?}");
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

/// The anchors are configured beside a store and not in it. A log that was restored under another name sent out nothing any
/// more, and no message said so: checkpoints are owed only to anchors that are configured.
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

/// An auditor checked a fresh backup against what the anchor had, and was told of a rollback: `backup` recorded an entry and
/// signed it after the copy was made, and the copy lacked both. From then on `query` and `health` warned of the good copy. The
/// docs did not say how to check one; the block that does is run here.
#[test]
#[cfg(unix)]
fn a_backup_agrees_with_what_the_anchors_were_given() {
    let place = Place::empty();
    place.write("a.toml", "[[anchor]]\nfile = 'kept.jsonl'\n");
    place.write("log.pub", place.run(&["init", "audit.log", "--config", "a.toml"]).ok());
    place.run_with(&["record", "audit.log"], call("c", "u", "look", "").as_bytes()).ok();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/keys.md")).unwrap();
    let block = page.split("```sh\n").find(|block| block.contains("attestlog backup audit.log copy.log")).unwrap();
    let block = block.split("```").next().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_attestlog")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-e", "-c", block]).current_dir(&place.dir).env("PATH", path);
    let shell = shell.output().unwrap();
    let out = String::from_utf8_lossy(&shell.stdout);
    assert!(shell.status.success() && out.contains("nothing wrong found"), "{shell:?}");
    let args = ["verify", "copy.log", "--public-key", "log.pub", "--against", "kept.jsonl", "--json"];
    let verified = place.run(&args).json();
    assert_eq!(verified.get("anchored_size"), verified.get("size"), "the anchor covers all of it: {verified:?}");
    assert!(place.run(&["query", "copy.log", "--count"]).code(0).err.is_empty());
}

/// `restore` said `6 entries; entry 5 says that it was restored`. That thirteen had been signed and the newest eight were lost
/// stood only in `health`, `verify` and reports.
#[test]
fn restoring_says_what_was_lost() {
    let place = Place::with_store();
    record(&place, "lookup");
    let copied = place.run(&["backup", "s", "copy", "--json"]).json();
    let copied = copied.get("size").and_then(Json::as_u64).unwrap();
    for _ in 0..8 {
        record(&place, "lost");
    }
    let signed = place.run(&["verify", "s", "--json"]).json().get("signed_size").and_then(Json::as_u64).unwrap();
    std::fs::rename(place.path("s"), place.path("gone")).unwrap();
    let restore = ["restore", "copy", "s", "--actor", "ops", "--reason", "disk failure"];
    std::fs::copy(place.path("s.key"), place.path("again.key")).unwrap();
    let said = place.run(&restore).code(0).out;
    let wanted = format!("{signed} entries had been signed, and the newest {} of them are lost", signed - copied);
    assert!(said.contains(&wanted) && said.contains(&format!("a copy of {copied} entries")), "{wanted}: {said}");
    // The same for a script.
    let args = ["restore", "copy", "again", "--actor", "ops", "--reason", "disk failure", "--json"];
    let json = place.run(&args).json();
    assert_eq!(json.get("entries_lost").and_then(Json::as_u64), Some(signed - copied), "{json:?}");

    // A copy that was cut short is a bad copy, not a bad store, and the remedy is not the one that is being tried.
    let bytes = std::fs::read(place.path("copy")).unwrap();
    place.write("cut", &bytes[..bytes.len() / 2]);
    std::fs::remove_file(place.path("s")).unwrap();
    let cut = place.run(&["restore", "cut", "s", "--actor", "ops", "--reason", "disk failure"]).code(1).err;
    assert!(cut.contains("restore another backup") && !cut.contains("restore a backup"), "{cut}");
}
