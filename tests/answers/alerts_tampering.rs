//! Promise: tampering that a scheduled verification finds is alerted, once.

use attestlog::alert::{AlertEngine, Rules, Severity};
use attestlog::{Options, ToolCall, VerifyOptions};

fn call(user: &str, patient: &str) -> ToolCall {
    ToolCall::new("c", user, "read_chart").patient(patient)
}

#[test]
fn tampering_found_by_a_verification_is_alerted_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = Options::new().background(false).create(&path).unwrap();
    for i in 0..50 {
        log.record(call("marker_user", &format!("P-{i}"))).unwrap();
    }
    // Of what no index batch covers nothing more would be recorded, alerts neither.
    log.flush_index().unwrap();
    log.close().unwrap();
    // Somebody edits the file: an equally long name in place of another.
    let mut bytes = std::fs::read(&path).unwrap();
    let at: Vec<usize> = bytes.windows(11).enumerate().filter(|(_, w)| w == b"marker_user").map(|(i, _)| i).collect();
    assert!(!at.is_empty());
    for at in at {
        bytes[at..at + 11].copy_from_slice(b"nobody_here");
    }
    std::fs::write(&path, bytes).unwrap();
    let log = Options::new().background(false).open(&path).unwrap();
    let engine = AlertEngine::with_rules(&log, Rules::built_in()).unwrap();
    assert!(!engine.verify_once(&VerifyOptions::new()).unwrap().ok());
    engine.verify_once(&VerifyOptions::new()).unwrap();
    let alerts: Vec<_> = log.alerts().unwrap().into_iter().filter(|s| s.alert.rule == "tampering").collect();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].alert.severity, Severity::Critical);
}
