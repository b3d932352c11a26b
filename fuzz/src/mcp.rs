//! Frames of the Model Context Protocol from a host and a server that send anything.
//!
//! A line that begins with `<` comes from the server, any other from the host (a leading `>` is removed); consecutive
//! lines of one side are one read. A first line that begins with `!` sets how calls are recorded: `o` lets calls
//! through that cannot be recorded, `r` treats tools as read-only, `x` uses a store that records nothing.

use attestlog::AuditLog;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::json::Json;
use attestlog::verify::VerifyOptions;
use attestlog::{Options, Query};
use attestlog_capture::mcp::{Frames, Identity, Observer, Settings, Verdict};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const WORDS: &[&str] = &[
    "!o\n",
    "!r\n",
    "!x\n",
    "!ox\n",
    "\n>",
    "\n<",
    "\"method\":\"tools/call\",",
    "\"method\":\"tools\\/call\",",
    "\"method\":\"\\u0074ools/call\",",
    "\"method\":\"notifications/cancelled\",",
    "\"method\":\"tasks/result\",",
    "\"method\":\"tasks/update\",",
    "\"method\":\"tasks/list\",",
    "\"method\":\"notifications/tasks/status\",",
    "\"method\":\"elicitation/create\",",
    "\"params\":{\"taskId\":\"k\",\"status\":\"failed\"},",
    "\"params\":{\"name\":\"t\",\"input\":{}},",
    "\"result\":{\"taskId\":\"k\",\"status\":\"completed\"},",
    "\"isError\":1,",
    "\"method\":\"ping\",",
    "\"params\":{\"name\":\"t\",\"arguments\":{}},",
    "\"params\":{\"requestId\":1},",
    "\"params\":{\"taskId\":\"k\"},",
    "\"requestState\":\"s\",",
    "\"inputResponses\":{},",
    "\"_meta\":{\"user_id\":\"u\"},",
    "\"result\":{\"content\":[]},",
    "\"result\":{\"resultType\":\"input_required\",\"requestState\":\"s\"},",
    "\"result\":{\"task\":{\"taskId\":\"k\"}},",
    "\"error\":{\"code\":-32001,\"message\":\"m\"},",
    "\"id\":1,",
    "\"id\":\"1\",",
    "\"id\":null,",
    "\"id\":{},",
    "\u{feff}",
    "\u{b}",
    "\\u0000",
    "\\ud800",
    "[",
    "]",
    "{}",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let call = r#">{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"a","password":"p"},"_meta":{"user_id":"u"}}}"#;
    let texts = [
        format!(
            "{}\n{}\n{call}\n{}\n",
            r#">{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","clientInfo":{"name":"c","version":"1"}}}"#,
            r#"<{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"s","version":"2"}}}"#,
            r#"<{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"patient_id\":\"P-1\"}"}],"isError":false}}"#,
        ),
        format!(
            "!r\n{}\n{call}\n{}\n{}\n",
            r#"<{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"read_file","annotations":{"readOnlyHint":true}}]}}"#,
            r#">{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"timed out"}}"#,
            r#"<{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}"#,
        ),
        concat!(
            r#">[{"id":"a","method":"tools/call","params":{"name":"x"}},{"method":"tools/call","params":{"name":"y"}}]"#,
            "\n",
            r#"<[{"id":"a","result":{"content":[]}},{"id":"b","result":{}}]"#,
            "\n"
        )
        .to_owned(),
        concat!(
            r#">{"id":1,"method":"tools/call","params":{"name":"ask"}}"#,
            "\n",
            r#"<{"id":1,"result":{"resultType":"input_required","requestState":"s"}}"#,
            "\n",
            r#">{"id":2,"method":"tools/call","params":{"name":"ask","requestState":"s","inputResponses":{}}}"#,
            "\n",
            r#"<{"id":2,"result":{"task":{"taskId":"k"}}}"#,
            "\n",
            r#">{"id":3,"method":"tasks/result","params":{"taskId":"k"}}"#,
            "\n",
            r#"<{"id":3,"result":{"content":[]}}"#,
            "\n"
        )
        .to_owned(),
        format!("!x\n{call}\nhello\n\n>{{\"method\":\"tools/call\",\"method\":\"ping\",\"id\":1}}\n"),
        format!("!ox\n{call}\n"),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// A shared store, and one that was closed and records nothing.
struct Stores {
    folder: tempfile::TempDir,
    open: AuditLog,
    closed: AuditLog,
    runs: u64,
}

fn options(clock: &Arc<ManualClock>) -> Options {
    let random = Arc::new(SeededRandom::new(3));
    Options::new().clock(clock.clone()).random(random).without_keys().background(false).cache_bytes(1 << 20)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2025-07-06T14:23:01Z".parse().expect("a time")))
}

impl Stores {
    fn new() -> Stores {
        // Temporary files are fast to write here.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let [open, closed] = ["open", "closed"].map(|name| {
            let path = folder.path().join(name);
            options(&clock()).create(&path).and_then(|log| log.close()).expect("a store");
            options(&clock()).open(&path).expect("it opens")
        });
        closed.clone().close().expect("it closes");
        Stores { folder, open, closed, runs: 0 }
    }

    /// Ends a session: everything that was begun has an end, and the store verifies.
    fn renew(&mut self, observer: &Observer) {
        observer.close("the run ended");
        let log = options(&clock()).open(self.folder.path().join("open")).expect("it opens again");
        let found = log.verify(&VerifyOptions::new().threads(1)).expect("it verifies");
        assert!(found.ok(), "{:?}", found.findings);
        drop(log);
        *self = Stores::new();
    }
}

