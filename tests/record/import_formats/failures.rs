//! A call that failed according to a transcript is a failure in the log, however the writer spells it.

use super::*;
use attestlog::AuditLog;

fn openai(answer: &Value) -> Imported {
    let mut message = openai_answer("c1", "permission denied");
    for (key, value) in answer.as_object().unwrap() {
        message[key] = value.clone();
    }
    read(Format::OpenAiChat, file(&[user(), openai_calls(&[openai_call("c1", "pay", "{}")]), message]), &options())
}

fn anthropic(answer: &Value) -> Imported {
    let mut block = json!({"type": "tool_result", "tool_use_id": "c1", "content": "permission denied"});
    for (key, value) in answer.as_object().unwrap() {
        block[key] = value.clone();
    }
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "pay", "input": {}}]});
    read(Format::Anthropic, file(&[user(), call, json!({"role": "user", "content": [block]})]), &options())
}

fn recorded(members: &str) -> Outcome {
    let log = AuditLog::in_memory().unwrap();
    let line = format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t",{members}}}"#);
    let receipt = log.record(ToolCall::from_jsonl(line.as_bytes()).unwrap()).unwrap();
    log.entry(receipt.seq).unwrap().call().unwrap().completion.as_ref().unwrap().outcome
}

/// A tool result with `"isError": true`, `"error": {…}` or `"status": "error"` beside its content was imported from
/// Anthropic's messages as a success, exit 0; a flag of `1` or `"true"`, and a name spelt `IsError`, were ignored in every
/// format.
#[test]
fn a_failure_beside_the_answer_is_one_in_every_format() {
    let fails = [
        json!({"is_error": true}),
        json!({"isError": true}),
        json!({"error": {"message": "denied"}}),
        json!({"status": "error"}),
        json!({"is_Error": true}),
        json!({"IsError": true}),
        json!({"is_error": 1}),
        json!({"is_error": "true"}),
        json!({"isError": "True"}),
        json!({"status": "failed"}),
        json!({"status": "failure"}),
        json!({"success": false}),
        json!({"ok": false}),
        // If members disagree, it failed.
        json!({"is_error": false, "status": "error"}),
    ];
    for says in &fails {
        for imported in [openai(says), anthropic(says)] {
            assert_eq!((imported.tally().failures, &imported.not_taken), (1, &Vec::new()), "{says}");
        }
    }
    let fine = [
        json!({}),
        json!({"is_error": false}),
        json!({"is_error": "false"}),
        json!({"is_error": 0}),
        json!({"error": ""}),
        json!({"status": "success"}),
        json!({"success": true, "ok": true}),
    ];
    for says in &fine {
        for imported in [openai(says), anthropic(says)] {
            assert_eq!((imported.tally().failures, &imported.not_taken), (0, &Vec::new()), "{says}");
        }
    }
    // Ollama gives the tool of an answer as `tool_name`; this was reported as not recorded.
    assert_eq!(openai(&json!({"tool_name": "pay"})).not_taken, []);
    for result in [r#"{"is_error":1}"#, r#"{"isError":"true"}"#, r#"{"IsError":true}"#, r#"{"Error":"x"}"#] {
        assert_eq!(recorded(&format!("\"result\":{result}")), Outcome::ToolError, "{result}");
    }
    // Inside an answer these may be the subject of the call: an order, a check, a job.
    for result in [r#"{"is_error":"false"}"#, r#"{"status":"failed"}"#, r#"{"ok":false}"#] {
        assert_eq!(recorded(&format!("\"result\":{result}")), Outcome::Ok, "{result}");
    }
}

/// "Errors: 0 found" and "Error-free run" were failures, because they begin with the letters of `Error`; "error: nope",
/// "ERROR bad" and " Error: x" were successes.
#[test]
fn a_text_fails_by_the_word_error_and_not_by_its_letters() {
    let texts = [
        ("Error: x", true),
        ("error: nope", true),
        ("ERROR bad", true),
        (" Error: x", true),
        ("\nError", true),
        ("Error[E0308]: x", true),
        ("Errors: 0 found", false),
        ("Error-free run", false),
        ("error_count=0", false),
        ("Erroneous", false),
        ("No Error: x", false),
    ];
    for (text, fails) in texts {
        let says = json!({"content": text});
        for imported in [openai(&says), anthropic(&says)] {
            assert_eq!(imported.tally().failures, usize::from(fails), "{text}");
        }
        let wanted = if fails { Outcome::ToolError } else { Outcome::Ok };
        assert_eq!(recorded(&format!("\"result\":{}", json!(text))), wanted, "{text}");
    }
}

/// A span that was exported twice, the second time with a failure status, was two calls in statistics; and other ways to
/// mark a failure (`"status": "ERROR"`, `error=true`, an exception that escaped) were successes.
#[test]
fn a_span_that_failed_is_one_failure_however_it_is_marked() {
    let of = [(otlp::EXECUTE, otlp::text("execute_tool")), ("gen_ai.tool.name", otlp::text("pay"))];
    let plain = || otlp::span("01", "", otlp::START, &of);
    let with = |key: &str, value: Value| {
        let mut span = plain();
        span[key] = value;
        span
    };
    let import = |spans: Vec<Value>| read(Format::OtlpJson, otlp::export(json!([]), spans).to_string(), &options());
    let failed = || with("status", json!({"code": 2}));
    for (spans, failures) in [(vec![plain(), failed()], 1), (vec![failed(), plain()], 0)] {
        let imported = import(spans);
        assert_eq!((imported.calls.len(), imported.tally().failures), (1, failures));
        assert_eq!(imported.not_taken.len(), 1, "{:?}", imported.not_taken);
        assert!(imported.not_taken[0].place.ends_with("spans[0]"));
    }
    assert_eq!(import(vec![plain(), plain()]).not_taken, []);
    for status in
        [json!("ERROR"), json!({"Code": 2}), json!({"status_code": "ERROR"}), json!({"statusCode": 2}), json!(2)]
    {
        assert_eq!(import(vec![with("status", status.clone())]).tally().failures, 1, "{status}");
    }
    for odd in [json!(["x"]), json!({"state": "bad"}), json!({"code": 3})] {
        let imported = import(vec![plain(), with("status", odd)]);
        assert_eq!(imported.calls.len(), 1);
        assert!(imported.not_taken[0].why.contains("status"), "{:?}", imported.not_taken);
    }
    let yes = || json!({"boolValue": true});
    let marks = [
        ("error", yes()),
        ("error", otlp::text("true")),
        ("otel.status_code", otlp::text("ERROR")),
        ("exception.message", otlp::text("boom")),
        ("error.message", otlp::text("boom")),
        ("mcp.tool.result.is_error", yes()),
        ("tool.is_error", yes()),
        ("langfuse.observation.level", otlp::text("ERROR")),
        ("gen_ai.tool.call.error", otlp::text("boom")),
        ("tool.success", json!({"boolValue": false})),
        ("process.exit.code", json!({"intValue": "3"})),
    ];
    for (key, value) in marks {
        let mut span = plain();
        span["attributes"].as_array_mut().unwrap().push(json!({"key": key, "value": value}));
        assert_eq!(import(vec![span]).tally().failures, 1, "{key}");
    }
    for (escaped, failures) in [(true, 1), (false, 0)] {
        let attributes = json!([{"key": "exception.escaped", "value": {"boolValue": escaped}}]);
        let span = with("events", json!([{"name": "exception", "attributes": attributes}]));
        assert_eq!(import(vec![span]).tally().failures, failures);
    }
}
