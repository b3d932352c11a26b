//! The floor: which keys name a secret, whatever their case, separators or depth.
//!
//! A key is split into words (`userPassword`, `USER-PASSWORD` and `user.password` are all *user password*) and
//! compared, from its end, with the names in `names`. Words that only qualify (`password_hash`, `token2`) or say whose
//! secret it is (`API_KEY_OPENAI`) are removed first. Some words after a name give it another meaning, so
//! `token_count`, `password_changed_at` and `email_verified` are kept; so do some words before it: `next_page_token`.
//! Any other word after a name with only one meaning (`password_ab`) changes nothing. No memory is allocated for an
//! ASCII key, matching or not.

use super::detect::{ordinary, value};
pub(crate) use super::filter::may_be_secret;
use super::holds::{holds, holds_other};
use super::joined;
use super::names::{HARMLESS, HARMLESS_LEADS, NAMES, QUALIFIERS, SURE_LEADS, VAGUE, VENDORS, WHOSE};
use super::words::Table;
use crate::json::Json;
use std::sync::LazyLock;

/// What a sensitive key is expected to hold. It gives the placeholder's name and the pseudonym domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Passwords, tokens, keys: anybody who has one can act with it.
    Secret,
    Card,
    Ssn,
    BirthDate,
    Email,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Card => "card",
            Kind::Ssn => "ssn",
            Kind::BirthDate => "date_of_birth",
            Kind::Email => "email",
        }
    }
}

/// How much of the key a name must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The whole key, as `pin`: `map_pin` is something else.
    Whole,
    /// The last words of the key.
    Words,
    /// The end of the key, even in the middle of a word, as in `dbpassword`.
    End,
    /// As `End`, but no word may begin inside the name: `process_n` is not *ssn*.
    Tight,
    /// The end of a word in which all other letters say whose it is: `dbpw`, but not `compass`.
    Joined,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    text: &'static str,
    fit: Fit,
    kind: Kind,
    /// It also has other meanings.
    vague: bool,
}

/// The effect of a word next to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// None.
    Qualifier,
    /// It says where a secret belongs.
    Vendor,
    /// It says whose secret it is.
    Whose,
    /// After a name, it gives the name another meaning.
    Harmless,
}

static ROLES: LazyLock<Table<Role>> = LazyLock::new(|| {
    let words = |text: &'static str, role| text.split_ascii_whitespace().map(move |w| (w.as_bytes(), role));
    let lists =
        [(HARMLESS, Role::Harmless), (WHOSE, Role::Whose), (VENDORS, Role::Vendor), (QUALIFIERS, Role::Qualifier)];
    Table::of(lists.into_iter().flat_map(|(text, role)| words(text, role)))
});

fn is_among(words: &str, word: &[u8]) -> bool {
    words.split_ascii_whitespace().any(|w| w.as_bytes() == word)
}

/// The name that a key matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    /// The name as it is listed.
    pub(crate) name: &'static str,
    /// The key has its plural.
    pub(crate) plural: bool,
    /// It has no other meaning here.
    pub(crate) sure: bool,
    /// An unknown word follows it.
    pub(crate) loose: bool,
    /// Words precede it.
    led: bool,
}

impl Found {
    fn of(name: Name, plural: bool) -> Found {
        Found { kind: name.kind, name: name.text, plural, sure: !name.vague, loose: false, led: false }
    }

    /// `tokens` is more often a count than a secret.
    pub(crate) fn is_token(&self) -> bool {
        matches!(self.name, "token" | "токен" | "令牌")
    }

    /// The address of a database or a service, which may contain a password.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self.name, "connectionstring" | "connstr" | "connectionuri" | "databaseurl" | "dsn")
    }

    pub(crate) fn is_authorization(&self) -> bool {
        self.name.ends_with("authorization") || self.name == "auth"
    }
}

