//! A process that records from eight threads is killed with SIGKILL at random moments. This process keeps what was
//! acknowledged, as it read it from the other one's output: every such entry is there, verification is clean, and the store
//! works. A few rounds; 300 with `ATTESTLOG_LONG=1`, and as many in which this process records through the other one's
//! socket too: it takes over when that one is killed, and records that were not answered are in the log once.

use crate::crash::{Dice, long};
use attestlog::verify::VerifyOptions;
#[cfg(feature = "owner")]
use attestlog::{AuditLog, Hash, Options, Query, ToolCall};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
#[cfg(feature = "owner")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const STORE: &str = "ATTESTLOG_TEST_STORE";
const THREADS: u64 = 8;

fn options() -> Options {
    Options::new().checkpoint_entries(Some(40)).checkpoint_every(Duration::from_millis(20))
}

/// The process that is killed: this test program, restarted to run only this.
#[test]
fn recorder() {
    let Some(path) = std::env::var_os(STORE) else { return };
    record_without_end(&options().open(Path::new(&path)).unwrap());
}

/// The same, with a socket through which others record.
#[cfg(feature = "owner")]
#[test]
fn owner() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let joint = options().open(Path::new(&path)).unwrap();
    assert!(joint.is_owner(), "nobody else has the store");
    record_without_end(&joint);
}

fn record_without_end(log: &AuditLog) {
    // The parent reads this before anything is recorded: the store is open.
    say("open");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = log.clone();
            scope.spawn(move || {
                for i in 0u64.. {
                    let arguments = "x".repeat((i * 37 % 900) as usize);
                    let call = |n| {
                        ToolCall::new(format!("conv_{thread}_{n}"), format!("usr_{thread}"), "look")
                            .arguments(&*arguments)
                    };
                    let receipts = match i % 16 {
                        3 => log.record_batch((0..5).map(|_| call(i))).unwrap(),
                        7 => {
                            let begun = log.begin(call(i)).unwrap();
                            let first = begun.receipt();
                            vec![first, begun.finish(|call| call.result("done")).unwrap()]
                        }
                        11 if thread == 0 => {
                            log.flush_index().unwrap();
                            continue;
                        }
                        13 if thread == 1 && i % 64 == 13 => {
                            log.keys().rotate_epoch_key().unwrap();
                            continue;
                        }
                        _ => vec![log.record(call(i)).unwrap()],
                    };
                    // One write per line: a line that was begun belongs to an acknowledged record.
                    for receipt in receipts {
                        say(&format!("{} {} {thread} {i}", receipt.seq, receipt.hash));
                    }
                }
            });
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("said {line}\n").as_bytes()).and_then(|()| out.flush());
}

/// Kills its process even if the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(role: &str, path: &Path) -> (Killed, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--nocapture", "--test-threads=1"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (Killed(child), out)
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds = if long() { 300 } else { 4 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    drop(options().create(&path).unwrap());
    let mut oracle: BTreeMap<u64, Hash> = BTreeMap::new();
    let mut dice = Dice(7);
    let (mut unanswered, mut unfinished) = (0u64, 0u64);
    let began = std::time::Instant::now();
    for round in 0..rounds {
        let before = oracle.len();
        let (mut killed, mut out) = start("sigkill::recorder", &path);
        // Killed after some number of answers, so that the moment does not depend on the machine's speed.
        let answers = 1 + dice.roll(if round % 5 == 0 { 900 } else { 120 });
        hear(&mut oracle, &mut out, answers);
        killed.0.kill().unwrap();
        killed.0.wait().unwrap();
        hear_the_rest(&mut oracle, &mut out);
        check(&path, &oracle, round + 1 == rounds || round % 10 == 0, &mut unanswered, &mut unfinished);
        assert!(oracle.len() > before || answers == 1);
    }
    println!(
        "killed {rounds} times in {:.0} s: {} acknowledged entries, all there; {unanswered} entries whose answer nobody saw; \
         {unfinished} calls begun without an end",
        began.elapsed().as_secs_f64(),
        oracle.len()
    );
}

fn take(oracle: &mut BTreeMap<u64, Hash>, line: &str) {
    let Some((_, said)) = line.split_once("said ") else { return };
    let mut words = said.trim_end().split(' ');
    if let (Some(Ok(seq)), Some(hash)) = (words.next().map(str::parse::<u64>), words.next()) {
        let fresh = oracle.insert(seq, hash.parse().unwrap()).is_none();
        assert!(fresh, "seq {seq} was acknowledged twice");
    }
}

/// Reads this many answers of the recorder.
fn hear(oracle: &mut BTreeMap<u64, Hash>, out: &mut impl BufRead, answers: u64) {
    let mut seen = 0;
    let mut line = String::new();
    while seen < answers {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the recorder ended by itself");
        take(oracle, &line);
        seen += u64::from(line.contains("said "));
    }
}

