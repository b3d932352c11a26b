//! Promise: if the policy says so, the epoch key is replaced automatically by count and by time, so that somebody who
//! steals the present keys cannot change what an earlier epoch signed.

use crate::common::{Place, call};
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::keys::KeyVault;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, ErrorKind, KeyPolicy, Options, PolicySet, Query, ToolCall};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(86_400);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2025-03-01T09:00:00Z".parse().unwrap()))
}

fn policies(entries: Option<u64>, days: Option<u32>) -> PolicySet {
    let mut policies = PolicySet::default();
    policies.keys.rotate_entries = entries;
    policies.keys.rotate_days = days;
    policies
}

fn options(clock: &Arc<ManualClock>) -> Options {
    Options::new().clock(clock.clone()).background(false)
}

fn record(log: &AuditLog, count: usize) {
    for _ in 0..count {
        log.record(ToolCall::new("c", "u", "t")).unwrap();
    }
}

/// The first seq of each epoch.
fn epochs(log: &AuditLog) -> Vec<u64> {
    log.keys().succession().unwrap().unwrap().epochs().iter().map(|epoch| epoch.from_size()).collect()
}

#[test]
fn so_many_entries_are_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = options(&clock()).policies(policies(Some(100), None)).create(&path).unwrap();
    record(&log, 350);
    let log_key = log.public_key().unwrap().unwrap();
    let began = epochs(&log);
    assert_eq!(began, [0, 100, 200, 300]);
    // What was signed in an epoch is signed by its key, even if a checkpoint falls on the handover.
    let first = log.checkpoint().unwrap();
    assert_eq!(log.keys().succession().unwrap().unwrap().check(&first).unwrap(), 3);
    let verification = log.verify(&VerifyOptions::new().public_key(log_key.clone())).unwrap();
    assert!(verification.ok(), "{:?}", verification.findings);
    assert_eq!(verification.rewritable_from, 300, "earlier epochs' keys are gone");
    log.close().unwrap();
    let log = options(&clock()).open(&path).unwrap();
    record(&log, 60);
    assert_eq!(epochs(&log), [0, 100, 200, 300, 400]);
    // A batch is in one epoch, however large.
    log.record_batch((0..500).map(|_| ToolCall::new("c", "u", "t"))).unwrap();
    assert_eq!(epochs(&log).len(), 6);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
    // Another policy has other limits, and takes effect automatically.
    log.retention().set_policies(policies(None, None)).unwrap();
    record(&log, 150);
    assert_eq!(epochs(&log).len(), 6);
}

#[test]
fn so_many_days_are_an_epoch_in_which_something_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let clock = clock();
    let log = options(&clock).policies(policies(None, Some(30))).create(&path).unwrap();
    record(&log, 1);
    clock.advance(29 * DAY);
    record(&log, 1);
    assert_eq!(epochs(&log).len(), 1);
    clock.advance(DAY);
    record(&log, 1);
    assert_eq!(epochs(&log).len(), 2);
    clock.advance(29 * DAY);
    log.close().unwrap();
    // A process that only reads does not change the keys, however old they are.
    clock.advance(60 * DAY);
    let log = options(&clock).open(&path).unwrap();
    assert_eq!(log.count(&Query::new()).unwrap(), log.size().unwrap());
    let before = (log.size().unwrap(), std::fs::read(dir.path().join("s.key")).unwrap());
    log.close().unwrap();
    assert_eq!(std::fs::read(dir.path().join("s.key")).unwrap(), before.1);
    let log = options(&clock).open(&path).unwrap();
    assert_eq!((epochs(&log).len(), log.size().unwrap()), (2, before.0));
    record(&log, 1);
    assert_eq!(epochs(&log).len(), 3);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// For example the environment: keys that come back with the next start cannot be destroyed.
#[derive(Debug, Default, Clone)]
struct Fixed(Arc<Mutex<(bool, Option<Vec<u8>>)>>);

impl KeyVault for Fixed {
    fn name(&self) -> String {
        "fixed".to_owned()
    }

    fn load(&self) -> attestlog::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.0.lock().unwrap().1.clone().map(Zeroizing::new))
    }

    fn store(&self, text: &[u8]) -> attestlog::Result<()> {
        let mut held = self.0.lock().unwrap();
        if held.0 {
            return Err(Error::new(ErrorKind::Key, "it comes back with the next start"));
        }
        held.1 = Some(text.to_vec());
        Ok(())
    }

    fn is_replaceable(&self) -> bool {
        !self.0.lock().unwrap().0
    }
}

