//! A numbered sender can resend a record that may not have arrived: it is answered with the first receipt.

use crate::store_common::*;
use attestlog::Justification;
use attestlog::entry::{Approval, Decision, Digests, Source, SourceKind};
use attestlog::redact::{Action, IdentityKind, Policy, Preset};
use attestlog::{AuditLog, ErrorKind, Hash, PolicySet, Receipt, Result, Sender, ToolCall};

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
    let size = log.size().unwrap();
    for (n, receipt) in (1..).zip(&first) {
        assert_eq!(send(&log, "a", n).unwrap(), *receipt);
    }
    assert_eq!(log.size().unwrap(), size);
    assert_ne!(send(&log, "b", 3).unwrap(), first[2], "numbers are each sender's own");
    log.flush_index().unwrap();
    // Until the block with the first ones is sealed and written.
    log.record_batch((0..200).map(|i| ToolCall::new("c", "u", "t").turn(i))).unwrap();
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    let size = log.size().unwrap();
    for (n, receipt) in (1..).zip(&first) {
        assert_eq!(send(&log, "a", n).unwrap(), *receipt);
    }
    assert_eq!(log.size().unwrap(), size);
    assert_clean(&log);
}

/// The story: a file of 60,000 numbered lines was being recorded when the process was killed, with 7,074 of them in the log. Sent again
/// from its first line, as the documents say it may be, it was refused: only the newest 64 numbers were remembered. With `--keep-going`
/// 7,010 lines "were not recorded" that were all there [J3].
#[test]
fn numbers_far_behind_the_newest_are_found_in_the_log() {
    let (log, disk, clock) = store(1);
    let first: Vec<Receipt> = (1..=10)
        .flat_map(|batch| {
            // Others record in between.
            log.record_batch((0..3).map(|turn| ToolCall::new("other", "u", "t").turn(turn))).unwrap();
            log.record_batch((0..20).map(|n| call("a", batch * 20 + n))).unwrap()
        })
        .collect();
    let again = |log: &AuditLog| {
        let size = log.size().unwrap();
        for (n, receipt) in (20..).zip(&first) {
            assert_eq!(send(log, "a", n).unwrap(), *receipt, "number {n}");
        }
        let all = log.record_batch((20..220).map(|n| call("a", n))).unwrap();
        assert_eq!(all, first);
        let backwards: Vec<_> = log.record_batch((20..150).rev().map(|n| call("a", n))).unwrap();
        assert!(backwards.iter().eq(first[..130].iter().rev()));
        assert_eq!(log.size().unwrap(), size);
    };
    again(&log);
    log.flush_index().unwrap();
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    again(&log);
    // Another call under an old number is refused as under a new one.
    let other = log.record(ToolCall::new("c", "u", "other").sender(Sender::new("a", 25))).unwrap_err();
    assert!(other.to_string().contains("it differs in tool_name"), "{other}");
    assert_clean(&log);
}

/// Two thousand calls of others lay before the first of a sender: its file was sent again, and every number but the newest 64 was
/// refused, although each was in the log. They were looked for in the middle of the log, where this sender had none.
#[test]
fn a_senders_numbers_are_found_wherever_they_lie() {
    let others = |log: &AuditLog, n: u64| {
        log.record_batch((0..n).map(|turn| ToolCall::new("other", "u", "t").turn(turn))).unwrap();
    };
    // How many of others lie before, how many are sent at once, and how many of others lie between these.
    for (before, at_once, between) in [(2000, 300, 0), (2000, 10, 30), (0, 1, 7), (3000, 100, 900), (700, 1, 1)] {
        let (log, ..) = store(1);
        others(&log, before);
        let mut first = Vec::new();
        for batch in 0..300 / at_once.max(10) {
            first.extend(log.record_batch((0..at_once).map(|n| call("a", 1 + batch * at_once + n))).unwrap());
            others(&log, between);
        }
        others(&log, 50);
        let size = log.size().unwrap();
        for (n, receipt) in (1..).zip(&first) {
            assert_eq!(send(&log, "a", n).unwrap(), *receipt, "number {n}, {before} {at_once} {between}");
        }
        assert_eq!(log.record_batch((1..=first.len() as u64).map(|n| call("a", n))).unwrap(), first);
        assert_eq!(log.size().unwrap(), size);
    }
}

