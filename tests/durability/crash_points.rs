//! The power fails at every write, sync and rename: what was acknowledged is there, nothing is half there, a purge has
//! happened or has not, verification is clean, and the next record works (invariants W1, W2, W3, M1, X4, X5); and a reader
//! of what is left gets the same answers and changes nothing [R49]. `ATTESTLOG_LONG=1` tries every operation with every
//! fate of the unsynced writes, otherwise every n-th.

use crate::crash::*;
use attestlog::Justification;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::note::SignedCheckpoint;
use attestlog::retention::{HoldSelector, SeqSet};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Hash, Options, Query, Receipt, Result, Sender, ToolCall};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the workload was told, which determines what must be there.
#[derive(Debug, Default, Clone)]
struct Told {
    acknowledged: BTreeMap<u64, Hash>,
    /// For each job, how many calls it had, and whether it was acknowledged.
    jobs: Vec<(u64, bool)>,
    checkpoints: Vec<SignedCheckpoint>,
    /// Whether the clock was advanced until calls have expired.
    aged: bool,
    /// What a purge was about to remove, and of how many jobs.
    expired: SeqSet,
    expired_jobs: usize,
    /// Whether a purge was acknowledged.
    purged: bool,
    /// Errors after which the workload continued.
    errors: Vec<ErrorKind>,
    /// Entries that an error said are recorded all the same.
    recorded: Vec<u64>,
    /// Which operations each closing in the middle made.
    closing: Vec<Range<u64>>,
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2025-03-01T09:00:00Z".parse().unwrap()))
}

/// After this time calls have expired, but not those that concern patients.
const LONG_TIME: Duration = Duration::from_secs(500 * 86_400);

fn options(key: &Path, clock: &Arc<ManualClock>, seed: u64) -> Options {
    Options::new()
        .clock(clock.clone())
        .random(Arc::new(SeededRandom::new(seed)))
        .background(false)
        .checkpoint_entries(Some(50))
        .cache_bytes(1 << 20)
        .segment_entries(32)
        .key_file(key)
}

/// Whether the calls of this job are kept only as long as the general class says.
fn expires(job: u64) -> bool {
    job % 3 == 2
}

/// A call whose arguments do not compress, so that a few fill a block.
fn call(job: u64, i: u64) -> ToolCall {
    let mut dice = Dice(job << 20 | i);
    let noise: String = (0..500).map(|_| char::from(b'a' + dice.roll(26) as u8)).collect();
    let call = ToolCall::new(format!("job-{job}"), format!("usr_{}", i % 3), ["look", "write"][i as usize % 2])
        .arguments(noise)
        .duration(Duration::from_millis(i));
    if expires(job) { call } else { call.patient(format!("P-{}", job % 5)) }
}

impl Told {
    /// The clock a minute after the failure.
    fn clock(&self) -> Arc<ManualClock> {
        let clock = clock();
        clock.advance(Duration::from_secs(60) + if self.aged { LONG_TIME } else { Duration::ZERO });
        clock
    }

    fn took(&mut self, calls: u64, done: Result<Vec<Receipt>>) -> Result<()> {
        match done {
            Ok(receipts) => {
                self.acknowledged.extend(receipts.iter().map(|r| (r.seq, r.hash)));
                self.jobs.push((calls, true));
                Ok(())
            }
            Err(e) => {
                self.jobs.push((calls, false));
                Err(e)
            }
        }
    }
}

type Step = fn(&AuditLog, &mut Told) -> Result<()>;

fn single(log: &AuditLog, told: &mut Told) -> Result<()> {
    let done = log.record(call(told.jobs.len() as u64, 0));
    told.took(1, done.map(|r| vec![r]))
}

fn batch(log: &AuditLog, told: &mut Told) -> Result<()> {
    let job = told.jobs.len() as u64;
    told.took(25, log.record_batch((0..25).map(|i| call(job, i))))
}

fn numbered(log: &AuditLog, told: &mut Told) -> Result<()> {
    let job = told.jobs.len() as u64;
    let done = log.record(call(job, 1).sender(Sender::new("sender", job)));
    told.took(1, done.map(|r| vec![r]))
}

