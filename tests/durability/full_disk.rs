//! A disk that is really full: a tmpfs of a few megabytes. The error says so, everything can be read, and recording resumes
//! in the same process once there is room. Needs the right to mount, and says so if it is missing. (`crash_points` has the
//! same at every write, on a disk in memory.)
#![cfg(target_os = "linux")]

use attestlog::anchor::{Anchor, FileAnchor, read_anchor_file};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Options, Query, ToolCall};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A small file system, unmounted when this is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(megabytes: u32) -> Option<Small> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m,mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match done {
            Ok(done) if done.status.success() => Some(Small(folder)),
            _ => {
                println!("SKIPPED: no small file system can be mounted here");
                None
            }
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn call(i: u64) -> ToolCall {
    // Hashes do not compress.
    let noise: String = (0..40u64).map(|n| attestlog::Hash::of(&(i * 100 + n).to_le_bytes()).to_string()).collect();
    ToolCall::new(format!("conv_{}", i % 50), "usr_1", "look").arguments(noise)
}

fn fill(log: &AuditLog, from: u64) -> (Vec<attestlog::Receipt>, ErrorKind) {
    let mut receipts = Vec::new();
    for i in from.. {
        match log.record(call(i)) {
            Ok(receipt) => receipts.push(receipt),
            Err(e) => {
                assert!(e.to_string().contains("the disk is full"), "{e}");
                return (receipts, e.kind());
            }
        }
    }
    unreachable!()
}

#[test]
fn a_full_disk_says_so_and_recording_goes_on_when_there_is_room() {
    let Some(small) = Small::mount(8) else { return };
    fs::write(small.at("ballast"), vec![1; 3 << 20]).unwrap();
    let path = small.at("audit.log");
    let log = Options::new().create(&path).unwrap();
    let (mut receipts, kind) = fill(&log, 0);
    assert_eq!(kind, ErrorKind::DiskFull);
    assert!(receipts.len() > 50, "{} entries fitted", receipts.len());
    // Trying again gives the same error, and breaks nothing.
    for i in 0..3 {
        match log.record(call(1_000_000 + i)) {
            Ok(receipt) => receipts.push(receipt),
            Err(e) => assert_eq!(e.kind(), ErrorKind::DiskFull, "{e}"),
        }
    }
    let readable = |log: &AuditLog, receipts: &[attestlog::Receipt]| {
        for receipt in receipts {
            assert_eq!(log.entry(receipt.seq).unwrap().hash(), receipt.hash);
        }
        let calls = Query::new().user("usr_1");
        assert_eq!(log.query(&calls).unwrap().filter(|e| e.is_ok()).count(), receipts.len());
        let found = log.verify(&VerifyOptions::new()).unwrap();
        assert!(found.ok(), "{:#?}", found.findings);
    };
    readable(&log, &receipts);
    let before = receipts.len();
    fs::remove_file(small.at("ballast")).unwrap();
    // In the same process, with the same handle.
    for i in 0..50 {
        receipts.push(log.record(call(2_000_000 + i)).unwrap());
    }
    log.flush_index().unwrap();
    log.checkpoint().unwrap();
    readable(&log, &receipts);
    // Full once more, then closed and opened on the full disk.
    let (more, kind) = fill(&log, 3_000_000);
    assert_eq!(kind, ErrorKind::DiskFull);
    receipts.extend(more);
    drop(log);
    let log = Options::new().open(&path).unwrap();
    readable(&log, &receipts);
    println!(
        "full after {before} entries, went on to {}, opened on the full disk, {} at the end",
        before + 50,
        receipts.len()
    );
}

/// Fills every byte that is left.
fn fill_up(path: &std::path::Path) {
    for size in [1 << 20, 4096, 1] {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
}

/// The story: a store was closed, another program filled the disk, and one more call was recorded. redb makes the file
/// longer, which succeeds, and then writes to it, which fails. From then on the length of the file was called damage:
/// verification said `page_damaged`, nothing could be recorded any more, and a backup of it could not be restored, though
/// nothing was lost. A query that was half read made it worse: the file could not be opened again beside it, and the error was
/// that another process has the store open.
#[test]
fn a_file_that_grew_on_a_full_disk_is_not_damaged() {
    let Some(small) = Small::mount(4) else { return };
    for reading in [false, true] {
        let path = small.at(&format!("audit-{reading}.log"));
        let log = Options::new().create(&path).unwrap();
        log.record_batch((0..20).map(call)).unwrap();
        log.close().unwrap();
        fill_up(&small.at("ballast"));
        let whole = |entries: u64| {
            let mut flaws = Vec::new();
            let pages = attestlog::verify::Verification::of_pages(&path).unwrap();
            flaws.extend(pages.findings);
            let log = Options::new().read_only().pages_first(true).open(&path).unwrap();
            flaws.extend(log.verify(&VerifyOptions::new()).unwrap().findings);
            assert!(flaws.is_empty(), "{flaws:#?}");
            assert_eq!(log.count(&Query::new().user("usr_1")).unwrap(), entries);
        };
        let closed = fs::metadata(&path).unwrap().len();
        // Opened, refused, and closed, twice; in the first round the file grows.
        for round in 0..2 {
            let log = Options::new().open(&path).unwrap();
            let mut half_read = log.query(&Query::new()).unwrap();
            if reading {
                half_read.next().unwrap().unwrap();
            }
            for i in 0..2 {
                let e = log.record_batch((0..50).map(|n| call(1000 * (i + 1) + n))).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::DiskFull, "{e}");
                assert!(e.to_string().contains("this was not recorded: make room and retry"), "{e}");
                assert!(fs::metadata(&path).unwrap().len() > closed, "round {round}: it did not grow");
            }
            assert_eq!(half_read.filter(|entry| entry.is_ok()).count(), if reading { 21 } else { 22 }, "{round}");
            // What a process leaves that is killed now.
            fs::copy(&path, small.0.path().with_extension("killed")).unwrap();
            drop(log);
            whole(20);
        }
        let killed = small.0.path().with_extension("killed");
        let found = attestlog::verify::Verification::of_pages(&killed).unwrap();
        assert!(found.ok(), "{:#?}", found.findings);
        fs::remove_file(killed).unwrap();
        fs::remove_file(small.at("ballast")).unwrap();
        let log = Options::new().open(&path).unwrap();
        log.record_batch((0..50).map(|n| call(5000 + n))).unwrap();
        log.close().unwrap();
        whole(70);
        fs::remove_file(path).unwrap();
    }
}

/// The store has room, and the disk of its key file and of an anchor file has none: operations that need these fail and say
/// so, the rest works, and everything works once there is room.
#[test]
fn key_and_anchor_files_on_a_full_disk() {
    let Some(small) = Small::mount(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, key, anchored) = (folder.path().join("audit.log"), small.at("audit.key"), small.at("anchors"));
    let options = || Options::new().background(false).key_file(&key);
    let log = options().create(&path).unwrap();
    log.record(call(1)).unwrap();
    let anchor = FileAnchor::new(&anchored);
    let first = log.checkpoint().unwrap();
    anchor.submit(&first, &|_| panic!("a file needs no proof")).unwrap();
    fill_up(&small.at("ballast"));
    let before = fs::read(&key).unwrap();
    let recorded = log.record(call(2)).unwrap();
    let unsigned = log.checkpoint().unwrap_err();
    assert_eq!((unsigned.kind(), unsigned.seq()), (ErrorKind::Recorded, Some(recorded.seq)), "{unsigned}");
    assert_eq!(log.keys().rotate_epoch_key().unwrap_err().kind(), ErrorKind::DiskFull);
    assert_eq!(fs::read(&key).unwrap(), before, "the key file is whole");
    log.record(call(3)).unwrap();
    // An anchor file gets what still fits in its last page; what a full disk leaves of a record hides no other record.
    let failed = (0..200).filter(|_| anchor.submit(&first, &|_| panic!("a file needs no proof")).is_err()).count();
    assert!(failed > 0);
    fs::remove_file(small.at("ballast")).unwrap();
    let second = log.checkpoint().unwrap();
    anchor.submit(&second, &|_| panic!("a file needs no proof")).unwrap();
    let read = read_anchor_file(&fs::read(&anchored).unwrap()).unwrap();
    assert_eq!(read.records.last().unwrap().1.checkpoint, second);
    log.keys().rotate_epoch_key().unwrap();
    log.record(call(4)).unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(found.ok(), "{:#?}", found.findings);
    log.close().unwrap();
    assert!(options().open(&path).unwrap().verify(&VerifyOptions::new()).unwrap().ok());
}
