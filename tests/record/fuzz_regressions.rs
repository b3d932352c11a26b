//! Bugs found by fuzzing, each with its story.

use attestlog::json::Path;

/// A path with NUL in a bare key could be parsed, but its written form could not be parsed again: keys of parsed JSON never
/// contain NUL, and the quoted form that `Display` chose for it is JSON. Nothing can be at such a path; it is refused.
#[test]
fn a_path_with_nul_is_refused() {
    assert!(Path::parse("a\0b").is_err());
    for text in ["a.b[2].c", "[\"a b.c\"][0]", "[\"\\u001f\"]"] {
        let path = Path::parse(text).unwrap();
        assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }
}

/// A frame that does not begin like a JSON message was taken for noise, and passed on to the server unrecorded: after a
/// byte order mark, after white space that JSON does not allow, or after another value. A server that trims more than JSON
/// allows, or reads one value after the other, sees a tool call there. No such frame is passed on (invariant I1).
#[cfg(feature = "owner")]
#[test]
fn a_tool_call_behind_something_that_is_no_json_does_not_go_on() {
    use attestlog::host::SystemClock;
    use attestlog::{AuditLog, Options};
    use attestlog_capture::mcp::{Observer, Settings, Verdict};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    AuditLog::create(&path).unwrap().close().unwrap();
    let joint = Options::new().open(&path).unwrap();
    let reached = joint.clone();
    let mut settings = Settings::default();
    settings.identity.user = Some("u".to_owned());
    settings.identity.conversation = Some("c".to_owned());
    let clock = std::sync::Arc::new(SystemClock::default());
    let observer = Observer::new(settings, clock, move || Ok(reached.clone()), |_| ()).unwrap();
    for before in ["\u{feff}", "\u{b}", "\u{a0}", "1 ", "\"x\""] {
        let frame = format!("{before}{{\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"t\"}}}}\n");
        let verdicts = observer.from_host(&[frame.clone().into_bytes()]);
        assert!(matches!(&verdicts[..], [Verdict::Answer(bytes)] if bytes.starts_with(b"{")), "{frame}");
    }
    assert_eq!(observer.from_host(&[b"hello\n".to_vec()]), [Verdict::Forward], "what cannot be a call goes on");
    // The log shows that they were refused.
    let denied = attestlog::Query::new().facet(attestlog::Facet::Outcome, "denied");
    assert_eq!(joint.count(&denied).unwrap(), 5);
    observer.close("the test ends");
}
