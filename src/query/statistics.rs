//! How tools are used, computed from the rollups: whole days in the file need no entry, the newest entries come from
//! the index in memory, and only days that a time range cuts are computed from the entries themselves. What rollups cannot
//! know is read besides: late answers, and calls without an end.

use super::filter::check_range;
use super::{Persons, Query};
use crate::json::{Json, Object};
use crate::store::OpenStore;
use crate::store::{Cell, Snapshot, guarded, not_placed};
use crate::{Entry, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Kind, Outcome, Phase, Trigger};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Selects the calls to add up.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall};
/// use attestlog::query::Statistics;
/// # let log = AuditLog::in_memory()?;
/// # log.record(ToolCall::new("c", "u", "lookup"))?;
/// let of_one = log.statistics(&Statistics::new().tool("lookup"))?;
/// assert_eq!(of_one[0].total_calls, 1);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it does nothing until a log is asked with it"]
pub struct Statistics {
    tool: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

attestlog_proof::json_form!(members Statistics { tool, since, until });

impl Statistics {
    /// All calls of all tools.
    pub fn new() -> Statistics {
        Statistics::default()
    }

    /// Only this tool. The result then has one row, even if the tool was never called.
    pub fn tool(mut self, name: impl Into<String>) -> Statistics {
        self.tool = Some(name.into());
        self
    }

    /// Only calls at this time or later.
    pub fn since(mut self, from: Timestamp) -> Statistics {
        self.since = Some(from);
        self
    }

    /// Only calls before this time.
    pub fn until(mut self, to: Timestamp) -> Statistics {
        self.until = Some(to);
        self
    }

    /// Whether a call at this time is in the time range.
    fn includes(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// How one tool was used. Durations are those of the calls that have one; percentiles are nearest-rank, with an error
/// of at most 1 %.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolStatistics {
    /// The tool.
    pub tool: String,
    /// Calls that ended, however they ended. A call in two steps counts once. A result that was recorded after its call
    /// had been recorded as unanswered does not count again.
    pub total_calls: u64,
    /// Calls that succeeded, those included whose late answer says so (see [`Calls`](super::Calls)).
    pub successes: u64,
    /// Calls that were begun and have no end in the log. No other figure counts them.
    pub unfinished: u64,
    /// Mean duration in milliseconds.
    pub avg_duration_ms: Option<f64>,
    /// Longest duration in milliseconds.
    pub max_duration_ms: Option<f64>,
    /// Half of the calls took no longer, in milliseconds.
    pub p50_duration_ms: Option<f64>,
    /// 95 % of the calls took no longer, in milliseconds.
    pub p95_duration_ms: Option<f64>,
    /// 99 % of the calls took no longer, in milliseconds.
    pub p99_duration_ms: Option<f64>,
    /// Users who started at least one of the calls. A user who is known by a clear name and by pseudonyms counts once.
    pub unique_users: u64,
    /// Whether some of them may be the same person: there are pseudonyms under several keys, or clear names together
    /// with pseudonyms whose key is not available.
    pub users_may_repeat: bool,
    /// The day (UTC) of the first of the calls; purged calls do not count. `None` without calls.
    pub since: Option<Timestamp>,
}

attestlog_proof::json_form!(methods ToolStatistics);

impl ToolStatistics {
    /// The share of the calls that succeeded, from 0 to 1; `None` without calls.
    pub fn success_rate(&self) -> Option<f64> {
        (self.total_calls > 0).then(|| self.successes as f64 / self.total_calls as f64)
    }

    /// A row of `stats --json`: `{"tool","total_calls","success_rate","avg_duration_ms","max_duration_ms","p50_duration_ms",
    /// "p95_duration_ms","p99_duration_ms","unique_users","users_may_repeat","since","unfinished"}`, null where there is nothing to tell; `since`
    /// is the day.
    pub fn to_json(&self) -> Json {
        let day = |at: Timestamp| match at == Timestamp::start_of_day(at.day()) {
            true => at.to_string().chars().take(10).collect(),
            false => at.to_string(),
        };
        Object::from_iter([
            ("tool", self.tool.form()),
            ("total_calls", self.total_calls.form()),
            ("success_rate", self.success_rate().form()),
            ("avg_duration_ms", self.avg_duration_ms.form()),
            ("max_duration_ms", self.max_duration_ms.form()),
            ("p50_duration_ms", self.p50_duration_ms.form()),
            ("p95_duration_ms", self.p95_duration_ms.form()),
            ("p99_duration_ms", self.p99_duration_ms.form()),
            ("unique_users", self.unique_users.form()),
            ("users_may_repeat", self.users_may_repeat.form()),
            ("since", self.since.map(day).form()),
            ("unfinished", self.unfinished.form()),
        ])
        .into()
    }

