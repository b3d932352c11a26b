//! Promise: the three checkers of packages and evidence folders never disagree: the program, `verify.py`, and the script of
//! `verify.html` (in Node, and in Chromium). They share no code. Where one accepted what another refuses, somebody could show a judge a
//! folder that holds under the one tool and not under the other.
//!
//! The three must have the same verdict, and say the same sentences of what was proved and what was not.
//!
//! Thousands of folders are changed at random: their bytes, their JSON, their files, and, with a key that the test holds, lines that are signed
//! anew, so that what is checked behind the signature is reached too. Python, Node and Chromium are used where they are; the test
//! says so where they are not. With ATTESTLOG_LONG=1 there are thirty times as many.

mod browser;
mod changes;
#[cfg(unix)]
mod on_disk;
mod signed_anew;

use crate::common::{Place, call};
use attestlog::folders::{EvidenceCheck, check_package, succession};
use attestlog::host::{Clock, ManualClock, SystemClock};
use attestlog::json::{Json, Object};
use attestlog::note::VerifierKey;
use attestlog::{Options, Timestamp, ToolCall};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use changes::Dice;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

pub type Files = BTreeMap<String, Vec<u8>>;

/// A folder that is to be judged: `kind` is `package` or `evidence`.
#[derive(Clone)]
pub struct Folder {
    pub kind: &'static str,
    pub files: Files,
    /// The key that the reader has from elsewhere.
    pub pinned: String,
    /// The succession of epochs, if the reader has it.
    pub succession: Option<Vec<u8>>,
}

pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proof/src/verifiers").join(name)
}

fn driver(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/three_checkers").join(name)
}

/// The files of a folder whose contents count.
fn read(dir: &Path, under: &str, files: &mut Files) {
    for file in std::fs::read_dir(dir.join(under)).unwrap() {
        let name = format!("{under}{}", file.unwrap().file_name().to_str().unwrap());
        match dir.join(&name).is_dir() {
            true => read(dir, &format!("{name}/"), files),
            false => _ = files.insert(name.clone(), std::fs::read(dir.join(&name)).unwrap()),
        }
    }
}

fn folder(place: &Place, kind: &'static str, name: &str) -> Folder {
    let mut files = Files::new();
    read(&place.path(name), "", &mut files);
    let counts = |name: &str| !name.contains("verify.") && !name.starts_with("attestations/") && name != "README.txt";
    files.retain(|name, _| counts(name) && !name.ends_with(".html") && !name.ends_with(".py") && name != "report.json");
    files.remove("succession.json");
    let pinned = String::from_utf8(files["public-key"].clone()).unwrap().trim_end().to_owned();
    Folder { kind, files, pinned, succession: None }
}

/// A store with calls of several patients. With `purged`, half of them are gone.
fn place(config: &str, purged: bool) -> Place {
    let place = Place::empty();
    if purged {
        twenty_years(&place);
        return place;
    }
    place.write("config.toml", config);
    place.run(&["init", "s", "--config", "config.toml"]).ok();
    let lines: String = (0..24)
        .map(|i| {
            let patients = if i % 5 == 0 { r#"["P-1","P-2"]"#.to_owned() } else { format!("\"P-{}\"", 1 + i % 3) };
            let more = format!(
                r#""patient_id":{patients},"duration_ms":{}.5,"purpose":"treatment","arguments":{{"10":1,"9":"é\u2028","n":1e21}},"result":{{"id":{i}}}"#,
                i * 7
            );
            call(&format!("c{}", i / 4), &format!("dr_{}", i % 3), "read_chart", &more)
        })
        .collect();
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    place
}

/// Makes a store whose first calls were purged when their time was up.
fn twenty_years(place: &Place) {
    const YEARS: Duration = Duration::from_secs(20 * 366 * 86_400);
    let then = SystemClock::default().now().nanos() - YEARS.as_nanos() as i64;
    let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(then)));
    let log = Options::new().clock(clock.clone()).background(false).create(place.path("s")).unwrap();
    let record = |i: u64| {
        let patient = format!("P-{}", i % 3);
        log.record(ToolCall::new(format!("c{}", i / 4), "dr", "read_chart").patient(patient)).unwrap();
    };
    (0..24).for_each(record);
    log.proofs().complete(attestlog::Facet::Patient, "P-1", attestlog::Neighbours::Reveal).unwrap();
    clock.advance(YEARS);
    assert!(log.retention().purge("ops").unwrap().purged > 20);
    (24..33).for_each(record);
    log.close().unwrap();
}

