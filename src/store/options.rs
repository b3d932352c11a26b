//! Options for creating and opening a store.

use crate::anchor::{Anchor, Backoff};
use crate::entry::CallLimits;
use crate::host::{Clock, Random, SystemClock, SystemRandom};
use crate::keys::{KeyVault, Passphrase};
use crate::policy::PolicySet;
use crate::store::file::storage::Storage;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The access for which a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    /// Nothing is written until something is recorded.
    ReadFirst,
    /// Nothing is ever written.
    Read,
}

/// Where the keys of a store are kept.
#[derive(Clone, Default)]
pub(crate) enum KeySource {
    /// Beside the store: the store's path with `.key` appended. In memory for a store in memory.
    #[default]
    Beside,
    At(PathBuf),
    Vault(Arc<dyn KeyVault>),
    /// The store has no keys.
    Nowhere,
}

/// How checkpoints are handed to anchors, as set when the store was opened.
#[derive(Debug, Clone)]
pub(crate) struct AnchorOptions {
    pub anchors: Vec<Arc<dyn Anchor>>,
    pub backoff: Backoff,
    /// How long closing waits for anchors.
    pub wait: Duration,
    /// Whether pending checkpoints are handed over from the start, or only after something was signed.
    pub at_open: bool,
}

impl Default for AnchorOptions {
    fn default() -> AnchorOptions {
        let wait = Duration::from_secs(5);
        AnchorOptions { anchors: Vec::new(), backoff: Backoff::default(), wait, at_open: true }
    }
}

/// Settings that do not change while a store is open.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub access: Access,
    pub two_phase: bool,
    pub quick_repair: bool,
    /// Check the pages of all tables before anything is read from them.
    pub pages_first: bool,
    pub cache_bytes: usize,
    pub background: bool,
    pub quota_bytes: Option<u64>,
    /// Record even if the store's key is missing.
    pub unsigned: bool,
    /// A copy is being restored, which may be of an epoch that has ended.
    pub restoring: bool,
    /// A copy is being verified before it is restored: what its keys have signed or destroyed since it was made is not an
    /// error.
    pub is_copy: bool,
    /// Sign a checkpoint after this many entries.
    pub checkpoint_entries: Option<u64>,
    /// Sign a checkpoint after this time, if anything was recorded.
    pub checkpoint_every: Duration,
}

/// Where the store's bytes are.
#[derive(Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Storage(Arc<dyn Storage>),
}

impl Source {
    /// The path of the store's file, if it has one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Source::File(path) => Some(path),
            Source::Storage(_) => None,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "File({})", path.display()),
            Source::Storage(_) => f.write_str("Storage"),
        }
    }
}

