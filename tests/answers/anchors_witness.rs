//! Promise: a witness's cosignature counts only if it is valid, its time is then trusted, and a witness's objection to a
//! log is distinguished from its being out of reach.
#![cfg(feature = "witness")]

use crate::witness::*;
use attestlog::anchor::{Anchor, AnchorReceipt, Attestation, Evidence, Form, WitnessAnchor};
use attestlog::merkle::{self, Nodes, ProofError};
use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey, VerifierKey};
use attestlog::{Error, ErrorKind, Hash, Result, Timestamp};
use std::time::Duration;

const LOG: &str = "example.com/log";
const TIME: u64 = 1_760_000_000;

/// A log whose entry `i` is `SALT-i`: another salt gives another log.
struct Tree(&'static str);

impl Nodes for Tree {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        if level == 0 {
            return Ok(Hash::leaf(format!("{}-{index}", self.0).as_bytes()));
        }
        Ok(Hash::node(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

fn log_key(seed: u8) -> SigningKey {
    SigningKey::from_seed(LOG, &[seed; 32]).unwrap()
}

fn checkpoint(salt: &'static str, size: u64) -> SignedCheckpoint {
    let head = Checkpoint::new(LOG, size, merkle::root(&Tree(salt), size).unwrap()).unwrap();
    SignedCheckpoint::sign(head, &[&log_key(1)]).unwrap()
}

/// A witness for this log.
fn honest(recorded: Option<(u64, Hash)>) -> impl FnMut(&Request) -> Option<Answer> {
    honest_for(log_key(1).verifier().clone(), recorded, || TIME)
}

fn submit(anchor: &WitnessAnchor, salt: &'static str, size: u64) -> Result<AnchorReceipt> {
    anchor
        .submit(&checkpoint(salt, size), &|old| merkle::consistency_proof(&Tree(salt), old, size).map_err(Error::from))
}

#[test]
fn a_witness_cosigns_what_grew_and_its_time_is_kept_with_it() {
    let server = Server::start(honest(None));
    let anchor = server.anchor();
    assert_eq!(anchor.name(), "witness witness.example/w1");
    let time = Timestamp::from_nanos(TIME as i64 * 1_000_000_000);
    for size in [3, 7, 7, 8] {
        let receipt = submit(&anchor, "a", size).unwrap();
        assert_eq!(receipt.at, Some(time));
        assert!(matches!(receipt.attestation, Some(Attestation::Cosignature(_))));
        let record = receipt.record(&checkpoint("a", size)).unwrap();
        // The stored answer gives the time to those who trust the witness, and to nobody else.
        let parse = |keys: &[VerifierKey]| Evidence::parse("x", record.to_string().as_bytes(), None, keys).unwrap();
        let kept = parse(&[witness_key(9).0]).kept.remove(0);
        assert_eq!((kept.time, kept.source.form), (Some(time), Form::AnchorFile));
        assert_eq!(kept.checkpoint.checkpoint(), checkpoint("a", size).checkpoint());
        kept.checkpoint.verify(log_key(1).verifier()).unwrap();
        assert_eq!(parse(&[]).kept[0].time, None);
        assert_eq!(parse(&[witness_key(8).0]).kept[0].time, None);
    }
    assert_eq!(server.olds(), ["old 0", "old 3", "old 7", "old 7"]);
}

#[test]
fn a_witness_that_has_another_size_on_record_is_asked_again_from_there() {
    let recorded = |size| Some((size, merkle::root(&Tree("a"), size).unwrap()));
    let server = Server::start(honest(recorded(5)));
    submit(&server.anchor(), "a", 12).unwrap();
    assert_eq!(server.olds(), ["old 0", "old 5"]);
    let server = Server::start(honest(recorded(5)));
    submit(&server.anchor().with_known_size(3), "a", 12).unwrap();
    assert_eq!(server.olds(), ["old 3", "old 5"]);
    // The witness remembers a larger log, or the same size as now.
    let server = Server::start(honest(recorded(5)));
    submit(&server.anchor().with_known_size(99), "a", 5).unwrap();
    assert_eq!(server.olds(), ["old 0", "old 5"]);
}

#[test]
fn an_older_copy_and_a_fork_are_conflicts() {
    let recorded = Some((9, merkle::root(&Tree("a"), 9).unwrap()));
    for (salt, size, says) in
        [("a", 5, "older copy"), ("b", 9, "another root"), ("b", 12, "not find this log consistent"), ("b", 5, "older")]
    {
        let error = submit(&Server::start(honest(recorded)).anchor(), salt, size).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_log_or_key_that_the_witness_does_not_know_is_said_so() {
    let server = Server::start(honest(None));
    let anchor = server.anchor();
    let head = Checkpoint::new(LOG, 0, Hash::of(b"")).unwrap();
    let stranger = SignedCheckpoint::sign(head, &[&log_key(2)]).unwrap();
    let error = anchor.submit(&stranger, &|_| unreachable!()).unwrap_err();
    assert!(error.to_string().contains("not the key that signed"), "{error}");
    let head = Checkpoint::new("example.com/other", 0, Hash::of(b"")).unwrap();
    let other = SignedCheckpoint::sign(head, &[&log_key(1)]).unwrap();
    let error = anchor.submit(&other, &|_| unreachable!()).unwrap_err();
    assert!(error.to_string().contains("does not know the log example.com/other"), "{error}");
}

#[test]
fn an_answer_that_does_not_hold_is_refused() {
    let text = checkpoint("a", 3).note().text().to_owned();
    let good = cosign(9, TIME, &text);
    let plain = log_key(1).sign(&text);
    let answers: Vec<(Vec<u8>, &str)> = vec![
        (cosign(8, TIME, &text).into_bytes(), "no signature under its key"),
        (cosign(9, TIME, checkpoint("a", 4).note().text()).into_bytes(), "does not hold"),
        (good.replace(NAME, "witness.example/w2").into_bytes(), "no signature under its key"),
        (cosign(9, u64::MAX, &text).into_bytes(), "does not hold"),
        (cosign(9, i64::MAX as u64, &text).into_bytes(), "no time"),
        (format!("{plain}\n").into_bytes(), "no signature under its key"),
        (b"".to_vec(), "no signature under its key"),
        (b"garbage\n".to_vec(), "is no signature"),
        (good.trim_end().as_bytes().to_vec(), "is no signature"),
        (b"\xff\xfe".to_vec(), "is not text"),
        ("— a AAAAAAAA\n".repeat(10_000).into_bytes(), "too many signatures"),
        (vec![b'x'; 10 << 20], "more than"),
    ];
    for (answer, says) in answers {
        let server = Server::start(move |_| Some((200, answer.clone())));
        let error = submit(&server.anchor(), "a", 3).unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
    // A cosignature that the checkpoint already has does not replace the missing one.
    let mut cosigned = checkpoint("a", 3);
    cosigned.add(attestlog::note::Signature::parse_line(&good).unwrap()).unwrap();
    let server = Server::start(|_| Some((200, "— a AAAAAAAA\n".as_bytes().to_vec())));
    assert!(server.anchor().submit(&cosigned, &|_| unreachable!()).is_err());
}

#[test]
fn other_answers_are_errors_with_the_reason_and_end() {
    for (status, body, kind) in [
        (409, "garbage", ErrorKind::InvalidInput),
        (409, "0\n", ErrorKind::InvalidInput),
        (409, "18446744073709551616\n", ErrorKind::InvalidInput),
        (400, "bad\x1b[31m request", ErrorKind::InvalidInput),
        (302, "elsewhere", ErrorKind::Io),
        (500, "", ErrorKind::Io),
        (503, "later", ErrorKind::Io),
    ] {
        let server = Server::start(move |_| Some((status, body.as_bytes().to_vec())));
        let error = submit(&server.anchor(), "a", 3).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&status.to_string()) && !error.to_string().contains('\x1b'), "{error}");
        assert_eq!(server.olds().len(), 1);
    }
    let mut next = 0;
    let restless = Server::start(move |_| {
        next += 1;
        Some((409, format!("{next}\n").into_bytes()))
    });
    assert_eq!(submit(&restless.anchor(), "a", 30).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(restless.olds().len(), 3);
}

#[test]
fn a_witness_that_says_nothing_or_is_not_there_is_given_up() {
    let server = Server::start(|_| None);
    let anchor = WitnessAnchor::new(&server.url, witness_key(9).0, Duration::from_millis(300)).unwrap();
    let error = submit(&anchor, "a", 3).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("no answer"), "{error}");
    // A port that was free a moment ago may be another test's by now; nothing listens on the first one.
    let anchor = WitnessAnchor::new("http://127.0.0.1:1", witness_key(9).0, Duration::from_secs(60)).unwrap();
    assert_eq!(submit(&anchor, "a", 3).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn urls_and_keys_that_cannot_be_are_refused_at_once() {
    let new = |url: &str| WitnessAnchor::new(url, witness_key(9).0, Duration::from_secs(1));
    for url in
        ["", "witness.example", "ftp://a/", "http://", "http:///x", "http://me:pw@a/", "http://a/?x=1", "http://a b/"]
    {
        let error = new(url).expect_err(url);
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    assert_eq!(new("https://witness.example/").is_ok(), cfg!(feature = "witness-tls"));
    let log = log_key(1).verifier().clone();
    let error = WitnessAnchor::new("http://a/", log, Duration::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("log's key"), "{error}");
    assert_eq!(format!("{:?}", new("http://a:80/w/").unwrap()).matches("http://a:80/w/add-checkpoint").count(), 1);
}
