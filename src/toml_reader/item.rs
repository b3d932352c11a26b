//! The deserializer: values that know their place, and errors that name it.

use super::Spot;
use super::values::{self, AT, ONE_OR_MORE};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// An error, and its place if it is known: whichever code reads the innermost wrong value adds the place.
#[derive(Debug)]
pub(super) struct Fault {
    pub message: String,
    pub spot: Option<Spot>,
    kind: Kind,
}

/// What the message still lacks until the place is known.
#[derive(Debug)]
enum Kind {
    /// Nothing.
    Sentence,
    /// The member's name before it.
    Must,
    /// The member's name before it, and the actual type after it.
    MustBe,
    /// The name of the table that lacks something, after it.
    Missing,
    /// The keys of the table, after it.
    Unknown(String, &'static [&'static str]),
}

impl Fault {
    fn new(kind: Kind, message: impl Into<String>) -> Fault {
        Fault { message: message.into(), spot: None, kind }
    }

    /// Adds the place of a value, unless a place is known already.
    fn at_value(mut self, item: &Item<'_, '_>) -> Fault {
        if self.spot.is_none() {
            let member = &item.spot.member;
            self.message = match self.kind {
                Kind::Must => format!("{member} {}", self.message),
                Kind::MustBe => format!("{member} {}, not {}", self.message, type_of(item.value.get_ref())),
                Kind::Missing if !member.is_empty() => format!("{} in {member}", self.message),
                _ => self.message,
            };
            self.spot = Some(item.spot.clone());
        }
        self
    }

