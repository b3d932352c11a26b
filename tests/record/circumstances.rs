//! What surrounds a call: it is in the line as it was given, in one form, and only this program's parts say who told of a call.

use crate::store_common::*;
use attestlog::entry::{Approval, Decision, Digests, Peer, Source, SourceKind};
use attestlog::json::Json;
use attestlog::{AuditLog, Entry, ErrorKind, Facet, Hash, Kind, Query, ToolCall};

fn digest(of: &str) -> Hash {
    Hash::of(of.as_bytes())
}

/// A call with everything that can surround one.
pub(crate) fn full() -> ToolCall {
    let approval = Approval {
        by: Some("dr_boss".to_owned()),
        source: Some("mode".to_owned()),
        asked_at: Some(time("2025-03-01T11:59:58Z")),
        answered_at: Some(time("2025-03-01T11:59:59.5Z")),
        ..Approval::new(Decision::Allowed)
    };
    let digests = Digests {
        tool_definition: Some(digest("tool")),
        policy: Some(digest("policy")),
        instructions: Some(digest("instructions")),
    };
    let hook = Source {
        program: Some("claude-code".to_owned()),
        version: Some("2.1".to_owned()),
        ..Source::new(SourceKind::Hook)
    };
    let proxy = Source { added: vec!["trace_id".to_owned(), "model".to_owned()], ..Source::new(SourceKind::Proxy) };
    let mut call = ToolCall::new("c", "u", "Edit")
        .trace("4BF92F3577B34DA6A3CE929D0E0E4736", Some("00F067AA0BA902B7"))
        .prompt("prompt-1")
        .parent("agent-0", Some("call_0"))
        .approval(approval)
        .digests(digests)
        .resource("url", "https://example.org/b")
        .resource("file", "/etc/hosts")
        .resource("file", " /etc/hosts ")
        .source(hook)
        .source(proxy);
    let program = Some("/usr/bin/node".to_owned());
    call.circumstances.peer = Some(Peer { uid: 1000, gid: 100, pid: 4711, started: Some(time(START)), program });
    call
}

/// The members that surround a call, as its line has them.
fn around(entry: &Entry) -> Json {
    let line = Json::parse(entry.line().as_bytes()).unwrap().value;
    let names = [
        "approval",
        "contradicts",
        "detail_of",
        "digests",
        "parent_agent_id",
        "parent_call_id",
        "peer",
        "prompt_id",
        "resources",
        "sources",
        "span_id",
        "trace_id",
    ];
    names
        .into_iter()
        .filter_map(|name| Some((name, line.get(name)?.clone())))
        .collect::<attestlog::json::Object>()
        .into()
}

