//! The vocabulary of all readers of sessions: what is known of a session, a call that was asked for, and its answer.
//!
//! A session is a [`Conversation`] whose calls are read one by one. A reader opens it by its name, tells it of every message
//! ([`Conversation::hear`]), and says [`asked`](Conversation::asked) and [`answered`](Conversation::answered). What the file does
//! not say is left out of the calls.

use super::answer::{self, Answer};
use super::beginning::Beginnings;
use super::conversation::{Conversation, Name};
use super::file::{At, Moment};
use super::{ImportOptions, Imported, record};
use attestlog::entry::{Resource, Source, SourceKind};
use attestlog::{Result, ToolCall};
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

/// What is known about a session, a message or a call: whatever the file says of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) user: Option<String>,
    pub(super) model: Option<String>,
    pub(super) agent: Option<String>,
    /// The agent that started this one, and the call with which it did.
    pub(super) parent_agent: Option<String>,
    pub(super) parent_call: Option<String>,
    /// The user's prompt that set the work off.
    pub(super) prompt: Option<String>,
    /// The agent that wrote the file, and its version.
    pub(super) program: Option<String>,
    pub(super) version: Option<String>,
    pub(super) trace: Option<String>,
    pub(super) span: Option<String>,
    /// Whether this happened in a side conversation that has no id.
    pub(super) aside: bool,
    pub(super) moment: Moment,
}

impl Facts {
    /// These facts, and those of `other` where these say nothing.
    pub(super) fn or(&self, other: &Facts) -> Facts {
        let one = |own: &Option<String>, other: &Option<String>| own.clone().or_else(|| other.clone());
        Facts {
            user: one(&self.user, &other.user),
            model: one(&self.model, &other.model),
            agent: one(&self.agent, &other.agent),
            parent_agent: one(&self.parent_agent, &other.parent_agent),
            parent_call: one(&self.parent_call, &other.parent_call),
            prompt: one(&self.prompt, &other.prompt),
            program: one(&self.program, &other.program),
            version: one(&self.version, &other.version),
            trace: one(&self.trace, &other.trace),
            span: one(&self.span, &other.span),
            aside: self.aside || other.aside,
            moment: self.moment.or(other.moment),
        }
    }
}

/// A call that was asked for.
pub(super) struct Asked<'a> {
    pub(super) at: At<'a>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) tool: Cow<'a, str>,
    pub(super) arguments: Option<At<'a>>,
    /// The server that offers the tool.
    pub(super) server: Option<String>,
    pub(super) facts: Facts,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        at: &At<'a>,
        id: Option<String>,
        tool: impl Into<Cow<'a, str>>,
        arguments: Option<At<'a>>,
        facts: &Facts,
    ) -> Asked<'a> {
        let (id, tool) = (id.map(Cow::Owned), tool.into());
        Asked { at: at.clone(), id, tool, arguments, server: None, facts: facts.clone() }
    }
}

impl<'a> Conversation<'a> {
    /// A message of the session, whatever its role.
    pub(super) fn hear(&mut self, message: &At<'a>) -> Result<()> {
        self.after();
        let Some(beginnings) = self.beginnings.clone().filter(|_| self.is_weak()) else { return Ok(()) };
        self.said = beginnings.next(&self.said, message.value, None)?;
        self.join.said(self.said);
        Ok(())
    }

    /// A call that was asked for.
    pub(super) fn asked(&mut self, asked: Asked<'a>) {
        let facts = asked.facts.or(&self.facts);
        let user = self.options.user.clone().or_else(|| facts.user.clone());
        if user.is_none() {
            self.nameless.get_or_insert_with(|| asked.at.place());
        }
        let mut call = ToolCall::new("", user.unwrap_or_default(), asked.tool.as_ref()).backfilled();
        call.turn_number = (self.turn > 0).then_some(self.turn);
        call.model = self.options.model.clone().or_else(|| facts.model.clone());
        call.agent_id.clone_from(&facts.agent);
        call.tool_server = asked.server;
        call.timestamp = facts.moment.time;
        put(&mut call, &facts);
        if let (None, Some(local)) = (facts.moment.time, facts.moment.local) {
            let text = local.to_string();
            record::mark(&mut call, "local_time", text.trim_end_matches('Z'));
        }
        answer::arguments(&mut call, asked.arguments);
        // Other programs may call a tool `read` that reads something else.
        if facts.program.is_some() {
            name_resources(&mut call);
        }
        self.join.call(asked.id, asked.tool, call, facts.moment.relative(), &asked.at);
    }

