//! The configuration file: the documented example holds, and whatever is wrong has a place.
#![cfg(feature = "config")]

use attestlog::redact::{Action, Detector, IdentityKind};
use attestlog::{ErrorKind, PolicySet};

/// The example of docs/policy.md.
fn example() -> String {
    let text = include_str!("../../docs/policy.md");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_documented_example_is_read_whole() {
    let set = PolicySet::from_toml(&example(), "store.toml").unwrap();
    assert_ne!(set.retention, PolicySet::default().retention);
    assert_ne!(set.patients, PolicySet::default().patients);
    assert_eq!(set.redaction.facet(IdentityKind::Patient), Action::Pseudonymise);
    assert_eq!(set.redaction.detector(Detector::Phone), Action::Partial);
    assert!(set.redaction.needs_subject_keys());
    assert_eq!(set.results.keep_full, Some(4096));
    assert_eq!(PolicySet::from_json(&set.to_json()).unwrap(), set);
    // Each of its lines that is a setting is read: taking any table's name away is noticed.
    for (n, line) in example().lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let broken = example().replacen(line, &line.replacen(|c: char| c.is_alphabetic(), "x", 1), 1);
        let error = PolicySet::from_toml(&broken, "store.toml").unwrap_err();
        assert!(error.to_string().starts_with("store.toml:"), "{}: {error}", n + 1);
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(PolicySet::from_toml("# nothing\n", "f").unwrap(), PolicySet::default());
}

#[test]
fn whatever_is_wrong_has_file_line_and_column() {
    let cases = [
        ("[retention]\n[redactoin]\n", "f:2:2: unknown table \"redactoin\""),
        ("preset = 'hipaa'\n", "f:1:1: unknown key \"preset\""),
        ("[results]\nkeep_ful = 1\n", "f:2:1: unknown key \"keep_ful\""),
        ("[results]\nkeep_full = 'x'\n", "f:2:13: keep_full is a number"),
        ("[results]\nkeep_full = -1\n", "f:2:13: keep_full is a number"),
        ("[results]\nidentifying = ['a', 7]\n", "f:2:21: identifying is a list"),
        ("[results]\nidentifying = 'a'\n", "f:2:15: identifying is a list"),
        ("[results]\nidentifying = ['a*b']\n", "f:2:16: a name is written out"),
        ("results = 1\n", "f:1:11: results is a table"),
        ("[retention]\ndefault = 'generel'\n", "f:2:11: "),
        ("[retention]\ncolour = 'red'\n", "f:2:1: "),
        ("[[patients]]\ntool = 'x'\npaths = ['elsewhere.id']\n", "f:3:10: "),
        ("\n[redaction.detectors]\nemail = 'hide'\n", "f:3:9: no action"),
        ("[redaction.detectors]\nsmell = 'mask'\n", "f:2:1: no detector"),
        ("[redaction.fields]\n\"/(/\" = 'mask'\n", "f:2:1: "),
        ("[redaction.fields]\npassword = 'keep'\n", "f:2:1: "),
        ("[redaction\n", "f:1:"),
        ("[results]\nkeep_full = 1\nkeep_full = 2\n", "f:3:"),
    ];
    for (text, expected) in cases {
        let error = PolicySet::from_toml(text, "f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn the_first_fault_of_the_file_is_told() {
    let error = PolicySet::from_toml("[a]\n[b]\n", "f").unwrap_err();
    assert!(error.to_string().starts_with("f:1:2: unknown table \"a\""), "{error}");
}
