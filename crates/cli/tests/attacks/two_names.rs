//! Whoever opens a store by another of its names: what lies beside the store was looked for beside that name. R99.
#![cfg(unix)]

use crate::common::{Ended, Place, call};
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

/// A store `real/s` with an anchor, a receiver and a rule that every call sets off, and a link `link/s` to it.
fn place() -> Place {
    let place = Place::empty();
    ["real", "link", "kept"].iter().for_each(|name| fs::create_dir(place.path(name)).unwrap());
    place.write(
        "c.toml",
        "[[anchor]]\nfile = 'kept/anchor'\n[[receivers]]\nfile = 'kept/told'\n[[alerts]]\nname = \"every\"\nseverity = \"critical\"\n\
         when = { kind = \"tool_call\" }\ncount = 1\nkey = [\"conversation\"]\nwindow = \"1s\"\n",
    );
    place.run(&["init", "real/s", "--config", "c.toml"]).ok();
    symlink("../real/s", place.path("link/s")).unwrap();
    symlink("link/s", place.path("twice")).unwrap();
    place
}

fn lines(place: &Place, name: &str) -> usize {
    fs::read_to_string(place.path(name)).map_or(0, |text| text.lines().count())
}

/// The story: `serve link/s` had the store open, and three critical calls were recorded by the real path, where anchors and receivers
/// are configured. Nothing was anchored, nobody was told, and every command ended with 0.
#[test]
fn a_store_opened_by_a_link_has_the_anchors_and_receivers_beside_its_file() {
    let place = place();
    for (owner, recorder) in [("link/s", "real/s"), ("real/s", "link/s"), ("twice", "link/s"), ("link/s", "twice")] {
        let (anchored, told) = (lines(&place, "kept/anchor"), lines(&place, "kept/told"));
        let mut served = Ended(place.command(&["serve", owner]).spawn().unwrap());
        served.0.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
        place.run_with(&["record", recorder], call(&format!("{owner} {recorder}"), "u", "t", "").as_bytes()).ok();
        place.run(&["anchors", "flush", recorder]).ok();
        // Nobody waits for alerts.
        let mut tries = 0..100;
        while lines(&place, "kept/told") == told && tries.next().is_some() {
            place.run(&["query", recorder, "--count"]).ok();
        }
        assert!(lines(&place, "kept/anchor") > anchored, "{owner}, {recorder}: nothing was anchored");
        assert!(lines(&place, "kept/told") > told, "{owner}, {recorder}: nobody was told");
    }
    // And without another process.
    for store in ["link/s", "twice"] {
        let (anchored, told) = (lines(&place, "kept/anchor"), lines(&place, "kept/told"));
        place.run_with(&["record", store], call(store, "u", "t", "").as_bytes()).ok();
        place.run(&["alerts", "watch", store, "--once"]).ok();
        assert!(lines(&place, "kept/anchor") > anchored && lines(&place, "kept/told") > told, "{store}");
    }
    assert_eq!(fs::read_dir(place.path("link")).unwrap().count(), 1, "something lies beside the link");
}

/// The story: a verification by the real path found a rollback, and `query` and `health` by the link said nothing of it.
#[test]
fn what_a_verification_found_is_seen_by_every_name() {
    let place = place();
    for (verified, asked) in [("real/s", "link/s"), ("link/s", "real/s")] {
        let _ = fs::remove_file(place.path("real/s.verified"));
        fs::copy(place.path("real/s"), place.path("older")).unwrap();
        place.run_with(&["record", "real/s"], call("c", "u", "t", "").as_bytes()).ok();
        let newer = fs::read(place.path("real/s")).unwrap();
        fs::write(place.path("real/s"), fs::read(place.path("older")).unwrap()).unwrap();
        place.run(&["verify", verified]).code(1);
        let said = place.run(&["query", asked, "--count"]).err;
        assert!(said.contains("which nobody has settled"), "{asked}: {said}");
        assert!(place.run(&["health", asked]).code(1).out.contains("nobody has settled"));
        fs::write(place.path("real/s"), newer).unwrap();
    }
}

/// The same with a hard link: neither name is the store's more than the other, so nothing is recorded until one is gone.
#[test]
fn a_store_with_two_names_is_read_and_not_recorded_into() {
    let place = place();
    let line = call("c", "u", "t", "");
    place.run_with(&["record", "real/s"], line.as_bytes()).ok();
    fs::hard_link(place.path("real/s"), place.path("link/second")).unwrap();
    for (first, second) in [("real/s", "link/second"), ("link/second", "real/s")] {
        for store in [first, second] {
            let ran = place.run_with(&["record", store, "--key", "real/s.key"], line.as_bytes()).code(3);
            assert!(ran.err.contains("hard links"), "{}", ran.err);
            place.run(&["query", store, "--key", "real/s.key", "--count"]).ok();
        }
    }
    assert!(place.run(&["health", "real/s"]).code(1).out.contains("hard links"));
    fs::remove_file(place.path("link/second")).unwrap();
    place.run_with(&["record", "real/s"], line.as_bytes()).ok();
}
