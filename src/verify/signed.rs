//! Compares the history with what is signed, with what was kept elsewhere, and with what purges say they took.

use super::VerifyOptions;
use super::batch::Expiry;
use super::finding::{Finding, FindingKind as K};
use crate::anchor::Kept;
use crate::chain_state::ChainState;
use crate::merkle::Frontier;
use crate::note::{EpochError, SignedCheckpoint, VerifierKey};
use crate::restored::Restored;
use crate::retention::SeqSet;
use crate::store::{Engine, Series, Snapshot, guarded};
use crate::{Hash, Result, Timestamp};
use attestlog_proof::entry::Retention;
use std::collections::BTreeMap;
use std::fmt;

/// The checkpoints to compare, and the tree's roots at the sizes that are needed, collected as the tree grows.
pub(super) struct Signed<'a> {
    options: &'a VerifyOptions,
    checkpoints: Vec<(u64, Vec<u8>)>,
    /// The signed summary of all checkpoints that were ever kept in the file.
    series: Option<Vec<u8>>,
    purges: &'a BTreeMap<u64, SeqSet>,
    mark: Option<(u64, Hash)>,
    /// What is wrong with keys that were found for a store without keys.
    stray: Option<String>,
    /// All sizes whose root must still be computable after a purge.
    pub sizes: Vec<u64>,
    roots: BTreeMap<u64, Option<Hash>>,
}

/// How far a verification reaches.
#[derive(Debug, Default)]
pub(super) struct Reach {
    pub signed_size: u64,
    pub key_pinned: bool,
    pub anchored_size: u64,
    pub rewritable_from: u64,
    /// Checkpoints kept elsewhere of entries that a restore lost, as its entry says.
    pub lost_anchors: Vec<LostAnchors>,
    /// How many entries were signed by an epoch that has ended.
    closed_size: u64,
    /// The first entry that is not as it was recorded.
    changed: Option<u64>,
    pub findings: Vec<Finding>,
}

/// Checkpoints kept elsewhere of entries that the log lost by a restore. The signed entry about the restore names what
/// had been signed before it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostAnchors {
    /// The seq of the entry about the restore.
    pub restored: u64,
    /// The smallest number of entries that one of these checkpoints covers.
    pub from: u64,
    /// The largest number of entries that one of them covers.
    pub to: u64,
    /// How many checkpoints there are.
    pub count: u64,
}

impl fmt::Display for LostAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostAnchors { restored, from, to, .. } = self;
        write!(f, "restored to an older state at entry {restored}: ")?;
        match from == to {
            true => write!(f, "the anchor of {to} entries is of what was lost"),
            false => write!(f, "the anchors of {from} to {to} entries are of what was lost"),
        }
    }
}

