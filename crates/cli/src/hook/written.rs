//! What `install` wrote, known again in a configuration that others change, too.
//!
//! A command is this program's if it is, from its first character to its last, what `install` writes for that agent and event.
//! Anything else is somebody else's: it is not removed, and `status` says how it differs.

use super::agents;
use super::shell::{quoted, words, wrapped};
use attestlog::json::{Json, Object};
use attestlog_capture::hook::Agent;
use std::path::{Path, PathBuf};

/// The flags of a command, in the order in which they are written, and whether a value is the next word.
const FLAGS: [(&str, bool); 6] = [
    ("--key", true),
    ("--passphrase-file", true),
    ("--os-keyring", true),
    ("--user=", false),
    ("--role=", false),
    ("--purpose=", false),
];
const FAIL_OPEN: &str = "--fail-open";

/// The words of a command that `install` writes: program, `hook`, agent, store, flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written(Vec<String>);

impl Written {
    /// Takes words that are exactly of the form that `install` writes.
    pub fn of_words(given: Vec<String>, agent: Agent) -> Option<Written> {
        let [program, hook, name, _, flags @ ..] = &given[..] else { return None };
        let named = Path::new(program).file_stem()?.to_string_lossy().starts_with("attestlog");
        if !named || hook != "hook" || name != agent.as_str() {
            return None;
        }
        let mut left = flags;
        for (flag, has_value) in FLAGS {
            left = match left {
                [first, _, rest @ ..] if has_value && first == flag => rest,
                [first, rest @ ..] if !has_value && first.starts_with(flag) => rest,
                other => other,
            };
        }
        matches!(left, [] | [_]).then_some(())?;
        left.iter().all(|flag| flag == FAIL_OPEN).then(|| Written(given.clone()))
    }

    /// Takes the command of an event's hook apart.
    pub fn read(command: &str, agent: Agent, event: &str) -> Option<Written> {
        let core = command.strip_suffix(&wrapped("", agent)).unwrap_or(command);
        let core = core.strip_suffix(&format!(" --event {event}")).unwrap_or(core);
        let written = Written::of_words(words(core)?, agent)?;
        (agents::commands(&written.element(agent, event)?) == [command]).then_some(written)
    }

