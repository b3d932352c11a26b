//! The owner's side: a thread that takes connections, and one for each of them.
//!
//! A connection that says what cannot be understood is dropped, and with it nothing but itself. When the owner closes, it
//! answers the records that it has taken, lets commands end that change the store or of which something was shown, and
//! cuts the others off: their processes run them elsewhere.

use super::local::{Listener, Stream, bind, connect};
use super::wire::{self, CHUNK, Command, Effect, Hello, PROTOCOL, Reply, Request, Trouble};
use super::{place, remote::HELD};
use crate::capture::import::Log as _;
use crate::store::Refused;
use crate::{AuditLog, ErrorKind};
use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many connections are served at a time.
const MOST: usize = 256;
/// How long the rest of a frame may take once it has begun.
const STALLED: Duration = Duration::from_secs(30);
/// How long a close waits for commands of which something was shown: their readers may have stopped reading.
const SHOWN: Duration = Duration::from_secs(60);

/// Runs the commands that other processes send.
pub trait Commands: Send + Sync {
    /// Runs one on the log and gives its exit code.
    fn run(&self, log: &AuditLog, command: Command, console: Console) -> u8;
}

/// The standard input and output of a command, in the process that sent it.
#[derive(Debug, Clone)]
pub struct Console(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    id: u64,
    hall: std::sync::Weak<Hall>,
    stream: Stream,
    reader: BufReader<Stream>,
    shown: usize,
}

