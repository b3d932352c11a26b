//! Purging: what has expired leaves the log, and every proof stays.
//!
//! Invariant X3: nothing goes that has not expired by the expiry clock under every policy until now, or that a hold
//! covers. Invariant X4: until the new file has taken the old one's name, the store is as before; from then on it is as
//! after. A crash or a full disk in between leaves a file beside the store that the next purge or open removes.

use crate::chain_state::ChainState;
use crate::json::Object;
use crate::query::Query;
use crate::retention::{Planner, PurgePlan, PurgeRecord};
use crate::store::engine::Engine;
use crate::store::engine::changes::Changes;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::panic_guard::guarded;
use crate::store::file::replacement::{self, Replacement};
use crate::store::file::storage;
use crate::store::file::tables::{self, Stored};
use crate::store::layout::rollup::Cell;
use crate::store::log::AuditLog;
use crate::store::maintain::rewrite::{PurgeSet, Reached, Rewriter};
use crate::store::options::Source;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::commit::Staging;
use crate::{Error, ErrorKind, Kind, Result, Timestamp};
use attestlog_proof::entry::{Content, Facet, Outcome, Retention};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// How many entries in blocks the last catch-up, with the writer lock, may have to carry over.
const LAST_STEP: u64 = 512;
/// After so many rounds of catching up the rest is carried over with the writer lock, however much it is.
const ROUNDS: usize = 32;
/// How often a purge begins anew because a hold or a policy came in between.
const TRIES: usize = 3;

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
    /// [`ClockFrozen`](ErrorKind::ClockFrozen) with the reason; [`Damaged`](ErrorKind::Damaged) where a purge would be refused
    /// because of what was found when the store was opened; what the file says.
    pub fn plan_purge(&self) -> Result<PurgePlan> {
        let engine = self.engine();
        engine.writer().damaged.map_or(Ok(()), |damage| Err(damage.refusal()))?;
        let status = self.clock_status()?;
        status.check()?;
        let snapshot = engine.stored()?;
        let reviewed = self.reviewed_grants()?;
        guarded(|| Ok(plan(engine, &snapshot, status.now, snapshot.size, reviewed)?.plan))
    }

    /// Takes what has expired out of the log. Every checkpoint that was ever signed stays provable, and so does every
    /// entry that stays. Recording goes on meanwhile, and reading; index batches and backups wait, so that the index of
    /// what is recorded during it stays in memory. The store is written anew into a second file beside it, which needs
    /// room for what stays.
    ///
    /// # Errors
    /// [`ClockFrozen`](ErrorKind::ClockFrozen) with the reason and the way out; [`DiskFull`](ErrorKind::DiskFull): nothing
    /// was purged; [`InvalidInput`](ErrorKind::InvalidInput): no actor, or a store on a
    /// [`Storage`](crate::Storage) that cannot be replaced by another; [`Conflict`](ErrorKind::Conflict): the file has a
    /// second name, under which everything would stay, or nobody has confirmed a restoring yet
    /// ([`AuditLog::confirm_restored`]);
    /// [`Busy`](ErrorKind::Busy): holds and policies changed again and again meanwhile; as [`AuditLog::record`].
    pub fn purge(&self, actor: &str) -> Result<Purged> {
        let engine = self.engine();
        engine.config.process.check()?;
        engine.chain_state().check_confirmed()?;
        let actor = engine.clean(actor)?;
        replacement::check_replaceable(&engine.config.source)?;
        // What is pending becomes index rows: nothing goes that no retention column speaks of.
        let cut_off = engine.with_writer(|engine, writer| {
            let staging = Staging::new(engine, writer)?;
            let clock = staging.expiry_clock().clone();
            if !staging.is_empty() {
                engine.commit(writer, staging, |_| Ok(()))?;
            }
            clock.check()?;
            engine.settle_mark(writer)?;
            Ok(clock.now())
        })?;
        self.flush_index()?;
        // From here on no index batch is written, so that only entries are added.
        let _merging = engine.write.merging.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            if let Some(purged) = guarded(|| self.purge_once(&actor, cut_off))? {
                return Ok(purged);
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            "holds or policies were set again and again meanwhile; nothing was purged, retry",
        ))
    }

    /// One try; `None` where a hold or a policy came in between that would have kept something.
    fn purge_once(&self, actor: &str, cut_off: Timestamp) -> Result<Option<Purged>> {
        let engine = self.engine();
        let snapshot = engine.stored()?;
        let reviewed = self.reviewed_grants()?;
        let Planned { plan, days, chain_state } = plan(engine, &snapshot, cut_off, snapshot.state.indexed, reviewed)?;
        let record = plan.record(actor, chain_state.history()?)?;
        let bytes_before = engine.bytes()?;
        let nothing = Purged {
            purged: 0,
            kept_by_hold: plan.kept_by_hold,
            bytes_before,
            bytes_after: bytes_before,
            seq: None,
            classes: BTreeMap::new(),
        };
        if plan.expired.is_empty() {
            return Ok(Some(nothing));
        }
        let cut = PurgeSet {
            gone: engine.purged().union(&plan.expired),
            taken: plan.expired.clone(),
            sizes: sizes(engine, &snapshot)?,
            cells: self.cells(&snapshot, &plan, days)?,
        };
        drop(snapshot);
        let (replacement, fresh) = Replacement::make(&engine.config.source, &chain_state, &engine.config.settings)?;
        let noting = Noting::start(engine);
        let written = engine.replace(&replacement, fresh, &cut, &record, &chain_state);
        drop(noting);
        let Some(seq) = written? else { return Ok(None) };
        let (purged, classes) = (plan.expired.len(), plan.classes());
        Ok(Some(Purged { purged, bytes_after: engine.bytes()?, seq: Some(seq), classes, ..nothing }))
    }

    /// The rollups of the tools and days from which calls go, without those.
    fn cells(
        &self,
        snapshot: &Snapshot,
        plan: &PurgePlan,
        days: BTreeMap<(String, i32), u64>,
    ) -> Result<BTreeMap<(u64, i32), Option<Vec<u8>>>> {
        let mut cells = BTreeMap::new();
        for ((tool, day), going) in days {
            let Some(term) = snapshot.term_id(Facet::Tool, &tool)? else { continue };
            let mut calls = None;
            snapshot.rollups(Some(term), day..day + 1, &mut |_, _, old| calls = Some(old.calls))?;
            let Some(calls) = calls else { continue };
            if calls <= going {
                cells.insert((term, day), None);
                continue;
            }
            // Some of the day's calls stay: they are counted anew, since a maximum cannot be taken back.
            let query = Query::new().kind(Kind::ToolCall).tool(&tool);
            let query = query.since(Timestamp::start_of_day(day)).until(Timestamp::start_of_day(day + 1));
            let mut cell = Cell::default();
            for entry in self.query_held(&query)? {
                let entry = entry?;
                let Some(call) = entry.call() else { continue };
                if entry.seq >= snapshot.state.indexed || plan.expired.contains(entry.seq) || !call.is_counted() {
                    continue;
                }
                let user = snapshot.term_id(Facet::User, &call.user_id)?.unwrap_or_default();
                let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
                cell.add(user, success, call.duration_nanos());
            }
            let cell = if cell.calls == 0 { None } else { Some(cell.encode()?) };
            cells.insert((term, day), cell);
        }
        Ok(cells)
    }
}

