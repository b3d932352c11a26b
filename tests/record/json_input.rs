//! Bad input: each case gives a clear error that names the place, and the store stays as it was. Numbers that JSON cannot
//! keep are kept as text, and the entry says so.

use crate::store_common::*;
use attestlog::json::{Json, Limits, Object};
use attestlog::{ErrorKind, ToolCall};

fn line(rest: &str) -> String {
    format!(r#"{{"tool_name":"t","conversation_id":"c","user_id":"u",{rest}}}"#)
}

#[test]
fn each_kind_of_bad_input_is_named_and_nothing_is_recorded() {
    let (log, _, _) = store(1);
    let before = lines(&log);
    let deep = format!(r#""arguments":{}{}"#, "[".repeat(10_000), "]".repeat(10_000));
    let bad: &[(&str, &str)] = &[
        (r#""arguments":{"a":1,"b":2,"a":3}"#, "\"a\" occurs twice"),
        (r#""arguments":{"x":[1,}}"#, "arguments.x[1]"),
        (r#""arguments":01"#, "number"),
        (r#""arguments":+1"#, "arguments"),
        (r#""arguments":1."#, "digit"),
        (r#""arguments":NaN"#, "arguments"),
        (r#""arguments":"\x""#, "escape"),
        (r#""timestamp":"2300-01-01T00:00:00Z""#, "1678 to 226"),
        (r#""timestamp":"1600-01-01""#, "1678 to 226"),
        (r#""timestamp":"2025-13-01""#, "timestamp"),
        (r#""timestamp":"2025-02-30T00:00:00Z""#, "timestamp"),
        (r#""timestamp":"yesterday""#, "timestamp"),
        (r#""timestamp":"2025-07-06T14:23:01""#, "timestamp"),
        (r#""timestamp":"2016-12-31T23:59:60Z""#, "leap second"),
        (r#""timestamp":1e300"#, "timestamp: 1e+300 is out of range; it must be a time in seconds"),
        (r#""turn_number":-1"#, "turn_number: -1 is out of range"),
        (r#""turn_number":1.5"#, "turn_number: 1.5 is out of range"),
        (r#""turn_number":9007199254740993"#, "turn_number: 9007199254740993 is out of range"),
        (r#""duration_ms":-0.5"#, "duration_ms: -0.5 is out of range"),
        (r#""duration_ms":1e300"#, "duration_ms: 1e300 is out of range"),
        (r#""duration_ms":"12""#, "duration_ms"),
        // A number that no double holds is kept as a text where any JSON may stand. Here the message said that it must be a
        // number and not a string, of what its sender had written as a number.
        (
            r#""duration_ms":1e400"#,
            "duration_ms: 1e400 is out of range; it must be a number of milliseconds from 0 to 3,162,240,000,000 ",
        ),
        (
            &format!(r#""grant":{}"#, "9".repeat(300)),
            "grant: 9999999999999999999999999999999999999999… is out of range",
        ),
        (r#""timestamp":-1e999"#, "timestamp: -1e999 is out of range"),
        (r#""sender":{"id":"s","number":1e400}"#, "sender: 1e400 is out of range"),
        (r#""call_trigger":"whim""#, "call_trigger"),
        (r#""outcome":"fine""#, "outcome"),
        (r#""patient_id":true"#, "patient_id"),
        (r#""patient_id":[{}]"#, "patient_id"),
        (r#""patient_id":"""#, "patient_id"),
        (r#""session_metadata":[]"#, "session_metadata"),
        (r#""result":1,"error":"e""#, "exclude each other"),
        (r#""error":{"type":"t"}"#, "message"),
        (r#""error":{"message":"m","colour":1}"#, "colour"),
        (r#""retry_of":999"#, "retry_of: no entry 999 is recorded yet"),
        (r#""follow_up_of":999"#, "follow_up_of: no entry 999 is recorded yet"),
        (r#""grant":999"#, "grant: no entry 999 is recorded yet"),
        (r#""retry_of":18446744073709551615"#, "retry_of: 18446744073709551615 is out of range"),
        (r#""retry_of":0,"follow_up_of":0"#, "exclude each other"),
        (r#""retry_of":0,"call_trigger":"system""#, "call_trigger"),
        (r#""sender":{"id":"s"}"#, "sender"),
        (r#""sender":{"id":"s","number":0}"#, "sender"),
        (r#""retention_class":"""#, "retention_class"),
        (r#""colour":"red""#, "colour"),
        (r#""user_id":"again""#, "user_id"),
        (&deep, "nested deeper"),
    ];
    for (rest, says) in bad {
        let text = line(rest);
        let refused = ToolCall::from_jsonl(text.as_bytes()).and_then(|call| log.record(call));
        let Err(refused) = refused else { panic!("{} was recorded", &text[..text.len().min(200)]) };
        assert!(matches!(refused.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge), "{refused:?}");
        assert!(refused.to_string().contains(says), "{refused} does not say {says}");
        assert!(refused.to_string().len() < 500, "an error message is no copy of the input: {refused}");
    }
    let whole: &[&[u8]] = &[
        b"",
        b" ",
        b"null",
        b"[]",
        b"\"text\"",
        b"{}",
        br#"{"tool_name":"t","conversation_id":"c"}"#,
        br#"{"tool_name":"","conversation_id":"c","user_id":"u"}"#,
        br#"{"tool_name":"t","conversation_id":"c","user_id":"u"} {}"#,
        br#"{"tool_name":"t","conversation_id":"c","user_id":"u""#,
        b"\xef\xbb\xbf{}",
        b"{\"tool_name\":\"\xff\",\"conversation_id\":\"c\",\"user_id\":\"u\"}",
        b"{\"tool_name\":\"\xed\xa0\x80\",\"conversation_id\":\"c\",\"user_id\":\"u\"}",
    ];
    for text in whole {
        let refused = ToolCall::from_jsonl(text).and_then(|call| log.record(call)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    }
    assert_eq!(lines(&log), before);
    log.record(ToolCall::from_jsonl(line(r#""arguments":null,"model":null"#).as_bytes()).unwrap()).unwrap();
    assert_clean(&log);
}

/// Many writers say `null` for what they do not know. Which members may be `null` once stood in a list of its own, which a
/// new member could be missing from.
#[test]
fn a_member_that_is_null_is_one_that_is_left_out() {
    let bare = ToolCall::new("c", "u", "t");
    let full = bare.clone().timestamp("2025-01-01".parse().unwrap()).turn(1).model("m").agent("a").server("s");
    let full = full.typed_error("kind", "why").outcome(attestlog::Outcome::Timeout).role("nurse").patient("P-1");
    let full = full.duration(std::time::Duration::from_millis(5)).purpose("p").call_id("i").emergency(Some(3));
    let full = full.backfilled().retention_class("general").retain_until("2060-01-01".parse().unwrap());
    let full = full.retry_of(2).sender(attestlog::Sender::new("s", 1)).to_json().unwrap();
    let others = ["patient_id", "follow_up_of", "user_role"];
    for member in full.as_object().unwrap().iter().map(|(member, _)| member).chain(others) {
        let read = ToolCall::from_jsonl(line(&format!(r#""{member}":null"#)).as_bytes());
        match member {
            "conversation_id" | "user_id" | "tool_name" => assert!(read.is_err(), "{member}"),
            _ => assert_eq!(read.unwrap(), bare, "{member}"),
        }
    }
    let refused = ToolCall::from_jsonl(line(r#""colour":null"#).as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("colour: is not a member of a call"), "{refused}");
}

#[test]
fn an_enormous_line_is_refused_with_its_size() {
    let text = line(&format!(r#""arguments":"{}""#, "x".repeat(17 << 20)));
    let refused = ToolCall::from_jsonl(text.as_bytes()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert!(refused.to_string().contains(&text.len().to_string()), "{refused}");
    assert!(Json::parse_within(b"[1,2]", &Limits::bytes(4)).unwrap_err().is_too_large());
}

#[test]
fn no_digit_of_a_number_is_lost() {
    let (log, _, _) = store(1);
    let kept = [
        ("0", "0"),
        ("-0", "0"),
        ("1.0", "1"),
        ("1e2", "100"),
        ("0.10", "0.1"),
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991"),
        ("1.5e300", "1.5e+300"),
        ("1e-7", "1e-7"),
        ("0e999999999999999999999999", "0"),
    ];
    for (text, canonical) in kept {
        let parsed = Json::parse(text.as_bytes()).unwrap();
        assert_eq!((parsed.value.to_canonical().as_str(), parsed.restated.len()), (canonical, 0), "{text}");
    }
    let restated = [
        "9007199254740993",
        "-9007199254740993",
        "12345678901234567890",
        "0.1000000000000000055511151231257827",
        "123456789.123456789123",
        "1e400",
        "-1e400",
        "1e-400",
        "1e99999999999999999999",
        "2.00000000000000000000000001",
    ];
    for text in restated {
        let arguments = format!(r#""arguments":{{"a":[{{"n":{text}}}]}},"result":{{"id":{text}}}"#);
        let call = ToolCall::from_jsonl(line(&arguments).as_bytes()).unwrap();
        let entry = log.entry(log.record(call).unwrap().seq).unwrap();
        assert!(entry.line().contains(&format!(r#""arguments":{{"a":[{{"n":"{text}"}}]}}"#)), "{}", entry.line());
        assert!(entry.line().contains(r#""restated":["arguments.a[0].n","result.id"]"#), "{}", entry.line());
    }
    assert_clean(&log);
}

/// A host's own serialisable values are handled in the same way, and no feature of serde_json is needed for it.
#[test]
fn what_a_host_serialises_keeps_its_digits_too() {
    let parsed = Json::from_serialize(&serde_json::json!({"big": u64::MAX, "small": 1, "half": 0.5})).unwrap();
    assert_eq!(parsed.value.to_canonical().as_str(), r#"{"big":"18446744073709551615","half":0.5,"small":1}"#);
    assert_eq!(parsed.restated[0].to_string(), "big");
    assert_eq!(Json::from(u64::MAX).to_canonical().as_str(), r#""18446744073709551615""#);
}

#[test]
fn what_a_host_builds_by_hand_is_checked_when_it_is_recorded() {
    let (log, _, _) = store(1);
    let before = lines(&log);
    let mut deep = Json::Null;
    for _ in 0..200 {
        deep = Json::from(vec![deep]);
    }
    let nul = || Json::from("a\0b");
    let call = || ToolCall::new("c", "u", "t");
    let key = Object::from_iter([("a\0", Json::Null)]);
    let bad = [
        call().arguments(deep.clone()),
        call().result(deep),
        call().patient("\0"),
        call().turn(1 << 53),
        call().model("\0"),
    ];
    for call in bad {
        assert_eq!(log.record(call).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(lines(&log), before);
    // In a text with NUL, anywhere but in a name, the rest is kept and marked.
    let odd = [
        (call().arguments(nul()), "arguments"),
        (call().result(vec![nul()]), "result[0]"),
        (call().arguments(key), "arguments"),
        (call().metadata("m", nul()), "session_metadata.m"),
        (call().error("a\0b"), "error.message"),
        (call().typed_error("\0", "m"), "error.type"),
        (call().role("\0"), "session_metadata.user_role"),
    ];
    for (call, restated) in odd {
        let receipt = log.record(call).unwrap();
        let line = log.entry(receipt.seq).unwrap().line().to_string();
        assert!(line.contains(&format!(r#""restated":["{restated}"]"#)), "{line}");
    }
    assert_clean(&log);
}
