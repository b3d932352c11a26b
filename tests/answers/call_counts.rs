//! Timelines, statistics, reports, exports and queries agree on how many calls there are, and how many failed. Invariant R42.

use attestlog::entry::{Source, SourceKind};
use attestlog::json::{Json, Object};
use attestlog::query::{Calls, Statistics};
use attestlog::{AuditLog, Kind, Outcome, Query, ToolCall, Trigger};
use attestlog_report::access::{AccessReport, Context, Subject};
use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
use attestlog_report::ocsf::{OcsfOptions, OcsfWriter};
use proptest::prelude::*;

/// One call of a history.
#[derive(Debug, Clone)]
enum Made {
    /// A host recorded it: whether in two steps, and whether it went well.
    Whole { steps: bool, well: bool },
    /// A host began it, and died.
    Begun,
    /// An import found it without an answer; what the grown file had later, if anything.
    Imported { late: Option<bool> },
    /// The proxy saw it: how it ended, whether in two steps, which answers came late, and whether patients did not fit.
    Proxied { end: Outcome, steps: bool, late: Vec<bool>, chained: bool, patients: bool },
}

fn made() -> impl Strategy<Value = Made> {
    let end = prop_oneof![
        Just(Outcome::Ok),
        Just(Outcome::Timeout),
        Just(Outcome::Abandoned),
        Just(Outcome::ToolError),
        Just(Outcome::ProtocolError),
    ];
    let late = proptest::collection::vec(any::<bool>(), 0..3);
    prop_oneof![
        (any::<bool>(), any::<bool>()).prop_map(|(steps, well)| Made::Whole { steps, well }),
        Just(Made::Begun),
        any::<Option<bool>>().prop_map(|late| Made::Imported { late }),
        (end, any::<bool>(), late, any::<bool>(), any::<bool>()).prop_map(|(end, steps, late, chained, patients)| {
            Made::Proxied { end, steps, late, chained, patients }
        }),
    ]
}

fn call(by: Option<SourceKind>) -> ToolCall {
    let mut call = ToolCall::new("c", "u", "t");
    call.circumstances.sources.extend(by.map(Source::new));
    call
}

fn outcome(well: bool) -> Outcome {
    if well { Outcome::Ok } else { Outcome::ToolError }
}

fn late(by: SourceKind, follows: u64, well: bool) -> ToolCall {
    let mut late = call(Some(by)).follow_up_of(follows).outcome(outcome(well));
    late.late_answer = true;
    late
}

/// What the counts should be: calls, failures, calls without an end, and entries that are parts of calls.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    calls: u64,
    failed: u64,
    unfinished: u64,
    parts: u64,
    details: u64,
}

impl Expected {
    /// Records what another source tells later of the newest entry: how long it took, or another end and a patient.
    fn detail(&mut self, log: &AuditLog, how: u8) {
        let of = log.size().unwrap() - 1;
        for n in 0..how % 3 {
            let told = call(Some(SourceKind::Telemetry)).detail_of(of).duration(std::time::Duration::from_millis(7));
            let told = if how % 2 == n {
                told
            } else {
                told.outcome(outcome(how % 4 < 2)).patient("P-8").contradicts(["outcome"])
            };
            log.record(told).unwrap();
            self.details += 1;
        }
    }

    /// Records the call; late answers are returned, to be recorded later.
    fn record(&mut self, log: &AuditLog, made: &Made) -> Vec<(SourceKind, u64, bool, bool)> {
        self.calls += 1;
        let ended = |by, steps: bool, outcome: Outcome| match steps {
            true => log.begin(call(by)).unwrap().finish(|call| call.outcome(outcome)).unwrap().seq,
            false => log.record(call(by).outcome(outcome)).unwrap().seq,
        };
        match made {
            Made::Whole { steps, well } => {
                self.failed += u64::from(!well);
                ended(None, *steps, outcome(*well));
                Vec::new()
            }
            Made::Begun => {
                self.unfinished += 1;
                drop(log.begin(call(None)).unwrap());
                Vec::new()
            }
            Made::Imported { late } => {
                let by = SourceKind::Import;
                let seq = ended(Some(by), false, Outcome::Abandoned);
                self.failed += u64::from(*late != Some(true));
                self.parts += u64::from(late.is_some());
                late.iter().map(|well| (by, seq, *well, false)).collect()
            }
            Made::Proxied { end, steps, late, chained, patients } => {
                let by = SourceKind::Proxy;
                let seq = ended(Some(by), *steps, *end);
                if *patients {
                    let mcp = Object::from_iter([("further_patients", true)]);
                    let further = call(Some(by)).follow_up_of(seq).metadata("mcp", mcp).outcome(*end);
                    log.record(further.patient("P-9")).unwrap();
                    self.parts += 1;
                }
                if *end == Outcome::Ok {
                    return Vec::new();
                }
                self.failed += u64::from(!late.contains(&true));
                self.parts += late.len() as u64;
                late.iter().map(|well| (by, seq, *well, *chained)).collect()
            }
        }
    }
}

