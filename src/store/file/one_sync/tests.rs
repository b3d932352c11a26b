use super::*;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::storage::Memory;
use redb::{Builder, Database, ReadableDatabase, TableDefinition};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::DEFAULT_SECRET_LENGTH;

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const SECTOR: usize = 512;

/// Memory that counts syncs, and may fail to do them.
#[derive(Debug, Clone, Default)]
struct Counting(Memory, Arc<AtomicU64>, Arc<AtomicBool>);

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if self.2.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

impl Counting {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.0.len().unwrap() as usize];
        self.0.read(0, &mut bytes).unwrap();
        bytes
    }

    fn of(bytes: &[u8]) -> Counting {
        let disk = Counting::default();
        disk.0.set_len(bytes.len() as u64).unwrap();
        disk.0.write(0, bytes).unwrap();
        disk
    }

    /// How many syncs this takes.
    fn syncs(&self, work: impl FnOnce()) -> u64 {
        let before = self.1.load(Ordering::Relaxed);
        work();
        self.1.load(Ordering::Relaxed) - before
    }
}

fn insert(handle: &DatabaseHandle, rows: std::ops::Range<u64>, value: &[u8]) {
    let mut txn = handle.begin_write().unwrap();
    txn.set_two_phase_commit(true);
    {
        let mut table = txn.open_table(TABLE).unwrap();
        rows.for_each(|key| drop(table.insert(key, value).unwrap()));
    }
    txn.commit().unwrap();
}

/// What is in the file, and whether it holds a commit that does not count.
fn rows(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, bool) {
    let handle = DatabaseHandle::open(&mut Builder::new(), Box::new(Counting::of(bytes)), false).unwrap();
    let txn = handle.begin_read().unwrap();
    let rows = txn.open_table(TABLE).unwrap().range::<u64>(..).unwrap();
    let rows = rows.map(|row| row.map(|(key, value)| (key.value(), value.value().to_vec())).unwrap()).collect();
    (rows, handle.is_unfinished())
}

/// A file before and after a commit with one sync of these rows.
fn before_and_after(value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let disk = Counting::default();
    let handle = DatabaseHandle::fresh(&Builder::new(), Arc::new(disk.clone())).unwrap();
    insert(&handle, 0..30, &[7; 300]);
    insert(&handle, 30..31, &[8; 300]);
    let before = disk.bytes();
    assert_eq!(disk.syncs(|| insert(&handle, 40..41, value)), 1);
    (before, disk.bytes())
}

#[test]
fn small_commits_take_one_sync_and_others_two() {
    let disk = Counting::default();
    let handle = DatabaseHandle::fresh(&Builder::new(), Arc::new(disk.clone())).unwrap();
    insert(&handle, 0..1, &[1; 300]);
    for key in 1..20 {
        assert_eq!(disk.syncs(|| insert(&handle, key..key + 1, &[1; 300])), 1);
    }
    // More than a tally lists. At first the file becomes longer, which redb syncs too.
    let large: Vec<u64> = (0..5).map(|n| disk.syncs(|| insert(&handle, 1000..3000, &[n; 300]))).collect();
    assert!(large.iter().all(|syncs| *syncs >= 2) && large[4] == 2, "{large:?}");
    drop(handle);
    let again = DatabaseHandle::open(&mut Builder::new(), Box::new(disk.clone()), false).unwrap();
    assert_eq!(disk.syncs(|| insert(&again, 5000..5001, &[1; 300])), 1);
}

