//! Whoever can write the store's file and kill its owner, without the key: takes back what was recorded and not yet signed. R100.
#![cfg(unix)]

use crate::common::{Ended, Place, Ran, Small, call, json};
use std::fs;
use std::io::Read;
use std::path::Path;

fn serve(place: &Place, more: &[&str]) -> Ended {
    let mut owner = Ended(place.command(&[&["serve", "s"], more].concat()).spawn().unwrap());
    owner.0.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
    owner
}

/// How many entries the key file says are signed.
fn mark(key: &Path) -> u64 {
    let text = fs::read_to_string(key).unwrap();
    let mark = text.lines().find_map(|line| line.strip_prefix("mark ")).unwrap_or("0 ");
    mark.split(' ').next().unwrap().parse().unwrap()
}

fn newest(ran: Ran) -> u64 {
    let out = ran.ok();
    json(out.lines().next_back().unwrap()).get("seq").and_then(|seq| seq.as_u64()).unwrap()
}

/// The story: `record` through `serve` printed its receipt and ended with 0, and in 21 of 40 cases what it had recorded was not
/// signed yet. Killing the owner at that moment and putting back the file of before made the entry vanish, and a verification with the
/// public key and the key file's mark found nothing wrong.
#[test]
fn what_was_recorded_through_another_process_is_signed_when_its_recorder_ends() {
    let place = Place::with_store();
    let public = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    let key = place.path("s.key");
    place.write("calls.jsonl", call("c", "u", "imported", "").repeat(3));
    let mut owner = serve(&place, &[]);
    for _ in 0..10 {
        let seq = newest(place.run_with(&["record", "s", "--receipts"], call("c", "u", "t", "").as_bytes()));
        assert!(mark(&key) > seq, "entry {seq} was not signed");
        place.run(&["import", "s", "--format", "jsonl", "calls.jsonl", "--conversation", &format!("c{seq}")]).ok();
        let last = place.run(&["query", "s", "--tool", "imported", "--newest-first", "--limit", "1", "--json"]);
        assert!(mark(&key) > newest(last), "the imported calls were not signed");
    }
    // Many at once share the checkpoint of one of them.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let seq =
                        newest(place.run_with(&["record", "s", "--receipts"], call("c", "u", "t", "").as_bytes()));
                    assert!(mark(&key) > seq, "entry {seq} was not signed");
                }
            });
        }
    });
    // A recorder without the key file, which knows the public key only.
    let args = ["record", "s", "--receipts", "--key", "nowhere", "--public-key", &public];
    let seq = newest(place.run_with(&args, call("c", "u", "t", "").as_bytes()));
    assert!(mark(&key) > seq);
    // A host's handle.
    let log = attestlog::AuditLog::open(place.path("s")).unwrap();
    let seq = log.record(attestlog::ToolCall::new("c", "u", "t")).unwrap().seq;
    assert!(!log.is_owner());
    log.close().unwrap();
    assert!(mark(&key) > seq);
    // The attack.
    let before = fs::read(place.path("s")).unwrap();
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    owner.0.kill().unwrap();
    owner.0.wait().unwrap();
    fs::write(place.path("s"), before).unwrap();
    place.run(&["verify", "s", "--public-key", &public]).code(1);
}

/// What cannot be signed is recorded all the same, and says so.
#[test]
fn a_recorder_whose_calls_the_owner_cannot_sign_says_that_they_are_recorded() {
    let place = Place::empty();
    let Some(small) = Small::mount(&place.path("small"), "64k") else { return };
    place.run(&["init", "s", "--key", "small/k.key"]).ok();
    let owner = serve(&place, &["--key", "small/k.key"]);
    small.fill();
    let before = place.count(&[]);
    let ran = place.run_with(&["record", "s", "--key", "small/k.key"], call("c", "u", "t", "").as_bytes()).code(3);
    assert!(ran.err.contains("Do not repeat anything") && ran.err.contains("recorded"), "{}", ran.err);
    assert_eq!(place.count(&[]), before + 1);
    small.make_room();
    place.run_with(&["record", "s", "--key", "small/k.key"], call("c", "u", "t", "").as_bytes()).ok();
    drop(owner);
}
