//! Promise: the entries of one call are kept, held, purged and erased together, and so are an emergency grant and the
//! calls under it.

use attestlog::emergency::EmergencyAccess;
use attestlog::entry::{Source, SourceKind};
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::query::Statistics;
use attestlog::redact::{Action, Policy, Preset};
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Justification, Options, Outcome, PolicySet, Query, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(366 * 86_400);
const BY: Justification<'static> = Justification { actor: "counsel", reason: "lawsuit" };

fn log() -> (AuditLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
    (Options::new().clock(clock.clone()).background(false).in_memory().unwrap(), clock)
}

#[track_caller]
fn clean(log: &AuditLog) {
    let found = log.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.is_empty(), "{found:#?}");
}

fn there(log: &AuditLog, seqs: &[u64]) -> Vec<bool> {
    seqs.iter().map(|seq| log.entry(*seq).is_ok()).collect()
}

fn seen(mut call: ToolCall) -> ToolCall {
    call.circumstances.sources.push(Source::new(SourceKind::Proxy));
    call
}

/// A call of which only the late answer names the patient: its beginning, the end that gave it up, the answer.
fn answered_late(log: &AuditLog, patient: &str) -> [u64; 3] {
    let begun = log.begin(seen(ToolCall::new("c", "dr", "search"))).unwrap();
    let first = begun.receipt().seq;
    let gave_up = begun.finish(|call| call.outcome(Outcome::Timeout)).unwrap().seq;
    let mut late = seen(ToolCall::new("c", "dr", "search").patient(patient).follow_up_of(gave_up));
    late.late_answer = true;
    [first, gave_up, log.record(late).unwrap().seq]
}

/// A purge took the beginning of a call and the entry that gave it up, which were kept for a year, and left the late answer,
/// which named a patient and was kept for six: statistics no longer counted a call that was in the log.
#[test]
fn the_entries_of_a_call_leave_together() {
    let (log, clock) = log();
    let call = answered_late(&log, "P-9");
    let unfinished = log.begin(ToolCall::new("c", "dr", "search")).unwrap();
    let alone = unfinished.receipt().seq;
    drop(unfinished);
    let whole = log.record(ToolCall::new("c", "dr", "search")).unwrap().seq;
    let begun = log.begin(ToolCall::new("c", "dr", "search")).unwrap();
    let first = begun.receipt().seq;
    let end = begun.finish(|call| call.patient("P-9")).unwrap().seq;
    clock.advance(YEAR + 30 * DAY);
    let plan = log.retention().plan().unwrap();
    assert_eq!(log.retention().purge("ops").unwrap().purged, 2);
    assert_eq!(plan.expired.iter().collect::<Vec<_>>(), [alone, whole]);
    assert_eq!(there(&log, &call), [true; 3]);
    assert_eq!(there(&log, &[first, end, alone, whole]), [true, true, false, false]);
    let counted = log.statistics(&Statistics::new()).unwrap();
    assert_eq!(counted.iter().map(|of| of.total_calls).sum::<u64>(), 2);
    clean(&log);
    clock.advance(5 * YEAR);
    assert_eq!(log.retention().purge("ops").unwrap().purged, 5);
    assert!(log.statistics(&Statistics::new()).unwrap().is_empty());
    clean(&log);
}

/// A hold on a patient whom only the late answer named did not keep the rest of the call.
#[test]
fn a_hold_on_any_entry_keeps_the_call() {
    let (log, clock) = log();
    let (held, free) = (answered_late(&log, "P-9"), answered_late(&log, "P-8"));
    let mut on = HoldSelector::default();
    on.patients.insert("P-9".to_owned());
    let hold = log.retention().place_hold("2026-114", on, BY).unwrap().seq;
    clock.advance(7 * YEAR);
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (3, 3));
    assert_eq!((there(&log, &held), there(&log, &free)), (vec![true; 3], vec![false; 3]));
    clean(&log);
    log.retention().release_hold(hold, BY).unwrap();
    assert_eq!(log.retention().purge("ops").unwrap().purged, 3);
    clean(&log);
}

/// After a purge, reports said of an emergency grant that it was not used: it was kept longer than the calls under it.
#[test]
fn the_calls_under_a_grant_are_kept_as_long_as_the_grant() {
    let (log, clock) = log();
    let access = EmergencyAccess { user: "dr", patient: "P-1", urgency: "immediate", ttl: HOUR };
    let grant = log.emergency().open(access, Justification { actor: "dr", reason: "unconscious" }).unwrap().seq;
    let used = log.record(ToolCall::new("c", "dr", "chart").patient("P-1").emergency(Some(grant))).unwrap().seq;
    let misused = log.record(ToolCall::new("c", "x", "lookup").emergency(Some(grant))).unwrap().seq;
    let odd = log.record(ToolCall::new("c", "x", "lookup").emergency(Some(0))).unwrap().seq;
    let until = |seq: u64| log.entry(seq).unwrap().body.retention.unwrap().until;
    assert!(until(used) >= until(grant) && until(misused) >= until(grant) && until(odd) < until(grant));
    let uses = |log: &AuditLog| {
        let state = log.emergency().grants().unwrap().remove(0);
        (state.uses.iter().map(|used| used.seq).collect::<Vec<_>>(), state.calls_may_be_purged)
    };
    clock.advance(6 * YEAR + 30 * DAY);
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
    assert_eq!(there(&log, &[grant, used, misused, odd]), [true, true, true, false]);
    assert_eq!(uses(&log), (vec![used, misused], false));
    // Nobody has reviewed it, so it stays beyond its time, and so do its calls.
    clock.advance(10 * YEAR);
    log.record(ToolCall::new("c", "y", "lookup")).unwrap();
    clock.advance(2 * YEAR);
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
    assert_eq!(uses(&log), (vec![used, misused], true));
    log.emergency().review(grant, Justification { actor: "office", reason: "justified" }, None).unwrap();
    log.checkpoint().unwrap();
    log.retention().purge("ops").unwrap();
    assert_eq!(there(&log, &[grant, used, misused]), [false; 3]);
    assert_eq!(log.count(&Query::new().emergency()).unwrap(), 0);
    clean(&log);
}

