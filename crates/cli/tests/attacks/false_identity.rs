//! A caller gives somebody else's name as the user, or as the patient concerned (R55).

use super::common::{Place, call, json};
use attestlog::json::Json;

const HIDDEN: &str = "[redaction.facets]\nuser = \"pseudonymise\"\npatient = \"pseudonymise\"\n";
const CLEAR: &str = "[redaction.facets]\nuser = \"keep\"\npatient = \"keep\"\n";

fn with_policy(policy: &str) -> Place {
    let place = Place::empty();
    place.write("policy.toml", policy);
    place.run(&["init", "s", "--config", "policy.toml"]).ok();
    place
}

fn record(place: &Place, user: &str, patient: &str) {
    let line = call("c", user, "look", &format!(r#""patient_id":"{patient}""#));
    place.run_with(&["record", "s", "--no-alerts"], line.as_bytes()).ok();
}

fn calls(place: &Place, filters: &[&str]) -> Vec<Json> {
    let args = [&["query", "s", "--kind", "tool_call", "--json"], filters].concat();
    place.run(&args).ok().lines().map(json).collect()
}

fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    json.get(key).and_then(Json::as_str).unwrap()
}

/// Somebody who had seen a pseudonym in the log (a query prints it) gave it as their own user id or as the patient's. It
/// was taken for a value that had been treated already and written as it was: their calls were recorded under the other
/// user's name, found and counted with hers, and kept by her hold.
#[test]
fn nobody_becomes_somebody_else_by_giving_a_pseudonym_as_a_name() {
    for policy in [HIDDEN, CLEAR] {
        let place = with_policy(HIDDEN);
        record(&place, "alice", "P-1");
        let alice = text(&calls(&place, &["--user", "alice"])[0], "user_id").to_owned();
        let patient = calls(&place, &[])[0].get("patient_ids").and_then(Json::as_array).unwrap()[0].clone();
        let patient = patient.as_str().unwrap().to_owned();
        assert!(alice.starts_with("ps_") && patient.starts_with("ps_"));
        // Whatever the policy then says about names.
        place.write("policy.toml", policy);
        place.run(&["policy", "set", "s", "policy.toml"]).ok();
        record(&place, &alice, &patient);
        record(&place, &format!(" {alice}\u{200b}"), &patient);

        for filters in [["--user", "alice"], ["--user", &alice], ["--patient", "P-1"], ["--patient", &patient]] {
            assert_eq!(calls(&place, &filters).len(), 1, "{filters:?}");
        }
        let all = calls(&place, &[]);
        assert_eq!(all.len(), 3);
        for impostor in &all[1..] {
            let user = text(impostor, "user_id");
            assert!(user.starts_with("ps_") && user != alice, "{user}");
            let treated = impostor.get("treated").unwrap().to_canonical();
            let marked = r#""pseudonym":["patient_ids","user_id"]"#;
            assert!(treated.as_str().contains(marked), "{}", treated.as_str());
            assert!(!impostor.to_canonical().as_str().contains(&patient));
            // The caller is one person, and is found by the name that the log assigns.
            assert_eq!(calls(&place, &["--user", user]).len(), 2);
        }
        let key = text(&place.run(&["keys", "show", "s", "--json"]).json(), "public_key").to_owned();
        for value in ["alice", &alice] {
            place.write("proof", place.run(&["prove", "s", "--complete", "--user", value]).ok());
            let checked = place.run(&["check", "proof", "--public-key", &key, "--key", "s.key", "--json"]).json();
            assert_eq!(checked.get("seqs").and_then(Json::as_array).unwrap().len(), 1, "{value}");
        }
        // Her hold keeps only her calls, and her pseudonym still stands for her in requests.
        place.run(&["hold", "place", "s", "--actor", "dpo", "--reason", "r", "--case", "1", "--user", &alice]).ok();
        let stats = place.run(&["stats", "s", "--tool", "look", "--json"]).json();
        assert_eq!(stats.get("unique_users").and_then(Json::as_u64), Some(2));
    }
}

/// After a change of the policy one person counted twice, as a clear name and as a pseudonym; and once for each pseudonym
/// key.
#[test]
fn one_person_under_several_names_counts_once_or_it_is_said() {
    let place = with_policy(CLEAR);
    record(&place, "alice", "P-1");
    place.write("policy.toml", HIDDEN);
    place.run(&["policy", "set", "s", "policy.toml"]).ok();
    record(&place, "alice", "P-1");
    place.run(&["keys", "rotate", "s", "--pseudonyms"]).ok();
    record(&place, "alice", "P-1");
    let stats_of =
        |place: &Place, more: &[&str]| place.run(&[&["stats", "s", "--tool", "look", "--json"], more].concat()).json();
    let stats = |more: &[&str]| stats_of(&place, more);
    let counted = |json: &Json| json.get("unique_users").and_then(Json::as_u64).unwrap();
    let repeat = |json: &Json, key: &str| json.get(key).and_then(Json::as_bool).unwrap();
    let report = |place: &Place| {
        let args = ["report", "access", "s", "--patient", "P-1", "--format", "json"];
        json(&place.run(&args).out)
    };

    // Her clear name is in the log and the keys are here: she counts once.
    let said = stats(&[]);
    assert_eq!((counted(&said), repeat(&said, "users_may_repeat")), (1, false));
    let said = report(&place);
    assert_eq!((counted(&said), repeat(&said, "persons_may_repeat")), (1, false));
    // Without the keys this cannot be known.
    let said = stats(&["--key", "/nonexistent"]);
    assert_eq!((counted(&said), repeat(&said, "users_may_repeat")), (3, true));
    let table = place.run(&["stats", "s", "--key", "/nonexistent"]).ok();
    assert!(table.contains("a person may be counted more than once"), "{table}");

    // Bob was never written in clear. Under two keys he counted twice, though alert rules count him once: the two keys tell that it is
    // the same person, and nobody has to know who. Without them he counts twice, and the output says so.
    let place = with_policy(HIDDEN);
    record(&place, "bob", "P-1");
    let one = place.run(&["stats", "s", "--tool", "look", "--json"]).json();
    assert_eq!((counted(&one), repeat(&one, "users_may_repeat")), (1, false));
    place.run(&["keys", "rotate", "s", "--pseudonyms"]).ok();
    record(&place, "bob", "P-1");
    let two = place.run(&["stats", "s", "--tool", "look", "--json"]).json();
    assert_eq!((counted(&two), repeat(&two, "users_may_repeat")), (1, false));
    let said = report(&place);
    assert_eq!((counted(&said), repeat(&said, "persons_may_repeat")), (1, false));
    let two = stats_of(&place, &["--key", "/nonexistent"]);
    assert_eq!((counted(&two), repeat(&two, "users_may_repeat")), (2, true));
    assert!(
        place.run(&["stats", "s", "--key", "/nonexistent"]).ok().contains("a person may be counted more than once")
    );
}

/// The story: `éva` can be written with one character for the accented letter, or with two, and looks the same. Whoever asked for one
/// was told of `eva` and of a wide `ｅva`, and not of the other; under pseudonyms a search for the wrong one found nothing near it.
#[test]
fn a_name_written_in_the_other_way_of_unicode_is_named() {
    let (one, two) = ("\u{e9}va", "e\u{301}va");
    let lines =
        [call("c", one, "t", r#""patient_id":"Mu\u0308ller""#), call("c", two, "t", r#""patient_id":"M\u00fcller""#)]
            .concat();
    let place = Place::with_lines(&lines);
    for (asked, other) in [(one, two), (two, one)] {
        assert_eq!(place.count(&["--user", asked]), 1);
        for args in [&["query", "s", "--user", asked][..], &["report", "access", "s", "--user", asked]] {
            let ran = place.run(args).code(0);
            let told: String = other
                .chars()
                .map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() })
                .collect();
            assert!(ran.err.contains(other) || ran.err.contains(&told), "{args:?}: {}", ran.err);
        }
    }
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    place.write("proof", place.run(&["prove", "s", "--complete", "--neighbours", "--patient", "M\u{fc}ller"]).ok());
    let refused = place.run(&["check", "proof", "--public-key", &key, "--patient", "Mu\u{308}ller"]).code(1);
    assert!(refused.err.contains("which only looks like it"), "{}", refused.err);
    // Where names are hidden, the other way of writing is tried.
    let hidden = Place::empty();
    hidden.write("hipaa.toml", "[redaction]\npreset = \"hipaa\"\n");
    hidden.run(&["init", "s", "--config", "hipaa.toml"]).ok();
    hidden
        .run_with(&["record", "s", "--no-alerts"], call("c", "u", "t", r#""patient_id":"M\u00fcller""#).as_bytes())
        .ok();
    let ran = hidden.run(&["query", "s", "--patient", "Mu\u{308}ller"]);
    assert!(ran.err.contains("M\u{fc}ller") || ran.err.contains("M\\u{fc}ller"), "{}", ran.err);
}
