//! Changes of a folder that need no key.

use super::{Files, Folder};
use attestlog::json::{Json, Limits, Object};

/// Numbers that are the same in every run (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Values that parsers and checkers treat differently, as JSON.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "1.5",
    "1e+21",
    "5e-324",
    "9007199254740991",
    "9007199254740992",
    "4294967296",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[\"x\"]",
    "[[]]",
    "{\"a\":1}",
    "\"ok\"",
    "\"denied\"",
    "\"follow_up\"",
    "\"true\"",
    "\"tool_call\"",
    "\"call_begun\"",
    "\"call_detail\"",
    "\"key\"",
    "\"purge\"",
    "\"genesis\"",
    "\"P-1\"",
    "\"P-2\"",
    "[\"P-1\"]",
    "[\"P-1\",\"P-1\"]",
    "\"0-0\"",
    "\"0-3,5-5\"",
    "\"3-2\"",
    "\"0-1,2-3\"",
    "{\"packed\":\"AAA=\"}",
    "{\"message\":\"m\"}",
    "{\"message\":\"m\",\"type\":\"t\"}",
    "{\"id\":\"a\",\"number\":3}",
    "{\"gid\":1,\"pid\":2,\"uid\":3}",
    "[{\"kind\":\"file\",\"name\":\"n\"}]",
    "[{\"source\":\"hook\"}]",
    "[{\"added\":[],\"source\":\"hook\"}]",
    "{\"decision\":\"allowed\"}",
    "{\"policy\":\"sha256:00\"}",
    "\"\u{7f}\u{2028}\u{1f600}\"",
    "\"\\u001f\"",
    "\"P-1 \"",
    "\"P\u{200b}-1\"",
    "\"ps_00000000_00000000000000000000000000000000\"",
    "\"2026-11-30T09:34:17Z\"",
    "\"2026-02-30T00:00:00Z\"",
    "\"2024-02-29T00:00:00Z\"",
    "\"2026-11-30T09:34:17.100Z\"",
    "\"2026-11-30T09:34:17.100000Z\"",
    "\"2026-11-30T09:34:17.000Z\"",
    "\"2026-11-30T09:34:60Z\"",
    "\"2026-11-30T24:00:00Z\"",
    "\"2026-11-30t09:34:17z\"",
    "\"2026-11-30T09:34:17+00:00\"",
    "\"1677-09-21T00:12:43.145224192Z\"",
    "\"1677-09-21T00:12:43.145224191Z\"",
    "\"2262-04-11T23:47:16.854775807Z\"",
    "\"2262-04-11T23:47:16.854775808Z\"",
    "\"2026-11-30\"",
    "\"0000000000000000000000000000000000000000000000000000000000000000\"",
];

/// Names of members that lines may have.
const NAMES: &[&str] = &[
    "agent_id",
    "approval",
    "arguments",
    "backfilled",
    "begun_seq",
    "call_id",
    "call_trigger",
    "contradicts",
    "conversation_id",
    "detail",
    "detail_of",
    "digests",
    "duration_ms",
    "emergency",
    "error",
    "follow_up_of",
    "given",
    "grant",
    "kind",
    "late_answer",
    "model",
    "nonce",
    "outcome",
    "patient_ids",
    "peer",
    "policy_seq",
    "prev",
    "purpose",
    "recorded_at",
    "resources",
    "restated",
    "result_summary",
    "retain_until",
    "retention_class",
    "retry_of",
    "sender",
    "seq",
    "session_metadata",
    "sources",
    "success",
    "timestamp",
    "tool_name",
    "trace_id",
    "treated",
    "turn_number",
    "user_id",
    "unknown",
    "10",
    "__proto__",
    "constructor",
];

pub fn value(dice: &mut Dice) -> Json {
    Json::parse_within(dice.of(VALUES).as_bytes(), &Limits::UNBOUNDED).unwrap().value
}

pub fn name(dice: &mut Dice) -> &'static str {
    NAMES[dice.below(NAMES.len())]
}

