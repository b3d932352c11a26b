//! The same log in SQLite, as a good engineer would write it: WAL with `synchronous=FULL`, prepared statements, one
//! transaction per batch, indexes on conversation, user, tool, patient and timestamp, triggers that refuse updates and
//! deletions, and a SHA-256 chain over the same lines.
//!
//! It gets every call already sanitised and summarised, which attestlog does within its own time.

use attestlog::{Content, Entry, Hash, benching};
use rusqlite::{Connection, Result, Statement, params};
use std::path::Path;

/// What a query returns for each entry.
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

/// What is asked of the stores.
#[derive(Debug, Clone)]
pub enum Ask {
    Conversation(String),
    /// The newest 50 of a user.
    User(String),
    Patient(String, i64, i64),
    Time(i64, i64),
    /// The newest 50 of a user with a tool.
    UserTool(String, String),
    /// The newest 50 that failed.
    Failed,
    CountUser(String),
    CountTool(String, i64, i64),
}

/// What it is answered.
pub enum Answer {
    Rows(Vec<Row>),
    Count(u64),
}

impl Answer {
    /// How many entries were found, or counted.
    pub fn hits(&self) -> u64 {
        match self {
            Answer::Rows(rows) => rows.len() as u64,
            Answer::Count(n) => *n,
        }
    }
}

/// How the file is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub journal: &'static str,
    pub mmap: bool,
}

impl Reading {
    pub const ALL: [Reading; 4] = [
        Reading { journal: "WAL", mmap: false },
        Reading { journal: "WAL", mmap: true },
        Reading { journal: "DELETE", mmap: false },
        Reading { journal: "DELETE", mmap: true },
    ];

    pub fn text(self) -> String {
        format!("journal_mode={}, {}", self.journal, if self.mmap { "mmap of the whole file" } else { "no mmap" })
    }
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
/// Indexes made for the questions that the five do not fit; the planner then knows how selective each is. They are there
/// only while those questions are asked: nothing that is recorded pays for them.
const FITTING: &str = "
    CREATE INDEX by_patient_time ON entries (patient_id, timestamp) WHERE patient_id IS NOT NULL;
    CREATE INDEX by_user_tool ON entries (user_id, tool_name);
    CREATE INDEX by_tool_time ON entries (tool_name, timestamp);
    CREATE INDEX by_failure ON entries (outcome) WHERE outcome <> 'ok';
    ANALYZE;";
const NOT_FITTING: &str = "
    DROP INDEX IF EXISTS by_patient_time; DROP INDEX IF EXISTS by_user_tool; DROP INDEX IF EXISTS by_tool_time;
    DROP INDEX IF EXISTS by_failure; DROP TABLE IF EXISTS sqlite_stat1;";
const INSERT: &str =
    "INSERT INTO entries VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21)";

impl Sqlite {
    /// Creates or opens it.
    pub fn open(path: &Path) -> Result<Sqlite> {
        let fresh = !path.exists();
        let db = Connection::open(path)?;
        db.pragma_update(None, "page_size", 4096)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // The same size as attestlog's cache.
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

    /// Adds the indexes that fit all the questions.
    pub fn add_indexes(path: &Path) -> Result<()> {
        Sqlite::open(path)?.db.execute_batch(FITTING)
    }

    /// Takes them away again.
    pub fn drop_indexes(path: &Path) -> Result<()> {
        Sqlite::open(path)?.db.execute_batch(NOT_FITTING)
    }

    /// Opens it to be read as it is told.
    pub fn open_to_read(path: &Path, reading: Reading) -> Result<Sqlite> {
        let store = Sqlite::open(path)?;
        store.db.pragma_update(None, "journal_mode", reading.journal)?;
        store.db.pragma_update(None, "mmap_size", if reading.mmap { 1_i64 << 36 } else { 0 })?;
        Ok(store)
    }

    /// Removes all calls but one in ten, and gives the room back.
    pub fn keep_one_in_ten(&self) -> Result<()> {
        self.db.execute_batch(
            "DROP TRIGGER no_delete; PRAGMA secure_delete = ON; DELETE FROM entries WHERE seq % 10 <> 0; VACUUM;
             PRAGMA wal_checkpoint(TRUNCATE);",
        )
    }

    /// The WAL is written back after this many pages. More for bulk loads, where a page is otherwise written back
    /// often.
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

    /// Answers a question with whole rows, or with a count.
    pub fn answer(&self, ask: &Ask) -> Result<Answer> {
        match ask {
            Ask::Conversation(id) => self.rows("conversation_id = ?1 ORDER BY seq", [id]),
            Ask::User(id) => self.rows("user_id = ?1 ORDER BY seq DESC LIMIT 50", [id]),
            Ask::Patient(id, since, until) => self
                .rows("patient_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 ORDER BY seq", params![id, since, until]),
            Ask::Time(since, until) => self.rows("timestamp >= ?1 AND timestamp < ?2 ORDER BY seq", [since, until]),
            Ask::UserTool(user, tool) => {
                self.rows("user_id = ?1 AND tool_name = ?2 ORDER BY seq DESC LIMIT 50", [user, tool])
            }
            // Calls fail in one way here, so one range of the index has them all in order.
            Ask::Failed => self.rows("outcome = 'tool_error' AND outcome <> 'ok' ORDER BY seq DESC LIMIT 50", []),
            Ask::CountUser(id) => self.count("user_id = ?1", [id]),
            Ask::CountTool(tool, since, until) => {
                self.count("tool_name = ?1 AND timestamp >= ?2 AND timestamp < ?3", params![tool, since, until])
            }
        }
    }

    fn rows(&self, which: &str, values: impl rusqlite::Params) -> Result<Answer> {
        let mut query = self.db.prepare_cached(&format!("SELECT * FROM entries WHERE {which}"))?;
        let rows = query.query_map(values, row)?.collect::<Result<Vec<Row>>>()?;
        Ok(Answer::Rows(rows))
    }

    fn count(&self, which: &str, values: impl rusqlite::Params) -> Result<Answer> {
        let mut query = self.db.prepare_cached(&format!("SELECT count(*) FROM entries WHERE {which}"))?;
        query.query_row(values, |r| Ok(Answer::Count(r.get::<_, i64>(0)? as u64)))
    }

    /// Calls, successes, mean, p50, p95, p99 and users of a tool: fetched by index and added up here, which is faster
    /// than SQL aggregates with percentiles.
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
