//! The expiry clock never runs back, except to a confirmed time that is far before it, and nobody who sets the system
//! clock can run it ahead by more than the bound.

use attestlog::json::Json;
use attestlog::retention::{ClockEvent, ExpiryClock, Frozen, Period, RetentionPolicy};
use attestlog::{ErrorKind, Timestamp};
use proptest::prelude::*;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const BOUND: Duration = Duration::from_secs(7 * 86_400);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn started() -> (Timestamp, ExpiryClock) {
    let start = at("2025-01-01T12:00:00Z");
    (start, ExpiryClock::start(start, BOUND))
}

#[test]
fn time_while_open_counts_in_full_whatever_the_system_clock_shows() {
    let (start, mut clock) = started();
    for day in 1..=400 {
        clock.advance_open(DAY);
        let wall = if day == 1 { start } else { start.plus(HOUR) };
        let _ = clock.observe_wall(wall);
        assert_eq!(clock.now(), start.plus(day * DAY));
    }
    // But nothing is purged while the system clock contradicts it.
    assert_eq!(clock.check().unwrap_err().kind(), ErrorKind::ClockFrozen);
    let _ = clock.observe_wall(start.plus(393 * DAY));
    assert!(clock.check().is_ok());
}

#[test]
fn a_clock_set_back_is_reported_and_moves_nothing() {
    let (start, mut clock) = started();
    clock.advance_open(2 * HOUR);
    let events = clock.observe_wall(start.plus(HOUR));
    assert_eq!(events, [ClockEvent::SetBack { from: start.plus(2 * HOUR), to: start.plus(HOUR) }]);
    assert_eq!(clock.now(), start.plus(2 * HOUR));
    // The event is reported only once.
    clock.advance_open(HOUR);
    assert_eq!(clock.observe_wall(start.plus(2 * HOUR)), []);
    // Even the smallest step back between two readings is reported, because `recorded_at` would run back.
    let back = start.plus(2 * HOUR).minus(Duration::from_nanos(1));
    assert_eq!(clock.observe_wall(back), [ClockEvent::SetBack { from: start.plus(2 * HOUR), to: back }]);
    // Adjusting a running clock does not count as setting it back.
    clock.advance_open(1000 * HOUR);
    assert_eq!(clock.observe_wall(back.plus(999 * HOUR + HOUR / 2)), []);
    // After it is set right again, no time is unexplained, so nothing is credited.
    assert_eq!(clock.observe_wall(start.plus(1003 * HOUR)), []);
    assert_eq!((clock.now(), clock.state().credited_nanos), (start.plus(1003 * HOUR), 0));
    let at_1970 = clock.observe_wall(at("1970-01-01"));
    assert!(matches!(at_1970[..], [ClockEvent::SetBack { .. }]) && clock.now() == start.plus(1003 * HOUR));
}

#[test]
fn ten_years_forward_gain_the_bound_and_freeze() {
    let (start, mut clock) = started();
    let wall = at("2035-01-01T12:00:00Z");
    assert_eq!(clock.observe_wall(wall), [ClockEvent::Frozen { at: start.plus(BOUND), wall }]);
    assert_eq!(clock.state().frozen, Some(Frozen::Unexplained { wall }));
    let refused = clock.check().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ClockFrozen);
    assert_eq!(
        refused.to_string(),
        "expiry is frozen at 2025-01-08T12:00:00Z: the system clock went to 2035-01-01T12:00:00Z, 3645 days further, and \
         only 7 days of unexplained time are credited until somebody confirms that the clock is right"
    );
    // It stands still, also for monotonic time, and setting the system clock right does not unfreeze it.
    clock.advance_open(30 * DAY);
    assert!(matches!(clock.observe_wall(start.plus(31 * DAY))[..], [ClockEvent::SetBack { .. }]));
    assert_eq!(clock.now(), start.plus(BOUND));
    assert!(clock.check().is_err());
    // Nothing is lost by that: a confirmation sets the time.
    clock.confirm(start.plus(31 * DAY), "ops", "the clock was wrong for a while").unwrap();
    assert_eq!((clock.now(), clock.state().credited_nanos), (start.plus(31 * DAY), 0));
    assert!(clock.check().is_ok());
}

#[test]
fn six_days_at_a_time_gain_nothing_beyond_the_bound() {
    let (start, mut clock) = started();
    let mut wall = start;
    for step in 1..=100 {
        wall = wall.plus(6 * DAY);
        let _ = clock.observe_wall(wall);
        assert_eq!(clock.now(), start.plus((step * 6 * DAY).min(BOUND)));
        // Neither reopening, nor setting the clock back in between, resets the credit.
        let state = clock.state().clone();
        clock = ExpiryClock::resume(state, BOUND);
        let _ = clock.observe_wall(start);
        let _ = clock.observe_wall(wall);
    }
    // An old trusted time does not either, however often it is presented.
    for _ in 0..10 {
        clock.trusted(start, "witness").unwrap();
        let _ = clock.observe_wall(wall);
        assert_eq!(clock.now(), start.plus(BOUND));
    }
}

