//! Sealed values can be opened with their key, at their place, and not otherwise; one can be shown without the others.

use attestlog::json::{Json, Path};
use attestlog::redact::{
    Action, Context, Detector, MasterKey, Policy, Preset, Root, Sanitizer, Secrets, SubjectKey, SubjectKeys, open,
    seal, sealed_commitment, sealed_subject, verify_reveal,
};
use attestlog::{ErrorKind, Result};
use proptest::prelude::*;
use std::collections::HashMap;

/// Bytes that differ from call to call, and are the same in every run.
fn random() -> impl FnMut(&mut [u8]) -> Result<()> {
    let mut state = 1u64;
    move |out| {
        for byte in out {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (state >> 56) as u8;
        }
        Ok(())
    }
}

/// Behaves like a store: a key for each subject, made when it is first needed.
#[derive(Default)]
struct Keys(HashMap<String, SubjectKey>);

impl SubjectKeys for Keys {
    fn key_for(&mut self, subject: &str) -> Result<(String, SubjectKey)> {
        let mut bytes = [0; 32];
        bytes[..subject.len()].copy_from_slice(subject.as_bytes());
        let key = SubjectKey::generate(&mut |out: &mut [u8]| {
            out.copy_from_slice(&bytes);
            Ok(())
        })?;
        self.0.insert(format!("key-{subject}"), key.clone());
        Ok((format!("key-{subject}"), key))
    }
}

struct NoKeys;