/// What a purge would take, and what it follows from.
struct Planned {
    plan: PurgePlan,
    /// By tool and day, how many calls go.
    days: BTreeMap<(String, i32), u64>,
    chain_state: Arc<ChainState>,
}

/// What has expired of the entries below `end`.
fn plan(
    engine: &Engine,
    snapshot: &Snapshot,
    cut_off: Timestamp,
    end: u64,
    reviewed: BTreeSet<u64>,
) -> Result<Planned> {
    let chain_state = engine.chain_state();
    let history = chain_state.history()?;
    let aliases = engine.aliases();
    let mut planner = Planner::new(cut_off, &chain_state.holds, history).named(&aliases).reviewed(reviewed);
    let mut days: BTreeMap<(String, i32), u64> = BTreeMap::new();
    let mut batches = Vec::new();
    snapshot.scan_batches(&mut |first, end, seq| {
        batches.push((first, end, seq));
        Ok(())
    })?;
    let mut consider = |planner: &mut Planner<'_>, seq: u64| -> Result<()> {
        let Some(found) = snapshot.checked(seq)? else { return Ok(()) };
        let body = found.body;
        if planner.consider(seq, &body) == crate::retention::Fate::Expired
            && let Content::Call(call) = &body.content
            && call.is_counted()
        {
            *days.entry((call.tool_name.clone(), call.timestamp.day())).or_default() += 1;
        }
        Ok(())
    };
    for (first, end, seq) in batches {
        // The column tells which entries may have expired without reading any.
        let column = snapshot.column(first)?;
        let column =
            column.ok_or_else(|| Error::damaged(format!("the retention column of batch {first} is missing")))?;
        // R75: what it says of an entry that has expired decides whether that is looked at.
        if column.rows.len() as u64 != end - first
            || column.root() != snapshot.named_batch(first, end, seq)?.column_root
        {
            let message = format!(
                "the retention column of entries {first} to {} is not the one that entry {seq} names: it was changed; `verify` \
                 says more",
                end - 1
            );
            return Err(Error::damaged(message));
        }
        for (seq, &row) in (first..end).zip(&column.rows) {
            let Some((class, until)) = column.retention(row) else { continue };
            let retention = Retention {
                class: class.to_owned(),
                until: Timestamp::from_nanos(until.saturating_mul(1_000_000_000)),
            };
            let until = history.effective_until(seq, &retention);
            if until <= cut_off { consider(&mut planner, seq)? } else { planner.stays(&retention.class, until) }
        }
    }
    for seq in snapshot.state.indexed..end {
        consider(&mut planner, seq)?;
    }
    let plan = planner.finish();
    Ok(Planned { plan, days, chain_state })
}

