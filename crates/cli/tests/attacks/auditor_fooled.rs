//! Somebody gives an auditor a proof or a folder that claims more than it shows.

mod completeness;

use super::common::{Place, Ran};
use super::store_common::clock;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::json::{Json, Limits};
use attestlog::note::SignedCheckpoint;
use attestlog::proof::{Checked, Proof, Proven, Standing};
use attestlog::{AuditLog, Facet, Neighbours, Options, ToolCall};
use std::process::Command;
use std::sync::Arc;

/// A store with keys. The same seed gives the same keys, so that whoever holds them can make another history.
fn store(seed: u64) -> (AuditLog, Arc<ManualClock>) {
    let clock = clock();
    let options = Options::new().clock(clock.clone()).random(Arc::new(SeededRandom::new(seed)));
    (options.in_memory().unwrap(), clock)
}

fn record(log: &AuditLog, calls: u64) {
    for i in 0..calls {
        log.record(ToolCall::new("c", format!("usr_{i}"), "look").patient("P-1")).unwrap();
    }
}

fn check(log: &AuditLog, file: &str, with_succession: bool) -> Checked {
    let succession = with_succession.then(|| log.keys().succession().unwrap().unwrap());
    Proof::parse(file.as_bytes()).unwrap().check(&log.public_key().unwrap().unwrap(), succession.as_ref()).unwrap()
}

fn member<'j>(json: &'j Json, name: &str) -> &'j Json {
    json.get(name).unwrap_or(&Json::Null)
}

/// Somebody who had rewritten the log gave the auditor a consistency proof between two checkpoints of the rewritten log.
/// `check` called it valid: the old root came from the proof itself, and nothing said that it was not the one that the
/// auditor had kept.
#[test]
fn the_old_state_is_confirmed_by_what_was_kept_alone() {
    let (log, _clock) = store(1);
    record(&log, 5);
    let kept = log.checkpoint().unwrap();
    let file = log.proofs().consistent(&kept).unwrap().to_string();
    let checked = check(&log, &file, false);
    assert!(!checked.old_confirmed());
    assert_eq!(member(&checked.to_json(), "old_confirmed"), &Json::Bool(false));
    assert!(checked.to_string().contains("the proof's own word"), "{checked}");
    let key = log.public_key().unwrap().unwrap();
    let confirmed = checked.against(&kept, &key).unwrap();
    assert!(confirmed.old_confirmed());
    assert_eq!(member(&confirmed.to_json(), "old_confirmed"), &Json::Bool(true));
    // The other history: as many entries, other users, under the same keys. Anybody who holds these can make it.
    let (other, _) = store(1);
    assert_eq!(other.public_key().unwrap(), Some(key.clone()), "the same keys from the same randomness");
    for i in 0..5 {
        other.record(ToolCall::new("c", format!("somebody_else_{i}"), "look").patient("P-1")).unwrap();
    }
    let of_other = other.checkpoint().unwrap();
    record(&other, 3);
    let file = other.proofs().consistent(&of_other).unwrap().to_string();
    let checked = check(&other, &file, false);
    let fork = checked.clone().against(&kept, &key).unwrap_err().to_string();
    assert!(fork.contains("A FORK"), "{fork}");
    // A checkpoint of another size shows nothing either way, and must not pass.
    let longer = other.checkpoint().unwrap();
    assert!(checked.against(&longer, &key).unwrap_err().to_string().contains("consistency proof"));
}

/// A proof that a patient has no further entries came from a copy made last year. It was valid, and nothing in it showed
/// its age.
#[test]
fn a_proof_of_a_stale_copy_shows_its_time() {
    let (log, clock) = store(2);
    record(&log, 3);
    let file = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Reveal).unwrap().to_string();
    let then = attestlog::host::Clock::now(&*clock);
    let checked = check(&log, &file, false);
    let Proven::Complete { newest, size, .. } = checked.proven() else { panic!("{checked:?}") };
    let newest = newest.expect("an entry is shown");
    assert!(newest <= then && then.since(newest).as_secs() < 3600, "{newest} {then}");
    assert_eq!(member(&checked.to_json(), "newest_recorded_at").as_str(), Some(&*newest.to_string()));
    assert!(*size <= log.size().unwrap());
}

