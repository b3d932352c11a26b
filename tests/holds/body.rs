//! Entries as the store would have made them, for tests of what happens to entries afterwards.

use attestlog::entry::{Phase, Retention};
use attestlog::json::Object;
use attestlog::{Body, Call, Content, SystemEvent, Timestamp};

/// A call of `tool` by `user` in `conversation` that concerns `patients`.
pub fn call(conversation: &str, user: &str, tool: &str, patients: &[&str], retention: Option<Retention>) -> Body {
    let call = Call {
        phase: Phase::Whole,
        policy_seq: 1,
        follows: None,
        grant: None,
        emergency: false,
        backfilled: false,
        late_answer: false,
        trigger: None,
        timestamp: Timestamp::from_nanos(0),
        turn_number: None,
        completion: None,
        conversation_id: conversation.to_owned(),
        user_id: user.to_owned(),
        patient_ids: patients.iter().map(|&patient| patient.to_owned()).collect(),
        model: None,
        agent_id: None,
        tool_server: None,
        tool_name: tool.to_owned(),
        purpose: None,
        session_metadata: None,
        arguments: None,
        call_id: None,
        treated: None,
        restated: Vec::new(),
        sender: None,
        given: None,
        circumstances: None,
    };
    body(Content::Call(Box::new(call)), retention)
}

/// One of the store's own entries, of the kind of this name.
pub fn own(kind: &str, retention: Option<Retention>) -> Body {
    let detail = attestlog::json::Json::from(Object::new()).to_canonical();
    body(Content::System(SystemEvent { kind: kind.parse().unwrap(), detail }), retention)
}

fn body(content: Content, retention: Option<Retention>) -> Body {
    Body { nonce: [0; 16], recorded_at: Timestamp::from_nanos(0), retention, content }
}
