//! Secrets in sentences: `my password is …`, `IDENTIFIED BY '…'`, `PASSWORD '…'`, `pin 4711`, and settings written as
//! name and value without a sign between them.

use super::ends::value_at;
use super::value::{is_code, is_nothing, looks_random};
use super::{head, is_word, page, tail};
use crate::redact::secret_keys::{self, Kind};
use std::ops::RangeInclusive;

/// Phrases between a password's name and the password in a sentence.
const IS: [&str; 30] = [
    "'s still ",
    " is still ",
    "'s ",
    " lautet: ",
    " est : ",
    " es: ",
    " was changed to ",
    " has been set to ",
    " is now ",
    " is: ",
    " is ",
    " was ",
    " to ",
    " ist ",
    " lautet ",
    " es ",
    " est ",
    " é ",
    " è ",
    " on ",
    " är ",
    " er ",
    " jest ",
    " to: ",
    " — ",
    " - ",
    " set to ",
    " changed to ",
    " → ",
    " ➜ ",
];
/// More such phrases, where a password certainly follows.
const IS_TOO: [&str; 16] = [
    " -> ",
    " => ",
    " from ",
    "是",
    "为",
    "は",
    "는 ",
    "은 ",
    "：",
    "を",
    "改成了",
    "改成",
    "改为",
    "设为",
    "设置为",
    "設為",
];
/// The same across two sentences: `the api token, it's …`.
const IT_IS: [&str; 8] = [", it's ", ", it is ", ". It's ", ". It is ", ", that's ", ": it's ", " (it's ", ", namely "];
/// Phrases between the name and the password after *password of the system*.
const THEN: [&str; 20] = [
    " lautet: ",
    " ist: ",
    " est : ",
    " est: ",
    " was changed to ",
    " has been set to ",
    " is now ",
    " is: ",
    " is ",
    " was ",
    " ist ",
    " lautet ",
    " es ",
    " est ",
    " é ",
    " è ",
    " är ",
    " er ",
    " jest ",
    " je ",
];

/// `my password is hunter2`, `password 'hunter2'`, `the password for the database is hunter2`: finds the word after it,
/// unless it only continues the sentence.
pub(super) fn password_is(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 160);
    // `parola d'ordine = …`
    if let Some(after) = rest.strip_prefix(" d'ordine").or_else(|| rest.strip_prefix(" d’ordine"))
        && let Some(after) = after.trim_start().strip_prefix([':', '=']).or_else(|| after.strip_prefix(" è "))
    {
        return word_at(text, to + rest.len() - after.len(), false);
    }
    if text.get(from..to).is_some_and(|word| word.ends_with(['는', '은'])) && rest.starts_with(' ') {
        return word_at(text, to + 1, false);
    }
    if let Some(found) = typed(text, to).or_else(|| used_as(text, from)).or_else(|| in_link(text, to)) {
        return Some(found);
    }
    if let Some(found) = dotted(text, to).or_else(|| app_password(text, from, to)) {
        return Some(found);
    }
    // *changer le mot de passe en …*
    if let Some(found) = rest.strip_prefix(" en ").and_then(|_| word_at(text, to + 4, true)) {
        return Some(found);
    }
    if let Some(after) = IS.into_iter().chain(IS_TOO).chain(IT_IS).find_map(|w| rest.strip_prefix(w)) {
        return word_at(text, to + rest.len() - after.len(), false);
    }
    if let Some(found) = quoted(text, from, to) {
        return Some(found);
    }
    // A machine's login in `.netrc`.
    let lead = tail(text, from, 96);
    if rest.starts_with([' ', '\n', '\t'])
        && lead.contains("login ")
        && (lead.contains("machine ") || lead.contains("default "))
    {
        let value = rest.trim_start();
        let end = value.find(char::is_whitespace).unwrap_or(value.len());
        let start = to + rest.len() - value.len();
        return (end > 0).then_some((start, start + end));
    }
    // The name is alone on its line, and the password is on the next.
    if rest.starts_with('\n') && tail(text, from, 16).rsplit('\n').next().is_some_and(|lead| lead.trim().is_empty()) {
        return word_at(text, to + 1, true);
    }
    let after = rest.strip_prefix([' ', '\t'])?;
    // `password S3cr3tPass`
    let word = word_at(text, to + 1, true).or_else(|| further(text, from, to));
    if word.is_some() {
        return word;
    }
    const OF: [&str; 43] = [
        "от ", "для ", "к ", "for ", "of ", "für ", "pour ", "to ", "on ", "de ", "del ", "do ", "da ", "dos ", "das ",
        "di ", "della ", "dello ", "dell'", "van ", "voor ", "von ", "vom ", "zum ", "zur ", "des ", "du ", "d'",
        "de l'", "al ", "para ", "per ", "na ", "dla ", "za ", "k ", "till ", "för ", "til ", "to the ", "at ", "in ",
        "im ",
    ];
    let of = OF.iter().any(|w| after.starts_with(w));
    let sentence = after.split(['\n', '.', ';', '?', '!']).next()?;
    let then = THEN.iter().filter_map(|w| sentence.find(w).map(|at| (at, *w)));
    // Polish: *hasło do … to …*.
    let to_be = after.strip_prefix("do ").and_then(|_| sentence.find(" to ")).map(|at| (at, " to "));
    let (at, word) = then.chain(to_be).min_by_key(|(at, word)| (*at, std::cmp::Reverse(word.len())))?;
    if !of && !word.ends_with(": ") || at > 64 {
        return None;
    }
    word_at(text, to + 1 + at + word.len(), false)
}

