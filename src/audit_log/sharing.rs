//! A store that this process owns, or reaches through its current owner.
//!
//! Invariant I7: a record that was sent and not acknowledged is sent again under the same number, so it is in the log exactly once,
//! whichever process becomes the owner.
//!
//! Invariant R97: a handle that only reads loses nothing by giving the store up. An answer that was being made meanwhile is
//! discarded and asked of the next owner; what a query finds comes in pages, which go on at the next owner in the same snapshot.

use super::owned::Owned;
use super::{AuditLog, Inner, Role, Sharing, closed};
use crate::entry::ToolCall;
use crate::owner::{
    Confirmed, Connection, Lost, Remote, Server, Tell, Trust, perhaps_recorded, reach, reach_telling, sockets,
};
use crate::process::Process;
use crate::requests::{self, Request};
use crate::store::{Access, Giving, OpenStore, OwnSender};
use crate::{Error, ErrorKind, Options, Receipt, Result};
use attestlog_proof::entry::Phase;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long another process may have the store open without listening, because it is opening or closing it. If a socket shows that
/// the store was shared, the wait is longer (`SHARED`), since opening it after a crash may take longer.
const ALONE: Duration = Duration::from_secs(3);
const SHARED: Duration = Duration::from_secs(60);
/// How long a process that only reads leaves a store that has lost its owner to those that record: they look for it at the same
/// time.
const HOLD_OFF: Duration = Duration::from_secs(1);
/// How long a wait for the store may take before whoever waits is told.
const QUIET: Duration = Duration::from_secs(2);
/// How many processes that only read are asked to give a store up before that is an error: each gives it up once.
const READERS: usize = 200;
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// How many owners a request is tried with before it fails.
const OWNERS: usize = 1000;
/// How long closing waits for another process to sign, in times that a connection is looked at (seconds).
const SIGNING: u32 = 60;
/// How many calls with numbers of the caller's own go into one commit through another process: the store must not forget a number
/// that may have to be sent again.
const NUMBERED: usize = crate::store::REMEMBERED;

/// The process that has a store open, as a handle knows it: see [`AuditLog::owner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This process.
    This,
    /// The process with this id. It has proven that it has the log's key, which this process knows.
    Proven(u32),
    /// The process with this id. It has proven nothing, because this process knows no key of the log: what it answers is its word.
    Unproven(u32),
}

/// A handle's state for finding the owner and taking over from it.
pub(super) struct Shared {
    store: PathBuf,
    sharing: Sharing,
    electing: Mutex<()>,
    trust: Arc<Trust>,
    /// Senders that have no request in flight.
    lanes: Mutex<Vec<OwnSender>>,
    /// One more than the newest seq that was recorded through another process; `u64::MAX` if that is not known; 0 for none.
    recorded: AtomicU64,
}

impl Shared {
    fn new(store: &Path, sharing: Sharing) -> Shared {
        let trust = Arc::new(Trust::new(sharing.public_key.clone()));
        Shared {
            store: store.to_owned(),
            sharing,
            electing: Mutex::new(()),
            trust,
            lanes: Mutex::default(),
            recorded: AtomicU64::new(0),
        }
    }

    /// Locks the role against changes by other threads.
    pub(super) fn electing(&self) -> MutexGuard<'_, ()> {
        self.electing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shares a store that this process has opened to write.
    fn own(&self, store: OpenStore, options: &Options) -> Owned {
        let server = self.heard(Server::start(&self.store, store.clone()));
        let guard = AuditLog::owning(&store, options, &self.sharing);
        Owned::new(store, guard).served(server)
    }

    /// The server, or a word to the host that there is none.
    fn heard(&self, server: std::io::Result<Server>) -> Option<Server> {
        let trouble = |e| {
            if let Some(tell) = &self.sharing.on_trouble {
                tell(&format!("other processes cannot reach the store while this one has it open: {e}"));
            }
        };
        server.map_err(trouble).ok()
    }

    /// Opens the file; `None` if this process only reads and gave it up meanwhile.
    fn open(&self, options: &Options) -> Result<Option<Owned>> {
        if is_reader(options) {
            return self.read(options);
        }
        let store = options.clone().open_store(&self.store)?;
        self.sharing.check_key(store.public_key().as_ref())?;
        Ok(Some(self.own(store, options)))
    }

