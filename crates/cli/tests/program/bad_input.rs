//! Bad input: each case gives a clear error, and the store stays as it was.

use crate::common::{Place, call};

/// A line with the members that every line has, and one that is wrong.
fn with(more: &str) -> String {
    call("c", "u", "t", more)
}

#[track_caller]
fn refused(line: impl AsRef<[u8]>, says: &str) {
    let place = Place::with_store();
    let before = place.run(&["query", "s", "--json"]).ok();
    let ran = place.run_with(&["record", "s"], line.as_ref()).code(1);
    assert!(ran.err.contains("line 1: "), "{}", ran.err);
    assert!(ran.err.contains(says), "{says:?} is not in {}", ran.err);
    assert!(ran.err.len() < 1000, "a message of {} bytes", ran.err.len());
    assert_eq!(place.run(&["query", "s", "--json"]).ok(), before);
}

#[test]
fn json_that_is_none() {
    refused("{", "byte 2");
    refused("[]", "object");
    refused("nonsense", "byte 1");
    refused(r#"{"tool_name":"t"} x"#, "follows");
}

#[test]
fn members_that_are_missing_unknown_or_double() {
    refused(r#"{"conversation_id":"c","user_id":"u"}"#, "tool_name");
    refused(r#"{"tool_name":"t","user_id":"u"}"#, "conversation_id");
    refused(r#"{"tool_name":"t","conversation_id":"c"}"#, "user_id");
    refused(with(r#""colour":"red""#), "colour");
    refused(with(r#""user_id":"other""#), "user_id");
    refused(with(r#""arguments":{"a":1,"a":2}"#), "arguments");
    refused(with(r#""result":1,"error":"x""#), "exclude");
    refused(with(r#""error":{"message":"m","stack":"s"}"#), "stack");
}

#[test]
fn members_of_the_wrong_kind() {
    refused(with(r#""turn_number":-1"#), "turn_number");
    refused(with(r#""turn_number":"7""#), "turn_number");
    refused(with(r#""duration_ms":"fast""#), "duration_ms");
    refused(with(r#""duration_ms":-5"#), "duration_ms");
    refused(with(r#""patient_id":true"#), "patient_id");
    refused(with(r#""session_metadata":[]"#), "session_metadata");
    refused(with(r#""call_trigger":"whim""#), "user_request, proactive, retry, follow_up, system");
}

#[test]
fn times_that_are_none_or_out_of_range() {
    refused(with(r#""timestamp":"yesterday""#), "timestamp");
    refused(with(r#""timestamp":"2025-02-30""#), "timestamp");
    refused(with(r#""timestamp":"2025-07-06T14:23:01""#), "--assume-utc");
    refused(with(r#""timestamp":"9999-12-31T00:00:00Z""#), "1678 to 2261");
    refused(with(r#""timestamp":"0001-01-01T00:00:00Z""#), "1678 to 2261");
    refused(with(r#""timestamp":1e300"#), "timestamp");
}

#[test]
fn text_that_cannot_be_kept() {
    // Odd characters do not make a line fail, but two keys that become one cannot both be kept.
    refused(with(r#""arguments":{"a\u0000":1,"a\u2400":2}"#), "occurs twice");
    refused(b"{\"tool_name\":\"\xff\"}\n", "UTF-8");
}

#[test]
fn depth_and_size() {
    let deep = format!(r#""arguments":{}{}"#, "[".repeat(10_000), "]".repeat(10_000));
    refused(with(&deep), "deeper");
    refused(with(&format!(r#""arguments":"{}""#, "x".repeat(5 << 20))), "limit");
    refused(call("c", &"u".repeat(70_000), "t", ""), "user_id");
    refused("x".repeat(17 << 20), "17825792 bytes");
}

#[test]
fn numbers_keep_their_digits() {
    let place = Place::with_lines(&with(
        r#""arguments":{"a":12345678901234567890,"b":1e400,"c":0.1000000000000000055511151231257827}"#,
    ));
    let line = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    assert!(
        line.contains(r#""a":"12345678901234567890","b":"1e400","c":"0.1000000000000000055511151231257827""#),
        "{line}"
    );
    assert!(line.contains(r#""restated":["arguments.a","arguments.b","arguments.c"]"#), "{line}");
}

#[test]
fn what_is_quoted_in_an_error_does_not_reach_the_terminal_raw() {
    let place = Place::with_store();
    let ran = place.run_with(&["record", "s"], with("\"\\u001b[2J\u{202e}\u{9b}\":1").as_bytes()).code(1);
    let raw = ran.err.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
    assert!(!raw, "{:?}", ran.err);
}

#[test]
fn files_that_are_not_there_or_no_files() {
    let place = Place::with_store();
    assert!(place.run(&["record", "s", "nowhere.jsonl"]).code(2).err.contains("nowhere.jsonl"));
    place.run(&["record", "s", "."]).code(2);
    place.run(&["record"]).code(2);
    place.run(&["no-such-command"]).code(2);
    place.run(&["import", "s", "--format", "openai-chat", "nowhere.json"]).code(2);
    place.run(&["import", "s", "--format", "word", "s"]).code(2);
    place.write("in.json", "[{\"role\":\"assistant\"");
    let ran = place.run(&["import", "s", "--format", "openai-chat", "in.json"]).code(2);
    assert!(ran.err.contains("in.json"), "{}", ran.err);
}

#[test]
fn stores_that_are_none() {
    let place = Place::with_store();
    place.write("text", "this is no store");
    place.write("empty", "");
    std::fs::write(place.path("zeros"), vec![0; 1 << 20]).unwrap();
    for (store, says) in [("nowhere", "nowhere"), ("text", "text"), ("empty", "empty"), (".", "."), ("zeros", "zeros")]
    {
        for command in [
            &["query", store][..],
            &["verify", store],
            &["stats", store],
            &["timeline", store, "c"],
            &["record", store],
        ] {
            let ran = place.run(command).code(3);
            assert!(ran.err.contains(says), "{}", ran.err);
        }
    }
    assert!(!place.path("nowhere").exists(), "opening never makes a store");
    let before = std::fs::read(place.path("s")).unwrap();
    assert_ne!(place.run(&["init", "s"]).code, 0);
    assert!(std::fs::read(place.path("s")).unwrap() == before);
}

#[test]
fn filters_that_mean_nothing() {
    let place = Place::with_store();
    assert!(place.run(&["query", "s", "--kind", "toolcall"]).code(2).err.contains("tool_call"));
    assert!(place.run(&["query", "s", "--outcome", "fine"]).code(2).err.contains("tool_error"));
    assert!(place.run(&["query", "s", "--trigger", "whim"]).code(2).err.contains("user_request"));
    assert!(place.run(&["query", "s", "--since", "2025-13-01"]).code(2).err.contains("2025-13-01"));
    place.run(&["query", "s", "--since", "2025-07-02", "--until", "2025-07-01"]).code(2);
    place.run(&["stats", "s", "--since", "2025-07-02", "--until", "2025-07-01"]).code(2);
    place.run(&["query", "s", "--limit", "many"]).code(2);
}
