//! The fuzz target `pages`: reads arbitrary bytes as a file, and edits a small store and then recomputes every checksum, as an
//! attacker who knows redb's format can. Compiled only for the target and for tests.

use crate::host::{ManualClock, SeededRandom};
use crate::query::Statistics;
use crate::store::OpenStore;
use crate::store::file::all_tables;
use crate::store::file::pages::header::{
    CHECKSUM, COMMIT_BYTES, COMMITS, Commit, FLAGS, HEADER_BYTES, Layout, OWN_ROOT, PRIMARY, USER_ROOT, checksum,
};
use crate::store::file::pages::page::{Page, Pointer, Root, Widths, little};
use crate::store::file::pages::{PAGE, check_file};
use crate::store::file::panic_guard::guarded;
use crate::store::file::storage::Memory;
use crate::verify::VerifyOptions;
use crate::{Facet, Options, Query, Result, ToolCall};
use attestlog_proof::entry::Phase;
use redb::StorageBackend;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// The offset of a table's root within its definition.
const ROOT: usize = 10;
/// The length of a page number in bytes; the page's checksum follows it.
const NUMBER: usize = 8;

/// A page of a tree, and the offset of its checksum in the page that points to it.
#[derive(Debug)]
struct ValuePlace {
    range: Range<usize>,
    used: usize,
    sum_at: usize,
    widths: Widths,
}

/// A small store.
#[derive(Debug)]
struct Subject {
    bytes: Vec<u8>,
    /// Pages after the pages that they point to, so that checksums can be recomputed in order.
    places: Vec<ValuePlace>,
    answers: String,
}

thread_local! {
    static SUBJECT: Option<Subject> = Subject::new().ok();
}

/// Whatever the bytes, reading them as a file and making the edits in a store neither panics nor runs forever; in pages without a
/// flaw every row is where redb looks for it [V4]; and a store that verifies as clean answers as before and can be recorded into.
pub fn pages(data: &[u8]) {
    read(data);
    SUBJECT.with(|subject| {
        assert!(subject.is_some(), "the store could be made");
        let Some(subject) = subject else { return };
        let mut front = subject.bytes.clone();
        let end = data.len().min(front.len());
        front[..end].copy_from_slice(&data[..end]);
        read(&front);
        subject.edited(data);
    });
}

fn memory(bytes: &[u8]) -> Memory {
    let memory = Memory::default();
    let made = memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, bytes));
    assert!(made.is_ok(), "{made:?}");
    memory
}

/// Whether the pages of these bytes have no flaw.
fn read(bytes: &[u8]) -> bool {
    let (mut flaws, most) = (0u64, bytes.len() as u64 / PAGE);
    let Ok(Some(_)) = check_file(&memory(bytes), &all_tables::shapes(), &mut |_| flaws += 1) else { return false };
    // Flaws are reported per page, per row of the trees of tables and of lists of pages, and per pointer that leads nowhere.
    assert!(flaws <= 1024 * (most + 1), "{flaws} flaws in {most} pages");
    flaws == 0
}

fn open(bytes: &[u8], read_only: bool) -> Result<(OpenStore, Memory)> {
    let (memory, clock) = (memory(bytes), ManualClock::at("2025-03-01T09:00:00Z".parse()?));
    let engine = memory.clone();
    let options = Options::new().clock(Arc::new(clock)).random(Arc::new(SeededRandom::new(3)));
    let options = options.background(false).without_keys();
    let storage = move || Box::new(engine.clone()) as Box<dyn StorageBackend>;
    let log = match (bytes.is_empty(), read_only) {
        (true, _) => options.create_store_on(storage),
        (false, true) => options.read_only().open_store_on(storage),
        (false, false) => options.open_store_on(storage),
    };
    Ok((log?, memory))
}

fn answers(log: &OpenStore) -> Result<String> {
    let mut queries = vec![Query::new(), Query::new().newest_first(), Query::new().unfinished()];
    queries.extend((0..100).step_by(7).map(|i| Query::new().conversation(format!("conv_{i}"))));
    queries.extend((0..3).map(|i| Query::new().user(format!("usr_{i}"))));
    queries.extend((0..4).map(|i| Query::new().facet(Facet::Patient, format!("P-{i}")).newest_first()));
    let mut out = String::new();
    for query in &queries {
        for entry in log.query(query)? {
            let _ = write!(out, "{} ", entry?.hash());
        }
        let _ = writeln!(out, "{}", log.count(query)?);
    }
    let _ = writeln!(out, "{:?} {}", log.statistics(&Statistics::new())?, log.root_at(log.size())?);
    Ok(out)
}