#[test]
fn a_number_far_behind_that_the_log_does_not_have_is_refused_and_the_error_says_where_to_go_on() {
    let (log, disk, clock) = store(1);
    for n in (2..=200).step_by(2) {
        send(&log, "a", n).unwrap();
    }
    assert_clean(&log);
    // The 64 numbers from 74 to 200 are remembered; numbers between them that arrive late are new.
    let refused = send(&log, "a", 71).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().ends_with("The newest is 200, which is entry 101: go on with number 201"), "{refused}");
    assert_eq!(send(&log, "a", 1).unwrap_err().kind(), ErrorKind::Conflict);
    let size = log.size().unwrap();
    let known = send(&log, "a", 72).unwrap();
    let late = send(&log, "a", 75).unwrap();
    assert_eq!((send(&log, "a", 75).unwrap(), late.seq), (late, size));
    // The late one has taken the place of 74, which is found all the same.
    assert_eq!(send(&log, "a", 74).unwrap().seq, known.seq + 1);
    assert_clean(&log);
    log.flush_index().unwrap();
    log.close().unwrap();
    let log = options(&clock, 2).open_on(disk.backend()).unwrap();
    assert_eq!(send(&log, "a", 75).unwrap(), late);
    assert_eq!(send(&log, "a", 73).unwrap_err().kind(), ErrorKind::Conflict);
    assert_clean(&log);
}

#[test]
fn a_refused_batch_leaves_its_numbers_free() {
    let (log, _, _) = store(1);
    let size = log.size().unwrap();
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
    let size = log.size().unwrap();
    let all: Vec<Vec<Receipt>> = std::thread::scope(|scope| {
        let send_all = || (1..=40).map(|n| send(&log, "a", n).unwrap()).collect();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(send_all)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(log.size().unwrap(), size + 40);
    assert_clean(&log);
}

/// A purge removes entries, not numbers: what was purged is not recorded again because a sender repeats it.
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
    log.retention().confirm_clock(Justification { actor: "admin", reason: "the machine was off" }).unwrap();
    let purged = log.retention().purge("admin").unwrap();
    assert!(purged.purged > 60, "{purged:?}");
    let clean = |log: &AuditLog| {
        let found = log.verify(&attestlog::verify::VerifyOptions::new().threads(1)).unwrap();
        assert!(found.ok(), "{:#?}", found.findings);
    };
    clean(&log);
    let size = log.size().unwrap();
    for n in 37..=100 {
        let again = send(&log, "a", n);
        assert!(again.as_ref().is_ok_and(|r| r.seq < size) || again.is_err_and(|e| e.kind() != ErrorKind::Damaged));
    }
    assert_eq!(log.size().unwrap(), size, "nothing was recorded twice");
    send(&log, "a", 101).unwrap();
    clean(&log);
    log.close().unwrap();
    clean(&options(&clock, 2).open(&path).unwrap());
}

/// A store with keys.
fn keyed(policies: PolicySet) -> (AuditLog, Disk) {
    let disk = Disk::default();
    let options = attestlog::Options::new().clock(clock()).background(false).policies(policies);
    (options.create_on(disk.backend()).unwrap(), disk)
}

/// Digits in a sender's id that look like a card number were masked as in any name. Two senders whose ids are sixteen-digit
/// numbers, for example serial numbers, thereby became one, and the records of the second were answered with receipts of
/// the first: they were in no log. With keys no id is written; without them such an id is refused.
#[test]
fn senders_whose_ids_must_not_be_written_are_not_taken_for_each_other() {
    let (log, disk) = keyed(PolicySet::default());
    let ids = ["4111111111111111", "4012888888881881"];
    let receipts = ids.map(|id| send(&log, id, 1).unwrap());
    assert_ne!(receipts[0].seq, receipts[1].seq);
    assert_eq!(ids.map(|id| send(&log, id, 1).unwrap()), receipts);
    log.close().unwrap();
    let bytes = disk.bytes();
    assert!(!ids.iter().any(|id| bytes.windows(id.len()).any(|at| at == id.as_bytes())));
    let log = attestlog::Options::new().without_keys().in_memory().unwrap();
    for id in ids {
        let e = send(&log, id, 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().starts_with("sender: ") && !e.to_string().contains(id), "{e}");
    }
}

/// A host made its sender's id of the conversation, whose id the policy hides. The id stood in clear in every entry, and in the
/// file after the entries had been purged; where a name in it was replaced by a pseudonym, a repeat after a rotation of the
/// pseudonym key was recorded once more. Two stores showed the same id for the same sender, which linked them.
#[test]
fn the_log_does_not_show_a_sender_s_id_and_knows_it_after_every_rotation() {
    let hidden = || {
        let mut policies = PolicySet::default();
        let rules = Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Pseudonymise);
        policies.redaction = rules.build().unwrap();
        policies
    };
    let numbered = || ToolCall::new("chart-of-MRN-4817", "jane_roe", "t").sender(Sender::new("chart-of-MRN-4817", 1));
    let ((log, _), (other, _)) = (keyed(hidden()), keyed(hidden()));
    let first = log.record(numbered()).unwrap();
    let id = |log: &AuditLog, seq| log.entry(seq).unwrap().call().unwrap().sender.clone().unwrap().id;
    let shown = id(&log, first.seq);
    assert!(shown.starts_with("sender-") && !shown.contains("4817"), "{shown}");
    let elsewhere = other.record(numbered()).unwrap();
    assert_ne!(id(&other, elsewhere.seq), shown, "two stores show the same id");
    log.keys().rotate_pseudonym_key().unwrap();
    assert_eq!(log.record(numbered()).unwrap(), first);
    log.retention().set_policies(PolicySet::default()).unwrap();
    assert_eq!(log.record(numbered()).unwrap(), first);
    assert_clean(&log);
}

