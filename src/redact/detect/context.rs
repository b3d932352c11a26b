//! What the words around a number say that it is.

use super::{before, head, is_word, tail};
use crate::redact::floor::Words;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Phone,
    Card,
    Ssn,
    /// A number, and nothing says of what: where nothing else does, people mean their phone's.
    Number,
    /// Something else that has a number: an order is not called back.
    Other,
}

const WORDS: &[(Topic, &str)] = &[
    (
        Topic::Phone,
        "phone phones telephone telephones tel tlf tlf. telefon telefone telefono teléfono téléphone mobile mobil móvil \
         cell cellphone cellular celular handy portable fax call calls called calling callback dial dialed dialled desk \
         contact reach ring whatsapp sms text texting message messages messaging voicemail pager hotline landline \
         helpline answering telephonic msisdn reached contacting contacted office home work",
    ),
    (
        Topic::Card,
        "card cards cc credit debit visa mastercard maestro amex discover diners jcb unionpay pan payment carte karte \
         kreditkarte tarjeta carta cartão",
    ),
    (Topic::Ssn, "ssn ssns social itin taxpayer tin"),
    (Topic::Number, "number numbers nr no. nummer numéro numero número"),
    (
        Topic::Other,
        "order orders invoice account acct reservation booking ticket case zip license licence passport policy id ids ref \
         reference amount serial sku isbn tracking version build commit flight port pid room suite apt box quantity routing \
         bank confirmation member employee student model part catalog registration plate tax vat claim loan bill customer \
         client transaction receipt file record mrn patient lot batch phase page section line lines error code",
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

/// How far back a word may stand.
const BEFORE: usize = 56;
/// How far on: `416 60 039 office`.
const AFTER: usize = 12;

/// What the words around a number say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    pub(super) phone: bool,
    pub(super) card: bool,
    pub(super) ssn: bool,
    /// It is called a number, and nothing else.
    pub(super) number: bool,
    /// The word that says it is a phone stands behind the number.
    pub(super) phone_after: bool,
}

impl Context {
    /// The words before `start` and after `end` in the same line, and what the key says.
    pub(super) fn around(text: &str, start: usize, end: usize, hint: Context) -> Context {
        let mut context = hint;
        let line = tail(text, start, BEFORE);
        // A number alone in its line is called by the line before: `Phone:` and below it the number.
        let mut lines = line.rsplit('\n');
        let line = lines.by_ref().find(|l| !l.trim().is_empty()).unwrap_or_default();
        let mut last: Option<Topic> = None;
        for topic in topics(line) {
            match topic {
                Topic::Card => context.card = true,
                Topic::Ssn => context.ssn = true,
                Topic::Phone | Topic::Other | Topic::Number => {}
            }
            // `phone number`, `order number`: the number is that of what stands before it.
            if topic != Topic::Number || last.is_none() {
                last = Some(topic);
            }
        }
        context.phone |= last == Some(Topic::Phone);
        context.number = last == Some(Topic::Number);
        const AFTERWARDS: [&str; 9] = ["office", "fax", "mobile", "cell", "home", "work", "phone", "desk", "tel"];
        let after = head(text, end, AFTER).trim_start_matches([' ', '-', '(', ',', '/', '\t']);
        let word = after.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        context.phone_after = AFTERWARDS.iter().any(|w| w.eq_ignore_ascii_case(word));
        context.phone |= context.phone_after;
        context
    }

    /// What the key says under which a text stands.
    pub(super) fn of_key(key: Option<&str>) -> Context {
        let Some(key) = key else { return Context::default() };
        let words = Words::of(key);
        let joined = words.joined();
        let has = |word: &str| joined.windows(word.len()).any(|w| w == word.as_bytes());
        Context {
            phone: ["phone", "mobile", "fax", "msisdn", "whatsapp", "telefon", "contactnumber", "contactno", "sms"]
                .into_iter()
                .any(has)
                || joined.starts_with(b"tel")
                || joined == b"cell"
                || joined.ends_with(b"cellno"),
            card: has("card") || joined == b"cc" || joined == b"pan",
            ssn: has("ssn") || has("socialsec") || has("taxid"),
            number: false,
            phone_after: false,
        }
    }
}

/// The topics of whole words in `line`, in order.
fn topics(line: &str) -> impl Iterator<Item = Topic> {
    let bytes = line.as_bytes();
    AUTOMATON.iter().flat_map(move |(automaton, topics)| {
        automaton.find_iter(line).filter_map(move |m| {
            let starts = before(bytes, m.start()).is_none_or(|b| !is_word(b) && b != b'_');
            let ends = bytes.get(m.end()).is_none_or(|&b| !is_word(b) && b != b'_');
            (starts && ends).then(|| topics.get(m.pattern().as_usize()).copied()).flatten()
        })
    })
}
