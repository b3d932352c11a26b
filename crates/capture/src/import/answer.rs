//! The arguments and answers of tools, in the various forms that transcripts use.

use super::detect;
use super::file::{At, TIMES};
use super::join::Join;
use super::{record, speaks};
use crate::ended::{Signs, words};
use attestlog::CallResult;
use attestlog::entry::failure::{failure, is_called, text_fails};
use attestlog::entry::{Approval, CallError};
use attestlog::json::{Json, Limits, Path};
use attestlog::{Outcome, ToolCall};

/// The answer of a tool.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) result: Option<CallResult>,
    /// Set only if it does not follow from the result.
    pub(super) outcome: Option<Outcome>,
    /// Paths of restated values in the entry (`result.amount`).
    pub(super) restated: Vec<String>,
    /// Details of the failure that the answer has no room for.
    pub(super) beside: Vec<(&'static str, String)>,
    /// How long the call took, if the source says so.
    pub(super) duration_ms: Option<f64>,
    /// Who allowed or refused the call.
    pub(super) approval: Option<Approval>,
    /// What is said of how the call ended.
    pub(super) signs: Signs,
    /// Whether only words say how the call ended.
    pub(super) by_words: bool,
}

impl Answer {
    /// The answer in a message or block: its content, and the members that say how the call ended.
    pub(super) fn of_block(block: &At<'_>) -> Answer {
        let signs = Signs::of(block.value);
        let failed = signs.failed();
        let content = block.member("content").filter(|c| !(failed == Some(true) && detect::is_zero(c.value)));
        let mut answer = Answer::of(content, failed);
        answer.ended(signs);
        answer
    }

    /// The answer in the content of a message or block. `failed` is the transcript's explicit statement, if it makes
    /// one.
    pub(super) fn of(content: Option<At<'_>>, failed: Option<bool>) -> Answer {
        let Some(content) = content else { return Answer::value((Json::Null, Vec::new()), failed) };
        match text(content.value) {
            Some(text) => Answer::text(text, failed).restating(&content.restated("result")),
            None => Answer::value(content.keep("result"), failed),
        }
    }

    pub(super) fn text(text: String, failed: Option<bool>) -> Answer {
        if text.trim_start().starts_with(['{', '['])
            && let Some(kept) = parsed(&text, "result")
        {
            return Answer::value(kept, failed);
        }
        // An explicit statement takes precedence over what the text looks like; without one the log judges by the text.
        let outcome = (failed == Some(false) && text_fails(&text)).then_some(Outcome::Ok);
        let result = match failed {
            Some(true) => CallResult::Error(CallError { kind: None, message: text }),
            _ => CallResult::Value(Json::String(text)),
        };
        Answer { result: Some(result), outcome, ..Answer::default() }
    }

    /// Marks the result as restated if it is a text with restated `parts`.
    pub(super) fn restating(mut self, parts: &[String]) -> Answer {
        let whole = match self.result {
            Some(CallResult::Error(_)) => "error.message",
            _ => "result",
        };
        // If a text was joined from parts or parsed as JSON, the whole text is what was restated.
        if !parts.is_empty() && !self.restated.iter().any(|path| path == whole) {
            self.restated.push(whole.to_owned());
        }
        self
    }

    /// A failure with members stays a value: redaction finds secrets by member names, and a message has none.
    pub(super) fn value((value, restated): (Json, Vec<String>), failed: Option<bool>) -> Answer {
        let outcome = (failed == Some(true)).then_some(Outcome::ToolError);
        Answer { result: Some(CallResult::Value(value)), outcome, restated, ..Answer::default() }
    }

    pub(super) fn error(kind: Option<String>, message: String) -> Answer {
        Answer { result: Some(CallResult::Error(CallError { kind, message })), ..Answer::default() }
    }

