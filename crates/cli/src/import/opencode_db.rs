//! Reads the sessions in OpenCode's database (`~/.local/share/opencode/opencode.db`), which it may have open: as lines, one session
//! in each, in the form of `opencode export`.
//!
//! The database is opened for reading only. If no process has it open, it is taken for unchangeable, so that SQLite leaves no file
//! beside it. Only tables are read: what a view computes could be without an end.

use crate::exit::Failure;
use attestlog::json::{Json, Limits, Object};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a file of SQLite begins with.
const MARK: &[u8] = b"SQLite format 3\0";

/// Whether these are the first bytes of a database.
pub fn is_database(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK)
}

/// A session while its rows are being read.
#[derive(Default)]
struct Session {
    parent: Option<String>,
    directory: Option<String>,
    /// Messages with their parts, by the ids of the messages in the order of time.
    messages: Vec<(Json, Vec<Json>)>,
}

/// All sessions, as lines of at most `limit` bytes in all.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    sessions(path, limit).map_err(|e| match e {
        Trouble::Sql(e) => Failure::Input(format!("{}: cannot be read as OpenCode's database: {e}", path.display())),
        Trouble::NotOne => Failure::Input(format!("{}: is a database, and not OpenCode's", path.display())),
        Trouble::TooLarge => Failure::Input(format!("{}: has more than {limit} bytes of sessions", path.display())),
    })
}

enum Trouble {
    Sql(rusqlite::Error),
    NotOne,
    TooLarge,
}

impl From<rusqlite::Error> for Trouble {
    fn from(e: rusqlite::Error) -> Trouble {
        Trouble::Sql(e)
    }
}

fn sessions(path: &Path, limit: usize) -> Result<Vec<u8>, Trouble> {
    let log = open(path)?;
    for table in ["message", "part"] {
        let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1 AND sql LIKE 'CREATE TABLE%'";
        let count: i64 = log.query_row(sql, [table], |row| row.get(0))?;
        if count == 0 {
            return Err(Trouble::NotOne);
        }
    }
    let (mut all, mut order) = (BTreeMap::<String, Session>::new(), Vec::new());
    let mut left = limit;
    // Older databases have no table of sessions, and columns come and go.
    let described = log.prepare("SELECT id, parent_id, directory FROM session ORDER BY time_created, id");
    if let Ok(mut described) = described {
        let mut rows = described.query([])?;
        while let Some(row) = rows.next()? {
            let kept = |column: usize| text(row, column).map(|text| Some(text).filter(|text| !text.is_empty()));
            let (id, parent, directory) = (text(row, 0)?, kept(1)?, kept(2)?);
            order.push(id.clone());
            all.insert(id, Session { parent, directory, messages: Vec::new() });
        }
    }
    let mut at = BTreeMap::<String, (String, usize)>::new();
    let mut said = log.prepare("SELECT id, session_id, data FROM message ORDER BY time_created, id")?;
    let mut rows = said.query([])?;
    while let Some(row) = rows.next()? {
        let (id, session, data) = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
        left = left.checked_sub(data.len()).ok_or(Trouble::TooLarge)?;
        let of = all.entry(session.clone()).or_insert_with(|| {
            order.push(session.clone());
            Session::default()
        });
        at.insert(id.clone(), (session.clone(), of.messages.len()));
        of.messages.push((with(&data, [("id", &id), ("sessionID", &session)]), Vec::new()));
    }
    let mut orphans = Vec::new();
    let mut did = log.prepare("SELECT id, message_id, session_id, data FROM part ORDER BY time_created, id")?;
    let mut rows = did.query([])?;
    while let Some(row) = rows.next()? {
        let (id, message, session, data) = (text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?);
        left = left.checked_sub(data.len()).ok_or(Trouble::TooLarge)?;
        let part = with(&data, [("id", &id), ("messageID", &message)]);
        let place = at.get(&message).and_then(|(session, index)| all.get_mut(session)?.messages.get_mut(*index));
        match place {
            Some((_, parts)) => parts.push(part),
            // Its message is gone.
            None => {
                let alone = Json::from(Object::from_iter([("id", message.as_str()), ("sessionID", session.as_str())]));
                all.entry(session.clone()).or_default().messages.push((alone, vec![part]));
                orphans.push(session);
            }
        }
    }
    // A session that is in the order already is written once.
    order.append(&mut orphans);
    Ok(lines(order, all))
}

/// The text in a row's column. SQLite keeps a value of any type in any column: bytes are read as text as far as they are one, and of
/// nothing the text is empty.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    })
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-wal");
    let is_open = PathBuf::from(beside).exists();
    // In a URI a few characters mean something.
    let name: String = path.to_string_lossy().chars().fold(String::new(), |name, c| match c {
        '%' => name + "%25",
        '?' => name + "%3f",
        '#' => name + "%23",
        c => name + c.encode_utf8(&mut [0; 4]),
    });
    let more = if is_open { "" } else { "&immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let log = Connection::open_with_flags(format!("file:{name}?mode=ro{more}"), flags)?;
    log.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(log)
}

/// The object in a row's data, with what its columns say; what is no object is kept as it is, for the reader to report.
fn with<const N: usize>(data: &str, columns: [(&str, &str); N]) -> Json {
    match Json::parse_lenient(data.as_bytes(), &Limits::bytes(data.len())).map(|parsed| parsed.value) {
        Ok(Json::Object(mut members)) => {
            for (key, value) in columns {
                members.insert(key, value);
            }
            Json::Object(members)
        }
        _ if data.trim().is_empty() => Json::from(Object::from_iter([("toolCall", "a row without data")])),
        _ => Json::from(Object::from_iter([("toolCall", data)])),
    }
}

fn lines(order: Vec<String>, mut all: BTreeMap<String, Session>) -> Vec<u8> {
    let mut out = Vec::new();
    for id in order {
        let Some(session) = all.remove(&id) else { continue };
        let mut info = Object::from_iter([("id", Json::from(id)), ("parentID", Json::from(session.parent))]);
        info.insert("directory", Json::from(session.directory));
        let message = |(info, parts): (Json, Vec<Json>)| {
            Json::from(Object::from_iter([("info", info), ("parts", Json::Array(parts))]))
        };
        let messages = Json::Array(session.messages.into_iter().map(message).collect());
        let line = Json::from(Object::from_iter([("info", Json::from(info)), ("messages", messages)]));
        out.extend_from_slice(line.to_canonical().as_str().as_bytes());
        out.push(b'\n');
    }
    out
}
