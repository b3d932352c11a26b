//! Every call is kept for as long as the policy demands; callers and later policies can only lengthen that.

use attestlog::entry::{CallLimits, Retention};
use attestlog::json::Json;
use attestlog::retention::{PatientPaths, Period, PolicyBuilder, PolicyHistory, Preset, RetentionPolicy};
use attestlog::{ErrorKind, Timestamp};
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap().value
}

fn assigned(policy: &RetentionPolicy, tool: &str, patient: bool, base: &str) -> (String, String) {
    let kept = policy.assign(tool, patient, None, None, at(base)).unwrap();
    (kept.class, kept.until.to_string())
}

/// A server that spelled its tools `issueRefund`, as many do, had its refunds kept for one year instead of seven, by
/// the built-in policy and by presets, without any notice. Comparing a later policy's demands for a tool also used one
/// spelling only.
#[test]
fn a_tool_is_of_its_class_however_it_is_spelt() {
    let spelt = ["issue_refund", "issueRefund", "IssueRefund", "issue-refund", "ISSUE_REFUND", "issue.refund"];
    for policy in [RetentionPolicy::default(), RetentionPolicy::preset(Preset::Finance)] {
        for tool in spelt {
            assert_eq!(assigned(&policy, tool, false, "2025-01-31T10:00:00Z").0, "financial", "{tool}");
        }
    }
    let records = RetentionPolicy::preset(Preset::AstmE2147);
    assert_eq!(assigned(&records, "accessPatientRecord", false, "2025-01-31T10:00:00Z").0, "healthcare");
    let of = |tool: &str| {
        let builder =
            PolicyBuilder::empty().class("long", Period::years(3).unwrap()).class("short", Period::years(1).unwrap());
        builder.default_class("short").tool(tool, "long").build().unwrap()
    };
    // The same for patterns, but only at word boundaries.
    for tool in ["getChart", "GetChartPage", "get-chart"] {
        assert_eq!(assigned(&of("get_*"), tool, false, "2025-01-31T10:00:00Z").0, "long", "{tool}");
        assert_eq!(assigned(&of("*Get*"), tool, false, "2025-01-31T10:00:00Z").0, "long", "{tool}");
    }
    assert_eq!(assigned(&of("get_*"), "getaway", false, "2025-01-31T10:00:00Z").0, "short");
    for (old, new) in [("get_chart", "getChart"), ("getChart*", "get_*"), ("get-*", "get_*")] {
        of(new).check_successor(&of(old)).unwrap();
    }
    assert!(of("get_*").check_successor(&of("get*")).is_err());
}

#[test]
fn the_built_in_policy() {
    let policy = RetentionPolicy::default();
    assert_eq!(policy.classes().len(), 3, "the constants build");
    let cases = [
        ("charge_payment", false, "financial", "2032-01-31T10:00:00Z"),
        ("issue_refund", false, "financial", "2032-01-31T10:00:00Z"),
        ("apply_credit", false, "financial", "2032-01-31T10:00:00Z"),
        ("access_patient_record", false, "healthcare", "2031-01-31T10:00:00Z"),
        ("update_treatment", false, "healthcare", "2031-01-31T10:00:00Z"),
        ("send_mail", true, "healthcare", "2031-01-31T10:00:00Z"),
        // A call with a patient is healthcare, unless its tool demands a longer period: then it is in the tool's class.
        ("charge_payment", true, "financial", "2032-01-31T10:00:00Z"),
        ("send_mail", false, "general", "2026-01-31T10:00:00Z"),
        ("issuerefund", false, "general", "2026-01-31T10:00:00Z"),
    ];
    for (tool, patient, class, until) in cases {
        let got = assigned(&policy, tool, patient, "2025-01-31T10:00:00Z");
        assert_eq!((got.0.as_str(), got.1.as_str()), (class, until), "{tool} {patient}");
    }
}

