//! Somebody who has the keys, or had them before a rotation.

use super::store_common::clock;
use attestlog::keys::KeyFile;
use attestlog::{ErrorKind, Hash, Options, ToolCall};
use std::time::Duration;

/// A store whose policy says nothing of keys kept its first epoch key for ever, so whoever once copied the key file could
/// sign another history of the whole log at any time later. Now an epoch ends after 30 days by itself, and with the copy
/// nothing is signed that counts from then on.
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

    let (size, succession) = (log.size(), log.succession().unwrap());
    let mut thief = KeyFile::parse(&copied, None).unwrap();
    let roots = |size| log.root_at(size);
    let forged = thief.sign_checkpoint(size, Hash::ZERO, &roots).unwrap();
    assert!(succession.check(&forged).is_err(), "an epoch that is over signs nothing of a later one");
    assert_eq!(succession.check(&log.checkpoint().unwrap()), Ok(1));
    log.close().unwrap();
    std::fs::write(&key, &copied).unwrap();
    let refused = options().open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Key, "{refused}");
}
