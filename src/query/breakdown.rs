//! How groups of calls went. By tool alone the figures come from the rollups, like statistics; otherwise each entry that the query
//! finds is read once, by several threads, each of which takes a part of the log.

use super::statistics::Durations;
use super::{Persons, Query, Statistics};
use crate::json::{Json, Object};
use crate::store::{Cell, OpenStore, guarded};
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Kind};
use attestlog_proof::json::form::Form;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The most kinds of failure that are told apart in one group; further ones count as [`OTHER`].
const MOST_ERRORS: usize = 200;
const OTHER: &str = "(other)";
/// A thread is worth its while for this many entries.
const PART: u64 = 1 << 15;

/// What calls are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Grouping {
    /// The tool's name.
    Tool,
    /// The model that decided on the call.
    Model,
    /// The agent in which the model ran.
    Agent,
    /// The server that offers the tool.
    Server,
    /// Who started the call.
    User,
    /// What the call read or changed: it counts in the group of each of its resources.
    Resource,
    /// The day of the call, UTC.
    Day,
}

impl Grouping {
    /// All of them.
    pub const ALL: &[Grouping] = &[
        Grouping::Tool,
        Grouping::Model,
        Grouping::Agent,
        Grouping::Server,
        Grouping::User,
        Grouping::Resource,
        Grouping::Day,
    ];

    /// Its name on the command line and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Grouping::Tool => "tool",
            Grouping::Model => "model",
            Grouping::Agent => "agent",
            Grouping::Server => "server",
            Grouping::User => "user",
            Grouping::Resource => "resource",
            Grouping::Day => "day",
        }
    }

    /// The values of a call, each with its group.
    fn of(self, call: &Call) -> Vec<Option<String>> {
        let one = |value: &Option<String>| vec![value.clone()];
        match self {
            Grouping::Tool => vec![Some(call.tool_name.clone())],
            Grouping::Model => one(&call.model),
            Grouping::Agent => one(&call.agent_id),
            Grouping::Server => one(&call.tool_server),
            Grouping::User => vec![Some(call.user_id.clone())],
            Grouping::Day => vec![Some(day(call.timestamp))],
            Grouping::Resource => {
                let resources = call.circumstances.iter().flat_map(|around| &around.resources);
                let mut names: Vec<_> = resources.map(|resource| Some(resource.name.clone())).collect();
                names.sort_unstable();
                names.dedup();
                if names.is_empty() { vec![None] } else { names }
            }
        }
    }
}

attestlog_proof::named_form!(Grouping, "grouping");

fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// Which calls to add up, and by what.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it does nothing until a log is asked with it"]
pub struct Breakdown {
    by: Vec<Grouping>,
    of: Query,
}

attestlog_proof::json_form!(members Breakdown { by, of });

impl Breakdown {
    /// The most groups of one answer.
    pub const MOST_GROUPS: usize = 100_000;

    /// The calls that `of` finds, by these; by none, all are one group.
    pub fn new(by: impl IntoIterator<Item = Grouping>, of: Query) -> Breakdown {
        Breakdown { by: by.into_iter().collect(), of }
    }

    /// What is grouped by.
    pub fn by(&self) -> &[Grouping] {
        &self.by
    }

    /// The groups that a call is in.
    fn groups(&self, call: &Call) -> Vec<Vec<Option<String>>> {
        let mut groups = vec![Vec::with_capacity(self.by.len())];
        for by in &self.by {
            let values = by.of(call);
            let with = |group: &Vec<Option<String>>| {
                let each = values.iter().map(|value| group.iter().chain([value]).cloned().collect());
                each.collect::<Vec<_>>()
            };
            groups = groups.iter().flat_map(with).collect();
        }
        groups
    }
}

/// How calls went. Durations are those of the calls that have one, in milliseconds; percentiles are nearest-rank, with an error of at
/// most 1 %.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Figures {
    /// Calls that ended, however they ended.
    pub total_calls: u64,
    /// Calls that succeeded, those included whose late answer says so.
    pub successes: u64,
    /// Calls that were begun and have no end. No other figure counts them.
    pub unfinished: u64,
    /// Mean duration.
    pub avg_duration_ms: Option<f64>,
    /// Longest duration.
    pub max_duration_ms: Option<f64>,
    /// Half of the calls took no longer.
    pub p50_duration_ms: Option<f64>,
    /// 95 % of the calls took no longer.
    pub p95_duration_ms: Option<f64>,
    /// 99 % of the calls took no longer.
    pub p99_duration_ms: Option<f64>,
    /// Users who started at least one of the calls.
    pub unique_users: u64,
    /// Whether some of them may be the same person.
    pub users_may_repeat: bool,
}

