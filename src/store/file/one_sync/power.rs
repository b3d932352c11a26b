//! The power goes at any operation, over and over, also while the file is opened after it went the last time; and writes and syncs fail.

use super::*;
use crate::store::file::database_handle::DatabaseHandle;
use redb::{Builder, TableDefinition};
use std::collections::BTreeMap;
use std::sync::Arc;

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

type Rows = BTreeMap<u64, Vec<u8>>;
type Tried = Result<(), Box<dyn std::error::Error>>;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing is done any more.
    Power,
    /// This one operation fails. If it is a sync, what was written before can be read, and is not on the disk, whatever sync follows.
    Broken,
}

#[derive(Debug, Clone)]
enum Done {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A disk that keeps what was written and what was synced apart.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    written: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Done>,
    fault: Option<(u64, Fault)>,
    done: Operations,
}

#[derive(Debug, Default, Clone, Copy)]
struct Operations {
    all: u64,
    syncs: u64,
}

fn put(image: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Length(length) => image.resize(*length as usize, 0),
        Done::Write(at, data) => {
            let at = *at as usize;
            image.resize(image.len().max(at + data.len()), 0);
            image[at..at + data.len()].copy_from_slice(data);
        }
    }
}

impl Inner {
    fn step(&mut self) -> io::Result<()> {
        let number = self.done.all;
        self.done.all += 1;
        match self.fault {
            Some((at, Fault::Power)) if number >= at => Err(io::Error::other("the power is gone")),
            Some((at, Fault::Broken)) if number == at => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, done: Done) {
        put(&mut self.written, &done);
        self.unsynced.push(done);
    }
}

impl Disk {
    fn holding(bytes: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(Inner { synced: bytes.clone(), written: bytes, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn counts(&self) -> Operations {
        self.inner().done
    }

    /// Lets this go wrong after as many more operations.
    fn arm(&self, after: u64, fault: Fault) {
        let mut inner = self.inner();
        inner.fault = Some((inner.done.all + after, fault));
    }

    /// What is on the disk once the power is back: of what was not synced each write is there, or torn, or not.
    fn after(&self, dice: &mut Dice) -> Vec<u8> {
        let inner = self.inner();
        let (mut image, kept) = (inner.synced.clone(), dice.roll(6) == 0);
        for done in &inner.unsynced {
            match (done, dice.roll(4)) {
                (done, _) if kept => put(&mut image, done),
                (_, 0) => {}
                (Done::Write(at, data), fate @ 1..=2) => {
                    let cut = dice.roll(data.len() as u64 + 1) as usize;
                    let (at, data) = if fate == 1 { (*at, &data[..cut]) } else { (*at + cut as u64, &data[cut..]) };
                    put(&mut image, &Done::Write(at, data.to_vec()));
                }
                (done, _) => put(&mut image, done),
            }
        }
        image
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (inner, offset) = (self.inner(), offset as usize);
        let from = inner.written.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.step()?;
        inner.apply(Done::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.done.syncs += 1;
        let done = inner.step();
        if done.is_err() && matches!(inner.fault, Some((_, Fault::Power))) {
            return done;
        }
        if done.is_ok() {
            let unsynced = std::mem::take(&mut inner.unsynced);
            unsynced.iter().for_each(|written| put(&mut inner.synced, written));
        }
        // The length of a file is in a file system's journal, which gives up nothing of the kind.
        inner.unsynced.retain(|done| matches!(done, Done::Length(_)));
        done
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        inner.step()?;
        inner.apply(Done::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn open(disk: &Disk) -> crate::Result<DatabaseHandle> {
    // So little memory that many pages are written early.
    DatabaseHandle::open(Builder::new().set_cache_size(24 << 10), Box::new(disk.clone()), false)
}

fn there(handle: &DatabaseHandle) -> Rows {
    let txn = handle.begin_read().unwrap();
    let Ok(table) = txn.open_table(TABLE) else { return Rows::new() };
    let rows = table.range::<u64>(..).unwrap().map(|row| {
        let (key, value) = row.unwrap();
        (key.value(), value.value().to_vec())
    });
    rows.collect()
}

/// One commit of some rows, large or small, which may write some of them twice, or take them out again.
fn change(handle: &DatabaseHandle, rows: &mut Rows, dice: &mut Dice) -> Tried {
    let mut txn = handle.begin_write()?;
    txn.set_two_phase_commit(dice.roll(8) > 0);
    txn.set_quick_repair(dice.roll(8) == 0);
    let (size, near) = ([1, 1, 1, 2, 12, 30][dice.roll(6) as usize], dice.roll(190));
    {
        let mut table = txn.open_table(TABLE)?;
        for _ in 0..size {
            let key = near + dice.roll(10);
            if dice.roll(4) == 0 {
                table.remove(key)?;
                rows.remove(&key);
                continue;
            }
            let value = vec![dice.roll(256) as u8; [30, 300, 3000, 9000, 40_000][dice.roll(5) as usize]];
            table.insert(key, &value[..])?;
            rows.insert(key, value);
        }
    }
    Ok(txn.commit()?)
}

/// Whether the long versions of the tests are wanted.
fn long() -> bool {
    std::env::var_os("ATTESTLOG_LONG").is_some_and(|v| v != "0")
}

/// What came of some lives of a file.
#[derive(Debug, Default)]
struct Counts {
    old: u64,
    new: u64,
    once: u64,
    twice: u64,
    failed: u64,
}

/// Opens the file and commits until something goes wrong, and closes it. `may`: the rows that may be in the file; what is
/// acknowledged comes last, and alone.
fn live(disk: &Disk, may: &mut Vec<Rows>, dice: &mut Dice, counts: &mut Counts) {
    let Ok(mut handle) = open(disk) else { return };
    let now = there(&handle);
    assert!(may.contains(&now), "{} rows", now.len());
    counts.old += u64::from(may.len() > 1 && now == may[0]);
    counts.new += u64::from(may.len() > 1 && now == may[1]);
    *may = vec![now];
    for _ in 0..dice.roll(8) {
        let mut rows = may[0].clone();
        let before = disk.counts().syncs;
        let done = change(&handle, &mut rows, dice);
        let syncs = disk.counts().syncs - before;
        match done {
            Ok(()) => {
                *(if syncs == 1 { &mut counts.once } else { &mut counts.twice }) += 1;
                *may = vec![rows];
            }
            Err(_) => {
                counts.failed += 1;
                may.push(rows);
                return;
            }
        }
        if dice.roll(12) == 0 {
            handle.tighten();
        }
    }
}

/// Whenever the power goes, and however often, the file has what was acknowledged, or that and the commit that was under way [R121].
#[test]
fn whatever_goes_wrong_the_file_has_what_was_acknowledged() {
    let mut counts = Counts::default();
    for seed in 0..if long() { 120 } else { 12 } {
        let mut dice = Dice(seed);
        let disk = Disk::default();
        drop(DatabaseHandle::fresh(Builder::new().set_cache_size(24 << 10), Arc::new(disk.clone())).unwrap());
        let (mut image, mut may) = (disk.inner().synced.clone(), vec![Rows::new()]);
        for round in 0..40 {
            let disk = Disk::holding(image);
            // While one operation fails the file is opened again, until the power goes.
            for _ in 0..dice.roll(3) {
                disk.arm(dice.roll(60), Fault::Broken);
                live(&disk, &mut may, &mut dice, &mut counts);
            }
            let soon = [4, 20, 120][dice.roll(3) as usize];
            disk.arm(dice.roll(soon), Fault::Power);
            live(&disk, &mut may, &mut dice, &mut counts);
            image = disk.after(&mut dice);
            let handle =
                open(&Disk::holding(image.clone())).unwrap_or_else(|e| panic!("seed {seed}, round {round}: {e}"));
            let rows = there(&handle);
            assert!(may.contains(&rows), "seed {seed}, round {round}: {} rows", rows.len());
            assert!(!handle.is_damaged(), "seed {seed}, round {round}");
            counts.old += u64::from(may.len() > 1 && rows == may[0]);
            counts.new += u64::from(may.len() > 1 && rows == may[1]);
            may = vec![rows];
        }
    }
    println!("{counts:?}");
    assert!(counts.old > 20 && counts.new > 20 && counts.once > 50 && counts.twice > 50, "{counts:?}");
}

/// Opens the file, commits a row, and closes it.
fn one_more(disk: &Disk) -> Tried {
    let handle = open(disk)?;
    let mut txn = handle.begin_write()?;
    txn.set_two_phase_commit(true);
    txn.open_table(TABLE)?.insert(1000, &[3; 100][..])?;
    Ok(txn.commit()?)
}

/// Takes the power away at each operation of opening, committing and closing, and as often again while the file is opened after that.
fn at_each_operation(image: &[u8], again: u64, dice: &mut Dice) -> u64 {
    let old = there(&open(&Disk::holding(image.to_vec())).unwrap());
    let mut new = old.clone();
    new.insert(1000, vec![3; 100]);
    let mut tried = 0;
    for at in 0.. {
        let disk = Disk::holding(image.to_vec());
        disk.arm(at, Fault::Power);
        let done = one_more(&disk);
        for turn in 0..4 {
            let image = disk.after(dice);
            let rows = there(&open(&Disk::holding(image.clone())).unwrap_or_else(|e| panic!("operation {at}: {e}")));
            assert!(
                rows == new || done.is_err() && rows == old,
                "operation {at}: {} rows of {}",
                rows.len(),
                old.len()
            );
            tried += 1;
            if turn == 0 && again > 0 && (long() || at % 4 == 1) {
                tried += at_each_operation(&image, again - 1, dice);
            }
        }
        if disk.counts().all <= at {
            break;
        }
    }
    tried
}

/// The story of the second crash: redb repairs a file that was not closed, and while it does, it calls the file closed and commits.
/// That commit took one sync too, and where it was torn nobody looked for a tally: the store did not open any more. Now the power
/// may go at each operation of opening, recording and closing, after a commit that is whole and after one that is not, and then once
/// more [R121].
#[test]
fn the_power_may_go_while_a_file_is_repaired_and_closed() {
    let disk = Disk::default();
    let handle = DatabaseHandle::fresh(&Builder::new(), Arc::new(disk.clone())).unwrap();
    let mut images = Vec::new();
    for key in 0..4u64 {
        let mut txn = handle.begin_write().unwrap();
        txn.set_two_phase_commit(true);
        txn.open_table(TABLE).unwrap().insert(key, &[7; 300][..]).unwrap();
        txn.commit().unwrap();
        images.push(disk.inner().written.clone());
    }
    let [.., before, whole] = &images[..] else { panic!("too few") };
    let lost = (1..whole.len() / 4096)
        .map(|page| 4096 * page..4096 * (page + 1))
        .find(|page| before[page.clone()] != whole[page.clone()]);
    let (lost, mut torn) = (lost.unwrap(), whole.clone());
    torn[lost.clone()].copy_from_slice(&before[lost]);
    for (image, rows) in [(whole, 4), (&torn, 3)] {
        assert_eq!(there(&open(&Disk::holding(image.clone())).unwrap()).len(), rows);
        let tried = at_each_operation(image, 1, &mut Dice(7));
        println!("{tried} states");
        assert!(tried > 200, "{tried}");
    }
}
