//! What a connection to the owner may do, and how it shows that it has the store's key.
//!
//! Invariant I13: what a connection may do is decided by the owner, in [`Authority::of`] and nowhere else; through the
//! owner nobody does more than he could with the store's file at rest and the keys that he has.
//!
//! The owner sends 32 fresh random bytes with its first frame. The other end answers with HMAC-SHA-256 (RFC 2104) under a
//! key that follows from every secret of the key file as it is now, over a purpose, the store's id, these bytes, and the
//! ids of both processes as the kernel tells them to the other end, and the name that the kernel gave the end that connected. So an
//! answer is good for one connection, between these two processes, with all of the present keys: not the keys of before a rotation, and not the words of somebody in between.
//!
//! Invariant R72: whoever knows the log's key, from his own key file or as it was given to him, sends nothing to an owner that has
//! not signed for it. The signature is over the same, the place of the socket and 32 random bytes of the asker's: so it is good for
//! one connection to one store, and an owner of a copy elsewhere is not taken for this one's.

use crate::keys::KeyFile;
use crate::note::VerifierKey;
use crate::{Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a command needs of whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It records calls, as any process of this user may.
    Append,
    /// It reads what anybody reads who has the file and none of its keys.
    Read,
    /// It uses the owner's keys, or changes more than by recording a call.
    Admin,
}

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    append: bool,
    read: bool,
    admin: bool,
    /// Whether the owner has keys that somebody could prove.
    provable: bool,
}

/// How things stand with the keys when a connection is decided upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// The store was made without keys: nobody can prove any, and there is nothing that they would keep from him.
    Keyless,
    /// The store has keys, and the owner has it open without them.
    Missing,
    /// The owner has them, and the other end did not prove that it does.
    Unproven,
    /// The other end proved that it has them.
    Proven,
}

impl Authority {
    /// The one place where authority comes from. The socket lets in processes of this user only (I6).
    pub(super) fn of(keys: Keys) -> Authority {
        let admin = matches!(keys, Keys::Keyless | Keys::Proven);
        Authority { append: true, read: true, admin, provable: keys != Keys::Missing }
    }

    /// Whether it covers this.
    pub fn allows(self, need: Need) -> bool {
        match need {
            Need::Append => self.append,
            Need::Read => self.read,
            Need::Admin => self.admin,
        }
    }

    /// Refuses what it does not cover.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key), with what to do.
    pub fn check(self, need: Need) -> Result<()> {
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

/// What an answer is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub store: &'a str,
    pub challenge: &'a [u8; 32],
    /// The process that has the store open.
    pub owner: u32,
    /// The process at the other end.
    pub peer: u32,
    /// The name of that end, which no other connection has: a process may have connected, given that connection to another, and
    /// become this one.
    pub name: &'a [u8],
}

const PURPOSE: &[u8] = b"attestlog/owner-key-proof@v1\n";
/// What the owner's own signature is for.
const OWNER: &str = "attestlog/owner@v1";

/// What somebody asks the owner to sign, besides the question that the owner asks him.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Where the socket is: its name, which follows from the store's path.
    pub place: &'a str,
    pub challenge: &'a [u8; 32],
}

impl Question<'_> {
    /// What has no fixed length stands behind its length, so no two questions make one text.
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

    /// The answer of who has these keys.
    pub(super) fn answer(&self, keys: &KeyFile) -> Result<[u8; 32]> {
        Ok(self.mac(keys)?.finalize().into_bytes().into())
    }

    /// Whether this is the answer of somebody who has these keys.
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

    /// An answer that was overheard, or that belongs to other keys, another store, another challenge or other processes.
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

    /// A signature that was overheard, or that an owner gave for another connection, another store or another process.
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
        // Nor is it one under a note, nor the other way round.
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
