//! Sixteen processes record into one store while whichever owns it is killed: every entry is there once, in each sender's
//! order. Short here; with ATTESTLOG_LONG=1 it is 10,000 entries each and a kill every second.
#![cfg(all(unix, feature = "cli"))]

mod common;

use attestlog::json::Json;
use attestlog::owner::reach;
use common::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PROCESSES: usize = 16;
/// How many lines a process may have that are not acknowledged; the store remembers 64 numbers of a sender.
const AHEAD: u64 = 32;

/// Feeds one sender's entries to `attestlog record` and starts it anew wherever it was killed. Gives the receipts.
fn sender(place: Arc<Place>, name: String, entries: u64, running: Arc<Mutex<BTreeMap<u32, ()>>>) -> Vec<(u64, u64)> {
    let mut receipts: Vec<(u64, u64)> = Vec::new();
    while (receipts.len() as u64) < entries {
        let mut command = place.command(&["record", "s", "--receipts"]);
        let mut child: Child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        running.lock().unwrap().insert(child.id(), ());
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut next = receipts.len() as u64 + 1;
        loop {
            let mut lines = String::new();
            while next <= entries && next <= receipts.len() as u64 + AHEAD {
                let sender = format!(r#""sender":{{"id":"{name}","number":{next}}},"turn_number":{next}"#);
                lines += &call(&name, "u", "t", &sender);
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
            if receipts.len() as u64 == entries {
                break;
            }
        }
        drop(input);
        running.lock().unwrap().remove(&child.id());
        child.wait().unwrap();
    }
    receipts
}

#[test]
fn no_entry_is_lost_or_doubled_while_owners_are_killed() {
    let long = std::env::var_os("ATTESTLOG_LONG").is_some();
    if !long {
        println!("SHORT: 16 x 40 entries; ATTESTLOG_LONG=1 makes it 16 x 10,000 with a kill every second");
    }
    let (entries, pause) = if long { (10_000, Duration::from_secs(1)) } else { (40, Duration::from_millis(150)) };
    let place = Arc::new(Place::with_store());
    let store: PathBuf = place.path("s");
    let running = Arc::new(Mutex::new(BTreeMap::new()));
    let (done, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let killer = {
        let (running, done, kills) = (running.clone(), done.clone(), kills.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                std::thread::sleep(pause);
                let Ok(Some(owner)) = reach(&store) else { continue };
                // Only what this test started.
                if running.lock().unwrap().contains_key(&owner.process()) {
                    let killed = std::process::Command::new("kill").args(["-9", &owner.process().to_string()]).status();
                    kills.fetch_add(u64::from(killed.is_ok_and(|s| s.success())), Ordering::SeqCst);
                }
            }
        })
    };
    let senders: Vec<_> = (0..PROCESSES)
        .map(|i| {
            let (place, running) = (place.clone(), running.clone());
            std::thread::spawn(move || sender(place, format!("sender-{i}"), entries, running))
        })
        .collect();
    let receipts: Vec<Vec<(u64, u64)>> = senders.into_iter().map(|s| s.join().unwrap()).collect();
    done.store(true, Ordering::SeqCst);
    killer.join().unwrap();
    let took = began.elapsed();
    println!(
        "{PROCESSES} x {entries} entries, {} owners killed, {:.1} s, {:.0} entries/s",
        kills.load(Ordering::SeqCst),
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
