//! What a store's system events establish, read in order: its identity, which policies and holds are in force, which keys signed
//! when, what was purged. Everything that decides about entries later is taken from the chain, never from a table beside it.
//!
//! Invariant R60: a store is written to only if what is in force in it is what was in force when its keys last signed. The key
//! file's mark has a digest of that, so a system event that is no longer reachable, or that was changed together with its hash,
//! is detected when the store is opened, and not only by a verification.
//!
//! Invariant R80: after a restore from a copy that lacks, or may lack, a policy, a hold or an emergency grant that was in force,
//! nothing is purged or erased until somebody has confirmed what is in force now. Another restore does not lift this.

use crate::entry::destroyed;
use crate::grants::OpenGrant;
use crate::json::{Json, Object};
use crate::keys::InForce;
use crate::names::pseudonym_key;
use crate::note::{Rotation, Succession, VerifierKey};
use crate::policy::PolicySet;
use crate::redact::{Action, IdentityKind};
use crate::retention::{Hold, HoldRelease, Holds, PolicyHistory, PurgeRecord, SeqSet};
use crate::rules::Rules;
use crate::{Error, ErrorKind, Hash, Result};
use attestlog_proof::entry::{Kind, SystemEvent};
use attestlog_proof::json::form::{Form, same};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};

/// The version of the whole layout. Another version means a newer program.
pub(crate) const STORE_FORMAT: u32 = 2;

/// The identity of a store: the content of its first entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Genesis {
    pub store_id: String,
    /// The log key and epoch 0's public key, if the store was made with keys.
    pub keys: Option<(VerifierKey, [u8; 32])>,
    /// The id of the first pseudonym key, if there is one.
    pub pseudonym_key: Option<String>,
}

/// The facts that system events establish.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChainState {
    pub genesis: Option<Genesis>,
    pub history: Option<PolicyHistory>,
    /// The newest policies, with the seq of their entry.
    pub policies: Option<(u64, PolicySet)>,
    /// The names that some policy left in clear.
    pub kept_clear: BTreeSet<IdentityKind>,
    /// The alert rules of each policy that changed them, with the seq of its entry.
    pub rules: Vec<(u64, Rules)>,
    pub holds: Holds,
    pub succession: Option<Succession>,
    /// The ids of all pseudonym keys that were ever in use, as pseudonyms carry them.
    pub pseudonym_keys: BTreeSet<String>,
    /// The pseudonym key that was last put into use, and the master key that the last erasure made, each with the seq of its
    /// entry: a key file without them is an older copy. `None` after a restore, since the copy may lack keys that the key file has.
    pub newest_keys: [Option<(u64, String)>; 2],
    /// Erasures by the seq of their entry.
    pub erasures: BTreeMap<u64, Erasure>,
    /// Purges by the seq of their entry.
    pub purges: Vec<(u64, PurgeRecord)>,
    /// For each purge, the entries that holds kept by number when it was made, if any.
    pub kept_by_number: BTreeMap<u64, SeqSet>,
    /// Whether it was ever opened for recording without the key that it has: rows of small tables may lack their MAC since.
    pub opened_without_key: bool,
    /// Emergency grants that were neither closed nor recorded as expired, by the seq of their entry.
    pub open_grants: BTreeMap<u64, OpenGrant>,
    /// Master keys that wrapped keys of sealed values when the log was restored from a copy, and that the key file no longer
    /// held: each with the seq of the entry that says so.
    pub masters_gone: Vec<(u64, String)>,
    /// Whether it was ever restored from a copy: then a lost history may have had other entries at the same seqs.
    pub restored: bool,
    /// Restores that nobody has confirmed yet although something that was in force may be lost, by the seq of their entry.
    pub unconfirmed: BTreeMap<u64, Unconfirmed>,
    /// A hash over the content of all these entries, except those of emergency grants, which can be purged.
    said: Hash,
    /// A hash over the content of all policy entries.
    said_of_policies: Hash,
    /// A hash of the entry of each open grant.
    said_of_grants: BTreeMap<u64, Hash>,
    /// A hash of the entry of each hold in force and of each unconfirmed restore.
    said_of_standing: BTreeMap<u64, Hash>,
}

