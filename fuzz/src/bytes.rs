//! The targets that read one thing.

use attestlog::entry::{Approval, Decision, Source, SourceKind};
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::json::{Json, Path};
use attestlog::keys::{InForce, KeyFile};
use attestlog::merkle::{self, Frontier, Nodes, ProofError};
use attestlog::note::{Checkpoint, Note, Rotation, SignedCheckpoint, Succession, VerifierKey};
use attestlog::proof::Proof;
use attestlog::redact::{self, PseudonymKey, Sanitizer, Secrets};
use attestlog::retention::{PatientPaths, RetentionPolicy, SeqSet};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, Hash, Options, Query, ToolCall};
use attestlog_capture::import::{self, Format, ImportOptions};
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

fn bytes_of(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|t| t.as_bytes().to_vec()).collect()
}

fn counting() -> impl FnMut(&mut [u8]) {
    let mut n = 0u8;
    move |out| {
        out.iter_mut().for_each(|byte| {
            n = n.wrapping_add(1);
            *byte = n
        })
    }
}

pub(crate) const JSON_WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\"\"",
    "{}",
    "[]",
    ":",
    ",",
    "1E+2",
    "\u{feff}",
    "\u{10ffff}",
];

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    bytes_of(&[
        r#"{"b": 1.0, "a": [true, null, "x\u00e9\ud83d\ude00"], "c": {"n": 12345678901234567890, "e": 1e-7}}"#,
        "[[[[[[[[1]]]]]]]]",
        r#""\\\"\/\b\f\n\r\t""#,
        "-0.000001234567890123456789",
    ])
}

/// Whatever parses is written in one form, which parses to the same value and is written the same way again.
pub(crate) fn json(data: &[u8]) {
    if let Ok(parsed) = Json::parse(data) {
        let text = parsed.value.to_canonical();
        let again = Json::parse(text.as_str().as_bytes()).expect("canonical JSON parses");
        assert_eq!(again.value, parsed.value);
        assert!(again.restated.is_empty(), "nothing is restated twice");
        assert_eq!(again.value.to_canonical().as_str(), text.as_str());
        for path in &parsed.restated {
            assert!(path.find(&parsed.value).is_some_and(|v| v.as_str().is_some()), "{path} is a string now");
        }
    }
    if let Ok(path) = std::str::from_utf8(data).map_err(|_| ()).and_then(|text| Path::parse(text).map_err(|_| ())) {
        assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path), "a path is read as it is written");
    }
}

pub(crate) const LINE_WORDS: &[&str] = &[
    "\"kind\":\"tool_call\"",
    "\"kind\":\"genesis\"",
    "\"call_begun\"",
    "\"begun_seq\":3,",
    "\"error\":{\"message\":\"x\"}",
    "\"outcome\":\"timeout\"",
    "\"retry_of\":1,",
    "\"call_trigger\":\"follow_up\"",
    "\"follow_up_of\":2,",
    "\"emergency\":true,",
    "\"sender\":{\"id\":\"h\",\"number\":1},",
    "\"patient_id\":[\"P-1\",\"P-2\"],",
    "\"patient_ids\":[\"P-1\"],",
    "\"grant\":1,",
    "\"timestamp\":\"2025-02-29T23:59:60Z\",",
    "\"duration_ms\":1e-9,",
    "\"result\":{\"isError\":true},",
    "\"result\":{\"error\":null},",
    "\"session_metadata\":{},",
    "\"restated\":[\"arguments.n\"],",
    "\"retain_until\":\"2099-01-01\",",
    "\"turn_number\":7,",
    "\"call_detail\"",
    "\"detail_of\":2,",
    "\"contradicts\":[\"model\"],",
    "\"trace_id\":\"4BF92F3577B34DA6A3CE929D0E0E4736\",",
    "\"approval\":{\"by\":\"x\",\"decision\":\"denied\"},",
    "\"resources\":[{\"kind\":\"file\",\"name\":\"/x\"}],",
    "\"sources\":[{\"added\":[\"model\"],\"source\":\"hook\"}],",
    "\"peer\":{\"gid\":0,\"pid\":1,\"uid\":0},",
    "\"digests\":{\"policy\":\"sha256:00\"},",
];

