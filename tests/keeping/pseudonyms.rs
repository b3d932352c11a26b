//! Entries about the same person can be linked by whoever has the key, and by nobody else.

use attestlog::ErrorKind;
use attestlog::json::Json;
use attestlog::redact::{
    Action, Context, IdentityKind, Policy, Preset, PseudonymKey, Root, Sanitizer, Secrets, is_pseudonym,
};
use proptest::prelude::*;

fn key(byte: u8) -> PseudonymKey {
    PseudonymKey::new([byte; 32])
}

fn hipaa(keys: &[u8]) -> Sanitizer {
    let pseudonyms = keys.iter().map(|&b| key(b)).collect();
    Sanitizer::new(&Policy::preset(Preset::Hipaa), Secrets { pseudonyms }).unwrap()
}

#[test]
fn a_pseudonym_names_its_key_and_keeps_128_bits() {
    let pseudonym = key(1).pseudonym("patient", "P-1");
    let parts: Vec<&str> = pseudonym.split('_').collect();
    assert_eq!((parts[0], parts[1], parts[2].len()), ("ps", key(1).id(), 32));
    assert!(is_pseudonym(&pseudonym));
    // This never changes: stores written today are searched for years. Computed with another implementation of HMAC.
    assert_eq!(pseudonym, "ps_722d23ed_7b7b54336cd2fbc1a0d954c0710405c2");
    for other in ["", "ps_", "ps_3bb8a8dc", "ps_xyzxyzxy_0123", "P-1", "ps_00000000_0000000000000000000000000000000g"] {
        assert!(!is_pseudonym(other), "{other}");
    }
}

#[test]
fn one_spelling_of_a_value() {
    let key = key(1);
    for (domain, same) in [
        ("ssn", vec!["460-89-9847", "460 89 9847", "460899847", " 460.89.9847 "]),
        ("phone", vec!["+1 (541) 754-3010", "1-541-754-3010", "0015417543010"]),
        ("card", vec!["4111 1111 1111 1111", "4111-1111-1111-1111"]),
        ("email", vec!["Jane@Example.org", " jane@example.ORG"]),
        ("iban", vec!["GB82 WEST 1234 5698 7654 32", "gb82west12345698765432"]),
        ("ip", vec!["2001:DB8::1", "2001:db8:0:0:0:0:0:1"]),
        ("patient", vec!["P-1", " P-1", "P-1\u{200b}", "\u{feff}P-1\n", "P\u{ad}-1"]),
    ] {
        let first = key.pseudonym(domain, same[0]);
        for spelling in &same {
            assert_eq!(key.pseudonym(domain, spelling), first, "{spelling}");
        }
    }
    for (domain, a, b) in [
        ("patient", "P-1-11", "P-11-1"),
        ("patient", "P-1", "P1"),
        // These once had the same pseudonym, and erasing one erased the other's values.
        ("patient", "P-1", "P_1"),
        ("patient", "P-1", "p-1"),
        ("user", "dr smith", "dr_smith"),
        ("mrn", "A/1", "A-1"),
        ("conversation", "aB", "Ab"),
        ("phone", "Jane", "Joe"),
        ("ssn", "460-89-9847", "460-89-9848"),
    ] {
        assert_ne!(key.pseudonym(domain, a), key.pseudonym(domain, b), "{a} {b}");
    }
}

#[test]
fn domains_and_keys_keep_values_apart() {
    assert_ne!(key(1).pseudonym("patient", "17"), key(1).pseudonym("user", "17"));
    assert_ne!(key(1).pseudonym("patient", "17"), key(2).pseudonym("patient", "17"));
    assert_ne!(key(1).id(), key(2).id());
    assert!(!format!("{:?}", key(1)).contains("1, 1"));
    let mut next = 0;
    let random = &mut |out: &mut [u8]| {
        next += 1;
        out.fill(next);
        Ok(())
    };
    assert_eq!(PseudonymKey::generate(random).unwrap().expose(), &[1; 32]);
}

#[test]
fn patients_are_found_under_every_live_key() {
    let before = hipaa(&[1]);
    let after = hipaa(&[2, 1]);
    let written = before.facet(IdentityKind::Patient, "P-1");
    assert!(is_pseudonym(&written));
    let newest_key = key(2).following(&key(1));
    let newest = newest_key.pseudonym("patient", "P-1");
    assert_eq!(after.facet(IdentityKind::Patient, " P-1\u{200b}"), newest);
    assert_eq!(after.lookup(IdentityKind::Patient, "P-1 "), ["P-1".to_owned(), newest, written.clone()]);
    // A pseudonym in a query stands for itself; one given as a name is replaced by another pseudonym.
    assert_eq!(after.facet(IdentityKind::Patient, &written), newest_key.pseudonym("patient", &written));
    assert_eq!(after.lookup(IdentityKind::Patient, &written), std::slice::from_ref(&written));
    // A value that the policy keeps is looked up in clear, and as an earlier policy may have written it.
    assert_eq!(after.facet(IdentityKind::User, "u1"), "u1");
    assert_eq!(after.lookup(IdentityKind::User, "u1")[0], "u1");
    assert_eq!(after.lookup(IdentityKind::User, "u1").len(), 3);
    let none = Sanitizer::new(&Policy::default(), Secrets::default()).unwrap();
    assert_eq!(none.lookup(IdentityKind::Patient, "P-1"), ["P-1"]);
}

