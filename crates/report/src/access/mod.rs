//! The access report: who accessed a patient's data, when, through which model and agent, with which tool, what was
//! viewed and why. The same for everything that one user's agents accessed, and as an accounting of disclosures.
//!
//! Invariant A1: an attempt is an access. A call that failed, was refused or never ended has a row like any other,
//! which says so. An accounting of disclosures leaves out a failed call only if its reply showed nothing but the error.
//! Invariant A2: a call recorded in two steps is one row, together with late answers and entries for further patients.
//! Invariant A3: rows hold names of fields and ids of records. Arguments, results and error messages are never
//! included; and a report about one patient names no other.
//! Invariant A4: every format states whether the log was verified and whether anything outside the log confirms it,
//! even for a report without accesses.

mod clock;
mod context;
mod csv;
mod grants;
mod html;
mod row;
mod text;

pub use clock::WrongClocks;
pub use context::{Context, Purged, Subject};
pub use row::{Access, Viewed};
pub use text::TextStyle;

use super::purpose;
use attestlog::emergency::GrantState;
use attestlog::entry::ClaimedTime;
use attestlog::json::{Json, Object};
use attestlog::query::{Calls, Part};
use attestlog::verify::{Finding, Keyless, Restored};
use attestlog::{Entry, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// The accesses to one patient's data (or by one user), and how reliable the log behind them is.
///
/// ```
/// use attestlog_report::access::{AccessReport, Context, Subject};
/// let context = Context::new(Subject::Patient("P-1".to_owned()));
/// let report = AccessReport::of(context, []);
/// let json = report.to_json();
/// assert_eq!(json.get("total_accesses").unwrap().as_u64(), Some(0));
/// assert_eq!(json.get("anchored").unwrap().as_bool(), Some(false));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AccessReport {
    context: Context,
    rows: Vec<Access>,
    totals: Totals,
    tallies: Vec<Tally>,
}

/// The most purposes that are listed one by one for a human reader.
const MAX_PURPOSES: usize = 12;

/// The totals of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Number of rows.
    pub accesses: u64,
    /// Number of distinct users.
    pub users: u64,
    /// Whether some of the users (in a report about a user, of the patients) may be one person: under several
    /// pseudonyms, or under a pseudonym and a clear name.
    pub persons_may_repeat: bool,
    /// Number of distinct patients; counted only in a report about a user.
    pub patients: u64,
    /// Accesses with any outcome other than success.
    pub failed: u64,
    /// Accesses that were begun and whose end is not recorded.
    pub unfinished: u64,
    /// Accesses under an emergency override.
    pub emergencies: u64,
    /// Accesses recorded later than their stated time by more than the report's bound.
    pub recorded_later: u64,
    /// Accesses whose stated time is ahead of the log's clock by more than the report's bound.
    pub in_future: u64,
    /// Accesses that may have been recorded while the system clock was wrong, so that they may belong to another period.
    pub by_wrong_clock: u64,
    /// Accesses by stated purpose (`None`: not stated), the most frequent first.
    pub purposes: Vec<(Option<String>, u64)>,
    /// Left out of an accounting of disclosures because made for treatment, payment or operations.
    pub routine_left_out: u64,
    /// Left out of an accounting of disclosures because the tool refused or failed, and its reply showed nothing but the
    /// error.
    pub undisclosed_left_out: u64,
}

/// The accesses of one user (or, in a report about a user, to one patient).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// The user, or the patient.
    pub name: String,
    /// The roles in which the user appeared, sorted.
    pub roles: Vec<String>,
    /// Number of accesses.
    pub accesses: u64,
    /// Number of accesses that failed.
    pub failed: u64,
    /// Number of emergency accesses.
    pub emergencies: u64,
    /// The time of the first access.
    pub first: Timestamp,
    /// The time of the last access.
    pub last: Timestamp,
}

