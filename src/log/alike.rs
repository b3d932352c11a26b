//! Which calls in the log can be the one that a source tells of: of the same conversation, with the same call id, and of the same tool
//! or told by the same program, which may call a tool otherwise in its sessions than in its hooks.
//!
//! A file tells of thousands of calls of one conversation, so each is found without reading the others (`store/read/call_ids`).

use super::ends::AFTER_END;
use super::known::is_one_turn;
use crate::entry::ToolCall;
use crate::json::{Canonical, Json};
use crate::store::guarded;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::stream::backwards;
use crate::{Entry, Outcome, Result};
use attestlog_proof::entry::{Call, Circumstances, Facet, Kind, Phase, SourceKind};
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// How many of the newest entries of one id are looked at.
const ALIKE: usize = 1_000;
/// How many of the newest entries of a conversation a source that sees calls as they are made looks at to find out whether others tell
/// of it at all.
const NEWEST: usize = 32;

/// Who told of a call first: the kind of source and its program.
type Teller<'a> = Option<(SourceKind, Option<&'a str>)>;

/// The entries that may be of the call that a source tells of.
#[derive(Default)]
pub(super) struct Found {
    /// Of other sources, newest first.
    pub(super) calls: Vec<Entry>,
    /// What was told of them, and whether by this source.
    pub(super) details: Vec<(u64, bool, Entry)>,
}

/// Whether an entry at `of` is a part of this call.
pub(super) fn is_of(entry: &Entry, of: u64) -> bool {
    entry.seq == of || entry.call().is_some_and(|call| call.phase == Phase::Finished(of))
}

/// Whether this kind of source sees calls as they are made.
pub(super) fn is_live(source: SourceKind) -> bool {
    matches!(source, SourceKind::Hook | SourceKind::Proxy)
}

/// The source that told of a call first: its kind and its program.
fn teller(around: Option<&Circumstances>) -> Teller<'_> {
    around?.sources.first().map(|source| (source.kind, source.program.as_deref()))
}

/// What an event of a source that sees calls is about.
pub(super) enum Seen<'a> {
    /// No call that another source has told of.
    Nothing,
    /// This call, of which the source has told so already.
    Told(&'a Entry),
    /// This call, and it adds to it.
    Adds(&'a Entry),
    /// This call, of whose end the source has told already.
    AfterEnd(&'a Entry),
}

impl Found {
    pub(super) fn of<'a>(&'a self, call: &'a Entry) -> impl Iterator<Item = &'a Call> {
        self.details.iter().filter(|(of, ..)| is_of(call, *of)).filter_map(|(_, _, entry)| entry.call())
    }

    /// What this source told of a call.
    fn own<'a>(&'a self, call: &'a Entry) -> impl Iterator<Item = &'a Call> {
        self.details.iter().filter(|(of, own, _)| *own && is_of(call, *of)).filter_map(|(_, _, entry)| entry.call())
    }

    /// What this source told of a call before: of its beginning, or of its end.
    pub(super) fn before(&self, call: &Entry) -> (bool, bool) {
        (self.own(call).next().is_some(), self.own(call).any(|told| told.completion.is_some()))
    }

    /// The call that an event is about, if its source sees calls as they are made.
    pub(super) fn seen(&self, here: &Call, has_ended: bool) -> Seen<'_> {
        let runs = |call: &Entry| self.before(call) == (true, false);
        let untold = |call: &Entry| !self.before(call).0;
        // The last that came: a call of that id that another one has used before is not meant.
        let told = self.calls.iter().find(|call| self.has_told(call, here));
        if let Some(entry) = told.filter(|call| !has_ended && runs(call)) {
            return Seen::Told(entry);
        }
        let open = if has_ended { self.oldest(here, runs) } else { None };
        if let Some(entry) = open.or_else(|| self.oldest(here, untold)) {
            return Seen::Adds(entry);
        }
        match told {
            None => Seen::Nothing,
            Some(entry) if !has_ended || self.was_begun_again(entry.seq) || self.was_denied(entry, here) => {
                Seen::AfterEnd(entry)
            }
            Some(entry) => Seen::Told(entry),
        }
    }

    /// Whether this source has told of a call with these arguments, in this turn.
    fn has_told(&self, call: &Entry, here: &Call) -> bool {
        let of_call = call.call().and_then(|call| call.arguments.as_ref());
        let same = |told: &Call| told.arguments.as_ref().or(of_call) == here.arguments.as_ref();
        self.own(call).any(|told| same(told) && is_one_turn(told, here))
    }

    /// Whether this source told that a call was denied that has run.
    fn was_denied(&self, call: &Entry, here: &Call) -> bool {
        let outcome = |call: &Call| call.completion.as_ref().map(|ended| ended.outcome);
        let last = self.own(call).find_map(outcome);
        last == Some(Outcome::Denied) && outcome(here) != Some(Outcome::Denied)
    }

    /// Whether this source told once more, after the call had ended at `seq`, that it begins, and not yet that it has ended.
    pub(super) fn was_begun_again(&self, seq: u64) -> bool {
        let is_again =
            |told: &&Call| told.session_metadata.as_ref().is_some_and(|text| text.to_json().get(AFTER_END).is_some());
        let own =
            self.details.iter().filter(|(of, own, _)| *own && *of == seq).filter_map(|(_, _, entry)| entry.call());
        let (ends, beginnings): (Vec<&Call>, Vec<&Call>) =
            own.filter(is_again).partition(|told| told.completion.is_some());
        beginnings.len() > ends.len()
    }

    /// The call that this can be: the oldest with the same arguments, else the oldest.
    pub(super) fn oldest(&self, here: &Call, is_left: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let left = || self.calls.iter().rev().filter(|entry| is_left(entry));
        let same = left().find(|entry| entry.call().is_some_and(|call| call.arguments == here.arguments));
        same.or_else(|| left().next())
    }
}

impl OpenStore {
    /// The calls with this id that other sources told of, and what was told of them.
    pub(super) fn alike(&self, call: &ToolCall, here: &Call) -> Result<Found> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let conversation = self.conversation_of(call);
        let own = teller(Some(&call.circumstances));
        let live = own.is_some_and(|(kind, _)| is_live(kind));
        if here.call_id.is_none() || live && !guarded(|| others_tell(&snapshot, &conversation, own))? {
            return Ok(Found::default());
        }
        self.with_id(&snapshot, &conversation, own, here)
    }

    /// Whether the source of `call` told once more that it begins, after it had ended at `seq`, and not yet that it has ended.
    pub(super) fn was_begun_again(&self, call: &ToolCall, seq: u64) -> Result<bool> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let here = self.as_begun(call)?;
        let own = teller(Some(&call.circumstances));
        Ok(self.with_id(&snapshot, &self.conversation_of(call), own, &here)?.was_begun_again(seq))
    }

    fn conversation_of(&self, call: &ToolCall) -> (Facet, Vec<String>) {
        (Facet::Conversation, self.engine().policies().terms(Facet::Conversation, &call.conversation_id))
    }

    fn with_id(
        &self,
        snapshot: &Snapshot,
        conversation: &(Facet, Vec<String>),
        own: Teller<'_>,
        here: &Call,
    ) -> Result<Found> {
        let Some(id) = &here.call_id else { return Ok(Found::default()) };
        let mut ids = self.ids().lock().unwrap_or_else(PoisonError::into_inner);
        let seqs = guarded(|| ids.with(snapshot, conversation, id).map(<[u64]>::to_vec))?;
        drop(ids);
        let mut found = Found::default();
        for seq in seqs.into_iter().rev().take(ALIKE) {
            // It may have been purged.
            let Some(entry) = guarded(|| snapshot.checked(seq))? else { continue };
            let Some(there) = entry.call().filter(|there| there.call_id.as_ref() == Some(id)) else { continue };
            let by = teller(there.circumstances.as_deref());
            let is_call = match there.kind() {
                Kind::CallBegun => guarded(|| snapshot.is_unfinished(seq))?,
                _ => !there.adds_to_call(),
            };
            match there.detail_of() {
                Some(of) => found.details.push((of, by == own, entry)),
                None if is_call && is_another(by, own) && (is_one_name(there, here) || is_one_program(by, own)) => {
                    found.calls.push(entry);
                }
                None => {}
            }
        }
        Ok(found)
    }
}

