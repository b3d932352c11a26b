//! Figures by groups, conversations, whole calls and conditions on entries, against plain loops over what was recorded: in the index in
//! memory, in the file, and after the store was opened again.

use crate::store_common::*;
use attestlog::entry::{Source, SourceKind};
use attestlog::json::{Json, Object};
use attestlog::query::{Breakdown, Grouping};
use attestlog::{AuditLog, ErrorKind, Outcome, Query, ToolCall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Clone)]
struct Made {
    tool: &'static str,
    model: Option<&'static str>,
    agent: Option<String>,
    server: Option<&'static str>,
    user: String,
    conversation: String,
    resources: Vec<&'static str>,
    day: u64,
    millis: Option<u64>,
    error: Option<&'static str>,
    note: String,
}

fn made(n: usize) -> Vec<Made> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut roll = move |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    (0..n)
        .map(|i| Made {
            tool: ["look", "write", "send"][roll(3) as usize],
            model: [None, Some("m1"), Some("m2")][roll(3) as usize],
            agent: (roll(4) > 0).then(|| format!("a{}", i % 3)),
            server: [None, Some("crm"), Some("web")][roll(3) as usize],
            user: format!("u{}", roll(5)),
            conversation: format!("c{}", i / 40),
            resources: [vec![], vec!["/x"], vec!["/x", "/y"], vec!["/y", "/y"]][roll(4) as usize].clone(),
            day: roll(5),
            millis: (roll(5) > 0).then(|| roll(4000)),
            error: [None, None, None, Some(""), Some("Busy"), Some("Gone")][roll(6) as usize],
            note: format!("order \"{}\" of Zoë", roll(50)),
        })
        .collect()
}

fn record(log: &AuditLog, made: &[Made]) {
    let call = |m: &Made| {
        let at = time("2025-03-01T10:00:00Z").plus(Duration::from_secs(m.day * 86_400));
        let arguments = Object::from_iter([("note", Json::from(m.note.as_str()))]);
        let mut call = ToolCall::new(m.conversation.as_str(), m.user.as_str(), m.tool).timestamp(at);
        call = call.arguments(Json::from(arguments));
        call = m.model.into_iter().fold(call, |call, model| call.model(model));
        call = m.agent.iter().fold(call, |call, agent| call.agent(agent.as_str()));
        call = m.server.into_iter().fold(call, |call, server| call.server(server));
        call = m.resources.iter().fold(call, |call, name| call.resource("file", *name));
        call = m.millis.into_iter().fold(call, |call, ms| call.duration(Duration::from_millis(ms)));
        match m.error {
            None => call.result(true),
            Some("") => call.error("without a type"),
            Some(kind) => call.typed_error(kind, "with one"),
        }
    };
    log.record_batch(made.iter().map(call)).unwrap();
}

/// Calls, successes, calls with a duration, the longest, users, errors.
type Plain = (u64, u64, u64, u64, BTreeSet<String>, BTreeMap<String, u64>);

fn plain(made: &[Made], by: &[Grouping], wanted: impl Fn(&Made) -> bool) -> BTreeMap<Vec<Option<String>>, Plain> {
    let mut groups: BTreeMap<Vec<Option<String>>, Plain> = BTreeMap::new();
    for m in made.iter().filter(|m| wanted(m)) {
        let mut keys = vec![Vec::new()];
        for by in by {
            let own = |text: &str| Some(text.to_owned());
            let values: BTreeSet<Option<String>> = match by {
                Grouping::Tool => [own(m.tool)].into(),
                Grouping::Model => [m.model.map(str::to_owned)].into(),
                Grouping::Agent => [m.agent.clone()].into(),
                Grouping::Server => [m.server.map(str::to_owned)].into(),
                Grouping::User => [own(&m.user)].into(),
                Grouping::Day => [Some(format!("2025-03-0{}", m.day + 1))].into(),
                _ if m.resources.is_empty() => [None].into(),
                _ => m.resources.iter().map(|name| own(name)).collect(),
            };
            keys = keys
                .iter()
                .flat_map(|key| values.iter().map(|v| [key.as_slice(), std::slice::from_ref(v)].concat()))
                .collect();
        }
        for key in keys {
            let group = groups.entry(key).or_default();
            group.0 += 1;
            group.1 += u64::from(m.error.is_none());
            group.2 += u64::from(m.millis.is_some());
            group.3 = group.3.max(m.millis.unwrap_or_default());
            group.4.insert(m.user.clone());
            if let Some(error) = m.error {
                *group.5.entry(if error.is_empty() { "tool_error" } else { error }.to_owned()).or_default() += 1;
            }
        }
    }
    groups
}

