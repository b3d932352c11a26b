//! Legal holds: what they cover stays, however old it is, until they are released.
//!
//! Invariant R9: a hold has no end of its own, and it covers whatever matches it, recorded before it or after. Placing
//! and releasing are entries; the set of holds in force is what follows from those entries, in order. Invariant R14: it covers
//! besides the emergency grants and alerts about whom and what it names, and the alerts about entries that it covers; where
//! nobody can tell whom an entry means, since it has a pseudonym under a key that the hold has none of, or names only some of
//! many, it is covered.

use super::SeqSet;
use crate::json::{Json, Object};
use crate::redact::{PREFIX, is_pseudonym, key_of};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::entry::{Body, Content, Facet, Kind};
use attestlog_proof::members::{Members, check_text, text};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

const MAX_VALUES: usize = 10_000;

/// What a hold covers: an entry that fits one value of each facet that is named, and whose seq lies in the ranges if
/// there are any. As in queries: OR within a facet, AND between facets.
///
/// The values are compared with what stands in the entries. Where ids are recorded as pseudonyms, name the pseudonyms;
/// several for one person (one per key) are simply several values.
///
/// ```
/// use attestlog::retention::HoldSelector;
/// let mut selector = HoldSelector::default();
/// selector.users.insert("usr_1".to_owned());
/// selector.tools.extend(["issue_refund".to_owned(), "charge_payment".to_owned()]);
/// assert!(HoldSelector::default().check().is_err()); // what names nothing is refused; say `everything`
/// # let _ = selector;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HoldSelector {
    /// Every entry, now and later; nothing else is named then.
    pub everything: bool,
    /// Entries of any of these conversations.
    pub conversations: BTreeSet<String>,
    /// Calls that any of these users started.
    pub users: BTreeSet<String>,
    /// Calls that concern any of these patients.
    pub patients: BTreeSet<String>,
    /// Calls of any of these tools, by their whole names.
    pub tools: BTreeSet<String>,
    /// Entries with these sequence numbers.
    pub seqs: SeqSet,
}

impl HoldSelector {
    /// A selector of every entry.
    pub fn everything() -> HoldSelector {
        HoldSelector { everything: true, ..HoldSelector::default() }
    }

