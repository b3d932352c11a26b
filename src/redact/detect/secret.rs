//! Secrets that show what they are: by the prefix that their vendor documents, by their armour, by the word before.
//!
//! One automaton over all literal beginnings runs through the text; at each place it stops, a check that reads on from
//! there decides. A token's characters belong to one find, and the search goes on behind it.

use super::said::{digits_after, identified, mnemonic_after, password_is, secret_is, setting, value_behind};
use super::value::{is_nothing, is_status};
use super::{Hits, before, head, is_word, tail, told};
use crate::redact::policy::Detector;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;
use std::sync::LazyLock;

/// Which bytes a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Alnum,
    Hex,
    /// Letters, digits, `_` and `-`
    Url,
    /// `Url` and `.`
    Dotted,
    /// Base64 of either alphabet
    Base64,
    Upper,
}

impl Set {
    fn has(self, b: u8) -> bool {
        match self {
            Set::Alnum => b.is_ascii_alphanumeric(),
            Set::Hex => b.is_ascii_hexdigit(),
            Set::Url => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'),
            Set::Dotted => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'),
            Set::Base64 => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'='),
            Set::Upper => b.is_ascii_uppercase() || b.is_ascii_digit(),
        }
    }
}

/// What vendors document: how a token begins, what follows, and how much of it at least.
const TOKENS: &[(&str, Set, usize)] = &[
    // Amazon Web Services: access key ids, and keys of Bedrock
    ("AKIA", Set::Upper, 16),
    ("ASIA", Set::Upper, 16),
    ("ABIA", Set::Upper, 16),
    ("ACCA", Set::Upper, 16),
    ("ABSK", Set::Base64, 100),
    // Google
    ("AIza", Set::Url, 30),
    ("ya29.", Set::Dotted, 20),
    ("GOCSPX-", Set::Url, 20),
    ("1//0", Set::Url, 30),
    // GitHub, GitLab
    ("ghp_", Set::Alnum, 20),
    ("gho_", Set::Alnum, 20),
    ("ghu_", Set::Alnum, 20),
    ("ghs_", Set::Dotted, 20),
    ("ghr_", Set::Alnum, 20),
    ("github_pat_", Set::Url, 20),
    ("glpat-", Set::Dotted, 16),
    ("glptt-", Set::Url, 16),
    ("gldt-", Set::Url, 16),
    ("glrt-", Set::Dotted, 16),
    ("glcbt-", Set::Url, 16),
    ("gloas-", Set::Url, 16),
    ("glsoat-", Set::Url, 16),
    ("glft-", Set::Url, 16),
    ("glimt-", Set::Url, 16),
    ("glagent-", Set::Url, 16),
    ("GR1348941", Set::Url, 16),
    // Slack, Discord and Telegram hooks
    ("xoxa-", Set::Url, 10),
    ("xoxb-", Set::Url, 10),
    ("xoxc-", Set::Url, 10),
    ("xoxd-", Set::Base64, 10),
    ("xoxe-", Set::Url, 10),
    ("xoxe.xox", Set::Url, 10),
    ("xoxo-", Set::Url, 10),
    ("xoxp-", Set::Url, 10),
    ("xoxr-", Set::Url, 10),
    ("xoxs-", Set::Url, 10),
    ("xapp-", Set::Url, 10),
    ("hooks.slack.com/services/", Set::Base64, 20),
    ("hooks.slack.com/workflows/", Set::Base64, 20),
    ("discord.com/api/webhooks/", Set::Base64, 30),
    ("api.telegram.org/bot", Set::Base64, 8),
    // Payment
    ("sk_live_", Set::Alnum, 10),
    ("sk_test_", Set::Alnum, 10),
    ("rk_live_", Set::Alnum, 10),
    ("rk_test_", Set::Alnum, 10),
    ("pk_live_", Set::Alnum, 10),
    ("pk_test_", Set::Alnum, 10),
    ("sk_prod_", Set::Alnum, 10),
    ("whsec_", Set::Base64, 16),
    ("sq0atp-", Set::Url, 20),
    ("sq0csp-", Set::Url, 20),
    ("sq0idp-", Set::Url, 20),
    ("EAAAE", Set::Url, 50),
    ("shpat_", Set::Hex, 20),
    ("shpca_", Set::Hex, 20),
    ("shppa_", Set::Hex, 20),
    ("shpss_", Set::Hex, 20),
    ("access_token$production$", Set::Alnum, 16),
    ("access_token$sandbox$", Set::Alnum, 16),
    ("FLWSECK", Set::Url, 16),
    ("rzp_live_", Set::Alnum, 10),
    ("rzp_test_", Set::Alnum, 10),
    // Models
    ("sk-", Set::Url, 20),
    ("xai-", Set::Alnum, 40),
    ("gsk_", Set::Alnum, 30),
    ("pplx-", Set::Alnum, 30),
    ("hf_", Set::Alnum, 30),
    ("api_org_", Set::Alnum, 30),
    ("r8_", Set::Alnum, 30),
    ("nvapi-", Set::Url, 40),
    ("fw_", Set::Alnum, 20),
    ("csk-", Set::Alnum, 30),
    ("tgp_v1_", Set::Url, 30),
    ("lsv2_pt_", Set::Url, 30),
    ("lsv2_sk_", Set::Url, 30),
    ("jina_", Set::Url, 40),
    ("pcsk_", Set::Url, 40),
    ("tvly-", Set::Url, 20),
    // Package registries
    ("npm_", Set::Alnum, 30),
    ("pypi-", Set::Url, 40),
    ("rubygems_", Set::Hex, 30),
    ("cio", Set::Alnum, 32),
    ("oy2", Set::Alnum, 43),
    ("dckr_pat_", Set::Url, 20),
    ("dckr_oat_", Set::Url, 20),
    ("AKCp", Set::Alnum, 60),
    ("cmVmdGtuOj", Set::Alnum, 40),
    // Mail and messages
    ("SG.", Set::Dotted, 40),
    ("xkeysib-", Set::Url, 40),
    ("xsmtpsib-", Set::Url, 40),
    ("key-", Set::Hex, 32),
    ("re_", Set::Url, 24),
    ("pubkey-", Set::Hex, 32),
    // Clouds and platforms
    ("dop_v1_", Set::Hex, 30),
    ("doo_v1_", Set::Hex, 30),
    ("dor_v1_", Set::Hex, 30),
    ("hvs.", Set::Url, 20),
    ("hvb.", Set::Url, 20),
    ("hvr.", Set::Url, 20),
    ("dapi", Set::Hex, 32),
    ("dkea", Set::Hex, 32),
    ("dp.pt.", Set::Alnum, 30),
    ("dp.st.", Set::Dotted, 30),
    ("lin_api_", Set::Alnum, 30),
    ("lin_oauth_", Set::Alnum, 30),
    ("ntn_", Set::Alnum, 40),
    ("secret_", Set::Alnum, 43),
    ("ATATT3x", Set::Base64, 50),
    ("ATCTT3x", Set::Base64, 50),
    ("ATBB", Set::Alnum, 24),
    ("glsa_", Set::Url, 30),
    ("glc_", Set::Base64, 32),
    ("HRKU-", Set::Url, 30),
    ("NRAK-", Set::Alnum, 20),
    ("NRII-", Set::Url, 20),
    ("PMAK-", Set::Url, 40),
    ("pscale_tkn_", Set::Dotted, 30),
    ("pscale_pw_", Set::Dotted, 30),
    ("pscale_oauth_", Set::Dotted, 30),
    ("pul-", Set::Hex, 40),
    ("sntrys_", Set::Base64, 40),
    ("sntryu_", Set::Hex, 40),
    ("sbp_", Set::Hex, 30),
    ("sb_secret_", Set::Url, 20),
    ("figd_", Set::Url, 30),
    ("figu_", Set::Url, 30),
    ("dt0c01.", Set::Dotted, 60),
    ("dt0s", Set::Dotted, 60),
    ("fo1_", Set::Url, 40),
    ("FlyV1 fm", Set::Base64, 40),
    ("CFPAT-", Set::Url, 40),
    ("CCIPAT_", Set::Url, 30),
    ("CCIPRJ_", Set::Url, 30),
    ("bkua_", Set::Hex, 30),
    ("tfp_", Set::Dotted, 40),
    ("shippo_live_", Set::Hex, 30),
    ("shippo_test_", Set::Hex, 30),
    ("EZAK", Set::Alnum, 40),
    ("EZTK", Set::Alnum, 40),
    ("duffel_live_", Set::Url, 30),
    ("duffel_test_", Set::Url, 30),
    ("aio_", Set::Alnum, 28),
    ("rdme_", Set::Alnum, 60),
    ("pnu_", Set::Alnum, 30),
    ("ops_eyJ", Set::Base64, 100),
    ("A3-", Set::Url, 30),
    ("AGE-SECRET-KEY-1", Set::Upper, 50),
    ("vercel_", Set::Alnum, 24),
    ("vcp_", Set::Alnum, 24),
    ("LTAI", Set::Alnum, 14),
    ("AKID", Set::Alnum, 28),
    ("t1.9euel", Set::Dotted, 60),
    ("patv1", Set::Dotted, 40),
    ("EAACEdEose0cBA", Set::Alnum, 10),
    ("IGQV", Set::Url, 100),
    ("AAAAAAAAAAAAAAAAAAAAA", Set::Base64, 40),
    ("sl.", Set::Url, 100),
    ("sk.eyJ", Set::Dotted, 40),
    ("nfp_", Set::Alnum, 30),
    ("phx_", Set::Alnum, 30),
    ("phc_", Set::Alnum, 30),
    ("ddp_", Set::Alnum, 30),
    ("eyJrIjoi", Set::Base64, 60),
    ("tskey-", Set::Url, 20),
    ("snyk_", Set::Dotted, 30),
    ("squ_", Set::Hex, 40),
    ("sqp_", Set::Hex, 40),
    ("sqa_", Set::Hex, 40),
    ("ico-", Set::Alnum, 32),
    ("APIKey-v1-", Set::Url, 20),
    ("sha256~", Set::Url, 43),
    // Keys of wallets and of accounts that are derived from one
    ("xprv", Set::Alnum, 100),
    ("yprv", Set::Alnum, 100),
    ("zprv", Set::Alnum, 100),
    ("tprv", Set::Alnum, 100),
    ("uprv", Set::Alnum, 100),
    ("vprv", Set::Alnum, 100),
    ("nsec1", Set::Alnum, 58),
];