/// The one word with digits after a few others, in languages with another word order: `пароль админа теперь …`.
fn further(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    const WORDS: usize = 6;
    let name = text.get(from..to)?.to_lowercase();
    if name.starts_with("pass") || name.starts_with("pw") {
        return None;
    }
    let sentence = head(text, to, 120).split(['\n', '?', '!']).next()?;
    let mut at = to;
    for word in sentence.split_inclusive(' ').take(WORDS + 1) {
        let bare = word.trim_end();
        if bare.contains(|c: char| c.is_ascii_digit()) {
            return word_at(text, at, true).filter(|(start, _)| *start < at + word.len());
        }
        if bare.ends_with(['.', ';', ',']) {
            return None;
        }
        at += word.len();
    }
    None
}

/// `password......."…"`, `Password .......: …`, as in programs' listings of settings.
fn dotted(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 200).split('\n').next()?;
    let after = rest.trim_start_matches(['.', ' ', '_', '·']);
    if !rest.get(..rest.len() - after.len())?.contains("...") {
        return None;
    }
    let after = after.strip_prefix([':', '=']).unwrap_or(after).trim_start();
    let start = to + rest.len() - after.len();
    let from = start;
    let near = head(text, 0, from + 256);
    let (start, end) = value_at(near, from, false, true)?;
    let value = text.get(start..end)?;
    let word = value.bytes().all(|b| b.is_ascii_lowercase());
    let tells = !word && value.len() >= 4 && !is_nothing(value) && !is_code(text, start, end);
    // Read the whole value only once it is known to be a secret.
    let whole = || if end < near.len() { Some((start, end)) } else { value_at(text, from, false, true) };
    tells.then(whole).flatten()
}

/// Four groups of four letters, as in app passwords from Google and Apple:
/// `app password for mail: abcd efgh ijkl mnop`.
fn app_password(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let lead = tail(text, from, 16).to_ascii_lowercase();
    let lead = lead.trim_end_matches([' ', '-', '_']);
    if !["app", "application", "specific", "apps"].iter().any(|w| lead.ends_with(w)) {
        return None;
    }
    let rest = head(text, to, 96);
    let at = rest.find([':', '=', '`', '"', '\'']).or_else(|| rest.find(" is ").map(|at| at + 3))?;
    let after = rest.get(at..)?.trim_start_matches([':', '=', '`', '"', '\'', ' ', '*']);
    let start = rest.len() - after.len();
    let code = after.get(..19)?;
    let four = |sign| {
        code.split(sign).count() == 4
            && code.split(sign).all(|p| p.len() == 4 && p.bytes().all(|b| b.is_ascii_lowercase()))
    };
    (four(' ') || four('-')).then_some((to + start, to + start + 19))
}

/// The text that a program types into the field: `page.locator("input[name=password]").fill("…")`.
fn typed(text: &str, to: usize) -> Option<(usize, usize)> {
    const TYPES: [&str; 7] =
        [".fill(", ".type(", ".send_keys(", ".sendKeys(", ".setValue(", ".press_sequentially(", ".val("];
    let rest = head(text, to, 160).split('\n').next()?;
    // `…]").fill(`
    let at = head(rest, 0, 26).find(").")? + 1;
    const FIRST: [&str; 5] = [".clear()", ".focus()", ".click()", ".first()", ".last()"];
    let first = FIRST.iter().find(|first| rest.get(at..).is_some_and(|rest| rest.starts_with(**first)));
    let at = at + first.map_or(0, |first| first.len());
    let call = TYPES.iter().find(|call| rest.get(at..).is_some_and(|rest| rest.starts_with(*call)))?;
    let inner = rest.get(at + call.len()..)?;
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let value = inner.get(1..)?;
    let value = value.get(..value.find(quote)?)?;
    let start = to + at + call.len() + 1;
    (!value.is_empty() && !is_nothing(value) && !value.starts_with('$')).then_some((start, start + value.len()))
}