    /// More of what the call at this place among the session's was given.
    pub(super) fn asked_again(&mut self, place: usize, arguments: Option<At<'a>>) {
        let Some(call) = self.join.call_at(place) else { return };
        call.restated.retain(|path| !path.starts_with("arguments"));
        answer::arguments(call, arguments);
        name_resources(call);
    }

    /// An answer to the call with this id, or to the oldest one without an id.
    pub(super) fn answered(
        &mut self,
        at: &At<'a>,
        id: Option<String>,
        tool: Option<String>,
        answer: Answer,
        moment: Moment,
    ) {
        self.join.answer(id.map(Cow::Owned), tool.map(Cow::Owned), answer, moment.relative(), at);
    }
}

/// Puts what is known around a call into its circumstances.
fn put(call: &mut ToolCall, facts: &Facts) {
    let around = &mut call.circumstances;
    around.parent_agent_id.clone_from(&facts.parent_agent);
    around.parent_call_id.clone_from(&facts.parent_call);
    around.prompt_id.clone_from(&facts.prompt);
    around.trace_id.clone_from(&facts.trace);
    around.span_id.clone_from(&facts.span);
    if let Some(program) = &facts.program {
        let (program, version) = (Some(program.clone()), facts.version.clone());
        around.sources = vec![Source { program, version, ..Source::new(SourceKind::Import) }];
    }
    if facts.aside {
        call.session_metadata.insert("sidechain", true);
    }
}

/// The tools of coding agents that read or change what their arguments name, and the members that do.
const TOUCHING: &[(&str, &str, &[&str])] = &[
    ("read", "file", &["file_path", "filePath"]),
    ("write", "file", &["file_path", "filePath"]),
    ("edit", "file", &["file_path", "filePath"]),
    ("multiedit", "file", &["file_path"]),
    ("notebookedit", "file", &["notebook_path"]),
    ("read_file", "file", &["file_path", "absolute_path"]),
    ("write_file", "file", &["file_path"]),
    ("replace", "file", &["file_path"]),
    ("view_image", "file", &["path"]),
    ("webfetch", "url", &["url"]),
];

/// Names what a call reads or changes, where the tool and its arguments say so.
fn name_resources(call: &mut ToolCall) {
    let named = TOUCHING.iter().find(|(tool, ..)| call.tool_name.eq_ignore_ascii_case(tool));
    let Some((_, kind, members)) = named else { return };
    let name = members.iter().find_map(|member| call.arguments.as_ref()?.get(member)?.as_str());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        call.circumstances.resources = vec![Resource { name: name.to_owned(), kind: (*kind).to_owned() }];
    }
}

/// The sessions of a file, in the order in which they begin.
pub(super) struct Sessions<'a> {
    options: &'a ImportOptions,
    beginnings: Rc<Beginnings>,
    all: HashMap<String, (usize, Conversation<'a>)>,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(options: &'a ImportOptions) -> Result<Sessions<'a>> {
        Ok(Sessions { options, beginnings: Rc::new(Beginnings::new(options)?), all: HashMap::new() })
    }

    /// The session with this name; it begins here, if it did not before.
    pub(super) fn named(&mut self, name: &str) -> &mut Conversation<'a> {
        let bare = name.bytes().all(|b| b.is_ascii_digit());
        self.of(format!("name {name}"), Some(Name { text: name.to_owned(), weak: bare }))
    }

    /// A session that others may share the name with.
    pub(super) fn weakly_named(&mut self, name: &str) -> &mut Conversation<'a> {
        let next = self.all.len();
        self.of(format!("number {next}"), Some(Name { text: name.to_owned(), weak: true }))
    }

    /// One more session, to which the file gives no name.
    pub(super) fn unnamed(&mut self) -> &mut Conversation<'a> {
        let next = self.all.len();
        self.of(format!("number {next}"), None)
    }

    /// The session of those parts of the file that name none.
    pub(super) fn rest(&mut self) -> &mut Conversation<'a> {
        self.of("rest".to_owned(), None)
    }

    fn of(&mut self, key: String, name: Option<Name>) -> &mut Conversation<'a> {
        let (next, options, beginnings) = (self.all.len(), self.options, &self.beginnings);
        let new = || (next, Conversation::of_session(name, next + 1, options, beginnings.clone()));
        &mut self.all.entry(key).or_insert_with(new).1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn finish(self) -> Result<Imported> {
        let mut imported = Imported::default();
        let mut all: Vec<_> = self.all.into_values().collect();
        all.sort_by_key(|(order, _)| *order);
        all.into_iter().try_for_each(|(_, session)| session.finish(&mut imported))?;
        Ok(imported)
    }
}
