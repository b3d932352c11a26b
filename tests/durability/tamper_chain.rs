//! Somebody who knows the format edits a store with keys through redb itself: each row of each table removed, changed and added.
//! Or writes the whole chain anew: without the key, with a key of his own, with the present key, with an old copy. What is
//! found, by what, and what is not, is the table in docs/reliability.md.

use crate::store_common::*;
use crate::tampering::*;
use attestlog::anchor::Evidence;
use attestlog::note::SignedCheckpoint;
use attestlog::{AuditLog, ErrorKind, FindingKind, Result, ToolCall, Verification, VerifyOptions};
use redb::{Database, Key, ReadableDatabase, ReadableTable, TableDefinition, Value};
use std::path::Path;

fn long() -> bool {
    std::env::var_os("ATTESTLOG_LONG").is_some_and(|v| v != "0")
}

fn once() -> VerifyOptions {
    VerifyOptions::new().threads(1)
}

fn open(bytes: Vec<u8>, key: &Path) -> Result<AuditLog> {
    keyed(&later(), 8).key_file(key).open_on(Disk::of(bytes).backend())
}

/// The rows of a table as redb holds them.
fn rows<K: Key + 'static, V: Value + 'static>(
    bytes: &[u8],
    table: TableDefinition<'_, K, V>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let database = Database::builder().create_with_backend(Disk::of(bytes.to_vec())).unwrap();
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(k, v)| (K::as_bytes(&k.value()).as_ref().to_vec(), V::as_bytes(&v.value()).as_ref().to_vec())).collect()
}

/// The store with one row put or, without a value, taken.
fn with<K: Key + 'static, V: Value + 'static>(
    bytes: &[u8],
    table: TableDefinition<'_, K, V>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Vec<u8> {
    let disk = Disk::of(bytes.to_vec());
    let database = Database::builder().create_with_backend(disk.clone()).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut table = txn.open_table(table).unwrap();
        match value {
            Some(value) => drop(table.insert(K::from_bytes(key), V::from_bytes(value)).unwrap()),
            None => drop(table.remove(K::from_bytes(key)).unwrap()),
        }
    }
    txn.commit().unwrap();
    drop(database);
    disk.bytes()
}

/// Each row removed; changed in its first, middle and last byte, and swapped with its neighbour; a copy added behind it.
fn edit_each<K: Key + 'static, V: Value + 'static>(
    rich: &Rich,
    key: &Path,
    answers: &str,
    name: &'static str,
    table: TableDefinition<'_, K, V>,
    text_keys: bool,
) -> (&'static str, Tally) {
    let tally = Tally::default();
    let all = rows(&rich.bytes, table);
    let step = if long() { 1 } else { all.len() / 4 + 1 };
    for (i, (row, value)) in all.iter().enumerate().step_by(step) {
        let judge = |what: &str, bytes: Vec<u8>| {
            tally.judge(&format!("{name} row {i} {what}"), open(bytes, key), &once(), answers);
        };
        judge("removed", with(&rich.bytes, table, row, None));
        let mut places = vec![0, value.len() / 2, value.len().saturating_sub(1)];
        if long() && value.len() < 200 {
            places = (0..value.len()).collect();
        }
        places.retain(|at| *at < value.len());
        for at in places {
            let mut changed = value.clone();
            changed[at] ^= 1;
            judge(&format!("byte {at}"), with(&rich.bytes, table, row, Some(&changed)));
        }
        if let Some((_, other)) = all.get(i + 1).filter(|(_, other)| other != value) {
            judge("with its neighbour's value", with(&rich.bytes, table, row, Some(other)));
        }
        let mut fresh = row.clone();
        // Numbers are little-endian: the first byte of the last number; of texts, the last letter.
        let at = if text_keys { fresh.len() - 1 } else { fresh.len().saturating_sub(8) };
        fresh[at] = if text_keys { b'z' } else { fresh[at].wrapping_add(101) };
        if !all.iter().any(|(row, _)| *row == fresh) {
            judge("copied", with(&rich.bytes, table, &fresh, Some(value)));
        }
    }
    tally.say(&format!("table {name}, {} rows", all.len()));
    (name, tally)
}