    fn from_json(value: &Json) -> Result<ToolStatistics> {
        let mut members = Members::of(value)?;
        let total_calls: u64 = member(&mut members, "total_calls")?;
        let rate: Option<f64> = member(&mut members, "success_rate")?;
        Ok(ToolStatistics {
            tool: member(&mut members, "tool")?,
            total_calls,
            // Exact: no log has 2^52 calls, and a rate that no number of them gives is refused as another form.
            successes: rate.map_or(0, |rate| (rate * total_calls as f64).round() as u64),
            avg_duration_ms: member(&mut members, "avg_duration_ms")?,
            max_duration_ms: member(&mut members, "max_duration_ms")?,
            p50_duration_ms: member(&mut members, "p50_duration_ms")?,
            p95_duration_ms: member(&mut members, "p95_duration_ms")?,
            p99_duration_ms: member(&mut members, "p99_duration_ms")?,
            unique_users: member(&mut members, "unique_users")?,
            users_may_repeat: member(&mut members, "users_may_repeat")?,
            since: member(&mut members, "since")?,
            unfinished: member(&mut members, "unfinished")?,
        })
    }

    fn of(tool: String, cell: &mut Cell) -> ToolStatistics {
        let Durations { avg, max, p50, p95, p99 } = Durations::of(cell);
        ToolStatistics {
            tool,
            total_calls: cell.calls,
            successes: cell.successes,
            avg_duration_ms: avg,
            max_duration_ms: max,
            p50_duration_ms: p50,
            p95_duration_ms: p95,
            p99_duration_ms: p99,
            unique_users: cell.users.rows().len() as u64,
            users_may_repeat: false,
            since: None,
            unfinished: 0,
        }
    }
}

/// Durations of a cell, in milliseconds; `None` if no call has one.
pub(super) struct Durations {
    pub avg: Option<f64>,
    pub max: Option<f64>,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

impl Durations {
    pub(super) fn of(cell: &mut Cell) -> Durations {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let timed = cell.timed > 0;
        let mut percentile = |p| cell.percentile(p).map(ms);
        Durations {
            p50: percentile(0.50),
            p95: percentile(0.95),
            p99: percentile(0.99),
            // More digits than whole nanoseconds would be noise of the division.
            avg: timed.then(|| (cell.sum_nanos as f64 / cell.timed as f64).round() / 1e6),
            max: timed.then(|| ms(cell.max_nanos)),
        }
    }
}

impl OpenStore {
    /// How tools were used, by name of the tool.
    pub(crate) fn statistics(&self, of: &Statistics) -> Result<Vec<ToolStatistics>> {
        check_range(of.since, of.until)?;
        self.check_damage()?;
        self.of_one_moment(|| guarded(|| self.added_up(of)))
    }

