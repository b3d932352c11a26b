//! Epochs: which key may sign which sizes, so that whoever takes today's key cannot sign yesterday's log again.
//!
//! Invariants of a [`Succession`]: the origin ends in the hash of epoch 0's public key; numbers count up by one; each
//! later epoch begins at a larger size (except those of one restore, R54), with a statement that the epoch before it
//! signed; no key occurs twice.
//!
//! The rotation entry is the first entry of the new epoch. A rotation at size `s` states size and root of the tree
//! before it and is itself recorded as entry `s`. A checkpoint of size `m` is signed by the epoch with the largest
//! `from_size` below `m`: size `s` still by the old key, size `s + 1`, which covers the rotation, by the new one. The old
//! key is destroyed in between, so it can never have signed a tree that contains its own rotation.
//!
//! Invariant R54: a log restored from a copy made before a rotation takes the epochs that the copy lacks from the entry of the
//! restore; each is vouched for by the one before it, as always. They are in force after that entry's number. The size and root
//! that their rotations state are those of the lost history: they vouch for nothing in this one.

use super::{KeyType, NoteError, SignedCheckpoint, SigningKey, VerifierKey, check_name, parse_32};
use crate::Hash;
use crate::hash::to_hex;
use crate::json::{Json, Object};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Why a succession of epochs is invalid, or why a checkpoint does not fit it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// The origin does not end in the hash of epoch 0's public key.
    #[error("the origin {0} does not end in the hash of this key of epoch 0")]
    Unbound(String),
    /// A statement or checkpoint of another log.
    #[error("it is of {got}, not of {expected}")]
    Origin {
        /// This log.
        expected: String,
        /// The log it names.
        got: String,
    },
    /// An epoch is missing or occurs twice.
    #[error("epoch {got} follows where epoch {expected} must")]
    Number {
        /// The number that was expected.
        expected: u32,
        /// The number that was found.
        got: u32,
    },
    /// A rotation is not after the one before it.
    #[error("epoch {number} begins at size {size}, which is not after the rotation before it")]
    Order {
        /// The new epoch.
        number: u32,
        /// The size it states.
        size: u64,
    },
    /// A public key was used before, or is not a key.
    #[error("the key of epoch {0} is no new Ed25519 key")]
    BadKey(u32),
    /// The epoch before did not sign this rotation.
    #[error("the rotation to epoch {0} is not signed by the key of the epoch before it")]
    BadRotation(u32),
    /// The checkpoint has no signature of the epoch in force.
    #[error("the checkpoint of size {size} is not signed by epoch {expected}, which was in force")]
    Unsigned {
        /// The checkpoint's size.
        size: u64,
        /// The epoch in force at that size.
        expected: u32,
    },
    /// The checkpoint is signed with the key of another epoch.
    #[error("the checkpoint of size {size} is sealed with the key of epoch {got}, but epoch {expected} was in force")]
    WrongEpoch {
        /// The checkpoint's size.
        size: u64,
        /// The epoch in force at that size.
        expected: u32,
        /// The epoch whose key signed.
        got: u32,
    },
    /// Checkpoint and rotation state different roots for one size.
    #[error("the rotation to epoch {number} states another root for size {size} than the checkpoint")]
    Fork {
        /// The epoch that began at this size.
        number: u32,
        /// The size.
        size: u64,
    },
    /// A signature that does not hold, or an invalid name.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A member of the JSON of a rotation or succession is missing or invalid.
    #[error("{0} is missing or invalid")]
    Json(&'static str),
}

impl From<EpochError> for crate::Error {
    fn from(e: EpochError) -> crate::Error {
        crate::Error::invalid(e.to_string()).with_source(e)
    }
}

/// The name of a log: `name`, a slash, and 32 hexadecimal digits of SHA-256 of epoch 0's public key. So the name that an
/// auditor pins determines the key with which the succession of epochs begins.
///
/// # Errors
/// [`NoteError::Name`] if `name` is empty, too long, or has spaces or a plus sign.
///
/// ```
/// let origin = attestlog::note::origin("example.com/ward-3", &[7; 32]).unwrap();
/// assert_eq!(origin, "example.com/ward-3/4bb06f8e4e3a7715d201d573d0aa4237");
/// assert!(attestlog::note::binds(&origin, &[7; 32]));
/// ```
pub fn origin(name: &str, epoch0_public: &[u8; 32]) -> Result<String, NoteError> {
    check_name(name).map_err(NoteError::Name)?;
    let origin = format!("{name}/{}", fingerprint(epoch0_public));
    check_name(&epoch_name(&origin, u32::MAX)).map_err(NoteError::Name)?;
    Ok(origin)
}