/// How many folders `bases` makes of each store; the last is the evidence.
const OF_A_STORE: usize = 5;

/// Folders that hold, of stores of different kinds.
fn bases() -> Vec<Folder> {
    let mut bases = Vec::new();
    for (config, purged) in [("", false), ("", true), ("[redaction]\npreset = 'hipaa'\n", false)] {
        let place = place(config, purged);
        place.run(&["report", "package", "s", "p", "--patient", "P-1", "--neighbours"]).ok();
        place.run(&["report", "package", "s", "none", "--patient", "nobody", "--neighbours"]).ok();
        // A name that looks like one in the log, with letters of two other scripts.
        place.run(&["report", "package", "s", "alike", "--patient", "\u{ff30}-\u{0406}1", "--neighbours"]).ok();
        place
            .run(&["report", "package", "s", "part", "--patient", "P-1", "--neighbours", "--since", "2027-01-01"])
            .ok();
        place.run(&["evidence", "s", "e"]).ok();
        // The reader has the succession as it was then, or as it is after a rotation, which closes the epoch or ends it where the folder
        // was signed; or none.
        let known = |place: &Place| {
            let keys = place.run(&["keys", "show", "s", "--json"]).json();
            Some(keys.get("succession").unwrap().to_canonical().to_string().into_bytes())
        };
        let present = known(&place);
        place.run(&["keys", "rotate", "s"]).ok();
        let later = known(&place);
        let successions = [present.clone(), later.clone(), present, later, None];
        let packages = ["p", "none", "part", "alike"].map(|name| ("package", name));
        let folders = packages.into_iter().chain([("evidence", "e")]);
        for ((kind, name), succession) in folders.zip(successions) {
            bases.push(Folder { succession, ..folder(&place, kind, name) });
        }
    }
    bases
}

/// The verdict of the program's own checker.
fn ours(folder: &Folder) -> Json {
    let failed = || {
        object([
            ("epoch", Json::Null),
            ("purged", Json::Null),
            ("root", Json::Null),
            ("says", Json::Null),
            ("seqs", Json::Null),
            ("size", Json::Null),
            ("unknown", Json::Null),
            ("verdict", "failed".into()),
        ])
    };
    let Ok(key) = folder.pinned.parse::<VerifierKey>() else { return failed() };
    let succession = folder.succession.as_deref().map(succession).transpose();
    let Ok(succession) = succession else { return failed() };
    let file = |name: &str| folder.files.get(name);
    let found = match folder.kind {
        "package" => check_package(&folder.files, &key, succession.as_ref()).map(|proven| proven.to_json()).ok(),
        _ => (|| {
            let mut check =
                EvidenceCheck::new(file("public-key")?, file("checkpoint")?, &key, succession.as_ref()).ok()?;
            file("entries.jsonl")?.split_inclusive(|b| *b == b'\n').try_for_each(|row| check.row(row)).ok()?;
            file("purges.jsonl")?.split_inclusive(|b| *b == b'\n').try_for_each(|row| check.purge_row(row)).ok()?;
            check.finish().map(|proven| proven.to_json()).ok()
        })(),
    };
    let Some(found) = found else { return failed() };
    let of = |name: &str| found.get(name).cloned().unwrap_or(Json::Null);
    object(["epoch", "purged", "root", "says", "seqs", "size", "unknown", "verdict"].map(|name| (name, of(name))))
}

pub fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Object::from_iter(members).into()
}

/// The lines that drive.py and drive.js read.
fn described(bases: &[Folder], changed: &[(usize, Folder)]) -> Vec<String> {
    let text = |bytes: &Vec<u8>| Json::from(STANDARD.encode(bytes));
    let all =
        |files: &Files| Json::from(files.iter().map(|(name, bytes)| (name.as_str(), text(bytes))).collect::<Object>());
    let mut lines: Vec<String> =
        bases.iter().map(|base| object([("define", all(&base.files))]).to_canonical().to_string()).collect();
    for (base, folder) in changed {
        let before = &bases[*base].files;
        let set: Files = folder
            .files
            .iter()
            .filter(|(name, bytes)| before.get(*name) != Some(*bytes))
            .map(|(n, b)| (n.clone(), b.clone()))
            .collect();
        let drop: Vec<String> = before.keys().filter(|name| !folder.files.contains_key(*name)).cloned().collect();
        let asked = object([
            ("base", Json::from(*base as u64)),
            ("drop", drop.into()),
            ("kind", folder.kind.into()),
            ("pinned", folder.pinned.as_str().into()),
            ("set", all(&set)),
            ("succession", folder.succession.as_ref().map(text).into()),
        ]);
        lines.push(asked.to_canonical().to_string());
    }
    lines
}

