//! Numbers that are told by what they are called: a whole value under a name such as `passport_number`, `steuer_id`, `TFN`, and behind
//! such words in a sentence what has no check digits: passports and accounts at a bank.

use super::{Hits, before, head, is_word, tail};
use crate::redact::floor::{self, Words};
use crate::redact::policy::Detector;
use crate::redact::words::Table;
use std::sync::LazyLock;

/// Names of numbers that a state gives its people, without case and separators.
const IDS: &str = "aadhaar aadhar adhaar cpf cnpj bsn burgerservicenummer pesel nino nationalinsurance nationalinsurancenumber dni nie nif \
     insee nir nhs sin socialinsurance socialinsurancenumber tfn taxfile taxfilenumber steuerid steuernummer steueridnr idnr \
     steueridentifikationsnummer steuerlicheidentifikationsnummer codicefiscale fiscalcode nationalid nationalidnumber \
     nationalidentitynumber identitynumber identitycard identitycardnumber personalausweis personalausweisnummer ausweisnummer \
     personnummer cnp rodnecislo henkilotunnus cprnummer fodselsnummer pps ppsn ppsnumber curp cedula rut \
     sozialversicherungsnummer svnr ahvnummer amka tckn tckimlik tckimlikno nric mynumber passport passportnumber passportno \
     passportnum passnummer reisepass reisepassnummer pasaporte passeport numeropasseport numerodepasaporte numerodesecuritesociale \
     securitesociale driverslicense driverslicence driverlicense driverslicensenumber driverlicensenumber drivinglicence \
     drivinglicencenumber drivinglicense drivinglicence permisdeconduire patente führerscheinnummer führerschein 身份证号 身份证 身份证号码 身份證號 \
     公民身份号码 居民身份证 居民身份证号 身份证号码 マイナンバー 個人番号 주민등록번호 주민번호 residentregistrationnumber rrn residentid \
     residentidnumber chineseid chineseidnumber citizenidnumber governmentid nationalidno nationalidcard residentidentitycard tckimliknumarası tckimliknumarasi tckimlikno tcno tckimlik kimliknumarası kimlikno henkilötunnus hetu personnr \
     personnummer samordningsnummer rijksregisternummer rijksregister numeronational numéronational nationalregisternumber nationalnumber \
     mbi medicarebeneficiaryidentifier permanentaccountnumber pancard pancardnumber avs avsnummer numeroavs numéroavs ahv \
     ahvnr ahvnummer инн снилс snils egn егн oib jmbg emšo emso cuil cuit nipc nik ktp hkid nricno citizenid cccd cmnd emiratesid iqama \
     asmenskodas isikukood personaskods adóazonosító adoazonosito tajszám tajszam αφμ αμκα rodnéčíslo rodnecislo fødselsnummer \
     personnummeret cprnr cpr svnummer kennitala idkort idkortnummer sozialversicherungsnummer rentenversicherungsnummer \
     numerodeidentidad numerodeidentificacion documentodeidentidad numéroinsee numérodesécuritésociale numfiscal fuehrerscheinnummer medicarenumber healthcardnumber voterid";

/// Names of accounts at a bank.
const ACCOUNTS: &str = "bankaccount bankaccountnumber bankaccountno bankacct bankacctnumber accountnumberbank kontonummer ktonr kontonr \
     numerodecuenta cuentabancaria compte numerodecompte checkingaccount savingsaccount checkingaccountnumber \
     savingsaccountnumber directdepositaccount bban clabe";

/// What a key says that the number under it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    Id,
    Account,
}

static NAMES: LazyLock<Table<Called>> = LazyLock::new(|| {
    let words = |list: &'static str, called| list.split_ascii_whitespace().map(move |word| (word.as_bytes(), called));
    Table::of(words(ACCOUNTS, Called::Account).chain(words(IDS, Called::Id)))
});

/// What the name ends in, taken word by word.
pub(super) fn of_key(words: &Words) -> Option<Called> {
    let joined = words.joined();
    let named = |joined: &[u8]| {
        let mut starts = (0..joined.len()).filter(|at| words.starts_at(*at));
        starts.find_map(|at| NAMES.get(&joined[at..]))
    };
    let named = |joined: &[u8]| if NAMES.ends_like(joined) { named(joined) } else { None };
    let shorter = || ENDINGS.iter().find_map(|ending| joined.strip_suffix(ending.as_bytes())).and_then(named);
    named(joined).or_else(shorter)
}

