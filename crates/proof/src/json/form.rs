//! The JSON form of values: what the program prints with `--json`, and what serde writes and reads.
//!
//! Each public value type has one JSON form, described once: as a [`Form`]. serde's `Serialize` and `Deserialize` follow from it, so
//! that `serde_json::to_string` gives the RFC 8785 text of [`Form::form`] byte for byte. Reading is as strict as [`Json::parse`]
//! (no key twice, no number that loses digits), refuses members that are not known, and validates what constructors validate.
//!
//! Both go through the text as one piece (`serde_json::value::RawValue`): for serde_json, no other format.

use super::{Json, Limits, MAX_INT, Number, Object, Parsed};
use crate::members::Members;
use crate::{Error, Result};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// Bounds of one value that serde reads: as deep as what the log writes, and memory for no more than a large answer.
fn limits() -> Limits {
    Limits { depth: Limits::UNBOUNDED.depth, ..Limits::bytes(64 << 20) }
}

/// A value that has a JSON form.
pub trait Form: Sized {
    /// The value as JSON.
    fn form(&self) -> Json;

    /// The value that this JSON is the form of.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) names the member that is missing, unknown or wrong.
    fn read(value: &Json) -> Result<Self>;

    /// What a member is that is not there; `None` if it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// Writes canonical JSON text with serde, as it is.
pub fn serialize_text<S: Serializer>(text: String, out: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(text).map_err(S::Error::custom)?.serialize(out)
}

/// Reads the text of one JSON value with serde.
pub fn deserialize_text<'de, D: Deserializer<'de>>(from: D) -> Result<Box<RawValue>, D::Error> {
    Box::<RawValue>::deserialize(from)
}

/// Writes a value in its JSON form with serde.
pub fn serialize<T: Form, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
    serialize_text(value.form().to_canonical().to_string(), out)
}

/// Reads a value from its JSON form with serde.
pub fn deserialize<'de, T: Form, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::read(&Json::deserialize(from)?).map_err(D::Error::custom)
}

/// Reads a text with serde.
pub fn deserialize_str<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Cow::<str>::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// A member of an object that is read.
pub fn member<T: Form>(members: &mut Members, name: &str) -> Result<T> {
    match members.optional(name) {
        Some(value) => T::read(&value).map_err(|e| e.in_member(name)),
        None => T::absent().ok_or_else(|| Error::invalid(format!("{name} is missing"))),
    }
}

/// Takes out a member that only repeats what the others say, and refuses it where it says something else.
pub fn repeated(members: &mut Members, name: &str, is: &Json) -> Result<()> {
    match members.optional(name) {
        Some(value) if value != *is => Err(Error::invalid("contradicts the other members").in_member(name)),
        _ => Ok(()),
    }
}

/// Refuses what was read where it says more, or something else, than what was made of it.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) names the first member.
pub fn same(given: &Json, read: &Json) -> Result<()> {
    if given == read {
        return Ok(());
    }
    let wrong = || Error::invalid("is not known here, contradicts the other members, or is in another form");
    let members = given.as_object().into_iter().flat_map(Object::iter);
    match members.into_iter().find(|(name, value)| read.get(name) != Some(value)) {
        Some((name, _)) => Err(wrong().in_member(name)),
        None => Err(Error::invalid("lacks members")),
    }
}

/// Why JSON of another type cannot be read.
pub fn wrong_type(wanted: &str, got: &Json) -> Error {
    Error::invalid(format!("must be {wanted}, not {}", got.type_name()))
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        serialize_text(self.to_canonical().to_string(), out)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// As [`Json::parse`], but that a number which would lose digits is refused: see [`Parsed`].
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        let parsed = Parsed::deserialize(from)?;
        match parsed.restated.first() {
            None => Ok(parsed.value),
            Some(path) => Err(D::Error::custom(format!("{path}: the number has more digits than can be kept"))),
        }
    }
}

impl<'de> Deserialize<'de> for Parsed {
    /// As [`Json::parse`].
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Parsed, D::Error> {
        let text = deserialize_text(from)?;
        Json::parse_within(text.get().as_bytes(), &limits()).map_err(D::Error::custom)
    }
}

impl Form for Json {
    fn form(&self) -> Json {
        self.clone()
    }

    fn read(value: &Json) -> Result<Json> {
        Ok(value.clone())
    }
}

impl Form for bool {
    fn form(&self) -> Json {
        Json::Bool(*self)
    }

    fn read(value: &Json) -> Result<bool> {
        value.as_bool().ok_or_else(|| wrong_type("true or false", value))
    }
}

