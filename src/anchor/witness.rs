//! An anchor that is a witness (C2SP tlog-witness): it cosigns a checkpoint only if the log extends what it cosigned
//! before.
//!
//! Invariants: a cosignature counts only if it is valid under the witness's configured key, over exactly the text that
//! was sent; its time is then the witness's. Only the witness knows what it has on record: a size remembered here is
//! only a first guess, and a wrong guess costs one more request.

use super::http::Endpoint;
use super::{Anchor, AnchorReceipt, Attestation, Consistency, excerpt};
use crate::note::{KeyType, MAX_SIGNATURES, Signature, SignedCheckpoint, VerifierKey, parse_decimal};
use crate::{Error, ErrorKind, Hash, Result, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The maximum size of a witness's answer: as many signatures as a note may have, of the largest kind.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// How often a witness may reply that it has another size on record. Once is normal; it happens more often only if
/// somebody else hands over checkpoints of the same log at the same time.
const MAX_ATTEMPTS: usize = 3;

/// The specification allows a client to send at most this many hashes.
const MAX_PROOF_LINES: usize = 63;

/// Hands checkpoints to a witness over HTTP. Plain HTTP is enough, since the cosignature is checked.
#[derive(Debug)]
pub struct WitnessAnchor {
    endpoint: Endpoint,
    key: VerifierKey,
    /// The size that the witness is assumed to have on record.
    known: AtomicU64,
}

impl WitnessAnchor {
    /// The witness at this submission prefix (`/add-checkpoint` is appended), with its key and the timeout of each
    /// request.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the key is not of the type that witnesses sign with, or this build
    /// does not support the URL.
    pub fn new(url: &str, key: VerifierKey, timeout: Duration) -> Result<WitnessAnchor> {
        if key.key_type() != KeyType::CosignatureV1 {
            return Err(Error::invalid(format!("{} is a log's key: a witness's is of type 4", key.name())));
        }
        if url.contains(['?', '#']) {
            return Err(Error::invalid("the submission prefix of a witness has no query"));
        }
        let endpoint = Endpoint::new(&format!("{}/add-checkpoint", url.trim_end_matches('/')), timeout)?;
        Ok(WitnessAnchor { endpoint, key, known: AtomicU64::new(0) })
    }

    /// Sets the size that it cosigned last, which saves a request.
    pub fn with_known_size(self, size: u64) -> WitnessAnchor {
        self.known.store(size, Ordering::Relaxed);
        self
    }

    /// The cosignature in an answer, and its time.
    fn cosignature(&self, signed: &SignedCheckpoint, answer: &[u8]) -> Result<(Timestamp, Signature)> {
        let name = self.key.name();
        let wrong = |what: &str| Error::invalid(format!("the answer of {name} {what}"));
        let text = std::str::from_utf8(answer).map_err(|_| wrong("is not text"))?;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if number == MAX_SIGNATURES {
                return Err(wrong("has too many signatures"));
            }
            let signature = Signature::parse_line(line).map_err(|e| wrong("is no signature").with_source(e))?;
            if signature.name() != name || signature.key_id() != self.key.id() {
                continue;
            }
            // Checked in a note of its own, so that no cosignature that the checkpoint already has can stand in for
            // this one.
            let note = format!("{}\n{signature}\n", signed.note().text());
            let cosigned = SignedCheckpoint::parse(note.as_bytes())?;
            let cosigned = cosigned.cosigned(std::slice::from_ref(&self.key));
            let cosigned = cosigned.map_err(|e| wrong("does not hold under its key").with_source(e))?;
            let seconds = cosigned.iter().find_map(|signed| signed.time);
            let time = seconds
                .and_then(super::evidence::seconds)
                .ok_or_else(|| wrong("names no time between 1970 and 2261"))?;
            return Ok((time, signature));
        }
        Err(wrong("has no signature under its key: check the key that is configured for it"))
    }
}

fn body(old: u64, proof: &[Hash], signed: &SignedCheckpoint) -> String {
    let mut body = format!("old {old}\n");
    for hash in proof {
        STANDARD.encode_string(hash.as_bytes(), &mut body);
        body.push('\n');
    }
    body + "\n" + &signed.to_string()
}

impl Anchor for WitnessAnchor {
    fn name(&self) -> String {
        format!("witness {}", self.key.name())
    }

    fn tells_time(&self) -> bool {
        true
    }

    fn submit(&self, signed: &SignedCheckpoint, consistency: &Consistency<'_>) -> Result<AnchorReceipt> {
        let name = self.key.name();
        let size = signed.checkpoint().size();
        // A guess beyond this checkpoint would be refused without naming the size on record.
        let mut old = Some(self.known.load(Ordering::Relaxed)).filter(|&known| known <= size).unwrap_or(0);
        for _ in 0..MAX_ATTEMPTS {
            let proof = if old == 0 || old == size { Vec::new() } else { consistency(old)? };
            if proof.len() > MAX_PROOF_LINES {
                return Err(Error::invalid("the consistency proof has more hashes than a witness takes"));
            }
            let body = body(old, &proof, signed);
            let (status, answer) =
                self.endpoint.post("text/plain; charset=utf-8", body.as_bytes(), MAX_ANSWER_BYTES)?;
            let said = || format!("{name} answered {status}: {}", excerpt(&answer));
            match status {
                200 => {
                    let (time, signature) = self.cosignature(signed, &answer)?;
                    self.known.store(size, Ordering::Relaxed);
                    return Ok(AnchorReceipt::attested(time, Attestation::Cosignature(signature)));
                }
                409 => {
                    let recorded = std::str::from_utf8(&answer).ok().and_then(|text| text.strip_suffix('\n'));
                    match recorded.and_then(parse_decimal) {
                        Some(recorded) if recorded > size => {
                            return Err(Error::new(
                                ErrorKind::Conflict,
                                format!(
                                    "{name} has cosigned {recorded} entries of this log, which has {size} here: this is an \
                                     older copy of the store, or a newer checkpoint was handed over meanwhile"
                                ),
                            ));
                        }
                        Some(recorded) if recorded != old => {
                            self.known.store(recorded, Ordering::Relaxed);
                            old = recorded;
                        }
                        _ if old == size => {
                            let message = format!(
                                "{name} has cosigned another root for the same {size} entries: the log was rewritten or forked"
                            );
                            return Err(Error::new(ErrorKind::Conflict, message));
                        }
                        _ => return Err(Error::invalid(said())),
                    }
                }
                422 => {
                    let message = format!(
                        "{name} does not find this log consistent with the {old} entries that it cosigned: the log was rewritten or forked"
                    );
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                403 => {
                    let message =
                        format!("{name} knows the log, but not the key that signed: give it the log's public key");
                    return Err(Error::invalid(message));
                }
                404 => {
                    let origin = signed.checkpoint().origin();
                    return Err(Error::invalid(format!(
                        "{name} does not know the log {origin}: have it registered there"
                    )));
                }
                400..500 => return Err(Error::invalid(said())),
                _ => return Err(Error::new(ErrorKind::Io, said())),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("{name} has a new size on record each time it is asked")))
    }
}
