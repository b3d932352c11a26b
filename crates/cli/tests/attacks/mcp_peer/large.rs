//! Calls and replies that are too large for an entry, or name more patients than one entry takes.

use super::common::{Place, json};
use super::mcp_common::{Host, call, ends, lines, request, text};

const SECRETS: [&str; 8] = [
    "Wilhelmina",
    "DROPMEplease",
    "Kv9xQ2mL7pRt",
    "Pv8xQ2mL7pRt",
    "Pw7xQ2mL7pRt",
    "SEALMEplease",
    "Xylophone",
    "PAT-77-XYZW",
];
const RECORD: &str = r#""first_name":"Wilhelmina Zzyx","internal":"DROPMEplease","kv":{"name":"password","value":"Kv9xQ2mL7pRt"},"pair":[["user","bob"],["password","Pv8xQ2mL7pRt"]],"password":"Pw7xQ2mL7pRt","secretnote":"SEALMEplease","street_address":"77 Xylophone Lane","patient_id":"PAT-77-XYZW""#;

/// Answers every call with the frame in the file `reply`, whose id is 1.
const REPLIES: &str = "while read -r line; do echo \"$line\" >> seen; cat reply; done";

fn numbers(count: usize) -> String {
    (0..count).map(|i| i.to_string()).collect::<Vec<_>>().join(",")
}

fn hidden(place: &Place) {
    place.write(
        "p.toml",
        "[redaction]\npreset = \"hipaa\"\n[redaction.fields]\nsecretnote = \"seal\"\n\"arguments.internal\" = \"drop\"\n\"result.structuredContent.internal\" = \"drop\"\n[results]\nkeep_full = 100000\n",
    );
    place.run(&["policy", "set", "s", "p.toml"]).ok();
}

/// Arguments over 1 MiB became one text of 64 KiB, cut from the JSON before anything was treated: values that the policy
/// drops, seals, masks or writes as a pseudonym were in the log in clear, because rules for members do not apply within a
/// text. The same happened to an argument that was a long JSON text, and to results that are kept whole.
#[test]
fn padding_gives_nothing_away_that_the_policy_hides() {
    let pad = "lorem ipsum ".repeat(180_000);
    let inner = format!("{{{RECORD},\"z\":\"{pad}\"}}").replace('"', "\\\"");
    let many = numbers(200_000);
    for arguments in [
        format!("{{{RECORD},\"zz\":[{many}]}}"),
        format!("{{\"aa\":[{many}],{RECORD}}}"),
        format!("{{{RECORD},\"pad\":\"{pad}\"}}"),
        format!("{{\"rows\":[{}]}}", vec![format!("{{{RECORD},\"z\":\"{}\"}}", &pad[..2_000]); 700].join(",")),
        format!("{{\"j\":\"{inner}\"}}"),
        format!("{{\"secretnote\":\"SEALMEplease {pad}\",\"internal\":\"DROPMEplease {pad}\"}}"),
    ] {
        let place = Place::with_store();
        hidden(&place);
        place.write("reply", format!("{{\"id\":1,\"result\":{{\"content\":[],\"structuredContent\":{arguments}}}}}\n"));
        let mut host = Host::sh(&place, &[], REPLIES);
        host.say(call("1", "get", &arguments));
        host.hear();
        host.end();
        let file = std::fs::read(place.path("s")).unwrap();
        let end = &ends(&place)[0];
        let said = format!("{:?}", lines(&place));
        for secret in SECRETS {
            // In a list of records `internal` is not where the policy's rule expects it.
            let ruled = secret != "DROPMEplease" || !arguments.starts_with("{\"rows");
            let inside = secret != "DROPMEplease" || !arguments.starts_with("{\"j");
            if ruled && inside {
                assert!(!said.contains(secret), "{secret} of {}", &arguments[..40]);
                let found = file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
                assert!(!found, "{secret} of {} in the file", &arguments[..40]);
            }
        }
        assert!(!text(end, "session_metadata.mcp.shortened").is_empty());
    }
}

