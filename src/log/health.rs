//! How a store is doing, for whoever has to act before something goes wrong.

use crate::alert::AlertLag;
use crate::json::{Json, Object};
use crate::keyless::Keyless;
use crate::restored::Restored;
use crate::retention::ClockStatus;
use crate::store::file::panic_guard::guarded;
use crate::store::log::AuditLog;
use crate::store::maintain::anchoring::AnchorHealth;
use crate::store::read::snapshot::Snapshot;
use crate::verify::{VerificationRecord, Verifications};
use crate::{ErrorKind, Result, Timestamp};
use attestlog_proof::text::counted;
use std::time::Duration;

/// For how long alerts may be behind before somebody should act: a host that records now and then catches up when it does.
const ALERTS_LATE: Duration = Duration::from_secs(15 * 60);

/// How often what is signed by time or number of entries may have been due before somebody should act.
const UNSIGNED_LATE: u32 = 3;
/// In how many entries one is looked for that is still there.
const SEARCHED: u64 = 4096;

/// How a store is doing. Taken at one moment; asking costs a few reads and changes nothing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// The system clock when this was asked.
    pub checked_at: Timestamp,
    /// The length of the store's file in bytes; `None` for a store that is not a file.
    pub size_bytes: Option<u64>,
    /// The size that the host set as its limit ([`Options::quota_bytes`](crate::Options::quota_bytes)).
    pub quota_bytes: Option<u64>,
    /// How many entries were recorded, purged ones included.
    pub size: u64,
    /// How many of them lie in sealed blocks.
    pub sealed: u64,
    /// The oldest of those that do not.
    pub oldest_unsealed: Option<Unsealed>,
    /// How many entries the newest checkpoint covers; 0 where there is none.
    pub signed_size: u64,
    /// The oldest entry that no checkpoint covers; `None` where there is none, and for a store that was made without keys.
    pub oldest_unsigned: Option<Unsealed>,
    /// Whether checkpoints are overdue: three times as long, or three times as many entries, as one is made after.
    pub checkpoint_overdue: bool,
    /// How many of the newest entries are indexed in memory only, to be indexed again when the store is opened.
    pub pending_index: u64,
    /// Whether an index batch is being written, or was when the program last stopped.
    pub merging: bool,
    /// How many calls were begun and have no end.
    pub unfinished_calls: u64,
    /// When the newest entry was recorded.
    pub last_recorded_at: Option<Timestamp>,
    /// How many threads wait for their turn to record, at this moment.
    pub waiting: u64,
    /// How things stand with each anchor.
    pub anchors: Vec<AnchorHealth>,
    /// How the clock stands by which entries expire.
    pub clock: ClockStatus,
    /// Who else may take away, replace or read the file ([`AuditLog::warnings`]).
    pub warnings: Vec<String>,
    /// How far alerting is behind the log.
    pub alerts: AlertLag,
    /// What verifications said last.
    pub verifications: Verifications,
    /// Whether the policy wants a new epoch key, and the keys are not there or cannot be replaced where they are.
    pub rotation_overdue: bool,
    /// When the log was made out of an older copy.
    pub restored: Vec<Restored>,
    /// What was recorded without the store's key.
    pub recorded_without_key: Vec<Keyless>,
    /// Why nothing can be recorded with the keys that are here: the store is not the one that they signed.
    pub key_conflict: Option<String>,
    /// What was wrong with the store when it was opened ([`AuditLog::damage`]): answers may lack what was recorded.
    pub damage: Option<String>,
    /// Why else nothing can be recorded: the key file is missing ([`AuditLog::check_recording`]).
    pub key_missing: Option<String>,
}

/// An entry that is not in a sealed block, or not under a checkpoint, yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsealed {
    /// Which.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

impl Health {
    /// Whether the file is larger than the host's limit; `None` without a limit or a file.
    pub fn over_quota(&self) -> Option<bool> {
        Some(self.size_bytes? > self.quota_bytes?)
    }

