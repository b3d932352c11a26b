//! The evidence folder: everything an auditor needs to check a log without this program.
//!
//! Invariant: the rows of `entries.jsonl`, hashed as RFC 6962 requires, have the root that `checkpoint` states, and the
//! entries missing from them are exactly those that `purges.jsonl` lists. Rows are written as they are read; a folder
//! that could not be finished is removed.

use crate::files::NewFolder;
use crate::json::{Json, Object};
use crate::merkle::Nodes;
use crate::note::SignedCheckpoint;
use crate::retention::{PurgeRecord, SeqSet};
use crate::store::OpenStore;
use crate::store::{Snapshot, guarded};
use crate::verify::{Verification, VerifyOptions};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::verifiers;
use std::io::Write;
use std::path::Path;

/// The read transaction is renewed after this many entries: an open one prevents pages from being reused.
const RENEW: u64 = 65_536;

const README: &str = include_str!("evidence/README.txt");
const CHECK: &str = include_str!("evidence/check.py");
const INDEX: &str = include_str!("evidence/index.html");

impl OpenStore {
    /// Writes all of the log into a new folder that can be checked with standard tools: every entry's line, the hashes
    /// that stand for what was purged, a checkpoint of now, the public keys, what each purge took, and what a verification
    /// finds. Only its owner may read it. Signs a checkpoint; the verification with `options` takes as long as any.
    pub(crate) fn write_evidence(&self, dir: impl AsRef<Path>, options: &VerifyOptions) -> Result<Verification> {
        self.evidence_under(&self.checkpoint()?, dir.as_ref(), options)
    }

    /// Writes the evidence for the entries that this checkpoint covers.
    pub(super) fn evidence_under(
        &self,
        checkpoint: &SignedCheckpoint,
        dir: &Path,
        options: &VerifyOptions,
    ) -> Result<Verification> {
        let mut folder = NewFolder::new(dir)?;
        let verification = self.write_into(&mut folder, checkpoint, options).map_err(|e| e.in_file(dir))?;
        folder.put_in_place()?;
        Ok(verification)
    }

