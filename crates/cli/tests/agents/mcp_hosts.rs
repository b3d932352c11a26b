//! Whatever a host takes for the reply to its call is recorded as that, whichever parser it has: hosts in three languages get
//! hundreds of replies that were altered so that parsers may disagree about whose they are.
#![cfg(unix)]

use crate::common::*;
use crate::mcp_servers::{Dice, ran, script};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// Looks its calls up by any id that Python takes for theirs, in each line, in its parts between carriage returns, and in
/// several messages in a row.
const PYTHON: &str = r#"
import json, re, sys
waiting = set(range(1, int(sys.argv[1]) + 1))
def heard(message):
    if not isinstance(message, dict): return
    id, result = message.get("id"), message.get("result")
    try: id = int(id) if isinstance(id, str) else id
    except ValueError: return
    try: known = id in waiting
    except TypeError: return
    if not known or not isinstance(result, dict): return
    waiting.discard(id)
    shown = result.get("structuredContent")
    if isinstance(shown, dict): print(int(id), shown.get("patient_id"))
for line in sys.stdin.buffer.read().split(b"\n"):
    for part in [line] if b"\r" not in line.strip() else [line, *line.split(b"\r")]:
        try: text = part.decode("utf-8-sig").strip()
        except ValueError: continue
        while text:
            try: value, end = json.JSONDecoder(strict=False).raw_decode(text)
            except ValueError: break
            text = text[end:].strip()
            for message in value if isinstance(value, list) else [value]: heard(message)
"#;

const NODE: &str = r#"
const waiting = new Set(Array.from({ length: Number(process.argv[2]) }, (_, i) => i + 1));
for (const line of require("fs").readFileSync(0, "utf8").split("\n")) {
  let value; try { value = JSON.parse(line.replace(/^\ufeff/, "")); } catch { continue; }
  for (const message of Array.isArray(value) ? value : [value]) {
    const id = Number(message?.id);
    if (!waiting.has(id) || typeof message.result !== "object" || !message.result) continue;
    waiting.delete(id);
    console.log(id, message.result.structuredContent?.patient_id);
  }
}
"#;

/// Its parser folds the case of members, and it keeps ids as whole numbers.
const GO: &str = r#"
package main
import ("bufio"; "encoding/json"; "fmt"; "os"; "strconv")
type result struct { Shown struct { Patient any `json:"patient_id"` } `json:"structuredContent"` }
type message struct { ID any `json:"id"`; Result *json.RawMessage `json:"result"` }
func main() {
	n, _ := strconv.Atoi(os.Args[1])
	answered := map[int]bool{}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		var all []message
		var one message
		if json.Unmarshal(line, &one) == nil { all = []message{one} } else if json.Unmarshal(line, &all) != nil { all = nil }
		for _, m := range all {
			id := 0
			switch given := m.ID.(type) {
			case float64: id = int(given)
			case string: id, _ = strconv.Atoi(given)
			}
			var shown result
			if id < 1 || id > n || answered[id] || m.Result == nil || json.Unmarshal(*m.Result, &shown) != nil { continue }
			answered[id] = true
			fmt.Println(id, shown.Shown.Patient)
		}
		if err != nil { return }
	}
}
"#;

