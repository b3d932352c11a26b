//! Help: the commands by what they are for, with examples, as text, as man pages and as completions of a shell.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use attestlog::files::{self, Writes};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use std::io::Write;
use std::path::PathBuf;

/// The commands of each task, in the order in which a newcomer needs them.
const TASKS: &[(&str, &[&str])] = &[
    ("Begin", &["demo", "init"]),
    ("Record", &["record", "import", "watch", "hook", "mcp", "serve"]),
    ("Ask", &["query", "show", "timeline", "conversations", "stats", "tail", "export", "forward", "report"]),
    ("Prove and check", &["verify", "checkpoint", "prove", "check", "evidence", "anchors"]),
    ("Watch over it", &["health", "alerts", "break-glass"]),
    ("Keep and remove", &["hold", "purge", "clock", "reveal", "erase"]),
    ("Set up and look after", &["policy", "redact", "keys", "backup", "restore", "man", "completions"]),
];

/// Examples of each command.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("demo", &["attestlog demo"]),
    ("init", &["attestlog init audit.log > log.pub", "attestlog init audit.log --config policy.toml > log.pub"]),
    ("record", &["attestlog record audit.log calls.jsonl --receipts", "my-agent | attestlog record audit.log -"]),
    (
        "import",
        &["attestlog import audit.log ~/.claude/projects", "attestlog import audit.log traces.json --format otlp-json"],
    ),
    ("watch", &["attestlog watch audit.log ~/.codex/sessions"]),
    ("hook", &["attestlog hook install claude-code audit.log --user", "attestlog hook status claude-code audit.log"]),
    ("mcp", &["attestlog mcp audit.log --user anna -- my-mcp-server --port 0"]),
    ("serve", &["attestlog serve audit.log"]),
    (
        "query",
        &[
            "attestlog query audit.log --failed --since yesterday",
            "attestlog query audit.log --tool 'get_*' --slower-than 2s --columns seq,conversation,model,took",
            "attestlog query audit.log --grep 'no such order' --json",
        ],
    ),
    ("show", &["attestlog show audit.log 1204"]),
    ("timeline", &["attestlog timeline audit.log --last", "attestlog timeline audit.log --seq 1204 --failed --full"]),
    ("conversations", &["attestlog conversations audit.log --failed --since 7d"]),
    (
        "stats",
        &[
            "attestlog stats audit.log --since 7d",
            "attestlog stats audit.log --by tool,server --compare 7d",
            "attestlog stats audit.log --by day --plot",
        ],
    ),
    ("tail", &["attestlog tail audit.log --user anna"]),
    ("export", &["attestlog export audit.log --format csv --since 2026-11 -o november.csv"]),
    ("forward", &["attestlog forward audit.log --to file:/var/log/siem/attestlog.json --follow"]),
    ("report", &["attestlog report access audit.log --patient P-1 --since 2026-01-01"]),
    ("verify", &["attestlog verify audit.log --public-key log.pub --against kept.checkpoint"]),
    ("checkpoint", &["attestlog checkpoint audit.log > kept.checkpoint"]),
    ("prove", &["attestlog prove audit.log 1204 > proof", "attestlog prove audit.log --complete --patient P-1 > all"]),
    ("check", &["attestlog check proof --public-key log.pub"]),
    ("evidence", &["attestlog evidence audit.log ./for-the-auditor"]),
    ("anchors", &["attestlog anchors show audit.log"]),
    ("health", &["attestlog health audit.log"]),
    (
        "alerts",
        &["attestlog alerts list audit.log", "attestlog alerts ack audit.log 1207 --actor anna --disposition 'a test'"],
    ),
    (
        "break-glass",
        &["attestlog break-glass open audit.log --user dr_1 --patient P-1 --ttl 1h --reason 'unconscious'"],
    ),
    (
        "hold",
        &[
            "attestlog hold place audit.log --case 2026-7 --actor counsel --reason 'a claim' --user anna",
            "attestlog hold list audit.log",
        ],
    ),
    ("purge", &["attestlog purge audit.log --dry-run --actor officer"]),
    ("clock", &["attestlog clock show audit.log"]),
    ("reveal", &["attestlog reveal audit.log 1204 arguments.ssn --actor clerk --reason 'identity check'"]),
    ("erase", &["attestlog erase audit.log --subject P-1 --actor officer --reason 'asked to be forgotten'"]),
    ("policy", &["attestlog policy example > policy.toml", "attestlog policy set audit.log policy.toml"]),
    ("redact", &["echo '{\"password\":\"hunter2\"}' | attestlog redact --explain"]),
    ("keys", &["attestlog keys show audit.log"]),
    ("backup", &["attestlog backup audit.log /backups/audit.log"]),
    ("restore", &["attestlog restore /backups/audit.log audit.log --actor anna --reason 'the disk failed'"]),
    ("man", &["attestlog man ~/.local/share/man/man1"]),
    ("completions", &["attestlog completions bash > ~/.local/share/bash-completion/completions/attestlog"]),
];

