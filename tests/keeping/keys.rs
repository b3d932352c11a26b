//! Promise: keys are kept beside the store, readable by nobody else, survive a crash, and are never shown.

use attestlog::keys::{
    InForce, KeyFile, KeyId, MAX_KEY_FILE_BYTES, MAX_KEYS, MAX_ROTATIONS, Mark, Passphrase, Settled,
};
use attestlog::note::{Succession, binds};
use attestlog::{Error, ErrorKind, Hash};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use std::path::Path;

/// A deterministic source of bytes that differ from call to call.
fn source(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut n = seed << 32;
    move |out| {
        for chunk in out.chunks_mut(32) {
            chunk.copy_from_slice(&Hash::of(&n.to_be_bytes()).0[..chunk.len()]);
            n += 1;
        }
    }
}

fn generate(seed: u64) -> KeyFile {
    KeyFile::generate("example.com/ward-3", &mut source(seed)).unwrap()
}

fn text(keys: &KeyFile) -> String {
    keys.to_text(&mut source(99)).unwrap().to_string()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned()).unwrap()
}

fn kind<T>(result: Result<T, Error>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(e) => (e.kind(), e.to_string()),
    }
}

fn root(n: u64) -> Hash {
    Hash::of(&n.to_be_bytes())
}

/// The roots of a log whose root at any size is [`root`].
fn roots(size: u64) -> Result<Hash, Error> {
    Ok(root(size))
}

/// Adds the right checksum to edited lines.
fn resum(body: &str) -> String {
    format!("{body}checksum {}\n", Hash::of(body.as_bytes()))
}

fn body(keys: &KeyFile) -> String {
    let text = text(keys);
    text[..text.find("checksum").unwrap()].to_owned()
}

#[test]
fn a_new_log_has_all_its_keys() {
    let keys = generate(1);
    assert!(binds(keys.origin(), keys.epoch_key().verifier().public()));
    assert_eq!(keys.log_key().verifier().name(), keys.origin());
    assert_eq!(keys.epoch_key().verifier().name(), format!("{}/epoch-0", keys.origin()));
    assert_eq!((keys.epoch(), keys.mark(), keys.has_passphrase()), (0, None, false));
    assert_eq!((keys.pseudonym_keys().count(), keys.master_keys().count()), (1, 1));
    let mut secrets = vec![*keys.digest_key()];
    secrets.extend(keys.pseudonym_keys().chain(keys.master_keys()).map(|k| *k.bytes()));
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 3);
    assert_eq!(text(&generate(1)), text(&keys), "the same randomness gives the same keys");
    assert_ne!(text(&generate(2)), text(&keys));
    for name in ["", "a b", "a+b", "a\nb"] {
        assert_eq!(kind(KeyFile::generate(name, &mut source(1))).0, ErrorKind::InvalidInput);
    }
}

#[test]
fn a_file_reads_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.key");
    let mut keys = generate(3);
    keys.create(&path, &mut source(4)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text(&keys));
    keys.rotate_pseudonym_key(&mut source(5)).unwrap();
    keys.add_master_key(&mut source(6)).unwrap();
    keys.sign_checkpoint(7, NOTHING, &roots).unwrap();
    keys.begin_rotation(7, NOTHING, &roots, &mut source(7)).unwrap();
    keys.save(&path, &mut source(8)).unwrap();
    let read = KeyFile::load(&path, None).unwrap();
    assert_eq!(text(&read), text(&keys));
    assert_eq!(read.mark(), Some(Mark { size: 7, root: root(7), in_force: NOTHING }));
    let ids = |keys: &KeyFile| keys.pseudonym_keys().chain(keys.master_keys()).map(|k| k.id()).collect::<Vec<KeyId>>();
    assert_eq!(ids(&read), ids(&keys));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left lying about");

    let copy = dir.path().join("copy.key");
    read.backup(&copy, &mut source(9)).unwrap();
    assert_eq!(text(&KeyFile::load(&copy, None).unwrap()), text(&keys));
    assert_eq!(kind(read.backup(&copy, &mut source(9))).0, ErrorKind::AlreadyExists);
}

