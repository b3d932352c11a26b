//! Hooks of coding agents: each event is a process, and a tool runs only if its call is in the log.
#![cfg(unix)]

use crate::common::{Ended, Place, Ran, Small};
use std::io::Read;

/// An event of Claude Code's dialect about a tool.
fn event(name: &str, id: &str) -> String {
    let answer = if name == "PostToolUse" { r#","tool_response":{"stdout":"x"}"# } else { "" };
    format!(
        r#"{{"session_id":"s","cwd":"/w","hook_event_name":"{name}","tool_name":"Bash","tool_input":{{"command":"{id}"}},"tool_use_id":"{id}"{answer}}}"#
    )
}

fn hook(place: &Place, event: &str, more: &[&str]) -> Ran {
    // A process that is started to keep the store open must not outlive the test for long.
    place.run_with(&[&["hook", "claude-code", "s", "--user", "ada", "--idle", "1"], more].concat(), event.as_bytes())
}

/// What an agent takes for a yes: no output, and 0.
#[track_caller]
fn passes(ran: Ran) {
    let Ran { out, err, .. } = ran.code(0);
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
}

/// What every agent takes for a no: 2, and a text on standard error alone.
#[track_caller]
fn refuses(ran: Ran, says: &str) {
    let Ran { out, err, .. } = ran.code(2);
    assert_eq!(out, "");
    assert!(err.contains(says) && err.contains("tell the person who runs this agent"), "{err}");
}

fn unfinished(place: &Place) -> u64 {
    place.count(&["--kind", "call_begun"]) - place.count(&["--kind", "tool_call"])
}

#[test]
fn one_process_begins_a_call_and_another_ends_it() {
    let place = Place::with_store();
    passes(hook(&place, &event("PreToolUse", "1"), &[]));
    assert_eq!((place.count(&["--kind", "call_begun"]), unfinished(&place)), (1, 1));
    passes(hook(&place, &event("PostToolUse", "1"), &["--role", "engineer"]));
    passes(hook(&place, &event("PreToolUse", "2"), &[]));
    passes(hook(&place, r#"{"session_id":"s","hook_event_name":"SessionEnd"}"#, &[]));
    assert_eq!((place.count(&["--kind", "tool_call"]), unfinished(&place)), (2, 0));
    assert_eq!(place.count(&["--outcome", "abandoned"]), 1);
    assert!(place.run(&["verify", "s"]).ok().starts_with("nothing wrong found"));
}

/// Agents run tools, and so their hooks, at the same time. Nobody has the store open, so each event's process tries to.
#[test]
fn many_events_at_once_are_all_recorded_with_and_without_an_owner() {
    let place = Place::with_store();
    for (served, first) in [(false, 0), (true, 8)] {
        let owner = served.then(|| {
            let mut owner = Ended(place.command(&["serve", "s"]).spawn().unwrap());
            owner.0.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
            owner
        });
        for name in ["PreToolUse", "PostToolUse"] {
            std::thread::scope(|scope| {
                for id in first..first + 8 {
                    let place = &place;
                    scope.spawn(move || passes(hook(place, &event(name, &id.to_string()), &["--deadline", "120"])));
                }
            });
        }
        drop(owner);
    }
    assert_eq!((place.count(&["--kind", "tool_call"]), unfinished(&place)), (16, 0));
    assert!(place.run(&["verify", "s"]).ok().starts_with("nothing wrong found"));
}

/// Hooks that are configured twice run at the same time.
#[test]
fn the_same_event_at_the_same_time_is_recorded_once() {
    let place = Place::with_store();
    for name in ["PreToolUse", "PostToolUse"] {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| passes(hook(&place, &event(name, "1"), &["--deadline", "120"])));
            }
        });
    }
    assert_eq!((place.count(&["--kind", "call_begun"]), place.count(&["--kind", "tool_call"])), (1, 1));
}