/// Whether `origin` ends in the fingerprint of this key of epoch 0.
pub fn binds(origin: &str, epoch0_public: &[u8; 32]) -> bool {
    origin.rsplit_once('/').is_some_and(|(name, end)| !name.is_empty() && end == fingerprint(epoch0_public))
}

fn fingerprint(public: &[u8; 32]) -> String {
    to_hex(&Hash::of(public).0[..16])
}

/// The key name under which epoch `number` signs.
pub fn epoch_name(origin: &str, number: u32) -> String {
    format!("{origin}/epoch-{number}")
}

/// The statement by which one epoch hands over to the next.
///
/// ```text
/// attestlog/rotation@v1
/// ORIGIN
/// NUMBER                  of the new epoch
/// base64 of its public key
/// SIZE                    of the tree before the rotation entry
/// base64 of its ROOT
/// ```
///
/// The old epoch key signs these lines, each with its newline.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The log.
    pub origin: String,
    /// The number of the new epoch.
    pub number: u32,
    /// The new public key.
    pub public: [u8; 32],
    /// The size of the tree before the rotation entry, which is also that entry's number.
    pub size: u64,
    /// The root at that size.
    pub root: Hash,
    /// Ed25519 of the old epoch key over [`Rotation::text`].
    pub signature: [u8; 64],
}

impl Rotation {
    /// Makes and signs the statement; `old` is the key of the epoch that ends.
    pub fn sign(origin: &str, number: u32, public: [u8; 32], size: u64, root: Hash, old: &SigningKey) -> Rotation {
        let mut rotation = Rotation { origin: origin.to_owned(), number, public, size, root, signature: [0; 64] };
        rotation.signature = old.sign_raw(rotation.text().as_bytes());
        rotation
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let (public, root) = (STANDARD.encode(self.public), STANDARD.encode(self.root.as_bytes()));
        format!("attestlog/rotation@v1\n{}\n{}\n{public}\n{}\n{root}\n", self.origin, self.number, self.size)
    }

    /// Whether `old`, the key of the epoch before, signed this.
    pub fn signed_by(&self, old: &VerifierKey) -> bool {
        // An origin with a newline could imitate the other lines.
        check_name(&self.origin).is_ok() && old.check_raw(self.text().as_bytes(), &self.signature)
    }

    /// `{"number","public_key","size","root","signature"}`: in base64, but the root in hexadecimal. The origin is left out.
    pub fn to_json(&self) -> Object {
        Object::from_iter([
            ("number", Json::from(self.number)),
            ("public_key", STANDARD.encode(self.public).into()),
            ("size", self.size.into()),
            ("root", self.root.to_string().into()),
            ("signature", STANDARD.encode(self.signature).into()),
        ])
    }

    /// Reads what [`Rotation::to_json`] wrote; other members are ignored.
    ///
    /// # Errors
    /// [`EpochError::Json`] with the member that is wrong.
    pub fn from_json(origin: &str, json: &Object) -> Result<Rotation, EpochError> {
        let text = |key| json.get(key).and_then(Json::as_str);
        let number = json.get("number").and_then(Json::as_u64).and_then(|n| n.try_into().ok());
        let signature = text("signature").and_then(|s| STANDARD.decode(s).ok()).and_then(|s| s.try_into().ok());
        Ok(Rotation {
            origin: origin.to_owned(),
            number: number.ok_or(EpochError::Json("number"))?,
            public: text("public_key").and_then(parse_32).ok_or(EpochError::Json("public_key"))?,
            size: json.get("size").and_then(Json::as_u64).ok_or(EpochError::Json("size"))?,
            root: text("root").and_then(|r| r.parse().ok()).ok_or(EpochError::Json("root"))?,
            signature: signature.ok_or(EpochError::Json("signature"))?,
        })
    }
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rotation").field(&self.to_json()).finish()
    }
}