/// Whether among the newest entries of a conversation some are of another source's calls.
fn others_tell(snapshot: &Snapshot, conversation: &(Facet, Vec<String>), own: Teller<'_>) -> Result<bool> {
    let (mut left, mut others) = (NEWEST, false);
    backwards(snapshot, std::slice::from_ref(conversation), snapshot.size, &mut |seq| {
        left -= 1;
        let entry = snapshot.checked(seq)?;
        let told = entry.as_ref().and_then(|entry| entry.call());
        // This source's details are of another one's call, those of another source may be of this one's.
        others = told.is_some_and(|call| {
            let by_this = teller(call.circumstances.as_deref()) == own;
            if call.detail_of().is_some() { by_this } else { !by_this }
        });
        Ok(!others && left > 0)
    })?;
    Ok(others)
}

/// Whether what one told of can be told by the other too. The hooks of two agents never tell of one call: they may share a
/// conversation, and their ids are each agent's own.
fn is_another(there: Teller<'_>, here: Teller<'_>) -> bool {
    let is_hook = |teller: Teller<'_>| teller.is_some_and(|(kind, _)| kind == SourceKind::Hook);
    there != here && !(is_hook(there) && is_hook(here))
}

/// Whether two calls are of the same tool. Agents call the tool of an MCP server `mcp__SERVER__TOOL`, and the server calls it `TOOL`.
pub(super) fn is_one_name(there: &Call, here: &Call) -> bool {
    let plain = |call: &Call| {
        let rest = call.tool_name.strip_prefix("mcp__")?;
        let server = call.tool_server.as_deref()?;
        Some(rest.strip_prefix(server)?.strip_prefix("__")?.to_owned())
    };
    let name = |call: &Call| plain(call).unwrap_or_else(|| call.tool_name.clone());
    there.tool_name == here.tool_name
        || there.tool_server.is_some() && there.tool_server == here.tool_server && name(there) == name(here)
}

/// Whether one program told both, in different ways: the id is the program's own, and so is its name for the tool.
fn is_one_program(there: Teller<'_>, here: Teller<'_>) -> bool {
    matches!((there, here), (Some((_, Some(there))), Some((_, Some(here)))) if there == here)
}

/// The values in arguments, whatever they are called.
pub(super) fn leaves(arguments: &Canonical) -> BTreeSet<String> {
    let (mut all, mut left) = (BTreeSet::new(), vec![arguments.to_json()]);
    while let Some(value) = left.pop() {
        match value {
            Json::Array(items) => left.extend(items),
            Json::Object(members) => left.extend(members.into_iter().map(|(_, value)| value)),
            one => _ = all.insert(one.to_canonical().to_string()),
        }
    }
    all
}
