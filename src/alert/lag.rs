//! How far alerting is behind the log, for operators. Reads cursors and a few entries, writes nothing.

use super::engine::{EVALUATED, unreported};
use super::source::RuleSource;
use crate::json::{Json, Object};
use crate::store::OpenStore;
use crate::{ErrorKind, Query, Result, Timestamp};
use attestlog_proof::entry::Kind;
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use attestlog_proof::text::counted;
use std::collections::BTreeMap;

/// How far alerting is behind the log, as far as the store knows: a running engine may have come further.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertLag {
    /// The entries before this seq have been evaluated; `None` if no engine ever worked on this log.
    pub evaluated: Option<u64>,
    /// How many entries have not been evaluated, counted from the first of them that is a call or a grant: rules ignore
    /// the system events before it.
    pub behind: u64,
    /// When the oldest of those was recorded.
    pub oldest: Option<Timestamp>,
    /// Emergency grants that a rule of the policy in force reports by now because nobody has reviewed them, and that it has not
    /// reported, since no engine was running when they became due: by seq.
    pub unreviewed: BTreeMap<u64, Unreviewed>,
    /// What each receiver has not been notified of yet, by the receiver's name.
    pub receivers: BTreeMap<String, Undelivered>,
}

/// A grant that a rule reports by now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreviewed {
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The name of the rule.
    pub rule: String,
}

attestlog_proof::json_form!(members Unreviewed { opened_at, rule });

/// What a receiver has not been notified of yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// How many alerts.
    pub alerts: u64,
    /// When the oldest of them was raised.
    pub oldest: Option<Timestamp>,
    /// Whether delivery was attempted and the receiver did not take the oldest of them.
    pub failed: bool,
    /// Whether it is configured, if the caller knows. Nothing can be repaired about one that is not.
    pub configured: Option<bool>,
}

/// The prefix of the name of a receiver's cursor.
pub(super) const DELIVERED: &str = "delivered/";
/// The prefix of the name of the cursor to the alert that a receiver did not take. It means nothing if it is below the
/// receiver's other cursor.
pub(super) const FAILED: &str = "failed/";
/// A terminal is only watched from time to time: what was not shown there is not owed.
pub(super) const STDOUT: &str = "standard output";
/// How many entries are searched for one that rules evaluate.
const SEARCHED: u64 = 4096;

impl AlertLag {
    pub(crate) fn of(log: &OpenStore) -> Result<AlertLag> {
        let snapshot = log.snapshot()?;
        let cursors = log.engine().cursors()?;
        let evaluated = cursors.get(EVALUATED).copied();
        let next = evaluated.unwrap_or(0).min(snapshot.size);
        let end = snapshot.size.min(next + SEARCHED);
        let (mut oldest, mut first) = (None, end);
        for seq in next..end {
            let entry = match snapshot.find(seq) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(e) if e.kind() == ErrorKind::Damaged => continue,
                Err(e) => return Err(e),
            };
            if entry.call().is_some_and(|call| !call.is_from_recording()) || entry.kind() == Kind::BreakGlassOpened {
                (oldest, first) = (Some(entry.body.recorded_at), seq);
                break;
            }
        }
        let mut receivers = BTreeMap::new();
        for (cursor, told) in &cursors {
            let Some(name) = cursor.strip_prefix(DELIVERED).filter(|name| *name != STDOUT) else { continue };
            let mut owed = Query::new().kind(Kind::Alert);
            if let Some(last) = told.checked_sub(1) {
                owed = owed.after(last);
            }
            let alerts = log.count(&owed)?;
            let oldest = match alerts {
                0 => None,
                _ => log.query(&owed.limit(1))?.beside().next().transpose()?.map(|entry| entry.body.recorded_at),
            };
            let failed = alerts > 0 && cursors.get(&format!("{FAILED}{name}")).is_some_and(|failed| failed >= told);
            receivers.insert(name.to_owned(), Undelivered { alerts, oldest, failed, configured: None });
        }
        let unreviewed = unreported(log, &RuleSource::Policies)?.into_iter();
        let unreviewed = unreviewed
            .map(|(rule, grant)| (grant.seq, Unreviewed { opened_at: grant.opened_at, rule: rule.name.clone() }))
            .collect();
        Ok(AlertLag { evaluated, behind: snapshot.size - first, oldest, unreviewed, receivers })
    }

    /// What somebody should act on: a receiver that failed, and anything older than `late`.
    pub(crate) fn concerns(&self, late: Timestamp) -> Vec<String> {
        let mut concerns = Vec::new();
        if let Some(oldest) = self.oldest.filter(|oldest| *oldest < late).map(Timestamp::floor_to_second) {
            concerns.push(format!(
                "no alert rule has looked at what was recorded since {oldest} ({}): is nothing watching? (alerts \
                 watch, or an engine in the host)",
                counted(self.behind, "entry", "entries")
            ));
        }
        for (seq, Unreviewed { opened_at, rule }) in &self.unreviewed {
            let opened_at = opened_at.floor_to_second();
            concerns.push(format!(
                "nobody has reviewed the emergency access of entry {seq}, opened at {opened_at}, in the time that the rule {rule} allows, \
                 and no alert was raised, since nothing is watching: review it (break-glass review), and let the rules look (alerts watch)"
            ));
        }
        for (name, undelivered) in &self.receivers {
            let is_here = undelivered.configured != Some(false);
            let matters = |oldest: &Timestamp| is_here && (undelivered.failed || *oldest < late);
            let Some(oldest) = undelivered.oldest.filter(matters) else { continue };
            let (alerts, oldest) = (counted(undelivered.alerts, "alert", "alerts"), oldest.floor_to_second());
            concerns.push(format!(
                "{alerts} since {oldest} could not be delivered to {name}: repair it, or forget it (alerts forget)"
            ));
        }
        concerns
    }
}

attestlog_proof::json_form!(members AlertLag { evaluated, behind, oldest, unreviewed, receivers });

impl Form for Undelivered {
    /// `{"undelivered","oldest","failed","configured"}`
    fn form(&self) -> Json {
        Object::from_iter([
            ("undelivered", self.alerts.form()),
            ("oldest", self.oldest.form()),
            ("failed", self.failed.form()),
            ("configured", self.configured.form()),
        ])
        .into()
    }

    fn read(value: &Json) -> Result<Undelivered> {
        let mut members = Members::of(value)?;
        let read = Undelivered {
            alerts: member(&mut members, "undelivered")?,
            oldest: member(&mut members, "oldest")?,
            failed: member(&mut members, "failed")?,
            configured: member(&mut members, "configured")?,
        };
        members.end()?;
        Ok(read)
    }
}

attestlog_proof::json_form!(own Undelivered);

impl OpenStore {
    /// Forgets a receiver of alerts: what it was not told is not owed to it any more. Should it come back it is owed what
    /// is raised from then on. Says whether it was known.
    pub(crate) fn forget_receiver(&self, name: &str) -> Result<bool> {
        self.engine().forget_cursor(&format!("{FAILED}{name}"))?;
        self.engine().forget_cursor(&format!("{DELIVERED}{name}"))
    }
}
