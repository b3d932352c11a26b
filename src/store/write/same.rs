//! Whether a call repeats one that was recorded before.
//!
//! Invariant R69: a repeat equals the recorded call in everything that its caller gives, or it is refused with the member
//! that differs. What the store adds (a time where none is given) is not compared. What a policy hides is compared by the
//! digests of what was given (see `given`); without them (a store without keys, a sender that a process made for itself),
//! what the policy left is compared, if both were prepared under the same policy. A call that was imported before its answer
//! may differ in what the answer adds.

use crate::entry::reserved::NOWHERE;
use crate::entry::{SAID_AROUND, said_around};
use crate::json::{Canonical, Json, Object};
use crate::redact::{PREFIX, is_pseudonym, key_of, sealed_subject};
use crate::store::write::given::{self, without_findings};
use attestlog_proof::entry::{Call, CallError, Completion, Outcome, SourceKind};
use std::fmt;

/// A recorded call, and one that came under its number.
pub(crate) struct Compared<'a> {
    pub there: &'a Call,
    pub here: &'a Call,
    /// Whether names may be written under different keys.
    pub rotated: bool,
}

/// What a call under a used number differs in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Difference {
    /// The entry is another call, which differs in this member if it is a call at all.
    Call(Option<&'static str>),
    /// The entry is this call with another answer, which differs in this member.
    Answer(&'static str),
}

impl Difference {
    /// The member that differs.
    pub(crate) fn member(self) -> Option<&'static str> {
        match self {
            Difference::Call(member) => member,
            Difference::Answer(member) => Some(member),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Call(None) => f.write_str("which is another call"),
            Difference::Call(Some(member)) => write!(f, "which is another call: it differs in {member}"),
            Difference::Answer(member) => write!(f, "which has another answer: it differs in {member}"),
        }
    }
}

