//! Whoever owns the store, the answer is the same: what a handle is told by the process that has the store open is what that process's own
//! handle says.

use crate::store_common::*;
use attestlog::anchor::{Evidence, FileAnchor};
use attestlog::emergency::EmergencyAccess;
use attestlog::entry::{Approval, Decision, Peer, Source, SourceKind};
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::query::{Breakdown, Grouping, Statistics};
use attestlog::redact::{Action, Policy, Preset};
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{
    AuditLog, Entry, ErrorKind, Facet, Justification, Kind, Neighbours, Options, PolicySet, Query, Result, Sharing,
    ToolCall,
};
use proptest::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const BY: Justification<'_> = Justification { actor: "officer", reason: "a test" };

fn options() -> Options {
    let mut policies = PolicySet::default();
    let policy = Policy::builder(Preset::Default).field("ssn", Action::Seal);
    policies.redaction = policy.build().unwrap();
    Options::new().policies(policies).clock(Arc::new(ManualClock::at(time(START)))).background(false)
}

/// A store that one handle owns, and a handle that goes through it, as another process's would.
struct Two {
    owner: AuditLog,
    away: AuditLog,
    dir: TempDir,
}

impl Two {
    fn new() -> Two {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let owner = options().anchor(FileAnchor::new(dir.path().join("kept"))).create(&path).unwrap();
        let away = options().open(&path).unwrap();
        assert!(owner.is_owner() && !away.is_owner());
        Two { owner, away, dir }
    }

    /// Both say the same.
    #[track_caller]
    fn same<T: Serialize>(&self, ask: impl Fn(&AuditLog) -> Result<T>) {
        let told = |log: &AuditLog| {
            let answer = ask(log);
            answer.map(|answer| serde_json::to_string(&answer).unwrap()).map_err(|e| (e.kind(), e.to_string(), e.seq()))
        };
        assert_eq!(told(&self.away), told(&self.owner));
    }
}

fn of_user(user: &str) -> HoldSelector {
    let mut selector = HoldSelector::default();
    selector.users.insert(user.to_owned());
    selector
}

fn all<T: Serialize>(items: impl Iterator<Item = Result<T>>) -> Vec<(Option<T>, Option<String>)> {
    items.map(|item| item.map_or_else(|e| (None, Some(e.to_string())), |item| (Some(item), None))).collect()
}

/// Everything that reads, of one moment.
fn everything(two: &Two, queries: &[Query], size: u64) {
    for query in queries {
        two.same(|log| Ok(all(log.query(query)?)));
        two.same(|log| Ok(all(log.query(query)?.as_stored())));
        two.same(|log| log.count(query));
        two.same(|log| log.values().unknown(query));
    }
    for seq in 0..=size {
        two.same(|log| log.entry(seq));
        two.same(|log| log.whole_call(seq));
    }
    two.same(AuditLog::size);
    two.same(|log| log.unanswered(&(0..size).collect::<Vec<_>>()));
    for conversation in ["c0", "c1", "none"] {
        two.same(|log| Ok(all(log.timeline(conversation)?)));
    }
    two.same(|log| log.statistics(&Statistics::new()));
    for by in [&[][..], &[Grouping::Tool], &[Grouping::User, Grouping::Day]] {
        two.same(|log| log.breakdown(&Breakdown::new(by.iter().copied(), Query::new())));
        two.same(|log| log.breakdown(&Breakdown::new(by.iter().copied(), Query::new().error("tool_error"))));
    }
    for query in [Query::new(), Query::new().failed()] {
        two.same(|log| log.conversations(&query, 2));
    }
    for query in
        [Query::new().containing("IT failed"), Query::new().slower_than(Duration::from_millis(6)).newest_first()]
    {
        two.same(|log| Ok(all(log.query(&query)?)));
        two.same(|log| log.count(&query));
    }
    two.same(AuditLog::health);
    two.same(AuditLog::warnings);
    two.same(AuditLog::damage);
    two.same(AuditLog::check_file);
    two.same(AuditLog::check_recording);
    two.same(AuditLog::public_key);
    two.same(|log| log.keys().succession());
    two.same(|log| log.keys().recorded_without_key());
    let retention = AuditLog::retention;
    two.same(|log| retention(log).policies());
    two.same(|log| retention(log).holds());
    two.same(|log| retention(log).clock());
    two.same(|log| retention(log).plan());
    two.same(|log| retention(log).purged_since(None));
    two.same(|log| retention(log).restored());
    two.same(|log| log.emergency().grants());
    two.same(|log| log.alerts().list());
    two.same(|log| log.anchors().list());
    two.same(|log| log.anchors().attestations());
    two.same(|log| log.verifications().known());
    for facet in [Facet::User, Facet::Tool, Facet::Patient] {
        two.same(|log| log.values().persons(facet));
        two.same(|log| log.values().matching(facet, "*1*"));
        two.same(|log| log.values().look_alikes(facet, "U1"));
        two.same(|log| log.values().spellings(facet, "u1"));
    }
    two.same(|log| log.proofs().root_at(size));
    two.same(AuditLog::checkpoint);
    two.same(|log| log.prove(1));
    two.same(|log| log.prove(size + 9));
    two.same(|log| log.proofs().complete(Facet::User, "u1", Neighbours::Reveal));
    two.same(|log| log.proofs().at_checkpoint()?.prove(0));
    two.same(|log| log.proofs().at_checkpoint()?.prove_complete(Facet::User, "u1", Neighbours::Reveal));
    two.same(|log| log.proofs().at_checkpoint()?.beyond());
    let old = two.owner.checkpoint().unwrap();
    two.same(|log| log.proofs().consistent(&old));
    let options =
        VerifyOptions::new().against(Evidence::parse("kept", old.to_string().as_bytes(), None, &[]).unwrap().kept);
    two.same(|log| {
        let mut told = log.verify(&options)?;
        told.seconds = 0.0;
        Ok(told)
    });
}

