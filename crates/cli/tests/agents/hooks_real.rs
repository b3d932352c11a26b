//! A real Claude Code, with the hooks as they are installed, against a model that plays one script on the loopback. It is installed into
//! a folder of the target directory; 250 MB, so only with `ATTESTLOG_LONG`.
#![cfg(target_os = "linux")]

use crate::common::{Place, json};
use attestlog::json::{Json, Limits, Object};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "@anthropic-ai/claude-code-linux-x64";
const VERSION: &str = "2.1.332";

/// What the model says, message by message: two calls at once, one that fails, one that a rule denies, a tool that does not exist.
const SCRIPT: &str = r#"[
    [{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"echo x > ran.txt","description":"a"}},
     {"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"WORK/a.txt"}}],
    [{"type":"tool_use","id":"t3","name":"Read","input":{"file_path":"WORK/missing.txt"}}],
    [{"type":"tool_use","id":"t4","name":"Bash","input":{"command":"rm never","description":"b"}}],
    [{"type":"tool_use","id":"t5","name":"NoSuchTool","input":{"x":1}}],
    [{"type":"text","text":"done"}]
]"#;

fn program() -> Option<PathBuf> {
    if std::env::var_os("ATTESTLOG_LONG").is_none() {
        println!("SKIPPED: only with ATTESTLOG_LONG");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("claude-code");
    let program = folder.join("node_modules").join(PACKAGE).join("claude");
    if !program.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-fund", "--no-audit", "--prefix"]).arg(&folder).arg(format!("{PACKAGE}@{VERSION}"));
        match npm.output() {
            Ok(out) if out.status.success() => {}
            other => {
                println!("SKIPPED: {PACKAGE} cannot be installed: {other:?}");
                return None;
            }
        }
    }
    Some(program)
}

/// The model: answers requests until the process ends.
fn model(script: Json) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            std::thread::spawn(move || while answer(&stream, &script).is_some() {});
        }
    });
    port
}

/// Answers one request; `None` once the connection is closed.
fn answer(stream: &TcpStream, script: &Json) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (kind, text) = if first.contains("count_tokens") {
        ("application/json", r#"{"input_tokens":1}"#.to_owned())
    } else if first.starts_with("POST") {
        let request = Json::parse_lenient(&body, &Limits::bytes(64 << 20)).unwrap().value;
        ("text/event-stream", events(&request, script))
    } else {
        ("application/json", "{}".to_owned())
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
    let mut out = stream;
    out.write_all(head.as_bytes()).and_then(|()| out.write_all(text.as_bytes())).ok()
}

/// The next message of the script, as a stream of events.
fn events(request: &Json, script: &Json) -> String {
    let messages = request.get("messages").and_then(Json::as_array).unwrap_or_default();
    let said =
        messages.iter().filter(|message| message.get("role").and_then(Json::as_str) == Some("assistant")).count();
    let script = script.as_array().unwrap();
    let title = Json::parse(br#"[{"type":"text","text":"t"}]"#).unwrap().value;
    let has_tools = request.get("tools").and_then(Json::as_array).is_some_and(|tools| !tools.is_empty());
    let blocks = if has_tools { &script[said.min(script.len() - 1)] } else { &title };
    let calls = blocks.as_array().unwrap().iter().any(|block| block.get("name").is_some());
    let mut out = String::new();
    let mut say = |kind: &str, rest: &str| {
        out.push_str(&format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n"));
    };
    say(
        "message_start",
        r#","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#,
    );
    for (i, block) in blocks.as_array().unwrap().iter().enumerate() {
        let (start, delta) = match block.get("input") {
            Some(input) => {
                let mut start = block.as_object().unwrap().clone();
                start.insert("input", Object::new());
                let text = Json::from(input.to_canonical().as_str()).to_canonical();
                (start, format!(r#"{{"type":"input_json_delta","partial_json":{text}}}"#))
            }
            None => {
                let text = block.get("text").unwrap().to_canonical();
                let start = Object::from_iter([("type", "text"), ("text", "")]);
                (start, format!(r#"{{"type":"text_delta","text":{text}}}"#))
            }
        };
        say("content_block_start", &format!(r#","index":{i},"content_block":{}"#, Json::from(start).to_canonical()));
        say("content_block_delta", &format!(r#","index":{i},"delta":{delta}"#));
        say("content_block_stop", &format!(r#","index":{i}"#));
    }
    let stop = if calls { "tool_use" } else { "end_turn" };
    say(
        "message_delta",
        &format!(r#","delta":{{"stop_reason":"{stop}","stop_sequence":null}},"usage":{{"output_tokens":1}}"#),
    );
    say("message_stop", "");
    out
}

/// Runs the agent once in this place.
fn run(place: &Place, program: &Path, port: u16) {
    let mut claude = Command::new("timeout");
    claude.arg("120").arg(program).args(["-p", "go", "--output-format", "stream-json", "--verbose"]);
    claude.current_dir(place.path("work")).env_clear();
    claude.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", place.path("home"));
    claude.env("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}")).env("ANTHROPIC_API_KEY", "sk-ant-none");
    for off in ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER"] {
        claude.env(off, "1");
    }
    let ran = claude.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

fn outcomes(place: &Place) -> Vec<(String, String)> {
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let text = |line: &Json, name: &str| line.get(name).unwrap().as_str().unwrap().to_owned();
    let mut found: Vec<_> =
        lines.lines().map(|line| (text(&json(line), "call_id"), text(&json(line), "outcome"))).collect();
    found.sort();
    found
}

#[test]
fn a_real_agent_is_recorded_and_stopped() {
    let Some(program) = program() else { return };
    let sound = |place: &Place| {
        ["home/.claude", "work"].iter().for_each(|folder| std::fs::create_dir_all(place.path(folder)).unwrap());
        place.write("work/a.txt", "a");
        place.write("home/.claude/settings.json", r#"{"permissions":{"allow":["Bash","Read"],"deny":["Bash(rm:*)"]}}"#);
        place.run(&["init", "s"]).ok();
        let store = place.path("s").display().to_string();
        let installed =
            place.command(&["hook", "install", "claude-code", &store]).env("HOME", place.path("home")).output();
        assert!(installed.unwrap().status.success());
        let work = place.path("work").display().to_string();
        model(json(&SCRIPT.replace("WORK", &work)))
    };
    let place = Place::empty();
    let port = sound(&place);
    run(&place, &program, port);
    let expected = [("t1", "ok"), ("t2", "ok"), ("t3", "tool_error"), ("t4", "denied"), ("t5", "protocol_error")];
    assert_eq!(outcomes(&place), expected.map(|(id, outcome)| (id.to_owned(), outcome.to_owned())));
    assert!(place.path("work/ran.txt").exists());
    assert!(place.run(&["verify", "s"]).ok().starts_with("nothing wrong found"));
    for gone in ["s", "s.key"] {
        let place = Place::empty();
        let port = sound(&place);
        std::fs::rename(place.path(gone), place.path("away")).unwrap();
        run(&place, &program, port);
        assert!(!place.path("work/ran.txt").exists(), "without {gone} the tool ran");
    }
}
