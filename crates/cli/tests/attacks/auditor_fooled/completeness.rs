//! Somebody asks for a proof that nothing is missing, for a name that the log does not have: it was correct, and said
//! nothing.

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
    let proof = log.proofs().complete(field, value, neighbours).unwrap().to_string();
    match check(proof.as_bytes(), &log.public_key().unwrap().unwrap()).unwrap().proven() {
        Proven::Complete { entries, .. } => entries.len() as u64,
        other => panic!("{other:?}"),
    }
}

/// For a patient with the name of a social security number, a conversation with the name of a card, and a patient with a
/// hidden patient in its name, the proof said 'exactly 0': the log has their pseudonyms, and the proof showed only that the
/// clear names are not in it.
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
        log.keys().rotate_pseudonym_key().unwrap();
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

/// One name is both a user's and a patient's, and the policy hides patients: the user's name became a pseudonym, since it
/// contains a hidden name.
#[test]
fn one_name_as_user_and_patient_is_proven_as_both() {
    let log = log(Preset::Hipaa);
    log.record(ToolCall::new("c", "jane_roe_4711", "portal").patient("jane_roe_4711")).unwrap();
    for field in [Facet::User, Facet::Patient] {
        assert_eq!(proven(&log, field, "jane_roe_4711", Neighbours::Reveal), 1);
    }
}

/// Pseudonyms are searched for in addition, in an index order of their own: that requires no other person's clear name to
/// be shown.
#[test]
fn to_look_for_pseudonyms_names_nobody_else() {
    let log = log(Preset::Default);
    for user in ["ann", "bob", "zoe"] {
        log.record(ToolCall::new(format!("conv_{user}"), user, "t").patient(format!("P-{user}"))).unwrap();
    }
    log.flush_index().unwrap();
    for (field, value) in [(Facet::User, "ann"), (Facet::Patient, "P-bob"), (Facet::Conversation, "conv_zoe")] {
        assert_eq!(proven(&log, field, value, Neighbours::Withhold), 1);
        let proof = log.proofs().complete(field, value, Neighbours::Withhold).unwrap().to_string();
        let others = ["ann", "bob", "zoe"].into_iter().filter(|name| !value.contains(name));
        for other in others {
            assert!(!proof.contains(other), "{other} in the proof of {value}");
        }
    }
}

/// An auditor asks what the log has about the user `anna`, who has an entry. He gets a proof about `аnna`, with a Cyrillic
/// letter, made for `zoe`, whom the log does not know either, with the name in it changed. It was valid, and said that
/// exactly 0 entries have that user.
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
    // The right one passes without a remark; one about another facet or of another kind does not.
    place.write("proof", place.run(&["prove", "s", "--complete", "--neighbours", "--user", "anna"]).ok());
    let said = place.run(&["check", "proof", "--public-key", &key, "--user", " anna"]).ok();
    assert!(said.contains("exactly 1 entry") && !said.contains("LOOKS LIKE"), "{said}");
    place.run(&["check", "proof", "--public-key", &key, "--patient", "anna"]).code(1);
    place.run(&["check", "proof", "--public-key", &key, "--user", "Anna"]).code(1);
    place.write("proof", place.run(&["prove", "s", "1"]).ok());
    place.run(&["check", "proof", "--public-key", &key, "--user", "anna"]).code(1);
}

