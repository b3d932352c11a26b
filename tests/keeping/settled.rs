//! Promise: what a verification found and somebody has settled is shown as settled, and not raised again.

use super::store_common::tables::ROLLUPS;
use super::store_common::{clock, edit, options};
use attestlog::alert::{NotFound, Rules};
use attestlog::anchor::Evidence;
use attestlog::host::ManualClock;
use attestlog::verify::{FindingKind, Verification, VerifyOptions};
use attestlog::{AuditLog, ErrorKind, Justification, Options, ToolCall};
use std::path::Path;
use std::sync::Arc;

fn verify(log: &AuditLog) -> Verification {
    log.verify(&VerifyOptions::new()).unwrap()
}

/// Options of a store that signs.
fn keyed(clock: &Arc<ManualClock>) -> Options {
    Options::new().clock(clock.clone()).background(false)
}

/// The alerts about tampering.
fn raised(log: &AuditLog) -> usize {
    log.alerts().list().unwrap().iter().filter(|state| state.alert.rule == "tampering").count()
}

/// A machine's clock was wrong once, when its battery was empty: the purges before that looked premature for good. The finding
/// was settled, and the next verification raised it again; it was settled four times, and `health` said each time that nobody
/// had settled it.
#[test]
fn what_cannot_be_undone_is_settled_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("s"), clock());
    let log = options(&clock, 1).create(&path).unwrap();
    log.record(ToolCall::new("c", "u", "search")).unwrap();
    log.close().unwrap();
    clock.set("2041-01-01".parse().unwrap());
    let log = options(&clock, 2).open(&path).unwrap();
    log.retention().confirm_clock(Justification { actor: "ops", reason: "it is 2041" }).unwrap();
    log.retention().purge("ops").unwrap();
    log.close().unwrap();
    clock.set("2037-01-01".parse().unwrap());
    let log = options(&clock, 3).open(&path).unwrap();
    log.record(ToolCall::new("c", "u", "search")).unwrap();
    log.close().unwrap();
    clock.set("2041-01-02".parse().unwrap());
    let log = options(&clock, 4).open(&path).unwrap();

    let mut engine = log.alerts().engine_with(Rules::built_in()).unwrap();
    let found = engine.verify_once(&VerifyOptions::new()).unwrap();
    assert!(found.findings.iter().all(|f| f.kind == FindingKind::PurgedEarly && f.settled.is_none()) && !found.ok());
    assert_eq!(raised(&log), 1);
    let by = Justification { actor: "ops", reason: "the battery was empty" };
    let receipt = log.verifications().settle(by, &VerifyOptions::new(), NotFound::Refuse).unwrap().receipt;

    for _ in 0..2 {
        log.record(ToolCall::new("c", "u", "search")).unwrap();
        let again = engine.verify_once(&VerifyOptions::new()).unwrap();
        assert!(again.is_settled() && !again.ok(), "a settled finding is a finding: {:?}", again.findings);
        let settled = again.findings[0].settled.clone().unwrap();
        assert_eq!((settled.seq, settled.actor.as_str()), (receipt.seq, "ops"));
        assert_eq!(settled.to_string(), format!("settled in entry {} by ops: the battery was empty", receipt.seq));
        assert_eq!(again.to_json().get("unsettled").and_then(attestlog::json::Json::as_u64), Some(0));
        assert_eq!(raised(&log), 1, "nothing is raised again");
        log.verifications().note(&again).unwrap();
        let known = log.verifications().known().unwrap();
        assert!(known.found.is_none() && known.last.is_some_and(|last| last.ok() && last.settled > 0));
        let concerns = log.health().unwrap().concerns();
        assert!(concerns.iter().all(|concern| !concern.contains("settled")), "{concerns:?}");
    }
    assert_eq!(verify(&log).findings.len(), found.findings.len());
}

/// A store of which an older copy, keys included, was put in its place, and the checkpoint that an anchor has of what was lost.
fn rolled_back(dir: &Path, clock: &Arc<ManualClock>) -> (AuditLog, VerifyOptions) {
    let (path, keys, kept) = (dir.join("s"), dir.join("s.key"), dir.join("kept"));
    let record = || {
        let log = keyed(clock).open_or_create(&path).unwrap();
        log.record(ToolCall::new("c", "u", "search")).unwrap();
        let checkpoint = log.checkpoint().unwrap().to_string();
        log.close().unwrap();
        checkpoint
    };
    record();
    let older = [&path, &keys].map(|file| (file, std::fs::read(file).unwrap()));
    std::fs::write(&kept, record()).unwrap();
    for (file, bytes) in older {
        std::fs::write(file, bytes).unwrap();
    }
    let evidence = Evidence::read(&kept, &[]).unwrap();
    (keyed(clock).open(&path).unwrap(), VerifyOptions::new().against(evidence.kept))
}