/// The command line with its help.
pub fn command() -> Command {
    let mut command = super::Cli::command();
    let tasks = tasks(&command);
    for (name, examples) in EXAMPLES {
        let lines: Vec<String> = examples.iter().map(|example| format!("  {example}")).collect();
        command = command.mut_subcommand(name, |command| {
            let before = command.get_after_help().map_or(String::new(), |help| format!("{help}\n\n"));
            command.after_help(format!("{before}Examples:\n{}", lines.join("\n")))
        });
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{tasks}\n`attestlog COMMAND --help` explains one of them, with examples.\n\n\
         Options:\n{{options}}{{after-help}}"
    ))
}

/// The commands by task, each with the first line of its help.
fn tasks(command: &Command) -> String {
    let mut text = String::new();
    for (task, names) in TASKS {
        text += &format!("{task}:\n");
        for name in *names {
            let about = command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            text += &format!("  {name:<15}{}\n", about.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

/// Write the man pages, one for each command
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write them to; it is made if it does not exist
    dir: PathBuf,
}

pub fn man(cx: &Context, args: &ManArgs) -> Outcome {
    std::fs::create_dir_all(&args.dir).map_err(|e| Failure::file(&args.dir, &e))?;
    let mut root = command().disable_help_subcommand(true);
    // Gives each command its whole name.
    root.build();
    let (mut pages, mut waiting) = (0, vec![root]);
    while let Some(command) = waiting.pop() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        let path = args.dir.join(format!("{name}.1"));
        let part = files::beside(&path, "new");
        files::create(&part, Writes::Output)?.write_all(&page).map_err(|e| Failure::file(&part, &e))?;
        files::put_in_place(&part, &path, Writes::Output)?;
        pages += 1;
        waiting.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    }
    let mut out = cx.out();
    out.line(format!("{pages} pages in {}; `man -M` or MANPATH finds them there", args.dir.display()))?;
    out.flush()?;
    Ok(End::Done)
}

/// Print the completions of a shell
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub fn completions(cx: &Context, args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "attestlog", &mut script);
    let mut out = cx.out();
    out.write_all(&script)?;
    out.flush()?;
    Ok(End::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A command that is in no task would not be found.
    #[test]
    fn every_command_is_in_one_task_and_has_an_example() {
        let command = super::super::Cli::command();
        let all: BTreeSet<&str> =
            command.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name).collect();
        let listed: Vec<&str> = TASKS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(listed.len(), all.len(), "a command is in two tasks");
        assert_eq!(EXAMPLES.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), all);
    }

    /// What stands in `log.pub`, which is read while the arguments are parsed.
    const KEY: &str =
        "attestlog/7d28a7899e18cad0d2edde8c44139532+3110c04a+AcE/KAaVPVScLbDcQNGjb7O9KEcdX1wwWfqzyjqhhyZ1";

    /// An example that the program does not take teaches nothing.
    #[test]
    fn every_example_is_taken() {
        for (name, examples) in EXAMPLES {
            for example in *examples {
                let own = example.rsplit("| ").next().unwrap_or_default().split(" > ").next().unwrap_or_default();
                let words: Vec<String> = split(&own.replace("log.pub", KEY));
                assert_eq!(words[..2], ["attestlog", name], "{example}");
                if let Err(e) = command().try_get_matches_from(&words) {
                    panic!("{example}: {e}");
                }
            }
        }
    }

    /// The words of a command line, as a shell splits it, where it has only single quotes.
    fn split(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.trim().chars() {
            match (c, words.last_mut()) {
                ('\'', _) => quoted = !quoted,
                (' ', _) if !quoted => words.push(String::new()),
                (c, Some(word)) => word.push(c),
                (_, None) => {}
            }
        }
        words
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }
}
