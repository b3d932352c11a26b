//! A numbered sender can send again what it does not know to have arrived: it is answered with the first receipt.

use crate::store_common::*;
use attestlog::{AuditLog, ErrorKind, Receipt, Result, Sender, ToolCall};

fn call(id: &str, number: u64) -> ToolCall {
    ToolCall::new("c", "u", "t").sender(Sender::new(id, number))
}

fn send(log: &AuditLog, id: &str, number: u64) -> Result<Receipt> {
    log.record(call(id, number))
}

#[test]
fn a_repeated_number_gets_the_first_receipt_also_after_reopening() {
    let (log, disk, clock) = store(1);
    let first: Vec<Receipt> = (1..=10).map(|n| send(&log, "a", n).unwrap()).collect();
    let size = log.size();
    for (n, receipt) in (1..).zip(&first) {
        assert_eq!(send(&log, "a", n).unwrap(), *receipt);
    }
    assert_eq!(log.size(), size);
    assert_ne!(send(&log, "b", 3).unwrap(), first[2], "numbers are each sender's own");
    log.flush_index().unwrap();
    // Until the block with the first ones is sealed and written.
    log.record_batch((0..200).map(|i| ToolCall::new("c", "u", "t").turn(i))).unwrap();
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    let size = log.size();
    for (n, receipt) in (1..).zip(&first) {
        assert_eq!(send(&log, "a", n).unwrap(), *receipt);
    }
    assert_eq!(log.size(), size);
    assert_clean(&log);
}

