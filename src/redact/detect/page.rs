//! Passwords that a program sets or types in a text: `set_password('…')`, `changePassword("old", "…")`,
//! `getElementById("password").value = "…"`, and those on the line after a prompt.

use super::ends::Source;
use super::value::{is_code, is_nothing, looks_random};
use super::{before, head, tail};
use crate::redact::key_names::labelled;
use crate::redact::secret_keys::{self, Found, Kind};

/// Verbs before a password's name that set or change it.
const VERBS: [&str; 9] = ["set", "change", "update", "reset", "hash", "create", "verify", "check", "encrypt"];

/// Whether a function takes passwords: `changePassword`, `set_password`.
pub(super) fn takes_password(function: &str) -> bool {
    let verb = VERBS.iter().any(|verb| function.get(..verb.len()).is_some_and(|lead| lead.eq_ignore_ascii_case(verb)));
    verb && secret_keys::named(function)
        .is_some_and(|found| found.kind == Kind::Secret && found.sure && !found.is_token())
}

/// The same for a function whose name ends at `to` and names a password starting at `from`.
pub(super) fn is_call(text: &str, from: usize, to: usize) -> bool {
    let lead = tail(text, from, 24);
    let verb = lead.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
    !verb.is_empty() && text.get(from - verb.len()..to).is_some_and(takes_password)
}

/// Whether a literal looks like a real password.
pub(super) fn is_set(value: &str) -> bool {
    looks_random(value) && !value.contains([':', '|', '/', ' ', '(']) && !is_nothing(value)
}

/// The text that is put into a page's field: `querySelector("#password").value = "…"`. The sign is at `at`, and `name`
/// precedes it.
pub(super) fn assigned(text: &Source<'_>, at: usize, name: &str, from: usize) -> Option<(usize, usize)> {
    if name != ".value" {
        return None;
    }
    let lead = tail(text, from, 96).strip_suffix(')')?;
    let quote = lead.chars().next_back().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let label = lead.strip_suffix(quote)?.rsplit(quote).next()?;
    let found = labelled(label).or_else(|| secret_keys::named(label))?;
    let (start, end) = text.value_at(at + 1, false, false)?;
    let value = text.get(start..end)?;
    let quoted = matches!(before(text.as_bytes(), start), Some(b'"' | b'\'' | b'`'));
    (found.kind == Kind::Secret && found.sure && quoted && !is_nothing(value) && !value.starts_with('$'))
        .then_some((start, end))
}

/// The single word on the line after a prompt: `Password:` and the typed text. The name begins at `from`, the colon is
/// at `at`.
pub(super) fn below(text: &str, at: usize, from: usize, found: &Found) -> Option<(usize, usize)> {
    let rest = head(text, at + 1, 160);
    let after =
        rest.trim_start_matches(' ').strip_prefix('\r').unwrap_or(rest.trim_start_matches(' ')).strip_prefix('\n')?;
    let line = after.split(['\n', '\r']).next()?;
    let alone = tail(text, from, 32).rsplit('\n').next().is_some_and(|lead| lead.trim().is_empty());
    let start = at + 1 + rest.len() - after.len();
    let (start, end) = (start, start + line.trim_end().len());
    let word = text.get(start..end)?;
    let kinds = [u8::is_ascii_digit, u8::is_ascii_uppercase, u8::is_ascii_lowercase];
    let mixed = kinds.iter().filter(|f| word.as_bytes().iter().any(f)).count() == 3;
    let sign = word.bytes().any(|b| b"!@#$%^&*".contains(&b));
    (alone && found.sure && word.len() >= 8 && (mixed || sign) && is_set(word) && !is_code(text, start, end))
        .then_some((start, end))
}
