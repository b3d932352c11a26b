//! Reading: strictly RFC 8259, within limits, dropping nothing.

use super::{Json, Number, Object, Path};
use crate::error::Place;
use std::borrow::Cow;
use std::fmt;

/// The symbol shown in place of NUL, which no text may hold.
pub(super) const NUL_SHOWN: char = '\u{2400}';

/// Limits on a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The deepest nesting of arrays and objects.
    pub depth: usize,
    /// The most bytes the text may have.
    pub bytes: usize,
    /// The most values the text may hold, nested ones included: a value of two bytes takes some forty in memory. A restated
    /// number counts as eight, because its path is kept.
    pub values: usize,
}

/// How many values a restated number counts as, because its path is kept.
const RESTATED: usize = 8;
/// The paths of restated numbers may take this many times the size of the text: each repeats the names above it.
const PLACES: usize = 16;

impl Limits {
    /// For text that the log itself wrote: only the depth is bounded.
    pub const UNBOUNDED: Limits = Limits { depth: 256, bytes: usize::MAX, values: usize::MAX };

    /// Limits with this many bytes, the default depth, and the default number of values, or one per 16 bytes if that is more.
    pub fn bytes(bytes: usize) -> Limits {
        let Limits { depth, values, .. } = Limits::default();
        Limits { bytes, depth, values: values.max(bytes / 16) }
    }

    /// The same limits with this many values.
    #[must_use]
    pub fn values(self, values: usize) -> Limits {
        Limits { values, ..self }
    }
}

impl Default for Limits {
    /// 128 levels, as in most readers; 16 MiB; two million values, which take about a hundred MiB of memory.
    fn default() -> Limits {
        Limits { depth: 128, bytes: 16 << 20, values: 2 << 20 }
    }
}

/// A parsed value, and the places where it was restated to be kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The value.
    pub value: Json,
    /// Paths of numbers that a double does not hold digit for digit and that are now strings of their digits. After lenient
    /// parsing, also paths of strings in which something that cannot be kept was replaced.
    pub restated: Vec<Path>,
}

/// Why a text was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    what: String,
    offset: usize,
    line: usize,
    column: usize,
    byte: usize,
    path: Option<Path>,
    too_large: bool,
}

impl JsonError {
    /// The byte offset of the error.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The line of the error, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The character within the line, from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The path of the value that contains the error.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// Whether a limit was exceeded, rather than the grammar violated.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    pub(super) fn serialize(what: String) -> JsonError {
        JsonError { what, offset: 0, line: 1, column: 1, byte: 1, path: None, too_large: false }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(p) if !p.steps().is_empty() => write!(f, "{p}: ")?,
            _ => {}
        }
        write!(f, "{}", self.what)?;
        if self.line > 1 {
            write!(f, " at line {}, byte {}", self.line, self.byte)
        } else {
            write!(f, " at byte {}", self.byte)
        }
    }
}

impl std::error::Error for JsonError {}

impl From<JsonError> for crate::Error {
    fn from(e: JsonError) -> crate::Error {
        let kind = if e.too_large { crate::ErrorKind::TooLarge } else { crate::ErrorKind::InvalidInput };
        let mut place = Place::default();
        (place.line, place.column, place.offset) = (Some(e.line), Some(e.column), Some(e.offset));
        place.member = e.path.as_ref().map(Path::to_string).filter(|path| !path.is_empty());
        crate::Error::new(kind, e.to_string()).with_place(place).with_source(e)
    }
}

pub(super) fn parse(text: &[u8], limits: &Limits, lenient: bool) -> Result<Parsed, JsonError> {
    let mut reader =
        Reader { bytes: text, at: 0, path: Path::root(), restated: Vec::new(), values: 0, places: 0, limits, lenient };
    if text.len() > limits.bytes {
        return Err(reader.too_large(format!("{} bytes, more than the limit of {}", text.len(), limits.bytes)));
    }
    if let Err(e) = std::str::from_utf8(text)
        && !lenient
    {
        reader.at = e.valid_up_to();
        return Err(reader.error("not UTF-8"));
    }
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.error("something follows the value"));
    }
    Ok(Parsed { value, restated: reader.restated })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    path: Path,
    restated: Vec<Path>,
    values: usize,
    places: usize,
    limits: &'a Limits,
    /// Whether strings may hold what cannot be kept: it is replaced, and the path recorded.
    lenient: bool,
}

