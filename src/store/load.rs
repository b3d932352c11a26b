//! Reads a store's file into memory: the writer's state, the entries that no index batch covers yet, and the chain state that the
//! system events establish.
//!
//! Damage is noted and does not prevent opening, as long as the rest can be read: a verification reports all of it.

use crate::chain_state::ChainState;
use crate::keys::Mark;
use crate::merkle::Frontier;
use crate::retention::{ExpiryClock, SeqSet};
use crate::rows::BATCH;
use crate::store::engine::keyring::Signed;
use crate::store::engine::mem_index::MemSegment;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::{Damage, DatabaseHandle};
use crate::store::file::redb_errors::Stored;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::tail_row::TailRow;
use crate::store::read::snapshot::Snapshot;
use crate::{Entry, Error, ErrorKind, Kind, Result, Timestamp};
use attestlog_proof::entry::{Body, Content, Phase, SystemEvent};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The result of reading the file.
pub(crate) struct Loaded {
    pub writer: WriterState,
    pub mem_segments: Vec<Arc<MemSegment>>,
    pub chain_state: ChainState,
    pub purged: SeqSet,
    /// The recording time of the newest entry that no index batch covers.
    newest: Timestamp,
}

impl Loaded {
    /// The state of a new, empty store.
    pub(crate) fn nothing(writer: WriterState) -> Loaded {
        Loaded {
            writer,
            mem_segments: Vec::new(),
            chain_state: ChainState::default(),
            purged: SeqSet::new(),
            newest: Timestamp::MIN,
        }
    }

    /// Checks the row of the expiry clock, which anybody with write access to the file can change, against the recording
    /// times of the newest entries and of those before the system clock was set back (R77).
    pub(crate) fn hold_clock(&mut self, snapshot: &Snapshot, wall: Timestamp) -> Result<()> {
        let Some((_, policies)) = &self.chain_state.policies else { return Ok(()) };
        let writer = &mut self.writer;
        let mut seqs = snapshot.system_entries(|kind| kind == Kind::Clock)?;
        // The entries that no index batch covers were just read; `newest` includes them.
        seqs.insert(writer.state.indexed);
        let before: Vec<u64> = seqs.iter().filter_map(|seq| seq.checked_sub(1)).collect();
        seqs.extend(before);
        let mut newest = self.newest;
        for seq in seqs {
            match snapshot.checked(seq) {
                Ok(Some(entry)) => newest = newest.max(entry.body.recorded_at),
                Ok(None) => {}
                // A verification reports it.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(e),
            }
        }
        let mut clock = ExpiryClock::resume(writer.state.clock.clone(), policies.retention.clock_bound());
        writer.brought_back = clock.bring_back(newest, wall);
        writer.state.clock = clock.state().clone();
        Ok(())
    }
}

