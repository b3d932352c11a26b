//! Promise: a time-stamp token counts only for exactly the note that it covers and the question that it answers, and
//! `openssl ts` agrees. The authority is a local one, made with the `openssl` program; without that program these tests say
//! so.

use attestlog::anchor::{
    Anchor, AnchorReceipt, Attestation, Evidence, Form, TimestampAnchor, TimestampRequest, check_token,
};
use attestlog::host::SeededRandom;
use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey};
use attestlog::{ErrorKind, Hash};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;

const CONFIG: &str = "
[tsa]
default_tsa = here
[here]
serial = ./serial
signer_cert = ./tsa.pem
signer_key = ./tsa.key
certs = ./ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
clock_precision_digits = 3
accuracy = secs:1
ordering = yes
tsa_name = yes
[stamping]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
";

fn checkpoint(size: u64) -> SignedCheckpoint {
    let key = SigningKey::from_seed("example.com/log", &[1; 32]).unwrap();
    let head = Checkpoint::new("example.com/log", size, Hash::of(&size.to_be_bytes())).unwrap();
    SignedCheckpoint::sign(head, &[&key]).unwrap()
}

/// A certificate authority and a time-stamping authority in a folder of their own.
struct Authority {
    dir: TempDir,
}

/// One for all tests, since making keys takes a while. `None` if there is no `openssl`.
static AUTHORITY: LazyLock<Option<Authority>> = LazyLock::new(Authority::new);

fn authority() -> Option<&'static Authority> {
    if AUTHORITY.is_none() {
        eprintln!("SKIPPED: the openssl program is not here, so no time-stamping authority can be set up");
    }
    AUTHORITY.as_ref()
}

