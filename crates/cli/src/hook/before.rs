//! What a configuration was before the hooks were added, where cutting them out again would not give it back: an empty list or
//! object that they were put into, a blank between brackets, a file that looks like one of this program's own.
//!
//! It stands in a file beside the configuration, which only whoever may read the configuration may read. If nobody has changed the
//! configuration since, it is put in its place again. If somebody has, it says what was there, however empty, and so stays.

use super::file::Configured;
use crate::exit::Failure;
use attestlog::json::{Json, Object};
use std::path::{Path, PathBuf};

fn path(configuration: &Path) -> PathBuf {
    let mut path = configuration.as_os_str().to_owned();
    path.push(".attestlog-before");
    path.into()
}

/// A configuration before and after the hooks of a store were added.
pub struct Before {
    pub before: String,
    pub after: String,
}

fn read(configuration: &Path) -> Result<(Configured, Object), Failure> {
    let file = Configured::read(&path(configuration))?;
    let parsed = file.text().and_then(|text| Json::parse(text.as_bytes()).ok()).map(|parsed| parsed.value);
    let notes = match parsed {
        Some(Json::Object(notes)) => notes,
        _ => Object::new(),
    };
    Ok((file, notes))
}

/// What is kept for this store.
pub fn of(configuration: &Path, store: &Path) -> Result<Option<Before>, Failure> {
    let (_, notes) = read(configuration)?;
    let text = |name: &str| notes.get(&store.to_string_lossy())?.get(name)?.as_str().map(str::to_owned);
    Ok(text("before").zip(text("after")).map(|(before, after)| Before { before, after }))
}

/// Keeps the text before the hooks of this store were added; `None`: it is not needed.
pub fn keep(configuration: &Path, store: &Path, kept: Option<Before>) -> Result<(), Failure> {
    let (file, mut notes) = read(configuration)?;
    let (there, name) = (notes.clone(), store.to_string_lossy());
    notes.remove(&name);
    if let Some(Before { before, after }) = kept {
        notes.insert(name, Object::from_iter([("before", Json::from(before)), ("after", Json::from(after))]));
    }
    match (!notes.is_empty(), file.text()) {
        _ if notes == there => Ok(()),
        (true, _) => file.write_like(configuration, &format!("{}\n", Json::from(notes).to_canonical())),
        (false, None) => Ok(()),
        (false, Some(_)) => std::fs::remove_file(file.path()).map_err(|e| Failure::file(file.path(), &e)),
    }
}
