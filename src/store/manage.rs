//! What is done to a store by those who run it: policies, holds, keys, the clock. Each is an entry of the chain.

use super::commit::Staging;
use super::log::{AuditLog, Receipt};
use super::names::Names;
use super::shared::Shared;
use super::writer::Core;
use crate::json::{Json, Object};
use crate::note::{SignedCheckpoint, Succession, VerifierKey};
use crate::policy::PolicySet;
use crate::redact::{Context, Facet, Root, is_pseudonym, normal};
use crate::retention::{ClockEvent, ClockStatus, Hold, HoldRelease, HoldSelector};
use crate::{Error, ErrorKind, Field, Kind, Result};
use std::collections::BTreeSet;

impl AuditLog {
    /// The policies in force.
    pub fn policies(&self) -> PolicySet {
        self.shared().policies().set.clone()
    }

    /// Puts other policies into force, for what is recorded from now on; retention of what is recorded already may grow
    /// by it, never shrink.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where it would shorten, naming class or tool; [`Key`](ErrorKind::Key) where it
    /// needs keys that are not there; as [`AuditLog::record`].
    pub fn set_policy(&self, policies: PolicySet) -> Result<Receipt> {
        if let Some(history) = &self.shared().ledger().history {
            policies.retention.check_successor(history.current())?;
        }
        super::keyring::ready(0, policies.clone(), self.shared().keys().as_ref()).and_then(|ready| {
            ready.sanitizer.map(|_| ()).ok_or_else(|| Error::new(ErrorKind::Key, "the policy needs a pseudonym key"))
        })?;
        self.own(Kind::Policy, policies.to_json())
    }

    /// Places a legal hold: while it stands, no entry that it covers is purged, whether recorded before or later.
    /// Users, patients, conversations and tools are named by their clear values. The entry names users, patients and
    /// conversations by pseudonym wherever the store has keys, whatever the policy says: it stays when everything else about
    /// them is gone. Emergency grants and alerts about a user or patient whom it names are held with the calls.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): no case, reason or actor, or a selector that selects nothing; as
    /// [`AuditLog::record`].
    pub fn place_hold(&self, case: &str, reason: &str, actor: &str, covering: HoldSelector) -> Result<Receipt> {
        let shared = self.shared();
        let names = shared.names_of(&covering);
        let covering = HoldSelector {
            conversations: shared.people(Field::Conversation, covering.conversations),
            users: shared.people(Field::User, covering.users),
            patients: shared.people(Field::Patient, covering.patients),
            tools: shared.tools(covering.tools)?,
            ..covering
        };
        let named =
            |text: &str| -> Result<String> { shared.clean(&names.replaced(text).unwrap_or_else(|| text.to_owned())) };
        let hold = Hold::new(named(case)?, named(reason)?, named(actor)?, covering)?;
        self.own(Kind::HoldPlaced, hold.to_json())
    }

    /// Releases the hold that the entry at `seq` placed.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where no such hold stands; as [`AuditLog::place_hold`].
    pub fn release_hold(&self, seq: u64, reason: &str, actor: &str) -> Result<Receipt> {
        let release = HoldRelease::new(seq, self.shared().clean(reason)?, self.shared().clean(actor)?)?;
        self.own(Kind::HoldReleased, release.to_json())
    }

    /// The holds that stand, each with the seq of its entry.
    pub fn holds(&self) -> Vec<(u64, Hold)> {
        self.shared().ledger().holds.iter().map(|(seq, hold)| (seq, hold.clone())).collect()
    }

    /// How the expiry clock stands. Changes nothing.
    ///
    /// # Errors
    /// What the file says.
    pub fn clock_status(&self) -> Result<ClockStatus> {
        let shared = self.shared();
        if shared.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        let bound = shared.policies().set.retention.clock_bound();
        let mut clock = shared.core().clock(shared, bound);
        // What a commit now would see; nothing of it is kept.
        let wall = shared.clock.now();
        let _ = clock.observe_wall(wall);
        Ok(clock.status(wall))
    }

    /// Says that the system clock is right, which lets expiry go on after a jump that nothing explains.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): no actor or no reason; as [`AuditLog::record`].
    pub fn confirm_clock(&self, actor: &str, reason: &str) -> Result<ClockEvent> {
        let (actor, reason) = (self.shared().clean(actor)?, self.shared().clean(reason)?);
        self.shared().exclusive(|shared, core| {
            let mut staging = Staging::new(shared, core)?;
            let event = staging.confirm_clock(&actor, &reason)?;
            shared.commit(core, staging, |_| Ok(()))?;
            Ok(event)
        })
    }

    /// Signs a checkpoint of the log as it is now.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) without the store's keys; [`OtherHistory`](ErrorKind::OtherHistory) where the keys have signed a
    /// longer or another history: this is an older copy.
    pub fn checkpoint(&self) -> Result<SignedCheckpoint> {
        self.shared().exclusive(Shared::sign)
    }

    /// The log key's public half, which an auditor pins; `None` for a store without keys.
    pub fn public_key(&self) -> Option<VerifierKey> {
        self.shared().ledger().genesis.as_ref()?.keys.as_ref().map(|(key, _)| key.clone())
    }

