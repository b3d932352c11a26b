//! Secrets that are recognizable by themselves: by a documented vendor prefix, by PEM armour, or by the word before.
//!
//! One automaton finds all literal prefixes in the text; at each match, a check that reads on from there decides. A
//! token's characters belong to one hit, and the search continues after it.

use super::said::{digits_after, identified, mnemonic_after, password_is, pin_said, secret_is, setting, value_behind};
use super::value::{is_nothing, is_status};
use super::vendors::{self, Set, TOKENS};
use super::whole::is_jumbled;
use super::{Hits, before, head, is_word, marked, table, tail, told};
use crate::redact::policy::Detector;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;
use std::sync::LazyLock;

/// What to check at a literal prefix.
#[derive(Debug, Clone, Copy)]
enum Start {
    Token(usize),
    Jwt,
    Pem,
    Url,
    Scheme,
    Birth,
    PasswordIs,
    SecretIs,
    Identified,
    Setting,
    Requirepass,
    Phrase,
    PinIs,
    Code,
    Oracle,
    AzureSecret,
    AzureSas,
    Twilio,
    Telegram,
    Sent,
    Used,
    Form,
    InPlace,
    Given,
    Wifi,
    Terraform,
    Tcp,
    Signed,
    Uuid,
    Ended,
    Firebase,
    Salesforce,
    Armour,
    Hash,
    Codes,
    Variable,
    Pw,
    Crypt,
    Hook,
    Credentials,
    SetPassword,
    Pair,
    Curve,
    Keyed,
    Header,
}

const STARTS: &[(Start, &str)] = &[
    (Start::Jwt, "eyJ"),
    (Start::Pem, "-----BEGIN "),
    (Start::Pem, "PuTTY-User-Key-File-"),
    (Start::Url, "://"),
    (Start::Scheme, "bearer Bearer BEARER basic Basic BASIC"),
    (
        Start::Birth,
        "born Born BORN birth Birth BIRTH dateofbirth dob DOB Dob d.o.b D.O.B D.o.B bday b-day Bday B-day \
         geboren Geboren GEBOREN geburts Geburts GEBURTS geb Geb geboorte Geboorte né Né née Née né(e) Né(e) \
         naissance Naissance NAISSANCE nacido Nacido nacida Nacida nacimiento Nacimiento NACIMIENTO nato nata Nata \
         nascita Nascita NASCITA nascido Nascido nascida Nascida nascimento Nascimento NASCIMENTO född Född födelse \
         Födelse født Født fødsel Fødsel syntynyt syntymä Syntymä urodzon urodzenia narozen született doğum Doğum \
         родился родилась рождения γεννή 生年月日 出生 생년월일",
    ),
    (
        Start::PasswordIs,
        "password Password PASSWORD passphrase Passphrase passcode Passcode Passwort Kennwort contraseña Contraseña senha \
         Senha geslo Geslo heslo Heslo haslo Haslo lozinka Lozinka passord Passord jelszó Jelszó şifre Şifre parola Parola \
         adgangskode Adgangskode Hasło Lösenord lösenordet Lösenordet passordet Passordet Salasana mdp Mdp MDP Şifrem şifrem Şifreniz şifreniz şifresi Şifresi parolası Parolası parolă Parolă clave Clave пароля паролю паролем Паролем κωδικός wachtwoord Wachtwoord passe salasana lösenord hasło пароль Пароль passwd pwd 密码 密碼 口令 パスワード 비밀번호 비밀번호는",
    ),
    (Start::SecretIs, "token Token secret Secret key Key"),
    (Start::Identified, "identified IDENTIFIED Identified"),
    (Start::Phrase, "mnemonic Mnemonic MNEMONIC"),
    (Start::Terraform, ".atlasv1."),
    (Start::Tcp, "@tcp( @unix("),
    (Start::Signed, "=s%3A =s%3a =s:"),
    (
        Start::Hook,
        "/IncomingWebhook/ hooks.zapier.com/hooks/catch/ hook.eu1.make.com/ hook.eu2.make.com/ hook.us1.make.com/ \
                   hooks.airtable.com/workflows/ maker.ifttt.com/trigger/ discordapp.com/api/webhooks/ chat.googleapis.com/v1/spaces/",
    ),
    (Start::PinIs, "pin Pin PIN"),
    (Start::Code, "cvv Cvv CVV cvc Cvc CVC"),
    (Start::Oracle, ":thin:"),
    (Start::AzureSecret, "Q~"),
    (Start::AzureSas, "sig= Signature= &signature="),
    (Start::Twilio, "SK0 SK1 SK2 SK3 SK4 SK5 SK6 SK7 SK8 SK9 SKa SKb SKc SKd SKe SKf"),
    (Start::Telegram, ":AA"),
    (
        Start::Sent,
        "code Code CODE codes código Código codice Codice kod Kod otp OTP TAN 2fa 2FA passcode Passcode Bestätigungscode Einmalcode \
         Sicherheitscode Anmeldecode 验证码 驗證碼 確認コード 認証コード 인증번호",
    ),
    (Start::Used, "verify log sign authenticate"),
    (Start::Form, "form-data;"),
    (Start::Wifi, "WIFI:"),
    (Start::Pw, "pw Pw PW pass Pass"),
    (Start::Crypt, "crypt('"),
    (Start::Uuid, vendors::BEFORE_UUID),
    (Start::Ended, "NRAL -us AZDO"),
    (
        Start::Keyed,
        "Fernet( MultiFernet( SecretBox( AESGCM( AES.new( ChaCha20Poly1305( URLSafeTimedSerializer( URLSafeSerializer( TimestampSigner( Wallet( \
         privateKeyToAccount( from_key( from_mnemonic( fromSecretKey( hmac.new( accounts:[ accounts=[ HmacSHA256( HMAC(",
    ),
    (Start::Curve, "preshared-key private-key PresharedKey"),
    (Start::Firebase, ":APA91b"),
    (Start::Salesforce, "00D"),
    (Start::Armour, "LS0tLS1CRUdJTi"),
    (
        Start::Hash,
        "$argon2 $2a$ $2b$ $2y$ $1$ $5$ $6$ $y$ $apr1$ $scrypt$ $pbkdf2 pbkdf2_sha256$ pbkdf2:sha256: scrypt:32768:",
    ),
];