fn call() -> impl Strategy<Value = ToolCall> {
    let arguments = prop_oneof![Just(r#"{"ssn":"460-89-9847"}"#), Just(r#"{"n":1.5,"t":["a",null]}"#), Just("{}")];
    (0..3u8, 0..4u8, 0..3u8, 0..3u8, arguments, any::<bool>()).prop_map(|(c, u, t, p, arguments, ok)| {
        let call = ToolCall::new(format!("c{c}"), format!("u{u}"), format!("t{t}"));
        let call = call.arguments(Json::parse(arguments.as_bytes()).unwrap().value).patient(format!("P-{p}"));
        if ok { call.result(true).duration(Duration::from_millis(7)) } else { call.error("it failed") }
    })
}

fn query() -> impl Strategy<Value = Query> {
    (0..5u8, 0..4u8, any::<bool>(), proptest::option::of(0..30u64), proptest::option::of(0..9u64)).prop_map(
        |(user, tool, newest_first, after, limit)| {
            let mut query = Query::new();
            if user < 4 {
                query = query.user(format!("u{user}"));
            }
            if tool < 3 {
                query = query.tool(format!("t{tool}"));
            }
            if newest_first {
                query = query.newest_first();
            }
            query = after.into_iter().fold(query, Query::after);
            limit.into_iter().fold(query, Query::limit)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_through_an_owner_is_the_owners_own(
        calls in prop::collection::vec((call(), 0..3u8), 1..12),
        queries in prop::collection::vec(query(), 1..4),
    ) {
        let two = Two::new();
        for (call, way) in calls {
            match way {
                0 => _ = two.owner.record(call).unwrap(),
                1 => _ = two.away.record(call).unwrap(),
                _ => _ = two.away.begin(ToolCall::new("c1", "u1", "t1")).unwrap().receipt(),
            }
        }
        let covering = of_user("u1");
        two.away.retention().place_hold("2026-1", covering, BY).unwrap();
        let access = EmergencyAccess { user: "u2", patient: "P-1", urgency: "now", ttl: Duration::from_secs(60) };
        two.away.emergency().open(access, BY).unwrap();
        everything(&two, &queries, two.owner.size().unwrap());
    }
}

/// What surrounds a call, and details of it, come to the owner as they were given; only which process it was is not for that process
/// to say [R93].
#[test]
fn what_surrounds_a_call_goes_through_an_owner() {
    let two = Two::new();
    let call = || {
        let approval = Approval { by: Some("boss".to_owned()), ..Approval::new(Decision::Cancelled) };
        let call = ToolCall::new("c", "u", "t").trace("t-1", Some("s-1")).prompt("p-1").parent("a-0", Some("i-0"));
        call.approval(approval).resource("file", "/x").source(Source::new(SourceKind::Hook))
    };
    let told = |of| call().detail_of(of).contradicts(["model"]).duration(Duration::from_millis(3));
    let own = two.owner.record(call()).unwrap().seq;
    let mut named = call();
    named.circumstances.peer = Some(Peer { uid: 0, gid: 0, pid: 1, started: None, program: None });
    let away = two.away.record(named).unwrap().seq;
    let own = [own, two.owner.record(told(own)).unwrap().seq];
    let away = [away, two.away.record(told(away)).unwrap().seq];
    let around = |seq: u64| two.away.entry(seq).unwrap().call().unwrap().circumstances.clone().unwrap();
    for (own, away) in own.into_iter().zip(away) {
        assert_eq!(around(own), around(away));
        assert_eq!(around(away).peer, None);
    }
    assert_eq!(two.away.entry(away[1]).unwrap().call().unwrap().detail_of(), Some(away[0]));
    everything(&two, &[Query::new().resource("/x"), Query::new().trace("t-1"), Query::new().kind(Kind::CallDetail)], 8);
    assert_clean(&two.owner);
}

/// What changes the store does so through its owner, with the same words for what it refuses.
#[test]
fn what_changes_the_store_is_done_by_its_owner() {
    let two = Two::new();
    let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#).unwrap().value;
    let sealed = two.away.record(ToolCall::new("c", "u", "t").patient("P-1").arguments(arguments)).unwrap();
    let log = &two.away;
    assert_eq!(log.privacy().reveal(sealed.seq, "arguments.ssn", BY).unwrap(), Json::from("460-89-9847"));
    log.proofs().reveal(sealed.seq, "arguments.ssn", BY).unwrap();
    let erased = log.privacy().erase("P-1", BY).unwrap();
    assert!(two.owner.entry(erased.seq).unwrap().line().contains("\"a test\""));
    let refused = log.privacy().reveal(sealed.seq, "arguments.ssn", BY).unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().contains("erased")), (ErrorKind::NoSuchEntry, true));
    let hold = log.retention().place_hold("7", of_user("u"), BY).unwrap();
    log.retention().release_hold(hold.seq, BY).unwrap();
    assert_eq!(log.retention().release_hold(hold.seq, BY).unwrap_err().kind(), ErrorKind::Conflict);
    log.retention().purge("officer").unwrap();
    log.retention().set_policies(log.retention().policies().unwrap()).unwrap();
    log.keys().rotate_epoch_key().unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    // Its own keys are those from before the rotation where it has read them, and it reads them anew.
    let backup = log.backup(two.dir.path().join("copy")).unwrap();
    assert_eq!(backup.receipt.seq + 1, backup.size);
    log.proofs().write_evidence(two.dir.path().join("evidence"), &VerifyOptions::new()).unwrap();
    assert!(log.anchors().flush(Duration::from_secs(20)).unwrap());
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(found.ok(), "{:?}", found.findings);
    log.verifications().note(&found).unwrap().unwrap();
    two.same(|log| log.verifications().known());
    assert_eq!(two.owner.verifications().known().unwrap().last.unwrap().size, found.size);
}

/// An answer of many pages is of the moment at which it was asked, in either order, and goes on where the owner goes in the middle.
#[test]
fn pages_are_of_one_moment_and_survive_the_owner() {
    let two = Two::new();
    two.owner.record_batch((0..1300).map(|i| ToolCall::new("c", format!("u{}", i % 2), "t"))).unwrap();
    let seqs = |entries: Vec<Result<Entry>>| entries.into_iter().map(|e| e.unwrap().seq).collect::<Vec<_>>();
    for query in
        [Query::new(), Query::new().newest_first(), Query::new().user("u1").limit(600), Query::new().after(700)]
    {
        let want = seqs(two.owner.query(&query).unwrap().collect());
        let mut hits = two.away.query(&query).unwrap();
        let first = hits.next().unwrap().unwrap().seq;
        two.owner.record(ToolCall::new("c", "u1", "later")).unwrap();
        let got: Vec<u64> = [first].into_iter().chain(seqs(hits.collect())).collect();
        assert_eq!(got, want);
    }
    let query = Query::new().kind(Kind::ToolCall);
    let want = seqs(two.owner.query(&query).unwrap().collect());
    let mut hits = two.away.query(&query).unwrap();
    let mut got = seqs(hits.by_ref().take(3).collect());
    two.owner.clone().close().unwrap();
    got.extend(seqs(hits.collect()));
    assert_eq!(got, want);
    assert!(two.away.is_owner(), "it has taken over");
}

/// A timeline of more than 32 MiB was refused through an owner, because a call that ended meanwhile would have been shown twice or not
/// at all. Now it comes in pages, all of the moment at which it was asked.
#[test]
fn a_timeline_of_many_pages_is_of_one_moment_too() {
    let two = Two::new();
    let call = |i: u64| ToolCall::new("c", "u", "t").turn(i);
    let early = two.owner.begin(call(0)).unwrap();
    two.owner.record_batch((1..800).map(call)).unwrap();
    let late = two.owner.begin(call(800)).unwrap();
    let steps = |timeline: attestlog::Timeline| {
        let step =
            |step: Result<attestlog::query::Step>| step.map(|step| (step.entry.seq, step.begun_at.is_some())).unwrap();
        timeline.map(step).collect::<Vec<_>>()
    };
    let want = steps(two.owner.timeline("c").unwrap());
    let mut timeline = two.away.timeline("c").unwrap();
    let first = timeline.by_ref().take(3).map(|step| step.unwrap().entry.seq).collect::<Vec<_>>();
    early.finish(|call| call.result(true)).unwrap();
    late.finish(|call| call.result(true)).unwrap();
    two.owner.record(call(801)).unwrap();
    let rest = steps(timeline);
    assert_eq!(first, want[..3].iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
    assert_eq!(rest, want[3..]);
    assert_ne!(steps(two.away.timeline("c").unwrap()), want, "now both calls have ended");
    assert_eq!(steps(two.away.timeline("c").unwrap()), steps(two.owner.timeline("c").unwrap()));
}

/// Who waits for a long answer is told how far it is, whichever process gives it.
#[test]
fn how_far_a_verification_is_comes_through_an_owner() {
    let two = Two::new();
    two.owner.record_batch((0..50).map(|i| ToolCall::new("c", format!("u{i}"), "t"))).unwrap();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let inside = told.clone();
    let options = VerifyOptions::new().progress(Arc::new(move |done, of| inside.lock().unwrap().push((done, of))));
    assert!(two.away.verify(&options).unwrap().ok());
    let told = told.lock().unwrap();
    assert!(!told.is_empty() && told.iter().all(|(done, of)| done <= of), "{told:?}");
    assert_eq!(two.away.size().unwrap(), two.owner.size().unwrap(), "the connection is as good as before");
}

/// A clock that fails, as a host's may.
#[derive(Debug)]
struct Failing(ManualClock, std::sync::atomic::AtomicBool);

impl attestlog::host::Clock for Failing {
    fn now(&self) -> attestlog::Timestamp {
        assert!(!self.1.load(std::sync::atomic::Ordering::SeqCst), "the clock fails");
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

/// A mistake of the program in one request is told to whoever asked, instead of being made again in a thousand attempts, and neither
/// the owner nor the connection ends with it.
#[test]
fn a_request_that_panics_harms_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let clock = Arc::new(Failing(ManualClock::at(time(START)), false.into()));
    let owner = options().clock(clock.clone()).create(&path).unwrap();
    let away = options().open(&path).unwrap();
    clock.1.store(true, std::sync::atomic::Ordering::SeqCst);
    let e = away.retention().clock().unwrap_err();
    assert!(e.to_string().contains("a mistake of this program"), "{e}");
    clock.1.store(false, std::sync::atomic::Ordering::SeqCst);
    away.retention().clock().unwrap();
    assert_eq!(away.size().unwrap(), owner.size().unwrap());
    assert!(!away.is_owner());
}

/// Who follows through an owner sees what comes, and goes on where that owner goes.
#[test]
fn a_follower_goes_on_with_the_next_owner() {
    let two = Two::new();
    let mut follower = two.away.follow(two.away.size().unwrap());
    assert!(follower.try_next().unwrap().is_none());
    let told = two.owner.record(ToolCall::new("c", "u", "a")).unwrap();
    assert_eq!(follower.next_within(Duration::from_secs(30)).unwrap().unwrap().seq, told.seq);
    let Two { owner, away, dir } = two;
    let recorded = std::thread::spawn(move || {
        owner.close().unwrap();
        away.record(ToolCall::new("c", "u", "b")).unwrap().seq
    });
    let entry = follower.next_within(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(entry.seq, recorded.join().unwrap());
    drop((follower, dir));
}

/// Who has no key is answered as anybody who has the file and none of its keys; the table of requests says what that is, and the owner
/// decides it (I13).
#[test]
fn who_proves_no_key_reads_and_records_and_no_more() {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::builder(Preset::Default)
        .facet(attestlog::redact::IdentityKind::User, Action::Pseudonymise)
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let owner = Options::new().policies(policies).create(&path).unwrap();
    let keyless = Options::new().key_file(dir.path().join("no such key")).open(&path).unwrap();
    let receipt = keyless.record(ToolCall::new("c", "dr_jones", "t")).unwrap();
    keyless.entry(receipt.seq).unwrap();
    assert!(keyless.verify(&VerifyOptions::new()).unwrap().ok());
    let by_name = Query::new().user("dr_jones");
    assert_eq!(owner.count(&by_name).unwrap(), 1);
    assert_eq!(keyless.count(&by_name).unwrap_err().kind(), ErrorKind::Key, "names are kept as pseudonyms");
    let refused = [
        keyless.checkpoint().map(drop),
        keyless.prove(0).map(drop),
        keyless.privacy().reveal(receipt.seq, "arguments.x", BY).map(drop),
        keyless.privacy().erase("P-1", BY).map(drop),
        keyless.retention().purge("officer").map(drop),
        keyless.retention().set_policies(PolicySet::default()).map(drop),
        keyless.retention().confirm_clock(BY).map(drop),
        keyless.keys().rotate_epoch_key(),
        keyless.emergency().check("dr_jones", "P-1", 0).map(drop),
        keyless.backup(dir.path().join("copy")).map(drop),
        keyless.proofs().write_evidence(dir.path().join("evidence"), &VerifyOptions::new()).map(drop),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        let e = refused.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Key, "{i}: {e}");
        assert!(e.to_string().contains("--key"), "{i}: says what to do: {e}");
    }
    assert!(!Path::new(&dir.path().join("copy")).exists());
    assert_eq!(owner.size().unwrap(), receipt.seq + 1, "nothing was done");
}

/// Wrapped calls and queues work through an owner too: what waits there is prepared by the owner's policy.
#[test]
fn wrapped_calls_and_queues_go_through_an_owner() {
    let two = Two::new();
    let log = &two.away;
    log.wrap(ToolCall::new("c", "u", "plain")).run(|| Ok::<_, String>(7)).unwrap();
    log.wrap(ToolCall::new("c", "u", "two")).two_step().run(|| Err::<(), _>("no".to_owned())).unwrap_err();
    let queue = log.queue(64).unwrap();
    let arguments = Json::parse(br#"{"api_key":"k-123456"}"#).unwrap().value;
    let tickets: Vec<_> = (0..20)
        .map(|_| queue.record(ToolCall::new("c", "u", "queued").arguments(arguments.clone())).unwrap())
        .collect();
    // One of them is refused, and none but it.
    let bad = queue.record(ToolCall::new("c", "u", "queued").retry_of(u64::MAX >> 12)).unwrap();
    let receipts: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait().unwrap().seq).collect();
    assert!(receipts.is_sorted());
    let _ = bad.wait();
    log.wrap(ToolCall::new("c", "u", "through")).through(&queue).run(|| Ok::<_, String>(8)).unwrap();
    queue.close().unwrap();
    assert!(!two.owner.entry(receipts[0]).unwrap().line().contains("k-123456"));
    for (tool, count) in [("plain", 1), ("two", 2), ("through", 1)] {
        assert_eq!(two.owner.count(&Query::new().tool(tool)).unwrap(), count, "{tool}");
    }
}

/// Eight processes that start together found no store, and seven of them failed.
#[test]
fn processes_that_open_or_create_at_once_share_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let opened: Vec<AuditLog> = std::thread::scope(|scope| {
        let open = |_| scope.spawn(|| Options::new().open_or_create(&path).unwrap());
        let opening: Vec<_> = (0..8).map(open).collect();
        opening.into_iter().map(|opening| opening.join().unwrap()).collect()
    });
    for (i, log) in opened.iter().enumerate() {
        log.record(ToolCall::new("c", format!("u{i}"), "t")).unwrap();
    }
    assert_eq!(opened.iter().filter(|log| log.is_owner()).count(), 1);
    assert_eq!(opened[0].count(&Query::new().tool("t")).unwrap(), 8);
    drop(opened);
    std::fs::remove_file(&path).unwrap();
    let refused = Options::new().open_or_create(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "the store was deleted, and its key is there");
}

/// Whoever knows the log's key is told where another store stands in its place, whether or not he shares it.
#[test]
fn a_store_of_another_key_than_the_one_that_was_given_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("s"), dir.path().join("other"));
    AuditLog::create(&path).unwrap().close().unwrap();
    let mut sharing = Sharing::default();
    sharing.public_key = AuditLog::create(&other).unwrap().public_key().unwrap();
    for options in [Options::new(), Options::new().exclusive(), Options::new().read_only()] {
        let refused = options.open_with(&path, sharing.clone()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Key);
    }
    assert_eq!(AuditLog::open(&path).unwrap().size().unwrap(), AuditLog::open(&other).unwrap().size().unwrap());
}