fn two_steps(log: &AuditLog, told: &mut Told) -> Result<()> {
    // Two jobs: the beginning is acknowledged separately.
    let begun = log.begin(call(told.jobs.len() as u64, 2));
    let receipt = begun.as_ref().map(|b| b.receipt());
    told.took(1, receipt.map(|r| vec![r]).map_err(|e| attestlog_error(e.kind())))?;
    let done = begun?.finish(|call| call.result("done"));
    // It belongs to the conversation of the beginning, which then has two entries.
    if let Ok(receipt) = &done {
        told.acknowledged.insert(receipt.seq, receipt.hash);
    }
    done.map(|_| ())
}

fn attestlog_error(kind: ErrorKind) -> attestlog::Error {
    attestlog::Error::new(kind, "as the beginning")
}

fn flush(log: &AuditLog, _: &mut Told) -> Result<()> {
    log.flush_index()
}

fn checkpoint(log: &AuditLog, told: &mut Told) -> Result<()> {
    told.checkpoints.push(log.checkpoint()?);
    Ok(())
}

fn rotate(log: &AuditLog, _: &mut Told) -> Result<()> {
    log.keys().rotate_epoch_key()
}

fn rotate_pseudonym(log: &AuditLog, _: &mut Told) -> Result<()> {
    log.keys().rotate_pseudonym_key().map(|_| ())
}

fn hold(log: &AuditLog, _: &mut Told) -> Result<()> {
    let mut covering = HoldSelector::default();
    covering.patients.insert("P-1".to_owned());
    log.retention().place_hold("case", covering, Justification { actor: "ops", reason: "reason" }).map(|_| ())
}

/// Advances the clock until calls have expired; a purge accepts that only if somebody confirms that the clock is right.
fn purge(log: &AuditLog, told: &mut Told) -> Result<()> {
    told.aged = true;
    log.retention().confirm_clock(Justification { actor: "ops", reason: "a long time went by" })?;
    log.flush_index()?;
    told.expired = log.retention().plan()?.expired;
    told.expired_jobs = told.jobs.len();
    log.retention().purge("ops")?;
    told.purged = true;
    Ok(())
}

/// Closes the store and opens it again (in `run`, which has it): closing makes the file as short as it can be, and so the
/// next commit makes it longer.
fn again(_: &AuditLog, _: &mut Told) -> Result<()> {
    Ok(())
}

/// Covers blocks that are sealed, index batches, checkpoints of all kinds, key rotations, a hold, a purge, which rewrites
/// the store and frees its space, and the first commits after the store was closed.
const WORK: &[Step] = &[
    single,
    single,
    batch,
    numbered,
    flush,
    single,
    checkpoint,
    two_steps,
    rotate,
    again,
    single,
    batch,
    hold,
    single,
    rotate_pseudonym,
    single,
    flush,
    numbered,
    checkpoint,
    rotate,
    batch,
    single,
    two_steps,
    checkpoint,
    single,
    purge,
    single,
    again,
    batch,
    checkpoint,
];

/// What is left of a run: the disk, the key file, what the workload was told.
struct Left {
    disk: CrashDisk,
    key: Option<Vec<u8>>,
    told: Told,
    /// Whether the store could be created at all.
    made: bool,
}

