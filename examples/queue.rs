//! Records from threads that must not wait for the disk, and follows what is recorded. Run with
//! `cargo run --example queue`.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::{AuditLog, ErrorKind, Query, ToolCall};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let log = AuditLog::create(dir.path().join("audit.log"))?;
    let queue = log.queue(64)?;

    // Whoever follows sees an entry once it is on the disk: for alerts, a screen, another log pipeline.
    let follower = log.follow(log.size()?).matching(&Query::new().tool("cancel_order"));
    let watching = std::thread::spawn(move || {
        for entry in follower.flatten().take(2) {
            println!("event: {}", entry.event());
        }
    });

    let mut busy = 0;
    for i in 0..1000 {
        let tool = if i % 500 == 0 { "cancel_order" } else { "lookup_order" };
        let call = ToolCall::new("conv_1", "usr_1", tool).turn(i);
        match queue.try_record(call.clone()) {
            Ok(ticket) => drop(ticket), // recorded all the same
            Err(e) if e.kind() == ErrorKind::Busy => {
                busy += 1;
                queue.record(call)?.wait()?; // this one has time to wait; `ticket.await` works as well
            }
            Err(e) => return Err(e.into()),
        }
    }
    queue.close()?; // everything accepted is on the disk
    println!("{} calls recorded, the queue was full {busy} times", log.count(&Query::new().user("usr_1"))?);
    watching.join().map_err(|_| "the watching thread panicked")?;
    Ok(())
}
