//! redb's own tables and the headers of pages: bits that nothing checked. Some of them ended every process that read the
//! file, and some made the next record overwrite earlier ones.
//!
//! `ATTESTLOG_LONG=1` flips every bit of every page header, and edits every byte of redb's own tables; otherwise a sample.

use super::trees::{self, Tree};
use crate::common::Place;
use crate::store_common::*;
use attestlog::verify::{FindingKind, Verification, VerifyOptions};
use attestlog::{AuditLog, Options, Result, ToolCall};
use std::path::Path;

fn long() -> bool {
    std::env::var_os("ATTESTLOG_LONG").is_some_and(|v| v != "0")
}

fn call(i: u64) -> ToolCall {
    ToolCall::new(format!("conv_{}", i / 3), format!("usr_{}", i % 7), "look").patient(format!("P-{}", i % 4))
}

/// A store that was closed, with pages that become free, and its file while it was still open, as a killed process leaves
/// it.
fn closed_and_killed() -> (Vec<u8>, Vec<u8>) {
    let (log, disk, _) = store(21);
    for part in 0..4 {
        log.record_batch((part * 60..part * 60 + 60).map(call)).unwrap();
        log.flush_index().unwrap();
    }
    log.record(call(998)).unwrap();
    log.record(call(999)).unwrap();
    let killed = disk.bytes();
    log.close().unwrap();
    (disk.bytes(), killed)
}

fn open(bytes: &[u8]) -> Result<AuditLog> {
    options(&clock(), 8).open_on(Disk::of(bytes.to_vec()).backend())
}

fn found(log: &AuditLog) -> Vec<attestlog::verify::Finding> {
    log.verify(&VerifyOptions::new().threads(1)).unwrap().findings
}

fn lines(log: &AuditLog) -> Result<Vec<String>> {
    log.query(&attestlog::Query::new())?.map(|entry| Ok(entry?.line())).collect()
}

fn all_trees(bytes: &[u8]) -> Vec<(bool, Tree)> {
    let own = trees::own_trees(bytes).into_iter().map(|tree| (true, tree));
    trees::trees(bytes).into_iter().map(|tree| (false, tree)).chain(own).collect()
}

/// Verifies a file as the program does: its pages first, then everything; only the pages if it cannot be opened or read.
fn verified(path: &Path) -> Result<Verification> {
    let options = Options::new().clock(clock()).background(false).without_keys().read_only().pages_first(true);
    let whole = options.open(path).and_then(|log| log.verify(&VerifyOptions::new().threads(1)));
    whole.or_else(|e| match Verification::of_pages(path)? {
        found if found.ok() => Err(e),
        found => Ok(found),
    })
}

