//! Secrets next to their names in a text: `password=…`, `"api_key": "…"`, `Cookie: …`, `<password>…<`, table rows, YAML
//! blocks, pairs of name and value; `command` adds command lines.
//!
//! This is what the floor does for keys, applied where the text is not valid JSON: command lines, logs, URLs, headers,
//! configuration, truncated JSON. A name in quotes counts whatever its kind. Without quotes and before a colon, only
//! names of secrets count, because *e-mail:* and *card number:* also occur in prose, where the value detectors do
//! better. Texts can also be programs: the text after a name is a secret only if it is not a call, type, variable or
//! placeholder (`value`), and after a name with other meanings (`token`, `secret`) only if it looks like a secret.

use super::ends::{Source, value_at};
use super::value::{
    goes_on, is_code, is_masked, is_nothing, is_open_uri, is_reference, is_sentence, is_status, is_uuid, looks_random,
};
use super::{Hits, before, command, head, marked, markup, ordinary, page, told, vendors};
use crate::redact::policy::Detector;
use crate::redact::secret_keys::{self, Found, Kind};

/// The maximum number of spaces between a name and its sign, for aligned settings.
const ALIGNED: usize = 24;
/// The maximum length of a name.
pub(super) const NAME: usize = 64;

/// The signs that may stand between a name and its value.
const SIGNS: [bool; 256] = {
    let mut table = [false; 256];
    let signs = b":=->|,";
    let mut i = 0;
    while i < signs.len() {
        table[signs[i] as usize] = true;
        i += 1;
    }
    table
};

pub(super) fn find(text: &str, named: bool, hits: &mut Hits<'_>) {
    in_source(&Source::of(text), named, hits);
}

pub(super) fn in_source(text: &Source<'_>, named: bool, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut i = 0;
    let calls = text.contains('(');
    while let Some(at) = bytes.get(i..).and_then(|b| b.iter().position(|b| SIGNS[usize::from(*b)])) {
        let at = i + at;
        i = at + 1;
        if at < done {
            continue;
        }
        let value = match bytes.get(at) {
            Some(b'-') if before(bytes, at) == Some(b'<') => arrow(text, at, done),
            Some(b'-') => command::flag(text, at).or_else(|| command::short_flag(text, at)),
            Some(b'>') => markup::element(text, at, done),
            Some(b'|') => command::piped(text, at, done).or_else(|| markup::cell(text, at, done)),
            Some(b',') => {
                let given = || if calls { in_call(text, at).filter(|(start, _)| *start >= done) } else { None };
                second_string(text, at, done).or_else(given)
            }
            _ if named => after_name(text, at, done),
            _ => None,
        };
        if let Some((start, end)) = value.filter(|(start, end)| {
            *start >= done && !stands_for(text.get(*start..*end).unwrap_or_default()) && !is_masked(text, *start)
        }) {
            hits.add(Detector::Credential, start, end);
            done = end;
            i = end.max(i);
        }
    }
}

/// A value longer than this is a secret, whatever it looks like, so it is not read twice.
pub(super) const LONG: usize = 4096;

/// Whether a value reveals nothing. For a long value only its beginning is judged, and repetition does not count.
fn stands_for(value: &str) -> bool {
    if value.len() <= LONG { is_nothing(value) } else { is_nothing(&[head(value, 0, 64), "…"].concat()) }
}

/// How a name precedes its value.
struct Beside {
    found: Found,
    /// The name is in quotes, as in JSON.
    quoted: bool,
    /// The sign is `=` without spaces, and the name is that of an environment variable, a query parameter or a flag.
    tight: bool,
    colon: bool,
}

