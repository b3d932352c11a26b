//! Signed notes: texts with the signatures of named keys, and the statements that this log makes in them.
//!
//! Invariants: every [`Note`] is well-formed (UTF-8, no control characters, bounded, at least one signature), so it prints
//! as the bytes it was read from. Being well-formed says nothing about its signatures, which [`Note::verify`] checks
//! against keys that the caller trusts. Every checkpoint of this log has two signatures: that of the log key, whose name
//! is the origin, and that of the epoch key in force, whose name is `ORIGIN/epoch-N`.
//!
//! `key` holds verifier and signing keys, `checkpoint` the tree heads, `epoch` the succession of epoch keys; both
//! build on the note in this file, which depends only on `key`. The formats are those of C2SP signed-note,
//! tlog-checkpoint and tlog-cosignature (<https://c2sp.org>). No I/O, no clock, no randomness.

mod checkpoint;
mod epoch;
mod key;

pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use epoch::{Epoch, EpochError, Rotation, Succession, binds, epoch_name, origin};
pub use key::public_of;
pub use key::{KeyType, SigningKey, VerifierKey};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The most bytes a note may have. A checkpoint with two signatures has some 400, one with sixteen post-quantum
/// cosignatures some 60,000.
pub const MAX_NOTE_BYTES: usize = 256 << 10;

/// The most signatures a note may have. The specification asks readers for at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// The most bytes a key name, and therefore an origin, may have.
pub const MAX_NAME_BYTES: usize = 512;

/// Why a text is not a note, key or checkpoint, or why its signatures do not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Larger than [`MAX_NOTE_BYTES`].
    #[error("the note has {0} bytes, more than the limit of {MAX_NOTE_BYTES}")]
    TooLarge(usize),
    /// More signatures than [`MAX_SIGNATURES`].
    #[error("the note has {0} signature lines, more than the limit of {MAX_SIGNATURES}")]
    TooManySignatures(usize),
    /// Not the form of a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A signature line that is not one; lines count from 1 at the first signature.
    #[error("signature line {line}: {reason}")]
    SignatureLine {
        /// Which signature line.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a verifier key.
    #[error("not a public key: {0}")]
    Key(&'static str),
    /// A name that no key can have.
    #[error("not a key name: {0}")]
    Name(&'static str),
    /// A note, but not a checkpoint.
    #[error("not a checkpoint: {0}")]
    Checkpoint(&'static str),
    /// None of the trusted keys signed.
    #[error("not signed by {0}")]
    Unsigned(String),
    /// A signature with a trusted key's name and id does not hold: the text or the signature was altered.
    #[error("the signature of {0} does not hold: the text or the signature was altered")]
    BadSignature(String),
    /// A checkpoint of another log.
    #[error("the checkpoint is one of the log {got}, but the key belongs to the log {expected}")]
    Origin {
        /// The log whose key was given.
        expected: String,
        /// The log that the checkpoint names.
        got: String,
    },
}

impl From<NoteError> for crate::Error {
    fn from(e: NoteError) -> crate::Error {
        let kind = match e {
            NoteError::TooLarge(_) | NoteError::TooManySignatures(_) => crate::ErrorKind::TooLarge,
            _ => crate::ErrorKind::InvalidInput,
        };
        crate::Error::new(kind, e.to_string()).with_source(e)
    }
}

/// One signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl Signature {
    /// The name of the key that is claimed to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of that key.
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The bytes after the id: 64 of Ed25519, or, from a witness, 8 of time and 64 of Ed25519.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses the signature in a witness's answer: one signature line with its newline.
    ///
    /// # Errors
    /// [`NoteError::SignatureLine`], or [`NoteError::TooLarge`].
    pub fn parse_line(line: &str) -> Result<Signature, NoteError> {
        let wrong = |reason| NoteError::SignatureLine { line: 1, reason };
        if line.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge(line.len()));
        }
        parse_signature(line.strip_suffix('\n').ok_or(wrong("no newline at its end"))?).map_err(wrong)
    }
}

impl fmt::Display for Signature {
    /// The line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [&self.key_id[..], &self.bytes].concat();
        write!(f, "— {} {}", self.name, STANDARD.encode(blob))
    }
}