    /// The epoch keys from the first to the present one; `None` for a store without keys.
    pub fn succession(&self) -> Option<Succession> {
        self.shared().ledger().succession.clone()
    }

    /// Hands over to a new epoch key and destroys the old one: what was signed until now can be signed by nobody again.
    ///
    /// # Errors
    /// As [`AuditLog::checkpoint`].
    pub fn rotate_epoch_key(&self) -> Result<()> {
        self.shared().exclusive(Shared::rotate)
    }

    /// Makes a new pseudonym key; values are found under the old ones as before.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) without the store's keys; [`TooLarge`](ErrorKind::TooLarge) where there are too many.
    pub fn rotate_pseudonym_key(&self) -> Result<Receipt> {
        let receipt = self.shared().exclusive(|shared, core| {
            let mut staging = Staging::new(shared, core)?;
            let id = {
                let mut keys = shared.keys();
                let missing = || Error::new(ErrorKind::Key, "the store has no keys here, so none can be rotated");
                let keys = keys.as_mut().ok_or_else(missing)?;
                keys.check_replaceable()?;
                keys.file.rotate_pseudonym_key(&mut |out| shared.random.fill(out))?;
                keys.save(shared)?;
                keys.pseudonym_key().ok_or_else(missing)?
            };
            // In the log before the first value under it is.
            let receipt = staging.own(Kind::Key, super::keyring::pseudonym_key_event(&id), None)?;
            shared.commit(core, staging, |_| Ok(()))?;
            Ok(receipt)
        })?;
        self.shared().renew_policies()?;
        Ok(receipt)
    }

    /// Records one of the store's own entries.
    pub(crate) fn own(&self, kind: Kind, detail: Json) -> Result<Receipt> {
        let detail = match detail {
            Json::Object(detail) => detail,
            _ => return Err(Error::invalid("the particulars of an entry are an object")),
        };
        self.shared().exclusive(|shared: &Shared, core: &mut Core| shared.own_entry(core, kind, detail))
    }
}

impl Shared {
    /// Records one of the store's own entries, with the turn.
    pub(crate) fn own_entry(&self, core: &mut Core, kind: Kind, detail: Object) -> Result<Receipt> {
        let mut staging = Staging::new(self, core)?;
        let receipt = staging.own(kind, detail, None)?;
        self.commit(core, staging, |_| Ok(()))?;
        Ok(receipt)
    }

    /// A free text of the store's own entries, after the same policy as everything else.
    pub(crate) fn clean(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        if let Some(sanitizer) = &self.policies().sanitizer {
            sanitizer.treat_text(Root::Text, &mut text, &mut Context::new())?;
        }
        self.unnamed(text)
    }

    /// Everything under which entries may have a value of a facet.
    pub(crate) fn spellings(&self, field: Field, value: &str) -> Vec<String> {
        self.policies().terms(field, value)
    }

    /// How a hold names these people and conversations: by their pseudonyms under every live key, in clear only where there
    /// is none.
    fn people(&self, field: Field, clear: BTreeSet<String>) -> BTreeSet<String> {
        let name = |value: String| match self.alias(field, &value) {
            Some(aliases) => aliases,
            None => vec![normal(&value).into_owned()],
        };
        clear.into_iter().flat_map(name).collect()
    }

    /// How a hold names these tools: by every spelling, but not in clear where that has a hidden name in it.
    fn tools(&self, clear: BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut tools = BTreeSet::new();
        for tool in clear {
            let hides = self.clean(&tool)? != tool;
            let aliases = self.alias(Field::Tool, &tool).filter(|_| hides);
            tools.extend(aliases.unwrap_or_else(|| self.spellings(Field::Tool, &tool)));
        }
        Ok(tools)
    }

    /// The clear names in a hold that its reason must not repeat.
    fn names_of(&self, covering: &HoldSelector) -> Names {
        let facets = [(Facet::Patient, &covering.patients), (Facet::User, &covering.users)];
        let facets = facets.into_iter().chain([(Facet::Conversation, &covering.conversations)]);
        let clear = facets.flat_map(|(facet, names)| names.iter().map(move |name| (facet, name)));
        Names::new(clear.filter_map(|(facet, name)| {
            Some((facet, name.clone(), self.alias(facet.field(), name)?.into_iter().next()?))
        }))
    }

    /// The pseudonyms of a clear name under every live key, the newest first; `None` where there is no key, or of a
    /// pseudonym.
    fn alias(&self, field: Field, clear: &str) -> Option<Vec<String>> {
        let policies = self.policies();
        let all = policies.sanitizer.as_ref()?.pseudonyms_of(field, clear);
        (!all.is_empty() && !is_pseudonym(clear)).then_some(all)
    }

    /// What tells a purge the pseudonyms of what entries name in clear.
    pub(crate) fn aliases(&self) -> impl Fn(Field, &str) -> Option<Vec<String>> + '_ {
        |field, clear| self.alias(field, clear)
    }

    /// Makes the policies ready again after the keys changed.
    fn renew_policies(&self) -> Result<()> {
        let now = self.policies();
        let fresh = super::keyring::ready(now.seq, now.set.clone(), self.keys().as_ref())?;
        *self.policies.write().unwrap_or_else(std::sync::PoisonError::into_inner) = std::sync::Arc::new(fresh);
        Ok(())
    }
}
