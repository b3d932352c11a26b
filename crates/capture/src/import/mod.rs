//! Transcripts that other programs recorded, as tool calls to record.
//!
//! Reading is pure: bytes in, calls out; no file is opened and no clock is read. Nothing is dropped without a word: a file
//! that is not what its format says is an error that names the place; what looks like a call or an answer and is not
//! taken, and a line that is no JSON, are listed in [`Imported::not_taken`]; a call that was never answered comes out as
//! [`Outcome::Abandoned`]; numbers and texts that cannot be kept as they are, are marked as they are when recorded
//! directly. And nothing is made up: no trigger is claimed, and a call
//! whose transcript has no times has none (the store then puts its own clock, and `backfilled` says what that is worth).
//!
//! Calls go downwards: `openai`, `anthropic` and `otlp` read one format each and `jsonl` the log's own; the first two
//! find their conversations with `conversation`, read what tools said with `answer`, and put calls and answers together
//! with `join`; `asked` tells of which calls a trace has no more than a model's word, `dialects` what a tool's span says; `speaks` reads the names of what no reader knows; all but `jsonl` read the file through `file`, which knows where every value stands. `detect` looks over
//! what they took, `identity` says which call of its source each is, and `record` puts them into a log once.

mod answer;
mod anthropic;
mod asked;
mod conversation;
mod detect;
mod dialects;
mod file;
mod identity;
mod join;
mod jsonl;
mod openai;
mod otlp;
mod record;
mod speaks;

pub use record::{Log, Recorded, record};

use attestlog::failure::failure;
use attestlog::{self, CallLimits, CallResult};
use attestlog::{Error, ErrorKind, Outcome, Result, ToolCall};
use identity::Source;
use std::collections::HashSet;
use std::fmt;

/// What wrote the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Messages of the OpenAI chat completions API: `tool_calls` (or the older `function_call`) of an assistant
    /// message, answered by messages of the role `tool` (or `function`).
    OpenAiChat,
    /// Messages of the Anthropic API: blocks `tool_use`, `server_tool_use` and `mcp_tool_use`, answered by blocks
    /// `tool_result` and its like.
    Anthropic,
    /// The input of `attestlog record`: one call per line (see [`ToolCall::from_jsonl`]).
    Jsonl,
    /// OpenTelemetry traces in OTLP/JSON, one export or one per line: each span of a tool, as the GenAI conventions mark it
    /// (`gen_ai.operation.name` is `execute_tool`, or the span is called so) or as OpenInference, Traceloop, LangSmith,
    /// Langfuse and the Vercel AI SDK do.
    OtlpJson,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[Format::OpenAiChat, Format::Anthropic, Format::Jsonl, Format::OtlpJson];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::OpenAiChat => "openai-chat",
            Format::Anthropic => "anthropic",
            Format::Jsonl => "jsonl",
            Format::OtlpJson => "otlp-json",
        }
    }

    /// The format of that name.
    ///
    /// ```
    /// use attestlog_capture::import::Format;
    /// assert_eq!(Format::from_name("openai-chat"), Some(Format::OpenAiChat));
    /// assert_eq!(Format::from_name("xml"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Format> {
        Self::ALL.iter().copied().find(|f| f.as_str() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the transcript does not say, and how much of it may be read.
///
/// In transcripts, what is said here stands in place of what the file says. In [`Format::Jsonl`], whose lines are
/// records already, it fills in only what a line leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Who started the calls.
    pub user: Option<String>,
    /// The model that decided on the calls.
    pub model: Option<String>,
    /// The conversation that the calls belong to: all of the file's, also where it holds several.
    pub conversation: Option<String>,
    /// Whether a time without a zone is one of UTC. Default: it is refused.
    pub assume_utc: bool,
    /// How many bytes a file may have. What is read takes several times as much memory. Default: 512 MiB.
    pub max_bytes: usize,
    /// How large the parts of a call may be, so that a refusal can name the place in the file. A store with other
    /// limits refuses by its own when the call is recorded.
    pub limits: CallLimits,
}

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        ImportOptions {
            user: None,
            model: None,
            conversation: None,
            assume_utc: false,
            max_bytes: 512 << 20,
            limits: CallLimits::default(),
        }
    }
}

impl ImportOptions {
    /// Takes everything from the file.
    pub fn new() -> ImportOptions {
        ImportOptions::default()
    }

    /// Who started the calls.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The model that decided on the calls.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The conversation that the calls belong to.
    #[must_use]
    pub fn conversation(mut self, conversation: impl Into<String>) -> Self {
        self.conversation = Some(conversation.into());
        self
    }

    /// Takes times without a zone as UTC.
    #[must_use]
    pub fn assume_utc(mut self, assume: bool) -> Self {
        self.assume_utc = assume;
        self
    }

