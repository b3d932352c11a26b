//! A file as JSON values that know their place in it.
//!
//! A file is one JSON text, or several (`texts` finds them); what is no JSON is reported and does not affect the others.
//! Every value is reached through an [`At`], so that an error can give its place, and so that a reader can find out
//! which of its numbers were restated (stored in another form).

use super::{ImportOptions, NotTaken, SAY_UTC, clip, texts};
use attestlog::entry::failure::is_called;
use attestlog::json::{Json, Limits, Object, Parsed, Path};
use attestlog::{Error, ErrorKind, Result, Timestamp};
use std::cell::RefCell;
use std::collections::HashMap;

/// Names for the time of a message, without case and separators.
pub(super) const TIMES: &[&str] = &[
    "createdat",
    "timestamp",
    "created",
    "createtime",
    "createdtime",
    "datetime",
    "date",
    "time",
    "ts",
    "sentat",
    "startedat",
];

/// A number of seconds since 1970 below this (1973) under such a name is not taken for a time.
const SINCE_1973: f64 = 1e8;

/// The member names that a reader knows for one kind of object.
pub(super) type Known = &'static [&'static str];

/// What a reader has done with a value.
#[derive(Clone, Copy)]
enum Taken {
    /// Read it, as a call or an answer.
    All,
    /// Read it, but for members that it does not know.
    But(Known),
    /// Passed over it: it is about something else, and may mention calls that are told elsewhere.
    Passed,
}

/// One JSON text of the file.
pub(super) struct Document {
    value: Json,
    /// Its line number, if the file has one text per line.
    line: Option<usize>,
    /// Where it stands, if it was made from something in another form.
    base: Option<String>,
    /// Paths of restated values, sorted, so that the paths below a place are adjacent.
    restated: Vec<String>,
    /// Whether a time without a zone is taken as UTC.
    assume_utc: bool,
    /// What readers have done with the values at these paths.
    taken: RefCell<HashMap<String, Taken>>,
}

/// A file that was read as JSON.
pub(super) struct Read {
    pub(super) documents: Vec<Document>,
    /// Lines that are not JSON, for example cut off by a crash or filled with NUL bytes.
    pub(super) bad: Vec<NotTaken>,
}

/// The lines that are not blank, with their numbers from 1.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|&b| b == b'\n').enumerate();
    lines.map(|(i, line)| (i + 1, line.trim_ascii())).filter(|(_, line)| !line.is_empty())
}

/// Reads every JSON text of the file. What is no JSON is reported and does not affect the others.
pub(super) fn read(text: &[u8], options: &ImportOptions) -> Result<Read> {
    let limits = Limits::bytes(options.max_bytes);
    // If the file holds several texts, this fails after the first.
    let whole = match Json::parse_lenient(text, &limits) {
        Ok(parsed) => {
            return Ok(Read { documents: vec![Document::new(parsed, None, options)], bad: Vec::new() });
        }
        Err(e) => e,
    };
    texts::read(text, options).ok_or_else(|| whole.into())
}

impl Read {
    /// A file that is nothing but this value, made from something else than JSON.
    pub(super) fn of(value: Json, options: &ImportOptions) -> Read {
        Read { documents: vec![Document::made(value, "the file".to_owned(), options)], bad: Vec::new() }
    }
}

impl Document {
    pub(super) fn new(parsed: Parsed, line: Option<usize>, options: &ImportOptions) -> Document {
        let mut restated: Vec<String> = parsed.restated.iter().map(Path::to_string).collect();
        restated.sort_unstable();
        let taken = RefCell::default();
        Document { value: parsed.value, line, base: None, restated, assume_utc: options.assume_utc, taken }
    }

    /// A document that was made from what stands at this place.
    pub(super) fn made(value: Json, base: String, options: &ImportOptions) -> Document {
        let (restated, taken) = (Vec::new(), RefCell::default());
        Document { value, line: None, base: Some(base), restated, assume_utc: options.assume_utc, taken }
    }

    pub(super) fn root(&self) -> At<'_> {
        At { document: self, value: &self.value, path: String::new() }
    }

    pub(super) fn value(&self) -> &Json {
        &self.value
    }

    pub(super) fn is_taken(&self, path: &str) -> bool {
        matches!(self.taken.borrow().get(path), Some(Taken::All))
    }

    /// The members that a reader knows of a value that it read; `None` if it read the value in full or not at all.
    pub(super) fn known(&self, path: &str) -> Option<Known> {
        match self.taken.borrow().get(path) {
            Some(Taken::But(known)) => Some(known),
            _ => None,
        }
    }

    pub(super) fn is_passed(&self, path: &str) -> bool {
        matches!(self.taken.borrow().get(path), Some(Taken::Passed))
    }

    /// How messages refer to a path in this document.
    pub(super) fn place(&self, path: &str) -> String {
        if let Some(base) = &self.base {
            return if path.is_empty() || base != "the file" { base.clone() } else { path.to_owned() };
        }
        match (self.line, path) {
            (None, "") => "the file".to_owned(),
            (None, path) => path.to_owned(),
            (Some(line), "") => format!("line {line}"),
            (Some(line), path) => format!("line {line}: {path}"),
        }
    }
}

