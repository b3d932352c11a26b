//! A commit of a few calls is synced once, so after the power went some of its sectors may be on the disk and others not, with or
//! without the header that names it. Whatever is there, the store has the whole commit or the state before it, nothing else, and
//! verification finds nothing [R121, W1, W3]. Every sector is lost, and alone there, and with
//! `ATTESTLOG_LONG=1` every pair of sectors; and random ones.

use crate::crash::*;
use crate::store_common::{assert_clean, clock};
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, Query, Sender, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const SECTOR: usize = 512;

fn options(clock: &Arc<ManualClock>, seed: u64) -> Options {
    Options::new()
        .clock(clock.clone())
        .random(Arc::new(SeededRandom::new(seed)))
        .background(false)
        .cache_bytes(1 << 20)
        .without_keys()
}

fn call(n: u64) -> ToolCall {
    let mut dice = Dice(n);
    let noise: String = (0..300).map(|_| char::from(b'a' + dice.roll(26) as u8)).collect();
    ToolCall::new(format!("conv_{}", n % 4), format!("usr_{}", n % 3), "look").arguments(noise).patient("P-1")
}

type Step = fn(&AuditLog) -> u64;

fn single(log: &AuditLog) -> u64 {
    log.record(call(500)).unwrap();
    1
}

fn batch(log: &AuditLog) -> u64 {
    log.record_batch((600..620).map(call)).unwrap();
    20
}

fn numbered(log: &AuditLog) -> u64 {
    log.record(call(700).sender(Sender::new("sender", 7))).unwrap();
    1
}

fn begun(log: &AuditLog) -> u64 {
    let _ = log.begin(call(800)).unwrap();
    1
}

/// The bytes of a store before and after a step, and how many entries the step added.
struct Torn {
    name: &'static str,
    before: Vec<u8>,
    after: Vec<u8>,
    added: u64,
    /// The offsets of the sectors that the step wrote.
    sectors: Vec<usize>,
}