/// Two payments with one number, by two cards, or two messages with one number, to two addresses, were taken for one, since
/// what the policy masks looked the same: the second was acknowledged, and was in no log.
#[test]
fn calls_that_differ_only_where_the_policy_masks_are_told_apart() {
    use attestlog::json::Json;
    let (log, _) = keyed(PolicySet::default());
    let call = |text: &str| {
        ToolCall::new("c", "u", "t").sender(Sender::new("a", 1)).arguments(Json::from(vec![Json::from(text)]))
    };
    let session = |text: &str| ToolCall::new("c", "u", "t").sender(Sender::new("b", 1)).metadata("note", text);
    let failed = |text: &str| ToolCall::new("c", "u", "t").sender(Sender::new("d", 1)).error(text);
    let pairs = [
        ("arguments", call("alice@example.com"), call("mallory@evil.example")),
        ("session_metadata", session("4111 1111 1111 1111"), session("5500 0000 0000 0004")),
        ("error", failed("no alice@example.com"), failed("no mallory@evil.example")),
    ];
    for (member, one, other) in pairs {
        let first = log.record(one.clone()).unwrap();
        let again = || {
            assert_eq!(log.record(one.clone()).unwrap(), first);
            let e = log.record(other.clone()).expect_err(member);
            assert!(
                e.kind() == ErrorKind::Conflict && e.to_string().ends_with(&format!("it differs in {member}")),
                "{e}"
            );
        };
        again();
        log.keys().rotate_pseudonym_key().unwrap();
        again();
        log.retention().set_policies(log.retention().policies().unwrap()).unwrap();
        again();
        assert!(log.record_batch([one.clone(), other.clone()]).is_err());
    }
    assert_clean(&log);
}