#[test]
fn a_shut_down_of_days_needs_nobody_and_one_of_years_does() {
    let (start, mut clock) = started();
    assert_eq!(clock.observe_wall(start.plus(6 * DAY)), []);
    assert_eq!(clock.now(), start.plus(6 * DAY));
    let event = clock.confirm(start.plus(6 * DAY), "ops", "looked at a watch").unwrap();
    let now = start.plus(6 * DAY);
    let expected = ClockEvent::Confirmed {
        actor: "ops".into(),
        reason: "looked at a watch".into(),
        from: now,
        to: now,
        wall: now,
    };
    assert_eq!(event, expected);
    assert_eq!(clock.observe_wall(start.plus(13 * DAY)), []); // the whole bound again
    assert_eq!(clock.now(), start.plus(13 * DAY));
    assert_eq!(clock.observe_wall(start.plus(13 * DAY + Duration::from_nanos(1))).len(), 1);
    clock.confirm(start.plus(2000 * DAY), "ops", "storage").unwrap();
    assert_eq!(clock.now(), start.plus(2000 * DAY));
    assert!(clock.confirm(start.plus(9000 * DAY), "", "r").is_err());
    assert!(clock.confirm(start.plus(9000 * DAY), "a", "").is_err());
    assert!(clock.trusted(start.plus(9000 * DAY), "").is_err());
    assert_eq!(clock.now(), start.plus(2000 * DAY));
}

#[test]
fn a_trusted_time_thaws_what_it_vouches_for() {
    let (start, mut clock) = started();
    let _ = clock.observe_wall(start.plus(10 * DAY));
    assert!(clock.check().is_err());
    let event = clock.trusted(start.plus(10 * DAY), "witness.example").unwrap();
    let (from, to) = (start.plus(7 * DAY), start.plus(10 * DAY));
    assert_eq!(event, ClockEvent::Trusted { source: "witness.example".into(), time: to, from, to });
    assert!(clock.check().is_ok());
    assert_eq!((clock.now(), clock.state().credited_nanos), (to, 0));

    // If too much was credited, the lead stays credited.
    let (start, mut clock) = started();
    let _ = clock.observe_wall(start.plus(5 * DAY));
    clock.trusted(start.plus(DAY), "witness").unwrap();
    assert_eq!((clock.now(), clock.state().credited_nanos), (start.plus(5 * DAY), 4 * DAY.as_nanos() as u64));
    let _ = clock.observe_wall(start.plus(30 * DAY));
    assert_eq!(clock.now(), start.plus(8 * DAY)); // a week after the true time, no more
}

#[test]
fn a_false_confirmation_is_put_right_by_another() {
    let (start, mut clock) = started();
    let wrong = start.plus(3650 * DAY);
    let _ = clock.observe_wall(wrong);
    clock.confirm(wrong, "ops", "a mistake").unwrap();
    assert_eq!(clock.now(), wrong);
    let _ = clock.observe_wall(start.plus(DAY));
    // A trusted time is only a lower bound.
    clock.trusted(start.plus(DAY), "witness").unwrap();
    assert_eq!(clock.now(), wrong);
    assert!(clock.check().unwrap_err().to_string().contains("confirm it, which sets that time back"));
    let event = clock.confirm(start.plus(DAY), "ops", "putting it right").unwrap();
    assert!(matches!(event, ClockEvent::Confirmed { from, to, .. } if (from, to) == (wrong, start.plus(DAY))));
    assert!(clock.check().is_ok());
    assert_eq!((clock.now(), clock.state().credited_nanos), (start.plus(DAY), 0));
    // Within the bound the lead is kept and stays credited.
    let _ = clock.observe_wall(start.plus(7 * DAY));
    clock.confirm(start.plus(2 * DAY), "ops", "five days before").unwrap();
    assert_eq!((clock.now(), clock.state().credited_nanos), (start.plus(7 * DAY), 5 * DAY.as_nanos() as u64));
}

