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

/// Which of the drawn seeds belongs to which entries.
fn seeds(random: &Recorder, nonces: &HashMap<u64, [u8; 16]>) -> HashMap<[u8; 16], HashSet<u64>> {
    let mut found: HashMap<[u8; 16], HashSet<u64>> = HashMap::new();
    for seed in random.1.lock().unwrap().iter() {
        for (&seq, nonce) in nonces {
            let hash = Hash::of(&[&seed[..], &seq.to_be_bytes()].concat());
            if hash.0[..16] == nonce[..] {
                found.entry(*seed).or_default().insert(seq);
            }
        }
    }
    found
}

fn is_in_file(path: &Path, seed: &[u8; 16]) -> bool {
    std::fs::read(path).unwrap().windows(16).any(|bytes| bytes == seed)
}

/// With the seed of a purged entry's nonce, an attacker could compute the nonce again and test guesses of the entry
/// against its hash. So a purge must leave no seed from which the nonce of a purged entry was made.
#[test]
fn a_purge_leaves_no_seed_of_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
    let random = Arc::new(Recorder(SeededRandom::new(11), Mutex::default()));
    let options = || Options::new().clock(clock.clone()).random(random.clone()).background(false);
    let log = options().create(&path).unwrap();
    // First blocks that stay whole, then blocks that stay in part, then blocks that go whole; the last entries are in
    // no block yet.
    (0..600).for_each(|i| record(&log, i, true));
    log.close().unwrap();
    let log = options().open(&path).unwrap();
    (600..1200).for_each(|i| record(&log, i, i % 20 == 0));
    (1200..1810).for_each(|i| record(&log, i, false));
    log.flush_index().unwrap();

    let before = nonces(&log);
    assert_eq!(before.values().collect::<HashSet<_>>().len(), before.len(), "each entry has a nonce of its own");
    let seeds = seeds(&random, &before);
    assert_eq!(seeds.values().map(HashSet::len).sum::<usize>(), before.len(), "each nonce is made from a seed");
    assert!(seeds.len() > 8, "{} blocks", seeds.len());
    assert!(seeds.keys().all(|seed| is_in_file(&path, seed)));

    clock.advance(2 * 366 * DAY);
    log.retention().purge("ops").unwrap();
    let after = nonces(&log);
    assert!(after.iter().all(|(seq, nonce)| before.get(seq).is_none_or(|b| b == nonce)), "a nonce stays what it is");
    let (mut whole, mut touched) = (0, 0);
    for (seed, entries) in &seeds {
        match entries.iter().all(|seq| after.contains_key(seq)) {
            true => {
                assert!(is_in_file(&path, seed), "a block that lost nothing keeps its seed");
                whole += 1;
            }
            false => {
                assert!(!is_in_file(&path, seed), "a seed gives nonces of what is gone");
                touched += 1;
            }
        }
    }
    assert!(whole > 2 && touched > 4, "{whole} blocks lost nothing, {touched} something");
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());

    // Recording continues, with new seeds.
    (0..200).for_each(|i| record(&log, i, true));
    log.close().unwrap();
    let log = options().open(&path).unwrap();
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
    let last = nonces(&log);
    assert_eq!(last.values().collect::<HashSet<_>>().len(), last.len());
}

/// A refused record must leave the block as it was, or the next block would get a seed that is not its own.
#[test]
fn what_is_refused_leaves_the_block_as_it_was() {
    let mut limits = attestlog::entry::CallLimits::default();
    limits.line_bytes = 3_000;
    let random = Arc::new(Recorder(SeededRandom::new(12), Mutex::default()));
    let log = Options::new().limits(limits).random(random.clone()).background(false).in_memory().unwrap();
    let call = |i: u64, bytes: u64| {
        let text: String = (0..bytes).map(|n| char::from(b'a' + ((n * n * 7 + i * 13) >> 3) as u8 % 26)).collect();
        ToolCall::new(format!("conv-{i}"), "u", "t").arguments(attestlog::json::Object::from_iter([("note", text)]))
    };
    for i in 0..400 {
        // Refused alone, when the block before may have been cut for it; and refused after others in its batch, which
        // are refused with it.
        assert!(log.record(call(i, 4_000)).is_err());
        assert!(log.record_batch(vec![call(i, 900), call(i, 900), call(i, 4_000)]).is_err());
        log.record(call(i, i % 700)).unwrap();
    }
    log.flush_index().unwrap();
    let nonces = nonces(&log);
    assert_eq!(seeds(&random, &nonces).values().map(HashSet::len).sum::<usize>(), nonces.len());
    let verified = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verified.ok() && verified.size > 400, "{:?}", verified.findings);
}

/// Whoever has a backup has the nonces of its entries, and must not be able to compute those of later entries.
#[test]
fn a_backup_does_not_tell_the_nonces_of_what_comes_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("audit.log"), dir.path().join("copy.log"));
    let random = Arc::new(Recorder(SeededRandom::new(13), Mutex::default()));
    let options = || Options::new().random(random.clone()).background(false);
    let log = options().create(&path).unwrap();
    (0..10).for_each(|i| record(&log, i, false));
    log.backup(&copy).unwrap();
    (10..30).for_each(|i| record(&log, i, false));
    let seeds = seeds(&random, &nonces(&log));
    assert!(seeds.values().any(|seqs| seqs.contains(&5) && seqs.contains(&25)), "one block goes on over the backup");
    assert!(seeds.keys().all(|seed| is_in_file(&path, seed) && !is_in_file(&copy, seed)));

    // A copy that is written to draws nonces of its own.
    let other = options().unsigned(true).open(&copy).unwrap();
    (0..200).for_each(|i| record(&other, i, false));
    let (ours, theirs) = (nonces(&log), nonces(&other));
    assert!((20..30).all(|seq| ours[&seq] != theirs[&seq]));
    assert_eq!(theirs.values().collect::<HashSet<_>>().len(), theirs.len());
    other.close().unwrap();
    let other = options().unsigned(true).open(&copy).unwrap();
    assert_eq!(nonces(&other), theirs);
    let verified = other.verify(&VerifyOptions::new()).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}
