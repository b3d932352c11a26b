//! Vendors' tokens: their prefixes and alphabets, and tokens that are recognized by their end or middle.

use super::value::is_uuid;
use super::{Hits, before, head, tail};
use crate::redact::policy::Detector;

/// The alphabet of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
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
    pub(super) fn has(self, b: u8) -> bool {
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

/// What vendors document: a token's prefix, the alphabet of the rest, and the minimum length of the rest.
pub(super) const TOKENS: &[(&str, Set, usize)] = &[
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
    ("EAAA", Set::Url, 56),
    ("shpat_", Set::Hex, 20),
    ("shpca_", Set::Hex, 20),
    ("shppa_", Set::Hex, 20),
    ("shpss_", Set::Hex, 20),
    ("access_token$production$", Set::Alnum, 16),
    ("access_token$sandbox$", Set::Alnum, 16),
    ("FLWSECK", Set::Url, 16),
    ("rzp_live_", Set::Alnum, 10),
    ("rzp_test_", Set::Alnum, 10),
    // AI models
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
    ("dG9rOj", Set::Base64, 40),
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
    ("FlyV1 fm", Set::Base64, 40),
    ("fm1_", Set::Base64, 40),
    ("fm1a_", Set::Base64, 40),
    ("fm1r_", Set::Base64, 40),
    ("fm2_", Set::Base64, 40),
    ("fo1_", Set::Base64, 40),
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
    ("sl.u.", Set::Url, 60),
    ("sl.B", Set::Url, 60),
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
    // Wallet keys and derived account keys
    ("xprv", Set::Alnum, 100),
    ("yprv", Set::Alnum, 100),
    ("zprv", Set::Alnum, 100),
    ("tprv", Set::Alnum, 100),
    ("uprv", Set::Alnum, 100),
    ("vprv", Set::Alnum, 100),
    ("nsec1", Set::Alnum, 58),
    // Databases, hosts and tools whose tokens are long enough to be recognized by their prefix
    ("v1.0-", Set::Url, 100),
    ("EAA", Set::Alnum, 80),
    ("napi_", Set::Alnum, 40),
    ("CLOJARS_", Set::Alnum, 48),
    ("sk_", Set::Alnum, 40),
    ("rt_", Set::Alnum, 40),
    ("rnd_", Set::Alnum, 28),
    ("sgp_", Set::Url, 40),
    ("slk_", Set::Hex, 60),
    ("cfut_", Set::Url, 30),
    ("cfat_", Set::Url, 30),
    ("cfk_", Set::Url, 30),
    ("glrtr-", Set::Dotted, 16),
    ("glwt-", Set::Dotted, 16),
    ("xwfp-", Set::Url, 20),
    ("shpua_", Set::Hex, 20),
    ("shprt_", Set::Hex, 20),
    ("ek_live_", Set::Base64, 20),
    ("ek_test_", Set::Base64, 20),
    ("pat_", Set::Alnum, 40),
    ("ctp_", Set::Url, 30),
    ("bkct_", Set::Alnum, 30),
    ("tr_dev_", Set::Alnum, 16),
    ("tr_prod_", Set::Alnum, 16),
    ("sntryi_", Set::Base64, 40),
    ("phs_", Set::Alnum, 30),
    ("pha_", Set::Alnum, 30),
    ("dp.ct.", Set::Alnum, 30),
    ("dp.sa.", Set::Alnum, 30),
    ("dp.scim.", Set::Alnum, 30),
    ("dp.audit.", Set::Alnum, 30),
    ("ABSKQmVkcm9jaw", Set::Base64, 40),
    ("bedrock-api-key-", Set::Base64, 40),
    ("sk-lf-", Set::Url, 30),
    ("pk-lf-", Set::Url, 30),
    ("ls__", Set::Hex, 30),
    ("test_sk_", Set::Alnum, 20),
    ("cko_sk_", Set::Url, 20),
    ("zpka_", Set::Url, 30),
    ("bb_live_", Set::Url, 20),
    ("fc-", Set::Hex, 32),
    ("BBDC-", Set::Base64, 40),
    ("eyJ2IjoiMS4wIiwi", Set::Base64, 60),
    ("lsv2_", Set::Url, 40),
    ("glffct-", Set::Url, 16),
    ("SCW", Set::Upper, 17),
    ("NRBR-", Set::Url, 16),
    ("NRJS-", Set::Url, 16),
    ("NRIQ-", Set::Url, 16),
    ("NRRA-", Set::Url, 16),
    ("rpa_", Set::Alnum, 30),
    // Private addresses of calendars
    ("private-", Set::Hex, 32),
    ("tk-us-", Set::Url, 40),
];

/// Prefixes that make the UUID after them a secret.
pub(super) const BEFORE_UUID: &str = "api- sdk- mob- rel- access-production- access-sandbox- access-development- pat-na1- pat-na2- pat-eu1- \
     pat-ap1- pat-au1- pat-jp1- pat-ca1- public-token- link-production- link-sandbox- fr_ ls-";

/// The UUID after one of these prefixes.
pub(super) fn uuid(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let end = to + 36;
    let alone = !text.as_bytes().get(end).is_some_and(|b| b.is_ascii_alphanumeric());
    text.get(to..end).filter(|uuid| alone && is_uuid(uuid)).map(|_| (from, end))
}

fn back(bytes: &[u8], at: usize, most: usize, set: fn(&u8) -> bool) -> usize {
    bytes.get(at.saturating_sub(most)..at).unwrap_or_default().iter().rev().take_while(|b| set(b)).count()
}

fn on(bytes: &[u8], at: usize, most: usize, set: fn(&u8) -> bool) -> usize {
    bytes.get(at..).unwrap_or_default().iter().take(most).take_while(|b| set(b)).count()
}

fn url(b: &u8) -> bool {
    Set::Url.has(*b)
}

/// The end of a webhook URL's path, from `at`.
pub(super) fn hook(bytes: &[u8], at: usize) -> usize {
    at + on(bytes, at, 400, |b| Set::Base64.has(*b) || matches!(b, b'@' | b'?' | b'&' | b'%' | b'.'))
}

/// Tokens that end in a mark: New Relic's `…NRAL`, Mailchimp's `…-us20`.
pub(super) fn ended(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let hex = back(bytes, from, 41, u8::is_ascii_hexdigit);
    let mark = text.get(from..to)?;
    let digits = on(bytes, to, 3, u8::is_ascii_digit);
    // New Azure DevOps tokens have the mark before their last four characters.
    if mark == "AZDO" {
        let (lead, rest) =
            (back(bytes, from, 77, u8::is_ascii_alphanumeric), on(bytes, to, 5, u8::is_ascii_alphanumeric));
        return (lead == 76 && rest == 4).then_some((from - lead, to + rest));
    }
    let fits = match mark {
        "NRAL" => (36..=40).contains(&hex) && digits == 0,
        _ => hex == 32 && (1..=2).contains(&digits),
    };
    let alone = !bytes.get(to + digits).is_some_and(|b| b.is_ascii_alphanumeric());
    (fits && alone).then_some((from - hex, to + digits))
}

/// Firebase server keys: eleven characters, a colon and `APA91b…`; the middle is at `from`.
pub(super) fn firebase(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let (lead, rest) = (back(bytes, from, 64, url), on(bytes, to, 400, url));
    (lead >= 8 && rest >= 60).then_some((from - lead, to + rest))
}

/// Salesforce session ids: an organisation id, an exclamation mark, and at least sixty characters.
pub(super) fn salesforce(text: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let id = on(bytes, from, 19, u8::is_ascii_alphanumeric);
    let rest = on(bytes, from + id + 1, 400, |b| Set::Dotted.has(*b));
    (matches!(id, 15 | 18) && bytes.get(from + id) == Some(&b'!') && rest >= 40).then_some((from, from + id + 1 + rest))
}

/// Asana tokens: `2/1201…/1204…:32 hexadecimal digits`; the colon is at `at`.
pub(super) fn asana(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let hex = on(bytes, at + 1, 33, u8::is_ascii_hexdigit);
    let lead = back(bytes, at, 48, |b| b.is_ascii_digit() || *b == b'/');
    let parts = text.get(at - lead..at)?;
    let fits = matches!(parts.get(..2)?, "0/" | "1/" | "2/") && parts.len() >= 12;
    (hex == 32 && fits && !parts.contains("//")).then_some((at - lead, at + 33))
}

/// A private key in PEM armour that was encoded in base64 once more: `LS0tLS1CRUdJTi…`. Returns its end.
pub(super) fn armour(text: &str, from: usize) -> Option<usize> {
    use base64::Engine;
    let first: Vec<u8> = head(text, from, 120).bytes().filter(|b| !b.is_ascii_whitespace()).take(80).collect();
    let plain = base64::engine::general_purpose::STANDARD_NO_PAD.decode(first.get(..first.len() / 4 * 4)?).ok()?;
    let line = String::from_utf8_lossy(&plain);
    if !line.contains("PRIVATE") {
        return None;
    }
    let bytes = text.as_bytes();
    let run = |at: usize| on(bytes, at, usize::MAX, |b| Set::Base64.has(*b));
    let mut end = from + run(from);
    // Encoded over several lines.
    while bytes.get(end).is_some_and(u8::is_ascii_whitespace) {
        let next = end + on(bytes, end, 64, u8::is_ascii_whitespace);
        let len = run(next);
        if len < 16 {
            break;
        }
        end = next + len;
    }
    Some(end)
}

/// A password hash as systems store it: `$argon2id$…`, `$2b$10$…`, `$6$salt$…`.
pub(super) fn hash(text: &str, from: usize, to: usize) -> Option<usize> {
    let rest = head(text, to, 400);
    let set = |b: u8| b.is_ascii_alphanumeric() || b"./+=,$-_".contains(&b);
    let len = rest.bytes().position(|b| !set(b)).unwrap_or(rest.len());
    let value = rest.get(..len)?;
    let last = value.rsplit('$').next()?;
    let bcrypt = text.get(from..to)?.starts_with("$2");
    let fits = if bcrypt { len >= 56 } else { last.len() >= 22 && value.len() > last.len() };
    fits.then_some(to + len)
}

/// Tokens with dots: Discord bots (23 to 28 characters that begin with M, N or O, then six, then at least 27) and
/// Airtable (`pat` and fourteen characters, then 64 hexadecimal digits).
pub(super) fn dotted(text: &str, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(dot) = text.get(from..).and_then(|rest| rest.find('.')).map(|n| from + n) {
        from = dot + 1;
        let found = discord(bytes, dot).or_else(|| airtable(bytes, dot));
        if let Some((start, end)) = found {
            hits.add(Detector::ApiKey, start, end);
            from = end;
        }
    }
}

fn discord(bytes: &[u8], dot: usize) -> Option<(usize, usize)> {
    if bytes.get(dot + 7) != Some(&b'.') || !bytes.get(dot + 1..dot + 7).is_some_and(|b| b.iter().all(url)) {
        return None;
    }
    let head = back(bytes, dot, 29, url);
    let start = dot - head;
    let tail = on(bytes, dot + 8, 120, url);
    let begins = matches!(bytes.get(start), Some(b'M' | b'N' | b'O'));
    let mixed = bytes.get(start..dot).is_some_and(|b| {
        b.iter().any(u8::is_ascii_lowercase) && b.iter().filter(|b| b.is_ascii_uppercase()).count() > 3
    });
    (begins && mixed && (23..=28).contains(&head) && (27..=110).contains(&tail)).then_some((start, dot + 8 + tail))
}

fn airtable(bytes: &[u8], dot: usize) -> Option<(usize, usize)> {
    let start = dot.checked_sub(17)?;
    let fits = bytes.get(start..start + 3) == Some(b"pat")
        && bytes.get(start + 3..dot).is_some_and(|b| b.iter().all(u8::is_ascii_alphanumeric))
        && !before(bytes, start).is_some_and(|b| b.is_ascii_alphanumeric());
    let hex = if fits { on(bytes, dot + 1, 65, u8::is_ascii_hexdigit) } else { 0 };
    (hex == 64).then_some((start, dot + 65))
}

/// A list of recovery codes for a lost device, after the words that announce it: from the first code to the last.
pub(super) fn codes(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let rest = head(text, to, 1 << 12);
    let mut at = head(rest, 0, 48).find([':', '\n', '=', '['])?;
    let (mut first, mut end, mut count) = (None, 0, 0);
    loop {
        let after = rest.get(at..)?;
        let trimmed = after.trim_start_matches(|c: char| c.is_whitespace() || ":=,;[](){}\"'`*•|".contains(c));
        let trimmed = numbered(trimmed).or_else(|| trimmed.strip_prefix("- ")).unwrap_or(trimmed).trim_start();
        at += after.len() - trimmed.len();
        let len = trimmed.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(trimmed.len());
        let word = trimmed.get(..len)?;
        let parts = word.split('-').all(|part| (3..=12).contains(&part.len()));
        let digits = word.bytes().any(|b| b.is_ascii_digit());
        let cut =
            word.contains('-') && word.split('-').all(|part| part.len() == word.split('-').next().map_or(0, str::len));
        if !(6..=40).contains(&len) || !parts || !(digits || cut && count > 0) {
            break;
        }
        first = first.or(Some(at));
        at += len;
        (end, count) = (at, count + 1);
    }
    let single = tail(text, to, 1) != "s" && text.get(from..to).is_some_and(|w| w.ends_with("code"));
    (count >= if single { 1 } else { 2 }).then_some((to + first?, to + end))
}

/// The text after an item number: `1. ` or `2) `.
fn numbered(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.get(digits..).filter(|_| (1..=2).contains(&digits))?;
    rest.strip_prefix(['.', ')']).or_else(|| rest.strip_prefix(": "))
}
