//! Promise: the evidence folder of a store is sufficient by itself: with it and the public key, neither the store nor this
//! program is needed to see that every entry is the one that was signed.

use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::note::{SignedCheckpoint, Succession, VerifierKey};
use attestlog::retention::SeqSet;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, ErrorKind, Hash, Options, ToolCall};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn log(calls: u64) -> AuditLog {
    let log = Options::new().name("example.com/ward-3").in_memory().unwrap();
    for n in 0..calls {
        log.record(ToolCall::new(format!("c{}", n % 3), "u", "t").patient(format!("P-{n}"))).unwrap();
        if n % 7 == 6 {
            log.flush_index().unwrap();
        }
        if n % 11 == 10 {
            log.keys().rotate_epoch_key().unwrap();
        }
    }
    log
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

/// Computes the root over the rows, as the folder's README describes.
fn root(rows: &str) -> Hash {
    let mut parts: Vec<(u64, Hash)> = Vec::new();
    for row in rows.lines() {
        let json = Json::parse(row.as_bytes()).unwrap().value;
        let (mut count, mut node) = match json.get("purged") {
            None => (1, Hash::leaf(row.as_bytes())),
            Some(gone) => {
                let hash = gone.get("hash").and_then(Json::as_str).unwrap().parse().unwrap();
                (gone.get("count").and_then(Json::as_u64).unwrap(), hash)
            }
        };
        while let Some((_, left)) = parts.pop_if(|(size, _)| *size == count) {
            (count, node) = (count * 2, Hash::node(&left, &node));
        }
        parts.push((count, node));
    }
    parts.into_iter().map(|(_, node)| node).rev().reduce(|right, left| Hash::node(&left, &right)).unwrap()
}

#[test]
fn a_folder_holds_by_itself() {
    let parent = tempfile::tempdir().unwrap();
    for calls in [0, 1, 40] {
        let log = log(calls);
        let dir = parent.path().join(format!("of {calls}"));
        let verification = log.proofs().write_evidence(&dir, &VerifyOptions::new()).unwrap();
        assert!(verification.ok());
        let checkpoint = SignedCheckpoint::parse(read(&dir, "checkpoint").as_bytes()).unwrap();
        let key: VerifierKey = read(&dir, "public-key").trim().parse().unwrap();
        assert_eq!(Some(&key), log.public_key().unwrap().as_ref());
        checkpoint.verify(&key).unwrap();
        let rows = read(&dir, "entries.jsonl");
        assert_eq!(root(&rows), checkpoint.checkpoint().root());
        assert_eq!(rows.lines().count() as u64, checkpoint.checkpoint().size());
        for (seq, row) in (0..).zip(rows.lines()) {
            assert_eq!(Entry::from_line(row).unwrap().seq, seq);
        }
        let succession = Json::parse(read(&dir, "succession.json").as_bytes()).unwrap().value;
        let epoch = Succession::from_json(&succession).unwrap().check(&checkpoint).unwrap();
        assert_eq!(u64::from(epoch), calls / 11);
        let report = Json::parse(read(&dir, "report.json").as_bytes()).unwrap().value;
        assert_eq!(report.get("ok").and_then(Json::as_bool), Some(true));
        assert_eq!(report.get("root").and_then(Json::as_str), Some(&*checkpoint.checkpoint().root().to_string()));
        assert_eq!(read(&dir, "purges.jsonl"), "");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&dir), 0o700);
            for file in std::fs::read_dir(&dir).unwrap() {
                assert_eq!(mode(&file.unwrap().path()), 0o600);
            }
        }
    }
}

#[test]
fn an_existing_folder_is_left_alone_and_a_failed_one_is_taken_away() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("evidence");
    std::fs::create_dir(&dir).unwrap();
    let refused = log(1).proofs().write_evidence(&dir, &VerifyOptions::new()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert!(dir.exists());
    let other = parent.path().join("other");
    let keyless = Options::new().without_keys().in_memory().unwrap();
    assert_eq!(keyless.proofs().write_evidence(&other, &VerifyOptions::new()).unwrap_err().kind(), ErrorKind::Key);
    assert!(!other.exists());
}

