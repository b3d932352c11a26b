//! The owner's side: a thread that takes connections, and one for each of them.
//!
//! A connection that says what cannot be understood is dropped, and with it nothing but itself. Invariant I14: connections that
//! say nothing keep nobody out: where there are too many, of one process or of all, the one that has been idle for longest is cut
//! off for the new one, and commands take half of the places at most. When the owner closes, it answers the records that it has taken, lets commands end that change the store or of which something was shown, and
//! cuts the others off: their processes run them elsewhere.

use super::authority::{Asked, Authority, Keys, Need, Question};
use super::intake::{Paced, Part, Room};
use super::local::{Listener, Peer, Stream, bind, connect};
use super::wire::{
    self, CHUNK, Command, Effect, Frame, Hello, MAX_FRAME, MAX_HELLO, PROTOCOL, Reply, Request, WireError,
};
use super::{place, remote::HELD};
use crate::process::Process;
use crate::store::RemoteBatch;
use crate::{AuditLog, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many connections are served at a time.
const MOST: usize = 256;
/// How many of them one process has.
const PER_PROCESS: usize = 64;
/// How many of them run commands, so that recording goes on beside any number of them.
const COMMANDS: usize = 128;
/// How long a connection may take to say its first word.
const GREETING: Duration = Duration::from_secs(10);
/// The longest frame with some of a command's standard input.
const INPUT: usize = 2 * CHUNK;

/// How many arguments a command has at most, and how many bytes they have in all: parsing takes many times their number.
const MOST_ARGUMENTS: usize = 512;
const MOST_ARGUMENT_BYTES: usize = 64 << 10;

const _: () = assert!(PER_PROCESS <= COMMANDS && COMMANDS < MOST);
/// How long a close waits for commands of which something was shown: their readers may have stopped reading.
const SHOWN: Duration = Duration::from_secs(60);

/// Runs the commands that other processes send.
pub trait Commands: Send + Sync {
    /// Runs one on the log and gives its exit code. `authority` is what whoever sent it may do; without [`Need::Admin`] the log
    /// is one that reads without keys.
    fn run(&self, log: &AuditLog, command: Command, console: Console, authority: Authority) -> u8;
}

/// The standard input and output of a command, in the process that sent it.
#[derive(Debug, Clone)]
pub struct Console(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    id: u64,
    connections: std::sync::Weak<Connections>,
    stream: Stream,
    reader: Paced,
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
        line.reader.rest()?;
        match wire::receive(&mut line.reader, INPUT, &mut |begun| !begun)? {
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
            && let Some(connections) = self.connections.upgrade()
        {
            connections.set(self.id, |busy| {
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
    process: Process,
    connections: Arc<Connections>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Connections {
    log: AuditLog,
    commands: Option<Arc<dyn Commands>>,
    open: Mutex<OpenConnections>,
    left: Condvar,
    /// The name of the socket.
    place: String,
    room: Room,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct OpenConnections {
    closing: bool,
    next: u64,
    open: HashMap<u64, Connection>,
}

struct Connection {
    stream: Stream,
    busy: Busy,
    /// Which process is at the other end; 0 for all of them where the platform does not say.
    process: u32,
    /// Rises with everything that a connection does: the least has been idle for longest.
    since: u64,
}

impl OpenConnections {
    /// Makes room for a connection of this process. Says whether there is any.
    fn make_room(&mut self, process: u32) -> bool {
        let of = |process: u32| self.open.values().filter(|connection| connection.process == process).count();
        let crowded = if process != 0 && of(process) >= PER_PROCESS {
            Some(process)
        } else if self.open.len() < MOST {
            return true;
        } else {
            // Of whoever has most that do nothing, so that nobody can push out others by coming often.
            let mut idle: HashMap<u32, usize> = HashMap::new();
            let doing_nothing = self.open.values().filter(|connection| connection.busy == Busy::Idle);
            doing_nothing.for_each(|connection| *idle.entry(connection.process).or_default() += 1);
            idle.into_iter().max_by_key(|&(_, count)| count).map(|(process, _)| process)
        };
        let idle = self
            .open
            .iter()
            .filter(|(_, connection)| Some(connection.process) == crowded && connection.busy == Busy::Idle);
        let Some(longest) = idle.min_by_key(|(_, connection)| connection.since).map(|(&id, _)| id) else {
            return false;
        };
        if let Some(connection) = self.open.remove(&longest) {
            // What it has sent and nobody has answered it sends again, under its number.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        true
    }

    fn running(&self) -> usize {
        self.open.values().filter(|connection| matches!(connection.busy, Busy::Running { .. })).count()
    }
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
        let (listener, path) = place::first_of(place::sockets(store)?, bind)?;
        let connections = Arc::new(Connections {
            log,
            commands,
            open: Mutex::default(),
            left: Condvar::new(),
            place: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            room: Room::default(),
        });
        let inside = connections.clone();
        let thread = std::thread::Builder::new().name("owner".to_owned()).spawn(move || inside.receive(&listener))?;
        Ok(Server { process: Process::this(), connections, path, thread: Mutex::new(Some(thread)) })
    }

    /// Takes nothing more, and returns when what must end has ended.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(super) fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut open = self.connections.lock();
        open.closing = true;
        for connection in open.open.values() {
            let how = if connection.busy.must_end() { Shutdown::Read } else { Shutdown::Both };
            let _ = connection.stream.shutdown(how);
        }
        drop(open);
        // Wakes the thread that takes connections.
        if connect(&self.path).is_ok() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
        let until = std::time::Instant::now() + SHOWN;
        let mut open = self.connections.lock();
        loop {
            let mut waited_for = open.open.values().map(|connection| connection.busy).filter(|busy| busy.must_end());
            let left = until.saturating_duration_since(std::time::Instant::now());
            let changing = |busy: Busy| matches!(busy, Busy::Running { effect: Effect::Changes, .. });
            match (left.is_zero(), waited_for.next()) {
                (_, None) => return,
                (true, Some(first)) if !changing(first) && !waited_for.any(changing) => return,
                _ => {}
            }
            let most = left.max(Duration::from_millis(100));
            open = self.connections.left.wait_timeout(open, most).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_this() {
            self.close();
        } else {
            // The threads are not in this process, and the socket is the other one's.
            std::mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: u64, change: impl FnOnce(&mut Busy)) {
        let mut open = self.lock();
        let closing = open.closing;
        open.next += 1;
        let now = open.next;
        if let Some(connection) = open.open.get_mut(&id) {
            change(&mut connection.busy);
            connection.since = now;
            if closing && connection.busy == Busy::Idle {
                let _ = connection.stream.shutdown(Shutdown::Both);
            }
        }
        drop(open);
        if closing {
            self.left.notify_all();
        }
    }

    /// Takes one of the places for commands. Says whether there was one.
    fn begin_command(&self, id: u64, effect: Effect) -> bool {
        let mut open = self.lock();
        let free = open.running() < COMMANDS;
        if let Some(connection) = open.open.get_mut(&id).filter(|_| free) {
            connection.busy = Busy::Running { effect, shown: false };
        }
        free
    }

    fn receive(self: Arc<Connections>, listener: &Listener) {
        loop {
            let taken = listener.accept();
            if self.lock().closing {
                return;
            }
            let Ok(Some((stream, peer))) = taken else {
                // Out of descriptors, or another user's: neither must keep this thread busy.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let Ok(copy) = stream.try_clone() else { continue };
            let id = {
                let mut open = self.lock();
                if !open.make_room(peer.process) {
                    continue;
                }
                open.next += 1;
                let id = open.next;
                open.open.insert(id, Connection { stream: copy, busy: Busy::Idle, process: peer.process, since: id });
                id
            };
            let connections = self.clone();
            // Commands run here that expect the stack of a main thread.
            let thread = std::thread::Builder::new().name("owner".to_owned()).stack_size(8 << 20);
            let served = thread.spawn(move || {
                // A panic here is a mistake of this program; it must not reach the store's other users.
                let mut recorded = false;
                let _ = catch_unwind(AssertUnwindSafe(|| connections.serve(id, &peer, stream, &mut recorded)));
                // As it would be had its process owned the store: what it recorded is signed when it ends.
                if recorded {
                    connections.log.engine().sign_soon();
                }
                connections.leave(id);
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

    /// Serves one connection until it ends; whatever is wrong with it ends it. Says whether anything was `recorded`.
    fn serve(self: &Arc<Connections>, id: u64, peer: &Peer, mut stream: Stream, recorded: &mut bool) -> io::Result<()> {
        let engine = self.log.engine();
        let chain_state = engine.chain_state();
        let genesis = chain_state.genesis.as_ref();
        let mut challenge = [0; 32];
        engine.config.random.fill(&mut challenge);
        let store = genesis.map(|genesis| genesis.store_id.clone()).unwrap_or_default();
        let keys = match (genesis.is_some_and(|genesis| genesis.keys.is_some()), engine.keys().is_some()) {
            (false, _) => Keys::Keyless,
            (true, true) => Keys::Unproven,
            (true, false) => Keys::Missing,
        };
        let mut authority = Authority::of(keys);
        let (process, version) = (std::process::id(), env!("CARGO_PKG_VERSION").to_owned());
        let hello = Hello { protocol: PROTOCOL, version, process, store: store.clone(), challenge };
        let owner = if peer.process == 0 { 0 } else { process };
        let question = Question { store: &store, challenge: &challenge, owner, peer: peer.process, name: &peer.name };
        stream.set_read_timeout(Some(GREETING))?;
        wire::send(&mut stream, &hello)?;
        let mut reader = Paced::new(stream.try_clone()?);
        match wire::receive(&mut reader, MAX_HELLO, &mut |_| false)? {
            Some(Request::Hello { protocol: PROTOCOL }) => self.set(id, |_| ()),
            _ => return Ok(()),
        }
        while let Some((request, _part)) = self.next(&mut reader, peer.process)? {
            self.set(id, |busy| *busy = Busy::Answering);
            let reply = match request {
                Err(e) => Reply::Failed(WireError::from(&e)),
                Ok(Request::Prove(answer)) => {
                    let proven = engine.keys().as_ref().is_some_and(|keys| question.is_answered(&keys.file, &answer));
                    // One try: whoever errs connects again, to another challenge.
                    if !proven {
                        wire::send(&mut stream, &Reply::Failed(WireError::from(&unproven())))?;
                        return Ok(());
                    }
                    authority = Authority::of(Keys::Proven);
                    Reply::Proven
                }
                Ok(Request::Show(other)) => {
                    let asked = Asked { place: &self.place, challenge: &other };
                    let signature = engine.keys().as_ref().map(|keys| question.sign(&keys.file, asked).to_vec());
                    Reply::Shown(signature.unwrap_or_default())
                }
                Ok(Request::Record(batch)) => match authority.check(Need::Append) {
                    Err(e) => Reply::Failed(WireError::from(&e)),
                    Ok(()) => match self.record(batch) {
                        Some(reply) => {
                            *recorded = true;
                            reply
                        }
                        // Nobody knows whether it was recorded. The sender asks the next owner, under the same number.
                        None => return Ok(()),
                    },
                },
                Ok(Request::Look(seqs)) => match authority.check(Need::Read).and_then(|()| self.look(&seqs)) {
                    Ok((size, unanswered)) => Reply::Looked(size, unanswered),
                    Err(e) => Reply::Failed(WireError::from(&e)),
                },
                Ok(Request::Watch) => {
                    self.set(id, |busy| *busy = Busy::Idle);
                    continue;
                }
                Ok(Request::Run(command)) if !is_bounded(&command) => {
                    let message = format!(
                        "a command for the process that has the store open has {MOST_ARGUMENTS} arguments and \
                         {MOST_ARGUMENT_BYTES} bytes at most; split it, or end that process first"
                    );
                    Reply::Failed(WireError::from(&Error::new(ErrorKind::TooLarge, message)))
                }
                Ok(Request::Run(command)) if self.begin_command(id, command.effect) => {
                    let connections = Arc::downgrade(self);
                    let line = Line { id, connections, stream: stream.try_clone()?, reader, shown: 0 };
                    return self.run(command, line, authority);
                }
                Ok(Request::Run(_)) => {
                    let message =
                        format!("{COMMANDS} commands run in the process that has the store open; try again later");
                    Reply::Failed(WireError::from(&Error::new(ErrorKind::Busy, message)))
                }
                Ok(Request::Input(_) | Request::Hello { .. }) => return Err(io::ErrorKind::InvalidData.into()),
            };
            wire::send(&mut stream, &reply)?;
            self.set(id, |busy| *busy = Busy::Idle);
        }
        Ok(())
    }

    fn look(&self, seqs: &[u64]) -> Result<(u64, Vec<u64>)> {
        self.log.check_file()?;
        Ok((self.log.size(), self.log.unanswered(seqs)?))
    }

    /// The next request, with the room that it takes; an error where there was none for it.
    fn next(&self, reader: &mut Paced, peer: u32) -> io::Result<Option<(Result<Request, Error>, Part<'_>)>> {
        reader.rest()?;
        let mut part = self.room.part(peer);
        // Nothing is late between two frames; in the middle of one something is.
        let mut keep = |reader: &mut Paced, arrived| part.keep(reader, arrived);
        let request = match wire::receive_frame(reader, MAX_FRAME, &mut |begun| !begun, &mut keep)? {
            None => return Ok(None),
            Some(Frame::Whole(bytes)) => Ok(wire::decode(&bytes)?),
            Some(Frame::Dropped) => {
                let message = "others send so much to the process that has the store open that there was no room for this; nothing \
                               was done. Try again, or send less at a time";
                Err(Error::new(ErrorKind::Busy, message))
            }
        };
        Ok(Some((request, part)))
    }

    fn record(&self, batch: RemoteBatch) -> Option<Reply> {
        match self.log.engine().record_sent(batch) {
            Ok(receipts) => Some(Reply::recorded(&receipts)),
            Err(e) if e.kind() == ErrorKind::Closed => None,
            Err(e) => Some(Reply::Failed(WireError::from(&e))),
        }
    }

    /// A connection that runs a command does nothing else.
    fn run(&self, command: Command, line: Line, authority: Authority) -> io::Result<()> {
        let console = Console(Arc::new(Mutex::new(line)));
        let Some(commands) = &self.commands else {
            console.err(b"attestlog: the process that has the store open runs no commands for others\n")?;
            return console.lock().send(&Reply::Exit(3));
        };
        let effect = command.effect;
        let code = match authority.allows(Need::Admin) {
            true => commands.run(&self.log, command, console.clone(), authority),
            false => commands.run(&self.log.without_keys(), command, console.clone(), authority),
        };
        // What was cut off by the close did not end: no code, and its process runs it elsewhere.
        let again = effect == Effect::Follows || (effect == Effect::Reads && console.lock().shown <= HELD);
        if again && self.lock().closing {
            return Ok(());
        }
        console.lock().send(&Reply::Exit(code))
    }
}

fn is_bounded(command: &Command) -> bool {
    let settings = command.settings.iter().map(|(name, value)| name.len() + value.len());
    let bytes = command.arguments.iter().map(String::len).chain(settings).sum::<usize>() + command.folder.len();
    command.arguments.len() <= MOST_ARGUMENTS
        && command.settings.len() <= MOST_ARGUMENTS
        && bytes <= MOST_ARGUMENT_BYTES
}

fn unproven() -> Error {
    let message = "the key file is not the one that the process that has the store open uses now: an older copy of it, or \
                   another store's; bring back the present one";
    Error::new(ErrorKind::Key, message)
}
