//! The proxy records what happened: late answers, odd ids, noise, what was viewed, what is read besides tools.
#![cfg(unix)]

use crate::common::*;
use crate::mcp_common::{Host, call, ends, lines, request, text};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A reply to request 1.
const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"refund issued"}]}}"#;
const CANCEL: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"user"}}"#;

fn outcomes(place: &Place) -> Vec<String> {
    ends(place).iter().map(|l| text(l, "outcome")).collect()
}

#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// Servers answer request 1 with `"id":"1"`, and hosts accept that. The log had no answer: hours later it said that the
/// host had ended before a reply.
#[test]
fn a_reply_whose_id_is_a_text_is_the_reply() {
    let place = Place::with_store();
    let reply = OK.replace("\"id\":1", "\"id\":\"1\"");
    place.write("reply", format!("{reply}\n"));
    let mut host = Host::sh(&place, &[], "read -r l; cat reply; read -r l");
    host.say(call("1", "refund", "{}"));
    assert_eq!(host.hear(), reply);
    let end = &ends(&place)[0];
    assert_eq!((text(end, "outcome"), text(end, "session_metadata.mcp.reply_id")), ("ok".to_owned(), "1".to_owned()));
    host.end();
}

/// Some servers answer everything with the id 0. The log did not show that there had been answers at all.
#[test]
fn a_reply_that_fits_nothing_leaves_a_trace() {
    let place = Place::with_store();
    place.write("reply", OK.replace("\"id\":1", "\"id\":0") + "\n");
    let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
    host.say(call("1", "refund", "{}"));
    host.hear();
    host.end();
    let end = &ends(&place)[0];
    assert_eq!(text(end, "session_metadata.mcp.unmatched_replies"), "1");
    assert!(text(end, "error.message").contains("no reply with its id"), "{end:?}");
}

