//! What fuzzing found, each with its story.

use attestlog::json::Path;

/// A path with NUL in a bare key was read, but what it was written as could not be read again: keys of parsed JSON never
/// hold NUL, and the quoted form that `Display` chose for it is JSON. Nothing can stand at such a path; it is refused.
#[test]
fn a_path_with_nul_is_refused() {
    assert!(Path::parse("a\0b").is_err());
    for text in ["a.b[2].c", "[\"a b.c\"][0]", "[\"\\u001f\"]"] {
        let path = Path::parse(text).unwrap();
        assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }
}

/// What does not begin like a JSON message was taken for noise, and went on to the server unrecorded: behind a byte order mark,
/// white space that is none of JSON's, or another value. A server that trims more than JSON does, or takes one value after
/// the other, reads a tool call there. Nothing of the kind goes on (invariant I1).
#[cfg(feature = "owner")]
#[test]
fn a_tool_call_behind_something_that_is_no_json_does_not_go_on() {
    use attestlog::owner::{SharedStore, Sharing};
    use attestlog::{AuditLog, Options, SystemClock};
    use attestlog_capture::mcp::{Observer, Settings, Verdict};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    AuditLog::create(&path).unwrap().close().unwrap();
    let joint = SharedStore::open(&path, Options::new(), Sharing::default()).unwrap();
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
    // That they were refused is in the log.
    let denied = attestlog::Query::new().facet(attestlog::Facet::Outcome, "denied");
    assert_eq!(joint.owned(|log| log.count(&denied).unwrap()), Some(5));
    observer.close("the test ends");
}
