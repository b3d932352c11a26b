//! The same log in SQLite, as a good engineer would write it: WAL with `synchronous=FULL`, prepared statements, one
//! transaction a batch, indexes on conversation, user, tool, patient and timestamp, triggers that refuse updates and
//! deletions, and a SHA-256 chain over the same lines.
//!
//! It gets every call sanitised and summarised already, which attestlog does within its own time.

use attestlog::{Content, Entry, Hash, benching};
use rusqlite::{Connection, Result, Statement, params};
use std::path::Path;

/// What a query gives back for each entry.
#[derive(Debug)]
#[allow(dead_code, reason = "read, as a caller would")]
pub struct Row {
    pub seq: i64,
    pub timestamp: i64,
    pub conversation_id: String,
    pub turn_number: Option<i64>,
    pub user_id: String,
    pub model: Option<String>,
    pub tool_name: String,
    pub patient_id: Option<String>,
    pub call_trigger: Option<String>,
    pub purpose: Option<String>,
    pub outcome: String,
    pub duration_ms: Option<f64>,
    pub arguments: Option<String>,
    pub result_summary: Option<String>,
    pub error: Option<String>,
    pub session_metadata: Option<String>,
    pub retention_class: String,
    pub retain_until: i64,
    pub recorded_at: i64,
    pub nonce: [u8; 16],
    pub hash: [u8; 32],
}

/// The store.
pub struct Sqlite {
    db: Connection,
    seq: u64,
    head: Hash,
    line: Vec<u8>,
}

const SCHEMA: &str = "
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, conversation_id TEXT NOT NULL, turn_number INTEGER,
        user_id TEXT NOT NULL, model TEXT, tool_name TEXT NOT NULL, patient_id TEXT, call_trigger TEXT, purpose TEXT,
        outcome TEXT NOT NULL, duration_ms REAL, arguments TEXT, result_summary TEXT, error TEXT, session_metadata TEXT,
        retention_class TEXT NOT NULL, retain_until INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
        nonce BLOB NOT NULL, hash BLOB NOT NULL);
    CREATE INDEX by_conversation ON entries (conversation_id);
    CREATE INDEX by_user ON entries (user_id);
    CREATE INDEX by_tool ON entries (tool_name);
    CREATE INDEX by_patient ON entries (patient_id) WHERE patient_id IS NOT NULL;
    CREATE INDEX by_time ON entries (timestamp);
    CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
    CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;";
const INSERT: &str =
    "INSERT INTO entries VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21)";

impl Sqlite {
    /// Makes or opens it.
    pub fn open(path: &Path) -> Result<Sqlite> {
        let fresh = !path.exists();
        let db = Connection::open(path)?;
        db.pragma_update(None, "page_size", 4096)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // As much as attestlog's cache.
        db.pragma_update(None, "cache_size", -32 * 1024)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.set_prepared_statement_cache_capacity(32);
        if fresh {
            db.execute_batch(SCHEMA)?;
        }
        let newest: (Option<i64>, Option<[u8; 32]>) =
            db.query_row("SELECT max(seq), hash FROM entries", [], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let seq = newest.0.map_or(0, |s| s as u64 + 1);
        let head = newest.1.map_or(Hash::ZERO, Hash);
        Ok(Sqlite { db, seq, head, line: Vec::with_capacity(4096) })
    }

    /// The WAL is written back after this many pages. Larger for bulk loads, where a page is otherwise written back often.
    pub fn checkpoint_pages(&self, pages: u32) -> Result<()> {
        self.db.pragma_update(None, "wal_autocheckpoint", pages)
    }

    /// Records entries in one transaction.
    pub fn record(&mut self, entries: &[Entry]) -> Result<()> {
        let transaction = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for entry in entries {
                self.line.clear();
                benching::write_line(entry, self.seq, &self.head, &mut self.line);
                self.head = Hash::leaf(&self.line);
                insert_one(&mut insert, self.seq, entry, &self.head)?;
                self.seq += 1;
            }
        }
        transaction.commit()
    }

    pub fn by_conversation(&self, id: &str) -> Result<Vec<Row>> {
        let mut query = self.db.prepare_cached("SELECT * FROM entries WHERE conversation_id = ?1 ORDER BY seq")?;
        query.query_map([id], row)?.collect()
    }