/// The story: of 448 bits in page headers, flipped one by one, 206 ended `verify` with exit code 3 and the text of a panic,
/// so that nobody knew where the file was damaged; for eleven of these queries still answered. Now each ends with a finding
/// that names the table and the page, even if the file cannot be opened.
#[test]
fn a_bit_in_the_head_of_any_page_is_named_by_verification() {
    let (bytes, _) = closed_and_killed();
    let right = lines(&open(&bytes).unwrap()).unwrap();
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("s");
    std::fs::write(&path, &bytes).unwrap();
    assert!(verified(&path).unwrap().ok());
    let (mut tried, mut pages_only, mut answering) = (0, 0, 0);
    quietly(|| {
        for (own, tree) in all_trees(&bytes) {
            for (n, page) in tree.pages.iter().enumerate() {
                for bit in (0..64).filter(|bit| long() || bit % 13 == n % 13) {
                    let mut edited = bytes.clone();
                    edited[page.at + bit / 8] ^= 1 << (bit % 8);
                    std::fs::write(&path, &edited).unwrap();
                    let name = format!("{own} {} {} bit {bit}", tree.name, page.at);
                    let verification = verified(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
                    let place = format!("the page at byte {}", page.at);
                    let named = |f: &attestlog::verify::Finding| {
                        f.kind == FindingKind::PageDamaged && f.detail.contains(&tree.name) && f.detail.contains(&place)
                    };
                    assert!(verification.findings.iter().any(named), "{name}: {:?}", verification.findings);
                    tried += 1;
                    pages_only += u64::from(verification.pages_only);
                    match open(&edited).and_then(|log| lines(&log)) {
                        Ok(now) => answering += u64::from(now == right),
                        Err(e) => assert!(!e.to_string().contains("range"), "{name}: {e}"),
                    }
                }
            }
        }
    });
    println!(
        "{tried} bits in heads of pages, each named; {pages_only} files could not be opened, {answering} answer as before"
    );
    assert!(tried > 100 && pages_only > 10 && answering > 10, "{tried} {pages_only} {answering}");
}

/// The program's messages about such files, which do not mention panics.
#[test]
fn the_program_says_what_is_damaged_and_what_to_do() {
    let place = Place::empty();
    let (bytes, _) = closed_and_killed();
    let log = options(&clock(), 8).open_on(Disk::of(bytes.clone()).backend()).unwrap();
    drop(log);
    let mut unreadable = 0;
    for name in ["meta", "blocks", "postings", "tail", "", "allocator_state", "data_pages_unreachable"] {
        for (own, tree) in all_trees(&bytes).into_iter().filter(|(_, tree)| tree.name == name) {
            let Some(page) = tree.pages.last() else { continue };
            for (at, bit) in [(0, 3), (2, 7), (3, 6)] {
                let mut edited = bytes.clone();
                edited[page.at + at] ^= 1 << bit;
                place.write("s", &edited);
                let verify = place.run(&["verify", "s"]).code(1);
                let query = place.run(&["query", "s", "--count"]);
                assert!(matches!(query.code, 0 | 3), "{own} {name}: {query:?}");
                for said in [&verify.err, &query.err] {
                    assert!(!said.contains("panicked") && !said.contains("range end"), "{own} {name}: {said}");
                }
                assert!(verify.out.contains(&format!("the page at byte {}", page.at)), "{name}: {}", verify.out);
                if query.code == 3 {
                    unreadable += 1;
                    assert!(query.err.contains("damaged") && query.err.contains("restore"), "{name}: {}", query.err);
                }
                let json = place.run(&["verify", "s", "--json"]).code(1);
                assert!(json.out.contains("\"page_damaged\""), "{}", json.out);
            }
        }
    }
    assert!(unreadable > 3, "{unreadable}");
}

/// Marks a page as free in redb's table of free pages, as redb would: the bit of the page, and those above it.
fn call_free(bytes: &mut [u8], page: u64) {
    let tree = trees::own_trees(bytes).into_iter().find(|tree| tree.name == "allocator_state").unwrap();
    let region =
        tree.leaves().flat_map(|leaf| leaf.keys.iter().zip(&leaf.values)).find(|(key, _)| bytes[key.start] == 3);
    let start = region.unwrap().1.start;
    let orders = usize::from(bytes[start]) + 1;
    let number = |bytes: &[u8], at: usize| trees::number(bytes, at, 4) as usize;
    // The bitmap of the smallest pages comes first.
    let bits = start + 8 + 4 * orders;
    let height = number(bytes, bits);
    let (mut level_at, mut levels) = (bits + 4 + 4 * height, Vec::new());
    for level in 0..height {
        levels.push(level_at + 4);
        level_at = bits + number(bytes, bits + 4 + 4 * level);
    }
    let mut n = page as usize;
    for at in levels.into_iter().rev() {
        bytes[at + n / 8] &= !(1 << (n % 8));
        n /= 64;
    }
}

/// The story: only redb itself checked its own tables, by their checksums. With these corrected, a page of the log that the
/// tables call free is overwritten by the next record: verification was clean before, and recorded entries were gone
/// afterwards [R58].
#[test]
fn a_page_in_use_that_is_called_free_is_found_before_it_is_written_over() {
    let (bytes, _) = closed_and_killed();
    let (mut tried, mut lost) = (0, 0);
    for tree in
        trees::trees(&bytes).into_iter().filter(|tree| matches!(&*tree.name, "blocks" | "tail" | "postings" | ""))
    {
        for page in &tree.pages {
            let n = (page.at / 4096 - 1) as u64;
            // A free page beside it would be merged with it.
            let in_use =
                |n: u64| all_trees(&bytes).iter().any(|(_, t)| t.pages.iter().any(|p| p.at / 4096 - 1 == n as usize));
            if page.used > 4096 + page.at || !in_use(n ^ 1) {
                continue;
            }
            let mut edited = bytes.clone();
            call_free(&mut edited, n);
            trees::seal(&mut edited);
            quietly(|| {
                let Ok(log) = open(&edited) else { return };
                let found = found(&log);
                let place = format!("the page at byte {}", page.at);
                let told =
                    |f: &attestlog::verify::Finding| f.detail.contains(&place) && f.detail.contains("call it free");
                assert!(found.iter().any(told), "{} {}: {found:?}", tree.name, page.at);
                tried += 1;
                // redb with test assertions refuses to take the page; in a release it overwrites it.
                let recorded = (0..30).try_for_each(|i| log.record(call(2000 + i)).map(|_| ()));
                let again = log.verify(&VerifyOptions::new().threads(1));
                lost += u64::from(recorded.is_err() || again.is_ok_and(|again| again.findings.len() > 1));
            });
        }
    }
    println!("{tried} pages in use were called free, each found; recording failed or went over {lost} of them");
    assert!(tried > 3 && lost > 0, "{tried} {lost}");
}

/// The story: with correct checksums some bytes of these tables could have any value. Verification was clean and answers
/// were right, but nothing could be recorded any more, or what was recorded was damaged. Now any store that verifies clean
/// can be recorded into, and is still clean afterwards.
#[test]
fn what_is_clean_can_be_recorded_into_whatever_is_edited_in_redb_s_own_tables() {
    let (bytes, _) = closed_and_killed();
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("s");
    let (mut told, mut harmless, mut refused) = (0, 0, 0);
    quietly(|| {
        for tree in trees::own_trees(&bytes) {
            for page in &tree.pages {
                let some =
                    |at: &usize| at - page.at < 24 || at.is_multiple_of(97) || bytes[*at] != 0 && at.is_multiple_of(13);
                for at in (page.at..page.used).filter(|at| long() || some(at)) {
                    let mut edited = bytes.clone();
                    edited[at] = if at % 2 == 0 { edited[at] ^ 1 << (at % 8) } else { edited[at].wrapping_add(0xff) };
                    trees::seal_as(&bytes, &mut edited);
                    let name = format!("{} {} byte {}", tree.name, page.at, at - page.at);
                    let Ok(log) = open(&edited) else {
                        std::fs::write(&path, &edited).unwrap();
                        assert!(!verified(&path).unwrap_or_else(|e| panic!("{name}: {e}")).ok(), "{name}");
                        refused += 1;
                        continue;
                    };
                    if !found(&log).is_empty() {
                        told += 1;
                        // Whatever happens, the process must not end.
                        let _ = log.record(call(98));
                        continue;
                    }
                    harmless += 1;
                    log.record_batch((3000..3060).map(call)).unwrap_or_else(|e| panic!("{name}: clean, and {e}"));
                    log.flush_index().unwrap_or_else(|e| panic!("{name}: clean, and {e}"));
                    assert_eq!(found(&log), [], "{name}");
                    log.close().unwrap();
                }
            }
        }
    });
    println!("{told} edits told, {refused} not opened and told, {harmless} harmless: recorded into, and clean then");
    assert!(told > 30 && harmless > 10, "{told} {harmless}");
}

/// The story: a full disk, or a crash, leaves a file longer than its tables of free pages know, and that was taken for damage that
/// ends all recording. What is behind is free space, whatever lies in it, and whoever makes a file longer hides nothing
/// there: a page of the log behind is found like one anywhere else in free space [R58].
#[test]
fn a_file_that_was_made_longer_is_no_damage_and_hides_nothing() {
    let (closed, killed) = closed_and_killed();
    let right = lines(&open(&closed).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // As it is when a process that opened it has made it longer: the header says that it is open.
    let mut opened = closed.clone();
    opened[9] |= 2;
    for (name, bytes) in [("closed", &closed), ("opened", &opened), ("killed", &killed)] {
        for (pages, filling) in [(1, 0), (7, 0xff), (600, 0), (3000, 0x5a)] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + 4096 * pages, filling);
            std::fs::write(&path, &longer).unwrap();
            assert_eq!(quietly(|| verified(&path)).unwrap().findings, [], "{name}, {pages}");
            let log = open(&longer).unwrap();
            assert_eq!((found(&log), lines(&log).unwrap()), (vec![], right.clone()), "{name}, {pages}");
            log.record_batch((3000..3400).map(call)).unwrap();
            log.flush_index().unwrap();
            assert_eq!(found(&log), [], "{name}, {pages}");
            log.close().unwrap();
        }
    }
    // The page with the seeds of the nonces, moved behind, with every checksum made right.
    let seeds = trees::tree(&closed, "seeds").pages.pop().unwrap();
    let tables = trees::tree(&closed, "");
    let mut edited = closed.clone();
    edited.extend_from_slice(&closed[seeds.at..seeds.at + 4096]);
    let number = |at: usize| (at as u64 / 4096 - 1).to_le_bytes();
    let named = tables.leaves().flat_map(|leaf| leaf.keys.iter().zip(&leaf.values));
    let (_, root) = named.into_iter().find(|(key, _)| &closed[(*key).clone()] == b"seeds").unwrap();
    let at = closed[root.clone()].windows(8).position(|eight| eight == number(seeds.at)).unwrap();
    edited[root.start + at..root.start + at + 8].copy_from_slice(&number(closed.len()));
    trees::seal(&mut edited);
    let log = open(&edited).unwrap();
    assert_eq!(lines(&log).unwrap(), right);
    let place = format!("the page at byte {}", closed.len());
    let told = quietly(|| found(&log));
    assert!(told.iter().any(|f| f.detail.contains(&place) && f.detail.contains("call it free")), "{told:?}");
}

