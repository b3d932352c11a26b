//! Whatever a server runs is recorded, whichever parser it has: servers in four languages, each with that language's usual
//! parser, run behind the proxy, and get thousands of frames that were altered so that parsers may disagree about them.
#![cfg(unix)]

use crate::common::*;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reads bytes, so that its parser detects the encoding itself; also treats a carriage return as the end of a line.
const PYTHON: &str = r#"
import json, os, re, sys
seen = open(os.environ["SEEN"], "wb")
def run(message):
    if not isinstance(message, dict) or message.get("method") != "tools/call": return
    params = message.get("params")
    if isinstance(params, list): params = dict(zip(("name", "arguments"), params))
    if not isinstance(params, dict): return
    text = json.dumps({"name": str(params.get("name")), "arguments": params.get("arguments")}, ensure_ascii=False)
    text = text.replace("Infinity", '"1e400"')
    seen.write(text.encode("utf-8", "replace") + b"\n"); seen.flush()
    print(json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": {"content": []}}), flush=True)
for line in sys.stdin.buffer:
    for part in {line, *re.split(rb"\r", line)}:
        try: value = json.loads(part)
        except Exception: continue
        for message in value if isinstance(value, list) else [value]: run(message)
"#;

const NODE: &str = r#"
const text = s => s.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "?");
const clean = value => typeof value === "string" ? text(value) : value === Infinity ? "1e400"
  : Array.isArray(value) ? value.map(clean) : value && typeof value === "object"
  ? Object.fromEntries(Object.entries(value).map(([name, one]) => [text(name), clean(one)])) : value;
const fs = require("fs"), out = fs.openSync(process.env.SEEN, "w");
require("readline").createInterface({ input: process.stdin, crlfDelay: Infinity }).on("line", line => {
  let value; try { value = JSON.parse(line.replace(/^\ufeff/, "")); } catch { return; }
  for (const message of Array.isArray(value) ? value : [value]) {
    if (message?.method !== "tools/call" || typeof message.params !== "object" || !message.params) continue;
    const { name, arguments: given } = message.params;
    fs.writeSync(out, JSON.stringify(clean({ name: String(name), arguments: given ?? null })) + "\n");
    process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id: message.id ?? null, result: { content: [] } }) + "\n");
  }
});
"#;

/// Its parser folds the case of members, as Unicode defines it.
const GO: &str = r#"
package main
import ("bufio"; "encoding/json"; "fmt"; "os")
type params struct { Name string `json:"name"`; Arguments any `json:"arguments"` }
type message struct { ID any `json:"id"`; Method string `json:"method"`; Params params `json:"params"` }
func main() {
	seen, _ := os.Create(os.Getenv("SEEN"))
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		var all []message
		var one message
		if json.Unmarshal(line, &one) == nil { all = []message{one} } else if json.Unmarshal(line, &all) != nil { all = nil }
		for _, m := range all {
			if m.Method != "tools/call" { continue }
			text, _ := json.Marshal(map[string]any{"name": m.Params.Name, "arguments": m.Params.Arguments})
			fmt.Fprintln(seen, string(text))
			reply, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": map[string]any{"content": []any{}}})
			fmt.Println(string(reply))
		}
		if err != nil { return }
	}
}
"#;

/// Random numbers determined by a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

/// A call, altered.
fn frame(dice: &mut Dice, n: usize) -> Vec<u8> {
    let mut text = format!(
        r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"tool","arguments":{{"n":{n},"path":"/tasks/k","deep":{{"list":[1,"s"],"sum":1.5}}}}}}}}"#
    );
    for _ in 0..dice.roll(4) {
        text = changed(dice, &text);
    }
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    match dice.roll(40) {
        0 => units(&text).into_iter().flat_map(u16::to_le_bytes).collect(),
        1 => units(&format!("\u{feff}{text}")).into_iter().flat_map(u16::to_be_bytes).collect(),
        2 => text.chars().flat_map(|c| (c as u32).to_le_bytes()).collect(),
        3 => text.chars().flat_map(|c| (c as u32).to_be_bytes()).collect(),
        4..8 => {
            let mut bytes = text.into_bytes();
            let at = dice.roll(bytes.len());
            bytes[at] = dice.one(b"\0\xff\"{}[],:\\ \r\t1aA'\xc0");
            bytes
        }
        _ => text.into_bytes(),
    }
}

fn changed(dice: &mut Dice, text: &str) -> String {
    const NAMES: [&str; 10] = ["jsonrpc", "id", "method", "params", "name", "arguments", "n", "path", "list", "deep"];
    let name = dice.one(&NAMES);
    let quoted = format!("\"{name}\"");
    let spelt = match dice.roll(6) {
        0 => name.to_uppercase(),
        1 => name.replace('s', "\u{17f}").replace('k', "\u{212a}"),
        2 => name.chars().map(|c| format!("\\u{:04x}", c as u32)).collect(),
        3 => name[..1].to_uppercase() + &name[1..],
        4 => format!("{name}\\u0000"),
        _ => name.to_owned(),
    };
    let value = dice.one(&[
        "\"tools/call\"",
        "\"ping\"",
        "{\"name\":\"other\",\"arguments\":{\"n\":-1}}",
        "7",
        "null",
        "[\"tool\",{}]",
    ]);
    match dice.roll(10) {
        0 | 1 => text.replacen(&quoted, &format!("\"{spelt}\""), 1),
        2 | 3 => text.replacen(&quoted, &format!("\"{spelt}\":{value},{quoted}"), 1),
        4 => format!("{},\"{spelt}\":{value}}}", text.strip_suffix('}').unwrap_or(text)),
        5 => dice.one(&["[", "\u{feff}", "x", "1 ", "[1,", "\u{2028}", "{\"a\":\r", "\u{b}"]).to_owned() + text,
        6 => format!("[{text}]"),
        7 => {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let mut text = text.to_owned();
            text.insert_str(
                dice.one(&places),
                dice.one(&["\r", "\u{2028}", " ", "\\ud800", "\\u0000", "0", "\"", "{", "é"]),
            );
            text
        }
        8 => text.replace(
            "1.5",
            dice.one(&["12345678901234567890", "1e400", "NaN", "-0", "0.1000000000000000000001", "1E2"]),
        ),
        _ => text.replace(
            dice.one(&["tools/call", "tool", "/tasks/k"]),
            dice.one(&["Tools/Call", "tools\\/call", "tools/call ", "\\ud83d\\ude00", "x\\u0000y", "\\udfff"]),
        ),
    }
}

