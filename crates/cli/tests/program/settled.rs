//! `alerts settle`: what was found and looked into is shown as settled from then on, and anything else is new.

use crate::common::{Place, Ran, call, json, overwrite};
use attestlog::json::Json;

fn to(i: u32) -> String {
    attestlog::Hash::of(&i.to_be_bytes()).to_string()
}

/// A store `s` of fifty payments.
fn payments() -> Place {
    let line = |i| call("c", "u", "pay", &format!(r#""patient_id":"P-1","arguments":{{"to":"{}"}}"#, to(i)));
    Place::with_lines(&(0..50).map(line).collect::<String>())
}

/// Edits one of the payments, past the program.
fn edit(place: &Place, store: &str, i: u32) {
    let other = to(i).replace(['0', '1', '2', '3'], "9");
    assert!(overwrite(&place.path(store), &to(i).as_bytes()[8..], &other.as_bytes()[8..]) > 0);
}

fn settle(place: &Place, store: &str) -> Ran {
    place.run(&["alerts", "settle", store, "--actor", "ciso", "--disposition", "a test of the disk"])
}

/// The findings of a kind, each with whether it is settled.
fn found(place: &Place, kind: &str) -> Vec<(Option<u64>, bool)> {
    let verified = json(&place.run(&["verify", "s", "--json"]).code(1).out);
    let findings = verified.get("findings").and_then(Json::as_array).unwrap().iter();
    let of_kind = findings.filter(|f| f.get("kind").and_then(Json::as_str) == Some(kind));
    of_kind.map(|f| (f.get("seq").and_then(Json::as_u64), f.get("settled") != Some(&Json::Null))).collect()
}

/// What was settled was raised again by the next `verify`, and a report said VERIFICATION FAILED for good, whoever had looked
/// into what.
#[test]
fn a_settled_finding_is_shown_with_its_settlement_and_another_is_new() {
    let place = payments();
    // Indexed and closed, so that the store can be written to in spite of the edit.
    place.run(&["prove", "s", "--complete", "--patient", "P-1"]).ok();
    edit(&place, "s", 31);
    place.run(&["verify", "s"]).code(1);
    let settled = settle(&place, "s").ok();
    let (seq, findings) = settled.trim().strip_prefix("settled in entry ").unwrap().split_once(": ").unwrap();
    assert!(
        findings.lines().next().unwrap().ends_with(" findings") && findings.contains("entry 33: entry_changed"),
        "{settled}"
    );

    let text = place.run(&["verify", "s"]).code(1).out;
    let said = format!("settled in entry {seq} by ciso: a test of the disk");
    assert!(text.contains(&said), "{said}: {text}");
    assert!(found(&place, "entry_changed").iter().all(|(_, settled)| *settled), "{text}");
    // What a person settles stays a finding: somebody who edits the file could settle it too.
    assert!(!text.contains("nothing wrong found"), "{text}");

    edit(&place, "s", 17);
    let all = found(&place, "entry_changed");
    assert!(all.iter().any(|(_, settled)| *settled) && all.iter().any(|(_, settled)| !*settled), "{all:?}");
    let ran = place.run(&["verify", "s", "--except-settled"]).code(1);
    assert!(ran.err.contains("is kept in"), "{}", ran.err);
}

/// `STORE.verified` is a file that anybody beside the store can write. A finding was written into it before there was one, so
/// that the settlement of another would cover it.
#[test]
fn nothing_is_settled_before_it_is_found() {
    let place = payments();
    place.run(&["prove", "s", "--complete", "--patient", "P-1"]).ok();
    std::fs::copy(place.path("s"), place.path("trial")).unwrap();
    edit(&place, "trial", 31);
    place.run(&["verify", "trial"]).code(1);
    std::fs::rename(place.path("trial.verified"), place.path("s.verified")).unwrap();
    settle(&place, "s").code(2);
    let settled = place.run(&["alerts", "settle", "s", "--actor", "c", "--disposition", "d", "--not-found"]).ok();
    assert!(settled.contains(": 0 findings, and ") && settled.contains("not found any more"), "{settled}");
    edit(&place, "s", 31);
    let all = found(&place, "entry_changed");
    assert!(!all.is_empty() && all.iter().all(|(_, settled)| !*settled), "{all:?}");
}

/// A report said VERIFICATION FAILED, and nothing of who had looked into what.
#[test]
fn a_report_names_what_was_settled() {
    let place = payments();
    place.run(&["prove", "s", "--complete", "--patient", "P-1"]).ok();
    edit(&place, "s", 31);
    let report = |more: &[&str]| place.run(&[&["report", "access", "s", "--patient", "P-1"][..], more].concat());
    assert!(report(&[]).code(1).out.contains("VERIFICATION FAILED"));
    settle(&place, "s").ok();
    for format in ["text", "html", "csv", "json", "fhir-r4"] {
        let out = report(&["--format", format]).code(1).out;
        let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = if format == "json" { r#""settled":{"actor":"ciso""# } else { "settled in entry" };
        assert!(out.contains(wanted) && out.contains("ciso"), "{format}: {out}");
    }
}

/// `record` and `checkpoint` said nothing of eighteen findings that `query`, `stats` and `backup` warned of.
#[test]
fn whatever_changes_the_store_warns_of_findings() {
    let place = payments();
    place.run(&["prove", "s", "--complete", "--patient", "P-1"]).ok();
    edit(&place, "s", 31);
    place.run(&["verify", "s"]).code(1);
    let line = call("c", "u", "pay", "");
    for ran in [
        place.run_with(&["record", "s"], line.as_bytes()),
        place.run(&["checkpoint", "s"]),
        place.run(&["hold", "place", "s", "--case", "1", "--actor", "a", "--reason", "r", "--user", "u"]),
    ] {
        assert!(ran.err.contains("which nobody has settled"), "{ran:?}");
    }
    assert!(!settle(&place, "s").err.contains("nobody has settled"));
}
