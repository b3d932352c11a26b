//! What a store's own entries say, read in order: whose it is, which policies and holds are in force, which keys signed
//! when, what was purged. Everything that decides about entries later is taken from the chain, never from a table beside it.
//!
//! Invariant R60: a store goes on only where what is found to be in force is what was when its keys signed last. The key file's
//! mark has a digest of it, so a system event that nothing leads to any more, or that was changed with its hash, is missed when the
//! store is opened, and not only by a verification.

use crate::grants::OpenGrant;
use crate::json::{Json, Object};
use crate::names::pseudonym_key;
use crate::note::{Rotation, Succession, VerifierKey};
use crate::policy::PolicySet;
use crate::retention::{Hold, HoldRelease, Holds, PolicyHistory, PurgeRecord, SeqSet};
use crate::rules::Rules;
use crate::{Error, Hash, Result};
use attestlog_proof::entry::{Kind, SystemEvent};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};

/// The version of the whole layout. A store with another one is a newer program's.
pub(crate) const STORE_FORMAT: u32 = 1;

/// Who a store is: what its first entry says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Genesis {
    pub store_id: String,
    /// The log key and epoch 0's public key, where the store was made with keys.
    pub keys: Option<(VerifierKey, [u8; 32])>,
    /// The id of the first pseudonym key, where there is one.
    pub pseudonym_key: Option<String>,
}

/// The facts that system events establish.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChainState {
    pub genesis: Option<Genesis>,
    pub history: Option<PolicyHistory>,
    /// The newest policies, with the seq of their entry.
    pub policies: Option<(u64, PolicySet)>,
    /// The alert rules of each policy that changed them, with the seq of its entry.
    pub rules: Vec<(u64, Rules)>,
    pub holds: Holds,
    pub succession: Option<Succession>,
    /// The ids of all pseudonym keys that were ever in use, as pseudonyms carry them.
    pub pseudonym_keys: BTreeSet<String>,
    /// The pseudonym key that was put into use last, and the master key that the last erasure made, each with the seq of its
    /// entry: a key file without them is an older copy. None once a copy was restored, which may lack what the key file has.
    pub newest_keys: [Option<(u64, String)>; 2],
    /// Purges by the seq of their entry.
    pub purges: Vec<(u64, PurgeRecord)>,
    /// For each purge, what holds kept by number when it was made, where they kept any.
    pub kept_by_number: BTreeMap<u64, SeqSet>,
    /// Whether it was ever recorded to without the key that it has: rows of small tables may lack their MAC since.
    pub opened_without_key: bool,
    /// Emergency grants that were neither closed nor said to have run out, by the seq of their entry.
    pub open_grants: BTreeMap<u64, OpenGrant>,
    /// Master keys under which keys of sealed values lay when the log was made out of a copy, and which the key file did not
    /// hold any more: each with the seq of the entry that says so.
    pub masters_gone: Vec<(u64, String)>,
    /// A hash over all that these entries say, but for emergency grants, which do not stay for ever.
    said: Hash,
    /// What the entries of the open grants say.
    said_of_grants: BTreeMap<u64, Hash>,
}

/// What a store's own entries may say wrongly: an entry whose particulars contradict those before it.
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

    fn from_json(detail: &Json) -> Result<Genesis> {
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        let store_id = text("store_id").ok_or_else(|| Error::invalid("it names no store"))?.to_owned();
        let keys = match (text("log_key"), text("epoch0")) {
            (None, None) => None,
            (Some(log_key), Some(epoch0)) => {
                let log_key: VerifierKey = log_key.parse().map_err(Error::from)?;
                let epoch0 = STANDARD.decode(epoch0).ok().and_then(|b| b.try_into().ok());
                Some((log_key, epoch0.ok_or_else(|| Error::invalid("its epoch key is none"))?))
            }
            _ => return Err(Error::invalid("it names only one of its two keys")),
        };
        Ok(Genesis { store_id, keys, pseudonym_key: text("pseudonym_key").map(str::to_owned) })
    }
}

/// A hash of what an entry says and where it stands.
fn said(seq: u64, own: &SystemEvent) -> Hash {
    let kind = own.kind.as_str();
    let text =
        [&seq.to_be_bytes()[..], &(kind.len() as u64).to_be_bytes(), kind.as_bytes(), own.detail.as_str().as_bytes()];
    Hash::of(&text.concat())
}

