//! The MCP proxy: bytes are passed on unchanged, every call is recorded, and no call is made that could not be recorded.
#![cfg(unix)]

use crate::common::*;
use attestlog::json::Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

fn fake_server() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join("examples/fake_mcp_server");
    assert!(path.exists(), "{} is built by `cargo test` and `cargo build --examples`", path.display());
    path
}

struct Host {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Host {
    fn start(place: &Place, flags: &[&str]) -> Host {
        let server = fake_server();
        let args = [&["mcp", "s"], flags, &["--", server.to_str().unwrap()]].concat();
        let mut command = place.command(&args);
        command.env("FAKE_LOG", place.path("seen")).env("USER", "login").env_remove("ATTESTLOG_USER");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Host { input: child.stdin.take(), child, output }
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.input.as_mut().unwrap().write_all(bytes.as_ref()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Json {
        self.say(bytes);
        json(&self.hear())
    }

    fn call(&mut self, id: u32, tool: &str, arguments: &str) -> Json {
        self.ask(request(id, tool, arguments))
    }

    /// Ends the host; returns the exit code and the server's standard error.
    fn end(mut self) -> (i32, String) {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or_else(|| -status.signal().unwrap()), said)
    }
}

fn request(id: u32, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    ) + "\n"
}

/// The lines of all calls.
fn lines(place: &Place) -> Vec<Json> {
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call", "--kind", "call_begun"]).ok();
    lines.lines().map(json).collect()
}

fn ends(place: &Place) -> Vec<Json> {
    lines(place).into_iter().filter(|l| text(l, "kind") == "tool_call").collect()
}

fn text(line: &Json, path: &str) -> String {
    let at = path.split('.').try_fold(line, |at, key| at.get(key));
    at.map_or(String::new(), |v| v.as_str().map_or_else(|| v.to_canonical().to_string(), str::to_owned))
}

#[test]
fn a_call_is_recorded_with_everything_that_is_known() {
    let place = Place::with_store();
    let flags = ["--role", "physician", "--model", "m-1", "--purpose", "treatment", "--patient-path", "arguments.who"];
    let mut host = Host::start(&place, &flags);
    host.ask(
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","clientInfo":{"name":"desk","version":"9"}}}
"#,
    );
    host.ask("{\"jsonrpc\":\"2.0\",\"id\":\"l\",\"method\":\"tools/list\"}\n");
    let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"echo","arguments":{"who":"P-1","password":"hunter2"},"_meta":{"conversation_id":"conv_7","user_id":"usr_7"}}}
"#;
    let reply = host.ask(call);
    assert_eq!(text(&reply, "id"), "a");
    // While the proxy has the store open.
    assert_eq!(ends(&place).len(), 1);
    assert_eq!(host.end().0, 0);
    let all = lines(&place);
    let [begun, end] = &all[..] else { panic!("{all:?}") };
    assert_eq!(text(begun, "kind"), "call_begun");
    assert_eq!(text(end, "begun_seq"), text(begun, "seq"));
    for (path, value) in [
        ("tool_name", "echo"),
        ("tool_server", "fake"),
        ("agent_id", "desk"),
        ("user_id", "usr_7"),
        ("conversation_id", "conv_7"),
        ("model", "m-1"),
        ("purpose", "treatment"),
        ("call_id", "a"),
        ("outcome", "ok"),
        ("arguments.password", "[REDACTED:secret]"),
        ("patient_ids", r#"["P-1"]"#),
        ("session_metadata.user_role", "physician"),
        ("session_metadata.mcp.client.version", "9"),
        ("session_metadata.mcp.server.version", "1.2"),
        ("session_metadata.mcp.protocol", "2025-06-18"),
        ("session_metadata.mcp.untrusted_hints.readOnlyHint", "true"),
    ] {
        assert_eq!(text(end, path), value, "{path} in {}", end.to_canonical());
    }
    let bytes = std::fs::read(place.path("s")).unwrap();
    assert!(!bytes.windows(7).any(|w| w == b"hunter2"));
    place.run(&["verify", "s"]).ok();
}

