//! Secrets known by their place: codes in messages (`Your verification code is 482913`), form parts, arguments of
//! commands that have no flag for a password (`htpasswd -b file user …`, `net use \\server …`), lines of `.pgpass`,
//! wallet keys.

use super::ends::value_at;
use super::value::{is_nothing, looks_random};
use super::{Hits, before, head, is_word, tail};
use crate::redact::policy::Detector;
use crate::redact::secret_keys::{self, Kind};

/// Words around an access code, in lower case.
const ENTRY: &[&str] = &[
    "verif",
    "vérif",
    "login",
    "log in",
    "log-in",
    "sign in",
    "sign-in",
    "signin",
    "otp",
    "one-time",
    "one time",
    "onetime",
    "2fa",
    "two-factor",
    "two factor",
    "2-step",
    "two-step",
    "mfa",
    "authent",
    "security code",
    "sms",
    "sent me",
    "texted",
    "authenticator",
    "never share",
    "ihr tan",
    "ihre tan",
    "deine tan",
    "dein tan",
    "gate code",
    "door code",
    "alarm code",
    "entry code",
    "unlock code",
    "passcode",
    "bestätig",
    "confirmation code",
    "don't share",
    "do not share",
    "no lo compartas",
    "ne partagez",
    "expires in",
    "valid for",
    "apple id",
    "验证",
    "sicherheitscode",
    "<#>",
    "access code",
    "código",
    "codice",
    "確認コード",
    "認証コード",
    "인증",
];

/// The digits of a code in a message, before or after the word at `from..to` that calls it a code.
pub(super) fn code(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    const NEAR: usize = 72;
    let word = text.get(from..to)?;
    let after_word = text.get(to..)?.chars().next();
    let before_word = text.get(..from)?.chars().next_back();
    let joined = |c: Option<char>| c.is_some_and(|c| (c.is_alphanumeric() || c == '_') && c < '\u{2e80}');
    if joined(before_word) || joined(after_word) && after_word.is_none_or(|c| c != 's') {
        return None;
    }
    let sure =
        !word.to_ascii_lowercase().starts_with("cod") && !word.to_ascii_lowercase().starts_with("kod") && word != "TAN";
    let (lead, rest) = (tail(text, from, NEAR), head(text, to, NEAR));
    let digit = |text: &str| text.bytes().any(|b| b.is_ascii_digit());
    if !digit(rest) && !digit(lead) {
        return None;
    }
    let told = || {
        let around = [lead, word, rest].concat().to_lowercase();
        let bare = lead.trim_end().to_lowercase();
        ENTRY.iter().any(|w| around.contains(w))
            || bare.ends_with("your")
                && lead.len() < 16
                && rest.strip_prefix(" is ").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    let behind = digits_behind(rest).map(|(start, end)| (to + start, to + end));
    let found = behind
        .or_else(|| digits_before(lead).map(|(start, end)| (from - lead.len() + start, from - lead.len() + end)))?;
    (sure || told()).then_some(found)
}

/// `is 482913`, `: 482 913`, ` lautet 482913`: a few words, then four to eight digits.
fn digits_behind(rest: &str) -> Option<(usize, usize)> {
    let first = rest.find(|c: char| c.is_ascii_digit())?;
    // `OTP for your payment of 4,300 is 5746`
    let then = rest
        .find(" is ")
        .map(|at| at + 4)
        .filter(|at| *at > first && rest.get(*at..).is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())));
    if let Some(at) = then.filter(|at| rest.get(..*at).is_some_and(|lead| !lead.contains(['\n', '"', '=', '<', '?']))) {
        return digits_at(rest, at);
    }
    let at = first;
    let between = rest.get(..at)?;
    let few = between.chars().count() <= 36 && !between.contains(['\n', '/', '<', '.', '(', '#', '"', '_', '=']);
    let words = between.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)).count();
    if [" line", "port", "step", "issue", " pr "].iter().any(|word| between.to_ascii_lowercase().contains(word)) {
        return None;
    }
    let asks = between.contains(':') || between.contains('：');
    let says = between.is_empty()
        || words == 0
        || [" is", " lautet", " est", " es", " è", " é", "是", "为", "は", "was", " to "]
            .iter()
            .any(|w| between.contains(w));
    let (start, end) = digits_at(rest, at)?;
    (few && (words <= 4 && says || words <= 5 && asks)).then_some((start, end))
}

