//! Pseudonyms: the same value always has the same one, and nobody without the key can tell whose it is.
//!
//! `ps_<key id>_<32 hex digits>`: HMAC-SHA-256 under a secret key that is kept outside the store, cut to 128 bits, over
//! a domain (the type of the field) and the value in one spelling. Several keys can be live: new pseudonyms use the
//! newest, lookups try all of them, so entries remain findable after a rotation.
//!
//! Only the oldest key is used with HMAC like this. A later key enciphers the 128 bits that the oldest gives, with a
//! Feistel network of HMACs. So who has the keys can tell, without knowing the person, that pseudonyms under two keys are
//! of the same person: rules count people across rotations. For anybody else, and for who has only the older keys, these
//! are two unrelated pseudonyms.

use crate::Result;
use crate::hash::{Hash, from_hex, to_hex};
use crate::names::{PREFIX, is_pseudonym, key_of};
use crate::spelling::normal;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// A secret key for pseudonyms. It is zeroized when dropped and never shown.
#[derive(Clone)]
pub struct PseudonymKey {
    key: Zeroizing<[u8; 32]>,
    /// The store's oldest key, if this is a later one.
    oldest: Option<Zeroizing<[u8; 32]>>,
    id: String,
}

/// The bits of a pseudonym.
type Tag = [u8; 16];

/// The rounds of the Feistel network.
const ROUNDS: std::ops::Range<u8> = 0..6;

impl PseudonymKey {
    /// The key with these 32 random bytes. Its id is the beginning of a hash of them, so the same key always has the
    /// same id.
    pub fn new(key: [u8; 32]) -> PseudonymKey {
        let mut message = b"attestlog pseudonym key id\0".to_vec();
        message.extend_from_slice(&key);
        let id = to_hex(&Hash::of(&message).0[..4]);
        message.zeroize();
        PseudonymKey { key: Zeroizing::new(key), oldest: None, id }
    }

    /// The same key in a store whose oldest key is `oldest`.
    ///
    /// ```
    /// use attestlog::redact::PseudonymKey;
    /// let (oldest, alone) = (PseudonymKey::new([1; 32]), PseudonymKey::new([2; 32]));
    /// let later = alone.clone().following(&oldest);
    /// assert_ne!(later.pseudonym("patient", "P-1"), alone.pseudonym("patient", "P-1"));
    /// ```
    #[must_use]
    pub fn following(mut self, oldest: &PseudonymKey) -> PseudonymKey {
        self.oldest = (self.key != oldest.key).then(|| oldest.key.clone());
        self
    }

    /// A new key.
    ///
    /// # Errors
    /// The error of `random`, if it cannot fill the bytes.
    pub fn generate(random: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<PseudonymKey> {
        let mut key = [0; 32];
        random(&mut key)?;
        let made = PseudonymKey::new(key);
        key.zeroize();
        Ok(made)
    }

    /// The key id: the eight hexadecimal digits in every pseudonym under this key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key's bytes, for the key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// The pseudonym of `clear` in the domain `domain`.
    pub fn pseudonym(&self, domain: &str, clear: &str) -> String {
        let mut mac = keyed(self.oldest.as_ref().unwrap_or(&self.key));
        mac.update(b"attestlog pseudonym v1\0");
        mac.update(&(domain.len() as u64).to_be_bytes());
        mac.update(domain.as_bytes());
        let mut value = canonical(domain, clear);
        mac.update(value.as_bytes());
        value.zeroize();
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        self.of_person(std::array::from_fn(|i| whole[i]))
    }

    /// The pseudonym of the person for whom the oldest key gives `person`.
    pub(crate) fn of_person(&self, person: Tag) -> String {
        let tag = match self.oldest {
            Some(_) => ROUNDS.fold(person, |tag, round| {
                let [left, right] = halves(tag);
                joined(right, self.round(round, left, right))
            }),
            None => person,
        };
        [PREFIX, &self.id, "_", &to_hex(&tag)].concat()
    }

    /// What the oldest key gives for the person of a pseudonym under this key; `None` for any other text.
    pub(crate) fn person(&self, pseudonym: &str) -> Option<Tag> {
        if key_of(pseudonym) != Some(&self.id) || !is_pseudonym(pseudonym) {
            return None;
        }
        let tag = from_hex(pseudonym.rsplit_once('_')?.1)?.try_into().ok()?;
        Some(match self.oldest {
            Some(_) => ROUNDS.rev().fold(tag, |tag, round| {
                let [left, right] = halves(tag);
                joined(self.round(round, right, left), left)
            }),
            None => tag,
        })
    }

    /// One half after a round, from itself and the other half.
    fn round(&self, round: u8, half: [u8; 8], other: [u8; 8]) -> [u8; 8] {
        let mut mac = keyed(&self.key);
        mac.update(b"attestlog pseudonym rotation v1\0");
        mac.update(&[round]);
        mac.update(&other);
        let pad = mac.finalize().into_bytes();
        std::array::from_fn(|i| half[i] ^ pad[i])
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to the block length.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    mac
}

fn halves(tag: Tag) -> [[u8; 8]; 2] {
    [std::array::from_fn(|i| tag[i]), std::array::from_fn(|i| tag[i + 8])]
}

fn joined(left: [u8; 8], right: [u8; 8]) -> Tag {
    std::array::from_fn(|i| if i < 8 { left[i] } else { right[i - 8] })
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PseudonymKey({}, …)", self.id)
    }
}

/// The one spelling of a value. Numbers keep only their digits; e-mail addresses, IBANs and IP addresses get their
/// usual canonical form. Names and ids are compared in their normal form and nothing else (Y5): where `P_1` and `P-1`
/// are different ids, they have different pseudonyms.
fn canonical(domain: &str, clear: &str) -> String {
    let clear = normal(clear);
    match domain {
        "ssn" | "card" | "phone" => {
            let digits: String = clear.chars().filter(char::is_ascii_digit).collect();
            let digits = match domain {
                "phone" => digits.strip_prefix("00").unwrap_or(&digits).to_owned(),
                _ => digits,
            };
            // A value without digits (a name in a phone field) must not share the pseudonym of all such values.
            if digits.is_empty() { clear.to_lowercase() } else { digits }
        }
        "iban" => clear.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect(),
        "ip" => match clear.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.to_canonical().to_string(),
            Err(_) => clear.to_lowercase(),
        },
        "email" => clear.to_lowercase(),
        _ => clear.into_owned(),
    }
}

/// The domain of pseudonyms for a field whose rule sets none: derived from its key, so that an e-mail address found by
/// key and one found by value get the same pseudonym.
pub(super) fn domain_of(key: &str) -> String {
    let plain = super::pattern::plain(key);
    let known = match plain.as_str() {
        "patient" | "patients" | "patientid" | "patientids" | "patientnumber" | "patientnumbers" => "patient",
        "user" | "userid" | "username" | "login" => "user",
        "conversation" | "conversationid" => "conversation",
        "phone" | "phonenumber" | "telephone" | "mobile" | "mobilenumber" | "tel" | "fax" | "faxnumber" => "phone",
        "iban" => "iban",
        "ip" | "ipaddress" | "clientip" | "remoteip" => "ip",
        _ => return plain,
    };
    known.to_owned()
}