/// The value after `:`, `=`, `=>` or `:=` at `at`, if the name of a secret precedes it.
fn after_name(text: &Source<'_>, at: usize, done: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let next = bytes.get(at + 1).copied();
    let colon = bytes.get(at) == Some(&b':');
    // `::` belongs to a path in code, and `==` is a comparison.
    if next == bytes.get(at).copied()
        || (colon && next == Some(b'/'))
        || matches!(before(bytes, at), Some(b':' | b'=' | b'!' | b'<' | b'>' | b'~') if colon || before(bytes, at) != Some(b':'))
    {
        return None;
    }
    if colon
        && next.is_some_and(|b| b.is_ascii_hexdigit())
        && before(bytes, at).is_some_and(|b| b.is_ascii_digit())
        && let Some(found) = vendors::asana(text, at)
    {
        return Some(found);
    }
    // `password :'name'` is a variable of a database shell.
    if colon && matches!(next, Some(b'\'' | b'"')) && before(bytes, at) == Some(b' ') {
        return None;
    }
    if colon
        && next.is_some_and(|b| b.is_ascii_digit() || b == b'*')
        && let Some(found) = told::pgpass(text, at)
    {
        return Some(found);
    }
    if colon
        && before(bytes, at) == Some(b']')
        && let Some(found) = marked::snapshot(text, at)
    {
        return Some(found);
    }
    // `input[type="password"]:focus`
    if colon && before(bytes, at) == Some(b']') && next.is_some_and(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let (name, quoted, from) = name_before(text, at, done)?;
    // `query($password: String!)` gives a type.
    if before(bytes, from) == Some(b'$')
        && colon
        && head(text, at + 1, 48).trim_start().starts_with(|c: char| c == '[' || c.is_ascii_uppercase())
    {
        return None;
    }
    // `arn:aws:secretsmanager:…:secret:…` is the name of a secret.
    if colon && before(bytes, from) == Some(b':') && super::tail(text, from, 160).contains("arn:") {
        return None;
    }
    let Some((name, found)) = named_in(name) else {
        return match colon {
            true => announced(text, at, name),
            false => in_query(text, at, name, from)
                .or_else(|| told::set_where(text, at, name))
                .or_else(|| declared(text, at, from))
                .or_else(|| page::assigned(text, at, name, from))
                .or_else(|| announced(text, at, name)),
        };
    };
    let mut start = at + 1;
    if next == Some(b'>') || next == Some(b'=') {
        start += 1;
    }
    let plain = found.kind == Kind::Secret || !colon && found.kind != Kind::Email || found.name.contains("cv");
    if !quoted && !plain {
        return None;
    }
    if colon && let Some(block) = block(text, start, from).or_else(|| page::below(text, at, from, &found)) {
        return Some(block);
    }
    let lead = before(bytes, from);
    let upper = name.rsplit(' ').next().unwrap_or(name);
    let upper = upper.bytes().any(|b| b.is_ascii_uppercase()) && !upper.bytes().any(|b| b.is_ascii_lowercase());
    let spaced = matches!(before(bytes, at), Some(b' ')) || matches!(bytes.get(start), Some(b' '));
    let tight = !colon
        && !spaced
        && (upper || name.starts_with("--") || matches!(lead, Some(b'?' | b'&' | b'-' | b';' | b'#')));
    // A header's value extends to the end of its line.
    let is =
        |word: &[u8]| name.len() >= word.len() && name.as_bytes()[name.len() - word.len()..].eq_ignore_ascii_case(word);
    let header = colon && !quoted && found.kind == Kind::Secret && (is(b"cookie") || is(b"authorization"));
    if found.name == "auth" && !colon {
        return after_auth(text, start, name == "_auth" && !quoted, tight);
    }
    let directory = found.name == "pwd";
    let value = text.value_at(start, header, quoted)?;
    // A shell command that fetches the secret.
    let run = !colon && before(bytes, value.0) == Some(b'`') && text.get(value.0..value.1)?.contains(' ');
    if run {
        return None;
    }
    if directory && matches!(bytes.get(value.0), Some(b'/' | b'~' | b'$' | b'\\' | b'.')) {
        return None;
    }
    believable(text, value, &Beside { found, quoted, tight, colon }).then_some(value)
}

/// The value at `start` after `auth=`: npm's `_auth=…`, which is a user and a password in base64, a pair of texts, or, where
/// the assignment is tight, what looks like a secret.
fn after_auth(text: &Source<'_>, start: usize, npm: bool, tight: bool) -> Option<(usize, usize)> {
    let value = text
        .value_at(start, false, false)
        .filter(|(a, b)| npm && b - a >= 8 && !text[*a..*b].starts_with(['$', '"', '\'']));
    let sent = || text.value_at(start, false, false).filter(|(a, b)| tight && b - a >= 20 && tells(&text[*a..*b]));
    value.or_else(|| pair_of_strings(text, start)).or_else(sent)
}

/// An assignment in R: `password <- "…"`. The arrow's hyphen is at `at`.
fn arrow(text: &Source<'_>, at: usize, done: usize) -> Option<(usize, usize)> {
    let (name, ..) = name_before(text, at.checked_sub(1)?, done)?;
    let (_, found) = named_in(name).filter(|(_, found)| found.kind == Kind::Secret)?;
    let value = text.value_at(at + 1, false, false)?;
    let quoted = matches!(before(text.as_bytes(), value.0), Some(b'"' | b'\''));
    let beside = Beside { found, quoted: false, tight: false, colon: false };
    (quoted && believable(text, value, &beside)).then_some(value)
}

/// The initial value of a constant or variable named after a secret, after its type: `const API_KEY: &str = "…"`.
fn declared(text: &Source<'_>, at: usize, from: usize) -> Option<(usize, usize)> {
    let lead = super::tail(text, from, NAME).rsplit('\n').next()?;
    let lead = lead.trim_end_matches(['&', '\'', ' ', '*']).strip_suffix(':')?.trim_end();
    let name = lead.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
    let found = secret_keys::named(name).filter(|found| found.kind == Kind::Secret)?;
    let (start, end) = text.value_at(at + 1, false, false)?;
    let constant = text.get(start..end)?.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let quoted = matches!(before(text.as_bytes(), start), Some(b'"' | b'\'')) && !constant;
    let beside = Beside { found, quoted: false, tight: false, colon: false };
    (quoted && believable(text, (start, end), &beside)).then_some((start, end))
}

/// Credentials in the query of a link: `/callback?code=…&state=…`, `/verify?key=…`.
fn in_query(text: &Source<'_>, at: usize, name: &str, from: usize) -> Option<(usize, usize)> {
    const LEADS: [&str; 12] = [
        "grant_type",
        "callback",
        "/cb",
        "redirect",
        "oauth",
        "verify",
        "activate",
        "reset",
        "confirm",
        "invite",
        "magic",
        "login",
    ];
    let name = name.rsplit(' ').next()?;
    if !matches!(name, "code" | "key" | "t" | "k" | "hash")
        || !matches!(before(text.as_bytes(), from), Some(b'?' | b'&'))
    {
        return None;
    }
    let (start, end) = text.value_at(at + 1, false, false)?;
    let link = super::tail(text, from, 120).rsplit([' ', '"', '\'', '\n']).next()?;
    let whole = head(text, start, (end - start).min(LONG));
    let long = name == "key" && end - start >= 32 && !whole.contains(['/', '.']);
    let way = long
        || LEADS.iter().any(|lead| link.contains(lead))
        || name == "code" && head(text, end, 64).contains("state=");
    (way && end - start >= 20 && tells(text.get(start..end)?)).then_some((start, end))
}

/// The password among the arguments of a call that takes one by position: `smtp.login("user", "…")`.
fn in_call(text: &str, at: usize) -> Option<(usize, usize)> {
    const CALLS: [(&str, usize); 27] = [
        ("mysql_real_connect", 3),
        ("mysql_connect", 2),
        ("ftp_login", 2),
        ("imap_open", 2),
        ("ssh2_auth_password", 2),
        ("ldap_bind", 2),
        ("odbc_connect", 2),
        ("login", 1),
        ("HTTPBasicAuth", 1),
        ("HTTPDigestAuth", 1),
        ("basicAuth", 1),
        ("basic_auth", 1),
        ("auth", 1),
        ("NetworkCredential", 1),
        ("PasswordCredential", 1),
        ("setBasicAuth", 1),
        ("SetBasicAuth", 1),
        ("begin", 1),
        ("getConnection", 2),
        ("mysqli_connect", 2),
        ("mysqli", 2),
        ("connect", 2),
        ("pgp_sym_encrypt", 1),
        ("pgp_sym_decrypt", 1),
        ("AES_DECRYPT", 1),
        ("PDO", 2),
        ("sign", 1),
    ];
    let lead = super::tail(text, at, 200);
    let open = lead.rfind('(')?;
    let function = lead.get(..open)?.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
    let sign = function == "sign" || function == "encode";
    if sign && !lead.get(..open)?.ends_with(&format!("jwt.{function}")) {
        return None;
    }
    let given = lead.get(open + 1..)?.split(',').count();
    let sets = page::takes_password(function);
    let listed = || CALLS.iter().find(|(name, _)| *name == function).map(|(_, place)| *place);
    let place = if function == "encode" {
        1
    } else if sets {
        given
    } else {
        listed()?
    };
    if given != place {
        return None;
    }
    let begin = function != "begin" || lead.get(..open)?.to_ascii_lowercase().ends_with("wifi.begin");
    let rest = head(text, at + 1, LONG);
    let inner = rest.trim_start();
    let quote = inner.chars().next().filter(|c| begin && matches!(c, '"' | '\''))?;
    let value = inner.get(1..)?;
    let value = value.get(..value.find(quote)?)?;
    let start = at + 1 + rest.len() - inner.len() + 1;
    let tells = value.len() >= 4
        && !value.contains([' ', '/', ':'])
        && !is_reference(value)
        && !value.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (tells && !value.starts_with('$') && (!sets || page::is_set(value))).then_some((start, start + value.len()))
}

/// The second of two strings in parentheses: `auth=("user", "…")`.
fn pair_of_strings(text: &str, start: usize) -> Option<(usize, usize)> {
    let near = head(text, start, 256);
    let inner = near.trim_start().strip_prefix('(')?;
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (_, rest) = inner.get(1..)?.split_once(quote)?;
    let rest = rest.trim_start().strip_prefix(',')?.trim_start().strip_prefix(quote)?;
    let end = rest.find(quote).filter(|end| *end > 0)?;
    let at = start + near.len() - rest.len();
    Some((at, at + end))
}

/// The second argument of a call whose first argument names a secret: `define('DB_PASSWORD', '…')`,
/// `.header("X-Api-Key", "…")`. The comma is at `at`.
fn second_string(text: &str, at: usize, done: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let quote = before(bytes, at).filter(|b| matches!(b, b'"' | b'\''))?;
    let next = at + 1 + bytes.get(at + 1..)?.iter().take(ALIGNED).take_while(|b| **b == b' ').count();
    if bytes.get(next) != Some(&quote) {
        return None;
    }
    let lead = super::tail(text, at - 1, NAME).as_bytes();
    let open = lead.iter().rposition(|b| *b == quote)?;
    let name = text.get(at - lead.len() + open..at - 1)?;
    let opens = open.checked_sub(1).and_then(|i| lead.get(i)).copied();
    if at - 1 - name.len() < done || !matches!(opens, Some(b'(' | b'[')) {
        return None;
    }
    let found = secret_keys::named(name).filter(|found| found.kind == Kind::Secret)?;
    let start = next + 1;
    let end = start + head(text, start, LONG).bytes().position(|b| b == quote)?;
    let value = text.get(start..end)?;
    // `["password", "…"]`: a list of exactly two.
    if opens == Some(b'[') {
        let pair = head(text, end + 1, 8).trim_start().starts_with(']');
        return (pair && found.sure && !found.loose && page::is_set(value)).then_some((start, end));
    }
    let word = value.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-' | b' '));
    let status = found.is_authorization() && is_status(value);
    let tells = !value.is_empty() && !word && !is_sentence(value) && !is_reference(value) && !status;
    (tells && (found.sure || telling(value) || found.is_authorization())).then_some((start, end))
}

/// Whether the text after a name is a secret, rather than part of a program or a sentence.
fn believable(text: &str, (start, end): (usize, usize), beside: &Beside) -> bool {
    let (Some(value), found) = (text.get(start..end), beside.found) else { return false };
    let bytes = text.as_bytes();
    if value.len() > LONG {
        return true;
    }
    if found.kind != Kind::Secret {
        let numbered = !matches!(found.kind, Kind::Ssn | Kind::Card) || value.chars().any(char::is_numeric);
        return numbered && !is_code(text, start, end);
    }
    if is_masked(text, start)
        || is_open_uri(value) && found.is_connection()
        || ordinary::is_ordinary(value)
        || found.loose && ordinary::is_name(value)
        || ordinary::is_pattern(head(text, start, (end - start).saturating_add(2)))
        || value.starts_with("arn:")
    {
        return false;
    }
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    // A field number: `string password = 4;`
    if digits
        && !beside.tight
        && !beside.colon
        && value.len() <= 3
        && matches!(bytes.get(end), Some(b';' | b' ' | b','))
    {
        return false;
    }
    if digits && (found.is_token() || found.name == "secret") && (found.plural || value.len() < 6) {
        return false;
    }
    if found.is_authorization() {
        // `Authorization: ApiKey …`
        let last = value.rsplit(' ').next().unwrap_or_default();
        if is_status(value) {
            return false;
        }
        if telling(last) && !is_code(text, start, end) {
            return true;
        }
    }
    if found.name == "cookie" && !beside.quoted {
        return value.contains('=') && holds_session(value) && !is_code(text, start, end);
    }
    let in_quotes = matches!(before(bytes, start), Some(b'"' | b'\'' | b'`'));
    if found.loose && value.contains(char::is_whitespace) && !in_quotes {
        return false;
    }
    let phrase = matches!(
        found.name,
        "mnemonic" | "seedphrase" | "recoveryphrase" | "passphrase" | "secretphrase" | "seedwords"
    );
    if in_quotes || value.starts_with(['{', '[']) {
        return beside.quoted && found.sure && !is_reference(value)
            || (!is_sentence(value) || phrase)
                && !is_reference(value)
                && (found.sure || beside.quoted || beside.tight || telling(value));
    }
    if is_code(text, start, end) {
        return false;
    }
    if beside.tight {
        return value.len() >= 3 || found.sure;
    }
    // A sentence, or a variable, or a type.
    let spaced = text.as_bytes().get(start.wrapping_sub(1)) == Some(&b' ');
    if spaced && !phrase && !beside.quoted && (goes_on(text, start, end) || is_declared(text, start, end, beside.colon))
    {
        return false;
    }
    found.sure || beside.quoted || telling(value)
}

/// Whether a cookie contains a credential, not only display settings: `theme=dark; lang=en`.
fn holds_session(cookies: &str) -> bool {
    cookies.split(';').filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        let name = name.trim().to_ascii_lowercase();
        const SHOWN: [&str; 12] = [
            "theme", "lang", "locale", "path", "domain", "max-age", "expires", "samesite", "currency", "timezone",
            "consent", "dark",
        ];
        !SHOWN.contains(&name.as_str())
            || looks_random(value) && !matches!(name.as_str(), "path" | "domain" | "max-age" | "expires")
    })
}

