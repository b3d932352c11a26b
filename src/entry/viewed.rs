//! The viewed part of a result that has an envelope: the record in a Model Context Protocol result, or in a text of JSON.

use crate::json::{Json, Object, Parsed, Path};

/// What was viewed in a result of that protocol: the record in it, else the types of its content with the number of
/// each; of a text that is JSON, what it holds. `None` for any other result.
pub(crate) fn viewed(result: &Json) -> Option<Parsed> {
    if let Some(record) = record(result).or_else(|| read(result.as_str()?)) {
        return Some(record);
    }
    let parts = parts(result)?;
    let mut types = Object::new();
    for part in parts {
        let name = part.get("type").and_then(Json::as_str).or(part.get("mimeType").and_then(Json::as_str));
        let name: String = name.unwrap_or("text").chars().take(100).collect();
        let before = types.get(&name).and_then(Json::as_u64).unwrap_or(0);
        types.insert(name, before + 1);
    }
    Some(Parsed { value: types.into(), ..Parsed::default() })
}

/// The record in a result of that protocol: its `structuredContent`, else its texts parsed as JSON, with the paths of
/// restated numbers.
pub(super) fn record(result: &Json) -> Option<Parsed> {
    if let Some(structured) = result.get("structuredContent").filter(|s| **s != Json::Null) {
        return Some(Parsed { value: structured.clone(), ..Parsed::default() });
    }
    let mut said: Vec<Parsed> = parts(result)?.iter().filter_map(|part| read(text(part)?)).collect();
    if said.len() < 2 {
        return said.pop();
    }
    let inside = |(i, one): (usize, &Parsed)| {
        let outer = Path::root().index(i);
        one.restated.iter().map(|p| p.inside(&outer)).collect::<Vec<_>>()
    };
    let restated = said.iter().enumerate().flat_map(inside).collect();
    let value = said.into_iter().map(|one| one.value).collect::<Vec<_>>().into();
    Some(Parsed { value, restated })
}

fn parts(result: &Json) -> Option<&[Json]> {
    let parts = ["content", "contents"].iter().find_map(|name| result.get(name)?.as_array());
    parts.filter(|parts| !parts.is_empty() && parts.iter().all(is_part))
}

/// A part of `content` has a `type`; a part of a resource's `contents` has a `uri`.
fn is_part(part: &Json) -> bool {
    ["type", "uri"].iter().any(|name| part.get(name).and_then(Json::as_str).is_some())
}

/// The text of a part, or of the resource embedded in it.
fn text(part: &Json) -> Option<&str> {
    part.get("text").or_else(|| part.get("resource")?.get("text"))?.as_str()
}

/// The text parsed as JSON, if it is an object or an array.
fn read(text: &str) -> Option<Parsed> {
    let text = text.trim();
    text.starts_with(['{', '[']).then(|| Json::parse(text.as_bytes()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_viewed_and_not_the_envelope() {
        let seen = |text: &str| {
            let result = Json::parse(text.as_bytes()).unwrap().value;
            viewed(&result).map(|v| v.value.to_canonical().as_str().to_owned())
        };
        let is = |text: &str, expected: &str| assert_eq!(seen(text).as_deref(), Some(expected), "{text}");
        is(r#"{"content":[],"structuredContent":{"name":"A"},"isError":false}"#, r#"{"name":"A"}"#);
        is(r#"{"content":[{"type":"text","text":"{\"id\":1}"}]}"#, r#"{"id":1}"#);
        is(r#"{"content":[{"type":"text","text":"[1]"},{"type":"text","text":"{}"}]}"#, "[[1],{}]");
        is(r#"{"content":[{"type":"text","text":"x"},{"type":"image","data":""}]}"#, r#"{"image":1,"text":1}"#);
        is(r#"{"contents":[{"uri":"patient://P-1","text":"{\"id\":2}"}]}"#, r#"{"id":2}"#);
        let number = r#"{"content":[{"type":"text","text":"{\"n\":12345678901234567890}"}]}"#;
        let restated = viewed(&Json::parse(number.as_bytes()).unwrap().value).unwrap().restated;
        assert_eq!(restated[0].to_string(), "n");
        is(r#""{\"id\":1}""#, r#"{"id":1}"#);
        assert_eq!(seen(r#""{id}""#), None);
        assert_eq!(seen(r#"{"content":"x"}"#), None);
        assert_eq!(seen(r#"{"content":[{"id":1}]}"#), None, "somebody's own member");
    }
}