/// The story: under a policy that hides patients, somebody with neither key nor store wrote another name into a proof that the log has
/// nothing about `Nobody`, with `sed`. `check` said `valid: of the first 9 entries of the log exactly 0 entries have patient "P-1"` and
/// ended with 0; the log has two. That the pseudonyms were not proven to be hers stood further down (R101).
#[test]
fn a_proof_about_a_hidden_name_is_not_turned_into_one_about_another() {
    let place = Place::empty();
    place.write("hipaa.toml", "[redaction]\npreset = \"hipaa\"\n");
    place.run(&["init", "s", "--config", "hipaa.toml"]).ok();
    let lines: String = (0..6).map(|i| call("c", "u", "t", &format!(r#""patient_id":"P-{}""#, i % 3))).collect();
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    place.write("succession", place.run(&["keys", "show", "s", "--json"]).ok());
    let prove = |patient: &str| place.run(&["prove", "s", "--complete", "--neighbours", "--patient", patient]).ok();
    let check = |more: &[&str]| {
        let args = ["check", "proof", "--public-key", &key, "--succession", "succession", "--patient", "P-1"];
        place.run(&[&args[..], more].concat())
    };
    let mapping = |json: &Json| json.get("value_mapping").and_then(Json::as_str).map(str::to_owned);
    // With none of the entries, with those of somebody else, and with her own: nobody can tell these apart without the key.
    let of_another = prove("P-2").replace("\"P-2\"", "\"P-1\"");
    for (made, holds) in [(prove("Nobody").replace("Nobody", "P-1"), false), (of_another, false), (prove("P-1"), true)]
    {
        place.write("proof", made);
        let said = check(&[]).code(1).out;
        let head = said.lines().next().unwrap();
        assert!(head.starts_with("NOT PROVEN") && head.contains("patient ps_") && !head.contains("P-1"), "{said}");
        assert!(said.contains("IS NOT PROVEN") && said.contains("--key FILE") && !said.contains("valid"), "{said}");
        let said = json(&check(&["--json"]).code(1).out);
        assert_eq!((said.get("ok"), mapping(&said).as_deref()), (Some(&Json::Bool(false)), Some("unproven")));
        // Whoever holds the keys can tell.
        let told = check(&["--key", "s.key"]);
        if holds {
            let told = told.ok();
            assert!(told.starts_with("valid") && told.contains("exactly 2 entries have patient \"P-1\""), "{told}");
            let said = check(&["--key", "s.key", "--json"]).json();
            assert_eq!((said.get("ok"), mapping(&said).as_deref()), (Some(&Json::Bool(true)), Some("confirmed")));
        } else {
            let told = told.code(1);
            assert!(told.err.contains("not the pseudonym of \"P-1\"") && told.out.is_empty(), "{}", told.err);
        }
    }
    // A key file from before the pseudonym key was replaced, or of another log, confirms nothing.
    std::fs::copy(place.path("s.key"), place.path("old.key")).unwrap();
    place.run(&["keys", "rotate", "s", "--pseudonyms"]).ok();
    place.write("proof", prove("P-1"));
    assert!(check(&["--key", "old.key"]).code(1).err.contains("newest key file"));
    check(&["--key", "s.key"]).ok();
    place.run(&["init", "other"]).ok();
    check(&["--key", "other.key"]).code(2);
}

/// Where the log has no pseudonym of the facet, which the neighbours in each batch show, it does not matter whose pseudonyms were looked
/// for: the name in clear is proven, in both directions, and nothing else can be written over it.
#[test]
fn a_name_in_clear_is_proven_without_anybody_s_word() {
    let lines: String = (0..6).map(|i| call("c", "u", "t", &format!(r#""patient_id":"P-{}""#, i % 3))).collect();
    let place = Place::with_lines(&lines);
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    let check = |file: &str| {
        place.write("proof", file);
        place.run(&["check", "proof", "--public-key", &key, "--patient", "P-1"])
    };
    let prove = |patient: &str| place.run(&["prove", "s", "--complete", "--neighbours", "--patient", patient]).ok();
    let said = check(&prove("P-1")).ok();
    assert!(said.starts_with("valid") && said.contains("exactly 2 entries have patient \"P-1\""), "{said}");
    assert!(!said.contains("NOT PROVEN"), "{said}");
    check(&prove("Nobody").replace("Nobody", "P-1")).code(1);
    // One patient whose name is hidden under every policy: from now on nobody can tell whether it is P-1's.
    place
        .run_with(&["record", "s", "--no-alerts"], call("c", "u", "t", r#""patient_id":"460-89-9847""#).as_bytes())
        .ok();
    assert!(check(&prove("P-1")).code(1).out.starts_with("NOT PROVEN"));
    // It is the patients' names that matter.
    place.write("proof", place.run(&["prove", "s", "--complete", "--neighbours", "--user", "u"]).ok());
    place.run(&["check", "proof", "--public-key", &key, "--user", "u"]).ok();
}