/// Every size that was ever signed and handed out, the key file's mark among them ([`Engine::settle_mark`]).
fn sizes(engine: &Engine, snapshot: &Snapshot) -> Result<Vec<u64>> {
    let mut sizes = Vec::new();
    snapshot.scan_checkpoints(&mut |size, _| {
        sizes.push(size);
        Ok(())
    })?;
    sizes.extend(engine.chain_state().rotation_roots().map(|(size, _)| size));
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

/// Changes of the small tables are noted for as long as this lives.
struct Noting<'a>(&'a Engine);

impl Noting<'_> {
    fn start(engine: &Engine) -> Noting<'_> {
        *engine.write.changes.lock().unwrap_or_else(PoisonError::into_inner) = Some(Changes::default());
        Noting(engine)
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        *self.0.write.changes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// How the turn at the end went.
enum Last {
    /// The new file is the store's. The old database, which is closed when the turn is over.
    Done(u64, Option<Arc<DatabaseHandle>>),
    /// Too much came in meanwhile.
    Again,
    /// A hold was placed or a policy set since the plan was made.
    Overtaken,
}

impl Engine {
    /// Bytes of the store's file.
    fn bytes(&self) -> Result<u64> {
        match &self.config.source {
            Source::File(path) => Ok(std::fs::metadata(path)?.len()),
            Source::Storage(storage) => storage::length(&**storage),
        }
    }

    /// What the file holds, and what was noted until then.
    fn moment(&self) -> Result<(Snapshot, Changes)> {
        let noted = self.write.changes.lock().unwrap_or_else(PoisonError::into_inner).replace(Changes::default());
        Ok((self.stored()?, noted.unwrap_or_default()))
    }

