//! Secrets in command lines: after flags (`--token …`, `curl -u user:…`, `sshpass -p …`, `mysql -p…`), and in what is
//! piped into a program that reads a password.

use super::credential::{LONG, NAME};
use super::ends::Source;
use super::value::{is_code, is_nothing, is_status, looks_random};
use super::whole::begun;
use super::{before, head, ordinary, tail};
use crate::redact::secret_keys::{self, Kind};
use crate::redact::words::Table;
use std::sync::LazyLock;

/// How a flag takes its secret.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As the next word.
    Next,
    /// Directly after the letter.
    Joined,
    /// In the next word, after this character: `user:password`.
    Behind(char),
    /// In the same word, after this character: `-uuser:password`.
    JoinedBehind(char),
    /// In the next word, after this prefix: `pass:…`.
    Prefixed(&'static str),
}

/// Flags with one letter or one hyphen that take a secret, and the programs that have them.
const FLAGS: &[(&str, Way, &str)] = &[
    ("u", Way::Behind(':'), "curl wget http https xh curlie"),
    ("u", Way::JoinedBehind(':'), "curl"),
    ("sSu", Way::Behind(':'), "curl"),
    ("su", Way::Behind(':'), "curl"),
    ("sku", Way::Behind(':'), "curl"),
    ("ku", Way::Behind(':'), "curl"),
    ("Lu", Way::Behind(':'), "curl"),
    ("vu", Way::Behind(':'), "curl"),
    ("A", Way::Next, "snmpwalk snmpget snmpset snmpbulkwalk"),
    ("X", Way::Next, "snmpwalk snmpget snmpset snmpbulkwalk"),
    ("P", Way::Next, "mosquitto_pub mosquitto_sub"),
    ("-value", Way::Next, "keyvault put-parameter"),
    ("-dest-creds", Way::Behind(':'), "skopeo"),
    ("-src-creds", Way::Behind(':'), "skopeo"),
    ("-user", Way::Behind(':'), "curl wget"),
    ("-proxy-user", Way::Behind(':'), "curl"),
    ("U", Way::Behind(':'), "curl"),
    ("a", Way::Behind(':'), "http https xh"),
    ("-auth", Way::Behind(':'), "http https xh"),
    ("u", Way::Behind(','), "lftp"),
    ("U", Way::Behind('%'), "smbclient rpcclient smbmap net"),
    (
        "p",
        Way::Next,
        "sshpass login twine psexec psexec64 rdesktop evil-winrm crackmapexec nxc netexec ncftpput ncftpget cqlsh cypher-shell useradd usermod mongo mongosh mongodump mongorestore mongoexport mongoimport rabbitmqadmin clickhouse-client ipmitool",
    ),
    (
        "p",
        Way::Joined,
        "login sshpass mysql mysqldump mysqladmin mysqlimport mysqlcheck mariadb mariadb-dump mariadb-admin 7z 7za 7zz rar unrar",
    ),
    ("P", Way::Next, "sqlcmd zip unzip bcp isql tsql ipmitool zipcloak"),
    ("P", Way::Joined, "sqlcmd"),
    ("pw", Way::Next, "plink pscp psftp putty"),
    ("a", Way::Next, "redis-cli valkey-cli"),
    ("w", Way::Next, "ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldappasswd ldapcompare"),
    ("passin", Way::Prefixed("pass:"), "openssl"),
    ("passout", Way::Prefixed("pass:"), "openssl"),
    ("pass", Way::Prefixed("pass:"), "openssl"),
    ("k", Way::Next, "openssl"),
    ("K", Way::Next, "openssl"),
    ("b", Way::Next, "gh"),
    ("-body", Way::Next, "gh"),
];

/// The words of the command that a flag at `at` belongs to.
fn words(text: &str, at: usize) -> impl Iterator<Item = &str> {
    let line = tail(text, at, 240).rsplit(['\n', ';', '|', '&']).next().unwrap_or_default();
    let words =
        line.split(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '(' | '`' | '\\' | ',' | '[' | '='));
    words.filter(|word| word.len() > 1 && word.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The programs in the list above. Most words of most commands are not among them.
static PROGRAMS: LazyLock<Table<()>> = LazyLock::new(|| {
    let programs = FLAGS.iter().flat_map(|(.., programs)| programs.split(' '));
    Table::of(programs.map(|program| (program.as_bytes(), ())))
});

/// The argument of a flag with one letter or one hyphen that takes a secret.
pub(super) fn short_flag(text: &Source<'_>, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    if !before(bytes, at).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'')) {
        return None;
    }
    let rest = head(text, at + 1, NAME);
    let mut known: Option<Vec<&str>> = None;
    for (flag, way, programs) in FLAGS {
        let Some(after) = rest.strip_prefix(flag) else { continue };
        let apart = after.starts_with([' ', '\t', '\u{1}']);
        if after.is_empty() || apart == matches!(way, Way::Joined | Way::JoinedBehind(_)) {
            continue;
        }
        let known = known.get_or_insert_with(|| {
            let words = words(text, at).map(|word| word.trim_end_matches(".exe"));
            words.filter(|word| PROGRAMS.has(word.as_bytes())).collect()
        });
        if !known.iter().any(|word| programs.split(' ').any(|p| p == *word)) {
            continue;
        }
        let secrets = !matches!(*flag, "b" | "-body") || words(text, at).any(|w| w == "secret");
        if flag.eq_ignore_ascii_case("k") && !words(text, at).any(|w| w == "enc") || !secrets {
            continue;
        }
        let (start, mut end) = text.value_at(at + 1 + flag.len(), false, false)?;
        if *way == Way::Behind(',') && bytes.get(end) == Some(&b',') {
            end += head(text, end, 200).find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(0);
        }
        let value = text.get(start..end)?;
        let example =
            matches!(value.rsplit([':', ',', '%']).next(), Some("password" | "pass" | "passwd" | "PASSWORD" | "PASS"))
                || value.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if value.starts_with('-') || value.starts_with('$') || example {
            return None;
        }
        return match way {
            Way::Next | Way::Joined => Some((start, end)),
            Way::Behind(sign) | Way::JoinedBehind(sign) => {
                let from = start + value.find(*sign)? + 1;
                if from < end { Some((from, end)) } else { begun(text, from) }
            }
            Way::Prefixed(lead) => value.strip_prefix(lead).map(|rest| (end - rest.len(), end)),
        };
    }
    long_with_one(text, at)
}

