//! What the presence of members says about the members beside them: that they belong to a private key, a card, a grant,
//! or are somebody's number.

use super::detect;
use super::key_names::{LABEL_KEYS, NAME_KEYS, VALUE_KEYS, is_one_of, may_hold};
use super::secret_keys::Kind;
use crate::json::{Json, Object};

/// The first letters of an object's keys. Most objects have no member that says anything about others.
#[derive(Clone, Copy)]
pub(super) struct Initials(u32);

impl Initials {
    pub(super) fn of(object: &Object) -> Initials {
        let first = |key: &str| key.as_bytes().first().map_or(0, |b| 1 << (b & 31));
        Initials(object.iter().fold(0, |all, (key, _)| all | first(key)))
    }

    /// Whether a key may begin with one of these letters, in either case.
    pub(super) fn any(self, letters: &str) -> bool {
        letters.bytes().any(|b| self.0 >> (b & 31) & 1 == 1)
    }
}

/// What an object's members say about each other.
pub(super) struct Beside {
    /// The members are those of a private key.
    private: bool,
    /// `{"type": "card", "number": …}`
    card: bool,
    /// A key, and what a label calls the number under it: `{"label": "Codice fiscale", "value": …}`.
    label: Option<(String, String)>,
    /// The object is a request for access: `{"grant_type": …, "code": …}`.
    grant: bool,
    /// A member names a place, so a PIN code is a postal code.
    place: bool,
}

impl Beside {
    pub(super) fn of(object: &Object, initials: Initials) -> Beside {
        Beside {
            private: initials.any("knc") && is_of_private_key(object),
            card: initials.any("n") && is_of_card(object),
            grant: initials.any("g") && object.get("grant_type").is_some(),
            label: numbered(object, initials),
            place: !initials.any("p") || has_place(object),
        }
    }

    /// The kind of a member, given the members beside it and the `kind` that its own name has.
    pub(super) fn kind(&self, key: &str, value: &Json, kind: Option<Kind>) -> Option<Kind> {
        if self.private && PRIVATE_MEMBERS.contains(&key) {
            return Some(Kind::Secret);
        }
        if self.grant && is_one_of(key, &["code", "device_code", "assertion"]) && value.as_str().is_some_and(is_grant) {
            return Some(Kind::Secret);
        }
        if kind.is_none() && !self.place && is_one_of(key, &["pin_code", "pincode"]) && scalar_digits(value) == Some(6)
        {
            return Some(Kind::Secret);
        }
        // In `{"/auth": {…}}` the key is an API path.
        if key.starts_with('/') && matches!(value, Json::Object(_) | Json::Array(_)) {
            return None;
        }
        let long = || match value {
            Json::String(text) => text.bytes().filter(u8::is_ascii_digit).count() >= 12,
            Json::Number(n) => n.as_i64().is_some_and(|n| n >= 100_000_000_000),
            _ => false,
        };
        kind.or_else(|| (self.card && key == "number" && long()).then_some(Kind::Card))
    }

    /// The label of a member, for detectors.
    pub(super) fn label_of(&self, key: &str) -> Option<String> {
        self.label.as_ref().filter(|(of, _)| of == key).map(|(_, label)| label.clone())
    }
}

/// Whether a text looks like a code or an assertion, and not like the name of an error.
fn is_grant(text: &str) -> bool {
    text.len() >= 16 && text.bytes().any(|b| b.is_ascii_digit()) && !detect::value::is_nothing(text)
}

/// The number of digits in a value that consists only of digits.
fn scalar_digits(value: &Json) -> Option<usize> {
    match value {
        Json::String(text) => text.bytes().all(|b| b.is_ascii_digit()).then_some(text.len()),
        Json::Number(n) => n.as_i64().filter(|n| *n > 0).map(|n| n.to_string().len()),
        _ => None,
    }
}

/// Whether an object gives a location.
fn has_place(object: &Object) -> bool {
    const PLACES: [&str; 16] = [
        "city",
        "state",
        "address",
        "street",
        "district",
        "country",
        "locality",
        "town",
        "village",
        "area",
        "region",
        "landmark",
        "post_office",
        "line1",
        "address_line1",
        "latitude",
    ];
    object.get("pin_code").or_else(|| object.get("pincode")).is_none()
        || object.len() < 2
        || object.iter().any(|(key, _)| is_one_of(key, &PLACES))
}

/// The member whose value has digits and which another member calls a number.
fn numbered(object: &Object, initials: Initials) -> Option<(String, String)> {
    let digits = |value: &Json| match value {
        Json::String(text) => text.len() <= 64 && text.bytes().filter(u8::is_ascii_digit).count() >= 4,
        Json::Number(_) => true,
        _ => false,
    };
    // `{"routing_number": …, "account_number": …}`
    const ACCOUNTS: [&str; 4] = ["account_number", "accountnumber", "account", "account_no"];
    const BANKS: [&str; 12] = [
        "routing_number",
        "routingnumber",
        "sort_code",
        "sortcode",
        "bic",
        "swift",
        "aba",
        "bank",
        "bank_name",
        "bankname",
        "bank_code",
        "swift_code",
    ];
    let mut accounts = object.iter().filter(|_| initials.any("a"));
    let account = accounts.find(|(key, value)| is_one_of(key, &ACCOUNTS) && digits(value));
    if let Some((key, _)) = account.filter(|_| object.iter().any(|(key, _)| is_one_of(key, &BANKS))) {
        return Some((key.to_owned(), "bank account number".to_owned()));
    }
    let (key, _) = object.iter().find(|(key, value)| may_hold(key) && is_one_of(key, VALUE_KEYS) && digits(value))?;
    let mut members = object.iter().filter(|(key, _)| is_one_of(key, LABEL_KEYS) || is_one_of(key, NAME_KEYS));
    let label = members.find_map(|(_, label)| label.as_str().filter(|label| detect::is_called(label)))?;
    Some((key.to_owned(), label.to_owned()))
}

/// Whether an object is about a card.
fn is_of_card(object: &Object) -> bool {
    const CARDS: [&str; 9] =
        ["card", "credit_card", "creditcard", "debit_card", "visa", "mastercard", "amex", "maestro", "credit card"];
    let says = |key: &str| {
        object.get(key).and_then(Json::as_str).is_some_and(|said| CARDS.iter().any(|c| c.eq_ignore_ascii_case(said)))
    };
    object.get("number").is_some() && ["type", "brand", "method", "kind", "scheme", "network"].into_iter().any(says)
}

/// Whether members of a JSON Web Key make it a private one.
fn is_of_private_key(object: &Object) -> bool {
    let text = |key: &str| object.get(key).is_some_and(|v| v.as_str().is_some());
    text("kty") || text("n") && text("e") && text("d") || text("crv") && text("x") && text("d")
}

const PRIVATE_MEMBERS: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "k", "oth"];
