//! What a server's reply says about its call and about the server.
//!
//! Invariant R44: a reply that hosts may read differently is never recorded as a success, and an unambiguous reply
//! after it is recorded too.

use super::strict::{folded, unlike_a_message};
use attestlog::entry::failure::{is_called, is_no_error, is_set};
use attestlog::json::{Json, Object};

/// What a reply means for its call.
#[derive(Debug, PartialEq)]
pub(super) enum Reply<'a> {
    /// The server asks for input first. The call is continued by another request, which carries this state.
    Asks(Option<&'a Json>),
    /// The call has become this task, or (`None`) is still a task.
    Task(Option<&'a Json>),
    /// The call has a result, which may say that the tool failed.
    Result(&'a Json),
    /// The call has a protocol error.
    Error(&'a Json),
    /// The call's task was cancelled.
    Cancelled,
    /// The call's task failed, with this message if it has one. The task's result may give the reason.
    Failed(Option<&'a Json>),
    /// The reply has neither result nor error.
    Nothing,
}

/// The reason why hosts may read a reply differently, if there is one. JSON-RPC has requests, with a method, and
/// replies, with a result or an error. Strict readers refuse a message that is more than one of these; others use
/// whichever member they check first.
pub(super) fn odd(message: &Json) -> Option<String> {
    let says = |name: &str| message.get(name).is_some_and(|value| *value != Json::Null);
    let fails = message.get("error").is_some_and(|error| !is_no_error(error));
    if says("method") {
        return Some("it has a method too, as a request has".to_owned());
    }
    if says("result") && fails {
        return Some("it has both a result and an error".to_owned());
    }
    if let Err(what) = unlike_a_message(message) {
        return Some(format!("it {what}"));
    }
    match message.get("result") {
        Some(result) if !fails => unclear(result),
        // The host that refuses it waits for another.
        None if !fails => Some("it has neither a result nor an error".to_owned()),
        _ => None,
    }
}

/// Whether a reply that is not odd has the form on which the strictest hosts insist. Those that refuse it wait for another.
pub(super) fn is_accepted_by_all(message: &Json) -> bool {
    let is_whole = |code: &Json| code.to_canonical().as_str().bytes().all(|b| b == b'-' || b.is_ascii_digit());
    let formal = match (message.get("result"), message.get("error")) {
        (Some(result), None) => result.get("_meta").is_none_or(|meta| meta.as_object().is_some()),
        (None, Some(error)) => {
            error.get("code").is_some_and(is_whole) && error.get("message").is_some_and(|text| text.as_str().is_some())
        }
        _ => false,
    };
    formal && message.get("jsonrpc").and_then(Json::as_str) == Some("2.0") && message.get("method").is_none()
}

/// A reply with several members that some reader takes for its result, or for its error, with all of these as its
/// result: a list, like that of members of one name.
pub(super) fn gathered(message: &Json) -> Option<Json> {
    let Json::Object(members) = message else { return None };
    let all: Vec<&Json> = shown(message).collect();
    let is_other = |(name, _): (&str, &Json)| matches!(folded(name).as_str(), "result" | "error") && !is_plain(name);
    if all.len() < 2 || !members.iter().any(is_other) {
        return None;
    }
    let all = Json::Array(all.into_iter().cloned().collect());
    let mut members = members.clone();
    members.insert("result", all);
    Some(members.into())
}

fn is_plain(name: &str) -> bool {
    matches!(name, "result" | "error")
}

/// What some reader may find in a reply: its result, and the data of its error, under any spelling of their names.
pub(super) fn shown(message: &Json) -> impl Iterator<Item = &Json> {
    let members = message.as_object().into_iter().flat_map(Object::iter);
    members.filter_map(|(name, value)| match folded(name).as_str() {
        "result" => Some(value),
        "error" => value.get("data"),
        _ => None,
    })
}

/// Whether a result has contents that a host may use.
fn shows(result: &Json) -> bool {
    ["content", "structuredContent"].iter().any(|name| result.get(name).is_some_and(|shown| !is_no_error(shown)))
}

/// The reason why some hosts may not accept a result.
fn unclear(result: &Json) -> Option<String> {
    if result.as_object().is_none() {
        return Some("its result is no object".to_owned());
    }
    if let Some(name) = unclear_flag(result) {
        return Some(format!("its {name} is neither true nor false: some hosts take it for a failure or refuse it"));
    }
    if result.get("resultType").and_then(Json::as_str) == Some("input_required") && shows(result) {
        return Some("it asks for input and has contents too".to_owned());
    }
    let known = |kind: &Json| {
        *kind == Json::Null || ["complete", "input_required", "task"].iter().any(|known| kind.as_str() == Some(known))
    };
    result.get("resultType").filter(|kind| !known(kind)).map(|_| "its resultType is none of the protocol's".to_owned())
}

/// The name of an error flag that is not a Boolean and that the rule for failures reads as false, while other readers
/// read it as true. Null is not a flag.
fn unclear_flag(result: &Json) -> Option<String> {
    let mut members = result.as_object()?.iter();
    let unclear = |value: &Json| !matches!(value, Json::Null | Json::Bool(_)) && !is_set(value);
    members.find(|(name, value)| is_called(name, "iserror") && unclear(value)).map(|(name, _)| short(name))
}

/// Reads a reply to a call, or to a request about the task that the call has become.
///
/// Tasks come in two forms: `{"task":{"taskId"}}`, whose result needs a request of its own, and, since 2026, a flat
/// form with `"resultType":"task"`, whose result comes with the reply to a status request.
pub(super) fn read(message: &Json, is_task: bool) -> Reply<'_> {
    if let Some(error) = message.get("error").filter(|error| !is_no_error(error)) {
        return Reply::Error(error);
    }
    let Some(result) = message.get("result") else { return Reply::Nothing };
    let text = |name: &str| result.get(name).and_then(Json::as_str);
    if text("resultType") == Some("input_required") && !shows(result) {
        return Reply::Asks(result.get("requestState"));
    }
    if result.get("content").is_some() || result.get("structuredContent").is_some() {
        return Reply::Result(result);
    }
    let begun = task_of(result);
    if begun.is_none() && !is_task {
        return Reply::Result(result);
    }
    let task = task_in(result);
    match (status(message), task.get("error").filter(|error| !is_no_error(error)), task.get("result")) {
        (Some("cancelled"), ..) => Reply::Cancelled,
        (Some("failed"), Some(error), _) => Reply::Error(error),
        (Some("failed"), None, Some(result)) | (Some("completed"), _, Some(result)) => Reply::Result(result),
        (Some("failed"), None, None) => Reply::Failed(task.get("statusMessage")),
        _ => Reply::Task(begun),
    }
}

/// The task that, according to a result, the call has become.
fn task_of(result: &Json) -> Option<&Json> {
    let is_flat = result.get("resultType").and_then(Json::as_str) == Some("task");
    task_in(result).get("taskId").filter(|_| is_flat || result.get("task").is_some())
}

fn task_in(result: &Json) -> &Json {
    result.get("task").filter(|task| task.get("taskId").is_some()).unwrap_or(result)
}

/// The final status that a reply about a task reports, if any.
pub(super) fn status(message: &Json) -> Option<&'static str> {
    let said = task_in(message.get("result")?).get("status")?.as_str()?.trim();
    let spelt = ["completed", "failed", "cancelled"].into_iter().find(|end| said.eq_ignore_ascii_case(end));
    spelt.or_else(|| said.eq_ignore_ascii_case("canceled").then_some("cancelled"))
}

/// What a reply shows beside its error: a result, under whatever spelling of that name, or the error's `data`. `error` is
/// the error by which the reply is judged, of the message or of the task in it (`of_task`).
pub(super) fn beside_error<'a>(message: &'a Json, error: Option<&'a Json>, of_task: bool) -> Option<&'a Json> {
    let of_message = error.is_none_or(|error| message.get("error") == Some(error));
    let result = match of_message && !of_task {
        true => result_of(message),
        false => message.get("result").and_then(|result| task_in(result).get("result")),
    };
    let data = || error?.get("data").filter(|data| !is_no_error(data));
    result.filter(|result| **result != Json::Null).or_else(data)
}

/// The result of a reply, under whatever spelling of that name.
fn result_of(message: &Json) -> Option<&Json> {
    let mut members = message.as_object()?.iter();
    message.get("result").or_else(|| members.find(|(name, _)| is_called(name, "result")).map(|(_, result)| result))
}

/// What a reply with an error shows, with the error in it as the member `error`.
pub(super) fn with_error(shown: &Json, of_error: bool, error: Object) -> Json {
    match shown {
        Json::Object(members) if !of_error && members.get("error").is_none() => {
            let mut members = members.clone();
            members.insert("error", error);
            members.into()
        }
        shown => {
            let name = if of_error { "data" } else { "result" };
            Object::from_iter([("error", Json::from(error)), (name, shown.clone())]).into()
        }
    }
}

/// The name and version of the server: in the answer to `initialize` or, since 2026, in any result's `_meta`.
pub(super) fn server_of(result: &Json) -> Option<Json> {
    let meta = || result.get("_meta")?.get("io.modelcontextprotocol/serverInfo");
    result.get("serverInfo").or_else(meta).map(about)
}

/// The tools that a result lists, with the hints that the server declares for each.
pub(super) fn hints_of(result: &Json) -> impl Iterator<Item = (String, Object)> {
    result.get("tools").and_then(Json::as_array).unwrap_or_default().iter().filter_map(|tool| {
        let (name, Json::Object(hints)) = (tool.get("name")?.as_str()?, tool.get("annotations")?) else { return None };
        let hints = hints.iter().filter(|(_, hint)| matches!(hint, Json::Bool(_)));
        Some((name.to_owned(), hints.map(|(name, hint)| (name, hint.clone())).collect()))
    })
}

/// The name and version of a client or server.
pub(super) fn about(info: &Json) -> Json {
    let part = |name: &'static str| Some((name, Json::from(short(info.get(name)?.as_str()?))));
    Object::from_iter(["name", "version"].into_iter().filter_map(part)).into()
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap().value
    }

    #[test]
    fn tasks_of_both_eras_are_followed_to_their_end() {
        let id = json("\"t-1\"");
        let says = |text: &str, is_task: bool, expected: Reply<'_>| {
            assert_eq!(read(&json(text), is_task), expected, "{text}");
        };
        let (end, error) = (json(r#"{"content":[]}"#), json(r#"{"code":1}"#));
        says(r#"{"result":{"content":[]}}"#, false, Reply::Result(&end));
        says(r#"{"error":{"code":1}}"#, false, Reply::Error(&error));
        // Servers that answer in a fixed shape add an empty error to a result. This used to be recorded as a failure.
        says(r#"{"result":{"content":[]},"error":null}"#, false, Reply::Result(&end));
        says(r#"{"id":1}"#, false, Reply::Nothing);
        says(r#"{"result":{"resultType":"input_required","requestState":"t-1"}}"#, false, Reply::Asks(Some(&id)));
        // 2025: the call becomes a task, is polled, and its result is fetched.
        says(r#"{"result":{"task":{"taskId":"t-1","status":"working"}}}"#, false, Reply::Task(Some(&id)));
        says(r#"{"result":{"taskId":"t-1","status":"completed"}}"#, true, Reply::Task(None));
        says(r#"{"result":{"content":[]}}"#, true, Reply::Result(&end));
        // 2026: the flat form, whose result comes with the status.
        says(r#"{"result":{"resultType":"task","taskId":"t-1","status":"working"}}"#, false, Reply::Task(Some(&id)));
        says(r#"{"result":{"resultType":"complete","taskId":"t-1","status":"working"}}"#, true, Reply::Task(None));
        says(r#"{"result":{"status":"completed","result":{"content":[]}}}"#, true, Reply::Result(&end));
        says(r#"{"result":{"status":"failed","error":{"code":1}}}"#, true, Reply::Error(&error));
        says(r#"{"result":{"status":"cancelled"}}"#, true, Reply::Cancelled);
        // 2025: a failed task may have a result with the reason; a call may end as soon as it becomes a task.
        let why = json("\"declined\"");
        says(
            r#"{"result":{"taskId":"t-1","status":"failed","statusMessage":"declined"}}"#,
            true,
            Reply::Failed(Some(&why)),
        );
        says(r#"{"result":{"task":{"taskId":"t-1","status":"failed"}}}"#, false, Reply::Failed(None));
        says(r#"{"result":{"task":{"taskId":"t-1","status":"canceled"}}}"#, false, Reply::Cancelled);
        // The same words in a tool's own result have no such meaning.
        let own = json(r#"{"status":"cancelled","taskId":"t-1"}"#);
        says(r#"{"result":{"status":"cancelled","taskId":"t-1"}}"#, false, Reply::Result(&own));
    }

    #[test]
    fn what_is_more_than_one_thing_is_odd() {
        for plain in [
            r#"{"id":1,"result":{}}"#,
            r#"{"id":1,"error":{"code":1},"result":null}"#,
            r#"{"id":1,"result":{},"error":null,"method":null}"#,
            r#"{"id":1,"result":{"isError":null,"is_error":false,"resultType":"complete"}}"#,
            // The rule for failures reads this as a failure, and so do most hosts.
            r#"{"id":1,"result":{"isError":1}}"#,
        ] {
            assert_eq!(odd(&json(plain)), None, "{plain}");
        }
        for more in [
            r#"{"id":1,"method":"x","result":{}}"#,
            r#"{"id":1,"method":"x","error":{"code":1}}"#,
            r#"{"id":1,"result":{},"error":{"code":1}}"#,
            r#"{"id":1,"result":{},"Error":{"code":1}}"#,
            r#"{"id":1,"ID":2,"result":{}}"#,
            r#"{"id":1,"result":null}"#,
            r#"{"id":1,"result":"done"}"#,
            r#"{"id":1,"result":[{}]}"#,
            r#"{"id":1,"result":{"isError":"false"}}"#,
            r#"{"id":1,"result":{"is_error":[]}}"#,
            r#"{"id":1,"result":{"isError":0}}"#,
            r#"{"id":1,"result":{"resultType":"failed"}}"#,
        ] {
            assert!(odd(&json(more)).is_some(), "{more}");
        }
    }

    #[test]
    fn strict_hosts_wait_for_a_formal_reply() {
        let formal = |rest: &str| is_accepted_by_all(&json(&format!(r#"{{"jsonrpc":"2.0","id":1{rest}}}"#)));
        for rest in [r#","result":{}"#, r#","result":{"_meta":{}}"#, r#","error":{"code":-1,"message":"no"}"#] {
            assert!(formal(rest), "{rest}");
        }
        for rest in [
            "",
            r#","result":{},"error":null"#,
            r#","result":{"_meta":1}"#,
            r#","error":"no""#,
            r#","error":{"code":"1","message":"no"}"#,
            r#","error":{"code":1.5,"message":"no"}"#,
            r#","error":{"code":1}"#,
            r#","result":{},"method":null"#,
        ] {
            assert!(!formal(rest), "{rest}");
        }
        assert!(!is_accepted_by_all(&json(r#"{"id":1,"result":{}}"#)));
    }

    #[test]
    fn a_server_says_who_it_is_in_either_way() {
        let who = json(r#"{"name":"ward","version":"2"}"#);
        assert_eq!(server_of(&json(r#"{"serverInfo":{"name":"ward","version":"2","title":"T"}}"#)), Some(who.clone()));
        let meta = r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"ward","version":"2"}}}"#;
        assert_eq!(server_of(&json(meta)), Some(who));
        assert_eq!(server_of(&json("{}")), None);
    }
}