/// Builds the in-memory state from the file. `signed` is what the keys, if available, last signed for this store.
pub(crate) fn load(database: &Arc<DatabaseHandle>, now: Duration, signed: Option<Signed>) -> Result<Loaded> {
    let snapshot = Snapshot::raw(database)?;
    let mut state = snapshot.state.clone();
    // The value in the state row is not covered by a signature; verification compares the two.
    state.signed = snapshot.newest_signed(state.size)?;
    let merging = state.merging.is_none_or(|end| state.indexed < end && end <= state.size);
    if state.sealed > state.size || state.indexed > state.size || state.signed > state.size || !merging {
        return Err(Error::damaged("the state of the store contradicts itself; restore a backup"));
    }
    let mut purged = SeqSet::new();
    snapshot.scan_purges(&mut |_, set| {
        purged = purged.union(&set?);
        Ok(())
    })?;
    let unreadable = check_tail(&snapshot, &purged)?;
    let frontier = Frontier::load(&snapshot, state.size).map_err(|e| match e.kind() {
        // A purge always leaves enough nodes to compute the tree.
        ErrorKind::NoSuchEntry => {
            Error::damaged("the file is damaged: entries are missing that no purge took; restore a backup")
                .with_source(e)
        }
        _ => e,
    })?;
    let mut found = Found::indexed(&snapshot, &purged, signed)?;
    let mut mem_segments: Vec<Arc<MemSegment>> = Vec::new();
    let mut recorded_at = Timestamp::MIN;
    let mut calls = OpenCalls::default();
    for seq in state.indexed..state.size {
        let body = match pending_body(&snapshot, seq) {
            Ok(body) => Some(body),
            Err(e) if e.kind() == ErrorKind::Damaged => {
                found.wrong(Damage::Entry(seq));
                None
            }
            Err(e) => return Err(e),
        };
        let newest = match mem_segments.last() {
            Some(newest) if seq < newest.from + BATCH && !(newest.is_frozen()) => newest.clone(),
            _ => {
                let newest = Arc::new(MemSegment::new(seq));
                mem_segments.push(newest.clone());
                newest
            }
        };
        recorded_at = body.iter().map(|body| body.recorded_at).fold(recorded_at, Timestamp::max);
        match &body {
            Some(body) => newest.add(std::iter::once(body)),
            None => newest.add_unreadable(),
        }
        calls.take(seq, body.as_ref());
        if let Some(Content::System(own)) = body.as_ref().map(|body| &body.content)
            && ChainState::wants(own.kind)
        {
            found.own(&snapshot, seq, own);
        }
        // An interrupted batch is continued with the same end.
        if state.merging == Some(seq + 1) {
            newest.freeze();
        }
    }
    found.reach(&snapshot, state.size);
    let whole = calls.check(&snapshot, state.indexed).and_then(|whole| snapshot.open_tables().map(|()| whole));
    if !whole.unwrap_or(false) {
        found.wrong(Damage::Tables);
    }
    let seeds = match state.size == state.cuts()?.start(state.size) {
        true => Ok(Seeds::default()),
        false => snapshot.seeds(state.cuts()?.start(state.size)),
    };
    if seeds.is_err() {
        found.wrong(Damage::Tables);
    }
    if let Some(seq) = unreadable {
        found.wrong(Damage::Entry(seq));
    }
    let mut writer = WriterState::new(state, frontier, seeds.unwrap_or_default(), now);
    let tables = || database.is_damaged().then_some(Damage::Tables);
    writer.damaged = found.damaged.or(writer.damaged).or_else(tables);
    Ok(Loaded { writer, mem_segments, chain_state: found.chain_state, purged, newest: recorded_at })
}

/// Checks that the tail has every entry that is in no segment and was not purged, and that the newest is the one that the state
/// names. Returns the first entry in it that cannot be read.
fn check_tail(snapshot: &Snapshot, purged: &SeqSet) -> Result<Option<u64>> {
    let state = &snapshot.state;
    let mut at = state.sealed;
    let (mut newest, mut unreadable) = (None, None);
    // Whether it is not known how many entries the last row has.
    let mut lost = false;
    let missing = |seq: u64| Error::damaged(format!("entry {seq} is missing from the tail; restore a backup"));
    for row in snapshot.view().tail()?.range(state.sealed..).stored()? {
        let (key, row) = row.stored()?;
        let first = key.value();
        if first < at {
            return Err(Error::damaged(format!("entry {first} is in the tail twice; restore a backup")));
        }
        if first > at && !lost && !purged.contains_range(at, first - 1) {
            return Err(missing(at));
        }
        let row = TailRow::decode(row.value());
        lost = row.is_err();
        let Ok(row) = row else {
            (at, newest, unreadable) = (first.saturating_add(1), None, unreadable.or(Some(first)));
            continue;
        };
        at = first.saturating_add(row.count());
        if at > state.cuts()?.segment(first).end {
            return Err(Error::damaged(format!("entry {first} reaches into another segment; restore a backup")));
        }
        for (seq, entry) in (first..).zip(row.entries()) {
            newest = Some(entry.hash);
            if entry.part().is_err() {
                unreadable = unreadable.or(Some(seq));
            }
        }
    }
    if at < state.size && !lost && !purged.contains_range(at, state.size - 1) {
        return Err(missing(at));
    }
    if at > state.size {
        return Err(Error::damaged(format!("the tail does not end at {}; restore a backup", state.size)));
    }
    if at == state.size && newest.is_some_and(|newest| newest != state.head) {
        return Err(Error::damaged("the newest entry is not the one that the state names; restore a backup"));
    }
    Ok(unreadable)
}

/// The calls that are begun and ended in entries that no index batch covers.
#[derive(Default)]
struct OpenCalls {
    begun: BTreeSet<u64>,
    ended: Vec<u64>,
    /// Set if an entry could not be read, so the lists may be incomplete.
    unknown: bool,
}

