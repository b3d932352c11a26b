//! Somebody who knows the format edits a closed store. Everything that is removed, changed, added or swapped in any table
//! is detected, by opening or by verifying, and named.

use crate::store_common::tables::{
    BATCHES, BLOCKS, CHECKPOINTS, COLUMNS, COVERS, DIRECTORIES, LEAVES, META, NODES, POSTINGS, PURGES, ROLLUPS, SEEDS,
    SENDERS, TAIL, TERMS, UNFINISHED, ZONES,
};
use crate::store_common::*;
use crate::tampering::{answers, closed};
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Query, Result, Trigger};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use std::collections::BTreeSet;

/// Numbers of facets, as used in keys.
const USER: u8 = 2;
/// The key prefix of the rows of users in `postings`.
const USERS: u8 = 202;
const TOOL: u8 = 3;

fn open(bytes: Vec<u8>) -> Result<AuditLog> {
    options(&clock(), 8).open_on(Disk::of(bytes).backend())
}

/// The findings of opening or verifying, as `(kind, seq)`; an error of opening has no seq.
fn found(bytes: Vec<u8>) -> Vec<(String, Option<u64>)> {
    let log = match open(bytes) {
        Ok(log) => log,
        Err(e) => return vec![(format!("open: {:?}", e.kind()), None)],
    };
    match log.verify(&VerifyOptions::new().threads(1)) {
        Ok(found) => found.findings.iter().map(|f| (f.kind.to_string(), f.seq)).collect(),
        Err(e) => vec![(format!("verify: {:?}", e.kind()), None)],
    }
}

/// Reads something from a store with `of`.
fn read<T>(bytes: &[u8], of: impl FnOnce(&redb::ReadTransaction) -> T) -> T {
    let database = Database::builder().create_with_backend(Disk::of(bytes.to_vec())).unwrap();
    of(&database.begin_read().unwrap())
}

/// Every row of a table of byte strings.
macro_rules! rows {
    ($bytes:expr, $table:expr, $key:ty) => {
        read($bytes, |txn| {
            let table = txn.open_table($table).unwrap();
            let rows = table.iter().unwrap().map(|row| row.unwrap());
            rows.map(|(k, v)| (<$key>::from(k.value()), v.value().to_vec())).collect::<Vec<_>>()
        })
    };
}

type Change = Box<dyn Fn(&WriteTransaction)>;

/// What was done, what must be reported (a finding's kind or an error of opening), and at which seq if that is known.
struct Case {
    name: &'static str,
    change: Change,
    kind: String,
    seq: Option<u64>,
}

fn case(
    name: &'static str,
    kind: FindingKind,
    seq: impl Into<Option<u64>>,
    change: impl Fn(&WriteTransaction) + 'static,
) -> Case {
    Case { name, change: Box::new(change), kind: kind.to_string(), seq: seq.into() }
}

fn refused(name: &'static str, change: impl Fn(&WriteTransaction) + 'static) -> Case {
    Case { name, change: Box::new(change), kind: "open: Damaged".to_owned(), seq: None }
}

/// `bytes` with `old` replaced by `new`; it must occur exactly once.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i..].starts_with(old)).collect();
    assert_eq!(places.len(), 1, "{} stands there {} times", String::from_utf8_lossy(old), places.len());
    [&bytes[..places[0]], new, &bytes[places[0] + old.len()..]].concat()
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x20;
    bytes
}

macro_rules! put {
    ($txn:expr, $table:expr, $key:expr, $value:expr) => {{
        $txn.open_table($table).unwrap().insert($key, $value).unwrap();
    }};
}

macro_rules! take {
    ($txn:expr, $table:expr, $key:expr) => {{
        let gone = $txn.open_table($table).unwrap().remove($key).unwrap().is_some();
        assert!(gone, "there was nothing to remove");
    }};
}

