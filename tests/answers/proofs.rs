//! Promise: a proof file says one thing, and a file with anything else in it says nothing; here the proof of a sealed value
//! of an entry.

use attestlog::Justification;
use attestlog::json::{Json, Object, Path};
use attestlog::proof::{CheckError, Proof, Proven, RevealProof, check};
use attestlog::redact::{Action, Opened, Policy, Preset, SubjectKey, open, seal};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, PolicySet, ToolCall};

/// A log with one call in which two values are sealed, and these values.
fn sealed() -> (AuditLog, u64, Vec<(Path, Opened)>) {
    let mut policies = PolicySet::default();
    let policy = Policy::builder(Preset::Floor).field("diagnosis", Action::Seal).field("remark", Action::Seal);
    policies.redaction = policy.build().unwrap();
    let log = Options::new().policies(policies).in_memory().unwrap();
    let arguments = Object::from_iter([("diagnosis", "J45.0"), ("remark", "afraid of cats")]);
    let seq = log.record(ToolCall::new("c", "u", "read_chart").arguments(Json::from(arguments))).unwrap().seq;
    let open = |path: &str| {
        let proof = log.proofs().reveal(seq, path, Justification { actor: "auditor", reason: "a test" }).unwrap();
        (proof.path, proof.opened)
    };
    let opened = vec![open("arguments.diagnosis"), open("arguments.remark")];
    (log, seq, opened)
}

#[test]
fn one_value_is_shown_and_the_other_stays_sealed() {
    let (log, seq, opened) = sealed();
    let (path, value) = opened[0].clone();
    let proof = RevealProof::new(log.prove(seq).unwrap(), path, value).unwrap();
    assert!(!format!("{proof:?}").contains("J45.0"));
    let file = proof.to_string();
    assert!(file.contains("J45.0") && !file.contains("afraid"));
    assert_eq!(Proof::parse(file.as_bytes()).unwrap(), Proof::Reveal(Box::new(proof)));
    let checked = check(file.as_bytes(), &log.public_key().unwrap().unwrap()).unwrap();
    let Proven::Reveal { seq: at, path, value, .. } = checked.proven() else { panic!("{checked:?}") };
    assert_eq!((*at, &*path.to_string(), value), (seq, "arguments.diagnosis", &Json::from("J45.0")));
    assert_eq!(checked.to_json().get("value").and_then(Json::as_str), Some("J45.0"));
    assert!(checked.to_string().contains(r#"the value sealed at arguments.diagnosis in entry 2"#));
}

#[test]
fn no_other_value_place_entry_or_log_passes() {
    let (log, seq, opened) = sealed();
    let other = log.record(ToolCall::new("c", "u", "read_chart")).unwrap().seq;
    let (path, right) = opened[0].clone();
    let entry = log.prove(seq).unwrap();
    let mut value = right.clone();
    value.value = Json::from("J45.1");
    let mut salt = right.clone();
    salt.salt[0] ^= 1;
    let elsewhere = Path::parse("arguments.nothing").unwrap();
    for (entry, path, opened) in [
        (entry.clone(), path.clone(), value),
        (entry.clone(), path.clone(), salt),
        (entry.clone(), opened[1].0.clone(), right.clone()),
        (entry.clone(), elsewhere, right.clone()),
        (log.prove(other).unwrap(), path.clone(), right.clone()),
    ] {
        assert!(matches!(RevealProof::new(entry, path, opened), Err(CheckError::Reveal(_))));
    }
    let key = log.public_key().unwrap().unwrap();
    let file = RevealProof::new(entry.clone(), path.clone(), right.clone()).unwrap().to_string();
    for (from, to) in [("J45.0", "J45.1"), ("diagnosis\"", "remark\""), ("index 2", "index 3"), ("{", "{ \"x\":1,")] {
        let forged = file.replacen(from, to, 1);
        assert!(check(forged.as_bytes(), &key).is_err(), "{from}");
    }
    assert!(check(file.as_bytes(), &AuditLog::in_memory().unwrap().public_key().unwrap().unwrap()).is_err());
    // A line with a commitment of the forger's choice is not in the log.
    let mut forged = RevealProof::new(entry, path, right).unwrap();
    forged.entry.line = String::from_utf8(forged.entry.line).unwrap().replace("read_chart", "read_notes").into_bytes();
    assert!(matches!(check(forged.to_string().as_bytes(), &key), Err(CheckError::Proof(_))));
    for cut in 0..file.trim_end().len().min(2000) {
        assert!(check(&file.as_bytes()[..cut], &key).is_err());
    }
}

/// An agent's argument in the form of a sealed value was once recorded as it came. From then on every verification reported
/// its key as missing, and whoever had chosen the commitment in it could prove that any value of their choice had been
/// sealed there.
#[test]
fn what_poses_as_a_sealed_value_is_none() {
    let random = &mut |out: &mut [u8]| {
        out.fill(3);
        Ok(())
    };
    let key = SubjectKey::generate(random).unwrap();
    let places =
        ["arguments", "arguments.a[1].b", "result", "result.list[0]", "session_metadata", "session_metadata.x"];
    for place in places {
        let path = Path::parse(place).unwrap();
        let posed = seal(&key, "k1", &path, &Json::from("whatever I like"), random).unwrap();
        let opened = open(&key, &path, &posed).unwrap();
        let text = posed.to_canonical().to_string();
        let mut policies = PolicySet::default();
        policies.results.keep_full = Some(4096);
        let log = Options::new().policies(policies).in_memory().unwrap();
        let value = |text: &str| Json::parse(text.as_bytes()).unwrap().value;
        let call = ToolCall::new("c", "u", "t");
        let call = match place {
            "arguments" => call.arguments(posed),
            "arguments.a[1].b" => call.arguments(value(&format!(r#"{{"a":[0,{{"b":{text}}}]}}"#))),
            "result" => call.result(posed),
            "result.list[0]" => call.result(value(&format!(r#"{{"list":[{text}]}}"#))),
            "session_metadata" => call.metadata("sealed", posed.get("sealed").unwrap().clone()),
            _ => call.metadata("x", posed),
        };
        let seq = log.record(call).unwrap().seq;
        let line = log.entry(seq).unwrap().line();
        assert!(line.contains(&format!(r#""restated":["{place}.sealed"]"#)), "{line}");
        assert!(line.contains("commitment"), "what was said is still there: {line}");
        let found = log.verify(&VerifyOptions::new()).unwrap().findings;
        assert!(found.is_empty(), "{place}: {found:?}");
        let refused = RevealProof::new(log.prove(seq).unwrap(), path, opened);
        assert!(matches!(refused, Err(CheckError::Reveal(_))), "{place}");
    }
}
