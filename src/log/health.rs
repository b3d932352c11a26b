//! The health of a store, so that problems can be acted upon before they cause harm.

use crate::alert::AlertLag;
use crate::anchor::AnchorHealth;
use crate::json::{Json, Object};
use crate::keyless::Keyless;
use crate::restored::Restored;
use crate::retention::ClockStatus;
use crate::store::file::panic_guard::guarded;
use crate::store::file::replacement;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::verify::Verifications;
use crate::{ErrorKind, Result, Timestamp};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use attestlog_proof::text::counted;
use std::time::Duration;

/// How long alerts may lag before somebody should act. A host that records now and then lets them catch up when it runs.
const ALERTS_LATE: Duration = Duration::from_secs(15 * 60);

/// How many intervals (of time or entries) a checkpoint may be late before somebody should act.
const UNSIGNED_LATE: u32 = 3;
/// How many entries are searched for one that still exists.
const SEARCHED: u64 = 4096;

/// The health of a store at one moment. Asking costs a few reads and changes nothing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// The system time at which this was determined.
    pub checked_at: Timestamp,
    /// The length of the store's file in bytes; `None` for a store that is not a file.
    pub size_bytes: Option<u64>,
    /// The size limit that the host set ([`Options::quota_bytes`](crate::Options::quota_bytes)).
    pub quota_bytes: Option<u64>,
    /// How many entries were recorded, including purged ones.
    pub size: u64,
    /// How many of them were purged.
    pub purged: u64,
    /// How many of them are in sealed segments.
    pub sealed: u64,
    /// The oldest entry that is not in a sealed segment.
    pub oldest_unsealed: Option<Unsealed>,
    /// How many entries the newest checkpoint covers; 0 if there is none.
    pub signed_size: u64,
    /// The oldest entry that no checkpoint covers; `None` if there is none, and for a store without keys.
    pub oldest_unsigned: Option<Unsealed>,
    /// Whether a checkpoint is overdue: three times the configured time or number of entries has passed since the last one.
    pub checkpoint_overdue: bool,
    /// How many of the newest entries are indexed in memory only; they are indexed again when the store is opened.
    pub pending_index: u64,
    /// Whether an index batch is being written, or was when the process last stopped.
    pub merging: bool,
    /// How many calls were begun and not finished.
    pub unfinished_calls: u64,
    /// When the newest entry was recorded.
    pub last_recorded_at: Option<Timestamp>,
    /// How many threads are waiting to record at this moment.
    pub waiting: u64,
    /// The state of each anchor.
    pub anchors: Vec<AnchorHealth>,
    /// The state of the expiry clock.
    pub clock: ClockStatus,
    /// Permissions that let others delete, replace or read the file ([`AuditLog::warnings`](crate::AuditLog::warnings)), and what an
    /// interrupted purge left beside it.
    pub warnings: Vec<String>,
    /// How far alerting lags behind the log.
    pub alerts: AlertLag,
    /// The last recorded verifications.
    pub verifications: Verifications,
    /// Whether the policy requires a new epoch key, and the keys are not available or cannot be replaced where they are kept.
    pub rotation_overdue: bool,
    /// The restores of this log from older copies.
    pub restored: Vec<Restored>,
    /// The ranges of entries recorded without the store's key.
    pub recorded_without_key: Vec<Keyless>,
    /// Why nothing can be recorded with the available keys: the store is not the one that they signed.
    pub key_conflict: Option<String>,
    /// What was wrong with the store when it was opened ([`AuditLog::damage`](crate::AuditLog::damage)): answers may be incomplete.
    pub damage: Option<String>,
    /// Another reason why nothing can be recorded: the key file is missing
    /// ([`AuditLog::check_recording`](crate::AuditLog::check_recording)).
    pub key_missing: Option<String>,
}

/// An entry that is not yet in a sealed segment, or not yet covered by a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsealed {
    /// Its seq.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

