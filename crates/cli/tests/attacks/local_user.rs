//! Another user of the same machine.
#![cfg(target_os = "linux")]

use super::common::Place;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A user that no machine gives anything to.
const NOBODY: u32 = 65534;

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

/// Ends a process that a test started, however the test ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The memory of a process that has the passphrase was for any process of the same account to read, unless the passphrase came
/// from the environment.
#[test]
fn the_memory_of_a_process_with_keys_is_not_for_others_to_read() {
    // The superuser reads everything, so that nothing could be seen of a process of his own: it becomes another user's.
    let superuser = nix::unistd::geteuid().is_root();
    let place = Place::with_store();
    // Where the program lies the other user may not go.
    let program = place.path("program");
    std::fs::copy(env!("CARGO_BIN_EXE_attestlog"), &program).unwrap();
    let mut command = Command::new(&program);
    command.current_dir(place.dir.path()).args(["serve", "s"]).stderr(Stdio::piped()).env_clear();
    let sockets = place.path("sockets");
    std::fs::DirBuilder::new().mode(0o700).create(&sockets).unwrap();
    command.env("ATTESTLOG_SOCKET_DIR", &sockets);
    if superuser {
        command.uid(NOBODY).gid(NOBODY);
        let all = std::fs::read_dir(place.dir.path()).unwrap().map(|file| file.unwrap().path());
        for path in all.chain([place.dir.path().to_owned()]) {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let mut owner = Ended(command.spawn().unwrap());
    // Until it says that it serves, or ends.
    let (said, serving) = (owner.0.stderr.take().unwrap(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let found = BufReader::new(said).lines().map_while(Result::ok).any(|line| line.contains("serving"));
        serving.0.send(found)
    });
    assert_eq!(serving.1.recv_timeout(Duration::from_secs(60)), Ok(true), "it did not come to serving");
    // What may not be dumped belongs to the superuser there, and only he may open it.
    let memory = format!("/proc/{}/mem", owner.0.id());
    assert_eq!(std::fs::metadata(&memory).unwrap().uid(), 0);
    if !superuser {
        let refused = std::fs::File::open(&memory).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
