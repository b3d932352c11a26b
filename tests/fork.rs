//! A process that is forked while a store is open in it, as servers do that load a program once and fork workers from it: the copy of the
//! store does nothing, and the store is as it was (I15).
//!
//! These tests fork for real, out of a process with many threads: what a child finds locked stays locked. So each child has an alarm, and
//! says by its exit code what it saw.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]
#![cfg(all(unix, feature = "owner"))]
#![allow(unsafe_code, reason = "no safe call forks")]

use attestlog::Justification;
use attestlog::owner::reach;
use attestlog::query::Statistics;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, ErrorKind, Options, Query, ToolCall};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io::{PipeReader, Read, Write, pipe};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The exit code of a child in which something was not as it should be.
const WRONG: i32 = 9;

/// Forks; gives the child's id, and nothing in the child.
fn split() -> Option<Pid> {
    // SAFETY: the child runs what this test says and ends; a lock of the allocator's that another thread held is free in it, as the C
    // library sees to.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => None,
    }
}

/// Runs `work` in a child, at most for half a minute, and ends it without anything that a process does at its end.
fn end(work: impl FnOnce() -> bool) -> ! {
    // SAFETY: neither touches memory.
    unsafe { nix::libc::alarm(30) };
    let right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
    unsafe { nix::libc::_exit(if right { 0 } else { WRONG }) }
}

/// A child that does this. What it takes into its hands, or drops, the parent keeps.
macro_rules! child {
    ($work:expr) => {
        match split() {
            Some(child) => child,
            None => end($work),
        }
    };
}

#[track_caller]
fn ended_well(child: Pid) {
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0), "9: wrong; a signal: it hung");
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    AuditLog::create(&path).unwrap().close().unwrap();
    (dir, path)
}

fn call(turn: u64) -> ToolCall {
    ToolCall::new("c", "u", "t").turn(turn)
}

fn is_refused<T>(what: &str, result: Result<T, Error>) -> bool {
    let right = matches!(&result, Err(e) if e.kind() == ErrorKind::Closed && e.to_string().contains("another process"));
    if !right {
        eprintln!("{what}: {:?}", result.err());
    }
    right
}

/// Every entry is there and nothing is wrong with the store.
fn assert_whole(path: &Path, calls: u64) {
    let log = AuditLog::open(path).unwrap();
    assert_eq!(log.count(&Query::new().tool("t")).unwrap(), calls);
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(found.ok(), "{:#?}", found.findings);
    log.close().unwrap();
}

/// Single records of the child were answered with receipts and were gone; after batches in both processes every command ended with
/// 'the Merkle node … is missing'.
#[test]
fn a_forked_process_is_refused_everything_and_the_store_stays_whole() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    log.record_batch((0..300).map(call)).unwrap();
    let begun = log.begin(ToolCall::new("c", "u", "begun")).unwrap();
    let queue = log.queue(8).unwrap();
    let mut half_read = log.query(&Query::new()).unwrap();
    half_read.next().unwrap().unwrap();
    let mut follower = log.follow(0);
    let before = std::fs::read(&path).unwrap();
    let forked = child!(|| {
        let all = [
            is_refused("record", log.record(call(0))),
            is_refused("record_batch", log.record_batch((0..1000).map(call))),
            is_refused("begin", log.begin(call(0)).map(|_| ())),
            is_refused("finish", begun.finish(|call| call.result(true))),
            is_refused("entry", log.entry(1)),
            is_refused("query", log.query(&Query::new()).map(|_| ())),
            is_refused("count", log.count(&Query::new())),
            is_refused("a query that had begun", half_read.next().unwrap()),
            is_refused("follower", follower.next_within(Duration::from_secs(20))),
            is_refused("timeline", log.timeline("c").map(|_| ())),
            is_refused("statistics", log.statistics(&Statistics::default())),
            is_refused("verify", log.verify(&VerifyOptions::new())),
            is_refused("checkpoint", log.checkpoint()),
            is_refused("prove", log.prove(1)),
            is_refused("flush_index", log.flush_index()),
            is_refused("health", log.health()),
            is_refused("rotate", log.keys().rotate_epoch_key()),
            is_refused("reveal", log.privacy().reveal(2, "arguments.x", Justification { actor: "a", reason: "r" })),
            is_refused("purge", log.retention().purge("a").map(|_| ())),
            is_refused("backup", log.backup(path.with_extension("copy"))),
            is_refused("try_record", queue.try_record(call(0)).map(|_| ())),
            is_refused("reserve", queue.reserve().wait().map(|_| ())),
            is_refused("close a queue", queue.clone().close()),
            is_refused("close", log.clone().close()),
        ];
        // And nothing is done where all of it is dropped.
        drop((half_read, follower, queue, log));
        all.iter().all(|&right| right)
    });
    ended_well(forked);
    assert_eq!(std::fs::read(&path).unwrap(), before, "not a byte was written");
    let other = Options::new().exclusive().open(&path).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Locked, "the lock is still held");
    Options::new().exclusive().open(&path).unwrap_err();
}

