//! The promise of the queue: what was accepted is recorded once, in order, whatever happens to its ticket; what was not
//! accepted is not; and no call blocks that promises not to.

use attestlog::instrument::{Queue, Ticket};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, ErrorKind, Options, Query, Sender, ToolCall};
use proptest::prelude::*;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

fn call(tool: impl Into<String>) -> ToolCall {
    ToolCall::new("conv_1", "usr_1", tool)
}

fn tools(log: &AuditLog) -> Vec<String> {
    let calls = log.query(&Query::new()).unwrap().map(Result::unwrap);
    calls.filter_map(|e: Entry| e.call().map(|c| c.tool_name.clone())).collect()
}

/// A clock whose next reading waits until it is released: it delays the commit that reads it.
#[derive(Debug)]
struct Gate {
    gates: Mutex<Option<Receiver<()>>>,
}

impl attestlog::host::Clock for Gate {
    fn now(&self) -> attestlog::Timestamp {
        if thread::current().name() == Some("attestlog-queue")
            && let Some(gate) = &*self.gates.lock().unwrap()
        {
            let _ = gate.recv();
        }
        attestlog::Timestamp::from_nanos(1_700_000_000_000_000_000)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A log whose queue commits only when it is told to, or when the sender is dropped.
fn gated() -> (AuditLog, SyncSender<()>) {
    let (send, receive) = sync_channel(0);
    let gate = Gate { gates: Mutex::new(Some(receive)) };
    (Options::new().clock(Arc::new(gate)).in_memory().unwrap(), send)
}

struct Unpark(Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicUsize::new(0))));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn accepted_calls_are_recorded_in_order_and_their_receipts_are_those_of_the_log() {
    let log = AuditLog::in_memory().unwrap();
    let queue = log.queue(100).unwrap();
    let tickets: Vec<Ticket> = (0..50).map(|i| queue.try_record(call(format!("t{i}"))).unwrap()).collect();
    for (i, ticket) in tickets.into_iter().enumerate() {
        let receipt = if i % 2 == 0 { ticket.wait() } else { block_on(ticket) }.unwrap();
        let entry = log.entry(receipt.seq).unwrap();
        assert_eq!((entry.hash(), &*entry.call().unwrap().tool_name), (receipt.hash, &*format!("t{i}")));
    }
    assert_eq!(tools(&log), (0..50).map(|i| format!("t{i}")).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_is_busy_and_takes_more_when_there_is_room() {
    let (log, gate) = gated();
    let queue = log.queue(2).unwrap();
    let first = queue.try_record(call("a")).unwrap();
    let second = queue.try_record(call("b")).unwrap();
    let busy = queue.try_record(call("c")).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    assert_eq!(queue.len(), 2);
    assert!(!first.is_answered());
    drop(gate);
    first.wait().unwrap();
    second.wait().unwrap();
    queue.record(call("d")).unwrap().wait().unwrap();
    queue.close().unwrap();
    assert_eq!(tools(&log), ["a", "b", "d"]);
}

#[test]
fn dropped_and_cancelled_tickets_neither_lose_nor_double_an_entry() {
    let (log, gate) = gated();
    let queue = log.queue(10).unwrap();
    drop(queue.try_record(call("dropped")).unwrap());
    let mut polled = queue.try_record(call("cancelled")).unwrap();
    assert!(poll_once(&mut polled).is_pending());
    drop(polled);
    drop(gate);
    queue.close().unwrap();
    assert_eq!(tools(&log), ["dropped", "cancelled"]);
}

#[test]
fn a_place_is_waited_for_without_an_entry_in_hand() {
    let (log, gate) = gated();
    let queue = log.queue(1).unwrap();
    let ticket = queue.try_record(call("a")).unwrap();
    let mut cancelled = queue.reserve();
    let mut waiting = queue.reserve();
    assert!(poll_once(&mut cancelled).is_pending());
    assert!(poll_once(&mut waiting).is_pending());
    drop(cancelled);
    drop(gate);
    ticket.wait().unwrap();
    let slot = block_on(waiting).unwrap();
    assert_eq!(queue.try_reserve().unwrap_err().kind(), ErrorKind::Busy);
    // A permit that is given back can be used by another caller.
    drop(slot);
    queue.try_reserve().unwrap().record(call("b")).unwrap().wait().unwrap();
    assert_eq!(tools(&log), ["a", "b"]);
}

#[test]
fn closing_waits_for_everything_and_takes_no_more() {
    let (log, gate) = gated();
    let queue = log.queue(3).unwrap();
    let slot = queue.try_reserve().unwrap();
    drop(queue.try_record(call("a")).unwrap());
    let other = queue.clone();
    let closing = thread::spawn(move || other.close());
    while queue.try_reserve().map_err(|e| e.kind()).err() != Some(ErrorKind::Closed) {
        thread::yield_now();
    }
    assert_eq!(queue.record(call("b")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(queue.reserve()).unwrap_err().kind(), ErrorKind::Closed);
    assert!(!closing.is_finished() && tools(&log).is_empty());
    drop(gate);
    closing.join().unwrap().unwrap();
    assert_eq!(tools(&log), ["a"]);
    // What was accepted before is still recorded.
    slot.record(call("promised")).unwrap().wait().unwrap();
    assert_eq!(tools(&log), ["a", "promised"]);
}

#[test]
fn dropping_the_last_handle_waits_for_everything() {
    let log = AuditLog::in_memory().unwrap();
    let queue = log.queue(1000).unwrap();
    for i in 0..500 {
        drop(queue.try_record(call(format!("t{i}"))).unwrap());
    }
    drop(queue);
    assert_eq!(tools(&log).len(), 500);
}

#[test]
fn a_bad_call_is_refused_at_once_and_takes_no_place() {
    let log = AuditLog::in_memory().unwrap();
    let queue = log.queue(1).unwrap();
    assert_eq!(queue.try_record(call("")).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(log.queue(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    queue.try_record(call("a")).unwrap().wait().unwrap();
}

#[test]
fn a_call_that_the_log_refuses_does_not_touch_its_neighbours() {
    let (log, gate) = gated();
    let queue = log.queue(3).unwrap();
    let tickets = [call("a"), call("b").retry_of(1000), call("c")].map(|c| queue.try_record(c).unwrap());
    drop(gate);
    let answers = tickets.map(|t| t.wait().map(|_| ()).map_err(|e| e.kind()));
    assert_eq!(answers, [Ok(()), Err(ErrorKind::InvalidInput), Ok(())]);
    assert_eq!(tools(&log), ["a", "c"]);
}

#[test]
fn a_log_that_is_closed_too_early_answers_every_ticket() {
    let log = AuditLog::in_memory().unwrap();
    let queue = log.queue(3).unwrap();
    log.close().unwrap();
    assert_eq!(queue.record(call("a")).and_then(|ticket| ticket.wait()).unwrap_err().kind(), ErrorKind::Closed);
    queue.close().unwrap();
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the host's");
        }
    }
    let (log, gate) = gated();
    let queue = log.queue(2).unwrap();
    let mut ticket = queue.try_record(call("a")).unwrap();
    let waker = Waker::from(Arc::new(Panics));
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(gate);
    queue.record(call("b")).unwrap().wait().unwrap();
    ticket.wait().unwrap();
    queue.close().unwrap();
    assert_eq!(tools(&log), ["a", "b"]);
}

#[test]
fn the_last_handle_may_go_on_the_queues_own_thread() {
    struct Holds(Mutex<Option<Queue>>);
    impl Wake for Holds {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let (log, gate) = gated();
    let queue = log.queue(2).unwrap();
    let mut ticket = queue.try_record(call("a")).unwrap();
    let waker = Waker::from(Arc::new(Holds(Mutex::new(Some(queue)))));
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(gate);
    ticket.wait().unwrap();
    assert_eq!(tools(&log), ["a"]);
}

#[test]
fn a_repeated_record_is_answered_with_its_first_receipt_through_a_queue_too() {
    let log = AuditLog::in_memory().unwrap();
    let queue = log.queue(3).unwrap();
    let numbered = || call("a").sender(Sender::new("proxy-1", 1));
    let first = queue.record(numbered()).unwrap();
    let second = queue.record(numbered()).unwrap();
    assert_eq!(first.wait().unwrap(), second.wait().unwrap());
    assert_eq!(tools(&log), ["a"]);
}

#[test]
fn many_threads_through_a_small_queue_beside_direct_records() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::create(dir.path().join("s.log")).unwrap();
    let queue = log.queue(3).unwrap();
    thread::scope(|scope| {
        for t in 0..4 {
            let (queue, log) = (queue.clone(), log.clone());
            scope.spawn(move || {
                for i in 0..25 {
                    match i % 5 {
                        0 => assert!(log.record(call(format!("{t}-{i}"))).is_ok()),
                        1 => drop(block_on(queue.reserve()).unwrap().record(call(format!("{t}-{i}"))).unwrap()),
                        2 => assert!(block_on(queue.record(call(format!("{t}-{i}"))).unwrap()).is_ok()),
                        _ => drop(queue.record(call(format!("{t}-{i}"))).unwrap()),
                    }
                }
            });
        }
    });
    queue.close().unwrap();
    let recorded = tools(&log);
    assert_eq!(recorded.len(), 100);
    for t in 0..4 {
        let of = |direct: bool| -> Vec<usize> {
            let own = recorded.iter().filter_map(|tool| tool.strip_prefix(&format!("{t}-"))?.parse::<usize>().ok());
            own.filter(|i| (i % 5 == 0) == direct).collect()
        };
        assert!(of(false).is_sorted() && of(true).is_sorted());
    }
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

#[derive(Debug, Clone)]
enum Step {
    Record(bool),
    Reserve,
    UseSlot,
    DropSlot,
    WaitOldest,
    DropOldest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<bool>().prop_map(Step::Record),
        Just(Step::Reserve),
        Just(Step::UseSlot),
        Just(Step::DropSlot),
        Just(Step::WaitOldest),
        Just(Step::DropOldest),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The model: a list of what was accepted. Whatever else is done, exactly that is recorded, in that order.
    #[test]
    fn exactly_what_was_accepted_is_recorded(steps in steps(), capacity in 1usize..6) {
        let log = AuditLog::in_memory().unwrap();
        let queue = log.queue(capacity).unwrap();
        let (mut accepted, mut slots, mut tickets) = (Vec::new(), Vec::new(), std::collections::VecDeque::new());
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Record(good) => match queue.try_record(call(if good { format!("t{i}") } else { String::new() })) {
                    Ok(ticket) => {
                        prop_assert!(good);
                        accepted.push(format!("t{i}"));
                        tickets.push_back(ticket);
                    }
                    Err(e) => prop_assert!(e.kind() == ErrorKind::Busy || !good),
                },
                Step::Reserve => slots.extend(queue.try_reserve().ok()),
                Step::UseSlot => if let Some(slot) = slots.pop() {
                    tickets.push_back(slot.record(call(format!("t{i}"))).unwrap());
                    accepted.push(format!("t{i}"));
                },
                Step::DropSlot => drop(slots.pop()),
                Step::WaitOldest => if let Some(ticket) = tickets.pop_front() { ticket.wait().unwrap(); },
                Step::DropOldest => drop(tickets.pop_front()),
            }
            prop_assert!(queue.len() + slots.len() <= capacity);
        }
        drop(slots);
        queue.close().unwrap();
        prop_assert_eq!(tools(&log), accepted);
    }
}