/// What was in force in a log, by the seqs of its entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Standing {
    /// The holds.
    pub holds: Vec<(u64, Hold)>,
    /// The policy in force.
    pub policies: Vec<u64>,
    /// The open emergency grants.
    pub grants: Vec<u64>,
}

impl Form for Standing {
    fn form(&self) -> Json {
        self.to_json()
    }

    fn read(value: &Json) -> Result<Standing> {
        let read = Standing::from_json(value);
        same(value, &read.to_json())?;
        Ok(read)
    }
}

attestlog_proof::json_form!(own Standing);

impl Standing {
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.policies.is_empty() && self.grants.is_empty()
    }

    /// Adds what is in `other` and not in this.
    pub(crate) fn add(&mut self, other: &Standing) {
        for (id, hold) in &other.holds {
            if !self.holds.iter().any(|(known, same)| known == id && same == hold) {
                self.holds.push((*id, hold.clone()));
            }
        }
        for (own, others) in [(&mut self.policies, &other.policies), (&mut self.grants, &other.grants)] {
            own.extend(others);
            own.sort_unstable();
            own.dedup();
        }
    }

    /// `{"holds":[{"id","case","reason","actor","selector"}],"policies":[…],"grants":[…]}`
    pub fn to_json(&self) -> Json {
        let holds = self.holds.iter().map(|(id, hold)| {
            let mut object = hold.to_json();
            if let Json::Object(members) = &mut object {
                members.insert("id", *id);
            }
            object
        });
        let numbers = |seqs: &[u64]| Json::from(seqs.iter().map(|seq| Json::from(*seq)).collect::<Vec<_>>());
        Json::from(Object::from_iter([
            ("holds", Json::from(holds.collect::<Vec<_>>())),
            ("policies", numbers(&self.policies)),
            ("grants", numbers(&self.grants)),
        ]))
    }

    /// Reads what [`Standing::to_json`] writes; anything else is skipped.
    pub(crate) fn from_json(json: &Json) -> Standing {
        let list = |key: &str| json.get(key).and_then(Json::as_array).unwrap_or_default();
        let hold = |json: &Json| {
            let mut members = json.as_object()?.clone();
            let id = members.remove("id")?.as_u64()?;
            Some((id, Hold::from_json(&members.into()).ok()?))
        };
        Standing {
            holds: list("holds").iter().filter_map(hold).collect(),
            policies: list("policies").iter().filter_map(Json::as_u64).collect(),
            grants: list("grants").iter().filter_map(Json::as_u64).collect(),
        }
    }
}

/// Whose sealed values were destroyed, as the entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Erasure {
    /// Whether the person is a `patient` or a `user`.
    pub of: String,
    /// The person's pseudonym.
    pub subject: String,
    /// The keys that were destroyed.
    pub keys: BTreeSet<String>,
}

impl Erasure {
    fn of(detail: &Json) -> Erasure {
        let text = |key: &str| detail.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        Erasure { of: text("of"), subject: text("subject"), keys: destroyed(detail).collect() }
    }
}

/// Why a restore must be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    /// Whether it is known that something else was in force before; otherwise there were no keys to tell.
    pub is_changed: bool,
    /// How many entries had been signed.
    pub signed: Option<u64>,
}

impl Unconfirmed {
    /// Reads the detail of a restore; `None` if nothing that was in force is missing.
    pub(crate) fn of(detail: &Json) -> Option<Unconfirmed> {
        let standing = detail.get("standing").and_then(Json::as_str)?;
        Some(Unconfirmed {
            is_changed: standing != "unknown",
            signed: detail.get("signed_size").and_then(Json::as_u64),
        })
    }

    /// What is wrong after the restore that the entry at `seq` records, and what to do.
    pub(crate) fn to_do(self, seq: u64) -> String {
        let what = match (self.is_changed, self.signed) {
            (true, Some(signed)) => format!(
                "the holds, policies and emergency grants that were in force at the signed size {signed} are not those of the copy from \
                 which this log was restored (entry {seq})"
            ),
            (true, None) => format!(
                "holds, policies or emergency grants that were in force are not in the copy from which this log was restored (entry {seq})"
            ),
            (false, _) => format!(
                "this log was restored from a copy (entry {seq}), and whether holds, policies or emergency grants were in force which the \
                 copy does not have is not known: the key file was not there, or it was a copy too, which does not know what came after \
                 it was made"
            ),
        };
        format!(
            "{what}: place again what is missing, then confirm that you have checked (`attestlog hold confirm STORE --actor WHO --reason TEXT`)"
        )
    }
}

