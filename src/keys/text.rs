//! The format of the key file: one line per key, in this order.
//!
//! ```text
//! attestlog-key v1
//! origin NAME/32 hexadecimal digits
//! log BASE64
//! epoch NUMBER BASE64
//! next-epoch NUMBER BASE64        while a rotation is under way
//! rotation NUMBER SIZE BASE64     public key, root and signature of each of the newest rotations
//! digest BASE64
//! pseudonym BASE64                one or more, the newest last
//! master BASE64                   one or more, the newest last
//! mark SIZE BASE64                once a checkpoint was signed: its root, and the two digests of what was in force
//! lost SIZE BASE64                what had been signed before each of the newest restores that lost a part of it: its root
//! used-by BASE64                  the path of this file when it was last written, a NUL, and the path of its store
//! file NUMBER NANOSECONDS         which file this is, as the file system says: its number, and when it was made
//! checksum HEX                    SHA-256 of all lines above
//! ```
//!
//! Each BASE64 is of 32 bytes, but that of a rotation of 128, that of a mark of 96, and that of `used-by` of text. The checksum
//! detects a file that was cut off or edited; it does not stop an attacker. The format is strict: a key file has exactly one
//! spelling, and anything else is refused.

use super::file::FileId;
use super::secret::{NamedKey, Secret};
use super::wrap::{self, Passphrase, Wrap};
use super::{InForce, KeyFile, MAX_KEYS, MAX_LOST, MAX_ROTATIONS, Mark};
use crate::note::{self, Rotation, epoch_name, parse_decimal};
use crate::{Error, ErrorKind, Hash, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The most bytes a key file may have.
pub const MAX_KEY_FILE_BYTES: usize = 64 << 10;

/// The most bytes that the two paths may have together.
pub(super) const MAX_PATHS_BYTES: usize = 2048;

// Two full lists of keys, the rotations, the losses, the paths, everything else, and the third that base64 adds under a passphrase.
const _: () = assert!(
    (2 * MAX_KEYS * 60 + MAX_ROTATIONS * 215 + MAX_LOST * 71 + MAX_PATHS_BYTES * 4 / 3 + 4096) * 4 / 3
        < MAX_KEY_FILE_BYTES
);

const HEADER: &str = "attestlog-key v1";

/// An error that says where a key file is damaged, and nothing about what it holds.
pub(super) fn bad(place: &str) -> Error {
    Error::new(ErrorKind::Key, format!("the key file is damaged or was edited, at {place}: bring back a backup of it"))
}

impl KeyFile {
    /// The text of the file, sealed if there is a passphrase; only then `random` is called, for a nonce.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] if it cannot be sealed.
    pub fn to_text(&self, random: &mut dyn FnMut(&mut [u8])) -> Result<Zeroizing<String>> {
        let plain = self.plain_text();
        match &self.wrap {
            Some(wrap) => wrap.seal(&plain, random),
            None => Ok(plain),
        }
    }

    fn plain_text(&self) -> Zeroizing<String> {
        // Large enough from the start: growing would leave copies of it behind.
        let mut out = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{HEADER}\norigin {}", self.origin);
        let mut line = |label: &str, secret: &[u8]| {
            let _ = write!(out, "{label} ");
            STANDARD.encode_string(secret, &mut out);
            out.push('\n');
        };
        line("log", self.log.bytes());
        line(&format!("epoch {}", self.epoch.0), self.epoch.1.bytes());
        if let Some((number, secret)) = &self.next_epoch {
            line(&format!("next-epoch {number}"), secret.bytes());
        }
        for Rotation { number, size, public, root, signature, .. } in &self.rotations {
            let all = [&public[..], root.as_bytes(), signature].concat();
            line(&format!("rotation {number} {size}"), &all);
        }
        line("digest", self.digest.bytes());
        self.pseudonym.iter().for_each(|key| line("pseudonym", key.bytes()));
        self.master.iter().for_each(|key| line("master", key.bytes()));
        if let Some(mark) = self.mark {
            line(
                &format!("mark {}", mark.size),
                &[mark.root.0, mark.in_force.all.0, mark.in_force.standing.0].concat(),
            );
        }
        self.lost.iter().for_each(|(size, root)| line(&format!("lost {size}"), root.as_bytes()));
        if let Some((key, store)) =
            self.used_by.as_ref().and_then(|(key, store)| Some((key.to_str()?, store.to_str()?)))
        {
            line("used-by", [key, "\0", store].concat().as_bytes());
        }
        if let Some(FileId { number, made }) = self.file_id {
            let _ = writeln!(out, "file {number} {made}");
        }
        let checksum = Hash::of(out.as_bytes());
        let _ = writeln!(out, "checksum {checksum}");
        out
    }

    /// Reads the text of a key file, wherever it was kept. If a passphrase is given, the file must be protected by one: otherwise
    /// somebody could have replaced the protected keys and their store with keys and a store of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] with what to do; [`ErrorKind::NewerFormat`] for a file of a later version.
    pub fn parse(bytes: &[u8], passphrase: Option<&Passphrase>) -> Result<KeyFile> {
        if bytes.len() > MAX_KEY_FILE_BYTES {
            let message = format!("the file has more than {MAX_KEY_FILE_BYTES} bytes, so it is not a key file");
            return Err(Error::new(ErrorKind::Key, message));
        }
        let text = std::str::from_utf8(bytes).ok();
        match text.and_then(|text| Some((text, text.split('\n').next()?))) {
            Some((_, HEADER)) if passphrase.is_some() => Err(Error::new(
                ErrorKind::Key,
                "a passphrase was given, but the key file is not protected by one: it may have been put in the place of yours. Bring yours back, \
                 or give no passphrase",
            )),
            Some((text, HEADER)) => parse_plain(text),
            Some((text, wrap::HEADER)) => {
                let passphrase = passphrase.ok_or_else(|| {
                    Error::new(ErrorKind::Key, "the key file is protected by a passphrase and none was given: give it in a file (--passphrase-file) or in the \
                         environment variable ATTESTLOG_PASSPHRASE")
                })?;
                let (wrap, plain) = Wrap::open(text, passphrase)?;
                let mut keys = parse_plain(std::str::from_utf8(&plain).map_err(|_| bad("its text"))?)?;
                keys.wrap = Some(wrap);
                Ok(keys)
            }
            Some((_, header)) if is_newer(header) => {
                let message = "the key file was written by a newer version; upgrade the program";
                Err(Error::new(ErrorKind::NewerFormat, message))
            }
            _ => Err(Error::new(
                ErrorKind::Key,
                "empty, damaged, or not an attestlog key file: bring the key file back from its backup, or name the right one",
            )),
        }
    }
}

fn is_newer(header: &str) -> bool {
    let version = header.strip_prefix("attestlog-key v").and_then(|rest| rest.split(' ').next());
    version.and_then(parse_decimal).is_some_and(|version| version > 1)
}

fn parse_plain(text: &str) -> Result<KeyFile> {
    let (body, checksum) = text.strip_suffix('\n').and_then(|t| t.rsplit_once('\n')).ok_or_else(|| bad("its end"))?;
    let body = text.get(..body.len() + 1).unwrap_or_default();
    if checksum.strip_prefix("checksum ").and_then(|sum| sum.parse().ok()) != Some(Hash::of(body.as_bytes())) {
        return Err(bad("its checksum"));
    }
    let mut lines = Lines(body.strip_suffix('\n').unwrap_or_default().split('\n').skip(1).peekable());
    let origin = lines.take("origin ").ok_or_else(|| bad("origin"))?;
    if note::SigningKey::from_seed(&epoch_name(origin, u32::MAX), &[0; 32]).is_err() {
        return Err(bad("origin"));
    }
    let keys = KeyFile {
        origin: origin.to_owned(),
        log: lines.secret("log ")?,
        epoch: lines.numbered("epoch ")?.ok_or_else(|| bad("epoch"))?,
        next_epoch: lines.numbered("next-epoch ")?,
        rotations: lines.rotations(origin)?,
        digest: lines.secret("digest ")?,
        pseudonym: lines.list("pseudonym")?,
        master: lines.list("master")?,
        mark: lines.mark()?,
        lost: lines.lost()?,
        used_by: lines.used_by()?,
        file_id: lines.file_id()?,
        wrap: None,
        on_disk: None,
        stale: false,
    };
    if lines.0.next().is_some() {
        return Err(bad("a line that does not belong there"));
    }
    if keys.epoch.0 == 0 && !note::binds(origin, &note::public_of(keys.epoch.1.bytes())) {
        return Err(bad("origin, which is not bound to epoch 0"));
    }
    if keys.next_epoch.as_ref().is_some_and(|(number, _)| keys.epoch.0.checked_add(1) != Some(*number)) {
        return Err(bad("next-epoch"));
    }
    let (newest, secret) = keys.next_epoch.as_ref().unwrap_or(&keys.epoch);
    let is_next = |pair: &[Rotation]| pair[0].number.checked_add(1) == Some(pair[1].number);
    let last = keys.rotations.last().map(|r| (r.number, r.public));
    if keys.next_epoch.is_some() && last.is_none()
        || last.is_some_and(|last| last != (*newest, note::public_of(secret.bytes())))
        || !keys.rotations.windows(2).all(is_next)
    {
        return Err(bad("rotation"));
    }
    Ok(keys)
}

/// The remaining lines, taken by their label.
struct Lines<'a, I: Iterator<Item = &'a str>>(std::iter::Peekable<I>);

impl<'a, I: Iterator<Item = &'a str>> Lines<'a, I> {
    /// The rest of the next line, if it begins with `label`.
    fn take(&mut self, label: &str) -> Option<&'a str> {
        self.0.next_if(|line| line.starts_with(label)).and_then(|line| line.get(label.len()..))
    }

    fn secret(&mut self, label: &str) -> Result<Secret> {
        parse_secret(self.take(label).unwrap_or_default()).ok_or_else(|| bad(label.trim_end()))
    }

    fn numbered(&mut self, label: &str) -> Result<Option<(u32, Secret)>> {
        let Some(rest) = self.take(label) else { return Ok(None) };
        let (number, secret) = rest.split_once(' ').unwrap_or_default();
        let number = parse_decimal(number).and_then(|n| n.try_into().ok());
        Ok(Some(number.zip(parse_secret(secret)).ok_or_else(|| bad(label.trim_end()))?))
    }

    fn list(&mut self, label: &str) -> Result<Vec<NamedKey>> {
        let mut keys: Vec<NamedKey> = Vec::new();
        while let Some(rest) = self.take(&format!("{label} ")) {
            let key = parse_secret(rest).map(|secret| NamedKey::new(label, secret));
            let key = key.filter(|key| keys.len() < MAX_KEYS && keys.iter().all(|other| other.id() != key.id()));
            keys.push(key.ok_or_else(|| bad(label))?);
        }
        if keys.is_empty() { Err(bad(label)) } else { Ok(keys) }
    }

    fn rotations(&mut self, origin: &str) -> Result<Vec<Rotation>> {
        let mut rotations = Vec::new();
        while let Some(rest) = self.take("rotation ") {
            let rotation = parse_rotation(origin, rest).filter(|_| rotations.len() < MAX_ROTATIONS);
            rotations.push(rotation.ok_or_else(|| bad("rotation"))?);
        }
        Ok(rotations)
    }

    fn mark(&mut self) -> Result<Option<Mark>> {
        let Some(rest) = self.take("mark ") else { return Ok(None) };
        Ok(Some(parse_mark(rest).ok_or_else(|| bad("mark"))?))
    }

    fn lost(&mut self) -> Result<Vec<(u64, Hash)>> {
        let mut all = Vec::new();
        while let Some(rest) = self.take("lost ") {
            let lost = parse_lost(rest).filter(|lost| all.len() < MAX_LOST && !all.contains(lost));
            all.push(lost.ok_or_else(|| bad("lost"))?);
        }
        Ok(all)
    }

    fn used_by(&mut self) -> Result<Option<(PathBuf, PathBuf)>> {
        let Some(rest) = self.take("used-by ") else { return Ok(None) };
        Ok(Some(parse_used_by(rest).ok_or_else(|| bad("used-by"))?))
    }

    fn file_id(&mut self) -> Result<Option<FileId>> {
        let Some(rest) = self.take("file ") else { return Ok(None) };
        let (number, made) = rest.split_once(' ').unwrap_or_default();
        let id = parse_decimal(number).zip(parse_decimal(made)).map(|(number, made)| FileId { number, made });
        Ok(Some(id.ok_or_else(|| bad("file"))?))
    }
}

