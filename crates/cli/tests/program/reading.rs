//! Promise: commands that only read leave the evidence as it is. No byte of the store changes, nor its modification time,
//! nor anything else in its folder, and a file that cannot be written to can be read: with mode 0400, in a folder of mode
//! 0500, on a read-only medium, a copy without its key, a file that was not closed cleanly (E2).

use crate::common::{Place, Ran, call, json};
use attestlog::Justification;
use attestlog::json::Json;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Hash, Options, Query, ToolCall};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Every command that only reads.
const READS: &[&[&str]] = &[
    &["verify", "s"],
    &["query", "s"],
    &["query", "s", "--patient", "P-1", "--count"],
    &["stats", "s"],
    &["stats", "s", "--by", "user", "--compare", "7d"],
    &["timeline", "s", "c"],
    &["show", "s", "3"],
    &["conversations", "s"],
    &["query", "s", "--columns", "seq,user,took"],
    &["export", "s", "--format", "csv"],
    &["export", "s", "--format", "jsonl"],
    &["report", "access", "s", "--patient", "P-1"],
    &["health", "s"],
    &["alerts", "list", "s"],
    &["break-glass", "list", "s"],
    &["hold", "list", "s"],
    &["policy", "show", "s"],
    &["keys", "show", "s"],
    &["clock", "show", "s"],
    &["anchors", "show", "s"],
    &["anchors", "records", "s"],
    &["prove", "s", "2", "--at-checkpoint"],
    &["prove", "s", "--consistent-with", "cp", "--at-checkpoint"],
    &["prove", "s", "--complete", "--patient", "P-1", "--neighbours", "--at-checkpoint"],
];

/// A store with some calls and a checkpoint `cp`, and nothing else beside it.
fn place() -> Place {
    let place = Place::with_store();
    let lines: String = (0..40).map(|i| call("c", &format!("u{i}"), "look", r#""patient_id":"P-1""#)).collect();
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    let checkpoint = place.run(&["checkpoint", "s"]).ok();
    place.write("cp", checkpoint);
    place
}

/// The hash and the time of each file of a folder, the folder's own time, and the names.
fn state(folder: &Path) -> (SystemTime, Vec<(String, SystemTime, Hash)>) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            (file.file_name().into_string().unwrap(), time, Hash::of(&fs::read(file.path()).unwrap()))
        })
        .collect();
    files.sort();
    (fs::metadata(folder).unwrap().modified().unwrap(), files)
}

#[track_caller]
fn all_read(place: &Place, what: &str) {
    let before = state(place.dir.path());
    // Only the key tells under which pseudonyms a value may be stored.
    let keyless = !place.path("s.key").exists();
    for args in READS.iter().filter(|args| !(keyless && args.contains(&"--complete"))) {
        let ran = place.run(args);
        assert!(ran.code == 0 || (args[0] == "health" && ran.code == 1), "{what}: {args:?}: {ran:?}");
        assert!(!ran.out.is_empty() || args.contains(&"list") || args[0] == "anchors", "{what}: {args:?}");
        assert_eq!(state(place.dir.path()), before, "{what}: {args:?}");
    }
}

/// `verify` changed the SHA-256 of the file that an expert had been given, and left a file beside it; and with mode 0400 it
/// only said "Permission denied".
#[test]
fn a_command_that_reads_changes_nothing() {
    let place = place();
    all_read(&place, "as it is");
    place.run(&["verify", "s", "--remember"]).ok();
    assert!(place.path("s.verified").exists());
    all_read(&place, "remembered");
}

#[test]
#[cfg(unix)]
fn what_nobody_may_write_to_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = place();
    fs::remove_file(place.path("s.key")).unwrap();
    fs::set_permissions(place.path("s"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    all_read(&place, "0400 in 0500, without its key");
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

/// Root may write to a file of any mode, so here the medium is read-only.
#[test]
#[cfg(target_os = "linux")]
fn a_medium_that_is_only_read_is_enough() {
    let place = place();
    let script = format!(
        "mount --bind . . && mount -o remount,bind,ro . && cd . && ! touch x 2>/dev/null || exit 77; {}",
        READS
            .iter()
            .filter(|args| args[0] != "health")
            .map(|args| format!("\"$A\" {} >/dev/null || exit 1; ", args.join(" ")))
            .collect::<String>()
    );
    // The folder is entered again, so that the mounted file system is the one seen.
    let script = script.replace("cd . &&", "cd \"$PWD\" &&");
    let before = state(place.dir.path());
    let ran = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &script])
        .env("A", env!("CARGO_BIN_EXE_attestlog"))
        .current_dir(place.dir.path())
        .output();
    match ran {
        Ok(ran) if ran.status.code() == Some(0) => {}
        Ok(ran) if ran.status.code() == Some(1) && !String::from_utf8_lossy(&ran.stderr).contains("unshare") => {
            panic!("{}", String::from_utf8_lossy(&ran.stderr))
        }
        other => println!("SKIPPED: nothing can be mounted here: {other:?}"),
    }
    assert_eq!(state(place.dir.path()), before);
}