impl Authority {
    fn new() -> Option<Authority> {
        Command::new("openssl").arg("version").output().ok().filter(|out| out.status.success())?;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tsa.cnf"), CONFIG).unwrap();
        std::fs::write(dir.path().join("serial"), "01\n").unwrap();
        let authority = Authority { dir };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let ca = ["req", "-x509", "-subj", "/CN=Test CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
        authority.openssl(&[&ca[..], &key].concat());
        let request = ["req", "-subj", "/CN=Test TSA", "-keyout", "tsa.key", "-out", "tsa.csr"];
        authority.openssl(&[&request[..], &key].concat());
        let issue = "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out tsa.pem \
                     -extfile tsa.cnf -extensions stamping";
        authority.openssl(&issue.split_whitespace().collect::<Vec<_>>());
        Some(authority)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        Command::new("openssl").args(args).current_dir(self.dir.path()).output().unwrap()
    }

    fn openssl(&self, args: &[&str]) {
        let out = self.run(args);
        assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The authority's answer to a question in DER.
    fn answer(&self, name: &str, request: &[u8]) -> Vec<u8> {
        let (question, reply) = (format!("{name}.tsq"), format!("{name}.reply"));
        std::fs::write(self.path(&question), request).unwrap();
        // Each call has its own serial file, since tests run in parallel.
        let config = CONFIG.replace("./serial", &format!("./{name}.serial"));
        std::fs::write(self.path(&format!("{name}.serial")), "01\n").unwrap();
        std::fs::write(self.path(&format!("{name}.cnf")), config).unwrap();
        let config = format!("{name}.cnf");
        self.openssl(&["ts", "-reply", "-config", &config, "-queryfile", &question, "-out", &reply]);
        std::fs::read(self.path(&reply)).unwrap()
    }

    /// Whether `openssl ts -verify` accepts a token, or a whole answer, for this file.
    fn accepts(&self, data: &Path, token: &Path, bare: bool) -> bool {
        let (data, token) = (data.to_str().unwrap(), token.to_str().unwrap());
        let mut args = vec!["ts", "-verify", "-data", data, "-in", token, "-CAfile", "ca.pem"];
        args.extend(bare.then_some("-token_in"));
        self.run(&args).status.success()
    }
}

/// An answer to a fixed question over `checkpoint(3)`.
fn sample() -> Option<&'static (TimestampRequest, Vec<u8>)> {
    static SAMPLE: LazyLock<Option<(TimestampRequest, Vec<u8>)>> = LazyLock::new(|| {
        let request = TimestampRequest::new(checkpoint(3).to_string().as_bytes(), [200; 8]);
        let answer = authority()?.answer("sample", &request.to_der());
        Some((request, answer))
    });
    SAMPLE.as_ref()
}

#[test]
fn openssl_reads_the_question() {
    let Some(authority) = authority() else { return };
    let note = checkpoint(1).to_string();
    let request = TimestampRequest::new(note.as_bytes(), [0; 8]);
    std::fs::write(authority.path("q.tsq"), request.to_der()).unwrap();
    let text = authority.run(&["ts", "-query", "-in", "q.tsq", "-text"]);
    let text = String::from_utf8(text.stdout).unwrap();
    for line in ["Version: 1", "Hash Algorithm: sha256", "Nonce: 0x4000000000000000", "Certificate required: yes"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let der = request.to_der();
    assert!(der.windows(32).any(|window| window == Hash::of(note.as_bytes()).as_bytes()));
}

#[cfg(unix)]
#[test]
fn a_token_is_had_through_a_program_and_openssl_verifies_what_is_kept() {
    let Some(authority) = authority() else { return };
    let folder = authority.path("program");
    std::fs::create_dir(&folder).unwrap();
    let config = CONFIG.replace("./serial", "./program/serial");
    std::fs::write(folder.join("cnf"), config).unwrap();
    std::fs::write(folder.join("serial"), "01\n").unwrap();
    let script = format!(
        "cd '{}' && cat > program/q && exec openssl ts -reply -config program/cnf -queryfile program/q",
        authority.dir.path().display()
    );
    let anchor = TimestampAnchor::program("/bin/sh", ["-c", &script], Duration::from_secs(60));
    let before = chrono::Utc::now();
    let signed = checkpoint(7);
    let receipt = anchor.submit(&signed, &|_| unreachable!()).unwrap();
    let after = chrono::Utc::now();
    let at = receipt.at.unwrap().to_datetime();
    // The authority's times have millisecond precision.
    let slack = chrono::TimeDelta::milliseconds(1);
    assert!(before - slack <= at && at <= after + slack, "{before} {at} {after}");

    // What is kept: in a record, and as files that any tool can read.
    let record = receipt.record(&signed).unwrap();
    let kept = Evidence::parse("x", record.to_string().as_bytes(), None, &[]).unwrap();
    assert!(kept.unreadable.is_empty());
    assert_eq!((kept.kept[0].time, kept.kept[0].checkpoint.clone()), (receipt.at, signed.clone()));
    let Some(Attestation::TimeStamp(token)) = receipt.attestation else { panic!("no token") };
    let (data, tsr) = (folder.join("checkpoint"), folder.join("checkpoint.tsr"));
    std::fs::write(&data, signed.to_string()).unwrap();
    std::fs::write(&tsr, &token).unwrap();
    assert!(authority.accepts(&data, &tsr, true));
    let kept = Evidence::read(&tsr, &[]).unwrap().kept.remove(0);
    assert_eq!((kept.time, kept.source.form, kept.checkpoint), (receipt.at, Form::TimeStamp, signed));

    // For another note it is worthless, for both programs.
    std::fs::write(&data, checkpoint(8).to_string()).unwrap();
    assert!(!authority.accepts(&data, &tsr, true));
    assert!(Evidence::read(&tsr, &[]).unwrap_err().to_string().contains("over bytes other than"));
    std::fs::remove_file(&data).unwrap();
    assert!(Evidence::read(&tsr, &[]).unwrap_err().to_string().contains("beside it"));
}

#[test]
fn only_the_answer_to_this_question_over_this_note_counts() {
    let Some((request, answer)) = sample() else { return };
    let note = checkpoint(3).to_string();
    let (token, time) = request.read_response(answer).unwrap();
    assert_eq!(check_token(&token, note.as_bytes()).unwrap(), time);
    assert_eq!(check_token(answer, note.as_bytes()).unwrap(), time, "a whole answer is a token too");
    let refused = |request: TimestampRequest, says: &str| {
        let error = request.read_response(answer).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(says), "{error}");
    };
    refused(TimestampRequest::new(note.as_bytes(), [201; 8]), "nonce");
    refused(TimestampRequest::new(b"another note", [200; 8]), "over bytes other than");
    assert!(check_token(&token, &note.as_bytes()[1..]).is_err());

    // A record whose token covers something else keeps its checkpoint, without a time, and says so.
    let receipt_of_another = AnchorReceipt::attested(time, Attestation::TimeStamp(token));
    let record = receipt_of_another.record(&checkpoint(4)).unwrap();
    let kept = Evidence::parse("x", record.to_string().as_bytes(), None, &[]).unwrap();
    assert_eq!((kept.kept[0].time, kept.unreadable.len()), (None, 1));
}

#[test]
fn a_refusal_is_told_in_the_authority_s_words() {
    let Some(authority) = authority() else { return };
    // SHA-256 becomes an unknown algorithm: the last byte of its identifier is changed.
    let mut der = TimestampRequest::new(b"x", [1; 8]).to_der();
    let at = der.windows(2).position(|pair| pair == [0x02, 0x01]).unwrap();
    let at = der[at + 3..].windows(2).position(|pair| pair == [0x02, 0x01]).unwrap() + at + 4;
    der[at] = 0x03;
    let answer = authority.answer("refusal", &der);
    let error = TimestampRequest::new(b"x", [1; 8]).read_response(&answer).unwrap_err().to_string();
    assert!(error.contains("refused to stamp (status 2): ") && error.contains("algorithm"), "{error}");
}

#[test]
fn a_program_that_answers_something_else_is_refused() {
    let ask = |script: &str| {
        let anchor = TimestampAnchor::program("/bin/sh", ["-c", script], Duration::from_secs(60));
        let anchor = anchor.named("authority").with_random(Arc::new(SeededRandom::new(1)));
        assert_eq!(anchor.name(), "authority");
        anchor.submit(&checkpoint(1), &|_| unreachable!()).unwrap_err().to_string()
    };
    if cfg!(unix) {
        assert!(ask("cat").contains("not a time-stamp"));
        assert!(ask("cat >/dev/null").contains("not a time-stamp"));
        assert!(ask("cat >/dev/null; yes | head -c 3000000").contains("more than"));
        assert!(ask("cat >/dev/null; echo gone >&2; exit 1").contains("gone"));
    }
}

#[test]
fn nothing_is_read_past_its_end() {
    let Some((request, answer)) = sample() else { return };
    let note = checkpoint(3).to_string();
    let (token, _) = request.read_response(answer).unwrap();
    for cut in 0..answer.len() {
        assert!(request.read_response(&answer[..cut]).is_err(), "cut at {cut}");
    }
    assert!(request.read_response(&[&answer[..], b"\0"].concat()).is_err());
    assert!(check_token(&[&token[..], b"\0"].concat(), note.as_bytes()).is_err());
    // Lengths as a hostile sender might encode them.
    for head in [
        &[0x30, 0x80][..],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x88],
        &[0x3f, 0x81],
        &[0x30, 0x81, 5],
        &[0x30],
    ] {
        assert!(check_token(&[head, &token].concat(), b"").is_err());
    }
    // Very deep, and very long.
    let deep: Vec<u8> = (0..60_000).flat_map(|_| [0x30, 0x80]).collect();
    assert!(check_token(&deep, b"").is_err());
    assert!(check_token(&vec![0x30; 1 << 20], b"").is_err());
    let mut large = vec![0x30, 0x83, 0x0f, 0xff, 0xfb];
    large.resize(1 << 20, 0x30);
    assert_eq!(check_token(&large, b"").unwrap_err().kind(), ErrorKind::TooLarge);
}