fn torn(name: &'static str, step: Step, fresh: bool) -> Torn {
    let (disk, clock) = (CrashDisk::default(), clock());
    let log = options(&clock, 1).create_on(disk.clone()).unwrap();
    for n in 0..12 {
        log.record(call(n)).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    log.record(call(20).sender(Sender::new("sender", 6))).unwrap();
    log.record_batch((30..50).map(call)).unwrap();
    let log = if fresh {
        log.close().unwrap();
        options(&clock, 2).open_on(disk.clone()).unwrap()
    } else {
        log
    };
    let (mut before, syncs) = (disk.contents().remove(0), disk.syncs());
    let added = step(&log);
    // redb syncs a file that it has made longer.
    let syncs = disk.syncs() - syncs;
    assert!(syncs == 1 || fresh && syncs == 2, "{name}: {syncs} syncs");
    let after = disk.contents().remove(0);
    before.resize(after.len(), 0);
    let mut sectors: Vec<usize> = (0..after.len()).step_by(SECTOR).collect();
    sectors.retain(|&at| before[at..at + SECTOR] != after[at..at + SECTOR]);
    Torn { name, before, after, added, sectors }
}

/// The lines of a store that was left so, in order.
fn lines(bytes: Vec<u8>, read_only: bool, what: &str) -> Vec<String> {
    let (clock, disk) = (clock(), CrashDisk::holding(bytes));
    clock.advance(Duration::from_secs(100));
    let opened = options(&clock, 3);
    let opened = if read_only { opened.read_only() } else { opened };
    let log = opened.open_on(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    let lines: Vec<_> = log.query(&Query::new()).unwrap().map(|entry| entry.unwrap().line()).collect();
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(found.ok(), "{what}: {:#?}", found.findings);
    if !read_only {
        let next = log.record(call(900)).unwrap();
        assert_eq!((next.seq, log.entry(next.seq).unwrap().hash()), (lines.len() as u64, next.hash), "{what}");
        log.close().unwrap();
    }
    lines
}

impl Torn {
    /// Judges the file with these sectors as after the commit, and the others as before it.
    fn judge(&self, there: &dyn Fn(usize) -> bool, whole: &[String], counts: &mut [u64; 2], what: &str) {
        let mut bytes = self.before.clone();
        for (n, &at) in self.sectors.iter().enumerate() {
            if there(n) {
                bytes[at..at + SECTOR].copy_from_slice(&self.after[at..at + SECTOR]);
            }
        }
        let what = format!("{}: {what}", self.name);
        let old = whole.len() - self.added as usize;
        let turn = counts[0] + counts[1];
        let lines = lines(bytes, turn.is_multiple_of(4), &what);
        let all = lines.len() == whole.len();
        assert!(all || lines.len() == old, "{what}: {} entries of {old} or {}", lines.len(), whole.len());
        assert_eq!(lines, whole[..lines.len()], "{what}");
        counts[usize::from(all)] += 1;
    }
}

#[test]
fn whatever_sectors_of_a_commit_are_lost_it_is_there_or_is_not() {
    for (name, step, fresh) in [
        ("a call", single as Step, false),
        ("a batch", batch, false),
        ("a numbered call", numbered, false),
        ("a call begun", begun, false),
        ("the first call after opening", single, true),
    ] {
        let torn = torn(name, step, fresh);
        let whole = lines(torn.after.clone(), true, name);
        let count = torn.sectors.len();
        assert!(count >= 8, "{name}: {count} sectors");
        let mut counts = [0; 2];
        for a in 0..count {
            torn.judge(&|n| n != a, &whole, &mut counts, &format!("sector {a} lost"));
            torn.judge(&|n| n == a, &whole, &mut counts, &format!("sector {a} alone"));
            for b in (a + 1..count).filter(|_| long()) {
                torn.judge(&|n| n != a && n != b, &whole, &mut counts, &format!("sectors {a} and {b} lost"));
                torn.judge(&|n| n == a || n == b, &whole, &mut counts, &format!("sectors {a} and {b} alone"));
            }
        }
        let mut dice = Dice(count as u64);
        for try_ in 0..if long() { 400 } else { 20 } {
            let there: Vec<bool> = (0..count).map(|_| dice.roll(2) == 0).collect();
            torn.judge(&|n| there[n], &whole, &mut counts, &format!("random sectors ({try_})"));
        }
        torn.judge(&|_| true, &whole, &mut counts, "all there");
        println!("{name}: {count} sectors; {} states without the commit, {} with it", counts[0], counts[1]);
        assert!(counts[0] > 10 && counts[1] > 0, "{counts:?}");
    }
}

/// What a commit synced is there until the next one is: a commit that is under way, on pages that were free, does not touch what the
/// tally of the one before it lists. Otherwise a crash in the middle of a commit would take back the one before, which was
/// acknowledged.
#[test]
fn a_commit_under_way_does_not_take_back_the_one_before() {
    let (disk, clock) = (CrashDisk::default(), clock());
    let log = options(&clock, 1).segment_entries(32).create_on(disk.clone()).unwrap();
    let mut acknowledged = log.size().unwrap();
    let rounds = if long() { 200 } else { 25 };
    for n in 0..rounds {
        match n % 7 {
            3 => drop(log.record_batch((0..9).map(|i| call(1000 * n + i))).unwrap()),
            5 => log.flush_index().unwrap(),
            _ => drop(log.record(call(n)).unwrap()),
        }
        acknowledged = acknowledged.max(log.size().unwrap());
        // The next commit is cut off at each of its writes, in a copy.
        let now = disk.contents().remove(0);
        for at in 0.. {
            let copy = CrashDisk::holding(now.clone());
            let again = options(&clock, 2).segment_entries(32).open_on(copy.clone()).unwrap();
            copy.arm(copy.operations() + at, Fault::Power);
            let done = again.record(call(7));
            drop(again);
            for fate in [Fate::Kept, Fate::Torn] {
                let left = copy.after(fate, n + at).contents().remove(0);
                let there = lines(left, true, &format!("round {n}, operation {at}, {fate:?}")).len() as u64;
                assert!(there >= acknowledged, "round {n}, operation {at}, {fate:?}: {there} of {acknowledged}");
            }
            if done.is_ok() {
                break;
            }
        }
    }
    assert_clean(&log);
}
