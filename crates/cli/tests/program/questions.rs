//! What a developer and an engineer ask: why did the agent fail, which tools fail or are slow, and what has changed.

use crate::common::{Place, call, json};
use attestlog::json::Json;
use std::process::Stdio;

/// Two weeks: `search` of two servers, the second of which begins to fail; a conversation of several agents; a retry.
fn fortnight() -> Place {
    let mut lines = String::new();
    for day in 1..=14 {
        for n in 0..6 {
            let failed = day > 7 && n % 2 == 1;
            let (server, model) = if n % 2 == 0 { ("crm", "m1") } else { ("web", "m2") };
            let end = if failed { r#""error":{"type":"Upstream","message":"no answer"}"# } else { r#""result":1"# };
            let more = format!(
                r#""timestamp":"2025-07-{day:02}T10:0{n}:00Z","duration_ms":{},"tool_server":"{server}","model":"{model}",{end}"#,
                100 * (n + 1)
            );
            lines += &call(&format!("day{day}"), "ann", "search", &more);
        }
    }
    Place::with_lines(&lines)
}

fn one_conversation() -> Place {
    let at = |n: u64, more: &str| {
        let more =
            format!(r#""timestamp":"2025-07-01T22:30:0{n}Z","model":"m1","tool_server":"crm","turn_number":1,{more}"#);
        call("c1", "ann", "look_up", &more)
    };
    let lines = [
        at(0, r#""agent_id":"main","arguments":{"order":"59XX6W","why":"a  \"b\""},"result":1"#),
        at(
            1,
            r#""agent_id":"sub","parent_agent_id":"main","error":{"type":"Busy","message":"try again"},"duration_ms":900"#,
        ),
        at(2, r#""agent_id":"sub","parent_agent_id":"main","retry_of":3,"result":1,"duration_ms":20"#),
        call("c2", "bob", "other", r#""timestamp":"2025-07-02T00:00:00Z","result":1"#),
    ];
    Place::with_lines(&lines.concat())
}

/// A row did not say of which conversation it was, the error stood behind the arguments, where it was cut, and a query that found
/// nothing printed nothing.
#[test]
fn a_row_says_what_the_next_command_needs() {
    let place = one_conversation();
    let rows = place.run(&["query", "s", "--failed"]).ok();
    for said in ["CONVERSATION", "TOOK", "c1", "900 ms", "✗ Busy: try again"] {
        assert!(rows.contains(said), "{said:?} in {rows}");
    }
    let columns = ["query", "s", "--conversation", "c1", "--columns", "seq,model,server,agent,turn,error,arguments"];
    let rows = place.run(&columns).ok();
    let first: Vec<&str> = rows.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["SEQ", "MODEL", "SERVER", "AGENT", "TURN", "ERROR", "ARGUMENTS"]);
    assert_eq!(
        rows.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>()[..5],
        ["3", "m1", "crm", "sub", "1"]
    );
    let wrong = place.run(&["query", "s", "--columns", "seq,colour"]).code(2);
    assert!(wrong.err.contains("there are the columns seq, time"), "{}", wrong.err);
    let none = place.run(&["query", "s", "--error", "Nothing"]).code(0);
    assert!(none.out.is_empty() && none.err.contains("no entries match"), "{none:?}");
    let empty = place.run(&["query", "s", "--user", "bob", "--json", "--failed"]).code(0);
    assert!(empty.out.is_empty() && empty.err.is_empty(), "{empty:?}");
}

#[test]
fn entries_are_found_by_what_went_wrong() {
    let place = one_conversation();
    for (filters, expected) in [
        (&["--error", "Busy"][..], 1),
        (&["--error", "tool_error"], 0),
        (&["--slower-than", "500ms"], 1),
        (&["--slower-than", "10ms", "--tool", "look_up"], 2),
        (&["--slower-than", "1s"], 0),
        (&["--grep", "59xx6w"], 1),
        (&["--grep", r#"a  "b""#], 1),
        (&["--grep", "TRY AGAIN", "--conversation", "c1"], 1),
        (&["--grep", "try again", "--conversation", "c2"], 0),
        (&["--since", "2025-07", "--kind", "tool_call"], 4),
        (&["--since", "2025-07-02", "--kind", "tool_call"], 1),
        (&["--since", "2025-07-02", "--tz", "Europe/Berlin", "--kind", "tool_call"], 4),
        (&["--until", "2025-07-02", "--tz", "America/New_York", "--kind", "tool_call"], 4),
        (&["--since", "yesterday", "--kind", "tool_call"], 0),
        (&["--since", "7d", "--kind", "genesis"], 1),
    ] {
        assert_eq!(place.count(filters), expected, "{filters:?}");
        let lines = place.run(&[&["query", "s", "--json"], filters].concat()).ok();
        assert_eq!(lines.lines().count() as u64, expected, "{filters:?}");
    }
    for bad in [&["--since", "tomorrow"][..], &["--slower-than", "fast"], &["--tz", "Mars/Base"], &["--grep", ""]] {
        place.run(&[&["query", "s"], bad].concat()).code(2);
    }
}

/// People read times in their zone, programs in UTC.
#[test]
fn times_are_shown_in_a_zone_and_written_in_utc() {
    let place = one_conversation();
    let zone = ["--tz", "Europe/Berlin"];
    let rows = place.run(&[&["query", "s", "--failed"], &zone[..]].concat()).ok();
    assert!(rows.contains("TIME (Europe/Berlin)") && rows.contains("2025-07-02 00:30:01"), "{rows}");
    let timeline = place.run(&[&["timeline", "s", "c1"], &zone[..]].concat()).ok();
    assert!(timeline.contains("2025-07-02 00:30:00 to 00:30:02 Europe/Berlin"), "{timeline}");
    let shown = place.run(&[&["show", "s", "3"], &zone[..]].concat()).ok();
    assert!(shown.contains("2025-07-02 00:30:01 Europe/Berlin"), "{shown}");
    let mut local = place.command(&["query", "s", "--failed"]);
    let out = local.env("TZ", "Asia/Tokyo").output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains("2025-07-02 07:30:01"));
    let mut line = place.command(&["query", "s", "--failed", "--json"]);
    let out = line.env("TZ", "Asia/Tokyo").output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains("\"timestamp\":\"2025-07-01T22:30:01Z\""));
}

/// There was no command that showed one entry to a person.
#[test]
fn one_call_is_shown_whole() {
    let place = one_conversation();
    let shown = place.run(&["show", "s", "3"]).ok();
    for said in [
        "#3 look_up  ✗ tool_error after 900 ms",
        "conversation  c1, turn 1",
        "ann → m1 in sub → look_up on crm",
        "error type    Busy",
        "error         try again",
        "followed by   #4 look_up (retry): ✓ ok after 20 ms",
        "started by    main",
        "proof         in the signed tree of 6 entries",
    ] {
        assert!(shown.contains(said), "{said:?} in {shown}");
    }
    let arguments = place.run(&["show", "s", "2"]).ok();
    assert!(arguments.contains("order: \"59XX6W\"") && arguments.contains(r#"why: "a  \"b\"""#), "{arguments}");
    let whole = place.run(&["show", "s", "3", "--json"]).json();
    assert_eq!(whole.get("followers").unwrap().as_array().unwrap().len(), 1);
    let part = &whole.get("parts").unwrap().as_array().unwrap()[0];
    assert_eq!(part.get("part").and_then(Json::as_str), Some("call"));
    let line = place.run(&["query", "s", "--failed", "--json"]).ok();
    assert_eq!(part.get("entry").unwrap().to_canonical().as_str(), line.trim_end());
    assert_eq!(whole.get("proof").unwrap().get("signed").and_then(Json::as_bool), Some(true));
    assert!(place.run(&["show", "s", "0"]).ok().contains("#0 genesis"));
    place.run(&["show", "s", "99"]).code(2);
}

/// "8 calls take 55 lines": each repeated who, by which model, in which agent, on which server.
#[test]
fn a_timeline_says_once_what_is_the_same_for_every_call() {
    let place = one_conversation();
    let timeline = place.run(&["timeline", "s", "c1"]).ok();
    assert_eq!(timeline.matches("m1").count(), 1, "{timeline}");
    assert_eq!(timeline.matches("crm").count(), 1, "{timeline}");
    assert!(timeline.contains("every call: model m1 · server crm"), "{timeline}");
    assert!(timeline.contains("\n  main · 1 call\n  └ sub · 2 calls\n"), "{timeline}");
    for (args, steps) in [
        (&["--failed"][..], &["#3"][..]),
        (&["--agent", "sub"], &["#3", "#4"]),
        (&["--last", "1"], &["#4"]),
        (&["--failed", "--agent", "main"], &[]),
        (&["--agent", "sub", "--last", "9"], &["#3", "#4"]),
    ] {
        let some = place.run(&[&["timeline", "s", "c1"], args].concat()).ok();
        let shown: Vec<&str> =
            some.lines().filter(|line| line.starts_with(" 22:")).filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(shown, steps, "{args:?} {some}");
        let lines = place.run(&[&["timeline", "s", "c1", "--json"], args].concat()).ok();
        assert_eq!(lines.lines().count(), steps.len(), "{args:?}");
    }
    // The conversation need not be known.
    assert_eq!(place.run(&["timeline", "s", "--seq", "4"]).ok(), timeline);
    assert!(place.run(&["timeline", "s", "--last"]).ok().starts_with("c2\n"));
    let none = place.run(&["timeline", "s"]).code(2);
    assert!(none.err.contains("attestlog conversations"), "{}", none.err);
    place.run(&["timeline", "s", "--seq", "0"]).code(2);
    let full = place.run(&["timeline", "s", "c1", "--full"]).ok();
    assert!(full.contains(r#"{"order":"59XX6W""#), "{full}");
}

#[test]
fn conversations_are_listed() {
    let place = one_conversation();
    let rows = place.run(&["conversations", "s"]).ok();
    let lines: Vec<&str> = rows.lines().collect();
    assert!(lines[1].starts_with("c2  ") && lines[2].starts_with("c1  "), "{rows}");
    assert!(lines[2].contains("ann") && lines[2].ends_with("3       1"), "{rows}");
    let failed = json(&place.run(&["conversations", "s", "--failed", "--json"]).ok());
    assert_eq!(
        (failed.get("id").and_then(Json::as_str), failed.get("calls").and_then(Json::as_u64)),
        (Some("c1"), Some(3))
    );
    let more = place.run(&["conversations", "s", "--limit", "1"]).ok();
    assert!(more.contains("… older ones") && !more.contains("c1"), "{more}");
}

#[test]
fn figures_are_told_by_groups() {
    let place = fortnight();
    let plain = place.run(&["stats", "s"]).ok();
    assert!(plain.contains("search is the name of tools of several servers (crm, web): --by tool,server"), "{plain}");
    let rows = place.run(&["stats", "s", "--by", "tool,server", "--json"]).json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let web = rows.iter().find(|row| row.get("server").and_then(Json::as_str) == Some("web")).unwrap();
    assert_eq!(
        (web.get("tool").and_then(Json::as_str), web.get("total_calls").and_then(Json::as_u64)),
        (Some("search"), Some(42))
    );
    assert_eq!(web.get("errors").unwrap().to_canonical().as_str(), r#"{"Upstream":21}"#);
    assert_eq!(web.get("success_rate").and_then(Json::as_f64), Some(0.5));
    let slow = place.run(&["stats", "s", "--slower-than", "450ms", "--json"]).json();
    assert_eq!(slow.as_array().unwrap()[0].get("total_calls").and_then(Json::as_u64), Some(28));
    let csv = place.run(&["stats", "s", "--by", "model", "--csv"]).ok();
    assert!(
        csv.starts_with("model,total_calls,success_rate,")
            && csv.contains("\nm2,42,0.5,")
            && csv.contains("Upstream=21"),
        "{csv}"
    );
    let days = place.run(&["stats", "s", "--by", "day", "--plot"]).ok();
    assert_eq!(days.lines().count(), 15, "{days}");
    assert!(days.lines().nth(1).unwrap().starts_with("2025-07-01  █") && days.contains('▒'), "{days}");
    place.run(&["stats", "s", "--by", "colour"]).code(2);
    place.run(&["stats", "s", "--by", "day,day"]).code(2);
    place.run(&["stats", "s", "--kind", "genesis"]).code(2);
}

/// Two runs were compared by eye.
#[test]
fn what_has_changed_by_more_than_chance_is_marked() {
    let place = fortnight();
    let compared =
        ["stats", "s", "--by", "server", "--compare", "7d", "--since", "2025-07-08", "--until", "2025-07-15"];
    let table = place.run(&compared).ok();
    let row = |server: &str| table.lines().find(|line| line.starts_with(server)).unwrap().to_owned();
    assert!(row("web").contains("  more") && row("web").contains("Upstream 21"), "{table}");
    assert!(row("crm").contains("as before"), "{table}");
    assert!(table.contains("99 % intervals") && table.contains("from 20 calls"), "{table}");
    let rows = place.run(&[&compared[..], &["--json"]].concat()).json();
    let web =
        rows.as_array().unwrap().iter().find(|row| row.get("server").and_then(Json::as_str) == Some("web")).unwrap();
    let before = web.get("before").unwrap();
    assert_eq!(
        (before.get("total_calls").and_then(Json::as_u64), before.get("success_rate").and_then(Json::as_f64)),
        (Some(21), Some(1.0))
    );
    assert_eq!(
        (web.get("total_calls").and_then(Json::as_u64), web.get("changed").and_then(Json::as_bool)),
        (Some(21), Some(true))
    );
    let few = place
        .run(&["stats", "s", "--by", "day", "--compare", "1d", "--since", "2025-07-14", "--until", "2025-07-15"])
        .ok();
    assert!(few.contains("few calls"), "{few}");
    place.run(&["stats", "s", "--compare", "0s"]).code(2);
    // Ten days stood beside two without a word.
    let unequal = ["stats", "s", "--compare", "2d", "--since", "2025-07-05", "--until", "2025-07-15"];
    let warned = |table: String| table.contains("not of the same length");
    assert!(warned(place.run(&unequal).ok()) && !warned(table), "{unequal:?}");
}

/// After 1,500 conversations a list ended at the fiftieth without a word, and nothing could list more than a thousand.
#[test]
fn all_conversations_are_listed_where_nobody_looks_at_a_terminal() {
    let lines: String = (0..1_203).map(|n| call(&format!("c{n}"), "ann", "t", r#""result":1"#)).collect();
    let place = Place::with_lines(&lines);
    let ids: Vec<String> = (0..1_203).rev().map(|n| format!("c{n}")).collect();
    let listed = |args: &[&str]| -> Vec<String> {
        let rows = place.run(&[&["conversations", "s", "--json"], args].concat()).ok();
        rows.lines()
            .map(|row| Json::parse(row.as_bytes()).unwrap().value.get("id").unwrap().as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(&[]), ids);
    assert_eq!(listed(&["--limit", "1100"]), ids[..1_100]);
}

/// On a terminal a query for everything scrolled past for minutes, and began with the log's own entries.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_the_newest_calls() {
    let lines: String = (0..120)
        .map(|n| call(&format!("c{n}"), "ann", "t", &format!(r#""arguments":{{"n":{n}}},"result":1"#)))
        .collect();
    let place = Place::with_lines(&lines);
    let shown = on_terminal(&place, &["query", "s"]);
    assert!(shown.contains("n: 119") && shown.contains("n: 70") && !shown.contains("n: 69"), "{shown}");
    assert!(shown.contains("… 70 more") && !shown.contains("genesis"), "{shown}");
    assert!(shown.find("n: 70").unwrap() < shown.find("n: 119").unwrap(), "the newest is nearest to the prompt");
    let newest = on_terminal(&place, &["query", "s", "--newest-first"]);
    assert!(newest.find("n: 119").unwrap() < newest.find("n: 70").unwrap());
    let own = on_terminal(&place, &["query", "s", "--all", "--limit", "3"]);
    assert!(own.contains("genesis") && own.contains("n: 0") && !own.contains("n: 1 "), "{own}");
    let some = on_terminal(&place, &["query", "s", "--limit", "2"]);
    assert!(
        some.contains("n: 0") && some.contains("n: 1") && !some.contains("genesis") && !some.contains("n: 2"),
        "{some}"
    );
}

/// What the program writes to a terminal of 200 columns.
#[cfg(target_os = "linux")]
fn on_terminal(place: &Place, args: &[&str]) -> String {
    use nix::pty::{Winsize, openpty};
    use std::io::Read;
    let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let mut command = place.command(args);
    command.stdout(Stdio::from(pty.slave)).env("TERM", "dumb");
    let mut child = command.spawn().unwrap();
    // The command holds the other end; reading ends when the program does.
    drop(command);
    let mut shown = Vec::new();
    let mut master = std::fs::File::from(pty.master);
    let mut buffer = [0; 4096];
    // Linux answers with an error once nobody has the terminal open.
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..n]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}
