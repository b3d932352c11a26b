//! Records a dangerous call in two steps, so that a crash in the middle leaves its trace. Run with
//! `cargo run --example two_step`.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::{AuditLog, Query, ToolCall};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("audit.log");
    let log = AuditLog::create(&path)?;

    // As a wrapper: the beginning is on the disk before the handler runs.
    let call = ToolCall::new("conv_1", "usr_1", "update_treatment").patient("P-1");
    log.wrap(call).two_step().run(|| Ok::<_, std::io::Error>("updated"))?;

    // By hand. This one is begun, and then the program dies.
    let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    println!("begun as entry {}", begun.receipt().seq);
    drop(begun);
    log.close()?;

    let log = AuditLog::open(&path)?;
    for entry in log.query(&Query::new().unfinished())? {
        let entry = entry?;
        println!("begun and never finished: entry {}, {}", entry.seq, entry.call().ok_or("not a call")?.attribution());
    }
    // Both steps together are one call.
    println!("calls of the conversation: {}", log.timeline("conv_1")?.count());
    Ok(())
}
