//! Sealed values: encrypted under the key of the person they are about, and provable one at a time.
//!
//! ```text
//! {"sealed":{"v":1,"subject":KEY-ID,"ct":base64(nonce || ciphertext),"commitment":hex}}
//! plaintext   = canonical JSON of {"salt": 32 hex digits, "value": value}
//! associated  = "attestlog sealed v1" 0 len(key id) key id len(path) path
//! commitment  = SHA-256("attestlog sealed commitment v1" 0 len(path) path salt len(value) value)
//! ```
//! Lengths are 8 bytes, big-endian; `value` is canonical JSON. The salt is only inside the ciphertext: next to the
//! commitment, it would let anybody confirm a guessed value. Destroying a subject's key destroys value and salt for
//! good, while the object above, which is what was hashed, remains. The associated data binds a ciphertext to its
//! place.

use crate::hash::{from_hex, to_hex};
use crate::json::{Json, Limits, Object, Path};
use crate::sealed::{Form, Opened, associated, commit};
use crate::{Error, ErrorKind, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

const NONCE: usize = 24;
const WRAP: &[u8] = b"attestlog wrapped subject key v1\0";
const SEAL: &[u8] = b"attestlog sealed v1\0";

/// Fills a buffer with unpredictable random bytes.
pub type Random<'a> = dyn FnMut(&mut [u8]) -> Result<()> + 'a;

/// The key that wraps the subject keys. It is kept outside the store, zeroized when dropped and never shown.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// The key of one data subject. It is zeroized when dropped and never shown.
#[derive(Clone)]
pub struct SubjectKey(Zeroizing<[u8; 32]>);

/// Provides the keys of data subjects; the store implements it.
pub trait SubjectKeys {
    /// The id and the key under which values about `subject` are sealed. The key is created if there is none yet.
    ///
    /// # Errors
    /// The key cannot be read or created. Nothing is written then.
    fn key_for(&mut self, subject: &str) -> Result<(String, SubjectKey)>;
}

impl MasterKey {
    /// The key with these 32 random bytes.
    pub fn new(key: [u8; 32]) -> MasterKey {
        MasterKey(Zeroizing::new(key))
    }

    /// A new key.
    ///
    /// # Errors
    /// The error of `random`, if it cannot fill the bytes.
    pub fn generate(random: &mut Random<'_>) -> Result<MasterKey> {
        Ok(MasterKey(Zeroizing::new(random_bytes(random)?)))
    }

    /// The key's bytes, for the key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl SubjectKey {
    /// A new key.
    ///
    /// # Errors
    /// The error of `random`, if it cannot fill the bytes.
    pub fn generate(random: &mut Random<'_>) -> Result<SubjectKey> {
        Ok(SubjectKey(Zeroizing::new(random_bytes(random)?)))
    }

    /// The key encrypted under the master key, as the store keeps it; bound to `key_id` and to the pseudonyms of the
    /// people it belongs to.
    ///
    /// # Errors
    /// The error of `random`, if it cannot fill the bytes.
    pub fn wrap(
        &self,
        master: &MasterKey,
        key_id: &str,
        members: &[String],
        random: &mut Random<'_>,
    ) -> Result<Vec<u8>> {
        encrypt(&master.0, &wrap_associated(key_id, members), &self.0[..], random)
    }

    /// Decrypts a wrapped key.
    ///
    /// # Errors
    /// [`Key`](crate::ErrorKind::Key): it was wrapped under another master key, id or members, or it was changed.
    pub fn unwrap(wrapped: &[u8], master: &MasterKey, key_id: &str, members: &[String]) -> Result<SubjectKey> {
        let wrong = || Error::new(ErrorKind::Key, format!("the key {key_id} is not wrapped by this master key"));
        let mut bytes = decrypt(&master.0, &wrap_associated(key_id, members), wrapped).ok_or_else(wrong)?;
        let key =
            <[u8; 32]>::try_from(bytes.as_slice()).map(|key| SubjectKey(Zeroizing::new(key))).map_err(|_| wrong());
        bytes.zeroize();
        key
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey(…)")
    }
}

/// The sealed object that replaces `value` at `path`.
///
/// # Errors
/// [`TooLarge`](crate::ErrorKind::TooLarge): the value is too large to be sealed; otherwise the error of `random`, if
/// it cannot fill the bytes.
///
/// ```
/// use attestlog::json::{Json, Path};
/// use attestlog::redact::{SubjectKey, open, seal, verify_reveal};
/// let random = &mut |out: &mut [u8]| { out.fill(7); Ok(()) }; // a real one is not this calm
/// let (key, path) = (SubjectKey::generate(random).unwrap(), Path::parse("arguments.ssn").unwrap());
/// let sealed = seal(&key, "k1", &path, &Json::from("460-89-9847"), random).unwrap();
/// assert!(!sealed.to_canonical().as_str().contains("9847"));
/// let opened = open(&key, &path, &sealed).unwrap();
/// assert_eq!(opened.value, Json::from("460-89-9847"));
/// let commitment = sealed.get("sealed").unwrap().get("commitment").unwrap().as_str().unwrap().parse().unwrap();
/// assert!(verify_reveal(&path, &opened.salt, &opened.value, &commitment));
/// ```
pub fn seal(key: &SubjectKey, key_id: &str, path: &Path, value: &Json, random: &mut Random<'_>) -> Result<Json> {
    let path = path.to_string();
    let salt: [u8; 16] = random_bytes(random)?;
    let mut plain = Object::new();
    plain.insert("salt", to_hex(&salt));
    plain.insert("value", value.clone());
    let plain = Json::Object(plain).to_canonical();
    let ciphertext = encrypt(&key.0, &associated(SEAL, &[key_id, &path]), plain.as_str().as_bytes(), random)?;
    let sealed = Object::from_iter([
        ("v", Json::from(1u32)),
        ("subject", Json::from(key_id)),
        ("ct", Json::from(STANDARD.encode(ciphertext))),
        ("commitment", Json::from(commit(&path, &salt, value).to_string())),
    ]);
    Ok(Json::Object(Object::from_iter([("sealed", Json::Object(sealed))])))
}

/// Opens the sealed value at `path` and checks it against its commitment.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput): it is not a sealed value; [`Key`](crate::ErrorKind::Key): it was
/// sealed under another key or at another path; [`Damaged`](crate::ErrorKind::Damaged): the ciphertext is not base64,
/// or it opens but does not match its commitment.
pub fn open(key: &SubjectKey, path: &Path, sealed: &Json) -> Result<Opened> {
    let path = path.to_string();
    let form = Form::of(sealed).ok_or_else(|| Error::invalid(format!("{path} is not a sealed value")))?;
    let wrong = || Error::new(ErrorKind::Key, format!("{path} was not sealed under this key, or not there"));
    let bytes = STANDARD.decode(form.ct).map_err(|_| Error::damaged(format!("{path}: not base64")))?;
    let mut plain = decrypt(&key.0, &associated(SEAL, &[form.subject, &path]), &bytes).ok_or_else(wrong)?;
    let parsed = Json::parse_within(&plain, &Limits::UNBOUNDED);
    plain.zeroize();
    let damaged = || Error::damaged(format!("{path}: what was sealed is not what was committed to"));
    let Json::Object(mut object) = parsed.map_err(|_| damaged())?.value else { return Err(damaged()) };
    let salt = object.get("salt").and_then(Json::as_str).and_then(from_hex).and_then(|s| s.try_into().ok());
    let (Some(salt), Some(value)) = (salt, object.remove("value")) else { return Err(damaged()) };
    if commit(&path, &salt, &value) != form.commitment {
        return Err(damaged());
    }
    Ok(Opened { value, salt })
}

fn wrap_associated(key_id: &str, members: &[String]) -> Vec<u8> {
    let parts: Vec<&str> = std::iter::once(key_id).chain(members.iter().map(String::as_str)).collect();
    associated(WRAP, &parts)
}

fn random_bytes<const N: usize>(random: &mut Random<'_>) -> Result<[u8; N]> {
    let mut out = [0; N];
    random(&mut out)?;
    Ok(out)
}

fn encrypt(key: &[u8; 32], aad: &[u8], msg: &[u8], random: &mut Random<'_>) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE] = random_bytes(random)?;
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg, aad })
        .map_err(|_| Error::new(ErrorKind::TooLarge, "a value is too large to be sealed"))?;
    let mut out = nonce.to_vec();
    out.extend_from_slice(&sealed);
    Ok(out)
}

fn decrypt(key: &[u8; 32], aad: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = bytes.split_first_chunk::<NONCE>()?;
    XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(*nonce), Payload { msg, aad }).ok()
}
