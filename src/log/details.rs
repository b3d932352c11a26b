//! What another source tells of a call that is in the log: the agent's session file of a call that a hook recorded, or a hook of a
//! call that an import recorded.
//!
//! The call is found by its conversation, agent, tool and call id (`alike`). Of what the source tells, an entry keeps what the log does
//! not have, and what contradicts it; the rest would be told twice. A source that numbers what it tells (an import) is known by its
//! numbers: 1 is a call without an end, 2 the call with its end. One that sees calls as they are made tells of a call once when it
//! begins and once when it has ended.
//!
//! Invariant R108: a call of which sources tell, one after the other or at the same time, is recorded once.

use super::alike::{Seen, is_live, is_of, is_one_name, leaves};
use super::ends::AFTER_END;
use crate::entry::ToolCall;
use crate::entry::reserved::IMPORTED;
use crate::redact::is_pseudonym;
use crate::store::log::OpenStore;
use crate::{Outcome, Result};
use attestlog_proof::entry::{Approval, Call, Circumstances, Facet, Phase, Sender};

/// What recording what a source tells of a call would add to the log.
pub(super) enum Telling {
    /// The log has no such call from another source.
    Unknown,
    /// The log has all of it, at this seq.
    NothingNew(u64),
    /// These details, of the call at this seq.
    Details(Box<ToolCall>, u64),
}

/// What a numbered source told of a call before.
enum Before {
    Nothing,
    /// This, or more, of the call at this seq.
    All(u64),
    /// That it was begun.
    Begun(u64),
    /// It is the call's only source so far.
    Recorded,
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
    /// What an event tells of a call that another source has told of, if its source sees calls as they are made.
    pub(super) fn seen(&self, call: &ToolCall) -> Result<Telling> {
        match call.first_source() {
            Some(source) if is_live(source) => self.telling(call.clone(), 1),
            _ => Ok(Telling::Unknown),
        }
    }

    /// What `call` tells that the log does not have of it. `nth`: how many times its source has told of such a call, with this one.
    pub(super) fn telling(&self, call: ToolCall, nth: u64) -> Result<Telling> {
        let Some(source) = call.first_source().filter(|_| call.call_id.is_some()) else {
            return Ok(Telling::Unknown);
        };
        let here = self.engine().prepare(call.clone(), Phase::Whole)?.call;
        let before = self.before(here.sender.as_ref())?;
        match before {
            Before::All(seq) => return Ok(Telling::NothingNew(seq)),
            Before::Recorded => return Ok(Telling::Unknown),
            Before::Nothing | Before::Begun(_) => {}
        }
        let has_ended = call.result.is_some() || call.outcome.is_some();
        let found = self.alike(&call, &here)?;
        let (entry, is_after_end) = match before {
            Before::Begun(of) => (found.calls.iter().find(|entry| is_of(entry, of)), false),
            _ if is_live(source) => match found.seen(&here, has_ended) {
                Seen::Nothing => (None, false),
                Seen::Told(entry) => return Ok(Telling::NothingNew(entry.seq)),
                Seen::Adds(entry) => (Some(entry), false),
                Seen::AfterEnd(entry) => (Some(entry), true),
            },
            _ => (found.meant(&here, nth), false),
        };
        let Some(entry) = entry else { return Ok(Telling::Unknown) };
        let Some(there) = entry.call() else { return Ok(Telling::Unknown) };
        if is_pseudonym(&there.user_id) && !self.is_user(&call.user_id, there) {
            // Nobody can tell whether it is the same person, and a pseudonym is nobody's name.
            return Ok(Telling::Unknown);
        }
        let all: Vec<&Call> = [there].into_iter().chain(found.of(entry)).collect();
        // By its entry the source is known to have told.
        let always = is_live(source) || matches!(before, Before::Nothing) && here.sender.is_some();
        let Some(mut details) = self.details(call, &here, &all, entry.seq, always) else {
            return Ok(Telling::NothingNew(entry.seq));
        };
        if is_after_end {
            details.session_metadata.insert(AFTER_END, true);
        }
        Ok(Telling::Details(Box::new(details), entry.seq))
    }

    /// What was told under this number, or of an import's call under both of its numbers.
    fn before(&self, sender: Option<&Sender>) -> Result<Before> {
        let Some(sender) = sender else { return Ok(Before::Nothing) };
        let numbers = if sender.id.starts_with(IMPORTED) { 1..=2 } else { sender.number..=sender.number };
        for number in numbers.rev() {
            let Some(receipt) = self.engine().recorded_under(&Sender::new(&*sender.id, number))? else { continue };
            let of = self.entry(receipt.seq)?.call().and_then(Call::detail_of);
            return Ok(match of {
                None => Before::Recorded,
                Some(of) if number < sender.number => Before::Begun(of),
                Some(of) => Before::All(of),
            });
        }
        Ok(Before::Nothing)
    }

