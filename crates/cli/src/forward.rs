//! `forward`: hands the log on to a SIEM, entry by entry, in a file that a log shipper reads.
//!
//! Invariant R115: each entry has a row, in order, and none is left out: what cannot be shown has a row that says so. If this process
//! or the machine fails, a row may come twice, as the same bytes. Where it goes on is read from what was written (`target`), so
//! nothing that happens to this process makes a gap.

mod target;

use super::context::Context;
use super::exit::{Failure, Outcome};
use super::export::ToolArgs;
use super::render::{count, counted};
use super::store::{StoreArgs, say_found};
use super::withheld::{self, Withheld};
use attestlog::host::{Clock, SystemClock};
use attestlog::{AuditLog, Entry, Error, ErrorKind, Query};
use attestlog_report::ocsf::{self, OcsfOptions};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use target::{Last, Target};

/// How many entries, and about how many bytes, are written before they are made durable.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;
/// How long it takes at most to notice that the store was moved away.
const PULSE: Duration = Duration::from_secs(1);
/// How often a read is begun again because a purge came in between.
const TRIES: u32 = 4;

/// Hand every entry on to a SIEM: a row each, in order, from where the last run ended
///
/// Nothing is skipped: a row names the hash of its entry and of the one before, so that a gap shows. Write to a file that a log shipper
/// follows; if the file is renamed or emptied, the next rows go to a new one.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Where to: file:PATH. Beside it, PATH.cursor keeps the place after PATH was rotated
    #[arg(long, value_name = "file:PATH", value_parser = destination)]
    to: PathBuf,
    /// What a row is
    #[arg(long, value_enum, default_value = "ocsf")]
    format: Format,
    /// Go on as entries are recorded, instead of ending with the newest
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    tools: ToolArgs,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An OCSF 1.9 event with `record_integrity`, without arguments and error messages
    Ocsf,
    /// {"entry":…,"hash":…,"seq":…,"target":"tool_audit","timestamp":…}, the entry exactly as it was hashed
    Jsonl,
}

fn destination(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("file:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("must be file:PATH; a log shipper takes it from there to a network".to_owned()),
    }
}

pub fn run(cx: &Context, args: &ForwardArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let (target, last) = Target::open(&args.to, args.format)?;
    if let Some(last) = &last {
        check_continues(&log, last).map_err(|e| e.at(args.to.display()))?;
    }
    let mut options = OcsfOptions::default();
    options.tools = args.tools.kinds();
    let key = log.public_key()?;
    options.log = key.as_ref().map(|key| key.name().to_owned());
    options.public_key = key.map(|key| key.to_string());
    let next = last.map_or(0, |last| last.seq + 1);
    let mut forward = Forward {
        cx,
        store: &args.store,
        log: &log,
        format: args.format,
        options,
        target,
        next,
        written: 0,
        withheld: Withheld::new(cx),
    };
    if args.follow {
        return forward.follow();
    }
    let size = log.size()?;
    while forward.next < size {
        forward.batch(size)?;
    }
    let mut out = cx.out();
    let newest = forward.next.checked_sub(1).map_or(String::new(), |seq| format!("; the newest is entry {seq}"));
    out.line(format!("forwarded {} to {}{newest}", counted(forward.written, "entry", "entries"), args.to.display()))?;
    out.flush()?;
    forward.withheld.end()
}

/// Refuses to go on if the last row is not of this log as it is now: a SIEM that has rows of an older or another copy should not get
/// others under the same numbers.
fn check_continues(log: &AuditLog, last: &Last) -> Result<(), Failure> {
    let size = log.size()?;
    if last.seq >= size {
        return Err(Failure::Found(format!(
            "entry {} was forwarded, and the log has {}: it was restored from an older copy, or it is another log",
            last.seq,
            counted(size, "entry", "entries")
        )));
    }
    let query = match last.seq.checked_sub(1) {
        Some(before) => Query::new().after(before),
        None => Query::new(),
    };
    let there = log.query(&query.limit(1))?.next();
    // What was purged or cannot be read has no hash to compare.
    match (there, last.hash) {
        (Some(Ok(entry)), Some(hash)) if entry.seq == last.seq && entry.hash() != hash => Err(Failure::Found(format!(
            "entry {} was forwarded with the hash {hash}, and the log's has {}: it was changed, or it is another log",
            last.seq,
            entry.hash()
        ))),
        _ => Ok(()),
    }
}

/// Rows that are written together.
#[derive(Debug, Default)]
struct Batch {
    rows: Vec<u8>,
    entries: u64,
    /// The entry of the last row.
    last: Option<Last>,
    /// How many entries before it had been purged.
    purged: u64,
    /// The seq after the last entry that was looked at.
    next: u64,
}

struct Forward<'a> {
    cx: &'a Context,
    store: &'a StoreArgs,
    log: &'a AuditLog,
    format: Format,
    options: OcsfOptions,
    target: Target,
    /// The seq of the first entry that was not forwarded.
    next: u64,
    written: u64,
    withheld: Withheld,
}