impl<'a> Signed<'a> {
    pub(super) fn new(
        engine: &Engine,
        snapshot: &Snapshot,
        purges: &'a BTreeMap<u64, SeqSet>,
        options: &'a VerifyOptions,
    ) -> Result<Signed<'a>> {
        let mut checkpoints = Vec::new();
        snapshot.scan_checkpoints(&mut |size, note| {
            checkpoints.push((size, note.to_vec()));
            Ok(())
        })?;
        let mark = engine.keys().as_ref().and_then(|keys| keys.file.mark()).map(|mark| (mark.size, mark.root));
        // The mark does not count for a copy that is being restored: the entry about the restore says what was signed
        // beyond it.
        let mark = mark.filter(|_| !engine.config.settings.is_copy);
        let mut sizes: Vec<u64> = checkpoints.iter().map(|(size, _)| *size).collect();
        sizes.extend(engine.chain_state().rotation_roots().map(|(size, _)| size));
        sizes.sort_unstable();
        sizes.dedup();
        let mut roots: BTreeMap<u64, Option<Hash>> = sizes.iter().map(|&size| (size, None)).collect();
        roots.extend(mark.map(|(size, _)| (size, None)));
        roots.extend(options.against.iter().map(|kept| (kept.checkpoint.checkpoint().size(), None)));
        let series = snapshot.series()?;
        Ok(Signed { options, checkpoints, series, purges, mark, stray: engine.config.stray.clone(), sizes, roots })
    }

    /// All sizes whose roots are needed, ascending.
    pub(super) fn asked(&self) -> Vec<u64> {
        self.roots.keys().copied().collect()
    }

    /// Stores the tree's root if it is needed at the current size.
    pub(super) fn saw(&mut self, tree: &Frontier) {
        if let Some(root) = self.roots.get_mut(&tree.size()) {
            *root = Some(tree.root());
        }
    }

    fn root(&self, size: u64) -> Option<Hash> {
        self.roots.get(&size).copied().flatten()
    }

    /// Determines how far the history is signed and anchored, and reports what contradicts it. `changed`: the first entry that is
    /// not as it was recorded. What covers it does not agree with the store for that reason, and is no sign of another history.
    pub(super) fn judge(
        &self,
        chain_state: &ChainState,
        snapshot: &Snapshot,
        expiries: &BTreeMap<u64, BTreeMap<u64, Expiry>>,
        restored: &[Restored],
        changed: Option<u64>,
    ) -> Reach {
        let size = snapshot.size;
        let mut reach = Reach { changed, ..Reach::default() };
        let own = chain_state.genesis.as_ref().and_then(|g| g.keys.as_ref()).map(|(key, _)| key);
        let pinned = self.options.public_key.as_ref();
        match (pinned, own) {
            (Some(pinned), Some(own)) if pinned == own => reach.key_pinned = true,
            (Some(pinned), _) => {
                let own = own.map_or("no key".to_owned(), ToString::to_string);
                reach.find(K::KeyMismatch, 0, format!("the store has {own}, {pinned} was given"));
            }
            (None, _) => {}
        }
        // If a key was given from outside, only its signatures count.
        let key = pinned.or(own);
        if let Some(key) = key {
            self.checkpoints(chain_state, key, &mut reach);
            if own == Some(key) {
                self.series(key, &mut reach);
            }
        } else if let Some((size, _)) = self.checkpoints.first() {
            reach.find(K::SignatureInvalid, None, format!("a store without keys has a checkpoint of {size} entries"));
        }
        self.mark(size, chain_state, &mut reach);
        if let Some(stray) = &self.stray {
            reach.find(K::KeyMismatch, 0, stray.clone());
        }
        for kept in &self.options.against {
            self.against(kept, key, size, restored, &mut reach);
        }
        for (file, place) in &self.options.unreadable {
            let detail = format!("{file}, {place}; what it would have shown was not compared");
            reach.find(K::KeptDamaged, None, detail);
        }
        if reach.key_pinned && reach.signed_size.max(reach.anchored_size) == 0 {
            // An attacker who rewrites a log without its key keeps the key that the log states, and leaves out the
            // checkpoints.
            reach.find(K::SignatureInvalid, None, "nothing in this store was signed by the key that was given");
        }
        self.purges(chain_state, &mut reach);
        if let Err(e) = guarded(|| self.purged_in_time(chain_state, snapshot, expiries, &mut reach)) {
            reach.find(K::FileDamaged, None, e.to_string());
        }
        // Only an earlier epoch's key could sign again what it handed over at its end, and that key is destroyed. That
        // the epochs belong to this log follows from the log key alone, which must be one that the keeper of the store
        // cannot choose. A restore hands nothing over: after it, a holder of the current key file can continue from
        // anywhere. Then the last rotation among the entries counts, and what an ended epoch signed.
        let in_place = chain_state.rotation_roots().last().map_or(0, |(size, _)| size);
        let sealed = if reach.key_pinned { in_place.max(reach.closed_size) } else { 0 };
        reach.rewritable_from = reach.anchored_size.max(sealed);
        reach
    }

    fn checkpoints(&self, chain_state: &ChainState, key: &VerifierKey, reach: &mut Reach) {
        for (size, note) in &self.checkpoints {
            let signed = match SignedCheckpoint::parse(note) {
                Ok(signed) => signed,
                Err(e) => {
                    reach.find(K::SignatureInvalid, None, format!("the checkpoint of {size} entries: {e}"));
                    continue;
                }
            };
            if let Err(e) = signed.verify(key) {
                reach.find(K::SignatureInvalid, None, format!("the checkpoint of {size} entries: {e}"));
                continue;
            }
            let epoch = chain_state.succession.as_ref().map(|s| Ok((s.check(&signed)?, s.current().number())));
            let closed = match epoch.transpose() {
                Ok(epoch) => epoch.is_some_and(|(epoch, present)| epoch < present),
                Err::<_, EpochError>(e) => {
                    reach.find(K::EpochMismatch, None, format!("the checkpoint of {size} entries: {e}"));
                    continue;
                }
            };
            let checkpoint = signed.checkpoint();
            if checkpoint.size() != *size || self.root(*size) != Some(checkpoint.root()) {
                let detail = format!("the first {size} entries are not those that the checkpoint of {size} signed");
                reach.find(K::CheckpointMismatch, size.checked_sub(1), detail);
                continue;
            }
            reach.signed_size = reach.signed_size.max(*size);
            if closed {
                reach.closed_size = reach.closed_size.max(*size);
            }
        }
        for (size, root) in chain_state.rotation_roots() {
            if self.root(size) != Some(root) {
                reach.find(K::CheckpointMismatch, size, "the rotation names another root for the entries before it");
            }
        }
    }

    /// Checks that the store still holds all checkpoints that were ever kept in it (R50).
    fn series(&self, key: &VerifierKey, reach: &mut Reach) {
        let here = self.checkpoints.iter().fold(Series::new(), |series, (size, note)| series.push(*size, note));
        let said = self.series.as_deref().map(|bytes| Series::read(bytes, key));
        let wrong = match said {
            Some(Some(said)) if said == here => return,
            Some(Some(said)) if said.count != here.count => {
                format!(
                    "{} checkpoints were signed and kept, {} are present: some were removed",
                    said.count, here.count
                )
            }
            Some(Some(_)) => "the checkpoints that are here are not those that were signed and kept".to_owned(),
            Some(None) => "the record of how many checkpoints there are is not signed by the store's key".to_owned(),
            None => "the record of how many checkpoints there are was removed".to_owned(),
        };
        reach.find(K::CheckpointMismatch, None, wrong);
    }

    /// Compares the store with the mark: the last checkpoint that the key file signed.
    fn mark(&self, size: u64, chain_state: &ChainState, reach: &mut Reach) {
        let Some((marked, root)) = self.mark else { return };
        let to_do = chain_state.restored_without_keys().map_or_else(String::new, |to_do| format!("; {to_do}"));
        if marked > size {
            reach.find(
                K::Rollback,
                None,
                format!("{}{to_do}", not_here(marked, root, &"the key file has signed them")),
            );
        } else if self.root(marked) != Some(root) {
            let not = format!("the first {marked} entries are not those that the key file has signed");
            match reach.changed_below(marked) {
                Some(because) => reach.find(K::CheckpointMismatch, None, format!("{not}{because}")),
                None => reach.find(
                    K::Fork,
                    None,
                    format!("{}{to_do}", not_here(marked, root, &"the key file has signed them")),
                ),
            }
        }
    }

    fn against(&self, kept: &Kept, key: Option<&VerifierKey>, size: u64, restored: &[Restored], reach: &mut Reach) {
        let checkpoint = kept.checkpoint.checkpoint();
        let (covered, source) = (checkpoint.size(), &kept.source);
        let Some(key) = key else {
            return reach.find(K::SignatureInvalid, None, format!("{source}: the store has no key to check it with"));
        };
        if let Err(e) = kept.checkpoint.verify(key) {
            return reach.find(K::SignatureInvalid, None, format!("{source}: {e}"));
        }
        if self.root(covered) != Some(checkpoint.root())
            && let Some(seq) = self.lost_by(kept, key, restored, reach.signed_size)
        {
            return reach.lost(seq, covered);
        }
        let not_here = || {
            let lost = Signed::may_be_lost(covered, restored);
            format!("{}{lost}", not_here(covered, checkpoint.root(), &format!("{source} covers them")))
        };
        if covered > size {
            return reach.find(K::Rollback, None, not_here());
        }
        if self.root(covered) != Some(checkpoint.root()) {
            if let Some(because) = reach.changed_below(covered) {
                let detail = format!("{source}: the first {covered} entries are not those that it covers{because}");
                return reach.find(K::CheckpointMismatch, None, detail);
            }
            return reach.find(K::Fork, None, not_here());
        }
        reach.anchored_size = reach.anchored_size.max(covered);
    }

    /// The seq of the entry about the restore that lost what `kept` covers, if there is one.
    ///
    /// A restore is recorded in an entry that the store's key signs, with the size and root of what had been signed
    /// last. That entry is the first after the copy's. In a file of kept checkpoints, everything up to the record of exactly
    /// that checkpoint was kept before the restore, and so was what differs from this log before a checkpoint that agrees with
    /// it beyond the restore. What follows belongs to the log as it continued, and must agree with it. So nobody without the key
    /// can pass off as lost what was recorded later, and a holder of the key can do no more than restore a copy, which the log
    /// then says.
    ///
    /// What covers only entries that the copy has must agree with it too, unless an older copy had been restored before, and
    /// continued: then it is what the entry names, or is kept before that and after a checkpoint of this log that covers as
    /// much. By then these entries of this log were kept, so none can have been put in the place of others later.
    fn lost_by(&self, kept: &Kept, key: &VerifierKey, restored: &[Restored], signed: u64) -> Option<u64> {
        let covered = kept.checkpoint.checkpoint().size();
        let is_mark = |other: &Kept, mark: (u64, Hash)| {
            let checkpoint = other.checkpoint.checkpoint();
            (checkpoint.size(), checkpoint.root()) == mark && other.checkpoint.verify(key).is_ok()
        };
        let agrees = |other: &Kept, from: u64| {
            let checkpoint = other.checkpoint.checkpoint();
            checkpoint.size() >= from
                && self.root(checkpoint.size()) == Some(checkpoint.root())
                && other.checkpoint.verify(key).is_ok()
        };
        let same_file = |other: &&Kept| other.source.file == kept.source.file;
        let from_here = |other: &&Kept| same_file(other) && other.source.line >= kept.source.line;
        let was_here = || {
            let mut before = self.options.against.iter().filter(same_file).filter(|other| !from_here(other));
            before.any(|other| agrees(other, covered))
        };
        let lost = restored.iter().filter(|restored| restored.seq < signed).find(|restored| {
            restored.had_signed().filter(|mark| covered <= mark.0).any(|mark| {
                let mut later = self.options.against.iter().filter(from_here);
                match restored.seq < covered {
                    true => later.any(|other| is_mark(other, mark) || agrees(other, restored.seq + 1)),
                    false => is_mark(kept, mark) || later.any(|other| is_mark(other, mark)) && was_here(),
                }
            })
        });
        lost.map(|restored| restored.seq)
    }

    /// Where a kept checkpoint may be of what a restore lost, and what was given does not show it: what would.
    fn may_be_lost(covered: u64, restored: &[Restored]) -> String {
        let lost = restored.iter().find_map(|restored| {
            let (size, _) = restored.had_signed().find(|(size, _)| covered <= *size)?;
            Some((restored.seq, size))
        });
        lost.map_or_else(String::new, |(seq, size)| {
            format!(
                "; it may be of what the restore of entry {seq} lost: an anchor file that has it, and after it the checkpoint of {size} \
                 entries, would show that"
            )
        })
    }

    fn purges(&self, chain_state: &ChainState, reach: &mut Reach) {
        let mut gone = SeqSet::new();
        for (seq, record) in &chain_state.purges {
            let wrong = match self.purges.get(seq) {
                None => Some("the set of entries that it took is missing"),
                Some(set) if !record.is_of(set) => Some("the set of entries that it took is not the one that it names"),
                Some(set) if set.bounds().is_some_and(|(_, last)| last >= *seq) => {
                    Some("it names entries that were not recorded before it")
                }
                Some(set) if set.ranges().any(|(first, last)| gone.intersects(first, last)) => {
                    Some("it names entries that an earlier purge had taken")
                }
                Some(_) => None,
            };
            wrong.into_iter().for_each(|wrong| reach.find(K::PurgeMismatch, *seq, wrong));
            gone = self.purges.get(seq).map_or(gone.clone(), |set| gone.union(set));
            if chain_state.history().is_ok_and(|history| history.seq_at(*seq) != record.policy) {
                let detail = format!("it names entry {} as the policy in force, which was another", record.policy);
                reach.find(K::PurgeMismatch, *seq, detail);
            }
            // The earliest trusted time after the purge: the purge happened no later. A checkpoint of another history,
            // which a restore lost, says nothing about it.
            let agrees = |size, root| size > *seq && self.root(size) == Some(root);
            let covering = self.options.against.iter().filter(|kept| {
                let checkpoint = kept.checkpoint.checkpoint();
                agrees(checkpoint.size(), checkpoint.root())
            });
            if let Some(trusted) = covering.filter_map(|kept| kept.time).min()
                && record.cut_off > trusted
            {
                let detail = format!("its cut-off {} lies after {trusted}, by when it had happened", record.cut_off);
                reach.find(K::PurgedEarly, *seq, detail);
            }
        }
        for seq in self.purges.keys().filter(|seq| !chain_state.purges.iter().any(|(s, _)| s == *seq)) {
            reach.find(K::PurgeMismatch, *seq, "a purge is named here that the log does not know");
        }
    }

    /// Checks that every purged entry had expired when it was purged, as far as that can still be seen: the retention
    /// columns of the index batches also cover purged entries, and their roots are in the chain. There may be many more
    /// purged entries than remaining ones, so only the last entry to expire is checked for each batch and class: an
    /// entry that expires earlier never expires later under another policy (R1). If that entry had not expired, or the
    /// policy changed within the batch, the column is read again and each entry is checked.
    fn purged_in_time(
        &self,
        chain_state: &ChainState,
        snapshot: &Snapshot,
        expiries: &BTreeMap<u64, BTreeMap<u64, Expiry>>,
        reach: &mut Reach,
    ) -> Result<()> {
        let Ok(history) = chain_state.history() else { return Ok(()) };
        for (at, record) in &chain_state.purges {
            let Some(set) = self.purges.get(at) else { continue };
            if let Some(kept) = chain_state.kept_by_number.get(at) {
                for (first, _) in set.ranges().flat_map(|(first, last)| kept.ranges_within(first, last)) {
                    reach.find(
                        K::PurgedEarly,
                        first,
                        format!("a hold kept it by its number when the purge {at} took it"),
                    );
                }
            }
            let mut covered = 0;
            let mut classes: BTreeMap<String, u64> = BTreeMap::new();
            let mut batches = Vec::new();
            snapshot.scan_batches(&mut |first, end, _| {
                batches.push((first, end));
                Ok(())
            })?;
            for (start, end) in batches.into_iter().filter(|(start, end)| start < end) {
                if !set.intersects(start, end - 1) {
                    continue;
                }
                let in_time = |(class, (_, latest)): (&String, &(u64, i64))| {
                    let retention = Retention { class: class.clone(), until: seconds(*latest) };
                    history.effective_until_as_of(start, &retention, *at) <= record.cut_off
                };
                if let Some(expiry) = expiries.get(&start).and_then(|of| of.get(at))
                    && history.is_unchanged(start, end - 1)
                    && let Some(said) = expiry.classes.as_ref().filter(|said| said.iter().all(in_time))
                {
                    covered += expiry.taken;
                    for (class, (count, _)) in said {
                        *classes.entry(class.clone()).or_default() += count;
                    }
                    continue;
                }
                // A column that cannot be read was reported already.
                let Ok(Some(column)) = snapshot.column(start) else { continue };
                for seq in set.ranges_within(start, end - 1).flat_map(|(first, last)| first..=last) {
                    covered += 1;
                    let row = column.rows.get((seq - start) as usize).and_then(|row| column.retention(*row));
                    let Some((class, until)) = row else {
                        reach.find(
                            K::PurgedEarly,
                            seq,
                            format!("it was to be kept for ever, but the purge {at} took it"),
                        );
                        continue;
                    };
                    match classes.get_mut(class) {
                        Some(count) => *count += 1,
                        None => _ = classes.insert(class.to_owned(), 1),
                    }
                    let until = seconds(until);
                    let due = match history.is_unchanged(seq, *at) {
                        true => until,
                        false => {
                            let retention = Retention { class: class.to_owned(), until };
                            history.effective_until_as_of(seq, &retention, *at)
                        }
                    };
                    if due > record.cut_off {
                        let cut_off = record.cut_off;
                        let detail = format!("it was to be kept until {due}, but the purge {at} took it at {cut_off}");
                        reach.find(K::PurgedEarly, seq, detail);
                    }
                }
            }
            if covered < set.len() {
                let detail = "it took entries of which no retention column speaks".to_owned();
                reach.find(K::PurgedEarly, *at, detail);
            } else if classes != record.classes {
                let detail = "how many entries of each class it says it took is not what the retention columns say";
                reach.find(K::PurgeMismatch, *at, detail);
            }
        }
        Ok(())
    }
}

