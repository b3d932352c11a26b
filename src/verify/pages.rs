//! Checks what is below the tables: the pages of the file, and that look-ups find the rows that a walk finds (V4).

use super::Verification;
use super::finding::{Finding, FindingKind as K, in_order};
use crate::merkle::Frontier;
use crate::store::{Flaw, Snapshot, check_pages, guarded};
use crate::{Hash, Result};
use std::path::Path;

impl Verification {
    /// Checks the pages of the store file at `path` without opening the store: for a file that cannot be opened, to say
    /// what is wrong with it and where. Checks no entries, and writes nothing.
    ///
    /// # Errors
    /// [`NotAStore`](crate::ErrorKind::NotAStore) if the file never was a store; [`Locked`](crate::ErrorKind::Locked)
    /// if another process has it open; [`NotFound`](crate::ErrorKind::NotFound) or [`Io`](crate::ErrorKind::Io) if it
    /// cannot be read.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # use attestlog::verify::Verification;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// let mut bytes = std::fs::read(&path)?;
    /// assert!(Verification::of_pages(&path)?.ok());
    /// [100, 228].map(|at| bytes[at] ^= 1); // in each of the two commits of the header
    /// std::fs::write(&path, bytes)?;
    /// assert!(AuditLog::open(&path).is_err());
    /// let found = Verification::of_pages(&path)?;
    /// assert!(found.pages_only && found.findings[0].detail.contains("the header"), "{:?}", found.findings);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_pages(path: impl AsRef<Path>) -> Result<Verification> {
        let mut findings = Vec::new();
        let unfinished_commit = check_pages(path.as_ref(), &mut |flaw| findings.push(finding(flaw)))?;
        in_order(&mut findings);
        Ok(Verification { unfinished_commit, pages_only: true, findings, ..Verification::of_nothing() })
    }

    /// A result for which nothing was checked.
    pub(super) fn of_nothing() -> Verification {
        Verification {
            size: 0,
            entries: 0,
            purged: 0,
            root: Frontier::empty().root(),
            head: Hash::ZERO,
            signed: false,
            signed_size: 0,
            key_pinned: false,
            anchored: false,
            anchored_size: 0,
            rewritable_from: 0,
            restored: Vec::new(),
            lost_anchors: Vec::new(),
            recorded_without_key: Vec::new(),
            not_authenticated: Vec::new(),
            unfinished_commit: false,
            pages_only: false,
            findings: Vec::new(),
            seconds: 0.0,
        }
    }

    /// Adds a finding that says why the store could not be opened, and that no entry was checked.
    pub fn and_not_opened(mut self, why: &str) -> Verification {
        self.findings.push(Finding::new(K::FileDamaged, None, format!("no entry was checked: {why}")));
        self
    }
}

/// Checks the pages of the snapshot, and looks up the rows that walks find.
pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |flaw| found.push(finding(flaw));
    let read = guarded(|| snapshot.check_pages(&mut find).map(|_| ()));
    let looked_up = guarded(|| snapshot.check_lookups(&mut find).map(|_| ()));
    let failed = [("its pages", read), ("its rows, looked up", looked_up)];
    for (what, e) in failed.into_iter().filter_map(|(what, done)| Some((what, done.err()?))) {
        found.push(Finding::new(K::FileDamaged, None, format!("{what}: {e}")));
    }
    found
}

pub(super) fn finding(flaw: Flaw) -> Finding {
    let table = match (flaw.own, flaw.table) {
        (false, table) => table.map(|table| format!("table {table}")),
        (true, Some(table)) => Some(format!("redb's own table {table}")),
        (true, None) => Some("the tree of redb's own tables".to_owned()),
    };
    let page = flaw.at.map(|at| match at {
        0 => "the header".to_owned(),
        at => format!("the page at byte {at}"),
    });
    let place = [table, page].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let place = if place.is_empty() { "the tree of tables".to_owned() } else { place };
    Finding::new(K::PageDamaged, None, format!("{place}: {}", flaw.what))
}