    fn added_up(&self, of: &Statistics) -> Result<Vec<ToolStatistics>> {
        let mut snapshot = self.snapshot()?;
        // An index batch may have been committed between the moment of the snapshot and its transaction. The rollups
        // then include its entries, so they must not be counted from the index in memory too.
        snapshot.indexed = snapshot.state.indexed;
        snapshot.size = snapshot.size.max(snapshot.indexed);
        let policies = self.engine().policies();
        if let Some(tool) = &of.tool {
            policies.check_findable(Facet::Tool, tool, &snapshot, &self.engine().chain_state())?;
        }
        let tools = of.tool.as_deref().map(|tool| policies.terms(Facet::Tool, tool));
        let tools = tools.as_deref();
        let mut sums = Sums { cells: BTreeMap::new(), users: BTreeMap::new(), since: BTreeMap::new() };
        let since = of.since.unwrap_or(Timestamp::MIN);
        let until = of.until.unwrap_or(Timestamp::MAX);
        // Whole days come from the rollups, the days that the range cuts from the entries.
        let first_whole = if since == Timestamp::start_of_day(since.day()) { since.day() } else { since.day() + 1 };
        let whole = first_whole..until.day().max(first_whole);
        let whole = if of.until.is_none() { first_whole..i32::MAX } else { whole };
        let whole = if of.since.is_none() { i32::MIN..whole.end } else { whole };
        sums.whole_days(&snapshot, tools, whole.clone())?;
        let mut cut = Vec::new();
        if of.since.is_some() && since.day() < whole.start {
            let to = until.min(Timestamp::start_of_day(since.day() + 1));
            // The greatest possible timestamp cannot be an exclusive end: calls at that time would be left out.
            cut.push((since, (of.until.is_some() || to < Timestamp::MAX).then_some(to)));
        }
        if of.until.is_some() && until.day() >= whole.end && (cut.is_empty() || until.day() != since.day()) {
            cut.push((since.max(Timestamp::start_of_day(until.day())), Some(until)));
        }
        for (from, to) in cut {
            self.cut_day(&snapshot, &mut sums, of.tool.as_deref(), from, to)?;
        }
        // A host that goes on despite damage has been told that what is counted may lack an entry.
        if let Some(seq) = snapshot.unplaced().first().filter(|_| !self.goes_on()) {
            return Err(not_placed(*seq));
        }
        sums.pending(&snapshot, tools, of)?;
        self.answered_late(&snapshot, &mut sums, of)?;
        let mut unfinished = self.without_end(&snapshot, tools, of)?;
        unfinished.keys().for_each(|tool| _ = sums.cells.entry(tool.clone()).or_default());
        if let Some(tool) = &of.tool {
            // All spellings of the tool's name count as the one tool that was asked for.
            let mut one = Cell::default();
            std::mem::take(&mut sums.cells).values().for_each(|cell| one.merge(cell));
            sums.cells.insert(tool.clone(), one);
            unfinished = BTreeMap::from([(tool.clone(), unfinished.into_values().sum())]);
            let first = std::mem::take(&mut sums.since).into_values().min();
            sums.since.extend(first.map(|day| (tool.clone(), day)));
        }
        let persons = Persons::of(&snapshot, policies.sanitizer.as_ref(), Facet::User)?;
        let mut users: HashMap<u64, String> = HashMap::new();
        if persons.any_hidden() {
            users.extend(sums.users.into_iter().map(|(name, id)| (id, name)));
            snapshot.each_term(Facet::User, &mut |name, id| _ = users.insert(id, name))?;
        }
        let since = sums.since;
        let of = |(tool, mut cell): (String, Cell)| {
            let since = since.get(&tool).map(|day| Timestamp::start_of_day(*day));
            let unfinished = unfinished.get(&tool).copied().unwrap_or_default();
            let mut of = ToolStatistics { since, unfinished, ..ToolStatistics::of(tool, &mut cell) };
            if persons.any_hidden() {
                let names = cell.users.rows().iter().filter_map(|(id, _)| users.get(id)).map(String::as_str);
                (of.unique_users, of.users_may_repeat) = persons.count(names);
            }
            of
        };
        Ok(sums.cells.into_iter().map(of).collect())
    }

    /// Counts calls as successes that failed at first and whose late answer says that they succeeded. The rollups do not know:
    /// the answer may be in another day, and in another index batch.
    fn answered_late(&self, snapshot: &Snapshot, sums: &mut Sums, of: &Statistics) -> Result<()> {
        if sums.cells.values().all(|cell| cell.successes >= cell.calls) {
            return Ok(());
        }
        for tool in self.mended_of(snapshot, of.tool.as_deref(), |call| of.includes(call.timestamp))?.into_values() {
            if let Some(cell) = sums.cells.get_mut(&tool) {
                cell.successes += 1;
            }
        }
        Ok(())
    }

    /// The calls that failed at first and whose late answer says that they succeeded, as far as they are `wanted`.
    pub(super) fn mended(&self, tool: Option<&str>, wanted: impl Fn(&Call) -> bool) -> Result<HashSet<u64>> {
        Ok(self.mended_of(&self.snapshot()?, tool, wanted)?.into_keys().collect())
    }

