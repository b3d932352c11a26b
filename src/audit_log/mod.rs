//! The host's handle to a log: [`AuditLog`]. It offers every operation, whichever process has the store open.
//!
//! A handle has one of three roles. Either this process owns the store: it has the file open, and the handle calls it directly. Or
//! another process owns it: each operation is a [request](crate::requests) to that process. Or the handle is closed. `owned`
//! implements the first role, `sharing` the second and the change between them; without the feature `owner` only the first exists.
//! The other files hold the methods, grouped by subject.

mod alerts;
mod anchors;
mod condition;
mod emergency;
mod ends;
mod keys;
mod open;
mod owned;
mod privacy;
mod proofs;
mod prove;
mod read;
mod record;
mod retention;
#[cfg(feature = "owner")]
mod sharing;
mod values;
mod verifications;

use crate::process::Process;
use crate::requests::Request;
use crate::store::OpenStore;
use crate::{Error, ErrorKind, Options, Result};
use owned::Owned;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

pub use open::Sharing;
pub use owned::Guard;
pub use proofs::AtCheckpoint;
pub use read::{Hits, Timeline};
pub use record::Begun;
pub(crate) use record::Staged;
#[cfg(feature = "owner")]
pub use sharing::Owner;

/// The groups of a log's operations. Each group is a small value that borrows the log: `log.retention().purge(…)`.
pub mod groups {
    pub use super::alerts::Alerts;
    pub use super::anchors::Anchors;
    pub use super::emergency::Emergency;
    pub use super::keys::Keys;
    pub use super::privacy::Privacy;
    pub use super::proofs::Proofs;
    pub use super::retention::Retention;
    pub use super::values::Values;
    pub use super::verifications::Verifications;
}

/// A log. Handles are cheap to clone and can be used from any thread; reading never blocks writing. No call changes or deletes an
/// entry.
///
/// Many processes can have handles of one store (feature `owner`): the first to open it owns it and serves the others, which need
/// no key to record. When the owner exits, another process takes over, and unanswered records are sent again under the same number,
/// so each is in the log exactly once. [`Options::exclusive`] locks other processes out instead. A handle opened for reading
/// only ([`Options::read_only`]) asks the owner too, if there is one; if it has the file open itself, it gives it up to a process
/// that records. A store in memory and a store on storage provided by the caller are never shared.
///
/// A handle belongs to the process that opened it. In a forked process every call returns [`Closed`](ErrorKind::Closed) and does
/// nothing; open the store after the fork.
///
/// Recording, queries, verification and the proof of one entry are methods of this type. The rest is in groups:
/// [`retention`](AuditLog::retention), [`keys`](AuditLog::keys), [`emergency`](AuditLog::emergency), [`proofs`](AuditLog::proofs),
/// [`alerts`](AuditLog::alerts), [`anchors`](AuditLog::anchors), [`privacy`](AuditLog::privacy), [`values`](AuditLog::values),
/// [`verifications`](AuditLog::verifications).
///
/// ```
/// use attestlog::{AuditLog, ToolCall, json::Json};
/// let log = AuditLog::in_memory()?;
/// let receipt = log.record(
///     ToolCall::new("conv_abc123", "usr_98765", "update_order_status")
///         .arguments(Json::parse(br#"{"order_id":"o-1","status":"shipped","api_key":"k-123"}"#)?.value)
///         .model("gpt-4.1"),
/// )?;
/// let entry = log.entry(receipt.seq)?;
/// assert!(entry.line().contains(r#""order_id":"o-1""#));
/// assert!(!entry.line().contains("k-123"));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
    /// Whether reads are answered even if the store was opened with damage.
    despite: bool,
}

struct Inner {
    process: Process,
    options: Options,
    role: RwLock<Arc<Role>>,
    #[cfg(feature = "owner")]
    shared: Option<sharing::Shared>,
}

/// A handle's current role.
#[derive(Debug)]
enum Role {
    Owner(Owned),
    #[cfg(feature = "owner")]
    Away(Box<crate::owner::Remote>),
    Closed,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("despite_damage", &self.despite).finish_non_exhaustive()
    }
}

impl AuditLog {
    /// A handle of a store that this process has open, and that the handle does not share.
    fn of(store: OpenStore, options: Options) -> AuditLog {
        AuditLog::with_role(Role::Owner(Owned::new(store, None)), options)
    }