/// A call was cancelled, and the tool went on: the refund was issued, its answer went to the host, and the last entry in
/// the log said that the call had been abandoned.
#[test]
fn an_answer_after_a_cancellation_is_recorded_as_what_it_is() {
    for flags in [&[][..], &["--read-only", "refund"]] {
        let place = Place::with_store();
        place.write("reply", format!("{OK}\n"));
        let mut host = Host::sh(&place, flags, "read -r l; read -r l; cat reply; cat > /dev/null");
        host.say(call("1", "refund", r#"{"patient_id":"P-1"}"#));
        host.say(CANCEL);
        assert_eq!(host.hear(), OK);
        let ends = ends(&place);
        assert_eq!(outcomes(&place), ["abandoned", "ok"]);
        assert_eq!(text(&ends[1], "late_answer"), "true");
        assert_eq!(text(&ends[1], "follow_up_of"), text(&ends[0], "seq"), "{:?}", ends[1]);
        assert_eq!(text(&ends[1], "result_summary.type"), "object");
        host.end();
        let shown = place.run(&["timeline", "s", "c"]).ok();
        assert!(shown.contains("had given the call up"), "{shown}");
        let report = place.run(&["report", "access", "s", "--patient", "P-1", "--format", "json"]).json();
        let accesses = report.get("accesses").unwrap().as_array().unwrap();
        assert!(accesses.iter().any(|a| text(a, "success") == "true"), "{report:?}");
        let stats = place.run(&["stats", "s", "--tool", "refund", "--json"]).json();
        // The answer is not a separate call, and the call that had been given up took effect.
        assert_eq!((text(&stats, "total_calls"), text(&stats, "success_rate")), ("1".to_owned(), "1".to_owned()));
        place.run(&["verify", "s"]).ok();
    }
}

/// With `--timeout`, which the host does not know about, the host acted on an answer as a success that the log had as timed
/// out.
#[test]
fn an_answer_after_a_time_out_is_recorded_as_what_it_is() {
    let place = Place::with_store();
    place.write("reply", format!("{OK}\n"));
    let mut host = Host::sh(&place, &["--timeout", "0.05"], "read -r l; read -r l; cat reply; cat > /dev/null");
    host.say(call("1", "refund", "{}"));
    until("the call times out", || outcomes(&place) == ["timeout"]);
    host.say("{\"method\":\"notifications/initialized\"}");
    assert_eq!(host.hear(), OK);
    assert_eq!(outcomes(&place), ["timeout", "ok"]);
    host.end();
}

/// Lines that are not messages were counted in the next call that began, so those before the last answer were in no entry.
#[test]
fn noise_is_counted_when_it_happens() {
    let place = Place::with_store();
    place.write("reply", format!("cache warmed\n{{half\n{OK}\n"));
    let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
    host.say(call("1", "refund", "{}"));
    assert_eq!(host.hear(), "cache warmed");
    // The second may be the beginning of a message: the host is told that it does not get it.
    assert!(host.hear().contains("was not passed on"));
    assert!(host.hear().contains("result"));
    assert_eq!(text(&ends(&place)[0], "session_metadata.mcp.unparsed_frames"), "2");
    host.end();
}

/// For every access through the proxy, the protocol's envelope was recorded as what was viewed: `content, isError`.
#[test]
fn what_was_viewed_is_the_record() {
    let results = [
        r#"{"content":[{"type":"text","text":"{\"patient_id\":\"P-1\",\"name\":\"A\",\"labs\":[{\"id\":\"l-1\"}]}"}]}"#,
        r#"{"content":[],"isError":false,"structuredContent":{"patient_id":"P-1","name":"A","labs":[{"id":"l-1"}]}}"#,
    ];
    let given = Place::with_store();
    let record = r#"{"patient_id":"P-1","name":"A","labs":[{"id":"l-1"}]}"#;
    let line = crate::common::call("c", "u", "chart", &format!(r#""patient_id":"P-1","result":{record}"#));
    given.run_with(&["record", "s"], line.as_bytes()).ok();
    let viewed = |place: &Place| {
        let report = place.run(&["report", "access", "s", "--patient", "P-1", "--format", "json"]).json();
        text(&report.get("accesses").unwrap().as_array().unwrap()[0], "viewed")
    };
    for result in results {
        let place = Place::with_store();
        place.write("reply", format!("{{\"id\":1,\"result\":{result}}}\n"));
        let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
        host.say(call("1", "chart", r#"{"patient_id":"P-1"}"#));
        host.hear();
        host.end();
        assert_eq!(viewed(&place), viewed(&given));
        assert!(viewed(&place).contains("labs"), "{}", viewed(&place));
    }
}

/// The official SQLite server answers a refused statement with `Error: Only SELECT queries are allowed`: such a server
/// never failed, while the importers counted the same answer as a failure. Then a page that begins with that word, for
/// which the server had said success with `isError` false, was a failure here and not in an import. Now an explicit flag
/// takes precedence in both, and the text is marked.
#[test]
fn a_text_that_says_error_is_one_here_too() {
    for (flag, outcome) in [("", "tool_error"), (r#","isError":null"#, "tool_error"), (r#","isError":false"#, "ok")] {
        let place = Place::with_store();
        let content = r#""content":[{"type":"text","text":"Error: no"}]"#;
        place.write("reply", format!("{{\"id\":1,\"result\":{{{content}{flag}}}}}\n"));
        let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
        host.say(call("1", "query", "{}"));
        host.hear();
        host.end();
        let end = &ends(&place)[0];
        assert_eq!(text(end, "outcome"), outcome, "{flag}");
        assert_eq!(text(end, "error.message"), if outcome == "ok" { "" } else { "Error: no" });
        assert_eq!(text(end, "session_metadata.mcp.error_text"), "true");
        // The same answer in a transcript, and the same result from a host that records it itself.
        let import = Place::with_store();
        let begun = r#"{"timestamp":"2026-03-01T09:00:00Z","role":"assistant","content":[{"type":"tool_use","id":"a","name":"query","input":{}}]}"#;
        let beside = format!(
            r#"{{"timestamp":"2026-03-01T09:00:01Z","role":"user","content":[{{"type":"tool_result","tool_use_id":"a",{content}{flag}}}]}}"#
        );
        import.write("t.json", format!("[{{\"role\":\"user\",\"content\":\"x\"}},{begun},{beside}]"));
        let args = ["import", "s", "t.json", "--format", "anthropic", "--user", "u"];
        import.run(&args).ok();
        let line = crate::common::call("c", "u", "query", &format!(r#""result":{{{content}{flag}}}"#));
        import.run_with(&["record", "s"], line.as_bytes()).ok();
        assert_eq!(outcomes(&import), [outcome; 2], "{flag}");
    }
}

/// A tool that returns JSON said in it that it had failed (`{"error":"no such chart"}`), as text or as structured content.
/// Imported from a transcript this was a failure; through the proxy it was a success.
#[test]
fn a_record_that_says_error_is_one_here_too() {
    for result in [
        r#"{"content":[{"type":"text","text":"{\"error\":\"no such chart\"}"}]}"#,
        r#"{"content":[],"structuredContent":{"error":"no such chart"},"isError":false}"#,
    ] {
        let place = Place::with_store();
        place.write("reply", format!("{{\"id\":1,\"result\":{result}}}\n"));
        let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
        host.say(call("1", "chart", "{}"));
        host.hear();
        host.end();
        let end = &ends(&place)[0];
        assert_eq!(text(end, "outcome"), "tool_error", "{result}");
        assert_eq!(text(end, "error.message"), "no such chart");
    }
    // Errors mentioned inside a resource are only content that was read.
    let place = Place::with_store();
    let read = r#"{"contents":[{"uri":"file:///errors","text":"{\"error\":\"the title\"}"}]}"#;
    place.write("reply", format!("{{\"id\":1,\"result\":{read}}}\n"));
    let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
    host.say(request("1", "resources/read", r#"{"uri":"file:///errors"}"#));
    host.hear();
    host.end();
    assert_eq!(outcomes(&place), ["ok"]);
}

/// A host sends its calls without waiting for the reply to `initialize`. All of them were recorded as calls of `sh`, up to
/// their end, and a search for the server by its name found none.
#[test]
fn a_server_that_says_its_name_late_is_found_by_it() {
    let place = Place::with_store();
    let about = r#"{"jsonrpc":"2.0","id":0,"result":{"serverInfo":{"name":"tiny","version":"1"}}}"#;
    place.write("replies", format!("{about}\n{OK}\n"));
    let mut host = Host::sh(&place, &[], "read -r a; read -r b; cat replies; cat > /dev/null");
    host.say(request("0", "initialize", "{}"));
    host.say(call("1", "refund", "{}"));
    host.hear();
    host.hear();
    host.end();
    let [begun, end] = &lines(&place)[..] else { panic!("a call in two steps") };
    assert_eq!((text(begun, "tool_server"), text(end, "tool_server")), ("sh".to_owned(), "tiny".to_owned()));
    assert_eq!(text(end, "session_metadata.mcp.server.name"), "tiny");
    assert_eq!(place.count(&["--server", "tiny"]), 1);
}

/// Started by a service, which does not set USER, the proxy recorded calls of `unknown`, though the account has a name.
#[test]
fn the_login_name_is_that_of_the_account() {
    let place = Place::with_store();
    place.write("reply", format!("{OK}\n"));
    let mut command = place.command(&["mcp", "s", "--", "sh", "-c", "read -r l; cat reply; cat > /dev/null"]);
    for name in ["USER", "LOGNAME", "USERNAME", "ATTESTLOG_USER"] {
        command.env_remove(name);
    }
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", call("1", "refund", "{}")).unwrap();
    until("the reply", || !ends(&place).is_empty());
    drop(child.stdin.take());
    child.wait().unwrap();
    let account = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap();
    let name = account.map_or_else(|| "unknown".to_owned(), |account| account.name);
    assert_eq!(text(&ends(&place)[0], "user_id"), name);
}

/// A chart that was read as a resource left no trace in the log.
#[test]
fn resources_and_prompts_are_accesses_too() {
    let place = Place::with_store();
    place.write(
        "1",
        "{\"id\":1,\"result\":{\"contents\":[{\"uri\":\"patient://P-1\",\"text\":\"{\\\"name\\\":\\\"A\\\"}\"}]}}\n",
    );
    place.write("2", "{\"id\":2,\"result\":{\"messages\":[]}}\n");
    let mut host = Host::sh(&place, &[], "read -r l; cat 1; read -r l; cat 2; cat > /dev/null");
    host.say(request("1", "resources/read", r#"{"uri":"patient://P-1"}"#));
    host.hear();
    host.say(request("2", "prompts/get", r#"{"name":"summary","arguments":{"who":"P-2"}}"#));
    host.hear();
    host.end();
    let ends = ends(&place);
    assert_eq!(text(&ends[0], "tool_name"), "resources/read");
    assert_eq!(text(&ends[0], "session_metadata.mcp.method"), "resources/read");
    assert_eq!(text(&ends[0], "arguments.uri"), "patient://P-1");
    assert_eq!(text(&ends[1], "arguments.name"), "summary");
    let report = place.run(&["report", "access", "s", "--patient", "P-1", "--format", "json"]).json();
    let accesses = report.get("accesses").unwrap().as_array().unwrap();
    assert_eq!(text(&accesses[0], "tool"), "resources/read");
    assert!(text(&accesses[0], "viewed").contains("name"), "{report:?}");
    assert_eq!(lines(&place).len(), 4, "begun and ended, as calls are");
}

/// A call through the proxy could not be correlated with the trace that it belongs to: `traceparent` was dropped.
#[test]
fn a_call_is_found_by_its_trace() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > /dev/null");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let meta = format!(r#"{{"name":"t","_meta":{{"traceparent":"00-{trace}-b7ad6b7169203331-01"}}}}"#);
    host.say(request("1", "tools/call", &meta));
    host.say(call("2", "t", "{}"));
    host.end();
    assert_eq!(place.count(&["--trace", trace, "--kind", "tool_call"]), 1);
    assert_eq!(place.count(&["--trace", "00000000000000000000000000000000"]), 0);
    assert_eq!(text(&ends(&place)[0], "span_id"), "b7ad6b7169203331");
}

/// A number beyond a double was stored as a string of its digits, and nothing said that it had been a number.
#[test]
fn numbers_that_lose_digits_are_marked() {
    let place = Place::with_store();
    let result = r#"{"content":[{"type":"text","text":"{\"sum\":12345678901234567890}"}]}"#;
    place.write("reply", format!("{{\"id\":1,\"result\":{result}}}\n"));
    let mut host = Host::sh(&place, &[], "read -r l; cat reply; cat > /dev/null");
    host.say(call("1", "pay", r#"{"amount":98765432109876543210}"#));
    host.hear();
    host.end();
    let end = &ends(&place)[0];
    assert_eq!(text(end, "restated"), r#"["arguments.amount","result.sum"]"#);
}

fn alive(process: &str) -> bool {
    // A process that has ended but was not reaped does not count.
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A host that gives up waiting kills its child, which was the proxy: a server that ignored the end of its input stayed
/// forever. (1,088 such orphans were seen on one machine.)
#[test]
#[cfg(target_os = "linux")]
fn the_server_goes_with_a_proxy_that_is_killed() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "trap '' TERM HUP; echo $$; while :; do read -r l || sleep 1; done");
    let server = host.hear();
    assert!(alive(&server) && Path::new("/proc/self").exists());
    host.child.kill().unwrap();
    host.child.wait().unwrap();
    until("the server is gone", || !alive(&server));
}

/// And one whose host just went away: the proxy tells it to end, then kills it.
#[test]
#[cfg(target_os = "linux")]
fn a_server_that_stays_when_the_host_has_gone_is_ended() {
    let place = Place::with_store();
    let program = env!("CARGO_BIN_EXE_attestlog");
    let server = "trap '' TERM HUP; echo $$ > server; while :; do read -r l || sleep 1; done";
    // The host is a shell that starts the proxy with a pipe for its input, and exits.
    let host = format!(
        "{{ while [ ! -s server ]; do sleep 0.01; done; }} | {program} mcp s --grace 0.1 -- sh -c \"$SERVER\" & wait_for=server; while [ ! -s server ]; do sleep 0.01; done"
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &host]).env("SERVER", server).current_dir(place.dir.path());
    assert!(command.status().unwrap().success());
    let server = std::fs::read_to_string(place.path("server")).unwrap().trim().to_owned();
    until("the server is gone", || !alive(&server));
}

/// A server that could not be started gave `No such file or directory (os error 2)`: not which program, nor where it was
/// looked for.
#[test]
fn a_server_that_cannot_be_started_is_told_by_name_and_reason() {
    let place = Place::with_store();
    place.write("plain", "#!/bin/sh\n");
    place.write("no-interpreter", "#!/no/such/interpreter\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path("no-interpreter"), executable).unwrap();
    std::fs::create_dir(place.path("folder")).unwrap();
    for (program, why) in [
        ("no-such-server", "in no folder of PATH (/usr/bin:/bin)"),
        ("/no/such/program", "does not exist"),
        ("./no-such-server", "looked for from"),
        ("./plain", "is not executable"),
        ("./folder", "is a folder"),
        ("./no-interpreter", "the interpreter that its first line names"),
    ] {
        let mut command = place.command(&["mcp", "s", "--", program]);
        let ran = command.env("PATH", "/usr/bin:/bin").output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(
            said.contains("cannot be started") && said.contains(program) && said.contains(why),
            "{program}: {said}"
        );
    }
    assert_eq!(place.count(&["--kind", "tool_call"]), 0);
}

/// A host closed both pipes and kept running; a server that ignored the end of its input stayed too, though nobody could
/// read its output.
#[test]
#[cfg(target_os = "linux")]
fn a_server_that_nobody_can_hear_is_ended() {
    let place = Place::with_store();
    let server = "trap '' TERM HUP; echo $$ > server.new; mv server.new server; while :; do read -r l || sleep 1; done";
    let mut host = Host::sh(&place, &["--grace", "0.1"], server);
    until("the server is up", || place.path("server").exists());
    let server = std::fs::read_to_string(place.path("server")).unwrap().trim().to_owned();
    host.close();
    host.deafen();
    until("the server is gone", || !alive(&server));
    host.child.wait().unwrap();
}

/// The store was removed, or another was put in its place, while the proxy ran: calls went on, and were recorded into a
/// file that nobody could find any more [R43].
#[test]
fn a_store_that_is_gone_is_noticed() {
    for moved in [false, true] {
        for open in [false, true] {
            let place = Place::with_store();
            let flags = if open { &["--fail-open"][..] } else { &[] };
            let mut host =
                Host::sh(&place, flags, "while read -r l; do echo \"$l\" >> seen; echo '{\"method\":\"got\"}'; done");
            host.say(call("1", "t", "{}"));
            assert!(host.hear().contains("got"));
            std::fs::rename(place.path("s"), place.path("away")).unwrap();
            if moved {
                std::fs::copy(place.path("away"), place.path("s")).unwrap();
            }
            host.say(call("2", "t", "{}"));
            let said = host.hear();
            if open {
                assert!(said.contains("got"), "{said}");
            } else {
                let why = if moved { "another file lies there now" } else { "nothing lies there now" };
                assert!(said.contains("was not made") && said.contains(why), "{said}");
            }
            std::fs::rename(place.path("away"), place.path("s")).unwrap();
            // Once the store is put back, it goes on.
            host.say(call("3", "t", "{}"));
            assert!(host.hear().contains("got"));
            host.end();
            let ids: Vec<String> = ends(&place).iter().map(|l| text(l, "call_id")).collect();
            assert_eq!(ids, ["1", "3"]);
            let seen = std::fs::read_to_string(place.path("seen")).unwrap();
            assert_eq!(seen.lines().count(), if open { 3 } else { 2 });
            let last = ends(&place).pop().unwrap();
            assert_eq!(text(&last, "session_metadata.mcp.unrecorded_calls"), if open { "1" } else { "" });
            place.run(&["verify", "s"]).ok();
        }
    }
}

/// `--user ""`, for example from a variable that is not set, was accepted, and each call was then refused because of it;
/// elsewhere it was recorded as belonging to nobody.
#[test]
fn nobody_is_named_by_nothing() {
    let place = Place::with_store();
    for args in [
        &["mcp", "s", "--user", "", "--", "true"][..],
        &["mcp", "s", "--agent", " ", "--", "true"],
        &["query", "s", "--user", ""],
        &["report", "access", "s", "--patient", ""],
        &["hold", "place", "s", "--actor", "", "--reason", "r", "--case", "c", "--user", "u"],
        &["break-glass", "open", "s", "--user", "", "--patient", "P", "--reason", "r", "--ttl", "1h"],
        &["purge", "s", "--actor", ""],
        &["erase", "s", "--subject", "", "--actor", "w", "--reason", "r"],
    ] {
        let ran = place.run(args).code(2);
        assert!(ran.err.contains("must not be empty"), "{args:?}: {}", ran.err);
    }
}