/// A policy that named only `eu-ai-act`, to keep what the act demands, purged the default class after six months
/// instead of the built-in year: the act's minimum had become the period. A store made before refused it, too.
#[test]
fn a_preset_alone_shortens_nothing() {
    for preset in Preset::ALL {
        let policy = RetentionPolicy::preset(*preset);
        policy.check_successor(&RetentionPolicy::default()).unwrap_or_else(|e| panic!("{preset}: {e}"));
    }
    let half = Period::months(6).unwrap();
    let said = RetentionPolicy::builder().class("general", half).preset(Preset::EuAiAct).build().unwrap();
    assert_eq!(said.period_of("general"), Some(half), "whoever wants it shorter says so");
    let shorter = RetentionPolicy::builder().class("general", Period::months(5).unwrap()).preset(Preset::EuAiAct);
    assert_eq!(shorter.build().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn presets_set_the_class_that_they_concern() {
    let period = |preset: Preset, class: &str| RetentionPolicy::preset(preset).period_of(class).unwrap().to_string();
    assert_eq!(period(Preset::Hipaa, "healthcare"), "6 years");
    assert_eq!(period(Preset::Finance, "financial"), "7 years");
    assert_eq!(period(Preset::PciDss, "general"), "1 year");
    assert_eq!(period(Preset::EuAiAct, "general"), "1 year");
    assert_eq!(period(Preset::AstmE2147, "healthcare"), "10 years");
    for preset in Preset::ALL {
        assert_eq!(Preset::from_name(preset.as_str()), Some(*preset));
    }
    // Two presets for one class: the longer one applies. A longer explicit period is kept; a shorter one is refused.
    let both = RetentionPolicy::builder().preset(Preset::AstmE2147).preset(Preset::Hipaa).build().unwrap();
    assert_eq!(both.period_of("healthcare").unwrap().to_string(), "10 years");
    let with = |years| {
        let builder = RetentionPolicy::builder().class("healthcare", Period::years(years).unwrap());
        builder.preset(Preset::Hipaa).build()
    };
    assert_eq!(with(8).unwrap().period_of("healthcare").unwrap().to_string(), "8 years");
    let refused = with(5).unwrap_err().to_string();
    assert_eq!(refused, "class healthcare: 5 years is less than the preset hipaa demands (6 years)");
    let alone = PolicyBuilder::empty().preset(Preset::Hipaa).preset(Preset::EuAiAct).build().unwrap();
    assert_eq!(assigned(&alone, "t", true, "2025-01-01").1, "2031-01-01T00:00:00Z");
    assert_eq!(assigned(&alone, "t", false, "2025-01-01").1, "2025-07-01T00:00:00Z");
}

#[test]
fn periods_are_of_the_calendar_and_never_a_day_short() {
    let ends = |period: &str, base: &str| period.parse::<Period>().unwrap().after(at(base)).to_string();
    assert_eq!(ends("1 year", "2023-03-01"), "2024-03-01T00:00:00Z"); // 366 days
    assert_eq!(ends("1 year", "2024-02-28T23:59:59.000000001Z"), "2025-03-01T00:00:00Z"); // rounded up to the second
    assert_eq!(ends("1 year", "2024-02-29T12:00:00Z"), "2025-03-01T00:00:00Z"); // that day does not exist in 2025
    assert_eq!(ends("4 years", "2024-02-29T12:00:00Z"), "2028-02-29T12:00:00Z");
    assert_eq!(ends("6 months", "2025-08-31T08:00:00Z"), "2026-03-01T00:00:00Z");
    assert_eq!(ends("1 month", "2025-12-31T23:59:59.5Z"), "2026-02-01T00:00:00Z"); // across the end of the year and rounded up
    assert_eq!(ends("7 years", "2018-12-31T23:59:59Z"), "2025-12-31T23:59:59Z");
    assert_eq!(Period::years(100).unwrap().after(Timestamp::MAX).nanos() / 1_000_000_000, i64::MAX / 1_000_000_000);
    assert_eq!(ends("100 years", "2200-01-01"), Timestamp::MAX.to_string());
    for wrong in
        ["", "7", "7years", "0 years", "101 years", "-1 years", "+1 year", "1 day", "1  year", "99999999999 years"]
    {
        assert_eq!(wrong.parse::<Period>().unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
    assert_eq!("24 months".parse::<Period>().unwrap().to_string(), "2 years");
}

#[test]
fn a_caller_lengthens_and_never_shortens() {
    let policy = RetentionPolicy::default();
    let base = at("2025-01-01");
    let asked = |tool, patient, class, until: Option<&str>| policy.assign(tool, patient, class, until.map(at), base);
    let ok = |kept: attestlog::Result<Retention>| {
        let kept = kept.unwrap();
        (kept.class, kept.until.to_string())
    };
    let pair = |class: &str, until: &str| (class.to_owned(), until.to_owned());
    assert_eq!(ok(asked("t", false, Some("financial"), None)), pair("financial", "2032-01-01T00:00:00Z"));
    assert_eq!(ok(asked("t", false, None, Some("2026-01-01T00:00:00.1Z"))), pair("general", "2026-01-01T00:00:01Z"));
    assert_eq!(ok(asked("t", false, Some("general"), Some("2026-01-01"))), pair("general", "2026-01-01T00:00:00Z"));
    // With a patient too, the class is the one with the longer period, and requesting the patients' own class is always
    // allowed.
    assert_eq!(ok(asked("t", true, Some("financial"), None)), pair("financial", "2032-01-01T00:00:00Z"));
    assert_eq!(ok(asked("charge_payment", true, Some("healthcare"), None)), pair("financial", "2032-01-01T00:00:00Z"));

    let error = |kept: attestlog::Result<Retention>| {
        let error = kept.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    assert_eq!(
        error(asked("issue_refund", false, Some("healthcare"), Some("2099-01-01"))),
        "retention_class: healthcare keeps 6 years, but the policy demands financial (7 years) for this call; \
         it can only be lengthened"
    );
    assert_eq!(
        error(asked("t", true, None, Some("2030-12-31T23:59:59Z"))),
        "retain_until: 2030-12-31T23:59:59Z is before 2031-01-01T00:00:00Z, until which the policy keeps this call \
         (healthcare (6 years)); it can only be lengthened"
    );
    assert_eq!(
        error(asked("t", false, Some("forever"), None)),
        "retention_class: \"forever\" is not a class of the policy, which has financial, general, healthcare"
    );
}

/// A rule assigned `trial_*` to a class of 15 years. A call of such a tool that named a patient was kept for 15 years
/// as `healthcare`, which is 6 years: two members of its line contradicted each other, and a search for the class
/// `trial` found nothing.
#[test]
fn the_class_that_is_named_is_the_one_that_decided() {
    let years = |n| Period::years(n).unwrap();
    let policy = RetentionPolicy::builder().class("trial", years(15)).tool("trial_*", "trial").build().unwrap();
    let kept = |tool| assigned(&policy, tool, true, "2026-01-31T10:00:00Z");
    assert_eq!(kept("trial_dose"), ("trial".to_owned(), "2041-01-31T10:00:00Z".to_owned()));
    assert_eq!(kept("lookup"), ("healthcare".to_owned(), "2032-01-31T10:00:00Z".to_owned()));
}

#[test]
fn the_longest_rule_that_fits_decides() {
    let policy = RetentionPolicy::builder()
        .class("debug", Period::months(1).unwrap())
        .tool("charge_*", "financial")
        .tool("*_preview", "debug")
        .tool("debug_?", "debug")
        .tool("update_*", "debug")
        .build()
        .unwrap();
    let class = |tool| assigned(&policy, tool, false, "2025-01-01").0;
    assert_eq!(class("charge_card"), "financial");
    assert_eq!(class("charge_preview"), "financial");
    assert_eq!(class("mail_preview"), "debug"); // a rule can keep less than the default class
    assert_eq!(class("debug_é"), "debug");
    assert_eq!(class("debug_xy"), "general");
    assert_eq!(class("update_treatment"), "healthcare");
    assert_eq!(class(&"x".repeat(1 << 16)), "general");
}

#[test]
fn what_cannot_be_a_policy_is_refused() {
    let refused = |builder: PolicyBuilder| builder.build().unwrap_err().to_string();
    let new = RetentionPolicy::builder;
    assert!(refused(new().tool("a", "b")).contains("\"b\" is not a class"));
    assert!(refused(new().default_class("b")).contains("\"b\" is not a class"));
    assert!(refused(new().patient_class("b")).contains("\"b\" is not a class"));
    assert!(refused(new().tool("", "general")).contains("1 to 1024 bytes"));
    assert!(refused(new().tool("a".repeat(1000) + "*", "general")).contains("at most 127 characters"));
    assert!(refused(new().class("a b", Period::years(1).unwrap())).contains("letters, digits"));
    assert!(refused(new().clock_bound_days(0)).contains("clock_bound_days"));
    assert!(refused(new().clock_bound_days(u32::MAX)).contains("clock_bound_days"));
    let many = (0..300).fold(new(), |b, i| b.tool(format!("{i}*"), "general"));
    assert!(refused(many).contains("256 patterns"));
}

#[test]
fn a_policy_stands_in_one_json_form() {
    let policy = RetentionPolicy::builder().tool("charge_*", "financial").clock_bound_days(3).build().unwrap();
    let text = policy.to_json().to_canonical();
    assert_eq!(
        text.as_str(),
        r#"{"classes":{"financial":"7 years","general":"1 year","healthcare":"6 years"},"clock_bound_days":3,"default":"general","patient":"healthcare","rules":[{"class":"financial","tool":"charge_payment"},{"class":"financial","tool":"issue_refund"},{"class":"financial","tool":"apply_credit"},{"class":"healthcare","tool":"access_patient_record"},{"class":"healthcare","tool":"update_treatment"},{"class":"financial","tool":"charge_*"}]}"#
    );
    let read = RetentionPolicy::from_json(&text.to_json()).unwrap();
    assert_eq!(read, policy);
    assert_eq!(read.digest(), attestlog::Hash::of(text.as_str().as_bytes()));
    for wrong in [
        "[]",
        "{}",
        r#"{"classes":{"g":"1 year"},"clock_bound_days":3,"default":"g","rules":[],"more":1}"#,
        r#"{"classes":{"g":"1 day"},"clock_bound_days":3,"default":"g","rules":[]}"#,
        r#"{"classes":{"g":1},"clock_bound_days":3,"default":"g","rules":[]}"#,
        r#"{"classes":{"g":"1 year"},"clock_bound_days":3,"default":"h","rules":[]}"#,
        r#"{"classes":{"g":"1 year"},"clock_bound_days":-3,"default":"g","rules":[]}"#,
        r#"{"classes":{"g":"1 year"},"clock_bound_days":3,"default":"g","rules":[{"tool":"a"}]}"#,
        r#"{"classes":{"g":"1 year"},"clock_bound_days":3,"default":"g","rules":[{"tool":"a","class":"g","x":1}]}"#,
    ] {
        assert_eq!(RetentionPolicy::from_json(&json(wrong)).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

#[test]
fn a_later_policy_that_would_shorten_is_refused_with_the_reason() {
    let years = |n| Period::years(n).unwrap();
    let old =
        RetentionPolicy::builder().class("short", Period::months(3).unwrap()).tool("charge_*", "financial").build();
    let old = old.unwrap();
    let builtin = |b: PolicyBuilder| b.class("short", Period::months(3).unwrap());
    let refused = |builder: PolicyBuilder| {
        let error = builder.build().unwrap().check_successor(&old).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        error.to_string().replace("; a later policy can lengthen retention, never shorten it", "")
    };
    let new = || builtin(RetentionPolicy::builder());
    assert_eq!(refused(RetentionPolicy::builder()), "class short (3 months) is missing");
    assert_eq!(
        refused(new().class("financial", years(6))),
        "class financial was kept 7 years and would be kept 6 years; what a policy leaves out has its default again, so write \
         financial = \"7 years\" into it"
    );
    assert_eq!(
        refused(new()),
        "tools charge_* were kept financial (7 years), and no one rule would keep them all more than 1 year"
    );
    assert_eq!(
        refused(new().tool("charge_*", "financial").default_class("short")),
        "calls without a rule were kept general (1 year) and would be kept short (3 months)"
    );
    assert_eq!(
        refused(new().tool("charge_*", "financial").patient_class("general")),
        "calls that touch a patient were kept 6 years and would be kept 1 year"
    );
    // A tool that had no rule cannot get one that keeps it for less than the default class did.
    assert_eq!(
        refused(new().tool("charge_*", "financial").tool("debug_*", "short")),
        "tool debug_* had no rule, was kept general (1 year) and would be kept short (3 months)"
    );
    let without =
        PolicyBuilder::empty().class("financial", years(7)).class("healthcare", years(6)).class("general", years(1));
    let without =
        builtin(without).patient_class("healthcare").tool("*_payment", "financial").tool("charge_*", "financial");
    assert_eq!(refused(without), "tool issue_refund was kept financial (7 years) and would be kept 1 year");

    let accepted = [
        new().tool("charge_*", "financial"),
        new().tool("c*", "financial"),
        new().tool("?h*_*", "financial").class("financial", years(8)),
        new().default_class("financial"),
        new().tool("charge_*", "financial").tool("charge_debug", "short"), // the longer rule still decides
    ];
    for builder in accepted {
        builder.build().unwrap().check_successor(&old).unwrap();
    }
}

#[test]
fn a_longer_class_reaches_what_is_recorded() {
    let years = |n| Period::years(n).unwrap();
    let first = RetentionPolicy::default();
    let base = at("2025-06-15T10:00:00.5Z");
    let plain = first.assign("t", false, None, None, base).unwrap();
    let longer = first.assign("t", false, None, Some(at("2030-01-01")), base).unwrap();
    let money = first.assign("issue_refund", false, None, None, base).unwrap();

    let mut history = PolicyHistory::new(1, first);
    let second = RetentionPolicy::builder().class("general", years(3)).build().unwrap();
    history.push(10, second.clone()).unwrap();
    let of = |history: &PolicyHistory, seq, kept: &Retention| history.effective_until(seq, kept).to_string();
    assert_eq!(of(&history, 5, &plain), "2028-06-15T10:00:01Z");
    assert_eq!(of(&history, 5, &longer), "2032-01-01T00:00:00Z"); // what the caller added stays added
    assert_eq!(of(&history, 5, &money), "2032-06-15T10:00:01Z");
    assert_eq!(of(&history, 11, &plain), "2026-06-15T10:00:01Z"); // whatever its line says, it was recorded under 3 years
    assert_eq!(history.current_seq(), 10);
    assert_eq!(history.at(10), &RetentionPolicy::default()); // the entry that sets a policy is not under it
    assert_eq!(history.at(11), &second);
    assert_eq!(history.at(0), &RetentionPolicy::default());

    // A purge is judged by the policies in force before it.
    assert_eq!(history.effective_until_as_of(5, &plain, 9).to_string(), "2026-06-15T10:00:01Z");
    assert_eq!(history.effective_until_as_of(5, &plain, 10).to_string(), "2026-06-15T10:00:01Z");
    assert_eq!(history.effective_until_as_of(5, &plain, 11).to_string(), "2028-06-15T10:00:01Z");

    let before = history.clone();
    assert_eq!(history.push(20, RetentionPolicy::default()).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(history.push(10, second).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(history, before);
}

/// A later policy without the table `[[patients]]` was put into force without a word: calls about a patient were then kept for one
/// year instead of six, and the patient's report did not list them.
#[test]
fn a_later_policy_finds_patients_wherever_the_one_before_did() {
    let paths = |rules: &[(&str, &[&str])]| {
        PatientPaths::new(rules.iter().map(|(tool, paths)| (*tool, paths.iter().copied()))).unwrap()
    };
    let old = paths(&[("get_chart", &["arguments.subject"]), ("list_*", &["result[*].patient", "arguments.who"])]);
    let more: [&[(&str, &[&str])]; 3] = [
        &[("get_*", &["arguments.subject"]), ("list_*", &["arguments.who", "result[*].patient", "result.x"])],
        &[("*", &["arguments.subject", "result[*].patient"]), ("list*", &["arguments.who"])],
        &[("getChart", &["arguments[\"subject\"]"]), ("list_*", &["result[*].patient"]), ("l*", &["arguments.who"])],
    ];
    for more in more {
        paths(more).check_successor(&old).unwrap();
    }
    let less: [(&[(&str, &[&str])], &str); 4] = [
        (&[], "get_chart"),
        (&[("get_chart", &["arguments.subject"]), ("list_*", &["result[*].patient"])], "arguments.who"),
        (&[("get_charts", &["arguments.subject"]), ("list_*", &["result[*].patient", "arguments.who"])], "get_chart"),
        (&[("get_chart", &["arguments.subject"]), ("list_a*", &["result[*].patient", "arguments.who"])], "list_*"),
    ];
    for (less, missing) in less {
        let error = paths(less).check_successor(&old).unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains(missing), "{error}");
    }
}

/// A path with a star was accepted where only `[*]` means something, and found nobody.
#[test]
fn a_path_with_a_star_that_means_nothing_is_refused() {
    for path in ["result.**.id", "result.patients.*.id", "arguments.pat*", "result.*"] {
        let error = PatientPaths::new([("t", [path])]).unwrap_err();
        assert!(error.to_string().contains("[*]"), "{path}: {error}");
    }
    for path in ["result.patients[*].id", "result[\"a*\"]", "arguments[\"*\"][*]"] {
        PatientPaths::new([("t", [path])]).unwrap();
    }
}

#[test]
fn patients_are_found_where_the_paths_lead() {
    let paths = PatientPaths::new([
        ("get_*", vec!["arguments.subject", "result.entries[*].patient.id", "result.by_id[*]"]),
        ("list", vec!["result[*]", "arguments[\"odd [*] key\"][0]"]),
    ])
    .unwrap();
    let find = |tool: &str, arguments: &str, result: &str| {
        paths.find(tool, Some(&json(arguments)), Some(&json(result)), &CallLimits::default()).unwrap().join(" ")
    };
    assert_eq!(find("other", r#"{"patient_id":"P-1","subject":"P-9"}"#, "{}"), "P-1");
    assert_eq!(find("other", r#"{"patient_id":[17,"P-2","P-2",null,{"id":"x"},["y"],""]}"#, "{}"), "17 P-2 x y");
    assert_eq!(find("other", r#"{"patient_id":null}"#, "{}"), "");
    assert_eq!(find("other", "[1]", "[2]"), "");
    assert_eq!(
        find(
            "get_x",
            r#"{"patient_id":"A","subject":"B"}"#,
            r#"{"entries":[{"patient":{"id":"D"}},3,{"patient":{"id":["C","B"]}}]}"#
        ),
        "A B C D"
    );
    assert_eq!(find("get_x", "{}", r#"{"by_id":{"k":"V","l":7}}"#), "7 V");
    assert_eq!(find("list", r#"{"odd [*] key":["Z"]}"#, r#"["X",{"id":"no"}]"#), "X Z no");
    assert_eq!(paths.find("get_x", None, None, &CallLimits::default()).unwrap().len(), 0);

    let many = json(&format!("{{\"patient_id\":{:?}}}", (0..10_001).collect::<Vec<_>>()));
    assert_eq!(paths.find("t", Some(&many), None, &CallLimits::default()).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(PatientPaths::from_json(&paths.to_json()).unwrap(), paths);
    for wrong in [
        "",
        "subject",
        "argument.x",
        "argumentsx",
        "arguments.",
        "arguments[",
        "arguments..a",
        "result[*]x",
        "result.[0]",
    ] {
        assert_eq!(PatientPaths::new([("t", [wrong])]).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

#[cfg(feature = "config")]
mod toml {
    use super::*;

    #[test]
    fn a_policy_is_read_from_toml() {
        let text = r#"
            [alerts]
            anything = true

            [retention]
            default = "general"
            patient = "healthcare"
            preset = ["hipaa", "eu-ai-act"]
            clock_bound_days = 30

            [retention.classes]
            tax = "10 years"

            [[retention.rules]]
            tool = "invoice_*"
            class = "tax"

            [[patients]]
            tool = "get_chart"
            paths = ["arguments.subject", "result.entries[*].patient.id"]

            [[patients]]
            tool = "find"
            paths = "result[*].id"
        "#;
        let policy = RetentionPolicy::from_toml(text, "f").unwrap();
        let expected = RetentionPolicy::builder()
            .preset(Preset::Hipaa)
            .preset(Preset::EuAiAct)
            .clock_bound_days(30)
            .class("tax", Period::years(10).unwrap())
            .tool("invoice_*", "tax");
        assert_eq!(policy, expected.build().unwrap());
        let paths = vec!["arguments.subject", "result.entries[*].patient.id"];
        assert_eq!(
            PatientPaths::from_toml(text, "f").unwrap(),
            PatientPaths::new([("get_chart", paths), ("find", vec!["result[*].id"])]).unwrap()
        );
        assert_eq!(RetentionPolicy::from_toml("", "f").unwrap(), RetentionPolicy::default());
        let alone = "[retention]\nbuiltin = false\ndefault = \"x\"\nclasses = { x = \"2 months\" }";
        assert_eq!(RetentionPolicy::from_toml(alone, "f").unwrap().classes().len(), 1);
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        let cases = [
            ("retention = 1", "f:1:13: retention must be a table, not a whole number"),
            ("[retention]\ndefault = \"x\"", "f:2:11: \"x\" is not a class of the policy, which has"),
            ("[retention]\n  patient = 7", "f:2:13: retention.patient must be a string, not a whole number"),
            ("[retention]\ncolour = 1", "f:2:1: unknown key \"colour\"; retention has builtin, default"),
            ("[retention]\npreset = [\"hipaa\",\n \"hippa\"]", "f:3:2: no preset \"hippa\"; there are hipaa, finance"),
            ("[retention.classes]\nx = \"7 yards\"", "f:2:5: \"7 yards\" is not a period"),
            ("[retention.classes]\n\"ü b\" = \"7 years\"", "f:2:9: class \"ü b\""),
            (
                "[retention]\npreset = \"hipaa\"\n[retention.classes]\nhealthcare = \"1 year\"",
                "f:4:14: class healthcare: 1 year",
            ),
            ("[[retention.rules]]\ntool = \"a\"", "f:1:1: class is missing in retention.rules[0]"),
            (
                "[[retention.rules]]\ntool = \"a\"\nclass = \"general\"\n[[retention.rules]]\ntool = \"b\"\nclass = \"c\"",
                "f:4:1: \"c\" is not a class",
            ),
            (
                "[[retention.rules]]\ntool = \"a\"\nclass = \"general\"\nuntil = 3",
                "f:4:1: unknown key \"until\"; retention.rules[0] has tool, class",
            ),
            ("[retention]\nclock_bound_days = -7", "f:2:20: retention.clock_bound_days must be a whole number from 0"),
            ("[retention]\nclock_bound_days = 700", "f:2:20: clock_bound_days: between 1 and 366"),
            ("[retention]\ndefault = ", "f:2:1"),
        ];
        for (text, expected) in cases {
            let error = RetentionPolicy::from_toml(text, "f").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(expected), "{text}\n{error}\n{expected}");
        }
        let cases = [
            ("patients = 1", "f:1:12: patients must be a list of tables: write [[patients]]"),
            (
                "[[patients]]\ntool = \"t\"\npaths = [\"arguments.a\",\n\"a\"]",
                "f:4:1: \"a\": a path to patients starts with",
            ),
            ("[[patients]]\ntool = \"\"\npaths = []", "f:2:8: tool \"\": a name or pattern must not be empty"),
        ];
        for (text, expected) in cases {
            let error = PatientPaths::from_toml(text, "f").unwrap_err();
            assert!(error.to_string().starts_with(expected), "{text}\n{error}\n{expected}");
        }
    }
}

// ---- against plain models

const CLASSES: [&str; 4] = ["a", "b", "c", "general"];

#[derive(Debug, Clone)]
struct Model {
    months: [u32; 4],
    rules: Vec<(String, usize)>,
    default: usize,
    patient: Option<usize>,
}

impl Model {
    fn build(&self) -> RetentionPolicy {
        let mut builder = PolicyBuilder::empty();
        for (name, months) in CLASSES.iter().zip(self.months) {
            builder = builder.class(*name, Period::months(months).unwrap());
        }
        for (tool, class) in &self.rules {
            builder = builder.tool(tool, CLASSES[*class]);
        }
        if let Some(patient) = self.patient {
            builder = builder.patient_class(CLASSES[patient]);
        }
        builder.default_class(CLASSES[self.default]).build().unwrap()
    }

    fn demanded(&self, tool: &str, patient: bool) -> u32 {
        let fits = self.rules.iter().filter(|(p, _)| glob(p.as_bytes(), tool.as_bytes())).map(|(_, c)| self.months[*c]);
        let of_tool = fits.max().unwrap_or(self.months[self.default]);
        self.patient.filter(|_| patient).map_or(of_tool, |p| of_tool.max(self.months[p]))
    }
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|n| glob(rest, &name[n..])),
        Some((p, rest)) => name.split_first().is_some_and(|(c, tail)| (*p == b'?' || p == c) && glob(rest, tail)),
    }
}

fn model() -> impl Strategy<Value = Model> {
    let rules = prop::collection::vec(("[xy*?]{1,4}", 0usize..4), 0..5);
    (prop::array::uniform4(1u32..5), rules, 0usize..4, prop::option::of(0usize..4))
        .prop_map(|(months, rules, default, patient)| Model { months, rules, default, patient })
}

fn names() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..5 {
        let to = all.len();
        for i in from..to {
            for c in ["x", "y"] {
                all.push(all[i].clone() + c);
            }
        }
        from = to;
    }
    all.remove(0);
    all
}

fn time() -> impl Strategy<Value = Timestamp> {
    let days = prop_oneof![Just(-2i64), Just(-1), Just(0), Just(1), 0i64..800];
    // Times around the ends of months, on whole seconds and between them, and any others.
    let ends = (0u32..800, days, 0i64..86_400, prop_oneof![Just(0i64), Just(1), Just(999_999_999)]).prop_map(
        |(m, d, s, n)| {
            let month = Timestamp::from_nanos(0).plus_months(m);
            Timestamp::from_nanos(month.nanos() + (d * 86_400 + s) * 1_000_000_000 + n)
        },
    );
    prop_oneof![4 => ends, 1 => any::<i64>().prop_map(Timestamp::from_nanos)]
}

proptest! {
    #[test]
    fn what_is_demanded_is_the_longest_that_fits(model in model(), tool in "[xy]{1,5}", patient: bool, base in time()) {
        let kept = model.build().assign(&tool, patient, None, None, base).unwrap();
        let months = model.demanded(&tool, patient);
        prop_assert_eq!(kept.until, Period::months(months).unwrap().after(base));
        let class = CLASSES.iter().position(|c| *c == kept.class).unwrap();
        prop_assert_eq!(model.months[class], months, "the class named is the one that decided");
    }

    #[test]
    fn a_successor_that_is_accepted_shortens_nothing(old in model(), new in model(), same in any::<bool>()) {
        // Half of the time only a small change, which may well be accepted.
        let new = if same { Model { rules: [old.rules.clone(), new.rules].concat(), ..old.clone() } } else { new };
        if new.build().check_successor(&old.build()).is_ok() {
            for i in 0..4 {
                prop_assert!(new.months[i] >= old.months[i]);
            }
            for name in names() {
                for patient in [false, true] {
                    prop_assert!(new.demanded(&name, patient) >= old.demanded(&name, patient), "{name} {patient}");
                }
            }
        }
    }

    #[test]
    fn every_policy_succeeds_itself_and_survives_its_json(model in model()) {
        let policy = model.build();
        prop_assert!(policy.check_successor(&policy).is_ok());
        prop_assert_eq!(RetentionPolicy::from_json(&policy.to_json()).unwrap(), policy);
    }

    #[test]
    fn no_later_start_or_longer_period_ends_earlier(a in time(), b in time(), p in 1u32..200, q in 1u32..200) {
        let (p, q) = (Period::months(p).unwrap(), Period::months(q).unwrap());
        prop_assert!(a.min(b).plus_months(p.as_months()).ceil_to_second() <= p.after(a.min(b)));
        prop_assert!(p.after(a.min(b)) <= p.after(a.max(b)));
        prop_assert!(p.min(q).after(a) <= p.max(q).after(a));
        let sum = Period::months(p.as_months() + q.as_months()).unwrap();
        prop_assert!(q.after(p.after(a)) >= sum.after(a));
        prop_assert!(p.after(a).nanos() % 1_000_000_000 == 0 || p.after(a) == Timestamp::MAX);
        prop_assert!(p.after(a) >= a);
    }

    /// The model: whatever lengthens retention, an entry is kept at least until each policy since its recording
    /// demands.
    #[test]
    fn effective_ends_never_fall_and_never_fall_short(
        base in time(),
        extra in prop::option::of(0u64..100_000_000),
        steps in prop::collection::vec((1u64..5, 0u32..30), 1..6),
        at_seq in 0u64..25,
    ) {
        let mut months = 12;
        let with = |months| RetentionPolicy::builder().class("general", Period::months(months).unwrap()).build().unwrap();
        let mut history = PolicyHistory::new(0, with(months));
        let mut set = vec![(0u64, months)];
        for (gap, more) in steps {
            months += more;
            let seq = set.last().unwrap().0 + gap;
            set.push((seq, months));
            history.push(seq, with(months)).unwrap();
        }
        let then = set.iter().rev().find(|(seq, _)| *seq < at_seq).map_or(12, |(_, m)| *m);
        let demanded = Period::months(then).unwrap().after(base);
        let until = extra.map(|s| demanded.plus(std::time::Duration::from_secs(s)));
        let kept = history.at(at_seq).assign("t", false, None, until, base).unwrap();
        let mut last = kept.until;
        for as_of in at_seq..30 {
            let effective = history.effective_until_as_of(at_seq, &kept, as_of);
            prop_assert!(effective >= last);
            last = effective;
            for (seq, months) in set.iter().filter(|(seq, _)| *seq < as_of && *seq >= at_seq) {
                prop_assert!(effective >= Period::months(*months).unwrap().after(base), "{seq}");
            }
        }
        prop_assert_eq!(history.effective_until(at_seq, &kept), last);
        if months == then {
            prop_assert_eq!(last, kept.until);
        }
    }
}
