//! The client side: processes that do not have the store open.

use super::authority::{Asked, Question};
use super::local::{NoPeer, Peer, Stream, connect, is_alive, is_stopped};
use super::place;
use super::trust::{Confirmed, Trust};
use super::wire::{self, Ask, CHUNK, Hello, PROTOCOL, Reply, Request};
use crate::entry::ToolCall;
use crate::host::Random;
use crate::keys::KeyFile;
use crate::note::VerifierKey;
use crate::process::Process;
use crate::store::{Access, OwnSender, RemoteBatch};
use crate::{Error, ErrorKind, Options, Receipt, Result};
use attestlog_proof::entry::Phase;
use std::fmt;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the owner may take to identify itself.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long it may take before whoever waits is told.
const QUIET: Duration = Duration::from_secs(2);

/// How long to wait for an owner that does not accept these keys to exit or to replace a key: it may be a command that only
/// reads.
const DOUBT: Duration = Duration::from_secs(3);

/// How often a process that waits for the owner checks that the owner is alive. When the owner exits its connection closes,
/// unless a process forked from it keeps a copy open.
const LOOK: Duration = Duration::from_secs(1);

/// Tells the host of this process what it waits for.
#[derive(Clone, Default)]
pub(crate) struct Tell(pub(crate) Option<Arc<dyn Fn(&str) + Send + Sync>>);

impl Tell {
    /// Tells it.
    pub(crate) fn say(&self, message: &str) {
        if let Some(tell) = &self.0 {
            tell(message);
        }
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tell").finish_non_exhaustive()
    }
}

/// A connection to the process that has a store open.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    reader: BufReader<Stream>,
    hello: Hello,
    /// The process that listens, as the kernel reports it; 0 where it does not.
    listener: u32,
    /// The name of this end, chosen by the kernel; empty where the kernel gives none.
    name: Vec<u8>,
    /// The name of the socket.
    place: String,
    /// The process that connected. A fork of it shares the connection, and its frames would mix with this process's.
    at: Process,
    /// Who is told if the owner was stopped.
    tell: Tell,
}

/// Connects to the process that has the store open and shares it, if there is one.
///
/// # Errors
/// [`Io`](ErrorKind::Io) if something at the socket's path must not be trusted;
/// [`Locked`](ErrorKind::Locked) if the owner is a version of this program with another protocol, or does not answer.
pub fn reach(store: &Path) -> Result<Option<Connection>> {
    reach_telling(store, &|_| ())
}

/// The same. `silent` is told the id of a process that has not identified itself for two seconds; it is waited for a little longer.
pub(crate) fn reach_telling(store: &Path, silent: &dyn Fn(u32)) -> Result<Option<Connection>> {
    let mut wrong = None;
    for path in place::sockets(store).unwrap_or_default() {
        match reach_at(&path, silent) {
            Ok(None) => {}
            Ok(reached) => return Ok(reached),
            Err(e) => wrong = wrong.or(Some(e)),
        }
    }
    wrong.map_or(Ok(None), Err)
}

fn reach_at(path: &Path, silent: &dyn Fn(u32)) -> Result<Option<Connection>> {
    // A directory that is not this user's holds no socket of this user. An owner that cannot listen anywhere reports it.
    if path.parent().is_none_or(|directory| place::check(directory).is_err()) {
        return Ok(None);
    }
    let (stream, peer) = match connect(path) {
        Ok(peer) => peer,
        Err(NoPeer::Nobody) => return Ok(None),
        Err(NoPeer::Refused(message)) => return Err(Error::new(ErrorKind::Io, message)),
        Err(NoPeer::Io(e)) => return Err(Error::from(e).in_file(path)),
    };
    // A process forked from an owner that has exited keeps its socket, and accepts no connection.
    if !is_alive(peer.process) {
        return Ok(None);
    }
    let place = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Connection::greet(stream, peer, place, silent).map_err(Error::from)?.transpose()
}