/// How a store is created and opened: a builder with sensible defaults.
///
/// ```no_run
/// use attestlog::{AuditLog, Options};
/// let log: AuditLog = Options::new().cache_bytes(16 << 20).create("audit.log")?;
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until a store is created or opened with them"]
pub struct Options {
    pub(crate) settings: Settings,
    pub(crate) limits: CallLimits,
    pub(crate) policies: PolicySet,
    pub(crate) keys: KeySource,
    pub(crate) passphrase: Option<Arc<Passphrase>>,
    pub(crate) name: String,
    pub(crate) anchors: AnchorOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) replaced: Option<PathBuf>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("settings", &self.settings)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// The defaults: two-phase commits, a cache of 32 MiB, a background thread.
    pub fn new() -> Options {
        Options {
            settings: Settings {
                access: Access::Write,
                two_phase: true,
                quick_repair: false,
                pages_first: false,
                cache_bytes: 32 << 20,
                background: true,
                quota_bytes: None,
                unsigned: false,
                restoring: false,
                is_copy: false,
                checkpoint_entries: Some(10_000),
                checkpoint_every: Duration::from_secs(600),
            },
            limits: CallLimits::default(),
            policies: PolicySet::default(),
            keys: KeySource::Beside,
            passphrase: None,
            name: "attestlog".to_owned(),
            anchors: AnchorOptions::default(),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
            replaced: None,
        }
    }

    /// Sets the clock, for a host's own tests (see [`ManualClock`](crate::ManualClock)).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random bytes, for tests.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets the size limits for the parts of a call.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the policies of a new store. An existing store has its own (see [`AuditLog::set_policy`](crate::AuditLog::set_policy)).
    pub fn policies(mut self, policies: PolicySet) -> Self {
        self.policies = policies;
        self
    }

    /// Sets the name that the origin of a new store begins with, such as `example.com/ward-3`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// For [`Options::restore`]: the store that the copy replaces, which must have been moved away, as far as it is still
    /// readable. The entry about the restore names the holds, policies and emergency grants that are in force in that store
    /// and not in the copy.
    pub fn replaces(mut self, store: impl Into<PathBuf>) -> Self {
        self.replaced = Some(store.into());
        self
    }

    /// Sets the path of the key file. Default: the store's path with `.key` appended.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.keys = KeySource::At(path.into());
        self
    }

    /// Keeps the keys in a vault provided by the host instead of a file: the environment
    /// ([`EnvironmentKeys`](crate::keys::EnvironmentKeys)), the system's keyring (feature `keyring`), a secret manager.
    pub fn key_vault(mut self, vault: impl KeyVault + 'static) -> Self {
        self.keys = KeySource::Vault(Arc::new(vault));
        self
    }

    /// The passphrase of the key file.
    pub fn passphrase(mut self, passphrase: Passphrase) -> Self {
        self.passphrase = Some(Arc::new(passphrase));
        self
    }

    /// Creates a store without keys: nothing is signed, no pseudonyms can be made, and verification says so.
    pub fn without_keys(mut self) -> Self {
        self.keys = KeySource::Nowhere;
        self
    }

    /// Records even if the store's key file is missing. The log says so; what is recorded meanwhile is not signed until the
    /// key is back. Default: off, recording is refused.
    pub fn unsigned(mut self, unsigned: bool) -> Self {
        self.settings.unsigned = unsigned;
        self
    }

    /// Signs a checkpoint whenever this many entries were recorded since the last one. Default: 10,000; `None`: only on
    /// request, by time and on close.
    pub fn checkpoint_entries(mut self, entries: Option<u64>) -> Self {
        self.settings.checkpoint_entries = entries;
        self
    }

    /// Signs a checkpoint when this time has passed, by the monotonic clock, and anything was recorded. Default: ten minutes.
    /// Needs the background thread. What another process recorded through this one is signed when it disconnects, without
    /// waiting for this time.
    pub fn checkpoint_every(mut self, time: Duration) -> Self {
        self.settings.checkpoint_every = time;
        self
    }

    /// Hands each checkpoint to this anchor; can be called repeatedly. Nobody waits for an anchor: failures are retried and
    /// reported by [`AuditLog::health`](crate::AuditLog::health), and the checkpoint stays pending when the store is closed and reopened, even if it
    /// is opened without the anchor. Needs the background thread; without it anchors are asked only by
    /// [`AuditLog::flush_anchors`](crate::AuditLog::flush_anchors) and on closing.
    ///
    /// ```
    /// use attestlog::{Options, anchor::FileAnchor};
    /// # let dir = tempfile::tempdir()?;
    /// # let elsewhere = dir.path().join("kept.jsonl");
    /// let options = Options::new().anchor(FileAnchor::new(&elsewhere));
    /// let log = options.create(dir.path().join("audit.log"))?;
    /// log.checkpoint()?;
    /// log.close()?;
    /// assert!(elsewhere.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn anchor(self, anchor: impl Anchor + 'static) -> Self {
        self.anchors([Arc::new(anchor) as Arc<dyn Anchor>])
    }

    /// Like [`Options::anchor`], for several anchors.
    pub fn anchors(mut self, anchors: impl IntoIterator<Item = Arc<dyn Anchor>>) -> Self {
        self.anchors.anchors.extend(anchors);
        self
    }

    /// Sets how long a failed anchor is not asked again. Default: ten seconds, then twice as long each time, up to an hour.
    pub fn anchor_backoff(mut self, backoff: Backoff) -> Self {
        self.anchors.backoff = backoff;
        self
    }

    /// Sets how long [`AuditLog::close`](crate::AuditLog::close) waits for anchors to take the last checkpoint. Default: five seconds.
    pub fn anchor_wait(mut self, at_most: Duration) -> Self {
        self.anchors.wait = at_most;
        self
    }

    /// Whether checkpoints still pending for anchors are handed over as soon as the store is open. Otherwise anchors are
    /// asked only after something was signed, so that a process that only reads asks no anchor. Default: on.
    pub fn anchor_on_open(mut self, at_open: bool) -> Self {
        self.anchors.at_open = at_open;
        self
    }

    /// Sets how many bytes of the file are cached in memory. Default: 32 MiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.settings.cache_bytes = bytes;
        self
    }

    /// Uses one sync per commit instead of two. About twice as fast for single records, but after a crash a checksum that is
    /// no defence against an attacker decides whether the last commit is valid, and an attacker may choose the arguments of
    /// an agent's calls. Default: off.
    pub fn one_phase_commits(mut self, one_phase: bool) -> Self {
        self.settings.two_phase = !one_phase;
        self
    }

    /// Whether commits store what makes opening after a crash fast; they take longer. Default: off.
    pub fn quick_repair(mut self, quick_repair: bool) -> Self {
        self.settings.quick_repair = quick_repair;
        self
    }

    /// Whether a background thread writes index batches and does other work that nobody waits for. Without it, the thread
    /// whose record makes the work due does it. Default: on for files, off in memory.
    pub fn background(mut self, background: bool) -> Self {
        self.settings.background = background;
        self
    }

    /// Opens the store only for reading: neither the file nor anything beside it is written (except for what
    /// [`AuditLog::note_verification`](crate::AuditLog::note_verification) is asked to note), so a file without write access, on a read-only medium, or a copy
    /// without its key is enough. A file that was not closed cleanly is read as it would be after its repair, which is kept
    /// in memory. Others may read at the same time; nobody can record meanwhile.
    ///
    /// Calls that would change the store fail with [`ReadOnly`](crate::ErrorKind::ReadOnly); nothing is signed, not even on
    /// closing.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ErrorKind, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// let before = std::fs::read(&path)?;
    /// let log = Options::new().read_only().open(&path)?;
    /// assert!(log.verify(&Default::default())?.ok());
    /// let refused = log.record(ToolCall::new("conv_1", "usr_1", "lookup")).unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::ReadOnly);
    /// log.close()?;
    /// assert_eq!(std::fs::read(&path)?, before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.settings.access = Access::Read;
        self
    }

    /// Like [`Options::read_only`], until something is recorded after all: the file is then opened for writing, under a lock
    /// that was never released in between. For a process that reads, and through which others may have to record meanwhile
    /// (feature `owner`). Only for a store in a file; with other storage nothing can be recorded.
    pub fn read_first(mut self) -> Self {
        self.settings.access = Access::ReadFirst;
        self
    }

    /// Checks the pages of the whole file before anything is read from it, and refuses a file in which a page that points to
    /// others is damaged. For opening a store to verify it, which then need not check them again. Default: off.
    pub fn pages_first(mut self, first: bool) -> Self {
        self.settings.pages_first = first;
        self
    }

    /// Sets the size in bytes above which [`AuditLog::health`](crate::AuditLog::health) warns. Nothing is refused beyond it. Default: none.
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.settings.quota_bytes = Some(bytes);
        self
    }
}
