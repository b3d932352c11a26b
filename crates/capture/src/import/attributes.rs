//! Attributes of OpenTelemetry, as OTLP lists them, and its times.

use super::file::At;
use attestlog::json::{Json, Number, Object, Path};
use attestlog::{Result, Timestamp};

/// The key of an attribute, and the raw value in its `AnyValue`.
pub(super) fn held(attribute: &Json) -> Option<(&str, &Json)> {
    let mut values = attribute.get("value")?.as_object()?.iter();
    let value = values.find(|(_, value)| **value != Json::Null)?.1;
    Some((attribute.get("key")?.as_str()?, value))
}

/// The integer in a number or in a text of digits, to its last digit: a double, as which JSON keeps what is beyond 2^53, has the digits
/// that the file has, or else the file's digits are kept as a text.
fn integer(value: &Json) -> Option<i64> {
    match value {
        Json::String(digits) => digits.trim().parse().ok(),
        Json::Number(number) => number.as_i64().or_else(|| value.to_canonical().as_str().parse().ok()),
        _ => None,
    }
}

/// A time in nanoseconds since 1970, as a string of digits or a number. 0 means none. A value that as nanoseconds would
/// be before March 1973 is in microseconds, milliseconds or seconds: the first of these that gives a later time.
pub(super) fn nanos(span: &At<'_>, key: &str) -> Result<Option<Timestamp>> {
    const UNITS: [i64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];
    const SINCE_1973: i64 = 100_000_000_000_000_000;
    let Some(at) = span.member(key) else { return Ok(None) };
    match integer(at.value) {
        Some(0) => Ok(None),
        Some(nanos) => {
            let later = UNITS.iter().filter_map(|unit| nanos.checked_mul(*unit)).find(|nanos| *nanos >= SINCE_1973);
            Ok(Some(Timestamp::from_nanos(later.unwrap_or(nanos))))
        }
        None => Err(at.error("must be nanoseconds since 1970, until 2262")),
    }
}

pub(super) fn first_of(holder: &At<'_>, keys: &[&str]) -> Result<Option<String>> {
    for key in keys {
        if let Some(text) = attribute_text(holder, key)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The attribute as text. A number becomes its digits; an empty text counts as absent.
pub(super) fn attribute_text(holder: &At<'_>, key: &str) -> Result<Option<String>> {
    let Some((value, _)) = attribute(holder, key, key)? else { return Ok(None) };
    match value {
        Json::String(text) => Ok(Some(text).filter(|t| !t.is_empty())),
        Json::Number(_) => Ok(Some(value.to_canonical().as_str().to_owned())),
        other => Err(holder.error(format!("the attribute {key:?} must be a string, not {}", other.type_name()))),
    }
}

/// The attribute `key`, and the paths of restated values in it, below `root`.
pub(super) fn attribute(holder: &At<'_>, key: &str, root: &str) -> Result<Option<(Json, Vec<String>)>> {
    // Called for many spans and rarely successful, so places are built only for attributes that are found.
    let all = match holder.value.get("attributes") {
        Some(Json::Array(all)) => all,
        Some(Json::Null) | None => return Ok(None),
        Some(_) => return Err(holder.error("attributes: must be an array")),
    };
    let mut found = all.iter().enumerate().filter(|(_, a)| a.get("key").and_then(Json::as_str) == Some(key));
    let Some((index, _)) = found.next() else { return Ok(None) };
    if let Some((second, _)) = found.next() {
        let (name, places) = (super::clip(key), format!("attributes[{index}] and [{second}]"));
        return Err(holder.error(format!("the attribute {name:?} occurs twice, as {places}")));
    }
    let mut restated = Vec::new();
    let value = match holder.list("attributes")?.nth(index).and_then(|a| a.member("value")) {
        Some(value) => any_value(&value, &Path::root().key(root), &mut restated)?,
        None => Json::Null,
    };
    Ok(Some((value, restated.iter().map(Path::to_string).collect())))
}

/// Reads an `AnyValue`. Its nesting is bounded by the parser's limit for the file.
pub(super) fn any_value(at: &At<'_>, path: &Path, restated: &mut Vec<Path>) -> Result<Json> {
    let members = at.value.as_object().ok_or_else(|| at.error("must be an attribute's value, an object"))?;
    let mut present = members.iter().filter(|(_, value)| **value != Json::Null);
    let (kind, value) = match (present.next(), present.next()) {
        (None, _) => return Ok(Json::Null),
        (Some(one), None) => one,
        (Some(_), Some(_)) => return Err(at.error("must have one value, not several")),
    };
    let inner = at.required(kind)?;
    match (kind, value) {
        ("stringValue" | "bytesValue", Json::String(_)) => {
            // The text had parts that JSON text cannot keep.
            if !inner.restated("").is_empty() {
                restated.push(path.clone());
            }
            Ok(value.clone())
        }
        ("boolValue", Json::Bool(_)) => Ok(value.clone()),
        // OTLP/JSON writes 64-bit integers as strings; reading one as a number is not a restatement.
        ("intValue", Json::String(digits)) => match digits.parse::<i64>() {
            Ok(n) => Ok(Number::from_i64(n).map_or_else(
                || {
                    restated.push(path.clone());
                    value.clone()
                },
                Json::Number,
            )),
            Err(_) => Err(inner.error("must be a 64-bit integer")),
        },
        ("intValue", Json::Number(_)) if integer(value).is_some() => Ok(value.clone()),
        ("doubleValue", Json::Number(_)) => Ok(value.clone()),
        // NaN, the infinities, or digits that a double cannot hold.
        ("doubleValue", Json::String(text)) if text.parse::<f64>().is_ok() => {
            restated.push(path.clone());
            Ok(value.clone())
        }
        ("arrayValue", Json::Object(_)) => {
            let items = inner.list("values")?.enumerate();
            Ok(Json::Array(items.map(|(i, item)| any_value(&item, &path.index(i), restated)).collect::<Result<_>>()?))
        }
        ("kvlistValue", Json::Object(_)) => {
            let mut members = Vec::new();
            for member in inner.list("values")? {
                members.push((member.required("key")?.text()?, member));
            }
            // Sorted in the order of an object's members, so that each insertion is at the end.
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            let mut object = Object::new();
            for (key, member) in members {
                let value = match member.member("value") {
                    Some(value) => any_value(&value, &path.key(key), restated)?,
                    None => Json::Null,
                };
                if object.insert(key, value).is_some() {
                    return Err(member.error(format!("the name {:?} occurs twice", super::clip(key))));
                }
            }
            Ok(Json::Object(object))
        }
        _ => Err(inner.error("is no attribute's value of a known type")),
    }
}