/// Builds a report from entries, as they are read from a store.
#[derive(Debug)]
pub struct AccessReportBuilder {
    context: Context,
    rows: Vec<Access>,
    calls: Calls,
    /// The row of each entry: of the first of a call, and of its end.
    row_of: HashMap<u64, usize>,
}

impl AccessReportBuilder {
    /// Adds an entry; entries come in order of seq. The caller selects the entries of the subject. Entries outside the
    /// period are left out here, except for the end of a call that began inside it. System events are skipped.
    pub fn add(&mut self, entry: &Entry) {
        let (Some(call), Some(part)) = (entry.call(), self.calls.take(entry)) else { return };
        let of = match part {
            Part::End(first) | Part::LateAnswer(first) | Part::Patients(first) | Part::Detail(first) => Some(first),
            _ => None,
        };
        if let Some(at) = of.and_then(|of| self.row_of.get(&of).copied())
            && let Some(row) = self.rows.get_mut(at)
        {
            let added = Access::of(entry, call, &self.context);
            match part {
                Part::End(_) => row.finish(added, entry.seq),
                Part::LateAnswer(_) => row.answer(added),
                _ => row.add(added),
            }
            self.row_of.insert(entry.seq, at);
            return;
        }
        // Details are no access of their own, but what they alone name was accessed.
        if matches!(part, Part::Detail(_)) && call.patient_ids.is_empty() {
            return;
        }
        if self.context.includes(entry, call) {
            self.row_of.insert(entry.seq, self.rows.len());
            // An end or an answer whose beginning is outside the period stands for the call.
            of.into_iter().for_each(|of| _ = self.row_of.insert(of, self.rows.len()));
            self.rows.push(Access::of(entry, call, &self.context));
        }
    }

    /// The report of the entries added so far.
    pub fn finish(self) -> AccessReport {
        let AccessReportBuilder { context, mut rows, .. } = self;
        let mut totals = Totals::default();
        if matches!(context.subject, Subject::Disclosures(_)) {
            rows.retain(|row| {
                let undisclosed = row.disclosed_nothing();
                let routine = row.purpose.as_deref().and_then(purpose::reason).is_some_and(|r| r.routine);
                totals.undisclosed_left_out += u64::from(undisclosed);
                totals.routine_left_out += u64::from(routine && !undisclosed);
                !undisclosed && !routine
            });
        }
        totals.accesses = rows.len() as u64;
        let (users, users_repeat) = context.users.count(rows.iter().map(|r| r.accessed_by.as_str()));
        let patients = rows.iter().flat_map(|r| &r.patients).map(String::as_str);
        let (patients, patients_repeat) = context.patients.count(patients);
        (totals.users, totals.patients) = (users, patients);
        totals.persons_may_repeat =
            if matches!(context.subject, Subject::User(_)) { patients_repeat } else { users_repeat };
        totals.unfinished = rows.iter().filter(|r| r.outcome.is_none()).count() as u64;
        totals.failed = rows.iter().filter(|r| r.success() == Some(false)).count() as u64;
        totals.emergencies = rows.iter().filter(|r| r.emergency).count() as u64;
        totals.by_wrong_clock = rows.iter().filter(|r| r.by_wrong_clock).count() as u64;
        for claimed in rows.iter().filter_map(|r| r.claimed_time) {
            match claimed {
                ClaimedTime::RecordedLater(_) => totals.recorded_later += 1,
                ClaimedTime::InFuture(_) => totals.in_future += 1,
            }
        }
        let mut purposes: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        rows.iter().for_each(|r| *purposes.entry(r.purpose.as_deref()).or_insert(0) += 1);
        totals.purposes = purposes.into_iter().map(|(purpose, n)| (purpose.map(str::to_owned), n)).collect();
        totals.purposes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let tallies = tallies(&context, &rows);
        AccessReport { context, rows, totals, tallies }
    }
}

