//! What the words around a number say about it.

use super::called::{self, Called};
use super::{head, tail};
use crate::redact::secret_keys::Words;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::cell::OnceCell;
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Phone,
    Card,
    Ssn,
    /// A number of something unnamed: if nothing else says otherwise, people mean a phone number.
    Number,
    /// Something else that has a number, such as an order.
    Other,
    Iban,
    /// A number that a state or its health service assigns to people.
    National,
    /// The same, but only in capitals: in lower case it is an everyday word.
    Upper,
    /// Things with dotted numbers that are not addresses.
    Version,
}

const WORDS: &[(Topic, &str)] = &[
    (
        Topic::Phone,
        "phone phones telephone telephones tel tlf tlf. telefon telefone telefono teléfono téléphone mobile mobil móvil \
         cell cellphone cellular celular handy portable fax call calls called caller calling callback toll-free dial dialed dialled desk \
         contact reach ring whatsapp sms text texting message messages messaging voicemail pager hotline landline \
         helpline answering telephonic msisdn reached contacting contacted office home work ph ph. mob mob. tel. gsm viber \
         t: m: p: f: anrufen anruf rufen rückruf mobilfunk mobiltelefon handynummer telefonnummer rufnummer erreichbar \
         appelez appeler appelle rappeler joindre joignable téléphonez llame llamar llámame móvil celular teléfonos \
         chiama chiamare chiamami cellulare ligue ligar telemóvel bel bellen mobiel telefoon puhelin puh telefonnr \
         mobilnummer numer komórka telefonu szám telefonszám cep telefonu тел Тел телефон Телефон моб Моб τηλ τηλέφωνο \
         电话 電話 手机 手機 携帯 전화 휴대폰 טלפון هاتف",
    ),
    (
        Topic::Card,
        "card cards cc credit debit visa mastercard maestro amex discover diners jcb unionpay pan payment carte karte \
         kreditkarte tarjeta carta cartão",
    ),
    (Topic::Ssn, "ssn ssns social itin taxpayer tin"),
    (Topic::Upper, "sin"),
    (Topic::Number, "number numbers nr no. nummer numéro numero número"),
    (
        Topic::Other,
        "order orders invoice account acct reservation booking ticket case zip license licence passport policy id ids ref \
         reference amount serial sku isbn flight port pid room suite apt box quantity routing \
         bank confirmation member employee student model part catalog registration plate tax vat claim loan bill customer \
         client transaction receipt file record mrn patient lot batch phase page section line lines error code \
         timestamp epoch commit hash sum total price ean gtin imei checksum offset bytes",
    ),
    (Topic::Iban, "iban ibans"),
    (
        Topic::National,
        "aadhaar aadhar adhaar uidai आधार cpf bsn burgerservicenummer sofinummer pesel nino dni nie nif insee nir nhs sécu \
         sécurité securite documento identidad id-nummer personnummer insurance nino. ni national tfn steuer-id steuerid idnr steueridentifikationsnummer identifikationsnummer \
         fiscale pps ppsn curp nif nric ahv",
    ),
    (
        Topic::Version,
        "version versions ver release releases build firmware fw kernel driver chapter clause revision rev patch upgrade \
         upgraded libc glibc rpm sdk oid",
    ),
];

static AUTOMATON: LazyLock<Option<(AhoCorasick, Vec<Topic>)>> = LazyLock::new(|| {
    let words = || WORDS.iter().flat_map(|(topic, words)| words.split_ascii_whitespace().map(|w| (*topic, w)));
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words().map(|(_, w)| w));
    Some((automaton.ok()?, words().map(|(topic, _)| topic).collect()))
});

/// How many bytes before the number are searched for words.
const BEFORE: usize = 56;
/// How many bytes after it: `416 60 039 office`.
const AFTER: usize = 12;