impl Form for String {
    fn form(&self) -> Json {
        self.as_str().into()
    }

    fn read(value: &Json) -> Result<String> {
        value.as_str().map(str::to_owned).ok_or_else(|| wrong_type("a string", value))
    }
}

impl Form for Cow<'static, str> {
    fn form(&self) -> Json {
        self.as_ref().into()
    }

    fn read(value: &Json) -> Result<Cow<'static, str>> {
        String::read(value).map(Cow::Owned)
    }
}

impl Form for u64 {
    /// Beyond 2^53-1 a string of its digits.
    fn form(&self) -> Json {
        (*self).into()
    }

    fn read(value: &Json) -> Result<u64> {
        let long = |text: &str| text.parse().ok().filter(|n: &u64| *n > MAX_INT as u64 && n.to_string() == text);
        let number = value.as_u64().or_else(|| value.as_str().and_then(long));
        number.ok_or_else(|| wrong_type("an integer that is not negative", value))
    }
}

impl Form for u32 {
    fn form(&self) -> Json {
        (*self).into()
    }

    fn read(value: &Json) -> Result<u32> {
        let number = value.as_u64().and_then(|n| n.try_into().ok());
        number.ok_or_else(|| wrong_type("an integer from 0 to 4294967295", value))
    }
}

impl Form for usize {
    fn form(&self) -> Json {
        (*self as u64).into()
    }

    fn read(value: &Json) -> Result<usize> {
        u64::read(value)?.try_into().map_err(|_| Error::invalid("is too large"))
    }
}

impl Form for f64 {
    /// Null if it is no number.
    fn form(&self) -> Json {
        Number::from_f64(*self).map_or(Json::Null, Json::Number)
    }

    fn read(value: &Json) -> Result<f64> {
        value.as_f64().ok_or_else(|| wrong_type("a number", value))
    }
}

impl Form for Duration {
    /// In nanoseconds, as an integer.
    fn form(&self) -> Json {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).into()
    }

    fn read(value: &Json) -> Result<Duration> {
        u64::read(value).map(Duration::from_nanos)
    }
}

impl<T: Form> Form for Option<T> {
    fn form(&self) -> Json {
        self.as_ref().map_or(Json::Null, Form::form)
    }

