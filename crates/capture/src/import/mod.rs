//! Reads transcripts that other programs recorded, as tool calls to record.
//!
//! Reading is pure: bytes in, calls out; no file is opened and no clock is read. Nothing is dropped silently: a file
//! that does not match its format is an error that gives the place; anything that looks like a call or an answer but
//! was not read, and every line that is not JSON, is listed in [`Imported::not_taken`]; a call that was never answered
//! gets the outcome [`Outcome::Abandoned`]; numbers and texts that cannot be kept exactly are marked as restated, as in
//! calls that are recorded directly. Nothing is invented: no trigger is claimed, and a call whose transcript has no
//! times has none (the store then uses its own clock, and `backfilled` marks the entry).
//!
//! The modules, each calling only those after it. `packed` unpacks a file, and `sniff` tells its `format`. `claude_code`, `codex`,
//! `gemini`, `opencode` and `trajectories` read the sessions of agents and of evaluations, and `containers` whatever else holds
//! messages; they share `blocks` (a message in any shape), `items` (those of the Responses API) and `session` (a call asked, a call
//! answered). `openai` and `anthropic` read what belongs to one API, and `jsonl` the log's own format. All of them use
//! `conversation` for what tells one conversation from another, `answer` to read what tools returned, and `join` to match answers to
//! calls. For telemetry, `protobuf` and `flat` bring a file into OTLP's form in JSON, `otlp` reads its spans and `otlp_logs` its log
//! records; `asked` finds calls that have no span of their own, `dialects` reads a tool's span, and `attributes` an attribute.
//! `speaks` interprets the names of unknown members, and `ended`, beside this module, how a call ended. All but `jsonl` read the file through `file`, which knows the place of every
//! value, and `texts`, for files of several. `detect` searches for what they did not read (`repeats` knows again what they did),
//! `identity` (with `beginning`) gives each call its identity, and `record` records each call once, or tells more of the
//! calls that the log has from somebody else.

mod answer;
mod anthropic;
mod asked;
mod attributes;
mod beginning;
mod blocks;
mod claude_code;
mod codex;
mod codex_events;
mod containers;
mod conversation;
mod detect;
mod dialects;
mod file;
mod flat;
mod format;
mod gemini;
mod identity;
mod items;
mod join;
mod jsonl;
mod openai;
mod opencode;
mod otlp;
mod otlp_logs;
mod packed;
mod protobuf;
mod record;
mod repeats;
mod session;
mod sniff;
mod speaks;
mod texts;
mod trajectories;

pub use format::Format;
pub use record::{Log, Recorded, Stopped, record};

use crate::quoted::Quoted;
use attestlog::entry::CallLimits;
use attestlog::entry::failure::{failure, reads_as_failure};
use attestlog::redact::Policy;
use attestlog::{self, CallResult, json};
use attestlog::{Error, ErrorKind, Outcome, Result, ToolCall};
use identity::Source;
use std::collections::HashSet;
use std::fmt;

/// What the transcript does not say, and limits for reading it.
///
/// For transcripts, values given here override those of the file. For [`Format::Jsonl`], whose lines are complete
/// records, they only fill in what a line leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Who started the calls.
    pub user: Option<String>,
    /// The model that decided on the calls.
    pub model: Option<String>,
    /// The conversation of the calls: of all calls in the file, even if it holds several conversations.
    pub conversation: Option<String>,
    /// Whether a time without a zone is taken as UTC. Default: no, such a time is an error.
    pub assume_utc: bool,
    /// The most bytes that a file may have. Reading takes several times as much memory. Default: 512 MiB.
    pub max_bytes: usize,
    /// The limits for the parts of a call, checked while reading so that the error can give the place in the file. A
    /// store with other limits checks its own when the call is recorded.
    pub limits: CallLimits,
    /// The log's redaction policy, as canonical JSON.
    policy: Option<String>,
    /// What a file beside the session says of the sub-agent that it is of.
    beside: Option<Launched>,
}

/// What Claude Code writes beside the session of a sub-agent (`agent-….meta.json`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Launched {
    /// The call with which it was started.
    call: Option<String>,
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
            policy: None,
            beside: None,
        }
    }
}

