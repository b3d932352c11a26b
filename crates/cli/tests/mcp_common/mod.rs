//! A Model Context Protocol host for tests: the proxy with a server made of a few shell lines.
#![allow(dead_code, reason = "each test file uses its part")]

use super::common::{Place, json};
use attestlog::json::Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

pub struct Host {
    pub child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Host {
    /// Starts the proxy with these flags in front of this command, in the place's folder.
    pub fn start(place: &Place, flags: &[&str], server: &[&str]) -> Host {
        let args = [&["mcp", "s", "--user", "u", "--conversation", "c"], flags, &["--"], server].concat();
        Host::bare(place, &args)
    }

    /// Starts the program with just these arguments.
    pub fn bare(place: &Place, args: &[&str]) -> Host {
        let mut child = place.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().map(BufReader::new);
        Host { input: child.stdin.take(), child, output }
    }

    /// Starts the proxy with a server of shell lines.
    pub fn sh(place: &Place, flags: &[&str], script: &str) -> Host {
        Host::start(place, flags, &["sh", "-c", script])
    }

    pub fn say(&mut self, line: impl AsRef<[u8]>) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_ref()).and_then(|()| input.write_all(b"\n")).unwrap();
    }

    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends the host; returns the remaining output.
    pub fn end(mut self) -> String {
        self.close();
        let mut rest = String::new();
        self.output.take().unwrap().read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap();
        rest
    }

    /// The host stops listening, and keeps running.
    pub fn deafen(&mut self) {
        self.output = None;
    }

    pub fn close(&mut self) {
        drop(self.input.take());
    }
}

/// A call of `tool`.
pub fn call(id: &str, tool: &str, arguments: &str) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#))
}

pub fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// The lines of all calls, begun and ended.
pub fn lines(place: &Place) -> Vec<Json> {
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call", "--kind", "call_begun"]).ok();
    lines.lines().map(json).collect()
}

pub fn ends(place: &Place) -> Vec<Json> {
    lines(place).into_iter().filter(|l| text(l, "kind") == "tool_call").collect()
}

pub fn text(line: &Json, path: &str) -> String {
    let at = path.split('.').try_fold(line, |at, key| at.get(key));
    at.map_or(String::new(), |v| v.as_str().map_or_else(|| v.to_canonical().to_string(), str::to_owned))
}
