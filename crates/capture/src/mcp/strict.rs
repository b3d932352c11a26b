//! Which frames a host may send: those in which every server finds the same protocol members.
//!
//! Invariant I9: a frame that is forwarded to the server is UTF-8 without NUL, and in its envelope and its `params` no
//! member equals another, or a member of the protocol, under case folding (or with `-` and `_` left out, as some
//! readers do). So the call that the server finds is the one that is recorded, whether its reader uses the first or the
//! last of two members, ignores case, or detects the encoding itself.

use super::frame::{self, Read};
use super::repeats::Steps;
use attestlog::json::{Json, Object, Path};
use attestlog::redact::normal;

/// The members of a message.
pub(super) const ENVELOPE: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];
/// The members of `params` that determine the call, who makes it, and what it continues.
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
/// The methods that are recorded, or that end something recorded.
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
/// The most places of similar members that are listed.
const MOST_PLACES: usize = 20;

/// The contents of a host's frame that has only one reading.
#[derive(Debug)]
pub(super) struct Clear {
    pub(super) messages: Vec<Json>,
    pub(super) batch: bool,
    /// Whether characters that JSON text cannot hold were replaced.
    pub(super) lenient_frame: bool,
    /// The places of numbers that became strings of lossy_numbers.
    pub(super) lossy_numbers: Vec<Path>,
    /// The places of duplicate members, inside the members of `params`.
    pub(super) repeats: Vec<Steps>,
}

/// A frame that is not forwarded, and the ids of those who wait for an answer to it.
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

/// Reads a host's frame. `None` if no reader could find a message in it.
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
    let (value, lenient_frame, lossy_numbers, repeats) = match frame::read(bytes) {
        Read::Json { value, lenient_frame, lossy_numbers, repeats } => (value, lenient_frame, lossy_numbers, repeats),
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
        check(message, lenient_frame).map_err(fail)?;
    }
    Ok(Some(Clear { messages, batch, lenient_frame, lossy_numbers, repeats }))
}

/// Whether a place in `params` is one of its members, or a member of `_meta`, where the caller is named.
fn at_the_top(steps: &[String]) -> bool {
    steps.len() < 3 || steps.get(1).is_some_and(|s| s == "_meta")
}

fn check(message: &Json, lenient_frame: bool) -> Result<(), String> {
    let Json::Object(envelope) = message else {
        return Err("has something in it that is no message: send objects, and batches of objects".to_owned());
    };
    unlike(envelope, ENVELOPE)?;
    let odd = |text: &str| lenient_frame && text.contains(['\u{2400}', '\u{fffd}']);
    let method = match envelope.get("method") {
        None => return Ok(()),
        Some(Json::String(method)) => method,
        Some(_) => return Err("has a method that is no text: name it by a string".to_owned()),
    };
    if odd(method) || METHODS.iter().any(|known| known != method && folded(known) == folded(method.trim())) {
        return Err("has a method that some take for another: spell it as the protocol does".to_owned());
    }
    // The log records the normal form, which could be a different method from the server's.
    if normal(method) != method.as_str() {
        return Err(
            "has a method with blanks around it, or with characters that nobody sees: leave these out".to_owned()
        );
    }
    // The protocol has no request with a null id: its sender could not match an answer to it, and it is not a
    // notification either.
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
    // Two users whose names differ only in such a character would become one.
    let beside = |(name, _): &(&str, &Json)| *name != "arguments";
    if lenient_frame && params.iter().filter(beside).any(|(_, value)| holds(value, &odd)) {
        return Err("has NUL or half a surrogate pair outside the arguments: leave these out".to_owned());
    }
    if params.iter().any(|(name, _)| odd(name)) {
        return Err("has a member in whose name NUL or half a surrogate pair stands: leave these out".to_owned());
    }
    match (METHODS.contains(&method.as_str()), params.get("name")) {
        (true, Some(Json::String(name))) if odd(name) => {
            Err("names a tool with NUL or half a surrogate pair in it: leave these out".to_owned())
        }
        // The log records the normal form, which could be a different tool from the server's.
        (true, Some(Json::String(name))) if normal(name) != name.as_str() => {
            Err("names a tool with blanks around it, or with characters that nobody sees: leave these out".to_owned())
        }
        (true, Some(name)) if !matches!(name, Json::String(_) | Json::Null) => {
            Err("names a tool by something that is no text: name it by a string".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether any text or name in the value satisfies `is`.
fn holds(value: &Json, is: &impl Fn(&str) -> bool) -> bool {
    match value {
        Json::String(text) => is(text),
        Json::Array(items) => items.iter().any(|item| holds(item, is)),
        Json::Object(members) => members.iter().any(|(name, value)| is(name) || holds(value, is)),
        _ => false,
    }
}

/// Refuses a message whose members some reader may take for others.
pub(super) fn unlike_a_message(message: &Json) -> Result<(), String> {
    match message {
        Json::Object(envelope) => unlike(envelope, ENVELOPE),
        _ => Ok(()),
    }
}

/// Refuses members that some reader may take for a member of the protocol, or for each other.
fn unlike(members: &Object, protocol: &[&str]) -> Result<(), String> {
    for (name, _) in members.iter() {
        if let Some(known) = protocol.iter().find(|known| **known != name && folded(known) == folded(name)) {
            return Err(format!(
                "has a member {} that some take for the protocol's {known}: write {known}, or send it under another name",
                shown(Some(&name.to_owned()))
            ));
        }
    }
    match alike(members) {
        Some(name) => Err(format!("has two members that some take for one, {}: send one of them", shown(Some(&name)))),
        None => Ok(()),
    }
}

/// A member that equals an earlier one under case folding.
fn alike(members: &Object) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    members.iter().find(|(name, _)| !seen.insert(folded(name))).map(|(name, _)| name.to_owned())
}

/// The name under case folding, without `-` and `_`.
pub(super) fn folded(name: &str) -> String {
    // Upper case first, so that the long s and the kelvin sign become ordinary letters.
    let upper = name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

fn shown(name: Option<&String>) -> String {
    let short: String = name.map(|n| n.chars().take(40).collect()).unwrap_or_default();
    format!("{short:?}")
}

/// The places below `at`, the place of `value`, of members that are equal under case folding.
pub(super) fn places_alike(value: &Json, mut at: Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, &mut at, &mut found);
    found
}

/// `places_alike` for a call's arguments.
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
