//! The content of a purge's entry.

use crate::json::{Json, Object};
use crate::members::{Members, check_text};
use crate::seqs::SeqSet;
use crate::{Error, Hash, Result, Timestamp};
use std::collections::BTreeMap;

/// The content of a purge's entry: enough to judge the purge after the purged entries are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRecord {
    /// Who purged.
    pub actor: String,
    /// The expiry clock at the time of the purge: no purged entry was to be kept longer.
    pub cut_off: Timestamp,
    /// The seq of the entry that set the policy in force.
    pub policy: u64,
    /// How many entries of each class were purged.
    pub classes: BTreeMap<String, u64>,
    /// How many entries were purged.
    pub count: u64,
    /// How many expired entries were kept because of holds.
    pub kept_by_hold: u64,
    /// The digest of the set of purged sequence numbers ([`SeqSet::digest`]).
    pub seqs: Hash,
}

crate::json_form!(methods PurgeRecord);

impl PurgeRecord {
    /// Returns the record if its values are valid.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): no actor, or classes that do not add up to the count.
    pub fn checked(self) -> Result<PurgeRecord> {
        check_text("actor", &self.actor)?;
        let sum = self.classes.values().try_fold(0u64, |sum, n| sum.checked_add(*n));
        if sum != Some(self.count) {
            return Err(Error::invalid("classes: they do not add up to the count"));
        }
        Ok(self)
    }

    /// Whether `seqs` is the set that was purged.
    pub fn is_of(&self, seqs: &SeqSet) -> bool {
        seqs.len() == self.count && seqs.digest() == self.seqs
    }

    /// The record in the detail of the entry with this seq, if it is written as [`PurgeRecord::to_json`] writes it and `set` is what
    /// that purge took.
    pub fn took(detail: &Json, seq: u64, set: &SeqSet) -> Option<PurgeRecord> {
        let record = PurgeRecord::from_json(detail).ok()?;
        let before = set.bounds().is_none_or(|(_, last)| last < seq);
        (before && record.is_of(set) && record.to_json() == *detail).then_some(record)
    }

    /// The detail of the `purge` entry.
    pub fn to_json(&self) -> Json {
        let classes: Object = self.classes.iter().map(|(class, n)| (class.as_str(), *n)).collect();
        let mut out = Object::new();
        out.insert("actor", self.actor.as_str());
        out.insert("classes", classes);
        out.insert("count", self.count);
        out.insert("cut_off", self.cut_off.to_string());
        out.insert("kept_by_hold", self.kept_by_hold);
        out.insert("policy", self.policy);
        out.insert("seqs", self.seqs.to_string());
        out.into()
    }

    /// Reads what [`PurgeRecord::to_json`] writes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) names the member that is missing, unknown or wrong.
    pub fn from_json(value: &Json) -> Result<PurgeRecord> {
        let mut members = Members::of(value)?;
        let Json::Object(classes) = members.required("classes")? else {
            return Err(Error::invalid("classes: must be an object"));
        };
        let count_of = |(class, n): (String, Json)| {
            let n = n.as_u64().ok_or_else(|| Error::invalid(format!("classes.{class}: must be a count")))?;
            Ok((class, n))
        };
        let record = PurgeRecord {
            actor: members.text("actor")?,
            cut_off: members.time("cut_off")?,
            policy: members.integer("policy")?,
            classes: classes.into_iter().map(count_of).collect::<Result<_>>()?,
            count: members.integer("count")?,
            kept_by_hold: members.integer("kept_by_hold")?,
            seqs: members.hash("seqs")?,
        };
        members.end()?;
        record.checked()
    }
}
