//! Nonces keep a hash that outlives its entry from giving the entry away.

use attestlog::host::{ManualClock, Random, SeededRandom};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Hash, Options, Query, ToolCall};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Records every draw of 16 bytes.
#[derive(Debug)]
struct Recorder(SeededRandom, Mutex<Vec<[u8; 16]>>);

impl Random for Recorder {
    fn fill(&self, out: &mut [u8]) {
        self.0.fill(out);
        if let Ok(drawn) = <[u8; 16]>::try_from(&*out) {
            self.1.lock().unwrap().push(drawn);
        }
    }
}

/// Records calls of two kinds: one expires after a year, the other after six.
fn record(log: &AuditLog, i: u64, kept: bool) {
    let call = ToolCall::new(format!("conv-{}", i / 10), "nurse", "read_chart");
    log.record(if kept { call.patient("P-1") } else { call }).unwrap();
}

fn nonces(log: &AuditLog) -> HashMap<u64, [u8; 16]> {
    log.query(&Query::new()).unwrap().map(|e| e.map(|e| (e.seq, e.body.nonce)).unwrap()).collect()
}

const SEGMENT: u64 = 256;

/// The nonces of a segment, from the bytes of the root of its tree: SHA-256 over those of a node, and a few words, gives those of its
/// two children, thirteen times.
fn leaves(seed: [u8; 16]) -> Vec<[u8; 16]> {
    let mut level = vec![seed];
    for _ in 0..13 {
        let both = level.iter().flat_map(|seed| {
            let Hash(both) = Hash::of(&[&seed[..], b"attestlog/nonces@v1"].concat());
            [both[..16].try_into().unwrap(), both[16..].try_into().unwrap()]
        });
        level = both.collect();
    }
    level
}

/// The drawn seed of each segment, by its first seq, if all nonces of the segment follow from it.
fn seeds(random: &Recorder, nonces: &HashMap<u64, [u8; 16]>) -> HashMap<u64, [u8; 16]> {
    let mut found = HashMap::new();
    for seed in random.1.lock().unwrap().iter() {
        let leaves = leaves(*seed);
        for start in (0..).step_by(SEGMENT as usize).take_while(|start| *start <= nonces.keys().copied().max().unwrap())
        {
            let follows = |(seq, leaf): (u64, &[u8; 16])| nonces.get(&seq).is_none_or(|nonce| nonce == leaf);
            if (start..start + SEGMENT).zip(&leaves).all(follows) {
                found.insert(start, *seed);
            }
        }
    }
    found
}

fn is_in_file(path: &Path, seed: &[u8; 16]) -> bool {
    std::fs::read(path).unwrap().windows(16).any(|bytes| bytes == seed)
}

/// With the seed of a purged entry's nonce, an attacker could compute the nonce again and test guesses of the entry
/// against its hash. So a purge must leave no seed from which the nonce of a purged entry follows: in place of the root of a
/// segment's tree it leaves the nodes beside the ways to what it took.
#[test]
fn a_purge_leaves_no_seed_of_what_it_took() {
    use crate::store_common::tables::SEEDS;
    use redb::{ReadableDatabase, ReadableTable};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
    let random = Arc::new(Recorder(SeededRandom::new(11), Mutex::default()));
    let options =
        || Options::new().clock(clock.clone()).random(random.clone()).background(false).segment_entries(SEGMENT as u32);
    let log = options().create(&path).unwrap();
    // First segments that stay whole, then some that stay in part, then some that go whole; the last entries are in the tail.
    (0..600).for_each(|i| record(&log, i, true));
    log.close().unwrap();
    let log = options().open(&path).unwrap();
    (600..1200).for_each(|i| record(&log, i, i % 20 == 0));
    (1200..1810).for_each(|i| record(&log, i, false));
    log.flush_index().unwrap();

    let before = nonces(&log);
    assert_eq!(before.values().collect::<HashSet<_>>().len(), before.len(), "each entry has a nonce of its own");
    let seeds = seeds(&random, &before);
    assert_eq!(seeds.len() as u64, (before.len() as u64).div_ceil(SEGMENT), "a segment has one seed");
    assert!(seeds.values().all(|seed| is_in_file(&path, seed)));

    clock.advance(2 * 366 * DAY);
    log.retention().purge("ops").unwrap();
    let after = nonces(&log);
    assert!(after.iter().all(|(seq, nonce)| before.get(seq).is_none_or(|b| b == nonce)), "a nonce stays what it is");
    let (mut whole, mut touched) = (0, 0);
    for (&start, seed) in &seeds {
        match (start..start + SEGMENT).all(|seq| after.contains_key(&seq) || !before.contains_key(&seq)) {
            true => {
                assert!(is_in_file(&path, seed), "a segment that lost nothing keeps its seed");
                whole += 1;
            }
            false => {
                assert!(!is_in_file(&path, seed), "a seed gives nonces of what is gone");
                touched += 1;
            }
        }
    }
    assert!(whole >= 2 && touched > 4, "{whole} segments lost nothing, {touched} something");
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());

    // Recording continues, with new seeds.
    (0..600).for_each(|i| record(&log, i, true));
    log.close().unwrap();
    // What is left: from no node in the file does a purged entry's nonce follow.
    let database = redb::Database::open(&path).unwrap();
    let (mut stored, gone) = (HashSet::new(), before.keys().filter(|seq| !after.contains_key(seq)).count());
    for row in database.begin_read().unwrap().open_table(SEEDS).unwrap().iter().unwrap() {
        let row = row.unwrap().1.value().to_vec();
        let mut rest = &row[1..];
        while !rest.is_empty() {
            let skipped = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let (level, seed) = (rest[skipped], <[u8; 16]>::try_from(&rest[skipped + 1..skipped + 17]).unwrap());
            let mut below = vec![seed];
            for _ in 0..level {
                let both = below.iter().flat_map(|seed| {
                    let Hash(both) = Hash::of(&[&seed[..], b"attestlog/nonces@v1"].concat());
                    [<[u8; 16]>::try_from(&both[..16]).unwrap(), both[16..].try_into().unwrap()]
                });
                below = both.collect();
            }
            stored.extend(below);
            rest = &rest[skipped + 17..];
        }
    }
    drop(database);
    assert!(gone > 600 && after.values().all(|nonce| stored.contains(nonce)));
    assert!(before.iter().all(|(seq, nonce)| after.contains_key(seq) || !stored.contains(nonce)));
    let log = options().open(&path).unwrap();
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
    let last = nonces(&log);
    assert_eq!(last.values().collect::<HashSet<_>>().len(), last.len());
}