fn parse_used_by(text: &str) -> Option<(PathBuf, PathBuf)> {
    let paths = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let (key, store) = paths.split_once('\0').filter(|_| paths.len() <= MAX_PATHS_BYTES)?;
    (!store.contains('\0')).then(|| (key.into(), store.into()))
}

fn parse_mark(text: &str) -> Option<Mark> {
    let (size, hashes) = text.split_once(' ')?;
    let bytes: [u8; 96] = STANDARD.decode(hashes).ok()?.try_into().ok()?;
    let (root, rest) = bytes.split_first_chunk()?;
    let (all, standing) = rest.split_first_chunk()?;
    let in_force = InForce { all: Hash(*all), standing: Hash(standing.try_into().ok()?) };
    Some(Mark { size: parse_decimal(size)?, root: Hash(*root), in_force })
}

fn parse_lost(text: &str) -> Option<(u64, Hash)> {
    let (size, root) = text.split_once(' ')?;
    Some((parse_decimal(size)?, Hash(STANDARD.decode(root).ok()?.try_into().ok()?)))
}

fn parse_rotation(origin: &str, text: &str) -> Option<Rotation> {
    let mut parts = text.splitn(3, ' ');
    let (number, size) = (parse_decimal(parts.next()?)?.try_into().ok()?, parse_decimal(parts.next()?)?);
    let bytes = STANDARD.decode(parts.next()?).ok()?;
    let (public, rest) = bytes.split_first_chunk()?;
    let (root, signature) = rest.split_first_chunk()?;
    let signature = signature.try_into().ok()?;
    Some(Rotation { origin: origin.to_owned(), number, public: *public, size, root: Hash(*root), signature })
}

fn parse_secret(text: &str) -> Option<Secret> {
    // The decoder requires room for its own estimate, which is more than 32.
    let mut buffer = Zeroizing::new([0; 48]);
    let length = STANDARD.decode_slice(text, &mut buffer[..]).ok()?;
    let bytes: &[u8; 32] = buffer.get(..length)?.try_into().ok()?;
    Some(Secret::copied(bytes))
}
