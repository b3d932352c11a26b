//! What a query asks for.

use crate::chain_state::ChainState;
use crate::policy::Policies;
use crate::redact::{Action, IdentityKind, PREFIX, domain, is_pseudonym, normal};
use crate::store::Snapshot;
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Entry, Facet, Kind, Outcome, Trigger};

/// Facets with the spellings of the values that are looked for.
pub(crate) type Facets = Vec<(Facet, Vec<String>)>;

/// What a query asks for: a builder. Values of one facet are alternatives, facets restrict each other; a query that
/// asks for nothing finds every entry, the store's own included.
///
/// Users, patients and conversations are named by their clear values, also where the store holds pseudonyms.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall};
/// use attestlog::Query;
/// # let log = AuditLog::in_memory()?;
/// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
/// let newest = Query::new().patient("P-1").tool("lookup").newest_first().limit(50);
/// for entry in log.query(&newest)? {
///     println!("{}", entry?.line());
/// }
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "a query does nothing until a log is asked with it"]
pub struct Query {
    pub(crate) facets: Vec<(Facet, Vec<String>)>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) after: Option<u64>,
    pub(crate) limit: Option<u64>,
    pub(crate) newest_first: bool,
    pub(crate) unfinished: bool,
    pub(crate) traces: Vec<String>,
}

impl Query {
    /// A query for everything, oldest first.
    pub fn new() -> Query {
        Query::default()
    }

    /// Entries with this value of a facet, or another one that was given for the same facet.
    pub fn facet(mut self, field: Facet, value: impl Into<String>) -> Query {
        match self.facets.iter_mut().find(|(f, _)| *f == field) {
            Some((_, values)) => values.push(value.into()),
            None => self.facets.push((field, vec![value.into()])),
        }
        self
    }

    /// Calls of this conversation.
    pub fn conversation(self, id: impl Into<String>) -> Query {
        self.facet(Facet::Conversation, id)
    }

    /// Calls that this user started.
    pub fn user(self, id: impl Into<String>) -> Query {
        self.facet(Facet::User, id)
    }

    /// Calls of this tool.
    pub fn tool(self, name: impl Into<String>) -> Query {
        self.facet(Facet::Tool, name)
    }

    /// Calls that concern this patient.
    pub fn patient(self, id: impl Into<String>) -> Query {
        self.facet(Facet::Patient, id)
    }

    /// Calls that this model decided on.
    pub fn model(self, name: impl Into<String>) -> Query {
        self.facet(Facet::Model, name)
    }

    /// Calls that ended like this.
    pub fn outcome(self, outcome: Outcome) -> Query {
        self.facet(Facet::Outcome, outcome.as_str())
    }

    /// Calls that failed, in whichever way.
    pub fn failed(self) -> Query {
        let failures = Outcome::ALL.iter().filter(|&&o| o != Outcome::Ok);
        failures.fold(self, |query, &outcome| query.outcome(outcome))
    }

    /// Calls that were set off like this.
    pub fn trigger(self, trigger: Trigger) -> Query {
        self.facet(Facet::Trigger, trigger.as_str())
    }

    /// Calls with this purpose of access.
    pub fn purpose(self, purpose: impl Into<String>) -> Query {
        self.facet(Facet::Purpose, purpose)
    }

    /// Calls that were made in an emergency.
    pub fn emergency(self) -> Query {
        self.facet(Facet::Emergency, "true")
    }

    /// Entries of this kind.
    pub fn kind(self, kind: Kind) -> Query {
        self.facet(Facet::Kind, kind.as_str())
    }

    /// Calls that were begun and have no end.
    pub fn unfinished(mut self) -> Query {
        self.unfinished = true;
        self.kind(Kind::CallBegun)
    }

    /// Only calls of this distributed trace, by its whole id (`session_metadata.trace_id`); several are alternatives. There is
    /// no index of them: every entry that the rest of the query finds is read.
    pub fn trace(mut self, id: impl Into<String>) -> Query {
        self.traces.push(id.into());
        self
    }

