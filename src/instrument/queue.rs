//! A bounded queue in front of the log, for callers that must not wait for the disk.
//!
//! Invariant Q1: an accepted entry is recorded once or answered with an error, whatever happens to its ticket.
//! Invariant Q2: reserved places, waiting entries and entries being committed are together never more than the capacity.
//! Invariant Q3: entries are recorded in the order in which they were accepted.
//!
//! If this process has the store open, accepted entries were already sanitised on the caller's thread, so nothing raw waits
//! here. If another process has, they wait as their host described them, in memory only, since only the owner's policy says
//! what is hidden (I4). One thread takes all waiting entries, up to [`MOST_AT_ONCE`], and commits them together, so one sync
//! serves all that arrived during the previous commit.

use super::call::is_refused;
use crate::audit_log::Staged;
use crate::entry::ToolCall;
use crate::process::Process;
use crate::{AuditLog, Error, ErrorKind, Receipt, Result};
use attestlog_proof::entry::Phase;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle, ThreadId};

/// How many entries one commit takes at most: enough to share a sync, few enough that the first does not wait long.
const MOST_AT_ONCE: usize = 1024;

/// A bounded queue in front of a log. Handles are cheap to clone; the queue closes on [`Queue::close`] or when the last
/// handle is dropped, and both wait until everything accepted is on the disk.
///
/// ```
/// use attestlog::{AuditLog, ErrorKind, ToolCall};
/// let log = AuditLog::in_memory()?;
/// let queue = log.queue(1000)?;
/// match queue.try_record(ToolCall::new("conv_1", "usr_1", "lookup")) {
///     Ok(ticket) => drop(ticket),                           // recorded all the same, nobody waits for it
///     Err(e) if e.kind() == ErrorKind::Busy => { /* slow down */ }
///     Err(e) => return Err(e),
/// }
/// let ticket = queue.try_record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
/// let receipt = ticket.wait()?;                             // or `ticket.await`
/// assert_eq!(log.entry(receipt.seq)?.call().unwrap().tool_name, "lookup");
/// queue.close()?;
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    handle: Arc<Handle>,
}

/// Shared by all handles; closes the queue when the last one is dropped.
struct Handle {
    line: Arc<Line>,
    log: AuditLog,
    worker: Mutex<Option<JoinHandle<()>>>,
    worker_id: ThreadId,
}

/// Shared by the callers and the worker.
struct Line {
    capacity: usize,
    state: Mutex<State>,
    /// Wakes the worker: there is work, or no more will come.
    work: Condvar,
    /// Wakes threads that wait for a permit, or for the queue to be empty.
    room: Condvar,
}

struct State {
    items: VecDeque<Item>,
    /// Places in use: their entry waits, is being committed, or is still to come.
    used: usize,
    /// Entries that wait or are being committed.
    open: usize,
    closed: bool,
    /// The worker died, so nothing can be accepted.
    dead: bool,
    wakers: BTreeMap<u64, Waker>,
    next_waker: u64,
}

/// An accepted entry.
struct Item {
    /// `None` after it was handed to the log.
    staged: Option<Staged>,
    /// What to record if the log refuses the entry.
    otherwise: Option<(ToolCall, Phase)>,
    /// `None` after it was answered.
    answer: Option<Arc<Answer>>,
    line: Arc<Line>,
    /// The permit that is released with the answer; `None` if it is kept for another entry.
    permit: Option<Permit>,
}

