//! Somebody overwrites the store's file while it is open, with an older copy of it or with another log [R65].

use super::store_common::{Disk, assert_clean, clock, options};
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, ErrorKind, Options, Query, Result, ToolCall};
use redb::StorageBackend;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

fn call(user: &str, i: u64) -> ToolCall {
    ToolCall::new(format!("conv_{i}"), user, "look").arguments(i)
}

#[track_caller]
fn refused<T>(what: Result<T>) {
    let Err(e) = what else { panic!("it was answered") };
    assert_eq!(e.kind(), ErrorKind::Damaged, "{e}");
    assert!(e.to_string().contains("something else has written over the store's file"), "{e}");
}

/// Checks that nothing is answered, for everything that a host can ask of a log whose file was overwritten.
#[track_caller]
fn nothing_is_answered(log: &AuditLog) {
    refused(log.record(call("late", 0)));
    refused(log.record_batch([call("late", 1), call("late", 2)]));
    refused(log.begin(call("late", 3)).map(|_| ()));
    refused(log.entry(5));
    refused(log.count(&Query::new().user("mallory")));
    refused(log.query(&Query::new()).and_then(|hits| hits.collect::<Result<Vec<_>>>()));
    refused(log.timeline("conv_3").map(|_| ()));
    refused(log.health());
    refused(log.flush_index());
    refused(log.check_file());
    let found = log.verify(&VerifyOptions::new()).unwrap();
    let kinds: Vec<_> = found.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(
        (kinds, found.entries, found.signed),
        (vec![FindingKind::FileDamaged], 0, false),
        "{:?}",
        found.findings
    );
}

/// An older copy, or another log, was written over the file in place (`cp copy audit.log`; no key is needed for it).
/// `verify` read header and pages of the copy, which were sound, walked the rows that redb had in memory, and found nothing
/// wrong. Calls were acknowledged, and when the process ended all of them were gone, and the store could not be read any
/// more.
#[test]
fn a_file_that_was_written_over_is_not_recorded_into() {
    for which in ["old", "other", "cut", "empty"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let open = |path| Options::new().background(false).open(path);
        let log = Options::new().background(false).create(&path).unwrap();
        log.record_batch((0..60).map(|i| call("anna", i))).unwrap();
        log.close().unwrap();
        let mut copy = std::fs::read(&path).unwrap();
        let log = open(&path).unwrap();
        log.record_batch((0..50).map(|i| call("mallory", i))).unwrap();
        log.close().unwrap();
        let log = open(&path).unwrap();
        assert_clean(&log);
        match which {
            "old" => {}
            "other" => {
                let other = folder.path().join("other.log");
                let another = AuditLog::create(&other).unwrap();
                another.record_batch((0..10).map(|i| call("zoe", i))).unwrap();
                another.close().unwrap();
                copy = std::fs::read(other).unwrap();
            }
            "cut" => copy = std::fs::read(&path).unwrap()[..8192].to_vec(),
            _ => copy = Vec::new(),
        }
        // In place: the same file.
        std::fs::write(&path, &copy).unwrap();
        nothing_is_answered(&log);
        log.close().unwrap_err();
        assert!(std::fs::read(&path).unwrap() == copy, "{which}: it is left as it was put there");
    }
}

/// A store opened for reading also answers from memory.
#[test]
fn nor_is_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::create(&path).unwrap();
    log.record_batch((0..60).map(|i| call("anna", i))).unwrap();
    log.close().unwrap();
    let copy = std::fs::read(&path).unwrap();
    let log = AuditLog::open(&path).unwrap();
    log.record(call("mallory", 0)).unwrap();
    log.close().unwrap();
    let log = AuditLog::open_read_only(&path).unwrap();
    assert_clean(&log);
    std::fs::write(&path, &copy).unwrap();
    refused(log.count(&Query::new().user("mallory")));
    refused(log.entry(5));
    assert!(!log.verify(&VerifyOptions::new()).unwrap().ok());
    log.close().unwrap();
    assert!(std::fs::read(&path).unwrap() == copy);
}

/// Another file was put at the store's path: the handle went on answering from the file that it had open.
#[test]
fn nor_is_one_answered_for_that_its_path_does_not_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("audit.log"), folder.path().join("away"));
    let log = AuditLog::create(&path).unwrap();
    log.record(call("anna", 0)).unwrap();
    std::fs::rename(&path, &away).unwrap();
    for why in ["nothing lies there now", "another file lies there now"] {
        let said = [
            log.record(call("late", 1)).map(|_| ()),
            log.count(&Query::new()).map(|_| ()),
            log.health().map(|_| ()),
            log.verify(&VerifyOptions::new()).map(|_| ()),
        ];
        for said in said {
            let e = said.unwrap_err();
            assert!(e.to_string().contains(why), "{e}");
        }
        std::fs::write(&path, "another").unwrap();
    }
    // Once the file is put back, it goes on.
    std::fs::rename(&away, &path).unwrap();
    log.record(call("anna", 2)).unwrap();
    assert_clean(&log);
    log.close().unwrap();
}

/// A disk whose contents are replaced before one of the modifying operations.
#[derive(Debug, Clone)]
struct Swapped {
    disk: Disk,
    left: Arc<AtomicI64>,
    with: Arc<Mutex<Vec<u8>>>,
    /// Whether that operation also fails.
    fails: bool,
}

impl Swapped {
    fn put(&self) {
        let bytes = self.with.lock().unwrap();
        self.disk.set_len(0).unwrap();
        self.disk.set_len(bytes.len() as u64).unwrap();
        self.disk.write(0, &bytes).unwrap();
    }

    fn step(&self, is_header: bool) -> io::Result<()> {
        // A change between the last look at the header and its write cannot be noticed.
        if is_header || self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Ok(());
        }
        self.put();
        if self.fails { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

impl StorageBackend for Swapped {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(false)?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step(false)?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(offset == 0)?;
        self.disk.write(offset, data)
    }
}

/// The same in the middle of a commit, before each of its writes and its sync: nothing is acknowledged that is in no file
/// afterwards. If that write also fails, the file is reopened, and the missing acknowledged entries are noticed.
#[test]
fn in_the_middle_of_a_commit_nothing_is_acknowledged() {
    for fails in [false, true] {
        let mut last = 0;
        for after in 0..1000 {
            let disk = Disk::default();
            let log = options(&clock(), 7).create_on(disk.backend()).unwrap();
            log.record_batch((0..60).map(|i| call("anna", i))).unwrap();
            log.close().unwrap();
            let left = Arc::new(AtomicI64::new(-1));
            let with = Arc::new(Mutex::new(disk.bytes()));
            let swapped = Swapped { disk: disk.clone(), left: left.clone(), with, fails };
            let storage = move || Box::new(swapped.clone()) as Box<dyn StorageBackend>;
            let log = options(&clock(), 8).open_on(storage).unwrap();
            log.record_batch((0..50).map(|i| call("mallory", i))).unwrap();
            left.store(after, Ordering::SeqCst);
            if log.record(call("late", 0)).is_ok() {
                // The commit had ended before.
                assert!(left.load(Ordering::SeqCst) >= 0, "operation {after}: it was acknowledged");
                last = after;
                break;
            }
            refused(log.record(call("late", 1)));
            refused(log.count(&Query::new()));
            assert!(!log.verify(&VerifyOptions::new()).unwrap().ok());
        }
        println!("{last} operations");
        assert!(last > 3, "{last}");
    }
}
