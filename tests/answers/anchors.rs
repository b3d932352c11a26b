//! Promise: a checkpoint that is kept elsewhere stays whole and is found again, and an anchor that fails is retried and
//! reported, never forgotten. Witnesses and time-stamping authorities have separate test files.

use attestlog::anchor::{
    Anchor, AnchorQueue, Backoff, CommandAnchor, Evidence, FileAnchor, Form, MAX_ANCHORS, Record, read_anchor_file,
};
use attestlog::json::Json;
use attestlog::merkle::{self, Frontier, Nodes, ProofError};
use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey};
use attestlog::proof::{ConsistencyProof, InclusionProof};
use attestlog::{Error, ErrorKind, Hash, Timestamp};
use proptest::prelude::*;
use std::time::Duration;

fn leaf(seq: u64) -> Vec<u8> {
    format!(r#"{{"seq":{seq},"tool_name":"lookup"}}"#).into_bytes()
}

struct Tree;

impl Nodes for Tree {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        if level == 0 {
            return Ok(Hash::leaf(&leaf(index)));
        }
        Ok(Hash::node(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed("example.com/log", &[1; 32]).unwrap()
}

fn checkpoint(size: u64) -> SignedCheckpoint {
    let mut tree = Frontier::empty();
    (0..size).for_each(|seq| tree.append(Hash::leaf(&leaf(seq)), &mut |_, _, _| {}));
    let epoch = SigningKey::from_seed("example.com/log/epoch-0", &[2; 32]).unwrap();
    let head = Checkpoint::new("example.com/log", size, tree.root()).unwrap();
    SignedCheckpoint::sign(head, &[&key(), &epoch]).unwrap()
}

fn submit(anchor: &dyn Anchor, size: u64) -> attestlog::Result<()> {
    anchor.submit(&checkpoint(size), &|_| panic!("nobody needs a proof here")).map(|receipt| {
        assert_eq!((receipt.at, receipt.attestation), (None, None), "a file or a program tells no time");
    })
}

fn sizes(evidence: &Evidence) -> Vec<u64> {
    evidence.kept.iter().map(|kept| kept.checkpoint.checkpoint().size()).collect()
}

#[test]
fn a_file_keeps_every_checkpoint_and_is_only_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    let anchor = FileAnchor::new(&path);
    let mut before = Vec::new();
    for size in 1..=5 {
        submit(&anchor, size).unwrap();
        let now = std::fs::read(&path).unwrap();
        assert!(now.starts_with(&before) && now.len() > before.len());
        before = now;
    }
    let evidence = Evidence::read(&path, &[]).unwrap();
    assert_eq!(sizes(&evidence), [1, 2, 3, 4, 5]);
    assert!(evidence.unreadable.is_empty());
    assert!(evidence.kept.iter().all(|kept| kept.source.form == Form::AnchorFile));
    assert_eq!(evidence.kept[2].checkpoint, checkpoint(3), "note for note what was signed");
    assert_eq!(evidence.kept[2].source.to_string(), format!("{}, line 3", path.display()));
}

#[cfg(unix)]
#[test]
fn a_file_is_private_and_never_reached_through_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    submit(&FileAnchor::new(&path), 1).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    for target in ["kept", "not-there-yet"] {
        let link = dir.path().join(format!("link-to-{target}"));
        symlink(dir.path().join(target), &link).unwrap();
        let refused = submit(&FileAnchor::new(&link), 2).unwrap_err();
        assert!(refused.to_string().contains("symbolic link"), "{refused}");
    }
    assert!(!dir.path().join("not-there-yet").exists());
    assert_eq!(sizes(&Evidence::read(&path, &[]).unwrap()), [1]);
    assert!(submit(&FileAnchor::new(dir.path()), 2).unwrap_err().to_string().contains("regular file"));
    assert_eq!(submit(&FileAnchor::new(dir.path().join("no/such")), 2).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_a_crash_leaves_of_a_record_is_reported_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    submit(&FileAnchor::new(&path), 1).unwrap();
    let first = std::fs::read(&path).unwrap();
    submit(&FileAnchor::new(&path), 2).unwrap();
    let both = std::fs::read(&path).unwrap();
    for cut in first.len() + 1..both.len() - 1 {
        let read = read_anchor_file(&both[..cut]).unwrap();
        assert_eq!(read.records.len(), 1);
        assert_eq!((read.unreadable[0].line, read.unreadable[0].cut_off), (2, true));
    }
    // Only the newline is missing: the record is whole.
    assert_eq!(read_anchor_file(&both[..both.len() - 1]).unwrap().records.len(), 2);

    // The next append ends the torn line and begins its own; the fragment stays, and is still reported.
    for cut in [first.len() + 1, first.len() + 100, both.len() - 2, both.len() - 1] {
        std::fs::write(&path, &both[..cut]).unwrap();
        submit(&FileAnchor::new(&path), 3).unwrap();
        let evidence = Evidence::read(&path, &[]).unwrap();
        let whole = cut == both.len() - 1;
        assert_eq!(sizes(&evidence), if whole { vec![1, 2, 3] } else { vec![1, 3] });
        assert_eq!(evidence.unreadable.len(), usize::from(!whole));
        assert!(std::fs::read(&path).unwrap().starts_with(&both[..cut]));
    }
}

#[test]
fn every_form_in_which_a_checkpoint_is_kept_is_recognised() {
    let parse = |bytes: &[u8]| Evidence::parse("kept", bytes, None, &[]);
    let note = checkpoint(5).to_string();
    let alone = parse(note.as_bytes()).unwrap();
    assert_eq!((sizes(&alone), alone.kept[0].source.form), (vec![5], Form::Checkpoint));

    // Notes one after the other, as a shell appends them, with and without blank lines, with records among them.
    let notes =
        format!("{}{}\n\n{}{}", checkpoint(1), checkpoint(2), Record { checkpoint: checkpoint(3), token: None }, note);
    assert_eq!(sizes(&parse(notes.as_bytes()).unwrap()), [1, 2, 3, 5]);
    let torn = parse(&notes.as_bytes()[..notes.len() - 3]).unwrap();
    assert_eq!(sizes(&torn), [1, 2, 3]);
    assert!(torn.unreadable[0].cut_off && torn.unreadable[0].line == 16, "{:?}", torn.unreadable);

    let consistency = ConsistencyProof {
        old_size: 3,
        old_root: merkle::root(&Tree, 3).unwrap(),
        proof: merkle::consistency_proof(&Tree, 3, 5).unwrap(),
        checkpoint: checkpoint(5),
    };
    let read = parse(consistency.to_string().as_bytes()).unwrap();
    assert_eq!((sizes(&read), read.kept[0].source.form), (vec![5], Form::ConsistencyProof));
    let broken = ConsistencyProof { old_root: Hash::ZERO, ..consistency };
    assert!(parse(broken.to_string().as_bytes()).unwrap_err().to_string().contains("earlier root"));

    let inclusion = InclusionProof {
        seq: 2,
        line: leaf(2),
        path: merkle::inclusion_proof(&Tree, 2, 5).unwrap(),
        checkpoint: checkpoint(5),
    };
    assert_eq!(parse(inclusion.to_string().as_bytes()).unwrap().kept[0].source.form, Form::InclusionProof);
    let other = InclusionProof { line: leaf(3), ..inclusion };
    assert!(parse(other.to_string().as_bytes()).is_err());
}

#[test]
fn a_file_without_a_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    for bytes in
        [&b""[..], b"\n\n\n", b"hello\n", b"{}", b"{\"checkpoint\":1}\n", b"\xff\xfe", b"[]", b"{\"proof\":[]}"]
    {
        std::fs::write(&path, bytes).unwrap();
        let error = Evidence::read(&path, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
    assert_eq!(Evidence::read(&dir.path().join("nothing"), &[]).unwrap_err().kind(), ErrorKind::NotFound);
    let others = "{\n".repeat(1_001);
    assert!(read_anchor_file(others.as_bytes()).unwrap_err().to_string().contains("not an anchor file"));
    let extra = checkpoint(1).to_string();
    let extra = format!(
        "{}\n",
        Json::from_serialize(&serde_json::json!({"checkpoint": extra, "more": 1})).unwrap().value.to_canonical()
    );
    assert!(read_anchor_file(extra.as_bytes()).unwrap().unreadable[0].reason.contains("only"));
}

#[cfg(unix)]
mod command {
    use super::*;

    fn shell(script: &str, seconds: u64) -> CommandAnchor {
        // The test's program happens to be a shell; the anchor itself never uses one.
        CommandAnchor::new("/bin/sh", ["-c", script], Duration::from_secs(seconds))
    }

    #[test]
    fn a_program_gets_the_note_on_its_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("with space; $(and more)");
        let anchor = CommandAnchor::new("tee", [std::ffi::OsStr::new("-a"), path.as_os_str()], Duration::from_secs(60));
        submit(&anchor, 1).unwrap();
        submit(&anchor, 2).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}{}", checkpoint(1), checkpoint(2)));
        assert_eq!(sizes(&Evidence::read(&path, &[]).unwrap()), [1, 2]);
    }

    #[test]
    fn a_program_that_fails_is_reported_with_its_last_words() {
        let failed = submit(&shell("cat >/dev/null; echo no room >&2; exit 3", 60), 1).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Io);
        let message = failed.to_string();
        assert!(message.contains("exit status: 3") && message.contains("no room"), "{message}");
        // However much it prints, in whatever bytes, the message stays one short line.
        let loud =
            "cat >/dev/null; head -c 300000 /dev/zero | tr '\\0' '\\033' >&2; yes ab | head -c 300000 >&2; exit 1";
        let message = submit(&shell(loud, 60), 1).unwrap_err().to_string();
        assert!(message.len() < 500 && !message.contains(char::is_control), "{message}");
        let missing = submit(&CommandAnchor::new("/no/such/program", [""; 0], Duration::from_secs(60)), 1).unwrap_err();
        assert!(missing.to_string().contains("could not be started"), "{missing}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("echo $$ > '{}'; echo waiting >&2; exec tail -f /dev/null", pid.display());
        let anchor = CommandAnchor::new("/bin/sh", ["-c", &script], Duration::from_millis(500));
        let message = submit(&anchor, 1).unwrap_err().to_string();
        assert!(message.contains("had not ended after 500ms"), "{message}");
        if let Ok(pid) = std::fs::read_to_string(&pid)
            && std::path::Path::new("/proc/self").exists()
            // On a busy machine it may be killed before it has written that.
            && !pid.trim().is_empty()
        {
            assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "it is still there");
        }
    }

    #[test]
    fn a_child_that_keeps_the_pipes_open_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
        // The child reads from a pipe that nobody opens for writing until the anchor has answered.
        let script = format!("cat >/dev/null; (cat '{}' >/dev/null) & exit 4", gate.display());
        assert!(submit(&shell(&script, 60), 1).unwrap_err().to_string().contains("exit status: 4"));
        drop(std::fs::OpenOptions::new().write(true).open(&gate).unwrap());
    }

    #[test]
    fn arguments_are_not_shown() {
        let anchor = CommandAnchor::new("curl", ["-u", "me:secret"], Duration::from_secs(1)).named("courier");
        assert_eq!(anchor.name(), "courier");
        assert!(!format!("{anchor:?}").contains("secret"));
    }
}

