//! What a report is about, and what the caller knows about the log behind it.

use super::clock::{WrongClock, WrongClocks};
use crate::text::shortened;
use crate::zone::Zone;
use attestlog::entry::CLAIMED_TIME_BOUND;
use attestlog::query::Persons;
use attestlog::verify::{Finding, Keyless, Restored};
use attestlog::{Call, Entry, Error, ErrorKind, Hash, Result, Timestamp};
use chrono::Months;
use std::collections::BTreeMap;
use std::time::Duration;

/// The subject of a report, by the id that is shown in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// All accesses to this patient's data.
    Patient(String),
    /// Everything that this user's agents accessed.
    User(String),
    /// The accounting of disclosures of this patient's data (45 CFR 164.528). Disclosures for treatment, payment or health
    /// care operations are left out, and so are calls that the tool refused or that failed and whose reply showed nothing
    /// but the error; both are counted. A call without a purpose, and one whose end is not known, stay in.
    Disclosures(String),
}

impl Subject {
    /// The id that the report shows.
    pub fn shown(&self) -> &str {
        match self {
            Subject::Patient(id) | Subject::User(id) | Subject::Disclosures(id) => id,
        }
    }

    pub(super) fn report_name(&self) -> &'static str {
        match self {
            Subject::Patient(_) => "access",
            Subject::User(_) => "user_activity",
            Subject::Disclosures(_) => "accounting_of_disclosures",
        }
    }

    pub(super) fn title(&self) -> &'static str {
        match self {
            Subject::Patient(_) => "Access report",
            Subject::User(_) => "User activity report",
            Subject::Disclosures(_) => "Accounting of disclosures",
        }
    }

    pub(super) fn noun(&self) -> &'static str {
        match self {
            Subject::Patient(_) | Subject::Disclosures(_) => "Patient",
            Subject::User(_) => "User",
        }
    }
}

/// Entries that were purged, by retention policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The number of entries.
    pub count: u64,
    /// Their retention class.
    pub class: String,
    /// The seq of the entry that records the purge.
    pub purge_seq: u64,
}

/// What a report is about, and what the caller knows about the log behind it.
///
/// A new context claims neither verification nor anchoring.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// The subject of the report.
    pub subject: Subject,
    /// The pseudonyms under which the log knows the subject, one for each live key id; empty if the log holds the id
    /// itself. The report shows them, so that its rows can be found in the log.
    pub recorded_as: Vec<String>,
    /// The beginning of the period (inclusive), if there is one.
    pub start: Option<Timestamp>,
    /// The end of the period (exclusive), if there is one.
    pub end: Option<Timestamp>,
    /// The time at which the report was made.
    pub generated_at: Option<Timestamp>,
    /// The log's name: its checkpoint origin.
    pub log: Option<String>,
    /// The log's public key, by which a reader knows that a proof is of this log.
    pub public_key: Option<String>,
    /// How many entries the log had.
    pub size: Option<u64>,
    /// The root of its Merkle tree at that size, which ties the report to a checkpoint.
    pub root: Option<Hash>,
    /// Whether the period is one of the log's clock: of the time when calls were recorded, which a log can prove, and not of the time
    /// that their callers state.
    pub by_log_clock: bool,
    /// The time zone in which times are shown to people; JSON, CSV and FHIR have UTC. Default: UTC.
    pub zone: Zone,
    /// Whether the log was verified for this report, over the whole period, without a finding.
    pub integrity_verified: bool,
    /// The number of findings of that verification, by kind. Empty if there were none, or no verification.
    pub findings: BTreeMap<String, u64>,
    /// The findings of that verification that somebody has settled; they are counted in `findings` too.
    pub settled: Vec<Finding>,
    /// The kinds of findings of an earlier verification that nobody has settled, as the log's own machine noted them.
    pub unsettled: Vec<String>,
    /// Whether the log was compared with anything that is kept outside it.
    pub compared: bool,
    /// Whether something kept outside the log confirms its contents.
    pub anchored: bool,
    /// The number of entries, from the first, that this confirmation covers.
    pub anchored_size: u64,
    /// The first entry that somebody with the log and its key could have rewritten unnoticed
    /// ([`Verification::rewritable_from`](attestlog::verify::Verification::rewritable_from)).
    pub rewritable_from: u64,
    /// How far an access's stated time may be from its recording time before its row is marked. Default: an hour
    /// ([`CLAIMED_TIME_BOUND`]).
    pub claimed_time_bound: Duration,
    /// The times at which the log was restored from an older copy: what was recorded after the copy was made is not in
    /// the report.
    pub restored: Vec<Restored>,
    /// The parts of the log that were recorded without the store's key.
    pub recorded_without_key: Vec<Keyless>,
    /// Which users' names belong to the same person.
    pub users: Persons,
    /// Which patients' names belong to the same person.
    pub patients: Persons,
    /// Purged entries that could have belonged in the report.
    pub purged: Vec<Purged>,
    /// Set if no entry of the log has the subject, with similar values; `None` if an entry has it, or nobody checked.
    /// If set, the report says that nothing is known, not that nothing happened.
    pub unknown: Option<Vec<String>>,
    /// Whether the log stores such names as pseudonyms, so that it may have similar names that nobody can see.
    pub may_have_others: bool,
    /// The entries that may have been recorded while the system clock was wrong.
    pub(super) wrong_clocks: Vec<WrongClock>,
    /// The emergency grants, if the caller provided them.
    pub(super) grants: Option<super::grants::Grants>,
    /// Names of members whose values identify a record and are shown; a leading `*` matches any beginning. The log may
    /// keep other members of a result (a status, a count); of these a report shows only the name.
    pub record_ids: Vec<String>,
}