/// The same entries each time, byte for byte, so that a failure can be replayed, and a proof from one run's log is also
/// a proof from the next run's.
fn sample_log() -> AuditLog {
    let clock = Arc::new(ManualClock::at("2025-07-06T14:23:01Z".parse().expect("a time")));
    let options = Options::new().clock(clock).random(Arc::new(SeededRandom::new(7)));
    let log = options.in_memory().expect("a store in memory");
    for line in record_seeds() {
        log.record(ToolCall::from_jsonl(&line).expect("a seed")).expect("a seed is recorded");
    }
    let begun = log.begin(ToolCall::new("c", "u", "t")).expect("begun");
    begun.finish(|call| call.error("no")).expect("finished");
    let call = || ToolCall::new("c", "u", "t").source(Source::new(SourceKind::Hook)).trace("t-1", Some("s-1"));
    let seen = log.record(call().resource("file", "/x").prompt("p")).expect("recorded").seq;
    let approval = Approval::new(Decision::Allowed);
    log.record(call().detail_of(seen).approval(approval).contradicts(["model"])).expect("details");
    log
}

pub(crate) fn line_seeds() -> Vec<Vec<u8>> {
    let log = sample_log();
    let entries = log.query(&Query::new()).expect("a query");
    entries.map(|entry| entry.expect("an entry").line().into_bytes()).collect()
}

/// An accepted line is canonical, byte for byte; a line with another spelling is also tried in canonical form.
pub(crate) fn line(data: &[u8]) {
    let check = |text: &str| {
        if let Ok(entry) = Entry::from_line(text) {
            assert_eq!(entry.line(), text);
            assert_eq!(entry.hash(), Hash::leaf(text.as_bytes()));
        }
    };
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    if let Ok(parsed) = Json::parse(data) {
        check(parsed.value.to_canonical().as_str());
    }
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    bytes_of(&[
        r#"{"conversation_id":"conv_1","user_id":"usr_1","tool_name":"lookup"}"#,
        r#"{"timestamp":"2025-07-06T14:23:01.456Z","conversation_id":"conv_abc123","turn_number":7,"user_id":"usr_98765","tool_name":"update_order_status","arguments":{"order_id":"o-1","api_key":"k","card":"4111 1111 1111 1111"},"result":{"id":"o-1","status":"shipped","items":[{"sku_id":3}]},"duration_ms":145.2,"model":"gpt-4.1","session_metadata":{"user_role":"support_agent","client_ip":"10.0.1.5"},"call_trigger":"user_request","patient_id":["P-2","P-1"],"purpose":"treatment","call_id":"call_1"}"#,
        r#"{"conversation_id":"c","user_id":"u","tool_name":"t","error":{"type":"Timeout","message":"no answer to mail@example.com"},"arguments":[1e400,12345678901234567890]}"#,
        r#"{"conversation_id":"c","user_id":"u","tool_name":"t","trace_id":"t-1","span_id":"00F067AA0BA902B7","prompt_id":"p","parent_agent_id":"a","parent_call_id":"i","approval":{"decision":"denied","by":"rule-7","asked_at":"2025-03-01"},"digests":{"policy":"sha256:0000000000000000000000000000000000000000000000000000000000000000"},"resources":[{"kind":"url","name":"https://x.example/?token=abc"},{"kind":"file","name":"/x"}]}"#,
    ])
}

thread_local! {
    static LOG: RefCell<(AuditLog, u32)> = RefCell::new((sample_log(), 0));
}

/// What parses as a record is recorded or refused. What was recorded has a canonical line that hashes to its receipt,
/// and the store verifies.
pub(crate) fn record(data: &[u8]) {
    let Ok(call) = ToolCall::from_jsonl(data) else { return };
    LOG.with_borrow_mut(|(log, count)| {
        let size = log.size().unwrap();
        match log.record(call) {
            Err(_) => assert_eq!(log.size().unwrap(), size, "what is refused leaves nothing"),
            Ok(receipt) => {
                let entry = log.entry(receipt.seq).expect("what is recorded is there");
                let line = entry.line();
                assert_eq!(Hash::leaf(line.as_bytes()), receipt.hash);
                let parsed = Json::parse(line.as_bytes()).expect("a line is JSON");
                assert_eq!(parsed.value.to_canonical().as_str(), line, "a line is canonical (L1)");
                assert_eq!(Entry::from_line(&line).expect("a line reads back"), entry, "it says everything (L2)");
            }
        }
        *count += 1;
        if *count % 500 == 0 {
            let verification = log.verify(&VerifyOptions::new().threads(1)).expect("it verifies");
            assert!(verification.ok(), "{:?}", verification.findings);
            *log = sample_log();
        }
    });
}