impl SubjectKeys for NoKeys {
    fn key_for(&mut self, _: &str) -> Result<(String, SubjectKey)> {
        Err(attestlog::Error::new(ErrorKind::Key, "the master key is missing"))
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn policy() -> Policy {
    Policy::builder(Preset::Default)
        .field("ssn", Action::Seal)
        .field("arguments.record", Action::Seal)
        .detector(Detector::Email, Action::Seal)
        .build()
        .unwrap()
}

#[test]
fn fields_are_sealed_where_they_stand_and_opened_again() {
    let sanitizer = Sanitizer::new(&policy(), Secrets::default()).unwrap();
    let text = br#"{"list":[{"ssn":"460-89-9847"}],"record":{"a":[1,null]},"note":"jane@example.org, 10.0.0.1","n":1}"#;
    let before = Json::parse(text).unwrap().value;
    let (mut value, mut keys, mut random) = (before.clone(), Keys::default(), random());
    let mut context = Context::sealing("P1", &mut keys, &mut random);
    sanitizer.treat(Root::Arguments, &mut value, &mut context).unwrap();
    let treated = context.into_treated();
    assert!(treated.iter().all(|t| t.action == Action::Seal), "{treated:?}");
    let line = value.to_canonical();
    for secret in ["460-89-9847", "jane", "10.0.0.1", "null"] {
        assert!(!line.as_str().contains(secret), "{secret} in {line}");
    }
    let key = &keys.0["key-P1"];
    for t in &treated {
        let at = path(&t.path);
        let inner = path(t.path.strip_prefix("arguments.").unwrap());
        let sealed = inner.find(&value).unwrap();
        assert_eq!(sealed_subject(sealed), Some("key-P1"));
        let opened = open(key, &at, sealed).unwrap();
        assert_eq!(Some(&opened.value), inner.find(&before), "{}", t.path);
        assert!(verify_reveal(&at, &opened.salt, &opened.value, &sealed_commitment(sealed).unwrap()));
        let salt: String = opened.salt.iter().map(|b| format!("{b:02x}")).collect();
        assert!(!line.as_str().contains(&salt));
    }
    assert_eq!(treated.len(), 3);
}

#[test]
fn what_cannot_be_an_object_takes_its_string_with_it_or_is_masked() {
    let sanitizer = Sanitizer::new(&policy(), Secrets::default()).unwrap();
    let (mut keys, mut random) = (Keys::default(), random());
    // JSON in a string: the whole string is sealed, and opens as it was.
    let text = r#"{"ssn":"1","password":"x"}"#;
    let mut value = Json::Object([("body", text)].into_iter().collect());
    let mut context = Context::sealing("P1", &mut keys, &mut random);
    sanitizer.treat(Root::Result, &mut value, &mut context).unwrap();
    let treated = context.into_treated();
    assert_eq!((treated.len(), treated[0].path.as_str(), treated[0].action), (1, "result.body", Action::Seal));
    let opened = open(&keys.0["key-P1"], &path("result.body"), value.get("body").unwrap()).unwrap();
    assert_eq!(opened.value, Json::from(text));
    // A text stays a text.
    let mut reason = "asked by jane@example.org".to_owned();
    let mut random = self::random();
    let mut context = Context::sealing("P1", &mut keys, &mut random);
    sanitizer.treat_text(Root::Text, &mut reason, &mut context).unwrap();
    assert!(!reason.contains("jane") && reason.contains("[REDACTED:email]"), "{reason}");
    assert_eq!(context.treated()[0].action, Action::Mask);
    // Without a subject to seal for.
    let mut value = Json::parse(br#"{"ssn":"460-89-9847","b":"{\"ssn\":\"1\"}"}"#).unwrap().value;
    let mut context = Context::new();
    sanitizer.treat(Root::Arguments, &mut value, &mut context).unwrap();
    assert_eq!(value.get("ssn"), Some(&Json::from("[REDACTED:ssn]")));
    assert!(!value.to_canonical().as_str().contains("\\\"1"));
    // If a key is unavailable, the entry fails.
    let mut random = self::random();
    let mut no_keys = NoKeys;
    let mut context = Context::sealing("P1", &mut no_keys, &mut random);
    let mut value = Json::parse(br#"{"ssn":"460-89-9847"}"#).unwrap().value;
    assert_eq!(sanitizer.treat(Root::Arguments, &mut value, &mut context).unwrap_err().kind(), ErrorKind::Key);
}

#[test]
fn another_key_another_place_another_byte_do_not_open() {
    let mut random = random();
    let (key, other) = (SubjectKey::generate(&mut random).unwrap(), SubjectKey::generate(&mut random).unwrap());
    let at = path("arguments.ssn");
    let sealed = seal(&key, "k1", &at, &Json::from("460-89-9847"), &mut random).unwrap();
    assert!(open(&key, &at, &sealed).is_ok());
    assert_eq!(open(&other, &at, &sealed).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(open(&key, &path("arguments.other"), &sealed).unwrap_err().kind(), ErrorKind::Key);
    let text = sealed.to_canonical();
    for i in 0..text.as_str().len() {
        let mut bytes = text.as_str().as_bytes().to_vec();
        bytes[i] ^= 1;
        let Ok(parsed) = Json::parse(&bytes) else { continue };
        assert!(open(&key, &at, &parsed.value).is_err(), "byte {i}");
    }
    for other in [Json::Null, Json::from("x"), Json::parse(br#"{"sealed":{}}"#).unwrap().value] {
        assert_eq!(open(&key, &at, &other).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!((sealed_subject(&other), sealed_commitment(&other)), (None, None));
    }
    // Sealing twice gives nothing in common but the subject.
    let again = seal(&key, "k1", &at, &Json::from("460-89-9847"), &mut random).unwrap();
    assert_ne!(sealed_commitment(&again), sealed_commitment(&sealed));
}

#[test]
fn a_reveal_is_of_one_value_in_one_place() {
    let mut random = random();
    let key = SubjectKey::generate(&mut random).unwrap();
    let (at, value) = (path("arguments.ssn"), Json::from("460-89-9847"));
    let sealed = seal(&key, "k1", &at, &value, &mut random).unwrap();
    let (opened, commitment) = (open(&key, &at, &sealed).unwrap(), sealed_commitment(&sealed).unwrap());
    let mut salt = opened.salt;
    assert!(verify_reveal(&at, &salt, &value, &commitment));
    assert!(!verify_reveal(&path("arguments.ssN"), &salt, &value, &commitment));
    assert!(!verify_reveal(&at, &salt, &Json::from("460-89-9848"), &commitment));
    salt[0] ^= 1;
    assert!(!verify_reveal(&at, &salt, &value, &commitment));
}

#[test]
fn subject_keys_are_wrapped_by_the_master_key() {
    let mut random = random();
    let master = MasterKey::generate(&mut random).unwrap();
    let key = SubjectKey::generate(&mut random).unwrap();
    let members = ["ps_one".to_owned(), "ps_two".to_owned()];
    let wrapped = key.wrap(&master, "k1", &members, &mut random).unwrap();
    let at = path("arguments.ssn");
    let sealed = seal(&key, "k1", &at, &Json::from("x"), &mut random).unwrap();
    let again = SubjectKey::unwrap(&wrapped, &master, "k1", &members).unwrap();
    assert_eq!(open(&again, &at, &sealed).unwrap().value, Json::from("x"));
    // A new master key wraps the same key again; the old one opens nothing of it.
    let next = MasterKey::generate(&mut random).unwrap();
    let rewrapped = again.wrap(&next, "k1", &members, &mut random).unwrap();
    assert!(SubjectKey::unwrap(&rewrapped, &next, "k1", &members).is_ok());
    for (bytes, master, id) in
        [(&rewrapped, &master, "k1"), (&wrapped, &next, "k1"), (&wrapped, &master, "k2"), (&Vec::new(), &master, "k1")]
    {
        assert_eq!(SubjectKey::unwrap(bytes, master, id, &members).unwrap_err().kind(), ErrorKind::Key);
    }
    for other in [&members[..1], &["ps_one".to_owned(), "ps_three".to_owned()], &[]] {
        assert!(SubjectKey::unwrap(&rewrapped, &next, "k1", other).is_err(), "it is bound to whose key it is");
    }
    assert_eq!((format!("{master:?}"), format!("{key:?}")), ("MasterKey(…)".into(), "SubjectKey(…)".into()));
    assert_eq!(MasterKey::new(*master.expose()).expose(), master.expose());
}

proptest! {
    #[test]
    fn every_value_comes_back(text in "[^\0]{0,60}", n in -1000i64..1000, steps in "[a-z]{1,5}") {
        let mut random = random();
        let key = SubjectKey::generate(&mut random).unwrap();
        let number = Json::parse(n.to_string().as_bytes()).unwrap().value;
        let value = Json::Array(vec![Json::from(text), number, Json::Null]);
        let at = Path::root().key("result").key(&steps).index(3);
        let sealed = seal(&key, "k", &at, &value, &mut random).unwrap();
        prop_assert_eq!(open(&key, &at, &sealed).unwrap().value, value);
    }
}