/// A text and its signatures. Prints as the bytes it was read from.
///
/// ```
/// use attestlog::note::{Note, VerifierKey};
/// let key: VerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
/// let note = Note::parse("If you think cryptography is the answer to your problem,\n\
///     then you don't know what your problem is.\n\
///     \n\
///     — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
///     .as_bytes()).unwrap();
/// assert_eq!(note.verify(&[key]).unwrap()[0].key.name(), "PeterNeumann");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// A signature that was checked and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<'k> {
    /// The key that signed, one of those given.
    pub key: &'k VerifierKey,
    /// The time that a witness states, in seconds since 1970; a log's signature has none.
    pub time: Option<u64>,
}

impl Note {
    /// Signs `text`, which ends in a newline, with each of `keys`.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if `text` would not read back unchanged or there is no key; [`NoteError::TooLarge`].
    pub fn sign(text: impl Into<String>, keys: &[&SigningKey]) -> Result<Note, NoteError> {
        let text = text.into();
        check_text(&text)?;
        if keys.is_empty() {
            return Err(NoteError::Malformed("no key to sign with"));
        }
        let signatures = keys.iter().map(|key| key.sign(&text)).collect();
        Ok(Note { text, signatures })
    }

    /// Reads a note without checking its signatures.
    ///
    /// # Errors
    /// The [`NoteError`] that says what is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        let at = note.rfind("\n\n").ok_or(NoteError::Malformed("no blank line before the signatures"))?;
        let (text, lines) = note.split_at(at + 1);
        check_text(text)?;
        let lines = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Malformed("no newline after the last signature"))?;
        let count = lines.split('\n').count();
        if count > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures(count));
        }
        let signatures = (1..)
            .zip(lines.split('\n'))
            .map(|(line, text)| parse_signature(text).map_err(|reason| NoteError::SignatureLine { line, reason }))
            .collect::<Result<_, _>>()?;
        Ok(Note { text: text.to_owned(), signatures })
    }

    /// The text that was signed, including its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, unchecked; [`Note::verify`] checks them.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature line, such as a witness returns.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn add(&mut self, signature: Signature) -> Result<(), NoteError> {
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures(self.signatures.len() + 1));
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// Which of `keys` signed. Lines of other keys are ignored.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] as soon as one line has the name and id of a trusted key and does not hold;
    /// [`NoteError::Unsigned`] when no trusted key signed.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<Signed<'k>>, NoteError> {
        let mut signed: Vec<Signed<'k>> = Vec::new();
        for signature in &self.signatures {
            let mut known = keys.iter().filter(|k| k.name() == signature.name && k.id() == signature.key_id).peekable();
            if known.peek().is_none() {
                continue;
            }
            // Ids are short: two trusted keys may share name and id; then either may have signed.
            let holds = known.find_map(|key| key.check(&self.text, &signature.bytes).map(|time| Signed { key, time }));
            let holds = holds.ok_or_else(|| NoteError::BadSignature(signature.name.clone()))?;
            if !signed.contains(&holds) {
                signed.push(holds);
            }
        }
        if signed.is_empty() {
            let names: Vec<&str> = keys.iter().map(VerifierKey::name).collect();
            return Err(NoteError::Unsigned(if names.is_empty() { "any key".to_owned() } else { names.join(" or ") }));
        }
        Ok(signed)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLarge(text.len()));
    }
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("no newline at the end of the text"));
    }
    if text.bytes().any(|b| b < 0x20 && b != b'\n') {
        return Err(NoteError::Malformed("a control character"));
    }
    Ok(())
}

/// A key name: not empty, no white space, no plus sign, no control characters, bounded.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("no key name");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("a key name of more than 512 bytes");
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        return Err("a space, a control character or a plus sign in the key name");
    }
    Ok(())
}

const _: () = assert!(MAX_NAME_BYTES == 512, "the message above says it");

fn parse_signature(line: &str) -> Result<Signature, &'static str> {
    let rest = line.strip_prefix("— ").ok_or("it does not begin with an em dash and a space")?;
    let (name, blob) = rest.split_once(' ').ok_or("no space after the key name")?;
    check_name(name)?;
    let blob = STANDARD.decode(blob).map_err(|_| "the signature is not base64")?;
    match blob.split_first_chunk::<4>() {
        Some((key_id, bytes)) if !bytes.is_empty() => {
            Ok(Signature { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
        }
        _ => Err("the signature is too short"),
    }
}

/// The unsigned number that `text` spells in decimal without leading zeros.
pub fn parse_decimal(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The 32 bytes that `text` encodes in base64.
pub fn parse_32(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
