//! Tree heads: a log's statement about itself at one size, and the note that carries it.

use super::{KeyType, Note, NoteError, Signature, Signed, SigningKey, VerifierKey, parse_32, parse_decimal};
use crate::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// Origin, size and root, as C2SP tlog-checkpoint writes them. Prints as the text that is signed.
///
/// ```
/// use attestlog::{Hash, note::Checkpoint};
/// let checkpoint = Checkpoint::new("example.com/log", 2, Hash::of(b"")).unwrap();
/// let text = checkpoint.to_string();
/// assert_eq!(text, "example.com/log\n2\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
/// assert_eq!(Checkpoint::parse(&text).unwrap(), checkpoint);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// The tree head of this log at this size, without extension lines.
    ///
    /// # Errors
    /// [`NoteError::Checkpoint`] if the origin is empty or has a newline, or the size is beyond 2^63-1;
    /// [`NoteError::Malformed`] if the origin has another control character; [`NoteError::TooLarge`].
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint { origin: origin.to_owned(), size, root, extensions: Vec::new() };
        // Never write what would not read back.
        if Checkpoint::parse(&checkpoint.to_string())? == checkpoint {
            Ok(checkpoint)
        } else {
            Err(NoteError::Checkpoint("an origin with a newline"))
        }
    }

    /// Reads the text of a checkpoint, without signatures.
    ///
    /// # Errors
    /// [`NoteError::Checkpoint`] with what is wrong; [`NoteError::Malformed`] or [`NoteError::TooLarge`] if no note could hold it.
    pub fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let wrong = |what| Err(NoteError::Checkpoint(what));
        super::check_text(text)?;
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return wrong("it has fewer than three lines");
        };
        if origin.is_empty() {
            return wrong("its origin is empty");
        }
        let Some(size) = parse_decimal(size) else {
            return wrong("its size is not a decimal number without leading zeros below 2^64");
        };
        if i64::try_from(size).is_err() {
            return wrong("its size is beyond 2^63-1");
        }
        let Some(root) = parse_32(root) else {
            return wrong("its root is not the base64 of 32 bytes");
        };
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return wrong("an extension line is empty");
        }
        Ok(Checkpoint { origin: origin.to_owned(), size, root: Hash(root), extensions })
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over these entries.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The lines after the root. This log writes none; other logs may.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A checkpoint and the signed note that carries it. Prints as the note. It is always well-formed; its signatures are
/// checked by [`SignedCheckpoint::verify`] and [`super::Succession::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Signs with each of `keys`, normally the log key and the epoch key.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if there is no key.
    pub fn sign(checkpoint: Checkpoint, keys: &[&SigningKey]) -> Result<SignedCheckpoint, NoteError> {
        let note = Note::sign(checkpoint.to_string(), keys)?;
        Ok(SignedCheckpoint { checkpoint, note })
    }

    /// Reads a checkpoint with its signatures.
    ///
    /// # Errors
    /// The [`NoteError`] that says what is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<SignedCheckpoint, NoteError> {
        let note = Note::parse(bytes)?;
        Ok(SignedCheckpoint { checkpoint: Checkpoint::parse(note.text())?, note })
    }

    /// The checkpoint that the note states.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note itself.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Checks that the log key `key` signed this, and that it is a checkpoint of that key's log.
    ///
    /// # Errors
    /// [`NoteError::Origin`], [`NoteError::Unsigned`], [`NoteError::BadSignature`]; [`NoteError::Key`] for the key of a
    /// witness, which does not speak for the log.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        if key.key_type() != KeyType::Ed25519 {
            return Err(NoteError::Key("this is a witness's key, not a log's"));
        }
        if self.checkpoint.origin != key.name() {
            let (expected, got) = (key.name().to_owned(), self.checkpoint.origin.clone());
            return Err(NoteError::Origin { expected, got });
        }
        self.note.verify(std::slice::from_ref(key)).map(|_| ())
    }

    /// Which of these witnesses cosigned, each with its time. If none did, the list is empty; that is not an error.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`].
    pub fn cosigned<'k>(&self, witnesses: &'k [VerifierKey]) -> Result<Vec<Signed<'k>>, NoteError> {
        match self.note.verify(witnesses) {
            Err(NoteError::Unsigned(_)) => Ok(Vec::new()),
            signed => signed,
        }
    }

    /// Adds a witness's signature line.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn add(&mut self, cosignature: Signature) -> Result<(), NoteError> {
        self.note.add(cosignature)
    }
}

impl FromStr for SignedCheckpoint {
    type Err = NoteError;

    /// As [`SignedCheckpoint::parse`].
    fn from_str(text: &str) -> Result<SignedCheckpoint, NoteError> {
        SignedCheckpoint::parse(text.as_bytes())
    }
}

crate::json_form!(text SignedCheckpoint);

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}
