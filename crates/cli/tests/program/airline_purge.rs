//! Retention on real input: an airline's agent, with financial tools among the others, two and eight years later.

use crate::common::{Place, shared};
use attestlog::host::{Clock, ManualClock, SystemClock};
use attestlog::note::SignedCheckpoint;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, Query};
use std::sync::Arc;
use std::time::Duration;

const FILE: &str = "data/tau-bench/gpt-4o-airline.json";
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// The tools that move money, as the policy says.
const POLICY: &str = r#"
[[retention.rules]]
tool = "*_reservation*"
class = "financial"

[[retention.rules]]
tool = "send_certificate"
class = "financial"
"#;

fn open(place: &Place, clock: &Arc<ManualClock>) -> AuditLog {
    Options::new().clock(clock.clone()).background(false).open(place.path("s")).unwrap()
}

#[test]
fn the_rest_goes_after_one_year_and_money_after_seven() {
    let Some(path) = shared(FILE) else { return };
    let place = Place::empty();
    place.write("policy.toml", POLICY);
    place.run(&["init", "s", "--config", "policy.toml"]).ok();
    place.run(&["import", "s", "--format", "openai-chat", path.to_str().unwrap()]).ok();
    let calls = place.count(&["--kind", "tool_call"]);
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let full = std::fs::metadata(place.path("s")).unwrap().len();
    let log = open(&place, &clock);
    let size = log.size().unwrap();
    let lines: Vec<(u64, String, bool)> = log
        .query(&Query::new())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.seq, entry.line().to_string(), entry.line().contains(r#""retention_class":"financial""#)))
        .collect();
    let money = lines.iter().filter(|(_, _, money)| *money).count() as u64;
    assert!(money > 100 && money < calls - 100, "{money} of {calls} calls are financial");
    let checkpoints: Vec<SignedCheckpoint> = vec![log.checkpoint().unwrap()];
    let check = |log: &AuditLog, left: u64| {
        let verification = log.verify(&VerifyOptions::new()).unwrap();
        assert!(verification.ok(), "{:#?}", verification.findings);
        assert_eq!(log.count(&Query::new().kind(attestlog::Kind::ToolCall)).unwrap(), left);
        for old in &checkpoints {
            let proof = log.proofs().consistent(old).unwrap();
            let (old, new) = (old.checkpoint(), proof.checkpoint.checkpoint());
            attestlog::merkle::verify_consistency(old.size(), new.size(), old.root(), new.root(), &proof.proof)
                .unwrap();
        }
        for (seq, line, _) in &lines {
            let Ok(entry) = log.entry(*seq) else { continue };
            assert_eq!(entry.line().to_string(), *line);
            let proof = log.prove(*seq).unwrap().to_string();
            attestlog::proof::check(proof.as_bytes(), &log.public_key().unwrap().unwrap()).unwrap();
        }
    };
    clock.advance(2 * YEAR);
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.classes.get("financial")), (calls - money, None));
    check(&log, money);
    log.close().unwrap();
    let log = open(&place, &clock);
    assert!(log.size().unwrap() > size);
    clock.advance(6 * YEAR);
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.classes.get("financial")), (money, Some(&money)));
    check(&log, 0);
    // Nothing of any call is in the file any more, and the file is small.
    log.close().unwrap();
    let stored = std::fs::read(place.path("s")).unwrap();
    assert!((stored.len() as u64) < full, "{} of {full} bytes", stored.len());
    for user in ["mia_li_3668", "sofia_kim_7287", "book_reservation", "task-0-trial-0"] {
        let bytes = user.as_bytes();
        assert!(
            !stored.windows(bytes.len()).any(|w| w == bytes) || user.contains("certificate"),
            "{user} is in the file"
        );
    }
}