#[test]
fn the_signatures_are_those_of_the_log_and_its_epoch() {
    let mut keys = generate(3);
    let signed = keys.sign_checkpoint(5, NOTHING, &roots).unwrap();
    signed.verify(&keys.verifier()).unwrap();
    let mut epochs = Succession::new(keys.origin(), keys.epoch_key().verifier().public()).unwrap();
    assert_eq!(epochs.check(&signed), Ok(0));

    let rotation = keys.begin_rotation(5, NOTHING, &roots, &mut source(7)).unwrap();
    assert_eq!(keys.epoch(), 0);
    assert_eq!(
        kind(keys.sign_checkpoint(6, NOTHING, &roots)).0,
        ErrorKind::Conflict,
        "whose turn it is shows when it settles"
    );
    assert_eq!(kind(keys.begin_rotation(5, NOTHING, &roots, &mut source(8))).0, ErrorKind::Conflict);
    let (number, public) = (rotation.number, rotation.public);
    epochs.push(rotation).unwrap();
    assert_eq!(keys.settle_rotation(number, &public, 6, &roots).unwrap(), Settled::Completed);
    assert_eq!(keys.settle_rotation(number, &public, 6, &roots).unwrap(), Settled::Unchanged);
    let signed = keys.sign_checkpoint(6, NOTHING, &roots).unwrap();
    signed.verify(&keys.verifier()).unwrap();
    assert_eq!(epochs.check(&signed), Ok(1));
}

/// The process dies between any two steps of a rotation; the key file on disk then still matches the store.
#[test]
fn a_rotation_survives_a_crash_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.key");
    let mut keys = generate(3);
    keys.create(&path, &mut source(4)).unwrap();
    let old = *keys.epoch_key().verifier().public();
    let old_line = body(&keys).lines().find(|l| l.starts_with("epoch 0 ")).unwrap()[8..].to_owned();

    // Before the save: the file knows nothing about it.
    keys.begin_rotation(5, NOTHING, &roots, &mut source(6)).unwrap();
    let mut keys = KeyFile::load(&path, None).unwrap();
    assert_eq!(keys.settle_rotation(0, &old, 5, &roots).unwrap(), Settled::Unchanged);

    // After the save, before the store has the entry: the old key remains in use.
    keys.begin_rotation(5, NOTHING, &roots, &mut source(7)).unwrap();
    keys.save(&path, &mut source(8)).unwrap();
    let mut keys = KeyFile::load(&path, None).unwrap();
    // An older copy of the store, opened by mistake, must not destroy the key that the newest one may need.
    assert_eq!(kind(keys.settle_rotation(0, &old, 4, &roots)).0, ErrorKind::OtherHistory);
    assert_eq!(keys.settle_rotation(0, &old, 5, &roots).unwrap(), Settled::Abandoned);
    keys.save(&path, &mut source(9)).unwrap();

    // After the store has the entry, before the second save: the new key takes over at the next opening.
    let rotation = keys.begin_rotation(6, NOTHING, &roots, &mut source(10)).unwrap();
    keys.save(&path, &mut source(11)).unwrap();
    let mut keys = KeyFile::load(&path, None).unwrap();
    assert_eq!(keys.settle_rotation(1, &rotation.public, 7, &roots).unwrap(), Settled::Completed);
    keys.save(&path, &mut source(12)).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains(&old_line), "the old key is gone from the file");
    let mut keys = KeyFile::load(&path, None).unwrap();
    assert_eq!((keys.epoch(), *keys.epoch_key().verifier().public()), (1, rotation.public));

    // A key file that does not match the store is refused with a message.
    for (number, public) in [(0, old), (2, rotation.public), (1, old)] {
        let (kind, message) = kind(keys.settle_rotation(number, &public, 7, &roots));
        assert_eq!(kind, ErrorKind::Key);
        assert!(message.contains("bring back"), "{message}");
    }
}

