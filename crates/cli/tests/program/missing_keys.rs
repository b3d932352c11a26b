//! A store whose key file is missing, and processes that do not have it: what the program says about them.

use crate::common::{Place, call};
use std::io::{BufRead as _, BufReader};
use std::process::Child;

const ONE: &str = "c";

fn line() -> String {
    call(ONE, "u", "t", "")
}

/// Serves the store until it is killed.
struct Serving(Child);

impl Serving {
    fn start(place: &Place, more: &[&str]) -> Serving {
        let mut child = place.command(&[&["serve", "s"], more].concat()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("serving the store")));
        Serving(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The key file was gone: `health` was green, and `serve` and `mcp` started without a message, though every call failed.
/// Under such a `serve` `record --unsigned` failed, and its message said to use --unsigned.
#[test]
fn a_store_without_its_key_file_is_not_said_to_be_well_nor_served() {
    let place = Place::with_lines(&line());
    place.run(&["health", "s"]).ok();
    std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
    let missing = "the store's key file is missing, so nothing can be recorded";
    let health = place.run(&["health", "s"]).code(1);
    assert!(health.out.contains(&format!("! {missing}")), "{health:?}");
    for refused in [&["serve", "s"][..], &["mcp", "s", "--", "cat"]] {
        let ran = place.run(refused).code(3);
        assert!(ran.err.contains(missing) && ran.err.contains("--unsigned"), "{ran:?}");
        assert!(!ran.err.contains("serving the store"), "{ran:?}");
    }
    let serving = Serving::start(&place, &["--unsigned"]);
    place.run_with(&["record", "s"], line().as_bytes()).ok();
    drop(serving);
    // The key file is back.
    std::fs::rename(place.path("away"), place.path("s.key")).unwrap();
    place.run_with(&["record", "s"], line().as_bytes()).ok();
    place.run(&["health", "s"]).ok();
    // The key file disappears while the store is served.
    let serving = Serving::start(&place, &[]);
    std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
    place.run_with(&["record", "s"], line().as_bytes()).code(3);
    let health = place.run(&["health", "s"]).code(1);
    assert!(health.out.contains("! "), "{health:?}");
    drop(serving);
}

/// `--public-key FILE`, which the documentation describes, was refused by the process that serves the store: it touches no
/// file for those who prove no key. Now the file is read by the process in which the command was given.
#[test]
fn a_public_key_may_lie_in_a_file_also_where_another_process_has_the_store() {
    let place = Place::empty();
    let key = place.run(&["init", "s"]).ok();
    place.write("pub", &key);
    place.run_with(&["record", "s"], line().as_bytes()).ok();
    let serving = Serving::start(&place, &[]);
    for given in [&["--public-key", "pub"][..], &["--public-key=pub"], &["--public-key", key.trim()]] {
        place.run(&[&["verify", "s", "--key", "none"], given].concat()).ok();
        place.run(&[&["report", "access", "s", "--user", "u", "--key", "none"], given].concat()).ok();
    }
    let ran = place.run(&["verify", "s", "--key", "none", "--public-key", "nothing-there"]);
    assert!(ran.code == 2 || ran.code == 1, "{ran:?}");
    drop(serving);
    // Nobody serves the store any more: the message says that, and not that the store's key file is missing.
    for given in [&["--key", "none"][..], &["--key", "none", "--public-key", "pub"]] {
        let ran = place.run_with(&[&["record", "s"], given].concat(), line().as_bytes()).code(3);
        assert!(ran.err.contains("no process has the store open") && !ran.err.contains("backup"), "{ran:?}");
    }
    place.run_with(&["record", "s"], line().as_bytes()).ok();
}

/// A restore without the key file wrote 'nothing signed was lost, as far as the key file knew' into the history, though
/// there was no key file.
#[test]
fn a_restoring_without_the_key_file_does_not_say_what_it_knew() {
    let place = Place::with_lines(&line());
    place.run(&["backup", "s", "copy"]).ok();
    place.run_with(&["record", "s"], line().as_bytes()).ok();
    let restored = ["restore", "copy", "t", "--actor", "ops", "--reason", "disk"];
    let ran = place.run(&restored).code(0);
    assert!(ran.err.contains("remove t, put the copy where the key file belongs, and restore again"), "{ran:?}");
    let health = place.run(&["health", "t"]).code(1).out;
    assert!(health.contains("the key file was not there") && !health.contains("nothing signed was lost"), "{health}");
    std::fs::remove_file(place.path("t")).unwrap();
    std::fs::rename(place.path("s.key"), place.path("t.key")).unwrap();
    place.run(&restored).ok();
    let health = place.run(&["health", "t"]).out;
    assert!(!health.contains("the key file was not there"), "{health}");
}

/// A line that was not recorded ended `record`, which did not say that the lines after it were not read.
#[test]
fn a_bad_line_says_from_where_to_send_again() {
    let place = Place::with_store();
    let lines = [line(), "{\"user_id\":1}\n".to_owned(), line(), line()].concat();
    let ran = place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).code(1);
    assert!(ran.out.contains("recorded 1 call"), "{ran:?}");
    assert!(ran.err.contains("line 2 on, corrected") && ran.err.contains("was not looked at"), "{ran:?}");
    let ran = place.run_with(&["record", "s", "--no-alerts", "--keep-going"], lines.as_bytes()).code(1);
    assert!(ran.out.contains("recorded 3 calls") && !ran.err.contains("not looked at"), "{ran:?}");
}
