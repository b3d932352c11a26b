//! Senders that number their records: the newest numbers of each, so that a repeated record is answered, not recorded again.

use crate::codec;
use crate::retention::SeqSet;
use crate::store::engine::Engine;
use crate::store::engine::encode::EncodedBatch;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::row_mac::{RowMac, Vouched};
use crate::store::file::open_table::ReadTable;
use crate::store::file::tables;
use crate::store::layout::sender_window::{Seen, Window};
use crate::store::layout::stored_entry::decode_content;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::same::{Compared, Difference};
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Place, Result};
use attestlog_proof::entry::{Content, Retention, Sender};
use std::cell::Cell;

/// The table's name in MACs.
const TABLE: &str = "senders";

/// How many entries are read to find the number that follows the last one found.
const NEXT: u64 = 256;
/// How many entries are read at most to find a number.
const SEARCHED: u64 = 16_384;

/// Whether the entry at `seq` names this sender and number; `None` if it was purged.
fn named(snapshot: &Snapshot, seq: u64, id: &str, number: u64) -> Result<Option<bool>> {
    let names = |entry: crate::Entry| {
        let sender = entry.call().and_then(|call| call.sender.as_ref());
        sender.is_some_and(|sender| sender.id == id && sender.number == number)
    };
    Ok(if seq < snapshot.state.size { snapshot.checked(seq)?.map(names) } else { Some(false) })
}

impl Engine {
    /// The receipt of the entry with this number of this sender, as the log shows it, if it is one of its newest numbers.
    pub(crate) fn recorded_under(&self, sender: &Sender) -> Result<Option<Receipt>> {
        let snapshot = self.stored()?;
        let txn = self.database()?.get()?.begin_read()?;
        let Some(bytes) = ReadTable::open(&txn, tables::SENDERS)?.bytes(&sender.id)? else { return Ok(None) };
        let Seen::At(seq) = Window::decode(&bytes)?.look(sender.number) else { return Ok(None) };
        if named(&snapshot, seq, &sender.id, sender.number)? != Some(true) {
            return Ok(None);
        }
        Ok(snapshot.checked(seq)?.map(|entry| Receipt::new(seq, entry.hash())))
    }

    /// Whether the window was written with the store's keys; matters for numbers whose entries were purged.
    pub(crate) fn window_vouched(&self, id: &str, window: &Window) -> Result<Vouched> {
        let mac = <RowMac>::try_from(window.mac.as_slice()).unwrap_or_default();
        Ok(self.vouches(TABLE, id.as_bytes(), &codec::encode(&window.recorded)?, &mac))
    }

    /// Encodes a window, with a MAC if it names purged entries.
    pub(crate) fn encode_window(&self, id: &str, window: &Window, purged: &SeqSet) -> Result<Vec<u8>> {
        let mut window = window.clone();
        window.mac.clear();
        if self.keys().is_some() && window.seqs().any(|(_, seq)| purged.contains(seq)) {
            window.mac = self.row_mac(TABLE, id.as_bytes(), &codec::encode(&window.recorded)?).to_vec();
        }
        window.encode()
    }

