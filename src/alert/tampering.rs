//! Alerts about the log itself: what a verification or an unreadable entry shows of tampering.

use super::entry::{id, unique};
use super::listing::Alert;
use super::settlement::MARKS;
use crate::json::{Json, Object};
use crate::rules::{Measure, Rule, Rules};
use crate::store::{Move, OpenStore, TAMPERING};
use crate::verify::verification_record::one_of_each;
use crate::verify::{Finding, FindingKind, Verification, VerifyOptions};
use crate::{ErrorKind, Hash, Result};
use attestlog_proof::entry::Kind;
use attestlog_proof::json::form::Form;
use std::collections::BTreeSet;

/// Verifies the log and raises the alerts of tampering rules, once for the same findings; none for findings that are settled.
/// Alerts that the log cannot record go to `unrecorded`.
pub(super) fn verify(
    log: &OpenStore,
    rules: &Rules,
    options: &VerifyOptions,
    unrecorded: &mut Vec<Alert>,
) -> Result<Verification> {
    let verification = log.verify(options)?;
    // This is for people to read; what must not be lost becomes an alert.
    let _ = log.note_verification(&verification);
    // The place of a damaged page changes with every commit, and a rewritten page is intact again. So the alert itself
    // would change such findings; their details are left out.
    let moves = |finding: &Finding| finding.kind == FindingKind::PageDamaged;
    let mut said: Vec<String> = verification.unsettled().filter(|f| !moves(f)).map(|f| f.to_string()).collect();
    let count = verification.unsettled().count() as u64;
    if said.is_empty() && count > 0 {
        said.push(FindingKind::PageDamaged.to_string());
    }
    let kinds: BTreeSet<&str> = verification.unsettled().map(|f| f.kind.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let marks = one_of_each(verification.unsettled().map(Finding::mark));
    let first = verification.unsettled().filter_map(|f| f.seq).min();
    let said = said.join("\n");
    // A store in which nothing may be recorded takes no alert either. The findings are noted beside it.
    tampering(log, rules, Tampering { said: &said, kinds: &kinds, marks, count, first }, unrecorded).map_err(|e| {
        e.at(format!("a verification found {count} things wrong, which cannot be recorded as an alert"))
    })?;
    Ok(verification)
}

/// Evidence that somebody changed the log.
pub(super) struct Tampering<'a> {
    /// In words, of which only the hash is written; empty if there is no evidence.
    pub said: &'a str,
    /// The kinds of the findings of a verification.
    pub kinds: &'a [&'a str],
    /// What names these findings for whoever settles them.
    pub marks: Vec<String>,
    pub count: u64,
    /// The first entry concerned.
    pub first: Option<u64>,
}

/// Raises the alerts of tampering rules, once for the same evidence. Alerts that the log cannot record go to
/// `unrecorded`.
pub(super) fn tampering(
    log: &OpenStore,
    rules: &Rules,
    found: Tampering<'_>,
    unrecorded: &mut Vec<Alert>,
) -> Result<()> {
    let rules: Vec<&Rule> = rules.iter().filter(|rule| *rule.measured() == Measure::Tampering).collect();
    if rules.is_empty() {
        return Ok(());
    }
    let known = log.engine().cursor(TAMPERING)?;
    let digest = Hash::of(found.said.as_bytes());
    // 48 bits suffice to tell findings apart; zero means none.
    let fingerprint = digest.as_bytes().iter().take(6).fold(1u64, |n, b| (n << 8) | u64::from(*b));
    let now = if found.said.is_empty() { 0 } else { fingerprint };
    if known.unwrap_or(0) == now {
        return Ok(());
    }
    let mut entries = Vec::new();
    if now != 0 {
        let size = log.size();
        let snapshot = log.engine().snapshot()?;
        for rule in rules {
            let mut detail = Object::from_iter([
                ("id", Json::from(unique(log, &snapshot, id(rule, size), size.saturating_sub(1)))),
                ("rule", rule.name.as_str().into()),
                ("severity", rule.severity.as_str().into()),
                ("crossing", size.into()),
                ("count", found.count.into()),
                ("findings", found.kinds.iter().map(|kind| Json::from(*kind)).collect::<Vec<_>>().into()),
                ("findings_digest", digest.to_string().into()),
            ]);
            if !found.marks.is_empty() {
                detail.insert(MARKS, found.marks.form());
            }
            if let Some(first) = found.first {
                detail.insert("first", first);
            }
            if let Some(summary) = &rule.summary {
                detail.insert("summary", summary.as_str());
            }
            entries.push((Kind::Alert, detail, None));
        }
    }
    let alerts: Vec<Object> = entries.iter().map(|(_, detail, _)| detail.clone()).collect();
    let written = log.engine().record_with_cursors(entries, &[Move { cursor: TAMPERING, from: known, to: now }]);
    if written.as_ref().is_err_and(|e| e.kind() != ErrorKind::Closed) {
        let digest: String = digest.to_string().chars().take(12).collect();
        let at = log.engine().config.clock.now();
        unrecorded
            .extend(alerts.into_iter().filter_map(|detail| Alert::without_entry(detail, log.size(), at, &digest)));
    }
    written.map(drop)
}
