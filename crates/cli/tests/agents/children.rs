//! Programs that this program starts inherit none of its secrets.
#![cfg(unix)]

use crate::common::*;
use std::fs;
use std::path::Path;

const SECRETS: [&str; 2] = ["ATTESTLOG_KEY", "ATTESTLOG_PASSPHRASE"];

/// A place whose store is opened with a passphrase and a key from the environment.
fn secret_place() -> (Place, Vec<(&'static str, String)>) {
    let place = Place::empty();
    let run = |args: &[&str]| place.command(args).env("ATTESTLOG_PASSPHRASE", "correct horse").output().unwrap();
    let made = run(&["init", "s"]);
    assert!(made.status.success(), "{made:?}");
    let file = fs::read(place.path("s.key")).unwrap();
    use base64::Engine;
    let key = base64::engine::general_purpose::STANDARD.encode(file);
    (place, vec![("ATTESTLOG_KEY", key), ("ATTESTLOG_PASSPHRASE", "correct horse".to_owned())])
}

fn assert_clean(what: &str, env: &str) {
    assert!(env.contains("PATH="), "{what}: it ran: {env}");
    for secret in SECRETS {
        assert!(!env.contains(secret), "{what}: its child inherits {secret}");
    }
    assert!(!env.contains("correct horse"), "{what}");
}

/// `attestlog mcp st -- sh -c env` printed the key and the passphrase. Every MCP server could open, read and sign the store.
#[test]
fn the_server_of_mcp_inherits_no_secret() {
    let (place, secrets) = secret_place();
    let ran = place.command(&["mcp", "s", "--", "sh", "-c", "env"]).envs(secrets).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_clean("mcp", &String::from_utf8(ran.stdout).unwrap());
}

/// The same for the commands that a store's anchors run.
#[test]
fn an_anchor_command_inherits_no_secret() {
    let (place, secrets) = secret_place();
    let out = place.path("env");
    let run = |args: &[&str]| place.command(args).envs(secrets.clone()).output().unwrap();
    let script = format!("cat > /dev/null; env > '{}'", out.display());
    place.write("anchors.toml", format!("[[anchor]]\nname = 'a'\ncommand = ['sh', '-c', {script:?}]\n"));
    let set = run(&["anchors", "set", "s", "anchors.toml"]);
    assert!(set.status.success(), "{set:?}");
    run(&["anchors", "flush", "s"]);
    assert_clean("anchors", &fs::read_to_string(out).unwrap());
}

/// And for the commands that receive alerts.
#[test]
fn an_alert_receiver_inherits_no_secret() {
    let (place, secrets) = secret_place();
    let out = place.path("env");
    let script = format!("cat > /dev/null; env > '{}'", out.display());
    let file = place.write("s.receivers", format!("[[receivers]]\ncommand = ['sh', '-c', {script:?}]\n"));
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let lines: String =
        (0..200).map(|n| call("c", "u", "t", &format!(r#""patient_id":"P-{n}","error":"no""#))).collect();
    place.write("calls", lines);
    let ran = place.command(&["record", "s", "calls"]).envs(secrets).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_clean("alerts", &fs::read_to_string(out).unwrap());
}

/// All programs are started by one function; starting them in any other way would pass the environment on.
#[test]
fn programs_are_started_in_one_place() {
    fn walk(dir: &Path, found: &mut Vec<String>) {
        for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if !path.ends_with("src/child.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                if code.contains("Command::new(") && code.contains("process::") {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|e| e.unwrap().path());
    for folder in crates.chain([root.to_owned()]) {
        walk(&folder.join("src"), &mut found);
    }
    assert_eq!(found, [""; 0], "use `child::command`");
}