/// When a secret is destroyed, replacing the file is not enough: the old bytes are overwritten.
#[cfg(unix)]
#[test]
fn destroyed_keys_are_overwritten() {
    use std::io::{Read, Seek};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.key");
    let mut keys = generate(3);
    keys.add_master_key(&mut source(5)).unwrap();
    keys.create(&path, &mut source(4)).unwrap();
    let read = |file: &mut std::fs::File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    // An open handle on the replaced file shows what the disk still holds of it.
    let mut held = std::fs::File::open(&path).unwrap();
    keys.raise_mark(1, NOTHING, &roots).unwrap();
    keys.save(&path, &mut source(6)).unwrap();
    assert!(read(&mut held).starts_with(b"attestlog-key"), "nothing was destroyed yet");
    let mut held = std::fs::File::open(&path).unwrap();
    keys.retire_master_keys();
    keys.save(&path, &mut source(7)).unwrap();
    assert!(read(&mut held).iter().all(|&b| b == 0));
    assert_eq!(KeyFile::load(&path, None).unwrap().master_keys().count(), 1);

    // A hard link is a copy that somebody made on purpose.
    let link = dir.path().join("link.key");
    std::fs::hard_link(&path, &link).unwrap();
    keys.add_master_key(&mut source(8)).unwrap();
    keys.retire_master_keys();
    keys.save(&path, &mut source(9)).unwrap();
    assert!(KeyFile::load(&link, None).is_ok());
}

#[test]
fn keys_rotate_and_old_ones_are_found() {
    let mut keys = generate(3);
    let (first, master) = (keys.pseudonym_keys().next().unwrap().id(), keys.master_keys().next().unwrap().id());
    let second = keys.rotate_pseudonym_key(&mut source(5)).unwrap();
    assert_eq!(keys.pseudonym_keys().map(|k| k.id()).collect::<Vec<_>>(), [second, first]);
    assert_eq!(second.to_string().parse::<KeyId>().unwrap(), second);
    assert!("0123456".parse::<KeyId>().is_err());
    // The same key again would have the same id.
    assert_eq!(kind(keys.rotate_pseudonym_key(&mut source(5))).0, ErrorKind::Conflict);

    let newer = keys.add_master_key(&mut source(6)).unwrap();
    assert_eq!(keys.master_keys().map(|k| k.id()).collect::<Vec<_>>(), [newer, master]);
    assert!(keys.master_key(master).is_some());
    keys.retire_master_keys();
    assert!(keys.master_key(master).is_none() && keys.master_key(newer).is_some());

    let mut random = source(7);
    while keys.pseudonym_keys().count() < MAX_KEYS {
        keys.rotate_pseudonym_key(&mut random).unwrap();
    }
    while keys.master_keys().count() < MAX_KEYS {
        keys.add_master_key(&mut random).unwrap();
    }
    assert_eq!(kind(keys.rotate_pseudonym_key(&mut random)).0, ErrorKind::TooLarge);
    keys.set_passphrase(Some(&passphrase("p")), &mut random).unwrap();
    let full = text(&keys);
    assert!(full.len() < MAX_KEY_FILE_BYTES);
    assert!(KeyFile::parse(full.as_bytes(), Some(&passphrase("p"))).is_ok(), "the largest file there can be is read");
}

#[test]
fn the_mark_never_goes_back() {
    let mut keys = generate(3);
    keys.sign_checkpoint(5, NOTHING, &roots).unwrap();
    keys.sign_checkpoint(5, NOTHING, &roots).unwrap();
    let (kind_older, message) = kind(keys.sign_checkpoint(4, NOTHING, &roots));
    assert_eq!(kind_older, ErrorKind::OtherHistory);
    assert!(message.contains("older copy"), "{message}");
    assert_eq!(kind(keys.sign_checkpoint(5, NOTHING, &|_| Ok(root(6)))).0, ErrorKind::OtherHistory);
    assert_eq!(keys.mark(), Some(Mark { size: 5, root: root(5), in_force: NOTHING }));
    keys.raise_mark(9, NOTHING, &roots).unwrap();
    assert_eq!(kind(keys.raise_mark(8, NOTHING, &roots)).0, ErrorKind::OtherHistory);
}

