//! One access, as shown in a report.

use super::{Context, Subject};
use crate::pairing::Whole;
use attestlog::emergency::Misuse;
use attestlog::entry::failure::says_only_that_it_failed;
use attestlog::entry::{ClaimedTime, Phase};
use attestlog::json::{Json, Object};
use attestlog::redact::names_patient;
use attestlog::{Call, Entry, Outcome, Timestamp, Trigger};
use std::collections::BTreeSet;

/// One access or attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Access {
    /// The seq of the entry that records it; for a call in two steps, of its begin entry.
    pub seq: u64,
    /// The seq of the end entry, for a call in two steps.
    pub finished_seq: Option<u64>,
    /// The seq of the begin entry, if the report has only the end of the call.
    pub begun_seq: Option<u64>,
    /// The seq of the late answer to a call that the log had as unanswered; of several, the newest.
    pub answered_seq: Option<u64>,
    /// The seqs of earlier late answers, and of entries for patients that did not fit into the others.
    pub further_seqs: Vec<u64>,
    /// The time of the call, by the caller's clock.
    pub timestamp: Timestamp,
    /// The time of recording, by the log's clock; for a call in two steps, of its begin entry.
    pub recorded_at: Timestamp,
    /// Set if the two times differ by more than [`Context::claimed_time_bound`].
    pub claimed_time: Option<ClaimedTime>,
    /// Whether it may have been recorded while the system clock was wrong, as the log tells: then neither time is reliable.
    pub by_wrong_clock: bool,
    /// The user who made the call.
    pub accessed_by: String,
    /// The user's role.
    pub role: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The tool.
    pub tool: String,
    /// The server that offers the tool.
    pub server: Option<String>,
    /// The conversation.
    pub conversation_id: String,
    /// What was viewed, without its contents.
    pub viewed: Viewed,
    /// The purpose of the access.
    pub purpose: Option<String>,
    /// What triggered the call.
    pub trigger: Option<Trigger>,
    /// The outcome; `None` if the call was begun and no end is recorded.
    pub outcome: Option<Outcome>,
    /// Whether the reply of a call that failed showed, or may have shown, more than its error.
    pub showed_data: bool,
    /// Whether it was made under an emergency override.
    pub emergency: bool,
    /// The seq of the emergency grant.
    pub grant: Option<u64>,
    /// Why that grant did not cover the call, if it did not and the report knows the grants.
    pub misuse: Option<Misuse>,
    /// Whether it was imported from a recording; the caller's claim alone is not enough.
    pub backfilled: bool,
    /// The patients concerned, in a report about a user; empty in one about a patient.
    pub patients: Vec<String>,
    /// In a report about a patient, the number of other patients that the call concerned.
    pub other_patients: u64,
}

/// What a call returned: names and ids only.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Viewed {
    /// Names of the returned fields.
    pub fields: Vec<String>,
    /// Ids of records by their path (`orders[].order_id`): a value, or a list of values.
    pub record_ids: Object,
    /// The number of records, if a list was returned.
    pub count: Option<u64>,
    /// Whether more was returned than is listed.
    pub cut: bool,
    /// The number of names and ids that are hidden because they belong to other patients.
    pub withheld: u64,
}

impl Access {
    pub(crate) fn of(entry: &Entry, call: &Call, context: &Context) -> Access {
        let seq = entry.seq;
        let by_user = matches!(context.subject, Subject::User(_));
        let others: Vec<&str> = match by_user {
            true => Vec::new(),
            false => call.patient_ids.iter().filter(|id| !context.is_subject(id)).map(String::as_str).collect(),
        };
        Access {
            seq,
            finished_seq: None,
            answered_seq: None,
            further_seqs: Vec::new(),
            begun_seq: match call.phase {
                Phase::Finished(begun) => Some(begun),
                Phase::Whole | Phase::Begun | Phase::Detail(_) => None,
            },
            timestamp: call.timestamp,
            recorded_at: entry.body.recorded_at,
            claimed_time: entry.claimed_time(context.claimed_time_bound),
            by_wrong_clock: context.by_wrong_clock(seq).is_some(),
            accessed_by: call.user_id.clone(),
            role: call.user_role(),
            agent: call.agent_id.clone(),
            model: call.model.clone(),
            tool: call.tool_name.clone(),
            server: call.tool_server.clone(),
            conversation_id: call.conversation_id.clone(),
            viewed: Viewed::of(call, context, &others),
            purpose: call.purpose.clone(),
            trigger: call.trigger,
            outcome: call.completion.as_ref().map(|c| c.outcome),
            showed_data: showed_data(call),
            emergency: call.emergency,
            grant: call.grant,
            misuse: context.grants.as_ref().zip(call.grant).and_then(|(known, grant)| known.misuse(seq, grant)),
            backfilled: call.is_from_recording(),
            patients: if by_user { call.patient_ids.clone() } else { Vec::new() },
            other_patients: others.len() as u64,
        }
    }

