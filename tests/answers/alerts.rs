//! Promise: an alert is recorded in the chain exactly once, whatever is killed when, and is delivered until somebody
//! accepts it; none of this slows or fails a record.

#![allow(
    dropping_copy_types,
    clippy::double_ended_iterator_last,
    reason = "a test records for the effect, and in order"
)]

use attestlog::Justification;
use attestlog::alert::{Alert, AlertEngine, Callback, Deliver, Hours, JsonLines, Measure, Part, Rule, Rules, Zone};
use attestlog::anchor::Backoff;
use attestlog::emergency::EmergencyAccess;
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, ErrorKind, Facet, Kind, Options, Outcome, PolicySet, Query, ToolCall};
use attestlog_capture::import;
use redb::StorageBackend;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

struct Place {
    log: AuditLog,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Place {
        // A Monday.
        let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
        Place { log: Options::new().clock(clock.clone()).in_memory().unwrap(), clock }
    }

    fn engine(&self, rules: impl IntoIterator<Item = Rule>) -> AlertEngine {
        let rules = rules.into_iter().try_fold(Rules::none(), Rules::with).unwrap();
        self.log.alerts().engine_with(rules).unwrap()
    }

    fn call(&self, user: &str, patient: &str) -> u64 {
        self.log.record(call(user, patient)).unwrap().seq
    }

    fn of(&self, rule: &str) -> Vec<Alert> {
        let alerts = self.log.alerts().list().unwrap().into_iter().map(|state| state.alert);
        alerts.filter(|alert| alert.rule == rule).collect()
    }
}

fn call(user: &str, patient: &str) -> ToolCall {
    ToolCall::new("conv_1", user, "read_chart").patient(patient)
}

fn repeated(n: u32) -> Rule {
    Rule::new("repeated").key([Part::USER, Part::PATIENT]).window(HOUR).count(n)
}

