//! Judges the value next to a secret's name: is it the secret itself, or a word, a type, a call or a reference that
//! only stands for one?

use super::whole::{is_jumbled, is_no_code};
use super::{head, tail};
use crate::redact::secret_keys;

/// Words that occur in place of a value: literals, types, states.
const NOTHING: &[&str] = &[
    "null",
    "none",
    "nil",
    "undefined",
    "true",
    "false",
    "{}",
    "[]",
    "{",
    "[",
    "string",
    "str",
    "text",
    "number",
    "int",
    "integer",
    "bool",
    "boolean",
    "bytes",
    "byte",
    "object",
    "any",
    "unknown",
    "void",
    "required",
    "optional",
    "hidden",
    "redacted",
    "masked",
    "filtered",
    "removed",
    "n/a",
    "na",
    "empty",
    "unset",
    "missing",
    "present",
    "default",
    "secretstr",
    "char",
    "float",
    "double",
    "varchar",
    "nan",
    "never",
    "option",
    "vec",
    "buffer",
    "uint8array",
    "usize",
    "u8",
    "u16",
    "u32",
    "u64",
    "i32",
    "i64",
    "todo",
    "tbd",
    "changeme_",
    "...",
    "…",
    "-",
    "--",
    "_",
    "?",
    "self",
    "this",
    "async",
    "await",
    "function",
    "lambda",
    "new",
    "return",
    "if",
    "else",
    "not",
    "and",
    "or",
    "is",
    "in",
    "the",
    "a",
    "an",
    "const",
    "let",
    "var",
    "static",
    "pub",
    "mut",
    "ref",
    "yes",
    "no",
    "on",
    "off",
    "enabled",
    "disabled",
    "invalid",
    "expired",
    "incorrect",
    "wrong",
    "omitted",
    "file",
    "env",
    "prompt",
    "stdin",
    "ask",
    "keyring",
    "vault",
    "read",
    "write",
    "json",
    "yaml",
    "opaque",
    "placeholder",
    "see",
    "export",
    "click",
    "check",
    "enter",
    "example",
    "type",
    "value",
    "for",
];

/// The status of an authorization, and the names of authorization schemes.
const STATUS: &[&str] =
    &["bearer", "basic", "digest", "oauth", "oauth2", "apikey", "api_key", "api-key", "jwt", "k8s", "x509"];

/// Whether a value reveals nothing: a literal, a type, asterisks, a reference to be filled in (`${TOKEN}`, `<token>`),
/// or a placeholder.
pub(crate) fn is_nothing(value: &str) -> bool {
    let value = value.trim();
    let bytes = value.as_bytes();
    if value.len() <= 12 && NOTHING.iter().any(|w| w.eq_ignore_ascii_case(value)) {
        return true;
    }
    let all = |f: fn(u8) -> bool| bytes.iter().all(|&b| f(b));
    if !value.is_empty() && all(|b| b == b'*')
        || value.len() >= 3 && all(|b| matches!(b, b'*' | b'.' | b'x' | b'X' | b'-' | b'_' | b'#' | b'%' | b'=' | b'?'))
        || all(|b| b >= 0x80) && value.chars().all(|c| matches!(c, '•' | '●' | '…'))
    {
        return true;
    }
    if TAGS.contains(&value) || value.starts_with("%env(") {
        return true;
    }
    if value.len() <= 12 && value.ends_with("...") {
        return true;
    }
    // Partly masked values, ciphertext that tools keep in files, and variables of database shells.
    let short = value.len() <= 48;
    if short && ["***", "••", "●●", "xxxx", "XXXX"].iter().any(|mark| value.contains(mark))
        || ["ENC[", "ENC(", "{cipher}", "$ANSIBLE_VAULT", "vault:v"].iter().any(|lead| value.starts_with(lead))
        || short && value.strip_prefix(['@', ':']).is_some_and(is_variable)
    {
        return true;
    }
    // Validation rules: `required|min:8`.
    value.strip_prefix("required").is_some_and(|rest| rest.starts_with([':', '|', ',', ' '])) || is_placeholder(value)
}

/// A name in lower-case letters, as query parameters have.
fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        || name.strip_prefix(['\'', '"']).and_then(|n| n.strip_suffix(['\'', '"'])).is_some_and(is_variable)
}

