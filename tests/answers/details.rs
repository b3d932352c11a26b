//! Details that another source tells later of a call are found with it, are proven like any entry, and are no call. Invariant R95.

use crate::store_common::*;
use attestlog::entry::{Approval, Decision, Source, SourceKind};
use attestlog::proof::{Proven, check};
use attestlog::query::Statistics;
use attestlog::{AuditLog, ErrorKind, Facet, Kind, Neighbours, Options, Outcome, Query, ToolCall};
use attestlog_report::access::{AccessReport, Context, Subject};

fn call() -> ToolCall {
    ToolCall::new("c", "u", "Bash")
}

fn told(of: u64) -> ToolCall {
    call().source(Source::new(SourceKind::Session)).detail_of(of)
}

fn seqs(log: &AuditLog, query: &Query) -> Vec<u64> {
    log.query(query).unwrap().map(|entry| entry.unwrap().seq).collect()
}

#[test]
fn details_are_found_with_their_call_and_proven_like_it() {
    let log = Options::new().clock(clock()).background(false).in_memory().unwrap();
    let seen = log.record(call().source(Source::new(SourceKind::Hook)).result(true)).unwrap().seq;
    let begun = log.begin(call()).unwrap();
    let before = begun.receipt().seq;
    let approval = Approval::new(Decision::Denied);
    let details = [
        told(seen).model("opus").duration(std::time::Duration::from_millis(1500)).trace("t-1", None),
        told(before).approval(approval).outcome(Outcome::Denied).contradicts(["outcome"]),
        // One may be recorded together with the call, and of one call there may be many.
        told(seen).result(attestlog::json::Json::from("ok")),
    ];
    let details = log.record_batch(details).unwrap().into_iter().map(|receipt| receipt.seq).collect::<Vec<_>>();
    let both = log.record_batch([call(), told(details[2] + 1)]).unwrap();
    begun.finish(|call| call.result(true)).unwrap();
    for flushed in [false, true] {
        if flushed {
            log.flush_index().unwrap();
        }
        let all: Vec<u64> = (seen..=both[1].seq + 1).collect();
        for query in [Query::new().user("u"), Query::new().tool("Bash"), Query::new().conversation("c")] {
            assert_eq!(seqs(&log, &query), all);
        }
        let expected = [details.clone(), vec![both[1].seq]].concat();
        assert_eq!(seqs(&log, &Query::new().kind(Kind::CallDetail)), expected);
        assert_eq!(seqs(&log, &Query::new().trace("t-1")), [details[0]]);
        assert_eq!(seqs(&log, &Query::new().outcome(Outcome::Denied)), [details[1]]);
        let of_tool = &log.statistics(&Statistics::new()).unwrap()[0];
        assert_eq!((of_tool.total_calls, of_tool.successes, of_tool.unfinished), (3, 3, 0));
        // The step of a call that ended stands where it ended.
        let steps: Vec<u64> = log.timeline("c").unwrap().map(|step| step.unwrap().entry.seq).collect();
        assert_eq!(steps, all.iter().copied().filter(|seq| *seq != before).collect::<Vec<_>>());
        assert_clean(&log);
    }
    let entry = log.entry(details[0]).unwrap();
    let told = entry.call().unwrap();
    assert_eq!((told.duration_ms(), told.success(), told.is_counted()), (Some(1500.0), None, false));
    assert!(entry.line().contains(r#""duration_ms":1500"#) && !entry.line().contains("outcome"), "{}", entry.line());
    let key = log.public_key().unwrap().unwrap();
    let proof = log.proofs().complete(Facet::Tool, "Bash", Neighbours::Withhold).unwrap().to_string();
    match check(proof.as_bytes(), &key).unwrap().proven() {
        Proven::Complete { entries, .. } => assert_eq!(entries.len(), 8),
        other => panic!("{other:?}"),
    }
    let one = log.prove(details[1]).unwrap().to_string();
    assert!(check(one.as_bytes(), &key).is_ok());
}

/// Whoever adds details could make a call of another person's, or a call out of something that is none, or hide a call as
/// details of one that is there [R67].
#[test]
fn details_are_only_of_a_call_and_of_the_same_conversation_user_and_tool() {
    let log = AuditLog::in_memory().unwrap();
    let seen = log.record(call()).unwrap().seq;
    let detail = log.record(told(seen)).unwrap().seq;
    let with = |change: fn(&mut ToolCall)| {
        let mut call = told(seen);
        change(&mut call);
        call
    };
    let refused = [
        (told(0), "detail_of: entry 0 is no call"),
        (told(detail), "its kind is call_detail"),
        (told(999), "detail_of: no entry 999"),
        (told(1 << 60), "detail_of: "),
        (with(|call| call.conversation_id = "d".to_owned()), "conversation_id: differs"),
        (with(|call| call.user_id = "v".to_owned()), "user_id: differs"),
        (with(|call| call.tool_name = "Read".to_owned()), "tool_name: differs"),
        (call().detail_of(seen), "detail_of: details of a call need a source"),
        (told(seen).emergency(None), "detail_of: "),
        (told(seen).retry_of(seen), "detail_of: "),
    ];
    let size = log.size().unwrap();
    for (call, why) in refused {
        let e = log.record(call).unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains(why), "{e}");
    }
    assert!(log.begin(told(seen)).is_err());
    // Nor is anything a retry of details, or their end.
    assert!(log.record(call().retry_of(detail)).is_err());
    assert_eq!(log.size().unwrap(), size);
    assert_clean(&log);
}

/// What only the details name was accessed all the same: a report that left it out would hide the access.
#[test]
fn a_patient_whom_only_details_name_is_in_the_access_report() {
    let log = AuditLog::in_memory().unwrap();
    let seen = log.record(call().patient("P-1").result(true)).unwrap().seq;
    let more = log.record(told(seen).patient("P-2")).unwrap().seq;
    let plain = log.record(told(seen).model("opus")).unwrap().seq;
    let report = |subject: Subject| {
        let query = match &subject {
            Subject::Patient(id) => Query::new().patient(id),
            _ => Query::new().user("u"),
        };
        let entries = log.query(&query).unwrap().collect::<attestlog::Result<Vec<_>>>().unwrap();
        let report = AccessReport::of(Context::new(subject), &entries);
        report.rows().iter().map(|row| row.entries().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(report(Subject::Patient("P-2".to_owned())), [[more]]);
    assert_eq!(report(Subject::Patient("P-1".to_owned())), [[seen]]);
    assert_eq!(report(Subject::User("u".to_owned())), [[seen, more, plain]]);
}