    /// Opens the file for reading. As soon as it is locked, this process listens for others, to give it up (R96). Nobody can record
    /// in a file that this user may not write to, so nobody asks for that one, and several processes may read it.
    fn read(&self, options: &Options) -> Result<Option<Owned>> {
        let mut options = options.clone();
        let giving = crate::files::may_write(&self.store).then(Arc::<Giving>::default);
        if let Some(giving) = &giving {
            let (store, of) = (self.store.clone(), Arc::downgrade(giving));
            giving.on_locked(Box::new(move || Box::new(Server::listen(&store, of.upgrade()))));
        }
        options.settings.gives_way = giving.clone();
        let opened = options.clone().open_store(&self.store);
        if giving.as_ref().is_some_and(|giving| giving.is_given_up()) {
            return Ok(None);
        }
        let store = opened?;
        self.sharing.check_key(store.public_key().as_ref())?;
        let listening = giving.as_ref().and_then(|giving| giving.listening());
        let server = listening.and_then(|any| any.downcast::<std::io::Result<Server>>().ok());
        let server = server.and_then(|server| self.heard(*server));
        if let Some(server) = &server {
            server.serve(store.clone());
        }
        if giving.is_some_and(|giving| giving.is_given_up()) {
            // Whoever asked did so before the server knew the store.
            store.give_up();
        }
        let guard = AuditLog::owning(&store, &options, &self.sharing);
        Ok(Some(Owned::new(store, guard).served(server)))
    }