    /// Adds the place of a key in a table.
    fn at_key(mut self, table: &Spot, key: &Spot) -> Fault {
        if self.spot.is_none() {
            if let Kind::Unknown(name, known) = &self.kind {
                let holder = if table.member.is_empty() { "there are" } else { &format!("{} has", table.member) };
                self.message = format!("unknown key {name:?}; {holder} {}", values::listed(name, known));
            }
            self.spot = Some(key.clone());
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault::new(Kind::Sentence, message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, wanted: &dyn Expected) -> Fault {
        Fault::new(Kind::MustBe, format!("must be {wanted}"))
    }

    fn invalid_value(_: Unexpected<'_>, wanted: &dyn Expected) -> Fault {
        Fault::new(Kind::Must, format!("must be {wanted}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(Kind::Unknown(field.to_owned(), known), format!("unknown key {field:?}"))
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::new(Kind::Missing, format!("{field} is missing"))
    }
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The members of a table in the order of the text: rules are applied, and errors reported, in this order.
pub(super) fn in_order<'a, 't>(table: &'a DeTable<'t>) -> Vec<(&'a Spanned<DeString<'t>>, &'a Spanned<DeValue<'t>>)> {
    let mut members: Vec<_> = table.iter().collect();
    members.sort_by_key(|(key, _)| key.span().start);
    members
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Item<'a, 't> {
    value: &'a Spanned<DeValue<'t>>,
    spot: Spot,
}

impl<'a, 't> Item<'a, 't> {
    pub fn new(value: &'a Spanned<DeValue<'t>>, spot: Spot) -> Item<'a, 't> {
        Item { value, spot }
    }

    pub fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        let here = self.clone();
        T::deserialize(self).map_err(|fault| fault.at_value(&here))
    }

    fn seed<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let here = self.clone();
        seed.deserialize(self).map_err(|fault| fault.at_value(&here))
    }

    fn wrong<T>(wanted: &str) -> Result<T, Fault> {
        Err(Fault::new(Kind::MustBe, format!("must be {wanted}")))
    }

    /// Reads a whole number from 0 to `most`.
    fn number(&self, most: u64) -> Result<u64, Fault> {
        let DeValue::Integer(n) = self.value.get_ref() else { return Item::wrong("a whole number") };
        let n = u64::from_str_radix(n.as_str(), n.radix()).ok().filter(|n| *n <= most);
        n.ok_or_else(|| Fault::new(Kind::Must, format!("must be a whole number from 0 to {most}")))
    }
}

impl<'de> de::Deserializer<'de> for Item<'_, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(flag) => visitor.visit_bool(*flag),
            DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) => visitor.visit_i64(n),
                Err(_) => Err(Fault::new(Kind::Must, "is beyond the numbers that can be kept exactly")),
            },
            DeValue::Float(x) => match x.as_str().parse() {
                Ok(x) => visitor.visit_f64(x),
                Err(_) => Err(Fault::new(Kind::Must, "is no number")),
            },
            DeValue::Datetime(time) => visitor.visit_string(time.to_string()),
            DeValue::Array(items) => visitor.visit_seq(List { items: items.iter(), index: 0, spot: &self.spot }),
            DeValue::Table(table) => {
                visitor.visit_map(Table { members: in_order(table).into_iter(), value: None, spot: &self.spot })
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => visitor.visit_bool(*flag),
            _ => Item::wrong("true or false"),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(u32::MAX.into()).and_then(|n| visitor.visit_u64(n))
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // JSON cannot hold larger numbers exactly.
        self.number((1 << 53) - 1).and_then(|n| visitor.visit_u64(n))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            _ => Item::wrong("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::Array(_) => self.deserialize_any(visitor),
            // A list of tables at the top level is written this way.
            _ if !self.spot.member.contains(['.', '[']) => {
                Err(Fault::new(Kind::Must, format!("must be a list of tables: write [[{}]]", self.spot.member)))
            }
            _ => Item::wrong("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::Table(_) => self.deserialize_any(visitor),
            _ => Item::wrong("a table"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (name, self.value.get_ref()) {
            (AT, _) => {
                let spot = self.spot.clone();
                visitor.visit_seq(Spotted { spot, step: 0, item: Some(self) })
            }
            (ONE_OR_MORE, DeValue::Array(_)) => self.deserialize_any(visitor),
            (ONE_OR_MORE, _) => visitor.visit_seq(One(Some(self))),
            _ => self.deserialize_seq(visitor),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple enum identifier
        ignored_any
    }
}

/// A key, deserialized as a value.
struct Key<'a, 't> {
    key: &'a Spanned<DeString<'t>>,
    spot: Spot,
}

impl<'de> de::Deserializer<'de> for Key<'_, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.key.get_ref())
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let spot = self.spot.clone();
        visitor.visit_seq(Spotted { spot, step: 0, item: Some(self) })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple map struct enum identifier ignored_any
    }
}

/// What [`At`](super::At) is deserialized from: the offsets of the value and its key, the member's path, and the value.
struct Spotted<D> {
    spot: Spot,
    step: u8,
    item: Option<D>,
}

impl<'de, D: de::Deserializer<'de, Error = Fault>> de::SeqAccess<'de> for Spotted<D> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize((self.spot.offset as u64).into_deserializer()).map(Some),
            2 => seed.deserialize((self.spot.key as u64).into_deserializer()).map(Some),
            3 => seed.deserialize(std::mem::take(&mut self.spot.member).into_deserializer()).map(Some),
            _ => self.item.take().map(|item| seed.deserialize(item)).transpose(),
        }
    }
}

struct One<'a, 't>(Option<Item<'a, 't>>);

impl<'de> de::SeqAccess<'de> for One<'_, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.0.take().map(|item| item.seed(seed)).transpose()
    }
}

struct List<'a, 't> {
    items: std::slice::Iter<'a, Spanned<DeValue<'t>>>,
    index: usize,
    spot: &'a Spot,
}

impl<'de> de::SeqAccess<'de> for List<'_, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(value) = self.items.next() else { return Ok(None) };
        let spot = self.spot.index(value.span().start, self.index);
        self.index += 1;
        Item::new(value, spot).seed(seed).map(Some)
    }
}

type Member<'a, 't> = (&'a Spanned<DeString<'t>>, &'a Spanned<DeValue<'t>>);

struct Table<'a, 't> {
    members: std::vec::IntoIter<Member<'a, 't>>,
    value: Option<Member<'a, 't>>,
    spot: &'a Spot,
}

impl<'de> de::MapAccess<'de> for Table<'_, '_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((key, value)) = self.members.next() else { return Ok(None) };
        self.value = Some((key, value));
        let spot = self.spot.member(key, value).at_key();
        let read = seed.deserialize(Key { key, spot: spot.clone() });
        read.map(Some).map_err(|fault| fault.at_key(self.spot, &spot))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (key, value) = self.value.take().ok_or_else(|| Fault::new(Kind::Sentence, "a key has no value"))?;
        Item::new(value, self.spot.member(key, value)).seed(seed)
    }
}