fn at(seconds: u64) -> Timestamp {
    let noon: Timestamp = "2025-07-06T12:00:00Z".parse().unwrap();
    noon.plus(Duration::from_secs(seconds))
}

fn io() -> Error {
    Error::new(ErrorKind::Io, "no answer")
}

fn due(queue: &mut AnchorQueue, seconds: u64) -> Vec<(String, u64)> {
    queue.due(at(seconds)).into_iter().map(|due| (due.anchor, due.size)).collect()
}

#[test]
fn an_anchor_that_fails_is_tried_again_and_the_others_do_not_wait() {
    let mut queue = AnchorQueue::new(Backoff::default());
    queue.add("a").unwrap();
    queue.add("b").unwrap();
    assert!(due(&mut queue, 0).is_empty());
    assert_eq!(queue.next_due(), None);
    queue.owe(10, at(0));
    assert_eq!(due(&mut queue, 0), [("a".to_owned(), 10), ("b".to_owned(), 10)]);
    assert!(due(&mut queue, 0).is_empty(), "both are under way");
    queue.succeeded("a", at(1), Some(at(7)));
    queue.failed("b", at(1), &io());
    queue.owe(20, at(2));
    // A newer checkpoint replaces the older one, and does not shorten the wait.
    assert_eq!(due(&mut queue, 2), [("a".to_owned(), 20)]);
    queue.succeeded("a", at(3), None);
    assert_eq!(queue.next_due(), Some(at(11)));
    assert!(due(&mut queue, 10).is_empty());
    assert_eq!(due(&mut queue, 11), [("b".to_owned(), 20)]);
    queue.failed("b", at(12), &Error::new(ErrorKind::Conflict, "another root"));
    let b = queue.status().find(|(name, _)| *name == "b").unwrap().1.clone();
    assert_eq!((b.owed, b.owed_since, b.retry_at), (Some(20), Some(at(0)), Some(at(32))));
    assert_eq!((b.failures, b.failures_in_a_row, b.last_success), (2, 2, None));
    assert!(b.last_failure.is_some_and(|f| f.conflict && f.message == "another root" && f.at == at(12)));
    assert_eq!(queue.anchored(), (Some(20), None));
    assert_eq!(due(&mut queue, 32), [("b".to_owned(), 20)]);
    // Signed while one was being sent: owed at once afterwards.
    queue.owe(30, at(32));
    queue.succeeded("b", at(33), None);
    assert_eq!(due(&mut queue, 33), [("a".to_owned(), 30), ("b".to_owned(), 30)]);
    assert_eq!(queue.anchored(), (Some(20), Some(20)));
    let b = queue.status().nth(1).unwrap().1.clone();
    assert_eq!((b.failures, b.failures_in_a_row, b.last_failure), (2, 0, None));
}