/// What else is looked for at a literal beginning.
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
    Insert,
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
         Senha wachtwoord Wachtwoord passe salasana lösenord hasło пароль Пароль passwd pwd 密码 密碼 パスワード 비밀번호",
    ),
    (Start::SecretIs, "token Token secret Secret key Key"),
    (Start::Identified, "identified IDENTIFIED Identified"),
    (Start::Insert, "INSERT insert Insert"),
    (Start::Phrase, "mnemonic Mnemonic MNEMONIC"),
    (Start::Terraform, ".atlasv1."),
    (Start::Tcp, "@tcp( @unix("),
    (Start::Signed, "=s%3A =s%3a =s:"),
    (Start::PinIs, "pin Pin PIN"),
    (Start::Code, "cvv Cvv CVV cvc Cvc CVC"),
    (Start::Oracle, ":thin:"),
    (Start::AzureSecret, "Q~"),
    (Start::AzureSas, "sig="),
    (
        Start::Twilio,
        "SK0 SK1 SK2 SK3 SK4 SK5 SK6 SK7 SK8 SK9 SKa SKb SKc SKd SKe SKf \
                     AC0 AC1 AC2 AC3 AC4 AC5 AC6 AC7 AC8 AC9 ACa ACb ACc ACd ACe ACf",
    ),
    (Start::Telegram, ":AA"),
    (
        Start::Sent,
        "code Code CODE codes código Código codice Codice kod Kod otp OTP 2fa 2FA passcode Passcode Bestätigungscode \
         Sicherheitscode Anmeldecode 验证码 驗證碼 確認コード 認証コード 인증번호",
    ),
    (Start::Used, "verify log sign authenticate"),
    (Start::Form, "form-data;"),
    (Start::Wifi, "WIFI:"),
];

