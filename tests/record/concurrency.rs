//! Many threads at once: 32 record, 8 query, one purges, one verifies. And a storage backend that panics in the middle of
//! an operation: the state that the thread left is refused or read again, never used for answers.

use crate::store_common::*;
use attestlog::host::ManualClock;
use attestlog::verify::VerifyOptions;
use attestlog::{ErrorKind, Options, Query, ToolCall};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn call(user: u64, i: u64) -> ToolCall {
    ToolCall::new(format!("conv_{user}_{}", i / 8), format!("usr_{user}"), "look")
        .arguments("x".repeat((i * 31 % 400) as usize))
}

#[test]
fn thirty_two_record_eight_query_one_purges_one_verifies() {
    const RECORDERS: u64 = 32;
    let each = 60u64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let clock = Arc::new(ManualClock::at(time("2020-01-01T08:00:00Z")));
    let log = Options::new().clock(clock.clone()).checkpoint_entries(Some(100)).create(&path).unwrap();
    log.record_batch((0..700).map(|i| call(99, i))).unwrap();
    log.checkpoint().unwrap();
    clock.advance(Duration::from_secs(500 * 86_400));
    log.record(call(98, 0)).unwrap();
    let told: Mutex<BTreeMap<u64, attestlog::Hash>> = Mutex::default();
    let (done, queries) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let recorders: Vec<_> = (0..RECORDERS)
            .map(|user| {
                let (log, told) = (&log, &told);
                scope.spawn(move || {
                    for i in 0..each {
                        let receipts = match i % 7 {
                            0 => log.record_batch((0..3).map(|n| call(user, i * 3 + n))).unwrap(),
                            _ => vec![log.record(call(user, i)).unwrap()],
                        };
                        let mut told = told.lock().unwrap();
                        for receipt in receipts {
                            assert!(told.insert(receipt.seq, receipt.hash).is_none(), "one seq for two entries");
                        }
                    }
                })
            })
            .collect();
        for reader in 0..8u64 {
            let (log, done, queries) = (&log, &done, &queries);
            scope.spawn(move || {
                let mut least = 0;
                while !done.load(Ordering::SeqCst) {
                    let user = format!("usr_{}", reader * 4);
                    let mut before = None;
                    let mut count = 0;
                    for entry in log.query(&Query::new().user(&*user)).unwrap() {
                        let entry = entry.unwrap();
                        assert!(before.is_none_or(|b| b < entry.seq), "seqs rise");
                        assert_eq!(entry.call().unwrap().user_id, user);
                        before = Some(entry.seq);
                        count += 1;
                    }
                    assert!(count >= least, "what was seen once is there afterwards");
                    least = count;
                    queries.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let purger = scope.spawn(|| log.retention().purge("ops").unwrap());
        let verifier = scope.spawn(|| {
            for _ in 0..3 {
                let found = log.verify(&VerifyOptions::new().threads(2)).unwrap();
                assert!(found.ok(), "{:#?}", found.findings);
            }
        });
        let recorded: Vec<_> = recorders.into_iter().map(|t| t.join()).collect();
        let (purged, verified) = (purger.join(), verifier.join());
        done.store(true, Ordering::SeqCst);
        assert!(recorded.iter().all(|r| r.is_ok()) && verified.is_ok());
        assert_eq!(purged.unwrap().purged, 700);
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.len() as u64, RECORDERS * (each + each.div_ceil(7) * 2));
    let check = |log: &attestlog::AuditLog| {
        for (seq, hash) in &told {
            assert_eq!(log.entry(*seq).unwrap().hash(), *hash);
        }
        let found = log.verify(&VerifyOptions::new()).unwrap();
        assert!(found.ok(), "{:#?}", found.findings);
        assert_eq!(found.purged, 700);
    };
    check(&log);
    log.close().unwrap();
    check(&Options::new().clock(clock).open(&path).unwrap());
    println!(
        "{} entries of {RECORDERS} threads, {} queries of 8 meanwhile, one purge, three verifications",
        told.len(),
        queries.load(Ordering::Relaxed)
    );
}

#[test]
fn a_storage_that_panics_leaves_nothing_that_is_served() {
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("redb") {
            eprintln!("{info}");
        }
    }));
    let (mut panics, mut points) = (0, 0);
    for at in (0..).step_by(5) {
        let disk = Disk::default();
        let log = options(&clock(), 3).create_on(disk.backend()).unwrap();
        disk.panic(at);
        let mut told = Vec::new();
        let mut failed = 0;
        for i in 0..12 {
            match log.record_batch((0..4).map(|n| call(n, i))) {
                Ok(receipts) => told.extend(receipts),
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::Io | ErrorKind::Closed | ErrorKind::Damaged), "{e}");
                    failed += 1;
                }
            }
            if i == 6 {
                failed += u32::from(log.flush_index().is_err());
            }
        }
        let happened = !disk.heal();
        for receipt in &told {
            assert_eq!(log.entry(receipt.seq).unwrap().hash(), receipt.hash, "panic at {at}");
        }
        assert_clean(&log);
        for conversation in 0..4 {
            let there = log.count(&Query::new().conversation(format!("conv_{conversation}_0"))).unwrap();
            assert_eq!(
                there,
                log.count(&Query::new().conversation("conv_0_0")).unwrap(),
                "half of a job after a panic at {at}"
            );
        }
        log.close().unwrap();
        let log = options(&clock(), 4).open_on(disk.backend()).unwrap();
        assert_clean(&log);
        told.iter().for_each(|r| assert_eq!(log.entry(r.seq).unwrap().hash(), r.hash));
        points += 1;
        panics += failed;
        if !happened {
            break;
        }
    }
    std::panic::set_hook(said);
    println!("{points} places at which the storage panicked, {panics} calls were told");
    assert!(points > 10 && panics > 5);
}