#[track_caller]
fn check(log: &AuditLog, made: &[Made], by: &[Grouping], query: &Query, wanted: impl Fn(&Made) -> bool) {
    let groups = log.breakdown(&Breakdown::new(by.iter().copied(), query.clone())).unwrap();
    let mut expected = plain(made, by, wanted);
    assert!(groups.is_sorted_by(|a, b| a.figures.total_calls >= b.figures.total_calls));
    for group in groups {
        let (calls, good, timed, longest, users, errors) = expected.remove(&group.by).unwrap();
        let figures = &group.figures;
        assert_eq!((figures.total_calls, figures.successes, figures.unfinished), (calls, good, 0), "{:?}", group.by);
        assert_eq!(figures.unique_users, users.len() as u64, "{:?}", group.by);
        assert_eq!(figures.max_duration_ms, (timed > 0).then_some(longest as f64), "{:?}", group.by);
        assert_eq!(group.errors, errors, "{:?}", group.by);
    }
    assert!(expected.is_empty(), "not told: {expected:?}");
}

fn check_all(log: &AuditLog, made: &[Made]) {
    use Grouping::*;
    let all = |_: &Made| true;
    for by in [
        &[][..],
        &[Tool],
        &[Model],
        &[Agent],
        &[Server],
        &[User],
        &[Resource],
        &[Day],
        &[Tool, Server],
        &[Day, Resource, Model],
    ] {
        check(log, made, by, &Query::new(), all);
    }
    let (from, to) = (time("2025-03-02T00:00:00Z"), time("2025-03-04T10:00:00Z"));
    check(log, made, &[Tool], &Query::new().since(from).until(to), |m| (1..3).contains(&m.day));
    check(log, made, &[Agent], &Query::new().since(from), |m| m.day >= 1);
    check(log, made, &[Server, Tool], &Query::new().model("m1").user("u1").user("u2"), |m| {
        m.model == Some("m1") && ["u1", "u2"].contains(&m.user.as_str())
    });
    check(log, made, &[Tool], &Query::new().slower_than(Duration::from_millis(2000)), |m| {
        m.millis.is_some_and(|ms| ms > 2000)
    });
    check(log, made, &[Tool], &Query::new().error("Busy").error("tool_error"), |m| {
        matches!(m.error, Some("Busy" | ""))
    });
    check(log, made, &[User], &Query::new().containing("ORDER \"7\" of Zoë"), |m| m.note == "order \"7\" of Zoë");
    for (query, wanted) in [
        (Query::new().error("Gone"), made.iter().filter(|m| m.error == Some("Gone")).count()),
        (
            Query::new().containing("\"note\":\"order \\\"7\\\""),
            made.iter().filter(|m| m.note.contains("\"7\"")).count(),
        ),
        (Query::new().containing("without A type"), made.iter().filter(|m| m.error == Some("")).count()),
        (Query::new().tool("look").containing("gone"), {
            made.iter().filter(|m| m.tool == "look" && m.error == Some("Gone")).count()
        }),
    ] {
        assert_eq!(log.count(&query).unwrap(), wanted as u64, "{query:?}");
        assert_eq!(log.query(&query.clone().newest_first()).unwrap().map(Result::unwrap).count(), wanted);
        assert_eq!(log.count(&query.limit(3)).unwrap(), 3.min(wanted as u64));
    }
    conversations(log, made);
}

fn conversations(log: &AuditLog, made: &[Made]) {
    let last = (made.len() - 1) / 40;
    let found = log.conversations(&Query::new(), 1000).unwrap();
    assert_eq!((found.newest.len(), found.next), (last + 1, None));
    for (i, conversation) in found.newest.iter().enumerate() {
        let id = format!("c{}", last - i);
        let of: Vec<&Made> = made.iter().filter(|m| m.conversation == id).collect();
        assert_eq!((conversation.id.as_str(), conversation.calls), (id.as_str(), of.len() as u64));
        assert_eq!(conversation.failed, of.iter().filter(|m| m.error.is_some()).count() as u64);
        assert!(conversation.users.contains(&of[0].user) && conversation.first <= conversation.last);
    }
    let some = log.conversations(&Query::new(), 2).unwrap();
    assert_eq!(some.newest.as_slice(), &found.newest[..2]);
    // Page by page all of them come, each once.
    let (mut listed, mut next) = (some.newest, some.next);
    while let Some(older) = next {
        let page = log.older_conversations(&Query::new(), 2, older).unwrap();
        listed.extend(page.newest);
        next = page.next;
    }
    assert_eq!(listed, found.newest);
    // A conversation is told whole, whatever it was found by.
    let one = log.conversations(&Query::new().conversation("c0").failed(), 5).unwrap();
    assert_eq!(one.newest, found.newest[last..]);
}

