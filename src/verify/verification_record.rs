//! What verifications found last, for the people who look after the log: `STORE.verified`, a file beside the store.
//!
//! It is not in the store, because a verifier must not write to what is being verified: the file may be evidence,
//! damaged, or not theirs to write. And it is no evidence itself: anybody who can write beside the store can write this
//! file. What a scheduled verification finds also becomes an alert in the chain.
//!
//! Invariant E1: a verification that found something is kept until somebody has settled it, in the chain, with a name
//! and a disposition. Later ones that find nothing (of a restored copy, say) are kept beside it and do not replace it, and what later
//! ones find is added to it. A file that
//! cannot be read may hold one, so it never counts as a file without.

use super::{Finding, Verification, settled};
use crate::files::{self, Writes, beside};
use crate::json::{Json, Object};
use crate::store::OpenStore;
use crate::{Error, Result, Timestamp};
use attestlog_proof::json::form::Form;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A summary of one verification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerificationRecord {
    /// When it ended.
    pub at: Timestamp,
    /// How many entries the log had.
    pub size: u64,
    /// How many things were wrong, without those that were settled before.
    pub findings: u64,
    /// How many things were wrong that had been settled before.
    pub settled: u64,
    /// The kinds of its findings that were not settled, sorted.
    pub kinds: Vec<String>,
    /// What names each of those, as far as there is room: its kind and the beginning of a digest of what it says; of damaged pages
    /// only the kind, since their places change. They tell a settlement what it settles.
    pub marks: Vec<String>,
    /// How many entries something outside the log confirmed.
    pub anchored_size: u64,
}

/// Different texts, sorted; as many as there is room for.
pub(crate) fn one_of_each(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut different = BTreeSet::new();
    for text in texts {
        if different.len() < settled::MOST {
            different.insert(text);
        }
    }
    different.into_iter().collect()
}

impl VerificationRecord {
    /// Whether nothing was wrong but what was settled before.
    pub fn ok(&self) -> bool {
        self.findings == 0
    }

    /// The same with what was noted before, and was not settled: it may only not have been looked for this time.
    fn and(self, before: VerificationRecord) -> VerificationRecord {
        let known: BTreeSet<&String> = self.marks.iter().collect();
        let more = before.marks.iter().filter(|mark| !known.contains(mark)).count() as u64;
        VerificationRecord {
            findings: self.findings.saturating_add(more).max(before.findings),
            kinds: one_of_each(before.kinds.into_iter().chain(self.kinds)),
            marks: one_of_each(before.marks.into_iter().chain(self.marks)),
            ..self
        }
    }

    /// What a verification said, with these of its findings.
    fn of(verification: &Verification, unsettled: &[&Finding], now: Timestamp) -> VerificationRecord {
        let kinds: BTreeSet<&str> = unsettled.iter().map(|finding| finding.kind.as_str()).collect();
        VerificationRecord {
            at: now,
            size: verification.size,
            findings: unsettled.len() as u64,
            settled: (verification.findings.len() - unsettled.len()) as u64,
            kinds: kinds.into_iter().map(str::to_owned).collect(),
            marks: one_of_each(unsettled.iter().map(|finding| finding.mark())),
            anchored_size: if verification.anchored { verification.anchored_size } else { 0 },
        }
    }
}

attestlog_proof::json_form!(members VerificationRecord { at, size, findings, settled, kinds, marks, anchored_size } repeats { "ok" => |it| it.ok() });

/// What verifications found last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verifications {
    /// The last verification.
    pub last: Option<VerificationRecord>,
    /// The last one that found something, until that is settled.
    pub found: Option<VerificationRecord>,
    /// Why the file cannot be read, if it cannot: it may hold either.
    pub unread: Option<String>,
}

attestlog_proof::json_form!(members Verifications { last, found, unread });

/// The limit for the file, which normally has a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

impl OpenStore {
    /// What verifications said last, as far as they were noted. Nothing of a store that is no file.
    pub(crate) fn verifications(&self) -> Result<Verifications> {
        self.noted_path().map_or_else(|| Ok(Verifications::default()), |path| Verifications::read(&path))
    }