#[test]
fn bytes_go_through_unchanged_whatever_they_are() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    let odd = [
        "  {\"method\" : \"ping\",\"id\": 1.0e0 ,\"jsonrpc\":\"2.0\"}\r\n",
        "no json at all\n",
        "\n",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/odd\",\"params\":{\"big\":123456789012345678901234567890}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"noise\",\"arguments\":{\"a\":\"\\u0000\\ud800\"}}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\"}}",
    ]
    .concat();
    host.say(&odd);
    assert_eq!(json(&host.hear()).get("id"), Some(&Json::from(1u32)));
    assert_eq!(host.hear(), "this is no JSON-RPC\n");
    assert!(host.hear().contains("quiet again"));
    drop(host.input.take());
    assert!(host.hear().contains("\"id\":3"));
    let (code, said) = host.end();
    assert_eq!((code, said.as_str()), (0, "fake server is up\n"), "standard error is the server's alone");
    assert_eq!(std::fs::read_to_string(place.path("seen")).unwrap(), odd);
    let ends = ends(&place);
    let mut names: Vec<String> = ends.iter().map(|end| text(end, "tool_name")).collect();
    names.sort();
    // It is not known what a server does for an unknown method, so such methods are recorded.
    assert_eq!(names, ["echo", "noise", "notifications/odd"]);
    let ends: Vec<Json> = ends.into_iter().filter(|end| text(end, "session_metadata.mcp.method").is_empty()).collect();
    assert_eq!(text(&ends[0], "session_metadata.mcp.restated"), "true");
    assert_eq!(text(&ends[1], "session_metadata.mcp.unparsed_frames"), "2", "one each way");
}

#[test]
fn every_way_to_end_is_told_apart() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &["--user", "u", "--conversation", "c"]);
    for (id, tool) in (1..).zip(["fail", "wrong", "late", "forbidden"]) {
        host.call(id, tool, "{}");
    }
    host.say(request(9, "hold", "{}"));
    host.say("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":9,\"reason\":\"not needed\"}}\n");
    host.say(request(10, "hold", "{}"));
    host.say("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":10,\"reason\":\"McpError: Request timed out\"}}\n");
    host.say("{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{}}}\n");
    host.say(request(11, "hold", "{}"));
    host.say(request(12, "die", "{}"));
    assert_eq!(host.hear(), "");
    assert_eq!(host.end().0, 7, "the server's exit code");
    let got: Vec<(String, String)> = ends(&place).iter().map(|l| (text(l, "tool_name"), text(l, "outcome"))).collect();
    let expected = [
        ("fail", "tool_error"),
        ("wrong", "protocol_error"),
        ("late", "timeout"),
        ("forbidden", "denied"),
        ("hold", "abandoned"),
        ("hold", "timeout"),
        ("echo", "abandoned"),
        ("hold", "protocol_error"),
        ("die", "protocol_error"),
    ];
    let expected: Vec<_> = expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    assert_eq!(got, expected);
    assert_eq!(place.count(&["--unfinished"]), 0);
}

#[test]
fn parallel_calls_batches_and_continuations() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    host.say([request(1, "wait", "{\"n\":1}"), request(2, "wait", "{\"n\":2}"), request(3, "go", "{}")].concat());
    let ids: Vec<String> = (0..3).map(|_| text(&json(&host.hear()), "id")).collect();
    assert_eq!(ids, ["2", "1", "3"]);
    let batch = format!("[{},{}]\n", request(4, "echo", "{}").trim(), request(5, "fail", "{}").trim());
    assert_eq!(host.ask(batch).as_array().unwrap().len(), 2);
    let asked = host.call(6, "ask", r#"{"q":1}"#);
    assert_eq!(text(&asked, "result.requestState"), "s-1");
    host.ask(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"ask","arguments":{"q":1},"inputResponses":{"who":{"action":"accept"}},"requestState":"s-1"}}
