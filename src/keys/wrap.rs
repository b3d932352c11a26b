//! The passphrase: argon2id derives a key from it, and XChaCha20-Poly1305 seals the file under that key.
//!
//! ```text
//! attestlog-key v1 wrapped
//! argon2id MEMORY-KiB PASSES LANES base64(16 bytes of salt)
//! xchacha20poly1305 base64(24 bytes of nonce)
//! base64(sealed text of the plain form)
//! ```
//!
//! The first three lines are authenticated with the text. The derived key is kept while the file is loaded, so that
//! saving it again needs no derivation; every save has its own nonce.

use super::secret::Secret;
use super::text::{MAX_KEY_FILE_BYTES, bad};
use crate::note::parse_decimal;
use crate::{Error, ErrorKind, Result};
#[cfg(feature = "passphrase")]
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::fmt;
#[cfg(feature = "passphrase")]
use zeroize::Zeroize;
use zeroize::Zeroizing;

pub(super) const HEADER: &str = "attestlog-key v1 wrapped";

/// RFC 9106's recommendation for limited memory.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// The most that a file may demand of its reader: 256 MiB and a few seconds.
const MAX_MEMORY_KIB: u64 = 256 << 10;
const MAX_PASSES: u64 = 16;
const MAX_LANES: u64 = 8;

/// The passphrase of a key file. Zeroized when dropped, never printed. Without the feature `passphrase`, files that one protects
/// can be neither made nor opened.
#[cfg_attr(not(feature = "passphrase"), allow(dead_code, reason = "only deriving a key reads it"))]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes ownership of the passphrase.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an empty one, which would protect nothing.
    pub fn new(text: String) -> Result<Passphrase> {
        let text = Zeroizing::new(text);
        if text.is_empty() { Err(Error::invalid("the passphrase is empty")) } else { Ok(Passphrase(text)) }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase([secret])")
    }
}

/// How one file is protected.
pub(super) struct Wrap {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 16],
    key: Secret,
}

impl Wrap {
    pub(super) fn new(passphrase: &Passphrase, random: &mut dyn FnMut(&mut [u8])) -> Result<Wrap> {
        let mut salt = [0; 16];
        random(&mut salt);
        Wrap::derive(passphrase, MEMORY_KIB, PASSES, LANES, salt)
    }

    #[cfg(feature = "passphrase")]
    fn derive(passphrase: &Passphrase, memory_kib: u32, passes: u32, lanes: u32, salt: [u8; 16]) -> Result<Wrap> {
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| bad("its argon2id line"))?;
        let mut blocks = Vec::new();
        if blocks.try_reserve_exact(params.block_count()).is_err() {
            return Err(Error::new(ErrorKind::Key, "not enough memory to open a key file protected by a passphrase"));
        }
        blocks.resize(params.block_count(), Block::new());
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let key = Secret::filled(|key| {
            argon2.hash_password_into_with_memory(passphrase.0.as_bytes(), &salt, key, &mut blocks)
        });
        blocks.iter_mut().for_each(Zeroize::zeroize);
        let key = key.map_err(|_| bad("its argon2id line"))?;
        Ok(Wrap { memory_kib, passes, lanes, salt, key })
    }

    #[cfg(not(feature = "passphrase"))]
    fn derive(_: &Passphrase, _: u32, _: u32, _: u32, _: [u8; 16]) -> Result<Wrap> {
        let message = "key files with a passphrase are not part of this build: build with the feature `passphrase`";
        Err(Error::new(ErrorKind::Key, message))
    }

    pub(super) fn seal(&self, plain: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<Zeroizing<String>> {
        let mut nonce = [0; 24];
        random(&mut nonce);
        let (salt, nonce_text) = (STANDARD.encode(self.salt), STANDARD.encode(nonce));
        let Wrap { memory_kib, passes, lanes, .. } = self;
        let mut out =
            format!("{HEADER}\nargon2id {memory_kib} {passes} {lanes} {salt}\nxchacha20poly1305 {nonce_text}\n");
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + 16));
        sealed.extend_from_slice(plain.as_bytes());
        XChaCha20Poly1305::new(self.key.bytes().into())
            .encrypt_in_place(&XNonce::from(nonce), out.as_bytes(), &mut *sealed)
            .map_err(|_| Error::new(ErrorKind::Key, "the key file cannot be sealed"))?;
        STANDARD.encode_string(&*sealed, &mut out);
        out.push('\n');
        Ok(Zeroizing::new(out))
    }

    /// Opens `text`, which begins with [`HEADER`]; returns how it is protected and the plain form.
    pub(super) fn open(text: &str, passphrase: &Passphrase) -> Result<(Wrap, Zeroizing<Vec<u8>>)> {
        let mut lines = text.strip_suffix('\n').ok_or_else(|| bad("its end"))?.split('\n').skip(1);
        let cost = lines.next().and_then(|line| line.strip_prefix("argon2id ")).unwrap_or_default();
        let mut cost = cost.split(' ');
        let mut number = |max: u64| {
            let n = cost.next().and_then(parse_decimal).filter(|&n| n <= max).and_then(|n| n.try_into().ok());
            n.ok_or_else(|| bad("its argon2id line"))
        };
        let (memory_kib, passes, lanes) = (number(MAX_MEMORY_KIB)?, number(MAX_PASSES)?, number(MAX_LANES)?);
        let salt = cost.next().and_then(|salt| STANDARD.decode(salt).ok()).and_then(|salt| salt.try_into().ok());
        let (Some(salt), None) = (salt, cost.next()) else { return Err(bad("its argon2id line")) };
        let nonce = lines.next().and_then(|line| line.strip_prefix("xchacha20poly1305 "));
        let nonce: [u8; 24] = nonce
            .and_then(|nonce| STANDARD.decode(nonce).ok()?.try_into().ok())
            .ok_or_else(|| bad("its xchacha20poly1305 line"))?;
        let (Some(sealed), None) = (lines.next(), lines.next()) else { return Err(bad("its last line")) };
        let header = &text[..text.len() - sealed.len() - 1];
        let mut plain = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES));
        STANDARD.decode_vec(sealed, &mut plain).map_err(|_| bad("its last line"))?;
        let wrap = Wrap::derive(passphrase, memory_kib, passes, lanes, salt)?;
        XChaCha20Poly1305::new(wrap.key.bytes().into())
            .decrypt_in_place(&XNonce::from(nonce), header.as_bytes(), &mut *plain)
            .map_err(|_| Error::new(ErrorKind::Key, "wrong passphrase, or the key file was altered"))?;
        Ok((wrap, plain))
    }
}