    /// Adds an error stated beside the answer: its kind, and its message if the answer has none. What the answer has no
    /// room for goes into the session's metadata.
    pub(super) fn because(&mut self, error: CallError) {
        let is_said = |said: &str| said.contains(&error.message) || error.message == "true";
        match &mut self.result {
            Some(CallResult::Error(own)) => {
                if !is_said(&own.message) {
                    self.beside.push(("error_message", error.message));
                }
                own.kind = error.kind;
            }
            Some(CallResult::Value(value)) if *value != Json::Null => {
                if !is_said(value.to_canonical().as_str()) {
                    self.beside.push(("error_message", error.message));
                }
                self.beside.extend(error.kind.map(|kind| ("error_type", kind)));
            }
            _ => self.result = Some(CallResult::Error(error)),
        }
    }

    /// A text of which the agent says that it is no failure, though it may read like one.
    pub(super) fn fine(text: &str) -> Option<Answer> {
        let fails = parsed(text, "result").is_some_and(|(value, _)| failure(&value).is_some());
        let result = Some(CallResult::Value(Json::String(text.to_owned())));
        fails.then(|| Answer { result, outcome: Some(Outcome::Ok), ..Answer::default() })
    }

    /// Adds what signs say of how the call ended.
    pub(super) fn ended(&mut self, signs: Signs) {
        let outcome = signs.outcome();
        let kind = signs.error.as_ref().and_then(|error| words::kind(error.kind.as_deref()?));
        if outcome.is_some_and(|outcome| outcome != Outcome::Ok) && !self.is_failure() {
            self.fail(None);
        }
        if let Some(error) = signs.error.clone() {
            self.because(error);
        }
        self.signs = std::mem::take(&mut self.signs).and(signs);
        let graver = kind.or(outcome.filter(|outcome| !matches!(outcome, Outcome::Ok | Outcome::ToolError)));
        if graver.is_some() && matches!(self.outcome, None | Some(Outcome::Ok | Outcome::ToolError)) {
            self.outcome = graver;
        }
    }

    /// Marks the call as ended in this way, because the agent says so in words.
    pub(super) fn ended_in_words(&mut self, outcome: Outcome) {
        if !self.is_failure() {
            self.fail(None);
        }
        (self.outcome, self.by_words) = (Some(outcome), true);
    }

    /// Whether the call counts as failed.
    fn is_failure(&self) -> bool {
        match (self.outcome, &self.result) {
            (Some(outcome), _) => outcome != Outcome::Ok,
            (None, Some(CallResult::Error(_))) => true,
            (None, Some(CallResult::Value(value))) => failure(value).is_some(),
            (None, None) => false,
        }
    }

    /// Marks the call as failed, because the message or block around it says so.
    pub(super) fn fail(&mut self, error: Option<CallError>) {
        self.outcome = Some(Outcome::ToolError);
        if let Some(CallResult::Value(Json::String(text))) = &mut self.result {
            self.result = Some(CallResult::Error(CallError { kind: None, message: std::mem::take(text) }));
            self.restated
                .iter_mut()
                .filter(|path| *path == "result")
                .for_each(|path| *path = "error.message".to_owned());
        }
        if let Some(error) = error {
            self.because(error);
        }
    }

    pub(super) fn put_into(self, call: &mut ToolCall) {
        call.result = self.result;
        call.outcome = self.outcome;
        call.duration_ms = self.duration_ms.or(call.duration_ms);
        call.circumstances.approval = self.approval.or(call.circumstances.approval.take());
        call.restated.extend(self.restated);
        if let Some(signs) = self.signs.disagreement() {
            record::mark(call, "signs_disagree", signs);
        }
        if self.by_words {
            record::mark(call, "outcome_from", "words of the agent");
        }
        for (key, text) in self.beside {
            call.session_metadata.insert(key, text);
        }
    }
}

