//! Promise: an evidence folder and a proof file can be checked without any of this crate's code, by a short script that
//! uses Python's standard library and the `cryptography` package; and the script notices tampering.
//!
//! The folder is made here by hand, from the tree, the notes and the epochs. The script runs with the `python3` on the path
//! if that has the package, else in a virtual environment under `target`; if neither is available the test says so.

use attestlog::Hash;
use attestlog::json::{Json, Object};
use attestlog::merkle::{self, Frontier, Nodes, ProofError};
use attestlog::note::{Checkpoint, Rotation, SignedCheckpoint, SigningKey, epoch_name, origin};
use attestlog::proof::InclusionProof;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use tempfile::TempDir;

/// A Python that has `cryptography`, if available.
static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let works = |python: &Path| {
        let out = Command::new(python).args(["-c", "import cryptography"]).output();
        out.is_ok_and(|out| out.status.success())
    };
    // The actual interpreter: `python3` may be a wrapper script that looks for it each time.
    let out = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    let system = PathBuf::from(String::from_utf8(out.stdout).ok()?.trim_end());
    if works(&system) {
        return Some(system);
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-evidence-venv");
    let python = place.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !works(&python) {
        let run = |program: &Path, args: &[&str]| Command::new(program).args(args).output().ok();
        run(&system, &["-m", "venv", place.to_str()?])?;
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "cryptography"])?;
    }
    works(&python).then_some(python)
});