impl ImportOptions {
    /// The defaults: everything is taken from the file.
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

    /// Sets the most bytes that a file may have.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The redaction policy of the log ([`policies`](attestlog::groups::Retention::policies)). What it seals does not count
    /// towards the identity of a call: a later import must not confirm guesses of it. Needed if the policy seals anything.
    #[must_use]
    pub fn policy(mut self, policy: &Policy) -> Self {
        self.policy = Some(policy.to_canonical().as_str().to_owned());
        self
    }

    /// The contents of the file that Claude Code writes beside the session of a sub-agent (`agent-a1.meta.json` beside
    /// `agent-a1.jsonl`): it names the call that started the sub-agent. Anything else says nothing.
    #[must_use]
    pub fn beside(mut self, text: &[u8]) -> Self {
        let value = json::Json::parse_lenient(text, &json::Limits::default()).ok().map(|parsed| parsed.value);
        let call = value.and_then(|value| value.get("toolUseId")?.as_str().map(str::to_owned));
        self.beside = call.map(|call| Launched { call: Some(call) });
        self
    }

    /// Sets the limits for the parts of a call.
    #[must_use]
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// The calls, conversation by conversation in file order, and within a conversation in the order in which they were
    /// made. The spans of traces are sorted by start time.
    pub calls: Vec<ToolCall>,
    /// The place in the file of each of `calls`, for messages: `[12].messages[3].tool_calls[0]`, `line 7`.
    pub places: Vec<String>,
    /// What looks like a call or an answer but was not read, and lines that are not JSON. The caller must report them
    /// to the user.
    pub not_taken: Vec<NotTaken>,
    /// The number of answers joined to their calls by tool name or by order alone, because neither has an id.
    pub by_order: usize,
    /// The number of conversations in which no tool was called; nothing is recorded for them.
    pub without_calls: usize,
    /// The format in which the file was read; [`Format::Auto`] if it is none that is known. Then there are no calls, and if
    /// `not_taken` is empty too, nothing in the file looks like one.
    pub format: Format,
    /// The kind of file that this looks like, if something was not taken and that explains why.
    pub looks_like: Option<String>,
    /// The source of each of `calls`.
    sources: Vec<Source>,
    /// The policy of the log for which the sources were made, as canonical JSON.
    policy: Option<String>,
    /// Whether each call is a line of the file.
    of_lines: bool,
    /// Whether calls without an answer are left out when the others are recorded.
    only_answered: bool,
}

/// The kind of something that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Untaken {
    /// Something that looks like a call.
    Call,
    /// Something that looks like an answer.
    Answer,
    /// A line that is not JSON, or not a record.
    Line,
    /// Arguments that are a text of malformed JSON: the call is imported, with the arguments as a plain text.
    Arguments,
}

impl Untaken {
    /// The name used in JSON.
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
    /// What it appears to be.
    pub kind: Untaken,
    /// The id of the call that it belongs to, if it gives one.
    pub call_id: Option<String>,
    /// Why it was not taken.
    pub why: String,
}

