//! Promise: alerts and emergency access on the command line work as described, refuse wrong input with exit code 2 and the
//! reason, and show as plain text whatever people wrote into them.

use crate::common::{Ran, call, json};
use attestlog::json::Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

type Place = crate::common::Place;

/// A store whose user `u` accessed `P-1` ten times: one alert for that, besides the first access.
fn busy() -> Place {
    let place = Place::empty();
    place.write(
        "quiet.toml",
        "[[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'same-patient'\nwhen = { kind = 'tool_call' }\nkey = ['user', 'patient']\ncount = 10\n",
    );
    place.run(&["init", "s", "--config", "quiet.toml"]).ok();
    let lines = call("c", "u", "read_chart", r#""patient_id":"P-1""#).repeat(10);
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    place
}

fn alerts(place: &Place, more: &[&str]) -> Vec<Json> {
    place.run(&[&["alerts", "list", "s", "--json"], more].concat()).ok().lines().map(json).collect()
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or_default()
}

#[track_caller]
fn refused(ran: Ran, why: &str) {
    let ran = ran.code(2);
    assert!(ran.err.contains(why) && ran.out.is_empty(), "{why}: {} {}", ran.err, ran.out);
}

/// Text that people might paste into names: each is an id like any other.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> =
        ["a\"b'c`d", "line\nbreak\r\nand\ttab", "<script>alert(1)</script>", "\u{1b}[2J\u{202e}", "=1+1", "--dash"]
            .map(str::to_owned)
            .to_vec();
    all.push("x".repeat(10_000));
    all
}

#[test]
fn what_is_recorded_raises_its_alerts_before_the_command_ends() {
    let place = busy();
    // A list only reads, so the alert was raised by `record`.
    let raised = alerts(&place, &[]);
    assert_eq!(raised.len(), 1);
    assert_eq!((text(&raised[0], "rule"), text(&raised[0], "severity")), ("same-patient", "warning"));
    assert_eq!(raised[0].get("count").and_then(Json::as_u64), Some(10));
    assert_eq!(raised[0].get("acknowledged"), Some(&Json::Null));
    let shown = place.run(&["alerts", "list", "s"]).ok();
    assert!(shown.contains("same-patient") && shown.contains("user u") && shown.contains("open"), "{shown}");
    place.run(&["verify", "s"]).ok();
}

