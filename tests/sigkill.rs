//! A process that records from eight threads is killed with SIGKILL at moments that nobody chose. This process keeps what
//! was acknowledged, as it read it from the other one's output: every such entry is there, verification is clean, and the
//! store goes on. A few rounds; 300 with `ATTESTLOG_LONG=1`.

mod crash;

use attestlog::{AuditLog, Hash, Options, Query, ToolCall, VerifyOptions};
use crash::{Dice, long};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const STORE: &str = "ATTESTLOG_TEST_STORE";
const THREADS: u64 = 8;

fn options() -> Options {
    Options::new().checkpoint_entries(Some(40)).checkpoint_every(Duration::from_millis(20))
}

/// The process that is killed: this test program again, told to run only this.
#[test]
fn recorder() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let log = options().open(Path::new(&path)).unwrap();
    // What the parent reads before anything was recorded: that it is open.
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
                            log.rotate_epoch_key().unwrap();
                            continue;
                        }
                        _ => vec![log.record(call(i)).unwrap()],
                    };
                    // One write a line: what was begun to be said was acknowledged.
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

/// Kills its process also where the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(path: &Path) -> (Killed, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recorder", "--nocapture", "--test-threads=1"])
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
        let (mut killed, mut out) = start(&path);
        // Killed after some number of answers, so that the moment does not depend on how fast the machine is.
        let answers = 1 + dice.roll(if round % 5 == 0 { 900 } else { 120 });
        let mut seen = 0;
        let mut line = String::new();
        let mut take = |line: &str| {
            let Some((_, said)) = line.split_once("said ") else { return };
            let mut words = said.trim_end().split(' ');
            if let (Some(Ok(seq)), Some(hash)) = (words.next().map(str::parse::<u64>), words.next()) {
                let fresh = oracle.insert(seq, hash.parse().unwrap()).is_none();
                assert!(fresh, "seq {seq} was acknowledged twice");
            }
        };
        while seen < answers {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "the recorder ended by itself");
            take(&line);
            seen += u64::from(line.contains("said "));
        }
        killed.0.kill().unwrap();
        killed.0.wait().unwrap();
        // What it had said by then counts too; a line that is not whole does not.
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        rest.split_inclusive('\n').filter(|line| line.ends_with('\n')).for_each(&mut take);
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

fn check(path: &Path, oracle: &BTreeMap<u64, Hash>, all: bool, unanswered: &mut u64, unfinished: &mut u64) {
    let log = options().open(path).unwrap();
    // All of them now and then, the newest every time.
    let from = if all { 0 } else { oracle.len().saturating_sub(2_000) };
    for (seq, hash) in oracle.iter().skip(from) {
        assert_eq!(log.entry(*seq).unwrap().hash(), *hash, "entry {seq} is another one");
    }
    let found = log.verify(&VerifyOptions::new().public_key(log.public_key().unwrap())).unwrap();
    assert!(found.ok(), "{:#?}", found.findings);
    // Batches are whole: a job of five stands in one conversation.
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
