//! Tests against files that redb wrote, and against damaged ones.

use super::order::Order;
use super::{Flaw, Present, Seen, Shape, check, check_file};
use crate::store::file::all_tables;
use crate::store::file::storage::Memory;
use proptest::prelude::*;
use redb::{Builder, Key, ReadableTable, StorageBackend, TableDefinition};

const NUMBERS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("numbers");
const TEXTS: TableDefinition<'_, &str, u64> = TableDefinition::new("texts");
const PAIRS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("pairs");
const DAYS: TableDefinition<'_, (u64, i32), [u8; 32]> = TableDefinition::new("days");

fn shapes() -> Vec<Shape> {
    vec![Shape::of(&NUMBERS), Shape::of(&TEXTS), Shape::of(&PAIRS), Shape::of(&DAYS)]
}

fn checked(memory: &Memory) -> (Seen, Vec<Flaw>) {
    let mut found = Vec::new();
    let present = Present::read(memory).unwrap();
    let seen = check(memory, &present, &shapes(), &mut |flaw| found.push(flaw)).unwrap();
    // Nothing must make this panic.
    check_file(memory, &shapes(), &mut |_| {}).unwrap();
    (seen, found)
}

/// A change: a key, and the length of its value, or `None` to remove it.
type Step = (u16, Option<u16>);

/// Writes the changes with redb, and returns the number of rows.
fn written(memory: &Memory, commits: &[Vec<Step>]) -> u64 {
    let database = Builder::new().create_with_backend(memory.clone()).unwrap();
    let mut rows = 0;
    for steps in commits {
        let txn = database.begin_write().unwrap();
        {
            let (mut numbers, mut texts) = (txn.open_table(NUMBERS).unwrap(), txn.open_table(TEXTS).unwrap());
            let (mut pairs, mut days) = (txn.open_table(PAIRS).unwrap(), txn.open_table(DAYS).unwrap());
            for &(key, length) in steps {
                let text = format!("{}é{key}", "long ".repeat(usize::from(key % 9)));
                let (small, big, day) = ((key % 7) as u8, u64::from(key) << 30, i32::from(key) - 9_000);
                match length {
                    Some(length) => {
                        let value = vec![key as u8; usize::from(length)];
                        numbers.insert((small, big), &*value).unwrap();
                        texts.insert(&*text, u64::from(length)).unwrap();
                        pairs.insert((big, &*text), ()).unwrap();
                        days.insert((big, day), [3; 32]).unwrap();
                    }
                    None => {
                        numbers.remove((small, big)).unwrap();
                        texts.remove(&*text).unwrap();
                        pairs.remove((big, &*text)).unwrap();
                        days.remove((big, day)).unwrap();
                    }
                }
            }
            rows = 4 * numbers.iter().unwrap().count() as u64;
        }
        txn.commit().unwrap();
    }
    rows
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let length = prop_oneof![4 => (0u16..300).prop_map(Some), 1 => (3000u16..20_000).prop_map(Some), 3 => Just(None)];
    proptest::collection::vec(proptest::collection::vec((0u16..600, length), 0..300), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_redb_writes_has_no_flaw(commits in steps()) {
        let memory = Memory::default();
        let rows = written(&memory, &commits);
        let (seen, found) = checked(&memory);
        prop_assert_eq!((found, seen.leads_astray), (vec![], false));
        // The tree of tables has a row for each table; redb's own tree has one for each table that redb has created.
        prop_assert!(seen.rows >= rows + 4 && seen.tables >= 4);
    }

    /// Whatever is written anywhere into a file, the walk terminates without a panic.
    #[test]
    fn nothing_in_a_file_can_make_it_panic(edits in proptest::collection::vec((any::<u32>(), any::<u64>()), 1..20)) {
        let memory = Memory::default();
        written(&memory, &[(0..200).map(|key| (key, Some(90))).collect()]);
        let length = memory.len().unwrap();
        for (at, to) in edits {
            memory.write(u64::from(at) % (length - 8), &to.to_le_bytes()).unwrap();
        }
        checked(&memory);
    }

    #[test]
    fn keys_are_compared_as_redb_compares_them(a in any::<(u8, u64, u64, i32, String)>(), b in any::<(u8, u64, u64, i32, String)>()) {
        fn same<'a, K: Key>(a: K::SelfType<'a>, b: K::SelfType<'a>) {
            let order = Order::named(K::type_name().name()).unwrap();
            let (a, b) = (K::as_bytes(&a).as_ref().to_vec(), K::as_bytes(&b).as_ref().to_vec());
            assert!(order.is_key(&a) && order.is_key(&b) && order.width() == K::fixed_width());
            assert_eq!(order.compare(&a, &b), K::compare(&a, &b), "{}", K::type_name().name());
        }
        same::<u64>(a.1, b.1);
        same::<&str>(&a.4, &b.4);
        same::<(u8, u64)>((a.0, a.1), (b.0, b.1));
        same::<(u64, u8)>((a.1, a.0), (b.1, b.0));
        same::<(u64, u64)>((a.1, a.2), (b.1, b.2));
        same::<(u8, &[u8])>((a.0, a.4.as_bytes()), (b.0, b.4.as_bytes()));
        same::<(u8, u64, u64)>((a.0, a.1, a.2), (b.0, b.1, b.2));
        same::<(u64, i32)>((a.1, a.3), (b.1, b.3));
        same::<(u64, &str)>((a.1, &a.4), (b.1, &b.4));
        same::<(u64, u64)>((7, a.2), (7, b.2));
        same::<(u64, i32)>((7, a.3), (7, b.3));
    }
}

#[test]
fn only_keys_of_known_types_are_compared() {
    for name in ["", "()", "u16", "(u64)x", "(&str,u64)", "(u64,Option<u8>)", "String", "u64,u64"] {
        assert_eq!(Order::named(name), None, "{name}");
    }
    let text = Order::named("(u64,&str)").unwrap();
    assert!(!text.is_key(b"1234567") && !text.is_key(b"12345678\xff") && text.is_key(b"12345678"));
    let fixed = Order::named("(u8,u64)").unwrap();
    assert!(!fixed.is_key(b"12345678") && !fixed.is_key(b"1234567890") && fixed.is_key(b"123456789"));
    // Every table of the program has keys that can be compared.
    for shape in all_tables::shapes() {
        assert_eq!(Order::named(&shape.key.0).map(|order| order.width()), Some(shape.key.1), "{}", shape.name);
    }
}

#[test]
fn a_header_that_is_none_is_told() {
    let memory = Memory::default();
    written(&memory, &[vec![(1, Some(1))]]);
    let commit = 64 + 128 * usize::from(memory_bytes(&memory)[9] & 1) as u64;
    for (at, what) in [(0, "begin"), (12, "size"), (20, "regions"), (commit, "version"), (commit + 30, "checksum")] {
        let other = Memory::default();
        let mut bytes = memory_bytes(&memory);
        bytes[at as usize..at as usize + 4].copy_from_slice(&[0xf7; 4]);
        other.set_len(bytes.len() as u64).unwrap();
        other.write(0, &bytes).unwrap();
        let (seen, found) = checked(&other);
        let nothing = Seen { leads_astray: true, ..Seen::default() };
        assert!(seen == nothing && found.len() == 1 && found[0].what.contains(what), "{at}: {found:?}");
    }
}

fn memory_bytes(memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len().unwrap() as usize];
    memory.read(0, &mut bytes).unwrap();
    bytes
}
