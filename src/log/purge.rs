//! Purging: expired entries are removed from the log, and every proof stays valid.
//!
//! Invariant X3: no entry is removed unless it has expired by the expiry clock under every policy so far, and no entry that a hold
//! covers is removed. Invariant X4: until the new file has been renamed over the old one, the store is as before the purge; from
//! then on it is as after. A crash or a full disk in between leaves a file beside the store that the next purge or open removes.

use crate::chain_state::ChainState;
use crate::json::{Json, Object};
use crate::query::Query;
use crate::retention::{Planner, PurgePlan, PurgeRecord};
use crate::store::engine::Engine;
use crate::store::engine::changes::Changes;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::replacement::{self, Replacement};
use crate::store::file::storage;
use crate::store::file::tables;
use crate::store::layout::rollup::Cell;
use crate::store::log::OpenStore;
use crate::store::maintain::rewrite::{PurgeSet, Reached, Rewriter};
use crate::store::options::Source;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Kind, Result, Timestamp};
use attestlog_proof::entry::{Facet, Outcome, Retention, Trigger};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// The most entries that may remain for the last catch-up, which holds the writer lock.
const LAST_STEP: u64 = 512;
/// After this many rounds of catching up, the rest is copied while holding the writer lock, however much it is.
const ROUNDS: usize = 32;
/// How often a purge starts over because a hold was placed or a policy set meanwhile.
const TRIES: usize = 3;

/// The result of a purge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many entries were removed.
    pub purged: u64,
    /// How many expired entries were kept because of holds.
    pub kept_by_hold: u64,
    /// Size of the store before, in bytes.
    pub bytes_before: u64,
    /// Size of the store after, in bytes.
    pub bytes_after: u64,
    /// The seq of the purge's entry; `None` if nothing had expired, or for a dry run.
    pub seq: Option<u64>,
    /// How many entries of each class were removed.
    pub classes: BTreeMap<String, u64>,
}

impl Purged {
    /// `{"purged","kept_by_hold","bytes_before","bytes_after","purge_seq","classes":{…}}`
    pub fn to_json(&self) -> Json {
        Object::from_iter([
            ("purged", self.purged.form()),
            ("kept_by_hold", self.kept_by_hold.form()),
            ("bytes_before", self.bytes_before.form()),
            ("bytes_after", self.bytes_after.form()),
            ("purge_seq", self.seq.form()),
            ("classes", self.classes.form()),
        ])
        .into()
    }

    fn from_json(value: &Json) -> Result<Purged> {
        let mut members = Members::of(value)?;
        Ok(Purged {
            purged: member(&mut members, "purged")?,
            kept_by_hold: member(&mut members, "kept_by_hold")?,
            bytes_before: member(&mut members, "bytes_before")?,
            bytes_after: member(&mut members, "bytes_after")?,
            seq: member(&mut members, "purge_seq")?,
            classes: member(&mut members, "classes")?,
        })
    }
}

attestlog_proof::json_form!(methods Purged);

impl OpenStore {
    /// What a purge would remove now. Changes nothing.
    pub(crate) fn plan_purge(&self) -> Result<PurgePlan> {
        let engine = self.engine();
        engine.writer().damaged.map_or(Ok(()), |damage| Err(damage.refusal()))?;
        let status = self.clock_status()?;
        status.check()?;
        let snapshot = engine.stored()?;
        let grants = (self.reviewed_grants()?, self.parts()?);
        guarded(|| Ok(plan(engine, &snapshot, status.now, snapshot.size, grants)?.plan))
    }

