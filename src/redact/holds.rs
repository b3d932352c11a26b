//! Objects and arrays under the name of a secret: they are hidden as a whole if something in them could be the secret,
//! and kept if they are only structure (schemas, dependencies, cookies for a language).

use super::detect::value::{is_reference, looks_random};
use super::secret_keys::{self, Found, Kind, is_schema_type};
use crate::json::{Json, Object};
use crate::spelling::gist;

/// Members that describe a secret or say where it is, but do not hold it.
const ABOUT: &str = "type types title description descriptions name names id ids kind format pattern domain path paths file filename \
     expires expiry expirydate expirationdate maxage samesite httponly secure hostonly version versions resolved integrity \
     dependencies devdependencies peerdependencies optionaldependencies requires engines license licence dev optional peer funding features source sources registry \
     checksum url uri href host hostname port method scheme provider status state created createdat updated updatedat \
     created_at lastused rotation length minlength maxlength min max required label placeholder help \
     role roles scope scopes region environment env namespace ref secretkeyref valuefrom secretname username user login email \
     owner label metadata annotations labels deprecated nullable readonly writeonly ui widget component in bin cpu os size line column";

/// Display settings, which let nobody in.
pub(super) const SHOWN: [&str; 26] = [
    "theme",
    "lang",
    "language",
    "locale",
    "path",
    "domain",
    "max-age",
    "expires",
    "samesite",
    "currency",
    "timezone",
    "tz",
    "consent",
    "dark",
    "cookieconsent",
    "cookie_consent",
    "country",
    "region",
    "color-scheme",
    "sidebar",
    "layout",
    "fontsize",
    "view",
    "darkmode",
    "dark_mode",
    "cookies_accepted",
];

/// The maximum depth; a deeper value is assumed to hold the secret.
const DEEPEST: usize = 64;

/// Whether something in `value` could be the secret that its name announces.
pub(super) fn holds(found: &Found, value: &Json) -> bool {
    within(found, value, 0)
}

fn within(found: &Found, value: &Json, depth: usize) -> bool {
    match value {
        _ if depth > DEEPEST => true,
        Json::Array(items) => items.iter().any(|item| within(found, item, depth + 1)),
        Json::Object(object) => in_object(found, object, depth),
        Json::String(text) => secret_keys::tells(found, value) && !is_reference(text),
        Json::Number(_) => secret_keys::tells(found, value),
        Json::Null | Json::Bool(_) => false,
    }
}

fn in_object(found: &Found, object: &Object, depth: usize) -> bool {
    let schema = is_schema(object);
    let name = object.get("name").or_else(|| object.get("key")).and_then(Json::as_str);
    let shown = |name: &str| SHOWN.iter().any(|s| s.eq_ignore_ascii_case(name));
    let cookie = found.name == "cookie";
    object.iter().any(|(key, value)| {
        let plain = gist(key);
        let about = ABOUT.split_ascii_whitespace().any(|word| word == &*plain);
        let harmless = cookie && (shown(key) || name.is_some_and(shown));
        match value {
            // Objects and arrays under these words, as in `{"key": {…}}` and `{"name": {…}}`, are searched, except in a
            // schema.
            Json::Object(_) | Json::Array(_) if about && !schema => {
                within(found, value, depth + 1) && !is_of_package(&plain)
            }
            _ if about => {
                value.as_str().is_some_and(|text| !schema && looks_random(text) && text.len() >= 12 && is_told(&plain))
            }
            _ if schema && !matches!(&*plain, "default" | "const" | "example" | "examples" | "enum") => {
                matches!(value, Json::Object(_)) && within(found, value, depth + 1)
            }
            Json::String(text) if harmless => looks_random(text),
            _ => within(found, value, depth + 1),
        }
    })
}

/// The words above under which a secret may be found all the same.
fn is_told(key: &str) -> bool {
    matches!(key, "name" | "id" | "label" | "env")
}

fn is_of_package(key: &str) -> bool {
    key.ends_with("dependencies") || matches!(key, "requires" | "engines" | "features" | "funding" | "bin")
}

/// Whether an object describes a member rather than holding its value:
/// `{"type": ["string", "null"], "description": …}`, `{"$ref": …}`.
fn is_schema(object: &Object) -> bool {
    let typed = match object.get("type") {
        Some(Json::String(name)) => is_schema_type(name),
        Some(Json::Array(names)) => !names.is_empty() && names.iter().all(|n| n.as_str().is_some_and(is_schema_type)),
        _ => false,
    };
    typed || ["$ref", "anyOf", "oneOf", "allOf", "enum", "properties"].iter().any(|key| object.get(key).is_some())
}

/// Whether a structure may hold a card number, a personal number, or an address.
pub(super) fn holds_other(kind: Kind, value: &Json) -> bool {
    match value {
        Json::Object(object) => kind != Kind::Secret && !object.is_empty() && !is_schema(object),
        Json::Array(items) => !items.is_empty(),
        _ => true,
    }
}