/// A reply, altered.
fn reply(dice: &mut Dice, n: usize, all: usize) -> String {
    let mut text =
        format!(r#"{{"jsonrpc":"2.0","id":{n},"result":{{"structuredContent":{{"patient_id":"P-{n}","more":1.5}}}}}}"#);
    for _ in 0..dice.roll(4) {
        let other = dice.roll(all) + 1;
        let value = dice.one(&["null", "true", "{}", "\"zz\"", "7.0000000000000000001", "-1", "1e400"]);
        let spelt = dice.one(&["id", "ID", "Id", "\\u0069d", "iD", "_id"]);
        let own = format!("\"id\":{n}");
        text = match dice.roll(12) {
            0 => text.replacen(&own, &format!("\"{spelt}\":{n}"), 1),
            1 => text.replacen(&own, &format!("\"{spelt}\":{value},{own}"), 1),
            2 => text.replacen(&own, &format!("{own},\"{spelt}\":{other}"), 1),
            3 => text.replacen(&own, &format!("\"id\":{n}.00000000000000000001"), 1),
            4 => text.replacen(&own, &format!("\"id\":\" 0{n}\""), 1),
            5 => text.replacen(&own, &format!("\"id\":{n}e0"), 1),
            6 => text.replacen(
                "\"result\"",
                dice.one(&["\"Result\"", "\"RE\\u0053ULT\"", "\"result\":{},\"result\""]),
                1,
            ),
            7 => text.replacen("1.5", dice.one(&["NaN", "-Infinity", "\"a\tb\"", "12345678901234567890", "1,"]), 1),
            8 => format!("[{text}]"),
            9 => format!("[{{\"{spelt}\":{n}}},{text},{{\"id\":{other},\"result\":{{}}}}]"),
            10 => dice.one(&["\u{feff}", "1 ", "{} ", "{\"a\":\r"]).to_owned() + &text,
            _ => format!("{},\"{spelt}\":{other}}}", text.strip_suffix('}').unwrap_or(&text)),
        };
    }
    text
}

/// Passes the replies through the proxy to the host, and compares what it heard with the log.
fn differ(language: &str, host: &[&str], seed: u64) {
    let place = Place::with_store();
    let all = if std::env::var_os("ATTESTLOG_LONG").is_some() { 3_000 } else { 400 };
    let mut dice = Dice(seed);
    let replies: Vec<String> = (1..=all).map(|n| reply(&mut dice, n, all)).collect();
    place.write("replies", replies.join("\n") + "\n");
    let server = format!("n=0; while [ $n -lt {all} ]; do read -r l; n=$((n+1)); done; cat replies; cat > /dev/null");
    let path = "result.structuredContent.patient_id";
    let mut command = place.command(&["mcp", "s", "--patient-path", path, "--", "sh", "-c", &server]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for n in 1..=all {
        writeln!(input, r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"t"}}}}"#).unwrap();
    }
    let reader = std::thread::spawn(move || {
        let mut heard = Vec::new();
        output.read_to_end(&mut heard).unwrap();
        heard
    });
    drop(input);
    let heard = reader.join().unwrap();
    assert!(child.wait().unwrap().success(), "{language}");
    place.write("heard", heard);
    let (program, arguments) = host.split_first().unwrap();
    let heard = std::fs::File::open(place.path("heard")).unwrap();
    let output = Command::new(program).args(arguments).arg(all.to_string()).stdin(heard).output().unwrap();
    assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let patients =
            line["patient_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        recorded.entry(line["call_id"].as_str().unwrap().to_owned()).or_default().extend(patients);
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let got: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(' ')).filter(|(_, patient)| patient.starts_with("P-")).collect();
    println!("{language}: {all} replies, {} taken", got.len());
    assert!(got.len() > all / 3, "{language} takes replies: {}", got.len());
    for (id, patient) in got {
        let of = replies
            .iter()
            .filter(|reply| reply.contains(&format!("\"{patient}\"")) || reply.contains(&format!(":{id}")))
            .collect::<Vec<_>>();
        let known = recorded.get(id);
        assert!(
            known.is_some_and(|known| known.contains(patient)),
            "{language}: call {id} showed {patient}, the log has {known:?}: {of:?}"
        );
    }
}

/// `"id":77,"id":1` was the reply to call 1 for Python, and to none for the proxy: the report for its patient found nobody.
#[test]
fn a_host_in_python_is_shown_nobody_who_is_not_recorded() {
    if let Err(e) = ran(Command::new("python3").arg("--version")) {
        return println!("SKIPPED: {e}");
    }
    differ("Python", &["python3", script("host.py", PYTHON).to_str().unwrap()], 1);
}

#[test]
fn a_host_in_node_is_shown_nobody_who_is_not_recorded() {
    if let Err(e) = ran(Command::new("node").args(["--version"])) {
        return println!("SKIPPED: {e}");
    }
    differ("Node", &["node", script("host.js", NODE).to_str().unwrap()], 2);
}

#[test]
fn a_host_in_go_is_shown_nobody_who_is_not_recorded() {
    let source = script("host.go", GO);
    let program = source.with_file_name("go-host");
    if let Err(e) = ran(Command::new("go").arg("build").arg("-o").arg(&program).arg(&source)) {
        return println!("SKIPPED: no Go that builds the host: {e}");
    }
    differ("Go", &[program.to_str().unwrap()], 3);
}
