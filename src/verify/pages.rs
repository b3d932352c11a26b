//! What lies below the tables: the pages of the file, and whether look-ups lead to what was walked over (V4).

use super::finding::{Finding, FindingKind as K};
use crate::store::{Flaw, Snapshot, guarded};

/// Goes through the pages of the snapshot, and looks up what walks meet.
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

fn finding(flaw: Flaw) -> Finding {
    let table = flaw.table.map(|table| format!("table {table}"));
    let page = flaw.at.map(|at| format!("the page at byte {at}"));
    let place = [table, page].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let place = if place.is_empty() { "the tree of tables".to_owned() } else { place };
    Finding::new(K::PageDamaged, None, format!("{place}: {}", flaw.what))
}
