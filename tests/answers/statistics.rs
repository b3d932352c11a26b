//! Statistics are exact except for the percentiles, which are accurate to one percent: over days from the rollups, over
//! days that a range cuts, over the index in the file and in memory.

use crate::store_common::*;
use attestlog::query::Statistics;
use attestlog::{AuditLog, ErrorKind, Outcome, Timestamp, ToolCall};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug, Clone)]
struct Made {
    tool: &'static str,
    user: String,
    at: Timestamp,
    ok: bool,
    nanos: Option<u64>,
}

/// A small random number generator, the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn made(n: usize) -> Vec<Made> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|i| Made {
            tool: ["look", "write", "send"][dice.roll() as usize % 3],
            user: format!("usr_{}", dice.roll() % 40 + (i as u64 / 500) * 3),
            at: time("2025-02-26T18:00:00Z").plus(Duration::from_millis(dice.roll() % (6 * 86_400_000))),
            ok: !dice.roll().is_multiple_of(5),
            // From nanoseconds to hours, with all orders of magnitude equally frequent.
            nanos: (!dice.roll().is_multiple_of(10)).then(|| (dice.roll() >> 1) >> (20 + dice.roll() % 43)),
        })
        .collect()
}

fn record(log: &AuditLog, made: &[Made]) {
    let call = |m: &Made| {
        let call = ToolCall::new("c", m.user.as_str(), m.tool).timestamp(m.at);
        let call = if m.ok { call.result(true) } else { call.outcome(Outcome::Timeout) };
        m.nanos.into_iter().fold(call, |call, nanos| call.duration(Duration::from_nanos(nanos)))
    };
    log.record_batch(made.iter().map(call)).unwrap();
}

fn check(log: &AuditLog, made: &[Made], since: Option<&str>, until: Option<&str>) {
    let (since, until) = (since.map(time), until.map(time));
    let mut asked = Statistics::new();
    asked = since.into_iter().fold(asked, Statistics::since);
    asked = until.into_iter().fold(asked, Statistics::until);
    let all = log.statistics(&asked).unwrap();
    for tool in ["look", "send", "write"] {
        let inside = |m: &&Made| since.is_none_or(|s| m.at >= s) && until.is_none_or(|u| m.at < u) && m.tool == tool;
        let rows: Vec<&Made> = made.iter().filter(inside).collect();
        let one = log.statistics(&asked.clone().tool(tool)).unwrap().remove(0);
        match all.iter().find(|s| s.tool == tool) {
            Some(found) => assert_eq!(*found, one),
            None => assert!(rows.is_empty()),
        }
        let place = format!("{tool} {since:?} {until:?}");
        assert_eq!(one.total_calls, rows.len() as u64, "{place}");
        assert_eq!(one.successes, rows.iter().filter(|m| m.ok).count() as u64, "{place}");
        let users: BTreeSet<&str> = rows.iter().map(|m| m.user.as_str()).collect();
        assert_eq!(one.unique_users, users.len() as u64, "{place}");
        // A duration is recorded in milliseconds, as a double.
        let mut nanos: Vec<u64> = rows.iter().filter_map(|m| m.nanos).collect();
        nanos.sort_unstable();
        let near = |told: Option<f64>, exact: Option<f64>, within: f64| match (told, exact) {
            (Some(told), Some(exact)) => {
                assert!((told - exact).abs() <= exact * within + 1e-6, "{place}: {told} is not {exact}");
            }
            (told, exact) => assert_eq!(told, exact, "{place}"),
        };
        let ms = |n: &u64| *n as f64 / 1e6;
        let mean = nanos.iter().map(|&n| u128::from(n)).sum::<u128>() as f64 / nanos.len() as f64 / 1e6;
        near(one.avg_duration_ms, (!nanos.is_empty()).then_some(mean), 1e-9);
        near(one.max_duration_ms, nanos.last().map(ms), 1e-9);
        for (p, told) in [(50, one.p50_duration_ms), (95, one.p95_duration_ms), (99, one.p99_duration_ms)] {
            near(told, nanos.get((nanos.len() * p).div_ceil(100).max(1) - 1).map(ms), 0.01);
        }
        let rate = (!rows.is_empty()).then(|| one.successes as f64 / rows.len() as f64);
        assert_eq!(one.success_rate(), rate);
    }
}

#[test]
fn statistics_are_those_of_a_plain_count() {
    let (log, disk, clock) = store(1);
    let all = made(4000);
    let ranges = [
        (None, None),
        (Some("2025-02-27"), Some("2025-02-28")),
        (Some("2025-02-27"), None),
        (None, Some("2025-03-01")),
        (Some("2025-02-27T06:30:00Z"), Some("2025-03-02T00:00:00.001Z")),
        (Some("2025-02-28T10:00:00Z"), Some("2025-02-28T10:30:00Z")),
        (Some("2025-02-27T23:59:59.999Z"), Some("2025-02-28T00:00:00Z")),
        (Some("2025-02-27T23:00:00Z"), Some("2025-02-28T01:00:00Z")),
        (Some("2025-02-27T23:00:00Z"), Some("2025-02-28")),
        (Some("2025-02-27"), Some("2025-02-27T01:00:00Z")),
        (Some("2025-02-27"), Some("2025-02-27")),
        (Some("1700-01-01"), Some("2260-01-01")),
        (Some("2025-03-02T23:00:00Z"), None),
        (None, Some("2025-02-26T18:30:00Z")),
        (Some("2030-01-01"), None),
    ];
    let mut there = 0;
    for (until, flushed) in [(700, false), (700, true), (2500, false), (2500, true), (4000, false)] {
        record(&log, &all[there..until]);
        there = until;
        if flushed {
            log.flush_index().unwrap();
        }
        for (since, until) in ranges {
            check(&log, &all[..there], since, until);
        }
    }
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    for (since, until) in ranges {
        check(&log, &all, since, until);
    }
    assert_clean(&log);
}

#[test]
fn percentiles_of_few_calls_are_nearest_ranks() {
    for n in 1..=210u64 {
        let (log, _, _) = store(1);
        let at = time("2025-02-27");
        let nanos = |i: u64| i * i * 1_000_003;
        let made: Vec<Made> = (0..n)
            .map(|i| Made { tool: "look", user: "u".to_owned(), at, ok: true, nanos: Some(nanos(i * 7919 % n)) })
            .collect();
        record(&log, &made);
        check(&log, &made, None, None);
    }
}

#[test]
fn a_tool_that_was_never_called_and_a_range_that_ends_before_it_begins() {
    let (log, _, _) = store(1);
    assert!(log.statistics(&Statistics::new()).unwrap().is_empty());
    let none = log.statistics(&Statistics::new().tool("never")).unwrap();
    assert_eq!((none.len(), none[0].total_calls, none[0].success_rate()), (1, 0, None));
    assert_eq!(none[0].p99_duration_ms, None);
    let inverted = Statistics::new().since(time("2025-01-02")).until(time("2025-01-01"));
    assert_eq!(log.statistics(&inverted).unwrap_err().kind(), ErrorKind::InvalidInput);
}