thread_local! {
    static STORES: RefCell<Stores> = RefCell::new(Stores::new());
}

/// How many tool calls the most lenient server would find: one that reads values in sequence from where the first
/// begins, ignores what precedes it, replaces invalid UTF-8, and takes the last of several members with the same name.
fn calls(frame: &[u8]) -> usize {
    let text = String::from_utf8_lossy(frame);
    let Some(begin) = text.find(['{', '[']) else { return 0 };
    let asks = |message: &serde_json::Value| {
        let params = &message["params"];
        // What continues a call that was begun need not begin another one.
        let goes_on = !params["requestState"].is_null() || !params["inputResponses"].is_null();
        usize::from(message["method"] == "tools/call" && !goes_on)
    };
    let values = serde_json::Deserializer::from_str(&text[begin..]).into_iter::<serde_json::Value>();
    let found = values.map_while(Result::ok).map(|value| match &value {
        serde_json::Value::Array(messages) => messages.iter().map(asks).sum(),
        one => asks(one),
    });
    found.sum()
}

/// Checks an answer to frames that were not passed on: frames of its own, with errors.
fn check_answer(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let frames = bytes.strip_suffix(b"\n").expect("an answer ends with a line");
    for frame in frames.split(|byte| *byte == b'\n') {
        let answer = Json::parse(frame).expect("an answer is JSON").value;
        let all = match &answer {
            Json::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        let is_told = |one: &Json| one.get("method").and_then(Json::as_str) == Some("notifications/message");
        let is_error = |one: &Json| one.get("error").is_some() && one.get("id").is_some();
        assert!(!all.is_empty() && all.iter().all(|one| is_error(one) || is_told(one)));
    }
}

/// Cuts the bytes into frames as they might arrive, and checks that they are unchanged (I2).
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut cutter = Frames::default();
    let mut all = Vec::new();
    for piece in bytes.chunks(1 + bytes.len() % 97) {
        all.extend(cutter.push(piece));
    }
    all.extend(cutter.finish());
    assert_eq!(all.concat(), bytes, "frames are what was read, byte for byte");
    all
}

/// No tool call is passed on before it is on the disk (I1), whatever the frames are; what is passed on is unchanged
/// (I2); nothing that was begun is left without an end.
pub(crate) fn run(data: &[u8]) {
    let (mode, rest) = match data.first() {
        Some(b'!') => data.split_at(data.iter().position(|&b| b == b'\n').map_or(data.len(), |end| end + 1)),
        _ => (&[][..], data),
    };
    let has = |flag: u8| mode.contains(&flag);
    let (fail_open, read_only, fails) = (has(b'o'), has(b'r'), has(b'x'));
    STORES.with_borrow_mut(|stores| {
        let joint = if fails { stores.closed.clone() } else { stores.open.clone() };
        let mut settings = Settings::default();
        settings.identity = Identity::default();
        (settings.identity.default_user, settings.identity.default_conversation) = ("u".into(), "c".into());
        settings.identity.default_server = "server".into();
        settings.fail_open = fail_open;
        settings.timeout = Some(Duration::from_secs(60));
        if read_only {
            settings.read_only = vec!["read_*".to_owned(), "x".to_owned()];
        }
        let clock = clock();
        let reached = joint.clone();
        let observer = Observer::new(settings, clock.clone(), move || Ok(reached.clone()), |_| ());
        let observer = observer.expect("an observer");
        let size = || joint.size().unwrap_or(0);
        let unfinished = || joint.count(&Query::new().unfinished()).unwrap_or(0);
        let left_before = unfinished();
        let mut reads: Vec<(bool, Vec<u8>)> = Vec::new();
        for line in rest.split_inclusive(|&b| b == b'\n') {
            let server = line.first() == Some(&b'<');
            let line = if matches!(line.first(), Some(b'<' | b'>')) { &line[1..] } else { line };
            match reads.last_mut().filter(|(of_server, _)| *of_server == server) {
                Some((_, read)) => read.extend_from_slice(line),
                None => reads.push((server, line.to_vec())),
            }
        }
        for (server, read) in reads {
            let frames = frames(&read);
            let before = size();
            let verdicts = if server { observer.from_server(&frames) } else { observer.from_host(&frames) };
            assert_eq!(verdicts.len(), frames.len());
            let mut went_on = 0;
            for (frame, verdict) in frames.iter().zip(&verdicts) {
                match verdict {
                    Verdict::Forward if !server => went_on += calls(frame),
                    Verdict::Forward => {}
                    Verdict::Answer(bytes) => check_answer(bytes),
                }
            }
            if !fail_open && !read_only {
                let recorded = size() - before;
                let shown = String::from_utf8_lossy(&read);
                assert!(went_on as u64 <= recorded, "{went_on} calls went on, {recorded} entries: {shown}");
            }
            clock.advance(Duration::from_secs(7));
        }
        observer.host_gone();
        clock.advance(Duration::from_secs(60));
        observer.expire();
        // Only a call whose server asked for more input may still have no end.
        let asked_back = rest.windows(b"input_required".len()).filter(|w| w == b"input_required").count() as u64;
        let escaped = rest.windows(2).any(|w| w == b"\\u");
        let left = unfinished() - left_before;
        assert!(escaped || left <= asked_back, "{left} calls have no end: {}", String::from_utf8_lossy(rest));
        stores.runs += 1;
        if !fails && stores.runs >= 64 {
            stores.renew(&observer);
        }
    });
}
