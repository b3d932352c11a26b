//! The command line: a thin program over the library.
//!
//! There is one file per command or group of commands: each takes its arguments, opens the store through `store`, calls the
//! library, and shows the answer through `render` and `table`. Each command runs in its own process, whichever process has the
//! store open: the library asks that one. This file makes the `context` and calls the commands, they call `alerting`, `filter`,
//! `line_reader`, `progress`, `store` and `table`, and those call `render` and `exit`. A command writes an entry only if its
//! name says so.
#![forbid(unsafe_code)]
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "the program prints, exits and asks the machine")]

mod about;
mod alerting;
mod alerts;
mod anchors;
mod backup;
mod beside;
mod break_glass;
mod breakdown;
mod chance;
mod check;
mod check_folder;
mod columns;
mod config;
mod context;
mod conversations;
mod demo;
mod ending;
mod exit;
mod export;
mod filter;
mod forward;
mod health;
mod help;
mod hook;
mod import;
mod init;
mod line_reader;
mod manage;
mod mcp;
mod named;
mod not_compared;
mod package;
mod privacy;
mod progress;
mod prove;
mod purge;
mod query;
mod record;
mod redact;
mod render;
mod report;
mod sender_gaps;
mod serve;
mod shared;
mod show;
mod starter;
mod stats;
mod store;
mod table;
mod tail;
mod timeline;
mod told;
mod verify;
mod verify_args;
mod watch;
mod weaker;
mod withheld;
mod zone;

use clap::{FromArgMatches, Parser, Subcommand};

/// Tamper-evident audit log for the tool calls of AI agents.
#[derive(Debug, Parser)]
#[command(name = "attestlog", version, about, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done and nothing wrong; 1 the check found something, a line was not recorded, or a hold, a \
    frozen clock or an unconfirmed restore stands in the way; 2 bad usage or input; 3 the store could not be used."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    Record(record::RecordArgs),
    Import(import::ImportArgs),
    Watch(watch::WatchArgs),
    Query(Box<query::QueryArgs>),
    Show(show::ShowArgs),
    Timeline(timeline::TimelineArgs),
    Conversations(Box<conversations::ConversationsArgs>),
    Stats(Box<stats::StatsArgs>),
    Tail(Box<tail::TailArgs>),
    Serve(serve::ServeArgs),
    Mcp(Box<mcp::McpArgs>),
    #[command(subcommand)]
    Hook(Box<hook::HookCommand>),
    #[command(hide = true)]
    StartChild(starter::StartArgs),
    Verify(verify::VerifyArgs),
    Export(Box<export::ExportArgs>),
    Forward(forward::ForwardArgs),
    #[command(subcommand)]
    Report(report::ReportCommand),
    Checkpoint(prove::CheckpointArgs),
    Prove(prove::ProveArgs),
    Check(check::CheckArgs),
    Evidence(prove::EvidenceArgs),
    #[command(subcommand)]
    Anchors(anchors::AnchorsCommand),
    #[command(subcommand)]
    Keys(manage::KeysCommand),
    #[command(subcommand)]
    Policy(manage::PolicyCommand),
    #[command(subcommand)]
    Hold(manage::HoldCommand),
    #[command(subcommand)]
    Clock(manage::ClockCommand),
    Purge(purge::PurgeArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Health(health::HealthArgs),
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    #[command(subcommand)]
    BreakGlass(break_glass::BreakGlassCommand),
    Reveal(privacy::RevealArgs),
    Erase(privacy::EraseArgs),
    Redact(redact::RedactArgs),
    Man(help::ManArgs),
    Completions(help::CompletionsArgs),
}

fn main() -> std::process::ExitCode {
    hide_memory();
    say_only_own_panics();
    // Usage errors end the process here, with clap's message and code 2.
    let taken = help::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = taken.unwrap_or_else(|mut e| {
        if e.kind() == clap::error::ErrorKind::UnknownArgument {
            // The tip to pass the flag as a value behind `--` helps nobody who has mistaken a flag.
            e.remove(clap::error::ContextKind::Suggested);
        }
        e.exit()
    });
    let cx = context::Context::of_process();
    cx.end(run(&cx, &cli.command))
}

/// If the storage engine panics over a damaged file, the panic becomes an error with a message; this keeps it from being
/// printed a second time.
fn say_only_own_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !attestlog::is_guarded() {
            say(info);
        }
    }));
}

/// This process holds keys, wherever their passphrase came from: other processes of the account must not read its memory and
/// environment, nor may a core dump contain them. A server started by `mcp` is such a process.
fn hide_memory() {
    // This is never refused; and if it were, the command should not fail because of it.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

fn run(cx: &context::Context, command: &Command) -> exit::Outcome {
    match command {
        Command::Demo(args) => demo::run(cx, args),
        Command::Init(args) => init::run(cx, args),
        Command::Record(args) => record::run(cx, args),
        Command::Import(args) => import::run(cx, args),
        Command::Watch(args) => watch::run(cx, args),
        Command::Query(args) => query::run(cx, args),
        Command::Show(args) => show::run(cx, args),
        Command::Conversations(args) => conversations::run(cx, args),
        Command::Timeline(args) => timeline::run(cx, args),
        Command::Stats(args) => stats::run(cx, args),
        Command::Tail(args) => tail::run(cx, args),
        Command::Serve(args) => serve::run(cx, args),
        Command::Mcp(args) => mcp::run(cx, args),
        Command::Hook(command) => hook::run(cx, command),
        Command::StartChild(args) => starter::run(args),
        Command::Verify(args) => verify::run(cx, args),
        Command::Export(args) => export::run(cx, args),
        Command::Forward(args) => forward::run(cx, args),
        Command::Report(command) => report::run(cx, command),
        Command::Checkpoint(args) => prove::checkpoint(cx, args),
        Command::Prove(args) => prove::prove(cx, args),
        Command::Check(args) => check::check(cx, args),
        Command::Evidence(args) => prove::evidence(cx, args),
        Command::Anchors(command) => anchors::run(cx, command),
        Command::Keys(command) => manage::keys(cx, command),
        Command::Policy(command) => manage::policy(cx, command),
        Command::Hold(command) => manage::hold(cx, command),
        Command::Clock(command) => manage::clock(cx, command),
        Command::Purge(args) => purge::run(cx, args),
        Command::Backup(args) => backup::backup(cx, args),
        Command::Restore(args) => backup::restore(cx, args),
        Command::Health(args) => health::run(cx, args),
        Command::Alerts(command) => alerts::run(cx, command),
        Command::BreakGlass(command) => break_glass::run(cx, command),
        Command::Reveal(args) => privacy::reveal(cx, args),
        Command::Erase(args) => privacy::erase(cx, args),
        Command::Redact(args) => redact::run(cx, args),
        Command::Man(args) => help::man(cx, args),
        Command::Completions(args) => help::completions(cx, args),
    }
}