"#);
    assert_eq!(host.end().0, 0);
    let ends = ends(&place);
    let got: Vec<String> = ends
        .iter()
        .map(|l| format!("{} {} {}", text(l, "call_id"), text(l, "tool_name"), text(l, "outcome")))
        .collect();
    let expected =
        ["2 wait ok", "1 wait ok", "3 go ok", "4 echo ok", "5 fail tool_error", "7 input_responses ok", "6 ask ok"];
    assert_eq!(got, expected);
    assert_eq!(text(&ends[6], "session_metadata.mcp.rounds"), "2", "one logical call");
    assert_eq!(text(&ends[5], "follow_up_of"), text(&ends[6], "begun_seq"));
    assert_eq!(lines(&place).len(), 13, "each begun and ended once, and what was answered between");
}

/// Until this test the server's name was looked for only in the answer to `initialize`, which the newest revision does not
/// have; and a task's handle was recorded as if it were the call's result.
#[test]
fn the_newest_revision_has_no_handshake_and_its_tasks_end_later() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"modern desk","version":"3"}}"#;
    let call = |id: u32, tool: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}",{meta}}}}}"#) + "\n"
    };
    let get = |id: u32| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tasks/get","params":{{"taskId":"t-1",{meta}}}}}"#) + "\n"
    };
    host.ask(call(1, "echo"));
    host.ask(call(2, "job"));
    assert_eq!(ends(&place).len(), 1, "a task is no result");
    host.ask(get(3));
    assert_eq!(ends(&place).len(), 1, "nor is that it is being worked on");
    host.ask(get(4));
    assert_eq!(host.end().0, 0);
    let ends = ends(&place);
    let got: Vec<String> = ends.iter().map(|l| format!("{} {}", text(l, "tool_name"), text(l, "outcome"))).collect();
    assert_eq!(got, ["echo ok", "job ok"]);
    for (path, value) in [
        ("agent_id", "modern desk"),
        ("session_metadata.mcp.protocol", "2026-07-28"),
        ("session_metadata.mcp.server.name", "modern fake"),
        ("session_metadata.mcp.client.version", "3"),
    ] {
        assert_eq!(text(&ends[0], path), value, "{path} in {}", ends[0].to_canonical());
    }
    assert_eq!(text(&ends[1], "tool_server"), "modern fake", "known from the first reply on");
}

#[test]
fn a_continuation_with_other_arguments_is_another_call() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    host.call(1, "ask", r#"{"path":"/tmp/a"}"#);
    host.ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"ask","arguments":{"path":"/"},"inputResponses":{},"requestState":"s-1"}}
"#);
    host.end();
    let got: Vec<String> =
        ends(&place).iter().map(|l| format!("{} {}", text(l, "arguments.path"), text(l, "outcome"))).collect();
    assert_eq!(got, ["/ ok", "/tmp/a abandoned"]);
}

#[test]
fn read_only_tools_are_recorded_once_before_the_reply() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &["--read-only", "ec*"]);
    host.call(1, "echo", "{}");
    host.call(2, "fail", "{}");
    host.end();
    let kinds: Vec<String> = lines(&place).iter().map(|l| text(l, "kind")).collect();
    assert_eq!(kinds, ["tool_call", "call_begun", "tool_call"]);
}

