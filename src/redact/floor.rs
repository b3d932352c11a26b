//! The floor: which keys name a secret, whatever their case, separators or depth.
//!
//! A key is read as words (`userPassword`, `USER-PASSWORD` and `user.password` are all *user password*) and
//! compared, from its end, with the names below. Words that only qualify (`password_hash`, `new_password_confirm`,
//! `token2`) are taken off first; any other word after the name makes it something else, so `token_count`,
//! `password_changed_at` and `email_verified` stay. Nothing is allocated for a key, matching or not.

use crate::json::Json;
use std::sync::LazyLock;

/// What a sensitive key is expected to hold; it names the placeholder and the pseudonym's domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Passwords, tokens, keys: whoever has one can act.
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

/// How much of the key a name has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// The whole key, as `pin`: `map_pin` is something else.
    Whole,
    /// The last words of the key.
    Words,
    /// The end of the key, in the middle of a word too, as in `dbpassword`.
    End,
    /// As `End`, but no word may begin inside the name: `process_n` is no *ssn*.
    Tight,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    text: &'static str,
    fit: Fit,
    kind: Kind,
}

/// The names, by what they hold and how they match; words joined without separators.
const NAMES: &[(Kind, Fit, &str)] = &[
    (
        Kind::Secret,
        Fit::End,
        "password passwd passphrase passcode passwort kennwort contrasena contraseña motdepasse senha wachtwoord \
         token secret apikey secretkey privatekey privkey accesskey signingkey encryptionkey masterkey sharedkey \
         subscriptionkey accountkey servicekey serviceaccountkey sshkey authkey hmackey credential cookie \
         jsessionid phpsessid xamzsignature xgoogsignature mnemonic seedphrase recoveryphrase connectionstring",
    ),
    (Kind::Secret, Fit::Tight, "pwd"),
    (
        Kind::Secret,
        Fit::Words,
        "jwt otp totp csrf xsrf creds bearer secretid authcode authorizationcode securitycode pincode cardpin atmpin \
         pinnumber userpin accountpin loginpin recoverycode backupcode mfacode verificationcode onetimecode \
         basicauth httpauth proxyauth xauth userauth proxyauthorization httpauthorization xauthorization \
         requestauthorization userpass dbpass databasepass smtppass ftppass adminpass rootpass mysqlpass pgpass \
         redispass proxypass loginpass keypass storepass sshpass sessionkey connstr dsn",
    ),
    (Kind::Secret, Fit::Whole, "authorization auth pass pin sid connectsid"),
    (
        Kind::Card,
        Fit::End,
        "creditcard creditcardnumber creditcardno creditcardnum debitcard debitcardnumber cardnumber cardnum \
         paymentcard paymentcardnumber bankcard cardpan primaryaccountnumber ccnumber ccnum cardverificationvalue \
         cardverificationcode cardsecuritycode",
    ),
    (Kind::Card, Fit::Words, "cardno ccno cardcsc"),
    (Kind::Card, Fit::Tight, "cvv cvc"),
    (Kind::Card, Fit::Whole, "pan"),
    (Kind::Ssn, Fit::End, "ssnnumber ssnno socialsecurity socialsecuritynumber socialsecurityno socialinsurancenumber"),
    (Kind::Ssn, Fit::Tight, "ssn"),
    (Kind::Ssn, Fit::Words, "itin taxid taxidnumber taxpayerid"),
    (Kind::Ssn, Fit::Whole, "ssn"),
    (Kind::BirthDate, Fit::End, "dateofbirth birthdate birthday birthdt"),
    (Kind::BirthDate, Fit::Tight, "dob"),
    (Kind::BirthDate, Fit::Words, "born bornon"),
    (Kind::BirthDate, Fit::Whole, "dob"),
    (Kind::Email, Fit::End, "email emailaddress emailaddr emailid mailaddress"),
    (Kind::Email, Fit::Whole, "mail"),
];

/// Words that say how a secret is given, not what it is.
const QUALIFIERS: &[&str] = &[
    "hash",
    "hashed",
    "digest",
    "value",
    "val",
    "plain",
    "plaintext",
    "raw",
    "encrypted",
    "enc",
    "encoded",
    "base",
    "b",
    "string",
    "str",
    "confirm",
    "confirmation",
    "confirmed",
    "repeat",
    "again",
    "old",
    "new",
    "current",
    "previous",
    "header",
    "data",
    "field",
    "input",
    "param",
];

/// Names that end in the same two letters stand together, so that most keys meet an empty list.
const BUCKETS: usize = 1024;

static TABLE: LazyLock<Vec<Vec<Name>>> = LazyLock::new(|| {
    let mut table = vec![Vec::new(); BUCKETS];
    for &(kind, fit, texts) in NAMES {
        for text in texts.split_ascii_whitespace() {
            if let Some(slot) = table.get_mut(bucket(text.as_bytes())) {
                slot.push(Name { text, fit, kind });
            }
        }
    }
    table
});