/// What it had printed before it was killed counts too; an incomplete line does not.
fn hear_the_rest(oracle: &mut BTreeMap<u64, Hash>, out: &mut impl Read) {
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    rest.split_inclusive('\n').filter(|line| line.ends_with('\n')).for_each(|line| take(oracle, line));
}

/// The owner of the store is killed while eight threads of this process record through its socket and eight of its own
/// beside them. One of the threads here takes over and all continue: none of them gets an error, nothing is lost, and
/// nothing that was sent again is there twice.
#[cfg(feature = "owner")]
#[test]
fn nothing_is_lost_or_doubled_when_the_owner_is_killed_while_others_record_through_its_socket() {
    let rounds = if long() { 300 } else { 4 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    drop(options().create(&path).unwrap());
    let mut oracle: BTreeMap<u64, Hash> = BTreeMap::new();
    let mut dice = Dice(11);
    let (mut sent, mut unanswered, mut unfinished) = (0u64, 0u64, 0u64);
    let began = std::time::Instant::now();
    for round in 0..rounds {
        let (mut killed, mut out) = start("sigkill::owner", &path);
        hear(&mut oracle, &mut out, 1);
        let joint = options().open(&path).unwrap();
        assert!(!joint.is_owner(), "the other process has the store");
        // Each thread continues until it has recorded through the owner, seen it end, and recorded after that.
        let gone = AtomicBool::new(false);
        let answers = 1 + dice.roll(120);
        let through: Vec<Vec<(u64, Hash)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (joint, gone) = (&joint, &gone);
                    scope.spawn(move || {
                        let mut told = Vec::new();
                        let mut after = 0;
                        while after < 3 {
                            after += u64::from(gone.load(Ordering::SeqCst));
                            let i = told.len();
                            let call = ToolCall::new(format!("sent-{round}-{thread}"), "usr", "look").turn(i as u64);
                            let receipt = joint.record(call).unwrap();
                            told.push((receipt.seq, receipt.hash));
                        }
                        told
                    })
                })
                .collect();
            hear(&mut oracle, &mut out, answers);
            killed.0.kill().unwrap();
            killed.0.wait().unwrap();
            gone.store(true, Ordering::SeqCst);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        hear_the_rest(&mut oracle, &mut out);
        joint.close().unwrap();
        for (seq, hash) in through.iter().flatten() {
            assert!(oracle.insert(*seq, *hash).is_none(), "seq {seq} was acknowledged twice");
        }
        let log = options().open(&path).unwrap();
        for (thread, told) in through.iter().enumerate() {
            let there = log.query(&Query::new().conversation(format!("sent-{round}-{thread}"))).unwrap();
            let there: Vec<(u64, Hash)> = there.map(|e| e.unwrap()).map(|e| (e.seq, e.hash())).collect();
            assert_eq!(there, *told, "of thread {thread} each once, in its order");
            sent += told.len() as u64;
        }
        drop(log);
        check(&path, &oracle, round + 1 == rounds || round % 10 == 0, &mut unanswered, &mut unfinished);
    }
    println!(
        "the owner killed {rounds} times in {:.0} s: {} acknowledged entries, {sent} of them through the socket or after it, \
         each there once; {unanswered} entries whose answer nobody saw; {unfinished} calls begun without an end",
        began.elapsed().as_secs_f64(),
        oracle.len()
    );
}

fn check(path: &Path, oracle: &BTreeMap<u64, Hash>, all: bool, unanswered: &mut u64, unfinished: &mut u64) {
    let log = options().open(path).unwrap();
    // All of them now and then, the newest every time.
    let from = if all { 0 } else { oracle.len().saturating_sub(2_000) };
    for (seq, hash) in oracle.iter().skip(from) {
        assert_eq!(log.entry(*seq).unwrap().hash(), *hash, "entry {seq} is another one");
    }
    let found = log.verify(&VerifyOptions::new().public_key(log.public_key().unwrap().unwrap())).unwrap();
    assert!(found.ok(), "{:#?}", found.findings);
    // Batches are whole: a job of five is one conversation.
    *unanswered = log.count(&Query::new()).unwrap() - oracle.len() as u64;
    *unfinished = log.count(&Query::new().unfinished()).unwrap();
    for entry in log.query(&Query::new().newest_first().limit(400)).unwrap() {
        let Some(conversation) = entry.unwrap().call().map(|c| c.conversation_id.clone()) else { continue };
        let i: u64 = conversation.rsplit('_').next().and_then(|i| i.parse().ok()).unwrap_or(0);
        let there = log.count(&Query::new().conversation(&*conversation)).unwrap();
        if i % 16 == 3 {
            assert_eq!(there % 5, 0, "half of a batch in {conversation}: {there}");
        }
    }
    let next: AuditLog = log.clone();
    next.record(ToolCall::new("after_0", "usr", "look")).unwrap();
    next.close().unwrap();
}
