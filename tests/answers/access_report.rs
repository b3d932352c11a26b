//! The access report shows who accessed a patient's data and how far the log behind it can be trusted, and nothing
//! clinical.

use crate::entries::{begun_and_finished, call, call_named, nasty, own};
use attestlog::Entry;
use attestlog::json::Json;
use attestlog_report::access::{AccessReport, Context, Purged, Subject, TextStyle, WrongClocks};
use proptest::prelude::*;

fn patient() -> Context {
    Context::new(Subject::Patient("P-1".to_owned()))
}

fn formats(report: &AccessReport) -> [String; 4] {
    let mut csv = Vec::new();
    report.write_csv(&mut csv).unwrap();
    let json = report.to_json().to_canonical().to_string();
    [report.to_text(&TextStyle::plain(200)), report.to_html(), String::from_utf8(csv).unwrap(), json]
}

/// A call that was recorded while the system clock stood six years back was in no report of the time at which it was made.
#[test]
fn nobody_leaves_a_report_by_setting_the_clock() {
    let at = |seq: u64, user: &str, time: &str| {
        call(seq, &format!(r#"{{"user_id":"{user}","timestamp":"{time}","recorded_at":"{time}"}}"#))
    };
    let clock = |seq: u64, event: &str| own(seq, "clock", event);
    let back = r#"{"event":"set_back","from":"2026-03-02T14:30:00Z","to":"2020-01-01T00:00:00Z"}"#;
    let ahead = r#"{"event":"frozen","at":"2026-03-05T00:00:00Z","wall":"2031-01-01T00:00:00Z"}"#;
    let right = r#"{"event":"set_back","from":"2031-01-01T02:00:00Z","to":"2026-03-05T02:00:00Z"}"#;
    let entries = [
        at(1, "before", "2026-03-02T14:05:00Z"),
        clock(2, back),
        at(3, "snoop", "2020-01-01T00:00:01Z"),
        at(4, "after", "2026-03-02T15:00:00Z"),
        clock(5, ahead),
        at(6, "early_bird", "2031-01-01T01:00:00Z"),
        clock(7, right),
        at(8, "late", "2026-03-05T03:00:00Z"),
    ];
    let report = |start: &str, end: &str| {
        let mut clocks = WrongClocks::default();
        entries.iter().for_each(|entry| clocks.add(entry));
        let period = patient().period(Some(start.parse().unwrap()), Some(end.parse().unwrap())).unwrap();
        AccessReport::of(period.wrong_clocks(clocks), &entries)
    };
    let rows =
        |report: &AccessReport| report.rows().iter().map(|row| (row.seq, row.by_wrong_clock)).collect::<Vec<_>>();
    let march = report("2026-03-01", "2026-04-01");
    assert_eq!(rows(&march), [(1, false), (3, true), (4, false), (6, true), (8, false)]);
    assert_eq!(march.totals().by_wrong_clock, 2);
    assert_eq!(rows(&report("2020-01-01", "2020-02-01")), [(3, true)]);
    assert_eq!(rows(&report("2031-01-01", "2032-01-01")), [(6, true)]);
    assert_eq!(rows(&report("2026-03-03", "2026-03-04")), []);
    let [text, html, csv, json] = formats(&march);
    for form in [&text, &html, &csv] {
        assert!(form.contains("2 of 5 may have been recorded while the system clock was wrong"), "{form}");
    }
    assert!(
        text.contains("by a clock that may have been wrong") && html.contains("by a clock that may have been wrong")
    );
    assert_eq!((csv.matches(",by_wrong_clock,").count(), json.matches(r#""by_wrong_clock":true"#).count()), (2, 2));
}

/// The story: a store was closed for ten days, and a week later its clock was set back by less than a second. The report for the
/// authority said of all entries in between that they "were recorded while the system clock stood wrong", and after a single step of a
/// second, without any idle time, it listed an access of January in the report for May (invariant R88).
#[test]
fn a_step_back_says_no_more_than_its_length() {
    let at = |seq: u64, time: &str| call(seq, &format!(r#"{{"timestamp":"{time}","recorded_at":"{time}"}}"#));
    let clock = |seq: u64, time: &str, event: &str| {
        let mut entry = own(seq, "clock", event);
        entry.body.recorded_at = time.parse().unwrap();
        entry
    };
    let rows = |entries: &[Entry], start: &str, end: &str| {
        let mut clocks = WrongClocks::default();
        entries.iter().for_each(|entry| clocks.add(entry));
        let period = patient().period(Some(start.parse().unwrap()), Some(end.parse().unwrap())).unwrap();
        let report = AccessReport::of(period.wrong_clocks(clocks), entries);
        report.rows().iter().map(|row| (row.seq, row.by_wrong_clock)).collect::<Vec<_>>()
    };
    let closed_then_back = |to: &str| {
        let frozen = r#"{"event":"frozen","at":"2024-01-09T10:00:00Z","wall":"2024-01-12T10:00:00Z"}"#;
        let back = format!(r#"{{"event":"set_back","from":"2024-01-19T10:00:01Z","to":"{to}"}}"#);
        [
            at(1, "2024-01-02T10:00:00Z"),
            clock(2, "2024-01-12T10:00:00Z", frozen),
            at(3, "2024-01-12T10:00:00Z"),
            at(4, "2024-01-19T10:00:01Z"),
            clock(5, to, &back),
            at(6, to),
        ]
    };
    // An adjustment is none of the report's business.
    let adjusted = closed_then_back("2024-01-19T10:00:00Z");
    assert_eq!(rows(&adjusted, "2024-01-01", "2024-02-01"), [(1, false), (3, false), (4, false), (6, false)]);
    assert_eq!(rows(&adjusted, "2024-05-01", "2024-06-01"), []);
    // A step of two hours: what was recorded since the jump may be two hours earlier, and is in its own period.
    let stepped = closed_then_back("2024-01-19T08:00:01Z");
    assert_eq!(rows(&stepped, "2024-01-12", "2024-01-13"), [(3, true)]);
    assert_eq!(rows(&stepped, "2024-01-02", "2024-01-12"), [(1, false)]);
    assert_eq!(rows(&stepped, "2024-01-19", "2024-01-20"), [(4, true), (6, true)]);
    // A jump that was undone: what was recorded meanwhile is of before, and what comes then is as it says.
    let undone = closed_then_back("2024-01-09T11:00:00Z");
    assert_eq!(rows(&undone, "2024-01-02", "2024-01-03"), [(1, false), (3, true)]);
    assert_eq!(rows(&undone, "2024-01-09", "2024-01-10"), [(3, true), (4, true), (6, false)]);
    // Many small steps are not small together.
    let minutes = |seq: u64, hour: u64| {
        let event = format!(
            r#"{{"event":"set_back","from":"2024-03-01T{hour:02}:04:00Z","to":"2024-03-01T{hour:02}:00:00Z"}}"#
        );
        clock(seq, &format!("2024-03-01T{hour:02}:00:00Z"), &event)
    };
    let often = [
        minutes(1, 10),
        at(2, "2024-03-01T10:02:00Z"),
        at(3, "2024-03-01T10:05:00Z"),
        minutes(4, 11),
        at(5, "2024-03-01T11:02:00Z"),
    ];
    assert_eq!(rows(&often, "2024-03-01", "2024-03-02"), [(2, false), (3, false), (5, true)]);
}

#[test]
fn every_form_tells_the_same_story() {
    let mut context =
        patient().period(Some("2026-03-01".parse().unwrap()), Some("2026-04-01".parse().unwrap())).unwrap();
    context.integrity_verified = true;
    context.purged.push(Purged { count: 12, class: "general".to_owned(), purge_seq: 55 });
    let entries = [
        call(1, "{}"),
        call(2, r#"{"outcome":"denied","user_id":"billing_7","session_metadata":{"user_role":"clerk"}}"#),
        call(3, r#"{"emergency":true,"user_id":"dr_jones","purpose":"case-review"}"#),
        begun_and_finished(4, 9).0,
        call(
            5,
            r#"{"timestamp":"2026-04-01T00:00:00Z","recorded_at":"2026-04-01T00:00:00.500Z","user_id":"too_late"}"#,
        ),
        own(6, "alert", "{}"),
    ];
    let report = AccessReport::of(context, &entries);
    let totals = report.totals();
    assert_eq!((totals.accesses, totals.users, totals.failed, totals.unfinished, totals.emergencies), (4, 3, 1, 1, 1));
    for form in formats(&report) {
        for told in ["dr_smith", "billing_7", "dr_jones", "clerk", "get_patient_chart", "chart-agent", "gpt-4.1"] {
            assert!(form.contains(told), "{told}: {form}");
        }
        for told in ["denied", "unfinished", "case-review", "allergies", "C-9", "general"] {
            assert!(form.contains(told), "{told}: {form}");
        }
        assert!(form.to_lowercase().contains("emergency"));
        for hidden in ["genetics", "deceased", "HIV", "too_late"] {
            assert!(!form.contains(hidden), "{hidden}: {form}");
        }
    }
    let [text, html, csv, json] = formats(&report);
    for form in [text, html, csv] {
        assert!(form.contains("UNANCHORED") && form.contains("VERIFIED"), "{form}");
    }
    assert!(json.contains(r#""anchored":false"#) && json.contains(r#""anchored_size":0"#));
}

#[test]
fn a_large_report_is_made_at_once() {
    let entries: Vec<Entry> = (0..5_000).map(|seq| call(seq, &format!(r#"{{"user_id":"u{}"}}"#, seq % 50))).collect();
    let report = AccessReport::of(patient(), &entries);
    assert_eq!(report.tallies().len(), 50);
    assert_eq!(report.to_html().matches("<tr>").count(), 5_000 + 50 + 2);
}

#[test]
fn colour_is_only_for_terminals_that_show_it() {
    let report = AccessReport::of(patient(), &[call(1, "{}")]);
    assert!(!report.to_text(&TextStyle::plain(80)).contains('\u{1b}'));
    let colored = report.to_text(&TextStyle::colored(80));
    let stripped = ["1", "2", "32", "1;31", "0"].iter().fold(colored, |t, c| t.replace(&format!("\u{1b}[{c}m"), ""));
    assert_eq!(stripped, report.to_text(&TextStyle::plain(80)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the ids contain, the report has one row for each call, and can be parsed as JSON.
    #[test]
    fn any_text_in_any_place(ids in proptest::collection::vec("[^\0]{1,40}", 1..5), width in 20usize..160) {
        let entries: Vec<Entry> = ids.iter().enumerate().map(|(i, id)| call_named(i as u64, "get_", id)).collect();
        let report = AccessReport::of(Context::new(Subject::User(ids[0].clone())), &entries);
        prop_assert_eq!(report.rows().len(), ids.len());
        let json = report.to_json();
        prop_assert_eq!(&Json::parse(json.to_canonical().as_str().as_bytes()).unwrap().value, &json);
        let text = report.to_text(&TextStyle::plain(width));
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
        let html = report.to_html();
        prop_assert_eq!(html.matches("<tr>").count(), 2 + report.tallies().len() + ids.len());
        prop_assert_eq!(html.matches("</td>").count(), report.tallies().len() * 5 + ids.len() * 8);
    }
}

#[test]
fn nasty_ids_are_data_in_every_form() {
    for id in nasty() {
        let report = AccessReport::of(Context::new(Subject::Patient(id.clone())), &[call_named(1, "get_", &id)]);
        let [text, html, csv, _] = formats(&report);
        assert!(!text.contains('\u{1b}') && !html.contains("<script"));
        assert!(!csv.lines().any(|line| line.starts_with(['=', '+', '-', '@', '\t'])), "{csv}");
    }
}