/// Whether other programs' replacement for a secret begins at `at`: `[REDACTED]`, `<hidden>`, `(filtered)`, possibly
/// with more text after it.
pub(super) fn is_masked(text: &str, at: usize) -> bool {
    const WORDS: [&str; 16] = [
        "redacted",
        "hidden",
        "filtered",
        "masked",
        "removed",
        "secret",
        "sensitive",
        "scrubbed",
        "sanitized",
        "omitted",
        "concealed",
        "protected",
        "private",
        "password",
        "token",
        "obfuscated",
    ];
    let rest = head(text, at, 48);
    let inner = match rest.chars().next() {
        Some('[') => rest.find(']').and_then(|end| rest.get(1..end)),
        Some('<') => rest.find('>').and_then(|end| rest.get(1..end)),
        Some('(') => rest.find(')').and_then(|end| rest.get(1..end)),
        Some('{') => rest.find('}').and_then(|end| rest.get(1..end)),
        _ => None,
    };
    inner.is_some_and(|inner| {
        let word = inner.split([':', ' ', '_', '-']).next().unwrap_or_default();
        WORDS.iter().any(|w| w.eq_ignore_ascii_case(word)) && !inner.contains(['"', '\'', ','])
    })
}

/// Whether a quoted text is the name of something else: `"${TOKEN}"`, `"process.env.TOKEN"`, `"password"`,
/// `"arn:aws:secretsmanager:…"`.
pub(crate) fn is_reference(value: &str) -> bool {
    const LEADS: [&str; 34] = [
        "${",
        "{{",
        "process.env",
        "env.",
        "env:",
        "env/",
        "env(",
        "ENV[",
        "os.environ",
        "op://",
        "vault:",
        "vault://",
        "secrets.",
        "secret://",
        "ref+",
        "arn:aws",
        "arn:",
        "gcp-sm:",
        "gsm:",
        "sm://",
        "aws-sm:",
        "awssm:",
        "ssm:",
        "ssm://",
        "azurekv:",
        "akv:",
        "keyvault:",
        "keyring:",
        "keychain:",
        "bw://",
        "doppler:",
        "file:",
        "/run/secrets/",
        "/var/run/secrets/",
    ];
    LEADS.iter().any(|lead| value.starts_with(lead))
        || is_label(value)
        || value.starts_with("projects/") && value.contains("/secrets/")
        || value.contains(".vault.azure.net/secrets/")
        || value.starts_with("@Microsoft.KeyVault(")
        || value.starts_with("secret/data/")
}

/// Whether the address of a database or a service contains no password.
pub(crate) fn is_open_uri(value: &str) -> bool {
    let lower = || value.to_ascii_lowercase();
    let told = || {
        let lower = lower();
        ["password=", "passwd=", "pwd=", "pass=", "key=", "secret=", "token=", "sig=", "signature="]
            .iter()
            .any(|w| lower.contains(w))
    };
    let Some((scheme, rest)) = value.split_once("://") else {
        let settings = value.contains('=')
            && ["host=", "server=", "data source=", "endpoint="].iter().any(|w| lower().contains(w));
        return settings && !told();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let open = match rest.get(..rest.rfind('@').unwrap_or(0)).filter(|user| !user.is_empty()) {
        None => true,
        // `https://key@host` of services, and user names of databases.
        Some(user) => match user.split_once(':') {
            Some((_, password)) => password.is_empty() || is_nothing(password),
            None => authority.contains('@') && user.len() < 20 && !scheme.starts_with("http"),
        },
    };
    open && !told()
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A reference that a shell, a template or the reader fills in.
fn is_placeholder(value: &str) -> bool {
    let between = |open: &str, close: &str| value.strip_prefix(open).and_then(|v| v.strip_suffix(close));
    let short = value.len() < 80;
    let redacted = short && value.starts_with("[REDACTED") && value.find([']', ' ']) == Some(value.len() - 1);
    let constant = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let named = |name: &str| {
        name.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(
                    b,
                    b'_' | b'.'
                        | b'-'
                        | b' '
                        | b':'
                        | b'['
                        | b']'
                        | b'"'
                        | b'\''
                        | b'('
                        | b')'
                        | b'$'
                        | b'?'
                        | b'|'
                        | b'/'
                )
        })
    };
    redacted
        || value
            .strip_prefix('$')
            .is_some_and(|v| constant(v) || v.starts_with('(') || v.starts_with('{') && v.len() > 2)
        || short && between("<", ">").is_some_and(|v| named(v) && !v.starts_with('/'))
        || short && between("{{", "}}").or_else(|| between("{", "}")).is_some_and(|v| named(v) && !v.contains(": "))
        || short && between("%", "%").is_some_and(constant)
        || short
            && between("[", "]").is_some_and(|v| {
                !v.is_empty() && v.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'_' | b' ' | b'-'))
            })
        || is_format(value)
        || is_yours(value)
}

