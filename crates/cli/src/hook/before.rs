//! What a configuration was before the hooks were added, where cutting them out again would not give it back: an empty list or
//! object that they were put into, a blank between brackets, a file that looks like one of this program's own.
//!
//! It stands in a file beside the configuration, which only whoever may read the configuration may read, and is believed only as
//! long as nobody has changed the configuration.

use super::file::Configured;
use crate::exit::Failure;
use attestlog::json::{Json, Object};
use std::path::{Path, PathBuf};

fn path(configuration: &Path) -> PathBuf {
    let mut path = configuration.as_os_str().to_owned();
    path.push(".attestlog-before");
    path.into()
}

fn read(configuration: &Path) -> Result<(Configured, Json), Failure> {
    let file = Configured::read(&path(configuration))?;
    let note = file.text().and_then(|text| Json::parse(text.as_bytes()).ok());
    let note = note.map_or(Json::Null, |note| note.value);
    Ok((file, note))
}

fn is(note: &Json, name: &str, text: &str) -> bool {
    note.get(name).and_then(Json::as_str) == Some(text)
}

/// The text before the hooks of this store were added, if it is known and `now` is what adding them made of it.
pub fn original(configuration: &Path, store: &Path, now: &str) -> Result<Option<String>, Failure> {
    let (_, note) = read(configuration)?;
    let holds = is(&note, "store", &store.to_string_lossy()) && is(&note, "after", now);
    Ok(note.get("before").and_then(Json::as_str).filter(|_| holds).map(str::to_owned))
}

/// Keeps the text before the hooks of this store were added.
pub fn keep(configuration: &Path, store: &Path, before: &str, after: &str) -> Result<(), Failure> {
    let (file, _) = read(configuration)?;
    let texts = [("store", &*store.to_string_lossy()), ("before", before), ("after", after)];
    let note: Json = Object::from_iter(texts.map(|(name, text)| (name, Json::from(text)))).into();
    file.write_like(configuration, &format!("{}\n", note.to_canonical()))
}

/// Forgets what was kept for this store.
pub fn forget(configuration: &Path, store: &Path) -> Result<(), Failure> {
    let (file, note) = read(configuration)?;
    if is(&note, "store", &store.to_string_lossy()) {
        return std::fs::remove_file(file.path()).map_err(|e| Failure::file(file.path(), &e));
    }
    Ok(())
}