#[test]
fn one_alert_per_crossing_of_a_half_open_window() {
    let place = Place::new();
    let mut engine = place.engine([repeated(3)]);
    let third = (0..3).map(|_| place.call("u", "P-1")).last().unwrap();
    place.call("u", "P-1"); // still above: no second alert
    place.call("u", "P-2");
    engine.run_once().unwrap();
    let alerts = place.of("repeated");
    assert_eq!(alerts.iter().map(|a| a.id.clone()).collect::<Vec<_>>(), [format!("repeated:{third}")]);
    let key = alerts[0].detail.get("key").unwrap().to_canonical();
    assert_eq!(key.as_str(), r#"{"patient":"P-1","user":"u"}"#);
    assert_eq!(alerts[0].detail.get("entries").unwrap().as_array().unwrap().len(), 3);
    // Exactly an hour later all of them are out of the window: the rule can fire again, and three more calls make it fire.
    place.clock.advance(HOUR);
    (0..2).for_each(|_| drop(place.call("u", "P-1")));
    engine.run_once().unwrap();
    assert_eq!(place.of("repeated").len(), 1);
    place.call("u", "P-1");
    engine.run_once().unwrap();
    assert_eq!(place.of("repeated").len(), 2);
    assert_eq!(engine.run_once().unwrap().raised, 0);
}

#[test]
fn built_in_rules_fire_at_what_they_are_for() {
    let place = Place::new();
    let off_hours = Rules::optional("off-hours").unwrap().off_hours(Hours::new(Zone::utc()));
    let rules = Rules::built_in().with(Rules::optional("first-access").unwrap()).unwrap().with(off_hours).unwrap();
    let mut engine = place.log.alerts().engine_with(rules).unwrap();
    let mut run = |place: &Place| {
        engine.run_once().unwrap();
        place.log.alerts().list().unwrap().into_iter().map(|s| s.alert.rule).collect::<Vec<_>>()
    };
    // Ten accesses to one patient by several users, then by one.
    for i in 0..10 {
        place.call(["a", "b"][i % 2], "P-1");
    }
    assert_eq!(run(&place), ["first-access", "first-access", "same-patient-anybody"]);
    for _ in 0..5 {
        place.call("a", "P-1");
    }
    assert_eq!(run(&place)[3..], ["same-patient-user"]);
    for i in 0..50 {
        place.call("c", &format!("Q-{i}"));
    }
    assert_eq!(run(&place).iter().filter(|rule| *rule == "many-patients").count(), 1);
    for i in 0..10 {
        let outcome = [Outcome::Denied, Outcome::ToolError][i % 2];
        place.log.record(ToolCall::new("c", "d", "search").outcome(outcome)).unwrap();
    }
    assert_eq!(run(&place).last().unwrap(), "failures");
    place.clock.advance(12 * HOUR); // ten in the evening
    place.call("a", "P-1");
    place.call("a", "P-1");
    assert_eq!(run(&place).iter().filter(|rule| *rule == "off-hours").count(), 1);
}

#[test]
fn volume_is_measured_against_the_users_own_past() {
    let place = Place::new();
    let rule = Rule::new("volume").window(DAY).measure(Measure::Baseline { multiple: 3.0, periods: 7, at_least: 10 });
    let mut engine = place.engine([rule]);
    for _ in 0..7 {
        (0..5).for_each(|_| drop(place.call("a", "P-1")));
        (0..50).for_each(|_| drop(place.call("busy", "P-1")));
        place.clock.advance(DAY);
    }
    (0..17).for_each(|_| drop(place.call("a", "P-1")));
    (0..60).for_each(|_| drop(place.call("busy", "P-1")));
    engine.run_once().unwrap();
    let users: Vec<_> = place.of("volume").iter().map(|a| a.detail.get("key").unwrap().to_canonical()).collect();
    assert_eq!(users.iter().map(|k| k.as_str()).collect::<Vec<_>>(), [r#"{"user":"a"}"#]);
}

#[test]
fn conditions_restrict_what_counts() {
    let place = Place::new();
    let vip = Rule::new("vip").attribute("vip", true).except(Facet::Purpose, "treatment").key([Part::USER]).count(1);
    let leave = Rule::new("leave").attribute("staff.status", "on_leave").attribute("staff.status", "terminated");
    let tool = Rule::new("tool").when(Facet::Tool, "export").when(Facet::Tool, "print").failed(false);
    let mut engine = place.engine([vip, leave, tool]);
    let with = |key: &str, value: Json| call("u", "P-1").metadata(key, value);
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap().value;
    place.log.record(with("vip", true.into()).purpose("treatment")).unwrap();
    place.log.record(with("vip", "true".into())).unwrap();
    place.log.record(ToolCall::new("c", "u", "print").error("jam")).unwrap();
    engine.run_once().unwrap();
    assert!(place.log.alerts().list().unwrap().is_empty());
    place.log.record(with("attributes", json(r#"{"vip": true}"#)).purpose("research")).unwrap();
    place.log.record(with("staff", json(r#"{"status": ["part_time", "on_leave"]}"#))).unwrap();
    place.log.record(ToolCall::new("c", "u", "print")).unwrap();
    engine.run_once().unwrap();
    let rules: Vec<_> = place.log.alerts().list().unwrap().into_iter().map(|s| s.alert.rule).collect();
    assert_eq!(rules, ["vip", "leave", "tool"]);
}

#[test]
fn patients_and_users_in_rules_are_clear_values_where_the_log_has_pseudonyms() {
    use attestlog::redact::{Policy, Preset};
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Hipaa);
    let log = Options::new().policies(policies).in_memory().unwrap();
    let rules = Rules::none().with(Rule::new("one").when(Facet::Patient, "P-1").key([Part::PATIENT])).unwrap();
    let mut engine = log.alerts().engine_with(rules).unwrap();
    for patient in ["P-2", "P-1\u{200b}"] {
        log.record(call("u", patient)).unwrap();
        log.keys().rotate_pseudonym_key().unwrap();
        engine.run_once().unwrap();
    }
    let alerts = log.alerts().list().unwrap();
    assert_eq!(alerts.len(), 1);
    assert!(!log.entry(alerts[0].alert.seq).unwrap().line().contains("P-1"));
}

#[test]
fn back_filled_recordings_raise_nothing_but_are_remembered() {
    let place = Place::new();
    let mut engine = place.log.alerts().engine().unwrap();
    let line = r#"{"conversation_id":"conv_1","user_id":"u","tool_name":"read_chart","patient_id":"P-1"}"#;
    let recording = format!("{line}\n").repeat(200);
    let recording = import::calls(import::Format::Jsonl, recording.as_bytes(), &import::ImportOptions::new()).unwrap();
    assert_eq!(import::record(&place.log, recording, false, |_| ()).unwrap().receipts.len(), 200);
    engine.run_once().unwrap();
    assert!(place.log.alerts().list().unwrap().is_empty());
    place.call("u", "P-1"); // not the first access: the recording knew it
    engine.run_once().unwrap();
    assert!(place.log.alerts().list().unwrap().is_empty());
}

#[test]
fn the_two_entries_of_a_call_count_once() {
    let place = Place::new();
    let failures = Rule::new("failures").failed(true).count(2);
    let mut engine = place.engine([repeated(2), failures]);
    let begun = place.log.begin(call("u", "P-1")).unwrap();
    begun.finish(|call| call.error("no")).unwrap();
    engine.run_once().unwrap();
    assert!(place.log.alerts().list().unwrap().is_empty());
    // A patient who is known only at the end counts at the end; the other one is not counted again.
    let begun = place.log.begin(call("u", "P-2")).unwrap();
    begun.finish(|call| call.patient("P-1").outcome(Outcome::Timeout)).unwrap();
    engine.run_once().unwrap();
    let alerts = place.log.alerts().list().unwrap();
    let keys: Vec<_> = alerts.iter().map(|s| s.alert.detail.get("key").unwrap().to_canonical().to_string()).collect();
    assert_eq!(keys, [r#"{"patient":"P-1","user":"u"}"#, r#"{"user":"u"}"#]);
}

#[test]
fn emergencies_alert_at_once_when_misused_and_when_nobody_reviews_them() {
    let place = Place::new();
    let mut engine = place.log.alerts().engine().unwrap();
    let mut run = |place: &Place| {
        engine.run_once().unwrap();
        let alerts = place.log.alerts().list().unwrap().into_iter().map(|state| state.alert);
        alerts.filter(|a| a.rule.starts_with("break-glass")).map(|a| a.rule).collect::<Vec<_>>()
    };
    let open = || {
        place
            .log
            .emergency()
            .open(
                EmergencyAccess { user: "dr", patient: "P-1", urgency: "immediate", ttl: HOUR },
                Justification { actor: "dr", reason: "unconscious" },
            )
            .unwrap()
            .seq
    };
    let used = |user: &str, grant| drop(place.log.record(call(user, "P-1").emergency(grant)).unwrap());
    let grant = open();
    used("dr", Some(grant));
    used("dr", Some(grant));
    assert_eq!(run(&place), ["break-glass-used"]);
    used("other", Some(grant));
    assert_eq!(run(&place)[1..], ["break-glass-used", "break-glass-misused"]);
    assert_eq!(place.of("break-glass-misused")[0].detail.get("misuse").unwrap().as_str(), Some("other_user"));
    place.clock.advance(HOUR);
    used("dr", Some(grant));
    // The grant was used before: an alert is raised for its first use, and for each kind of misuse.
    assert_eq!(run(&place)[3..], ["break-glass-misused"]);
    used("dr", None);
    assert_eq!(run(&place)[4..], ["break-glass-used"]);
    // Nobody reviews it for three days: one alert, also after the engine was restarted.
    place.clock.advance(71 * HOUR);
    assert_eq!(run(&place)[5..], ["break-glass-unreviewed"]);
    assert_eq!(place.of("break-glass-unreviewed")[0].id, format!("break-glass-unreviewed:{grant}"));
    place.log.alerts().engine().unwrap().run_once().unwrap();
    assert_eq!(run(&place).len(), 6);
    // Expiry is reported even if nothing is recorded: the engine notices it.
    open();
    place.clock.advance(HOUR);
    run(&place);
    assert_eq!(place.log.count(&Query::new().kind(Kind::BreakGlassClosed)).unwrap(), 2);
}

#[test]
fn alerts_live_as_long_as_what_they_concern() {
    let place = Place::new();
    let mut engine = place.engine([Rule::new("mixed").count(2)]);
    place.log.record(ToolCall::new("c", "u", "issue_refund")).unwrap();
    place.log.record(ToolCall::new("c", "u", "lookup")).unwrap();
    engine.run_once().unwrap();
    let alert = place.log.alerts().list().unwrap()[0].alert.seq;
    let kept = |seq| place.log.entry(seq).unwrap().body.retention.unwrap();
    assert_eq!(kept(alert).class, "financial");
    let ack =
        place.log.alerts().ack(alert, Justification { actor: "office", reason: "explained: month end" }).unwrap().seq;
    assert_eq!(kept(ack), kept(alert));
}

#[test]
fn acknowledging_is_an_entry_with_actor_and_disposition() {
    let place = Place::new();
    place.engine([repeated(1)]).run_once().unwrap();
    let seq = place.call("u", "P-1");
    place.engine([repeated(1)]).run_once().unwrap();
    let alert = place.of("repeated")[0].seq;
    assert_eq!(
        place.log.alerts().ack(seq, Justification { actor: "office", reason: "x" }).unwrap_err().kind(),
        ErrorKind::NoSuchEntry
    );
    assert_eq!(
        place.log.alerts().ack(alert, Justification { actor: "", reason: "x" }).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert!(place.log.alerts().list().unwrap()[0].is_open());
    place.log.alerts().ack(alert, Justification { actor: "office", reason: "explained" }).unwrap();
    let state = &place.log.alerts().list().unwrap()[0];
    assert_eq!(state.acknowledgements[0].disposition, "explained");
    let said = state.to_json();
    assert_eq!(said.get("acknowledged").unwrap().get("actor").unwrap().as_str(), Some("office"));
    let found = place.log.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.is_empty(), "{found:?}");
}

/// The alerts that a receiver got.
#[derive(Default, Clone)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn receiver(&self, name: &str) -> impl Deliver + use<> {
        let told = self.0.clone();
        Callback::new(name, move |alert: &Alert| {
            told.lock().unwrap().push(alert.id.clone());
            Ok(())
        })
    }

    fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn a_receiver_that_fails_is_tried_again_and_holds_up_nobody() {
    let place = Place::new();
    let (told, good) = (Told::default(), Told::default());
    let (taken, tries) = (told.0.clone(), Arc::new(AtomicU64::new(0)));
    let failing = Callback::new("pager", {
        let tries = tries.clone();
        move |alert: &Alert| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("a bug of the host's"),
            1 => Err(Error::new(ErrorKind::Io, "no answer")),
            _ => {
                taken.lock().unwrap().push(alert.id.clone());
                Ok(())
            }
        }
    });
    let backoff = Backoff { first: MINUTE, cap: HOUR };
    let mut engine = place.engine([repeated(1)]).deliver_to(failing).deliver_to(good.receiver("good")).backoff(backoff);
    engine.run_once().unwrap();
    let seqs: Vec<u64> = ["P-1", "P-2"].iter().map(|patient| place.call("u", patient)).collect();
    let run = engine.run_once().unwrap();
    assert_eq!((run.failed.len(), run.failed[0].0.as_str(), run.delivered), (1, "pager", 2));
    assert_eq!(good.ids().len(), 2);
    assert_eq!(engine.run_once().unwrap().failed.len(), 0, "not before the time is up");
    place.clock.advance(MINUTE);
    assert_eq!(engine.run_once().unwrap().failed.len(), 1);
    place.clock.advance(MINUTE);
    engine.run_once().unwrap();
    assert!(told.ids().is_empty(), "the second wait is longer");
    place.clock.advance(MINUTE);
    engine.run_once().unwrap();
    assert_eq!(told.ids(), seqs.iter().map(|seq| format!("repeated:{seq}")).collect::<Vec<_>>());
    // Another engine continues where this one stopped: no receiver gets an alert twice, and a new one gets no old alerts.
    let late = Told::default();
    let mut other = place.engine([repeated(1)]).deliver_to(good.receiver("good")).deliver_to(late.receiver("late"));
    other.run_once().unwrap();
    assert_eq!((good.ids().len(), late.ids().len()), (2, 0));
}

#[test]
fn json_lines_and_programs_get_the_alert() {
    let place = Place::new();
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("lines");
    let file = dir.path().join("piped");
    let out = std::fs::File::create(&lines).unwrap();
    let mut engine = place.engine([repeated(1)]).deliver_to(JsonLines::new("file", out));
    if cfg!(unix) {
        let script = format!("cat >> '{}'", file.display());
        engine = engine.deliver_to(attestlog::alert::CommandReceiver::new("sh", ["-c", &script]));
    }
    engine.run_once().unwrap();
    let seq = place.call("u", "P-\"\n<script>");
    let run = engine.run_once().unwrap();
    assert!(run.failed.is_empty(), "{:?}", run.failed);
    let text = std::fs::read_to_string(&lines).unwrap();
    let alert = Json::parse(text.trim_end().as_bytes()).unwrap().value;
    assert_eq!(alert.get("id").unwrap().as_str(), Some(&*format!("repeated:{seq}")));
    assert_eq!(alert.get("key").unwrap().get("patient").unwrap().as_str(), Some("P-\"\n<script>"));
    assert_eq!(text.lines().count(), 1);
    if cfg!(unix) {
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

#[cfg(feature = "witness")]
#[test]
fn a_webhook_is_signed_and_told_again_until_it_answers_well() {
    use attestlog::alert::Webhook;
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alerts?token=x", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        [500, 204].map(|status| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut headers, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(n) = line.strip_prefix("content-length: ") {
                    length = n.parse().unwrap();
                }
                headers.push(line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            (headers, body)
        })
    });
    let secret = b"a secret of both sides";
    assert!(Webhook::new(&url, *b"short", MINUTE).is_err());
    let webhook = Webhook::new(&url, *secret, MINUTE).unwrap();
    assert!(!format!("{webhook:?}").contains("secret of"));
    let place = Place::new();
    let mut engine = place.engine([repeated(1)]).deliver_to(webhook).backoff(Backoff { first: MINUTE, cap: HOUR });
    engine.run_once().unwrap();
    place.call("u", "P-1");
    assert_eq!(engine.run_once().unwrap().failed.len(), 1);
    place.clock.advance(MINUTE);
    assert_eq!(engine.run_once().unwrap().delivered, 1);
    let asked = server.join().unwrap();
    assert_eq!(asked[0].1, asked[1].1, "the same alert with the same id");
    let signature = format!("attestlog-signature: {}", Webhook::signature(secret, &asked[1].1));
    assert!(asked[1].0.contains(&signature), "{:?}", asked[1].0);
}

/// Storage that fails permanently after a number of writes and syncs, and comes back with what had been written.
#[derive(Debug, Clone)]
struct Mortal {
    bytes: Arc<Mutex<Vec<u8>>>,
    left: Arc<AtomicU64>,
}

impl Mortal {
    fn new() -> Mortal {
        Mortal { bytes: Arc::default(), left: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    fn step(&self) -> io::Result<()> {
        let lives = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        lives.map(drop).map_err(|_| io::Error::other("killed"))
    }
}

impl StorageBackend for Mortal {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        out.copy_from_slice(&bytes[offset as usize..offset as usize + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.bytes.lock().unwrap()[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn killed_at_any_step_every_alert_is_in_the_chain_once_and_was_delivered() {
    let rules = || {
        let many = Rule::new("many").distinct(Facet::Patient, 3);
        let first = Rule::new("first").first_access().key([Part::USER, Part::PATIENT]);
        [repeated(2), many, first].into_iter().try_fold(Rules::none(), Rules::with).unwrap()
    };
    let record = |log: &AuditLog, round: usize| {
        let calls = (0..4).map(|i| call(["a", "b"][i % 2], &format!("P-{}", (i + round) % 5)));
        log.record_batch(calls).unwrap();
    };
    let rounds = 4;
    // Without a failure.
    let expected = {
        let log = Options::new().in_memory().unwrap();
        let mut engine = log.alerts().engine_with(rules()).unwrap();
        for round in 0..rounds {
            record(&log, round);
            engine.run_once().unwrap();
        }
        fired(&log)
    };
    assert!(expected.len() > 8, "{expected:?}");
    for dies_after in 0..60 {
        let storage = Mortal::new();
        let told = Told::default();
        let backend = storage.clone();
        let options = || Options::new().background(false).without_keys();
        let mut log = options().create_on(move || -> Box<dyn StorageBackend> { Box::new(backend.clone()) }).unwrap();
        for round in 0..rounds {
            record(&log, round);
            let mut engine = log.alerts().engine_with(rules()).unwrap().deliver_to(told.receiver("told"));
            storage.left.store(dies_after, Ordering::SeqCst);
            let _ = engine.run_once();
            drop(engine);
            drop(log);
            storage.left.store(u64::MAX, Ordering::SeqCst);
            let backend = storage.clone();
            log = options().open_on(move || -> Box<dyn StorageBackend> { Box::new(backend.clone()) }).unwrap();
            let mut engine = log.alerts().engine_with(rules()).unwrap().deliver_to(told.receiver("told"));
            engine.run_once().unwrap();
        }
        assert_eq!(fired(&log), expected, "killed after {dies_after} steps");
        let ids: Vec<String> = log.alerts().list().unwrap().into_iter().map(|state| state.alert.id).collect();
        let told = told.ids();
        assert!(ids.iter().all(|id| told.contains(id)), "killed after {dies_after} steps: {ids:?} {told:?}");
        let mut once = ids.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), ids.len());
        let found = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
        assert!(found.is_empty(), "{found:?}");
    }
}

/// The alerts by rule, and by the call that fired them, counted without the store's own entries.
fn fired(log: &AuditLog) -> Vec<(String, usize)> {
    let calls: Vec<u64> = log.query(&Query::new().kind(Kind::ToolCall)).unwrap().map(|e| e.unwrap().seq).collect();
    let place = |seq: u64| calls.iter().position(|call| *call == seq).unwrap();
    log.alerts().list().unwrap().into_iter().map(|state| (state.alert.rule, place(state.alert.crossing))).collect()
}

#[test]
fn two_engines_say_nothing_twice() {
    let place = Place::new();
    let (mut one, mut two) = (place.engine([repeated(2)]), place.engine([repeated(2)]));
    for _ in 0..3 {
        one.run_once().unwrap();
        two.run_once().unwrap();
        (0..2).for_each(|_| drop(place.call("u", "P-1")));
        place.clock.advance(HOUR);
    }
    two.run_once().unwrap();
    one.run_once().unwrap();
    assert_eq!(place.of("repeated").len(), 3);
}

#[test]
fn in_the_background_it_wakes_when_something_is_recorded() {
    let log = Options::new().in_memory().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let rules = Rules::none().with(repeated(3)).unwrap();
    let receiver = Callback::new("test", move |alert: &Alert| {
        told.send(alert.id.clone()).map_err(|_| Error::new(ErrorKind::Closed, "gone"))
    });
    let running = log.alerts().engine_with(rules).unwrap().deliver_to(receiver).start().unwrap();
    let third = (0..3).map(|_| log.record(call("u", "P-1")).unwrap().seq).last().unwrap();
    assert_eq!(heard.recv_timeout(MINUTE).unwrap(), format!("repeated:{third}"));
    running.stop();
    assert_eq!(log.alerts().list().unwrap().len(), 1);
}

#[test]
fn rules_stand_in_the_policy_entry_and_come_back() {
    let mut policies = PolicySet::default();
    policies.alerts = Rules::none().with(repeated(2)).unwrap();
    let log = Options::new().policies(policies.clone()).in_memory().unwrap();
    assert_eq!(log.retention().policies().unwrap().alerts, policies.alerts);
    assert!(log.entry(1).unwrap().line().contains(r#""name":"repeated""#));
}

#[test]
fn working_hours_know_zones_shifts_and_holidays() {
    let at = |text: &str| text.parse().unwrap();
    let nights = Hours::new(Zone::utc()).between("22:00", "06:00").unwrap().days(["fri"]).unwrap();
    assert!(!nights.are_off(at("2026-03-06T23:00:00Z"))); // Friday night
    assert!(!nights.are_off(at("2026-03-07T05:59:59Z"))); // the same shift
    assert!(nights.are_off(at("2026-03-07T06:00:00Z")));
    assert!(nights.are_off(at("2026-03-06T05:00:00Z"))); // Thursday's night is nobody's shift
    assert!(Zone::named("Mars/Olympus").is_err() && Zone::named("+15:00").is_err());
}

#[cfg(feature = "config")]
mod config {
    use super::*;

    #[test]
    fn zones_have_their_summer_time() {
        let berlin = Hours::new(Zone::named("Europe/Berlin").unwrap());
        assert!(!berlin.are_off("2026-07-06T05:00:00Z".parse().unwrap())); // seven in summer
        assert!(berlin.are_off("2026-01-05T05:00:00Z".parse().unwrap())); // six in winter
    }

    #[test]
    fn a_file_changes_built_in_rules_and_adds_others() {
        let text = r#"
            [retention]
            default = "general"

            [[alerts]]
            name = "off-hours"
            off_hours = { zone = "Europe/Berlin", days = ["mon", "sat"], from = "06:30", to = "20:00", holidays = [2026-12-25] }

            [[alerts]]
            name = "failures"
            enabled = false

            [[alerts]]
            name = "first-access"
            severity = "warning"

            [[alerts]]
            name = "vip"
            severity = "critical"
            attributes.vip = true
            attributes.care.relationship = ["none", "ended"]
            when = { tool = ["read_chart"], outcome = "ok" }
            except.purpose = "treatment"
            key = ["user", "patient"]
            window = "1h30m"
            distinct = { facet = "conversation", count = 2 }
        "#;
        let rules = Rules::from_toml(text, "store.toml").unwrap();
        assert!(rules.get("failures").is_none());
        let first = Rules::optional("first-access").unwrap().severity(attestlog::alert::Severity::Warning);
        assert_eq!(rules.get("first-access"), Some(&first));
        let vip = Rule::new("vip")
            .severity(attestlog::alert::Severity::Critical)
            .attribute("vip", true)
            .attribute("care.relationship", "none")
            .attribute("care.relationship", "ended")
            .when(Facet::Tool, "read_chart")
            .when(Facet::Outcome, "ok")
            .except(Facet::Purpose, "treatment")
            .key([Part::USER, Part::PATIENT])
            .window(90 * MINUTE)
            .distinct(Facet::Conversation, 2);
        assert_eq!(rules.get("vip"), Some(&vip));
        assert_eq!(Rules::from_json(&rules.to_json()).unwrap(), rules);
        let none = Rules::from_toml("[[alerts]]\nname = '*'\nenabled = false\n", "f").unwrap();
        assert_eq!(none, Rules::none());
        assert_eq!(Rules::from_toml("", "f").unwrap(), Rules::built_in());
    }

    #[test]
    fn faults_are_told_with_file_line_and_column() {
        let cases = [
            ("[[alerts]]\nname = 'x'\ncolour = 1\n", "f:3:1: "),
            ("[[alerts]]\nname = 'x'\noff_hours = { zone = 'Europe/Berln' }\n", "f:3:"),
            ("[[alerts]]\nname = 'off-hours'\n", "f:2:8: "),
            ("[[alerts]]\nname = 'x'\noff_hours = { from = '08:00' }\n", "f:3:"),
            ("[[alerts]]\nname = 'x'\nkey = ['user', 'pacient']\n", "f:3:7: "),
            ("[[alerts]]\nname = 'x'\nwindow = 'soon'\n", "f:3:10: "),
            ("[[alerts]]\nname = 'x'\ncount = 0\n", "f:3:9: "),
            ("[[alerts]]\nname = 'x'\ncount = 2\ndistinct = { facet = 'patient', count = 2 }\n", "f:4:1: "),
            ("[[alerts]]\nname = 'x'\nwhen = { colour = 'red' }\n", "f:3:"),
            ("[[alerts]]\nname = 'x'\nbaseline = { multiple = 'much' }\n", "f:3:"),
            ("[[alerts]]\nname = 'X y'\n", "f:2:8: "),
            ("[[alerts]]\ncount = 2\n", "f:1:1: "),
            ("[[alerts]]\nname = 'failures'\n[[alerts]]\nname = 'failures'\n", "f:4:8: "),
            ("[[alerts]\n", "f:1:"),
            ("alerts = 3\n", "f:1:10: "),
        ];
        for (text, place) in cases {
            let e = Rules::from_toml(text, "f").unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().starts_with(place), "{text}: {e}");
        }
    }
}