    /// The row of all entries of a call; `call` is that of the entry with the outcome.
    pub(crate) fn of_whole(whole: &Whole, call: &Call, context: &Context) -> Access {
        let mut access = Access::of(&whole.entry, call, context);
        if let Some((begun, first)) = whole.begun.as_ref().and_then(|begun| Some((begun, begun.call()?))) {
            let end = std::mem::replace(&mut access, Access::of(begun, first, context));
            access.finish(end, whole.entry.seq);
        }
        for (entry, call) in whole.further.iter().filter_map(|entry| Some((entry, entry.call()?))) {
            let further = Access::of(entry, call, context);
            if call.late_answer { access.answer(further) } else { access.add(further) }
        }
        access
    }

    /// Turns this row of a begin entry into the row of the whole call; `end` is the row of the end entry.
    pub(crate) fn finish(&mut self, end: Access, finished_seq: u64) {
        self.finished_seq = Some(finished_seq);
        self.viewed = end.viewed;
        self.outcome = end.outcome;
        self.showed_data = end.showed_data;
        self.role = self.role.take().or(end.role);
        self.agent = self.agent.take().or(end.agent);
        self.model = self.model.take().or(end.model);
        self.server = self.server.take().or(end.server);
        self.purpose = self.purpose.take().or(end.purpose);
        self.trigger = self.trigger.or(end.trigger);
        self.emergency |= end.emergency;
        self.grant = self.grant.or(end.grant);
        self.misuse = self.misuse.or(end.misuse);
        self.backfilled |= end.backfilled;
        self.by_wrong_clock |= end.by_wrong_clock;
        self.other_patients = self.other_patients.max(end.other_patients);
        for patient in end.patients {
            if !self.patients.contains(&patient) {
                self.patients.push(patient);
            }
        }
    }

    /// Adds the late answer to a call that the log had as unanswered; `late` is the row of the answer's entry.
    pub(crate) fn answer(&mut self, late: Access) {
        self.further_seqs.extend(self.answered_seq.replace(late.seq));
        if self.success() != Some(true) {
            self.outcome = late.outcome;
        }
        // What an earlier reply showed stays in the row.
        self.showed_data = self.is_failure() && (self.showed_data || late.showed_data);
        self.concerns(late);
    }

    /// Adds an entry for patients of the call that did not fit into the others; `further` is the row of that entry.
    pub(crate) fn add(&mut self, further: Access) {
        self.further_seqs.push(further.seq);
        self.concerns(further);
    }

    fn concerns(&mut self, added: Access) {
        self.viewed.add(added.viewed);
        self.emergency |= added.emergency;
        self.other_patients = self.other_patients.max(added.other_patients);
        self.patients.extend(added.patients);
        self.patients.sort_unstable();
        self.patients.dedup();
    }

