//! Findings that somebody has settled: the acknowledgement of the alert about them names each by a digest of what it says.
//!
//! A settled finding stays a finding: what it says about the log is still so, and [`Verification::ok`] is false. It is only not
//! reported as news: not as an alert, not by `health`. A finding that says anything else, such as the hash that another edit
//! leaves, is not settled.
//!
//! A settlement names only what a verification finds when it is made. A finding that was written into
//! `STORE.verified`, to have it settled before it is there, is not named. What that verification finds and the settlement does not
//! name is noted anew: nothing becomes quiet that nobody settled.

use super::finding::{Finding, FindingKind};
use super::{Verification, VerificationRecord, VerifyOptions};
use crate::json::{Json, Object};
use crate::store::OpenStore;
use crate::{Error, Hash, Kind, Query, Timestamp};
use attestlog_proof::json::form::Form;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How somebody settled a finding, as its entry says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Settled {
    /// The seq of the entry.
    pub seq: u64,
    /// Who settled it.
    pub actor: String,
    /// What looking into it came to.
    pub disposition: String,
    /// When.
    pub at: Timestamp,
}

attestlog_proof::json_form!(members Settled { seq, actor, disposition, at });

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settled in entry {} by {}: {}", self.seq, self.actor, self.disposition)
    }
}

/// The member of a settlement's entry that names what it settles.
const SETTLES: &str = "settles";
/// The most findings that one settlement names.
pub(super) const MOST: usize = 256;
/// What only a verification against something kept elsewhere finds.
const FROM_OUTSIDE: [FindingKind; 4] =
    [FindingKind::Rollback, FindingKind::Fork, FindingKind::KeyMismatch, FindingKind::KeptDamaged];
/// How many digits of a digest a verification record keeps.
const SHORT: usize = 16;

impl Finding {
    /// Identifies what the finding says. A rollback becomes a fork when the log grows beyond what was kept, and says the same.
    fn digest(&self) -> String {
        let said = match self.kind {
            FindingKind::Rollback | FindingKind::Fork => format!("kept: {}", self.detail),
            _ => self.to_string(),
        };
        Hash::of(said.as_bytes()).to_string()
    }

    /// The beginning of that, for a verification record.
    pub(super) fn short_digest(&self) -> String {
        self.digest().chars().take(SHORT).collect()
    }
}

impl Verification {
    /// The findings that nobody has settled.
    pub fn unsettled(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.settled.is_none())
    }

    /// Whether there are findings, and somebody has settled all of them.
    pub fn is_settled(&self) -> bool {
        !self.ok() && self.unsettled().next().is_none()
    }
}

impl OpenStore {
    /// Notes in each finding how it was settled, if it was. If the settlements cannot be read, nothing is settled.
    pub(super) fn mark_settled(&self, findings: &mut [Finding]) {
        if findings.is_empty() {
            return;
        }
        let known = self.settlements().unwrap_or_default();
        for finding in findings {
            finding.settled = known.get(&finding.digest()).cloned();
        }
    }

    /// What was settled, by digest; the first settlement counts.
    fn settlements(&self) -> crate::Result<BTreeMap<String, Settled>> {
        let mut all = BTreeMap::new();
        for entry in self.despite_damage().query(&Query::new().kind(Kind::AlertAck))? {
            let entry = entry?;
            let Some(detail) = entry.own().map(|own| own.detail.to_json()) else { continue };
            let text = |key: &str| detail.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
            let settled = Settled {
                seq: entry.seq,
                actor: text("actor"),
                disposition: text("disposition"),
                at: entry.body.recorded_at,
            };
            for digest in detail.get(SETTLES).and_then(Json::as_array).unwrap_or_default() {
                if let Some(digest) = digest.as_str() {
                    all.entry(digest.to_owned()).or_insert_with(|| settled.clone());
                }
            }
        }
        Ok(all)
    }

    /// What a settlement names: the digests of the findings that were noted, as far as they are found now. Also what is found now
    /// and not named.
    pub(super) fn settling<'v>(
        noted: &VerificationRecord,
        options: &VerifyOptions,
        found: &'v Verification,
    ) -> crate::Result<(Object, Vec<&'v Finding>)> {
        let digests: BTreeSet<&str> = noted.digests.iter().map(String::as_str).collect();
        let mut settles = BTreeSet::new();
        let mut rest = Vec::new();
        for finding in found.unsettled() {
            match settles.len() < MOST && digests.contains(finding.short_digest().as_str()) {
                true => drop(settles.insert(finding.digest())),
                false => rest.push(finding),
            }
        }
        let outside: Vec<&str> = FROM_OUTSIDE.iter().map(|kind| kind.as_str()).filter(|kind| noted.has(kind)).collect();
        if settles.len() < digests.len() && !outside.is_empty() && !options.has_evidence() {
            return Err(Error::invalid(format!(
                "nothing was settled: what was found ({}) was found against something kept elsewhere. Settle it with the same evidence \
                 (`--against`, `--public-key`), so that the entry names it",
                outside.join(", ")
            )));
        }
        if settles.is_empty() && !digests.is_empty() && !rest.is_empty() {
            let kinds: BTreeSet<&str> = rest.iter().map(|finding| finding.kind.as_str()).collect();
            return Err(Error::invalid(format!(
                "nothing was settled: what was noted is not found now, but something else is ({}). Verify again, with the same evidence, \
                 to note that; then settle it",
                kinds.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        let named = match settles.is_empty() {
            true => Object::new(),
            false => Object::from_iter([(SETTLES, settles.into_iter().collect::<Vec<_>>().form())]),
        };
        Ok((named, rest))
    }
}