/// `use … as the password`; `password` begins at `from`.
fn used_as(text: &str, from: usize) -> Option<(usize, usize)> {
    let lead = tail(text, from, 96);
    let before = ["as the ", "as my ", "as your ", "as a ", "as ", "as the new ", "as the admin "]
        .iter()
        .filter_map(|w| lead.strip_suffix(w))
        .min_by_key(|l| l.len())?;
    let before = before.trim_end_matches([' ', '"', '\'', '`']);
    let word = before.rsplit([' ', '"', '\'', '`', '\n']).next()?;
    let start = from - lead.len() + before.len() - word.len();
    let said = ["use", "set", "with", "enter", "using"]
        .iter()
        .any(|w| before.get(..before.len() - word.len()).is_some_and(|b| b.to_ascii_lowercase().contains(w)));
    (said && looks_random(word) && !is_code(text, start, start + word.len())).then_some((start, start + word.len()))
}

/// `/reset-password/…`: the token in a link that was sent.
fn in_link(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 400).strip_prefix('/')?;
    let rest = rest.strip_prefix("reset/").or_else(|| rest.strip_prefix("new/")).unwrap_or(rest);
    let start = to + head(text, to, 400).len() - rest.len();
    let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')).unwrap_or(rest.len());
    let word = rest.get(..len)?;
    let start = start.max(to);
    (len >= 20 && looks_random(word)).then_some((start, start + len))
}

/// The word at `from`. `strict` if no *is* precedes it.
fn word_at(text: &str, from: usize, strict: bool) -> Option<(usize, usize)> {
    let rest = head(text, from, 96);
    let after = rest.trim_start_matches([' ', '\t', '"', '\'', '`', ':', '*', '「', '『', '“', '„', '«']);
    let closes = |c: char| matches!(c, '"' | '\'' | '`' | '」' | '』' | '”' | '»');
    let word = after.split(|c: char| c.is_whitespace() || closes(c)).next()?;
    // Chinese and Japanese do not separate words, and a counter follows the digits there.
    let wide = word.find(|c: char| c >= '\u{2e80}').unwrap_or(word.len());
    let word = word.get(..wide).filter(|w| wide == word.len() || !w.bytes().all(|b| b.is_ascii_digit()))?;
    let word = word.trim_end_matches(['.', ',', ';', '!', '?', ')', '*']);
    let plain =
        word.bytes().skip(1).all(|b| b.is_ascii_lowercase() || !b.is_ascii() || matches!(b, b'-' | b'\'' | b'/'));
    let start = from + rest.len() - after.len();
    let end = start + word.len();
    let upper = word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let kinds = [u8::is_ascii_digit, u8::is_ascii_uppercase, u8::is_ascii_lowercase]
        .iter()
        .filter(|f| word.as_bytes().iter().any(f))
        .count();
    let sign = word.bytes().any(|b| b"!@#$%^&*".contains(&b));
    let sure =
        !strict || looks_random(word) && (word.len() >= 8 && (kinds == 3 || kinds == 2 && sign) || is_jumble(word));
    let tells = word.len() >= 4
        && !plain
        && !upper
        && sure
        && !is_nothing(word)
        && !is_code(text, start, end)
        && !word.starts_with(['[', '-', '<', '{']);
    tells.then_some((start, end))
}

/// Lower-case letters and digits in turn, too long to be a word, and not a hash.
fn is_jumble(word: &str) -> bool {
    let bytes = word.as_bytes();
    let turns = bytes.windows(2).filter(|w| matches!(w, [a, b] if a.is_ascii_digit() != b.is_ascii_digit())).count();
    bytes.len() >= 16
        && turns >= 4
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && !bytes.iter().all(u8::is_ascii_hexdigit)
}

/// The digits after the verb of a sentence: *the PIN for the cabinet is 917743*, *meine PIN lautet 4711*.
pub(super) fn pin_said(text: &str, to: usize) -> Option<(usize, usize)> {
    const FAR: usize = 48;
    let sentence = head(text, to, FAR + 16).split(['\n', '.', ';', '?', '!', '"']).next()?;
    let verb = |verb: &&str| sentence.find(*verb).map(|at| at + verb.len());
    let at = [" is ", " is: ", " lautet ", " ist ", " est ", " es ", " è "].iter().filter_map(verb).min()?;
    let len = sentence.get(at..)?.bytes().take_while(u8::is_ascii_digit).count();
    let between = sentence.get(..at)?;
    let ends = text.as_bytes().get(to + at + len).is_none_or(|b| !is_word(*b) && *b != b'-');
    let few = at <= FAR && between.starts_with(' ') && !between.bytes().any(|b| b.is_ascii_digit());
    (few && ends && (4..=8).contains(&len)).then_some((to + at, to + at + len))
}