fn sealing() -> AuditLog {
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Default).field("diagnosis", Action::Seal).build().unwrap();
    Options::new().policies(set).background(false).in_memory().unwrap()
}

fn of(tool: &str) -> ToolCall {
    ToolCall::new("c", "dr", tool).arguments(Json::parse(br#"{"diagnosis":"lues"}"#).unwrap().value)
}

fn shown(log: &AuditLog, seq: u64) -> Result<Json, ErrorKind> {
    log.privacy().reveal(seq, "arguments.diagnosis", BY).map_err(|e| e.kind())
}

/// Of a call whose patient only the result named, or only a late answer, an erasure of the patient destroyed what the last entry
/// sealed. The beginning, and the entry that gave the call up, still showed it: they were sealed under the user's key.
#[test]
fn an_erasure_concerns_every_entry_of_a_call() {
    let log = sealing();
    let begun = log.begin(of("search")).unwrap();
    let first = begun.receipt().seq;
    let end = begun.finish(|call| call.patient("P-9").result(Json::from("found"))).unwrap().seq;
    let waiting = log.begin(seen(of("search"))).unwrap();
    let asked = waiting.receipt().seq;
    let gave_up = waiting.finish(|call| call.outcome(Outcome::Timeout)).unwrap().seq;
    let mut late = seen(of("search")).patient("P-9").follow_up_of(gave_up).result(Json::from("found"));
    late.late_answer = true;
    let late = log.record(late).unwrap().seq;
    let others = log.begin(of("search")).unwrap();
    let other = others.receipt().seq;
    let other_end = others.finish(|call| call.patient("P-8").result(Json::from("found"))).unwrap().seq;
    let no_patient = log.record(of("lookup")).unwrap().seq;
    log.privacy().erase("patient:P-9", BY).unwrap();
    for seq in [first, end, asked, gave_up, late] {
        assert_eq!(shown(&log, seq), Err(ErrorKind::NoSuchEntry), "{seq}");
    }
    for seq in [other, other_end, no_patient] {
        assert_eq!(shown(&log, seq), Ok(Json::from("lues")), "{seq}");
    }
    assert_eq!(log.privacy().erase("patient:P-9", BY).unwrap_err().kind(), ErrorKind::NoSuchEntry);
    clean(&log);
}

/// Of the patients whom a late answer named besides the first, an erasure said that nothing was sealed, or that it was
/// done, while the call still showed its values.
#[test]
fn an_erasure_says_what_it_leaves_open() {
    let log = sealing();
    let ended = seen(of("search")).patient("P-1").result(Json::from("found"));
    let ended = log.record(ended).unwrap().seq;
    let mut further = seen(ToolCall::new("c", "dr", "search")).patient("P-2").follow_up_of(ended).outcome(Outcome::Ok);
    let mark = Json::parse(br#"{"further_patients":true}"#).unwrap().value;
    further.session_metadata.insert("mcp", mark);
    log.record(further).unwrap();
    let another = log.record(of("chart").patient("P-1")).unwrap().seq;
    // The key of the first patient seals other calls too.
    let refused = log.privacy().erase("patient:P-2", BY).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(refused.to_string().contains(&format!("entries {ended} ")), "{refused}");
    let own = log.record(of("chart").patient("P-2")).unwrap().seq;
    let erased = log.entry(log.privacy().erase("patient:P-2", BY).unwrap().seq).unwrap();
    let detail = erased.own().unwrap().detail.to_json();
    assert_eq!(detail.get("stays"), Some(&Json::Array(vec![Json::from(ended)])));
    assert!(shown(&log, own).is_err() && shown(&log, ended).is_ok() && shown(&log, another).is_ok());
    log.privacy().erase("patient:P-1", BY).unwrap();
    assert!(shown(&log, ended).is_err() && shown(&log, another).is_err());
    clean(&log);
}

/// A hold on a patient kept what the end of a call sealed from an erasure, and not what its beginning sealed under the user.
#[test]
fn a_hold_on_any_entry_keeps_what_the_call_seals() {
    let log = sealing();
    let begun = log.begin(of("search")).unwrap();
    let first = begun.receipt().seq;
    begun.finish(|call| call.patient("P-9").result(Json::from("found"))).unwrap();
    let mut on = HoldSelector::default();
    on.patients.insert("P-9".to_owned());
    let hold = log.retention().place_hold("2026-114", on, BY).unwrap().seq;
    for subject in ["user:dr", "patient:P-9"] {
        let refused = log.privacy().erase(subject, BY).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{subject}: {refused}");
        assert!(refused.to_string().contains(&format!("hold {hold} ")), "{refused}");
    }
    assert!(shown(&log, first).is_ok());
    log.retention().release_hold(hold, BY).unwrap();
    log.privacy().erase("user:dr", BY).unwrap();
    assert!(shown(&log, first).is_err());
    clean(&log);
}
