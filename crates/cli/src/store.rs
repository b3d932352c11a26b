//! Opening the store that a command names, with its key file, or reaching the process that has it open.
//!
//! If that process has proven nothing, `open` and `read` say on standard error whose word the answers are (R72).

use super::anchors;
use super::beside;
use super::context::Context;
use super::exit::Failure;
use super::render::{Out, clean, counted};
pub use attestlog::child::KEY;
use attestlog::child::PASSPHRASE;
use attestlog::host::{Clock, SystemClock};
use attestlog::json::{Json, Object};
use attestlog::keys::{EnvironmentKeys, KeyFile, KeyVault, Passphrase};
use attestlog::note::VerifierKey;
use attestlog::{AuditLog, Error, ErrorKind, Options, Owner, Query, Sharing, owner};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The store, for commands that open one.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store's file
    #[arg(value_name = "STORE", value_parser = store_file())]
    pub store: PathBuf,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Reads the path of a store: of the file itself, where the path is a symbolic link. So whatever a command looks for beside the
/// store is beside that file (R99).
pub fn store_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| attestlog::files::resolve(&path))
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

/// An open store, whichever process owns it.
#[derive(Debug)]
pub struct Opened {
    log: AuditLog,
}

impl Deref for Opened {
    type Target = AuditLog;

    fn deref(&self) -> &AuditLog {
        &self.log
    }
}

impl Opened {
    /// Closes the store. What the command recorded is signed, whichever process owns the store.
    pub fn close(self) -> Result<(), Error> {
        self.log.close()
    }
}

fn warn(cx: &Context, log: &AuditLog) {
    for warning in log.warnings().unwrap_or_default() {
        cx.complain(format!("warning: {warning}"));
    }
}

/// Warns on standard error if a verification found something wrong with the log that is shown, until the finding is settled:
/// the entries shown may be the ones that were edited.
pub fn say_found(cx: &Context, log: &AuditLog) {
    let noted =
        log.verifications().known().map_err(|e| cx.complain(format!("what verifications found is not known: {e}")));
    let noted = noted.unwrap_or_default();
    noted.unread.iter().for_each(|unread| cx.complain(unread));
    if let Some(found) = noted.found {
        cx.complain(format!(
            "a verification at {} found {} wrong with this log ({}), which nobody has settled: what is in it may have \
             been changed. `attestlog verify` says what and where",
            found.at.floor_to_second(),
            counted(found.findings, "thing", "things"),
            clean(&found.kinds.join(", "))
        ));
    }
}

/// Warns on standard error if the system clock is further behind the newest entry than clocks differ: what is recorded now
/// gets a time that is wrong, and purges made by the later time look premature.
fn say_clock(cx: &Context, log: &AuditLog) {
    let now = SystemClock::default().now();
    let newest = log.query(&Query::new().newest_first().limit(1)).ok().and_then(|mut hits| hits.next()?.ok());
    let Some(newest) = newest.map(|entry| entry.body.recorded_at).filter(|newest| *newest > now) else { return };
    if log.retention().clock().is_ok_and(|clock| newest.since(now) > clock.bound) {
        cx.complain(format!(
            "warning: the system clock shows {}, and the newest entry of this log was recorded at {}: one of the two times is \
             wrong. If it is the clock, set it right before anything else is recorded",
            now.floor_to_second(),
            newest.floor_to_second()
        ));
    }
}

/// Warns that the store was opened with damage. The command then does not end with code 0, whatever it answers.
pub fn say_damage(cx: &Context, log: &AuditLog) -> Result<(), Failure> {
    if let Some(damage) = log.damage()? {
        cx.complain(&damage);
        cx.damaged();
    }
    Ok(())
}

/// The JSON form of that warning: `{"damage":TEXT}`.
pub fn damage_json(log: &AuditLog) -> Result<Option<Json>, Error> {
    Ok(log.damage()?.map(|damage| Object::from_iter([("damage", damage.to_string())]).into()))
}

/// Writes that warning as a line before an answer in JSON lines.
pub fn damage_line(log: &AuditLog, out: &mut Out) -> Result<(), Failure> {
    Ok(damage_json(log)?.map_or(Ok(()), |json| out.line(json.to_canonical().as_str()))?)
}

/// Refuses to change a file that its owner has write-protected, because the system lets root write to it anyway.
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