#[test]
fn the_newest_64_numbers_are_remembered_and_what_is_older_is_refused() {
    let (log, disk, clock) = store(1);
    for n in (2..=200).step_by(2) {
        send(&log, "a", n).unwrap();
    }
    assert_clean(&log);
    // 64 numbers from 74 to 200 are remembered; between them numbers that arrive late are new.
    assert_eq!(send(&log, "a", 72).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(send(&log, "a", 1).unwrap_err().kind(), ErrorKind::Conflict);
    let late = send(&log, "a", 75).unwrap();
    assert_eq!(send(&log, "a", 75).unwrap(), late);
    assert_eq!(send(&log, "a", 74).unwrap_err().kind(), ErrorKind::Conflict, "the late one has taken its place");
    assert_clean(&log);
    log.flush_index().unwrap();
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    assert_eq!(send(&log, "a", 75).unwrap(), late);
    assert_eq!(send(&log, "a", 74).unwrap_err().kind(), ErrorKind::Conflict);
    assert_clean(&log);
}

#[test]
fn a_refused_batch_leaves_its_numbers_free() {
    let (log, _, _) = store(1);
    let size = log.size();
    let refused = log.record_batch([call("a", 1), call("a", 2), call("a", 3).retry_of(1 << 40)]);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(send(&log, "a", 2).unwrap().seq, size);
    let receipts = log.record_batch([call("a", 1), call("a", 1), call("a", 2)]).unwrap();
    assert_eq!(receipts.iter().map(|r| r.seq).collect::<Vec<_>>(), [size + 1, size + 1, size]);
    assert_eq!(send(&log, "a", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(send(&log, "", 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_clean(&log);
}

#[test]
fn threads_that_send_the_same_numbers_record_each_once() {
    let (log, _, _) = store(1);
    let size = log.size();
    let all: Vec<Vec<Receipt>> = std::thread::scope(|scope| {
        let send_all = || (1..=40).map(|n| send(&log, "a", n).unwrap()).collect();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(send_all)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(log.size(), size + 40);
    assert_clean(&log);
}

/// A purge takes entries, not numbers: what was purged is not recorded again because a sender repeats it.
#[test]
fn numbers_outlive_the_purge_of_their_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("store"), clock());
    let log = options(&clock, 1).create(&path).unwrap();
    for n in 1..=100 {
        let call = call("a", n);
        log.record(if n % 3 == 0 { call.patient("P-1") } else { call }).unwrap();
    }
    send(&log, "b", 1).unwrap();
    let begun = log.begin(ToolCall::new("c", "u", "t")).unwrap();
    begun.finish(|call| call.result(true)).unwrap();
    let _ = log.begin(ToolCall::new("c", "u", "t")).unwrap();
    log.flush_index().unwrap();
    clock.advance(std::time::Duration::from_secs(800 * 86_400));
    log.confirm_clock("admin", "the machine was off").unwrap();
    let purged = log.purge("admin").unwrap();
    assert!(purged.purged > 60, "{purged:?}");
    let clean = |log: &AuditLog| {
        let found = log.verify(&attestlog::VerifyOptions::new().threads(1)).unwrap();
        assert!(found.ok(), "{:#?}", found.findings);
    };
    clean(&log);
    let size = log.size();
    for n in 37..=100 {
        let again = send(&log, "a", n);
        assert!(again.as_ref().is_ok_and(|r| r.seq < size) || again.is_err_and(|e| e.kind() != ErrorKind::Damaged));
    }
    assert_eq!(log.size(), size, "nothing was recorded twice");
    send(&log, "a", 101).unwrap();
    clean(&log);
    log.close().unwrap();
    clean(&options(&clock, 2).open(&path).unwrap());
}

/// What looks like a card number in the id of a sender was masked like in any name. Two senders whose ids are numbers of sixteen
/// digits, a serial number say, became one by that, and the records of the second were answered with receipts of the first: they
/// were in no log.
#[test]
fn senders_whose_ids_cannot_be_written_are_refused_and_not_taken_for_each_other() {
    let (log, _, _) = store(1);
    let before = log.size();
    for id in ["4111111111111111", "4012888888881881"] {
        let e = send(&log, id, 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().starts_with("sender: ") && !e.to_string().contains(id), "{e}");
    }
    assert_eq!(log.size(), before);
}

/// Two programs used one sender's name and number, or an importer gave two calls one identity: the second was answered with
/// the receipt of the first, and was in no log.
#[test]
fn a_number_is_answered_only_for_the_call_that_has_it() {
    let (log, _, _) = store(1);
    let refund = |user: &str, amount: u64| {
        let arguments = attestlog::json::Json::parse(format!("{{\"amount\":{amount}}}").as_bytes()).unwrap().value;
        ToolCall::new("c", user, "refund").arguments(arguments).sender(Sender::new("a", 1))
    };
    let first = log.record(refund("alice", 5)).unwrap();
    assert_eq!(log.record(refund("alice", 5)).unwrap(), first);
    for other in [refund("mallory", 5), refund("alice", 9999), refund("alice", 5).patient("P-1")] {
        let e = log.record(other).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.to_string().contains(&format!("is entry {}, which is another call", first.seq)), "{e}");
    }
    assert_eq!(log.size(), first.seq + 1);
}

/// Two records of one number in one batch, or of two threads in one commit, were not compared: the second, another call, got the
/// receipt of the first and was in no log. So was one with another answer, whenever it came.
#[test]
fn repeats_within_a_commit_are_compared_and_so_are_answers() {
    let (log, _, _) = store(1);
    let call = |user: &str, answer: &str| ToolCall::new("c", user, "refund").result(answer).sender(Sender::new("a", 1));
    let size = log.size();
    for other in [call("mallory", "done"), call("alice", "refused")] {
        let e = log.record_batch([call("alice", "done"), other]).unwrap_err();
        assert_eq!((e.kind(), log.size()), (ErrorKind::Conflict, size), "{e}");
    }
    let receipts = log.record_batch([call("alice", "done"), call("alice", "done")]).unwrap();
    assert_eq!(receipts[0], receipts[1]);
    let e = log.record(call("alice", "refused")).unwrap_err();
    assert!(e.to_string().contains("which has another answer"), "{e}");
    assert_eq!(log.record(call("alice", "done")).unwrap(), receipts[0]);
    assert_clean(&log);
}

/// A batch of nothing but repeats, as each import of a file that has not grown is, wrote the rows of all its senders anew.
#[test]
fn a_batch_of_repeats_writes_nothing() {
    let (log, disk, _) = store(1);
    let batch = || (1..=50).map(|n| call("a", n)).chain((1..=50).map(|n| call("b", n)));
    log.record_batch(batch()).unwrap();
    let before = disk.bytes();
    log.record_batch(batch()).unwrap();
    send(&log, "a", 7).unwrap();
    assert!(disk.bytes() == before, "the file was written");
    send(&log, "a", 51).unwrap();
    assert!(disk.bytes() != before);
    assert_clean(&log);
}

/// A record under a number that was there was answered with the receipt of the first, whatever it said of the time, the purpose, an
/// emergency, the model, the agent or the session: a call in an emergency was acknowledged and in no log [R69].
#[test]
fn whatever_a_caller_gives_makes_another_call_of_it() {
    use attestlog::json::Json;
    let (log, _, _) = store(1);
    let arguments = || Json::parse(br#"{"patient_id":"P-1"}"#).unwrap().value;
    let one = || {
        let call = ToolCall::new("c", "u", "get_chart").arguments(arguments()).timestamp(time("2026-01-01"));
        let call = call.purpose("treatment").model("m").agent("a").server("s").call_id("i").turn(1).metadata("k", 1u64);
        call.result("done").duration(std::time::Duration::from_millis(5)).sender(Sender::new("a", 1))
    };
    let first = log.record(one()).unwrap();
    let others = [
        ("timestamp", one().timestamp(time("2026-06-01"))),
        ("purpose", one().purpose("marketing")),
        ("emergency", one().emergency(None)),
        ("emergency", one().emergency(Some(1))),
        ("model", one().model("other")),
        ("agent_id", one().agent("other")),
        ("tool_server", one().server("other")),
        ("call_id", one().call_id("other")),
        ("turn_number", one().turn(2)),
        ("session_metadata", one().metadata("client_ip", "10.0.0.1")),
        ("session_metadata", one().role("nurse")),
        ("conversation_id", {
            let mut call = ToolCall::new("d", "u", "get_chart").arguments(arguments());
            call = call.timestamp(time("2026-01-01")).turn(1);
            call.purpose("treatment").sender(Sender::new("a", 1))
        }),
        ("call_trigger", one().trigger(attestlog::Trigger::System)),
        ("call_trigger", one().retry_of(1)),
        ("backfilled", one().backfilled()),
        ("duration_ms", one().duration(std::time::Duration::from_millis(6))),
        ("outcome", one().outcome(attestlog::Outcome::Denied)),
        ("outcome", one().outcome(attestlog::Outcome::Abandoned)),
        ("result", one().result("other")),
        ("retention_class", one().retention_class("financial")),
        ("retain_until", one().retain_until(time("2060-01-01"))),
    ];
    for (member, other) in others {
        for e in [log.record(other.clone()), log.record_batch([ToolCall::new("c", "u", "t"), other]).map(|all| all[1])]
        {
            let e = e.expect_err(member);
            assert_eq!(e.kind(), ErrorKind::Conflict);
            assert!(e.to_string().ends_with(&format!("another {member}")), "{member}: {e}");
        }
    }
    assert_eq!(log.size(), first.seq + 1);
    assert_eq!(log.record(one()).unwrap(), first);
    // Nor is the end of a call taken for its beginning.
    let begun = log.begin(call("b", 1)).unwrap().receipt();
    assert!(log.record(call("b", 1)).is_err() && log.size() == begun.seq + 1);
    assert_clean(&log);
}

/// What no policy changes is compared whatever became of the policy since, and after a rotation of the key of pseudonyms, when
/// nothing was compared any more [R69].
#[test]
fn a_repeat_is_compared_after_a_rotation_and_under_another_policy() {
    let disk = Disk::default();
    let log = attestlog::Options::new().clock(clock()).background(false).create_on(disk.backend()).unwrap();
    let first = log.record(call("a", 1)).unwrap();
    log.rotate_pseudonym_key().unwrap();
    assert_eq!(log.record(call("a", 1)).unwrap(), first);
    let other = ToolCall::new("c", "mallory", "t").sender(Sender::new("a", 1));
    assert!(log.record(other).unwrap_err().to_string().contains("another user_id"));
    log.set_policy(log.policies()).unwrap();
    assert_eq!(log.record(call("a", 1)).unwrap(), first);
    assert!(log.record(call("a", 1).emergency(None)).unwrap_err().to_string().contains("another emergency"));
}

/// The sender's names under which a process sends to the store's owner, and an import records, stand in the log: whoever read one
/// there recorded something else under its next number, and what came from that process, or out of that file, was refused [R67].
#[test]
fn names_of_senders_that_are_this_programs_own_are_refused() {
    let (log, _, _) = store(1);
    let size = log.size();
    for id in ["process-abcdefghijklmnop", "import-abcdefghijkl"] {
        let e = send(&log, id, 1).unwrap_err();
        assert_eq!((e.kind(), log.size()), (ErrorKind::InvalidInput, size));
        assert!(e.to_string().starts_with("sender: "), "{e}");
    }
}