/// Beginnings with spaces in them.
const SPACED: &[(Start, &str)] = &[
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
        Start::Pem | Start::Setting | Start::Requirepass | Start::Phrase | Start::Given if words.contains(' ') => {
            vec![(start, words)]
        }
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
    // How months begin in the languages whose words for birth stand above.
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
        // Without its automaton nothing can be said of the text, so none of it passes.
        hits.add(Detector::ApiKey, 0, text.len());
        return;
    };
    let bytes = text.as_bytes();
    let mut runs = Runs { bytes, last: [(usize::MAX, 0); 6] };
    let mut done = 0;
    for m in search.automaton.find_iter(text) {
        let Some(start) = search.starts.get(m.pattern().as_usize()) else { continue };
        if m.start() < done {
            continue;
        }
        let (from, to) = (m.start(), m.end());
        let alone = before(bytes, from).is_none_or(|b| !b.is_ascii_alphanumeric());
        let found = match start {
            Start::Token(i) if alone => TOKENS.get(*i).and_then(|token| {
                let end = runs.end(to, token.1);
                (end - to >= token.2).then_some((Detector::ApiKey, from, trim(bytes, to, end)))
            }),
            Start::Jwt if alone => jwt(&mut runs, from).map(|end| (Detector::Jwt, from, end)),
            Start::Pem => pem(text, from).map(|end| (Detector::PrivateKey, from, end)),
            Start::Url => password_in_url(text, to).map(|(a, b)| (Detector::ConnectionString, a, b)),
            Start::Scheme if alone => scheme(text, from, to).map(|(a, b)| (Detector::Bearer, a, b)),
            Start::Birth if is_birth(text, from, to) => {
                birth(text, to, &search.date).map(|(a, b)| (Detector::DateOfBirth, a, b))
            }
            Start::PasswordIs => password_is(text, from, to).map(|(a, b)| (Detector::Credential, a, b)),
            Start::SecretIs => secret_is(text, to).map(|(a, b)| (Detector::Credential, a, b)),
            Start::Identified if alone => identified(text, to).map(|(a, b)| (Detector::Credential, a, b)),
            Start::Insert if alone => told::inserted(text, to).map(|(a, b)| (Detector::Credential, a, b)),
            Start::Setting if alone => setting(text, to).map(|(a, b)| (Detector::Credential, a, b)),
            Start::Requirepass if alone => value_behind(text, to - 1).map(|(a, b)| (Detector::Credential, a, b)),
            Start::Phrase => mnemonic_after(text, to).map(|(a, b)| (Detector::Credential, a, b)),
            Start::Terraform => terraform(&mut runs, from, to).map(|(a, b)| (Detector::ApiKey, a, b)),
            Start::Signed => Some((from + 1, run_signature(bytes, to)))
                .filter(|(a, b)| b - a >= 40)
                .map(|(a, b)| (Detector::Credential, a, b)),
            Start::Tcp => dsn(text, from).map(|(a, b)| (Detector::ConnectionString, a, b)),
            Start::PinIs if alone => digits_after(text, to, true, 4..=8).map(|(a, b)| (Detector::Credential, a, b)),
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
            Start::Telegram => telegram(&mut runs, from).map(|(a, b)| (Detector::ApiKey, a, b)),
            _ => None,
        };
        if let Some((detector, a, b)) = found {
            hits.add(detector, a, b);
            done = b;
        }
    }
}