    fn read(value: &Json) -> Result<Option<T>> {
        if *value == Json::Null { Ok(None) } else { T::read(value).map(Some) }
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: Form> Form for Vec<T> {
    fn form(&self) -> Json {
        Json::Array(self.iter().map(Form::form).collect())
    }

    fn read(value: &Json) -> Result<Vec<T>> {
        let items = value.as_array().ok_or_else(|| wrong_type("a list", value))?;
        let read = |(i, item)| T::read(item).map_err(|e| e.in_member(&format!("[{i}]")));
        items.iter().enumerate().map(read).collect()
    }
}

impl<T: Form + Ord> Form for BTreeSet<T> {
    fn form(&self) -> Json {
        Json::Array(self.iter().map(Form::form).collect())
    }

    fn read(value: &Json) -> Result<BTreeSet<T>> {
        Ok(Vec::read(value)?.into_iter().collect())
    }
}

impl<K: Display + FromStr<Err: Display> + Ord, T: Form> Form for BTreeMap<K, T> {
    fn form(&self) -> Json {
        Json::Object(self.iter().map(|(key, value)| (key.to_string(), value.form())).collect())
    }

    fn read(value: &Json) -> Result<BTreeMap<K, T>> {
        let members = value.as_object().ok_or_else(|| wrong_type("an object", value))?;
        let read = |(name, value): (&str, &Json)| {
            let key = name.parse::<K>().map_err(|e| Error::invalid(e.to_string()).in_member(name))?;
            Ok((key, T::read(value).map_err(|e| e.in_member(name))?))
        };
        let read: BTreeMap<K, T> = members.iter().map(read).collect::<Result<_>>()?;
        // Two spellings of one key would be one.
        if read.len() == members.len() { Ok(read) } else { Err(Error::invalid("has one key twice")) }
    }
}

impl Form for Object {
    fn form(&self) -> Json {
        self.clone().into()
    }

    fn read(value: &Json) -> Result<Object> {
        value.as_object().cloned().ok_or_else(|| wrong_type("an object", value))
    }
}

/// serde's traits of types that have a [`Form`], which it gives:
///
/// - `members Type { a, b } repeats { "c" => |it| … }`: an object of the fields by their names, with members that follow from them;
/// - `form Type { a, b }`: the same, and serde's traits are there already;
/// - `methods Type`: by the type's own `to_json(&self) -> Json` and `from_json(&Json) -> Result<Self, impl Error>`;
/// - `text Type`: a string, by `Display` and `FromStr`;
/// - `own Type`: its [`Form`] is written by hand.
#[doc(hidden)]
#[macro_export]
macro_rules! json_form {
    (own $($type:ty),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
                $crate::json::form::serialize(self, out)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                $crate::json::form::deserialize(from)
            }
        }
    )+};
    (methods $($type:ty),+ $(,)?) => {$(
        impl $crate::json::form::Form for $type {
            fn form(&self) -> $crate::json::Json {
                self.to_json()
            }

            fn read(value: &$crate::json::Json) -> $crate::Result<Self> {
                let read = <$type>::from_json(value)?;
                $crate::json::form::same(value, &read.to_json())?;
                Ok(read)
            }
        }

        $crate::json_form!(own $type);
    )+};
    (text $($type:ty),+ $(,)?) => {$(
        $crate::json_form!(text_form $type);

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                $crate::json::form::deserialize_str(from)
            }
        }
    )+};
    (text_form $($type:ty),+ $(,)?) => {$(
        impl $crate::json::form::Form for $type {
            fn form(&self) -> $crate::json::Json {
                ToString::to_string(self).into()
            }

            fn read(value: &$crate::json::Json) -> $crate::Result<Self> {
                let text = value.as_str().ok_or_else(|| $crate::json::form::wrong_type("a string", value))?;
                text.parse::<Self>().map_err(|e| $crate::Error::invalid(e.to_string()))
            }
        }
    )+};
    (members $type:ident $members:tt $($repeats:tt)*) => {
        $crate::json_form!(form $type $members $($repeats)*);
        $crate::json_form!(own $type);
    };
    (form $type:ident { $($field:ident),* $(,)? } $(repeats { $($name:literal => |$it:ident| $value:expr),* $(,)? })?) => {
        impl $crate::json::form::Form for $type {
            fn form(&self) -> $crate::json::Json {
                use $crate::json::form::Form;
                let mut out = $crate::json::Object::new();
                $(out.insert(stringify!($field), Form::form(&self.$field));)*
                $($({
                    let $it = self;
                    out.insert($name, Form::form(&$value));
                })*)?
                out.into()
            }

            fn read(value: &$crate::json::Json) -> $crate::Result<Self> {
                let mut members = $crate::members::Members::of(value)?;
                let read = $type { $($field: $crate::json::form::member(&mut members, stringify!($field))?,)* };
                $($({
                    let $it = &read;
                    $crate::json::form::repeated(&mut members, $name, &$crate::json::form::Form::form(&$value))?;
                })*)?
                members.end()?;
                Ok(read)
            }
        }
    };
}

/// The text form of an enum whose variants have names, by its `ALL` and `as_str`: `FromStr` and [`Form`], and with `serde` that of
/// serde. `$what` is what one of them is called.
#[doc(hidden)]
#[macro_export]
macro_rules! named_form {
    ($type:ty, $what:literal) => {
        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            /// Reads what `as_str` gives; the error names all that there are.
            fn from_str(text: &str) -> $crate::Result<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| {
                    let names: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    let shown = $crate::members::shown(text);
                    $crate::Error::invalid(format!("{shown} is no {}; write one of {}", $what, names.join(", ")))
                })
            }
        }

        impl $crate::json::form::Form for $type {
            fn form(&self) -> $crate::json::Json {
                self.as_str().into()
            }

            fn read(value: &$crate::json::Json) -> $crate::Result<Self> {
                value.as_str().ok_or_else(|| $crate::json::form::wrong_type("a string", value))?.parse()
            }
        }
    };
    (serde $type:ty, $what:literal) => {
        $crate::named_form!($type, $what);

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                $crate::json::form::deserialize_str(from)
            }
        }
    };
}

/// serde's traits of an enum whose variants have names and that is stored too: the name, and in the stored form the variant's
/// place, as derived.
#[doc(hidden)]
#[macro_export]
macro_rules! stored_enum {
    ($type:ident { $($variant:ident,)* }) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
                #[derive(serde::Serialize)]
                enum Stored { $($variant,)* }
                if out.is_human_readable() {
                    return out.serialize_str(self.as_str());
                }
                match self { $($type::$variant => Stored::$variant,)* }.serialize(out)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                enum Stored { $($variant,)* }
                if from.is_human_readable() {
                    return $crate::json::form::deserialize_str(from);
                }
                Ok(match Stored::deserialize(from)? { $(Stored::$variant => $type::$variant,)* })
            }
        }
    };
}
