//! Promise: reports about a patient, about a user, and the accounting of disclosures, in every format, with the purges that
//! affect them.

use crate::common::{Place, call, json};
use attestlog::Justification;
use attestlog::host::{Clock, ManualClock, SystemClock};
use attestlog::json::Json;
use attestlog::{Options, Timestamp, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const FORMATS: [&str; 6] = ["text", "json", "csv", "html", "fhir-r4", "fhir-r5"];

fn place() -> Place {
    let with = |user: &str, patient: &str, purpose: &str| {
        call("c", user, "read_chart", &format!(r#""patient_id":"{patient}","purpose":"{purpose}""#))
    };
    let lines = [
        with("dr", "P-1", "treatment"),
        with("dr", "P-2", "treatment"),
        with("lab", "P-1", "research"),
        with("clerk", "P-1", "payment"),
        call("c", "dr", "read_chart", r#""patient_id":"P-1","error":"no""#),
        call("c", "lab", "read_chart", r#""patient_id":"P-1""#),
    ];
    Place::with_lines(&lines.concat())
}

fn number(value: &Json, key: &str) -> u64 {
    value.get(key).and_then(Json::as_u64).unwrap_or_else(|| panic!("{key} in {}", value.to_canonical()))
}

fn purposes(report: &Json) -> Vec<(Option<String>, u64)> {
    let rows = report.get("purposes").and_then(Json::as_array).unwrap();
    rows.iter().map(|r| (r.get("purpose").unwrap().as_str().map(str::to_owned), number(r, "accesses"))).collect()
}

#[test]
fn everything_that_one_persons_agents_touched() {
    let place = place();
    let report = place.run(&["report", "access", "s", "--user", "dr", "--format", "json"]).json();
    assert_eq!(report.get("user_id").and_then(Json::as_str), Some("dr"));
    assert_eq!((number(&report, "total_accesses"), number(&report, "unique_patients")), (3, 2));
    assert_eq!(purposes(&report), [(Some("treatment".to_owned()), 2), (None, 1)]);
    for format in FORMATS {
        let out = place.run(&["report", "access", "s", "--user", "dr", "--format", format]).ok();
        assert!(out.contains("P-2") && !out.contains("clerk"), "{format}: {out}");
    }
    let bundle = place.run(&["report", "access", "s", "--user", "dr", "--format", "fhir-r4"]).json();
    assert_eq!(bundle.get("entry").unwrap().as_array().unwrap().len(), 3);
}

/// Of somebody whom only a grant named the report said that no entry has him, above the line with his grant.
#[test]
fn whom_a_grant_names_is_not_unknown() {
    let place = place();
    place.run(&["break-glass", "open", "s", "--user", "new_dr", "--patient", "NEW", "--reason", "r", "--ttl=1h"]).ok();
    for (by, who) in [("--patient", "NEW"), ("--user", "new_dr")] {
        let ran = place.run(&["report", "access", "s", by, who]).code(0);
        assert!(!ran.err.contains("no entry") && !ran.out.contains("UNKNOWN"), "{} {}", ran.out, ran.err);
    }
    let ran = place.run(&["report", "access", "s", "--patient", "NEWER"]).code(0);
    assert!(ran.err.contains("no entry of this log has the patient") && ran.out.contains("UNKNOWN"), "{}", ran.err);
}

#[test]
fn emergency_access_stands_in_the_report_with_its_review() {
    let place = place();
    let open =
        ["break-glass", "open", "s", "--user", "dr", "--patient", "P-1", "--reason", "un<b>conscious", "--ttl=1h"];
    let grant = place.run(&[&open[..], &["--json"]].concat()).json();
    let grant = number(&grant, "grant");
    let used = |user: &str, grant: u64| {
        let more = format!(r#""patient_id":"P-1","emergency":true,"grant":{grant}"#);
        place.run_with(&["record", "s"], call("c", user, "read_chart", &more).as_bytes()).ok();
    };
    used("dr", grant);
    used("stranger", grant);
    used("dr", 0);
    let report = |format: &str| place.run(&["report", "access", "s", "--patient", "P-1", "--format", format]);
    let json = report("json").json();
    let grants = json.get("emergency_grants").and_then(Json::as_array).unwrap();
    assert_eq!((grants.len(), number(&grants[0], "grant")), (1, grant));
    let rows = json.get("accesses").and_then(Json::as_array).unwrap();
    let misuses: Vec<&str> = rows.iter().filter_map(|row| row.get("misuse").and_then(Json::as_str)).collect();
    assert_eq!(misuses, ["other_user", "no_grant"]);
    for format in ["text", "html", "csv"] {
        let out = report(format).ok();
        assert!(out.contains("NOT REVIEWED") && out.contains("NOT COVERED"), "{format}: {out}");
        assert!(out.contains("another user"), "{format}: {out}");
        assert!(
            out.contains(if format == "html" { "un&lt;b&gt;conscious" } else { "un<b>conscious" }),
            "{format}: {out}"
        );
    }
    let grant = grant.to_string();
    place.run(&["break-glass", "review", "s", &grant, "--reviewer", "office", "--disposition", "justified"]).ok();
    for format in ["text", "html", "csv"] {
        let out = report(format).ok();
        assert!(out.contains("justified by office") && !out.contains("NOT REVIEWED"), "{format}: {out}");
    }
    // Neither another patient's report nor an accounting contains it.
    let other = place.run(&["report", "access", "s", "--patient", "P-2", "--format", "json"]).json();
    assert!(other.get("emergency_grants").and_then(Json::as_array).unwrap().is_empty());
    let other = place.run(&["report", "disclosures", "s", "--patient", "P-1", "--format", "html"]).ok();
    assert!(!other.contains("conscious"));
}

#[test]
fn an_accounting_is_of_six_years_without_what_is_routine() {
    let place = place();
    let report = place.run(&["report", "disclosures", "s", "--patient", "P-1", "--format", "json"]).json();
    assert_eq!(report.get("report").and_then(Json::as_str), Some("accounting_of_disclosures"));
    assert_eq!(number(&report, "total_accesses"), 2);
    assert_eq!(purposes(&report), [(None, 1), (Some("research".to_owned()), 1)]);
    let left_out = report.get("left_out").unwrap();
    assert_eq!((number(left_out, "treatment_payment_operations"), number(left_out, "nothing_disclosed")), (2, 1));
    let period = report.get("report_period").unwrap();
    let year = |key: &str| period.get(key).unwrap().as_str().unwrap()[..4].parse::<u32>().unwrap();
    assert_eq!(year("end") - year("start"), 6);
    for format in FORMATS {
        let out =
            place.run(&["report", "disclosures", "s", "--patient", "P-1", "--format", format, "--since", "2020-01-01"]);
        let out = out.ok();
        assert!(out.contains("lab") && !out.contains("clerk"), "{format}: {out}");
    }
    let bundle = place.run(&["report", "disclosures", "s", "--patient", "P-1", "--format", "fhir-r5"]).json();
    assert_eq!(bundle.get("entry").unwrap().as_array().unwrap().len(), 2);
    let until = ["report", "disclosures", "s", "--patient", "P-1", "--format", "json", "--until", "2001-01-01"];
    let report = place.run(&until).json();
    let start = report.get("report_period").unwrap().get("start").unwrap().as_str().unwrap().to_owned();
    assert_eq!((start.as_str(), number(&report, "total_accesses")), ("1995-01-01T00:00:00Z", 0));
}

#[test]
fn who_is_unknown_has_an_empty_report_and_who_asks_wrongly_none() {
    let place = place();
    for (command, about) in [("access", "--patient"), ("access", "--user"), ("disclosures", "--patient")] {
        for format in FORMATS {
            place.run(&["report", command, "s", about, "nobody", "--format", format]).ok();
        }
        let report = place.run(&["report", command, "s", about, "nobody", "--format", "json"]).json();
        assert_eq!((number(&report, "total_accesses"), number(&report, "unique_users")), (0, 0));
        assert_eq!(report.get("purposes"), Some(&Json::Array(Vec::new())));
        let inverted = [
            "report",
            command,
            "s",
            about,
            "P-1",
            "--since",
            "2026-02-01",
            "--until",
            "2026-01-01",
            "--format",
            "html",
        ];
        let ran = place.run(&inverted).code(2);
        assert!(ran.out.is_empty() && ran.err.contains("before it starts"), "{}", ran.err);
        place.run(&["report", command, "s", about, "P-1", "--since", "soon"]).code(2);
    }
    place.run(&["report", "access", "s"]).code(2);
    place.run(&["report", "access", "s", "--patient", "P-1", "--user", "dr"]).code(2);
    place.run(&["report", "access", "nowhere", "--patient", "P-1"]).code(3);
}

#[test]
fn hostile_ids_are_data_in_every_format() {
    for id in ["a\"b'c", "line\nbreak", "<script>alert(1)</script>", "=1+1", "\u{202e}\u{1b}[2J", &"x".repeat(10_000)] {
        let quoted = Json::from(id).to_canonical();
        let line = format!(
            "{{\"conversation_id\":{quoted},\"user_id\":{quoted},\"tool_name\":{quoted},\"patient_id\":{quoted},\
             \"purpose\":{quoted},\"model\":{quoted}}}\n"
        );
        let place = Place::with_lines(&line);
        for (command, about) in [("access", "--patient"), ("access", "--user"), ("disclosures", "--patient")] {
            for format in FORMATS {
                let about = format!("{about}={id}");
                let out = place.run(&["report", command, "s", &about, "--format", format]).ok();
                match format {
                    "text" => assert!(!out.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{out:?}"),
                    "html" => assert!(!out.contains("<script") && !out.contains('\u{1b}'), "{out}"),
                    "csv" => assert!(!out.contains(",=") && !out.contains("\n="), "{out}"),
                    _ => drop(json(&out)),
                }
                if format == "json" {
                    assert_eq!(number(&json(&out), "total_accesses"), 1);
                }
            }
        }
    }
}

#[test]
fn a_report_tells_of_purges_that_could_have_taken_from_it() {
    let place = Place::empty();
    let clock = Arc::new(ManualClock::at("2010-01-04T08:00:00Z".parse().unwrap()));
    let day = Duration::from_secs(86_400);
    let options = || Options::new().clock(clock.clone()).background(false);
    let log = options().create(place.path("s")).unwrap();
    let years = |n: u32| {
        for _ in 0..n * 366 {
            clock.advance(day);
        }
        if log.retention().clock().unwrap().frozen.is_some() {
            log.retention().confirm_clock(Justification { actor: "it", reason: "the clock is right" }).unwrap();
        }
    };
    let read = || ToolCall::new("c", "dr", "read_chart").patient("P-1");
    // Two purges: in 2017 of entries from 2010, in 2021 of entries from 2014. System events between them remain, and show
    // when that was.
    let own = |case: &str| {
        let mut selector = attestlog::retention::HoldSelector::default();
        selector.users.insert("nobody".to_owned());
        log.retention().place_hold(case, selector, Justification { actor: "counsel", reason: "lawsuit" }).unwrap();
    };
    log.record_batch((0..5).map(|_| read())).unwrap();
    own("2010");
    years(4);
    log.record_batch((0..3).map(|_| read())).unwrap();
    own("2014");
    years(3);
    assert_eq!(log.retention().purge("office").unwrap().purged, 5);
    years(4);
    log.record(read()).unwrap();
    assert_eq!(log.retention().purge("office").unwrap().purged, 3);
    let told = |from: &str| -> Vec<u64> {
        let from = Some(from.parse().unwrap());
        log.retention()
            .purged_since(from)
            .unwrap()
            .iter()
            .map(|(_, classes)| classes.get("healthcare").copied().unwrap())
            .collect()
    };
    assert_eq!(log.retention().purged_since(None).unwrap().len(), 2);
    assert_eq!(told("2009-01-01"), [5, 3]);
    assert_eq!(told("2014-01-01"), [3]);
    assert!(told("2014-06-01").is_empty());
    log.close().unwrap();

    let purged = |more: &[&str]| {
        let args = [&["report", "access", "s", "--patient", "P-1", "--format", "json"], more].concat();
        place.run(&args).json().get("purged").unwrap().as_array().unwrap().len()
    };
    assert_eq!((purged(&[]), purged(&["--since", "2014-01-01"]), purged(&["--since", "2015-01-01"])), (2, 1, 0));
    let html = place.run(&["report", "access", "s", "--patient", "P-1", "--format", "html"]).ok();
    assert!(html.contains("8 ENTRIES PURGED") && html.contains("retention class healthcare"));
}

#[test]
fn exports_are_bundles_or_lines_and_know_what_tools_do() {
    let place = place();
    let export = |more: &[&str]| place.run(&[&["export", "s"], more].concat());
    for format in ["fhir-r4", "fhir-r5"] {
        let bundle = export(&["--format", format]).json();
        let entries = bundle.get("entry").unwrap().as_array().unwrap().len();
        assert!(bundle.get("meta").is_none(), "a mere export vouches for nothing");
        let report = place.run(&["report", "access", "s", "--patient", "P-1", "--format", format]).json();
        let tags = report.get("meta").unwrap().get("tag").unwrap().as_array().unwrap();
        let codes: Vec<_> = tags.iter().map(|tag| tag.get("code").unwrap().as_str().unwrap()).collect();
        assert_eq!(codes, ["verified", "unanchored"]);
        assert!(tags[1].get("display").unwrap().as_str().unwrap().contains("UNANCHORED"));
        let lines = export(&["--format", format, "--ndjson"]).ok();
        assert_eq!((entries, lines.lines().count()), (6, 6));
        assert!(lines.lines().all(|line| json(line).get("resourceType").unwrap().as_str() == Some("AuditEvent")));
    }
    let actions = |kind: &str| -> Vec<String> {
        let lines = export(&["--format", "fhir-r4", "--ndjson", "--tool-kind", kind]).ok();
        lines.lines().map(|line| json(line).get("action").unwrap().as_str().unwrap().to_owned()).collect()
    };
    assert!(actions("other=update").iter().all(|action| action == "R"));
    assert!(actions("read_chart=update").iter().all(|action| action == "U"));
    let ocsf = export(&["--format", "ocsf", "--tool-kind", "read_*=delete"]).ok();
    assert!(ocsf.lines().all(|line| number(&json(line), "activity_id") == 4), "{ocsf}");
    for bad in ["read_chart", "=read", "read_chart=look"] {
        export(&["--format", "ocsf", "--tool-kind", bad]).code(2);
    }
}

/// A report showed UTC to everybody, and said when a call was recorded only if that was an hour from what its caller said.
#[test]
fn times_are_in_a_zone_and_both_are_shown_where_they_differ() {
    let ago = Timestamp::from_nanos(SystemClock::default().now().nanos() - 600 * 1_000_000_000);
    let place = Place::with_lines(&call("c", "ann", "look", &format!(r#""patient_id":"P-1","timestamp":"{ago}""#)));
    place.write("old.jsonl", call("d", "bob", "look", r#""patient_id":"P-1","timestamp":"2025-07-01T22:30:00Z""#));
    place.run(&["import", "s", "old.jsonl", "--format", "jsonl"]).ok();
    let report = |more: &[&str]| {
        place.run(&[&["report", "access", "s", "--patient", "P-1", "--tz", "Asia/Tokyo"], more].concat()).ok()
    };
    let text = report(&[]);
    assert!(text.contains("TIME (Asia/Tokyo)") && text.contains("2025-07-02 07:30:00"), "{text}");
    let recorded: Vec<&str> = text.lines().filter(|line| line.contains("recorded: 20")).collect();
    assert_eq!(recorded.len(), 2, "{text}");
    assert!(!recorded[0].contains("later") && recorded[1].contains("imported"), "{text}");
    let html = report(&["--format", "html"]);
    assert!(html.contains("Times are Asia/Tokyo") && html.contains(r#"data-label="Outcome""#), "{html}");
    assert_eq!(html.matches("\">recorded <time").count(), 2, "{html}");
    assert!(html.contains(">imported<"), "{html}");
    // What programs read is UTC, and a date is one of the zone.
    assert!(report(&["--format", "json"]).contains("\"2025-07-01T22:30:00Z\""));
    assert!(report(&["--until", "2025-07-02", "--format", "json"]).contains("\"total_accesses\":0"));
    assert!(report(&["--until", "2025-07-03", "--format", "json"]).contains("\"total_accesses\":1"));
}
