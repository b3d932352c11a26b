//! `report package`: what is in the folder, what the program says before it writes it, and what its reader must be given by another way.

use crate::common::{Place, call};
use attestlog::json::Json;
use std::path::Path;

fn place() -> Place {
    let lines: String = (0..12)
        .map(|i| {
            let patients = if i == 4 { r#"["P-1","P-2"]"#.to_owned() } else { format!("\"P-{}\"", 1 + i % 3) };
            call(&format!("c{i}"), &format!("dr_{}", i % 2), "read_chart", &format!(r#""patient_id":{patients}"#))
        })
        .collect();
    Place::with_lines(&lines)
}

fn key(place: &Place) -> String {
    let keys = place.run(&["keys", "show", "s", "--json"]).json();
    keys.get("public_key").and_then(Json::as_str).unwrap().to_owned()
}

fn text(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.path(name)).unwrap()
}

/// The report named the log but neither its size, root nor key, so nobody could tie it to a proof; the proof took this program to check;
/// and the only thing that standard tools could check handed over every patient.
#[test]
fn a_package_has_one_patient_and_everything_to_check_it() {
    let (place, key) = (place(), String::new());
    let ran = place.run(&["report", "package", "s", "out", "--patient", "P-1"]).code(0);
    let key = key + &self::key(&place);
    // Whose data it is stands before the folder is there, and what its reader needs comes by another way.
    assert!(ran.err.contains("5 entries of the patient") && ran.err.contains("names of 2 users"), "{}", ran.err);
    assert!(ran.err.contains("1 other patient named in the same calls"), "{}", ran.err);
    assert!(ran.out.contains(&key) && ran.out.contains("SHA-256 of verify.html"), "{}", ran.out);
    for name in [
        "report.html",
        "entries.jsonl",
        "checkpoint",
        "public-key",
        "verify.html",
        "verify.py",
        "README.txt",
        "attestations",
    ] {
        assert!(place.path("out").join(name).exists(), "{name}");
    }
    let lines = text(&place, "out/entries.jsonl");
    assert!(lines.lines().count() == 5 && !lines.contains("P-3"), "{lines}");
    assert_eq!(std::fs::read_dir(place.path("out/proofs")).unwrap().count(), 6);
    // The report is tied to the checkpoint by root and size.
    let checked = place.run(&["check", "out", "--public-key", &key, "--patient", "P-1", "--json"]).json();
    let report = text(&place, "out/report.html");
    for name in ["root", "size"] {
        let value = checked.get(name).unwrap();
        let value = value.as_str().map_or_else(|| value.to_canonical().to_string(), str::to_owned);
        assert!(report.contains(&value), "{name} {value}");
    }
    assert!(report.contains(&key));
    // Each proof is also one that other tools read.
    let first = lines.lines().next().unwrap().split("\"seq\":").nth(1).unwrap().split(',').next().unwrap();
    place.run(&["check", &format!("out/proofs/entry-{first}.proof"), "--public-key", &key]).ok();
    // Nothing is written over, and about another patient it proves nothing.
    place.run(&["report", "package", "s", "out", "--patient", "P-1"]).code(2);
    assert!(
        place
            .run(&["check", "out", "--public-key", &key, "--patient", "P-2"])
            .code(1)
            .err
            .contains("it is about patient")
    );
    let other = Place::empty().run(&["init", "s"]).ok();
    assert!(
        place.run(&["check", "out", "--public-key", other.trim()]).code(1).err.contains("not the one that you gave")
    );
    place.run(&["check", "out", "--public-key", &key, "--old", "out/checkpoint"]).code(2);
}

#[test]
fn the_period_is_one_of_the_logs_clock() {
    let place = place();
    let run = |name: &str, more: &[&str]| {
        place.run(&[&["report", "package", "s", name, "--patient", "P-1"][..], more].concat())
    };
    let ran = run("none", &["--until", "2020-01-01"]).code(0);
    assert!(ran.err.contains("5 entries of the same patient outside the period"), "{}", ran.err);
    assert_eq!(text(&place, "none/entries.jsonl"), "");
    let report = text(&place, "none/report.html");
    assert!(report.contains("recorded before 2020-01-01") && report.contains("No accesses in this period"));
    let told = place.run(&["check", "none", "--public-key", &key(&place)]).ok();
    assert!(
        told.contains("by its own clock: none.") && told.contains("More of them were recorded outside that period: 5."),
        "{told}"
    );
    run("empty", &["--since", "2020-01-01", "--until", "2020-01-01"]).code(2);
    run("backwards", &["--since", "2021-01-01", "--until", "2020-01-01"]).code(2);
    assert!(!place.path("empty").exists() && !place.path("backwards").exists());
}

#[test]
fn neighbours_are_withheld_unless_somebody_asks() {
    let place = place();
    let ran = place.run(&["report", "package", "s", "out", "--patient", "P-15"]).code(2);
    assert!(ran.err.contains("With --neighbours they are shown") && !place.path("out").exists(), "{}", ran.err);
    let ran = place.run(&["report", "package", "s", "out", "--patient", "P-15", "--neighbours"]).code(0);
    assert!(ran.err.contains("names of other patients in the index, as neighbours"), "{}", ran.err);
    place.run(&["check", "out", "--public-key", &key(&place), "--patient", "P-15"]).ok();
}

/// Names that are kept as pseudonyms prove nothing of a person to somebody without the keys, and the program says so at once.
#[test]
fn hidden_names_are_proven_of_nobody() {
    let place = Place::empty();
    place.write("config.toml", "[redaction]\npreset = 'hipaa'\n");
    place.run(&["init", "s", "--config", "config.toml"]).ok();
    place.run_with(&["record", "s", "--no-alerts"], call("c", "dr", "t", r#""patient_id":"P-1""#).as_bytes()).ok();
    let ran = place.run(&["report", "package", "s", "out", "--patient", "P-1"]).code(0);
    assert!(ran.out.contains("hidden behind pseudonyms"), "{}", ran.out);
    let key = key(&place);
    assert!(place.run(&["check", "out", "--public-key", &key]).code(1).out.contains("NOT PROVED OF ANYBODY"));
    place.run(&["check", "out/proofs/complete.json", "--public-key", &key, "--key", "s.key"]).ok();
}

#[test]
fn a_damaged_package_is_refused_with_the_reason() {
    let place = place();
    place.run(&["report", "package", "s", "out", "--patient", "P-1"]).ok();
    let key = key(&place);
    let refused = |says: &str| {
        let ran = place.run(&["check", "out", "--public-key", &key]).code(1);
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
        let json = place.run(&["check", "out", "--public-key", &key, "--json"]).code(1).out;
        assert!(json.contains("\"verdict\":\"failed\"") && json.contains("\"ok\":false"), "{json}");
    };
    let before = text(&place, "out/entries.jsonl");
    place.write("out/entries.jsonl", before.replacen("dr_", "dx_", 1));
    refused("entries.jsonl is not what was proven");
    place.write("out/entries.jsonl", &before);
    let proof = std::fs::read_dir(place.path("out/proofs")).unwrap().map(|file| file.unwrap().path());
    let proof = proof.into_iter().find(|path| path.extension().is_some_and(|end| end == "proof")).unwrap();
    std::fs::copy(&proof, place.path("out/proofs/entry-900.proof")).unwrap();
    refused("a proof too many");
    std::fs::remove_file(place.path("out/proofs/entry-900.proof")).unwrap();
    std::fs::remove_file(&proof).unwrap();
    refused("is missing");
    std::fs::remove_file(place.path("out/package.json")).unwrap();
    // Without its claim it is taken for evidence, which it is not.
    place.run(&["check", "out", "--public-key", &key]).code(1);
}

/// A report goes into a file that is replaced in one step, and its text says what each person did.
#[test]
fn a_report_goes_into_a_file() {
    let place = place();
    for format in ["text", "json", "csv", "html", "fhir-r4"] {
        let args = ["report", "access", "s", "--patient", "P-1", "--format", format];
        let ran = place.run(&[&args[..], &["-o", "report"]].concat()).code(0);
        assert_eq!(ran.out, "");
        assert!(text(&place, "report").contains("dr_0"), "{format}");
    }
    let told = place.run(&["report", "access", "s", "--patient", "P-1"]).ok();
    // The key is longer than a line.
    let unbroken: String = told.split_whitespace().collect();
    assert!(told.contains("Who        dr_0: 3 accesses") && unbroken.contains(&key(&place)), "{told}");
    assert!(place.run(&["report", "access", "s", "--patient", "P-1", "-o", "s"]).code(2).err.contains("is a store"));
    assert!(Path::new(&place.path("s")).exists());
}
