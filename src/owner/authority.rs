//! What a connection to the owner may do, and how the other end proves that it has the store's key.
//!
//! Invariant I13: the owner decides what a connection may do, in [`Authority::of`] and nowhere else. Through the owner
//! nobody can do more than with the store's file at rest and their own keys.
//!
//! The owner sends 32 fresh random bytes with its first frame. The other end answers with an HMAC-SHA-256 (RFC 2104) under a
//! key derived from every secret of the present key file. The HMAC covers a purpose, the store's id, these bytes, the ids of
//! both processes as the kernel reports them, and the name that the kernel gave the connecting end. So an answer is valid
//! for one connection, between these two processes, with all of the present keys: keys from before a rotation do not produce
//! it, and a process in the middle cannot reuse it.
//!
//! Invariant R72: a process that knows the log's key, from its own key file or because the caller gave it, sends nothing to
//! an owner that has not signed for it, except the request that a read-only owner give way (R96). The signature covers the same
//! data, the place of the socket and 32 random bytes from the process that asks. So it is valid for one connection to one
//! store, and the owner of a copy elsewhere is not accepted as this store's owner.

use crate::keys::KeyFile;
use crate::note::VerifierKey;
pub(super) use crate::requests::Need;
use crate::{Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority {
    append: bool,
    read: bool,
    admin: bool,
    /// Whether the owner has keys that a connection could prove.
    provable: bool,
}

/// The state of the keys when the authority of a connection is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// The store was made without keys, so nobody can prove any, and there is nothing that keys would protect.
    Keyless,
    /// The store has keys, and the owner opened it without them.
    Missing,
    /// The owner has the keys, and the other end has not proven that it has them too.
    Unproven,
    /// The other end has proven that it has the keys.
    Proven,
}

impl Authority {
    /// The only place that grants authority. The socket accepts only processes of this user (I6).
    pub(super) fn of(keys: Keys) -> Authority {
        let admin = matches!(keys, Keys::Keyless | Keys::Proven);
        Authority { append: true, read: true, admin, provable: keys != Keys::Missing }
    }

    /// Whether this authority covers the need.
    pub(super) fn allows(self, need: Need) -> bool {
        match need {
            Need::Append => self.append,
            Need::Read => self.read,
            Need::Admin => self.admin,
        }
    }

    /// Refuses a need that this authority does not cover.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key); the message says what to do.
    pub(super) fn check(self, need: Need) -> Result<()> {
        let why = match (self.allows(need), self.provable) {
            (true, _) => return Ok(()),
            (false, true) => {
                "the process that has the store open does this only for those who prove that they have its key, and none was \
                 proven: name the key file (--key, or ATTESTLOG_KEY) and its passphrase (--passphrase-file, or \
                 ATTESTLOG_PASSPHRASE)"
            }
            (false, false) => {
                "the process that has the store open has it open without its key, so this cannot be done through it: end that \
                 process, and bring the key file back"
            }
        };
        Err(Error::new(ErrorKind::Key, why))
    }
}

/// What a proof is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub store: &'a str,
    pub challenge: &'a [u8; 32],
    /// The process that has the store open.
    pub owner: u32,
    /// The process at the other end.
    pub peer: u32,
    /// The kernel's name for that end, which no other connection has. A process id alone is not enough: a process may have
    /// connected, passed that connection to another process, and then become this one.
    pub name: &'a [u8],
}

const PURPOSE: &[u8] = b"attestlog/owner-key-proof@v1\n";
/// The purpose of the owner's signature.
const OWNER: &str = "attestlog/owner@v1";

/// The data that the connecting process asks the owner to sign, in addition to the owner's own question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The place of the socket: its name, which is derived from the store's path.
    pub place: &'a str,
    pub challenge: &'a [u8; 32],
}