/// The commands in the folder's README are run exactly as shown.
#[test]
fn the_readme_can_be_followed() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("evidence");
    log(40).proofs().write_evidence(&dir, &VerifyOptions::new()).unwrap();
    let readme = read(&dir, "README.txt");
    let indented = |from: &str, to: &str| {
        let part = readme.split_once(from).unwrap().1.split_once(to).unwrap().0;
        part.lines().filter_map(|line| line.strip_prefix("       ")).fold(String::new(), |all, line| all + line + "\n")
    };
    let shell = indented("1. One entry", "The next entry");
    match Command::new("sh").arg("-c").arg(shell.trim()).current_dir(&dir).output() {
        Ok(out) if out.status.success() => {
            let first = Hash::leaf(read(&dir, "entries.jsonl").lines().next().unwrap().as_bytes());
            assert!(String::from_utf8(out.stdout).unwrap().starts_with(&first.to_string()));
        }
        _ => eprintln!("SKIPPED: no shell with sha256sum here"),
    }
    // The recipe keeps its files in /tmp; here, each run has a folder of its own.
    let recipe =
        indented("3. The signature", "4. What was purged").replace("/tmp/", &format!("{}/", parent.path().display()));
    match Command::new("openssl").arg("version").output() {
        Ok(out) if String::from_utf8_lossy(&out.stdout).starts_with("OpenSSL 3") => {
            let run = || Command::new("sh").args(["-c", &recipe]).current_dir(&dir).output().unwrap();
            let out = run();
            assert!(out.status.success(), "{recipe}{}", String::from_utf8_lossy(&out.stderr));
            let note = read(&dir, "checkpoint");
            std::fs::write(dir.join("checkpoint"), note.replacen("ward-3", "ward-4", 1)).unwrap();
            assert!(!run().status.success(), "another text is not what was signed");
            std::fs::write(dir.join("checkpoint"), note).unwrap();
        }
        _ => eprintln!("SKIPPED: no openssl 3 here"),
    }
    let python = |script: &str| Command::new("python3").arg("-B").arg(script).current_dir(&dir).output();
    if !Command::new("python3").args(["-c", "import cryptography"]).output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no python3 with the package cryptography here");
        return;
    }
    let out = python("check.py").unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.starts_with("OK: "), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let out = python("verify.py").unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.starts_with("CONSISTENT, BUT NOT PINNED") && out.status.code() == Some(3), "{said}");
    let rows = read(&dir, "entries.jsonl").replacen("P-3", "P-4", 1);
    std::fs::write(dir.join("entries.jsonl"), rows).unwrap();
    assert_eq!(python("check.py").unwrap().status.code(), Some(1));
    assert!(String::from_utf8_lossy(&python("verify.py").unwrap().stdout).starts_with("REFUSED: "));
}

/// 100 purged calls, in two purges with a checkpoint inside the first, between entries that are present.
fn purged_log() -> AuditLog {
    let clock = Arc::new(ManualClock::at("2025-01-01".parse().unwrap()));
    let log = Options::new().clock(clock.clone()).in_memory().unwrap();
    let record = |n: u64, years: u32| {
        let until = format!("{}-06-01", 2026 + years).parse().unwrap();
        log.record(ToolCall::new("c", "u", "t").call_id(n.to_string()).retain_until(until)).unwrap();
    };
    (0..90).for_each(|n| record(n, 0));
    log.checkpoint().unwrap();
    for n in 0..40 {
        record(n, if n % 4 == 0 { 1 } else { 60 });
    }
    for purged in [90, 10] {
        clock.advance(std::time::Duration::from_secs(if purged == 90 { 520 } else { 366 } * 86_400));
        assert_eq!(log.retention().purge("records_officer").unwrap().purged, purged);
    }
    log
}

#[test]
fn what_was_purged_is_told_from_what_is_missing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("evidence");
    let log = purged_log();
    log.proofs().write_evidence(&dir, &VerifyOptions::new()).unwrap();
    let checkpoint = SignedCheckpoint::parse(read(&dir, "checkpoint").as_bytes()).unwrap();
    let rows = read(&dir, "entries.jsonl");
    assert_eq!(root(&rows), checkpoint.checkpoint().root());
    let lines = rows.lines().filter(|row| !row.starts_with(r#"{"purged""#)).count() as u64;
    assert_eq!(lines + 100, checkpoint.checkpoint().size());
    let sets = read(&dir, "purges.jsonl").lines().fold(SeqSet::new(), |all, row| {
        let row = Json::parse(row.as_bytes()).unwrap().value;
        all.union(&SeqSet::from_json(row.get("seqs").unwrap()).unwrap())
    });
    assert_eq!(sets.len(), 100);
    if let Some((ok, said)) = script(&dir, &log.public_key().unwrap().unwrap().to_string()) {
        assert!(ok && said.contains("100 of them purged"), "{said}");
        std::fs::write(dir.join("purges.jsonl"), read(&dir, "purges.jsonl").lines().next().unwrap()).unwrap();
        assert!(!script(&dir, &log.public_key().unwrap().unwrap().to_string()).unwrap().0);
    }
}

/// Runs the independent script; prints a message and returns `None` if that is not possible here.
fn script(dir: &Path, key: &str) -> Option<(bool, String)> {
    let found = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !found.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no python3 with the cryptography package here");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_evidence.py");
    let mut command = Command::new("python3");
    command.arg(&script).arg(dir).args(["--public-key", key]).env("PYTHONDONTWRITEBYTECODE", "1");
    let out = command.output().unwrap();
    Some((out.status.success(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap()))
}

/// Runs the independent script on a folder that the store wrote.
#[test]
fn the_independent_script_accepts_the_folder_and_nothing_that_was_changed() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("evidence");
    let log = log(40);
    log.proofs().write_evidence(&dir, &VerifyOptions::new()).unwrap();
    let key = log.public_key().unwrap().unwrap().to_string();
    let Some((ok, said)) = script(&dir, &key) else { return };
    assert!(ok && said.contains("signed in epoch 3"), "{said}");
    let (ok, said) = script(&dir, &self::log(1).public_key().unwrap().unwrap().to_string()).unwrap();
    assert!(!ok, "{said}");
    let rows = read(&dir, "entries.jsonl");
    std::fs::write(dir.join("entries.jsonl"), rows.replacen("P-3", "P-4", 1)).unwrap();
    let (ok, said) = script(&dir, &key).unwrap();
    assert!(!ok && said.contains("WRONG"), "{said}");
}