    /// What somebody should act on, a sentence each, and what to do. Empty where all is well.
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
                self.clock.wall
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
                    "{name} was not given the checkpoint of {size} entries ({}: {}); it is tried again, see to it that it can \
                     be reached",
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
                "no checkpoint covers what was recorded since {} ({}): sign one (checkpoint), and see to it that \
                 the disk has room and the key file is there",
                oldest.recorded_at,
                counted(self.size - self.signed_size, "entry", "entries")
            ));
        }
        if let Some(found) = &self.verifications.found {
            concerns.push(format!(
                "the verification of {} found {} wrong ({}), and nobody has settled it: look into it (verify), then say \
                 what it came to (alerts settle)",
                found.at,
                found.findings,
                found.kinds.join(", ")
            ));
        }
        concerns
    }

    /// The checkpoint that an anchor took last: the anchor's name, the size, when.
    pub fn last_anchor(&self) -> Option<(&str, u64, Timestamp)> {
        let all = self.anchors.iter().filter_map(|a| Some((a.name.as_str(), a.status.last_success?)));
        all.map(|(name, success)| (name, success.size, success.at)).max_by_key(|(_, _, at)| *at)
    }

    /// The object that `attestlog health --json` prints. A member that is not known is `null`.
    ///
    /// ```
    /// # use attestlog::{AuditLog, json::Json};
    /// # let log = AuditLog::in_memory()?;
    /// let health = log.health()?.to_json();
    /// assert_eq!(health.get("unfinished_calls").and_then(Json::as_u64), Some(0));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn to_json(&self) -> Json {
        let time = |t: Timestamp| Json::from(t.to_string());
        let oldest = |oldest: Option<Unsealed>| {
            let members =
                oldest.map(|o| Object::from_iter([("seq", Json::from(o.seq)), ("recorded_at", time(o.recorded_at))]));
            Json::from(members.map(Json::from))
        };
        let last_anchor = self.last_anchor().map(|(name, size, at)| {
            let age = self.checked_at.since(at).as_secs();
            let members =
                [("name", Json::from(name)), ("size", size.into()), ("at", time(at)), ("age_seconds", age.into())];
            Json::from(Object::from_iter(members))
        });
        let anchors = self.anchors.iter().map(|anchor| {
            let mut json = anchor.status.to_json(&anchor.name);
            if let Json::Object(members) = &mut json {
                members.insert("at_hand", anchor.at_hand);
            }
            json
        });
        Object::from_iter([
            ("checked_at", time(self.checked_at)),
            ("size_bytes", self.size_bytes.into()),
            ("quota_bytes", self.quota_bytes.into()),
            ("over_quota", self.over_quota().into()),
            ("size", self.size.into()),
            ("sealed", self.sealed.into()),
            ("oldest_unsealed", oldest(self.oldest_unsealed)),
            ("signed_size", self.signed_size.into()),
            ("oldest_unsigned", oldest(self.oldest_unsigned)),
            ("checkpoint_overdue", self.checkpoint_overdue.into()),
            ("pending_index", self.pending_index.into()),
            ("merging", self.merging.into()),
            ("unfinished_calls", self.unfinished_calls.into()),
            ("last_recorded_at", self.last_recorded_at.map(time).into()),
            ("waiting", self.waiting.into()),
            (
                "expiry_clock",
                Json::from(Object::from_iter([
                    ("now", time(self.clock.now)),
                    ("wall", time(self.clock.wall)),
                    ("frozen", self.clock.frozen.is_some().into()),
                ])),
            ),
            ("last_anchor", last_anchor.into()),
            ("anchors", anchors.collect::<Vec<_>>().into()),
            ("alerts", self.alerts.to_json()),
            ("last_verification", self.verifications.last.as_ref().map(VerificationRecord::to_json).into()),
            ("unsettled_verification", self.verifications.found.as_ref().map(VerificationRecord::to_json).into()),
            ("rotation_overdue", self.rotation_overdue.into()),
            ("restored", self.restored.iter().map(Restored::to_json).collect::<Vec<_>>().into()),
            ("recorded_without_key", self.recorded_without_key.iter().map(Keyless::to_json).collect::<Vec<_>>().into()),
            ("key_conflict", self.key_conflict.clone().into()),
            ("key_missing", self.key_missing.clone().into()),
            ("damage", self.damage.clone().into()),
            ("concerns", self.concerns().into()),
        ])
        .into()
    }
}

impl AuditLog {
    /// How the store is doing.
    ///
    /// # Errors
    /// What the file says.
    ///
    /// ```
    /// # use attestlog::{Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// let log = Options::new().quota_bytes(10 << 30).create(dir.path().join("audit.log"))?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// let health = log.health()?;
    /// assert_eq!((health.unfinished_calls, health.over_quota()), (1, Some(false)));
    /// # drop(begun);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn health(&self) -> Result<Health> {
        // What is wrong is one of the things that it says.
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
        let cannot = if key_conflict.is_none() { engine.check_keys_there().err() } else { None };
        Ok(Health {
            checked_at,
            size_bytes,
            quota_bytes: engine.config.settings.quota_bytes,
            size: state.size,
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
            warnings: self.warnings(),
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

    /// What about the permissions of the store's file and its folder lets others than its owner replace or read it, a
    /// sentence each with what to do; empty where all is well or the store is not a file. Ask after opening: the library
    /// itself prints nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let log = attestlog::AuditLog::create(dir.path().join("audit.log"))?;
    /// assert!(log.warnings().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn warnings(&self) -> Vec<String> {
        self.engine().config.source.path().map(crate::files::warnings).unwrap_or_default()
    }
}

/// The oldest entry from `from` on that is still there and can be read.
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
