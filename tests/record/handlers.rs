//! The promise of the wrapper: whatever a handler does, the log records what happened, once.

use attestlog::entry::{CallLimits, Completion, Phase};
use attestlog::host::ManualClock;
use attestlog::instrument::CallFailed;
use attestlog::{AuditLog, Entry, ErrorKind, Kind, Options, Outcome, Query, Receipt, ToolCall};
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn call() -> ToolCall {
    ToolCall::new("conv_1", "usr_1", "issue_refund")
}

fn log() -> (AuditLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2025-07-06T14:00:00Z".parse().unwrap()));
    (Options::new().clock(clock.clone()).in_memory().unwrap(), clock)
}

fn calls(log: &AuditLog) -> Vec<Entry> {
    log.query(&Query::new()).unwrap().map(Result::unwrap).filter(|e| e.call().is_some()).collect()
}

fn end(entry: &Entry) -> &Completion {
    entry.call().unwrap().completion.as_ref().unwrap()
}

/// The only entry in the log about a call.
fn only(log: &AuditLog) -> Entry {
    let mut entries = calls(log);
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[derive(Debug, PartialEq)]
enum Refused {
    ByPolicy,
    TooLate,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::ByPolicy => "refused by policy",
            Refused::TooLate => "no answer in time",
        })
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn an_answer_is_recorded_with_its_duration_and_given_back() {
    let (log, clock) = log();
    let answer = log.call(call(), || {
        clock.advance(Duration::from_micros(2500));
        Ok::<_, Refused>(vec![("id", 7)].into_iter().collect::<std::collections::BTreeMap<_, _>>())
    });
    assert_eq!(answer.unwrap()["id"], 7);
    let entry = only(&log);
    assert_eq!(end(&entry).outcome, Outcome::Ok);
    assert_eq!(end(&entry).duration_ms, Some(2.5));
    assert_eq!(entry.timestamp().to_string(), "2025-07-06T14:00:00Z", "when it began, not when it was recorded");
    assert!(end(&entry).result_summary.as_ref().unwrap().as_str().contains(r#""keys":{"id":7}"#));
}

#[test]
fn an_error_is_recorded_with_its_type_and_comes_back_untouched() {
    let (log, _) = log();
    let answer = log.call(call(), || Err::<(), _>(Refused::TooLate));
    assert!(matches!(answer, Err(CallFailed::Handler(Refused::TooLate))));
    let entry = only(&log);
    assert_eq!(end(&entry).outcome, Outcome::ToolError);
    let error = end(&entry).error.as_ref().unwrap();
    assert!(error.kind.as_deref().unwrap().ends_with("Refused"), "{error:?}");
    assert_eq!(error.message, "no answer in time");
}

#[test]
fn a_text_as_an_error_has_no_type() {
    let (log, _) = log();
    let _ = log.call(call(), || Err::<(), _>("no such order".to_owned()));
    let entry = only(&log);
    let error = end(&entry).error.as_ref().unwrap();
    assert_eq!((error.kind.as_deref(), error.message.as_str()), (None, "no such order"));
}

#[test]
fn the_host_says_which_error_is_a_refusal_and_which_a_timeout() {
    let (log, _) = log();
    for (error, outcome) in [(Refused::ByPolicy, Outcome::Denied), (Refused::TooLate, Outcome::Timeout)] {
        let mut receipt: Option<Receipt> = None;
        let answer = log
            .wrap(call())
            .outcome_of(|e: &Refused| match e {
                Refused::ByPolicy => Outcome::Denied,
                Refused::TooLate => Outcome::Timeout,
            })
            .on_recorded(|r| receipt = Some(r))
            .run(|| Err::<(), _>(error));
        assert!(answer.is_err());
        assert_eq!(end(&log.entry(receipt.unwrap().seq).unwrap()).outcome, outcome);
    }
    // An error is not a success, whatever the host's function says.
    let _ = log.wrap(call()).outcome_of(|_: &Refused| Outcome::Ok).run(|| Err::<(), _>(Refused::TooLate));
    assert_eq!(end(calls(&log).last().unwrap()).outcome, Outcome::ToolError);
}

#[test]
fn a_panic_is_recorded_and_goes_on() {
    let (log, _) = log();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let order = std::hint::black_box(7);
        let _ = log.call(call(), || -> Result<(), Refused> { panic!("order {order} is locked") });
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref::<String>().unwrap(), "order 7 is locked");
    let entry = only(&log);
    let error = end(&entry).error.as_ref().unwrap();
    assert_eq!((error.kind.as_deref(), error.message.as_str()), (Some("panic"), "order 7 is locked"));
    assert_eq!(end(&entry).outcome, Outcome::ToolError);
}

#[test]
fn a_type_that_panics_when_it_is_shown_is_recorded_like_a_handler_that_panics() {
    #[derive(serde::Serialize)]
    struct Bad(#[serde(serialize_with = "fail")] ());
    fn fail<S: serde::Serializer>(_: &(), _: S) -> Result<S::Ok, S::Error> {
        panic!("cannot be written")
    }
    let (log, _) = log();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(log.call(call(), || Ok::<_, Refused>(Bad(())))))).is_err());
    assert_eq!(end(&only(&log)).error.as_ref().unwrap().message, "cannot be written");
}

