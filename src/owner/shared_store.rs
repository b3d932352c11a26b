//! A store that this process owns or reaches through its owner, whichever it is at the moment.

use super::place;
use super::remote::{Lost, Remote, reach};
use super::server::{Commands, Server};
use super::trust::Trust;
use crate::entry::ToolCall;
use crate::note::VerifierKey;
use crate::process::Process;
use crate::store::OwnSender;
use crate::{AuditLog, Error, ErrorKind, Options, Receipt, Result};
use attestlog_proof::entry::Phase;
use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long somebody may have the store without listening: another process that opens it or closes it. Where a socket
/// says that it was shared, opening it after a crash may take longer.
const ALONE: Duration = Duration::from_secs(3);
const SHARED: Duration = Duration::from_secs(60);
/// How long a try waits after one that failed, at most.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a record goes from owner to owner before it is an error.
const OWNERS: usize = 1000;
/// How many numbered calls of the caller's go into one commit through another process: a number must not be forgotten
/// while it may have to be sent again.
const NUMBERED: usize = crate::store::REMEMBERED;

/// Kept while this process owns a store, and dropped before it closes it.
pub type Guard = Box<dyn Any + Send + Sync>;

/// What a process does for others while it owns a store.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Sharing {
    /// Runs their commands; without it they can only record.
    pub commands: Option<Arc<dyn Commands>>,
    /// What is started when this process comes to own the store: whatever must run once a store and not once a process.
    #[allow(clippy::type_complexity, reason = "a function that gives a guard")]
    pub on_owning: Option<Arc<dyn Fn(&AuditLog) -> Guard + Send + Sync>>,
    /// Told where the store is open but cannot be shared.
    pub on_trouble: Option<Arc<dyn Fn(&str) + Send + Sync>>,
    /// The log's public key as the caller knows it: nothing goes to an owner that does not prove that it has the secret half. Without
    /// it the key file of the options is asked, if there is one that this process can open.
    pub public_key: Option<VerifierKey>,
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").finish_non_exhaustive()
    }
}

