//! JSON as the log needs it: read strictly, held without loss, written in exactly one way.
//!
//! A [`Json`] value is always canonicalisable: its object keys are unique and in RFC 8785 order, its integers
//! lie within ±(2^53-1), its floats are finite and not integral in that range. Nothing outside this folder can
//! build one that breaks these rules, so [`Json::to_canonical`] cannot fail and two equal values give the same bytes.
//!
//! `parse` reads text into values, `canon` writes them, `convert` takes values of Rust in, and `form` gives types their JSON
//! form, which is also what serde writes and reads of them. serde_json does not parse here because it drops duplicate keys,
//! rounds long numbers silently, and its `arbitrary_precision` feature would change the host's own JSON.

mod canon;
mod convert;
#[doc(hidden)]
pub mod form;
mod parse;
mod path;

pub use canon::Canonical;
pub use canon::{TWO_DIGITS, write_float, write_integer, write_str};
pub use parse::{JsonError, Limits, Parsed};
pub use path::{Path, Step};

use std::cmp::Ordering;
use std::fmt;

/// `parse::NUL_SHOWN` as a string.
const SHOWN: &str = "\u{2400}";

/// The largest integer that every JSON reader represents exactly: 2^53 - 1.
pub const MAX_INT: i64 = (1 << 53) - 1;

/// A JSON value that can be written in RFC 8785 form without loss.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Json {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, integral or not.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Object),
}

/// A number that a double holds digit for digit.
#[derive(Clone, Copy, PartialEq)]
pub struct Number(Repr);

#[derive(Clone, Copy, PartialEq)]
enum Repr {
    Int(i64),
    Float(f64),
}

impl Number {
    /// The number for `n`, if it lies within ±(2^53-1).
    pub fn from_i64(n: i64) -> Option<Number> {
        (-MAX_INT..=MAX_INT).contains(&n).then_some(Number(Repr::Int(n)))
    }

    /// The number for `x`, if it is finite.
    pub fn from_f64(x: f64) -> Option<Number> {
        if !x.is_finite() {
            return None;
        }
        if x.fract() == 0.0 && x.abs() <= MAX_INT as f64 {
            return Some(Number(Repr::Int(x as i64)));
        }
        Some(Number(Repr::Float(x)))
    }

    /// The value as an integer, if it is one within ±(2^53-1).
    pub fn as_i64(self) -> Option<i64> {
        match self.0 {
            Repr::Int(n) => Some(n),
            Repr::Float(_) => None,
        }
    }

    /// The value as a double.
    pub fn as_f64(self) -> f64 {
        match self.0 {
            Repr::Int(n) => n as f64,
            Repr::Float(x) => x,
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        canon::write_number(*self, &mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// The members of a JSON object: unique keys, in the order that RFC 8785 writes them.
#[derive(Clone, PartialEq, Default)]
pub struct Object(Vec<(String, Json)>);

/// RFC 8785 sorts by UTF-16 code units, which differs from byte order for characters beyond U+FFFF.
fn key_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() || b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

impl Object {
    /// An object without members.
    pub fn new() -> Object {
        Object::default()
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.position(key).ok().map(|i| &self.0[i].1)
    }

    /// The value under `key`, mutable.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        self.position(key).ok().map(|i| &mut self.0[i].1)
    }

    /// Sets `key` to `value`; returns the previous value.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Json>) -> Option<Json> {
        let (key, value) = (key.into(), value.into());
        match self.position(&key) {
            Ok(i) => Some(std::mem::replace(&mut self.0[i].1, value)),
            Err(i) => {
                self.0.insert(i, (key, value));
                None
            }
        }
    }

    /// Removes the member `key`.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.position(key).ok().map(|i| self.0.remove(i).1)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members in canonical order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Json)> + ExactSizeIterator {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The members in canonical order, with mutable values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Json)> {
        self.0.iter_mut().map(|(k, v)| (k.as_str(), v))
    }

    /// Keeps the members for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Json) -> bool) {
        self.0.retain_mut(|(k, v)| keep(k, v));
    }

    /// As [`Json::check`].
    pub fn check(&self) -> Result<(), String> {
        Here::Root.check_members(self, 0)
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| key_order(k, key))
    }

    /// Sorts the members; a key that occurs twice is the error.
    fn from_members(mut members: Vec<(String, Json)>) -> Result<Object, String> {
        if !members.is_sorted_by(|a, b| key_order(&a.0, &b.0) == Ordering::Less) {
            members.sort_by(|a, b| key_order(&a.0, &b.0));
            if let Some(pair) = members.windows(2).find(|w| w[0].0 == w[1].0) {
                return Err(pair[0].0.clone());
            }
        }
        Ok(Object(members))
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl IntoIterator for Object {
    type Item = (String, Json);
    type IntoIter = std::vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for Object {
    /// If a key occurs twice, the last value wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Object {
        let mut object = Object::new();
        for (key, value) in members {
            object.insert(key, value);
        }
        object
    }
}

/// The path to a value being checked, as a linked list; it becomes a [`Path`] only on an error.
enum Here<'a> {
    Root,
    Key(&'a Here<'a>, &'a str),
    Index(&'a Here<'a>, usize),
}

impl Here<'_> {
    fn path(&self) -> Path {
        match self {
            Here::Root => Path::root(),
            Here::Key(above, key) => above.path().key(key),
            Here::Index(above, index) => above.path().index(*index),
        }
    }

    fn check(&self, value: &Json, depth: usize) -> Result<(), String> {
        if depth > Limits::default().depth {
            return Err("nested deeper than 128 levels".to_owned());
        }
        match value {
            Json::String(s) => self.check_text(s),
            Json::Array(items) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(i, item)| Here::Index(self, i).check(item, depth + 1))
            }
            Json::Object(object) => self.check_members(object, depth),
            Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
        }
    }

    fn check_members(&self, object: &Object, depth: usize) -> Result<(), String> {
        object.iter().try_for_each(|(key, value)| {
            self.check_text(key)?;
            Here::Key(self, key).check(value, depth + 1)
        })
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        match text.contains('\0') {
            true => Err(format!("{}: NUL cannot be kept in a string", self.path())),
            false => Ok(()),
        }
    }
}

