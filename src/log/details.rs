//! What another source tells of a call that is in the log: the agent's session file of a call that a hook recorded.
//!
//! The call is found by its conversation, tool and call id. Of what the source tells, an entry keeps what the log does not have, and
//! what contradicts it; the rest would be told twice.
//!
//! Invariant R108: of one call a source of one kind tells once, and a call that another source has told of is not recorded again.

use crate::entry::ToolCall;
use crate::redact::is_pseudonym;
use crate::store::guarded;
use crate::store::log::OpenStore;
use crate::store::read::stream::backwards;
use crate::{Entry, Error, Outcome, Receipt, Result};
use attestlog_proof::entry::{Call, Circumstances, Facet, Kind, Phase, Sender, SourceKind};

/// How many of the newest entries of a conversation with a tool are looked at.
const LOOKED_AT: usize = 4_000;

/// What became of what a source told of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The log has no such call from another source; nothing was recorded.
    Unknown,
    /// The log has all of it, at this seq; nothing was recorded.
    NothingNew(u64),
    /// What the log did not have is recorded, as details of the call.
    Added(Receipt),
}

impl Told {
    /// As it is sent between processes: the receipt, or where the log has it.
    pub(crate) fn sent(self) -> (Option<Receipt>, Option<u64>) {
        match self {
            Told::Unknown => (None, None),
            Told::NothingNew(seq) => (None, Some(seq)),
            Told::Added(receipt) => (Some(receipt), None),
        }
    }

    #[cfg(feature = "owner")]
    pub(crate) fn of_sent(sent: (Option<Receipt>, Option<u64>)) -> Told {
        match sent {
            (Some(receipt), _) => Told::Added(receipt),
            (None, Some(seq)) => Told::NothingNew(seq),
            (None, None) => Told::Unknown,
        }
    }
}

/// The entries that may be of the call that a source tells of.
#[derive(Default)]
struct Found {
    /// Of other sources, newest first.
    calls: Vec<Entry>,
    /// The calls of which this kind of source has told already.
    told: Vec<u64>,
}

/// What a source adds, and where it contradicts.
#[derive(Default)]
struct Weighed {
    added: Vec<&'static str>,
    contradicts: Vec<&'static str>,
}

impl Weighed {
    /// Whether the source's value of this member is to be kept.
    fn keeps<T: PartialEq + ?Sized>(&mut self, member: &'static str, there: Option<&T>, here: Option<&T>) -> bool {
        match (there, here) {
            (_, None) => return false,
            (Some(there), Some(here)) if there == here => return false,
            (None, Some(_)) => self.added.push(member),
            (Some(_), Some(_)) => self.contradicts.push(member),
        }
        true
    }
}

impl OpenStore {
    /// Records what `call` tells that the log does not have of it. `own`: the number of the request.
    pub(crate) fn tell(&self, call: ToolCall, own: Option<Sender>) -> Result<Told> {
        let Some(source) = call.first_source() else {
            return Err(Error::invalid("details of a call need a source that tells them").in_member("sources"));
        };
        if let Some(receipt) = own.as_ref().map(|own| self.engine().recorded_under(own)).transpose()?.flatten() {
            return Ok(Told::Added(receipt));
        }
        if call.call_id.is_none() {
            return Ok(Told::Unknown);
        }
        let here = self.engine().prepare(call.clone(), Phase::Whole)?.call;
        let found = self.alike(&call, &here, source)?;
        let left = || found.calls.iter().rev().filter(|entry| !found.told.contains(&entry.seq));
        let same = left().find(|entry| entry.call().is_some_and(|call| call.arguments == here.arguments));
        let Some(entry) = same.or_else(|| left().next()) else {
            let known = found.calls.first().map(|entry| Told::NothingNew(entry.seq));
            return Ok(known.unwrap_or(Told::Unknown));
        };
        let Some(there) = entry.call() else { return Ok(Told::Unknown) };
        if is_pseudonym(&there.user_id) && !self.is_user(&call.user_id, there) {
            // Nobody can tell whether it is the same person, and a pseudonym is nobody's name.
            return Ok(Told::Unknown);
        }
        let Some(details) = self.details(call, &here, there, entry.seq) else { return Ok(Told::NothingNew(entry.seq)) };
        let receipts = self.record_phases([(details, Phase::Whole)], false, own)?;
        Ok(receipts.first().map_or(Told::Unknown, |receipt| Told::Added(*receipt)))
    }

