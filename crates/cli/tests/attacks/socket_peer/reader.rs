//! A process of the same user asks others to give the store up.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Giving the store up needs no proof, so anybody may ask for it: whoever records keeps the store, and whoever reads loses nothing.
#[test]
fn who_asks_for_the_store_gets_nothing_that_is_not_his() {
    let owned = Owned::new();
    let mut peer = Peer::greeted(&owned.socket());
    peer.say(&[GIVE_WAY]);
    assert_eq!(peer.hear(), None, "the connection ends");
    owned.run_with(&["record", "s", "--key", NOWHERE], &call("through", "u", "t", "")).ok();
    let before = owned.size();
    owned.kill();

    // A tail, which only reads. It has the keys.
    let args = ["tail", "s", "--json", "--from", "0", "--passphrase-file", "passphrase"];
    let mut tail = Owned::command_in(&owned.place, &args).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.next().unwrap();
    let store = std::fs::File::open(owned.place.path("s")).unwrap();
    for _ in 0..3 {
        let socket = owned.socket();
        let mut peer = Peer::greeted(&socket);
        // Nothing is recorded through it, whoever asks and whether or not it is asked to give way.
        peer.say(&[RECORD, 0, 0, 0]);
        assert!(peer.hear().is_none_or(|said| said[0] == FAILED));
        let mut peer = Peer::greeted(&socket);
        peer.say(&[GIVE_WAY]);
        assert_eq!(peer.hear(), Some(vec![GAVE_WAY]));
        // It answers when the file is closed and unlocked, and the socket is gone; it opens both again if nobody comes.
        store.try_lock().expect("it is unlocked");
        assert!(!socket.exists());
        store.unlock().unwrap();
        while UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
    }
    let left: u64 = before.trim().parse::<u64>().unwrap() - 1;
    assert_eq!(lines.by_ref().take(usize::try_from(left).unwrap()).count() as u64, left, "each entry once");
    owned.run_with(&["record", "s", "--passphrase-file", "passphrase"], &call("after", "u", "t", "")).ok();
    assert!(lines.any(|line| line.contains("after")));
    tail.kill().unwrap();
    tail.wait().unwrap();
}
