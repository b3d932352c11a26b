//! A store with entries that no index batch covers yet: damage in them is reported with each answer.
//!
//! An entry of this kind that cannot be read is under no name in the index that opening builds. A call that somebody had
//! edited in the file (`sed`) was in no answer, with exit code 0 and nothing on standard error: 'no entry of this log has
//! the user'. Only recording gave an error. `ATTESTLOG_LONG=1` flips every byte, otherwise a sample.

use crate::store_common::*;
use crate::tampering::*;
use attestlog::Justification;
use attestlog::emergency::EmergencyAccess;
use attestlog::query::Statistics;
use attestlog::{AuditLog, ErrorKind, Facet, Query, Result, ToolCall};
use std::fmt::Write;
use std::sync::Mutex;

/// All answers of the small store.
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
            log.values().unknown(&Query::new().user(user))?.len()
        );
    }
    for step in log.timeline("conv_0")? {
        let _ = writeln!(out, "{}", step?.entry.seq);
    }
    let _ = writeln!(out, "{:?} {:?}", log.statistics(&Statistics::new())?, log.values().matching(Facet::Tool, "*")?);
    let _ = writeln!(out, "{:?} {:?} {:?}", log.retention().holds()?, log.alerts().list()?, log.emergency().grants()?);
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
    log.retention().place_hold("case 7", covering, Justification { actor: "legal", reason: "asked by court" }).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    log.emergency()
        .open(
            EmergencyAccess { user: "usr_1", patient: "P-1", urgency: "high", ttl: hour },
            Justification { actor: "usr_1", reason: "unconscious" },
        )
        .unwrap();
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
    let places: Vec<usize> = my_share(places.into_iter().chain(heads).collect());
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
            // An answer that is an error shows by itself that something is wrong.
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

/// A host that asks gets the error before any answer, and no user is reported as unknown to the log; a host that continues
/// gets what is there.
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
    for options in [keyed(&clock(), 4), keyed(&clock(), 4).read_only()] {
        let log = options.open(&path).unwrap();
        let eve = Query::new().user("eve");
        let told = [
            log.query(&eve).map(drop),
            log.count(&eve).map(drop),
            log.statistics(&Statistics::new()).map(drop),
            log.timeline("conv").map(drop),
            log.retention().holds().map(drop),
            log.emergency().grants().map(drop),
            log.alerts().list().map(drop),
            log.values().unknown(&eve).map(drop),
            log.values().matching(Facet::User, "e*").map(drop),
            log.values().persons(Facet::User).map(drop),
            log.values().look_alikes(Facet::User, "eve").map(drop),
            log.emergency().check("eve", "P-1", 0).map(drop),
            log.check_recording(),
        ];
        for (i, told) in told.into_iter().enumerate() {
            assert_eq!(told.map_err(|e| e.kind()), Err(ErrorKind::Damaged), "{i}");
        }
        assert!(log.damage().unwrap().unwrap().to_string().starts_with("entry 2 "));
        assert!(log.health().unwrap().concerns()[0].starts_with("entry 2 "));
        let on = log.despite_damage();
        assert_eq!(on.values().unknown(&eve).unwrap(), []);
        // The unreadable entry may be one of hers, so no count is given as if it were certain.
        assert_eq!(on.count(&Query::new().user("bob")).unwrap_err().kind(), ErrorKind::Damaged);
    }
}
