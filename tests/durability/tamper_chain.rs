//! Somebody who knows the format edits a store with keys through redb itself: each row of each table is removed, changed
//! and added. Or they rewrite the whole chain: without the key, with a key of their own, with the present key, with an old
//! copy. What is detected, by what, and what is not, is in the table in docs/reliability.md.

use crate::store_common::tables::{self, Copying, EachTable};
use crate::store_common::*;
use crate::tampering::*;
use attestlog::anchor::Evidence;
use attestlog::note::SignedCheckpoint;
use attestlog::verify::{FindingKind, Verification, VerifyOptions};
use attestlog::{AuditLog, ErrorKind, Result, ToolCall};
use redb::{Database, Key, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, Value};
use std::convert::Infallible;
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
    // A table is made with its first row.
    let Ok(table) = database.begin_read().unwrap().open_table(table) else { return Vec::new() };
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(k, v)| (K::as_bytes(&k.value()).as_ref().to_vec(), V::as_bytes(&v.value()).as_ref().to_vec())).collect()
}

/// The store with one row inserted or, without a value, removed.
fn with<K: Key + 'static, V: Value + 'static>(
    bytes: &[u8],
    table: TableDefinition<'_, K, V>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Vec<u8> {
    edit(bytes, |txn| {
        let mut table = txn.open_table(table).unwrap();
        match value {
            Some(value) => drop(table.insert(K::from_bytes(key), V::from_bytes(value)).unwrap()),
            None => drop(table.remove(K::from_bytes(key)).unwrap()),
        }
    })
}

/// Edits each row of each table.
struct EditEach<'a> {
    rich: &'a Rich,
    key: &'a Path,
    answers: &'a str,
    tallies: Vec<(String, Tally)>,
}

impl EachTable for EditEach<'_> {
    type Error = Infallible;

    /// Each row is removed; changed in its first, middle and last byte, and swapped with its neighbour; a copy is added after
    /// it.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        _: Copying,
    ) -> std::result::Result<(), Infallible> {
        let name = table.name().to_owned();
        let text_keys = K::type_name().name().contains("&str");
        let tally = Tally::default();
        let all = rows(&self.rich.bytes, table);
        let step = if long() { 1 } else { all.len() / 4 + 1 };
        for (i, (row, value)) in all.iter().enumerate().step_by(step) {
            let judge = |what: &str, bytes: Vec<u8>| {
                tally.judge(&format!("{name} row {i} {what}"), open(bytes, self.key), &once(), self.answers);
            };
            judge("removed", with(&self.rich.bytes, table, row, None));
            let mut places = vec![0, value.len() / 2, value.len().saturating_sub(1)];
            if long() && value.len() < 200 {
                places = (0..value.len()).collect();
            }
            places.retain(|at| *at < value.len());
            for at in places {
                let mut changed = value.clone();
                changed[at] ^= 1;
                judge(&format!("byte {at}"), with(&self.rich.bytes, table, row, Some(&changed)));
            }
            if let Some((_, other)) = all.get(i + 1).filter(|(_, other)| other != value) {
                judge("with its neighbour's value", with(&self.rich.bytes, table, row, Some(other)));
            }
            let mut fresh = row.clone();
            // Numbers are little-endian: the first byte of the last number; in texts, the last letter.
            let at = if text_keys { fresh.len() - 1 } else { fresh.len().saturating_sub(8) };
            fresh[at] = if text_keys { b'z' } else { fresh[at].wrapping_add(101) };
            if !all.iter().any(|(row, _)| *row == fresh) {
                judge("copied", with(&self.rich.bytes, table, &fresh, Some(value)));
            }
        }
        tally.say(&format!("table {name}, {} rows", all.len()));
        self.tallies.push((name, tally));
        Ok(())
    }
}