/// Whether a value is used like a variable or a type: `password: SecretText,`, `password = user_input;`.
fn is_declared(text: &str, start: usize, end: usize, colon: bool) -> bool {
    let value = text.get(start..end).unwrap_or_default();
    let next = text.as_bytes().get(end).copied();
    if value.bytes().any(|b| !b.is_ascii_alphabetic() && b != b'_') {
        return false;
    }
    let camel = value.starts_with(|c: char| c.is_ascii_uppercase())
        && value.bytes().skip(1).any(|b| b.is_ascii_uppercase())
        && value.bytes().any(|b| b.is_ascii_lowercase())
        && value.bytes().filter(u8::is_ascii_uppercase).count() * 3 < value.len();
    let ended = matches!(next, Some(b',' | b';' | b')'));
    camel && (ended || colon && next.is_none_or(|b| b == b'\n'))
        || !colon && (value.contains('_') || next == Some(b';'))
        || ended && value.contains('_')
}

/// The same for a value that may be long.
fn tells(value: &str) -> bool {
    value.len() > LONG || telling(value)
}

/// Whether a value looks like a secret, for names that also have other meanings.
pub(super) fn telling(value: &str) -> bool {
    looks_random(value)
        || is_uuid(value)
        || value.len() >= 7
            && value.bytes().filter(u8::is_ascii_digit).count() > 0
            && value.bytes().all(|b| b.is_ascii_alphanumeric())
            && value.bytes().any(|b| b.is_ascii_alphabetic())
            && !value.starts_with(|c: char| c.is_ascii_digit())
}