/// What the words around a number say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    pub(super) phone: bool,
    pub(super) card: bool,
    pub(super) ssn: bool,
    /// It is called a number, without saying of what.
    pub(super) number: bool,
    pub(super) iban: bool,
    pub(super) national: bool,
    /// The key alone says what it is.
    pub(super) called: Option<Called>,
    /// The word directly before it says that it is the number of something else: `order 4…`, `testcase_id=5…`,
    /// `/items/4…`.
    pub(super) other: bool,
    /// Like `other`, and numbers of that thing can be as long as a card's: not `count`, `size` or a bare `id`.
    pub(super) thing: bool,
    pub(super) version: bool,
    /// The word that makes it a phone number follows it.
    pub(super) phone_after: bool,
}

impl Context {
    /// Combines the words before `start` and after `end` on the same line with what the key says.
    pub(super) fn around(text: &str, start: usize, end: usize, hint: Context) -> Context {
        let mut context = hint;
        let line = tail(text, start, BEFORE);
        // A number alone on its line is named by the line before: `Phone:` and the number below it.
        let mut lines = line.rsplit('\n');
        let own = lines.next().unwrap_or_default();
        // `08255432 (J. Roe 2024-06-12 …` is a line of a listing.
        let listed = head(text, end, 2) == " (" || head(text, end, 1) == "\t";
        let line = if own.trim().is_empty() && !listed {
            lines.find(|l| !l.trim().is_empty()).unwrap_or_default()
        } else {
            own
        };
        let mut last: Option<Topic> = None;
        for topic in topics(line) {
            match topic {
                Topic::Card => context.card = true,
                Topic::Ssn => context.ssn = true,
                Topic::Iban => context.iban = true,
                Topic::National | Topic::Upper => context.national = true,
                Topic::Phone | Topic::Other | Topic::Number | Topic::Version => {}
            }
            // In `phone number` and `order number`, the first word says what the number is.
            if topic != Topic::Number || last.is_none() {
                last = Some(topic);
            }
        }
        let else_ = something_else(line);
        context.other |= else_.is_some();
        context.thing |= else_ == Some(true);
        context.phone |= last == Some(Topic::Phone);
        context.number = last == Some(Topic::Number);
        context.version |= last == Some(Topic::Version);
        const AFTERWARDS: [&str; 9] = ["office", "fax", "mobile", "cell", "home", "work", "phone", "desk", "tel"];
        let after = head(text, end, AFTER).trim_start_matches([' ', '-', '(', ',', '/', '\t']);
        let word = after.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        // `985 95 748 is my number`; an order number followed by the word *phone* remains one.
        const SAID: [&str; 5] = ["is my", "is her", "is his", "is our", "is the"];
        let said =
            last.is_none() && SAID.iter().any(|s| after.get(..s.len()).is_some_and(|a| a.eq_ignore_ascii_case(s)));
        let other = matches!(last, Some(Topic::Other | Topic::Version));
        context.phone_after = said && head(text, end, 32).contains("number")
            || !other && AFTERWARDS.iter().any(|w| w.eq_ignore_ascii_case(word));
        context.phone |= context.phone_after;
        context
    }

    /// What the key of a text says.
    pub(super) fn of_key(key: Option<&str>) -> Context {
        let Some(key) = key else { return Context::default() };
        let words = Words::of(key);
        let joined = words.joined();
        let said = Said::of(&words);
        let ends = |word: &str| joined.ends_with(word.as_bytes());
        let last = std::str::from_utf8(words.last()).unwrap_or_default();
        const NO_PHONES: [&str; 5] = ["microphone", "headphone", "smartphone", "megaphone", "saxophone"];
        let phone = said.has(In::Phone)
            || ends("phone") && !NO_PHONES.into_iter().any(ends)
            || ends("phonenumber")
            || joined.starts_with(b"tel") && !joined.starts_with(b"telem")
            || joined == b"cell"
            || ends("cellno");
        let card = said.has(In::Card) || joined == b"cc" || joined == b"pan" || ends("cardnumber");
        let is_id = IDS.contains(&last);
        let numbered = said.has(In::Numbered);
        let called = called::of_key(&words);
        Context {
            called,
            phone: phone && !is_id,
            card,
            ssn: said.has(In::Ssn),
            iban: said.has(In::Iban),
            national: said.has(In::National) || called == Some(Called::Id),
            version: said.has(In::Version) || joined == b"build" || joined == b"ver",
            number: false,
            phone_after: false,
            other: !card && (is_id || numbered),
            thing: !card && (is_id && is_thing(&words, last) || numbered),
        }
    }
}

