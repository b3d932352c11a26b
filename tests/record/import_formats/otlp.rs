//! OpenTelemetry spans.

use super::*;

pub(super) fn attributes(of: &[(&str, Value)]) -> Value {
    of.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

pub(super) fn text(value: &str) -> Value {
    json!({"stringValue": value})
}

pub(super) fn export(resource: Value, spans: Vec<Value>) -> Value {
    json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": {}, "spans": spans}]}]})
}

pub(super) fn span(id: &str, parent: &str, start: u64, of: &[(&str, Value)]) -> Value {
    json!({"traceId": "5b8e", "spanId": id, "parentSpanId": parent, "name": "x", "kind": 1, "attributes": attributes(of),
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 1_500_000).to_string()})
}

pub(super) const EXECUTE: &str = "gen_ai.operation.name";
pub(super) const START: u64 = 1_751_811_781_000_000_000;

fn at(offset: i64) -> Timestamp {
    Timestamp::from_nanos(START as i64 + offset)
}

#[test]
fn spans_of_tools_are_calls_and_the_spans_around_them_say_whose() {
    let agent = span(
        "a0",
        "",
        START,
        &[
            (EXECUTE, text("invoke_agent")),
            ("gen_ai.conversation.id", text("conv")),
            ("gen_ai.agent.name", text("helper")),
            ("gen_ai.request.model", text("m1")),
        ],
    );
    let object = json!({"kvlistValue": {"values": [
        {"key": "zone", "value": {"arrayValue": {"values": [{"intValue": "3"}, {"boolValue": true}, {"doubleValue": 0.5}]}}},
        {"key": "amount", "value": {"intValue": "9223372036854775807"}},
    ]}});
    let second = span(
        "a2",
        "a0",
        START + 2,
        &[
            (EXECUTE, text("execute_tool")),
            ("gen_ai.tool.name", text("pay")),
            ("gen_ai.tool.call.id", text("call_2")),
            ("gen_ai.tool.call.arguments", object),
            ("gen_ai.tool.call.result", text("{\"id\": 7}")),
        ],
    );
    let mut first = span(
        "a1",
        "a0",
        START + 1,
        &[
            (EXECUTE, text("execute_tool")),
            ("gen_ai.tool.name", text("find")),
            ("gen_ai.tool.call.arguments", text("{\"q\": 12345678901234567890}")),
            ("error.type", text("HTTP_500")),
            ("user.id", text("own")),
        ],
    );
    first["status"] = json!({"code": 2, "message": "no answer"});
    let resource = attributes(&[("enduser.id", text("u"))]);
    // Children are exported first, the span around them last, and one of them twice.
    let lines = [
        export(resource.clone(), vec![second.clone(), first]),
        export(resource.clone(), vec![second]),
        export(resource, vec![agent]),
    ];
    let imported = read(Format::OtlpJson, lines.map(|l| l.to_string()).join("\n"), &ImportOptions::new());
    let wanted = [
        r#"{"conversation_id":"conv","user_id":"own","tool_name":"find","agent_id":"helper","model":"m1","timestamp":"2025-07-06T14:23:01.000000001Z","duration_ms":1.5,
            "arguments":{"q":12345678901234567890},"error":{"type":"HTTP_500","message":"no answer"},"trace_id":"5b8e","span_id":"a1"}"#,
        r#"{"conversation_id":"conv","user_id":"u","tool_name":"pay","agent_id":"helper","model":"m1","timestamp":"2025-07-06T14:23:01.000000002Z","duration_ms":1.5,"call_id":"call_2",
            "arguments":{"zone":[3,true,0.5],"amount":9223372036854775807},"result":{"id":7},"trace_id":"5b8e","span_id":"a2"}"#,
    ];
    assert_eq!(imported.calls, wanted.map(|line| ToolCall::from_jsonl(line.as_bytes()).unwrap().backfilled()));
    assert_eq!(imported.places[1], "line 1: resourceSpans[0].scopeSpans[0].spans[0]");
}