/// R105.
#[test]
fn what_cannot_be_recorded_is_refused_unless_nothing_can_be_stopped() {
    let place = Place::empty();
    let before = event("PreToolUse", "1");
    refuses(hook(&place, &before, &[]), "attestlog init");
    refuses(hook(&place, &event("PostToolUse", "1"), &[]), "how this tool call ended");
    // An agent would be kept from ending.
    let stop = r#"{"session_id":"s","hook_event_name":"Stop"}"#;
    assert!(hook(&place, stop, &[]).code(1).err.contains("this event is not in the audit log"));
    // Nor if it cannot be read: an agent whose turn could not end went on for ever.
    for (input, more) in [(r#"{"hook_event_name":"Stop"}"#, &[][..]), ("no json", &["--event", "SessionEnd"])] {
        assert!(hook(&place, input, more).code(1).err.contains("this event is not in the audit log"), "{input}");
    }
    // The event's own name counts, if it has one.
    refuses(hook(&place, &before, &["--event", "Stop"]), "the tool must not run");
    // About no tool: nobody needs a store for it.
    passes(hook(&place, r#"{"session_id":"s","hook_event_name":"UserPromptSubmit","prompt":"x"}"#, &[]));
    let open = hook(&place, &before, &["--fail-open"]).code(0);
    assert!(open.out.is_empty() && open.err.contains("LET THROUGH"), "{open:?}");

    place.run(&["init", "s"]).ok();
    for (input, says) in [
        (&b"no json"[..], "not JSON"),
        (b"", "no event"),
        (br#"{"hook_event_name":"PreToolUse"}"#, "tool_name: is missing"),
        (br#"{"hook_event_name":"BeforeEverything","tool_name":"x"}"#, "is no event of claude-code"),
    ] {
        refuses(place.run_with(&["hook", "claude-code", "s"], input), says);
    }
    std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
    refuses(hook(&place, &before, &[]), "key");
    std::fs::rename(place.path("away"), place.path("s.key")).unwrap();
    refuses(hook(&place, &before, &["--passphrase-file", "-"]), "standard input");
    assert_eq!(place.count(&["--kind", "call_begun"]), 0);
    passes(hook(&place, &before, &[]));
    place.write("s", b"no store");
    refuses(hook(&place, &before, &[]), "s: ");
}

#[test]
fn a_hundred_megabytes_and_a_hundred_thousand_levels_are_refused() {
    let place = Place::with_store();
    refuses(hook(&place, &" ".repeat(100 << 20), &[]), "more than 64 MiB");
    let deep = event("PreToolUse", "1").replace("{\"command\":\"1\"}", &"[".repeat(100_000));
    refuses(hook(&place, &deep, &[]), "not JSON");
    let long = hook(&place, &event("PreToolUse", &"x".repeat(1 << 20)), &[]);
    refuses(long, "call_id");
    assert_eq!(place.count(&["--kind", "call_begun"]), 0);
}

/// One message told to make room and try again, and in the same breath that trying again would not help.
#[test]
fn a_full_disk_stops_the_tool() {
    let place = Place::empty();
    let Some(small) = Small::mount(place.dir.path(), "4m") else { return };
    place.run(&["init", "s"]).ok();
    passes(hook(&place, &event("PreToolUse", "1"), &[]));
    small.fill();
    let full = hook(&place, &event("PreToolUse", "2"), &[]);
    assert_eq!((full.err.lines().count(), full.err.contains("will not help")), (1, false), "{}", full.err);
    refuses(full, "the disk is full");
    refuses(hook(&place, &event("PostToolUse", "1"), &[]), "the disk is full");
    small.make_room();
    passes(hook(&place, &event("PostToolUse", "1"), &[]));
    passes(hook(&place, &event("PreToolUse", "2"), &[]));
    assert_eq!((place.count(&["--kind", "tool_call"]), unfinished(&place)), (1, 1));
    assert!(place.run(&["verify", "s"]).ok().starts_with("nothing wrong found"));
}

/// Agents take a hook that runs into their time-out for a yes, so the program must be the first to give up.
#[test]
fn an_owner_that_does_not_answer_is_a_refusal_at_the_deadline() {
    let place = Place::with_store();
    let mut owner = Ended(place.command(&["serve", "s"]).spawn().unwrap());
    owner.0.stderr.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
    let tell = |signal| {
        let id = nix::unistd::Pid::from_raw(i32::try_from(owner.0.id()).unwrap());
        nix::sys::signal::kill(id, signal).unwrap();
    };
    tell(nix::sys::signal::Signal::SIGSTOP);
    refuses(hook(&place, &event("PreToolUse", "1"), &["--deadline", "0.3"]), "within 0.3 seconds");
    // Nothing comes on standard input, and nobody closes it.
    let mut silent = place.command(&["hook", "codex", "s", "--deadline", "0.3"]);
    let mut silent = silent.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let held = silent.stdin.take();
    assert_eq!(silent.wait().unwrap().code(), Some(2));
    drop(held);
    tell(nix::sys::signal::Signal::SIGCONT);
    passes(hook(&place, &event("PreToolUse", "2"), &[]));
}

/// The command with a file open as 9, which whoever it starts inherits.
fn holding(command: &std::process::Command, file: &str) -> std::process::Command {
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", &format!("exec \"$0\" \"$@\" 9>{file}")]).arg(command.get_program()).args(command.get_args());
    sh.current_dir(command.get_current_dir().unwrap()).stdout(std::process::Stdio::piped());
    sh.stderr(std::process::Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => sh.env(name, value),
            None => sh.env_remove(name),
        };
    }
    sh
}

/// To open a key file that a passphrase protects takes longer than an agent should wait for each event, and so does a store that was
/// not closed: a process that stays does it once.
#[test]
fn a_store_that_is_slow_to_open_is_kept_open_by_a_process_that_ends_by_itself() {
    let place = Place::empty();
    let secret = |mut command: std::process::Command, input: String| {
        use std::io::Write;
        let mut child =
            command.env("ATTESTLOG_PASSPHRASE", "correct horse").stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    };
    secret(place.command(&["init", "s"]), String::new()).code(0);
    // Without the passphrase the process that is started cannot open the store, and says so.
    refuses(hook(&place, &event("PreToolUse", "1"), &["--deadline", "120"]), "passphrase");
    let args = ["hook", "claude-code", "s", "--user", "ada", "--idle", "1s", "--deadline", "120"];
    passes(secret(holding(&place.command(&args), "held"), event("PreToolUse", "1")));
    let owner = attestlog::owner::reach(&place.path("s")).unwrap().expect("it stays").process();
    assert_ne!(owner, std::process::id());
    // It kept open whatever the agent had open, a lock or the end of a pipe that somebody waits for.
    if cfg!(target_os = "linux") {
        let open = std::fs::read_dir(format!("/proc/{owner}/fd")).unwrap();
        let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect();
        assert!(place.path("held").exists() && !open.iter().any(|path| path.ends_with("held")), "{open:?}");
    }
    // While it is there, nobody needs the passphrase.
    passes(hook(&place, &event("PostToolUse", "1"), &[]));
    while attestlog::owner::reach(&place.path("s")).unwrap().is_some() {
        std::thread::yield_now();
    }
    let read = secret(place.command(&["query", "s", "--kind", "tool_call", "--count"]), String::new());
    assert_eq!(read.ok().trim(), "1");
}
