//! The oldest entries become segments while others are recorded: nothing that anybody reads changes by it.

use crate::store_common::tables::{BLOCKS, DIRECTORIES, LEAVES, META, SEEDS, TAIL};
use crate::store_common::*;
use attestlog::{AuditLog, Query, ToolCall};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableHandle};
use std::collections::BTreeSet;
use std::time::Duration;

/// How many entries a segment of these stores has.
const SEGMENT: u64 = 64;

fn call(i: u64) -> ToolCall {
    ToolCall::new(format!("conv_{}", i % 9), format!("usr_{}", i % 4), "look").turn(i).result(format!("found {i}"))
}

fn rows(bytes: Vec<u8>, table: redb::TableDefinition<'static, u64, &'static [u8]>) -> Vec<(u64, Vec<u8>)> {
    let database = Database::builder().create_with_backend(Disk::of(bytes)).unwrap();
    // A table is made with its first row.
    let Ok(table) = database.begin_read().unwrap().open_table(table) else { return Vec::new() };
    table.iter().unwrap().map(|row| row.unwrap()).map(|(k, v)| (k.value(), v.value().to_vec())).collect()
}

/// Batches of all sizes, also larger than several segments, alone and one after the other: what was recorded is read, in every
/// order, before and after it is sealed, and by whoever opens the store later.
#[test]
fn what_is_sealed_reads_as_it_was_recorded() {
    let (log, disk, clock) = store(31);
    let mut expected: Vec<u64> = Vec::new();
    let mut n = 0;
    for size in [1, 1, 5, 60, 1, 200, 64, 63, 2, 500, 1] {
        let seqs = log.record_batch((n..n + size).map(call)).unwrap();
        expected.extend(seqs.iter().map(|receipt| receipt.seq));
        n += size;
        clock.advance(Duration::from_millis(1_500));
        let health = log.health().unwrap();
        assert_eq!(health.sealed, health.size / SEGMENT * SEGMENT, "without a background thread each commit seals");
    }
    let recorded = |log: &AuditLog| {
        let calls = log.query(&Query::new().tool("look")).unwrap().map(|entry| entry.unwrap());
        calls.map(|entry| (entry.seq, entry.call().unwrap().turn_number.unwrap())).collect::<Vec<_>>()
    };
    let all: Vec<(u64, u64)> = expected.iter().copied().zip(0..).collect();
    assert_eq!(recorded(&log), all);
    let ours = lines(&log);
    for user in 0..4 {
        let backwards = log.query(&Query::new().user(format!("usr_{user}")).newest_first()).unwrap();
        let turns: Vec<u64> = backwards.map(|entry| entry.unwrap().call().unwrap().turn_number.unwrap()).collect();
        assert_eq!(turns, (0..n).rev().filter(|i| i % 4 == user).collect::<Vec<_>>());
    }
    assert_clean(&log);
    log.close().unwrap();
    let log = options(&clock, 32).open_on(disk.backend()).unwrap();
    assert_eq!(lines(&log), ours);
    assert_clean(&log);
    // Each segment has one directory, one row of hashes and one seed; the tail has none of its entries.
    let (sealed, size) = (log.health().unwrap().sealed, log.size().unwrap());
    drop(log);
    let starts = |end: u64| (0..end).step_by(SEGMENT as usize).collect::<Vec<_>>();
    let keys = |table| rows(disk.bytes(), table).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!((keys(DIRECTORIES), keys(LEAVES), keys(SEEDS)), (starts(sealed), starts(sealed), starts(size)));
    assert!(keys(TAIL).iter().all(|first| *first >= sealed) && keys(BLOCKS).iter().all(|key| *key < sealed));
}