/// `482913 is your login code`, `G-482913 is your …`.
fn digits_before(lead: &str) -> Option<(usize, usize)> {
    if !lead.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    const SAYS: [&str; 10] = [
        " is your",
        " is the",
        " as your",
        " as the",
        " ist ihr",
        " ist dein",
        " est votre",
        " es tu",
        " es su",
        " è il tuo",
    ];
    let lower = lead.to_lowercase();
    let says = SAYS.iter().filter_map(|s| lower.rfind(s)).max().filter(|_| lower.len() == lead.len())?;
    let start = lead.get(..says)?.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| i + 1);
    let start = (start..=says).find(|i| lead.is_char_boundary(*i))?;
    digits_at(lead, start).filter(|(_, end)| *end == says)
}

/// Four to eight digits on their own, possibly in two halves.
fn digits_at(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let run = |from: usize| bytes.get(from..).map_or(0, |b| b.iter().take_while(|b| b.is_ascii_digit()).count());
    let first = run(at);
    let half = first == 3 && matches!(bytes.get(at + 3), Some(b' ' | b'-')) && run(at + 4) == 3;
    let end = if half { at + 7 } else { at + first };
    let unit = text.get(end..)?.trim_start_matches(' ');
    let counted = ["lines", "items", "rows", "digits", "characters", "minutes", "hours", "%", "times", "users"]
        .iter()
        .any(|w| unit.starts_with(w));
    let alone = bytes.get(end).is_none_or(|b| !is_word(*b) && !matches!(b, b'_' | b'/' | b'-') || *b >= 0xe0)
        && !matches!((bytes.get(end), bytes.get(end + 1)), (Some(b'.' | b':'), Some(b'0'..=b'9')))
        && !(bytes.get(end) == Some(&b',') && run(end + 1) == 3);
    ((4..=8).contains(&first) || half).then_some(()).filter(|()| alone && !counted).map(|()| (at, end))
}

/// `Use 482913 to verify …`: *verify* is at `from`.
pub(super) fn used(text: &str, from: usize) -> Option<(usize, usize)> {
    let lead = tail(text, from, 32);
    let digits = lead.trim_end().strip_suffix("to")?.trim_end();
    let start = digits.rfind(|c: char| !c.is_ascii_digit())? + 1;
    let said = ["use ", "enter ", "type ", "code "]
        .iter()
        .any(|w| digits.get(..start).is_some_and(|d| d.to_ascii_lowercase().ends_with(w)));
    let len = digits.len().checked_sub(start).filter(|len| (4..=8).contains(len))?;
    let at = from - lead.len() + start;
    said.then_some((at, at + len))
}

/// A part of a multipart form: the text after the empty line that follows `form-data; name="password"`.
pub(super) fn form(text: &str, to: usize) -> Option<(usize, usize)> {
    let near = head(text, to, 512);
    let (_, rest) = near.split_once("name=")?;
    let line = near.find('\n')?;
    let rest_at = near.len() - rest.len();
    if rest_at > line {
        return None;
    }
    let rest = rest.trim_start_matches(['"', '\'', '\\']);
    let name = rest.split(['"', '\'', '\\', ';', '\r', '\n']).next()?;
    secret_keys::named(name).filter(|found| found.kind == Kind::Secret)?;
    let empty = near.find("\r\n\r\n").map(|at| at + 4).into_iter().chain(near.find("\n\n").map(|at| at + 2)).min()?;
    let start = to + empty;
    let body = head(text, start, 1 << 14);
    let end = body.find("\r\n--").into_iter().chain(body.find("\n--")).min();
    let end = end.unwrap_or_else(|| body.find('\n').unwrap_or(body.len()));
    let value = body.get(..end)?;
    (!value.trim().is_empty() && !is_nothing(value)).then_some((start, start + end))
}

/// The words of a command, up to the next `;`, `|`, `&` or `>`, with their positions.
fn words(line: &str) -> Vec<(usize, &str)> {
    const MOST: usize = 24;
    let (mut out, mut at) = (Vec::new(), 0);
    while out.len() < MOST {
        let Some(skip) = line.get(at..).and_then(|rest| rest.find(|c: char| !matches!(c, ' ' | '\t'))) else { break };
        at += skip;
        let rest = line.get(at..).unwrap_or_default();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (from, len) = match quote {
            Some(q) => (1, rest.get(1..).and_then(|r| r.find(q)).unwrap_or(rest.len() - 1)),
            None => (0, rest.find([' ', '\t', ';', '|', '&', '>', '"', '\'', '`', ')', '\u{1}']).unwrap_or(rest.len())),
        };
        let Some(word) = rest.get(from..from + len).filter(|w| !w.is_empty()) else { break };
        out.push((at + from, word));
        at += from + len + from;
        if line.get(at..).is_some_and(|r| r.starts_with([';', '|', '&', '>'])) {
            break;
        }
    }
    out
}

