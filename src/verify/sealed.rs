//! The keys of sealed values: each that an entry needs is in the file, or an entry says that it was destroyed.
//!
//! A key that is taken out without a word is an erasure that nobody answers for; one that is back after an erasure undoes
//! it.

use super::finding::{Finding, FindingKind as K};
use crate::Result;
use crate::json::Json;
use crate::redact::sealed_subject;
use crate::store::write::subjects::Flaw;
use crate::store::{Engine, Snapshot};
use attestlog_proof::entry::Call;
use std::collections::{BTreeMap, BTreeSet};

/// The ids of the keys under which values of a call are sealed.
pub(super) fn keys_of<S: AsRef<str>>(call: &Call<S>) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let summary = call.completion.as_ref().and_then(|c| c.result_summary.as_ref());
    let parts = [call.arguments.as_ref(), call.session_metadata.as_ref(), summary];
    for part in parts.into_iter().flatten() {
        // Most entries have none, and are not read again. A sealed value has a commitment of 64 digits.
        if part.as_str().len() > 64 && part.as_str().contains("\"sealed\":") {
            collect(&part.to_json(), &mut ids);
        }
    }
    ids
}

/// Depth is that of JSON in an entry, which has a limit.
fn collect(value: &Json, ids: &mut BTreeSet<String>) {
    if let Some(id) = sealed_subject(value) {
        ids.insert(id.to_owned());
        return;
    }
    match value {
        Json::Array(items) => items.iter().for_each(|item| collect(item, ids)),
        Json::Object(members) => members.iter().for_each(|(_, member)| collect(member, ids)),
        _ => {}
    }
}

/// The ids of the keys that an erasure says it destroyed.
pub(super) fn destroyed(detail: &Json) -> impl Iterator<Item = String> + '_ {
    let ids = detail.get("key_ids").and_then(Json::as_array).unwrap_or_default();
    ids.iter().filter_map(Json::as_str).map(str::to_owned)
}

/// Compares what entries need (by id, with the first seq) with the keys in the file. Where the key file is there, each
/// key is unwrapped too.
pub(super) fn check(
    engine: &Engine,
    snapshot: &Snapshot,
    needed: &BTreeMap<String, u64>,
    erased: &BTreeMap<String, u64>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut there = BTreeSet::new();
    engine.scan_subjects(snapshot, &mut |id, problem| {
        there.insert(id.to_owned());
        if let Some(by) = erased.get(id) {
            let detail = format!("the key {id} is in the file although entry {by} says that it was destroyed");
            findings.push(Finding::new(K::SubjectKeyMismatch, *by, detail));
        } else if let Some(problem) = problem {
            let (kind, problem) = match problem {
                Flaw::Row(problem) => (K::SubjectKeyMismatch, problem),
                Flaw::Tag(problem) => (K::SmallTableMismatch, problem),
            };
            let detail = format!("the key {id} of sealed values: {problem}");
            findings.push(Finding::new(kind, needed.get(id).copied(), detail));
        }
    })?;
    for (id, seq) in needed.iter().filter(|(id, _)| !there.contains(*id) && !erased.contains_key(*id)) {
        let detail = format!(
            "a value of it is sealed under the key {id}, which is gone although no entry says that it was erased"
        );
        findings.push(Finding::new(K::SubjectKeyMismatch, *seq, detail));
    }
    Ok(findings)
}