/// The label of a page's field or link: `Password`, `Enter password`, `Forgot your password?`
pub(crate) fn is_label(value: &str) -> bool {
    const NAMES: [&str; 34] = [
        "password",
        "passwort",
        "token",
        "secret",
        "passphrase",
        "passcode",
        "key",
        "contraseña",
        "passe",
        "senha",
        "wachtwoord",
        "parola",
        "hasło",
        "heslo",
        "geslo",
        "lozinka",
        "jelszó",
        "lösenord",
        "adgangskode",
        "passord",
        "salasana",
        "şifre",
        "пароль",
        "κωδικός",
        "kennwort",
        "clave",
        "pin",
        "credentials",
        "passwords",
        "密码",
        "密碼",
        "パスワード",
        "비밀번호",
        "mật",
    ];
    // Scripts without capitals and spaces: a short text that contains the name.
    if value.chars().count() <= 12
        && value.chars().all(|c| c >= '\u{2e80}' || c == '？' || c == '：')
        && NAMES.iter().any(|name| name.starts_with(|c: char| c >= '\u{2e80}') && value.contains(name))
    {
        return true;
    }
    let words = || value.trim_end_matches(['?', ':', '.', '!', '*']).split(' ');
    let letters = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_alphabetic() || c == '-' || c == '\'');
    let named = || words().any(|w| NAMES.contains(&w.to_lowercase().as_str()));
    value.len() <= 64 && value.starts_with(char::is_uppercase) && words().all(letters) && named()
}

/// YAML tags that are followed by something other than a value.
const TAGS: [&str; 8] = ["!vault", "!Ref", "!Sub", "!GetAtt", "!ImportValue", "!secret", "!env", "!reference"];

/// `%s`, `%d`, `%-10.3lf`, `%(name)s`
fn is_format(value: &str) -> bool {
    let Some(rest) = value.strip_prefix('%') else { return false };
    let rest = rest.strip_prefix('(').and_then(|r| r.split_once(')')).map_or(rest, |(_, r)| r);
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | '*' | '#'));
    let rest = rest.trim_start_matches(['l', 'h', 'z']);
    let mut chars = rest.chars();
    let letter = chars.next().is_some_and(|c| "sdiufxXcpqrv@".contains(c));
    letter && !chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// Stand-ins in instructions: `your-api-key`, `YOUR_TOKEN_HERE`, `my-secret-token`.
fn is_yours(value: &str) -> bool {
    let lower = || value.to_ascii_lowercase();
    value.len() <= 48
        && value.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'))
        && ["your", "insert", "enter", "replace", "put"]
            .iter()
            .any(|w| lower().strip_prefix(w).is_some_and(|rest| rest.starts_with(['_', '-']) || w == &"your"))
}

/// Whether a value is the status of an authorization (`approved`, `prior approval needed`) and not a credential: words
/// of letters only.
pub(crate) fn is_status(value: &str) -> bool {
    let value = value.trim();
    if STATUS.iter().any(|w| w.eq_ignore_ascii_case(value)) {
        return true;
    }
    let word = |w: &str| {
        let rest = w.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(w);
        w.len() < 20 && rest.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-' | b',' | b'.'))
    };
    let scheme = |w: &str| {
        let w = w.trim_end_matches([' ', ':']);
        ["bearer", "basic", "token", "digest", "apikey", "negotiate", "aws4-hmac-sha256"]
            .iter()
            .any(|s| s.eq_ignore_ascii_case(w))
    };
    let mut words = value.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    // `Bearer ${TOKEN}`
    if scheme(first) {
        let rest = value.get(first.len()..).unwrap_or_default().trim();
        return rest.is_empty() || is_nothing(rest) || rest.starts_with(['$', '{', '<', '%']) || rest == "token";
    }
    value.len() >= 3 && word(first) && words.all(word)
}

