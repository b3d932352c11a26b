//! Whether the result of a failed call discloses anything besides its error.
//!
//! Invariant: in doubt, it does. A call counts as having disclosed nothing only if this module says so, or if it has no answer.
//! A text discloses nothing if every word in it is one with which errors are reported ([`WORDS`]): whatever else it says, the
//! agent was told it. The name of a member is a text too, whatever its value: `{"HIV positive":null}` says as much as a sentence.
//! No list of words makes a sentence harmless, so words that state something about a person by themselves (`expired`, `valid`,
//! `positive`) are not on the list.

use super::failure::is_called;
use crate::json::{Json, Object};
use attestlog_proof::entry::CallError;
use std::collections::HashSet;
use std::sync::LazyLock;

/// A longer text is content, not an error message.
const MAX_MESSAGE: usize = 1 << 10;
/// Names of members that say that something failed, and why.
const ABOUT: &[&str] = &[
    "error",
    "errors",
    "iserror",
    "status",
    "ok",
    "success",
    "message",
    "detail",
    "details",
    "reason",
    "code",
    "type",
    "name",
    "errorcode",
    "errormessage",
    "errortype",
    "statuscode",
    "title",
    "data",
    "resulttype",
];
/// Names of members in which an answer would be.
const SHAPE: &[&str] = &["content", "structuredcontent", "result", "meta"];
/// Names of members whose value may be any whole number: it is a code.
const CODES: &[&str] = &["code", "errorcode", "status", "statuscode"];
/// Names of members whose value may be true or false.
const FLAGS: &[&str] = &["iserror", "error", "ok", "success"];
/// The words with which errors are reported. None of them by itself says anything about a person; see [`Said`] for those that
/// could beside others.
const WORDS: &str = "a abort aborted aborting accept accepted access account action after again allow allowed already an and any \
     api argument arguments as at attempt attempts attestlog auth authentication authorisation authorised \
     authorization authorized available backend bad be because been before begun being busy but by call called \
     calls can cancel canceled cancelled cannot check client closed code \
     configuration configured conflict connect connection contact could credentials data database deadline \
     declined denied deny did disabled disconnected do does doesn don down due empty enabled end ended enough err \
     errno error errors exceed exceeded exception execute execution exist existing exists expected expire expired \
     fail failed failing failure false fatal file find for forbidden found from function gateway get given \
     had handle handler has have host http https id identifier if illegal in input insufficient internal invalid \
     io is it its json key later limit limited line locked log login lookup malformed many match matched matching \
     may message method mismatch missing model more must name named neither network no none nonexistent nor not \
     nothing null number object of on one only open operation or out overloaded parameter parameters params parse \
     parsed passed path patient patients permission permissions permitted please policy possible privilege \
     privileges proceed process processing protocol provided query quota rate rates reach reached read reason \
     record recorded records refused reject rejected reply request requested requests require required requires \
     resource resources response result retries retry right rights role row rows rpc run running runtime said \
     scope seconds secs server service session shape socket something start started state status step such support \
     supported syntax system table task temporarily temporary that the there this throttled time timed timedout \
     timeout to token too tool tools true try type unable unauthenticated unauthorised unauthorized unavailable \
     unexpected unexpectedly unimplemented unknown unreachable unsupported until update upstream usage use user \
     using valid validation value version wait was went were while with within without write wrong you your";
/// Words that name whom the call is about.
const PERSONS: &str = "patient patients";
/// All that a reply may say with one of these: that there is none.
const ABSENCE: &str = "patient patients a an any the this that there is was were no not none nothing such unknown nonexistent missing \
     found find exist exists existing match matched matching with for by of id identifier identifiers number record records row rows \
     your given requested does doesn do did could cannot can be error errors false err failed invalid t s";
/// Words that say that something is there, unless one of [`NEGATIONS`] is beside them.
const PRESENCE: &str =
    "found exist exists existing match matched matching valid available permitted accepted supported";
const NEGATIONS: &str = "no not none nothing neither nor without cannot unable unknown t missing nonexistent unavailable invalid unsupported";
/// Words that are said of people too, unless it is one of [`TECHNICAL`] of which they are said.
const ENDINGS: &str = "expire expired ended closed declined refused disabled accept";
const TECHNICAL: &str = "access account api auth authentication authorisation authorization backend call client connection credentials \
     database deadline gateway host http https key limit login network operation permission policy process protocol quota rate request \
     resource server service session socket system table task time timeout token tool upstream";
/// Values nested deeper are not examined.
const DEEPEST: usize = 8;

