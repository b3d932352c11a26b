//! Promise: a purge that is stopped anywhere leaves the store in the state before or after it, and nothing beside it.

use crate::common::Place;
use attestlog::Justification;
use attestlog::host::ManualClock;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Options, ToolCall};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(366 * 86_400);
const CALLS: u64 = 2000;

/// A closed store of calls of which three in four have expired, by a clock that was confirmed to be right.
fn store(dir: &Path) -> attestlog::Hash {
    let clock = Arc::new(ManualClock::at("2020-01-01".parse().unwrap()));
    let mut policies = attestlog::PolicySet::default();
    // Years pass; a new epoch key would add an entry.
    policies.keys = attestlog::KeyPolicy::never();
    let options = Options::new().clock(clock.clone()).background(false).policies(policies);
    let log = options.create(dir.join("s")).unwrap();
    for first in (0..CALLS).step_by(100) {
        log.record_batch((first..first + 100).map(|i| match i % 4 {
            0 => {
                ToolCall::new(format!("conv-{i}"), "clerk", "issue_refund").retain_until("2090-01-01".parse().unwrap())
            }
            _ => ToolCall::new(format!("conv-{i}"), format!("expired-user-{i}"), "search"),
        }))
        .unwrap();
        log.checkpoint().unwrap();
    }
    log.flush_index().unwrap();
    clock.set(attestlog::host::Clock::now(&attestlog::host::SystemClock::default()));
    log.retention().confirm_clock(Justification { actor: "ops", reason: "the test says so" }).unwrap();
    let root = log.checkpoint().unwrap().checkpoint().root();
    log.close().unwrap();
    root
}

fn copy(from: &Path, to: &Path) {
    for name in ["s", "s.key"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Opens what a stopped purge left. Returns whether the purge has happened.
fn check(place: &Place, root: attestlog::Hash, size: u64) -> bool {
    let log = AuditLog::open(place.path("s")).unwrap();
    let left: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "s" || name == "s.key"), "{left:?}");
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok(), "{:#?}", verification.findings);
    assert_eq!(log.proofs().root_at(size).unwrap(), root);
    let gone = (0..size).filter(|seq| log.entry(*seq).is_err()).count() as u64;
    assert_eq!(gone, verification.purged);
    assert!(gone == 0 || gone == CALLS / 4 * 3, "{gone} entries are gone");
    for seq in (0..size).step_by(97) {
        match log.prove(seq) {
            Ok(_) => {}
            Err(e) => assert!(gone > 0 && e.kind() == ErrorKind::NoSuchEntry, "{e}"),
        }
    }
    log.record(ToolCall::new("c", "u", "after")).unwrap();
    log.close().unwrap();
    gone > 0
}