/// Reports the members of an answer, other than its content, that are not known to mean something else: any of them may
/// be the answer.
pub(super) fn beside<'a>(at: &At<'a>, join: &mut Join<'a>, format: &str) {
    const KNOWN: &[&str] = &[
        "role",
        "type",
        "content",
        "toolcallid",
        "toolcallids",
        "tooluseid",
        "callid",
        "id",
        "name",
        "toolname",
        "function",
        "error",
        "iserror",
        "status",
        "model",
        "agent",
        "requestor",
        "messagetype",
        "cachecontrol",
        "caller",
        "citations",
    ];
    // Whether the call went well is not the answer, and was read already.
    let known = |key: &str, value: &Json| {
        // `content` in another spelling is not the content that was read, and a `function` that is not a name may be a
        // call.
        if (is_called(key, "content") && key != "content") || (key == "function" && value.as_str().is_none()) {
            return false;
        }
        let flag = matches!(value, Json::Bool(_)) && ["success", "ok"].iter().any(|flag| is_called(key, flag));
        flag || KNOWN.iter().chain(TIMES).any(|known| is_called(key, known))
    };
    let Some(members) = at.value.as_object() else { return };
    let has_content = at.value.get("content").is_some_and(|content| !detect::is_zero(content));
    for (key, value) in members.iter().filter(|(key, value)| !known(key, value) && !detect::is_zero(value)) {
        // Beside an answer, numbers and flags are measurements.
        if has_content && matches!(value, Json::Bool(_) | Json::Number(_)) {
            continue;
        }
        if let Some(member) = at.member(key) {
            let why = format!("the member {:?} of an answer is nothing that {format} reads", super::clip(key));
            join.refuse(member.place(), &why);
        }
    }
}

/// Sets the call's arguments. A string that parses as JSON is replaced by the parsed value.
pub(super) fn arguments(call: &mut ToolCall, given: Option<At<'_>>) {
    let Some(given) = given else { return };
    let kept = given.value.as_str().and_then(|text| parsed(text, "arguments"));
    let (value, inside) = kept.unwrap_or_else(|| (given.value.clone(), Vec::new()));
    call.arguments = Some(value);
    call.restated.extend(given.restated("arguments").into_iter().chain(inside));
}

/// Parses `text` as JSON that can be kept; also returns the paths of restated values, below `root`.
pub(super) fn parsed(text: &str, root: &str) -> Option<(Json, Vec<String>)> {
    // Some writers put a byte order mark before it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = Json::parse_lenient(text.as_bytes(), &Limits::default()).ok()?;
    let root = Path::root().key(root);
    let restated = parsed.restated.iter().map(|p| p.inside(&root).to_string()).collect();
    Some((parsed.value, restated))
}

/// Whether two values agree: they are equal, one is empty, or one contains the other, directly or as JSON in a text.
/// Dialects wrap arguments and results.
pub(super) fn tell_the_same(one: &Json, other: &Json) -> bool {
    let (one, other) = (read(one), read(other));
    speaks::says_nothing(&one) || speaks::says_nothing(&other) || holds(&one, &other) || holds(&other, &one)
}

/// The value, or the JSON that its text holds.
pub(super) fn read(value: &Json) -> Json {
    let parsed = value.as_str().and_then(|text| parsed(text, "")).map(|(value, _)| value);
    parsed.unwrap_or_else(|| value.clone())
}

fn holds(whole: &Json, part: &Json) -> bool {
    whole == part
        || match whole {
            Json::Array(items) => items.iter().any(|item| holds(item, part)),
            Json::Object(members) => members.iter().any(|(_, member)| holds(member, part)),
            Json::String(text) if text.starts_with(['{', '[', '"']) => {
                parsed(text, "").is_some_and(|(inner, _)| inner != *whole && holds(&inner, part))
            }
            _ => false,
        }
}

/// The text of a string, or of a list of nothing but text parts.
pub(super) fn text(content: &Json) -> Option<String> {
    match content {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) if !parts.is_empty() => {
            // Bedrock's blocks have no type.
            let is_bare = |part: &Json| part.as_object().is_some_and(|members| members.len() == 1);
            let part = |part: &Json| match part.get("type").and_then(Json::as_str) {
                Some("text") => part.get("text")?.as_str().map(str::to_owned),
                None if is_bare(part) => part.get("text")?.as_str().map(str::to_owned),
                _ => None,
            };
            Some(parts.iter().map(part).collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => None,
    }
}