/// Somebody kept the key file from before a rotation (it contains the log key, and that epoch's key), and made a history of
/// that epoch afterwards. `check --succession` said `epoch 0` and `valid`. Whether the log went on from there was never
/// checked.
#[test]
fn an_epoch_that_is_closed_proves_nothing_by_itself() {
    let (log, _clock) = store(3);
    record(&log, 3);
    let file = log.prove(1).unwrap().to_string();
    assert_eq!(check(&log, &file, true).standing(), Standing::Present);
    assert_eq!(check(&log, &file, false).standing(), Standing::Unchecked);
    record(&log, 2);
    log.keys().rotate_epoch_key().unwrap();
    record(&log, 2);
    let (key, succession) = (log.public_key().unwrap().unwrap(), log.keys().succession().unwrap().unwrap());
    let checked = check(&log, &file, true);
    assert_eq!((checked.epoch(), checked.standing()), (Some(0), Standing::Closed));
    let json = checked.to_json();
    assert_eq!((member(&json, "ok"), member(&json, "epoch_standing").as_str()), (&Json::Bool(false), Some("closed")));
    assert!(checked.to_string().contains("closed: not proven"), "{checked}");
    // The way to show it: the log of the present epoch extends the state that the proof refers to.
    let state = Proof::parse(file.as_bytes()).unwrap().checkpoint().clone();
    let later = log.proofs().consistent(&state).unwrap();
    let proven = checked.clone().extended_by(Proof::Consistency(later.clone()), &key, &succession).unwrap();
    assert_eq!(proven.standing(), Standing::Extended);
    assert_eq!(member(&proven.to_json(), "ok"), &Json::Bool(true));
    // A proof that begins elsewhere does not show it, nor one that ends before the present epoch, nor another kind of
    // proof.
    let elsewhere = log.checkpoint().unwrap();
    let elsewhere = Proof::Consistency(log.proofs().consistent(&elsewhere).unwrap());
    assert!(checked.clone().extended_by(elsewhere, &key, &succession).is_err());
    let inclusion = Proof::parse(log.prove(1).unwrap().to_string().as_bytes()).unwrap();
    assert!(checked.clone().extended_by(inclusion, &key, &succession).is_err());
    log.keys().rotate_epoch_key().unwrap();
    let now = log.keys().succession().unwrap().unwrap();
    assert!(checked.extended_by(Proof::Consistency(later), &key, &now).is_err());
}

/// An auditor had a checkpoint and no proof, and `check` said that it was not a proof at all.
#[test]
fn a_bare_checkpoint_can_be_checked() {
    let (log, _clock) = store(4);
    record(&log, 3);
    let kept = log.checkpoint().unwrap();
    let checked = check(&log, &kept.to_string(), true);
    assert_eq!(member(&checked.to_json(), "kind").as_str(), Some("checkpoint"));
    assert!(checked.against(&kept, &log.public_key().unwrap().unwrap()).unwrap().old_confirmed());
    let (other, _) = store(5);
    record(&other, 3);
    let theirs: SignedCheckpoint = other.checkpoint().unwrap();
    assert!(Proof::Checkpoint(theirs).check(&log.public_key().unwrap().unwrap(), None).is_err());
}

/// Sixty megabytes of `0,0,0…` took a gigabyte: each two-byte value is some forty bytes in memory. And a name of a megabyte
/// above a hundred thousand long numbers was stored a hundred thousand times.
#[test]
fn what_is_read_takes_no_more_memory_than_its_size_allows() {
    let zeros = format!("{{\"kind\":\"complete\",\"entries\":[{}0]}}", "0,".repeat(2 << 20));
    let e = Proof::parse(zeros.as_bytes()).unwrap_err().to_string();
    assert!(e.contains("more values than the limit"), "{e}");
    assert!(Json::parse_within(b"[1,2,[3]]", &Limits::bytes(100).values(5)).is_ok());
    assert!(Json::parse_within(b"[1,2,[3]]", &Limits::bytes(100).values(4)).unwrap_err().is_too_large());
    let named = format!("{{\"{}\":[{}0]}}", "n".repeat(1 << 20), "12345678901234567890,".repeat(1000));
    assert!(Json::parse(named.as_bytes()).unwrap_err().is_too_large());
    let numbers = format!("{{\"numbers\":[{}0]}}", "12345678901234567890,".repeat(10_000));
    assert_eq!(Json::parse(numbers.as_bytes()).unwrap().restated.len(), 10_000);
}

/// Runs the program for at most twenty seconds and with at most this much address space.
fn bounded(place: &Place, kib: u64, args: &[&str]) -> Ran {
    let mut command = Command::new("timeout");
    command.args(["20", "sh", "-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_attestlog")]);
    let ran = command.args(args).current_dir(place.dir.path()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: ran.status.code().unwrap_or(-1), out: text(ran.stdout), err: text(ran.stderr) }
}

