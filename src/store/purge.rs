//! Purging: what has expired leaves the log, and every proof stays.
//!
//! Invariant X3: nothing goes that has not expired by the expiry clock under every policy until now, or that a hold
//! covers. Invariant X4: until the new file has taken the old one's name, the store is as before; from then on it is as
//! after. A crash or a full disk in between leaves a file beside the store that the next purge or open removes.

use super::commit::{Core, Staging};
use super::log::AuditLog;
use super::open;
use super::options::{Options, Source};
use super::rewrite::{self, Cut};
use super::rollup::Cell;
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::tables::{self, Stored};
use crate::entry::{Content, Field, Outcome, Retention};
use crate::json::Object;
use crate::query::Query;
use crate::retention::{Planner, PurgePlan, PurgeRecord};
use crate::{Error, ErrorKind, Kind, Result, Timestamp};
use redb::Database;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// How many entries the last catch-up, with the turn, may have to carry over.
const LAST_STEP: u64 = 512;

/// What a purge did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many entries went.
    pub purged: u64,
    /// How many expired entries holds keep.
    pub kept_by_hold: u64,
    /// Bytes of the store before.
    pub bytes_before: u64,
    /// Bytes of the store after.
    pub bytes_after: u64,
    /// The seq of the purge's entry; `None` where nothing had expired, or for a dry run.
    pub seq: Option<u64>,
    /// How many entries of each class went.
    pub classes: BTreeMap<String, u64>,
}

impl AuditLog {
    /// What a purge now would take. Changes nothing.
    ///
    /// # Errors
    /// [`ClockFrozen`](ErrorKind::ClockFrozen) with the reason; what the file says.
    pub fn plan_purge(&self) -> Result<PurgePlan> {
        let shared = self.shared();
        let status = self.clock_status()?;
        if status.frozen.is_some() {
            return Err(Error::new(ErrorKind::ClockFrozen, status.to_string()));
        }
        Ok(plan(shared, &self.snapshot()?, status.now)?.0)
    }

    /// Takes what has expired out of the log. Every checkpoint that was ever signed stays provable, and so does every
    /// entry that stays. Recording goes on meanwhile. The store is written anew into a second file beside it, which
    /// needs room for what stays.
    ///
    /// # Errors
    /// [`ClockFrozen`](ErrorKind::ClockFrozen) with the reason and the way out; [`DiskFull`](ErrorKind::DiskFull): nothing
    /// was purged; [`InvalidInput`](ErrorKind::InvalidInput): no actor, or a store on a storage of the caller's, which
    /// cannot be replaced; as [`AuditLog::record`].
    pub fn purge(&self, actor: &str) -> Result<Purged> {
        let shared = self.shared();
        let actor = shared.clean(actor)?;
        // What is pending becomes index rows, so that all that may go is in the file.
        let cut_off = shared.exclusive(|shared, core| {
            let staging = Staging::new(shared, core)?;
            let clock = staging.expiry_clock().clone();
            if !staging.is_empty() {
                shared.commit(core, staging, |_| Ok(()))?;
            }
            clock.check()?;
            Ok(clock.now())
        })?;
        self.flush_index()?;
        // From here on no index batch is written, so that only entries are added.
        let _merging = shared.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot()?;
        let (plan, changes) = plan(shared, &snapshot, cut_off)?;
        let ledger = shared.ledger();
        let history =
            ledger.history.as_ref().ok_or_else(|| Error::damaged("the log has no policy; restore a backup"))?;
        let record = plan.record(&*actor, history)?;
        let bytes_before = shared.bytes()?;
        let nothing = Purged {
            purged: 0,
            kept_by_hold: plan.kept_by_hold,
            bytes_before,
            bytes_after: bytes_before,
            seq: None,
            classes: BTreeMap::new(),
        };
        if plan.expired.is_empty() {
            return Ok(nothing);
        }
        let cells = self.cells(&snapshot, &plan, changes)?;
        let cut = Cut {
            gone: shared.purged().union(&plan.expired),
            taken: plan.expired.clone(),
            sizes: sizes(shared, &snapshot)?,
            cells,
        };
        let place = Place::new(&shared.source)?;
        let seq = shared.replace(&place, snapshot, &cut, &record)?;
        let classes = plan.classes();
        let bytes_after = shared.bytes()?;
        Ok(Purged { purged: plan.expired.len(), bytes_after, seq: Some(seq), classes, ..nothing })
    }

