//! Another user of the same machine.
#![cfg(target_os = "linux")]

use super::common::Place;
use std::process::Command;

/// In a part of the system of its own: another user has the directory in /tmp that sockets would go to, and there is none in /run.
const TAKEN: &str = r#"
set -e
mount -t tmpfs none /tmp
mount -t tmpfs none /run
mount -t tmpfs none "$HOME"
mkdir -m 777 "/tmp/attestlog-$(id -u)"
chown 65534 "/tmp/attestlog-$(id -u)"
cd "$HOME"
"$ATTESTLOG" init s > /dev/null
mkfifo said
"$ATTESTLOG" serve s 2> said &
owner=$!
trap 'kill $owner 2> /dev/null || true' EXIT
exec 3< said
read -r line <&3
case "$line" in *serving*) ;; *) echo "the owner says: $line"; exit 1 ;; esac
echo '{"conversation_id":"c","user_id":"u","tool_name":"t"}' | "$ATTESTLOG" record s --no-alerts
"$ATTESTLOG" query s --kind tool_call --count
# They give it up, after the owner had to do without it.
rmdir "/tmp/attestlog-$(id -u)"
echo '{"conversation_id":"c","user_id":"u","tool_name":"t"}' | "$ATTESTLOG" record s --no-alerts
"$ATTESTLOG" query s --kind tool_call --json | grep -c '"sender"'
kill $owner
wait $owner
"#;

/// `/tmp/attestlog-UID` can be made by anybody, and as long as it was there no process of the user whose number it has could share a
/// store: the first had it, the others were locked out.
#[test]
fn who_takes_the_name_of_the_socket_s_directory_keeps_nobody_out() {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", TAKEN]).env("ATTESTLOG", env!("CARGO_BIN_EXE_attestlog"));
    command.env_remove("ATTESTLOG_SOCKET_DIR").env_remove("ATTESTLOG_KEY").env_remove("ATTESTLOG_PASSPHRASE");
    // The home that the list of users gives to the one who may mount.
    let output = match command.env("HOME", "/root").output() {
        Ok(output) if nix::unistd::geteuid().is_root() => output,
        _ => {
            println!("SKIPPED: only the superuser can mount; owner/place.rs tries the same without");
            return;
        }
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && err.contains("unshare") {
        println!("SKIPPED: no mounts here: {err}");
        return;
    }
    assert!(output.status.success(), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.get(1), Some(&"1"), "{out}{err}");
    assert_eq!(lines.last(), Some(&"2"), "both went through the socket: {out}{err}");
}

/// A file beside the store, or one that alerts are to be appended to, may be made by whoever may write in its folder. As a pipe it
/// made `record` wait before anything was recorded, and `health`, `query` and `stats` for ever; as a link it was followed.
#[test]
fn a_pipe_or_a_link_in_the_place_of_a_file_holds_nothing_up() {
    let place = Place::with_store();
    let alerts = place.path("alerts");
    let fifo = |path: &std::path::Path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    let failed = r#"{"conversation_id":"c","user_id":"u","tool_name":"t","emergency":true}"#;
    place.write("config", format!("[[receivers]]\nfile = {:?}\n", alerts.display().to_string()));
    place.run(&["policy", "set", "s", "config"]).ok();
    fifo(&alerts);
    let told = place.run_with(&["record", "s"], failed.as_bytes()).code(0);
    assert!(told.err.contains("is not a regular file"), "{told:?}");
    std::fs::remove_file(&alerts).unwrap();
    std::os::unix::fs::symlink(place.write("mine", ""), &alerts).unwrap();
    let told = place.run_with(&["record", "s"], failed.as_bytes()).code(0);
    assert!(told.err.contains("symbolic link"), "{told:?}");
    assert_eq!(std::fs::read(place.path("mine")).unwrap(), b"");
    assert_eq!(place.run(&["query", "s", "--kind", "tool_call", "--count"]).ok().trim(), "2");

    fifo(&place.path("s.verified"));
    for command in [&["query", "s"][..], &["stats", "s"], &["export", "s", "--format", "jsonl"]] {
        let told = place.run(command).code(0);
        assert!(told.err.contains("s.verified"), "{told:?}");
    }
    let told = place.run(&["health", "s"]);
    assert!(told.code != 0 && told.err.contains("s.verified"), "{told:?}");
}

/// The memory of a process that has the passphrase was for any process of the same account to read, unless the passphrase came
/// from the environment.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_process_with_keys_is_not_for_others_to_read() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::with_store();
    std::fs::write(place.path("said"), "").unwrap();
    let mut owner = place.command(&["serve", "s"]);
    let mut owner = owner.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(owner.stderr.take().unwrap()), &mut line).unwrap();
    // What may not be dumped belongs to the superuser there; as the superuser one sees it by its limits alone.
    let pid = owner.id();
    let status = std::fs::metadata(format!("/proc/{pid}/environ")).map(|about| about.uid());
    let readable = std::fs::File::open(format!("/proc/{pid}/environ")).is_ok();
    owner.kill().unwrap();
    owner.wait().unwrap();
    if nix::unistd::geteuid().is_root() {
        println!("SKIPPED: the superuser reads everything");
    } else {
        assert!(!readable || status.ok() == Some(0), "{line}");
    }
}