    fn facets(&self) -> [(&'static str, &BTreeSet<String>); 4] {
        [
            ("conversations", &self.conversations),
            ("users", &self.users),
            ("patients", &self.patients),
            ("tools", &self.tools),
        ]
    }

    /// Refuses what selects nothing, or both everything and something.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] says which.
    pub fn check(&self) -> Result<()> {
        let named = self.facets().iter().any(|(_, values)| !values.is_empty()) || !self.seqs.is_empty();
        match (self.everything, named) {
            (false, false) => {
                return Err(Error::invalid("a hold must say what it covers; to hold every entry, say so explicitly"));
            }
            (true, true) => {
                return Err(Error::invalid("a hold on everything names no conversation, user, patient, tool or seq"));
            }
            _ => {}
        }
        for (name, values) in self.facets() {
            if values.len() > MAX_VALUES {
                return Err(Error::invalid(format!("{name}: more than {MAX_VALUES}; place several holds")));
            }
            values.iter().try_for_each(|value| check_text(name, value))?;
        }
        if self.seqs.ranges().len() > MAX_VALUES {
            return Err(Error::invalid(format!("seqs: more than {MAX_VALUES} ranges; place several holds")));
        }
        Ok(())
    }

    /// Whether the entry at `seq` fits.
    pub fn matches(&self, seq: u64, body: &Body) -> bool {
        self.matches_named(seq, body, &|_, _| Some(Vec::new()))
    }

    /// As [`HoldSelector::matches`], where holds name people by pseudonyms and entries may name them in clear: `aliases`
    /// gives the pseudonyms of a clear name. `None` says that they cannot be made; then the entry may be theirs, and it
    /// stays.
    fn matches_named(&self, seq: u64, body: &Body, aliases: &Aliases<'_>) -> bool {
        match (&body.content, About::of(body)) {
            (_, Some(about)) => self.matches_about(seq, &about, aliases),
            (Content::Call(call), None) => {
                let one = |wanted: &BTreeSet<String>, value: &String| wanted.is_empty() || wanted.contains(value);
                let named = |field, wanted: &BTreeSet<String>, value: &String| {
                    wanted.is_empty() || may_name(field, wanted, value, aliases)
                };
                self.everything
                    || self.has_seq(seq)
                        && one(&self.tools, &call.tool_name)
                        && named(Facet::Conversation, &self.conversations, &call.conversation_id)
                        && named(Facet::User, &self.users, &call.user_id)
                        && (self.patients.is_empty()
                            || call.patient_ids.iter().any(|p| may_name(Facet::Patient, &self.patients, p, aliases)))
            }
            // The store's other entries belong to no conversation, user, patient or tool.
            (Content::System(_), None) => self.everything || self.is_by_number() && self.seqs.contains(seq),
        }
    }

    /// Whether a grant or an alert is about what this selects: everything that both name agrees, and something does.
    fn matches_about(&self, seq: u64, about: &About, aliases: &Aliases<'_>) -> bool {
        if self.everything || self.is_by_number() {
            return self.everything || self.seqs.contains(seq);
        }
        let fields = [Facet::Conversation, Facet::User, Facet::Patient, Facet::Tool];
        let mut agrees = false;
        for (field, (_, wanted)) in fields.into_iter().zip(self.facets()).filter(|(_, (_, wanted))| !wanted.is_empty())
        {
            let Some((_, values)) = about.named.iter().find(|(named, _)| *named == field) else {
                agrees |= about.entries.len() > MANY;
                continue;
            };
            let meant = |value: &String| value.starts_with(DIGEST) || may_name(field, wanted, value, aliases);
            if values.len() < MANY && !values.iter().any(meant) {
                return false;
            }
            agrees = true;
        }
        agrees && self.has_seq(seq)
    }

    fn has_seq(&self, seq: u64) -> bool {
        self.seqs.is_empty() || self.seqs.contains(seq)
    }

    fn is_by_number(&self) -> bool {
        !self.everything && self.facets().iter().all(|(_, values)| values.is_empty())
    }

    fn to_json(&self) -> Json {
        let mut out = Object::new();
        if self.everything {
            out.insert("everything", true);
        }
        for (name, values) in self.facets().into_iter().filter(|(_, values)| !values.is_empty()) {
            out.insert(name, values.iter().cloned().collect::<Vec<String>>());
        }
        if !self.seqs.is_empty() {
            out.insert("seqs", self.seqs.to_json());
        }
        out.into()
    }

    fn from_json(value: &Json) -> Result<HoldSelector> {
        let mut members = Members::of(value)?;
        let selector = HoldSelector {
            everything: match members.optional("everything") {
                None => false,
                Some(Json::Bool(true)) => true,
                Some(_) => return Err(Error::invalid("everything: must be true, or absent")),
            },
            conversations: members.list("conversations", text)?.into_iter().collect(),
            users: members.list("users", text)?.into_iter().collect(),
            patients: members.list("patients", text)?.into_iter().collect(),
            tools: members.list("tools", text)?.into_iter().collect(),
            seqs: match members.optional("seqs") {
                None => SeqSet::new(),
                Some(seqs) => SeqSet::from_json(&seqs).map_err(|e| e.at("seqs"))?,
            },
        };
        members.end()?;
        Ok(selector)
    }
}

/// Alerts name no more values and entries than so many, and not which others there were.
pub(crate) const MANY: usize = 32;
/// What a value begins with in an alert where it is too long to stand there.
pub(crate) const DIGEST: &str = "sha256:";

/// Whether a name in an entry is one of those wanted, or may be: `wanted` has pseudonyms, and none can be compared with it.
fn may_name(field: Facet, wanted: &BTreeSet<String>, value: &str, aliases: &Aliases<'_>) -> bool {
    let has = |prefix: &str| {
        let mut rest = wanted.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        rest.next().is_some_and(|w| w.starts_with(prefix) && is_pseudonym(w))
    };
    if wanted.contains(value) {
        return true;
    }
    match key_of(value).filter(|_| is_pseudonym(value)) {
        Some(key) => has(PREFIX) && !has(&format!("{PREFIX}{key}_")),
        None => has(PREFIX) && aliases(field, value).is_none_or(|all| all.iter().any(|alias| wanted.contains(alias))),
    }
}

/// What an emergency grant or an alert is about.
#[derive(Debug)]
pub(super) struct About {
    /// Whom and what it names.
    named: Vec<(Facet, Vec<String>)>,
    /// The entries that it is about.
    pub(super) entries: BTreeSet<u64>,
}

impl About {
    /// `None` for all other entries.
    pub(super) fn of(body: &Body) -> Option<About> {
        let Content::System(own) = &body.content else { return None };
        let detail = own.detail.to_json();
        let key = detail.get("key").cloned().unwrap_or_default();
        let (place, fields): (&Json, &[Facet]) = match own.kind {
            Kind::BreakGlassOpened | Kind::BreakGlassClosed => (&detail, &[Facet::User, Facet::Patient]),
            Kind::Alert | Kind::AlertAck => (&key, &[Facet::User, Facet::Patient, Facet::Conversation, Facet::Tool]),
            _ => return None,
        };
        let values = |value: &Json| match value {
            Json::Array(items) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
            one => one.as_str().map(str::to_owned).into_iter().collect::<Vec<_>>(),
        };
        let named = fields.iter().filter_map(|field| Some((*field, values(place.get(field.as_str())?)))).collect();
        let listed = detail.get("entries").and_then(Json::as_array).unwrap_or_default();
        let one = ["alert", "grant", "crossing"].iter().filter_map(|member| detail.get(member));
        Some(About { named, entries: listed.iter().chain(one).filter_map(Json::as_u64).collect() })
    }
}

/// A hold to be placed, or one that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// The case that it is for.
    pub case: String,
    /// Why it is placed.
    pub reason: String,
    /// Who places it.
    pub actor: String,
    /// What it covers.
    pub selector: HoldSelector,
}

