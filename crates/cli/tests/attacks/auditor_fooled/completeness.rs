//! Somebody asks for a proof that nothing is missing, of a name of which the log has none: it was right, and said nothing.

use crate::common::{Place, call, json};
use attestlog::json::Json;
use attestlog::proof::{Proven, check};
use attestlog::redact::{Policy, Preset};
use attestlog::{AuditLog, Facet, Neighbours, Options, PolicySet, Query, ToolCall};

fn log(preset: Preset) -> AuditLog {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(preset);
    Options::new().policies(policies).background(false).in_memory().unwrap()
}

fn proven(log: &AuditLog, field: Facet, value: &str, neighbours: Neighbours) -> u64 {
    let proof = log.prove_complete(field, value, neighbours).unwrap().to_string();
    match check(proof.as_bytes(), &log.public_key().unwrap()).unwrap().proven() {
        Proven::Complete { entries, .. } => entries.len() as u64,
        other => panic!("{other:?}"),
    }
}

/// Of a patient who is called like a social security number, of a conversation that is called like a card, and of one with
/// a hidden patient in its name the proof said 'exactly 0': the log has their pseudonyms, the proof showed that the clear names
/// are not in it.
#[test]
fn exactly_none_is_never_said_of_what_is_there_under_a_pseudonym() {
    for preset in Preset::ALL {
        let log = log(preset);
        let call = |conversation: &str, patient: &str| {
            log.record(ToolCall::new(conversation, "dr_a", "read_chart").patient(patient)).unwrap();
        };
        call("conv_1", "460-89-9847");
        call("4242424242424242", "P-1");
        call("visit-P-1007-2026", "P-1007");
        log.flush_index().unwrap();
        log.rotate_pseudonym_key().unwrap();
        call("4242424242424242", "460-89-9847");
        for (field, value, there) in [
            (Facet::Patient, "460-89-9847", 2),
            (Facet::Conversation, "4242424242424242", 2),
            (Facet::Conversation, "visit-P-1007-2026", 1),
            (Facet::Patient, "P-1007", 1),
            (Facet::Tool, "read_chart", 4),
            (Facet::User, "dr_a", 4),
        ] {
            assert_eq!(log.count(&Query::new().facet(field, value)).unwrap(), there, "{preset:?} {value}");
            assert_eq!(proven(&log, field, value, Neighbours::Reveal), there, "{preset:?} {value}");
        }
    }
}

/// One name as user and patient, where the policy hides patients: the user's was a pseudonym, since it has a hidden name in it.
#[test]
fn one_name_as_user_and_patient_is_proven_as_both() {
    let log = log(Preset::Hipaa);
    log.record(ToolCall::new("c", "jane_roe_4711", "portal").patient("jane_roe_4711")).unwrap();
    for field in [Facet::User, Facet::Patient] {
        assert_eq!(proven(&log, field, "jane_roe_4711", Neighbours::Reveal), 1);
    }
}

/// Pseudonyms are looked for besides, in an order of rows of their own: nobody's clear name has to be shown for that.
#[test]
fn to_look_for_pseudonyms_names_nobody_else() {
    let log = log(Preset::Default);
    for user in ["ann", "bob", "zoe"] {
        log.record(ToolCall::new(format!("conv_{user}"), user, "t").patient(format!("P-{user}"))).unwrap();
    }
    log.flush_index().unwrap();
    for (field, value) in [(Facet::User, "ann"), (Facet::Patient, "P-bob"), (Facet::Conversation, "conv_zoe")] {
        assert_eq!(proven(&log, field, value, Neighbours::Withhold), 1);
        let proof = log.prove_complete(field, value, Neighbours::Withhold).unwrap().to_string();
        let others = ["ann", "bob", "zoe"].into_iter().filter(|name| !value.contains(name));
        for other in others {
            assert!(!proof.contains(other), "{other} in the proof of {value}");
        }
    }
}

/// An auditor asks what there is of the user `anna`, who has an entry. He gets a proof of `аnna`, with a Cyrillic letter: made for `zoe`,
/// whom the log does not know either, and the name in it changed. It was valid, and said that exactly 0 entries have that user.
#[test]
fn a_proof_of_a_look_alike_is_not_one_of_the_name() {
    let place = Place::with_lines(&call("c", "anna", "read_chart", r#""patient_id":"P-1""#));
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    let made = place.run(&["prove", "s", "--complete", "--neighbours", "--user", "zoe"]).ok();
    for (alike, letter) in [("\u{430}nna", "\\u{430}nna"), ("\u{ff41}nna", "\\u{ff41}nna")] {
        place.write("proof", made.replace("\"zoe\"", &format!("\"{alike}\"")));
        let said = place.run(&["check", "proof", "--public-key", &key]).ok();
        assert!(said.contains("ONLY LOOKS LIKE \"anna\"") && said.contains(letter), "{said}");
        let said = json(&place.run(&["check", "proof", "--public-key", &key, "--json"]).ok());
        assert_eq!(said.get("looks_like").and_then(Json::as_str), Some("anna"));
        let refused = place.run(&["check", "proof", "--public-key", &key, "--user", "anna"]).code(1);
        assert!(refused.err.contains("which only looks like it") && refused.err.contains(letter), "{}", refused.err);
        let refused = place.run(&["check", "proof", "--public-key", &key, "--user", "anna", "--json"]).code(1);
        assert_eq!(json(&refused.out).get("ok"), Some(&Json::Bool(false)), "{}", refused.out);
        place.run(&["check", "proof", "--public-key", &key, "--user", alike]).code(0);
    }
    // The right one passes, and nothing is said of it; one of another facet or of another kind does not.
    place.write("proof", place.run(&["prove", "s", "--complete", "--neighbours", "--user", "anna"]).ok());
    let said = place.run(&["check", "proof", "--public-key", &key, "--user", " anna"]).ok();
    assert!(said.contains("exactly 1 entry") && !said.contains("LOOKS LIKE"), "{said}");
    place.run(&["check", "proof", "--public-key", &key, "--patient", "anna"]).code(1);
    place.run(&["check", "proof", "--public-key", &key, "--user", "Anna"]).code(1);
    place.write("proof", place.run(&["prove", "s", "1"]).ok());
    place.run(&["check", "proof", "--public-key", &key, "--user", "anna"]).code(1);
}