/// Tokens of Discord's bots: 23 to 28 characters that begin with M, N or O, six, and at least 27, with dots between.
pub(super) fn discord(text: &str, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let url = |b: &u8| Set::Url.has(*b);
    let mut from = 0;
    while let Some(dot) = bytes.get(from..).and_then(|b| b.iter().position(|&b| b == b'.')).map(|n| from + n) {
        from = dot + 1;
        if bytes.get(dot + 7) != Some(&b'.') || !bytes.get(dot + 1..dot + 7).is_some_and(|b| b.iter().all(url)) {
            continue;
        }
        let head =
            bytes.get(dot.saturating_sub(29)..dot).unwrap_or_default().iter().rev().take_while(|b| url(b)).count();
        let start = dot - head;
        let tail = bytes.get(dot + 8..).unwrap_or_default().iter().take(120).take_while(|b| url(b)).count();
        let begins = matches!(bytes.get(start), Some(b'M' | b'N' | b'O'));
        let mixed = bytes.get(start..dot).is_some_and(|b| {
            b.iter().any(u8::is_ascii_lowercase) && b.iter().filter(|b| b.is_ascii_uppercase()).count() > 3
        });
        if begins && mixed && (23..=28).contains(&head) && (27..=110).contains(&tail) {
            hits.add(Detector::ApiKey, start, dot + 8 + tail);
            from = dot + 8 + tail;
        }
    }
}