    /// Writes the store anew without what is cut, records the purge in it, and puts it in the old one's place.
    fn replace(
        &self,
        replacement: &Replacement,
        fresh: DatabaseHandle,
        cut: &PurgeSet,
        record: &PurgeRecord,
        basis: &ChainState,
    ) -> Result<Option<u64>> {
        let snapshot = self.with_writer(|engine, writer| {
            engine.seal(writer)?;
            Ok(engine.moment()?.0)
        })?;
        let mut at = Rewriter { to: &fresh, cut }.copy(&snapshot)?;
        drop(snapshot);
        let fresh = Arc::new(fresh);
        let anew = Rewriter { to: &fresh, cut };
        for round in 0.. {
            // With the turn, so that what is noted is in the snapshot.
            let (snapshot, changes) = self.with_writer(|engine, _| engine.moment())?;
            let grown = snapshot.state.sealed - at.sealed;
            let before = at;
            at = anew.catch_up(&snapshot, &changes, before, false)?;
            drop(snapshot);
            if grown > LAST_STEP && round < ROUNDS {
                continue;
            }
            let patient = round < ROUNDS;
            match self.with_writer(|engine, writer| {
                engine.last_step(writer, replacement, (&anew, &fresh), at, patient, record, basis)
            })? {
                Last::Done(seq, old) => {
                    drop(old);
                    return Ok(Some(seq));
                }
                Last::Again => {}
                Last::Overtaken => return Ok(None),
            }
        }
        Ok(None)
    }

    /// With the turn: the new file gets the last entries and the purge's own, and becomes the store. If anything fails the
    /// old one goes on.
    #[allow(clippy::too_many_arguments, reason = "what a purge has worked out before it takes the turn")]
    fn last_step(
        &self,
        writer: &mut WriterState,
        replacement: &Replacement,
        (anew, fresh): (&Rewriter<'_>, &Arc<DatabaseHandle>),
        at: Reached,
        patient: bool,
        record: &PurgeRecord,
        basis: &ChainState,
    ) -> Result<Last> {
        let chain_state = self.chain_state();
        let placed = chain_state.holds.iter().any(|(id, _)| basis.holds.get(id).is_none());
        if placed || chain_state.history()?.current_seq() != basis.history()?.current_seq() {
            return Ok(Last::Overtaken);
        }
        let (newest, changes) = self.moment()?;
        if patient && (changes.any || newest.state.sealed - at.sealed > LAST_STEP) {
            self.note(|later| *later = changes);
            return Ok(Last::Again);
        }
        anew.catch_up(&newest, &changes, at, true)?;
        #[cfg(debug_assertions)]
        anew.check_small(&newest)?;
        let mut staging = Staging::new(self, writer)?;
        let detail = record.to_json().as_object().cloned().unwrap_or_else(Object::new);
        let receipt = staging.system_event(Kind::Purge, detail, None)?;
        let windows = self.windows_after(&newest, &anew.cut.taken, &anew.cut.gone)?;
        let taken = anew.cut.taken.encode();
        let (mut old, mut synced) = (None, Ok(()));
        let committed = self.commit_to(
            writer,
            staging,
            Some(fresh),
            |txn| {
                txn.open_table(tables::PURGES).stored()?.insert(receipt.seq, &*taken).stored()?;
                let mut senders = txn.open_table(tables::SENDERS).stored()?;
                for (id, window) in &windows {
                    senders.insert(id.as_str(), &**window).stored()?;
                }
                Ok(())
            },
            || {
                // Whoever begins to read finds the file that the path names.
                let mut database = self.read.database.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(before) = &*database {
                    before.check_file()?;
                }
                replacement.take()?;
                old = database.replace(fresh.clone());
                drop(database);
                self.write.tighten.store(true, Ordering::SeqCst);
                *self.facts.purged.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anew.cut.gone.clone());
                synced = replacement.sync();
                Ok(())
            },
        )?;
        committed.map_or(Ok(()), |committed| self.show_now(writer, committed))?;
        if let Err(e) = synced {
            // The file is there, but a power failure could bring the old one back: nothing is recorded until its name is
            // safe, which opening it anew sees to.
            writer.poison();
            return Err(e);
        }
        Ok(Last::Done(receipt.seq, old))
    }
}