    /// The seqs of the entries behind this row.
    pub fn entries(&self) -> impl Iterator<Item = u64> + use<'_> {
        let further = self.further_seqs.iter().copied();
        [Some(self.seq), self.finished_seq, self.answered_seq].into_iter().flatten().chain(further)
    }

    /// Whether it succeeded; `None` if the call was begun and no end is recorded.
    pub fn success(&self) -> Option<bool> {
        self.outcome.map(|o| o == Outcome::Ok)
    }

    /// Whether it was recorded more than a second before or after the time that it states.
    pub(super) fn recorded_apart(&self) -> bool {
        self.recorded_at.nanos().abs_diff(self.timestamp.nanos()) > 1_000_000_000
    }

    /// Whether the tool refused or failed.
    fn is_failure(&self) -> bool {
        self.outcome.is_some_and(fails)
    }

    /// Whether nothing was disclosed: the tool refused or failed, and the reply showed nothing but the error.
    pub(super) fn disclosed_nothing(&self) -> bool {
        self.is_failure() && !self.showed_data
    }

    /// The name of the outcome, or `unfinished`.
    pub fn outcome_name(&self) -> &'static str {
        self.outcome.map_or("unfinished", Outcome::as_str)
    }

    /// The outcome as people read it.
    pub(super) fn outcome_words(&self) -> &'static str {
        match self.outcome_name() {
            "tool_error" => "tool failed",
            "protocol_error" => "tool not reached",
            "timeout" => "timed out",
            other => other,
        }
    }

    pub(super) fn to_json(&self, by_user: bool) -> Object {
        let mut o = Object::new();
        o.insert("seq", self.seq);
        o.insert("timestamp", self.timestamp.to_string());
        o.insert("recorded_at", self.recorded_at.to_string());
        if let Some(claimed) = self.claimed_time {
            o.insert("claimed_time", claimed.as_str());
        }
        if self.by_wrong_clock {
            o.insert("by_wrong_clock", true);
        }
        o.insert("accessed_by", self.accessed_by.as_str());
        o.insert("role", self.role.clone());
        o.insert("agent", self.agent.clone());
        o.insert("model", self.model.clone());
        o.insert("tool", self.tool.as_str());
        o.insert("server", self.server.clone());
        o.insert("conversation_id", self.conversation_id.as_str());
        o.insert("viewed", self.viewed.to_json());
        o.insert("purpose", self.purpose.clone());
        o.insert("trigger", self.trigger.map(Trigger::as_str));
        o.insert("success", self.success());
        o.insert("outcome", self.outcome_name());
        if self.showed_data {
            o.insert("showed_data", true);
        }
        o.insert("emergency", self.emergency);
        if by_user {
            o.insert("patient_ids", self.patients.clone());
        }
        let counts = [
            ("finished_seq", self.finished_seq),
            ("answered_seq", self.answered_seq),
            ("begun_seq", self.begun_seq),
            ("grant", self.grant),
        ];
        for (name, value) in counts {
            if let Some(value) = value {
                o.insert(name, value);
            }
        }
        if let Some(misuse) = self.misuse {
            o.insert("misuse", misuse.as_str());
        }
        if self.other_patients > 0 {
            o.insert("other_patients", self.other_patients);
        }
        if self.backfilled {
            o.insert("backfilled", true);
        }
        o
    }

    /// The agent and the model in one text.
    pub(super) fn through(&self) -> Option<String> {
        match (&self.agent, &self.model) {
            (Some(agent), Some(model)) => Some(format!("{agent} / {model}")),
            (one, other) => one.clone().or_else(|| other.clone()),
        }
    }
}

/// Whether the value at such a path is a patient's id: `patient_id`, `orders[].patientId`, `patients[].id`.
fn names_patient_at(path: &str) -> bool {
    let mut steps = path.rsplit('.').map(|step| step.trim_end_matches("[]"));
    let last = steps.next().unwrap_or_default();
    names_patient(last) || matches!(last, "id" | "value") && steps.next().is_some_and(names_patient)
}

fn fails(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Denied | Outcome::ToolError | Outcome::ProtocolError)
}

/// Whether a call failed with a reply that showed, or may have shown, more than its error: a result with anything else in
/// it, an error that says anything else, or a reply that hosts read differently.
fn showed_data(call: &Call) -> bool {
    let Some(end) = call.completion.as_ref().filter(|end| fails(end.outcome)) else { return false };
    let only_error = |summary: Json| summary.get("error_only").and_then(Json::as_bool) == Some(true);
    // What was replaced in a message was in the reply too.
    let says_more = || end.error.as_ref().is_some_and(|error| !says_only_that_it_failed(error));
    let odd = |metadata: Json| metadata.get("mcp").and_then(|mcp| mcp.get("odd_reply")).is_some();
    end.result_summary.as_ref().map_or_else(says_more, |summary| !only_error(summary.to_json()))
        || call.session_metadata.as_ref().is_some_and(|metadata| odd(metadata.to_json()))
}

/// Adds the ids that a value of a summary contains.
fn ids_of(value: &Json, ids: &mut BTreeSet<String>) {
    match value {
        Json::Array(values) => values.iter().for_each(|value| ids_of(value, ids)),
        Json::String(text) => drop(ids.insert(text.clone())),
        value => drop(ids.insert(value.to_canonical().as_str().to_owned())),
    }
}