    /// Entries whose timestamp is at this time or later.
    pub fn since(mut self, from: Timestamp) -> Query {
        self.since = Some(from);
        self
    }

    /// Entries whose timestamp is before this time.
    pub fn until(mut self, to: Timestamp) -> Query {
        self.until = Some(to);
        self
    }

    /// At most this many entries.
    pub fn limit(mut self, entries: u64) -> Query {
        self.limit = Some(entries);
        self
    }

    /// The cursor: only what comes after the entry at this seq, in the order asked for.
    pub fn after(mut self, seq: u64) -> Query {
        self.after = Some(seq);
        self
    }

    /// The newest entry first, by seq.
    pub fn newest_first(mut self) -> Query {
        self.newest_first = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since > until => {
                Err(Error::invalid(format!("the time range is inverted: it begins at {since} and ends at {until}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the entry is of one of the traces that are asked for.
    pub(crate) fn is_traced(&self, entry: &Entry) -> bool {
        if self.traces.is_empty() {
            return true;
        }
        let metadata = entry.call().and_then(|call| call.session_metadata.as_ref()).map(|m| m.to_json());
        let trace = metadata.as_ref().and_then(|m| m.get("trace_id")?.as_str());
        trace.is_some_and(|trace| self.traces.iter().any(|id| id == trace))
    }

    /// The facets with every spelling under which the store may hold a value.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) where a value may stand in the store under a spelling that cannot be made here, since the keys
    /// for it are missing, or where it was masked: nothing found would read like *nobody accessed this patient*.
    pub(crate) fn resolved(
        &self,
        policies: &Policies,
        snapshot: &Snapshot,
        chain_state: &ChainState,
    ) -> Result<Facets> {
        let resolve = |(field, values): &(Facet, Vec<String>)| {
            let mut all = Vec::with_capacity(values.len());
            for value in values {
                policies.check_findable(*field, value, snapshot, chain_state)?;
                all.extend(policies.terms(*field, value));
            }
            all.sort_unstable();
            all.dedup();
            Ok((*field, all))
        };
        self.facets.iter().map(resolve).collect()
    }
}

impl Policies {
    /// Every spelling under which entries may have a value of a facet, as far as there are keys for them: what is looked
    /// for wherever a value is looked for.
    pub(crate) fn terms(&self, field: Facet, value: &str) -> Vec<String> {
        match &self.sanitizer {
            Some(sanitizer) => sanitizer.terms(field, value),
            None => vec![normal(value).into_owned()],
        }
    }

    /// Refuses to look for what may be there under a spelling that cannot be made here.
    ///
    /// # Errors
    /// As [`Query::resolved`].
    pub(crate) fn check_findable(
        &self,
        field: Facet,
        value: &str,
        snapshot: &Snapshot,
        chain_state: &ChainState,
    ) -> Result<()> {
        let Some(facet) = domain(field).filter(|_| !is_pseudonym(&normal(value))) else { return Ok(()) };
        let refused = |message: String| Err(Error::new(ErrorKind::Key, message));
        let here: Vec<&str> = self.sanitizer.iter().flat_map(|s| s.pseudonym_keys()).collect();
        let hidden = IdentityKind::from_name(facet)
            .is_some_and(|facet| self.sanitizer.is_none() && self.set.redaction.facet(facet) == Action::Pseudonymise);
        let mut missing = chain_state.pseudonym_keys.iter().filter(|id| !here.contains(&&***id));
        let stands = |id: &String| snapshot.any_term(field, &format!("{PREFIX}{id}_"));
        if hidden || missing.try_fold(false, |found, id| Ok::<_, Error>(found || stands(id)?))? {
            return refused(format!(
                "the store holds pseudonyms of every {facet}, or of some, and the key file that finds them is missing; \
                 bring it back"
            ));
        }
        match self.sanitizer.as_ref().is_some_and(|s| s.would_mask(field, &normal(value))) {
            true => refused(format!(
                "this {facet} looks like a secret, a card or an account number: a store without keys masks it, so nobody \
                 can tell whether it is there"
            )),
            false => Ok(()),
        }
    }
}