fn tallies(context: &Context, rows: &[Access]) -> Vec<Tally> {
    let by_patient = matches!(context.subject, Subject::User(_));
    let mut tallies: Vec<Tally> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        let user = [&row.accessed_by];
        let names = if by_patient { row.patients.iter().collect() } else { user.to_vec() };
        for name in names {
            let at = *places.entry(name).or_insert_with(|| {
                tallies.push(Tally {
                    name: name.clone(),
                    roles: Vec::new(),
                    accesses: 0,
                    failed: 0,
                    emergencies: 0,
                    first: row.timestamp,
                    last: row.timestamp,
                });
                tallies.len() - 1
            });
            let Some(tally) = tallies.get_mut(at) else { continue };
            tally.accesses += 1;
            tally.failed += u64::from(row.success() == Some(false));
            tally.emergencies += u64::from(row.emergency);
            tally.first = tally.first.min(row.timestamp);
            tally.last = tally.last.max(row.timestamp);
            if let Some(role) = &row.role
                && let Err(at) = tally.roles.binary_search(role)
            {
                tally.roles.insert(at, role.clone());
            }
        }
    }
    tallies.sort_by(|a, b| b.accesses.cmp(&a.accesses).then_with(|| a.name.cmp(&b.name)));
    tallies
}

impl AccessReport {
    /// A builder to which entries are added one by one.
    pub fn builder(context: Context) -> AccessReportBuilder {
        AccessReportBuilder { context, rows: Vec::new(), calls: Calls::new(), row_of: HashMap::new() }
    }