#[test]
fn leap_days_and_year_ends_are_only_dates() {
    let mut clock = ExpiryClock::start(at("2024-02-28T23:59:59.5Z"), BOUND);
    clock.advance_open(Duration::from_secs(1));
    assert_eq!(clock.now(), at("2024-02-29T00:00:00.5Z"));
    let year = "1 year".parse::<Period>().unwrap();
    assert_eq!(year.after(clock.now()), at("2025-03-01"));
    let _ = clock.observe_wall(at("2024-03-01T00:00:00.5Z"));
    assert_eq!(clock.now(), at("2024-03-01T00:00:00.5Z"));
    let mut clock = ExpiryClock::start(at("2024-12-31T23:59:59.999999999Z"), BOUND);
    clock.advance_open(Duration::from_nanos(1));
    assert_eq!(clock.now(), at("2025-01-01"));
    assert_eq!(year.after(clock.now()), at("2026-01-01"));
    assert_eq!(RetentionPolicy::default().clock_bound(), BOUND);
}

#[test]
fn the_ends_of_time_break_nothing() {
    let mut clock = ExpiryClock::start(Timestamp::MIN, BOUND);
    assert_eq!(clock.observe_wall(Timestamp::MAX).len(), 1);
    assert_eq!(clock.now(), Timestamp::MIN.plus(BOUND));
    clock.confirm(Timestamp::MAX, "a", "r").unwrap();
    assert_eq!(clock.now(), Timestamp::MAX);
    clock.advance_open(Duration::MAX);
    clock.advance_open(Duration::MAX);
    assert_eq!(clock.now(), Timestamp::MAX);
    assert_eq!(clock.observe_wall(Timestamp::MIN), [ClockEvent::SetBack { from: Timestamp::MAX, to: Timestamp::MIN }]);
    assert!(clock.check().is_err());
    assert!(clock.status(Timestamp::MIN).ahead_by > 290 * 365 * DAY);
    clock.confirm(Timestamp::MIN, "a", "r").unwrap();
    assert_eq!(clock.now(), Timestamp::MIN);
    let mut clock = ExpiryClock::start(Timestamp::from_nanos(0), Duration::MAX);
    assert_eq!(clock.observe_wall(Timestamp::MAX), []);
    clock.set_bound(Duration::ZERO);
    let _ = clock.observe_wall(Timestamp::MIN);
    assert_eq!(clock.now(), Timestamp::MAX);
}

#[test]
fn the_status_says_how_it_stands() {
    let (start, mut clock) = started();
    let _ = clock.observe_wall(start.plus(26 * HOUR));
    let status = clock.status(start.plus(30 * HOUR));
    assert_eq!((status.behind_by, status.ahead_by), (4 * HOUR, Duration::ZERO));
    assert_eq!((status.credited, status.bound), (26 * HOUR, BOUND));
    assert_eq!(
        status.to_string(),
        "expiry runs: the time by which entries expire is 2025-01-02T14:00:00Z, 1 day 2 h of 7 days of unexplained time are credited"
    );
}

