//! `prove`, `check`, `evidence`, `verify --against`: proofs of every kind through the program, and every way in which a
//! proof can fail.

use crate::common::{Place, call, json};
use attestlog::json::Json;

const SEALING: &str = "[redaction]\npreset = 'hipaa'\n[redaction.fields]\nssn = 'seal'\nremark = 'seal'\nplan = 'keep'\n[redaction.pseudonymise]\n";

fn key(place: &Place) -> String {
    let shown = place.run(&["keys", "show", "s", "--json"]).json();
    place.write("succession.json", shown.to_canonical().to_string());
    shown.get("public_key").unwrap().as_str().unwrap().to_owned()
}

fn calls() -> String {
    (0..30).map(|i| call("c", &format!("u{}", i % 3), "chart", &format!(r#""patient_id":"P-{}""#, i % 5))).collect()
}

/// A store with calls, a proof of one entry in `entry`, and the public key.
fn proven() -> (Place, String) {
    let place = Place::with_lines(&calls());
    let key = key(&place);
    place.write("entry", place.run(&["prove", "s", "7"]).ok());
    (place, key)
}

fn error(json: &Json) -> &str {
    assert_eq!(json.get("ok"), Some(&Json::Bool(false)));
    json.get("error").unwrap().as_str().unwrap()
}

#[test]
fn an_inclusion_proof_checks_and_nothing_that_was_changed_does() {
    let (place, key) = proven();
    let text = place.run(&["check", "entry", "--public-key", &key]).ok();
    assert!(text.contains("entry 7 is one of the first") && text.contains("not checked"), "{text}");
    let checked =
        place.run(&["check", "entry", "--public-key", &key, "--succession", "succession.json", "--json"]).json();
    assert_eq!(checked.get("kind").and_then(Json::as_str), Some("inclusion"));
    assert_eq!(checked.get("epoch").and_then(Json::as_u64), Some(0));
    let line = place.run(&["query", "s", "--json"]).ok().lines().nth(7).unwrap().to_owned();
    assert_eq!(checked.get("line").and_then(Json::as_str), Some(line.as_str()));

    let proof = std::fs::read_to_string(place.path("entry")).unwrap();
    let other = Place::empty().run(&["init", "s"]).ok();
    let forged = [
        (format!("{proof}\n"), ""),
        (format!("{proof}— example.com AAAA\n"), ""),
        (proof.replacen("index 7", "index 8", 1), ""),
        (proof.replacen("index 7", "index 9223372036854775808", 1), ""),
        (proof.replacen("\nindex", "\nmore x\nindex", 1), "no index line"),
        (proof[..proof.len() - 1].to_owned(), ""),
        (String::new(), "not a proof"),
        ("{\"kind\":\"everything\"}".to_owned(), "does not know"),
        ("[]".to_owned(), "not a proof"),
    ];
    for (forged, why) in forged {
        place.write("forged", &forged);
        let ran = place.run(&["check", "forged", "--public-key", &key]).code(1);
        assert!(
            ran.out.is_empty() && ran.err.contains("proves nothing") && ran.err.contains(why),
            "{why}: {}",
            ran.err
        );
        let ran = place.run(&["check", "forged", "--public-key", &key, "--json"]).code(1);
        assert!(error(&json(&ran.out)).contains(why), "{}", ran.out);
    }
    // Ten thousand signatures are refused, not checked.
    let flood = proof.clone() + &"— example.com/x AAAAAAAAAAAA\n".repeat(10_000);
    place.write("forged", flood);
    let ran = place.run(&["check", "forged", "--public-key", &key]).code(1);
    assert!(ran.err.contains("more than the limit"), "{}", ran.err);
    // Another log's key; a file that does not exist; an invalid key; a witness's key.
    let ran = place.run(&["check", "entry", "--public-key", other.trim()]).code(1);
    assert!(ran.err.contains("proves nothing"), "{}", ran.err);
    place.run(&["check", "nowhere", "--public-key", &key]).code(2);
    place.run(&["check", "entry", "--public-key", "nobody"]).code(2);
    let witness = place.run(&["check", "entry", "--public-key", WITNESS]).code(2);
    assert!(witness.err.contains("witness's key"), "{}", witness.err);
    place.run(&["check", "entry"]).code(2);
}

/// A key of type 4.
const WITNESS: &str = "witness.example.com+bc070de6+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

#[test]
fn consistency_is_proven_from_any_earlier_checkpoint() {
    let (place, key) = proven();
    place.write("old", place.run(&["checkpoint", "s"]).ok());
    place.run_with(&["record", "s", "--no-alerts"], calls().as_bytes()).ok();
    place.write("grown", place.run(&["prove", "s", "--consistent-with", "old"]).ok());
    let checked = place.run(&["check", "grown", "--public-key", &key, "--json"]).json();
    assert_eq!(checked.get("kind").and_then(Json::as_str), Some("consistency"));
    assert_eq!(
        (checked.get("old_size").unwrap().as_u64(), checked.get("new_size").unwrap().as_u64()),
        (Some(32), Some(62))
    );
    // A proof of another log, and of no log.
    let other = Place::with_lines(&calls());
    place.write("others", other.run(&["checkpoint", "s"]).ok());
    let ran = place.run(&["prove", "s", "--consistent-with", "others"]).code(1);
    assert!(ran.err.contains("others: the checkpoint is of"), "{}", ran.err);
    place.write("old", "x\n");
    assert!(place.run(&["prove", "s", "--consistent-with", "old"]).code(2).err.contains("old: "));
    place.run(&["prove", "s", "--consistent-with", "nowhere"]).code(2);
}

#[test]
fn an_answer_is_proven_complete() {
    let (place, key) = proven();
    let size = place.count(&[]);
    for (flag, value, n) in
        [("--user", "u1", 10), ("--tool", "chart", 30), ("--conversation", "c", 30), ("--patient", "P-2", 6)]
    {
        let proof = place.run(&["prove", "s", "--complete", flag, value]).ok();
        place.write("all", &proof);
        let checked = place.run(&["check", "all", "--public-key", &key, "--json"]).json();
        assert_eq!(checked.get("kind").and_then(Json::as_str), Some("complete"), "{flag}");
        assert_eq!(checked.get("seqs").unwrap().as_array().unwrap().len(), n, "{flag}");
        let text = place.run(&["check", "all", "--public-key", &key]).ok();
        assert!(text.contains(&format!("exactly {n} entries have")) && text.contains("It does not show"), "{text}");
        // The verdict stood above hundreds of lines of JSON.
        assert!(text.lines().count() < 12 && !text.contains("\"kind\""), "{text}");
        let whole = place.run(&["check", "all", "--public-key", &key, "--verbose"]).ok();
        assert_eq!(whole.lines().filter(|line| line.starts_with("  entry  ")).count(), n, "{whole}");
        // One entry less is not the answer; nor is one member more.
        let cut = proof.replacen("\"entries\":[{", "\"entries\":[{\"x\":1,", 1);
        place.write("all", cut);
        place.run(&["check", "all", "--public-key", &key]).code(1);
    }
    // The pending index batch was written, once.
    assert_eq!(place.count(&[]), size + 1);
    // For a user who is not in the log, somebody else would have to be named to show it.
    let ran = place.run(&["prove", "s", "--complete", "--user", "u9"]).code(2);
    assert!(ran.err.contains("--neighbours") && ran.out.is_empty(), "{}", ran.err);
    place.write("none", place.run(&["prove", "s", "--complete", "--user", "u9", "--neighbours"]).ok());
    let text = place.run(&["check", "none", "--public-key", &key]).ok();
    assert!(text.contains("exactly 0 entries"), "{text}");
    for usage in [
        &["prove", "s", "--complete"][..],
        &["prove", "s", "--user", "u1"],
        &["prove", "s", "1", "--complete", "--user", "u1"],
        &["prove", "s", "--complete", "--user", "u1", "--tool", "chart"],
        &["prove", "s", "--reveal", "arguments.ssn"],
        &["prove", "s", "1", "--actor", "x"],
        &["prove", "s"],
    ] {
        place.run(usage).code(2);
    }
}

#[test]
fn one_sealed_value_is_proven_and_the_log_says_who_saw_it() {
    let place = Place::empty();
    place.write("policy.toml", SEALING.replace("[redaction.pseudonymise]\n", ""));
    place.run(&["init", "s", "--config", "policy.toml"]).ok();
    let line =
        call("c", "u", "enrol", r#""patient_id":"P-1","arguments":{"ssn":"460-89-9847","remark":"afraid of cats"}"#);
    let receipt = place.run_with(&["record", "s", "--no-alerts", "--receipts"], line.as_bytes()).json();
    let seq = receipt.get("seq").unwrap().as_u64().unwrap().to_string();
    let key = key(&place);
    let proof = place.run(&["prove", "s", &seq, "--reveal", "arguments.ssn"]).ok();
    assert!(proof.contains("460-89-9847") && !proof.contains("afraid"), "{proof}");
    place.write("shown", &proof);
    let checked = place.run(&["check", "shown", "--public-key", &key, "--json"]).json();
    assert_eq!(checked.get("kind").and_then(Json::as_str), Some("reveal"));
    assert_eq!(checked.get("value").and_then(Json::as_str), Some("460-89-9847"));
    let text = place.run(&["check", "shown", "--public-key", &key]).ok();
    assert!(text.contains("460-89-9847") && !text.contains("afraid"), "{text}");
    place.write("shown", proof.replacen("460-89-9847", "460-89-9848", 1));
    assert!(place.run(&["check", "shown", "--public-key", &key]).code(1).err.contains("another value"));
    // The log records it, with who and why if given.
    let reveals = place.run(&["query", "s", "--kind", "reveal", "--json"]).ok();
    assert!(reveals.lines().count() == 1 && reveals.contains("selective disclosure"), "{reveals}");
    let said = ["prove", "s", &seq, "--reveal", "arguments.ssn", "--actor", "dr_no", "--reason", "claim 17"];
    place.run(&said).ok();
    let reveals = place.run(&["query", "s", "--kind", "reveal", "--json"]).ok();
    assert!(reveals.contains("dr_no") && reveals.contains("claim 17"), "{reveals}");
    // Nothing at this path, nothing sealed, no such entry, erased.
    for (seq, path) in
        [(&*seq, "arguments.nothing"), (&seq, "arguments"), ("99", "arguments.ssn"), (&seq, "arguments..")]
    {
        let ran = place.run(&["prove", "s", seq, "--reveal", path]).code(2);
        assert!(ran.out.is_empty());
    }
    place.run(&["erase", "s", "--subject", "P-1", "--actor", "officer", "--reason", "request"]).ok();
    let ran = place.run(&["prove", "s", &seq, "--reveal", "arguments.ssn"]).code(2);
    assert!(ran.out.is_empty() && ran.err.contains("was erased"), "{}", ran.err);
    assert_eq!(place.run(&["verify", "s", "--json"]).json().get("ok"), Some(&Json::Bool(true)));
}

#[test]
fn an_evidence_folder_is_written_once_and_says_what_verification_found() {
    let (place, key) = proven();
    place.write("kept", place.run(&["checkpoint", "s"]).ok());
    let out = place.run(&["evidence", "s", "folder", "--public-key", &key, "--against", "kept"]).ok();
    assert!(out.contains("README.txt") && out.contains("nothing wrong found"), "{out}");
    for name in ["entries.jsonl", "checkpoint", "public-key", "purges.jsonl", "report.json", "README.txt", "index.html"]
    {
        assert!(place.path("folder").join(name).exists(), "{name}");
    }
    let checked = place.run(&["check", "folder", "--public-key", &key, "--json"]).json();
    assert_eq!(checked.get("verdict").and_then(Json::as_str), Some("proved"));
    assert!(
        place
            .run(&["check", "folder", "--public-key", &key, "--patient", "P-1"])
            .code(1)
            .err
            .contains("about everybody")
    );
    let report = json(&std::fs::read_to_string(place.path("folder/report.json")).unwrap());
    assert_eq!((report.get("ok"), report.get("key_pinned")), (Some(&Json::Bool(true)), Some(&Json::Bool(true))));
    assert_eq!(report.get("anchored_size").and_then(Json::as_u64), Some(32));
    place.run(&["evidence", "s", "folder"]).code(2);
    place.run(&["evidence", "s", "nowhere/folder"]).code(2);
    // The key of another log is a wrong argument: nothing is written under it.
    let other = Place::empty().run(&["init", "s"]).ok();
    let ran = place.run(&["evidence", "s", "other", "--public-key", other.trim(), "--json"]).code(2);
    assert!(ran.err.contains("it is of the log") && !place.path("other").exists(), "{}", ran.err);
}

fn kinds(out: &str) -> Vec<String> {
    let findings = json(out).get("findings").unwrap().clone();
    findings.as_array().unwrap().iter().map(|f| f.get("kind").unwrap().as_str().unwrap().to_owned()).collect()
}

#[test]
fn verify_compares_with_whatever_was_kept_elsewhere() {
    let (place, key) = proven();
    let of = |args: &[&str], code| {
        let ran = place.run(&[&["verify", "s", "--json"], args].concat()).code(code);
        let figure = |name: &str| json(&ran.out).get(name).cloned().unwrap();
        (
            kinds(&ran.out),
            figure("anchored_size").as_u64().unwrap(),
            figure("rewritable_from").as_u64().unwrap(),
            ran.err,
        )
    };
    place.write("first", place.run(&["checkpoint", "s"]).ok());
    place.run_with(&["record", "s", "--no-alerts"], calls().as_bytes()).ok();
    // A file with several checkpoints, and a proof that somebody kept.
    let second = place.run(&["checkpoint", "s"]).ok();
    place.write("both", std::fs::read_to_string(place.path("first")).unwrap() + &second);
    assert_eq!(of(&[], 0), (vec![], 0, 0, String::new()));
    assert_eq!(of(&["--against", "first"], 0).1, 32);
    assert_eq!(of(&["--against", "entry"], 0).1, 32);
    assert_eq!(of(&["--against", "first", "--against", "both", "--public-key", &key], 0).1, 62);
    let text = place.run(&["verify", "s", "--against", "first"]).ok();
    assert!(text.contains("the first 32 of 62") && text.contains("30 entries, from entry 32 on"), "{text}");
    let text = place.run(&["verify", "s", "--against", "both"]).ok();
    assert!(text.contains("covers every entry") && !text.contains("UNANCHORED"), "{text}");
    // A torn line is reported, and does not hide the rest.
    place.write("torn", format!("{second}{{\"checkpoint\":\"exam"));
    let (found, size, _, err) = of(&["--against", "torn"], 0);
    assert!(found.is_empty() && size == 62 && err.contains("torn, line"), "{err}");
    // Another log's checkpoint; another log's key.
    let other = Place::with_lines(&calls());
    place.write("others", other.run(&["checkpoint", "s"]).ok());
    let wrong = |args: &[&str]| {
        let ran = place.run(&[&["verify", "s", "--json"], args].concat()).code(2);
        assert!(ran.out.is_empty() && ran.err.contains("it is of the log"), "{}", ran.err);
    };
    wrong(&["--against", "others"]);
    let others = other.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    wrong(&["--public-key", &others]);
    // An invalid file, a missing file.
    place.write("none", "nothing of the kind\n");
    for file in ["none", "nowhere", "."] {
        let ran = place.run(&["verify", "s", "--against", file]).code(2);
        assert!(ran.out.is_empty() && ran.err.contains(file), "{}", ran.err);
    }
    place.run(&["verify", "s", "--witness", &key]).code(2);
    // From standard input too.
    let ran = place.run_with(&["verify", "s", "--against", "-", "--json"], second.as_bytes());
    assert_eq!(ran.json().get("anchored_size").and_then(Json::as_u64), Some(62));
    // A rotation protects what came before it, for those who have the key from elsewhere.
    place.run(&["keys", "rotate", "s"]).ok();
    assert_eq!(of(&[], 0).2, 0);
    assert_eq!(of(&["--public-key", &key], 0).2, 62);
    let report = ["report", "access", "s", "--patient", "P-1", "--against", "first", "--format"];
    let text = place.run(&[&report[..], &["text"]].concat()).ok().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("PARTLY ANCHORED") && text.contains("its entries from 32 on"), "{text}");
    let report = place.run(&[&report[..], &["json"]].concat()).json();
    assert_eq!(report.get("anchored_size").and_then(Json::as_u64), Some(32));
}

#[test]
fn what_is_recorded_without_the_key_is_outside_what_is_signed() {
    let (place, key) = proven();
    let line = call("c", "u", "later", "");
    std::fs::rename(place.path("s.key"), place.path("safe")).unwrap();
    let ran = place.run_with(&["record", "s", "--no-alerts"], line.as_bytes()).code(3);
    assert!(ran.err.contains("the store's key file is missing") && ran.err.contains("unsigned"), "{}", ran.err);
    // What is already signed can still be proven; reading and verifying still work.
    place.run(&["prove", "s", "7"]).ok();
    place.run(&["verify", "s", "--public-key", &key]).ok();
    place.run_with(&["record", "s", "--no-alerts", "--unsigned"], line.as_bytes()).ok();
    let said = place.run(&["query", "s", "--kind", "key", "--json"]).ok();
    assert!(said.lines().count() == 1 && said.contains("opened_without_key"), "{said}");
    let report = place.run(&["verify", "s", "--json"]).json();
    assert_eq!(
        (report.get("size").unwrap().as_u64(), report.get("signed_size").unwrap().as_u64()),
        (Some(34), Some(32))
    );
    assert!(place.run(&["verify", "s"]).ok().contains("the first 32 of 34"));
    for command in [
        &["prove", "s", "7"][..],
        &["checkpoint", "s"],
        &["evidence", "s", "folder"],
        &["prove", "s", "--complete", "--user", "u1"],
    ] {
        assert!(place.run(command).code(3).err.contains("key"), "{command:?}");
    }
    assert!(!place.path("folder").exists());
    // With the key back the next checkpoint covers it again.
    std::fs::rename(place.path("safe"), place.path("s.key")).unwrap();
    place.run(&["checkpoint", "s"]).ok();
    assert_eq!(place.run(&["verify", "s", "--json"]).json().get("signed_size").unwrap().as_u64(), Some(34));
}
