//! What a new policy hides less, keeps more of, or finds less than the one before it, in words: `policy set` says it.

use super::render::clean;
use attestlog::PolicySet;
use attestlog::json::Json;
use std::collections::BTreeMap;

/// How many of a kind are named.
const NAMED: usize = 5;

/// One sentence for what is hidden less, and one for what raises alerts less; each only if there is something to say.
pub fn weaker(old: &PolicySet, new: &PolicySet) -> Vec<String> {
    let (old, new) = (old.to_json(), new.to_json());
    let none = Json::Null;
    let part = |policy: &'_ Json, key: &str| policy.get(key).unwrap_or(&none).clone();
    let mut hidden = redaction(&part(&old, "redaction"), &part(&new, "redaction"));
    hidden.extend(results(&part(&old, "results"), &part(&new, "results")));
    let found = alerts(&part(&old, "alerts"), &part(&new, "alerts"));
    let mut said = Vec::new();
    if !hidden.is_empty() {
        said.push(format!("less is hidden from now on than before: {}", hidden.join("; ")));
    }
    if !found.is_empty() {
        said.push(format!("fewer calls raise alerts from now on than before: {}", found.join("; ")));
    }
    if let Some(last) = said.last_mut() {
        last.push_str(". What the file leaves out has its default");
    }
    said
}

