//! Random operations on a store, compared with a plain list: what was acknowledged is there, in order, byte for byte,
//! and is found by every query that should find it; what was refused is not there. This also holds after writes that
//! fail, after reopening, and after the clock was set; and the store verifies.

use attestlog::Justification;
use attestlog::entry::{Source, SourceKind};
use attestlog::fuzzing::{StorageBackend, memory};
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::query::Statistics;
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Begun, ErrorKind, Hash, Options, Query, Receipt, Sender, ToolCall};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (0..24u8).flat_map(|op| [0, 40, 1, 41, op, op.wrapping_mul(37)]).collect();
    let failing: Vec<u8> = (0..60u8).flat_map(|n| [18, n, 0, n, 4, 3]).collect();
    vec![[&[1][..], &all].concat(), [&[0][..], &all].concat(), [&[2][..], &failing].concat(), vec![0; 40]]
}

/// A storage that starts to fail after a number of writes, syncs and changes of length.
#[derive(Debug)]
struct Failing {
    inner: Box<dyn StorageBackend>,
    left: Arc<AtomicI64>,
}

impl Failing {
    fn step(&self) -> io::Result<()> {
        // Far below zero, no failure is armed.
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            -100..=0 => Err(io::Error::other("armed to fail")),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.step()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.inner.write(offset, data)
    }
}

/// What the model knows about a call.
#[derive(Debug, Clone)]
struct Known {
    hash: Hash,
    conversation: String,
    user: String,
    tool: String,
    patient: Option<String>,
    /// `None` for a call that was only begun, and for details of a call.
    success: Option<bool>,
    is_detail: bool,
}

struct Play {
    options: Box<dyn Fn() -> Options>,
    backend: Arc<dyn Fn() -> Box<dyn StorageBackend> + Send + Sync>,
    left: Arc<AtomicI64>,
    clock: Arc<ManualClock>,
    log: AuditLog,
    calls: BTreeMap<u64, Known>,
    begun: Vec<(Begun, Known)>,
    checkpoints: Vec<attestlog::note::SignedCheckpoint>,
    holds: Vec<u64>,
    numbered: Vec<(u64, Receipt)>,
    keys: bool,
}

const IDLE: i64 = i64::MIN / 2;

pub(crate) fn run(data: &[u8]) {
    let Some((&mode, operations)) = data.split_first() else { return };
    // Keys are in a file, which a reopened store needs; this takes most of the time.
    let keys = mode % 4 == 1;
    let folder = keys.then(|| tempfile::tempdir().expect("a folder"));
    let key_path = folder.as_ref().map(|f| f.path().join("store.key"));
    let clock = Arc::new(ManualClock::at("2025-01-01".parse().expect("a date")));
    let random = Arc::new(SeededRandom::new(u64::from(mode)));
    let options = {
        let clock = clock.clone();
        move || {
            let options =
                Options::new().clock(clock.clone()).random(random.clone()).background(false).cache_bytes(1 << 20);
            match &key_path {
                Some(path) => options.key_file(path),
                None => options.without_keys(),
            }
        }
    };
    let left = Arc::new(AtomicI64::new(IDLE));
    let memory = memory();
    let backend: Arc<dyn Fn() -> Box<dyn StorageBackend> + Send + Sync> = {
        let left = left.clone();
        Arc::new(move || Box::new(Failing { inner: memory(), left: left.clone() }))
    };
    let make = backend.clone();
    let log = options().create_on(move || make()).expect("a store");
    let mut play = Play {
        options: Box::new(options),
        backend,
        left,
        clock,
        log,
        calls: BTreeMap::new(),
        begun: Vec::new(),
        checkpoints: Vec::new(),
        holds: Vec::new(),
        numbered: Vec::new(),
        keys,
    };
    for pair in operations.chunks_exact(2).take(300) {
        play.step(pair[0], u64::from(pair[1]));
    }
    play.end();
}