    /// The command, without a wrap.
    pub fn command(&self) -> String {
        self.0.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// What stands in the event's list.
    pub fn element(&self, agent: Agent, event: &str) -> Option<Json> {
        agents::entries(agent, &self.command()).into_iter().find(|(of, _)| *of == event).map(|(_, element)| element)
    }

    pub fn words(&self) -> &[String] {
        &self.0
    }

    pub fn program(&self) -> PathBuf {
        PathBuf::from(&self.0[0])
    }

    pub fn store(&self) -> &Path {
        Path::new(&self.0[3])
    }

    /// Whether it records in this store, under whatever name.
    pub fn records_in(&self, store: &Path) -> bool {
        is_same(self.store(), store)
    }

    /// The value of a flag that has one.
    pub fn value(&self, flag: &str) -> Option<&str> {
        let at = self.0.iter().skip(4).position(|word| word == flag)?;
        self.0.get(at + 5).map(String::as_str)
    }

    pub fn is_open(&self) -> bool {
        self.0.last().is_some_and(|last| last == FAIL_OPEN)
    }
}

/// Whether both lead to the same file, though perhaps through a link, or there is none and they are equal.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

/// A hook in a configuration.
#[derive(Debug)]
pub struct Found {
    pub event: String,
    pub command: String,
    /// What stands in the event's list, without the other hooks of the same group.
    pub alone: Json,
    /// The command taken apart, if it is what `install` writes.
    pub written: Option<Written>,
}

/// Every hook in a configuration.
pub fn all(agent: Agent, value: &Json) -> Vec<Found> {
    let events = value.get("hooks").and_then(Json::as_object);
    let elements = events.into_iter().flat_map(|events| events.iter()).flat_map(|(event, elements)| {
        elements.as_array().unwrap_or_default().iter().flat_map(alone).map(move |alone| (event, alone))
    });
    let hook = |(event, alone): (&str, Json)| {
        let command = agents::commands(&alone).into_iter().next()?;
        let written = Written::read(&command, agent, event);
        Some(Found { event: event.to_owned(), command, alone, written })
    };
    elements.filter_map(hook).collect()
}

/// An element of an event's list once for each hook in it.
fn alone(element: &Json) -> Vec<Json> {
    let (Some(group), Some(hooks)) = (element.as_object(), element.get("hooks").and_then(Json::as_array)) else {
        return vec![element.clone()];
    };
    let one = |hook: &Json| {
        let member = |(name, value): (&str, &Json)| match name {
            "hooks" => (name.to_owned(), Json::from(vec![hook.clone()])),
            _ => (name.to_owned(), value.clone()),
        };
        Object::from_iter(group.iter().map(member)).into()
    };
    hooks.iter().map(one).collect()
}

/// Whether a command seems to record in this store, though it may not be what `install` writes.
pub fn names(command: &str, agent: Agent, store: &Path) -> bool {
    let start = format!(" hook {} {}", agent.as_str(), quoted(&store.to_string_lossy()));
    let ends = |rest: &str| rest.chars().next().is_none_or(|c| c.is_whitespace() || ";|&<>)\"`".contains(c));
    command.match_indices(&start).any(|(at, _)| ends(&command[at + start.len()..]))
}

/// The members in which a hook differs from what `install` writes.
pub fn differences(found: &Json, expected: &Json) -> Vec<String> {
    let hook = |element: &Json| match element.get("hooks").and_then(Json::as_array) {
        Some([hook]) => hook.as_object().cloned().unwrap_or_default(),
        _ => Object::default(),
    };
    let members = |element: &Json| element.as_object().cloned().unwrap_or_default();
    let mut names = Vec::new();
    for (there, wanted) in [(members(found), members(expected)), (hook(found), hook(expected))] {
        let either = there.iter().chain(wanted.iter()).map(|(name, _)| name);
        for name in either.filter(|name| *name != "hooks" && there.get(name) != wanted.get(name)) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// The hooks, as lines, that a configuration has and the other has not.
pub fn only_in(agent: Agent, text: Option<&str>, other: Option<&str>) -> Vec<String> {
    let lines = |text: Option<&str>| {
        let value = text.and_then(|text| Some(Json::parse(text.as_bytes()).ok()?.value)).unwrap_or(Json::Null);
        let ours = all(agent, &value).into_iter().filter(|found| found.written.is_some());
        ours.map(|found| format!("hooks.{}: {}", found.event, found.alone.to_canonical())).collect::<Vec<_>>()
    };
    let there = lines(other);
    lines(text).into_iter().filter(|line| !there.contains(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> Option<Written> {
        Written::read(command, Agent::Codex, "PreToolUse")
    }

    /// The hooks of `a.log2` were taken for those of `a.log`, and a command that somebody had put together from this program and
    /// another one was removed as if it were this program's alone.
    #[test]
    fn a_command_is_ours_only_if_it_is_what_is_written_to_the_last_character() {
        let core = "/bin/attestlog hook codex '/a b.log' --key /k --user=-x --fail-open";
        let whole = wrapped(core, Agent::Codex);
        let written = read(&whole).unwrap();
        assert_eq!((written.store(), written.is_open()), (Path::new("/a b.log"), true));
        assert_eq!((written.value("--key"), written.command().as_str()), (Some("/k"), core));
        for other in [
            core.to_owned(),
            format!("{whole}; true"),
            format!("true; {whole}"),
            whole.replace(" hook", "  hook"),
            whole.replace("'/a b.log'", "\"/a b.log\""),
            whole.replace("--key", "--deadline"),
            whole.replace("exit 2", "exit 0"),
            whole.replace("/bin/attestlog", "/bin/mine"),
        ] {
            assert_eq!(read(&other), None, "{other}");
        }
        assert!(names(&format!("{whole}; true"), Agent::Codex, Path::new("/a b.log")));
        assert!(!names("attestlog hook codex /a.log2", Agent::Codex, Path::new("/a.log")));
    }
}
