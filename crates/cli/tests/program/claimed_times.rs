//! Promise: the time of a call is its caller's claim. Wherever it is shown, it is marked if the log's own clock contradicts
//! it, and a call that is long past when it is recorded counts as history.

use crate::common::{Place, json};
use attestlog::alert::Rules;
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::{AuditLog, Kind, Options, Outcome, Query, Timestamp, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// A call of January that is recorded now, and one of a year in the future.
fn claims() -> Place {
    let call = |time: &str, user: &str| {
        crate::common::call("c", user, "get_chart", &format!(r#""patient_id":"P-1","timestamp":"{time}""#))
    };
    Place::with_lines(&[call("2025-01-10T10:00:00Z", "dr_a"), call("2099-01-01T00:00:00Z", "dr_b")].concat())
}

/// A report for a court showed accesses "since January" that had all been recorded on one evening in November, and one of
/// the year 2030, as ordinary rows: the only time in any format but FHIR was the caller's.
#[test]
fn every_form_of_a_report_marks_times_that_the_logs_clock_does_not_bear_out() {
    let place = claims();
    let report = |format: &str| place.run(&["report", "access", "s", "--patient", "P-1", "--format", format]).ok();
    let value = json(&report("json"));
    let marks = value.get("accesses").unwrap().as_array().unwrap().iter().map(|row| {
        assert!(row.get("recorded_at").and_then(Json::as_str).unwrap().parse::<Timestamp>().is_ok());
        row.get("claimed_time").and_then(Json::as_str).unwrap().to_owned()
    });
    assert_eq!(marks.collect::<Vec<_>>(), ["recorded_later", "in_future"]);
    let number = |name: &str| value.get(name).and_then(Json::as_u64);
    assert_eq!((number("recorded_later"), number("in_future")), (Some(1), Some(1)));
    assert_eq!(number("claimed_time_bound_seconds"), Some(3600));
    for (format, later, future) in [
        ("text", "days later)", "days in the future)"),
        ("html", "days later)", "days in the future)"),
        ("csv", ",recorded_later,", ",in_future,"),
    ] {
        let out = report(format);
        assert!(out.contains(later) && out.contains(future), "{format}: {out}");
        assert!(out.contains("1 of 2 were recorded later than the"), "{format} counts them: {out}");
    }
    for (command, more) in [("query", &["s"][..]), ("timeline", &["s", "c"])] {
        let out = place.run(&[&[command], more].concat()).ok();
        assert!(out.contains("days later") && out.contains("days in the future"), "{command}: {out}");
    }
    let ocsf = place.run(&["export", "s", "--format", "ocsf"]).ok();
    assert!(ocsf.contains(r#""claimed_time":"recorded_later""#) && ocsf.contains(r#""recorded_at":"#), "{ocsf}");
}

/// Calls that named a time in the next year were in no accounting of disclosures, which ends at the present, and in no
/// report of the month in which they were recorded: "0 disclosures by 0 users", verified.
#[test]
fn nobody_leaves_a_report_by_claiming_another_time() {
    let place = claims();
    let report = place.run(&["report", "disclosures", "s", "--patient", "P-1", "--format", "json"]).json();
    assert_eq!(report.get("total_accesses").and_then(Json::as_u64), Some(2));
    let now = attestlog::host::Clock::now(&attestlog::host::SystemClock::default());
    // Even if the day ends in between.
    let today = &now.minus(HOUR).to_string()[..10];
    let args = ["report", "access", "s", "--patient", "P-1", "--format", "json", "--since", today];
    let report = place.run(&args).json();
    assert_eq!(report.get("total_accesses").and_then(Json::as_u64), Some(2));
    assert_eq!(report.get("recorded_later").and_then(Json::as_u64), Some(1));
}

#[test]
fn how_far_apart_times_may_lie_is_configurable() {
    let place = claims();
    let args = ["report", "access", "s", "--patient", "P-1", "--format", "json", "--claimed-time-bound"];
    let report = place.run(&[&args[..], &["40000d"]].concat()).json();
    assert_eq!(report.get("recorded_later").and_then(Json::as_u64), Some(0));
    place.run(&[&args[..], &["soon"]].concat()).code(2);
    // A time close to that of recording is not marked.
    let place = Place::with_lines(&crate::common::call("c", "u", "t", r#""patient_id":"P-1""#));
    let text = place.run(&["report", "access", "s", "--patient", "P-1"]).ok();
    assert!(!text.contains("Times ") && !text.contains("recorded:"), "{text}");
}

fn log() -> (AuditLog, Arc<ManualClock>) {
    // A Sunday.
    let clock = Arc::new(ManualClock::at("2026-11-29T10:00:00Z".parse().unwrap()));
    (Options::new().clock(clock.clone()).in_memory().unwrap(), clock)
}

fn raised(log: &AuditLog) -> Vec<String> {
    log.alerts().engine_with(every_rule()).unwrap().run_once().unwrap();
    log.alerts().list().unwrap().into_iter().map(|state| state.alert.rule).collect()
}

fn every_rule() -> Rules {
    let hours = attestlog::alert::Hours::new(attestlog::alert::Zone::utc());
    let off_hours = Rules::optional("off-hours").unwrap().off_hours(hours);
    let rules = Rules::built_in().with(Rules::optional("first-access").unwrap()).unwrap();
    rules.with(off_hours).unwrap()
}

/// Half a year of ordinary calls, recorded in one go, raised 18,032 alerts: ten calls from ten months counted as "10 calls
/// within an hour", they were recorded on a Sunday and so were all off-hours, and each patient was a first access.
#[test]
fn history_raises_one_alert_that_says_so() {
    let (log, _) = log();
    for month in 1..=12 {
        let at: Timestamp = format!("2025-{month:02}-10T10:00:00Z").parse().unwrap();
        let call = ToolCall::new("c", "dr_a", "get_chart").patient("P-1").timestamp(at);
        log.record(call.outcome(Outcome::ToolError)).unwrap();
    }
    assert_eq!(raised(&log), ["back-dated"]);
    assert!(raised(&log).len() == 1, "and only once");
}

#[test]
fn whoever_dates_calls_back_does_not_stay_unnoticed() {
    let (log, clock) = log();
    let past = |hours: u32| "2026-11-29T10:00:00Z".parse::<Timestamp>().unwrap().minus(HOUR * hours);
    // Emergencies count whatever time they name.
    log.record(ToolCall::new("c", "u", "t").patient("P-1").emergency(None).timestamp(past(5))).unwrap();
    let rules = raised(&log);
    assert!(rules.contains(&"back-dated".to_owned()) && rules.contains(&"break-glass-used".to_owned()), "{rules:?}");
    // A call that took long is not history: it has ended just now. Nor is the end of a call whose beginning was seen.
    let long = ToolCall::new("c", "v", "t").patient("P-2").timestamp(past(3)).duration(3 * HOUR);
    log.record(long).unwrap();
    let begun = log.begin(ToolCall::new("c", "w", "t").patient("P-3")).unwrap();
    clock.advance(3 * HOUR);
    begun.finish(|call| call.outcome(Outcome::Ok)).unwrap();
    let first = raised(&log).into_iter().filter(|rule| rule == "first-access").count();
    assert_eq!(first, 2);
}

#[test]
fn rules_that_would_drown_a_log_are_off_until_they_are_asked_for() {
    let (log, _) = log();
    log.record(ToolCall::new("c", "u", "t").patient("P-1")).unwrap();
    log.alerts().engine().unwrap().run_once().unwrap();
    assert_eq!(log.count(&Query::new().kind(Kind::Alert)).unwrap(), 0);
    // And off-hours requires a time zone.
    let e = Rules::built_in().with(Rules::optional("off-hours").unwrap()).unwrap_err();
    assert!(e.to_string().contains("time zone"), "{e}");
}
