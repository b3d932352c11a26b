//! A witness on loopback, as C2SP tlog-witness has it.
#![allow(dead_code, reason = "each test file uses its part")]

use attestlog::Hash;
use attestlog::anchor::WitnessAnchor;
use attestlog::merkle;
use attestlog::note::{KeyType, SignedCheckpoint, VerifierKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const NAME: &str = "witness.example/w1";

pub fn witness_key(seed: u8) -> (VerifierKey, ed25519_dalek::SigningKey) {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    (VerifierKey::new(NAME, KeyType::CosignatureV1, secret.verifying_key().as_bytes()).unwrap(), secret)
}

pub fn cosign(seed: u8, time: u64, text: &str) -> String {
    let (key, secret) = witness_key(seed);
    let signature = secret.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes()).to_bytes();
    let blob = [&key.id()[..], &time.to_be_bytes(), &signature].concat();
    format!("— {NAME} {}\n", STANDARD.encode(blob))
}

/// A request as it came in: its first line, and its body.
pub type Request = (String, String);
pub type Answer = (u16, Vec<u8>);

/// Serves HTTP on loopback with whatever `answer` says, and writes down what was asked.
pub struct Server {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(mut answer: impl FnMut(&Request) -> Option<Answer> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/w", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&mut stream) else { continue };
                seen.lock().unwrap().push(request.clone());
                let Some((status, body)) = answer(&request) else {
                    silent.push(stream);
                    continue;
                };
                let head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // Whoever asked may have gone.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Server { url, asked }
    }

    pub fn anchor(&self) -> WitnessAnchor {
        WitnessAnchor::new(&self.url, witness_key(9).0, Duration::from_secs(60)).unwrap()
    }

    /// The old sizes that it was asked with.
    pub fn olds(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, body)| body.lines().next().unwrap().to_owned()).collect()
    }
}

pub fn read(stream: &mut TcpStream) -> Option<Request> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length?.parse::<usize>().ok()? {
                return Some((head.lines().next()?.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

/// A witness as the specification has it, for one log; `recorded` is what it cosigned last, `time` what its clock shows.
pub fn honest_for(
    log: VerifierKey,
    mut recorded: Option<(u64, Hash)>,
    time: impl Fn() -> u64 + Send + 'static,
) -> impl FnMut(&Request) -> Option<Answer> {
    move |(line, body)| {
        let status = |status: u16| Some((status, b"no\n".to_vec()));
        if line != "POST /w/add-checkpoint HTTP/1.1" {
            return status(405);
        }
        let (head, note) = body.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
        let proof: Vec<Hash> = lines.map(|line| Hash(STANDARD.decode(line).unwrap().try_into().unwrap())).collect();
        let signed = SignedCheckpoint::parse(note.as_bytes()).unwrap();
        let (size, root) = (signed.checkpoint().size(), signed.checkpoint().root());
        if signed.checkpoint().origin() != log.name() {
            return status(404);
        }
        if signed.verify(&log).is_err() {
            return status(403);
        }
        if old > size {
            return status(400);
        }
        let (known, known_root) = recorded.unwrap_or_default();
        if old != known || (old == size && known_root != root) {
            return Some((409, format!("{known}\n").into_bytes()));
        }
        if old == 0 {
            assert!(proof.is_empty());
        } else if merkle::verify_consistency(old, size, known_root, root, &proof).is_err() {
            return status(422);
        }
        recorded = Some((size, root));
        // Lines of keys that nobody knows are for others.
        Some((200, format!("— someone.else AAAAAAAA\n{}", cosign(9, time(), signed.note().text())).into_bytes()))
    }
}
