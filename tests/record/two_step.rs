//! A call recorded in two steps leaves its trace when the program dies between them, and counts once.

use crate::store_common::*;
use attestlog::entry::Phase;
use attestlog::query::Statistics;
use attestlog::{AuditLog, ErrorKind, Kind, Outcome, Query, ToolCall};

fn unfinished(log: &AuditLog) -> Vec<u64> {
    log.query(&Query::new().unfinished()).unwrap().map(|e| e.unwrap().seq).collect()
}

fn call() -> ToolCall {
    ToolCall::new("conv", "usr", "issue_refund").model("model-1")
}

#[test]
fn both_steps_stand_in_the_chain_and_count_as_one_call() {
    let (log, _, clock) = store(1);
    let begun = log.begin(call()).unwrap();
    let seq = begun.receipt().seq;
    assert_eq!(unfinished(&log), [seq]);
    assert_eq!(log.entry(seq).unwrap().kind(), Kind::CallBegun);
    assert_eq!(log.entry(seq).unwrap().call().unwrap().success(), None);
    let statistics = log.statistics(&Statistics::new()).unwrap();
    assert_eq!(statistics.iter().map(|s| (s.total_calls, s.unfinished)).collect::<Vec<_>>(), [(0, 1)]);
    let shown: Vec<_> = log.timeline("conv").unwrap().map(|s| s.unwrap()).collect();
    assert_eq!((shown.len(), shown[0].entry.seq, shown[0].begun_at), (1, seq, None));
    clock.advance(std::time::Duration::from_secs(3));
    let end = begun.finish(|call| call.result(true).duration(std::time::Duration::from_secs(3))).unwrap();
    let entry = log.entry(end.seq).unwrap();
    let done = entry.call().unwrap();
    assert_eq!((done.phase, done.success()), (Phase::Finished(seq), Some(true)));
    assert_eq!(done.model.as_deref(), Some("model-1"), "the end says everything that the beginning said");
    assert!(entry.line().contains(&format!(r#""begun_seq":{seq}"#)));
    assert!(unfinished(&log).is_empty());
    let shown: Vec<_> = log.timeline("conv").unwrap().map(|s| s.unwrap()).collect();
    assert_eq!((shown.len(), shown[0].entry.seq, shown[0].begun_at), (1, end.seq, Some(time(START))));
    for flushed in [false, true] {
        if flushed {
            log.flush_index().unwrap();
        }
        let statistics = log.statistics(&Statistics::new().tool("issue_refund")).unwrap();
        assert_eq!((statistics[0].total_calls, statistics[0].successes, statistics[0].unfinished), (1, 1, 0));
        assert_eq!(log.count(&Query::new().conversation("conv")).unwrap(), 2);
    }
    assert_clean(&log);
}

#[test]
fn what_was_begun_when_the_program_died_is_found_afterwards() {
    let (log, disk, clock) = store(1);
    let done = log.begin(call()).unwrap();
    let dies = log.begin(call()).unwrap();
    let seq = dies.receipt().seq;
    done.finish(|call| call.outcome(Outcome::Timeout)).unwrap();
    // The bytes as they are, without closing: the program is gone.
    let left = Disk::of(disk.bytes());
    let after = options(&clock, 2).open_on(left.backend()).unwrap();
    assert_eq!(unfinished(&after), [seq]);
    assert_eq!(after.timeline("conv").unwrap().count(), 2);
    after.flush_index().unwrap();
    assert_eq!(unfinished(&after), [seq]);
    assert_clean(&after);
    drop(dies);
    assert_eq!(unfinished(&log), [seq], "one that is dropped stays unfinished");
}

#[test]
fn a_beginning_has_no_result_and_an_end_that_is_refused_leaves_it_unfinished() {
    let (log, _, _) = store(1);
    let size = log.size().unwrap();
    assert_eq!(log.begin(call().result(true)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(log.begin(call().outcome(Outcome::Ok)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(log.size().unwrap(), size);
    let begun = log.begin(call()).unwrap();
    let refused = begun.finish(|call| call.error("it failed").outcome(Outcome::Ok)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(unfinished(&log), [size]);
    assert_clean(&log);
}

/// Two handles for one beginning that a sender repeated: only one of them can end it.
#[test]
fn a_call_ends_once() {
    let (log, _, _) = store(1);
    let again = || log.begin(call().sender(attestlog::Sender::new("s", 1))).unwrap();
    let (first, second) = (again(), again());
    assert_eq!(first.receipt(), second.receipt());
    first.finish(|call| call.result(1u64)).unwrap();
    assert_eq!(second.finish(|call| call.result(2u64)).unwrap_err().kind(), ErrorKind::Conflict);
    assert!(unfinished(&log).is_empty());
    assert_clean(&log);
}

/// Statistics and rules count a call in two steps by its end, which could name another tool and user than the beginning:
/// somebody who ended refused deletions as another user's look-ups was in no figure [R67].
#[test]
fn an_end_is_that_of_the_call_that_was_begun() {
    let (log, _, _) = store(1);
    let begin = || log.begin(ToolCall::new("c", "u", "delete_all")).unwrap();
    let others = [
        ToolCall::new("c", "u", "look_up"),
        ToolCall::new("c", "somebody", "delete_all"),
        ToolCall::new("elsewhere", "u", "delete_all"),
    ];
    for other in others {
        let e = begin().finish(|_| other.outcome(attestlog::Outcome::Denied)).unwrap_err();
        assert_eq!(e.kind(), attestlog::ErrorKind::InvalidInput);
        assert!(e.to_string().ends_with("differs from that of the call which this ends"), "{e}");
    }
    begin().finish(|call| call.server("found out later").patient("P-1").model("m").error("no")).unwrap();
    assert_clean(&log);
}

/// `retry_of` took any seq that was there: the log proved for ever that a call retried its genesis, or a policy. The error for a
/// seq that is not there named no member.
#[test]
fn what_is_retried_or_followed_up_is_a_call() {
    let (log, _, _) = store(1);
    let whole = log.record(call()).unwrap().seq;
    let begun = log.begin(call()).unwrap();
    let open = begun.receipt().seq;
    let ttl = std::time::Duration::from_secs(60);
    let access = attestlog::emergency::EmergencyAccess { user: "usr", patient: "P-1", urgency: "high", ttl };
    let grant = log.emergency().open(access, attestlog::Justification { actor: "usr", reason: "why" }).unwrap().seq;
    let before = grant + 1;
    let not_a_call = [
        (0, "is no call (its kind is genesis"),
        (1, "is no call (its kind is policy"),
        (grant, "is no call (its kind is break"),
    ];
    for (wrong, is) in not_a_call.into_iter().chain([(before, "is recorded yet")]) {
        for (member, follows) in [("retry_of", call().retry_of(wrong)), ("follow_up_of", call().follow_up_of(wrong))] {
            let refused = log.record(follows).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
            assert_eq!(refused.place().and_then(|place| place.member.as_deref()), Some(member), "{refused}");
            assert!(refused.to_string().contains(&format!("entry {wrong} {is}")), "{refused}");
        }
    }
    assert_eq!(log.size().unwrap(), before);
    // A call is one in each of its steps, and in the same batch.
    let receipts =
        log.record_batch([call().retry_of(whole), call().follow_up_of(before), call().retry_of(open)]).unwrap();
    assert_eq!(receipts.len(), 3);
    let end = begun.finish(|call| call.result(true)).unwrap();
    log.record(call().follow_up_of(end.seq)).unwrap();
    assert_clean(&log);
}
