//! What a host may send: frames that every server reads alike as far as the protocol's own members go.
//!
//! Invariant I9: a frame that goes to the server is UTF-8 without NUL, and in its envelope and in its `params` no member
//! equals another or a member of the protocol's under case folding (nor with `-` and `_` left out, as some readers have it).
//! So the call that the server finds is the one that is recorded, whether its reader takes the first or the last of two
//! members, folds their case, or looks for the encoding itself.

use super::frame::{self, Read};
use super::repeats::Steps;
use attestlog::json::{Json, Object, Path};
use attestlog::redact::normal;

/// The members of a message.
pub(super) const ENVELOPE: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];
/// The members of `params` from which is read what a call is, whose it is, and what it goes on with.
const PARAMS: &[&str] = &[
    "name",
    "arguments",
    "_meta",
    "task",
    "taskId",
    "requestState",
    "inputResponses",
    "requestId",
    "reason",
    "uri",
    "ref",
    "argument",
    "context",
    "clientInfo",
    "protocolVersion",
];
/// The methods that are recorded or that end what is.
pub(super) const METHODS: &[&str] = &[
    "tools/call",
    "resources/read",
    "resources/templates/list",
    "resources/subscribe",
    "prompts/get",
    "completion/complete",
    "tasks/get",
    "tasks/result",
    "tasks/cancel",
    "tasks/update",
    "notifications/cancelled",
];
/// No more places of members that are alike are named.
const MOST_PLACES: usize = 20;

/// What a host's frame says, read without doubt.
#[derive(Debug)]
pub(super) struct Clear {
    pub(super) messages: Vec<Json>,
    pub(super) batch: bool,
    /// Something was put in the place of what JSON cannot keep.
    pub(super) restated: bool,
    /// Where numbers are digits in a string now.
    pub(super) digits: Vec<Path>,
    /// Where members of one name stood, below the members of `params`.
    pub(super) repeats: Vec<Steps>,
}

/// A frame that does not go on, and the ids of those who wait for an answer to it.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) what: String,
    pub(super) ids: Vec<Json>,
}

impl Doubt {
    pub(super) fn new(what: impl Into<String>) -> Doubt {
        Doubt { what: what.into(), ids: Vec::new() }
    }
}

/// Reads a host's frame; `None` where there is nothing in it that anybody could take for a message.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Clear>, Doubt> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Doubt::new("is not UTF-8: send UTF-8"));
    }
    if bytes.contains(&0) {
        return Err(Doubt::new("has NUL in it, as UTF-16 and UTF-32 have: send UTF-8"));
    }
    if frame::hides(bytes) {
        return Err(Doubt::new("has a carriage return in its middle: write one message on one line"));
    }
    let (value, restated, digits, repeats) = match frame::read(bytes) {
        Read::Json { value, restated, digits, repeats } => (value, restated, digits, repeats),
        Read::Blank | Read::Odd => return Ok(None),
        Read::Unreadable => {
            return Err(Doubt::new(
                "is no JSON that all read alike (NaN, Infinity, a byte order mark, something before or behind the message), or is nested deeper than 128: send plain JSON",
            ));
        }
    };
    let batch = matches!(value, Json::Array(_));
    let messages = match value {
        Json::Array(messages) => messages,
        one => vec![one],
    };
    let ids = messages.iter().filter_map(|m| m.get("id")).filter(|id| matches!(id, Json::String(_) | Json::Number(_)));
    let ids: Vec<Json> = ids.cloned().collect();
    let fail = |what: String| Doubt { what, ids: ids.clone() };
    for steps in &repeats {
        let inside = if batch { steps.get(1..).unwrap_or_default() } else { steps };
        if inside.len() < 2 || inside.first().is_some_and(|s| s == "params") && at_the_top(inside) {
            return Err(fail(format!("has two members named {}: send one", shown(inside.last()))));
        }
    }
    for message in &messages {
        check(message, restated).map_err(fail)?;
    }
    Ok(Some(Clear { messages, batch, restated, digits, repeats }))
}