/// A folder with one change, rarely two.
pub fn changed(base: &Folder, others: &[Folder], dice: &mut Dice) -> Folder {
    let mut folder = base.clone();
    for _ in 0..1 + dice.below(8) / 7 {
        match dice.below(10) {
            0..=2 => bytes(&mut folder.files, dice),
            3 => lines(&mut folder.files, dice),
            4 => whole_file(&mut folder.files, &dice.of(others).files.clone(), dice),
            5 if folder.kind == "package" => claim(&mut folder.files, dice),
            _ => structure(&mut folder.files, dice),
        }
    }
    folder
}

fn some_file(files: &Files, dice: &mut Dice) -> Option<String> {
    let names: Vec<&String> = files.keys().collect();
    // The interesting ones more often.
    match dice.below(3) {
        0 => files.keys().find(|name| name.ends_with("complete.json") || *name == "entries.jsonl").cloned(),
        _ if names.is_empty() => None,
        _ => Some((*dice.of(&names)).clone()),
    }
}

/// Bytes that are flipped, removed, inserted, cut off.
fn bytes(files: &mut Files, dice: &mut Dice) {
    let Some(name) = some_file(files, dice) else { return };
    let bytes = files.get_mut(&name).unwrap();
    let at = dice.below(bytes.len());
    match dice.below(8) {
        _ if bytes.is_empty() => bytes.push(b'\n'),
        0 | 1 => bytes[at] ^= 1 << dice.below(8),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, *dice.of(b" \n\r0a\"=A\0\xff")),
        4 => bytes.truncate(at),
        5 => bytes.push(*dice.of(b" \n\r\0")),
        6 => drop(bytes.splice(0..0, dice.of(&[&b"\xef\xbb\xbf"[..], b" ", b"\n"]).to_vec())),
        _ => bytes[at] = *dice.of(b"0123456789abcdef+/=\n"),
    }
}

/// Lines that are removed, repeated, swapped.
fn lines(files: &mut Files, dice: &mut Dice) {
    let Some(name) = some_file(files, dice) else { return };
    let bytes = files.get_mut(&name).unwrap();
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (a, b) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(4) {
        0 => drop(lines.remove(a)),
        1 => lines.insert(b, lines[a].clone()),
        2 => lines.swap(a, b),
        _ => lines.insert(a, b"\n".to_vec()),
    }
    *bytes = lines.concat();
}

/// Files that are missing, surplus, or those of another folder.
fn whole_file(files: &mut Files, other: &Files, dice: &mut Dice) {
    let Some(name) = some_file(files, dice) else { return };
    match (dice.below(4), other.get(&name)) {
        (0, _) => _ = files.remove(&name),
        (1, _) => _ = files.insert("proofs/entry-3.proof".to_owned(), files[&name].clone()),
        (2, _) => _ = files.insert(name, Vec::new()),
        (_, Some(bytes)) => _ = files.insert(name, bytes.clone()),
        (_, None) => _ = files.remove(&name),
    }
}

/// What a package says that it is about.
fn claim(files: &mut Files, dice: &mut Dice) {
    let Some(bytes) = files.get("package.json") else { return };
    let Ok(Json::Object(mut claim)) = Json::parse(bytes).map(|parsed| parsed.value) else { return };
    // Bounds at the very times of entries, which is where checkers could differ.
    let text = String::from_utf8_lossy(&files["proofs/complete.json"]).into_owned();
    let times: Vec<&str> =
        text.split("recorded_at\\\":\\\"").skip(1).filter_map(|rest| rest.split('\\').next()).collect();
    let time = if times.is_empty() || dice.below(4) == 0 { value(dice) } else { Json::from(*dice.of(&times)) };
    claim.insert(*dice.of(&["since", "until", "since", "until", "patient", "format", "more"]), time);
    files.insert("package.json".to_owned(), format!("{}\n", Json::from(claim).to_canonical()).into_bytes());
}

