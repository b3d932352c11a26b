//! What a reply showed, and of whom, also where it says that the call failed: the accounting of disclosures, the patients'
//! reports and field rules all hold for it.
#![cfg(all(unix, feature = "owner"))]

use super::mcp_observed::{Watched, text};
use attestlog::json::{Json, Object};
use attestlog::redact::{Action, Policy, Preset};
use attestlog::retention::PatientPaths;
use attestlog::{AuditLog, Entry, Options, Outcome, PolicySet, Query, ToolCall};
use attestlog_capture::mcp::Settings;
use attestlog_report::access::{AccessReport, Context, Subject};

fn call(id: usize, tool: &str) -> String {
    format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"patient_id":"P"}}}}}}"#)
}

fn paths() -> PatientPaths {
    PatientPaths::new([("*", ["result.structuredContent.patients[*].id"])]).unwrap()
}

fn by_path(settings: &mut Settings) {
    settings.patients = paths();
}

fn entries(log: &AuditLog) -> Vec<Entry> {
    log.query(&Query::new()).unwrap().map(Result::unwrap).collect()
}

/// Each text as the JSON text of a part of a result.
fn parts(texts: &[&str]) -> String {
    let part = |text: &&str| {
        Json::from(Object::from_iter([("type", Json::from("text")), ("text", Json::from(*text))])).to_canonical()
    };
    texts.iter().map(|text| part(text).to_string()).collect::<Vec<_>>().join(",")
}

