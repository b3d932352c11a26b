//! Numbers identified by what they are called: a whole value under a key such as `passport_number`, `steuer_id` or
//! `TFN`, and in sentences numbers without check digits, after such words: passports and bank accounts.

use super::{Hits, before, head, is_word, tail};
use crate::redact::policy::Detector;
use crate::redact::secret_keys::{self, Words};
use crate::redact::words::Table;
use std::sync::LazyLock;

/// Names of numbers that a state assigns to people, without case and separators.
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
     medicareid medicarecard medicarecardnumber medicareno medicarecardno kvnr krankenversichertennummer versichertennummer \
     krankenversicherungsnummer krankenversicherungsnr driverslicencenumber drivingpermit dlnumber \
     numerodeidentidad numerodeidentificacion documentodeidentidad numéroinsee numérodesécuritésociale numfiscal fuehrerscheinnummer medicarenumber healthcardnumber voterid";

/// Names of bank account numbers.
const ACCOUNTS: &str = "bankaccount bankaccountnumber bankaccountno bankacct bankacctnumber accountnumberbank kontonummer ktonr kontonr \
     numerodecuenta cuentabancaria compte numerodecompte checkingaccount savingsaccount checkingaccountnumber \
     savingsaccountnumber directdepositaccount bban clabe";

/// Names of numbers that health care providers and insurers assign: of medical records and of members of health plans.
const RECORDS: &str = "mrn medicalrecordnumber medicalrecordno medicalrecord patientmrn chartnumber hospitalnumber memberid \
     membernumber subscriberid subscribernumber healthplanbeneficiarynumber healthplanid healthplannumber beneficiarynumber \
     beneficiaryid insurancememberid groupmemberid medicaidid medicaidnumber";

/// What a key says about the number under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    Id,
    Account,
    Record,
}

impl Called {
    /// The detector that reports such a number.
    pub(super) fn detector(self) -> Detector {
        match self {
            Called::Id => Detector::NationalId,
            Called::Account => Detector::Iban,
            Called::Record => Detector::RecordNumber,
        }
    }
}

static NAMES: LazyLock<Table<Called>> = LazyLock::new(|| {
    let words = |list: &'static str, called| list.split_ascii_whitespace().map(move |word| (word.as_bytes(), called));
    let records = words(RECORDS, Called::Record);
    Table::of(records.chain(words(ACCOUNTS, Called::Account)).chain(words(IDS, Called::Id)))
});

/// Matches the end of a key, word by word.
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

/// Whether a text consists of the characters that such numbers have, and is not longer.
pub(super) fn may_be_whole(text: &str) -> bool {
    let value = text.trim();
    let count = |f: fn(&u8) -> bool| value.bytes().filter(f).count();
    (6..=24).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'.' | b'/'))
        && count(u8::is_ascii_digit) >= 4
        && count(u8::is_ascii_alphabetic) <= 12
}

/// Reports the whole text as the number that its key announces. Returns whether that detector is wanted.
pub(super) fn whole(text: &str, called: Called, hits: &mut Hits<'_>) -> bool {
    let detector = called.detector();
    let start = text.len() - text.trim_start().len();
    hits.add(detector, start, start + text.trim().len());
    hits.wants(detector)
}

/// Whether a label may be one of the names, judging by its last letters.
pub(super) fn may_end(label: &str) -> bool {
    let last = || secret_keys::last_two(label, |_| false).is_none_or(|last| ends(&last));
    !label.is_ascii() || last()
}

/// Endings of such names that are left out of the lists.
const ENDINGS: [&str; 6] = ["number", "nummer", "num", "no", "nr", "id"];

fn ends(joined: &[u8]) -> bool {
    NAMES.ends_like(joined) || ENDINGS.iter().any(|e| joined.ends_with(&e.as_bytes()[e.len() - 2..]))
}

/// Passports and accounts after words that announce them; the first digit is at `i`.
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
    if let Some(end) = behind_name(text, i, hits) {
        return Some(end);
    }
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
    // Neither a date nor a count.
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