/// When something happened, as far as the file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) time: Option<Timestamp>,
    /// A time without a zone, as if it were UTC. It says nothing about when, but how long after another such time.
    pub(super) local: Option<Timestamp>,
}

impl Moment {
    pub(super) fn is_none(&self) -> bool {
        self.time.is_none() && self.local.is_none()
    }

    /// The other moment, if this is none.
    pub(super) fn or(self, other: Moment) -> Moment {
        if self.is_none() { other } else { self }
    }

    /// For the distance to another moment of the same file.
    pub(super) fn relative(&self) -> Option<Timestamp> {
        self.time.or(self.local)
    }
}

/// The time that a value holds: RFC 3339, or a number since 1970.
fn moment(value: &Json, assume_utc: bool) -> Moment {
    match value {
        Json::String(text) if Timestamp::lacks_zone(text) => {
            let utc = format!("{text}Z").parse().ok();
            if assume_utc { Moment { time: utc, local: None } } else { Moment { time: None, local: utc } }
        }
        Json::String(text) => Moment { time: text.parse().ok(), local: None },
        Json::Number(n) if n.as_f64() >= SINCE_1973 => Moment { time: Timestamp::from_unix(n.as_f64()), local: None },
        _ => Moment::default(),
    }
}

/// The path of a member, in the form of [`Path`], which quotes odd names.
fn below(path: &str, key: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return format!("{path}{dot}{key}");
    }
    let step = Path::root().key(key).to_string();
    if step.starts_with('[') { format!("{path}{step}") } else { format!("{path}{dot}{step}") }
}

/// A value and its place in the file.
#[derive(Clone)]
pub(super) struct At<'a> {
    document: &'a Document,
    pub(super) value: &'a Json,
    path: String,
}

impl<'a> At<'a> {
    /// Its place, for messages.
    pub(super) fn place(&self) -> String {
        self.document.place(&self.path)
    }

    /// Marks the value as read: as a call, as an answer, or as something already reported as not taken.
    pub(super) fn take(&self) {
        self.document.taken.borrow_mut().insert(self.path.clone(), Taken::All);
    }

    /// Marks the value as read except for members not in `known`.
    pub(super) fn take_but(&self, known: Known) {
        self.document.taken.borrow_mut().insert(self.path.clone(), Taken::But(known));
    }

