//! Files that were cut off, left behind or cannot be had: what is said about them is true.
#![cfg(unix)]

use crate::common::{Place, call};
use std::fs;

/// The story: `STORE.verified`, with a finding that nobody had settled, was cut to 100 bytes. `health` said "last verification none
/// noted" and ended with 0, `query` no longer warned, and the next clean verification wrote over it.
#[test]
fn a_record_of_verifications_that_cannot_be_read_does_not_count_as_none() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    let older = fs::read(place.path("s")).unwrap();
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    let newer = fs::read(place.path("s")).unwrap();
    fs::write(place.path("s"), &older).unwrap();
    place.run(&["verify", "s"]).code(1);
    fs::write(place.path("s"), &newer).unwrap();
    place.run(&["verify", "s", "--remember"]).ok();
    let whole = fs::read(place.path("s.verified")).unwrap();
    assert!(place.run(&["health", "s"]).code(1).out.contains("nobody has settled it"));
    for cut in [0, 1, 9, 100, whole.len() / 2, whole.len() - 2] {
        fs::write(place.path("s.verified"), &whole[..cut]).unwrap();
        let health = place.run(&["health", "s"]).code(1).out;
        assert!(health.contains("s.verified: it was cut off") && !health.contains("none noted"), "{cut}: {health}");
        assert!(place.run(&["query", "s", "--count"]).err.contains("s.verified: it was cut off"), "{cut}");
        let kept = place.run(&["verify", "s", "--remember"]).ok();
        assert!(!kept.is_empty());
        assert_eq!(fs::read(place.path("s.verified")).unwrap(), &whole[..cut], "a clean verification wrote over it");
        place.run(&["alerts", "settle", "s", "--actor", "a", "--disposition", "d"]).code(2);
    }
    // A finding may replace it, since it hides nothing; and so may a person.
    fs::write(place.path("s"), &older).unwrap();
    place.run(&["verify", "s"]).code(1);
    fs::write(place.path("s"), &newer).unwrap();
    assert!(place.run(&["health", "s"]).code(1).out.contains("nobody has settled it"));
    fs::remove_file(place.path("s.verified")).unwrap();
    assert!(place.run(&["health", "s"]).ok().contains("none noted"));
}

/// The story: `init` was killed between its steps. The next one said "Use it as it is", and every other command "is not an
/// attestlog store".
#[test]
fn an_interrupted_init_is_said_to_be_one() {
    let place = Place::with_store();
    // As it is after the file was made, after the database in it was, and after the key file was.
    for (database, with_key) in [(false, false), (true, false), (true, true)] {
        match database {
            true => drop(redb::Database::create(place.path("k")).unwrap()),
            false => drop(place.write("k", "")),
        }
        if with_key {
            fs::copy(place.path("s.key"), place.path("k.key")).unwrap();
        }
        let ran = place.run(&["init", "k"]).code(2);
        assert!(ran.err.contains("interrupted") && !ran.err.contains("as it is"), "{}", ran.err);
        assert_eq!(ran.err.contains("k.key"), with_key, "{}", ran.err);
        place.run(&["query", "k", "--count"]).code(3);
        // What it says to do.
        fs::remove_file(place.path("k")).unwrap();
        let _ = fs::remove_file(place.path("k.key"));
        place.run(&["init", "k"]).ok();
        let ran = place.run(&["init", "k"]).code(2);
        assert!(ran.err.contains("Use it as it is"), "{}", ran.err);
        ["k", "k.key"].iter().for_each(|name| fs::remove_file(place.path(name)).unwrap());
    }
    place.write("k", "something else");
    let ran = place.run(&["init", "k"]).code(2);
    assert!(!ran.err.contains("interrupted"), "{}", ran.err);
}

/// The story: a store with a name of 240 bytes was made, and could never be purged, be given anchors or remember a verification.
#[test]
fn a_name_that_leaves_no_room_for_the_files_beside_it_is_refused() {
    let place = Place::with_store();
    let long = "n".repeat(240);
    assert!(place.run(&["init", &long]).code(2).err.contains("at most 223 bytes"));
    assert!(place.run(&["backup", "s", &long]).code(2).err.contains("at most 223 bytes"));
    assert!(!place.path(&long).exists() && !place.path(&format!("{long}.key")).exists());
    let fits = "n".repeat(223);
    place.write("c.toml", "[[anchor]]\nfile = 'kept'\n[[receivers]]\nfile = 'told'\n");
    place.run(&["init", &fits]).ok();
    place.run(&["policy", "set", &fits, "c.toml"]).ok();
    place.run(&["verify", &fits, "--remember"]).ok();
    place.run(&["purge", &fits, "--actor", "a"]).ok();
}

/// The story: docs/anchors.md says that commands that record end with 3 if `STORE.anchors` is not accepted. If it was no TOML they
/// ended with 2, as if their input had been wrong.
#[test]
fn a_file_of_anchors_that_is_none_is_a_fault_of_the_store() {
    let place = Place::with_store();
    place.write("s.anchors", "no = [toml\n");
    std::fs::set_permissions(place.path("s.anchors"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    place.write("i", call("c", "u", "t", ""));
    for args in [&["record", "s", "i"][..], &["import", "s", "--format", "jsonl", "i"], &["checkpoint", "s"]] {
        assert!(place.run(args).code(3).err.contains("s.anchors:1:"));
    }
    place.run(&["query", "s"]).ok();
}

/// The story: a file with two public keys was given, and the first one was used without a word.
#[test]
fn a_file_with_two_public_keys_is_no_public_key() {
    let place = Place::with_store();
    let own = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    place.run(&["init", "o"]).ok();
    let other = place.run(&["keys", "show", "o"]).ok().lines().next().unwrap().to_owned();
    place.write("both.pub", format!("{own}\n{other}\n"));
    assert!(place.run(&["verify", "s", "--public-key", "both.pub"]).code(2).err.contains("more than one key"));
    place.write("own.pub", format!("{own}\n\nof the ward\n{own}\n"));
    place.run(&["verify", "s", "--public-key", "own.pub"]).ok();
}

/// Somebody who repairs the checksums of pages moved a row of the newest entries by one: the store could not be opened, and `verify` ended
/// with 3, said one line, and kept nothing.
#[test]
fn what_keeps_a_store_from_being_opened_is_a_finding() {
    use crate::store_common::tables::TAIL;
    let place = Place::with_lines(&crate::common::call("c", "u", "t", ""));
    let database = redb::Database::open(place.path("s")).unwrap();
    let txn = database.begin_write().unwrap();
    {
        use redb::ReadableTable as _;
        let mut table = txn.open_table(TAIL).unwrap();
        let (key, row) = table.last().unwrap().map(|(key, row)| (key.value(), row.value().to_vec())).unwrap();
        table.remove(key).unwrap();
        table.insert(key + 1, &*row).unwrap();
    }
    txn.commit().unwrap();
    drop(database);
    let ran = place.run(&["verify", "s", "--json"]).code(1);
    assert!(ran.out.contains(r#""kind":"file_damaged""#) && ran.out.contains("no entry was checked"), "{ran:?}");
    assert!(place.path("s.verified").exists(), "{ran:?}");
}