    /// The rollups of the tools and days from which calls go, without those.
    fn cells(
        &self,
        snapshot: &Snapshot,
        plan: &PurgePlan,
        changes: BTreeMap<(String, i32), Vec<Change>>,
    ) -> Result<BTreeMap<(u64, i32), Option<Vec<u8>>>> {
        let mut cells = BTreeMap::new();
        for ((tool, day), changes) in changes {
            let Some(term) = snapshot.term_id(Field::Tool, &tool)? else { continue };
            let Some((_, _, old)) = snapshot.rollups(Some(term), day..day + 1)?.into_iter().next() else { continue };
            if old.calls <= changes.len() as u64 {
                cells.insert((term, day), None);
                continue;
            }
            // Some of the day's calls stay: they are counted anew, since a maximum cannot be taken back.
            let query = Query::new().kind(Kind::ToolCall).tool(&tool);
            let query = query.since(Timestamp::start_of_day(day)).until(Timestamp::start_of_day(day + 1));
            let mut cell = Cell::default();
            for entry in self.query(&query)? {
                let entry = entry?;
                let Some(call) = entry.call() else { continue };
                if entry.seq >= snapshot.state.indexed || plan.expired.contains(entry.seq) {
                    continue;
                }
                let user = snapshot.term_id(Field::User, &call.user_id)?.unwrap_or_default();
                let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
                cell.add(user, success, call.duration_nanos());
            }
            let cell = if cell.calls == 0 { None } else { Some(cell.encode()?) };
            cells.insert((term, day), cell);
        }
        Ok(cells)
    }
}

/// A call that goes.
struct Change;

/// What has expired, and by tool and day the calls among it.
#[allow(clippy::type_complexity, reason = "a plan and what it changes")]
fn plan(
    shared: &Shared,
    snapshot: &Snapshot,
    cut_off: Timestamp,
) -> Result<(PurgePlan, BTreeMap<(String, i32), Vec<Change>>)> {
    let ledger = shared.ledger();
    let history = ledger.history.as_ref().ok_or_else(|| Error::damaged("the log has no policy; restore a backup"))?;
    let aliases = shared.aliases();
    let mut planner = Planner::new(cut_off, &ledger.holds, history).named(&aliases);
    let mut changes: BTreeMap<(String, i32), Vec<Change>> = BTreeMap::new();
    let mut batches = Vec::new();
    snapshot.scan_batches(&mut |first, end, _| {
        batches.push((first, end));
        Ok(())
    })?;
    let mut consider = |seq: u64| -> Result<()> {
        let Some(found) = snapshot.find(seq)? else { return Ok(()) };
        let body = found.entry()?.body;
        if planner.consider(seq, &body) == crate::retention::Fate::Expired
            && let Content::Call(call) = &body.content
            && call.kind() == Kind::ToolCall
        {
            changes.entry((call.tool_name.clone(), call.timestamp.day())).or_default().push(Change);
        }
        Ok(())
    };
    for (first, end) in batches {
        // The column tells which entries may have expired without reading any.
        let column = snapshot.column(first)?;
        let column =
            column.ok_or_else(|| Error::damaged(format!("the retention column of batch {first} is missing")))?;
        for (seq, &row) in (first..end).zip(&column.rows) {
            let Some((class, until)) = column.retention(row) else { continue };
            let retention = Retention {
                class: class.to_owned(),
                until: Timestamp::from_nanos(until.saturating_mul(1_000_000_000)),
            };
            if history.effective_until(seq, &retention) <= cut_off {
                consider(seq)?;
            }
        }
    }
    for seq in snapshot.indexed..snapshot.size {
        consider(seq)?;
    }
    Ok((planner.finish(), changes))
}