/// All counts of the log by one of the ways to count, for the message if they differ.
fn counts(log: &AuditLog) -> Vec<(&'static str, u64, u64, u64)> {
    let entries: Vec<_> = log.query(&Query::new()).unwrap().map(Result::unwrap).collect();
    let mut of_entries = Calls::new();
    entries.iter().for_each(|entry| _ = of_entries.take(entry));
    let mut of_timeline = Calls::new();
    log.timeline("c").unwrap().for_each(|step| _ = of_timeline.take(&step.unwrap().entry));
    assert_eq!((of_entries.alone(), of_timeline.alone()), (0, 0));
    let tools = log.statistics(&Statistics::new()).unwrap();
    let (ended, successes, unfinished) = tools.iter().fold((0, 0, 0), |(ended, successes, unfinished), tool| {
        (ended + tool.total_calls, successes + tool.successes, unfinished + tool.unfinished)
    });
    let report = AccessReport::of(Context::new(Subject::User("u".to_owned())), &entries);
    let totals = report.totals();
    let rows = report.rows().iter().flat_map(|row| row.entries()).count() as u64;
    assert_eq!(rows, entries.iter().filter(|entry| entry.call().is_some()).count() as u64, "each entry is in one row");
    vec![
        ("entries", of_entries.calls(), of_entries.failed(), of_entries.unfinished()),
        ("timeline", of_timeline.calls(), of_timeline.failed(), of_timeline.unfinished()),
        ("statistics", ended + unfinished, ended - successes, unfinished),
        ("report", totals.accesses, totals.failed, totals.unfinished),
    ]
}