/// A system event whose detail is invalid or contradicts those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} ({kind}): {reason}")]
pub(crate) struct ChainStateError {
    pub seq: u64,
    pub kind: Kind,
    pub reason: String,
}

impl From<ChainStateError> for Error {
    fn from(e: ChainStateError) -> Error {
        Error::damaged(format!("{e}; restore a backup")).with_source(e)
    }
}

impl Genesis {
    pub(crate) fn to_json(&self) -> Object {
        let mut detail = Object::from_iter([
            ("store_id", Json::from(self.store_id.as_str())),
            ("format", STORE_FORMAT.into()),
            ("made_by", concat!("attestlog ", env!("CARGO_PKG_VERSION")).into()),
        ]);
        if let Some((log_key, epoch0)) = &self.keys {
            detail.insert("origin", log_key.name());
            detail.insert("log_key", log_key.to_string());
            detail.insert("epoch0", STANDARD.encode(epoch0));
        }
        if let Some(id) = &self.pseudonym_key {
            detail.insert("pseudonym_key", id.as_str());
        }
        detail
    }

    pub(crate) fn from_json(detail: &Json) -> Result<Genesis> {
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        let store_id = text("store_id").ok_or_else(|| Error::invalid("it names no store"))?.to_owned();
        let keys = match (text("log_key"), text("epoch0")) {
            (None, None) => None,
            (Some(log_key), Some(epoch0)) => {
                let log_key: VerifierKey = log_key.parse().map_err(Error::from)?;
                let epoch0 = STANDARD.decode(epoch0).ok().and_then(|b| b.try_into().ok());
                Some((log_key, epoch0.ok_or_else(|| Error::invalid("its epoch key is invalid"))?))
            }
            _ => return Err(Error::invalid("it names only one of its two keys")),
        };
        Ok(Genesis { store_id, keys, pseudonym_key: text("pseudonym_key").map(str::to_owned) })
    }
}

/// A hash of an entry's kind, detail and seq.
fn said(seq: u64, own: &SystemEvent) -> Hash {
    let kind = own.kind.as_str();
    let text =
        [&seq.to_be_bytes()[..], &(kind.len() as u64).to_be_bytes(), kind.as_bytes(), own.detail.as_str().as_bytes()];
    Hash::of(&text.concat())
}

impl ChainState {
    /// Whether entries of this kind establish anything that is kept here.
    pub(crate) fn wants(kind: Kind) -> bool {
        ChainState::wants_purgeable(kind)
            || matches!(
                kind,
                Kind::Genesis
                    | Kind::Policy
                    | Kind::HoldPlaced
                    | Kind::HoldReleased
                    | Kind::Key
                    | Kind::Purge
                    | Kind::Restore
                    | Kind::RestoreConfirmed
                    | Kind::Erasure
            )
    }

    /// Those of these kinds whose entries can be purged.
    pub(crate) fn wants_purgeable(kind: Kind) -> bool {
        matches!(kind, Kind::BreakGlassOpened | Kind::BreakGlassClosed)
    }

    /// Applies the next system event.
    pub(crate) fn apply(&mut self, seq: u64, own: &SystemEvent) -> Result<(), ChainStateError> {
        let detail = own.detail.to_json();
        self.take(seq, own.kind, &detail).map_err(|e| ChainStateError {
            seq,
            kind: own.kind,
            reason: e.to_string(),
        })?;
        let said = said(seq, own);
        if own.kind == Kind::Policy {
            self.said_of_policies = Hash::of(&[self.said_of_policies.0, said.0].concat());
        }
        if own.kind == Kind::HoldPlaced || self.unconfirmed.contains_key(&seq) {
            self.said_of_standing.insert(seq, said);
        }
        if own.kind == Kind::BreakGlassOpened {
            self.said_of_grants.insert(seq, said);
        } else if ChainState::wants(own.kind) && !ChainState::wants_purgeable(own.kind) {
            self.said = Hash::of(&[self.said.0, said.0].concat());
        }
        Ok(())
    }