/// The first of them, and how many more there are.
fn named(what: &str, all: &[String]) -> Option<String> {
    let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
    (!all.is_empty())
        .then(|| format!("{what} {}{more}", all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")))
}

/// What a redaction policy hides less than the one before it; both in their JSON form.
fn redaction(old: &Json, new: &Json) -> Vec<String> {
    let mut weaker = Vec::new();
    let told = [
        ("pattern", by_name(old, "patterns", "name"), by_name(new, "patterns", "name")),
        ("detector", by_name(old, "detectors", ""), by_name(new, "detectors", "")),
        ("ids of", by_name(old, "facets", ""), by_name(new, "facets", "")),
    ];
    weaker.extend(named("field", &fields(old, new)));
    for (what, before, after) in told {
        let shown = |(name, action): (&String, &String)| {
            let now = after.get(name).map_or("keep", String::as_str);
            (shows(now) > shows(action)).then(|| format!("{} (was {action}, is {now})", clean(name)))
        };
        weaker.extend(named(what, &before.iter().filter_map(shown).collect::<Vec<_>>()));
    }
    // Whether another pattern finds less cannot be told from the two.
    let texts = |policy: &Json| -> BTreeMap<String, String> {
        let of = |rule: &Json| Some((text(rule.get("name")?), text(rule.get("pattern")?)));
        list(policy, "patterns").iter().filter_map(of).collect()
    };
    let after = texts(new);
    let changed = texts(old).into_iter().filter_map(|(name, was)| {
        let is = after.get(&name).filter(|is| **is != was)?;
        Some(format!("{} (was {}, is {})", clean(&name), clean(&was), clean(is)))
    });
    weaker.extend(named("what is found by the pattern", &changed.collect::<Vec<_>>()));
    let is = |policy: &Json, key: &str| policy.get(key) == Some(&Json::Bool(true));
    if is(new, "allow_secrets") && !is(old, "allow_secrets") {
        weaker.push("secrets may be recorded".to_owned());
    }
    if is(old, "object_keys") && !is(new, "object_keys") {
        weaker.push("the keys of objects are not searched".to_owned());
    }
    let preset = |policy: &Json| policy.get("preset").map(text).unwrap_or_default();
    let (before, after) = (preset(old), preset(new));
    if !weaker.is_empty() && before != after {
        weaker.push(format!("the preset was {before} and is {after}, which may hide more in other places"));
    }
    weaker
}

/// The field rules that hide less: those that are gone or show more, and those that keep a value and now come before rules that hide.
fn fields(old: &Json, new: &Json) -> Vec<String> {
    let rules = |policy: &Json| -> Vec<(String, String)> {
        let of = |rule: &Json| Some((text(rule.get("field")?), text(rule.get("action")?)));
        list(policy, "fields").iter().filter_map(of).collect()
    };
    let (before, after) = (rules(old), rules(new));
    // The first rule for a field decides.
    let find = |rules: &[(String, String)], field: &str| rules.iter().position(|(known, _)| known == field);
    let gone = before.iter().enumerate().filter(|(at, (field, _))| find(&before, field) == Some(*at));
    let mut all: Vec<String> = gone
        .filter_map(|(_, (field, was))| {
            let is = find(&after, field).and_then(|at| after.get(at)).map_or("keep", |(_, is)| is);
            (shows(is) > shows(was)).then(|| format!("{} (was {was}, is {is})", clean(field)))
        })
        .collect();
    let overrides = after.iter().enumerate().filter(|(at, (field, action))| {
        shows(action) > 0 && find(&after, field) == Some(*at) && {
            let came = find(&before, field);
            let hides =
                |(field, _): &(String, String)| find(&before, field).filter(|was| came.is_none_or(|came| *was < came));
            let later = after.iter().enumerate().skip(at + 1);
            let mut later = later.filter(|(at, rule)| shows(&rule.1) == 0 && find(&after, &rule.0) == Some(*at));
            later.any(|(_, rule)| hides(rule).is_some())
        }
    });
    all.extend(overrides.map(|(_, (field, action))| format!("{} ({action}, before rules that hide)", clean(field))));
    all
}

/// What more is kept of results; both policies in their JSON form.
fn results(old: &Json, new: &Json) -> Vec<String> {
    let mut more = Vec::new();
    let kept = |policy: &Json| policy.get("keep_full").and_then(Json::as_u64);
    match (kept(old), kept(new)) {
        (None, Some(is)) => more.push(format!("whole results of up to {is} bytes are recorded")),
        (Some(was), Some(is)) if is > was => {
            more.push(format!("whole results of up to {is} bytes are recorded, not of up to {was}"));
        }
        _ => {}
    }
    let before = list(old, "identifying");
    let added = list(new, "identifying").iter().filter(|name| !before.contains(name));
    more.extend(named("of results the members", &added.map(|name| clean(&text(name))).collect::<Vec<_>>()));
    more
}

/// The alert rules that are gone or find less; both lists in their JSON form.
fn alerts(old: &Json, new: &Json) -> Vec<String> {
    let new = new.as_array().unwrap_or_default();
    let name = |rule: &Json| rule.get("name").map(text).unwrap_or_default();
    let mut gone = Vec::new();
    let mut changed = Vec::new();
    for was in old.as_array().unwrap_or_default() {
        match new.iter().find(|is| name(is) == name(was)) {
            None => gone.push(clean(&name(was))),
            Some(is) if finds_less(was, is) => changed.push(clean(&name(was))),
            Some(_) => {}
        }
    }
    named("off are the rules", &gone).into_iter().chain(named("with other conditions", &changed)).collect()
}

/// Whether a rule may find less than it did: it has a higher threshold, a shorter window, or other conditions.
fn finds_less(was: &Json, is: &Json) -> bool {
    const MEASURES: [&str; 4] = ["key", "baseline", "unreviewed", "tampering"];
    const OTHERS: [&str; 6] = ["name", "summary", "severity", "window", "count", "distinct"];
    // Every other member is a condition. One that is gone only makes the rule find more.
    let is_condition = |member: &str| !MEASURES.contains(&member) && !OTHERS.contains(&member);
    let mut members = is.as_object().into_iter().flat_map(|members| members.iter());
    let added = members.any(|(member, now)| is_condition(member) && was.get(member) != Some(now));
    let other = MEASURES.iter().any(|member| was.get(member) != is.get(member));
    let count = |rule: &Json| {
        let distinct = rule.get("distinct");
        let of = distinct.and_then(|distinct| distinct.get("facet")).map(text);
        (of, distinct.unwrap_or(rule).get("count").and_then(Json::as_u64))
    };
    let ((of, least), (now_of, now_least)) = (count(was), count(is));
    let window = |rule: &Json| rule.get("window").map(text).unwrap_or_default();
    added || other || of != now_of || now_least > least || shorter(&window(is), &window(was))
}

/// Whether a window is shorter than another, both as a policy's entry has them: a number of `s`, `m`, `h` or `d`.
fn shorter(window: &str, than: &str) -> bool {
    let seconds = |text: &str| {
        let number: u64 = text.get(..text.len().checked_sub(1)?)?.parse().ok()?;
        let unit =
            [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)].into_iter().find(|(unit, _)| text.ends_with(*unit))?;
        number.checked_mul(unit.1)
    };
    match (seconds(window), seconds(than)) {
        (Some(window), Some(than)) => window < than,
        _ => window != than,
    }
}

/// How much of a value an action leaves readable.
fn shows(action: &str) -> u8 {
    match action {
        "keep" => 2,
        "partial" => 1,
        _ => 0,
    }
}

/// The actions of a part of a policy, by the name they apply to.
fn by_name(policy: &Json, part: &str, name: &str) -> BTreeMap<String, String> {
    match policy.get(part) {
        Some(Json::Object(members)) => members.iter().map(|(name, action)| (name.to_owned(), text(action))).collect(),
        Some(Json::Array(rules)) => {
            let of = |rule: &Json| Some((text(rule.get(name)?), text(rule.get("action")?)));
            // The first rule for a name wins.
            rules.iter().rev().filter_map(of).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn list<'a>(policy: &'a Json, key: &str) -> &'a [Json] {
    policy.get(key).and_then(Json::as_array).unwrap_or_default()
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