/// Whether a word looks random: a mix of letters and digits that nobody would say or type by habit.
pub(crate) fn looks_random(value: &str) -> bool {
    let bytes = value.as_bytes();
    let count = |f: fn(&u8) -> bool| bytes.iter().filter(|b| f(b)).count();
    let (digits, upper, lower) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
    let symbols = bytes.iter().filter(|b| b"!@#$%^&*+=?~".contains(b)).count();
    let kinds = usize::from(digits > 0) + usize::from(upper > 0) + usize::from(lower > 0) + usize::from(symbols > 0);
    if bytes.iter().any(u8::is_ascii_whitespace) || is_path(value) {
        return false;
    }
    match bytes.len() {
        0..6 => false,
        6..8 => kinds >= 3 && digits > 0,
        8..16 => kinds >= 3 && digits > 0 || digits >= 2 && lower + upper >= 3 && !is_dated(value),
        _ => digits >= 2 && lower + upper >= 3 && !is_dated(value) || kinds >= 3 && upper >= 4 && !is_identifier(value),
    }
}

/// Whether a short text is not a word: digits among letters, or capitals after the first letter.
pub(crate) fn is_disordered(text: &str) -> bool {
    let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
    let capitals = text.bytes().skip(1).filter(u8::is_ascii_uppercase).count();
    letters && text.bytes().any(|b| b.is_ascii_digit())
        || capitals > 0 && text.bytes().any(|b| b.is_ascii_lowercase())
        || text.len() >= 6 && text.contains(['-', '_'])
}

/// Paths and URLs.
fn is_path(value: &str) -> bool {
    // Base64 contains slashes too.
    let base64 = || {
        let bytes = value.as_bytes();
        bytes.len() >= 40
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
            && (value.ends_with('=') || value.contains('+'))
            && bytes.iter().any(u8::is_ascii_digit)
    };
    (value.starts_with(['/', '.', '~']) || value.contains("://") || value.matches('/').count() > 2) && !base64()
}

fn is_dated(value: &str) -> bool {
    let bytes = value.as_bytes();
    let digits = |r: std::ops::Range<usize>| bytes.get(r).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    // Dates, and words followed by a number.
    let word = value.trim_end_matches(|c: char| c.is_ascii_digit());
    digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7)
        || word.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
        || is_uuid(value)
}

pub(crate) fn is_uuid(value: &str) -> bool {
    let mut parts = value.split('-');
    value.len() == 36
        && [8, 4, 4, 4, 12]
            .iter()
            .all(|n| parts.next().is_some_and(|p| p.len() == *n && p.bytes().all(|b| b.is_ascii_hexdigit())))
}

/// What programs often take members' values from.
const OWNERS: &[&str] = &[
    "self",
    "this",
    "config",
    "cfg",
    "conf",
    "os",
    "process",
    "env",
    "args",
    "opts",
    "options",
    "settings",
    "req",
    "request",
    "ctx",
    "context",
    "params",
    "user",
    "creds",
    "credentials",
    "secrets",
    "vars",
    "var",
    "local",
    "data",
    "state",
    "props",
    "app",
    "client",
    "std",
    "module",
    "input",
    "payload",
    "body",
    "form",
    "parser",
    "lexer",
    "response",
    "res",
    "result",
    "event",
    "data_",
    "account",
    "session",
    "auth",
    "crate",
    "super",
    "vscode",
    "import",
    "cli",
    "kwargs",
    "inputs",
    "github",
];

