//! The command line: a thin program over the library.
//!
//! One file per command or group of commands: each takes its arguments, opens the store through `store`, asks the library, and shows the
//! answer through `render` and `table`. `remote` runs a command in the process that has the store open, `needs` says what the command must be
//! allowed for that, and `console` is where its input and output then are. This file calls the commands, they call `alerting`, `filter`,
//! `line_reader`, `progress`, `store` and `table`, and those call `render` and `exit`. A command writes an entry only where its name says so.
#![forbid(unsafe_code)]

mod alerting;
mod alerts;
mod anchors;
mod backup;
mod beside;
mod break_glass;
mod check;
mod config;
mod console;
mod demo;
mod ending;
mod exit;
mod export;
mod filter;
mod health;
mod import;
mod init;
mod line_reader;
mod manage;
mod mcp;
mod named;
mod needs;
mod privacy;
mod progress;
mod prove;
mod purge;
mod query;
mod record;
mod redact;
mod remote;
mod render;
mod report;
mod serve;
mod starter;
mod stats;
mod store;
mod table;
mod tail;
mod timeline;
mod verify;
mod verify_args;
mod withheld;

use clap::{Parser, Subcommand};

/// Tamper-evident audit log for the tool calls of AI agents.
#[derive(Debug, Parser)]
#[command(name = "attestlog", version, about, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done and nothing wrong; 1 the check found something, or a line was not recorded; \
    2 bad usage or input; 3 the store could not be used."
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
    Query(Box<query::QueryArgs>),
    Timeline(timeline::TimelineArgs),
    Stats(stats::StatsArgs),
    Tail(Box<tail::TailArgs>),
    Serve(serve::ServeArgs),
    Mcp(Box<mcp::McpArgs>),
    #[command(hide = true)]
    StartChild(starter::StartArgs),
    Verify(verify::VerifyArgs),
    Export(Box<export::ExportArgs>),
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
}

fn main() -> std::process::ExitCode {
    remote::main()
}

/// Runs one command, here.
fn run(command: &Command) -> exit::Outcome {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Record(args) => record::run(args),
        Command::Import(args) => import::run(args),
        Command::Query(args) => query::run(args),
        Command::Timeline(args) => timeline::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Mcp(args) => mcp::run(args),
        Command::StartChild(args) => starter::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Export(args) => export::run(args),
        Command::Report(command) => report::run(command),
        Command::Checkpoint(args) => prove::checkpoint(args),
        Command::Prove(args) => prove::prove(args),
        Command::Check(args) => check::check(args),
        Command::Evidence(args) => prove::evidence(args),
        Command::Anchors(command) => anchors::run(command),
        Command::Keys(command) => manage::keys(command),
        Command::Policy(command) => manage::policy(command),
        Command::Hold(command) => manage::hold(command),
        Command::Clock(command) => manage::clock(command),
        Command::Purge(args) => purge::run(args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Health(args) => health::run(args),
        Command::Alerts(command) => alerts::run(command),
        Command::BreakGlass(command) => break_glass::run(command),
        Command::Reveal(args) => privacy::reveal(args),
        Command::Erase(args) => privacy::erase(args),
        Command::Redact(args) => redact::run(args),
    }
}
