//! Somebody who has the keys, or had them before a rotation.

use super::common::{Place, call};
use super::store_common::clock;
use attestlog::Justification;
use attestlog::json::Json;
use attestlog::keys::{InForce, KeyFile};
use attestlog::redact::{Action, Policy, Preset};
use attestlog::verify::VerifyOptions;
use attestlog::{ErrorKind, Hash, Options, PolicySet, ToolCall};
use std::time::Duration;

/// A store whose policy said nothing about keys kept its first epoch key forever, so anybody who had once copied the key
/// file could sign another history of the whole log at any later time. Now an epoch ends by itself after 30 days, and
/// nothing signed with the copy counts from then on.
#[test]
fn a_key_file_that_was_copied_is_worth_nothing_a_month_later() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("s"), dir.path().join("s.key"));
    let clock = clock();
    let options = || Options::new().clock(clock.clone()).background(false);
    let log = options().create(&path).unwrap();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.checkpoint().unwrap();
    let copied = std::fs::read(&key).unwrap();
    clock.advance(Duration::from_secs(31 * 86_400));
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.record(ToolCall::new("c", "u", "look")).unwrap();

    let (size, succession) = (log.size().unwrap(), log.keys().succession().unwrap().unwrap());
    let mut thief = KeyFile::parse(&copied, None).unwrap();
    let roots = |size| log.proofs().root_at(size);
    let forged = thief.sign_checkpoint(size, InForce { all: Hash::ZERO, standing: Hash::ZERO }, &roots).unwrap();
    assert!(succession.check(&forged).is_err(), "an epoch that is over signs nothing of a later one");
    assert_eq!(succession.check(&log.checkpoint().unwrap()), Ok(1));
    log.close().unwrap();
    std::fs::write(&key, &copied).unwrap();
    let refused = options().open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Key, "{refused}");
}

/// With a key file from before an erasure in place, a call was recorded with exit 0 and no message. From then on neither
/// key file could erase anybody: this one names a master key that is destroyed, and the newer one does not know what was
/// sealed in between.
#[test]
fn an_older_copy_of_the_key_file_records_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("s"), dir.path().join("s.key"));
    let mut policies = PolicySet::default();
    policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build().unwrap();
    let options = || Options::new().clock(clock()).background(false);
    let call = |patient: &str| {
        let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#).unwrap().value;
        ToolCall::new("c", "u", "enrol").patient(patient).arguments(arguments)
    };
    let log = options().policies(policies).create(&path).unwrap();
    log.record(call("P-1")).unwrap();
    let kept = log.record(call("P-2")).unwrap().seq;
    let before = std::fs::read(&key).unwrap();
    let refused = |entry: u64| {
        let newest = std::fs::read(&key).unwrap();
        std::fs::write(&key, &before).unwrap();
        let refused = options().open(&path).and_then(|log| log.record(call("P-3"))).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Key, "{refused}");
        assert!(refused.to_string().contains(&format!("entry {entry} put into use")), "{refused}");
        std::fs::write(&key, newest).unwrap();
    };
    let erased = log.privacy().erase("P-1", Justification { actor: "officer", reason: "request" }).unwrap().seq;
    log.close().unwrap();
    refused(erased);
    let log = options().open(&path).unwrap();
    let rotated = log.keys().rotate_pseudonym_key().unwrap().seq;
    log.close().unwrap();
    refused(rotated);

    let log = options().open(&path).unwrap();
    assert_eq!(
        log.privacy().reveal(kept, "arguments.ssn", Justification { actor: "dr_no", reason: "claim" }).unwrap(),
        Json::from("460-89-9847")
    );
    log.privacy().erase("P-2", Justification { actor: "officer", reason: "request" }).unwrap();
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// A rotation said that the previous key was destroyed, but under a second name of the key file it was not.
#[cfg(unix)]
#[test]
fn a_key_file_with_two_names_is_not_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = Options::new().background(false).create(&path).unwrap();
    std::fs::hard_link(dir.path().join("s.key"), dir.path().join("kept")).unwrap();
    for refused in [log.keys().rotate_epoch_key().unwrap_err(), log.keys().rotate_pseudonym_key().unwrap_err()] {
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    }
    std::fs::remove_file(dir.path().join("kept")).unwrap();
    log.keys().rotate_epoch_key().unwrap();
}

/// Somebody who gives a passphrase believes that nobody else can have the keys. A store and a key file without a
/// passphrase, put in the place of the protected ones, were recorded into without a message.
#[test]
fn keys_that_need_no_passphrase_do_not_stand_in_for_those_that_do() {
    let place = Place::empty();
    place.write("pw", "correct horse battery\n");
    place.run(&["init", "mine", "--passphrase-file", "pw"]).ok();
    place.run(&["init", "his"]).ok();
    for (from, to) in [("his", "mine"), ("his.key", "mine.key")] {
        std::fs::rename(place.path(from), place.path(to)).unwrap();
    }
    let line = call("c", "u", "look", "");
    let refused = place.run_with(&["record", "mine", "--passphrase-file", "pw"], line.as_bytes()).code(3);
    assert!(refused.err.contains("not protected by one"), "{refused:?}");
    place.run_with(&["record", "mine", "--no-alerts"], line.as_bytes()).ok();
}
