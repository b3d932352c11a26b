//! What verifications said last, for whoever looks after the log: `STORE.verified`, a file beside the store.
//!
//! Not in the store, because who verifies must not write to what is judged: the file may be evidence, damaged, or not
//! theirs to write. And no evidence itself: whoever can write beside the store can write this. What a scheduled
//! verification finds is an alert in the chain besides.
//!
//! Invariant E1: a verification that found something stays until somebody has settled it, in the chain, with name and
//! disposition. Later ones that find nothing (of a restored copy, say) stand beside it and do not take its place.

use super::Verification;
use crate::json::{Json, Object};
use crate::rules::Severity;
use crate::store::Receipt;
use crate::{AuditLog, Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::Kind;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One verification, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerificationRecord {
    /// When it ended.
    pub at: Timestamp,
    /// How many entries the log had.
    pub size: u64,
    /// How many things were wrong.
    pub findings: u64,
    /// Of which kinds, sorted.
    pub kinds: Vec<String>,
    /// How many entries something outside the log confirmed.
    pub anchored_size: u64,
}

impl VerificationRecord {
    /// Whether nothing was wrong.
    pub fn ok(&self) -> bool {
        self.findings == 0
    }

    pub(crate) fn to_json(&self) -> Json {
        Object::from_iter([
            ("at", Json::from(self.at.to_string())),
            ("ok", self.ok().into()),
            ("size", self.size.into()),
            ("findings", self.findings.into()),
            ("kinds", self.kinds.clone().into()),
            ("anchored_size", self.anchored_size.into()),
        ])
        .into()
    }

    fn from_json(value: &Json) -> Option<VerificationRecord> {
        let number = |key: &str| value.get(key).and_then(Json::as_u64);
        let kinds = value.get("kinds")?.as_array()?.iter().filter_map(|kind| kind.as_str().map(str::to_owned));
        Some(VerificationRecord {
            at: value.get("at")?.as_str()?.parse().ok()?,
            size: number("size")?,
            findings: number("findings")?,
            kinds: kinds.collect(),
            anchored_size: number("anchored_size")?,
        })
    }
}

/// What verifications said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verifications {
    /// The last one.
    pub last: Option<VerificationRecord>,
    /// The last one that found something, until that is settled.
    pub found: Option<VerificationRecord>,
}

/// The file is a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

impl AuditLog {
    /// What verifications said last, as far as they were noted. Nothing of a store that is no file.
    ///
    /// # Errors
    /// What the file system says; a file that cannot be understood counts as none.
    pub fn verifications(&self) -> Result<Verifications> {
        self.noted_path().map_or_else(|| Ok(Verifications::default()), |path| Verifications::read(&path))
    }

    /// Notes what a verification said in `STORE.verified`, for [`AuditLog::health`], and says where that is; a store that is no
    /// file has no such place. Nothing else calls this but the alert engine for the verifications that it makes: verifying by
    /// itself writes nothing. The program does so where it is asked to remember, and for whatever it finds wrong. Also for a
    /// store that was opened for reading only.
    ///
    /// # Errors
    /// What the file system says.
    ///
    /// ```
    /// # use attestlog::{AuditLog, VerifyOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = AuditLog::create(dir.path().join("audit.log"))?;
    /// log.note_verification(&log.verify(&VerifyOptions::new())?)?;
    /// assert!(log.verifications()?.last.unwrap().ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn note_verification(&self, verification: &Verification) -> Result<Option<PathBuf>> {
        let Some(store) = self.engine().path() else { return Ok(None) };
        verification.note_beside(store, self.engine().config.clock.now()).map(Some)
    }

    /// Says that somebody has looked into what a verification found. Both go into the chain: the finding as an alert of the
    /// rule `tampering` where it is not one already, and what it came to as its acknowledgement.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry) where there is nothing to settle; as [`AuditLog::ack_alert`] and
    /// [`AuditLog::record`].
    pub fn settle_verification(&self, actor: &str, disposition: &str) -> Result<Receipt> {
        let noted = self.verifications()?;
        let Some(found) = noted.found else {
            return Err(Error::new(ErrorKind::NoSuchEntry, "no verification has found anything that is not settled"));
        };
        let known = self.alerts()?.into_iter().map(|state| state.alert);
        let mut known = known.filter(|alert| alert.detail.get("findings").is_some() && alert.crossing == found.size);
        let alert = match known.next_back() {
            Some(alert) => alert.seq,
            None => {
                crate::text::check_text("actor", actor)?;
                crate::text::check_text("disposition", disposition)?;
                let detail = Object::from_iter([
                    ("id", Json::from(format!("tampering:{}", found.size))),
                    ("rule", "tampering".into()),
                    ("severity", Severity::Critical.as_str().into()),
                    ("crossing", found.size.into()),
                    ("count", found.findings.into()),
                    ("findings", found.kinds.clone().into()),
                    ("verified_at", found.at.to_string().into()),
                ]);
                self.own_kept(Kind::Alert, |_, _, _| Ok((detail, None)))?.seq
            }
        };
        let receipt = self.ack_alert(alert, actor, disposition)?;
        if let Some(path) = self.noted_path() {
            Verifications { last: noted.last, found: None }.write(&path)?;
        }
        Ok(receipt)
    }

    fn noted_path(&self) -> Option<PathBuf> {
        self.engine().path().map(beside)
    }
}

/// Where verifications of a store are noted.
fn beside(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".verified");
    path.into()
}

impl Verification {
    /// As [`AuditLog::note_verification`], of a store that could not be opened. Says where it is noted.
    ///
    /// # Errors
    /// What the file system says.
    pub fn note_beside(&self, store: &Path, now: Timestamp) -> Result<PathBuf> {
        let kinds: BTreeSet<&str> = self.findings.iter().map(|finding| finding.kind.as_str()).collect();
        let noted = VerificationRecord {
            at: now,
            size: self.size,
            findings: self.findings.len() as u64,
            kinds: kinds.into_iter().map(str::to_owned).collect(),
            anchored_size: if self.anchored { self.anchored_size } else { 0 },
        };
        let path = beside(store);
        let before = Verifications::read(&path)?;
        let found = if noted.ok() { before.found } else { Some(noted.clone()) };
        Verifications { last: Some(noted), found }.write(&path)?;
        Ok(path)
    }
}

impl Verifications {
    fn read(path: &Path) -> Result<Verifications> {
        let Some(bytes) = crate::files::read_small(path, MAX_BYTES).map_err(|e| e.in_file(path))? else {
            return Ok(Verifications::default());
        };
        let noted = Json::parse(&bytes).map(|parsed| parsed.value).unwrap_or(Json::Null);
        let part = |key: &str| noted.get(key).and_then(VerificationRecord::from_json);
        Ok(Verifications { last: part("last"), found: part("found") })
    }

    fn write(&self, path: &Path) -> Result<()> {
        let part = |noted: &Option<VerificationRecord>| noted.as_ref().map(VerificationRecord::to_json);
        let text = Object::from_iter([("last", Json::from(part(&self.last))), ("found", part(&self.found).into())]);
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".part-{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&temporary).and_then(|mut file| {
            writeln!(file, "{}", Json::from(text).to_canonical().as_str())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            crate::files::sync_parent(path)
        });
        if written.is_err() {
            // What could be removed was made just now.
            let _ = std::fs::remove_file(&temporary);
        }
        Ok(written?)
    }
}
