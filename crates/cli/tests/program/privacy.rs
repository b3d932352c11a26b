//! Nothing sensitive reaches the disk in clear: a session full of secrets is recorded, and then every byte of the store and
//! of the files beside it, and everything that the program prints, is searched for them.

use crate::common::Place;
use attestlog::Justification;
use attestlog::entry::{Source, SourceKind};
use attestlog::json::Json;
use attestlog::redact::{Action, IdentityKind, Policy, Preset, is_pseudonym};
use attestlog::retention::{HoldSelector, PatientPaths};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Options, Outcome, PolicySet, Query, Sender, ToolCall};
use std::fs;
use std::path::Path;

/// One of each kind.
const SECRETS: &[&str] = &[
    "4111 1111 1111 1111",
    "5500-0055-5555-5559",
    "378282246310005",
    "460-89-9847",
    "jane.roe@example.org",
    "+1 415 555 2671",
    "(212) 555-0187",
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
    "203.0.113.77",
    "2001:db8:85a3::8a2e:370:7334",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "AKIAQ3EGRIVZ7J4NB2XK",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "sk-ant-api03-R2D2c3poLukeLeiaHanChewieObiwanYodaMaceQuigonAnakinPadmeJarjarDookuMaulSidiousVader1-AAAAAAAA",
    "postgres://billing:hunter2-hunter2@db.internal/main",
];

/// Secrets that are recognised only by their name.
const NAMED: &[&str] = &["correct-horse-1", "correct-horse-2", "correct-horse-3", "correct-horse-4", "correct-horse-5"];
const PEM: &str =
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----";
const BIRTH: &str = "1984-02-29";
const PATIENT: &str = "MRN-77-4711";

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap().value
}

fn text(text: &str) -> String {
    Json::from(text).to_canonical().as_str().to_owned()
}

/// Whether people and machines may have this as a name: entries are found by names, so the policy decides whether it stays.
fn is_a_name(secret: &str) -> bool {
    ["@example.org", "+1", "(212)", "203.", "2001:"].iter().any(|part| secret.contains(part))
}