/// Whether a process that records runs alert rules while it owns the store.
#[derive(Debug, Clone, Copy)]
pub enum Alerts {
    Off,
    /// `taken`: standard output is used for something else.
    Raised {
        taken: bool,
    },
}

/// What this process does for a store while it owns it, if it records.
fn sharing(cx: &Context, store: &Path, recording: Option<Alerts>) -> Sharing {
    let mut sharing = Sharing::default();
    let store = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let told = cx.clone();
    sharing.on_trouble = Some(Arc::new(move |message| told.complain(message)));
    if let Some(alerts) = recording {
        let cx = cx.clone();
        // Starts what must run once per store rather than once per process. It ends when the guard is dropped, which happens before
        // the store is closed.
        sharing.on_owning = Some(Arc::new(move |log| {
            warn(&cx, log);
            Box::new(beside::begin(&cx, log, &store, alerts))
        }));
    }
    sharing
}

impl KeyArgs {
    /// Options with the key file and passphrase that were given.
    pub fn options(&self, cx: &Context) -> Result<Options, Failure> {
        let options = self.options_without_passphrase()?;
        Ok(match self.passphrase(cx)? {
            Some(passphrase) => options.passphrase(passphrase),
            None => options,
        })
    }

    /// The same without a passphrase, which takes long to try: for whoever only asks the process that has the store open.
    pub fn options_without_passphrase(&self) -> Result<Options, Failure> {
        let mut options = Options::new();
        if self.key.is_none() && std::env::var_os(KEY).is_some_and(|value| value.is_empty()) {
            return Err(Failure::Input(format!(
                "{KEY}: is set and empty; put a whole key file in it as base64, or unset it"
            )));
        }
        if let Some(key) = &self.key {
            options = options.key_file(key);
        } else if let Some(vault) = self.vault() {
            options = options.key_vault(vault);
        }
        Ok(options)
    }

    /// The flags with which another command finds the same keys.
    pub fn flags(&self) -> Vec<std::ffi::OsString> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string();
        let named = [("--key", &self.key), ("--passphrase-file", &self.passphrase_file)];
        let flags = named.into_iter().filter_map(|(flag, path)| Some([flag.into(), absolute(path.as_ref()?)]));
        #[allow(unused_mut, reason = "with the keyring there is one more")]
        let mut flags: Vec<std::ffi::OsString> = flags.flatten().collect();
        #[cfg(feature = "keyring")]
        flags.extend(self.os_keyring.iter().flat_map(|account| ["--os-keyring".into(), account.into()]));
        flags
    }

    /// Whether the passphrase would be read from standard input.
    pub fn takes_standard_input(&self) -> bool {
        self.passphrase_file.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// Where the key file of a store is.
    pub fn path(&self, store: &Path) -> PathBuf {
        self.key.clone().unwrap_or_else(|| attestlog::files::beside(store, "key"))
    }

    /// The description of where a store's keys are, for messages.
    pub fn place(&self, store: &Path) -> String {
        self.vault()
            .map_or_else(|| self.path(store).display().to_string(), |vault| format!("what is in {}", vault.name()))
    }

    /// The key file of a store.
    pub fn load(&self, cx: &Context, store: &Path) -> Result<KeyFile, Failure> {
        let passphrase = self.passphrase(cx)?;
        match self.vault() {
            Some(vault) => {
                let text = vault.load()?.unwrap_or_default();
                Ok(KeyFile::parse(&text, passphrase.as_ref()).map_err(|e| e.at(vault.name()))?)
            }
            None => Ok(KeyFile::load(&self.path(store), passphrase.as_ref())?),
        }
    }

    /// The keys in this file, for a command that has no store.
    pub fn in_file(cx: &Context, key: &Path, passphrase_file: Option<&Path>) -> Result<KeyFile, Failure> {
        let passphrase_file = passphrase_file.map(Path::to_owned);
        #[allow(clippy::needless_update, reason = "with the keyring there is one more")]
        let keys = KeyArgs { key: Some(key.to_owned()), passphrase_file, ..KeyArgs::default() };
        Ok(KeyFile::load(key, keys.passphrase(cx)?.as_ref())?)
    }

    /// The place of the keys if they are not in a file.
    fn vault(&self) -> Option<Box<dyn KeyVault>> {
        #[cfg(feature = "keyring")]
        if let Some(account) = &self.os_keyring {
            return Some(Box::new(attestlog::keys::OsKeyring::new(account)));
        }
        let set = self.key.is_none() && std::env::var_os(KEY).is_some();
        set.then(|| Box::new(EnvironmentKeys::new(KEY)) as Box<dyn KeyVault>)
    }

    fn passphrase(&self, cx: &Context) -> Result<Option<Passphrase>, Failure> {
        let Some(path) = &self.passphrase_file else {
            // Whoever names a key file that is not there reads without the keys (`--key /nonexistent`).
            let without = self.key.as_ref().is_some_and(|key| std::fs::symlink_metadata(key).is_err());
            let set = std::env::var_os(PASSPHRASE).filter(|_| !without);
            let Some(text) = set else { return Ok(None) };
            // Neither message shows the contents.
            let text = text.into_string().map_err(|_| Failure::Input(format!("{PASSPHRASE}: is not UTF-8")))?;
            return Passphrase::new(text).map(Some).map_err(|e| Failure::from(e).at(PASSPHRASE));
        };
        let source = cx.source(Some(path))?;
        let name = source.name.clone();
        let bytes = Zeroizing::new(source.read_all(MAX_PASSPHRASE)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::Input(format!("{name}: is not UTF-8")))?;
        Passphrase::new(text.lines().next().unwrap_or_default().to_owned())
            .map(Some)
            .map_err(|e| Failure::from(e).at(name))
    }
}

