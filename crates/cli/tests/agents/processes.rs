//! Sixteen processes record into one store while the current owner is killed again and again: every entry is there once, in
//! each sender's order. This is the short version; with ATTESTLOG_LONG=1 it is 10,000 entries each and a kill every 2,000.
//!
//! Kills used to be timed, every 150 ms or every second; on a fast machine everything was recorded before the first, and
//! the test showed nothing. Now they are triggered by the number of acknowledged entries, and the senders wait for each.
#![cfg(unix)]

use crate::common::*;
use attestlog::json::Json;
use attestlog::owner::reach;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

const PROCESSES: usize = 16;
/// How many unacknowledged lines a process may have; the store remembers 64 numbers of a sender.
const AHEAD: u64 = 32;

/// The total progress, and how often an owner was looked for to be killed.
#[derive(Default)]
struct Progress {
    acknowledged: u64,
    rounds: u64,
    kills: u64,
    done: bool,
    /// This test's running processes.
    running: BTreeSet<u32>,
}

#[derive(Default)]
struct Run {
    step: u64,
    progress: Mutex<Progress>,
    moved: Condvar,
}

impl Run {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap()
    }

    fn due(&self, progress: &Progress) -> bool {
        progress.acknowledged >= self.step * (progress.rounds + 1)
    }

    /// Counts one more acknowledged entry; waits while a kill is due, with lines still on their way.
    fn acknowledge(&self) {
        let mut progress = self.lock();
        progress.acknowledged += 1;
        self.moved.notify_all();
        drop(self.moved.wait_while(progress, |p| self.due(p)).unwrap());
    }

    /// Kills the owner each time a kill is due. If nobody owns the store at that moment the round is skipped.
    fn kill(&self, store: &Path) {
        loop {
            let progress = self.moved.wait_while(self.lock(), |p| !p.done && !self.due(p)).unwrap();
            if progress.done {
                return;
            }
            drop(progress);
            let owner = reach(store).ok().flatten().map(|owner| owner.process());
            let mut progress = self.lock();
            // Only processes that this test started and has not reaped.
            if let Some(owner) = owner.filter(|owner| progress.running.contains(owner)) {
                let killed = std::process::Command::new("kill").args(["-9", &owner.to_string()]).status();
                progress.kills += u64::from(killed.is_ok_and(|status| status.success()));
            }
            progress.rounds += 1;
            self.moved.notify_all();
        }
    }
}

/// Feeds one sender's entries to `attestlog record` and restarts it whenever it was killed. Returns the receipts.
fn sender(place: &Place, name: &str, entries: u64, run: &Run) -> Vec<(u64, u64)> {
    let mut receipts: Vec<(u64, u64)> = Vec::new();
    while (receipts.len() as u64) < entries {
        let mut command = place.command(&["record", "s", "--receipts"]);
        let mut child: Child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        run.lock().running.insert(child.id());
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut next = receipts.len() as u64 + 1;
        loop {
            let mut lines = String::new();
            while next <= entries && next <= receipts.len() as u64 + AHEAD {
                let sender = format!(r#""sender":{{"id":"{name}","number":{next}}},"turn_number":{next}"#);
                lines += &call(name, "u", "t", &sender);
                next += 1;
            }
            if input.write_all(lines.as_bytes()).is_err() {
                break;
            }
            let mut line = String::new();
            if output.read_line(&mut line).unwrap_or(0) == 0 || !line.ends_with('\n') {
                break;
            }
            let receipt = json(&line);
            receipts.push((receipts.len() as u64 + 1, receipt.get("seq").and_then(Json::as_u64).unwrap()));
            run.acknowledge();
            if receipts.len() as u64 == entries {
                break;
            }
        }
        drop(input);
        run.lock().running.remove(&child.id());
        child.wait().unwrap();
    }
    receipts
}

#[test]
fn no_entry_is_lost_or_doubled_while_owners_are_killed() {
    let long = std::env::var_os("ATTESTLOG_LONG").is_some();
    if !long {
        println!("SHORT: 16 x 40 entries; ATTESTLOG_LONG=1 makes it 16 x 10,000");
    }
    let (entries, step) = if long { (10_000, 2_000) } else { (40, 80) };
    let place = Place::with_store();
    let run = Run { step, ..Run::default() };
    let began = Instant::now();
    let receipts: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        let killer = scope.spawn(|| run.kill(&place.path("s")));
        let start = |i: usize| {
            let (place, run) = (&place, &run);
            scope.spawn(move || sender(place, &format!("sender-{i}"), entries, run))
        };
        let senders: Vec<_> = (0..PROCESSES).map(start).collect();
        // Even if one failed the killer must end, or this would wait forever.
        let receipts: Vec<_> = senders.into_iter().map(|s| s.join()).collect();
        run.lock().done = true;
        run.moved.notify_all();
        killer.join().unwrap();
        receipts.into_iter().map(|receipts| receipts.unwrap()).collect()
    });
    let took = began.elapsed();
    println!(
        "{PROCESSES} x {entries} entries, {} owners killed, {:.1} s, {:.0} entries/s",
        run.lock().kills,
        took.as_secs_f64(),
        (PROCESSES as u64 * entries) as f64 / took.as_secs_f64()
    );
    assert_eq!(place.count(&["--kind", "tool_call"]), PROCESSES as u64 * entries, "none lost, none doubled");
    for (i, receipts) in receipts.iter().enumerate() {
        let lines = place.run(&["query", "s", "--json", "--conversation", &format!("sender-{i}")]).ok();
        let recorded: Vec<(u64, u64)> = lines
            .lines()
            .map(|line| {
                let line = json(line);
                let number = |key: &str| line.get(key).and_then(Json::as_u64).unwrap();
                (number("turn_number"), number("seq"))
            })
            .collect();
        assert_eq!(recorded, *receipts, "sender {i}: in its order, each where its receipt says");
    }
    place.run(&["verify", "s"]).ok();
}
