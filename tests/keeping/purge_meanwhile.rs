//! Promise R102: an answer that is read while a purge runs is of one moment, or ends with an error that says to ask again; whoever owns
//! the store.

use attestlog::host::ManualClock;
use attestlog::query::Statistics;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, ErrorKind, Kind, Options, Query, Result, ToolCall};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A query in progress gives its read transaction back after this many new entries.
const RELEASE: u64 = 256;

/// A log whose calls have all expired, but for every third; the handle that owns it, and the one that reads.
struct Two {
    owner: AuditLog,
    reader: AuditLog,
    _dir: TempDir,
}

impl Two {
    fn new(calls: u64, through_owner: bool) -> Two {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
        let options = || Options::new().clock(clock.clone()).background(false);
        let owner = options().create(dir.path().join("s")).unwrap();
        let call = |i| ToolCall::new("c", "u", if i % 3 == 0 { "issue_refund" } else { "search" });
        for first in (0..calls).step_by(1000) {
            owner.record_batch((first..calls.min(first + 1000)).map(call)).unwrap();
        }
        owner.flush_index().unwrap();
        clock.advance(Duration::from_secs(2 * 366 * 86_400));
        let reader = match through_owner {
            true => options().open(dir.path().join("s")).unwrap(),
            false => owner.clone(),
        };
        assert_eq!(reader.is_owner(), !through_owner);
        Two { owner, reader, _dir: dir }
    }

    /// Purges, after so many new entries that no query keeps its transaction.
    fn purge(&self) -> u64 {
        self.owner.record_batch((0..=RELEASE).map(|_| ToolCall::new("later", "u", "issue_refund"))).unwrap();
        let purged = self.owner.retention().purge("ops").unwrap();
        assert!(purged.purged > 0);
        purged.seq.unwrap()
    }
}

/// Reads `first` items, has a purge run, and reads the rest: all that there was before it in `seqs`, or a part of that and an error.
fn read_around<T>(
    two: &Two,
    answer: impl Iterator<Item = Result<T>>,
    seq: impl Fn(&T) -> u64,
    first: usize,
    seqs: &[u64],
) -> bool {
    let (mut read, mut error) = (Vec::new(), None);
    for (i, item) in answer.enumerate() {
        assert!(error.is_none(), "nothing follows the error");
        match item {
            Ok(item) => read.push(seq(&item)),
            Err(e) => error = Some(e),
        }
        if i + 1 == first {
            two.purge();
        }
    }
    assert_eq!(read, seqs[..read.len()], "nothing is left out in the middle");
    match &error {
        None => assert_eq!(read.len(), seqs.len(), "a whole answer, or an error"),
        Some(e) => {
            assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
            assert!(e.to_string().contains("purge") && e.to_string().contains("Ask again"), "{e}");
        }
    }
    error.is_some()
}

/// The story: an export of a log was read slowly, a purge ran, and the file had the first 8,190 entries, then a gap of thousands, and
/// not the purge's entry; exit code 0, and nothing on standard error.
#[test]
fn no_answer_has_a_gap_where_a_purge_ran() {
    // A page of another process's answer has 512 items.
    for (through_owner, calls, places) in
        [(false, 700, &[1usize, 300, 600][..]), (true, 1200, &[1, 511, 512, 513, 1023, 1024, 1025])]
    {
        for first in places {
            for newest_first in [false, true] {
                let two = Two::new(calls, through_owner);
                let query = Query::new().kind(Kind::ToolCall);
                let query = if newest_first { query.newest_first() } else { query };
                let seqs: Vec<u64> = two.owner.query(&query).unwrap().map(|entry| entry.unwrap().seq).collect();
                let hits = two.reader.query(&query).unwrap();
                let failed = read_around(&two, hits, |entry: &Entry| entry.seq, *first, &seqs);
                assert!(failed || *first > 1000, "through {through_owner}, after {first}, newest first {newest_first}");
                // Asked again, the answer is of the moment after it.
                let again = two.reader.query(&query).unwrap().collect::<Result<Vec<_>>>().unwrap();
                assert_eq!(again.len() as u64, two.reader.count(&query).unwrap());
            }
            let two = Two::new(calls, through_owner);
            let steps = |log: &AuditLog| log.timeline("c").unwrap();
            let seqs: Vec<u64> = steps(&two.owner).map(|step| step.unwrap().entry.seq).collect();
            let timeline = steps(&two.reader);
            read_around(&two, timeline, |step: &attestlog::query::Step| step.entry.seq, *first, &seqs);
        }
    }
}

