//! Promise: what a verification found and somebody has settled is shown as settled, and not raised again.

use super::store_common::{clock, options};
use attestlog::alert::Rules;
use attestlog::verify::{FindingKind, Verification, VerifyOptions};
use attestlog::{AuditLog, Justification, ToolCall};

fn verify(log: &AuditLog) -> Verification {
    log.verify(&VerifyOptions::new()).unwrap()
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
    let receipt = log.verifications().settle(by).unwrap();

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
