//! The facet values that occur in a log.

use super::AuditLog;
use crate::query::{Persons, UnknownValue};
use crate::{Facet, Query, Result, requests};

/// The facet values of a log: see [`AuditLog::values`].
#[derive(Debug)]
pub struct Values<'l>(&'l AuditLog);

impl AuditLog {
    /// The values that occur for each facet: whether a value is known, which values look like it, and whose pseudonym it is.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// log.record(attestlog::ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// assert_eq!(log.values().matching(attestlog::Facet::Tool, "look*")?, ["lookup"]);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn values(&self) -> Values<'_> {
        Values(self)
    }
}

impl Values<'_> {
    /// Which pseudonyms of this log's users or patients are known to belong to whom, using the available keys.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry
    /// or row that was read is damaged; [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("c", "usr_1", "lookup"))?;
    /// assert_eq!(log.values().persons(Facet::User)?.count(["usr_1", "usr_1"]), (1, false));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn persons(&self, facet: Facet) -> Result<Persons> {
        self.0.ask(requests::GetPersons { facet })
    }

    /// Of the values that `query` names, those that no entry of the log has. Values that occurred only in purged entries are
    /// unknown too. Returns no values if the store was opened with [damage](AuditLog::damage), since entries that cannot be read
    /// may have them.
    ///
    /// An empty result looks the same for somebody whose data nobody accessed as for a typing error; this method tells the two
    /// apart. Kinds, outcomes, triggers and emergency, which have fixed values, are not checked.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-00042"))?;
    /// let unknown = log.values().unknown(&Query::new().patient("p-0042"))?;
    /// assert_eq!(unknown[0].similar, ["P-00042"]);
    /// assert!(log.values().unknown(&Query::new().patient("P-00042"))?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    pub fn unknown(&self, query: &Query) -> Result<Vec<UnknownValue>> {
        self.0.ask(requests::UnknownValues { query: query.clone() })
    }

    /// The values of a facet that match a pattern in which `*` stands for any characters and `?` for one, sorted; only the pattern
    /// itself if an entry has exactly that value.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the pattern is too long, matches more than 10,000 values, or the policy
    /// keeps values of this facet as pseudonyms, which no pattern can match.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
    /// assert_eq!(log.values().matching(Facet::Patient, "P-*")?, ["P-1"]);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn matching(&self, facet: Facet, pattern: &str) -> Result<Vec<String>> {
        self.0.ask(requests::ValuesMatching { facet, pattern: pattern.to_owned() })
    }

    /// The values of a facet that look like `value` but differ from it, at most 20: with letters of another script (`Р-1` in
    /// Cyrillic letters and `P-1`), wide or mathematical letters, another case or other separators (`p_1`). A query for one does
    /// not find the other. Values stored as pseudonyms cannot be compared; entries with such look-alikes say so in `treated`.
    ///
    /// Reads all values of the facet.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry
    /// or row that was read is damaged; [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("c", "u", "lookup").patient("Р-1"))?; // a Cyrillic letter
    /// assert_eq!(log.values().look_alikes(Facet::Patient, "P-1")?, ["Р-1"]);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn look_alikes(&self, facet: Facet, value: &str) -> Result<Vec<String>> {
        self.0.ask(requests::LookAlikes { facet, value: value.to_owned() })
    }

    /// Every spelling under which the log may hold this value, as far as this handle can tell: the value itself, and its
    /// pseudonyms under every key.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet};
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.values().spellings(Facet::User, "usr_1")?.contains(&"usr_1".to_owned()));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn spellings(&self, facet: Facet, value: &str) -> Result<Vec<String>> {
        self.0.ask(requests::Spellings { facet, value: value.to_owned() })
    }
}
