//! Entries as the store would have made them. Only the store makes entries, so tests of what happens to them afterwards
//! read them from their serialised form.

use attestlog::{Body, Retention, Timestamp};
use serde_json::json;

/// A call of `tool` by `user` in `conversation` that concerns `patients`.
pub fn call(conversation: &str, user: &str, tool: &str, patients: &[&str], retention: Option<Retention>) -> Body {
    let call = json!({
        "phase": "Whole", "timestamp": 0, "conversation_id": conversation, "turn_number": null, "user_id": user,
        "model": null, "agent_id": null, "tool_name": tool, "tool_server": null, "arguments": null, "trigger": null,
        "call_id": null, "follows": null, "patient_ids": patients, "policy_seq": 1, "purpose": null, "emergency": false, "grant": null,
        "backfilled": false, "captured_by": null, "late_answer": false, "session_metadata": null, "completion": null, "treated": null, "restated": [],
        "sender": null,
    });
    body(json!({ "Call": call }), retention)
}

/// One of the store's own entries.
pub fn own(kind: &str, retention: Option<Retention>) -> Body {
    body(json!({ "System": { "kind": kind, "detail": "{}" } }), retention)
}

fn body(content: serde_json::Value, retention: Option<Retention>) -> Body {
    let at = Timestamp::from_nanos(0);
    let body = json!({ "nonce": 0, "recorded_at": at, "retention": retention, "content": content });
    serde_json::from_value(body).unwrap()
}