#[test]
fn what_surrounds_a_call_is_in_its_line_and_in_the_file() {
    let (log, disk, clock) = store(1);
    let seq = log.record(full()).unwrap().seq;
    let begun = log.begin(full()).unwrap();
    let begun_seq = begun.receipt().seq;
    begun.finish(|call| call.result(true)).unwrap();
    let expected = format!(
        concat!(
            r#"{{"approval":{{"answered_at":"2025-03-01T11:59:59.500Z","asked_at":"2025-03-01T11:59:58Z","by":"dr_boss","#,
            r#""decision":"allowed","source":"mode"}},"#,
            r#""digests":{{"instructions":"sha256:{}","policy":"sha256:{}","tool_definition":"sha256:{}"}},"#,
            r#""parent_agent_id":"agent-0","parent_call_id":"call_0","#,
            r#""peer":{{"gid":100,"pid":4711,"program":"/usr/bin/node","started":"{}","uid":1000}},"#,
            r#""prompt_id":"prompt-1","resources":[{{"kind":"file","name":"/etc/hosts"}},"#,
            r#"{{"kind":"url","name":"https://example.org/b"}}],"#,
            r#""sources":[{{"program":"claude-code","source":"hook","version":"2.1"}},"#,
            r#"{{"added":["model","trace_id"],"source":"proxy"}}],"#,
            r#""span_id":"00f067aa0ba902b7","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}}"#
        ),
        digest("instructions"),
        digest("policy"),
        digest("tool"),
        START
    );
    let told = log.record(full().detail_of(seq).contradicts(["model", "duration_ms", "model"])).unwrap().seq;
    for flushed in [false, true] {
        if flushed {
            log.flush_index().unwrap();
        }
        for seq in [seq, begun_seq, begun_seq + 1] {
            let entry = log.entry(seq).unwrap();
            assert_eq!(around(&entry).to_canonical().as_str(), expected);
            assert_eq!(Entry::from_line(&entry.line()).unwrap(), entry);
        }
        let entry = log.entry(told).unwrap();
        let line = around(&entry);
        assert_eq!(entry.kind(), Kind::CallDetail);
        assert_eq!(line.get("contradicts").unwrap().to_canonical().as_str(), r#"["duration_ms","model"]"#);
        assert_eq!(line.get("detail_of").unwrap().as_u64(), Some(seq));
        for (facet, value) in [
            (Facet::Resource, "/etc/hosts"),
            (Facet::Resource, "https://example.org/b"),
            (Facet::Trace, "4bf92f3577b34da6a3ce929d0e0e4736"),
            (Facet::Trace, "4BF92F3577B34DA6A3CE929D0E0E4736"),
            (Facet::Peer, "/usr/bin/node"),
        ] {
            assert_eq!(log.count(&Query::new().facet(facet, value)).unwrap(), 4, "{facet} {value}");
        }
    }
    assert_clean(&log);
    let before = lines(&log);
    log.close().unwrap();
    let log = options(&clock, 1).open_on(disk.backend()).unwrap();
    assert_eq!(lines(&log)[..before.len()], before);
    assert_clean(&log);
}

/// A call that says nothing of this has no member for it, and its stored form is the same as if the members did not exist.
#[test]
fn what_is_not_given_is_not_there() {
    let (log, _, _) = store(1);
    let seq = log.record(ToolCall::new("c", "u", "t").trace("", Some("")).prompt("").parent("", Some(""))).unwrap().seq;
    let entry = log.entry(seq).unwrap();
    assert_eq!(around(&entry).to_canonical().as_str(), "{}");
    assert!(entry.call().unwrap().circumstances.is_none());
}

const CALL: &str = r#""tool_name":"t","conversation_id":"c","user_id":"u""#;

fn read(member: &str) -> attestlog::Result<ToolCall> {
    ToolCall::from_jsonl(format!("{{{CALL},{member}}}").as_bytes())
}

#[test]
fn the_input_has_what_a_host_may_say() {
    let digest = format!("sha256:{}", digest("x"));
    let call = read(&format!(
        r#""trace_id":"t","span_id":"s","prompt_id":"p","parent_agent_id":"a","parent_call_id":"i",
        "approval":{{"decision":"denied","by":"rule-7","source":"rule","asked_at":"2025-03-01","answered_at":null}},
        "digests":{{"policy":"{digest}","instructions":null}},"resources":[{{"kind":"table","name":"orders"}}]"#
    ))
    .unwrap();
    assert_eq!(ToolCall::from_json(call.to_json().unwrap()).unwrap(), call);
    let (log, _, _) = store(1);
    let line = log.entry(log.record(call).unwrap().seq).unwrap().line();
    let expected =
        r#""approval":{"asked_at":"2025-03-01T00:00:00Z","by":"rule-7","decision":"denied","source":"rule"}"#;
    assert!(line.contains(expected) && line.contains(&format!(r#""digests":{{"policy":"{digest}"}}"#)), "{line}");
    let mut zoneless = Json::parse(
        format!(r#"{{{CALL},"approval":{{"decision":"allowed","asked_at":"2025-03-01T10:00:00"}}}}"#).as_bytes(),
    )
    .unwrap()
    .value;
    ToolCall::assume_utc(&mut zoneless);
    assert!(ToolCall::from_json(zoneless).is_ok());
}

#[test]
fn other_forms_are_refused_and_the_error_names_the_member() {
    let upper = format!("sha256:{}", digest("x").to_string().to_uppercase());
    for (member, why) in [
        (r#""approval":{"by":"x"}"#.to_owned(), "approval: decision is missing"),
        (r#""approval":{"decision":"maybe"}"#.to_owned(), "approval: decision: is none of allowed, denied, cancelled"),
        (r#""approval":{"decision":"allowed","who":"x"}"#.to_owned(), "approval: who: is not known"),
        (
            r#""approval":{"decision":"allowed","asked_at":"2025-03-01T10:00:00"}"#.to_owned(),
            "asked_at: has no time zone",
        ),
        (r#""approval":"allowed""#.to_owned(), "approval: must be an object"),
        (r#""digests":{"policy":"md5:00"}"#.to_owned(), "digests: policy: must be sha256:"),
        (format!(r#""digests":{{"policy":"{upper}"}}"#), "digests: policy: must be sha256:"),
        (format!(r#""digests":{{"model":"sha256:{}"}}"#, digest("x")), "digests: model: is not known"),
        (r#""resources":[{"kind":"file"}]"#.to_owned(), "resources: name is missing"),
        (r#""resources":[{"kind":"file","name":"x","size":1}]"#.to_owned(), "resources: size: is not known"),
        (r#""resources":{"kind":"file","name":"x"}"#.to_owned(), "resources: must be a list"),
        (r#""trace_id":7"#.to_owned(), "trace_id: must be a string"),
    ] {
        let refused = read(&member).unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains(why), "{member}: {refused}");
    }
    let (log, _, _) = store(1);
    let long = "x".repeat((64 << 10) + 1);
    let call = || ToolCall::new("c", "u", "t");
    let many = (0..1001).fold(call(), |call, i| call.resource("file", format!("/{i}")));
    for (call, kind, member) in [
        (call().resource("", "x"), ErrorKind::InvalidInput, "resources"),
        (call().resource("file", " "), ErrorKind::InvalidInput, "resources"),
        (many, ErrorKind::TooLarge, "resources"),
        (call().prompt("a\0"), ErrorKind::InvalidInput, "prompt_id"),
        (call().trace("t", Some(&long)), ErrorKind::TooLarge, "span_id"),
        (call().resource("file", long.clone()), ErrorKind::TooLarge, "resources"),
        (call().contradicts(["model"]), ErrorKind::InvalidInput, "contradicts"),
        (
            call().source(Source { added: vec!["no member".to_owned()], ..Source::new(SourceKind::Hook) }),
            ErrorKind::InvalidInput,
            "sources",
        ),
        ((0..17).fold(call(), |call, _| call.source(Source::new(SourceKind::Hook))), ErrorKind::TooLarge, "sources"),
    ] {
        let refused = log.record(call).unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
        assert!(refused.to_string().contains(member), "{refused}");
    }
    // A thousand are taken, and what is given twice counts once.
    let most = (0..1000).chain(0..1000).fold(call(), |call, i| call.resource("file", format!("/{i}")));
    let seq = log.record(most).unwrap().seq;
    assert_eq!(log.entry(seq).unwrap().call().unwrap().circumstances.as_ref().unwrap().resources.len(), 1000);
    assert_clean(&log);
}

/// Whoever writes the input could say that a hook or the proxy had told of a call, that another process had recorded it, or
/// that it is only details of another call, which no statistics count [R93].
#[test]
fn no_input_says_who_told_of_a_call() {
    for member in [
        r#""sources":[{"source":"hook"}]"#,
        r#""peer":{"uid":0,"gid":0,"pid":1}"#,
        r#""detail_of":1"#,
        r#""contradicts":["model"]"#,
        r#""captured_by":"mcp""#,
    ] {
        let refused = read(member).unwrap_err();
        assert!(refused.to_string().contains("is not a member of a call"), "{member}: {refused}");
    }
    for call in [full(), ToolCall::new("c", "u", "t").detail_of(3)] {
        assert!(call.to_json().is_err(), "what the form cannot say was left out");
    }
}

/// Each place in the file that says who approved, what was touched or who told of it is vouched for.
#[test]
fn no_byte_of_what_surrounds_a_call_is_changed_unnoticed() {
    let texts = [
        "/etc/hosts",
        "https://example.org/b",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        "dr_boss",
        "prompt-1",
        "agent-0",
        "call_0",
        "claude-code",
        "/usr/bin/node",
        "mode",
        "outcome",
    ];
    let (log, disk, clock) = store(1);
    let seq = log.record(full()).unwrap().seq;
    log.flush_index().unwrap();
    log.record(full().detail_of(seq).contradicts(["outcome"])).unwrap();
    let counts = |log: &AuditLog| {
        let found = [Facet::Resource, Facet::Trace, Facet::Peer]
            .map(|facet| texts.map(|text| log.count(&Query::new().facet(facet, text)).unwrap()));
        found.concat()
    };
    log.close().unwrap();
    let bytes = disk.bytes();
    let wanted = {
        let log = options(&clock, 1).open_on(Disk::of(bytes.clone()).backend()).unwrap();
        (lines(&log), counts(&log))
    };
    for text in texts {
        let places: Vec<usize> =
            (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
        assert!(!places.is_empty(), "{text} is nowhere in the file");
        for at in places {
            let mut changed = bytes.clone();
            changed[at + text.len() - 1] ^= 1;
            let Ok(log) = quietly(|| options(&clock, 1).open_on(Disk::of(changed).backend())) else { continue };
            if quietly(|| log.verify(&Default::default())).is_ok_and(|found| found.ok()) {
                // A page that is no longer in use may hold an old copy of a row.
                assert_eq!((lines(&log), counts(&log)), wanted, "{text} at {at}");
            }
        }
    }
}