impl Play {
    fn call(&self, n: u64) -> (ToolCall, Known) {
        let known = Known {
            hash: Hash::ZERO,
            conversation: format!("conv_{}", n % 5),
            user: format!("usr_{}", n % 3),
            tool: [
                "lookup",
                "issue_refund",
                "access_patient_record",
                "a_tool_with_a_name_that_is_longer_than_any_term_may_be_in_the_dictionary_itself",
            ][n as usize % 4]
                .to_owned(),
            patient: (n % 7 < 3).then(|| format!("P-{}", n % 2)),
            success: Some(n % 6 != 0),
            is_detail: false,
        };
        let mut call =
            ToolCall::new(&*known.conversation, &*known.user, &*known.tool).duration(Duration::from_micros(n * 977));
        if let Some(patient) = &known.patient {
            call = call.patient(&**patient);
        }
        if known.success == Some(false) {
            call = call.error("it failed");
        }
        (call.arguments("x".repeat(n as usize * 9)), known)
    }

    /// Adds what was acknowledged to the model. There may only be an error if the storage fails.
    fn took(&mut self, receipts: attestlog::Result<Vec<Receipt>>, known: Vec<Known>) {
        match receipts {
            Ok(receipts) => {
                assert_eq!(receipts.len(), known.len());
                for (receipt, mut known) in receipts.iter().zip(known) {
                    known.hash = receipt.hash;
                    assert!(self.calls.insert(receipt.seq, known).is_none(), "one seq for two entries");
                }
            }
            Err(e) => {
                assert!(self.failing(), "recording failed: {e}");
                self.settle(&known);
            }
        }
    }

    fn failing(&self) -> bool {
        self.left.load(Ordering::SeqCst) > IDLE / 2
    }

    /// After a write that failed: what was not acknowledged may be there nevertheless, completely or not at all.
    fn settle(&mut self, attempted: &[Known]) {
        self.left.store(IDLE, Ordering::SeqCst);
        // The next write reopens the file.
        let (call, known) = self.call(1);
        let receipt = self.log.record(call).expect("recording goes on once the storage does");
        let newest = self.calls.last_key_value().map_or(0, |(seq, _)| seq + 1);
        let mut found = Vec::new();
        for seq in newest..receipt.seq {
            let entry = self.log.entry(seq).expect("an entry");
            if entry.call().is_some() {
                found.push((seq, entry.hash()));
            }
        }
        assert!(found.is_empty() || found.len() == attempted.len(), "half of a job is there");
        for ((seq, hash), known) in found.into_iter().zip(attempted) {
            self.calls.insert(seq, Known { hash, ..known.clone() });
        }
        self.calls.insert(receipt.seq, Known { hash: receipt.hash, ..known });
    }