    /// Notes what a verification said in `STORE.verified`, for [`AuditLog::health`], and says where that is; a store that is no
    /// file has no such place. Nothing else calls this but the alert engine for the verifications that it makes: verifying by
    /// itself writes nothing. The program does so where it is asked to remember, and for whatever it finds wrong. Also for a
    /// store that was opened for reading only.
    pub(crate) fn note_verification(&self, verification: &Verification) -> Result<Option<PathBuf>> {
        let Some(store) = self.engine().path() else { return Ok(None) };
        verification.note_beside(store, self.engine().config.clock.now()).map(Some)
    }

    /// Notes what a settlement leaves.
    pub(crate) fn note_left(&self, verification: &Verification, left: &[Finding]) -> Result<()> {
        let Some(path) = self.noted_path() else { return Ok(()) };
        let left: Vec<&Finding> = left.iter().collect();
        let left = VerificationRecord::of(verification, &left, self.engine().config.clock.now());
        let found = (!left.ok()).then(|| left.clone());
        Verifications { last: Some(left), found, unread: None }.write(&path)
    }

    fn noted_path(&self) -> Option<PathBuf> {
        self.engine().path().map(|store| beside(store, VERIFIED))
    }
}

/// The extension of the file in which verifications of a store are recorded.
const VERIFIED: &str = "verified";

impl Verification {
    /// Like [`Verifications::note`](crate::groups::Verifications::note), for a store that could not be opened. Returns the path
    /// of the file.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the file beside the store is a link, not a regular file or too
    /// large, or if nothing was found and it cannot be read, since it may hold a finding; otherwise the error of the file system, such as [`DiskFull`](crate::ErrorKind::DiskFull) or
    /// [`Io`](crate::ErrorKind::Io).
    pub fn note_beside(&self, store: &Path, now: Timestamp) -> Result<PathBuf> {
        let noted = VerificationRecord::of(self, &self.unsettled().collect::<Vec<_>>(), now);
        let path = beside(&files::resolve(store), VERIFIED);
        // A finding replaces what cannot be read: nothing is hidden by that.
        let found = match (Verifications::read(&path)?, noted.ok()) {
            (Verifications { unread: Some(unread), .. }, true) => return Err(Error::invalid(unread)),
            (before, true) => before.found,
            (before, false) => Some(match before.found {
                Some(before) => noted.clone().and(before),
                None => noted.clone(),
            }),
        };
        Verifications { last: Some(noted), found, unread: None }.write(&path)?;
        Ok(path)
    }
}

impl Verifications {
    fn read(path: &Path) -> Result<Verifications> {
        let Some(bytes) = files::read_small(path, MAX_BYTES).map_err(|e| e.in_file(path))? else {
            return Ok(Verifications::default());
        };
        let part = |noted: &Json, key: &str| Option::<VerificationRecord>::read(noted.get(key)?).ok();
        let noted = Json::parse(&bytes).ok().map(|parsed| parsed.value);
        Ok(match noted.and_then(|noted| Some((part(&noted, "last")?, part(&noted, "found")?))) {
            Some((last, found)) => Verifications { last, found, unread: None },
            None => {
                let message = format!(
                    "{}: it was cut off or edited, and may have held a finding that nobody has settled: run `attestlog verify`, and \
                     remove the file once it is known what was found",
                    path.display()
                );
                Verifications { unread: Some(message), ..Verifications::default() }
            }
        })
    }

    fn write(&self, path: &Path) -> Result<()> {
        let members = [("found", self.found.form()), ("last", self.last.form())];
        let text = Json::from(Object::from_iter(members)).to_canonical();
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".part-{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let mut file = files::create(&temporary, Writes::Companion)?;
        let written = (|| {
            writeln!(file, "{}", text.as_str())?;
            file.sync_all()?;
            files::put_in_place(&temporary, path, Writes::Companion)?;
            Ok(files::sync_parent(path)?)
        })();
        written.inspect_err(|_: &Error| drop(std::fs::remove_file(&temporary)))
    }
}
