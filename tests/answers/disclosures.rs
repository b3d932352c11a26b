//! Promise: an accounting of disclosures leaves out a failed call only if its reply consists of the words, names and numbers with which
//! errors are reported; whatever else was in it, anywhere, keeps the call in.

use attestlog::json::{Json, Object};
use attestlog::{AuditLog, Outcome, Query, ToolCall};
use attestlog_report::access::{AccessReport, Context, Subject};
use proptest::prelude::*;

/// What no error is made of.
const TOLD: &[&str] = &[
    "Anna Smith",
    "HIV positive",
    "allergies",
    "Иванова",
    "error Анна",
    "deceased",
    "120/80",
    "7",
    "ICD-10 E11.9",
    "patient has expired",
    "patient locked",
    "record found, access denied",
    "The patient is valid",
];

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Object::from_iter(members).into()
}

fn empty(kind: u8) -> Json {
    match kind % 4 {
        0 => Json::Null,
        1 => "".into(),
        2 => Json::Array(Vec::new()),
        _ => Object::new().into(),
    }
}

/// The word somewhere in a value: as the name of a member with nothing in it, as a text, a number, or within a list.
fn told(word: &str, form: u8, kind: u8) -> Json {
    let number = word.parse::<u64>();
    match (form % 5, number) {
        (0, _) => object([(word, empty(kind))]),
        (1, _) => object([("message", word.into())]),
        (2, Ok(number)) => object([("message", number.into())]),
        (2, _) => object([(word, false.into())]),
        (3, _) => object([("details", Json::Array(vec![word.into()]))]),
        _ => object([("data", object([(word, 0u64.into())]))]),
    }
}

/// A reply of a failed call around `inner`, so many levels deep.
fn reply(inner: Json, levels: &[u8]) -> Json {
    let inner = levels.iter().fold(inner, |inner, level| match level % 3 {
        0 => object([("error", inner)]),
        1 => object([("details", inner), ("code", 404u64.into())]),
        _ => object([("message", "not found".into()), ("data", inner)]),
    });
    let mut members = inner.as_object().cloned().unwrap();
    members.insert("isError", true);
    members.into()
}

/// The same reply as a tool of the Model Context Protocol gives it.
fn carried(reply: Json, way: u8) -> Json {
    match way % 3 {
        0 => reply,
        1 => object([("content", Json::Array(Vec::new())), ("structuredContent", reply), ("isError", true.into())]),
        _ => {
            let text = reply.to_canonical().to_string();
            let part = object([("type", "text".into()), ("text", text.into())]);
            object([("content", Json::Array(vec![part])), ("isError", true.into())])
        }
    }
}

/// How many of the calls of a log are left out of the accounting of what was disclosed of P-1 because nothing was disclosed.
fn left_out(calls: Vec<ToolCall>) -> u64 {
    let log = AuditLog::in_memory().unwrap();
    for call in calls {
        log.record(call.patient("P-1").purpose("research").outcome(Outcome::ToolError)).unwrap();
    }
    let entries: Vec<_> = log.query(&Query::new().patient("P-1")).unwrap().map(|entry| entry.unwrap()).collect();
    let context = Context::new(Subject::Disclosures("P-1".to_owned()));
    AccessReport::of(context, &entries).totals().undisclosed_left_out
}

fn replied(reply: Json) -> ToolCall {
    ToolCall::new("c", "u", "look").result(reply)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// The names of members with an empty value were not looked at, and a sentence counted as an error if each of its words could be
    /// in one: `{"isError":true,"HIV positive":""}` and `patient has expired` were left out of the accounting of disclosures.
    #[test]
    fn whatever_is_told_besides_an_error_keeps_the_call_in(
        word in 0..TOLD.len(), form in 0u8..5, kind in 0u8..4, way in 0u8..3, levels in prop::collection::vec(0u8..3, 0..4),
    ) {
        let told = carried(reply(told(TOLD[word], form, kind), &levels), way);
        let text = told.to_canonical().to_string();
        prop_assert_eq!(left_out(vec![replied(told)]), 0, "{}", text);
        let error = carried(reply(object([("message", "no such patient".into())]), &levels), way);
        let text = error.to_canonical().to_string();
        prop_assert_eq!(left_out(vec![replied(error)]), 1, "{}", text);
    }
}

#[test]
fn an_error_s_text_is_judged_in_the_same_way() {
    for told in TOLD {
        assert_eq!(left_out(vec![ToolCall::new("c", "u", "look").error(*told)]), 0, "{told}");
    }
    for plain in ["no such patient", "HTTP 403 Forbidden", "the session has expired", "access denied"] {
        assert_eq!(left_out(vec![ToolCall::new("c", "u", "look").error(plain)]), 1, "{plain}");
    }
}