#[test]
fn left_alone_rules_look_later() {
    let place = busy();
    let lines = call("c", "v", "read_chart", r#""patient_id":"P-1""#).repeat(10);
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    assert_eq!(alerts(&place, &[]).len(), 1);
    assert!(place.run(&["health", "s"]).out.contains("behind"));
    assert!(place.run(&["alerts", "list", "s"]).err.contains("alerts watch --once"));
    place.run(&["alerts", "watch", "s", "--once"]).ok();
    assert_eq!(alerts(&place, &[]).len(), 2);
    let health = place.run(&["health", "s", "--json"]).json();
    assert_eq!(health.get("alerts").and_then(|a| a.get("oldest")), Some(&Json::Null));
}

#[test]
fn an_import_raises_nothing_and_is_remembered() {
    let place = Place::with_store();
    let lines = call("c", "u", "read_chart", r#""patient_id":"P-1""#).repeat(30);
    place.write("calls", &lines);
    place.run(&["import", "s", "--format", "jsonl", "calls"]).ok();
    assert!(alerts(&place, &[]).is_empty());
    // This is no longer the first access.
    place.run_with(&["record", "s"], call("c", "u", "read_chart", r#""patient_id":"P-1""#).as_bytes()).ok();
    assert!(alerts(&place, &[]).iter().all(|alert| text(alert, "rule") != "first-access"));
}

#[test]
fn an_alert_is_acknowledged_with_actor_and_disposition() {
    let place = busy();
    let seq = alerts(&place, &[])[0].get("seq").unwrap().as_u64().unwrap().to_string();
    let ack = |seq: &str, actor: &str, disposition: &str| {
        place.run(&["alerts", "ack", "s", seq, "--actor", actor, "--disposition", disposition])
    };
    refused(ack("0", "office", "explained"), "0");
    refused(ack("99999", "office", "explained"), "99999");
    refused(ack(&seq, "  ", "explained"), "actor");
    refused(ack(&seq, "office", ""), "disposition");
    refused(place.run(&["alerts", "ack", "s", "no", "--actor", "o", "--disposition", "d"]), "SEQ");
    refused(place.run(&["alerts", "ack", "s", &seq, "--actor", "o"]), "--disposition");
    assert!(ack(&seq, "office", "explained: month end").ok().contains(&format!("acknowledged alert {seq}")));
    assert!(alerts(&place, &["--open"]).is_empty());
    let said = alerts(&place, &[])[0].get("acknowledged").unwrap().clone();
    assert_eq!((text(&said, "actor"), text(&said, "disposition")), ("office", "explained: month end"));
    place.run(&["alerts", "list", "nowhere"]).code(3);
    place.run(&["alerts", "ack", "nowhere", "1", "--actor", "o", "--disposition", "d"]).code(3);
}

#[test]
fn hostile_names_are_shown_as_text() {
    let place = Place::empty();
    place.write("c.toml", "[[alerts]]\nname = 'first-access'\n");
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    for id in hostile() {
        let line = format!(
            "{{\"conversation_id\":\"c\",\"user_id\":{0},\"tool_name\":\"t\",\"patient_id\":{0}}}\n",
            Json::from(id.as_str()).to_canonical()
        );
        place.run_with(&["record", "s"], line.as_bytes()).ok();
        let grant = ["break-glass", "open", "s", "--user", &id, "--patient", &id, "--ttl", "1h", "--json"];
        let reason = format!("--reason={id}");
        let opened = place.run(&[&grant[..], &[&reason]].concat());
        let seq = opened.json().get("grant").unwrap().as_u64().unwrap().to_string();
        let note = format!("--note={id}");
        let disposition = format!("--disposition={id}");
        place.run(&["break-glass", "review", "s", &seq, "--reviewer", "office", &disposition, &note]).ok();
    }
    let raised = alerts(&place, &[]);
    assert!(raised.len() >= hostile().len());
    let seq = raised[0].get("seq").unwrap().as_u64().unwrap().to_string();
    for (i, id) in hostile().iter().enumerate() {
        place.run(&["alerts", "ack", "s", &seq, "--actor", id, &format!("--disposition={id}")]).ok();
        // A name has no invisible characters.
        let id = id.trim_end_matches('\u{202e}');
        assert_eq!(text(alerts(&place, &[])[0].get("acknowledged").unwrap(), "actor"), id, "{i}");
    }
    for args in [&["alerts", "list", "s"][..], &["break-glass", "list", "s"]] {
        let shown = place.run(args).ok();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{args:?}");
        assert!(shown.contains("line\\nbreak"), "{shown}");
        // One line for each, and one for the headings.
        let rows = place.run(&[args, &["--json"]].concat()).ok().lines().count();
        assert_eq!(shown.lines().count(), rows + 1, "{args:?}");
    }
    place.run(&["verify", "s"]).ok();
}

#[test]
fn a_watch_delivers_what_is_owed_and_verifies() {
    let place = busy();
    let watch = |more: &[&str]| place.run(&[&["alerts", "watch", "s", "--once"], more].concat());
    // A receiver that is new is owed what is raised from then on.
    assert_eq!(watch(&[]).ok(), "");
    let lines = call("c", "v", "read_chart", r#""patient_id":"P-1""#).repeat(10);
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    let told = watch(&[]).ok();
    assert_eq!(text(&json(told.trim()), "rule"), "same-patient");
    assert_eq!(watch(&[]).ok(), "", "once");
    // A failing receiver is reported, and the alert is sent again.
    assert_eq!(watch(&["--command", "false"]).ok(), "");
    let lines = call("c", "w", "read_chart", r#""patient_id":"P-1""#).repeat(10);
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    assert!(watch(&["--command", "false"]).code(1).err.contains("command false"));
    let health = json(&place.run(&["health", "s", "--json"]).code(1).out);
    let owed = health.get("alerts").unwrap().get("receivers").unwrap().get("command false").unwrap();
    assert_eq!(owed.get("undelivered").and_then(Json::as_u64), Some(1));
    place.run(&["alerts", "forget", "s", "command false"]).ok();
    refused(place.run(&["alerts", "forget", "s", "command false"]), "no receiver");

    watch(&["--verify-every", "1h"]).ok();
    for bad in ["soon", "", "1x", "-1h"] {
        refused(watch(&[&format!("--verify-every={bad}")]), "length of time");
    }
    refused(watch(&["--webhook", "http://127.0.0.1:1/"]), "--webhook-secret-file");
    place.write("short", "tooshort\n");
    refused(watch(&["--webhook", "http://127.0.0.1:1/", "--webhook-secret-file", "short"]), "16 bytes");
    place.write("secret", "a secret of more than sixteen bytes\n");
    refused(watch(&["--webhook", "not a url", "--webhook-secret-file", "secret"]), "");
    refused(watch(&["--webhook", "http://127.0.0.1:1/", "--webhook-secret-file", "nowhere"]), "nowhere");
    place.run(&["alerts", "watch", "nowhere", "--once"]).code(3);
}

#[test]
fn tampering_is_found_alerted_and_settled_by_somebody() {
    let place = busy();
    assert_eq!(place.run(&["health", "s", "--json"]).json().get("last_verification"), Some(&Json::Null));
    place.run(&["verify", "s", "--remember"]).ok();
    let last =
        |what: &str| place.run(&["health", "s", "--json"]).out.lines().map(json).next().unwrap().get(what).cloned();
    assert_eq!(last("last_verification").unwrap().get("ok"), Some(&Json::Bool(true)));
    refused(place.run(&["alerts", "settle", "s", "--actor", "a", "--disposition", "d"]), "settled");
    std::fs::copy(place.path("s"), place.path("good")).unwrap();
    assert!(crate::common::overwrite(&place.path("s"), b"read_chart", b"read_chrat") > 0);
    place.run(&["verify", "s"]).code(1);
    // The good copy is put back and verifies; the finding stays until somebody has settled it.
    std::fs::copy(place.path("good"), place.path("s")).unwrap();
    place.run(&["verify", "s", "--remember"]).ok();
    assert_eq!(last("last_verification").unwrap().get("ok"), Some(&Json::Bool(true)));
    assert!(last("unsettled_verification").unwrap().get("findings").unwrap().as_u64().unwrap() > 0);
    assert!(place.run(&["health", "s"]).code(1).out.contains("nobody has settled"));
    refused(place.run(&["alerts", "settle", "s", "--actor", "", "--disposition", "d"]), "actor");
    let settle = ["alerts", "settle", "s", "--actor", "office", "--disposition", "a drill"];
    refused(place.run(&settle), "entry_changed, page_damaged is not found now");
    let settled = place.run(&[&settle[..], &["--not-found"]].concat()).ok();
    assert!(settled.contains("0 findings, and ") && settled.contains("1 page_damaged"), "{settled}");
    assert_eq!(last("unsettled_verification"), Some(Json::Null));
    place.run(&["health", "s"]).ok();
    let alerts = alerts(&place, &[]);
    let tampering = alerts.iter().find(|alert| text(alert, "rule") == "tampering").unwrap();
    assert_eq!(text(tampering.get("acknowledged").unwrap(), "disposition"), "a drill");
    place.run(&["verify", "s"]).ok();
}

#[test]
fn configured_receivers_are_told_by_whatever_records() {
    let place = Place::empty();
    let out = place.path("told.jsonl");
    let program = place.write("take.sh", "#!/bin/sh\ncat >> \"$1\"\n");
    #[cfg(unix)]
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    place.write("secret", "a secret of more than sixteen bytes\nnot this line\n");
    let by_command = place.path("by-command");
    let quoted = |path: &std::path::Path| Json::from(path.to_str().unwrap()).to_canonical();
    let config = format!(
        "[[receivers]]\nto = 'stdout'\n[[receivers]]\nname = 'archive'\nfile = {}\n[[receivers]]\ncommand = [{}, {}]\n\
         [[receivers]]\nwebhook = 'http://{address}/alerts'\nsecret_file = {}\ntimeout = '5s'\n\
         [[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'every'\nwhen = {{ kind = 'tool_call' }}\n",
        quoted(&out),
        quoted(&program),
        quoted(&by_command),
        quoted(&place.path("secret"))
    );
    place.write("config.toml", config);
    place.run(&["init", "s", "--config", "config.toml"]).ok();
    let posted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().unwrap();
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body)
    });
    let ran = place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    let alert = ran.lines().find(|line| line.starts_with('{')).expect("the alert on standard output").to_owned();
    assert_eq!(text(&json(&alert), "rule"), "every");
    let same = format!("{alert}\n");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), same);
    assert_eq!(std::fs::read_to_string(&by_command).unwrap(), same);
    let (head, body) = posted.join().unwrap();
    assert_eq!(String::from_utf8(body.clone()).unwrap(), alert);
    let signature = attestlog::alert::Webhook::signature(b"a secret of more than sixteen bytes", &body);
    assert!(head.contains(&signature), "{head}");

    // If standard output carries receipts, alerts do not come between them.
    let ran = place.run_with(&["record", "s", "--receipts"], call("c", "v", "t", "").as_bytes()).code(0);
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    assert!(ran.err.contains("every"), "{}", ran.err);
    // The web address no longer answers: the record is made all the same, and health knows what is owed.
    let health = json(&place.run(&["health", "s", "--json"]).code(1).out);
    let receivers = health.get("alerts").unwrap().get("receivers").unwrap();
    let owed: u64 = receivers
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.starts_with("webhook"))
        .map(|(_, r)| r.get("undelivered").and_then(Json::as_u64).unwrap())
        .sum();
    assert_eq!(owed, 1);
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 2);
    // A store that somebody hands over runs no programs: receivers are not in it.
    assert!(!place.run(&["query", "s", "--json"]).ok().contains("take.sh"));

    #[cfg(unix)]
    {
        std::fs::set_permissions(place.path("s.receivers"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let ran = place.run_with(&["record", "s"], call("c", "w", "t", "").as_bytes()).code(0);
        assert!(ran.err.contains("chmod go-w"), "{}", ran.err);
    }
    // Receivers are not part of the policy: a file that did not mention them used to remove them silently.
    place.write("none.toml", "");
    place.run(&["policy", "set", "s", "none.toml"]).ok();
    assert!(place.path("s.receivers").exists());
    place.run(&["policy", "set", "s", "none.toml", "--no-receivers"]).ok();
    assert!(!place.path("s.receivers").exists());
}

/// A webhook whose secret was missing or too short was accepted, and from then on kept every receiver from getting
/// anything, with exit code 0 and a green `health`; so did a file of receivers that others can write to.
#[test]
fn a_receiver_that_cannot_be_told_is_refused_and_later_holds_up_no_other() {
    let place = Place::empty();
    place.write("short", "short\n");
    let rules = "[[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'every'\nwhen = { kind = 'tool_call' }\nwindow = '1s'\nkey = ['user']\n";
    let with = |secret: &str| {
        format!(
            "[[receivers]]\nwebhook = 'http://127.0.0.1:9/x'\nsecret_file = '{secret}'\n[[receivers]]\nname = 'file'\nfile = 'told'\n{rules}"
        )
    };
    for (config, why) in [
        (with("none"), "no such file"),
        (with("short"), "16 bytes"),
        ("[[receivers]]\nfile = 'nowhere/told'\n".to_owned(), "no folder"),
        ("[[receivers]]\ncommand = ['/nowhere/page']\n".to_owned(), "no such program"),
    ] {
        place.write("bad.toml", config);
        refused(place.run(&["init", "t", "--config", "bad.toml"]), why);
        assert!(!place.path("t").exists());
    }
    place.write("secret", "a secret of more than sixteen bytes\n");
    place.write("config.toml", with("secret"));
    place.run(&["init", "s", "--config", "config.toml"]).ok();
    refused(place.run(&["policy", "set", "s", "bad.toml"]), "no such program");
    place.run(&["health", "s"]).ok();
    std::fs::remove_file(place.path("secret")).unwrap();
    let health = place.run(&["health", "s"]).code(1);
    assert!(health.out.contains("! alerts are not delivered"), "{}", health.out);
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    assert_eq!(std::fs::read_to_string(place.path("told")).unwrap().lines().count(), 1);
    // There is no need to wait: what was tried and not accepted is sent at once.
    place.write("secret", "a secret of more than sixteen bytes\n");
    let health = place.run(&["health", "s"]).code(1);
    assert!(health.out.contains("could not be delivered to webhook"), "{}", health.out);
    // What it is owed can be forgotten once it is no receiver any more.
    place.run(&["alerts", "forget", "s", "webhook 127.0.0.1:9"]).code(2);
    place.write("config.toml", format!("[[receivers]]\nname = 'file'\nfile = 'told'\n{rules}"));
    place.run(&["policy", "set", "s", "config.toml"]).ok();
    place.run(&["alerts", "forget", "s", "webhook 127.0.0.1:9"]).ok();
    place.run(&["health", "s"]).ok();
    #[cfg(unix)]
    {
        std::fs::set_permissions(place.path("s.receivers"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let health = place.run(&["health", "s"]).code(1);
        assert!(health.out.contains("! no alert is delivered") && health.out.contains("chmod go-w"), "{}", health.out);
    }
}

/// For `health`, a grant that was opened was never looked at: `alerts watch --once` looked and did not save its position,
/// so after a quarter of an hour `health` asked whether nothing was watching.
#[test]
fn a_watch_that_looks_once_writes_down_that_it_did() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    place.run(&["alerts", "watch", "s", "--once"]).ok();
    // By a program that raises no alerts.
    let log = attestlog::AuditLog::open(place.path("s")).unwrap();
    let ttl = std::time::Duration::from_secs(3600);
    let access = attestlog::emergency::EmergencyAccess { user: "dr", patient: "P-1", urgency: "now", ttl };
    log.emergency().open(access, attestlog::Justification { actor: "dr", reason: "r" }).unwrap();
    log.close().unwrap();
    assert!(place.run(&["alerts", "list", "s"]).code(0).err.contains("no rule has looked"));
    place.run(&["alerts", "watch", "s", "--once"]).ok();
    let listed = place.run(&["alerts", "list", "s"]).code(0);
    assert!(listed.err.is_empty(), "{}", listed.err);
}

/// A grant that `break-glass open` opened was looked at by no rule until somebody recorded a call: `health` asked whether nothing
/// was watching, and a grant that had waited too long for its review was told to nobody by the commands about grants.
#[test]
fn rules_look_at_what_is_done_to_grants() {
    let place = Place::empty();
    place.write("config.toml", "[[receivers]]\nfile = 'told'\n");
    place.run(&["init", "s", "--config", "config.toml"]).ok();
    let open =
        ["break-glass", "open", "s", "--user", "dr", "--patient", "P-1", "--reason", "r", "--ttl", "1h", "--json"];
    let looked = || {
        let listed = place.run(&["alerts", "list", "s"]).code(0);
        assert!(listed.err.is_empty(), "{}", listed.err);
        assert!(place.run(&["health", "s"]).out.contains("rules have looked at every entry"));
    };
    let opened = place.run(&open).ok();
    assert_eq!(opened.lines().count(), 1, "standard output is for the answer: {opened}");
    let grant = json(opened.trim()).get("grant").and_then(Json::as_u64).unwrap().to_string();
    looked();
    place.run(&["break-glass", "close", "s", &grant, "--actor", "dr"]).ok();
    looked();
    place.run(&["break-glass", "review", "s", &grant, "--reviewer", "office", "--disposition", "justified"]).ok();
    looked();
    assert!(!place.path("told").exists());

    // One that waits since last year, in a store that no process has open.
    let last_year = std::time::SystemTime::now() - std::time::Duration::from_secs(365 * 86_400);
    let clock = std::sync::Arc::new(attestlog::host::ManualClock::at(last_year.into()));
    let old = attestlog::Options::new().clock(clock).create(place.path("old")).unwrap();
    let grant = old
        .emergency()
        .open(
            attestlog::emergency::EmergencyAccess {
                user: "dr",
                patient: "P-1",
                urgency: "now",
                ttl: std::time::Duration::from_secs(3600),
            },
            attestlog::Justification { actor: "dr", reason: "r" },
        )
        .unwrap()
        .seq;
    old.close().unwrap();
    std::fs::copy(place.path("s.receivers"), place.path("old.receivers")).unwrap();
    place.run(&open.map(|arg| if arg == "s" { "old" } else { arg })).ok();
    let told = std::fs::read_to_string(place.path("told")).unwrap();
    assert_eq!(text(&json(told.lines().next().unwrap()), "id"), format!("break-glass-unreviewed:{grant}"));
}

/// Somebody edited an entry that no index batch covers. The verification found it and said that it could not be recorded as
/// an alert, and no receiver got it.
#[test]
fn receivers_are_told_of_tampering_that_cannot_be_recorded() {
    let place = Place::empty();
    place.write("config.toml", "[[receivers]]\nfile = 'told'\n");
    place.run(&["init", "s", "--config", "config.toml"]).ok();
    let line = call("c", "u", "t", r#""arguments":{"note":"five hundred"}"#);
    place.run_with(&["record", "s"], line.as_bytes()).ok();
    assert!(crate::common::overwrite(&place.path("s"), b"five hundred", b"nine hundred") > 0);
    let ran = place.run(&["alerts", "watch", "s", "--once", "--verify-every", "6h"]).code(3);
    assert!(ran.err.contains("cannot be recorded"), "{}", ran.err);
    let told = std::fs::read_to_string(place.path("told")).unwrap();
    let notice = json(told.lines().last().unwrap());
    assert_eq!(text(&notice, "rule"), "tampering");
    assert_eq!((notice.get("recorded"), notice.get("seq")), (Some(&Json::Bool(false)), Some(&Json::Null)));
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let place = Place::empty();
    for (text, at) in [
        ("[[receivers]]\nto = 'moon'\n", "c.toml:2:6: "),
        ("[[receivers]]\nfile = 'x'\ncolour = 'red'\n", "c.toml:3:1: "),
        ("[[receivers]]\nwebhook = 'http://localhost/'\n", "c.toml:1:1: "),
        ("[[receivers]]\nto = 'stdout'\nfile = 'x'\n", "c.toml:"),
        ("[[receivers]]\ncommand = []\n", "c.toml:2:11: "),
        ("[[receivers]]\nto = 'stdout'\ntimeout = 'soon'\n", "c.toml:3:11: "),
        ("[[receivers]]\nto = 'stdout'\nsecret_file = 's'\n", "c.toml:3:1: "),
        ("receivers = 3\n", "c.toml:1:13: "),
        ("[[alerts]]\nname = 'x'\ncolour = 'red'\n", "c.toml:3:1: "),
        ("[[alerts]]\nname = 'off-hours'\noff_hours = { zone = 'Europe/Berln' }\n", "c.toml:3:"),
    ] {
        place.write("c.toml", text);
        refused(place.run(&["init", "s", "--config", "c.toml"]), at);
        assert!(!place.path("s").exists());
    }
}

#[test]
fn a_grant_is_opened_closed_reviewed_and_listed() {
    let place = Place::with_store();
    let open = |user: &str, patient: &str, reason: &str, ttl: &str| {
        let reason = format!("--reason={reason}");
        place.run(&["break-glass", "open", "s", "--user", user, "--patient", patient, &reason, "--ttl", ttl, "--json"])
    };
    for bad in ["", "soon", "1", "-1h", "1h1h", "5m1h", "0s", "99999999999999999999d"] {
        let ttl = format!("--ttl={bad}");
        let ran = place.run(&["break-glass", "open", "s", "--user", "u", "--patient", "p", "--reason", "r", &ttl]);
        ran.code(2);
    }
    refused(open("", "P-1", "r", "1h"), "user");
    refused(open("u", "", "r", "1h"), "patient");
    refused(open("u", "P-1", " ", "1h"), "reason");
    refused(open("u", "P-1", "r", "400d"), "");
    place.run(&["break-glass", "open", "s", "--user", "u"]).code(2);
    assert_eq!(place.run(&["break-glass", "list", "s"]).ok(), "");

    let opened = open("dr", "P-1", "unconscious", "1h").json();
    let grant = opened.get("grant").unwrap().as_u64().unwrap().to_string();
    let close = |grant: &str, actor: &str| place.run(&["break-glass", "close", "s", grant, "--actor", actor]);
    let review = |grant: &str, who: &str, what: &str| {
        place.run(&["break-glass", "review", "s", grant, "--reviewer", who, "--disposition", what])
    };
    for unknown in ["0", "99999"] {
        refused(close(unknown, "dr"), unknown);
        refused(review(unknown, "office", "justified"), unknown);
    }
    refused(close("x", "dr"), "SEQ");
    refused(close(&grant, ""), "actor");
    refused(review(&grant, "dr", "justified"), "somebody else");
    refused(review(&grant, "office", ""), "disposition");
    let list = |more: &[&str]| -> Vec<Json> {
        place.run(&[&["break-glass", "list", "s", "--json"], more].concat()).ok().lines().map(json).collect()
    };
    let used = |user: &str| {
        let line = call("c", user, "read_chart", &format!(r#""patient_id":"P-1","emergency":true,"grant":{grant}"#));
        place.run_with(&["record", "s"], line.as_bytes()).ok();
    };
    let check = |user: &str, patient: &str| {
        place.run(&["break-glass", "check", "s", &grant, "--user", user, "--patient", patient])
    };
    assert!(check("dr", "P-1").ok().contains("holds until"));
    check("dr", "P-2").code(1);
    check("somebody_else", "P-1").code(1);
    used("dr");
    used("somebody_else");
    assert_eq!(text(&list(&["--unreviewed"])[0], "state"), "open");
    close(&grant, "dr").ok();
    check("dr", "P-1").code(1);
    refused(close(&grant, "dr"), "");
    used("dr"); // recorded, and told as misuse
    let states = list(&[]);
    let misuses: Vec<&str> =
        states[0].get("uses").unwrap().as_array().unwrap().iter().map(|used| text(used, "misuse")).collect();
    assert_eq!((text(&states[0], "state"), &misuses[..]), ("closed", &["", "other_user", "closed"][..]));
    let critical = alerts(&place, &[]);
    let of = |rule: &str| critical.iter().filter(|alert| text(alert, "rule") == rule).count();
    assert_eq!((of("break-glass-used"), of("break-glass-misused")), (2, 2), "a user's first use of it, each misuse");
    review(&grant, "office", "justified").ok();
    assert!(list(&["--unreviewed"]).is_empty());
    assert!(place.run(&["break-glass", "list", "s"]).ok().contains("justified (office)"));

    // A grant that expires: closing it comes too late, reviewing it does not.
    let opened = open("dr", "P-2", "short", "1s").json();
    let short = opened.get("grant").unwrap().as_u64().unwrap().to_string();
    let until = opened.get("expires_at").and_then(Json::as_str).unwrap().parse::<attestlog::Timestamp>().unwrap();
    let clock = attestlog::host::SystemClock::default();
    while attestlog::host::Clock::now(&clock) < until {
        std::thread::yield_now();
    }
    refused(close(&short, "dr"), "");
    assert_eq!(text(list(&["--unreviewed"]).last().unwrap(), "state"), "expired");
    review(&short, "office", "justified").ok();
    assert!(list(&["--unreviewed"]).is_empty());
    place.run(&["verify", "s"]).ok();
}

#[test]
fn a_watch_in_the_background_tells_at_once() {
    let place = busy();
    let mut child = place.command(&["alerts", "watch", "s"]).stdout(Stdio::piped()).spawn().unwrap();
    // The watch holds the store, and others record through it.
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
