// A Model Context Protocol server with tools that do what servers do wrong: what the tests put behind the proxy.
//
// With FAKE_LOG set, every byte that arrives is kept in that file.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]
use attestlog::json::{Json, Object};
use std::io::{self, BufRead, Write};

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::from(Object::from_iter(members))
}

fn reply(id: &Json, result: Json) -> Json {
    object([("jsonrpc", "2.0".into()), ("id", id.clone()), ("result", result)])
}

fn error(id: &Json, code: &str, message: &str) -> Json {
    let code = Json::parse(code.as_bytes()).unwrap().value;
    let error = object([("code", code), ("message", message.into())]);
    object([("jsonrpc", "2.0".into()), ("id", id.clone()), ("error", error)])
}

fn text(text: &str, failed: bool) -> Json {
    let content = Json::Array(vec![object([("type", "text".into()), ("text", text.into())])]);
    object([("content", content), ("isError", failed.into())])
}

fn main() {
    let mut waiting: Vec<Json> = Vec::new();
    let mut log = std::env::var_os("FAKE_LOG").map(|path| std::fs::File::create(path).unwrap());
    eprintln!("fake server is up");
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).unwrap() == 0 {
            return;
        }
        if let Some(log) = &mut log {
            log.write_all(&line).unwrap();
        }
        // As lenient as servers in JavaScript are.
        let line = String::from_utf8_lossy(&line).replace("\\u0000", "0").replace("\\ud800", "s").into_bytes();
        let Ok(parsed) = Json::parse_within(&line, &attestlog::json::Limits::bytes(1 << 30)) else { continue };
        let messages = match parsed.value {
            Json::Array(messages) => {
                let answers: Vec<Json> = messages.iter().filter_map(|m| answer(m, &mut waiting)).collect();
                if !answers.is_empty() {
                    println!("{}", Json::Array(answers).to_canonical());
                }
                continue;
            }
            one => vec![one],
        };
        for message in &messages {
            if let Some(answer) = answer(message, &mut waiting) {
                println!("{}", answer.to_canonical());
            }
        }
    }
}

/// The newest revision has no handshake: who asks so is answered so, and told in each result who answers.
fn answer(message: &Json, waiting: &mut Vec<Json>) -> Option<Json> {
    let mut answer = old_answer(message, waiting)?;
    let meta = message.get("params").and_then(|params| params.get("_meta"));
    let version = meta.and_then(|meta| meta.get("io.modelcontextprotocol/protocolVersion"));
    if let (Some(_), Json::Object(whole)) = (version, &mut answer)
        && let Some(Json::Object(result)) = whole.get_mut("result")
    {
        let info = object([("name", "modern fake".into()), ("version", "2.0".into())]);
        result.insert("_meta", object([("io.modelcontextprotocol/serverInfo", info)]));
    }
    Some(answer)
}

fn old_answer(message: &Json, waiting: &mut Vec<Json>) -> Option<Json> {
    let method = message.get("method")?.as_str()?;
    let id = message.get("id").cloned();
    match method {
        "initialize" => {
            let info = object([("name", "fake".into()), ("version", "1.2".into())]);
            Some(reply(&id?, object([("protocolVersion", "2025-06-18".into()), ("serverInfo", info)])))
        }
        "tools/list" => {
            let hints = object([("readOnlyHint", true.into()), ("title", "Echo".into())]);
            let tool = object([("name", "echo".into()), ("annotations", hints)]);
            Some(reply(&id?, object([("tools", Json::Array(vec![tool]))])))
        }
        "tools/call" => {
            let params = message.get("params")?;
            let none = Json::Null;
            let arguments = params.get("arguments").unwrap_or(&none);
            let id = id?;
            match params.get("name")?.as_str()? {
                "echo" => Some(reply(&id, text(arguments.to_canonical().as_str(), false))),
                "fail" => Some(reply(&id, text("it did not work", true))),
                "wrong" => Some(error(&id, "-32602", "unknown tool")),
                "late" => Some(error(&id, "-32001", "Request timed out")),
                "forbidden" => Some(error(&id, "403", "not yours")),
                "die" => std::process::exit(7),
                "hold" => None,
                "wait" => {
                    waiting.push(id);
                    None
                }
                "go" => {
                    // The newest first: replies need not come in the order of the calls.
                    while let Some(held) = waiting.pop() {
                        println!("{}", reply(&held, text("waited", false)).to_canonical());
                    }
                    Some(reply(&id, text("gone", false)))
                }
                "noise" => {
                    println!("this is no JSON-RPC");
                    Some(reply(&id, text("quiet again", false)))
                }
                "large" => Some(reply(&id, text(&"x".repeat(50 << 20), false))),
                "ask" => match params.get("requestState") {
                    None => {
                        let asked = object([("who", object([("method", "elicitation/create".into())]))]);
                        let result = object([
                            ("resultType", "input_required".into()),
                            ("requestState", "s-1".into()),
                            ("inputRequests", asked),
                        ]);
                        Some(reply(&id, result))
                    }
                    Some(_) => Some(reply(&id, text("thank you", false))),
                },
                // It is a task: working, until its result has been asked for twice.
                "job" => {
                    let task = [("taskId", "t-1".into()), ("status", "working".into()), ("resultType", "task".into())];
                    Some(reply(&id, object(task)))
                }
                _ => Some(error(&id, "-32602", "unknown tool")),
            }
        }
        "tasks/get" => {
            let id = id?;
            waiting.push(id.clone());
            let status = if waiting.len() < 2 { "working" } else { "completed" };
            let state = [("taskId", "t-1".into()), ("status", status.into()), ("result", text("done at last", false))];
            Some(reply(&id, object(state)))
        }
        _ => id.map(|id| reply(&id, object([]))),
    }
}
