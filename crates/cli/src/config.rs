//! The configuration file of `init` and `policy set`.

use super::exit::Failure;
use super::line_reader::Source;
use attestlog::PolicySet;
use attestlog::alert::Receivers;
use attestlog::json::Json;
use std::collections::BTreeMap;
use std::path::Path;

/// Nobody writes a longer one.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a configuration file; `-` is standard input.
pub fn text(path: &Path) -> Result<String, Failure> {
    let bytes = Source::open_whole(Some(path))?.read_all(MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))
}

/// The policies that the text of a configuration file describes.
pub fn policies(text: &str, path: &Path) -> Result<PolicySet, Failure> {
    Ok(PolicySet::from_toml(text, &path.display().to_string())?)
}

/// The receivers of alerts that it names.
pub fn receivers(text: &str, path: &Path) -> Result<Receivers, Failure> {
    Ok(Receivers::from_toml(text, &path.display().to_string())?)
}

/// What a redaction policy hides less than the one before it, both in their JSON form, in words.
pub fn weaker(old: &Json, new: &Json) -> Vec<String> {
    let text = |policy: &Json, key: &str| policy.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut weaker = Vec::new();
    let told = [
        ("field", by_name(old, "fields", "field"), by_name(new, "fields", "field")),
        ("pattern", by_name(old, "patterns", "name"), by_name(new, "patterns", "name")),
        ("detector", by_name(old, "detectors", ""), by_name(new, "detectors", "")),
        ("ids of", by_name(old, "facets", ""), by_name(new, "facets", "")),
    ];
    for (what, before, after) in told {
        let shown = |(name, action): (&String, &String)| {
            let now = after.get(name).map_or("keep", String::as_str);
            (shows(now) > shows(action)).then(|| format!("{name} (was {action}, is {now})"))
        };
        let all: Vec<String> = before.iter().filter_map(shown).collect();
        let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
        if !all.is_empty() {
            weaker.push(format!("{what} {}{more}", all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")));
        }
    }
    if new.get("allow_secrets") == Some(&Json::Bool(true)) && old.get("allow_secrets") != Some(&Json::Bool(true)) {
        weaker.push("secrets may be recorded".to_owned());
    }
    let (before, after) = (text(old, "preset"), text(new, "preset"));
    if !weaker.is_empty() && before != after {
        weaker.insert(0, format!("the preset was {before} and is {after}"));
    }
    weaker
}

/// So many are named.
const NAMED: usize = 5;

/// How much of a value an action leaves to be read.
fn shows(action: &str) -> u8 {
    match action {
        "keep" => 2,
        "partial" => 1,
        _ => 0,
    }
}

/// The actions of a part of a policy by what they are for.
fn by_name(policy: &Json, part: &str, name: &str) -> BTreeMap<String, String> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    match policy.get(part) {
        Some(Json::Object(members)) => members.iter().map(|(name, action)| (name.to_owned(), text(action))).collect(),
        Some(Json::Array(rules)) => {
            let of = |rule: &Json| Some((text(rule.get(name)?), text(rule.get("action")?)));
            // The first rule for a name decides.
            rules.iter().rev().filter_map(of).collect()
        }
        _ => BTreeMap::new(),
    }
}