/// A purge that took nothing of what is still to be read changes nothing of the answer.
#[test]
fn what_a_purge_does_not_touch_is_read_to_its_end() {
    for through_owner in [false, true] {
        let two = Two::new(700, through_owner);
        two.owner.record_batch((0..700).map(|_| ToolCall::new("new", "u", "search"))).unwrap();
        let query = Query::new().conversation("new");
        let seqs: Vec<u64> = two.owner.query(&query).unwrap().map(|entry| entry.unwrap().seq).collect();
        let hits = two.reader.query(&query).unwrap();
        assert!(!read_around(&two, hits, |entry: &Entry| entry.seq, 100, &seqs), "through {through_owner}");
    }
}

/// Counts and statistics are begun again, and a verification is of the moment when it began.
#[test]
fn what_nobody_has_seen_a_part_of_is_of_one_moment() {
    let two = Two::new(3000, true);
    let (before, kept) = (3000, 1000 + RELEASE + 1);
    let stop = AtomicBool::new(false);
    let (counts, sums) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let (mut counts, mut sums) = (Vec::new(), Vec::new());
            while !stop.load(Ordering::SeqCst) {
                counts.push(two.reader.count(&Query::new().kind(Kind::ToolCall)).unwrap());
                let tools = two.reader.statistics(&Statistics::new()).unwrap();
                sums.push(tools.iter().map(|tool| tool.total_calls).sum::<u64>());
            }
            (counts, sums)
        });
        two.purge();
        stop.store(true, Ordering::SeqCst);
        counting.join().unwrap()
    });
    for n in counts.iter().chain(&sums) {
        assert!([before, before + RELEASE + 1, kept].contains(n), "{n} is of no moment");
    }

    let two = Arc::new(Two::new(3000, false));
    let (size, purging) = (two.owner.size().unwrap(), two.clone());
    let once = AtomicBool::new(false);
    let progress = move |_: u64, _: u64| {
        if !once.swap(true, Ordering::SeqCst) {
            purging.purge();
        }
    };
    let verification = two.owner.verify(&VerifyOptions::new().threads(1).progress(Arc::new(progress))).unwrap();
    assert!(verification.ok(), "{:?}", verification.findings);
    assert_eq!((verification.size, verification.purged), (size, 0));
}

/// The part of a segment that closing had sealed is complete, and packed anew, while a purge copies the file: the new file has the
/// segment as it is then, and nothing of the part as it was.
#[test]
fn a_segment_becomes_complete_while_a_purge_runs() {
    for round in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
        let options = || Options::new().clock(clock.clone()).background(false).segment_entries(256);
        let owner = options().create(dir.path().join("s")).unwrap();
        let call = |i| ToolCall::new("c", format!("u{}", i % 7), if i % 3 == 0 { "issue_refund" } else { "search" });
        owner.record_batch((0..600 + 30 * round).map(call)).unwrap();
        owner.flush_index().unwrap();
        clock.advance(Duration::from_secs(2 * 366 * 86_400));
        owner.close().unwrap();
        let owner = options().open(dir.path().join("s")).unwrap();
        let part = owner.health().unwrap().sealed;
        assert!(!part.is_multiple_of(256), "a part of the last segment is sealed");
        let done = AtomicBool::new(false);
        let recorded = std::thread::scope(|scope| {
            let recording = scope.spawn(|| {
                let mut recorded = 0;
                while !done.load(Ordering::SeqCst) && recorded < 4_000 {
                    owner.record_batch((0..20).map(|_| ToolCall::new("later", "u", "issue_refund"))).unwrap();
                    recorded += 20;
                }
                recorded
            });
            let purged = owner.retention().purge("ops");
            done.store(true, Ordering::SeqCst);
            assert!(purged.unwrap().purged > 300);
            recording.join().unwrap()
        });
        let check = |log: &AuditLog| {
            let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
            assert!(found.ok() && found.purged > 300, "{:#?}", found.findings);
            assert_eq!(log.count(&Query::new().conversation("later")).unwrap(), recorded);
            assert_eq!(log.count(&Query::new().tool("search")).unwrap(), 0);
        };
        check(&owner);
        owner.record_batch((0..300).map(call)).unwrap();
        assert!(owner.health().unwrap().sealed > part);
        owner.retention().purge("ops").unwrap();
        owner.close().unwrap();
        let owner = options().open(dir.path().join("s")).unwrap();
        assert_eq!(owner.count(&Query::new().conversation("later")).unwrap(), recorded);
        let found = owner.verify(&VerifyOptions::new().threads(1)).unwrap();
        assert!(found.ok(), "{:#?}", found.findings);
    }
}