/// The password of a command that takes it as a positional argument; the program's name ends at `to`.
pub(super) fn in_place(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let program = text.get(from..to)?.trim_end();
    let line = head(text, to, 400).split('\n').next()?;
    let words = words(line);
    let flags = |n: usize| words.get(n).is_some_and(|(_, w)| w.starts_with('-'));
    let plain = || words.iter().filter(|(_, w)| !w.starts_with('-'));
    let found = match program {
        // `net use Z: \\server\share password /user:u`
        "net use" => {
            let share = words.iter().position(|(_, w)| w.starts_with("\\\\"))?;
            words.iter().skip(share + 1).find(|(_, w)| !w.starts_with('/'))
        }
        // `net user name password /add`; with only a name it shows the user.
        "net user" => words.get(1),
        "openssl passwd" => words.last().filter(|(_, w)| !w.starts_with('-')),
        "htpasswd" => {
            let flagged = words.iter().any(|(_, w)| w.starts_with('-') && !w.starts_with("--") && w.contains('b'));
            let stdout = words.iter().any(|(_, w)| w.starts_with('-') && w.contains('n'));
            let mut rest = plain().filter(|(_, w)| w.len() > 2 || !w.bytes().all(|b| b.is_ascii_digit()));
            if !flagged { None } else { rest.nth(if stdout { 1 } else { 2 }) }
        }
        "mosquitto_passwd" => plain().nth(2).filter(|_| flags(0)),
        "mysqladmin" => {
            let set = words.iter().position(|(_, w)| *w == "password")?;
            words.get(set + 1)
        }
        "wpa_passphrase" | "add_user" | "change_password" => plain().nth(1),
        "ansible-vault encrypt_string" => words.iter().find(|(at, _)| before(line.as_bytes(), *at) == Some(b'\'')),
        "rclone obscure" | "redis-cli AUTH" | "ngrok authtoken" | "add-authtoken" | "bindpw" | "rootpw" => {
            words.first()
        }
        "xfreerdp" => words.iter().find(|(_, w)| w.starts_with("/p:")),
        "schtasks" => words.get(words.iter().position(|(_, w)| w.eq_ignore_ascii_case("/rp"))? + 1),
        "iwconfig" => words.iter().find(|(_, w)| w.starts_with("s:")),
        "ssh-keygen" => {
            let flag = words.iter().position(|(_, w)| matches!(*w, "-N" | "-P"))?;
            words.get(flag + 1)
        }
        "sqlplus" => plain().find(|(_, w)| w.contains('/')),
        "rclone config" => {
            let pass =
                words.iter().position(|(_, w)| matches!(*w, "pass" | "password" | "secret_access_key" | "token"))?;
            words.get(pass + 1)
        }
        // The seed of a second factor, in base32 or hexadecimal.
        "oathtool" => plain().find(|(_, w)| w.len() >= 16 && w.bytes().all(|b| b.is_ascii_alphanumeric())),
        _ => None,
    };
    let (at, word) = found.filter(|(_, word)| !word.is_empty())?;
    let skip = match program {
        "iwconfig" => 2,
        "sqlplus" => word.find('/')? + 1,
        "xfreerdp" => 3,
        _ => 0,
    };
    let word = word.get(skip..)?;
    let word = if program == "sqlplus" { word.split('@').next()? } else { word };
    let other = word.starts_with(['-', '$', '<', '[', '{', '%', '*', '('])
        || word.starts_with('/')
        || is_nothing(word)
        || word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && program != "oathtool"
        || word.len() < 3
        || word == "password";
    (!other).then_some((to + at + skip, to + at + skip + word.len()))
}

/// Programs that take a password as a positional argument.
pub(super) const PROGRAMS: [&str; 23] = [
    "ansible-vault encrypt_string ",
    "openssl passwd ",
    "ssh-keygen ",
    "sqlplus ",
    "rclone config ",
    "oathtool ",
    "net use ",
    "net user ",
    "htpasswd ",
    "mosquitto_passwd ",
    "mysqladmin ",
    "wpa_passphrase ",
    "add_user ",
    "change_password ",
    "rclone obscure ",
    "redis-cli AUTH ",
    "ngrok authtoken ",
    "add-authtoken ",
    "bindpw ",
    "rootpw ",
    "iwconfig ",
    "xfreerdp ",
    "schtasks ",
];