impl NotTaken {
    fn hide(&mut self, quoted: &Quoted) {
        [&mut self.place, &mut self.why].into_iter().chain(&mut self.call_id).for_each(|text| quoted.hide(text));
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// Counts of what was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Number of calls.
    pub calls: usize,
    /// Distinct conversations in which a tool was called.
    pub conversations: usize,
    /// Conversations in which no tool was called.
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

/// Running totals over several files.
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
    /// Adds the contents of one file.
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

    /// The totals so far.
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
    /// Counts the contents of this file.
    pub fn tally(&self) -> Tally {
        let mut totals = Totals::default();
        totals.add(self);
        totals.tally()
    }

    /// This file without the calls that have no answer yet, for one that is still being written. They are known by the same as
    /// if they were recorded, so that a later import records them.
    #[must_use]
    pub fn answered(mut self) -> Self {
        self.only_answered = true;
        self
    }

    /// Reports something that looks like a call.
    fn miss(&mut self, at: &file::At<'_>, why: &str) {
        at.take();
        let (place, why) = (at.place(), why.to_owned());
        self.not_taken.push(NotTaken { place, kind: Untaken::Call, call_id: None, why });
    }

    /// Adds a call, or reports it if it exceeds a limit.
    fn push(&mut self, mut call: ToolCall, place: String, source: Source, options: &ImportOptions) {
        call.replace_nul();
        if let Err(e) = call.validate(&options.limits) {
            let (kind, why) = (Untaken::Call, e.to_string());
            self.not_taken.push(NotTaken { place, kind, call_id: call.call_id, why });
            return;
        }
        self.sources.push(source);
        self.calls.push(call);
        self.places.push(place);
    }
}

/// Whether the log will count the call as a failure (see [`CallResult::Value`]).
fn failed(call: &ToolCall) -> bool {
    match (call.outcome, &call.result) {
        (Some(outcome), _) => outcome != Outcome::Ok,
        (None, Some(CallResult::Error(_))) => true,
        (None, Some(CallResult::Value(value))) => failure(value).or_else(|| reads_as_failure(value)).is_some(),
        (None, None) => false,
    }
}

/// Reads a file of `format`. Every call is marked as backfilled, unless a line of [`Format::Jsonl`] says otherwise.
///
/// **Conversations** of messages: a file is one conversation (an array of messages, or a message per line) or several
/// (an array of objects, or an object per line, with the messages under `messages` or `traj`). A conversation's id is
/// the object's `conversation_id`, else its `id`, else `task-0-trial-0` from its `task_id` and `trial`, else `import-`
/// followed by digits of a hash of its messages up to the first answer, and its number in the file. The user is
/// `user_id` or `info.task.user_id`; the model is that of the message, else of the object. The turn is the number of
/// user messages so far. The time is the `timestamp`, `created_at` or `created` of the message (or another member that
/// holds a time and is named so in another spelling, or `date` or `ts`), else of the object: RFC 3339, or a number of
/// seconds since 1970 (or of milliseconds, if it would be after the year 2261 as seconds). If the messages of a call
/// and of its answer both have a time, the difference is the call's duration, and
/// `session_metadata.import.duration_from` says so.
///
/// **Joining**: an answer is joined to an unanswered call with the same id; among several, to one in the latest run of
/// assistant messages, and there to the first (preferring a call of the same tool). Calls and answers without ids are
/// joined in the same way by tool name, or by order alone, and counted in [`Imported::by_order`]. An answer with an id
/// is never joined by order, and an answer without an id is never joined to a call that has one.
///
/// **Answers**: a text that parses as a JSON object or array becomes that value; any other text stays a text. Several
/// text parts are joined with line breaks. A text whose first word is `Error`, `error` or `ERROR` is a failure with the
/// text as its message, unless the transcript explicitly says that it is not (`is_error`, `isError`, `status`,
/// `error`). Whatever [`CallResult::Value`] counts as a failure is a failure here. Arguments that do not parse as JSON
/// stay a string.
///
/// **Spans**: conversation, agent, model and user come from the span or from its nearest ancestor in the file that has
/// them (the user, `user.id` or `enduser.id`, also from the resource). A span without a conversation belongs to
/// `trace-` followed by its trace id. Trace and span id go into the session's metadata. A span that the file holds
/// twice is one call: exporters repeat spans, and export a span again when they know more of it. The later export is
/// then kept, and the other is reported if its answer differs. A call traced by both the client and the server is two
/// spans and two calls.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if the file does not match `format` or a call's user is unknown; the message gives the
/// place and what the file looks like. [`ErrorKind::TooLarge`] if a limit is exceeded. In both cases nothing is read
/// from the file.
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
    let text = packed::unpacked(text, options)?;
    // Some editors put a byte order mark before UTF-8 text.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut known = format;
    let read = match format {
        Format::Jsonl => jsonl::read(text, options),
        _ => transcript(&mut known, text, options),
    };
    // What is of this format holds words of others too.
    let looks_like = || match read_as_json(text, format, options).map(|file| sniff::sniff(&file)) {
        Ok(told) if format == Format::Auto || told == Some(format) => None,
        Ok(_) => detect::looks_like(text, format),
        Err(_) => detect::no_json(text),
    };
    match read {
        Ok(mut imported) => {
            imported.policy.clone_from(&options.policy);
            imported.format = known;
            if !imported.not_taken.is_empty() {
                let quoted = Quoted::new();
                imported.not_taken.iter_mut().for_each(|one| one.hide(&quoted));
                imported.looks_like = looks_like();
            }
            Ok(imported)
        }
        Err(e) => {
            let looks_like = if e.kind() == ErrorKind::InvalidInput { looks_like() } else { None };
            let mut says = e.to_string();
            says.extend(looks_like.map(|what| format!(" (the file looks like {what})")));
            Quoted::new().hide(&mut says);
            Err(if says == e.to_string() { e } else { Error::new(e.kind(), says) })
        }
    }
}