/// Words before *pass* that give it another meaning.
const HARMLESS_BEFORE: [&str; 8] = ["boarding", "season", "first", "second", "bus", "ski", "day", "hall"];

/// The secret's name within a phrase: *my pin*, *password for root*, *the api key for staging*.
fn named_in(name: &str) -> Option<(&str, Found)> {
    if let Some(found) = secret_keys::named(name) {
        return Some((name, found));
    }
    let (first, rest) = name.split_once(' ')?;
    const WHOSE: [&str; 13] =
        ["my", "your", "his", "her", "our", "their", "the", "a", "new", "old", "mein", "mon", "mi"];
    if WHOSE.iter().any(|w| w.eq_ignore_ascii_case(first))
        && let Some(found) = secret_keys::named(rest)
    {
        return Some((rest, found));
    }
    // `login: bob pass: …`
    let last = name.rsplit(' ').next().unwrap_or_default();
    if matches!(last, "pass" | "pw" | "pwd" | "Pass" | "PW")
        && !HARMLESS_BEFORE.iter().any(|w| w.eq_ignore_ascii_case(first))
    {
        return secret_keys::named(last).map(|found| (last, found));
    }
    const OF: [&str; 6] = [" for ", " of ", " für ", " pour ", " para ", " ("];
    let gaps = name.bytes().enumerate().filter(|(_, b)| *b == b' ').map(|(at, _)| at);
    let of = |at: usize| OF.iter().position(|of| name[at..].starts_with(of)).map(|of| (of, at));
    let (_, what) = gaps.filter_map(of).min()?;
    let before = name.get(..what)?;
    secret_keys::named(before).filter(|found| found.kind == Kind::Secret).map(|found| (before, found))
}

