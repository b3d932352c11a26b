//! A bounded queue in front of the log, for callers that must not wait for a disk.
//!
//! Invariant Q1: what was accepted is recorded once or answered with an error, whatever becomes of its ticket. Invariant
//! Q2: places that are held, entries that wait and entries that are being committed are together never more than the
//! capacity. Invariant Q3: entries are recorded in the order in which they were accepted.
//!
//! What is accepted was sanitised on the caller's thread already: nothing raw waits here. One thread takes whatever
//! waits, up to [`MOST_AT_ONCE`], and commits it together, so the queue is as fast as the disk's syncs are long.

use crate::entry::ToolCall;
use crate::process::Process;
use crate::store::Prepared;
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

/// How many entries one commit takes: enough to share a sync, few enough that the first does not wait for long.
const MOST_AT_ONCE: usize = 1024;

/// A bounded queue in front of a log. Handles are cheap to clone; the queue closes when it is told to, or when the last
/// handle goes, and both wait until everything accepted is on the disk.
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

/// Closes the queue when the last one is gone.
struct Handle {
    line: Arc<Line>,
    log: AuditLog,
    worker: Mutex<Option<JoinHandle<()>>>,
    worker_id: ThreadId,
}

/// What callers and the worker share.
struct Line {
    capacity: usize,
    state: Mutex<State>,
    /// Wakes the worker: there is something to do, or nothing will come any more.
    work: Condvar,
    /// Wakes whoever waits for a permit, or for the end.
    room: Condvar,
}

struct State {
    items: VecDeque<Item>,
    /// Places that are taken, whether their entry waits, is being committed, or is still to come.
    used: usize,
    /// Entries that wait or are being committed.
    open: usize,
    closed: bool,
    /// The worker died, so nothing can be accepted.
    dead: bool,
    wakers: BTreeMap<u64, Waker>,
    next_waker: u64,
}

/// One entry on its way.
struct Item {
    /// `None` once it was handed to the log.
    prepared: Option<Prepared>,
    /// What to record where the log finds that too large.
    otherwise: Option<(ToolCall, Phase)>,
    /// `None` once it was answered.
    answer: Option<Arc<Answer>>,
    line: Arc<Line>,
    /// The permit that becomes free with the answer. Without one, somebody holds it for what follows.
    permit: Option<Permit>,
}

impl AuditLog {
    /// A queue for at most `capacity` entries, with a thread of its own.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a capacity of nothing; [`Io`](ErrorKind::Io) where no thread can be had.
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
    /// Accepts a call without waiting for anything but its sanitising. It is recorded whatever becomes of the ticket.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) where every permit is taken, [`Closed`](ErrorKind::Closed) after [`Queue::close`],
    /// otherwise as [`AuditLog::record`]; each time nothing was accepted.
    pub fn try_record(&self, call: ToolCall) -> Result<Ticket> {
        self.try_reserve()?.record(call)
    }

    /// Accepts a call, and blocks the thread while every permit is taken.
    ///
    /// # Errors
    /// As [`Queue::try_record`], but for `Busy`.
    pub fn record(&self, call: ToolCall) -> Result<Ticket> {
        self.reserve().wait()?.record(call)
    }

    /// A permit for one entry, if there is one.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) where every permit is taken; [`Closed`](ErrorKind::Closed) after [`Queue::close`].
    pub fn try_reserve(&self) -> Result<Slot> {
        let busy = || {
            let message =
                format!("the queue's {} places are taken; nothing was accepted, retry later", self.capacity());
            Error::new(ErrorKind::Busy, message)
        };
        self.handle.log.engine().config.process.check()?;
        self.take_place(&mut self.handle.line.lock())?.ok_or_else(busy)
    }

    /// A permit for one entry, as soon as there is one: a future, or [`Reserve::wait`]. Dropping it gives up nothing but
    /// the turn, so a caller that may be cancelled takes a permit first and makes the entry then.
    pub fn reserve(&self) -> Reserve {
        Reserve { queue: self.clone(), waker: None }
    }

    /// How many entries the queue has places for.
    pub fn capacity(&self) -> usize {
        self.handle.line.capacity
    }

    /// How many accepted entries are not on the disk yet.
    pub fn len(&self) -> usize {
        self.handle.line.lock().open
    }