/// The same in a command line about which nothing else is known.
pub(super) fn in_line(line: &str) -> Option<(usize, usize)> {
    let (at, program) = PROGRAMS.iter().filter_map(|p| line.find(p).map(|at| (at, p))).min()?;
    in_place(line, at, at + program.len())
}

/// The input of a program that asks for a password: `kinit bob <<< …`.
pub(super) fn given(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    const READ: [&str; 8] =
        ["kinit ", "su ", "sudo -S", "smbpasswd ", "passwd ", "--password-stdin", "cryptsetup ", "chpasswd"];
    let line = tail(text, from, 120).rsplit(['\n', ';', '|']).next()?;
    if !READ.iter().any(|program| line.contains(program)) {
        return None;
    }
    let (start, end) = value_at(text, to, false, true)?;
    let value = text.get(start..end)?;
    (!value.starts_with('$') && !is_nothing(value)).then_some((start, end))
}

/// The password that a database hashes: `crypt('…', gen_salt('bf'))`.
pub(super) fn crypt(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 200);
    let end = rest.find('\'').filter(|end| *end > 0)?;
    let salted = rest.get(end + 1..)?.trim_start_matches([',', ' ']).starts_with("gen_salt");
    (salted && !is_nothing(rest.get(..end)?)).then_some((to, to + end))
}

/// `SET PASSWORD FOR 'bob'@'%' = '…'`
pub(super) fn set_password(text: &str, to: usize) -> Option<(usize, usize)> {
    let sign = head(text, to, 160).split([';', '\n']).next()?.find('=')?;
    let rest = head(text, to + sign + 1, 16).trim_start().to_ascii_lowercase();
    let (start, end) = value_at(text, to + sign + 1, false, true)?;
    (!rest.starts_with("password(") && !is_nothing(text.get(start..end)?)).then_some((start, end))
}

/// The second of two words after *credentials*: `credentials: bob / …`, `creds bob:…`.
pub(super) fn credentials(text: &str, to: usize) -> Option<(usize, usize)> {
    let line = head(text, to, 160).split('\n').next()?;
    let sign = line.find(" / ").map(|at| at + 3).or_else(|| line.find([':', '/']).map(|at| at + 1))?;
    let user = line.get(..sign)?.trim_end_matches([' ', '/', ':']).trim_matches(['`', '"', '\'']);
    let after = line.get(sign..)?;
    let inner = after.trim_start_matches(['`', '"', '\'', ' ']);
    let len = inner
        .find(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | ',' | ';' | ')'))
        .unwrap_or(inner.len());
    let word = inner.get(..len)?.trim_end_matches('.');
    let start = to + sign + after.len() - inner.len();
    let name =
        !user.is_empty() && user.split(' ').count() <= 2 && user.len() <= 64 && !user.contains(['(', '{', '=', '<']);
    (name && looks_random(word) && !is_nothing(word) && !word.contains("//")).then_some((start, start + word.len()))
}

/// The default of a Terraform variable with the name of a secret: `variable "db_password" { default = "…" }`. The name
/// is at `to`.
pub(super) fn variable(text: &str, to: usize) -> Option<(usize, usize)> {
    let near = head(text, to, 1024);
    let (name, rest) = near.split_once('"')?;
    let rest = rest.trim_start().strip_prefix('{')?;
    secret_keys::named(name).filter(|found| found.kind == Kind::Secret)?;
    let block = rest.get(..rest.find("\n}").unwrap_or(rest.len()))?;
    let at = block
        .find("default")
        .filter(|at| block.get(..*at).is_some_and(|lead| lead.ends_with([' ', '\n', '\t', '{'])))?;
    let sign = block.get(at + 7..)?.trim_start().strip_prefix('=')?;
    let inner = sign.trim_start().strip_prefix('"')?;
    let value = inner.get(..inner.find('"')?)?;
    let start = to + near.len() - rest.len() + block.len() - inner.len();
    (!value.is_empty() && !is_nothing(value)).then_some((start, start + value.len()))
}