attestlog_proof::json_form!(members Figures {
    total_calls, successes, unfinished, avg_duration_ms, max_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms,
    unique_users, users_may_repeat
});

impl Figures {
    /// The share of the calls that succeeded, from 0 to 1; `None` without calls.
    pub fn success_rate(&self) -> Option<f64> {
        (self.total_calls > 0).then(|| self.successes as f64 / self.total_calls as f64)
    }

    /// The members of a row of `stats --by --json`, as those of `stats --json`.
    pub fn to_json(&self) -> Object {
        Object::from_iter([
            ("total_calls", self.total_calls.form()),
            ("success_rate", self.success_rate().form()),
            ("avg_duration_ms", self.avg_duration_ms.form()),
            ("max_duration_ms", self.max_duration_ms.form()),
            ("p50_duration_ms", self.p50_duration_ms.form()),
            ("p95_duration_ms", self.p95_duration_ms.form()),
            ("p99_duration_ms", self.p99_duration_ms.form()),
            ("unique_users", self.unique_users.form()),
            ("users_may_repeat", self.users_may_repeat.form()),
            ("unfinished", self.unfinished.form()),
        ])
    }

    fn of(cell: &mut Cell) -> Figures {
        let Durations { avg, max, p50, p95, p99 } = Durations::of(cell);
        Figures {
            total_calls: cell.calls,
            successes: cell.successes,
            unfinished: 0,
            avg_duration_ms: avg,
            max_duration_ms: max,
            p50_duration_ms: p50,
            p95_duration_ms: p95,
            p99_duration_ms: p99,
            unique_users: cell.users.rows().len() as u64,
            users_may_repeat: false,
        }
    }
}

/// One group of calls.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Group {
    /// The value of each grouping, in their order; `None`: the calls that have none.
    pub by: Vec<Option<String>>,
    /// How its calls went.
    pub figures: Figures,
    /// How many calls failed in which way: by the type of the error, or, if it has none, by the outcome ([`Call::failure`]).
    pub errors: BTreeMap<String, u64>,
}

attestlog_proof::json_form!(members Group { by, figures, errors });

impl Group {
    /// A group without calls.
    pub fn empty(by: Vec<Option<String>>) -> Group {
        Group { by, figures: Figures::default(), errors: BTreeMap::new() }
    }

    /// A row of `stats --by --json`: a member for each grouping, [`Figures::to_json`], and `"errors":{type:count}`.
    pub fn to_json(&self, by: &[Grouping]) -> Json {
        let mut row: Object = by.iter().zip(&self.by).map(|(by, value)| (by.as_str(), value.form())).collect();
        for (name, value) in self.figures.to_json().iter() {
            row.insert(name, value.clone());
        }
        row.insert("errors", self.errors.form());
        row.into()
    }
}

/// What is added up of a group.
#[derive(Default)]
struct Sum {
    cell: Cell,
    unfinished: u64,
    errors: BTreeMap<String, u64>,
}

impl Sum {
    fn failed(&mut self, call: &Call) {
        call.failure().into_iter().for_each(|how| self.failures(how, 1));
    }

    fn failures(&mut self, how: &str, count: u64) {
        let known = self.errors.contains_key(how) || self.errors.len() < MOST_ERRORS;
        *self.errors.entry(if known { how } else { OTHER }.to_owned()).or_default() += count;
    }
}

/// The number of each user, for all threads.
#[derive(Default)]
struct Users(Mutex<HashMap<String, u64>>);

impl Users {
    fn number(&self, name: &str) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = all.len() as u64;
        *all.entry(name.to_owned()).or_insert(next)
    }
}

/// All groups of a part of the log.
#[derive(Default)]
struct Sums {
    groups: HashMap<Vec<Option<String>>, Sum>,
    /// The numbers of the users that were met.
    users: HashMap<String, u64>,
}

impl Sums {
    fn merge(&mut self, other: Sums) -> Result<()> {
        for (by, sum) in other.groups {
            let group = self.group(by)?;
            group.cell.merge(&sum.cell);
            group.unfinished += sum.unfinished;
            sum.errors.iter().for_each(|(how, count)| group.failures(how, *count));
        }
        Ok(())
    }

