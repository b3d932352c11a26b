//! What is the same for every call of a conversation, so that it is said once; and its agents as a tree.

use super::render::{Out, clean, count, counted};
use attestlog::{Call, Trigger};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The most agents that are named.
const MOST_AGENTS: usize = 50;
/// The most agents that are told apart.
const KNOWN_AGENTS: usize = 10_000;

/// A value that every call so far has.
type Same<T> = Option<T>;

/// See the module. `None` where calls differ.
#[derive(Debug)]
pub struct Shared {
    /// With the role.
    user: Same<(String, Option<String>)>,
    model: Same<Option<String>>,
    agent: Same<Option<String>>,
    server: Same<Option<String>>,
    trigger: Same<Option<Trigger>>,
    purpose: Same<Option<String>>,
    patients: Same<Vec<String>>,
}

fn keep<T: PartialEq>(same: &mut Same<T>, other: &T) {
    if same.as_ref().is_some_and(|value| value != other) {
        *same = None;
    }
}

impl Shared {
    /// What one call has.
    pub fn of(call: &Call) -> Shared {
        Shared {
            user: Some((call.user_id.clone(), call.user_role())),
            model: Some(call.model.clone()),
            agent: Some(call.agent_id.clone()),
            server: Some(call.tool_server.clone()),
            trigger: Some(call.trigger),
            purpose: Some(call.purpose.clone()),
            patients: Some(call.patient_ids.clone()),
        }
    }

    /// Drops what another call has not.
    pub fn narrow(&mut self, call: &Call) {
        if self.user.is_some() {
            keep(&mut self.user, &(call.user_id.clone(), call.user_role()));
        }
        keep(&mut self.model, &call.model);
        keep(&mut self.agent, &call.agent_id);
        keep(&mut self.server, &call.tool_server);
        keep(&mut self.trigger, &call.trigger);
        keep(&mut self.purpose, &call.purpose);
        keep(&mut self.patients, &call.patient_ids);
    }

    /// Whether all are about the same patients.
    pub fn patients(&self) -> bool {
        self.patients.is_some()
    }

    /// Whether all have the same purpose.
    pub fn purpose(&self) -> bool {
        self.purpose.is_some()
    }

    /// It in words; empty if there is nothing to say beyond the user.
    pub fn words(&self) -> String {
        let value = |same: &Same<Option<String>>| same.as_ref().and_then(Option::as_deref).map(clean);
        let patients = self.patients.as_ref().filter(|patients| !patients.is_empty()).map(|patients| {
            let shown: Vec<String> = patients.iter().take(5).map(|id| clean(id)).collect();
            let more = patients.len().saturating_sub(5);
            let more = if more > 0 { format!(", … {more} more") } else { String::new() };
            format!("patient {}{more}", shown.join(", "))
        });
        let parts = [
            self.user.as_ref().and_then(|(_, role)| role.as_deref()).map(|role| format!("as {}", clean(role))),
            value(&self.model).map(|model| format!("model {model}")),
            value(&self.agent).map(|agent| format!("agent {agent}")),
            value(&self.server).map(|server| format!("server {server}")),
            self.trigger.flatten().and_then(|trigger| phrase(trigger, None)),
            value(&self.purpose).map(|purpose| format!("for {purpose}")),
            patients,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }

    /// Who did what in one call, without what is shared: `user (role) → model in agent → tool on server, by which trigger`.
    pub fn rest(&self, call: &Call) -> String {
        let mut steps = Vec::new();
        if self.user.is_none() {
            let role = call.user_role().map_or(String::new(), |role| format!(" ({})", clean(&role)));
            steps.push(format!("{}{role}", clean(&call.user_id)));
        }
        let model = call.model.as_ref().filter(|_| self.model.is_none()).map(|model| clean(model));
        let agent = call.agent_id.as_ref().filter(|_| self.agent.is_none()).map(|agent| clean(agent));
        steps.extend(match (model, agent) {
            (Some(model), Some(agent)) => Some(format!("{model} in {agent}")),
            (model, agent) => model.or(agent),
        });
        let server = call.tool_server.as_ref().filter(|_| self.server.is_none());
        let server = server.map_or(String::new(), |server| format!(" on {}", clean(server)));
        steps.push(format!("{}{server}", clean(&call.tool_name)));
        let trigger = call.trigger.filter(|_| call.follows.is_some() || self.trigger.is_none());
        let trigger =
            trigger.and_then(|trigger| phrase(trigger, call.follows)).map_or(String::new(), |by| format!(", {by}"));
        let emergency = if call.emergency { ", in an emergency" } else { "" };
        format!("{}{trigger}{emergency}", steps.join(" → "))
    }
}

fn phrase(trigger: Trigger, follows: Option<u64>) -> Option<String> {
    let seq = follows.map_or(String::new(), |seq| format!(" {seq}"));
    match trigger {
        Trigger::UserRequest => Some("at the user's request".to_owned()),
        Trigger::Proactive => Some("of the agent's own accord".to_owned()),
        Trigger::System => Some("by a rule of the system".to_owned()),
        Trigger::Retry => Some(format!("retrying{seq}")),
        Trigger::FollowUp => Some(format!("following up{seq}")),
        _ => None,
    }
}

/// The agents of a conversation, each with the one that started it and the number of its calls.
#[derive(Debug, Default)]
pub struct Agents(BTreeMap<String, (Option<String>, u64)>);

impl Agents {
    /// Adds the agent of a call.
    pub fn take(&mut self, call: &Call) {
        let Some(agent) = &call.agent_id else { return };
        if self.0.len() >= KNOWN_AGENTS && !self.0.contains_key(agent) {
            return;
        }
        let parent = call.circumstances.as_ref().and_then(|around| around.parent_agent_id.clone());
        let known = self.0.entry(agent.clone()).or_default();
        known.0 = known.0.take().or(parent);
        known.1 += 1;
    }

    /// Writes the tree, if any agent started another.
    pub fn write(&self, out: &mut Out) -> io::Result<()> {
        if self.0.values().all(|(parent, _)| parent.is_none()) {
            return Ok(());
        }
        let mut children: BTreeMap<Option<&str>, BTreeSet<&str>> = BTreeMap::new();
        for (agent, (parent, _)) in &self.0 {
            children.entry(parent.as_deref()).or_default().insert(agent);
            if let Some(parent) = parent.as_deref().filter(|parent| !self.0.contains_key(*parent)) {
                children.entry(None).or_default().insert(parent);
            }
        }
        out.line("agents:")?;
        let mut seen = BTreeSet::new();
        let all: BTreeSet<&str> = children.values().flatten().copied().collect();
        // Agents that started each other in a circle have no root: each is taken for one if nothing else has led to it.
        let roots = children.get(&None).into_iter().flatten().copied().chain(all.iter().copied());
        for root in roots {
            let mut stack = vec![(root, 0)];
            while let Some((agent, depth)) = stack.pop() {
                if seen.len() >= MOST_AGENTS || !seen.insert(agent) {
                    continue;
                }
                let calls = self.0.get(agent).map_or(0, |(_, calls)| *calls);
                let branch = if depth > 0 { format!("{}└ ", "  ".repeat(depth.min(20) - 1)) } else { String::new() };
                out.line(format!("  {branch}{} · {}", clean(agent), counted(calls, "call", "calls")))?;
                stack.extend(children.get(&Some(agent)).into_iter().flatten().rev().map(|child| (*child, depth + 1)));
            }
        }
        match all.len() - seen.len() {
            0 => Ok(()),
            more => out.line(format!("  … {} more", count(more as u64))),
        }
    }
}