#[test]
fn a_passphrase_protects_the_file() {
    let mut keys = generate(3);
    let plain = text(&keys);
    let right = passphrase("correct horse");
    keys.set_passphrase(Some(&right), &mut source(5)).unwrap();
    let wrapped = text(&keys);
    for line in plain.lines().skip(1) {
        assert!(!wrapped.contains(line.rsplit(' ').next().unwrap()), "{line} shows");
    }
    let mut other_nonce = source(6);
    assert_ne!(*keys.to_text(&mut other_nonce).unwrap(), wrapped, "each save has its own nonce");
    let read = KeyFile::parse(wrapped.as_bytes(), Some(&right)).unwrap();
    assert!(read.has_passphrase());
    assert_eq!(text(&read), wrapped);
    let (kind_none, message) = kind(KeyFile::parse(wrapped.as_bytes(), None));
    assert_eq!((kind_none, message.contains("passphrase")), (ErrorKind::Key, true));
    let (kind_wrong, message) = kind(KeyFile::parse(wrapped.as_bytes(), Some(&passphrase("correct hors"))));
    assert_eq!((kind_wrong, message.contains("wrong passphrase")), (ErrorKind::Key, true));
    assert_eq!(kind(Passphrase::new(String::new())).0, ErrorKind::InvalidInput);
    keys.set_passphrase(None, &mut source(5)).unwrap();
    assert_eq!(text(&keys), plain);
    // What a key file can cost its reader is limited before anything is derived.
    for (from, to) in [
        ("argon2id 65536 3 1", "argon2id 4294967295 3 1"),
        ("argon2id 65536 3 1", "argon2id 65536 1000000 1"),
        ("argon2id 65536 3 1", "argon2id 65536 3 16777215"),
        ("argon2id 65536 3 1", "argon2id 0 3 1"),
        ("argon2id 65536 3 1", "argon2id 65536 3 0"),
        ("argon2id 65536 3 1", "argon2i 65536 3 1"),
        ("argon2id 65536 3 1 ", "argon2id 65536 3 1 x"),
        ("xchacha20poly1305 ", "xchacha20poly1305 AAAA"),
    ] {
        let edited = wrapped.replace(from, to);
        assert_ne!(edited, wrapped);
        let (kind, message) = kind(KeyFile::parse(edited.as_bytes(), Some(&right)));
        assert_eq!(kind, ErrorKind::Key);
        assert!(message.contains("line"), "{message}");
    }
    // The cost and salt are authenticated too.
    let edited = wrapped.replace("argon2id 65536 3 1", "argon2id 65536 2 1");
    assert_eq!(kind(KeyFile::parse(edited.as_bytes(), Some(&right))).0, ErrorKind::Key);
}

/// The state of a log in which nothing is in force.
const NOTHING: InForce = InForce { all: Hash::ZERO, standing: Hash::ZERO };

/// A file written by version 1. As long as the format is version 1, it must stay readable and be written in the same
/// way.
const GOLDEN: &str = "attestlog-key v1
origin example.com/ward-3/34750f98bd59fcfc946da45aaabe933b
log AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
epoch 0 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
digest AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
pseudonym BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=
master BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=
mark 7 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFUICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ
checksum 7601d2e5f3f5f545328d972ee9f6076d5367e55d62a1c0bfd301805a04374701
";

