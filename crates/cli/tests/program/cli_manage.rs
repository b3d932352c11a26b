//! Proofs, keys, policies, holds, reports, the demo: the guarantees of these commands to scripts.

use crate::common::{Place, call, json};
use attestlog::json::Json;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

fn example() -> (Place, String) {
    let place = Place::empty();
    let key = place.run(&["init", "s", "--origin", "example.com/log"]).ok().trim().to_owned();
    let lines: String =
        (0..20).map(|i| call("c", "u", "t", &format!(r#""turn_number":{i},"patient_id":"P-{i}""#))).collect();
    // Without alert entries, so that each seq below belongs to a line.
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    (place, key)
}

#[test]
fn a_proof_checks_without_the_store() {
    let (place, key) = example();
    let proof = place.run(&["prove", "s", "7"]).ok();
    let line = place.run(&["query", "s", "--json"]).ok().lines().nth(7).unwrap().to_owned();
    std::fs::remove_file(place.path("s")).unwrap();
    place.write("proof", &proof);
    let checked = place.run(&["check", "proof", "--public-key", &key, "--json"]).json();
    assert_eq!(checked.get("ok"), Some(&Json::Bool(true)));
    assert_eq!((checked.get("seq").unwrap().as_u64(), checked.get("line").unwrap().as_str()), (Some(7), Some(&*line)));
    place.write("key", format!("{key}\n"));
    assert!(place.run(&["check", "proof", "--public-key", "key"]).ok().contains("valid"));
    assert!(
        place.run_with(&["check", "-", "--public-key", &key], proof.as_bytes()).ok().contains("epoch  not checked")
    );

    // Another key, a changed byte, another file: each proves nothing.
    let other = place.run(&["init", "other", "--origin", "example.com/log"]).ok();
    place.run(&["check", "proof", "--public-key", other.trim()]).code(1);
    // The last line is the epoch's signature, which can only be checked with the succession.
    let checked = proof.trim_end().rfind('\n').unwrap();
    for at in (0..checked).step_by(37) {
        let mut bad = proof.clone().into_bytes();
        bad[at] ^= 1;
        place.write("bad", bad);
        let ran = place.run(&["check", "bad", "--public-key", &key, "--json"]).code(1);
        assert_eq!(json(&ran.out).get("ok"), Some(&Json::Bool(false)));
    }
    place.run(&["check", "nowhere", "--public-key", &key]).code(2);
    place.run(&["check", "proof", "--public-key", "nonsense"]).code(2);
    place.run(&["check", "proof"]).code(2);
}

#[test]
fn a_log_that_grew_is_told_from_one_that_did_not() {
    let (place, key) = example();
    let earlier = place.run(&["checkpoint", "s"]).ok();
    assert!(earlier.starts_with("example.com/log/") && earlier.lines().nth(1) == Some("22"), "{earlier}");
    place.write("earlier", earlier);
    place.run_with(&["record", "s"], call("c", "u", "later", "").as_bytes()).ok();
    let proof = place.run(&["prove", "s", "--consistent-with", "earlier"]).ok();
    let value = json(&proof);
    for member in ["old_size", "old_root", "new_size", "new_root", "proof", "checkpoint"] {
        assert!(value.get(member).is_some(), "{member}");
    }
    place.write("proof", proof);
    let checked = place.run(&["check", "proof", "--public-key", &key, "--json"]).json();
    assert_eq!(checked.get("old_size").unwrap().as_u64(), Some(22));
    // The checkpoint of another log is not an earlier state of this one.
    place.run(&["init", "other"]).ok();
    let foreign = place.run(&["checkpoint", "other"]).ok();
    place.write("foreign", foreign);
    place.run(&["prove", "s", "--consistent-with", "foreign"]).code(1);
    place.run(&["prove", "s", "--consistent-with", "nowhere"]).code(2);
    place.run(&["prove", "s", "--consistent-with", "s.key"]).code(2);
    place.run(&["prove", "s", "999"]).code(2);
    place.run(&["prove", "s"]).code(2);
}

#[test]
fn keys_are_shown_rotated_and_copied() {
    let (place, key) = example();
    assert!(place.run(&["keys", "show", "s"]).ok().starts_with(&key));
    place.run(&["keys", "rotate", "s"]).ok();
    let shown = place.run(&["keys", "show", "s", "--json"]).ok();
    assert_eq!(json(&shown).get("public_key").unwrap().as_str(), Some(&*key));
    place.write("shown", shown);
    place.write("proof", place.run(&["prove", "s", "3"]).ok());
    let checked = place.run(&["check", "proof", "--public-key", &key, "--succession", "shown", "--json"]).json();
    assert_eq!(checked.get("epoch").unwrap().as_u64(), Some(1));
    place.run(&["keys", "backup", "s", "copy"]).ok();
    place.run(&["keys", "backup", "s", "copy"]).code(2);
    std::fs::remove_file(place.path("s.key")).unwrap();
    place.run_with(&["record", "s", "--unsigned"], call("c", "u", "later", "").as_bytes()).ok();
    place.run(&["checkpoint", "s"]).code(3);
    place.run(&["checkpoint", "s", "--key", "copy"]).ok();
}

#[test]
fn holds_are_placed_listed_and_released() {
    let (place, _) = example();
    let because = ["--actor", "counsel", "--reason", "lawsuit"];
    let id = place.run(&[&["hold", "place", "s", "--case", "C-9", "--patient", "P-3"], &because[..]].concat()).ok();
    let holds = place.run(&["hold", "list", "s", "--json"]).json();
    let hold = &holds.as_array().unwrap()[0];
    assert_eq!(hold.get("id").unwrap().as_u64().unwrap().to_string(), id.trim());
    assert_eq!(
        (hold.get("case").unwrap().as_str(), hold.get("actor").unwrap().as_str()),
        (Some("C-9"), Some("counsel"))
    );
    let held = hold.get("entries").and_then(Json::as_u64);
    assert!(held.is_some() && held == Some(place.count(&["--patient", "P-3"])), "{hold:?}");
    let list = place.run(&["hold", "list", "s"]).ok();
    assert!(list.contains("C-9") && list.contains("ENTRIES") && list.contains("patient P-3"), "{list}");
    place.run(&["hold", "place", "s", "--case", "C-9", "--patient", "P-3"]).code(2);
    place.run(&[&["hold", "place", "s", "--case", "C-9"], &because[..]].concat()).code(2);
    place.run(&[&["hold", "release", "s", "7"], &because[..]].concat()).code(2);
    place.run(&[&["hold", "release", "s", id.trim()], &because[..]].concat()).ok();
    assert_eq!(place.run(&["hold", "list", "s", "--json"]).ok(), "[]\n");
    assert_eq!(place.count(&["--kind", "hold_placed", "--kind", "hold_released"]), 2);
}

#[test]
fn policies_lengthen_and_never_shorten() {
    let (place, _) = example();
    place.write("longer.toml", "[retention.classes]\ngeneral = '5 years'\n");
    place.write("shorter.toml", "[retention.classes]\ngeneral = '1 month'\n");
    place.run(&["policy", "set", "s", "longer.toml"]).ok();
    let ran = place.run(&["policy", "set", "s", "shorter.toml"]).code(2);
    assert!(ran.err.contains("shorter.toml") && ran.err.contains("general"), "{}", ran.err);
    let shown = place.run(&["policy", "show", "s", "--json"]).json();
    let classes = shown.get("retention").unwrap().get("classes").unwrap();
    assert_eq!(classes.get("general").unwrap().as_str(), Some("5 years"));
    place.run(&["clock", "confirm", "s", "--actor", "ops", "--reason", "checked"]).ok();
    assert!(place.run(&["clock", "show", "s"]).ok().contains("runs"));
    place.run(&["verify", "s"]).ok();
}

/// What `policy show` printed could not be given to `policy set`, and what a policy can say stood only in the documentation.
#[test]
fn a_policy_that_is_shown_can_be_set() {
    let place = Place::empty();
    let example = place.run(&["policy", "example"]).ok();
    let documented = include_str!("../../../../docs/policy.md").split_once("```toml\n").unwrap().1;
    assert_eq!(example, documented.split_once("```").unwrap().0);
    place.write("example.toml", &example);
    place.run(&["init", "s", "--config", "example.toml"]).ok();
    let in_force = place.run(&["policy", "show", "s", "--json"]).ok();
    let shown = place.run(&["policy", "show", "s"]).ok();
    assert!(shown.starts_with("[retention]\n"), "{shown}");
    place.write("shown.toml", &shown);
    place.run(&["policy", "set", "s", "shown.toml"]).ok();
    assert_eq!(place.run(&["policy", "show", "s", "--json"]).ok(), in_force);
}

#[test]
fn help_is_by_task_and_for_every_shell() {
    let place = Place::empty();
    let help = place.run(&["--help"]).ok();
    for said in ["\nAsk:\n  query          Find entries\n", "\nKeep and remove:\n", "Exit codes: 0"] {
        assert!(help.contains(said), "{said:?} in {help}");
    }
    let stats = place.run(&["stats", "--help"]).ok();
    assert!(stats.contains("Examples:\n") && stats.contains("--by tool,server --compare 7d"), "{stats}");
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef attestlog"), ("fish", "complete -c attestlog")] {
        let script = place.run(&["completions", shell]).ok();
        assert!(script.contains(word) && script.contains("conversations"), "{shell}");
    }
    place.run(&["man", "man1"]).ok();
    for page in ["attestlog.1", "attestlog-query.1", "attestlog-hold-place.1"] {
        let page = std::fs::read_to_string(place.path("man1").join(page)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(!place.path("man1").join("attestlog-start-child.1").exists());
    // Each member that a line may have stands in the help of `record`.
    let help = place.run(&["record", "--help"]).ok();
    let members = "timestamp turn_number model agent_id tool_server arguments result error outcome duration_ms session_metadata user_role \
                   call_trigger patient_id purpose call_id retry_of follow_up_of emergency grant backfilled retention_class retain_until \
                   sender trace_id span_id prompt_id parent_agent_id parent_call_id approval digests resources conversation_id user_id \
                   tool_name";
    for member in members.split_whitespace() {
        assert!(help.contains(member), "{member}");
    }
}

#[test]
fn an_access_report_has_the_members_of_the_contract() {
    let (place, _) = example();
    let report = place.run(&["report", "access", "s", "--patient", "P-3", "--format", "json"]).json();
    for member in [
        "patient_id",
        "report_period",
        "total_accesses",
        "unique_users",
        "accesses",
        "purged",
        "integrity_verified",
        "anchored",
        "anchored_size",
    ] {
        assert!(report.get(member).is_some(), "{member}");
    }
    assert_eq!(report.get("total_accesses").unwrap().as_u64(), Some(1));
    assert_eq!(report.get("integrity_verified"), Some(&Json::Bool(true)));
    let access = &report.get("accesses").unwrap().as_array().unwrap()[0];
    let members = [
        "seq",
        "timestamp",
        "accessed_by",
        "role",
        "agent",
        "model",
        "tool",
        "viewed",
        "purpose",
        "success",
        "emergency",
    ];
    for member in members {
        assert!(access.get(member).is_some(), "{member}");
    }
    for format in ["text", "csv", "html", "fhir-r4", "fhir-r5"] {
        assert!(!place.run(&["report", "access", "s", "--patient", "P-3", "--format", format]).ok().is_empty());
    }
    let text = place.run(&["report", "access", "s", "--patient", "P-3"]).ok();
    assert!(text.contains("UNANCHORED"), "{text}");
    let later = ["report", "access", "s", "--patient", "P-3", "--format", "json", "--since", "2200-01-01"];
    assert_eq!(place.run(&later).json().get("total_accesses").unwrap().as_u64(), Some(0));
}

#[test]
fn a_policy_can_be_tried_out_without_a_store() {
    let place = Place::empty();
    let input = "{\"note\":\"write to ann@example.com\",\"password\":\"x\"}\n\n[1]\n";
    let treated = place.run_with(&["redact"], input.as_bytes()).ok();
    let lines: Vec<Json> = treated.lines().map(json).collect();
    assert_eq!(lines.len(), 2);
    assert!(!treated.contains("ann@") && lines[0].get("password").unwrap().as_str() != Some("x"));
    let explained = place.run_with(&["redact", "--explain", "-"], input.as_bytes()).ok();
    let first = json(explained.lines().next().unwrap());
    assert_eq!(first.get("output"), Some(&lines[0]));
    let found = first.get("treated").unwrap().as_array().unwrap();
    let mail = found.iter().find(|t| t.get("detector").unwrap().as_str() == Some("email")).unwrap();
    let figures = ["start", "end"].map(|k| mail.get(k).unwrap().as_u64());
    assert_eq!((mail.get("path").unwrap().as_str(), figures), (Some("note"), [Some(9), Some(24)]));
    place.write("p.toml", "[redaction.fields]\nnote = 'keep'\n");
    assert!(place.run_with(&["redact", "--config", "p.toml"], input.as_bytes()).ok().contains("ann@example.com"));
    let ran = place.run_with(&["redact"], b"{}\n{bad\n").code(2);
    assert!(ran.err.contains("standard input: line 2") && ran.out == "{}\n", "{}", ran.err);
    place.write("p.toml", "[redaction]\npreset = 'none of it'\n");
    assert!(place.run(&["redact", "--config", "p.toml"]).code(2).err.contains("p.toml:2:"));
}

#[test]
fn transcripts_go_in_with_what_flags_add() {
    let place = Place::with_store();
    let transcript = r#"[{"role":"user","content":"hi"},
        {"role":"assistant","content":null,"tool_calls":[
            {"id":"1","type":"function","function":{"name":"find","arguments":"{\"id\":7}"}},
            {"id":"2","type":"function","function":{"name":"find","arguments":"{\"id\":8}"}}]},
        {"role":"tool","tool_call_id":"1","content":"{\"status\":\"sent\"}"}]"#;
    place.write("t.json", transcript);
    // No user is given.
    place.run(&["import", "s", "--format", "openai-chat", "t.json"]).code(2);
    let flags = ["--user", "ann", "--model", "m", "--conversation", "conv"];
    let ran = place.run(&[&["import", "s", "--format", "openai-chat", "t.json"], &flags[..]].concat()).ok();
    assert!(ran.contains("2 calls in 1 conversation by 1 user with 1 tool"), "{ran}");
    assert_eq!(place.count(&["--user", "ann", "--model", "m", "--conversation", "conv", "--outcome", "abandoned"]), 1);
    place.write("calls.jsonl", call("c", "u", "t", "") + &call("c", "", "t", ""));
    let ran = place.run(&["import", "s", "--format", "jsonl", "calls.jsonl"]).code(1);
    assert!(ran.err.contains("calls.jsonl") && ran.err.contains("line 2"), "{}", ran.err);
    assert_eq!(place.count(&["--tool", "t"]), 1, "a bad line costs no good one");
}

#[test]
fn a_store_in_use_can_be_looked_at() {
    let place = Place::with_store();
    let mut child = place.command(&["record", "s", "--receipts"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(call("c", "u", "t", "").as_bytes()).unwrap();
    let mut receipt = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut receipt).unwrap();
    assert!(child.try_wait().unwrap().is_none());
    assert_eq!(place.count(&["--tool", "t"]), 1);
    drop(stdin);
    assert!(child.wait().unwrap().success());
    place.run(&["query", "s"]).ok();
}

#[test]
fn the_demo_runs_from_end_to_end() {
    let place = Place::empty();
    let shown = place.run(&["demo", "--dir", "d"]).ok();
    for expected in [
        "Turn 2",
        "break-glass-used",
        "ACCESS REPORT",
        "valid: entry",
        // How many depends on the day: eight years ago may have been a Sunday, which gives an alert that is purged with the
        // visit.
        "entries are gone",
        "purged by policy",
        "UNANCHORED",
        "entry_changed",
        "findings:",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
    assert!(!shown.contains("tok-93-secret") && !shown.contains("4111"));
    place.run(&["verify", "d/practice.log"]).ok();
    place.run(&["verify", "d/edited.log"]).code(1);
    place.run(&["demo", "--dir", "d"]).code(2);
}

/// The program put the store's name before a message unless it found the name in it: for a store called `s` it found it in
/// nearly every message, and nobody was told which store was meant. Which file an error names is now part of the error's
/// data.
#[test]
fn a_message_says_which_store_it_is_about() {
    let place = Place::with_store();
    let ran = place.run(&["hold", "release", "s", "7", "--actor", "a", "--reason", "r"]).code(2);
    assert!(ran.err.contains("attestlog: s: no hold 7 is in force"), "{}", ran.err);
    std::fs::write(place.path("s.key"), "not one").unwrap();
    let ran = place.run(&["hold", "release", "s", "7", "--actor", "a", "--reason", "r"]).code(3);
    assert!(ran.err.starts_with("attestlog: s.key: "), "what lies beside it names it well enough: {}", ran.err);
}

/// The page on policies says that `redact --explain` tries a policy out on one's own values. Of a call it left a patient in
/// `arguments.subject`, which `[[patients]]` names, and in the text of an error, as if a store would write them in clear.
#[test]
fn a_call_that_is_tried_out_is_treated_as_a_store_treats_it() {
    let place = Place::empty();
    place.write(
        "p.toml",
        "[[patients]]\ntool = 'get_chart'\npaths = ['arguments.subject', 'result.entries[*].patient.id']\n\
         [redaction]\npreset = 'hipaa'\n[redaction.fields]\ninsurance_number = 'seal'\n",
    );
    let lines = [
        r#""arguments":{"subject":"P-1041","insurance_number":"INS-77","note":"ask ann@example.com"},"result":{"entries":[{"patient":{"id":"P-2087"}}]},"retry_of":12"#,
        r#""arguments":{"patient_id":"P-1041"},"error":"no such drug for P-1041""#,
    ];
    let input: String = lines.iter().map(|more| call("v1", "dr_a", "get_chart", more)).collect();
    let args = ["redact", "--config", "p.toml", "--explain"];
    let shown = place.run_with(&args, input.as_bytes()).ok();
    assert_eq!(shown, place.run_with(&args, input.as_bytes()).ok(), "the same each time");
    assert!(!["P-1041", "P-2087", "INS-77", "ann@"].iter().any(|name| shown.contains(name)), "{shown}");

    // The same members come out as a store has them, but for its keys.
    place.run(&["init", "s", "--config", "p.toml"]).ok();
    let without = input.replace(r#","retry_of":12"#, "");
    place.run_with(&["record", "s", "--no-alerts"], without.as_bytes()).ok();
    let stored = place.run(&["query", "s", "--kind", "tool_call", "--json"]).ok();
    for (shown, stored) in shown.lines().map(json).zip(stored.lines().map(json)) {
        let output = shown.get("output").unwrap();
        for (name, value) in stored.as_object().unwrap().iter() {
            let of_the_entry =
                ["kind", "nonce", "policy_seq", "prev", "recorded_at", "retain_until", "seq", "treated", "timestamp"];
            let shape = |value: &Json| value.to_canonical().as_str().split("ps_").count();
            match of_the_entry.contains(&name) {
                true => assert!(output.get(name).is_none(), "{name}"),
                false => assert_eq!(output.get(name).map(shape), Some(shape(value)), "{name}: {output:?}"),
            }
        }
        // What was treated where is what the entry says, and for a text at which characters.
        let mut paths: Vec<String> = Vec::new();
        let summary = stored.get("treated").unwrap().as_object().unwrap();
        for (action, detectors) in summary.iter() {
            for (detector, at) in detectors.as_object().unwrap().iter() {
                let at = at.as_array().unwrap().iter().filter_map(Json::as_str);
                paths.extend(at.map(|path| format!("{action} {detector} {path}")));
            }
        }
        let text = |t: &Json, key: &str| t.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let treated = shown.get("treated").and_then(Json::as_array).unwrap();
        let mut told: Vec<String> = treated
            .iter()
            .map(|t| format!("{} {} {}", text(t, "action"), text(t, "detector"), text(t, "path")))
            .collect();
        paths.sort();
        told.sort();
        assert_eq!(told, paths);
    }
    let first = json(shown.lines().next().unwrap());
    assert_eq!(first.get("output").unwrap().get("retry_of").and_then(Json::as_u64), Some(12));
    let treated = first.get("treated").and_then(Json::as_array).unwrap();
    let mail = treated.iter().find(|t| t.get("detector").and_then(Json::as_str) == Some("email")).unwrap();
    assert_eq!(mail.get("start").and_then(Json::as_u64), Some(4));

    // What is no call is treated as a value, and the command says that it is none.
    let ran = place.run_with(&args, br#"{"tool_name":"get_chart","arguments":{"subject":"P-1041"}}"#).code(0);
    assert!(ran.err.contains("no call that a store takes") && ran.err.contains("conversation_id"), "{}", ran.err);
}
