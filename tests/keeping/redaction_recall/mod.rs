//! What the detectors miss and what they wrongly change: secrets of sixty kinds, ordinary values, and the inputs of
//! coding agents. Recall and false positives per detector are printed and compared with their targets.
//!
//! Secrets under names such as `password_v2`, `pw` or `密码`, in pairs, argument lists, YAML blocks and SQL used to pass,
//! half of all secrets, while order numbers, page tokens and code after `token =` were masked. Both lists have a part
//! that the detectors were developed with and a part that was only measured.

mod more;
mod ordinary;
mod random;
mod secrets;
mod sessions;
mod signs;

use attestlog::json::Json;
use attestlog::redact::{Policy, Preset, Sanitizer, Secrets, Treated, dry_run};
use random::Random;
use secrets::Kind;
use std::collections::BTreeMap;

fn sanitizer(preset: Preset) -> Sanitizer {
    let pseudonyms = vec![attestlog::redact::PseudonymKey::new([7; 32])];
    Sanitizer::new(&Policy::preset(preset), Secrets { pseudonyms }).unwrap()
}

/// A text that is JSON is parsed as JSON.
fn value(text: &str) -> Json {
    match text.starts_with(['{', '[']) {
        true => Json::parse(text.as_bytes()).map_or_else(|_| Json::from(text), |parsed| parsed.value),
        false => Json::from(text),
    }
}

fn treat(sanitizer: &Sanitizer, text: &str) -> (String, Vec<Treated>, bool) {
    let before = value(text);
    let (after, treated) = dry_run(sanitizer, before.clone()).unwrap();
    let changed = after != before;
    let shown = after.as_str().map_or_else(|| after.to_canonical().as_str().to_owned(), str::to_owned);
    (shown, treated, changed)
}

#[derive(Default)]
struct Score {
    tried: usize,
    treated: usize,
    missed: Vec<String>,
    /// How often each detector found it; `key` is the floor.
    by: BTreeMap<String, usize>,
}

/// Each kind in each of its places, `times` times with different values.
fn recall(sanitizer: &Sanitizer, kinds: &[Kind], unseen: bool, times: usize) -> BTreeMap<&'static str, Score> {
    let mut random = Random(if unseen { 77 } else { 1 });
    let mut scores: BTreeMap<&'static str, Score> = BTreeMap::new();
    for kind in kinds {
        let score = scores.entry(kind.name).or_default();
        for place in if unseen { kind.unseen } else { kind.places } {
            for _ in 0..times {
                let secret = random.fill(kind.value);
                let text = place.replace("{}", &secret);
                let (left, treated, _) = treat(sanitizer, &text);
                score.tried += 1;
                let gone = !left.contains(secret.as_str());
                score.treated += usize::from(gone);
                if gone {
                    treated.iter().take(1).for_each(|t| *score.by.entry(t.detector.clone()).or_default() += 1);
                } else {
                    score.missed.push(format!("{text:?} became {left:?}"));
                }
            }
        }
    }
    scores
}

/// The kinds used only for development, once per place.
fn more_recall(sanitizer: &Sanitizer) -> BTreeMap<&'static str, Score> {
    recall(sanitizer, &more::kinds(), false, 1)
}

/// How many of the values were changed, and by which detector.
fn false_positives(
    sanitizer: &Sanitizer,
    values: impl Iterator<Item = String>,
) -> (usize, usize, BTreeMap<String, usize>) {
    let (mut tried, mut changed, mut by) = (0, 0, BTreeMap::new());
    for text in values {
        let (left, treated, other) = treat(sanitizer, &text);
        tried += 1;
        changed += usize::from(other);
        if other {
            treated.iter().map(|t| &t.detector).for_each(|d| *by.entry(d.clone()).or_default() += 1);
            println!("  changed: {text:?} became {left:?}");
        }
    }
    (tried, changed, by)
}

fn values(patterns: &'static [&'static str], times: usize, seed: u64) -> impl Iterator<Item = String> {
    let mut random = Random(seed);
    (0..times).flat_map(move |_| patterns.iter()).map(move |pattern| random.fill(pattern))
}

fn check_recall(unseen: bool) {
    let mut scores = recall(&sanitizer(Preset::Default), secrets::KINDS, unseen, 2);
    scores.extend(recall(&sanitizer(Preset::Hipaa), secrets::HEALTH, unseen, 2));
    check_scores(&scores, 60, 300);
}

fn check_scores(scores: &BTreeMap<&'static str, Score>, kinds: usize, least: usize) {
    let (tried, treated) = scores.values().fold((0, 0), |(a, b), s| (a + s.tried, b + s.treated));
    println!("{} kinds, {treated} of {tried} secrets treated: {:.3}", scores.len(), treated as f64 / tried as f64);
    for (name, score) in scores {
        println!("  {name:<36} {:>3} of {:>3}", score.treated, score.tried);
        score.missed.iter().for_each(|missed| println!("    missed: {missed}"));
    }
    // Misses count against the detector that finds most of the kind.
    let mut detectors: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for score in scores.values() {
        let most = score.by.iter().max_by_key(|(_, n)| **n).map_or("none", |(name, _)| name.as_str());
        score.by.iter().for_each(|(name, n)| {
            let sum = detectors.entry(name).or_default();
            *sum = (sum.0 + n, sum.1 + n);
        });
        detectors.entry(most).or_default().1 += score.missed.len();
    }
    for (name, (found, tried)) in &detectors {
        println!("  recall of {name:<20} {found:>3} of {tried:>3}: {:.3}", *found as f64 / *tried as f64);
    }
    assert!(scores.len() >= kinds, "{} kinds", scores.len());
    assert!(tried >= least, "{tried} secrets");
    assert!(treated as f64 / tried as f64 >= 0.97, "{treated} of {tried}");
}

