//! The configuration of agents: what `hook install` writes works, and `hook uninstall` gives back what was there.

use crate::common::{Place, Ran, json};
use attestlog::json::Json;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const AGENTS: [&str; 6] = ["claude-code", "codex", "gemini", "opencode", "cursor", "copilot"];

/// Runs the program with a home and a machine of its own.
fn run(place: &Place, args: &[&str]) -> Ran {
    let mut command = place.command(args);
    for variable in ["CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"] {
        command.env_remove(variable);
    }
    command.env("HOME", place.path("home")).env("ATTESTLOG_MACHINE_ROOT", place.path("machine"));
    let out = command.current_dir(place.path("work")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
}

fn place() -> Place {
    let place = Place::empty();
    // What a shell would take for more than a name.
    for folder in ["home", "work", "machine", "it's $(a) \"store\""] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    place.run(&["init", &store(&place)]).ok();
    place
}

fn store(place: &Place) -> String {
    place.path("it's $(a) \"store\"/s").display().to_string()
}

/// Every file under the home, the project and the machine, with its text.
fn files(place: &Place) -> Vec<(PathBuf, String)> {
    fn walk(folder: PathBuf, found: &mut Vec<(PathBuf, String)>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => walk(path, found),
                false => found.push((path.clone(), std::fs::read_to_string(path).unwrap())),
            }
        }
    }
    let mut found = Vec::new();
    ["home", "work", "machine"].into_iter().for_each(|folder| walk(place.path(folder), &mut found));
    found.sort();
    found
}