/// Names are bucketed by their last two letters, so the bucket of most keys is empty.
const BUCKETS: usize = 1024;

static TABLE: LazyLock<Vec<Vec<Name>>> = LazyLock::new(|| {
    let mut table = vec![Vec::new(); BUCKETS];
    for &(kind, fit, texts) in NAMES {
        for text in texts.split_ascii_whitespace() {
            if let Some(slot) = table.get_mut(bucket(text.as_bytes())) {
                slot.push(Name { text, fit, kind, vague: VAGUE.contains(&text) });
            }
        }
    }
    table
});

/// The last two characters of a key, in lower case, without separators and without the bytes that `skip` accepts at its
/// end.
pub(crate) fn last_two(key: &str, skip: impl Fn(u8) -> bool) -> Option<[u8; 2]> {
    let mut bytes = key.bytes().rev().filter(|&b| Class::of(b) != Class::Gap).skip_while(|&b| skip(b));
    let last = bytes.next()?.to_ascii_lowercase();
    Some([bytes.next()?.to_ascii_lowercase(), last])
}

fn bucket(joined: &[u8]) -> usize {
    match joined {
        [.., a, b] => usize::from(a & 31) << 5 | usize::from(b & 31),
        _ => 0,
    }
}

/// How many bytes of a key are read, counted from its end.
const SPAN: usize = 63;

/// A key in lower case without separators, and the starts of its words.
pub(crate) struct Words {
    text: [u8; SPAN],
    len: usize,
    starts: u64,
}

impl Words {
    pub(crate) fn of(key: &str) -> Words {
        let lower;
        let bytes = match key.is_ascii() {
            true => key.as_bytes(),
            false => {
                lower = key.chars().flat_map(lower_case).collect::<String>();
                lower.as_bytes()
            }
        };
        let bytes = &bytes[bytes.len().saturating_sub(SPAN)..];
        let mut words = Words { text: [0; SPAN], len: 0, starts: 0 };
        let mut before = Class::Gap;
        for (i, &b) in bytes.iter().enumerate() {
            let class = Class::of(b);
            if class == Class::Gap {
                before = Class::Gap;
                continue;
            }
            let begins = match (before, class) {
                (Class::Gap, _) | (Class::Lower | Class::Digit, Class::Upper) => true,
                // `APIKey` is *api key*, but in `APIs` the plural *s* starts no word.
                (Class::Upper, Class::Upper) => {
                    bytes.get(i + 1).is_some_and(|&n| Class::of(n) == Class::Lower)
                        && bytes.get(i + 2).is_some_and(|&n| Class::of(n) == Class::Lower)
                }
                _ => false,
            };
            if begins {
                words.starts |= 1 << words.len;
            }
            if let Some(slot) = words.text.get_mut(words.len) {
                *slot = b.to_ascii_lowercase();
                words.len += 1;
            }
            before = class;
        }
        words
    }

    /// The key without case and separators.
    pub(crate) fn joined(&self) -> &[u8] {
        &self.text[..self.len]
    }

    pub(crate) fn starts_at(&self, at: usize) -> bool {
        at < SPAN && self.starts >> at & 1 == 1
    }

    /// The last word.
    pub(crate) fn last(&self) -> &[u8] {
        let len = self.trim_digits(self.len);
        &self.text[self.last_word(len)..len]
    }

    /// Where the last word of the first `len` bytes begins.
    fn last_word(&self, len: usize) -> usize {
        let seen = self.starts & ((1 << len) - 1);
        (u64::BITS - 1).saturating_sub(seen.leading_zeros()) as usize
    }

    /// The length without the digits at the end: `password2`, `credit_card_4421486`.
    fn trim_digits(&self, mut len: usize) -> usize {
        while len > 0 && self.text[len - 1].is_ascii_digit() {
            len -= 1;
        }
        len
    }

