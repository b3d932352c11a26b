//! How the proxy handles time, and accesses that are not tool calls: an observer with a clock that stands still.
#![cfg(all(unix, feature = "owner"))]

use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::{Options, PolicySet, Query};
use attestlog_capture::mcp::{Observer, Settings, Verdict};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub(super) struct Watched {
    observer: Observer,
    clock: Arc<ManualClock>,
    pub(super) store: PathBuf,
    _dir: TempDir,
}

impl Watched {
    pub(super) fn new(change: impl FnOnce(&mut Settings)) -> Watched {
        Watched::under(PolicySet::default(), change)
    }

    pub(super) fn under(policies: PolicySet, change: impl FnOnce(&mut Settings)) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("s");
        Options::new().policies(policies).create(&store).unwrap().close().unwrap();
        let mut settings = Settings::default();
        settings.identity.default_user = "u".to_owned();
        settings.identity.default_conversation = "c".to_owned();
        settings.identity.default_server = "server".to_owned();
        change(&mut settings);
        let clock = Arc::new(ManualClock::at("2026-03-01T09:00:00Z".parse().unwrap()));
        let at = store.clone();
        let reach = move || Options::new().open(&at);
        let observer = Observer::new(settings, clock.clone(), reach, |said: &str| panic!("{said}")).unwrap();
        Watched { observer, clock, store, _dir: dir }
    }

    #[track_caller]
    pub(super) fn host(&self, frame: &str) {
        assert_eq!(self.observer.from_host(&[frame.as_bytes().to_vec()]), [Verdict::Forward], "{frame}");
    }

    #[track_caller]
    pub(super) fn server(&self, frame: &str) {
        assert_eq!(self.observer.from_server(&[frame.as_bytes().to_vec()]), [Verdict::Forward], "{frame}");
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.observer.expire();
    }

    pub(super) fn close(&self) {
        self.observer.close("over");
    }

    /// The lines of everything but the store's own entries, once everything has ended.
    pub(super) fn end(self) -> Vec<Json> {
        self.close();
        let log = Options::new().open(&self.store).unwrap();
        let all = log.query(&Query::new()).unwrap().map(|entry| entry.unwrap().line());
        let lines: Vec<Json> = all.map(|line| Json::parse(line.as_bytes()).unwrap().value).collect();
        log.close().unwrap();
        lines.into_iter().filter(|line| text(line, "kind").starts_with("tool_call")).collect()
    }
}

pub(super) fn text(line: &Json, path: &str) -> String {
    let at = path.split('.').try_fold(line, |at, key| at.get(key));
    at.map_or(String::new(), |v| v.as_str().map_or_else(|| v.to_canonical().to_string(), str::to_owned))
}

fn outcomes(lines: &[Json]) -> Vec<String> {
    lines.iter().map(|line| text(line, "outcome")).collect()
}

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn call(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","_meta":{{"progressToken":{token}}}}}}}"#
    )
}

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    )
}

fn timed(settings: &mut Settings) {
    settings.timeout = Some(Duration::from_secs(10));
}

/// That progress extends the time-out was documented and tested by nothing. A call that reports every nine seconds does not
/// time out after ten; one for which only another call's progress is reported does; and nothing goes on forever.
#[test]
fn progress_puts_the_time_out_off_and_not_for_ever() {
    let watched = Watched::new(timed);
    watched.host(&call("7"));
    for _ in 0..5 {
        watched.pass(9);
        watched.server(&progress("7"));
    }
    watched.pass(9);
    watched.server(OK);
    assert_eq!(outcomes(&watched.end()), ["ok"]);

    // Servers that answer with the id as a text do the same with the token.
    let watched = Watched::new(timed);
    watched.host(&call("7"));
    watched.pass(9);
    watched.server(&progress("\"7\""));
    watched.pass(9);
    watched.server(OK);
    assert_eq!(outcomes(&watched.end()), ["ok"]);

    for other in ["8", "null", "{}"] {
        let watched = Watched::new(timed);
        watched.host(&call("7"));
        watched.pass(9);
        watched.server(&progress(other));
        watched.pass(2);
        watched.server(OK);
        assert_eq!(outcomes(&watched.end()), ["timeout", "ok"], "{other}");
    }

    let watched = Watched::new(timed);
    watched.host(&call("\"p\""));
    for _ in 0..25 {
        watched.pass(5);
        watched.server(&progress("\"p\""));
    }
    assert_eq!(outcomes(&watched.end()), ["timeout"], "ten times the time-out is the most");
}