impl Hold {
    /// A hold on what `selector` covers.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: no case, reason or actor, or a selector that selects nothing.
    pub fn new(
        case: impl Into<String>,
        reason: impl Into<String>,
        actor: impl Into<String>,
        selector: HoldSelector,
    ) -> Result<Hold> {
        let hold = Hold { case: case.into(), reason: reason.into(), actor: actor.into(), selector };
        check_text("case", &hold.case)?;
        check_text("reason", &hold.reason)?;
        check_text("actor", &hold.actor)?;
        hold.selector.check()?;
        Ok(hold)
    }

    /// The detail of the `hold_placed` entry, whose seq is the hold's id.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        out.insert("actor", self.actor.as_str());
        out.insert("case", self.case.as_str());
        out.insert("reason", self.reason.as_str());
        out.insert("selector", self.selector.to_json());
        out.into()
    }

    /// Reads what [`Hold::to_json`] writes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or wrong.
    pub fn from_json(value: &Json) -> Result<Hold> {
        let mut members = Members::of(value)?;
        let (case, reason, actor) = (members.text("case")?, members.text("reason")?, members.text("actor")?);
        let selector = HoldSelector::from_json(&members.required("selector")?).map_err(|e| e.at("selector"))?;
        members.end()?;
        Hold::new(case, reason, actor, selector)
    }
}

/// The release of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldRelease {
    /// The hold: the seq of the entry that placed it.
    pub hold: u64,
    /// Why it is released.
    pub reason: String,
    /// Who releases it.
    pub actor: String,
}

impl HoldRelease {
    /// The release of the hold `hold`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: no reason or actor.
    pub fn new(hold: u64, reason: impl Into<String>, actor: impl Into<String>) -> Result<HoldRelease> {
        let release = HoldRelease { hold, reason: reason.into(), actor: actor.into() };
        check_text("reason", &release.reason)?;
        check_text("actor", &release.actor)?;
        Ok(release)
    }

    /// The detail of the `hold_released` entry.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        out.insert("actor", self.actor.as_str());
        out.insert("hold", self.hold);
        out.insert("reason", self.reason.as_str());
        out.into()
    }

    /// Reads what [`HoldRelease::to_json`] writes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or wrong.
    pub fn from_json(value: &Json) -> Result<HoldRelease> {
        let mut members = Members::of(value)?;
        let (hold, reason, actor) = (members.integer("hold")?, members.text("reason")?, members.text("actor")?);
        members.end()?;
        HoldRelease::new(hold, reason, actor)
    }
}

/// Ids of holds under a value that they name.
type Index = HashMap<String, Vec<u64>>;

/// The holds in force, ready to be asked about millions of entries.
///
/// Each hold is filed under the values of the one facet that is likely to fit fewest entries, so an entry is compared
/// only with holds that name one of its own values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holds {
    holds: BTreeMap<u64, Hold>,
    by_patient: Index,
    by_conversation: Index,
    by_user: Index,
    by_tool: Index,
    /// Those that name no facet (by seq only, or everything), and those that name somebody by pseudonym: the entries they
    /// cover may have the clear name.
    others: Vec<u64>,
}

/// The pseudonyms of a clear name; `None` where the keys for them are missing.
pub(crate) type Aliases<'a> = dyn Fn(Facet, &str) -> Option<Vec<String>> + 'a;

impl Holds {
    /// No hold.
    pub fn new() -> Holds {
        Holds::default()
    }

