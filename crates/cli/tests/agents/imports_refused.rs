//! Promise: a call that the log does not take is named with its place, the calls around it are recorded, and every count is that of
//! the log. Invariants H7 and R40.

use crate::common::{Place, Ran, call, json};
use attestlog::json::Json;
use attestlog::redact::Policy;
use attestlog::{AuditLog, Error, ErrorKind, NOWHERE, Options, Query, Receipt, Sender, Told, ToolCall};
use attestlog_capture::import::{self, Format, ImportOptions, Imported, Untaken};
use std::cell::Cell;

fn read(format: Format, text: &str) -> Imported {
    import::calls(format, text.as_bytes(), &ImportOptions::new().user("u")).unwrap()
}

/// A line that the log takes.
fn good(n: usize) -> String {
    call("c", "u", "look", &format!(r#""call_id":"n{n}""#))
}

/// Lines that the log refuses when it records them, each for another reason. Entry 0 is the beginning of the log.
fn bad() -> Vec<String> {
    let patients: Vec<String> = (0..10_001).map(|n| format!("\"P-{n}\"")).collect();
    [
        r#""retry_of":99999999"#,
        r#""follow_up_of":99999999"#,
        r#""retry_of":0"#,
        r#""grant":99999999"#,
        r#""retention_class":"forever""#,
        r#""session_metadata":{"mcp":{"further_patients":true}}"#,
        &format!(r#""arguments":{{"patient_id":[{}]}}"#, patients.join(",")),
    ]
    .iter()
    .enumerate()
    .map(|(n, member)| call("c", "u", "look", &format!(r#""call_id":"bad{n}",{member}"#)))
    .chain([
        // A number that has been given to another call.
        call("c", "u", "look", r#""sender":{"id":"s","number":7}"#),
    ])
    .collect()
}

fn number(json: &Json, member: &str) -> u64 {
    json.get(member).and_then(Json::as_u64).unwrap_or_else(|| panic!("{member}: {json:?}"))
}

fn not_taken(json: &Json) -> Vec<(String, String)> {
    let text = |one: &Json, member: &str| one.get(member).unwrap().as_str().unwrap().to_owned();
    let all = json.get("not_taken").unwrap().as_array().unwrap();
    let mut all: Vec<_> = all.iter().map(|one| (text(one, "place"), text(one, "kind"))).collect();
    // What is refused on reading comes before what is refused on recording.
    all.sort_by_key(|(place, _)| place.strip_prefix("line ").and_then(|number| number.parse::<u64>().ok()));
    all
}

/// Checks that what an import says is what the log has; `before` is the log's size before it.
fn told_truly(place: &Place, ran: &Ran, before: u64) -> (u64, u64) {
    let told = json(&ran.out);
    let seqs: Vec<u64> = {
        let log = AuditLog::open(place.path("s")).unwrap();
        let entries = log.query(&Query::new().user("u")).unwrap();
        entries.map(|entry| entry.unwrap().seq).filter(|seq| *seq >= before).collect()
    };
    assert_eq!(number(&told, "recorded"), seqs.len() as u64, "{}", ran.out);
    let ends = ["first_seq", "last_seq"].map(|end| told.get(end).and_then(Json::as_u64));
    assert_eq!(ends, [seqs.first().copied(), seqs.last().copied()]);
    (number(&told, "recorded"), number(&told, "already_there"))
}

fn size(place: &Place) -> u64 {
    AuditLog::open(place.path("s")).unwrap().size().unwrap()
}

/// Of 13,001 lines the 12,001st retried an entry that was not there. The import ended with "retry_of: no entry 99999999 is recorded
/// yet", without the line, and with exit code 2, which means that nothing of the file is in the log; `--json` said
/// `"recorded":0`; 10,000 calls were in the log, and a thousand good lines were not. So it was with a grant, a retention class, and
/// whatever else the log refuses as it records.
#[test]
fn a_refused_line_is_named_and_the_others_are_recorded_and_counted() {
    let place = Place::with_store();
    place.run_with(&["record", "s"], call("c", "other", "t", r#""sender":{"id":"s","number":7}"#).as_bytes()).ok();
    // More than one batch of 10,000, with bad lines in both, the first and the last among them.
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    let mut bad = bad().into_iter();
    for n in 0..10_400 {
        if [0, 1, 4_000, 9_998, 9_999, 10_000, 10_200].contains(&n) {
            lines.push(bad.next().unwrap());
            wrong.push(format!("line {}", lines.len()));
        }
        lines.push(good(n));
    }
    lines.extend(bad.by_ref());
    wrong.push(format!("line {}", lines.len()));
    let kinds: Vec<_> = wrong.iter().map(|line| (line.clone(), "line".to_owned())).collect();
    place.write("f.jsonl", lines.concat());
    let args = ["import", "s", "--format", "jsonl", "--json", "f.jsonl"];
    let before = size(&place);
    let first = place.run(&args).code(1);
    let told = json(&first.out);
    let named = not_taken(&told);
    assert_eq!(named.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>(), wrong);
    // A number that is taken is another call of the same identity, whatever it is called.
    assert_eq!(named[..7], kinds[..7]);
    assert_eq!(told_truly(&place, &first, before), (10_400, 0));
    assert!(first.err.contains("f.jsonl: line 1: retry_of: no entry 99999999 is recorded yet"), "{}", first.err);
    // Again: what was recorded is known, and what was refused is named again.
    let before = size(&place);
    let again = place.run(&args).code(1);
    assert_eq!(not_taken(&json(&again.out)), named);
    assert_eq!(told_truly(&place, &again, before), (0, 10_400));
    place.write("g.jsonl", [&lines[..4], &lines[lines.len() - 1..]].concat().concat());
    let text = place.run(&["import", "s", "--format", "jsonl", "g.jsonl"]).code(1);
    assert!(text.out.contains("2 calls are in the log already"), "{}", text.out);
    assert!(text.out.contains("NOT recorded: 1 call, 2 lines"), "{}", text.out);
    assert!(!text.err.contains("not imported"), "{}", text.err);
}

/// Through the process that has the store open, numbered calls go in several commits: a refused one was named by its place in its
/// commit, and with `--again` calls without numbers beside numbered ones would have been recorded twice.
#[test]
fn a_refused_line_is_named_by_its_place_through_another_process_too() {
    let place = Place::with_store();
    let owner = Options::new().open(place.path("s")).unwrap();
    let mut lines: Vec<String> = (0..300).map(good).collect();
    lines[200] = call("c", "u", "look", r#""call_id":"x","retry_of":99999999"#);
    lines[10] = call("c", "u", "look", r#""sender":{"id":"own","number":1}"#);
    place.write("f.jsonl", lines.concat());
    let there = || owner.count(&Query::new().user("u")).unwrap();
    for more in [&[][..], &["--again"]] {
        let before = there();
        let ran = place.run(&[&["import", "s", "--format", "jsonl", "--json", "f.jsonl"], more].concat()).code(1);
        let told = json(&ran.out);
        assert_eq!(not_taken(&told), [("line 201".to_owned(), "line".to_owned())]);
        // The call with a number of its own is there once.
        let new = if more.is_empty() { 299 } else { 298 };
        assert_eq!((number(&told, "recorded"), there() - before), (new, new), "{}", ran.out);
    }
    let guest = AuditLog::open(place.path("s")).unwrap();
    let calls = (0..130).map(|n| {
        let call = ToolCall::new("c", "u", "look").sender(Sender::new("batch", n + 1));
        if n == 100 { call.retry_of(99_999_999) } else { call }
    });
    let error = guest.record_batch(calls).unwrap_err();
    assert_eq!((error.kind(), error.place().unwrap().call), (ErrorKind::InvalidInput, Some(100)), "{error}");
}

/// One call of a transcript that named too many patients, or whose arguments were too large, kept the whole file from being
/// imported, in every format.
#[test]
fn a_refused_call_of_a_transcript_is_named_and_the_others_are_recorded() {
    let patients: Vec<String> = (0..10_001).map(|n| format!("\"P-{n}\"")).collect();
    let many = format!(r#"{{"patient_id":[{}]}}"#, patients.join(","));
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(5 << 20));
    let chat = |id: &str, arguments: &str| {
        let arguments = Json::from(arguments).to_canonical();
        format!(
            r#"{{"role":"assistant","tool_calls":[{{"id":"{id}","function":{{"name":"t","arguments":{arguments}}}}}]}},
                {{"role":"tool","tool_call_id":"{id}","content":"done"}}"#
        )
    };
    let anthropic = |id: &str, arguments: &str| {
        format!(
            r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"{id}","name":"t","input":{arguments}}}]}},
                {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"{id}","content":"done"}}]}}"#
        )
    };
    let span = |id: &str, arguments: &str| {
        let arguments = Json::from(arguments).to_canonical();
        let text = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":{value}}}}}"#);
        let (operation, tool) = (text("gen_ai.operation.name", "\"execute_tool\""), text("gen_ai.tool.name", "\"t\""));
        let arguments = text("gen_ai.tool.call.arguments", arguments.as_str());
        format!(
            r#"{{"traceId":"a","spanId":"{id}","name":"execute_tool t","startTimeUnixNano":"1780000000000000001",
                "endTimeUnixNano":"1780000000000000002","attributes":[{operation},{tool},{arguments}]}}"#
        )
    };
    for fault in [&many, &large] {
        let of = |one: &dyn Fn(&str, &str) -> String| [one("a", "{}"), one("b", fault), one("c", "{}")].join(",");
        let files = [
            (Format::OpenAiChat, format!(r#"{{"id":"s","messages":[{}]}}"#, of(&chat))),
            (Format::Anthropic, format!(r#"{{"id":"s","messages":[{}]}}"#, of(&anthropic))),
            (Format::OtlpJson, format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, of(&span))),
        ];
        for (format, text) in files {
            let log = AuditLog::in_memory().unwrap();
            let imported = read(format, &text);
            let read_so_far = imported.not_taken.clone();
            let recorded = import::record(&log, imported, false, |_| ()).unwrap();
            let all = [read_so_far, recorded.not_taken].concat();
            let name = format.as_str();
            assert_eq!((recorded.receipts.len(), all.len()), (2, 1), "{name}: {all:?}");
            assert_eq!(all[0].kind, Untaken::Call, "{name}");
            assert!(!all[0].place.is_empty() && !all[0].why.starts_with("call "), "{name}: {}", all[0]);
        }
    }
}

/// A log whose disk is full once this many calls are recorded, and that, as one in another process does, keeps the calls before.
struct FullAfter<'a>(&'a AuditLog, Cell<usize>);

impl import::Log for FullAfter<'_> {
    fn put(&self, calls: Vec<ToolCall>) -> attestlog::Result<Vec<Receipt>> {
        let mut receipts = Vec::new();
        for call in calls {
            // Known calls, and questions about them, need no room.
            let asks = call.clone().follow_up_of(NOWHERE);
            if call.follows != Some(NOWHERE) && self.0.record_batch([asks]).is_err() {
                let full = || Error::new(ErrorKind::DiskFull, "no room");
                self.1.set(self.1.get().checked_sub(1).ok_or_else(full)?);
            }
            receipts.push(self.0.record_batch([call])?.remove(0));
        }
        Ok(receipts)
    }

    fn entries(&self) -> attestlog::Result<u64> {
        self.0.size()
    }

    fn unanswered(&self, seqs: &[u64]) -> attestlog::Result<Vec<u64>> {
        self.0.unanswered(seqs)
    }

    fn policy(&self) -> attestlog::Result<Policy> {
        Ok(self.0.retention().policies()?.redaction)
    }

    fn tell(&self, calls: Vec<(ToolCall, u64)>) -> attestlog::Result<Vec<Told>> {
        self.put(calls.iter().map(|(call, _)| call.clone()).collect())?;
        self.0.tell(calls)
    }
}

/// If the store failed in the middle of a file, the caller was told nothing of what had been recorded before.
#[test]
fn a_store_that_fails_in_the_middle_leaves_a_true_count() {
    let log = AuditLog::in_memory().unwrap();
    let text: String = (0..10).map(good).collect();
    let full = FullAfter(&log, Cell::new(4));
    let stopped = import::record(&full, read(Format::Jsonl, &text), false, |_| ()).unwrap_err();
    let there = log.count(&Query::new().user("u")).unwrap();
    assert_eq!((stopped.error.kind(), stopped.recorded.receipts.len() as u64), (ErrorKind::DiskFull, there));
    assert!(stopped.to_string().ends_with(&format!("({there} calls before that were recorded)")), "{stopped}");
    assert_eq!(Error::from(stopped).kind(), ErrorKind::DiskFull);
    let rest = import::record(&log, read(Format::Jsonl, &text), false, |_| ()).unwrap();
    assert_eq!((rest.repeated as u64, rest.receipts.len() as u64), (there, 10 - there));
}

/// `import --conversation conv-7 w1.json` said that the session had no id and that one should be given with --conversation. It had
/// been; and whoever followed the advice recorded the session's calls twice.
#[test]
fn the_advice_about_sessions_without_an_id_is_of_use() {
    let place = Place::with_store();
    let answer = r#"{"role":"tool","tool_call_id":"a","content":"done"}"#;
    let made = r#"{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"t","arguments":"{}"}}]}"#;
    let session = |messages: &str| format!("[{messages}]");
    place.write("w1.json", session(&format!(r#"{{"role":"user","content":"hello"}},{made},{answer}"#)));
    place.write("w2.json", session(&format!("{made},{answer}")));
    let import = |file: &str, more: &[&str]| {
        place.run(&[&["import", "s", "--format", "openai-chat", "--user", "u", file], more].concat())
    };
    for more in [&[][..], &["--conversation", "conv-7"]] {
        let err = import("w1.json", more).code(0).err;
        let advice = "Only an id in the file (`conversation_id` or `id`) changes that; --conversation does not";
        assert_eq!(err.contains(advice), more.is_empty(), "only of new calls: {err}");
    }
    // With the id in the file, the session that has lost its beginning is known.
    for (name, messages, new) in [
        ("n1.json", format!(r#"{{"role":"user","content":"hello"}},{made},{answer}"#), true),
        ("n2.json", format!("{made},{answer}"), false),
    ] {
        place.write(name, format!(r#"{{"conversation_id":"conv-8","messages":[{messages}]}}"#));
        let out = place.run(&["import", "s", "--format", "openai-chat", "--user", "u", "--json", name]).out;
        assert_eq!(number(&json(&out), "recorded") == 1, new, "{out}");
    }
}

/// A line of a `jsonl` without ids and times could not be read. The user corrected it and imported the file again, as the message
/// suggested ("only an id in the file"): every call after that line was in the log twice, exit code 0. And a call's own
/// conversation was recorded although `--conversation` gave another.
#[test]
fn the_advice_about_lines_without_an_id_is_of_use() {
    let place = Place::with_store();
    let call = |tool: &str, more: &str| {
        format!("{{\"tool_name\":\"{tool}\",\"user_id\":\"u\",\"conversation_id\":\"c\"{more}}}\n")
    };
    place.write("a.jsonl", call("a", "") + "{\"tool_name\":\n" + &call("b", ""));
    let import = |file: &str, more: &[&str]| place.run(&[&["import", "s", "--format", "jsonl", file], more].concat());
    let err = import("a.jsonl", &[]).code(1).err;
    assert!(err.contains("2 calls have neither call_id nor timestamp"), "{err}");
    assert!(err.contains("Put the lines that you correct into a file of their own"), "{err}");
    place.write("again.jsonl", call("c", ""));
    let err = import("again.jsonl", &[]).code(0).err;
    assert!(err.contains("1 call has neither call_id nor timestamp") && !err.contains("correct"), "{err}");
    assert_eq!(place.run(&["query", "s", "--user", "u", "--count"]).code(0).out.trim(), "3");

    // A record with an id is known, whatever the flags say of its conversation.
    place.write("ids.jsonl", call("d", ",\"call_id\":\"d-1\""));
    for (more, new) in [(&["--conversation", "flag"][..], 1), (&["--conversation", "other"], 0), (&[], 0)] {
        let out = import("ids.jsonl", &[more, &["--json", "--user", "v"]].concat()).code(0).out;
        assert_eq!(number(&json(&out), "recorded"), new, "{out}");
    }
    let found = place.run(&["query", "s", "--conversation", "flag", "--user", "v", "--count"]).code(0).out;
    assert_eq!(found.trim(), "1", "the flags take the place of what the line says");
}

/// Two users' records of the same id, imported with `--user`: the second was "in the log already", although the file tells them
/// apart. Now the entry has what the flag replaced, and the second is named.
#[test]
fn a_flag_does_not_make_two_records_one() {
    let place = Place::with_store();
    let call = |user: &str| {
        format!("{{\"tool_name\":\"t\",\"user_id\":\"{user}\",\"conversation_id\":\"c\",\"call_id\":\"1\"}}\n")
    };
    let import = |user: &str| {
        place.write("one.jsonl", call(user));
        place.run(&["import", "s", "--format", "jsonl", "one.jsonl", "--user", "svc", "--json"])
    };
    assert_eq!(number(&json(&import("alice").code(0).out), "recorded"), 1);
    assert_eq!(number(&json(&import("alice").code(0).out), "already_there"), 1);
    let ran = import("bob").code(1);
    assert_eq!((number(&json(&ran.out), "recorded"), number(&json(&ran.out), "already_there")), (0, 0), "{ran:?}");
    assert!(ran.out.contains("line 1"), "{}", ran.out);
    let found = place.run(&["query", "s", "--user", "svc", "--json"]).code(0).out;
    assert!(found.contains(r#""import":{"replaced":{"user_id":"alice"}"#), "{found}");
}