fn commands(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Object(members) => {
            for (name, member) in members.iter() {
                match member.as_str() {
                    Some(text) if ["command", "bash"].contains(&name) => found.push(text.to_owned()),
                    _ => commands(member, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| commands(item, found)),
        _ => {}
    }
}

/// Runs a command as an agent does.
fn agent_runs(command: &str, event: &str) -> Ran {
    use std::io::Write;
    let mut child = Command::new("sh");
    child.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(event.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
}

#[test]
fn what_is_installed_is_removed_without_a_trace_for_each_agent_and_scope() {
    let place = place();
    let store = store(&place);
    for agent in AGENTS {
        for scope in ["--user", "--project", "--managed"] {
            let tried = run(&place, &["hook", "install", agent, &store, scope, "--dry-run"]);
            if scope == "--managed" && ["codex", "opencode", "copilot"].contains(&agent) {
                assert!(tried.code(2).err.contains("--managed"));
                continue;
            }
            assert!(tried.ok().contains("+++ "));
            assert_eq!(files(&place), [], "{agent} {scope}: a trial");
            let status = |installed: bool| {
                let status = run(&place, &["hook", "status", agent, &store, "--json"]).json();
                assert_eq!(status.get("installed").unwrap().as_bool(), Some(installed), "{status:?}");
                status
            };
            status(false);
            run(&place, &["hook", "install", agent, &store, scope]).ok();
            assert_eq!(files(&place).len(), 1, "{agent} {scope}");
            let found = status(true);
            let text = |name: &str| found.get(name).unwrap().to_canonical().to_string();
            assert_eq!((text("agent"), text("scope")), (format!("{agent:?}"), format!("{:?}", &scope[2..])));
            assert_eq!((text("fail_closed"), text("runs") != "false"), ("true".to_owned(), true), "{found:?}");
            // Twice is like once.
            let before = files(&place);
            assert!(run(&place, &["hook", "install", agent, &store, scope]).ok().contains("is as it should be"));
            assert_eq!(files(&place), before);
            run(&place, &["hook", "uninstall", agent, &store]).ok();
            assert_eq!(files(&place), [], "{agent} {scope}");
            for left in ["home", "work"] {
                let left: Vec<_> =
                    std::fs::read_dir(place.path(left)).unwrap().map(|entry| entry.unwrap().path()).collect();
                assert!(left.iter().all(|folder| folder.ends_with(".config")), "{agent} {scope}: {left:?}");
            }
        }
    }
}

/// R106.
#[test]
fn other_hooks_and_settings_stay_as_they_are() {
    let place = place();
    let store = store(&place);
    std::fs::create_dir(place.path("home/.claude")).unwrap();
    let settings = place.path("home/.claude/settings.json");
    let texts = [
        "{}",
        "{\n  \"hooks\": {},\n  \"a\": 1\n}\n",
        "{\"hooks\": {\"PreToolUse\": [ ]}}",
        "{\"z\":1.0,\"hooks\":{\"PreToolUse\":[{\"matcher\":\"Bash\",\"hooks\":[{\"type\":\"command\",\"command\":\"mine\"}]}]}}",
        "{\n    \"permissions\": {\"allow\": [ ]},\n    \"hooks\": {\n        \"Stop\": [\n            {\"hooks\": []}\n        ]\n    },\n    \"a\": 1.50\n}\n",
    ];
    for text in texts {
        std::fs::write(&settings, text).unwrap();
        run(&place, &["hook", "install", "claude-code", &store]).ok();
        let now = std::fs::read_to_string(&settings).unwrap();
        let mut found = Vec::new();
        commands(&json(&now), &mut found);
        assert_eq!(found.iter().filter(|command| command.contains(" hook claude-code ")).count(), 9, "{now}");
        assert_eq!(found.iter().any(|command| command == "mine"), text.contains("mine"));
        assert!(now.contains(r#""onFailure""#) && found.iter().any(|command| command.contains("|| { echo ")), "{now}");
        run(&place, &["hook", "uninstall", "claude-code", &store]).ok();
        assert_eq!(std::fs::read_to_string(&settings).unwrap(), text);
    }
    for text in ["{\n  // mine\n  \"a\": 1\n}", "{\"hooks\":[]}", "not json"] {
        std::fs::write(&settings, text).unwrap();
        let refused = run(&place, &["hook", "install", "claude-code", &store]).code(2);
        assert!(refused.err.contains("settings.json"), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&settings).unwrap(), text);
    }
    // Somebody who has their configuration elsewhere keeps it there.
    std::fs::rename(&settings, place.path("mine.json")).unwrap();
    std::fs::write(place.path("mine.json"), "{}").unwrap();
    std::os::unix::fs::symlink(place.path("mine.json"), &settings).unwrap();
    run(&place, &["hook", "install", "claude-code", &store]).ok();
    assert!(settings.is_symlink() && std::fs::read_to_string(place.path("mine.json")).unwrap().contains("PreToolUse"));
}

#[test]
fn the_commands_record_and_refuse_also_if_the_program_is_gone() {
    let place = place();
    let store = store(&place);
    let names =
        [("claude-code", "PreToolUse"), ("codex", "PreToolUse"), ("gemini", "BeforeTool"), ("cursor", "preToolUse")];
    for (agent, name) in names {
        run(&place, &["hook", "install", agent, &store, "--as-user", "o'hara"]).ok();
        let (path, text) = files(&place).remove(0);
        let all = json(&text);
        let mut found = Vec::new();
        commands(all.get("hooks").unwrap().get(name).unwrap(), &mut found);
        let [command] = &found[..] else { panic!("{found:?}") };
        let event = format!(
            r#"{{"session_id":"{agent}","conversation_id":"{agent}","hook_event_name":"{name}","tool_name":"Bash","tool_input":{{}},"tool_use_id":"1"}}"#
        );
        let Ran { out, err, .. } = agent_runs(command, &event).code(0);
        assert_eq!((out, err), (String::new(), String::new()));
        let filters = ["query", &store, "--count", "--conversation", agent, "--user", "o'hara"];
        assert_eq!(place.run(&filters).ok().trim(), "1");
        let (_, rest) = command.split_once(" hook ").unwrap();
        let gone = agent_runs(&format!("/nowhere/attestlog hook {rest}"), &event).code(2);
        assert!(gone.err.contains("was not recorded"), "{gone:?}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn status_says_what_is_in_the_way() {
    let place = place();
    let store = store(&place);
    let status = |agent: &str| run(&place, &["hook", "status", agent, &store, "--json"]).json();
    let runs = |agent: &str| status(agent).get("runs").unwrap().as_bool();
    run(&place, &["hook", "install", "claude-code", &store]).ok();
    assert_eq!(runs("claude-code"), Some(true));
    let disabled = status("claude-code").get("can_be_disabled_by").unwrap().to_canonical().to_string();
    assert!(disabled.contains("disableAllHooks") && disabled.contains("--bare"), "{disabled}");
    let folders = ["work/.claude", "machine/etc/claude-code"];
    folders.iter().for_each(|folder| std::fs::create_dir_all(place.path(folder)).unwrap());
    for (file, text) in [
        ("work/.claude/settings.local.json", r#"{"disableAllHooks":true}"#),
        ("machine/etc/claude-code/managed-settings.json", r#"{"allowManagedHooksOnly":true}"#),
    ] {
        place.write(file, text);
        assert_eq!(runs("claude-code"), Some(false), "{file}");
        assert!(run(&place, &["hook", "status", "claude-code", &store]).ok().contains("DOES NOT RUN"));
        std::fs::remove_file(place.path(file)).unwrap();
    }
    place.write("machine/etc/claude-code/managed-settings.json", r#"{"allowManagedHooksOnly":true}"#);
    run(&place, &["hook", "install", "claude-code", &store, "--managed"]).ok();
    let managed = status("claude-code");
    assert_eq!(managed.get("can_be_disabled_by").unwrap().as_array(), Some(&[][..]), "{managed:?}");
    assert_eq!((runs("claude-code"), managed.get("scope").unwrap().as_str()), (Some(true), Some("managed")));
    // Only Codex knows what its user trusts.
    run(&place, &["hook", "install", "codex", &store, "--fail-open"]).ok();
    assert_eq!((runs("codex"), status("codex").get("fail_closed").unwrap().as_bool()), (None, Some(false)));
    std::fs::remove_file(&store).unwrap();
    assert_eq!(runs("claude-code"), Some(false));
    assert!(run(&place, &["hook", "install", "gemini", &store]).code(3).err.contains("attestlog init"));
}

/// The hooks of `a.log2` were taken for those of `a.log` and removed with them; and a group with this program's hook and one of the
/// user's own went as a whole, as did a command that contained this program's.
#[test]
fn only_what_install_wrote_for_this_store_is_removed() {
    let place = place();
    let stores = ["a.log", "a.log2"].map(|name| place.path(name).display().to_string());
    stores.iter().for_each(|store| drop(place.run(&["init", store]).ok()));
    for agent in ["claude-code", "codex", "gemini", "cursor", "copilot"] {
        let install = |store: &str| run(&place, &["hook", "install", agent, store, "--user"]).ok();
        let read = || files(&place).remove(0);
        install(&stores[1]);
        let other = read().1;
        install(&stores[0]);
        assert!(read().1.len() > other.len(), "{agent}");
        run(&place, &["hook", "uninstall", agent, &stores[0]]).ok();
        assert_eq!(read().1, other, "{agent}");
        run(&place, &["hook", "uninstall", agent, &stores[1]]).ok();
        assert_eq!(files(&place), [], "{agent}");
    }
    install_beside_others(&place, &stores[0]);
}

fn install_beside_others(place: &Place, store: &str) {
    run(place, &["hook", "install", "claude-code", store]).ok();
    let (path, text) = files(place).remove(0);
    let all = json(&text);
    let mut found = Vec::new();
    commands(all.get("hooks").unwrap().get("PreToolUse").unwrap(), &mut found);
    let written = Json::from(&*found[0]).to_canonical().to_string();
    // Their own hook in the same group, and a command that goes on after this program's.
    let first = text.find("\"hooks\": [").unwrap() + "\"hooks\": [".len();
    let mut mine = text.clone();
    mine.insert_str(first, r#"{"type": "command", "command": "mine"},"#);
    mine = mine.replacen(&written, &format!("{}; true\"", written.trim_end_matches('"')), 2);
    assert_eq!(mine.matches("; true\"").count(), 2, "{mine}");
    std::fs::write(&path, mine).unwrap();
    let left = run(place, &["hook", "uninstall", "claude-code", store]).code(0);
    assert!(left.err.contains("remove it yourself"), "{left:?}");
    let rest = std::fs::read_to_string(&path).unwrap();
    let mut found = Vec::new();
    commands(&json(&rest), &mut found);
    assert_eq!(found.iter().filter(|command| *command == "mine").count(), 1, "{rest}");
    assert_eq!(found.iter().filter(|command| command.ends_with("; true")).count(), 2, "{rest}");
    assert_eq!(found.len(), 3, "{rest}");
}

/// Status looked only for this program's name in a command: a hook that ran for one tool, in the background, with a second to answer
/// or before `|| true` was called one that runs and stops calls.
#[test]
fn status_says_which_hook_is_not_as_it_was_written() {
    let place = place();
    let store = store(&place);
    for (agent, changes) in [
        (
            "claude-code",
            &[
                ("\"timeout\": 20", "\"timeout\": 1"),
                ("\"matcher\": \"*\"", "\"matcher\": \"Bash\""),
                ("\"type\": \"command\"", "\"async\": true, \"type\": \"command\""),
                ("exit 2; }", "exit 2; } || true"),
                ("\"PreToolUse\"", "\"PreToolUsed\""),
                ("\"onFailure\": \"block\"", "\"onFailure\": \"allow\""),
            ][..],
        ),
        ("cursor", &[("\"failClosed\": true", "\"failClosed\": false")][..]),
        ("opencode", &[("SIGKILL", "SIGHUP")][..]),
    ] {
        run(&place, &["hook", "install", agent, &store]).ok();
        let (path, text) = files(&place).remove(0);
        for (from, to) in changes {
            assert!(text.contains(from), "{from}: {text}");
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let status = run(&place, &["hook", "status", agent, &store, "--json"]).json();
            let is = |name: &str| status.get(name).unwrap().as_bool();
            assert_eq!(
                (is("installed"), is("runs"), is("fail_closed")),
                (Some(true), Some(false), Some(false)),
                "{to}"
            );
            assert!(!status.get("remarks").unwrap().as_array().unwrap().is_empty(), "{to}");
        }
        std::fs::remove_file(path).unwrap();
    }
    run(&place, &["hook", "install", "codex", &store]).ok();
    std::fs::rename(format!("{store}.key"), place.path("key")).unwrap();
    let status = run(&place, &["hook", "status", "codex", &store]).ok();
    assert!(status.contains("s.key is not there, so every call is refused"), "{status}");
}

/// An empty list, a blank between brackets and a `version` that the user had written themselves did not come back.
#[test]
fn uninstall_gives_back_each_byte() {
    let place = place();
    let store = store(&place);
    for (agent, file, text) in [
        ("claude-code", "home/.claude/settings.json", "{ }"),
        ("claude-code", "home/.claude/settings.json", "{\n  \"hooks\": { \"PreToolUse\": [ ], \"Stop\": [] }\n}"),
        ("cursor", "home/.cursor/hooks.json", "{\n  \"hooks\": {}\n}\n"),
        ("cursor", "home/.cursor/hooks.json", "{\n \"version\": 1\n}\n"),
        ("copilot", "work/.github/hooks/attestlog.json", "{\"version\":1,\"hooks\":{}}"),
    ] {
        let path = place.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        for _ in 0..2 {
            run(&place, &["hook", "install", agent, &store]).ok();
        }
        assert_ne!(std::fs::read_to_string(&path).unwrap(), text);
        run(&place, &["hook", "uninstall", agent, &store]).ok();
        assert_eq!(files(&place), [(path.clone(), text.to_owned())]);
        // Somebody has changed it since: their change stays.
        run(&place, &["hook", "install", agent, &store]).ok();
        let now = std::fs::read_to_string(&path).unwrap().replacen('{', "{\"z\":1,", 1);
        std::fs::write(&path, now).unwrap();
        run(&place, &["hook", "uninstall", agent, &store]).ok();
        let rest = std::fs::read_to_string(&path).unwrap();
        assert!(rest.contains("\"z\":1") && !rest.contains("attestlog"), "{rest}");
        // What they had before is there too, though it is empty, and nothing else.
        let (mut rest, before) = (json(&rest), json(text));
        if let Json::Object(members) = &mut rest {
            members.remove("z");
        }
        assert_eq!(rest, before, "{agent}");
        assert_eq!(files(&place).len(), 1, "{agent}");
        std::fs::remove_file(path).unwrap();
    }
}

/// What was there before the hooks of two stores were installed was kept for the second store only.
#[test]
fn uninstall_gives_back_each_byte_after_two_installations() {
    let place = place();
    let stores = ["a.log", "b.log"].map(|name| place.path(name).display().to_string());
    stores.iter().for_each(|store| drop(place.run(&["init", store]).ok()));
    let path = place.path("home/.cursor/hooks.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = "{\n  \"hooks\": { \"stop\": [ ] }\n}\n";
    std::fs::write(&path, text).unwrap();
    stores.iter().for_each(|store| drop(run(&place, &["hook", "install", "cursor", store]).ok()));
    stores.iter().rev().for_each(|store| drop(run(&place, &["hook", "uninstall", "cursor", store]).ok()));
    assert_eq!(files(&place), [(path, text.to_owned())]);
}

/// A store that was named by another path was another store: its hooks were added once more, and `uninstall` left them, with exit code 0.
#[cfg(unix)]
#[test]
fn a_store_is_the_same_under_another_name() {
    let place = place();
    place.run(&["init", &place.path("a.log").display().to_string()]).ok();
    std::os::unix::fs::symlink(place.dir.path(), place.path("link")).unwrap();
    let names = ["a.log", "link/a.log", "work/../a.log"].map(|name| place.path(name).display().to_string());
    for agent in ["claude-code", "opencode"] {
        for (installed, removed) in names.iter().zip(names.iter().rev()) {
            run(&place, &["hook", "install", agent, installed]).ok();
            let status = run(&place, &["hook", "status", agent, removed, "--json"]).json();
            assert_eq!(status.get("runs").unwrap().as_bool(), Some(true), "{installed} {removed}");
            run(&place, &["hook", "uninstall", agent, removed]).ok();
            assert_eq!(files(&place), [], "{installed} {removed}");
        }
    }
}

/// Of two installations at the same time one was lost, and neither said so.
#[test]
fn installations_at_the_same_time_are_all_there() {
    let place = place();
    let stores: Vec<String> = (0..6).map(|i| place.path(&format!("s{i}")).display().to_string()).collect();
    stores.iter().for_each(|store| drop(place.run(&["init", store]).ok()));
    std::thread::scope(|scope| {
        for store in &stores {
            let place = &place;
            scope.spawn(move || drop(run(place, &["hook", "install", "gemini", store]).ok()));
        }
    });
    for store in &stores {
        let status = run(&place, &["hook", "status", "gemini", store, "--json"]).json();
        assert_eq!(status.get("runs").unwrap().as_bool(), Some(true), "{store}");
    }
}

/// Settings on one line were printed whole, with the keys and tokens in them; a user whose name begins with a hyphen stopped every
/// call; and a link to a file that was away was replaced by a file.
#[test]
fn install_shows_its_own_lines_quotes_names_and_leaves_links() {
    let place = place();
    let store = store(&place);
    let settings = place.path("home/.gemini/settings.json");
    std::fs::create_dir(settings.parent().unwrap()).unwrap();
    std::fs::write(&settings, r#"{"env":{"TOKEN":"hunter2"},"z":1}"#).unwrap();
    let shown = run(&place, &["hook", "install", "gemini", &store, "--as-user=-x"]).ok();
    assert!(shown.contains("+hooks.BeforeTool: ") && !shown.contains("hunter2"), "{shown}");
    let mut found = Vec::new();
    commands(json(&std::fs::read_to_string(&settings).unwrap()).get("hooks").unwrap(), &mut found);
    let event = r#"{"session_id":"s","hook_event_name":"BeforeTool","tool_name":"t","tool_input":{}}"#;
    agent_runs(found.iter().find(|command| !command.contains("--event")).unwrap(), event).code(0);
    assert_eq!(place.run(&["query", &store, "--count", "--user=-x"]).ok().trim(), "1");
    std::fs::remove_file(&settings).unwrap();
    std::os::unix::fs::symlink(place.path("away"), &settings).unwrap();
    let refused = run(&place, &["hook", "install", "gemini", &store]).code(2);
    assert!(refused.err.contains("leads nowhere") && settings.is_symlink(), "{refused:?}");
}

/// The plugin of OpenCode, run by Node as OpenCode's own runtime would.
#[test]
fn the_plugin_records_and_throws_if_it_cannot() {
    let place = place();
    let store = store(&place);
    if Command::new("node").arg("--version").output().is_err() {
        println!("SKIPPED: node is not there");
        return;
    }
    run(&place, &["hook", "install", "opencode", &store]).ok();
    let plugin = place.path("home/.config/opencode/plugins/attestlog.js");
    let module = place.path("plugin.mjs");
    std::fs::copy(&plugin, &module).unwrap();
    let script = format!(
        r#"
        const {{ Attestlog }} = await import({module:?})
        const hooks = await Attestlog({{ directory: "/w" }})
        await hooks.event({{ event: {{ type: "session.created", properties: {{ info: {{ id: "s", parentID: "p" }} }} }} }})
        await hooks["chat.params"]({{ sessionID: "s", agent: "build", model: {{ id: "m" }} }})
        const input = {{ tool: "bash", sessionID: "s", callID: "1" }}
        await hooks["tool.execute.before"](input, {{ args: {{ command: "ls" }} }})
        await hooks["tool.execute.after"]({{ ...input, args: {{ command: "ls" }} }}, {{ output: "x", metadata: {{ exit: 0 }} }})
        await hooks["tool.execute.before"]({{ ...input, callID: "2" }}, {{ args: {{}} }})
        const part = {{ type: "tool", tool: "bash", sessionID: "s", callID: "2", state: {{ status: "error", error: "no", input: {{}} }} }}
        await hooks.event({{ event: {{ type: "message.part.updated", properties: {{ sessionID: "s", part }} }} }})
        (await import("node:fs")).renameSync({store:?}, {store:?} + ".away")
        try {{ await hooks["tool.execute.before"]({{ ...input, callID: "3" }}, {{ args: {{}} }}); console.log("ran") }}
        catch (e) {{ console.log("threw: " + e.message) }}
        (await import("node:fs")).renameSync({store:?} + ".away", {store:?})
        "#,
        module = module.display().to_string(),
    );
    // A line that begins with a bracket goes on with the one before.
    let script = script.replace("\n        (", "\n        ;(");
    place.write("script.mjs", script);
    let ran = Command::new("node").arg(place.path("script.mjs")).output().unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    assert!(out.starts_with("threw: ") && out.contains("the tool must not run"), "{out} {:?}", ran.stderr);
    let ended = place.run(&["query", &store, "--json", "--kind", "tool_call"]).ok();
    let outcomes: Vec<String> =
        ended.lines().map(|line| json(line).get("outcome").unwrap().as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["ok", "tool_error"], "{ended}");
    assert!(ended.contains(r#""model":"m""#) && ended.contains(r#""parent_session_id":"p""#), "{ended}");
}

/// `hook status` could not say whether Codex runs the hooks, which it does only once they are trusted.
#[test]
fn codex_is_asked_whether_its_hooks_are_trusted() {
    let place = place();
    let store = store(&place);
    run(&place, &["hook", "install", "codex", &store]).ok();
    let (_, text) = files(&place).remove(0);
    let mut listed = Vec::new();
    for (event, elements) in json(&text).get("hooks").unwrap().as_object().unwrap().iter() {
        let mut found = Vec::new();
        commands(elements, &mut found);
        listed.extend(found.into_iter().map(|command| {
            serde_json::json!({"eventName": event[..1].to_lowercase() + &event[1..], "command": command, "enabled": true})
        }));
    }
    std::fs::create_dir(place.path("bin")).unwrap();
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    let status = |script: &str| {
        use std::os::unix::fs::PermissionsExt;
        let codex = place.path("bin/codex");
        std::fs::write(&codex, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&codex, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = place.command(&["hook", "status", "codex", &store, "--json"]);
        command.env_remove("CODEX_HOME").env("HOME", place.path("home")).env("PATH", &path);
        command.env("ATTESTLOG_MACHINE_ROOT", place.path("machine")).current_dir(place.path("work"));
        let out = command.output().unwrap();
        let told = json(std::str::from_utf8(&out.stdout).unwrap());
        (told.get("runs").unwrap().as_bool(), told.get("remarks").unwrap().to_canonical().to_string())
    };
    let answer = |trust: &dyn Fn(usize) -> &'static str| {
        let mut hooks = listed.clone();
        hooks.iter_mut().enumerate().for_each(|(n, hook)| hook["trustStatus"] = trust(n).into());
        let answer = serde_json::json!({"id": 1, "result": {"data": [{"cwd": "/", "hooks": hooks}]}});
        std::fs::write(place.path("answer"), format!("{{\"id\":0,\"result\":{{}}}}\n{answer}\n")).unwrap();
        // It reads what it is asked, and goes on until it is ended.
        status(&format!("read a; read b; read c; cat '{}'; read d", place.path("answer").display()))
    };
    assert_eq!(answer(&|_| "trusted").0, Some(true));
    let (runs, remarks) = answer(&|n| if n == 0 { "untrusted" } else { "trusted" });
    assert!(runs == Some(false) && remarks.contains("not trusted 1 of these"), "{remarks}");
    for script in [
        "exit 1",
        "read a; read b; read c; echo '{\"id\":1,\"error\":{}}'",
        "read a; read b; read c; echo '{\"id\":1,\"result\":{}}'",
    ] {
        let (runs, remarks) = status(script);
        assert!(runs.is_none() && remarks.contains("type /hooks"), "{remarks}");
    }
}
