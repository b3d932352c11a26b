//! The columns in which entries are listed, and what stands in them.

use super::query::{outcome, treated};
use super::render::{self, Out, Style, brief, clean, clean_json};
use super::table::{self, Cell, left, right, whole};
use super::zone::Zone;
use attestlog::entry::CLAIMED_TIME_BOUND;
use attestlog::{Call, Entry};
use std::borrow::Cow;

/// The maximum number of characters of an entry that is not about a call; `--json` shows all of it.
const MOST: usize = 300;
/// From this many columns of the terminal on, a row has room for the conversation.
const WIDE: usize = 120;

macro_rules! columns {
    ($($variant:ident $name:literal $title:expr;)*) => {
        /// A column of a list of entries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Column { $($variant,)* }

        impl Column {
            /// All of them.
            pub const ALL: &[Column] = &[$(Column::$variant,)*];

            /// Its name in `--columns`.
            pub const fn name(self) -> &'static str {
                match self { $(Column::$variant => $name,)* }
            }

            fn head(self) -> table::Column {
                match self { $(Column::$variant => $title,)* }
            }
        }
    };
}

columns! {
    Seq "seq" right("SEQ");
    Time "time" whole("TIME");
    Recorded "recorded" whole("RECORDED");
    Conversation "conversation" left("CONVERSATION");
    Turn "turn" right("TURN");
    User "user" left("USER");
    Role "role" left("ROLE");
    Agent "agent" left("AGENT");
    Model "model" left("MODEL");
    Server "server" left("SERVER");
    Tool "tool" left("TOOL");
    Outcome "outcome" whole("OUTCOME");
    Took "took" right("TOOK");
    Error "error" left("ERROR");
    Patient "patient" left("PATIENT");
    Purpose "purpose" left("PURPOSE");
    Resource "resource" left("RESOURCE");
    Trace "trace" left("TRACE");
    Arguments "arguments" left("ARGUMENTS");
    With "with" left("WITH");
}

/// Parses the name of a column.
pub fn column(name: &str) -> Result<Column, String> {
    let found = Column::ALL.iter().copied().find(|column| column.name() == name.trim().to_ascii_lowercase());
    found.ok_or_else(|| {
        let all: Vec<&str> = Column::ALL.iter().map(|column| column.name()).collect();
        format!("there are the columns {}", all.join(", "))
    })
}

/// How entries are listed.
#[derive(Debug, Clone)]
pub struct Rows {
    columns: Vec<Column>,
    zone: Zone,
}

impl Rows {
    /// Lists entries in these columns or, if there are none, in those that most people need.
    pub fn new(columns: &[Column], zone: Zone, out: &Out) -> Rows {
        use Column::*;
        let columns = match (columns, out.width()) {
            ([], Some(width)) if width < WIDE => vec![Seq, Time, User, Tool, Outcome, Took, With],
            ([], _) => vec![Seq, Time, Conversation, User, Tool, Outcome, Took, With],
            (columns, _) => columns.to_vec(),
        };
        Rows { columns, zone }
    }

    /// The columns of the table.
    pub fn head(&self) -> Vec<table::Column> {
        let zone = self.zone.name();
        let head = |column: &Column| {
            let head = column.head();
            match column {
                Column::Time | Column::Recorded => {
                    table::Column { title: Cow::Owned(format!("{} ({zone})", head.title)), ..head }
                }
                _ => head,
            }
        };
        self.columns.iter().map(head).collect()
    }

    /// The row of an entry.
    pub fn row(&self, entry: &Entry) -> Vec<Cell> {
        self.columns.iter().map(|column| self.cell(*column, entry)).collect()
    }

    fn cell(&self, column: Column, entry: &Entry) -> Cell {
        let plain = |text: String| (text, Style::Plain);
        match column {
            Column::Seq => return (entry.seq.to_string(), Style::Dim),
            Column::Time => return plain(self.zone.moment(entry.timestamp())),
            Column::Recorded => return plain(self.zone.moment(entry.body.recorded_at)),
            _ => {}
        }
        match (entry.call(), entry.own()) {
            (Some(call), _) => of_call(column, entry, call),
            (None, Some(own)) => match column {
                Column::Tool => (own.kind.to_string(), Style::Warn),
                Column::User => plain("·".to_owned()),
                // A whole policy is longer than anybody reads in a table.
                Column::With => plain(render::cut(&brief(&own.detail.to_json()), MOST)),
                _ => plain(String::new()),
            },
            (None, None) => plain(String::new()),
        }
    }
}

