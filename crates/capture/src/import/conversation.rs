//! Conversations of messages: where they are in the file, their ids, and their users.

use super::beginning::{Beginning, Beginnings};
use super::file::{At, Document, Read};
use super::identity::Source;
use super::join::Join;
use super::session::Facts;
use super::{ImportOptions, Imported, NotTaken, SAY_USER, Untaken};
use attestlog::{Error, ErrorKind, Hash, IMPORTED, Result, ToolCall};
use std::cell::Cell;
use std::rc::Rc;

/// One conversation, while its messages are being read.
pub(super) struct Conversation<'a> {
    pub(super) options: &'a ImportOptions,
    /// What the file says of the whole session, for the readers that say `asked`.
    pub(super) facts: Facts,
    /// The place of the first call of which no user is known.
    pub(super) nameless: Option<String>,
    /// Whether a message could not be read because no user is known.
    no_user: Cell<bool>,
    pub(super) beginnings: Option<Rc<Beginnings>>,
    /// The object that holds the messages, where there is one.
    record: Option<At<'a>>,
    /// The name that the file gives it.
    name: Option<Name>,
    /// What kind of file it is in, where a program keeps several of one session: each tells of a call once.
    pub(super) form: &'static str,
    /// Its position in the file, from 1, if the file holds a list of conversations.
    number: Option<usize>,
    /// A running hash of all messages so far, whatever their role.
    pub(super) said: Beginning,
    /// The value of `said` at the first call, and at the first answer.
    to_call: Option<Beginning>,
    to_answer: Option<Beginning>,
    /// How many messages the user has sent so far.
    pub(super) turn: u64,
    pub(super) join: Join<'a>,
}

/// The name that the file gives a conversation.
pub(super) struct Name {
    pub(super) text: String,
    /// Whether other conversations may have the same name: numbers in a list, tasks of a benchmark.
    pub(super) weak: bool,
}

/// Reads every conversation of the file; `message` reads one message. A message that cannot be read is reported; if that leaves no
/// call, the file is of another format, and the first error says why.
pub(super) fn read_all<F>(file: &Read, options: &ImportOptions, message: F) -> Result<Imported>
where
    F: for<'a> Fn(&At<'a>, &mut Conversation<'a>) -> Result<()>,
{
    let (records, loose) = sort(&file.documents)?;
    let (mut imported, mut first_error, beginnings) = (Imported::default(), None, Beginnings::new(options)?);
    if !loose.is_empty() {
        let conversation = Conversation::new(None, None, None, options);
        read(loose.into_iter(), conversation, &beginnings, &message, &mut imported, &mut first_error)?;
    }
    for (i, (record, messages)) in records.into_iter().enumerate() {
        let conversation = Conversation::new(name(&record)?, Some(i + 1), Some(record), options);
        read(messages.elements()?, conversation, &beginnings, &message, &mut imported, &mut first_error)?;
    }
    match first_error {
        // Nothing speaks for the file being of this format.
        Some(e) if imported.calls.is_empty() => Err(e),
        _ => Ok(imported),
    }
}

fn read<'a>(
    messages: impl Iterator<Item = At<'a>>,
    mut conversation: Conversation<'a>,
    beginnings: &Beginnings,
    message: &impl Fn(&At<'a>, &mut Conversation<'a>) -> Result<()>,
    imported: &mut Imported,
    first_error: &mut Option<Error>,
) -> Result<()> {
    for at in messages {
        if let Err(e) = at.object() {
            let (place, why) = (at.place(), e.to_string());
            imported.not_taken.push(NotTaken { place, kind: Untaken::Call, call_id: None, why });
            first_error.get_or_insert(e);
            continue;
        }
        conversation.said = beginnings.next(&conversation.said, at.value, None)?;
        conversation.join.said(conversation.said);
        if let Err(e) = message(&at, &mut conversation) {
            if conversation.no_user.get() {
                return Err(e);
            }
            at.take();
            imported.not_taken.push(NotTaken {
                place: at.place(),
                kind: Untaken::Call,
                call_id: None,
                why: e.to_string(),
            });
            first_error.get_or_insert(e);
        }
        conversation.after();
    }
    conversation.finish(imported)
}

/// An object that holds a conversation, and its messages.
type Record<'a> = (At<'a>, At<'a>);