/// The file as JSON. Protobuf is told first: its texts may hold JSON, and none of it is the file's.
fn read_as_json(text: &[u8], asked: Format, options: &ImportOptions) -> Result<file::Read> {
    let request = matches!(asked, Format::Auto | Format::OtlpJson).then(|| protobuf::read(text)).flatten();
    match request {
        Some(request) if protobuf::has_records(&request) => Ok(file::Read::of(request, options)),
        Some(request) => file::read(text, options).or_else(|_| Ok(file::Read::of(request, options))),
        None => file::read(text, options),
    }
}

/// Reads a transcript in JSON, and reports what looks like a call or an answer but was not read. Sets `format` to the one that the
/// file turns out to be, if it is to be found out.
fn transcript(format: &mut Format, text: &[u8], options: &ImportOptions) -> Result<Imported> {
    let asked = *format;
    let mut file = read_as_json(text, asked, options)?;
    if asked == Format::Auto {
        *format = sniff::sniff(&file).unwrap_or_default();
    }
    if *format == Format::OtlpJson {
        flat::unified(&mut file, options);
    }
    let mut imported = match *format {
        Format::Jsonl => return jsonl::read(text, options),
        Format::Anthropic if asked == *format => conversation::read_all(&file, options, anthropic::message)?,
        Format::OpenAiChat if asked == *format => conversation::read_all(&file, options, openai::message)?,
        Format::OtlpJson => otlp::read(&file, text, options)?,
        Format::ClaudeCode => claude_code::read(&file, options)?,
        Format::Codex => codex::read(&file, options)?,
        Format::Gemini => gemini::read(&file, options)?,
        Format::OpenCode => opencode::read(&file, options)?,
        Format::LangSmith => trajectories::langsmith(&file, options)?,
        Format::SweAgent => trajectories::swe_agent(&file, options)?,
        Format::OpenHands => trajectories::openhands(&file, options)?,
        Format::Atif => trajectories::atif(&file, options)?,
        Format::Auto => Imported { without_calls: 1, ..Imported::default() },
        Format::OpenAiChat
        | Format::Anthropic
        | Format::OpenAiResponses
        | Format::Bedrock
        | Format::LangChain
        | Format::Agno
        | Format::Inspect
        | Format::Tau2
        | Format::AgentDojo
        | Format::VercelAi => containers::read(&file, options)?,
    };
    for (call, place) in imported.calls.iter().zip(&imported.places).filter(|(call, _)| call.has_nearly_json()) {
        let why = "its arguments are nearly JSON (a member twice, a comma too many, no end): they are kept as a text";
        let (place, call_id) = (place.clone(), call.call_id.clone());
        imported.not_taken.push(NotTaken { place, kind: Untaken::Arguments, call_id, why: why.to_owned() });
    }
    // The readers that name every member that they do not know also name repetitions of what they read.
    let is_strict =
        *format == Format::OtlpJson || (asked == *format && matches!(asked, Format::OpenAiChat | Format::Anthropic));
    let known: Vec<&ToolCall> = imported.calls.iter().filter(|_| !is_strict).collect();
    let untaken = detect::untaken(&file.documents, *format, &known);
    imported.not_taken.extend(untaken);
    imported.not_taken.extend(file.bad);
    Ok(imported)
}

/// Tells the user how to state who made the calls.
const SAY_USER: &str = "say it with --user";

/// Tells the user how to state that times without a zone are UTC.
const SAY_UTC: &str = "if it is UTC, say --assume-utc (ImportOptions::assume_utc)";

/// The beginning of a text of the file, for messages: enough to recognise it.
fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