/// One epoch of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    key: VerifierKey,
    number: u32,
    rotation: Option<Rotation>,
    /// The entry of the restore that put it in force, if its rotation is not an entry of this log.
    restored_at: Option<u64>,
}

impl Epoch {
    /// Its number, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The key that signs during this epoch.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The size after which it signs: it is in force for larger sizes, up to and including the next epoch's.
    pub fn from_size(&self) -> u64 {
        self.restored_at.or(self.rotation.as_ref().map(|r| r.size)).unwrap_or(0)
    }

    /// The statement that began it; epoch 0 has none.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.rotation.as_ref()
    }

    /// The statement that began it, if that is an entry of this log and so vouches for all entries before it.
    pub fn rotation_in_place(&self) -> Option<&Rotation> {
        self.rotation().filter(|_| self.restored_at.is_none())
    }

    /// The number of the restore entry that put it in force; `None` if its rotation did.
    pub fn restored_at(&self) -> Option<u64> {
        self.restored_at
    }
}

crate::json_form!(methods Succession);

/// The epochs of a log from the first to the current one, each vouched for by the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    origin: String,
    epochs: Vec<Epoch>,
}

impl Succession {
    /// The succession that begins with epoch 0.
    ///
    /// # Errors
    /// [`EpochError::Unbound`] if `origin` does not end in this key's fingerprint.
    pub fn new(origin: &str, epoch0_public: &[u8; 32]) -> Result<Succession, EpochError> {
        if !binds(origin, epoch0_public) {
            return Err(EpochError::Unbound(origin.to_owned()));
        }
        let key = VerifierKey::new(&epoch_name(origin, 0), KeyType::Ed25519, epoch0_public)?;
        Ok(Succession {
            origin: origin.to_owned(),
            epochs: vec![Epoch { key, number: 0, rotation: None, restored_at: None }],
        })
    }

    /// Adds the epoch that `rotation` begins. The caller must check that its root is that of the tree at its size, and that
    /// it was recorded as the entry of that number.
    ///
    /// # Errors
    /// The [`EpochError`] that says why it cannot follow.
    pub fn push(&mut self, rotation: Rotation) -> Result<(), EpochError> {
        self.add(rotation, None)
    }

    /// Adds the epoch that `rotation` began in a history that was lost. It is in force after entry `at`, which says that the log
    /// was restored; the caller must check that this entry names it.
    ///
    /// # Errors
    /// As [`Succession::push`].
    pub fn push_restored(&mut self, rotation: Rotation, at: u64) -> Result<(), EpochError> {
        self.add(rotation, Some(at))
    }