/// The digests by which calls are told apart remain after an erasure. If they covered what was sealed, whoever has the keys
/// could try every diagnosis until the digest fits.
#[test]
fn what_is_sealed_has_no_part_in_what_remains_of_a_call() {
    use attestlog::json::Json;
    let mut policies = PolicySet::default();
    policies.redaction = Policy::builder(Preset::Default).field("diagnosis", Action::Seal).build().unwrap();
    let (log, _) = keyed(policies);
    let given = |number, arguments: &str| {
        let arguments = Json::parse(arguments.as_bytes()).unwrap().value;
        let call = ToolCall::new("c", "u", "t").sender(Sender::new("a", number)).patient("P-1").arguments(arguments);
        let seq = log.record(call).unwrap().seq;
        log.entry(seq).unwrap().call().unwrap().given.clone().unwrap()
    };
    let first = given(1, r#"{"diagnosis":"flu","list":[{"diagnosis":[1,2]}],"dose":1}"#);
    assert_eq!(given(2, r#"{"diagnosis":"HIV","list":[{"diagnosis":{"a":3}}],"dose":1}"#), first);
    assert_ne!(given(3, r#"{"diagnosis":"flu","list":[{"diagnosis":[1,2]}],"dose":2}"#), first);
}

/// Two programs used the same sender and number, or an importer gave two calls one identity: the second was answered with
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
    assert_eq!(log.size().unwrap(), first.seq + 1);
}

/// Two records with one number in one batch, or from two threads in one commit, were not compared: the second, a different
/// call, got the receipt of the first and was in no log. So was one with another answer, whenever it came.
#[test]
fn repeats_within_a_commit_are_compared_and_so_are_answers() {
    let (log, _, _) = store(1);
    let call = |user: &str, answer: &str| ToolCall::new("c", user, "refund").result(answer).sender(Sender::new("a", 1));
    let size = log.size().unwrap();
    for other in [call("mallory", "done"), call("alice", "refused")] {
        let e = log.record_batch([call("alice", "done"), other]).unwrap_err();
        assert_eq!((e.kind(), log.size().unwrap()), (ErrorKind::Conflict, size), "{e}");
    }
    let receipts = log.record_batch([call("alice", "done"), call("alice", "done")]).unwrap();
    assert_eq!(receipts[0], receipts[1]);
    let e = log.record(call("alice", "refused")).unwrap_err();
    assert!(e.to_string().contains("which has another answer"), "{e}");
    assert_eq!(log.record(call("alice", "done")).unwrap(), receipts[0]);
    assert_clean(&log);
}

/// A batch of only repeats, as in each import of a file that has not grown, rewrote the rows of all its senders.
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

/// A record with a known number was answered with the receipt of the first, whatever it said about the time, the purpose,
/// an emergency, the model, the agent or the session: a call in an emergency was acknowledged and in no log [R69].
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
        ("trace_id", one().trace("t", None)),
        ("resources", one().resource("file", "/x")),
        ("approval", one().approval(Approval::new(Decision::Denied))),
        ("digests", one().digests(Digests { policy: Some(Hash::ZERO), ..Digests::default() })),
        ("sources", one().source(Source::new(SourceKind::Hook))),
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
            assert!(e.to_string().ends_with(&format!("it differs in {member}")), "{member}: {e}");
        }
    }
    assert_eq!(log.size().unwrap(), first.seq + 1);
    assert_eq!(log.record(one()).unwrap(), first);
    // Nor is the end of a call taken for its beginning.
    let begun = log.begin(call("b", 1)).unwrap().receipt();
    assert!(log.record(call("b", 1)).is_err() && log.size().unwrap() == begun.seq + 1);
    assert_clean(&log);
}

/// Members that no policy changes are compared whatever the policy is by now, also after a rotation of the pseudonym key,
/// when nothing used to be compared any more [R69].
#[test]
fn a_repeat_is_compared_after_a_rotation_and_under_another_policy() {
    let disk = Disk::default();
    let log = attestlog::Options::new().clock(clock()).background(false).create_on(disk.backend()).unwrap();
    let first = log.record(call("a", 1)).unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    assert_eq!(log.record(call("a", 1)).unwrap(), first);
    let other = ToolCall::new("c", "mallory", "t").sender(Sender::new("a", 1));
    assert!(log.record(other).unwrap_err().to_string().contains("differs in user_id"));
    log.retention().set_policies(log.retention().policies().unwrap()).unwrap();
    assert_eq!(log.record(call("a", 1)).unwrap(), first);
    assert!(log.record(call("a", 1).emergency(None)).unwrap_err().to_string().contains("differs in emergency"));
}

/// The sender ids under which a process sends to the store's owner, and an import records, are in the log: somebody who
/// read one there recorded something else under its next number, and what came from that process, or from that file, was
/// refused [R67].
#[test]
fn names_of_senders_that_are_this_programs_own_are_refused() {
    let (log, _, _) = store(1);
    let size = log.size().unwrap();
    for id in ["process-abcdefghijklmnop", "import-abcdefghijkl"] {
        let e = send(&log, id, 1).unwrap_err();
        assert_eq!((e.kind(), log.size().unwrap()), (ErrorKind::InvalidInput, size));
        assert!(e.to_string().starts_with("sender: "), "{e}");
    }
}
