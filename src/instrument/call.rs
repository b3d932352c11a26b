//! A wrapper around a tool's handler that records the call, whatever happens.
//!
//! Invariant H1: a handler that began is recorded once, whether it returns, fails, panics or is dropped before its end.
//! If that is impossible, the caller is told ([`CallFailed::NotRecorded`]) or, if there is no caller any more (a dropped
//! future, a panic), the hook of [`Wrap::on_unrecorded`]. Invariant H2: the handler's error and panic pass through
//! unchanged. Invariant H3: unless the host chose [`Wrap::fail_open`], no handler runs if its call cannot be recorded, as
//! far as that can be known before it runs, and no answer is returned that was not recorded.
//!
//! Only a host built with `panic = "abort"`, a killed process or a power failure leaves no trace of a call;
//! [`Wrap::two_step`] covers these.

use super::queue::{Queue, Slot, Ticket};
use crate::entry::ToolCall;
use crate::json::{Json, Object, Parsed};
use crate::{AuditLog, Error, ErrorKind, Receipt, Result};
use attestlog_proof::entry::{Outcome, Phase};
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// The longest error message that is kept; for a longer one the entry states only its length.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Why a wrapped call returns no answer to its caller.
#[non_exhaustive]
pub enum CallFailed<T, E> {
    /// The handler failed with this error, and that is recorded.
    Handler(E),
    /// The call could not be recorded.
    NotRecorded {
        /// Why not.
        error: Error,
        /// What the handler returned, so that it can be undone or kept elsewhere; `None` if it did not run.
        result: Option<Result<T, E>>,
    },
}

impl<T, E> CallFailed<T, E> {
    /// What the handler returned, recorded or not; `None` if it did not run.
    pub fn into_result(self) -> Option<Result<T, E>> {
        match self {
            CallFailed::Handler(e) => Some(Err(e)),
            CallFailed::NotRecorded { result, .. } => result,
        }
    }
}

impl<T, E: fmt::Display> fmt::Display for CallFailed<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallFailed::Handler(e) => e.fmt(f),
            CallFailed::NotRecorded { error, result: None } => {
                write!(f, "the call was not made, because it could not be recorded: {error}")
            }
            CallFailed::NotRecorded { error, .. } => write!(f, "the call was made, but could not be recorded: {error}"),
        }
    }
}

impl<T, E: fmt::Display> fmt::Debug for CallFailed<T, E> {
    // Without the answer, which may not belong in a program's own log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallFailed::Handler(e) => write!(f, "Handler({e})"),
            CallFailed::NotRecorded { error, result } => {
                f.debug_struct("NotRecorded").field("error", error).field("ran", &result.is_some()).finish()
            }
        }
    }
}

impl<T, E: fmt::Display> std::error::Error for CallFailed<T, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallFailed::Handler(_) => None,
            CallFailed::NotRecorded { error, .. } => Some(error),
        }
    }
}

/// Decides the outcome of a call that failed with an `E`.
pub trait Classify<E> {
    /// The outcome. [`Outcome::Ok`] counts as [`Outcome::ToolError`]: an error is not a success.
    fn outcome(&self, error: &E) -> Outcome;
}

/// Every error is a tool error.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl<E> Classify<E> for Plain {
    fn outcome(&self, _: &E) -> Outcome {
        Outcome::ToolError
    }
}

/// The host's function decides.
#[derive(Debug, Clone, Copy)]
pub struct Mapped<F>(F);

impl<E, F: Fn(&E) -> Outcome> Classify<E> for Mapped<F> {
    fn outcome(&self, error: &E) -> Outcome {
        (self.0)(error)
    }
}

type OnRecorded<'a> = Box<dyn FnOnce(Receipt) + Send + 'a>;
type OnUnrecorded<'a> = Box<dyn FnMut(Error) + Send + 'a>;

/// How a handler is run and recorded: a builder, from [`AuditLog::wrap`].
#[must_use = "a wrapped call does nothing until it is run"]
pub struct Wrap<'a, C = Plain> {
    log: AuditLog,
    call: ToolCall,
    classify: C,
    two_step: bool,
    fail_open: bool,
    queue: Option<Queue>,
    hooks: Hooks<'a>,
}

