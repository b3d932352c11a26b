//! Keys that sign and check notes: Ed25519, under a name.
//!
//! Invariant: the key id is computed from name, type and public key, so a key that was read is the key that was written.

use super::{NoteError, Signature, check_name};
use crate::Hash;
use crate::hash::{from_hex, to_hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, VerifyingKey};
use std::fmt;
use std::str::FromStr;

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// Type 0x01: the text of a note as it stands. The keys of this log are of this type.
    Ed25519,
    /// Type 0x04: a witness's timestamped cosignature of a checkpoint (`cosignature/v1`).
    CosignatureV1,
}

impl KeyType {
    fn byte(self) -> u8 {
        match self {
            KeyType::Ed25519 => 1,
            KeyType::CosignatureV1 => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<KeyType> {
        match byte {
            1 => Some(KeyType::Ed25519),
            4 => Some(KeyType::CosignatureV1),
            _ => None,
        }
    }
}

/// A public key under its name, as it is given to auditors: `NAME+ID+KEY`, where ID is eight hexadecimal digits of
/// SHA-256(name, newline, type, public key) and KEY the base64 of type and public key.
///
/// ```
/// use attestlog::note::VerifierKey;
/// let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
/// let key: VerifierKey = text.parse().unwrap();
/// assert_eq!(key.name(), "PeterNeumann");
/// assert_eq!(key.to_string(), text);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_type: KeyType,
    id: [u8; 4],
    public: VerifyingKey,
}

impl VerifierKey {
    /// The key with this name and these 32 bytes.
    ///
    /// # Errors
    /// [`NoteError::Name`]; [`NoteError::Key`] if the bytes are not an Ed25519 key, or a weak one under which anything verifies.
    pub fn new(name: &str, key_type: KeyType, public: &[u8; 32]) -> Result<VerifierKey, NoteError> {
        check_name(name).map_err(NoteError::Name)?;
        let id = key_id(name, key_type, public);
        if !is_canonical(public) {
            return Err(NoteError::Key("not an Ed25519 public key"));
        }
        let public = VerifyingKey::from_bytes(public).map_err(|_| NoteError::Key("not an Ed25519 public key"))?;
        if public.is_weak() {
            return Err(NoteError::Key("a weak key, under which signatures prove nothing"));
        }
        Ok(VerifierKey { name: name.to_owned(), key_type, id, public })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The first four bytes of SHA-256(name, newline, type, public key).
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The public key itself.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// Whether `signature` is this key's over `text`: `None` if not, otherwise the time if it is a cosignature.
    pub(super) fn check(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        match self.key_type {
            KeyType::Ed25519 => self.check_raw(text.as_bytes(), signature.try_into().ok()?).then_some(None),
            KeyType::CosignatureV1 => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let message = format!("cosignature/v1\ntime {time}\n{text}");
                let holds =
                    i64::try_from(time).is_ok() && self.check_raw(message.as_bytes(), signature.try_into().ok()?);
                holds.then_some(Some(time))
            }
        }
    }

    /// Whether `signature` is the one that [`SigningKey::sign_apart`] makes for this purpose and message.
    pub fn check_apart(&self, purpose: &str, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key_type == KeyType::Ed25519 && self.check_raw(&apart(purpose, message), signature)
    }

    /// Whether `signature` is plain Ed25519 over `message`, in the strict form that every verifier accepts (docs/proof-format.md, section
    /// 3).
    pub(super) fn check_raw(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        is_canonical(signature.r_bytes()) && self.public.verify_strict(message, &signature).is_ok()
    }
}

/// Whether a point is encoded in its one canonical form: the number without the topmost bit, which is the sign, is below p = 2^255 - 19.
/// The other non-canonical forms, a sign of zero, are of points of small order, which are refused anyway.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = point;
    *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

fn apart(purpose: &str, message: &[u8]) -> Vec<u8> {
    [b"\xff", purpose.as_bytes(), b"\n", message].concat()
}

fn key_id(name: &str, key_type: KeyType, public: &[u8; 32]) -> [u8; 4] {
    let hash = Hash::of(&[name.as_bytes(), b"\n", &[key_type.byte()], public].concat());
    let [a, b, c, d, ..] = hash.0;
    [a, b, c, d]
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.key_type.byte()], self.public().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, to_hex(&self.id), STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

crate::json_form!(text VerifierKey);

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<VerifierKey, NoteError> {
        // Names contain no plus sign; base64 may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it must be NAME+ID+KEY, as `init` and `keys show` print it"));
        };
        let id: [u8; 4] = from_hex(id)
            .and_then(|id| id.try_into().ok())
            .ok_or(NoteError::Key("its id is eight hexadecimal digits"))?;
        // Longer keys are of types that this version does not know; none is longer than a note.
        if key.len() > super::MAX_NOTE_BYTES {
            return Err(NoteError::Key("too long"));
        }
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key("its key is not base64"))?;
        let (key_type, public) = key.split_first().ok_or(NoteError::Key("its key is empty"))?;
        let key_type = KeyType::from_byte(*key_type).ok_or(NoteError::Key("a key of an unknown type"))?;
        let public = public.try_into().map_err(|_| NoteError::Key("an Ed25519 key has 32 bytes"))?;
        let key = VerifierKey::new(name, key_type, public)?;
        if key.id != id { Err(NoteError::Key("its id is not that of its name and key")) } else { Ok(key) }
    }
}

/// A secret key under its name. Zeroized when dropped; `Debug` shows the public half only.
pub struct SigningKey {
    verifier: VerifierKey,
    /// Boxed, so that moving the key leaves no copies of it behind.
    secret: Box<ed25519_dalek::SigningKey>,
}

impl SigningKey {
    /// The key with this name made from these 32 secret bytes.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<SigningKey, NoteError> {
        check_name(name).map_err(NoteError::Name)?;
        Ok(SigningKey::named(name, seed))
    }

    /// The same for a name that was already checked. A key made from a seed is never weak.
    pub fn named(name: &str, seed: &[u8; 32]) -> SigningKey {
        let secret = Box::new(ed25519_dalek::SigningKey::from_bytes(seed));
        let public = secret.verifying_key();
        let (name, key_type) = (name.to_owned(), KeyType::Ed25519);
        let id = key_id(&name, key_type, public.as_bytes());
        SigningKey { verifier: VerifierKey { name, key_type, id, public }, secret }
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// This key's signature line for `text`. Signing is deterministic.
    pub fn sign(&self, text: &str) -> Signature {
        Signature {
            name: self.verifier.name.clone(),
            key_id: self.verifier.id,
            bytes: self.sign_raw(text.as_bytes()).to_vec(),
        }
    }

    /// Signs a message that is not a note and cannot be taken for one: it is prefixed with a byte that never occurs in UTF-8,
    /// which every note and cosignature is, and with its purpose.
    pub fn sign_apart(&self, purpose: &str, message: &[u8]) -> [u8; 64] {
        self.sign_raw(&apart(purpose, message))
    }

    pub(super) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier)
    }
}

/// The public key of a seed, for the origin and for statements about a key that does not sign yet.
pub fn public_of(seed: &[u8; 32]) -> [u8; 32] {
    ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes()
}