    pub fn newest_of_user(&self, id: &str) -> Result<Vec<Row>> {
        let mut query =
            self.db.prepare_cached("SELECT * FROM entries WHERE user_id = ?1 ORDER BY seq DESC LIMIT 50")?;
        query.query_map([id], row)?.collect()
    }

    pub fn of_patient(&self, id: &str, since: i64, until: i64) -> Result<Vec<Row>> {
        let mut query = self.db.prepare_cached(
            "SELECT * FROM entries WHERE patient_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 ORDER BY seq",
        )?;
        query.query_map(params![id, since, until], row)?.collect()
    }

    /// Calls, successes, mean, p50, p95, p99 and users of a tool: fetched by index, added up here, which is faster than
    /// SQL's aggregates with percentiles.
    pub fn statistics(&self, tool: &str) -> Result<(u64, u64, f64, [f64; 3], usize)> {
        let mut query = self.db.prepare_cached(
            "SELECT user_id, outcome = 'ok', duration_ms FROM entries INDEXED BY by_tool WHERE tool_name = ?1",
        )?;
        let mut rows = query.query([tool])?;
        let (mut calls, mut good, mut times) = (0, 0, Vec::new());
        let mut users = std::collections::HashSet::new();
        while let Some(row) = rows.next()? {
            calls += 1;
            good += u64::from(row.get::<_, bool>(1)?);
            times.extend(row.get::<_, Option<f64>>(2)?);
            let user = row.get_ref(0)?.as_str()?;
            if !users.contains(user) {
                users.insert(user.to_owned());
            }
        }
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        times.sort_unstable_by(f64::total_cmp);
        let at = |p: f64| times.get((p * times.len() as f64) as usize).copied().unwrap_or_default();
        Ok((calls, good, mean, [at(0.5), at(0.95), at(0.99)], users.len()))
    }

    /// Writes the WAL back and closes.
    pub fn close(self) -> Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.db.close().map_err(|(_, e)| e)
    }
}

fn insert_one(insert: &mut Statement<'_>, seq: u64, entry: &Entry, hash: &Hash) -> Result<()> {
    let body = &entry.body;
    let Content::Call(call) = &body.content else { return Ok(()) };
    let done = call.completion.as_ref();
    let (class, until) = body.retention.as_ref().map_or(("", 0), |r| (r.class.as_str(), r.until.nanos()));
    insert.execute(params![
        seq as i64,
        call.timestamp.nanos(),
        call.conversation_id,
        call.turn_number.map(|n| n as i64),
        call.user_id,
        call.model,
        call.tool_name,
        call.patient_ids.first(),
        call.trigger.map(|t| t.as_str()),
        call.purpose,
        done.map_or("", |d| d.outcome.as_str()),
        done.and_then(|d| d.duration_ms),
        call.arguments.as_ref().map(|a| a.as_str()),
        done.and_then(|d| d.result_summary.as_ref()).map(|r| r.as_str()),
        done.and_then(|d| d.error.as_ref()).map(|e| e.message.as_str()),
        call.session_metadata.as_ref().map(|m| m.as_str()),
        class,
        until,
        body.recorded_at.nanos(),
        body.nonce,
        hash.0,
    ])?;
    Ok(())
}

fn row(r: &rusqlite::Row<'_>) -> Result<Row> {
    Ok(Row {
        seq: r.get(0)?,
        timestamp: r.get(1)?,
        conversation_id: r.get(2)?,
        turn_number: r.get(3)?,
        user_id: r.get(4)?,
        model: r.get(5)?,
        tool_name: r.get(6)?,
        patient_id: r.get(7)?,
        call_trigger: r.get(8)?,
        purpose: r.get(9)?,
        outcome: r.get(10)?,
        duration_ms: r.get(11)?,
        arguments: r.get(12)?,
        result_summary: r.get(13)?,
        error: r.get(14)?,
        session_metadata: r.get(15)?,
        retention_class: r.get(16)?,
        retain_until: r.get(17)?,
        recorded_at: r.get(18)?,
        nonce: r.get(19)?,
        hash: r.get(20)?,
    })
}