#[test]
fn what_cannot_be_kept_of_an_answer_does_not_lose_the_call() {
    let (log, _) = log();
    let answer = log.call(call(), || Ok::<_, Refused>("NUL \0 in it"));
    assert_eq!(answer.unwrap(), "NUL \0 in it");
    assert_eq!(end(&only(&log)).outcome, Outcome::Ok);
    assert!(only(&log).line().contains(r#""restated":["result"]"#), "{}", only(&log).line());

    let _ = log.call(call(), || Err::<(), _>(format!("a\0b{}", "x".repeat(5 << 20))));
    let entry = calls(&log).pop().unwrap();
    assert!(end(&entry).error.as_ref().unwrap().message.contains("5120 KiB"));
    assert_eq!(log.call(call(), || Err::<(), _>("a\0b")).unwrap_err().to_string(), "a\0b");
    assert_eq!(end(&calls(&log).pop().unwrap()).error.as_ref().unwrap().message, "a\\0b");
}

#[test]
fn an_answer_whose_summary_is_too_large_does_not_lose_the_call() {
    let mut limits = CallLimits::default();
    limits.line_bytes = 4096;
    let log = Options::new().limits(limits).in_memory().unwrap();
    let queue = log.queue(4).unwrap();
    let long = || Ok::<_, Refused>([("n".repeat(5000), 1)].into_iter().collect::<std::collections::BTreeMap<_, _>>());
    log.call(call(), long).unwrap();
    log.wrap(call()).through(&queue).run(long).unwrap();
    let entries = calls(&log);
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|e| e.line().contains("result_not_kept") && end(e).outcome == Outcome::Ok));
}

#[test]
fn numbers_that_json_cannot_keep_are_marked_in_the_result() {
    let (log, _) = log();
    log.call(call(), || Ok::<_, Refused>([("id", u64::MAX)].into_iter().collect::<std::collections::BTreeMap<_, _>>()))
        .unwrap();
    assert_eq!(only(&log).call().unwrap().restated, ["result.id"]);
}

#[test]
fn a_call_that_cannot_be_recorded_is_not_made() {
    let (log, _) = log();
    let mut limits = CallLimits::default();
    limits.line_bytes = 4096;
    let small = Options::new().limits(limits).in_memory().unwrap();
    let cases = [
        (log.wrap(ToolCall::new("", "u", "t")), ErrorKind::InvalidInput),
        (small.wrap(call().arguments("x".repeat(5000).as_str())), ErrorKind::TooLarge),
        (small.wrap(call().arguments("x".repeat(4000).as_str())).two_step(), ErrorKind::TooLarge),
    ];
    for (wrap, kind) in cases {
        match wrap.run(|| -> Result<(), Refused> { unreachable!("it must not run") }) {
            Err(CallFailed::NotRecorded { error, result: None }) => assert_eq!(error.kind(), kind),
            other => panic!("{other:?}"),
        }
    }
    assert!(calls(&log).is_empty() && calls(&small).is_empty());
}

#[test]
fn an_answer_that_cannot_be_recorded_is_handed_back_beside_the_error() {
    let (log, _) = log();
    let other = log.clone();
    let answer = log.call(call(), || {
        other.close().unwrap();
        Ok::<_, Refused>("charged")
    });
    let failed = answer.unwrap_err();
    assert!(failed.to_string().contains("was made, but could not be recorded"), "{failed}");
    assert!(!format!("{failed:?}").contains("charged"));
    assert_eq!(failed.into_result(), Some(Ok("charged")));
}

#[test]
fn failing_open_lets_the_answer_through_and_says_what_is_missing() {
    let (log, _) = log();
    let mut missing = Vec::new();
    let answer = log
        .wrap(ToolCall::new("", "u", "t"))
        .fail_open()
        .on_unrecorded(|e| missing.push(e.kind()))
        .run(|| Ok::<_, Refused>(1));
    assert_eq!(answer.unwrap(), 1);
    assert_eq!(missing, [ErrorKind::InvalidInput]);
    assert!(calls(&log).is_empty());
}

#[test]
fn two_steps_are_on_the_disk_before_and_after_and_count_as_one_call() {
    let (log, clock) = log();
    log.wrap(call())
        .two_step()
        .run(|| {
            let begun = only(&log);
            assert_eq!(begun.kind(), Kind::CallBegun);
            assert_eq!(log.query(&Query::new().unfinished()).unwrap().count(), 1);
            clock.advance(Duration::from_millis(3));
            Ok::<_, Refused>(())
        })
        .unwrap();
    let entries = calls(&log);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].call().unwrap().phase, Phase::Finished(entries[0].seq));
    assert_eq!(end(&entries[1]).duration_ms, Some(3.0));
    assert_eq!(log.query(&Query::new().unfinished()).unwrap().count(), 0);
    assert_eq!(log.timeline("conv_1").unwrap().count(), 1);
}

