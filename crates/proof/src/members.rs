//! Reads the objects inside chained entries. Every member is asked for by name; a member that nobody asked for is an
//! error, because a reader would silently drop what it does not know.

use crate::json::{Json, Object};
use crate::{Error, Hash, Result, Timestamp};

/// The members of an object that have not been read yet.
pub struct Members(Object);

impl Members {
    pub fn of(value: &Json) -> Result<Members> {
        match value {
            Json::Object(o) => Ok(Members(o.clone())),
            other => Err(Error::invalid(format!("must be an object, not {}", other.type_name()))),
        }
    }

    /// Takes a member out; `None` if it is absent.
    pub fn optional(&mut self, key: &str) -> Option<Json> {
        self.0.remove(key)
    }

    pub fn required(&mut self, key: &str) -> Result<Json> {
        self.0.remove(key).ok_or_else(|| Error::invalid(format!("{key} is missing")))
    }

    pub fn text(&mut self, key: &str) -> Result<String> {
        text(self.required(key)?).map_err(|e| e.at(key))
    }

    /// The elements of a list; empty if the list is absent.
    pub fn list<T>(&mut self, key: &str, read: impl Fn(Json) -> Result<T>) -> Result<Vec<T>> {
        match self.0.remove(key) {
            None => Ok(Vec::new()),
            Some(Json::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| read(item).map_err(|e| e.at(format_args!("{key}[{i}]"))))
                .collect(),
            Some(other) => Err(Error::invalid(format!("{key}: must be a list, not {}", other.type_name()))),
        }
    }

    pub fn integer(&mut self, key: &str) -> Result<u64> {
        let value = self.required(key)?;
        value.as_u64().ok_or_else(|| Error::invalid(format!("{key}: must be an integer, not {}", value.type_name())))
    }

    pub fn time(&mut self, key: &str) -> Result<Timestamp> {
        self.text(key)?.parse().map_err(|e: Error| e.at(key))
    }

    pub fn hash(&mut self, key: &str) -> Result<Hash> {
        self.text(key)?.parse().map_err(|e| Error::invalid(format!("{key}: {e}")))
    }

    /// Fails if a member is left.
    pub fn end(self) -> Result<()> {
        match self.0.iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(Error::invalid(format!("{key} is not a member that is known here"))),
        }
    }
}

pub fn text(value: Json) -> Result<String> {
    match value {
        Json::String(s) => Ok(s),
        other => Err(Error::invalid(format!("must be a string, not {}", other.type_name()))),
    }
}

const MAX_TEXT_BYTES: usize = 64 << 10;

/// Refuses a name, reason or id that is empty, too long or contains NUL.
pub fn check_text(name: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        return Err(Error::invalid(format!("{name}: must have 1 to {MAX_TEXT_BYTES} bytes and no NUL")));
    }
    Ok(())
}

/// A caller's text for use in a message: quoted, and cut after 60 characters.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    format!("{short:?}{}", if short.len() < text.len() { "…" } else { "" })
}
