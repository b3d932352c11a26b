//! `watch`: imports what agents write, as they write it.
//!
//! Invariant R110: a file is looked at again when it has changed, and read from its beginning: what is in the log already is known by its identity
//! (invariant H7). So it does not matter whether a file has grown, was cut off, was replaced by another, or came from elsewhere, nor
//! how often this command is ended and begun again. A file that takes long to read is looked at less often.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::import::files::{self, Found};
use super::render::{clean, counted};
use super::store::{Alerts, StoreArgs};
use attestlog::AuditLog;
use attestlog::note::VerifierKey;
use attestlog_capture::import::{self, Format, ImportOptions, NotTaken};
use clap::Args;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

/// A call that has no answer yet is recorded without one when its file has not changed for this long.
const QUIET: Duration = Duration::from_secs(30);
/// Reading a file takes at most one part in so many of the time.
const SHARE: u32 = 10;
/// So many complaints about one file are remembered, so that none is made twice.
const COMPLAINTS: usize = 1_000;

/// Record what agents write to their session files, as they write it
///
/// Follows every session, transcript and trace in the folders, also in files that are made later, until SIGTERM or SIGINT. What is
/// in the log already is not recorded again.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Folders where agents write their sessions; files too
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Record what is there now, and end
    #[arg(long)]
    once: bool,
    /// How often to look for changes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Who started the calls, instead of what the files say
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Option<String>,
    /// Take times without a zone as UTC
    #[arg(long)]
    assume_utc: bool,
    /// The log's public key, or a file with it: nothing is sent to a process that does not prove that it has the secret half
    #[arg(long, value_name = "KEY", value_parser = super::verify_args::log_key, help_heading = "Keys")]
    public_key: Option<VerifierKey>,
}

pub fn run(cx: &Context, args: &WatchArgs) -> Outcome {
    let store = args.store.key.options(cx)?;
    let log = args.store.join(cx, store, Alerts::Raised { taken: false }, args.public_key.as_ref())?;
    let ended = signals()?;
    let mut options = ImportOptions::new().assume_utc(args.assume_utc);
    options.user = args.user.clone();
    let mut watch =
        Watch { cx, args, log: &log, options, seen: HashMap::new(), unread: HashSet::new(), untaken: false };
    let watched = watch.until(&ended);
    let closed = log.close().map_err(|e| args.store.failed(e));
    let end = watched?;
    closed?;
    Ok(end)
}

/// Hears of the signals that end this command.
#[cfg(unix)]
fn signals() -> Result<Receiver<()>, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|e| Failure::Store(format!("signals: {e}")))?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || signals.forever().map(|_| sender.send(())).all(|sent| sent.is_ok()));
    Ok(receiver)
}

#[cfg(not(unix))]
fn signals() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = channel();
    std::mem::forget(sender);
    Ok(receiver)
}

/// What tells a file from what it was: its identity, length and time, and those of the log beside a database.
type Stamp = Vec<(u64, u64, Option<SystemTime>)>;

/// What is remembered of a file.
struct Seen {
    stamp: Stamp,
    /// When it was seen to have changed last.
    changed: Instant,
    /// When it may be read again.
    next: Instant,
    /// Whether all that it holds is in the log, or was complained of.
    done: bool,
    said: HashSet<String>,
}

struct Watch<'a> {
    cx: &'a Context,
    args: &'a WatchArgs,
    log: &'a AuditLog,
    options: ImportOptions,
    seen: HashMap<PathBuf, Seen>,
    unread: HashSet<String>,
    untaken: bool,
}

