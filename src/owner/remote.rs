//! The side of those who do not have the store open.

use super::authority::{Asked, Question};
use super::local::{NoPeer, Peer, Stream, connect, is_alive};
use super::place;
use super::trust::Trust;
use super::wire::{self, CHUNK, Command, Effect, Hello, PROTOCOL, Reply, Request};
use crate::entry::ToolCall;
use crate::keys::KeyFile;
use crate::note::VerifierKey;
use crate::process::Process;
use crate::store::{OwnSender, RemoteBatch};
use crate::{Error, ErrorKind, Options, Random, Receipt, Result};
use attestlog_proof::entry::Phase;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So much of a command's output is held back until it has ended, so that it can be run again where its owner goes.
pub(super) const HELD: usize = 1 << 20;

/// How long the owner may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often whoever waits for the owner looks whether it is still there. Its end closes the connection, unless it has left behind
/// a process that was forked from it and keeps a copy.
const LOOK: Duration = Duration::from_secs(1);

/// A connection to the process that has a store open.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    reader: BufReader<Stream>,
    hello: Hello,
    /// Who listens there, as the kernel says; 0 where it does not.
    listener: u32,
    /// The name of this end, which the kernel has chosen; empty where it has not.
    name: Vec<u8>,
    /// The name of the socket.
    place: String,
    /// Which process connected: a fork of it has the same connection, and would speak in between.
    at: Process,
}

/// Connects to the process that has the store open and shares it, if there is one.
///
/// # Errors
/// [`Io`](ErrorKind::Io) where something stands in the socket's place that must not be trusted;
/// [`Locked`](ErrorKind::Locked) where the owner is a version of this program that speaks another language, or does not answer.
pub fn reach(store: &Path) -> Result<Option<Connection>> {
    let mut wrong = None;
    for path in place::sockets(store).unwrap_or_default() {
        match reach_at(&path) {
            Ok(None) => {}
            Ok(reached) => return Ok(reached),
            Err(e) => wrong = wrong.or(Some(e)),
        }
    }
    wrong.map_or(Ok(None), Err)
}

fn reach_at(path: &Path) -> Result<Option<Connection>> {
    // Where the directory is not this user's nothing of his is in it. Whoever cannot listen anywhere says so.
    if path.parent().is_none_or(|directory| place::check(directory).is_err()) {
        return Ok(None);
    }
    let (stream, peer) = match connect(path) {
        Ok(peer) => peer,
        Err(NoPeer::Nobody) => return Ok(None),
        Err(NoPeer::Refused(message)) => return Err(Error::new(ErrorKind::Io, message)),
        Err(NoPeer::Io(e)) => return Err(Error::from(e).in_file(path)),
    };
    // A process that was forked from one that has ended keeps its socket, and takes no connection.
    if !is_alive(peer.process) {
        return Ok(None);
    }
    let place = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Connection::greet(stream, peer, place).map_err(Error::from)?.transpose()
}

