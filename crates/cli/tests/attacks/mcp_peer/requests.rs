//! What a host sends besides a tool's name and arguments, and besides tool calls: a server may read all of it.

use super::common::{Place, json};
use super::mcp_common::{Host, call, ends, lines, request, text};

/// A server took its arguments from `input` instead of `arguments`, or from beside `params`, or from `_meta`, and the log
/// had a call with other arguments, or with none: neither refused nor recorded [R56].
#[test]
fn what_stands_beside_the_arguments_is_recorded() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &["--read-only", "view"], "cat > seen");
    for tool in ["pay", "view"] {
        host.say(format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","arguments":{{"to":"mallory"}},"params":{{"name":"{tool}","arguments":{{"sum":1}},"input":{{"sum":98765432109876543210,"password":"hunter2","patient_id":"P-9","a":1,"a":2}},"toolName":"drop","task":{{"ttl":1000}},"_meta":{{"user_id":"u","progressToken":5,"tenant":{{"sum":3}}}}}}}}"#
        ));
    }
    host.end();
    let all = lines(&place);
    assert_eq!(all.len(), 3, "{all:?}");
    for line in &all {
        let mcp = |path: &str| text(line, &format!("session_metadata.mcp.{path}"));
        assert_eq!(text(line, "arguments"), r#"{"sum":1}"#);
        assert_eq!(mcp("beside_arguments.toolName"), "drop");
        assert_eq!(mcp("beside_arguments.task.ttl"), "1000");
        assert_eq!(mcp("beside_arguments.input.sum"), "98765432109876543210");
        assert_eq!(mcp("beside_arguments.input.password"), "[REDACTED:secret]");
        assert_eq!(mcp("beside_arguments.input.a"), "[1,2]");
        assert_eq!(mcp("beside_params"), r#"{"arguments":{"to":"mallory"}}"#);
        assert_eq!(mcp("meta"), r#"{"tenant":{"sum":3}}"#, "what is recorded elsewhere is not said twice");
        assert_eq!(mcp("ambiguous_members"), r#"["session_metadata.mcp.beside_arguments.input.a"]"#);
        assert_eq!(text(line, "restated"), r#"["session_metadata.mcp.beside_arguments.input.sum"]"#);
        assert_eq!(text(line, "patient_ids"), r#"["P-9"]"#);
    }
    assert!(std::fs::read_to_string(place.path("seen")).unwrap().contains("mallory"), "it goes on all the same");
    place.run(&["verify", "s"]).ok();
}

/// Padding beside the arguments is shortened as it is inside them, and an ordinary call has nothing beside them.
#[test]
fn what_stands_beside_is_bounded_and_mostly_nothing() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > /dev/null");
    let padding = "y ".repeat(1 << 20);
    host.say(request("1", "tools/call", &format!(r#"{{"name":"t","sql":"DROP","padding":"{padding}"}}"#)));
    host.say(request("2", "tools/call", r#"{"name":"t","arguments":{},"_meta":{"progressToken":"p"}}"#));
    host.end();
    let ends = ends(&place);
    assert_eq!(text(&ends[0], "session_metadata.mcp.beside_arguments.sql"), "DROP");
    assert!(text(&ends[0], "session_metadata.mcp.beside_arguments.padding").ends_with("[2097152 bytes in all]"));
    assert!(text(&ends[0], "session_metadata.mcp.shortened").contains("beside_arguments.padding"));
    for note in ["beside_arguments", "beside_params", "meta", "ambiguous_members", "shortened"] {
        assert_eq!(text(&ends[1], &format!("session_metadata.mcp.{note}")), "", "{note}");
    }
}

/// A call that had asked for input was continued with a frame that had other members beside its arguments: the server read
/// them, and the log had only what the call began with.
#[test]
fn a_call_goes_on_with_nothing_else_beside_it() {
    let place = Place::with_store();
    place.write("asks", r#"{"id":1,"result":{"resultType":"input_required","requestState":"S"}}"#.to_owned() + "\n");
    let mut host = Host::sh(&place, &[], "read -r a; cat asks; cat > /dev/null");
    host.say(call("1", "pay", "{}"));
    host.hear();
    host.say(request("2", "tools/call", r#"{"name":"pay","arguments":{},"requestState":"S","input":{"sum":9}}"#));
    host.end();
    let ends = ends(&place);
    let other = ends.iter().find(|l| text(l, "call_id") == "2").unwrap();
    assert_eq!(text(other, "session_metadata.mcp.beside_arguments.input.sum"), "9");
    assert_eq!(text(other, "session_metadata.mcp.request_state"), "S");
}

/// A server executed `tools/execute`, or any other invented method, and listed charts by their patients: the proxy knew
/// five reading methods and let every other through unrecorded. Now every method is recorded unless it is one of the few
/// that are known to do nothing.
#[test]
fn a_method_that_nobody_knows_is_recorded_like_a_call() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > seen");
    for (id, method) in
        ["tools/execute", "resources/list", "subscriptions/listen", "ward/discharge"].into_iter().enumerate()
    {
        host.say(request(&id.to_string(), method, r#"{"patient_id":"P-1","password":"hunter2"}"#));
    }
    host.say(r#"{"method":"notifications/discharge","params":{"patient_id":"P-1"}}"#);
    for (id, quiet) in ["ping", "tools/list", "prompts/list", "logging/setLevel", "server/discover", "tasks/list"]
        .into_iter()
        .enumerate()
    {
        host.say(request(&(id + 10).to_string(), quiet, "{}"));
    }
    host.say(r#"{"method":"notifications/initialized"}"#);
    host.say(request("99", "ward/\u{200b}discharge", "{}"));
    let refused = json(host.end().trim());
    assert!(text(&refused, "error.message").contains("characters that nobody sees"), "{refused:?}");
    let begun: Vec<String> =
        lines(&place).iter().filter(|l| text(l, "kind") == "call_begun").map(|l| text(l, "tool_name")).collect();
    assert_eq!(begun, ["tools/execute", "resources/list", "subscriptions/listen", "ward/discharge"]);
    let ends: Vec<_> = ends(&place).into_iter().filter(|l| text(l, "tool_name") != "unreadable").collect();
    assert_eq!(ends.len(), 5, "{ends:?}");
    for end in &ends {
        assert_eq!(text(end, "patient_ids"), r#"["P-1"]"#);
        assert_eq!(text(end, "session_metadata.mcp.method"), text(end, "tool_name"));
        assert!(!end.to_canonical().as_str().contains("hunter2"));
    }
    assert_eq!(text(&ends[0], "tool_name"), "notifications/discharge", "at once, for it has no answer");
}

/// While a call ran, its server asked the user (`elicitation/create`) or the host's model (`sampling/createMessage`), and
/// continued with the answer; since 2026 that is recorded before the server has it, before that it was not recorded at all
/// [R45].
#[test]
fn what_a_host_answers_to_its_server_is_recorded_before_the_server_has_it() {
    let place = Place::with_store();
    let asks = r#"{"jsonrpc":"2.0","id":"e-1","method":"elicitation/create","params":{"message":"how much for P-1?"}}"#;
    place.write("asks", format!("{asks}\n"));
    place.write("ping", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n");
    let script =
        "read -r a; cat asks ping; read -r b; read -r c; read -r d; echo '{\"method\":\"got\"}'; cat > /dev/null";
    let mut host = Host::sh(&place, &[], script);
    host.say(call("1", "transfer", "{}"));
    assert_eq!(host.hear(), asks);
    host.hear();
    host.say(r#"{"jsonrpc":"2.0","id":"e-1","result":{"action":"accept","content":{"amount":98765432109876543210,"password":"hunter2","patient_id":"P-1"}}}"#);
    host.say(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    host.say(r#"{"jsonrpc":"2.0","id":8,"error":{"code":-1,"message":"unasked"}}"#);
    assert!(host.hear().contains("got"));
    // The proxy is gone with the server, as after a crash.
    host.child.kill().unwrap();
    host.child.wait().unwrap();
    let ends = ends(&place);
    let [given, unasked] = &ends[..] else { panic!("{ends:?}") };
    assert_eq!(text(given, "tool_name"), "input_responses");
    assert_eq!(text(given, "session_metadata.mcp.method"), "elicitation/create");
    assert_eq!(text(given, "session_metadata.mcp.asked.message"), "how much for P-1?");
    assert_eq!(text(given, "arguments.content.amount"), "98765432109876543210");
    assert_eq!(text(given, "restated"), r#"["arguments.content.amount"]"#);
    assert_eq!(text(given, "arguments.content.password"), "[REDACTED:secret]");
    assert_eq!((text(given, "call_id"), text(given, "patient_ids")), ("e-1".to_owned(), r#"["P-1"]"#.to_owned()));
    assert_eq!(text(unasked, "session_metadata.mcp.method"), "(nothing that was asked)");
    assert_eq!(text(unasked, "session_metadata.mcp.error_answer"), "true");
    assert_eq!(text(unasked, "arguments.message"), "unasked");
}