/// The same under the passphrase "golden".
const GOLDEN_WRAPPED: &str = "attestlog-key v1 wrapped
argon2id 65536 3 1 BgYGBgYGBgYGBgYGBgYGBg==
xchacha20poly1305 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH
5Se2UDs447af0754hvp0yCUohq3aTPOLdwL7E05qaL82H8x9d+MZt6m7HZvTjumPgCnyMUjaC0FTuOxp4tt+VkP0raNDtc+onniKs44LiXKV7MIeqd6iyvnc4yIEQHBo8MnQaXnNPXEbHdY0Eyf0f6LMztIsxFobIMfqCyLe4reKyBZFom7FvS/fMkWI0nmEx6L6BAiPNnuV+ebK4BzwVX3w10lIItT10S5QbzfDgszEKUbxiZTH2sZqcK8VZF3l4qQ2QLh1nSTgrwVscCoxnv8uc16MgNXDsJOjI2ZEwpcmClEjt2fZkFA7Yx3Ks6PKHt5cq2wMDDpxhc8G8hcGCTRkkMV5Jw2w/+dO1I4qQcYnAfbhecQlEu3Y+6Rypwv5nNsCwDHY+Hymf+rG7+oSx5l5QjlmWakWUVh86uUUIL2y9cKA5VMPUrlPvAEckR/SYIkxpCA6gEOLtM0AsIKZtUpqI/VaCPvK7vWnUYCbjJ7ejRt0ejugyM7aDxh9Fwfvbw1OTKumpFd6Yue5Ktv1QhOKQb7vvRNTx9xGKE+taGbXQ7h5QrItgqmF1PaZHXifWR0hEpncGhOHN9z5fqrYGrQDYCkMAj3bQEqh00JsnvedbVIacFS4dflJjWKklX9xnZsCzduRaYvGpvHZZ6E5Ml81yAcHsnyvKTY5CcOyI4Q0YaRqt0e05BggWGhvD3ITQ9vGW+9JyOU5VhU/blZbD1Qm1H6+2zB1OQFHFGd3hH1+Ni8=
";

#[test]
fn version_1_stays_readable() {
    let keys = KeyFile::parse(GOLDEN.as_bytes(), None).unwrap();
    assert_eq!(text(&keys), GOLDEN);
    let verifier =
        "example.com/ward-3/34750f98bd59fcfc946da45aaabe933b+005e2e69+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
    assert_eq!(keys.verifier().to_string(), verifier);
    assert_eq!(keys.pseudonym_keys().next().unwrap().id().to_string(), "92773b52");
    assert_eq!(keys.master_keys().next().unwrap().id().to_string(), "944f174e");
    let mut wrapped = KeyFile::parse(GOLDEN_WRAPPED.as_bytes(), Some(&passphrase("golden"))).unwrap();
    assert_eq!(*wrapped.to_text(&mut |nonce| nonce.fill(7)).unwrap(), GOLDEN_WRAPPED);
    wrapped.set_passphrase(None, &mut source(1)).unwrap();
    assert_eq!(text(&wrapped), GOLDEN);
}

/// R54: the file keeps how the newest epochs were handed over, for older copies of the store, and does not grow without
/// limit. A rotation that was begun and abandoned is forgotten.
#[test]
fn a_file_keeps_how_its_newest_epochs_began() {
    let mut keys = generate(5);
    for n in 0..MAX_ROTATIONS as u64 + 6 {
        let rotation = keys.begin_rotation(n + 1, NOTHING, &roots, &mut source(n + 50)).unwrap();
        assert_eq!(
            text(&KeyFile::parse(text(&keys).as_bytes(), None).unwrap()),
            text(&keys),
            "one under way is there too"
        );
        keys.settle_rotation(rotation.number, &rotation.public, n + 2, &roots).unwrap();
    }
    let whole = text(&keys);
    let lines: Vec<&str> = whole.lines().filter(|line| line.starts_with("rotation ")).collect();
    assert_eq!(lines.len(), MAX_ROTATIONS);
    assert!(lines[0].starts_with("rotation 7 7 ") && lines[MAX_ROTATIONS - 1].starts_with("rotation 70 70 "));
    assert_eq!(text(&KeyFile::parse(whole.as_bytes(), None).unwrap()), whole);

    let public = *keys.epoch_key().verifier().public();
    keys.begin_rotation(90, NOTHING, &roots, &mut source(9)).unwrap();
    keys.settle_rotation(70, &public, 91, &roots).unwrap();
    assert!(text(&keys).lines().filter(|line| line.starts_with("rotation ")).all(|line| lines.contains(&line)));

    let body = body(&keys);
    let last = lines[MAX_ROTATIONS - 1];
    for edited in [
        body.replace(&format!("{last}\n"), ""),
        body.replace(last, &last[..last.len() - 4]),
        body.replace("rotation 30 30 ", "rotation 31 30 "),
        body.replace("rotation 30 30 ", "rotation 30 030 "),
        body.replace(last, &format!("{last}\n{last}")),
    ] {
        let (kind, message) = kind(KeyFile::parse(resum(&edited).as_bytes(), None));
        assert!(kind == ErrorKind::Key && message.contains("rotation"), "{message}");
    }
}