#[test]
fn what_cannot_be_recorded_is_not_called() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    // An id that is too long for an entry; and a frame that two parsers would read differently.
    let refused = host.call(1, &"t".repeat(100_000), "{}");
    assert!(text(&refused, "error.message").contains("could not be recorded"), "{refused:?}");
    assert_eq!(text(&refused, "id"), "1");
    let twice = host.ask(
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"method\":\"ping\",\"params\":{\"name\":\"echo\"}}\n",
    );
    assert!(text(&twice, "error.message").contains("not forwarded"));
    // Lines within a line: Python servers end a line at a carriage return, so they would read this as a call.
    for hidden in ["hello\r{}\n", "{\"method\":\"x\",\"params\":\r{}\r}\n", "\u{feff}{}\n"] {
        let refused = host.ask(hidden.replace("{}", request(7, "echo", "{}").trim()));
        assert!(text(&refused, "error.message").contains("not forwarded"), "{hidden:?}");
    }
    host.call(3, "echo", "{}");
    host.end();
    assert_eq!(std::fs::read_to_string(place.path("seen")).unwrap(), request(3, "echo", "{}"));
    let got: Vec<String> =
        ends(&place).iter().map(|l| format!("{} {}", text(l, "tool_name"), text(l, "outcome"))).collect();
    let unreadable = ["unreadable denied"; 4].as_slice();
    assert_eq!(got, [unreadable, &["echo ok"]].concat());
}

#[test]
fn fail_open_says_so_and_records_it() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &["--fail-open"]);
    host.call(1, &"t".repeat(100_000), "{}");
    host.call(2, "echo", "{}");
    let (_, said) = host.end();
    assert!(said.contains("LET THROUGH") && said.contains("NOT RECORDED"), "{said}");
    let ends = ends(&place);
    assert_eq!(text(&ends[0], "session_metadata.mcp.unrecorded_calls"), "1");
    // Without a store nothing is started, unless the operator asks for it.
    let empty = Place::empty();
    let ran = empty.run(&["mcp", "none", "--", "true"]).code(3);
    assert!(ran.err.contains("none"), "{}", ran.err);
}

/// The peak memory of a process, in MB.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Large frames took five times their size in memory, in either direction: the shortened form was made from complete
/// copies, and later secrets were masked in one.
#[test]
fn fifty_megabytes_go_through_and_leave_a_summary() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    let sent = request(1, "echo", &format!(r#"{{"path":"p","content":"{}"}}"#, "y".repeat(50 << 20)));
    host.say(&sent);
    assert!(host.hear().len() > 50 << 20);
    host.say(request(2, "large", "{}"));
    assert!(host.hear().len() > 50 << 20);
    #[cfg(target_os = "linux")]
    assert!(peak(host.child.id()) < 220, "{} MB", peak(host.child.id()));
    host.end();
    assert!(std::fs::read_to_string(place.path("seen")).unwrap().starts_with(&sent));
    let ends = ends(&place);
    assert_eq!(text(&ends[0], "arguments.path"), "p");
    assert!(text(&ends[0], "arguments.content").ends_with("[52428800 bytes in all]"));
    assert!(text(&ends[1], "session_metadata.mcp.reply_bytes").parse::<u64>().unwrap() > 50 << 20);
    assert!(std::fs::metadata(place.path("s")).unwrap().len() < 4 << 20);
}

#[test]
fn signals_and_exit_codes_are_the_server_s() {
    let place = Place::with_store();
    let mut host = Host::start(&place, &[]);
    host.call(1, "echo", "{}");
    host.say(request(2, "hold", "{}"));
    // The begun entry shows that the call has been sent to the server.
    while place.count(&["--unfinished"]) == 0 {}
    let kill = std::process::Command::new("kill").args(["-TERM", &host.child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    // The call's end comes before the host's: a server that both tell to end may notice either first.
    assert_eq!(host.hear(), "");
    assert_eq!(host.end().0, -15, "ended by the signal, as the server was");
    let last = ends(&place).pop().unwrap();
    assert_eq!((text(&last, "outcome"), text(&last, "error.type")), ("abandoned".to_owned(), "told_to_end".to_owned()));
    let place = Place::with_store();
    assert_eq!(place.run(&["mcp", "s", "--", "sh", "-c", "exit 42"]).code, 42);
    assert_eq!(place.run(&["mcp", "s", "--", "/no/such/program"]).code, 2);
}