#[test]
fn futures_are_recorded_with_their_answer_error_or_panic() {
    let (log, clock) = log();
    let mut polls = 0;
    let handler = poll_fn(|_| {
        polls += 1;
        clock.advance(Duration::from_millis(1));
        if polls < 3 { Poll::Pending } else { Poll::Ready(Ok::<_, Refused>("done")) }
    });
    let mut future = pin!(log.call_async(call(), handler));
    assert!(poll_once(future.as_mut()).is_pending());
    assert!(poll_once(future.as_mut()).is_pending());
    assert!(calls(&log).is_empty());
    let Poll::Ready(Ok("done")) = poll_once(future.as_mut()) else { panic!("not done") };
    assert_eq!(end(&only(&log)).duration_ms, Some(3.0));

    let failed = poll_once(pin!(log.call_async(call(), ready(Err::<(), _>(Refused::TooLate)))).as_mut());
    assert!(matches!(failed, Poll::Ready(Err(CallFailed::Handler(Refused::TooLate)))));

    let panics = async { if true { panic!("boom") } else { Ok::<(), Refused>(()) } };
    let mut future = pin!(log.call_async(call(), panics));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(poll_once(future.as_mut())))).is_err());
    let outcomes: Vec<_> = calls(&log).iter().map(|e| end(e).error.as_ref().map(|e| e.message.clone())).collect();
    assert_eq!(outcomes, [None, Some("no answer in time".into()), Some("boom".into())]);
}

#[test]
fn a_future_that_is_dropped_is_recorded_as_abandoned_once() {
    let (log, clock) = log();
    let queue = log.queue(4).unwrap();
    for (i, wrap) in [
        log.wrap(call()),
        log.wrap(call()).two_step(),
        log.wrap(call()).through(&queue),
        log.wrap(call()).two_step().through(&queue),
    ]
    .into_iter()
    .enumerate()
    {
        // Two steps through a queue wait for the first, so such a call may be dropped before its handler ran.
        let mut future = Box::pin(wrap.run_async(pending::<Result<(), Refused>>()));
        assert!(poll_once(future.as_mut()).is_pending());
        clock.advance(Duration::from_millis(5));
        drop(future);
        while !queue.is_empty() {
            std::thread::yield_now();
        }
        let ends: Vec<Entry> = calls(&log).into_iter().filter(|e| e.kind() == Kind::ToolCall).collect();
        assert_eq!(ends.len(), i + 1);
        assert_eq!(end(&ends[i]).outcome, Outcome::Abandoned);
        assert!(end(&ends[i]).duration_ms == Some(5.0) || i == 3);
    }
    assert_eq!(log.query(&Query::new().unfinished()).unwrap().count(), 0);
    queue.close().unwrap();
}

#[test]
fn a_future_that_is_never_polled_calls_nothing_and_records_nothing() {
    let (log, _) = log();
    drop(log.call_async(call(), ready(Ok::<_, Refused>(()))));
    assert!(calls(&log).is_empty());
}

#[test]
fn an_end_that_was_handed_over_is_recorded_although_its_future_is_dropped() {
    let (log, _) = log();
    let queue = log.queue(4).unwrap();
    let mut future = Box::pin(log.wrap(call()).through(&queue).run_async(ready(Ok::<_, Refused>("x"))));
    let _ = poll_once(future.as_mut());
    drop(future);
    queue.close().unwrap();
    assert_eq!(end(&only(&log)).outcome, Outcome::Ok);
}

#[test]
fn a_drop_that_cannot_be_recorded_is_told_to_the_hook() {
    let (log, _) = log();
    let missing = Mutex::new(Vec::new());
    let wrap = log.wrap(call()).on_unrecorded(|e| missing.lock().unwrap().push(e.kind()));
    let mut future = Box::pin(wrap.run_async(pending::<Result<(), Refused>>()));
    assert!(poll_once(future.as_mut()).is_pending());
    log.close().unwrap();
    drop(future);
    assert_eq!(missing.into_inner().unwrap(), [ErrorKind::Closed]);
}

#[test]
fn another_logs_queue_is_refused() {
    let (log, _) = log();
    let other = AuditLog::in_memory().unwrap();
    let queue = other.queue(4).unwrap();
    let answer = log.wrap(call()).through(&queue).run(|| Ok::<_, Refused>(()));
    assert!(matches!(answer, Err(CallFailed::NotRecorded { result: None, .. })));
}

#[test]
fn wrapped_futures_can_be_sent_to_other_threads() {
    fn sendable<F: Future + Send + 'static>(_: &F) {}
    let (log, _) = log();
    let queue = log.queue(1).unwrap();
    sendable(&log.call_async(call(), ready(Ok::<_, Refused>(()))));
    sendable(&log.wrap(call()).two_step().through(&queue).run_async(ready(Ok::<_, Refused>(()))));
}