impl Reader<'_> {
    fn error(&self, what: impl Into<String>) -> JsonError {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let place = Place::in_text(self.bytes, self.at);
        JsonError {
            what: what.into(),
            offset: self.at,
            line: place.line.unwrap_or(1),
            column: place.column.unwrap_or(1),
            byte: self.at - line_start + 1,
            path: Some(shortened(&self.path)),
            too_large: false,
        }
    }

    fn too_large(&self, what: String) -> JsonError {
        JsonError { too_large: true, ..self.error(what) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > self.limits.depth {
            return Err(self.too_large(format!("nested deeper than the limit of {} levels", self.limits.depth)));
        }
        self.count(1)?;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) => Err(self.error("no JSON value starts here")),
            None => Err(self.error("the text ends where a value should be")),
        }
    }

    fn count(&mut self, values: usize) -> Result<(), JsonError> {
        self.values = self.values.saturating_add(values);
        match self.values > self.limits.values {
            true => Err(self.too_large(format!("more values than the limit of {}", self.limits.values))),
            false => Ok(()),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.error("no JSON value starts here"))
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.space();
            self.path.push_index(items.len());
            items.push(self.value(depth + 1)?);
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return Err(self.error("expected ',' or ']'")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let start = self.at;
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(Object::new()));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.error("expected ':'"));
            }
            self.at += 1;
            self.space();
            self.path.push_key(&key);
            let value = self.value(depth + 1)?;
            self.path.pop();
            members.push((key, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Object::from_members(members).map(Json::Object).map_err(|key| {
                        self.at = start;
                        self.error(format!("the name {:?} occurs twice in the object", clip(&key)))
                    });
                }
                _ => return Err(self.error("expected ',' or '}'")),
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b >= 0x20 && b != b'"' && b != b'\\') {
                self.at += 1;
            }
            // A run ends at an ASCII byte, so if the whole text is UTF-8, each run is.
            let run = String::from_utf8_lossy(&self.bytes[start..self.at]);
            if matches!(run, Cow::Owned(_)) {
                self.mark();
            }
            out.push_str(&run);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(control) if self.lenient => {
                    self.mark();
                    out.push(if control == 0 { NUL_SHOWN } else { char::from(control) });
                    self.at += 1;
                }
                Some(_) => return Err(self.error("a control character inside a string must be escaped")),
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let c = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error("no such escape")),
        };
        self.at += 2;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex4(self.at + 2)?;
        let second = match (first, self.bytes.get(self.at + 6..self.at + 8)) {
            (0xd800..=0xdbff, Some(b"\\u")) => {
                let second = self.hex4(self.at + 8);
                if self.lenient { second.ok() } else { Some(second?) }
            }
            _ => None,
        };
        let c = match (first, second.filter(|second| (0xdc00..=0xdfff).contains(second))) {
            (0, _) => self.replaced(NUL_SHOWN, "NUL (\\u0000) cannot be kept in a string")?,
            (0xd800..=0xdbff, Some(second)) => {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                self.at += 6;
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => match char::from_u32(first) {
                Some(c) => c,
                None => {
                    self.replaced(char::REPLACEMENT_CHARACTER, "a lone surrogate (half of a character) cannot be kept")?
                }
            },
        };
        self.at += 6;
        Ok(c)
    }

    /// The replacement for something that cannot be kept; an error unless lenient.
    fn replaced(&mut self, shown: char, what: &str) -> Result<char, JsonError> {
        if !self.lenient {
            return Err(self.error(what));
        }
        self.mark();
        Ok(shown)
    }

    fn mark(&mut self) {
        if self.restated.last() != Some(&self.path) {
            self.restated.push(self.path.clone());
        }
    }

    fn hex4(&self, from: usize) -> Result<u32, JsonError> {
        let digits = self.bytes.get(from..from + 4).ok_or_else(|| self.error("\\u needs four hexadecimal digits"))?;
        digits.iter().try_fold(0, |n, &d| {
            let d = char::from(d).to_digit(16).ok_or_else(|| self.error("\\u needs four hexadecimal digits"))?;
            Ok(n << 4 | d)
        })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.error("not a JSON number"));
        }
        let mut integral = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            integral = false;
            if self.digits() == 0 {
                return Err(self.error("a digit should follow the point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            integral = false;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("a digit should follow the exponent"));
            }
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        if integral && let Some(n) = text.parse().ok().and_then(Number::from_i64) {
            return Ok(Json::Number(n));
        }
        if let Some(n) = text.parse().ok().and_then(Number::from_f64) {
            let mut written = Vec::new();
            super::canon::write_number(n, &mut written);
            if decimal(text.as_bytes()) == decimal(&written) {
                return Ok(Json::Number(n));
            }
        }
        self.count(RESTATED)?;
        let step = |step: &super::path::Step| match step {
            super::path::Step::Key(key) => 32 + key.len(),
            super::path::Step::Index(_) => 32,
        };
        self.places += self.path.steps().iter().map(step).sum::<usize>();
        if self.places > PLACES * self.bytes.len() + 65_536 {
            return Err(self.too_large("too many numbers that would be restated, under too long names".to_owned()));
        }
        self.restated.push(self.path.clone());
        Ok(Json::String(text.to_owned()))
    }
}

/// A decimal number as its significant digits and the power of ten of the last one. Two spellings of one
/// number give the same pair, so comparing before and after tells whether a digit was lost.
fn decimal(text: &[u8]) -> (Vec<u8>, i128) {
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(e) => (&text[..e], std::str::from_utf8(&text[e + 1..]).unwrap_or_default()),
        None => (text, "0"),
    };
    // A number with an exponent beyond i64 is not a double, so it never compares equal.
    let mut exponent: i128 = exponent.parse::<i64>().map_or(i128::MAX / 2, Into::into);
    if let Some(point) = mantissa.iter().position(|&b| b == b'.') {
        exponent -= (mantissa.len() - point - 1) as i128;
    }
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).skip_while(|&d| d == b'0').collect();
    while digits.last() == Some(&b'0') {
        digits.pop();
        exponent += 1;
    }
    if digits.is_empty() { (digits, 0) } else { (digits, exponent) }
}

/// A path for an error message: enough to find the place without repeating an attacker's text at length.
fn shortened(path: &Path) -> Path {
    let mut short = Path::root();
    for step in path.steps().iter().take(8) {
        match step {
            super::path::Step::Key(k) => short.push_key(&clip(k)),
            super::path::Step::Index(i) => short.push_index(*i),
        }
    }
    short
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