/// `-password …`, `-storepass …`, as in Java, Go and PowerShell programs.
fn long_with_one(text: &Source<'_>, at: usize) -> Option<(usize, usize)> {
    let rest = head(text, at + 1, NAME);
    if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let name = rest.get(..len).filter(|n| n.len() >= 5)?;
    let apart = rest.get(len..)?.starts_with([' ', '\u{1}']);
    let found = secret_keys::named(name).filter(|f| apart && f.kind == Kind::Secret && !f.loose)?;
    let (start, end) = text.value_at(at + 1 + len, false, false)?;
    let value = text.get(start..end)?;
    (value.len() > LONG || !value.starts_with('-') && (found.sure || looks_random(value)) && tells(text, start, end))
        .then_some((start, end))
}

/// The value of `--password …`; with `=`, it is found by its name.
pub(super) fn flag(text: &Source<'_>, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    if bytes.get(at + 1) != Some(&b'-')
        || before(bytes, at).is_some_and(|b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'`' | b'('))
    {
        return None;
    }
    let rest = bytes.get(at + 2..)?;
    let len = rest.iter().take(NAME).position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_'))?;
    let name = text.get(at + 2..at + 2 + len).filter(|name| !ordinary::denies(name))?;
    let mut start = at + 2 + len;
    let apart = bytes.get(start).is_some_and(u8::is_ascii_whitespace);
    let found = secret_keys::named(name).filter(|found| apart && found.kind == Kind::Secret)?;
    while bytes.get(start).is_some_and(u8::is_ascii_whitespace) {
        start += 1;
    }
    let (start, end) = text.value_at(start, false, false)?;
    let value = text.get(start..end)?;
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let short = digits && value.len() < if found.is_token() { 6 } else { 4 };
    let vague = matches!(found.name, "secretid") && !looks_random(value);
    let other = value.starts_with('-')
        || short
        || vague
        || value.starts_with("id=")
        || found.is_authorization() && is_status(value);
    (value.len() > LONG || !other && tells(text, start, end)).then_some((start, end))
}

/// Whether the value is a secret, unlike in `--token TOKEN` and `--token $(cat file)`.
fn tells(text: &str, start: usize, end: usize) -> bool {
    let value = text.get(start..end).unwrap_or_default();
    let named = value.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    !named
        && !ordinary::is_ordinary(value)
        && !value.starts_with("arn:")
        && !value.starts_with(['$', '<', '{', '`'])
        && !is_nothing(value)
        && !is_code(text, start, end)
}

/// The text that the pipe at `at` passes to a program that reads a password: `echo … | docker login --password-stdin`.
pub(super) fn piped(text: &Source<'_>, at: usize, done: usize) -> Option<(usize, usize)> {
    let after = head(text, at + 1, 160).split(['\n', '|', ';']).next()?;
    let mut words = after.split_ascii_whitespace();
    let program = words.next()?;
    let pair = program == "chpasswd" || program == "sudo" && after.contains("chpasswd");
    let reads = after.contains("--password-stdin")
        || program == "sudo" && after.contains(" -S")
        || after.contains("passwd --stdin")
        || after.contains("--with-token")
        || program == "cryptsetup"
        || matches!(program, "docker" | "podman") && after.contains("secret create")
        || program == "gh" && after.contains("secret set");
    if !pair && !reads {
        return None;
    }
    let lead = tail(text, at, 200).rsplit(['\n', ';', '|']).next()?;
    let said = lead.rfind("echo ").map(|i| i + 5).or_else(|| lead.rfind("printf ").map(|i| i + 7))?;
    let from = at - lead.len() + said;
    let from = from + usize::from(text.get(from..)?.starts_with("-n ")) * 3;
    if from < done {
        return None;
    }
    let format = usize::from(text.get(from..)?.starts_with("'%s' ") || text.get(from..)?.starts_with("\"%s\" ")) * 5;
    let (start, end) = text.value_at(from + format, false, false)?;
    let value = text.get(start..end)?;
    let start = if pair { start + value.find(':')? + 1 } else { start };
    (start < end && end <= at && !value.starts_with('$')).then_some((start, end))
}