fn list(words: &'static str) -> HashSet<&'static str> {
    words.split_ascii_whitespace().collect()
}

static OF_ERRORS: LazyLock<HashSet<&str>> = LazyLock::new(|| list(WORDS));
static OF_ABSENCE: LazyLock<HashSet<&str>> = LazyLock::new(|| list(ABSENCE));

/// Whether an error's kind and message contain nothing besides the statement that the call failed, and why.
pub fn says_only_that_it_failed(error: &CallError) -> bool {
    let mut said = Said::default();
    let kind = error.kind.as_deref().is_none_or(|kind| kind.parse::<i64>().is_ok() || said.is_plain(kind));
    kind && said.is_message(&error.message) && said.is_harmless()
}

/// Whether a result contains nothing besides the statement that the call failed, and why: members with names of errors whose values
/// are short texts of such [`WORDS`], in an object, a part of a Model Context Protocol result, or a text of JSON.
pub(crate) fn shows_only_error(result: &Json) -> bool {
    let mut said = Said::default();
    match result {
        Json::Null => true,
        Json::Object(members) => said.is_error(members, DEEPEST) && said.is_harmless(),
        _ => false,
    }
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    // What `is_called` leaves out of a name could be somebody's.
    name.is_ascii() && names.iter().any(|one| is_called(name, one))
}

/// The words of a whole reply. They are judged together: `patient` in one member and `expired` in another are a sentence.
#[derive(Default)]
struct Said(HashSet<String>);

impl Said {
    fn has(&self, words: &str) -> bool {
        words.split_ascii_whitespace().any(|word| self.0.contains(word))
    }

    /// Whether words that are harmless one by one say nothing about a person together.
    fn is_harmless(&self) -> bool {
        !self.has(PERSONS) || self.0.iter().all(|word| OF_ABSENCE.contains(word.as_str()) || is_status(word))
    }

    /// Whether the words of one text say that there is nothing, if they say of anything whether it is there, and speak of a technical
    /// thing if they say that something came to an end. A negation in another text is about something else.
    fn is_about_errors(&self) -> bool {
        (!self.has(PRESENCE) || self.has(NEGATIONS)) && (!self.has(ENDINGS) || self.has(TECHNICAL))
    }

    fn is_error(&mut self, members: &Object, depth: usize) -> bool {
        members.iter().all(|(name, value)| {
            if !is_one_of(name, ABOUT) && !is_one_of(name, SHAPE) {
                return false;
            }
            match (value, depth.checked_sub(1)) {
                (value, _) if is_empty(value) => true,
                (_, None) => false,
                (Json::Array(parts), _) if is_one_of(name, &["content"]) => parts.iter().all(|part| self.is_part(part)),
                (Json::Object(inner), Some(depth)) if is_one_of(name, &["structuredcontent"]) => {
                    self.is_error(inner, depth)
                }
                (Json::Bool(_), _) => is_one_of(name, FLAGS),
                (Json::Number(code), _) => is_code(name, code.as_f64()),
                (Json::String(code), _) if code.parse::<i64>().is_ok() => {
                    is_code(name, code.parse().unwrap_or(f64::NAN))
                }
                (Json::String(text), _) => {
                    (is_one_of(name, ABOUT) || is_one_of(name, &["content"])) && self.is_plain(text)
                }
                (Json::Object(inner), Some(depth)) => is_one_of(name, ABOUT) && self.is_error(inner, depth),
                _ => false,
            }
        })
    }

    /// Whether a part is a text without JSON, or contains nothing but JSON about the error.
    fn is_part(&mut self, part: &Json) -> bool {
        part.as_object().is_some_and(|members| {
            members.iter().all(|(name, value)| match name {
                "type" => value.as_str() == Some("text"),
                "text" => value.as_str().is_some_and(|text| self.is_message(text)),
                "annotations" | "_meta" => is_empty(value),
                _ => false,
            })
        })
    }

    /// Whether a text contains nothing but [`WORDS`], or JSON about the error.
    fn is_message(&mut self, text: &str) -> bool {
        let json = Json::parse(text.trim().as_bytes()).ok().filter(|_| text.len() <= MAX_MESSAGE);
        match json.map(|json| json.value) {
            Some(Json::Object(members)) => self.is_error(&members, DEEPEST),
            _ => self.is_plain(text),
        }
    }

    fn is_plain(&mut self, text: &str) -> bool {
        // `ErrorKind::NotFound` and `not_found` are words too.
        let words = text.split(|c: char| !c.is_alphanumeric()).flat_map(parts_of_name);
        let said = Said(words.map(str::to_ascii_lowercase).collect());
        let plain = text.len() <= MAX_MESSAGE && said.0.iter().all(|word| is_of_errors(word)) && said.is_about_errors();
        self.0.extend(said.0);
        plain
    }
}

/// Whether a number is an error's code, or a flag.
fn is_code(name: &str, number: f64) -> bool {
    is_one_of(name, CODES) && number.fract() == 0.0 || is_one_of(name, FLAGS) && [0.0, 1.0].contains(&number)
}

/// The parts of a name in camel case.
fn parts_of_name(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let mut letters = rest.char_indices().skip(1).zip(rest.chars());
        let next = letters.find(|((_, next), before)| next.is_uppercase() && !before.is_uppercase());
        let (part, after) = rest.split_at(next.map_or(rest.len(), |((at, _), _)| at));
        rest = after;
        Some(part).filter(|part| !part.is_empty())
    })
}

