//! Replies whose meaning is ambiguous, and frames that cannot be parsed.

use super::common::{Place, json};
use super::mcp_common::{Host, call, ends, lines, request, text};

const RESULT: &str = r#""result":{"content":[{"type":"text","text":"chart of P-1"}]}"#;

fn outcomes(place: &Place) -> Vec<String> {
    ends(place).iter().map(|l| text(l, "outcome")).collect()
}

/// A server answered with a frame that was both a request and a reply. Some hosts took it for a request and went on
/// waiting, some ignored it; the log had a call that succeeded. Now the entry says what came, never `ok`, keeps what was
/// shown, and the answer that the host was still waiting for is recorded too [R44].
#[test]
fn a_reply_that_is_a_request_too_is_no_success() {
    let error = r#""error":{"code":1,"message":"no"}"#;
    for (kind, odd) in [
        ("a method and a result", format!(r#"{{"id":1,"method":"ping",{RESULT}}}"#)),
        ("a method and an error", format!(r#"{{"id":1,"method":"ping",{error}}}"#)),
        ("a result and an error", format!(r#"{{"id":1,{RESULT},{error}}}"#)),
        ("an error that folds", format!(r#"{{"id":1,{RESULT},"Error":{{"code":1}}}}"#)),
        ("in a batch", format!(r#"[{{"id":1,"method":"ping",{RESULT}}}]"#)),
    ] {
        for flags in [&[][..], &["--read-only", "t"]] {
            let place = Place::with_store();
            place.write("odd", format!("{odd}\n"));
            place.write("plain", format!("{{\"id\":1,{RESULT}}}\n"));
            let mut host = Host::sh(&place, flags, "read -r a; cat odd; read -r b; cat plain; cat > /dev/null");
            host.say(call("1", "t", r#"{"patient_id":"P-1"}"#));
            assert_eq!(host.hear(), odd, "{kind}");
            assert_eq!(outcomes(&place), ["protocol_error"], "{kind}");
            let end = &ends(&place)[0];
            assert!(!text(end, "session_metadata.mcp.odd_reply").is_empty(), "{kind}: {end:?}");
            assert_eq!(text(end, "result_summary").is_empty(), kind == "a method and an error", "{kind}");
            host.say(r#"{"method":"notifications/initialized"}"#);
            host.hear();
            host.end();
            assert_eq!(outcomes(&place), ["protocol_error", "ok"], "{kind}");
            let ends = ends(&place);
            assert_eq!(text(&ends[1], "follow_up_of"), text(&ends[0], "seq"), "{kind}");
            assert_eq!(text(&ends[1], "session_metadata.mcp.odd_reply"), "", "{kind}");
        }
    }
}

/// `isError` as `"false"` or `[]`, a kind of result that the protocol does not have, a result that is not an object: a host
/// in JavaScript takes the first for a failure, strict ones refuse all of it, and the log had calls that succeeded. What
/// most parsers take for a failure is one, under any spelling [R44].
#[test]
fn a_reply_that_some_host_reads_as_a_failure_is_no_success() {
    for (result, outcome) in [
        (r#"{"content":[],"isError":1}"#, "tool_error"),
        (r#"{"content":[],"isError":"true"}"#, "tool_error"),
        (r#"{"content":[],"IsError":true}"#, "tool_error"),
        (r#"{"content":[],"is_error":"True","isError":false}"#, "tool_error"),
        (r#"{"content":[],"isError":"false"}"#, "protocol_error"),
        (r#"{"content":[],"is_error":0}"#, "protocol_error"),
        (r#"{"content":[],"isError":[]}"#, "protocol_error"),
        (r#"{"content":[],"resultType":"failed"}"#, "protocol_error"),
        ("null", "protocol_error"),
        ("\"done\"", "protocol_error"),
        (r#"{"content":[],"isError":null}"#, "ok"),
        (r#"{"content":[],"is_error":false}"#, "ok"),
    ] {
        let place = Place::with_store();
        place.write("reply", format!("{{\"id\":1,\"result\":{result}}}\n"));
        let mut host = Host::sh(&place, &[], "read -r a; cat reply; cat > /dev/null");
        host.say(call("1", "t", "{}"));
        host.hear();
        host.end();
        assert_eq!(outcomes(&place), [outcome], "{result}");
        let odd = text(&ends(&place)[0], "session_metadata.mcp.odd_reply");
        assert_eq!(odd.is_empty(), outcome != "protocol_error", "{result}: {odd}");
    }
}

/// Some servers have all members in every reply, empty if unused: these are ordinary replies.
#[test]
fn a_reply_with_empty_members_is_a_reply() {
    let place = Place::with_store();
    place.write("reply", format!("{{\"id\":1,\"method\":null,{RESULT},\"error\":null,\"params\":null}}\n"));
    let mut host = Host::sh(&place, &[], "read -r a; cat reply; cat > /dev/null");
    host.say(call("1", "t", "{}"));
    host.hear();
    host.end();
    assert_eq!(outcomes(&place), ["ok"]);
    assert_eq!(text(&ends(&place)[0], "session_metadata.mcp.odd_reply"), "");
}

/// A reply that Python and JavaScript can parse, but the proxy cannot (`NaN`, 200 levels deep): the host had its answer,
/// and hours later the log said that there had been none with the call's id.
#[test]
fn a_reply_that_cannot_be_read_here_is_one() {
    let deep = format!(r#"{{"id":1,"result":{{"content":[],"a":{}1{}}}}}"#, "[".repeat(200), "]".repeat(200));
    for odd in [r#"{"id":1,"result":{"content":[],"a":NaN}}"#, &deep, "\u{feff}{\"id\":1,\"result\":{\"content\":[]}}"]
    {
        let place = Place::with_store();
        place.write("odd", format!("{odd}\n"));
        let mut host = Host::sh(&place, &[], "read -r a; cat odd; cat > /dev/null");
        host.say(call("1", "t", "{}"));
        assert_eq!(host.hear(), odd);
        let ends = ends(&place);
        assert_eq!(ends.len(), 1, "it is recorded before the host has it");
        assert_eq!(text(&ends[0], "error.type"), "unreadable_reply", "{odd}");
        host.end();
        assert_eq!(outcomes(&place), ["protocol_error"]);
    }
}

/// A frame that was refused for `NaN`, its depth, or a byte order mark was answered with `id: null`, and the host waited
/// forever for the answer to its own id.
#[test]
fn whoever_is_refused_is_answered_by_his_id() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > seen");
    let deep = format!(r#"{{"id":1,"b":{}{}}}"#, "{\"a\":".repeat(300), "1".to_owned() + &"}".repeat(300));
    let bodies = [r#"{"a":NaN}"#, r#"{"a":-Infinity}"#, &deep, "{\"a\":01}", "{\"a\":1,}"];
    for body in bodies {
        for (id, member) in [("7", "id"), ("\"seven\"", "id"), ("7", "\\u0069d")] {
            // Wherever the id is.
            for frame in [
                format!(
                    r#"{{"jsonrpc":"2.0","{member}":{id},"method":"tools/call","params":{{"name":"t","arguments":{body}}}}}"#
                ),
                format!(r#"{{"method":"tools/call","params":{{"id":5,"arguments":{body}}},"{member}" : {id} }}"#),
            ] {
                host.say(&frame);
                let refused = host.hear();
                assert_eq!(text(&json(&refused), "id"), id.trim_matches('"'), "{frame}: {refused}");
                assert!(refused.contains("send plain JSON"), "{refused}");
            }
        }
    }
    host.say(format!("\u{feff}{}", call("3", "t", "{}")));
    assert_eq!(text(&json(&host.hear()), "id"), "3");
    host.say(r#"[{"id":1,"method":"a","params":{"a":NaN}},{"method":"b"},{"id":"2","method":"c"}]"#);
    let both = json(&host.hear());
    let ids: Vec<String> = both.as_array().unwrap().iter().map(|one| text(one, "id")).collect();
    assert_eq!(ids, ["1", "2"]);
    // If the id cannot be determined, none is given.
    for odd in [r#"{"id":1,"id":2,"method":"x","params":{"a":NaN}}"#, r#"{"method":"x","params":{"a":NaN}}"#] {
        host.say(odd);
        assert_eq!(text(&json(&host.hear()), "id"), "null", "{odd}");
    }
    host.end();
    assert_eq!(std::fs::read_to_string(place.path("seen")).unwrap(), "");
}

/// The server got a person's answer, and the log had it only once the call had ended: a crash in between left a call that
/// had begun, and nothing about a million transferred [R45].
#[test]
fn what_a_call_is_continued_with_is_on_the_disk_before_the_server_has_it() {
    for flags in [&[][..], &["--read-only", "transfer"]] {
        let place = Place::with_store();
        place
            .write("asks", r#"{"id":1,"result":{"resultType":"input_required","requestState":"S"}}"#.to_owned() + "\n");
        let script = "read -r a; cat asks; read -r b; echo '{\"method\":\"got\"}'; cat > /dev/null";
        let mut host = Host::sh(&place, flags, script);
        host.say(call("1", "transfer", r#"{"to":"x"}"#));
        host.hear();
        host.say(request("2", "tools/call",
            r#"{"name":"transfer","arguments":{"to":"x"},"inputResponses":{"q":{"amount":98765432109876543210,"password":"hunter2"}},"requestState":"S"}"#));
        assert!(host.hear().contains("got"));
        // The proxy is gone with the server, as after a crash.
        host.child.kill().unwrap();
        host.child.wait().unwrap();
        let all = lines(&place);
        let begun = all.iter().find(|l| text(l, "kind") == "call_begun").unwrap();
        let given = all.iter().find(|l| text(l, "tool_name") == "input_responses").unwrap();
        assert_eq!(text(given, "arguments.q.amount"), "98765432109876543210");
        assert_eq!(text(given, "restated"), r#"["arguments.q.amount"]"#);
        assert_eq!(text(given, "arguments.q.password"), "[REDACTED:secret]");
        assert_eq!(text(given, "follow_up_of"), text(begun, "seq"));
        assert_eq!(text(given, "session_metadata.mcp.tool"), "transfer");
        assert_eq!(text(given, "call_id"), "2");
        place.run(&["verify", "s"]).ok();
    }
}

/// `del\u{200b}ete` was refused as a tool name; as the user in `_meta` it was recorded as `delete`, and nothing said that
/// the host had sent another name.
#[test]
fn a_name_with_what_nobody_sees_is_recorded_with_a_mark() {
    let place = Place::with_store();
    let mut host = Host::bare(&place, &["mcp", "s", "--", "sh", "-c", "cat > /dev/null"]);
    let ask = |id: &str, user: &str, conversation: &str| {
        let meta = format!(r#"{{"user_id":"{user}","conversation_id":"{conversation}"}}"#);
        request(id, "tools/call", &format!(r#"{{"name":"t","_meta":{meta}}}"#))
    };
    host.say(ask("1", "al\u{200b}ice", "c\u{2060}"));
    host.say(ask("2", "\u{430}lice", "c"));
    host.say(ask("3", "alice", "c"));
    host.end();
    let ends = ends(&place);
    assert_eq!((text(&ends[0], "user_id"), text(&ends[0], "conversation_id")), ("alice".to_owned(), "c".to_owned()));
    assert_eq!(text(&ends[0], "restated"), r#"["conversation_id","user_id"]"#);
    assert_eq!(text(&ends[1], "treated.keep.look_alike"), r#"["user_id"]"#);
    assert_eq!((text(&ends[2], "restated"), text(&ends[2], "treated")), (String::new(), String::new()));
    // The same mark for every way of recording.
    place.run_with(&["record", "s"], super::common::call("r", "b\u{200d}ob", "d\u{435}lete", "").as_bytes()).ok();
    let line = json(place.run(&["query", "s", "--json", "--conversation", "r", "--kind", "tool_call"]).ok().trim());
    assert_eq!(text(&line, "restated"), r#"["user_id"]"#);
    assert_eq!(text(&line, "treated.keep.look_alike"), r#"["tool_name"]"#);
}

/// A host used the id of an open call for a ping too. The ping's empty answer came first, and was recorded as the call's,
/// as a success; the call's own answer was only counted.
#[test]
fn an_id_that_two_requests_share_is_marked() {
    for second in [request("1", "ping", "{}"), call("\"1\"", "u", "{}")] {
        let place = Place::with_store();
        place.write("reply", "{\"id\":1,\"result\":{}}\n");
        let mut host = Host::sh(&place, &[], "read -r a; read -r b; cat reply; read -r c; cat > /dev/null");
        host.say(call("1", "t", "{}"));
        host.say(&second);
        host.hear();
        host.say(call("2", "t", "{}"));
        host.end();
        let marked: Vec<(String, String)> =
            ends(&place).iter().map(|l| (text(l, "call_id"), text(l, "session_metadata.mcp.shared_id"))).collect();
        for (id, mark) in marked {
            assert_eq!(mark, if id == "1" { "true" } else { "" }, "{second}");
        }
    }
}

/// A server closed its output and kept running. Without the proxy the host saw the end; with it, it waited.
#[test]
fn a_server_that_says_no_more_is_heard_to_end() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "read -r a; exec >&-; cat > /dev/null");
    host.say(call("1", "t", "{}"));
    assert_eq!(host.hear(), "", "the end of its output");
    host.end();
    assert_eq!(text(&ends(&place)[0], "outcome"), "protocol_error");
}

/// Whatever a server sends, the proxy survives, passes it on unchanged, and every call has one end.
#[test]
fn no_reply_is_too_odd() {
    let deep = "[".repeat(5000);
    let odd = [
        "[]",
        "[[]]",
        "[1,null,\"a\"]",
        "{}",
        "null",
        "\"x\"",
        "{\"id\":1}",
        "{\"id\":[1],\"result\":{}}",
        "{\"id\":{},\"error\":1}",
        "{\"id\":true,\"result\":{}}",
        "{\"id\":1e400,\"result\":{}}",
        "{\"id\":-0.0,\"result\":{}}",
        "{\"id\":1.5e0,\"result\":{}}",
        "{\"id\":123456789012345678901234567890,\"result\":{}}",
        "{\"result\":{}}",
        "{\"id\":null,\"error\":{\"code\":-32700}}",
        "[{\"id\":5,\"result\":{}},{\"id\":5,\"result\":{}}]",
        "{\"method\":\"notifications/progress\",\"id\":5}",
        "{\"method\":\"notifications/progress\",\"params\":[]}",
        "{\"method\":7,\"id\":6}",
        "{\"id\":6,\"result\":[{\"isError\":true}]}",
        "{\"id\":7,\"error\":{\"code\":{\"a\":1},\"message\":[]}}",
        "{\"id\":8,\"result\":{\"resultType\":\"input_required\"}}",
        "{\"id\":9,\"result\":{\"task\":{\"taskId\":null}}}",
        "{\"id\":10,\"result\":NaN}",
        "{\"id\":11,\"error\":\"\u{0}\"}",
        &deep,
    ];
    let place = Place::with_store();
    place.write("odd", odd.join("\n") + "\n{\"method\":\"last\"}\n");
    let mut host = Host::sh(
        &place,
        &["--read-only", "r*"],
        "while read -r l && [ \"$l\" != go ]; do :; done; cat odd; cat > /dev/null",
    );
    for id in 1..=12 {
        host.say(call(&id.to_string(), if id % 2 == 0 { "r" } else { "w" }, "{}"));
    }
    host.say(call("123456789012345678901234567890", "w", "{}"));
    host.say(call("1.5", "w", "{}"));
    host.say("go");
    // What cannot be read and is no reply that the log has is not passed on.
    let mut heard = Vec::new();
    while heard.last().is_none_or(|line: &String| !line.contains("last")) {
        heard.push(host.hear());
    }
    heard.pop();
    assert!(heard.pop().is_some_and(|told| told.contains("was not passed on")));
    let passed: Vec<&str> = odd.iter().map(|line| line.trim_end()).filter(|line| *line != deep).collect();
    assert_eq!(heard, passed);
    host.say(r#"{"method":"notifications/cancelled","params":{"requestId":12}}"#);
    host.end();
    let ends = ends(&place);
    // For two replies in one batch there are two entries, and for three that may be to call 1 three.
    assert_eq!(ends.len(), 17, "{:?}", outcomes(&place));
    let of = |id: &str| ends.iter().find(|l| text(l, "call_id") == id).map(|l| text(l, "outcome")).unwrap();
    assert_eq!(of("123456789012345678901234567890"), "ok");
    assert_eq!((of("1.5"), of("5"), of("6")), ("ok".to_owned(), "protocol_error".to_owned(), "tool_error".to_owned()));
    assert_eq!(
        (of("1"), of("10"), of("7")),
        ("protocol_error".to_owned(), "protocol_error".to_owned(), "protocol_error".to_owned())
    );
    assert_eq!(place.count(&["--unfinished"]), 0);
    place.run(&["verify", "s"]).ok();
}
