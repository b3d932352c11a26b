//! Readers of sessions, traces and packed files: any bytes are read or refused, and what is read is bounded by what there was.

use attestlog_capture::import::{self, Format, ImportOptions};

/// So many bytes a packed file may unpack to here.
const MOST: usize = 1 << 20;

fn read(formats: &[Format], data: &[u8]) {
    let options = ImportOptions::new().user("u").assume_utc(true).max_bytes(MOST);
    for format in formats {
        if let Ok(imported) = import::calls(*format, data, &options) {
            assert_eq!(imported.places.len(), imported.calls.len());
            // Every call, and everything that is named, takes bytes of the file.
            assert!(imported.calls.len() + imported.not_taken.len() <= MOST);
        }
    }
}

pub(crate) fn agents(data: &[u8]) {
    read(&[Format::ClaudeCode, Format::Codex, Format::Gemini, Format::OpenCode], data);
}

pub(crate) fn messages(data: &[u8]) {
    read(&[Format::Auto, Format::OpenAiResponses], data);
}

pub(crate) fn evaluations(data: &[u8]) {
    read(&[Format::Inspect, Format::SweAgent, Format::OpenHands, Format::LangSmith, Format::Atif], data);
}

pub(crate) fn telemetry(data: &[u8]) {
    read(&[Format::OtlpJson], data);
}

pub(crate) fn packed(data: &[u8]) {
    read(&[Format::Auto], data);
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn agents_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"type":"assistant","uuid":"1","sessionId":"s","timestamp":"2026-01-01T00:00:00Z","message":{"id":"m","role":"assistant","content":[{"type":"tool_use","id":"t","name":"Bash","input":{}}]}}
{"type":"user","uuid":"2","sessionId":"s","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x","is_error":true}]},"toolDenialKind":"x"}"#,
        r#"{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"s"}}
{"type":"response_item","payload":{"type":"function_call","name":"f","arguments":"{}","call_id":"c"}}
{"type":"event_msg","payload":{"type":"item_completed","item":{"id":"c","exit_code":1,"duration":{"secs":1,"nanos":1}}}}
{"type":"response_item","payload":{"type":"function_call_output","call_id":"c","output":"Exit code: 1\nOutput:\n"}}"#,
        r#"{"sessionId":"s","projectHash":"h","messages":[{"id":"g","type":"gemini","toolCalls":[{"id":"a","name":"f","args":{},"status":"success","result":[{"functionResponse":{"response":{"output":"x"}}}]}]}]}"#,
        r#"{"info":{"id":"s","parentID":"p"},"messages":[{"info":{"id":"m","role":"assistant"},"parts":[{"id":"p","type":"tool","tool":"f","callID":"c","state":{"status":"completed","input":{},"output":"x","metadata":{"exit":1},"time":{"start":1,"end":2}}}]}]}"#,
    ])
}

pub(crate) fn messages_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"},{"type":"web_search_call","id":"w","status":"completed"}]"#,
        r#"[{"role":"assistant","content":[{"toolUse":{"toolUseId":"a","name":"f","input":{}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"a","content":[{"json":{}}],"status":"error"}}]}]"#,
        r#"[{"role":"assistant","parts":[{"type":"tool-f","toolCallId":"a","state":"output-available","input":{},"output":1}]},{"role":"tool","content":[{"type":"tool-result","toolCallId":"a","output":{"type":"json","value":1}}]}]"#,
        r#"{"values":{"messages":[{"type":"ai","tool_calls":[{"name":"f","args":{},"id":"c"}],"additional_kwargs":{"tool_calls":[]}},{"lc":1,"kwargs":{"type":"tool","content":"x","tool_call_id":"c"}}]}}"#,
    ])
}

pub(crate) fn evaluations_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"eval":{"run_id":"r","model":"m"},"samples":[{"id":1,"epoch":1,"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":"f","arguments":{}}]},{"role":"tool","tool_call_id":"c","content":"x","error":{"type":"t"}}]}]}"#,
        r#"{"history":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_ids":["c"],"content":"x"}],"trajectory":[{"action":"ls","observation":"x","execution_time":1}]}"#,
        r#"[{"id":1,"source":"agent","action":"run","args":{},"tool_call_metadata":{"tool_call_id":"c","function_name":"f"}},{"id":2,"cause":1,"observation":"run","content":"x","extras":{"metadata":{"exit_code":1}}}]"#,
        r#"{"id":"r","run_type":"chain","child_runs":[{"id":"t","trace_id":"x","run_type":"tool","name":"f","inputs":{"input":"{}"},"outputs":{"output":"x"},"start_time":"2025-01-01T00:00:00"}]}"#,
        r#"{"schema_version":"ATIF-v1.4","session_id":"s","steps":[{"step_id":1,"source":"agent","tool_calls":[{"tool_call_id":"c","function_name":"f","arguments":{}}],"observation":{"results":[{"source_call_id":"c","content":"x"}]}}]}"#,
    ])
}

pub(crate) fn telemetry_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds(&[
        r#"{"name":"execute_tool f","context":{"trace_id":"0x1","span_id":"0x2"},"start_time":"2025-01-01T00:00:00Z","attributes":{"gen_ai.tool.name":"f","tool":{"name":"f"},"input":{"value":"{}"}},"status":{"status_code":"ERROR"}}"#,
        r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"1","span_id":"2","name":"execute_tool f","attributes":[{"key":"gen_ai.tool.name","value":{"string_value":"f"}}]}]}]}]}"#,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"claude_code.tool_result"},"attributes":[{"key":"tool_name","value":{"stringValue":"f"}},{"key":"success","value":{"stringValue":"false"}},{"key":"duration_ms","value":{"stringValue":"1e300"}}]}]}]}]}"#,
    ]);
    // A span in protobuf: the ids of trace and span, the name, one attribute.
    let pair = b"\x0a\x10gen_ai.tool.name\x12\x03\x0a\x01f";
    let span =
        [&b"\x0a\x01\x01\x12\x01\x02\x2a\x0eexecute_tool f\x39\x01\0\0\0\0\0\0\0\x4a"[..], &[pair.len() as u8], pair]
            .concat();
    let wrap = |inner: &[u8], number: u8| [&[number << 3 | 2, inner.len() as u8], inner].concat();
    all.push(wrap(&wrap(&wrap(&span, 2), 2), 1));
    all
}

pub(crate) fn packed_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x02\0\xfd\xff[]\x29\x36\x4e\xf1\x02\0\0\0".to_vec(),
        b"\x28\xb5\x2f\xfd\0\x38\x11\0\0[]".to_vec(),
        b"\x28\xb5\x2f\xfd\0\x38\x03\0\x10 ".to_vec(),
        b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0\x0e\0\0\0samples/1.json{}PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0\x0e\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0samples/1.jsonPK\x05\x06\0\0\0\0\x01\0\x01\0\x3c\0\0\0\x2e\0\0\0\0\0".to_vec(),
    ]
}

pub(crate) const WORDS: &[&str] = &[
    "\"role\":\"assistant\"",
    "\"role\":\"tool\"",
    "\"type\":\"tool_use\"",
    "\"type\":\"tool_result\"",
    "\"tool_calls\":[",
    "\"content\":[",
    "\"parts\":[",
    "\"messages\":[",
    "\"id\":\"c\"",
    "\"call_id\":\"c\"",
    "\"name\":\"f\"",
    "\"arguments\":\"{}\"",
    "\"attributes\":{",
    "\"timestamp\":\"2025-01-01T00:00:00\"",
    "\"run_type\":\"tool\"",
    "\"info\":{",
    "\"payload\":{",
    "null",
    "\n",
];