/// Whether it is a word with which errors are reported, a letter of a contraction, or a status.
fn is_of_errors(word: &str) -> bool {
    matches!(word, "t" | "s") || OF_ERRORS.contains(word) || is_status(word)
}

/// Whether it is a status of HTTP or JSON-RPC.
fn is_status(word: &str) -> bool {
    word.parse::<u32>().is_ok_and(|code| (400..600).contains(&code) || (32_000..32_800).contains(&code))
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short plain texts counted as errors whatever they said, so the reply with a patient's data in words was left out of
    /// the accounting of disclosures.
    #[test]
    fn a_message_shows_only_its_error_if_all_its_words_are_about_errors() {
        let only = |message: &str| says_only_that_it_failed(&CallError { kind: None, message: message.to_owned() });
        for text in [
            "",
            "no such patient",
            "not for you",
            "Error: HTTP 403 Forbidden, you don't have permission.",
            "ConnectionTimedOut: rate_limit_exceeded (-32603)",
            r#"{"error":"not found","code":17}"#,
            "attestlog: not passed on, a call could not be recorded",
            "The session has expired",
            "database is locked",
            "this patient does not exist",
        ] {
            assert!(only(text), "{text}");
        }
        for text in [
            "HIV positive",
            "no such patient: Jane Roe",
            "the record of patient P-7 is locked",
            "missing field: diagnosis",
            "potassium 5",
            "error 120/80",
            "Patientin nicht gefunden",
            r#"{"error":"not found","data":5}"#,
            r#"{"error":"not found","diagnosis":null,"name":"Roe"}"#,
            // Words of errors that say something about a person together.
            "patient has expired",
            "patient locked",
            "The patient is valid",
            "patient declined",
            "record found, access denied",
            "has expired",
            r#"{"message":"patient","reason":"expired"}"#,
        ] {
            assert!(!only(text), "{text}");
        }
        let kind = |kind: &str| CallError { kind: Some(kind.to_owned()), message: "failed".to_owned() };
        assert!(says_only_that_it_failed(&kind("-7")) && says_only_that_it_failed(&kind("NotFoundError")));
        assert!(!says_only_that_it_failed(&kind("HIV")));
    }

    #[test]
    fn a_result_shows_only_its_error_if_nothing_else_is_in_it() {
        let only = |text: &str| shows_only_error(&Json::parse(text.as_bytes()).unwrap().value);
        for text in [
            "null",
            r#"{"content":[{"type":"text","text":"no such patient"}],"isError":true}"#,
            r#"{"content":[{"type":"text","text":"{\"error\":\"no such patient\"}"}],"isError":true,"structuredContent":null}"#,
            r#"{"content":[],"structuredContent":{"error":{"code":404,"message":"none"}}}"#,
            r#"{"error":"none","status":"error","code":"-7"}"#,
            r#"{"is_error":1,"content":"none","code":-32001,"_meta":{}}"#,
        ] {
            assert!(only(text), "{text}");
        }
        for text in [
            "[]",
            r#""text""#,
            r#"{"chart":{},"patient_id":"P","error":"1 of 9 labs missing"}"#,
            r#"{"error":{"code":1,"message":"m","chart":"positive"}}"#,
            r#"{"error":"failed: {\"diagnosis\":\"x\"}"}"#,
            r#"{"content":[{"type":"text","text":"HIV positive"}],"isError":true}"#,
            r#"{"error":{"data":5}}"#,
            r#"{"content":[{"type":"text","text":"partly"},{"type":"text","text":"{\"diagnosis\":1}"}],"isError":true}"#,
            r#"{"content":[{"type":"image","data":"aGk="}],"isError":true}"#,
            r#"{"content":[],"isError":true,"structuredContent":{"n":1}}"#,
            r#"{"content":[],"isError":true,"_meta":{"chart":1}}"#,
            r#"{"isError":true,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"Anna Smith"}}}"#,
            // What a name says does not depend on its value.
            r#"{"isError":true,"Anna Smith":null}"#,
            r#"{"isError":true,"HIV positive":""}"#,
            r#"{"error":{"HIV positive since 2019":{}}}"#,
            r#"{"isError":true,"allergies":[]}"#,
            r#"{"isError":true,"error Анна":null}"#,
            r#"{"content":[{"type":"text","text":"none","allergies":[]}],"isError":true}"#,
            r#"{"content":[{"type":"text","text":"{\"Anna\":null}"}],"isError":true}"#,
            r#"{"content":[],"structuredContent":{"allergies":[]},"isError":true}"#,
            r#"{"isError":true,"data":true}"#,
        ] {
            assert!(!only(text), "{text}");
        }
        assert!(!only(&format!(r#"{{"error":"{}"}}"#, "long ".repeat(300))));
    }
}