/// Where stretches of a set's bytes end. The last one is kept: a text of nothing but beginnings is not read again
/// and again to its end.
struct Runs<'t> {
    bytes: &'t [u8],
    last: [(usize, usize); 6],
}

impl Runs<'_> {
    /// The end of the bytes of `set` from `at` on.
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

/// A full stop behind a token ends the sentence.
fn trim(bytes: &[u8], from: usize, mut end: usize) -> usize {
    while end > from && before(bytes, end) == Some(b'.') {
        end -= 1;
    }
    end
}

/// Header and payload are JSON objects, so both begin with `eyJ`; an unsigned token has nothing behind the second dot,
/// an encrypted one five parts.
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

/// From the armour's first line to its last, or to the end of the text where that is missing.
fn pem(text: &str, from: usize) -> Option<usize> {
    let line = head(text, from, 80);
    let putty = line.starts_with("PuTTY");
    if !putty && !line.get(11..)?.split("-----").next()?.contains("PRIVATE KEY") {
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

/// The password between `user:` and `@host`, and the user name where it is the secret (`https://TOKEN@host`).
fn password_in_url(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let stop = |b: u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\');
    let authority = rest.bytes().position(|b| stop(b) || matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let part = rest.get(..authority)?;
    let (user_info, at) = match part.rfind('@') {
        Some(at) => (part.get(..at)?, at),
        None => {
            // A password with a slash or a hash in it, which should have been escaped.
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
            if !STORES.contains(&scheme) || port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let limit = head(rest, 0, 512);
            let end = limit.bytes().position(stop).unwrap_or(limit.len());
            let at = limit.get(..end)?.rfind('@')?;
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

/// What follows `Bearer` or `Basic`, if it looks like a token and not like a sentence.
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

/// Whether a word that calls a date one of birth stands for itself: not *adobe*, *stubborn*, *bornholm*.
fn is_birth(text: &str, from: usize, to: usize) -> bool {
    let word = text.get(from..to).unwrap_or_default();
    let first = word.chars().next().unwrap_or(' ');
    let lead = text.get(..from).and_then(|t| t.chars().next_back()).unwrap_or(' ');
    let next = text.get(to..).and_then(|t| t.chars().next()).unwrap_or(' ');
    let begins = !lead.is_alphanumeric() || first.is_uppercase() && lead.is_lowercase() || first >= '\u{2e80}';
    begins && (word.len() > 4 || !next.is_alphabetic())
}

/// The date that follows *born*, *date of birth*, *DOB* within a few words, or in the line below.
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

/// The password of Oracle's `jdbc:oracle:thin:user/password@host`.
fn oracle(text: &str, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 256);
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(rest.len());
    let at = rest.get(..end)?.rfind('@')?;
    let slash = rest.get(..at)?.find('/')?;
    (slash > 0 && slash + 1 < at).then_some((to + slash + 1, to + at))
}

/// Client secrets of Entra ID: three characters, a digit, `Q~` and 31 to 34 more.
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

/// Tokens of Terraform: fourteen letters and digits before the mark, at least forty behind it.
fn terraform(runs: &mut Runs<'_>, from: usize, to: usize) -> Option<(usize, usize)> {
    let bytes = runs.bytes;
    let mut start = from;
    while from - start < 24 && before(bytes, start).is_some_and(|b| b.is_ascii_alphanumeric()) {
        start -= 1;
    }
    let end = runs.end(to, Set::Base64);
    (from - start >= 10 && end - to >= 40).then_some((start, end))
}

/// The password of Go's `user:password@tcp(host:3306)/db`, whose `@` is at `at`.
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