impl Question<'_> {
    /// Each part of variable length is preceded by its length, so two different questions never give the same text.
    fn text(&self) -> Vec<u8> {
        let [store, name] = [self.store.len(), self.name.len()].map(|length| (length as u64).to_le_bytes());
        let (owner, peer) = (self.owner.to_le_bytes(), self.peer.to_le_bytes());
        [&store[..], self.store.as_bytes(), self.challenge, &owner, &peer, &name, self.name].concat()
    }

    fn mac(&self, keys: &KeyFile) -> Result<Hmac<Sha256>> {
        let key = keys.possession();
        let mac = Hmac::<Sha256>::new_from_slice(&key[..]);
        let mut mac = mac.map_err(|_| Error::new(ErrorKind::Key, "the key file makes no key for a proof"))?;
        mac.update(PURPOSE);
        mac.update(&self.text());
        Ok(mac)
    }

    fn text_with(&self, asked: Asked<'_>) -> Vec<u8> {
        [&self.text()[..], asked.challenge, asked.place.as_bytes()].concat()
    }

    /// The signature of an owner that has these keys.
    pub(super) fn sign(&self, keys: &KeyFile, asked: Asked<'_>) -> [u8; 64] {
        keys.log_key().sign_apart(OWNER, &self.text_with(asked))
    }

    /// Whether this is the signature of an owner that has the secret half of the log's key.
    pub(super) fn is_signed(&self, key: &VerifierKey, asked: Asked<'_>, signature: &[u8]) -> bool {
        let signature: Option<&[u8; 64]> = signature.try_into().ok();
        signature.is_some_and(|signature| key.check_apart(OWNER, &self.text_with(asked), signature))
    }

    /// The answer of a process that has these keys.
    pub(super) fn answer(&self, keys: &KeyFile) -> Result<[u8; 32]> {
        Ok(self.mac(keys)?.finalize().into_bytes().into())
    }

    /// Whether this is the answer of a process that has these keys.
    pub(super) fn is_answered(&self, keys: &KeyFile, answer: &[u8; 32]) -> bool {
        self.mac(keys).is_ok_and(|mac| mac.verify_slice(answer).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> KeyFile {
        KeyFile::generate("t", &mut |out| out.iter_mut().zip(seed..).for_each(|(byte, n)| *byte = n)).unwrap()
    }

    /// An answer is refused if it was overheard, or made for other keys, another store, another challenge or other
    /// processes.
    #[test]
    fn an_answer_is_good_for_one_question_and_one_key_file() {
        let mut own = keys(1);
        let asked = Question { store: "s", challenge: &[7; 32], owner: 1, peer: 2, name: b"00001" };
        let answer = asked.answer(&own).unwrap();
        assert!(asked.is_answered(&own, &answer));
        let others = [
            Question { store: "t", ..asked },
            Question { challenge: &[8; 32], ..asked },
            Question { owner: 3, ..asked },
            Question { peer: 3, ..asked },
            Question { owner: 2, peer: 1, ..asked },
            Question { name: b"00002", ..asked },
        ];
        assert!(others.iter().all(|other| !other.is_answered(&own, &answer)));
        assert!(!asked.is_answered(&keys(2), &answer));
        let mut wrong = answer;
        wrong[31] ^= 1;
        assert!(!asked.is_answered(&own, &wrong));
        // A copy of the key file from before it got another secret.
        own.rotate_pseudonym_key(&mut |out| out.fill(9)).unwrap();
        assert!(!asked.is_answered(&own, &answer));
    }

    /// A signature is refused if it was overheard, or made for another connection, another store or another process.
    #[test]
    fn an_owners_signature_is_good_for_one_question_and_one_place() {
        let own = keys(1);
        let question = Question { store: "s", challenge: &[7; 32], owner: 1, peer: 2, name: b"00001" };
        let asked = Asked { place: "a.sock", challenge: &[9; 32] };
        let signature = question.sign(&own, asked);
        assert!(question.is_signed(&own.verifier(), asked, &signature));
        let others = [
            (Question { store: "t", ..question }, asked),
            (Question { challenge: &[8; 32], ..question }, asked),
            (Question { owner: 3, ..question }, asked),
            (Question { owner: 2, peer: 1, ..question }, asked),
            (Question { name: b"", ..question }, asked),
            (question, Asked { place: "b.sock", ..asked }),
            (question, Asked { challenge: &[8; 32], ..asked }),
        ];
        let signed =
            |(question, asked): &(Question<'_>, Asked<'_>)| question.is_signed(&own.verifier(), *asked, &signature);
        assert!(!others.iter().any(signed));
        assert!(!question.is_signed(&keys(2).verifier(), asked, &signature));
        assert!(!question.is_signed(&own.verifier(), asked, &signature[..63]));
        // Nor does a note's signature pass for one of these, or the other way round.
        assert_ne!(own.log_key().sign("x\n").bytes().get(4..), Some(&own.log_key().sign_apart("x", b"")[..]));
    }

    #[test]
    fn who_has_no_key_appends_and_reads() {
        for (keys, admin) in
            [(Keys::Keyless, true), (Keys::Missing, false), (Keys::Unproven, false), (Keys::Proven, true)]
        {
            let authority = Authority::of(keys);
            let allowed = [Need::Append, Need::Read, Need::Admin].map(|need| authority.allows(need));
            assert_eq!(allowed, [true, true, admin], "{keys:?}");
            assert_eq!(authority.check(Need::Admin).err().map(|e| e.kind()), (!admin).then_some(ErrorKind::Key));
        }
    }
}
