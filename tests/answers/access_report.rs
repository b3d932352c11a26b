//! The access report tells who accessed a patient's data and what the log behind it is worth, and nothing clinical.

use crate::entries::{begun_and_finished, call, call_named, nasty, own};
use attestlog::Entry;
use attestlog::json::Json;
use attestlog_report::access::{AccessReport, Context, Purged, Subject, TextStyle};
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

    /// Whatever stands in the ids: the report has one row for each call, and reads back as JSON.
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