impl Connection {
    /// Reads the owner's first frame; `None` if the owner is just exiting.
    fn greet(
        mut stream: Stream,
        peer: Peer,
        place: String,
        told: &dyn Fn(u32),
    ) -> io::Result<Option<Result<Connection>>> {
        let Peer { process: listener, name } = peer;
        let mut reader = BufReader::with_capacity(CHUNK, stream.try_clone()?);
        stream.set_read_timeout(Some(QUIET))?;
        let mut waited = Duration::ZERO;
        let mut waits = |_: bool| {
            if waited.is_zero() {
                told(listener);
            }
            waited += QUIET;
            waited < PATIENCE
        };
        let hello: Hello = match wire::receive(&mut reader, wire::MAX_HELLO, &mut waits) {
            Ok(Some(hello)) => hello,
            Ok(None) => return Ok(None),
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) if wire::is_late(&e) => return Ok(Some(Err(silent(listener)))),
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
            Ok(()) => {
                let (at, tell) = (Process::this(), Tell::default());
                Ok(Some(Ok(Connection { stream, reader, hello, listener, name, place, at, tell })))
            }
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Tells of an owner that is stopped while it is waited for.
    pub(crate) fn telling(mut self, tell: &Tell) -> Connection {
        self.tell = tell.clone();
        self
    }

    /// The id of the process that has the store open, as the kernel reports it; where it does not, as that process states
    /// it.
    pub fn process(&self) -> u32 {
        if self.listener == 0 { self.hello.process } else { self.listener }
    }

    /// Whether the process that has the store open only reads, and gives the store up when it is asked.
    pub fn reads(&self) -> bool {
        self.hello.reads
    }

    /// Whether that process is still opening the store, so that it can answer nothing yet.
    pub(crate) fn is_opening(&self) -> bool {
        self.hello.store.is_empty()
    }

    /// Asks a process that only reads to give the store up; nothing else is sent to it, and nothing is proven by either side.
    /// Afterwards it has done so, or has exited.
    ///
    /// # Errors
    /// [`Locked`](ErrorKind::Locked) if it does not answer: it was stopped, or hangs.
    pub(crate) fn take_over(mut self) -> Result<()> {
        self.at.check()?;
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let answer = wire::send(&mut self.stream, &Request::GiveWay)
            .and_then(|()| wire::receive::<Reply>(&mut self.reader, wire::MAX_HELLO, &mut |_| false));
        match answer {
            Err(e) if wire::is_late(&e) => Err(silent(self.process())),
            Err(e) if !is_gone(&e) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Makes the owner prove that it has the secret half of the log's key, which is in the store's key file. Returns whether
    /// the owner is still there. `random` supplies the question.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key), with what to do, if the owner does not prove it: then nothing that it says can be trusted.
    pub(super) fn confirm(&mut self, key: &VerifierKey, random: &dyn Random) -> Result<bool> {
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
             nothing was sent to it. First make sure that this is the log's key, and not an older one or another log's. If it is, the \
             process has the store open without its key file, has another store there, is in another container (another PID \
             namespace), or only pretends: see what it is (`ps -p {process}`), and end it only if it should not be there",
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

    /// Proves to the owner that this process has the store's keys. Returns whether the owner is still there.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) if these are not the keys that the owner has now.
    pub(super) fn prove(&mut self, keys: &KeyFile) -> Result<bool> {
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

    /// The owner's next reply, however long it takes, as long as the owner is alive. If it was stopped, that is told once.
    fn hear(&mut self) -> io::Result<Option<Reply>> {
        let (listener, tell) = (self.listener, &self.tell);
        let (mut waited, mut told) = (Duration::ZERO, false);
        let mut waits = |_: bool| {
            waited += LOOK;
            if !told && waited >= QUIET && is_stopped(listener) {
                told = true;
                tell.say(&format!(
                    "waiting for process {listener}, which has the store open and was stopped: let it go on (`kill -CONT {listener}`) or \
                     end it"
                ));
            }
            is_alive(listener)
        };
        match wire::receive(&mut self.reader, wire::MAX_FRAME, &mut waits) {
            Err(e) if wire::is_late(&e) => Err(io::ErrorKind::UnexpectedEof.into()),
            heard => heard,
        }
    }

    /// Waits until the owner exits.
    pub(crate) fn watch(mut self) {
        if self.at.is_this() && wire::send(&mut self.stream, &Request::Watch).is_ok() {
            while let Ok(Some(_)) = self.hear() {}
        }
    }
}

/// The process that has the store open does not answer.
fn silent(process: u32) -> Error {
    let message = format!(
        "process {process} has the store open and does not answer: it was stopped, or hangs. Let it go on (`kill -CONT {process}`) or \
         end it; the file cannot be read past it, since it may go on writing at any moment. Where it has ended, a process that was \
         forked from it keeps the store: end that one"
    );
    Error::new(ErrorKind::Locked, message)
}

/// Whether the other end has gone, in whatever way.
fn is_gone(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(e.kind(), K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::NotConnected | K::ConnectionAborted)
}

/// Why there is no answer.
pub(crate) enum Lost {
    /// The owner has gone, and nothing was sent to it.
    Gone,
    /// The owner went before it answered.
    Asked,
    Error(Error),
}

impl From<io::Error> for Lost {
    fn from(e: io::Error) -> Lost {
        if is_gone(&e) { Lost::Gone } else { Lost::Error(e.into()) }
    }
}

/// Sends records to the owner. Each thread that sends uses its own connection while it does.
#[derive(Debug)]
pub(crate) struct Remote {
    store: PathBuf,
    options: Options,
    trust: Arc<Trust>,
    /// The owner that was checked first, and whether it has proven that it has the log's key.
    owner: (u32, bool),
    tell: Tell,
    pool: Mutex<Vec<Connection>>,
    /// Idle connections on which keys were proven, or need not be.
    asking: Mutex<Vec<Connection>>,
}

impl Remote {
    /// `first` is a connection to an owner that has been checked.
    pub(crate) fn new(store: &Path, options: &Options, trust: &Arc<Trust>, first: Connection, proven: bool) -> Remote {
        let (owner, tell) = ((first.process(), proven), first.tell.clone());
        let pool = Mutex::new(vec![first]);
        Remote {
            store: store.to_owned(),
            options: options.clone(),
            trust: trust.clone(),
            owner,
            tell,
            pool,
            asking: Mutex::default(),
        }
    }

    /// The owner's process id, and whether it has proven that it has the log's key.
    pub(crate) fn owner(&self) -> (u32, bool) {
        self.owner
    }

    /// Records calls, all or none. `batch`: an error names the call by its position; `own`: the sender for calls that have
    /// none.
    pub(crate) fn send(
        &self,
        calls: &[(ToolCall, Phase)],
        batch: bool,
        own: Option<&OwnSender>,
    ) -> Result<Vec<Receipt>, Lost> {
        let request = Request::Record(RemoteBatch::of(calls, batch, own.cloned()).map_err(Lost::Error)?);
        let mut connection = self.connection()?;
        let receipts = match connection.ask(&request) {
            Ok(Reply::Recorded(receipts)) => wire::receipts(receipts),
            Ok(Reply::Failed(wire_error)) => return Err(Lost::Error(wire_error.into())),
            Ok(_) => return Err(Lost::Error(perhaps_recorded(&confused()))),
            Err(e) if is_gone(&e) => return Err(Lost::Asked),
            Err(e) => return Err(Lost::Error(perhaps_recorded(&e))),
        };
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(receipts)
    }

    /// Sends a request to the owner, after proving the keys of this process if it has some. Returns the answer as JSON.
    /// `told` is called with how far the owner is.
    pub(crate) fn ask(
        &self,
        name: &str,
        despite: bool,
        members: &str,
        told: &mut dyn FnMut(u64, u64),
    ) -> Result<String, Lost> {
        if members.len() > wire::MAX_ASK {
            let message =
                "the request is too large for the process that has the store open; ask for less, or end that process";
            return Err(Lost::Error(Error::new(ErrorKind::TooLarge, message)));
        }
        let mut connection = self.proven()?;
        let ask = Ask { name: name.to_owned(), despite, members: members.to_owned() };
        wire::send(&mut connection.stream, &Request::Ask(ask))?;
        let heard = loop {
            match connection.hear() {
                Ok(Some(Reply::Progress(done, of))) => told(done, of),
                heard => break heard.and_then(|heard| heard.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())),
            }
        };
        let answer = match heard {
            Ok(Reply::Answered(answer)) => Ok(answer),
            Ok(Reply::Failed(wire_error)) => Err(Lost::Error(wire_error.into())),
            Ok(_) => return Err(Lost::Error(confused())),
            Err(e) if is_gone(&e) => return Err(Lost::Asked),
            Err(e) => return Err(Lost::Error(e.into())),
        };
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        answer
    }

    /// Waits until the owner has signed the entry with this seq, and all before it, but not for ever: for as many times [`LOOK`] as
    /// `looks` says.
    pub(crate) fn sign(&self, newest: u64, looks: u32) -> Result<(), Lost> {
        let mut connection = self.connection()?;
        wire::send(&mut connection.stream, &Request::Sign(newest))?;
        let (listener, mut left) = (connection.listener, looks);
        let heard = wire::receive(&mut connection.reader, wire::MAX_FRAME, &mut |_| {
            left = left.saturating_sub(1);
            left > 0 && is_alive(listener)
        });
        match heard {
            Ok(Some(Reply::Signed)) => {
                self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                Ok(())
            }
            Ok(Some(Reply::Failed(wire_error))) => Err(Lost::Error(wire_error.into())),
            Ok(Some(_)) => Err(Lost::Error(confused())),
            Ok(None) => Err(Lost::Asked),
            Err(e) if wire::is_late(&e) && is_alive(listener) => {
                let message = format!("process {}, which has the store open, has not signed it", connection.process());
                Err(Lost::Error(Error::new(ErrorKind::Busy, message)))
            }
            Err(e) if is_gone(&e) || wire::is_late(&e) => Err(Lost::Asked),
            Err(e) => Err(Lost::Error(e.into())),
        }
    }

    /// A connection on which this process has proven its keys, if it has some. A process that cannot open its key file, and
    /// has no passphrase for one, asks without keys.
    #[allow(clippy::disallowed_methods, reason = "waits for another process, by the time that it runs in")]
    fn proven(&self) -> Result<Connection, Lost> {
        if let Some(connection) = self.asking.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let began = std::time::Instant::now();
        loop {
            let mut connection = self.connection()?;
            // Read again each time, because the keys may have been replaced.
            let keys = match super::trust::keys(&self.options, &self.store) {
                Err(_) if self.options.passphrase.is_none() => None,
                keys => keys.map_err(Lost::Error)?,
            };
            match keys.map_or(Ok(true), |keys| connection.prove(&keys)) {
                Ok(true) => return Ok(connection),
                Ok(false) => return Err(Lost::Gone),
                // The owner may be replacing its keys just now, or be a command that is about to end.
                Err(_) if began.elapsed() < DOUBT => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => return Err(Lost::Error(e)),
            }
        }
    }

    fn connection(&self) -> Result<Connection, Lost> {
        if let Some(connection) = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let mut connection = reach(&self.store).map_err(Lost::Error)?.ok_or(Lost::Gone)?.telling(&self.tell);
        if connection.reads() && self.options.settings.access == Access::Write {
            // The owner that this knew has gone, and nothing is recorded through a process that only reads (R96).
            return Err(Lost::Gone);
        }
        match self.trust.confirm(&mut connection, &self.options, &self.store) {
            Ok(Confirmed::Proven | Confirmed::Unproven) => Ok(connection),
            // Another process has the store now; the code that looks for an owner reports what is wrong with it.
            Ok(Confirmed::Gone) | Err(_) => Err(Lost::Gone),
        }
    }
}

/// Calls were sent, and their answer is missing.
pub(crate) fn perhaps_recorded(why: &dyn std::fmt::Display) -> Error {
    let message = format!(
        "{why}: it is not known whether this was recorded; if it has a number, send it again under that, else look at the log first"
    );
    Error::new(ErrorKind::Io, message)
}

fn confused() -> Error {
    Error::new(ErrorKind::Io, "the process that has the store open gave an answer to another question")
}
