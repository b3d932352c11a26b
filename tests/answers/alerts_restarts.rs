//! Promise: when the rules looked, and how often they were restarted, makes no difference to the alerts. Entries from
//! before they started are counted as if the rules had always been running, however few of them are read.

use attestlog::Justification;
use attestlog::alert::{Hours, Measure, Part, Rule, Rules, Zone};
use attestlog::emergency::EmergencyAccess;
use attestlog::host::ManualClock;
use attestlog::{AuditLog, Facet, Kind, Options, Outcome, Query, ToolCall};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Place {
    log: AuditLog,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Place {
        // A Monday.
        let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
        Place { log: Options::new().clock(clock.clone()).in_memory().unwrap(), clock }
    }

    /// Records one of a few kinds of calls.
    fn call(&self, user: usize, patient: usize, what: u8, grant: u64) {
        let patient_id = format!("P-{patient}");
        let tool = ["read_chart", "search", "readChart"][usize::from(what) % 3];
        let call = ToolCall::new("conv_1", format!("u{user}"), tool);
        let named = call.clone().patient(&patient_id);
        match what {
            0 => drop(self.log.record(named.error("denied")).unwrap()),
            1 => {
                let begun = self.log.begin(named).unwrap();
                begun.finish(|call| call.patient("P-0").outcome(Outcome::Timeout)).unwrap();
            }
            // A call without an end.
            2 => drop(self.log.begin(named).unwrap()),
            3 => drop(self.log.record(named.backfilled()).unwrap()),
            4 => drop(self.log.record(named.emergency(Some(grant))).unwrap()),
            5 => drop(self.log.record(named.emergency(None)).unwrap()),
            6 => drop(self.log.record(named.metadata("vip", true)).unwrap()),
            7 => drop(self.log.record(named.patient("P-9").purpose("research")).unwrap()),
            8 => drop(self.log.record(call).unwrap()),
            _ => drop(self.log.record(named).unwrap()),
        }
    }
}

/// One rule of each kind.
fn rules() -> Rules {
    let pair = [Part::USER, Part::PATIENT];
    let baseline = Measure::Baseline { multiple: 1.5, periods: 4, at_least: 3 };
    [
        Rule::new("repeated").key(pair).window(HOUR).count(3),
        Rule::new("anybody").key([Part::PATIENT]).window(HOUR).count(4),
        Rule::new("first").first_access().window(HOUR).count(2),
        Rule::new("new-patients").first_access().window(3 * HOUR).distinct(Facet::Patient, 2),
        Rule::new("many").window(2 * HOUR).distinct(Facet::Patient, 3),
        Rule::new("tools").key(pair).window(HOUR).distinct(Facet::Tool, 2),
        Rule::new("failures").failed(true).window(HOUR).count(2),
        Rule::new("successes").failed(false).window(HOUR).count(3),
        Rule::new("vip").attribute("vip", true).window(HOUR).count(2),
        Rule::new("charts").when(Facet::Tool, "read_chart").except(Facet::Purpose, "research").window(HOUR).count(3),
        Rule::new("patterns").when(Facet::Tool, "se*").when(Facet::Tool, "read_?hart").when(Facet::User, "u*").count(4),
        Rule::new("night").off_hours(Hours::new(Zone::utc())).window(4 * HOUR).count(2),
        Rule::new("volume").window(HOUR).measure(baseline),
        Rule::new("used").emergency(true).key([Part::USER, Part::Grant]).window(2 * HOUR).count(2),
        Rule::new("misused").misused_grant().key([Part::Grant]).window(2 * HOUR).count(2),
    ]
    .into_iter()
    .try_fold(Rules::none(), Rules::with)
    .unwrap()
}