/// Every size that was ever signed.
fn sizes(shared: &Shared, snapshot: &Snapshot) -> Result<Vec<u64>> {
    let mut sizes = Vec::new();
    snapshot.scan_checkpoints(&mut |size, _| {
        sizes.push(size);
        Ok(())
    })?;
    sizes.extend(shared.ledger().rotation_roots().map(|(size, _)| size));
    sizes.extend(shared.keys().as_ref().and_then(|k| k.file.mark()).map(|mark| mark.size));
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

/// Where the store is written anew.
enum Place {
    File { new: PathBuf, path: PathBuf },
    Memory(open::Memory),
}

impl Place {
    fn new(source: &Source) -> Result<Place> {
        match source {
            Source::File(path) => {
                let new = beside(path);
                // Left by a purge that was stopped.
                match std::fs::remove_file(&new) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::from(e).at(new.display())),
                    _ => {}
                }
                drop(open::new_private_file(&new)?);
                Ok(Place::File { new, path: path.clone() })
            }
            Source::Memory(_) => Ok(Place::Memory(open::Memory::default())),
            Source::Backend(_) => {
                Err(Error::invalid("a store on a storage of the caller's cannot be purged: it cannot be replaced"))
            }
        }
    }

    fn source(&self) -> Source {
        match self {
            Place::File { new, .. } => Source::File(new.clone()),
            Place::Memory(memory) => Source::memory(memory.clone()),
        }
    }
}

/// The file in which a store is written anew.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Place::File { new, .. } = self {
            // It is gone where it has taken the store's name.
            let _ = std::fs::remove_file(new);
        }
    }
}

impl Shared {
    /// Bytes of the store's file.
    fn bytes(&self) -> Result<u64> {
        match &self.source {
            Source::File(path) => Ok(std::fs::metadata(path)?.len()),
            Source::Memory(memory) => Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).bytes()),
            Source::Backend(make) => Ok(make().len()?),
        }
    }

    /// Writes the store anew without what is cut, records the purge in it, and puts it in the old one's place.
    fn replace(&self, place: &Place, snapshot: Snapshot, cut: &Cut, record: &PurgeRecord) -> Result<u64> {
        let options = Options { settings: self.settings.clone(), ..Options::new() };
        let fresh = Arc::new(open::open_database(&options, &place.source())?);
        let txn = self.begin_write(&fresh)?;
        rewrite::copy(&snapshot, &txn, cut)?;
        txn.commit().stored()?;
        let mut at = snapshot.size;
        drop(snapshot);
        // What was recorded meanwhile, until little is left.
        loop {
            let newer = self.snapshot()?;
            if newer.size - at <= LAST_STEP {
                break;
            }
            let txn = self.begin_write(&fresh)?;
            at = rewrite::catch_up(&newer, &txn, cut, at, true)?;
            txn.commit().stored()?;
        }
        self.exclusive(|shared, core| {
            let newest = shared.snapshot()?;
            let txn = shared.begin_write(&fresh)?;
            rewrite::catch_up(&newest, &txn, cut, at, false)?;
            txn.commit().stored()?;
            shared.take_over(core, place, fresh, cut, record)
        })
    }

    /// With the turn: the new file becomes the store. If anything fails the old one goes on.
    fn take_over(
        &self,
        core: &mut Core,
        place: &Place,
        fresh: Arc<Database>,
        cut: &Cut,
        record: &PurgeRecord,
    ) -> Result<u64> {
        let loaded = open::load(&fresh, self.clock.monotonic())?;
        let mut next = loaded.core;
        next.unsigned_said = core.unsigned_said;
        let mut staging = Staging::new(self, &next)?;
        let detail = record.to_json().as_object().cloned().unwrap_or_else(Object::new);
        let receipt = staging.own(Kind::Purge, detail, None)?;
        let taken = cut.taken.encode();
        let old = self.database.write().unwrap_or_else(PoisonError::into_inner).replace(fresh);
        let mut previous = std::mem::replace(core, next);
        let done = self
            .commit(core, staging, |txn| {
                txn.open_table(tables::PURGES).stored()?.insert(receipt.seq, &*taken).stored()?;
                Ok(())
            })
            .and_then(|()| match (place, &self.source) {
                (Place::File { new, path }, _) => {
                    std::fs::rename(new, path).map_err(|e| Error::from(e).at(path.display()))?;
                    Ok(crate::files::sync_parent(path)?)
                }
                (Place::Memory(memory), Source::Memory(at)) => {
                    *at.lock().unwrap_or_else(PoisonError::into_inner) = memory.clone();
                    Ok(())
                }
                _ => Ok(()),
            });
        match done {
            Ok(()) => {
                *self.purged.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(cut.gone.clone());
                Ok(receipt.seq)
            }
            Err(e) => {
                // The old file is as it was; what is in memory is read from it anew.
                previous.broken = true;
                *core = previous;
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = old;
                let _ = self.mend(core);
                Err(e)
            }
        }
    }
}