/// The number of a card that lay across the cut kept its first digits, which no detector recognises.
#[test]
fn a_cut_leaves_no_half_of_a_card() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > /dev/null");
    let pad = "lorem ipsum ".repeat(180_000);
    host.say(call("1", "note", &format!(r#"{{"t":"{} 4111 1111 1111 1111 {pad}"}}"#, "x ".repeat(505))));
    host.end();
    let kept = text(&ends(&place)[0], "arguments.t");
    assert!(kept.starts_with("x x x") && kept.ends_with(" bytes in all]") && !kept.contains("4111"), "{kept}");
}

/// A list of zeros before it displaced the command from the log.
#[test]
fn short_members_stay_whole_beside_long_lists() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > /dev/null");
    let zeros = ["0"; 600_000].join(",");
    host.say(call("1", "run", &format!(r#"{{"a":[{zeros}],"command":"rm -rf /home","to":"mallory"}}"#)));
    let names: String = (0..100_000).map(|i| format!(r#""k{i:06}":1,"#)).collect();
    host.say(call("2", "run", &format!(r#"{{{names}"command":"rm -rf /home"}}"#)));
    host.end();
    for end in ends(&place) {
        assert_eq!(text(&end, "arguments.command"), "rm -rf /home");
        let marks = text(&end, "session_metadata.mcp.shortened");
        assert!(marks.contains("left_out") && marks.contains("digest") && !marks.contains("sha256"), "{marks}");
    }
    assert_eq!(text(&ends(&place)[0], "arguments.to"), "mallory");
}

/// A failure in a large frame of small values was recorded as a success, because `isError` was no longer seen.
#[test]
fn a_large_failure_is_a_failure() {
    let names: String = (0..40_000).map(|i| format!(r#""x{i}":"{}","#, "y".repeat(30))).collect();
    for result in [
        format!(r#"{{"isError":true,"structuredContent":{{{names}"z":1}},"content":[]}}"#),
        format!(r#"{{"isError":true,"structuredContent":{{"l":[{}]}},"content":[]}}"#, numbers(200_000)),
        format!(
            r#"{{"content":[{}{{"type":"text","text":"x"}}],"isError":true}}"#,
            r#"{"type":"text","text":"row"},"#.repeat(60_000)
        ),
    ] {
        let place = Place::with_store();
        place.write("reply", format!("{{\"id\":1,\"result\":{result}}}\n"));
        let mut host = Host::sh(&place, &[], REPLIES);
        host.say(call("1", "get", "{}"));
        host.hear();
        host.end();
        assert_eq!(text(&ends(&place)[0], "outcome"), "tool_error", "{}", &result[..40]);
    }
}

fn patients(from: usize, count: usize) -> String {
    (from..from + count).map(|i| format!(r#"{{"id":"P{i:06}"}}"#)).collect::<Vec<_>>().join(",")
}

/// A reply that named more than 10,000 patients, or one with an id of 70,000 bytes, was recorded without any patient: with
/// class `general`, not found under any patient, and a proof said that exactly 0 entries have the patient. [R79]
#[test]
fn no_patient_of_a_large_reply_is_left_out() {
    let path = ["--patient-path", "result.structuredContent.patients[*].id"];
    for (flags, policy) in
        [(&path[..], ""), (&[], "[[patients]]\ntool = \"*\"\npaths = [\"result.structuredContent.patients[*].id\"]\n")]
    {
        let place = Place::with_store();
        if !policy.is_empty() {
            place.write("p.toml", policy);
            place.run(&["policy", "set", "s", "p.toml"]).ok();
        }
        let all = patients(0, 20_500);
        place.write(
            "reply",
            format!("{{\"id\":1,\"result\":{{\"content\":[],\"structuredContent\":{{\"patients\":[{all}]}}}}}}\n"),
        );
        let mut host = Host::sh(&place, flags, REPLIES);
        host.say(call("1", "dump", "{}"));
        assert!(host.hear().contains("P020499"));
        host.end();
        for patient in ["P000005", "P012345", "P020499"] {
            // What was kept of the reply may name one again.
            let found = place.count(&["--patient", patient]);
            assert!(found == 1 || found == 2 && !policy.is_empty(), "{patient}: {found}");
        }
        let ends = ends(&place);
        assert_eq!(ends.len(), 3);
        for end in &ends {
            assert_eq!(
                (text(end, "retention_class"), text(end, "outcome")),
                ("healthcare".to_owned(), "ok".to_owned())
            );
        }
        assert_eq!(text(&ends[1], "follow_up_of"), text(&ends[0], "seq"));
        assert_eq!(text(&ends[2], "session_metadata.mcp.further_patients"), "true");
        let stats = place.run(&["stats", "s", "--tool", "dump", "--json"]).ok();
        assert_eq!(text(&json(&stats), "total_calls"), "1", "they are one call: {stats}");
        place.run(&["verify", "s"]).ok();
    }
}

/// One id that is too long kept all others out. Now only that id is left out, and the entry says so.
#[test]
fn one_id_that_is_none_leaves_no_other_out() {
    let place = Place::with_store();
    let long = "x".repeat(70_000);
    place.write(
        "reply",
        format!("{{\"id\":1,\"result\":{{\"content\":[],\"structuredContent\":{{\"patients\":[{{\"id\":\"P-1\"}},{{\"id\":\"{long}\"}}]}}}}}}\n"),
    );
    let mut host = Host::sh(&place, &["--patient-path", "result.structuredContent.patients[*].id"], REPLIES);
    host.say(call("1", "dump", "{}"));
    host.hear();
    host.end();
    let end = &ends(&place)[0];
    assert_eq!(place.count(&["--patient", "P-1"]), 1);
    assert!(text(end, "patient_ids").contains("[70000 bytes, SHA-256 "), "{}", text(end, "patient_ids"));
    assert_eq!(text(end, "session_metadata.mcp.long_patient_ids"), "1");
    assert_eq!(text(end, "retention_class"), "healthcare");
}

/// For a tool declared read-only such a call was first made and then could not be recorded.
#[test]
fn a_call_for_too_many_patients_is_not_made() {
    let ids = |count: usize| (0..count).map(|i| format!("\"P{i}\"")).collect::<Vec<_>>().join(",");
    for flags in [&[][..], &["--read-only", "*"]] {
        let place = Place::with_store();
        place.write("reply", "{\"id\":1,\"result\":{\"content\":[]}}\n");
        let mut host = Host::sh(&place, flags, REPLIES);
        for patients in [format!("[{}]", ids(10_001)), format!("[\"P-1\",\"{}\"]", "x".repeat(70_000))] {
            host.say(call("1", "get", &format!("{{\"patient_id\":{patients}}}")));
            let answer = host.hear();
            assert!(answer.contains("the call was not made"), "{answer}");
        }
        host.say(call("1", "get", &format!("{{\"patient_id\":[{}]}}", ids(10_000))));
        host.hear();
        host.end();
        assert_eq!(std::fs::read_to_string(place.path("seen")).unwrap().lines().count(), 1);
        assert_eq!(text(&ends(&place)[0], "outcome"), "ok");
    }
}

/// `_meta` gave the user as a number, a list or an empty text before another name, and the call was recorded under the
/// login name; names with NUL or half a surrogate pair became one name.
#[test]
fn nobody_calls_under_a_name_that_is_not_his() {
    let place = Place::with_store();
    let mut host = Host::bare(&place, &["mcp", "s", "--", "sh", "-c", "cat > seen"]);
    let with = |meta: &str| request("1", "tools/call", &format!(r#"{{"name":"t","arguments":{{}},"_meta":{meta}}}"#));
    for meta in [
        r#"{"attestlog/user":["mallory"]}"#,
        r#"{"user_id":"","userId":{"id":"mallory"}}"#,
        r#"{"attestlog/conversation":true}"#,
        r#"{"attestlog/user":"a\u0000b"}"#,
        r#"{"attestlog/user":"\ud800x"}"#,
        r#"{"attestlog/user":"\udfffx"}"#,
    ] {
        host.say(with(meta));
        let answer = host.hear();
        assert!(answer.contains("\"error\""), "{meta}: {answer}");
    }
    for meta in [r#"{"attestlog/user":4711,"attestlog/conversation":7}"#, r#"{"user_id":"","userId":"mallory"}"#] {
        host.say(with(meta));
    }
    host.end();
    assert_eq!(std::fs::read_to_string(place.path("seen")).unwrap().lines().count(), 2);
    let ends: Vec<_> = ends(&place).into_iter().filter(|end| text(end, "tool_name") == "t").collect();
    let who: Vec<String> = ends.iter().map(|end| text(end, "user_id")).collect();
    assert_eq!(who, ["4711", "mallory"]);
    assert_eq!(text(&ends[0], "conversation_id"), "7");
    assert_eq!(text(&ends[1], "session_metadata.mcp.meta.user_id"), "", "said as it stood");
}

/// A request with the id null was executed and answered, and the log had a notification, which nobody answers.
#[test]
fn a_request_without_an_id_of_its_own_is_refused() {
    let place = Place::with_store();
    let mut host = Host::sh(&place, &[], "cat > seen");
    host.say(request("null", "tools/call", r#"{"name":"t","arguments":{}}"#));
    let answer = host.hear();
    assert!(answer.contains("the id null") && answer.contains("\"id\":null"), "{answer}");
    host.end();
    assert_eq!(std::fs::read_to_string(place.path("seen")).unwrap(), "");
    assert_eq!(text(&ends(&place)[0], "outcome"), "denied");
}