/// An older copy of a store was put in its place, and `verify` with the checkpoint that an anchor had found the rollback.
/// `alerts settle` had no such evidence, said "settled" and took the finding out of `health`, while its entry named nothing: the
/// next verification with the same checkpoint found it as news.
#[test]
fn what_was_found_against_evidence_is_settled_with_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let (log, against) = rolled_back(dir.path(), &clock);
    let found = log.verify(&against).unwrap();
    assert!(found.findings.iter().any(|f| f.kind == FindingKind::Rollback), "{:?}", found.findings);
    log.verifications().note(&found).unwrap();
    let by = Justification { actor: "ops", reason: "the backup of Monday, ticket 7" };
    // Neither without evidence, nor with evidence that shows nothing of it, nor by a verification that finds something else.
    let size = log.size().unwrap();
    let own = log.public_key().unwrap().unwrap();
    let other = keyed(&clock).create(dir.path().join("other")).unwrap().public_key().unwrap().unwrap();
    log.verifications().note(&log.verify(&VerifyOptions::new().public_key(other.clone())).unwrap()).unwrap();
    for options in [VerifyOptions::new(), VerifyOptions::new().public_key(own), VerifyOptions::new().public_key(other)]
    {
        let refused = log.verifications().settle(by, &options, NotFound::Refuse).unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("rollback"), "{refused}");
        assert_eq!(log.size().unwrap(), size, "nothing was settled");
        assert!(log.verifications().known().unwrap().found.unwrap().kinds.contains(&"rollback".to_owned()));
    }
    // The mistake with the key is not found any more, and somebody says so.
    let settled = log.verifications().settle(by, &against, NotFound::Settle).unwrap();
    assert_eq!(settled.settled.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::Rollback]);
    assert_eq!(settled.not_found, ["key_mismatch", "signature_invalid"]);
    assert!(log.verifications().known().unwrap().found.is_none());
    let again = log.verify(&against).unwrap();
    assert_eq!(again.findings[0].kind, FindingKind::Fork, "the log has grown: {:?}", again.findings);
    assert!(again.is_settled(), "{:?}", again.findings);
}

/// Only facts stay settled: that another key was given says nothing about the log.
#[test]
fn a_mistake_with_the_key_does_not_stay_settled() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let (log, against) = rolled_back(dir.path(), &clock);
    let other = keyed(&clock).create(dir.path().join("other")).unwrap().public_key().unwrap().unwrap();
    let foreign = VerifyOptions::new().public_key(other.clone());
    log.verifications().note(&log.verify(&foreign).unwrap()).unwrap();
    assert_eq!(log.verifications().known().unwrap().found.unwrap().kinds, ["key_mismatch", "signature_invalid"]);

    let by = Justification { actor: "ops", reason: "the wrong key was given" };
    log.verifications().settle(by, &against.public_key(other), NotFound::Refuse).unwrap();
    // The checkpoint that was compared this time is a finding of its own.
    assert_eq!(log.verifications().known().unwrap().found.unwrap().kinds, ["signature_invalid"]);
    let again = log.verify(&foreign).unwrap();
    assert!(!again.is_settled(), "no fact, so it does not stay settled: {:?}", again.findings);
    log.verifications().note(&again).unwrap();
    assert!(log.health().unwrap().concerns().iter().any(|concern| concern.contains("key_mismatch")));
}

/// What answers are read from can be damaged further without the finding saying anything else: one byte of an index's times was
/// settled, and another that hid sixty entries from queries raised nothing, for it was the same finding.
#[test]
fn damage_does_not_stay_settled() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let path = dir.path().join("s");
    let log = options(&clock, 1).create(&path).unwrap();
    log.record(ToolCall::new("c", "u", "search")).unwrap();
    log.flush_index().unwrap();
    log.close().unwrap();
    let bytes = edit(&std::fs::read(&path).unwrap(), |write| {
        write.open_table(ROLLUPS).unwrap().retain(|_, _| false).unwrap();
    });
    std::fs::write(&path, bytes).unwrap();
    let log = options(&clock, 2).open(&path).unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(
        found.findings.iter().all(|f| f.kind == FindingKind::RollupMismatch) && !found.ok(),
        "{:?}",
        found.findings
    );
    log.verifications().note(&found).unwrap();
    let by = Justification { actor: "ops", reason: "the disk" };
    let settled = log.verifications().settle(by, &VerifyOptions::new(), NotFound::Refuse).unwrap();
    assert_eq!(settled.settled.len(), found.findings.len());
    assert!(log.verifications().known().unwrap().found.is_none(), "somebody has looked into it");
    assert!(log.verify(&VerifyOptions::new()).unwrap().unsettled().count() > 0, "and it is found until it is repaired");
}