/// Subscriptions, lists of templates and completions were recorded as documented, and nothing tested it.
#[test]
fn accesses_that_are_no_tools_are_recorded_whole() {
    for (method, params, patient) in [
        ("resources/subscribe", r#"{"uri":"patient://P-1/labs"}"#, "P-1"),
        ("resources/templates/list", r#"{"cursor":"c2"}"#, ""),
        ("resources/templates/list", "", ""),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/resource","uri":"patient://{id}"},"argument":{"name":"patient_id","value":"P-"},"context":{"arguments":{"ward":"3"}}}"#,
            "",
        ),
    ] {
        let watched = Watched::new(|_| {});
        let params = if params.is_empty() { String::new() } else { format!(r#","params":{params}"#) };
        watched.host(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"{params}}}"#));
        watched.server(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        let lines = watched.end();
        assert_eq!(outcomes(&lines), ["ok"], "{method}");
        assert_eq!(text(&lines[0], "tool_name"), method);
        assert_eq!(text(&lines[0], "session_metadata.mcp.method"), method);
        let given = params.strip_prefix(r#","params":"#).unwrap_or_default();
        assert_eq!(text(&lines[0], "arguments").len(), given.len(), "{:?}", lines[0]);
        let patients = text(&lines[0], "patient_ids");
        assert_eq!(patients, if patient.is_empty() { String::new() } else { format!("[{patient:?}]") });
    }
}

/// With `--patient-path arguments.uri`, as documented, an address was recorded as a second patient beside the one that it
/// names.
#[test]
fn an_address_is_its_patient_and_nobody_else() {
    for uri in ["patient://P-7", "patient://P-7/labs?x#y", "https://fhir.example/r4/Patient/P-7/$everything"] {
        let watched = Watched::new(|settings| {
            settings.patients = attestlog::retention::PatientPaths::new([("*", ["arguments.uri"])]).unwrap();
        });
        watched.host(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"{uri}"}}}}"#));
        watched.server(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        assert_eq!(text(&watched.end()[0], "patient_ids"), r#"["P-7"]"#, "{uri}");
    }
}

/// A server answered with a completion that failed, a subscription that was refused: both are attempts, and are recorded as
/// failed.
#[test]
fn accesses_that_fail_say_so() {
    let watched = Watched::new(|_| {});
    watched.host(r#"{"id":1,"method":"resources/subscribe","params":{"uri":"patient://P-1"}}"#);
    watched.server(r#"{"id":1,"error":{"code":403,"message":"not yours"}}"#);
    watched.host(r#"{"id":2,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}}}"#);
    watched.server(r#"{"id":2,"error":{"code":-32602,"message":"no such prompt"}}"#);
    assert_eq!(outcomes(&watched.end()), ["denied", "protocol_error"]);
}

/// What the host asks and the server answers, in turn, about a call that has become a task.
const TASK: &str = r#"{"id":1,"result":{"task":{"taskId":"T1","status":"working"}}}"#;
const TEXT: &str = r#""result":{"content":[{"type":"text","text":"transferred 500"}]}"#;

fn about(id: u32, method: &str) -> String {
    format!(r#"{{"id":{id},"method":"tasks/{method}","params":{{"taskId":"T1"}}}}"#)
}

/// A task could not be cancelled, or was queried while the server was busy: that error was recorded as the end of the call,
/// and the money that was transferred afterwards, of which the host was told, was not in the log.
#[test]
fn an_error_about_a_task_is_not_the_end_of_the_call() {
    let error = r#"{"id":2,"error":{"code":-32603,"message":"busy"}}"#;
    let cancelled = r#"{"id":2,"result":{"taskId":"T1","status":"cancelled"}}"#;
    for (method, reply, expected) in [
        ("get", error, &["ok"][..]),
        ("cancel", error, &["ok"]),
        // It may be the call's own error, so it is recorded; and it may not.
        ("result", error, &["protocol_error", "ok"]),
        ("cancel", cancelled, &["abandoned", "ok"]),
    ] {
        let watched = Watched::new(|_| {});
        watched.host(&call("7"));
        watched.server(TASK);
        watched.host(&about(2, method));
        watched.server(reply);
        watched.host(&about(3, "result"));
        watched.server(&format!(r#"{{"id":3,{TEXT}}}"#));
        let lines = watched.end();
        assert_eq!(outcomes(&lines), expected, "{method}: {reply}");
        if let [end, late] = &lines[..] {
            assert_eq!(text(late, "follow_up_of"), text(end, "seq"));
            assert_eq!(text(late, "late_answer"), "true");
        }
    }
}

/// A task that the host had cancelled, or that had taken too long, was queried once more and gave its result; the last
/// entry in the log said that the call had been given up.
#[test]
fn the_result_of_a_task_that_was_given_up_is_a_late_answer() {
    for cancels in [true, false] {
        for late_task in [true, false] {
            let watched = Watched::new(timed);
            watched.host(&call("7"));
            if !late_task {
                watched.server(TASK);
            }
            match cancels {
                true => watched.host(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#),
                false => watched.pass(11),
            }
            if late_task {
                watched.server(TASK);
            }
            watched.host(&about(2, "get"));
            watched.server(r#"{"id":2,"result":{"taskId":"T1","status":"working"}}"#);
            watched.host(&about(3, "result"));
            watched.server(&format!(r#"{{"id":3,{TEXT}}}"#));
            let given_up = if cancels { "abandoned" } else { "timeout" };
            assert_eq!(outcomes(&watched.end()), [given_up, "ok"], "{late_task}");
        }
    }
}

/// An odd reply and the plain one after it came in one write, as servers with buffered output send them. The plain one was
/// handled before the end from the odd one was registered, matched nothing, and was in no entry [R44].
#[test]
fn a_plain_reply_in_one_write_with_an_odd_one_is_recorded_too() {
    for odd in [
        r#"{"id":1,"result":{},"error":{"code":1}}"#,
        r#"{"id":1,"method":"x","result":{}}"#,
        r#"{"id":1,"result":{},"Error":{"code":1}}"#,
        r#"{"id":1,"result":{"x":NaN}}"#,
    ] {
        for read_only in [false, true] {
            let watched = Watched::new(|settings| settings.read_only.extend(read_only.then(|| "t".to_owned())));
            watched.host(&call("7"));
            let frames = [odd.as_bytes().to_vec(), OK.as_bytes().to_vec()];
            assert_eq!(watched.observer.from_server(&frames), [Verdict::Forward, Verdict::Forward]);
            assert_eq!(outcomes(&watched.end()), ["protocol_error", "ok"], "{odd}");
        }
    }
}

/// The host was told that a task had failed, or ended well, by a notification, a list or a status query, and asked no more:
/// the log said that the call had been abandoned because the host had gone [R57].
#[test]
fn the_end_of_a_task_that_the_host_was_told_is_the_end_of_the_call() {
    let list = r#"{"id":2,"method":"tasks/list"}"#.to_owned();
    for (status, outcome) in [("failed", "tool_error"), ("cancelled", "abandoned"), ("completed", "ok")] {
        let task = format!(r#"{{"taskId":"T1","status":"{status}","statusMessage":"card declined"}}"#);
        for (asks, told) in [
            (String::new(), format!(r#"{{"method":"notifications/tasks/status","params":{task}}}"#)),
            (String::new(), format!(r#"{{"method":"notifications/tasks","params":{task}}}"#)),
            (about(2, "get"), format!(r#"{{"id":2,"result":{task}}}"#)),
            (about(2, "cancel"), format!(r#"{{"id":2,"result":{task}}}"#)),
            (list.clone(), format!(r#"{{"id":2,"result":{{"tasks":[{{"taskId":"T0","status":"failed"}},{task}]}}}}"#)),
        ] {
            for fetched in [false, true] {
                let watched = Watched::new(|_| {});
                watched.host(&call("7"));
                watched.server(TASK);
                if !asks.is_empty() {
                    watched.host(&asks);
                }
                watched.server(&told);
                // Reported again, it changes nothing.
                watched.server(&format!(r#"{{"method":"notifications/tasks/status","params":{task}}}"#));
                if fetched {
                    watched.host(&about(3, "result"));
                    watched.server(r#"{"id":3,"result":{"content":[],"isError":true}}"#);
                }
                watched.observer.host_gone();
                let lines = watched.end();
                let expected = match (fetched, status) {
                    (false, _) => vec![outcome],
                    // Its result is the end that the call waits for.
                    (true, "completed") => vec!["tool_error"],
                    (true, _) => vec![outcome, "tool_error"],
                };
                assert_eq!(outcomes(&lines), expected, "{told}");
                let said = match (status, fetched) {
                    ("failed", _) => "card declined",
                    ("completed", false) => "completed",
                    _ => continue,
                };
                let end = &lines[0];
                assert!(
                    [text(end, "error.message"), text(end, "session_metadata.mcp.task_status")]
                        .contains(&said.to_owned())
                );
            }
        }
    }
}

/// After a task had taken too long the host was told how it had ended, or that asking for its result had failed: the log
/// had neither [R57].
#[test]
fn what_is_told_of_a_task_that_was_given_up_is_a_further_entry() {
    let busy = r#"{"id":3,"error":{"code":-32603,"message":"boom"}}"#;
    let get = |status: &str| format!(r#"{{"id":3,"result":{{"taskId":"T1","status":"{status}"}}}}"#);
    for (method, reply, outcome) in [
        ("result", busy.to_owned(), "protocol_error"),
        ("get", get("failed"), "tool_error"),
        ("get", get("completed"), "ok"),
    ] {
        let watched = Watched::new(timed);
        watched.host(&call("7"));
        watched.server(TASK);
        watched.pass(11);
        watched.host(&about(3, method));
        watched.server(&reply);
        watched.host(&about(4, "result"));
        watched.server(&format!(r#"{{"id":4,{TEXT}}}"#));
        let lines = watched.end();
        assert_eq!(outcomes(&lines), ["timeout", outcome, "ok"], "{reply}");
        for late in &lines[1..] {
            assert_eq!(text(late, "follow_up_of"), text(&lines[0], "seq"), "{late:?}");
            assert_eq!(text(late, "late_answer"), "true");
        }
    }
}

/// Since 2026 a task can ask for input, and continues with `tasks/update`. The server made a transfer with the input it
/// got, and the log did not have that input [R45].
#[test]
fn what_a_task_goes_on_with_is_recorded() {
    let update = |task: &str| {
        format!(
            r#"{{"id":2,"method":"tasks/update","params":{{"taskId":"{task}","inputResponses":{{"a":{{"sum":98765432109876543210}}}},"more":1}}}}"#
        )
    };
    let watched = Watched::new(|_| {});
    watched.host(&call("7"));
    watched.server(TASK);
    watched.host(&update("T1"));
    watched.server(r#"{"id":2,"result":{"resultType":"complete"}}"#);
    watched.host(&about(3, "result"));
    watched.server(&format!(r#"{{"id":3,{TEXT}}}"#));
    let lines = watched.end();
    assert_eq!(outcomes(&lines), ["ok", "ok"]);
    assert_eq!(text(&lines[0], "tool_name"), "input_responses");
    assert_eq!(text(&lines[0], "arguments.a.sum"), "98765432109876543210");
    assert_eq!(text(&lines[0], "restated"), r#"["arguments.a.sum"]"#);
    assert_eq!(text(&lines[0], "session_metadata.mcp.tool"), "t");
    assert_eq!(text(&lines[0], "session_metadata.mcp.beside_arguments"), r#"{"more":1}"#);
    assert_eq!((text(&lines[0], "call_id"), text(&lines[1], "call_id")), ("2".to_owned(), "1".to_owned()));
    assert_eq!(text(&lines[0], "follow_up_of"), text(&lines[1], "begun_seq"));
    // A host continued a task from an earlier run: its result was in no log.
    for method in ["get", "result", "cancel"] {
        let watched = Watched::new(|_| {});
        watched.host(&about(2, method));
        watched.server(&format!(r#"{{"id":2,{TEXT}}}"#));
        let lines = watched.end();
        assert_eq!(
            (text(&lines[0], "tool_name"), outcomes(&lines).concat()),
            (format!("tasks/{method}"), "ok".to_owned())
        );
    }
    // For an unknown task it is recorded too, whole.
    let watched = Watched::new(|_| {});
    watched.host(&update("T9"));
    watched.server(r#"{"id":2,"result":{}}"#);
    let lines = watched.end();
    assert_eq!(
        (text(&lines[0], "tool_name"), text(&lines[0], "arguments.taskId")),
        ("tasks/update".to_owned(), "T9".to_owned())
    );
}

/// A batch had two replies to one call, an error and then a result. Hosts that sort a batch by its ids take the second; the
/// log had the first, and only counted the other [R44].
#[test]
fn of_two_replies_in_one_batch_neither_is_a_plain_success() {
    let error = r#"{"id":1,"error":{"code":-32603,"message":"first"}}"#;
    let odd = r#"{"id":1,"method":"x","result":{}}"#;
    let other = r#"{"id":2,"result":{"content":[]}}"#;
    for (batch, expected) in [
        (format!("[{error},{OK}]"), &["protocol_error", "protocol_error"][..]),
        (format!("[{OK},{}]", OK.replace("\"id\":1", "\"id\":\"1\"")), &["protocol_error", "protocol_error"]),
        (format!("[{odd},{OK}]"), &["protocol_error", "protocol_error"]),
        // Another call's reply in the same batch is not odd.
        (format!("[{odd},{other}]"), &["protocol_error", "ok"]),
        (format!("[{OK},{other}]"), &["ok", "ok"]),
    ] {
        for read_only in [false, true] {
            let watched = Watched::new(|settings| settings.read_only.extend(read_only.then(|| "t".to_owned())));
            watched.host(&call("7"));
            watched.host(&call("8").replace("\"id\":1", "\"id\":2"));
            watched.server(&batch);
            let all = watched.end();
            let lines: Vec<Json> = match batch.contains("\"id\":2") {
                true => all,
                false => all.into_iter().filter(|line| text(line, "call_id") == "1").collect(),
            };
            assert_eq!(outcomes(&lines), expected, "{batch}");
            if expected == ["protocol_error", "protocol_error"] {
                assert_eq!(text(&lines[1], "follow_up_of"), text(&lines[0], "seq"));
                assert!(lines.iter().all(|line| !text(line, "session_metadata.mcp.odd_reply").is_empty()), "{lines:?}");
            }
        }
    }
}

/// A reply came while its call was being given up: the call was no longer open, and not yet given up, so the reply matched
/// nothing, and the host had a result that the log only counted. Now one of the two comes first, and the log says which.
#[test]
fn a_reply_that_comes_while_its_call_is_given_up_is_recorded() {
    for round in 0..40 {
        let watched = Watched::new(timed);
        watched.host(&call("7"));
        watched.clock.advance(Duration::from_secs(11));
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                start.wait();
                if round % 2 == 0 {
                    watched.observer.expire();
                } else {
                    watched.host(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#);
                }
            });
            start.wait();
            watched.server(OK);
        });
        let lines = watched.end();
        match &outcomes(&lines).iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["ok"] => {}
            ["timeout" | "abandoned", "ok"] => assert_eq!(text(&lines[1], "follow_up_of"), text(&lines[0], "seq")),
            other => panic!("{other:?}: {lines:?}"),
        }
        assert!(lines.iter().all(|line| text(line, "session_metadata.mcp.unmatched_replies").is_empty()));
    }
}

/// A call that timed out and was answered all the same counted twice: a rule on how often a tool is called fired one call
/// too early [N5]. Statistics counted it twice as well [R42].
#[test]
fn an_answer_that_came_late_is_no_further_call() {
    use attestlog::alert::{Part, Rule, Rules};
    let watched = Watched::new(timed);
    watched.host(&call("7"));
    watched.pass(11);
    watched.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#);
    watched.observer.close("over");
    let log = Options::new().open(&watched.store).unwrap();
    // The observer's clock is not the log's.
    let rate = Rule::new("rate").back_dated().key([Part::USER]).count(2);
    let errors = Rule::new("errors").back_dated().when(attestlog::Facet::Outcome, "tool_error").count(1);
    let rules = Rules::none().with(rate).unwrap().with(errors).unwrap();
    let fired = || {
        log.alerts().engine_with(rules.clone()).unwrap().run_once().unwrap();
        log.alerts().list().unwrap().into_iter().map(|state| state.alert.rule).collect::<Vec<_>>()
    };
    // What only the answer shows counts for it.
    assert_eq!(fired(), ["errors"]);
    let calls = || log.statistics(&attestlog::query::Statistics::new()).unwrap()[0].total_calls;
    assert_eq!(calls(), 1);
    log.flush_index().unwrap();
    assert_eq!(calls(), 1);
    assert!(log.verify(&attestlog::verify::VerifyOptions::new().threads(1)).unwrap().ok());
    let newest = attestlog::Query::new().kind(attestlog::Kind::ToolCall).newest_first().limit(1);
    let newest = log.query(&newest).unwrap().next().unwrap().unwrap().seq;
    let further = attestlog::ToolCall::new("c", "u", "t").timestamp("2026-03-01".parse().unwrap());
    log.record(further.follow_up_of(newest)).unwrap();
    assert!(fired().contains(&"rate".to_owned()));
    log.close().unwrap();
}