/// A refused record must leave the seeds as they were, or the next segment would get one that is not in the file.
#[test]
fn what_is_refused_leaves_the_seeds_as_they_were() {
    let mut limits = attestlog::entry::CallLimits::default();
    limits.line_bytes = 3_000;
    let random = Arc::new(Recorder(SeededRandom::new(12), Mutex::default()));
    let log = Options::new()
        .limits(limits)
        .random(random.clone())
        .background(false)
        .segment_entries(SEGMENT as u32)
        .in_memory()
        .unwrap();
    let call = |i: u64, bytes: u64| {
        let text: String = (0..bytes).map(|n| char::from(b'a' + ((n * n * 7 + i * 13) >> 3) as u8 % 26)).collect();
        ToolCall::new(format!("conv-{i}"), "u", "t").arguments(attestlog::json::Object::from_iter([("note", text)]))
    };
    for i in 0..400 {
        // Refused alone, when it may be the first of a segment; and refused after others in its batch, which are refused with it.
        assert!(log.record(call(i, 4_000)).is_err());
        assert!(log.record_batch(vec![call(i, 900), call(i, 900), call(i, 4_000)]).is_err());
        log.record(call(i, i % 700)).unwrap();
    }
    log.flush_index().unwrap();
    let nonces = nonces(&log);
    assert_eq!(seeds(&random, &nonces).len() as u64, (nonces.len() as u64).div_ceil(SEGMENT));
    let verified = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verified.ok() && verified.size > 400, "{:?}", verified.findings);
}

/// Whoever has a backup has the nonces of its entries, and must not be able to compute those of later entries.
#[test]
fn a_backup_does_not_tell_the_nonces_of_what_comes_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("audit.log"), dir.path().join("copy.log"));
    let random = Arc::new(Recorder(SeededRandom::new(13), Mutex::default()));
    let options = || Options::new().random(random.clone()).background(false).segment_entries(SEGMENT as u32);
    let log = options().create(&path).unwrap();
    (0..10).for_each(|i| record(&log, i, false));
    log.backup(&copy).unwrap();
    (10..30).for_each(|i| record(&log, i, false));
    let seeds = seeds(&random, &nonces(&log));
    assert_eq!(seeds.len(), 1, "one segment goes on over the backup");
    assert!(seeds.values().all(|seed| is_in_file(&path, seed) && !is_in_file(&copy, seed)));

    // A copy that is written to draws nonces of its own.
    let other = options().unsigned(true).open(&copy).unwrap();
    (0..500).for_each(|i| record(&other, i, false));
    let (ours, theirs) = (nonces(&log), nonces(&other));
    assert!((20..30).all(|seq| ours[&seq] != theirs[&seq]));
    assert_eq!(theirs.values().collect::<HashSet<_>>().len(), theirs.len());
    other.close().unwrap();
    let other = options().unsigned(true).open(&copy).unwrap();
    assert_eq!(nonces(&other), theirs);
    let verified = other.verify(&VerifyOptions::new()).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}
