//! Steps that fill in a web page: one step finds a password field and the next one types into it, as in WebDriver and
//! browser recorders: `{"using": "css selector", "value": "#password"}`, `{"text": "…", "value": ["…"]}`.
//!
//! Only consecutive steps of one list are recognized. An element id that another call found is not resolved.

use super::key_names::{is_one_of, labelled, lengths, may_be};
use super::secret_keys::{self, Kind};
use crate::json::{Json, Object};

/// Members that name the element.
const PLACES: &[&str] = &["selector", "locator", "target", "css", "xpath", "sel", "css_selector", "element"];
/// Members that say how `value` locates the element.
const WAYS: &[&str] = &["using", "by", "strategy", "locator_strategy", "locatorstrategy"];
/// Members that hold the typed text.
const TYPED: &[&str] = &["text", "value", "keys", "send_keys", "sendkeys", "characters", "content", "input"];
/// Members that hold a step's arguments.
const INSIDE: &[&str] = &["parameters", "params", "args", "arguments", "body", "json", "input", "data"];
/// Objects with more members are not steps. A step may carry much else, lest padding hides it.
const MOST: usize = 1_000;

/// The indexes of steps that type into a password field which the step before finds.
pub(super) fn typed_into(items: &[Json]) -> Vec<usize> {
    let mut found = Vec::new();
    for (i, pair) in items.windows(2).enumerate() {
        if let [Json::Object(a), Json::Object(b)] = pair
            && is_step(a)
            && step(a, &|step| place(step).is_some_and(is_password) && !types(step))
            && step(b, &|step| place(step).is_none() && types(step))
        {
            found.push(i + 1);
        }
    }
    found
}

static STEPS: [u32; 32] = lengths([PLACES, WAYS]);

/// Whether an object may be a step. Most objects of most lists have no such member.
fn is_step(object: &Object) -> bool {
    let says = |(key, value): (&str, &Json)| {
        may_be(key, &STEPS) && (is_one_of(key, PLACES) || is_one_of(key, WAYS)) || is_inside(key, value)
    };
    object.len() <= MOST && object.iter().any(says)
}

/// Whether `holds` is true of a step or of its arguments.
fn step(object: &Object, holds: &dyn Fn(&Object) -> bool) -> bool {
    let inside = |(key, value): (&str, &Json)| match value {
        Json::Object(inner) if is_inside(key, value) => inner.len() <= MOST && holds(inner),
        _ => false,
    };
    object.len() <= MOST && (holds(object) || object.iter().any(inside))
}

/// Whether a member of a step holds its arguments.
pub(super) fn is_inside(key: &str, value: &Json) -> bool {
    matches!(value, Json::Object(_)) && is_one_of(key, INSIDE)
}

fn place(step: &Object) -> Option<&str> {
    let text = |keys: &[&str]| step.iter().find(|(key, _)| is_one_of(key, keys)).and_then(|(_, value)| value.as_str());
    text(PLACES).or_else(|| text(WAYS).and_then(|_| step.get("value")).and_then(Json::as_str))
}

fn is_password(place: &str) -> bool {
    let found = labelled(place)
        .or_else(|| if place.bytes().all(|b| b.is_ascii_alphanumeric()) { secret_keys::named(place) } else { None });
    found.is_some_and(|found| found.kind == Kind::Secret && (found.sure || matches!(found.name, "pass" | "pw")))
}

/// Whether a step types text, rather than pressing a key or navigating.
fn types(step: &Object) -> bool {
    const OTHER: [&str; 12] = [
        "press",
        "key",
        "goto",
        "navigate",
        "open",
        "wait",
        "assert",
        "click",
        "select",
        "screenshot",
        "expect",
        "hover",
    ];
    let other = |value: &Json| value.as_str().is_some_and(|said| OTHER.iter().any(|o| o.eq_ignore_ascii_case(said)));
    let named = ["action", "type", "command", "name"].iter().any(|key| step.get(key).is_some_and(other));
    // In `{"using": "css selector", "value": "#password"}` the value locates the element.
    let says_place = step.iter().any(|(key, _)| is_one_of(key, WAYS));
    !named && step.iter().any(|(key, value)| is_typed(key, value) && !(says_place && key == "value"))
}

/// Whether a member of a step is the text that it types.
pub(super) fn is_typed(key: &str, value: &Json) -> bool {
    const KEYS: [&str; 5] = ["Enter", "Tab", "Escape", "Return", "Backspace"];
    let text = |text: &str| !text.is_empty() && !KEYS.contains(&text) && !text.starts_with("http");
    is_one_of(key, TYPED)
        && match value {
            Json::String(typed) => text(typed),
            Json::Array(letters) => !letters.is_empty() && letters.iter().all(|l| l.as_str().is_some()),
            _ => false,
        }
}
