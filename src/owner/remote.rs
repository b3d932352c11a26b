//! The side of those who do not have the store open.

use super::local::{NoPeer, Stream, connect};
use super::place;
use super::wire::{self, CHUNK, Command, Effect, Hello, PROTOCOL, Reply, Request};
use crate::entry::{Phase, ToolCall};
use crate::store::{Away, SubjectTold};
use crate::{Error, ErrorKind, Options, Receipt, Result};
use std::cell::RefCell;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So much of a command's output is held back until it has ended, so that it can be run again where its owner goes.
pub(super) const HELD: usize = 1 << 20;

/// How long the owner may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a call is prepared again because its policy changed meanwhile.
const PREPARED: usize = 16;

/// A connection to the process that has a store open.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    reader: BufReader<Stream>,
    process: u32,
}

/// Connects to the process that has the store open and shares it, if there is one.
///
/// # Errors
/// [`Io`](ErrorKind::Io) where something stands in the socket's place that must not be trusted;
/// [`Locked`](ErrorKind::Locked) where the owner is a version of this program that speaks another language.
pub fn reach(store: &Path) -> Result<Option<Connection>> {
    let Ok(path) = place::socket(store) else { return Ok(None) };
    match path.parent().map(place::check) {
        Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Some(Err(e)) => return Err(e.into()),
        _ => {}
    }
    let stream = match connect(&path) {
        Ok(stream) => stream,
        Err(NoPeer::Nobody) => return Ok(None),
        Err(NoPeer::Refused(message)) => return Err(Error::new(ErrorKind::Io, message)),
        Err(NoPeer::Io(e)) => return Err(Error::from(e).at(path.display())),
    };
    Connection::greet(stream).map_err(Error::from)?.transpose()
}

