//! What the program says where it said nothing, or something that was not so.

use super::common::{Place, call};
use attestlog::json::Json;
use std::io::Read;
use std::time::Duration;

/// One bad line in an anchor file made `verify` contradict itself: nothing kept elsewhere had been compared (give --against FILE), said
/// one line to somebody who had given one, and what was compared covers every entry, said the next.
#[test]
fn what_could_be_compared_is_said_where_a_part_of_a_file_could_not() {
    let place = Place::with_lines(&call("c", "u", "look", ""));
    place.write("a.toml", "[[anchor]]\nfile = 'kept'\n");
    place.run(&["anchors", "set", "s", "a.toml"]).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    let kept = std::fs::read_to_string(place.path("kept")).unwrap();
    place.write("kept", format!("{kept}x\n{kept}"));
    let anchored = |out: &str| out.lines().find(|line| line.trim_start().starts_with("anchored")).unwrap().to_owned();
    let ran = place.run(&["verify", "s", "--against", "kept"]).code(1);
    assert!(ran.out.contains("kept_damaged"), "{ran:?}");
    assert!(anchored(&ran.out).contains("by what could be compared"), "{ran:?}");
    let none = place.run(&["verify", "s"]).ok();
    assert!(anchored(&none).contains("give --against FILE"), "{none}");
}

/// A second disposition of an alert was recorded without a word about the first, and the list showed only the second: anybody could
/// replace what somebody else had found, unseen.
#[test]
fn a_second_acknowledgement_names_the_first() {
    let place = Place::empty();
    let rule = "[[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'every'\nwhen = { kind = 'tool_call' }\n";
    place.write("c.toml", rule);
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    place.run_with(&["record", "s"], call("c", "u", "look", "").as_bytes()).ok();
    let alert = place.run(&["query", "s", "--kind", "alert", "--json"]).json();
    let seq = alert.get("seq").and_then(Json::as_u64).unwrap().to_string();
    let ack =
        |who: &str, what: &str| place.run(&["alerts", "ack", "s", &seq, "--actor", who, "--disposition", what]).code(0);
    assert!(ack("anna", "misuse").err.is_empty());
    let second = ack("ben", "nothing").err;
    assert!(second.contains("anna") && second.contains("misuse"), "{second}");
    let list = place.run(&["alerts", "list", "s"]).ok();
    assert!(list.contains("nothing (ben; 1 before)"), "{list}");
}

/// `alerts forget` dropped what a receiver in use was owed, and said nothing; `anchors forget` refuses an anchor in use.
#[test]
fn a_receiver_in_use_is_not_forgotten() {
    let place = Place::empty();
    let every = "[[alerts]]\nname = 'every'\nwhen = { kind = 'tool_call' }\n";
    place.write("c.toml", format!("[[receivers]]\nname = 'told'\nfile = 'told'\n{every}"));
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    place.run_with(&["record", "s"], call("c", "u", "look", "").as_bytes()).ok();
    let refused = place.run(&["alerts", "forget", "s", "told"]).code(2).err;
    assert!(refused.contains("in use"), "{refused}");
    let unknown = place.run(&["alerts", "forget", "s", "tolt"]).code(2).err;
    assert!(unknown.contains("\"told\""), "{unknown}");
    place.write("d.toml", every);
    place.run(&["policy", "set", "s", "d.toml", "--no-receivers"]).ok();
    assert_eq!(place.run(&["alerts", "forget", "s", "told"]).ok(), "forgotten: told\n");
    let unknown = place.run(&["anchors", "forget", "s", "nowhere"]).code(2).err;
    assert!(unknown.contains("there are none"), "{unknown}");
}

