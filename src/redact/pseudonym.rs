//! Pseudonyms: the same for the same value, and nobody without the key can tell whose.
//!
//! `ps_<key id>_<32 hex digits>`: HMAC-SHA-256 under a secret key that lies outside the store, cut to 128 bits, over
//! a domain (the type of the field) and the value in one spelling. Several keys can be live: the first writes, all
//! of them are looked under, so that a rotation keeps older entries findable.

use crate::Result;
use crate::hash::{Hash, to_hex};
use crate::names::PREFIX;
use crate::spelling::normal;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret key for pseudonyms. Zeroized when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PseudonymKey {
    key: [u8; 32],
    #[zeroize(skip)]
    id: String,
}

impl PseudonymKey {
    /// The key with these 32 random bytes. Its id is the beginning of a hash of them, so it follows the key.
    pub fn new(key: [u8; 32]) -> PseudonymKey {
        let mut message = b"attestlog pseudonym key id\0".to_vec();
        message.extend_from_slice(&key);
        let id = to_hex(&Hash::of(&message).0[..4]);
        message.zeroize();
        PseudonymKey { key, id }
    }

    /// A new key.
    ///
    /// # Errors
    /// What `random` says when it cannot fill bytes.
    pub fn generate(random: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<PseudonymKey> {
        let mut key = [0; 32];
        random(&mut key)?;
        let made = PseudonymKey::new(key);
        key.zeroize();
        Ok(made)
    }

    /// The eight hexadecimal digits that every pseudonym under this key carries.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key's bytes, for the key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// The pseudonym of `clear` among values of type `domain`.
    pub fn pseudonym(&self, domain: &str, clear: &str) -> String {
        // HMAC fills a short key up with zeros to the block's length.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        block.zeroize();
        mac.update(b"attestlog pseudonym v1\0");
        mac.update(&(domain.len() as u64).to_be_bytes());
        mac.update(domain.as_bytes());
        let mut value = canonical(domain, clear);
        mac.update(value.as_bytes());
        value.zeroize();
        let tag = mac.finalize().into_bytes();
        [PREFIX, &self.id, "_", &to_hex(&tag[..16])].concat()
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PseudonymKey({}, …)", self.id)
    }
}

/// The one spelling of a value. Numbers keep their digits only; what is found inside texts has the forms that are usual there.
/// Names and ids are compared in their normal form and nothing else (Y5): whoever tells `P_1` and `P-1` apart has two
/// pseudonyms for them.
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

/// The domain of pseudonyms for a field without one of its own: what its key says, so that an e-mail address found by
/// key and one found by value are the same person.
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
