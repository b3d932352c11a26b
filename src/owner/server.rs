//! The owner's side: one thread that accepts connections, and one thread for each connection.
//!
//! A connection that sends something malformed is dropped, and nothing else is affected. Invariant I14: connections that
//! send nothing keep nobody out. If there are too many, of one process or of all, the one that has been idle for longest is
//! cut off in favour of the new one, and requests take at most half of the places. When the owner closes, it answers the
//! records and the changes that it has received, and cuts off requests that read: their processes ask the next owner.

use super::authority::{Asked, Authority, Keys, Need, Question};
use super::intake::{Paced, Part, Room};
use super::local::{Listener, Peer, Stream, bind, connect};
use super::place;
use super::wire::{
    self, Ask, Frame, Hello, MAX_ANSWER, MAX_ASK, MAX_FRAME, MAX_HELLO, PROTOCOL, Reply, Request, WireError,
};
use crate::process::Process;
use crate::requests::{self, Effect};
use crate::store::{Giving, OpenStore, RemoteBatch};
use crate::verify::Progress;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The maximum number of connections at a time.
const MOST: usize = 256;
/// The maximum number of connections of one process.
const PER_PROCESS: usize = 64;
/// The maximum number of requests at a time, so that recording continues beside any number of them.
const REQUESTS: usize = 128;
/// How long a connection may take to send its first frame.
const GREETING: Duration = Duration::from_secs(10);

/// How long a close waits for answers other than those to changes: their readers may have stopped reading.
const UNREAD: Duration = Duration::from_secs(60);

const _: () = assert!(PER_PROCESS <= REQUESTS && REQUESTS < MOST);
/// The requests that are answered although the store's file was overwritten or replaced: for a verification that is a finding, and
/// the log's name, which tells what a verification can be compared with, is of the log that was opened.
const NOT_OF_THE_FILE: [&str; 2] =
    [<requests::Verify as requests::Request>::NAME, <requests::PublicKey as requests::Request>::NAME];

/// The socket of an open store.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    connections: Arc<Connections>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Connections {
    /// Not yet, while the file is being opened.
    log: OnceLock<OpenStore>,
    /// How the store is given up, if this process only reads.
    giving: Option<Arc<Giving>>,
    open: Mutex<OpenConnections>,
    left: Condvar,
    /// The socket.
    path: PathBuf,
    /// Its name.
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
    /// Whether the store was given up: the socket's path is no longer this process's.
    given_up: bool,
    next: u64,
    open: HashMap<u64, Connection>,
}

struct Connection {
    stream: Stream,
    busy: Busy,
    /// The process at the other end; 0 for all where the platform does not report it.
    process: u32,
    /// Increases with everything that a connection does: the lowest has been idle for longest.
    since: u64,
}