/// A change of the JSON in a file, which stays canonical.
fn structure(files: &mut Files, dice: &mut Dice) {
    let Some(name) = some_file(files, dice).filter(|name| name.ends_with("json") || name.ends_with("jsonl")) else {
        return;
    };
    let text = String::from_utf8_lossy(&files[&name]).into_owned();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.is_empty() {
        return;
    }
    let at = dice.below(lines.len());
    let Ok(parsed) = Json::parse_within(lines[at].as_bytes(), &Limits::UNBOUNDED) else { return };
    let mut json = parsed.value;
    let depth = dice.below(6);
    node(&mut json, depth, dice);
    let line = format!("{}\n", json.to_canonical());
    lines[at] = &line;
    files.insert(name, lines.concat().into_bytes());
}

/// Changes something at some depth of a value.
pub fn node(json: &mut Json, depth: usize, dice: &mut Dice) {
    match json {
        Json::Object(object) if !object.is_empty() => {
            let names: Vec<String> = object.iter().map(|(name, _)| name.to_owned()).collect();
            let member = dice.of(&names).clone();
            if depth > 0 && dice.below(8) > 0 {
                let mut inner = object.remove(&member).unwrap();
                node(&mut inner, depth - 1, dice);
                object.insert(member, inner);
                return;
            }
            match dice.below(4) {
                0 => _ = object.remove(&member),
                1 => _ = object.insert(name(dice), value(dice)),
                2 => _ = object.insert(member, value(dice)),
                _ => {
                    let other = object.get(&names[dice.below(names.len())]).cloned().unwrap();
                    object.insert(member, other);
                }
            }
        }
        Json::Array(items) if !items.is_empty() => {
            let (a, b) = (dice.below(items.len()), dice.below(items.len()));
            match dice.below(8) {
                0 => drop(items.remove(a)),
                1 => items.insert(b, items[a].clone()),
                2 => items.swap(a, b),
                3 => items[a] = value(dice),
                _ => node(&mut items[a], depth.saturating_sub(1), dice),
            }
        }
        Json::Number(_) => {
            let n = json.as_u64().unwrap_or(0);
            *json = Json::from(*dice.of(&[n + 1, n.saturating_sub(1), n ^ 8, 0, 1 << 52]));
        }
        Json::String(text) => {
            let mut chars: Vec<char> = text.chars().collect();
            let at = dice.below(chars.len());
            match dice.below(4) {
                _ if chars.is_empty() => chars.push('0'),
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, *dice.of(&['0', 'a', ',', '-', ' ', '\u{200b}', '\u{1f600}'])),
                2 => chars[at] = *dice.of(&['0', '1', 'f', 'A', '-']),
                _ => {
                    *json = value(dice);
                    return;
                }
            }
            *json = Json::String(chars.into_iter().collect());
        }
        other => *other = value(dice),
    }
}

/// The members of a line.
pub fn members(line: &str) -> Object {
    match Json::parse_within(line.as_bytes(), &Limits::UNBOUNDED).unwrap().value {
        Json::Object(members) => members,
        other => panic!("{}", other.to_canonical()),
    }
}

/// A succession of epochs as it was, or changed.
pub fn succession(text: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let Ok(parsed) = Json::parse(&text) else { return text };
    let mut value = parsed.value;
    let rotations = |value: &Json| value.get("rotations").and_then(Json::as_array).unwrap_or_default().to_vec();
    let mut all = rotations(&value);
    let any = dice.below(all.len());
    match (dice.below(8), all.get_mut(any)) {
        (0..=3, _) => return text,
        (4, Some(_)) => drop(all.remove(any)),
        (5, Some(one)) => {
            let again = one.clone();
            all.push(again);
        }
        (6, Some(Json::Object(one))) => {
            let name = *dice.of(&["number", "size", "root", "public_key", "signature", "restored_at", "more"]);
            one.insert(name, Json::parse(dice.of(VALUES).as_bytes()).map_or(Json::Null, |parsed| parsed.value));
        }
        (7, Some(Json::Object(one))) => drop(one.insert("restored_at", dice.below(40) as u64)),
        _ => {
            let mut bytes = text;
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(7);
            return bytes;
        }
    }
    if let Json::Object(value) = &mut value {
        value.insert("rotations", all);
    }
    value.to_canonical().to_string().into_bytes()
}
