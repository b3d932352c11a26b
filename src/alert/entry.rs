//! The entry of an alert: its id, what it names, and how long it is kept.

use super::evaluate::Raised;
use crate::json::{Json, Object};
use crate::retention::{DIGEST, MANY};
use crate::rules::{Rule, span};
use crate::store::{OpenStore, Own, Snapshot};
use crate::{Hash, Result};
use attestlog_proof::entry::{Kind, Retention};

/// How many entries an alert names; it may concern more.
const MAX_NAMED: usize = MANY;
/// A longer value is replaced by its hash in an alert; the entries that the alert names have the value.
const MAX_VALUE_BYTES: usize = 1024;

/// The id of an alert, the same in every delivery, in a log that was never restored.
pub(super) fn id(rule: &Rule, crossing: u64) -> String {
    format!("{}:{crossing}", rule.name)
}

impl Raised {
    pub(super) fn id(&self) -> String {
        id(&self.rule, self.crossing)
    }
}

/// The same id in a log that was restored: with digits of the hash of the entry at `seq`, since another history may have had an
/// alert of this id, which receivers know.
pub(super) fn unique(log: &OpenStore, snapshot: &Snapshot, id: String, seq: u64) -> String {
    match log.engine().chain_state().restored {
        true => match snapshot.hash(seq) {
            Ok(hash) => format!("{id}:{}", hash.to_string().chars().take(12).collect::<String>()),
            Err(_) => id,
        },
        false => id,
    }
}

/// Makes the entry of an alert. It is kept as long as any of the entries that it concerns.
pub(super) fn entry(log: &OpenStore, snapshot: &Snapshot, raised: &Raised) -> Result<Own> {
    let rule = &raised.rule;
    let chain_state = log.engine().chain_state();
    let mut kept: Option<Retention> = None;
    for &seq in &raised.events {
        let Ok(Some(concerned)) = snapshot.checked(seq) else { continue };
        let Some(mut retention) = concerned.body.retention else { continue };
        if let Some(history) = &chain_state.history {
            retention.until = history.effective_until(seq, &retention);
        }
        if kept.as_ref().is_none_or(|kept| kept.until < retention.until) {
            kept = Some(retention);
        }
    }
    let key = raised.key.iter().map(|(part, values)| {
        let mut values: Vec<Json> = values.iter().take(MAX_NAMED).map(|v| Json::from(shortened(v))).collect();
        let value = if values.len() == 1 { values.swap_remove(0) } else { Json::Array(values) };
        (part.as_str(), value)
    });
    let newest = raised.events.iter().rev().take(MAX_NAMED).copied();
    let mut named: Vec<u64> = newest.collect();
    named.reverse();
    let mut detail = Object::from_iter([
        ("id", Json::from(unique(log, snapshot, raised.id(), raised.crossing))),
        ("rule", rule.name.as_str().into()),
        ("severity", rule.severity.as_str().into()),
        ("crossing", raised.crossing.into()),
        ("key", key.collect::<Object>().into()),
        ("count", raised.count.into()),
        ("threshold", raised.threshold.into()),
        ("window", span(rule.window).into()),
        ("entries", named.into_iter().map(Json::from).collect::<Vec<_>>().into()),
    ]);
    if let Some(summary) = &rule.summary {
        detail.insert("summary", summary.as_str());
    }
    if let Some(misuse) = raised.misuse {
        detail.insert("misuse", misuse.as_str());
    }
    Ok((Kind::Alert, detail, kept))
}

fn shortened(value: &str) -> String {
    match value.len() > MAX_VALUE_BYTES {
        true => format!("{DIGEST}{}", Hash::of(value.as_bytes())),
        false => value.to_owned(),
    }
}
