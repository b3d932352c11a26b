//! Settling what verifications found: the entry that names it, the alerts that it closes, and what stays noted.
//!
//! What a settled finding is, and which stay settled, is in `verify/settled`.

use super::listing::{Alert, AlertState};
use crate::json::{Json, Object};
use crate::rules::Severity;
use crate::store::{OpenStore, Receipt};
use crate::text::{Justification, check_text};
use crate::verify::settled::{MOST, SETTLES, kind_of};
use crate::verify::verification_record::one_of_each;
use crate::verify::{Finding, Verification, VerificationRecord, VerifyOptions};
use crate::{Error, ErrorKind, Kind, Result};
use attestlog_proof::json::form::Form;
use std::collections::BTreeSet;

/// What to do with findings that were noted and are not found any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NotFound {
    /// Settle nothing: the evidence with which they were found may be missing.
    #[default]
    Refuse,
    /// Settle them too, because what was wrong is repaired. The entry says that they were not found.
    Settle,
}

/// What a settlement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settlement {
    /// The entry that names it.
    pub receipt: Receipt,
    /// What was found now, and is settled.
    pub settled: Vec<Finding>,
    /// The kinds of what was noted, is not found any more, and is settled all the same.
    pub not_found: Vec<String>,
    /// What was found now and had not been noted. It is noted now, and not settled.
    pub left: Vec<Finding>,
}

attestlog_proof::json_form!(members Settlement { receipt, settled, not_found, left });

impl OpenStore {
    /// Sorts what a verification found into what is settled by these marks and what is left.
    fn sorted(found: &Verification, marks: &BTreeSet<&str>) -> (Vec<Finding>, Vec<Finding>) {
        let is_noted = |finding: &&Finding| marks.contains(finding.mark().as_str());
        let (noted, mut left): (Vec<&Finding>, Vec<&Finding>) = found.unsettled().partition(is_noted);
        left.extend(noted.iter().skip(MOST));
        let settled = noted.into_iter().take(MOST).cloned().collect();
        (settled, left.into_iter().cloned().collect())
    }

    /// Says that somebody has looked into what verifications found: see [`Verifications::settle`](crate::groups::Verifications::settle).
    pub(crate) fn settle_verification(
        &self,
        by: Justification<'_>,
        options: &VerifyOptions,
        unfound: NotFound,
    ) -> Result<Settlement> {
        check_text("actor", by.actor)?;
        check_text("disposition", by.reason)?;
        let open: Vec<Alert> =
            self.alerts()?.into_iter().filter(AlertState::is_open).map(|state| state.alert).collect();
        let noted = self.noted(&open)?;
        let marks: BTreeSet<&str> = noted.marks.iter().map(String::as_str).collect();
        let found = self.verify(options)?;
        let (settled, left) = OpenStore::sorted(&found, &marks);
        let here: BTreeSet<String> = found.findings.iter().map(Finding::mark).collect();
        let gone: Vec<&str> = marks.iter().copied().filter(|mark| !here.contains(*mark)).collect();
        if !gone.is_empty() && unfound == NotFound::Refuse {
            let kinds: BTreeSet<&str> = gone.iter().copied().map(kind_of).collect();
            return Err(Error::invalid(format!(
                "nothing was settled: of what was noted, {} is not found now. Give the evidence with which it was found (`--against`, \
                 `--public-key`). If it is repaired, by a restore for instance, say so (`--not-found`), and the entry has it",
                kinds.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        let facts: BTreeSet<String> = settled.iter().filter(|finding| finding.is_fact()).map(Finding::digest).collect();
        let marked: BTreeSet<String> =
            settled.iter().map(Finding::mark).chain(gone.iter().copied().map(str::to_owned)).collect();
        let gone: Vec<String> = gone.into_iter().map(str::to_owned).collect();
        let more = Object::from_iter([
            (SETTLES, facts.into_iter().collect::<Vec<_>>().form()),
            (
                "found",
                settled.iter().map(Finding::mark).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().form(),
            ),
            ("not_found", gone.form()),
        ]);
        // An alert of which part is not settled stays open.
        let covered = open.iter().filter(|alert| {
            let marks = marks_of(alert);
            !marks.is_empty() && marks.iter().all(|mark| marked.contains(mark))
        });
        let mut covered: Vec<u64> = covered.map(|alert| alert.seq).collect();
        let alert = match covered.pop() {
            Some(alert) => alert,
            None => self.raise(&noted, &marked)?,
        };
        let receipt = self.ack_alert(alert, by, more)?;
        for alert in covered {
            self.ack_alert(alert, by, Object::new())?;
        }
        self.note_left(&found, &left)?;
        let not_found = gone.iter().map(|mark| kind_of(mark).to_owned()).collect();
        Ok(Settlement { receipt, settled, not_found, left })
    }

    /// What was noted and nobody has settled; without a note, what open alerts in the chain say of it.
    fn noted(&self, open: &[Alert]) -> Result<VerificationRecord> {
        let noted = self.verifications()?;
        if let Some(found) = noted.found {
            return Ok(found);
        }
        if let Some(unread) = noted.unread {
            return Err(Error::invalid(unread));
        }
        let said = open.iter().rev().find(|alert| !marks_of(alert).is_empty());
        let alert = said.ok_or_else(|| {
            Error::new(ErrorKind::NoSuchEntry, "no verification has found anything that is not settled")
        })?;
        let marks = marks_of(alert);
        Ok(VerificationRecord {
            at: alert.raised_at,
            size: alert.crossing,
            findings: marks.len() as u64,
            settled: 0,
            kinds: one_of_each(marks.iter().map(|mark| kind_of(mark).to_owned())),
            marks,
            anchored_size: 0,
        })
    }

    /// Raises the alert about what is settled, where the rules have raised none.
    fn raise(&self, noted: &VerificationRecord, marks: &BTreeSet<String>) -> Result<u64> {
        let detail = Object::from_iter([
            ("id", Json::from(format!("tampering:{}", self.size()))),
            ("rule", "tampering".into()),
            ("severity", Severity::Critical.as_str().into()),
            ("crossing", noted.size.into()),
            ("count", noted.findings.into()),
            ("findings", noted.kinds.clone().into()),
            (MARKS, marks.iter().cloned().collect::<Vec<_>>().form()),
            ("verified_at", noted.at.to_string().into()),
        ]);
        Ok(self.own_kept(Kind::Alert, |_, _, _| Ok((detail, None)))?.seq)
    }
}

/// The member of an alert that has the marks of its findings.
pub(crate) const MARKS: &str = "marks";

/// The marks of an alert about what a verification found.
fn marks_of(alert: &Alert) -> Vec<String> {
    let marks = alert.detail.get(MARKS).and_then(Json::as_array).unwrap_or_default();
    marks.iter().filter_map(|mark| mark.as_str().map(str::to_owned)).collect()
}