impl StoreArgs {
    /// Opens the store for a command that changes it, or reaches the process that has it open.
    pub fn open(&self, cx: &Context) -> Result<Opened, Failure> {
        self.open_with(cx, None)
    }

    /// The same. `known`: the log's public key, if the caller gave it.
    pub fn open_with(&self, cx: &Context, known: Option<&VerifierKey>) -> Result<Opened, Failure> {
        let log = self.open_after_finding(cx, known)?;
        say_found(cx, &log);
        Ok(log)
    }

    /// The same for a command that itself deals with what a verification found.
    pub fn open_after_finding(&self, cx: &Context, known: Option<&VerifierKey>) -> Result<Opened, Failure> {
        check_unprotected(&self.store)?;
        let options = anchors::add(self.key.options(cx)?, &self.store)?.anchor_on_open(false);
        let log = self.reach(cx, options, known)?;
        say_clock(cx, &log);
        Ok(Opened { log })
    }

    /// The same without the anchors that it has: for the command that replaces them, and works although they cannot be used.
    pub fn open_without_anchors(&self, cx: &Context) -> Result<AuditLog, Failure> {
        check_unprotected(&self.store)?;
        self.reach(cx, self.key.options(cx)?, None)
    }

    /// Opens the store for a command that only reads, or reaches the process that has it open. It leaves the store and its folder
    /// unchanged, and gives the store up to a process that records (R96). If the store was opened with damage, the command
    /// says so and still answers, but does not end with code 0 (R85).
    pub fn read(&self, cx: &Context) -> Result<Opened, Failure> {
        self.read_knowing(cx, None)
    }

    /// The same. `known`: the log's public key, if the caller gave it.
    pub fn read_knowing(&self, cx: &Context, known: Option<&VerifierKey>) -> Result<Opened, Failure> {
        let log = self.read_with(cx, self.key.options(cx)?, known)?;
        say_damage(cx, &log)?;
        Ok(log)
    }

    /// The same with the command's own options, for a command whose answer itself states what is wrong.
    pub fn read_with(&self, cx: &Context, options: Options, known: Option<&VerifierKey>) -> Result<Opened, Failure> {
        // A command that only reads sends no checkpoints to anchors, so unusable anchors are no reason to refuse it.
        let options = match anchors::add(options.clone(), &self.store) {
            Ok(options) => options,
            Err(Failure::Input(message) | Failure::Store(message)) => {
                cx.complain(format!("{message}; not used"));
                options
            }
            Err(other) => return Err(other),
        }
        .anchor_on_open(false);
        Ok(Opened { log: self.reach(cx, options.read_only(), known)?.despite_damage() })
    }

