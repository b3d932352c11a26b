//! Checks the keys of sealed values: each key that an entry needs is in the file, or an entry says that it was
//! destroyed.
//!
//! A key that is removed without an entry is an erasure that nobody answers for; a key that is back after an erasure
//! undoes it.

use super::finding::{Finding, FindingKind as K};
use crate::Result;
use crate::store::write::subjects::Flaw;
use crate::store::{Engine, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// Compares the keys that entries need (by id, with the first seq) with the keys in the file. If the key file is
/// available, each key is also unwrapped.
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
