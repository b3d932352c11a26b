//! Promise: an entry is judged by the alert rules of the policy that was in force when it was recorded (R83), whoever set
//! it, and whether or not an engine was running then.

use attestlog::alert::{Callback, Rule, Rules, Severity};
use attestlog::{AuditLog, Options, PolicySet, ToolCall};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn set(log: &AuditLog, rules: impl IntoIterator<Item = Rule>) {
    let mut policies = PolicySet::default();
    policies.alerts = rules.into_iter().try_fold(Rules::none(), Rules::with).unwrap();
    log.retention().set_policies(policies).unwrap();
}

fn vip() -> Rule {
    Rule::new("vip").severity(Severity::Critical).attribute("vip", true).window(HOUR).count(1)
}

fn failures(count: u32) -> Rule {
    Rule::new("failures").failed(true).window(HOUR).count(count)
}

fn call(log: &AuditLog, user: &str) -> u64 {
    let call = ToolCall::new("c", user, "read_chart").patient("P-1").metadata("vip", true);
    log.record(call.error("denied")).unwrap().seq
}

fn raised(log: &AuditLog) -> Vec<String> {
    log.alerts().list().unwrap().into_iter().map(|state| state.alert.id).collect()
}

/// A process that had the store open continued with the rules with which it had started: the chain had a new policy,
/// `health` was green, and alerts of the new policy were never raised, since the position of the rules had moved past the
/// entries.
#[test]
fn a_policy_that_is_set_holds_for_rules_that_are_at_work() {
    let log = AuditLog::in_memory().unwrap();
    set(&log, []);
    let heard = Arc::new(Mutex::new(0));
    let hears = heard.clone();
    let mut engine = log.alerts().engine().unwrap().deliver_to(Callback::new("pager", move |_| {
        *hears.lock().unwrap() += 1;
        Ok(())
    }));
    call(&log, "a");
    engine.run_once().unwrap();
    set(&log, [vip()]);
    let first = call(&log, "b");
    engine.run_once().unwrap();
    assert_eq!(raised(&log), [format!("vip:{first}")]);
    assert_eq!(*heard.lock().unwrap(), 1);
    // And a rule that is removed stops.
    set(&log, []);
    call(&log, "d");
    engine.run_once().unwrap();
    assert_eq!(raised(&log).len(), 1);
}

/// An alert was raised about an entry older than the policy if no engine had looked at the entry yet, and not if one had.
#[test]
fn an_entry_is_judged_by_the_policy_of_its_time_whenever_rules_look() {
    let all = [1, 3, 100].map(|every| {
        let log = AuditLog::in_memory().unwrap();
        let mut steps = 0;
        let mut look = |log: &AuditLog| {
            steps += 1;
            if steps % every == 0 {
                log.alerts().engine().unwrap().run_once().unwrap();
            }
        };
        let mut calls = Vec::new();
        for step in 0..24 {
            match step {
                0 => set(&log, []),
                6 => set(&log, [vip(), failures(3)]),
                10 => set(&log, [vip(), failures(3), Rule::new("other").count(1000)]),
                14 => set(&log, [failures(2)]),
                18 => set(&log, [failures(2), vip()]),
                _ => calls.push(call(&log, ["a", "b", "d"][step % 3])),
            }
            look(&log);
        }
        log.alerts().engine().unwrap().run_once().unwrap();
        // Which call it was; alerts are recorded between the calls.
        let place =
            |alert: attestlog::alert::Alert| (alert.rule, calls.iter().position(|seq| *seq == alert.crossing).unwrap());
        log.alerts().list().unwrap().into_iter().map(|state| place(state.alert)).collect::<Vec<_>>()
    });
    let vips: Vec<usize> = all[0].iter().filter(|(rule, _)| rule == "vip").map(|(_, at)| *at).collect();
    // Each user's first call after the policy; not again for a rule that stays, and again after the rule was out of force.
    assert_eq!(vips, [5, 6, 7, 14, 15, 16]);
    for looked in &all[1..] {
        let sorted = |all: &Vec<(String, usize)>| {
            let mut all = all.clone();
            all.sort();
            all
        };
        assert_eq!(sorted(looked), sorted(&all[0]));
    }
}

/// A rule that was put in force ignored users who had been active in its window before: a count above the threshold was
/// assumed to have been reported already, though nobody had. So a rule for the chart of a VIP missed the first access after
/// it.
#[test]
fn a_new_rule_counts_what_its_window_saw_before_and_raises_what_comes_after() {
    for behind in [false, true] {
        let log = Options::new().in_memory().unwrap();
        set(&log, []);
        let mut engine = log.alerts().engine().unwrap();
        let mut look = |now: bool| {
            if now {
                engine.run_once().unwrap();
            }
        };
        call(&log, "a");
        call(&log, "b");
        call(&log, "b");
        look(!behind);
        set(&log, [failures(2)]);
        look(!behind);
        let (a, b) = (call(&log, "a"), call(&log, "b"));
        call(&log, "a");
        call(&log, "b");
        look(true);
        assert_eq!(raised(&log), [format!("failures:{a}"), format!("failures:{b}")], "behind: {behind}");
        // A policy that leaves the rule unchanged does not restart it.
        set(&log, [failures(2), vip()]);
        call(&log, "a");
        look(true);
        assert_eq!(raised(&log).iter().filter(|id| id.starts_with("failures")).count(), 2);
    }
}
