//! One access, as a report shows it.

use super::{Context, Subject};
use attestlog::json::{Json, Object};
use attestlog::{Call, ClaimedTime, Entry, Misuse, Outcome, Phase, Timestamp, Trigger};

/// One access or attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Access {
    /// The entry that records it; of a call in two steps, the one that began it.
    pub seq: u64,
    /// The entry that ended it, of a call in two steps.
    pub finished_seq: Option<u64>,
    /// The entry that began it, where this row was made of its end alone.
    pub begun_seq: Option<u64>,
    /// The entry of an answer that came after the log had it as unanswered.
    pub answered_seq: Option<u64>,
    /// When, by the caller's clock.
    pub timestamp: Timestamp,
    /// When it was recorded, by the log's clock; of a call in two steps, its beginning.
    pub recorded_at: Timestamp,
    /// That the two lie further apart than [`Context::claimed_time_bound`].
    pub claimed_time: Option<ClaimedTime>,
    /// The user who started it.
    pub accessed_by: String,
    /// In which role.
    pub role: Option<String>,
    /// Through which agent.
    pub agent: Option<String>,
    /// Through which model.
    pub model: Option<String>,
    /// With which tool.
    pub tool: String,
    /// Offered by which server.
    pub server: Option<String>,
    /// In which conversation.
    pub conversation_id: String,
    /// What was seen, without what stood in it.
    pub viewed: Viewed,
    /// Why.
    pub purpose: Option<String>,
    /// What set it off.
    pub trigger: Option<Trigger>,
    /// How it ended; `None` where it was begun and nothing says how it ended.
    pub outcome: Option<Outcome>,
    /// Whether it was made under an emergency override.
    pub emergency: bool,
    /// The seq of the emergency grant.
    pub grant: Option<u64>,
    /// Why that grant did not cover it, if it did not, where the report knows of grants.
    pub misuse: Option<Misuse>,
    /// Whether `import` took it from a recording; that a caller says so is not enough.
    pub backfilled: bool,
    /// The patients concerned, in a report about a user; empty in one about a patient.
    pub patients: Vec<String>,
    /// How many other patients the same call concerned, in a report about a patient.
    pub other_patients: u64,
}

/// What a call returned: names and ids.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Viewed {
    /// Names of the fields that were returned.
    pub fields: Vec<String>,
    /// Ids of records, by where they stood (`orders[].order_id`): a value, or a list of them.
    pub record_ids: Object,
    /// How many records, where a list was returned.
    pub count: Option<u64>,
    /// Whether more was returned than is listed.
    pub cut: bool,
    /// How many names and ids are not shown because they are other patients'.
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
            begun_seq: match call.phase {
                Phase::Finished(begun) => Some(begun),
                Phase::Whole | Phase::Begun => None,
            },
            timestamp: call.timestamp,
            recorded_at: entry.body.recorded_at,
            claimed_time: entry.claimed_time(context.claimed_time_bound),
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
            emergency: call.emergency,
            grant: call.grant,
            misuse: context.grants.as_ref().zip(call.grant).and_then(|(known, grant)| known.misuse(seq, grant)),
            backfilled: call.is_from_recording(),
            patients: if by_user { call.patient_ids.clone() } else { Vec::new() },
            other_patients: others.len() as u64,
        }
    }

    /// Makes this row, of a beginning, the row of the whole call; `end` was made of the entry that ended it.
    pub(crate) fn finish(&mut self, end: Access, finished_seq: u64) {
        self.finished_seq = Some(finished_seq);
        self.viewed = end.viewed;
        self.outcome = end.outcome;
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
        self.other_patients = self.other_patients.max(end.other_patients);
        for patient in end.patients {
            if !self.patients.contains(&patient) {
                self.patients.push(patient);
            }
        }
    }

    /// Takes in what came of the call after the log had it as unanswered; `late` was made of the entry that says so.
    pub(crate) fn answer(&mut self, late: Access) {
        self.answered_seq = Some(late.seq);
        self.viewed = late.viewed;
        self.outcome = late.outcome;
        self.emergency |= late.emergency;
        self.other_patients = self.other_patients.max(late.other_patients);
        self.patients.extend(late.patients);
        self.patients.sort_unstable();
        self.patients.dedup();
    }

    /// The seqs of the entries that it was made of.
    pub fn entries(&self) -> impl Iterator<Item = u64> + use<> {
        [Some(self.seq), self.finished_seq, self.answered_seq].into_iter().flatten()
    }

    /// Whether it succeeded; `None` where it was begun and nothing says how it ended.
    pub fn success(&self) -> Option<bool> {
        self.outcome.map(|o| o == Outcome::Ok)
    }

    /// How it ended: the outcome's name, or `unfinished`.
    pub fn outcome_name(&self) -> &'static str {
        self.outcome.map_or("unfinished", Outcome::as_str)
    }

    pub(super) fn to_json(&self, by_user: bool) -> Object {
        let mut o = Object::new();
        o.insert("seq", self.seq);
        o.insert("timestamp", self.timestamp.to_string());
        o.insert("recorded_at", self.recorded_at.to_string());
        if let Some(claimed) = self.claimed_time {
            o.insert("claimed_time", claimed.as_str());
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

    /// The agent and the model in one.
    pub(super) fn through(&self) -> Option<String> {
        match (&self.agent, &self.model) {
            (Some(agent), Some(model)) => Some(format!("{agent} / {model}")),
            (one, other) => one.clone().or_else(|| other.clone()),
        }
    }
}

impl Viewed {
    fn of(call: &Call, context: &Context, others: &[&str]) -> Viewed {
        let mut viewed = Viewed::default();
        let Some(summary) = call.completion.as_ref().and_then(|c| c.result_summary.as_ref()) else { return viewed };
        let summary = summary.to_json();
        let foreign = |text: &str| others.contains(&text);
        for field in summary.get("fields").and_then(Json::as_array).unwrap_or_default() {
            match field.as_str() {
                Some(name) if foreign(name) => viewed.withheld += 1,
                Some(name) => viewed.fields.push(name.to_owned()),
                None => {}
            }
        }
        for (path, value) in summary.get("keys").and_then(Json::as_object).into_iter().flat_map(Object::iter) {
            // A path may lead through a member that is named by an id: `patients.P-2.record_id`.
            if others.iter().any(|other| path.split(['.', '[', ']']).any(|step| step == *other)) {
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

    /// The fields and the ids as two texts, of which each name and id has at most `limit` characters.
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
