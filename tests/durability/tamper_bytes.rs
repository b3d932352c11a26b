//! Somebody who knows nothing of the format alters the file: a byte is flipped, the file cut, pages swapped or taken from
//! an older copy. Each change is detected by opening or by verifying, or changes no answer. `ATTESTLOG_LONG=1` tries every
//! byte, otherwise a sample of each page.

use crate::store_common::*;
use crate::tampering::*;
use attestlog::anchor::Evidence;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, ErrorKind, Options, Result, ToolCall};

const PAGE: usize = 4096;

/// The size of redb's header in bytes.
const HEADER: usize = 320;

fn long() -> bool {
    std::env::var_os("ATTESTLOG_LONG").is_some_and(|v| v != "0")
}

/// A store whose altered copies are opened.
struct Subject {
    name: &'static str,
    bytes: Vec<u8>,
    older: Option<Vec<u8>>,
    /// The key file beside the store, one for each core.
    key: Option<Vec<u8>>,
    folder: tempfile::TempDir,
    verify: VerifyOptions,
}

impl Subject {
    fn open(&self, lane: usize, bytes: Vec<u8>) -> Result<AuditLog> {
        let options: Options = match &self.key {
            None => options(&clock(), 8),
            Some(key) => {
                let path = self.folder.path().join(format!("{lane}.key"));
                // Making proofs signs, and the mark from another copy would be what is found.
                private(&path, key);
                keyed(&later(), 8).key_file(path)
            }
        };
        options.open_on(Disk::of(bytes).backend())
    }

    fn answers(&self) -> String {
        let log = self.open(99, self.bytes.clone()).unwrap();
        let found = log.verify(&self.verify).unwrap();
        assert!(found.ok(), "{:?}", found.findings);
        answers(&log).unwrap()
    }

    fn flip(&self, tally: &Tally) {
        // Pages of zeros are free: a handful of their bytes are tried for all of them.
        let mut places = Vec::new();
        for (page, bytes) in self.bytes.chunks(PAGE).enumerate() {
            let step = match (long(), bytes.iter().all(|&b| b == 0)) {
                (true, false) => 1,
                (true, true) => 64,
                // The header and the first pages determine what the rest is.
                (false, false) if page == 0 => 3,
                (false, false) => 61,
                (false, true) => PAGE,
            };
            let places_of = (page % step..bytes.len()).step_by(step).map(|at| page * PAGE + at);
            places.extend(places_of.map(|at| (at, at % 8)));
        }
        // redb's own header: every bit of it.
        places.retain(|(at, _)| *at >= HEADER);
        places.extend((0..HEADER).flat_map(|at| (0..8).map(move |bit| (at, bit))));
        let answers = self.answers();
        on_all_cores(&my_share(places), |lane, &(at, bit)| {
            let mut bytes = self.bytes.clone();
            bytes[at] ^= 1 << bit;
            tally.judge(&format!("{at} {bit}"), self.open(lane, bytes), &self.verify, &answers);
        });
        tally.say(&format!("{} ({} bytes), a byte flipped", self.name, self.bytes.len()));
    }

    fn cut(&self, tally: &Tally) {
        let step = if long() { 1 } else { 997 };
        let lengths: Vec<usize> = (0..self.bytes.len()).step_by(step).collect();
        let answers = self.answers();
        on_all_cores(&my_share(lengths), |lane, &length| {
            let cut = self.bytes[..length].to_vec();
            tally.judge(&format!("cut to {length}"), self.open(lane, cut), &self.verify, &answers);
        });
        tally.say(&format!("{}, cut short", self.name));
    }

    fn swap(&self, tally: &Tally) {
        let pages = self.bytes.len() / PAGE;
        let used: Vec<usize> = (0..pages).filter(|&p| self.bytes[p * PAGE..][..PAGE].iter().any(|&b| b != 0)).collect();
        let pairs: Vec<(usize, usize)> =
            used.iter().enumerate().flat_map(|(i, &a)| used[i + 1..].iter().map(move |&b| (a, b))).collect();
        let step = if long() { 1 } else { pairs.len() / 300 + 1 };
        let pairs: Vec<_> = pairs.into_iter().step_by(step).collect();
        let answers = self.answers();
        on_all_cores(&my_share(pairs), |lane, &(a, b)| {
            let mut bytes = self.bytes.clone();
            let (low, high) = bytes.split_at_mut(b * PAGE);
            low[a * PAGE..][..PAGE].swap_with_slice(&mut high[..PAGE]);
            tally.judge(&format!("pages {a} and {b} swapped"), self.open(lane, bytes), &self.verify, &answers);
        });
        tally.say(&format!("{}, two of {} used pages swapped", self.name, used.len()));
    }

    /// Each page, and each run of pages from the beginning, taken from the older copy.
    fn mix(&self, tally: &Tally) {
        let Some(older) = &self.older else { return };
        let pages = (self.bytes.len().min(older.len())) / PAGE;
        let runs: Vec<(usize, usize)> =
            (0..pages).flat_map(|from| [(from, from + 1), (0, from + 1), (from, pages)]).collect();
        let answers = self.answers();
        on_all_cores(&my_share(runs), |lane, &(from, to)| {
            let mut bytes = self.bytes.clone();
            bytes[from * PAGE..to * PAGE].copy_from_slice(&older[from * PAGE..to * PAGE]);
            let name = format!("pages {from}..{to} of the older copy");
            tally.judge(&name, self.open(lane, bytes), &self.verify, &answers);
        });
        tally.say(&format!("{}, pages taken from an older copy", self.name));
    }
}