impl Context {
    /// A report about `subject` without a period, from a log about which nothing is known.
    pub fn new(subject: Subject) -> Context {
        let normal = |id: String| attestlog::redact::normal(&id).into_owned();
        Context {
            subject: match subject {
                Subject::Patient(id) => Subject::Patient(normal(id)),
                Subject::User(id) => Subject::User(normal(id)),
                Subject::Disclosures(id) => Subject::Disclosures(normal(id)),
            },
            recorded_as: Vec::new(),
            start: None,
            end: None,
            generated_at: None,
            log: None,
            public_key: None,
            size: None,
            root: None,
            by_log_clock: false,
            zone: Zone::default(),
            integrity_verified: false,
            findings: BTreeMap::new(),
            settled: Vec::new(),
            unsettled: Vec::new(),
            compared: false,
            anchored: false,
            anchored_size: 0,
            rewritable_from: 0,
            claimed_time_bound: CLAIMED_TIME_BOUND,
            restored: Vec::new(),
            recorded_without_key: Vec::new(),
            users: Persons::default(),
            patients: Persons::default(),
            purged: Vec::new(),
            unknown: None,
            may_have_others: false,
            wrong_clocks: Vec::new(),
            grants: None,
            record_ids: ["id", "*_id", "*_ids", "*Id", "*ID", "uuid", "mrn"].map(str::to_owned).to_vec(),
        }
    }

    /// The sentence about integrity, followed by one for each time that the log was restored from an older copy or
    /// written without its key, and one about earlier findings that nobody has settled.
    pub(crate) fn with_restored(&self, sentence: &str) -> String {
        let all = self.restored.iter().map(|r| format!(" The log was {}.", shortened(&r.to_string(), 600)));
        let keyless = self.recorded_without_key.iter().map(|k| format!(" A part of the log was {k}."));
        let unsettled = (!self.unsettled.is_empty()).then(|| {
            let kinds = self.unsettled.join(", ");
            format!(" A verification before found something wrong with the log ({kinds}), and nobody has settled that.")
        });
        all.chain(keyless).chain(unsettled).fold(sentence.to_owned(), |sentence, more| sentence + &more)
    }

    /// The findings of the verification in words: `2 findings (1 entry_changed, 1 index_row_changed)`.
    pub(crate) fn findings_text(&self) -> String {
        let all: u64 = self.findings.values().sum();
        let kinds: Vec<String> = self.findings.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{all} {} ({})", if all == 1 { "finding" } else { "findings" }, kinds.join(", "))
    }

    /// Whether the verification found something, and somebody has settled all of it.
    pub(crate) fn is_settled(&self) -> bool {
        let all: u64 = self.findings.values().sum();
        all > 0 && self.settled.len() as u64 == all
    }