/// Prefixes that contain spaces.
const SPACED: &[(Start, &str)] = &[
    (Start::Uuid, "Splunk "),
    (Start::Pair, " / "),
    (Start::Keyed, "accounts: ["),
    (Start::Header, "proxy_set_header "),
    (Start::Header, "grpc_set_header "),
    (Start::Header, "fastcgi_param "),
    (Start::Header, "add_header "),
    (Start::Header, "RequestHeader set "),
    (Start::Header, "Header set "),
    (Start::Header, "set-header "),
    (Start::Requirepass, " secret 5 "),
    (Start::Requirepass, "enable password "),
    (Start::Codes, "recovery code"),
    (Start::Codes, "Recovery code"),
    (Start::Codes, "recovery-code"),
    (Start::Codes, "backup code"),
    (Start::Codes, "Backup code"),
    (Start::Codes, "scratch code"),
    (Start::Codes, "Recovery Code"),
    (Start::Codes, "Backup Code"),
    (Start::Variable, "variable \""),
    (Start::Given, "<<< "),
    (Start::Setting, "setenv "),
    (Start::Setting, "set -x "),
    (Start::Setting, "set -gx "),
    (Start::Setting, "set -Ux "),
    (Start::Setting, "configure set "),
    (Start::Setting, "config set "),
    (Start::Setting, "setx "),
    (Start::Setting, "ENV "),
    (Start::Setting, "SetEnv "),
    (Start::Requirepass, "requirepass "),
    (Start::Requirepass, "vault login "),
    (Start::Requirepass, "snmp-server community "),
    (Start::Requirepass, "pre-shared-key "),
    (Start::Requirepass, " password 7 "),
    (Start::Requirepass, " password 0 "),
    (Start::Requirepass, " secret 0 "),
    (Start::Credentials, "credentials: "),
    (Start::Credentials, "Credentials: "),
    (Start::Credentials, "credentials are "),
    (Start::Credentials, "creds: "),
    (Start::Credentials, "creds "),
    (Start::Credentials, "login: "),
    (Start::Credentials, "Login: "),
    (Start::Credentials, "login details: "),
    (Start::Credentials, "wifi: "),
    (Start::Credentials, "WiFi: "),
    (Start::Credentials, "Wi-Fi: "),
    (Start::Credentials, "wlan: "),
    (Start::Codes, "verification codes"),
    (Start::Requirepass, ": PSK "),
    (Start::Requirepass, ": XAUTH "),
    (Start::Requirepass, ": EAP "),
    (Start::Requirepass, "TOTP seed "),
    (Start::Requirepass, "totp seed "),
    (Start::SetPassword, "SET PASSWORD FOR "),
    (Start::SetPassword, "set password for "),
    (Start::Requirepass, "ConvertTo-SecureString "),
    (Start::Requirepass, "ConvertTo-SecureString -String "),
    (Start::Phrase, "seed phrase"),
    (Start::Phrase, "Seed phrase"),
    (Start::Phrase, "seed words"),
    (Start::Phrase, "recovery phrase"),
    (Start::Phrase, "Recovery phrase"),
    (Start::Phrase, "secret phrase"),
];