    fn add(&mut self, rotation: Rotation, restored_at: Option<u64>) -> Result<(), EpochError> {
        let last = self.current();
        if rotation.origin != self.origin {
            return Err(EpochError::Origin { expected: self.origin.clone(), got: rotation.origin });
        }
        let number = rotation.number;
        match last.number.checked_add(1) {
            Some(expected) if expected != number => return Err(EpochError::Number { expected, got: number }),
            None => return Err(EpochError::Number { expected: u32::MAX, got: number }),
            Some(_) => {}
        }
        // An epoch that covers no size could sign nothing, and before entry 0 there is nothing to hand over. One restore may bring
        // several epochs, of which the last is in force.
        let size = restored_at.unwrap_or(rotation.size);
        let together = restored_at.is_some() && last.restored_at == restored_at;
        if size <= last.from_size() && !together {
            return Err(EpochError::Order { number, size });
        }
        if !rotation.signed_by(&last.key) {
            return Err(EpochError::BadRotation(number));
        }
        let key = VerifierKey::new(&epoch_name(&self.origin, number), KeyType::Ed25519, &rotation.public)
            .map_err(|_| EpochError::BadKey(number))?;
        if self.epochs.iter().any(|e| e.key.public() == key.public()) {
            return Err(EpochError::BadKey(number));
        }
        self.epochs.push(Epoch { key, number, rotation: Some(rotation), restored_at });
        Ok(())
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// All epochs in order.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The current epoch.
    pub fn current(&self) -> &Epoch {
        // Epoch 0 is always there: `new` adds it, and nothing removes it.
        &self.epochs[self.epochs.len() - 1]
    }

    /// The epoch whose key may sign a checkpoint of `size`.
    pub fn key_for_size(&self, size: u64) -> &Epoch {
        &self.epochs[self.epochs.partition_point(|e| e.from_size() < size).saturating_sub(1)]
    }

    /// Checks that a checkpoint is signed by the epoch in force at its size, and returns that epoch's number. The log key's
    /// signature is not checked.
    ///
    /// # Errors
    /// [`EpochError::WrongEpoch`] if another epoch's key signed instead, as when somebody who holds a newer key rewrites an
    /// earlier range; [`EpochError::Fork`] if a rotation states another root for this size; [`EpochError::Origin`],
    /// [`EpochError::Unsigned`], [`EpochError::Note`].
    pub fn check(&self, signed: &SignedCheckpoint) -> Result<u32, EpochError> {
        let (checkpoint, note) = (signed.checkpoint(), signed.note());
        if checkpoint.origin() != self.origin {
            let (expected, got) = (self.origin.clone(), checkpoint.origin().to_owned());
            return Err(EpochError::Origin { expected, got });
        }
        let size = checkpoint.size();
        let epoch = self.key_for_size(size);
        match note.verify(std::slice::from_ref(&epoch.key)) {
            Ok(_) => {}
            Err(NoteError::Unsigned(_)) => return Err(self.who_else(signed, epoch.number)),
            Err(other) => return Err(other.into()),
        }
        // Only the rotation that ended this epoch can have this size.
        let next = self.epochs.get(epoch.number as usize + 1).and_then(Epoch::rotation_in_place);
        match next.filter(|r| r.size == size && r.root != checkpoint.root()) {
            Some(rotation) => Err(EpochError::Fork { number: rotation.number, size }),
            None => Ok(epoch.number),
        }
    }

    fn who_else(&self, signed: &SignedCheckpoint, expected: u32) -> EpochError {
        let size = signed.checkpoint().size();
        let other = self.epochs.iter().find(|e| signed.note().verify(std::slice::from_ref(&e.key)).is_ok());
        match other {
            Some(epoch) => EpochError::WrongEpoch { size, expected, got: epoch.number },
            None => EpochError::Unsigned { size, expected },
        }
    }

    /// `{"origin","epoch0","rotations":[…]}`: everything an auditor needs to check epoch signatures offline. A rotation that a
    /// restore brought into the log also has `restored_at`.
    pub fn to_json(&self) -> Json {
        let rotation = |epoch: &Epoch| {
            let mut json = epoch.rotation()?.to_json();
            if let Some(at) = epoch.restored_at {
                json.insert("restored_at", at);
            }
            Some(Json::from(json))
        };
        let rotations = self.epochs.iter().filter_map(rotation).collect();
        let epoch0 = self.epochs.first().map(|e| STANDARD.encode(e.key.public()));
        Object::from_iter([
            ("origin", Json::from(self.origin.as_str())),
            ("epoch0", epoch0.into()),
            ("rotations", Json::Array(rotations)),
        ])
        .into()
    }

    /// Reads and checks what [`Succession::to_json`] wrote.
    ///
    /// # Errors
    /// [`EpochError::Json`], or why the epochs do not follow each other.
    pub fn from_json(json: &Json) -> Result<Succession, EpochError> {
        let text = |key| json.get(key).and_then(Json::as_str);
        let origin = text("origin").ok_or(EpochError::Json("origin"))?;
        let epoch0 = text("epoch0").and_then(parse_32).ok_or(EpochError::Json("epoch0"))?;
        let mut succession = Succession::new(origin, &epoch0)?;
        for rotation in json.get("rotations").and_then(Json::as_array).ok_or(EpochError::Json("rotations"))? {
            let rotation = rotation.as_object().ok_or(EpochError::Json("rotations"))?;
            let at = match rotation.get("restored_at") {
                Some(at) => Some(at.as_u64().ok_or(EpochError::Json("restored_at"))?),
                None => None,
            };
            succession.add(Rotation::from_json(origin, rotation)?, at)?;
        }
        Ok(succession)
    }
}