/// Whether the unquoted text at `start..end` is part of a program: a call, a type, a member, a variable.
pub(super) fn is_code(text: &str, start: usize, end: usize) -> bool {
    let value = text.get(start..end).unwrap_or_default();
    let next = text.get(end..).and_then(|t| t.chars().next()).unwrap_or('\n');
    let bytes = value.as_bytes();
    if matches!(bytes, [b'+' | b'/', _, ..]) && value.len() >= 20 && looks_random(value.get(1..).unwrap_or_default()) {
        return false;
    }
    // `&str`, `*token`, `"…"`, `(`, `@Nullable`, `#{…}`
    let leads = matches!(
        bytes,
        [b'&', b'a'..=b'z' | b'\'', ..]
            | [b'(', ..]
            | [b'*', b'a'..=b'z' | b'*', ..]
            | [b'\\', ..]
            | [b'?' | b':' | b'=' | b'>' | b'|' | b'+' | b'/', ..]
    );
    if ["${", "$(", "{{", "//"].iter().any(|lead| value.starts_with(lead)) {
        return true;
    }
    if leads && bytes.first() != Some(&b'/') {
        return !is_jumbled(value) || value.len() > 64;
    }
    let (path, call) = match value.split_once('(') {
        Some((path, _)) => (path, true),
        None => (value, next == '('),
    };
    let path = path.trim_start_matches(['&', '*', '!', '@', '$']).trim_end_matches(['?', '!', ';']);
    let mut parts = path.split(['.', ':', '>', '?', '-']).filter(|p| !p.is_empty()).peekable();
    let first = parts.peek().copied().unwrap_or_default();
    let index = next == '[' || path.contains('[');
    let path = path.split('[').next().unwrap_or_default();
    let identifiers =
        !path.is_empty() && path.split(['.', ':', '>', '?', '-']).filter(|p| !p.is_empty()).all(is_identifier);
    if !identifiers {
        return false;
    }
    if call || index || next == '<' && !text.get(end..).is_some_and(|t| t.starts_with("</")) {
        return !is_no_code(text, start, end);
    }
    let dotted = path.contains('.') || path.contains("::") || path.contains("->");
    let digits = path.bytes().filter(u8::is_ascii_digit).count();
    if dotted && OWNERS.contains(&first) {
        return true;
    }
    // `passwordField.text`
    const HELD: [&str; 7] = ["text", "value", "Text", "Value", "stringValue", "Password", "password"];
    let field = ["field", "input", "box", "textfield", "control"];
    if let Some((owner, held)) = path.split_once('.')
        && HELD.contains(&held)
        && digits == 0
        && field.iter().any(|f| owner.to_ascii_lowercase().ends_with(f))
    {
        return true;
    }
    // `random_password.db.result`
    let member = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if path.split('.').count() >= 3 && path.split('.').all(|part| !part.is_empty() && member(part)) {
        return true;
    }
    // A variable that has the name of a secret itself: `password=password`, `token: new_token`.
    let last = path.rsplit(['.', ':', '>']).next().unwrap_or_default();
    digits == 0 && secret_keys::kind_of_key(last).is_some() && !path.contains('-')
}

/// Whether the quote at `at` closes a string that was opened earlier in the same line.
pub(super) fn closes(text: &str, at: usize) -> bool {
    let Some(&quote) = text.as_bytes().get(at) else { return false };
    let line = tail(text, at, 240).rsplit('\n').next().unwrap_or_default().as_bytes();
    let letter = |i: Option<usize>| i.and_then(|i| line.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    let mut open = false;
    for (i, _) in line.iter().enumerate().filter(|(_, b)| **b == quote) {
        let escaped = i > 0 && line.get(i - 1) == Some(&b'\\');
        let apostrophe = quote == b'\'' && letter(i.checked_sub(1)) && letter(Some(i + 1));
        open ^= !escaped && !apostrophe;
    }
    let after = head(text, at + 1, 2);
    open || after.is_empty() || after.starts_with([')', ',', ';', ']', '}', '\n'])
}

/// Whether the text continues as a sentence after a lower-case word.
pub(super) fn goes_on(text: &str, start: usize, end: usize) -> bool {
    let value = text.get(start..end).unwrap_or_default();
    let word = |w: &str| {
        let rest = w.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or_default();
        !w.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'\'')
    };
    let mut after = head(text, end, 24).strip_prefix(' ').unwrap_or_default().split([' ', ',', '.', '\n']);
    word(value) && after.next().is_some_and(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase()))
}

/// Several words of letters, as in messages and labels.
pub(super) fn is_sentence(value: &str) -> bool {
    let mut words = value.split(' ');
    let word = |w: &str| {
        !w.is_empty()
            && w.trim_end_matches(['.', ',', '!', '?', ':'])
                .bytes()
                .all(|b| b.is_ascii_alphabetic() || matches!(b, b'\'' | b'-'))
    };
    let four = value.len() == 19 && value.split(' ').all(|w| w.len() == 4 && w.bytes().all(|b| b.is_ascii_lowercase()));
    value.matches(' ').count() >= 2 && words.all(word) && !four
}

/// A Twilio message or account id: two letters and 32 hexadecimal digits.
pub(crate) fn is_object_id(s: &str) -> bool {
    s.len() == 34
        && s.bytes().take(2).all(|b| b.is_ascii_uppercase())
        && s.bytes().skip(2).all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a value looks like a vendor's key.
pub(crate) fn is_key_like(s: &str) -> bool {
    looks_random(s) || is_uuid(s) || s.len() >= 24 && s.bytes().all(|b| b.is_ascii_hexdigit())
}
