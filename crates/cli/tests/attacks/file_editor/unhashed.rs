//! The text of entries was changed in place while the hash beside it stayed as it was.
//!
//! The tree is made from the stored hashes, so a checkpoint of an edited store is the right one, and anything derived from
//! the edited text (an index row, a purge, a policy in force) used to be signed along with it. An ordinary purge removed an
//! entry that somebody had made to look expired, and verification found nothing afterwards, because the entry was gone.

use crate::common::{Place, call, overwrite};
use crate::store_common::clock;
use attestlog::host::SeededRandom;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{ErrorKind, Options, ToolCall};
use std::sync::Arc;

const MASK: &[u8] = br#""action":"mask","field":"insurance_number""#;
const KEEP: &[u8] = br#""action":"keep","field":"insurance_number""#;

fn options(seed: u64) -> Options {
    Options::new().clock(clock()).random(Arc::new(SeededRandom::new(seed))).background(false)
}

/// Somebody without keys changed the user of a call in the file. The next completeness proof about that user was signed and
/// said 'exactly 0', a purge removed what a hold on the user kept, and the next index batch had the wrong name.
#[test]
fn nothing_is_recorded_signed_or_purged_by_an_entry_that_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = options(1).create(&path).unwrap();
    for i in 1..4 {
        log.record(ToolCall::new(format!("c{i}"), format!("u{i}"), "look")).unwrap();
    }
    log.checkpoint().unwrap();
    log.close().unwrap();
    assert!(overwrite(&path, b"\x02c2\x02u2", b"\x02c2\x02u7") > 0, "the conversation, then the user");
    let log = options(2).open(&path).unwrap();
    let refused = [
        log.record(ToolCall::new("c", "u", "look")).map(drop),
        log.checkpoint().map(drop),
        log.flush_index(),
        log.retention().purge("privacy").map(drop),
        log.entry(3).map(drop),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::Damaged), "{i}");
    }
    let found = log.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.iter().any(|f| f.kind == FindingKind::EntryChanged), "{found:?}");
    log.close().unwrap();
    // After it is put back, the log is as it was.
    overwrite(&path, b"\x02c2\x02u7", b"\x02c2\x02u2");
    let log = options(3).open(&path).unwrap();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
    log.close().unwrap();
}

/// In a policy's entry an action was replaced by one of the same length, an honest host recorded a call, and the bytes were
/// put back: the call had its secret in clear under a policy that masks it, and verification was clean.
#[test]
fn a_policy_that_was_changed_in_the_file_is_in_force_for_nothing() {
    let place = Place::with_store();
    place.write("p.toml", "[redaction.fields]\n\"insurance_number\" = \"mask\"\n");
    place.run(&["init", "t", "--config", "p.toml"]).ok();
    place.write("one", call("c", "u", "look", r#""arguments":{"insurance_number":"INSUR-1"}"#));
    place.run(&["record", "t", "one"]).ok();
    let store = place.path("t");
    assert!(overwrite(&store, MASK, KEEP) > 0);
    let ran = place.run(&["record", "t", "one"]);
    assert!(ran.err.contains("entry"), "{}", ran.err);
    ran.code(3);
    overwrite(&store, KEEP, MASK);
    // An entry that is no policy at all: verification says where, and everything else is refused.
    let none = MASK.iter().map(|b| if *b == b'k' { b'x' } else { *b }).collect::<Vec<_>>();
    assert!(overwrite(&store, MASK, &none) > 0);
    let ran = place.run(&["verify", "t"]);
    assert!(ran.out.contains("entry_changed"), "{}{}", ran.out, ran.err);
    ran.code(1);
    place.run(&["record", "t", "one"]).code(3);
    overwrite(&store, &none, MASK);
    place.run(&["verify", "t"]).ok();
    assert!(!std::fs::read(&store).unwrap().windows(7).any(|w| w == b"INSUR-1"));
}
