//! The patients whom a value names. Retention finds entries by them, and redaction computes pseudonyms from them.

use super::detect;
use super::loose;
use crate::json::{Json, Limits};
use crate::spelling::{gist, normal};

/// Values that are nested deeper are ignored. The parser accepts half of this depth.
const MAX_DEPTH: usize = 256;

/// How many levels of JSON in texts are opened.
const MAX_INNER: usize = 8;

/// A longer text is not read as JSON that names patients.
pub(super) const MAX_TEXT: usize = 64 << 20;

/// Whether `key` matches `name`, which is in lower case without separators: `patient_id`, `PATIENT-ID` and `patientＩd`
/// match `patientid`.
pub(crate) fn is_called(key: &str, name: &str) -> bool {
    if key.bytes().all(|b| b.is_ascii() && !matches!(b, b'%' | b'\\' | b'&')) {
        let letters = key.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase());
        return !name.is_empty() && letters.eq(name.bytes());
    }
    // As in redaction: a key with invisible characters or escapes is read as it is meant.
    !name.is_empty() && (gist(key) == name || detect::plain(key).is_some_and(|meant| gist(&meant) == name))
}

fn is_one_of(key: &str, names: &[&str]) -> bool {
    names.iter().any(|name| is_called(key, name))
}

/// Whether a member with this name holds a patient: `patient`, `patient_id`, `patientNumber`, `PATIENT-IDS`.
///
/// ```
/// use attestlog::redact::names_patient;
/// assert!(names_patient("patientId") && !names_patient("patient_name"));
/// ```
pub fn names_patient(key: &str) -> bool {
    const NAMES: [&str; 6] = ["patient", "patients", "patientid", "patientids", "patientnumber", "patientnumbers"];
    is_one_of(key, &NAMES)
}

/// Whether a member with this name holds the id in a patient object.
fn identifies(key: &str) -> bool {
    is_one_of(key, &["id", "ids", "value"]) || names_patient(key)
}

/// The JSON in a text, if it looks like an array, an object or a quoted string and is not longer than `MAX_TEXT`.
fn inner(text: &str) -> Option<Json> {
    let trimmed = text.trim();
    let looks = matches!(trimmed.as_bytes(), [b'{', .., b'}'] | [b'[', .., b']'] | [b'"', .., b'"']);
    if !looks || trimmed.len() > MAX_TEXT {
        return None;
    }
    Json::parse_within(trimmed.as_bytes(), &Limits::bytes(MAX_TEXT)).ok().map(|parsed| parsed.value)
}

/// Like [`inner`], but also reads a text that is nearly JSON as far as possible. Such a text can name patients where a
/// policy or a member name says so, but it is never an id itself.
pub(crate) fn understood(text: &str) -> Option<Json> {
    inner(text).or_else(|| loose::read(bare(text)?))
}

/// Whether a text is nearly JSON: it is not valid JSON, but members can be read from it.
pub(crate) fn is_nearly_json(text: &str) -> bool {
    let Some(text) = bare(text).filter(|text| text.starts_with(['{', '['])) else { return false };
    let has_members = |json: &Json| json.as_object().is_some_and(|members| !members.is_empty());
    let holds = |json: Json| has_members(&json) || json.as_array().is_some_and(|items| items.iter().any(has_members));
    Json::parse_within(text.as_bytes(), &Limits::bytes(MAX_TEXT)).is_err() && loose::read(text).is_some_and(holds)
}

/// A text without surrounding white space and byte order marks, if it is short enough to be read.
fn bare(text: &str) -> Option<&str> {
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')).filter(|text| text.len() <= MAX_TEXT)
}

/// The patient whom a URI names: `patient://P-1`, or the path segment after `Patient` as in FHIR.
///
/// ```
/// use attestlog::redact::patient_of_address;
/// assert_eq!(patient_of_address("https://fhir.example/r4/Patient/P-2/$everything").as_deref(), Some("P-2"));
/// assert_eq!(patient_of_address("file:///patients"), None);
/// ```
pub fn patient_of_address(uri: &str) -> Option<String> {
    let path = uri.split(['?', '#']).next()?;
    let (scheme, rest) = path.split_once("://").unwrap_or(("", path));
    let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
    let id = match scheme.eq_ignore_ascii_case("patient") {
        true => segments.next(),
        false => {
            segments.find(|s| s.eq_ignore_ascii_case("patient") || s.eq_ignore_ascii_case("patients"))?;
            segments.next()
        }
    };
    id.map(str::to_owned)
}

