//! Somebody without the key, who may record at the owner's socket and read the log, guesses values that were sealed and
//! erased (R90).

use super::common::{Place, json};
use attestlog::entry::{Source, SourceKind};
use attestlog::json::Json;
use attestlog::{AuditLog, Justification, ToolCall};

/// A store whose policy seals `pin`, with what `record` puts in it, opened here, so that the program's commands go through
/// this process; the values of patient P-90 are erased.
fn erased(record: impl Fn(&Place)) -> (Place, AuditLog) {
    let place = Place::empty();
    place.write("p.toml", "[redaction.fields]\npin = \"seal\"\n");
    place.run(&["init", "s", "--config", "p.toml"]).ok();
    record(&place);
    let log = AuditLog::open(place.path("s")).unwrap();
    log.privacy().erase("P-90", Justification { actor: "privacy", reason: "request" }).unwrap();
    (place, log)
}

const BLIND: [&str; 2] = ["--key", "none"];

/// Recorded, already there, and what was not taken when this transcript is imported.
fn import_with(place: &Place, key: &[&str], transcript: &str) -> (u64, u64, usize) {
    place.write("t.json", transcript);
    let command = ["import", "s", "--format", "openai-chat", "--user", "u", "--json", "t.json"];
    let said = json(&place.run(&[&command[..], key].concat()).out);
    let number = |key: &str| said.get(key).and_then(Json::as_u64).unwrap();
    (number("recorded"), number("already_there"), said.get("not_taken").and_then(Json::as_array).unwrap().len())
}

/// The same without the key.
fn import(place: &Place, transcript: &str) -> (u64, u64, usize) {
    import_with(place, &BLIND, transcript)
}

fn transcript(id: &str, arguments: &str, result: &str) -> String {
    let text = |json: &str| Json::from(json).to_canonical().as_str().to_owned();
    let (arguments, result) = (text(arguments), text(result));
    format!(
        r#"{{{id}"messages":[{{"role":"user","content":"the pin?"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_1",
        "type":"function","function":{{"name":"check","arguments":{arguments}}}}}]}},
        {{"role":"tool","tool_call_id":"call_1","content":{result}}}]}}"#
    )
}

/// An import compared a repeat by a digest of its whole answer: the session with the right guess was in the log already, any
/// other was refused. Each guess was answered without a trace. The same with the answers of numbered calls.
#[test]
fn a_repeat_with_another_sealed_answer_is_answered_alike() {
    let of = |pin: u32| {
        transcript(r#""id":"sess-9","#, r#"{"patient_id":"P-90"}"#, &format!(r#"{{"pin":"{pin}","status":"ok"}}"#))
    };
    let (place, _log) = erased(|place| assert_eq!(import_with(place, &[], &of(4711)).0, 1));
    for pin in [4710, 4711, 4712] {
        assert_eq!(import(&place, &of(pin)), (0, 1, 0), "{pin}");
    }
    // What is not sealed still counts.
    assert_eq!(import(&place, &of(4711).replace("ok", "no")), (0, 0, 1));

    let line = |pin: u32| {
        format!(
            r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","patient_id":"P-90","timestamp":"2026-01-01T00:00:00Z","sender":{{"id":"gate","number":1}},"arguments":{{"pin":{pin}}},"result":{{"pin":{pin}}}}}"#
        )
    };
    let (place, _log) = erased(|place| _ = place.run_with(&["record", "s"], line(4711).as_bytes()).ok());
    for pin in [4710, 4711, 4712] {
        let out = place.run_with(&[&["record", "s"], &BLIND[..]].concat(), line(pin).as_bytes()).code(0);
        assert!(out.out.contains("in the log already"), "{pin}: {out:?}");
    }
}

/// A session without an id of its own is recognised by its messages, and so by its sealed arguments: importing a guess told
/// whether it was right, and an entry with the same name of its conversation did as well.
#[test]
fn a_session_is_not_recognised_by_what_is_sealed_in_it() {
    let of = |pin: u32, more: &str| {
        transcript("", &format!(r#"{{"patient_id":"P-90","pin":"{pin}","for":"{more}"}}"#), "fine")
    };
    let (place, _log) = erased(|place| assert_eq!(import_with(place, &[], &of(1234, "x")).0, 1));
    for pin in [1233, 1234, 1235] {
        assert_eq!(import(&place, &of(pin, "x")), (0, 1, 0), "{pin}");
    }
    assert_eq!(import(&place, &of(1234, "y")), (1, 0, 0));
}

/// A session that was imported before the policy sealed anything in it is still recognised.
#[test]
fn a_session_from_before_the_policy_sealed_something_is_recognised() {
    let place = Place::with_store();
    let session = transcript("", r#"{"pin":"1234"}"#, "fine");
    let import = |expected| {
        place.write("t.json", &session);
        let ran = place.run(&["import", "s", "--format", "openai-chat", "--user", "u", "--json", "t.json"]).code(0);
        assert_eq!(json(&ran.out).get("already_there").and_then(Json::as_u64), Some(expected));
    };
    import(0);
    place.write("p.toml", "[redaction.fields]\npin = \"seal\"\n");
    place.run(&["policy", "set", "s", "p.toml"]).ok();
    import(1);
}

/// Of arguments over a megabyte the proxy keeps a digest of the whole, sealed members included, and the entry had it under a
/// key that any recorder can use: equal digests told that a guess was right.
#[test]
fn no_digest_is_kept_of_what_was_shortened_where_values_are_sealed() {
    let shortened = || {
        let mark = r#"{"shortened":[{"path":"arguments","bytes":2000000,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#;
        let call = ToolCall::new("c", "u", "t").patient("P-90").arguments(json(r#"{"pin":1}"#));
        let mut call = call.metadata("mcp", json(mark));
        call.circumstances.sources.push(Source::new(SourceKind::Proxy));
        call
    };
    let (_place, log) = erased(|place| {
        let log = AuditLog::open(place.path("s")).unwrap();
        log.record(shortened()).unwrap();
        log.close().unwrap();
    });
    let entry = log.entry(2).unwrap().line().to_string();
    assert!(entry.contains("shortened") && !entry.contains("digest") && !entry.contains("sha256"), "{entry}");
    let log = AuditLog::in_memory().unwrap();
    let seq = log.record(shortened()).unwrap().seq;
    assert!(log.entry(seq).unwrap().line().contains("digest"));
}
