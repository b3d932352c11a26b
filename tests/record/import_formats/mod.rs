//! Promise: transcripts are imported as the calls that were made, each with its own answer, and nothing is lost on the way.

mod agents;
mod anthropic;
mod conversations;
mod elsewhere;
mod endings;
mod evaluations;
mod failures;
mod frameworks;
mod hostile;
mod once;
mod openai;
mod otlp;
mod own;
mod packed;
mod properties;
mod real;
mod telemetry;
mod texts;
mod told;
mod unread;

use attestlog::{ErrorKind, Outcome, Timestamp, ToolCall, json};
use attestlog_capture::import::{self, Format, ImportOptions, Imported, Tally};
use proptest::prelude::*;
use serde_json::{Value, json};

const FORMATS: [Format; 2] = [Format::OpenAiChat, Format::Anthropic];

fn options() -> ImportOptions {
    ImportOptions::new().user("u").conversation("c")
}

fn read(format: Format, text: impl AsRef<[u8]>, options: &ImportOptions) -> Imported {
    import::calls(format, text.as_ref(), options).unwrap()
}

/// The calls that these records of `attestlog record` describe, back-filled.
fn expected(records: &[Value]) -> Vec<ToolCall> {
    let call = |r: &Value| ToolCall::from_jsonl(r.to_string().as_bytes()).unwrap().backfilled();
    records.iter().map(call).collect()
}

#[track_caller]
fn assert_calls(imported: &Imported, records: &[Value]) {
    assert_eq!(imported.calls, expected(records));
    assert_eq!(imported.places.len(), imported.calls.len());
    assert_eq!(imported.not_taken, []);
}

#[track_caller]
fn assert_refused(format: Format, text: impl AsRef<[u8]>, options: &ImportOptions, message: &str) {
    let error = import::calls(format, text.as_ref(), options).unwrap_err();
    assert!(error.to_string().contains(message), "{message:?} should stand in {:?}", error.to_string());
    assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge), "{error:?}");
}

fn user() -> Value {
    json!({"role": "user", "content": "please"})
}

fn openai_call(id: &str, tool: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": tool, "arguments": arguments}})
}

fn openai_calls(calls: &[Value]) -> Value {
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn openai_answer(id: &str, content: impl Into<Value>) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": content.into()})
}

fn file(messages: &[Value]) -> String {
    Value::from(messages).to_string()
}
