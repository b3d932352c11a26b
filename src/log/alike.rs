//! Which calls in the log can be the one that a source tells of: of the same conversation, with the same call id, and of the same tool
//! or told by the same program, which may call a tool otherwise in its sessions than in its hooks.
//!
//! A file tells of thousands of calls of one conversation, so each is found without reading the others (`store/read/call_ids`).

use super::ends::AFTER_END;
use super::known::{is_one_turn, session_of};
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
    /// Newest first: for a source that sees calls as they are made, those of other sources.
    pub(super) calls: Vec<Entry>,
    /// Those of them that this source recorded.
    own: BTreeSet<u64>,
    /// Whether this source numbers what it tells and names no program, so that only the numbers tell what it has told of already.
    is_nameless: bool,
    /// Whether a source that sees calls as they are made has recorded one with these arguments itself, in this turn.
    is_own: bool,
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
        if self.is_own {
            return Seen::Nothing;
        }
        let runs = |call: &Entry| self.before(call) == (true, false);
        let untold = |call: &Entry| !self.before(call).0;
        // The last that came: a call of that id that another one has used before is not meant.
        let told = self.calls.iter().find(|call| self.has_told(call, here));
        if let Some(entry) = told.filter(|call| !has_ended && runs(call)) {
            return Seen::Told(entry);
        }
        let open = if has_ended { self.oldest(here, runs) } else { None };
        // What it has told of is told again, and no end or beginning of a call with other arguments.
        let open = open.filter(|entry| told.is_none() || self.has_told(entry, here));
        let untold = || self.oldest(here, untold).filter(|entry| told.is_none() || self.may_be(entry, here));
        if let Some(entry) = open.or_else(untold) {
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

    /// The call that is meant by a source that tells of calls afterwards: the `nth` of those that nothing tells from `here`, else the
    /// oldest of another source of which this one has not told yet. What unknown programs call by one id need not be one call.
    pub(super) fn meant(&self, here: &Call, nth: u64) -> Option<&Entry> {
        if self.is_nameless {
            return self.oldest(here, |entry| self.is_untold(entry));
        }
        let mut alike: Vec<&Entry> = self.calls.iter().filter(|entry| self.may_be(entry, here)).collect();
        alike.sort_by_key(|entry| begun_at(entry));
        let before = usize::try_from(nth.saturating_sub(1)).unwrap_or(usize::MAX);
        alike.get(before).copied().or_else(|| self.oldest(here, |entry| self.is_untold(entry)))
    }

    /// Whether this source has told nothing of a call.
    fn is_untold(&self, entry: &Entry) -> bool {
        !self.own.contains(&entry.seq) && !self.before(entry).0
    }

    /// Whether a call may have these arguments: not all sources tell of them, and some name them otherwise, or tell of a part of them.
    /// What is sealed cannot be compared.
    fn may_be(&self, entry: &Entry, here: &Call) -> bool {
        let told = || [entry.call()].into_iter().flatten().chain(self.of(entry));
        let known: Vec<&Canonical> = told().filter_map(|call| call.arguments.as_ref()).collect();
        let Some(given) = here.arguments.as_ref().filter(|_| !known.is_empty()) else { return true };
        if known.contains(&given) {
            return true;
        }
        let is_sealed = |arguments: &Canonical| arguments.as_str().contains(r#"{"sealed":"#);
        if is_sealed(given) && known.iter().any(|known| is_sealed(known)) {
            return self.is_untold(entry);
        }
        let other_words =
            told().any(|call| is_telemetry(call) || call.tool_name != here.tool_name) || is_telemetry(here);
        let given = leaves(given);
        let is_part = |known: &BTreeSet<String>| given.is_subset(known) || known.is_subset(&given);
        let mut known = known.into_iter().map(leaves).filter(|known| !known.is_empty());
        other_words && !given.is_empty() && known.any(|known| is_part(&known))
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

    /// Whether the log has anything of this conversation.
    pub(super) fn has_conversation(&self, name: &str) -> Result<bool> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let conversation = (Facet::Conversation, self.engine().policies().terms(Facet::Conversation, name));
        let mut is_there = false;
        guarded(|| {
            backwards(&snapshot, std::slice::from_ref(&conversation), snapshot.size, &mut |_| {
                is_there = true;
                Ok(false)
            })
        })?;
        Ok(is_there)
    }

    /// How others say that the call ended which was begun at `seq`, as far as they saw an end; with the seq where one says so first.
    pub(super) fn told_end(&self, begun: &Call, seq: u64) -> Result<Option<(Outcome, u64)>> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let conversation = (Facet::Conversation, vec![begun.conversation_id.clone()]);
        let own = teller(begun.circumstances.as_deref());
        let is_others = |call: &Call| teller(call.circumstances.as_deref()) != own;
        if begun.call_id.is_none() || !guarded(|| newest_have(&snapshot, &conversation, is_others))? {
            return Ok(None);
        }
        let found = self.with_id(&snapshot, &conversation, own, begun)?;
        let ends = found.details.iter().rev().filter(|(of, own, _)| *of == seq && !own);
        let end = |entry: &Entry| entry.call()?.completion.as_ref().map(|ended| ended.outcome);
        let mut ends = ends.filter_map(|(_, _, entry)| Some((end(entry)?, entry.seq)));
        Ok(ends.find(|(outcome, _)| *outcome != Outcome::Abandoned))
    }

    /// Whether the source of `call` told once more that it begins, after it had ended at `seq`, and not yet that it has ended.
    pub(super) fn was_begun_again(&self, call: &ToolCall, seq: u64) -> Result<bool> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let here = self.as_begun(call)?;
        let own = teller(Some(&call.circumstances));
        Ok(self.with_id(&snapshot, &self.conversation_of(call), own, &here)?.was_begun_again(seq))
    }

    /// Whether the source of `call` has told before, as details of the call at `seq`, that it ended so.
    pub(super) fn has_told_end(&self, call: &ToolCall, seq: u64, outcome: Option<Outcome>) -> Result<bool> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let here = self.as_begun(call)?;
        let own = teller(Some(&call.circumstances));
        let found = self.with_id(&snapshot, &self.conversation_of(call), own, &here)?;
        let told = |entry: &Entry| entry.call().and_then(|call| call.completion.as_ref()).map(|ended| ended.outcome);
        Ok(found.details.iter().any(|(of, own, entry)| *own && *of == seq && told(entry) == outcome))
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
        let is_named = own.is_some_and(|(_, program)| program.is_some());
        let mut found = Found { is_nameless: here.sender.is_some() && !is_named, ..Found::default() };
        for seq in seqs.into_iter().rev().take(ALIKE) {
            // It may have been purged.
            let Some(entry) = guarded(|| snapshot.checked(seq))? else { continue };
            let Some(there) = entry.call().filter(|there| there.call_id.as_ref() == Some(id)) else { continue };
            let by = teller(there.circumstances.as_deref());
            let is_call = match there.kind() {
                Kind::CallBegun => guarded(|| snapshot.is_unfinished(seq))?,
                _ => !there.adds_to_call(),
            };
            let live = own.is_some_and(|(kind, _)| is_live(kind));
            if live && by == own && !there.adds_to_call() && there.arguments == here.arguments {
                found.is_own |= there.tool_name == here.tool_name
                    && there.agent_id == here.agent_id
                    && session_of(there) == session_of(here)
                    && is_one_turn(there, here);
            }
            let can_be = if live { is_another(by, own) } else { by == own || is_another(by, own) };
            match there.detail_of().or(there.follows.filter(|_| there.late_answer)) {
                Some(of) => found.details.push((of, by == own, entry)),
                None if is_call
                    && can_be
                    && is_one_agent(there, here)
                    && (is_one_name(there, here) || is_one_program(by, own)) =>
                {
                    found.own.extend((by == own).then_some(seq));
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
    // This source's details are of another one's call, those of another source may be of this one's.
    newest_have(snapshot, conversation, |call| {
        let by_this = teller(call.circumstances.as_deref()) == own;
        if call.detail_of().is_some() { by_this } else { !by_this }
    })
}

/// Whether one of the newest entries of a conversation is such a call.
fn newest_have(
    snapshot: &Snapshot,
    conversation: &(Facet, Vec<String>),
    is_such: impl Fn(&Call) -> bool,
) -> Result<bool> {
    let (mut left, mut found) = (NEWEST, false);
    backwards(snapshot, std::slice::from_ref(conversation), snapshot.size, &mut |seq| {
        left -= 1;
        let entry = snapshot.checked(seq)?;
        found = entry.as_ref().and_then(|entry| entry.call()).is_some_and(&is_such);
        Ok(!found && left > 0)
    })?;
    Ok(found)
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

/// Where a call begins that an entry is of.
fn begun_at(entry: &Entry) -> u64 {
    match entry.call().map(|call| call.phase) {
        Some(Phase::Finished(begun)) => begun,
        _ => entry.seq,
    }
}

/// Whether telemetry told of a call, which seldom tells of everything.
fn is_telemetry(call: &Call) -> bool {
    call.circumstances.as_ref().is_some_and(|around| around.span_id.is_some())
        || call.first_source() == Some(SourceKind::Telemetry)
        || noted(call, |metadata| metadata.get("import")?.get("time_from").cloned()).is_some()
}

fn noted(call: &Call, get: impl FnOnce(&Json) -> Option<Json>) -> Option<Json> {
    get(&call.session_metadata.as_ref()?.to_json())
}

/// Whether two calls are of the same agent. A sub-agent has its main agent's conversation, and may use the same ids; telemetry, and
/// sessions of old versions, do not say whose call it is.
fn is_one_agent(there: &Call, here: &Call) -> bool {
    let says = |call: &Call| {
        let source = call.circumstances.as_ref().and_then(|around| around.sources.first());
        let is_agents = source.is_some_and(|source| {
            source.program.is_some() && matches!(source.kind, SourceKind::Hook | SourceKind::Import)
        });
        // What an agent prints of its sub-agents names the calls that started them.
        let is_aside = call.agent_id.is_none()
            && call.circumstances.as_ref().is_some_and(|around| around.parent_call_id.is_some());
        is_agents
            && !is_aside
            && !is_telemetry(call)
            && noted(call, |metadata| metadata.get("sidechain").cloned()).is_none()
    };
    match (&there.agent_id, &here.agent_id) {
        (there, here) if there == here => true,
        (Some(_), Some(_)) => false,
        _ => !(says(there) && says(here)),
    }
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
