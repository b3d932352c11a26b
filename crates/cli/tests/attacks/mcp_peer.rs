//! An MCP server or host that sends what the proxy does not expect.
#![cfg(unix)]

mod large;
mod replies;
mod requests;
mod whose;

use super::common;
use super::mcp_common::{self, Host, call, ends, lines, text};
use common::{Place, json};

const PLAIN: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"drop","arguments":{"a":1}}}"#;

/// A server whose parser folds case, or detects the encoding itself, or takes the first of two members where another takes
/// the last, found calls in frames in which the proxy saw none, or another one: `"Method"`, `"param\u{17f}"`, `"NAME"`,
/// UTF-16, UTF-32, repeated members. The calls ran, and the log had nothing or something else.
#[test]
fn no_frame_is_one_call_for_the_proxy_and_another_for_the_server() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > seen");
    let changed = |from: &str, to: &str| PLAIN.replacen(from, to, 1).into_bytes();
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let frames = [
        changed("\"method\"", "\"Method\""),
        changed("\"method\"", "\"method\":\"ping\",\"METHOD\""),
        changed("\"method\"", "\"method\":\"ping\",\"method\""),
        changed("\"params\"", "\"param\u{17f}\""),
        changed("\"params\"", "\"params\":{\"name\":\"harmless\"},\"Params\""),
        changed("\"name\"", "\"name\":\"harmless\",\"NAME\""),
        changed("\"name\"", "\"name\":\"harmless\",\"name\""),
        changed("\"arguments\"", "\"arguments\":{},\"Arguments\""),
        changed("tools/call", "tools/call\\u0000"),
        changed("\"drop\"", "[\"drop\"]"),
        [b"\xff\xfe".as_slice(), &wide(PLAIN)].concat(),
        wide(PLAIN),
        PLAIN.bytes().flat_map(|b| [b, 0, 0, 0]).collect(),
        PLAIN.bytes().flat_map(|b| [0, 0, 0, b]).collect(),
        [PLAIN.as_bytes(), b"\xc0\x80"].concat(),
        format!("[[{PLAIN}]]").into_bytes(),
    ];
    for frame in &frames {
        host.say(frame);
        let refused = json(&host.hear());
        assert!(text(&refused, "error.message").contains("not forwarded"), "{refused:?}");
    }
    // A frame that is ambiguous only within the arguments is passed on, and the log has all of it.
    host.say(changed("{\"a\":1}", "{\"a\":1,\"a\":2,\"A\":3}"));
    host.end();
    let seen = std::fs::read(place.path("seen")).unwrap();
    assert_eq!(String::from_utf8(seen).unwrap().lines().filter(|l| l.contains("drop")).count(), 1);
    let ends = ends(&place);
    let refused =
        ends.iter().filter(|l| text(l, "tool_name") == "unreadable" && text(l, "outcome") == "denied").count();
    assert_eq!((refused, ends.len()), (frames.len(), frames.len() + 1), "each leaves a trace");
    let last = ends.last().unwrap();
    assert_eq!(text(last, "arguments"), r#"{"A":3,"a":[1,2]}"#);
    assert_eq!(text(last, "session_metadata.mcp.ambiguous_members"), r#"["arguments.a","arguments.a"]"#);
}

/// In a frame over 1 MiB every text over 1 KiB was replaced by its length: with a megabyte of padding in an argument that
/// no server looks at, nothing of the executed statement was recorded.
#[test]
fn padding_hides_no_statement() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > /dev/null");
    let sql = format!("DELETE FROM charts WHERE note = '{}'", "x ".repeat(1000));
    host.say(call("1", "query", &format!(r#"{{"sql":"{sql}","padding":"{}"}}"#, "y ".repeat(1 << 20))));
    // The frame is large here, the arguments are not.
    let around = format!(r#"{{"name":"query","arguments":{{"sql":"{sql}"}},"more":"{}"}}"#, "z".repeat(1 << 20));
    host.say(mcp_common::request("2", "tools/call", &around));
    host.end();
    let ends = ends(&place);
    for end in &ends {
        assert_eq!(text(end, "arguments.sql"), sql);
    }
    let padding = text(&ends[0], "arguments.padding");
    assert!(padding.starts_with("y y y") && padding.ends_with("[2097152 bytes in all]"), "{padding}");
    let marks = ends[0].get("session_metadata").unwrap().get("mcp").unwrap().get("shortened").unwrap();
    let marks = marks.as_array().unwrap();
    assert_eq!(text(&marks[1], "path"), "arguments.padding");
    assert_eq!(text(&marks[1], "bytes"), "2097152");
    assert!(text(&marks[1], "digest").len() > 64 && marks[1].get("sha256").is_none(), "a keyed one: {:?}", marks[1]);
    let marks = ends[1].get("session_metadata").unwrap().get("mcp").unwrap().get("shortened").unwrap();
    let places: Vec<String> = marks.as_array().unwrap().iter().map(|mark| text(mark, "path")).collect();
    assert_eq!(places, ["beside_arguments", "beside_arguments.more"], "the arguments are whole");
}

/// A call of a tool declared read-only is recorded when its reply comes. If a server answered oddly, its reply reached the
/// host with nothing in the log: for eight of twelve kinds. A host that accepts such a reply has the data; the log must
/// have the call.
#[test]
fn no_odd_reply_of_a_read_only_tool_goes_before_its_call_is_recorded() {
    let result = r#""result":{"content":[{"type":"text","text":"chart"}]}"#;
    let error = r#""error":{"code":1,"message":"no"}"#;
    let kinds = [
        ("the id as a text", format!(r#"{{"id":"1",{result}}}"#)),
        ("the id as a fraction", format!(r#"{{"id":1.5,{result}}}"#)),
        ("another id", format!(r#"{{"id":0,{result}}}"#)),
        ("no id", format!("{{{result}}}")),
        ("null for the id", format!(r#"{{"id":null,{result}}}"#)),
        ("a batch", format!(r#"[{{"id":1,{result}}}]"#)),
        ("a batch with another id", format!(r#"[{{"id":9,{result}}}]"#)),
        ("result and error", format!(r#"{{"id":1,{result},{error}}}"#)),
        ("neither", r#"{"id":1}"#.to_owned()),
        ("a method too", format!(r#"{{"id":1,"method":"x",{result}}}"#)),
        ("two ids", format!(r#"{{"id":9,"id":1,{result}}}"#)),
        ("other case", r#"{"ID":1,"Result":{"content":[]}}"#.to_owned()),
        ("a byte order mark", format!("\u{feff}{{\"id\":1,{result}}}")),
        ("no JSON", "chart".to_owned()),
        ("a task", r#"{"id":1,"result":{"task":{"taskId":"chart"}}}"#.to_owned()),
        ("a question", r#"{"id":1,"result":{"resultType":"input_required","requestState":"chart"}}"#.to_owned()),
    ];
    for (kind, reply) in kinds {
        let place = Place::with_store();
        place.write("reply", format!("{reply}\n"));
        let mut host = Host::sh(&place, &["--read-only", "read"], "read -r line; cat reply; cat > /dev/null");
        host.say(call("1", "read", r#"{"patient_id":"P-1"}"#));
        assert_eq!(host.hear(), reply, "{kind}");
        // The host has the reply, so the call must be recorded.
        let there = lines(&place);
        assert!(there.iter().any(|l| text(l, "tool_name") == "read"), "{kind}: {there:?}");
        host.end();
        let ends = ends(&place);
        assert_eq!(ends.len(), 1, "{kind}");
        assert_eq!(place.count(&["--unfinished"]), 0, "{kind}");
    }
}

/// A call that had asked for input was continued for another user, with answers that the log did not have.
#[test]
fn what_a_call_goes_on_with_is_recorded_and_for_nobody_else() {
    let asks = r#"{"id":1,"result":{"resultType":"input_required","requestState":"S"}}"#;
    let done = r#"{"id":2,"result":{"content":[]},"error":null}"#;
    for who in ["u", "mallory"] {
        let place = Place::with_store();
        place.write("asks", format!("{asks}\n"));
        place.write("done", format!("{done}\n"));
        let script = "read -r a; cat asks; read -r b; cat done; cat > /dev/null";
        let args = ["mcp", "s", "--", "sh", "-c", script];
        let ask = |id: u32, user: &str, rest: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"transfer","arguments":{{"a":1}},"_meta":{{"user_id":"{user}"}}{rest}}}}}"#
            )
        };
        let mut host = Host::bare(&place, &args);
        host.say(ask(1, "u", ""));
        host.hear();
        host.say(ask(2, who, r#","inputResponses":{"q":{"amount":1000000}},"requestState":"S""#));
        host.hear();
        host.end();
        let ends = ends(&place);
        let done = ends.iter().find(|l| text(l, "tool_name") == "transfer" && text(l, "outcome") == "ok").unwrap();
        assert_eq!(text(done, "user_id"), who);
        // The answers are an entry of the same call; another user's continuation is another call.
        let given = ends.iter().find(|l| text(l, "tool_name") == "input_responses");
        let said = given.map_or_else(|| text(done, "session_metadata.mcp.input_responses"), |l| text(l, "arguments"));
        assert!(said.contains("1000000"), "{said}");
        assert_eq!((given.is_some(), ends.len()), (who == "u", 2));
    }
}

/// A frame that was let through unread was recorded as denied, though the server had executed it.
#[test]
fn what_is_let_through_unread_is_not_denied() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &["--fail-open"], "cat > /dev/null");
    host.say(PLAIN.replacen("\"method\"", "\"Method\"", 1));
    host.end();
    let ends = ends(&place);
    assert_eq!(text(&ends[0], "outcome"), "abandoned");
    assert!(text(&ends[0], "error.message").contains("passed on unread"), "{ends:?}");
}

/// If a flag occurred twice in a reply neither counted, and the call was recorded as a success without a mark.
#[test]
fn a_reply_that_says_two_things_has_failed() {
    let place = Place::with_store();
    let reply = r#"{"id":7,"result":{"isError":false,"isError":true,"content":[]}}"#;
    place.write("reply", format!("{reply}\n"));
    let mut host = Host::sh(&place, &[], "read -r line; cat reply; cat > /dev/null");
    host.say(PLAIN);
    assert_eq!(host.hear(), reply);
    host.end();
    let ends = ends(&place);
    assert_eq!(text(&ends[0], "outcome"), "tool_error");
    assert_eq!(text(&ends[0], "session_metadata.mcp.ambiguous_members"), r#"["result.isError"]"#);
}
