//! Reads configuration files; all TOML is read here. A text is parsed once, with the place of everything in it. Each
//! section is then a type that serde deserializes, and every error names file, line, column and member, also as data
//! ([`Error::place`](crate::Error::place)).
//!
//! A section declares its members by its type (`deny_unknown_fields`), keeps the place of what can only be checked
//! later ([`At`]), and uses [`Document::error`] to report errors there. `item` is the deserializer, `values` has the
//! types that sections are made of.

mod item;
mod values;

pub(crate) use values::{At, Command, Entries, Name, Named, OneOrMore, Parsed, Word, listed};

use crate::{Error, Place, Result};
use item::{Fault, Item};
use serde::de::DeserializeOwned;
use std::fmt;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A parsed TOML text.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    text: &'t str,
    file: &'t str,
    root: Spanned<DeValue<'t>>,
}

/// A place in a text: the byte offsets of the value and of its key, and the path of the member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub offset: usize,
    pub key: usize,
    pub member: String,
}

impl Spot {
    /// The same place, for errors about the key and not its value.
    pub fn at_key(&self) -> Spot {
        Spot { offset: self.key, ..self.clone() }
    }

    fn member(&self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Spot {
        let (offset, at, key) = (value.span().start, key.span().start, key.get_ref());
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let key = if plain { key.to_string() } else { format!("{key:?}") };
        let member = if self.member.is_empty() { key } else { format!("{}.{key}", self.member) };
        Spot { offset, key: at, member }
    }

    fn index(&self, offset: usize, index: usize) -> Spot {
        Spot { offset, key: offset, member: format!("{}[{index}]", self.member) }
    }
}

impl<'t> Document<'t> {
    /// Parses a text; `file` is its name in errors.
    pub fn parse(text: &'t str, file: &'t str) -> Result<Document<'t>> {
        match DeTable::parse(text) {
            Ok(table) => {
                let span = table.span();
                Ok(Document { text, file, root: Spanned::new(span, DeValue::Table(table.into_inner())) })
            }
            Err(e) => {
                let place = Place::in_text(text.as_bytes(), e.span().map_or(0, |span| span.start)).file(file);
                Err(Error::invalid(e.message()).at(&place).with_place(place).with_source(e))
            }
        }
    }

    /// Refuses any top-level table or key that is not one of these.
    pub fn check_tables(&self, known: &[&'static str]) -> Result<()> {
        for (key, value) in item::in_order(self.root()) {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let what = if value.get_ref().is_table() { "table" } else { "key" };
                let message = format!("unknown {what} {name:?}; there are the tables {}", values::listed(name, known));
                return Err(self.error(&Spot::default().member(key, value).at_key(), message));
            }
        }
        Ok(())
    }

    /// Whether the text has one of these at the top level.
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.root().contains_key(*name))
    }

    /// The section with this name; `None` if the text has none.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some((key, value)) = self.root().get_key_value(name) else { return Ok(None) };
        let spot = Spot::default().member(key, value);
        Item::new(value, spot).read().map(Some).map_err(|fault| self.fault(fault))
    }

    /// Deserializes the whole text as one section.
    pub fn whole<T: DeserializeOwned>(&self) -> Result<T> {
        Item::new(&self.root, Spot::default()).read().map_err(|fault| self.fault(fault))
    }

    /// The place of a member that is named by its path: of its value or, inside such a value, of its key, since the key
    /// itself may be wrong. If the member does not exist, the place of the nearest one that would contain it.
    pub fn spot(&self, section: &str, index: usize, member: &str) -> Option<Spot> {
        let (key, list) = self.root().get_key_value(section)?;
        let top = list.get_ref().as_array()?.get(index)?;
        let spot = Spot::default().member(key, list).index(top.span().start, index);
        nearest(top.get_ref().as_table()?, &spot, member, true)
    }

    /// An error at a place in the text.
    pub fn error(&self, spot: &Spot, message: impl fmt::Display) -> Error {
        self.place(spot, Error::invalid(message.to_string()))
    }

    /// Adds a place in the text to an error.
    pub fn place(&self, spot: &Spot, error: Error) -> Error {
        let place = Place::in_text(self.text.as_bytes(), spot.offset).file(self.file);
        let error = error.at(&place);
        error.with_place(if spot.member.is_empty() { place } else { place.member(spot.member.as_str()) })
    }

    /// Adds the file to an error about the text as a whole.
    pub fn of_file(&self, error: Error) -> Error {
        error.in_file(self.file)
    }

    fn fault(&self, fault: Fault) -> Error {
        self.error(&fault.spot.unwrap_or_default(), fault.message)
    }

    fn root(&self) -> &DeTable<'t> {
        static EMPTY: std::sync::OnceLock<DeTable<'static>> = std::sync::OnceLock::new();
        self.root.get_ref().as_table().unwrap_or_else(|| EMPTY.get_or_init(DeTable::new))
    }
}

fn nearest(table: &DeTable<'_>, spot: &Spot, member: &str, first: bool) -> Option<Spot> {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let Some(rest) = member.strip_prefix(name) else { continue };
        let here = spot.member(key, value);
        let here = if first { here } else { here.at_key() };
        match rest.strip_prefix('.') {
            Some(rest) => {
                let inner = value.get_ref().as_table().and_then(|table| nearest(table, &here, rest, false));
                return Some(inner.unwrap_or(here));
            }
            None if rest.is_empty() => return Some(here),
            None => {}
        }
    }
    None
}