impl Json {
    /// Reads one JSON text within the default [`Limits`].
    ///
    /// # Errors
    /// [`JsonError`]: the text is not JSON, is larger than a limit, or cannot be kept without loss.
    ///
    /// ```
    /// use attestlog::json::Json;
    /// let parsed = Json::parse(br#"{"b": 1.0, "a": 12345678901234567890}"#).unwrap();
    /// assert_eq!(parsed.value.to_canonical().as_str(), r#"{"a":"12345678901234567890","b":1}"#);
    /// assert_eq!(parsed.restated[0].to_string(), "a"); // a number that is now a string
    /// ```
    pub fn parse(text: &[u8]) -> Result<Parsed, JsonError> {
        parse::parse(text, &Limits::default(), false)
    }

    /// Reads one JSON text within `limits`.
    ///
    /// # Errors
    /// As [`Json::parse`].
    pub fn parse_within(text: &[u8], limits: &Limits) -> Result<Parsed, JsonError> {
        parse::parse(text, limits, false)
    }

    /// Reads like [`Json::parse_within`], but replaces text that cannot be kept instead of refusing it: NUL becomes U+2400, half
    /// of a surrogate pair and bytes that are not UTF-8 become U+FFFD; other unescaped control characters are kept.
    /// [`Parsed::restated`] names each such string; for a key, the object that contains it.
    ///
    /// # Errors
    /// As [`Json::parse`], except for what is replaced.
    ///
    /// ```
    /// use attestlog::json::{Json, Limits};
    /// let parsed = Json::parse_lenient(br#"{"log": "a \u0000 \ud83d"}"#, &Limits::default()).unwrap();
    /// assert_eq!(parsed.value.get("log").unwrap().as_str(), Some("a \u{2400} \u{fffd}"));
    /// assert_eq!(parsed.restated[0].to_string(), "log");
    /// ```
    pub fn parse_lenient(text: &[u8], limits: &Limits) -> Result<Parsed, JsonError> {
        parse::parse(text, limits, true)
    }

    /// Replaces NUL in strings and keys, and adds their paths to `shown`; for a key, the path of its object.
    pub fn show_nul(&mut self, path: &mut Path, shown: &mut Vec<Path>) {
        // Checking the value refuses anything deeper.
        if path.steps().len() > Limits::default().depth + 8 {
            return;
        }
        match self {
            Json::String(text) if text.contains('\0') => {
                *text = text.replace('\0', SHOWN);
                shown.push(path.clone());
            }
            Json::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    path.push_index(i);
                    item.show_nul(path, shown);
                    path.pop();
                }
            }
            Json::Object(members) => {
                if members.iter().any(|(key, _)| key.contains('\0')) {
                    let renamed: Object = members.iter().map(|(k, v)| (k.replace('\0', SHOWN), v.clone())).collect();
                    // If two keys would become one, neither is changed; the check refuses both.
                    if renamed.len() == members.len() {
                        shown.push(path.clone());
                        *members = renamed;
                    }
                }
                for (key, value) in members.iter_mut() {
                    path.push_key(key);
                    value.show_nul(path, shown);
                    path.pop();
                }
            }
            Json::String(_) | Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    /// Serialises `value`; what cannot be kept is replaced, as by [`Json::parse_lenient`].
    ///
    /// # Errors
    /// `value` does not serialise to JSON, or the JSON cannot be kept (duplicate keys, depth).
    pub fn from_serialize(value: &impl serde::Serialize) -> Result<Parsed, JsonError> {
        let text = serde_json::to_vec(value).map_err(|e| JsonError::serialize(e.to_string()))?;
        Json::parse_lenient(&text, &Limits::default())
    }

    /// The text in RFC 8785 form.
    pub fn to_canonical(&self) -> Canonical {
        canon::canonical(self)
    }

    /// The member `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.get(key)
    }

    /// The members, if this is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Json::Object(o) => Some(o),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(s) => Some(s),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The integer, if this is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Number(n) => n.as_i64(),
            _ => None,
        }
    }

    /// The integer, if this is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i64().and_then(|n| n.try_into().ok())
    }

    /// The number, if this is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Number(n) => Some(n.as_f64()),
            _ => None,
        }
    }

    /// Whether this value can be kept and read back: no NUL in any text, and not nested deeper than readers allow.
    /// Parsed values always can; values built by hand may not.
    ///
    /// # Errors
    /// A message that names the problem and its place.
    pub fn check(&self) -> Result<(), String> {
        Here::Root.check(self, 0)
    }

    /// The kind of this value, as error messages name it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }
}
