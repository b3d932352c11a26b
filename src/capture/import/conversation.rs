//! Conversations of messages: where they stand in the file, what they are called, and whose they are.

use super::file::{self, At, Document};
use super::join::Join;
use super::{ImportOptions, Imported, SAY_USER};
use crate::{Hash, Result, ToolCall};

/// One conversation, while its messages are read.
pub(super) struct Conversation<'a> {
    options: &'a ImportOptions,
    /// The object that holds the messages, where there is one.
    record: Option<At<'a>>,
    id: String,
    /// How many messages the user has sent so far.
    turn: u64,
    pub(super) join: Join<'a>,
}

/// Reads every conversation of the file, each message with `message`.
pub(super) fn read_all<F>(text: &[u8], options: &ImportOptions, message: F) -> Result<Imported>
where
    F: for<'a> Fn(&At<'a>, &mut Conversation<'a>) -> Result<()>,
{
    let documents = file::documents(text, options.max_bytes)?;
    let (records, loose) = sort(&documents)?;
    // The same file read again gives the same names; two files of the same shape do not share any.
    let digits: String = Hash::of(text).to_string().chars().take(16).collect();
    let mut imported = Imported::default();
    if !loose.is_empty() {
        let id = options.conversation.clone().unwrap_or_else(|| format!("import-{digits}"));
        read(loose.into_iter(), None, id, options, &message, &mut imported)?;
    }
    for (i, (record, messages)) in records.into_iter().enumerate() {
        let id = match options.conversation.clone() {
            Some(id) => id,
            None => name(&record)?.unwrap_or_else(|| format!("import-{digits}-{}", i + 1)),
        };
        read(messages.elements()?, Some(record), id, options, &message, &mut imported)?;
    }
    Ok(imported)
}

fn read<'a>(
    messages: impl Iterator<Item = At<'a>>,
    record: Option<At<'a>>,
    id: String,
    options: &'a ImportOptions,
    message: &impl Fn(&At<'a>, &mut Conversation<'a>) -> Result<()>,
    imported: &mut Imported,
) -> Result<()> {
    let mut conversation = Conversation { options, record, id, turn: 0, join: Join::default() };
    for at in messages {
        at.object()?;
        message(&at, &mut conversation)?;
    }
    conversation.join.finish(imported, options)
}

/// A record and its messages.
type Record<'a> = (At<'a>, At<'a>);

/// What the file's values are: records, or the messages of one conversation. A file is not both.
fn sort(documents: &[Document]) -> Result<(Vec<Record<'_>>, Vec<At<'_>>)> {
    let (mut records, mut loose) = (Vec::new(), Vec::new());
    for document in documents {
        let root = document.root();
        let items = match root.value.as_array() {
            // A line of a file is one item; only a whole file is a list of them.
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
                (None, None) if item.member("role").is_some() => loose.push(item),
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

/// What the record calls itself.
fn name(record: &At<'_>) -> Result<Option<String>> {
    for key in ["conversation_id", "id"] {
        if let Some(id) = record.opt_id(key)? {
            return Ok(Some(id));
        }
    }
    Ok(match (record.opt_id("task_id")?, record.opt_id("trial")?) {
        (Some(task), Some(trial)) => Some(format!("task-{task}-trial-{trial}")),
        (Some(task), None) => Some(format!("task-{task}")),
        (None, _) => None,
    })
}

impl<'a> Conversation<'a> {
    /// The user has said something.
    pub(super) fn user_turn(&mut self) {
        self.turn += 1;
    }

    /// A call of `tool`, made in `message`, with all that the transcript says around it.
    pub(super) fn start(&self, tool: &str, message: &At<'_>) -> Result<ToolCall> {
        let record = self.record.as_ref();
        let mut call = ToolCall::new(self.id.as_str(), self.user(message)?, tool).backfilled();
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

fn no_user(record: &At<'_>) -> crate::Error {
    record.error(format!("no user is known, neither user_id nor info.task.user_id is there: {SAY_USER}"))
}
