//! Keys in the operating system's keyring, with a real Secret Service: a D-Bus session and an unlocked GNOME keyring of the
//! test's own, in a separate directory.
//!
//! It needs the feature `keyring`, and on Linux `dbus-run-session` and `gnome-keyring-daemon` (Debian: `dbus`,
//! `gnome-keyring`). If it cannot run it says why.

#[cfg(all(feature = "keyring", target_os = "linux"))]
#[cfg(not(all(feature = "keyring", target_os = "linux")))]
#[test]
fn keys_live_in_the_systems_keyring() {
    println!(
        "SKIPPED: built without the feature `keyring`, or not for Linux: cargo test -p attestlog-cli --features keyring --test program os_keyring::"
    );
}

#[cfg(all(feature = "keyring", target_os = "linux"))]
mod linux {
    use crate::common::{Place, call};
    use attestlog::keys::{KeyVault, OsKeyring};
    use attestlog::verify::VerifyOptions;
    use attestlog::{AuditLog, ErrorKind, Options, ToolCall};
    use std::fs;
    use std::os::unix::fs::DirBuilderExt;
    use std::process::{Command, Stdio};

    /// Set for the copy of this test that runs in the session.
    const INSIDE: &str = "ATTESTLOG_TEST_SECRET_SERVICE";

    /// Unlocks a new keyring; the daemon answers before its first process ends, and ends with the session.
    const SESSION: &str = r#"printf 'of the test' | gnome-keyring-daemon --unlock --components=secrets >/dev/null || exit 77
        exec "$@""#;

    fn missing() -> Option<String> {
        ["dbus-run-session", "gnome-keyring-daemon"].into_iter().find_map(|program| {
            let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            tried.is_err().then(|| format!("there is no {program} (Debian: dbus, gnome-keyring)"))
        })
    }

    #[test]
    fn keys_live_in_the_systems_keyring() {
        if std::env::var_os(INSIDE).is_some() {
            return;
        }
        if let Some(why) = missing() {
            println!("SKIPPED: {why}");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        fs::DirBuilder::new().mode(0o700).create(&run).unwrap();
        let test = std::env::current_exe().unwrap();
        let inside = ["os_keyring::linux::in_the_session", "--exact", "--ignored", "--nocapture"];
        let output = Command::new("dbus-run-session")
            .args(["--", "sh", "-c", SESSION, "sh"])
            .arg(test)
            .args(inside)
            .env("HOME", home.path())
            .env("XDG_DATA_HOME", home.path())
            .env("XDG_RUNTIME_DIR", &run)
            .env(INSIDE, "1")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(77) || said.contains("could not be started: no Secret Service") {
            println!("SKIPPED: no Secret Service can be had here: {said}");
            return;
        }
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        // What the keyring stores on the disk is encrypted; the key is not beside the store, nor anywhere else in clear.
        let kept = home.path().join("keyrings");
        assert!(fs::read_dir(&kept).unwrap().count() > 0);
        for file in fs::read_dir(&kept).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(13).any(|w| w == b"attestlog-key"));
        }
    }

    #[test]
    #[ignore = "runs in a session of its own, started by the test above"]
    fn in_the_session() {
        assert!(std::env::var_os(INSIDE).is_some(), "keys_live_in_the_systems_keyring starts this");
        the_library();
        the_program();
    }

    fn the_library() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let vault = OsKeyring::new(path.display().to_string());
        match vault.load() {
            Ok(held) => assert!(held.is_none(), "a new keyring is empty"),
            Err(e) => panic!("could not be started: no Secret Service: {e}"),
        }
        let options = || Options::new().background(false).key_vault(vault.clone());
        let log = options().create(&path).unwrap();
        log.record(ToolCall::new("c", "u", "t")).unwrap();
        let first = vault.load().unwrap().unwrap();
        assert!(first.starts_with(b"attestlog-key v1\n"));
        log.keys().rotate_epoch_key().unwrap();
        log.keys().rotate_pseudonym_key().unwrap();
        log.close().unwrap();
        assert_ne!(*vault.load().unwrap().unwrap(), *first, "the old epoch key is gone");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, ["store"]);
        let log = options().open(&path).unwrap();
        log.record(ToolCall::new("c", "u", "t")).unwrap();
        let verification = log.verify(&VerifyOptions::new()).unwrap();
        assert!(verification.ok() && verification.signed, "{:?}", verification.findings);
        log.close().unwrap();
        // Another account holds no keys, so nothing can be signed; and a new store does not replace these keys.
        let other = OsKeyring::new("somebody else's");
        let log: AuditLog = Options::new().background(false).key_vault(other).open(&path).unwrap();
        assert_eq!(log.record(ToolCall::new("c", "u", "t")).unwrap_err().kind(), ErrorKind::Key);
        log.close().unwrap();
        assert_eq!(options().create(dir.path().join("new")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    fn the_program() {
        let place = Place::empty();
        place.write("p.toml", "[redaction]\npreset = \"hipaa\"\n[redaction.fields]\nssn = \"seal\"\n");
        let run = |args: &[&str], input: &str| {
            place.run_with(&[args, &["--os-keyring", "ward 3"]].concat(), input.as_bytes())
        };
        run(&["init", "s", "--config", "p.toml"], "").ok();
        assert!(!place.path("s.key").exists());
        let line = call("c", "u", "enrol", r#""patient_id":"P-1","arguments":{"ssn":"460-89-9847"}"#);
        run(&["record", "s"], &line).ok();
        assert_eq!(run(&["query", "s", "--patient", "P-1", "--count"], "").ok().trim(), "1");
        let because = ["--actor", "dr_no", "--reason", "claim"];
        let shown = run(&[&["reveal", "s", "2", "arguments.ssn"], &because[..]].concat(), "").ok();
        assert_eq!(shown.trim(), r#""460-89-9847""#);
        run(&["keys", "rotate", "s"], "").ok();
        run(&["keys", "rotate", "s", "--pseudonyms"], "").ok();
        assert_eq!(run(&["query", "s", "--patient", "P-1", "--count"], "").ok().trim(), "1");
        let said = run(&[&["erase", "s", "--subject", "P-1"], &because[..]].concat(), "").ok();
        assert!(said.contains("ward 3") && !said.contains("s.key"), "{said}");
        run(&[&["reveal", "s", "2", "arguments.ssn"], &because[..]].concat(), "").code(2);
        run(&["verify", "s"], "").ok();
        // The backup of a key in the keyring is an ordinary key file.
        run(&["keys", "backup", "s", "copy.key"], "").ok();
        place.run(&["query", "s", "--patient", "P-1", "--count", "--key", "copy.key"]).ok();
        // Without the keyring's keys nothing is recorded.
        place.run_with(&["record", "s"], line.as_bytes()).code(3);
    }
}