/// After a rotation a later key enciphers what the oldest gives. This never changes either. Computed with another
/// implementation of HMAC.
#[test]
fn a_later_key_s_pseudonym_keeps_128_bits_and_shows_nothing_of_the_older_one() {
    let later = key(2).following(&key(1)).pseudonym("patient", "P-1");
    assert!(is_pseudonym(&later) && later.contains(key(2).id()));
    assert_eq!(later, "ps_398512ad_c6d275ce14e1a659d0a916aab45ad4dc");
    assert_eq!(key(1).following(&key(1)).pseudonym("patient", "P-1"), key(1).pseudonym("patient", "P-1"));
    assert_ne!(later[12..], key(1).pseudonym("patient", "P-1")[12..]);
    assert_ne!(later, key(2).pseudonym("patient", "P-1"));
}

#[test]
fn the_patient_is_the_same_in_arguments_and_as_a_facet() {
    let sanitizer = hipaa(&[1]);
    let text = br#"{"patient_id":"P-1","patientIds":["P-1",2,null],"n":{"patient_id":7}}"#;
    let mut value = Json::parse(text).unwrap().value;
    sanitizer.treat(Root::Arguments, &mut value, &mut Context::new()).unwrap();
    let facet = |clear: &str| Json::from(sanitizer.facet(IdentityKind::Patient, clear));
    assert_eq!(value.get("patient_id"), Some(&facet("P-1")));
    assert_eq!(value.get("patientIds").unwrap().as_array().unwrap(), [facet("P-1"), facet("2"), Json::Null]);
    assert_eq!(value.get("n").unwrap().get("patient_id"), Some(&facet("7")));
    // Treating a treated value changes nothing.
    let once = value.clone();
    sanitizer.treat(Root::Arguments, &mut value, &mut Context::new()).unwrap();
    assert_eq!(value, once);
}

/// A host gave the patient as an object. The entry had one pseudonym in `patient_ids` and another in its arguments:
/// that of the whole object, which nobody could look up.
#[test]
fn an_object_that_stands_for_a_patient_has_the_patient_s_pseudonym() {
    let sanitizer = hipaa(&[1]);
    let facet = |clear: &str| Json::from(sanitizer.facet(IdentityKind::Patient, clear));
    let treated = |text: &str| {
        let mut value = Json::parse(text.as_bytes()).unwrap().value;
        sanitizer.treat(Root::Arguments, &mut value, &mut Context::new()).unwrap();
        value.get("patient").unwrap().clone()
    };
    assert_eq!(treated(r#"{"patient":{"id":"P-9","ward":"B2"}}"#), facet("P-9"));
    assert_eq!(treated(r#"{"patient":{"id":" P-9","value":"P-9 "}}"#), facet("P-9"));
    assert_eq!(treated(r#"{"patient":{"id":17}}"#), facet("17"));
    assert_eq!(treated(r#"{"patient":[{"patientId":"P-9"},"P-8"]}"#).as_array().unwrap(), [facet("P-9"), facet("P-8")]);
    // An object that names two patients, or none, gets a pseudonym of all of it, and nothing of it is left in clear.
    for nobody in [r#"{"patient":{"id":"P-9","value":"P-8"}}"#, r#"{"patient":{"ward":"B2"}}"#] {
        let text = treated(nobody).as_str().unwrap().to_owned();
        assert!(is_pseudonym(&text) && Json::from(text.as_str()) != facet("P-9"), "{text}");
    }
}

#[test]
fn a_policy_with_pseudonyms_needs_a_key() {
    let error = Sanitizer::new(&Policy::preset(Preset::Hipaa), Secrets::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    let policy = Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Pseudonymise).build().unwrap();
    assert!(policy.needs_pseudonym_key() && !policy.needs_subject_keys());
    assert!(Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Mask).build().is_err());
}

/// Detectors' domains in which case makes no difference.
const FOLDED: [&str; 6] = ["ssn", "card", "phone", "iban", "ip", "email"];

proptest! {
    #[test]
    fn the_clear_value_is_never_in_its_pseudonym(domain in "[a-z]{1,8}", clear in "[g-z]{2,20}") {
        let pseudonym = key(3).pseudonym(&domain, &clear);
        prop_assert!(is_pseudonym(&pseudonym));
        prop_assert!(!pseudonym[12..].contains(&clear));
        prop_assert_eq!(key(3).pseudonym(&domain, &clear.to_uppercase()) == pseudonym, FOLDED.contains(&&*domain));
    }
}
