//! Promise: what agents write to their folders is in the log, whatever the format, once, and whatever is not is named.

use crate::common::{Place, json};
use attestlog::json::Json;
use serde_json::{Value, json as value};
use std::io::{Read, Write};
use std::process::Child;
use std::time::{Duration, Instant};

fn number(json: &Json, member: &str) -> u64 {
    json.get(member).and_then(Json::as_u64).unwrap_or_else(|| panic!("{member}: {json:?}"))
}

fn claude(id: &str, answered: bool) -> String {
    let row = |kind: &str, uuid: &str, second: u8, content: Value| {
        value!({"type": kind, "uuid": uuid, "sessionId": "s-c", "isSidechain": false, "timestamp": format!("2026-02-10T17:00:{second:02}Z"),
            "message": {"role": kind, "content": content}})
        .to_string()
            + "\n"
    };
    let made = value!([{"type": "tool_use", "id": id, "name": "Bash", "input": {}}]);
    let said = value!([{"type": "tool_result", "tool_use_id": id, "content": "ok"}]);
    let mut rows = row("assistant", &format!("a-{id}"), 1, made);
    if answered {
        rows += &row("user", &format!("u-{id}"), 2, said);
    }
    rows
}

fn chat(id: &str) -> String {
    value!({"id": id, "messages": [
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"}]})
    .to_string()
}

/// Folders of agents could not be given, and every file needed its own `--format`, which few people knew.
#[test]
fn folders_and_files_of_every_format_are_imported_together() {
    let place = Place::with_store();
    std::fs::create_dir_all(place.path("home/projects/deep")).unwrap();
    place.write("home/projects/a.jsonl", claude("t1", true));
    place.write("home/projects/deep/chat.json", chat("s-1"));
    place.write("home/settings.json", r#"{"model":"x"}"#);
    place.write("home/notes.txt", "no session");
    place.write("home/odd.json", r#"{"hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{}}"#);
    #[cfg(unix)]
    std::os::unix::fs::symlink(place.path("home"), place.path("home/projects/loop")).unwrap();
    let ran = place.run(&["import", "s", "home", "--user", "u", "--json"]).code(1);
    let told = json(&ran.out);
    assert_eq!((number(&told, "files"), number(&told, "calls"), number(&told, "recorded")), (4, 2, 2), "{}", ran.out);
    let named = told.get("not_taken").and_then(Json::as_array).unwrap();
    assert_eq!(named.len(), 1, "{}", ran.out);
    assert!(named[0].get("file").and_then(Json::as_str).unwrap().ends_with("odd.json"));
    assert!(ran.err.contains("settings.json: is no session"), "{}", ran.err);
    let again = json(&place.run(&["import", "s", "home/projects", "--user", "u", "--json"]).code(0).out);
    assert_eq!((number(&again, "recorded"), number(&again, "already_there")), (0, 2));
    assert_eq!(again.get("format").and_then(Json::as_str), Some("auto"), "files of several formats");
    // One file says its format; standard input is known as well.
    let piped = place.run_with(&["import", "s", "-", "--user", "u", "--json"], claude("t2", true).as_bytes()).code(0);
    assert_eq!(json(&piped.out).get("format").and_then(Json::as_str), Some("claude-code"));
    let unknown = place.run(&["import", "s", "home/settings.json"]).code(2);
    assert!(unknown.err.contains("is no session, transcript or trace"), "{}", unknown.err);
    let nobody = place.run(&["import", "s", "home/projects/a.jsonl"]).code(2);
    assert!(nobody.err.contains("no user is known: say it with --user"), "{}", nobody.err);
}

/// The sub-agent's file says nothing of its parent; the file beside it does.
#[test]
fn a_sub_agent_s_parent_is_found_in_the_file_beside_it() {
    let place = Place::with_store();
    std::fs::create_dir_all(place.path("p/subagents")).unwrap();
    place.write(
        "p/subagents/agent-a1.jsonl",
        claude("t1", true).replace("\"isSidechain\":false", "\"isSidechain\":true,\"agentId\":\"a1\""),
    );
    place.write("p/subagents/agent-a1.meta.json", r#"{"agentType":"general","toolUseId":"t0"}"#);
    let told = json(&place.run(&["import", "s", "p", "--user", "u", "--json"]).code(0).out);
    assert_eq!((number(&told, "files"), number(&told, "recorded")), (1, 1));
    let line = place.run(&["query", "s", "--kind", "tool_call", "--json"]).ok();
    assert!(line.contains(r#""parent_call_id":"t0""#) && line.contains(r#""agent_id":"a1""#), "{line}");
}

/// OpenCode keeps its sessions in a database, which it has open.
#[test]
fn the_database_of_opencode_is_read_while_it_is_open() {
    let place = Place::with_store();
    let log = rusqlite::Connection::open(place.path("opencode.db")).unwrap();
    log.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE session (id TEXT PRIMARY KEY, parent_id TEXT, directory TEXT, time_created INTEGER);
         CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, data TEXT);
         CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, data TEXT);
         INSERT INTO session VALUES ('ses_2', 'ses_1', '/w', 1);
         INSERT INTO message VALUES ('m1', 'ses_2', 1, '{\"role\":\"assistant\",\"modelID\":\"claude-x\"}');",
    )
    .unwrap();
    let part = |id: &str, call: &str, status: &str| {
        let state = value!({"status": status, "input": {"command": "ls"}, "output": "a", "metadata": {"exit": 0}, "time": {"start": 1795915675677u64, "end": 1795915675987u64}});
        let data = value!({"type": "tool", "tool": "bash", "callID": call, "state": state}).to_string();
        log.execute("INSERT OR REPLACE INTO part VALUES (?1, 'm1', 'ses_2', 2, ?2)", [id, data.as_str()]).unwrap();
    };
    part("p1", "c1", "completed");
    part("p2", "c2", "running");
    let import = || json(&place.run(&["import", "s", "opencode.db", "--user", "u", "--json"]).code(0).out);
    let told = import();
    assert_eq!((number(&told, "recorded"), number(&told, "abandoned")), (2, 1));
    assert_eq!(told.get("format").and_then(Json::as_str), Some("opencode"));
    part("p2", "c2", "completed");
    let told = import();
    assert_eq!((number(&told, "recorded"), number(&told, "late_answers")), (0, 1));
    drop(log);
    let before: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let told = import();
    assert_eq!((number(&told, "recorded"), number(&told, "already_there")), (0, 2));
    let after: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after, "no file is left beside a database that nobody has open");
    let line = place.run(&["query", "s", "--kind", "tool_call", "--json"]).ok();
    assert!(line.contains(r#""parent_agent_id":"ses_1""#) && line.contains(r#""model":"claude-x""#), "{line}");
    place.write("other.db", {
        let other = rusqlite::Connection::open(place.path("made.db")).unwrap();
        other
            .execute_batch("CREATE TABLE t (a); CREATE VIEW part AS SELECT 1; CREATE VIEW message AS SELECT 1;")
            .unwrap();
        drop(other);
        std::fs::read(place.path("made.db")).unwrap()
    });
    let ran = place.run(&["import", "s", "other.db", "--user", "u"]).code(2);
    assert!(ran.err.contains("is a database, and not OpenCode's"), "{}", ran.err);
}

/// SQLite keeps a value of any type in any column: one row without data, or without an id, cost every session of the database.
#[test]
fn a_row_of_another_type_costs_only_itself() {
    let place = Place::with_store();
    let log = rusqlite::Connection::open(place.path("opencode.db")).unwrap();
    log.execute_batch(
        r#"CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, data TEXT);
         CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, data TEXT);
         INSERT INTO message VALUES ('m1', 's', 1, '{"role":"assistant"}');
         INSERT INTO part VALUES ('p1', 'm1', 's', 2, '{"type":"tool","tool":"bash","callID":"c1","state":{"status":"completed","input":{},"output":"a"}}');
         INSERT INTO part VALUES (NULL, 'm1', 's', 3, CAST('{"type":"tool","tool":"bash","callID":"c2","state":{"status":"completed","input":{},"output":"a"}}' AS BLOB));
         INSERT INTO part VALUES ('p3', 'm1', 's', 4, NULL);"#,
    )
    .unwrap();
    drop(log);
    let ran = place.run(&["import", "s", "opencode.db", "--user", "u", "--json"]).code(1);
    assert_eq!(number(&json(&ran.out), "recorded"), 2);
    assert!(ran.err.contains("toolCall"), "the row without data is named: {}", ran.err);
}

/// A script that runs from time to time.
#[test]
fn watch_once_records_what_is_there_and_names_what_is_not_taken() {
    let place = Place::with_store();
    std::fs::create_dir(place.path("w")).unwrap();
    place.write("w/a.jsonl", claude("t1", true) + &claude("t2", false));
    let ran = place.run(&["watch", "s", "w", "--user", "u", "--once"]).code(0);
    assert!(ran.out.contains("a.jsonl: 2 new calls recorded"), "{}", ran.out);
    assert_eq!(place.run(&["watch", "s", "w", "--user", "u", "--once"]).code(0).out, "");
    // The file was replaced by another, and a line was torn off.
    place.write("w/a.jsonl", claude("t3", true) + "{\"type\":\"assist");
    let ran = place.run(&["watch", "s", "w", "--user", "u", "--once"]).code(1);
    assert!(ran.out.contains("1 new call recorded") && ran.err.contains("a.jsonl: line 3"), "{ran:?}");
    assert_eq!(place.count(&["--kind", "tool_call"]), 3);
}

/// Ends the program if the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until this many calls are in the log.
#[track_caller]
fn wait_for(place: &Place, calls: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while place.count(&["--kind", "tool_call"]) < calls {
        assert!(Instant::now() < until, "{calls} calls were not recorded");
        std::thread::yield_now();
    }
    assert_eq!(place.count(&["--kind", "tool_call"]), calls);
}

/// A call is recorded as it is written, also in a file that is made later, cut off, or replaced; a half-written line is not
/// complained of; and a signal ends the command as it should [R110].
#[cfg(unix)]
#[test]
fn watch_follows_what_is_written_until_it_is_told_to_end() {
    let place = Place::with_store();
    std::fs::create_dir(place.path("w")).unwrap();
    let mut running = Running(place.command(&["watch", "s", "w", "--user", "u", "--every", "1"]).spawn().unwrap());
    place.write("w/a.jsonl", claude("t1", true));
    wait_for(&place, 1);
    let (whole, half) = (claude("t2", true), claude("t3", true));
    place.write("w/a.jsonl", claude("t1", true) + &whole + &half[..50]);
    wait_for(&place, 2);
    place.write("w/a.jsonl", claude("t1", true) + &whole + &half);
    wait_for(&place, 3);
    std::fs::create_dir(place.path("w/later")).unwrap();
    place.write("w/later/chat.json", chat("s-9"));
    wait_for(&place, 4);
    std::fs::rename(place.path("w/a.jsonl"), place.path("w/a.1.jsonl")).unwrap();
    place.write("w/a.jsonl", claude("t4", true));
    wait_for(&place, 5);
    let id = nix::unistd::Pid::from_raw(running.0.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let mut err = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(!err.contains("line"), "{err}");
    assert!(place.run(&["verify", "s"]).code == 0);
}

/// A file that was removed within half a minute took its unanswered calls with it, and what was written last before a file was removed
/// or replaced by another was never read [R110].
#[cfg(unix)]
#[test]
fn watch_reads_a_file_to_its_end_though_its_name_is_gone() {
    let place = Place::with_store();
    std::fs::create_dir(place.path("w")).unwrap();
    let running = Running(place.command(&["watch", "s", "w", "--user", "u", "--every", "1"]).spawn().unwrap());
    let (file, append) = (place.path("w/a.jsonl"), |rows: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(place.path("w/a.jsonl")).unwrap();
        file.write_all(rows.as_bytes()).unwrap();
    });
    place.write("w/a.jsonl", claude("t1", true) + &claude("t2", false));
    wait_for(&place, 1);
    append(&(claude("t3", true) + claude("t4", true).trim_end()));
    std::fs::remove_file(&file).unwrap();
    wait_for(&place, 4);
    place.write("w/a.jsonl", claude("t5", true));
    wait_for(&place, 5);
    append(&claude("t6", true));
    place.write("other", claude("t7", true));
    std::fs::rename(place.path("other"), &file).unwrap();
    wait_for(&place, 7);
    // A file that has another name is not at its end: its call is not given up.
    append(&claude("t8", false));
    append(&claude("t9", true));
    wait_for(&place, 8);
    std::fs::rename(&file, place.path("w/b.jsonl")).unwrap();
    place.write("w/c.jsonl", claude("t10", true));
    wait_for(&place, 9);
    drop(running);
    let outcomes = place.run(&["query", "s", "--kind", "tool_call", "--json"]).ok();
    assert_eq!(outcomes.matches(r#""outcome":"abandoned""#).count(), 1, "{outcomes}");
    assert_eq!(place.run(&["verify", "s"]).code, 0);
}
