//! A process sends what obstructs others: numbers of their senders, frames without an end.

use super::*;

/// The sender of every process is in the entries of its calls, which everybody can read. Somebody who recorded junk under
/// its next numbers made the ends of its calls be refused, and further calls be refused, or let through unrecorded with
/// `--fail-open`.
#[test]
fn nobody_sends_under_another_process_s_sender() {
    let owned = Owned::new();
    owned.run_with(&["record", "s", "--key", NOWHERE], &call("victim", "u", "t", "")).ok();
    let line = owned.run(&["query", "s", "--json", "--conversation", "victim", "--key", NOWHERE]).ok();
    let sender = json(&line).get("sender").unwrap().get("id").unwrap().as_str().unwrap().to_owned();
    assert!(sender.starts_with("process-"), "{sender}");
    let before = owned.size();
    let mut peer = Peer::greeted(&owned.socket());
    for number in 1..4 {
        peer.say(&record_as("{}", Some((&sender, number)), None));
        let said = peer.hear().expect("an answer");
        assert_eq!(said[0], FAILED);
        assert!(String::from_utf8_lossy(&said).contains("this program's own"), "{}", String::from_utf8_lossy(&said));
    }
    let junk = call("c", "x", "junk", &format!(r#""sender":{{"id":"{sender}","number":2}}"#));
    owned.run_with(&["record", "s", "--key", NOWHERE], &junk).code(1);
    assert_eq!(owned.size(), before);
    // A secret gives a sender of its own, and is accepted only if the call names no sender.
    peer.say(&record_as("{}", None, Some(1)));
    assert_ne!(peer.hear().expect("an answer")[0], FAILED);
    let line = owned.run(&["query", "s", "--json", "--conversation", "by hand", "--key", NOWHERE]).ok();
    assert!(line.contains("\"id\":\"process-") && !line.contains(&sender), "{line}");
    for (of, own) in [(Some(("mine", 1)), Some(1)), (None, Some(0)), (None, Some(u64::MAX))] {
        peer.say(&record_as("{}", of, own));
        assert_eq!(peer.hear().expect("an answer")[0], FAILED);
    }
}

/// A number beyond 2^53-1, which the command line refuses, came through the socket into a signed line. Other tools then
/// read a different number, and compute a different hash.
#[test]
fn no_number_comes_through_the_socket_that_json_does_not_keep() {
    let owned = Owned::new();
    let mut peer = Peer::greeted(&owned.socket());
    peer.say(&record_as("{}", Some(("zz", u64::MAX)), None));
    let said = peer.hear().expect("an answer");
    assert_eq!(said[0], FAILED);
    assert!(String::from_utf8_lossy(&said).contains("2^53-1"));
    peer.say(&record_as("{}", Some(("zz", (1 << 53) - 1)), None));
    assert_ne!(peer.hear().expect("an answer")[0], FAILED);
}

/// Connections that announced a frame of 60 MiB, sent two bytes of it and waited took the space for all large frames:
/// anybody else's batch hung indefinitely, without a message.
#[test]
fn an_announced_frame_keeps_nobody_waiting() {
    let owned = Owned::new();
    let silent: Vec<Peer> = (0..8)
        .map(|_| {
            let mut peer = Peer::greeted(&owned.socket());
            peer.0.write_all(&[&(60u32 << 20).to_le_bytes()[..], &[1, RECORD]].concat()).unwrap();
            peer
        })
        .collect();
    let lines = call("big", "u", "t", &format!(r#""arguments":{{"x":"{}"}}"#, "a ".repeat(2000))).repeat(400);
    owned.run_with(&["record", "s", "--key", NOWHERE], &lines).ok();
    for mut peer in silent {
        // Nobody had to wait until the connection was cut off.
        peer.0.set_nonblocking(true).unwrap();
        let still = peer.0.read(&mut [0]).unwrap_err();
        assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock);
    }
}