fn check_ordinary(patterns: &'static [&'static str], seed: u64) {
    let times = 3000_usize.div_ceil(patterns.len());
    for preset in [Preset::Floor, Preset::Default] {
        let (tried, changed, by) = false_positives(&sanitizer(preset), values(patterns, times, seed));
        println!("{}: {changed} of {tried} ordinary values changed: {by:?}", preset.name());
        assert!(tried >= 3000);
        assert!(changed as f64 / tried as f64 <= 0.003, "{changed} of {tried}");
    }
}

#[test]
fn secrets_are_treated() {
    check_recall(false);
}

#[test]
fn secrets_that_were_only_measured_are_treated() {
    check_recall(true);
}

/// Coloured output, multipart forms, Windows command lines, codes in messages, pairs under other names, names with
/// look-alike letters: secrets that somebody with a list of his own got past the detectors, and similar ones.
#[test]
fn secrets_of_more_kinds_are_treated() {
    check_scores(&more_recall(&sanitizer(Preset::Default)), 19, 400);
}

/// Of somebody else's list, a tenth of the secrets was missed: tokens without a known prefix, UUIDs under the name of a
/// secret, table columns, sentences in other languages, names such as `become_pass` and `ADMIN_KEY`.
#[test]
fn secrets_of_vendors_and_tables_are_treated() {
    check_scores(&recall(&sanitizer(Preset::Default), &more::vendors(), false, 3), 24, 200);
}

/// These values of the same list were wrongly changed: field numbers, references, addresses without a password, labels,
/// masks, placeholders.
#[test]
fn references_labels_and_masks_stay() {
    check_ordinary(more::kept_values(), 8);
}

/// These secrets of a second list were missed: keys of ciphers and wallets in calls, form fields by their selector or
/// in a page snapshot, personal numbers of more countries by their label alone, sentences in more languages, base64 in
/// a command.
#[test]
fn secrets_that_a_label_tells_are_treated() {
    check_scores(&recall(&sanitizer(Preset::Default), &more::labels(), false, 3), 10, 120);
}

/// These secrets of a third list were missed: personal numbers in columns, in queries and after their names without a
/// sign, grant codes, PINs in a sentence, passwords in more languages and programs.
#[test]
fn secrets_that_their_place_tells_are_treated() {
    check_scores(&recall(&sanitizer(Preset::Default), &more::places(), false, 3), 10, 140);
}

/// Whole objects and commands of the second list were wrongly changed: schemas, dependencies, cookies for a language,
/// names of secrets that are kept elsewhere, commands that search for secrets.
#[test]
fn structure_versions_and_patterns_stay() {
    check_ordinary(more::structure(), 9);
}

/// `dbpw`, `mysqlrootpw` and `encryptkey` used to pass, and so did `["password", …]`, the text that WebDriver types
/// into a field found in the step before, and the arguments of `changePassword`: 0.710 of these secrets were treated
/// when the list was written, before anything was fixed.
#[test]
fn secrets_that_were_made_up_first_are_treated() {
    check_scores(&recall(&sanitizer(Preset::Default), &more::blind(), false, 3), 40, 440);
}

/// More of the same, and slightly malformed JSON, written by those who fixed the detectors.
#[test]
fn secrets_under_names_that_run_together_are_treated() {
    check_scores(&recall(&sanitizer(Preset::Default), &more::joined(), false, 3), 9, 250);
}

/// Ordinary words that resemble those names (`compass`, `hockey`, `tokenizer`), and pairs, selectors and calls without
/// a secret.
#[test]
fn words_that_end_like_a_secret_stay() {
    check_ordinary(more::blind_kept(), 10);
    check_ordinary(more::joined_kept(), 11);
}

/// A whole command in an argument list used to be replaced by one placeholder because of one variable in it.
#[test]
fn of_a_command_only_the_secret_is_hidden() {
    let text = r#"{"argv":["bash","-lc","PGPASSWORD=Vq7kP2mZx9 psql -h db -c 'select 1'"]}"#;
    let (left, ..) = treat(&sanitizer(Preset::Default), text);
    assert!(!left.contains("Vq7kP2mZx9") && left.contains("psql -h db"), "{left}");
}

#[test]
fn ordinary_values_of_more_tools_stay() {
    check_ordinary(more::work(), 7);
}

#[test]
fn ordinary_values_stay() {
    check_ordinary(ordinary::SEEN, 5);
}

#[test]
fn ordinary_values_that_were_only_measured_stay() {
    check_ordinary(ordinary::UNSEEN, 6);
}

/// Source code, diffs and logs, as coding agents read and send them.
#[test]
fn sessions_of_coding_agents_stay() {
    let sanitizer = sanitizer(Preset::Default);
    let (mut tried, mut by) = (0, BTreeMap::new());
    for text in sessions::strings() {
        tried += 1;
        let (left, treated, _) = treat(&sanitizer, &text);
        // Addresses in examples are really addresses.
        let wrong: Vec<_> = treated.iter().filter(|t| !matches!(t.detector.as_str(), "email" | "ip")).collect();
        for t in wrong {
            *by.entry(t.detector.clone()).or_insert(0) += 1;
            let shown: String = text.chars().skip(t.start.unwrap_or(0).saturating_sub(60)).take(140).collect();
            println!("  {}: {shown:?} {}", t.detector, left.len());
        }
    }
    let changed: usize = by.values().sum();
    println!("{changed} finds in {tried} strings: {by:?}");
    assert!(tried >= 20_000, "{tried} strings");
    assert!(changed * 10_000 <= tried, "{changed} of {tried}");
}