/// The value of a row that is selected by the name of a secret: `SET value = '…' WHERE name = 'smtp_password'`. The `=`
/// after `name` is at `at`.
pub(super) fn set_where(text: &str, at: usize, name: &str) -> Option<(usize, usize)> {
    const NAMES: [&str; 7] = ["name", "key", "setting", "option_name", "config_key", "variable", "code"];
    let column = name.rsplit([' ', '.']).next()?;
    if !NAMES.iter().any(|n| n.eq_ignore_ascii_case(column)) {
        return None;
    }
    let lead = tail(text, at, 400);
    let place = lead.to_ascii_lowercase().rfind("where")?;
    let set = lead.get(..place)?;
    let (start, end) = value_at(head(text, 0, at + 160), at + 1, false, true)?;
    secret_keys::named(text.get(start..end).filter(|n| n.len() <= 64)?).filter(|found| found.kind == Kind::Secret)?;
    let set = set.trim_end();
    let value = set.strip_suffix('\'')?;
    let open = value.rfind('\'')?;
    let begins = value.get(..open)?.trim_end().ends_with('=');
    let from = at - lead.len();
    (begins && open + 1 < value.len() && !is_nothing(value.get(open + 1..)?))
        .then_some((from + open + 1, from + value.len()))
}

/// The password of a wireless network in a QR code: `WIFI:T:WPA;S:home;P:…;;`.
pub(super) fn wifi(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 256);
    let at = if rest.starts_with("P:") { 2 } else { rest.find(";P:")? + 3 };
    let value = rest.get(at..)?;
    let mut escaped = false;
    let end = value.find(|c: char| {
        let ends = c == ';' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    (end > 0).then_some((to + at, to + at + end))
}

/// `host:5432:database:user:password`, alone on its line; the colon after the host is at `at`.
pub(super) fn pgpass(text: &str, at: usize) -> Option<(usize, usize)> {
    // A port or an asterisk, and a colon.
    let port = text.as_bytes().get(at + 1..)?.iter().take(6).position(|b| *b == b':')?;
    if port == 0 || port > 5 {
        return None;
    }
    let host = tail(text, at, 200).rsplit('\n').next()?;
    let line = head(text, at + 1, 300).split(['\n', '\r']).next()?;
    let mut fields = line.splitn(4, ':');
    let (port, database, user, password) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let number = (4..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let name = |name: &str| {
        name == "*"
            || name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let host_name = host == "*"
        || host == "localhost"
        || host.starts_with('/')
        || host.contains('.') && !host.contains(' ')
        || name(host) && looks_random(password);
    let tells = host_name
        && (number || port == "*")
        && name(database)
        && name(user)
        && password.len() >= 4
        && !password.contains(' ');
    let start = at + 1 + line.len() - password.len();
    (tells && !is_nothing(password)).then_some((start, start + password.len()))
}

/// Keys of Bitcoin wallets: 51 or 52 characters of base58 that begin with 5, K or L, or in test networks with 9 or c.
///
/// A key that long covers at least one of every 51 positions of the text, so only every 51st byte is checked at first.
pub(super) fn wallet_keys(text: &str, hits: &mut Hits<'_>) {
    const LEN: usize = 51;
    let bytes = text.as_bytes();
    for at in (LEN - 1..bytes.len()).step_by(LEN) {
        if !bytes[at].is_ascii_alphanumeric() {
            continue;
        }
        let back = bytes[..at].iter().rev().take(LEN + 2).take_while(|b| b.is_ascii_alphanumeric()).count();
        let on = bytes[at..].iter().take(LEN + 2).take_while(|b| b.is_ascii_alphanumeric()).count();
        let (start, end) = (at - back, at + on);
        let base58 = |b: &u8| !matches!(b, b'0' | b'O' | b'I' | b'l');
        let count = |f: fn(&u8) -> bool| bytes[start..end].iter().filter(|b| f(b)).count();
        let kind = matches!((bytes[start], end - start), (b'5' | b'9', LEN) | (b'K' | b'L' | b'c', 52));
        let joined = before(bytes, start).is_some_and(|b| matches!(b, b'+' | b'/' | b'_' | b'-'))
            || bytes.get(end).is_some_and(|b| matches!(b, b'+' | b'/' | b'_' | b'='));
        if kind
            && !joined
            && bytes[start..end].iter().all(base58)
            && count(u8::is_ascii_uppercase) >= 8
            && count(u8::is_ascii_lowercase) >= 8
            && count(u8::is_ascii_digit) >= 2
        {
            hits.add(Detector::ApiKey, start, end);
        }
    }
}