/// Sorts the values of the file into objects that hold conversations and messages of one conversation. A file cannot
/// have both.
fn sort(documents: &[Document]) -> Result<(Vec<Record<'_>>, Vec<At<'_>>)> {
    let (mut records, mut loose) = (Vec::new(), Vec::new());
    for document in documents {
        let root = document.root();
        let items = match root.value.as_array() {
            // In a file of one JSON text an array is a list of items; in a file of many lines each line is one item.
            Some(_) if documents.len() == 1 => root.elements()?.collect(),
            _ => vec![root],
        };
        for item in items {
            item.object()?;
            match (item.member("messages"), item.member("traj")) {
                (Some(_), Some(_)) => {
                    return Err(item.error("has both messages and traj; which are the conversation's?"));
                }
                (Some(messages), None) | (None, Some(messages)) => records.push((item, messages)),
                (None, None) if role(&item)?.is_some() => loose.push(item),
                (None, None) => {
                    let message = "is no message (it has no role) and no conversation (it has no messages or traj)";
                    return Err(item.error(message));
                }
            }
            if let (Some((record, _)), Some(message)) = (records.last(), loose.last()) {
                return Err(message.error(format!("is a message, but {} is a whole conversation", record.place())));
            }
        }
    }
    Ok((records, loose))
}

/// The name that the object gives its conversation.
fn name(record: &At<'_>) -> Result<Option<Name>> {
    for key in ["conversation_id", "id"] {
        if let Some(text) = record.opt_id(key)? {
            let weak = text.bytes().all(|b| b.is_ascii_digit());
            return Ok(Some(Name { text, weak }));
        }
    }
    let text = match (record.opt_id("task_id")?, record.opt_id("trial")?) {
        (Some(task), Some(trial)) => format!("task-{task}-trial-{trial}"),
        (Some(task), None) => format!("task-{task}"),
        (None, _) => return Ok(None),
    };
    Ok(Some(Name { text, weak: true }))
}

/// The role of a message. LangChain gives it as the message's `type`.
pub(super) fn role<'a>(message: &At<'a>) -> Result<Option<&'a str>> {
    if message.member("role").is_some() {
        return message.named("role").map(Some);
    }
    let kind = message.value.get("type").and_then(|kind| kind.as_str());
    Ok(match kind {
        Some("human") => Some("user"),
        Some("ai") => Some("assistant"),
        Some(same @ ("system" | "developer" | "tool" | "function")) => Some(same),
        _ => None,
    })
}

