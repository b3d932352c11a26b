//! The configuration file: the documented example is valid, and every error has a place.
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
    // Each table heading in it is read: a misspelt one is noticed.
    for (n, line) in example().lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let broken = example().replacen(line, &line.replacen(|c: char| c.is_alphabetic(), "x", 1), 1);
        let error = PolicySet::from_toml(&broken, "store.toml").unwrap_err();
        assert!(error.to_string().starts_with("store.toml:"), "{}: {error}", n + 1);
    }
}

/// `policy show` printed JSON, which `policy set` did not take.
#[test]
fn a_policy_is_written_as_the_file_that_gives_it_again() {
    let texts = [
        String::new(),
        example(),
        "[retention]\nbuiltin = false\ndefault = 'x'\n[retention.classes]\nx = '18 months'\n".to_owned(),
        "[redaction]\npreset = 'pci'\nallow_secrets = true\n[redaction.fields]\npassword = 'keep'\n".to_owned(),
        "[redaction]\npreset = 'hipaa'\n[redaction.detectors]\nown = { pattern = 'a\"\\d+é', action = 'seal' }\n".to_owned(),
        "[redaction]\npreset = 'floor'\nobject_keys = false\n[redaction.facets]\nuser = 'pseudonymise'\n".to_owned(),
        "[keys]\nrotate_entries = 'never'\nrotate_days = 'never'\n[results]\nidentifying = []\n".to_owned(),
        "[[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'failures'\ncount = 3\n".to_owned(),
        "[[alerts]]\nname = 'volume'\nbaseline = { multiple = 2.5, periods = 7, at_least = 10 }\n[[alerts]]\nname = 'off-hours'\n\
         off_hours = { zone = 'Europe/Berlin', days = ['mon'], from = '07:00', to = '19:00', holidays = ['2025-12-25'] }\n\
         [[alerts]]\nname = 'first-access'\n"
            .to_owned(),
    ];
    for text in texts {
        let set = PolicySet::from_toml(&text, "given").unwrap();
        let written = set.to_toml();
        assert_eq!(PolicySet::from_toml(&written, "written").unwrap(), set, "{text}\n---\n{written}");
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(PolicySet::from_toml("# nothing\n", "f").unwrap(), PolicySet::default());
}

#[test]
fn whatever_is_wrong_has_file_line_and_column() {
    let cases = [
        ("[retention]\n[redactoin]\n", "f:2:2: unknown table \"redactoin\"; there are the tables retention"),
        ("preset = 'hipaa'\n", "f:1:1: unknown key \"preset\""),
        (
            "[results]\nkeep_ful = 1\n",
            "f:2:1: unknown key \"keep_ful\"; results has identifying, keep_full; is it keep_full?",
        ),
        ("[results]\nkeep_full = 'x'\n", "f:2:13: results.keep_full must be a whole number, not a string"),
        ("[results]\nkeep_full = -1\n", "f:2:13: results.keep_full must be a whole number from 0"),
        ("[results]\nidentifying = ['a', 7]\n", "f:2:21: results.identifying[1] must be a string, not a whole number"),
        ("[results]\nidentifying = 'a'\n", "f:2:15: results.identifying must be a list, not a string"),
        ("[results]\nidentifying = ['a*b']\n", "f:2:16: a name is written out"),
        ("results = 1\n", "f:1:11: results must be a table, not a whole number"),
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

/// The place of an error was only in the message, and the program parsed messages to find it. Six readers each counted
/// lines in their own way, two did not know the file's name, and half of the messages did not say which member was meant.
#[test]
fn every_fault_carries_its_place_as_data() {
    let cases = [
        ("[retention]\ndefault = 7\n", (2, 11, 22), Some("retention.default")),
        ("[retention.classes]\nx = '7 yards'\n", (2, 5, 24), Some("retention.classes.x")),
        ("[retention.classes]\n'ü b' = '7 years'\n", (2, 9, 29), Some("retention.classes.\"ü b\"")),
        ("[[patients]]\ntool = 'x'\npaths = ['elsewhere.id']\n", (3, 10, 33), Some("patients[0].paths[0]")),
        ("[redaction.fields]\na = { action = 'hide' }\n", (2, 16, 34), Some("redaction.fields.a.action")),
        ("[results]\nkeep_ful = 1\n", (2, 1, 10), Some("results.keep_ful")),
        ("[keys]\nrotate_entries = 99\n", (2, 18, 24), Some("keys.rotate_entries")),
        ("[[alerts]]\nname = 'x'\nwhen = { colour = 'red' }\n", (3, 10, 31), Some("alerts[0].when.colour")),
        ("[[anchor]]\nfile = 'x'\n[[anchor]]\nfile = 3\n", (4, 8, 40), Some("anchor[1].file")),
        ("[[receivers]]\nto = 'moon'\n", (2, 6, 19), Some("receivers[0].to")),
        ("[results]\nkeep_full = \n", (2, 13, 22), None),
    ];
    for (text, (line, column, offset), member) in cases {
        let error = PolicySet::from_toml(text, "store.toml").unwrap_err();
        let place = error.place().unwrap();
        assert_eq!(place.file.as_deref(), Some("store.toml"), "{error}");
        assert_eq!((place.line, place.column, place.offset), (Some(line), Some(column), Some(offset)), "{error}");
        assert_eq!(place.member.as_deref(), member, "{error}");
        assert!(error.to_string().starts_with(&format!("store.toml:{line}:{column}: ")), "{error}");
    }
}

/// `name = "falures"` with `enabled = false` was accepted: no rule of that name existed, nothing was switched off, and nothing said so.
/// With `count = 20` a second rule came into force that any 20 calls fired, and `failures` stayed as it was.
#[test]
fn a_misspelt_alert_rule_is_refused_and_makes_no_rule_that_any_call_fires() {
    let cases = [
        ("[[alerts]]\nname = 'falures'\nenabled = false\n", "is it failures?"),
        ("[[alerts]]\nname = 'falures'\ncount = 20\n", "is it failures?"),
        ("[[alerts]]\nname = 'firstaccess'\n", "is it first-access?"),
        ("[[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'offhours'\nwindow = '1h'\n", "is it off-hours?"),
        ("[[alerts]]\nname = 'busy'\ncount = 1000\n", "no condition of its own"),
        ("[[alerts]]\nname = 'busy'\nenabled = false\n", "no alert rule"),
    ];
    for (text, said) in cases {
        let error = PolicySet::from_toml(text, "f").unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(said), "{text}: {error}");
        assert!(error.to_string().starts_with("f:"), "{error}");
    }
    for text in [
        "[[alerts]]\nname = 'busy'\ncount = 1000\nwhen = { kind = 'tool_call' }\n",
        "[[alerts]]\nname = 'busy'\ndistinct = { facet = 'tool', count = 30 }\n",
        "[[alerts]]\nname = 'failures'\nenabled = false\n[[alerts]]\nname = 'first-access'\nenabled = false\n",
    ] {
        PolicySet::from_toml(text, "f").unwrap();
    }
    // After all rules were switched off, one that was named again was a rule without its condition.
    let again = "[[alerts]]\nname = '*'\nenabled = false\n[[alerts]]\nname = 'failures'\n";
    let (again, built_in) = (PolicySet::from_toml(again, "f").unwrap().alerts, PolicySet::default().alerts);
    assert_eq!((again.iter().len(), again.get("failures")), (1, built_in.get("failures")));
}

/// The nearest existing name is suggested, whichever section it is in.
#[test]
fn a_misspelt_name_is_told_with_the_one_that_it_is_like() {
    let cases = [
        ("[redactoin]\n", "is it redaction?"),
        ("[retention]\npreset = 'hippa'\n", "is it hipaa?"),
        ("[redaction]\nfeilds = {}\n", "is it fields?"),
        ("[redaction.detectors]\nemial = 'mask'\n", "is it email?"),
        ("[[alerts]]\nname = 'x'\nwindwo = '1h'\n", "is it window?"),
        ("[[anchor]]\nfiel = 'x'\n", "is it file?"),
        ("[[receivers]]\nsecretfile = 'x'\n", "is it secret_file?"),
    ];
    for (text, offered) in cases {
        let error = PolicySet::from_toml(text, "f").unwrap_err().to_string();
        assert!(error.contains(offered), "{error}");
    }
}