    /// Digests of what is in force: `all` covers everything that these entries say and which emergency grants are open; `standing`
    /// covers what a restore must not lose unnoticed. The removal of entries by a purge does not change them.
    pub(crate) fn in_force(&self) -> InForce {
        let digest = |label: &[u8], said: &Hash, each: &[&BTreeMap<u64, Hash>]| {
            let mut text = [label, &said.0].concat();
            for (seq, said) in each.iter().flat_map(|each| each.iter()) {
                text.extend_from_slice(&seq.to_be_bytes());
                text.extend_from_slice(&said.0);
            }
            Hash::of(&text)
        };
        let (grants, standing) = (&self.said_of_grants, &self.said_of_standing);
        InForce {
            all: digest(b"attestlog/in-force@v1\n", &self.said, &[grants]),
            standing: digest(b"attestlog/standing@v1\n", &self.said_of_policies, &[standing, grants]),
        }
    }

    /// What to do where the key file knows another history than this log, because the log was restored while the key file was away.
    pub(crate) fn restored_without_keys(&self) -> Option<String> {
        let (seq, _) = self.unconfirmed.iter().find(|(_, restored)| !restored.is_changed)?;
        Some(format!(
            "entry {seq} says that this store was restored while its key file was not there, or only a copy of it: if you did that, move this store away, leave \
             the key file where it is, and restore the backup again, so that the log says what had been signed and is lost"
        ))
    }

