//! Replies of which hosts and the proxy may make different calls' replies.

use super::common::{Place, json};
use super::mcp_common::{Host, call, ends, lines, request, text};

const CHART: &str = r#""result":{"structuredContent":{"patient_id":"PX","dx":"HIV"}}"#;
const PATH: &[&str] = &["--patient-path", "result.structuredContent.patient_id"];
const READ_ONLY: &[&str] = &["--patient-path", "result.structuredContent.patient_id", "--read-only", "read"];

fn patients(place: &Place, id: &str) -> Vec<String> {
    let of = |line: &&attestlog::json::Json| text(line, "call_id") == id;
    ends(place).iter().filter(of).map(|line| text(line, "patient_ids")).collect()
}

/// Whether the accounting of disclosures for this patient lists a call.
fn is_accounted(place: &Place, patient: &str) -> bool {
    place.run(&["report", "access", "s", "--patient", patient]).ok().contains("Accesses   1 ")
}

/// A server answered call 1 with `"id":77,"id":1`. Python's host and JavaScript's took it for the reply to call 1 and had
/// the chart; the proxy read a list of two, which no call has as its id. The log said that there had been no reply, and the
/// report for the patient found nobody. The same with the id in another case (Go's reader), with one that only a double
/// holds, and with all that a host turns into the number 1 [R44].
#[test]
fn a_reply_that_some_host_takes_for_a_calls_is_that_calls() {
    let kinds = [
        format!(r#"{{"id":77,"id":1,{CHART}}}"#),
        format!(r#"{{"id":1,"id":1,{CHART}}}"#),
        format!(r#"{{"id":"zz",{CHART},"\u0069d":1}}"#),
        format!(r#"{{"id":1.0000000000000000001,{CHART}}}"#),
        format!(r#"{{"ID":1,{CHART}}}"#),
        format!(r#"{{"id":77,"Id":1,{CHART}}}"#),
        format!(r#"{{"id":null,"id":1,{CHART}}}"#),
        format!(r#"{{"id":true,{CHART}}}"#),
        format!(r#"{{"id":[1],{CHART}}}"#),
        format!(r#"{{"id":"0x1",{CHART}}}"#),
        format!(r#"{{"id":" 01 ",{CHART}}}"#),
        format!(r#"{{"id":4294967297,{CHART}}}"#),
        format!(r#"{{"ID":1,{}}}"#, CHART.replace("result", "Result")),
        format!(r#"{{"id":77,"id":1,"method":"ping",{}}}"#, CHART.replace("result", "RESULT")),
        format!(r#"{{"id":77,"id":1,"result":{{}},"Result":{}}}"#, CHART.split_once(':').unwrap().1),
        format!(r#"[{{"id":77,"id":1,{CHART}}}]"#),
        format!(r#"[{{"id":1}},{{"id":1.0000000000000000001,{CHART}}}]"#),
        format!(r#"[{{"id":1,"result":{{}}}},{{"ID":1,{CHART}}}]"#),
    ];
    for kind in kinds {
        for flags in [PATH, READ_ONLY] {
            let place = Place::with_store();
            place.write("odd", format!("{kind}\n"));
            place.write("plain", "{\"id\":1,\"result\":{}}\n");
            let mut host = Host::sh(&place, flags, "read -r a; cat odd; read -r b; cat plain; cat > /dev/null");
            host.say(call("1", "read", "{}"));
            assert_eq!(host.hear(), kind, "it is passed on as it is");
            // Before the host has it.
            assert!(patients(&place, "1").iter().any(|all| all.contains("PX")), "{kind}: {:?}", ends(&place));
            host.say(r#"{"method":"notifications/initialized"}"#);
            host.hear();
            host.end();
            let ends = ends(&place);
            for odd in ends.iter().filter(|end| text(end, "patient_ids").contains("PX")) {
                assert_eq!(text(odd, "outcome"), "protocol_error", "{kind}");
                assert!(!text(odd, "session_metadata.mcp.odd_reply").is_empty(), "{kind}");
            }
            // The answer that another host waits for.
            let last = ends.last().unwrap();
            assert_eq!(
                (text(last, "outcome"), text(last, "late_answer")),
                ("ok".to_owned(), "true".to_owned()),
                "{kind}"
            );
            assert!(is_accounted(&place, "PX"), "{kind}");
            place.run(&["verify", "s"]).ok();
        }
    }
}

/// With two calls open, hosts differ in which of them is answered by a reply with both ids: each has it. An id that nobody
/// takes for theirs is nobody's, as it was.
#[test]
fn a_reply_that_may_be_to_several_calls_is_to_each() {
    let place = Place::with_store();
    place.write("odd", format!("{{\"id\":8,\"result\":{{}}}}\n{{\"id\":2,\"id\":\"c\",\"ID\":1,{CHART}}}\n"));
    let mut host = Host::sh(&place, PATH, "read -r a; read -r b; read -r c; read -r d; cat odd; cat > /dev/null");
    for id in ["1", "2", "\"c\"", "4"] {
        host.say(call(id, "read", "{}"));
    }
    host.hear();
    host.hear();
    host.end();
    for id in ["1", "2", "c"] {
        assert_eq!(patients(&place, id), [r#"["PX"]"#], "{id}");
    }
    assert_eq!(patients(&place, "4"), [""]);
    let last = ends(&place).into_iter().find(|end| text(end, "call_id") == "4").unwrap();
    assert_eq!(text(&last, "outcome"), "abandoned");
    assert_eq!(text(&last, "session_metadata.mcp.unmatched_replies"), "1");
}

/// A reply that the proxy could not read (`NaN`, 200 levels, a mark or another message before it) named no patient in the
/// log, and with two ids not even the call. What some reader can read is searched; a frame of which nobody can say what a
/// host finds in it is not passed on, and the host has an error.
#[test]
fn an_unreadable_reply_is_searched_or_withheld() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let chart = |more: &str| CHART.replace("\"HIV\"", more);
    let line = |odd: String| {
        let place = Place::with_store();
        place.write("odd", format!("{odd}\n"));
        let mut host = Host::sh(&place, PATH, "read -r a; cat odd; cat > /dev/null");
        host.say(call("1", "read", "{}"));
        let heard = host.hear();
        let there = ends(&place);
        assert_eq!(there.len(), 1, "{odd}: {:?}", lines(&place));
        assert_eq!(text(&there[0], "error.type"), "unreadable_reply", "{odd}");
        assert_eq!(text(&there[0], "outcome"), "protocol_error", "{odd}");
        host.end();
        (heard, patients(&place, "1").concat())
    };
    for odd in [
        format!(r#"{{"id":1,{}}}"#, chart("NaN")),
        format!(r#"{{"id":77,"id":1,{}}}"#, chart("-Infinity")),
        format!(r#"{{"ID":1,{}}}"#, chart(&deep)),
        format!("\u{feff}{{\"id\":1,{CHART}}}"),
        format!(r#"{{}} {{"id":1,{CHART}}}"#),
        format!(r#"{{"id":1,"id":2,{}}}"#, chart("\"a\tb\"")),
        format!("{{\"method\":\"x\",\"params\":\r{{\"id\":1,{CHART}}}\r}}"),
        format!(r#"[{{"id":1,"result":{{"a":NaN}}}},{{"id":1,{CHART}}}]"#),
    ] {
        let (heard, patients) = line(odd.clone());
        assert_eq!((heard, patients.as_str()), (odd.clone(), r#"["PX"]"#), "{odd}");
    }
    for odd in [
        format!(r#"{{"id":77,"id":1,{CHART},}}"#),
        format!(r#"{{"id":1,{CHART}"#),
        format!("{{\"ID\":1,{CHART}}}{{"),
        format!("/* */ {{'a':1,\"id\":1,{CHART}}}"),
    ] {
        let (heard, _) = line(odd.clone());
        let heard = json(&heard);
        assert_eq!(text(&heard, "id"), "1", "{odd}");
        assert!(text(&heard, "error.message").contains("cannot be read"), "{odd}: {heard:?}");
    }
}

/// The other direction: a host's answer to a ping is not recorded, for it says nothing. A server that asked a person for
/// input under the id of its ping, or one spelt like it, had the person's answer with nothing in the log.
#[test]
fn an_answer_to_a_question_is_not_taken_for_one_to_a_ping() {
    let asks = r#""method":"elicitation/create","params":{"message":"amount?"}"#;
    for (ping, asks, answer) in [
        ("5", format!(r#"{{"id":5,{asks}}}"#), "5"),
        ("5", format!(r#"{{"id":"5",{asks}}}"#), "\"5\""),
        ("5", format!(r#"{{"id":6,"id":5,{asks}}}"#), "5"),
        ("5", format!(r#"{{"ID":5,{asks}}}"#), "5"),
        ("5", format!(r#"{{"id":5.0000000000000000001,{asks}}}"#), "5.0000000000000000001"),
        ("5", format!(r#"{{"id":5,{}}}"#, asks.replace("method", "method\":\"ping\",\"Method")), "5"),
    ] {
        let place = Place::with_store();
        place.write("asks", format!("{{\"id\":{ping},\"method\":\"ping\"}}\n{asks}\n"));
        let mut host = Host::sh(&place, &[], "read -r a; cat asks; cat > /dev/null");
        host.say(request("1", "ping", "{}"));
        host.hear();
        host.hear();
        host.say(format!(r#"{{"jsonrpc":"2.0","id":{answer},"result":{{"action":"accept","content":{{"n":7}}}}}}"#));
        host.say(format!(r#"{{"jsonrpc":"2.0","id":{ping},"result":{{}}}}"#));
        host.end();
        let given: Vec<String> = ends(&place).iter().map(|end| text(end, "arguments.content.n")).collect();
        assert_eq!(given, ["7"], "{asks}");
    }
}

/// A server answered with what strict hosts refuse (a batch, no `jsonrpc`), and then with the chart: the proxy had taken the
/// first for the answer, and only counted the second, which the host was waiting for.
#[test]
fn what_follows_a_reply_that_strict_hosts_refuse_is_recorded() {
    let plain = r#""jsonrpc":"2.0","id":1"#;
    for first in [
        format!(r#"[{{{plain},"result":{{}}}}]"#),
        r#"{"id":1,"result":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":"1","result":{}}"#.to_owned(),
        format!(r#"{{{plain},"result":{{"_meta":1}}}}"#),
        format!(r#"{{{plain},"error":"no"}}"#),
        format!("{{{plain}}}"),
    ] {
        let place = Place::with_store();
        place.write("both", format!("{first}\n{{{plain},{CHART}}}\n"));
        let mut host = Host::sh(&place, PATH, "read -r a; cat both; cat > /dev/null");
        host.say(call("1", "read", "{}"));
        assert_eq!(host.hear(), first);
        assert_eq!(host.hear(), format!("{{{plain},{CHART}}}"));
        host.end();
        assert_eq!(patients(&place, "1"), ["", r#"["PX"]"#], "{first}");
        let both = ends(&place);
        assert_eq!(text(&both[1], "follow_up_of"), text(&both[0], "seq"), "{first}");
        place.run(&["verify", "s"]).ok();
    }
}

/// A reply over several lines went to the host line by line, as what is no message did; a host that reads a stream of JSON had
/// it whole, and the log said that there had been no reply. So did one in a dialect of JSON (`{id:1,…}`). A line that cannot be read
/// and may be a part of a message reaches no host; other lines do, as they are [R44].
#[test]
fn no_host_gets_a_reply_in_pieces_or_in_a_dialect() {
    let kinds = [
        format!("{{\n\"id\":1,\n{CHART}\n}}"),
        format!("{{\"jsonrpc\":\"2.0\",{CHART},\"id\":\n1}}"),
        format!("{{\"jsonrpc\":\"2.0\",\n\"id\":1,{CHART}}}"),
        format!("{{\"id\":1,\n{CHART}}}"),
        format!("[\n{{\"id\":1,{CHART}}},\n]"),
        format!("{{'id':1,{CHART}}}"),
        format!("{{id:1,{CHART}}}"),
        format!("{{\"id\":1n,{CHART}}}"),
        format!("{{id:0x1,{}}}", CHART.replace('"', "'")),
        format!("/* {{ */ {{id:1,{CHART}}}"),
    ];
    for kind in kinds {
        for flags in [PATH, READ_ONLY] {
            let place = Place::with_store();
            place.write("odd", format!("INFO: starting\n{kind}\n"));
            place.write("plain", "{\"id\":1,\"result\":{}}\n");
            let mut host = Host::sh(&place, flags, "read -r a; cat odd; read -r b; cat plain; cat > /dev/null");
            host.say(call("1", "read", "{}"));
            host.say(r#"{"method":"notifications/initialized"}"#);
            assert_eq!(host.hear(), "INFO: starting", "what is no part of a message is passed on");
            let mut heard = String::new();
            while !heard.contains(r#""result":{}"#) {
                heard = host.hear();
                // An error in place of a reply, or the end of a message whose beginning nobody had.
                assert!(!heard.contains("PX") || !patients(&place, "1").is_empty(), "{kind}: {heard}");
                assert!(!heard.contains("HIV") || is_accounted(&place, "PX"), "{kind}: {heard}");
            }
            host.end();
            place.run(&["verify", "s"]).ok();
        }
    }
}