/// Whether a place inside `params` is one of its members, or one of those that say who calls.
fn at_the_top(steps: &[String]) -> bool {
    steps.len() < 3 || steps.get(1).is_some_and(|s| s == "_meta")
}

fn check(message: &Json, restated: bool) -> Result<(), String> {
    let Json::Object(envelope) = message else {
        return Err("has something in it that is no message: send objects, and batches of objects".to_owned());
    };
    unlike(envelope, ENVELOPE)?;
    let odd = |text: &str| restated && text.contains(['\u{2400}', '\u{fffd}']);
    let method = match envelope.get("method") {
        None => return Ok(()),
        Some(Json::String(method)) => method,
        Some(_) => return Err("has a method that is no text: name it by a string".to_owned()),
    };
    if odd(method) || METHODS.iter().any(|known| known != method && folded(known) == folded(method.trim())) {
        return Err("has a method that some take for another: spell it as the protocol does".to_owned());
    }
    // Recorded under its normal form, it could be another method than the server's.
    if normal(method) != method.as_str() {
        return Err(
            "has a method with blanks around it, or with characters that nobody sees: leave these out".to_owned()
        );
    }
    // The protocol has no such request: who sends one gets no answer that is his, and it is no notification either.
    if envelope.get("id") == Some(&Json::Null) && !method.starts_with("notifications/") {
        return Err(
            "has the id null: give a request a text or a number as its id, and leave the id out of a notification"
                .to_owned(),
        );
    }
    let params = match envelope.get("params") {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::Object(params)) => params,
        Some(_) => return Err("has params that are no object: send them by name".to_owned()),
    };
    unlike(params, PARAMS)?;
    // Two users whose names differ in that would be one.
    let beside = |(name, _): &(&str, &Json)| *name != "arguments";
    if restated && params.iter().filter(beside).any(|(_, value)| holds(value, &odd)) {
        return Err("has NUL or half a surrogate pair outside the arguments: leave these out".to_owned());
    }
    if params.iter().any(|(name, _)| odd(name)) {
        return Err("has a member in whose name NUL or half a surrogate pair stands: leave these out".to_owned());
    }
    match (METHODS.contains(&method.as_str()), params.get("name")) {
        (true, Some(Json::String(name))) if odd(name) => {
            Err("names a tool with NUL or half a surrogate pair in it: leave these out".to_owned())
        }
        // Recorded under its normal form, it could be another tool than the server's.
        (true, Some(Json::String(name))) if normal(name) != name.as_str() => {
            Err("names a tool with blanks around it, or with characters that nobody sees: leave these out".to_owned())
        }
        (true, Some(name)) if !matches!(name, Json::String(_) | Json::Null) => {
            Err("names a tool by something that is no text: name it by a string".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether any text or name in it is such a one.
fn holds(value: &Json, is: &impl Fn(&str) -> bool) -> bool {
    match value {
        Json::String(text) => is(text),
        Json::Array(items) => items.iter().any(|item| holds(item, is)),
        Json::Object(members) => members.iter().any(|(name, value)| is(name) || holds(value, is)),
        _ => false,
    }
}

/// Refuses a message whose own members somebody may take for others.
pub(super) fn unlike_a_message(message: &Json) -> Result<(), String> {
    match message {
        Json::Object(envelope) => unlike(envelope, ENVELOPE),
        _ => Ok(()),
    }
}

/// Refuses members that somebody may take for one of the protocol's or for each other.
fn unlike(members: &Object, protocol: &[&str]) -> Result<(), String> {
    for (name, _) in members.iter() {
        if let Some(known) = protocol.iter().find(|known| **known != name && folded(known) == folded(name)) {
            return Err(format!(
                "has a member {} that some take for the protocol's {known}: spell it so, or send it under another name",
                shown(Some(&name.to_owned()))
            ));
        }
    }
    match alike(members) {
        Some(name) => Err(format!("has two members that some take for one, {}: send one of them", shown(Some(&name)))),
        None => Ok(()),
    }
}

/// A member that equals one before it but for its case.
fn alike(members: &Object) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    members.iter().find(|(name, _)| !seen.insert(folded(name))).map(|(name, _)| name.to_owned())
}

/// The name without what readers that fold case do not see.
pub(super) fn folded(name: &str) -> String {
    // Upper first: the long s and the sign for kelvin become letters like others.
    let upper = name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

fn shown(name: Option<&String>) -> String {
    let short: String = name.map(|n| n.chars().take(40).collect()).unwrap_or_default();
    format!("{short:?}")
}

/// Where in a value, which stands there, members are one for readers that fold case.
pub(super) fn places_alike(value: &Json, mut at: Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, &mut at, &mut found);
    found
}

/// The same in arguments.
pub(super) fn arguments_alike(arguments: &Json) -> Vec<String> {
    places_alike(arguments, Path::root().key("arguments"))
}

fn walk(value: &Json, path: &mut Path, found: &mut Vec<String>) {
    if found.len() >= MOST_PLACES {
        return;
    }
    match value {
        Json::Object(members) => {
            if members.len() > 1
                && let Some(name) = alike(members)
            {
                found.push(path.key(&name).to_string());
            }
            for (name, value) in members.iter() {
                path.push_key(name);
                walk(value, path, found);
                path.pop();
            }
        }
        Json::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push_index(i);
                walk(item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_readers_confuse_are_one_name() {
        for (a, b) in [("params", "param\u{17f}"), ("Method", "mETHOD"), ("task_id", "taskId"), ("\u{212a}ey", "key")] {
            assert_eq!(folded(a), folded(b));
        }
        assert_ne!(folded("argument"), folded("arguments"));
    }

    #[test]
    fn what_is_read_alike_by_all_goes_on() {
        let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{}}}"#;
        assert!(read(call.as_bytes()).unwrap().is_some());
        let twice = call.replace("{}", r#"{"a":1,"a":2,"A":3}"#);
        let clear = read(twice.as_bytes()).unwrap().unwrap();
        assert_eq!(clear.repeats, [["params", "arguments", "a"]]);
        let arguments = clear.messages[0].get("params").unwrap().get("arguments").unwrap();
        assert_eq!(arguments.to_canonical().as_str(), r#"{"A":3,"a":[1,2]}"#);
        assert_eq!(arguments_alike(arguments), ["arguments.a"]);
        assert!(read(b"hello\n").unwrap().is_none());
    }

    #[test]
    fn what_somebody_may_read_otherwise_does_not() {
        let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{}}}"#;
        let changed = [
            ("\"method\"", "\"Method\""),
            ("\"method\"", "\"method\":\"ping\",\"method\""),
            ("\"method\"", "\"METHOD\":\"ping\",\"method\""),
            ("params", "param\u{17f}"),
            ("\"name\"", "\"NAME\":\"u\",\"name\""),
            ("\"name\"", "\"name\":\"u\",\"name\""),
            ("\"name\"", "\"x\":1,\"X\":2,\"name\""),
            ("\"name\"", "\"_meta\":{\"user_id\":\"a\",\"user_id\":\"b\"},\"name\""),
            ("tools/call", "tools/call\\u0000x"),
            ("tools/call", "Tools/Call"),
            ("\"t\"", "7"),
            ("{\"name\":\"t\",\"arguments\":{}}", "[\"t\"]"),
            ("\"name\"", "\"_meta\":{\"user_id\":\"a\\u0000b\"},\"name\""),
            ("\"name\"", "\"_meta\":{\"user_id\":\"\\ud800b\"},\"name\""),
        ];
        for (from, to) in changed {
            let doubt = read(call.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(doubt.ids, [Json::from(7u32)], "{to}");
        }
        let nameless = |text: &str| read(text.replace("\"id\":7", "\"id\":null").as_bytes());
        assert!(nameless(call).unwrap_err().what.contains("id null"));
        assert!(nameless(&call.replace("tools/call", "notifications/progress")).is_ok());
        assert!(read(format!("[[{call}]]").as_bytes()).is_err());
        let wide: Vec<u8> = call.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(read(&wide).is_err());
        assert!(read(b"{\"a\":\"\xff\"}").is_err());
    }
}