/// An auditor was given a folder in which a proof was a pipe: `check` waited forever. `/dev/zero` filled memory without
/// bound, and sixty megabytes of zeros took a gigabyte.
#[test]
#[cfg(unix)]
fn what_has_no_end_is_not_waited_for() {
    let place = Place::with_store();
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    place.write("cp", place.run(&["checkpoint", "s"]).ok());
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    for odd in ["pipe", "/dev/zero", "/dev/tty"] {
        for args in [
            &["check", odd, "--public-key", &key][..],
            &["check", "cp", "--public-key", &key, "--old", odd],
            &["check", "cp", "--public-key", &key, "--succession", odd],
            &["check", "cp", "--public-key", odd],
            &["verify", "s", "--against", odd],
            &["verify", "s", "--public-key", odd],
            &["prove", "s", "--consistent-with", odd],
            &["init", "new", "--config", odd],
            &["policy", "set", "s", odd],
            &["import", "s", odd, "--user", "u"],
        ] {
            let ran = bounded(&place, 600_000, args).code(2);
            assert!(ran.err.contains("regular file"), "{args:?}: {}", ran.err);
        }
    }
    place.write("zeros", format!("{{\"kind\":\"complete\",\"entries\":[{}0]}}", "0,".repeat(30 << 20)));
    let ran = bounded(&place, 600_000, &["check", "zeros", "--public-key", &key]).code(1);
    assert!(ran.err.contains("more values than the limit"), "{}", ran.err);
    let ran = bounded(&place, 600_000, &["check", "cp", "--public-key", &key, "--old", "cp", "--json"]).json();
    assert_eq!(member(&ran, "old_confirmed"), &Json::Bool(true));
}

/// A folder that another user shared had `STORE.anchors` beside the store, and `prove` ran the program named in it as the
/// user who looked.
#[test]
#[cfg(unix)]
fn a_folder_of_somebody_else_s_runs_nothing() {
    let place = Place::with_store();
    place.write("run", "#!/bin/sh\ntouch \"$(dirname \"$0\")/ran\"\ncat >/dev/null\nexit 1\n");
    assert!(Command::new("chmod").args(["+x", "run"]).current_dir(place.dir.path()).status().unwrap().success());
    let program = place.path("run");
    place.write("c.toml", format!("[[anchor]]\nname = 'x'\ncommand = ['{}']\n", program.display()));
    place.run(&["anchors", "set", "s", "c.toml"]).ok();
    let theirs =
        Command::new("chown").args(["65534", "s", "s.anchors"]).current_dir(place.dir.path()).output().unwrap();
    if !theirs.status.success() {
        println!("SKIPPED: only root can give files to another user");
        return;
    }
    for args in [&["prove", "s", "1"][..], &["checkpoint", "s"], &["evidence", "s", "out"]] {
        let ran = place.run(args).code(3);
        assert!(ran.err.contains("does not belong to the user"), "{}", ran.err);
    }
    place.run(&["checkpoint", "s"]).code(3);
    for args in [&["verify", "s"][..], &["query", "s"], &["health", "s"]] {
        assert!(place.run(args).err.contains("not used"), "{args:?}");
    }
    assert!(!place.path("ran").exists());
    assert!(
        Command::new("chown").args(["0", "s", "s.anchors"]).current_dir(place.dir.path()).status().unwrap().success()
    );
    place.run(&["checkpoint", "s"]).ok();
    place.run(&["prove", "s", "1"]).ok();
    assert!(place.path("ran").exists(), "as the owner's own it counts");
}

/// What a script sees: the exit code, with the key and the succession that it has.
#[test]
fn a_closed_epoch_is_exit_code_1_until_it_is_shown_that_the_log_went_on() {
    let call = super::common::call("c", "u", "look", r#""patient_id":"P-1""#);
    let place = Place::with_lines(&call);
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    place.write("proof", place.run(&["prove", "s", "2"]).ok());
    place.run_with(&["record", "s"], call.as_bytes()).ok();
    place.run(&["keys", "rotate", "s"]).ok();
    place.run_with(&["record", "s"], call.as_bytes()).ok();
    place.write("succession", place.run(&["keys", "show", "s", "--json"]).ok());
    let check = |more: &[&str]| {
        place.run(&[&["check", "proof", "--public-key", &key, "--succession", "succession"], more].concat())
    };
    let shown = check(&[]).code(1).out;
    assert!(shown.contains("NOT PROVEN") && shown.contains("IS CLOSED") && !shown.contains("valid"), "{shown}");
    assert_eq!(member(&super::common::json(&check(&["--json"]).code(1).out), "ok"), &Json::Bool(false));
    // The proof itself contains the checkpoint that the log must extend.
    place.write("later", place.run(&["prove", "s", "--consistent-with", "proof"]).ok());
    assert!(check(&["--extended-by", "later"]).ok().contains("went on from there"));
    assert_eq!(member(&check(&["--extended-by", "later", "--json"]).json(), "ok"), &Json::Bool(true));
}