/// Runs a purge with a limit on the file size; at the limit the process is killed (`SIGXFSZ`), or gets an error that there
/// is no space.
fn limited(place: &Place, blocks: u64, killed: bool) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_attestlog");
    let ignore = if killed { "" } else { "trap '' XFSZ; " };
    let script = format!("{ignore}ulimit -f {blocks}; exec '{program}' purge s --actor ops");
    Command::new("bash").args(["-c", &script]).current_dir(place.dir.path()).stdin(Stdio::null()).output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_killed_wherever_it_writes_leaves_before_or_after() {
    let original = tempfile::tempdir().unwrap();
    let root = store(original.path());
    let size = AuditLog::open(original.path().join("s")).unwrap().size().unwrap();
    let length = std::fs::metadata(original.path().join("s")).unwrap().len();
    let (mut before, mut after) = (0, 0);
    for kilobytes in (0..=length / 256).step_by(length as usize / 1024 / 4) {
        let place = Place::empty();
        copy(original.path(), place.dir.path());
        let ended = limited(&place, kilobytes, true);
        let happened = check(&place, root, size);
        assert!(happened || !ended.status.success());
        if happened { after += 1 } else { before += 1 }
    }
    assert!(before > 2 && after > 0, "{before} times before, {after} times after");
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_killed_at_any_time_leaves_before_or_after() {
    let original = tempfile::tempdir().unwrap();
    let root = store(original.path());
    let size = AuditLog::open(original.path().join("s")).unwrap().size().unwrap();
    for kill_at in 0..12u64 {
        let place = Place::empty();
        copy(original.path(), place.dir.path());
        let mut child = place.command(&["purge", "s", "--actor", "ops"]).spawn().unwrap();
        // Killed when the new file has reached this size: not there yet, growing, or gone again because it was renamed into
        // place.
        let beside = || {
            let names = std::fs::read_dir(place.dir.path()).unwrap().filter_map(|e| e.ok());
            let new =
                names.filter(|e| e.file_name().to_string_lossy().contains(".purge-")).find_map(|e| e.metadata().ok());
            new.map(|about| about.len())
        };
        let mut seen = false;
        while child.try_wait().unwrap().is_none() {
            match beside() {
                Some(length) if length >= kill_at * 40_000 => break,
                Some(_) => seen = true,
                None if seen => break,
                None => {}
            }
        }
        let _ = child.kill();
        child.wait().unwrap();
        check(&place, root, size);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_a_purge_and_nothing_else() {
    let original = tempfile::tempdir().unwrap();
    let root = store(original.path());
    let size = AuditLog::open(original.path().join("s")).unwrap().size().unwrap();
    let place = Place::empty();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs", place.dir.path().to_str().unwrap()])
        .output()
        .is_ok_and(|out| out.status.success());
    if !mounted {
        println!("SKIPPED: no file system of a few megabytes can be mounted here");
        return;
    }
    copy(original.path(), place.dir.path());
    // All space but a little is used up.
    let filler = place.path("filler");
    let mut full = 0;
    for left in [0usize, 60_000, 200_000, 700_000] {
        let free = 64 << 20;
        let taken = std::fs::metadata(place.path("s")).unwrap().len() as usize;
        let _ = std::fs::write(&filler, vec![1; free - taken - left - 100_000]);
        let ran = place.run(&["purge", "s", "--actor", "ops"]);
        if ran.code == 3 {
            full += 1;
            assert!(ran.err.contains("the disk is full"), "{}", ran.err);
        }
        std::fs::remove_file(&filler).unwrap();
    }
    let happened = {
        let out = place.run(&["purge", "s", "--actor", "ops", "--json"]).json();
        out.get("purged").unwrap().as_u64().unwrap() > 0 || full < 4
    };
    assert!(happened && full > 0, "{full} times the disk was full");
    assert!(check(&place, root, size));
    let _ = Command::new("umount").arg(place.dir.path()).status();
}

#[test]
fn what_a_stopped_purge_left_is_removed_and_nothing_that_only_looks_like_it() {
    let place = Place::empty();
    store(place.dir.path());
    let genesis = AuditLog::open(place.path("s")).unwrap().entry(0).unwrap().line();
    let id: String = genesis.split(r#""store_id":""#).nth(1).unwrap().chars().take(16).collect();
    let left = place.write(&format!("s.purge-{id}"), "half a store");
    let others = [place.write("s.purge-0123456789abcdef", "another's"), place.write("s.new", "the user's own")];
    // Until then it takes as much room as the store, and nothing said so.
    let ran = place.run(&["health", "s"]);
    assert!(ran.out.contains("an interrupted purge left") && left.exists(), "{}", ran.out);
    AuditLog::open(place.path("s")).unwrap().close().unwrap();
    assert!(!left.exists());
    assert!(!place.run(&["health", "s"]).out.contains("interrupted"));
    #[cfg(unix)]
    {
        // A link under that name is not followed, and a purge does not write through it.
        std::os::unix::fs::symlink(&others[1], &left).unwrap();
        let log = AuditLog::open(place.path("s")).unwrap();
        assert!(left.is_symlink());
        assert_eq!(log.retention().purge("ops").unwrap_err().kind(), ErrorKind::AlreadyExists);
        std::fs::remove_file(&left).unwrap();
        assert_eq!(log.retention().purge("ops").unwrap().purged, CALLS / 4 * 3);
    }
    for other in others {
        assert!(std::fs::read(&other).unwrap().len() > 8, "{}", other.display());
    }
}

#[cfg(unix)]
#[test]
fn the_file_behind_a_link_is_replaced_with_the_rights_that_it_had() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::empty();
    store(place.dir.path());
    std::fs::set_permissions(place.path("s"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(place.path("s"), place.path("link")).unwrap();
    let options = || Options::new().key_file(place.path("s.key"));
    // Under a second name everything would remain.
    let log = options().open(place.path("link")).unwrap();
    std::fs::hard_link(place.path("s"), place.path("second")).unwrap();
    assert_eq!(log.retention().purge("ops").unwrap_err().kind(), ErrorKind::Conflict);
    std::fs::remove_file(place.path("second")).unwrap();
    log.retention().purge("ops").unwrap();
    log.close().unwrap();
    assert!(place.path("link").is_symlink() && !place.path("s").is_symlink());
    assert_eq!(std::fs::metadata(place.path("s")).unwrap().permissions().mode() & 0o777, 0o640);
    let log = options().open(place.path("link")).unwrap();
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

#[test]
fn recording_and_reading_go_on_during_a_purge_and_see_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2020-01-01".parse().unwrap()));
    let log = Options::new().clock(clock.clone()).create(dir.path().join("s")).unwrap();
    for first in (0..CALLS).step_by(500) {
        let calls = (first..first + 500)
            .map(|i| ToolCall::new(format!("c{i}"), format!("u{i}"), ["search", "keep"][i as usize % 2]));
        let kept = |call: ToolCall| call.retain_until("2090-01-01".parse().unwrap());
        log.record_batch(calls.enumerate().map(|(i, call)| if i % 2 == 1 { kept(call) } else { call })).unwrap();
    }
    clock.advance(2 * YEAR);
    let done = std::sync::atomic::AtomicBool::new(false);
    let purged = std::thread::scope(|scope| {
        let recorders: Vec<_> = (0..2)
            .map(|thread| {
                let (log, done) = (&log, &done);
                scope.spawn(move || {
                    let mut hashes = Vec::new();
                    for i in 0u64.. {
                        if done.load(std::sync::atomic::Ordering::SeqCst) {
                            break;
                        }
                        let call = ToolCall::new("later", format!("r{thread}"), "keep")
                            .sender(attestlog::Sender::new(format!("s{thread}-{}", i % 5), i + 1));
                        match i % 3 {
                            0 => drop(log.begin(call).unwrap().finish(|call| call.result(true)).unwrap()),
                            1 => drop(log.begin(call).unwrap()),
                            _ => {
                                let receipt = log.record(call).unwrap();
                                hashes.push((receipt.seq, receipt.hash));
                            }
                        }
                        if i % 7 == 0 {
                            log.checkpoint().unwrap();
                        }
                    }
                    hashes
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                // Before the purge all of them are there, afterwards none; never a part.
                let hits = log.query(&attestlog::Query::new().tool("search")).unwrap();
                let expired = hits.inspect(|e| assert!(e.is_ok(), "{e:?}")).count() as u64;
                assert!(expired == 0 || expired == CALLS / 2, "{expired}");
                let counted = log.count(&attestlog::Query::new().tool("search")).unwrap();
                assert!(counted == 0 || counted == CALLS / 2, "{counted}");
            }
        });
        let purged = log.retention().purge("ops");
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        for recorder in recorders {
            for (seq, hash) in recorder.join().unwrap() {
                assert_eq!(log.entry(seq).unwrap().hash(), hash);
            }
        }
        reader.join().unwrap();
        purged.unwrap()
    });
    assert_eq!(purged.purged, CALLS / 2);
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok(), "{:#?}", verification.findings);
    log.close().unwrap();
    let log = Options::new().clock(clock).open(dir.path().join("s")).unwrap();
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}