#[test]
fn a_clock_that_is_put_back_does_not_silence_an_anchor() {
    let mut queue = AnchorQueue::new(Backoff::default());
    queue.add("a").unwrap();
    queue.owe(1, at(1_000_000));
    assert_eq!(due(&mut queue, 1_000_000).len(), 1);
    queue.failed("a", at(1_000_000), &io());
    assert_eq!(due(&mut queue, 5).len(), 1);
}

#[test]
fn a_queue_survives_being_written_down() {
    let mut queue = AnchorQueue::new(Backoff::default());
    ["a", "b", "c", "d"].iter().for_each(|name| queue.add(name).unwrap());
    queue.owe(10, at(0));
    queue.due(at(0));
    queue.succeeded("a", at(1), Some(at(2)));
    queue.succeeded("b", at(1), None);
    queue.failed("c", at(1), &Error::new(ErrorKind::Io, "é".repeat(10_000)));
    queue.owe(20, at(3));
    let text = queue.to_json().to_canonical();
    assert!(text.as_str().len() < 3_000, "{text}");
    let mut again =
        AnchorQueue::from_json(&Json::parse(text.as_str().as_bytes()).unwrap().value, Backoff::default()).unwrap();
    assert_eq!(again.to_json(), queue.to_json());
    // What was being sent when the state was written is due again.
    assert_eq!(due(&mut again, 3).iter().map(|(name, _)| name.as_str()).collect::<String>(), "abd");

    let json = |text: &str| Json::parse(text.as_bytes()).unwrap().value;
    for bad in ["{}", "[]", r#"{"anchors":[{}]}"#, r#"{"anchors":[{"name":"a"}]}"#, r#"{"anchors":{}}"#] {
        let error = AnchorQueue::from_json(&json(bad), Backoff::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{bad}");
    }
    let mut full = AnchorQueue::default();
    (0..MAX_ANCHORS).for_each(|i| full.add(&i.to_string()).unwrap());
    assert_eq!(full.add("one more").unwrap_err().kind(), ErrorKind::TooLarge);
    full.add("3").unwrap();
    assert!(full.remove("3").is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Owe(u64),
    Wait(u64),
    Answer(bool),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..50).prop_map(Step::Owe),
        (0u64..8_000).prop_map(Step::Wait),
        any::<bool>().prop_map(Step::Answer),
        Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Compared with a plain model: the largest signed size is what an anchor has, what is being sent to it, or what it is
    /// owed, and whatever is owed becomes due within the longest wait.
    #[test]
    fn nothing_that_is_owed_is_ever_forgotten(steps in steps()) {
        let (mut queue, mut now, mut signed, mut taken) = (AnchorQueue::new(Backoff::default()), 0, None, None);
        let (mut under_way, mut failures) = (None, 0);
        queue.add("a").unwrap();
        for step in steps {
            match step {
                Step::Owe(size) => {
                    signed = signed.max(Some(size));
                    queue.owe(size, at(now));
                }
                Step::Wait(seconds) => now += seconds,
                Step::Answer(ok) => {
                    if let Some(size) = under_way.take() {
                        if ok { taken = Some(size); queue.succeeded("a", at(now), None) } else { failures += 1; queue.failed("a", at(now), &io()) }
                    }
                }
                Step::Restart => {
                    under_way = None;
                    queue = AnchorQueue::from_json(&queue.to_json(), Backoff::default()).unwrap();
                }
            }
            if let Some((_, size)) = due(&mut queue, now).pop() {
                prop_assert_eq!(under_way, None, "one thing at a time");
                prop_assert_eq!(Some(size), signed, "the newest");
                under_way = Some(size);
            }
            let status = queue.status().next().unwrap().1.clone();
            prop_assert_eq!(status.owed, if signed > taken { signed } else { None });
            prop_assert_eq!(status.failures, failures);
            if under_way.is_none() && status.owed.is_some() {
                prop_assert!(queue.next_due().unwrap() <= at(now + 3600));
            }
        }
    }

    #[test]
    fn reading_what_was_kept_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..800, flip in 0usize..800) {
        let _ = Evidence::parse("x", &bytes, Some(&bytes), &[]);
        let mut text = format!("{}{}", checkpoint(2), Record { checkpoint: checkpoint(3), token: Some(bytes.clone()) }).into_bytes();
        let flip = flip % text.len();
        text[flip] ^= 1;
        text.splice(cut.min(text.len()).., bytes);
        if let Ok(evidence) = Evidence::parse("x", &text, None, &[]) {
            prop_assert!(!evidence.kept.is_empty());
        }
    }
}