/// A value after a name that is itself given as a value: `name: DB_PASSWORD` followed by `value: …`, as in YAML, XML
/// and JSON.
fn announced(text: &Source<'_>, at: usize, name: &str) -> Option<(usize, usize)> {
    const NAMES: [&str; 8] = ["name", "key", "variable", "field", "id", "property", "type", "using"];
    const VALUES: [&str; 3] = ["value", "Value", "send_keys"];
    const NEAR: usize = 96;
    let name = name.rsplit(' ').next()?;
    if !NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)) {
        return None;
    }
    let (start, end) = value_at(head(text, 0, at + NEAR), at + 1, false, false)?;
    let found = secret_keys::named(text.get(start..end).filter(|n| n.len() <= NAME)?)?;
    let near = head(text, end, NEAR);
    let (value, behind) = VALUES.iter().find_map(|word| near.find(word).map(|at| (at, at + word.len())))?;
    // Only text that belongs to the same pair may stand between them.
    let between = near.get(..value)?;
    if between.matches('\n').count() > 1
        || between.contains(['{', '}', '<'])
        || between.contains(": ") && between.contains('\n')
    {
        return None;
    }
    let rest = near.get(behind..)?.trim_start_matches(['"', '\'', '\\', ' ']);
    rest.starts_with([':', '=']).then_some(())?;
    let value = text.value_at(end + near.len() - rest.len() + 1, false, false)?;
    believable(text, value, &Beside { found, quoted: true, tight: true, colon: false }).then_some(value)
}