impl ChainState {
    /// Whether entries of this kind say anything that is kept here.
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
                    | Kind::Erasure
            )
    }

    /// Those of them that do not stay for ever.
    pub(crate) fn wants_purgeable(kind: Kind) -> bool {
        matches!(kind, Kind::BreakGlassOpened | Kind::BreakGlassClosed)
    }

    /// Takes the next of system events.
    pub(crate) fn apply(&mut self, seq: u64, own: &SystemEvent) -> Result<(), ChainStateError> {
        let detail = own.detail.to_json();
        self.take(seq, own.kind, &detail).map_err(|e| ChainStateError {
            seq,
            kind: own.kind,
            reason: e.to_string(),
        })?;
        let said = said(seq, own);
        if own.kind == Kind::BreakGlassOpened {
            self.said_of_grants.insert(seq, said);
        } else if ChainState::wants(own.kind) && !ChainState::wants_purgeable(own.kind) {
            self.said = Hash::of(&[self.said.0, said.0].concat());
        }
        Ok(())
    }

    /// A digest of what is in force: all that these entries say, and which emergency grants are open. What a purge takes does not
    /// change it.
    pub(crate) fn in_force(&self) -> Hash {
        let mut text = [&b"attestlog/in-force@v1\n"[..], &self.said.0].concat();
        for (seq, said) in &self.said_of_grants {
            text.extend_from_slice(&seq.to_be_bytes());
            text.extend_from_slice(&said.0);
        }
        Hash::of(&text)
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
                match &mut self.history {
                    Some(history) => history.push(seq, policies.retention.clone())?,
                    None => self.history = Some(PolicyHistory::new(seq, policies.retention.clone())),
                }
                if self.rules.last().is_none_or(|(_, rules)| *rules != policies.alerts) {
                    self.rules.push((seq, policies.alerts.clone()));
                }
                self.policies = Some((seq, policies));
            }
            Kind::HoldPlaced => self.holds.place(seq, Hold::from_json(detail)?)?,
            Kind::HoldReleased => {
                self.holds.release(HoldRelease::from_json(detail)?.hold)?;
            }
            Kind::Erasure => {
                let master = detail.get("master_key").and_then(Json::as_str);
                self.newest_keys[1] = master.map(|id| (seq, id.to_owned()));
            }
            Kind::Key => {
                if let Some(id) = pseudonym_key(kind, detail) {
                    self.newest_keys[0] = Some((seq, id));
                }
                self.pseudonym_keys.extend(pseudonym_key(kind, detail));
                self.opened_without_key |= detail.get("event").and_then(Json::as_str) == Some("opened_without_key");
                if let Some(rotation) = detail.get("rotation").and_then(Json::as_object) {
                    let succession = self.succession.as_mut().ok_or_else(|| Error::invalid("the store has no keys"))?;
                    let invalid = |e: crate::note::EpochError| Error::invalid(e.to_string());
                    let rotation = Rotation::from_json(succession.origin(), rotation).map_err(invalid)?;
                    if rotation.size != seq {
                        return Err(Error::invalid(format!(
                            "its rotation is of size {}, it is entry {seq}",
                            rotation.size
                        )));
                    }
                    succession.push(rotation).map_err(invalid)?;
                }
            }
            Kind::Restore => {
                self.newest_keys = [None, None];
                let gone = detail.get("master_keys_gone").and_then(Json::as_array).unwrap_or_default();
                self.masters_gone.extend(gone.iter().filter_map(Json::as_str).map(|id| (seq, id.to_owned())));
                for rotation in detail.get("rotations").and_then(Json::as_array).unwrap_or_default() {
                    let succession = self.succession.as_mut().ok_or_else(|| Error::invalid("the store has no keys"))?;
                    let invalid = |e: crate::note::EpochError| Error::invalid(e.to_string());
                    let rotation = rotation.as_object().ok_or_else(|| Error::invalid("its rotations are none"))?;
                    let rotation = Rotation::from_json(succession.origin(), rotation).map_err(invalid)?;
                    succession.push_restored(rotation, seq).map_err(invalid)?;
                }
            }
            Kind::BreakGlassOpened => {
                self.open_grants.insert(seq, OpenGrant::from_json(detail)?);
            }
            Kind::BreakGlassClosed => {
                // The grant itself may be gone already, or was closed twice: neither says anything new.
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

    /// The policies until now.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): a log without any.
    pub(crate) fn history(&self) -> Result<&PolicyHistory> {
        self.history.as_ref().ok_or_else(|| Error::damaged("the log has no policy; restore a backup"))
    }

    /// The root that each rotation among the entries states, by size. Those that a restoring brought are of a history that is lost.
    pub(crate) fn rotation_roots(&self) -> impl Iterator<Item = (u64, Hash)> + '_ {
        let epochs = self.succession.iter().flat_map(|s| s.epochs());
        epochs.filter_map(|e| e.rotation_in_place()).map(|r| (r.size, r.root))
    }
}
