//! What the tests of the store share: a disk in memory that can fail, a clock that stands still, calls by the dozen.
#![allow(dead_code, reason = "each test file uses its part")]

/// The engine's own list of tables.
#[path = "../../src/store/file/tables.rs"]
pub mod tables;

use attestlog::emergency::EmergencyAccess;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, Justification, Options, Query, Result, Timestamp};
use redb::{StorageBackend, TableDefinition};
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// The time at which tests begin.
pub const START: &str = "2025-03-01T09:00:00Z";

/// The names of all tables, as the engine lists them.
pub fn table_names() -> Vec<String> {
    struct Names(Vec<String>);
    impl tables::EachTable for Names {
        type Error = std::convert::Infallible;

        fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
            _: tables::Copying,
        ) -> std::result::Result<(), Self::Error> {
            self.0.push(redb::TableHandle::name(&table).to_owned());
            Ok(())
        }
    }
    let mut names = Names(Vec::new());
    let Ok(()) = tables::each(&mut names);
    names.0
}

/// Opens an emergency grant for an hour, at the user's own request; returns its seq.
pub fn open_grant(log: &AuditLog, user: &str, patient: &str) -> u64 {
    let access = EmergencyAccess { user, patient, urgency: "immediate", ttl: Duration::from_secs(3600) };
    log.emergency().open(access, Justification { actor: user, reason: "unconscious" }).unwrap().seq
}

/// Bytes that outlive the store on them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    bytes: Arc<RwLock<Vec<u8>>>,
    faults: Arc<Faults>,
}

/// Operations that change something are counted; the one that is due fails, and those after it as long as it says.
#[derive(Debug, Default)]
struct Faults {
    operations: AtomicU64,
    /// Counts down to the first failure; below zero nothing fails.
    left: AtomicI64,
    armed: AtomicU64,
    /// How many operations fail, once it has begun.
    failures: AtomicI64,
    /// In which way: as a broken disk, a full one, or by a panic.
    way: AtomicU64,
}

const BROKEN: u64 = 0;
const FULL: u64 = 1;
const PANICS: u64 = 2;

impl Disk {
    /// A disk with these bytes.
    pub fn of(bytes: Vec<u8>) -> Disk {
        Disk { bytes: Arc::new(RwLock::new(bytes)), faults: Arc::default() }
    }

    /// What `Options::create_on` and `open_on` ask for.
    pub fn backend(&self) -> impl Fn() -> Box<dyn StorageBackend> + Send + Sync + 'static {
        let disk = self.clone();
        move || Box::new(disk.clone())
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.read().unwrap().clone()
    }

    /// How many writes, syncs and changes of length there were.
    pub fn operations(&self) -> u64 {
        self.faults.operations.load(Ordering::SeqCst)
    }

    /// Fails `failures` operations after the next `after` ones: as a full disk, or as a broken one.
    pub fn fail(&self, after: u64, failures: u64, full: bool) {
        self.arm(after, failures, if full { FULL } else { BROKEN });
    }

    /// Panics once, after the next `after` operations.
    pub fn panic(&self, after: u64) {
        self.arm(after, 1, PANICS);
    }

    fn arm(&self, after: u64, failures: u64, way: u64) {
        self.faults.left.store(after as i64, Ordering::SeqCst);
        self.faults.failures.store(failures as i64, Ordering::SeqCst);
        self.faults.way.store(way, Ordering::SeqCst);
        self.faults.armed.store(1, Ordering::SeqCst);
    }

    /// From now on nothing fails. Says whether something still might have.
    pub fn heal(&self) -> bool {
        self.faults.armed.swap(0, Ordering::SeqCst) == 1
    }

    fn step(&self) -> io::Result<()> {
        let faults = &self.faults;
        faults.operations.fetch_add(1, Ordering::SeqCst);
        if faults.armed.load(Ordering::SeqCst) == 0 || faults.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        if faults.failures.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.heal();
            return Ok(());
        }
        match faults.way.load(Ordering::SeqCst) {
            BROKEN => Err(io::Error::other("the disk is broken")),
            FULL => Err(io::ErrorKind::StorageFull.into()),
            _ => {
                self.heal();
                // Without telling the hook.
                std::panic::resume_unwind(Box::new("the storage panics"))
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.read().unwrap();
        let end = (offset as usize).checked_add(out.len());
        let from = end.and_then(|end| bytes.get(offset as usize..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        if len > 1 << 30 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.write().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        let mut bytes = self.bytes.write().unwrap();
        let end = (offset as usize).checked_add(data.len());
        let to = end.and_then(|end| bytes.get_mut(offset as usize..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(data);
        Ok(())
    }
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(time(START)))
}

/// Options under which the same calls give the same bytes.
pub fn options(clock: &Arc<ManualClock>, seed: u64) -> Options {
    Options::new()
        .clock(clock.clone())
        .random(Arc::new(SeededRandom::new(seed)))
        .background(false)
        .without_keys()
        .cache_bytes(4 << 20)
        // Small enough for stores of a hundred entries to have segments, and a tail.
        .segment_entries(64)
}

/// A store on a disk of its own.
pub fn store(seed: u64) -> (AuditLog, Disk, Arc<ManualClock>) {
    let (disk, clock) = (Disk::default(), clock());
    let log = options(&clock, seed).create_on(disk.backend()).unwrap();
    (log, disk, clock)
}

/// Every entry, by a query for nothing in particular.
pub fn entries(log: &AuditLog) -> Vec<Entry> {
    log.query(&Query::new()).unwrap().collect::<Result<_>>().unwrap()
}

pub fn lines(log: &AuditLog) -> Vec<String> {
    entries(log).iter().map(Entry::line).collect()
}

/// Asserts that nothing is wrong with a store and that verification counts what there is.
#[track_caller]
pub fn assert_clean(log: &AuditLog) {
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(found.ok(), "{:#?}", found.findings);
    assert_eq!((found.size, found.entries), (log.size().unwrap(), log.size().unwrap()));
}

/// Keeps what the library turns into errors from filling the screen.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let said = std::sync::Arc::new(std::panic::take_hook());
    let ours = said.clone();
    std::panic::set_hook(Box::new(move |info| {
        if !attestlog::is_guarded() {
            ours(info);
        }
    }));
    let done = work();
    std::panic::set_hook(Box::new(move |info| said(info)));
    done
}

/// A store whose tables somebody changes through redb.
pub fn edit(bytes: &[u8], change: impl FnOnce(&redb::WriteTransaction)) -> Vec<u8> {
    let disk = Disk::of(bytes.to_vec());
    let database = redb::Database::builder().create_with_backend(disk.clone()).unwrap();
    let txn = database.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
    drop(database);
    disk.bytes()
}