    fn with_role(role: Role, options: Options) -> AuditLog {
        let inner = Inner {
            process: Process::this(),
            options,
            role: RwLock::new(Arc::new(role)),
            #[cfg(feature = "owner")]
            shared: None,
        };
        AuditLog { inner: Arc::new(inner), despite: false }
    }

    /// The role as it is, even if the store was given up. Checks the process before it takes any lock (I15).
    fn role_now(&self) -> Result<Arc<Role>> {
        self.inner.process.check()?;
        Ok(self.inner.role.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The current role. A handle that gave the store up goes on through the process that took it, or opens it again.
    fn role(&self) -> Result<Arc<Role>> {
        let role = self.role_now()?;
        #[cfg(feature = "owner")]
        if let Role::Owner(owned) = &*role
            && owned.store().is_given_up()
        {
            self.elect(&role)?;
            return self.role_now();
        }
        Ok(role)
    }

    /// Sends a request to the process that has the store open, which may be this one.
    fn ask<R: Request>(&self, request: R) -> Result<R::Answer> {
        self.ask_telling(request, &mut |_, _| {})
    }

    /// The same for a request that takes long; `told` is called with how far another process is.
    #[cfg_attr(not(feature = "owner"), allow(unused_variables, reason = "where there are others"))]
    fn ask_telling<R: Request>(&self, request: R, told: &mut dyn FnMut(u64, u64)) -> Result<R::Answer> {
        match &*self.role()? {
            #[cfg(feature = "owner")]
            Role::Owner(owned) if owned.store().gives_way() => self.ask_reading(request, told),
            Role::Owner(owned) => request.answer(&self.view(owned), None),
            #[cfg(feature = "owner")]
            Role::Away(_) => self.ask_away(request, told),
            Role::Closed => Err(closed()),
        }
    }

    /// The store, if this process has it open.
    pub(crate) fn here(&self) -> Result<Option<OpenStore>> {
        match &*self.role()? {
            Role::Owner(owned) => Ok(Some(self.view(owned))),
            #[cfg(feature = "owner")]
            Role::Away(_) => Ok(None),
            Role::Closed => Err(closed()),
        }
    }

    /// The store, for operations that only the process that has it open can perform.
    pub(crate) fn own(&self) -> Result<OpenStore> {
        self.here()?.ok_or_else(elsewhere)
    }

    /// Whether this process has the store open.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.is_owner());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn is_owner(&self) -> bool {
        matches!(self.role_now().as_deref(), Ok(Role::Owner(owned)) if !owned.store().is_given_up())
    }

    /// How this handle was opened.
    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Whether both handles come from the same opening of the store.
    pub(crate) fn is(&self, other: &AuditLog) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Fails in any process other than the one that opened the store.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.inner.process.check()
    }

    fn view(&self, owned: &Owned) -> OpenStore {
        if self.despite { owned.store().going_on() } else { owned.store().clone() }
    }

    /// Closes the store: waits for work in progress, signs a checkpoint, waits for anchors as long as
    /// [`Options::anchor_wait`](crate::Options::anchor_wait) allows, and closes the file. If another process has the store open, it is
    /// asked to sign what this handle recorded, for at most a minute. Other handles return
    /// [`Closed`](crate::ErrorKind::Closed) from then on. Dropping the last handle only closes the file, without signing.
    ///
    /// If at least a quarter of the entries were recorded since the file was opened, the file is compacted, because files grow by
    /// doubling. It is not compacted while a reader still uses it.
    ///
    /// # Errors
    /// As [`AuditLog::checkpoint`], and errors of the last writes; [`Recorded`](crate::ErrorKind::Recorded) if everything is
    /// recorded and could not be signed. The store is closed even if an error is returned.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ErrorKind};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = AuditLog::create(&path)?;
    /// let other = log.clone();
    /// log.close()?;
    /// assert_eq!(other.size().unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> Result<()> {
        self.inner.process.check()?;
        #[cfg(feature = "owner")]
        let signed = self.have_signed();
        #[cfg(not(feature = "owner"))]
        let signed = Ok(());
        #[cfg(feature = "owner")]
        let _electing = self.inner.shared.as_ref().map(sharing::Shared::electing);
        let role = std::mem::replace(
            &mut *self.inner.role.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(Role::Closed),
        );
        match &*role {
            Role::Owner(owned) => owned.close().and(signed),
            _ => signed,
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

fn elsewhere() -> Error {
    Error::new(
        ErrorKind::Locked,
        "another process has the store open, and this can only be done there: do it in that process, or end it first",
    )
}