proptest! {
    #[test]
    fn hostile_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(TimestampRequest::new(b"", [0; 8]).read_response(&bytes).is_err());
        prop_assert!(check_token(&bytes, b"").is_err());
        let _ = Evidence::parse("x", &[&[0x30, 0x82][..], &bytes].concat(), Some(&bytes), &[]);
    }

    /// A change to the time or the signature may go unnoticed here, because checking the signature is not done here; but no
    /// change makes the token cover another note.
    #[test]
    fn a_changed_answer_never_panics_nor_stands_for_another_note(at in any::<prop::sample::Index>(), mask in 1u8..) {
        let Some((request, answer)) = sample() else { return Ok(()) };
        let mut changed = answer.clone();
        let at = at.index(changed.len());
        changed[at] ^= mask;
        let _ = request.read_response(&changed);
        let _ = check_token(&changed, checkpoint(3).to_string().as_bytes());
        prop_assert!(check_token(&changed, b"another note").is_err());
    }
}

#[test]
fn a_token_is_had_over_http() {
    use std::io::{Read, Write};
    let Some(authority) = authority() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/tsa?account=secret", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        for status in ["200 OK", "503 Service Unavailable"] {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            let body = loop {
                let n = stream.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..n]);
                let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                assert!(head.starts_with("post /tsa?account=secret"));
                assert!(
                    head.contains("content-type: application/timestamp-query") && head.contains("content-length: 69")
                );
                if bytes.len() == end + 4 + 69 {
                    break bytes[end + 4..].to_vec();
                }
            };
            let answer = authority.answer("http", &body);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            stream.write_all(&[head.as_bytes(), &answer].concat()).unwrap();
        }
    });
    let anchor = TimestampAnchor::http(&url, Duration::from_secs(60)).unwrap();
    assert!(!format!("{anchor:?} {}", anchor.name()).contains("secret"));
    let receipt = anchor.submit(&checkpoint(5), &|_| unreachable!()).unwrap();
    assert!(receipt.at.is_some());
    assert!(anchor.submit(&checkpoint(5), &|_| unreachable!()).unwrap_err().to_string().contains("503"));
    served.join().unwrap();
    assert!(TimestampAnchor::http("http://me:pw@a/", Duration::from_secs(1)).is_err());
}