    fn find(&self, len: usize) -> Option<Name> {
        let joined = &self.text[..len];
        TABLE.get(bucket(joined))?.iter().copied().find(|name| {
            joined.ends_with(name.text.as_bytes()) && {
                let at = joined.len() - name.text.len();
                match name.fit {
                    Fit::Whole => at == 0,
                    Fit::Words => self.starts_at(at),
                    Fit::End => true,
                    Fit::Tight => !(at + 1..joined.len()).any(|i| self.starts_at(i)),
                    // `DBpass` has capitals in the middle of a word.
                    Fit::Joined => {
                        let lead = &joined[..at];
                        joined::leads(name.text, &lead[self.last_word(at)..]) || joined::leads(name.text, lead)
                    }
                }
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Gap,
}

impl Class {
    fn of(b: u8) -> Class {
        CLASSES[usize::from(b)]
    }
}

const CLASSES: [Class; 256] = {
    let mut table = [Class::Gap; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'a'..=b'z' | 0x80.. => Class::Lower,
            b'A'..=b'Z' => Class::Upper,
            b'0'..=b'9' => Class::Digit,
            _ => Class::Gap,
        };
        b += 1;
    }
    table
};

/// Lower-cases a letter of another script; ASCII letters are kept, because their case shows where words begin.
fn lower_case(c: char) -> impl Iterator<Item = char> {
    let (ascii, other) = if c.is_ascii() { (Some(c), None) } else { (None, Some(c.to_lowercase())) };
    ascii.into_iter().chain(other.into_iter().flatten())
}

/// The kind of a value under `key`, if the key names a secret.
pub(crate) fn kind_of_key(key: &str) -> Option<Kind> {
    named(key).map(|found| found.kind)
}

/// The same, with everything known about the name.
pub(crate) fn named(key: &str) -> Option<Found> {
    if !may_be_secret(key) {
        return None;
    }
    find(&Words::of(key))
}

/// How many unknown words may follow a name.
const UNKNOWN: usize = 2;

/// The name that a key matches.
fn find(words: &Words) -> Option<Found> {
    let mut len = words.trim_digits(words.len);
    let (mut unknown, mut beside) = (0, Role::Qualifier);
    loop {
        let plural = len > 3 && words.text[len - 1] == b's';
        let single = words.find(len).map(|name| (name, false));
        let found = single.or_else(|| if plural { words.find(len - 1).map(|name| (name, true)) } else { None });
        let found = found.filter(|(name, _)| name.text != "key" || name.fit == Fit::Joined || has_vendor(words, len));
        if let Some((name, plural)) = found {
            return judged(words, len, name, Found { loose: unknown > 0, ..Found::of(name, plural) }, beside);
        }
        let start = words.last_word(len);
        if start == 0 {
            len -= joined::qualifier(&words.text[..len])?;
            continue;
        }
        match ROLES.get(&words.text[start..len]) {
            Some(Role::Harmless) => return None,
            Some(Role::Qualifier) => {}
            Some(Role::Vendor) if beside == Role::Whose => {}
            Some(role) => beside = role,
            None => match joined::qualifier(&words.text[start..len]) {
                Some(behind) => {
                    len -= behind;
                    continue;
                }
                None if unknown == UNKNOWN => return None,
                None => (unknown, beside) = (unknown + 1, Role::Whose),
            },
        }
        len = words.trim_digits(start);
    }
}

/// Judges a name at the end of the first `len` bytes by the words around it; `beside` is the least usual role among the
/// words after it.
fn judged(words: &Words, len: usize, name: Name, found: Found, beside: Role) -> Option<Found> {
    // Only names of secrets may be followed by other words, and not those that must be the whole key.
    if beside != Role::Qualifier && (name.kind != Kind::Secret || name.fit == Fit::Whole) {
        return None;
    }
    if !name.vague {
        return Some(found);
    }
    if name.fit == Fit::Joined {
        return (beside != Role::Whose).then_some(Found { sure: !is_short(name.text), led: true, ..found });
    }
    let at = len - usize::from(found.plural) - name.text.len();
    let start = words.last_word(at);
    let lead = &words.text[start..at];
    let harmless = !lead.is_empty() && is_among(HARMLESS_LEADS, lead);
    let sure = !lead.is_empty() && is_among(SURE_LEADS, lead);
    (beside != Role::Whose && !harmless).then_some(Found { sure: sure && !is_short(name.text), led: at > 0, ..found })
}

/// Names so short that the words around them decide: `AIRTABLE_PAT`, `cloudflareKey`.
fn is_short(name: &str) -> bool {
    matches!(name, "pat" | "key")
}

/// Whether a key is a vendor's or a cipher's (`LAUNCHDARKLY_SDK_KEY`), and neither a public one nor a key of another kind
/// (`primary`, `sort`).
fn has_vendor(words: &Words, mut len: usize) -> bool {
    let mut vendor = false;
    while len > 0 {
        let start = words.last_word(len);
        let word = &words.text[start..len];
        if matches!(
            word,
            b"public"
                | b"publishable"
                | b"pub"
                | b"primary"
                | b"foreign"
                | b"cache"
                | b"site"
                | b"sort"
                | b"idempotency"
        ) {
            return false;
        }
        vendor |= word.len() > 2 && !ENVIRONMENTS.contains(&word) && ROLES.get(word) == Some(Role::Vendor)
            || joined::is_cipher(word);
        len = if start == 0 { 0 } else { words.trim_digits(start) };
    }
    vendor
}

/// The words for where a secret belongs that are environments, not vendors.
const ENVIRONMENTS: [&[u8]; 8] = [b"prod", b"production", b"stage", b"staging", b"dev", b"sandbox", b"live", b"uat"];

/// The kind of `value`, if it must be replaced. Booleans, `null`, empty values and stand-ins (`${TOKEN}`, `string`) are
/// never replaced. `words` are the words of its key.
pub(crate) fn kind_of_member(parent: Option<&str>, words: &Words, value: &Json) -> Option<Kind> {
    let found = find(words).or_else(|| parent.and_then(|p| across(p, words)))?;
    tells(&found, value).then_some(found.kind)
}

/// Whether a value under such a name must not be shown.
pub(crate) fn tells(found: &Found, value: &Json) -> bool {
    let secret = found.kind == Kind::Secret;
    match value {
        Json::Null | Json::Bool(_) => false,
        Json::String(s) if found.name == "pan" => s.bytes().filter(u8::is_ascii_digit).count() >= 8,
        Json::Number(n) if found.name == "pan" => n.as_i64().is_none_or(|n| n.unsigned_abs() >= 100_000_000),
        Json::Number(n) if found.name == "pin" => n.as_i64().is_none_or(|n| n.unsigned_abs() >= 1000),
        Json::Number(n) if found.name == "pincode" => {
            n.as_i64().is_none_or(|n| !(10_000..1_000_000).contains(&n.unsigned_abs()))
        }
        Json::String(s) if !secret => !s.is_empty(),
        Json::String(s) => tells_text(found, s),
        // `max_tokens` and `total_tokens` are counts; `tokens` with text in it is not.
        Json::Array(_) | Json::Object(_) if found.plural && found.is_token() && !holds_text(value) => false,
        Json::Array(a) if found.name == "pin" => {
            a.iter().any(|item| !matches!(item, Json::Array(_)) && tells(found, item))
        }
        Json::Array(_) | Json::Object(_) if secret => holds(found, value),
        Json::Array(_) | Json::Object(_) => holds_other(found.kind, value),
        Json::Number(n) if secret && found.is_token() => {
            !found.plural && n.as_i64().is_none_or(|n| n.unsigned_abs() >= 100_000)
        }
        // A number under `pass` is a count of passed tests.
        Json::Number(_) => found.name != "pass",
    }
}

fn tells_text(found: &Found, s: &str) -> bool {
    let digits = s.bytes().all(|b| b.is_ascii_digit());
    if digits && found.name == "pass" && s.len() < 4 {
        return false;
    }
    // `pwd` can be a directory, `pin` a pin of a board, a postal code or typed text, `pan` a camera movement.
    match found.name {
        "pwd" if s.starts_with(['/', '~', '.']) || s.get(1..3).is_some_and(|d| d == ":\\" || d == ":/") => {
            return false;
        }
        "pin" if s.len() < 4 => return false,
        "pincode" if digits && matches!(s.len(), 5 | 6) => return false,
        "sid" if value::is_object_id(s) => return false,
        "pat" | "key" if s.len() < 16 || s.contains(char::is_whitespace) || !value::is_key_like(s) => return false,
        "pass" if found.led && !found.sure && s.bytes().all(|b| b.is_ascii_lowercase() || b" _-".contains(&b)) => {
            return false;
        }
        "accesscode" if s.len() < 4 => return false,
        "keyphrase" if !value::looks_random(s) => return false,
        "secretid" if !value::looks_random(s) && !value::is_uuid(s) => return false,
        _ if found.is_connection() && value::is_open_uri(s) => return false,
        "credential" if matches!(s, "include" | "omit" | "same-origin") => return false,
        _ => {}
    }
    if s.is_empty()
        || value::is_reference(s)
        || value::is_nothing(s)
        || ordinary::is_ordinary(s)
        || found.loose && ordinary::is_name(s)
        || digits && found.is_token() && (found.plural || s.len() < 6)
    {
        return false;
    }
    if found.is_authorization() {
        return !value::is_status(s);
    }
    !found.loose || !s.contains(char::is_whitespace)
}

/// The type names that schemas use.
pub(crate) fn is_schema_type(name: &str) -> bool {
    matches!(name, "string" | "number" | "integer" | "boolean" | "object" | "array" | "null")
}

/// Whether a value contains a text that is not a number. The parser bounds the depth.
fn holds_text(json: &Json) -> bool {
    match json {
        // `["the", "cat"]` are the tokens of a text.
        Json::String(s) => !s.bytes().all(|b| b.is_ascii_digit()) && (s.len() > 16 || value::is_disordered(s)),
        Json::Array(a) => match a.as_slice() {
            [Json::String(alone)] => !alone.bytes().all(|b| b.is_ascii_digit()),
            items => items.iter().any(holds_text),
        },
        Json::Object(o) => o.iter().any(|(_, v)| holds_text(v)),
        _ => false,
    }
}

/// A name that is split between a key and its parent key: `{"api": {"key": …}}`.
fn across(parent: &str, words: &Words) -> Option<Found> {
    let tail = &words.text[..words.trim_digits(words.len)];
    let bucket = TABLE.get(bucket(tail))?;
    if bucket.is_empty() || tail.len() < 2 {
        return None;
    }
    let parent = Words::of(parent);
    let mut found = bucket.iter().filter(|name| {
        name.text.as_bytes().strip_suffix(tail).is_some_and(|head| {
            head.len() > 1
                && parent.joined().ends_with(head)
                && parent.starts_at(parent.len - head.len())
                && (name.fit != Fit::Whole || parent.len == head.len())
        })
    });
    found.next().map(|name| Found { sure: true, ..Found::of(*name, false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(parent: Option<&str>, key: &str, value: &Json) -> Option<Kind> {
        kind_of_member(parent, &Words::of(key), value)
    }

    #[test]
    fn names_in_any_spelling() {
        for key in [
            "password",
            "Password",
            "userPassword",
            "USER_PASSWORD",
            "user-password",
            "dbpassword",
            "password2",
            "password_hash",
            "newPasswordConfirm",
            "apiKey",
            "API-KEY",
            "api.key",
            "api key",
            "x-api-key",
            "APIKey",
            "APIKEY",
            "apikeys",
            "access_token",
            "accessToken",
            "refresh-token",
            "token",
            "id_token",
            "client_secret",
            "clientSecret",
            "Authorization",
            "authorization_header",
            "Proxy-Authorization",
            "Cookie",
            "Set-Cookie",
            "private_key",
            "sessionToken",
            "aws_secret_access_key",
            "pwd",
            "credentials",
            "pin",
            "otp",
            "PASSWD",
        ] {
            assert_eq!(kind_of_key(key), Some(Kind::Secret), "{key}");
        }
        for key in ["credit_card", "creditCardNumber", "card_number", "credit_card_4421486", "cvv", "CVV2", "cardCvc"] {
            assert_eq!(kind_of_key(key), Some(Kind::Card), "{key}");
        }
        for key in ["ssn", "SSN", "patientSSN", "social_security_number", "userssn", "s.s.n."] {
            assert_eq!(kind_of_key(key), Some(Kind::Ssn), "{key}");
        }
        for key in ["dob", "DOB", "date_of_birth", "dateOfBirth", "birth-date", "birthDate", "d.o.b", "patient_dob"] {
            assert_eq!(kind_of_key(key), Some(Kind::BirthDate), "{key}");
        }
        for key in ["email", "e_mail", "E-Mail", "eMail", "emailAddress", "customer_email", "emails", "useremail"] {
            assert_eq!(kind_of_key(key), Some(Kind::Email), "{key}");
        }
    }

    #[test]
    fn names_that_only_look_alike() {
        for key in [
            "token_count",
            "tokenizer",
            "secretary",
            "secretary_name",
            "password_changed_at",
            "password_policy",
            "password_length",
            "email_verified",
            "email_template",
            "process_n",
            "class_n",
            "key",
            "keyboard",
            "monkey",
            "card",
            "card_brand",
            "card_last_four",
            "last_four",
            "authorized",
            "prior_authorization",
            "author",
            "authorization_status",
            "session_id",
            "conversation_id",
            "boarding_pass",
            "map_pin",
            "spin",
            "opinion",
            "birthplace",
            "doberman",
            "compass",
            "passenger",
            "passengers",
            "payment_id",
            "gift_card_123",
            "status",
            "",
            "cookie_consent",
            "_",
            "42",
            "public_key",
            "primary_key",
            "sort_key",
            "company",
        ] {
            assert_eq!(kind_of_key(key), None, "{key}");
        }
    }

    #[test]
    fn counts_of_tokens_are_no_tokens() {
        let number = Json::from(4096u32);
        assert_eq!(member(None, "max_tokens", &number), None);
        assert_eq!(member(None, "tokens", &Json::from("4096")), None);
        assert_eq!(member(None, "tokens", &Json::from(vec!["abc"])), Some(Kind::Secret));
        assert_eq!(member(None, "token", &number), None);
        assert_eq!(member(None, "token", &Json::from(482_913u32)), Some(Kind::Secret));
        assert_eq!(member(None, "has_password", &Json::from(true)), None);
    }

    #[test]
    fn names_split_over_two_levels() {
        let value = Json::from("x");
        assert_eq!(member(Some("api"), "key", &value), Some(Kind::Secret));
        assert_eq!(member(Some("stripeApi"), "Key", &value), Some(Kind::Secret));
        assert_eq!(member(Some("card"), "number", &value), Some(Kind::Card));
        assert_eq!(member(Some("birth"), "date", &value), Some(Kind::BirthDate));
        assert_eq!(member(Some("flight"), "number", &value), None);
        assert_eq!(member(Some("flight"), "date", &value), None);
    }

    #[test]
    fn long_keys_are_read_from_their_end() {
        assert_eq!(kind_of_key(&format!("{}_password", "x".repeat(10_000))), Some(Kind::Secret));
        assert_eq!(kind_of_key(&"é".repeat(1000)), None);
    }
}
