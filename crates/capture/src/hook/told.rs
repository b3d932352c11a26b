//! The members of an event, read leniently: agents change weekly.
//!
//! A member that is needed and missing or of another type is an error that names it. Everything else is kept as it is.

use super::{Agent, Identity, MAX_EVENT};
use crate::quoted::Quoted;
use crate::shorten::shortened;
use attestlog::entry::{Source, SourceKind};
use attestlog::json::{Json, Limits, Object, Parsed, Path, Step};
use attestlog::{Error, ErrorKind, Result, Timestamp, ToolCall};

/// The member of the session's metadata that says how an event was read.
const NOTES: &str = "hook";
/// A longer name of a file or address is in the arguments only.
const LONGEST_RESOURCE: usize = 4 << 10;

/// An event as the agent passed it.
#[derive(Debug)]
pub(super) struct Told {
    members: Object,
    /// Where something could not be kept as it was.
    restated: Vec<Path>,
}

impl Told {
    /// Reads the bytes of an event.
    pub(super) fn parse(bytes: &[u8]) -> Result<Told> {
        if bytes.len() > MAX_EVENT {
            let message = format!("the event has more than {} MiB", MAX_EVENT >> 20);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::invalid("there is no event on standard input"));
        }
        let parsed = Json::parse_lenient(bytes, &Limits::bytes(MAX_EVENT)).map_err(|e| {
            // It may name a member, which may be anything.
            let mut why = e.to_string();
            Quoted::new().hide(&mut why);
            Error::invalid(format!("the event is not JSON that can be read: {why}"))
        })?;
        match parsed.value {
            Json::Object(members) => Ok(Told { members, restated: parsed.restated }),
            other => Err(Error::invalid(format!("the event is {}, not an object", other.type_name()))),
        }
    }

    /// The object under this name, as an event of its own.
    pub(super) fn inner(&self, name: &str) -> Option<Told> {
        let members = self.members.get(name)?.as_object()?.clone();
        Some(Told { members, restated: self.below(name) })
    }

    /// The objects in the list under this name.
    pub(super) fn list(&self, name: &str) -> Result<Vec<Told>> {
        let Some(Json::Array(items)) = self.members.get(name) else {
            return Err(Error::invalid("must be a list").in_member(name));
        };
        let each = |(i, item): (usize, &Json)| match item {
            Json::Object(members) => {
                let at = |path: &Path| match path.steps() {
                    [Step::Key(key), Step::Index(index), rest @ ..] if key == name && *index == i => {
                        Some(of_steps(rest))
                    }
                    _ => None,
                };
                Ok(Told { members: members.clone(), restated: self.restated.iter().filter_map(at).collect() })
            }
            _ => Err(Error::invalid(format!("item {i} must be an object")).in_member(name)),
        };
        items.iter().enumerate().map(each).collect()
    }

    fn below(&self, name: &str) -> Vec<Path> {
        let at = |path: &Path| match path.steps() {
            [Step::Key(key), rest @ ..] if key == name => Some(of_steps(rest)),
            _ => None,
        };
        self.restated.iter().filter_map(at).collect()
    }

    /// Whether the event has this member, and it is not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| *value != Json::Null)
    }

    /// The names of its members that have a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter(|(_, value)| **value != Json::Null).map(|(name, _)| name)
    }

    /// The member with this name, and where something in it could not be kept; `None` if it is absent or null.
    pub(super) fn value(&self, name: &str) -> Option<Parsed> {
        let value = self.members.get(name).filter(|value| **value != Json::Null)?;
        Some(Parsed { value: value.clone(), restated: self.below(name) })
    }

    /// The text under this name; of a number, its digits. `None` if it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        let text = match self.members.get(name) {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(text)) => text.clone(),
            Some(number @ Json::Number(_)) => number.to_canonical().as_str().to_owned(),
            Some(other) => {
                return Err(Error::invalid(format!("must be a text, and is {}", other.type_name())).in_member(name));
            }
        };
        Ok(Some(text).filter(|text| !text.trim().is_empty()))
    }

    /// The text under this name, without which the event cannot be recorded.
    pub(super) fn needed(&self, name: &str) -> Result<String> {
        self.text(name)?
            .ok_or_else(|| Error::invalid("is missing, and the event cannot be recorded without it").in_member(name))
    }

    /// The first of these names that has a text.
    pub(super) fn first(&self, names: &[&str]) -> Result<Option<String>> {
        names.iter().find_map(|name| self.text(name).transpose()).transpose()
    }

    /// Whether the member is `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.members.get(name).and_then(Json::as_bool) == Some(true)
    }

    /// The number under this name, if it is one that a duration in milliseconds can be.
    pub(super) fn milliseconds(&self, name: &str) -> Option<f64> {
        self.members.get(name).and_then(Json::as_f64).filter(|ms| *ms >= 0.0 && *ms < 1e15)
    }

    /// The time under this name: RFC 3339, or milliseconds since 1970.
    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        match self.members.get(name)? {
            Json::String(text) => text.parse().ok(),
            number => Timestamp::from_unix(number.as_f64()?),
        }
    }

    /// The agent's session, where the conversation is configured and so does not name it.
    pub(super) fn session(&self, identity: &Identity) -> Option<String> {
        const NAMES: [&str; 4] = ["session_id", "sessionId", "conversation_id", "sessionID"];
        identity.conversation.as_ref()?;
        self.first(&NAMES).ok().flatten()
    }

    /// A call of this tool, with what every event says: who, and these members of the session.
    pub(super) fn call(
        &self,
        agent: Agent,
        names: (String, String),
        identity: &Identity,
        session: &[&str],
    ) -> ToolCall {
        let (session_of_call, tool) = names;
        let conversation = identity.conversation.clone().unwrap_or_else(|| session_of_call.clone());
        let own = self.session(identity).or(Some(session_of_call)).filter(|own| *own != conversation);
        let mut source = Source::new(SourceKind::Hook);
        source.program = Some(agent.as_str().to_owned());
        source.version = identity.version.clone();
        let mut call = ToolCall::new(conversation, &*identity.user, tool).source(source);
        call.model = identity.model.clone();
        call.purpose = identity.purpose.clone();
        if let Some(role) = &identity.role {
            call = call.role(role);
        }
        if let Some(own) = own {
            call = call.metadata("session_id", own);
        }
        for name in session {
            if let Some(value) = self.value(name) {
                call = call.metadata(*name, value);
            }
        }
        call
    }
}