impl Connection {
    /// Hears who it is; nothing where the owner goes away just now.
    fn greet(stream: Stream) -> io::Result<Option<Result<Connection>>> {
        let mut reader = BufReader::with_capacity(CHUNK, stream.try_clone()?);
        stream.set_read_timeout(Some(PATIENCE))?;
        let hello: Hello = match wire::receive(&mut reader) {
            Ok(Some(hello)) => hello,
            Ok(None) => return Ok(None),
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        stream.set_read_timeout(None)?;
        if hello.protocol != PROTOCOL {
            let message = format!(
                "process {} has the store open and is attestlog {}, this is {}; end that process or use its version",
                hello.process,
                hello.version,
                env!("CARGO_PKG_VERSION")
            );
            return Ok(Some(Err(Error::new(ErrorKind::Locked, message))));
        }
        Ok(Some(Ok(Connection { stream, reader, process: hello.process })))
    }

    /// The id of the process that has the store open.
    pub fn process(&self) -> u32 {
        self.process
    }

    fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        wire::send(&mut self.stream, request)?;
        wire::receive(&mut self.reader)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Waits until the owner goes.
    pub(super) fn watch(mut self) {
        if wire::send(&mut self.stream, &Request::Watch).is_ok() {
            while let Ok(Some(_)) = wire::receive::<Reply>(&mut self.reader) {}
        }
    }

    /// Runs a command where the store is open.
    ///
    /// # Errors
    /// What `terminal` says; that the owner has gone is no error but [`Ran::Gone`].
    pub fn run(mut self, command: &Command, terminal: &mut dyn Terminal) -> io::Result<Ran> {
        // What reads can be run again, and what follows goes on from where it said that it was: only these are held back.
        let mut held = Held { parts: Vec::new(), bytes: 0, open: command.effect != Effect::Reads };
        let gone = |held: &Held| Ok(Ran::Gone { shown: held.open });
        if wire::send(&mut self.stream, &Request::Run(command.clone())).is_err() {
            return gone(&held);
        }
        loop {
            let reply = match wire::receive(&mut self.reader) {
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
    pool: Mutex<Vec<Connection>>,
    away: Mutex<Option<Arc<Away>>>,
}

impl Remote {
    pub(super) fn new(store: &Path, options: Options, first: Connection) -> Remote {
        Remote { store: store.to_owned(), options, pool: Mutex::new(vec![first]), away: Mutex::new(None) }
    }

    /// Records calls, all or none. `batch`: an error names the call by its place; `own_number`: the first one's number is
    /// that of all.
    pub(super) fn send(
        &self,
        calls: &[(ToolCall, Phase)],
        batch: bool,
        own_number: bool,
    ) -> Result<Vec<Receipt>, Lost> {
        let mut connection = self.connection()?;
        let receipts = self.send_over(&mut connection, calls, batch, own_number)?;
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(receipts)
    }

    /// See [`Joint::look`](super::Joint).
    pub(super) fn look(&self, seqs: &[u64]) -> Result<(u64, Vec<u64>), Lost> {
        let mut connection = self.connection()?;
        let looked = match connection.ask(&Request::Look(seqs.to_vec()))? {
            Reply::Looked(entries, unanswered) => (entries, unanswered),
            Reply::Failed(trouble) => return Err(Lost::Error(trouble.into())),
            _ => return Err(Lost::Error(confused())),
        };
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(looked)
    }

    fn connection(&self) -> Result<Connection, Lost> {
        if let Some(connection) = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        reach(&self.store).map_err(Lost::Error)?.ok_or(Lost::Gone)
    }

    fn send_over(
        &self,
        connection: &mut Connection,
        calls: &[(ToolCall, Phase)],
        batch: bool,
        own_number: bool,
    ) -> Result<Vec<Receipt>, Lost> {
        for _ in 0..PREPARED {
            let away = self.away(connection)?;
            let prepared = {
                let connection = RefCell::new(&mut *connection);
                let gone = RefCell::new(None);
                let ask = |spellings: &[Vec<String>]| -> Result<SubjectTold> {
                    match connection.borrow_mut().ask(&Request::Subject(spellings.to_vec())) {
                        Ok(Reply::Subject(told)) => Ok(told),
                        Ok(Reply::Failed(trouble)) => Err(trouble.into()),
                        Ok(_) => Err(confused()),
                        Err(e) => {
                            let message = e.to_string();
                            gone.replace(Some(Lost::from(e)));
                            Err(Error::new(ErrorKind::Io, message))
                        }
                    }
                };
                let prepared: Result<Vec<_>> = calls
                    .iter()
                    .enumerate()
                    .map(|(i, (call, phase))| {
                        away.prepare(call.clone(), *phase, &ask)
                            .map_err(|e| if batch { e.at(format!("call {i}")) } else { e })
                    })
                    .collect();
                match (prepared, gone.take()) {
                    (_, Some(lost)) => return Err(lost),
                    (prepared, None) => prepared.map_err(Lost::Error)?,
                }
            };
            match connection.ask(&Request::Record {
                stamp: away.stamp().clone(),
                calls: prepared,
                batch: own_number,
            })? {
                Reply::Recorded(receipts) => return Ok(wire::receipts(receipts)),
                Reply::Stale => *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None,
                Reply::Failed(trouble) => return Err(Lost::Error(trouble.into())),
                _ => return Err(Lost::Error(confused())),
            }
        }
        Err(Lost::Error(Error::new(
            ErrorKind::Busy,
            "the store's policy or keys change too often, or are not those here",
        )))
    }

    /// By what calls are to be prepared, asked for once.
    fn away(&self, connection: &mut Connection) -> Result<Arc<Away>, Lost> {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(away) = &*away {
            return Ok(away.clone());
        }
        let told = match connection.ask(&Request::Tell)? {
            Reply::Told(told) => *told,
            Reply::Failed(trouble) => return Err(Lost::Error(trouble.into())),
            _ => return Err(Lost::Error(confused())),
        };
        let fresh = Arc::new(Away::new(told, &self.options, &self.store).map_err(Lost::Error)?);
        *away = Some(fresh.clone());
        Ok(fresh)
    }
}

fn confused() -> Error {
    Error::new(ErrorKind::Io, "the process that has the store open gave an answer to another question")
}