/// The story: one bit of the header says which of two commits is in force. When it is flipped, a file that was not closed
/// opens with the commit before the last, and an acknowledged call is gone; without keys nothing said so. A crash in the
/// middle of a commit leaves the same state, so it is not a finding, but verification says that it is one of the two [R59].
/// In a file that was closed the bit takes nothing back.
#[test]
fn one_bit_of_the_header_takes_back_no_commit_unseen() {
    let (bytes, killed) = closed_and_killed();
    let size = open(&bytes).unwrap().size().unwrap();
    let mut flipped = bytes.clone();
    flipped[9] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    std::fs::write(&path, &flipped).unwrap();
    let told = quietly(|| verified(&path)).unwrap();
    assert!(!told.ok() || told.size == size, "{told:?}");

    let verified = |bytes: &[u8]| open(bytes).unwrap().verify(&VerifyOptions::new().threads(1)).unwrap();
    let honest = verified(&killed);
    assert!(honest.ok() && !honest.unfinished_commit && honest.size == size, "{honest:?}");
    // In one that was not, which commit counts follows from what the commits wrote, not from the bit [R121].
    let mut flipped = killed.clone();
    flipped[9] ^= 1;
    assert_eq!(verified(&flipped).size, size);
    // What takes a commit back is a change of what it wrote, or of its tally, and that is said.
    let slot = usize::from(killed[9] & 1);
    let taken_back = [slot, slot ^ 1].into_iter().find_map(|slot| {
        let mut flipped = killed.clone();
        flipped[512 + 1536 * slot + 2] ^= 1;
        let told = verified(&flipped);
        (told.size < size).then_some((flipped, told))
    });
    let (flipped, taken_back) = taken_back.expect("one of the two tallies is that of the last commit");
    assert!(taken_back.ok() && taken_back.unfinished_commit, "{taken_back:?}");
    let place = Place::empty();
    place.write("s", &flipped);
    let said = place.run(&["verify", "s"]).ok();
    assert!(said.contains("a commit that was not finished"), "{said}");
}