    /// Connects to the owner, or becomes the owner. A process that only reads gives way to one that records, and to one that knows
    /// the log's key if it does not itself (R96). `lost`: there was an owner.
    #[allow(clippy::disallowed_methods, reason = "waits for other processes, by the time that they run in")]
    fn find(&self, options: &Options, lost: bool) -> Result<Role> {
        let (mut began, mut lost) = (Instant::now(), lost);
        let (mut pause, mut asked) = (Duration::from_millis(1), 0);
        let (told, tell) = (Cell::new(false), Tell(self.sharing.on_trouble.clone()));
        let waiting = |what: &str| {
            if !told.replace(true) {
                tell.say(&format!("waiting for {what}"));
            }
        };
        let silent = |process: u32| {
            waiting(&format!(
                "process {process}, which has the store open and has not answered for two seconds: it was stopped, or is busy"
            ));
        };
        loop {
            // What answers at the socket although it cannot be the owner, or does not answer as one.
            let mut wrong = None;
            match reach_telling(&self.store, &silent) {
                Ok(None) => {}
                Err(e) => wrong = Some(e),
                Ok(Some(connection)) if connection.reads() && !is_reader(options) => take_over(connection, &mut asked)?,
                Ok(Some(connection)) if connection.is_opening() => {}
                Ok(Some(connection)) => {
                    let mut connection = connection.telling(&tell);
                    match self.trust.confirm(&mut connection, options, &self.store) {
                        Ok(confirmed @ (Confirmed::Proven | Confirmed::Unproven)) => {
                            let proven = confirmed == Confirmed::Proven;
                            let remote = Remote::new(&self.store, options, &self.trust, connection, proven);
                            return Ok(Role::Away(Box::new(remote)));
                        }
                        Ok(Confirmed::Gone) => {}
                        Err(_) if connection.reads() => take_over(connection, &mut asked)?,
                        // The peer may be a command that reads without the key and soon ends.
                        Err(_) if began.elapsed() < ALONE => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            if !(lost && is_reader(options) && began.elapsed() < HOLD_OFF) {
                let locked = match self.open(options) {
                    Ok(Some(owned)) => return Ok(Role::Owner(owned)),
                    Ok(None) => {
                        // The one that asked has the store now.
                        (began, lost) = (Instant::now(), true);
                        continue;
                    }
                    Err(e) if e.kind() == ErrorKind::Locked => e,
                    Err(e) => return Err(e),
                };
                // The store has an owner, and asking it again would not change how it answers.
                if let Some(e) = wrong {
                    return Err(e);
                }
                if began.elapsed() > patience(&self.store) {
                    return Err(locked);
                }
                if began.elapsed() > QUIET {
                    waiting("the process that has the store open: it is opening or closing it, or does not answer");
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }
}

/// Whether the process only reads. No other becomes the one through which others record.
fn is_reader(options: &Options) -> bool {
    options.settings.access == Access::Read
}

/// Has a process that only reads give the store up. `asked`: how many did so before.
fn take_over(reader: Connection, asked: &mut usize) -> Result<()> {
    *asked += 1;
    if *asked > READERS {
        let process = reader.process();
        let message = format!(
            "process {process} of this user says that it only reads the store and gives it up, and the store stays locked: see what it \
             is (`ps -p {process}`), end it (`kill {process}`), and try again"
        );
        return Err(Error::new(ErrorKind::Locked, message));
    }
    reader.take_over()
}

/// How long to wait for a store that is locked while no process answers: another process may be opening or closing it.
fn patience(store: &Path) -> Duration {
    match sockets(store).is_ok_and(|sockets| sockets.iter().any(|socket| socket.exists())) {
        true => SHARED,
        false => ALONE,
    }
}

impl Options {
    /// Whether a store opened with these options is shared.
    pub(super) fn shares(&self) -> bool {
        !self.settings.exclusive
    }
}

impl AuditLog {
    pub(super) fn shared(store: OpenStore, path: &Path, options: Options, sharing: Sharing) -> AuditLog {
        let shared = Shared::new(path, sharing);
        let owned = shared.own(store, &options);
        AuditLog::shared_as(Role::Owner(owned), options, shared)
    }

    /// Opens the store, or connects to the process that has it open.
    pub(super) fn join(path: &Path, options: Options, sharing: Sharing) -> Result<AuditLog> {
        let shared = Shared::new(path, sharing);
        let role = shared.find(&options, false)?;
        Ok(AuditLog::shared_as(role, options, shared))
    }

    fn shared_as(role: Role, options: Options, shared: Shared) -> AuditLog {
        let role = RwLock::new(Arc::new(role));
        let inner = Inner { process: Process::this(), options, role, shared: Some(shared) };
        AuditLog { inner: Arc::new(inner), despite: false }
    }

    /// The process that has the store open. A handle looks for the next owner only when it needs one, so this one may have exited.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Owner};
    /// # let dir = tempfile::tempdir()?;
    /// let log = AuditLog::open_or_create(dir.path().join("audit.log"))?;
    /// if let Owner::Unproven(process) = log.owner()? {
    ///     eprintln!("what follows is the word of process {process}");
    /// }
    /// # assert_eq!(log.owner()?, Owner::This);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn owner(&self) -> Result<Owner> {
        match &*self.role()? {
            Role::Owner(_) => Ok(Owner::This),
            Role::Away(remote) => Ok(match remote.owner() {
                (process, true) => Owner::Proven(process),
                (process, false) => Owner::Unproven(process),
            }),
            Role::Closed => Err(closed()),
        }
    }

    /// From now on, takes over as soon as the owner exits, instead of at the next request. For long-lived processes.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let dir = tempfile::tempdir()?;
    /// let log = AuditLog::open_or_create(dir.path().join("audit.log"))?;
    /// log.stand_by();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stand_by(&self) {
        if !self.inner.process.is_this() || self.inner.shared.is_none() {
            return;
        }
        let (inner, despite) = (Arc::downgrade(&self.inner), self.despite);
        let waiting = std::thread::Builder::new().name("stand-by".to_owned());
        // If no thread can be started, the next request takes over.
        let _ = waiting.spawn(move || {
            while let Some(inner) = inner.upgrade() {
                let log = AuditLog { inner, despite };
                let Ok(role) = log.role() else { return };
                let (Role::Away(_), Some(shared)) = (&*role, &log.inner.shared) else { return };
                let owner = reach(&shared.store);
                if let Ok(Some(connection)) = owner
                    && log.may_work_through(&connection)
                {
                    drop((role, log));
                    connection.watch();
                } else if log.elect(&role).is_err() {
                    drop((role, log));
                    std::thread::sleep(PAUSE);
                }
            }
        });
    }

    /// Waits until this process owns the store.
    ///
    /// # Errors
    /// As [`Options::open`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let dir = tempfile::tempdir()?;
    /// let log = AuditLog::open_or_create(dir.path().join("audit.log"))?;
    /// log.wait_to_own()?;
    /// assert!(log.is_owner());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_to_own(&self) -> Result<()> {
        loop {
            let role = self.role()?;
            match (&*role, &self.inner.shared) {
                (Role::Closed, _) => return Err(closed()),
                (Role::Away(_), Some(shared)) => match reach(&shared.store)? {
                    Some(connection) if self.may_work_through(&connection) => connection.watch(),
                    _ => self.elect(&role)?,
                },
                _ => return Ok(()),
            }
        }
    }

    /// Whether this process leaves the store to the one at the other end; one that records does not leave it to one that only reads.
    fn may_work_through(&self, connection: &Connection) -> bool {
        is_reader(&self.inner.options) || !connection.reads()
    }

    /// After the owner exited, or this process gave the store up: becomes the owner, or finds the new one.
    pub(super) fn elect(&self, gone: &Arc<Role>) -> Result<()> {
        let Some(shared) = &self.inner.shared else { return Ok(()) };
        let _electing = shared.electing();
        if !Arc::ptr_eq(&self.role_now()?, gone) {
            return Ok(());
        }
        let role = shared.find(&self.inner.options, true)?;
        *self.inner.role.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(role);
        Ok(())
    }

    /// Answers a request here while this process reads the file. Once it has given it up, the next owner is asked.
    pub(super) fn ask_reading<R: Request>(&self, request: R, told: &mut dyn FnMut(u64, u64)) -> Result<R::Answer> {
        loop {
            let role = self.role()?;
            let Role::Owner(owned) = &*role else { return self.ask_telling(request, told) };
            let answer = request.clone().answer(&self.view(owned), None);
            // While the file was being closed, anything may have been found in it (R97).
            if !owned.store().is_given_up() {
                return answer;
            }
            if !R::EFFECT.can_be_repeated() {
                let message = "the store was given up to a process that records while this was being done: remove what was written, and do \
                               it again";
                return Err(Error::new(ErrorKind::Busy, message));
            }
        }
    }

    /// Sends a request to the owner. If the owner exits before it answers, a request that reads is sent to the next owner; one that
    /// changes the store fails, because it is unknown whether it took effect.
    pub(super) fn ask_away<R: Request>(&self, request: R, told: &mut dyn FnMut(u64, u64)) -> Result<R::Answer> {
        if R::EFFECT.writes() {
            self.check_may_write()?;
        }
        let members = requests::to_text(&request)?;
        for attempt in 0..OWNERS {
            let role = self.role()?;
            match &*role {
                Role::Closed => return Err(closed()),
                Role::Owner(_) => return self.ask_telling(request, told),
                Role::Away(remote) => match remote.ask(R::NAME, self.despite, &members, told) {
                    Ok(answer) => {
                        if let (true, Some(shared)) = (R::EFFECT.records(), &self.inner.shared) {
                            shared.recorded.store(u64::MAX, Ordering::SeqCst);
                        }
                        return requests::from_text(&answer).map_err(|e| {
                            let done = if R::EFFECT.can_be_repeated() {
                                ""
                            } else {
                                ", and it is not known whether it was done"
                            };
                            let message =
                                format!("the answer of the process that has the store open cannot be understood{done}");
                            Error::new(ErrorKind::Io, message).with_source(e)
                        });
                    }
                    Err(Lost::Error(e)) => return Err(e),
                    Err(Lost::Asked) if !R::EFFECT.can_be_repeated() => {
                        let message = "the process that had the store open ended in the middle of this: it is not known whether it was \
                                       done; look at the log first";
                        return Err(Error::new(ErrorKind::Io, message));
                    }
                    Err(Lost::Asked | Lost::Gone) => self.elect(&role)?,
                },
            }
            if attempt > 2 {
                std::thread::sleep(PAUSE);
            }
        }
        Err(no_owner())
    }

    /// Refuses what a handle that was opened only for reading may not do, whoever owns the store.
    fn check_may_write(&self) -> Result<()> {
        match self.inner.options.settings.access {
            Access::Read => Err(crate::store::for_reading_only()),
            _ => Ok(()),
        }
    }

    /// The path of a store that another process may have open.
    pub(super) fn shared_path(&self) -> Option<&Path> {
        self.inner.shared.as_ref().map(|shared| &*shared.store)
    }

    /// Before this handle is closed: waits until what it recorded through other processes is signed, by the one that has the store
    /// open now (R100). If this process has become that one, closing signs it.
    pub(super) fn have_signed(&self) -> Result<()> {
        let Some(shared) = &self.inner.shared else { return Ok(()) };
        let Some(newest) = shared.recorded.swap(0, Ordering::SeqCst).checked_sub(1) else { return Ok(()) };
        for attempt in 0..OWNERS {
            let role = self.role()?;
            let lost = match &*role {
                Role::Closed => return Ok(()),
                Role::Owner(owned) => return owned.store().engine().sign_through(newest).map_err(|e| unsigned(&e)),
                Role::Away(remote) => remote.sign(newest, SIGNING),
            };
            match lost {
                Ok(()) => return Ok(()),
                Err(Lost::Error(e)) => return Err(unsigned(&e)),
                Err(Lost::Asked | Lost::Gone) => self.elect(&role).map_err(|e| unsigned(&e))?,
            }
            if attempt > 2 {
                std::thread::sleep(PAUSE);
            }
        }
        Err(unsigned(&no_owner()))
    }

    /// Sends calls to the owner, in parts small enough that no number of the caller's is forgotten. `batch`: an error names the
    /// call by its index.
    pub(super) fn send_away(&self, calls: Vec<(ToolCall, Phase)>, batch: bool) -> Result<Vec<Receipt>> {
        let numbered = calls.iter().filter(|(call, _)| call.sender.is_some()).count();
        if numbered == 0 {
            return self.send(calls, batch);
        }
        // If only some have numbers, each call is sent alone: those without need a number of their own.
        let together = if numbered == calls.len() { NUMBERED } else { 1 };
        let mut receipts = Vec::with_capacity(calls.len());
        let mut rest = calls.into_iter().peekable();
        while rest.peek().is_some() {
            let before = receipts.len();
            let sent = self.send(rest.by_ref().take(together).collect(), batch);
            receipts.extend(sent.map_err(|mut e| match e.take_call() {
                Some(call) => e.in_call(before + call),
                None => e,
            })?);
        }
        Ok(receipts)
    }

    fn send(&self, calls: Vec<(ToolCall, Phase)>, batch: bool) -> Result<Vec<Receipt>> {
        let Some(shared) = &self.inner.shared else { return Err(closed()) };
        self.check_may_write()?;
        let mut lane = None;
        let mut sent = self.send_on(shared, &calls, batch, &mut lane);
        if let (Err(e), Some(own)) = (&sent, &mut lane)
            && e.kind() == ErrorKind::Conflict
        {
            // No other process uses this sender, so an entry under its number is not this process's. A new sender is drawn and the
            // calls are sent again. A conflict with another cause recurs and is returned.
            *own = OwnSender::draw(&*self.inner.options.random);
            sent = self.send_on(shared, &calls, batch, &mut lane);
        }
        if let Some(mut own) = lane {
            // Also after a failure: it is unknown what was recorded under this number, so it must not be reused.
            own.number += 1;
            shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        }
        sent
    }

    fn send_on(
        &self,
        shared: &Shared,
        calls: &[(ToolCall, Phase)],
        batch: bool,
        lane: &mut Option<OwnSender>,
    ) -> Result<Vec<Receipt>> {
        // Whether an owner may have recorded the calls before it ended.
        let mut sent = false;
        for attempt in 0..OWNERS {
            let role = self.role()?;
            match &*role {
                Role::Closed => return Err(closed()),
                Role::Owner(owned) => {
                    let own = lane.as_ref().map(OwnSender::sender).transpose()?;
                    return owned.store().record_phases(calls.iter().cloned(), batch, own);
                }
                Role::Away(remote) => {
                    if lane.is_none() && calls.iter().all(|(call, _)| call.sender.is_none()) {
                        let free = shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        *lane = Some(free.unwrap_or_else(|| OwnSender::draw(&*self.inner.options.random)));
                    }
                    match remote.send(calls, batch, lane.as_ref()) {
                        Ok(receipts) => {
                            let newest = receipts.iter().map(|receipt| receipt.seq + 1).max().unwrap_or(0);
                            shared.recorded.fetch_max(newest, Ordering::SeqCst);
                            return Ok(receipts);
                        }
                        Err(Lost::Error(e)) => return Err(e),
                        Err(lost) => {
                            sent |= matches!(lost, Lost::Asked);
                            self.elect(&role).map_err(|e| if sent { perhaps_recorded(&e) } else { e })?;
                        }
                    }
                    if attempt > 2 {
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        }
        Err(if sent { perhaps_recorded(&no_owner()) } else { no_owner() })
    }
}

/// Everything is recorded, and the signature is missing (R86).
fn unsigned(e: &Error) -> Error {
    if matches!(e.kind(), ErrorKind::Recorded | ErrorKind::OtherHistory | ErrorKind::Damaged) {
        return e.retold();
    }
    let message = format!(
        "{e}. Do not repeat anything: it is recorded, and only the signature is missing, which the next checkpoint brings. Remove the \
         cause, then run `attestlog checkpoint`, or whatever records next"
    );
    Error::new(ErrorKind::Recorded, message)
}

fn no_owner() -> Error {
    Error::new(ErrorKind::Io, "the store's owner ends the connection each time; look what is wrong with it")
}