/// The file is opened without write access, as the system reports for this program's open files while it reads.
#[test]
#[cfg(target_os = "linux")]
fn the_file_is_opened_without_write_access() {
    let place = place();
    let path = fs::canonicalize(place.path("s")).unwrap();
    let log = Options::new().read_only().open(&path).unwrap();
    let mut found = 0;
    for file in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if fs::read_link(file.path()).is_ok_and(|to| to == path) {
            let about = fs::read_to_string(Path::new("/proc/self/fdinfo").join(file.file_name())).unwrap();
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
            assert_eq!(u32::from_str_radix(&flags, 8).unwrap() & 3, 0, "{flags}");
            found += 1;
        }
    }
    assert!(found > 0);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// A process was killed in the middle of its work: opening repairs the file, and repairing means writing.
#[test]
fn a_file_that_was_not_closed_is_read_as_after_its_repair() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("s"), dir.path().join("copy"));
    let log = AuditLog::create(&path).unwrap();
    for i in 0..300 {
        log.record(ToolCall::new("c", format!("u{}", i % 7), "look").patient(format!("P-{i}"))).unwrap();
    }
    // As after a crash: nothing was closed.
    fs::copy(&path, &copy).unwrap();
    let before = (fs::read(&copy).unwrap(), fs::metadata(&copy).unwrap().modified().unwrap());
    let reading = AuditLog::open_read_only(&copy).unwrap();
    assert_eq!(reading.size().unwrap(), log.size().unwrap());
    assert!(reading.verify(&VerifyOptions::new()).unwrap().ok());
    assert_eq!(reading.count(&Query::new()).unwrap(), log.count(&Query::new()).unwrap());
    reading.close().unwrap();
    assert_eq!((fs::read(&copy).unwrap(), fs::metadata(&copy).unwrap().modified().unwrap()), before);
}

#[test]
fn whatever_would_change_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = AuditLog::create(&path).unwrap();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.close().unwrap();
    let before = state(dir.path());
    let log = AuditLog::open_read_only(&path).unwrap();
    let refused = |what: Result<(), attestlog::Error>| {
        let e = what.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e}");
        assert!(e.to_string().contains("read_only"), "{e}");
    };
    refused(log.record(ToolCall::new("c", "u", "look")).map(|_| ()));
    refused(log.record_batch([ToolCall::new("c", "u", "look")]).map(|_| ()));
    refused(log.begin(ToolCall::new("c", "u", "look")).map(|_| ()));
    refused(log.checkpoint().map(|_| ()));
    refused(log.keys().rotate_epoch_key());
    refused(log.keys().rotate_pseudonym_key().map(|_| ()));
    refused(log.retention().set_policies(log.retention().policies().unwrap()).map(|_| ()));
    refused(log.flush_index());
    refused(log.prove(1).map(|_| ()));
    refused(log.retention().confirm_clock(Justification { actor: "office", reason: "it is right" }).map(|_| ()));
    // Readers share it.
    let other = AuditLog::open_read_only(&path).unwrap();
    assert_eq!(other.size().unwrap(), log.size().unwrap());
    drop(other);
    log.close().unwrap();
    assert_eq!(state(dir.path()), before);
    // If a process has it open, that one is asked, unless the reader wants the file or nothing.
    let writing = AuditLog::open(&path).unwrap();
    let asking = AuditLog::open_read_only(&path).unwrap();
    assert_eq!((asking.is_owner(), asking.size().unwrap()), (false, writing.size().unwrap()));
    refused(asking.record(ToolCall::new("c", "u", "look")).map(|_| ()));
    refused(asking.checkpoint().map(|_| ()));
    refused(asking.keys().rotate_epoch_key());
    let alone = Options::new().read_only().exclusive();
    assert_eq!(alone.clone().open(&path).unwrap_err().kind(), ErrorKind::Locked);
    writing.close().unwrap();
    // Then the file is read, and still nothing is written.
    assert_eq!(asking.count(&Query::new()).unwrap(), asking.size().unwrap());
    refused(asking.record(ToolCall::new("c", "u", "look")).map(|_| ()));
    // It gives the file up only to those that can ask for it.
    assert_eq!(alone.clone().open(&path).unwrap_err().kind(), ErrorKind::Locked);
    asking.close().unwrap();
    alone.open(&path).unwrap().close().unwrap();
}

