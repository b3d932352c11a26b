//! The promise of recording: a receipt means that the entry is on the disk, a batch is all or nothing, threads share
//! commits and lose nothing, readers see one moment, and an error leaves the store as it was and usable.

use crate::store_common::*;
use attestlog::entry::CallLimits;
use attestlog::query::Statistics;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, ErrorKind, Kind, Options, Query, Result, ToolCall};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn call(conversation: impl ToString, i: u64) -> ToolCall {
    ToolCall::new(conversation.to_string(), format!("usr_{}", i % 5), ["look", "write"][i as usize % 2]).turn(i)
}

fn calls(log: &AuditLog) -> u64 {
    log.count(&Query::new().kind(Kind::ToolCall)).unwrap()
}

#[test]
fn many_threads_record_and_each_gets_its_own_receipts() {
    let (log, disk, clock) = store(1);
    let receipts: Vec<Vec<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let log = log.clone();
                scope.spawn(move || {
                    let one = |i: u64| match i % 5 {
                        0 => log.record_batch((0..3).map(|k| call(thread, i * 3 + k))).unwrap(),
                        _ => vec![log.record(call(thread, i * 3)).unwrap()],
                    };
                    (0..40).flat_map(one).collect()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut seqs = BTreeSet::new();
    for (thread, receipts) in receipts.iter().enumerate() {
        assert_eq!(receipts.len(), 16 + 40, "8 batches of three and 32 single calls");
        assert!(receipts.is_sorted_by_key(|r| r.seq), "a thread's calls stand in the order in which it made them");
        for receipt in receipts {
            assert!(seqs.insert(receipt.seq));
            let entry = log.entry(receipt.seq).unwrap();
            assert_eq!(entry.call().unwrap().conversation_id, thread.to_string());
            assert_eq!(entry.hash(), receipt.hash);
        }
    }
    assert_eq!(calls(&log), seqs.len() as u64);
    assert_clean(&log);
    let before = lines(&log);
    log.close().unwrap();
    let again = options(&clock, 2).open_on(disk.backend()).unwrap();
    assert_eq!(lines(&again), before);
    assert_clean(&again);
}

#[test]
fn a_batch_is_recorded_as_a_whole_or_not_at_all() {
    let (log, _, _) = store(1);
    let before = lines(&log);
    let refused = log.record_batch([call("a", 0), call("a", 1), ToolCall::new("a", "", "look")]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("call 2") && refused.to_string().contains("user_id"), "{refused}");
    // Problems that only the writer can see are refused in the same way.
    let refused = log.record_batch([call("a", 0), call("a", 1).retry_of(before.len() as u64 + 1)]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(lines(&log), before);
    assert!(log.record_batch([]).unwrap().is_empty());
    let receipts = log.record_batch([call("a", 0), call("a", 1).retry_of(before.len() as u64)]).unwrap();
    assert_eq!(receipts.iter().map(|r| r.seq).collect::<Vec<_>>(), [before.len() as u64, before.len() as u64 + 1]);
    assert_clean(&log);
}

#[test]
fn readers_see_one_moment_while_others_write_and_merge() {
    let (log, _, _) = store(1);
    let (begun, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|thread| {
                let (log, begun, done) = (&log, &begun, &done);
                scope.spawn(move || {
                    for i in 0..300 {
                        begun.fetch_add(2, Ordering::SeqCst);
                        log.record_batch([call(thread, i), call("both", i)]).unwrap();
                        done.fetch_add(2, Ordering::SeqCst);
                        if i % 5 == 0 {
                            log.flush_index().unwrap();
                        }
                        if i % 7 == 0 {
                            let call = log.begin(ToolCall::new("steps", "usr_0", "slow")).unwrap();
                            call.finish(|c| c.result(true)).unwrap();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let before = done.load(Ordering::SeqCst);
                    let both = log.count(&Query::new().conversation("both")).unwrap();
                    let statistics = log.statistics(&Statistics::new()).unwrap();
                    let day = Statistics::new().since(time(START)).until(time("2025-03-01T23:00:00Z"));
                    let of_day = log.statistics(&day).unwrap();
                    let after = begun.load(Ordering::SeqCst);
                    assert!((before / 2..=after / 2).contains(&both), "{before} {both} {after}");
                    for statistics in [statistics, of_day] {
                        let total = statistics.iter().filter(|s| s.tool != "slow").map(|s| s.total_calls).sum::<u64>();
                        assert!((before..=after).contains(&total), "{before} {total} {after}");
                    }
                    let newest = log.query(&Query::new().newest_first().limit(3)).unwrap();
                    let newest: Vec<u64> = newest.map(|e| e.unwrap().seq).collect();
                    assert!(newest.windows(2).all(|w| w[0] == w[1] + 1));
                    // Each call in two steps counts as one, whenever a reader looks.
                    let steps: Vec<_> = log.timeline("steps").unwrap().collect::<Result<_>>().unwrap();
                    let begun: BTreeSet<u64> = steps
                        .iter()
                        .map(|s| match s.entry.call().unwrap().phase {
                            attestlog::entry::Phase::Finished(begun) => begun,
                            _ => s.entry.seq,
                        })
                        .collect();
                    assert_eq!(begun.len(), steps.len());
                    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
                    assert!(found.ok(), "{:?}", found.findings);
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_clean(&log);
    assert_eq!(log.statistics(&Statistics::new().tool("slow")).unwrap()[0].total_calls, 86);
}

/// Runs the same story on a disk on which the `n`-th operation fails, for every `n` in the story.
fn with_failures(failures: u64, full: bool) {
    let story = |disk: &Disk| -> Result<(AuditLog, Vec<(u64, Result<u64, Error>)>)> {
        let log = options(&clock(), 3).create_on(disk.backend())?;
        let mut told = Vec::new();
        for i in 0..6 {
            if i % 2 == 1 {
                // An index batch that fails is tried again later.
                let _ = log.flush_index();
            }
            let pad = "x".repeat(3000);
            let answer = log.record(call("story", i).arguments(pad.as_str()));
            told.push((i, answer.map(|r| r.seq)));
        }
        Ok((log, told))
    };
    let disk = Disk::default();
    let (log, _) = story(&disk).unwrap();
    drop(log);
    let operations = disk.operations();
    assert!(operations > 40, "{operations}");
    let (mut unknown, mut failed) = (0, 0);
    for n in 0..operations {
        let disk = Disk::default();
        disk.fail(n, failures, full);
        let (log, told) = match story(&disk) {
            Ok(done) => done,
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::Io | ErrorKind::DiskFull | ErrorKind::Closed), "{e:?}");
                continue;
            }
        };
        disk.heal();
        let receipt = log.record(call("after", 99)).unwrap_or_else(|e| panic!("after failure {n}: {e:?}"));
        assert_eq!(log.entry(receipt.seq).unwrap().hash(), receipt.hash);
        let turns: BTreeSet<u64> = log
            .query(&Query::new().conversation("story"))
            .unwrap()
            .map(|e| e.unwrap().call().unwrap().turn_number.unwrap())
            .collect();
        for (turn, answer) in &told {
            match answer {
                Ok(seq) => {
                    assert!(turns.contains(turn), "operation {n}: call {turn} was answered for and is not there");
                    assert_eq!(log.entry(*seq).unwrap().call().unwrap().turn_number, Some(*turn));
                }
                Err(e) if e.kind() == ErrorKind::Closed => unknown += 1,
                Err(e) => {
                    failed += 1;
                    assert_eq!(e.kind(), if full { ErrorKind::DiskFull } else { ErrorKind::Io }, "{e}");
                    assert!(!turns.contains(turn), "operation {n}: call {turn} is there although nothing was recorded");
                }
            }
        }
        log.flush_index().unwrap();
        assert_clean(&log);
        let before = lines(&log);
        log.close().unwrap();
        let again = options(&clock(), 4).open_on(disk.backend()).unwrap();
        assert_eq!(lines(&again), before);
        assert_clean(&again);
    }
    println!("{operations} operations, {failed} records failed, {unknown} were told that their outcome is not known");
    assert!(failed > 0);
}

#[test]
fn a_failing_disk_loses_nothing_that_was_answered_for() {
    with_failures(1, false);
    with_failures(1, true);
}

#[test]
fn a_disk_that_goes_on_failing_for_a_while_loses_nothing_either() {
    with_failures(25, false);
    with_failures(25, true);
}

#[test]
fn what_is_too_large_is_refused_with_its_size_and_nothing_is_cut() {
    let (disk, clock) = (Disk::default(), clock());
    let mut limits = CallLimits::default();
    (limits.id_bytes, limits.patients, limits.line_bytes) = (100, 3, 2000);
    // A limit for calls, which the store's own entries may exceed.
    let log = options(&clock, 1).limits(limits).create_on(disk.backend()).unwrap();
    let before = lines(&log);
    let large = [
        (ToolCall::new("c".repeat(101), "u", "t"), "101 bytes"),
        (ToolCall::new("c", "u", "t").model("m".repeat(500)), "500 bytes"),
        ((0..4).fold(ToolCall::new("c", "u", "t"), |c, i| c.patient(format!("P-{i}"))), "4 patients"),
        (ToolCall::new("c", "u", "t").arguments("x".repeat(2000).as_str()), "the limit of 2000"),
    ];
    for (call, size) in large {
        let refused = log.record(call).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
        assert!(refused.to_string().contains(size), "{refused} does not say {size}");
    }
    assert_eq!(lines(&log), before);
    log.record(ToolCall::new("c".repeat(100), "u", "t").arguments("x".repeat(900).as_str())).unwrap();
    assert_clean(&log);
}

#[test]
fn a_closed_store_stays_closed_and_can_be_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = AuditLog::create(&path).unwrap();
    let receipt = log.record(call("c", 1)).unwrap();
    let other = log.clone();
    let mut hits = log.query(&Query::new()).unwrap();
    assert!(hits.next().unwrap().is_ok());
    assert_eq!(Options::new().exclusive().open(&path).unwrap_err().kind(), ErrorKind::Locked);
    log.close().unwrap();
    for _ in 0..2 {
        assert_eq!(other.record(call("c", 2)).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(other.flush_index().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(other.entry(0).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(other.count(&Query::new()).unwrap_err().kind(), ErrorKind::Closed);
    }
    drop(hits);
    let again = AuditLog::open(&path).unwrap();
    assert_eq!(again.entry(receipt.seq).unwrap().hash(), receipt.hash);
    assert_eq!(again.record(call("c", 3)).unwrap().seq, receipt.seq + 1);
    assert_eq!(other.record(call("c", 2)).unwrap_err().kind(), ErrorKind::Closed);
    assert_clean(&again);
}

#[test]
fn what_cannot_be_opened_says_which_way_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let kind = |name: &str| Options::new().exclusive().open(at(name)).unwrap_err().kind();
    assert_eq!(kind("missing"), ErrorKind::NotFound);
    assert!(!at("missing").exists(), "opening never makes a store");
    std::fs::write(at("empty"), b"").unwrap();
    std::fs::write(at("byte"), b"x").unwrap();
    std::fs::write(at("text"), "not a store\n".repeat(1000)).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    let foreign = redb::Database::create(at("foreign")).unwrap();
    let txn = foreign.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u64, u64>::new("numbers")).unwrap().insert(1, 2).unwrap();
    txn.commit().unwrap();
    drop(foreign);
    for name in ["empty", "byte", "text", "directory", "foreign"] {
        let before = std::fs::read(at(name)).ok();
        assert_eq!(kind(name), ErrorKind::NotAStore, "{name}");
        if name != "foreign" {
            assert_eq!(std::fs::read(at(name)).ok(), before, "{name} was written to");
        }
        assert_eq!(AuditLog::create(at(name)).unwrap_err().kind(), ErrorKind::AlreadyExists, "{name}");
    }
    let log = Options::new().without_keys().create(at("store")).unwrap();
    assert_eq!(kind("store"), ErrorKind::Locked);
    log.record(call("c", 1)).unwrap();
    log.close().unwrap();
    let whole = std::fs::read(at("store")).unwrap();
    std::fs::write(at("half"), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(kind("half"), ErrorKind::Damaged | ErrorKind::Io), "{:?}", AuditLog::open(at("half")));
    assert!(AuditLog::create(at("no/such/directory")).is_err());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("elsewhere"), at("link")).unwrap();
        assert_eq!(AuditLog::create(at("link")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(!at("elsewhere").exists());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(at("store")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_store_is_never_made_over_another_nor_by_opening() {
    let (log, disk, clock) = store(1);
    log.close().unwrap();
    let before = disk.bytes();
    assert_eq!(options(&clock, 2).create_on(disk.backend()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.bytes(), before);
    let empty = Disk::default();
    assert_eq!(options(&clock, 2).open_on(empty.backend()).unwrap_err().kind(), ErrorKind::NotAStore);
    assert!(empty.bytes().is_empty());
}

#[test]
fn what_was_never_recorded_is_no_entry() {
    let (log, _, _) = store(1);
    assert_eq!(log.entry(log.size().unwrap()).unwrap_err().kind(), ErrorKind::NoSuchEntry);
    assert_eq!(log.entry(u64::MAX).unwrap_err().kind(), ErrorKind::NoSuchEntry);
}

/// A thread that panics while it commits for others must not leave them waiting, nor the store unusable.
#[test]
fn a_leader_that_panics_leaves_the_store_usable() {
    #[derive(Debug)]
    struct Dies(AtomicBool, attestlog::host::SeededRandom);
    impl attestlog::host::Random for Dies {
        fn fill(&self, out: &mut [u8]) {
            assert!(!self.0.swap(false, Ordering::SeqCst), "no random bytes today");
            self.1.fill(out);
        }
    }
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.to_string().contains("no random bytes today") {
            loud(info);
        }
    }));
    let random = Arc::new(Dies(AtomicBool::new(false), attestlog::host::SeededRandom::new(5)));
    let disk = Disk::default();
    let log = options(&clock(), 1).random(random.clone()).segment_entries(4).create_on(disk.backend()).unwrap();
    let died = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (log, random) = (&log, &random);
                scope.spawn(move || {
                    let mut died = 0;
                    for i in 0..30 {
                        if thread == 0 && i % 10 == 5 {
                            random.0.store(true, Ordering::SeqCst);
                        }
                        let done =
                            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.record(call(thread, i))));
                        died += u64::from(!matches!(done, Ok(Ok(_))));
                    }
                    died
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum::<u64>()
    });
    assert!(died > 0);
    log.record(call("after", 1)).unwrap();
    assert_eq!(calls(&log), 8 * 30 - died + 1);
    assert_clean(&log);
}

/// Which call of a batch is at fault, and which of its members, was only in the message: importers parsed it to find out.
#[test]
fn the_call_of_a_batch_and_its_member_are_data_of_the_error() {
    let log = AuditLog::in_memory().unwrap();
    let call = |name: &str| ToolCall::new("c", "u", name);
    let error = log.record_batch([call("t"), call("t"), call("")]).unwrap_err();
    let place = error.place().unwrap();
    assert_eq!((place.call, place.member.as_deref()), (Some(2), Some("tool_name")), "{error}");
    assert!(error.to_string().starts_with("call 2: tool_name: "), "{error}");
    assert_eq!(calls(&log), 0);
}