    fn write_into(
        &self,
        folder: &mut NewFolder,
        checkpoint: &SignedCheckpoint,
        options: &VerifyOptions,
    ) -> Result<Verification> {
        let size = checkpoint.checkpoint().size();
        if self.engine().chain_state().purges.iter().any(|(seq, _)| *seq >= size) {
            let message = format!(
                "entries were purged after the checkpoint of {size} entries, which cannot show that: write the evidence of a newer checkpoint"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let purges = self.purges_before(size)?;
        let gone = purges.iter().fold(SeqSet::new(), |gone, (_, _, set)| gone.union(set));
        folder.write("entries.jsonl", |out| self.write_rows(out, size, &gone))?;
        folder.write("purges.jsonl", |out| {
            for (seq, record, set) in purges.iter().filter(|(_, record, _)| record.count > 0) {
                let row = [("seq", Json::from(*seq)), ("seqs", set.to_json()), ("purge", record.to_json())];
                writeln!(out, "{}", Json::from(Object::from_iter(row)).to_canonical())?;
            }
            Ok(())
        })?;
        folder.write("checkpoint", |out| Ok(write!(out, "{checkpoint}")?))?;
        let missing = || Error::new(ErrorKind::Key, "the store was made without keys");
        let key = self.public_key().ok_or_else(missing)?;
        folder.write("public-key", |out| Ok(writeln!(out, "{key}")?))?;
        let succession = self.succession().ok_or_else(missing)?;
        folder.write("succession.json", |out| Ok(writeln!(out, "{}", succession.to_json().to_canonical())?))?;
        let verification = self.verify(options)?;
        folder.write("report.json", |out| Ok(writeln!(out, "{}", verification.to_json().to_canonical())?))?;
        let index = index(checkpoint, &gone, &verification);
        let texts = [
            ("README.txt", README),
            ("check.py", CHECK),
            ("index.html", &index),
            ("verify.html", verifiers::PAGE),
            ("verify.py", verifiers::SCRIPT),
        ];
        for (name, text) in texts {
            folder.write(name, |out| Ok(out.write_all(text.as_bytes())?))?;
        }
        Ok(verification)
    }

    /// The purges of the first `size` entries, each with the record in its entry and the exact set that it took.
    fn purges_before(&self, size: u64) -> Result<Vec<(u64, PurgeRecord, SeqSet)>> {
        guarded(|| {
            let snapshot = self.snapshot()?;
            let chain_state = self.engine().chain_state();
            let purges = chain_state.purges.iter().filter(|(seq, _)| *seq < size).map(|(seq, record)| {
                let lost =
                    || Error::damaged(format!("what the purge of entry {seq} took is not known; `verify` says more"));
                Ok((*seq, record.clone(), snapshot.purged_by(*seq)?.ok_or_else(lost)?))
            });
            purges.collect()
        })
    }

    fn write_rows(&self, out: &mut dyn Write, size: u64, gone: &SeqSet) -> Result<()> {
        guarded(|| {
            let mut at = 0;
            let mut missing = None;
            while at < size {
                let snapshot = self.snapshot()?;
                // A gap that began earlier is written from here.
                snapshot.check_same_moment(size, 0..=u64::MAX)?;
                let end = size.min(at + RENEW);
                for seq in at..end {
                    let Some(found) = snapshot.checked(seq)? else {
                        missing.get_or_insert(seq);
                        continue;
                    };
                    if let Some(first) = missing.take() {
                        write_gap(out, &snapshot, first, seq, gone)?;
                    }
                    out.write_all(found.line().as_bytes())?;
                    out.write_all(b"\n")?;
                }
                at = end;
            }
            match missing {
                Some(first) => write_gap(out, &self.snapshot()?, first, size, gone),
                None => Ok(()),
            }
        })
    }
}

/// Writes the hashes that stand for the entries from `first` up to `end`, each for the largest subtree whose hash was
/// kept.
fn write_gap(out: &mut dyn Write, snapshot: &Snapshot, first: u64, end: u64, gone: &SeqSet) -> Result<()> {
    let mut at = first;
    while at < end {
        let mut level = (end - at).ilog2().min(at.trailing_zeros()) as u8;
        let hash = loop {
            match snapshot.node(level, at >> level) {
                Ok(hash) => break hash,
                Err(e) if e.kind() == ErrorKind::NoSuchEntry && level > 0 => level -= 1,
                Err(e) => return Err(e),
            }
        };
        let count = 1 << level;
        if !gone.contains_range(at, at + (count - 1)) {
            let message =
                format!("an entry from {at} to {} is neither present nor purged; `verify` says more", at + count - 1);
            return Err(Error::damaged(message));
        }
        let purged =
            Object::from_iter([("first", Json::from(at)), ("count", count.into()), ("hash", hash.to_string().into())]);
        writeln!(out, "{}", Json::from(Object::from_iter([("purged", purged)])).to_canonical())?;
        at += count;
    }
    Ok(())
}

/// The page with which a reader begins.
fn index(checkpoint: &SignedCheckpoint, gone: &SeqSet, verification: &Verification) -> String {
    let checkpoint = checkpoint.checkpoint();
    let findings = match verification.findings.len() {
        0 => "found nothing wrong".to_owned(),
        found => format!("FOUND SOMETHING WRONG ({found}): see report.json"),
    };
    // A name of a log has no white space and no control characters, but may have others that mean something in HTML.
    let escaped =
        |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let values = [
        ("SIZE", checkpoint.size().to_string()),
        ("PURGED", gone.len().to_string()),
        ("ROOT", checkpoint.root().to_string()),
        ("FINDINGS", findings),
        // The last, so that nothing in it is replaced.
        ("ORIGIN", escaped(checkpoint.origin())),
    ];
    values.iter().fold(INDEX.to_owned(), |page, (name, value)| page.replacen(name, value, 1))
}