impl OpenCalls {
    fn take(&mut self, seq: u64, body: Option<&Body>) {
        match body.map(|body| &body.content) {
            Some(Content::Call(call)) => match call.phase {
                Phase::Begun => _ = self.begun.insert(seq),
                Phase::Finished(begun) => self.ended.push(begun),
                Phase::Whole | Phase::Detail(_) => {}
            },
            Some(Content::System(_)) => {}
            None => self.unknown = true,
        }
    }

    /// Whether the table of unfinished calls agrees.
    fn check(mut self, snapshot: &Snapshot, indexed: u64) -> Result<bool> {
        if self.unknown {
            return Ok(true);
        }
        let listed = snapshot.unfinished()?;
        let none_ended = self.ended.iter().all(|begun| !listed.contains(begun));
        self.ended.iter().for_each(|begun| _ = self.begun.remove(begun));
        Ok(none_ended && listed.range(indexed..).eq(&self.begun))
    }
}

/// The system events read so far.
struct Found {
    chain_state: ChainState,
    /// What the keys last signed; `None` once the entries up to there were read and compared.
    mark: Option<Mark>,
    /// What is wrong. The rest is still readable, and a verification reports everything.
    damaged: Option<Damage>,
}

impl Found {
    /// Reads the system events that the index in the file leads to. After the last signed entry it reads every entry, so as not to
    /// rely on the index.
    fn indexed(snapshot: &Snapshot, purged: &SeqSet, signed: Option<Signed>) -> Result<Found> {
        let mut found =
            Found { chain_state: ChainState::default(), mark: signed.map(|signed| signed.mark), damaged: None };
        let indexed = snapshot.indexed;
        let all = signed.filter(|signed| signed.is_kept).map_or(indexed, |signed| signed.mark.size.min(indexed));
        let mut own = snapshot.system_entries(ChainState::wants)?;
        let purgeable = snapshot.system_entries(ChainState::wants_purgeable)?;
        if indexed > 0 {
            // The genesis entry must be known, whatever the index contains.
            own.insert(0);
        }
        for &seq in own.range(..all) {
            match snapshot.find(seq)? {
                Some(entry) => found.take(snapshot, &entry),
                None if purgeable.contains(&seq) => {}
                None => return Err(Error::damaged(format!("entry {seq} is missing; restore a backup"))),
            }
        }
        for seq in all..indexed {
            match snapshot.find(seq) {
                Ok(Some(entry)) => {
                    found.take(snapshot, &entry);
                    if !own.contains(&seq) && ChainState::wants(entry.kind()) {
                        found.wrong(Damage::InForce);
                    }
                }
                Ok(None) if purged.contains(seq) => {}
                Ok(None) => found.wrong(Damage::Entry(seq)),
                Err(e) if e.kind() == ErrorKind::Damaged => found.wrong(Damage::Entry(seq)),
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    fn take(&mut self, snapshot: &Snapshot, entry: &Entry) {
        if snapshot.hash(entry.seq).and_then(|hash| snapshot.check_against(entry, hash)).is_err() {
            self.wrong(Damage::Entry(entry.seq));
        }
        if let Some(own) = entry.own() {
            self.own(snapshot, entry.seq, own);
        }
    }

    fn own(&mut self, snapshot: &Snapshot, seq: u64, own: &SystemEvent) {
        self.reach(snapshot, seq);
        if self.chain_state.apply(seq, own).is_err() {
            // The entry is not a valid event, or contradicts an earlier one.
            self.wrong(Damage::InForce);
        }
    }

    fn wrong(&mut self, damage: Damage) {
        self.damaged = self.damaged.or(Some(damage));
    }

    /// Compares what is in force before the entry at `seq` with what was in force when the keys last signed, once that point
    /// is reached (R60).
    fn reach(&mut self, snapshot: &Snapshot, seq: u64) {
        let Some(mark) = self.mark.take_if(|mark| mark.size <= seq) else { return };
        let signed = self.chain_state.genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some());
        if signed && self.chain_state.in_force().all != mark.in_force.all {
            // For another history the mark check fails with an explanation (K4).
            match crate::merkle::root(snapshot, mark.size) {
                Ok(root) if root != mark.root => {}
                _ => self.wrong(Damage::InForce),
            }
        }
    }
}

/// The entry at `seq`, which no index batch covers, so it cannot have been purged.
fn pending_body(snapshot: &Snapshot, seq: u64) -> Result<Body> {
    match snapshot.checked(seq)? {
        Some(found) => Ok(found.body),
        None => Err(Error::damaged(format!("entry {seq} is missing; restore a backup"))),
    }
}