/// `redact --explain`, the command to try a policy out, showed that a value would be masked which a store seals.
#[test]
fn a_policy_that_is_tried_out_shows_what_is_sealed() {
    let place = Place::empty();
    place.write("c.toml", "[redaction.fields]\ninsurance_number = 'seal'\n");
    let args = ["redact", "--config", "c.toml", "--explain"];
    let shown = place.run_with(&args, br#"{"arguments":{"insurance_number":"A 123"}}"#).json();
    let treated = &shown.get("treated").and_then(Json::as_array).unwrap()[0];
    assert_eq!(treated.get("action").and_then(Json::as_str), Some("seal"));
    assert!(shown.to_canonical().as_str().contains("[SEALED]"), "{shown:?}");

    // A mistaken path of `reveal` is answered with the right one.
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    let line = call("c", "u", "look", r#""arguments":{"insurance_number":"A 123"}"#);
    place.run_with(&["record", "s", "--no-alerts"], line.as_bytes()).ok();
    let wrong = place.run(&["reveal", "s", "2", "insurance_number", "--actor", "a", "--reason", "r"]).code(2).err;
    assert!(wrong.contains("arguments.insurance_number"), "{wrong}");
}

/// A sender's numbers 1 and then 3 were taken without a word, though a call that was lost on the way is exactly what they can show.
#[test]
fn numbers_that_a_sender_skips_are_named() {
    let place = Place::with_store();
    let line = |n: u64| call("c", "u", "look", &format!(r#""sender":{{"id":"me","number":{n}}}"#));
    let record = |numbers: &[u64]| {
        let lines: String = numbers.iter().map(|n| line(*n)).collect();
        place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).code(0).err
    };
    assert!(record(&[1, 2, 3]).is_empty());
    assert!(record(&[9, 8, 4, 6, 7, 5]).is_empty(), "in any order");
    let told = record(&[10, 12, 17, 14]);
    assert!(told.contains("numbers 10 to 17 this input does not have 11, 13, 15 to 16"), "{told}");
}

/// `tail` of a misspelt user waited for ever and said nothing, where every other command says that the log has no such user.
#[test]
fn tail_says_that_nobody_has_the_name_before_it_waits() {
    let place = Place::with_lines(&call("c", "anna", "look", ""));
    for (args, said) in [
        (["tail", "s", "--user", "ana"], "no entry of this log has the user"),
        (["tail", "s", "--from", "99"], "so far"),
    ] {
        let mut child = place.command(&args).spawn().unwrap();
        let mut err = child.stderr.take().unwrap();
        let (tell, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 256];
            while let Ok(n @ 1..) = err.read(&mut bytes) {
                let _ = tell.send(String::from_utf8_lossy(&bytes[..n]).into_owned());
            }
        });
        let mut told = String::new();
        while !told.contains(said) {
            match hear.recv_timeout(Duration::from_secs(60)) {
                Ok(more) => told.push_str(&more),
                Err(_) => break,
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told.contains(said), "{args:?}: {told}");
    }
}

/// The advice for a patient with a star named a command that refuses it, because the log keeps pseudonyms.
#[test]
fn advice_that_cannot_be_followed_is_not_given() {
    let place = Place::empty();
    place.write("c.toml", "[redaction]\npreset = 'hipaa'\n");
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    place.run(&["init", "t"]).ok();
    let line = call("c", "u", "look", r#""patient_id":"P-1""#);
    for (store, advised) in [("s", false), ("t", true)] {
        place.run_with(&["record", store, "--no-alerts"], line.as_bytes()).ok();
        let refused = place.run(&["report", "access", store, "--patient", "P-*"]).code(2).err;
        assert_eq!(refused.contains("shows who fits"), advised, "{refused}");
    }
}

/// `erase` under a hold ended with 2 as if the command had been wrong, and `purge` with 1 where the clock was frozen and with 2 after a
/// restore: what stands in the way is in the log each time.
#[test]
fn what_the_log_stands_in_the_way_of_ends_with_1() {
    let place = Place::empty();
    place.write("c.toml", "[redaction.fields]\ndiagnosis = 'seal'\n");
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    let line = call("c", "u", "look", r#""patient_id":"P-1","arguments":{"diagnosis":"x"}"#);
    place.run_with(&["record", "s", "--no-alerts"], line.as_bytes()).ok();
    place.run(&["hold", "place", "s", "--actor", "a", "--reason", "r", "--case", "C", "--patient", "P-1"]).ok();
    let erase = |who: &str| place.run(&["erase", "s", "--subject", who, "--actor", "a", "--reason", "r"]);
    let held = erase("P-1").code(1).err;
    assert!(held.contains("hold"), "{held}");
    erase("P-2").code(2);
}

/// The anchors of a file that others may write to were shown as not configured any more, while recording was refused because of it.
#[cfg(unix)]
#[test]
fn anchors_of_a_file_that_is_not_trusted_are_not_called_removed() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_store();
    place.write("a.toml", "[[anchor]]\nfile = 'kept'\n");
    place.run(&["anchors", "set", "s", "a.toml"]).ok();
    std::fs::set_permissions(place.path("s.anchors"), std::fs::Permissions::from_mode(0o660)).unwrap();
    place.run_with(&["record", "s"], call("c", "u", "look", "").as_bytes()).code(3);
    std::fs::set_permissions(place.path("s.anchors"), std::fs::Permissions::from_mode(0o600)).unwrap();
    place.run(&["anchors", "flush", "s"]).ok();
    std::fs::remove_file(place.path("kept")).unwrap();
    std::fs::set_permissions(place.path("s.anchors"), std::fs::Permissions::from_mode(0o660)).unwrap();
    let shown = place.run(&["anchors", "show", "s"]);
    assert!(!shown.out.contains("not configured any more") && shown.out.contains("not used"), "{shown:?}");
}