/// Calls `with` for every id in a value that names patients: a text, a number (as its digits), an object's `id`,
/// `value` or `patient_id`, an array of these, or JSON of these in a text. A text whose JSON names nobody is an id
/// itself; a URI that names a patient stands for that patient's id.
pub(crate) fn each_id<E>(value: &Json, with: &mut dyn FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    visit(value, MAX_DEPTH, MAX_INNER, with).map(|_| ())
}

/// Returns whether there were any.
fn visit<E>(value: &Json, depth: usize, texts: usize, with: &mut dyn FnMut(&str) -> Result<(), E>) -> Result<bool, E> {
    let Some(deeper) = depth.checked_sub(1) else { return Ok(false) };
    let mut any = false;
    match value {
        Json::Null | Json::Bool(_) => return Ok(false),
        Json::Number(_) => with(value.to_canonical().as_str())?,
        Json::String(text) => {
            let held = texts.checked_sub(1).and_then(|left| Some((inner(text)?, left)));
            let found = held.map(|(held, left)| visit(&held, deeper, left, with)).transpose()?;
            if !found.unwrap_or_default() {
                let address = text.contains("://").then(|| patient_of_address(text)).flatten();
                with(address.as_deref().unwrap_or(text))?;
            }
        }
        Json::Array(items) => {
            for item in items {
                any |= visit(item, deeper, texts, with)?;
            }
            return Ok(any);
        }
        Json::Object(object) => {
            for (_, member) in object.iter().filter(|(key, _)| identifies(key)) {
                any |= visit(member, deeper, texts, with)?;
            }
            return Ok(any);
        }
    }
    Ok(true)
}

/// The id in a value that names exactly one patient, in its normal form.
pub(super) fn only_id(value: &Json) -> Option<String> {
    let mut one = None;
    each_id(value, &mut |id| match one.get_or_insert_with(|| normal(id).into_owned()) == &*normal(id) {
        true => Ok(()),
        false => Err(()),
    })
    .ok()?;
    one
}

/// Calls `with` for every member in the arguments, at any depth, through arrays and JSON in texts.
pub(crate) fn each_member<E>(arguments: &Json, with: &mut dyn FnMut(&str, &Json) -> Result<(), E>) -> Result<(), E> {
    match arguments {
        // Text that is nearly JSON is read only if it is the whole of the arguments.
        Json::String(text) => understood(text).map_or(Ok(()), |held| members(&held, MAX_DEPTH, MAX_INNER - 1, with)),
        arguments => members(arguments, MAX_DEPTH, MAX_INNER, with),
    }
}

fn members<E>(
    value: &Json,
    depth: usize,
    texts: usize,
    with: &mut dyn FnMut(&str, &Json) -> Result<(), E>,
) -> Result<(), E> {
    let Some(deeper) = depth.checked_sub(1) else { return Ok(()) };
    match value {
        Json::Object(object) => object.iter().try_for_each(|(key, member)| {
            with(key, member)?;
            members(member, deeper, texts, with)
        }),
        Json::Array(items) => items.iter().try_for_each(|item| members(item, deeper, texts, with)),
        Json::String(text) => match texts.checked_sub(1).and_then(|left| Some((inner(text)?, left))) {
            Some((held, left)) => members(&held, deeper, left, with),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(json: &str) -> Vec<String> {
        let mut ids = Vec::new();
        let value = Json::parse(json.as_bytes()).unwrap().value;
        let taken: Result<(), ()> = each_id(&value, &mut |id| {
            ids.push(id.to_owned());
            Ok(())
        });
        taken.unwrap();
        ids
    }

    #[test]
    fn ids_are_found_in_whatever_they_are_wrapped() {
        for one in [
            r#""P-1""#,
            r#"[["P-1"]]"#,
            r#"{"id":{"id":["P-1"]}}"#,
            r#"{"Patient-Id":"P-1","name":"Jane"}"#,
            r#""{\"id\":\"P-1\"}""#,
            r#""\"P-1\"""#,
            r#""\"{\\\"value\\\":[\\\"P-1\\\"]}\"""#,
        ] {
            assert_eq!(ids(one), ["P-1"], "{one}");
        }
        assert_eq!(ids(r#"[17,{"name":"Jane"},null,true]"#), ["17"]);
        // Text that only looks like JSON is an id, and so is JSON that names nobody.
        assert_eq!(ids(r#"["[P-1]","{}","{\"name\":\"x\"}"]"#), ["[P-1]", "{}", r#"{"name":"x"}"#]);
    }

    #[test]
    fn keys_are_read_as_they_are_meant() {
        for key in ["patient_id", "patientId", "PATIENT-ID", "p\u{430}tient_id", "patient\u{2800}_id", "patient%5Fid"] {
            assert!(names_patient(key), "{key}");
        }
        for key in ["", "patience", "patient_name", "id", "患者"] {
            assert!(!names_patient(key), "{key}");
        }
    }
}