/// What the key of a text says, computed once and only when a number needs it.
pub(super) struct Hint<'k> {
    key: Option<&'k str>,
    known: OnceCell<Context>,
}

impl Hint<'_> {
    pub(super) fn of(key: Option<&str>) -> Hint<'_> {
        Hint { key, known: OnceCell::new() }
    }

    pub(super) fn get(&self) -> Context {
        *self.known.get_or_init(|| Context::of_key(self.key))
    }
}

/// The topics of words in keys.
#[derive(Debug, Clone, Copy)]
enum In {
    Phone,
    Card,
    Ssn,
    Iban,
    National,
    Version,
    Numbered,
}

/// The words of each topic, except those in `NUMBERED`.
const IN_KEYS: [(In, &str); 6] = [
    (In::Phone, "phone mobile fax msisdn whatsapp telefon contactnumber contactno sms telephone"),
    (In::Card, "card credit"),
    (In::Ssn, "ssn socialsec taxid"),
    (In::Iban, "iban"),
    (In::National, "aadhaar aadhar cpf bsn pesel nino dni nie nif insee nir nhs national"),
    (In::Version, "version release firmware"),
];

static KEYS: LazyLock<Option<(AhoCorasick, Vec<In>)>> = LazyLock::new(|| {
    let words = IN_KEYS.iter().flat_map(|(what, words)| words.split_ascii_whitespace().map(|word| (*what, word)));
    let (what, words): (Vec<_>, Vec<_>) = words.chain(NUMBERED.map(|word| (In::Numbered, word))).unzip();
    let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(words);
    Some((automaton.ok()?, what))
});

/// Which topics a key has, counting only matches at the start of a word: the *phone* in `microphone_id` does not count.
struct Said(u8);

const _: () =
    assert!(IN_KEYS.len() < u8::BITS as usize, "more topics (these and `Numbered`) than bits: widen `Said` to u16");

impl Said {
    fn of(words: &Words) -> Said {
        let Some((automaton, what)) = &*KEYS else { return Said(0) };
        let found = automaton.find_overlapping_iter(words.joined()).filter(|m| words.starts_at(m.start()));
        Said(found.filter_map(|m| what.get(m.pattern().as_usize())).fold(0, |said, what| said | 1 << *what as u8))
    }

    fn has(&self, what: In) -> bool {
        self.0 >> what as u8 & 1 == 1
    }
}

/// The last words of keys whose numbers identify things.
const IDS: [&str; 24] = [
    "id",
    "ids",
    "uid",
    "uuid",
    "guid",
    "ref",
    "reference",
    "key",
    "hash",
    "seq",
    "sequence",
    "timestamp",
    "ts",
    "ns",
    "us",
    "ms",
    "nonce",
    "cursor",
    "offset",
    "size",
    "count",
    "code",
    "at",
    "time",
];

/// Things that have numbers of their own.
const NUMBERED: [&str; 43] = [
    "order",
    "orders",
    "invoice",
    "tracking",
    "transaction",
    "txn",
    "serial",
    "sku",
    "isbn",
    "upc",
    "ean",
    "gtin",
    "barcode",
    "imei",
    "ticket",
    "case",
    "request",
    "trace",
    "span",
    "session",
    "job",
    "run",
    "commit",
    "shipment",
    "parcel",
    "waybill",
    "ndc",
    "testcase",
    "issue",
    "revision",
    "bug",
    "pr",
    "batch",
    "lot",
    "udi",
    "flight",
    "parts",
    "part",
    "partnumber",
    "catalog",
    "mpn",
    "usps",
    "fedex",
];