    /// How many bytes a file may have.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How large the parts of a call may be.
    #[must_use]
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// What a file held.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// The calls, conversation by conversation as the file has them, each conversation's in the order in which they
    /// were made. Spans of a trace come in the order of their start.
    pub calls: Vec<ToolCall>,
    /// Where in the file each of `calls` stands, for messages: `[12].messages[3].tool_calls[0]`, `line 7`.
    pub places: Vec<String>,
    /// What looks like a call or an answer and was not taken, and lines that are no JSON: who imports must say so.
    pub not_taken: Vec<NotTaken>,
    /// How many answers were joined to their calls by the tool's name or by order alone, because neither has an id.
    pub by_order: usize,
    /// How many conversations the file holds in which no tool was called: they leave nothing to record.
    pub without_calls: usize,
    /// What the file looks like, where something was not taken and that tells why.
    pub looks_like: Option<String>,
    /// Where each of `calls` belongs, as its source says it.
    sources: Vec<Source>,
}

/// What kind of thing was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Untaken {
    /// What looks like a call.
    Call,
    /// What looks like an answer.
    Answer,
    /// A line that is no JSON, or no record.
    Line,
    /// Arguments that are a text of nearly JSON: the call is taken, what it was given is no more than a text.
    Arguments,
}

impl Untaken {
    /// Its name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Untaken::Call => "call",
            Untaken::Answer => "answer",
            Untaken::Line => "line",
            Untaken::Arguments => "arguments",
        }
    }
}

/// Something that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotTaken {
    /// Where it stands in the file.
    pub place: String,
    /// What it looks like.
    pub kind: Untaken,
    /// The id of the call that an answer names, if it names one.
    pub call_id: Option<String>,
    /// Why it was not taken.
    pub why: String,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// What was imported, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Calls.
    pub calls: usize,
    /// Distinct conversations in which a tool was called.
    pub conversations: usize,
    /// Conversations in which none was.
    pub without_calls: usize,
    /// Distinct users.
    pub users: usize,
    /// Distinct tools.
    pub tools: usize,
    /// Calls that were answered and failed.
    pub failures: usize,
    /// Calls that were never answered.
    pub abandoned: usize,
}

/// Counts over several files.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    calls: usize,
    without_calls: usize,
    failures: usize,
    abandoned: usize,
    conversations: HashSet<String>,
    users: HashSet<String>,
    tools: HashSet<String>,
}

impl Totals {
    /// Counts what a file holds as well.
    pub fn add(&mut self, imported: &Imported) {
        self.calls += imported.calls.len();
        self.without_calls += imported.without_calls;
        for call in &imported.calls {
            let abandoned = call.outcome == Some(Outcome::Abandoned);
            self.abandoned += usize::from(abandoned);
            self.failures += usize::from(!abandoned && failed(call));
            for (all, one) in [
                (&mut self.conversations, &call.conversation_id),
                (&mut self.users, &call.user_id),
                (&mut self.tools, &call.tool_name),
            ] {
                if !all.contains(one) {
                    all.insert(one.clone());
                }
            }
        }
    }

    /// The figures.
    pub fn tally(&self) -> Tally {
        Tally {
            calls: self.calls,
            conversations: self.conversations.len(),
            without_calls: self.without_calls,
            users: self.users.len(),
            tools: self.tools.len(),
            failures: self.failures,
            abandoned: self.abandoned,
        }
    }
}

impl Imported {
    /// Counts what there is.
    pub fn tally(&self) -> Tally {
        let mut totals = Totals::default();
        totals.add(self);
        totals.tally()
    }

    fn push(&mut self, mut call: ToolCall, place: String, source: Source, options: &ImportOptions) -> Result<()> {
        call.restate_nul();
        call.validate(&options.limits).map_err(|e| e.at(&place))?;
        self.sources.push(source);
        self.calls.push(call);
        self.places.push(place);
        Ok(())
    }
}

/// Whether the log will count the call as a failure (see [`CallResult::Value`]).
fn failed(call: &ToolCall) -> bool {
    match (call.outcome, &call.result) {
        (Some(outcome), _) => outcome != Outcome::Ok,
        (None, Some(CallResult::Error(_))) => true,
        (None, Some(CallResult::Value(value))) => failure(value).is_some(),
        (None, None) => false,
    }
}