/// The number of events of the exports, and of those that failed.
fn events(log: &AuditLog) -> [(u64, u64); 2] {
    let mut ocsf = OcsfWriter::new(Vec::new(), OcsfOptions::default());
    let mut fhir = FhirWriter::new(Vec::new(), FhirRelease::R4, FhirForm::Ndjson, FhirOptions::default());
    for entry in log.query(&Query::new()).unwrap() {
        let entry = entry.unwrap();
        ocsf.write(&entry).unwrap();
        fhir.write(&entry).unwrap();
    }
    let lines = |text: Vec<u8>, failed: fn(&Json) -> bool| {
        let text = String::from_utf8(text).unwrap();
        let all: Vec<Json> = text.lines().map(|line| Json::parse(line.as_bytes()).unwrap().value).collect();
        // An event of its own for patients of another event says so.
        let whole = all.iter().filter(|event| !event.to_canonical().as_str().contains("part_of"));
        whole.fold((0, 0), |(calls, bad), event| (calls + 1, bad + u64::from(failed(event))))
    };
    [
        lines(ocsf.finish().unwrap(), |event| event.get("status_id").and_then(Json::as_u64) == Some(2)),
        lines(fhir.finish().unwrap(), |event| {
            let detail = |one: &Json| one.get("type").and_then(Json::as_str) == Some("outcome");
            let entities = event.get("entity").and_then(Json::as_array).unwrap_or_default();
            let details = entities.iter().filter_map(|entity| entity.get("detail")?.as_array()).flatten();
            let outcome = details.filter(|one| detail(one)).find_map(|one| one.get("valueString")?.as_str());
            !matches!(outcome, Some("ok" | "unfinished"))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A call that had timed out and whose late answer was an error stood as "1 call, 2 failed" at the head of its timeline;
    /// statistics and reports said 1 and 1, and exports had two events. A call that never ended was in a timeline and in a report,
    /// and statistics did not mention it. A late answer that was a success was one for reports and none for statistics [R42].
    #[test]
    fn every_way_to_count_calls_gives_the_same(history in proptest::collection::vec((made(), 0..12u8), 0..12), soon in any::<u32>()) {
        let log = AuditLog::in_memory().unwrap();
        let (mut expected, mut later) = (Expected::default(), Vec::new());
        for (i, (made, told)) in history.iter().enumerate() {
            let mut answers = expected.record(&log, made);
            expected.detail(&log, *told);
            if soon >> i & 1 == 1 {
                answer(&log, std::mem::take(&mut answers));
            }
            later.push(answers);
        }
        later.into_iter().rev().for_each(|answers| answer(&log, answers));
        let Expected { calls, failed, unfinished, parts, details } = expected;
        for (how, n, bad, open) in counts(&log) {
            prop_assert_eq!((n, bad, open), (calls, failed, unfinished), "{}: {:?}", how, history);
        }
        for exported in events(&log) {
            prop_assert_eq!(exported, (calls, failed), "{:?}", history);
        }
        // A query counts entries: without those that are parts of a call it is the number of calls that ended.
        let entries = log.count(&Query::new().kind(Kind::ToolCall)).unwrap();
        let follow_ups = log.query(&Query::new().trigger(Trigger::FollowUp)).unwrap();
        let added = follow_ups.filter(|entry| entry.as_ref().unwrap().call().unwrap().adds_to_call()).count() as u64;
        prop_assert_eq!((added, entries - added), (parts, calls - unfinished));
        prop_assert_eq!(log.count(&Query::new().kind(Kind::CallDetail)).unwrap(), details);
        log.flush_index().unwrap();
        for (how, n, bad, open) in counts(&log) {
            prop_assert_eq!((n, bad, open), (calls, failed, unfinished), "{} of the index: {:?}", how, history);
        }
        prop_assert_eq!(log.count(&Query::new().unfinished()).unwrap(), unfinished);
    }
}

/// Records the late answers to one call. In a chain each follows the one before, as long as that was no success.
fn answer(log: &AuditLog, answers: Vec<(SourceKind, u64, bool, bool)>) {
    let mut last = None;
    for (by, seq, well, chained) in answers {
        let follows = last.filter(|_| chained).unwrap_or(seq);
        let recorded = log.record(late(by, follows, well)).unwrap().seq;
        last = Some(recorded).filter(|_| !well).or(last);
    }
}

/// Of a tool that had only ever crashed its host there was no row at all; and days and tools divide the calls without an end as
/// they divide the others.
#[test]
fn statistics_say_how_many_calls_never_ended() {
    let log = AuditLog::in_memory().unwrap();
    let at = |tool: &str, time: &str| {
        drop(log.begin(ToolCall::new("c", "u", tool).timestamp(time.parse().unwrap())).unwrap());
    };
    at("crash", "2026-03-02T10:00:00Z");
    at("crash", "2026-03-04T10:00:00Z");
    at("mixed", "2026-03-04T10:00:00Z");
    log.record(ToolCall::new("c", "u", "mixed").timestamp("2026-03-04T10:00:00Z".parse().unwrap()).result(true))
        .unwrap();
    let of = |statistics: Statistics| -> Vec<(String, u64, u64)> {
        let tools = log.statistics(&statistics).unwrap();
        tools.into_iter().map(|tool| (tool.tool, tool.total_calls, tool.unfinished)).collect()
    };
    let row = |tool: &str, calls, unfinished| (tool.to_owned(), calls, unfinished);
    assert_eq!(of(Statistics::new()), [row("crash", 0, 2), row("mixed", 1, 1)]);
    assert_eq!(of(Statistics::new().tool("crash")), [row("crash", 0, 2)]);
    assert_eq!(of(Statistics::new().tool("none")), [row("none", 0, 0)]);
    let from = "2026-03-03".parse().unwrap();
    assert_eq!(of(Statistics::new().since(from)), [row("crash", 0, 1), row("mixed", 1, 1)]);
    assert_eq!(of(Statistics::new().until(from)), [row("crash", 0, 1)]);
    let json = log.statistics(&Statistics::new().tool("crash")).unwrap()[0].to_json();
    assert_eq!(json.get("unfinished").and_then(Json::as_u64), Some(2));
    assert_eq!(json.get("success_rate"), Some(&Json::Null));
}