impl Viewed {
    fn of(call: &Call, context: &Context, others: &[&str]) -> Viewed {
        let mut viewed = Viewed::default();
        let Some(summary) = call.completion.as_ref().and_then(|c| c.result_summary.as_ref()) else { return viewed };
        let summary = summary.to_json();
        let keys = || summary.get("keys").and_then(Json::as_object).into_iter().flat_map(Object::iter);
        // A person whom the result names, and who is not one of the call's patients, is another patient too, wherever the id
        // stands.
        let mut named = BTreeSet::new();
        if matches!(context.subject, Subject::Patient(_)) {
            keys().filter(|(path, _)| names_patient_at(path)).for_each(|(_, value)| ids_of(value, &mut named));
            named.retain(|id| !context.is_subject(id));
        }
        let foreign = |text: &str| others.contains(&text) || named.contains(text);
        for field in summary.get("fields").and_then(Json::as_array).unwrap_or_default() {
            match field.as_str() {
                Some(name) if foreign(name) => viewed.withheld += 1,
                Some(name) => viewed.fields.push(name.to_owned()),
                None => {}
            }
        }
        for (path, value) in keys() {
            // A path may lead through a member whose name is an id: `patients.P-2.record_id`.
            if path.split(['.', '[', ']']).any(&foreign) {
                viewed.withheld += 1;
            } else if !context.identifies(path) {
                if !viewed.fields.iter().any(|f| f == path) {
                    viewed.fields.push(path.to_owned());
                }
            } else {
                viewed.keep(path, value, &foreign);
            }
        }
        viewed.count = summary.get("count").and_then(Json::as_u64);
        viewed.cut = summary.get("cut").and_then(Json::as_bool) == Some(true);
        viewed
    }

    /// Adds what another reply to the same call showed.
    fn add(&mut self, other: Viewed) {
        for field in other.fields {
            if !self.fields.contains(&field) {
                self.fields.push(field);
            }
        }
        for (path, value) in other.record_ids {
            let value = match self.record_ids.remove(&path) {
                Some(mine) if mine != value => {
                    let list = |value: Json| match value {
                        Json::Array(values) => values,
                        one => vec![one],
                    };
                    let mut all = list(mine);
                    all.extend(list(value));
                    all.into()
                }
                _ => value,
            };
            self.record_ids.insert(path, value);
        }
        self.count = other.count.or(self.count);
        self.cut |= other.cut;
        self.withheld += other.withheld;
    }

    fn keep(&mut self, path: &str, value: &Json, foreign: &impl Fn(&str) -> bool) {
        let is_foreign = |v: &Json| v.as_str().map_or_else(|| foreign(v.to_canonical().as_str()), foreign);
        match value {
            Json::Array(values) => {
                let kept: Vec<Json> = values.iter().filter(|v| !is_foreign(v)).cloned().collect();
                self.withheld += (values.len() - kept.len()) as u64;
                if !kept.is_empty() {
                    self.record_ids.insert(path, kept);
                }
            }
            value if is_foreign(value) => self.withheld += 1,
            value => {
                self.record_ids.insert(path, value.clone());
            }
        }
    }

    fn to_json(&self) -> Object {
        let mut o = Object::new();
        o.insert("fields", self.fields.clone());
        o.insert("record_ids", self.record_ids.clone());
        if let Some(count) = self.count {
            o.insert("count", count);
        }
        if self.cut {
            o.insert("cut", true);
        }
        if self.withheld > 0 {
            o.insert("withheld", self.withheld);
        }
        o
    }

    /// The fields and the ids as two texts; each name and id has at most `limit` characters.
    pub(super) fn texts(&self, limit: usize) -> (String, String) {
        let short = |text: &str| crate::text::shortened(text, limit);
        let mut fields: Vec<String> = self.fields.iter().map(|f| short(f)).collect();
        if self.cut {
            fields.push("and more".to_owned());
        }
        let mut ids: Vec<String> = Vec::new();
        for (path, value) in self.record_ids.iter() {
            let shown = |v: &Json| short(v.as_str().unwrap_or(v.to_canonical().as_str()));
            let values = match value {
                Json::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
                value => shown(value),
            };
            ids.push(format!("{} = {values}", short(path)));
        }
        if let Some(count) = self.count {
            ids.push(format!("{count} {}", if count == 1 { "record" } else { "records" }));
        }
        if self.withheld > 0 {
            let withheld = if self.withheld == 1 { "id" } else { "ids" };
            ids.push(format!("{} {withheld} of other patients not shown", self.withheld));
        }
        (fields.join(", "), ids.join("; "))
    }
}