    /// Whether the call is of this user, under any spelling.
    fn is_user(&self, name: &str, there: &Call) -> bool {
        self.engine().policies().terms(Facet::User, name).contains(&there.user_id)
    }

    /// The details that `call`, as the policy writes it `here`, adds to what is `there`; `None` if there are none.
    fn details(&self, call: ToolCall, here: &Call, all: &[&Call], seq: u64, always: bool) -> Option<ToolCall> {
        // For alert rules, which pass over recordings, it is the call, so nothing of it is left out.
        let is_seen =
            call.first_source().is_some_and(is_live) && all.first().is_some_and(|call| call.is_from_recording());
        let whole = is_seen.then(|| call.clone());
        let (mut details, mut weighed) = (call, Weighed::default());
        let mut other_name = false;
        if let Some(there) = all.first() {
            other_name = !is_one_name(there, here);
            if other_name {
                // Codex calls a tool otherwise in its sessions than in its hooks.
                details.session_metadata.insert("tool_name", details.tool_name.as_str());
            }
            details.tool_name.clone_from(&there.tool_name);
            if !self.is_user(&details.user_id, there) {
                weighed.contradicts.push("user_id");
                details.user_id.clone_from(&there.user_id);
            }
        }
        let mut text = |member, get: fn(&Call) -> Option<&String>, told: &mut Option<String>| {
            if !weighed.keeps(member, first(all, get), get(here)) {
                *told = None;
            }
        };
        text("model", |call| call.model.as_ref(), &mut details.model);
        text("agent_id", |call| call.agent_id.as_ref(), &mut details.agent_id);
        text("tool_server", |call| call.tool_server.as_ref(), &mut details.tool_server);
        text("purpose", |call| call.purpose.as_ref(), &mut details.purpose);
        let own = &mut details.circumstances;
        text("trace_id", |call| around(call)?.trace_id.as_ref(), &mut own.trace_id);
        text("span_id", |call| around(call)?.span_id.as_ref(), &mut own.span_id);
        text("prompt_id", |call| around(call)?.prompt_id.as_ref(), &mut own.prompt_id);
        text("parent_agent_id", |call| around(call)?.parent_agent_id.as_ref(), &mut own.parent_agent_id);
        text("parent_call_id", |call| around(call)?.parent_call_id.as_ref(), &mut own.parent_call_id);
        match (first(all, approval), approval(here)) {
            (Some(there), Some(here)) if there != here && is_one_decision(there, here) => {
                weighed.added.push("approval")
            }
            (there, here) if weighed.keeps("approval", there, here) => {}
            _ => own.approval = None,
        }
        // Resources are compared as they are written, which a policy may hide; then they are told again.
        own.resources
            .retain(|resource| !all.iter().any(|call| around(call).is_some_and(|a| a.resources.contains(resource))));
        if !own.resources.is_empty() {
            weighed.added.push("resources");
        }
        if !weighed.keeps("turn_number", first(all, |call| call.turn_number.as_ref()), here.turn_number.as_ref()) {
            details.turn_number = None;
        }
        let (known, told) = (first(all, |call| call.arguments.as_ref()), here.arguments.as_ref());
        match (known, told) {
            (Some(known), Some(told)) if other_name && leaves(known).is_subset(&leaves(told)) => {
                if leaves(told).is_subset(&leaves(known)) {
                    details.arguments = None;
                } else {
                    weighed.added.push("arguments");
                }
            }
            _ if weighed.keeps("arguments", known, told) => {}
            _ => details.arguments = None,
        }
        self.ending(&mut details, here, all, &mut weighed);
        for metadata in all.iter().filter_map(|call| call.session_metadata.as_ref()).map(|text| text.to_json()) {
            details.session_metadata.retain(|name, _| metadata.get(name).is_none());
        }
        if !details.session_metadata.is_empty() {
            weighed.added.push("session_metadata");
        }
        let Weighed { mut added, contradicts } = weighed;
        if added.is_empty() && contradicts.is_empty() && !always {
            return None;
        }
        if let Some(mut whole) = whole {
            if let Some(name) = details.session_metadata.get("tool_name").filter(|_| other_name) {
                whole.session_metadata.insert("tool_name", name.clone());
            }
            (whole.user_id, whole.tool_name) = (details.user_id, details.tool_name);
            details = whole;
        } else {
            details.patient_ids.clear();
        }
        added.sort_unstable();
        if let Some(source) = details.circumstances.sources.first_mut() {
            source.added = added.into_iter().map(str::to_owned).collect();
        }
        // These are the call's own.
        (details.trigger, details.follows, details.late_answer) = (None, None, false);
        Some(details.contradicts(contradicts).detail_of(seq))
    }

