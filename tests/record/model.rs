//! The store behaves like a plain list: random operations are compared with a `Vec`, after each of them.
//!
//! `flush_index` cuts index batches short, so that every boundary between the file's index and the pending one is crossed
//! with a few dozen entries; blocks, batches, reopening and queries meet each other in every order.

use crate::store_common::*;
use attestlog::host::ManualClock;
use attestlog::query::Statistics;
use attestlog::{
    AuditLog, Begun, Entry, ErrorKind, Facet, Kind, Outcome, Query, Receipt, Result, Sender, Timestamp, ToolCall,
    Trigger,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const TOOLS: [&str; 4] = [
    "lookup",
    "issue_refund",
    "update_treatment",
    "a_tool_whose_name_is_so_long_that_the_dictionary_keeps_only_its_hash_and_not_the_name_itself",
];
const PURPOSES: [&str; 2] = ["treatment", "payment"];
/// Times of calls, around noon and midnight of a few days, in milliseconds after [`START`]'s midnight.
const TIMES: [i64; 8] = [0, 1, 43_200_000, 86_399_999, 86_400_000, 100_000_000, 172_800_000, -86_400_000];

#[derive(Debug, Clone)]
struct CallSpec {
    conversation: u8,
    user: u8,
    tool: u8,
    patients: Vec<u8>,
    model: Option<u8>,
    purpose: Option<u8>,
    trigger: Option<u8>,
    time: Option<u8>,
    outcome: u8,
    micros: Option<u32>,
    sender: Option<(u8, u8)>,
    emergency: bool,
    agent: bool,
    padding: u16,
}

#[derive(Debug, Clone)]
struct QuerySpec {
    facets: Vec<(u8, Vec<u8>)>,
    since: Option<u8>,
    until: Option<u8>,
    after: Option<u64>,
    limit: Option<u64>,
    newest_first: bool,
    unfinished: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Record(CallSpec),
    Batch(Vec<CallSpec>),
    /// A batch in which one call is refused for this reason.
    Refused(Vec<CallSpec>, u8),
    Begin(CallSpec),
    Finish(u8, CallSpec),
    Abandon(u8),
    Flush,
    Reopen,
    Advance(u32),
    SetBack(u16),
    Query(QuerySpec),
    Statistics(Option<u8>, Option<u8>, Option<u8>),
    Timeline(u8),
}

fn call() -> impl Strategy<Value = CallSpec> {
    let who = (0..3u8, 0..4u8, 0..4u8, prop::collection::vec(0..3u8, 0..3));
    let what = (prop::option::of(0..2u8), prop::option::of(0..2u8), prop::option::of(0..5u8));
    let how = (prop::option::of(0..8u8), 0..6u8, prop::option::of(0..90_000_000u32));
    let rest = (prop::option::weighted(0.2, (0..2u8, 1..6u8)), prop::bool::weighted(0.1), any::<bool>(), 0..900u16);
    (who, what, how, rest).prop_map(|(who, what, how, rest)| CallSpec {
        conversation: who.0,
        user: who.1,
        tool: who.2,
        patients: who.3,
        model: what.0,
        purpose: what.1,
        trigger: what.2,
        time: how.0,
        outcome: how.1,
        micros: how.2,
        sender: rest.0,
        emergency: rest.1,
        agent: rest.2,
        padding: rest.3,
    })
}

fn query() -> impl Strategy<Value = QuerySpec> {
    let facets = prop::collection::vec((0..11u8, prop::collection::vec(0..4u8, 1..3)), 0..3);
    let times = (prop::option::weighted(0.3, 0..8u8), prop::option::weighted(0.3, 0..8u8));
    let page = (prop::option::weighted(0.4, 0..60u64), prop::option::weighted(0.4, 0..9u64));
    (facets, times, page, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(facets, (since, until), (after, limit), newest_first, unfinished)| QuerySpec {
            facets,
            since,
            until,
            after,
            limit,
            newest_first,
            unfinished,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => call().prop_map(Op::Record),
        4 => prop::collection::vec(call(), 0..12).prop_map(Op::Batch),
        1 => (prop::collection::vec(call(), 1..5), 0..5u8).prop_map(|(calls, why)| Op::Refused(calls, why)),
        2 => call().prop_map(Op::Begin),
        2 => (any::<u8>(), call()).prop_map(|(which, end)| Op::Finish(which, end)),
        1 => any::<u8>().prop_map(Op::Abandon),
        2 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => (0..200_000u32).prop_map(Op::Advance),
        1 => (0..5_000u16).prop_map(Op::SetBack),
        8 => query().prop_map(Op::Query),
        2 => (prop::option::of(0..4u8), prop::option::of(0..8u8), prop::option::of(0..8u8))
            .prop_map(|(tool, since, until)| Op::Statistics(tool, since, until)),
        1 => (0..4u8).prop_map(Op::Timeline),
    ]
}

fn at(index: u8) -> Timestamp {
    Timestamp::from_nanos(time("2025-03-01").nanos() + TIMES[usize::from(index)] * 1_000_000)
}

fn user(index: u8) -> String {
    if index == 3 { format!("user-{}", "x".repeat(80)) } else { format!("usr_{index}") }
}

impl CallSpec {
    fn begun(&self) -> ToolCall {
        let mut call = ToolCall::new(format!("conv_{}", self.conversation), user(self.user), TOOLS[self.tool as usize])
            .arguments(attestlog::json::Json::from(vec!["x".repeat(self.padding.into())]));
        for patient in &self.patients {
            call = call.patient(format!("P-{patient}"));
        }
        if let Some(model) = self.model {
            call = call.model(format!("model-{model}"));
        }
        if let Some(purpose) = self.purpose {
            call = call.purpose(PURPOSES[usize::from(purpose)]);
        }
        if let Some(trigger) = self.trigger {
            call = call.trigger(Trigger::ALL[usize::from(trigger)]);
        }
        if let Some(index) = self.time {
            call = call.timestamp(at(index));
        }
        if self.emergency {
            call = call.emergency(None);
        }
        if self.agent {
            call = call.agent("agent").server("server");
        }
        call
    }

    fn end(&self, call: ToolCall) -> ToolCall {
        let call = match Outcome::ALL[usize::from(self.outcome)] {
            Outcome::Ok => call.result("fine"),
            Outcome::ToolError => call.error("it failed"),
            other => call.outcome(other),
        };
        match self.micros {
            Some(micros) => call.duration(Duration::from_micros(micros.into())),
            None => call,
        }
    }

    fn whole(&self) -> ToolCall {
        let call = self.end(self.begun());
        match self.sender {
            Some((id, number)) => call.sender(Sender::new(format!("sender_{id}"), number.into())),
            None => call,
        }
    }
}

/// What the model knows of an entry.
#[derive(Debug, Clone)]
struct Row {
    kind: Kind,
    time: Timestamp,
    spec: Option<CallSpec>,
    end: Option<(Outcome, Option<u64>)>,
    /// The seq of the beginning that this entry ends.
    ends: Option<u64>,
    line: String,
}

impl Row {
    fn has(&self, field: Facet, value: &str) -> bool {
        if field == Facet::Kind {
            return self.kind.as_str() == value;
        }
        let Some(spec) = &self.spec else { return false };
        match field {
            Facet::Conversation => format!("conv_{}", spec.conversation) == value,
            Facet::User => user(spec.user) == value,
            Facet::Tool => TOOLS[usize::from(spec.tool)] == value,
            Facet::Patient => spec.patients.iter().any(|p| format!("P-{p}") == value),
            Facet::Model => spec.model.is_some_and(|m| format!("model-{m}") == value),
            Facet::Outcome => self.end.map_or("begun", |e| e.0.as_str()) == value,
            Facet::Trigger => spec.trigger.is_some_and(|t| Trigger::ALL[usize::from(t)].as_str() == value),
            Facet::Purpose => spec.purpose.is_some_and(|p| PURPOSES[usize::from(p)] == value),
            Facet::Emergency => spec.emergency && value == "true",
            Facet::Agent => spec.agent && value == "agent",
            Facet::Class => class(spec) == value,
            _ => false,
        }
    }
}

/// The default policy: a patient means healthcare, unless the tool demands more.
fn class(spec: &CallSpec) -> &'static str {
    match spec.tool {
        1 => "financial",
        _ if !spec.patients.is_empty() => "healthcare",
        2 => "healthcare",
        _ => "general",
    }
}

/// The values of a facet that queries ask for; some are never recorded.
fn value(facet: u8, index: u8) -> (Facet, String) {
    let at = usize::from(index);
    match facet {
        0 => (Facet::Conversation, format!("conv_{index}")),
        1 => (Facet::User, user(index)),
        2 => (Facet::Tool, TOOLS[at].to_owned()),
        3 => (Facet::Patient, format!("P-{index}")),
        4 => (Facet::Model, format!("model-{index}")),
        5 => (Facet::Outcome, ["ok", "tool_error", "begun", "denied"][at].to_owned()),
        6 => (Facet::Trigger, Trigger::ALL[at].as_str().to_owned()),
        7 => (Facet::Purpose, ["treatment", "payment", "research", ""][at].to_owned()),
        8 => (Facet::Kind, ["tool_call", "call_begun", "index_batch", "genesis"][at].to_owned()),
        9 => (Facet::Class, ["general", "financial", "healthcare", "none"][at].to_owned()),
        _ => (Facet::Emergency, ["true", "false", "true", ""][at].to_owned()),
    }
}

struct Game {
    log: Option<AuditLog>,
    disk: Disk,
    clock: Arc<ManualClock>,
    reopened: u64,
    rows: Vec<Row>,
    begun: Vec<(Begun, CallSpec)>,
    unfinished: BTreeSet<u64>,
    senders: BTreeMap<(u8, u8), Receipt>,
    /// The call for which each number was first recorded: the number of another call is refused (`senders` tests that).
    numbered: BTreeMap<(u8, u8), CallSpec>,
}

impl Game {
    fn new() -> Game {
        let (log, disk, clock) = store(1);
        let mut game = Game {
            log: Some(log),
            disk,
            clock,
            reopened: 1,
            rows: Vec::new(),
            begun: Vec::new(),
            unfinished: BTreeSet::new(),
            senders: BTreeMap::new(),
            numbered: BTreeMap::new(),
        };
        game.catch_up(&[]);
        let kinds: Vec<Kind> = game.rows.iter().map(|r| r.kind).collect();
        assert_eq!(kinds, [Kind::Genesis, Kind::Policy]);
        game
    }

    fn log(&self) -> &AuditLog {
        self.log.as_ref().unwrap()
    }

    /// Updates the model with what was recorded: the calls as the model has them, and the store's own entries.
    fn catch_up(&mut self, calls: &[(u64, Row)]) {
        let log = self.log().clone();
        for seq in self.rows.len() as u64..log.size().unwrap() {
            let entry = log.entry(seq).unwrap();
            let line = entry.line();
            match calls.iter().find(|(at, _)| *at == seq) {
                Some((_, row)) => {
                    assert_eq!((entry.kind(), entry.timestamp()), (row.kind, row.time));
                    self.rows.push(Row { line, ..row.clone() });
                }
                None => {
                    assert!(!entry.kind().is_call(), "nobody recorded {line}");
                    let time = entry.timestamp();
                    self.rows.push(Row { kind: entry.kind(), time, spec: None, end: None, ends: None, line });
                }
            }
        }
        assert!(calls.iter().all(|(seq, _)| *seq < self.rows.len() as u64));
    }

    fn now(&self) -> Timestamp {
        use attestlog::host::Clock;
        self.clock.now()
    }

    fn row(&self, spec: &CallSpec, kind: Kind, ends: Option<(u64, &CallSpec)>) -> Row {
        let end = ends.map_or(spec, |(_, end)| end);
        let nanos = end.micros.map(|micros| u64::from(micros) * 1000);
        let end = (kind == Kind::ToolCall).then(|| (Outcome::ALL[usize::from(end.outcome)], nanos));
        let time = spec.time.map_or(self.now(), at);
        Row { kind, time, spec: Some(spec.clone()), end, ends: ends.map(|(seq, _)| seq), line: String::new() }
    }

    /// The call with that number, if it was recorded before: what is recorded again is the same call.
    fn again(&self, spec: &CallSpec) -> CallSpec {
        spec.sender.and_then(|sender| self.numbered.get(&sender)).unwrap_or(spec).clone()
    }

    /// Registers calls that were recorded with these receipts.
    fn recorded(&mut self, specs: &[CallSpec], receipts: &[Receipt]) {
        assert_eq!(specs.len(), receipts.len());
        let mut new = Vec::new();
        for (spec, receipt) in specs.iter().zip(receipts) {
            if let Some(sender) = spec.sender {
                let first = *self.senders.entry(sender).or_insert(*receipt);
                self.numbered.entry(sender).or_insert_with(|| spec.clone());
                assert_eq!(first, *receipt, "a repeated number is answered with its first receipt");
                if receipt.seq < self.rows.len() as u64 || new.iter().any(|(seq, _)| *seq == receipt.seq) {
                    continue;
                }
            }
            new.push((receipt.seq, self.row(spec, Kind::ToolCall, None)));
        }
        self.catch_up(&new);
        for receipt in receipts {
            assert_eq!(self.log().entry(receipt.seq).unwrap().hash(), receipt.hash);
        }
    }

    fn play(&mut self, op: &Op) {
        match op {
            Op::Record(spec) => {
                let spec = self.again(spec);
                let receipt = self.log().record(spec.whole()).unwrap();
                self.recorded(std::slice::from_ref(&spec), &[receipt]);
            }
            Op::Batch(specs) => {
                let mut specs: Vec<CallSpec> = specs.iter().map(|spec| self.again(spec)).collect();
                let mut first: BTreeMap<(u8, u8), CallSpec> = BTreeMap::new();
                for spec in &mut specs {
                    if let Some(sender) = spec.sender {
                        *spec = first.entry(sender).or_insert(spec.clone()).clone();
                    }
                }
                let receipts = self.log().record_batch(specs.iter().map(CallSpec::whole)).unwrap();
                self.recorded(&specs, &receipts);
            }
            Op::Refused(specs, why) => {
                let mut calls: Vec<ToolCall> = specs.iter().map(|spec| self.again(spec).whole()).collect();
                // Two different calls with one sender's number would be refused for that reason first.
                calls.iter_mut().for_each(|call| call.sender = None);
                let (bad, kind) = match why {
                    0 => (ToolCall::new("c", "", "t"), ErrorKind::InvalidInput),
                    1 => (ToolCall::new("c", "u\0", "t"), ErrorKind::InvalidInput),
                    2 => (ToolCall::new("c", "u", "t").retry_of(1 << 40), ErrorKind::InvalidInput),
                    3 => (ToolCall::new("c".repeat(70_000), "u", "t"), ErrorKind::TooLarge),
                    _ => (ToolCall::new("c", "u", "t").error("e").outcome(Outcome::Ok), ErrorKind::InvalidInput),
                };
                calls.push(bad);
                let refused = self.log().record_batch(calls).unwrap_err();
                assert_eq!(refused.kind(), kind, "{refused}");
                assert_eq!(self.log().size().unwrap(), self.rows.len() as u64);
            }
            Op::Begin(spec) => {
                let begun = self.log().begin(spec.begun()).unwrap();
                let seq = begun.receipt().seq;
                self.catch_up(&[(seq, self.row(spec, Kind::CallBegun, None))]);
                self.unfinished.insert(seq);
                self.begun.push((begun, spec.clone()));
            }
            Op::Finish(which, end) if !self.begun.is_empty() => {
                let (begun, spec) = self.begun.remove(usize::from(*which) % self.begun.len());
                let seq = begun.receipt().seq;
                let receipt = begun.finish(|call| end.end(call)).unwrap();
                self.catch_up(&[(receipt.seq, self.row(&spec, Kind::ToolCall, Some((seq, end))))]);
                self.unfinished.remove(&seq);
            }
            Op::Abandon(which) if !self.begun.is_empty() => {
                let _ = self.begun.remove(usize::from(*which) % self.begun.len());
            }
            Op::Finish(..) | Op::Abandon(_) => {}
            Op::Flush => {
                self.log().flush_index().unwrap();
                self.catch_up(&[]);
            }
            Op::Reopen => {
                // A call that was begun cannot be finished by another process.
                self.begun.clear();
                self.log.take().unwrap().close().unwrap();
                self.reopened += 1;
                self.log = Some(options(&self.clock, self.reopened).open_on(self.disk.backend()).unwrap());
                assert_eq!(self.log().size().unwrap(), self.rows.len() as u64);
            }
            Op::Advance(seconds) => self.clock.advance(Duration::from_secs((*seconds).into())),
            Op::SetBack(seconds) => self.clock.set(self.now().minus(Duration::from_secs((*seconds).into()))),
            Op::Query(spec) => self.query(spec),
            Op::Statistics(tool, since, until) => self.statistics(*tool, *since, *until),
            Op::Timeline(conversation) => self.timeline(*conversation),
        }
    }

    fn query(&self, spec: &QuerySpec) {
        let mut query = Query::new();
        let mut asked: BTreeMap<Facet, Vec<String>> = BTreeMap::new();
        for (facet, values) in &spec.facets {
            for &index in values {
                let (field, value) = value(*facet, index);
                asked.entry(field).or_default().push(value.clone());
                query = query.facet(field, value);
            }
        }
        if spec.unfinished {
            query = query.unfinished();
            asked.entry(Facet::Kind).or_default().push("call_begun".to_owned());
        }
        let (since, until) = (spec.since.map(at), spec.until.map(at));
        query = since.into_iter().fold(query, Query::since);
        query = until.into_iter().fold(query, Query::until);
        query = spec.limit.into_iter().fold(query, Query::limit);
        query = spec.after.into_iter().fold(query, Query::after);
        if spec.newest_first {
            query = query.newest_first();
        }
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            assert_eq!(self.log().query(&query).unwrap_err().kind(), ErrorKind::InvalidInput);
            return;
        }
        let mut expected: Vec<(u64, &str)> = (0u64..)
            .zip(&self.rows)
            .filter(|(seq, row)| {
                asked.iter().all(|(field, values)| values.iter().any(|v| row.has(*field, v)))
                    && since.is_none_or(|since| row.time >= since)
                    && until.is_none_or(|until| row.time < until)
                    && spec.after.is_none_or(|after| if spec.newest_first { *seq < after } else { *seq > after })
                    && (!spec.unfinished || self.unfinished.contains(seq))
            })
            .map(|(seq, row)| (seq, row.line.as_str()))
            .collect();
        if spec.newest_first {
            expected.reverse();
        }
        expected.truncate(spec.limit.unwrap_or(u64::MAX) as usize);
        let found: Vec<Entry> = self.log().query(&query).unwrap().collect::<Result<_>>().unwrap();
        let found: Vec<(u64, String)> = found.iter().map(|e| (e.seq, e.line())).collect();
        let found: Vec<(u64, &str)> = found.iter().map(|(seq, line)| (*seq, line.as_str())).collect();
        assert_eq!(found, expected, "{query:?}");
        assert_eq!(self.log().count(&query).unwrap(), expected.len() as u64, "{query:?}");
    }

    fn statistics(&self, tool: Option<u8>, since: Option<u8>, until: Option<u8>) {
        let tool = tool.map(|t| TOOLS[usize::from(t)]);
        let (since, until) = (since.map(at), until.map(at));
        let mut asked = Statistics::new();
        asked = tool.into_iter().fold(asked, Statistics::tool);
        asked = since.into_iter().fold(asked, Statistics::since);
        asked = until.into_iter().fold(asked, Statistics::until);
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            assert_eq!(self.log().statistics(&asked).unwrap_err().kind(), ErrorKind::InvalidInput);
            return;
        }
        let mut tools: BTreeMap<&str, Vec<&Row>> = tool.into_iter().map(|t| (t, Vec::new())).collect();
        let mut without_end: BTreeMap<&str, u64> = BTreeMap::new();
        for (seq, row) in (0u64..).zip(&self.rows) {
            let inside = since.is_none_or(|since| row.time >= since) && until.is_none_or(|until| row.time < until);
            let name = row.spec.as_ref().map(|s| TOOLS[usize::from(s.tool)]);
            let Some(name) = name.filter(|n| inside && tool.is_none_or(|t| t == *n)) else { continue };
            if row.kind == Kind::ToolCall {
                tools.entry(name).or_default().push(row);
            } else if self.unfinished.contains(&seq) {
                tools.entry(name).or_default();
                *without_end.entry(name).or_default() += 1;
            }
        }
        let found = self.log().statistics(&asked).unwrap();
        assert_eq!(
            found.iter().map(|s| s.tool.as_str()).collect::<Vec<_>>(),
            tools.keys().copied().collect::<Vec<_>>()
        );
        for (found, rows) in found.iter().zip(tools.values()) {
            let users: BTreeSet<u8> = rows.iter().filter_map(|r| r.spec.as_ref()).map(|s| s.user).collect();
            let ok = rows.iter().filter(|r| r.end.is_some_and(|e| e.0 == Outcome::Ok)).count();
            let mut nanos: Vec<u64> = rows.iter().filter_map(|r| r.end?.1).collect();
            nanos.sort_unstable();
            assert_eq!(found.total_calls, rows.len() as u64, "{asked:?}");
            assert_eq!(found.unfinished, without_end.get(found.tool.as_str()).copied().unwrap_or_default());
            assert_eq!(found.successes, ok as u64);
            assert_eq!(found.unique_users, users.len() as u64);
            assert_eq!(found.max_duration_ms, nanos.last().map(|&n| n as f64 / 1e6));
            let percentiles =
                [(0.5, found.p50_duration_ms), (0.95, found.p95_duration_ms), (0.99, found.p99_duration_ms)];
            for (p, told) in percentiles {
                let exact = nanos.get(((p * nanos.len() as f64).ceil() as usize).max(1) - 1);
                let near = |told: f64, exact: u64| (told * 1e6 - exact as f64).abs() <= exact as f64 * 0.01 + 0.5;
                assert!(
                    told.zip(exact).is_none_or(|(told, &exact)| near(told, exact)),
                    "{p}: {told:?} is not {exact:?}"
                );
                assert_eq!(told.is_some(), exact.is_some());
            }
        }
    }

    fn timeline(&self, conversation: u8) {
        let name = format!("conv_{conversation}");
        let of = |row: &Row| row.spec.as_ref().is_some_and(|s| s.conversation == conversation);
        let expected: Vec<(u64, bool)> = (0u64..)
            .zip(&self.rows)
            .filter(|(seq, row)| of(row) && (row.kind == Kind::ToolCall || self.unfinished.contains(seq)))
            .map(|(seq, row)| (seq, row.ends.is_some()))
            .collect();
        let steps = self.log().timeline(&name).unwrap().collect::<Result<Vec<_>>>().unwrap();
        let found: Vec<(u64, bool)> = steps.iter().map(|s| (s.entry.seq, s.begun_at.is_some())).collect();
        assert_eq!(found, expected);
    }
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn the_store_does_what_a_list_does(ops in prop::collection::vec(op(), 1..60)) {
        let mut game = Game::new();
        for op in &ops {
            game.play(op);
            assert_clean(game.log());
        }
        // At the end all queries once more, after everything was written to the file and read again.
        game.play(&Op::Flush);
        game.play(&Op::Reopen);
        assert_eq!(lines(game.log()), game.rows.iter().map(|r| r.line.clone()).collect::<Vec<_>>());
        for conversation in 0..4 {
            game.timeline(conversation);
        }
        game.statistics(None, None, None);
        for facet in 0..11 {
            for index in 0..4 {
                for newest_first in [false, true] {
                    game.query(&QuerySpec {
                        facets: vec![(facet, vec![index])],
                        since: None,
                        until: None,
                        after: None,
                        limit: None,
                        newest_first,
                        unfinished: false,
                    });
                }
            }
        }
        assert_clean(game.log());
    }
}
