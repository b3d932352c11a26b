//! What `policy set` refuses, and what it says about a policy that hides less or finds less than the one before.

use super::common::{Place, call};

const BASE: &str = "[redaction]\npreset = 'default'\nobject_keys = true\n[redaction.fields]\ndiagnosis = 'seal'\nname = 'mask'\n\
     [redaction.detectors]\nemployee = { pattern = 'EMP-[0-9]{6}', action = 'mask' }\n[redaction.facets]\nuser = 'pseudonymise'\n\
     [results]\nidentifying = ['id']\n[[patients]]\ntool = 'get_chart'\npaths = ['arguments.subject']\n";

/// A policy file without `[[patients]]` was accepted without a word. The next calls about the patient were kept for one year instead
/// of six and were in none of the patient's reports, though a later policy may lengthen retention and never shorten it.
#[test]
fn a_policy_under_which_patients_are_not_found_is_refused() {
    let place = Place::empty();
    place.write("old.toml", BASE);
    place.run(&["init", "s", "--config", "old.toml"]).ok();
    for tool in ["", "[[patients]]\ntool = 'get_charts'\npaths = ['arguments.subject']\n"] {
        place.write("new.toml", format!("{}{tool}", BASE.split("[[patients]]").next().unwrap()));
        let refused = place.run(&["policy", "set", "s", "new.toml"]).code(2).err;
        assert!(refused.contains("get_chart") && refused.contains("arguments.subject"), "{refused}");
    }
    place.write("more.toml", BASE.replace("'get_chart'", "'get_*'"));
    place.run(&["policy", "set", "s", "more.toml"]).ok();
    let line = call("c", "u", "get_chart", r#""arguments":{"subject":"P-1"}"#);
    place.run_with(&["record", "s", "--no-alerts"], line.as_bytes()).ok();
    assert_eq!(place.count(&["--patient", "P-1"]), 1);
}

/// Whole results were recorded from the next policy on, members of results were kept, a pattern found less, object keys were no longer
/// searched, and all alert rules were off: each of these was put into force without a word, where the documentation says that standard
/// error names it.
#[test]
fn whatever_a_policy_hides_or_finds_less_is_said() {
    let place = Place::empty();
    place.write("old.toml", BASE);
    place.run(&["init", "s", "--config", "old.toml"]).ok();
    let alerts = |rules: &str| format!("{BASE}{rules}");
    let cases = [
        (BASE.replace("['id']", "['id']\nkeep_full = 4096"), "whole results of up to 4096 bytes"),
        (BASE.replace("['id']", "['id', 'note']"), "of results the members note"),
        (BASE.replace("{6}", "{7}"), "employee (was EMP-[0-9]{6}, is EMP-[0-9]{7})"),
        (BASE.replace("object_keys = true", "object_keys = false"), "keys of objects are not searched"),
        (BASE.replace("name = 'mask'", "'arguments.x.name' = 'mask'"), "name (was mask, is keep)"),
        (BASE.replace("name = 'mask'", "'nam?' = 'keep'\nname = 'mask'"), "nam? (keep, before rules that hide)"),
        (BASE.replace("user = 'pseudonymise'\n", ""), "ids of user (was pseudonymise, is keep)"),
        (alerts("[[alerts]]\nname = '*'\nenabled = false\n"), "off are the rules same-patient-user,"),
        (alerts("[[alerts]]\nname = 'failures'\nenabled = false\n"), "off are the rules failures"),
        (alerts("[[alerts]]\nname = 'failures'\ncount = 11\n"), "with other conditions failures"),
        (alerts("[[alerts]]\nname = 'failures'\nwindow = '9m'\n"), "with other conditions failures"),
        (alerts("[[alerts]]\nname = 'failures'\nexcept = { user = 'eve' }\n"), "with other conditions failures"),
    ];
    for (text, said) in cases {
        place.write("new.toml", &text);
        let told = place.run(&["policy", "set", "s", "new.toml"]).code(0).err;
        assert!(told.contains(said) && told.contains("than before"), "{text}\n{told}");
        // Back to the one before, which is stronger.
        let told = place.run(&["policy", "set", "s", "old.toml"]).code(0).err;
        // Which of two patterns or paths covers more is not worked out.
        let unknown = text.contains("{7}") || text.contains("arguments.x.name");
        assert!(told.is_empty() || unknown, "{text}\n{told}");
    }
    // The same again, and more of everything.
    let stronger =
        BASE.replace("name = 'mask'", "name = 'mask'\nnote = 'drop'").replace("preset = 'default'", "preset = 'hipaa'");
    let stronger = format!(
        "{stronger}[[alerts]]\nname = 'failures'\ncount = 5\nwindow = '1h'\n[[alerts]]\nname = 'first-access'\n"
    );
    for text in [BASE, &stronger] {
        place.write("new.toml", text);
        let told = place.run(&["policy", "set", "s", "new.toml"]).code(0).err;
        assert!(told.is_empty(), "{text}\n{told}");
    }
}