    /// The calls with this id that other sources told of, and those of them of which this kind of source has told.
    fn alike(&self, call: &ToolCall, here: &Call, source: SourceKind) -> Result<Found> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let policies = self.engine().policies();
        let names = [(Facet::Conversation, &call.conversation_id), (Facet::Tool, &call.tool_name)];
        let facets: Vec<_> = names.into_iter().map(|(facet, name)| (facet, policies.terms(facet, name))).collect();
        let (mut left, mut found) = (LOOKED_AT, Found::default());
        guarded(|| {
            backwards(&snapshot, &facets, snapshot.size, &mut |seq| {
                left -= 1;
                let Some(entry) = snapshot.checked(seq)? else { return Ok(left > 0) };
                let Some(there) = entry.call().filter(|there| there.call_id == here.call_id) else {
                    return Ok(left > 0);
                };
                let by_this = there.first_source() == Some(source);
                let is_call = match there.kind() {
                    Kind::CallBegun => snapshot.is_unfinished(seq)?,
                    _ => !there.adds_to_call(),
                };
                match there.detail_of() {
                    Some(of) if by_this => found.told.push(of),
                    None if is_call && !by_this => found.calls.push(entry),
                    _ => {}
                }
                Ok(left > 0)
            })
        })?;
        Ok(found)
    }

    /// Whether the call is of this user, under any spelling.
    fn is_user(&self, name: &str, there: &Call) -> bool {
        self.engine().policies().terms(Facet::User, name).contains(&there.user_id)
    }

    /// The details that `call`, as the policy writes it `here`, adds to what is `there`; `None` if there are none.
    fn details(&self, call: ToolCall, here: &Call, there: &Call, seq: u64) -> Option<ToolCall> {
        let (mut details, mut weighed) = (call, Weighed::default());
        if !self.is_user(&details.user_id, there) {
            weighed.contradicts.push("user_id");
            details.user_id.clone_from(&there.user_id);
        }
        let mut text = |member, there: &Option<String>, here: &Option<String>, told: &mut Option<String>| {
            if !weighed.keeps(member, there.as_ref(), here.as_ref()) {
                *told = None;
            }
        };
        text("model", &there.model, &here.model, &mut details.model);
        text("agent_id", &there.agent_id, &here.agent_id, &mut details.agent_id);
        text("tool_server", &there.tool_server, &here.tool_server, &mut details.tool_server);
        text("purpose", &there.purpose, &here.purpose, &mut details.purpose);
        let nothing = Circumstances::default();
        let around = there.circumstances.as_deref().unwrap_or(&nothing);
        let told = here.circumstances.as_deref().unwrap_or(&nothing);
        let own = &mut details.circumstances;
        text("trace_id", &around.trace_id, &told.trace_id, &mut own.trace_id);
        text("span_id", &around.span_id, &told.span_id, &mut own.span_id);
        text("prompt_id", &around.prompt_id, &told.prompt_id, &mut own.prompt_id);
        text("parent_agent_id", &around.parent_agent_id, &told.parent_agent_id, &mut own.parent_agent_id);
        text("parent_call_id", &around.parent_call_id, &told.parent_call_id, &mut own.parent_call_id);
        if !weighed.keeps("approval", around.approval.as_ref(), told.approval.as_ref()) {
            own.approval = None;
        }
        // Resources are compared as they are written, which a policy may hide; then they are told again.
        own.resources.retain(|resource| !around.resources.contains(resource));
        if !own.resources.is_empty() {
            weighed.added.push("resources");
        }
        if !weighed.keeps("turn_number", there.turn_number.as_ref(), here.turn_number.as_ref()) {
            details.turn_number = None;
        }
        if !weighed.keeps("arguments", there.arguments.as_ref(), here.arguments.as_ref()) {
            details.arguments = None;
        }
        self.ending(&mut details, here, there, &mut weighed);
        if let Some(metadata) = there.session_metadata.as_ref().map(|text| text.to_json()) {
            details.session_metadata.retain(|name, _| metadata.get(name).is_none());
        }
        if !details.session_metadata.is_empty() {
            weighed.added.push("session_metadata");
        }
        let Weighed { mut added, contradicts } = weighed;
        if added.is_empty() && contradicts.is_empty() {
            return None;
        }
        added.sort_unstable();
        if let Some(source) = details.circumstances.sources.first_mut() {
            source.added = added.into_iter().map(str::to_owned).collect();
        }
        // These are the call's own.
        (details.trigger, details.follows, details.late_answer, details.sender) = (None, None, false, None);
        details.patient_ids.clear();
        Some(details.contradicts(contradicts).detail_of(seq))
    }

    /// Keeps how the call ended, if the log does not know it or says otherwise, and how long it took, if the log does not know it: two
    /// that measure a time never measure the same.
    fn ending(&self, details: &mut ToolCall, here: &Call, there: &Call, weighed: &mut Weighed) {
        let given = details.result.is_some() || details.outcome.is_some();
        let outcome = |call: &Call| call.completion.as_ref().map(|ended| ended.outcome);
        let known = outcome(there).filter(|outcome| *outcome != Outcome::Abandoned);
        let told = outcome(here).filter(|outcome| given && *outcome != Outcome::Abandoned);
        if !weighed.keeps("outcome", known.as_ref(), told.as_ref()) {
            (details.result, details.outcome) = (None, None);
        }
        if there.completion.as_ref().is_some_and(|ended| ended.duration_ms.is_some()) {
            details.duration_ms = None;
        } else if details.duration_ms.is_some() {
            weighed.added.push("duration_ms");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use crate::query::{Query, Statistics};
    use attestlog_proof::entry::{Approval, Decision, Source};

    fn hook(id: &str) -> ToolCall {
        ToolCall::new("c", "u", "Bash").arguments(Json::from("ls")).call_id(id).source(Source::new(SourceKind::Hook))
    }

    fn session(id: &str) -> ToolCall {
        let mut source = Source::new(SourceKind::Session);
        source.program = Some("claude-code".to_owned());
        ToolCall::new("c", "u", "Bash").arguments(Json::from("ls")).call_id(id).source(source)
    }

    fn added(log: &OpenStore, call: ToolCall) -> Result<Entry> {
        match log.tell(call, None)? {
            Told::Added(receipt) => log.entry(receipt.seq),
            other => panic!("{other:?}"),
        }
    }

    /// The session file of a call that a hook had recorded was imported as a second call: every call counted twice [R108].
    #[test]
    fn what_a_session_adds_to_a_call_of_a_hook_is_told_once_and_is_no_call() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let seen = log.record(hook("1").result("x").metadata("cwd", Json::from("/w")))?.seq;
        let told = || session("1").result("x").model("opus").metadata("cwd", Json::from("/w")).metadata("exit", 0u64);
        let entry = added(&log, told())?;
        let details = entry.call().unwrap();
        assert_eq!(
            (details.detail_of(), details.model.as_deref(), details.success()),
            (Some(seen), Some("opus"), None)
        );
        assert!(entry.line().contains(r#""added":["model","session_metadata"]"#), "{}", entry.line());
        assert!(!entry.line().contains("contradicts") && !entry.line().contains("/w"), "{}", entry.line());
        assert_eq!(log.tell(told(), None)?, Told::NothingNew(seen));
        assert_eq!(log.tell(session("2"), None)?, Told::Unknown);
        assert_eq!(log.statistics(&Statistics::new())?[0].total_calls, 1);
        // Another kind of source may tell of it, too.
        let telemetry = ToolCall::new("c", "u", "Bash").call_id("1").source(Source::new(SourceKind::Telemetry));
        assert_eq!(added(&log, telemetry.trace("t", None))?.call().unwrap().detail_of(), Some(seen));
        Ok(())
    }

    #[test]
    fn what_a_session_tells_otherwise_is_a_contradiction() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let seen = log.record(hook("1").model("opus").result("x"))?.seq;
        let told = session("1").model("haiku").typed_error("exit", "code 3").approval(Approval::new(Decision::Allowed));
        let entry = added(&log, told)?;
        assert_eq!(entry.call().unwrap().detail_of(), Some(seen));
        assert!(entry.line().contains(r#""contradicts":["model","outcome"]"#), "{}", entry.line());
        assert!(
            entry.line().contains(r#""added":["approval"]"#) && entry.line().contains("code 3"),
            "{}",
            entry.line()
        );
        let mut other = session("1");
        other.conversation_id = "d".to_owned();
        assert_eq!(log.tell(other, None)?, Told::Unknown);
        Ok(())
    }

    #[test]
    fn ids_that_repeat_are_told_apart_by_arguments_and_order_and_an_end_that_nobody_saw_is_added() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let first = log.record(hook("1").result("x"))?.seq;
        let other = log.record(hook("1").arguments(Json::from("pwd")).result("x"))?.seq;
        let open = log.record_phases([(hook("2"), Phase::Begun)], false, None)?[0].seq;
        let of = |call: ToolCall| Ok::<_, Error>(added(&log, call.model("m"))?.call().unwrap().detail_of());
        assert_eq!(of(session("1").arguments(Json::from("pwd")))?, Some(other));
        assert_eq!(of(session("1"))?, Some(first));
        assert_eq!(log.tell(session("1").model("m"), None)?, Told::NothingNew(other));
        let entry = added(&log, session("2").error("it failed"))?;
        assert_eq!((entry.call().unwrap().detail_of(), entry.call().unwrap().success()), (Some(open), Some(false)));
        assert_eq!(log.count(&Query::new().unfinished())?, 1);
        Ok(())
    }
}