fn all(subject: &Subject) {
    quietly(|| {
        let (flip, cut, swap, mix) = (Tally::default(), Tally::default(), Tally::default(), Tally::default());
        subject.flip(&flip);
        subject.cut(&cut);
        subject.swap(&swap);
        subject.mix(&mix);
        [flip, cut, swap, mix].iter().for_each(Tally::assert_none_wrong);
    });
}

fn once(threads: usize) -> VerifyOptions {
    VerifyOptions::new().threads(threads)
}

#[test]
fn a_store_without_keys() {
    let bytes = closed(16);
    all(&Subject { name: "without keys", bytes, older: None, key: None, folder: folder(), verify: once(1) });
}

#[test]
fn a_store_with_keys_that_is_sealed_purged_and_alerted() {
    let rich = rich();
    let key = std::fs::read(&rich.key).unwrap();
    let older = Some(rich.older.0);
    let name = "with keys, sealed values, a purge, alerts";
    all(&Subject { name, bytes: rich.bytes, older, key: Some(key), folder: rich.folder, verify: once(1) });
}

/// In a killed process's file the last commit counts if it is there as its tally says. Somebody who flips a bit of what it
/// wrote gets the commit before the last, and nothing in the file tells that from a crash; verification says that it is one of the
/// two [R59]. What is lost is never below the mark of the key file, and a kept checkpoint that covers the last commit
/// reveals it.
#[test]
fn the_file_of_a_killed_process_goes_back_one_commit_at_most_and_never_below_what_was_signed() {
    let rich = rich();
    let signed = rich.checkpoints[1].checkpoint().size();
    let subject = |verify: VerifyOptions| Subject {
        name: "killed process",
        bytes: rich.killed.clone(),
        older: None,
        key: Some(rich.killed_key.clone()),
        folder: folder(),
        verify,
    };
    let alone = subject(once(1));
    let size = alone.open(98, rich.killed.clone()).unwrap().size().unwrap();
    assert!(size > signed + 1, "some calls are beyond the last checkpoint");
    let tally = Tally::default();
    quietly(|| alone.flip(&tally));
    let wrong = tally.wrong.lock().unwrap().clone();
    // Each of them once would take minutes, and the anchor's answer as long again.
    let (opened, sample) = if long() { (1, 1) } else { (wrong.len() / 160 + 1, wrong.len() / 20 + 1) };
    for (n, name) in wrong.iter().enumerate().filter(|(n, _)| n % opened == 0 || n % sample == 0) {
        let (at, bit) = name.split_once(' ').unwrap();
        let (at, bit): (usize, u8) = (at.parse().unwrap(), bit.parse().unwrap());
        let mut bytes = rich.killed.clone();
        bytes[at] ^= 1 << bit;
        let log = alone.open(97, bytes.clone()).unwrap();
        assert_eq!(log.size().unwrap(), size - 1, "bit {bit} of byte {at}: more than the last commit is gone");
        assert!(log.verify(&once(1)).unwrap().unfinished_commit, "bit {bit} of byte {at}: it is not said");
        assert!(log.size().unwrap() >= signed);
        // A checkpoint kept elsewhere that covers the last commit reveals it.
        drop(log);
        if n % sample != 0 {
            continue;
        }
        let whole = alone.open(96, rich.killed.clone()).unwrap();
        let kept = whole.checkpoint().unwrap();
        drop(whole);
        let evidence = Evidence::parse("anchor", kept.to_string().as_bytes(), None, &[]).unwrap();
        let found = alone.open(95, bytes).unwrap().verify(&once(1).against(evidence.kept)).unwrap();
        assert!(!found.ok(), "an anchor of the last commit does not find it");
    }
    let mut pages: Vec<_> =
        wrong.iter().map(|name| name.split_once(' ').unwrap().0.parse::<usize>().unwrap() / PAGE).collect();
    pages.dedup();
    assert!((1..20).contains(&pages.len()), "they are in pages {pages:?}");
    println!(
        "{} bits in {} pages bring the commit before the last back, and an anchor finds each",
        wrong.len(),
        pages.len()
    );
}

/// If the last commit was a checkpoint, the key file's mark covers it: going back before it is detected beside the key.
#[test]
fn the_key_files_mark_finds_what_goes_back_behind_the_last_checkpoint() {
    let rich = rich();
    private(&rich.folder.path().join("now.key"), &std::fs::read(&rich.key).unwrap());
    let old = keyed(&later(), 9).key_file(rich.folder.path().join("now.key"));
    let log = old.open_on(Disk::of(rich.older.0.clone()).backend()).unwrap();
    let found = log.verify(&once(1)).unwrap();
    assert!(found.findings.iter().any(|f| f.kind == FindingKind::Rollback), "{:?}", found.findings);
    assert_eq!(log.record(ToolCall::new("c", "u", "t")).unwrap_err().kind(), ErrorKind::OtherHistory);
}