#[derive(Default)]
struct Hooks<'a> {
    recorded: Option<OnRecorded<'a>>,
    unrecorded: Option<OnUnrecorded<'a>>,
}

impl AuditLog {
    /// Runs a handler and records the call: its answer as the result, its error with the name of the error's type, or its
    /// panic, which then continues; and the duration.
    ///
    /// An answer with an `error` member counts as a failure, as with [`ToolCall::result`].
    ///
    /// # Errors
    /// [`CallFailed::Handler`] with the handler's own error; [`CallFailed::NotRecorded`] if the call could not be recorded.
    ///
    /// ```
    /// use attestlog::{AuditLog, ToolCall, instrument::CallFailed};
    /// # let log = AuditLog::in_memory()?;
    /// let answer = log.call(ToolCall::new("conv_1", "usr_1", "lookup_order"), || -> Result<_, std::io::Error> {
    ///     Ok(std::collections::BTreeMap::from([("status", "shipped")]))
    /// });
    /// assert_eq!(answer.unwrap()["status"], "shipped");
    ///
    /// let answer = log.call(ToolCall::new("conv_1", "usr_1", "cancel_order"), || Err::<(), _>("already shipped"));
    /// assert!(matches!(answer, Err(CallFailed::Handler("already shipped"))));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn call<T: Serialize, E: fmt::Display>(
        &self,
        call: ToolCall,
        handler: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallFailed<T, E>> {
        self.wrap(call).run(handler)
    }

    /// As [`AuditLog::call`], for a future, on any runtime or none. If it is dropped before its end, the call is recorded as
    /// [abandoned](Outcome::Abandoned); if it is never polled, nothing is recorded, since nothing was called.
    ///
    /// The polling thread waits for the disk when the handler is done, unless the call goes [through](Wrap::through) a queue.
    ///
    /// # Errors
    /// As [`AuditLog::call`].
    ///
    /// ```
    /// use attestlog::{AuditLog, ToolCall};
    /// use std::task::{Context, Poll, Waker};
    /// # let log = AuditLog::in_memory()?;
    /// let call = ToolCall::new("conv_1", "usr_1", "lookup_order");
    /// let answer = log.call_async(call, async { Ok::<_, std::io::Error>("shipped") }); // .await, in an async function
    /// let polled = Box::pin(answer).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    /// assert!(matches!(polled, Poll::Ready(Ok("shipped"))));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn call_async<T, E, F>(
        &self,
        call: ToolCall,
        handler: F,
    ) -> impl Future<Output = Result<T, CallFailed<T, E>>> + use<T, E, F>
    where
        T: Serialize,
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        self.wrap(call).run_async(handler)
    }

    /// A call to be run and recorded, with options.
    ///
    /// ```
    /// use attestlog::{AuditLog, Outcome, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// enum Refused { ByPolicy }
    /// # impl std::fmt::Display for Refused {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("refused by policy") }
    /// # }
    /// let mut seq = None;
    /// let answer = log
    ///     .wrap(ToolCall::new("conv_1", "usr_1", "issue_refund"))
    ///     .two_step()                                                        // begun is on the disk before it runs
    ///     .outcome_of(|e: &Refused| match e { Refused::ByPolicy => Outcome::Denied })
    ///     .on_recorded(|receipt| seq = Some(receipt.seq))
    ///     .run(|| Err::<(), _>(Refused::ByPolicy));
    /// assert!(answer.is_err());
    /// let entry = log.entry(seq.unwrap())?;
    /// assert_eq!(entry.call().unwrap().completion.as_ref().unwrap().outcome, Outcome::Denied);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn wrap<'a>(&self, call: ToolCall) -> Wrap<'a> {
        let hooks = Hooks::default();
        Wrap { log: self.clone(), call, classify: Plain, two_step: false, fail_open: false, queue: None, hooks }
    }
}

impl<'a, C> Wrap<'a, C> {
    /// Records that the call is about to be made before it is made, and its end as a second entry, so that a crash in
    /// between leaves a trace. Costs a second commit.
    pub fn two_step(mut self) -> Self {
        self.two_step = true;
        self
    }

