//! Administration of a store: policies, holds, keys, the clock. Each operation is an entry of the chain.

use crate::json::{Json, Object};
use crate::note::{SignedCheckpoint, Succession, VerifierKey};
use crate::policy::{Policies, PolicySet};
use crate::redact::{Action, Context, IdentityKind, Root, is_pseudonym, normal};
use crate::retention::{ClockEvent, ClockStatus, Hold, HoldRelease, HoldSelector};
use crate::store::engine::Engine;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::writer_state::WriterState;
use crate::store::log::OpenStore;
use crate::store::write::names::Names;
use crate::store::write::staging::Staging;
use crate::text::Justification;
use crate::{Error, ErrorKind, Facet, Kind, Result};
use std::collections::BTreeSet;

impl OpenStore {
    /// The policies in force.
    pub(crate) fn policies(&self) -> PolicySet {
        self.engine().policies().set.clone()
    }

    /// Puts new policies into force for what is recorded from now on. The retention of existing entries may be lengthened by
    /// them, never shortened.
    pub(crate) fn set_policy(&self, policies: PolicySet) -> Result<Receipt> {
        policies.check()?;
        policies.check_successor(&self.policies())?;
        let ready = crate::store::engine::keyring::ready(0, policies, self.engine().keys().as_ref())?;
        self.system_event(Kind::Policy, as_written(ready)?.to_json())
    }

    /// Places a legal hold: while it stands, no entry that it covers is purged, whether recorded before or later. Users,
    /// patients, conversations and tools are given in clear. The entry names users, patients and conversations by pseudonym
    /// wherever the store has keys, whatever the policy says, because the entry outlives everything else about them.
    /// Emergency grants and alerts about a user or patient named in the hold are held with the calls.
    pub(crate) fn place_hold(&self, case: &str, covering: HoldSelector, by: Justification<'_>) -> Result<Receipt> {
        let engine = self.engine();
        let names = engine.names_of(&covering);
        let covering = HoldSelector {
            conversations: engine.people(Facet::Conversation, covering.conversations),
            users: engine.people(Facet::User, covering.users),
            patients: engine.people(Facet::Patient, covering.patients),
            tools: engine.tools(covering.tools)?,
            ..covering
        };
        let named =
            |text: &str| -> Result<String> { engine.clean(&names.replaced(text).unwrap_or_else(|| text.to_owned())) };
        let hold = Hold::new(named(case)?, named(by.reason)?, named(by.actor)?, covering)?;
        self.system_event(Kind::HoldPlaced, hold.to_json())
    }

    /// Releases the hold that the entry at `seq` placed.
    pub(crate) fn release_hold(&self, seq: u64, by: Justification<'_>) -> Result<Receipt> {
        let release = HoldRelease::new(seq, self.engine().clean(by.reason)?, self.engine().clean(by.actor)?)?;
        self.system_event(Kind::HoldReleased, release.to_json())
    }

    /// The holds in force, each with the seq of its entry.
    pub(crate) fn holds(&self) -> Result<Vec<(u64, Hold)>> {
        self.check_damage()?;
        Ok(self.engine().chain_state().holds.iter().map(|(seq, hold)| (seq, hold.clone())).collect())
    }

    /// The state of the expiry clock. Changes nothing.
    pub(crate) fn clock_status(&self) -> Result<ClockStatus> {
        let engine = self.engine();
        if engine.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        let bound = engine.policies().set.retention.clock_bound();
        let mut clock = engine.writer().clock(engine.config.clock.monotonic(), bound);
        // What a commit would see now; the result is not saved.
        let wall = engine.config.clock.now();
        let _ = clock.observe_wall(wall);
        Ok(clock.status(wall))
    }

    /// Confirms that the system clock is right, so that expiry continues after an unexplained jump.
    pub(crate) fn confirm_clock(&self, by: Justification<'_>) -> Result<ClockEvent> {
        let (actor, reason) = (self.engine().clean(by.actor)?, self.engine().clean(by.reason)?);
        self.engine().with_writer(|engine, writer| {
            let mut staging = Staging::new(engine, writer)?;
            let event = staging.confirm_clock(&actor, &reason)?;
            engine.commit(writer, staging, |_| Ok(()))?;
            Ok(event)
        })
    }

