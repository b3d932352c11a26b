//! Cursors of those who follow the log behind the writer: up to which seq alert rules were evaluated, and up to which each
//! receiver of alerts was notified.
//!
//! Invariant N3: the alerts that an evaluation raised and the cursor that records its progress are in one commit, which
//! happens only if the cursor is still where that evaluation began. So each alert is in the chain once, whatever is killed
//! when. Invariant N9: a cursor beyond the log, or one that was not written with the store's keys if these are available,
//! counts as none: what it had passed is then evaluated and delivered again.

use crate::json::Object;
use crate::store::engine::Engine;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::row_mac::{RowMac, Vouched};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::open_table::ReadTable;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::staging::Staging;
use crate::{Result, Timestamp};
use attestlog_proof::entry::{Kind, Retention};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// The table's name in MACs.
const TABLE: &str = "marks";
/// The only cursor that is not a seq: it represents what a verification found.
pub(crate) const TAMPERING: &str = "tampering";

fn is_possible(cursor: &str, at: u64, size: u64) -> bool {
    cursor == TAMPERING || at <= size
}

/// A cursor to be moved in a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'a> {
    pub cursor: &'a str,
    /// Where it must be for the commit to happen.
    pub from: Option<u64>,
    pub to: u64,
}

/// A system event to be written.
pub(crate) type Own = (Kind, Object, Option<Retention>);

impl Engine {
    /// The position of a cursor.
    pub(crate) fn cursor(&self, name: &str) -> Result<Option<u64>> {
        guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            let table = ReadTable::open(&txn, tables::CURSORS)?;
            let at = table.get(name).stored()?.map(|at| at.value());
            drop(table);
            Ok(at.filter(|row| self.counts(name, row)).map(|(at, _)| at))
        })
    }

    /// The positions of all cursors.
    pub(crate) fn cursors(&self) -> Result<BTreeMap<String, u64>> {
        guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            let table = ReadTable::open(&txn, tables::CURSORS)?;
            let rows = table.iter().stored()?;
            let mut cursors = BTreeMap::new();
            for row in rows {
                let (name, row) = row.stored().map(|(name, at)| (name.value().to_owned(), at.value()))?;
                if self.counts(&name, &row) {
                    cursors.insert(name, row.0);
                }
            }
            Ok(cursors)
        })
    }

    /// Whether a cursor is valid: written with the store's keys, as far as they are available, and not beyond the log.
    fn counts(&self, cursor: &str, (at, mac): &(u64, RowMac)) -> bool {
        let size = self.read.published.read().unwrap_or_else(PoisonError::into_inner).size;
        is_possible(cursor, *at, size) && self.vouches(TABLE, cursor.as_bytes(), &at.to_be_bytes(), mac) != Vouched::No
    }

    /// A message for each invalid cursor.
    pub(crate) fn check_cursors(&self, snapshot: &Snapshot) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for row in snapshot.table(tables::CURSORS)?.iter().stored()? {
            let (name, row) = row.stored()?;
            let (cursor, (at, mac)) = (name.value(), row.value());
            let shown: String = cursor.chars().take(80).collect();
            if !is_possible(cursor, at, snapshot.state.size) {
                wrong.push(format!("the cursor {shown:?} stands at {at}, beyond the log"));
            } else if self.vouches(TABLE, cursor.as_bytes(), &at.to_be_bytes(), &mac) == Vouched::No
                && !(mac == [0; 16] && self.chain_state().opened_without_key)
            {
                wrong.push(format!("the cursor {shown:?} was not written with the store's keys"));
            }
        }
        Ok(wrong)
    }

    /// Removes a cursor; returns whether it existed.
    pub(crate) fn forget_cursor(&self, name: &str) -> Result<bool> {
        let there = guarded(|| {
            let txn = self.database()?.get()?.begin_read()?;
            Ok(ReadTable::open(&txn, tables::CURSORS)?.get(name).stored()?.is_some())
        })?;
        if !there {
            return Ok(false);
        }
        self.with_writer(|engine: &Engine, writer: &mut WriterState| {
            let staging = Staging::new(engine, writer)?;
            engine.commit(writer, staging, |txn| {
                txn.open_table(tables::CURSORS).stored()?.remove(name).stored()?;
                Ok(())
            })?;
            Ok(true)
        })
    }

    /// Writes entries and moves cursors in one commit; returns `None` and writes nothing if the first cursor is not at its
    /// expected position.
    pub(crate) fn record_with_cursors(&self, entries: Vec<Own>, moves: &[Move<'_>]) -> Result<Option<Vec<Receipt>>> {
        self.with_writer(|engine: &Engine, writer: &mut WriterState| {
            if let Some(first) = moves.first()
                && engine.cursor(first.cursor)? != first.from
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
                    let mac = engine.row_mac(TABLE, moved.cursor.as_bytes(), &moved.to.to_be_bytes());
                    table.insert(moved.cursor, (moved.to, mac)).stored()?;
                }
                Ok(())
            })?;
            Ok(Some(receipts))
        })
    }

    /// The current time for an open emergency grant, if the clock shows `now`: at least the time at which this process last
    /// looked at the grant, plus what has passed since by the monotonic clock. So setting the system clock back gives no
    /// grant more time. The time is kept per grant, because a grant that is opened after the clock was corrected begins with
    /// the corrected time.
    pub(crate) fn time_of_grant(&self, seq: u64, now: Timestamp) -> Timestamp {
        let ticked = self.config.clock.monotonic();
        let mut times = self.facts.grant_times.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = *times.entry(seq).or_insert((now, ticked));
        let at = now.max(at.plus(ticked.saturating_sub(before)));
        times.insert(seq, (at, ticked));
        at
    }

    /// Records what only the passing of time causes, if anything: the end of expired grants.
    pub(crate) fn write_expiries(&self) -> Result<()> {
        let (now, chain_state) = (self.config.clock.now(), self.chain_state());
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

impl OpenStore {
    /// Records a system event, with the retention that `make` returns. `make` gets the time that the entry will have, and the
    /// later of that and the expiry clock.
    pub(crate) fn own_kept(
        &self,
        kind: Kind,
        make: impl FnOnce(&Engine, Timestamp, Timestamp) -> Result<(Object, Option<Retention>)>,
    ) -> Result<Receipt> {
        self.engine().with_writer(|engine: &Engine, writer: &mut WriterState| {
            let mut staging = Staging::new(engine, writer)?;
            // Pending events (such as an expired grant) are committed first, so that `make` sees them recorded.
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