/// Runs the workload on a disk on which something goes wrong. If the power fails it stops at the first error, otherwise it
/// continues.
fn run(folder: &Path, at: u64, fault: Fault) -> Left {
    let key = folder.join("store.key");
    let _ = std::fs::remove_file(&key);
    let (disk, clock) = (CrashDisk::default(), clock());
    disk.arm(at, fault);
    let mut told = Told::default();
    let mut made = false;
    if let Ok(mut log) = options(&key, &clock, 1).create_on(disk.clone()) {
        made = true;
        for (n, step) in (2..).zip(WORK) {
            clock.advance(Duration::from_millis(250));
            if std::ptr::fn_addr_eq(*step, again as Step) {
                let from = disk.operations();
                let closed = log.close();
                told.closing.push(from..disk.operations());
                assert!(closed.is_ok() || disk.happened(), "{closed:?}");
                // What goes wrong for a while goes wrong while it is opened, too.
                let open = |_| {
                    options(&key, &clock, n).open_on(disk.clone()).inspect_err(|e| {
                        assert!(disk.happened(), "nothing went wrong, but: {e}");
                    })
                };
                let tries = if fault == Fault::Power { 1 } else { 60 };
                log = match (0..tries).map(open).find_map(Result::ok) {
                    Some(opened) => opened,
                    None if fault == Fault::Power => {
                        return Left { disk, key: std::fs::read(&key).ok(), told, made };
                    }
                    None => panic!("{fault:?} at {at}: it is over, and the store does not open"),
                };
                continue;
            }
            if std::ptr::fn_addr_eq(*step, purge as Step) {
                clock.advance(LONG_TIME);
            }
            if let Err(e) = step(&log, &mut told) {
                assert!(disk.happened(), "nothing went wrong, but: {e}");
                told.errors.push(e.kind());
                if e.kind() == ErrorKind::Recorded {
                    told.recorded.push(e.seq().expect("it names the entry"));
                }
                if fault == Fault::Power {
                    break;
                }
            }
        }
        // Closing signs, and shrinks the file: operations like any others.
        let closed = log.close();
        assert!(closed.is_ok() || disk.happened(), "{closed:?}");
    }
    Left { disk, key: std::fs::read(&key).ok(), told, made }
}

/// The answers of a store: its entries' lines, the seqs that are found for each job, and the root over everything.
#[derive(Debug, PartialEq)]
struct Answers {
    size: u64,
    lines: BTreeMap<u64, String>,
    jobs: Vec<Vec<u64>>,
    root: Hash,
}

impl Answers {
    /// The answers for the first `size` entries.
    fn of(log: &AuditLog, told: &Told, size: u64) -> Result<Answers> {
        let below = |query: &Query| -> Result<Vec<(u64, String)>> {
            let all = log.query(query)?.map(|entry| entry.map(|entry| (entry.seq, entry.line())));
            Ok(all.collect::<Result<Vec<_>>>()?.into_iter().filter(|(seq, _)| *seq < size).collect())
        };
        let jobs = (0..told.jobs.len()).map(|job| below(&Query::new().conversation(format!("job-{job}"))));
        let jobs = jobs.map(|found| Ok(found?.into_iter().map(|(seq, _)| seq).collect())).collect::<Result<_>>()?;
        let root = log.proofs().root_at(size)?;
        Ok(Answers { size, lines: below(&Query::new())?.into_iter().collect(), jobs, root })
    }
}