pub(crate) const IMPORT_WORDS: &[&str] = &[
    "\"role\":\"assistant\"",
    "\"role\":\"tool\"",
    "\"tool_calls\":[",
    "\"tool_call_id\":\"a\"",
    "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}",
    "\"type\":\"tool_use\"",
    "\"type\":\"tool_result\"",
    "\"tool_use_id\":\"a\"",
    "\"is_error\":true",
    "\"messages\":[",
    "\"traj\":[",
    "\"id\":\"a\"",
    "\"resourceSpans\":[",
    "\"scopeSpans\":[",
    "\"attributes\":[",
    "\"key\":\"gen_ai.operation.name\"",
    "\"stringValue\":\"execute_tool\"",
    "\n",
];

pub(crate) fn import_seeds() -> Vec<Vec<u8>> {
    let mut seeds = bytes_of(&[
        r#"[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{"}}]},{"role":"tool","tool_call_id":"b","content":"Error: no"},{"role":"tool","tool_call_id":"a","content":"{\"ok\":true}"}]"#,
        r#"{"id":"c1","messages":[{"role":"assistant","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"no"}]}]}]}"#,
        r#"{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"execute_tool"}},{"key":"gen_ai.tool.name","value":{"stringValue":"f"}},{"key":"gen_ai.tool.call.arguments","value":{"stringValue":"{\"a\":1}"}}],"status":{"code":2,"message":"no"}}]}]}]}"#,
        r#"[{"task_id":3,"trial":0,"info":{"task":{"user_id":"u1"}},"traj":[{"role":"assistant","function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"1"}]}]"#,
    ]);
    seeds.extend(record_seeds());
    seeds
}

/// Each format reads a file or refuses it, and the tally counts the result.
pub(crate) fn import(data: &[u8]) {
    let options = ImportOptions::new().user("u").conversation("c");
    for format in Format::ALL {
        if let Ok(imported) = import::calls(*format, data, &options) {
            assert_eq!(imported.tally().calls as usize, imported.calls.len());
        }
        let _ = import::calls(*format, data, &ImportOptions::new());
    }
}

pub(crate) const PROOF_WORDS: &[&str] = &[
    "c2sp.org/tlog-proof@v1\n",
    "extra ",
    "index ",
    "\n\n",
    "\u{2014} ",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    "\"old_size\":",
    "\"proof\":[",
    "\"checkpoint\":\"",
    "\"kind\":\"reveal\"",
    "/epoch-4294967295",
    "18446744073709551615\n",
    "\n",
];

struct Proofs {
    key: VerifierKey,
    origin: String,
    seeds: Vec<Vec<u8>>,
}

thread_local! {
    static PROOFS: OnceCell<Proofs> = const { OnceCell::new() };
}

fn proofs<T>(with: impl FnOnce(&Proofs) -> T) -> T {
    PROOFS.with(|cell| {
        with(cell.get_or_init(|| {
            let log = sample_log();
            let first = log.checkpoint().expect("a checkpoint");
            let mut seeds = vec![first.to_string().into_bytes()];
            log.keys().rotate_epoch_key().expect("a rotation");
            for seq in 0..log.size().unwrap() {
                seeds.push(log.prove(seq).expect("a proof").to_string().into_bytes());
            }
            let consistent = log.proofs().consistent(&first).expect("a proof");
            seeds.push(consistent.to_json().to_canonical().as_str().as_bytes().to_vec());
            let succession = log.keys().succession().unwrap().expect("keys");
            seeds.push(succession.to_json().to_canonical().as_str().as_bytes().to_vec());
            let key = log.public_key().unwrap().expect("keys");
            seeds.push(key.to_string().into_bytes());
            Proofs { origin: key.name().to_owned(), key, seeds }
        }))
    })
}

pub(crate) fn proof_seeds() -> Vec<Vec<u8>> {
    proofs(|p| p.seeds.clone())
}

