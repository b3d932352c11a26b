//! The line is what it claims to be: canonical JSON (RFC 8785), everything an entry says, hashed as an RFC 6962 leaf,
//! chained by `prev`. Checked with another JSON parser, another canonicaliser and plain SHA-256.

use crate::store_common::*;
use attestlog::json::{Json, Number};
use attestlog::verify::VerifyOptions;
use attestlog::{Entry, Hash, Kind, Outcome, Sender, ToolCall, Trigger};
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// RFC 8785, implemented from its text with another library's values.
fn jcs(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.encode_utf16().collect::<Vec<u16>>());
            let members: Vec<String> = members.iter().map(|(k, v)| format!("{}:{}", quoted(k), jcs(v))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(jcs).collect::<Vec<_>>().join(",")),
        Value::String(text) => quoted(text),
        Value::Number(n) => ryu_js::Buffer::new().format(n.as_f64().unwrap()).to_owned(),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        c if c < ' ' => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

fn leaf(line: &str) -> [u8; 32] {
    Sha256::digest([&[0][..], line.as_bytes()].concat()).into()
}

/// RFC 6962 section 2.1, implemented literally.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        many => {
            let split = (1..many.len()).rfind(|k| k.is_power_of_two()).unwrap();
            Sha256::digest([&[1][..], &root(&many[..split]), &root(&many[split..])].concat()).into()
        }
    }
}

fn check(entry: &Entry) -> Value {
    let line = entry.line();
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(jcs(&value), line);
    assert_eq!(Json::parse(line.as_bytes()).unwrap().value.to_canonical().as_str(), line);
    assert!(Json::parse(line.as_bytes()).unwrap().restated.is_empty());
    assert_eq!(entry.hash().0, leaf(&line));
    assert_eq!(&Entry::from_line(&line).unwrap(), entry);
    assert_eq!(value["seq"], entry.seq);
    assert_eq!(value["prev"], entry.prev.to_string());
    assert_eq!(value["nonce"].as_str().unwrap().len(), 32);
    value
}

