//! Python values as JSON of the engine, with the places at which something could not be kept as it was.
//!
//! What is no JSON (bytes, dates, sets, objects) is a `TypeError` that names its path, unless the caller gives a `default`, a function
//! that is asked for something else as that of `json.dumps` is. What only loses something is kept in the engine's documented form and
//! marked: an integer beyond 2^53-1 and a number that is none become texts, NUL becomes U+2400, half of a surrogate pair U+FFFD.
//! Depth, the number of values and the bytes of all texts are bounded as for JSON that is read.

use crate::errors::raised;
use attestlog::json::{Json, Limits, Object, Parsed, Path};
use attestlog::{Error, ErrorKind};
use pyo3::exceptions::{PyBaseException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::fmt;

/// How many values a restated one counts as, because its path is kept: as the engine counts them.
const RESTATED: usize = 8;
/// The longest integer in bits: what Python writes as text by default (4,300 digits).
const INT_BITS: usize = 14_000;

/// Where a value stands; it becomes text only in an error, and a [`Path`] only for a mark.
enum Here<'a> {
    Root,
    Key(&'a Here<'a>, &'a str),
    Index(&'a Here<'a>, usize),
}

impl Here<'_> {
    fn path(&self) -> Path {
        match self {
            Here::Root => Path::root(),
            Here::Key(above, key) => {
                let mut path = above.path();
                path.push_key(key);
                path
            }
            Here::Index(above, index) => {
                let mut path = above.path();
                path.push_index(*index);
                path
            }
        }
    }

    /// The bytes that its path takes, about.
    fn bytes(&self) -> usize {
        match self {
            Here::Root => 0,
            Here::Key(above, key) => above.bytes() + key.len() + 1,
            Here::Index(above, _) => above.bytes() + 8,
        }
    }
}

/// Reads one call, or the values of one question.
pub struct Reader<'py> {
    py: Python<'py>,
    /// Asked for something else where a value is no JSON.
    default: Option<Bound<'py, PyAny>>,
    /// What stands before every path in an error: `calls[3]`.
    within: String,
    limits: Limits,
    /// Values and bytes that are still allowed.
    values: usize,
    bytes: usize,
    /// Bytes that the paths of marks may still take.
    places: usize,
    /// The containers that are being read, outermost first.
    open: Vec<usize>,
    restated: Vec<Path>,
}