#[test]
fn every_table_of_a_store_with_keys_row_by_row() {
    let rich = rich();
    let key = rich.folder.path().join("tables.key");
    private(&key, &std::fs::read(&rich.key).unwrap());
    let answers = answers(&open(rich.bytes.clone(), &key).unwrap()).unwrap();
    let mut edit = EditEach { rich: &rich, key: &key, answers: &answers, tallies: Vec::new() };
    let Ok(()) = quietly(|| tables::each(&mut edit));
    let tallies = edit.tallies;
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

/// In the log of the table-by-table edits no term was purged completely, so no test edited what a purge leaves of such
/// rows. Here five users and a conversation were purged; and a row is passed off as a purged row, to hide a user.
#[test]
fn what_a_purge_left_of_index_rows_and_what_only_looks_like_it() {
    use crate::store_common::tables::POSTINGS;
    use crate::store_common::tables::PURGED_ROWS;
    /// The key prefix of the rows of users, and their facet.
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
    assert_eq!(log.retention().purge("ops").unwrap().purged, 40);
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
    // The inner hash, place and list of a user who is in the log, so that the root of the batch is unchanged.
    let (key, row) = rows(&store, POSTINGS).into_iter().rfind(|(key, _)| key[0] == USERS.0).unwrap();
    let first = u64::from_le_bytes(key[9..].try_into().unwrap());
    let batch = rows(&store, tables::BATCHES).pop().unwrap().0;
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

/// Another history, as written by somebody who has a file and perhaps keys from some time: it continues `bytes`, or starts
/// from nothing without them.
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
    // It does not open beside the true key.
    let key = folder.join("true.key");
    private(&key, &std::fs::read(&rich.key).unwrap());
    assert_eq!(open(bytes.clone(), &key).unwrap_err().kind(), ErrorKind::Key);
    // With the forger's own key beside it, it passes as what it is: a log that nothing confirms.
    let own = folder.join("own.key");
    private(&own, &keys);
    let log = open(bytes, &own).unwrap();
    let found = log.verify(&once()).unwrap();
    assert!(found.ok() && !found.key_pinned && !found.anchored, "{:?}", kinds(&found));
    // Somebody who pinned the key, or kept a checkpoint, detects it.
    let found = log.verify(&once().public_key(rich.verifier.clone())).unwrap();
    assert!(kinds(&found).contains(&FindingKind::KeyMismatch));
    let found = log.verify(&once().against(kept(&rich.checkpoints[0]))).unwrap();
    assert!(kinds(&found).contains(&FindingKind::SignatureInvalid));
}

/// What was found of no entry was sorted by its text: the checkpoint of 18 entries, then of 2, then of 21. Then by the digits in the
/// text, whatever they counted. It stands as it lies in the store, however many threads looked.
#[test]
fn findings_stand_in_the_order_of_what_they_are_about() {
    let log = keyed(&later(), 31).in_memory().unwrap();
    let other = keyed(&later(), 32).in_memory().unwrap().public_key().unwrap().unwrap();
    let mut sizes = Vec::new();
    for i in 0..30 {
        log.record(call(i)).unwrap();
        if i % 3 == 0 {
            sizes.push(log.checkpoint().unwrap().checkpoint().size());
        }
    }
    let verify =
        |threads| log.verify(&VerifyOptions::new().threads(threads).public_key(other.clone())).unwrap().findings;
    let found = verify(1);
    let unsigned =
        found.iter().filter(|finding| finding.kind == FindingKind::SignatureInvalid && finding.seq.is_none());
    let said = unsigned.filter_map(|finding| finding.detail.split(' ').find_map(|word| word.parse::<u64>().ok()));
    assert_eq!(said.collect::<Vec<_>>(), sizes);
    assert!(found.is_sorted_by_key(|finding| (finding.seq.is_none(), finding.seq, finding.kind)));
    assert_eq!(verify(4), found);
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
    // With today's key and yesterday's file, the key's mark is beyond the file, so nothing can be added.
    let (path, key) = (folder.join("audit.old"), folder.join("audit.old.key"));
    private(&path, &rich.older.0);
    private(&key, &std::fs::read(&rich.key).unwrap());
    let log = keyed(&later(), 9).open(&path).unwrap();
    assert_eq!(log.record(ToolCall::new("c", "u", "t")).unwrap_err().kind(), ErrorKind::OtherHistory);
    assert_eq!(kinds(&log.verify(&once()).unwrap()), [FindingKind::Rollback]);
    drop(log);

    // With file and key from one moment, another history can be written from there.
    let (bytes, keys) = forged(folder, Some((&rich.older.0, &rich.older.1)));
    let own = folder.join("own.key");
    private(&own, &keys);
    let log = open(bytes.clone(), &own).unwrap();
    // This is the limit: the log, the pinned key and every earlier anchor agree.
    let found = log.verify(&once().public_key(rich.verifier.clone()).against(kept(&rich.checkpoints[0]))).unwrap();
    assert!(found.ok() && found.key_pinned && found.anchored, "{:?}", found.findings);
    assert_eq!(found.anchored_size, rich.checkpoints[0].checkpoint().size());
    // Anything anchored since reveals it.
    let found = log.verify(&once().against(kept(&rich.checkpoints[1]))).unwrap();
    assert!(kinds(&found).contains(&FindingKind::Fork), "{:?}", kinds(&found));
    // And so does the true key file, when the forged store lies beside it.
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
    // A thief will only get the file of this epoch; its key is destroyed by then.
    let old = std::fs::read(&path).unwrap();
    let log = keyed(&clock(), 6).open(&path).unwrap();
    let verifier = log.public_key().unwrap().unwrap();
    log.keys().rotate_epoch_key().unwrap();
    log.close().unwrap();
    private(&folder.path().join("old.log"), &old);
    private(&folder.path().join("old.log.key"), &std::fs::read(&key).unwrap());
    // With the new epoch's key the old file neither opens as the store, nor can anything be signed in it.
    match keyed(&clock(), 7).open(folder.path().join("old.log")) {
        Err(e) => assert_eq!(e.kind(), ErrorKind::Key, "{e}"),
        Ok(log) => {
            assert!(log.checkpoint().is_err() && log.record(call(1)).is_err());
            assert!(!log.verify(&once().public_key(verifier)).unwrap().ok());
        }
    }
}
