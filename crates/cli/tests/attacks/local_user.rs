//! Another user of the same machine.
#![cfg(target_os = "linux")]

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