/// Whether a key that ends in one of the words above names a thing. `count` and `size` are numbers, but never so long,
/// and a bare `id` can be anything.
fn is_thing(words: &Words, last: &str) -> bool {
    const MEASURES: [&str; 10] = ["ts", "ns", "us", "ms", "size", "count", "code", "at", "time", "timestamp"];
    !MEASURES.contains(&last) && words.joined() != b"id"
}

/// Whether the word directly before a number says that it is not a card or phone number, and if so, whether it names a
/// thing with numbers as long. Only signs, *number*, *is* and the like may stand between them.
fn something_else(line: &str) -> Option<bool> {
    let mut rest = line;
    for _ in 0..3 {
        let trimmed = rest.trim_end_matches([' ', '=', ':', '"', '\'', '\\', '#', '`', '*', '(', '[']);
        if trimmed.ends_with('/') && trimmed.len() == line.len() {
            // A path segment.
            let segment = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            return trimmed.trim_end_matches('/').ends_with(segment).then_some(true);
        }
        let start =
            trimmed.rfind(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')).map_or(0, |at| at + 1);
        let name = trimmed.get(start..).unwrap_or_default();
        let words = Words::of(name);
        let last = std::str::from_utf8(words.last()).unwrap_or_default().to_owned();
        let last = last.as_str();
        if words.joined().windows(4).any(|w| w == b"card") {
            return None;
        }
        if IDS.contains(&last) || NUMBERED.contains(&last) {
            let said = rest
                .get(..start)
                .is_some_and(|lead| lead.ends_with(' ') && lead.trim_end().ends_with(char::is_alphanumeric));
            return Some(NUMBERED.contains(&last) || is_thing(&words, last) || last == "id" && said);
        }
        if !matches!(last, "number" | "no" | "nr" | "num" | "is" | "was" | "of") {
            return None;
        }
        let whole = words.joined().len() > last.len();
        if whole {
            return NUMBERED.iter().any(|w| words.joined().starts_with(w.as_bytes())).then_some(true);
        }
        rest = trimmed.get(..start).unwrap_or_default();
    }
    None
}

/// Whether a word that is common in both prose and code is a name in code, judging by what follows it.
fn is_code(word: &str, after: &str) -> bool {
    const COMMON: [&str; 16] = [
        "text", "message", "messages", "call", "calls", "called", "contact", "reach", "ring", "cell", "handy",
        "portable", "home", "work", "office", "desk",
    ];
    let after = after.trim_start_matches(' ');
    let member = after.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    COMMON.iter().any(|common| common.eq_ignore_ascii_case(word)) && (member || after.starts_with(['(', '[', '=']))
}

/// The topics of the whole words in `line`, in order.
fn topics(line: &str) -> impl Iterator<Item = Topic> {
    AUTOMATON.iter().flat_map(move |(automaton, topics)| {
        automaton.find_iter(line).filter_map(move |m| {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let starts = line.get(..m.start()).and_then(|t| t.chars().next_back()).is_none_or(|c| !word(c));
            let ends = line.get(m.end()..).and_then(|t| t.chars().next()).is_none_or(|c| !word(c));
            // Chinese and Japanese do not separate words.
            let joined = line.get(m.range()).and_then(|w| w.chars().next()).is_some_and(|c| c >= '\u{2e80}');
            let topic = topics.get(m.pattern().as_usize()).copied();
            let small = topic == Some(Topic::Upper) && line.get(m.range())?.bytes().any(|b| b.is_ascii_lowercase());
            // `text.is_key(b"12345678")`, `let text = *b"0000"`: a name in code, not a word of prose.
            let named = topic == Some(Topic::Phone) && ends && is_code(line.get(m.range())?, line.get(m.end()..)?);
            (starts && ends && !named && !small || joined).then_some(topic).flatten()
        })
    })
}
