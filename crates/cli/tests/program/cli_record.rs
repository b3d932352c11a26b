//! `attestlog record`: its guarantees to scripts.

use crate::common::{Place, call, json};
use attestlog::Hash;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

#[test]
fn records_every_member_of_the_input() {
    let place = Place::with_store();
    let line = r#"{"timestamp":"2025-07-06T16:23:01.456+02:00","conversation_id":"conv_abc123","turn_number":7,
        "user_id":"usr_98765","tool_name":"update_order_status","arguments":{"b":1,"a":[true,null]},"result":{"id":9,"secret_name":"x"},
        "duration_ms":145.2,"model":"gpt-4.1","session_metadata":{"user_role":"support_agent","client_ip":"10.0.1.5"},
        "call_trigger":"user_request","patient_id":["P-2","P-1"],"purpose":"treatment","call_id":"call_1","agent_id":"a1"}"#
        .replace('\n', " ");
    place.run_with(&["record", "s"], line.as_bytes()).ok();
    let entry = place.run(&["query", "s", "--json", "--kind", "tool_call"]).json();
    let expected = [
        ("timestamp", r#""2025-07-06T14:23:01.456Z""#),
        ("conversation_id", r#""conv_abc123""#),
        ("turn_number", "7"),
        ("user_id", r#""usr_98765""#),
        ("tool_name", r#""update_order_status""#),
        ("arguments", r#"{"a":[true,null],"b":1}"#),
        ("duration_ms", "145.2"),
        ("model", r#""gpt-4.1""#),
        ("session_metadata", r#"{"client_ip":"10.0.1.5","user_role":"support_agent"}"#),
        ("call_trigger", r#""user_request""#),
        ("patient_ids", r#"["P-1","P-2"]"#),
        ("purpose", r#""treatment""#),
        ("call_id", r#""call_1""#),
        ("agent_id", r#""a1""#),
        ("success", "true"),
        ("outcome", r#""ok""#),
        ("retention_class", r#""healthcare""#),
    ];
    for (key, value) in expected {
        assert_eq!(entry.get(key).map(|v| v.to_canonical().to_string()).as_deref(), Some(value), "{key}");
    }
}

#[test]
fn receipts_name_the_line_that_was_hashed() {
    let place = Place::with_store();
    let input = format!("{}\n\n{}", call("c", "u", "a", ""), call("c", "u", "b", ""));
    let receipts = place.run_with(&["record", "s", "-", "--receipts"], input.as_bytes()).ok();
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let receipts: Vec<_> = receipts.lines().map(json).collect();
    assert_eq!(receipts.len(), 2);
    for (receipt, line) in receipts.iter().zip(lines.lines()) {
        assert_eq!(receipt.get("seq"), json(line).get("seq"));
        assert_eq!(receipt.get("hash").unwrap().as_str().unwrap(), Hash::leaf(line.as_bytes()).to_string());
        assert_eq!(receipt.as_object().unwrap().len(), 2);
    }
}

/// The story: a numbered call was sent again, nothing was recorded, and the answer was "recorded 1 call".
#[test]
fn a_repeat_is_said_to_be_one() {
    let place = Place::with_store();
    let numbered = |n: u64| call("c", "u", "t", &format!(r#""sender":{{"id":"me","number":{n}}}"#));
    let record = |lines: String, more: &[&str]| {
        place.run_with(&[&["record", "s", "--no-alerts"], more].concat(), lines.as_bytes()).ok()
    };
    assert_eq!(record(numbered(1), &[]), "recorded 1 call, the newest at seq 2\n");
    let again = "recorded 0 calls; 1 call was in the log already (at seq 2) and was not recorded again\n";
    assert_eq!(record(numbered(1), &[]), again);
    let mixed = [numbered(1), numbered(2), numbered(2), call("c", "u", "t", "")].concat();
    let told = "recorded 2 calls, the newest at seq 4; 2 calls were in the log already (the last at seq 3) and were not recorded \
                again\n";
    assert_eq!(record(mixed, &[]), told);
    let receipts: Vec<_> = record([numbered(2), numbered(3)].concat(), &["--receipts"]).lines().map(json).collect();
    assert_eq!(receipts[0].get("already_there").and_then(|there| there.as_bool()), Some(true));
    assert_eq!(
        (receipts[1].get("already_there"), receipts[1].get("seq").and_then(|seq| seq.as_u64())),
        (None, Some(5))
    );
}

#[test]
fn a_line_of_a_trickling_pipe_is_durable_before_the_next_one_comes() {
    let place = Place::with_store();
    let mut child = place.command(&["record", "s", "--receipts"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut receipts = BufReader::new(child.stdout.take().unwrap()).lines();
    for i in 0..3 {
        stdin.write_all(call("c", "u", &format!("t{i}"), "").as_bytes()).unwrap();
        // The receipt comes although the pipe stays open.
        let receipt = json(&receipts.next().unwrap().unwrap());
        assert!(receipt.get("hash").is_some());
    }
    // Anybody who has a receipt may rely on it, whatever happens to the program.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.count(&["--kind", "tool_call"]), 3);
}

#[test]
fn a_bad_line_ends_it_and_the_lines_before_it_are_recorded() {
    let place = Place::with_store();
    let input = [&call("c", "u", "a", ""), "\n", "{\"tool_name\":1}\n", &call("c", "u", "b", "")].concat();
    let ran = place.run_with(&["record", "s"], input.as_bytes()).code(1);
    assert!(ran.err.contains("standard input: line 3: "), "{}", ran.err);
    assert_eq!(place.count(&["--kind", "tool_call"]), 1);
    place.write("in.jsonl", &input);
    let ran = place.run(&["record", "s", "in.jsonl", "--keep-going"]).code(1);
    assert!(ran.err.contains("in.jsonl: line 3: "), "{}", ran.err);
    assert_eq!(place.count(&["--tool", "b"]), 1);
    assert_eq!(place.count(&["--tool", "a"]), 2);
}

#[test]
fn a_call_that_the_store_refuses_costs_no_other_of_its_batch() {
    let place = Place::with_store();
    // Valid JSON of the right form that only the store can refuse: an empty user, a line over the limit.
    let mut input = String::new();
    for i in 0..500 {
        let user = if i == 211 { "" } else { "u" };
        let text = if i == 377 { "x".repeat(5 << 20) } else { String::new() };
        input += &call("c", user, "t", &format!(r#""turn_number":{i},"arguments":{{"text":"{text}"}}"#));
    }
    let ran = place.run_with(&["record", "s", "--receipts"], input.as_bytes()).code(1);
    assert!(ran.err.contains("line 212: user_id: must not be empty"), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 211);
    let ran = place.run_with(&["record", "s", "--receipts", "--keep-going"], input.as_bytes()).code(1);
    assert!(ran.err.contains("line 212: ") && ran.err.contains("line 378: "), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 498);
    // In the order of the lines.
    let turns = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let turns: Vec<_> =
        turns.lines().skip(211).map(|l| json(l).get("turn_number").unwrap().as_u64().unwrap()).collect();
    assert_eq!(turns, (0..500).filter(|n| ![211, 377].contains(n)).collect::<Vec<_>>());
}

#[test]
fn a_line_of_a_hundred_megabytes_is_refused_and_the_rest_goes_on() {
    let place = Place::with_store();
    let mut input = call("c", "u", "a", "").into_bytes();
    input.extend(call("c", "u", "big", &format!(r#""arguments":"{}""#, "x".repeat(100_000_000))).into_bytes());
    input.extend(call("c", "u", "b", "").into_bytes());
    let ran = place.run_with(&["record", "s", "--keep-going"], &input).code(1);
    assert!(ran.err.contains("line 2: the line has 1000000"), "{}", ran.err);
    assert_eq!((place.count(&["--tool", "a"]), place.count(&["--tool", "b"])), (1, 1));
    assert_eq!(place.count(&["--tool", "big"]), 0);
}

#[test]
fn a_repeated_record_is_answered_and_not_repeated() {
    let place = Place::with_store();
    let line = call("c", "u", "t", r#""sender":{"id":"host-1","number":1}"#);
    let first = place.run_with(&["record", "s", "--receipts"], line.as_bytes()).ok();
    let again = place.run_with(&["record", "s", "--receipts"], line.as_bytes()).ok();
    let there = ",\"already_there\":true,\"not_compared\":[\"timestamp\"]}";
    assert_eq!(first.replace('}', there), again, "the line has no time of its own");
    assert_eq!(place.count(&["--kind", "tool_call"]), 1);
}

#[test]
fn receipts_that_nobody_reads_stop_nothing() {
    let place = Place::with_store();
    let input: String = (0..5000).map(|i| call("c", "u", &format!("t{i}"), "")).collect();
    let mut child = place.command(&["record", "s", "--receipts"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
    assert_eq!(place.count(&["--kind", "tool_call"]), 5000);
}

#[test]
fn a_store_without_its_key_is_not_recorded_into_unless_said_so() {
    let place = Place::with_store();
    std::fs::rename(place.path("s.key"), place.path("elsewhere")).unwrap();
    let line = call("c", "u", "t", "");
    let ran = place.run_with(&["record", "s"], line.as_bytes()).code(3);
    assert!(ran.err.contains("key"), "{}", ran.err);
    assert_eq!(place.count(&["--kind", "tool_call"]), 0);
    place.run_with(&["record", "s", "--unsigned"], line.as_bytes()).ok();
    place.run_with(&["record", "s", "--key", "elsewhere"], line.as_bytes()).ok();
    assert_eq!(place.count(&["--kind", "tool_call"]), 2);
}

/// `record` and `import --format jsonl` recorded the text `Error: could not open` as a success, though the same text in a
/// transcript was a failure. An explicit outcome takes precedence over what a text reads like.
#[test]
fn a_text_that_begins_with_error_is_a_failure_here_too() {
    let place = Place::with_store();
    let text = r#""result":"Error: could not open""#;
    let lines = [
        call("c", "u", "t", text),
        call("c", "u", "t", r#""result":"No error""#),
        call("c", "u", "t", &format!(r#"{text},"outcome":"ok""#)),
    ];
    let lines = lines.map(|line| line.trim_end().to_owned()).join("\n");
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    place.write("calls.jsonl", &lines);
    place.run(&["import", "s", "--format", "jsonl", "calls.jsonl"]).ok();
    let recorded = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let of = |line: &str| json(line).get("outcome").unwrap().as_str().unwrap().to_owned();
    let outcomes: Vec<String> = recorded.lines().map(of).collect();
    assert_eq!(outcomes, ["tool_error", "ok", "ok", "tool_error", "ok", "ok"]);
    assert!(recorded.lines().next().unwrap().contains(r#""error":{"message":"Error: could not open"}"#));
}

/// The story: a sender used a number twice, for `give 5 mg` and `give 500 mg`. The policy seals the note, so nothing may depend on it;
/// the second was acknowledged as the first, without a word that it was not compared. Nor was one without a time (R103).
#[test]
fn what_of_a_repeat_is_not_compared_is_named() {
    let place = Place::empty();
    place.write("seal.toml", "[redaction.fields]\n\"arguments.note\" = \"seal\"\n");
    place.run(&["init", "s", "--config", "seal.toml"]).ok();
    let numbered = |note: &str, more: &str| {
        let note = format!(r#""arguments":{{"note":"{note}","n":1}},"patient_id":"P"{more}"#);
        call("c", "u", "t", &format!(r#"{note},"sender":{{"id":"q","number":1}}"#))
    };
    let at = r#","timestamp":"2026-11-29T00:00:00Z""#;
    let record = |line: String| place.run_with(&["record", "s", "--no-alerts", "--receipts"], line.as_bytes());
    let first = record(numbered("give 5 mg", at)).code(0);
    assert!(first.err.is_empty() && !first.out.contains("not_compared"), "{} {}", first.out, first.err);
    for (line, members) in [
        (numbered("give 500 mg", at), r#"["arguments.note"]"#),
        (numbered("give 5 mg", ""), r#"["arguments.note","timestamp"]"#),
    ] {
        let again = record(line).code(0);
        assert!(again.out.contains(&format!(r#""already_there":true,"not_compared":{members}"#)), "{}", again.out);
        assert!(again.err.contains("may differ in: arguments.note"), "{}", again.err);
    }
    // Anything else is compared.
    let other = record(numbered("give 5 mg", at).replace("\"n\":1", "\"n\":2")).code(1);
    assert!(other.err.contains("differs in arguments"), "{}", other.err);
    assert_eq!(place.count(&["--kind", "tool_call"]), 1);
}