    fn group(&mut self, by: Vec<Option<String>>) -> Result<&mut Sum> {
        if self.groups.len() >= Breakdown::MOST_GROUPS && !self.groups.contains_key(&by) {
            return Err(Error::invalid(format!(
                "there are more than {} groups; ask for fewer calls, or by less",
                Breakdown::MOST_GROUPS
            )));
        }
        Ok(self.groups.entry(by).or_default())
    }

    fn add(&mut self, by: Vec<Option<String>>, call: &Call, success: bool, users: &Users) -> Result<()> {
        let user = match self.users.get(&call.user_id) {
            Some(user) => *user,
            None => *self.users.entry(call.user_id.clone()).or_insert_with(|| users.number(&call.user_id)),
        };
        let group = self.group(by)?;
        group.cell.add(user, success, call.duration_nanos());
        if !success {
            group.failed(call);
        }
        Ok(())
    }
}

impl OpenStore {
    /// How groups of calls went, those with most calls first.
    pub(crate) fn breakdown(&self, of: &Breakdown) -> Result<Vec<Group>> {
        of.of.check()?;
        if of.of.facets.contains_key(&Facet::Kind) || of.of.unfinished || of.of.limit.is_some() || of.of.after.is_some()
        {
            return Err(Error::invalid(
                "figures are of calls that ended: of no kind of entry, and of no part of an answer",
            ));
        }
        if of.by.iter().collect::<HashSet<_>>().len() < of.by.len() {
            return Err(Error::invalid("the same grouping is asked for twice"));
        }
        self.check_damage()?;
        let mut groups = self.of_one_moment(|| guarded(|| self.breakdown_once(of, self.reading_threads())))?;
        groups.sort_by(|a, b| b.figures.total_calls.cmp(&a.figures.total_calls).then_with(|| a.by.cmp(&b.by)));
        Ok(groups)
    }

    /// How many threads read this log.
    fn reading_threads(&self) -> u64 {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
        threads.min(self.size() / PART).max(1)
    }

    fn breakdown_once(&self, of: &Breakdown, parts: u64) -> Result<Vec<Group>> {
        let mended = self.mended(None, |_| true)?;
        if let Some(groups) = self.of_rollups(of, &mended)? {
            return Ok(groups);
        }
        let users = Users::default();
        let mut sums = Sums::default();
        for part in self.in_parts(parts, |part| self.part(of, part, &mended, &users))? {
            sums.merge(part)?;
        }
        self.each_call(&of.of.clone().kind(Kind::CallBegun).unfinished(), 0..u64::MAX, |_, call| {
            of.groups(call).into_iter().try_for_each(|by| {
                sums.group(by)?.unfinished += 1;
                Ok(())
            })
        })?;
        let persons = Persons::of(&self.snapshot()?, self.engine().policies().sanitizer.as_ref(), Facet::User)?;
        let names: HashMap<u64, String> = match persons.any_hidden() {
            true => users
                .0
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .into_iter()
                .map(|(name, id)| (id, name))
                .collect(),
            false => HashMap::new(),
        };
        let group = |(by, mut sum): (Vec<Option<String>>, Sum)| {
            let mut figures = Figures { unfinished: sum.unfinished, ..Figures::of(&mut sum.cell) };
            if persons.any_hidden() {
                let users = sum.cell.users.rows().iter().filter_map(|(id, _)| names.get(id)).map(String::as_str);
                (figures.unique_users, figures.users_may_repeat) = persons.count(users);
            }
            Group { by, figures, errors: sum.errors }
        };
        Ok(sums.groups.into_iter().map(group).collect())
    }