/// Whatever sectors of a commit are on the disk, and in whatever state of the header: the file has the commit or has it not
/// [R121].
#[test]
fn a_torn_commit_is_there_or_is_not() {
    let (before, after) = before_and_after(&[9; 700]);
    let (old, new) = (rows(&before).0, rows(&after).0);
    assert_eq!((old.len(), new.len()), (31, 32));
    let mut written: Vec<usize> = (0..after.len() / SECTOR).map(|n| n * SECTOR).collect();
    written.retain(|&at| before[at..at + SECTOR] != after[at..at + SECTOR]);
    assert!(written.len() > 10, "{}", written.len());
    let put = |image: &mut Vec<u8>, from: &[u8], at: usize| {
        image[at..at + SECTOR].copy_from_slice(&from[at..at + SECTOR]);
    };
    let mut found = [0u64; 2];
    let mut judge = |image: &[u8]| {
        let (there, _) = rows(image);
        assert!(there == old || there == new, "{} rows", there.len());
        found[usize::from(there == new)] += 1;
    };
    for &lost in &written {
        let (mut without, mut alone) = (after.clone(), before.clone());
        put(&mut without, &before, lost);
        judge(&without);
        put(&mut alone, &after, lost);
        judge(&alone);
    }
    // The header is in a sector of its own, and may be torn at any byte.
    for cut in 0..=HEADER_BYTES {
        let (mut first, mut last) = (before.clone(), before.clone());
        first[..cut].copy_from_slice(&after[..cut]);
        last[cut..].copy_from_slice(&after[cut..]);
        judge(&first);
        judge(&last);
        let (mut first, mut last) = (after.clone(), after.clone());
        first[..cut].copy_from_slice(&before[..cut]);
        last[cut..HEADER_BYTES].copy_from_slice(&before[cut..HEADER_BYTES]);
        judge(&first);
        judge(&last);
    }
    assert!(found[0] > 100 && found[1] > 100, "{found:?}");
}

/// A page that redb wrote early and gave up again is in the tally of its commit, and the next commit may use it. The commit before
/// would not be whole any more, though it was acknowledged: so it gets an empty tally first [R121].
#[test]
fn what_a_tally_lists_changes_only_once_the_commit_does_not_need_it() {
    let (_, after) = before_and_after(&[9; 700]);
    let header = Header::settled(&Counting::of(&after)).unwrap();
    let runs = header.written.unwrap().runs;
    assert!(runs.len() > 2, "{runs:?}");
    for run in runs {
        let named = |change: &dyn Fn(&Counting)| {
            let disk = Counting::of(&after);
            change(&disk);
            Header::settled(&disk).unwrap().named
        };
        assert_ne!(named(&|disk| disk.write(run.start, &[0x5a; 16]).unwrap()), header.named);
        assert_eq!(named(&|disk| OneSync::default().write(disk, run.start, &[0x5a; 16]).unwrap()), header.named);
        let cut = |disk: &Counting| {
            let commits = OneSync::default();
            commits.write(disk, 0, &after[..HEADER_BYTES]).unwrap();
            commits.set_len(disk, run.start.max(8192)).unwrap();
        };
        assert_eq!(named(&cut), header.named);
    }
}

/// The story of the sync that nobody missed: where redb's memory is full it writes pages early, and takes no notice if that fails.
/// Before such a write the commit in force may get an empty tally and a sync. That sync failed, so the system took for written what
/// it never wrote; the next sync came back well, and a commit was acknowledged whose first pages were on no disk [R121].
#[test]
fn after_a_sync_that_failed_nothing_is_acknowledged() {
    let (_, after) = before_and_after(&[9; 700]);
    let disk = Counting::of(&after);
    let run = Header::settled(&disk).unwrap().written.unwrap().runs.remove(0);
    let commits = OneSync::default();
    disk.2.store(true, Ordering::Relaxed);
    let e = commits.write(&disk, run.start, &[0x5a; 16]).unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::StorageFull);
    disk.2.store(false, Ordering::Relaxed);
    commits.sync(&disk).unwrap_err();
    commits.write(&disk, run.start, &[0x5a; 16]).unwrap_err();
    let named = Header::settled(&Counting::of(&after)).unwrap().named;
    assert_eq!(Header::settled(&disk).unwrap().named, named, "the commit in force is gone");
    // Opened again, the file is as the system says that it is, and is written to.
    assert_eq!(rows(&disk.bytes()).0, rows(&after).0);
    OneSync::default().write(&disk, run.start, &[0x5a; 16]).unwrap();
    assert_eq!(Header::settled(&disk).unwrap().named, named);
}

/// A closed file is what it is: a page that is damaged in it takes back no commit once the file is opened and the process ends.
#[test]
fn damage_in_a_closed_file_takes_no_commit_back() {
    let disk = Counting::default();
    let handle = DatabaseHandle::fresh(&Builder::new(), Arc::new(disk.clone())).unwrap();
    (0..3).for_each(|key| insert(&handle, key..key + 1, &[4; 300]));
    let runs = Header::settled(&disk).unwrap().written.unwrap().runs;
    assert!(!runs.is_empty());
    drop(handle);
    let bytes = disk.bytes();
    let named = Header::settled(&disk).unwrap().named;
    for at in (4096..bytes.len()).step_by(511) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        damaged[FLAGS] |= IS_OPEN;
        assert_eq!(Header::settled(&Counting::of(&damaged)).unwrap().named, named, "byte {at}");
    }
}