    /// The windows that name entries removed by a purge, as they are after it. From then on their MAC vouches for these
    /// numbers, so each number is checked against its entry once more.
    pub(crate) fn windows_after(
        &self,
        snapshot: &Snapshot,
        taken: &SeqSet,
        gone: &SeqSet,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let mut rows = Vec::new();
        snapshot.scan_senders(&mut |id, window| {
            // An unreadable window is left as it is, so that verification finds it.
            let Ok(mut window) = window else { return Ok(()) };
            if window.seqs().any(|(_, seq)| taken.contains(seq)) {
                let vouched = self.window_vouched(id, &window)? != Vouched::No;
                window.retain(|number, seq| Ok(named(snapshot, seq, id, number)?.unwrap_or(vouched)))?;
                rows.push((id.to_owned(), self.encode_window(id, &window, gone)?));
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

impl Staging<'_> {
    /// A sender's window as stored, without numbers that nothing confirms: seqs that are not recorded yet, and purged ones if
    /// the window was not written with the store's keys.
    pub(crate) fn load_window(&self, id: &str, committed: u64) -> Result<Window> {
        let engine = self.engine();
        let txn = engine.database()?.get()?.begin_read()?;
        let Some(bytes) = ReadTable::open(&txn, tables::SENDERS)?.bytes(id)? else {
            return Ok(Window::default());
        };
        let mut window = Window::decode(&bytes)?;
        let purged = engine.purged();
        let vouched = if window.seqs().any(|(_, seq)| purged.contains(seq)) {
            engine.window_vouched(id, &window)? != Vouched::No
        } else {
            true
        };
        window.retain(|_, seq| Ok(seq < committed && (vouched || !purged.contains(seq))))?;
        Ok(window)
    }

    /// Whether the entry at `seq` names this sender and number, if it is one of the `committed` ones; for a purged entry, the
    /// window's MAC was checked when the window was read (J3).
    pub(crate) fn bears_out(&self, id: &str, number: u64, seq: u64, committed: u64) -> Result<bool> {
        if seq >= committed {
            return Ok(true);
        }
        let engine = self.engine();
        Ok(named(&engine.stored()?, seq, id, number)?.unwrap_or_else(|| engine.purged().contains(seq)))
    }

    /// Finds the entry below `end` with a number that the sender's window does not remember any more. `after`: how many numbers later
    /// is the one recorded at `end`. A sender's numbers rise in the log. Repeats that follow each other are looked for behind the last
    /// one first, then it is looked for in front of `end` in steps that double, and between two of them like in a sorted list: a
    /// sender's entries may all lie at the end of a long log, or among those of others. `None` if it is not there, or would take too
    /// long to find.
    pub(crate) fn locate(&mut self, id: &str, number: u64, end: u64, after: u64) -> Result<Option<u64>> {
        let snapshot = self.engine().stored()?;
        let left = Cell::new(SEARCHED);
        // The first entry of this sender from a seq on, with its number.
        let probe = |from: u64, end: u64| -> Result<Option<(u64, u64)>> {
            for seq in from..end.min(from.saturating_add(left.get())) {
                left.set(left.get() - 1);
                let entry = snapshot.checked(seq)?;
                let sender = entry.as_ref().and_then(|entry| entry.call()?.sender.as_ref());
                if let Some(sender) = sender.filter(|sender| sender.id == id) {
                    return Ok(Some((seq, sender.number)));
                }
            }
            Ok(None)
        };
        let mut located = match self.located.get(id) {
            Some(&(before, seq)) if before < number => {
                probe(seq + 1, end.min(seq + 1 + NEXT))?.filter(|(_, found)| *found == number).map(|(seq, _)| seq)
            }
            _ => None,
        };
        let (mut low, mut high) = (0, end);
        let (mut step, mut back) = (after.max(1), true);
        while located.is_none() && low < high && left.get() > 0 {
            let from = match back {
                true => end.saturating_sub(step).min(high - 1),
                false => low + (high - low) / 2,
            };
            match probe(from, high)? {
                Some((seq, found)) if found == number => located = Some(seq),
                Some((seq, found)) if found < number => (low, back) = (seq + 1, false),
                // All from here on are later ones.
                Some(_) | None => {
                    high = from;
                    step = step.saturating_mul(2);
                }
            }
        }
        if let Some(seq) = located {
            self.located.insert(id.to_owned(), (number, seq));
        }
        Ok(located)
    }

    /// Removes numbers from a window that their entries do not confirm; returns whether there were any.
    pub(crate) fn scrub(&self, id: &str, window: &mut Window, committed: u64) -> Result<bool> {
        let before = window.recorded.len();
        window.retain(|number, seq| self.bears_out(id, number, seq, committed))?;
        Ok(window.recorded.len() < before)
    }

    /// Refuses a call under a used number whose entry, at `seq`, differs in anything that the caller gives. If the entry was
    /// purged nothing can be compared; if it was prepared under another policy, only what no policy changes.
    pub(crate) fn check_same(&self, batch: &EncodedBatch, at: usize, seq: u64, sender: &Sender) -> Result<()> {
        let (engine, Some(draft)) = (self.engine(), batch.calls.get(at)) else { return Ok(()) };
        let Content::Call(here) = decode_content::<String>(batch.content(at))? else { return Ok(()) };
        let (content, retention) = if seq >= self.committed() {
            // Both go into the same commit.
            let Some((content, retention)) = self.staged(seq, batch).zip(self.staged_retention(seq)) else {
                return Ok(());
            };
            (decode_content::<String>(content)?, retention.cloned())
        } else {
            let Some(entry) = engine.stored()?.checked(seq)? else { return Ok(()) };
            (entry.body.content, entry.body.retention)
        };
        let found = match &content {
            Content::Call(there) => {
                let rotated = engine.chain_state().pseudonym_keys.len() > 1;
                let same_policy = there.policy_seq == here.policy_seq;
                match (Compared { there, here: &here, rotated }.difference(draft.timed), &retention) {
                    (None, Some(kept)) => self.kept_otherwise(batch, at, kept, same_policy)?,
                    (found, _) => found,
                }
            }
            Content::System(_) => Some(Difference::Call(None)),
        };
        let Some(difference) = found else { return Ok(()) };
        let message = format!("number {} of this sender is entry {seq}, {difference}", sender.number);
        let mut place = Place::default();
        place.member = difference.member().map(str::to_owned);
        Err(Error::new(ErrorKind::Conflict, message).about(seq).with_place(place))
    }

    /// How the retention of an entry differs from what the call at `at` of a batch, which repeats it, asks for.
    fn kept_otherwise(
        &self,
        batch: &EncodedBatch,
        at: usize,
        kept: &Retention,
        same_policy: bool,
    ) -> Result<Option<Difference>> {
        let Some(draft) = batch.calls.get(at) else { return Ok(None) };
        let retention = &self.engine().policies().set.retention;
        let class = |asked: &String| -> Result<bool> {
            let assigned = retention.assign(batch.tool(at), draft.has_patient, Some(asked), None, self.now)?;
            Ok(assigned.class != kept.class)
        };
        let classes = draft.retention_class.as_ref().filter(|_| same_policy).map(class).transpose()?;
        let sooner = draft.retain_until.is_some_and(|until| until > kept.until);
        let member = [("retention_class", classes == Some(true)), ("retain_until", sooner)];
        let other = member.into_iter().find(|(_, other)| *other);
        Ok(other.map(|(member, _)| Difference::Call(Some(member))))
    }

    /// The receipts of a batch that was recorded before. The number of its first call is the batch's: the entries of a batch
    /// are consecutive and in one commit, so if the first is recorded, the others follow it.
    pub(crate) fn repeated(&mut self, batch: &EncodedBatch) -> Result<Option<Vec<Receipt>>> {
        let Some(first) = batch.calls.first().filter(|first| first.numbers_batch) else { return Ok(None) };
        let Some(sender) = &first.sender else { return Ok(None) };
        let Some(receipt) = self.seen(&sender.id, sender.number)? else { return Ok(None) };
        let end = receipt.seq + batch.calls.len() as u64;
        if end > self.state.size {
            return Err(Error::new(ErrorKind::Conflict, "the batch of that number was shorter"));
        }
        (receipt.seq..end).enumerate().try_for_each(|(at, seq)| self.check_same(batch, at, seq, sender))?;
        (receipt.seq..end).map(|seq| Ok(Receipt::new(seq, self.hash_at(seq)?))).collect::<Result<_>>().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::log::OpenStore;
    use crate::{Result, Sender, ToolCall};
    use attestlog_proof::entry::Phase;

    #[test]
    fn a_batch_that_is_sent_again_is_answered() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let engine = log.engine();
        let send = |number, calls: u64| {
            let one = |turn| engine.prepare(ToolCall::new("c", "u", "t").turn(turn), Phase::Whole);
            let mut batch = (0..calls).map(one).collect::<Result<Vec<_>>>()?;
            batch[0].call.sender = Some(Sender::new("s", number));
            batch[0].numbers_batch = true;
            engine.submit(batch)
        };
        let first = send(1, 100)?;
        let second = send(2, 3)?;
        assert_eq!(send(1, 100)?, first);
        assert_eq!(send(2, 3)?, second);
        assert_eq!(log.size(), second[2].seq + 1);
        // Another batch under that number is the sender's mistake.
        assert!(send(2, 4).is_err());
        Ok(())
    }
}
