//! Sealed values as they appear in entries: the key they are sealed under, and the commitment that a reveal is checked against.

use crate::Hash;
use crate::json::{Json, Path};
use std::collections::BTreeSet;
use zeroize::Zeroize;

const COMMIT: &[u8] = b"attestlog sealed commitment v1\0";

/// A sealed value that was opened, with the salt that proves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The value before it was sealed.
    pub value: Json,
    /// The 16-byte salt of the commitment.
    pub salt: [u8; 16],
}

/// The id of the key that a value is sealed under; `None` if the value is not sealed.
pub fn sealed_subject(value: &Json) -> Option<&str> {
    Form::of(value).map(|f| f.subject)
}

/// Adds the ids of the keys under which parts of `value` are sealed. The recursion is as deep as the JSON of an entry, which is
/// limited.
pub(crate) fn collect_keys(value: &Json, ids: &mut BTreeSet<String>) {
    if let Some(id) = sealed_subject(value) {
        ids.insert(id.to_owned());
        return;
    }
    match value {
        Json::Array(items) => items.iter().for_each(|item| collect_keys(item, ids)),
        Json::Object(members) => members.iter().for_each(|(_, member)| collect_keys(member, ids)),
        _ => {}
    }
}

/// The commitment of a sealed value; `None` if the value is not sealed.
pub fn sealed_commitment(value: &Json) -> Option<Hash> {
    Form::of(value).map(|f| f.commitment)
}

/// Whether `commitment` was made for this value with this salt at this path.
pub fn verify_reveal(path: &Path, salt: &[u8; 16], value: &Json, commitment: &Hash) -> bool {
    commit(&path.to_string(), salt, value) == *commitment
}

/// A sealed value as it appears in an entry.
pub struct Form<'a> {
    /// The id of the key that the value is sealed under.
    pub subject: &'a str,
    /// The ciphertext in base64.
    pub ct: &'a str,
    /// The commitment to the value.
    pub commitment: Hash,
}

impl Form<'_> {
    /// Reads a sealed value; `None` if `value` is not one.
    pub fn of(value: &Json) -> Option<Form<'_>> {
        let sealed = value.as_object().filter(|o| o.len() == 1)?.get("sealed")?;
        let text = |key: &str| sealed.get(key).and_then(Json::as_str);
        (sealed.get("v").and_then(Json::as_u64) == Some(1)).then_some(())?;
        Some(Form { subject: text("subject")?, ct: text("ct")?, commitment: text("commitment")?.parse().ok()? })
    }
}

/// The commitment to a value with this salt at this path.
pub fn commit(path: &str, salt: &[u8; 16], value: &Json) -> Hash {
    let mut message = associated(COMMIT, &[path]);
    message.extend_from_slice(salt);
    let value = value.to_canonical();
    message.extend_from_slice(&(value.as_str().len() as u64).to_be_bytes());
    message.extend_from_slice(value.as_str().as_bytes());
    let hash = Hash::of(&message);
    message.zeroize();
    hash
}

/// A domain followed by parts, each preceded by its length.
pub fn associated(domain: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut out = domain.to_vec();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}
