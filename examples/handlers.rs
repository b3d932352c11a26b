//! Wraps tool handlers so that whatever they do is recorded: answers, errors, refusals, panics, and futures that are
//! dropped. Run with `cargo run --example handlers`.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::instrument::CallFailed;
use attestlog::{AuditLog, Outcome, Query, ToolCall};
use std::future::{Future, pending, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

#[derive(Debug, thiserror::Error)]
enum RefundError {
    #[error("refunds above 100 need a supervisor")]
    NotAllowed,
    #[error("the payment provider did not answer")]
    NoAnswer,
}

fn refund(cents: u32) -> Result<String, RefundError> {
    match cents {
        0 => panic!("a refund of nothing"),
        1..=10_000 => Ok("refund-1".to_owned()),
        10_001..=99_999 => Err(RefundError::NotAllowed),
        _ => Err(RefundError::NoAnswer),
    }
}

fn outcome(error: &RefundError) -> Outcome {
    match error {
        RefundError::NotAllowed => Outcome::Denied,
        RefundError::NoAnswer => Outcome::Timeout,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = AuditLog::in_memory()?;
    let call = |tool: &str| ToolCall::new("conv_1", "usr_1", tool);

    // The short form. The handler's own error comes back untouched.
    println!("answer: {:?}", log.call(call("issue_refund"), || refund(500)));

    // With a word on which errors are refusals and which are timeouts.
    for cents in [20_000, 200_000] {
        match log.wrap(call("issue_refund")).outcome_of(outcome).run(|| refund(cents)) {
            Err(CallFailed::Handler(error)) => println!("the tool failed: {error}"),
            Err(failed) => println!("not recorded: {failed}"),
            Ok(id) => println!("refunded: {id}"),
        }
    }

    // A panic is recorded, then goes on.
    std::panic::set_hook(Box::new(|_| {}));
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.call(call("issue_refund"), || refund(0))));
    println!("panicked: {}", panicked.is_err());

    // Futures, on any runtime; here polled by hand. One is answered, one is dropped half-way.
    let mut context = Context::from_waker(Waker::noop());
    let mut answered = pin!(log.call_async(call("lookup_order"), ready(Ok::<_, RefundError>("shipped"))));
    if let Poll::Ready(answer) = answered.as_mut().poll(&mut context) {
        println!("answer: {answer:?}");
    }
    let mut dropped = Box::pin(log.call_async(call("lookup_order"), pending::<Result<(), RefundError>>()));
    let _ = dropped.as_mut().poll(&mut context);
    drop(dropped);

    println!("\nwhat the log says:");
    for entry in log.query(&Query::new().user("usr_1"))? {
        let entry = entry?;
        let Some(done) = entry.call().and_then(|call| call.completion.as_ref()) else { continue };
        let error = done.error.as_ref().map(|e| e.message.as_str()).unwrap_or_default();
        println!("{:>3} {:<11} {error}", entry.seq, done.outcome.to_string());
    }
    Ok(())
}
