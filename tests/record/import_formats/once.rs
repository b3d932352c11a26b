//! A call is imported once, and a call that only looks like it is not lost.

use super::*;
use attestlog::redact::{Action, IdentityKind, Policy, Preset};
use attestlog::{AuditLog, Options, PolicySet, Query};

fn store() -> AuditLog {
    let mut policies = PolicySet::default();
    let rules = Policy::builder(Preset::Default).facet(IdentityKind::Conversation, Action::Pseudonymise);
    policies.redaction = rules.build().unwrap();
    Options::new().policies(policies).in_memory().unwrap()
}

fn transcript(session: &str, to: &str) -> String {
    let messages = [
        user(),
        openai_calls(&[openai_call("call_1", "send_email", &json!({"to": to}).to_string())]),
        openai_answer("call_1", "sent"),
    ];
    json!({"id": session, "messages": messages}).to_string()
}

fn import(log: &AuditLog, text: &str) -> import::Recorded {
    import::record(log, read(Format::OpenAiChat, text, &ImportOptions::new().user("u")), false, |_| ()).unwrap()
}

fn calls(log: &AuditLog, tool: &str) -> Vec<attestlog::Call> {
    let entries = log.query(&Query::new().tool(tool)).unwrap();
    entries.map(|entry| entry.unwrap().call().unwrap().clone()).collect()
}

/// The sender of an imported call was a hash, without a key, of the clear id of its session and of what stands beside it in
/// clear. With the store's file alone, and 201 guesses imported into a store of one's own, the id behind a pseudonym was
/// found; and the same session had the same sender in every store.
#[test]
fn a_hidden_session_is_not_found_by_guessing() {
    let (log, guesser) = (store(), store());
    for log in [&log, &guesser] {
        assert_eq!(import(log, &transcript("chart-of-MRN-4817", "bob")).receipts.len(), 1);
    }
    let sender = |log: &AuditLog| calls(log, "send_email")[0].sender.clone().unwrap().id;
    assert!(sender(&log).starts_with("import-"));
    assert_ne!(sender(&log), sender(&guesser));
    // Nor is a session without an id, which is named after its messages.
    let unnamed = |log: &AuditLog| {
        let text = file(&[user(), openai_calls(&[openai_call("c", "nameless", "{}")]), openai_answer("c", "ok")]);
        import(log, &text);
        calls(log, "nameless")[0].conversation_id.clone()
    };
    for log in [&log, &guesser] {
        log.retention().set_policies(PolicySet::default()).unwrap();
    }
    let (here, there) = (unnamed(&log), unnamed(&guesser));
    assert!(here.starts_with("import-") && here.len() == "import-".len() + 16, "{here}");
    assert_ne!(here, there);
}

/// With a key for identities, an import after a rotation or under another policy must still know what it has.
#[test]
fn a_file_is_known_after_a_rotation_and_under_another_policy() {
    let log = store();
    let text = transcript("s1", "alice@example.com");
    import(&log, &text);
    let again = |log: &AuditLog| {
        let recorded = import(log, &text);
        assert_eq!((recorded.receipts.len(), recorded.repeated, recorded.not_taken.len()), (0, 1, 0), "{recorded:?}");
    };
    again(&log);
    log.keys().rotate_pseudonym_key().unwrap();
    again(&log);
    log.retention().set_policies(PolicySet::default()).unwrap();
    again(&log);
    assert_eq!(calls(&log, "send_email").len(), 1);
}

/// A message to alice and one to mallory, in a session and with an id that are the same, look alike when addresses are
/// masked. The second was called "in the log already", with exit code 0, and was in no log.
#[test]
fn a_call_that_differs_only_where_the_policy_masks_is_reported() {
    let log = store();
    import(&log, &transcript("s1", "alice@example.com"));
    let recorded = import(&log, &transcript("s1", "mallory@evil.example"));
    assert_eq!((recorded.receipts.len(), recorded.repeated), (0, 0), "{recorded:?}");
    let told = recorded.not_taken[0].to_string();
    assert!(told.contains("differs in arguments") && !told.contains("mallory"), "{told}");
}
