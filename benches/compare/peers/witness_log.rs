//! `witness-log-core`: a Merkle tree over salted hashes of payloads, in a journal of JSON lines, all leaves in memory.
//!
//! One leaf per call, not two as for a call that is watched: half of the work. The crate keeps hashes and leaves the
//! payloads to its user; here they are lines of a file beside it, which is written and synced with each batch.

use super::{Peer, content};
use crate::Failure;
use attestlog::{Content, Entry};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use witness_log_core::identity::IdentityKeypair;
use witness_log_core::journal::JournaledLog;
use witness_log_core::{leaf, merkle, redaction};

pub struct Witness {
    path: PathBuf,
    /// `None` only while it is opened again: the journal is locked.
    log: Option<JournaledLog>,
    payloads: BufWriter<File>,
}

impl Witness {
    pub fn create(dir: &Path) -> Result<Witness, Failure> {
        let path = dir.join("journal");
        let log = JournaledLog::create(&path.to_string_lossy(), IdentityKeypair::generate())?;
        let payloads = OpenOptions::new().create_new(true).append(true).open(path.with_extension("payloads"))?;
        Ok(Witness { path, log: Some(log), payloads: BufWriter::with_capacity(1 << 20, payloads) })
    }

    fn log(&mut self) -> Result<&mut JournaledLog, Failure> {
        self.log.as_mut().ok_or_else(|| "it is closed".into())
    }
}

impl Peer for Witness {
    fn notes(&self) -> &'static [&'static str] {
        &[
            "stores no contents: a file that the benchmark writes beside it has them, synced with it (three syncs a record)",
            "finds nothing: no questions",
            "all leaves are in memory, and opening reads the whole journal",
            "verified: the journal replayed, every payload against its salted hash, the root rebuilt against a signed checkpoint",
            "nothing is redacted before it is written; a leaf's salt can be forgotten afterwards",
        ]
    }

    fn record(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let log = self.log.as_mut().ok_or("it is closed")?;
        for entry in entries {
            let Content::Call(call) = &entry.body.content else { continue };
            let patient = call.patient_ids.first().map_or("", String::as_str);
            let head = [&call.conversation_id, &call.user_id, &call.tool_name, patient].join(" ");
            let line = format!("{head} {} {}", call.timestamp.nanos(), content(entry));
            log.append_result(line.as_bytes())?;
            writeln!(self.payloads, "{line}")?;
        }
        self.payloads.flush()?;
        self.payloads.get_ref().sync_data()?;
        Ok(log.sync()?)
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        self.log = None;
        let (log, report) = JournaledLog::resume(&self.path.to_string_lossy())?;
        if report.dropped_trailing_lines > 0 {
            return Err("the journal has lost its end".into());
        }
        self.log = Some(log);
        Ok(())
    }

    fn by_conversation(&mut self, _: &str) -> Result<Option<usize>, Failure> {
        Ok(None)
    }

    fn newest_of_user(&mut self, _: &str) -> Result<Option<usize>, Failure> {
        Ok(None)
    }

    fn verify(&mut self) -> Result<u64, Failure> {
        let checkpoint = self.log()?.log().checkpoint_self();
        self.reopen()?;
        let log = self.log()?.log();
        log.verify_continuity(&checkpoint).map_err(|e| format!("{e:?}"))?;
        leaf::validate_sequence(log.leaves()).map_err(|e| format!("{e:?}"))?;
        let payloads = BufReader::with_capacity(1 << 20, File::open(self.path.with_extension("payloads"))?);
        let mut verified = 0;
        let log = self.log()?.log();
        for (leaf, payload) in log.leaves().iter().zip(payloads.lines()) {
            let salt = log.salt_for(leaf.index).ok_or("no salt")?;
            if !redaction::verify_disclosure(leaf, payload?.as_bytes(), &salt) {
                return Err("a payload is not the one that its leaf commits to".into());
            }
            verified += 1;
        }
        Ok(verified)
    }

    fn prove(&mut self, seq: u64) -> Result<Option<()>, Failure> {
        let log = self.log()?.log();
        let proof = log.inclusion_proof(seq).ok_or("no such leaf")?;
        let checkpoint = log.checkpoint_self();
        checkpoint.verify().map_err(|e| format!("{e:?}"))?;
        let leaf = log.leaves().get(seq as usize).ok_or("no such leaf")?;
        let hash = merkle::leaf_hash(&leaf.canonical_bytes());
        let root = from_hex(&checkpoint.root_hash).ok_or("no root")?;
        match merkle::verify_inclusion(&hash, seq, checkpoint.tree_size, &proof, &root) {
            true => Ok(Some(())),
            false => Err("the proof does not hold".into()),
        }
    }
}

fn from_hex(text: &str) -> Option<merkle::Hash> {
    let mut hash = merkle::Hash::default();
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(hash)
}