/// Whether a text has the letters and signs that such numbers have, and not more.
pub(super) fn may_be_whole(text: &str) -> bool {
    let value = text.trim();
    let count = |f: fn(&u8) -> bool| value.bytes().filter(f).count();
    (6..=24).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'.' | b'/'))
        && count(u8::is_ascii_digit) >= 4
        && count(u8::is_ascii_alphabetic) <= 12
}

/// Takes the whole of a text that may be such a number for one, as its key says; whether somebody wants it.
pub(super) fn whole(text: &str, called: Called, hits: &mut Hits<'_>) -> bool {
    let detector = if called == Called::Id { Detector::NationalId } else { Detector::Iban };
    let start = text.len() - text.trim_start().len();
    hits.add(detector, start, start + text.trim().len());
    hits.wants(detector)
}

/// Whether a label may be one of the names, by its last letters.
pub(super) fn may_end(label: &str) -> bool {
    let last = || floor::last_two(label, |_| false).is_none_or(|last| ends(&last));
    !label.is_ascii() || last()
}

/// What stands at the end of such names and is left out of the lists.
const ENDINGS: [&str; 6] = ["number", "nummer", "num", "no", "nr", "id"];

fn ends(joined: &[u8]) -> bool {
    NAMES.ends_like(joined) || ENDINGS.iter().any(|e| joined.ends_with(&e.as_bytes()[e.len() - 2..]))
}

/// Passports and accounts behind words that call them so; the first digit stands at `i`.
pub(super) fn in_words(text: &str, i: usize, hits: &mut Hits<'_>) -> Option<usize> {
    const PASSPORTS: [&str; 16] = [
        "driver license",
        "driver's license",
        "drivers license",
        "driving licence",
        "driver license number",
        "driver's license number",
        "passport",
        "passport number",
        "passport no",
        "passport no.",
        "reisepass",
        "reisepassnummer",
        "passeport",
        "pasaporte",
        "passport num",
        "passport nr",
    ];
    const ACCOUNTS: [&str; 14] = [
        "bank account",
        "bank account number",
        "bank account no",
        "bank account no.",
        "bank acct",
        "kontonummer",
        "checking account",
        "checking account number",
        "savings account",
        "savings account number",
        "kto-nr",
        "bankkonto",
        "cuenta bancaria",
        "bank details: account",
    ];
    let bytes = text.as_bytes();
    if bytes.get(i..)?.iter().take(6).take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count() < 6 {
        return None;
    }
    let mut start = i;
    while i - start < 3 && before(bytes, start).is_some_and(|b| b.is_ascii_uppercase()) {
        start -= 1;
    }
    if before(bytes, start).is_some_and(|b| is_word(b) || matches!(b, b'_' | b'/')) {
        return None;
    }
    let len = head(text, i, 24).bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-').count();
    let digits = head(text, i, len).bytes().filter(u8::is_ascii_digit).count();
    if !(6..=18).contains(&digits) {
        return None;
    }
    let mut lead = tail(text, start, 56)
        .trim_end_matches([' ', ':', '#', '=', '"', '\'', '\\', '(', '*', '\n'])
        .to_ascii_lowercase();
    for word in [" is", " ist", " est", " es"] {
        if let Some(rest) = lead.strip_suffix(word) {
            lead = rest.to_owned();
        }
    }
    let named = |names: &[&str]| {
        names.iter().any(|n| lead.strip_suffix(n).is_some_and(|l| !l.ends_with(|c: char| c.is_alphanumeric())))
    };
    const PLAIN: [&str; 5] = ["account", "account number", "acct", "account no", "account no."];
    let at_bank = || ["sort code", "routing", "swift", "bank"].iter().any(|word| lead.contains(word));
    // No date and no count.
    let number = text.get(start..i + len)?;
    let long = start < i || digits >= 8 || number.bytes().any(|b| b.is_ascii_uppercase());
    if number.contains('-') || !long {
        return None;
    }
    let detector = match () {
        () if named(&PASSPORTS) => Detector::NationalId,
        () if start == i && (named(&ACCOUNTS) || named(&PLAIN) && at_bank()) => Detector::Iban,
        () => return None,
    };
    hits.wants(detector).then(|| hits.add(detector, start, i + len)).map(|()| i + len)
}
