//! Opening the store that a command names, with its key file.

use super::anchors;
use super::beside::Beside;
use super::console;
use super::exit::{self, Failure, complain};
use super::line_reader::Source;
use super::remote::Runner;
use super::render::{Out, counted};
pub use attestlog::child::KEY;
use attestlog::child::PASSPHRASE;
use attestlog::json::{Json, Object};
use attestlog::keys::{EnvironmentKeys, KeyFile, KeyVault, Passphrase};
use attestlog::note::VerifierKey;
use attestlog::owner::{Guard, Owned, SharedStore, Sharing};
use attestlog::{AuditLog, Error, ErrorKind, Options};
use clap::Args;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The store, for commands that open one.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store's file
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Where the store's secrets are.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyArgs {
    /// The key file [default: the environment variable ATTESTLOG_KEY (a whole key file as base64), if it is set, else
    /// STORE.key]
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    key: Option<PathBuf>,
    /// Keep the keys in the operating system's keyring instead, under this account
    #[cfg(feature = "keyring")]
    #[arg(long, value_name = "ACCOUNT", conflicts_with = "key", help_heading = "Keys")]
    os_keyring: Option<String>,
    /// File whose first line is the key file's passphrase; `-` is standard input [default: the environment variable
    /// ATTESTLOG_PASSPHRASE, if it is set]
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    passphrase_file: Option<PathBuf>,
}

/// No passphrase is longer.
const MAX_PASSPHRASE: u64 = 64 << 10;

/// A store that is open: for this command alone, or for another process's command in the process that has it open.
#[derive(Debug)]
pub enum Opened {
    /// With a handle of it that answers, if the command only reads, although the store was opened with damage.
    Owned(Owned, AuditLog),
    /// For reading only, with nobody to record through this process.
    Read(AuditLog),
    Shared(AuditLog),
}

impl Deref for Opened {
    type Target = AuditLog;

    fn deref(&self) -> &AuditLog {
        match self {
            Opened::Owned(_, log) | Opened::Read(log) | Opened::Shared(log) => log,
        }
    }
}

impl Opened {
    /// Closes it, as far as it is this command's to close: what it recorded is signed in any case.
    pub fn close(self) -> Result<(), Error> {
        match self {
            Opened::Owned(owned, _) => owned.close(),
            Opened::Read(log) => log.close(),
            // Whoever may not use the keys recorded nothing.
            Opened::Shared(_) if console::current().is_some_and(|session| !session.has_keys()) => Ok(()),
            Opened::Shared(log) => match log.checkpoint() {
                Err(e) if e.kind() != ErrorKind::Key => Err(e),
                _ => Ok(()),
            },
        }
    }
}

fn warn(log: &AuditLog) {
    for warning in log.warnings() {
        complain(format!("warning: {warning}"));
    }
}

/// Says on standard error that a verification found something wrong with the log whose entries are shown, until that is
/// settled: what is shown may be what was edited.
pub fn say_found(log: &AuditLog) {
    let noted = log.verifications().map_err(|e| complain(format!("what verifications found is not known: {e}")));
    if let Some(found) = noted.ok().and_then(|noted| noted.found) {
        complain(format!(
            "a verification at {} found {} wrong with this log ({}), which nobody has settled; what is shown may have been \
             changed. `attestlog verify` says what and where",
            found.at,
            counted(found.findings, "thing", "things"),
            found.kinds.join(", ")
        ));
    }
}

/// Says that a store was opened with damage; whatever the command answers, it does not end as if nothing were wrong.
pub fn say_damage(log: &AuditLog) {
    if let Some(damage) = log.damage() {
        complain(&damage);
        exit::damaged();
    }
}

/// What JSON says of a store that was opened with damage: `{"damage":TEXT}`.
pub fn damage_json(log: &AuditLog) -> Option<Json> {
    let damage = log.damage()?.to_string();
    Some(Object::from_iter([("damage", damage)]).into())
}

/// The line with that before an answer of JSON lines.
pub fn damage_line(log: &AuditLog, out: &mut Out) -> std::io::Result<()> {
    damage_json(log).map_or(Ok(()), |json| out.line(json.to_canonical().as_str()))
}