#[test]
fn figures_by_groups_are_those_of_a_plain_loop() {
    let dir = tempfile::tempdir().unwrap();
    let (log, made) = (AuditLog::open_or_create(dir.path().join("s")).unwrap(), made(3_000));
    record(&log, &made[..2_000]);
    log.flush_index().unwrap();
    record(&log, &made[2_000..]);
    check_all(&log, &made);
    log.close().unwrap();
    check_all(&AuditLog::open(dir.path().join("s")).unwrap(), &made);
}

/// A call that failed and whose late answer says that it succeeded was a failure of its kind in one table and none in another.
#[test]
fn a_late_answer_and_a_missing_end_count_as_in_statistics() {
    let log = AuditLog::in_memory().unwrap();
    let seen = || ToolCall::new("c", "u", "slow").server("crm").source(Source::new(SourceKind::Proxy));
    let gave_up = log.begin(seen()).unwrap().finish(|call| call.outcome(Outcome::Timeout)).unwrap().seq;
    let mut answer = seen().follow_up_of(gave_up).outcome(Outcome::Ok);
    answer.late_answer = true;
    let late = log.record(answer).unwrap().seq;
    log.record(seen().outcome(Outcome::Timeout)).unwrap();
    drop(log.begin(seen()).unwrap());
    for by in [&[Grouping::Tool][..], &[Grouping::Server], &[Grouping::Tool, Grouping::Day]] {
        let groups = log.breakdown(&Breakdown::new(by.iter().copied(), Query::new())).unwrap();
        let figures = &groups[0].figures;
        assert_eq!((figures.total_calls, figures.successes, figures.unfinished), (2, 1, 1), "{by:?}");
        assert_eq!(groups[0].errors, BTreeMap::from([("timeout".to_owned(), 1)]), "{by:?}");
    }
    for seq in [gave_up - 1, gave_up, late] {
        let whole = log.whole_call(seq).unwrap();
        let seqs: Vec<u64> = whole.parts.iter().map(|entry| entry.seq).collect();
        assert_eq!((seqs, whole.followers.len(), whole.more), (vec![gave_up - 1, gave_up, late], 0, false), "{seq}");
    }
}

#[test]
fn a_whole_call_has_its_retries_and_nothing_of_others() {
    let log = AuditLog::in_memory().unwrap();
    let call = || ToolCall::new("c", "u", "t");
    let first = log.record(call().error("try again")).unwrap().seq;
    log.record(call().result(1)).unwrap();
    let retry = log.record(call().retry_of(first).result(1)).unwrap().seq;
    let whole = log.whole_call(first).unwrap();
    assert_eq!((whole.parts.len(), whole.parts[0].seq), (1, first));
    assert_eq!(whole.followers.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [retry]);
    let own = log.whole_call(0).unwrap();
    assert!(own.parts[0].own().is_some() && own.parts.len() == 1 && own.followers.is_empty());
    assert_eq!(log.whole_call(99).unwrap_err().kind(), ErrorKind::NoSuchEntry);
}

#[test]
fn questions_that_mean_nothing_are_refused() {
    let log = AuditLog::in_memory().unwrap();
    log.record(ToolCall::new("c", "u", "t").result(1)).unwrap();
    let refused = |query: Query, by: &[Grouping]| {
        let error = log.breakdown(&Breakdown::new(by.iter().copied(), query)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    };
    refused(Query::new().unfinished(), &[Grouping::Tool]);
    refused(Query::new().kind(attestlog::Kind::Genesis), &[Grouping::Model]);
    refused(Query::new().limit(3), &[Grouping::Model]);
    refused(Query::new(), &[Grouping::Day, Grouping::Day]);
    for text in [String::new(), "x".repeat(5000)] {
        assert_eq!(log.query(&Query::new().containing(text)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

/// The story: whoever asked another process for a rare entry waited without a word until it had read the whole log.
#[test]
fn a_search_tells_how_far_it_is() {
    let log = AuditLog::in_memory().unwrap();
    log.record_batch((0..20_000u64).map(|i| ToolCall::new("c", "u", "t").arguments(Json::Array(vec![i.into()]))))
        .unwrap();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for newest_first in [false, true] {
        let query = Query::new().containing("[19999]");
        let query = if newest_first { query.newest_first() } else { query };
        let told = told.clone();
        let found = log.query(&query).unwrap();
        let all = found.telling(std::sync::Arc::new(move |done, all| told.lock().unwrap().push((done, all))));
        assert_eq!(all.map(|entry| entry.unwrap().seq).collect::<Vec<_>>(), [20_001]);
    }
    let told = told.lock().unwrap();
    assert!(told.len() >= 4 && told.iter().all(|(done, all)| *done > 0 && done <= all && *all == 20_002), "{told:?}");
}
