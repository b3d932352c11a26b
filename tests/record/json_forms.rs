//! Each value that a question to a log or an answer of it is made of has one JSON form, which serde writes and reads.

use crate::store_common::*;
use attestlog::Justification;
use attestlog::alert::{Acknowledgement, Alert, AlertLag, AlertState, Severity};
use attestlog::anchor::{AnchorHealth, AnchorStatus, Evidence};
use attestlog::emergency::{EmergencyAccess, Misuse};
use attestlog::entry::*;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::json::Json;
use attestlog::note::{SignedCheckpoint, Succession, VerifierKey};
use attestlog::proof::{CompleteProof, ConsistencyProof, InclusionProof, Proof};
use attestlog::query::{Breakdown, Grouping, Statistics};
use attestlog::retention::{ClockEvent, ClockStatus, Hold, HoldSelector, PurgePlan, SeqSet};
use attestlog::verify::*;
use attestlog::*;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// The value's JSON is canonical, gives the value again, and takes no member that it does not know.
#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> String {
    let text = again(value);
    let json = Json::parse(text.as_bytes()).unwrap().value;
    if let Json::Object(mut members) = json {
        members.insert("colour", "red");
        let more = Json::from(members).to_canonical().to_string();
        assert!(serde_json::from_str::<T>(&more).is_err(), "a member was dropped: {more}");
    }
    text
}

/// The value's JSON is canonical and gives the value again.
#[track_caller]
fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value, "{text}");
    assert_eq!(serde_json::from_value::<T>(serde_json::to_value(value).unwrap()).unwrap(), *value, "{text}");
    let json = Json::parse(text.as_bytes()).unwrap().value;
    assert_eq!(json.to_canonical().as_str(), text);
    text
}

/// What this JSON stands for, in canonical form; the same comes out again.
#[track_caller]
fn reads<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> T {
    let value = serde_json::from_str::<T>(text).unwrap();
    assert_eq!(again(&value), Json::parse(text.as_bytes()).unwrap().value.to_canonical().as_str());
    value
}

#[track_caller]
fn refused<T: DeserializeOwned + Debug>(text: &str, why: &str) {
    let error = serde_json::from_str::<T>(text).unwrap_err().to_string();
    assert!(error.contains(why), "{text}: {error}");
}

/// A log in which something of most kinds has happened.
fn busy(calls: Vec<ToolCall>) -> AuditLog {
    let clock = std::sync::Arc::new(ManualClock::at(time(START)));
    let log = Options::new()
        .clock(clock.clone())
        .random(std::sync::Arc::new(SeededRandom::new(7)))
        .background(false)
        .in_memory()
        .unwrap();
    log.record_batch(calls).unwrap();
    let access = EmergencyAccess { user: "dr_1", patient: "P-1", urgency: "immediate", ttl: Duration::from_secs(60) };
    let grant = log.emergency().open(access, Justification { actor: "dr_1", reason: "unconscious" }).unwrap();
    log.record(ToolCall::new("c", "dr_1", "read").patient("P-2").emergency(Some(grant.seq))).unwrap();
    log.emergency().close(grant.seq, "dr_1").unwrap();
    log.emergency().review(grant.seq, Justification { actor: "office", reason: "justified" }, Some("noted")).unwrap();
    let mut selector = HoldSelector::default();
    selector.patients.insert("P-1".to_owned());
    log.retention().place_hold("case 7", selector, Justification { actor: "counsel", reason: "a claim" }).unwrap();
    log.checkpoint().unwrap();
    log.keys().rotate_epoch_key().unwrap();
    clock.advance(Duration::from_secs(86_400));
    log
}

/// A call whose values are none of the simple ones.
fn odd() -> ToolCall {
    let deep = format!("{}1e300{}", "[".repeat(120), "]".repeat(120));
    let arguments = format!(
        "{{\"deep\":{deep},\"far\":[1e21,1e-7,10000000000000000,0.1],\"\u{1f600}\":\"\\u0007\",\"\u{fb33}\":1}}"
    );
    ToolCall::new("conv \"1\"", "usr\\1", "tool\n1")
        .arguments(Json::parse(arguments.as_bytes()).unwrap().value)
        .duration(Duration::from_nanos(1_234_567))
}

