//! Whether what looks like a call repeats one that was read, and says the same.

use super::answer::{self, tell_the_same};
use super::blocks;
use super::detect::{self, Plain};
use attestlog::ToolCall;
use attestlog::json::{Json, Object};
use std::collections::{HashMap, HashSet};

/// The calls that were read.
pub(super) struct Repeats<'a> {
    by_id: HashMap<&'a str, Vec<&'a ToolCall>>,
    /// What they were given, each in its canonical form.
    inputs: HashSet<String>,
}

/// Of several calls with one id no more than these are compared.
const MOST: usize = 16;

impl<'a> Repeats<'a> {
    pub(super) fn new(calls: &[&'a ToolCall]) -> Repeats<'a> {
        let mut by_id: HashMap<&str, Vec<&ToolCall>> = HashMap::new();
        for call in calls {
            let Some(id) = call.call_id.as_deref() else { continue };
            by_id.entry(id).or_default().push(call);
        }
        let inputs = calls.iter().filter_map(|call| canonical(call.arguments.as_ref()?)).collect();
        Repeats { by_id, inputs }
    }

    /// Whether an object has the id of a call, itself or in what it holds directly; with why it is not told by that call, if it
    /// says something else.
    pub(super) fn by_id(&self, members: &Object) -> Option<Option<String>> {
        if self.by_id.is_empty() {
            return None;
        }
        let id = members
            .iter()
            .find_map(|(key, value)| value.as_str().filter(|id| is_id(key) && self.by_id.contains_key(id)))?;
        let calls = self.by_id.get(id).map(Vec::as_slice).unwrap_or_default();
        let given = given(members).filter(|_| calls.len() <= MOST);
        let agrees =
            |given: &Json| calls.iter().any(|call| call.arguments.as_ref().is_none_or(|own| tell_the_same(own, given)));
        let other = given.is_some_and(|given| !agrees(given));
        Some(other.then(|| format!("has the id {:?} of a call that was read, and another input", super::clip(id))))
    }

    /// Whether an object without an id has the input of a call.
    pub(super) fn by_input(&self, members: &Object) -> bool {
        let has = |value: &Json| canonical(value).is_some_and(|text| self.inputs.contains(&text));
        let is_named = members.iter().any(|(key, value)| is_id(key) && value.as_str().is_some());
        !is_named && (given(members).is_some_and(has) || members.get("action").is_some_and(has))
    }
}

/// Whether a member with this name gives the id of a call.
fn is_id(key: &str) -> bool {
    const OWN: &[&str] = &["id", "callid", "toolid"];
    let plain = Plain::of(key);
    OWN.contains(&plain.as_str()) || detect::IDS.contains(&plain.as_str())
}

/// The input in a call's object, or in its `function`.
fn given(members: &Object) -> Option<&Json> {
    let own = |members: &'_ Object| blocks::GIVEN.iter().find(|key| members.get(key).is_some()).copied();
    let inner = members.get("function").and_then(Json::as_object);
    [Some(members), inner].into_iter().flatten().find_map(|of| of.get(own(of)?))
}

/// A value's own form, if it says anything.
fn canonical(value: &Json) -> Option<String> {
    let value = answer::read(value);
    (!detect::is_zero(&value)).then(|| value.to_canonical().to_string())
}
