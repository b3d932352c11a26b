//! [`Query`]: which entries to find, and the spellings under which the store may hold their values.

use super::condition::Conditions;
use crate::chain_state::ChainState;
use crate::json::{Json, Object};
use crate::policy::Policies;
use crate::redact::{Action, IdentityKind, PREFIX, domain, is_pseudonym};
use crate::store::Snapshot;
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Facet, Kind, Outcome, Trigger};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use attestlog_proof::names::normal_of;
use std::collections::BTreeMap;
use std::time::Duration;

/// Facets, each with all spellings of the values to look for.
pub(crate) type Facets = Vec<(Facet, Vec<String>)>;

/// Describes which entries to find; a builder. Values of one facet are alternatives; different facets narrow the
/// result. An empty query finds every entry, system events included.
///
/// Users, patients and conversations are named by their clear values, even if the store holds pseudonyms.
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
    pub(crate) facets: BTreeMap<Facet, Vec<String>>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) after: Option<u64>,
    pub(crate) limit: Option<u64>,
    pub(crate) newest_first: bool,
    pub(crate) unfinished: bool,
    pub(crate) conditions: Conditions,
}

impl Query {
    /// A query for everything, oldest first.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// assert_eq!(log.count(&Query::new())?, log.size()?, "system events included");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn new() -> Query {
        Query::default()
    }

    /// Adds a value of a facet: entries with this value, or with another value given for the same facet.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// let either = Query::new().facet(Facet::Tool, "lookup").facet(Facet::Tool, "search");
    /// assert_eq!(log.count(&either)?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn facet(mut self, field: Facet, value: impl Into<String>) -> Query {
        self.facets.entry(field).or_default().push(value.into());
        self
    }

    /// Calls of this conversation.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// assert_eq!(log.count(&Query::new().conversation("conv_1"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn conversation(self, id: impl Into<String>) -> Query {
        self.facet(Facet::Conversation, id)
    }

    /// Calls that this user started.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// assert_eq!(log.count(&Query::new().user("usr_1"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn user(self, id: impl Into<String>) -> Query {
        self.facet(Facet::User, id)
    }

    /// Calls of this tool.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// assert_eq!(log.count(&Query::new().user("usr_1").tool("search"))?, 0, "both must fit");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn tool(self, name: impl Into<String>) -> Query {
        self.facet(Facet::Tool, name)
    }

    /// Calls that concern this patient.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// assert_eq!(log.count(&Query::new().patient("P-1").patient("P-2"))?, 1, "either fits");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn patient(self, id: impl Into<String>) -> Query {
        self.facet(Facet::Patient, id)
    }

    /// Calls that this model decided on.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").model("gpt-4.1"))?;
    /// assert_eq!(log.count(&Query::new().model("gpt-4.1"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn model(self, name: impl Into<String>) -> Query {
        self.facet(Facet::Model, name)
    }

    /// Calls with this outcome.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Outcome, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").outcome(Outcome::Denied))?;
    /// assert_eq!(log.count(&Query::new().outcome(Outcome::Denied))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn outcome(self, outcome: Outcome) -> Query {
        self.facet(Facet::Outcome, outcome.as_str())
    }

    /// Calls that failed in any way.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").error("no such order"))?;
    /// assert_eq!(log.count(&Query::new().failed())?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn failed(self) -> Query {
        let failures = Outcome::ALL.iter().filter(|&&o| o != Outcome::Ok);
        failures.fold(self, |query, &outcome| query.outcome(outcome))
    }

    /// Calls with this trigger.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall, Trigger};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").trigger(Trigger::System))?;
    /// assert_eq!(log.count(&Query::new().trigger(Trigger::System))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn trigger(self, trigger: Trigger) -> Query {
        self.facet(Facet::Trigger, trigger.as_str())
    }

    /// Calls with this purpose of access.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").purpose("TREAT"))?;
    /// assert_eq!(log.count(&Query::new().purpose("TREAT"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn purpose(self, purpose: impl Into<String>) -> Query {
        self.facet(Facet::Purpose, purpose)
    }

    /// Calls that were made in an emergency.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "read_chart").patient("P-1").emergency(None))?;
    /// assert_eq!(log.count(&Query::new().emergency())?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn emergency(self) -> Query {
        self.facet(Facet::Emergency, "true")
    }

    /// Entries of this kind.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Kind, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// assert_eq!(log.count(&Query::new().kind(Kind::Genesis))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn kind(self, kind: Kind) -> Query {
        self.facet(Facet::Kind, kind.as_str())
    }

    /// Calls that were begun and not finished.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// assert_eq!(log.count(&Query::new().unfinished())?, 1);
    /// begun.finish(|call| call.result(true))?;
    /// assert_eq!(log.count(&Query::new().unfinished())?, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn unfinished(mut self) -> Query {
        self.unfinished = true;
        self.kind(Kind::CallBegun)
    }

    /// Calls of this distributed trace, by its whole id (`trace_id`).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").trace(trace, Some("00f067aa0ba902b7")))?;
    /// assert_eq!(log.count(&Query::new().trace(trace.to_uppercase()))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn trace(self, id: impl Into<String>) -> Query {
        self.facet(Facet::Trace, id)
    }

    /// Calls that read or changed this resource: a path, a table, an address, by its whole name.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "Edit").resource("file", "/etc/hosts"))?;
    /// assert_eq!(log.count(&Query::new().resource("/etc/hosts"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn resource(self, name: impl Into<String>) -> Query {
        self.facet(Facet::Resource, name)
    }

    /// Calls that a process recorded which runs this program (`peer.program`).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// assert_eq!(log.count(&Query::new().peer("/usr/bin/node"))?, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn peer(self, program: impl Into<String>) -> Query {
        self.facet(Facet::Peer, program)
    }

    /// Calls that failed in this way: with an error of this type, or, if their error has none, with this outcome. A further one is
    /// an alternative. Each entry that the facets leave is read.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").error("no such order"))?;
    /// assert_eq!(log.count(&Query::new().error("tool_error").error("Busy"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn error(mut self, how: impl Into<String>) -> Query {
        self.conditions.errors.push(how.into());
        self
    }

    /// Calls that took longer than this. Each entry that the facets leave is read.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # use std::time::Duration;
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").duration(Duration::from_secs(2)))?;
    /// assert_eq!(log.count(&Query::new().slower_than(Duration::from_millis(1999)))?, 1);
    /// assert_eq!(log.count(&Query::new().slower_than(Duration::from_secs(2)))?, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn slower_than(mut self, least: Duration) -> Query {
        self.conditions.slower_than = Some(least);
        self
    }

    /// Entries that have this text in their arguments, result, error or session metadata, as the store holds them: what a policy
    /// hides cannot be found, and of a result only the summary is there. Capital and small ASCII letters are the same; text is found
    /// as it was given and as it stands in JSON. Each entry that the facets leave is read.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").error("no such \"order\""))?;
    /// assert_eq!(log.count(&Query::new().containing("Such \"ORDER"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn containing(mut self, text: impl Into<String>) -> Query {
        self.conditions.containing = Some(text.into());
        self
    }

    /// Entries whose timestamp is at this time or later.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, Timestamp, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// let day: Timestamp = "2025-07-06T00:00:00Z".parse()?;
    /// assert_eq!(log.count(&Query::new().user("usr_1").since(day))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn since(mut self, from: Timestamp) -> Query {
        self.since = Some(from);
        self
    }

    /// Entries whose timestamp is before this time.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, Timestamp, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// let day: Timestamp = "2025-07-06T00:00:00Z".parse()?;
    /// assert_eq!(log.count(&Query::new().user("usr_1").until(day))?, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn until(mut self, to: Timestamp) -> Query {
        self.until = Some(to);
        self
    }

    /// At most this many entries.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// assert_eq!(log.query(&Query::new().limit(2))?.count(), 2);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn limit(mut self, entries: u64) -> Query {
        self.limit = Some(entries);
        self
    }

    /// The cursor: only entries after the one with this seq, in the order of the query.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// let page = Query::new().limit(2);
    /// let last = log.query(&page)?.last().unwrap()?;
    /// assert_eq!(log.query(&page.after(last.seq))?.next().unwrap()?.seq, last.seq + 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn after(mut self, seq: u64) -> Query {
        self.after = Some(seq);
        self
    }

    /// The newest entry first, by seq.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1").result(true))?;
    /// let newest = log.query(&Query::new().newest_first())?.next().unwrap()?;
    /// assert_eq!(newest.seq + 1, log.size()?);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn newest_first(mut self) -> Query {
        self.newest_first = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_range(self.since, self.until)?;
        self.conditions.check()
    }

    /// The facets with every spelling under which the store may hold a value.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) if the store may hold a value under a spelling that cannot be made here, because keys
    /// for it are missing or because it was masked: an empty result would read like *nobody accessed this patient*.
    pub(crate) fn resolved(
        &self,
        policies: &Policies,
        snapshot: &Snapshot,
        chain_state: &ChainState,
    ) -> Result<Facets> {
        let resolve = |(field, values): (&Facet, &Vec<String>)| {
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

/// Fails if a time range ends before it begins.
pub(super) fn check_range(since: Option<Timestamp>, until: Option<Timestamp>) -> Result<()> {
    match (since, until) {
        (Some(since), Some(until)) if since > until => {
            Err(Error::invalid(format!("the time range is inverted: it begins at {since} and ends at {until}")))
        }
        _ => Ok(()),
    }
}

impl Form for Query {
    /// `{"facets":{"patient":["P-1"]},"since","until","after","limit","newest_first":true,"unfinished":true,"errors":["Busy"],
    /// "slower_than":NANOSECONDS,"containing":"text"}`, without the members that ask for nothing.
    fn form(&self) -> Json {
        let yes = |yes: bool| yes.then_some(Json::Bool(true));
        let members = [
            ("facets", (!self.facets.is_empty()).then(|| self.facets.form())),
            ("since", self.since.map(|t| t.form())),
            ("until", self.until.map(|t| t.form())),
            ("after", self.after.map(Json::from)),
            ("limit", self.limit.map(Json::from)),
            ("newest_first", yes(self.newest_first)),
            ("unfinished", yes(self.unfinished)),
            ("errors", (!self.conditions.errors.is_empty()).then(|| self.conditions.errors.form())),
            ("slower_than", self.conditions.slower_than.map(|least| least.form())),
            ("containing", self.conditions.containing.as_deref().map(Json::from)),
        ];
        Json::Object(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect::<Object>())
    }

    fn read(value: &Json) -> Result<Query> {
        let mut members = Members::of(value)?;
        let query = Query {
            facets: member::<Option<_>>(&mut members, "facets")?.unwrap_or_default(),
            since: member(&mut members, "since")?,
            until: member(&mut members, "until")?,
            after: member(&mut members, "after")?,
            limit: member(&mut members, "limit")?,
            newest_first: member::<Option<_>>(&mut members, "newest_first")?.unwrap_or_default(),
            unfinished: member::<Option<_>>(&mut members, "unfinished")?.unwrap_or_default(),
            conditions: Conditions {
                errors: member::<Option<_>>(&mut members, "errors")?.unwrap_or_default(),
                slower_than: member(&mut members, "slower_than")?,
                containing: member(&mut members, "containing")?,
            },
        };
        members.end()?;
        if let Some((facet, _)) = query.facets.iter().find(|(_, values)| values.is_empty()) {
            return Err(Error::invalid(format!("facets.{facet}: must have a value, or be left out")));
        }
        let begun =
            query.facets.get(&Facet::Kind).is_some_and(|kinds| kinds.iter().any(|k| k == Kind::CallBegun.as_str()));
        if query.unfinished && !begun {
            return Err(Error::invalid("unfinished: facets.kind must have call_begun, since other calls are finished"));
        }
        query.check()?;
        Ok(query)
    }
}

attestlog_proof::json_form!(own Query);

impl Policies {
    /// Every spelling under which entries may have a value of a facet, as far as the keys for it are available. Every
    /// search for a value uses this.
    pub(crate) fn terms(&self, field: Facet, value: &str) -> Vec<String> {
        match &self.sanitizer {
            Some(sanitizer) => sanitizer.terms(field, value),
            None => vec![normal_of(field, value).into_owned()],
        }
    }

    /// Refuses to look for a value that may be stored under a spelling that cannot be made here.
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
        let Some(facet) = domain(field).filter(|_| !is_pseudonym(&normal_of(field, value))) else { return Ok(()) };
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
        match self.sanitizer.as_ref().is_some_and(|s| s.would_mask(field, &normal_of(field, value))) {
            true => refused(format!(
                "this {facet} looks like a secret, a card or an account number: a store without keys masks it, so nobody \
                 can tell whether it is there"
            )),
            false => Ok(()),
        }
    }
}
