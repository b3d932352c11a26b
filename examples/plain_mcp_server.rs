// A Model Context Protocol server in a few lines, with the usual reader of this language: one of those that the tests put
// behind the proxy to see that what it runs is what is recorded. What it runs is written to the file named in SEEN.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]
use serde::Deserialize;
use std::io::{self, BufRead, Write};

#[derive(Deserialize)]
struct Message {
    id: Option<serde_json::Value>,
    method: Option<String>,
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    name: Option<String>,
    #[serde(default)]
    arguments: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Frame {
    One(Message),
    Many(Vec<Message>),
}

fn main() {
    let Some(seen) = std::env::var_os("SEEN") else {
        println!("SEEN names the file that is told of every call");
        return;
    };
    let mut seen = std::fs::File::create(seen).unwrap();
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).unwrap() > 0 {
        let messages = match serde_json::from_slice(&line) {
            Ok(Frame::One(message)) => vec![message],
            Ok(Frame::Many(messages)) => messages,
            Err(_) => Vec::new(),
        };
        for Message { id, method, params } in messages {
            let (Some("tools/call"), Some(Params { name: Some(name), arguments })) = (method.as_deref(), params) else {
                continue;
            };
            writeln!(seen, "{}", serde_json::json!({"name": name, "arguments": arguments})).unwrap();
            println!("{}", serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
        }
        line.clear();
    }
}