impl<'a> Conversation<'a> {
    fn new(
        name: Option<Name>,
        number: Option<usize>,
        record: Option<At<'a>>,
        options: &'a ImportOptions,
    ) -> Conversation<'a> {
        let (said, to_call, to_answer, turn, join) = (Beginning::default(), None, None, 0, Join::default());
        let (facts, nameless, beginnings, form) = (Facts::default(), None, None, "session");
        Conversation {
            options,
            facts,
            nameless,
            no_user: Cell::new(false),
            beginnings,
            record,
            name,
            form,
            number,
            said,
            to_call,
            to_answer,
            turn,
            join,
        }
    }

    /// A session whose reader says what was asked and answered; the file's `number`th.
    pub(super) fn of_session(
        name: Option<Name>,
        number: usize,
        options: &'a ImportOptions,
        beginnings: Rc<Beginnings>,
    ) -> Conversation<'a> {
        let mut session = Conversation::new(name, Some(number).filter(|number| *number > 1), None, options);
        session.beginnings = Some(beginnings);
        session
    }

    /// Tells it from the other sessions of the file.
    pub(super) fn number(&self) -> usize {
        self.number.unwrap_or(1)
    }

    /// Whether only its messages tell it from others.
    pub(super) fn is_weak(&self) -> bool {
        self.name.as_ref().is_none_or(|name| name.weak)
    }

    /// Keeps the hash of the conversation's beginning once the first call, and the first answer, is reached.
    pub(super) fn after(&mut self) {
        if self.to_answer.is_some() {
            return;
        }
        let (calls, answers) = self.join.seen();
        if calls > 0 && self.to_call.is_none() {
            self.to_call = Some(self.said);
        }
        if answers > 0 {
            self.to_answer = Some(self.said);
        }
    }

    /// Adds the conversation's calls to `imported`.
    pub(super) fn finish(mut self, imported: &mut Imported) -> Result<()> {
        if let Some(place) = &self.nameless {
            let message = format!("a tool is called, but no user is known: {SAY_USER}");
            return Err(Error::new(ErrorKind::InvalidInput, message).at(place));
        }
        self.after();
        let began = self.to_answer.or(self.to_call).unwrap_or_default();
        let id = self.id(&began.unsealed.to_string());
        let join = std::mem::take(&mut self.join);
        join.finish(&id, |said, before_answers| self.source(said, before_answers), imported, self.options);
        Ok(())
    }

    /// The source of a call. `said` is the hash of all messages up to the call; `before_answers`: the call precedes the
    /// first answer.
    fn source(&self, said: &Beginning, before_answers: bool) -> Source {
        let weak = self.is_weak();
        let began = self.to_answer.filter(|_| before_answers).unwrap_or(*said);
        let session = self.session(&began.unsealed);
        // An import before there was an answer identified this call by a shorter beginning, and one before the policy sealed
        // something by everything that was said.
        let mut sooner = Vec::new();
        for other in [said.unsealed, began.all, said.all].map(|began| self.session(&began)) {
            if other != session && !sooner.contains(&other) {
                sooner.push(other);
            }
        }
        // A bare number is the name of many sessions; a name that was given with the file is meant.
        let apart = weak && self.options.conversation.is_none();
        Source { session, sooner, id: None, weak, apart }
    }

    /// The conversation's id. If the file gives none, it is a hash of the messages up to the first answer, which stay the
    /// same as the file grows; the store writes 16 digits of it, under its key.
    fn id(&self, began: &str) -> String {
        match (&self.options.conversation, &self.name, self.number) {
            (Some(id), ..) => id.clone(),
            (None, Some(name), _) => name.text.clone(),
            (None, None, Some(number)) => format!("{IMPORTED}{began}-{number}"),
            (None, None, None) => format!("{IMPORTED}{began}"),
        }
    }

    /// A key that distinguishes it from every other conversation, by a hash of the messages so far if its name does
    /// not.
    fn session(&self, began: &Hash) -> String {
        let form = self.form;
        match &self.name {
            Some(name) if !name.weak => format!("{form} {}", name.text),
            Some(name) => format!("{form} {} {began}", name.text),
            None => format!("{form} {began}"),
        }
    }

    /// Counts a message of the user.
    pub(super) fn user_turn(&mut self) {
        self.turn += 1;
    }

    /// A call of `tool` made in `message`, with everything that the transcript says about it except the conversation's
    /// id.
    pub(super) fn start(&self, tool: &str, message: &At<'_>) -> Result<ToolCall> {
        let record = self.record.as_ref();
        let mut call = ToolCall::new("", self.user(message)?, tool).backfilled();
        call.turn_number = (self.turn > 0).then_some(self.turn);
        call.model = match (&self.options.model, message.opt_text("model")?) {
            (Some(model), _) => Some(model.clone()),
            (None, Some(model)) => Some(model.to_owned()),
            (None, None) => record.map(|r| r.opt_text("model")).transpose()?.flatten().map(str::to_owned),
        };
        call.timestamp = match message.time()? {
            Some(time) => Some(time),
            None => record.map(At::time).transpose()?.flatten(),
        };
        Ok(call)
    }

    fn user(&self, message: &At<'_>) -> Result<String> {
        let user = self.told_user(message);
        self.no_user.set(user.is_err());
        user
    }

    fn told_user(&self, message: &At<'_>) -> Result<String> {
        if let Some(user) = &self.options.user {
            return Ok(user.clone());
        }
        let Some(record) = &self.record else {
            return Err(message.error(format!("a tool is called, but no user is known: {SAY_USER}")));
        };
        let task = record.member("info").and_then(|info| info.member("task"));
        match (record.opt_id("user_id")?, task) {
            (Some(user), _) => Ok(user),
            (None, Some(task)) => task.opt_id("user_id")?.ok_or_else(|| no_user(record)),
            (None, None) => Err(no_user(record)),
        }
    }
}

fn no_user(record: &At<'_>) -> attestlog::Error {
    record.error(format!("no user is known, neither user_id nor info.task.user_id is there: {SAY_USER}"))
}
