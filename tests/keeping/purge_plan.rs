//! A purge takes all entries that have expired and are not held, and nothing else.

use attestlog::entry::Retention;
use attestlog::json::Json;
use attestlog::retention::{
    Hold, HoldSelector, Holds, Period, Planner, PolicyHistory, PurgePlan, PurgeRecord, RetentionPolicy, SeqSet,
};
use attestlog::{Body, ErrorKind, Timestamp};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn recorded(policy: &RetentionPolicy, user: &str, tool: &str, patients: &[&str], base: &str) -> Body {
    let retention = policy.assign(tool, !patients.is_empty(), None, None, at(base)).unwrap();
    crate::body::call("c", user, tool, patients, Some(retention))
}

fn user_hold(user: &str) -> Hold {
    let mut selector = HoldSelector::default();
    selector.users.insert(user.to_owned());
    Hold::new("case", "reason", "counsel", selector).unwrap()
}

#[test]
fn a_plan_says_what_goes_and_what_stays_and_why() {
    let policy = RetentionPolicy::default();
    let entries = [
        crate::body::own("genesis", None),
        recorded(&policy, "u1", "lookup", &[], "2020-01-01"),
        recorded(&policy, "u2", "lookup", &[], "2020-01-01"),
        recorded(&policy, "u1", "issue_refund", &[], "2020-01-01"),
        recorded(&policy, "u1", "lookup", &["p"], "2020-01-01"),
        recorded(&policy, "u1", "mail", &[], "2020-02-01"),
        recorded(&policy, "u1", "lookup", &[], "2025-01-01"),
    ];
    let policies = PolicyHistory::new(0, policy);
    let mut holds = Holds::new();
    holds.place(3, user_hold("u2")).unwrap();
    holds.place(5, user_hold("u2")).unwrap();
    let plan_at = |time| PurgePlan::of((0u64..).zip(&entries), at(time), &holds, &policies);

    // An entry may go from the end of its retention on, not before.
    assert!(plan_at("2020-12-31T23:59:59.999999999Z").expired.is_empty());
    assert_eq!(plan_at("2021-01-01").expired.to_string(), "1-1");
    let plan = plan_at("2025-12-31");
    assert_eq!(plan.expired.to_string(), "1-1,5-5");
    assert_eq!(plan.kept_by_hold, 1);
    assert_eq!(plan.by_hold, BTreeMap::from([(3, 1), (5, 1)]));
    let general = &plan.counts["general"];
    assert_eq!((general["lookup"].expired, general["lookup"].kept_by_hold), (1, 1));
    assert_eq!((general["mail"].expired, general["mail"].kept_by_hold), (1, 0));
    assert_eq!(plan.classes(), BTreeMap::from([("general".to_owned(), 2)]));
    let next = [("financial", "2027-01-01"), ("general", "2026-01-01"), ("healthcare", "2026-01-01")];
    assert_eq!(plan.next, next.map(|(class, time)| (class.to_owned(), at(time))).into());
    let all = plan_at("2030-01-01");
    assert_eq!(all.expired.to_string(), "1-1,3-6");

    let record = plan.record("ops", &policies).unwrap();
    let text = record.to_json().to_canonical();
    let digest = plan.expired.digest();
    assert_eq!(
        text.as_str(),
        format!(
            r#"{{"actor":"ops","classes":{{"general":2}},"count":2,"cut_off":"2025-12-31T00:00:00Z","kept_by_hold":1,"policy":0,"seqs":"{digest}"}}"#
        )
    );
    assert_eq!(PurgeRecord::from_json(&text.to_json()).unwrap(), record);
    assert!(record.is_of(&plan.expired));
    assert!(!record.is_of(&"1-1,6-6".parse().unwrap()) && !record.is_of(&SeqSet::new()));
    assert_eq!(plan.record("", &policies).unwrap_err().kind(), ErrorKind::InvalidInput);
    let wrong = text.as_str().replace("\"general\":2", "\"general\":3");
    let wrong = Json::parse(wrong.as_bytes()).unwrap().value;
    assert_eq!(PurgeRecord::from_json(&wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_stores_own_entries_stay_and_alerts_live_as_long_as_what_they_concern() {
    let policy = RetentionPolicy::default();
    let expired = || policy.assign("t", false, None, None, at("1990-01-01")).ok();
    let policies = PolicyHistory::new(0, policy.clone());
    let holds = Holds::new();
    // A grant that nobody has reviewed is kept (R15).
    let planner = || Planner::new(at("2025-01-01"), &holds, &policies);
    let mut unreviewed = planner();
    unreviewed.consider(2, &crate::body::own("break_glass_opened", expired()));
    assert!(unreviewed.finish().expired.is_empty());
    let of = |body: &Body| {
        let mut planner = planner().reviewed([2].into());
        planner.consider(2, body);
        planner.finish().expired.to_string()
    };
    let permanent = [
        "genesis",
        "policy",
        "hold_placed",
        "hold_released",
        "purge",
        "clock",
        "key",
        "index_batch",
        "backup",
        "restore",
        "restore_confirmed",
        "erasure",
        "reveal",
        "break_glass_reviewed",
    ];
    for kind in permanent {
        assert_eq!(of(&crate::body::own(kind, expired())), "", "{kind}");
    }
    for kind in ["alert", "alert_ack", "break_glass_opened", "break_glass_closed"] {
        assert_eq!(of(&crate::body::own(kind, expired())), "2-2", "{kind}");
        assert_eq!(of(&crate::body::own(kind, None)), "", "{kind}");
    }
    assert_eq!(of(&crate::body::call("c", "u", "t", &[], None)), "");
}

#[test]
fn a_longer_policy_keeps_what_would_have_gone() {
    let policy = RetentionPolicy::default();
    let entry = recorded(&policy, "u", "lookup", &[], "2020-01-01");
    let mut policies = PolicyHistory::new(0, policy);
    policies.push(7, RetentionPolicy::builder().class("general", Period::years(5).unwrap()).build().unwrap()).unwrap();
    let plan = |time| PurgePlan::of([(1, &entry)], at(time), &Holds::new(), &policies);
    assert!(plan("2024-12-31").expired.is_empty());
    assert_eq!(plan("2025-01-01").expired.to_string(), "1-1");
    assert_eq!(plan("2025-01-01").record("ops", &policies).unwrap().policy, 7);
}

proptest! {
    /// The model: each entry is judged on its own, from the definitions.
    #[test]
    fn a_plan_takes_what_has_expired_and_is_not_held(
        entries in prop::collection::vec((0u8..4, 0u8..4, any::<bool>(), any::<bool>(), 0u32..120), 1..60),
        held_users in prop::collection::btree_set(0u8..4, 0..3),
        held_seqs in prop::collection::btree_set(0u64..60, 0..6),
        (longer, policy_at) in (0u32..40, 0u64..60),
        cut_off in 0u32..240,
    ) {
        let tools = ["lookup", "issue_refund", "mail", "update_treatment"];
        let month = |n| Timestamp::from_nanos(0).plus_months(n);
        let first = RetentionPolicy::default();
        let longer_period = Period::months(12 + longer).unwrap();
        let second = RetentionPolicy::builder().class("general", longer_period).build().unwrap();
        let mut policies = PolicyHistory::new(0, first);
        policies.push(policy_at + 1, second).unwrap();

        let mut holds = Holds::new();
        for (id, user) in held_users.iter().enumerate() {
            holds.place(id as u64, user_hold(&format!("u{user}"))).unwrap();
        }
        if !held_seqs.is_empty() {
            let mut selector = HoldSelector::default();
            selector.seqs = held_seqs.iter().copied().collect();
            holds.place(100, Hold::new("c", "r", "a", selector).unwrap()).unwrap();
        }

        let mut bodies = Vec::new();
        let (mut goes, mut kept) = (BTreeSet::new(), 0);
        for (seq, (user, tool, patient, own, recorded)) in (0u64..).zip(entries) {
            if own {
                bodies.push(crate::body::own("clock", None));
                continue;
            }
            let (tool, base) = (tools[usize::from(tool)], month(recorded));
            let retention: Retention = policies.at(seq).assign(tool, patient, None, None, base).unwrap();
            let years = match (tool, patient) {
                ("issue_refund", _) => 84,
                ("update_treatment", _) | (_, true) => 72,
                _ => 12 + longer, // whether it was recorded before the longer policy or after
            };
            if month(recorded + years) <= month(cut_off) {
                if held_users.contains(&user) || held_seqs.contains(&seq) {
                    kept += 1;
                } else {
                    goes.insert(seq);
                }
            }
            let patients: &[&str] = if patient { &["p"] } else { &[] };
            bodies.push(crate::body::call("c", &format!("u{user}"), tool, patients, Some(retention)));
        }
        let plan = PurgePlan::of((0u64..).zip(&bodies), month(cut_off), &holds, &policies);
        prop_assert_eq!(plan.expired.iter().collect::<BTreeSet<_>>(), goes);
        prop_assert_eq!(plan.kept_by_hold, kept);
        prop_assert_eq!(plan.classes().values().sum::<u64>(), plan.expired.len());
        prop_assert!(plan.next.values().all(|next| *next > plan.cut_off));
        prop_assert!(plan.record("ops", &policies).unwrap().is_of(&plan.expired));
    }
}
