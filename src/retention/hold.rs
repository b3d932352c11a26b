//! Legal holds: entries that a hold covers are kept, however old they are, until the hold is released.
//!
//! Invariant R9: a hold has no end of its own, and it covers every matching entry, recorded before it or after. Placing
//! and releasing a hold are entries; the set of holds in force is the result of these entries, in order. Invariant R14:
//! a hold also covers the emergency grants and alerts about the people and things that it names, and the alerts about
//! entries that it covers. If nobody can tell whom an entry is about, because it has a pseudonym under a key for which
//! the hold has none, or names only some of many values, it is covered.

use super::SeqSet;
use crate::json::{Json, Object};
use crate::redact::{PREFIX, is_pseudonym, key_of};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::entry::{Body, Content, Facet, Kind};
use attestlog_proof::members::{Members, check_text, text};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

const MAX_VALUES: usize = 10_000;

/// What a hold covers: every entry that matches one value of each facet that is named, and whose seq lies in the
/// ranges, if there are any. As in queries: OR within a facet, AND between facets.
///
/// The values are compared with those in the entries. If ids are recorded as pseudonyms, name the pseudonyms; several
/// for one person (one per key) are simply several values.
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
    /// Every present and future entry. Nothing else may be named then.
    pub everything: bool,
    /// Entries of any of these conversations.
    pub conversations: BTreeSet<String>,
    /// Calls on behalf of any of these users.
    pub users: BTreeSet<String>,
    /// Calls that concern any of these patients.
    pub patients: BTreeSet<String>,
    /// Calls of any of these tools, by their full names.
    pub tools: BTreeSet<String>,
    /// Entries with these sequence numbers.
    pub seqs: SeqSet,
}

attestlog_proof::json_form!(methods HoldSelector, Hold, HoldRelease);

impl HoldSelector {
    /// A selector for every entry.
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

    /// Refuses a selector that selects nothing, or that names both everything and something.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: the selector is one of these, a value is not valid, or there are more than 10,000
    /// values in one facet or ranges of seqs.
    pub fn check(&self) -> Result<()> {
        let named = self.facets().iter().any(|(_, values)| !values.is_empty()) || !self.seqs.is_empty();
        match (self.everything, named) {
            (false, false) => {
                return Err(Error::invalid(
                    "a hold must say what it covers; to hold every entry, say `everything` (`--everything`)",
                ));
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

    /// Whether the entry at `seq` matches.
    pub fn matches(&self, seq: u64, body: &Body) -> bool {
        self.matches_named(seq, body, &|_, _| Some(Vec::new()))
    }

    /// Like [`HoldSelector::matches`], for holds that name people by pseudonyms and entries that may name them in
    /// clear or under another key: `aliases` gives the pseudonyms of a name, or `None` if they cannot be computed. The entry may then
    /// be about the person, so it is kept.
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
            // Other entries of the store belong to no conversation, user, patient or tool.
            (Content::System(_), None) => self.everything || self.is_by_number() && self.seqs.contains(seq),
        }
    }

    /// Whether a grant or an alert is about what this selects: every facet that both name agrees, and at least one
    /// does.
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

/// An alert lists at most this many values and entries, and does not say which others there were.
pub(crate) const MANY: usize = 32;
/// The prefix of a value in an alert that replaces one too long to be listed.
pub(crate) const DIGEST: &str = "sha256:";

/// Whether a name in an entry is one of those wanted, or may be: `wanted` has pseudonyms, and none can be compared with
/// the name.
fn may_name(field: Facet, wanted: &BTreeSet<String>, value: &str, aliases: &Aliases<'_>) -> bool {
    let has = |prefix: &str| {
        let mut rest = wanted.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        rest.next().is_some_and(|w| w.starts_with(prefix) && is_pseudonym(w))
    };
    if wanted.contains(value) {
        return true;
    }
    let under = |key: &str| has(&format!("{PREFIX}{key}_"));
    match key_of(value).filter(|_| is_pseudonym(value)) {
        // A key that came after the hold: the same person's pseudonyms under the hold's keys tell.
        Some(key) => {
            has(PREFIX)
                && !under(key)
                && aliases(field, value).is_none_or(|all| {
                    let comparable = all.iter().filter_map(|alias| key_of(alias)).any(under);
                    !comparable || all.iter().any(|alias| wanted.contains(alias))
                })
        }
        None => has(PREFIX) && aliases(field, value).is_none_or(|all| all.iter().any(|alias| wanted.contains(alias))),
    }
}

/// What an emergency grant or an alert is about.
#[derive(Debug)]
pub(super) struct About {
    /// The people and things it names.
    named: Vec<(Facet, Vec<String>)>,
    /// The seqs of the entries that it is about.
    pub(super) entries: BTreeSet<u64>,
}

impl About {
    /// `None` for entries of other kinds.
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

/// A hold to be placed, or one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// The case for which it is placed.
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
    /// [`ErrorKind::InvalidInput`]: case, reason or actor is missing, or the selector is not valid.
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

    /// Parses the output of [`Hold::to_json`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or invalid.
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
    /// A release of the hold `hold`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: reason or actor is missing.
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

    /// Parses the output of [`HoldRelease::to_json`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or invalid.
    pub fn from_json(value: &Json) -> Result<HoldRelease> {
        let mut members = Members::of(value)?;
        let (hold, reason, actor) = (members.integer("hold")?, members.text("reason")?, members.text("actor")?);
        members.end()?;
        HoldRelease::new(hold, reason, actor)
    }
}

/// The ids of holds by a value that they name.
type Index = HashMap<String, Vec<u64>>;

/// The holds in force, indexed to be checked against millions of entries.
///
/// Each hold is indexed by the values of the one facet that is likely to match the fewest entries, so an entry is
/// compared only with holds that name one of its own values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holds {
    holds: BTreeMap<u64, Hold>,
    by_patient: Index,
    by_conversation: Index,
    by_user: Index,
    by_tool: Index,
    /// Holds that name no facet (only seqs, or everything), and holds that name somebody by pseudonym, because the
    /// entries they cover may have the clear name.
    others: Vec<u64>,
}

/// The pseudonyms of a clear name; `None` if the keys for them are missing.
pub(crate) type Aliases<'a> = dyn Fn(Facet, &str) -> Option<Vec<String>> + 'a;

impl Holds {
    /// A set without holds.
    pub fn new() -> Holds {
        Holds::default()
    }

    /// Adds the hold that the entry at `id` places.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`]: a hold with this id is already in force.
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

    /// Removes a released hold and returns it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchEntry`]: no hold with this id is in force.
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

    /// The hold with this id, if it is in force.
    pub fn get(&self, id: u64) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// The entries before `end` that holds keep by their seqs alone. This can still be decided for an entry that has
    /// been purged.
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

    /// Whether no hold is in force.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Whether any hold covers the entry at `seq`.
    ///
    /// Names are compared as they are recorded. If a hold names people by pseudonym and an entry names them in clear,
    /// only the store can decide, because it has the keys.
    pub fn covers(&self, seq: u64, body: &Body) -> bool {
        self.candidates(body, |id| self.fits(id, seq, body, &|_, _| Some(Vec::new())))
    }

    /// The ids of all holds that cover the entry at `seq`, in ascending order.
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

    /// Calls `found` with each hold that may cover the entry, until it returns true.
    fn candidates(&self, body: &Body, mut found: impl FnMut(u64) -> bool) -> bool {
        if self.holds.is_empty() {
            return false;
        }
        if self.others.iter().any(|id| found(*id)) {
            return true;
        }
        let Content::Call(call) = &body.content else {
            // Grants and alerts are few, so all holds are tried.
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
