//! Whoever may name a file that the program writes: an anchor, a receiver, an export. R98.
#![cfg(unix)]

use crate::common::{Ended, Place, Ran, call};
use attestlog::anchor::AnchorConfig;
use attestlog::{AuditLog, ErrorKind};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const EVERY: &str = "[[alerts]]\nname = \"every\"\nseverity = \"critical\"\nwhen = { kind = \"tool_call\" }\ncount = 1\nwindow = \"1s\"\n";

/// Two stores, `s` and `o`, which both have anchors and receivers, and links to what is kept for them.
fn place() -> Place {
    let place = Place::empty();
    for store in ["s", "o"] {
        let config = format!("[[anchor]]\nfile = '{store}.kept'\n[[receivers]]\nfile = '{store}.told'\n{EVERY}");
        place.write("c.toml", config);
        place.run(&["init", store, "--config", "c.toml"]).ok();
        place.run_with(&["record", store], call("c", "u", "t", "").as_bytes()).ok();
        place.run(&["alerts", "watch", store, "--once"]).ok();
        place.run(&["verify", store, "--remember"]).ok();
        for kept in ["kept", "told", "verified", "anchors", "receivers"] {
            assert!(place.path(&format!("{store}.{kept}")).exists(), "{store}.{kept}");
        }
    }
    for (name, of) in [("ls", "s"), ("lk", "s.key"), ("lo", "o.anchors")] {
        symlink(place.path(of), place.path(name)).unwrap();
    }
    place
}

/// What is kept for a store, under its own name and others. Those of the second list have no file.
const KEPT: [&str; 19] = [
    "s",
    "s.key",
    "s.anchors",
    "s.receivers",
    "s.verified",
    "o",
    "o.key",
    "o.anchors",
    "o.receivers",
    "o.verified",
    "ls",
    "lk",
    "lo",
    "hs",
    "hk",
    "ha",
    "hr",
    "hv",
    "ho",
];
const NAMES: [&str; 5] =
    [".s.key.new", "s.anchors.new", "s.verified.part-1", "o.purge-00112233", "0123456789abcdef0123456789abcdef.sock"];
const HARD: [(&str, &str); 6] = [
    ("hs", "s"),
    ("hk", "s.key"),
    ("ha", "s.anchors"),
    ("hr", "s.receivers"),
    ("hv", "s.verified"),
    ("ho", "o.receivers"),
];

fn with_hard_links(place: &Place, work: impl FnOnce()) {
    HARD.iter().for_each(|(name, of)| fs::hard_link(place.path(of), place.path(name)).unwrap());
    work();
    HARD.iter().for_each(|(name, _)| fs::remove_file(place.path(name)).unwrap());
}

fn contents(place: &Place) -> Vec<Vec<u8>> {
    KEPT.iter().filter(|name| !name.starts_with('h')).map(|name| fs::read(place.path(name)).unwrap()).collect()
}

fn refused(ran: Ran, what: &str) {
    assert!(ran.code == 2 && ran.err.contains("choose another name"), "{what}: {} {}{}", ran.code, ran.out, ran.err);
}

/// The story: `[[anchor]] file = ".../s.key"` was accepted, and so was a receiver with the store itself as its file. The next
/// checkpoint or alert was appended to it, and from then on every command ended with 3: the key file was damaged for good.
#[test]
fn no_anchor_and_no_receiver_is_a_file_that_is_kept_for_a_store() {
    let place = place();
    let before = contents(&place);
    with_hard_links(&place, || {
        for name in KEPT.iter().chain(&NAMES) {
            let file = place.path(name);
            place.write("n.toml", format!("[[anchor]]\nfile = '{}'\n", file.display()));
            refused(place.run(&["anchors", "set", "s", "n.toml"]), name);
            refused(place.run(&["policy", "set", "s", "n.toml"]), name);
            place.write("n.toml", format!("[[receivers]]\nfile = '{}'\n", file.display()));
            refused(place.run(&["policy", "set", "s", "n.toml"]), name);
            for own in ["anchor", "receivers"] {
                place.write("n.toml", format!("[[{own}]]\nfile = '{}'\n", file.display()));
                refused(place.run(&["init", "new", "--config", "n.toml"]), name);
                assert!(!place.path("new").exists() && !place.path("new.key").exists());
            }
        }
    });
    // A store that does not exist yet.
    for (name, own) in ["new", "new.key", "new.anchors", "new.receivers", "new.verified", "elsewhere.key"]
        .iter()
        .flat_map(|name| ["anchor", "receivers"].map(|own| (name, own)))
    {
        place.write("n.toml", format!("[[{own}]]\nfile = '{}'\n", place.path(name).display()));
        let key = if *name == "elsewhere.key" { "elsewhere.key" } else { "new.key" };
        refused(place.run(&["init", "new", "--key", key, "--config", "n.toml"]), name);
        assert!(!place.path("new").exists() && !place.path(key).exists());
    }
    // One file for both, in one configuration and in two.
    place.write("n.toml", "[[anchor]]\nfile = 'one'\n[[receivers]]\nfile = 'one'\n");
    assert!(place.run(&["policy", "set", "s", "n.toml"]).code(2).err.contains("at once"));
    place.write("n.toml", "[[anchor]]\nfile = 's.told'\n");
    place.run(&["anchors", "set", "s", "n.toml"]).code(2);
    place.write("n.toml", "[[receivers]]\nfile = 's.kept'\n");
    place.run(&["policy", "set", "s", "n.toml"]).code(2);
    place.write("n.toml", "[[anchor]]\nfile = 'o.told'\n");
    refused(place.run(&["anchors", "set", "s", "n.toml"]), "another store's alerts");
    assert_eq!(contents(&place), before, "something was written");
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    place.run(&["verify", "s"]).ok();
    place.run(&["verify", "o"]).ok();
}