/// `Entry` could not be serialised at all, and a host that serialised its parts got numbers and member names of the stored form.
#[test]
fn the_json_of_an_entry_is_its_line() {
    let log = busy(vec![odd(), ToolCall::new("c", "u", "t").typed_error("Timeout", "late")]);
    let entries: Vec<Entry> = log.query(&Query::new()).unwrap().collect::<Result<_>>().unwrap();
    assert!(entries.len() >= 10);
    for entry in &entries {
        assert_eq!(serde_json::to_string(entry).unwrap(), entry.line());
        assert_eq!(serde_json::from_str::<Entry>(&entry.line()).unwrap(), *entry);
    }
    let all = serde_json::to_string(&entries).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&all).unwrap(), entries);
    let line = entries[3].line();
    refused::<Entry>(&line.replacen('{', "{\"colour\":1,", 1), "canonical line");
    refused::<Entry>(&line.replacen('{', "{\"seq\":1,", 1), "seq");
    refused::<Entry>("7", "");
    // Written otherwise it is the same entry, with the same hash.
    let spaced: serde_json::Value = serde_json::from_str(&line).unwrap();
    let spaced = serde_json::to_string_pretty(&spaced).unwrap();
    assert_eq!(serde_json::from_str::<Entry>(&spaced).unwrap().hash(), entries[3].hash());
}