#[test]
fn clock_events_stand_in_one_json_form() {
    let (a, b, c) = (at("2025-01-01"), at("2025-01-02"), at("2025-01-03"));
    let cases = [
        (
            ClockEvent::SetBack { from: b, to: a },
            r#"{"event":"set_back","from":"2025-01-02T00:00:00Z","to":"2025-01-01T00:00:00Z"}"#,
        ),
        (
            ClockEvent::Frozen { at: a, wall: b },
            r#"{"at":"2025-01-01T00:00:00Z","event":"frozen","wall":"2025-01-02T00:00:00Z"}"#,
        ),
        (
            ClockEvent::BroughtBack { from: b, to: a },
            r#"{"event":"brought_back","from":"2025-01-02T00:00:00Z","to":"2025-01-01T00:00:00Z"}"#,
        ),
        (
            ClockEvent::Confirmed { actor: "o".into(), reason: "r".into(), from: a, to: b, wall: b },
            r#"{"actor":"o","event":"confirmed","from":"2025-01-01T00:00:00Z","reason":"r","to":"2025-01-02T00:00:00Z","wall":"2025-01-02T00:00:00Z"}"#,
        ),
        (
            ClockEvent::Trusted { source: "w".into(), time: b, from: a, to: c },
            r#"{"event":"trusted","from":"2025-01-01T00:00:00Z","source":"w","time":"2025-01-02T00:00:00Z","to":"2025-01-03T00:00:00Z"}"#,
        ),
    ];
    for (event, text) in cases {
        assert_eq!(event.to_json().to_canonical().as_str(), text);
        assert_eq!(ClockEvent::from_json(&event.to_json()).unwrap(), event);
    }
    for wrong in ["[]", "{}", r#"{"event":"x"}"#, r#"{"event":"set_back","from":"2025-01-01"}"#] {
        let value = Json::parse(wrong.as_bytes()).unwrap().value;
        assert_eq!(ClockEvent::from_json(&value).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let wrong = Json::parse(br#"{"event":"frozen","at":"2025-01-01","wall":"2025-01-01","x":1}"#).unwrap().value;
    assert!(ClockEvent::from_json(&wrong).is_err());
}

// ---- against the true time

#[derive(Debug, Clone)]
enum Step {
    /// The store stays open for this long.
    Open(Duration),
    /// The store is closed, or the machine sleeps, for this long.
    Closed(Duration),
    /// The system clock is set this far from the true time, and read.
    Look(i64),
    /// The system clock is set right, and somebody confirms it.
    Confirm,
    /// A trusted time arrives that is this old.
    Trusted(Duration),
    Reopen,
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        (0u64..10_000_000_000).prop_map(Duration::from_nanos),
        (0u64..20 * 86_400).prop_map(Duration::from_secs),
        Just(3653 * DAY),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => duration().prop_map(Step::Open),
        3 => duration().prop_map(Step::Closed),
        4 => prop_oneof![Just(0), -20 * 86_400i64..20 * 86_400, Just(-315_360_000), Just(315_360_000)].prop_map(Step::Look),
        1 => Just(Step::Confirm),
        1 => duration().prop_map(Step::Trusted),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #[test]
    fn it_never_runs_back_and_is_never_ahead_by_more_than_the_bound(
        steps in prop::collection::vec(step(), 1..60),
        bound in prop_oneof![Just(Duration::ZERO), Just(BOUND), Just(HOUR)],
    ) {
        let mut truth = at("2025-01-01");
        let mut clock = ExpiryClock::start(truth, bound);
        let (mut before, mut credited) = (clock.now(), Duration::ZERO);
        for step in steps {
            let was_frozen = clock.state().frozen.is_some();
            match step {
                Step::Open(d) => {
                    truth = truth.plus(d);
                    clock.advance_open(d);
                    prop_assert_eq!(clock.now(), if was_frozen { before } else { before.plus(d) });
                }
                Step::Closed(d) => truth = truth.plus(d),
                Step::Look(offset) => {
                    let d = Duration::from_secs(offset.unsigned_abs());
                    let wall = if offset < 0 { truth.minus(d) } else { truth.plus(d) };
                    let events = clock.observe_wall(wall);
                    credited += clock.now().since(before);
                    let froze = events.iter().any(|e| matches!(e, ClockEvent::Frozen { .. }));
                    prop_assert_eq!(froze, !was_frozen && clock.state().frozen.is_some());
                    prop_assert_eq!(clock.state().frozen.is_none(), !was_frozen && clock.now() >= wall);
                }
                Step::Confirm => {
                    clock.confirm(truth, "a", "r").unwrap();
                    prop_assert!(clock.now() >= truth && clock.status(truth).check().is_ok());
                    credited = clock.now().since(truth);
                }
                Step::Trusted(age) => {
                    let time = truth.minus(age);
                    let believed = time <= clock.state().wall.plus(bound);
                    let kept = clock.state().clone();
                    match clock.trusted(time, "w") {
                        Ok(_) => {
                            prop_assert!(believed && clock.now() >= time);
                            credited = credited.min(clock.now().since(time));
                        }
                        Err(e) => {
                            prop_assert!(!believed && e.kind() == ErrorKind::Conflict);
                            prop_assert_eq!(clock.state(), &kept);
                        }
                    }
                }
                Step::Reopen => clock = ExpiryClock::resume(clock.state().clone(), bound),
            }
            prop_assert!(clock.now() >= before, "ran back");
            prop_assert!(clock.now() <= truth.plus(bound), "ahead of the bound");
            prop_assert_eq!(u128::from(clock.state().credited_nanos), credited.as_nanos());
            prop_assert!(credited <= bound);
            before = clock.now();
        }
    }

    /// With a correct system clock the expiry clock is correct, as long as the store is not closed for too long at
    /// once.
    #[test]
    fn an_honest_clock_is_followed(days in prop::collection::vec((0u64..100, 0u64..100), 1..50)) {
        let mut truth = at("2025-01-01");
        let mut clock = ExpiryClock::start(truth, BOUND);
        for (open, closed) in days {
            truth = truth.plus(open as u32 * HOUR);
            clock.advance_open(open as u32 * HOUR);
            prop_assert_eq!(clock.observe_wall(truth), []);
            clock = ExpiryClock::resume(clock.state().clone(), BOUND);
            truth = truth.plus(closed as u32 * HOUR);
            prop_assert_eq!(clock.observe_wall(truth), []);
            prop_assert_eq!(clock.now(), truth);
            clock.confirm(truth, "a", "r").unwrap();
        }
    }
}