    /// Removes expired entries from the log. Every checkpoint ever signed and every remaining entry stays provable. Recording and
    /// reading continue meanwhile; index batches and backups wait, so the index of entries recorded during the purge stays in
    /// memory. The store is rewritten to a second file beside it, which needs disk space for all remaining entries.
    pub(crate) fn purge(&self, actor: &str) -> Result<Purged> {
        let engine = self.engine();
        engine.config.process.check()?;
        engine.chain_state().check_confirmed()?;
        let actor = engine.clean(actor)?;
        replacement::check_replaceable(&engine.config.source)?;
        // Pending entries become index rows first: only entries in a retention column can be purged.
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
        // No index batch is written while this lock is held, so entries are only added.
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

    /// One attempt; `None` if a hold or a policy came in between that would have kept an entry.
    fn purge_once(&self, actor: &str, cut_off: Timestamp) -> Result<Option<Purged>> {
        let engine = self.engine();
        let snapshot = engine.stored()?;
        let grants = (self.reviewed_grants()?, self.parts()?);
        let Planned { plan, days, chain_state } = plan(engine, &snapshot, cut_off, snapshot.state.indexed, grants)?;
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

    /// Pairs of an entry and the one that it belongs to: calls, and the ends of grants, with the emergency grant that they name;
    /// late answers, details and further patients with their call. The ends of calls are not included.
    pub(crate) fn parts(&self) -> Result<BTreeSet<(u64, u64)>> {
        let (mut parts, mut grants) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.query_held(&Query::new().kind(Kind::BreakGlassOpened).kind(Kind::BreakGlassClosed))? {
            let entry = entry?;
            let Some(own) = entry.own() else { continue };
            match own.kind {
                Kind::BreakGlassOpened => _ = grants.insert(entry.seq),
                _ => {
                    let grant = own.detail.to_json().get("grant").and_then(Json::as_u64);
                    parts.extend(grant.map(|grant| (entry.seq, grant)));
                }
            }
        }
        for entry in self.query_held(&Query::new().emergency())? {
            let entry = entry?;
            // A call may name any entry as its grant.
            let grant = entry.call().and_then(|call| call.grant).filter(|grant| grants.contains(grant));
            parts.extend(grant.map(|grant| (entry.seq, grant)));
        }
        parts.append(&mut self.additions()?);
        Ok(parts)
    }

    /// The late answers, details and further patients, each with the call that it adds to.
    pub(crate) fn additions(&self) -> Result<BTreeSet<(u64, u64)>> {
        let mut additions = BTreeSet::new();
        for query in [Query::new().trigger(Trigger::FollowUp), Query::new().kind(Kind::CallDetail)] {
            for entry in self.query_held(&query)? {
                let entry = entry?;
                let whole = entry.call().filter(|call| call.adds_to_call()).and_then(|call| call.part_of());
                additions.extend(whole.map(|whole| (entry.seq, whole)));
            }
        }
        Ok(additions)
    }

    /// The rollups, without the purged calls, of the tools and days that lose calls.
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
            // Some of the day's calls stay. They are counted again, since a maximum cannot be subtracted.
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

/// What a purge would remove, and the chain state on which the decision is based.
struct Planned {
    plan: PurgePlan,
    /// How many calls would be removed, by tool and day.
    days: BTreeMap<(String, i32), u64>,
    chain_state: Arc<ChainState>,
}

/// Plans the purge of the expired entries below `end`.
fn plan(
    engine: &Engine,
    snapshot: &Snapshot,
    cut_off: Timestamp,
    end: u64,
    (reviewed, parts): (BTreeSet<u64>, BTreeSet<(u64, u64)>),
) -> Result<Planned> {
    let chain_state = engine.chain_state();
    let history = chain_state.history()?;
    let aliases = engine.aliases();
    let mut planner =
        Planner::new(cut_off, &chain_state.holds, history).named(&aliases).reviewed(reviewed).joined(parts);
    let mut batches = Vec::new();
    snapshot.scan_batches(&mut |first, end, seq| {
        batches.push((first, end, seq));
        Ok(())
    })?;
    let consider = |planner: &mut Planner<'_>, seq: u64| -> Result<()> {
        if let Some(found) = snapshot.checked(seq)? {
            planner.consider(seq, &found.body);
        }
        Ok(())
    };
    for (first, end, seq) in batches {
        // The retention column shows which entries may have expired, without reading any entry.
        let column = snapshot.column(first)?;
        let column =
            column.ok_or_else(|| Error::damaged(format!("the retention column of batch {first} is missing")))?;
        // R75: the column decides whether an expired entry is looked at, so it must be the one that the batch entry names.
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
    for seq in planner.unseen() {
        if seq >= end || snapshot.exists(seq)? {
            planner.lives(seq);
        }
    }
    for seq in planner.without_end() {
        if !snapshot.is_unfinished(seq)? {
            planner.lives(seq);
        }
    }
    let (plan, days) = planner.finish_counting();
    Ok(Planned { plan, days, chain_state })
}

/// The size of every checkpoint that was ever signed and handed out, including the key file's mark ([`Engine::settle_mark`]).
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

/// Records changes of the small tables until it is dropped.
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

/// The result of the last step, which holds the writer lock.
enum Last {
    /// The new file is now the store. Carries the old database, which is closed once the writer lock is released.
    Done(u64, Option<Arc<DatabaseHandle>>),
    /// Too many changes were made meanwhile.
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

    /// A snapshot of the file, and the changes recorded until then.
    fn moment(&self) -> Result<(Snapshot, Changes)> {
        let noted = self.write.changes.lock().unwrap_or_else(PoisonError::into_inner).replace(Changes::default());
        Ok((self.stored()?, noted.unwrap_or_default()))
    }

    /// Rewrites the store without the purged entries, records the purge in the new file, and puts it in place of the old one.
    fn replace(
        &self,
        replacement: &Replacement,
        fresh: DatabaseHandle,
        cut: &PurgeSet,
        record: &PurgeRecord,
        basis: &ChainState,
    ) -> Result<Option<u64>> {
        let snapshot = self.with_writer(|engine, _| Ok(engine.moment()?.0))?;
        let mut at = Rewriter { to: &fresh, cut }.copy(&snapshot)?;
        drop(snapshot);
        let fresh = Arc::new(fresh);
        let anew = Rewriter { to: &fresh, cut };
        for round in 0.. {
            // Holds the writer lock, so that the recorded changes are in the snapshot.
            let (snapshot, changes) = self.with_writer(|engine, _| engine.moment())?;
            let grown = snapshot.state.size - at.size;
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

    /// Called with the writer lock held: adds the last entries and the purge's own entry to the new file, and makes it the store.
    /// If anything fails, the old file stays in use.
    #[allow(clippy::too_many_arguments, reason = "what a purge computed before it takes the writer lock")]
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
        if patient && (changes.any || newest.state.size - at.size > LAST_STEP) {
            self.note(|later| *later = changes);
            return Ok(Last::Again);
        }
        anew.catch_up(&newest, &changes, at, true)?;
        #[cfg(debug_assertions)]
        anew.check_carried_over(&newest)?;
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
                // Readers that start from now on use the file at the path.
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
            // The new file is in place, but a power failure could bring the old one back. Nothing is recorded until the rename is
            // durable, which reopening the file ensures.
            writer.poison();
            return Err(e);
        }
        Ok(Last::Done(receipt.seq, old))
    }
}
