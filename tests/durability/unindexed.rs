//! A store whose entries no index batch covers yet: damage in it is said with each answer.
//!
//! What cannot be read of such entries stands under no name in the index that opening makes of them. A call that somebody had edited
//! in the file (`sed`) was in no answer, with exit code 0 and nothing on standard error: 'no entry of this log has the user'. Only
//! whoever recorded was told. `ATTESTLOG_LONG=1` flips every byte, otherwise a sample.

use crate::store_common::*;
use crate::tampering::*;
use attestlog::{AuditLog, ErrorKind, Facet, Query, Result, Statistics, ToolCall};
use std::fmt::Write;
use std::sync::Mutex;

/// What the small store answers.
fn all(log: &AuditLog) -> Result<String> {
    let mut out = String::new();
    for query in [Query::new(), Query::new().newest_first(), Query::new().user("usr_1"), Query::new().unfinished()] {
        for entry in log.query(&query)? {
            let _ = writeln!(out, "{}", entry?.line());
        }
        let _ = writeln!(out, "{}", log.count(&query)?);
    }
    for user in ["usr_0", "usr_1", "usr_2", "nobody"] {
        let _ = writeln!(
            out,
            "{} {}",
            log.count(&Query::new().user(user))?,
            log.unknown_values(&Query::new().user(user))?.len()
        );
    }
    for step in log.timeline("conv_0")? {
        let _ = writeln!(out, "{}", step?.entry.seq);
    }
    let _ = writeln!(out, "{:?} {:?}", log.statistics(&Statistics::new())?, log.values_matching(Facet::Tool, "*")?);
    let _ = writeln!(out, "{:?} {:?} {:?}", log.holds()?, log.alerts()?, log.emergencies()?);
    Ok(out)
}

#[test]
fn no_byte_of_it_can_be_changed_so_that_an_answer_lacks_something_and_nobody_is_told() {
    let dir = folder();
    let path = dir.path().join("s");
    let clock = clock();
    let log = keyed(&clock, 3).create(&path).unwrap();
    log.record_batch((0..5).map(rich_call)).unwrap();
    let mut covering = attestlog::retention::HoldSelector::default();
    covering.users.insert("usr_1".to_owned());
    log.place_hold("case 7", "asked by court", "legal", covering).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    log.open_emergency("usr_1", "P-1", "unconscious", "high", hour, "usr_1").unwrap();
    let _ = log.begin(rich_call(6)).unwrap();
    log.close().unwrap();
    let (bytes, key) = (std::fs::read(&path).unwrap(), std::fs::read(dir.path().join("s.key")).unwrap());
    let open = |lane: usize, bytes: Vec<u8>| {
        let path = dir.path().join(format!("{lane}.key"));
        private(&path, &key);
        keyed(&clock, 8).key_file(path).open_on(Disk::of(bytes).backend())
    };
    let whole = open(99, bytes.clone()).unwrap();
    assert_eq!(whole.health().unwrap().concerns(), Vec::<String>::new());
    let right = all(&whole).unwrap();
    drop(whole);
    let step = if std::env::var_os("ATTESTLOG_LONG").is_some_and(|v| v != "0") { 1 } else { 61 };
    let zeros = |at: usize| bytes[at / 4096 * 4096..].iter().take(4096).all(|byte| *byte == 0);
    let places: Vec<usize> = (0..bytes.len()).step_by(step).filter(|&at| !zeros(at) || at % 4096 < step).collect();
    // The first bytes of each page say what the rest is.
    let heads = (0..bytes.len()).filter(|at| at % 4096 < 12 && !zeros(*at));
    let places: Vec<usize> = places.into_iter().chain(heads).collect();
    let (silent, green, counts) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()), Mutex::new([0u64; 3]));
    quietly(|| {
        on_all_cores(&places, |lane, &at| {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let Ok(log) = open(lane, flipped) else {
                counts.lock().unwrap()[0] += 1;
                return;
            };
            let same = |answers: Result<String>| answers.is_ok_and(|answers| answers == right);
            match all(&log) {
                Err(e) => assert!(!matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NoSuchEntry), "{at}: {e}"),
                Ok(answers) if answers != right => silent.lock().unwrap().push(at),
                Ok(_) => {}
            }
            let despite = all(&log.despite_damage());
            // An answer that is an error says itself that something is wrong.
            let said = despite.is_err();
            let harmless = same(despite);
            counts.lock().unwrap()[if harmless { 1 } else { 2 }] += 1;
            if !harmless && !said && log.health().is_ok_and(|health| health.concerns().is_empty()) {
                green.lock().unwrap().push(at);
            }
        });
    });
    let (silent, green, [refused, same, told]) =
        (silent.into_inner().unwrap(), green.into_inner().unwrap(), *counts.lock().unwrap());
    println!(
        "{} flipped of {}: {refused} not opened, {same} answered the same, {told} said, {} CLEAN AND DIFFERENT, {} with health green",
        places.len(),
        bytes.len(),
        silent.len(),
        green.len()
    );
    assert!(silent.is_empty(), "different, and nobody was told: {silent:?}");
    assert!(green.is_empty(), "different, and health is green: {green:?}");
    assert!(told > 0);
}

/// A host that asks is told before it has an answer, and of nobody that the log does not know him; whoever goes on gets what is there.
#[test]
fn a_host_cannot_miss_it() {
    let dir = folder();
    let path = dir.path().join("s");
    let log = keyed(&clock(), 3).create(&path).unwrap();
    log.record_batch([ToolCall::new("conv", "eve", "five hundred"), ToolCall::new("conv", "bob", "look")]).unwrap();
    log.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() - 12 {
        if bytes[at..].starts_with(b"five hundred") {
            bytes[at..at + 4].copy_from_slice(b"nine");
        }
    }
    std::fs::write(&path, bytes).unwrap();
    for options in [keyed(&clock(), 4), keyed(&clock(), 4).read_first(), keyed(&clock(), 4).read_only()] {
        let log = options.open(&path).unwrap();
        let eve = Query::new().user("eve");
        let told = [
            log.query(&eve).map(drop),
            log.count(&eve).map(drop),
            log.statistics(&Statistics::new()).map(drop),
            log.timeline("conv").map(drop),
            log.holds().map(drop),
            log.emergencies().map(drop),
            log.alerts().map(drop),
            log.unknown_values(&eve).map(drop),
            log.values_matching(Facet::User, "e*").map(drop),
            log.persons(Facet::User).map(drop),
            log.look_alikes(Facet::User, "eve").map(drop),
            log.check_emergency("eve", "P-1", 0).map(drop),
            log.check_recording(),
        ];
        for (i, told) in told.into_iter().enumerate() {
            assert_eq!(told.map_err(|e| e.kind()), Err(ErrorKind::Damaged), "{i}");
        }
        assert!(log.damage().unwrap().to_string().starts_with("entry 2 "));
        assert!(log.health().unwrap().concerns()[0].starts_with("entry 2 "));
        let on = log.despite_damage();
        assert_eq!(on.unknown_values(&eve).unwrap(), []);
        // Whether the entry that cannot be read is one of hers nobody knows, so it is not counted as if it were known.
        assert_eq!(on.count(&Query::new().user("bob")).unwrap_err().kind(), ErrorKind::Damaged);
    }
}