/// Whatever parses is written as it was read, and whatever checks was in the log: only the seeds can.
pub(crate) fn proof(data: &[u8]) {
    proofs(|p| {
        if let Ok(proof) = Proof::parse(data)
            && let Ok(checked) = proof.clone().check(&p.key, None)
        {
            let _ = (checked.to_json().to_canonical(), checked.to_string());
            let text = match &proof {
                Proof::Inclusion(proof) => proof.to_string(),
                Proof::Consistency(proof) => proof.to_json().to_canonical().as_str().to_owned(),
                _ => return,
            };
            let same = p.seeds.iter().any(|seed| match Proof::parse(seed) {
                // A signature of another party or a witness may follow the two of the log.
                Ok(Proof::Inclusion(own)) => {
                    matches!(&proof, Proof::Inclusion(got) if got.line == own.line && got.seq == own.seq)
                }
                Ok(Proof::Consistency(own)) => {
                    matches!(&proof, Proof::Consistency(got) if got.old_root == own.old_root)
                }
                _ => false,
            });
            // Any two equal sizes are consistent; apart from the signature there is nothing to prove.
            let trivial = matches!(&proof, Proof::Consistency(got) if got.proof.is_empty());
            assert!(same || trivial, "a proof that nobody made: {text}");
        }
        if let Ok(note) = Note::parse(data) {
            assert_eq!(note.to_string().as_bytes(), data, "a note has one form");
        }
        if let Ok(signed) = SignedCheckpoint::parse(data) {
            assert_eq!(signed.to_string().as_bytes(), data);
            let _ = signed.verify(&p.key);
        }
        let Ok(text) = std::str::from_utf8(data) else { return };
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            assert_eq!(Checkpoint::parse(&checkpoint.to_string()).as_ref(), Ok(&checkpoint));
        }
        if let Ok(key) = text.parse::<VerifierKey>() {
            assert_eq!(key.to_string(), text, "a key has one form");
        }
        if let Ok(parsed) = Json::parse(data) {
            if let Ok(succession) = Succession::from_json(&parsed.value) {
                let again = Succession::from_json(&succession.to_json());
                assert_eq!(again.map(|s| s.epochs().len()), Ok(succession.epochs().len()));
            }
            if let Some(object) = parsed.value.as_object() {
                let _ = Rotation::from_json(&p.origin, object).map(|r| r.signed_by(&p.key));
            }
        }
    });
}

pub(crate) const KEY_WORDS: &[&str] = &[
    "attestlog-key v1\n",
    "attestlog-key v2\n",
    "origin ",
    "log ",
    "epoch 0 ",
    "next-epoch 1 ",
    "digest ",
    "pseudonym ",
    "master ",
    "mark 3 ",
    "used-by ",
    "checksum ",
];

pub(crate) fn keyfile_seeds() -> Vec<Vec<u8>> {
    let mut random = counting();
    let mut keys = KeyFile::generate("example.com/ward", &mut random).expect("keys");
    let mut seeds = vec![keys.to_text(&mut random).expect("a text").as_bytes().to_vec()];
    let in_force = InForce { all: Hash::ZERO, standing: Hash::ZERO };
    keys.sign_checkpoint(5, in_force, &|_| Ok(Hash::of(b"x"))).expect("signed");
    keys.rotate_pseudonym_key(&mut random).expect("a key");
    keys.begin_rotation(9, in_force, &|_| Ok(Hash::of(b"x")), &mut random).expect("begun");
    seeds.push(keys.to_text(&mut random).expect("a text").as_bytes().to_vec());
    seeds
}

/// A key file has one spelling. The checksum is corrected first, since it would hide everything else.
pub(crate) fn keyfile(data: &[u8]) {
    let _ = KeyFile::parse(data, None);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let body = match text.trim_end_matches('\n').rsplit_once('\n') {
        Some((body, last)) if last.starts_with("checksum ") => &text[..body.len() + 1],
        _ => text,
    };
    let whole = format!("{body}checksum {}\n", Hash::of(body.as_bytes()));
    if let Ok(keys) = KeyFile::parse(whole.as_bytes(), None) {
        assert_eq!(keys.to_text(&mut counting()).expect("a text").as_str(), whole);
        assert!(!format!("{keys:?}").contains("Secret("));
    }
}

pub(crate) fn stored_seeds() -> Vec<Vec<u8>> {
    let samples = attestlog::fuzzing::samples().expect("samples");
    samples.into_iter().map(|(kind, bytes)| [&[kind][..], &bytes].concat()).collect()
}

/// The first byte selects the table that the rest is read from.
pub(crate) fn stored(data: &[u8]) {
    if let Some((kind, bytes)) = data.split_first() {
        attestlog::fuzzing::stored(*kind, bytes);
    }
}

/// Edits of six bytes each, of every kind, in the first pages and in the header.
pub(crate) fn pages_seeds() -> Vec<Vec<u8>> {
    let edit = |n: u8| [n, n % 3, n.wrapping_mul(37), n, n.wrapping_mul(11), n.wrapping_mul(5)];
    let mut seeds: Vec<Vec<u8>> = (0..60).map(|n| edit(n).to_vec()).collect();
    seeds.push((0..8).flat_map(|n| edit(n * 29)).collect());
    seeds
}