/// Reads a file of `format`. Each call comes out marked as back-filled; a line of [`Format::Jsonl`] may say otherwise.
///
/// **Conversations** of messages: a file is one (an array of messages, or a message per line) or many (an array of
/// objects, or an object per line, with the messages under `messages` or `traj`). A conversation is called by the
/// object's `conversation_id`, else its `id`, else `task-0-trial-0` of its `task_id` and `trial`, else `import-` with
/// digits of a hash of what it begins with, up to its first answer, and its number in the file. The user is `user_id` or `info.task.user_id`, the model that of
/// the message, else of the object. The turn is the number of messages of the user's so far. The time is `timestamp`,
/// `created_at` or `created` of the message (or a member called so in another spelling, `date` or `ts`, that holds a time), else of the object: RFC 3339, or a number of seconds since 1970
/// (or of milliseconds, where as seconds it would lie beyond the year 2261). Where the messages of a call and of its answer
/// both have a time, the call took what lies between, and `session_metadata.import.duration_from` says so.
///
/// **Joining**: an answer belongs to a call that has its id and is not answered yet; among several, to those of the
/// latest run of assistant messages, and there to the first (one of the same tool's before others). Calls and answers
/// without ids are joined in the same way by the tool's name, or by order alone, and counted in [`Imported::by_order`]; an
/// answer that has an id is never joined by order, nor one without to a call that has one.
///
/// **Answers**: text that reads as a JSON object or array is that value, other text stays text; several text parts are
/// put together with line breaks. Text whose first word is `Error`, `error` or `ERROR` is a failure with the text as its message, unless the
/// transcript says expressly that it is none (`is_error`, `isError`, `status`, `error`); what [`CallResult::Value`] counts as a failure is one here. Arguments that
/// do not read as JSON stay the string that they are.
///
/// **Spans**: conversation, agent, model and user stand on the span or on the nearest of its ancestors in the file (the
/// user, `user.id` or `enduser.id`, also on the resource); a span without a conversation belongs to `trace-` and the id
/// of its trace. Trace and span id go into the session's metadata. A span that the file holds twice is
/// one call: exporters repeat themselves, and export a span again when more of it is known. Then the later is kept, and the
/// other is named where it tells another answer. A call that both the client and the server traced is two spans and two calls.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] names the place where the file is not what `format` says, or where the user is not known,
/// and what the file looks like; [`ErrorKind::TooLarge`] a limit that was passed. Nothing of the file comes out then.
///
/// ```
/// use attestlog_capture::import::{self, Format, ImportOptions};
/// let transcript = br#"[
///     {"role": "user", "content": "Where is my order?"},
///     {"role": "assistant", "content": null, "tool_calls": [
///         {"id": "call_1", "type": "function", "function": {"name": "find_order", "arguments": "{\"id\": 7}"}}]},
///     {"role": "tool", "tool_call_id": "call_1", "content": "{\"status\": \"sent\"}"}
/// ]"#;
/// let options = ImportOptions::new().user("usr_1").conversation("conv_1").model("gpt-4.1");
/// let imported = import::calls(Format::OpenAiChat, transcript, &options)?;
/// assert_eq!(imported.calls.len(), 1);
/// assert_eq!(imported.places, ["[1].tool_calls[0]"]);
/// assert!(imported.not_taken.is_empty());
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn calls(format: Format, text: &[u8], options: &ImportOptions) -> Result<Imported> {
    if text.len() > options.max_bytes {
        let message = format!(
            "the file has {} bytes, more than the limit of {}: split it, or raise the limit",
            text.len(),
            options.max_bytes
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    // Some editors put a byte order mark before UTF-8.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let looks_like = || detect::looks_like(text, format);
    let read = match format {
        Format::Jsonl => jsonl::read(text, options),
        _ => transcript(format, text, options),
    };
    match read {
        Ok(mut imported) => {
            if !imported.not_taken.is_empty() {
                imported.looks_like = looks_like();
            }
            Ok(imported)
        }
        Err(e) if e.kind() == ErrorKind::InvalidInput => match looks_like() {
            Some(what) => Err(Error::new(ErrorKind::InvalidInput, format!("{e} (the file looks like {what})"))),
            None => Err(e),
        },
        Err(e) => Err(e),
    }
}

/// Reads a file of JSON; what looks like a call or an answer and was not taken is named.
fn transcript(format: Format, text: &[u8], options: &ImportOptions) -> Result<Imported> {
    let file = file::read(text, options)?;
    let mut imported = match format {
        Format::Anthropic => conversation::read_all(&file, options, anthropic::message)?,
        Format::OtlpJson => otlp::read(&file, text, options)?,
        Format::OpenAiChat | Format::Jsonl => conversation::read_all(&file, options, openai::message)?,
    };
    for (call, place) in imported.calls.iter().zip(&imported.places).filter(|(call, _)| call.has_nearly_json()) {
        let why = "its arguments are nearly JSON (a member twice, a comma too many, no end): they are kept as a text";
        let (place, call_id) = (place.clone(), call.call_id.clone());
        imported.not_taken.push(NotTaken { place, kind: Untaken::Arguments, call_id, why: why.to_owned() });
    }
    imported.not_taken.extend(detect::untaken(&file.documents, format));
    imported.not_taken.extend(file.bad);
    Ok(imported)
}

/// The names by which people say who started the calls, for the errors that ask for it.
const SAY_USER: &str = "say it with --user";

/// How people say that times without a zone are UTC.
const SAY_UTC: &str = "if it is UTC, say --assume-utc (ImportOptions::assume_utc)";

/// Text of the file's in a message: enough to recognise it.
fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