/// The calls of a conversation lie together although those of others lie between them in the log: the directory leads to one
/// block for all that a segment has of it, or two where a block ends.
#[test]
fn the_calls_of_a_conversation_lie_in_one_block_of_a_segment_or_two() {
    const ENTRIES: u64 = 2_048;
    let (disk, clock) = (Disk::default(), clock());
    let log = options(&clock, 33).segment_entries(ENTRIES as u32).create_on(disk.backend()).unwrap();
    let text = |i: u64| attestlog::Hash::of(&i.to_be_bytes()).to_string();
    let call = |i: u64| ToolCall::new(format!("c{}", i % 200), format!("usr_{}", i % 4), "look").agent(text(i));
    log.record_batch((0..ENTRIES).map(|i| call(i).patient(text(i + ENTRIES)))).unwrap();
    let of = |n: u64| {
        let hits = log.query(&Query::new().conversation(format!("c{n}"))).unwrap();
        hits.map(|entry| entry.unwrap().seq).filter(|seq| *seq < ENTRIES).collect::<Vec<_>>()
    };
    let conversations: Vec<Vec<u64>> = (0..200).map(of).collect();
    log.close().unwrap();
    let directory = rows(disk.bytes(), DIRECTORIES).remove(0).1;
    let blocks = rows(disk.bytes(), BLOCKS).len();
    assert!(directory.len() as u64 == 1 + ENTRIES && blocks > 10, "{blocks} blocks");
    let lies_in = |seqs: &Vec<u64>| seqs.iter().map(|seq| directory[1 + *seq as usize]).collect::<BTreeSet<_>>().len();
    let all: Vec<usize> = conversations.iter().map(lies_in).collect();
    assert!(all.iter().all(|blocks| *blocks <= 2), "{all:?}");
    // Each border between two blocks parts one conversation at most.
    assert!(all.iter().sum::<usize>() <= 200 + blocks, "{blocks} blocks: {all:?}");
}

/// Sealing lags behind those who record; the tail must not grow because of that [R104].
#[test]
fn the_tail_stays_bounded_however_many_record() {
    const THREADS: u64 = 4;
    let (disk, clock) = (Disk::default(), clock());
    let log = options(&clock, 34).background(true).create_on(disk.backend()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for i in 0..400 {
                    log.record(call(thread * 1_000 + i)).unwrap();
                    let health = log.health().unwrap();
                    // Four segments may wait and one may be filling when a thread begins to wait; the others bring a call each.
                    let most = 5 * SEGMENT + THREADS;
                    assert!(health.size - health.sealed <= most, "{} in the tail", health.size - health.sealed);
                }
            });
        }
    });
    assert_eq!(log.count(&Query::new().tool("look")).unwrap(), THREADS * 400);
    assert_clean(&log);
}

/// The story: a store that was closed with less than a segment in it kept all of it in the tail, as it was recorded: the recording of
/// an airline's agents took twice as much of the disk as before there were segments. Now closing packs the tail once it is worth it,
/// and what is recorded later is packed with it, whatever is recorded at a time.
#[test]
fn closing_packs_what_has_gathered() {
    const ENTRIES: u64 = 256;
    let (disk, clock) = (Disk::default(), clock());
    let open = || options(&clock, 39).segment_entries(ENTRIES as u32);
    open().create_on(disk.backend()).unwrap().close().unwrap();
    let (mut n, mut before, mut parts) = (0, Vec::new(), BTreeSet::new());
    for size in [1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 30, 1, 10, 1, 1, 80, 1, 50, 200, 3, 1] {
        let log = open().open_on(disk.backend()).unwrap();
        assert!(lines(&log).starts_with(&before));
        log.record_batch((n..n + size).map(call)).unwrap();
        n += size;
        assert_clean(&log);
        before = lines(&log);
        log.close().unwrap();
        let log = open().open_on(disk.backend()).unwrap();
        assert_clean(&log);
        assert_eq!(lines(&log), before);
        let (sealed, size) = (log.health().unwrap().sealed, log.size().unwrap());
        let (part, tail) = (sealed % ENTRIES, size - sealed);
        assert!(tail < (ENTRIES / 32).max(part / 4 + 1), "{tail} entries stay in the tail, {part} lie in the part");
        assert!(rows(disk.bytes(), TAIL).into_iter().all(|(first, _)| first >= sealed));
        parts.insert(part);
        let directories = rows(disk.bytes(), DIRECTORIES);
        assert_eq!(directories.len() as u64, sealed.div_ceil(ENTRIES));
        assert!(part == 0 || directories.last().unwrap().1.len() as u64 == 1 + part);
        // A copy has the part too.
        let dir = tempfile::tempdir().unwrap();
        log.backup(dir.path().join("copy")).unwrap();
        let copy = open().open(dir.path().join("copy")).unwrap();
        assert!(lines(&copy).starts_with(&before));
        assert_clean(&copy);
        before = lines(&log);
    }
    assert!(parts.len() > 6, "{parts:?}");
    let log = open().open_on(disk.backend()).unwrap();
    assert_eq!(log.count(&Query::new().tool("look")).unwrap(), n);
    log.record_batch((n..n + 600).map(call)).unwrap();
    assert_eq!(log.health().unwrap().sealed, log.size().unwrap() / ENTRIES * ENTRIES);
    assert_clean(&log);
}