impl Compared<'_> {
    /// How they differ; `None` if they are the same. `timed`: the caller said when the call was made.
    pub(crate) fn difference(&self, timed: bool) -> Option<Difference> {
        let Compared { there, here, .. } = *self;
        if let Some(member) = self.member(timed) {
            return Some(Difference::Call(Some(member)));
        }
        let ended = there.completion.as_ref().zip(here.completion.as_ref());
        let other = ended.filter(|_| !self.waited()).and_then(|(there, here)| self.answer(there, here));
        other.map(Difference::Answer)
    }

    fn imported(&self) -> bool {
        [self.there, self.here].iter().all(|call| call.first_source() == Some(SourceKind::Import))
    }

    /// Whether an import found one of them without an answer: then the answers cannot be compared.
    fn waited(&self) -> bool {
        let waits = |call: &Call| call.completion.as_ref().is_some_and(|ended| ended.outcome == Outcome::Abandoned);
        self.imported() && (waits(self.there) || waits(self.here))
    }

    /// The first differing member, apart from the answer.
    fn member(&self, timed: bool) -> Option<&'static str> {
        let Compared { there, here, .. } = *self;
        // Without `..`: a member that is added is compared, or the reason why it is not stands here.
        let Call {
            phase,
            timestamp,
            turn_number,
            trigger,
            follows,
            late_answer,
            emergency,
            grant,
            backfilled,
            // `treated` compares these, as the policy leaves them, and `given` as they were given.
            conversation_id: _,
            user_id: _,
            tool_name: _,
            patient_ids: _,
            model: _,
            agent_id: _,
            tool_server: _,
            purpose: _,
            call_id: _,
            arguments: _,
            session_metadata: _,
            restated: _,
            circumstances: _,
            given: _,
            // `answer` compares it.
            completion: _,
            // It is how the two were found.
            sender: _,
            // What the store adds.
            policy_seq: _,
            treated: _,
        } = here;
        let asks = *follows == Some(NOWHERE);
        // Independent of the policy.
        let said = [
            ("step of the call", there.phase != *phase),
            ("sources", there.first_source() != here.first_source()),
            ("timestamp", timed && there.timestamp != *timestamp),
            ("turn_number", there.turn_number != *turn_number),
            ("call_trigger", !asks && there.trigger != *trigger),
            ("call that it follows", !asks && there.follows != *follows),
            ("late_answer", there.late_answer != *late_answer),
            ("emergency", there.emergency != *emergency),
            ("grant", there.grant != *grant),
            ("backfilled", there.backfilled != *backfilled),
        ];
        let other = said.into_iter().find(|(_, other)| *other).map(|(member, _)| member);
        if other.is_some() {
            return other;
        }
        let same_policy = there.policy_seq == here.policy_seq;
        match given::difference(there, here) {
            // Patients may come from the answer.
            Some(None) => (same_policy && !self.waited() && !self.are_patients()).then_some("patient_ids"),
            Some(Some(hidden)) => self.treated(same_policy).or(Some(hidden)),
            None => self.treated(same_policy),
        }
    }

    /// The first differing member of those that a policy may change, as the policy leaves them; `None` under two policies.
    fn treated(&self, same_policy: bool) -> Option<&'static str> {
        let Compared { there, here, .. } = *self;
        if !same_policy {
            return None;
        }
        // An imported session without an id is named after its beginning.
        let conversation = !self.imported() && self.renamed(&there.conversation_id, &here.conversation_id);
        let persons = [
            ("conversation_id", conversation),
            ("user_id", self.renamed(&there.user_id, &here.user_id)),
            ("tool_name", self.renamed(&there.tool_name, &here.tool_name)),
        ];
        let patients = !self.are_patients();
        // An answer that came later may name patients, whose names are then hidden everywhere.
        let hidden = patients && self.waited();
        let opt = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => self.renamed(a, b),
            (a, b) => a.is_some() != b.is_some(),
        };
        let rest = || {
            [
                ("patient_ids", patients),
                ("model", opt(&there.model, &here.model)),
                ("agent_id", opt(&there.agent_id, &here.agent_id)),
                ("tool_server", opt(&there.tool_server, &here.tool_server)),
                ("purpose", opt(&there.purpose, &here.purpose)),
                ("call_id", opt(&there.call_id, &here.call_id)),
                ("arguments", !self.is_same_json(there.arguments.as_ref(), here.arguments.as_ref())),
                ("session_metadata", !self.is_same_session()),
                ("restated", !self.waited() && there.restated != here.restated),
            ]
        };
        let rest = (!hidden).then(rest).into_iter().flatten();
        let other = persons.into_iter().chain(rest).find(|(_, other)| *other).map(|(member, _)| member);
        other.or_else(|| if hidden { None } else { self.around() })
    }

    /// The first differing member of the answer.
    fn answer(&self, there: &Completion, here: &Completion) -> Option<&'static str> {
        let Completion { outcome, duration_ms, error, result_summary } = here;
        let same_policy = self.there.policy_seq == self.here.policy_seq;
        let (of_there, of_here) = (there.result_summary.as_ref(), result_summary.as_ref());
        let digest = is_same_digest(of_there, of_here);
        let hidden =
            |error: &Option<CallError>| self.rotated && error.as_ref().is_some_and(|e| e.message.contains(PREFIX));
        let same_error = match given::is_same_error(self.there, self.here) {
            Some(same) => same,
            // The error is in the result.
            None if digest == Some(true) => true,
            None => !same_policy || there.error == *error || hidden(&there.error) && hidden(error),
        };
        let same_result = digest.unwrap_or_else(|| !same_policy || is_same_form(of_there, of_here));
        let other = [
            ("outcome", there.outcome != *outcome),
            ("duration_ms", there.duration_ms != *duration_ms),
            ("error", !same_error),
            ("result", !same_result),
        ];
        other.into_iter().find(|(_, other)| *other).map(|(member, _)| member)
    }

    /// Whether two names, written under one policy, stand for different things.
    fn renamed(&self, there: &str, here: &str) -> bool {
        let other_key = || is_pseudonym(there) && is_pseudonym(here) && key_of(there) != key_of(here);
        let inside = || self.rotated && there.contains(PREFIX) && here.contains(PREFIX) && !is_pseudonym(there);
        there != here && !other_key() && !inside()
    }

    fn are_patients(&self) -> bool {
        let (there, here) = (&self.there.patient_ids, &self.here.patient_ids);
        let spelt = || self.rotated && there.len() == here.len() && here.iter().any(|id| is_pseudonym(id));
        there == here || spelt()
    }

    /// Whether the session metadata is the same, ignoring what an import noted itself: that may say how it found the answer.
    fn is_same_session(&self) -> bool {
        let (there, here) = (self.there.session_metadata.as_ref(), self.here.session_metadata.as_ref());
        if !self.imported() || there == here {
            // The digests of what the proxy shortened depend on a key.
            return self.rotated && self.here.first_source() == Some(SourceKind::Proxy)
                || self.is_same_json(there, here);
        }
        let said = |metadata: Option<&Canonical>| {
            let mut members = metadata.map(Canonical::to_json).and_then(|m| m.as_object().cloned()).unwrap_or_default();
            without_findings(&mut members);
            Json::from(members).to_canonical()
        };
        self.is_same_json(Some(&said(there)), Some(&said(here)))
    }

    /// The first differing member of trace, approval, resources and the like, whoever told it.
    fn around(&self) -> Option<&'static str> {
        let said = |call: &Call| call.circumstances.as_deref().map(said_around).unwrap_or_default();
        let (there, here) = (said(self.there), said(self.here));
        let value = |said: &Object, member: &str| said.get(member).map(Json::to_canonical);
        let other = |member: &&&str| !self.is_same_json(value(&there, member).as_ref(), value(&here, member).as_ref());
        SAID_AROUND.iter().find(other).copied()
    }

    /// Whether these are equal apart from sealed values, whose ciphertext always differs.
    fn is_same_json(&self, there: Option<&Canonical>, here: Option<&Canonical>) -> bool {
        let parsed = |text: &Canonical| Json::parse(text.as_str().as_bytes()).ok().map(|parsed| parsed.value);
        let spelt = |(a, b): (&Canonical, &Canonical)| a.as_str().contains(PREFIX) && b.as_str().contains(PREFIX);
        there == here
            || self.rotated && there.zip(here).is_some_and(spelt)
            || there.zip(here).and_then(|(a, b)| parsed(a).zip(parsed(b))).is_some_and(|(a, b)| is_same_value(&a, &b))
    }
}

/// Whether the digests of two results are the same; `None` if they were not made with the same key.
fn is_same_digest(there: Option<&Canonical>, here: Option<&Canonical>) -> Option<bool> {
    let digest = |summary: &Canonical| {
        let summary = summary.to_json();
        let (key, digest) = summary.get("digest")?.as_str()?.rsplit_once(':')?;
        Some((key.to_owned(), digest.to_owned()))
    };
    let ((a, there), (b, here)) = (digest(there?)?, digest(here?)?);
    (a == b).then(|| there == here)
}

/// Whether two results have the same type and length.
fn is_same_form(there: Option<&Canonical>, here: Option<&Canonical>) -> bool {
    let Some((there, here)) = there.zip(here) else { return there.is_none() == here.is_none() };
    let (there, here) = (there.to_json(), here.to_json());
    ["type", "bytes"].iter().all(|of| there.get(of) == here.get(of))
}

fn is_same_value(there: &Json, here: &Json) -> bool {
    match (there, here) {
        _ if sealed_subject(there).is_some() && sealed_subject(here).is_some() => true,
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same_value(a, b)))
        }
        (a, b) => a == b,
    }
}
