//! Another user of the same machine.
#![cfg(target_os = "linux")]

use super::common::{Ended, Place};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A user that has no rights on any machine.
const NOBODY: u32 = 65534;

/// In separate namespaces: another user has the directory in /tmp in which sockets would be made, and there is none in
/// /run.
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

/// Runs shell lines with mounts of their own; returns what they print. `None` where that is not possible.
fn in_namespaces(script: &str) -> Option<(String, String)> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).env("ATTESTLOG", env!("CARGO_BIN_EXE_attestlog"));
    command.env_remove("ATTESTLOG_SOCKET_DIR").env_remove("ATTESTLOG_KEY").env_remove("ATTESTLOG_PASSPHRASE");
    // The home directory that the user list gives for the user who may mount.
    let output = match command.env("HOME", "/root").output() {
        Ok(output) if nix::unistd::geteuid().is_root() => output,
        _ => {
            println!("SKIPPED: only the superuser can mount; owner/place.rs tries the same without");
            return None;
        }
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && err.contains("unshare") {
        println!("SKIPPED: no mounts here: {err}");
        return None;
    }
    assert!(output.status.success(), "{out}{err}");
    Some((out.into_owned(), err.into_owned()))
}

/// Anybody can create `/tmp/attestlog-UID`, and as long as it existed no process of the user with that number could share a
/// store: the first had it, the others were locked out.
#[test]
fn who_takes_the_name_of_the_socket_s_directory_keeps_nobody_out() {
    let Some((out, err)) = in_namespaces(TAKEN) else { return };
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.get(1), Some(&"1"), "{out}{err}");
    assert_eq!(lines.last(), Some(&"2"), "both went through the socket: {out}{err}");
}

/// In separate namespaces: another user has every place in which the socket could be made.
const ALL_TAKEN: &str = r#"
set -e
mount -t tmpfs none /tmp
mount -t tmpfs none /run
mount -t tmpfs none "$HOME"
mkdir -m 777 "/tmp/attestlog-$(id -u)" "$HOME/.attestlog"
chown 65534 "/tmp/attestlog-$(id -u)" "$HOME/.attestlog"
cd "$HOME"
"$ATTESTLOG" init s > /dev/null
status=0
timeout 60 "$ATTESTLOG" serve s 2> said || status=$?
cat said >&2
grep -q "serving the store" said && exit 1
[ $status = 3 ]
echo '{"conversation_id":"c","user_id":"u","tool_name":"t"}' | "$ATTESTLOG" record s --no-alerts
"#;

/// The story: nobody could connect, and `serve` said that it serves the store and stayed. Others were told that another process
/// has it open, and second proxies did not start.
#[test]
fn who_cannot_be_reached_does_not_say_that_it_serves() {
    if let Some((out, err)) = in_namespaces(ALL_TAKEN) {
        assert!(out.contains("recorded 1 call"), "{out}{err}");
        assert!(err.contains("other processes cannot reach the store") && err.contains("not served"), "{out}{err}");
    }
}

/// A file beside the store, or one to which alerts are appended, can be created by anybody who may write in its folder. A
/// pipe in its place made `record` wait before anything was recorded, and `health`, `query` and `stats` forever; a link was
/// followed.
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

/// In a folder that everybody may write to, another user made the file of alerts, or of anchors, before it was there: alerts and
/// checkpoints went into it, counted as delivered, and that user could read them and take them back.
#[test]
fn a_file_that_another_user_made_gets_nothing() {
    let place = Place::empty();
    let (alerts, anchors) = (place.path("alerts"), place.path("anchors"));
    let names = [&alerts, &anchors].map(|path| path.display().to_string());
    place.write("config", format!("[[receivers]]\nfile = {:?}\n[[anchor]]\nfile = {:?}\n", names[0], names[1]));
    place.run(&["init", "s", "--config", "config"]).ok();
    let mine = |path: &std::path::Path| {
        let _ = std::fs::remove_file(path);
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let shared = |path: &std::path::Path| {
        mine(path);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    };
    let theirs = |path: &std::path::Path| {
        mine(path);
        std::os::unix::fs::chown(path, Some(NOBODY), None).unwrap();
    };
    let plants: [(&dyn Fn(&std::path::Path), &str); 2] =
        [(&shared, "others can write to it"), (&theirs, "it belongs to another user")];
    let failed = r#"{"conversation_id":"c","user_id":"u","tool_name":"t","emergency":true}"#;
    for (plant, why) in plants {
        if why.contains("belongs") && !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: only the superuser can give a file away");
            continue;
        }
        [&alerts, &anchors].into_iter().for_each(|path| plant(path));
        let told = place.run_with(&["record", "s"], failed.as_bytes()).code(0);
        assert!(told.err.contains(why), "{told:?}");
        // Not only when it is due again.
        place.run(&["anchors", "flush", "s"]);
        let shown = place.run(&["anchors", "show", "s"]);
        assert!(shown.out.contains(why), "{shown:?}");
        for path in [&alerts, &anchors] {
            assert_eq!(std::fs::read(path).unwrap(), b"", "{why}: {}", path.display());
        }
    }
    // The user's own file gets what the others did not.
    [&alerts, &anchors].into_iter().for_each(|path| mine(path));
    place.run_with(&["record", "s"], failed.as_bytes()).ok();
    assert!(!std::fs::read(&alerts).unwrap().is_empty());
}

/// Any process of the same account could read the memory of a process that has the passphrase, unless the passphrase came
/// from the environment.
#[test]
fn the_memory_of_a_process_with_keys_is_not_for_others_to_read() {
    // Root can read everything, so the test would show nothing for root's own process: it switches to another user.
    let superuser = nix::unistd::geteuid().is_root();
    let place = Place::with_store();
    // The other user may not enter the directory of the program.
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
    // The memory of an undumpable process belongs to root there, and only root may open it.
    let memory = format!("/proc/{}/mem", owner.0.id());
    assert_eq!(std::fs::metadata(&memory).unwrap().uid(), 0);
    if !superuser {
        let refused = std::fs::File::open(&memory).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
