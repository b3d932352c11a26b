//! Secrets and numbers that a label on the same line identifies: form fields as browser snapshots list them, `MBI: …`,
//! `user / password`, keys passed to a command or a call, base64 with a secret in it.

use super::called::{self, Called};
use super::value::{is_code, is_nothing, looks_random};
use super::{Hits, before, head, is_word, tail};
use crate::redact::encoded;
use crate::redact::policy::Detector;
use crate::redact::secret_keys::{self, Kind, Words};

/// The content of a form field in a snapshot of a page: `- textbox "Password" [ref=e6]: …`. The colon is at `at`.
pub(super) fn snapshot(text: &str, at: usize) -> Option<(usize, usize)> {
    const FIELDS: [&str; 5] = ["textbox", "searchbox", "textfield", "input", "field"];
    // `input[type="password"]:focus` is a CSS selector.
    if text.as_bytes().get(at + 1) != Some(&b' ') {
        return None;
    }
    let lead = tail(text, at, 200).rsplit('\n').next()?;
    let (before_label, rest) = lead.split_once('"')?;
    let (label, _) = rest.split_once('"')?;
    if !FIELDS.iter().any(|field| before_label.to_ascii_lowercase().contains(field)) {
        return None;
    }
    let words = || label.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    let sure = |name: &str| secret_keys::named(name).is_some_and(|f| f.kind == Kind::Secret && f.sure);
    if !sure(label) && !words().any(sure) {
        return None;
    }
    let rest = head(text, at + 1, 400);
    let line = rest.split('\n').next()?;
    let value = line.trim().trim_matches(['"', '\'']);
    let start = at + 1 + line.find(value)?;
    (!value.is_empty() && !is_nothing(value)).then_some((start, start + value.len()))
}

/// Numbers that the label before a colon or `=` calls personal: `MBI: 7XN3KD9NR62`, `Tax File Number: 512754697`.
pub(super) fn numbers(text: &str, hits: &mut Hits<'_>) {
    if !hits.wants(Detector::NationalId) {
        return;
    }
    let (mut done, mut last) = (0, 0);
    let signs = text.match_indices(':').chain(text.match_indices('：')).chain(text.match_indices('='));
    for (at, sign) in signs {
        // Each kind of sign is searched for from the start of the text.
        done = if at < last { 0 } else { done };
        last = at;
        let (equals, sign) = (sign == "=", sign.len());
        let rest = head(text, at + sign, 40);
        let value = rest.trim_start_matches([' ', '*', '"', '\'', '`']);
        let first = value.as_bytes().first().copied().unwrap_or(0);
        if !(first.is_ascii_digit() || first.is_ascii_uppercase())
            || value.bytes().take(24).filter(u8::is_ascii_digit).count() < 4
        {
            continue;
        }
        let label = tail(text, at, 56);
        let ends = |b: &u8| matches!(b, b'\n' | b',' | b';' | b'(' | b'|' | b'"' | b'\'' | b'{' | b'.' | b'/' | b':');
        let label = label.get(label.bytes().rposition(|b| ends(&b)).map_or(0, |at| at + 1)..).unwrap_or_default();
        let label = label.trim_matches([' ', '*', '-', '#', '`', '\\', '.']);
        // Short labels are words too: `sin`, `rut`.
        let last = label.rsplit(' ').next().unwrap_or_default();
        let short = last.len() == label.len()
            && last.len() <= 4
            && last.is_ascii()
            && !last.bytes().any(|b| b.is_ascii_uppercase());
        if label.len() < 3 || short || !called::may_end(label) {
            continue;
        }
        // An account number after a colon is found elsewhere, by its name and the words of a bank around it.
        let called = called::of_key(&Words::of(label)).filter(|called| equals || *called != Called::Account);
        let Some(detector) = called.map(Called::detector) else { continue };
        let part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '/' | ' ' | '+');
        let len = value.find(|c: char| !part(c)).unwrap_or(value.len());
        let number = value.get(..len).unwrap_or_default().trim_end_matches([' ', '.', '-', '/', '+']);
        // A following word that begins with a capital is not part of it.
        let glued = value.as_bytes().get(number.len()).is_some_and(|b| is_word(*b));
        let number = if glued { number.rsplit_once(' ').map_or("", |(number, _)| number) } else { number };
        let start = at + sign + rest.len() - value.len();
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        let decimal = number.bytes().filter(|b| *b == b'.').count() == 1
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if start >= done && !called::is_date(number) && (7..=24).contains(&number.len()) && digits >= 4 && !decimal {
            hits.add(detector, start, start + number.len());
            done = start + number.len();
        }
    }
}

/// Whether a word looks like a password: three kinds of characters and long enough.
fn is_password(word: &str) -> bool {
    let has = |f: fn(&u8) -> bool| word.as_bytes().iter().any(f);
    word.len() >= 8
        && word.is_ascii()
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && looks_random(word)
        && !is_nothing(word)
        && !word.contains(['/', '(', '=', '<', '{', '[', '"'])
}