    /// Keeps how the call ended, if the log does not know it or says otherwise, and how long it took, if the log does not know it: two
    /// that measure a time never measure the same. Of a source that saw it, the outcome is kept in any case.
    fn ending(&self, details: &mut ToolCall, here: &Call, all: &[&Call], weighed: &mut Weighed) {
        let given = details.result.is_some() || details.outcome.is_some();
        let outcome = |call: &Call| call.completion.as_ref().map(|ended| ended.outcome);
        let known = all.iter().filter_map(|call| outcome(call)).find(|outcome| *outcome != Outcome::Abandoned);
        let seen = outcome(here).filter(|_| given);
        let told = seen.filter(|outcome| *outcome != Outcome::Abandoned);
        if !weighed.keeps("outcome", known.as_ref(), told.as_ref()) {
            details.result = None;
            details.outcome = seen.filter(|_| details.first_source().is_some_and(is_live));
        }
        let took = |call: &Call| match call.completion.as_ref() {
            Some(ended) => ended.duration_ms,
            None => around(call)?.duration_ms,
        };
        if all.iter().any(|call| took(call).is_some()) {
            details.duration_ms = None;
        } else if details.duration_ms.is_some() {
            weighed.added.push("duration_ms");
        }
    }
}

/// What the first of these calls tells that tells it.
fn first<'a, T>(all: &[&'a Call], get: impl Fn(&'a Call) -> Option<&'a T>) -> Option<&'a T> {
    all.iter().find_map(|call| get(call))
}

fn around(call: &Call) -> Option<&Circumstances> {
    call.circumstances.as_deref()
}

/// Whether two tell of the same decision, each in its words: a rule of the one is the configuration of the other.
fn is_one_decision(there: &Approval, here: &Approval) -> bool {
    let by = there.by.as_ref().zip(here.by.as_ref());
    there.decision == here.decision && by.is_none_or(|(there, here)| there == here)
}

fn approval(call: &Call) -> Option<&Approval> {
    around(call)?.approval.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use crate::log::Told;
    use crate::query::{Query, Statistics};
    use crate::{Entry, Error};
    use attestlog_proof::entry::{Approval, Decision, Source, SourceKind};

    fn hook(id: &str) -> ToolCall {
        ToolCall::new("c", "u", "Bash").arguments(Json::from("ls")).call_id(id).source(Source::new(SourceKind::Hook))
    }

    fn session(id: &str) -> ToolCall {
        let mut source = Source::new(SourceKind::Session);
        source.program = Some("claude-code".to_owned());
        ToolCall::new("c", "u", "Bash").arguments(Json::from("ls")).call_id(id).source(source)
    }

    fn tell(log: &OpenStore, call: ToolCall) -> Result<Told> {
        Ok(log.tell(vec![(call, 1)], None)?.remove(0))
    }

    fn added(log: &OpenStore, call: ToolCall) -> Result<Entry> {
        match tell(log, call)? {
            Told::Added(receipt, _) => log.entry(receipt.seq),
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
        assert_eq!(tell(&log, told())?, Told::NothingNew(seen));
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
        assert!(matches!(tell(&log, other)?, Told::Recorded(_)));
        Ok(())
    }

    /// The hook named a rule, the session the configuration in which it stands, and that was shown as a contradiction.
    #[test]
    fn who_decided_is_told_in_several_words() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let refused = |source: &str| Approval { source: Some(source.to_owned()), ..Approval::new(Decision::Denied) };
        log.record(hook("1").approval(refused("rule")))?;
        let entry = added(&log, session("1").approval(refused("config")))?;
        assert!(
            entry.line().contains(r#""added":["approval"]"#) && !entry.line().contains("contradicts"),
            "{}",
            entry.line()
        );
        log.record(hook("2").approval(refused("rule")))?;
        let entry = added(&log, session("2").approval(Approval::new(Decision::Allowed)))?;
        assert!(entry.line().contains(r#""contradicts":["approval"]"#), "{}", entry.line());
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
        assert_eq!(tell(&log, session("1").model("m"))?, Told::NothingNew(first));
        let entry = added(&log, session("2").error("it failed"))?;
        assert_eq!((entry.call().unwrap().detail_of(), entry.call().unwrap().success()), (Some(open), Some(false)));
        assert_eq!(log.count(&Query::new().unfinished())?, 1);
        Ok(())
    }
}