impl AuditLog {
    /// A queue for at most `capacity` entries, with its own thread.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `capacity` is 0; [`Io`](ErrorKind::Io) if no thread can be started.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1000)?;
    /// queue.record(ToolCall::new("conv_1", "usr_1", "lookup"))?.wait()?;
    /// queue.close()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn queue(&self, capacity: usize) -> Result<Queue> {
        if capacity == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "a queue needs room for at least one entry"));
        }
        let line = Arc::new(Line {
            capacity,
            state: Mutex::new(State {
                items: VecDeque::new(),
                used: 0,
                open: 0,
                closed: false,
                dead: false,
                wakers: BTreeMap::new(),
                next_waker: 0,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let (log, engine) = (self.clone(), line.clone());
        let worker = thread::Builder::new().name("attestlog-queue".to_owned()).spawn(move || work(&log, &engine))?;
        let worker_id = worker.thread().id();
        let handle = Handle { line, log: self.clone(), worker: Mutex::new(Some(worker)), worker_id };
        Ok(Queue { handle: Arc::new(handle) })
    }
}

impl Queue {
    /// Accepts a call, waiting only for its sanitising. It is recorded whatever happens to the ticket.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if every permit is taken, [`Closed`](ErrorKind::Closed) after [`Queue::close`],
    /// otherwise as [`AuditLog::record`]. On any error nothing was accepted.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1000)?;
    /// let receipt = queue.try_record(ToolCall::new("conv_1", "usr_1", "lookup"))?.wait()?;
    /// assert_eq!(log.entry(receipt.seq)?.hash(), receipt.hash);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn try_record(&self, call: ToolCall) -> Result<Ticket> {
        self.try_reserve()?.record(call)
    }

    /// Accepts a call; blocks the thread while every permit is taken.
    ///
    /// # Errors
    /// As [`Queue::try_record`], except `Busy`.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1)?;
    /// let first = queue.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let second = queue.record(ToolCall::new("conv_1", "usr_1", "lookup"))?; // waits until the first is on the disk
    /// assert_eq!(first.wait()?.seq + 1, second.wait()?.seq);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn record(&self, call: ToolCall) -> Result<Ticket> {
        self.reserve().wait()?.record(call)
    }

    /// A permit for one entry, if one is free.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if every permit is taken; [`Closed`](ErrorKind::Closed) after [`Queue::close`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1)?;
    /// let slot = queue.try_reserve()?;
    /// assert!(queue.try_reserve().is_err(), "the only permit is taken");
    /// slot.record(ToolCall::new("conv_1", "usr_1", "lookup"))?.wait()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn try_reserve(&self) -> Result<Slot> {
        let busy = || {
            let message =
                format!("the queue's {} places are taken; nothing was accepted, retry later", self.capacity());
            Error::new(ErrorKind::Busy, message)
        };
        self.handle.log.check_process()?;
        self.take_place(&mut self.handle.line.lock())?.ok_or_else(busy)
    }

    /// A permit for one entry, as soon as one is free: a future, or [`Reserve::wait`]. Dropping it gives up only the place in
    /// line, so a caller that may be cancelled reserves a permit first and then makes the entry.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1)?;
    /// let slot = queue.reserve().wait()?; // or `queue.reserve().await?`
    /// slot.record(ToolCall::new("conv_1", "usr_1", "lookup"))?.wait()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn reserve(&self) -> Reserve {
        Reserve { queue: self.clone(), waker: None }
    }

    /// The capacity of the queue, in entries.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// assert_eq!(log.queue(1000)?.capacity(), 1000);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.handle.line.capacity
    }

    /// How many accepted entries are not on the disk yet.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1000)?;
    /// queue.record(ToolCall::new("conv_1", "usr_1", "lookup"))?.wait()?;
    /// assert_eq!(queue.len(), 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.handle.line.lock().open
    }

    /// Whether everything that was accepted is on the disk, or was answered with an error.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1000)?;
    /// queue.record(ToolCall::new("conv_1", "usr_1", "lookup"))?.wait()?;
    /// assert!(queue.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops accepting entries, through any handle, and waits until everything accepted is answered. Permits that were
    /// [reserved](Queue::reserve) before can still be used. Close the queue before the log.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the queue's thread died, which no input can cause.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let queue = log.queue(1000)?;
    /// drop(queue.record(ToolCall::new("conv_1", "usr_1", "lookup"))?);
    /// let before = log.size()?;
    /// queue.clone().close()?; // everything accepted is on the disk
    /// assert!(log.size()? >= before && queue.is_empty());
    /// assert!(queue.try_record(ToolCall::new("conv_1", "usr_1", "lookup")).is_err());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        self.handle.log.check_process()?;
        let line = &self.handle.line;
        let mut state = line.lock();
        state.closed = true;
        let wakers = std::mem::take(&mut state.wakers);
        line.work.notify_all();
        line.room.notify_all();
        while state.open > 0 && !state.dead {
            state = line.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let dead = state.dead;
        drop(state);
        wakers.into_values().for_each(wake);
        if dead { Err(died()) } else { Ok(()) }
    }

    /// Whether entries accepted here are recorded in that log.
    pub(super) fn is_of(&self, log: &AuditLog) -> bool {
        self.handle.log.is(log)
    }

    fn take_place(&self, state: &mut MutexGuard<'_, State>) -> Result<Option<Slot>> {
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the queue was closed"));
        }
        if state.dead {
            return Err(died());
        }
        if state.used >= self.handle.line.capacity {
            return Ok(None);
        }
        state.used += 1;
        let permit = Permit(Some(self.handle.line.clone()));
        Ok(Some(Slot { queue: self.clone(), permit: Some(permit) }))
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("capacity", &self.capacity()).field("len", &self.len()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.log.check_process().is_err() {
            // In a forked child: the thread, and what it would have recorded, are the parent's.
            std::mem::forget(self.worker.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            return;
        }
        {
            let mut state = self.line.lock();
            state.closed = true;
            self.line.work.notify_all();
        }
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may be dropped by a task that the worker itself woke.
        if let Some(worker) = worker.filter(|_| thread::current().id() != self.worker_id) {
            let _ = worker.join();
        }
    }
}