/// Records into a store, closes it, and returns whether it then verifies as clean [R58].
fn recorded(bytes: &[u8]) -> Result<bool> {
    let (log, memory) = open(bytes, false)?;
    log.record_batch((0..40).map(|i| ToolCall::new("conv_7", "usr_1", "lookup").turn(i)))?;
    log.flush_index()?;
    log.close()?;
    let mut after = vec![0; memory.len()? as usize];
    memory.read(0, &mut after)?;
    Ok(open(&after, true)?.0.verify(&VerifyOptions::new().threads(1))?.ok())
}

impl Subject {
    fn new() -> Result<Subject> {
        let (log, memory) = open(&[], false)?;
        for part in 0..3u64 {
            log.record_batch((part * 60..part * 60 + 60).map(|i| {
                let call = ToolCall::new(format!("conv_{}", i / 2), format!("usr_{}", i % 3), "lookup");
                call.patient(format!("P-{}", i % 4)).result(i % 7 != 0)
            }))?;
            if part < 2 {
                log.flush_index()?;
            }
        }
        log.record_phases([(ToolCall::new("conv_7", "usr_1", "lookup"), Phase::Begun)], false, None)?;
        log.close()?;
        let mut bytes = vec![0; memory.len()? as usize];
        memory.read(0, &mut bytes)?;
        let mut subject = Subject { places: Vec::new(), answers: answers(&open(&bytes, true)?.0)?, bytes };
        subject.find()?;
        let mut sealed = subject.bytes.clone();
        subject.seal(&mut sealed);
        assert!(sealed == subject.bytes && read(&sealed), "checksums are made as redb makes them");
        Ok(subject)
    }

    /// Finds the pages of every tree.
    fn find(&mut self) -> Result<()> {
        let commit = Commit::read(&memory(&self.bytes))?;
        for (root, at) in [(commit.root, USER_ROOT), (commit.own, OWN_ROOT)] {
            if let Some(root) = root {
                self.find_tables(&root, commit_at(&self.bytes) + at, commit.layout);
            }
        }
        Ok(())
    }

    /// Finds the pages of a tree of tables, given its root and the offset of that root, and the pages of each of these tables.
    fn find_tables(&mut self, root: &Root, at: usize, layout: Layout) {
        let (mut definitions, mut tables) = (Vec::new(), Vec::new());
        let found = Found { bytes: &self.bytes, layout, widths: Widths { key: None, value: None } };
        found.below(root.pointer, at + NUMBER, &mut tables, &mut |at| definitions.push(at));
        for definition in definitions {
            let said = &self.bytes[definition.clone()];
            // The roots are followed by the fixed widths of keys and of values, if they have any.
            let width = |at: usize| (said[at] != 0).then(|| little(said, at + 1, 4) as usize);
            let widths = Widths { key: width(ROOT + Root::BYTES), value: width(ROOT + Root::BYTES + 5) };
            if let Some(root) = (said[ROOT - 1] != 0).then(|| Root::read(said, ROOT)).flatten() {
                let found = Found { bytes: &self.bytes, layout, widths };
                found.below(root.pointer, definition.start + ROOT + NUMBER, &mut self.places, &mut |_| {});
            }
        }
        self.places.append(&mut tables);
    }

    /// Recomputes every checksum, up to the header's.
    fn seal(&self, bytes: &mut [u8]) {
        for place in &self.places {
            let page = &bytes[place.range.clone()];
            let used = Page::apart(page, place.widths).map_or(place.used, |(_, used)| used.len());
            let sum = XxHash3_128::oneshot(&page[..used]).to_le_bytes();
            bytes[place.sum_at..][..sum.len()].copy_from_slice(&sum);
        }
        let at = commit_at(bytes);
        let mut commit = [0; COMMIT_BYTES];
        commit.copy_from_slice(&bytes[at..at + COMMIT_BYTES]);
        bytes[at + CHECKSUM..at + COMMIT_BYTES].copy_from_slice(&checksum(&commit));
    }