impl OpenConnections {
    /// Makes room for a connection of this process. Returns whether there is room.
    fn make_room(&mut self, process: u32) -> bool {
        let of = |process: u32| self.open.values().filter(|connection| connection.process == process).count();
        let crowded = if process != 0 && of(process) >= PER_PROCESS {
            Some(process)
        } else if self.open.len() < MOST {
            return true;
        } else {
            // Cut off a connection of the process with the most idle ones, so that no process can push others out by
            // connecting often.
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
            // The other end sends again what was not answered, under its number.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        true
    }

    fn running(&self) -> usize {
        self.open.values().filter(|connection| matches!(connection.busy, Busy::Asked(_))).count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Busy {
    Idle,
    Answering,
    Asked(Effect),
}

impl Busy {
    /// Whether a close waits for its end.
    fn must_end(self) -> bool {
        match self {
            Busy::Idle => false,
            Busy::Answering => true,
            Busy::Asked(effect) => !effect.can_be_repeated(),
        }
    }
}

impl Server {
    /// Listens for the store at `store`, which `log` has open.
    pub(crate) fn start(store: &Path, log: OpenStore) -> io::Result<Server> {
        let server = Server::listen(store, None)?;
        server.serve(log);
        Ok(server)
    }

    /// Serves this store from now on.
    pub(crate) fn serve(&self, log: OpenStore) {
        let _ = self.connections.log.set(log);
    }

    /// Listens for the store at `store`, which this process has locked and is opening. `giving`: through which it gives it up, which
    /// it does already meanwhile; whoever wants anything else tries again.
    pub(crate) fn listen(store: &Path, giving: Option<Arc<Giving>>) -> io::Result<Server> {
        let (listener, path) = place::first_of(place::sockets(store)?, bind)?;
        let place = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (open, left, room) = (Mutex::default(), Condvar::new(), Room::default());
        let log = OnceLock::new();
        let connections = Arc::new(Connections { log, giving, open, left, path, place, room });
        let inside = connections.clone();
        let thread = std::thread::Builder::new().name("owner".to_owned()).spawn(move || inside.receive(&listener))?;
        Ok(Server { process: Process::this(), connections, thread: Mutex::new(Some(thread)) })
    }

    /// Stops accepting connections, and returns when everything that must end has ended.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut open = self.connections.lock();
        if open.given_up {
            // Everything has ended already; another process may have its socket there by now.
            return;
        }
        open.closing = true;
        for connection in open.open.values() {
            let how = if connection.busy.must_end() { Shutdown::Read } else { Shutdown::Both };
            let _ = connection.stream.shutdown(how);
        }
        drop(open);
        // Wakes the thread that accepts connections.
        if connect(&self.connections.path).is_ok() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.connections.path);
        let until = std::time::Instant::now() + UNREAD;
        let mut open = self.connections.lock();
        loop {
            let mut waited_for = open.open.values().map(|connection| connection.busy).filter(|busy| busy.must_end());
            let left = until.saturating_duration_since(std::time::Instant::now());
            let changes = |busy: Busy| busy == Busy::Asked(Effect::Changes);
            match (left.is_zero(), waited_for.next()) {
                (_, None) => return,
                (true, Some(first)) if !changes(first) && !waited_for.any(changes) => return,
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
            // This is a forked child: the threads do not exist here, and the socket belongs to the parent.
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

    /// Takes one of the places for requests. Returns whether there was one.
    fn begin(&self, id: u64, effect: Effect) -> bool {
        let mut open = self.lock();
        let free = open.running() < REQUESTS;
        if let Some(connection) = open.open.get_mut(&id).filter(|_| free) {
            connection.busy = Busy::Asked(effect);
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
                // Out of descriptors, or another user's connection: neither may keep this thread busy.
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
            // Requests expect the stack of a main thread.
            let thread = std::thread::Builder::new().name("owner".to_owned()).stack_size(8 << 20);
            let served = thread.spawn(move || {
                // A panic here is a bug in this program; it must not affect the store's other users.
                let mut recorded = false;
                let _ = catch_unwind(AssertUnwindSafe(|| connections.serve(id, &peer, stream, &mut recorded)));
                // What a process recorded that ended without asking for a signature is signed too, in the background.
                if recorded && let Some(log) = connections.log.get() {
                    log.engine().sign_soon();
                }
                connections.leave(id);
            });
            if served.is_err() {
                self.leave(id);
            }
        }
    }

    /// Gives the store up to the process of this connection, which will record (R96): cuts off the other connections, whose
    /// processes look for the next owner, then removes the socket, and unlocks the file last, so that whoever listens holds the
    /// lock (I5). Waits for no other thread of this process. Returns false if the store is being closed anyway.
    fn give_way(&self, id: u64) -> bool {
        let Some(giving) = &self.giving else { return false };
        let mut open = self.lock();
        if std::mem::replace(&mut open.closing, true) {
            return false;
        }
        open.given_up = true;
        for (_, other) in open.open.iter().filter(|(other, _)| **other != id) {
            let _ = other.stream.shutdown(Shutdown::Both);
        }
        drop(open);
        // Wakes the thread that accepts connections.
        let _ = connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        giving.give_up();
        self.log.get().iter().for_each(|log| log.give_up());
        true
    }

    fn leave(&self, id: u64) {
        self.lock().open.remove(&id);
        self.left.notify_all();
    }

    /// Serves one connection until it ends; any error on it ends it. Sets `recorded` if anything was recorded.
    fn serve(self: &Arc<Connections>, id: u64, peer: &Peer, mut stream: Stream, recorded: &mut bool) -> io::Result<()> {
        let Some(log) = self.log.get() else { return self.serve_before(id, stream) };
        let engine = log.engine();
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
        let hello = Hello {
            protocol: PROTOCOL,
            version,
            process,
            store: store.clone(),
            challenge,
            reads: self.giving.is_some(),
        };
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
                    // There is one attempt. To try again, the other end connects again and gets another challenge.
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
                Ok(Request::Record(_)) if self.giving.is_some() => {
                    // Nothing is recorded through a process that only reads (R96).
                    Reply::Failed(WireError::from(&crate::store::for_reading_only()))
                }
                Ok(Request::Record(batch)) => match authority.check(Need::Append) {
                    Err(e) => Reply::Failed(WireError::from(&e)),
                    Ok(()) => match record(log, batch) {
                        Some(reply) => {
                            *recorded = true;
                            reply
                        }
                        // It is not known whether this was recorded. The sender asks the next owner, under the same number.
                        None => return Ok(()),
                    },
                },
                Ok(Request::Sign(newest)) => match authority.check(Need::Append) {
                    Err(e) => Reply::Failed(WireError::from(&e)),
                    Ok(()) => match engine.sign_through(newest) {
                        Ok(()) => Reply::Signed,
                        // The sender asks the next owner.
                        Err(e) if e.kind() == ErrorKind::Closed => return Ok(()),
                        Err(e) => Reply::Failed(WireError::from(&e)),
                    },
                },
                Ok(Request::Ask(ask)) => match self.ask(id, log, &ask, authority, &Telling::through(&stream)?) {
                    Some(reply) => {
                        *recorded |= matches!(reply, Reply::Answered(_)) && is_change(&ask.name);
                        reply
                    }
                    // The store is being closed: the sender asks the next owner.
                    None => return Ok(()),
                },
                Ok(Request::GiveWay) if self.give_way(id) => Reply::GaveWay,
                Ok(Request::Watch) => {
                    self.set(id, |busy| *busy = Busy::Idle);
                    continue;
                }
                // Of a process that does not only read, nobody asks that it gives way.
                Ok(Request::Hello { .. } | Request::GiveWay) => return Err(io::ErrorKind::InvalidData.into()),
            };
            wire::send(&mut stream, &reply)?;
            self.set(id, |busy| *busy = Busy::Idle);
        }
        Ok(())
    }

    /// Serves a connection while the file is being opened: gives it up, or has the other end try again.
    fn serve_before(&self, id: u64, mut stream: Stream) -> io::Result<()> {
        let (process, version) = (std::process::id(), env!("CARGO_PKG_VERSION").to_owned());
        let (store, challenge, reads) = (String::new(), [0; 32], self.giving.is_some());
        stream.set_read_timeout(Some(GREETING))?;
        wire::send(&mut stream, &Hello { protocol: PROTOCOL, version, process, store, challenge, reads })?;
        let mut reader = Paced::new(stream.try_clone()?);
        let mut hear = || wire::receive(&mut reader, MAX_HELLO, &mut |_| false);
        if !matches!(hear()?, Some(Request::Hello { protocol: PROTOCOL })) {
            return Ok(());
        }
        match hear()? {
            Some(Request::GiveWay) if self.give_way(id) => wire::send(&mut stream, &Reply::GaveWay),
            _ => Ok(()),
        }
    }

    /// Answers a request from another process, within its authority; `None` if the next owner must answer it.
    fn ask(&self, id: u64, log: &OpenStore, ask: &Ask, authority: Authority, telling: &Telling) -> Option<Reply> {
        // A panic here is a bug in this program; whoever asked is told, and the next owner need not make the same mistake.
        let panicked =
            || Error::new(ErrorKind::Io, "the request failed by a mistake of this program; nothing else is affected");
        let answer = catch_unwind(AssertUnwindSafe(|| self.answer(id, log, ask, authority, &telling.progress())));
        telling.end();
        let answer = answer.unwrap_or_else(|_| Err(panicked()));
        let closing = self.lock().closing;
        match answer {
            // Whatever was found while the file was being closed is worth nothing (R97).
            _ if log.is_given_up() => None,
            Ok(answer) => Some(Reply::Answered(answer)),
            Err(e) if e.kind() == ErrorKind::Closed && closing => None,
            Err(e) => Some(Reply::Failed(WireError::from(&e))),
        }
    }

    fn answer(&self, id: u64, log: &OpenStore, ask: &Ask, authority: Authority, told: &Progress) -> Result<String> {
        let too_large = |what: &str| {
            Error::new(ErrorKind::TooLarge, format!("{what}; ask in the process that has the store open, or for less"))
        };
        if ask.members.len() > MAX_ASK {
            return Err(too_large("the request is too large"));
        }
        let unknown = || Error::invalid("the process that has the store open does not know this request");
        let row = requests::row(&ask.name).ok_or_else(unknown)?;
        authority.check(row.need)?;
        if !self.begin(id, row.effect) {
            let message =
                format!("{REQUESTS} requests are at work in the process that has the store open; try again later");
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let store = if authority.allows(Need::Admin) { log.clone() } else { log.without_keys() };
        if !NOT_OF_THE_FILE.contains(&row.name) {
            store.check_file()?;
        }
        let answer = (row.answer)(&ask.members, &if ask.despite { store.going_on() } else { store }, told)?;
        if answer.len() > MAX_ANSWER {
            Err(too_large("the answer is too large for another process"))
        } else {
            Ok(answer)
        }
    }

    /// The next request, with the memory that it takes; an error if there was no memory for it.
    fn next(&self, reader: &mut Paced, peer: u32) -> io::Result<Option<(Result<Request, Error>, Part<'_>)>> {
        reader.rest()?;
        let mut part = self.room.part(peer);
        // A pause between two frames is no delay; a pause within a frame is.
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
}

/// Records what another process sent; `None` if the next owner must do it.
fn record(log: &OpenStore, batch: RemoteBatch) -> Option<Reply> {
    match log.engine().record_sent(batch) {
        Ok(receipts) => Some(Reply::recorded(&receipts)),
        Err(e) if e.kind() == ErrorKind::Closed => None,
        Err(e) => Some(Reply::Failed(WireError::from(&e))),
    }
}

/// How often somebody who asked is told how far the answer is, and how often at most: so many messages fit into the socket even if
/// they are not read, so nothing that is at work waits for its reader.
const TELLING: Duration = Duration::from_millis(100);
const MOST_TOLD: u32 = 1000;

/// Tells whoever asked how far the answer is, until it is there.
struct Telling(Arc<Mutex<Told>>);

struct Told {
    /// `None` once nothing more is to be told.
    stream: Option<Stream>,
    last: Option<std::time::Instant>,
    count: u32,
}

impl Telling {
    fn through(stream: &Stream) -> io::Result<Telling> {
        let told = Told { stream: Some(stream.try_clone()?), last: None, count: 0 };
        Ok(Telling(Arc::new(Mutex::new(told))))
    }

    #[allow(clippy::disallowed_methods, reason = "for somebody who watches, by the time that he waits in")]
    fn progress(&self) -> Progress {
        let told = self.0.clone();
        Arc::new(move |done, of| {
            let Ok(mut told) = told.try_lock() else { return };
            let Told { stream: Some(stream), last, count } = &mut *told else { return };
            if *count >= MOST_TOLD || last.is_some_and(|last| last.elapsed() < TELLING) {
                return;
            }
            // Whether somebody is still there is found out with the answer.
            let _ = wire::send(stream, &Reply::Progress(done, of));
            (*last, *count) = (Some(std::time::Instant::now()), *count + 1);
        })
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).stream = None;
    }
}

fn is_change(name: &str) -> bool {
    requests::row(name).is_some_and(|row| row.effect.records())
}

fn unproven() -> Error {
    let message = "the key file is not the one that the process that has the store open uses now: an older copy of it, or \
                   another store's; bring back the present one";
    Error::new(ErrorKind::Key, message)
}