/// The number after its name in a sentence, without a sign between them: `hetu 260478-055W`,
/// `AHV-Nr. 756.3287.9095.25`, `Medicare card no. 2756 24732 1`. Its first digit is at `i`.
fn behind_name(text: &str, i: usize, hits: &mut Hits<'_>) -> Option<usize> {
    const LONGEST: usize = 24;
    let bytes = text.as_bytes();
    let mut start = i;
    while i - start < 5 && before(bytes, start).is_some_and(|b| b.is_ascii_uppercase()) {
        start -= 1;
    }
    if !before(bytes, start).is_some_and(|b| matches!(b, b' ' | b'#' | b'(' | b'*') || b >= 0x80) {
        return None;
    }
    let number = number_at(text.get(start..)?, LONGEST)?;
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let long = digits >= 6 || digits >= 4 && number.bytes().any(|b| b.is_ascii_uppercase());
    if number.len() < 7 || !long || is_date(number) {
        return None;
    }
    let lead = tail(text, start, 56).trim_end_matches([' ', '#', '(', ')', '*', '.', '）']);
    let lead = ["is", "ist", "est", "es", "lautet", "was", "är", "er", "on", "è", "é", "jest"]
        .iter()
        .find_map(|verb| lead.strip_suffix(verb)?.strip_suffix(' '))
        .unwrap_or(lead)
        .trim_end_matches('.');
    let label = lead.rsplit(['\n', ',', ';', '(', '（', '|', '"', '\'', '{', '/', ':']).next()?;
    if !may_end(label) && !label.ends_with("DL") {
        return None;
    }
    let last = label.rsplit(' ').next().unwrap_or_default();
    const SHORT: [&str; 9] = ["hetu", "kvnr", "cpf", "bsn", "tfn", "ahv", "curp", "jmbg", "amka"];
    let short = last.len() <= 4 && last.is_ascii() && !last.bytes().any(|b| b.is_ascii_uppercase());
    // Chinese and Japanese do not separate words.
    let wide = || {
        label.char_indices().filter(|(_, c)| *c >= '\u{2e80}').find_map(|(at, _)| NAMES.get(&label.as_bytes()[at..]))
    };
    let licence =
        || (last == "DL" && before(bytes, start).is_some_and(|b| matches!(b, b' ' | b'#'))).then_some(Called::Id);
    let called =
        of_key(&Words::of(label)).or_else(wide).or_else(licence).filter(|called| *called != Called::Account)?;
    // *My number* can be any number; *My Number* is a personal number in Japan.
    if label.ends_with("my number") {
        return None;
    }
    if short && !SHORT.contains(&last) && label == last || !hits.wants(called.detector()) {
        return None;
    }
    hits.add(called.detector(), start, start + number.len());
    Some(start + number.len())
}

/// The capitals and digits at the start of a text that belong together, including signs between them and spaces before
/// digits.
fn number_at(text: &str, most: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let alnum = |b: &u8| b.is_ascii_digit() || b.is_ascii_uppercase();
    let mut end = 0;
    while end <= most {
        let run = bytes.get(end..)?.iter().take_while(|b| alnum(b)).count();
        if run == 0 {
            return None;
        }
        end += run;
        let joined = matches!(bytes.get(end), Some(b'-' | b'.' | b'/' | b'+')) && bytes.get(end + 1).is_some_and(alnum)
            || bytes.get(end) == Some(&b' ') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !joined {
            break;
        }
        end += 1;
    }
    let alone = bytes.get(end).is_none_or(|b| !is_word(*b) && *b != b'_' || *b >= 0x80);
    text.get(..end).filter(|_| end <= most && alone)
}

/// `2024-05-01`, `01.05.2024`, optionally followed by a time.
pub(super) fn is_date(number: &str) -> bool {
    let parts = || number.split(|c: char| !c.is_ascii_alphanumeric());
    let lens = parts().map(str::len);
    let numeric = parts().take(3).all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    numeric && (lens.clone().take(3).eq([4, 2, 2]) || lens.take(3).eq([2, 2, 4]))
}

/// An Indian tax number (PAN) that nearby words or the key call so: `ABCPE1234F`. Its first digit is at `i`.
pub(super) fn pan(text: &str, i: usize, key: impl Fn() -> bool, hits: &mut Hits<'_>) -> Option<usize> {
    let bytes = text.as_bytes();
    let start = i.checked_sub(5)?;
    let form = bytes.get(start..i + 5)?;
    let letters = |part: &[u8]| part.iter().all(u8::is_ascii_uppercase);
    let formed = letters(form.get(..5)?)
        && form.get(5..9)?.iter().all(u8::is_ascii_digit)
        && letters(form.get(9..)?)
        && form.get(3).is_some_and(|b| b"ABCFGHJLPT".contains(b));
    let alone = !before(bytes, start).is_some_and(|b| is_word(b) || b == b'_')
        && !bytes.get(i + 5).is_some_and(|b| is_word(*b) || *b == b'_');
    let called = || {
        let lead = tail(text, start, 40).to_ascii_lowercase();
        lead.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "pan") || lead.contains("permanent account")
    };
    let column = || {
        let first = head(text, 0, 256).split('\n').next().unwrap_or_default();
        first.split([',', ';', '\t', '|']).any(|name| is_pan(name.trim()))
    };
    let named = formed && alone && hits.wants(Detector::NationalId) && (called() || key() || column());
    named.then(|| hits.add(Detector::NationalId, start, i + 5)).map(|()| i + 5)
}

/// Whether a key is a name of such a number.
pub(super) fn is_pan(key: &str) -> bool {
    matches!(Words::of(key).joined(), [b'p', b'a', b'n'] | [b'p', b'a', b'n', b'n' | b'c', ..])
}