/// A call with every member that a call can have; it retries the entry at seq 2.
fn full() -> ToolCall {
    let arguments =
        Json::parse("{\"\u{1f600}\":1,\"\u{fb33}\":[1.5,true,null],\"a\":{\"b\":\"\\u0007\"}}".as_bytes()).unwrap();
    ToolCall::new("conv \"1\"", "usr\\1", "tool\n1")
        .timestamp(time("2025-02-28T23:59:59.123456789Z"))
        .turn(7)
        .model("model-1")
        .agent("agent-1")
        .server("server-1")
        .arguments(arguments.value)
        .result(Json::parse(br#"{"id":"r-1","rows":[{"row_id":3}],"note":"n"}"#).unwrap().value)
        .duration(Duration::from_nanos(145_200_500))
        .metadata("client_ip", "10.0.1.5")
        .role("nurse")
        .retry_of(2)
        .call_id("call_1")
        .patient("P-2")
        .patient("P-1")
        .purpose("treatment")
        .emergency(Some(1))
        .backfilled()
        .sender(Sender::new("sender", 3))
}

#[test]
fn every_line_is_canonical_hashed_as_a_leaf_and_chained() {
    let (log, _, clock) = store(1);
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    log.record(full()).unwrap();
    log.record(ToolCall::new("c", "u", "t").typed_error("E1", "it \u{85} failed").follow_up_of(2)).unwrap();
    log.record(ToolCall::new("c", "u", "t").outcome(Outcome::Denied).trigger(Trigger::System)).unwrap();
    let begun = log.begin(ToolCall::new("c", "u", "t")).unwrap();
    begun.finish(|call| call.result(vec!["a", "b"])).unwrap();
    log.flush_index().unwrap();
    clock.set(time("2025-02-01"));
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    let entries = entries(&log);
    let mut prev = "0".repeat(64);
    for entry in &entries {
        assert_eq!(check(entry)["prev"], prev);
        prev = Hash(leaf(&entry.line())).to_string();
    }
    let kinds: Vec<Kind> = entries.iter().map(Entry::kind).collect();
    for kind in [Kind::Genesis, Kind::Policy, Kind::ToolCall, Kind::CallBegun, Kind::IndexBatch, Kind::Clock] {
        assert!(kinds.contains(&kind), "no {kind}");
    }
    let leaves: Vec<[u8; 32]> = entries.iter().map(|e| leaf(&e.line())).collect();
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert_eq!((found.root.0, found.head.to_string()), (root(&leaves), prev));
    for size in 0..=leaves.len() {
        assert_eq!(log.proofs().root_at(size as u64).unwrap().0, root(&leaves[..size]));
    }
}

#[test]
fn everything_that_a_call_says_is_in_its_line() {
    let (log, _, _) = store(1);
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    let seq = log.record(full()).unwrap().seq;
    let line = check(&log.entry(seq).unwrap());
    let expected = serde_json::json!({
        "agent_id": "agent-1", "backfilled": true, "call_id": "call_1", "call_trigger": "retry",
        "conversation_id": "conv \"1\"", "duration_ms": 145.2005, "emergency": true, "grant": 1, "kind": "tool_call",
        "model": "model-1", "outcome": "ok", "patient_ids": ["P-1", "P-2"], "purpose": "treatment", "retry_of": 2,
        "retention_class": "healthcare", "sender": {"id": "sender", "number": 3}, "seq": seq, "success": true,
        "timestamp": "2025-02-28T23:59:59.123456789Z", "tool_name": "tool\n1", "tool_server": "server-1", "turn_number": 7,
        "user_id": "usr\\1", "recorded_at": START,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key}");
    }
    assert_eq!(line["arguments"]["\u{1f600}"], 1);
    assert_eq!(line["session_metadata"]["user_role"], "nurse");
    assert_eq!(line["result_summary"]["keys"]["id"], "r-1");
    assert!(line["retain_until"].as_str().unwrap() > START);
    let text = log.entry(seq).unwrap().line();
    assert!(text.find('\u{1f600}') < text.find('\u{fb33}'), "keys are ordered by UTF-16 code units");
}

/// Whether the JSON parser used for comparison reads back what it wrote.
fn exact(x: &f64) -> bool {
    x.is_finite() && serde_json::from_str::<f64>(&Value::from(*x).to_string()).is_ok_and(|again| again == *x)
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_filter("the other reader reads some numbers a little wrong", exact).prop_map(Value::from),
        "[a-z\u{0}-\u{24f}\u{fb33}\u{1f600}-\u{1f640}]{0,12}".prop_map(|s| Value::from(s.replace('\0', ""))),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-z\u{e9}\u{fb33}\u{1f600}]{1,6}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_line_is_canonical_whatever_was_recorded(value in json(), text in "\\PC{1,20}") {
        let (log, _, _) = store(1);
        let value = Json::parse(value.to_string().as_bytes()).unwrap().value;
        let call = ToolCall::new(text.clone(), text.clone(), text.clone()).arguments(value.clone()).result(value);
        let receipt = log.record(call.metadata("anything", text)).unwrap();
        check(&log.entry(receipt.seq).unwrap());
        assert_clean(&log);
    }

    #[test]
    fn canonical_json_is_what_the_rfc_says(value in json()) {
        let parsed = Json::parse(value.to_string().as_bytes()).unwrap();
        prop_assert_eq!(parsed.value.to_canonical().to_string(), jcs(&value));
        let again = Json::parse(parsed.value.to_canonical().as_str().as_bytes()).unwrap();
        prop_assert_eq!(again.value, parsed.value);
    }
}

/// RFC 8785, appendix B.
#[test]
fn numbers_are_written_as_the_rfc_lists_them() {
    let listed: [(u64, &str); 24] = [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ];
    for (bits, text) in listed {
        let number = Json::Number(Number::from_f64(f64::from_bits(bits)).unwrap());
        assert_eq!(number.to_canonical().as_str(), text, "{bits:x}");
        let read = Json::parse(text.as_bytes()).unwrap();
        assert!(read.restated.is_empty(), "{text}");
        assert_eq!(read.value, number);
    }
    assert!(Number::from_f64(f64::NAN).is_none() && Number::from_f64(f64::INFINITY).is_none());
}

/// RFC 8785, sections 3.2.2 and 3.2.3. The first number of the example has more digits than a double keeps; where the RFC
/// rounds it, the log keeps its digits.
#[test]
fn the_examples_of_the_rfc() {
    let example = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
        "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
    let parsed = Json::parse(example.as_bytes()).unwrap();
    let expected = "{\"literals\":[null,true,false],\"numbers\":[\"333333333.33333329\",1e+30,4.5,0.002,1e-27],\
        \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
    assert_eq!(parsed.value.to_canonical().as_str(), expected);
    assert_eq!(parsed.restated.iter().map(ToString::to_string).collect::<Vec<_>>(), ["numbers[0]"]);
    let keys = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
        "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
    let Json::Object(keys) = Json::parse(keys.as_bytes()).unwrap().value else { panic!("an object") };
    let order: Vec<&str> = keys.iter().filter_map(|(_, v)| v.as_str()).collect();
    let listed = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ];
    assert_eq!(order, listed);
}
