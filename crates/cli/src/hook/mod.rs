//! `hook`: records what coding agents tell their hooks, and configures the agents to do so.
//!
//! `event` is what an agent runs for each event; `through` finds or starts the process that has the store open. `config` writes and
//! removes configurations: `agents` says what each agent needs, `shell` how its command is written, `written` knows it again, `file`
//! reads and replaces the file, `json_text` changes its text, `before` keeps what cutting out would not give back, `diff` shows the
//! change; `status` tells what is in force, and asks Codex for it (`trust`).

mod agents;
mod before;
mod config;
mod diff;
mod event;
mod file;
mod json_text;
mod shell;
mod status;
mod through;
mod trust;
mod written;

use super::context::Context;
use super::exit::Outcome;
use attestlog_capture::hook::Agent;
use clap::Subcommand;
use event::EventArgs;

/// Record the tool calls of coding agents, through their hooks
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Record an event of Claude Code, from standard input
    ClaudeCode(EventArgs),
    /// Record an event of Codex, from standard input
    Codex(EventArgs),
    /// Record an event of the Gemini CLI, from standard input
    Gemini(EventArgs),
    /// Record an event of OpenCode, from standard input
    #[command(name = "opencode")]
    OpenCode(EventArgs),
    /// Record an event of Cursor, from standard input
    Cursor(EventArgs),
    /// Record an event of GitHub Copilot, from standard input
    Copilot(EventArgs),
    /// Write an agent's configuration so that it runs the hooks
    Install(config::InstallArgs),
    /// Say whether an agent runs the hooks, and who can switch them off
    Status(config::StatusArgs),
    /// Remove the hooks from an agent's configuration
    Uninstall(config::UninstallArgs),
}

pub fn run(cx: &Context, command: &HookCommand) -> Outcome {
    match command {
        HookCommand::ClaudeCode(args) => event::run(cx, Agent::ClaudeCode, args),
        HookCommand::Codex(args) => event::run(cx, Agent::Codex, args),
        HookCommand::Gemini(args) => event::run(cx, Agent::Gemini, args),
        HookCommand::OpenCode(args) => event::run(cx, Agent::OpenCode, args),
        HookCommand::Cursor(args) => event::run(cx, Agent::Cursor, args),
        HookCommand::Copilot(args) => event::run(cx, Agent::Copilot, args),
        HookCommand::Install(args) => config::install(cx, args),
        HookCommand::Status(args) => config::status(cx, args),
        HookCommand::Uninstall(args) => config::uninstall(cx, args),
    }
}