/// The story: who writes `STORE.anchors` or `STORE.receivers` by hand, or puts a link where an anchor's file was, is asked nothing.
/// Nor were programs that set anchors through the process that has the store open.
#[test]
fn what_is_kept_is_looked_at_again_before_anything_is_written() {
    let place = place();
    let (store, key) = (place.path("s"), place.path("s.key"));
    for file in [&key, &store, &place.path("o.key"), &place.path("o")] {
        let anchors = place.write("s.anchors", format!("[[anchor]]\nfile = '{}'\n", file.display()));
        let receivers = place.write("s.receivers", format!("[[receivers]]\nfile = '{}'\n", file.display()));
        [anchors, receivers]
            .iter()
            .for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap());
        for _ in 0..2 {
            let ran = place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).code(0);
            assert!(ran.err.contains("choose another name"), "{}", ran.err);
        }
        // A command that hands checkpoints over says that it could not.
        place.run(&["anchors", "flush", "s"]).code(1);
    }
    place.run(&["verify", "s"]).ok();
    place.run(&["verify", "o"]).ok();
    place.run(&["anchors", "set", "s", "--none"]).ok();
    fs::remove_file(place.path("s.receivers")).unwrap();
    let mut owner = Ended(place.command(&["serve", "s"]).spawn().unwrap());
    owner.0.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
    let log = AuditLog::open(&store).unwrap();
    assert!(!log.is_owner());
    let anchors = AnchorConfig::from_toml(&format!("[[anchor]]\nfile = '{}'\n", key.display()), "n").unwrap();
    assert_eq!(log.anchors().set_configured(&anchors).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// The story: `export -o` over another store's key file, `STORE.verified` with a finding, the anchor file: all ended with 0, and what
/// had been there was gone.
#[test]
fn nothing_else_that_is_written_takes_the_place_of_what_is_kept() {
    let place = place();
    let before = contents(&place);
    let output = |name: &str| refused(place.run(&["export", "s", "--format", "csv", "-o", name]), name);
    with_hard_links(&place, || {
        KEPT.iter().chain(&NAMES).chain(&["s.kept", "o.kept", "s.told"]).for_each(|name| output(name));
    });
    // Names without a file: what is made there would be read as something else.
    fs::remove_file(place.path("o.verified")).unwrap();
    for name in NAMES.iter().chain(&["o.verified"]) {
        refused(place.run(&["backup", "s", name]), name);
        refused(place.run(&["evidence", "s", name]), name);
        refused(place.run(&["restore", "s", name, "--actor", "a", "--reason", "r"]), name);
        refused(place.run(&["init", name]), name);
        refused(place.run(&["demo", "--dir", name]), name);
        if !name.ends_with(".key.new") {
            refused(place.run(&["keys", "backup", "s", name]), name);
        }
        assert!(fs::symlink_metadata(place.path(name)).is_err(), "{name}");
    }
    place.run(&["verify", "o", "--remember"]).ok();
    let (after, mine) = (contents(&place), ["s", "ls", "o.verified"]);
    let differ = KEPT.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
    let differ: Vec<_> = differ.map(|(name, _)| *name).filter(|name| !mine.contains(name)).collect();
    assert!(differ.is_empty(), "{differ:?}");
    // Only `evidence` wrote there, a checkpoint.
    place.run(&["verify", "s"]).ok();
    // What it is for goes on.
    place.run(&["export", "s", "--format", "csv", "-o", "out.csv"]).ok();
    place.run(&["export", "s", "--format", "csv", "-o", "out.csv"]).ok();
    fs::rename(place.path("s.key"), place.path("away")).unwrap();
    place.run(&["keys", "backup", "s", "s.key", "--key", "away"]).ok();
    assert!(Path::new(&place.path("s.key")).exists());
}