    /// Signs a checkpoint of the log's current state.
    pub(crate) fn checkpoint(&self) -> Result<SignedCheckpoint> {
        self.engine().with_writer(Engine::sign)
    }

    /// The public half of the log key, which auditors pin; `None` for a store without keys.
    pub(crate) fn public_key(&self) -> Option<VerifierKey> {
        self.engine().chain_state().genesis.as_ref()?.keys.as_ref().map(|(key, _)| key.clone())
    }

    /// The epoch keys from the first to the current one; `None` for a store without keys.
    pub(crate) fn succession(&self) -> Option<Succession> {
        self.engine().chain_state().succession.clone()
    }

    /// Rotates to a new epoch key and destroys the old one: nobody can sign again what was signed until now.
    pub(crate) fn rotate_epoch_key(&self) -> Result<()> {
        self.engine().with_writer(Engine::rotate)
    }

    /// Creates a new pseudonym key; values are still found under the old ones.
    pub(crate) fn rotate_pseudonym_key(&self) -> Result<Receipt> {
        let receipt = self.engine().with_writer(|engine, writer| {
            let mut staging = Staging::new(engine, writer)?;
            let id = {
                let mut keys = engine.keys();
                let missing = || Error::new(ErrorKind::Key, "the store has no keys here, so none can be rotated");
                let keys = keys.as_mut().ok_or_else(missing)?;
                keys.check_replaceable()?;
                keys.file.rotate_pseudonym_key(&mut |out| engine.config.random.fill(out))?;
                keys.save(engine).map_err(|e| e.at("no key was replaced"))?;
                keys.pseudonym_key().ok_or_else(missing)?
            };
            // The key must be in the log before the first value under it.
            let receipt =
                staging.system_event(Kind::Key, crate::store::engine::keyring::pseudonym_key_event(&id), None)?;
            engine.commit(writer, staging, |_| Ok(()))?;
            Ok(receipt)
        })?;
        self.engine().renew_policies()?;
        Ok(receipt)
    }

    /// Records a system event.
    pub(crate) fn system_event(&self, kind: Kind, detail: Json) -> Result<Receipt> {
        let detail = match detail {
            Json::Object(detail) => detail,
            _ => return Err(Error::invalid("the details of an entry are an object")),
        };
        self.engine().with_writer(|engine: &Engine, writer: &mut WriterState| engine.system_event(writer, kind, detail))
    }
}

/// The policies as the log shows them: alert rules name people as entries do.
pub(crate) fn as_written(ready: Policies) -> Result<PolicySet> {
    let Policies { mut set, sanitizer, .. } = ready;
    let sanitizer = sanitizer.ok_or_else(|| Error::new(ErrorKind::Key, "the policy needs a pseudonym key"))?;
    for rule in &mut set.alerts.0 {
        let mut hidden = Vec::new();
        for (field, values) in rule.when.iter_mut().chain(&mut rule.except) {
            for value in values.iter_mut().filter(|value| !is_pseudonym(value)) {
                let kind = IdentityKind::ALL.into_iter().find(|kind| kind.field() == *field);
                let hides = kind.is_some_and(|kind| sanitizer.policy().facet(kind) == Action::Pseudonymise)
                    || crate::redact::domain(*field).is_some() && sanitizer.is_no_name(value);
                if !hides {
                    continue;
                }
                let written = sanitizer.newest(*field, value).ok_or_else(|| {
                    let (name, facet) = (&rule.name, field.as_str());
                    Error::invalid(format!(
                        "alert rule {name:?}: a {facet} in it looks like a secret or a number that must not be written, and \
                         this store has no keys to write a pseudonym"
                    ))
                })?;
                let clear = std::mem::replace(value, written.clone());
                hidden.extend(kind.map(|kind| (kind, clear, written)));
            }
        }
        let names = Names::new(hidden);
        if let Some(text) = rule.summary.as_ref().and_then(|summary| names.replaced(summary)) {
            rule.summary = Some(text);
        }
    }
    Ok(set)
}