    /// Records through a queue: a future then waits for the disk without blocking its thread. A place in the queue is
    /// reserved before the handler runs, so that there is room for its end; two steps need no second place.
    /// The queue must be one of this log's, otherwise the call is not made.
    pub fn through(mut self, queue: &Queue) -> Self {
        self.queue = Some(queue.clone());
        self
    }

    /// Lets the call through even if it cannot be recorded: the caller gets the handler's answer, and only
    /// [`Wrap::on_unrecorded`] learns that an entry is missing. Default: the call fails.
    pub fn fail_open(mut self) -> Self {
        self.fail_open = true;
        self
    }

    /// Decides the outcome if the handler failed: denied, timed out. Default: every error is a tool error.
    pub fn outcome_of<E, F: Fn(&E) -> Outcome>(self, outcome: F) -> Wrap<'a, Mapped<F>> {
        let Wrap { log, call, two_step, fail_open, queue, hooks, .. } = self;
        Wrap { log, call, classify: Mapped(outcome), two_step, fail_open, queue, hooks }
    }

    /// Called with the receipt of the entry that records the call's end, once it is on the disk.
    pub fn on_recorded(mut self, hook: impl FnOnce(Receipt) + Send + 'a) -> Self {
        self.hooks.recorded = Some(Box::new(hook));
        self
    }

    /// Called with the error if something could not be recorded and the caller cannot be told otherwise: under
    /// [`Wrap::fail_open`], while a panic continues, and when a future is dropped before its end.
    pub fn on_unrecorded(mut self, hook: impl FnMut(Error) + Send + 'a) -> Self {
        self.hooks.unrecorded = Some(Box::new(hook));
        self
    }

    /// Runs the handler on this thread and returns when the outcome is on the disk.
    ///
    /// # Errors
    /// As [`AuditLog::call`].
    pub fn run<T: Serialize, E: fmt::Display>(
        self,
        handler: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallFailed<T, E>>
    where
        C: Classify<E>,
    {
        block_on(self.run_async(async move { handler() }))
    }

    /// Runs the handler as a future (see [`AuditLog::call_async`]).
    ///
    /// # Errors
    /// As [`AuditLog::call`].
    pub async fn run_async<T, E, F>(self, handler: F) -> Result<T, CallFailed<T, E>>
    where
        T: Serialize,
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
        C: Classify<E>,
    {
        let Wrap { log, call, classify, two_step, fail_open, queue, hooks } = self;
        let mut running = Running { log, call: None, slot: None, begin: None, begun: None, started: None, hooks };
        if let Err(error) = running.start(call, two_step, queue).await {
            if !fail_open {
                return Err(CallFailed::NotRecorded { error, result: None });
            }
            running.hooks.missing(error);
            return handler.await.map_err(CallFailed::Handler);
        }
        // Declared after `running`: when this future is dropped, the handler is dropped before its end is recorded.
        let mut handler = pin!(handler);
        let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await;
        // What the host's types do here (serialise, print) counts as part of the handler.
        let said = catch_unwind(AssertUnwindSafe(|| match &ended {
            Ok(Ok(value)) => End::answer(value),
            Ok(Err(e)) => End::failure(classify.outcome(e), type_name::<E>(), e),
            Err(panic) => End::panic(&**panic),
        }));
        let (ended, end) = match said {
            Ok(end) => (ended, end),
            Err(panic) => {
                let end = End::panic(&*panic);
                (Err(panic), end)
            }
        };
        let recorded = running.end(end).await;
        match (ended, recorded) {
            (Ok(result), Ok(receipt)) => {
                if let Some(hook) = running.hooks.recorded.take() {
                    hook(receipt);
                }
                result.map_err(CallFailed::Handler)
            }
            (Ok(result), Err(error)) if fail_open => {
                running.hooks.missing(error);
                result.map_err(CallFailed::Handler)
            }
            (Ok(result), Err(error)) => Err(CallFailed::NotRecorded { error, result: Some(result) }),
            (Err(panic), recorded) => {
                if let Err(error) = recorded {
                    running.hooks.missing(error);
                }
                resume_unwind(panic)
            }
        }
    }
}

impl<C> fmt::Debug for Wrap<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrap")
            .field("tool_name", &self.call.tool_name)
            .field("two_step", &self.two_step)
            .field("fail_open", &self.fail_open)
            .finish_non_exhaustive()
    }
}