/// A permit in the queue. Dropping it releases it.
#[must_use = "a permit that is not used is given back"]
pub struct Slot {
    queue: Queue,
    permit: Option<Permit>,
}

impl Slot {
    /// Accepts a call with this permit.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`TooLarge`](ErrorKind::TooLarge) or [`Key`](ErrorKind::Key), as
    /// [`AuditLog::record`]; the permit is released.
    pub fn record(mut self, call: ToolCall) -> Result<Ticket> {
        let staged = self.queue.handle.log.stage(call, Phase::Whole)?;
        Ok(self.accept(staged, None, true))
    }

    /// Accepts a staged entry. The permit goes with it if this is the last entry that it was taken for.
    pub(super) fn accept(&mut self, staged: Staged, otherwise: Option<(ToolCall, Phase)>, last: bool) -> Ticket {
        let line = self.queue.handle.line.clone();
        let answer = Arc::new(Answer::default());
        let permit = if last { self.permit.take() } else { None };
        let item = Item { staged: Some(staged), otherwise, answer: Some(answer.clone()), line: line.clone(), permit };
        let mut state = line.lock();
        state.open += 1;
        if state.dead {
            // Dropping the item answers it; that must happen outside the lock.
            drop(state);
            drop(item);
        } else {
            state.items.push_back(item);
            line.work.notify_one();
        }
        Ticket { answer, process: Process::this() }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// One unit of the queue's capacity.
struct Permit(Option<Arc<Line>>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            let mut state = line.lock();
            let wakers = line.give_back(&mut state);
            drop(state);
            wakers.into_values().for_each(wake);
        }
    }
}

/// A future permit: see [`Queue::reserve`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Reserve {
    queue: Queue,
    waker: Option<u64>,
}