/// Six of seven replies with the patient's chart were left out of the accounting of disclosures, as calls that disclosed
/// nothing: an `isError` that hosts read differently, a chart beside an error, a text that begins with the word. A server
/// took itself out of the accounting for good.
#[test]
fn a_failure_that_showed_the_patients_data_is_a_disclosure() {
    let chart = r#""structuredContent":{"chart":{"hiv":"positive"},"patient_id":"P"},"content":[]"#;
    let warned = chart.replace("\"P\"}", "\"P\",\"error\":\"1 of 9 labs missing\"}");
    let part = |texts: &[&str]| format!("\"content\":[{}]", parts(texts));
    let shown = [
        format!(r#""result":{{{chart}}}"#),
        format!(r#""result":{{{chart},"isError":0}}"#),
        format!(r#""result":{{{chart},"isError":"false"}}"#),
        format!(r#""result":{{{chart},"isError":true}}"#),
        format!(r#""result":{{{chart},"resultType":"full"}}"#),
        format!(r#""result":{{{warned}}}"#),
        format!(r#""result":{{{}}}"#, part(&["Error rates are low. HIV positive"])),
        format!(r#""result":{{{},"isError":true}}"#, part(&["partly:", r#"{"hiv":"positive"}"#])),
        format!(r#""result":{{{},"isError":true}}"#, part(&[r#"partly: {"hiv":"positive"}"#])),
        format!(r#""result":{{{chart}}},"error":{{"code":1,"message":"m"}}"#),
        format!(r#""Result":{{{chart}}}"#),
        format!(r#""error":{{"code":1,"message":"m","data":{{{chart}}}}}"#),
        // Short and without JSON, so these counted as nothing but an error.
        format!(r#""result":{{{},"isError":true}}"#, part(&["HIV positive"])),
        format!(r#""result":{{{},"isError":true}}"#, part(&["missing field: hiv_status"])),
        r#""error":{"code":1,"message":"P is HIV positive"}"#.to_owned(),
        r#""error":{"code":1,"message":"failed","data":5}"#.to_owned(),
    ];
    let nothing = [
        format!(r#""result":{{{},"isError":true}}"#, part(&["no such patient"])),
        r#""result":{"content":[],"structuredContent":{"error":"no such patient"}}"#.to_owned(),
        r#""error":{"code":403,"message":"not for you"}"#.to_owned(),
        r#""error":{"code":1,"message":"failed","data":"not available"}"#.to_owned(),
    ];
    let watched = Watched::new(|settings| settings.identity.purpose = Some("research".to_owned()));
    for (i, reply) in shown.iter().chain(&nothing).enumerate() {
        watched.host(&call(i, "chart"));
        watched.server(&format!(r#"{{"id":{i},{reply}}}"#));
    }
    watched.close();
    let log = Options::new().open(&watched.store).unwrap();
    // The same rules hold for a host that records calls itself.
    let own =
        |result: &str| ToolCall::new("c", "u", "own").patient("P").result(Json::parse(result.as_bytes()).unwrap());
    log.record(own(r#"{"error":"1 of 9 labs missing","chart":{"hiv":"positive"}}"#)).unwrap();
    log.record(own(r#""positive""#).outcome(Outcome::ToolError)).unwrap();
    log.record(ToolCall::new("c", "u", "own").patient("P").error("HIV positive")).unwrap();
    log.record(own(r#"{"error":"no such patient"}"#)).unwrap();
    let entries = entries(&log);
    let report = AccessReport::of(Context::new(Subject::Disclosures("P".to_owned())), &entries);
    let totals = report.totals();
    assert_eq!((totals.accesses, totals.undisclosed_left_out), (shown.len() as u64 + 3, nothing.len() as u64 + 1));
    for row in report.rows() {
        assert_eq!(row.showed_data, row.success() == Some(false), "{row:?}");
    }
    let all = AccessReport::of(Context::new(Subject::Patient("P".to_owned())), &entries);
    assert_eq!(all.totals().accesses, totals.accesses + totals.undisclosed_left_out);
    log.close().unwrap();
}

/// A reply with both a result and an error went to the host unchanged; the log had the error only, no word of what the
/// result showed, and did not know its patient.
#[test]
fn what_stands_beside_an_error_is_recorded_with_its_patients() {
    let chart = r#"{"structuredContent":{"chart":1,"patients":[{"id":"P-2"}]},"content":[]}"#;
    let json = Json::from(r#"{"chart":1,"patients":[{"id":"P-2"}]}"#).to_canonical();
    for (reply, fields) in [
        (format!(r#""result":{chart},"error":{{"code":7,"message":"m"}}"#), r#"["chart","patients"]"#),
        (format!(r#""result":{chart},"error":"m""#), r#"["chart","patients"]"#),
        (format!(r#""Result":{chart},"error":{{"code":7,"message":"m"}}"#), r#"["chart","patients"]"#),
        (format!(r#""result":{json},"error":{{"code":7,"message":"m"}}"#), r#"["error","result"]"#),
        (format!(r#""result":{json}"#), r#"["chart","patients"]"#),
        (format!(r#""error":{{"code":7,"message":"m","data":{chart}}}"#), r#"["data","error"]"#),
        (
            format!(r#""result":{}"#, chart.replace("\"content\"", "\"resultType\":\"input_required\",\"content\"")),
            r#"["chart","patients"]"#,
        ),
    ] {
        let watched = Watched::new(by_path);
        watched.host(&call(1, "t"));
        watched.server(&format!(r#"{{"id":1,{reply}}}"#));
        let line = watched.end().pop().unwrap();
        assert_eq!(text(&line, "outcome"), "protocol_error", "{reply}");
        assert_eq!(text(&line, "result_summary.fields"), fields, "{reply}");
        assert_eq!(text(&line, "patient_ids"), r#"["P","P-2"]"#, "{reply}");
        assert_eq!(text(&line, "error.message"), if reply.contains("\"m\"") { "m" } else { "" }, "{reply}");
    }
}

/// Only the first text was looked at, and only if it was JSON as a whole: the entry listed the patients' ids, and their
/// reports did not know the call. The policy's own paths did not look into texts at all.
#[test]
fn patients_in_every_text_of_a_result_are_found() {
    let said = r#"{"patients":[{"id":"P-2"}]}"#;
    let fenced = format!("```json\n{said}\n```");
    let prefixed = format!("Error: {said}");
    for content in [
        format!(r#""content":[{}]"#, parts(&[said])),
        format!(r#""content":[{}]"#, parts(&["hello", said])),
        format!(r#""content":[{}]"#, parts(&[said, "Error: x"])),
        format!(r#""content":[{}]"#, parts(&[r#"{"n":1}"#, said])),
        format!(r#""content":[{}]"#, parts(&[&fenced])),
        format!(r#""content":[{}]"#, parts(&[&prefixed])),
        format!(r#""content":[{}],"structuredContent":null"#, parts(&[said])),
        format!(r#""content":[{}],"structuredContent":{{"n":1}}"#, parts(&[said])),
        format!(r#""content":[{}],"isError":true"#, parts(&["Error", said])),
        format!(
            r#""content":[{{"type":"resource","resource":{{"uri":"x:y","text":{}}}}}]"#,
            Json::from(said).to_canonical()
        ),
    ] {
        let mut own = PolicySet::default();
        own.patients = paths();
        for watched in [Watched::new(by_path), Watched::under(own, |_| {})] {
            watched.host(&call(1, "t"));
            watched.server(&format!(r#"{{"id":1,"result":{{{content}}}}}"#));
            let line = watched.end().pop().unwrap();
            assert_eq!(text(&line, "patient_ids"), r#"["P","P-2"]"#, "{content}");
        }
    }
}

/// A late answer with more patients than one entry takes: the entry for the rest was refused, since a call has only one
/// late answer, and the host was told that the call was not recorded. Fifty patients were in no entry.
#[test]
fn a_late_answer_keeps_all_its_patients() {
    let watched = Watched::new(|settings| {
        by_path(settings);
        settings.timeout = Some(std::time::Duration::from_secs(10));
    });
    watched.host(&call(1, "t"));
    watched.pass(11);
    let patients = (0..10_050).map(|i| format!(r#"{{"id":"B-{i}"}}"#)).collect::<Vec<_>>().join(",");
    watched.server(&format!(r#"{{"id":1,"result":{{"structuredContent":{{"patients":[{patients}]}},"content":[]}}}}"#));
    let lines = watched.end();
    let count = |line: &Json| line.get("patient_ids").and_then(Json::as_array).unwrap_or_default().len();
    // With the patient of the arguments.
    assert_eq!(lines.iter().map(count).collect::<Vec<_>>(), [1, 10_001, 51]);
    assert_eq!(text(&lines[1], "late_answer"), "true");
    assert_eq!(text(&lines[2], "follow_up_of"), text(&lines[1], "seq"));
    assert_eq!(text(&lines[2], "session_metadata.mcp.further_patients"), "true");
}

/// What the policy seals, masks or drops stood in clear in the error's message, where no erasure reaches it: several texts
/// were joined before they were treated, and JSON behind a word was taken for words. In a result the same was treated.
#[test]
fn field_rules_hold_in_error_messages() {
    let record = r#"{"diagnosis": "HIVzz", "notes": "drinks", "name": "Jane Roe"}"#;
    let cut = record.replace("Roe\"}", "R");
    let python = record.replace('"', "'");
    let rules = Policy::builder(Preset::Default).field("diagnosis", Action::Mask).field("result.notes", Action::Drop);
    let redaction = rules.field("result.**.name", Action::Seal).build().unwrap();
    let mut policies = PolicySet::default();
    policies.redaction = redaction;
    let quoted = |text: &str| Json::from(text).to_canonical().to_string();
    let mut replies = vec![
        format!(r#""result":{{"content":[{}],"isError":true}}"#, parts(&["partial data follows", record])),
        format!(r#""result":{{"content":[{}]}}"#, parts(&["Error: partial", record])),
        format!(r#""error":{{"code":1,"message":"m","data":{record}}}"#),
        format!(r#""result":{{"structuredContent":{{"error":{record}}},"content":[]}}"#),
    ];
    for message in [&format!("failed: {record}"), record, &format!("failed: {cut}"), &format!("failed: {python}")] {
        replies.push(format!(r#""result":{{"content":[{}],"isError":true}}"#, parts(&[message])));
        replies.push(format!(r#""error":{{"code":1,"message":{}}}"#, quoted(message)));
    }
    let watched = Watched::under(policies, |_| {});
    for (i, reply) in replies.iter().enumerate() {
        watched.host(&call(i, "t"));
        watched.server(&format!(r#"{{"id":{i},{reply}}}"#));
    }
    watched.close();
    let log = Options::new().open(&watched.store).unwrap();
    // A host's own calls, and those of a transcript, go through the same rules.
    for message in [&format!("failed: {record}"), &format!("first {{\"n\":1}}\n{record}")] {
        log.record(ToolCall::new("c", "u", "own").error(message.as_str())).unwrap();
        log.record(ToolCall::new("c", "u", "own").result(format!("Error: {message}"))).unwrap();
    }
    for entry in entries(&log) {
        let line = entry.line();
        for clear in ["HIVzz", "drinks", "Jane"] {
            assert!(!line.contains(clear), "{line}");
        }
    }
    // What no rule is about stays, so the message still says what is wrong.
    let kept = log.record(ToolCall::new("c", "u", "own").error(r#"no {"id":7,"diagnosis":"HIVzz"} in [x]"#)).unwrap();
    let line = log.entry(kept.seq).unwrap().line();
    assert!(line.contains(r#"no {\"diagnosis\":\"[REDACTED]\",\"id\":7} in [x]"#), "{line}");
    log.close().unwrap();
}