    /// Every six bytes are one edit: the page (or the header), the offset, the kind of edit, and its operands.
    fn edited(&self, edits: &[u8]) {
        let mut bytes = self.bytes.clone();
        for edit in edits.as_chunks::<6>().0.iter().take(8) {
            let [page, high, low, how, with, and] = *edit;
            let range = |page: u8| match self.places.get(usize::from(page) % (self.places.len() + 1)) {
                Some(place) => place.range.start..place.range.start + place.used,
                None => 0..HEADER_BYTES,
            };
            let (to, from) = (range(page), range(with));
            let at = to.start + usize::from(u16::from_be_bytes([high, low])) % (to.len() - NUMBER);
            let aligned = to.start + (at - to.start) / NUMBER * NUMBER;
            let source = from.start + usize::from(and) * NUMBER % (from.len() - NUMBER);
            match how % 6 {
                0 => bytes[at] ^= 1 << (with % 8),
                1 => bytes[at] = with,
                2 => bytes[at..at + 4].copy_from_slice(&u32::from_be_bytes([0, 0, with, and]).to_le_bytes()),
                // Copies a field of one page to another: numbers of children, keys, counts.
                3 => bytes.copy_within(source..source + NUMBER, aligned),
                4 => bytes.copy_within(from.start..from.start + from.len().min(to.len()), to.start),
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
        }
        self.seal(&mut bytes);
        let whole = read(&bytes);
        let Ok((log, _)) = open(&bytes, true) else { return };
        // This may open the previous commit, if the flags tell redb to determine itself which commit is complete.
        let Ok(snapshot) = log.engine().snapshot() else { return };
        let (mut flaws, mut lost) = (Vec::new(), Vec::new());
        let pages = snapshot.check_pages(&mut |flaw| flaws.push(flaw));
        let rows = guarded(|| snapshot.check_lookups(&mut |flaw| lost.push(flaw)));
        if pages.is_ok() && flaws.is_empty() {
            assert!(
                rows.is_ok() && lost.is_empty(),
                "pages without a flaw ({whole}), and look-ups lead elsewhere: {lost:?}"
            );
        }
        drop(snapshot);
        if log.verify(&VerifyOptions::new().threads(1)).is_ok_and(|found| found.ok()) {
            let answers = answers(&log);
            assert!(answers.as_ref().is_ok_and(|now| *now == self.answers), "it is clean and answers {answers:?}");
            drop(log);
            let recorded = recorded(&bytes);
            assert!(matches!(recorded, Ok(true)), "it is clean, and what is recorded is not: {recorded:?}");
        }
    }
}

fn commit_at(bytes: &[u8]) -> usize {
    COMMITS + usize::from(bytes[FLAGS] & PRIMARY) * COMMIT_BYTES
}

/// A tree of the unmodified store.
struct Found<'a> {
    bytes: &'a [u8],
    layout: Layout,
    widths: Widths,
}

impl Found<'_> {
    /// Visits this page and those below it, and reports the range of each value.
    fn below(&self, at: Pointer, sum_at: usize, places: &mut Vec<ValuePlace>, value: &mut dyn FnMut(Range<usize>)) {
        let Some(range) = at.page.place(&self.layout) else { return };
        let range = range.start as usize..range.end as usize;
        let bytes = &self.bytes[range.clone()];
        let Ok((page, used)) = Page::apart(bytes, self.widths) else { return };
        match page {
            Page::Leaf(leaf) => (0..leaf.count).for_each(|n| {
                let start = leaf.value(n).as_ptr() as usize - self.bytes.as_ptr() as usize;
                value(start..start + leaf.value(n).len());
            }),
            Page::Branch(branch) => (0..=branch.count).for_each(|n| {
                if let Some(child) = branch.child(n) {
                    self.below(child, range.start + 8 + 16 * n, places, value);
                }
            }),
        }
        places.push(ValuePlace { range, used: used.len(), sum_at, widths: self.widths });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(match std::env::var_os("ATTESTLOG_LONG") { Some(_) => 5_000, None => 40 }))]

        /// The fuzz target as a property test.
        #[test]
        fn a_page_that_is_edited_and_sealed_again_changes_no_answer(edits in proptest::collection::vec(any::<[u8; 6]>(), 1..4)) {
            super::pages(edits.as_flattened());
        }
    }
}
