//! Recall and precision of the detectors on a labelled corpus.
//!
//! The corpus (texts with labelled spans, generated from templates) is not part of the project. If it is missing, the
//! test says so and checks nothing.

use attestlog::json::Json;
use attestlog::redact::{Policy, Sanitizer, Secrets, dry_run};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Label in the corpus, detector, minimum recall, minimum precision.
const TYPES: [(&str, &str, f64, f64); 6] = [
    ("CREDIT_CARD", "card", 0.98, 0.95),
    ("US_SSN", "ssn", 0.98, 0.95),
    ("EMAIL_ADDRESS", "email", 0.98, 0.95),
    ("IBAN_CODE", "iban", 0.98, 0.95),
    ("IP_ADDRESS", "ip", 0.98, 0.95),
    ("PHONE_NUMBER", "phone", 0.90, 0.95),
];

#[derive(Default)]
struct Score {
    labelled: usize,
    found: usize,
    exact: usize,
    hidden: usize,
    reported: usize,
    right: usize,
}

fn corpus() -> Option<Vec<Json>> {
    let shared = std::env::var_os("ATTESTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let files: Vec<_> = std::fs::read_dir(shared.join("data/pii")).ok()?.flatten().map(|f| f.path()).collect();
    let mut texts = Vec::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "json")) {
        match Json::parse(&std::fs::read(file).ok()?).expect("the corpus is JSON").value {
            Json::Array(items) => texts.extend(items),
            _ => panic!("the corpus is an array"),
        }
    }
    Some(texts)
}

#[test]
fn detectors_find_what_the_corpus_labels() {
    let Some(texts) = corpus() else {
        println!("SKIPPED: no labelled corpus at ../shared/data/pii or $ATTESTLOG_SHARED/data/pii");
        return;
    };
    let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default()).unwrap();
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    for entry in &texts {
        let text = entry.get("full_text").and_then(Json::as_str).unwrap();
        let (_, treated) = dry_run(&sanitizer, Json::from(text)).unwrap();
        let found: Vec<(&str, usize, usize)> =
            treated.iter().map(|t| (t.detector.as_str(), t.start.unwrap(), t.end.unwrap())).collect();
        let labels: Vec<(&str, usize, usize)> = entry
            .get("spans")
            .and_then(Json::as_array)
            .unwrap()
            .iter()
            .map(|s| {
                let at = |key: &str| s.get(key).and_then(Json::as_u64).unwrap() as usize;
                (s.get("entity_type").and_then(Json::as_str).unwrap(), at("start_position"), at("end_position"))
            })
            .collect();
        let detector = |label: &str| TYPES.iter().find(|t| t.0 == label).map(|t| t.1);
        for &(label, start, end) in &labels {
            let score = scores.entry(label.to_owned()).or_default();
            let same = |f: &&(&str, usize, usize)| Some(f.0) == detector(label) && f.1 < end && start < f.2;
            score.labelled += 1;
            score.found += usize::from(found.iter().any(|f| same(&f)));
            score.exact += usize::from(found.iter().any(|f| same(&f) && (f.1, f.2) == (start, end)));
            score.hidden += usize::from((start..end).all(|c| found.iter().any(|f| f.1 <= c && c < f.2)));
            if detector(label).is_some() && !found.iter().any(|f| same(&f) && (f.1, f.2) == (start, end)) {
                let shown: String = text.chars().skip(start.saturating_sub(40)).take(end - start + 60).collect();
                println!("missed or not exact {label}: {shown:?}");
            }
        }
        for &(name, start, end) in &found {
            let label = TYPES.iter().find(|t| t.1 == name).map_or(name, |t| t.0);
            let score = scores.entry(label.to_owned()).or_default();
            score.reported += 1;
            let right = labels.iter().any(|l| detector(l.0) == Some(name) && l.1 < end && start < l.2);
            score.right += usize::from(right);
            if !right {
                let shown: String = text.chars().skip(start.saturating_sub(40)).take(end - start + 60).collect();
                println!("not labelled {label}: {shown:?}");
            }
        }
    }
    println!(
        "{:<20} {:>8} {:>6} {:>6} {:>6} {:>7} {:>9}",
        "label", "labelled", "recall", "exact", "hidden", "reported", "precision"
    );
    let ratio = |a: usize, b: usize| if b == 0 { f64::NAN } else { a as f64 / b as f64 };
    for (label, s) in &scores {
        println!(
            "{label:<20} {:>8} {:>6.3} {:>6.3} {:>6.3} {:>8} {:>9.3}",
            s.labelled,
            ratio(s.found, s.labelled),
            ratio(s.exact, s.labelled),
            ratio(s.hidden, s.labelled),
            s.reported,
            ratio(s.right, s.reported)
        );
    }
    let measured = || TYPES.iter().filter_map(|t| scores.get(t.0));
    let (right, reported): (usize, usize) = (measured().map(|s| s.right).sum(), measured().map(|s| s.reported).sum());
    println!("precision over the six: {:.3}", ratio(right, reported));
    for (label, _, recall, precision) in TYPES {
        let Some(s) = scores.get(label).filter(|s| s.labelled > 0) else { continue };
        assert!(ratio(s.found, s.labelled) >= recall, "{label}: recall {}", ratio(s.found, s.labelled));
        assert!(ratio(s.right, s.reported) >= precision, "{label}: precision {}", ratio(s.right, s.reported));
    }
    assert!(ratio(right, reported) >= 0.95);
}
