//! How far alerting is behind the log: for whoever looks after it. Reads marks and a few entries, writes nothing.

use super::engine::EVALUATED;
use crate::json::{Json, Object};
use crate::{AuditLog, ErrorKind, Query, Result, Timestamp};
use attestlog_proof::entry::Kind;
use attestlog_proof::text::counted;
use std::collections::BTreeMap;

/// How far alerting is behind the log, by what the store knows: an engine at work may be further.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertLag {
    /// Rules have looked at the entries before this seq; `None` where no engine ever worked on this log.
    pub evaluated: Option<u64>,
    /// How many entries they have not looked at, from the first on that is a call or a grant: what the log itself has
    /// written behind the last of these is nothing that rules would look at.
    pub behind: u64,
    /// When the oldest of those was recorded.
    pub oldest: Option<Timestamp>,
    /// What each receiver has still to be told, by its name.
    pub receivers: BTreeMap<String, Undelivered>,
}

/// What a receiver has still to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// How many alerts.
    pub alerts: u64,
    /// When the oldest of them was raised.
    pub oldest: Option<Timestamp>,
    /// Whether it was tried, and did not take the oldest of them.
    pub failed: bool,
}

/// What begins the name of a receiver's mark.
pub(super) const DELIVERED: &str = "delivered/";
/// What begins the name of the mark that says which alert a receiver did not take; below the other one it says nothing.
pub(super) const FAILED: &str = "failed/";
/// Whoever watches on a terminal is passing by: what was not shown there is not owed.
pub(super) const STDOUT: &str = "standard output";
/// How many entries are looked through for one that rules look at.
const SEARCHED: u64 = 4096;

impl AlertLag {
    pub(crate) fn of(log: &AuditLog) -> Result<AlertLag> {
        let snapshot = log.snapshot()?;
        let marks = log.engine().marks()?;
        let evaluated = marks.get(EVALUATED).copied();
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
        for (mark, told) in &marks {
            let Some(name) = mark.strip_prefix(DELIVERED).filter(|name| *name != STDOUT) else { continue };
            let mut owed = Query::new().kind(Kind::Alert);
            if let Some(last) = told.checked_sub(1) {
                owed = owed.after(last);
            }
            let alerts = log.count(&owed)?;
            let oldest = match alerts {
                0 => None,
                _ => log.query(&owed.limit(1))?.beside().next().transpose()?.map(|entry| entry.body.recorded_at),
            };
            let failed = alerts > 0 && marks.get(&format!("{FAILED}{name}")).is_some_and(|failed| failed >= told);
            receivers.insert(name.to_owned(), Undelivered { alerts, oldest, failed });
        }
        Ok(AlertLag { evaluated, behind: snapshot.size - first, oldest, receivers })
    }

    /// What somebody should act on: a receiver that failed, and what has lasted since before `late`.
    pub(crate) fn concerns(&self, late: Timestamp) -> Vec<String> {
        let mut concerns = Vec::new();
        if let Some(oldest) = self.oldest.filter(|oldest| *oldest < late) {
            concerns.push(format!(
                "no alert rule has looked at what was recorded since {oldest} ({}): is nothing watching? (alerts \
                 watch, or an engine in the host)",
                counted(self.behind, "entry", "entries")
            ));
        }
        for (name, undelivered) in &self.receivers {
            let matters = |oldest: &Timestamp| undelivered.failed || *oldest < late;
            let Some(oldest) = undelivered.oldest.filter(matters) else { continue };
            let alerts = counted(undelivered.alerts, "alert", "alerts");
            concerns.push(format!(
                "{alerts} since {oldest} could not be delivered to {name}: mend it, or forget it (alerts forget)"
            ));
        }
        concerns
    }

    pub(crate) fn to_json(&self) -> Json {
        let time = |t: Option<Timestamp>| Json::from(t.map(|t| t.to_string()));
        let receivers = self.receivers.iter().map(|(name, undelivered)| {
            let told = [
                ("undelivered", Json::from(undelivered.alerts)),
                ("oldest", time(undelivered.oldest)),
                ("failed", undelivered.failed.into()),
            ];
            (name.as_str(), Json::from(Object::from_iter(told)))
        });
        Object::from_iter([
            ("evaluated", Json::from(self.evaluated)),
            ("behind", self.behind.into()),
            ("oldest", time(self.oldest)),
            ("receivers", receivers.collect::<Object>().into()),
        ])
        .into()
    }
}

impl AuditLog {
    /// Forgets a receiver of alerts: what it was not told is not owed to it any more. Should it come back it is owed what
    /// is raised from then on. Says whether it was known.
    ///
    /// # Errors
    /// What the store says.
    pub fn forget_receiver(&self, name: &str) -> Result<bool> {
        self.engine().forget_mark(&format!("{FAILED}{name}"))?;
        self.engine().forget_mark(&format!("{DELIVERED}{name}"))
    }
}