/// A store that this process has open and shares.
pub struct Owned {
    process: Process,
    log: AuditLog,
    server: Option<Server>,
    guard: Mutex<Option<Guard>>,
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // What it would end is not in this process.
            std::mem::forget(self.guard.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Owned {
    /// Opens the store and shares it.
    ///
    /// # Errors
    /// As [`Options::open`]. That it cannot be shared is none: [`Sharing::on_trouble`] is told.
    pub fn open(store: &Path, options: Options, sharing: &Sharing) -> Result<Owned> {
        Ok(Owned::share(store, options.open(store)?, sharing))
    }

    /// Shares a store that is open.
    pub fn share(store: &Path, log: AuditLog, sharing: &Sharing) -> Owned {
        let server = match Server::start(store, log.clone(), sharing.commands.clone()) {
            Ok(server) => Some(server),
            Err(e) => {
                if let Some(tell) = &sharing.on_trouble {
                    tell(&format!("other processes cannot reach the store while this one has it open: {e}"));
                }
                None
            }
        };
        let guard = sharing.on_owning.as_ref().map(|start| start(&log));
        Owned { process: Process::this(), log, server, guard: Mutex::new(guard) }
    }

    /// The log.
    pub fn log(&self) -> &AuditLog {
        &self.log
    }

    /// Lets others end what must end, and closes the store.
    ///
    /// # Errors
    /// As [`AuditLog::close`].
    pub fn close(&self) -> Result<()> {
        self.process.check()?;
        drop(self.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(server) = &self.server {
            server.close();
        }
        self.log.clone().close()
    }
}

/// A store among processes: records go into it, whoever owns it.
///
/// The process that opens it first owns it. The others send their records there, where they are prepared; they need no key of the
/// store for that. When the owner goes, one of them takes over, and what was not answered is sent again under its number.
///
/// It belongs to the process that opened it: in one that was forked from it every call gives [`Closed`](ErrorKind::Closed). Open
/// it after the fork.
///
/// ```
/// use attestlog::{AuditLog, Options, ToolCall, owner::{SharedStore, Sharing}};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("audit.log");
/// AuditLog::create(&path)?.close()?;
/// let first = SharedStore::open(&path, Options::new(), Sharing::default())?; // owns it
/// let second = SharedStore::open(&path, Options::new(), Sharing::default())?; // as another process would
/// let a = second.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
/// first.close()?;
/// let b = second.record(ToolCall::new("conv_1", "usr_1", "lookup"))?; // owns it now
/// assert_eq!(b.seq, a.seq + 1);
/// second.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: Process,
    store: PathBuf,
    options: Options,
    sharing: Sharing,
    role: RwLock<Arc<Role>>,
    electing: Mutex<()>,
    trust: Arc<Trust>,
    /// Senders of this process. A thread has one to itself while it sends, so that of each the newest number alone can be open.
    lanes: Mutex<Vec<OwnSender>>,
}

#[derive(Debug)]
enum Role {
    Owner(Owned),
    Away(Box<Remote>),
    Closed,
}

/// A call that was begun; its end may go into the store through another process than its beginning.
#[derive(Debug)]
#[must_use = "a call that is begun should be finished"]
pub struct SharedBegun {
    joint: SharedStore,
    call: ToolCall,
    receipt: Receipt,
}

impl SharedStore {
    /// Opens the store, or reaches the process that has it open.
    ///
    /// # Errors
    /// As [`Options::open`]; [`Locked`](ErrorKind::Locked) where another process has it open and does not share it.
    pub fn open(store: impl AsRef<Path>, options: Options, sharing: Sharing) -> Result<SharedStore> {
        let store = store.as_ref();
        let trust = Arc::new(Trust::new(sharing.public_key.clone()));
        let role = find(store, &options, &sharing, &trust)?;
        Ok(SharedStore(Arc::new(Inner {
            process: Process::this(),
            store: store.to_owned(),
            options,
            sharing,
            role: RwLock::new(Arc::new(role)),
            electing: Mutex::new(()),
            trust,
            lanes: Mutex::new(Vec::new()),
        })))
    }

    /// Records one call and returns when it is on the disk.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn record(&self, call: ToolCall) -> Result<Receipt> {
        one(self.send(vec![(call, Phase::Whole)], false)?)
    }

    /// Records several calls in one commit: all of them or, on an error, none. Calls that have numbers of their own
    /// go 64 at a time.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`].
    pub fn record_batch(&self, calls: impl IntoIterator<Item = ToolCall>) -> Result<Vec<Receipt>> {
        let calls: Vec<_> = calls.into_iter().map(|call| (call, Phase::Whole)).collect();
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let numbered = calls.iter().filter(|(call, _)| call.sender.is_some()).count();
        if numbered == 0 || self.owned(|_| ()).is_some() {
            return self.send(calls, true);
        }
        // Where some have numbers and others not, those others must get their own, so each goes for itself.
        let together = if numbered == calls.len() { NUMBERED } else { 1 };
        let mut receipts = Vec::with_capacity(calls.len());
        let mut rest = calls.into_iter().peekable();
        while rest.peek().is_some() {
            receipts.extend(self.send(rest.by_ref().take(together).collect(), true)?);
        }
        Ok(receipts)
    }

    /// Records that a call is about to be made (see [`AuditLog::begin`]).
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn begin(&self, call: ToolCall) -> Result<SharedBegun> {
        let receipt = one(self.send(vec![(call.clone(), Phase::Begun)], false)?)?;
        Ok(SharedBegun { joint: self.clone(), call, receipt })
    }

    /// As [`SharedStore::begin`] for several, in one commit: all or none.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`].
    pub fn begin_batch(&self, calls: Vec<ToolCall>) -> Result<Vec<SharedBegun>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let receipts = self.send(calls.iter().map(|call| (call.clone(), Phase::Begun)).collect(), true)?;
        let begun = |(call, receipt)| SharedBegun { joint: self.clone(), call, receipt };
        Ok(calls.into_iter().zip(receipts).map(begun).collect())
    }

