//! `hook`: records what coding agents tell their hooks, and configures the agents to do so.
//!
//! `event` is what an agent runs for each event; `through` finds or starts the process that has the store open.

mod event;
mod through;

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
}

pub fn run(cx: &Context, command: &HookCommand) -> Outcome {
    match command {
        HookCommand::ClaudeCode(args) => event::run(cx, Agent::ClaudeCode, args),
        HookCommand::Codex(args) => event::run(cx, Agent::Codex, args),
        HookCommand::Gemini(args) => event::run(cx, Agent::Gemini, args),
        HookCommand::OpenCode(args) => event::run(cx, Agent::OpenCode, args),
        HookCommand::Cursor(args) => event::run(cx, Agent::Cursor, args),
        HookCommand::Copilot(args) => event::run(cx, Agent::Copilot, args),
    }
}
