//! What surrounds a call is treated by the policy like everything else, and details stay as long as their call. Invariants R94, R95.

use attestlog::entry::{Approval, Circumstances, Decision, Peer, Source, SourceKind};
use attestlog::host::ManualClock;
use attestlog::redact::{Action, IdentityKind, Policy, Preset};
use attestlog::retention::HoldSelector;
use attestlog::{AuditLog, Facet, Justification, Options, PolicySet, Query, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

fn around(log: &AuditLog, seq: u64) -> Circumstances {
    let entry = log.entry(seq).unwrap();
    *entry.call().unwrap().circumstances.clone().unwrap()
}

fn policies(of: Policy) -> PolicySet {
    let mut policies = PolicySet::default();
    policies.redaction = of;
    policies
}

/// A token in the address of a resource, and secrets that were given as the names of an approver, a rule, a program, a trace or a
/// prompt, stood in the log in clear.
#[test]
fn no_secret_is_written_wherever_it_stands() {
    // The floor looks at no names.
    for preset in Preset::ALL.into_iter().filter(|preset| *preset != Preset::Floor) {
        let log = Options::new().policies(policies(Policy::preset(preset))).in_memory().unwrap();
        let address = format!("https://api.example.org/v1/items?access_token={SECRET}&page=2");
        let approval = Approval {
            by: Some(SECRET.to_owned()),
            source: Some(format!("token {SECRET}")),
            ..Approval::new(Decision::Allowed)
        };
        let source = Source {
            program: Some(format!("agent-{SECRET}")),
            version: Some(SECRET.to_owned()),
            ..Source::new(SourceKind::Hook)
        };
        let mut call = ToolCall::new("c", "u", "t")
            .trace(SECRET, Some(SECRET))
            .prompt(SECRET)
            .parent(SECRET, Some(SECRET))
            .approval(approval)
            .source(source)
            .resource("url", address.clone())
            .resource(SECRET, "plain")
            .resource("url", "https://example.org/docs/page.html");
        call.circumstances.peer =
            Some(Peer { uid: 0, gid: 0, pid: 1, started: None, program: Some(format!("/bin/{SECRET}")) });
        let seq = log.record(call).unwrap().seq;
        let line = log.entry(seq).unwrap().line();
        assert!(!line.contains(SECRET) && !line.contains("access_token"), "{preset:?}: {line}");
        let plain = around(&log, seq).resources.iter().any(|one| one.name == "https://example.org/docs/page.html");
        assert!(plain, "{preset:?}: {line}");
        for place in ["approval.by", "resources[", "trace_id", "peer.program", "sources[0].version", "prompt_id"] {
            assert!(line.split("treated").nth(1).unwrap().contains(place), "{preset:?}, {place}: {line}");
        }
        // What became a pseudonym is still found by its name.
        for (facet, value) in
            [(Facet::Resource, &*address), (Facet::Trace, SECRET), (Facet::Peer, &format!("/bin/{SECRET}"))]
        {
            assert_eq!(log.count(&Query::new().facet(facet, value)).unwrap(), 1, "{preset:?}, {facet}");
        }
        assert!(log.verify(&Default::default()).unwrap().ok());
    }
}

/// Where the policy hides users, the name of whoever approved stood in clear beside their own pseudonym.
#[test]
fn an_approver_is_written_like_a_user() {
    let hidden = Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Pseudonymise).build().unwrap();
    let log = Options::new().policies(policies(hidden)).in_memory().unwrap();
    let by = |name: &str| Approval { by: Some(name.to_owned()), ..Approval::new(Decision::Allowed) };
    let own = log.record(ToolCall::new("c", "dr_smith", "t").approval(by(" dr_smith"))).unwrap().seq;
    let other = log.record(ToolCall::new("c", "dr_jones", "t").approval(by("dr_smith"))).unwrap().seq;
    let user = log.entry(own).unwrap().call().unwrap().user_id.clone();
    for seq in [own, other] {
        assert_eq!(around(&log, seq).approval.unwrap().by, Some(user.clone()));
        assert!(!log.entry(seq).unwrap().line().contains("dr_smith"));
    }
    // A program whose path names the user whom the policy hides is hidden as well, and found by its path.
    let mut call = ToolCall::new("c", "dr_smith", "t").resource("file", "/home/dr_smith/notes.txt");
    let program = Some("/home/dr_smith/bin/agent".to_owned());
    call.circumstances.peer = Some(Peer { uid: 0, gid: 0, pid: 1, started: None, program });
    let seq = log.record(call).unwrap().seq;
    assert!(!log.entry(seq).unwrap().line().contains("dr_smith"));
    assert_eq!(log.count(&Query::new().peer("/home/dr_smith/bin/agent")).unwrap(), 1);
    assert_eq!(log.count(&Query::new().resource("/home/dr_smith/notes.txt")).unwrap(), 1);
}

/// Details had the retention of their own tool and patients: they were purged while their call was kept, or kept while it was gone.
#[test]
fn details_stay_exactly_as_long_as_their_call() {
    let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
    for held in [false, true] {
        let log = Options::new().clock(clock.clone()).background(false).in_memory().unwrap();
        let call = || ToolCall::new("c", "u", "search");
        let told = |of| call().source(Source::new(SourceKind::Telemetry)).detail_of(of).trace("t", None);
        let later = clock_plus(&clock, 900);
        let kept = log.record(call().retain_until(later)).unwrap().seq;
        let of_kept = log.record(told(kept)).unwrap().seq;
        let plain = log.record(call().patient("P-1")).unwrap().seq;
        let of_plain = log.record(told(plain)).unwrap().seq;
        let begun = log.begin(call()).unwrap();
        let of_begun = log.record(told(begun.receipt().seq)).unwrap().seq;
        let end = begun.finish(|call| call.result(true)).unwrap().seq;
        if held {
            let mut covering = HoldSelector::default();
            covering.patients.insert("P-1".to_owned());
            log.retention().place_hold("case", covering, Justification { actor: "counsel", reason: "r" }).unwrap();
        }
        log.flush_index().unwrap();
        let there = |seq: u64| log.entry(seq).is_ok();
        advance(&log, &clock, 800);
        log.retention().purge("admin").unwrap();
        assert!(there(kept) && there(of_kept), "the call is kept");
        assert!(there(plain) && there(of_plain), "calls about patients are kept longer, and so are their details");
        assert!([of_begun, end, end - 2].iter().all(|seq| !there(*seq)), "begun, told of, ended: all expired");
        // What is gone can still be told of: nobody knows any more whether it was this call.
        let late = log.record(told(of_begun - 1)).unwrap().seq;
        assert!(there(late));
        assert!(log.verify(&Default::default()).unwrap().ok());
        advance(&log, &clock, 3000);
        log.retention().purge("admin").unwrap();
        assert!(!there(kept) && !there(of_kept) && !there(late));
        // A hold on the patient keeps the details, which do not name the patient.
        assert_eq!([plain, of_plain].map(there), [held; 2]);
        assert!(log.verify(&Default::default()).unwrap().ok());
    }
}

fn clock_plus(clock: &Arc<ManualClock>, days: u64) -> attestlog::Timestamp {
    attestlog::host::Clock::now(&**clock).plus(Duration::from_secs(days * 86_400))
}

fn advance(log: &AuditLog, clock: &Arc<ManualClock>, days: u64) {
    clock.advance(Duration::from_secs(days * 86_400));
    log.retention().confirm_clock(Justification { actor: "admin", reason: "the machine was off" }).unwrap();
}