/// Everything that must not be found: what was planted, in other cases, and numbers without their separators.
fn needles() -> Vec<String> {
    let mut out: Vec<String> = SECRETS.iter().chain(NAMED).map(|&s| s.to_owned()).collect();
    out.extend(["MIGHAgEAMBMGByqGSM49", "hunter2-hunter2", BIRTH, PATIENT].map(str::to_owned));
    out.extend(["MRN_77_4711", "MRN 77 4711", "MRN/77/4711"].map(str::to_owned));
    for secret in SECRETS {
        let digits: String = secret.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')')).collect();
        if digits.len() >= 9 {
            out.push(digits);
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The needles that occur in these bytes, in any case.
fn found(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.to_ascii_lowercase();
    let stands = |needle: &String| {
        let needle = needle.to_ascii_lowercase();
        bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
    };
    needles().into_iter().filter(stands).collect()
}

/// Lines of the input format: each secret alone, in a text, deep in objects and arrays, in JSON inside a string, as a key,
/// in results, in errors, in the session's metadata.
fn session() -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |members: &str| {
        let n = lines.len();
        lines.push(format!(
            r#"{{"conversation_id":"conv_{}","user_id":"usr_1","tool_name":"get_chart","patient_id":"{PATIENT}",{members}}}"#,
            n % 3
        ));
    };
    for secret in SECRETS {
        let (bare, inside) = (text(secret), text(&format!("please use {secret}, thank you")));
        let held = text(&format!(r#"{{"deep":[{{"x":{bare}}}],"n":{inside}}}"#));
        line(&format!(r#""arguments":{{"a":{bare},"b":{inside},"c":[[{{"d":[{bare}]}}]],"held":{held}}}"#));
        line(&format!(r#""arguments":{{{bare}:1}},"result":{{"rows":[{{"id":1,"note":{inside}}}],"held":{held}}}"#));
        line(&format!(r#""error":{{"type":"Bad","message":{inside}}},"session_metadata":{{"extra":{inside}}}"#));
        line(&format!(r#""result":[{bare},{{"content":{inside},"isError":true}}]"#));
    }
    let [one, two, three, four, five] = NAMED else { unreachable!() };
    for key in ["password", "PASSWORD", "passWord", "pass_word", "Pass-Word", "user.password", "db_password_2"] {
        line(&format!(r#""arguments":{{"{key}":"{one}","in":{{"{key}":["{two}",{{"x":"{three}"}}]}}}}"#));
    }
    for key in ["apiKey", "API_KEY", "X-Api-Key", "api key", "client_secret", "accessToken", "ssn", "cvv"] {
        line(&format!(r#""arguments":{{"{key}":"{four}"}},"result":{{"{key}":"{five}"}}"#));
    }
    line(&format!(
        r#""arguments":[{{"name":"password","value":"{one}"}},["authorization","{two}"],["--token","{three}"]]"#
    ));
    line(&format!(
        r#""arguments":{{"cmd":"run --password {one} --x","q":"password={two}&x=1","c":"api_key: {three}"}}"#
    ));
    let held = text(&format!(r#"{{"apiKey":"{four}","l":["--secret","{five}"]}}"#));
    line(&format!(r#""arguments":{{"body":{held},"twice":{}}}"#, text(&held)));
    line(&format!(r#""arguments":{{"key":{},"note":"born: {BIRTH}","dob":"{BIRTH}"}}"#, text(PEM)));
    line(&format!(r#""arguments":{{"h":"Authorization: Bearer {one}","h2":"Cookie: session={two}"}}"#));
    // The patient's name where no rule expects it.
    line(&format!(r#""arguments":{{"subject":"{PATIENT}","note":"chart of mrn 77 4711.","{PATIENT}":[1]}}"#));
    line(&format!(r#""error":"no such chart: MRN/77/4711","call_id":"call-{PATIENT}","agent_id":"agent {PATIENT}""#));
    line(&format!(r#""result":{{"id":"{PATIENT}","rows":[{{"patient_ref":"MRN_77_4711"}}]}}"#));
    // Below a key that names the patient, and with only short names.
    line(&format!(
        r#""arguments":{{"{PATIENT}":{{"password":"{one}","ssn":"{two}"}}}},"result":{{"MRN 77 4711":[{{"token":"{three}"}}]}}"#
    ));
    line(&format!(r#""purpose":"treat {PATIENT}","model":"model of {PATIENT}""#));
    // Secrets in the names by which entries are found.
    for secret in SECRETS.iter().filter(|s| !is_a_name(s)).map(|s| text(s)) {
        lines.push(format!(
            r#"{{"conversation_id":{secret},"user_id":{secret},"tool_name":{secret},"patient_ids":["{PATIENT}",{secret}],"model":{secret},"agent_id":{secret},"tool_server":{secret},"call_id":{secret},"purpose":{secret}}}"#
        ));
    }
    let mut line = |members: &str| {
        lines.push(format!(
            r#"{{"conversation_id":"conv_1","user_id":"usr_1","tool_name":"get_chart","patient_id":"{PATIENT}",{members}}}"#
        ));
    };
    line(&format!(r#""session_metadata":{{"screen":"/charts/{PATIENT}/labs"}},"tool_server":"{PATIENT}""#));
    line(&format!(r#""sender":{{"id":"desk {PATIENT}","number":1}}"#));
    lines.push(format!(
        r#"{{"conversation_id":"portal {PATIENT}","user_id":"{PATIENT}","tool_name":"t","patient_ids":["{PATIENT}","P-2"]}}"#
    ));
    lines
}

fn policies() -> PolicySet {
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Hipaa)
        .field_as("arguments.subject", "patient")
        .field("cvv", Action::Drop)
        .field("ssn", Action::Seal)
        .build()
        .unwrap();
    set.patients = PatientPaths::new([("get_chart", ["arguments.subject"])]).unwrap();
    set.results.keep_full = Some(100_000);
    set
}

/// Searches every file of a directory.
fn search(dir: &Path) {
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(found(&fs::read(&path).unwrap()), Vec::<String>::new(), "{}", path.display());
    }
}

/// Searches every line as it was hashed: the file's contents may be compressed.
fn search_lines(log: &AuditLog) {
    for entry in log.query(&Query::new()).unwrap() {
        let line = entry.unwrap().line();
        assert_eq!(found(line.as_bytes()), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let all = session().join("\n").replace("\\n", "\n");
    let there = found(all.as_bytes());
    for planted in SECRETS.iter().chain(NAMED).chain(&[BIRTH, PATIENT, "mrn 77 4711", "MRN/77/4711"]) {
        assert!(there.iter().any(|n| n.eq_ignore_ascii_case(planted)), "{planted}");
    }
}

#[test]
fn no_secret_of_a_session_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let log = Options::new().policies(policies()).create(&path).unwrap();
    let calls: Vec<ToolCall> = session().iter().map(|l| ToolCall::from_jsonl(l.as_bytes()).unwrap()).collect();
    let total = calls.len() as u64;
    for call in calls.clone() {
        log.record(call).unwrap();
    }
    search_lines(&log);
    let of_patient = Query::new().patient(PATIENT);
    assert_eq!(log.count(&of_patient).unwrap(), total);
    assert_eq!(log.count(&Query::new().patient(format!(" {PATIENT}\u{200b}"))).unwrap(), total);
    assert_eq!(log.count(&Query::new().patient("mrn 77 4711")).unwrap(), 0, "another spelling is another patient");
    assert_eq!(log.count(&Query::new().user(PATIENT)).unwrap(), 1);
    assert_eq!(log.count(&Query::new().conversation(format!("portal {PATIENT}"))).unwrap(), 1);
    // Administrative entries name the patient by pseudonym, whatever people write.
    let mut covering = HoldSelector::default();
    covering.patients.insert(PATIENT.to_owned());
    let reason = format!("{PATIENT} complained; call jane.roe@example.org");
    let hold = log
        .retention()
        .place_hold("case of MRN 77 4711", covering, Justification { actor: PATIENT, reason: &reason })
        .unwrap();
    let line = log.entry(hold.seq).unwrap().line();
    assert!(line.contains("case of ps_") && line.contains(" complained; call [REDACTED:email]"), "{line}");
    log.retention().release_hold(hold.seq, Justification { actor: "clerk", reason: &reason }).unwrap();
    let sealed = log.query(&Query::new().patient(PATIENT)).unwrap().map(Result::unwrap);
    let sealed = sealed.filter(|e| e.line().contains(r#""sealed":{"#)).map(|e| e.seq).next().unwrap();
    let shown =
        log.privacy().reveal(sealed, "arguments.ssn", Justification { actor: "clerk", reason: &reason }).unwrap();
    assert_eq!(shown, Json::from(NAMED[3]));
    // New keys: what was recorded before is found by the same clear name, and stays hidden.
    for _ in 0..2 {
        log.keys().rotate_pseudonym_key().unwrap();
        for call in calls.iter().filter(|c| **c != calls[calls.len() - 2]).cloned() {
            log.record(call).unwrap();
        }
    }
    // The numbered call is not recorded again, and one occurs twice.
    assert_eq!(log.count(&of_patient).unwrap(), 3 * total - 2);
    log.keys().rotate_epoch_key().unwrap();
    log.retention().confirm_clock(Justification { actor: "clerk", reason: &reason }).unwrap();
    log.flush_index().unwrap();
    search_lines(&log);
    // Copies keep sealed values, and reveal nothing else either.
    let copy = dir.path().join("copy");
    log.backup(&copy).unwrap();
    log.privacy().erase(PATIENT, Justification { actor: "clerk", reason: &reason }).unwrap();
    assert!(log.privacy().reveal(sealed, "arguments.ssn", Justification { actor: "clerk", reason: "again" }).is_err());
    search_lines(&log);
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok(), "{:?}", verification.findings);
    for entry in log.query(&of_patient).unwrap() {
        assert!(entry.unwrap().call().unwrap().patient_ids.iter().all(|p| is_pseudonym(p)));
    }
    log.close().unwrap();
    search(dir.path());

    // Without the key file, and with another store's, nothing is found by the clear name, and nobody is told that there is
    // nothing.
    let other = dir.path().join("other");
    Options::new().policies(policies()).create(&other).unwrap().close().unwrap();
    let log = Options::new().key_file(dir.path().join("nowhere.key")).open(&path).unwrap();
    assert_eq!(log.count(&of_patient).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(log.record(ToolCall::new("c", "u", "t")).unwrap_err().kind(), ErrorKind::Key);
    log.close().unwrap();
    let wrong = Options::new().key_file(dir.path().join("other.key")).open(&path).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Key);
}

#[test]
fn two_stores_have_nothing_in_common_about_one_patient() {
    let names = [(); 2].map(|()| {
        let log = Options::new().policies(policies()).in_memory().unwrap();
        let seq = log.record(ToolCall::new("c", "u", "t").patient(PATIENT)).unwrap().seq;
        log.entry(seq).unwrap().call().unwrap().patient_ids[0].clone()
    });
    assert_ne!(names[0], names[1]);
}

#[test]
fn what_was_hidden_is_said_and_the_rest_is_untouched() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let arguments = json(r#"{"ssn":"1","subject":"P-1","note":"see P-1","weight":71.5,"list":["a",null,true]}"#);
    let seq = log.record(ToolCall::new("c", "u", "get_chart").arguments(arguments)).unwrap().seq;
    let entry = log.entry(seq).unwrap();
    let call = entry.call().unwrap();
    let pseudonym = &call.patient_ids[0];
    let arguments = call.arguments.as_ref().unwrap().to_json();
    assert_eq!(arguments.get("subject").and_then(Json::as_str), Some(pseudonym.as_str()));
    assert_eq!(arguments.get("note").and_then(Json::as_str), Some(&*format!("see {pseudonym}")));
    assert_eq!(arguments.get("list"), Some(&json(r#"["a",null,true]"#)));
    assert_eq!(arguments.get("weight"), Some(&json("71.5")));
    let treated = call.treated.as_ref().unwrap().as_str();
    let expected = r#"{"pseudonymise":{"patient":["arguments.note"],"rule":["arguments.subject"]},"seal":{"rule":["arguments.ssn"]}}"#;
    assert_eq!(treated, expected);
    assert_eq!(call.policy_seq, 1);
    // Under a policy that keeps patients in clear they stay.
    let log = AuditLog::in_memory().unwrap();
    let call = ToolCall::new("c", "u", "t").patient("P-1").arguments(json(r#"{"note":"see P-1"}"#));
    assert!(log.entry(log.record(call).unwrap().seq).unwrap().line().contains("see P-1"));
}

/// A key that named the patient was replaced after the values below it had been treated. So the entry's `treated` still had
/// the name, and the values below it were sealed under a path that no entry had: nobody could reveal them.
#[test]
fn below_a_key_that_names_somebody_paths_are_those_of_the_entry() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let arguments = json(r#"{"P-4711":{"ssn":"460-89-9847","password":"x"},"p 4711":[1]}"#);
    let call = ToolCall::new("c", "u", "t").patient("P-4711").arguments(arguments);
    let entry = log.entry(log.record(call).unwrap().seq).unwrap();
    assert!(!entry.line().to_lowercase().contains("4711\":") && !entry.line().contains("P-4711"), "{}", entry.line());
    let pseudonym = &entry.call().unwrap().patient_ids[0];
    let sealed = format!("arguments.{pseudonym}.ssn");
    assert!(entry.call().unwrap().treated.as_ref().unwrap().as_str().contains(&sealed));
    assert_eq!(
        log.privacy().reveal(entry.seq, &sealed, Justification { actor: "clerk", reason: "claim" }).unwrap(),
        Json::from("460-89-9847")
    );
    // Two spellings of one name give one pseudonym, and both members stay.
    let both = entry.call().unwrap().arguments.as_ref().unwrap().to_json();
    assert_eq!(both.as_object().unwrap().len(), 2);
    // A name that equals a secret's name does not weaken the floor.
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Pseudonymise).build().unwrap();
    let log = Options::new().policies(set).in_memory().unwrap();
    let call = ToolCall::new("c", "password", "t").arguments(json(r#"{"password":"hunter2"}"#));
    assert!(!log.entry(log.record(call).unwrap().seq).unwrap().line().contains("hunter2"));
}

#[test]
fn secrets_are_no_names_under_any_policy() {
    let log = AuditLog::in_memory().unwrap();
    let (ssn, key) = ("460-89-9847", "sk_live_abcdefghijklmnop");
    let call =
        ToolCall::new(format!("chat {ssn}"), key, format!("tool {key}")).patient(ssn).purpose("ask jane@example.org");
    let call = call.model(key).agent(format!("agent {key}")).server("https://u:hunter2@mcp.example.org/x");
    let entry = log.entry(log.record(call.clone()).unwrap().seq).unwrap();
    let line = entry.line();
    for secret in [ssn, key, "hunter2", "jane"] {
        assert!(!line.contains(secret), "{secret} in {line}");
    }
    let recorded = entry.call().unwrap();
    assert!(is_pseudonym(&recorded.user_id) && is_pseudonym(&recorded.patient_ids[0]));
    let treated = recorded.treated.as_ref().unwrap().as_str();
    assert!(
        treated.contains(r#""pseudonymise":{"api_key":["agent_id","model","tool_name","user_id"],"#)
            && treated.contains(r#""ssn":["conversation_id","patient_ids"]}"#),
        "{treated}"
    );
    // It is found by its name.
    for query in [
        Query::new().patient(ssn),
        Query::new().user(key),
        Query::new().conversation(format!("chat {ssn}")),
        Query::new().tool(format!("tool {key}")),
        Query::new().model(key),
        Query::new().purpose("ask jane@example.org"),
    ] {
        assert_eq!(log.count(&query).unwrap(), 1, "{query:?}");
    }
    // A user's e-mail address is a name. The policy decides whether it stays.
    let entry = log.entry(log.record(ToolCall::new("c", "jane@example.org", "t")).unwrap().seq).unwrap();
    assert_eq!(entry.call().unwrap().user_id, "jane@example.org");
    // Without keys there are no pseudonyms.
    let log = Options::new().without_keys().in_memory().unwrap();
    let entry = log.entry(log.record(call).unwrap().seq).unwrap();
    assert!(!entry.line().contains(ssn) && !entry.line().contains(key), "{}", entry.line());
    assert_eq!(log.count(&Query::new().patient(ssn)).unwrap_err().kind(), ErrorKind::Key);
}

#[test]
fn a_numbered_sender_with_a_hidden_name_is_answered_once() {
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Pseudonymise).build().unwrap();
    let log = Options::new().policies(set).in_memory().unwrap();
    let call = || ToolCall::new("c", "jane.roe", "t").sender(Sender::new("desk of jane.roe", 1));
    let receipt = log.record(call()).unwrap();
    assert_eq!(log.record(call()).unwrap(), receipt);
    assert!(!log.entry(receipt.seq).unwrap().line().contains("jane"));
}

/// Runs the program and searches its output.
#[track_caller]
fn quiet(place: &Place, args: &[&str], input: &str, code: i32) -> String {
    let ran = place.run_with(args, input.as_bytes()).code(code);
    assert_eq!(found(ran.out.as_bytes()), Vec::<String>::new(), "{args:?}: {}", ran.out);
    assert_eq!(found(ran.err.as_bytes()), Vec::<String>::new(), "{args:?}: {}", ran.err);
    ran.out
}

const CONFIG: &str = "[redaction]\npreset = 'hipaa'\n[redaction.fields]\nssn = 'seal'\ncvv = 'drop'\n[[patients]]\ntool = \
                      'get_chart'\npaths = ['arguments.subject']\n[results]\nkeep_full = 100000\n";

#[test]
fn the_program_shows_no_secret_either() {
    let place = Place::empty();
    place.write("config.toml", CONFIG);
    quiet(&place, &["init", "s", "--config", "config.toml"], "", 0);
    let lines = session().join("\n") + "\n";
    quiet(&place, &["record", "s", "--receipts"], &lines, 0);
    // Lines that cannot be recorded: the message names the place, not the contents.
    for secret in SECRETS.iter().chain(&[PATIENT]) {
        let secret = text(secret);
        let bad = [
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","colour":{secret}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","timestamp":{secret}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","turn_number":{secret}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","call_trigger":{secret}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","outcome":{secret}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","retain_until":{secret}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","arguments":{{"x":{secret}}}}}"#),
            format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","arguments":{{"x":{secret}"#),
            secret.clone(),
            format!("[{secret}]"),
        ];
        quiet(&place, &["record", "s", "--keep-going"], &(bad.join("\n") + "\n"), 1);
    }
    for secret in SECRETS {
        let secret = text(secret);
        let class = format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","retention_class":{secret}}}"#);
        let twice = format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t",{secret}:1,{secret}:2}}"#);
        let key = format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t",{secret}:1}}"#);
        quiet(&place, &["record", "s", "--keep-going"], &[class, twice, key].join("\n"), 1);
    }
    for args in [
        &["query", "s"][..],
        &["query", "s", "--json"],
        &["query", "s", "--patient", PATIENT, "--json"],
        &["query", "s", "--patient", PATIENT],
        &["timeline", "s", "conv_1"],
        &["timeline", "s", "conv_1", "--json"],
        &["stats", "s", "--json"],
        &["verify", "s", "--json"],
        &["export", "s", "--format", "jsonl"],
        &["export", "s", "--format", "csv"],
        &["export", "s", "--format", "fhir-r4"],
        &["export", "s", "--format", "fhir-r5"],
        &["export", "s", "--format", "ocsf"],
        &["keys", "show", "s", "--json"],
        &["policy", "show", "s"],
        &["checkpoint", "s"],
        &["prove", "s", "5"],
    ] {
        quiet(&place, args, "", 0);
    }
    // A person sees that something was hidden, and a line says what and where.
    let shown = quiet(&place, &["query", "s", "--patient", PATIENT], "", 0);
    assert!(shown.contains(" masked") && shown.contains(" pseudonymised") && shown.contains(" sealed"), "{shown}");
    let count =
        || quiet(&place, &["query", "s", "--count", "--patient", PATIENT], "", 0).trim().parse::<usize>().unwrap();
    assert_eq!(count(), session().len());
    quiet(&place, &["keys", "rotate", "s", "--pseudonyms"], "", 0);
    assert_eq!(count(), session().len());
    // What is shown on request is shown, and nothing else.
    let lines = place.run(&["query", "s", "--json", "--patient", PATIENT]).ok();
    let sealed = lines.lines().find(|l| l.contains(r#""sealed":{"#)).map(json).unwrap();
    let seq = sealed.get("seq").and_then(Json::as_u64).unwrap().to_string();
    let because = ["--actor", "clerk", "--reason", &format!("{PATIENT} asked")];
    let shown = place.run(&[&["reveal", "s", &seq, "arguments.ssn"][..], &because].concat()).ok();
    assert_eq!(json(shown.trim()), Json::from(NAMED[3]));
    quiet(&place, &[&["reveal", "s", &seq, "arguments.other"][..], &because].concat(), "", 2);
    quiet(&place, &[&["hold", "place", "s", "--case", PATIENT, "--patient", PATIENT][..], &because].concat(), "", 0);
    quiet(&place, &["hold", "list", "s"], "", 0);
    // What the hold keeps is not erased; once the hold is released it is, and then there is nothing left to erase.
    quiet(&place, &[&["erase", "s", "--subject", PATIENT][..], &because].concat(), "", 1);
    let placed = json(place.run(&["query", "s", "--kind", "hold_placed", "--json"]).ok().trim());
    let placed = placed.get("seq").and_then(Json::as_u64).unwrap().to_string();
    quiet(&place, &[&["hold", "release", "s", &placed][..], &because].concat(), "", 0);
    quiet(&place, &[&["erase", "s", "--subject", PATIENT][..], &because].concat(), "", 0);
    quiet(&place, &[&["erase", "s", "--subject", PATIENT][..], &because].concat(), "", 2);
    quiet(&place, &[&["reveal", "s", &seq, "arguments.ssn"][..], &because].concat(), "", 2);
    quiet(&place, &["query", "s", "--json"], "", 0);
    quiet(&place, &["verify", "s"], "", 0);
    search(place.dir.path());
}

#[test]
fn a_passphrase_comes_from_the_environment_and_is_never_shown() {
    let place = Place::empty();
    let run = |args: &[&str], passphrase: Option<&str>| {
        let mut command = place.command(args);
        command.env_remove("ATTESTLOG_PASSPHRASE");
        if let Some(passphrase) = passphrase {
            command.env("ATTESTLOG_PASSPHRASE", passphrase);
        }
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("open-sesame") && !said.contains("wrong-one"), "{said}");
        (output.status.code().unwrap(), said)
    };
    assert_eq!(run(&["init", "s"], Some("open-sesame")).0, 0);
    assert!(fs::read_to_string(place.path("s.key")).unwrap().starts_with("attestlog-key v1 wrapped\n"));
    assert_eq!(run(&["query", "s"], Some("open-sesame")).0, 0);
    for wrong in [None, Some("wrong-one")] {
        let (code, said) = run(&["query", "s"], wrong);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("passphrase"), "{said}");
    }
    assert_eq!(run(&["query", "s"], Some("")).0, 2);
}

#[test]
fn secrets_are_in_no_debug_output() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let log = Options::new().policies(policies()).create(&path).unwrap();
    let call = ToolCall::new("c", "u", "t").patient(PATIENT).arguments(json(r#"{"ssn":"460-89-9847"}"#));
    log.record(call).unwrap();
    let debug = format!("{log:?}{:?}", Options::new());
    let key = fs::read_to_string(dir.path().join("store.key")).unwrap();
    let secrets =
        key.lines().filter(|l| ["log", "epoch", "digest", "pseudonym", "master"].iter().any(|k| l.starts_with(k)));
    for line in secrets {
        let encoded = line.rsplit(' ').next().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let list = format!("{bytes:?}");
        assert!(!debug.contains(encoded) && !debug.contains(&hex) && !debug.contains(&list));
    }
    assert!(!debug.contains("460-89"));
}

/// Of a patient whom only the last part of a call named, `erase` said that it was done, with exit code 0, and `reveal` still showed
/// what the first part sealed.
#[test]
fn an_erasure_names_what_it_leaves_and_ends_with_one() {
    let place = Place::empty();
    place.write("c.toml", "[redaction.fields]\n\"diagnosis\" = \"seal\"\n");
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    let sealed = |patient: &str| {
        let mut call = ToolCall::new("c", "dr", "search").patient(patient).outcome(Outcome::Ok);
        call.circumstances.sources.push(Source::new(SourceKind::Proxy));
        call
    };
    let with = |call: ToolCall| call.arguments(json(r#"{"diagnosis":"lues"}"#));
    let log = AuditLog::open(place.path("s")).unwrap();
    let ended = log.record(with(sealed("P-1"))).unwrap().seq;
    let mut further = sealed("P-2").follow_up_of(ended);
    further.session_metadata.insert("mcp", json(r#"{"further_patients":true}"#));
    log.record(further).unwrap();
    for patient in ["P-1", "P-2"] {
        log.record(with(sealed(patient))).unwrap();
    }
    log.close().unwrap();
    let because = ["--actor", "officer", "--reason", "request"];
    let ran = place.run(&[&["erase", "s", "--subject", "P-2", "--json"][..], &because].concat()).code(1);
    assert_eq!(json(&ran.out).get("stays"), Some(&json(&format!("[{ended}]"))), "{}", ran.out);
    assert!(ran.err.contains(&format!("what is sealed in entries {ended} of the same calls")), "{}", ran.err);
    let shown =
        |seq: u64| [&["reveal", "s", &seq.to_string(), "arguments.diagnosis"][..], &because].concat().join("\n");
    let shown = |seq: u64| place.run(&shown(seq).split('\n').collect::<Vec<_>>());
    assert!(shown(ended).ok().contains("lues"));
    let ran = place.run(&[&["erase", "s", "--subject", "P-1", "--json"][..], &because].concat()).code(0);
    assert_eq!(json(&ran.out).get("stays"), Some(&json("[]")), "{}", ran.out);
    shown(ended).code(2);
}

/// `erase` was the only command that took no `--patient`; clap's tip for the mistake was to pass it as a file's name. And it did
/// not say that a value in a call about two patients is gone for the other one too.
#[test]
fn erase_takes_a_patient_and_says_what_is_lost() {
    let place = Place::empty();
    place.write("c.toml", "[redaction.fields]\nnote = 'seal'\n");
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    let line = |patients: &str| {
        let more = format!(r#""patient_id":{patients},"arguments":{{"note":"about {}"}}"#, patients.len());
        crate::common::call("c", "u", "t", &more)
    };
    let lines = [r#""P-1""#, r#""P-3""#, r#"["P-1","P-3"]"#].map(line).concat();
    place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
    let because = ["--actor", "office", "--reason", "asked"];
    let wrong = place.run(&[&["erase", "s", "--patients", "P-3"][..], &because].concat()).code(2).err;
    assert!(wrong.contains("--patient") && !wrong.contains("-- --patient"), "{wrong}");
    place.run(&[&["erase", "s"][..], &because].concat()).code(2);
    place.run(&[&["erase", "s", "--patient", "P-3", "--user", "u"][..], &because].concat()).code(2);

    let erased = place.run(&[&["erase", "s", "--patient", "P-3"][..], &because].concat());
    assert_eq!(erased.code, 0, "{}", erased.err);
    assert!(erased.err.contains("values are lost in entries 3, 4"), "{}", erased.err);
    assert!(erased.err.contains("entry 4 of these names other people too"), "{}", erased.err);
    // The first call is about the other patient alone.
    place.run(&["reveal", "s", "2", "arguments.note", "--actor", "a", "--reason", "r"]).ok();
    let json = place.run(&[&["erase", "s", "--patient", "P-1", "--json"][..], &because].concat()).json();
    let seqs = |key: &str| json.get(key).map(|seqs| seqs.to_canonical().as_str().to_owned());
    assert_eq!((seqs("entries").as_deref(), seqs("about_others").as_deref()), (Some("[2]"), Some("[]")));
}
