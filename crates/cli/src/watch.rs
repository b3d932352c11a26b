//! `watch`: imports what agents write, as they write it.
//!
//! Invariant R110: a file is looked at again when it has changed, and read from its beginning: what is in the log already is known by its identity
//! (invariant H7). So it does not matter whether a file has grown, was cut off, was replaced by another, or came from elsewhere, nor
//! how often this command is ended and begun again. A file that takes long to read is looked at less often. Files are kept open, so one
//! whose name is gone, or has gone to another file, is read to its end.

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
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

/// A call that has no answer yet is recorded without one when its file has not changed for this long.
const QUIET: Duration = Duration::from_secs(30);
/// Reading a file takes at most one part in so many of the time.
const SHARE: u32 = 10;
/// So many files are kept open: those that have changed last.
const HELD: usize = 200;
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
    /// The file itself, which can be read though its name is gone, and what stood in the file beside it.
    held: Option<(File, Option<Vec<u8>>)>,
}

/// What there is to read of a file.
struct Text {
    path: PathBuf,
    name: String,
    bytes: Vec<u8>,
    has_lines: bool,
    beside: Option<Vec<u8>>,
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
        self.find_again(&found)?;
        for found in &found {
            if ended.try_recv().is_ok() {
                return Ok(());
            }
            self.file(found)?;
        }
        Ok(())
    }

    /// Looks for the files that were known by other names, and reads those that are gone to their ends.
    fn find_again(&mut self, found: &[Found]) -> Result<(), Failure> {
        let stamps: HashMap<&Path, Stamp> = found.iter().map(|found| (&*found.path, stamp(found))).collect();
        let names: HashMap<u64, &Path> = stamps.iter().filter_map(|(path, stamp)| Some((id(stamp)?, *path))).collect();
        let is_there = |path: &Path, own: &Stamp| stamps.get(path).is_some_and(|now| id(now) == id(own));
        let gone = self.seen.iter().filter(|(path, seen)| !is_there(path, &seen.stamp)).map(|(path, _)| path.clone());
        let mut gone: Vec<PathBuf> = gone.collect();
        gone.sort();
        let mut moved = Vec::new();
        for path in gone {
            let own = self.seen.get(&path).and_then(|seen| id(&seen.stamp));
            match own.and_then(|own| names.get(&own)) {
                Some(now) => moved.extend(self.seen.remove(&path).map(|seen| (now.to_path_buf(), seen))),
                None => {
                    self.read_rest(&path)?;
                    self.seen.remove(&path);
                }
            }
        }
        for (now, seen) in moved {
            self.seen.entry(now).or_insert(seen);
        }
        Ok(())
    }

    /// Reads a file whose name is gone to its end.
    fn read_rest(&mut self, path: &Path) -> Result<(), Failure> {
        let limit = self.options.max_bytes as u64;
        let Some(seen) = self.seen.get_mut(path) else { return Ok(()) };
        let name = path.display().to_string();
        let Some((mut file, beside)) = seen.held.take() else {
            if !seen.done {
                self.complain_once(format!("{name}: is gone, and what it held last may not be recorded"));
            }
            return Ok(());
        };
        let is_same = file.metadata().is_ok_and(|about| seen.stamp.first() == Some(&stamp_of(&about)));
        if seen.done && is_same {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.take(limit + 1).read_to_end(&mut bytes));
        if let Err(e) = read {
            self.complain_once(format!("{name}: is gone, and what it held last cannot be read: {e}"));
            return Ok(());
        }
        if bytes.len() as u64 > limit {
            self.complain_once(format!("{name}: has more than {limit} bytes; split it"));
            return Ok(());
        }
        let has_lines = files::has_lines(path);
        self.take(Text { path: path.to_owned(), name, bytes, has_lines, beside }, true, true).map(drop)
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
            held: None,
        });
        if id(&seen.stamp).is_some_and(|own| id(&stamp) != Some(own)) {
            // It has been replaced just now: the next look reads what was there before.
            return Ok(());
        }
        if seen.stamp != stamp {
            (seen.changed, seen.done) = (now, false);
            if !self.args.once {
                seen.held = found.open().map(|file| (file, found.beside()));
                self.let_go();
            }
        }
        let Some(seen) = self.seen.get_mut(&found.path) else { return Ok(()) };
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

    /// Closes the files that have not changed for the longest time, if there are too many.
    fn let_go(&mut self) {
        let held = self.seen.values().filter(|seen| seen.held.is_some()).count();
        let oldest = self.seen.values_mut().filter(|seen| seen.held.is_some()).min_by_key(|seen| seen.changed);
        if let Some(oldest) = oldest.filter(|_| held > HELD) {
            oldest.held = None;
        }
    }

    /// Imports a file. False if it should be looked at again though it does not change: a line is only half there, or a call has no
    /// answer yet.
    fn read(&mut self, found: &Found, is_quiet: bool, is_same: bool) -> Result<bool, Failure> {
        let bytes = match found.read(self.cx, self.options.max_bytes) {
            Ok(bytes) => bytes,
            // It is gone: what is held of it is read.
            Err(Failure::Input(_)) if !self.args.once && !found.path.exists() => return Ok(false),
            Err(Failure::Input(why)) => {
                self.complain_once(why);
                return Ok(true);
            }
            Err(other) => return Err(other),
        };
        let (name, has_lines, beside) = (found.name(), found.has_lines(), found.beside());
        let settled = self.args.once || is_same;
        self.take(Text { path: found.path.clone(), name, bytes, has_lines, beside }, settled, is_quiet)
    }

    /// Records what a file holds. `settled`: nothing more is written to it at the moment; `is_quiet`: nor will be.
    fn take(&mut self, text: Text, settled: bool, is_quiet: bool) -> Result<bool, Failure> {
        let Text { path, name, bytes: mut text, has_lines, beside } = text;
        // The last line may be only half there; if nothing comes any more, it is what there is.
        if !settled && has_lines {
            text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        }
        let options = match beside {
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
            self.complain(&path, &name, untaken.iter().chain(&recorded.not_taken));
        }
        match failed {
            None => Ok(settled && !waits),
            Some(e) => Err(self.args.store.name(&e, Failure::Store(format!("{name}: {e}")))),
        }
    }

    /// Says what was not taken, each once.
    fn complain<'n>(&mut self, path: &Path, name: &str, all: impl Iterator<Item = &'n NotTaken>) {
        let Some(seen) = self.seen.get_mut(path) else { return };
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
    let all = [found.path.clone(), PathBuf::from(beside)];
    all.iter().filter_map(|path| fs::metadata(path).ok()).map(|about| stamp_of(&about)).collect()
}

fn stamp_of(about: &fs::Metadata) -> (u64, u64, Option<SystemTime>) {
    #[cfg(unix)]
    let id = std::os::unix::fs::MetadataExt::ino(about);
    #[cfg(not(unix))]
    let id = 0;
    (id, about.len(), about.modified().ok())
}

/// What a file is known by under any name, if there is something.
fn id(stamp: &Stamp) -> Option<u64> {
    stamp.first().map(|(id, ..)| *id).filter(|id| *id != 0)
}