fn run(args: &[&str]) -> Option<Output> {
    let Some(python) = &*PYTHON else {
        eprintln!("SKIPPED: no Python with the cryptography package, and none can be installed");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_evidence.py");
    Some(Command::new(python).arg(script).args(args).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap())
}

/// Runs the script; returns whether it found everything in order, and its output. `None` if there is no Python.
fn check(args: &[&str]) -> Option<(bool, String)> {
    let out = run(args)?;
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let ok = out.status.code() == Some(0);
    assert!(ok || out.status.code() == Some(1), "{said}");
    assert!(!said.contains("Traceback"), "{said}");
    Some((ok, said))
}

/// The purged entries: 4 to 7, a whole subtree, and 13, whose sibling still exists.
const PURGED: [(u64, u64); 2] = [(4, 7), (13, 13)];
/// The entry that hands over to epoch 1.
const ROTATION: u64 = 17;
/// The purge's own entry.
const PURGE: u64 = 20;
const SIZE: u64 = 23;

struct Log {
    origin: String,
    lines: Vec<String>,
}

impl Nodes for Log {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        if level == 0 {
            return Ok(Hash::leaf(self.lines[index as usize].as_bytes()));
        }
        Ok(Hash::node(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

fn public(seed: u8) -> [u8; 32] {
    *SigningKey::from_seed("x", &[seed; 32]).unwrap().verifier().public()
}

impl Log {
    /// A log whose log key has this seed; epoch `n` has seed `100 + n`.
    fn new(seed: u8) -> Log {
        let mut log = Log { origin: origin("example.com/ward-3", &public(100)).unwrap(), lines: Vec::new() };
        let mut tree = Frontier::empty();
        let mut prev = Hash::ZERO;
        for seq in 0..SIZE {
            let (kind, detail) = log.content(seq, seed, &tree);
            let mut line = Object::new();
            line.insert("kind", kind);
            line.insert("nonce", "00112233445566778899aabbccddeeff");
            line.insert("prev", prev.to_string());
            line.insert("seq", seq);
            line.insert(if kind == "tool_call" { "arguments" } else { "detail" }, detail);
            let line = Json::from(line).to_canonical().as_str().to_owned();
            prev = Hash::leaf(line.as_bytes());
            tree.append(prev, &mut |_, _, _| {});
            log.lines.push(line);
        }
        log
    }

    fn content(&self, seq: u64, seed: u8, tree: &Frontier) -> (&'static str, Object) {
        match seq {
            0 => {
                let key = self.log_key(seed).verifier().to_string();
                let epoch0 = STANDARD.encode(public(100));
                ("genesis", Object::from_iter([("log_key", Json::from(key)), ("epoch0", epoch0.into())]))
            }
            ROTATION => {
                let old = self.epoch_key(0);
                let rotation = Rotation::sign(&self.origin, 1, public(101), seq, tree.root(), &old).to_json();
                ("key", Object::from_iter([("event", Json::from("epoch_rotated")), ("rotation", rotation.into())]))
            }
            PURGE => {
                let digest = Hash::of(b"4-7\n13-13\n").to_string();
                let detail =
                    [("count", Json::from(5u64)), ("cut_off", "2026-01-01T00:00:00Z".into()), ("seqs", digest.into())];
                ("purge", Object::from_iter(detail))
            }
            // Text beyond ASCII, and a line separator that some parsers take for the end of a line.
            _ => ("tool_call", Object::from_iter([("name", format!("Grüße {seq} \u{2028} \u{1f600}"))])),
        }
    }

    fn log_key(&self, seed: u8) -> SigningKey {
        SigningKey::from_seed(&self.origin, &[seed; 32]).unwrap()
    }

    fn epoch_key(&self, number: u32) -> SigningKey {
        SigningKey::from_seed(&epoch_name(&self.origin, number), &[100 + number as u8; 32]).unwrap()
    }

    fn checkpoint(&self, seed: u8, epoch: u32) -> SignedCheckpoint {
        let head = Checkpoint::new(&self.origin, SIZE, merkle::root(self, SIZE).unwrap()).unwrap();
        SignedCheckpoint::sign(head, &[&self.epoch_key(epoch), &self.log_key(seed)]).unwrap()
    }

    fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        let mut seq = 0;
        while seq < SIZE {
            let Some((first, last)) = PURGED.iter().find(|(first, _)| *first == seq) else {
                rows.push(self.lines[seq as usize].clone());
                seq += 1;
                continue;
            };
            let count = last - first + 1;
            let level = count.trailing_zeros();
            let hash = self.node(level as u8, first >> level).unwrap();
            rows.push(format!(r#"{{"purged":{{"count":{count},"first":{first},"hash":"{hash}"}}}}"#));
            seq += count;
        }
        rows
    }
}

/// An evidence folder; dropped with its contents.
struct Folder {
    dir: TempDir,
    key: String,
}

impl Folder {
    fn new() -> Folder {
        let log = Log::new(1);
        Folder::of(&log, &log.rows(), &log.checkpoint(1, 1).to_string(), 1)
    }

    fn of(log: &Log, rows: &[String], checkpoint: &str, seed: u8) -> Folder {
        let folder = Folder { dir: tempfile::tempdir().unwrap(), key: log.log_key(seed).verifier().to_string() };
        folder.write("entries.jsonl", &rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        folder.write("checkpoint", checkpoint);
        folder.write("public-key", &format!("{}\n", folder.key));
        folder.write("purges.jsonl", &format!("{{\"seq\":{PURGE},\"seqs\":\"4-7,13-13\"}}\n"));
        folder.write("report.json", "{}\n");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn check(&self) -> Option<(bool, String)> {
        check(&[self.dir.path().to_str().unwrap(), "--public-key", &self.key])
    }

    /// Checks that the script refuses the folder, with this message.
    fn refused(&self, says: &str) {
        let Some((ok, said)) = self.check() else { return };
        assert!(!ok && said.starts_with("WRONG: ") && said.contains(says), "{says:?}: {said}");
    }
}

#[test]
fn a_folder_that_holds_is_accepted() {
    let folder = Folder::new();
    let Some((ok, said)) = folder.check() else { return };
    assert!(ok && said.starts_with("OK: 23 entries of example.com/ward-3/"), "{said}");
    assert!(said.contains("5 of them purged, signed in epoch 1") && !said.contains("OWN"), "{said}");
    // Without a key from outside it says how little that is worth.
    let (ok, said) = check(&[folder.dir.path().to_str().unwrap()]).unwrap();
    assert!(ok && said.contains("THE KEY IS THE FOLDER'S OWN"), "{said}");
}

#[test]
fn a_row_that_was_changed_dropped_added_or_moved_is_found() {
    let rows = Log::new(1).rows();
    let with = |change: &dyn Fn(&mut Vec<String>), says: &str| {
        let log = Log::new(1);
        let mut changed = rows.clone();
        change(&mut changed);
        Folder::of(&log, &changed, &log.checkpoint(1, 1).to_string(), 1).refused(says);
    };
    with(&|rows| rows[2] = rows[2].replace("Grüße 2", "Grüße 3"), "entry 3 does not name the hash");
    with(&|rows| *rows.last_mut().unwrap() = rows.last().unwrap().replace("22 ", "23 "), "have the root");
    with(&|rows| rows[2].push(' '), "does not name the hash");
    with(&|rows| drop(rows.remove(2)), "entry 3 stands where entry 2 must");
    with(&|rows| drop(rows.pop()), "there are 22 entries");
    with(&|rows| rows.truncate(16), "entries, the checkpoint covers 23");
    with(&|rows| rows.clear(), "there are 0 entries");
    with(&|rows| rows.push(rows[1].replace("\"seq\":1", "\"seq\":23")), "entry 23 does not name");
    with(&|rows| rows.swap(1, 2), "stands where");
    // After a purged subtree the preceding hash is unknown; the root still shows the change.
    with(&|rows| rows[5] = rows[5].replace("Grüße 8", "Grüße 9"), "does not name");
    let prev = Hash::ZERO.to_string();
    with(
        &|rows| rows[5] = rows[5].replacen(&rows[5][rows[5].find("prev").unwrap() + 7..][..64], &prev, 1),
        "entry 9 does",
    );
}

#[test]
fn an_entry_that_is_missing_is_told_from_one_that_was_purged() {
    let log = Log::new(1);
    let note = log.checkpoint(1, 1).to_string();
    // With an entry replaced by its hash, the root is still right; but no purge removed it.
    let mut rows = log.rows();
    rows[1] = format!(r#"{{"purged":{{"count":1,"first":1,"hash":"{}"}}}}"#, log.node(0, 1).unwrap());
    Folder::of(&log, &rows, &note, 1).refused("gone without a purge, or purged and not gone");
    // A purged entry is shown all the same.
    let mut rows = log.rows();
    let at = rows.iter().position(|row| row.contains("\"first\":13")).unwrap();
    rows[at] = log.lines[13].clone();
    Folder::of(&log, &rows, &note, 1).refused("gone without a purge, or purged and not gone");
    // The record of the purge is changed, missing, or of a purge that never happened.
    for (purges, says) in [
        ("{\"seq\":20,\"seqs\":\"4-7,14-14\"}\n", "another set"),
        ("{\"seq\":19,\"seqs\":\"4-7,13-13\"}\n", "another set"),
        ("", "does not say what the purges [20] took"),
        ("{\"seq\":20,\"seqs\":\"4-7,13-13\"}\n{\"seq\":20,\"seqs\":\"4-7,13-13\"}\n", "another set"),
    ] {
        let folder = Folder::new();
        folder.write("purges.jsonl", purges);
        folder.refused(says);
    }
    for (from, to, says) in [
        ("\"count\":4,\"first\":4", "\"count\":3,\"first\":4", "no subtree fits"),
        ("\"count\":4,\"first\":4", "\"count\":8,\"first\":4", "no subtree fits"),
        ("\"count\":4,\"first\":4", "\"count\":4,\"first\":8", "no subtree fits"),
        ("\"count\":4,\"first\":4", "\"count\":0,\"first\":4", "no subtree fits"),
        ("\"count\":4,\"first\":4", "\"count\":\"4\",\"first\":4", ""),
    ] {
        let folder = Folder::new();
        let text = folder.text("entries.jsonl");
        assert!(text.contains(from));
        folder.write("entries.jsonl", &text.replace(from, to));
        folder.refused(says);
    }
}

#[test]
fn a_log_that_was_signed_anew_is_found_by_the_key_from_outside() {
    let log = Log::new(2);
    let mut folder = Folder::of(&log, &log.rows(), &log.checkpoint(2, 1).to_string(), 2);
    assert!(folder.check().is_none_or(|(ok, said)| ok && said.starts_with("OK")));
    folder.key = Folder::new().key;
    folder.refused("not signed by this key");
    // The right log key and an epoch that is over.
    let log = Log::new(1);
    Folder::of(&log, &log.rows(), &log.checkpoint(1, 0).to_string(), 1).refused("the key of epoch 1 did not sign");
    // Signed, but not over this.
    let note = log.checkpoint(1, 1).to_string();
    Folder::of(&log, &log.rows(), &note.replacen("\n23\n", "\n24\n", 1), 1).refused("a signature does not hold");
}

#[test]
fn bad_files_are_refused_without_a_traceback() {
    for name in ["entries.jsonl", "checkpoint", "purges.jsonl", "report.json"] {
        for bytes in [&b"\xff\xfe\n"[..], b"{\n", b"[]\n[]\n", b"null\n", &[b'['; 100_000]] {
            // Any JSON is accepted as a report, which proves nothing.
            if name == "report.json" && (bytes.starts_with(b"null")) {
                continue;
            }
            let folder = Folder::new();
            std::fs::write(folder.dir.path().join(name), bytes).unwrap();
            folder.refused("");
        }
        let folder = Folder::new();
        std::fs::remove_file(folder.dir.path().join(name)).unwrap();
        folder.refused("No such file");
    }
    let folder = Folder::new();
    folder.write("entries.jsonl", folder.text("entries.jsonl").trim_end());
    folder.refused("cut off");
    let mut folder = Folder::new();
    for key in ["", "nonsense", "a+00000000+AAAA", &folder.key.clone()[..folder.key.len() - 4]] {
        folder.key = key.to_owned();
        if !key.is_empty() {
            folder.refused("");
        }
    }
}

#[test]
fn a_proof_file_is_checked_and_a_changed_one_refused() {
    let log = Log::new(1);
    let key = log.log_key(1).verifier().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proof");
    let check_text = |text: &str, key: &str| {
        std::fs::write(&path, text).unwrap();
        check(&["--proof", path.to_str().unwrap(), "--public-key", key])
    };
    for seq in 0..SIZE {
        let proof = InclusionProof {
            seq,
            line: log.lines[seq as usize].clone().into_bytes(),
            path: merkle::inclusion_proof(&log, seq, SIZE).unwrap(),
            checkpoint: log.checkpoint(1, 1),
        };
        let Some((ok, said)) = check_text(&proof.to_string(), &key) else { return };
        assert!(ok && said.contains(&format!("entry {seq} is in the log of 23 entries")), "{said}");
        if seq % 8 != 6 {
            continue;
        }
        let mut bad = vec![proof.clone(); 6];
        bad[0].line = log.lines[5].clone().into_bytes();
        bad[1].seq += 1;
        bad[2].path[0].0[31] ^= 1;
        bad[3].path.pop();
        bad[4].path.push(Hash::ZERO);
        bad[5].seq = SIZE;
        for bad in bad {
            let (ok, said) = check_text(&bad.to_string(), &key).unwrap();
            assert!(!ok && said.starts_with("WRONG: "), "{said}");
        }
        let other = log.log_key(2).verifier().to_string();
        assert!(!check_text(&proof.to_string(), &other).unwrap().0);
        assert!(!check_text("", &key).unwrap().0);
    }
}