/// What a checker in another program says of each folder, and why.
fn theirs(command: &mut Command, lines: &[String]) -> Vec<(Json, Json)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let all = lines.join("\n") + "\n";
    let feeder = std::thread::spawn(move || drop(stdin.write_all(all.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success(), "{command:?}: {:?}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(told).collect()
}

pub fn told(line: &str) -> (Json, Json) {
    let pair = Json::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{e}: {line}")).value;
    let pair = pair.as_array().unwrap();
    (pair[0].clone(), pair[1].clone())
}

/// A Python that has `cryptography`.
fn python() -> Result<PathBuf, String> {
    let works = |python: &Path| {
        Command::new(python).args(["-c", "import cryptography"]).output().is_ok_and(|out| out.status.success())
    };
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let system = found.map_err(|e| format!("no python3: {e}"))?.stdout;
    let system = PathBuf::from(String::from_utf8_lossy(&system).trim());
    if works(&system) {
        return Ok(system);
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("three-checkers-venv");
    let python = place.join("bin/python");
    if !works(&python) {
        let _ = Command::new(&system).args(["-m", "venv"]).arg(&place).output();
        let _ = Command::new(&python).args(["-m", "pip", "install", "--quiet", "cryptography"]).output();
    }
    if works(&python) {
        Ok(python)
    } else {
        Err("no Python with the package cryptography, and none can be installed".to_owned())
    }
}

fn compare(who: &str, changed: &[(usize, Folder)], ours: &[Json], theirs: &[(Json, Json)]) {
    assert_eq!(ours.len(), theirs.len(), "{who} did not answer everything");
    for (i, (our, (their, why))) in ours.iter().zip(theirs).enumerate() {
        if our == their {
            continue;
        }
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disagreement-{who}-{i}"));
        for (name, bytes) in &changed[i].1.files {
            std::fs::create_dir_all(kept.join(name).parent().unwrap()).unwrap();
            std::fs::write(kept.join(name), bytes).unwrap();
        }
        panic!(
            "{who} says {} ({}), the program {}; the folder is kept at {}",
            their.to_canonical(),
            why.to_canonical(),
            our.to_canonical(),
            kept.display()
        );
    }
    println!("{who}: {} folders, no disagreement", theirs.len());
}

#[test]
fn the_three_checkers_never_disagree() {
    let each = if std::env::var_os("ATTESTLOG_LONG").is_some() { 9_000 } else { 300 };
    let bases = bases();
    let mut changed: Vec<(usize, Folder)> = bases.iter().cloned().enumerate().collect();
    changed.extend(signed_anew::weak_keys(&bases));
    let unchanged = changed.len();
    let mut dice = Dice::new(0x5eed);
    for (at, base) in bases.iter().enumerate() {
        // The evidence of the same store, which has all its lines.
        let evidence = &bases[at / OF_A_STORE * OF_A_STORE + OF_A_STORE - 1];
        for number in 0..each {
            let folder = match number % 3 {
                0 => signed_anew::changed(base, evidence, &mut dice),
                _ => changes::changed(base, &bases, &mut dice),
            };
            // What is signed anew is another log.
            let of = match number % 3 == 0 && dice.below(8) > 0 {
                true => None,
                false => bases[at / OF_A_STORE * OF_A_STORE + dice.below(OF_A_STORE)].succession.clone(),
            };
            let succession = of.map(|text| changes::succession(text, &mut dice));
            changed.push((at, Folder { succession, ..folder }));
        }
    }
    let ours: Vec<Json> = changed.iter().map(|(_, folder)| ours(folder)).collect();
    let verdict =
        |verdict: &str| ours.iter().filter(|our| our.get("verdict").and_then(Json::as_str) == Some(verdict)).count();
    println!(
        "{} folders: {} proved, {} closed, {} unproven, {} failed",
        ours.len(),
        verdict("proved"),
        verdict("closed"),
        verdict("unproven"),
        verdict("failed")
    );
    for our in &ours[..bases.len()] {
        assert_ne!(our.get("verdict").and_then(Json::as_str), Some("failed"), "what was written holds");
    }
    for our in &ours[bases.len()..unchanged] {
        assert_eq!(our.get("verdict").and_then(Json::as_str), Some("failed"), "a weak key proves nothing");
    }
    // The changes must not all be found by the first check.
    assert!(verdict("proved") > bases.len() * 5 && verdict("unproven") > 5 && verdict("failed") > changed.len() / 2);
    let lines = described(&bases, &changed);
    match python() {
        Ok(python) => {
            let theirs = theirs(Command::new(python).arg(driver("drive.py")).arg(source("verify.py")), &lines);
            compare("verify.py", &changed, &ours, &theirs);
        }
        Err(why) => println!("SKIPPED: verify.py: {why}"),
    }
    if Command::new("node").arg("--version").output().is_ok_and(|out| out.status.success()) {
        let mut node = Command::new("node");
        node.arg(driver("node.mjs")).arg(source("verify.html")).arg(driver("drive.js"));
        compare("verify.html in Node", &changed, &ours, &theirs(&mut node, &lines));
    } else {
        println!("SKIPPED: verify.html in Node: there is no node");
    }
    match browser::verdicts(&source("verify.html"), &driver("drive.js"), &lines) {
        Ok(theirs) => compare("verify.html in Chromium", &changed, &ours, &theirs),
        Err(why) => println!("SKIPPED: verify.html in Chromium: {why}"),
    }
}

/// What a reader does: opens the page from the folder, chooses the folder's files, and enters what came by another way. Until then nothing is
/// called proved. What callers wrote is text on the page.
#[test]
fn the_page_tells_a_reader_what_was_proved() {
    let place =
        Place::with_lines(&call("c", "<b>dr</b>", "read_chart", r#""patient_id":"P-1","purpose":"<img src=x>""#));
    let told = place.run(&["report", "package", "s", "out", "--patient", "P-1"]).ok();
    let mut browser = match browser::Browser::start() {
        Ok(browser) => browser,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let page = place.path("out/verify.html");
    let session = browser.open(&page).unwrap();
    let mut files = Files::new();
    read(&place.path("out"), "", &mut files);
    let paths: Vec<String> =
        files.keys().map(|name| place.path("out").join(name).to_str().unwrap().to_owned()).collect();
    browser.choose(&session, "#files", paths).unwrap();
    let mut check = |key: &str, page: &str| {
        let expression = format!(
            "(async () => {{ const at = id => document.getElementById(id); at('key').value = {}; at('page').value = {}; \
             const done = new Promise(done => new MutationObserver(() => at('progress').textContent || done()) \
             .observe(at('progress'), {{ childList: true }})); at('check').click(); await done; \
             return [at('verdict').textContent, at('words').textContent, String(at('words').querySelectorAll('b, img').length)]; }})()",
            Json::from(key).to_canonical(),
            Json::from(page).to_canonical(),
        );
        let said = browser.evaluate(&session, &expression).unwrap();
        let said: Vec<String> = said.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
        assert_eq!(said[2], "0", "what callers wrote is no markup");
        (said[0].clone(), said[1].clone())
    };
    let key = String::from_utf8(files["public-key"].clone()).unwrap();
    let hash = attestlog::Hash::of(&files["verify.html"]).to_string();
    assert!(told.contains(&hash));
    let (verdict, words) = check("", "");
    assert_eq!(verdict, "CONSISTENT, BUT NOT PINNED");
    assert!(words.contains("The key is not pinned") && words.contains("This page is not pinned"), "{words}");
    assert_eq!(check(key.trim(), "").0, "PROVED, if this page is the right one");
    let (verdict, words) = check(key.trim(), &hash);
    assert_eq!(verdict, "PROVED");
    assert!(
        words.contains(
            "entries that name the patient and were recorded from the beginning to the end by its own clock: 1 ("
        ) && words.contains("<b>dr</b>")
            && words.contains("<img src=x>"),
        "{words}"
    );
    assert_eq!(check(key.trim(), &"0".repeat(64)).0, "THIS IS NOT THE PAGE THAT YOU EXPECT");
    let other = Place::empty().run(&["init", "s"]).ok();
    assert_eq!(check(other.trim(), &hash).0, "REFUSED");
}
