//! The evidence folder: everything an auditor needs to check a log without this program.
//!
//! Invariant: the rows of `entries.jsonl`, hashed as RFC 6962 requires, have the root that `checkpoint` states, and the
//! entries missing from them are exactly those that `purges.jsonl` lists. Rows are written as they are read; a folder
//! that could not be finished is removed.

use crate::files::Writes;
use crate::json::{Json, Object};
use crate::merkle::Nodes;
use crate::note::SignedCheckpoint;
use crate::retention::{PurgeRecord, SeqSet};
use crate::store::OpenStore;
use crate::store::{Snapshot, guarded};
use crate::verify::{Verification, VerifyOptions};
use crate::{Error, ErrorKind, Result};
use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The read transaction is renewed after this many entries: an open one prevents pages from being reused.
const RENEW: u64 = 65_536;

/// The files in the folder.
const FILES: [&str; 7] =
    ["entries.jsonl", "checkpoint", "public-key", "purges.jsonl", "succession.json", "report.json", "README.txt"];

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
        let folder = Folder::new(dir)?;
        let verification = self.write_into(&folder, checkpoint, options).map_err(|e| e.in_file(dir))?;
        folder.put_in_place()?;
        Ok(verification)
    }

    fn write_into(
        &self,
        folder: &Folder,
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
        folder.write("README.txt", |out| Ok(out.write_all(README.as_bytes())?))?;
        folder.sync()?;
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

/// A folder that is being written, under another name until it is finished. It is removed if it is dropped before.
struct Folder {
    path: PathBuf,
    dest: PathBuf,
    finished: bool,
}

impl Folder {
    fn new(dest: &Path) -> Result<Folder> {
        crate::files::check(dest, Writes::Output)?;
        free(dest)?;
        let path = crate::files::beside(dest, &format!("part-{}", std::process::id()));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|e| Error::from(e).in_file(&path))?;
        Ok(Folder { path, dest: dest.to_owned(), finished: false })
    }

    fn put_in_place(mut self) -> Result<()> {
        free(&self.dest)?;
        crate::files::put_in_place(&self.path, &self.dest, Writes::Output)?;
        crate::files::sync_parent(&self.dest).map_err(|e| Error::from(e).in_file(&self.dest))?;
        self.finished = true;
        Ok(())
    }

    fn write(&self, name: &str, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, crate::files::create(&self.path.join(name), Writes::Output)?);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        if cfg!(unix) {
            File::open(&self.path)?.sync_all()?;
        }
        Ok(())
    }
}

/// Refuses a place where anything is.
fn free(dest: &Path) -> Result<()> {
    match std::fs::symlink_metadata(dest) {
        Ok(_) => {
            let message = "something exists there already; evidence goes into a new folder";
            Err(Error::new(ErrorKind::AlreadyExists, message).in_file(dest))
        }
        Err(_) => Ok(()),
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.finished {
            for name in FILES {
                let _ = std::fs::remove_file(self.path.join(name));
            }
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

const README: &str = "\
EVIDENCE OF AN AUDIT LOG

entries.jsonl    the log, one row per line, in order of seq from 0. A row is an entry's line, byte for byte what was
                 hashed, or {\"purged\":{\"first\":N,\"count\":2^k,\"hash\":HEX}}: the Merkle node that stands for the
                 entries N to N+2^k-1, which were purged after their retention had ended
checkpoint       a signed note (C2SP signed-note and tlog-checkpoint): the log's name, its size, the root of its Merkle
                 tree (RFC 6962, SHA-256) in base64, an empty line, and the signatures of the log key and the epoch key
public-key       the log key (NAME+ID+BASE64). COMPARE IT WITH ONE THAT YOU HAVE FROM ELSEWHERE: whoever rewrites a log
                 and signs it anew also writes this file anew
purges.jsonl     for each purge the seq of its entry, the exact set of seqs that it took, and what its entry says
succession.json  the epoch keys, each handed over to by a signature of the one before it (where the log was restored from a copy of
                 before a hand-over, the restore entry has what it lacks; that epoch's key signs after that entry)
report.json      what the program's own verification found when this folder was written (\"findings\"), how far
                 signatures reach (\"signed_size\") and whether anything kept elsewhere was compared (\"anchored\")

HOW TO CHECK IT WITH OTHER TOOLS

1. One entry. Its hash is SHA-256 of a zero byte and the line, without the newline. For row 1 (the entry with seq 0):
       (printf '\\000'; sed -n 1p entries.jsonl | tr -d '\\n') | sha256sum
   The next entry names this hash as its \"prev\". A row that is missing or was edited breaks that link.

2. The whole log. Hash every row, put the hashes together in pairs as RFC 6962 section 2.1 says (SHA-256 of a byte 1,
   the left hash, the right hash; a purged row is a node by itself), and compare with the checkpoint's third line:
       import base64, hashlib, json
       H = lambda *parts: hashlib.sha256(b''.join(parts)).digest()
       parts = []
       for row in open('entries.jsonl', 'rb'):
           gone = json.loads(row).get('purged')
           count, node = (gone['count'], bytes.fromhex(gone['hash'])) if gone else (1, H(b'\\0', row[:-1]))
           while parts and parts[-1][0] == count:
               count, node = 2 * count, H(b'\\1', parts.pop()[1], node)
           parts.append((count, node))
       while len(parts) > 1:
           (_, left), (_, right) = parts[-2:]
           parts[-2:] = [(0, H(b'\\1', left, right))]
       print(base64.b64encode(parts[0][1]).decode() == open('checkpoint').read().split('\\n')[2])

3. The signature. A signature line ends in the base64 of 4 bytes of key id and 64 bytes of Ed25519 over the text before
   the empty line, its last newline included. The public key's base64 is a byte 1 and the 32 bytes of the key:
       from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
       name, _, key = open('public-key').read().strip().split('+', 2)
       text, signatures = open('checkpoint').read().rsplit('\\n\\n', 1)
       line = [s for s in signatures.split('\\n') if s.split(' ')[1:2] == [name]][0]
       Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(
           base64.b64decode(line.split(' ')[2])[4:], (text + '\\n').encode())
   It raises InvalidSignature where the signature does not hold.

4. What was purged. Each line of purges.jsonl names the entry of a purge; that entry's \"seqs\" is the SHA-256 of the
   set's ranges with a newline after each:  printf '0-4\\n7-7\\n' | sha256sum
   All sets together are exactly the seqs for which entries.jsonl has no line.

WHAT IT DOES NOT SHOW

That the key is the right one: compare it. Whose a pseudonym (\"ps_...\") is: only the holder of the log's key file can tell, so
\"nothing about P-1\" cannot be read from entries with pseudonyms. That this is the newest state of the log: compare the checkpoint with later
ones, or with those that a witness or a time-stamping authority holds. That a call that was never recorded did not happen.
";