/// A store's own configuration names the authority, a local one behind HTTP; its stored answers are checked by `verify`,
/// and by `openssl ts` in the way that docs/anchors.md describes.
#[test]
fn a_store_is_stamped_by_the_authority_that_its_configuration_names() {
    use crate::common::{Place, call};
    use attestlog::json::Json;
    use base64::Engine as _;
    use std::io::{Read, Write};
    let Some(authority) = authority() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/tsa", listener.local_addr().unwrap());
    // Ends with the test program; until then it answers every request.
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            let question = loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break None,
                    Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                }
                let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
                if let Some(end) = end.filter(|end| bytes.len() == end + 4 + 69) {
                    break Some(bytes[end + 4..].to_vec());
                }
            };
            let Some(question) = question else { continue };
            let answer = authority.answer(&format!("store{n}"), &question);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
        }
    });
    let place = Place::empty();
    place.write("store.toml", format!("[[anchor]]\ntimestamp = '{url}'\nname = 'tsa'\n"));
    let key = place.run(&["init", "s", "--config", "store.toml"]).ok();
    let before = chrono::Utc::now();
    place.run_with(&["record", "s", "--no-alerts"], call("c", "u", "t", "").as_bytes()).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    let after = chrono::Utc::now();
    let shown = place.run(&["anchors", "show", "s", "--json"]).json();
    let anchor = &shown.as_array().unwrap()[0];
    assert_eq!((anchor.get("name").unwrap().as_str(), anchor.get("owed")), (Some("tsa"), Some(&Json::Null)));

    // The tokens are in the store, each beside the note that it covers; the newest covers everything.
    let kept = place.run(&["anchors", "records", "s"]).ok();
    place.write("kept", &kept);
    let verified =
        |file: &str| place.run(&["verify", "s", "--public-key", key.trim(), "--against", file, "--json"]).json();
    assert_eq!(verified("kept").get("anchored_size").unwrap().as_u64(), Some(3));
    let record = crate::common::json(kept.lines().last().unwrap());
    let (note, token) = ["checkpoint", "token"].map(|key| record.get(key).unwrap().as_str().unwrap()).into();
    let data = place.write("checkpoint", note);
    let token = base64::engine::general_purpose::STANDARD.decode(token).unwrap();
    let tsr = place.write("checkpoint.tsr", &token);
    assert!(authority.accepts(&data, &tsr, true), "openssl ts -verify does not take it");
    assert_eq!(verified("checkpoint.tsr").get("anchored_size").unwrap().as_u64(), Some(3));

    // Its time is the authority's, its imprint the note's: for another checkpoint of the same store it is worthless.
    let at = check_token(&token, note.as_bytes()).unwrap().to_datetime();
    let slack = chrono::TimeDelta::milliseconds(1);
    assert!(before - slack <= at && at <= after + slack, "{before} {at} {after}");
    place.run_with(&["record", "s", "--no-alerts"], call("c", "u", "t", "").as_bytes()).ok();
    let later = place.run(&["checkpoint", "s"]).ok();
    std::fs::write(&data, later).unwrap();
    assert!(!authority.accepts(&data, &tsr, true));
    let refused = place.run(&["verify", "s", "--against", "checkpoint.tsr"]).code(2);
    assert!(refused.err.contains("over bytes other than"), "{}", refused.err);
}