    /// Checks that the store refuses something only because its storage fails.
    fn held<T>(&mut self, result: attestlog::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                assert!(self.failing(), "{e}");
                self.settle(&[]);
                None
            }
        }
    }

    fn step(&mut self, op: u8, n: u64) {
        match op % 24 {
            0..=3 => {
                let (call, known) = self.call(n);
                let receipt = self.log.record(call);
                self.took(receipt.map(|r| vec![r]), vec![known]);
            }
            4 => {
                let (calls, known): (Vec<_>, Vec<_>) = (0..n % 50 + 1).map(|i| self.call(n + i)).unzip();
                let receipts = self.log.record_batch(calls);
                self.took(receipts, known);
            }
            5 => {
                let size = self.log.size().unwrap();
                let bad = ToolCall::new("c", "u\0", "t");
                let refused = self.log.record_batch([self.call(n).0, bad]).expect_err("NUL is refused");
                assert_eq!((refused.kind(), self.log.size().unwrap()), (ErrorKind::InvalidInput, size));
            }
            6 => {
                let (call, mut known) = self.call(n);
                known.success = None;
                // A call is begun without a result.
                let call = if n % 6 == 0 { self.call(n + 1).0 } else { call };
                let begun = self.log.begin(call);
                match begun {
                    Ok(begun) => {
                        let known = if n % 6 == 0 { Known { success: None, ..self.call(n + 1).1 } } else { known };
                        self.took(Ok(vec![begun.receipt()]), vec![known.clone()]);
                        self.begun.push((begun, known));
                    }
                    Err(e) => {
                        let known = if n % 6 == 0 { Known { success: None, ..self.call(n + 1).1 } } else { known };
                        self.took(Err(e), vec![known]);
                    }
                }
            }
            7 => {
                if let Some((begun, mut known)) = self.begun.pop() {
                    known.success = Some(true);
                    let receipt = begun.finish(|call| call.result(true));
                    self.took(receipt.map(|r| vec![r]), vec![known]);
                }
            }
            8 | 9 => self.query(n),
            10 => {
                let flushed = self.log.flush_index();
                self.held(flushed);
            }
            11 => self.reopen(),
            12 if self.keys => {
                let signed = self.log.checkpoint();
                if let Some(signed) = self.held(signed) {
                    self.checkpoints.push(signed);
                }
            }
            13 if self.keys => {
                let rotated = self.log.keys().rotate_epoch_key();
                self.held(rotated);
            }
            14 => self.clock.advance(Duration::from_secs(n * n * 60)),
            15 => {
                let start: attestlog::Timestamp = "2024-12-01".parse().expect("a date");
                self.clock.set(start.plus(Duration::from_secs(86_400 * n)));
            }
            16 => self.statistics(),
            17 if self.keys => self.prove(n),
            18 => self.left.store(n as i64, Ordering::SeqCst),
            19 => {
                let (call, known) = self.call(n);
                let repeat = self.numbered.iter().find(|(number, _)| *number == n).cloned();
                let receipt = self.log.record(call.sender(Sender::new("host", n + 1)));
                match (repeat, receipt) {
                    (Some((_, first)), Ok(again)) => assert_eq!(first, again, "a repeated record is answered"),
                    (_, Err(e)) if e.kind() == ErrorKind::Conflict => {
                        assert!(self.numbered.len() >= 64, "only numbers far behind are forgotten: {e}")
                    }
                    (_, receipt) => {
                        if let Ok(receipt) = &receipt {
                            self.numbered.push((n, *receipt));
                        }
                        self.took(receipt.map(|r| vec![r]), vec![known]);
                        self.catch_up(n);
                    }
                }
            }
            20 => {
                let mut covering = HoldSelector::default();
                covering.users.insert(format!("usr_{}", n % 3));
                let placed = self.log.retention().place_hold(
                    "case",
                    covering,
                    Justification { actor: "legal", reason: "reason" },
                );
                if let Some(receipt) = self.held(placed) {
                    self.holds.push(receipt.seq);
                }
            }
            21 => {
                if let Some(hold) = self.holds.pop() {
                    let released =
                        self.log.retention().release_hold(hold, Justification { actor: "legal", reason: "done" });
                    // A release that failed may be in force, and cannot be repeated then.
                    self.held(released);
                }
            }
            22 => {
                let policies = self.log.retention().policies().unwrap();
                let set = self.log.retention().set_policies(policies);
                self.held(set);
            }
            23 if n % 4 == 0 => self.verify(),
            23 if n % 4 == 1 => self.detail(n),
            _ => {}
        }
    }

    /// Another source tells more of a call: an entry that is found like the call and counts as none.
    fn detail(&mut self, n: u64) {
        let told = |of: u64, known: &Known| {
            let call = ToolCall::new(&*known.conversation, &*known.user, &*known.tool);
            call.source(Source::new(SourceKind::Session)).trace(format!("t-{}", n % 3), None).detail_of(of)
        };
        let all: Vec<(u64, Known)> = self.calls.iter().map(|(seq, known)| (*seq, known.clone())).collect();
        let Some((of, known)) = all.get(n as usize % all.len().max(1)) else { return };
        let recorded = self.log.record(told(*of, known));
        if known.is_detail {
            assert!(recorded.is_err(), "details have no details");
            return;
        }
        let known = Known { success: None, patient: None, is_detail: true, ..known.clone() };
        self.took(recorded.map(|receipt| vec![receipt]), vec![known]);
    }

    /// A numbered record that failed may be in the store; then the store knows its number.
    fn catch_up(&mut self, n: u64) {
        if self.numbered.last().is_some_and(|(number, _)| *number == n) {
            return;
        }
        let (call, known) = self.call(n);
        if let Ok(receipt) = self.log.record(call.sender(Sender::new("host", n + 1))) {
            self.numbered.push((n, receipt));
            self.calls.entry(receipt.seq).or_insert(Known { hash: receipt.hash, ..known });
        }
    }

    fn query(&self, n: u64) {
        let (conversation, user, tool) = (format!("conv_{}", n % 5), format!("usr_{}", n % 3), self.call(n).1.tool);
        let patient = format!("P-{}", n % 2);
        type Wanted<'a> = Box<dyn Fn(&Known) -> bool + 'a>;
        let (query, wanted): (Query, Wanted<'_>) = match n % 4 {
            0 => (Query::new().conversation(&*conversation), Box::new(|k| k.conversation == conversation)),
            1 => (Query::new().user(&*user).tool(&*tool), Box::new(|k| k.user == user && k.tool == tool)),
            2 => (Query::new().patient(&*patient), Box::new(|k| k.patient.as_ref() == Some(&patient))),
            _ => (Query::new().tool(&*tool).failed(), Box::new(|k| k.tool == tool && k.success == Some(false))),
        };
        let mut expected: Vec<u64> = self.calls.iter().filter(|(_, k)| wanted(k)).map(|(seq, _)| *seq).collect();
        assert_eq!(self.log.count(&query).expect("a count"), expected.len() as u64);
        let newest = n % 8 >= 4;
        if newest {
            expected.reverse();
        }
        let limit = n % 13 + 1;
        expected.truncate(limit as usize);
        let query = if newest { query.newest_first() } else { query };
        let hits = self.log.query(&query.limit(limit)).expect("a query");
        let found: Vec<u64> = hits.map(|entry| entry.expect("an entry").seq).collect();
        assert_eq!(found, expected);
    }

    fn statistics(&self) {
        let statistics = self.log.statistics(&Statistics::new()).expect("statistics");
        // A tool of which every call is unfinished is listed with no call.
        let counted = statistics.iter().map(|s| (s.tool.as_str(), s.total_calls));
        let counted: BTreeMap<&str, u64> = counted.filter(|(_, calls)| *calls > 0).collect();
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for known in self.calls.values().filter(|k| k.success.is_some()) {
            *expected.entry(&known.tool).or_default() += 1;
        }
        assert_eq!(counted, expected);
    }

    fn prove(&mut self, n: u64) {
        let seq = n % self.log.size().unwrap();
        let proof = self.log.prove(seq);
        if let Some(proof) = self.held(proof) {
            let key = self.log.public_key().unwrap().expect("keys");
            let succession = self.log.keys().succession().unwrap().expect("keys");
            assert!(attestlog::proof::Proof::Inclusion(proof).check(&key, Some(&succession)).is_ok());
        }
        for old in self.checkpoints.clone() {
            let proof = self.log.proofs().consistent(&old);
            if let Some(proof) = self.held(proof) {
                let key = self.log.public_key().unwrap().expect("keys");
                assert!(attestlog::proof::Proof::Consistency(proof).check(&key, None).is_ok());
            }
        }
    }

    fn reopen(&mut self) {
        self.begun.clear();
        self.left.store(IDLE, Ordering::SeqCst);
        let log = self.log.clone();
        // An earlier failure may be reported here; the caller then reopens the store.
        let _ = log.close();
        let make = self.backend.clone();
        self.log = (self.options)().open_on(move || make()).expect("it opens");
    }

    fn verify(&self) {
        let verification = self.log.verify(&VerifyOptions::new().threads(2)).expect("it verifies");
        assert!(verification.ok(), "{:#?}", verification.findings);
    }

    fn end(mut self) {
        self.left.store(IDLE, Ordering::SeqCst);
        for again in [false, true] {
            if again {
                self.reopen();
            }
            // After a failed write, the next one reopens the file.
            let (call, known) = self.call(2);
            let receipt = self.log.record(call).expect("recording continues");
            self.calls.insert(receipt.seq, Known { hash: receipt.hash, ..known });
            for (seq, known) in &self.calls {
                assert_eq!(self.log.entry(*seq).expect("what was acknowledged is there").hash(), known.hash);
            }
            (0..4).for_each(|n| self.query(n));
            self.statistics();
            self.verify();
        }
    }
}