/// A YAML block under the name of a secret: `password: |` and the more indented lines below.
fn block(text: &str, start: usize, name: usize) -> Option<(usize, usize)> {
    const MARK: usize = 32;
    let near = head(text, start, MARK);
    let line = near.get(..near.find('\n')?)?;
    let mark = line.trim();
    if !matches!(mark, "" | "|" | ">" | "|-" | ">-" | "|+" | ">+") {
        return None;
    }
    let margin = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let own = margin(
        super::tail(text, name, 160).rsplit('\n').next().map(|lead| if lead.trim().is_empty() { lead } else { "" })?,
    );
    let mut at = start + line.len() + 1;
    let (from, mut end) = (at, at);
    for line in text.get(at..)?.split('\n') {
        if !line.trim().is_empty() && margin(line) <= own {
            break;
        }
        if !line.trim().is_empty() {
            end = at + line.trim_end().len();
        }
        at += line.len() + 1;
        if mark.is_empty() {
            break;
        }
    }
    let from = from + text.get(from..end)?.len() - text.get(from..end)?.trim_start().len();
    let word = text.get(from..end)?;
    // Without a block mark, the value must be one word, not a list or a mapping.
    let alone = !word.contains([' ', ':', '{', '[', '<', '(']) && looks_random(word);
    (from < end && (!mark.is_empty() || alone)).then_some((from, end))
}

