//! Nothing sensitive passes, and nothing else is changed.

use super::hostile_units;
use attestlog::ErrorKind;
use attestlog::json::{Json, Object};
use attestlog::redact::{
    Action, Context, Detect, Detector, IdentityKind, Policy, Preset, PseudonymKey, Root, Sanitizer, Secrets, Treated,
    dry_run, explain, is_secret_key,
};
use std::ops::Range;
use std::sync::Arc;

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap().value
}

pub fn sanitizer(policy: &Policy) -> Sanitizer {
    Sanitizer::new(policy, Secrets { pseudonyms: vec![PseudonymKey::new([7; 32])] }).unwrap()
}

fn treat(policy: &Policy, root: Root, text: &str) -> (String, Vec<Treated>) {
    let (mut value, mut context) = (json(text), Context::new());
    sanitizer(policy).treat(root, &mut value, &mut context).unwrap();
    (value.to_canonical().as_str().to_owned(), context.into_treated())
}

fn arguments(policy: &Policy, text: &str) -> String {
    treat(policy, Root::Arguments, text).0
}

/// Values that must not be in any output: detector, a text that contains the value, and the value.
pub const IN_TEXT: &[(&str, &str, &str)] = &[
    ("card", "charge 4111 1111 1111 1111 now", "4111 1111 1111 1111"),
    ("card", "amex 378282246310005", "378282246310005"),
    ("card", "pay 5555-5555-5555-4444.", "5555-5555-5555-4444"),
    ("ssn", "his number 460-89-9847, ok", "460-89-9847"),
    ("ssn", "SSN 460899847", "460899847"),
    ("email", "write to jane.doe+x@mail.example.co.uk.", "jane.doe+x@mail.example.co.uk"),
    ("email", "https://x.org/?to=jane%40example.org", "jane%40example.org"),
    ("phone", "reach me under +49 (0)30 1234567", "+49 (0)30 1234567"),
    ("phone", "or 541-754-3010x123 at night", "541-754-3010x123"),
    ("phone", "call 467 3395 please", "467 3395"),
    ("iban", "to GB82 WEST 1234 5698 7654 32 today", "GB82 WEST 1234 5698 7654 32"),
    ("ip", "from 203.0.113.77:443", "203.0.113.77"),
    ("ip", "from [2001:db8::8a2e:370:7334]", "2001:db8::8a2e:370:7334"),
    ("date_of_birth", "the patient, born on 12 March 1980, says", "12 March 1980"),
    ("jwt", "see eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLi4u", "eyJzdWIiOiIxIn0"),
    ("private_key", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----", "MHcCAQEE"),
    ("private_key", "cut off: -----BEGIN PRIVATE KEY-----\nMHcCAQEE", "MHcCAQEE"),
    ("api_key", "id AKIAIOSFODNN7EXAMPLE here", "AKIAIOSFODNN7EXAMPLE"),
    ("api_key", "git clone with ghp_0123456789abcdefghijklmnopqrstuvwxyz", "ghp_0123456789"),
    ("api_key", "sk-ant-api03-abcdefghijklmnopqrstuvwx", "abcdefghijklmnopqrstuvwx"),
    ("bearer", "Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    ("bearer", "Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("connection_string", "postgres://app:hunter2@db.internal/x", "hunter2"),
    ("connection_string", "mysql://app:hun/ter2@db/x", "hun/ter2"),
    ("credential", "Server=db;User Id=sa;Password=hunter2;Encrypt=True", "hunter2"),
    ("credential", "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "wJalrXUtnFEMI"),
    ("credential", "deploy --api-key hunter2 --force", "hunter2"),
    ("credential", "{'password': 'hunter2', 'n': 1}", "hunter2"),
    ("credential", "{\"password\": \"hun\\\"ter2\", \"cut off", "ter2"),
    ("credential", "{\\\"api_key\\\": \\\"hunter2\\\"}", "hunter2"),
    ("credential", "GET /?access_token=hunter2&x=1", "hunter2"),
    ("credential", "Cookie: sid=hunter2; theme=dark", "hunter2"),
    ("credential", "my password is hunter2.", "hunter2"),
    ("credential", "CVV: 7371 and the date", "7371"),
    ("credential", "cvc2=7371&x=1", "7371"),
];

#[test]
fn each_kind_is_found_in_longer_text_and_named() {
    for (detector, text, secret) in IN_TEXT {
        let (output, treated) = dry_run(&sanitizer(&Policy::default()), Json::from(*text)).unwrap();
        let output = output.as_str().unwrap();
        assert!(!output.contains(secret), "{text:?} became {output:?}");
        assert_eq!(treated.len(), 1, "{text:?}: {treated:?}");
        assert_eq!(treated[0].detector, *detector, "{text:?}");
        assert!(output.contains(&format!("[REDACTED:{detector}]")), "{output:?}");
        // The offsets are those of the removed characters.
        let chars: Vec<char> = text.chars().collect();
        let gone: String = chars[treated[0].start.unwrap()..treated[0].end.unwrap()].iter().collect();
        assert!(gone.contains(secret), "{gone:?} {secret:?}");
    }
}

#[test]
fn what_only_looks_like_it_stays() {
    for text in [
        "flight HAT136 on 2024-05-20 at 08:00:00 for $1234",
        "550e8400-e29b-41d4-a716-446655440000",
        "12345678-1234-1234-1234-123456789012",
        "order 12345678 was shipped",
        "at 1700000000, 1700000000000 ms",
        "isbn 978-3-16-148410-0",
        "std::fmt::Display, add::bad, 12:34:56",
        "00:1B:44:11:3A:B7",
        "1.2.3",
        "v1.2.3.4",
        "Chrome/120.0.0.0 Safari/537.36",
        "2025-07-06T14:23:01.456Z",
        "the token bucket: full",
        "secretary: Jane",
        "if (token == null)",
        "the password is required",
        "basic information about bearer certificates",
        "a@b",
        "@jane",
        "risk-free desk-top sk-learn",
        "1,234,567.89",
        "[1,2]",
        "{\"a\": 1}",
        "GB82WEST12345698765433",
        "4111 1111 1111 1112",
        "f2cd1be069039a9dd9e94e4580d1bdc90220c8e8",
        "password: null",
        "the passphrase came from: environment",
        "passphrase came from: environment",
        "",
        " ",
        "key=value",
    ] {
        let value = Json::Object(Object::from_iter([("x", text)]));
        let (output, treated) = dry_run(&sanitizer(&Policy::default()), value.clone()).unwrap();
        assert_eq!((&output, treated.len()), (&value, 0), "{text:?}");
    }
}

#[test]
fn keys_at_any_depth_in_any_spelling() {
    let floor = Policy::preset(Preset::Floor);
    for (input, output) in [
        (
            r#"{"a":{"b":[{"apiKey":"k"},{"API-KEY":"k"}]}}"#,
            r#"{"a":{"b":[{"apiKey":"[REDACTED:secret]"},{"API-KEY":"[REDACTED:secret]"}]}}"#,
        ),
        (r#"{"credentials":{"user":"u","p":[1,2]}}"#, r#"{"credentials":"[REDACTED:secret]"}"#),
        (
            r#"{"api":{"key":"k"},"card":{"number":1}}"#,
            r#"{"api":{"key":"[REDACTED:secret]"},"card":{"number":"[REDACTED:card]"}}"#,
        ),
        (r#"[{"name":"password","value":"k"}]"#, r#"[{"name":"password","value":"[REDACTED:secret]"}]"#),
        (
            r#"{"headers":[["Authorization","k"],["Accept","x"]]}"#,
            r#"{"headers":[["Authorization","[REDACTED:secret]"],["Accept","x"]]}"#,
        ),
        (r#"{"args":["-v","--token","k","--x"]}"#, r#"{"args":["-v","--token","[REDACTED:secret]","--x"]}"#),
        (
            r#"{"ssn":460899847,"cvv":123,"dob":"1990-04-05","e_mail":"x"}"#,
            r#"{"cvv":"[REDACTED:card]","dob":"[REDACTED:date_of_birth]","e_mail":"[REDACTED:email]","ssn":"[REDACTED:ssn]"}"#,
        ),
        (
            r#"{"payment_methods":{"credit_card_4421486":{"last_four":"7447"}},"payment_id":"credit_card_4421486"}"#,
            r#"{"payment_id":"credit_card_4421486","payment_methods":{"credit_card_4421486":"[REDACTED:card]"}}"#,
        ),
        (
            r#"{"token_count":5,"max_tokens":100,"secretary":"Jane","password_changed_at":"2020","has_password":true,"token":null}"#,
            r#"{"has_password":true,"max_tokens":100,"password_changed_at":"2020","secretary":"Jane","token":null,"token_count":5}"#,
        ),
        (r#"{"s":"{\"password\":\"k\",\"n\":[1]}"}"#, r#"{"s":"{\"n\":[1],\"password\":\"[REDACTED:secret]\"}"}"#),
        (
            r#"{"s":"{\"t\":\"{\\\"password\\\":\\\"k\\\"}\"}"}"#,
            r#"{"s":"{\"t\":\"{\\\"password\\\":\\\"[REDACTED:secret]\\\"}\"}"}"#,
        ),
        (r#"{"s":"{ \"untouched\" :  1 }"}"#, r#"{"s":"{ \"untouched\" :  1 }"}"#),
    ] {
        assert_eq!(arguments(&floor, input), output, "{input}");
        // Treating a value twice changes nothing.
        assert_eq!(arguments(&floor, output), output);
    }
    assert!(is_secret_key("client.secret") && !is_secret_key("client"));
}

#[test]
fn keys_that_are_themselves_sensitive() {
    let (output, treated) =
        treat(&Policy::default(), Root::Result, r#"{"jane@example.org":{"n":1},"joe@example.org":{"password":"x"}}"#);
    assert_eq!(output, r#"{"[REDACTED:email]":{"n":1},"[REDACTED:email] (2)":{"password":"[REDACTED:secret]"}}"#);
    assert!(treated.iter().all(|t| !t.path.contains("example")), "{treated:?}");
    assert_eq!(arguments(&Policy::preset(Preset::Floor), r#"{"jane@example.org":1}"#), r#"{"jane@example.org":1}"#);
}

#[test]
fn what_only_a_neighbour_or_a_spelling_names() {
    let floor = Policy::preset(Preset::Floor);
    for (input, output) in [
        (
            r#"{"rawHeaders":["Host","x","X-Api-Key","k","Cookie","c"]}"#,
            r#"{"rawHeaders":["Host","x","X-Api-Key","[REDACTED:secret]","Cookie","[REDACTED:secret]"]}"#,
        ),
        (
            r#"[{"id":"password","value":"k"},{"type":"password","value":"k"},{"type":"token","text":"the"}]"#,
            r#"[{"id":"password","value":"[REDACTED:secret]"},{"type":"password","value":"[REDACTED:secret]"},{"text":"the","type":"token"}]"#,
        ),
        ("{\"ｐａｓｓｗｏｒｄ\":\"k\"}", "{\"ｐａｓｓｗｏｒｄ\":\"[REDACTED:secret]\"}"),
        ("{\"pass\u{200b}word\":\"k\"}", "{\"pass\u{200b}word\":\"[REDACTED:secret]\"}"),
    ] {
        assert_eq!(arguments(&floor, input), output, "{input}");
    }
}

/// In a row of SQL only the first secret was found, and nothing that its column alone names: a number without its dashes, a
/// field that the policy hides.
#[test]
fn rows_of_sql_are_treated_by_their_columns() {
    let hipaa = Policy::builder(Preset::Hipaa).build().unwrap();
    for (policy, text, expected) in [
        (
            Policy::default(),
            "INSERT INTO patients (id, ssn, password) VALUES (7, 460899847, 'hunter'), (8, '460-89-9847', 'hun''ter');",
            "INSERT INTO patients (id, ssn, password) VALUES (7, '[REDACTED:ssn]', '[REDACTED:secret]'), \
             (8, '[REDACTED:ssn]', '[REDACTED:secret]');",
        ),
        (
            Policy::default(),
            "psql -c \"insert into t(steuer_id,note) values('86095742719',E'write to jane@example.org')\"",
            "psql -c \"insert into t(steuer_id,note) values('[REDACTED:national_id]','write to [REDACTED:email]')\"",
        ),
        (
            hipaa,
            "INSERT INTO people (patient_name, n) VALUES ('Jane Roe', 1)",
            "INSERT INTO people (patient_name, n) VALUES ('[REDACTED]', 1)",
        ),
    ] {
        let output = dry_run(&sanitizer(&policy), Json::from(text)).unwrap().0;
        assert_eq!(output.as_str().unwrap(), expected);
    }
    for harmless in [
        "INSERT INTO users (name, password) VALUES (?, ?), ($1, $2), (:name, :password), (@p, crypt(?, gen_salt('bf')))",
        "INSERT INTO orders (id, status) VALUES (12345678, 'shipped'), (12345679, 'it''s here')",
    ] {
        let (output, treated) = dry_run(&sanitizer(&Policy::default()), Json::from(harmless)).unwrap();
        assert_eq!((output.as_str(), treated.len()), (Some(harmless), 0));
    }
}

/// Whoever can decode hexadecimal digits reads them, and in the middle of a text only secrets were looked for.
#[test]
fn encoded_texts_are_searched_wherever_they_stand() {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let base64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let held = "my number is 460-89-9847";
    for text in [
        hex(held),
        format!("0x{}", hex(held).to_uppercase()),
        format!("\\x{}", hex("DB_PASSWORD=hunter2")),
        format!("run: echo {} | base64 -d", base64(held)),
        format!("the dump says {} and ends", hex(held)),
        format!("SELECT '\\x{}'::bytea", hex("write to jane@example.org")),
    ] {
        let output = dry_run(&sanitizer(&Policy::default()), Json::from(text.as_str())).unwrap().0;
        let output = output.as_str().unwrap();
        let left = [hex("460"), hex("hunter2"), hex("jane"), base64("my number")[..8].to_owned()];
        let left = left.iter().find(|left| output.to_lowercase().contains(&left.to_lowercase()));
        assert!(output.contains("[REDACTED:") && left.is_none(), "{text} became {output}");
    }
    for harmless in [
        "f2cd1be069039a9dd9e94e4580d1bdc90220c8e8".to_owned(),
        format!("commit f2cd1be069039a9dd9e94e4580d1bdc90220c8e8 of {}", hex("the flight leaves at 08:00")),
    ] {
        let (output, treated) = dry_run(&sanitizer(&Policy::default()), Json::from(harmless.as_str())).unwrap();
        assert_eq!((output.as_str(), treated.len()), (Some(&*harmless), 0));
    }
}

#[test]
fn base64_is_read_too() {
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let held = [
        encode("DB_HOST=x\nDB_PASSWORD=hunter2\n"),
        encode(r#"{"to":"jane@example.org"}"#),
        format!("data:text/plain;base64,{}", encode("my number is 460-89-9847")),
        encode(&encode("my number is 460-89-9847")),
    ];
    for (text, detector) in held.iter().zip(["credential", "email", "ssn", "ssn"]) {
        let (output, treated) = dry_run(&sanitizer(&Policy::default()), Json::from(text.as_str())).unwrap();
        assert_eq!(output, Json::from(format!("[REDACTED:{detector}]")), "{text}");
        assert_eq!((treated.len(), treated[0].detector.as_str()), (1, detector));
    }
    let harmless = encode("The flight HAT136 leaves at 08:00 and costs 153 dollars.");
    assert_eq!(dry_run(&sanitizer(&Policy::default()), Json::from(harmless.as_str())).unwrap().0, Json::from(harmless));
}

#[test]
fn long_numbers_are_looked_at_too() {
    let input = r#"{"a":4111111111111111,"id":5417543010,"n":12,"phone":5417543010}"#;
    assert_eq!(
        arguments(&Policy::default(), input),
        r#"{"a":"[REDACTED:card]","id":5417543010,"n":12,"phone":"[REDACTED:phone]"}"#
    );
}

#[test]
fn rules_beat_the_floor_and_detectors() {
    let policy = Policy::builder(Preset::Default)
        .field("arguments.**.notes", Action::Drop)
        .field("arguments.card_number", Action::Partial)
        .field("result.items[*].name", Action::Mask)
        .field("arguments.contact", Action::Keep)
        .field("/^x-/", Action::Mask)
        .field("*_ref", Action::Pseudonymise)
        .field_as("visitor", "patient")
        .field_as("patient_id", "patient")
        .detector(Detector::Email, Action::Pseudonymise)
        .detector(Detector::Phone, Action::Partial)
        .detector(Detector::Ip, Action::Keep)
        .pattern("employee", r"EMP-\d{6}", Action::Mask)
        .build()
        .unwrap();
    assert_eq!(arguments(&policy, r#"{"a":[{"notes":"x"},1],"notes":{"y":1}}"#), r#"{"a":[{},1]}"#);
    assert_eq!(arguments(&policy, r#"{"card_number":"4111 1111 1111 1111"}"#), r#"{"card_number":"[…1111]"}"#);
    assert_eq!(arguments(&policy, r#"{"card_number":"1234"}"#), r#"{"card_number":"[REDACTED:card]"}"#);
    let (output, treated) = treat(&policy, Root::Result, r#"{"items":[{"name":"Jane","n":1}],"x-y":2}"#);
    assert_eq!(output, r#"{"items":[{"n":1,"name":"[REDACTED]"}],"x-y":"[REDACTED]"}"#);
    assert_eq!((treated[0].path.as_str(), treated[0].detector.as_str()), ("result.items[0].name", "rule"));
    // Kept, except for values under the name of a secret inside it.
    assert_eq!(
        arguments(&policy, r#"{"contact":{"mail":"see 460-89-9847","to":"460-89-9847","token":"x"}}"#),
        r#"{"contact":{"mail":"[REDACTED:email]","to":"460-89-9847","token":"[REDACTED:secret]"}}"#
    );
    assert_eq!(
        arguments(&policy, r#"{"a":"EMP-123456 at 10.0.0.1, 541-754-3010"}"#),
        r#"{"a":"[REDACTED:employee] at 10.0.0.1, […3010]"}"#
    );
    // The same value found by key and by value has the same pseudonym, and so have two fields in one domain.
    let found = json(&arguments(
        &policy,
        r#"{"a":"Jane@Example.org","b":"x","visitor":" P-1","patient_id":"P-1","my_ref":"z"}"#,
    ));
    let text = |key: &str| found.get(key).and_then(Json::as_str).unwrap().to_owned();
    assert_eq!(text("visitor"), text("patient_id"));
    assert_eq!(text("a"), PseudonymKey::new([7; 32]).pseudonym("email", "jane@example.org"));
    assert!(text("my_ref").starts_with("ps_"));
}

/// A built-in rule kept the session's `client_ip` under every preset, so it stood in clear in the file of a store with `hipaa`, of
/// whose 18 identifiers an address is one.
#[test]
fn the_session_keeps_the_clients_address_under_the_default_preset_only() {
    let session = r#"{"client_ip":"81.2.69.142","note":"81.2.69.142"}"#;
    for preset in [Preset::Hipaa, Preset::Pci] {
        let (output, _) = treat(&Policy::preset(preset), Root::SessionMetadata, session);
        assert!(!output.contains("81.2.69.142"), "{preset:?}: {output}");
    }
    let forms = r#"{"client_ip":"2001:db8::1%eth0","remote_addr":"host-7:443","x-forwarded-for":"unknown, 10.1"}"#;
    let (output, _) = treat(&Policy::preset(Preset::Hipaa), Root::SessionMetadata, forms);
    assert!(["db8", "host-7", "10.1"].iter().all(|part| !output.contains(part)), "hidden by their names: {output}");
    let policy = Policy::default();
    let (output, _) = treat(&policy, Root::SessionMetadata, session);
    assert_eq!(output, r#"{"client_ip":"81.2.69.142","note":"[REDACTED:ip]"}"#);
    let mut text = "asked by 10.0.1.5".to_owned();
    let mut context = Context::new();
    sanitizer(&policy).treat_text(Root::Text, &mut text, &mut context).unwrap();
    assert_eq!(text, "asked by [REDACTED:ip]");
    assert_eq!((context.treated()[0].path.as_str(), context.treated()[0].start), ("text", Some(9)));
    for root in Root::ALL {
        assert_eq!(treat(&policy, root, r#"{"a":"460-89-9847"}"#).0, r#"{"a":"[REDACTED:ssn]"}"#);
    }
}

#[test]
fn presets_do_what_their_names_say() {
    let hipaa = Policy::preset(Preset::Hipaa);
    let found = json(&arguments(
        &hipaa,
        r#"{"patientId":"P-1","mrn":"77","lastName":"Doe","zip":"92103","state":"CA","vin":"1HG","url":"http://x","fax":"1","diagnosis":"J45","admission_date":"2020-01-02"}"#,
    ));
    let text = |key: &str| found.get(key).and_then(Json::as_str).unwrap();
    let key = PseudonymKey::new([7; 32]);
    assert_eq!(text("patientId"), key.pseudonym("patient", "P-1"));
    assert!(text("mrn").starts_with("ps_"));
    assert!(["lastName", "zip", "vin", "url", "fax", "admission_date"].iter().all(|k| text(k) == "[REDACTED]"));
    assert_eq!((text("state"), text("diagnosis")), ("CA", "J45"));
    assert_eq!(sanitizer(&hipaa).facet(IdentityKind::Patient, "P-1"), text("patientId"));
    let pci = Policy::preset(Preset::Pci);
    let input = r#"{"card_number":4111111111111111,"note":"4111111111111111","cvv":"123","expiry":"12/29"}"#;
    let output = r#"{"card_number":"[…1111]","cvv":"[REDACTED:card]","expiry":"[REDACTED]","note":"[…1111]"}"#;
    assert_eq!(arguments(&pci, input), output);
    // Every name in a preset parses as a pattern, and the whole policy survives writing and parsing.
    for preset in Preset::ALL {
        let policy = Policy::preset(preset);
        let again = Policy::from_canonical(policy.to_canonical().as_str()).unwrap();
        assert_eq!((again.digest(), &again), (policy.digest(), &policy));
    }
    assert!(hipaa.to_canonical().as_str().matches("\"field\"").count() > 150);
}

#[test]
fn the_floor_is_weakened_only_by_saying_so() {
    for (field, action) in [("password", Action::Keep), ("arguments.apiKey", Action::Partial), ("ssn", Action::Keep)] {
        let policy = Policy::builder(Preset::Default).field(field, action);
        assert_eq!(policy.clone().build().unwrap_err().kind(), ErrorKind::InvalidInput, "{field}");
        let allowed = policy.allow_secrets(true).build().unwrap();
        assert!(allowed.to_canonical().as_str().contains(r#""allow_secrets":true"#));
    }
    // A pattern that also happens to cover such a key is not refused.
    let policy = Policy::builder(Preset::Default).field("arguments.**", Action::Keep).build().unwrap();
    assert_eq!(
        arguments(&policy, r#"{"n":"460-89-9847","password":"x"}"#),
        r#"{"n":"460-89-9847","password":"[REDACTED:secret]"}"#
    );
    let policy = Policy::builder(Preset::Default).field("password", Action::Keep).allow_secrets(true).build().unwrap();
    assert_eq!(arguments(&policy, r#"{"password":"x"}"#), r#"{"password":"x"}"#);
    assert!(Policy::builder(Preset::Default).detector(Detector::Credential, Action::Keep).build().is_err());
    // A stronger action is always possible.
    let policy = Policy::builder(Preset::Default).field("password", Action::Drop).build().unwrap();
    assert_eq!(arguments(&policy, r#"{"password":"x"}"#), "{}");
}

#[cfg(feature = "config")]
#[test]
fn a_policy_in_toml_says_where_it_is_wrong() {
    let text = r#"
[retention]
days = 5

[redaction]
preset = "hipaa"
object_keys = false

[redaction.fields]
"z" = "keep"
"arguments.**.notes" = "mask"
"a_ref" = { action = "pseudonymise", as = "patient" }

[redaction.detectors]
phone = "partial"
employee = { pattern = 'EMP-\d{6}' }

[redaction.facets]
user = "pseudonymise"
"#;
    let policy = Policy::from_toml(text, "store.toml").unwrap();
    assert_eq!(policy.detector(Detector::Phone), Action::Partial);
    assert_eq!(policy.facet(IdentityKind::User), Action::Pseudonymise);
    assert_eq!(policy.facet(IdentityKind::Patient), Action::Pseudonymise);
    let canonical = policy.to_canonical();
    let at = |what: &str| canonical.as_str().find(what).unwrap();
    assert!(at(r#""field":"z""#) < at("notes") && at("notes") < at("a_ref"), "rules stay in order");
    assert_eq!(Policy::from_toml("[alerts]\nx = 1\n", "f").unwrap(), Policy::default());
    assert_eq!(Policy::from_toml("preset = \"pci\"", "f").unwrap(), Policy::preset(Preset::Pci));
    for (text, place, what) in [
        ("[redaction]\npreset = \"hippa\"", "f:2:10", "hipaa"),
        ("[redaction]\nfeilds = {}", "f:2:1", "feilds"),
        ("[redaction.fields]\na = \"hide\"", "f:2:5", "mask"),
        ("[redaction.fields]\n\n\"argumnets.x\" = \"mask\"", "f:3:1", "argumnets"),
        ("[redaction.fields]\n\"/(/\" = \"mask\"", "f:2:1", "compile"),
        ("[redaction.fields]\npassword = \"keep\"", "f:2:1", "allow_secrets"),
        ("[redaction.fields]\na = { action = \"mask\", to = \"x\" }", "f:2:24", "to"),
        ("[redaction.detectors]\nmail = \"mask\"", "f:2:1", "email"),
        ("[redaction.detectors]\nemp = { pattern = \"(\" }", "f:2:19", "compile"),
        ("[redaction.facets]\npatient = \"mask\"", "f:2:11", "pseudonymise"),
        ("[redaction.facets]\ntool = \"keep\"", "f:2:1", "conversation"),
        ("[redaction]\nallow_secrets = 1", "f:2:17", "true or false"),
        ("[redaction\n", "f:1:11", ""),
    ] {
        let error = Policy::from_toml(text, "f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(&format!("{place}: ")), "{text:?}: {error}");
        assert!(error.to_string().contains(what), "{text:?}: {error}");
    }
}

struct Broken(u8);

impl Detect for Broken {
    fn find(&self, text: &str) -> attestlog::Result<Vec<Range<usize>>> {
        match self.0 {
            0 => Err(attestlog::Error::new(ErrorKind::Io, "no model")),
            1 => panic!("a detector of the host's panics"),
            2 => Ok(std::iter::once(0..text.len() + 1).collect()),
            _ => Ok(text.find("Jane").map(|at| at..at + 4).into_iter().collect()),
        }
    }
}

#[test]
fn a_detector_that_fails_masks_the_value() {
    for how in 0..3 {
        let sanitizer = sanitizer(&Policy::default()).with_detector("names", Arc::new(Broken(how))).unwrap();
        let (output, treated) = dry_run(&sanitizer, json(r#"{"a":"Jane was here","n":1}"#)).unwrap();
        let output = output.to_canonical();
        assert!(output.as_str().contains("[REDACTED:names]") && !output.as_str().contains("Jane"), "{output}");
        assert_eq!(treated.last().unwrap().detector, "names");
    }
    let sanitizer = sanitizer(&Policy::default()).with_detector("names", Arc::new(Broken(3))).unwrap();
    let (output, _) = dry_run(&sanitizer, json(r#"{"a":"Jane was here"}"#)).unwrap();
    assert_eq!(output, json(r#"{"a":"[REDACTED:names] was here"}"#));
}

#[test]
fn what_lies_too_deep_is_masked() {
    let mut value = Json::from("460-89-9847");
    for _ in 0..400 {
        value = Json::Array(vec![value]);
    }
    let mut context = Context::new();
    sanitizer(&Policy::default()).treat(Root::Arguments, &mut value, &mut context).unwrap();
    assert!(value.to_canonical().as_str().contains("[REDACTED:depth]"));
    let mut text = r#"{"password":"hunter2"}"#.to_owned();
    for _ in 0..10 {
        text = Json::Object(Object::from_iter([("s", text)])).to_canonical().as_str().to_owned();
    }
    assert!(!arguments(&Policy::default(), &text).contains("hunter2"));
}

#[test]
fn explain_says_what_was_done_where() {
    let sanitizer = sanitizer(&Policy::default());
    let out = explain(&sanitizer, json(r#"{"arguments":{"t":"é 460-89-9847"},"password":"x"}"#)).unwrap();
    assert_eq!(
        out.to_canonical().as_str(),
        r#"{"output":{"arguments":{"t":"é [REDACTED:ssn]"},"password":"[REDACTED:secret]"},"treated":[{"action":"mask","detector":"ssn","end":13,"path":"arguments.t","start":2},{"action":"mask","detector":"key","end":null,"path":"password","start":null}]}"#
    );
    for t in out.get("treated").unwrap().as_array().unwrap() {
        assert_eq!(Treated::from_json(t).unwrap().to_json(), *t);
    }
    let treated: Vec<_> =
        out.get("treated").unwrap().as_array().unwrap().iter().map(|t| Treated::from_json(t).unwrap()).collect();
    let summary = Treated::summary(&treated);
    assert_eq!(summary.to_canonical().as_str(), r#"{"mask":{"key":["password"],"ssn":["arguments.t"]}}"#);
    assert_eq!(Treated::summary(&Treated::from_summary(&summary).unwrap()), summary);
}

#[test]
fn hostile_megabytes_come_to_an_end() {
    let sanitizer = sanitizer(&Policy::default());
    for unit in hostile_units::UNITS {
        let mut text = unit.repeat((1 << 20) / unit.len());
        sanitizer.treat_text(Root::Text, &mut text, &mut Context::new()).unwrap();
    }
    let keys = (0..20_000).map(|i| (format!("jane{i}@example.org"), Json::from("see 460-89-9847")));
    let mut value = Json::Object(keys.collect());
    sanitizer.treat(Root::Arguments, &mut value, &mut Context::new()).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 20_000);
    assert!(!value.to_canonical().as_str().contains("example"));
}