struct Search {
    automaton: AhoCorasick,
    starts: Vec<Start>,
    date: Regex,
}

static SEARCH: LazyLock<Option<Search>> = LazyLock::new(|| {
    let words = STARTS.iter().chain(SPACED).flat_map(|&(start, words)| match start {
        _ if words.ends_with(' ') || SPACED.iter().any(|spaced| spaced.1 == words) => vec![(start, words)],
        _ => words.split_ascii_whitespace().map(|w| (start, w)).collect(),
    });
    let programs = told::PROGRAMS.iter().map(|program| (Start::InPlace, *program));
    let tokens = TOKENS.iter().enumerate().map(|(i, (prefix, ..))| (Start::Token(i), *prefix));
    let (starts, texts): (Vec<_>, Vec<_>) = words.chain(programs).chain(tokens).unzip();
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::DFA))
        .build(texts)
        .ok()?;
    // The beginnings of month names in the languages of the words for birth above.
    let month = "(?:jan|jän|gen|ene|feb|fev|fév|mar|mär|maa|mrt|apr|abr|avr|may|mai|maj|mei|mag|maggio|jun|jui|juin|giu|\
                 jul|lug|aug|ago|aoû|sep|set|sept|oct|okt|ott|out|nov|dec|dez|déc|dic)[a-zà-ÿ]{0,9}\\.?";
    let date = Regex::new(&format!(
        "(?i)(?:[0-9]{{4}}(?:[-/.]| [-/] ?)[0-9]{{1,2}}(?:[-/.]| [-/] ?)[0-9]{{1,2}}|[0-9]{{4}}年[0-9]{{1,2}}月[0-9]{{1,2}}日|\
         [0-9]{{1,2}}(?:[-/ ]|\\. ?)[0-9]{{1,2}}(?:[-/ ]|\\. ?)(?:[0-9]{{4}}|[0-9]{{2}})|\
         {month} [0-9]{{1,2}}(?:st|nd|rd|th)?,? (?:[0-9]{{4}}|'[0-9]{{2}})|[0-9]{{4}}[- ]{month}[- ][0-9]{{1,2}}|\
         [0-9]{{1,2}}(?:st|nd|rd|th|er|re|º|ª|\\.)?(?: of| de| d')?[ -]{month}(?: of| de| del|,)?[ -](?:[0-9]{{4}}|'?[0-9]{{2}})|\
         (?:19|20)[0-9]{{6}})"
    ))
    .ok()?;
    Some(Search { automaton, starts, date })
});

pub(super) fn find(text: &str, hits: &mut Hits<'_>) {
    let Some(search) = &*SEARCH else {
        // Without the automaton the text cannot be checked, so all of it is hidden.
        hits.add(Detector::ApiKey, 0, text.len());
        return;
    };
    let bytes = text.as_bytes();
    let mut runs = Runs { bytes, last: [(usize::MAX, 0); 6] };
    let (mut done, mut table) = (0, 0);
    for m in search.automaton.find_iter(text) {
        let Some(start) = search.starts.get(m.pattern().as_usize()) else { continue };
        if m.start() < done {
            continue;
        }
        let (from, to) = (m.start(), m.end());
        if matches!(start, Start::PasswordIs | Start::SecretIs)
            && from >= table
            && hits.wants(Detector::Credential)
            && let Some(end) = table::find(text, from, to, hits)
        {
            table = end;
        }
        let found = found_at(search, start, text, (from, to), &mut runs);
        if let Some((detector, a, b)) = found {
            hits.add(detector, a, b);
            done = b;
        }
    }
}

