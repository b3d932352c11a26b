//! How far those who read the log behind the writer have come: up to which seq alert rules were evaluated, up to which
//! each receiver of alerts was told.
//!
//! Invariant N3: the alerts that an evaluation raised and the mark of how far it went stand in one commit, and only where
//! the mark is still where that evaluation began. So each alert is in the chain once, whatever is killed when. Invariant N9: a
//! mark beyond the log, or one that was not written with the store's keys where these are here, counts as none: then what it
//! passed over is looked at and delivered again.

use crate::json::Object;
use crate::store::engine::Engine;
use crate::store::engine::row_mac::{RowMac, Vouched};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::panic_guard::guarded;
use crate::store::file::tables::{self, Stored};
use crate::store::read::snapshot::Snapshot;
use crate::store::write::commit::Staging;
use crate::store::{engine::receipt::Receipt, log::AuditLog};
use crate::{Result, Timestamp};
use attestlog_proof::entry::{Kind, Retention};
use redb::ReadableTable;
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// What the table is called in MACs.
const TABLE: &str = "marks";
/// The one mark that is no seq, but stands for what a verification found.
pub(crate) const TAMPERING: &str = "tampering";

fn is_possible(mark: &str, at: u64, size: u64) -> bool {
    mark == TAMPERING || at <= size
}

/// A mark that is to move in a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'a> {
    pub mark: &'a str,
    /// Where it must stand for the commit to happen.
    pub from: Option<u64>,
    pub to: u64,
}

/// a system event that is to be written.
pub(crate) type Own = (Kind, Object, Option<Retention>);

