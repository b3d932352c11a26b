use super::super::testing::{begun_and_finished, call, failed, failed_with, nasty, own};
use super::*;
use attestlog::Outcome;
use attestlog::json::Json;
use attestlog::{Kind, Trigger};

fn patient() -> Context {
    Context::new(Subject::Patient("P-1".to_owned()))
}

fn verified() -> Context {
    let mut context = patient();
    context.integrity_verified = true;
    context.anchored = true;
    context.anchored_size = 100;
    context
}

#[test]
fn the_contracts_keys_are_there() {
    let mut context =
        verified().period(Some("2026-01-01".parse().unwrap()), Some("2027-01-01".parse().unwrap())).unwrap();
    context.purged.push(Purged { count: 12, class: "general".to_owned(), purge_seq: 5 });
    let report = AccessReport::of(context, &[call(7, |c| c.emergency = true)]);
    let json = report.to_json();
    let text = json.to_canonical().to_string();
    for part in [
        r#""patient_id":"P-1""#,
        r#""report_period":{"end":"2027-01-01T00:00:00Z","start":"2026-01-01T00:00:00Z"}"#,
        r#""total_accesses":1"#,
        r#""unique_users":1"#,
        r#""purged":[{"class":"general","count":12,"purge_seq":5}]"#,
        r#""integrity_verified":true"#,
        r#""anchored":true"#,
        r#""anchored_size":100"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let access = &json.get("accesses").unwrap().as_array().unwrap()[0];
    for (key, value) in [
        ("seq", "7"),
        ("timestamp", r#""2026-03-02T14:05:09.100Z""#),
        ("accessed_by", r#""dr_smith""#),
        ("role", r#""physician""#),
        ("agent", r#""chart-agent""#),
        ("model", r#""gpt-4.1""#),
        ("tool", r#""get_patient_chart""#),
        ("viewed", r#"{"fields":["allergies","chart_id","medications","status"],"record_ids":{"chart_id":"C-9"}}"#),
        ("purpose", r#""treatment""#),
        ("success", "true"),
        ("emergency", "true"),
    ] {
        assert_eq!(access.get(key).unwrap().to_canonical().as_str(), value, "{key}");
    }
}

#[test]
fn no_accesses_is_an_empty_report_in_every_format() {
    let report = AccessReport::of(patient(), &[own(0, Kind::Genesis, "{}")]);
    let json = report.to_json().to_canonical().to_string();
    assert!(json.contains(r#""total_accesses":0"#) && json.contains(r#""unique_users":0"#), "{json}");
    assert!(json.contains(r#""accesses":[]"#) && json.contains(r#""purged":[]"#));
    assert!(report.to_text(&TextStyle::default()).contains("No accesses"));
    assert!(report.to_html().contains("No accesses"));
    let mut csv = Vec::new();
    report.write_csv(&mut csv).unwrap();
    assert!(String::from_utf8(csv).unwrap().contains("0 accesses by 0 users"));
}

#[test]
fn failures_and_refusals_are_accesses() {
    let asked = call(1, |c| c.arguments = Some(super::super::testing::json(r#"{"section":"genetics"}"#)));
    let entries = [asked, failed(2, Outcome::Denied), failed(3, Outcome::ToolError)];
    let report = AccessReport::of(patient(), &entries);
    assert_eq!((report.totals().accesses, report.totals().failed), (3, 2));
    assert_eq!(report.rows()[1].outcome_name(), "denied");
    for text in formats(&report) {
        assert!(!text.contains("HIV"), "{text}");
        assert!(!text.contains("deceased") && !text.contains("genetics"), "{text}");
    }
}

#[test]
fn two_steps_are_one_access() {
    let (first, second) = begun_and_finished(4, 9);
    let both = AccessReport::of(patient(), [&first, &second]);
    assert_eq!(both.totals().accesses, 1);
    let row = &both.rows()[0];
    assert_eq!((row.seq, row.finished_seq, row.success()), (4, Some(9), Some(true)));
    assert_eq!(row.timestamp.to_string(), "2026-03-02T14:05:09.100Z");
    assert_eq!(row.viewed.fields.len(), 4);

    let alone = AccessReport::of(patient(), [&first]);
    assert_eq!((alone.totals().accesses, alone.totals().unfinished, alone.totals().failed), (1, 1, 0));
    let json = alone.to_json();
    let access = &json.get("accesses").unwrap().as_array().unwrap()[0];
    assert_eq!(access.get("outcome").unwrap().as_str(), Some("unfinished"));
    assert_eq!(access.get("success"), Some(&Json::Null));

    let end = AccessReport::of(patient(), [&second]);
    assert_eq!((end.totals().accesses, end.rows()[0].begun_seq), (1, Some(4)));
}

/// A call that timed out and its late answer used to be counted as two accesses [R42].
#[test]
fn a_call_and_the_answer_that_came_late_are_one_access() {
    let answer = |seq, follows, outcome| {
        call(seq, |c| {
            (c.follows, c.trigger, c.late_answer) = (Some(follows), Some(attestlog::Trigger::FollowUp), true);
            c.completion.as_mut().unwrap().outcome = outcome;
        })
    };
    let late = failed(4, Outcome::Timeout);
    let odd = answer(7, 4, Outcome::ProtocolError);
    let plain = answer(9, 7, Outcome::Ok);
    let report = AccessReport::of(patient(), [&late, &odd, &plain]);
    assert_eq!((report.totals().accesses, report.totals().failed), (1, 0));
    let row = &report.rows()[0];
    assert_eq!((row.seq, row.answered_seq, row.success()), (4, Some(9), Some(true)));
    assert!(!row.viewed.fields.is_empty());
    assert!(report.to_json().to_canonical().as_str().contains(r#""answered_seq":9"#));
    // A late answer counts as an access if the report does not have its call; so does a follow-up that is a call.
    assert_eq!(AccessReport::of(patient(), [&plain]).totals().accesses, 1);
    let further = call(9, |c| (c.follows, c.trigger) = (Some(4), Some(attestlog::Trigger::FollowUp)));
    assert_eq!(AccessReport::of(patient(), [&late, &further]).totals().accesses, 2);
}

#[test]
fn the_period_is_half_open_and_an_end_belongs_to_its_beginning() {
    let (first, second) = begun_and_finished(4, 9);
    let at = |s: &str| Some(s.parse().unwrap());
    let over = patient().period(None, at("2026-03-02T14:05:10Z")).unwrap();
    let report = AccessReport::of(over, [&first, &second]);
    assert_eq!(report.rows()[0].success(), Some(true));
    for (start, end, rows) in [
        (at("2026-03-02T14:05:09.1Z"), None, 1),
        (at("2026-03-02T14:05:09.101Z"), None, 0),
        (None, at("2026-03-02T14:05:09.1Z"), 0),
    ] {
        let context = patient().period(start, end).unwrap();
        assert_eq!(AccessReport::of(context, &[call(1, |_| {})]).rows().len(), rows);
    }
    let inverted = patient().period(at("2026-03-02"), at("2026-03-01"));
    assert!(inverted.unwrap_err().to_string().contains("before it starts"));
}

/// A result named another patient than the call did, and the report about the call's patient showed that id in every format.
#[test]
fn whom_only_the_result_names_is_another_patient_too() {
    for keys in [
        r#"{"id":"P-9","patient_id":"P-9","chart_id":"C-9"}"#,
        r#"{"[].visit_id":["P-9"],"[].patientId":["P-1","P-9"],"chart_id":"C-9"}"#,
        r#"{"patients[].id":["P-1","P-9"],"chart_id":"C-9"}"#,
        r#"{"patient.id":"P-9","P-9.n_id":"4","chart_id":"C-9"}"#,
    ] {
        let entry = call(1, |c| {
            let summary = format!(r#"{{"fields":["id","name"],"keys":{keys},"type":"object"}}"#);
            c.completion.as_mut().unwrap().result_summary = Some(super::super::testing::json(&summary));
        });
        let report = AccessReport::of(patient(), std::slice::from_ref(&entry));
        assert!(report.rows()[0].viewed.withheld > 0, "{keys}");
        for text in formats(&report) {
            assert!(!text.contains("P-9") && text.contains("C-9"), "{keys}: {text}");
        }
        let by_user = AccessReport::of(Context::new(Subject::User("dr_smith".to_owned())), &[entry]);
        assert!(formats(&by_user).iter().any(|text| text.contains("P-9")), "{keys}");
    }
}

#[test]
fn a_patients_report_names_no_other_patient() {
    let entry = call(1, |c| {
        c.patient_ids = vec!["P-1".to_owned(), "P-2".to_owned(), "3".to_owned()];
        let summary = r#"{"count":3,"fields":["P-2","name"],"keys":{"P-2.record_id":"R-2","[].patient_id":["P-1","P-2"],"[].n_id":[3,4]},"type":"array"}"#;
        c.completion.as_mut().unwrap().result_summary = Some(super::super::testing::json(summary));
    });
    let report = AccessReport::of(patient(), std::slice::from_ref(&entry));
    let viewed = report.rows()[0].viewed.clone();
    assert_eq!(viewed.fields, ["name"]);
    assert_eq!(Json::from(viewed.record_ids).to_canonical().as_str(), r#"{"[].n_id":[4],"[].patient_id":["P-1"]}"#);
    assert_eq!((viewed.withheld, report.rows()[0].other_patients), (4, 2));
    for text in formats(&report) {
        assert!(!text.contains("P-2") && !text.contains("R-2"), "{text}");
    }

    let mut known_as = Context::new(Subject::Patient("Case 7".to_owned()));
    known_as.recorded_as = vec!["P-1".to_owned(), "P-2".to_owned()];
    assert_eq!(AccessReport::of(known_as, std::slice::from_ref(&entry)).rows()[0].other_patients, 1);

    let by_user = AccessReport::of(Context::new(Subject::User("dr_smith".to_owned())), &[entry]);
    assert_eq!((by_user.totals().patients, by_user.rows()[0].patients.len()), (3, 3));
    assert_eq!(by_user.tallies().len(), 3);
    let json = by_user.to_json();
    assert!(json.get("user_id").is_some() && json.get("patient_id").is_none());
}

#[test]
fn an_accounting_leaves_out_what_the_rule_leaves_out() {
    let purpose = |seq, p: Option<&str>| call(seq, |c| c.purpose = p.map(str::to_owned));
    let denied = failed_with(9, Outcome::Denied, r#"{"message": "access denied", "type": "403"}"#);
    // What an error says besides was shown too, however short it is.
    let told = failed(11, Outcome::ToolError);
    let late = failed(10, Outcome::Timeout);
    let entries = [
        purpose(1, Some("treatment")),
        purpose(2, Some("HPAYMT")),
        purpose(3, Some("research")),
        purpose(4, Some("audit-by-insurer")),
        purpose(5, None),
        denied,
        late,
        told,
    ];
    let end = "2026-03-03".parse().unwrap();
    let context = Context::new(Subject::Disclosures("P-1".to_owned())).six_years_before(end);
    assert_eq!(context.start.unwrap().to_string(), "2020-03-03T00:00:00Z");
    let report = AccessReport::of(context, &entries);
    assert_eq!(report.rows().iter().map(|r| r.seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!((report.totals().routine_left_out, report.totals().undisclosed_left_out), (4, 1));
    assert!(report.to_html().contains("Accounting of disclosures"));
}

#[test]
fn unanchored_never_reads_like_a_pass() {
    let entries = [call(7, |_| {}), call(200, |_| {})];
    let claims = |context: Context| formats(&AccessReport::of(context, &entries));
    for text in &claims(patient())[..3] {
        assert!(text.contains("NOT VERIFIED") && text.contains("UNANCHORED"), "{text}");
        assert!(!text.replace("UNANCHORED", "").contains("ANCHORED"));
    }
    for text in &claims(verified())[..3] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("PARTLY ANCHORED") && text.contains("1 of the 2 accesses"), "{text}");
        assert!(text.contains("VERIFIED") && !text.contains("NOT VERIFIED"));
    }
    let mut lying = patient();
    lying.anchored = true;
    assert!(claims(lying)[0].contains("UNANCHORED"));
}

#[test]
fn purges_are_told_with_class_and_entry() {
    let mut context = verified();
    context.purged.push(Purged { count: 12, class: "general".to_owned(), purge_seq: 55 });
    for text in &formats(&AccessReport::of(context, &[call(7, |_| {})]))[..3] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("12 entries of retention class general") && text.contains("entry 55"), "{text}");
    }
}

/// Text, HTML, CSV, JSON.
fn formats(report: &AccessReport) -> Vec<String> {
    let mut csv = Vec::new();
    report.write_csv(&mut csv).unwrap();
    let json = report.to_json().to_canonical().to_string();
    vec![report.to_text(&TextStyle::default()), report.to_html(), String::from_utf8(csv).unwrap(), json]
}

#[test]
fn any_id_comes_out_as_data() {
    for id in nasty() {
        let entry = call(1, |c| {
            c.user_id = id.clone();
            c.model = Some(id.clone());
            c.agent_id = Some(id.clone());
            c.tool_name = id.clone();
            c.tool_server = Some(id.clone());
            c.purpose = Some(id.clone());
            let role = Object::from_iter([("user_role", id.as_str())]);
            c.session_metadata = Some(Json::from(role).to_canonical());
            let mut summary = Object::new();
            summary.insert("fields", vec![id.clone()]);
            summary.insert("keys", Object::from_iter([("x_id", id.as_str())]));
            c.completion.as_mut().unwrap().result_summary = Some(Json::from(summary).to_canonical());
            c.trigger = Some(Trigger::System);
        });
        let mut context = Context::new(Subject::Patient(id.clone()));
        context.log = Some(id.clone());
        context.recorded_as = vec![id.clone()];
        context.purged.push(Purged { count: 1, class: id.clone(), purge_seq: 1 });
        let report = AccessReport::of(context, &[entry]);

        for width in [40, 80, 132] {
            let text = report.to_text(&TextStyle::plain(width));
            for line in text.lines() {
                assert!(crate::text::width(line) <= width.max(78), "{width}: {line}");
                assert!(!line.chars().any(|c| c.is_control() || attestlog::redact::is_invisible(c)), "{line:?}");
            }
        }
        let html = report.to_html();
        assert_eq!(html.matches("<script").count() + html.matches("<h1>").count(), 1, "{html}");
        assert_eq!(html.matches("</table>").count(), 2);
        assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'));
        assert!(html.len() < 60_000, "{}", html.len());
        let json = report.to_json();
        assert_eq!(json.get("patient_id").unwrap().as_str(), Some(&*attestlog::redact::normal(&id)));
        assert_eq!(Json::parse(json.to_canonical().as_str().as_bytes()).unwrap().value, json);
    }
}

#[test]
fn a_page_loads_and_runs_nothing() {
    let html = AccessReport::of(verified(), &[call(7, |_| {})]).to_html();
    for banned in ["<script", "http://", "src=", "url(", "@import", "<link", "onload", "onclick", "<img", "<iframe"] {
        assert!(!html.replace("https://ehr.example.org/mcp", "").contains(banned), "{banned}");
    }
    for needed in
        ["lang=\"en\"", "<caption>", "scope=\"col\"", "table-header-group", "<main>", "Content-Security-Policy"]
    {
        assert!(html.contains(needed), "{needed}");
    }
}