/// What begins with this start, which lies at `from..to`: its detector and its span.
fn found_at(
    search: &Search,
    start: &Start,
    text: &str,
    (from, to): (usize, usize),
    runs: &mut Runs<'_>,
) -> Option<(Detector, usize, usize)> {
    let bytes = text.as_bytes();
    let alone = before(bytes, from).is_none_or(|b| !b.is_ascii_alphanumeric());
    match start {
        Start::Token(i) if alone => TOKENS.get(*i).and_then(|token| {
            let end = runs.end(to, token.1);
            (end - to >= token.2).then_some((Detector::ApiKey, from, trim(bytes, to, end)))
        }),
        Start::Jwt if alone => jwt(runs, from).map(|end| (Detector::Jwt, from, end)),
        Start::Pem => pem(text, from).map(|end| (Detector::PrivateKey, from, end)),
        Start::Url => password_in_url(text, to).map(|(a, b)| (Detector::ConnectionString, a, b)),
        Start::Scheme if alone => scheme(text, from, to).map(|(a, b)| (Detector::Bearer, a, b)),
        Start::Birth if is_birth(text, from, to) => {
            birth(text, to, &search.date).map(|(a, b)| (Detector::DateOfBirth, a, b))
        }
        Start::PasswordIs => {
            let sent = || if text[from..to].ends_with("asscode") { told::code(text, from, to) } else { None };
            password_is(text, from, to).or_else(sent).map(|(a, b)| (Detector::Credential, a, b))
        }
        Start::SecretIs => secret_is(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Identified if alone => identified(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Setting if alone => setting(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Requirepass if alone || text[from..to].starts_with(' ') => {
            value_behind(text, to - 1).map(|(a, b)| (Detector::Credential, a, b))
        }
        Start::Phrase => mnemonic_after(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Terraform => terraform(runs, from, to).map(|(a, b)| (Detector::ApiKey, a, b)),
        Start::Signed => Some((from + 1, run_signature(bytes, to)))
            .filter(|(a, b)| b - a >= 40)
            .map(|(a, b)| (Detector::Credential, a, b)),
        Start::Tcp => dsn(text, from).map(|(a, b)| (Detector::ConnectionString, a, b)),
        Start::PinIs if alone => {
            let found = digits_after(text, to, true, 4..=8).or_else(|| pin_said(text, to));
            found.map(|(a, b)| (Detector::Credential, a, b))
        }
        Start::Code if alone => digits_after(text, to, false, 3..=4).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Oracle => oracle(text, to).map(|(a, b)| (Detector::ConnectionString, a, b)),
        Start::AzureSecret => azure_secret(bytes, from, to).map(|(a, b)| (Detector::ApiKey, a, b)),
        Start::AzureSas => {
            Some((to, run_signature(bytes, to))).filter(|(a, b)| b - a >= 40).map(|(a, b)| (Detector::ApiKey, a, b))
        }
        Start::Twilio if alone => {
            let end = runs.end(from + 2, Set::Hex);
            (end == from + 34).then_some((Detector::ApiKey, from, end))
        }
        Start::Sent => told::code(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Used if alone => told::used(text, from).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Form => told::form(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::InPlace if alone || text[from..to].contains('_') => {
            told::in_place(text, from, to).map(|(a, b)| (Detector::Credential, a, b))
        }
        Start::Given => told::given(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Wifi if alone => told::wifi(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Pw if alone && matches!(bytes.get(to), Some(b' ' | b'\'')) => {
            password_is(text, from, to).map(|(a, b)| (Detector::Credential, a, b))
        }
        Start::Hook => {
            Some((to, vendors::hook(bytes, to))).filter(|(a, b)| b - a >= 10).map(|(a, b)| (Detector::ApiKey, a, b))
        }
        Start::Credentials if alone => told::credentials(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::SetPassword => told::set_password(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Crypt => told::crypt(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Uuid if alone => {
            let from = if text[from..to].ends_with(' ') { to } else { from };
            vendors::uuid(text, from, to).map(|(a, b)| (Detector::ApiKey, a, b))
        }
        Start::Ended => vendors::ended(text, from, to).map(|(a, b)| (Detector::ApiKey, a, b)),
        Start::Firebase => vendors::firebase(text, from, to).map(|(a, b)| (Detector::ApiKey, a, b)),
        Start::Salesforce if alone => vendors::salesforce(text, from).map(|(a, b)| (Detector::ApiKey, a, b)),
        Start::Armour => vendors::armour(text, from).map(|end| (Detector::PrivateKey, from, end)),
        Start::Hash => vendors::hash(text, from, to).map(|end| (Detector::Credential, from, end)),
        Start::Pair => marked::pair(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Curve => marked::curve(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Keyed => marked::keyed(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Header if alone => marked::header(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Codes => vendors::codes(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Variable => told::variable(text, to).map(|(a, b)| (Detector::Credential, a, b)),
        Start::Telegram => telegram(runs, from).map(|(a, b)| (Detector::ApiKey, a, b)),
        _ => None,
    }
}

/// The ends of runs of bytes from one set. The last run of each set is cached, so that a text full of prefixes is not
/// read to its end again and again.
struct Runs<'t> {
    bytes: &'t [u8],
    last: [(usize, usize); 6],
}

impl Runs<'_> {
    /// The end of the run of bytes in `set` that starts at `at`.
    fn end(&mut self, at: usize, set: Set) -> usize {
        let (from, to) = self.last[set as usize];
        if (from..=to).contains(&at) {
            return to;
        }
        let rest = self.bytes.get(at..).unwrap_or_default();
        let end = at + rest.iter().position(|&b| !set.has(b)).unwrap_or(rest.len());
        self.last[set as usize] = (at, end);
        end
    }
}

/// A full stop after a token ends the sentence.
fn trim(bytes: &[u8], from: usize, mut end: usize) -> usize {
    while end > from && before(bytes, end) == Some(b'.') {
        end -= 1;
    }
    end
}

/// Header and payload are JSON objects, so both begin with `eyJ`. An unsigned token has nothing after the second dot,
/// an encrypted one has five parts.
fn jwt(runs: &mut Runs<'_>, from: usize) -> Option<usize> {
    let bytes = runs.bytes;
    let mut end = runs.end(from, Set::Url);
    if bytes.get(end) != Some(&b'.') || end - from < 12 {
        return None;
    }
    for _ in 0..4 {
        if bytes.get(end) != Some(&b'.') {
            break;
        }
        end = runs.end(end + 1, Set::Url);
    }
    (end - from >= 20).then_some(trim(bytes, from, end))
}

/// From the first line of the armour to its last, or to the end of the text if that is missing.
fn pem(text: &str, from: usize) -> Option<usize> {
    let line = head(text, from, 80);
    let putty = line.starts_with("PuTTY");
    if !putty && !line.get(11..)?.split("-----").next()?.contains("PRIVATE KEY") {
        return None;
    }
    // A pattern, or a mention of such keys: no key follows.
    if !putty && !has_body(text, from) {
        return None;
    }
    let rest = text.get(from..)?;
    let end = rest.find("-----END ").filter(|_| !putty).and_then(|at| {
        let after = rest.get(at + 9..)?;
        let close = after.find("-----")?;
        Some(from + at + 9 + close + 5)
    });
    Some(end.unwrap_or(text.len()))
}

/// Whether base64 follows the first line of the armour.
fn has_body(text: &str, from: usize) -> bool {
    const HEAD: usize = 11;
    const NEAR: usize = 600;
    let near = head(text, from + HEAD, NEAR);
    let Some((name, body)) = near.split_once("-----") else { return false };
    let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
    let has = |run: &str, f: fn(&u8) -> bool| run.as_bytes().iter().any(f);
    let long = |run: &str| {
        run.len() >= 16 || run.len() >= 8 && has(run, u8::is_ascii_uppercase) && has(run, u8::is_ascii_lowercase)
    };
    let body = body.split("-----END").next().unwrap_or_default();
    plain && body.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/' | '=')).any(long)
}

/// The password between `user:` and `@host`, or the user name if that is the secret (`https://TOKEN@host`).
fn password_in_url(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let stop = |b: u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\');
    let authority = rest.bytes().position(|b| stop(b) || matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let part = rest.get(..authority)?;
    let user_info = part.rfind('@').or_else(|| at_behind(rest, authority)).map(|at| (rest.get(..at), at));
    let (user_info, at) = match user_info {
        Some((user_info, at)) => (user_info?, at),
        None => {
            // A password with an unescaped slash or hash.
            let scheme =
                tail(text, from.checked_sub(3)?, 16).rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '+').next()?;
            const STORES: [&str; 11] = [
                "postgres",
                "postgresql",
                "mysql",
                "mariadb",
                "mongodb",
                "mongodb+srv",
                "redis",
                "rediss",
                "amqp",
                "amqps",
                "mssql",
            ];
            let port = part.split_once(':')?.1;
            // `http://user:pass#word@proxy`
            let hash = rest.as_bytes().get(authority) == Some(&b'#')
                && head(rest, authority, 64).split(|c: char| c == '/' || c.is_whitespace()).next()?.contains('@');
            if !STORES.contains(&scheme) && !hash || !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let limit = head(rest, 0, 512);
            let end = limit.bytes().position(stop).unwrap_or(limit.len());
            let at = limit.get(..end)?.rfind('@')?;
            if port.is_empty() && !is_jumbled(rest.get(authority..at)?) {
                return None;
            }
            (rest.get(..at)?, at)
        }
    };
    match user_info.find(':') {
        Some(colon) if is_nothing(user_info.get(colon + 1..)?) => None,
        Some(colon) if colon + 1 < at => Some((from + colon + 1, from + at)),
        None if user_info.len() >= 20 => Some((from, from + at)),
        _ => None,
    }
}

/// The `@` of a URL whose password contains a quote, a bracket, a backslash or a space at `sign`:
/// `postgres://app:…'…@db`.
fn at_behind(rest: &str, sign: usize) -> Option<usize> {
    const LONGEST: usize = 128;
    let (user, begun) = rest.get(..sign)?.split_once(':')?;
    let blank = matches!(rest.as_bytes().get(sign)?, b' ' | b'\\' | b'"' | b'\'' | b'<' | b'>' | b'`');
    let line = head(rest, sign, LONGEST).split(['\n', '\r']).next()?;
    let at = line.rfind('@').filter(|_| blank && !user.contains(['[', '/']))?;
    let (password, host) = (line.get(1..at)?, line.get(at + 1..)?);
    // Only one such character within it, and no text, markup or other string after it.
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'`<>,;()[]{}/:@".contains(&b))
    };
    let port = !begun.is_empty() && begun.bytes().all(|b| b.is_ascii_digit()) || begun.starts_with(['$', '{', '%']);
    let whole = match (begun.is_empty(), password.is_empty()) {
        (false, false) => word(password),
        _ => word(password) && is_jumbled(password) || is_jumbled(begun),
    };
    (whole && !port && host.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(sign + at)
}

/// The text after `Bearer` or `Basic`, if it looks like a token and not like a sentence.
fn scheme(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut start = to;
    while bytes.get(start).is_some_and(|b| matches!(b, b' ' | b'\t' | b':')) && start - to < 4 {
        start += 1;
    }
    if start == to {
        return None;
    }
    let rest = bytes.get(start..)?;
    let set = |b: u8| Set::Base64.has(b) || matches!(b, b'.' | b'~');
    let end = trim(bytes, start, start + rest.iter().position(|&b| !set(b)).unwrap_or(rest.len()));
    let token = text.get(start..end).filter(|token| !is_nothing(token))?;
    let has = |f: fn(&u8) -> bool| token.as_bytes().iter().any(f);
    let digit = has(u8::is_ascii_digit);
    let mixed = has(u8::is_ascii_uppercase)
        && token.bytes().skip(1).any(|b| b.is_ascii_uppercase())
        && has(u8::is_ascii_lowercase);
    let header =
        tail(text, from, 24).to_ascii_lowercase().trim_end_matches([' ', ':', '"', '\'']).ends_with("authorization");
    let token_like = token.len() >= 8 && (digit || mixed || token.ends_with('=')) || token.len() >= 32;
    (token_like || header && !token.is_empty() && !is_status(token)).then_some((start, end))
}

/// Whether a word for birth is a word of its own: not *adobe*, *stubborn*, *bornholm*.
fn is_birth(text: &str, from: usize, to: usize) -> bool {
    let word = text.get(from..to).unwrap_or_default();
    let first = word.chars().next().unwrap_or(' ');
    let lead = text.get(..from).and_then(|t| t.chars().next_back()).unwrap_or(' ');
    let next = text.get(to..).and_then(|t| t.chars().next()).unwrap_or(' ');
    let begins = !lead.is_alphanumeric() || first.is_uppercase() && lead.is_lowercase() || first >= '\u{2e80}';
    begins && (word.len() > 4 || !next.is_alphabetic())
}

/// The date that follows *born*, *date of birth* or *DOB* within a few words, or on the next line.
fn birth(text: &str, to: usize, date: &Regex) -> Option<(usize, usize)> {
    let near = head(text, to, 40);
    let end = near
        .match_indices('\n')
        .map(|(at, _)| at)
        .find(|&at| near.get(..at).is_some_and(|line| line.contains(char::is_alphanumeric)));
    let near = near.get(..end.unwrap_or(near.len()))?;
    let m = date.find(near)?;
    let inside = near.as_bytes().get(m.end()).is_some_and(u8::is_ascii_digit);
    let begun = before(near.as_bytes(), m.start()).is_some_and(|b| b.is_ascii_digit());
    (!inside && !begun).then_some((to + m.start(), to + m.end()))
}

/// The password in Oracle's `jdbc:oracle:thin:user/password@host`.
fn oracle(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 256);
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(rest.len());
    let at = rest.get(..end)?.rfind('@')?;
    let slash = rest.get(..at)?.find('/')?;
    (slash > 0 && slash + 1 < at).then_some((to + slash + 1, to + at))
}

/// Entra ID client secrets: three characters, a digit, `Q~` and 31 to 34 more.
fn azure_secret(bytes: &[u8], from: usize, to: usize) -> Option<(usize, usize)> {
    let start = from.checked_sub(4)?;
    let set = |b: u8| Set::Dotted.has(b) || b == b'~';
    let lead = bytes.get(start..from)?;
    let rest = bytes.get(to..)?;
    let end = to + rest.iter().take(40).position(|&b| !set(b)).unwrap_or(rest.len().min(40));
    (lead.iter().all(|&b| set(b)) && end - to >= 30).then_some((start, end))
}

fn run_signature(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| !Set::Base64.has(b) && !matches!(b, b'%' | b'.')).unwrap_or(rest.len())
}

/// Terraform tokens: fourteen letters and digits before the mark, at least forty characters after it.
fn terraform(runs: &mut Runs<'_>, from: usize, to: usize) -> Option<(usize, usize)> {
    let bytes = runs.bytes;
    let mut start = from;
    while from - start < 24 && before(bytes, start).is_some_and(|b| b.is_ascii_alphanumeric()) {
        start -= 1;
    }
    let end = runs.end(to, Set::Base64);
    (from - start >= 10 && end - to >= 40).then_some((start, end))
}

/// The password in Go's `user:password@tcp(host:3306)/db`; its `@` is at `at`.
fn dsn(text: &str, at: usize) -> Option<(usize, usize)> {
    let lead = tail(text, at, 160);
    let word = lead.rsplit(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '=')).next()?;
    let (user, password) = word.split_once(':')?;
    (!user.is_empty() && !password.is_empty() && !password.starts_with(['%', '$', '{']))
        .then_some((at - password.len(), at))
}

/// `123456789:AA…`: a bot's number and 33 characters.
fn telegram(runs: &mut Runs<'_>, colon: usize) -> Option<(usize, usize)> {
    let bytes = runs.bytes;
    let mut start = colon;
    while colon - start < 10 && before(bytes, start).is_some_and(|b| b.is_ascii_digit()) {
        start -= 1;
    }
    let end = runs.end(colon + 1, Set::Url);
    let alone = before(bytes, start).is_none_or(|b| !is_word(b)) || before(bytes, start) == Some(b't');
    (alone && colon - start >= 8 && (34..=36).contains(&(end - colon - 1))).then_some((start, end))
}