/// The buckets that a key can end in and still be something: those of names, of their plurals, and of qualifiers.
static ENDINGS: LazyLock<[bool; BUCKETS]> = LazyLock::new(|| {
    let mut endings = [false; BUCKETS];
    let mut mark = |text: &[u8]| {
        if let Some(slot) = endings.get_mut(bucket(text)) {
            *slot = true;
        }
    };
    for name in TABLE.iter().flatten() {
        mark(name.text.as_bytes());
        mark(&[name.text.as_bytes().last().copied().unwrap_or_default(), b's']);
    }
    for qualifier in QUALIFIERS {
        match qualifier.as_bytes() {
            [one] => (0..32).for_each(|before| mark(&[before, *one])),
            longer => mark(longer),
        }
    }
    endings
});

/// Whether a key can name a secret, from its last two letters; most cannot, and are not read any further.
pub(crate) fn may_be_secret(key: &str) -> bool {
    match last_two(key, |b| b.is_ascii_digit()) {
        Some(ending) => ENDINGS.get(bucket(&ending)).copied().unwrap_or(true),
        None => false,
    }
}

/// The last two characters of a key, in lower case, without separators and what else is skipped at its end.
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

/// How many bytes of a key are looked at, from its end.
const SPAN: usize = 63;

/// A key in lower case without separators, and where its words begin.
pub(crate) struct Words {
    text: [u8; SPAN],
    len: usize,
    starts: u64,
}

impl Words {
    pub(crate) fn of(key: &str) -> Words {
        let bytes = key.as_bytes();
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
                // `APIKey` is *api key*, but the plural of `APIs` is no word of its own.
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

    fn starts_at(&self, at: usize) -> bool {
        at < SPAN && self.starts >> at & 1 == 1
    }

    /// Where the last word of the first `len` bytes begins.
    fn last_word(&self, len: usize) -> usize {
        let seen = self.starts & ((1 << len) - 1);
        (u64::BITS - 1).saturating_sub(seen.leading_zeros()) as usize
    }

    /// Without the digits at the end: `password2`, `credit_card_4421486`.
    fn trim_digits(&self, mut len: usize) -> usize {
        while len > 0 && self.text[len - 1].is_ascii_digit() {
            len -= 1;
        }
        len
    }

    /// Without the last word, if it only qualifies the others.
    fn trim_qualifier(&self, len: usize) -> Option<usize> {
        let start = self.last_word(len);
        let last = &self.text[start..len];
        (start > 0 && QUALIFIERS.iter().any(|q| q.as_bytes() == last)).then(|| self.trim_digits(start))
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

/// What a value under `key` is, if the key names a secret.
pub(crate) fn kind_of_key(key: &str) -> Option<Kind> {
    if !may_be_secret(key) {
        return None;
    }
    find(&Words::of(key)).map(|(name, _)| name.kind)
}

/// The name that fits, and whether it stood in the plural.
fn find(words: &Words) -> Option<(Name, bool)> {
    let mut len = words.trim_digits(words.len);
    loop {
        if let Some(name) = words.find(len) {
            return Some((name, false));
        }
        let plural = len > 3 && words.text[len - 1] == b's';
        if let Some(name) = if plural { words.find(len - 1) } else { None } {
            return Some((name, true));
        }
        len = words.trim_qualifier(len)?;
    }
}

/// What `value` under a key is, if it is to be replaced. Truth values, `null` and what is empty tell nothing.
/// `words` are those of its key.
pub(crate) fn kind_of_member(parent: Option<&str>, words: &Words, value: &Json) -> Option<Kind> {
    let found = match find(words) {
        Some(found) => Some(found),
        None => parent.and_then(|p| across(p, words)).map(|name| (name, false)),
    };
    let (name, plural) = found?;
    let tells = match value {
        Json::Null | Json::Bool(_) => false,
        Json::String(s) => !s.is_empty(),
        Json::Array(a) => !a.is_empty(),
        Json::Object(o) => !o.is_empty(),
        Json::Number(_) => true,
    };
    // `max_tokens` and `total_tokens` count what a model read; `tokens` with text in it does not.
    let counts = plural && name.text == "token" && !holds_text(value);
    (tells && !counts).then_some(name.kind)
}

fn holds_text(value: &Json) -> bool {
    match value {
        Json::String(s) => !s.bytes().all(|b| b.is_ascii_digit()),
        Json::Array(a) => a.iter().any(|v| matches!(v, Json::String(_) | Json::Object(_) | Json::Array(_))),
        Json::Object(o) => o.iter().any(|(_, v)| matches!(v, Json::String(_) | Json::Object(_) | Json::Array(_))),
        _ => false,
    }
}

/// A name that is split between a key and the key around it: `{"api": {"key": …}}`.
fn across(parent: &str, words: &Words) -> Option<Name> {
    let tail = &words.text[..words.trim_digits(words.len)];
    let bucket = TABLE.get(bucket(tail))?;
    if bucket.is_empty() || tail.len() < 2 {
        return None;
    }
    let parent = Words::of(parent);
    bucket.iter().copied().find(|name| {
        name.text.as_bytes().strip_suffix(tail).is_some_and(|head| {
            head.len() > 1
                && parent.joined().ends_with(head)
                && parent.starts_at(parent.len - head.len())
                && (name.fit != Fit::Whole || parent.len == head.len())
        })
    })
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
        assert_eq!(member(None, "token", &number), Some(Kind::Secret));
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