    /// Takes in the hold that the entry at `id` places.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where there is a hold of that id.
    pub fn place(&mut self, id: u64, hold: Hold) -> Result<()> {
        if self.holds.contains_key(&id) {
            return Err(Error::new(ErrorKind::Conflict, format!("hold {id} is in force already")));
        }
        match self.index_of(&hold.selector) {
            Some((index, values)) => values.into_iter().for_each(|value| index.entry(value).or_default().push(id)),
            None => self.others.push(id),
        }
        self.holds.insert(id, hold);
        Ok(())
    }

    /// Takes the hold out that is released; gives it back.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchEntry`] where no hold of that id is in force.
    pub fn release(&mut self, id: u64) -> Result<Hold> {
        let Some(hold) = self.holds.remove(&id) else {
            return Err(Error::new(ErrorKind::NoSuchEntry, format!("no hold {id} is in force")));
        };
        match self.index_of(&hold.selector) {
            Some((index, values)) => {
                for value in values {
                    if let Some(ids) = index.get_mut(&value) {
                        ids.retain(|i| *i != id);
                        if ids.is_empty() {
                            index.remove(&value);
                        }
                    }
                }
            }
            None => self.others.retain(|i| *i != id),
        }
        Ok(hold)
    }

    fn index_of(&mut self, selector: &HoldSelector) -> Option<(&mut Index, Vec<String>)> {
        let people = selector.users.iter().chain(&selector.patients).chain(&selector.conversations);
        if people.into_iter().any(|name| is_pseudonym(name)) {
            return None;
        }
        let (index, values) = match selector {
            s if !s.patients.is_empty() => (&mut self.by_patient, &s.patients),
            s if !s.conversations.is_empty() => (&mut self.by_conversation, &s.conversations),
            s if !s.users.is_empty() => (&mut self.by_user, &s.users),
            s if !s.tools.is_empty() => (&mut self.by_tool, &s.tools),
            _ => return None,
        };
        Some((index, values.iter().cloned().collect()))
    }

    /// The holds in force with their ids, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, &Hold)> {
        self.holds.iter().map(|(id, hold)| (*id, hold))
    }

    /// The hold of that id, if it is in force.
    pub fn get(&self, id: u64) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// The entries that holds keep by their numbers alone, of those before `end`: what can still be seen of an entry that
    /// is gone.
    pub(crate) fn by_number(&self, end: u64) -> SeqSet {
        let mut kept = SeqSet::new();
        for hold in self.holds.values() {
            let selector = &hold.selector;
            match selector.everything {
                true if end > 0 => kept.insert_range(0, end - 1),
                false if selector.is_by_number() => {
                    kept = kept.union(&selector.seqs);
                }
                _ => {}
            }
        }
        kept
    }

    /// Whether none is in force.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Whether any hold covers the entry at `seq`.
    ///
    /// Names are compared as they stand: where a hold names people by pseudonym and the entry in clear, that is left to
    /// the store, which has the keys.
    pub fn covers(&self, seq: u64, body: &Body) -> bool {
        self.candidates(body, |id| self.fits(id, seq, body, &|_, _| Some(Vec::new())))
    }

    /// The ids of all holds that cover the entry at `seq`, ascending.
    pub fn covering(&self, seq: u64, body: &Body) -> BTreeSet<u64> {
        self.covering_named(seq, body, &|_, _| Some(Vec::new()))
    }

    pub(crate) fn covering_named(&self, seq: u64, body: &Body, aliases: &Aliases<'_>) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        self.candidates(body, |id| {
            if self.fits(id, seq, body, aliases) {
                found.insert(id);
            }
            false
        });
        found
    }

    fn fits(&self, id: u64, seq: u64, body: &Body, aliases: &Aliases<'_>) -> bool {
        self.holds.get(&id).is_some_and(|hold| hold.selector.matches_named(seq, body, aliases))
    }

    /// Calls `found` with each hold that may cover the entry, until it says that this is enough.
    fn candidates(&self, body: &Body, mut found: impl FnMut(u64) -> bool) -> bool {
        if self.holds.is_empty() {
            return false;
        }
        if self.others.iter().any(|id| found(*id)) {
            return true;
        }
        let Content::Call(call) = &body.content else {
            // Grants and alerts are few.
            return self.holds.keys().any(|id| !self.others.contains(id) && found(*id));
        };
        let mut look = |index: &Index, value: &String| {
            !index.is_empty() && index.get(value).is_some_and(|ids| ids.iter().any(|id| found(*id)))
        };
        look(&self.by_conversation, &call.conversation_id)
            || look(&self.by_user, &call.user_id)
            || look(&self.by_tool, &call.tool_name)
            || (!self.by_patient.is_empty() && call.patient_ids.iter().any(|p| look(&self.by_patient, p)))
    }
}