/// Whatever a sealing that a crash has interrupted has left is in no answer, is no finding, and is gone when the segment is sealed
/// again.
#[test]
fn a_half_sealed_segment_counts_for_nothing() {
    let (log, disk, clock) = store(35);
    log.record_batch((0..40).map(call)).unwrap();
    let before = lines(&log);
    // Closing would seal what is there.
    drop(log);
    // The state says so in the byte behind `sealed`, which is zero here; the rows are those of another store.
    let (other, others, _) = store(36);
    other.record_batch((0..100).map(call)).unwrap();
    drop(other);
    let half = edit(&disk.bytes(), |txn| {
        let mut meta = txn.open_table(META).unwrap();
        let mut state = meta.get("state").unwrap().unwrap().value().to_vec();
        // Format byte, layout, size (one byte), head, entries a segment (one byte), sealed (one byte).
        assert_eq!((state[1], state[3 + 32], state[4 + 32], state[5 + 32]), (2, SEGMENT as u8, 0, 0));
        state[5 + 32] = 1;
        meta.insert("state", &*state).unwrap();
        for table in [BLOCKS, LEAVES, DIRECTORIES] {
            let mut to = txn.open_table(table).unwrap();
            rows(others.bytes(), table).iter().for_each(|(key, row)| drop(to.insert(key, &**row).unwrap()));
            to.insert(SEGMENT - 1, &b"anything"[..]).unwrap();
            assert!(to.len().unwrap() > 1);
        }
    });
    let disk = Disk::of(half);
    let log = options(&clock, 37).open_on(disk.backend()).unwrap();
    assert_eq!(lines(&log), before);
    assert_clean(&log);
    let dir = tempfile::tempdir().unwrap();
    log.backup(dir.path().join("copy")).unwrap();
    let copy = options(&clock, 38).open(dir.path().join("copy")).unwrap();
    assert!(lines(&copy).starts_with(&before));
    assert_clean(&copy);
    log.record_batch((40..200).map(call)).unwrap();
    assert!(log.health().unwrap().sealed > SEGMENT && lines(&log).starts_with(&before));
    assert_clean(&log);
}

/// A store that holds next to nothing takes next to nothing: no table is made before its first row, and closing gives back what
/// the file grew by. (While a new store is open redb's file is a mebibyte long, most of which is on no disk.)
#[test]
fn a_store_with_one_call_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let length = || std::fs::metadata(&path).unwrap().len();
    let log = options(&clock(), 40).segment_entries(7_168).create(&path).unwrap();
    log.record(call(0)).unwrap();
    drop(log);
    assert!(length() <= 80 << 10, "{} bytes after the end of a program that did not close it", length());
    let log = options(&clock(), 41).open(&path).unwrap();
    log.record(call(1)).unwrap();
    log.close().unwrap();
    assert!(length() <= 80 << 10, "{} bytes", length());
    let database = Database::open(&path).unwrap();
    let made: BTreeSet<String> =
        database.begin_read().unwrap().list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    assert_eq!(made, ["meta", "seeds", "tail"].map(str::to_owned).into());
}
