//! Entries that a legal hold covers are kept, whether they were recorded before the hold or after, until it is
//! released.

use attestlog::json::Json;
use attestlog::retention::{Hold, HoldRelease, HoldSelector, Holds, SeqSet};
use attestlog::{Body, ErrorKind, Hash};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn hold(selector: HoldSelector) -> Hold {
    Hold::new("case 7", "litigation", "counsel", selector).unwrap()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn by(change: impl FnOnce(&mut HoldSelector)) -> HoldSelector {
    let mut selector = HoldSelector::default();
    change(&mut selector);
    selector
}

fn call(conversation: &str, user: &str, tool: &str, patients: &[&str]) -> Body {
    crate::body::call(conversation, user, tool, patients, None)
}

#[test]
fn each_facet_holds_alone_and_together_they_narrow() {
    let entry = call("c1", "u1", "t1", &["p1", "p2"]);
    let covers = |selector: HoldSelector| {
        let mut holds = Holds::new();
        holds.place(3, hold(selector)).unwrap();
        holds.covers(10, &entry)
    };
    assert!(covers(by(|s| s.conversations = set(&["c0", "c1"]))));
    assert!(covers(by(|s| s.users = set(&["u1"]))));
    assert!(covers(by(|s| s.patients = set(&["p2", "p9"]))));
    assert!(covers(by(|s| s.tools = set(&["t1"]))));
    assert!(covers(by(|s| s.seqs = "10-10".parse().unwrap())));
    assert!(covers(HoldSelector::everything()));
    assert!(covers(by(|s| {
        s.users = set(&["u1", "u2"]);
        s.patients = set(&["p1"]);
        s.seqs = "5-20".parse().unwrap();
    })));
    assert!(!covers(by(|s| s.conversations = set(&["c2"]))));
    assert!(!covers(by(|s| s.patients = set(&["P1"]))));
    assert!(!covers(by(|s| s.seqs = "0-9,11-20".parse().unwrap())));
    assert!(!covers(by(|s| {
        s.users = set(&["u1"]);
        s.patients = set(&["p3"]);
    })));
}

#[test]
fn a_hold_stands_until_it_is_released() {
    let mut holds = Holds::new();
    holds.place(3, hold(by(|s| s.users = set(&["u1"])))).unwrap();
    holds.place(9, hold(by(|s| s.users = set(&["u1", "u2"])))).unwrap();
    let entry = call("c", "u1", "t", &[]);
    assert_eq!(holds.covering(100, &entry), BTreeSet::from([3, 9])); // recorded long after
    assert_eq!(holds.covering(1, &entry), BTreeSet::from([3, 9])); // and before
    assert_eq!(holds.place(9, hold(HoldSelector::everything())).unwrap_err().kind(), ErrorKind::Conflict);
    holds.release(3).unwrap();
    assert_eq!(holds.release(3).unwrap_err().kind(), ErrorKind::NoSuchEntry);
    assert!(holds.covers(1, &entry) && holds.get(3).is_none() && holds.get(9).is_some());
    holds.release(9).unwrap();
    assert_eq!(holds, Holds::new());
}

#[test]
fn the_stores_own_entries_fit_only_by_number() {
    let own = crate::body::own("purge", None);
    assert!(HoldSelector::everything().matches(4, &own));
    assert!(by(|s| s.seqs = "4-4".parse().unwrap()).matches(4, &own));
    assert!(!by(|s| s.users = set(&["u"])).matches(4, &own));
}

#[test]
fn what_holds_nothing_is_refused() {
    let kind = |result: attestlog::Result<Hold>| result.unwrap_err().kind();
    let everything = HoldSelector::everything;
    assert_eq!(kind(Hold::new("c", "r", "a", HoldSelector::default())), ErrorKind::InvalidInput);
    assert_eq!(kind(Hold::new("", "r", "a", everything())), ErrorKind::InvalidInput);
    assert_eq!(kind(Hold::new("c", "", "a", everything())), ErrorKind::InvalidInput);
    assert_eq!(kind(Hold::new("c", "r", "", everything())), ErrorKind::InvalidInput);
    let mut both = everything();
    both.users = set(&["u"]);
    assert_eq!(kind(Hold::new("c", "r", "a", both)), ErrorKind::InvalidInput);
    assert_eq!(kind(Hold::new("c", "r", "a", by(|s| s.users = set(&[""])))), ErrorKind::InvalidInput);
    let many = by(|s| s.users = (0..10_001).map(|n| n.to_string()).collect());
    assert_eq!(kind(Hold::new("c", "r", "a", many)), ErrorKind::InvalidInput);
    assert!(HoldRelease::new(3, "", "a").is_err() && HoldRelease::new(3, "r", "").is_err());
}

#[test]
fn holds_and_releases_stand_in_one_json_form() {
    let selector = by(|s| {
        s.patients = set(&["p2", "p1"]);
        s.seqs = "0-4,7-7".parse().unwrap();
    });
    let text = hold(selector.clone()).to_json().to_canonical();
    assert_eq!(
        text.as_str(),
        r#"{"actor":"counsel","case":"case 7","reason":"litigation","selector":{"patients":["p1","p2"],"seqs":"0-4,7-7"}}"#
    );
    assert_eq!(Hold::from_json(&text.to_json()).unwrap(), hold(selector));
    let release = HoldRelease::new(7, "settled", "counsel").unwrap();
    assert_eq!(release.to_json().to_canonical().as_str(), r#"{"actor":"counsel","hold":7,"reason":"settled"}"#);
    assert_eq!(HoldRelease::from_json(&release.to_json()).unwrap(), release);
    for wrong in [
        r#"{"actor":"a","case":"c","reason":"r"}"#,
        r#"{"actor":"a","case":"c","reason":"r","selector":{}}"#,
        r#"{"actor":"a","case":"c","reason":"r","selector":{"everything":false}}"#,
        r#"{"actor":"a","case":"c","reason":"r","selector":{"user":["u"]}}"#,
        r#"{"actor":"a","case":"c","reason":"r","selector":{"users":"u"}}"#,
        r#"{"actor":"a","case":"c","reason":"r","selector":{"seqs":"4-0"}}"#,
        r#"{"actor":"a","case":"c","reason":"r","selector":{"everything":true},"until":1}"#,
    ] {
        let value = Json::parse(wrong.as_bytes()).unwrap().value;
        assert_eq!(Hold::from_json(&value).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

#[test]
fn a_set_of_seqs_has_one_text() {
    for right in ["", "0-0", "0-4,6-6", "9007199254740991-9007199254740991"] {
        assert_eq!(right.parse::<SeqSet>().unwrap().to_string(), right);
    }
    for wrong in [
        "1",
        "1-",
        "-1",
        "2-1",
        "0-4,5-6",
        "0-4,2-6",
        "6-6,0-4",
        "00-1",
        "0-01",
        "+1-2",
        "1-2,",
        ",1-2",
        " 1-2",
        "0-9007199254740992",
    ] {
        assert_eq!(wrong.parse::<SeqSet>().unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
    assert_eq!(SeqSet::new().digest(), Hash::of(b""));
}

#[test]
fn bytes_that_are_no_set_are_refused() {
    for wrong in [
        &[0x01][..],                                                   // half a range
        &[0x80, 0x00, 0x00],                                           // an integer that is longer than necessary
        &[0x01, 0x80],                                                 // truncated
        &[0xff; 30],                                                   // an integer without an end
        &[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], // beyond 2^53
    ] {
        assert_eq!(SeqSet::decode(wrong).unwrap_err().kind(), ErrorKind::Damaged, "{wrong:?}");
    }
}

/// Entries with frequent collisions.
fn entry() -> impl Strategy<Value = (u64, Body)> {
    let patients = prop::collection::btree_set(0u8..4, 0..3);
    (0u64..30, 0u8..3, 0u8..3, 0u8..3, patients).prop_map(|(seq, c, u, t, patients)| {
        let patients: Vec<String> = patients.iter().map(|p| format!("p{p}")).collect();
        let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
        (seq, call(&format!("c{c}"), &format!("u{u}"), &format!("t{t}"), &patients))
    })
}

fn selector() -> impl Strategy<Value = HoldSelector> {
    let values = |prefix: &'static str| {
        prop::collection::btree_set(0u8..4, 0..3).prop_map(move |n| n.iter().map(|n| format!("{prefix}{n}")).collect())
    };
    let seqs = prop::collection::btree_set(0u64..30, 0..4).prop_map(|s| s.into_iter().collect::<SeqSet>());
    let parts = (values("c"), values("u"), values("p"), values("t"), seqs);
    parts.prop_map(|(conversations, users, patients, tools, seqs)| {
        let selector = by(|s| {
            s.conversations = conversations;
            s.users = users;
            s.patients = patients;
            s.tools = tools;
            s.seqs = seqs;
        });
        if selector.check().is_ok() { selector } else { HoldSelector::everything() }
    })
}

proptest! {
    /// The model: every hold is checked against every entry.
    #[test]
    fn the_set_of_holds_covers_what_its_holds_cover(
        steps in prop::collection::vec((any::<bool>(), 0u64..8, selector()), 1..20),
        entries in prop::collection::vec(entry(), 1..20),
    ) {
        let (mut holds, mut model) = (Holds::new(), BTreeMap::new());
        for (place, id, selector) in steps {
            if place {
                prop_assert_eq!(holds.place(id, hold(selector.clone())).is_ok(), !model.contains_key(&id));
                model.entry(id).or_insert(selector);
            } else {
                prop_assert_eq!(holds.release(id).is_ok(), model.remove(&id).is_some());
            }
            for (seq, body) in &entries {
                let covering: BTreeSet<u64> =
                    model.iter().filter(|(_, s)| s.matches(*seq, body)).map(|(id, _)| *id).collect();
                prop_assert_eq!(holds.covers(*seq, body), !covering.is_empty());
                prop_assert_eq!(holds.covering(*seq, body), covering);
            }
        }
    }

    #[test]
    fn a_hold_survives_its_json(selector in selector()) {
        let hold = hold(selector);
        prop_assert_eq!(Hold::from_json(&hold.to_json()).unwrap(), hold);
    }

    /// The model: a `BTreeSet`.
    #[test]
    fn a_set_of_seqs_is_a_set(
        steps in prop::collection::vec((0u64..80, 0u64..6), 0..60),
        other in prop::collection::btree_set(0u64..100, 0..40),
    ) {
        let (mut seqs, mut model) = (SeqSet::new(), BTreeSet::new());
        for (first, more) in steps {
            seqs.insert_range(first, first + more);
            model.extend(first..=first + more);
            prop_assert!(seqs.ranges().zip(seqs.ranges().skip(1)).all(|(a, b)| a.0 <= a.1 && a.1 + 1 < b.0));
        }
        prop_assert_eq!(seqs.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(seqs.len(), model.len() as u64);
        prop_assert_eq!(seqs.bounds(), model.first().copied().zip(model.last().copied()));
        for first in 0..90 {
            prop_assert_eq!(seqs.contains(first), model.contains(&first));
            for last in [first, first + 1, first + 7] {
                prop_assert_eq!(seqs.contains_range(first, last), (first..=last).all(|n| model.contains(&n)));
                prop_assert_eq!(seqs.intersects(first, last), (first..=last).any(|n| model.contains(&n)));
            }
        }
        let from_model: SeqSet = model.iter().rev().copied().collect();
        prop_assert_eq!(&from_model, &seqs);
        let others: SeqSet = other.iter().copied().collect();
        let both: SeqSet = model.union(&other).copied().collect();
        prop_assert_eq!(seqs.union(&others), both);

        prop_assert_eq!(&SeqSet::decode(&seqs.encode()).unwrap(), &seqs);
        prop_assert_eq!(&SeqSet::from_json(&seqs.to_json()).unwrap(), &seqs);
        let lines: String = seqs.ranges().map(|(a, b)| format!("{a}-{b}\n")).collect();
        prop_assert_eq!(seqs.digest(), Hash::of(lines.as_bytes()));
    }

    #[test]
    fn bytes_are_a_set_in_one_way_or_not_at_all(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(set) = SeqSet::decode(&bytes) {
            prop_assert_eq!(set.encode(), bytes);
        }
    }
}