    /// Refuses an irreversible change until somebody has confirmed what is in force after a restore (R80).
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] with what to do.
    pub(crate) fn check_confirmed(&self) -> Result<()> {
        match self.unconfirmed.first_key_value() {
            None => Ok(()),
            Some((seq, restored)) => {
                let message = format!(
                    "nothing was purged or erased, because what a hold should keep could be lost: {}",
                    restored.to_do(*seq)
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }

    fn take(&mut self, seq: u64, kind: Kind, detail: &Json) -> Result<()> {
        match kind {
            Kind::Genesis => {
                if seq != 0 {
                    return Err(Error::invalid("a store begins only once"));
                }
                let genesis = Genesis::from_json(detail)?;
                if let Some((log_key, epoch0)) = &genesis.keys {
                    self.succession =
                        Some(Succession::new(log_key.name(), epoch0).map_err(|e| Error::invalid(e.to_string()))?);
                }
                self.pseudonym_keys.extend(pseudonym_key(kind, detail));
                self.genesis = Some(genesis);
            }
            Kind::Policy => {
                let policies = PolicySet::from_json(detail)?;
                if let Some((_, old)) = &self.policies {
                    policies.patients.check_successor(&old.patients)?;
                }
                match &mut self.history {
                    Some(history) => history.push(seq, policies.retention.clone())?,
                    None => self.history = Some(PolicyHistory::new(seq, policies.retention.clone())),
                }
                if self.rules.last().is_none_or(|(_, rules)| *rules != policies.alerts) {
                    self.rules.push((seq, policies.alerts.clone()));
                }
                let kept = |kind: &IdentityKind| policies.redaction.facet(*kind) == Action::Keep;
                self.kept_clear.extend(IdentityKind::ALL.into_iter().filter(kept));
                self.policies = Some((seq, policies));
            }
            Kind::HoldPlaced => self.holds.place(seq, Hold::from_json(detail)?)?,
            Kind::HoldReleased => {
                let released = HoldRelease::from_json(detail)?.hold;
                self.holds.release(released)?;
                self.said_of_standing.remove(&released);
            }
            Kind::RestoreConfirmed => {
                for seq in std::mem::take(&mut self.unconfirmed).into_keys() {
                    self.said_of_standing.remove(&seq);
                }
            }
            Kind::Erasure => {
                let master = detail.get("master_key").and_then(Json::as_str);
                self.newest_keys[1] = master.map(|id| (seq, id.to_owned()));
                self.erasures.insert(seq, Erasure::of(detail));
            }
            Kind::Key => {
                if let Some(id) = pseudonym_key(kind, detail) {
                    self.newest_keys[0] = Some((seq, id));
                }
                self.pseudonym_keys.extend(pseudonym_key(kind, detail));
                self.opened_without_key |= detail.get("event").and_then(Json::as_str) == Some("opened_without_key");
                if let Some(rotation) = detail.get("rotation").and_then(Json::as_object) {
                    self.take_rotation(seq, rotation)?;
                }
            }
            Kind::Restore => {
                self.newest_keys = [None, None];
                self.restored = true;
                if let Some(unconfirmed) = Unconfirmed::of(detail) {
                    self.unconfirmed.insert(seq, unconfirmed);
                }
                let gone = detail.get("master_keys_gone").and_then(Json::as_array).unwrap_or_default();
                self.masters_gone.extend(gone.iter().filter_map(Json::as_str).map(|id| (seq, id.to_owned())));
                for rotation in detail.get("rotations").and_then(Json::as_array).unwrap_or_default() {
                    let succession = self.succession.as_mut().ok_or_else(|| Error::invalid("the store has no keys"))?;
                    let invalid = |e: crate::note::EpochError| Error::invalid(e.to_string());
                    let rotation = rotation.as_object().ok_or_else(|| Error::invalid("its rotations are invalid"))?;
                    let rotation = Rotation::from_json(succession.origin(), rotation).map_err(invalid)?;
                    succession.push_restored(rotation, seq).map_err(invalid)?;
                }
            }
            Kind::BreakGlassOpened => {
                self.open_grants.insert(seq, OpenGrant::from_json(detail)?);
            }
            Kind::BreakGlassClosed => {
                // The grant may have been purged already, or closed twice: neither changes anything.
                if let Some(grant) = detail.get("grant").and_then(Json::as_u64) {
                    self.open_grants.remove(&grant);
                    self.said_of_grants.remove(&grant);
                }
            }
            Kind::Purge => {
                self.purges.push((seq, PurgeRecord::from_json(detail)?));
                let kept = self.holds.by_number(seq);
                if !kept.is_empty() {
                    self.kept_by_number.insert(seq, kept);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_rotation(&mut self, seq: u64, rotation: &Object) -> Result<()> {
        let succession = self.succession.as_mut().ok_or_else(|| Error::invalid("the store has no keys"))?;
        let invalid = |e: crate::note::EpochError| Error::invalid(e.to_string());
        let rotation = Rotation::from_json(succession.origin(), rotation).map_err(invalid)?;
        if rotation.size != seq {
            return Err(Error::invalid(format!("its rotation states size {}, but it is entry {seq}", rotation.size)));
        }
        succession.push(rotation).map_err(invalid)
    }

    /// The history of the policies.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): the log has no policy.
    pub(crate) fn history(&self) -> Result<&PolicyHistory> {
        self.history.as_ref().ok_or_else(|| Error::damaged("the log has no policy; restore a backup"))
    }

    /// What is in force here but not in `other`: holds, the policy, open emergency grants.
    pub(crate) fn standing_beside(&self, other: &ChainState) -> Standing {
        let lacks = |said: &BTreeMap<u64, Hash>, theirs: &BTreeMap<u64, Hash>| -> Vec<u64> {
            said.iter().filter(|(seq, said)| theirs.get(seq) != Some(said)).map(|(seq, _)| *seq).collect()
        };
        let holds = lacks(&self.said_of_standing, &other.said_of_standing).into_iter();
        let policy = self.policies.as_ref().filter(|_| self.said_of_policies != other.said_of_policies);
        Standing {
            holds: holds.filter_map(|seq| Some((seq, self.holds.get(seq)?.clone()))).collect(),
            policies: policy.map(|(seq, _)| *seq).into_iter().collect(),
            grants: lacks(&self.said_of_grants, &other.said_of_grants),
        }
    }

    /// The root that each rotation entry of this log states, by size. Rotations brought by a restore are left out: they are of a
    /// lost history.
    pub(crate) fn rotation_roots(&self) -> impl Iterator<Item = (u64, Hash)> + '_ {
        let epochs = self.succession.iter().flat_map(|s| s.epochs());
        epochs.filter_map(|e| e.rotation_in_place()).map(|r| (r.size, r.root))
    }
}
