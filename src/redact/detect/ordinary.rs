//! Values that have the name of a secret but, by their form, are none: a package version, a path, a file, an address, a
//! type, a search pattern, the name of a secret that is kept elsewhere.

use super::value::looks_random;
use super::whole::is_jumbled;
use crate::redact::secret_keys;

/// Whether a value is one of these.
pub(crate) fn is_ordinary(value: &str) -> bool {
    const LONGEST: usize = 400;
    value.len() <= LONGEST
        && (is_version(value)
            || is_file(value)
            || is_address(value)
            || is_type(value)
            || is_pattern(value)
            || is_label(value))
}

/// The name of a header or of a page element: `X-API-Key`, `#login-pw-input`.
fn is_label(value: &str) -> bool {
    let letters = |name: &str| name.len() >= 3 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    let header = value.strip_prefix("X-").is_some_and(|name| letters(name) && name.split('-').all(|w| !w.is_empty()));
    let element = value
        .strip_prefix(['#', '.'])
        .is_some_and(|name| letters(name) && name.contains('-') && !name.bytes().any(|b| b.is_ascii_uppercase()));
    header && !looks_random(value) || element
}

/// `^9.0.2`, `>=1.2 <2`, `~> 3.1`, `1.2.3-beta.1`, `workspace:*`, `npm:other@^1`, `latest`.
fn is_version(value: &str) -> bool {
    let leads = ["workspace:", "catalog:", "npm:", "link:", "portal:", "git+https://", "git+ssh://", "github:"];
    if leads.iter().any(|lead| value.starts_with(lead)) || matches!(value, "latest" | "next" | "*") {
        return !value.contains(char::is_whitespace);
    }
    let part = |part: &str| {
        let bare = part.trim_start_matches(['^', '~', '>', '<', '=', '!', 'v']);
        let number = bare.split(['-', '+']).next().unwrap_or_default();
        let rest = bare.get(number.len()..).unwrap_or_default();
        let numbers = number.split('.').count();
        let digits = |n: &str| !n.is_empty() && n.len() <= 5 && n.bytes().all(|b| b.is_ascii_digit());
        let signed = part.starts_with(['^', '~', '>', '<']);
        let formed = number.split('.').all(|n| digits(n) || matches!(n, "x" | "*"));
        let tagged = rest.len() <= 24
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-+.".contains(&b));
        formed && tagged && (signed && numbers <= 4 || numbers == 3)
    };
    let mut words = value.split([' ', ',']).filter(|w| !matches!(*w, "" | "||" | "-" | "~>" | ">=" | "<" | ">" | "<="));
    let sign = value.starts_with("~> ") || value.starts_with(">= ");
    value.len() <= 64
        && (sign
            && words.clone().count() > 0
            && words.clone().all(|w| w.len() <= 12 && !looks_random(w) && w.starts_with(|c: char| c.is_ascii_digit()))
            || words.clone().count() > 0 && words.all(part))
}

/// A path or file name without random-looking parts.
fn is_file(value: &str) -> bool {
    const ENDINGS: &str = "json yaml yml toml pem key crt cer p12 pfx jks keystore txt env ini conf cfg properties xml enc asc gpg \
         kdbx ts tsx js jsx mjs cjs py rs go rb java kt php sh md sql html css lock csv log db sqlite pub secret tfvars";
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-~@\\:$ {}".contains(&b));
    if !plain || value.contains("://") || value.contains("  ") || value.split(' ').count() > 3 {
        return false;
    }
    let parts = || value.split(['/', '\\']).filter(|p| !p.is_empty());
    // Words and numbers with signs between them: `kestrel-sa.json`, `app_2024`.
    let tame = |part: &str| {
        part.split(['-', '_', '.', ' ']).all(|word| word.len() < 8 || !looks_random(word)) && part.len() <= 64
    };
    let drive = matches!(value.as_bytes(), [b'A'..=b'Z' | b'a'..=b'z', b':', b'\\' | b'/', ..]);
    let rooted = (value.starts_with(['/', '~']) || value.starts_with("./") || value.starts_with("../") || drive)
        && (parts().count() >= 2
            || value.len() > 1
                && value.starts_with('/')
                && value.bytes().skip(1).all(|b| b.is_ascii_lowercase() || b == b'-'));
    let ended = value
        .rsplit_once('.')
        .is_some_and(|(stem, ending)| !stem.is_empty() && ENDINGS.split_ascii_whitespace().any(|e| e == ending));
    (rooted || ended) && !value.contains(['{', '}']) && parts().all(tame)
}