    /// Whether everything that was accepted is on the disk, or was answered with an error.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Accepts nothing more, through whichever handle, and waits until everything accepted is answered. Places that
    /// were [reserved](Queue::reserve) before keep their right. Close the queue before the log.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) where the queue's thread died, which no input can bring about.
    pub fn close(self) -> Result<()> {
        self.handle.log.engine().config.process.check()?;
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

    /// Whether what is accepted here is recorded in that log.
    pub(super) fn is_of(&self, log: &AuditLog) -> bool {
        std::ptr::eq(self.handle.log.engine(), log.engine())
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
        if !self.log.engine().config.process.is_this() {
            // Its thread is not in this process, and neither is what it would have recorded.
            std::mem::forget(self.worker.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            return;
        }
        {
            let mut state = self.line.lock();
            state.closed = true;
            self.line.work.notify_all();
        }
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may go with a task that the worker itself woke.
        if let Some(worker) = worker.filter(|_| thread::current().id() != self.worker_id) {
            let _ = worker.join();
        }
    }
}

/// A permit in the queue. Dropping it gives it back.
#[must_use = "a permit that is not used is given back"]
pub struct Slot {
    queue: Queue,
    permit: Option<Permit>,
}

impl Slot {
    /// Accepts a call in this permit.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`TooLarge`](ErrorKind::TooLarge) or [`Key`](ErrorKind::Key), as
    /// [`AuditLog::record`]; the permit is given back.
    pub fn record(mut self, call: ToolCall) -> Result<Ticket> {
        let prepared = self.queue.handle.log.engine().prepare(call, Phase::Whole)?;
        Ok(self.accept(prepared, None, true))
    }

    /// Accepts what was prepared. The permit goes with it if this is the last entry that it was taken for.
    pub(super) fn accept(&mut self, prepared: Prepared, otherwise: Option<(ToolCall, Phase)>, last: bool) -> Ticket {
        let line = self.queue.handle.line.clone();
        let answer = Arc::new(Answer::default());
        let permit = if last { self.permit.take() } else { None };
        let item =
            Item { prepared: Some(prepared), otherwise, answer: Some(answer.clone()), line: line.clone(), permit };
        let mut state = line.lock();
        state.open += 1;
        if state.dead {
            // Dropped outside the lock, which is what answers it.
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

/// One of the places that the capacity counts.
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

/// A permit to come: see [`Queue::reserve`].
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
        self.queue.handle.log.engine().config.process.check()?;
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
        this.queue.handle.log.engine().config.process.check()?;
        let mut state = this.queue.handle.line.lock();
        if let Some(slot) = this.queue.take_place(&mut state).transpose() {
            return Poll::Ready(slot);
        }
        let id = *this.waker.get_or_insert_with(|| {
            state.next_waker += 1;
            state.next_waker
        });
        let old = state.wakers.insert(id, cx.waker().clone());
        // A waker may be the last that holds a task, and a task may hold a permit.
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

/// The answer to an accepted call: a future of its receipt, or [`Ticket::wait`]. Dropping it changes nothing but that
/// nobody is told.
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

    /// Answers, unless it was answered before. Gives who is to be woken.
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

/// Wakes a task of the host's, whose panic is not the queue's.
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

    /// Whether the answer is there, so that [`Ticket::wait`] would not block.
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
        // Nothing that runs under it can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a permit free. Gives who waits for one: each looks for himself, because one that was woken and then cancelled
    /// could not hand its turn on.
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
    /// The answer, the end of the entry and the free permit, all seen at once.
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
        // An item that goes without an answer goes with a worker that died.
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

/// The worker: commits what waits until nothing can come any more.
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
        let jobs = items.iter_mut().map(|item| item.prepared.take().into_iter().collect()).collect();
        let answers = log.engine().submit_each(jobs);
        for (mut item, answer) in items.into_iter().zip(answers) {
            let answer = answer.and_then(one);
            let answer = match (answer, item.otherwise.take()) {
                (Err(e), Some((call, phase))) if e.kind() == ErrorKind::TooLarge => {
                    let engine = log.engine();
                    engine.prepare(call, phase).and_then(|prepared| engine.submit(vec![prepared])).and_then(one)
                }
                (answer, _) => answer,
            };
            item.settle(answer);
        }
    }
}

fn one(receipts: Vec<Receipt>) -> Result<Receipt> {
    receipts.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Closed, "nothing was recorded"))
}

fn died() -> Error {
    Error::new(ErrorKind::Closed, "the queue's thread died; open the store again and look what was recorded")
}

fn taken() -> Error {
    Error::new(ErrorKind::Closed, "the receipt was handed out already")
}
