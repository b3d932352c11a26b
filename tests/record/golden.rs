//! The output formats never change by accident: the lines of a small store with every kind of entry, and the bytes of the
//! whole file. The clock stands still and the random bytes come from a seed, so the same calls give the same bytes.
//!
//! When a format does change on purpose: `ATTESTLOG_BLESS=1 cargo test --test record golden::` rewrites the files.

use crate::store_common::*;
use attestlog::Justification;
use attestlog::json::Json;
use attestlog::{AuditLog, Entry, Kind, Options, Outcome, Query, Result, Sender, ToolCall, Trigger};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares with the file of that name, or writes it if that was requested.
fn compare(name: &str, now: &str) {
    if std::env::var_os("ATTESTLOG_BLESS").is_some() {
        std::fs::write(golden(name), now).unwrap();
        return;
    }
    let before = std::fs::read_to_string(golden(name)).unwrap_or_default();
    for (i, (before, now)) in before.lines().zip(now.lines()).enumerate() {
        assert_eq!(now, before, "line {} of {name} is another (ATTESTLOG_BLESS=1 if that is meant)", i + 1);
    }
    assert_eq!(now.len(), before.len(), "{name} has another length (ATTESTLOG_BLESS=1 if that is meant)");
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap().value
}

/// The same store each time: every kind of entry that the library can make, over several segments and two index batches.
fn tell(log: &AuditLog, clock: &attestlog::host::ManualClock) -> Result<()> {
    let call = |tool: &str| ToolCall::new("conv_1", "dr_smith", tool);
    log.record(
        call("read_chart")
            .timestamp(time("2025-02-28T23:59:59.123456789Z"))
            .turn(7)
            .model("gpt-4.1")
            .agent("agent-1")
            .server("https://ehr.example.org/mcp")
            .arguments(json(r#"{"section":"labs","patient_id":"P-1","api_key":"k-123","n":[1,2.50,1e21,"\u20ac"]}"#))
            .result(json(r#"{"id":"r-1","rows":[{"row_id":3,"status":"final"}],"count":1,"note":"n"}"#))
            .duration(Duration::from_micros(145_200))
            .metadata("client_ip", "10.0.1.5")
            .role("physician")
            .trigger(Trigger::UserRequest)
            .call_id("call_1")
            .patient("P-2")
            .purpose("treatment")
            .sender(Sender::new("host-1", 1)),
    )?;
    log.record(call("issue_refund").typed_error("E42", "no such order").retry_of(2).backfilled())?;
    log.record(call("lookup").follow_up_of(3).emergency(Some(2)).outcome(Outcome::Denied))?;
    log.record(ToolCall::from_jsonl(
        br#"{"tool_name":"t","conversation_id":"c","user_id":"u","arguments":{"n":12345678901234567890}}"#,
    )?)?;
    let begun = log.begin(call("update_treatment"))?;
    clock.advance(Duration::from_millis(2500));
    begun.finish(|call| call.outcome(Outcome::Timeout).duration(Duration::from_millis(2500)))?;
    let _ = log.begin(call("update_treatment"))?;
    log.flush_index()?;
    for i in 0..120 {
        clock.advance(Duration::from_secs(97));
        log.record(ToolCall::new(format!("conv_{}", i / 7), format!("usr_{}", i % 5), "lookup").turn(i))?;
    }
    log.retention().set_policies(log.retention().policies().unwrap())?;
    let mut covering = attestlog::retention::HoldSelector::default();
    covering.tools.insert("lookup".to_owned());
    let hold =
        log.retention().place_hold("case 7", covering, Justification { actor: "counsel", reason: "litigation" })?;
    log.retention().release_hold(hold.seq, Justification { actor: "counsel", reason: "settled" })?;
    clock.set(time("2025-02-01"));
    log.record(call("lookup"))?;
    log.retention().confirm_clock(Justification { actor: "admin", reason: "the time server was wrong" })?;
    log.checkpoint()?;
    log.keys().rotate_epoch_key()?;
    log.keys().rotate_pseudonym_key()?;
    log.flush_index()?;
    log.record(call("lookup"))?;
    let around = log.record(super::circumstances::full())?;
    log.record(super::circumstances::full().detail_of(around.seq).contradicts(["model"]).model("gpt-4.1"))?;
    Ok(())
}

fn make() -> (String, Vec<u8>) {
    let (disk, clock) = (Disk::default(), clock());
    let options = Options::new().clock(clock.clone()).background(false).name("example.org/golden");
    let random = std::sync::Arc::new(attestlog::host::SeededRandom::new(20_250_301));
    let log = options.random(random).segment_entries(64).create_on(disk.backend()).unwrap();
    tell(&log, &clock).unwrap();
    assert_clean(&log);
    let lines: String = entries(&log).iter().map(|e| e.line() + "\n").collect();
    log.close().unwrap();
    (lines, disk.bytes())
}

#[test]
fn lines_and_stored_bytes_are_those_of_the_golden_files() {
    let (lines, bytes) = make();
    compare("lines.jsonl", &lines);
    compare("store.sha256", &format!("{}  {} bytes\n", attestlog::Hash::of(&bytes), bytes.len()));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (one, other) = (make(), make());
    assert_eq!(one.0, other.0);
    assert!(one.1 == other.1, "the files differ");
}

#[test]
fn golden_lines_are_read_back_and_hash_to_what_follows_them() {
    if std::env::var_os("ATTESTLOG_BLESS").is_some() {
        return;
    }
    let text = std::fs::read_to_string(golden("lines.jsonl")).unwrap();
    let entries: Vec<Entry> = text.lines().map(|line| Entry::from_line(line).unwrap()).collect();
    for pair in entries.windows(2) {
        assert_eq!(pair[1].prev, pair[0].hash());
    }
    let kinds: BTreeSet<Kind> = entries.iter().map(Entry::kind).collect();
    use Kind::{CallBegun, CallDetail, Clock, Genesis, HoldPlaced, HoldReleased, IndexBatch, Key, Policy};
    for kind in
        [Kind::ToolCall, CallBegun, CallDetail, Genesis, Policy, HoldPlaced, HoldReleased, Clock, Key, IndexBatch]
    {
        assert!(kinds.contains(&kind), "no {kind} among the golden lines");
    }
    let (log, _, _) = store(1);
    assert_eq!(log.query(&Query::new()).unwrap().next().unwrap().unwrap().kind(), entries[0].kind());
}