impl Watch<'_> {
    fn until(&mut self, ended: &Receiver<()>) -> Outcome {
        loop {
            self.look(ended)?;
            if self.args.once {
                return Ok(if self.untaken { End::Found } else { End::Done });
            }
            match ended.recv_timeout(Duration::from_secs(self.args.every)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(End::Done),
            }
        }
    }

    /// Reads the files that have changed.
    fn look(&mut self, ended: &Receiver<()>) -> Result<(), Failure> {
        // The policy decides what a call is known by, and may change meanwhile.
        let policies = self.log.retention().policies().map_err(|e| self.args.store.failed(e))?;
        self.options = self.options.clone().policy(&policies.redaction);
        let (found, unread) = files::find(&self.args.folders);
        for (_, why) in unread {
            self.complain_once(why);
        }
        let there: HashSet<&PathBuf> = found.iter().map(|found| &found.path).collect();
        self.seen.retain(|path, _| there.contains(path));
        for found in &found {
            if ended.try_recv().is_ok() {
                return Ok(());
            }
            self.file(found)?;
        }
        Ok(())
    }

    fn complain_once(&mut self, why: String) {
        if self.unread.len() < COMPLAINTS && self.unread.insert(why.clone()) {
            self.untaken = true;
            self.cx.complain(why);
        }
    }

    fn file(&mut self, found: &Found) -> Result<(), Failure> {
        let (now, stamp) = (Instant::now(), stamp(found));
        let seen = self.seen.entry(found.path.clone()).or_insert_with(|| Seen {
            stamp: Vec::new(),
            changed: now,
            next: now,
            done: false,
            said: HashSet::new(),
        });
        if seen.stamp != stamp {
            (seen.changed, seen.done) = (now, false);
        }
        if seen.done || now < seen.next {
            return Ok(());
        }
        let is_same = seen.stamp == stamp;
        seen.stamp = stamp;
        let is_quiet = self.args.once || now.duration_since(seen.changed) >= QUIET;
        let read = self.read(found, is_quiet, is_same)?;
        if let Some(seen) = self.seen.get_mut(&found.path) {
            seen.done = read;
            seen.next = Instant::now() + now.elapsed() * SHARE;
        }
        Ok(())
    }

    /// Imports a file. False if it should be looked at again though it does not change: a line is only half there, or a call has no
    /// answer yet.
    fn read(&mut self, found: &Found, is_quiet: bool, is_same: bool) -> Result<bool, Failure> {
        let name = found.name();
        let mut text = match found.read(self.cx, self.options.max_bytes) {
            Ok(text) => text,
            Err(Failure::Input(why)) => {
                self.complain_once(why);
                return Ok(true);
            }
            Err(other) => return Err(other),
        };
        // The last line may be only half there; if nothing comes any more, it is what there is.
        let settled = self.args.once || is_same;
        if !settled && found.has_lines() {
            text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        }
        let options = match found.beside() {
            Some(beside) => self.options.clone().beside(&beside),
            None => self.options.clone(),
        };
        let imported = match import::calls(Format::Auto, &text, &options) {
            Ok(imported) => imported,
            // A file that is being written is not what it will be.
            Err(_) if !settled || text.trim_ascii().is_empty() => return Ok(text.trim_ascii().is_empty() && settled),
            Err(e) => {
                self.complain_once(format!("{name}: {e}; it was not recorded"));
                return Ok(true);
            }
        };
        drop(text);
        if imported.format == Format::Auto && imported.not_taken.is_empty() {
            return Ok(settled);
        }
        let waits = imported.tally().abandoned > 0 && !is_quiet;
        let untaken = imported.not_taken.clone();
        let recorded = import::record(self.log, if is_quiet { imported } else { imported.answered() }, false, |_| ());
        let (recorded, failed) = match recorded {
            Ok(recorded) => (recorded, None),
            Err(stopped) => (*stopped.recorded, Some(stopped.error)),
        };
        let (calls, answers) = (recorded.receipts.len() as u64, recorded.answers.len() as u64);
        let details = recorded.details.len() as u64;
        if calls + answers + details > 0 {
            let mut out = self.cx.out();
            let details = match details {
                0 => String::new(),
                n => format!(", details of {}", counted(n, "call of another source", "calls of other sources")),
            };
            let answers = if answers > 0 {
                format!(", {}", counted(answers, "late answer", "late answers"))
            } else {
                String::new()
            };
            out.line(format!(
                "{}: {}{answers}{details} recorded",
                clean(&name),
                counted(calls, "new call", "new calls")
            ))?;
            out.flush()?;
        }
        if settled {
            self.complain(found, &name, untaken.iter().chain(&recorded.not_taken));
        }
        match failed {
            None => Ok(settled && !waits),
            Some(e) => Err(self.args.store.name(&e, Failure::Store(format!("{name}: {e}")))),
        }
    }

    /// Says what was not taken, each once.
    fn complain<'n>(&mut self, found: &Found, name: &str, all: impl Iterator<Item = &'n NotTaken>) {
        let Some(seen) = self.seen.get_mut(&found.path) else { return };
        for one in all {
            self.untaken = true;
            let said = format!("{name}: {}: {}; it was not recorded", one.place, one.why);
            if seen.said.len() < COMPLAINTS && seen.said.insert(said.clone()) {
                self.cx.complain(said);
            }
        }
    }
}

fn stamp(found: &Found) -> Stamp {
    let mut beside = found.path.clone().into_os_string();
    beside.push("-wal");
    let one = |about: fs::Metadata| {
        #[cfg(unix)]
        let id = std::os::unix::fs::MetadataExt::ino(&about);
        #[cfg(not(unix))]
        let id = 0;
        (id, about.len(), about.modified().ok())
    };
    [found.path.clone(), PathBuf::from(beside)].iter().filter_map(|path| fs::metadata(path).ok()).map(one).collect()
}
