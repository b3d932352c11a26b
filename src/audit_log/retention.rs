//! How long entries are kept: purges, holds, the expiry clock, policies, and the confirmation of restores.

use super::AuditLog;
use crate::requests;
use crate::restored::Restored;
use crate::retention::{ClockEvent, ClockStatus, Hold, HoldSelector, PurgePlan};
use crate::text::Justification;
use crate::{PolicySet, Purged, Receipt, Result, Timestamp};
use std::collections::BTreeMap;

/// How long entries of a log are kept: see [`AuditLog::retention`].
#[derive(Debug)]
pub struct Retention<'l>(&'l AuditLog);

impl AuditLog {
    /// Purges, holds, the expiry clock, and the policies in force.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.retention().holds()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn retention(&self) -> Retention<'_> {
        Retention(self)
    }
}

impl Retention<'_> {
    /// What a purge would remove now. Changes nothing.
    ///
    /// # Errors
    /// [`ClockFrozen`](crate::ErrorKind::ClockFrozen) with the reason; [`Damaged`](crate::ErrorKind::Damaged) if a purge would be
    /// refused because of damage, either found when the store was opened or in an entry or row that was read;
    /// [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.retention().plan().is_ok());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn plan(&self) -> Result<PurgePlan> {
        self.0.ask(requests::PlanPurge {})
    }

    /// Removes expired entries from the log. Every checkpoint ever signed and every remaining entry stays provable. Recording and
    /// reading continue meanwhile; index batches and backups wait, so the index of entries recorded during the purge stays in
    /// memory. The store is rewritten to a second file beside it, which needs disk space for all remaining entries.
    ///
    /// # Errors
    /// [`ClockFrozen`](crate::ErrorKind::ClockFrozen) with the reason and the remedy; [`DiskFull`](crate::ErrorKind::DiskFull):
    /// nothing was purged; [`InvalidInput`](crate::ErrorKind::InvalidInput): there is no actor, or the store is on a
    /// [`Storage`](crate::Storage) that cannot be replaced; [`Conflict`](crate::ErrorKind::Conflict): the file has a second name (a
    /// hard link), under which the purged entries would remain, or a restore has not been confirmed yet
    /// ([`Retention::confirm_restored`](crate::groups::Retention::confirm_restored)); [`Busy`](crate::ErrorKind::Busy): holds or
    /// policies kept changing meanwhile, nothing was purged; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let purged = log.retention().purge("privacy_office")?;
    /// assert_eq!(purged.purged, 0, "nothing has expired yet");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn purge(&self, actor: &str) -> Result<Purged> {
        self.0.ask(requests::Purge { actor: actor.to_owned() })
    }

    /// What purges removed that was, or could have been, recorded at or after `from` (everything if `None`): the seq of each
    /// purge's entry, with the number of removed entries by retention class. Purges that removed only older entries are omitted.
    /// There is no upper bound, because later entries may be about an earlier time.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged), [`Io`](crate::ErrorKind::Io) and [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// assert!(log.retention().purged_since(None)?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn purged_since(&self, from: Option<Timestamp>) -> Result<Vec<(u64, BTreeMap<String, u64>)>> {
        self.0.ask(requests::PurgedSince { from })
    }

    /// Places a legal hold: while it is in force, no entry that it covers is purged, whether recorded before or after. Users,
    /// patients, conversations and tools are given in clear. The entry names users, patients and conversations by pseudonym
    /// whenever the store has keys, whatever the policy says, because the entry outlives everything else about them. Emergency
    /// grants and alerts about a user or patient named in the hold are held with the calls.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a missing case, reason or actor, or a selector that selects nothing; as
    /// [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification, retention::HoldSelector};
    /// # let log = AuditLog::in_memory()?;
    /// let mut covering = HoldSelector::default();
    /// covering.users.insert("usr_7".to_owned());
    /// let hold = log.retention().place_hold("case 2026-114", covering, Justification { actor: "counsel", reason: "lawsuit" })?;
    /// assert_eq!(log.retention().holds()?[0].0, hold.seq);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn place_hold(&self, case: &str, covering: HoldSelector, by: Justification<'_>) -> Result<Receipt> {
        self.0.ask(requests::PlaceHold { case: case.to_owned(), covering, by: by.into() })
    }

    /// Releases the hold that the entry at `seq` placed.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if there is no such hold; as
    /// [`Retention::place_hold`](crate::groups::Retention::place_hold).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification, retention::HoldSelector};
    /// # let log = AuditLog::in_memory()?;
    /// # let mut covering = HoldSelector::default();
    /// # covering.users.insert("usr_7".to_owned());
    /// # let hold = log.retention().place_hold("case 2026-114", covering, Justification { actor: "counsel", reason: "lawsuit" })?;
    /// log.retention().release_hold(hold.seq, Justification { actor: "counsel", reason: "settled" })?;
    /// assert!(log.retention().holds()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn release_hold(&self, seq: u64, by: Justification<'_>) -> Result<Receipt> {
        self.0.ask(requests::ReleaseHold { seq, by: by.into() })
    }

    /// The holds in force, each with the seq of its entry.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`];
    /// [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification, retention::HoldSelector};
    /// # let log = AuditLog::in_memory()?;
    /// # let mut covering = HoldSelector::default();
    /// # covering.users.insert("usr_7".to_owned());
    /// # let hold = log.retention().place_hold("case 2026-114", covering, Justification { actor: "counsel", reason: "lawsuit" })?;
    /// for (seq, hold) in log.retention().holds()? {
    ///     println!("{seq}: case {}", hold.case);
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn holds(&self) -> Result<Vec<(u64, Hold)>> {
        self.0.ask(requests::Holds {})
    }

    /// How many of the entries that are there now a hold names; `hold` is the seq of the entry that placed it. Alerts and
    /// emergency grants about the same people are kept too, and not counted.
    ///
    /// If the hold names somebody by a pseudonym whose name the log does not tell, this reads every entry: those recorded under a
    /// later pseudonym key may be about the same person, so they are kept, and counted.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): no such hold is in force; [`Damaged`](crate::ErrorKind::Damaged);
    /// [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification, ToolCall, retention::HoldSelector};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_7", "refund"))?;
    /// # let mut covering = HoldSelector::default();
    /// # covering.users.insert("usr_7".to_owned());
    /// let hold = log.retention().place_hold("case 2026-114", covering, Justification { actor: "counsel", reason: "lawsuit" })?;
    /// assert_eq!(log.retention().count_held(hold.seq)?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn count_held(&self, hold: u64) -> Result<u64> {
        self.0.ask(requests::CountHeld { hold })
    }

    /// Which names the pseudonyms in a hold stand for, as far as this can be determined: with the store's keys, the names that
    /// stand in clear in the hold or in entries. A pseudonym cannot be reversed, so nothing can tell more.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification, retention::HoldSelector};
    /// # let log = AuditLog::in_memory()?;
    /// # let mut covering = HoldSelector::default();
    /// # covering.users.insert("usr_7".to_owned());
    /// # let hold = log.retention().place_hold("case 2026-114", covering, Justification { actor: "counsel", reason: "lawsuit" })?;
    /// let (_, hold) = &log.retention().holds()?[0];
    /// let names = log.retention().names_in(&hold.selector)?;
    /// assert!(names.values().all(|name| name == "usr_7"));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn names_in(&self, selector: &HoldSelector) -> Result<BTreeMap<String, String>> {
        self.0.ask(requests::NamesIn { selector: selector.clone() })
    }

    /// The state of the expiry clock. Changes nothing.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after the store was closed.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.retention().clock()?.frozen.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn clock(&self) -> Result<ClockStatus> {
        self.0.ask(requests::GetClock {})
    }

    /// Confirms that the system clock is right, so that expiry continues after an unexplained jump.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without an actor or a reason; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # let log = AuditLog::in_memory()?;
    /// let by = Justification { actor: "ops@example.com", reason: "the battery was replaced" };
    /// log.retention().confirm_clock(by)?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn confirm_clock(&self, by: Justification<'_>) -> Result<ClockEvent> {
        self.0.ask(requests::ConfirmClock { by: by.into() })
    }

    /// The policies in force.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// println!("{}", log.retention().policies()?.to_json().to_canonical());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn policies(&self) -> Result<PolicySet> {
        self.0.ask(requests::Policies {})
    }

    /// Puts new policies into force for calls recorded from now on. They may lengthen the retention of existing entries, never
    /// shorten it.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if a retention would be shortened, naming the class or tool;
    /// [`Key`](crate::ErrorKind::Key) if the policies need keys that are missing; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let policies = log.retention().policies()?;
    /// log.retention().set_policies(policies)?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn set_policies(&self, policies: PolicySet) -> Result<Receipt> {
        self.0.ask(requests::SetPolicies { policies })
    }

    /// The restores of this log from older copies: when, by whom, and which signed entries each lost.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry
    /// or row that was read is damaged; [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// assert!(log.retention().restored()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn restored(&self) -> Result<Vec<Restored>> {
        self.0.ask(requests::GetRestored {})
    }

    /// Confirms that somebody checked, after a restore, what is in force: that holds, policies and emergency grants that the copy
    /// lacked were placed again, or that none is missing. Until then nothing is purged or erased
    /// ([`Restored::to_do`](crate::restored::Restored::to_do)). The reason in `by` says what was found.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if no restore is waiting for confirmation;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): no actor or no reason; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{Justification, AuditLog, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let (backup, store) = (dir.path().join("backup.log"), dir.path().join("audit.log"));
    /// # Options::new().without_keys().in_memory()?.backup(&backup)?;
    /// // A store without keys: nobody knows what was in force beyond the backup.
    /// let log = AuditLog::restore(&backup, &store, Justification { actor: "ops@example.com", reason: "disk failure on 6 July" })?;
    /// assert!(log.retention().purge("ops@example.com").is_err());
    /// let reason = "the register of holds has none from after the backup";
    /// log.retention().confirm_restored(Justification { actor: "counsel@example.com", reason })?;
    /// log.retention().purge("ops@example.com")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn confirm_restored(&self, by: Justification<'_>) -> Result<Receipt> {
        self.0.ask(requests::ConfirmRestored { by: by.into() })
    }
}