/// The same while the parent records without a pause, so that a lock is held at the moment of the fork more often than not.
#[test]
fn children_that_are_forked_while_the_parent_records_do_not_hang() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let recorded = std::thread::scope(|scope| {
        let recording = scope.spawn(|| (0..200).map(|i| log.record(call(i)).is_ok()).filter(|&ok| ok).count());
        for _ in 0..20 {
            let forked = child!(|| {
                let refused =
                    is_refused("record", log.record(call(0))) && is_refused("query", log.count(&Query::new()));
                drop(log.clone());
                refused
            });
            ended_well(forked);
        }
        recording.join().unwrap()
    });
    assert_eq!(recorded, 200);
    log.close().unwrap();
    assert_whole(&path, 200);
}

/// The owner's side of a shared store, and the side of those who send to it.
#[test]
fn a_store_among_processes_is_refused_to_forks_too() {
    let (_dir, path) = place();
    let open = || Options::new().open(&path).unwrap();
    let (owner, sender) = (open(), open());
    sender.record(call(0)).unwrap();
    let begun = sender.begin(ToolCall::new("c", "u", "begun")).unwrap();
    let connection = reach(&path).unwrap().unwrap();
    let forked = child!(|| {
        let all = [
            is_refused("owner", owner.record(call(1))),
            is_refused("sender", sender.record(call(1))),
            is_refused("batch", sender.record_batch((0..3).map(call))),
            is_refused("begin", sender.begin(call(1)).map(|_| ())),
            is_refused("finish", begun.finish(|call| call.result(true))),
            is_refused("wait_to_own", sender.wait_to_own()),
            is_refused("close", owner.clone().close()),
            !owner.is_owner(),
        ];
        drop((owner, sender, connection));
        // It opens the store anew, as another process does, and records.
        let own = Options::new().open(&path).unwrap();
        all.iter().all(|&right| right) && !own.is_owner() && own.record(call(2)).is_ok()
    });
    ended_well(forked);
    assert!(reach(&path).unwrap().is_some(), "the socket is still the parent's");
    sender.record(call(3)).unwrap();
    begun.finish(|call| call.result(true)).unwrap();
    sender.close().unwrap();
    owner.close().unwrap();
    assert_whole(&path, 3);
}

/// Waits until the test says that it goes on.
fn waits(until: &PipeReader) -> bool {
    let mut until = until;
    until.read_exact(&mut [0]).is_ok()
}

/// The lock is the open file's, which both have. So closing the store in the parent frees it for all.
#[test]
fn a_child_does_not_keep_the_lock_of_a_parent_that_closes() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let (until, mut go) = pipe().unwrap();
    let forked = child!(|| waits(&until));
    log.record(call(0)).unwrap();
    log.close().unwrap();
    assert_whole(&path, 1);
    go.write_all(&[1]).unwrap();
    ended_well(forked);
}

/// A parent that is killed leaves the lock to its children, as long as one of them lives: the store is locked, and nobody waits for the
/// socket that such a child has a copy of, and that nobody answers at.
#[test]
fn a_child_keeps_the_lock_of_a_parent_that_was_killed() {
    let (_dir, path) = place();
    let (until, mut go) = pipe().unwrap();
    let (mut lives, held) = pipe().unwrap();
    let parent = child!(|| {
        let Ok(owner) = Options::new().open(&path) else { return false };
        let recorded = owner.record(call(0)).is_ok();
        // Its alarm ends it where the test does not.
        let _ = child!(|| waits(&until));
        // Gone as if it were killed: nothing is closed, nothing is dropped.
        std::mem::forget(owner);
        recorded
    });
    ended_well(parent);
    drop(held);
    assert_eq!(Options::new().exclusive().open(&path).unwrap_err().kind(), ErrorKind::Locked);
    assert!(reach(&path).unwrap().is_none(), "a socket without an owner is nobody's");
    go.write_all(&[1]).unwrap();
    // At its end, when nobody has the other end any more, the last child has ended.
    assert_eq!(lives.read(&mut [0]).unwrap(), 0);
    // It may still be closing its files, which this waits for.
    Options::new().open(&path).unwrap().close().unwrap();
    assert_whole(&path, 1);
}