impl Engine {
    /// Where a mark stands.
    pub(crate) fn mark(&self, mark: &str) -> Result<Option<u64>> {
        guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            let table = txn.open_table(tables::CURSORS).stored()?;
            let at = table.get(mark).stored()?.map(|at| at.value());
            drop(table);
            Ok(at.filter(|row| self.counts(mark, row)).map(|(at, _)| at))
        })
    }

    /// Where every mark stands.
    pub(crate) fn marks(&self) -> Result<BTreeMap<String, u64>> {
        guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            let table = txn.open_table(tables::CURSORS).stored()?;
            let rows = table.iter().stored()?;
            let mut marks = BTreeMap::new();
            for row in rows {
                let (mark, row) = row.stored().map(|(mark, at)| (mark.value().to_owned(), at.value()))?;
                if self.counts(&mark, &row) {
                    marks.insert(mark, row.0);
                }
            }
            Ok(marks)
        })
    }

    /// Whether a mark counts: it is one that the store's keys wrote, as far as they are here, and not beyond the log.
    fn counts(&self, mark: &str, (at, mac): &(u64, RowMac)) -> bool {
        let size = self.published.read().unwrap_or_else(PoisonError::into_inner).size;
        is_possible(mark, *at, size) && self.vouches(TABLE, mark.as_bytes(), &at.to_be_bytes(), mac) != Vouched::No
    }

    /// Says of each mark that cannot be what is wrong with it.
    pub(crate) fn check_marks(&self, snapshot: &Snapshot) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for row in snapshot.table(tables::CURSORS)?.iter().stored()? {
            let (mark, row) = row.stored()?;
            let (mark, (at, mac)) = (mark.value(), row.value());
            let shown: String = mark.chars().take(80).collect();
            if !is_possible(mark, at, snapshot.state.size) {
                wrong.push(format!("the mark {shown:?} stands at {at}, beyond the log"));
            } else if self.vouches(TABLE, mark.as_bytes(), &at.to_be_bytes(), &mac) == Vouched::No
                && !(mac == [0; 16] && self.chain_state().opened_without_key)
            {
                wrong.push(format!("the mark {shown:?} was not written with the store's keys"));
            }
        }
        Ok(wrong)
    }

    /// Removes a mark; says whether there was one.
    pub(crate) fn forget_mark(&self, mark: &str) -> Result<bool> {
        let there = guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            Ok(txn.open_table(tables::CURSORS).stored()?.get(mark).stored()?.is_some())
        })?;
        if !there {
            return Ok(false);
        }
        self.with_writer(|engine: &Engine, writer: &mut WriterState| {
            let staging = Staging::new(engine, writer)?;
            engine.commit(writer, staging, |txn| {
                txn.open_table(tables::CURSORS).stored()?.remove(mark).stored()?;
                Ok(())
            })?;
            Ok(true)
        })
    }

    /// Writes entries and moves marks in one commit; `None`, and nothing is written, where the first mark is not where it
    /// is said to be.
    pub(crate) fn own_with_marks(&self, entries: Vec<Own>, moves: &[Move<'_>]) -> Result<Option<Vec<Receipt>>> {
        self.with_writer(|engine: &Engine, writer: &mut WriterState| {
            if let Some(first) = moves.first()
                && engine.mark(first.mark)? != first.from
            {
                return Ok(None);
            }
            let mut staging = Staging::new(engine, writer)?;
            let receipts = entries
                .into_iter()
                .map(|(kind, detail, retention)| staging.system_event(kind, detail, retention))
                .collect::<Result<Vec<_>>>()?;
            engine.commit(writer, staging, |txn| {
                let mut table = txn.open_table(tables::CURSORS).stored()?;
                for moved in moves {
                    let mac = engine.row_mac(TABLE, moved.mark.as_bytes(), &moved.to.to_be_bytes());
                    table.insert(moved.mark, (moved.to, mac)).stored()?;
                }
                Ok(())
            })?;
            Ok(Some(receipts))
        })
    }

    /// How late it is for an open emergency grant, where a clock says that it is `now`: at least as late as it was when the
    /// grant was looked at before, by this process, and as the monotonic clock says that has passed since. So setting the system
    /// clock back gives no grant more time. It is kept for each grant, because one that is opened after a clock was set right
    /// begins with that.
    pub(crate) fn time_of_grant(&self, seq: u64, now: Timestamp) -> Timestamp {
        let ticked = self.clock.monotonic();
        let mut times = self.grant_times.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = *times.entry(seq).or_insert((now, ticked));
        let at = now.max(at.plus(ticked.saturating_sub(before)));
        times.insert(seq, (at, ticked));
        at
    }

    /// Writes what only the passing of time has to say, if there is anything: grants that ran out.
    pub(crate) fn write_expiries(&self) -> Result<()> {
        let (now, chain_state) = (self.clock.now(), self.chain_state());
        if !chain_state.open_grants.iter().any(|(&seq, grant)| grant.is_over(self.time_of_grant(seq, now))) {
            return Ok(());
        }
        self.with_writer(|engine, writer| {
            let staging = Staging::new(engine, writer)?;
            match staging.is_empty() {
                true => Ok(()),
                false => engine.commit(writer, staging, |_| Ok(())),
            }
        })
    }
}

impl AuditLog {
    /// Records a system event, to be kept as `retention` says. `make` sees what the writer has: the time
    /// that the entry will bear, and the later of it and the expiry clock.
    pub(crate) fn own_kept(
        &self,
        kind: Kind,
        make: impl FnOnce(&Engine, Timestamp, Timestamp) -> Result<(Object, Option<Retention>)>,
    ) -> Result<Receipt> {
        self.engine().with_writer(|engine: &Engine, writer: &mut WriterState| {
            let mut staging = Staging::new(engine, writer)?;
            // What was ahead of it (a grant that ran out) goes first, so that `make` finds it said.
            if !staging.is_empty() {
                engine.commit(writer, staging, |_| Ok(()))?;
                staging = Staging::new(engine, writer)?;
            }
            let now = staging.now;
            let base = now.max(staging.expiry_clock().now());
            let (detail, retention) = make(engine, now, base)?;
            let receipt = staging.system_event(kind, detail, retention)?;
            engine.commit(writer, staging, |_| Ok(()))?;
            Ok(receipt)
        })
    }
}
