//! Whether a call repeats one that was recorded before.
//!
//! Invariant R69: a repeat equals the recorded call in everything that its caller gives, or it is refused with the member
//! that differs. What the store adds (a time where none is given) is not compared, and what a policy changes is compared only
//! if both were prepared under the same policy. A call that was imported before its answer may differ in what the answer
//! adds.

use crate::entry::NOWHERE;
use crate::json::{Canonical, Json};
use crate::redact::{PREFIX, is_pseudonym, key_of, sealed_subject};
use attestlog_proof::entry::{Call, CapturedBy, Completion, Outcome};

/// A recorded call, and one that came under its number.
pub(crate) struct Compared<'a> {
    pub there: &'a Call,
    pub here: &'a Call,
    /// Whether names may be written under different keys.
    pub rotated: bool,
}

impl Compared<'_> {
    /// How they differ; `None` if they are the same. `timed`: the caller said when the call was made.
    pub(crate) fn difference(&self, timed: bool) -> Option<String> {
        let Compared { there, here, .. } = *self;
        if let Some(member) = self.member(timed) {
            return Some(format!("which is another call: another {member}"));
        }
        let ended = there.completion.as_ref().zip(here.completion.as_ref());
        let other = ended.filter(|_| !self.waited()).and_then(|(there, here)| self.answer(there, here));
        other.map(|member| format!("which has another answer: another {member}"))
    }

    fn imported(&self) -> bool {
        [self.there, self.here].iter().all(|call| call.captured_by == Some(CapturedBy::Import))
    }

    /// Whether an import found one of them without an answer: then the answers cannot be compared.
    fn waited(&self) -> bool {
        let waits = |call: &Call| call.completion.as_ref().is_some_and(|ended| ended.outcome == Outcome::Abandoned);
        self.imported() && (waits(self.there) || waits(self.here))
    }

    /// The first differing member, apart from the answer.
    fn member(&self, timed: bool) -> Option<&'static str> {
        let Compared { there, here, .. } = *self;
        let asks = here.follows == Some(NOWHERE);
        // Independent of the policy.
        let said = [
            ("step of the call", there.phase != here.phase),
            ("captured_by", there.captured_by != here.captured_by),
            ("timestamp", timed && there.timestamp != here.timestamp),
            ("turn_number", there.turn_number != here.turn_number),
            ("call_trigger", !asks && there.trigger != here.trigger),
            ("call that it follows", !asks && there.follows != here.follows),
            ("late_answer", there.late_answer != here.late_answer),
            ("emergency", there.emergency != here.emergency),
            ("grant", there.grant != here.grant),
            ("backfilled", there.backfilled != here.backfilled),
        ];
        let other = said.into_iter().find(|(_, other)| *other).map(|(member, _)| member);
        if other.is_some() || there.policy_seq != here.policy_seq {
            return other;
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
        persons.into_iter().chain(rest).find(|(_, other)| *other).map(|(member, _)| member)
    }

    /// The first differing member of the answer.
    fn answer(&self, there: &Completion, here: &Completion) -> Option<&'static str> {
        let other =
            [("outcome", there.outcome != here.outcome), ("duration_ms", there.duration_ms != here.duration_ms)];
        let said = || {
            let error = |ended: &Completion| ended.error.as_ref().map(|e| (e.kind.clone(), e.message.clone()));
            let hidden =
                |ended: &Completion| self.rotated && error(ended).is_some_and(|(_, said)| said.contains(PREFIX));
            let same = error(there) == error(here) || hidden(there) && hidden(here);
            let result = is_same_result(there.result_summary.as_ref(), here.result_summary.as_ref());
            [("error", !same), ("result", !result)]
        };
        let said = (self.there.policy_seq == self.here.policy_seq).then(said).into_iter().flatten();
        other.into_iter().chain(said).find(|(_, other)| *other).map(|(member, _)| member)
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
            return self.rotated && self.here.captured_by == Some(CapturedBy::Mcp) || self.is_same_json(there, here);
        }
        let said = |metadata: Option<&Canonical>| {
            let mut members = metadata.map(Canonical::to_json).and_then(|m| m.as_object().cloned()).unwrap_or_default();
            members.remove("import");
            Json::from(members).to_canonical()
        };
        self.is_same_json(Some(&said(there)), Some(&said(here)))
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

/// Compares the digests of the results if both were made with the same key, otherwise their type and length.
fn is_same_result(there: Option<&Canonical>, here: Option<&Canonical>) -> bool {
    let Some((there, here)) = there.zip(here) else { return there.is_none() == here.is_none() };
    let (there, here) = (there.to_json(), here.to_json());
    let digest = |summary: &Json| {
        let (key, digest) = summary.get("digest")?.as_str()?.rsplit_once(':')?;
        Some((key.to_owned(), digest.to_owned()))
    };
    match (digest(&there), digest(&here)) {
        (Some((a, there)), Some((b, here))) if a == b => there == here,
        _ => ["type", "bytes"].iter().all(|of| there.get(of) == here.get(of)),
    }
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
