//! Promise: tampering that a scheduled verification finds raises one alert.

use attestlog::alert::{Callback, Rules, Severity};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Options, ToolCall};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A log with calls, some of which somebody has edited in the file: a name was replaced by another of the same length.
fn edited(path: &Path, indexed: bool) -> AuditLog {
    let log = Options::new().background(false).create(path).unwrap();
    for i in 0..50 {
        log.record(call("marker_user", &format!("P-{i}"))).unwrap();
    }
    if indexed {
        log.flush_index().unwrap();
    }
    log.close().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let at: Vec<usize> = bytes.windows(11).enumerate().filter(|(_, w)| w == b"marker_user").map(|(i, _)| i).collect();
    assert!(!at.is_empty());
    for at in at {
        bytes[at..at + 11].copy_from_slice(b"nobody_here");
    }
    std::fs::write(path, bytes).unwrap();
    Options::new().background(false).open(path).unwrap()
}

fn call(user: &str, patient: &str) -> ToolCall {
    ToolCall::new("c", user, "read_chart").patient(patient)
}

#[test]
fn tampering_found_by_a_verification_is_alerted_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = edited(&dir.path().join("s"), true);
    let mut engine = log.alerts().engine_with(Rules::built_in()).unwrap();
    assert!(!engine.verify_once(&VerifyOptions::new()).unwrap().ok());
    engine.verify_once(&VerifyOptions::new()).unwrap();
    let alerts: Vec<_> = log.alerts().list().unwrap().into_iter().filter(|s| s.alert.rule == "tampering").collect();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].alert.severity, Severity::Critical);
}

/// If an edited entry is in no index batch, nothing can be recorded, including the alert about it: the list of alerts was
/// empty, the error did not mention a finding, and no receiver was told. Now the error does, receivers are told without an
/// entry, and the finding is kept beside the store.
#[test]
fn tampering_that_keeps_alerts_from_being_recorded_is_told_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let log = edited(&dir.path().join("s"), false);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = |heard: &Arc<Mutex<Vec<_>>>| {
        let heard = heard.clone();
        Callback::new("pager", move |alert: &attestlog::alert::Alert| {
            heard.lock().unwrap().push(alert.clone());
            Ok(())
        })
    };
    let mut engine = log.alerts().engine_with(Rules::built_in()).unwrap().deliver_to(hears(&heard));
    let told = engine.verify_once(&VerifyOptions::new()).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Damaged);
    assert!(told.to_string().contains("things wrong, which cannot be recorded as an alert"), "{told}");
    assert_eq!(log.alerts().list().unwrap_err().kind(), ErrorKind::Damaged);
    assert!(log.despite_damage().alerts().list().unwrap().is_empty());
    engine.verify_once(&VerifyOptions::new()).unwrap_err();
    {
        let heard = heard.lock().unwrap();
        let [alert] = &heard[..] else { panic!("it was told {} times", heard.len()) };
        assert!(!alert.recorded && alert.rule == "tampering" && alert.id.starts_with("tampering:"), "{alert:?}");
        let json = alert.to_json().to_canonical().to_string();
        assert!(json.contains(r#""recorded":false"#) && json.contains(r#""seq":null"#), "{json}");
    }
    // In the background too.
    heard.lock().unwrap().clear();
    let engine = log.alerts().engine_with(Rules::built_in()).unwrap().deliver_to(hears(&heard));
    let running = engine.verify_every(std::time::Duration::from_millis(1)).start().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while heard.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < until, "nobody was told: {:?}", running.status());
        std::thread::yield_now();
    }
    running.stop();
    let noted = log.verifications().known().unwrap().found.unwrap();
    assert!(noted.findings > 0 && noted.kinds.iter().any(|kind| kind == "entry_changed"), "{noted:?}");
}
