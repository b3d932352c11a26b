//! Full disks, as the program meets them: what is said is true, and when there is room everything goes on. Needs the right to
//! mount, and says so where it is missing.
#![cfg(target_os = "linux")]

use crate::common::{Ended, Place, Small, call, json};
use crate::mcp_common::{self, Host, text};
use std::io::Read;

fn record(place: &Place, tool: &str) -> crate::common::Ran {
    place.run_with(&["record", "s"], call("c", "u", tool, "").as_bytes())
}

/// The story: another program filled the disk, one call was recorded, and the store could not be recorded into any more, by no
/// command and no process, also when there was room again: `verify` said `page_damaged`, and it was kept as a finding.
#[test]
fn a_disk_that_was_full_leaves_no_damage() {
    let place = Place::empty();
    let Some(small) = Small::mount(place.dir.path(), "4m") else { return };
    place.run(&["init", "s"]).ok();
    record(&place, "first").ok();
    let sound = || {
        let verified = place.run(&["verify", "s"]).ok();
        assert!(verified.starts_with("nothing wrong found"), "{verified}");
        assert!(!place.path("s.verified").exists());
    };
    for command in [&["record", "s", "line"][..], &["checkpoint", "s"], &["backup", "s", "copy"]] {
        place.write("line", call("c", "u", "on_full", ""));
        small.fill();
        let ran = place.run(command);
        assert!(ran.code == 0 || ran.code == 3 && ran.err.contains("the disk is full"), "{command:?}: {ran:?}");
        assert!(command[0] != "record" || ran.err.contains("this was not recorded: make room and retry"), "{ran:?}");
        sound();
        assert_eq!(place.count(&["--tool", "on_full"]), 0);
        small.make_room();
        record(&place, "then").ok();
        sound();
    }
    // Through a process that has the store open.
    let mut owner = Ended(place.command(&["serve", "s"]).spawn().unwrap());
    owner.0.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
    small.fill();
    for _ in 0..2 {
        let ran = record(&place, "on_full").code(3);
        assert!(ran.err.contains("this was not recorded: make room and retry"), "{ran:?}");
    }
    small.make_room();
    record(&place, "served").ok();
    sound();
    drop(owner);
    sound();
    // Through an MCP proxy that has the store open, and one that is started on the full disk.
    let mut host =
        Host::sh(&place, &[], "while read -r line; do echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}'; done");
    small.fill();
    let ask = |host: &mut Host| {
        host.say(mcp_common::call("1", "asked", "{}"));
        json(&host.hear())
    };
    let refused = ask(&mut host);
    assert!(text(&refused, "error.message").contains("the disk is full"), "{refused:?}");
    small.make_room();
    let answered = ask(&mut host);
    assert!(answered.get("result").is_some(), "{answered:?}");
    host.end();
    sound();
    assert_eq!((place.count(&["--tool", "on_full"]), place.count(&["--tool", "asked"])), (0, 2));
}

/// The story: the call was in the log, the disk had no room for the key file that signs it, and `record` said "this was not
/// recorded: make room and retry", with nothing on standard output. Who did so had the call twice.
#[test]
fn what_is_recorded_is_said_though_it_cannot_be_signed() {
    let place = Place::empty();
    let Some(small) = Small::mount(&place.path("keys"), "4m") else { return };
    place.run(&["init", "s", "--key", "keys/k"]).ok();
    small.fill();
    let line = call("c", "u", "t", "");
    let args = ["record", "s", "--key", "keys/k", "--no-alerts"];
    let ran = place.run_with(&args, line.repeat(3).as_bytes()).code(3);
    assert_eq!(ran.out, "recorded 3 calls, the newest at seq 4\n");
    assert!(
        ran.err.contains("No space left") && ran.err.contains("Do not repeat anything: entries 2 to 4 are recorded"),
        "{ran:?}"
    );
    assert!(!ran.err.contains("not recorded"), "{ran:?}");
    assert_eq!(place.count(&["--tool", "t"]), 3);
    small.make_room();
    let ran = place.run_with(&args, line.as_bytes());
    assert_eq!(ran.ok(), "recorded 1 call, the newest at seq 5\n");
    let verified = place.run(&["verify", "s", "--json"]).json();
    assert_eq!(verified.get("signed_size"), verified.get("size"));
}