#[test]
fn every_table_of_a_store_with_keys_row_by_row() {
    let rich = rich();
    let key = rich.folder.path().join("tables.key");
    private(&key, &std::fs::read(&rich.key).unwrap());
    let answers = answers(&open(rich.bytes.clone(), &key).unwrap()).unwrap();
    macro_rules! table {
        ($name:literal, $key:ty, $value:ty) => {
            edit_each(
                &rich,
                &key,
                &answers,
                $name,
                TableDefinition::<$key, $value>::new($name),
                matches!($name, "senders" | "meta" | "subjects" | "subject_tags"),
            )
        };
    }
    let tallies = quietly(|| {
        vec![
            table!("meta", &str, &[u8]),
            table!("tail", u64, &[u8]),
            table!("blocks", u64, &[u8]),
            table!("nodes", (u8, u64), [u8; 32]),
            table!("covers", (u64, u8), [u8; 32]),
            table!("terms", (u8, &[u8]), u64),
            table!("postings", (u8, u64, u64), &[u8]),
            table!("zones", (u8, u64), (i64, i64)),
            table!("rollups", (u64, i32), &[u8]),
            table!("columns", u64, &[u8]),
            table!("batches", u64, (u64, u64)),
            table!("senders", &str, &[u8]),
            table!("unfinished", u64, ()),
            table!("checkpoints", u64, &[u8]),
            table!("purges", u64, &[u8]),
            table!("purged_rows", (u64, u64), &[u8]),
            table!("subjects", &str, &[u8]),
            table!("subject_tags", &str, &str),
        ]
    });
    let tried: u64 = tallies.iter().map(|(_, t)| t.tried()).sum();
    println!("{tried} edits of rows tried");
    for (name, tally) in &tallies {
        let unseen = tally.unseen.lock().unwrap();
        if !unseen.is_empty() {
            println!("{name}: not found, and no answer is another one: {unseen:?}");
        }
        drop(unseen);
        tally.assert_none_wrong();
    }
}

/// The log of the table-by-table edits has no term that went with a purge whole, so that what a purge leaves of such rows was
/// edited by no test. Here five users and a conversation went; and a row is passed off as such a remainder, to hide a user.
#[test]
fn what_a_purge_left_of_index_rows_and_what_only_looks_like_it() {
    const PURGED_ROWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("purged_rows");
    const POSTINGS: TableDefinition<'_, (u8, u64, u64), &[u8]> = TableDefinition::new("postings");
    /// Where the rows of users stand, and their facet.
    const USERS: (u8, u8) = (202, 2);
    let (clock, folder) = (clock(), folder());
    let path = folder.path().join("audit.log");
    let log = options(&clock, 8).create(&path).unwrap();
    let record = |conversation: &str, user: String| {
        log.record(ToolCall::new(conversation, user, "look_up")).unwrap();
    };
    (0..40).for_each(|i| record("conv_old", format!("usr_{}", i % 5)));
    log.flush_index().unwrap();
    clock.advance(std::time::Duration::from_secs(500 * 86_400));
    (0..9).for_each(|_| record("conv_new", "usr_new".to_owned()));
    log.flush_index().unwrap();
    assert_eq!(log.purge("ops").unwrap().purged, 40);
    assert!(log.verify(&once()).unwrap().ok());
    log.close().unwrap();
    let store = std::fs::read(&path).unwrap();
    let found = |bytes: Vec<u8>| {
        let log = options(&clock, 8).open_on(Disk::of(bytes).backend()).unwrap();
        kinds(&log.verify(&once()).unwrap())
    };
    assert_eq!(found(store.clone()), []);
    let purged_rows = rows(&store, PURGED_ROWS);
    let mut tried = 0;
    let mut must_be_found = |what: String, bytes: Vec<u8>| {
        tried += 1;
        assert!(!found(bytes).is_empty(), "not found: {what}");
    };
    for (i, (key, purged_row)) in purged_rows.iter().enumerate() {
        must_be_found(format!("purged_row {i} removed"), with(&store, PURGED_ROWS, key, None));
        for at in 0..purged_row.len() {
            let mut changed = purged_row.clone();
            changed[at] ^= 1;
            must_be_found(format!("byte {at} of purged_row {i}"), with(&store, PURGED_ROWS, key, Some(&changed)));
        }
        let mut elsewhere = key.clone();
        elsewhere[8] = elsewhere[8].wrapping_add(101);
        must_be_found(format!("purged_row {i} copied"), with(&store, PURGED_ROWS, &elsewhere, Some(purged_row)));
    }
    println!("{} purged rows, {tried} edits", purged_rows.len());
    assert!(purged_rows.len() >= 6, "{} purged rows", purged_rows.len());
    // The inner hash, place and list of a user who is there, so that the root of the batch stays what it was.
    let (key, row) = rows(&store, POSTINGS).into_iter().rfind(|(key, _)| key[0] == USERS.0).unwrap();
    let first = u64::from_le_bytes(key[9..].try_into().unwrap());
    let batch = rows(&store, TableDefinition::<u64, (u64, u64)>::new("batches")).pop().unwrap().0;
    assert!(row[16] < 128 && first < 128, "one byte each");
    let (salt, place, list) = (&row[..16], row[16], &row[17..]);
    let inner = attestlog::Hash::of(&[salt, &[USERS.1], &7u64.to_be_bytes(), b"usr_new"].concat());
    let purged_row = [&inner.as_bytes()[..], &[first as u8], list].concat();
    let hidden = with(&store, POSTINGS, &key, None);
    let hidden = with(&hidden, PURGED_ROWS, &[&batch[..], &u64::from(place).to_le_bytes()].concat(), Some(&purged_row));
    let found = found(hidden);
    assert!(found.contains(&FindingKind::IndexRowMissing), "{found:?}");
    assert!(!found.contains(&FindingKind::BatchMismatch), "the remainder is the right one: {found:?}");
}