/// The 8 bytes with which XXH3 masks the first word of a stripe, for the first stripes of a block.
fn mask(stripe: usize) -> u64 {
    const _: () = assert!(DEFAULT_SECRET_LENGTH == 192);
    const START: [u8; 24] = [
        0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4,
        0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
    ];
    u64::from_le_bytes(START[8 * stripe..8 * stripe + 8].try_into().unwrap())
}

/// A value whose page has, at bytes 1024 and 1088, words that add nothing to XXH3's products; and the same with both changed so
/// that their sum stays. `place`: where the value begins in its page.
fn chosen(place: usize) -> [Vec<u8>; 2] {
    [0, 0x0bad_f00d].map(|by| {
        let mut value = vec![b'.'; 2000];
        for (at, stripe, high) in
            [(1024, 0, 0x1111_1111u32.wrapping_add(by)), (1088, 1, 0x7777_7777u32.wrapping_sub(by))]
        {
            let word = u64::from(high) << 32 | mask(stripe) & 0xffff_ffff;
            value[at - place..at - place + 8].copy_from_slice(&word.to_le_bytes());
        }
        value
    })
}

/// The offset of these bytes.
fn find(image: &[u8], bytes: &[u8]) -> usize {
    image.windows(bytes.len()).position(|there| there == bytes).unwrap()
}

/// The story that the tally is for. Whoever records chooses what is in a page, and what was in it before. They choose two texts so
/// that the page has the same XXH3 with the one as with the other, in one sector: if that sector is lost when the power goes, redb's
/// commit with one sync takes the mixture for the commit, and an entry says what was never recorded. With a tally the commit is
/// taken back [R121].
#[test]
fn a_made_collision_does_not_pass_for_the_commit() {
    // Two rows before it, so that a page has nothing else.
    let plain = |value: &[u8]| {
        let disk = Counting::default();
        let database = Builder::new().create_with_backend(disk.clone()).unwrap();
        for (key, value) in [(1, &[1u8; 20][..]), (2, value)] {
            let mut txn = database.begin_write().unwrap();
            txn.set_two_phase_commit(false);
            txn.open_table(TABLE).unwrap().insert(key, value).unwrap();
            txn.commit().unwrap();
        }
        // As a process leaves it that ends now.
        disk.bytes()
    };
    let place = find(&plain(&[b'.'; 2000]), &[b'.'; 2000]) % 4096;
    let [value, forged] = chosen(place);
    let tear = |image: &[u8]| {
        let at = find(image, &value);
        let page = at - place;
        assert_eq!(page % 4096, 0);
        let mut torn = image.to_vec();
        torn[at..at + value.len()].copy_from_slice(&forged);
        let sums = [image, &torn].map(|image| XxHash3_128::oneshot(&image[page..at + value.len()]));
        assert_eq!(sums[0], sums[1], "it is no collision");
        let other: Vec<usize> = (0..torn.len()).filter(|at| torn[*at] != image[*at]).map(|at| at / SECTOR).collect();
        assert!(other.len() > 4 && other.iter().all(|sector| *sector == other[0]), "one sector differs");
        torn
    };
    let torn = tear(&plain(&value));
    let database: Database = Builder::new().create_with_backend(Counting::of(&torn)).unwrap();
    let there = database.begin_read().unwrap().open_table(TABLE).unwrap().get(2).unwrap().unwrap().value().to_vec();
    assert_eq!(there, forged, "redb alone takes the mixture");

    let disk = Counting::default();
    let handle = DatabaseHandle::fresh(&Builder::new(), Arc::new(disk.clone())).unwrap();
    insert(&handle, 1..2, &[1; 20]);
    assert_eq!(disk.syncs(|| insert(&handle, 2..3, &value)), 1);
    let image = disk.bytes();
    assert_eq!(rows(&image).0[1].1, value);
    let (there, unfinished) = rows(&tear(&image));
    assert_eq!((there, unfinished), (vec![(1, vec![1; 20])], true));
}