    /// Records whole calls and ends of calls in one commit: all or none.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`].
    pub fn end_batch(&self, ends: Vec<(Option<u64>, ToolCall)>) -> Result<Vec<Receipt>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        self.send(
            ends.into_iter().map(|(begun, call)| (call, begun.map_or(Phase::Whole, Phase::Finished))).collect(),
            true,
        )
    }

    /// How many entries the log has, and at which of these seqs a call stands that was never answered.
    ///
    /// # Errors
    /// As [`AuditLog::entry`].
    pub fn look(&self, seqs: &[u64]) -> Result<(u64, Vec<u64>)> {
        for attempt in 0..OWNERS {
            let role = self.role();
            match &*role {
                Role::Closed => return Err(closed()),
                Role::Owner(owned) => return Ok((owned.log().size(), owned.log().unanswered(seqs)?)),
                Role::Away(remote) => match remote.look(seqs) {
                    Ok(looked) => return Ok(looked),
                    Err(Lost::Error(e)) => return Err(e),
                    Err(Lost::Gone) => self.elect(&role)?,
                },
            }
            if attempt > 2 {
                std::thread::sleep(PAUSE);
            }
        }
        Err(Error::new(ErrorKind::Io, "the store's owner ends the connection each time; look what is wrong with it"))
    }

    /// Calls `with` with the log where this process owns the store.
    pub fn owned<T>(&self, with: impl FnOnce(&AuditLog) -> T) -> Option<T> {
        if !self.0.process.is_this() {
            return None;
        }
        match &*self.role() {
            Role::Owner(owned) => Some(with(owned.log())),
            Role::Away(_) | Role::Closed => None,
        }
    }

    /// From now on takes over as soon as the owner goes, not only with the next record. For processes that live long.
    pub fn stand_by(&self) {
        if !self.0.process.is_this() {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        let waiting = std::thread::Builder::new().name("stand-by".to_owned());
        // Where no thread can be had the next record takes over.
        let _ = waiting.spawn(move || {
            while let Some(inner) = inner.upgrade() {
                let joint = SharedStore(inner);
                let role = joint.role();
                if !matches!(*role, Role::Away(_)) {
                    return;
                }
                let owner = reach(&joint.0.store);
                if let Ok(Some(connection)) = owner {
                    drop(joint);
                    connection.watch();
                } else if joint.elect(&role).is_err() {
                    drop(joint);
                    std::thread::sleep(PAUSE);
                }
            }
        });
    }

    /// Waits until this process owns the store.
    ///
    /// # Errors
    /// As [`SharedStore::open`].
    pub fn wait_to_own(&self) -> Result<()> {
        self.0.process.check()?;
        loop {
            let role = self.role();
            match &*role {
                Role::Owner(_) => return Ok(()),
                Role::Closed => return Err(closed()),
                Role::Away(_) => match reach(&self.0.store)? {
                    Some(connection) => connection.watch(),
                    None => self.elect(&role)?,
                },
            }
        }
    }

    /// Closes it. Where this process owns the store, others take over.
    ///
    /// # Errors
    /// As [`AuditLog::close`].
    pub fn close(self) -> Result<()> {
        self.0.process.check()?;
        let _electing = self.0.electing.lock().unwrap_or_else(PoisonError::into_inner);
        let role = std::mem::replace(
            &mut *self.0.role.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(Role::Closed),
        );
        match &*role {
            Role::Owner(owned) => owned.close(),
            Role::Away(_) | Role::Closed => Ok(()),
        }
    }

    fn role(&self) -> Arc<Role> {
        self.0.role.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After the owner has gone: becomes the owner, or finds the new one.
    fn elect(&self, gone: &Arc<Role>) -> Result<()> {
        let _electing = self.0.electing.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&self.role(), gone) {
            return Ok(());
        }
        let role = find(&self.0.store, &self.0.options, &self.0.sharing, &self.0.trust)?;
        *self.0.role.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(role);
        Ok(())
    }

    /// `batch`: an error names the call by its place.
    fn send(&self, calls: Vec<(ToolCall, Phase)>, batch: bool) -> Result<Vec<Receipt>> {
        self.0.process.check()?;
        let mut lane = None;
        let mut sent = self.send_on(&calls, batch, &mut lane);
        if let (Err(e), Some(own)) = (&sent, &mut lane)
            && e.kind() == ErrorKind::Conflict
        {
            // Nobody else sends under it, so what stands under its number in the file is not this process's: the calls are recorded
            // all the same. Where the conflict is another one, it comes again.
            *own = OwnSender::draw(&*self.0.options.random);
            sent = self.send_on(&calls, batch, &mut lane);
        }
        if let Some(mut own) = lane {
            // Also where it failed: what was sent under the number is not known then, so nothing else gets it.
            own.number += 1;
            self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        }
        sent
    }

    fn send_on(&self, calls: &[(ToolCall, Phase)], batch: bool, lane: &mut Option<OwnSender>) -> Result<Vec<Receipt>> {
        for attempt in 0..OWNERS {
            let role = self.role();
            match &*role {
                Role::Closed => return Err(closed()),
                Role::Owner(owned) => {
                    let engine = owned.log().engine();
                    let prepare = |(i, (call, phase)): (usize, &(ToolCall, Phase))| {
                        let prepared = engine.prepare(call.clone(), *phase);
                        prepared.map_err(|e| if batch { e.in_call(i) } else { e })
                    };
                    let mut job = calls.iter().enumerate().map(prepare).collect::<Result<Vec<_>>>()?;
                    let own = lane.as_ref().map(OwnSender::sender).transpose()?;
                    job.first_mut().map_or(Ok(()), |first| first.number_batch(own))?;
                    return engine.submit(job);
                }
                Role::Away(remote) => {
                    if lane.is_none() && calls.iter().all(|(call, _)| call.sender.is_none()) {
                        *lane = Some(self.lane());
                    }
                    match remote.send(calls, batch, lane.as_ref()) {
                        Ok(receipts) => return Ok(receipts),
                        Err(Lost::Error(e)) => return Err(e),
                        Err(Lost::Gone) => self.elect(&role)?,
                    }
                    if attempt > 2 {
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Io, "the store's owner ends the connection each time; look what is wrong with it"))
    }

    fn lane(&self) -> OwnSender {
        let free = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| OwnSender::draw(&*self.0.options.random))
    }
}

impl SharedBegun {
    /// The receipt of the beginning.
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// The call as it was begun.
    pub fn call(&self) -> &ToolCall {
        &self.call
    }

    /// Records the end (see [`Begun::finish`](crate::Begun::finish)).
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn finish(self, end: impl FnOnce(ToolCall) -> ToolCall) -> Result<Receipt> {
        let mut call = end(self.call);
        call.sender = None;
        one(self.joint.send(vec![(call, Phase::Finished(self.receipt.seq))], false)?)
    }
}

/// Reaches the owner or becomes it.
#[allow(clippy::disallowed_methods, reason = "waits for other processes, by the time that they run in")]
fn find(store: &Path, options: &Options, sharing: &Sharing, trust: &Arc<Trust>) -> Result<Role> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(mut connection) = reach(store)? {
            match trust.confirm(&mut connection, options, store) {
                Ok(true) => return Ok(Role::Away(Box::new(Remote::new(store, options, trust, connection)))),
                Ok(false) => {}
                // It may be a command that reads without the key, and ends.
                Err(_) if began.elapsed() < ALONE => {}
                Err(e) => return Err(e),
            }
        }
        let locked = match Owned::open(store, options.clone(), sharing) {
            Ok(owned) => {
                trust.check(owned.log().public_key().as_ref())?;
                return Ok(Role::Owner(owned));
            }
            Err(e) if e.kind() == ErrorKind::Locked => e,
            Err(e) => return Err(e),
        };
        if began.elapsed() > patience(store) {
            return Err(locked);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    }
}

/// How long a store that is locked, and that nobody answers for, is worth waiting for: somebody may be opening it or
/// closing it.
pub fn patience(store: &Path) -> Duration {
    match place::sockets(store).is_ok_and(|sockets| sockets.iter().any(|socket| socket.exists())) {
        true => SHARED,
        false => ALONE,
    }
}

fn one(receipts: Vec<Receipt>) -> Result<Receipt> {
    receipts.into_iter().next().ok_or_else(closed)
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}