/// The name that ends before `at`, whether it is in quotes, and where it begins.
fn name_before(text: &str, at: usize, done: usize) -> Option<(&str, bool, usize)> {
    let bytes = text.as_bytes();
    let mut end = at;
    while end > done && matches!(before(bytes, end), Some(b' ')) && at - end < ALIGNED {
        end -= 1;
    }
    // `**Password**: …`
    while end > done && matches!(before(bytes, end), Some(b'*')) && at - end < 4 {
        end -= 1;
    }
    // `local password <const> = …`
    if bytes.get(..end).is_some_and(|lead| lead.ends_with(b" <const>")) && end >= 8 + done {
        end -= 8;
    }
    // `char password[] = …`
    if end >= 2 + done && bytes.get(end - 2..end) == Some(b"[]") {
        end -= 2;
    }
    // `os.environ["PASSWORD"] = …`, `password?: …`
    let index = before(bytes, end) == Some(b']');
    if index || before(bytes, end) == Some(b'?') {
        end = end.checked_sub(1).filter(|&end| end > done)?;
    }
    let quote = before(bytes, end).filter(|b| matches!(b, b'"' | b'\'' | b'`'));
    if quote.is_some() {
        end -= 1;
        while end > done && before(bytes, end) == Some(b'\\') {
            end -= 1;
        }
    }
    let mut start = end;
    let mut spaces = 0;
    while start > done && end - start < NAME {
        match before(bytes, start) {
            Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || b >= 0x80 => {}
            // `api key: …`; a longer phrase is not a name.
            Some(b' ') if spaces < 5 && start < end => spaces += 1,
            _ => break,
        }
        start -= 1;
    }
    while start < end && !text.is_char_boundary(start) {
        start += 1;
    }
    let name = text.get(start..end).filter(|n| n.len() >= 2)?;
    let trimmed = name.trim_start();
    Some((trimmed, quote.is_some() && !index, start + name.len() - trimmed.len()))
}
