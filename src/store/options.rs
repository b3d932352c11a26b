//! Options for creating and opening a store.

use crate::anchor::{Anchor, Backoff};
use crate::entry::CallLimits;
use crate::host::{Clock, Random, SystemClock, SystemRandom};
use crate::keys::{KeyVault, Passphrase};
use crate::policy::PolicySet;
use crate::store::file::overlay::Giving;
use crate::store::file::storage::Storage;
use crate::store::layout::segment::SEGMENT;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The access for which a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
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
    /// Others are locked out, instead of being served.
    pub exclusive: bool,
    /// This process only reads the file, and gives it up when a process that records asks for it.
    pub gives_way: Option<Arc<Giving>>,
    pub quick_repair: bool,
    /// How many entries a segment of a new store has.
    pub segment: u32,
    /// Check the pages of all tables before anything is read from them.
    pub pages_first: bool,
    pub cache_bytes: usize,
    pub background: bool,
    /// Closing compacts a file that has grown a lot.
    pub tighten: bool,
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
    /// The defaults: a cache of 32 MiB, a background thread.
    ///
    /// ```
    /// # use attestlog::Options;
    /// let log = Options::new().in_memory()?;
    /// assert_eq!(log.size()?, 2, "the genesis and the policy");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn new() -> Options {
        Options {
            settings: Settings {
                access: Access::Write,
                exclusive: false,
                gives_way: None,
                quick_repair: false,
                segment: SEGMENT,
                pages_first: false,
                cache_bytes: 32 << 20,
                background: true,
                tighten: true,
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

    /// Sets the clock, for a host's own tests (see [`ManualClock`](crate::host::ManualClock)).
    ///
    /// ```
    /// # use attestlog::{Options, ToolCall, host::{Clock, ManualClock}};
    /// # use std::{sync::Arc, time::Duration};
    /// let clock = Arc::new(ManualClock::at("2025-07-06T09:00:00Z".parse()?));
    /// let log = Options::new().clock(clock.clone()).in_memory()?;
    /// clock.advance(Duration::from_secs(60));
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// assert_eq!(log.entry(receipt.seq)?.body.recorded_at, clock.now());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random bytes, for tests.
    ///
    /// ```
    /// # use attestlog::{Options, host::SeededRandom};
    /// # use std::sync::Arc;
    /// let seeded = || Options::new().random(Arc::new(SeededRandom::new(7))).in_memory();
    /// assert_eq!(seeded()?.public_key()?, seeded()?.public_key()?);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets the size limits for the parts of a call.
    ///
    /// ```
    /// # use attestlog::{Options, ToolCall, entry::CallLimits};
    /// let mut limits = CallLimits::default();
    /// limits.id_bytes = 16;
    /// let log = Options::new().limits(limits).in_memory()?;
    /// assert!(log.record(ToolCall::new("a conversation with a long name", "usr_1", "lookup")).is_err());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the policies of a new store. An existing store has its own (see
    /// [`Retention::set_policies`](crate::groups::Retention::set_policies)).
    ///
    /// ```
    /// # use attestlog::{Options, PolicySet, ToolCall, redact::{Policy, Preset}};
    /// let mut policies = PolicySet::default();
    /// policies.redaction = Policy::builder(Preset::Default).build()?;
    /// let log = Options::new().policies(policies.clone()).in_memory()?;
    /// assert_eq!(log.retention().policies()?, policies);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn policies(mut self, policies: PolicySet) -> Self {
        self.policies = policies;
        self
    }

    /// Sets the name that the origin of a new store begins with, such as `example.com/ward-3`.
    ///
    /// ```
    /// # use attestlog::Options;
    /// let log = Options::new().name("example.com/ward-3").in_memory()?;
    /// assert!(log.checkpoint()?.to_string().starts_with("example.com/ward-3"));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// For [`Options::restore`]: the path of the store that the copy replaces, which must have been moved away and still be
    /// readable. The entry about the restore names the holds, policies and emergency grants that are in force in that store and not
    /// in the copy.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # let (backup, broken) = (dir.path().join("backup.log"), dir.path().join("broken.log"));
    /// let log = AuditLog::create(&path)?;
    /// log.backup(&backup)?;
    /// log.close()?;
    /// std::fs::rename(&path, &broken)?;
    /// let by = Justification { actor: "ops@example.com", reason: "bad sectors" };
    /// let log = Options::new().replaces(&broken).restore(&backup, &path, by)?;
    /// assert_eq!(log.retention().restored()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replaces(mut self, store: impl Into<PathBuf>) -> Self {
        self.replaced = Some(store.into());
        self
    }

    /// Sets the path of the key file. Default: the store's path with `.key` appended.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let keys = dir.path().join("elsewhere.key");
    /// let log = Options::new().key_file(&keys).create(&path)?;
    /// assert!(keys.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.keys = KeySource::At(path.into());
        self
    }

    /// Keeps the keys in a vault provided by the host instead of a file: the environment
    /// ([`EnvironmentKeys`](crate::keys::EnvironmentKeys)), the system's keyring (feature `keyring`), a secret manager.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Options, keys::EnvironmentKeys};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// let options = Options::new().key_vault(EnvironmentKeys::new("AUDIT_LOG_KEYS"));
    /// let recording = options.open(&path).and_then(|log| log.check_recording());
    /// assert!(recording.is_err(), "the variable is not set");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key_vault(mut self, vault: impl KeyVault + 'static) -> Self {
        self.keys = KeySource::Vault(Arc::new(vault));
        self
    }

    /// The passphrase of the key file.
    ///
    /// ```
    /// # use attestlog::{Options, keys::Passphrase};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let passphrase = || Passphrase::new("correct horse battery staple".to_owned());
    /// Options::new().passphrase(passphrase()?).create(&path)?.close()?;
    /// let log = Options::new().passphrase(passphrase()?).open(&path)?;
    /// log.check_recording()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn passphrase(mut self, passphrase: Passphrase) -> Self {
        self.passphrase = Some(Arc::new(passphrase));
        self
    }

    /// Creates a store without keys: nothing is signed, no pseudonyms can be made, and verification says so.
    ///
    /// ```
    /// # use attestlog::Options;
    /// let log = Options::new().without_keys().in_memory()?;
    /// assert!(log.public_key()?.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn without_keys(mut self) -> Self {
        self.keys = KeySource::Nowhere;
        self
    }

    /// Records even if the store's key file is missing. The log says so, and entries recorded meanwhile are not signed until the
    /// key is back. Default: off, recording is refused.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// std::fs::rename(dir.path().join("audit.log.key"), dir.path().join("moved"))?;
    /// let log = Options::new().unsigned(true).open(&path)?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// assert_eq!(log.keys().recorded_without_key()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unsigned(mut self, unsigned: bool) -> Self {
        self.settings.unsigned = unsigned;
        self
    }

    /// Signs a checkpoint whenever this many entries were recorded since the last one. Default: 10,000; `None`: only on
    /// request, by time and on close.
    ///
    /// ```
    /// # use attestlog::{Options, ToolCall};
    /// let log = Options::new().checkpoint_entries(Some(2)).in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn checkpoint_entries(mut self, entries: Option<u64>) -> Self {
        self.settings.checkpoint_entries = entries;
        self
    }

    /// Signs a checkpoint when this time has passed, by the monotonic clock, and anything was recorded. Default: ten minutes. Needs
    /// the background thread. Entries that another process recorded through this one are signed when that process closes its handle,
    /// without waiting for this time.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # use std::time::Duration;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = Options::new().checkpoint_every(Duration::from_secs(60)).create(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint_every(mut self, time: Duration) -> Self {
        self.settings.checkpoint_every = time;
        self
    }

    /// Hands each checkpoint to this anchor; can be called repeatedly. Nobody waits for an anchor: failures are retried and
    /// reported by [`AuditLog::health`](crate::AuditLog::health), and the checkpoint stays pending when the store is closed and
    /// reopened, even if it is opened without the anchor. Needs the background thread; without it anchors are asked only by
    /// [`Anchors::flush`](crate::groups::Anchors::flush) and on closing.
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
    ///
    /// ```
    /// # use attestlog::{Options, anchor::{Anchor, FileAnchor}};
    /// # use std::sync::Arc;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let both = ["first.jsonl", "second.jsonl"].map(|name| dir.path().join(name));
    /// let anchors = both.clone().map(|path| Arc::new(FileAnchor::new(path)) as Arc<dyn Anchor>);
    /// Options::new().anchors(anchors).create(&path)?.close()?;
    /// assert!(both.iter().all(|kept| kept.exists()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn anchors(mut self, anchors: impl IntoIterator<Item = Arc<dyn Anchor>>) -> Self {
        self.anchors.anchors.extend(anchors);
        self
    }

    /// Sets how long a failed anchor is not tried again. Default: ten seconds, then twice as long each time, up to an hour.
    ///
    /// ```
    /// # use attestlog::{Options, anchor::Backoff};
    /// # use std::time::Duration;
    /// let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
    /// let log = Options::new().anchor_backoff(backoff).in_memory()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn anchor_backoff(mut self, backoff: Backoff) -> Self {
        self.anchors.backoff = backoff;
        self
    }

    /// Sets how long [`AuditLog::close`](crate::AuditLog::close) waits for anchors to take the last checkpoint. Default: five
    /// seconds.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # use std::time::Duration;
    /// let log = Options::new().anchor_wait(Duration::from_secs(1)).in_memory()?;
    /// log.close()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn anchor_wait(mut self, at_most: Duration) -> Self {
        self.anchors.wait = at_most;
        self
    }

    /// Whether checkpoints still pending for anchors are handed over as soon as the store is open. Otherwise anchors are
    /// asked only after something was signed, so that a process that only reads asks no anchor. Default: on.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// let log = Options::new().anchor_on_open(false).open(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn anchor_on_open(mut self, at_open: bool) -> Self {
        self.anchors.at_open = at_open;
        self
    }

    /// Sets how many bytes of the file are cached in memory. Default: 32 MiB.
    ///
    /// ```
    /// # use attestlog::Options;
    /// let log = Options::new().cache_bytes(8 << 20).in_memory()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.settings.cache_bytes = bytes;
        self
    }

    /// Whether each commit also stores the data that makes opening after a crash fast; commits then take longer. Default: off.
    ///
    /// ```
    /// # use attestlog::Options;
    /// let log = Options::new().quick_repair(true).in_memory()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn quick_repair(mut self, quick_repair: bool) -> Self {
        self.settings.quick_repair = quick_repair;
        self
    }

    /// How many entries a segment of a store that is made has; for tests, which have few entries.
    #[doc(hidden)]
    pub fn segment_entries(mut self, entries: u32) -> Self {
        self.settings.segment = entries.clamp(1, SEGMENT);
        self
    }

    /// Whether a background thread writes index batches and does other work that nobody waits for. Without it, the thread
    /// whose record makes the work due does it. Default: on for files, off in memory.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = Options::new().background(false).create(&path)?;
    /// log.flush_index()?; // what the thread would have done
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn background(mut self, background: bool) -> Self {
        self.settings.background = background;
        self
    }

    /// Whether closing the store compacts the file if it has grown a lot. Off for a process that records a call or two and is
    /// followed by others: the last of many calls is not the time to write the whole file again. Default: on.
    ///
    /// ```
    /// # use attestlog::{Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = Options::new().compact_on_close(false).create(&path)?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// log.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compact_on_close(mut self, compact: bool) -> Self {
        self.settings.tighten = compact;
        self
    }

    /// Opens the store only for reading: neither the file nor anything beside it is written (except by an explicit call of
    /// [`Verifications::note`](crate::groups::Verifications::note)), so a file without write access, on a read-only medium, or a
    /// copy without its key is enough. A file that was not closed cleanly is repaired in memory only. Others may read at the same
    /// time.
    ///
    /// If another process has the store open and shares it, that process is asked instead (feature `owner`); if it opens it to record
    /// later, the handle gives the file up to it and goes on through it. Not so with [`Options::exclusive`]: then the file is read, or the
    /// error is [`Locked`](crate::ErrorKind::Locked), and nobody can record meanwhile.
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

    /// Locks other processes out while the store is open, instead of sharing it with them: they get
    /// [`Locked`](crate::ErrorKind::Locked), and so does this process if another one has the store open. Default: off.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ErrorKind, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = Options::new().exclusive().create(&path)?;
    /// assert_eq!(Options::new().exclusive().open(&path).unwrap_err().kind(), ErrorKind::Locked);
    /// log.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exclusive(mut self) -> Self {
        self.settings.exclusive = true;
        self
    }

    /// Checks the pages of the whole file before anything is read from it, and refuses a file in which a page that points to others
    /// is damaged. For opening a store in order to verify it; verification then need not check them again. Default: off.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Options, verify::VerifyOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// let log = Options::new().read_only().pages_first(true).open(&path)?;
    /// assert!(log.verify(&VerifyOptions::new())?.ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pages_first(mut self, first: bool) -> Self {
        self.settings.pages_first = first;
        self
    }

    /// Sets the size in bytes above which [`AuditLog::health`](crate::AuditLog::health) warns. Nothing is refused beyond it.
    /// Default: none.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = Options::new().quota_bytes(1).create(&path)?;
    /// assert_eq!(log.health()?.over_quota(), Some(true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.settings.quota_bytes = Some(bytes);
        self
    }
}