/// `PASSWORD 'hunter2'`, `PASSWORD('hunter2')`, `password "hunter2"`.
fn quoted(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 160);
    let after = rest.trim_start_matches([' ', '(', '=', 'N']);
    let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"') && after.len() < rest.len())?;
    let inner = after.get(1..)?;
    let value = inner.get(..inner.find(quote)?)?;
    let start = to + rest.len() - inner.len();
    let setter =
        rest.starts_with('(') && ["set", "with"].iter().any(|w| tail(text, from, 4).to_ascii_lowercase().ends_with(w));
    let sql = setter
        || text.get(from..to)?.bytes().all(|b| b.is_ascii_uppercase())
        || ["with ", "encrypted ", "set ", "by "]
            .iter()
            .any(|w| tail(text, from, 10).to_ascii_lowercase().ends_with(w));
    let letters = value.bytes().all(|b| b.is_ascii_alphabetic());
    let tells = !value.is_empty()
        && !value.contains([' ', '\n', '='])
        && !is_nothing(value)
        && (sql
            || rest.starts_with('(') && page::is_call(text, from, to) && page::is_set(value)
            || !letters && value.len() >= 6 && !is_code(text, start, start + value.len()) && !rest.starts_with('('));
    tells.then_some((start, start + value.len()))
}

/// `token is …`, `the api key is …`, `token ghx…`: only values that look like a token or key.
pub(super) fn secret_is(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 200);
    let after = IS.into_iter().chain(IT_IS).find_map(|w| rest.strip_prefix(w));
    // `the secret for the webhook is …`
    let of = || {
        let of = [" for ", " of ", " to ", " für "].iter().any(|w| rest.starts_with(w));
        let sentence = rest.split(['\n', '.', ';', '?', '!']).next().filter(|_| of)?;
        let at = sentence.find(" is ").filter(|at| *at < 56)?;
        rest.get(at + 4..)
    };
    let after = after.or_else(of).or_else(|| rest.strip_prefix(' '))?;
    let strict = to + rest.len() - after.len() == to + 1;
    let after = after.trim_start_matches(['"', '\'', '`', '*']);
    let start = to + rest.len() - after.len();
    let word = after.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | ')')).next()?;
    let word = word.trim_end_matches(['.', '!', '?', '*', ':']);
    let count = |f: fn(&u8) -> bool| word.as_bytes().iter().filter(|b| f(b)).count();
    let digits = count(u8::is_ascii_digit);
    let mixed = count(u8::is_ascii_alphabetic) > 3
        && (digits > 1 || digits == 1 && !strict && word.len() >= 16 && count(u8::is_ascii_uppercase) >= 4);
    let long = if strict { 20 } else { 12 };
    // Forty hexadecimal digits are a commit hash, unless the words before say what they give access to.
    let lead = || tail(text, from, 8).to_ascii_lowercase();
    let hex = word.bytes().all(|b| b.is_ascii_hexdigit())
        && strict
        && !["auth ", "api ", "access ", "secret "].iter().any(|w| lead().ends_with(w));
    let tells = word.len() >= long
        && mixed
        && !hex
        && looks_random(word)
        && !is_code(text, start, start + word.len())
        && !is_nothing(word);
    tells.then_some((start, start + word.len()))
}

/// The statements in which SQL says `IDENTIFIED BY`.
const STATEMENTS: [&str; 8] = [
    " create user ",
    " alter user ",
    " create role ",
    " alter role ",
    " set role ",
    " grant ",
    " connect to ",
    " or replace user ",
];