impl Engine {
    /// Records a system event. The caller holds the writer lock.
    pub(crate) fn system_event(&self, writer: &mut WriterState, kind: Kind, detail: Object) -> Result<Receipt> {
        let mut staging = Staging::new(self, writer)?;
        let receipt = staging.system_event(kind, detail, None)?;
        self.commit(writer, staging, |_| Ok(()))?;
        Ok(receipt)
    }

    /// A free text of a system event, treated by the redaction policy.
    pub(crate) fn clean(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        if let Some(sanitizer) = &self.policies().sanitizer {
            sanitizer.treat_text(Root::Text, &mut text, &mut Context::new())?;
        }
        self.unnamed(text)
    }

    /// Every spelling under which entries may have a value of a facet. A pseudonym stands for its person under every key.
    pub(crate) fn spellings(&self, field: Facet, value: &str) -> Vec<String> {
        let policies = self.policies();
        match &policies.sanitizer {
            Some(sanitizer) if is_pseudonym(value) => sanitizer.forms(value),
            _ => policies.terms(field, value),
        }
    }

    /// How a hold names these people and conversations: by their pseudonyms under every live key, or in clear if there is no
    /// key.
    fn people(&self, field: Facet, clear: BTreeSet<String>) -> BTreeSet<String> {
        let name = |value: String| match self.pseudonyms(field, &value) {
            Some(pseudonyms) => pseudonyms,
            None => vec![normal(&value).into_owned()],
        };
        clear.into_iter().flat_map(name).collect()
    }

    /// How a hold names these tools: by every spelling, but not in clear if the name contains a hidden name.
    fn tools(&self, clear: BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut tools = BTreeSet::new();
        for tool in clear {
            let hides = self.clean(&tool)? != tool;
            let aliases = self.alias(Facet::Tool, &tool).filter(|_| hides);
            tools.extend(aliases.unwrap_or_else(|| self.spellings(Facet::Tool, &tool)));
        }
        Ok(tools)
    }

    /// The clear names in a hold, which its texts must not repeat.
    fn names_of(&self, covering: &HoldSelector) -> Names {
        let facets = [(IdentityKind::Patient, &covering.patients), (IdentityKind::User, &covering.users)];
        let facets = facets.into_iter().chain([(IdentityKind::Conversation, &covering.conversations)]);
        let clear = facets.flat_map(|(facet, names)| names.iter().map(move |name| (facet, name)));
        Names::new(clear.filter_map(|(facet, name)| {
            Some((facet, name.clone(), self.alias(facet.field(), name)?.into_iter().next()?))
        }))
    }

    /// The pseudonyms of a clear name under every live key, newest first; `None` if there is no key, or the name is already a
    /// pseudonym.
    fn alias(&self, field: Facet, clear: &str) -> Option<Vec<String>> {
        let policies = self.policies();
        let all = policies.sanitizer.as_ref()?.pseudonyms_of(field, clear);
        (!all.is_empty() && !is_pseudonym(clear)).then_some(all)
    }

    /// The same, and also of a name that is already a pseudonym, as far as its key is live.
    fn pseudonyms(&self, field: Facet, name: &str) -> Option<Vec<String>> {
        match is_pseudonym(name) {
            true => Some(self.policies().sanitizer.as_ref()?.forms(name)),
            false => self.alias(field, name),
        }
    }

    /// For a purge: a function from names in entries to the pseudonyms of the same person.
    pub(crate) fn aliases(&self) -> impl Fn(Facet, &str) -> Option<Vec<String>> + '_ {
        |field, name| self.pseudonyms(field, name)
    }

    /// Prepares the policies again after the keys changed.
    fn renew_policies(&self) -> Result<()> {
        let now = self.policies();
        let fresh = crate::store::engine::keyring::ready(now.seq, now.set.clone(), self.keys().as_ref())?;
        *self.facts.policies.write().unwrap_or_else(std::sync::PoisonError::into_inner) = std::sync::Arc::new(fresh);
        Ok(())
    }
}