#[test]
fn every_answer_of_a_log_goes_through_its_json() {
    let calls = vec![
        ToolCall::new("c", "u", "t").patient("P-1"),
        ToolCall::new("c", "v", "t").duration(Duration::from_millis(3)),
    ];
    let log = busy(calls);
    there_and_back(&log.health().unwrap());
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert_eq!(there_and_back(&verification), verification.to_json().to_canonical().as_str());
    there_and_back(&log.verifications().known().unwrap());
    there_and_back(&log.emergency().grants().unwrap());
    there_and_back(&log.emergency().grants().unwrap()[0]);
    there_and_back(&log.emergency().grants().unwrap()[0].grant);
    there_and_back(&log.retention().holds().unwrap()[0].1);
    there_and_back(&log.retention().clock().unwrap());
    there_and_back(&log.retention().confirm_clock(Justification { actor: "admin", reason: "looked at it" }).unwrap());
    there_and_back(&log.retention().plan().unwrap());
    there_and_back(&log.retention().policies().unwrap());
    there_and_back(&log.keys().succession().unwrap().unwrap());
    there_and_back(&log.public_key().unwrap().unwrap());
    there_and_back(&log.retention().restored().unwrap());
    there_and_back(&log.keys().recorded_without_key().unwrap());
    there_and_back(&log.values().persons(Facet::User).unwrap());
    there_and_back(&log.values().unknown(&Query::new().patient("p-1").user("nobody")).unwrap());
    there_and_back(&log.values().unknown(&Query::new().patient("p-1")).unwrap()[0]);
    there_and_back(&log.statistics(&Statistics::new()).unwrap());
    let by = Breakdown::new(Grouping::ALL.iter().copied(), Query::new());
    log.breakdown(&by).unwrap().iter().for_each(|group| _ = there_and_back(group));
    there_and_back(&log.conversations(&Query::new(), 3).unwrap());
    there_and_back(&log.whole_call(2).unwrap());
    there_and_back(&log.statistics(&Statistics::new().tool("t")).unwrap()[0]);
    there_and_back(&log.alerts().list().unwrap());
    there_and_back(&log.record(ToolCall::new("c", "u", "t")).unwrap());
    for step in log.timeline("c").unwrap() {
        there_and_back(&step.unwrap());
    }
    let (old, seq) = (log.checkpoint().unwrap(), log.record(ToolCall::new("c", "u", "t")).unwrap().seq);
    there_and_back(&old);
    there_and_back(&log.prove(seq).unwrap());
    there_and_back(&log.proofs().consistent(&old).unwrap());
    let complete = log.proofs().complete(Facet::Tool, "t", Neighbours::Withhold).unwrap();
    there_and_back(&complete);
    there_and_back(&Proof::Complete(Box::new(complete)));
    refused::<InclusionProof>(&serde_json::to_string(&old).unwrap(), "another kind");
    refused::<SignedCheckpoint>("\"x\"", "");
    // What was kept elsewhere, and what of it could not be read, as part of the question.
    let file = format!("{old}\nno checkpoint\n");
    let evidence = Evidence::parse("kept", file.as_bytes(), None, &[]);
    let mut options = VerifyOptions::new().threads(2).public_key(log.public_key().unwrap().unwrap());
    if let Ok(evidence) = evidence {
        options = options.against(evidence.kept).against_unreadable("kept", evidence.unreadable);
    }
    let text = serde_json::to_string(&options).unwrap();
    let again: VerifyOptions = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    refused::<VerifyOptions>(r#"{"colour":1}"#, "colour");
    let again = log.verify(&again).unwrap();
    assert!(again.key_pinned);
}

/// What does not happen to every log, by its JSON.
#[test]
fn answers_that_few_logs_give_read_their_json() {
    let hash = "ab".repeat(32);
    let state: AlertState = reads(
        r#"{"seq":9,"raised_at":"2025-03-01T09:00:00Z","id":"mass:7","rule":"mass","severity":"critical","crossing":7,"count":3,
        "acknowledgements":[{"seq":10,"actor":"a","disposition":"d","at":"2025-03-01T09:00:01.500Z"},{"seq":11,"actor":"b","disposition":"e","at":"2025-03-01T09:00:02Z"}],
        "acknowledged":{"seq":11,"actor":"b","disposition":"e","at":"2025-03-01T09:00:02Z"}}"#,
    );
    again::<Alert>(&state.alert);
    there_and_back::<Acknowledgement>(&state.acknowledgements[0]);
    assert_eq!((state.alert.severity, state.alert.recorded), (Severity::Critical, true));
    let lost: Alert = reads(
        r#"{"seq":null,"recorded":false,"raised_at":"2025-03-01T09:00:00Z","id":"t:7:ab","rule":"t","severity":"info","crossing":7}"#,
    );
    assert_eq!((lost.seq, lost.recorded), (7, false));
    refused::<Alert>(
        r#"{"seq":1,"raised_at":"2025-03-01T09:00:00Z","id":"t","rule":"t","severity":"loud","crossing":7}"#,
        "info, warning, critical",
    );
    let restored: Restored = reads(&format!(
        r#"{{"seq":5,"at":"2025-03-01T09:00:00Z","actor":"a","reason":"r","size":4,"signed_size":9,"signed_root":"{hash}",
        "earlier":[{{"signed_size":7,"signed_root":"{hash}"}}],"standing":"changed",
        "lost":{{"holds":[{{"id":3,"case":"c","reason":"r","actor":"a","selector":{{"seqs":"0-4,7-7"}}}}],"policies":[1],"grants":[]}},
        "confirmed":{{"seq":6,"at":"2025-03-01T09:00:00Z","actor":"a","reason":"r"}}}}"#
    ));
    assert_eq!(restored.signed.map(|(size, _)| size), Some(9));
    assert_eq!(restored.earlier.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [7]);
    there_and_back(&restored.lost);
    there_and_back(&restored);
    reads::<Keyless>(r#"{"from":3,"to":null,"at":"2025-03-01T09:00:00Z"}"#);
    reads::<Backup>(&format!(r#"{{"size":3,"head":"{hash}","bytes":4096,"seq":3,"hash":"{hash}"}}"#));
    reads::<Purged>(
        r#"{"purged":3,"kept_by_hold":1,"bytes_before":9,"bytes_after":5,"purge_seq":null,"classes":{"general":3}}"#,
    );
    reads::<PurgePlan>(
        r#"{"cut_off":"2032-03-02T00:00:00Z","would_purge":3,"seqs":"4-6","kept_by_hold":1,"holds":{"3":1},"next":{"general":"2033-01-01T00:00:00Z"},
        "classes":{"general":{"lookup":{"expired":3,"kept_by_hold":1}}}}"#,
    );
    refused::<PurgePlan>(
        r#"{"cut_off":"2032-03-02T00:00:00Z","would_purge":4,"seqs":"4-6","kept_by_hold":1,"holds":{},"next":{},"classes":{}}"#,
        "would_purge",
    );
    reads::<ClockStatus>(
        r#"{"now":"2032-03-02T00:00:00Z","wall":"2042-03-02T00:00:00Z","frozen":true,"frozen_wall":"2042-03-02T00:00:00Z","credited_nanos":5,
        "bound_nanos":"18446744073709551615","behind_nanos":0,"ahead_nanos":0}"#,
    );
    reads::<ClockEvent>(r#"{"event":"set_back","from":"2032-03-02T00:00:00Z","to":"2031-03-02T00:00:00Z"}"#);
    reads::<LostAnchors>(r#"{"restored":3,"from":4,"to":5,"count":2}"#);
    reads::<AnchorHealth>(
        r#"{"name":"file:a","at_hand":true,"owed":7,"owed_since":"2032-03-02T00:00:00Z","retry_at":null,"failures_in_a_row":2,"failures":9,"under_way":7,
        "last_success":{"size":3,"at":"2032-03-02T00:00:00Z","trusted":null},
        "last_failure":{"message":"m","at":"2032-03-02T00:00:00Z","conflict":false}}"#,
    );
    reads::<AlertLag>(
        r#"{"evaluated":null,"behind":3,"oldest":null,"unreviewed":{"7":{"opened_at":"2032-03-02T00:00:00Z","rule":"r"}},"receivers":{"file:a":{"undelivered":1,"oldest":null,"failed":true,"configured":null}}}"#,
    );
    reads::<Finding>(r#"{"kind":"entry_changed","seq":3,"detail":"d","settled":null}"#);
    reads::<Finding>(
        r#"{"kind":"entry_changed","seq":3,"detail":"d","settled":{"seq":5,"actor":"a","disposition":"d","at":"2032-03-02T00:00:00Z"}}"#,
    );
    reads::<VerificationRecord>(
        r#"{"at":"2032-03-02T00:00:00Z","ok":false,"size":9,"findings":2,"settled":1,"kinds":["fork"],"marks":["fork:0123456789abcdef"],"anchored_size":0}"#,
    );
    refused::<VerificationRecord>(
        r#"{"at":"2032-03-02T00:00:00Z","ok":true,"size":9,"findings":2,"settled":1,"kinds":["fork"],"marks":["fork:0123456789abcdef"],"anchored_size":0}"#,
        "ok",
    );
    refused::<Unsealed>(r#"{"seq":-1,"recorded_at":"2032-03-02T00:00:00Z"}"#, "seq");
    refused::<Receipt>(&format!(r#"{{"seq":12345678901234567890,"hash":"{hash}"}}"#), "digits");
}

/// The kind is what a program acts on, and an error that crossed in a JSON of the host's had lost it.
#[test]
fn an_error_says_the_same_after_its_json() {
    let log = AuditLog::in_memory().unwrap();
    let twice = log.record_batch(vec![ToolCall::new("c", "u", "t"), ToolCall::new("", "u", "t")]).unwrap_err();
    for error in [twice, log.entry(77).unwrap_err(), Error::damaged("bad").about(3)] {
        let text = serde_json::to_string(&error).unwrap();
        let again: Error = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert_eq!((again.kind(), again.to_string()), (error.kind(), error.to_string()));
        assert_eq!((again.place(), again.seq()), (error.place(), error.seq()));
    }
    refused::<Error>(r#"{"kind":"sad","message":"m"}"#, "not_found");
    refused::<Error>(r#"{"kind":"busy","message":"m","place":{"colour":1}}"#, "colour");
}

/// Names have one spelling, that of the line and of the program.
#[test]
fn names_are_texts() {
    fn all<T: Serialize + DeserializeOwned + PartialEq + Debug + std::str::FromStr<Err = Error> + Copy>(
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) {
        for one in all {
            assert_eq!(there_and_back(one), format!("{:?}", name(*one)));
            assert_eq!(name(*one).parse::<T>().unwrap(), *one);
        }
        let error = "Colour".parse::<T>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        all.iter().for_each(|one| assert!(error.to_string().contains(name(*one)), "{error}"));
    }
    all(Facet::ALL, Facet::as_str);
    all(Kind::ALL, Kind::as_str);
    all(Outcome::ALL, Outcome::as_str);
    all(Trigger::ALL, Trigger::as_str);
    all(SourceKind::ALL, SourceKind::as_str);
    all(Decision::ALL, Decision::as_str);
    all(FindingKind::ALL, FindingKind::as_str);
    all(ErrorKind::ALL, ErrorKind::as_str);
    all(Severity::ALL, Severity::as_str);
    all(Misuse::ALL, Misuse::as_str);
    all(Stands::ALL, Stands::as_str);
    all(Neighbours::ALL, Neighbours::as_str);
    assert_eq!(serde_json::to_string(&Hash::ZERO).unwrap(), format!("{:?}", "0".repeat(64)));
    refused::<Hash>("\"00\"", "64");
    refused::<Timestamp>("\"2025-07-06T12:00:00\"", "zone");
    refused::<SeqSet>("\"4-3\"", "0-4");
}

#[test]
fn questions_are_validated() {
    let query: Query =
        serde_json::from_str(r#"{"facets":{"patient":["P-1"]},"since":"2025-07-06","limit":5}"#).unwrap();
    assert_eq!(query, Query::new().patient("P-1").since(time("2025-07-06")).limit(5));
    assert_eq!(serde_json::from_str::<Query>("{}").unwrap(), Query::new());
    there_and_back(&Query::new().unfinished().trace("t").failed().newest_first().after(3));
    refused::<Query>(r#"{"facets":{"colour":["red"]}}"#, "conversation");
    refused::<Query>(r#"{"facets":{"user":[]}}"#, "facets.user");
    refused::<Query>(r#"{"facets":{"user":["a"],"user":["b"]}}"#, "user");
    refused::<Query>(r#"{"since":"2025-07-06","until":"2025-07-05"}"#, "inverted");
    refused::<Query>(r#"{"unfinished":true}"#, "call_begun");
    refused::<Query>(r#"{"limit":-1}"#, "limit");
    there_and_back(&Statistics::new().tool("t").since(time("2025-07-06")));
    refused::<Statistics>(r#"{"tools":"t"}"#, "tools");
    there_and_back(&Breakdown::new([Grouping::Tool, Grouping::Day], Query::new().error("Busy")));
    refused::<Breakdown>(r#"{"by":["colour"],"of":{}}"#, "colour");
    let conditions = Query::new().error("Busy").slower_than(Duration::from_millis(500)).containing("x");
    let text = there_and_back(&conditions);
    assert_eq!(text, r#"{"containing":"x","errors":["Busy"],"slower_than":500000000}"#);
    refused::<Query>(r#"{"containing":""}"#, "must not be empty");
    there_and_back(&HoldSelector::everything());
    refused::<Hold>(r#"{"case":"c","reason":"r","actor":"a","selector":{}}"#, "covers");
    refused::<ToolCall>(r#"{"tool_name":"t","conversation_id":"c","user_id":"u","colour":1}"#, "colour");
    let mut later = ToolCall::new("c", "u", "t");
    later.late_answer = true;
    assert!(serde_json::to_string(&later).is_err(), "what the form cannot say was left out");
    let long = r#"{"tool_name":"t","conversation_id":"c","user_id":"u","arguments":{"id":12345678901234567890}}"#;
    assert_eq!(serde_json::from_str::<ToolCall>(long).unwrap().restated, ["arguments.id"]);
    there_and_back(&PolicySet::default());
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9_-]{1,8}", "\\PC{1,6}"]
}

fn any_query() -> impl Strategy<Value = Query> {
    let facets = proptest::collection::vec((proptest::sample::select(Facet::ALL), name()), 0..6);
    let numbers = (any::<Option<u64>>(), any::<Option<u64>>(), any::<bool>(), any::<bool>());
    let times = (any::<Option<i64>>(), any::<Option<u32>>(), proptest::collection::vec(name(), 0..3));
    (facets, numbers, times).prop_map(|(facets, (after, limit, newest, unfinished), (since, length, traces))| {
        let mut query = facets.into_iter().fold(Query::new(), |query, (facet, value)| query.facet(facet, value));
        query = traces.into_iter().fold(query, Query::trace);
        if let Some(since) = since.map(Timestamp::from_nanos) {
            query = query.since(since);
            query = length.into_iter().fold(query, |q, n| q.until(since.plus(Duration::from_secs(n.into()))));
        }
        query = after.into_iter().fold(query, Query::after);
        query = limit.into_iter().fold(query, Query::limit);
        query = if newest { query.newest_first() } else { query };
        if unfinished { query.unfinished() } else { query }
    })
}

fn any_call() -> impl Strategy<Value = ToolCall> {
    let names = (name(), name(), name(), proptest::option::of(name()), proptest::collection::vec(name(), 0..3));
    let said = (any::<f64>(), any::<i64>(), "\\PC{0,20}", proptest::option::of(proptest::sample::select(Outcome::ALL)));
    let rest = (0u64..1 << 53, 0u64..1 << 40, any::<bool>(), any::<i64>(), 0..4u8);
    (names, said, rest).prop_map(|((c, u, t, model, patients), (x, n, text, outcome), (seq, nanos, flag, at, how))| {
        let mut call = ToolCall::new(c, u, t).duration(Duration::from_nanos(nanos));
        (call.model, call.patient_ids, call.outcome) = (model, patients, outcome);
        let number = serde_json::Number::from_f64(x).map_or(serde_json::Value::Null, Into::into);
        let arguments = Json::from(serde_json::json!({"x": number, "n": n, "text": text, "none": null}));
        call.arguments = Some(arguments);
        call.timestamp = flag.then_some(Timestamp::from_nanos(at));
        match how {
            0 => call.retry_of(seq),
            1 => call.follow_up_of(seq).result(Json::from(text)),
            2 => call.typed_error("kind", text).emergency(Some(seq)),
            _ => call.role("nurse").sender(Sender::new("s", seq.max(1))),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_question_goes_through_its_json(query in any_query(), call in any_call(), nanos: i64, bytes: [u8; 32]) {
        there_and_back(&query);
        there_and_back(&call);
        there_and_back(&Timestamp::from_nanos(nanos));
        there_and_back(&Hash(bytes));
    }

    /// Whoever writes the JSON may write anything: it is read as something that is written the same way again, or refused.
    #[test]
    fn bytes_that_were_changed_are_refused_or_stand_for_something(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        thread_local!(static TEXTS: Vec<(fn(&str), String)> = texts());
        TEXTS.with(|texts| for (check, text) in texts {
            let mut bytes = text.clone().into_bytes();
            let place = at.index(bytes.len());
            bytes[place] = with;
            if let Ok(changed) = String::from_utf8(bytes) {
                check(&changed);
            }
        });
    }
}

fn stable<T: Serialize + DeserializeOwned>(text: &str) {
    let Ok(value) = serde_json::from_str::<T>(text) else { return };
    let once = serde_json::to_string(&value).unwrap();
    let again = serde_json::to_string(&serde_json::from_str::<T>(&once).unwrap()).unwrap();
    assert_eq!(once, again);
}

fn texts() -> Vec<(fn(&str), String)> {
    fn of<T: Serialize + DeserializeOwned>(value: &T) -> (fn(&str), String) {
        (stable::<T>, serde_json::to_string(value).unwrap())
    }
    let log = busy(vec![ToolCall::new("c", "u", "t").patient("P-1")]);
    let key: VerifierKey = log.public_key().unwrap().unwrap();
    let succession: Succession = log.keys().succession().unwrap().unwrap();
    let old = log.checkpoint().unwrap();
    let consistent: ConsistencyProof = log.proofs().consistent(&old).unwrap();
    let complete: CompleteProof = log.proofs().complete(Facet::Tool, "t", Neighbours::Withhold).unwrap();
    let health = log.health().unwrap();
    let anchors: Vec<AnchorStatus> = health.anchors.iter().map(|anchor| anchor.status.clone()).collect();
    vec![
        of(&log.entry(3).unwrap()),
        of(&health),
        of(&anchors),
        of(&log.verify(&VerifyOptions::new()).unwrap()),
        of(&log.emergency().grants().unwrap()[0]),
        of(&log.retention().holds().unwrap()[0].1),
        of(&log.retention().clock().unwrap()),
        of(&log.retention().policies().unwrap()),
        of(&log.statistics(&Statistics::new()).unwrap()),
        of(&log.retention().plan().unwrap()),
        of(&Query::new().patient("P-1").unfinished().limit(3)),
        of(&ToolCall::new("c", "u", "t").retry_of(3)),
        of(&(key, succession, old, consistent, complete)),
    ]
}
