//! Objects and lists under a secret's name: they are hidden as a whole if something in them could be the secret, and are structure
//! (schemas, dependencies, cookies for a language) if not.

use super::detect::value::{is_reference, looks_random};
use super::secret_keys::{self, Found, Kind, is_schema_type};
use crate::json::{Json, Object};
use crate::spelling::gist;

/// What describes a member or where a secret lies, and is none itself.
const ABOUT: &str = "type types title description descriptions name names id ids kind format pattern domain path paths file filename \
     expires expiry expirydate expirationdate maxage samesite httponly secure hostonly version versions resolved integrity \
     dependencies devdependencies peerdependencies optionaldependencies requires engines license licence dev optional peer funding features source sources registry \
     checksum url uri href host hostname port method scheme provider status state created createdat updated updatedat \
     created_at lastused rotation length minlength maxlength min max required label placeholder help \
     role roles scope scopes region environment env namespace ref secretkeyref valuefrom secretname username user login email \
     owner label metadata annotations labels deprecated nullable readonly writeonly ui widget component in bin cpu os size line column";

/// How a page is shown, and nobody is let in by.
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

/// How deep values are read; deeper, something may be there.
const DEEPEST: usize = 64;

/// Whether something in `value` could be the secret that its name says it is.
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
            // `{"key": {…}}`, `{"name": {…}}`: what describes is no structure of its own, except in a schema.
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

/// Those of the words above under which a secret may stand all the same.
fn is_told(key: &str) -> bool {
    matches!(key, "name" | "id" | "label" | "env")
}

fn is_of_package(key: &str) -> bool {
    key.ends_with("dependencies") || matches!(key, "requires" | "engines" | "features" | "funding" | "bin")
}

/// A description of a member, not its value: `{"type": ["string", "null"], "description": …}`, `{"$ref": …}`.
fn is_schema(object: &Object) -> bool {
    let typed = match object.get("type") {
        Some(Json::String(name)) => is_schema_type(name),
        Some(Json::Array(names)) => !names.is_empty() && names.iter().all(|n| n.as_str().is_some_and(is_schema_type)),
        _ => false,
    };
    typed || ["$ref", "anyOf", "oneOf", "allOf", "enum", "properties"].iter().any(|key| object.get(key).is_some())
}

/// Whether a number of a card or of a person, or an address, may be in a structure.
pub(super) fn holds_other(kind: Kind, value: &Json) -> bool {
    match value {
        Json::Object(object) => kind != Kind::Secret && !object.is_empty() && !is_schema(object),
        Json::Array(items) => !items.is_empty(),
        _ => true,
    }
}
