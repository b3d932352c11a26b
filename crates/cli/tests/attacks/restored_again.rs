//! A log is restored more than once: what each restore lost is told, and kept checkpoints of it are neither findings nor an
//! excuse for others.

use super::common::{Place, call, json};
use attestlog::json::Json;
use attestlog::keys::KeyFile;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

const AGAINST: [&str; 2] = ["--against", "anchored"];

struct Log(Place, String);

impl Log {
    /// A log of three calls with an anchor file, and a backup `one` of it.
    fn new() -> Log {
        let place = Place::empty();
        place.write("a.toml", "[[anchor]]\nfile = 'anchored'\n");
        let key = place.run(&["init", "v", "--config", "a.toml"]).ok().trim().to_owned();
        let log = Log(place, key);
        log.record(3);
        log.run(&["backup", "v", "one"]);
        log
    }

    fn run(&self, args: &[&str]) -> String {
        self.0.run(args).ok()
    }

    fn record(&self, calls: usize) {
        for _ in 0..calls {
            self.0.run_with(&["record", "v", "--no-alerts"], call("c", "eve", "look", "").as_bytes()).ok();
        }
    }

    /// How many entries the key file has signed.
    fn signed(&self) -> u64 {
        KeyFile::load(&self.0.path("v.key"), None).unwrap().mark().unwrap().size
    }

    fn restore(&self, copy: &str) {
        std::fs::rename(self.0.path("v"), self.0.path(&format!("old-{}", self.signed()))).ok();
        self.run(&["restore", copy, "v", "--actor", "ops", "--reason", "disk"]);
    }

    fn verify(&self, more: &[&str]) -> Json {
        json(&self.0.run(&[&["verify", "v", "--public-key", &self.1, "--json"], more].concat()).out)
    }

    fn findings(&self) -> Vec<String> {
        let said = self.verify(&AGAINST);
        let findings = said.get("findings").and_then(Json::as_array).unwrap();
        findings.iter().map(|one| one.to_canonical().as_str().to_owned()).collect()
    }

    /// What the newest restore says had been signed, and what was lost before.
    fn lost(&self) -> (Option<u64>, Vec<u64>) {
        let said = self.verify(&[]);
        let newest = said.get("restored").and_then(Json::as_array).unwrap().last().unwrap().clone();
        let size = |of: &Json| of.get("signed_size").and_then(Json::as_u64);
        (size(&newest), newest.get("earlier").and_then(Json::as_array).unwrap().iter().filter_map(size).collect())
    }
}

/// The epoch key was replaced in the first lost history. A second restore named the size of that rotation, and not what the
/// history that it replaced had signed: its checkpoints were a rollback and a fork.
#[test]
fn what_a_second_restore_lost_is_told_after_a_rotation_in_the_first_lost_history() {
    let log = Log::new();
    log.record(8);
    log.run(&["keys", "rotate", "v"]);
    log.record(2);
    let first = log.signed();
    log.restore("one");
    log.record(2);
    let second = log.signed();
    assert!(second < first);
    log.restore("one");
    assert_eq!(log.lost(), (Some(second), vec![first]));
    assert_eq!(log.findings(), Vec::<String>::new());
    log.record(1);
    assert_eq!(log.findings(), Vec::<String>::new());
}

/// An old backup was restored first, then a newer one was found: the entry named exactly what had been signed in between, and
/// every verification against the log's own anchor file reported forks of just these, for ever.
#[test]
fn an_older_backup_first_and_then_the_newer_one() {
    let log = Log::new();
    log.record(8);
    log.run(&["backup", "v", "two"]);
    log.record(1);
    let first = log.signed();
    log.restore("one");
    log.record(2);
    let second = log.signed();
    log.restore("two");
    assert_eq!(log.lost(), (Some(second), vec![first]));
    assert_eq!(log.findings(), Vec::<String>::new());
    log.record(1);
    assert_eq!(log.findings(), Vec::<String>::new());
    let anchors = log.verify(&AGAINST);
    let lost = anchors.get("lost_anchors").and_then(Json::as_array).unwrap();
    assert_eq!(lost.iter().filter_map(|lost| lost.get("to")?.as_u64()).max(), Some(first));

    // A checkpoint of the history in between alone is not excused by its size: only the record of what was signed is.
    let lines = std::fs::read_to_string(log.0.path("anchored")).unwrap();
    let of = |size: u64| lines.lines().filter(move |line| line.contains(&format!("\\n{size}\\n")));
    let between: Vec<&str> = of(second - 1).skip(1).collect();
    assert!(!between.is_empty(), "{lines}");
    log.0.write("alone", format!("{}\n", between[0]));
    let said = log.verify(&["--against", "alone"]);
    assert!(said.to_canonical().as_str().contains("fork"), "{said:?}");
    // Nor is one that was kept before anything of this log.
    let mark = of(second).next_back().unwrap();
    log.0.write("first", format!("{}\n{mark}\n", between[0]));
    let said = log.verify(&["--against", "first"]);
    assert!(said.to_canonical().as_str().contains("first, line 1 covers them"), "{said:?}");
}

/// `--replaces` took a store that an earlier restore had replaced, and then said that nothing in force was lost, though a hold
/// was, which only the newest store had.
#[test]
fn only_the_newest_store_names_what_is_lost() {
    let log = Log::new();
    log.record(1);
    log.restore("one");
    let first =
        std::fs::read_dir(log.0.path(".")).unwrap().filter_map(|file| file.unwrap().file_name().into_string().ok());
    let first = first.into_iter().find(|name| name.starts_with("old-")).unwrap();
    log.run(&["hold", "place", "v", "--case", "c", "--actor", "counsel", "--reason", "claim", "--user", "eve"]);
    std::fs::rename(log.0.path("v"), log.0.path("newest")).unwrap();
    let restore = |replaced: &str| {
        log.0.run(&["restore", "one", "v", "--actor", "ops", "--reason", "disk", "--replaces", replaced])
    };
    let refused = restore(&first).code(2);
    assert!(refused.err.contains("what the keys signed last") && !log.0.path("v").exists(), "{refused:?}");
    assert!(restore("newest").code(0).err.contains("case c"));
}

/// After a restore an alert about another call had the id of one that had been delivered before: a receiver that drops
/// repeated ids, as it may, lost it.
#[test]
fn an_alert_after_a_restore_has_an_id_of_its_own() {
    let log = Log::new();
    let raised = |user: &str| {
        let line = call("c", user, "look", r#""emergency":true"#);
        log.0.run_with(&["record", "v"], line.as_bytes()).ok();
        let alerts = log.run(&["alerts", "list", "v", "--json"]);
        alerts.lines().map(|line| json(line).get("id").unwrap().as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    log.restore("one");
    let before = raised("mallory");
    log.restore("one");
    let after = raised("trudy");
    assert!(!before.is_empty() && !after.is_empty());
    assert!(before.iter().all(|id| !after.contains(id)), "{before:?} {after:?}");
}

/// `tail` went on silently with the old file after the store had been moved away and restored.
#[test]
#[cfg(unix)]
fn tail_ends_where_the_store_was_replaced() {
    let log = Log::new();
    let mut tail = Command::new("timeout");
    tail.args(["60", env!("CARGO_BIN_EXE_attestlog"), "tail", "v"]).current_dir(log.0.dir.path());
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(tail.stdout.take().unwrap());
    shown.read_line(&mut String::new()).unwrap();
    log.restore("one");
    // It looks once a second.
    let status = tail.wait().unwrap();
    let mut said = String::new();
    tail.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.code() == Some(3) && said.contains("v"), "{status:?} {said}");
}