impl Health {
    /// Whether the file is larger than the host's limit; `None` without a limit or a file.
    pub fn over_quota(&self) -> Option<bool> {
        Some(self.size_bytes? > self.quota_bytes?)
    }

    /// What somebody should act on: one sentence each, with the remedy. Empty if nothing needs attention.
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// assert!(log.health()?.concerns().is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        concerns.extend(self.damage.iter().cloned());
        if self.over_quota() == Some(true) {
            concerns.push("the file is larger than its quota: purge what has expired, or raise the quota".to_owned());
        }
        if self.clock.frozen.is_some() {
            concerns.push(format!(
                "expiry is frozen: the system clock shows {}, which the store cannot explain; confirm it (clock confirm)",
                self.clock.wall.floor_to_second()
            ));
        } else if self.clock.check().is_err() {
            concerns.push(self.clock.to_string());
        }
        concerns.extend(self.key_conflict.iter().cloned());
        concerns.extend(self.restored.iter().filter_map(Restored::to_do));
        concerns.extend(self.key_missing.iter().cloned());
        if self.rotation_overdue {
            concerns.push(
                "the policy wants a new epoch key, and the keys are not here or cannot be replaced where they are: open the \
                 store with its key file"
                    .to_owned(),
            );
        }
        concerns.extend(self.warnings.iter().cloned());
        for AnchorHealth { name, at_hand, status } in &self.anchors {
            match (&status.last_failure, status.owed) {
                (Some(failure), _) if failure.conflict => concerns.push(format!(
                    "{name} contradicts this store, which may be an older copy or a fork: {}",
                    failure.message
                )),
                (last, Some(size)) if !at_hand => concerns.push(format!(
                    "the checkpoint of {size} entries is owed to {name}{}, which is not configured any more: configure it again \
                     (anchors set), or give it up (anchors forget)",
                    last.as_ref().map_or(String::new(), |failure| format!(" (it failed: {})", failure.message))
                )),
                (Some(failure), Some(size)) => concerns.push(format!(
                    "{name} was not given the checkpoint of {size} entries ({}: {}); it is tried again, make sure that it can be reached",
                    match status.failures_in_a_row {
                        0 | 1 => "it failed".to_owned(),
                        n => format!("it failed {n} times in a row, the last time with"),
                    },
                    failure.message
                )),
                _ => {}
            }
        }
        concerns.extend(self.alerts.concerns(self.checked_at.minus(ALERTS_LATE)));
        if let Some(oldest) = self.oldest_unsigned.filter(|_| self.checkpoint_overdue) {
            concerns.push(format!(
                "no checkpoint covers what was recorded since {} ({}): sign one (checkpoint), and make sure that the disk has room and the key file is in its place",
                oldest.recorded_at.floor_to_second(),
                counted(self.size - self.signed_size, "entry", "entries")
            ));
        }
        concerns.extend(self.verifications.unread.clone());
        if let Some(found) = &self.verifications.found {
            concerns.push(format!(
                "the verification of {} found {} ({}), and nobody has settled it: look into it (verify), then record the conclusion (alerts settle)",
                found.at.floor_to_second(),
                counted(found.findings, "thing wrong", "things wrong"),
                found.kinds.join(", ")
            ));
        }
        concerns
    }

    /// The last checkpoint that an anchor took: the anchor's name, the checkpoint's size, and the time.
    pub fn last_anchor(&self) -> Option<(&str, u64, Timestamp)> {
        let all = self.anchors.iter().filter_map(|a| Some((a.name.as_str(), a.status.last_success?)));
        all.map(|(name, success)| (name, success.size, success.at)).max_by_key(|(_, _, at)| *at)
    }

    /// The object that `attestlog health --json` prints. Unknown members are `null`.
    ///
    /// ```
    /// # use attestlog::{AuditLog, json::Json};
    /// # let log = AuditLog::in_memory()?;
    /// let health = log.health()?.to_json();
    /// assert_eq!(health.get("unfinished_calls").and_then(Json::as_u64), Some(0));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn to_json(&self) -> Json {
        let last_anchor = self.last_anchor().map(|(name, size, at)| {
            let age = self.checked_at.since(at).as_secs();
            let members =
                [("name", Json::from(name)), ("size", size.into()), ("at", at.form()), ("age_seconds", age.into())];
            Json::from(Object::from_iter(members))
        });
        Object::from_iter([
            ("checked_at", self.checked_at.form()),
            ("size_bytes", self.size_bytes.into()),
            ("quota_bytes", self.quota_bytes.into()),
            ("over_quota", self.over_quota().into()),
            ("size", self.size.into()),
            ("purged", self.purged.into()),
            ("sealed", self.sealed.into()),
            ("oldest_unsealed", self.oldest_unsealed.form()),
            ("signed_size", self.signed_size.into()),
            ("oldest_unsigned", self.oldest_unsigned.form()),
            ("checkpoint_overdue", self.checkpoint_overdue.into()),
            ("pending_index", self.pending_index.into()),
            ("merging", self.merging.into()),
            ("unfinished_calls", self.unfinished_calls.into()),
            ("last_recorded_at", self.last_recorded_at.form()),
            ("waiting", self.waiting.into()),
            ("expiry_clock", self.clock.form()),
            ("last_anchor", last_anchor.into()),
            ("anchors", self.anchors.form()),
            ("warnings", self.warnings.form()),
            ("alerts", self.alerts.form()),
            ("last_verification", self.verifications.last.form()),
            ("unsettled_verification", self.verifications.found.form()),
            ("unread_verifications", self.verifications.unread.form()),
            ("rotation_overdue", self.rotation_overdue.into()),
            ("restored", self.restored.form()),
            ("recorded_without_key", self.recorded_without_key.form()),
            ("key_conflict", self.key_conflict.clone().into()),
            ("key_missing", self.key_missing.clone().into()),
            ("damage", self.damage.clone().into()),
            ("concerns", self.concerns().into()),
        ])
        .into()
    }
}