#[test]
fn what_became_of_a_span_s_call() {
    let ok = json!({"code": 1});
    let failed = json!({"code": "STATUS_CODE_ERROR"});
    let call = |f: fn(ToolCall) -> ToolCall| f(ToolCall::new("trace-5b8e", "u", "t"));
    let result = "gen_ai.tool.call.result";
    let cases = [
        (json!({}), vec![], call(|c| c.outcome(Outcome::Ok))),
        (json!({}), vec![(result, text("Error: none left"))], call(|c| c.result("Error: none left"))),
        (
            ok.clone(),
            vec![(result, text("Error: none left"))],
            call(|c| c.result("Error: none left").outcome(Outcome::Ok)),
        ),
        (json!({}), vec![(result, text("fine"))], call(|c| c.result("fine"))),
        (failed.clone(), vec![], call(|c| c.error("unspecified error"))),
        (failed.clone(), vec![(result, text("declined"))], call(|c| c.error("declined"))),
        (ok, vec![("error.type", text("E"))], call(|c| c.typed_error("E", "E"))),
        (
            json!({}),
            vec![("error.type", text("timeout"))],
            call(|c| c.typed_error("timeout", "timeout").outcome(Outcome::Timeout)),
        ),
        (
            json!({"code": 2, "message": "why"}),
            vec![("error.type", text("E")), (result, text("{\"a\":\"b\"}"))],
            call(|c| {
                let value: json::Object = [("a", "b")].into_iter().collect();
                c.result(value).outcome(Outcome::ToolError).metadata("error_type", "E").metadata("error_message", "why")
            }),
        ),
    ];
    for (status, more, wanted) in cases {
        let mut of = vec![(EXECUTE, text("execute_tool")), ("gen_ai.tool.name", text("t"))];
        of.extend(more);
        let mut span = span("a1", "", START, &of);
        span["status"] = status;
        let imported =
            read(Format::OtlpJson, export(json!([]), vec![span]).to_string(), &ImportOptions::new().user("u"));
        let wanted = wanted
            .timestamp(at(0))
            .duration(std::time::Duration::from_micros(1500))
            .trace("5b8e", Some("a1"))
            .backfilled();
        assert_eq!(imported.calls, [wanted]);
    }
    // The exception says why, the span's name which tool; a clock that ran backwards gives no duration.
    let mut span = span("", "", START, &[("mcp.method.name", text("tools/call"))]);
    span["name"] = "tools/call lookup".into();
    span["traceId"] = "".into();
    span["endTimeUnixNano"] = "5".into();
    span["status"] = failed;
    span["events"] = json!([{"name": "exception", "attributes": attributes(&[("exception.message", text("boom"))])}]);
    let imported = read(Format::OtlpJson, export(json!([]), vec![span]).to_string(), &options().model("m"));
    let wanted = ToolCall::new("c", "u", "lookup").model("m").timestamp(at(0)).error("boom").backfilled();
    assert_eq!(imported.calls, [wanted]);
}

/// One span with an attribute of a wrong type refused the whole file, with thousands of others in it.
#[test]
fn spans_that_are_no_tools_are_passed_over_and_bad_ones_are_named_alone() {
    let chat = span("a", "", START, &[(EXECUTE, text("chat"))]);
    let one = |span: &Value| export(json!([]), vec![span.clone()]).to_string();
    let mut nothing = Imported::default();
    nothing.format = Format::OtlpJson;
    assert_eq!(read(Format::OtlpJson, one(&chat), &ImportOptions::new()), nothing);
    let tool = span("a", "a", START, &[(EXECUTE, text("execute_tool")), ("gen_ai.tool.name", text("t"))]);
    let place = "resourceSpans[0].scopeSpans[0].spans[0]";
    assert_refused(Format::OtlpJson, one(&tool), &ImportOptions::new(), &format!("{place}: no user is known"));
    let good = span("good", "", START, &[(EXECUTE, text("execute_tool")), ("gen_ai.tool.name", text("t"))]);
    let named = |bad: &Value, message: &str| {
        let imported =
            read(Format::OtlpJson, export(json!([]), vec![bad.clone(), good.clone()]).to_string(), &options());
        assert_eq!(imported.calls.len(), 1, "{message}");
        let [one] = &imported.not_taken[..] else { panic!("{message}: {:?}", imported.not_taken) };
        assert_eq!(one.place, place);
        assert!(one.why.contains(message), "{message:?} should stand in {:?}", one.why);
    };
    let mut bad = tool.clone();
    bad["attributes"] = attributes(&[(EXECUTE, text("execute_tool"))]);
    named(&bad, &format!("{place}: the attribute gen_ai.tool.name is missing"));
    for (value, message) in [
        (json!({"intValue": "x"}), "intValue: must be a 64-bit integer"),
        (json!({"intValue": 1.5}), "intValue: is no attribute's value"),
        (json!({"stringValue": "a", "intValue": 1}), "must have one value, not several"),
        (json!("bare"), "attributes[2].value: must be an attribute's value, an object"),
        (json!({"kvlistValue": {"values": [{"key": "a"}, {"key": "a"}]}}), "the name \"a\" occurs twice"),
    ] {
        let mut bad = tool.clone();
        let attribute = json!({"key": "gen_ai.tool.call.arguments", "value": value});
        bad["attributes"].as_array_mut().unwrap().push(attribute);
        named(&bad, message);
    }
    let mut bad = tool.clone();
    let again = bad["attributes"][1].clone();
    bad["attributes"].as_array_mut().unwrap().push(again);
    named(&bad, "the attribute \"gen_ai.tool.name\" occurs twice, as attributes[1] and [2]");
    for (key, value) in [("startTimeUnixNano", json!("soon")), ("status", json!({"code": 9}))] {
        let mut bad = tool.clone();
        bad[key] = value;
        named(&bad, &format!("{place}.{key}"));
    }
    assert_eq!(read(Format::OtlpJson, "{}", &options()).calls, []);
}