/// `IDENTIFIED BY '…'` of SQL, with or without `PASSWORD` or `VALUES`: behind the beginning of a statement, or in capitals
/// and with quotes. In a sentence, people and things are identified by names and numbers.
pub(super) fn identified(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let is_statement = || {
        let before = tail(text, from, 200).to_ascii_lowercase();
        let words: Vec<&str> = before.rsplit(';').next().unwrap_or_default().split_whitespace().collect();
        let before = [" ", &words.join(" "), " "].concat();
        STATEMENTS.iter().any(|statement| before.contains(statement))
    };
    let rest = head(text, to, 200);
    let lower = rest.to_ascii_lowercase();
    let by = lower.find(" by ").filter(|&at| at < 40)? + 4;
    let after = rest.get(by..)?.trim_start();
    let after = match after.get(..9).map(str::to_ascii_lowercase).as_deref() {
        Some("password ") => after.get(9..)?,
        _ if lower.get(by..)?.starts_with("values ") => after.get(7..)?,
        _ => after,
    };
    let start = to + rest.len() - after.len();
    let (start, end) = match after.chars().next()? {
        quote @ ('\'' | '"' | '`') => (start + 1, start + 1 + after.get(1..)?.find(quote).unwrap_or(after.len() - 1)),
        _ => (start, start + after.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(after.len())),
    };
    let value = text.get(start..end)?;
    let quoted = before_quote(text, start);
    let is_sql = quoted && text.get(from..to) == Some("IDENTIFIED") || is_statement();
    let word = quoted || value.bytes().any(|b| !b.is_ascii_lowercase());
    (!value.is_empty() && word && is_sql && !is_nothing(value)).then_some((start, end))
}

fn before_quote(text: &str, at: usize) -> bool {
    matches!(super::before(text.as_bytes(), at), Some(b'\'' | b'"' | b'`'))
}

/// A setting without a sign between name and value: `aws configure set aws_secret_access_key …`, `setx API_KEY …`,
/// `ENV DB_PASSWORD …`.
pub(super) fn setting(text: &str, to: usize) -> Option<(usize, usize)> {
    let line = head(text, to, 240).split('\n').next()?;
    let name = line.split([' ', '\t']).next().filter(|n| n.len() >= 2 && !n.contains('='))?;
    secret_keys::named(name.trim_start_matches('_')).filter(|f| f.kind == Kind::Secret)?;
    value_behind(text, to + name.len())
}

/// The word or quoted text after spaces, unless it is a variable.
pub(super) fn value_behind(text: &str, at: usize) -> Option<(usize, usize)> {
    let (start, end) = value_at(text, at, false, true)?;
    let value = text.get(start..end)?;
    (start > at && !value.starts_with(['$', '-', '<', '=']) && !is_nothing(value)).then_some((start, end))
}

/// The digits of a PIN (with `said`, a word or a sign must stand between) or of a card's security code.
pub(super) fn digits_after(text: &str, to: usize, said: bool, count: RangeInclusive<usize>) -> Option<(usize, usize)> {
    let rest = head(text, to, 24);
    let digits = rest.find(|c: char| c.is_ascii_digit())?;
    // `CVV2: 123`
    let digits = match rest.as_bytes() {
        [b'2', ..] if !said => 1 + rest.get(1..)?.find(|c: char| c.is_ascii_digit())?,
        _ => digits,
    };
    let between = rest.get(..digits)?.trim_matches([' ', ':', '=', '#', '.', '2']);
    let words = matches!(between, "" | "is" | "ist" | "es" | "est" | "code" | "number" | "code is" | "code:" | "is:");
    let told = !said || between == "is" || rest.get(..digits)?.contains(':');
    let len = rest.get(digits..)?.bytes().take_while(u8::is_ascii_digit).count();
    let ends = text.as_bytes().get(to + digits + len).is_none_or(|b| !is_word(*b));
    (digits > 0 && words && told && ends && count.contains(&len)).then_some((to + digits, to + digits + len))
}

/// The words of a mnemonic after *seed phrase* or *recovery phrase*: all of them, with numbers or commas between them.
pub(super) fn mnemonic_after(text: &str, to: usize) -> Option<(usize, usize)> {
    const NEAR: usize = 64;
    const LONGEST: usize = 24;
    let rest = head(text, to, 600);
    let sign =
        rest.find([':', '=', '"', '\n']).or_else(|| rest.find(" is ").map(|at| at + 3)).filter(|&at| at < NEAR)?;
    let mut at = sign + 1;
    let (mut first, mut end, mut count) = (None, at, 0);
    while count < LONGEST {
        let after = rest.get(at..)?;
        let trimmed = after.trim_start_matches(|c: char| {
            c.is_whitespace()
                || c.is_ascii_digit()
                || matches!(c, '"' | '\'' | '`' | ',' | '.' | ')' | '(' | '[' | '*' | ':' | '=')
        });
        at += after.len() - trimmed.len();
        let len = trimmed.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(trimmed.len());
        if !(3..=8).contains(&len) || !super::mnemonic::is_word(trimmed.get(..len)?) {
            break;
        }
        first = first.or(Some(at));
        at += len;
        (end, count) = (at, count + 1);
    }
    (count >= 6).then_some((to + first?, to + end))
}