impl Hooks<'_> {
    fn missing(&mut self, error: Error) {
        if let Some(hook) = &mut self.unrecorded {
            hook(error);
        }
    }
}

/// A call in progress. If it is dropped before its end was handed over, it records that it was abandoned.
struct Running<'a> {
    log: AuditLog,
    /// The call, from the moment its handler may run until its end is handed over.
    call: Option<ToolCall>,
    slot: Option<Slot>,
    /// The beginning, until it is known to be on the disk.
    begin: Option<Ticket>,
    begun: Option<u64>,
    started: Option<Duration>,
    hooks: Hooks<'a>,
}

impl Running<'_> {
    /// Everything that must happen before the handler runs.
    async fn start(&mut self, mut call: ToolCall, two_step: bool, queue: Option<Queue>) -> Result<()> {
        let log = self.log.clone();
        let options = log.options();
        call.validate(&options.limits)?;
        let bytes = call.arguments.as_ref().map_or(0, |a| a.to_canonical().as_str().len());
        let limit = options.limits.line_bytes;
        if bytes > limit {
            let message = format!("the arguments have {bytes} bytes, more than the {limit} that an entry may have");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        if let Some(queue) = queue {
            if !queue.is_of(&log) {
                return Err(Error::new(ErrorKind::InvalidInput, "the queue belongs to another log"));
            }
            self.slot = Some(queue.reserve().await?);
        }
        // The caller's result and outcome are dropped: this run decides them. If the caller gave no time, the call's time is
        // when it begins.
        (call.result, call.outcome) = (None, None);
        call.timestamp.get_or_insert(options.clock.now());
        if two_step {
            let staged = log.stage(call.clone(), Phase::Begun)?;
            // From here on the call may be in the store, so its end must be recorded.
            self.call = Some(call);
            let begun = match &mut self.slot {
                None => log.commit(staged),
                Some(slot) => {
                    self.begin = Some(slot.accept(staged, None, false));
                    poll_fn(|cx| match &mut self.begin {
                        Some(ticket) => pin!(ticket).poll(cx),
                        None => Poll::Pending,
                    })
                    .await
                }
            };
            self.begin = None;
            match begun {
                Ok(receipt) => self.begun = Some(receipt.seq),
                Err(e) => {
                    self.call = None;
                    return Err(e);
                }
            }
        } else {
            self.call = Some(call);
        }
        self.started = Some(options.clock.monotonic());
        Ok(())
    }

    /// Records how the call ended.
    async fn end(&mut self, end: End) -> Result<Receipt> {
        match self.hand_over(end)? {
            Handed::Recorded(receipt) => Ok(receipt),
            Handed::Waits(ticket) => ticket.await,
        }
    }

    /// Hands the end to the log or the queue. What they have is recorded whether or not anybody waits for it.
    fn hand_over(&mut self, end: End) -> Result<Handed> {
        let nothing = || Error::new(ErrorKind::Closed, "the end of the call was recorded before");
        let mut call = self.call.take().ok_or_else(nothing)?;
        if let Some(started) = self.started {
            call = call.duration(self.log.options().clock.monotonic().saturating_sub(started));
        }
        let phase = match self.begun {
            Some(begun) => {
                // The sender's number belongs to the beginning.
                call.sender = None;
                Phase::Finished(begun)
            }
            None => Phase::Whole,
        };
        let mut spare = call.clone();
        let (staged, reduced) = match self.log.stage(end.onto(call), phase) {
            Ok(staged) => {
                let outcome = staged.outcome();
                (staged, end.reduced(outcome).onto(spare))
            }
            Err(e) if is_refused(&e) => {
                spare = end.reduced(None).onto(spare);
                (self.log.stage(spare.clone(), phase)?, spare)
            }
            Err(e) => return Err(e),
        };
        if let Some(mut slot) = self.slot.take() {
            return Ok(Handed::Waits(slot.accept(staged, Some((reduced, phase)), true)));
        }
        let recorded = match self.log.commit(staged) {
            Err(e) if is_refused(&e) => self.log.commit(self.log.stage(reduced, phase)?),
            recorded => recorded,
        };
        recorded.map(Handed::Recorded)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.call.is_none() {
            return;
        }
        if let Some(ticket) = self.begin.take() {
            // Cancelled while the beginning was being recorded: recording the end needs its seq.
            match ticket.wait() {
                Ok(receipt) => self.begun = Some(receipt.seq),
                // The beginning was not recorded, and nothing ran.
                Err(e) => return self.hooks.missing(e),
            }
        }
        if let Err(e) = self.hand_over(End::Abandoned) {
            self.hooks.missing(e);
        }
    }
}

