//! The first example of the README: record, find again, verify.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Query, ToolCall, Trigger};
use serde_json::json;

fn main() -> attestlog::Result<()> {
    let path = std::env::args().nth(1).unwrap_or("audit.log".to_owned());
    let log = AuditLog::create(path)?; // and its keys in audit.log.key beside it
    let receipt = log.record(
        ToolCall::new("conv_1", "usr_7", "update_order_status")
            .arguments(json!({"order_id": "o-1", "api_key": "never stored"}))
            .result(json!({"order_id": "o-1", "status": "shipped"}))
            .model("gpt-4.1")
            .role("support_agent")
            .trigger(Trigger::UserRequest),
    )?; // on the disk now, not soon
    for entry in log.query(&Query::new().user("usr_7").newest_first().limit(10))? {
        println!("{}", entry?.line());
    }
    let proof = log.prove(receipt.seq)?.to_string(); // checks anywhere, without the store
    let auditors_key = log.public_key()?.expect("a store has keys unless it is made without");
    println!("{}", attestlog::proof::check(proof.as_bytes(), &auditors_key)?);
    assert!(log.verify(&VerifyOptions::new())?.ok());
    log.close()
}