fn of_steps(steps: &[Step]) -> Path {
    let mut path = Path::root();
    for step in steps {
        match step {
            Step::Key(key) => path.push_key(key),
            Step::Index(index) => path.push_index(*index),
        }
    }
    path
}

/// Notes how the event was read, under `session_metadata.hook`.
pub(super) fn note(mut call: ToolCall, name: &str, value: impl Into<Json>) -> ToolCall {
    let mut notes = call.session_metadata.get(NOTES).and_then(Json::as_object).cloned().unwrap_or_default();
    notes.insert(name, value);
    call.session_metadata.insert(NOTES, notes);
    call
}

/// The arguments in which tools name a file, or an address.
const FILES: [&str; 7] =
    ["file_path", "filePath", "absolute_path", "notebook_path", "target_file", "path", "relative_workspace_path"];
const ADDRESSES: [&str; 2] = ["url", "uri"];

/// The call with the files and addresses that its arguments name.
fn with_resources(mut call: ToolCall, arguments: &Json) -> ToolCall {
    for (kind, names) in [("file", &FILES[..]), ("url", &ADDRESSES[..])] {
        let named = names.iter().filter_map(|name| arguments.get(name)?.as_str());
        for name in named.filter(|name| !name.is_empty() && name.len() <= LONGEST_RESOURCE) {
            call = call.resource(kind, name);
        }
    }
    call
}

/// The call with these arguments; of large ones, what fits.
pub(super) fn with_arguments(call: ToolCall, arguments: Option<Parsed>) -> ToolCall {
    let call = match &arguments {
        Some(arguments) => with_resources(call, &arguments.value),
        None => call,
    };
    match arguments {
        None => call,
        Some(arguments) => match shortened(&arguments.value, "arguments") {
            None => call.arguments(arguments),
            Some((short, marks)) => add_marks(call.arguments(short), marks),
        },
    }
}

/// The call with this result; of a large one, what fits.
pub(super) fn with_result(call: ToolCall, result: Option<Parsed>) -> ToolCall {
    match result {
        None => call.result(Json::Null),
        Some(result) => match shortened(&result.value, "result") {
            None => call.result(result),
            Some((short, marks)) => add_marks(call.result(short), marks),
        },
    }
}

fn add_marks(call: ToolCall, marks: Vec<Json>) -> ToolCall {
    let there =
        call.session_metadata.get(NOTES).and_then(|notes| notes.get("shortened")?.as_array().map(<[Json]>::to_vec));
    let all: Vec<Json> = there.unwrap_or_default().into_iter().chain(marks).collect();
    note(call, "shortened", all)
}

/// A message in a form that an entry can keep: of a long one, its beginning.
pub(super) fn message(value: &Json) -> String {
    const MOST: usize = 16 << 10;
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_canonical().to_string(),
    };
    if text.len() <= MOST {
        return text;
    }
    // Nothing is cut in two: a secret of which only the beginning is left is not recognised as one.
    format!("(a message of {} KiB, which was not kept)", text.len() >> 10)
}
