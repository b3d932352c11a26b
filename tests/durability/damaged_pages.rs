//! One bit in redb's own tables of free pages, in a store that had been closed cleanly, ended the process that opened it.
//! redb checks its checksums only after a crash; for any other file it trusts these tables. Reading worked. Then the commit
//! with which redb closes, or the next one that recorded something, read the list of pages to free, panicked over it, and
//! panicked again in the destructor of the iterator that was reading the list, which nobody can catch: of 143,360 bits of a
//! store, one in each byte, five did it. Now the tables are checked when the store is opened [W5]. If they are damaged the
//! store can be read, verification says so, nothing is recorded, and nothing is written as it is closed.
//!
//! The same after redb has panicked in a commit for any reason: its last commit would be made from the state that the panic
//! left.

use crate::store_common::*;
use crate::tampering::*;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, ErrorKind};

/// The position of redb's flag that says whether somebody has the file open.
const FLAGS: usize = 9;

fn open(disk: &Disk) -> attestlog::Result<AuditLog> {
    options(&clock(), 8).open_on(disk.backend())
}

#[test]
fn damaged_tables_of_free_pages_are_told_and_nothing_is_written_to_them() {
    let bytes = closed(16);
    let whole = Disk::of(bytes.clone());
    let log = open(&whole).unwrap();
    let answers_of_whole = answers(&log).unwrap();
    log.record(call(1)).unwrap();
    log.close().unwrap();
    let (mut damaged, mut recorded, mut panicked) = (0, 0, 0);
    quietly(|| {
        let used = |at: &usize| bytes[at / 4096 * 4096..][..4096].iter().any(|&b| b != 0);
        // The first bytes of each page say what else is in it; a prime step reaches every bit of a byte in the rest.
        for at in (4096..bytes.len()).filter(|at| at % 4096 < 32 || at % 37 == 0).filter(used) {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let disk = Disk::of(altered.clone());
            let Ok(log) = open(&disk) else { continue };
            let found = log.verify(&VerifyOptions::new().threads(1)).map(|found| found.findings).unwrap_or_default();
            let told = found.iter().any(|f| f.kind == FindingKind::FileDamaged && f.detail.contains("free pages"));
            if !told {
                // The second call has a sender, and is the first that touches the senders' table.
                let [first, second] = [98, 99].map(|i| log.record(call(i)));
                recorded += u64::from(second.is_ok());
                if first.is_ok() && second.is_err_and(|e| e.to_string().contains("cannot be read or written")) {
                    panicked += 1;
                    let before = disk.operations();
                    drop(log);
                    assert_eq!(disk.operations(), before, "byte {at}: something was written after a panic");
                }
                continue;
            }
            damaged += 1;
            let named = |f: &attestlog::verify::Finding| f.kind == FindingKind::PageDamaged;
            assert!(found.iter().any(named), "byte {at}: {found:?}");
            assert_eq!(answers(&log.despite_damage()).unwrap(), answers_of_whole, "byte {at}");
            for _ in 0..2 {
                let refused = log.record(call(99)).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Damaged);
                assert!(refused.to_string().contains("free pages"), "{refused}");
            }
            assert_eq!(log.flush_index().unwrap_err().kind(), ErrorKind::Damaged);
            match at % 2 {
                0 => log.close().unwrap(),
                _ => drop(log),
            }
            let mut after = disk.bytes();
            after[FLAGS] = altered[FLAGS];
            assert!(after == altered, "byte {at}: something was written");
            // The next process that opens it gets the same error.
            assert_eq!(open(&disk).unwrap().record(call(99)).unwrap_err().kind(), ErrorKind::Damaged);
        }
    });
    println!(
        "{damaged} bits damaged redb's own tables, over {panicked} redb panicked, over {recorded} nothing happened"
    );
    assert!(damaged >= 20 && recorded >= 500 && panicked > 0, "{damaged} {recorded} {panicked}");
}

#[test]
fn after_a_panic_in_a_commit_nothing_is_written_as_the_store_is_given_back() {
    quietly(|| {
        let mut panics = 0;
        for at in 0.. {
            let disk = Disk::default();
            let log = options(&clock(), 3).create_on(disk.backend()).unwrap();
            let told = log.record(call(1)).unwrap();
            disk.panic(at);
            let failed = log.record(call(2)).is_err();
            // If the panic came after the commit, or the store was reopened in between, there may be more to write.
            let before = disk.operations();
            drop(log);
            if disk.heal() {
                break;
            }
            if failed {
                panics += 1;
                assert_eq!(disk.operations(), before, "written after a panic at {at}");
            }
            let log = open(&disk).unwrap();
            assert_clean(&log);
            assert_eq!(log.entry(told.seq).unwrap().hash(), told.hash);
            log.record(call(3)).unwrap();
        }
        println!("{panics} panics in a commit");
        assert!(panics > 2);
    });
}