#[test]
fn damaged_files_are_refused_with_the_place() {
    let mut keys = generate(3);
    keys.sign_checkpoint(5, NOTHING, &roots).unwrap();
    let whole = text(&keys);
    let body = body(&keys);
    assert_eq!(resum(&body), whole);
    let secret = body.lines().find(|l| l.starts_with("digest ")).unwrap().to_owned();
    let cases = [
        (whole.trim_end().to_owned(), "its end"),
        (whole.replace("mark 5", "mark 6"), "its checksum"),
        (whole[..whole.len() / 2].to_owned() + "\n", "its checksum"),
        (resum(&body.replace("mark 5", "mark 05")), "mark"),
        (resum(&body.replace("mark 5", "mark 18446744073709551616")), "mark"),
        (resum(&body.replace("epoch 0", "epoch 4294967296")), "epoch"),
        (resum(&body.replace("epoch 0 ", "epoch 0 x")), "epoch"),
        (resum(&body.replace("origin example", "origin an example")), "origin"),
        (resum(&body.replace("origin example.com/ward-3/", "origin example.com/ward-3/0")), "not bound to epoch 0"),
        (resum(&body.replace(&format!("{secret}\n"), "")), "digest"),
        (resum(&body.replace(&secret, &format!("{secret}\n{secret}"))), "pseudonym"),
        (resum(&body.replace(&secret, "digest AAAA")), "digest"),
        (resum(&body.replace("mark", "remark")), "a line that does not belong there"),
        (resum(&format!("{body}more\n")), "a line that does not belong there"),
        (resum(&body.replace(&secret, &format!("next-epoch 2 {}\n{secret}", &secret[7..]))), "next-epoch"),
        (resum(&body.replace("pseudonym ", "pseudonim ")), "pseudonym"),
        (resum(&body.replace("master ", "master  ")), "master"),
        (resum(&body.replace('\n', "\r\n")), "not an attestlog key file"),
    ];
    for (file, want) in cases {
        let (kind, message) = kind(KeyFile::parse(file.as_bytes(), None));
        assert_eq!(kind, ErrorKind::Key, "{message}");
        assert!(message.contains(want), "{message:?} does not say {want:?}");
    }
    let newer = whole.replace("attestlog-key v1", "attestlog-key v12");
    assert_eq!(kind(KeyFile::parse(newer.as_bytes(), None)).0, ErrorKind::NewerFormat);
    assert!(kind(KeyFile::parse(b"", None)).1.contains("not an attestlog key file"));
    assert!(kind(KeyFile::parse(&[b'x'; MAX_KEY_FILE_BYTES + 1], None)).1.contains("more than"));
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_file_is_private_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.key");
        let mut keys = generate(3);
        keys.create(&path, &mut source(4)).unwrap();
        assert_eq!(mode(&path), 0o600);
        keys.save(&path, &mut source(4)).unwrap();
        assert_eq!(mode(&path), 0o600);
        let copy = dir.path().join("copy.key");
        keys.backup(&copy, &mut source(4)).unwrap();
        assert_eq!(mode(&copy), 0o600);
        for open in [0o640, 0o604, 0o620, 0o610, 0o666, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            for result in [KeyFile::load(&path, None).map(drop), keys.save(&path, &mut source(4))] {
                let (kind, message) = kind(result);
                assert_eq!(kind, ErrorKind::Key);
                assert!(message.contains("chmod 600") && message.contains("store.key"), "{message}");
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        KeyFile::load(&path, None).unwrap();
    }

    #[test]
    fn nothing_is_overwritten_or_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link, gone) = (dir.path().join("real"), dir.path().join("link"), dir.path().join("gone"));
        let mut keys = generate(3);
        keys.create(&real, &mut source(4)).unwrap();
        let before = fs::read(&real).unwrap();
        symlink(&real, &link).unwrap();
        let dangling = dir.path().join("dangling");
        symlink(&gone, &dangling).unwrap();
        for taken in [&real, &link, &dangling, &dir.path().to_path_buf()] {
            assert_eq!(kind(generate(9).create(taken, &mut source(4))).0, ErrorKind::AlreadyExists);
        }
        assert!(!gone.exists());
        assert_eq!(fs::read(&real).unwrap(), before);
        for (path, want) in [
            (link.as_path(), "symbolic link"),
            (&dangling, "symbolic link"),
            (dir.path(), "not a regular file"),
            (&gone, "bring it back from its backup"),
            (Path::new("/dev/zero"), "not a regular file"),
        ] {
            for result in [KeyFile::load(path, None).map(drop), keys.save(path, &mut source(4))] {
                let (kind, message) = kind(result);
                assert_eq!(kind, ErrorKind::Key, "{message}");
                assert!(message.contains(want), "{message:?} does not say {want:?}");
            }
        }
        let huge = dir.path().join("huge");
        fs::write(&huge, vec![b'x'; MAX_KEY_FILE_BYTES + 1]).unwrap();
        fs::set_permissions(&huge, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(kind(KeyFile::load(&huge, None)).1.contains("not a key file"));
        let nowhere = dir.path().join("no/such/dir/key");
        assert_eq!(kind(keys.create(&nowhere, &mut source(4))).0, ErrorKind::NotFound);
    }

    /// A crash between writing and renaming leaves a second file; the next save works despite it, whether it is a link
    /// or not.
    #[test]
    fn a_left_over_file_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.key");
        let mut keys = generate(3);
        keys.create(&path, &mut source(4)).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let left = dir.path().join(".store.key.new");
        symlink(&victim, &left).unwrap();
        keys.raise_mark(1, NOTHING, &roots).unwrap();
        keys.save(&path, &mut source(5)).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(!left.exists());
        assert!(KeyFile::load(&path, None).unwrap().mark().is_some());
        // If it cannot be removed, that is an error, and the keys stay as they were.
        fs::create_dir(&left).unwrap();
        let before = fs::read(&path).unwrap();
        keys.raise_mark(2, NOTHING, &roots).unwrap();
        assert!(keys.save(&path, &mut source(5)).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

/// Every way in which a secret could be written in a text.
fn spellings(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let list = format!("{secret:?}");
    let base64 = STANDARD.encode(secret);
    // A part counts like the whole.
    vec![hex[..12].to_owned(), hex.to_uppercase()[..12].to_owned(), list[1..20].to_owned(), base64[..12].to_owned()]
}

/// All secrets in a plain key file, as bytes.
fn secrets(plain: &str) -> Vec<Vec<u8>> {
    let lines = plain
        .lines()
        .filter(|l| !["origin", "mark", "rotation", "checksum", "attestlog-key"].iter().any(|p| l.starts_with(p)));
    lines.map(|l| STANDARD.decode(l.rsplit(' ').next().unwrap()).unwrap()).collect()
}

#[test]
fn no_secret_shows_in_debug() {
    let mut keys = generate(3);
    keys.sign_checkpoint(5, NOTHING, &roots).unwrap();
    keys.begin_rotation(5, NOTHING, &roots, &mut source(6)).unwrap();
    let secrets = secrets(&text(&keys));
    assert_eq!(secrets.len(), 6);
    keys.set_passphrase(Some(&passphrase("correct horse")), &mut source(5)).unwrap();
    let named: Vec<_> = keys.pseudonym_keys().chain(keys.master_keys()).collect();
    let shown = format!(
        "{keys:?} {keys:#?} {named:?} {:?} {:?} {:?}",
        keys.log_key(),
        keys.epoch_key(),
        passphrase("correct horse")
    );
    assert!(!shown.contains("horse"));
    for spelling in secrets.iter().flat_map(|s| spellings(s)) {
        assert!(!shown.contains(&spelling), "{spelling} shows in {shown}");
    }
}

proptest! {
    /// Arbitrary bytes are refused with a reason.
    #[test]
    fn arbitrary_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), lines in "(attestlog-key v1( wrapped)?\n)?[ -~\n]{0,300}") {
        for input in [&bytes[..], lines.as_bytes()] {
            let (_, message) = kind(KeyFile::parse(input, Some(&passphrase("x"))));
            prop_assert!(!message.is_empty());
        }
    }

    /// A file that was changed is refused, and the error reveals nothing about it.
    #[test]
    fn altered_files_are_refused_without_a_word_of_them(
        seed in 0u64..1000, change in 0u8..5, at: prop::sample::Index, byte: u8, resummed: bool,
    ) {
        let mut keys = generate(seed);
        keys.sign_checkpoint(5, NOTHING, &roots).unwrap();
        let good = if resummed { body(&keys) } else { text(&keys) };
        let secrets = secrets(&text(&keys));
        let mut bad = good.clone().into_bytes();
        let i = at.index(bad.len());
        match change {
            0 => bad[i] ^= byte.max(1),
            1 => drop(bad.remove(i)),
            2 => bad.insert(i, byte),
            3 => bad.extend_from_slice(&good.as_bytes()[i..]),
            _ => bad.truncate(i),
        }
        if resummed {
            // With the right checksum, so that the checks after it are reached.
            bad.extend_from_slice(format!("checksum {}\n", Hash::of(&bad)).as_bytes());
        }
        match KeyFile::parse(&bad, None) {
            // A different key in the same form is simply another key: with the right checksum nobody can tell.
            Ok(read) => {
                let again = read.to_text(&mut source(1)).unwrap();
                prop_assert!(resummed);
                prop_assert_eq!(again.as_bytes(), &bad[..]);
            }
            Err(e) => {
                let shown = format!("{e} {e:?}");
                for spelling in secrets.iter().flat_map(|s| spellings(s)) {
                    prop_assert!(!shown.contains(&spelling), "{} shows in {}", spelling, shown);
                }
            }
        }
    }
}