    /// The report of these entries, which come in order of seq.
    pub fn of<'a>(context: Context, entries: impl IntoIterator<Item = &'a Entry>) -> AccessReport {
        let mut builder = AccessReport::builder(context);
        entries.into_iter().for_each(|entry| builder.add(entry));
        builder.finish()
    }

    /// The subject of the report, and what is known about the log behind it.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The accesses, in order of seq.
    pub fn rows(&self) -> &[Access] {
        &self.rows
    }

    /// The emergency grants that the report lists.
    pub fn emergency_grants(&self) -> impl Iterator<Item = &GrantState> {
        self.context.grants.iter().flat_map(|grants| &grants.listed)
    }

    /// The totals.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The accesses by user (by patient in a report about a user), the most frequent first.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// The number of accesses that no anchor covers: they are newer than the last anchor, or there is none.
    pub fn rows_not_anchored(&self) -> u64 {
        let covered = if self.context.anchored { self.context.anchored_size } else { 0 };
        self.rows.iter().filter(|r| r.entries().any(|seq| seq >= covered)).count() as u64
    }

    /// The report as JSON. A report about a user has `user_id` instead of `patient_id`.
    pub fn to_json(&self) -> Json {
        let context = &self.context;
        let by_user = matches!(context.subject, Subject::User(_));
        let mut o = Object::new();
        o.insert(if by_user { "user_id" } else { "patient_id" }, context.subject.shown());
        o.insert("report", context.subject.report_name());
        if !context.recorded_as.is_empty() {
            o.insert("recorded_as", context.recorded_as.clone());
        }
        let time = |t: Option<Timestamp>| Json::from(t.map(|t| t.to_string()));
        o.insert("report_period", Object::from_iter([("start", time(context.start)), ("end", time(context.end))]));
        if let Some(similar) = &context.unknown {
            o.insert("unknown_to_log", true);
            o.insert("similar", similar.clone());
            o.insert("may_have_others", context.may_have_others);
        }
        if context.generated_at.is_some() {
            o.insert("generated_at", time(context.generated_at));
        }
        if let Some(log) = &context.log {
            o.insert("log", log.as_str());
        }
        if let (Some(size), Some(root)) = (context.size, context.root) {
            o.insert("size", size);
            o.insert("root", root.to_string());
        }
        if let Some(key) = &context.public_key {
            o.insert("public_key", key.as_str());
        }
        let t = &self.totals;
        o.insert("total_accesses", t.accesses);
        o.insert("unique_users", t.users);
        o.insert("persons_may_repeat", t.persons_may_repeat);
        if by_user {
            o.insert("unique_patients", t.patients);
        }
        o.insert("failed", t.failed);
        o.insert("unfinished", t.unfinished);
        o.insert("emergencies", t.emergencies);
        o.insert("recorded_later", t.recorded_later);
        o.insert("in_future", t.in_future);
        o.insert("by_wrong_clock", t.by_wrong_clock);
        o.insert("claimed_time_bound_seconds", context.claimed_time_bound.as_secs());
        let purposes = t.purposes.iter().map(|(purpose, n)| {
            Json::from(Object::from_iter([("purpose", Json::from(purpose.clone())), ("accesses", (*n).into())]))
        });
        o.insert("purposes", purposes.collect::<Vec<_>>());
        if matches!(context.subject, Subject::Disclosures(_)) {
            let left_out =
                [("treatment_payment_operations", t.routine_left_out), ("nothing_disclosed", t.undisclosed_left_out)];
            o.insert("left_out", Object::from_iter(left_out));
        }
        o.insert("accesses", self.rows.iter().map(|row| row.to_json(by_user)).collect::<Vec<_>>());
        if let Some(grants) = &context.grants {
            o.insert("emergency_grants", grants.listed.iter().map(|state| state.to_json()).collect::<Vec<_>>());
        }
        let purged = context.purged.iter().map(|p| {
            let mut purged = Object::new();
            purged.insert("count", p.count);
            purged.insert("class", p.class.as_str());
            purged.insert("purge_seq", p.purge_seq);
            purged
        });
        o.insert("purged", purged.collect::<Vec<_>>());
        o.insert("integrity_verified", context.integrity_verified);
        let found = context.findings.iter().map(|(kind, count)| (kind.as_str(), *count));
        o.insert("findings", found.collect::<Object>());
        o.insert("settled", context.settled.iter().map(Finding::to_json).collect::<Vec<_>>());
        o.insert(
            "unsettled_before",
            context.unsettled.iter().map(|kind| Json::from(kind.as_str())).collect::<Vec<_>>(),
        );
        o.insert("compared", context.compared);
        o.insert("anchored", context.anchored);
        o.insert("anchored_size", if context.anchored { context.anchored_size } else { 0 });
        o.insert("accesses_not_anchored", self.rows_not_anchored());
        o.insert("rewritable_from", context.rewritable_from);
        o.insert("restored", context.restored.iter().map(Restored::to_json).collect::<Vec<_>>());
        o.insert("recorded_without_key", context.recorded_without_key.iter().map(Keyless::to_json).collect::<Vec<_>>());
        o.into()
    }

    /// The statement about integrity for all formats: a word for the heading, and a sentence.
    fn integrity(&self) -> Statement {
        if self.context.integrity_verified {
            let sentence =
                "The chain and the tree of the log were recomputed for this report, and nothing was found wrong.";
            let lost =
                self.context.restored.iter().any(|restored| restored.signed.is_some() || restored.to_do().is_some());
            let keyless = !self.context.recorded_without_key.is_empty();
            let word = match (lost, keyless) {
                (false, false) => "VERIFIED",
                (true, false) => "VERIFIED, RESTORED TO AN OLDER STATE",
                (false, true) => "VERIFIED, PARTLY RECORDED WITHOUT THE KEY",
                (true, true) => "VERIFIED, RESTORED TO AN OLDER STATE, PARTLY RECORDED WITHOUT THE KEY",
            };
            let (good, word) = match self.context.unsettled.is_empty() {
                true => (!lost && !keyless, word),
                false => (false, "VERIFIED, WITH EARLIER FINDINGS THAT NOBODY HAS SETTLED"),
            };
            return Statement { good, word, sentence: self.context.with_restored(sentence) };
        }
        if self.context.is_settled() {
            let sentence = format!(
                "The log was verified for this report: {}, and somebody has looked into each of them. {}. Whether they matter for this \
                 report is for its reader to judge; nothing else was found wrong.",
                self.context.findings_text(),
                self.context.settled_text()
            );
            let sentence = self.context.with_restored(&sentence);
            return Statement { good: false, word: "FINDINGS, ALL OF THEM SETTLED", sentence };
        }
        if !self.context.findings.is_empty() {
            let sentence = format!(
                "The log was verified for this report and is not as it was recorded: {}. Do not rely on this report; \
                 \u{201c}attestlog verify\u{201d} says what is wrong, and where.",
                self.context.findings_and_settled()
            );
            return Statement {
                good: false,
                word: "VERIFICATION FAILED",
                sentence: self.context.with_restored(&sentence),
            };
        }
        let sentence = "No verification of the log stands behind this report. Do not rely on it before \
                        \u{201c}attestlog verify\u{201d} has been run and has found nothing.";
        Statement { good: false, word: "NOT VERIFIED", sentence: self.context.with_restored(sentence) }
    }

    /// The statement about anchoring for all formats.
    fn anchoring(&self) -> Statement {
        let context = &self.context;
        if !context.anchored || context.anchored_size == 0 {
            let what = match context.rewritable_from {
                0 => "it".to_owned(),
                from => format!("its entries from {from} on"),
            };
            let compared = match context.compared {
                true => "What this report was given to compare the log with confirms no part of it.",
                false => {
                    "This report compared the log with nothing that is kept outside it (\u{201c}--against\u{201d} gives it an anchor \
                     file or a checkpoint)."
                }
            };
            let sentence = format!(
                "{compared} As far as the report can tell, whoever holds the log and its key could have rewritten {what} without a trace."
            );
            return Statement { good: false, word: "UNANCHORED", sentence };
        }
        let size = context.anchored_size;
        let up_to = format!("A copy kept outside confirms the log's first {size} entries");
        if !context.findings.is_empty() && !context.is_settled() {
            let sentence =
                format!("{up_to}. But the verification found something wrong, as said above: do not rely on this.");
            return Statement { good: false, word: "PARTLY ANCHORED", sentence };
        }
        match (self.rows_not_anchored(), self.totals.accesses) {
            (0, _) => Statement {
                good: true,
                word: "ANCHORED",
                sentence: format!("{up_to}, which hold every access listed here."),
            },
            (newer, all) => Statement {
                good: false,
                word: "PARTLY ANCHORED",
                sentence: format!(
                    "{up_to}; {newer} of the {all} accesses listed here are newer and are UNANCHORED: whoever holds the log \
                     and its key could have rewritten its entries from {} on without a trace.",
                    context.rewritable_from.max(size)
                ),
            },
        }
    }

    /// The statement about doubtful times, for all formats: times stated by callers that are far from the time of recording,
    /// and times at which the system clock was wrong. `None` if there are none.
    fn doubtful_times(&self) -> Option<String> {
        let by_wrong_clock = match self.totals.by_wrong_clock {
            0 => None,
            n => Some(format!(
                "{n} of {} may have been recorded while the system clock was wrong, which the log's clock entries do not rule out: they may \
                 belong to another time and another period. Those rows are marked.",
                self.totals.accesses
            )),
        };
        let said: Vec<String> = self.claimed_times().into_iter().chain(by_wrong_clock).collect();
        (!said.is_empty()).then(|| said.join(" "))
    }

    /// The statement about the times that callers claimed. `None` if each is close to its recording.
    fn claimed_times(&self) -> Option<String> {
        let (t, bound) = (&self.totals, self.context.claimed_time_bound);
        let many = |n: u64, what: &str| match n {
            0 => None,
            n => Some(format!("{n} of {} {what}", t.accesses)),
        };
        let later = many(t.recorded_later, "were recorded later than the time they name");
        let future = many(t.in_future, "name a time that was still to come when they were recorded");
        let counts: Vec<String> = later.into_iter().chain(future).collect();
        (!counts.is_empty()).then(|| {
            format!(
                "The time of an access is its caller's word; the log's own clock says when it was recorded. They differ by more \
                 than {} here: {}. Those rows show both.",
                attestlog::entry::ClaimedTime::in_words(bound),
                counts.join("; ")
            )
        })
    }

    /// The statement for all formats if no entry of the log has the subject.
    fn unknown(&self) -> Option<String> {
        let similar = self.context.unknown.as_ref()?;
        let noun = self.context.subject.noun().to_lowercase();
        let purged = match self.context.purged.is_empty() {
            true => "",
            false => " any more (what was purged may have had it)",
        };
        let near: Vec<String> = similar.iter().map(|id| super::text::shortened(id, 60)).collect();
        let near = match (near.is_empty(), self.context.may_have_others) {
            (true, false) => "Nothing in the log comes near it".to_owned(),
            (true, true) => {
                "The log keeps pseudonyms, so nobody can tell whether it has a similar one; the usual other \
                             spellings were tried, and it has none of them"
                    .to_owned()
            }
            (false, _) => format!("The log has {}", near.join(", ")),
        };
        Some(format!("No entry of this log has a {noun} of this id{purged}: check how it is written. {near}."))
    }

    /// The purges as sentences, or one sentence that there were none.
    fn purges(&self) -> Vec<String> {
        if self.context.purged.is_empty() {
            return vec!["The log records no purge of entries that could belong in this report.".to_owned()];
        }
        let sentence = |p: &Purged| {
            let entries = if p.count == 1 { "entry" } else { "entries" };
            format!(
                "{} {entries} of retention class {} removed by policy; the log's entry {} records it.",
                p.count,
                super::text::shortened(&p.class, 60),
                p.purge_seq
            )
        };
        self.context.purged.iter().map(sentence).collect()
    }

    /// The description of each emergency grant; names and ids have at most `limit` characters.
    fn grants(&self, limit: usize) -> Vec<grants::Told> {
        self.emergency_grants().map(|state| grants::told(state, limit, self.context.zone)).collect()
    }

    /// The accesses by purpose, in words: `treatment (31), not stated (2)`.
    fn purposes(&self) -> String {
        let shown = |purpose: &Option<String>| match purpose {
            Some(purpose) => super::text::shortened(purpose, 60),
            None => "not stated".to_owned(),
        };
        let purposes = &self.totals.purposes;
        let mut parts: Vec<String> =
            purposes.iter().take(MAX_PURPOSES).map(|(purpose, n)| format!("{} ({n})", shown(purpose))).collect();
        if let Some(rest) = purposes.get(MAX_PURPOSES..).filter(|rest| !rest.is_empty()) {
            let sum: u64 = rest.iter().map(|(_, n)| n).sum();
            parts.push(format!("{} others ({sum})", rest.len()));
        }
        parts.join(", ")
    }

    /// The totals as a sentence.
    fn summary(&self) -> String {
        let t = &self.totals;
        let plural = |n: u64, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        let accesses = match self.context.subject {
            Subject::Disclosures(_) => plural(t.accesses, "disclosure", "disclosures"),
            _ => plural(t.accesses, "access", "accesses"),
        };
        let of = match self.context.subject {
            Subject::User(_) => format!("to {}", plural(t.patients, "patient", "patients")),
            _ => format!("by {}", plural(t.users, "user", "users")),
        };
        let mut out = format!("{accesses} {of}");
        if t.persons_may_repeat {
            out.push_str(" (a person may be counted more than once, under several pseudonyms)");
        }
        let parts = [(t.failed, "failed or refused"), (t.unfinished, "unfinished"), (t.emergencies, "in an emergency")];
        for (n, what) in parts {
            if n > 0 {
                out.push_str(&format!(", {n} {what}"));
            }
        }
        if t.routine_left_out + t.undisclosed_left_out > 0 {
            out.push_str(&format!(
                "; left out: {} for treatment, payment or operations, {} that disclosed nothing",
                t.routine_left_out, t.undisclosed_left_out
            ));
        }
        out
    }
}

/// A statement about the log for a human reader. The word alone must suffice, since colours may not print.
struct Statement {
    good: bool,
    word: &'static str,
    sentence: String,
}

#[cfg(test)]
mod tests;
