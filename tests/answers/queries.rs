//! Queries at boundaries: index batches of full size, times out of order, cursors at every boundary, and logs that grow
//! while they are read. Every answer is compared with a plain filter over what was recorded.

use crate::store_common::*;
use attestlog::query::Statistics;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Kind, Query, Timestamp, ToolCall};
use std::time::Duration;

/// How many entries make an index batch.
const BATCH: u64 = 65_536;

fn user(seq: u64) -> u64 {
    seq * 7 % 11
}

/// Times increase with the seq, but each is up to half an hour off, and some are days earlier.
fn at(seq: u64) -> Timestamp {
    let place = time("2025-01-01").plus(Duration::from_secs(seq * 2 + seq * 7919 % 1800));
    if seq.is_multiple_of(4999) { place.minus(Duration::from_secs(5 * 86_400)) } else { place }
}

fn seqs(log: &AuditLog, query: &Query) -> Vec<u64> {
    log.query(query).unwrap().map(|e| e.unwrap().seq).collect()
}

#[test]
fn a_cursor_may_lie_anywhere() {
    let (log, _, _) = store(1);
    log.record_batch((0..20).map(|i| ToolCall::new(format!("c{}", i % 3), "u", "t"))).unwrap();
    log.flush_index().unwrap();
    log.record_batch((20..30).map(|i| ToolCall::new(format!("c{}", i % 3), "u", "t"))).unwrap();
    let of: Vec<u64> = seqs(&log, &Query::new().conversation("c1"));
    for after in (0..40).chain([u64::MAX - 1, u64::MAX]) {
        let up = seqs(&log, &Query::new().conversation("c1").after(after));
        assert_eq!(up, of.iter().copied().filter(|&s| s > after).collect::<Vec<_>>());
        let down = seqs(&log, &Query::new().conversation("c1").after(after).newest_first());
        assert_eq!(down, of.iter().rev().copied().filter(|&s| s < after).collect::<Vec<_>>());
    }
    // All pages together are the whole answer.
    for newest_first in [false, true] {
        let mut query = Query::new().user("u").limit(4);
        if newest_first {
            query = query.newest_first();
        }
        let mut all = Vec::new();
        loop {
            let page = seqs(&log, &all.last().map_or(query.clone(), |&last| query.clone().after(last)));
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        assert_eq!(all.len(), 30);
        assert!(all.is_sorted_by(|a, b| if newest_first { a > b } else { a < b }));
    }
    assert!(seqs(&log, &Query::new().limit(0)).is_empty());
    let inverted = Query::new().since(time("2025-01-02")).until(time("2025-01-01"));
    assert_eq!(log.query(&inverted).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(seqs(&log, &Query::new().since(time("2025-03-01")).until(time("2025-03-01"))).is_empty());
}

#[test]
fn a_query_sees_the_log_as_it_was_when_it_was_asked() {
    let (log, _, _) = store(1);
    log.record_batch((0..10).map(|_| ToolCall::new("c", "u", "t"))).unwrap();
    let mut hits = log.query(&Query::new().tool("t")).unwrap();
    let mut back = log.query(&Query::new().tool("t").newest_first()).unwrap();
    let first = hits.next().unwrap().unwrap().seq;
    assert_eq!(back.next().unwrap().unwrap().seq, first + 9);
    for _ in 0..3 {
        log.record_batch((0..10).map(|_| ToolCall::new("c", "u", "t"))).unwrap();
        log.flush_index().unwrap();
    }
    assert_eq!((hits.count(), back.count()), (9, 9));
    assert_eq!(log.count(&Query::new().tool("t")).unwrap(), 40);
}

/// Two batches of full size and a rest, recorded in calls to `record_batch` that straddle their boundaries.
#[test]
fn batches_of_full_size_meet_without_a_seam() {
    let (log, disk, clock) = store(1);
    let total = BATCH * 2 + 500;
    while log.size().unwrap() < total {
        let from = log.size().unwrap();
        let job = (from..(from + 9_973).min(total)).map(|i| {
            let call = ToolCall::new(format!("conv_{}", i / 100), "usr", format!("tool_{}", user(i))).turn(i);
            call.timestamp(at(i))
        });
        log.record_batch(job).unwrap();
    }
    let check = |log: &AuditLog| {
        let turns: Vec<Option<u64>> =
            log.query(&Query::new()).unwrap().map(|e| e.unwrap().call().and_then(|c| c.turn_number)).collect();
        let own = turns.iter().filter(|t| t.is_none()).count() as u64;
        assert_eq!(turns.len() as u64, log.size().unwrap());
        assert_eq!(log.count(&Query::new().user("usr")).unwrap(), turns.len() as u64 - own);
        let listed = |keep: &dyn Fn(u64) -> bool| -> Vec<u64> {
            (0u64..).zip(&turns).filter(|(_, t)| t.is_some_and(keep)).map(|(seq, _)| seq).collect()
        };
        for tool in [0, 5] {
            let expected = listed(&|i| user(i) == tool);
            let query = Query::new().tool(format!("tool_{tool}"));
            assert_eq!(seqs(log, &query), expected);
            for edge in [BATCH - 1, BATCH, BATCH + 1, BATCH * 2 - 1, BATCH * 2, BATCH * 2 + 1] {
                let up: Vec<u64> = expected.iter().copied().filter(|&s| s > edge).take(5).collect();
                assert_eq!(seqs(log, &query.clone().after(edge).limit(5)), up);
                let down: Vec<u64> = expected.iter().rev().copied().filter(|&s| s < edge).take(5).collect();
                assert_eq!(seqs(log, &query.clone().after(edge).limit(5).newest_first()), down);
            }
        }
        for conversation in [0, 654, 655, 656, 1310, 1311] {
            let query = Query::new().conversation(format!("conv_{conversation}"));
            assert_eq!(seqs(log, &query), listed(&|i| i / 100 == conversation), "{conversation}");
        }
        let ranges = [
            ("2024-12-20", "2025-01-01"),
            ("2025-01-01", "2025-01-01T01:00:00Z"),
            ("2025-01-02T12:00:00Z", "2025-01-02T12:20:00Z"),
            ("2025-01-03T23:59:00Z", "2025-01-04T00:30:00Z"),
            // Several whole zones, and parts of the coarser ones around them.
            ("2025-01-01T10:10:10Z", "2025-01-03T15:15:15Z"),
            ("2024-12-27", "2025-01-02T06:00:00Z"),
            ("2026-01-01", "2027-01-01"),
        ];
        for (since, until) in ranges {
            let (since, until) = (time(since), time(until));
            let inside = |i: u64| since <= at(i) && at(i) < until;
            let query = Query::new().kind(Kind::ToolCall).since(since).until(until);
            let mut expected = listed(&inside);
            assert_eq!(log.count(&query).unwrap(), expected.len() as u64);
            assert_eq!(seqs(log, &query), expected, "{since} {until}");
            let with_tool = listed(&|i| inside(i) && user(i) == 3);
            assert_eq!(seqs(log, &query.clone().tool("tool_3")), with_tool);
            for edge in [9_000, BATCH - 1, BATCH, 100_000] {
                let up: Vec<u64> = expected.iter().copied().filter(|&s| s > edge).take(5).collect();
                assert_eq!(seqs(log, &query.clone().after(edge).limit(5)), up);
                let down: Vec<u64> = with_tool.iter().rev().copied().filter(|&s| s < edge).take(5).collect();
                assert_eq!(seqs(log, &query.clone().tool("tool_3").after(edge).limit(5).newest_first()), down);
            }
            expected.reverse();
            assert_eq!(seqs(log, &query.clone().newest_first()), expected);
            expected.truncate(7);
            assert_eq!(seqs(log, &query.newest_first().limit(7)), expected);
        }
        let found = log.verify(&VerifyOptions::new()).unwrap();
        assert!(found.ok(), "{:?}", found.findings);
    };
    check(&log);
    // Anything that was not due before is written now, and one more entry after each boundary changes nothing.
    log.record(ToolCall::new("conv_x", "other", "other")).unwrap();
    assert!(log.count(&Query::new().kind(Kind::IndexBatch)).unwrap() >= 1);
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    log.flush_index().unwrap();
    let batches = log.count(&Query::new().kind(Kind::IndexBatch)).unwrap();
    assert_eq!(batches, 3);
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(found.ok(), "{:?}", found.findings);
    let of_tool = (0..total).filter(|&i| user(i) == 5 && i >= 2).count() as u64;
    assert!(log.count(&Query::new().tool("tool_5")).unwrap().abs_diff(of_tool) <= 1);
}

/// A query with only a beginning asked for times before the last possible instant, and so missed an entry at that instant:
/// an agent may put any time into its record.
#[test]
fn a_beginning_without_an_end_reaches_the_last_instant() {
    let (log, _, _) = store(3);
    let last = log.record(ToolCall::new("c", "u", "look").timestamp(Timestamp::MAX)).unwrap().seq;
    let first = log.record(ToolCall::new("c", "u", "look").timestamp(Timestamp::MIN)).unwrap().seq;
    for flushed in [false, true] {
        if flushed {
            log.flush_index().unwrap();
        }
        let calls = Query::new().tool("look");
        assert_eq!(seqs(&log, &calls.clone().since(Timestamp::MAX)), [last]);
        assert_eq!(seqs(&log, &calls.clone().since(time(START))), [last]);
        assert_eq!(seqs(&log, &calls.clone().until(Timestamp::MAX)), [first]);
        assert_eq!(seqs(&log, &calls.clone().until(Timestamp::MIN)), [] as [u64; 0]);
        assert_eq!(seqs(&log, &calls.clone().since(Timestamp::MIN).newest_first()), [first, last]);
        for (since, count) in [(Timestamp::MIN, 2), (time(START), 1), (Timestamp::MAX, 1)] {
            let counted = log.statistics(&Statistics::new().tool("look").since(since)).unwrap();
            assert_eq!(counted[0].total_calls, count, "since {since}, flushed: {flushed}");
        }
        let none = log.statistics(&Statistics::new().tool("look").since(Timestamp::MAX).until(Timestamp::MAX)).unwrap();
        assert_eq!(none[0].total_calls, 0);
    }
}

/// The dictionary stores values over 64 bytes by their hash, and reads them again from the first entry that has them. If
/// that entry had two long values of one facet, the last of them was taken for both.
#[test]
fn long_values_of_one_entry_are_told_apart() {
    let (log, _, _) = store(4);
    let (one, other) = ("a".repeat(100), "b".repeat(100));
    log.record(ToolCall::new("c", "u", "look").patient(&*one).patient(&*other)).unwrap();
    log.record(ToolCall::new("c", "u", "t".repeat(80)).patient(&*other)).unwrap();
    log.flush_index().unwrap();
    assert_clean(&log);
    assert_eq!(log.count(&Query::new().patient(&*one)).unwrap(), 1);
    assert_eq!(log.count(&Query::new().patient(&*other)).unwrap(), 2);
    let tools: Vec<String> = log.statistics(&Statistics::new()).unwrap().into_iter().map(|t| t.tool).collect();
    assert_eq!(tools, ["look".to_owned(), "t".repeat(80)]);
}

/// A query kept its read transaction between two entries, and a transaction keeps every page that it sees from being
/// reused: while a reader paused within a result and others recorded, the file grew by some forty KiB with each record,
/// forever.
#[test]
fn a_reader_that_stands_still_does_not_make_the_file_grow() {
    let grown = |reads: bool| {
        let (log, disk, _) = store(5);
        log.record_batch((0..600).map(|i| ToolCall::new(format!("c{}", i % 3), "u", "t"))).unwrap();
        let mut hits = log.query(&Query::new().user("u")).unwrap();
        let mut seen: Vec<u64> = Vec::new();
        if reads {
            seen.extend(hits.by_ref().take(10).map(|e| e.unwrap().seq));
        }
        for i in 0..3000 {
            log.record(ToolCall::new(format!("d{i}"), "u", "t")).unwrap();
        }
        seen.extend(hits.map(|e| e.unwrap().seq));
        assert_eq!(seen, (2..602).collect::<Vec<_>>(), "as the log was when it was asked");
        disk.bytes().len() >> 20
    };
    let (with, without) = (grown(true), grown(false));
    println!("3,000 records: {without} MiB, beside a reader that stands still {with} MiB");
    assert!(with <= without + 24, "{with} MiB, without a reader {without}");
}