fn kept(checkpoint: &SignedCheckpoint) -> Vec<attestlog::anchor::Kept> {
    Evidence::parse("anchor", checkpoint.to_string().as_bytes(), None, &[]).unwrap().kept
}

fn kinds(found: &Verification) -> Vec<FindingKind> {
    found.findings.iter().map(|f| f.kind).collect()
}

/// Another history, as somebody would write it who has a file and perhaps keys of some time: it goes on from `bytes`, or begins
/// anew without them.
fn forged(folder: &Path, from: Option<(&[u8], &[u8])>) -> (Vec<u8>, Vec<u8>) {
    let (path, key) = (folder.join("forged.log"), folder.join("forged.log.key"));
    for file in [&path, &key] {
        let _ = std::fs::remove_file(file);
    }
    let log = match from {
        Some((bytes, keys)) => {
            private(&path, bytes);
            private(&key, keys);
            keyed(&later(), 77).open(&path).unwrap()
        }
        None => keyed(&later(), 77).create(&path).unwrap(),
    };
    for i in 0..40 {
        log.record(ToolCall::new(format!("innocent_{i}"), "usr_1", "look")).unwrap();
    }
    log.checkpoint().unwrap();
    log.close().unwrap();
    (std::fs::read(&path).unwrap(), std::fs::read(&key).unwrap())
}

#[test]
fn the_whole_chain_written_anew_without_the_key() {
    let rich = rich();
    let folder = rich.folder.path();
    let (bytes, keys) = forged(folder, None);
    // Beside the true key it does not open.
    let key = folder.join("true.key");
    private(&key, &std::fs::read(&rich.key).unwrap());
    assert_eq!(open(bytes.clone(), &key).unwrap_err().kind(), ErrorKind::Key);
    // With the forger's own key beside it, it passes as what it is: a log that nobody vouches for.
    let own = folder.join("own.key");
    private(&own, &keys);
    let log = open(bytes, &own).unwrap();
    let found = log.verify(&once()).unwrap();
    assert!(found.ok() && !found.key_pinned && !found.anchored, "{:?}", kinds(&found));
    // Whoever pinned the key, or kept a checkpoint, finds it.
    let found = log.verify(&once().public_key(rich.verifier.clone())).unwrap();
    assert!(kinds(&found).contains(&FindingKind::KeyMismatch));
    let found = log.verify(&once().against(kept(&rich.checkpoints[0]))).unwrap();
    assert!(kinds(&found).contains(&FindingKind::SignatureInvalid));
}