pub(crate) const CONFIG_WORDS: &[&str] = &[
    "[redaction]\n",
    "preset = \"hipaa\"\n",
    "preset = \"pci\"\n",
    "[redaction.fields]\n",
    "[redaction.detectors]\n",
    "[redaction.facets]\n",
    "allow_secrets = true\n",
    "\"arguments.**.x\" = \"mask\"\n",
    "\"/(a|b)*c/\" = \"drop\"\n",
    "action = \"pseudonymise\"",
    "pattern = '(?i)x+'",
    "= \"seal\"\n",
    "[retention]\n",
    "[[retention.rules]]\n",
    "tool = \"*_x?\"\n",
    "class = \"c\"\n",
    "years = 7\n",
    "[retention.classes]\n",
    "[[patients]]\n",
    "clock_bound_days = 7\n",
    "preset = \"finance\"\n",
];

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    bytes_of(&[
        "[redaction]\npreset = \"hipaa\"\n[redaction.fields]\n\"arguments.**.notes\" = \"mask\"\n\"*_ref\" = { action = \"pseudonymise\", as = \"patient\" }\n[redaction.detectors]\nphone = \"partial\"\nemployee = { pattern = 'EMP-\\d{6}', action = \"mask\" }\n[redaction.facets]\npatient = \"pseudonymise\"\n",
        "[redaction]\nallow_secrets = true\nobject_keys = false\n[redaction.fields]\n\"/^x-/\" = \"seal\"\n\"result.items[*].name\" = \"drop\"\n",
    ])
}

/// A configuration is refused with a reason, or gives a policy that survives being stored in its entry of the chain.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(policy) = redact::Policy::from_toml(text, "fuzz.toml") {
        let again = redact::Policy::from_json(&policy.to_json()).expect("a policy reads back");
        assert_eq!(again.digest(), policy.digest());
    }
    if let Ok(policy) = RetentionPolicy::from_toml(text, "fuzz.toml") {
        assert_eq!(RetentionPolicy::from_json(&policy.to_json()).as_ref().ok(), Some(&policy));
    }
    if let Ok(paths) = PatientPaths::from_toml(text, "fuzz.toml") {
        assert_eq!(PatientPaths::from_json(&paths.to_json()).as_ref().ok(), Some(&paths));
    }
    let _ = text.parse::<SeqSet>().map(|set| assert_eq!(set.to_string(), text));
}

pub(crate) const REDACT_WORDS: &[&str] = &[
    "password",
    "apiKey",
    "X-Api-Key",
    "4111 1111 1111 1111",
    "078-05-1120",
    "mail@example.com",
    "+1 (212) 555-0143",
    "DE89 3704 0044 0532 0130 00",
    "192.168.0.1",
    "::1",
    "2001:db8::ff00:42:8329",
    "Bearer ",
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN PRIVATE KEY-----",
    "postgres://u:p@h/d",
    "born 1970-01-02",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    "\\\"",
    "{\\\"token\\\":\\\"x\\\"}",
    "\u{200b}",
    "ſ",
    "\u{212a}",
    "date of birth",
    "session_key=",
];

pub(crate) fn redact_seeds() -> Vec<Vec<u8>> {
    let mut seeds = record_seeds();
    seeds.extend(bytes_of(&[
        r#"{"note":"call +1 212 555 0143 or mail@example.com, card 4111-1111-1111-1111","nested":"{\"password\":\"hunter22\",\"ip\":\"10.0.0.1\"}"}"#,
        "free text with DE89370400440532013000 and 078-05-1120 and postgres://user:secret@host/db",
    ]));
    seeds
}

const CANARY: &str = "Zq7-canary-93kd";

thread_local! {
    static SANITIZERS: OnceCell<Vec<Sanitizer>> = const { OnceCell::new() };
}

