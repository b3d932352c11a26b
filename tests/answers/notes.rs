//! Promise: notes, checkpoints, epochs and proof files are parsed strictly, and anything invalid is refused with the
//! reason.

use attestlog::Hash;
use attestlog::json::Json;
use attestlog::merkle::{self, Nodes, ProofError};
use attestlog::note::{
    Checkpoint, EpochError, KeyType, Note, NoteError, Rotation, Signature, SignedCheckpoint, SigningKey, Succession,
    VerifierKey, epoch_name, origin,
};
use attestlog::proof::{CheckError, ConsistencyProof, InclusionProof, Proof, Proven, check};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use proptest::prelude::*;

/// The key and note from the examples of golang.org/x/mod/sumdb/note.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETER_TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER_LINE: &str =
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn seed(n: u8) -> [u8; 32] {
    [n; 32]
}

fn public(n: u8) -> [u8; 32] {
    *SigningKey::from_seed("x", &seed(n)).unwrap().verifier().public()
}

/// A log with its keys: epoch `n` signs with seed `100 + n`, the log key with seed 1.
struct Log {
    origin: String,
    lines: Vec<String>,
}

impl Log {
    fn new(entries: usize) -> Log {
        let origin = origin("example.com/ward-3", &public(100)).unwrap();
        Log { origin, lines: (0..entries).map(|i| format!(r#"{{"seq":{i},"tool_name":"lookup"}}"#)).collect() }
    }

    fn root(&self, size: u64) -> Hash {
        merkle::root(self, size).unwrap()
    }

    fn log_key(&self) -> SigningKey {
        SigningKey::from_seed(&self.origin, &seed(1)).unwrap()
    }

    fn epoch_key(&self, number: u32) -> SigningKey {
        SigningKey::from_seed(&epoch_name(&self.origin, number), &seed(100 + number as u8)).unwrap()
    }

    fn checkpoint(&self, size: u64, epoch: u32) -> SignedCheckpoint {
        let checkpoint = Checkpoint::new(&self.origin, size, self.root(size)).unwrap();
        SignedCheckpoint::sign(checkpoint, &[&self.log_key(), &self.epoch_key(epoch)]).unwrap()
    }

    fn rotation(&self, number: u32, size: u64) -> Rotation {
        let old = self.epoch_key(number - 1);
        Rotation::sign(&self.origin, number, public(100 + number as u8), size, self.root(size), &old)
    }

    fn inclusion(&self, seq: u64, size: u64) -> InclusionProof {
        InclusionProof {
            seq,
            line: self.lines[seq as usize].clone().into_bytes(),
            path: merkle::inclusion_proof(self, seq, size).unwrap(),
            checkpoint: self.checkpoint(size, 0),
        }
    }

    fn consistency(&self, old: u64, new: u64) -> ConsistencyProof {
        ConsistencyProof {
            old_size: old,
            old_root: self.root(old),
            proof: merkle::consistency_proof(self, old, new).unwrap(),
            checkpoint: self.checkpoint(new, 0),
        }
    }
}

impl Nodes for Log {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        if level == 0 {
            return Ok(Hash::leaf(self.lines[index as usize].as_bytes()));
        }
        Ok(Hash::node(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }
}

#[test]
fn the_reference_note_is_read_checked_and_made() {
    let key: VerifierKey = PETER.parse().unwrap();
    assert_eq!(key.to_string(), PETER);
    assert_eq!(key.key_type(), KeyType::Ed25519);
    let text = format!("{PETER_TEXT}\n{PETER_LINE}");
    let note = Note::parse(text.as_bytes()).unwrap();
    assert_eq!(note.to_string(), text);
    let keys = [key];
    let signed = note.verify(&keys).unwrap();
    assert_eq!((signed[0].key, signed[0].time), (&keys[0], None));

    let secret = STANDARD.decode(PETER_SECRET).unwrap();
    let signer = SigningKey::from_seed("PeterNeumann", secret[1..].try_into().unwrap()).unwrap();
    assert_eq!(signer.verifier(), &keys[0]);
    assert_eq!(Note::sign(PETER_TEXT, &[&signer]).unwrap().to_string(), text);
}

#[test]
fn malformed_notes_are_refused_with_the_reason() {
    let line = PETER_LINE;
    let reason = |note: String| Note::parse(note.as_bytes()).unwrap_err().to_string();
    let cases = [
        (String::new(), "no blank line"),
        ("\n".to_owned(), "no blank line"),
        (format!("{PETER_TEXT}{line}"), "no blank line"),
        (format!("{PETER_TEXT}\n"), "no newline after the last signature"),
        (format!("{PETER_TEXT}\n{line}\n"), "no newline after the last signature"),
        (format!("{PETER_TEXT}\n{}", line.trim_end()), "no newline after the last signature"),
        (format!("{PETER_TEXT}\n{line}x"), "no newline after the last signature"),
        (format!("a\tb\n\n{line}"), "control character"),
        (format!("a\r\n\n{line}"), "control character"),
        (format!("{PETER_TEXT}\n{line}- a AAAA\n"), "line 2: it does not begin with an em dash"),
        (format!("{PETER_TEXT}\n— a\n"), "line 1: no space after the key name"),
        (format!("{PETER_TEXT}\n—  AAAAAAA=\n"), "no key name"),
        (format!("{PETER_TEXT}\n— a+b AAAAAAA=\n"), "plus sign"),
        (format!("{PETER_TEXT}\n— a\u{2003}b AAAAAAA=\n"), "a space"),
        (format!("{PETER_TEXT}\n— a AAAAAAA\n"), "not base64"),
        (format!("{PETER_TEXT}\n— a AAAAAAB=\n"), "not base64"),
        (format!("{PETER_TEXT}\n— a AAAA AAA=\n"), "not base64"),
        (format!("{PETER_TEXT}\n— a AAAAAA==\n"), "too short"),
        (format!("{PETER_TEXT}\n— {} AAAAAAA=\n", "a".repeat(513)), "512 bytes"),
        (format!("{PETER_TEXT}\n{}", line.repeat(65)), "65 signature lines, more than the limit of 64"),
        (format!("{PETER_TEXT}\n{}", "— a AAAAAAA=\n".repeat(10_000)), "10000 signature lines"),
        (format!("{PETER_TEXT}\n{}", line.repeat(10_000)), "more than the limit of 262144"),
    ];
    for (note, want) in cases {
        let got = reason(note);
        assert!(got.contains(want), "{got:?} does not say {want:?}");
    }
    assert_eq!(Note::parse(b"\xff\n\n").unwrap_err(), NoteError::Malformed("not UTF-8"));
    assert!(Note::parse(format!("{PETER_TEXT}\n{}", line.repeat(64)).as_bytes()).is_ok());
    let signer = SigningKey::from_seed("a", &seed(1)).unwrap();
    assert!(Note::sign("no newline", &[&signer]).is_err());
    assert!(Note::sign("a\n", &[]).is_err());
}

#[test]
fn signatures_of_trusted_keys_must_hold_and_others_are_passed_over() {
    let (a, b) = (SigningKey::from_seed("a", &seed(1)).unwrap(), SigningKey::from_seed("b", &seed(2)).unwrap());
    let note = Note::sign("text\n\nwith a blank line\n", &[&a, &b, &a]).unwrap();
    let note = Note::parse(note.to_string().as_bytes()).unwrap();
    let keys = [b.verifier().clone(), a.verifier().clone()];
    let names: Vec<&str> = note.verify(&keys).unwrap().iter().map(|s| s.key.name()).collect();
    assert_eq!(names, ["a", "b"]);
    let other = [SigningKey::from_seed("a", &seed(3)).unwrap().verifier().clone()];
    assert_eq!(note.verify(&other).unwrap_err().to_string(), "not signed by a");
    assert_eq!(note.verify(&[]).unwrap_err(), NoteError::Unsigned("any key".to_owned()));
    // One invalid signature by a trusted key makes the note invalid, although another signature is valid.
    let forged = note.to_string().replace("text", "test");
    let forged = Note::parse(forged.as_bytes()).unwrap();
    assert_eq!(forged.verify(&keys).unwrap_err(), NoteError::BadSignature("a".to_owned()));
}

#[test]
fn keys_are_read_strictly() {
    let bad = [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a3+",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AxpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n",
    ];
    for key in bad {
        assert!(key.parse::<VerifierKey>().is_err(), "{key:?} was accepted");
    }
    // Under the neutral element every signature verifies.
    let mut weak = [0; 32];
    weak[0] = 1;
    assert!(
        matches!(VerifierKey::new("a", KeyType::Ed25519, &weak), Err(NoteError::Key(reason)) if reason.contains("weak"))
    );
    assert!(!format!("{:?}", SigningKey::from_seed("a", &seed(7)).unwrap()).contains(&format!("{:?}", seed(7))));
}

#[test]
fn checkpoints_are_read_strictly() {
    let root = STANDARD.encode(Hash::of(b"").as_bytes());
    for size in [0, 1, i64::MAX as u64] {
        let text = format!("example.com/log\n{size}\n{root}\n");
        let checkpoint = Checkpoint::parse(&text).unwrap();
        assert_eq!((checkpoint.size(), checkpoint.to_string()), (size, text));
    }
    let extended = format!("a log\n5\n{root}\nmore\nand more\n");
    assert_eq!(Checkpoint::parse(&extended).unwrap().to_string(), extended);
    let cases = [
        (format!("o\n01\n{root}\n"), "leading zeros"),
        (format!("o\n+1\n{root}\n"), "decimal"),
        (format!("o\n-1\n{root}\n"), "decimal"),
        (format!("o\n\n{root}\n"), "decimal"),
        (format!("o\n1 \n{root}\n"), "decimal"),
        (format!("o\n١\n{root}\n"), "decimal"),
        (format!("o\n9223372036854775808\n{root}\n"), "beyond 2^63-1"),
        (format!("o\n18446744073709551615\n{root}\n"), "beyond 2^63-1"),
        (format!("o\n18446744073709551616\n{root}\n"), "decimal"),
        (format!("o\n{}\n{root}\n", "9".repeat(10_000)), "decimal"),
        (format!("\n1\n{root}\n"), "origin is empty"),
        (format!("o\n1\n{root}"), "no newline"),
        (format!("o\n1\n{root}\n\n"), "extension line is empty"),
        (format!("o\n1\n{root} \n"), "base64 of 32 bytes"),
        ("o\n1\nAAAA\n".to_owned(), "base64 of 32 bytes"),
        ("o\n1\n".to_owned(), "fewer than three lines"),
        ("o\n".to_owned(), "fewer than three lines"),
        ("\n".to_owned(), "fewer than three lines"),
        (String::new(), "no newline"),
    ];
    for (text, want) in cases {
        let got = Checkpoint::parse(&text).unwrap_err().to_string();
        assert!(got.contains(want), "{text:?}: {got:?} does not say {want:?}");
    }
    assert!(Checkpoint::new("a\nb", 1, Hash::ZERO).is_err());
    assert!(Checkpoint::new("", 1, Hash::ZERO).is_err());
    assert!(Checkpoint::new("a", 1 << 63, Hash::ZERO).is_err());
}

#[test]
fn a_checkpoint_is_the_logs_or_refused() {
    let log = Log::new(5);
    let signed = SignedCheckpoint::parse(log.checkpoint(5, 0).to_string().as_bytes()).unwrap();
    assert_eq!(signed.note().signatures().len(), 2);
    signed.verify(log.log_key().verifier()).unwrap();
    let stranger = SigningKey::from_seed(&log.origin, &seed(9)).unwrap();
    assert!(matches!(signed.verify(stranger.verifier()), Err(NoteError::Unsigned(_))));
    let other = SigningKey::from_seed("example.com/other", &seed(1)).unwrap();
    assert!(matches!(signed.verify(other.verifier()), Err(NoteError::Origin { .. })));
    let altered = signed.to_string().replace("\n5\n", "\n6\n");
    let altered = SignedCheckpoint::parse(altered.as_bytes()).unwrap();
    assert!(matches!(altered.verify(log.log_key().verifier()), Err(NoteError::BadSignature(_))));
    let witness = VerifierKey::new(&log.origin, KeyType::CosignatureV1, &public(1)).unwrap();
    assert!(signed.verify(&witness).unwrap_err().to_string().contains("witness"));
}

/// A witness's line over a checkpoint, made without this library.
fn cosign(name: &str, n: u8, time: u64, text: &str) -> String {
    let secret = ed25519_dalek::SigningKey::from_bytes(&seed(n));
    let public = secret.verifying_key().to_bytes();
    let id = Hash::of(&[name.as_bytes(), b"\n\x04", &public].concat());
    let signature = secret.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes()).to_bytes();
    let blob = [&id.0[..4], &time.to_be_bytes(), &signature].concat();
    format!("— {name} {}\n", STANDARD.encode(blob))
}

#[test]
fn cosignatures_carry_their_time() {
    let log = Log::new(3);
    let mut signed = log.checkpoint(3, 0);
    let witness = VerifierKey::new("witness.example/w1", KeyType::CosignatureV1, &public(50)).unwrap();
    assert_eq!(witness.to_string().parse::<VerifierKey>().unwrap(), witness);
    let witnesses = [witness];
    assert_eq!(signed.cosigned(&witnesses).unwrap(), []);
    let text = signed.note().text().to_owned();
    let line = cosign("witness.example/w1", 50, 1_679_315_147, &text);
    signed.add(Signature::parse_line(&line).unwrap()).unwrap();
    let signed = SignedCheckpoint::parse(signed.to_string().as_bytes()).unwrap();
    assert_eq!(signed.cosigned(&witnesses).unwrap()[0].time, Some(1_679_315_147));
    signed.verify(log.log_key().verifier()).unwrap();

    for line in [
        cosign("witness.example/w1", 50, 1 << 63, &text),
        cosign("witness.example/w1", 50, 5, "another text\n"),
        // A signature of the plain text by the same key is not a cosignature.
        {
            let secret = ed25519_dalek::SigningKey::from_bytes(&seed(50));
            let blob = [&witnesses[0].id()[..], &secret.sign(text.as_bytes()).to_bytes()].concat();
            format!("— witness.example/w1 {}\n", STANDARD.encode(blob))
        },
    ] {
        let mut signed = log.checkpoint(3, 0);
        signed.add(Signature::parse_line(&line).unwrap()).unwrap();
        assert!(matches!(signed.cosigned(&witnesses), Err(NoteError::BadSignature(_))), "{line}");
    }
    assert!(Signature::parse_line("— a AAAAAAA=").is_err());
    assert!(Signature::parse_line("— a AAAAAAA=\n— b AAAAAAA=\n").is_err());
}

#[test]
fn a_rotation_states_what_it_says_it_does() {
    let log = Log::new(8);
    let rotation = log.rotation(1, 4);
    let want = format!(
        "attestlog/rotation@v1\n{}\n1\n{}\n4\n{}\n",
        log.origin,
        STANDARD.encode(public(101)),
        STANDARD.encode(log.root(4).as_bytes())
    );
    assert_eq!(rotation.text(), want);
    let signature = ed25519_dalek::SigningKey::from_bytes(&seed(100)).sign(want.as_bytes()).to_bytes();
    assert_eq!(rotation.signature, signature);
    assert_eq!(Rotation::from_json(&log.origin, &rotation.to_json()).unwrap(), rotation);
    for key in ["number", "public_key", "size", "root", "signature"] {
        let mut json = rotation.to_json();
        json.remove(key);
        assert!(Rotation::from_json(&log.origin, &json).unwrap_err().to_string().contains(key));
        json.insert(key, "x");
        assert!(Rotation::from_json(&log.origin, &json).unwrap_err().to_string().contains(key));
    }
}

#[test]
fn each_size_has_one_epoch() {
    let log = Log::new(20);
    let mut epochs = Succession::new(&log.origin, &public(100)).unwrap();
    epochs.push(log.rotation(1, 4)).unwrap();
    epochs.push(log.rotation(2, 10)).unwrap();
    assert_eq!(epochs.current().number(), 2);
    // The rotation recorded as entry 4 is the first under epoch 1: size 4 is still epoch 0's, size 5 covers it.
    for (size, epoch) in [(0, 0), (1, 0), (4, 0), (5, 1), (10, 1), (11, 2), (20, 2), (u64::MAX, 2)] {
        assert_eq!(epochs.key_for_size(size).number(), epoch, "size {size}");
    }
    for size in 1..=20 {
        let right = epochs.key_for_size(size).number();
        for epoch in 0..3 {
            let verdict = epochs.check(&log.checkpoint(size, epoch));
            if epoch == right {
                assert_eq!(verdict, Ok(epoch));
            } else {
                // An earlier range signed again with a newer key, or an old key that was kept.
                assert_eq!(verdict, Err(EpochError::WrongEpoch { size, expected: right, got: epoch }));
            }
        }
    }
    assert_eq!(Succession::from_json(&epochs.to_json()).unwrap(), epochs);

    // The same size as a rotation, but another root: two histories.
    let forked = Checkpoint::new(&log.origin, 4, log.root(3)).unwrap();
    let forked = SignedCheckpoint::sign(forked, &[&log.log_key(), &log.epoch_key(0)]).unwrap();
    assert_eq!(epochs.check(&forked), Err(EpochError::Fork { number: 1, size: 4 }));
    let plain = Checkpoint::new(&log.origin, 4, log.root(4)).unwrap();
    let plain = SignedCheckpoint::sign(plain, &[&log.log_key()]).unwrap();
    assert_eq!(epochs.check(&plain), Err(EpochError::Unsigned { size: 4, expected: 0 }));
    let forged =
        SignedCheckpoint::parse(log.checkpoint(6, 1).to_string().replace("\n6\n", "\n7\n").as_bytes()).unwrap();
    assert!(matches!(epochs.check(&forged), Err(EpochError::Note(NoteError::BadSignature(_)))));
}

/// R54: a log that was restored from a copy of epoch 0 at entry 6 has epochs 1 and 2 from there. What their rotations say
/// about the lost history is not compared with anything here.
#[test]
fn a_restoring_puts_the_epochs_that_a_copy_lacks_in_force() {
    let log = Log::new(20);
    let mut epochs = Succession::new(&log.origin, &public(100)).unwrap();
    epochs.push_restored(log.rotation(1, 4), 6).unwrap();
    epochs.push_restored(log.rotation(2, 10), 6).unwrap();
    for (size, epoch) in [(4, 0), (6, 0), (7, 2), (10, 2), (11, 2)] {
        assert_eq!(epochs.check(&log.checkpoint(size, epoch)), Ok(epoch), "size {size}");
        let other = if epoch == 2 { 1 } else { 2 };
        assert!(epochs.check(&log.checkpoint(size, other)).is_err(), "size {size}");
    }
    assert!(epochs.epochs().iter().all(|epoch| epoch.rotation_in_place().is_none()));
    assert_eq!(Succession::from_json(&epochs.to_json()).unwrap(), epochs);
    // The next one begins after that entry, and each is authenticated by the one before it.
    assert_eq!(epochs.clone().push(log.rotation(3, 6)), Err(EpochError::Order { number: 3, size: 6 }));
    epochs.push(log.rotation(3, 8)).unwrap();
    assert_eq!(epochs.push_restored(log.rotation(4, 20), 8), Err(EpochError::Order { number: 4, size: 8 }));
    let mut epochs = Succession::new(&log.origin, &public(100)).unwrap();
    assert_eq!(epochs.push_restored(log.rotation(2, 10), 6), Err(EpochError::Number { expected: 1, got: 2 }));
    let forged = Rotation::sign(&log.origin, 1, public(101), 4, log.root(4), &log.epoch_key(1));
    assert_eq!(epochs.push_restored(forged, 6), Err(EpochError::BadRotation(1)));
}

#[test]
fn epochs_must_follow_each_other() {
    let log = Log::new(20);
    assert!(matches!(Succession::new(&log.origin, &public(101)), Err(EpochError::Unbound(_))));
    assert!(matches!(Succession::new("example.com/ward-3", &public(100)), Err(EpochError::Unbound(_))));
    let start = || Succession::new(&log.origin, &public(100)).unwrap();
    let push = |rotation| start().push(rotation).unwrap_err();
    assert_eq!(push(log.rotation(2, 4)), EpochError::Number { expected: 1, got: 2 });
    assert_eq!(push(log.rotation(1, 0)), EpochError::Order { number: 1, size: 0 });
    assert!(matches!(push(Rotation { origin: "o".to_owned(), ..log.rotation(1, 4) }), EpochError::Origin { .. }));
    for forged in [
        Rotation { size: 5, ..log.rotation(1, 4) },
        Rotation { root: Hash::ZERO, ..log.rotation(1, 4) },
        Rotation { public: public(7), ..log.rotation(1, 4) },
        Rotation::sign(&log.origin, 1, public(101), 4, log.root(4), &log.epoch_key(1)),
        Rotation::sign(&log.origin, 1, public(101), 4, log.root(4), &log.log_key()),
    ] {
        assert_eq!(push(forged), EpochError::BadRotation(1));
    }
    let back = Rotation::sign(&log.origin, 1, public(100), 4, log.root(4), &log.epoch_key(0));
    assert_eq!(push(back), EpochError::BadKey(1));
    let mut epochs = start();
    epochs.push(log.rotation(1, 4)).unwrap();
    assert_eq!(epochs.push(log.rotation(2, 4)), Err(EpochError::Order { number: 2, size: 4 }));
    assert_eq!(epochs.push(log.rotation(1, 6)), Err(EpochError::Number { expected: 2, got: 1 }));
}

#[test]
fn proof_files_are_checked_with_the_public_key_alone() {
    let log = Log::new(11);
    let key: VerifierKey = log.log_key().verifier().to_string().parse().unwrap();
    for size in 1..=11 {
        for seq in 0..size {
            let text = log.inclusion(seq, size).to_string();
            let Ok(Proof::Inclusion(read)) = Proof::parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(read.to_string(), text);
            let checked = check(text.as_bytes(), &key).unwrap();
            let line = log.lines[seq as usize].clone();
            assert_eq!(checked.proven(), &Proven::Inclusion { seq, size, root: log.root(size), line });
            assert!(checked.to_string().ends_with("epoch not checked"));
            assert_eq!(checked.epoch(), None);
        }
        for old in 1..=size {
            let text = log.consistency(old, size).to_string();
            let checked = check(text.as_bytes(), &key).unwrap();
            let (old_root, new_root) = (log.root(old), log.root(size));
            let want = Proven::Consistency { old_size: old, old_root, new_size: size, new_root };
            assert_eq!(checked.proven(), &want);
        }
    }
    let epochs = Succession::new(&log.origin, &public(100)).unwrap();
    let checked = Proof::Inclusion(log.inclusion(3, 9)).check(&key, Some(&epochs)).unwrap();
    assert_eq!(checked.epoch(), Some(0));
    assert_eq!(checked.to_json().get("epoch").and_then(Json::as_u64), Some(0));
    let resealed = InclusionProof { checkpoint: log.checkpoint(9, 1), ..log.inclusion(3, 9) };
    let verdict = Proof::Inclusion(resealed).check(&key, Some(&epochs));
    assert!(matches!(verdict, Err(CheckError::Epoch(EpochError::Unsigned { .. }))));
}

#[test]
fn proofs_of_the_wrong_form_are_refused_with_the_reason() {
    let log = Log::new(11);
    let key = log.log_key().verifier().clone();
    let good = log.inclusion(5, 11).to_string();
    let json = log.consistency(4, 11).to_string();
    let extra = good.lines().nth(1).unwrap();
    let hash = good.lines().nth(3).unwrap();
    let cases = [
        (String::new(), "it is empty"),
        ("[]".to_owned(), "neither a tlog-proof, nor JSON, nor a checkpoint"),
        (good.replace("@v1", "@v2"), "first line"),
        (good.replace(&format!("{extra}\n"), ""), "no extra line"),
        (good.replace(extra, "extra !"), "not base64"),
        (good.replace("index 5", "index 05"), "no index line"),
        (good.replace("index 5", "index 18446744073709551616"), "no index line"),
        (good.replace("index 5", "index 18446744073709551615"), "not in a tree of 11"),
        (good.replace("index 5", "index 9223372036854775807"), "not in a tree of 11"),
        (good.replace("index 5", "index 4"), "leads to the root"),
        (good.replace("index 5", "index 10"), "these sizes need"),
        (good.replace(hash, "AAAA"), "base64 of 32 bytes"),
        (good.replace(&format!("{hash}\n"), ""), "these sizes need 4"),
        (good.replace(hash, &format!("{hash}\n{hash}")), "these sizes need 4"),
        (good.replace(hash, &format!("{hash}\n").repeat(100)), "more hashes than any tree needs"),
        (good.replace("\n11\n", "\n9223372036854775808\n"), "beyond 2^63-1"),
        (good.replace("\n11\n", "\n9223372036854775807\n"), "does not hold"),
        (good.clone() + "\n", "no newline after the last signature"),
        (good.clone() + "x", "no newline after the last signature"),
        (good.replace("\n\n", "\n"), "no blank line"),
        (good.replace('\n', "\r\n"), "no blank line"),
        (json.replace("\"old_size\":4", "\"old_size\":0"), "size 0 proves nothing"),
        (json.replace("\"old_size\":4", "\"old_size\":12"), "cannot grow"),
        (json.replace("\"old_size\":4", "\"old_size\":5"), "these sizes need"),
        (json.replace("\"old_size\":4", "\"old_size\":9223372036854775807"), "not an integer"),
        (json.replace("\"old_size\":4", "\"old_size\":-1"), "not an integer"),
        (json.replace("\"new_size\":11", "\"new_size\":10"), "another size"),
        (
            json.replace(&format!("\"new_root\":\"{}\"", log.root(11)), &format!("\"new_root\":\"{}\"", log.root(10))),
            "another root",
        ),
        (json.replace(&log.root(4).to_string(), &log.root(5).to_string()), "leads to the root"),
        (json.replace("\"proof\":[", "\"proof\":[\"00\","), "64 hexadecimal digits"),
        (
            json.replace("\"proof\":[", &format!("\"proof\":[{}", format!("\"{}\",", Hash::ZERO).repeat(100))),
            "more hashes",
        ),
        (json.replace("\"old_size\"", "\"extra\":1,\"old_size\""), "unknown member \"extra\""),
        (json.replace("\"old_size\"", "\"kind\":\"absence\",\"old_size\""), "kind \"absence\""),
        (json.replace("\"old_size\"", "\"kind\":[],\"old_size\""), "kind \"an array\""),
        (json.trim_end().to_owned() + "x", "something follows"),
        ("{}".to_owned(), "is not an array"),
    ];
    for (text, want) in cases {
        let got = check(text.as_bytes(), &key).unwrap_err().to_string();
        assert!(got.contains(want), "{text}\n{got:?} does not say {want:?}");
    }
    assert!(matches!(check(&vec![b'x'; (64 << 20) + 1], &key), Err(CheckError::TooLarge(_))));
    let other = SigningKey::from_seed("example.com/other", &seed(1)).unwrap();
    assert!(matches!(check(good.as_bytes(), other.verifier()), Err(CheckError::Note(NoteError::Origin { .. }))));
}

/// The recorder itself could hash a line that names another number than its position; a reader would be misled.
#[test]
fn a_line_must_name_its_own_place() {
    for (line, want) in [(r#"{"seq":1}"#, "number 1, not 0"), ("{}", "without a number"), ("x", "not an entry")] {
        let mut log = Log::new(2);
        log.lines[0] = line.to_owned();
        let proof = log.inclusion(0, 2).to_string();
        let got = check(proof.as_bytes(), log.log_key().verifier()).unwrap_err().to_string();
        assert!(got.contains(want), "{got}");
    }
}

/// Mutates bytes as a fuzzer does: one changed, one dropped, one added, a run doubled, the end cut off.
fn mutate(bytes: &[u8], kind: u8, at: prop::sample::Index, byte: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let i = at.index(bytes.len());
    match kind % 5 {
        0 => out[i] ^= byte.max(1),
        1 => drop(out.remove(i)),
        2 => out.insert(i, byte),
        3 => out.extend_from_slice(&bytes[i..]),
        _ => out.truncate(i),
    }
    out
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "(c2sp.org/tlog-proof@v1\n)?[\\x00-~—é\n]{0,200}") {
        let key: VerifierKey = PETER.parse().unwrap();
        for input in [&bytes[..], text.as_bytes()] {
            prop_assert!(check(input, &key).is_err());
            if let Ok(note) = Note::parse(input) {
                prop_assert_eq!(note.to_string().into_bytes(), input);
                prop_assert!(note.verify(std::slice::from_ref(&key)).is_err());
            }
            let text = String::from_utf8_lossy(input);
            let _ = text.parse::<VerifierKey>().map(|k| assert_eq!(k.to_string(), text));
            let _ = Checkpoint::parse(&text).map(|c| assert_eq!(c.to_string(), text));
            let _ = Signature::parse_line(&text);
        }
    }

    /// An altered proof never proves something else: it is refused with a reason, or it still proves exactly the same.
    #[test]
    fn altered_proofs_are_refused(kind: u8, at: prop::sample::Index, byte: u8, json: bool) {
        let log = Log::new(7);
        let key = log.log_key().verifier().clone();
        let good = if json { log.consistency(3, 7).to_string() } else { log.inclusion(2, 7).to_string() };
        let bad = mutate(good.as_bytes(), kind, at, byte);
        match check(&bad, &key) {
            Err(e) => prop_assert!(!e.to_string().is_empty()),
            // The epoch's signature line is not checked here, and JSON may contain spaces.
            Ok(checked) => prop_assert_eq!(checked, check(good.as_bytes(), &key).unwrap()),
        }
    }

    #[test]
    fn altered_checkpoints_are_refused(kind: u8, at: prop::sample::Index, byte: u8) {
        let log = Log::new(7);
        let key = log.log_key().verifier().clone();
        let epochs = Succession::new(&log.origin, &public(100)).unwrap();
        let good = log.checkpoint(7, 0);
        let bad = mutate(good.to_string().as_bytes(), kind, at, byte);
        let read = SignedCheckpoint::parse(&bad).ok().filter(|c| c.verify(&key).is_ok() && epochs.check(c).is_ok());
        if let Some(read) = read {
            prop_assert_eq!(read.checkpoint(), good.checkpoint());
        }
    }

    #[test]
    fn written_notes_are_read_back(text in "[ -~é\n]{0,80}", names in prop::collection::vec("[a-zé./-]{1,20}", 1..5)) {
        let keys: Vec<SigningKey> = names.iter().zip(1..).map(|(n, i)| SigningKey::from_seed(n, &seed(i)).unwrap()).collect();
        let note = Note::sign(format!("{text}\n"), &keys.iter().collect::<Vec<_>>()).unwrap();
        let read = Note::parse(note.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&read, &note);
        let trusted: Vec<VerifierKey> = keys.iter().map(|k| k.verifier().clone()).collect();
        prop_assert_eq!(read.verify(&trusted).unwrap().len(), keys.len());
    }
}
