//! File permissions: files are created for their owner only and never through a symbolic link (see also `keys`, `anchors`
//! and `backup`), and a user who opens a store that others can replace gets a warning.
#![cfg(unix)]

use attestlog::host::ManualClock;
use attestlog::{AuditLog, ErrorKind, Options, ToolCall};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn store_and_key_stay_their_owners_also_through_a_purge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
    let log = Options::new().clock(clock.clone()).background(false).create(&path).unwrap();
    for i in 0..20 {
        log.record(ToolCall::new("c", format!("u{i}"), "look")).unwrap();
    }
    clock.advance(Duration::from_secs(500 * 86_400));
    // Somebody who guesses the name of the file that a purge writes cannot redirect it.
    let victim = folder.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let planted = folder.path().join("audit.log.new");
    symlink(&victim, &planted).unwrap();
    let purged = log.retention().purge("ops");
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    assert!(purged.is_ok_and(|p| p.purged == 20));
    log.checkpoint().unwrap();
    log.keys().rotate_epoch_key().unwrap();
    for file in
        fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path()).filter(|f| *f != victim && *f != planted)
    {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
    }
    assert_eq!(log.warnings().unwrap(), [] as [&str; 0]);
}

#[test]
fn nothing_is_made_through_a_symbolic_link() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink(at("elsewhere"), at("store")).unwrap();
    assert_eq!(AuditLog::create(at("store")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    symlink(at("elsewhere"), at("other.key")).unwrap();
    assert_eq!(AuditLog::create(at("other")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(!at("elsewhere").exists() && !at("other").exists());
}

#[test]
fn who_opens_a_store_that_others_can_replace_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("audit.log");
    AuditLog::create(&path).unwrap().close().unwrap();
    let warnings = || AuditLog::open(&path).unwrap().warnings().unwrap();
    assert_eq!(warnings(), [] as [&str; 0]);

    set_mode(&inner, 0o777);
    assert!(matches!(&warnings()[..], [one] if one.contains("everybody may write") && one.contains("chmod o-w")));
    let log = AuditLog::open(&path).unwrap();
    let concerns = log.health().unwrap().concerns();
    assert!(concerns.iter().any(|c| c.contains("everybody may write")), "{concerns:?}");
    log.close().unwrap();
    // A link in a safe place does not make the file safe.
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let log = Options::new().key_file(inner.join("audit.log.key")).open(&link).unwrap();
    assert_eq!(log.warnings().unwrap().len(), 1);
    log.close().unwrap();
    {
        let done = Command::new(env!("CARGO_BIN_EXE_attestlog")).arg("count").arg(&path).output().unwrap();
        let done = match done.status.code() {
            Some(2) => Command::new(env!("CARGO_BIN_EXE_attestlog")).arg("stats").arg(&path).output().unwrap(),
            _ => done,
        };
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("warning: ") && said.contains("everybody may write"), "{said}");
        assert!(done.status.success(), "{said}");
    }
    // A folder in which only its owner can remove a file, like /tmp.
    set_mode(&inner, 0o1777);
    assert_eq!(warnings(), [] as [&str; 0]);
    set_mode(&path, 0o644);
    assert!(matches!(&warnings()[..], [one] if one.contains("0644")));
    set_mode(&path, 0o600);
    match std::os::unix::fs::chown(&inner, Some(12_345), None) {
        Ok(()) => assert!(matches!(&warnings()[..], [one] if one.contains("12345"))),
        Err(e) => println!("SKIPPED: a folder of another user cannot be made here: {e}"),
    }
}