    /// The same, each with its tool.
    fn mended_of(
        &self,
        snapshot: &Snapshot,
        tool: Option<&str>,
        wanted: impl Fn(&Call) -> bool,
    ) -> Result<HashMap<u64, String>> {
        let query = Query::new().kind(Kind::ToolCall).trigger(Trigger::FollowUp).outcome(Outcome::Ok);
        let query = tool.into_iter().fold(query, |q, tool| q.tool(tool));
        let mut mended = HashMap::new();
        for entry in self.query(&query)?.within(snapshot.size) {
            let answer = match entry {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            let mut at = answer.call().filter(|call| call.late_answer).and_then(|call| call.follows);
            while let Some(seq) = at.take() {
                let there = match snapshot.checked(seq) {
                    Err(e) if self.goes_on() && e.seq().is_some() => continue,
                    other => other?,
                };
                let Some(call) = there.as_ref().and_then(Entry::call) else { continue };
                if call.late_answer {
                    // A late answer may follow another. Each follows an entry before it, so this ends.
                    at = call.follows.filter(|before| *before < seq);
                } else if call.is_counted() && call.success() == Some(false) && wanted(call) {
                    mended.insert(seq, call.tool_name.clone());
                }
            }
        }
        Ok(mended)
    }

    /// The number of calls without an end, by tool.
    fn without_end(
        &self,
        snapshot: &Snapshot,
        tools: Option<&[String]>,
        of: &Statistics,
    ) -> Result<BTreeMap<String, u64>> {
        let mut unfinished = BTreeMap::new();
        for seq in snapshot.unfinished()?.range(..snapshot.size) {
            let entry = match snapshot.checked(*seq) {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            let begun = entry.as_ref().and_then(Entry::call).filter(|call| call.phase == Phase::Begun);
            let wanted =
                |call: &&Call| of.includes(call.timestamp) && tools.is_none_or(|tools| tools.contains(&call.tool_name));
            if let Some(call) = begun.filter(wanted) {
                *unfinished.entry(call.tool_name.clone()).or_default() += 1;
            }
        }
        Ok(unfinished)
    }

    /// Adds up, entry by entry, calls of the file's index with a time in `[from, to)`, or from `from` on.
    fn cut_day(
        &self,
        snapshot: &Snapshot,
        sums: &mut Sums,
        tool: Option<&str>,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Result<()> {
        let query = Query::new().kind(Kind::ToolCall).since(from);
        let query = to.into_iter().fold(query, Query::until);
        let query = tool.into_iter().fold(query, |q, tool| q.tool(tool));
        for entry in self.query(&query)? {
            let entry = match entry {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            if entry.seq >= snapshot.indexed {
                break;
            }
            let Some(call) = entry.call().filter(|call| call.is_counted()) else { continue };
            let user = sums.user(snapshot, &call.user_id)?;
            sums.on(&call.tool_name, call.timestamp.day());
            let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
            sums.cells.entry(call.tool_name.clone()).or_default().add(user, success, call.duration_nanos());
        }
        Ok(())
    }
}

/// Sums by tool. Users that the file's index does not know yet get numbers counting down from `u64::MAX`.
struct Sums {
    cells: BTreeMap<String, Cell>,
    users: BTreeMap<String, u64>,
    /// The day of each tool's first call.
    since: BTreeMap<String, i32>,
}

impl Sums {
    fn on(&mut self, tool: &str, day: i32) {
        match self.since.get_mut(tool) {
            Some(first) => *first = day.min(*first),
            None => _ = self.since.insert(tool.to_owned(), day),
        }
    }

    fn whole_days(&mut self, snapshot: &Snapshot, tools: Option<&[String]>, days: Range<i32>) -> Result<()> {
        let known = |name: &String| Ok(snapshot.term_id(Facet::Tool, name)?.map(|id| (id, name.clone())));
        let names: BTreeMap<u64, String> = match tools {
            Some(tools) => tools.iter().filter_map(|name| known(name).transpose()).collect::<Result<_>>()?,
            None => snapshot.terms_of(Facet::Tool)?.into_iter().map(|(name, id)| (id, name)).collect(),
        };
        if tools.is_some() && names.is_empty() {
            return Ok(());
        }
        let only = tools.filter(|_| names.len() == 1).and_then(|_| names.keys().next().copied());
        let mut sums: BTreeMap<u64, Cell> = BTreeMap::new();
        snapshot.rollups(only, days, &mut |tool, day, cell| {
            if let Some(name) = names.get(&tool) {
                self.on(name, day);
                sums.entry(tool).or_default().merge(&cell);
            }
        })?;
        for (tool, sum) in sums {
            if let Some(name) = names.get(&tool) {
                self.cells.entry(name.clone()).or_default().merge(&sum);
            }
        }
        Ok(())
    }

    fn pending(&mut self, snapshot: &Snapshot, tools: Option<&[String]>, of: &Statistics) -> Result<()> {
        for mem_segment in &snapshot.mem_segments {
            let index = mem_segment.read();
            let only: Option<Vec<u32>> =
                tools.map(|tools| tools.iter().filter_map(|tool| index.term(Facet::Tool, tool)).collect());
            for row in &index.calls {
                let time = Timestamp::from_nanos(index.times[row.offset as usize]);
                let seq = mem_segment.from + u64::from(row.offset);
                let counts = (snapshot.indexed..snapshot.size).contains(&seq)
                    && only.as_ref().is_none_or(|ids| ids.contains(&row.tool))
                    && of.includes(time);
                if !counts {
                    continue;
                }
                let tool = &*index.terms(Facet::Tool)[row.tool as usize].0;
                let user = self.user(snapshot, &index.terms(Facet::User)[row.user as usize].0)?;
                self.on(tool, time.day());
                if !self.cells.contains_key(tool) {
                    self.cells.insert(tool.to_owned(), Cell::default());
                }
                if let Some(cell) = self.cells.get_mut(tool) {
                    cell.add(user, row.success, row.nanos);
                }
            }
        }
        Ok(())
    }

    fn user(&mut self, snapshot: &Snapshot, user: &str) -> Result<u64> {
        if let Some(&id) = self.users.get(user) {
            return Ok(id);
        }
        let id = snapshot.term_id(Facet::User, user)?.unwrap_or(u64::MAX - self.users.len() as u64);
        self.users.insert(user.to_owned(), id);
        Ok(id)
    }
}