#[test]
fn the_whole_chain_written_anew_as_a_store_that_never_had_keys() {
    let rich = rich();
    let (log, disk, _) = store(70);
    log.record_batch((0..60).map(call)).unwrap();
    log.close().unwrap();
    let key = rich.folder.path().join("true.key");
    private(&key, &std::fs::read(&rich.key).unwrap());
    let log = open(disk.bytes(), &key).unwrap();
    let found = log.verify(&once()).unwrap();
    assert!(!found.signed && found.signed_size == 0, "it never reads like a signed store");
    let found = log.verify(&once().public_key(rich.verifier.clone())).unwrap();
    assert!(kinds(&found).contains(&FindingKind::KeyMismatch));
    assert!(!log.verify(&once().against(kept(&rich.checkpoints[0]))).unwrap().ok());
}

#[test]
fn another_history_with_the_present_key_up_to_the_last_anchor() {
    let rich = rich();
    let folder = rich.folder.path();
    // Who has today's key and yesterday's file: the key's mark is beyond the file, so nothing can be added.
    let (path, key) = (folder.join("audit.old"), folder.join("audit.old.key"));
    private(&path, &rich.older.0);
    private(&key, &std::fs::read(&rich.key).unwrap());
    let log = keyed(&later(), 9).open(&path).unwrap();
    assert_eq!(log.record(ToolCall::new("c", "u", "t")).unwrap_err().kind(), ErrorKind::OtherHistory);
    assert_eq!(kinds(&log.verify(&once()).unwrap()), [FindingKind::Rollback]);
    drop(log);

    // Who has file and key of one moment can go on from there otherwise.
    let (bytes, keys) = forged(folder, Some((&rich.older.0, &rich.older.1)));
    let own = folder.join("own.key");
    private(&own, &keys);
    let log = open(bytes.clone(), &own).unwrap();
    // This is the limit: the log, the pinned key and every anchor from before agree.
    let found = log.verify(&once().public_key(rich.verifier.clone()).against(kept(&rich.checkpoints[0]))).unwrap();
    assert!(found.ok() && found.key_pinned && found.anchored, "{:?}", found.findings);
    assert_eq!(found.anchored_size, rich.checkpoints[0].checkpoint().size());
    // Whatever was anchored since finds it.
    let found = log.verify(&once().against(kept(&rich.checkpoints[1]))).unwrap();
    assert!(kinds(&found).contains(&FindingKind::Fork), "{:?}", kinds(&found));
    // And so does the true key file, beside which the forged store stands now.
    let key = folder.join("true.key");
    private(&key, &std::fs::read(&rich.key).unwrap());
    let found = open(bytes, &key).unwrap().verify(&once()).unwrap();
    assert!(
        kinds(&found).contains(&FindingKind::Fork) || kinds(&found).contains(&FindingKind::Rollback),
        "{:?}",
        kinds(&found)
    );
}

#[test]
fn another_history_from_before_the_last_rotation_does_not_count_any_more() {
    let folder = folder();
    let (path, key) = (folder.path().join("a.log"), folder.path().join("a.log.key"));
    let log = keyed(&clock(), 5).create(&path).unwrap();
    log.record_batch((0..10).map(call)).unwrap();
    log.checkpoint().unwrap();
    log.close().unwrap();
    // What the thief will have of this epoch is the file; its key is gone by the time he comes.
    let old = std::fs::read(&path).unwrap();
    let log = keyed(&clock(), 6).open(&path).unwrap();
    let verifier = log.public_key().unwrap();
    log.rotate_epoch_key().unwrap();
    log.close().unwrap();
    private(&folder.path().join("old.log"), &old);
    private(&folder.path().join("old.log.key"), &std::fs::read(&key).unwrap());
    // The old file with the new epoch's key neither opens as the store nor is anything signed in it.
    match keyed(&clock(), 7).open(folder.path().join("old.log")) {
        Err(e) => assert_eq!(e.kind(), ErrorKind::Key, "{e}"),
        Ok(log) => {
            assert!(log.checkpoint().is_err() && log.record(call(1)).is_err());
            assert!(!log.verify(&once().public_key(verifier)).unwrap().ok());
        }
    }
}
