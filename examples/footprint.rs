//! What an agent pays for embedding the log: builds without the command line, opens a store, records, and says how much
//! memory the process has resident.
//!
//! ```text
//! cargo build --release -p attestlog --no-default-features --example footprint
//! strip -o /tmp/footprint target/release/examples/footprint && ls -l /tmp/footprint
//! /tmp/footprint
//! ```
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::{AuditLog, Query, ToolCall};
use std::process::ExitCode;

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.map_or("not known on this system".to_owned(), |l| l.trim_start_matches("VmRSS:").trim().to_owned())
}

fn run() -> attestlog::Result<()> {
    println!("resident before: {}", resident());
    let folder = std::env::temp_dir().join(format!("attestlog-footprint-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let log = AuditLog::create(folder.join("audit.log"))?;
    println!("resident with an open store: {}", resident());
    let call = |n: u32| ToolCall::new(format!("conv_{}", n / 10), format!("usr_{}", n % 50), "lookup");
    for batch in 0..10 {
        log.record_batch((0..1000).map(|n| call(batch * 1000 + n)))?;
    }
    let found = log.count(&Query::new().user("usr_7"))?;
    println!("resident after 10,000 calls, {found} of them found by user: {}", resident());
    log.close()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