    /// The findings of the verification in words, and which of them are settled.
    pub(crate) fn findings_and_settled(&self) -> String {
        match self.settled_text() {
            none if none.is_empty() => self.findings_text(),
            settled => format!("{}. Settled of these: {settled}", self.findings_text()),
        }
    }

    /// The settled findings, each with who settled it; of many only the first. Empty if there are none.
    pub(crate) fn settled_text(&self) -> String {
        const SHOWN: usize = 20;
        let mut all: Vec<String> = Vec::new();
        for finding in self.settled.iter().take(SHOWN) {
            let Some(settled) = &finding.settled else { continue };
            all.push(shortened(&format!("{finding} ({settled})"), 600));
        }
        if let Some(more) = self.settled.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            all.push(format!("{more} more"));
        }
        all.join("; ")
    }

    /// Sets the period: from `start` (inclusive) to `end` (exclusive).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](attestlog::ErrorKind::InvalidInput) if it ends before it starts.
    pub fn period(mut self, start: Option<Timestamp>, end: Option<Timestamp>) -> Result<Context> {
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the period ends ({end}) before it starts ({start})"),
            ));
        }
        (self.start, self.end) = (start, end);
        Ok(self)
    }

    /// Sets the period to the six calendar years before `end`, as for an accounting of disclosures.
    pub fn six_years_before(mut self, end: Timestamp) -> Context {
        let start = end.to_datetime().checked_sub_months(Months::new(72)).and_then(|t| t.try_into().ok());
        (self.start, self.end) = (start, Some(end));
        self
    }

    /// Sets the time at which the report is made.
    pub fn made_at(mut self, now: Timestamp) -> Context {
        self.generated_at = Some(now);
        self
    }

    /// Whether an access belongs in the report: if the period covers the time that its caller states or, for a time that
    /// gets marked, the time of its recording. So stating another time keeps nothing out of a report. An imported call was
    /// recorded long after it happened, and only its own time counts. An access that may have been recorded while the clock
    /// was wrong belongs to each period in which it may have been recorded, and to its own. In a period of the log's clock only
    /// the time of its recording counts.
    pub(super) fn includes(&self, entry: &Entry, call: &Call) -> bool {
        if self.by_log_clock {
            return self.covers(entry.body.recorded_at);
        }
        let marked = !call.is_from_recording() && entry.claimed_time(self.claimed_time_bound).is_some();
        let may_be = |clock: &WrongClock| clock.may_be_in(entry.body.recorded_at, self.start, self.end);
        self.covers(call.timestamp)
            || marked && self.covers(entry.body.recorded_at)
            || !call.is_from_recording() && self.by_wrong_clock(entry.seq).is_some_and(may_be)
    }

    /// Adds the entries that may have been recorded while the system clock was wrong.
    pub fn wrong_clocks(mut self, clocks: WrongClocks) -> Context {
        self.wrong_clocks = clocks.finish();
        self
    }

    /// The range of wrong time that covers the entry at `seq`, if one does.
    pub(super) fn by_wrong_clock(&self, seq: u64) -> Option<&WrongClock> {
        self.wrong_clocks.iter().find(|clock| clock.has(seq))
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at < end)
    }

    /// Whether an id in the log is the subject's.
    pub(crate) fn is_subject(&self, id: &str) -> bool {
        id == self.subject.shown() || self.recorded_as.iter().any(|r| r == id)
    }

    /// Whether the last name in a path like `orders[].order_id` is that of an identifying member.
    pub(super) fn identifies(&self, path: &str) -> bool {
        let name = path.rsplit('.').next().unwrap_or(path);
        self.record_ids.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => name.len() > end.len() && name.ends_with(end),
            None => name == pattern,
        })
    }

    /// The period in words.
    pub(super) fn period_text(&self) -> String {
        let clock = if self.by_log_clock { "recorded " } else { "" };
        let moment = |t| self.zone.moment_named(t);
        match (self.start, self.end) {
            (None, None) => "everything in the log".to_owned(),
            (Some(start), None) => format!("{clock}from {}", moment(start)),
            (None, Some(end)) => format!("{clock}before {}", moment(end)),
            (Some(start), Some(end)) => format!("{clock}from {} to before {}", moment(start), moment(end)),
        }
    }
}