/// Whether this process could record into the store's file. Asked without opening it.
#[cfg(unix)]
fn may_write(store: &Path) -> bool {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    use nix::unistd::{AccessFlags, faccessat};
    check_unprotected(store).is_ok() && faccessat(AT_FDCWD, store, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}

#[cfg(not(unix))]
fn may_write(store: &Path) -> bool {
    std::fs::metadata(store).is_ok_and(|about| !about.permissions().readonly())
}

/// Refuses to change a file that its owner has protected against it: the system lets root write to it all the same.
#[cfg(unix)]
fn check_unprotected(store: &Path) -> Result<(), Failure> {
    match std::fs::metadata(store) {
        Ok(about) if about.is_file() && about.permissions().readonly() => Err(Failure::Store(format!(
            "{}: the file is write-protected, so nothing is recorded in it; `chmod u+w` first if it is to change",
            store.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_unprotected(_: &Path) -> Result<(), Failure> {
    Ok(())
}

fn failure(e: &Error) -> Failure {
    match e.kind() {
        ErrorKind::Locked => Failure::Locked(e.to_string()),
        _ => Failure::Store(e.to_string()),
    }
}

/// Whether a process that records lets alert rules look while it owns the store.
#[derive(Debug, Clone, Copy)]
pub enum Alerts {
    Off,
    /// `taken`: standard output is for something else.
    Raised {
        taken: bool,
    },
}

/// What this process does for others while it has a store open, and for the store where it records.
fn sharing(store: &Path, recording: Option<Alerts>) -> Sharing {
    let mut sharing = Sharing::default();
    let store = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let beside = Beside::new(store.clone());
    sharing.commands = Some(Arc::new(Runner { store, beside: beside.clone() }));
    sharing.on_trouble = Some(Arc::new(|message| complain(message)));
    if let Some(alerts) = recording {
        sharing.on_owning = Some(Arc::new(move |log| owning(log, &beside, alerts)));
    }
    sharing
}

/// Called when a process that records comes to own a store. What must run once a store and not once a process is started
/// here; it ends when the guard is dropped, which is before the store is closed.
fn owning(log: &AuditLog, beside: &Arc<Beside>, alerts: Alerts) -> Guard {
    warn(log);
    Box::new(beside.begin(log, alerts))
}

impl KeyArgs {
    /// Options with the key file and passphrase that were given.
    pub fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::new();
        let set = self.key.is_none() && console::current().is_none();
        if set && std::env::var_os(KEY).is_some_and(|value| value.is_empty()) {
            return Err(Failure::Input(format!(
                "{KEY}: is set and empty; put a whole key file in it as base64, or unset it"
            )));
        }
        if let Some(key) = &self.key {
            options = options.key_file(key);
        } else if let Some(vault) = self.vault() {
            options = options.key_vault(vault);
        }
        if let Some(passphrase) = self.passphrase()? {
            options = options.passphrase(passphrase);
        }
        Ok(options)
    }

    /// Where the key file of a store is.
    pub fn path(&self, store: &Path) -> PathBuf {
        self.key.clone().unwrap_or_else(|| {
            let mut path = store.as_os_str().to_owned();
            path.push(".key");
            path.into()
        })
    }

    /// What messages call the place of a store's keys.
    pub fn place(&self, store: &Path) -> String {
        self.vault()
            .map_or_else(|| self.path(store).display().to_string(), |vault| format!("what is in {}", vault.name()))
    }

    /// The key file of a store.
    pub fn load(&self, store: &Path) -> Result<KeyFile, Failure> {
        let passphrase = self.passphrase()?;
        match self.vault() {
            Some(vault) => {
                let text = vault.load()?.unwrap_or_default();
                Ok(KeyFile::parse(&text, passphrase.as_ref()).map_err(|e| e.at(vault.name()))?)
            }
            None => Ok(KeyFile::load(&self.path(store), passphrase.as_ref())?),
        }
    }

    /// Where the keys are, if they are in no file.
    fn vault(&self) -> Option<Box<dyn KeyVault>> {
        #[cfg(feature = "keyring")]
        if let Some(account) = &self.os_keyring {
            return Some(Box::new(attestlog::keys::OsKeyring::new(account)));
        }
        // The environment of this process is not that of a command that another one sent (V3).
        let set = self.key.is_none() && console::current().is_none() && std::env::var_os(KEY).is_some();
        set.then(|| Box::new(EnvironmentKeys::new(KEY)) as Box<dyn KeyVault>)
    }

    fn passphrase(&self) -> Result<Option<Passphrase>, Failure> {
        let Some(path) = &self.passphrase_file else {
            let set = std::env::var_os(PASSPHRASE).filter(|_| console::current().is_none());
            let Some(text) = set else { return Ok(None) };
            // Neither message shows what is in it.
            let text = text.into_string().map_err(|_| Failure::Input(format!("{PASSPHRASE}: is not UTF-8")))?;
            return Passphrase::new(text).map(Some).map_err(|e| Failure::from(e).at(PASSPHRASE));
        };
        let source = Source::open(Some(path))?;
        let name = source.name.clone();
        let bytes = Zeroizing::new(source.read_all(MAX_PASSPHRASE)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::Input(format!("{name}: is not UTF-8")))?;
        Passphrase::new(text.lines().next().unwrap_or_default().to_owned())
            .map(Some)
            .map_err(|e| Failure::from(e).at(name))
    }
}

impl StoreArgs {
    /// Opens the store.
    pub fn open(&self) -> Result<Opened, Failure> {
        match console::current() {
            // Its options and keys are those of the process that has it open.
            Some(session) => Ok(Opened::Shared(session.log.clone())),
            None => self.open_with(self.key.options()?),
        }
    }

    /// Opens the store with options of the command's.
    pub fn open_with(&self, options: Options) -> Result<Opened, Failure> {
        if let Some(session) = console::current() {
            return Ok(Opened::Shared(session.log.clone()));
        }
        check_unprotected(&self.store)?;
        self.own(anchors::add(options, &self.store)?.anchor_on_open(false))
    }

    /// Opens the store for a command that only reads. It leaves the store and its folder as they are, unless another process
    /// records through this one meanwhile. Where it was opened with damage the command answers all the same, when that was said, and
    /// does not end as if nothing were wrong (R85).
    pub fn read(&self) -> Result<Opened, Failure> {
        let log = match console::current() {
            Some(session) => Opened::Shared(session.log.despite_damage()),
            None => self.read_with(self.key.options()?)?,
        };
        say_damage(&log);
        Ok(log)
    }

    /// As [`StoreArgs::read`] with options of the command's, for one whose answer says itself what is wrong.
    pub fn read_with(&self, options: Options) -> Result<Opened, Failure> {
        if let Some(session) = console::current() {
            return Ok(Opened::Shared(session.log.despite_damage()));
        }
        // Whoever only reads hands nothing over, so anchors that must not be used are no reason to refuse.
        let options = match anchors::add(options.clone(), &self.store) {
            Ok(options) => options,
            Err(Failure::Input(message) | Failure::Store(message)) => {
                complain(format!("{message}; not used"));
                options
            }
            Err(other) => return Err(other),
        }
        .anchor_on_open(false);
        if may_write(&self.store) {
            return Ok(match self.own(options.read_first())? {
                Opened::Owned(owned, log) => Opened::Owned(owned, log.despite_damage()),
                other => other,
            });
        }
        let log = options.read_only().open(&self.store).map_err(|e| self.name(&e, failure(&e)))?;
        warn(&log);
        Ok(Opened::Read(log.despite_damage()))
    }

    fn own(&self, options: Options) -> Result<Opened, Failure> {
        // Whatever stands in the way of opening is a matter of the store, also what would be bad input elsewhere.
        let owned =
            Owned::open(&self.store, options, &sharing(&self.store, None)).map_err(|e| self.name(&e, failure(&e)))?;
        warn(owned.log());
        let log = owned.log().clone();
        Ok(Opened::Owned(owned, log))
    }

    /// The store for a command that records: this process sanitises, whoever owns the store.
    /// `known`: the log's public key, where the caller gave it.
    pub fn join(&self, options: Options, alerts: Alerts, known: Option<&VerifierKey>) -> Result<SharedStore, Failure> {
        check_unprotected(&self.store)?;
        // Used when this process comes to own the store, as they are then; what must not be used is a reason not to begin.
        anchors::of(&self.store)?;
        let mut sharing = self.sharing(alerts);
        sharing.public_key = known.cloned();
        let joint = SharedStore::open(&self.store, options, sharing).map_err(|e| self.name(&e, failure(&e)))?;
        let own = joint.owned(AuditLog::check_recording).and_then(Result::err);
        if let Some(e) = own.filter(|e| e.kind() == ErrorKind::Key)
            && (known.is_some() || self.key.key.is_some())
        {
            let missing = self.key.key.as_ref().is_some_and(|key| std::fs::symlink_metadata(key).is_err());
            let _ = joint.close();
            return Err(self.name(&e, Failure::Store(match missing {
                true => format!(
                    "no process has the store open, and {}, which --key names, is not there: start the process that records with the \
                     store's key (`attestlog serve`), or name the key file",
                    self.key.path(&self.store).display()
                ),
                false => format!("no process has the store open, so this one needs the store's key itself: {e}"),
            })));
        }
        Ok(joint)
    }

    /// What a process that records does for the store while it owns it.
    pub fn sharing(&self, alerts: Alerts) -> Sharing {
        sharing(&self.store, Some(alerts))
    }

    /// What comes of an error of the store's.
    pub fn failed(&self, e: Error) -> Failure {
        self.name(&e, Failure::from(&e))
    }

    /// Puts the store's name before what comes of an error, unless the error names the store already, or what lies beside it: its key
    /// file, say.
    pub fn name(&self, e: &Error, failure: Failure) -> Failure {
        let store = self.store.display().to_string();
        let named = e.place().and_then(|place| place.file.as_deref()).is_some_and(|file| file.starts_with(&store));
        match &failure {
            Failure::Store(_) | Failure::Locked(_) | Failure::Input(_) if !named => failure.at(store),
            _ => failure,
        }
    }
}