impl Forward<'_> {
    /// Goes on until the process is ended.
    fn follow(&mut self) -> Outcome {
        loop {
            let size = self.log.size().map_err(|e| self.store.failed(e))?;
            if self.next < size {
                self.batch(size)?;
                continue;
            }
            // Only tells that there is something; what cannot be read is looked at above.
            match self.log.follow(self.next).next_within(PULSE) {
                Ok(None) => self.log.check_file().map_err(|e| self.store.failed(e))?,
                Ok(Some(_)) => {}
                Err(e) if matches!(e.kind(), ErrorKind::Damaged | ErrorKind::Busy) => {}
                Err(e) => return Err(self.store.failed(e)),
            }
        }
    }

    /// Writes the rows of the next entries, of those below `size`.
    fn batch(&mut self, size: u64) -> Result<(), Failure> {
        let (mut batch, mut unreadable) = (Batch { next: self.next, ..Batch::default() }, None);
        for found in self.read()? {
            let found = match found {
                // What a purge took meanwhile is left out when the rest is asked for again.
                Err(e) if e.kind() == ErrorKind::Busy && batch.last.is_some() => break,
                found => found,
            };
            let seq = found.as_ref().map_or_else(Error::seq, |entry| Some(entry.seq));
            match seq {
                // An entry that has no place in the order is named last; it was looked at where it is missing.
                Some(seq) if seq < batch.next => continue,
                Some(seq) => {
                    self.missing(&mut batch, seq)?;
                    self.add(&mut batch, seq, found)?;
                }
                None => unreadable = self.take(found)?.err(),
            }
            if batch.entries as usize >= BATCH || batch.rows.len() >= BATCH_BYTES || batch.next >= size {
                break;
            }
        }
        if batch.last.is_none() && unreadable.is_none() {
            self.missing(&mut batch, size)?;
        }
        if let Some(last) = batch.last {
            self.target.write(&batch.rows, &last)?;
        } else if let Some(e) = unreadable {
            return Err(self.store.failed(e));
        }
        if batch.purged > 0 {
            let it = if batch.purged == 1 { "it" } else { "them" };
            self.cx.complain(format!(
                "{} not forwarded because a purge had removed {it} before; the hashes in the rows show that there is a gap between {} and {}",
                counted(batch.purged, "entry was", "entries were"),
                count(self.next.saturating_sub(1)),
                count(batch.next)
            ));
        }
        self.written += batch.entries;
        self.next = batch.next;
        Ok(())
    }

    /// Looks at the entries that an answer lacks, from the next one of the batch to this one: they were purged or, in a store that
    /// was opened with damage, cannot be read.
    fn missing(&mut self, batch: &mut Batch, to: u64) -> Result<(), Failure> {
        if batch.next < to && self.log.damage().map_err(|e| self.store.failed(e))?.is_some() {
            for seq in batch.next..to {
                match self.log.entry(seq) {
                    Err(e) if e.kind() == ErrorKind::NoSuchEntry => batch.purged += 1,
                    found => self.add(batch, seq, found.map_err(|e| e.about(seq)))?,
                }
            }
        } else {
            batch.purged += to.saturating_sub(batch.next);
        }
        batch.next = batch.next.max(to);
        Ok(())
    }

    /// Adds the row of an entry, or the one that takes its place.
    fn add(&mut self, batch: &mut Batch, seq: u64, found: attestlog::Result<Entry>) -> Result<(), Failure> {
        let found = self.take(found)?;
        batch.rows.extend_from_slice(self.row(seq, &found).as_bytes());
        batch.rows.push(b'\n');
        batch.last = Some(Last { seq, hash: found.ok().map(|entry| entry.hash()) });
        batch.entries += 1;
        batch.next = seq + 1;
        Ok(())
    }

    fn take(&mut self, found: attestlog::Result<Entry>) -> Result<Result<Entry, Error>, Failure> {
        self.withheld.take(found).map_err(|e| self.store.failed(e))
    }

    /// The entries from the next one on.
    fn read(&self) -> Result<attestlog::Hits, Failure> {
        let query = match self.next.checked_sub(1) {
            Some(last) => Query::new().after(last),
            None => Query::new(),
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.log.query(&query) {
                Err(e) if e.kind() == ErrorKind::Busy && tries > 0 => {}
                found => return found.map_err(|e| self.store.failed(e)),
            }
        }
    }

    fn row(&self, seq: u64, found: &Result<Entry, Error>) -> String {
        match (self.format, found) {
            (Format::Ocsf, Ok(entry)) => ocsf::row(entry, &self.options).to_canonical().as_str().to_owned(),
            (Format::Ocsf, Err(e)) => {
                let now = SystemClock::default().now();
                ocsf::differing(seq, &e.to_string(), now, &self.options).to_canonical().as_str().to_owned()
            }
            (Format::Jsonl, Ok(entry)) => entry.event(),
            (Format::Jsonl, Err(e)) => withheld::line(e),
        }
    }
}
