//! `audit-trail`: a chain of hashes over records of actor, action, target and outcome, in a file that is appended to.
//!
//! SHA-256, as everybody here. The user is the actor, the tool the action; the target begins with the conversation, so
//! that one can look for it without parsing the rest. The buffer holds a whole batch, so that a batch is one write and one sync.

use super::{Peer, content};
use crate::Failure;
use attestlog::{Content, Entry};
use audit_trail::{
    Action, Actor, Chain, FileReader, FileSink, MonotonicClock, Outcome, Sha256Hasher, SystemClock, Target, Verifier,
};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

type Log = Chain<Sha256Hasher, FileSink<BufWriter<File>>, MonotonicClock<SystemClock>>;

pub struct AuditTrail {
    path: PathBuf,
    log: Log,
    target: String,
}

const BUFFER: usize = 1 << 20;

fn clock() -> MonotonicClock<SystemClock> {
    MonotonicClock::new(SystemClock::new())
}

impl AuditTrail {
    pub fn create(dir: &Path) -> Result<AuditTrail, Failure> {
        let path = dir.join("log");
        let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
        let mut header = Vec::new();
        audit_trail::codec::write_file_header(&mut header);
        file.write_all(&header)?;
        let sink = FileSink::new(BufWriter::with_capacity(BUFFER, file));
        Ok(AuditTrail { path, log: Chain::new(Sha256Hasher::new(), sink, clock()), target: String::new() })
    }

    fn read(&self) -> Result<FileReader<BufReader<File>>, Failure> {
        Ok(FileReader::new(BufReader::with_capacity(BUFFER, File::open(&self.path)?)))
    }
}

fn failed(e: audit_trail::Error) -> Failure {
    format!("{e:?}").into()
}

impl Peer for AuditTrail {
    fn notes(&self) -> &'static [&'static str] {
        &[
            "no index and no questions: each one here reads the whole file with its reader",
            "no Merkle tree, so no proof for outsiders, and no signature",
            "nothing is redacted or purged; it gets what SQLite gets",
            "opening it verifies the whole chain, which is all of its verification",
        ]
    }

    fn record(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        for entry in entries {
            let Content::Call(call) = &entry.body.content else { continue };
            let patient = call.patient_ids.first().map_or("", String::as_str);
            self.target.clear();
            for part in [&call.conversation_id, " ", patient, " ", &call.timestamp.nanos().to_string(), " "] {
                self.target.push_str(part);
            }
            self.target.push_str(&content(entry));
            let outcome = match call.completion.as_ref().map(|d| d.outcome) {
                None | Some(attestlog::Outcome::Ok) => Outcome::Success,
                Some(attestlog::Outcome::Denied) => Outcome::Denied,
                Some(_) => Outcome::Error,
            };
            let (actor, action) = (Actor::new(&call.user_id), Action::new(&call.tool_name));
            self.log.append(actor, action, Target::new(&self.target), outcome).map_err(failed)?;
        }
        Ok(self.log.sink_mut().sync()?)
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        (self.log, _) = Chain::open_file(&self.path, Sha256Hasher::new(), clock()).map_err(failed)?;
        Ok(())
    }

    fn by_conversation(&mut self, id: &str) -> Result<Option<usize>, Failure> {
        let mut found = Vec::new();
        for record in self.read()? {
            let record = record.map_err(failed)?;
            if record.target.split(' ').next() == Some(id) {
                found.push(record);
            }
        }
        Ok(Some(found.len()))
    }

    fn newest_of_user(&mut self, id: &str) -> Result<Option<usize>, Failure> {
        let mut found = VecDeque::new();
        for record in self.read()? {
            let record = record.map_err(failed)?;
            if record.actor == id {
                found.push_back(record);
                if found.len() > 50 {
                    found.pop_front();
                }
            }
        }
        Ok(Some(found.len()))
    }

    fn verify(&mut self) -> Result<u64, Failure> {
        let mut verifier = Verifier::new(Sha256Hasher::new());
        for record in self.read()? {
            verifier.verify(&record.map_err(failed)?.as_record()).map_err(failed)?;
        }
        Ok(verifier.next_id().as_u64())
    }

    fn prove(&mut self, _: u64) -> Result<Option<()>, Failure> {
        Ok(None)
    }
}
