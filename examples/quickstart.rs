//! Records a call, finds it again, and checks the whole log. Run with `cargo run --example quickstart`.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::json::Json;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Query, ToolCall, Trigger};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let log = AuditLog::create(dir.path().join("audit.log"))?; // and its key, in audit.log.key

    let arguments = Json::parse(br#"{"order_id":"o-1","status":"shipped","api_key":"k-123"}"#)?.value;
    let call = ToolCall::new("conv_abc123", "usr_98765", "update_order_status")
        .arguments(arguments)
        .result(true)
        .model("gpt-4.1")
        .role("support_agent")
        .trigger(Trigger::UserRequest);
    let receipt = log.record(call)?; // it is on the disk now
    println!("entry {} with hash {}", receipt.seq, receipt.hash);

    for entry in log.query(&Query::new().user("usr_98765").tool("update_order_status"))? {
        let entry = entry?;
        println!("{}", entry.call().ok_or("not a call")?.attribution());
        println!("{}", entry.line()); // without the key
    }
    let verification = log.verify(&VerifyOptions::new())?;
    println!("{} entries, {} findings", verification.entries, verification.findings.len());
    log.close()?;
    Ok(())
}
