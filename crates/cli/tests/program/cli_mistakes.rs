//! Mistakes that people make at the command line, and what they must not lead to: a wrong argument is refused and named,
//! and never taken for tampering or for proof, or ignored.

use crate::common::{Place, call, json, overwrite};
use attestlog::json::Json;
use attestlog_capture::import::Format;

const BECAUSE: [&str; 6] = ["--actor", "counsel", "--reason", "lawsuit", "--case", "C-9"];

fn calls() -> String {
    (0..20)
        .map(|i| call("conv_1", if i < 10 { "una" } else { "ugo" }, "t1", &format!(r#""patient_id":"P-{i}""#)))
        .collect()
}

/// An auditor gave the key, or the anchor file, of another log: 15 signatures were found invalid, kept beside the store as
/// tampering, and could only be settled, permanently, in the chain.
#[test]
fn the_key_or_anchor_of_another_log_is_a_wrong_argument() {
    let place = Place::with_lines(&calls());
    let other = place.run(&["init", "other"]).ok();
    place.run_with(&["record", "other", "--no-alerts"], calls().as_bytes()).ok();
    place.write("kept", place.run(&["checkpoint", "s"]).ok());
    place.write("others", place.run(&["checkpoint", "other"]).ok());
    for wrong in [["--public-key", other.trim()], ["--against", "others"]] {
        for command in
            [&["verify", "s"][..], &["report", "access", "s", "--patient", "P-1"], &["evidence", "s", "folder"]]
        {
            let ran = place.run(&[command, &wrong].concat()).code(2);
            let name = other.split('+').next().unwrap();
            assert!(ran.out.is_empty() && ran.err.contains(name) && ran.err.contains(wrong[0]), "{}", ran.err);
            // A log in the place of another one looks the same, and the message says so.
            assert!(ran.err.contains("another log was put in its place"), "{}", ran.err);
        }
    }
    assert!(!place.path("s.verified").exists() && !place.path("folder").exists());
    place.run(&["health", "s"]).code(0);
    // From a file with checkpoints of several logs, those of this one are compared.
    let both = ["kept", "others"].map(|name| std::fs::read_to_string(place.path(name)).unwrap()).concat();
    place.write("both", both);
    let ran = place.run(&["verify", "s", "--against", "both", "--json"]).code(0);
    assert!(ran.err.contains("a checkpoint of another log"), "{}", ran.err);
    assert_eq!(json(&ran.out).get("anchored"), Some(&Json::Bool(true)));
}

/// The store itself was given as what was kept outside it: its notes agree with it, and every report said ANCHORED.
#[test]
fn a_store_anchors_nothing_least_of_all_itself() {
    let place = Place::with_lines(&calls());
    place.run(&["checkpoint", "s"]).ok();
    let bytes = std::fs::read(place.path("s")).unwrap();
    place.write("copy", &bytes);
    place.write("wrapped", [b"x\n\n", &bytes[..]].concat());
    place.write("headless", [b"\n", &bytes[16..]].concat());
    for (file, says) in [("s", "is a store"), ("copy", "is a store"), ("wrapped", "is a store"), ("headless", "binary")]
    {
        for command in
            [&["verify", "s"][..], &["report", "access", "s", "--patient", "P-1"], &["evidence", "s", "folder"]]
        {
            let ran = place.run(&[command, &["--against", file]].concat()).code(2);
            assert!(ran.err.contains(says) && ran.out.is_empty(), "{file}: {}", ran.err);
        }
    }
}

/// A report about an edited log read as if nobody had verified it, gave neither number nor kinds of findings, and ended
/// with exit code 0; queries showed the edited value without a message, beside the file in which the findings were kept.
#[test]
fn a_report_says_that_its_verification_failed() {
    let to = |i: u32| attestlog::Hash::of(&i.to_be_bytes()).to_string();
    let line = |i| call("c", "u", "pay", &format!(r#""patient_id":"P-1","arguments":{{"to":"{}"}}"#, to(i)));
    let place = Place::with_lines(&(0..50).map(line).collect::<String>());
    let clean = place.run(&["report", "access", "s", "--patient", "P-1"]).code(0).out;
    // Nothing was compared, which is all that is known: there may be anchors.
    assert!(clean.contains("UNANCHORED. This report compared") && clean.contains("--against"), "{clean}");
    assert!(place.run(&["query", "s", "--count"]).code(0).err.is_empty());
    let other = to(31).replace(['0', '1', '2', '3'], "9");
    assert!(overwrite(&place.path("s"), &to(31).as_bytes()[8..], &other.as_bytes()[8..]) > 0);

    let report =
        |format: &str| place.run(&["report", "access", "s", "--patient", "P-1", "--format", format]).code(1).out;
    for format in ["text", "html", "csv", "fhir-r4"] {
        let text = report(format).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("VERIFICATION FAILED") || format == "csv" && text.contains("false"), "{format}: {text}");
        assert!(format == "csv" || text.contains("finding"), "{format}: {text}");
    }
    let found = json(&report("json"));
    assert_eq!(found.get("integrity_verified"), Some(&Json::Bool(false)));
    assert!(!found.get("findings").unwrap().as_object().unwrap().is_empty());
    for command in [&["query", "s", "--count"][..], &["stats", "s"], &["timeline", "s", "c"]] {
        let ran = place.run(command).code(3);
        assert!(
            ran.err.contains("entry 33 cannot be read, or its text has another hash")
                && ran.err.contains("a verification at")
                && ran.err.contains("nobody has settled"),
            "{command:?}: {}",
            ran.err
        );
    }
}

/// A hold on `u*` was placed, got a number, and held nothing; a report on `P-*` was VERIFIED and had no accesses.
#[test]
fn a_pattern_where_one_value_is_needed_is_refused() {
    let place = Place::with_lines(&calls());
    assert_eq!(place.count(&["--user", "u*"]), 20);
    let size = place.count(&[]);
    for (flag, pattern) in [("--user", "u*"), ("--tool", "t?"), ("--patient", "P-*"), ("--conversation", "*")] {
        let ran = place.run(&[&["hold", "place", "s", flag, pattern], &BECAUSE[..]].concat()).code(2);
        assert!(ran.out.is_empty() && ran.err.contains(pattern) && ran.err.contains("hold nothing"), "{}", ran.err);
    }
    for command in [
        &["report", "access", "s", "--patient", "P-*"][..],
        &["report", "access", "s", "--user", "u*"],
        &["report", "disclosures", "s", "--patient", "P-*"],
        &["prove", "s", "--complete", "--patient", "P-*"],
        &["timeline", "s", "conv_*"],
        &["timeline", "s", "conv_*", "--json"],
        &["break-glass", "open", "s", "--user", "una", "--patient", "P-*", "--ttl", "1h", "--reason", "r"],
    ] {
        let ran = place.run(command).code(2);
        assert!(ran.out.is_empty() && ran.err.contains("name it whole"), "{command:?}: {}", ran.err);
    }
    assert_eq!(place.count(&[]), size, "nothing was recorded");
    // A user who really has such a name can be named.
    place.run_with(&["record", "s", "--no-alerts"], call("c", "u*", "t1", "").as_bytes()).ok();
    place.run(&[&["hold", "place", "s", "--user", "u*"], &BECAUSE[..]].concat()).ok();
    place.run(&["report", "access", "s", "--user", "u*"]).ok();
    // Entries that do not exist yet will be held when they come, and a message says so.
    let ran = place.run(&[&["hold", "place", "s", "--seq", "3-900"], &BECAUSE[..]].concat()).code(0);
    assert!(ran.err.contains("so far") && ran.err.contains("entry 900"), "{}", ran.err);
    assert!(place.run(&[&["hold", "place", "s", "--seq", "3"], &BECAUSE[..]].concat()).code(0).err.is_empty());
}

/// A list of holds showed only pseudonyms, in a store that keeps names in clear and has the keys beside it, and did not say
/// that a user and a tool in one hold restrict each other.
#[test]
fn a_list_of_holds_says_who_is_held() {
    let place = Place::with_lines(&calls());
    let two = ["hold", "place", "s", "--user", "una", "--user", "ugo", "--tool", "t1", "--seq", "2-9"];
    place.run(&[&two[..], &BECAUSE[..]].concat()).ok();
    let list = place.run(&["hold", "list", "s"]).ok();
    assert!(list.contains("user ugo or una AND tool t1 AND entry 2-9"), "{list}");
    let holds = place.run(&["hold", "list", "s", "--json"]).json();
    let names = holds.as_array().unwrap()[0].get("names").unwrap().to_canonical().to_string();
    assert!(names.contains("\"una\"") && names.contains("\"ugo\""), "{names}");
    // Without the keys this cannot be known.
    let list = place.run(&["hold", "list", "s", "--key", "/nowhere"]).code(0).out;
    assert!(list.contains("ps_") && !list.contains("una"), "{list}");
    let help = place.run(&["hold", "place", "--help"]).ok();
    assert!(help.contains("different kinds restrict each other"), "{help}");
}

/// A misspelt table, an empty file and an unrelated file each removed every anchor of a store, and a policy file removed
/// its receivers; nothing said that redaction became weaker at the same moment.
#[test]
fn a_file_that_says_nothing_of_anchors_takes_none_away() {
    let place = Place::with_store();
    place.write(
        "good.toml",
        "[[anchor]]\nfile = 'kept'\n[redaction]\npreset = 'hipaa'\n[retention.classes]\ngeneral = '5 years'\n",
    );
    place.run(&["policy", "set", "s", "good.toml"]).ok();
    let anchors = std::fs::read_to_string(place.path("s.anchors")).unwrap();
    for text in ["[[anchors]]\nfile = 'kept'\n", "", "[retention.classes]\ngeneral = '5 years'\n"] {
        place.write("bad.toml", text);
        let ran = place.run(&["anchors", "set", "s", "bad.toml"]).code(2);
        assert!(ran.err.contains("bad.toml") && ran.out.is_empty(), "{}", ran.err);
        assert_eq!(std::fs::read_to_string(place.path("s.anchors")).unwrap(), anchors);
    }
    let ran = place.run(&["policy", "set", "s", "bad.toml"]).code(0);
    assert_eq!(std::fs::read_to_string(place.path("s.anchors")).unwrap(), anchors);
    assert!(ran.err.contains("less is hidden") && ran.err.contains("was hipaa and is default"), "{}", ran.err);
    // Setting the same again weakens nothing; a stronger policy is not weaker.
    assert!(place.run(&["policy", "set", "s", "bad.toml"]).code(0).err.is_empty());
    assert!(place.run(&["policy", "set", "s", "good.toml"]).code(0).err.is_empty());
    place.run(&["anchors", "set", "s", "--none"]).ok();
    assert!(!place.run(&["anchors", "show", "s", "--json"]).ok().contains(r#""at_hand":true"#));
    place.run(&["anchors", "set", "s"]).code(2);

    // A missing folder was noticed only when a checkpoint had been owed for a day.
    place.write("far.toml", "[[anchor]]\nfile = 'nowhere/kept'\n");
    for command in [&["anchors", "set", "s", "far.toml"][..], &["init", "t", "--config", "far.toml"]] {
        let ran = place.run(command).code(2);
        assert!(ran.err.contains("there is no folder") && !place.path("t").exists(), "{}", ran.err);
    }
}

/// A text that begins with `Error` was a failure in a transcript, and a success in `record` and in JSON Lines.
#[test]
fn a_text_that_says_error_is_a_failure_everywhere() {
    let place = Place::with_store();
    let line = |more: &str| call("c", "u", "open", more);
    let lines = line(r#""result":"Error: could not open""#)
        + &line(r#""result":"no Error here""#)
        + &line(r#""result":"Errors: none","outcome":"ok""#);
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    assert_eq!(place.count(&["--outcome", "tool_error"]), 1);
    let line = line(r#""timestamp":"2025-07-06T14:23:01Z","result":"Error: could not open""#);
    place.write("f.jsonl", line);
    place.run(&["import", "s", "--format", "jsonl", "f.jsonl"]).ok();
    assert_eq!(place.count(&["--outcome", "tool_error"]), 2);
    assert!(place.run(&["timeline", "s", "c"]).ok().contains("could not open"));
}

/// A terminal on which somebody had watched once stayed in `health` permanently as a receiver that was owed alerts; and
/// entries that no rule looks at were counted there as what rules are behind.
#[test]
fn whoever_watched_once_is_owed_nothing() {
    let place = Place::with_lines(&calls());
    place.run(&["alerts", "watch", "s", "--once"]).ok();
    let because = ["--actor", "ops", "--reason", "checked"];
    place.run(&[&["clock", "confirm", "s"], &because[..]].concat()).ok();
    let lines: String = (0..12).map(|_| call("c", "una", "t1", r#""patient_id":"P-1""#)).collect();
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    place.run(&[&["clock", "confirm", "s"], &because[..]].concat()).ok();
    let health = place.run(&["health", "s"]).ok();
    assert!(!health.contains("standard output") && health.contains("rules have looked at every entry"), "{health}");
}

/// The same mistake had a different exit code with every command: bad input is 2.
#[test]
fn a_wrong_file_is_bad_input_with_every_command() {
    let place = Place::with_lines(&calls());
    place.write("there", "");
    let because = ["--actor", "ops", "--reason", "moved"];
    let grant = ["break-glass", "check", "s", "777", "--user", "u", "--patient", "p"];
    for command in [
        &["backup", "s", "there"][..],
        &["keys", "backup", "s", "there"],
        &["evidence", "s", "there"],
        &[&["restore", "missing", "new"], &because[..]].concat(),
        &["record", "s", "missing"],
        &grant,
    ] {
        let ran = place.run(command).code(2);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{command:?}: {}", ran.err);
    }
    // The message says what to do in terms of the command line.
    let empty = place.command(&["query", "s"]).env("ATTESTLOG_KEY", "").output().unwrap();
    assert_eq!(empty.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("is set and empty"));
    std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
    let ran = place.run_with(&["record", "s"], calls().as_bytes()).code(3);
    assert!(ran.err.contains("--unsigned"), "{}", ran.err);
}

/// As root, a file of mode 0400 was changed, by a refused record and by commands that only read.
#[test]
#[cfg(unix)]
fn a_write_protected_store_is_not_changed() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_lines(&calls());
    std::fs::set_permissions(place.path("s"), std::fs::Permissions::from_mode(0o400)).unwrap();
    let bytes = std::fs::read(place.path("s")).unwrap();
    place.run(&["query", "s", "--count"]).ok();
    place.run(&["verify", "s"]).ok();
    let ran = place.run_with(&["record", "s"], calls().as_bytes()).code(3);
    assert!(ran.err.contains("write-protected"), "{}", ran.err);
    place.run(&["keys", "rotate", "s"]).code(3);
    assert_eq!(std::fs::read(place.path("s")).unwrap(), bytes);
}

/// Eight of nine was shown as 88.8 %, cut and not rounded; turns over several days showed only the time of day.
#[test]
fn figures_and_times_read_as_they_are() {
    let place = Place::with_store();
    let line = |i: u32| {
        let result = if i == 0 { r#""error":"no""# } else { r#""result":1"# };
        call("c", "u", "t", &format!(r#""backfilled":true,"timestamp":"2025-0{}-06T14:23:01Z",{result}"#, i + 1))
    };
    place.run_with(&["record", "s", "--no-alerts"], (0..9).map(line).collect::<String>().as_bytes()).ok();
    let stats = place.run(&["stats", "s"]).ok();
    assert!(stats.contains("88.9 %"), "{stats}");
    let timeline = place.run(&["timeline", "s", "c"]).ok();
    assert!(timeline.contains("\n 2025-01-06\n") && timeline.contains("\n 2025-09-06\n"), "{timeline}");
}

/// `backup` and `evidence` onto something that is there were bad input, exit code 2; `init` and `restore` said that the store could not
/// be used, 3, which scripts try again later.
#[test]
fn what_exists_already_is_a_wrong_argument_of_every_command() {
    let place = Place::with_lines(&calls());
    place.run(&["backup", "s", "copy"]).ok();
    place.write("note", "no store");
    place.write("used.key", "no key");
    place.write("sent.anchors", "");
    let before = place.run(&["query", "s", "--json"]).ok();
    for args in [
        &["init", "s"][..],
        &["init", "note"],
        &["init", "used"],
        &["init", "sent"],
        &["init", "fresh", "--key", "s.key"],
        &["restore", "copy", "note", "--key", "s.key", "--actor", "ops", "--reason", "disk"],
        &["restore", "copy", "s", "--actor", "ops", "--reason", "disk"],
        &["backup", "s", "note"],
        &["keys", "backup", "s", "note"],
        &["evidence", "s", "note"],
    ] {
        let ran = place.run(args).code(2);
        assert!(
            ran.out.is_empty() && ran.err.contains("exist") || ran.err.contains("is used by"),
            "{args:?}: {}",
            ran.err
        );
    }
    assert_eq!(place.run(&["query", "s", "--json"]).ok(), before);
    assert_eq!(std::fs::read_to_string(place.path("note")).unwrap(), "no store");
    assert!(!place.path("fresh").exists() && !place.path("used").exists() && !place.path("sent").exists());
}

/// A transcript in Markdown was refused with the byte at which no JSON begins, and nothing said what can be imported.
#[test]
fn an_import_of_what_is_no_json_says_what_can_be_imported() {
    let place = Place::with_store();
    place.write("t.md", "# Notes\n\n- **user**: hello\n");
    for format in Format::ALL {
        let ran = place.run(&["import", "s", "--format", format.as_str(), "t.md"]).code(2);
        assert!(ran.err.contains("no JSON; what can be imported is"), "{}", ran.err);
        assert!(Format::ALL.iter().all(|known| ran.err.contains(known.as_str())), "{}", ran.err);
    }
}
