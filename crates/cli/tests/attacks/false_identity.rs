//! A caller who names himself, or whom his call concerns, as somebody else (R55).

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

/// Whoever had seen a pseudonym in the log (a query prints it) gave it as his own user id or as the patient's. It was taken for
/// what had been treated already and written as it was: his calls stood under the other's name, were found with hers, counted as
/// hers, and kept by her hold.
#[test]
fn nobody_becomes_somebody_else_by_giving_a_pseudonym_as_a_name() {
    for policy in [HIDDEN, CLEAR] {
        let place = with_policy(HIDDEN);
        record(&place, "alice", "P-1");
        let alice = text(&calls(&place, &["--user", "alice"])[0], "user_id").to_owned();
        let patient = calls(&place, &[])[0].get("patient_ids").and_then(Json::as_array).unwrap()[0].clone();
        let patient = patient.as_str().unwrap().to_owned();
        assert!(alice.starts_with("ps_") && patient.starts_with("ps_"));
        // Whatever the policy says of names by then.
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
            // He is one person, and is found by the name that the log gives him.
            assert_eq!(calls(&place, &["--user", user]).len(), 2);
        }
        let key = text(&place.run(&["keys", "show", "s", "--json"]).json(), "public_key").to_owned();
        for value in ["alice", &alice] {
            place.write("proof", place.run(&["prove", "s", "--complete", "--user", value]).ok());
            let checked = place.run(&["check", "proof", "--public-key", &key, "--json"]).json();
            assert_eq!(checked.get("seqs").and_then(Json::as_array).unwrap().len(), 1, "{value}");
        }
        // Her hold keeps what is hers, and her pseudonym still names her where somebody is asked for.
        place.run(&["hold", "place", "s", "--actor", "dpo", "--reason", "r", "--case", "1", "--user", &alice]).ok();
        let stats = place.run(&["stats", "s", "--tool", "look", "--json"]).json();
        assert_eq!(stats.get("unique_users").and_then(Json::as_u64), Some(2));
    }
}

/// One person counted twice, as a clear name and as a pseudonym, once the policy had changed; and once for each pseudonym key.
#[test]
fn one_person_under_several_names_counts_once_or_it_is_said() {
    let place = with_policy(CLEAR);
    record(&place, "alice", "P-1");
    place.write("policy.toml", HIDDEN);
    place.run(&["policy", "set", "s", "policy.toml"]).ok();
    record(&place, "alice", "P-1");
    place.run(&["keys", "rotate", "s", "--pseudonyms"]).ok();
    record(&place, "alice", "P-1");
    let stats = |more: &[&str]| place.run(&[&["stats", "s", "--tool", "look", "--json"], more].concat()).json();
    let counted = |json: &Json| json.get("unique_users").and_then(Json::as_u64).unwrap();
    let repeat = |json: &Json, key: &str| json.get(key).and_then(Json::as_bool).unwrap();
    let report = |place: &Place| {
        let args = ["report", "access", "s", "--patient", "P-1", "--format", "json"];
        json(&place.run(&args).out)
    };

    // Her clear name is in the log and the keys are here: she is one.
    let said = stats(&[]);
    assert_eq!((counted(&said), repeat(&said, "users_may_repeat")), (1, false));
    let said = report(&place);
    assert_eq!((counted(&said), repeat(&said, "persons_may_repeat")), (1, false));
    // Without the keys nobody can tell.
    let said = stats(&["--key", "/nonexistent"]);
    assert_eq!((counted(&said), repeat(&said, "users_may_repeat")), (3, true));
    let table = place.run(&["stats", "s", "--key", "/nonexistent"]).ok();
    assert!(table.contains("a person may be counted more than once"), "{table}");

    // Bob was never written in clear: under two keys he is two, as far as anybody can tell, and that is said.
    let place = with_policy(HIDDEN);
    record(&place, "bob", "P-1");
    let one = place.run(&["stats", "s", "--tool", "look", "--json"]).json();
    assert_eq!((counted(&one), repeat(&one, "users_may_repeat")), (1, false));
    place.run(&["keys", "rotate", "s", "--pseudonyms"]).ok();
    record(&place, "bob", "P-1");
    let two = place.run(&["stats", "s", "--tool", "look", "--json"]).json();
    assert_eq!((counted(&two), repeat(&two, "users_may_repeat")), (2, true));
    assert!(repeat(&report(&place), "persons_may_repeat"));
    let said = place.run(&["report", "access", "s", "--patient", "P-1", "--format", "text"]).out;
    assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains("may be counted more than once"), "{said}");
    assert!(place.run(&["stats", "s"]).ok().contains("a person may be counted more than once"));
}