/// Whether the call itself is at fault, and not the store.
pub(super) fn is_refused(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge)
}

/// The result of handing over an end.
enum Handed {
    Recorded(Receipt),
    Waits(Ticket),
}

/// How a handler ended, as its entry records it.
enum End {
    Answer(Parsed),
    /// It returned something that cannot be kept, for this reason.
    Unkept(Outcome, String),
    Failure {
        outcome: Outcome,
        kind: Option<String>,
        message: String,
    },
    Abandoned,
}

impl End {
    fn answer(value: &impl Serialize) -> End {
        match Json::from_serialize(value) {
            Ok(parsed) => End::Answer(parsed),
            Err(e) => End::Unkept(Outcome::Ok, e.to_string()),
        }
    }

    fn failure(outcome: Outcome, kind: Option<&str>, error: &impl fmt::Display) -> End {
        let outcome = if outcome == Outcome::Ok { Outcome::ToolError } else { outcome };
        End::Failure { outcome, kind: kind.map(str::to_owned), message: kept(error.to_string()) }
    }

    fn panic(panic: &(dyn Any + Send)) -> End {
        let message = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or(panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "a panic without a message".to_owned());
        End::Failure { outcome: Outcome::ToolError, kind: Some("panic".to_owned()), message: kept(message) }
    }

    /// The same without anything that may be too large or cannot be kept.
    fn reduced(&self, outcome: Option<Outcome>) -> End {
        match self {
            End::Answer(_) => End::Unkept(outcome.unwrap_or(Outcome::Ok), "the entry would be too large".to_owned()),
            End::Unkept(outcome, _) => End::Unkept(*outcome, "it could not be kept".to_owned()),
            End::Failure { outcome, kind, .. } => End::Failure {
                outcome: *outcome,
                kind: kind.clone(),
                message: "(a message that could not be kept)".to_owned(),
            },
            End::Abandoned => End::Abandoned,
        }
    }

    fn onto(&self, mut call: ToolCall) -> ToolCall {
        match self {
            End::Answer(parsed) => {
                call.restated.extend(parsed.restated.iter().map(|path| match path.to_string() {
                    path if path.is_empty() || path.starts_with('[') => format!("result{path}"),
                    path => format!("result.{path}"),
                }));
                call.result(parsed.value.clone())
            }
            End::Unkept(outcome, why) => {
                let note = Object::from_iter([("result_not_kept", why.as_str())]);
                match outcome {
                    Outcome::Ok => call.result(note),
                    outcome => call.result(note).outcome(*outcome),
                }
            }
            End::Failure { outcome, kind: None, message } => call.error(message.as_str()).outcome(*outcome),
            End::Failure { outcome, kind: Some(kind), message } => {
                call.typed_error(kind.as_str(), message.as_str()).outcome(*outcome)
            }
            End::Abandoned => call.outcome(Outcome::Abandoned),
        }
    }
}

/// A message in a form that an entry can keep.
fn kept(message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        // In KiB, which keeps the number short: with as many digits as a telephone number it would be redacted as one.
        return format!("(a message of {} KiB, which was not kept)", message.len() >> 10);
    }
    if message.contains('\0') { message.replace('\0', "\\0") } else { message }
}

/// The name of an error's type; `None` for types that say nothing about the error.
fn type_name<E>() -> Option<&'static str> {
    let name = std::any::type_name::<E>();
    let text = ["&str", "alloc::string::String", "alloc::borrow::Cow<str>"].contains(&name);
    let hidden = name.contains("dyn ") || name == "anyhow::Error";
    (!text && !hidden).then_some(name)
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // After an early wake-up the future is still pending, and the thread parks again.
            Poll::Pending => thread::park(),
        }
    }
}
