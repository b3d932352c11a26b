//! End-to-end test with real input: 200 recorded conversations of an airline's agent.

use crate::common::{Place, overwrite, shared};
use attestlog::json::Json;
use std::collections::BTreeSet;

const FILE: &str = "data/tau-bench/gpt-4o-airline.json";

#[test]
fn a_recorded_transcript_goes_in_whole() {
    let Some(path) = shared(FILE) else { return };
    let place = Place::with_store();
    let tally = place.run(&["import", "s", "--format", "openai-chat", path.to_str().unwrap(), "--json"]).json();
    let figure = |key: &str| tally.get(key).and_then(Json::as_u64);
    assert_eq!((figure("calls"), figure("failures"), figure("abandoned")), (Some(1164), Some(73), Some(0)));
    assert_eq!((figure("conversations"), figure("without_calls")), (Some(200), Some(18)));
    assert_eq!((figure("users"), figure("tools"), figure("unmatched")), (Some(34), Some(14), Some(0)));
    assert_eq!(place.count(&["--kind", "tool_call"]), 1164);
    assert_eq!(place.count(&["--failed"]), 73);
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let entries: Vec<Json> = lines.lines().map(crate::common::json).collect();
    let distinct = |key: &str| entries.iter().filter_map(|e| e.get(key)?.as_str()).collect::<BTreeSet<_>>().len();
    // Of the 200 conversations, 18 made no call.
    assert_eq!((distinct("conversation_id"), distinct("user_id"), distinct("tool_name")), (182, 34, 14));
    let stats = place.run(&["stats", "s", "--json"]).json();
    let calls = stats.as_array().unwrap().iter().filter_map(|t| t.get("total_calls")?.as_u64()).sum::<u64>();
    assert_eq!(calls, 1164);

    let timeline = place.run(&["timeline", "s", "task-0-trial-0"]).ok();
    for expected in ["mia_li_3668", "book_reservation", "payment amount does not add up", "Turn "] {
        assert!(timeline.contains(expected), "{expected:?} is not in\n{timeline}");
    }
    assert_eq!(place.run(&["verify", "s", "--json"]).json().get("ok"), Some(&Json::Bool(true)));
}

#[test]
fn no_sensitive_value_is_in_the_file() {
    let Some(path) = shared(FILE) else { return };
    let text = std::fs::read(&path).unwrap();
    let mut sensitive = BTreeSet::new();
    let conversations = Json::parse_within(&text, &attestlog::json::Limits::bytes(1 << 30)).unwrap().value;
    gather(&conversations, &mut sensitive);
    assert!(sensitive.len() > 50, "{} sensitive values", sensitive.len());
    let place = Place::with_store();
    place.run(&["import", "s", "--format", "openai-chat", path.to_str().unwrap()]).ok();
    let stored = std::fs::read(place.path("s")).unwrap();
    let exported = place.run(&["query", "s", "--json"]).ok();
    for value in &sensitive {
        let found = |bytes: &[u8]| bytes.windows(value.len()).any(|w| w == value.as_bytes());
        assert!(!found(exported.as_bytes()), "{value} is in an entry");
        assert!(!found(&stored), "{value} is in the file");
    }
}

/// Collects e-mail addresses and dates of birth by their member names in arguments and results, also inside strings that
/// contain JSON.
fn gather(value: &Json, found: &mut BTreeSet<String>) {
    match value {
        Json::Object(members) => {
            for (key, value) in members.iter() {
                match value.as_str() {
                    Some(text) if ["email", "dob", "card_number", "credit_card"].contains(&key) => {
                        found.insert(text.to_owned());
                    }
                    Some(text) if text.starts_with(['{', '[']) => {
                        if let Ok(inner) = Json::parse(text.as_bytes()) {
                            gather(&inner.value, found);
                        }
                    }
                    _ => gather(value, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| gather(item, found)),
        _ => {}
    }
}

#[test]
fn a_changed_byte_of_an_entry_is_found() {
    let Some(path) = shared(FILE) else { return };
    let place = Place::with_store();
    place.run(&["import", "s", "--format", "openai-chat", path.to_str().unwrap()]).ok();
    let good = std::fs::read(place.path("s")).unwrap();
    let lines = place.run(&["query", "s", "--json"]).ok();
    let mut found = 0;
    for entry in lines.lines().map(crate::common::json).step_by(83) {
        let seq = entry.get("seq").unwrap().as_u64();
        // The hash cannot be compressed, so its bytes appear in the file unchanged.
        let hash = attestlog::Hash::leaf(entry.to_canonical().as_str().as_bytes()).0;
        let mut edited = hash;
        edited[7] ^= 1;
        std::fs::write(place.path("s"), &good).unwrap();
        if overwrite(&place.path("s"), &hash, &edited) == 0 {
            continue;
        }
        found += 1;
        let ran = place.run(&["verify", "s", "--json"]).code(1);
        let verification = crate::common::json(&ran.out);
        let findings = verification.get("findings").unwrap().as_array().unwrap();
        assert!(findings.iter().any(|f| f.get("seq").and_then(Json::as_u64) == seq), "{seq:?}: {}", ran.out);
    }
    assert!(found >= 10, "only {found} entries could be found in the file");
}
