//! Secrets that stand in the values of a recorded session, or are planted in made-up ones: none is left, and nothing else changes.

use super::redaction::{IN_TEXT, sanitizer};
use attestlog::json::{Json, Object};
use attestlog::redact::{Context, Policy, Preset, Root};
use proptest::prelude::*;
use std::path::PathBuf;

#[test]
fn a_recorded_session_keeps_nothing_that_stands_under_a_sensitive_key() {
    let shared = std::env::var_os("ATTESTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(text) = std::fs::read(shared.join("data/tau-bench/gpt-4o-airline.json")) else {
        println!("SKIPPED: no recorded session at ../shared/data/tau-bench or $ATTESTLOG_SHARED/data/tau-bench");
        return;
    };
    /// Every text under a key that the floor knows, also in JSON in strings.
    fn collect(value: &Json, sensitive: bool, out: &mut Vec<String>) {
        match value {
            Json::String(s) if sensitive => out.push(s.clone()),
            Json::String(s) => {
                if let Ok(inner) = Json::parse(s.as_bytes()) {
                    collect(&inner.value, false, out);
                }
            }
            Json::Array(items) => items.iter().for_each(|v| collect(v, sensitive, out)),
            Json::Object(o) => o.iter().for_each(|(k, v)| collect(v, sensitive || ["email", "dob"].contains(&k), out)),
            _ => {}
        }
    }
    let value = Json::parse(&text).unwrap().value;
    let mut secrets = Vec::new();
    collect(&value, false, &mut secrets);
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 50, "{}", secrets.len());
    for preset in [Preset::Floor, Preset::Default] {
        let sanitizer = sanitizer(&Policy::preset(preset));
        for message in value.as_array().unwrap().iter().flat_map(|c| c.get("traj").unwrap().as_array().unwrap()) {
            let calls = message.get("tool_calls").and_then(Json::as_array).unwrap_or_default();
            let arguments = calls.iter().map(|c| c.get("function").unwrap().get("arguments").unwrap());
            let answer = message.get("content").filter(|_| message.get("role") == Some(&Json::from("tool")));
            for part in arguments.chain(answer) {
                let (mut part, mut held) = (part.clone(), Vec::new());
                collect(&part, false, &mut held);
                sanitizer.treat(Root::Result, &mut part, &mut Context::new()).unwrap();
                let output = part.to_canonical();
                let left = held.iter().find(|s| output.as_str().contains(s.as_str()));
                assert!(left.is_none(), "{left:?} in {output}");
            }
        }
    }
}

/// Something harmless of any shape: words cannot spell a secret's name or hold a digit.
fn harmless() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (0u32..1000).prop_map(Json::from),
        "[qxz ]{0,20}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::btree_map("[qxz]{1,6}", inner, 0..5).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

/// How a secret is put into a value.
#[derive(Debug, Clone)]
enum Plant {
    Key(&'static str),
    Text(usize),
    InnerKey(&'static str),
    InnerText(usize),
}

fn plants() -> impl Strategy<Value = Plant> {
    let keys = || {
        prop::sample::select(vec!["password", "apiKey", "X-API-KEY", "user.token", "SSN", "creditCardNumber", "e-mail"])
    };
    prop_oneof![
        keys().prop_map(Plant::Key),
        (0..IN_TEXT.len()).prop_map(Plant::Text),
        keys().prop_map(Plant::InnerKey),
        (0..IN_TEXT.len()).prop_map(Plant::InnerText),
    ]
}

fn plant(value: Json, how: &Plant, at: &str) -> (Json, String) {
    const SECRET: &str = "Tr0ub4dor&3";
    let member = |key: &str, text: &str| Json::Object(Object::from_iter([(key, text)]));
    let (planted, secret) = match how {
        Plant::Key(key) => (member(key, SECRET), SECRET.to_owned()),
        Plant::Text(i) => (Json::from(IN_TEXT[*i].1), IN_TEXT[*i].2.to_owned()),
        Plant::InnerKey(key) => (Json::from(member(key, SECRET).to_canonical().as_str()), SECRET.to_owned()),
        Plant::InnerText(i) => {
            (Json::from(member("qq", IN_TEXT[*i].1).to_canonical().as_str()), IN_TEXT[*i].2.to_owned())
        }
    };
    let value = match value {
        Json::Array(mut items) => {
            items.push(planted);
            Json::Array(items)
        }
        Json::Object(mut object) => {
            object.insert(at, planted);
            Json::Object(object)
        }
        other => Json::Array(vec![other, planted]),
    };
    (value, secret)
}

proptest! {
    #[test]
    fn no_planted_secret_is_left_and_nothing_else_changes(value in harmless(), hows in prop::collection::vec(plants(), 1..4)) {
        let policy = Policy::default();
        let mut planted = value.clone();
        let mut secrets = Vec::new();
        for (i, how) in hows.iter().enumerate() {
            let secret;
            (planted, secret) = plant(planted, how, &format!("plant{}", ["q", "x", "z"][i]));
            secrets.push(secret);
        }
        let (mut output, mut context) = (planted.clone(), Context::new());
        sanitizer(&policy).treat(Root::Arguments, &mut output, &mut context).unwrap();
        let line = output.to_canonical();
        for secret in &secrets {
            prop_assert!(!line.as_str().contains(secret.as_str()), "{secret} in {line}");
        }
        prop_assert!(context.treated().len() >= secrets.len());
        // Without what was planted, all is as it was.
        let unplanted = |v: &Json| match v.clone() {
            Json::Object(mut o) if o.iter().any(|(k, _)| k.starts_with("plant")) => { o.retain(|k, _| !k.starts_with("plant")); Json::Object(o) }
            Json::Array(mut a) => { a.truncate(a.len() - hows.len()); if matches!(value, Json::Array(_)) { Json::Array(a) } else { a.remove(0) } }
            other => other,
        };
        prop_assert_eq!(unplanted(&output), value.clone());
        // What holds no secret is not touched at all.
        let (mut same, mut context) = (value.clone(), Context::new());
        sanitizer(&policy).treat(Root::Result, &mut same, &mut context).unwrap();
        prop_assert_eq!((same, context.treated().len()), (value, 0));
    }

    #[test]
    fn any_text_is_survived_and_treating_twice_changes_nothing(text in "(?s).{0,200}") {
        let sanitizer = sanitizer(&Policy::default());
        let mut once = text.clone();
        sanitizer.treat_text(Root::Text, &mut once, &mut Context::new()).unwrap();
        let mut twice = once.clone();
        sanitizer.treat_text(Root::Text, &mut twice, &mut Context::new()).unwrap();
        prop_assert_eq!(once, twice);
    }
}