/// Somebody who only reads what a crash left gets the same answers as somebody who repairs it, and leaves it unchanged: no
/// byte of any file differs, and verification finds nothing [R49, E2].
fn read(folder: &Path, left: &Left, disk: &CrashDisk, what: &str) -> Option<Answers> {
    let key = folder.join("again.key");
    let (before, second) = (disk.contents(), disk.has_second());
    let log = options(&key, &left.told.clock(), 3).read_only().open_on(disk.clone()).ok();
    let answers = log.map(|log| {
        let answers =
            Answers::of(&log, &left.told, log.size().unwrap()).unwrap_or_else(|e| panic!("{what}, read only: {e}"));
        for (seq, hash) in &left.told.acknowledged {
            let there = answers.lines.get(seq).map(|line| Hash::leaf(line.as_bytes()));
            let purged = there.is_none() && left.told.expired.contains(*seq);
            assert!(there == Some(*hash) || purged, "{what}, read only: entry {seq} is gone or another");
        }
        let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
        assert!(found.ok(), "{what}, read only: {:#?}", found.findings);
        let refused = log.record(ToolCall::new("c", "u", "t")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{what}: {refused}");
        let _ = log.close();
        answers
    });
    assert!(disk.operations() == 0 && disk.contents() == before, "{what}: reading wrote to the file");
    assert_eq!(disk.has_second(), second, "{what}: reading took what a purge left away");
    assert_eq!(std::fs::read(&key).ok(), left.key, "{what}: reading wrote to the key file");
    answers
}

/// Checks what must hold for a store that is opened after something went wrong.
fn check(log: &AuditLog, told: &Told, clock: &ManualClock, what: &str) {
    let mut gone = 0;
    for (seq, hash) in &told.acknowledged {
        match log.entry(*seq) {
            Ok(entry) => assert_eq!(entry.hash(), *hash, "{what}: entry {seq} is another one"),
            Err(e) if e.kind() == ErrorKind::NoSuchEntry && told.expired.contains(*seq) => gone += 1,
            Err(e) => panic!("{what}: entry {seq} was acknowledged and is gone: {e}"),
        }
    }
    for seq in &told.recorded {
        let there = log.entry(*seq).map(drop).or_else(|e| match e.kind() {
            ErrorKind::NoSuchEntry if told.expired.contains(*seq) => Ok(()),
            _ => Err(e),
        });
        assert!(there.is_ok(), "{what}: entry {seq} is recorded, an error said: {there:?}");
    }
    let expired = told.acknowledged.keys().filter(|seq| told.expired.contains(**seq)).count();
    let purged = gone > 0;
    assert!(gone == expired || (gone == 0 && !told.purged), "{what}: {gone} of {expired} that had expired are gone");
    for (job, &(calls, acknowledged)) in told.jobs.iter().enumerate() {
        let query = Query::new().conversation(format!("job-{job}"));
        let whole = query.clone().kind(attestlog::Kind::ToolCall);
        let there = log.query(&query).unwrap().filter(|e| e.as_ref().unwrap().call().is_some()).count() as u64;
        let ended = log.count(&whole).unwrap();
        if purged && job < told.expired_jobs && expires(job as u64) {
            assert_eq!((there, ended), (0, 0), "{what}: job {job} was purged and is found");
            continue;
        }
        // The second step of a call in two is one more entry.
        let steps = there - there.min(calls);
        assert!(
            steps <= 1 && (steps == 0 || calls == 1),
            "{what}: job {job} of {calls} calls has {there}, {ended} ended"
        );
        assert!(there >= calls || (there == 0 && !acknowledged), "{what}: half of job {job}: {there} of {calls}");
    }
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(found.ok(), "{what}: {:#?}", found.findings);
    assert_eq!(found.purged, if purged { told.expired.len() } else { 0 }, "{what}");
    for old in &told.checkpoints {
        let size = old.checkpoint().size();
        assert!(size <= found.signed_size, "{what}: a checkpoint of {size} is out, {} are signed", found.signed_size);
        assert_eq!(log.proofs().root_at(size).unwrap(), old.checkpoint().root(), "{what}: another history");
    }
    clock.advance(Duration::from_secs(1));
    let next = log.record(ToolCall::new("after", "usr_1", "look")).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(log.entry(next.seq).unwrap().hash(), next.hash);
    log.flush_index().unwrap_or_else(|e| panic!("{what}: {e}"));
    log.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(found.ok(), "{what}, with one more: {:#?}", found.findings);
    assert_eq!(found.signed_size, log.size().unwrap());
}

/// Opens what is left. A store that could not be created need not be one.
fn reopen(folder: &Path, left: &Left, disk: &CrashDisk, what: &str) {
    let key = folder.join("again.key");
    let _ = std::fs::remove_file(&key);
    if let Some(bytes) = &left.key {
        private(&key, bytes);
    }
    let read = read(folder, left, disk, what);
    let clock = left.told.clock();
    match options(&key, &clock, 2).open_on(disk.clone()) {
        Ok(log) => {
            if let Some(read) = read {
                let answers = Answers::of(&log, &left.told, read.size).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(answers, read, "{what}: who only read got something else");
            } else {
                assert!(!left.made, "{what}: opens for writing and not for reading");
            }
            assert!(!disk.has_second(), "{what}: what the purge left is still there");
            check(&log, &left.told, &clock, what)
        }
        Err(e) => assert!(!left.made, "{what}: does not open: {e}"),
    }
}

fn private(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// A folder in which short-lived files can be written quickly.
fn folder() -> tempfile::TempDir {
    match tempfile::tempdir_in("/dev/shm") {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

/// Every operation of the workload, or every n-th.
fn points(stride: u64) -> impl Iterator<Item = u64> {
    let folder = folder();
    let all = run(folder.path(), u64::MAX, Fault::Power);
    assert!(all.made && all.told.errors.is_empty(), "{:?}", all.told.errors);
    let operations = all.disk.operations();
    let log = options(&folder.path().join("store.key"), &all.told.clock(), 2).open_on(all.disk.clone()).unwrap();
    let batches = log.count(&Query::new().kind(attestlog::Kind::IndexBatch)).unwrap();
    let blocks = log.health().unwrap().sealed;
    assert!(batches >= 2 && blocks > 50 && all.told.checkpoints.len() == 4, "{batches} batches, {blocks} sealed");
    assert!(all.told.purged && all.told.expired.len() > 20, "{} were purged", all.told.expired.len());
    println!(
        "the workload has {operations} writes, syncs and renames, {} calls, {} purged",
        all.told.acknowledged.len(),
        all.told.expired.len()
    );
    (0..operations).step_by(if long() { 1 } else { stride as usize })
}

#[test]
fn the_power_may_go_at_every_write_and_sync() {
    let folder = folder();
    let (mut points_tried, mut states) = (0u64, 0u64);
    for at in points(5) {
        let left = run(folder.path(), at, Fault::Power);
        assert!(left.disk.happened());
        points_tried += 1;
        for (n, fate) in FATES.into_iter().enumerate() {
            // Random fates are tried several times.
            let tries = if matches!(fate, Fate::Some | Fate::Torn) && long() { 3 } else { 1 };
            for seed in 0..tries {
                if !long() && (at + n as u64) % 2 == 1 {
                    continue;
                }
                states += 1;
                let what = format!("power gone at operation {at}, unsynced writes {fate:?} ({seed})");
                reopen(folder.path(), &left, &left.disk.after(fate, at * 31 + seed), &what);
            }
        }
    }
    println!("{points_tried} crash points tried, {states} states of the disk opened");
}

/// The writes that opening makes may be interrupted too.
#[test]
fn the_power_may_go_again_while_the_store_is_being_opened() {
    let folder = folder();
    let (mut tried, mut outer) = (0u64, 0u64);
    for at in points(60) {
        outer += 1;
        if long() && outer % 7 > 0 {
            continue;
        }
        let left = run(folder.path(), at, Fault::Power);
        if !left.made {
            continue;
        }
        for again in 0.. {
            let disk = left.disk.after(Fate::Torn, at);
            disk.arm(again, Fault::Power);
            let key = folder.path().join("again.key");
            let _ = std::fs::remove_file(&key);
            private(&key, left.key.as_ref().unwrap());
            let opened = options(&key, &left.told.clock(), 2).open_on(disk.clone());
            let done = opened.is_ok();
            drop(opened);
            if !disk.happened() {
                assert!(done, "nothing went wrong at {at}, {again}, and it did not open");
                break;
            }
            tried += 1;
            let what = format!("power gone at {at}, and again at operation {again} of opening");
            reopen(folder.path(), &left, &disk.after(Fate::Torn, again), &what);
        }
    }
    println!("{tried} crash points of opening tried");
}

/// A write or sync fails and the next ones work: a caller that got the error can continue with the same store, and what was
/// acknowledged before and after survives a power failure too. A failed sync has dropped the data that it was to make
/// durable.
#[test]
fn a_disk_may_fail_at_every_write_and_sync_and_recover() {
    let folder = folder();
    let (mut tried, mut told_of) = (0u64, 0u64);
    for at in points(7) {
        let left = run(folder.path(), at, Fault::Broken);
        tried += 1;
        told_of += u64::from(!left.told.errors.is_empty());
        if !left.made {
            continue;
        }
        for fate in [Fate::Lost, Fate::Torn] {
            let what = format!("operation {at} failed, then power gone, unsynced writes {fate:?}");
            reopen(folder.path(), &left, &left.disk.after(fate, at), &what);
        }
    }
    println!("{tried} failing operations tried; the caller was told of {told_of}");
}

/// The story of the sync that failed while a store was closed: after a purge, closing lets redb compact the file, and redb names
/// what it moved before that was synced. The sync failed, so what was moved was never going to be on the disk, though it could
/// still be read. The next process read it, recorded on top of it, and synced that: everything was acknowledged, and with the
/// power the whole log was gone. Now such a file is written again before anything is based on it [W6].
#[test]
fn a_sync_that_fails_while_a_store_is_closed_loses_nothing_that_is_recorded_afterwards() {
    let folder = folder();
    let all = run(folder.path(), u64::MAX, Fault::Power);
    let closing = all.told.closing.last().expect("the store is closed after the purge").clone();
    assert!(closing.end - closing.start > 10, "closing compacts the file: {closing:?}");
    for at in closing {
        let left = run(folder.path(), at, Fault::Broken);
        for fate in if long() { &[Fate::Lost, Fate::Torn][..] } else { &[Fate::Lost] } {
            let what = format!("operation {at} of closing failed, then power gone, unsynced writes {fate:?}");
            reopen(folder.path(), &left, &left.disk.after(*fate, at), &what);
        }
    }
}

/// The disk is full for a while: the error says so, existing entries can be read, and recording resumes when there is room.
///
/// The story of `NoRoom` and of the store that is closed in the middle: redb makes a file longer, which succeeds on a full
/// disk, and then writes the new pages, which fails. A store whose first commit ended so had a table of free pages that knew
/// less than the file had. That was taken for damage: nothing could be recorded any more, and verification found
/// `page_damaged`. A crash between the two did the same.
#[test]
fn a_disk_may_be_full_at_every_write() {
    let folder = folder();
    let (mut tried, mut said) = (0u64, 0u64);
    for at in points(11) {
        for fault in [Fault::Full(1), Fault::Full(40), Fault::NoRoom(1), Fault::NoRoom(40), Fault::NoRoom(400)] {
            let left = run(folder.path(), at, fault);
            tried += 1;
            for kind in &left.told.errors {
                let plain =
                    [ErrorKind::DiskFull, ErrorKind::Closed, ErrorKind::Io, ErrorKind::Busy, ErrorKind::Recorded]
                        .contains(kind);
                assert!(plain, "operation {at} found the disk full ({fault:?}), and the error was {kind:?}");
                said += u64::from(*kind == ErrorKind::DiskFull);
            }
            if left.made {
                for fate in [Fate::Lost, Fate::Kept] {
                    let what = format!("{fault:?} at {at}, unsynced writes {fate:?}");
                    reopen(folder.path(), &left, &left.disk.after(fate, at), &what);
                }
            }
        }
    }
    println!("{tried} times full; {said} errors said so");
    assert!(said > 0);
}

/// A key file is written beside the old one and renamed over it: whatever a crash leaves of the new file, and whichever of
/// the two has the name, the store opens with it and works. Tried for each save of a rotation and of a checkpoint.
#[test]
fn the_power_may_go_while_a_key_file_is_written() {
    let folder = folder();
    let (store, clock) = (CrashDisk::default(), clock());
    let key = folder.path().join("store.key");
    let log = options(&key, &clock, 1).create_on(store.clone()).unwrap();
    let mut told = Told::default();
    single(&log, &mut told).unwrap();
    let mut tried = 0u64;
    for step in [checkpoint, rotate, rotate_pseudonym] {
        single(&log, &mut told).unwrap();
        let (before, old, known) = (store.after(Fate::Kept, 0), std::fs::read(&key).unwrap(), told.clone());
        step(&log, &mut told).unwrap();
        let new = std::fs::read(&key).unwrap();
        let cuts = (0..=new.len()).step_by(if long() { 1 } else { 61 });
        for cut in cuts {
            // The store as before the step: its own write comes after the key file's first.
            let fresh = folder.path().join(".again.key.new");
            let _ = std::fs::remove_file(&fresh);
            private(&fresh, &new[..cut]);
            let left = Left { disk: CrashDisk::default(), key: Some(old.clone()), told: known.clone(), made: true };
            reopen(folder.path(), &left, &before.after(Fate::Kept, 0), &format!("{cut} bytes of a new key file left"));
            tried += 1;
        }
        let _ = std::fs::remove_file(folder.path().join(".again.key.new"));
        let left = Left { disk: CrashDisk::default(), key: Some(new), told: told.clone(), made: true };
        reopen(folder.path(), &left, &store.after(Fate::Lost, 0), "everything done");
    }
    println!("{tried} states of a key file tried");
}