/// What is under a secret's name is gone, whatever is next to it, and the output is JSON that can be stored.
pub(crate) fn redact(data: &[u8]) {
    SANITIZERS.with(|cell| {
        let sanitizers = cell.get_or_init(|| {
            let presets =
                ["floor", "default", "hipaa", "pci"].iter().filter_map(|name| redact::Preset::from_name(name));
            let secrets = Secrets { pseudonyms: vec![PseudonymKey::new([7; 32])] };
            presets.map(|p| Sanitizer::new(&redact::Policy::preset(p), secrets.clone()).expect("a preset")).collect()
        });
        let value = match Json::parse(data) {
            Ok(parsed) => parsed.value,
            Err(_) => match String::from_utf8(data.to_vec()) {
                Ok(text) if !text.contains('\0') => text.into(),
                _ => return,
            },
        };
        let mut planted = attestlog::json::Object::new();
        planted.insert("x", value.clone());
        planted.insert("apiKey", CANARY);
        planted.insert("list", vec![Json::from(attestlog::json::Object::from_iter([("PASS-WORD", CANARY)])), value]);
        let planted = Json::from(planted);
        if planted.check().is_err() {
            return;
        }
        let clear = planted.to_canonical().as_str().matches(CANARY).count() - 2;
        for sanitizer in sanitizers {
            let out = redact::explain(sanitizer, planted.clone()).expect("it is treated");
            let text = out.get("output").expect("the output").to_canonical();
            assert!(text.as_str().matches(CANARY).count() <= clear * 2, "a secret came through");
            assert!(Json::parse(text.as_str().as_bytes()).is_ok(), "what comes out can be kept");
        }
    });
}

pub(crate) fn merkle_seeds() -> Vec<Vec<u8>> {
    vec![vec![7, 3, 5, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3], [255; 96].to_vec(), vec![64, 63, 32], vec![200, 1, 199, 3, 9, 40]]
}

struct Leaves(Vec<Hash>);

impl Nodes for Leaves {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        if level == 0 {
            return Ok(self.0[index as usize]);
        }
        Ok(Hash::node(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }
}

/// Checks accept any numbers; for small trees, proofs check, changed proofs do not, and covers give the roots of signed
/// sizes.
pub(crate) fn merkle(data: &[u8]) {
    let mut rest = data;
    let mut number = || match rest.split_first_chunk::<8>() {
        Some((bytes, after)) => {
            rest = after;
            u64::from_le_bytes(*bytes)
        }
        None => 0,
    };
    let (index, size) = (number(), number());
    let hashes: Vec<Hash> = data.chunks(7).take(70).map(Hash::of).collect();
    let _ = merkle::verify_inclusion(index, size, Hash::ZERO, &hashes, Hash::ZERO);
    let _ = merkle::verify_consistency(index, size, Hash::ZERO, Hash::ZERO, &hashes);
    let [size, a, b, c, ..] = *data else { return };
    let size = u64::from(size) + 1;
    let (index, old) = (u64::from(a) % size, u64::from(b) % size + 1);
    let leaves = Leaves((0..size).map(|i| Hash::leaf(&i.to_be_bytes())).collect());
    let mut frontier = Frontier::empty();
    let mut old_root = Hash::ZERO;
    for (i, leaf) in (1..).zip(&leaves.0) {
        frontier.append(*leaf, &mut |_, _, _| {});
        if i == old {
            old_root = frontier.root();
        }
    }
    let root = merkle::root(&leaves, size).expect("a root");
    assert_eq!(frontier.root(), root);
    let mut proof = merkle::inclusion_proof(&leaves, index, size).expect("a proof");
    let leaf = leaves.0[index as usize];
    merkle::verify_inclusion(index, size, leaf, &proof, root).expect("it holds");
    let consistent = merkle::consistency_proof(&leaves, old, size).expect("a proof");
    merkle::verify_consistency(old, size, old_root, root, &consistent).expect("it holds");
    if !proof.is_empty() {
        let at = usize::from(c) % proof.len();
        proof[at] = Hash::of(data);
        assert!(merkle::verify_inclusion(index, size, leaf, &proof, root).is_err());
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    for pair in data[4..].chunks(2) {
        let start = at + u64::from(pair[0]);
        let end = (start + u64::from(*pair.get(1).unwrap_or(&1))).min(size);
        if start < end {
            ranges.push(start..end);
            at = end;
        }
    }
    let mut signed = [old, index + 1, size];
    signed.sort_unstable();
    let cover = merkle::cover(&ranges, &signed);
    let covered: Vec<u64> = cover.iter().flat_map(|&(level, index)| merkle::leaves_of(level, index)).collect();
    let purged: Vec<u64> = ranges.iter().flat_map(|r| r.clone()).collect();
    assert_eq!(covered, purged, "a cover covers what is purged, once");
    let inside = |size: u64| {
        cover
            .iter()
            .any(|&(level, i)| merkle::leaves_of(level, i).start < size && size < merkle::leaves_of(level, i).end)
    };
    assert!(!signed.iter().any(|&size| inside(size)), "no signed size ends inside a node");
}