/// Whether what the server saw is in what was recorded: if members repeat, all of them are recorded, as a list.
fn holds(recorded: &Value, seen: &Value) -> bool {
    let plain = |text: &str| text.replace(['\0', '\u{2400}', '\u{fffd}', '?'], "?");
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let same = match (recorded, seen) {
        (Value::Object(recorded), Value::Object(seen)) => seen.iter().all(|(name, value)| {
            recorded.iter().any(|(known, recorded)| plain(known) == plain(name) && holds(recorded, value))
        }),
        (Value::Array(recorded), Value::Array(seen)) => {
            recorded.len() == seen.len() && recorded.iter().zip(seen).all(|(recorded, seen)| holds(recorded, seen))
        }
        (Value::String(recorded), Value::String(seen)) => plain(recorded) == plain(seen),
        (recorded, Value::Number(_)) => number(recorded) == number(seen),
        (recorded, seen) => recorded == seen,
    };
    same || recorded.as_array().is_some_and(|all| all.iter().any(|one| holds(one, seen)))
}

/// Runs the server behind the proxy, sends it the frames, and compares what it ran with the log.
fn differ(language: &str, server: &[&str], seed: u64) {
    let place = Place::with_store();
    let args = [&["mcp", "s", "--"], server].concat();
    let mut command = place.command(&args);
    let mut child =
        command.env("SEEN", place.path("seen")).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || output.read_to_end(&mut Vec::new()).unwrap());
    let mut input = child.stdin.take().unwrap();
    let long = std::env::var_os("ATTESTLOG_LONG").is_some();
    let frames = if long { 20_000 } else { 1_500 };
    let mut dice = Dice(seed);
    for n in 0..frames {
        let mut frame = frame(&mut dice, n);
        frame.push(b'\n');
        input.write_all(&frame).unwrap();
    }
    drop(input);
    reader.join().unwrap();
    assert!(child.wait().unwrap().success(), "{language}");
    let seen = std::fs::read(place.path("seen")).unwrap();
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let mut recorded: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused = recorded.iter().filter(|line| line["tool_name"] == "unreadable").count();
    recorded.retain(|line| line["tool_name"] != "unreadable");
    let ran: Vec<Value> = String::from_utf8_lossy(&seen).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    println!("{language}: {frames} frames, {refused} refused, {} calls run, {} recorded", ran.len(), recorded.len());
    assert!(ran.len() > frames / 5, "{language} runs calls: {}", ran.len());
    let text = |value: &Value| value.as_str().unwrap_or_default().replace(['\0', '\u{2400}', '\u{fffd}'], "?");
    for call in &ran {
        let nothing = Value::Null;
        let is = |line: &Value| {
            let names = match line["tool_name"].as_str() {
                Some("(no name)") => ["", "None", "undefined", "null"].contains(&&*text(&call["name"])),
                _ => text(&line["tool_name"]) == text(&call["name"]),
            };
            names && holds(line.get("arguments").unwrap_or(&nothing), &call["arguments"])
        };
        let at = recorded.iter().position(is).unwrap_or_else(|| panic!("{language} ran what is not recorded: {call}"));
        recorded.swap_remove(at);
    }
}

/// Checks whether a program can be run, and returns its error if not.
pub fn ran(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

pub fn script(name: &str, text: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plain-servers");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Members in another case, other encodings and repeated members passed the proxy as nothing, or as another call, and the
/// server ran them: `{"Method":"tools/call",…}` with a server in Go, UTF-16 with one in Python.
#[test]
fn a_server_in_python_runs_nothing_that_is_not_recorded() {
    if let Err(e) = ran(Command::new("python3").arg("--version")) {
        return println!("SKIPPED: {e}");
    }
    differ("Python", &["python3", script("server.py", PYTHON).to_str().unwrap()], 1);
}

/// TypeScript servers use the JSON parser of the engine that runs them.
#[test]
fn a_server_in_node_runs_nothing_that_is_not_recorded() {
    if let Err(e) = ran(Command::new("node").args(["--version"])) {
        return println!("SKIPPED: {e}");
    }
    differ("Node", &["node", script("server.js", NODE).to_str().unwrap()], 2);
}

#[test]
fn a_server_in_go_runs_nothing_that_is_not_recorded() {
    let source = script("server.go", GO);
    let program = source.with_file_name("go-server");
    if let Err(e) = ran(Command::new("go").arg("build").arg("-o").arg(&program).arg(&source)) {
        return println!("SKIPPED: no Go that builds the server: {e}");
    }
    differ("Go", &[program.to_str().unwrap()], 3);
}

#[test]
fn a_server_in_rust_runs_nothing_that_is_not_recorded() {
    let exe = std::env::current_exe().unwrap();
    let server = exe.parent().unwrap().parent().unwrap().join("examples/plain_mcp_server");
    assert!(server.exists(), "{} is built by `cargo test` and `cargo build --examples`", server.display());
    differ("Rust", &[server.to_str().unwrap()], 4);
}