    /// The groups of a question that the rollups answer: by tool, of a time range.
    fn of_rollups(&self, of: &Breakdown, mended: &HashSet<u64>) -> Result<Option<Vec<Group>>> {
        let Query { facets, since, until, conditions, .. } = &of.of;
        if of.by != [Grouping::Tool] || !facets.is_empty() || conditions.any() {
            return Ok(None);
        }
        let statistics = since.iter().fold(Statistics::new(), |of, since| of.since(*since));
        let statistics = self.statistics(&until.iter().fold(statistics, |of, until| of.until(*until)))?;
        let mut errors: HashMap<String, Sum> = HashMap::new();
        self.each_call(&of.of.clone().kind(Kind::ToolCall).failed(), 0..u64::MAX, |seq, call| {
            if call.is_counted() && !mended.contains(&seq) {
                errors.entry(call.tool_name.clone()).or_default().failed(call);
            }
            Ok(())
        })?;
        let group = |tool: super::ToolStatistics| Group {
            errors: errors.remove(&tool.tool).unwrap_or_default().errors,
            figures: Figures {
                total_calls: tool.total_calls,
                successes: tool.successes,
                unfinished: tool.unfinished,
                avg_duration_ms: tool.avg_duration_ms,
                max_duration_ms: tool.max_duration_ms,
                p50_duration_ms: tool.p50_duration_ms,
                p95_duration_ms: tool.p95_duration_ms,
                p99_duration_ms: tool.p99_duration_ms,
                unique_users: tool.unique_users,
                users_may_repeat: tool.users_may_repeat,
            },
            by: vec![Some(tool.tool)],
        };
        Ok(Some(statistics.into_iter().map(group).collect()))
    }

    /// The sums of the calls that ended in a part of the log.
    fn part(&self, of: &Breakdown, part: Range<u64>, mended: &HashSet<u64>, users: &Users) -> Result<Sums> {
        let mut sums = Sums::default();
        self.each_call(&of.of.clone().kind(Kind::ToolCall), part, |seq, call| {
            if !call.is_counted() {
                return Ok(());
            }
            let success = call.success() == Some(true) || mended.contains(&seq);
            of.groups(call).into_iter().try_for_each(|by| sums.add(by, call, success, users))
        })?;
        Ok(sums)
    }

    /// Has each part of the log read by a thread of its own.
    fn in_parts<T: Send>(&self, parts: u64, read: impl Fn(Range<u64>) -> Result<T> + Sync) -> Result<Vec<T>> {
        let each = self.size() / parts;
        let starts: Vec<u64> = (0..parts).map(|part| each * part).collect();
        let ends = starts.iter().skip(1).copied().chain([u64::MAX]);
        let parts: Vec<Range<u64>> = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
        if let [all] = &parts[..] {
            return read(all.clone()).map(|all| vec![all]);
        }
        let read = &read;
        std::thread::scope(|scope| {
            let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || guarded(|| read(part)))).collect();
            let ended = |_| Err(Error::new(ErrorKind::Io, "a thread that read a part of the log has failed"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(ended)).collect()
        })
    }

    fn each_call(&self, query: &Query, part: Range<u64>, mut each: impl FnMut(u64, &Call) -> Result<()>) -> Result<()> {
        let mut query = Query { newest_first: false, ..query.clone() };
        query.after = part.start.checked_sub(1);
        for entry in self.query(&query)?.beside() {
            let entry = match entry {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            if entry.seq >= part.end {
                break;
            }
            if let Some(call) = entry.call() {
                each(entry.seq, call)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Outcome, ToolCall};

    /// However many threads read the log, the figures are the same: each call is in one part, a user has one number, and an error
    /// counts once.
    #[test]
    fn the_figures_do_not_depend_on_how_many_threads_read() {
        let log = Options::new().store_in_memory().unwrap();
        for n in 0..60u32 {
            let mut call = ToolCall::new(format!("c{}", n / 7), format!("u{}", n % 5), ["look", "pay"][n as usize % 2]);
            call.duration_ms = Some(f64::from(n) + 1.0);
            if n % 4 == 0 {
                call.outcome = Some([Outcome::Denied, Outcome::Timeout][n as usize / 4 % 2]);
            }
            log.record(call).unwrap();
        }
        for by in [&[Grouping::User][..], &[Grouping::Day, Grouping::Tool], &[]] {
            for of in [Query::new(), Query::new().failed(), Query::new().user("u3").newest_first()] {
                let of = Breakdown::new(by.iter().copied(), of);
                let sorted = |parts| {
                    let mut groups = log.breakdown_once(&of, parts).unwrap();
                    groups.sort_by(|a, b| a.by.cmp(&b.by));
                    groups
                };
                let one = sorted(1);
                assert!(one.iter().map(|group| group.figures.total_calls).sum::<u64>() >= 12);
                for parts in [2, 3, 7, 61] {
                    assert_eq!(sorted(parts), one, "{parts} parts, {of:?}");
                }
            }
        }
    }
}
