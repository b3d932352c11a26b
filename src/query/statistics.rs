//! How tools are used, answered from the rollups: whole days in the file without reading an entry, the newest
//! entries from the pending index, and only days that a time range cuts from the entries themselves.

use super::{Persons, Query};
use crate::store::{Cell, Snapshot, guarded, not_placed};
use crate::{AuditLog, Error, Result, Timestamp};
use attestlog_proof::entry::{Facet, Kind, Outcome};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Which calls to add up.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall};
/// use attestlog::Statistics;
/// # let log = AuditLog::in_memory()?;
/// # log.record(ToolCall::new("c", "u", "lookup"))?;
/// let of_one = log.statistics(&Statistics::new().tool("lookup"))?;
/// assert_eq!(of_one[0].total_calls, 1);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until a log is asked with it"]
pub struct Statistics {
    tool: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Statistics {
    /// All calls of all tools.
    pub fn new() -> Statistics {
        Statistics::default()
    }

    /// Only this tool's. The answer then has one row, also where the tool was never called.
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
}

/// How one tool was used. Durations are of the calls that have one; percentiles are nearest-rank, told with an error
/// of at most 1 %.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolStatistics {
    /// The tool.
    pub tool: String,
    /// Calls that ended, in whichever way. A call in two steps counts once, and an answer that was
    /// recorded after its call had been recorded as unanswered is none of its own.
    pub total_calls: u64,
    /// Calls that succeeded.
    pub successes: u64,
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
    /// Users who started at least one of the calls. Whoever is known by a clear name and by pseudonyms counts once.
    pub unique_users: u64,
    /// Whether some of them may be one person: pseudonyms under several keys, or clear names and pseudonyms whose key is not
    /// here.
    pub users_may_repeat: bool,
    /// The day (UTC) of the first of the calls: what was purged is not counted. `None` without calls.
    pub since: Option<Timestamp>,
}

impl ToolStatistics {
    /// The part of the calls that succeeded, from 0 to 1; `None` without calls.
    pub fn success_rate(&self) -> Option<f64> {
        (self.total_calls > 0).then(|| self.successes as f64 / self.total_calls as f64)
    }

    fn of(tool: String, cell: &mut Cell) -> ToolStatistics {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let timed = cell.timed > 0;
        let mut percentile = |p| cell.percentile(p).map(ms);
        let (p50, p95, p99) = (percentile(0.50), percentile(0.95), percentile(0.99));
        ToolStatistics {
            tool,
            total_calls: cell.calls,
            successes: cell.successes,
            avg_duration_ms: timed.then(|| cell.sum_nanos as f64 / cell.timed as f64 / 1e6),
            max_duration_ms: timed.then(|| ms(cell.max_nanos)),
            p50_duration_ms: p50,
            p95_duration_ms: p95,
            p99_duration_ms: p99,
            unique_users: cell.users.rows().len() as u64,
            users_may_repeat: false,
            since: None,
        }
    }
}

impl AuditLog {
    /// How tools were used, by name of the tool.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    pub fn statistics(&self, of: &Statistics) -> Result<Vec<ToolStatistics>> {
        if let (Some(since), Some(until)) = (of.since, of.until)
            && since > until
        {
            return Err(Error::invalid(format!(
                "the time range is inverted: it begins at {since} and ends at {until}"
            )));
        }
        self.check_damage()?;
        guarded(|| self.added_up(of))
    }

    fn added_up(&self, of: &Statistics) -> Result<Vec<ToolStatistics>> {
        let mut snapshot = self.snapshot()?;
        // A batch may have been finished between the moment of the snapshot and its transaction, and the rollups hold it
        // then. Its entries are counted there, not in the pending index as well.
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
        // Whole days from the rollups; the days that the range cuts from the entries.
        let first_whole = if since == Timestamp::start_of_day(since.day()) { since.day() } else { since.day() + 1 };
        let whole = first_whole..until.day().max(first_whole);
        let whole = if of.until.is_none() { first_whole..i32::MAX } else { whole };
        let whole = if of.since.is_none() { i32::MIN..whole.end } else { whole };
        sums.whole_days(&snapshot, tools, whole.clone())?;
        let mut cut = Vec::new();
        if of.since.is_some() && since.day() < whole.start {
            let to = until.min(Timestamp::start_of_day(since.day() + 1));
            // The last instant that there is has no other behind it.
            cut.push((since, (of.until.is_some() || to < Timestamp::MAX).then_some(to)));
        }
        if of.until.is_some() && until.day() >= whole.end && (cut.is_empty() || until.day() != since.day()) {
            cut.push((since.max(Timestamp::start_of_day(until.day())), Some(until)));
        }
        for (from, to) in cut {
            self.cut_day(&snapshot, &mut sums, of.tool.as_deref(), from, to)?;
        }
        sums.pending(&snapshot, tools, since, of.until)?;
        if let Some(tool) = &of.tool {
            // However it is written, it is the one tool that was asked for.
            let mut one = Cell::default();
            std::mem::take(&mut sums.cells).values().for_each(|cell| one.merge(cell));
            sums.cells.insert(tool.clone(), one);
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
            let mut of = ToolStatistics { since, ..ToolStatistics::of(tool, &mut cell) };
            if persons.any_hidden() {
                let names = cell.users.rows().iter().filter_map(|(id, _)| users.get(id)).map(String::as_str);
                (of.unique_users, of.users_may_repeat) = persons.count(names);
            }
            of
        };
        Ok(sums.cells.into_iter().map(of).collect())
    }

    /// Adds up calls of the file's index with a time in `[from, to)`, or from `from` on, entry by entry.
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
            let entry = entry?;
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

/// Cells by tool. Users that the file's index does not know yet get numbers from the far end.
struct Sums {
    cells: BTreeMap<String, Cell>,
    users: BTreeMap<String, u64>,
    /// By tool, the day of its first call.
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

    fn pending(
        &mut self,
        snapshot: &Snapshot,
        tools: Option<&[String]>,
        since: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<()> {
        for mem_segment in &snapshot.mem_segments {
            let index = mem_segment.read();
            if let Some(place) = index.unplaced.first() {
                return Err(not_placed(mem_segment.from + u64::from(*place)));
            }
            let only: Option<Vec<u32>> =
                tools.map(|tools| tools.iter().filter_map(|tool| index.term(Facet::Tool, tool)).collect());
            for row in &index.calls {
                let time = Timestamp::from_nanos(index.times[row.offset as usize]);
                let seq = mem_segment.from + u64::from(row.offset);
                let counts = (snapshot.indexed..snapshot.size).contains(&seq)
                    && only.as_ref().is_none_or(|ids| ids.contains(&row.tool))
                    && since <= time
                    && until.is_none_or(|until| time < until);
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