impl<'py> Reader<'py> {
    pub fn new(py: Python<'py>, default: Option<&Bound<'py, PyAny>>) -> Reader<'py> {
        let limits = Limits::default();
        Reader {
            py,
            default: default.filter(|default| !default.is_none()).cloned(),
            within: String::new(),
            values: limits.values,
            bytes: limits.bytes,
            places: limits.bytes,
            limits,
            open: Vec::new(),
            restated: Vec::new(),
        }
    }

    /// The same for the call at this place of a batch: its errors name it.
    pub fn of_call(py: Python<'py>, default: Option<&Bound<'py, PyAny>>, call: usize) -> Reader<'py> {
        Reader { within: format!("calls[{call}]"), ..Reader::new(py, default) }
    }

    /// The members of a call: those of `base`, and in their place or besides those of `members`.
    pub fn call(mut self, base: Option<&Bound<'py, PyAny>>, members: Option<&Bound<'py, PyDict>>) -> PyResult<Parsed> {
        let mut object = Object::new();
        if let Some(base) = base {
            let Ok(base) = base.cast::<PyDict>() else {
                let message = format!("{}must be a dict, not {}", self.shown(&Here::Root), type_name(base));
                return Err(PyTypeError::new_err(message));
            };
            self.members(&mut object, base, members)?;
        }
        if let Some(members) = members {
            self.members(&mut object, members, None)?;
        }
        Ok(Parsed { value: object.into(), restated: self.restated })
    }

    /// One value under a name of its own.
    pub fn member(mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Parsed> {
        let value = self.top(name, value)?;
        Ok(Parsed { value, restated: self.restated })
    }

    fn members(
        &mut self,
        object: &mut Object,
        from: &Bound<'py, PyDict>,
        but: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<()> {
        for pair in from.items() {
            let (key, value) = pair.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
            if but.is_some_and(|but| but.contains(&key).unwrap_or(false)) {
                continue;
            }
            let key = self.key(&Here::Root, &key)?;
            let value = self.top(&key, &value)?;
            object.insert(key, value);
        }
        Ok(())
    }

    /// The value of a member of a call. Members that are times take Python's, and `error` takes an exception.
    fn top(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Json> {
        let here = Here::Key(&Here::Root, name);
        match name {
            "timestamp" | "retain_until" | "since" | "until" => self.time(&here, value),
            "error" if value.is_instance_of::<PyBaseException>() => {
                let kind = value.get_type().qualname()?;
                let message = value.str().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
                let message = if message.is_empty() { kind.to_string() } else { message };
                let members = [("type", Json::from(kind.to_string())), ("message", Json::from(message))];
                Ok(Object::from_iter(members).into())
            }
            _ => self.value(&here, value, 0),
        }
    }

    /// A time: Python's, in the form that the engine reads, or what the caller gave.
    fn time(&mut self, here: &Here<'_>, value: &Bound<'py, PyAny>) -> PyResult<Json> {
        match value.getattr_opt(pyo3::intern!(self.py, "isoformat"))? {
            Some(isoformat) => self.value(here, &isoformat.call0()?, 0),
            None => self.value(here, value, 0),
        }
    }

    fn value(&mut self, here: &Here<'_>, value: &Bound<'py, PyAny>, depth: usize) -> PyResult<Json> {
        self.count(here, 1)?;
        if depth > self.limits.depth {
            let message = format!("{}nested deeper than {} levels", self.shown(here), self.limits.depth);
            return Err(PyValueError::new_err(message));
        }
        if let Ok(text) = value.cast::<PyString>() {
            return self.text(here, text).map(Json::String);
        }
        if value.is_none() {
            return Ok(Json::Null);
        }
        if let Ok(truth) = value.cast::<PyBool>() {
            return Ok(Json::Bool(truth.is_true()));
        }
        if let Ok(number) = value.cast::<PyInt>() {
            return self.integer(here, number);
        }
        if let Ok(number) = value.cast::<PyFloat>() {
            return self.marked(here, Json::from(number.value()));
        }
        if let Ok(dict) = value.cast::<PyDict>() {
            return self.within(here, value, |reader| reader.object(here, dict, depth));
        }
        if let Ok(list) = value.cast::<PyList>() {
            return self.within(here, value, |reader| reader.items(here, list.iter(), list.len(), depth));
        }
        if let Ok(tuple) = value.cast::<PyTuple>() {
            return self.within(here, value, |reader| reader.items(here, tuple.iter(), tuple.len(), depth));
        }
        let Some(default) = self.default.clone() else {
            return Err(PyTypeError::new_err(format!(
                "{}a value of type {} is not JSON; give its text, or a `default` such as attestlog.plain",
                self.shown(here),
                type_name(value)
            )));
        };
        let other = default.call1((value,))?;
        self.within(here, value, |reader| reader.value(here, &other, depth + 1))
    }

    /// Reads a container, unless it is inside itself.
    fn within(
        &mut self,
        here: &Here<'_>,
        container: &Bound<'py, PyAny>,
        read: impl FnOnce(&mut Self) -> PyResult<Json>,
    ) -> PyResult<Json> {
        let id = container.as_ptr() as usize;
        if self.open.contains(&id) {
            return Err(PyValueError::new_err(format!("{}contains itself", self.shown(here))));
        }
        self.open.push(id);
        let read = read(self);
        self.open.pop();
        read
    }

    fn items(
        &mut self,
        here: &Here<'_>,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        len: usize,
        depth: usize,
    ) -> PyResult<Json> {
        let mut all = Vec::with_capacity(len.min(self.values));
        for (index, item) in items.enumerate() {
            all.push(self.value(&Here::Index(here, index), &item, depth + 1)?);
        }
        Ok(Json::Array(all))
    }

    fn object(&mut self, here: &Here<'_>, dict: &Bound<'py, PyDict>, depth: usize) -> PyResult<Json> {
        let mut all = Vec::with_capacity(dict.len().min(self.values));
        // A list of its own: `default` may run anything, and a dict that changes while it is read is an error.
        for pair in dict.items() {
            let (key, value) = pair.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
            let key = self.key(here, &key)?;
            let value = self.value(&Here::Key(here, &key), &value, depth + 1)?;
            all.push((key.into_owned(), value));
        }
        // `Object` keeps its members in this order, so that each goes to the end.
        all.sort_by(|(a, _), (b, _)| match a.is_ascii() || b.is_ascii() {
            true => a.cmp(b),
            false => a.encode_utf16().cmp(b.encode_utf16()),
        });
        let twice = all.windows(2).find_map(|two| match two {
            [(one, _), (other, _)] if one == other => Some(one),
            _ => None,
        });
        if let Some(twice) = twice {
            let message = format!("{}two keys are written {twice:?}", self.shown(here));
            return Err(PyValueError::new_err(message));
        }
        Ok(Json::Object(all.into_iter().collect()))
    }

    /// A key as `json.dumps` writes it: a text, or a number, a truth or `None` as one.
    fn key<'a>(&mut self, here: &Here<'_>, key: &'a Bound<'py, PyAny>) -> PyResult<Cow<'a, str>> {
        if let Ok(text) = key.cast::<PyString>() {
            return match text.to_str() {
                Ok(text) if !text.contains('\0') => self.counted(here, text.len()).map(|()| Cow::Borrowed(text)),
                _ => self.text(here, text).map(Cow::Owned),
            };
        }
        if key.is_none() {
            return Ok(Cow::Borrowed("null"));
        }
        if let Ok(truth) = key.cast::<PyBool>() {
            return Ok(Cow::Borrowed(if truth.is_true() { "true" } else { "false" }));
        }
        if key.is_instance_of::<PyInt>() || key.is_instance_of::<PyFloat>() {
            let text = key.repr()?.to_string();
            return self.counted(here, text.len()).map(|()| Cow::Owned(text));
        }
        let message = format!("{}a key must be a string, not {}", self.shown(here), type_name(key));
        Err(PyTypeError::new_err(message))
    }

    /// A text as the engine reads it leniently, marked if it was not kept as it is.
    fn text(&mut self, here: &Here<'_>, text: &Bound<'py, PyString>) -> PyResult<String> {
        let kept = match text.to_str() {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(without_halves(text)?),
        };
        self.counted(here, kept.len())?;
        let whole = matches!(kept, Cow::Borrowed(_)) && !kept.contains('\0');
        let kept = if kept.contains('\0') { kept.replace('\0', "\u{2400}") } else { kept.into_owned() };
        if !whole {
            self.mark(here)?;
        }
        Ok(kept)
    }

    fn integer(&mut self, here: &Here<'_>, number: &Bound<'py, PyInt>) -> PyResult<Json> {
        if let Ok(number) = number.extract::<i64>() {
            return self.marked(here, Json::from(number));
        }
        let bits: usize = number.call_method0(pyo3::intern!(self.py, "bit_length"))?.extract()?;
        if bits > INT_BITS {
            let message = format!("{}an integer of {bits} bits; at most {INT_BITS} can be kept", self.shown(here));
            return Err(PyValueError::new_err(message));
        }
        // The digits, whatever a class that derives from `int` writes instead.
        let digits = self.py.get_type::<PyInt>().call_method1("__repr__", (number,))?.extract::<String>()?;
        self.counted(here, digits.len())?;
        self.marked(here, Json::String(digits))
    }

    /// A number, marked if it became a text.
    fn marked(&mut self, here: &Here<'_>, number: Json) -> PyResult<Json> {
        if matches!(number, Json::String(_)) {
            self.mark(here)?;
        }
        Ok(number)
    }

    fn mark(&mut self, here: &Here<'_>) -> PyResult<()> {
        self.count(here, RESTATED - 1)?;
        match self.places.checked_sub(here.bytes()) {
            Some(left) => self.places = left,
            None => return Err(self.too_large(here, format_args!("too many values cannot be kept as they are"))),
        }
        let path = here.path();
        // Two keys of one object are marked by the path of the object, once.
        if self.restated.last() != Some(&path) {
            self.restated.push(path);
        }
        Ok(())
    }

    fn count(&mut self, here: &Here<'_>, values: usize) -> PyResult<()> {
        match self.values.checked_sub(values) {
            Some(left) => self.values = left,
            None => return Err(self.too_large(here, format_args!("more than {} values", self.limits.values))),
        }
        Ok(())
    }

    fn counted(&mut self, here: &Here<'_>, bytes: usize) -> PyResult<()> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => return Err(self.too_large(here, format_args!("more than {} bytes of text", self.limits.bytes))),
        }
        Ok(())
    }

    fn too_large(&self, here: &Here<'_>, what: fmt::Arguments<'_>) -> PyErr {
        raised(self.py, Error::new(ErrorKind::TooLarge, format!("{}{what}", self.shown(here))))
    }

    /// `calls[3].arguments.when: `, to stand before a message.
    fn shown(&self, here: &Here<'_>) -> String {
        let path = here.path().to_string();
        let dot = if self.within.is_empty() || path.is_empty() || path.starts_with('[') { "" } else { "." };
        let whole = format!("{}{dot}{path}", self.within);
        if whole.is_empty() { whole } else { format!("{whole}: ") }
    }
}

/// The name of a value's class, as errors show it.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().qualname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A text with U+FFFD for each half of a surrogate pair.
fn without_halves(text: &Bound<'_, PyString>) -> PyResult<String> {
    let units = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?.extract::<Vec<u8>>()?;
    let units = units.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair));
    Ok(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}