impl Health {
    fn from_json(value: &Json) -> Result<Health> {
        let mut members = Members::of(value)?;
        Ok(Health {
            checked_at: member(&mut members, "checked_at")?,
            size_bytes: member(&mut members, "size_bytes")?,
            quota_bytes: member(&mut members, "quota_bytes")?,
            size: member(&mut members, "size")?,
            purged: member(&mut members, "purged")?,
            sealed: member(&mut members, "sealed")?,
            oldest_unsealed: member(&mut members, "oldest_unsealed")?,
            signed_size: member(&mut members, "signed_size")?,
            oldest_unsigned: member(&mut members, "oldest_unsigned")?,
            checkpoint_overdue: member(&mut members, "checkpoint_overdue")?,
            pending_index: member(&mut members, "pending_index")?,
            merging: member(&mut members, "merging")?,
            unfinished_calls: member(&mut members, "unfinished_calls")?,
            last_recorded_at: member(&mut members, "last_recorded_at")?,
            waiting: member(&mut members, "waiting")?,
            anchors: member(&mut members, "anchors")?,
            warnings: member(&mut members, "warnings")?,
            alerts: member(&mut members, "alerts")?,
            rotation_overdue: member(&mut members, "rotation_overdue")?,
            restored: member(&mut members, "restored")?,
            recorded_without_key: member(&mut members, "recorded_without_key")?,
            key_conflict: member(&mut members, "key_conflict")?,
            damage: member(&mut members, "damage")?,
            key_missing: member(&mut members, "key_missing")?,
            clock: member(&mut members, "expiry_clock")?,
            verifications: Verifications {
                last: member(&mut members, "last_verification")?,
                found: member(&mut members, "unsettled_verification")?,
                unread: member(&mut members, "unread_verifications")?,
            },
        })
    }
}