/// While one process read for a long time, another could not record, or the reader had to have the file open for writing.
#[test]
#[cfg(unix)]
fn others_record_while_a_process_reads() {
    let place = place();
    let before = state(place.dir.path());
    let mut tail = place.command(&["tail", "s", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    for _ in 0..10 {
        lines.next().unwrap().unwrap();
    }
    assert_eq!(state(place.dir.path()), before, "it only reads so far");
    place.run_with(&["record", "s"], call("late", "u", "look", "").as_bytes()).ok();
    assert!(lines.next().unwrap().unwrap().contains("late"));
    nix_kill(&tail);
    tail.wait().unwrap();
    assert_eq!(place.count(&["--conversation", "late"]), 1);
    place.run(&["verify", "s"]).ok();
}

#[cfg(unix)]
fn nix_kill(child: &std::process::Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
}

/// Everything that a checkpoint covers can be proven without the key and without writing; nothing beyond it can, and a
/// message says so.
#[test]
fn at_a_checkpoint_nothing_is_signed() {
    let place = place();
    let key = place.run(&["keys", "show", "s", "--json"]).json();
    let key = key.get("public_key").and_then(Json::as_str).unwrap().to_owned();
    // For example, killed before it could sign: these entries lie beyond the checkpoint.
    let log = Options::new().open(place.path("s")).unwrap();
    let beyond = log.record(ToolCall::new("c", "late", "look").patient("P-1")).unwrap().seq;
    drop(log);
    let elsewhere = tempfile::tempdir().unwrap();
    let kept = elsewhere.path().join("s.key");
    fs::copy(place.path("s.key"), &kept).unwrap();
    fs::remove_file(place.path("s.key")).unwrap();
    let before = state(place.dir.path());
    let checks = |ran: Ran| {
        assert!(ran.err.contains("says nothing"), "{}", ran.err);
        let file = ran.ok();
        let checked = place.run_with(&["check", "-", "--public-key", &key, "--json"], file.as_bytes()).json();
        assert_eq!(checked.get("ok"), Some(&Json::Bool(true)));
        checked
    };
    checks(place.run(&["prove", "s", "2", "--at-checkpoint"]));
    let grown = checks(place.run(&["prove", "s", "--consistent-with", "cp", "--at-checkpoint"]));
    assert_eq!(grown.get("old_confirmed"), Some(&Json::Bool(false)));
    // Without the key nobody can tell under which pseudonyms a value may be stored.
    let complete = ["prove", "s", "--complete", "--patient", "P-1", "--at-checkpoint"];
    assert!(place.run(&complete).code(3).err.contains("pseudonym key"));
    let complete = [&complete[..], &["--key", kept.to_str().unwrap()]].concat();
    let shown = checks(place.run(&[&complete[..], &["--neighbours"]].concat()));
    assert_eq!(shown.get("seqs").and_then(Json::as_array).map(<[Json]>::len), Some(40));
    assert!(shown.get("newest_recorded_at").and_then(Json::as_str).is_some());
    // No index batch covers these calls, and other people's calls are not shown unless requested.
    assert!(place.run(&complete).code(2).err.contains("no index batch"));
    assert!(place.run(&["prove", "s", &beyond.to_string(), "--at-checkpoint"]).code(2).err.contains("lies beyond"));
    assert_eq!(state(place.dir.path()), before);
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("evidence");
    let ran = place.run(&["evidence", "s", folder.to_str().unwrap(), "--at-checkpoint", "--json"]);
    assert!(ran.err.contains("says nothing"), "{}", ran.err);
    assert_eq!(json(&ran.out).get("size").and_then(Json::as_u64), Some(beyond + 1));
    let rows = fs::read_to_string(folder.join("entries.jsonl")).unwrap().lines().count() as u64;
    assert_eq!(rows, beyond);
    assert_eq!(fs::read_to_string(folder.join("checkpoint")).unwrap(), fs::read_to_string(place.path("cp")).unwrap());
    assert_eq!(state(place.dir.path()), before);
    // Without the flag a checkpoint is signed, which requires the key.
    assert!(place.run(&["prove", "s", "2"]).code(3).err.contains("key"));
}

/// E1: a finding is kept if the place can be written, and a message says so; nothing else is written.
#[test]
fn a_finding_is_kept_and_said() {
    let place = place();
    let line = b"\"user_id\":\"u7\"";
    let changed = crate::common::overwrite(&place.path("s"), line, b"\"user_id\":\"x7\"");
    // Blocks are compressed; if the text is not found, any byte of a block will do.
    if changed == 0 {
        let mut bytes = fs::read(place.path("s")).unwrap();
        let at = bytes.windows(2).position(|two| two == b"u7").expect("a value in the file");
        bytes[at] = b'x';
        fs::write(place.path("s"), bytes).unwrap();
    }
    let before = fs::read(place.path("s")).unwrap();
    let ran = place.run(&["verify", "s"]).code(1);
    assert!(ran.err.contains("is kept in") && ran.err.contains("s.verified"), "{}", ran.err);
    assert!(place.path("s.verified").exists());
    assert_eq!(fs::read(place.path("s")).unwrap(), before);
    assert!(place.run(&["health", "s"]).code(1).out.contains("nobody has settled it"));
}

/// What would stay in memory over a host's storage could never reach it, so nothing may be acknowledged there.
#[test]
fn a_storage_of_the_host_s_can_be_read_only() {
    let disk = crate::store_common::Disk::default();
    let log = Options::new().without_keys().background(false).create_on(disk.backend()).unwrap();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.close().unwrap();
    let before = disk.bytes();
    let log = Options::new().read_only().without_keys().open_on(disk.backend()).unwrap();
    let size = log.size().unwrap();
    assert_eq!(log.record(ToolCall::new("c", "u", "look")).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(log.size().unwrap(), size);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
    log.close().unwrap();
    assert_eq!(disk.bytes(), before);
}
