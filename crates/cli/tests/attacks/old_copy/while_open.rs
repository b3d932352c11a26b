//! A copy is put in the store's place while a process has the store open.
#![cfg(unix)]

use super::super::common::{Place, Ran, call};
use super::super::mcp_common::{self, Host};
use std::io::Read;
use std::process::Child;

/// A store served by a process, and a copy from before most of its calls.
struct Served {
    place: Place,
    owner: Child,
}

impl Served {
    fn new() -> Served {
        let place = Place::with_store();
        record(&place, "anna", 60).ok();
        std::fs::copy(place.path("s"), place.path("old")).unwrap();
        place.run(&["init", "other"]).ok();
        place.run_with(&["record", "other", "--no-alerts"], calls("zoe", 10).as_bytes()).ok();
        record(&place, "mallory", 50).ok();
        let kept = place.run(&["checkpoint", "s"]).ok();
        place.write("kept", kept);
        let mut owner = place.command(&["serve", "s"]).spawn().unwrap();
        // It prints a message when it serves.
        owner.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
        place.run(&["verify", "s", "--against", "kept"]).ok();
        Served { place, owner }
    }

    /// Runs every command but `verify`, and checks that each says this.
    #[track_caller]
    fn refuses(&self, why: &str) {
        for args in [
            &["query", "s", "--count"][..],
            &["query", "s", "--user", "mallory"],
            &["timeline", "s", "c"],
            &["stats", "s"],
            &["health", "s"],
            &["hold", "list", "s"],
            &["policy", "show", "s"],
            &["clock", "show", "s"],
            &["checkpoint", "s"],
            &["prove", "s", "5"],
            &["backup", "s", "copy"],
        ] {
            let ran = self.place.run(args).code(3);
            assert!(ran.err.contains(why) && ran.out.is_empty(), "{args:?}: {ran:?}");
        }
        for _ in 0..3 {
            let ran = record(&self.place, "late", 3).code(3);
            assert!(ran.err.contains(why), "{}", ran.err);
        }
    }

    /// Ends the serving process, and returns its exit code.
    fn end(&mut self) -> i32 {
        let id = nix::unistd::Pid::from_raw(self.owner.id() as i32);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.owner.wait().unwrap().code().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}

fn calls(user: &str, count: usize) -> String {
    (0..count).map(|i| call("c", user, "t", &format!(r#""arguments":{{"i":{i}}}"#))).collect()
}

fn record(place: &Place, user: &str, count: usize) -> Ran {
    place.run_with(&["record", "s", "--no-alerts"], calls(user, count).as_bytes())
}

/// `cp old audit.log` while `serve` had it open: `verify` with the public key and a kept checkpoint found nothing wrong
/// with a file that had half as many calls, fifteen calls were acknowledged, and none was there when the owner had ended.
/// The same with a copy of another log. No key is needed for this [R65].
#[test]
fn a_copy_written_over_the_store_is_noticed_by_whoever_serves() {
    for copy in ["old", "other"] {
        let mut served = Served::new();
        let place = &served.place;
        // Overwritten in place: the same file.
        std::fs::write(place.path("s"), std::fs::read(place.path(copy)).unwrap()).unwrap();
        let why = "something else has written over the store's file";
        let said = place.run(&["verify", "s", "--against", "kept"]).code(1).out;
        assert!(said.contains(why) && said.contains("attestlog restore"), "{said}");
        served.refuses(why);
        let place = &served.place;
        assert!(place.run(&["verify", "s"]).code(1).out.contains(why));
        assert!(std::fs::read(place.path("s")).unwrap() == std::fs::read(place.path(copy)).unwrap(), "{copy}");
        assert_eq!(served.end(), 3, "the owner says it too");
        let place = &served.place;
        assert!(
            std::fs::read(place.path("s")).unwrap() == std::fs::read(place.path(copy)).unwrap(),
            "{copy}: at its end"
        );
        place.run(&["verify", "s", "--against", "kept"]).code(if copy == "old" { 1 } else { 3 });
    }
}

/// `mv audit.log away; cp old audit.log`: `record` noticed it, but `verify`, `health` and `query` answered for a file that
/// was no longer at that path, with exit code 0 [R43].
#[test]
fn a_copy_in_the_store_s_place_is_not_answered_for() {
    let mut served = Served::new();
    let place = &served.place;
    std::fs::rename(place.path("s"), place.path("away")).unwrap();
    std::fs::copy(place.path("old"), place.path("s")).unwrap();
    let why = "another file lies there now";
    let ran = place.run(&["verify", "s", "--against", "kept"]).code(3);
    assert!(ran.err.contains(why) && ran.err.contains("put it back"), "{}", ran.err);
    served.refuses(why);
    // Once the store is put back, it goes on.
    let place = &served.place;
    std::fs::rename(place.path("away"), place.path("s")).unwrap();
    record(place, "anna", 1).ok();
    place.run(&["verify", "s", "--against", "kept"]).ok();
    assert_eq!(place.count(&["--user", "mallory"]), 50);
    assert_eq!(served.end(), 0);
}

/// Ten calls that a host made after `cp old audit.log` were executed and answered, and none was in the log when the proxy
/// had ended.
#[test]
fn no_tool_is_called_by_a_proxy_whose_store_was_written_over() {
    let place = Place::with_store();
    record(&place, "anna", 60).ok();
    let old = std::fs::read(place.path("s")).unwrap();
    record(&place, "eve", 50).ok();
    let mut host = Host::sh(&place, &[], "while read -r l; do echo \"$l\" >> seen; echo '{\"method\":\"got\"}'; done");
    host.say(mcp_common::call("1", "t", "{}"));
    assert!(host.hear().contains("got"));
    std::fs::write(place.path("s"), &old).unwrap();
    for id in ["2", "3"] {
        host.say(mcp_common::call(id, "t", "{}"));
        let said = host.hear();
        assert!(said.contains("was not made") && said.contains("something else has written over"), "{said}");
    }
    host.end();
    let seen = std::fs::read_to_string(place.path("seen")).unwrap();
    assert_eq!(seen.lines().count(), 1, "{seen}");
    assert!(std::fs::read(place.path("s")).unwrap() == old, "it is left as it was put there");
}