#[test]
#[allow(clippy::too_many_lines, reason = "one list of edits, a few lines each")]
fn whatever_is_edited_is_found_and_named() {
    use FindingKind as K;
    // Where segments end determines how long the tail is; a long one holds the calls that were recorded one by one.
    let long = |calls: &u64| rows!(&closed(*calls), TAIL, u64).len() > 12;
    let store = closed((600..700).step_by(7).find(long).unwrap());
    assert_eq!(found(store.clone()), []);
    let log = open(store.clone()).unwrap();
    let size = log.size().unwrap();
    let of_user = log.query(&Query::new().user("usr_3")).unwrap().map(|e| e.unwrap().seq).collect::<Vec<_>>();
    let system = log.query(&Query::new().conversation("conv_x").trigger(Trigger::System)).unwrap().next().unwrap();
    let system = system.unwrap().seq;
    let unfinished = log.query(&Query::new().unfinished()).unwrap().next().unwrap().unwrap().seq;
    drop(log);
    let tail = rows!(&store, TAIL, u64);
    let blocks = rows!(&store, BLOCKS, u64);
    let postings = rows!(&store, POSTINGS, (u8, u64, u64));
    let rollups = rows!(&store, ROLLUPS, (u64, i32));
    let columns = rows!(&store, COLUMNS, u64);
    let senders = rows!(&store, SENDERS, String).into_iter().map(|(_, v)| v).collect::<Vec<_>>();
    let state = rows!(&store, META, String).remove(0).1;
    let batches: Vec<(u64, (u64, u64))> = read(&store, |txn| {
        let table = txn.open_table(BATCHES).unwrap();
        table.iter().unwrap().map(|r| r.map(|(k, v)| (k.value(), v.value())).unwrap()).collect()
    });
    let term = |field: u8, value: &str| {
        read(&store, |txn| txn.open_table(TERMS).unwrap().get((field, value.as_bytes())).unwrap().unwrap().value())
    };
    let leaves = rows!(&store, LEAVES, u64);
    let directory = rows!(&store, DIRECTORIES, u64)[1].clone();
    let seed = rows!(&store, SEEDS, u64)[1].clone();
    assert!(blocks.len() > 5 && batches.len() == 2, "{} blocks, {batches:?}", blocks.len());
    let (block, later) = (blocks[2].clone(), blocks[4].clone());
    let single = tail.windows(2).find(|two| {
        let calls = |row: &[u8]| row.windows(7).filter(|text| text == b"th note").count();
        two[0].0 + 1 == two[1].0 && two.iter().all(|row| calls(&row.1) == 1)
    });
    let (entry, entry_later) = (single.unwrap()[0].clone(), single.unwrap()[1].clone());
    let (user, tool) = (term(USER, "usr_3"), term(TOOL, "look"));
    let posting = postings.iter().find(|(key, _)| key.0 == USERS && key.1 == user).unwrap().clone();
    let rollup = rollups[1].clone();
    let system_row = tail.iter().find(|(seq, _)| *seq == system).unwrap().1.clone();
    let smuggled = [&[30][..], br#"{"a":2},"call_trigger":"system"#, b"\""].concat();
    let smuggled = replaced(
        &system_row,
        &[&[7][..], br#"{"a":2}"#].concat(),
        &[&[smuggled.len() as u8 - 1], &smuggled[1..]].concat(),
    );
    // Phase, policy, five absent members, and the trigger.
    let smuggled = replaced(&smuggled, &[0, 1, 0, 0, 0, 0, 0, 1, 4], &[0, 1, 0, 0, 0, 0, 0, 0]);
    // The row has one entry, whose length stands behind two hashes: less than 128, so one byte.
    assert_eq!((usize::from(system_row[64]), usize::from(system_row[65])), (system_row.len() - 65, 1));
    // It becomes longer, which takes two.
    let length = smuggled.len() - 65;
    assert!((128..16_384).contains(&length), "{length}");
    let smuggled = [&smuggled[..64], &[(length & 0x7f) as u8 | 0x80, (length >> 7) as u8], &smuggled[65..]].concat();
    let second = of_user[3];

    let cases = vec![
        case("a byte of an entry of the tail", K::EntryChanged, entry.0, {
            let row = replaced(&entry.1, b"th note", b"th nose");
            move |txn| put!(txn, TAIL, entry.0, &*row)
        }),
        case("a facet of an entry hidden in its arguments, its line the same", K::EntryChanged, system, {
            let row = smuggled.clone();
            move |txn| put!(txn, TAIL, system, &*row)
        }),
        case("the stored hash of an entry of the tail", K::EntryChanged, entry.0, {
            let row = flipped(&entry.1, 40);
            move |txn| put!(txn, TAIL, entry.0, &*row)
        }),
        case("the stored link of an entry of the tail", K::ChainBroken, entry_later.0, {
            let row = flipped(&entry_later.1, 3);
            move |txn| put!(txn, TAIL, entry_later.0, &*row)
        }),
        refused("a row of the tail cut short", {
            let row = entry.1[..100].to_vec();
            move |txn| put!(txn, TAIL, entry.0, &*row)
        }),
        case("an entry of the tail cut short, with the length that it has", K::EntryDamaged, entry.0, {
            assert!(entry.1[64] & 0x80 > 0 && entry.1[65] & 0x80 == 0, "its length takes two bytes");
            let row = [&entry.1[..64], &[36], &entry.1[66..66 + 36]].concat();
            move |txn| put!(txn, TAIL, entry.0, &*row)
        }),
        case("two entries of the tail swapped", K::EntryChanged, entry.0, {
            let (a, b) = (entry.clone(), entry_later.clone());
            move |txn| {
                put!(txn, TAIL, a.0, &*b.1);
                put!(txn, TAIL, b.0, &*a.1);
            }
        }),
        refused("an entry of the tail removed", {
            let seq = entry_later.0;
            move |txn| take!(txn, TAIL, seq)
        }),
        refused("the newest entry removed", move |txn| take!(txn, TAIL, size - 1)),
        refused("an entry added behind the newest", {
            let row = entry.1.clone();
            move |txn| put!(txn, TAIL, size, &*row)
        }),
        case("an entry added to the tail below it", K::EntryUnexpected, 3, {
            let row = entry.1.clone();
            move |txn| put!(txn, TAIL, 3, &*row)
        }),
        case("a byte of an entry in a block", K::EntryChanged, block.0, {
            let row = replaced(&block.1, b"th note", b"th nose");
            move |txn| put!(txn, BLOCKS, block.0, &*row)
        }),
        case("bytes of a compressed entry in a block", K::EntryDamaged, None, {
            // The last bytes of an entry are literals, none of which can be 255.
            let mut row = block.1.clone();
            row.iter_mut().rev().take(10).for_each(|byte| *byte = 255);
            move |txn| put!(txn, BLOCKS, block.0, &*row)
        }),
        case("a hash of a segment", K::EntryChanged, block.0 + 1, {
            let row = leaves.iter().find(|(key, _)| *key == block.0).unwrap().1.clone();
            let at = row.windows(32).position(|w| w == &tail_hash(&store, block.0 + 1)[..]).unwrap();
            let row = flipped(&row, at);
            move |txn| put!(txn, LEAVES, block.0, &*row)
        }),
        case("a row of hashes removed", K::EntryMissing, block.0, move |txn| take!(txn, LEAVES, block.0)),
        case("a row of hashes cut short", K::BlockDamaged, block.0, {
            let row = leaves[2].1[..leaves[2].1.len() - 32].to_vec();
            let key = leaves[2].0;
            move |txn| put!(txn, LEAVES, key, &*row)
        }),
        case("two rows of hashes swapped", K::BlockDamaged, leaves[1].0, {
            let (a, b) = (leaves[1].clone(), leaves[2].clone());
            move |txn| {
                put!(txn, LEAVES, a.0, &*b.1);
                put!(txn, LEAVES, b.0, &*a.1);
            }
        }),
        case("a row of hashes where none begins", K::BlockDamaged, leaves[1].0 + 1, {
            let (key, row) = leaves[1].clone();
            move |txn| put!(txn, LEAVES, key + 1, &*row)
        }),
        case("a row of hashes behind the segments", K::EntryUnexpected, size + 64, {
            let row = leaves[1].1.clone();
            move |txn| put!(txn, LEAVES, size + 64, &*row)
        }),
        case("an entry gone from a directory", K::BlockDamaged, directory.0 + 7, {
            let mut row = directory.1.clone();
            row[1 + 7] = 0;
            move |txn| put!(txn, DIRECTORIES, directory.0, &*row)
        }),
        case("an entry of another block in a directory", K::BlockDamaged, directory.0 + 7, {
            let mut row = directory.1.clone();
            row[1 + 7] += 1;
            move |txn| put!(txn, DIRECTORIES, directory.0, &*row)
        }),
        case("a directory cut short", K::BlockDamaged, directory.0 + 19, {
            let row = directory.1[..20].to_vec();
            move |txn| put!(txn, DIRECTORIES, directory.0, &*row)
        }),
        case("a directory in another form", K::BlockDamaged, directory.0, {
            let wide = directory.1[1..].iter().flat_map(|place| [*place, 0]);
            let row: Vec<u8> = std::iter::once(2).chain(wide).collect();
            move |txn| put!(txn, DIRECTORIES, directory.0, &*row)
        }),
        case("a directory removed", K::BlockDamaged, directory.0, move |txn| take!(txn, DIRECTORIES, directory.0)),
        case("a directory behind the segments", K::EntryUnexpected, size + 64, {
            let row = directory.1.clone();
            move |txn| put!(txn, DIRECTORIES, size + 64, &*row)
        }),
        case("the seed of a segment changed", K::EntryChanged, seed.0 + 3, {
            let row = flipped(&seed.1, 9);
            move |txn| put!(txn, SEEDS, seed.0, &*row)
        }),
        case("the seed of a segment removed", K::EntryDamaged, seed.0 + 3, move |txn| take!(txn, SEEDS, seed.0)),
        case("the seed of a segment cut short", K::BlockDamaged, seed.0, {
            let row = seed.1[..10].to_vec();
            move |txn| put!(txn, SEEDS, seed.0, &*row)
        }),
        case("a seed where no segment begins", K::BlockDamaged, seed.0 + 1, {
            let row = seed.1.clone();
            move |txn| put!(txn, SEEDS, seed.0 + 1, &*row)
        }),
        case("a seed behind the newest entry", K::BlockDamaged, (size / 64 + 2) * 64, {
            let row = seed.1.clone();
            move |txn| put!(txn, SEEDS, (size / 64 + 2) * 64, &*row)
        }),
        case("a block removed", K::EntryMissing, block.0, move |txn| take!(txn, BLOCKS, block.0)),
        case("a block cut short", K::BlockDamaged, block.0, {
            let row = block.1[..block.1.len() / 2].to_vec();
            move |txn| put!(txn, BLOCKS, block.0, &*row)
        }),
        case("two blocks swapped", K::BlockDamaged, block.0, {
            let (a, b) = (block.clone(), later.clone());
            move |txn| {
                put!(txn, BLOCKS, a.0, &*b.1);
                put!(txn, BLOCKS, b.0, &*a.1);
            }
        }),
        case("a block twice", K::EntryUnexpected, block.0, {
            let row = block.1.clone();
            move |txn| put!(txn, BLOCKS, block.0 + 1, &*row)
        }),
        case("a block behind the blocks", K::EntryUnexpected, size + 5, {
            let row = block.1.clone();
            move |txn| put!(txn, BLOCKS, size + 5, &*row)
        }),
        case("a Merkle node changed", K::TreeMismatch, 256, |txn| put!(txn, NODES, (8, 1), [7; 32])),
        case("a Merkle node below the last removed", K::TreeMismatch, 0, |txn| take!(txn, NODES, (8, 0))),
        case("a Merkle node added", K::TreeMismatch, None, |txn| put!(txn, NODES, (8, 9), [7; 32])),
        case("the hash of a purged entry added", K::CoverMismatch, None, |txn| put!(txn, COVERS, (9, 0), [7; 32])),
        case("a term removed", K::TermMismatch, None, |txn| take!(txn, TERMS, (USER, &b"usr_3"[..]))),
        case("a term added", K::TermMismatch, None, |txn| put!(txn, TERMS, (USER, &b"usr_77"[..]), 1_000_000)),
        case("a term with another's id", K::IndexRowMissing, None, move |txn| {
            put!(txn, TERMS, (USER, &b"usr_3"[..]), tool)
        }),
        case("the ids of two terms swapped", K::BatchMismatch, None, {
            let other = term(USER, "usr_4");
            move |txn| {
                put!(txn, TERMS, (USER, &b"usr_3"[..]), other);
                put!(txn, TERMS, (USER, &b"usr_4"[..]), user);
            }
        }),
        case("an index row removed", K::IndexRowMissing, posting.0.2, move |txn| take!(txn, POSTINGS, posting.0)),
        case("an index row without one of its entries", K::IndexRowChanged, None, {
            let row = posting.1[..posting.1.len() - 1].to_vec();
            move |txn| put!(txn, POSTINGS, posting.0, &*row)
        }),
        case("the salt of an index row", K::BatchMismatch, None, {
            let row = flipped(&posting.1, 3);
            move |txn| put!(txn, POSTINGS, posting.0, &*row)
        }),
        case("an index row that lists a stranger's entry", K::IndexRowUnexpected, 17, {
            let row = [&[9; 16][..], &[0, 0]].concat();
            move |txn| put!(txn, POSTINGS, (USERS, user, 17), &*row)
        }),
        case("a second index row, which hides what the first lists behind it", K::IndexRowUnexpected, second, {
            let row = [&[9; 16][..], &[0, 0]].concat();
            move |txn| put!(txn, POSTINGS, (USERS, user, second), &*row)
        }),
        case("an index row of no facet", K::IndexRowUnexpected, 5, |txn| {
            put!(txn, POSTINGS, (99, 1, 5), &[&[9; 16][..], &[0, 0]].concat()[..])
        }),
        case("an index row behind the index", K::IndexRowUnexpected, size - 1, move |txn| {
            put!(txn, POSTINGS, (USERS, user, size - 1), &[&[9; 16][..], &[0, 0]].concat()[..])
        }),
        case("a zone changed", K::ZoneMismatch, None, |txn| put!(txn, ZONES, (0, 1), (0, 1))),
        case("a zone removed", K::ZoneMismatch, None, |txn| take!(txn, ZONES, (0, 0))),
        case("a zone added", K::ZoneMismatch, None, |txn| put!(txn, ZONES, (0, 77), (0, 1))),
        case("a rollup changed", K::RollupMismatch, None, {
            let row = flipped(&rollup.1, 1);
            move |txn| put!(txn, ROLLUPS, rollup.0, &*row)
        }),
        case("a rollup removed", K::RollupMismatch, None, move |txn| take!(txn, ROLLUPS, rollup.0)),
        case("a rollup of another day", K::RollupMismatch, None, {
            let row = rollup.1.clone();
            move |txn| put!(txn, ROLLUPS, (rollup.0.0, 12), &*row)
        }),
        case("two rollups swapped", K::RollupMismatch, None, {
            let (a, b) = (rollups[0].clone(), rollups[1].clone());
            move |txn| {
                put!(txn, ROLLUPS, a.0, &*b.1);
                put!(txn, ROLLUPS, b.0, &*a.1);
            }
        }),
        case("a user who made no call added to a rollup", K::RollupMismatch, None, {
            // The list of users is the last part: its length, then pairs of distance and calls.
            let users = rollup.1.len() - 11;
            assert_eq!(rollup.1[users], 5, "five users are expected at the end of {:?}", rollup.1);
            let mut row = rollup.1.clone();
            row[users] = 6;
            row.extend([1, 0]);
            move |txn| put!(txn, ROLLUPS, rollup.0, &*row)
        }),
        case("a retention column removed", K::ColumnMismatch, None, {
            let key = columns[0].0;
            move |txn| take!(txn, COLUMNS, key)
        }),
        case("two retention columns swapped", K::ColumnMismatch, None, {
            let (a, b) = (columns[0].clone(), columns[1].clone());
            move |txn| {
                put!(txn, COLUMNS, a.0, &*b.1);
                put!(txn, COLUMNS, b.0, &*a.1);
            }
        }),
        case("a retention column added", K::ColumnMismatch, None, {
            let row = columns[0].1.clone();
            move |txn| put!(txn, COLUMNS, 3, &*row)
        }),
        case("a batch removed", K::BatchMismatch, None, {
            let key = batches[0].0;
            move |txn| take!(txn, BATCHES, key)
        }),
        case("a batch shortened", K::BatchMismatch, None, {
            let (first, (end, seq)) = batches[1];
            move |txn| put!(txn, BATCHES, first, (end - 1, seq))
        }),
        case("a batch of another entry", K::BatchMismatch, batches[1].1.1, {
            let (first, (end, seq)) = batches[1];
            move |txn| put!(txn, BATCHES, first, (end, seq + 1))
        }),
        case("a batch added", K::BatchMismatch, size, move |txn| put!(txn, BATCHES, size, (size + 1, 0))),
        case("a sender removed", K::SenderMismatch, None, |txn| take!(txn, SENDERS, "sender")),
        case("a sender added", K::SenderMismatch, None, {
            let row = senders[0].clone();
            move |txn| put!(txn, SENDERS, "another", &*row)
        }),
        case("a sender without numbers added", K::SenderMismatch, None, |txn| {
            put!(txn, SENDERS, "another", &[1, 0][..])
        }),
        case("a sender that has forgotten", K::SenderMismatch, None, |txn| put!(txn, SENDERS, "sender", &[1, 0][..])),
        case("an unfinished call removed", K::UnfinishedMismatch, unfinished, move |txn| {
            take!(txn, UNFINISHED, unfinished)
        }),
        case("an unfinished call added", K::UnfinishedMismatch, 5, |txn| put!(txn, UNFINISHED, 5, ())),
        case("an unfinished call of later", K::UnfinishedMismatch, 5_000_000, |txn| {
            put!(txn, UNFINISHED, 5_000_000, ())
        }),
        case("a purge that no entry names", K::PurgeMismatch, None, |txn| put!(txn, PURGES, 5, &[1, 0][..])),
        case("a checkpoint of a store that has no key", K::SignatureInvalid, None, |txn| {
            put!(txn, CHECKPOINTS, 5, &b"example.org/x\n5\n"[..])
        }),
        refused("a state cut short", {
            let row = state[..9].to_vec();
            move |txn| put!(txn, META, "state", &*row)
        }),
        Case {
            name: "no state",
            change: Box::new(|txn| take!(txn, META, "state")),
            kind: "open: NotAStore".to_owned(),
            seq: None,
        },
        Case {
            name: "a state of a newer format",
            change: {
                let mut row = state.clone();
                row[1] = 9;
                Box::new(move |txn| put!(txn, META, "state", &*row))
            },
            kind: "open: NewerFormat".to_owned(),
            seq: None,
        },
        Case {
            name: "a state of the format before",
            change: {
                let mut row = state.clone();
                row[1] = 1;
                Box::new(move |txn| put!(txn, META, "state", &*row))
            },
            kind: "open: NewerFormat".to_owned(),
            seq: None,
        },
        refused("a state with segments of no entries", {
            let mut row = state.clone();
            // Behind format, layout, size (three bytes) and head.
            assert_eq!(row[5 + 32], 64);
            row[5 + 32] = 0;
            move |txn| put!(txn, META, "state", &*row)
        }),
    ];
    let mut missed = Vec::new();
    for Case { name, change, kind, seq } in &cases {
        let all = found(edit(&store, change));
        let kinds: BTreeSet<&str> = all.iter().map(|(kind, _)| kind.as_str()).collect();
        let named = all.iter().any(|(k, s)| k == kind && seq.is_none_or(|seq| *s == Some(seq)));
        println!(
            "{} {name}: {} findings: {}",
            if named { "ok  " } else { "MISS" },
            all.len(),
            Vec::from_iter(kinds).join(", ")
        );
        if !named {
            missed.push(format!("{name}: wanted {kind} {seq:?}, got {:?}", &all[..all.len().min(8)]));
        }
    }
    println!("{} edits tried", cases.len());
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The recorded hash of an entry.
fn tail_hash(bytes: &[u8], seq: u64) -> [u8; 32] {
    open(bytes.to_vec()).unwrap().entry(seq).unwrap().hash().0
}

/// Every byte of the state of a store, one after the other, each changed to several values.
#[test]
fn no_byte_of_the_state_can_change_unseen() {
    let store = closed(300);
    let state = rows!(&store, META, String).remove(0).1;
    let answers = answers(&open(store.clone()).unwrap()).unwrap();
    for at in 0..state.len() {
        for flip in [1, 2, 0x80] {
            let mut row = state.clone();
            row[at] ^= flip;
            let edited = edit(&store, |txn| put!(txn, META, "state", &*row));
            if found(edited.clone()).is_empty() {
                let again = crate::tampering::answers(&open(edited).unwrap()).unwrap();
                assert_eq!(again, answers, "byte {at} of the state ^ {flip} changes answers and is not found");
            }
        }
    }
}
