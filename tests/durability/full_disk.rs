//! A disk that is really full: a tmpfs of a few megabytes. The error says so, everything can be read, and recording goes on in
//! the same process once there is room. Needs the right to mount; says so where it is missing. (`crash_points` has the same at
//! every write, on a disk in memory.)
#![cfg(target_os = "linux")]

use attestlog::anchor::{Anchor, FileAnchor, read_anchor_file};
use attestlog::{AuditLog, ErrorKind, Options, Query, ToolCall, VerifyOptions};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A small file system, gone when this is dropped.
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
    // Again, and again the same; nothing breaks by trying.
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

/// The store has room and the disk of its key file and of an anchor file has none: what needs them fails and says so, the rest
/// goes on, and all of it works once there is room.
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
    // Every byte that is left.
    for size in [4096, 1] {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(small.at("ballast")).unwrap();
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
    let before = fs::read(&key).unwrap();
    log.record(call(2)).unwrap();
    assert_eq!(log.checkpoint().unwrap_err().kind(), ErrorKind::DiskFull);
    assert_eq!(log.rotate_epoch_key().unwrap_err().kind(), ErrorKind::DiskFull);
    assert_eq!(fs::read(&key).unwrap(), before, "the key file is whole");
    log.record(call(3)).unwrap();
    // An anchor file takes what still fits its last page; what a full disk leaves of a record hides none.
    let failed = (0..200).filter(|_| anchor.submit(&first, &|_| panic!("a file needs no proof")).is_err()).count();
    assert!(failed > 0);
    fs::remove_file(small.at("ballast")).unwrap();
    let second = log.checkpoint().unwrap();
    anchor.submit(&second, &|_| panic!("a file needs no proof")).unwrap();
    let read = read_anchor_file(&fs::read(&anchored).unwrap()).unwrap();
    assert_eq!(read.records.last().unwrap().1.checkpoint, second);
    log.rotate_epoch_key().unwrap();
    log.record(call(4)).unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(found.ok(), "{:#?}", found.findings);
    log.close().unwrap();
    assert!(options().open(&path).unwrap().verify(&VerifyOptions::new()).unwrap().ok());
}