#[test]
fn keys_that_cannot_be_replaced_are_a_concern_and_recording_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Fixed::default();
    let options = options(&clock()).key_vault(vault.clone()).policies(policies(Some(100), None));
    let log = options.create(dir.path().join("s")).unwrap();
    vault.0.lock().unwrap().0 = true;
    record(&log, 250);
    assert_eq!(epochs(&log), [0]);
    let concerns = log.health().unwrap().concerns();
    assert!(concerns.len() == 1 && concerns[0].contains("new epoch key"), "{concerns:?}");
    vault.0.lock().unwrap().0 = false;
    record(&log, 1);
    assert_eq!(epochs(&log).len(), 2);
    assert!(log.health().unwrap().concerns().is_empty());
    log.close().unwrap();
}

/// A store whose policy said nothing about keys kept one epoch key forever, and somebody who stole it could rewrite
/// whatever no anchor covered.
#[test]
fn without_a_word_of_keys_the_epoch_key_is_replaced_every_30_days() {
    let clock = clock();
    let log = options(&clock).in_memory().unwrap();
    assert_eq!(log.retention().policies().unwrap().keys, KeyPolicy::default());
    record(&log, 3);
    clock.advance(29 * DAY);
    record(&log, 1);
    assert_eq!(epochs(&log).len(), 1);
    clock.advance(DAY);
    record(&log, 1);
    assert_eq!(epochs(&log).len(), 2);
    let log = options(&clock).policies(policies(None, None)).in_memory().unwrap();
    clock.advance(400 * DAY);
    record(&log, 3);
    assert_eq!(epochs(&log).len(), 1, "the policy may say never");
}

#[test]
fn the_policy_says_it_and_nonsense_is_refused() {
    assert!(PolicySet::default().to_json().get("keys").is_none());
    let said = PolicySet::from_toml("[keys]\nrotate_entries = 100_000\nrotate_days = 30\n", "f").unwrap();
    assert_eq!((said.keys.rotate_entries, said.keys.rotate_days), (Some(100_000), Some(30)));
    assert_eq!(PolicySet::from_json(&said.to_json()).unwrap(), said);
    let said = PolicySet::from_toml("[keys]\nrotate_entries = 'never'\nrotate_days = 'never'\n", "f").unwrap();
    assert_eq!(said.keys, KeyPolicy::never());
    assert_eq!(PolicySet::from_json(&said.to_json()).unwrap(), said);
    for (wrong, place) in [
        ("keys = 3\n", "f:1:8: "),
        ("[keys]\nrotate_entries = 99\n", "f:2:18: keys.rotate_entries is at least 100"),
        ("[keys]\nrotate_days = 0\n", "f:2:15: keys.rotate_days is at least 1"),
        ("[keys]\nrotate_days = -1\n", "f:2:15: "),
        ("[keys]\nrotate_days = 5_000_000_000\n", "f:2:15: "),
        ("[keys]\nrotate_days = '30'\n", "f:2:15: "),
        ("[keys]\nrotate = 1\n", "f:2:1: unknown key \"rotate\""),
    ] {
        let refused = PolicySet::from_toml(wrong, "f").unwrap_err();
        assert!(refused.to_string().starts_with(place), "{refused}");
    }
    let refused = Options::new().policies(policies(Some(1), None)).in_memory().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let log = AuditLog::in_memory().unwrap();
    assert_eq!(
        log.retention().set_policies(policies(Some(KeyPolicy::MIN_ENTRIES - 1), None)).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn a_command_that_records_leaves_a_new_key_behind() {
    let place = Place::empty();
    place.write("c.toml", "[keys]\nrotate_entries = 100\n");
    let key = place.run(&["init", "s", "--config", "c.toml"]).ok();
    let lines: String = (0..40).map(|i| call(&format!("c{i}"), "u", "t", "")).collect();
    for _ in 0..6 {
        place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    }
    let shown = place.run(&["keys", "show", "s", "--json"]).json();
    let rotations = shown.get("succession").unwrap().get("rotations").and_then(Json::as_array).unwrap().len();
    assert_eq!(rotations, 2, "{}", shown.to_canonical());
    let verified = place.run(&["verify", "s", "--public-key", key.trim(), "--json"]).json();
    assert!(verified.get("rewritable_from").unwrap().as_u64().unwrap() > 200);
    assert!(place.run(&["policy", "show", "s"]).ok().contains("rotate_entries"));
}