/// An address without credentials: `https://host/path`, `s3://bucket/key`.
fn is_address(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    const SCHEMES: [&str; 16] = [
        "http",
        "https",
        "s3",
        "gs",
        "ssm",
        "sm",
        "vault",
        "op",
        "file",
        "secretsmanager",
        "keyvault",
        "awssm",
        "gcpsm",
        "azkv",
        "oci",
        "k8s",
    ];
    let tame =
        |part: &str| part.len() < 16 || !part.split(['-', '_', '.']).any(|word| word.len() >= 12 && looks_random(word));
    SCHEMES.contains(&scheme) && !rest.contains(['@', '?', '#', ' ', '"', '\'']) && rest.split('/').all(tame)
}

/// `String!`, `[ID!]!`, `str | None`, `Optional[str]`, `SecretStr`
fn is_type(value: &str) -> bool {
    const TYPES: [&str; 20] = [
        "String",
        "ID",
        "Int",
        "Float",
        "Boolean",
        "Str",
        "Bytes",
        "str",
        "bytes",
        "string",
        "None",
        "null",
        "undefined",
        "Optional",
        "SecretStr",
        "SecretString",
        "Option",
        "Uuid",
        "UUID",
        "Buffer",
    ];
    let signs = value.contains(['!', '[', '|', '<', '?']);
    let mut words = value.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    signs
        && value.len() <= 48
        && words.clone().count() > 0
        && words.all(|word| TYPES.contains(&word))
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"![]|<>? _&".contains(&b))
}

/// Search patterns for `sed`, `grep`, `awk` and `jq`: character classes, repeats, groups.
pub(super) fn is_pattern(value: &str) -> bool {
    const CURSORS: [&str; 22] = [
        "[^", "[A-Z", "[a-z", "[0-9", "\\s*", "\\s+", "\\S+", "\\S*", "\\w+", "\\w*", "\\d+", "(?:", "(?i", "(.*",
        "(.+", ".*/", ".+/", ".*$", ".+$", ".*'", "[[:", "\\(.*",
    ];
    value.starts_with(".*")
        || value.starts_with(".+")
        || value == "/"
        || value.starts_with("\\K") && !is_jumbled(value)
        || CURSORS.iter().any(|mark| value.contains(mark))
}

/// The name of a secret that is kept elsewhere: `postgres-password`, `db_token`, `API_KEY`.
pub(crate) fn is_name(value: &str) -> bool {
    (4..=64).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_' | b'.'))
        && (value.contains(['-', '_', '.'])
            || secret_keys::named(value).is_some_and(|found| found.name.len() == value.len()))
        && !value.starts_with(['-', '_', '.'])
        && secret_keys::named(value).is_some()
}

/// A flag that says there is no secret here, or that something else follows: `--no-password`, `--without-token`.
pub(crate) fn denies(flag: &str) -> bool {
    [
        "no-", "without-", "skip-", "disable-", "ask-", "prompt-", "read-", "show-", "hide-", "use-", "reset-",
        "require-", "allow-",
    ]
    .iter()
    .any(|lead| flag.len() > lead.len() && flag.get(..lead.len()).is_some_and(|l| l.eq_ignore_ascii_case(lead)))
}