fn seconds(since: i64) -> Timestamp {
    Timestamp::from_nanos(since.saturating_mul(1_000_000_000))
}

impl Reach {
    fn lost(&mut self, restored: u64, covered: u64) {
        match self.lost_anchors.iter_mut().find(|lost| lost.restored == restored) {
            Some(lost) => {
                (lost.from, lost.to) = (lost.from.min(covered), lost.to.max(covered));
                lost.count += 1;
            }
            None => self.lost_anchors.push(LostAnchors { restored, from: covered, to: covered, count: 1 }),
        }
    }

    /// Why what covers this many entries cannot agree with the store, if one of them is not as it was recorded.
    fn changed_below(&self, size: u64) -> Option<String> {
        let changed = self.changed.filter(|changed| *changed < size)?;
        Some(format!(
            ", because entry {changed} is not as it was recorded; only once it is can be told whether there is more to it"
        ))
    }

    fn find(&mut self, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, seq, detail));
    }
}

/// Ends what is the same in a rollback and a fork of one checkpoint, whatever the file is called that has it.
pub(super) const KEPT: &str = "…) are not those of this store";

/// What a rollback and a fork say of the entries that something covers. It names no size of the store: a rollback becomes a fork when
/// the log grows, and whoever settled it need not do so again.
fn not_here(covered: u64, root: Hash, source: &dyn fmt::Display) -> String {
    let root: String = root.to_string().chars().take(32).collect();
    format!("{covered} entries (root {root}{KEPT}, which is an older copy, was cut, or has another history: {source}")
}