    /// Marks the value as something that is about other things than calls. What has all that a call needs in it, and is no call
    /// that was read, is reported nevertheless.
    pub(super) fn pass(&self) {
        self.document.taken.borrow_mut().insert(self.path.clone(), Taken::Passed);
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, message).at(self.place())
    }

    fn wrong_type(&self, wanted: &str) -> Error {
        self.error(format!("must be {wanted}, not {}", self.value.type_name()))
    }

    /// The text of the member `key`, if it is one and not empty. Unlike [`At::opt_text`], a value of another type counts as absent:
    /// for readers of files in which one odd value must not cost the rest.
    pub(super) fn str(&self, key: &str) -> Option<&'a str> {
        self.value.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
    }

    /// The first of `keys` that is a text or a number, as a text.
    pub(super) fn name(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| match self.value.get(key)? {
            Json::String(text) if !text.trim().is_empty() => Some(text.clone()),
            number @ Json::Number(_) => Some(number.to_canonical().as_str().to_owned()),
            _ => None,
        })
    }

    /// The first of `keys` that is there.
    pub(super) fn first(&self, keys: &[&str]) -> Option<At<'a>> {
        keys.iter().find_map(|key| self.member(key))
    }

    /// The elements of the member `key`; none if it is no array.
    pub(super) fn items(&self, key: &str) -> impl Iterator<Item = At<'a>> + use<'a> {
        self.member(key).and_then(|at| at.elements().ok()).into_iter().flatten()
    }

    /// The members of an object; none if it is something else.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let (at, members) = (self.clone(), self.value.as_object());
        members.into_iter().flat_map(Object::iter).filter_map(move |(key, _)| Some((key, at.member(key)?)))
    }

    pub(super) fn is(&self, key: &str, text: &str) -> bool {
        self.str(key) == Some(text)
    }

    /// The time in the first of `keys` that holds one.
    pub(super) fn moment(&self, keys: &[&str]) -> Moment {
        let all = keys.iter().filter_map(|key| self.value.get(key));
        all.map(|value| moment(value, self.document.assume_utc)).find(|moment| !moment.is_none()).unwrap_or_default()
    }

    /// The member `key`. `null` counts as absent, since many writers use it so.
    pub(super) fn member(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|v| **v != Json::Null)?;
        Some(At { document: self.document, value, path: below(&self.path, key) })
    }

    pub(super) fn required(&self, key: &str) -> Result<At<'a>> {
        self.member(key).ok_or_else(|| self.error(format!("{key} is missing")))
    }

    pub(super) fn array(&self) -> Result<&'a [Json]> {
        self.value.as_array().ok_or_else(|| self.wrong_type("an array"))
    }

    pub(super) fn elements(&self) -> Result<impl Iterator<Item = At<'a>> + use<'a>> {
        let (document, path) = (self.document, self.path.clone());
        Ok(self.array()?.iter().enumerate().map(move |(i, value)| At { document, value, path: format!("{path}[{i}]") }))
    }

    /// The elements of the member `key`; none if it is absent.
    pub(super) fn list(&self, key: &str) -> Result<impl Iterator<Item = At<'a>> + use<'a>> {
        Ok(self.member(key).map(|at| at.elements()).transpose()?.into_iter().flatten())
    }

    pub(super) fn object(&self) -> Result<()> {
        self.value.as_object().map(drop).ok_or_else(|| self.wrong_type("an object"))
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    /// The text of the member `key`, if it is present and not empty.
    pub(super) fn opt_text(&self, key: &str) -> Result<Option<&'a str>> {
        let text = self.member(key).map(|at| at.text()).transpose()?;
        Ok(text.filter(|t| !t.is_empty()))
    }

    /// The text of the member `key`, which must not be empty.
    pub(super) fn named(&self, key: &str) -> Result<&'a str> {
        let at = self.required(key)?;
        match at.text()? {
            "" => Err(at.error("must not be empty")),
            text => Ok(text),
        }
    }

    /// The id in the member `key`, which may be a number.
    pub(super) fn opt_id(&self, key: &str) -> Result<Option<String>> {
        let Some(at) = self.member(key) else { return Ok(None) };
        match at.value {
            Json::String(s) if s.is_empty() => Err(at.error("must not be empty")),
            Json::String(s) if s.contains(['\u{2400}', '\u{fffd}']) && !at.restated("").is_empty() => {
                Err(at.error("holds NUL, half of a surrogate pair or bytes that are no UTF-8, which an id cannot"))
            }
            Json::String(s) => Ok(Some(s.clone())),
            Json::Number(_) => Ok(Some(at.value.to_canonical().as_str().to_owned())),
            _ => Err(at.wrong_type("a string or a number")),
        }
    }

    /// The value, and which of its parts were restated, as paths below `root`.
    pub(super) fn keep(&self, root: &str) -> (Json, Vec<String>) {
        (self.value.clone(), self.restated(root))
    }

    pub(super) fn restated(&self, root: &str) -> Vec<String> {
        let all = &self.document.restated;
        let below = all[all.partition_point(|p| p.as_str() < self.path.as_str())..].iter();
        let below = below.map_while(|p| p.strip_prefix(&self.path));
        // `input[0]` is below `input`; `inputs` only shares the prefix.
        below
            .filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            .map(|rest| format!("{root}{rest}"))
            .collect()
    }

    /// When this was written: `timestamp`, `created_at` or `created`, else the first other member that is named like a
    /// time and holds one.
    pub(super) fn time(&self) -> Result<Option<Timestamp>> {
        if let Some(at) = ["timestamp", "created_at", "created"].iter().find_map(|key| self.member(key)) {
            return at.as_time().map(Some);
        }
        let members = self.value.as_object().into_iter().flat_map(Object::iter);
        let mut named = members.filter(|(key, _)| TIMES.iter().any(|time| is_called(key, time)));
        // A member with such a name may hold something else, such as a duration or a date.
        let time = named.find_map(|(key, value)| {
            let at = self.member(key)?;
            let is_time = match value {
                Json::String(text) if !text.contains(':') => false,
                Json::String(text) => Timestamp::lacks_zone(text) || text.parse::<Timestamp>().is_ok(),
                Json::Number(n) => n.as_f64() >= SINCE_1973 && Timestamp::from_unix(n.as_f64()).is_some(),
                _ => false,
            };
            is_time.then_some(at)
        });
        time.map(|at| at.as_time()).transpose()
    }

    fn as_time(&self) -> Result<Timestamp> {
        match self.value {
            Json::String(text) if Timestamp::lacks_zone(text) => match self.document.assume_utc {
                true => format!("{text}Z").parse().map_err(|e: Error| e.at(self.place())),
                false => Err(self.error(format!("{text:?} has no time zone (Z or +02:00): {SAY_UTC}"))),
            },
            Json::String(text) => text.parse().map_err(|e: Error| e.at(self.place())),
            Json::Number(n) => Timestamp::from_unix(n.as_f64()).ok_or_else(|| {
                self.error("is no time since 1970 in seconds or milliseconds that lies within 1678 to 2261")
            }),
            _ => Err(self.wrong_type("a time (RFC 3339, or seconds since 1970)")),
        }
    }

    pub(super) fn unexpected(&self, what: &str, got: &str, wanted: &str) -> Error {
        self.error(format!("the {what} {:?} is none of {wanted}", clip(got)))
    }
}