    /// Opens the store, or reaches the process that has it open. That one must prove that it has the log's key if this process knows
    /// it, from its own key file or because the caller gave it (R72); otherwise a message says whose word the answers are.
    fn reach(&self, cx: &Context, options: Options, known: Option<&VerifierKey>) -> Result<AuditLog, Failure> {
        // Any obstacle to opening is reported as a problem of the store, even if it would be bad input elsewhere.
        let failed = |e: Error| match e.kind() {
            ErrorKind::Locked => self.name(&e, Failure::Locked(e.to_string())),
            _ => self.name(&e, Failure::Store(e.to_string())),
        };
        let mut sharing = sharing(cx, &self.store, None);
        if let Some(known) = known
            && matches!(owner::reach(&self.store), Ok(Some(_)))
            && owner::keys(&options, &self.store).map_err(failed)?.is_none()
        {
            // If this process opens the file itself, its answer says which key the store has.
            sharing.public_key = Some(known.clone());
        }
        let log = options.clone().open_with(&self.store, sharing).map_err(failed)?;
        match log.owner()? {
            Owner::This => warn(cx, &log),
            other => {
                // A key file with which the store could not be opened is not passed over because another process has opened it.
                owner::keys(&options, &self.store)?;
                if let Owner::Unproven(process) = other {
                    cx.complain(format!(
                        "warning: what follows is the word of process {process} of this user, which has the store open and has proven \
                         nothing; without the store's key file or its public key (--public-key, which `verify`, `report`, `evidence` and `mcp` take) nobody can \
                         tell whether it is attestlog"
                    ));
                }
            }
        }
        Ok(log)
    }

    /// A handle for a command that records: this process owns the store, or sends the calls to the one that does, which prepares
    /// them. `known`: the log's public key, if the caller gave it.
    pub fn join(
        &self,
        cx: &Context,
        options: Options,
        alerts: Alerts,
        known: Option<&VerifierKey>,
    ) -> Result<AuditLog, Failure> {
        check_unprotected(&self.store)?;
        // The anchors are read again when this process becomes the owner; anchors that cannot be used already stop the
        // command here.
        anchors::of(&self.store)?;
        let mut sharing = self.sharing(cx, alerts);
        sharing.public_key = known.cloned();
        let log = options.open_with(&self.store, sharing).map_err(|e| self.name(&e, Failure::Store(e.to_string())))?;
        say_found(cx, &log);
        say_clock(cx, &log);
        let own = if log.is_owner() { log.check_recording().err() } else { None };
        if let Some(e) = own.filter(|e| e.kind() == ErrorKind::Key)
            && (known.is_some() || self.key.key.is_some())
        {
            let missing = self.key.key.as_ref().is_some_and(|key| std::fs::symlink_metadata(key).is_err());
            let _ = log.close();
            return Err(self.name(&e, Failure::Store(match missing {
                true => format!(
                    "no process has the store open, and {}, which --key names, is not there: start the process that records with the \
                     store's key (`attestlog serve`), or name the key file",
                    self.key.path(&self.store).display()
                ),
                false => format!("no process has the store open, so this one needs the store's key itself: {e}"),
            })));
        }
        Ok(log)
    }

    /// What a process that records does for the store while it owns it.
    pub fn sharing(&self, cx: &Context, alerts: Alerts) -> Sharing {
        sharing(cx, &self.store, Some(alerts))
    }

    /// The failure for an error of the store.
    pub fn failed(&self, e: Error) -> Failure {
        self.name(&e, Failure::from(&e))
    }

    /// Prefixes a failure with the store's name, unless the error already names the store or a file beside it, such as its
    /// key file.
    pub fn name(&self, e: &Error, failure: Failure) -> Failure {
        let store = self.store.display().to_string();
        let named = e.place().and_then(|place| place.file.as_deref()).is_some_and(|file| file.starts_with(&store));
        let key = self.key.path(&self.store);
        if e.kind() == ErrorKind::NotFound && !self.store.exists() && key.exists() {
            // The advice to make a new one would be wrong.
            return Failure::Store(format!(
                "{store}: there is no store, but its key file {} is there: the store was moved or deleted. Bring it back, or restore a \
                 backup",
                key.display()
            ));
        }
        match &failure {
            Failure::Store(_) | Failure::Locked(_) | Failure::Input(_) if !named => failure.at(store),
            _ => failure,
        }
    }
}