impl Console {
    /// Writes to its standard output.
    ///
    /// # Errors
    /// A broken pipe where the process has gone.
    pub fn out(&self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            let mut line = self.lock();
            line.send(&Reply::Out(chunk.to_vec()))?;
            line.shown(chunk.len());
        }
        Ok(())
    }

    /// Writes to its standard error.
    ///
    /// # Errors
    /// As [`Console::out`].
    pub fn err(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK).try_for_each(|chunk| self.lock().send(&Reply::Err(chunk.to_vec())))
    }

    /// Some of its standard input; nothing at the end.
    ///
    /// # Errors
    /// As [`Console::out`].
    pub fn input(&self) -> io::Result<Vec<u8>> {
        let mut line = self.lock();
        line.send(&Reply::Want)?;
        match wire::receive(&mut line.reader)? {
            Some(Request::Input(bytes)) => Ok(bytes),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Says that everything below this seq was shown, and finds out whether anybody is still there.
    ///
    /// # Errors
    /// As [`Console::out`].
    pub fn position(&self, seq: u64) -> io::Result<()> {
        self.lock().send(&Reply::Position(seq))
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn send(&mut self, reply: &Reply) -> io::Result<()> {
        wire::send(&mut self.stream, reply).map_err(|e| match e.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => io::ErrorKind::BrokenPipe.into(),
            _ => e,
        })
    }

    fn shown(&mut self, bytes: usize) {
        let before = self.shown;
        self.shown += bytes;
        if before <= HELD
            && self.shown > HELD
            && let Some(hall) = self.hall.upgrade()
        {
            hall.set(self.id, |busy| {
                if let Busy::Running { shown, .. } = busy {
                    *shown = true;
                }
            });
        }
    }
}

/// The socket of an open store.
#[derive(Debug)]
pub(super) struct Server {
    hall: Arc<Hall>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Hall {
    log: AuditLog,
    commands: Option<Arc<dyn Commands>>,
    guests: Mutex<Guests>,
    left: Condvar,
}

impl std::fmt::Debug for Hall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hall").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Guests {
    closing: bool,
    next: u64,
    open: HashMap<u64, (Stream, Busy)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Busy {
    Idle,
    Answering,
    Running { effect: Effect, shown: bool },
}

impl Busy {
    /// Whether a close waits for it.
    fn must_end(self) -> bool {
        match self {
            Busy::Idle => false,
            Busy::Answering => true,
            Busy::Running { effect, shown } => effect == Effect::Changes || (effect == Effect::Reads && shown),
        }
    }
}

impl Server {
    /// Listens for the store at `store`, which `log` has open.
    pub(super) fn start(store: &Path, log: AuditLog, commands: Option<Arc<dyn Commands>>) -> io::Result<Server> {
        let path = place::socket(store)?;
        place::prepare(&path)?;
        let listener = bind(&path)?;
        let hall = Arc::new(Hall { log, commands, guests: Mutex::default(), left: Condvar::new() });
        let inside = hall.clone();
        let thread = std::thread::Builder::new().name("owner".to_owned()).spawn(move || inside.receive(&listener))?;
        Ok(Server { hall, path, thread: Mutex::new(Some(thread)) })
    }

    /// Takes nothing more, and returns when what must end has ended.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(super) fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut guests = self.hall.lock();
        guests.closing = true;
        for (stream, busy) in guests.open.values() {
            let how = if busy.must_end() { Shutdown::Read } else { Shutdown::Both };
            let _ = stream.shutdown(how);
        }
        drop(guests);
        // Wakes the thread that takes connections.
        if connect(&self.path).is_ok() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
        let until = std::time::Instant::now() + SHOWN;
        let mut guests = self.hall.lock();
        loop {
            let mut waited_for = guests.open.values().map(|(_, busy)| *busy).filter(|busy| busy.must_end());
            let left = until.saturating_duration_since(std::time::Instant::now());
            let changing = |busy: Busy| matches!(busy, Busy::Running { effect: Effect::Changes, .. });
            match (left.is_zero(), waited_for.next()) {
                (_, None) => return,
                (true, Some(first)) if !changing(first) && !waited_for.any(changing) => return,
                _ => {}
            }
            let most = left.max(Duration::from_millis(100));
            guests = self.hall.left.wait_timeout(guests, most).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

impl Hall {
    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: u64, change: impl FnOnce(&mut Busy)) {
        let mut guests = self.lock();
        let closing = guests.closing;
        if let Some((stream, busy)) = guests.open.get_mut(&id) {
            change(busy);
            if closing && *busy == Busy::Idle {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        drop(guests);
        if closing {
            self.left.notify_all();
        }
    }

    fn receive(self: Arc<Hall>, listener: &Listener) {
        loop {
            let taken = listener.accept();
            if self.lock().closing {
                return;
            }
            let Ok(Some(stream)) = taken else {
                // Out of descriptors, or another user's: neither must keep this thread busy.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let Ok(copy) = stream.try_clone() else { continue };
            let id = {
                let mut guests = self.lock();
                if guests.open.len() >= MOST {
                    continue;
                }
                guests.next += 1;
                let id = guests.next;
                guests.open.insert(id, (copy, Busy::Idle));
                id
            };
            let hall = self.clone();
            // Commands run here that expect the stack of a main thread.
            let thread = std::thread::Builder::new().name("owner".to_owned()).stack_size(8 << 20);
            let served = thread.spawn(move || {
                // A panic here is a mistake of this program; it must not reach the store's other users.
                let _ = catch_unwind(AssertUnwindSafe(|| hall.serve(id, stream)));
                hall.leave(id);
            });
            if served.is_err() {
                self.leave(id);
            }
        }
    }

    fn leave(&self, id: u64) {
        self.lock().open.remove(&id);
        self.left.notify_all();
    }

    /// Serves one connection until it ends; whatever is wrong with it ends it.
    fn serve(self: &Arc<Hall>, id: u64, mut stream: Stream) -> io::Result<()> {
        let process = std::process::id();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        stream.set_read_timeout(Some(STALLED))?;
        wire::send(&mut stream, &Hello { protocol: PROTOCOL, version, process })?;
        let mut reader = BufReader::with_capacity(CHUNK, stream.try_clone()?);
        while let Some(request) = wire::receive(&mut reader)? {
            self.set(id, |busy| *busy = Busy::Answering);
            let reply = match request {
                Request::Tell => Reply::Told(Box::new(self.log.shared().told())),
                Request::Subject(spellings) => match self.log.shared().subject_told(&spellings) {
                    Ok(told) => Reply::Subject(told),
                    Err(e) => Reply::Failed(Trouble::from(&e)),
                },
                Request::Record { stamp, calls, batch } => match self.record(&stamp, calls, batch) {
                    Some(reply) => reply,
                    // Nobody knows whether it was recorded. The sender asks the next owner, under the same number.
                    None => return Ok(()),
                },
                Request::Look(seqs) => match self.log.unanswered(&seqs) {
                    Ok(unanswered) => Reply::Looked(self.log.size(), unanswered),
                    Err(e) => Reply::Failed(Trouble::from(&e)),
                },
                Request::Watch => {
                    self.set(id, |busy| *busy = Busy::Idle);
                    continue;
                }
                Request::Run(command) => {
                    self.set(id, |busy| *busy = Busy::Running { effect: command.effect, shown: false });
                    let hall = Arc::downgrade(self);
                    let line = Line { id, hall, stream: stream.try_clone()?, reader, shown: 0 };
                    return self.run(command, line);
                }
                Request::Input(_) => return Err(io::ErrorKind::InvalidData.into()),
            };
            wire::send(&mut stream, &reply)?;
            self.set(id, |busy| *busy = Busy::Idle);
        }
        Ok(())
    }

    fn record(&self, stamp: &crate::store::Stamp, calls: Vec<crate::store::Sent>, batch: bool) -> Option<Reply> {
        let shared = self.log.shared();
        let answer = match shared.received(stamp, calls) {
            Ok(job) if job.is_empty() => Ok(Vec::new()),
            Ok(mut job) => {
                job.iter_mut().take(1).for_each(|first| first.numbers_batch = batch);
                shared.submit(job)
            }
            Err(Refused::Stale) => return Some(Reply::Stale),
            Err(Refused::Error(e)) => Err(e),
        };
        match answer {
            Ok(receipts) => Some(Reply::recorded(&receipts)),
            Err(e) if e.kind() == ErrorKind::Closed => None,
            Err(e) => Some(Reply::Failed(Trouble::from(&e))),
        }
    }

    /// A connection that runs a command does nothing else.
    fn run(&self, command: Command, line: Line) -> io::Result<()> {
        let console = Console(Arc::new(Mutex::new(line)));
        let Some(commands) = &self.commands else {
            console.err(b"attestlog: the process that has the store open runs no commands for others\n")?;
            return console.lock().send(&Reply::Exit(3));
        };
        let effect = command.effect;
        let code = commands.run(&self.log, command, console.clone());
        // What was cut off by the close did not end: no code, and its process runs it elsewhere.
        let again = effect == Effect::Follows || (effect == Effect::Reads && console.lock().shown <= HELD);
        if again && self.lock().closing {
            return Ok(());
        }
        console.lock().send(&Reply::Exit(code))
    }
}
