//! Findings that somebody has settled: the acknowledgement of the alert about them names what was looked into.
//!
//! A settled finding stays a finding: what it says about the log is still so, and [`Verification::ok`] is false. It is only not
//! reported as news: not as an alert, not by `health`. A finding that says anything else, such as the hash that another edit
//! leaves, is not settled.
//!
//! Only *facts* are settled for good: findings that name all there is to know, such as the hash that an entry has now, and remain
//! true whatever else is done to the file. What answers are read from (indexes, statistics, pages) can be damaged further without
//! the finding saying anything else. A settlement says that somebody has looked into it, and the next verification finds it again.
//!
//! A settlement names only what a verification finds when it is made. A finding that was written into
//! `STORE.verified`, to have it settled before it is there, is not named. What was noted and is not found any more is settled only by
//! somebody who says so, and the entry has it. What is found besides stays noted: nothing becomes quiet that nobody settled.

use super::Verification;
use super::finding::{Finding, FindingKind};
use super::signed::KEPT;
use crate::json::Json;
use crate::store::OpenStore;
use crate::{Hash, Kind, Query, Timestamp};
use std::collections::BTreeMap;
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
pub(crate) const SETTLES: &str = "settles";
/// The most findings that one settlement names, and one record of a verification.
pub(crate) const MOST: usize = 256;
/// How many digits of a digest a mark has.
const SHORT: usize = 16;

impl Finding {
    /// Whether it names all that there is to know, and remains true whatever else is done to the file: the only kind of finding that
    /// stays settled.
    pub fn is_fact(&self) -> bool {
        use FindingKind as K;
        matches!(
            self.kind,
            K::EntryChanged
                | K::EntryMissing
                | K::OwnEntryInvalid
                | K::CheckpointMismatch
                | K::PurgedEarly
                | K::Rollback
                | K::Fork
                | K::KeptDamaged
        )
    }

    /// Identifies what it says. A rollback becomes a fork when the log grows beyond what was kept, and says the same; under
    /// which name it was kept says nothing about the log.
    pub(crate) fn digest(&self) -> String {
        let said = match (self.kind, self.detail.split_once(KEPT)) {
            (FindingKind::Rollback | FindingKind::Fork, Some((said, _))) => format!("kept: {said}"),
            _ => self.to_string(),
        };
        Hash::of(said.as_bytes()).to_string()
    }

    /// Names it where it is noted: its kind, and the beginning of its digest. The place of a damaged page changes with every commit.
    pub(crate) fn mark(&self) -> String {
        match self.kind {
            FindingKind::PageDamaged => self.kind.to_string(),
            kind => format!("{kind}:{}", self.digest().chars().take(SHORT).collect::<String>()),
        }
    }
}

/// The kind that a mark names.
pub(crate) fn kind_of(mark: &str) -> &str {
    mark.split(':').next().unwrap_or(mark)
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
}
