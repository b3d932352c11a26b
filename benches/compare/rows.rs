//! The same log in redb with one row per entry and one row per index entry: what a straightforward program would do.

use attestlog::{Content, Entry, Hash, benching};
use redb::{Database, Error, TableDefinition};
use std::path::Path;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const BY_TIME: TableDefinition<'_, (i64, u64), ()> = TableDefinition::new("by_time");
const INDEXES: [TableDefinition<'_, (&str, u64), ()>; 4] = [
    TableDefinition::new("by_conversation"),
    TableDefinition::new("by_user"),
    TableDefinition::new("by_tool"),
    TableDefinition::new("by_patient"),
];

/// The store.
pub struct Rows {
    db: Database,
    seq: u64,
    head: Hash,
    line: Vec<u8>,
}

impl Rows {
    pub fn create(path: &Path) -> Result<Rows, Error> {
        let db = Database::builder().set_cache_size(32 << 20).create(path)?;
        Ok(Rows { db, seq: 0, head: Hash::ZERO, line: Vec::with_capacity(4096) })
    }

    /// Records entries in one two-phase commit.
    pub fn record(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut rows = transaction.open_table(ENTRIES)?;
            let mut by_time = transaction.open_table(BY_TIME)?;
            let mut indexes = Vec::new();
            for index in INDEXES {
                indexes.push(transaction.open_table(index)?);
            }
            for entry in entries {
                let Content::Call(call) = &entry.body.content else { continue };
                self.line.clear();
                benching::write_line(entry, self.seq, &self.head, &mut self.line);
                self.head = Hash::leaf(&self.line);
                let mut row = self.head.0.to_vec();
                row.extend(benching::encode(entry).unwrap_or_default());
                rows.insert(self.seq, &*row)?;
                by_time.insert((call.timestamp.nanos(), self.seq), ())?;
                let values =
                    [Some(&call.conversation_id), Some(&call.user_id), Some(&call.tool_name), call.patient_ids.first()];
                for (index, value) in indexes.iter_mut().zip(values) {
                    if let Some(value) = value {
                        index.insert((value.as_str(), self.seq), ())?;
                    }
                }
                self.seq += 1;
            }
        }
        Ok(transaction.commit()?)
    }
}