fn of_call(column: Column, entry: &Entry, call: &Call) -> Cell {
    let ended = call.completion.as_ref();
    let maybe = |text: &Option<String>| text.as_deref().map(clean).unwrap_or_default();
    let text = match column {
        Column::Conversation => clean(&call.conversation_id),
        Column::Turn => call.turn_number.map(|turn| turn.to_string()).unwrap_or_default(),
        Column::User => clean(&call.user_id),
        Column::Role => maybe(&call.user_role()),
        Column::Agent => maybe(&call.agent_id),
        Column::Model => maybe(&call.model),
        Column::Server => maybe(&call.tool_server),
        Column::Tool => clean(&call.tool_name),
        Column::Outcome => return outcome(call),
        Column::Took => call.duration_ms().map(render::duration).unwrap_or_default(),
        Column::Error => return (error(call).unwrap_or_default(), Style::Bad),
        Column::Patient => call.patient_ids.iter().map(|id| clean(id)).collect::<Vec<_>>().join(", "),
        Column::Purpose => maybe(&call.purpose),
        Column::Resource => {
            let resources = call.circumstances.iter().flat_map(|around| &around.resources);
            resources.map(|resource| clean(&resource.name)).collect::<Vec<_>>().join(", ")
        }
        Column::Trace => call.circumstances.as_ref().map(|around| maybe(&around.trace_id)).unwrap_or_default(),
        Column::Arguments => call.arguments.as_ref().map(|a| brief(&a.to_json())).unwrap_or_default(),
        Column::With => with(entry, call),
        Column::Seq | Column::Time | Column::Recorded => String::new(),
    };
    let style = if column == Column::Took && ended.is_none() { Style::Dim } else { Style::Plain };
    (text, style)
}

/// What the error says, with its type; `None` without an error.
fn error(call: &Call) -> Option<String> {
    let error = call.completion.as_ref()?.error.as_ref()?;
    let kind = error.kind.as_deref().filter(|kind| !kind.is_empty() && !error.message.starts_with(*kind));
    let said: Vec<String> =
        kind.into_iter().chain([error.message.as_str()]).filter(|s| !s.is_empty()).map(clean_json).collect();
    Some(if said.is_empty() { "(no message)".to_owned() } else { said.join(": ") })
}

/// The details of a call: what it is a part of, why it failed, a time that is only claimed, patients, arguments, what was treated.
fn with(entry: &Entry, call: &Call) -> String {
    let mut parts = Vec::new();
    if let Some(of) = call.part_of().filter(|_| call.adds_to_call()) {
        // It looked like a further call.
        let what = match call.detail_of() {
            Some(_) => "details of",
            None if call.late_answer => "late answer to",
            None => "further patients of",
        };
        parts.push(format!("{what} {of}"));
    }
    // Before the arguments: they are long, and what does not fit is cut.
    parts.extend(error(call).map(|error| format!("✗ {error}")));
    parts.extend(entry.claimed_time(CLAIMED_TIME_BOUND).map(|claimed| claimed.to_string()));
    if !call.patient_ids.is_empty() {
        let shown: Vec<String> = call.patient_ids.iter().take(3).map(|p| clean(p)).collect();
        let more = call.patient_ids.len().saturating_sub(3);
        let more = if more > 0 { format!(", … {more} more") } else { String::new() };
        parts.push(format!("patient {}{more}", shown.join(", ")));
    }
    if call.emergency {
        parts.push("emergency".to_owned());
    }
    parts.extend(call.arguments.as_ref().map(|a| brief(&a.to_json())).filter(|a| !a.is_empty()));
    parts.extend(call.treated.as_ref().and_then(|t| treated(&t.to_json())));
    parts.join(" · ")
}