attestlog_proof::json_form!(methods Health);
attestlog_proof::json_form!(members Unsealed { seq, recorded_at });

impl OpenStore {
    /// The store's health.
    pub(crate) fn health(&self) -> Result<Health> {
        // Damage is one of the things that the result reports.
        guarded(|| self.despite_damage().present_health())
    }

    fn present_health(&self) -> Result<Health> {
        let engine = self.engine();
        engine.config.process.check()?;
        let snapshot = self.snapshot()?;
        let size_bytes = match engine.config.source.path() {
            Some(path) => Some(std::fs::metadata(path)?.len()),
            None => None,
        };
        let state = &snapshot.state;
        let oldest_unsealed = match state.sealed < snapshot.size {
            true => oldest_from(&snapshot, state.sealed)?,
            false => None,
        };
        let oldest_unsigned = match engine.chain_state().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some())
        {
            true => oldest_from(&snapshot, state.signed)?,
            false => None,
        };
        let settings = &engine.config.settings;
        let checked_at = engine.config.clock.now();
        let late = checked_at.minus(settings.checkpoint_every.saturating_mul(UNSIGNED_LATE));
        let many = settings.checkpoint_entries.map(|n| n.saturating_mul(UNSIGNED_LATE.into()));
        let checkpoint_overdue = oldest_unsigned.is_some_and(|oldest| {
            oldest.recorded_at < late || many.is_some_and(|many| state.size - state.signed >= many)
        });
        let key_conflict = engine.key_conflict(snapshot.size);
        // While the store is open for writing, such a file belongs to a purge in progress.
        let left = match engine.is_reading() {
            true => replacement::left(&engine.config.source, &engine.chain_state()),
            false => None,
        };
        let left_by_purge = left.map(|left| {
            format!("an interrupted purge left {}: the next command that changes the store removes it", left.display())
        });
        let cannot = if key_conflict.is_none() { engine.check_keys_there().err() } else { None };
        Ok(Health {
            checked_at,
            size_bytes,
            quota_bytes: engine.config.settings.quota_bytes,
            size: state.size,
            purged: engine.chain_state().purges.iter().map(|(_, purge)| purge.count).sum(),
            sealed: state.sealed,
            oldest_unsealed,
            signed_size: state.signed,
            oldest_unsigned,
            checkpoint_overdue,
            pending_index: snapshot.size.saturating_sub(snapshot.indexed),
            merging: state.merging.is_some(),
            unfinished_calls: snapshot.how_many_unfinished()?,
            last_recorded_at: (state.size > 0).then(|| Timestamp::from_nanos(state.last_recorded_at)),
            waiting: engine.write.group_commit.waiting() as u64,
            anchors: self.anchors(),
            clock: self.clock_status()?,
            warnings: self.warnings().into_iter().chain(left_by_purge).collect(),
            alerts: AlertLag::of(self)?,
            verifications: self.verifications()?,
            rotation_overdue: engine.wants_rotation(state.size) && !engine.is_rotation_due(state.size),
            restored: self.restored()?,
            recorded_without_key: self.recorded_without_key()?,
            key_conflict,
            damage: self.damage().map(|damage| damage.to_string()),
            key_missing: cannot.map(|why| why.to_string()),
        })
    }

    /// Problems with the permissions of the store's file and folder that let users other than the owner replace or read it: one
    /// sentence each, with the remedy. Empty if there are none, or if the store is not a file. Call it after opening: the library
    /// itself prints nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.engine().config.source.path().map(crate::files::warnings).unwrap_or_default()
    }
}

/// The oldest entry from `from` on that still exists and can be read.
fn oldest_from(snapshot: &Snapshot, from: u64) -> Result<Option<Unsealed>> {
    for seq in from..snapshot.size.min(from + SEARCHED) {
        match snapshot.find(seq) {
            Ok(Some(entry)) => return Ok(Some(Unsealed { seq, recorded_at: entry.body.recorded_at })),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