impl Connection {
    /// Hears who it is; nothing where the owner goes away just now.
    fn greet(mut stream: Stream, peer: Peer, place: String) -> io::Result<Option<Result<Connection>>> {
        let Peer { process: listener, name } = peer;
        let mut reader = BufReader::with_capacity(CHUNK, stream.try_clone()?);
        stream.set_read_timeout(Some(PATIENCE))?;
        let hello: Hello = match wire::receive(&mut reader, wire::MAX_HELLO, &mut |_| false) {
            Ok(Some(hello)) => hello,
            Ok(None) => return Ok(None),
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) if wire::is_late(&e) => {
                let message = format!(
                    "process {listener} has the store open and does not answer: it was stopped, or hangs. Let it go on (`kill -CONT \
                     {listener}`) or end it; the file cannot be read past it, since it may go on writing at any moment. Where it \
                     has ended, a process that was forked from it keeps the store: end that one"
                );
                return Ok(Some(Err(Error::new(ErrorKind::Locked, message))));
            }
            Err(e) => return Err(e),
        };
        stream.set_read_timeout(Some(LOOK))?;
        if hello.protocol != PROTOCOL {
            let message = format!(
                "process {} has the store open and is attestlog {}, this is {}; end that process or use its version",
                hello.process,
                hello.version,
                env!("CARGO_PKG_VERSION")
            );
            return Ok(Some(Err(Error::new(ErrorKind::Locked, message))));
        }
        match wire::send(&mut stream, &Request::Hello { protocol: PROTOCOL }) {
            Ok(()) => Ok(Some(Ok(Connection { stream, reader, hello, listener, name, place, at: Process::this() }))),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The id of the process that has the store open, as the kernel says; where it does not, as that process says.
    pub fn process(&self) -> u32 {
        if self.listener == 0 { self.hello.process } else { self.listener }
    }

    /// Has the owner prove that it has the secret half of the log's key, which is in the store's key file. Says whether it is still
    /// there. `random` gives the question.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key), with what to do, where it does not: what it says is nobody's word then but its own.
    pub fn confirm(&mut self, key: &VerifierKey, random: &dyn Random) -> Result<bool> {
        self.at.check()?;
        let mut challenge = [0; 32];
        random.fill(&mut challenge);
        let shown = match self.ask(&Request::Show(challenge)) {
            Ok(Reply::Shown(signature)) => {
                let asked = Asked { place: &self.place, challenge: &challenge };
                self.question().is_signed(key, asked, &signature)
            }
            Ok(_) => false,
            Err(e) if is_gone(&e) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        if shown {
            return Ok(true);
        }
        let process = self.process();
        let message = format!(
            "process {process} of this user has the store open and does not show that it has the key of {}, so it is not believed, and \
             nothing was sent to it. It has the store open without its key file, has another store there, is in another container \
             (another PID namespace), or only pretends: see what it is (`ps -p {process}`), end it (`kill {process}`), and try again",
            key.name()
        );
        Err(Error::new(ErrorKind::Key, message))
    }

    /// What a proof on this connection is about.
    fn question(&self) -> Question<'_> {
        let peer = if self.listener == 0 { 0 } else { std::process::id() };
        Question {
            store: &self.hello.store,
            challenge: &self.hello.challenge,
            owner: self.listener,
            peer,
            name: &self.name,
        }
    }

    /// Proves to the owner that this process has the store's keys. Says whether it is still there.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key): these are not the keys that the owner has now.
    pub fn prove(&mut self, keys: &KeyFile) -> Result<bool> {
        self.at.check()?;
        let answer = self.question().answer(keys)?;
        match self.ask(&Request::Prove(answer)) {
            Ok(Reply::Proven) => Ok(true),
            Ok(Reply::Failed(wire_error)) => Err(wire_error.into()),
            Ok(_) => Err(confused()),
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        wire::send(&mut self.stream, request)?;
        self.hear()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// What the owner says next, however long it takes, as long as it is there.
    fn hear(&mut self) -> io::Result<Option<Reply>> {
        let listener = self.listener;
        match wire::receive(&mut self.reader, wire::MAX_FRAME, &mut |_| is_alive(listener)) {
            Err(e) if wire::is_late(&e) => Err(io::ErrorKind::UnexpectedEof.into()),
            heard => heard,
        }
    }

    /// Waits until the owner goes.
    pub(super) fn watch(mut self) {
        if self.at.is_this() && wire::send(&mut self.stream, &Request::Watch).is_ok() {
            while let Ok(Some(_)) = self.hear() {}
        }
    }

    /// Runs a command where the store is open.
    ///
    /// # Errors
    /// What `terminal` says; that the owner has gone is no error but [`Ran::Gone`].
    pub fn run(mut self, command: &Command, terminal: &mut dyn Terminal) -> io::Result<Ran> {
        self.at.check().map_err(io::Error::other)?;
        // What reads can be run again, and what follows goes on from where it said that it was: only these are held back.
        let mut held = Held { parts: Vec::new(), bytes: 0, open: command.effect != Effect::Reads };
        let gone = |held: &Held| Ok(Ran::Gone { shown: held.open });
        if wire::send(&mut self.stream, &Request::Run(command.clone())).is_err() {
            return gone(&held);
        }
        loop {
            let reply = match self.hear() {
                Ok(Some(reply)) => reply,
                Ok(None) => return gone(&held),
                Err(e) if is_gone(&e) => return gone(&held),
                Err(e) => return Err(e),
            };
            match reply {
                Reply::Out(bytes) => held.take(terminal, true, bytes)?,
                Reply::Err(bytes) => held.take(terminal, false, bytes)?,
                Reply::Want => {
                    let input = terminal.input()?;
                    if wire::send(&mut self.stream, &Request::Input(input)).is_err() {
                        return gone(&held);
                    }
                }
                Reply::Position(seq) => {
                    // What comes now is shown with the position behind it, or the next owner would show it once more.
                    held.show(terminal)?;
                    held.open = false;
                    terminal.position(seq);
                }
                Reply::Exit(code) => {
                    held.show(terminal)?;
                    return Ok(Ran::Ended(code));
                }
                Reply::Failed(wire_error) => {
                    terminal.err(format!("attestlog: {}\n", Error::from(wire_error)).as_bytes())?;
                    return Ok(Ran::Ended(3));
                }
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the store's owner said what it must not")),
            }
        }
    }
}

/// The standard input and output of this process, as [`Connection::run`] uses them.
pub trait Terminal {
    /// Writes to standard output.
    ///
    /// # Errors
    /// What the operating system says.
    fn out(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes to standard error.
    ///
    /// # Errors
    /// What the operating system says.
    fn err(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Some of standard input; nothing at its end.
    ///
    /// # Errors
    /// What the operating system says.
    fn input(&mut self) -> io::Result<Vec<u8>>;
    /// A command that follows has shown everything below this seq.
    fn position(&mut self, seq: u64);
}

/// How a command ended that another process ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// With this exit code.
    Ended(u8),
    /// The owner went before it ended; whether something of it was shown, or may have been done.
    Gone {
        /// Then it must not simply be run again.
        shown: bool,
    },
}

/// Output that is held back.
struct Held {
    parts: Vec<(bool, Vec<u8>)>,
    bytes: usize,
    open: bool,
}

impl Held {
    fn take(&mut self, terminal: &mut dyn Terminal, out: bool, bytes: Vec<u8>) -> io::Result<()> {
        // A progress bar is no output: it goes away again.
        if self.open || (!out && bytes.starts_with(b"\r")) {
            return put(terminal, out, &bytes);
        }
        self.bytes += bytes.len();
        self.parts.push((out, bytes));
        if self.bytes > HELD { self.show(terminal) } else { Ok(()) }
    }

    fn show(&mut self, terminal: &mut dyn Terminal) -> io::Result<()> {
        (self.open, self.bytes) = (true, 0);
        self.parts.drain(..).try_for_each(|(out, bytes)| put(terminal, out, &bytes))
    }
}

fn put(terminal: &mut dyn Terminal, out: bool, bytes: &[u8]) -> io::Result<()> {
    if out { terminal.out(bytes) } else { terminal.err(bytes) }
}

/// Whether the other end went away, however it did.
fn is_gone(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(e.kind(), K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::NotConnected | K::ConnectionAborted)
}

/// Why nothing was answered.
pub(super) enum Lost {
    /// The owner has gone.
    Gone,
    Error(Error),
}

impl From<io::Error> for Lost {
    fn from(e: io::Error) -> Lost {
        if is_gone(&e) { Lost::Gone } else { Lost::Error(e.into()) }
    }
}

/// Sends records to the owner. Every thread that sends has a connection of its own meanwhile.
#[derive(Debug)]
pub(super) struct Remote {
    store: PathBuf,
    options: Options,
    trust: Arc<Trust>,
    pool: Mutex<Vec<Connection>>,
}

impl Remote {
    /// `first` is a connection to an owner that is believed.
    pub(super) fn new(store: &Path, options: &Options, trust: &Arc<Trust>, first: Connection) -> Remote {
        let pool = Mutex::new(vec![first]);
        Remote { store: store.to_owned(), options: options.clone(), trust: trust.clone(), pool }
    }

    /// Records calls, all or none. `batch`: an error names the call by its place; `own`: the sender of calls that have none.
    pub(super) fn send(
        &self,
        calls: &[(ToolCall, Phase)],
        batch: bool,
        own: Option<&OwnSender>,
    ) -> Result<Vec<Receipt>, Lost> {
        let request = Request::Record(RemoteBatch::of(calls, batch, own.cloned()).map_err(Lost::Error)?);
        let mut connection = self.connection()?;
        let receipts = match connection.ask(&request)? {
            Reply::Recorded(receipts) => wire::receipts(receipts),
            Reply::Failed(wire_error) => return Err(Lost::Error(wire_error.into())),
            _ => return Err(Lost::Error(confused())),
        };
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(receipts)
    }

    /// See [`SharedStore::look`](super::SharedStore).
    pub(super) fn look(&self, seqs: &[u64]) -> Result<(u64, Vec<u64>), Lost> {
        let mut connection = self.connection()?;
        let looked = match connection.ask(&Request::Look(seqs.to_vec()))? {
            Reply::Looked(entries, unanswered) => (entries, unanswered),
            Reply::Failed(wire_error) => return Err(Lost::Error(wire_error.into())),
            _ => return Err(Lost::Error(confused())),
        };
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(looked)
    }

    fn connection(&self) -> Result<Connection, Lost> {
        if let Some(connection) = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let mut connection = reach(&self.store).map_err(Lost::Error)?.ok_or(Lost::Gone)?;
        match self.trust.confirm(&mut connection, &self.options, &self.store) {
            Ok(true) => Ok(connection),
            // Another one has it now: whoever looks for an owner says what is wrong with it.
            Ok(false) | Err(_) => Err(Lost::Gone),
        }
    }
}

fn confused() -> Error {
    Error::new(ErrorKind::Io, "the process that has the store open gave an answer to another question")
}