/// `root / …` where nearby words say that these are a user and a password. The slash and its spaces are at `from..to`.
pub(super) fn pair(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    const SAID: [&str; 12] = [
        "password",
        "passwort",
        "login",
        "credential",
        "creds",
        "user",
        "log in",
        "sign in",
        "pass",
        "access",
        "admin",
        "root",
    ];
    let lead = tail(text, from, 48);
    let user = lead.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '"' | '\'' | '`' | ':' | '>')).next()?;
    let name = (2..=40).contains(&user.len())
        && user.starts_with(|c: char| c.is_ascii_alphabetic())
        && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@+".contains(&b));
    let rest = head(text, to, 72);
    let word = rest.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ')' | ',')).next()?;
    let word = word.trim_end_matches(['.', ';']);
    let near = || [tail(text, from, 160), head(text, to + word.len(), 100)].concat().to_ascii_lowercase();
    (name && is_password(word) && SAID.iter().any(|said| near().contains(said))).then_some((to, to + word.len()))
}

/// The key after a word that announces one in a command: `preshared-key <(echo …)`.
pub(super) fn curve(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 96);
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let mut at = 0;
    for run in rest.split_inclusive(|c: char| !base64(c)) {
        let bare = run.trim_end_matches(|c: char| !base64(c));
        if bare.len() == 43 && run.ends_with('=') {
            return Some((to + at, to + at + 44));
        }
        at += run.len();
        if at > 40 {
            break;
        }
    }
    None
}

/// The first string of a call that builds a cipher, a signer or a wallet from a key: `Fernet(b"…")`,
/// `new Wallet("0x…")`, or of a list of accounts: `accounts: ["0x…"]`.
pub(super) fn keyed(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 160);
    let inner = rest.trim_start_matches([' ', '\n', '\t', '[', 'b']);
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let value = inner.get(1..)?;
    let value = value.get(..value.find(quote)?)?;
    let start = to + rest.len() - inner.len() + 1;
    let hex = value.trim_start_matches("0x");
    let key = hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) || value.len() >= 16 && looks_random(value);
    (key && !value.contains(' ') && !is_nothing(value) && !is_code(text, start, start + value.len()))
        .then_some((start, start + value.len()))
}

/// A header with its name and value as separate words in a server's configuration:
/// `proxy_set_header X-Internal-Token "…";`.
pub(super) fn header(text: &str, to: usize) -> Option<(usize, usize)> {
    let line = head(text, to, 240).split('\n').next()?;
    let name = line.split([' ', '\t']).next()?;
    let found = secret_keys::named(name).filter(|found| found.kind == Kind::Secret)?;
    let rest = line.get(name.len()..)?;
    let inner = rest.trim_start().trim_start_matches(['"', '\'']);
    let inner = ["Bearer ", "Basic ", "Token "].iter().find_map(|scheme| inner.strip_prefix(scheme)).unwrap_or(inner);
    let len = inner.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';')).unwrap_or(inner.len());
    let value = inner.get(..len)?;
    let start = to + line.len() - inner.len();
    let tells = super::credential::telling(value)
        || found.sure && value.len() >= 6 && value.bytes().any(|b| b.is_ascii_digit());
    (tells && !value.starts_with(['$', '%']) && !is_nothing(value)).then_some((start, start + len))
}

/// Base64 or hexadecimal digits within a text that decode to a text in which something is found: `echo … | base64 -d`.
pub(super) fn encoded(text: &str, hits: &mut Hits<'_>) {
    const SHORTEST: usize = 22;
    const LONGEST: usize = 1 << 16;
    let bytes = text.as_bytes();
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let mut at = 0;
    // A match fills a whole window of the shortest length, so most windows are skipped from their end.
    while let Some(window) = bytes.get(at..at + SHORTEST) {
        if let Some(other) = window.iter().rposition(|b| !base64(b)) {
            at += other + 1;
            continue;
        }
        let start = at;
        let len = bytes.get(start..).map_or(0, |rest| rest.iter().take_while(|b| base64(b)).count());
        let end = start + len;
        let padded = end + bytes.get(end..).map_or(0, |rest| rest.iter().take(2).take_while(|b| **b == b'=').count());
        at = padded.max(end);
        // A text that is encoded as a whole is treated as a whole.
        let whole = padded == text.len() && (matches!(text.get(..start), Some("" | "\\")) || text.starts_with("data:"));
        let joined = before(bytes, start).is_some_and(|b| matches!(b, b'_' | b'-' | b'.'));
        if whole || joined || !(SHORTEST..=LONGEST).contains(&len) {
            continue;
        }
        // Most words do not decode to text, which shows in their first characters, behind the `x` of a database's bytes.
        let begins =
            |from: usize| text.get(from..from + 16).and_then(encoded::decoded).is_some_and(|first| first.is_ascii());
        let of_database = || bytes.get(start) == Some(&b'x') && begins(start + 1);
        if !(begins(start) || of_database()) {
            continue;
        }
        let Some(plain) = text.get(start..padded).and_then(encoded::decoded) else { continue };
        let mut found = Vec::new();
        super::scan(&plain, None, hits.wanted, &mut found);
        if let Some(kind) = found.first().map(|hit| hit.kind) {
            hits.out.push(super::Hit { start, end: padded, kind });
        }
    }
}