impl Reserve {
    /// Blocks the thread until there is a permit.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`Queue::close`].
    pub fn wait(self) -> Result<Slot> {
        self.queue.handle.log.check_process()?;
        let line = &self.queue.handle.line;
        let mut state = line.lock();
        loop {
            if let Some(slot) = self.queue.take_place(&mut state)? {
                return Ok(slot);
            }
            state = line.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Reserve {
    type Output = Result<Slot>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Slot>> {
        let this = &mut *self;
        this.queue.handle.log.check_process()?;
        let mut state = this.queue.handle.line.lock();
        if let Some(slot) = this.queue.take_place(&mut state).transpose() {
            return Poll::Ready(slot);
        }
        let id = *this.waker.get_or_insert_with(|| {
            state.next_waker += 1;
            state.next_waker
        });
        let old = state.wakers.insert(id, cx.waker().clone());
        // A waker may be the last reference to a task, and the task may hold a permit: drop it outside the lock.
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Some(id) = self.waker {
            let waker = self.queue.handle.line.lock().wakers.remove(&id);
            drop(waker);
        }
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// The answer to an accepted call: a future of its receipt, or [`Ticket::wait`]. If it is dropped, the call is still
/// recorded.
#[must_use = "a ticket says whether the call was recorded"]
pub struct Ticket {
    answer: Arc<Answer>,
    process: Process,
}

#[derive(Default)]
struct Answer {
    state: Mutex<Answered>,
    there: Condvar,
}

#[derive(Default)]
struct Answered {
    result: Option<Result<Receipt>>,
    given: bool,
    waker: Option<Waker>,
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, Answered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers, unless it was already answered. Returns the waker to call.
    fn give(&self, result: Result<Receipt>) -> Option<Waker> {
        let mut state = self.lock();
        if state.given {
            return None;
        }
        state.given = true;
        state.result = Some(result);
        self.there.notify_all();
        state.waker.take()
    }
}

/// Wakes a task of the host. Its panic does not affect the queue.
fn wake(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

impl Ticket {
    /// Blocks the thread until the call is on the disk.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn wait(self) -> Result<Receipt> {
        self.process.check()?;
        let mut state = self.answer.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            if state.given {
                return Err(taken());
            }
            state = self.answer.there.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the answer has arrived, so that [`Ticket::wait`] would not block.
    pub fn is_answered(&self) -> bool {
        self.answer.lock().given
    }
}

impl Future for Ticket {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Receipt>> {
        self.process.check()?;
        let mut state = self.answer.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None if state.given => Poll::Ready(Err(taken())),
            None => {
                let old = state.waker.replace(cx.waker().clone());
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("is_answered", &self.is_answered()).finish()
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases a permit. Returns the wakers of all that wait for one: each tries again, because a task that was woken and
    /// then cancelled could not pass its turn on.
    fn give_back(&self, state: &mut State) -> BTreeMap<u64, Waker> {
        state.used -= 1;
        self.room.notify_all();
        if state.closed && state.used == 0 {
            self.work.notify_all();
        }
        std::mem::take(&mut state.wakers)
    }
}

impl Item {
    /// Gives the answer, ends the entry and releases the permit, all under one lock.
    fn settle(&mut self, result: Result<Receipt>) {
        let Some(answer) = self.answer.take() else { return };
        let mut state = self.line.lock();
        let waker = answer.give(result);
        state.open -= 1;
        if state.open == 0 {
            self.line.room.notify_all();
        }
        let wakers = match self.permit.take() {
            Some(mut permit) => {
                permit.0 = None;
                self.line.give_back(&mut state)
            }
            None => BTreeMap::new(),
        };
        drop(state);
        waker.into_iter().chain(wakers.into_values()).for_each(wake);
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        // An item dropped without an answer was lost with a worker that died.
        self.settle(Err(died()));
    }
}

/// Marks the queue as dead when its worker dies.
struct Alive<'a>(&'a Line);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.dead = thread::panicking();
        let items = std::mem::take(&mut state.items);
        let wakers = std::mem::take(&mut state.wakers);
        self.0.room.notify_all();
        drop(state);
        drop(items);
        wakers.into_values().for_each(wake);
    }
}

/// The worker: commits waiting entries until no more can come.
fn work(log: &AuditLog, line: &Line) {
    let _alive = Alive(line);
    loop {
        let mut items: Vec<Item> = {
            let mut state = line.lock();
            while state.items.is_empty() {
                if state.closed && state.used == 0 {
                    return;
                }
                state = line.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let count = state.items.len().min(MOST_AT_ONCE);
            state.items.drain(..count).collect()
        };
        let staged: Vec<Staged> = items.iter_mut().filter_map(|item| item.staged.take()).collect();
        let answers = log.commit_each(staged);
        for (mut item, answer) in items.into_iter().zip(answers) {
            let answer = match (answer, item.otherwise.take()) {
                (Err(e), Some((call, phase))) if is_refused(&e) => {
                    log.stage(call, phase).and_then(|staged| log.commit(staged))
                }
                (answer, _) => answer,
            };
            item.settle(answer);
        }
    }
}

fn died() -> Error {
    Error::new(ErrorKind::Closed, "the queue's thread died; open the store again and check what was recorded")
}

fn taken() -> Error {
    Error::new(ErrorKind::Closed, "the receipt was handed out already")
}
