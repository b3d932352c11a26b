//! Determines which rules are in force for which entry.
//!
//! Invariant R83: an entry is judged by the policy that was in force when it was recorded. So a policy that is set
//! while rules are being evaluated, in whatever process, applies from its own entry on and not to earlier entries.

use super::evaluate::InForce;
use crate::rules::{Rule, Rules};
use crate::store::OpenStore;
use crate::{Entry, PolicySet, Result};
use attestlog_proof::entry::Kind;
use std::sync::Arc;

/// The source of an engine's rules.
#[derive(Debug, Clone)]
pub(super) enum RuleSource {
    /// The policies in the chain: each applies from its entry on (R83).
    Policies,
    /// The host.
    Host(Rules),
}

impl RuleSource {
    /// The rules for the entry at `seq`, each with the seq since which it has been in force without interruption.
    pub(super) fn at(&self, log: &OpenStore, seq: u64) -> Result<Vec<InForce>> {
        match self {
            RuleSource::Host(rules) => Ok(rules.iter().map(|rule| (Arc::new(rule.clone()), 0)).collect()),
            RuleSource::Policies => in_force(&log.engine().chain_state().rules, seq),
        }
    }

    /// The rules from this entry on, if it changes them.
    pub(super) fn changed_by(&self, log: &OpenStore, entry: &Entry) -> Result<Option<Vec<InForce>>> {
        let policy = entry.own().filter(|own| own.kind == Kind::Policy && matches!(self, RuleSource::Policies));
        let Some(policy) = policy else { return Ok(None) };
        let chain_state = log.engine().chain_state();
        let mut rules = chain_state.rules.clone();
        // An entry is visible a moment before what it establishes is in force.
        if chain_state.policies.as_ref().is_none_or(|(seq, _)| *seq < entry.seq) {
            let said = PolicySet::from_json(&policy.detail.to_json())?.alerts;
            if rules.last().is_none_or(|(_, rules)| *rules != said) {
                rules.push((entry.seq, said));
            }
        }
        let changes = rules.iter().skip(1).any(|(from, _)| *from == entry.seq);
        changes.then(|| in_force(&rules, entry.seq + 1)).transpose()
    }

    /// The rules for what has no entry: the passing of time, and verifications.
    pub(super) fn newest(&self, log: &OpenStore) -> Rules {
        match self {
            RuleSource::Host(rules) => rules.clone(),
            RuleSource::Policies => {
                let chain_state = log.engine().chain_state();
                chain_state.rules.last().map_or_else(Rules::none, |(_, rules)| rules.clone())
            }
        }
    }
}

/// Selects the rules in force for the entry at `seq` from those of all policies, each with the seq since which it has
/// been in force without interruption.
fn in_force(rules: &[(u64, Rules)], seq: u64) -> Result<Vec<InForce>> {
    let until = rules.partition_point(|(from, _)| *from < seq).max(1).min(rules.len());
    let Some((newest, before)) = rules.get(..until).and_then(<[_]>::split_last) else { return Ok(Vec::new()) };
    let since = |rule: &Rule| {
        let without = before.iter().rposition(|(_, rules)| rules.get(&rule.name) != Some(rule));
        let first = without.map_or(0, |at| at + 1);
        // A rule of the first policy cannot have missed anything before it.
        if first == 0 { 0 } else { before.get(first).map_or(newest.0, |(from, _)| *from) }
    };
    let usable = |rule: &Rule| rule.check().map(|()| (Arc::new(rule.clone()), since(rule)));
    newest.1.iter().map(usable).collect()
}