/// A configuration run that replaces a folder removes the key file for a moment. The recorder beside it stops, as it
/// must (R61). It told its operator to restore a backup or to name the file, which does not help, and did not say that
/// recording resumes by itself.
#[test]
fn a_key_file_that_is_missing_for_a_moment_stops_recording_only_until_it_is_back() {
    use attestlog::verify::VerifyOptions;
    use attestlog::{AuditLog, ToolCall};
    let dir = tempfile::tempdir().unwrap();
    let (store, key, away) = (dir.path().join("s"), dir.path().join("s.key"), dir.path().join("away"));
    let log = AuditLog::create(&store).unwrap();
    let record = || log.record(ToolCall::new("c", "u", "t"));
    record().unwrap();
    for _ in 0..2 {
        std::fs::rename(&key, &away).unwrap();
        // What is recorded stays so; nothing is added.
        let kinds = [(record().map(drop), ErrorKind::Key), (log.checkpoint().map(drop), ErrorKind::Recorded)];
        for (refused, kind) in kinds.into_iter().chain([(log.keys().rotate_epoch_key(), ErrorKind::Key)]) {
            let e = refused.unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
        }
        let e = record().unwrap_err().to_string();
        assert!(e.contains("put it back there") && e.contains("continues by itself"), "{e}");
        // Reading needs no key.
        log.entry(0).unwrap();
        std::fs::rename(&away, &key).unwrap();
        record().unwrap();
        log.checkpoint().unwrap();
        log.keys().rotate_epoch_key().unwrap();
    }
    assert!(log.verify(&VerifyOptions::new()).unwrap().findings.is_empty());
    log.close().unwrap();
    let log = AuditLog::open(&store).unwrap();
    log.record(ToolCall::new("c", "u", "t")).unwrap();
}
