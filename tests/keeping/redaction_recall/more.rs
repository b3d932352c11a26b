//! More secrets and ordinary values, one per line of `kinds.txt` and `work.txt`: the inputs of agents that write
//! programs, answer for shops and medical practices, fill in forms and run clouds.

use super::secrets::Kind;

/// Decodes a line: line ends and escapes are written as signs, invisible characters as their numbers.
fn meant(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('‹') {
        let (number, after) = after.split_once('›').unwrap();
        out.push_str(before);
        out.push(char::from_u32(u32::from_str_radix(number, 16).unwrap()).unwrap());
        rest = after;
    }
    (out + rest).replace('⏎', "\n").replace('␍', "\r").replace('␛', "\u{1b}")
}

fn kept(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The kinds of `kinds.txt`.
pub fn kinds() -> Vec<Kind> {
    kinds_of(include_str!("kinds.txt"))
}

fn kinds_of(lines: &'static str) -> Vec<Kind> {
    let mut kinds: Vec<(&'static str, &'static str, Vec<&'static str>)> = Vec::new();
    for line in lines.lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix("= ") {
            Some(head) => {
                let (value, name) = head.split_once(": ").unwrap();
                kinds.push((name, value, Vec::new()));
            }
            None => kinds.last_mut().unwrap().2.push(kept(meant(line))),
        }
    }
    let kind =
        |(name, value, places): (_, _, Vec<&'static str>)| Kind { name, value, places: places.leak(), unseen: &[] };
    kinds.into_iter().map(kind).collect()
}

/// The values of `work.txt`.
pub fn work() -> &'static [&'static str] {
    include_str!("work.txt").lines().map(|line| kept(meant(line))).collect::<Vec<_>>().leak()
}

/// The kinds of `vendors.txt`.
pub fn vendors() -> Vec<Kind> {
    kinds_of(include_str!("vendors.txt"))
}

/// The kinds of `labels.txt`.
pub fn labels() -> Vec<Kind> {
    kinds_of(include_str!("labels.txt"))
}

/// The kinds of `places.txt`.
pub fn places() -> Vec<Kind> {
    kinds_of(include_str!("places.txt"))
}

/// The values of `structure.txt`.
pub fn structure() -> &'static [&'static str] {
    include_str!("structure.txt").lines().map(|line| kept(meant(line))).collect::<Vec<_>>().leak()
}

/// The values of `kept.txt`.
pub fn kept_values() -> &'static [&'static str] {
    include_str!("kept.txt").lines().map(|line| kept(meant(line))).collect::<Vec<_>>().leak()
}

/// The kinds of `blind.txt`.
pub fn blind() -> Vec<Kind> {
    kinds_of(include_str!("blind.txt"))
}

/// The values of `blind_kept.txt`.
pub fn blind_kept() -> &'static [&'static str] {
    let values = include_str!("blind_kept.txt").lines().filter(|l| !l.starts_with("# "));
    values.map(|line| kept(meant(line))).collect::<Vec<_>>().leak()
}

/// The kinds of `joined.txt`.
pub fn joined() -> Vec<Kind> {
    kinds_of(include_str!("joined.txt"))
}

/// The values of `joined_kept.txt`.
pub fn joined_kept() -> &'static [&'static str] {
    include_str!("joined_kept.txt").lines().map(|line| kept(meant(line))).collect::<Vec<_>>().leak()
}