/// The alerts by rule, with the call that fired them and the number of entries.
fn fired(log: &AuditLog) -> Vec<(String, usize, usize)> {
    let query = Query::new().kind(Kind::ToolCall).kind(Kind::CallBegun);
    let calls: Vec<u64> = log.query(&query).unwrap().map(|e| e.unwrap().seq).collect();
    let place = |seq: u64| calls.iter().position(|call| *call == seq).unwrap();
    let told = |alert: attestlog::alert::Alert| {
        let entries = alert.detail.get("entries").unwrap().as_array().unwrap().len();
        (alert.rule, place(alert.crossing), entries)
    };
    log.alerts().list().unwrap().into_iter().map(|state| told(state.alert)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the log is divided into portions, and wherever the engine restarts, the alerts are those of one run over
    /// everything, and those that follow from the rules' definitions.
    #[test]
    fn portions_and_restarts_make_no_difference(
        calls in prop::collection::vec((0usize..3, 0usize..3, 0u64..40, 0u8..14, 0u8..6), 1..80),
    ) {
        let (whole, parts) = (Place::new(), Place::new());
        let mut grant = 0;
        for place in [&whole, &parts] {
            grant = place.log.emergency().open(EmergencyAccess { user: "u0", patient: "P-1", urgency: "immediate", ttl: 5 * HOUR }, Justification { actor: "u0", reason: "unconscious" }).unwrap().seq;
        }
        let mut engine = parts.log.alerts().engine_with(rules()).unwrap();
        for (user, patient, minutes, what, then) in calls {
            for place in [&whole, &parts] {
                place.clock.advance(minutes as u32 * MINUTE);
                place.call(user, patient, what, grant);
            }
            if then < 2 {
                engine = parts.log.alerts().engine_with(rules()).unwrap();
            }
            if then < 4 {
                engine.run_once().unwrap();
            }
        }
        engine.run_once().unwrap();
        whole.log.alerts().engine_with(rules()).unwrap().run_once().unwrap();
        prop_assert_eq!(fired(&whole.log), fired(&parts.log));
    }

    /// Compared with a list of all events, by the definition of the rule.
    #[test]
    fn a_new_engine_counts_what_a_list_counts(
        calls in prop::collection::vec((0usize..2, 0usize..2, 0u64..30), 1..50),
    ) {
        let place = Place::new();
        let (mut list, mut expected, mut now) = (Vec::new(), Vec::new(), Duration::ZERO);
        for (i, (user, patient, minutes)) in calls.into_iter().enumerate() {
            now += minutes as u32 * MINUTE;
            place.clock.advance(minutes as u32 * MINUTE);
            place.call(user, patient, 9, 0);
            let within = |(u, p, at): &&(usize, usize, Duration)| *u == user && *p == patient && now - *at < HOUR;
            if list.iter().filter(within).count() == 2 {
                expected.push(("repeated".to_owned(), i, 3));
            }
            list.push((user, patient, now));
            let rules = Rules::none().with(Rule::new("repeated").key([Part::USER, Part::PATIENT]).window(HOUR).count(3));
            place.log.alerts().engine_with(rules.unwrap()).unwrap().run_once().unwrap();
        }
        prop_assert_eq!(fired(&place.log), expected);
    }
}

/// Long-running rules, as in `serve`, saved their position only when they ended: health said that they were behind with
/// entries they had looked at long ago, and after a kill the next ones started there.
#[test]
fn rules_that_stay_write_down_how_far_they_are() {
    let log = attestlog::AuditLog::in_memory().unwrap();
    let running = log.alerts().engine().unwrap().start().unwrap();
    for i in 0..30 {
        log.record(attestlog::ToolCall::new("c", format!("u{i}"), "t")).unwrap();
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while log.health().unwrap().alerts.behind > 0 {
        assert!(std::time::Instant::now() < end, "{:?}", log.health().unwrap().alerts);
        std::thread::yield_now();
    }
    assert_eq!(log.health().unwrap().alerts.evaluated, Some(log.size().unwrap()), "all of it");
    running.stop();
}
