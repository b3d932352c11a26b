//! Folders of a log that was changed by whoever holds its keys: lines, chain, tree, checkpoint and proofs are made anew around the change, so
//! that only what is checked behind the signatures can find it.

use super::changes::{self, Dice};
use super::{Files, Folder};
use attestlog::Hash;
use attestlog::folders::inclusion_name;
use attestlog::json::Json;
use attestlog::merkle::{self, Nodes, ProofError};
use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey};
use attestlog::proof::InclusionProof;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};

/// The name of the log that the test signs for.
const NAME: &str = "test/log";

fn key() -> SigningKey {
    SigningKey::from_seed(NAME, &[7; 32]).unwrap()
}

/// All lines of a log, and the nodes that stand for those that were purged.
#[derive(Clone)]
struct Log {
    lines: BTreeMap<u64, String>,
    holes: BTreeMap<(u8, u64), Hash>,
    size: u64,
}

impl Nodes for Log {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        if let Some(hash) = self.holes.get(&(level, index)) {
            return Ok(*hash);
        }
        if level == 0 {
            return Ok(self.lines.get(&index).map_or(Hash([0; 32]), |line| Hash::leaf(line.as_bytes())));
        }
        Ok(Hash::node(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

impl Log {
    fn of(evidence: &Folder) -> Log {
        let mut log = Log { lines: BTreeMap::new(), holes: BTreeMap::new(), size: 0 };
        for row in std::str::from_utf8(&evidence.files["entries.jsonl"]).unwrap().lines() {
            let members = changes::members(row);
            let Some(hole) = members.get("purged") else {
                log.lines.insert(log.size, row.to_owned());
                log.size += 1;
                continue;
            };
            let count = hole.get("count").and_then(Json::as_u64).unwrap();
            let level = count.trailing_zeros() as u8;
            log.holes
                .insert((level, log.size >> level), hole.get("hash").and_then(Json::as_str).unwrap().parse().unwrap());
            log.size += count;
        }
        log
    }

    /// Links the lines from this one on anew.
    fn link(&mut self, from: u64) {
        for seq in from.max(1)..self.size {
            let (Some(before), Some(line)) = (self.lines.get(&(seq - 1)), self.lines.get(&seq)) else { continue };
            let mut members = changes::members(line);
            members.insert("prev", Hash::leaf(before.as_bytes()).to_string());
            let line = Json::from(members).to_canonical().as_str().to_owned();
            self.lines.insert(seq, line);
        }
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        let head = Checkpoint::new(NAME, self.size, merkle::root(self, self.size).unwrap()).unwrap();
        SignedCheckpoint::sign(head, &[&key()]).unwrap()
    }
}

/// The folder with one line of the log changed, signed by the test's key; now and then with none, which holds.
pub fn changed(base: &Folder, evidence: &Folder, dice: &mut Dice) -> Folder {
    let mut log = Log::of(evidence);
    let seqs: Vec<u64> = log.lines.keys().copied().collect();
    let seq = if dice.below(4) == 0 { interesting(&log, dice) } else { *dice.of(&seqs) };
    let line = log.lines[&seq].clone();
    match dice.below(12) {
        0 => {}
        1..=3 => _ = log.lines.insert(seq, spelled(&line, dice)),
        4 => {
            // What a call follows stands under one of two names, as its trigger says.
            let mut members = changes::members(&line);
            members.insert("call_trigger", *dice.of(&["follow_up", "retry", "system"]));
            members.insert(*dice.of(&["follow_up_of", "retry_of"]), 1u64);
            log.lines.insert(seq, Json::from(members).to_canonical().as_str().to_owned());
        }
        _ => {
            let mut json = Json::from(changes::members(&line));
            match dice.below(3) {
                0 => {
                    if let Json::Object(members) = &mut json {
                        members.insert(changes::name(dice), changes::value(dice));
                    }
                }
                deep => {
                    let depth = deep - 1 + dice.below(3);
                    changes::node(&mut json, depth, dice);
                }
            }
            log.lines.insert(seq, json.to_canonical().as_str().to_owned());
        }
    }
    // What cannot be linked behind it is linked as far as it goes.
    log.link(seq + 1);
    match base.kind {
        "package" => package(base, &log, dice),
        _ => whole(base, &log),
    }
}

/// An entry of the store's own, on which more depends.
fn interesting(log: &Log, dice: &mut Dice) -> u64 {
    let own: Vec<u64> =
        log.lines.iter().filter(|(_, line)| line.starts_with("{\"detail\"")).map(|(seq, _)| *seq).collect();
    *dice.of(&own)
}

/// The same value in a spelling that is not canonical, or nearly the same value.
fn spelled(line: &str, dice: &mut Dice) -> String {
    let changes = [
        ("\":", "\": "),
        (",\"", " ,\""),
        ("e", "\\u0065"),
        ("\"seq\":", "\"seq\":0"),
        ("}", ",\"zz\":1}"),
        ("}", ",\"zz\":1,\"zz\":1}"),
        ("\":1", "\":1.0"),
        ("\":1", "\":1e0"),
        ("\":1", "\":-0"),
        ("\":\"", "\":\"\\ud800"),
        ("\":\"", "\":\"\\u0000"),
        ("\":\"", "\":\"\\/"),
        ("\":\"", "\":\"\u{feff}"),
        ("\":\"", "\":\"\\ud83d\\ude00"),
        ("\":{", "\":{\"a\":{\"a\":[{\"10\":0,\"9\":0}]},"),
        ("1", "9007199254740993"),
        ("1", "1e400"),
        ("1", "0.1"),
        ("1", "NaN"),
        ("true", "false"),
    ];
    let (from, to) = *dice.of(&changes);
    let places: Vec<usize> = line.match_indices(from).map(|(at, _)| at).collect();
    if dice.below(10) == 0 {
        let deep = *dice.of(&[250, 254, 255, 256, 257, 300]);
        let nested = format!("\"treated\":{}1{}}}", "[".repeat(deep), "]".repeat(deep));
        return line.replacen(",\"user_id\":", &format!(",{nested},\"user_id\":"), 1);
    }
    if places.is_empty() {
        return line.to_owned();
    }
    let at = *dice.of(&places);
    format!("{}{to}{}", &line[..at], &line[at + from.len()..])
}

fn sealed(base: &Folder, log: &Log, files: &mut Files) -> Folder {
    files.insert("checkpoint".to_owned(), log.checkpoint().to_string().into_bytes());
    files.insert("public-key".to_owned(), format!("{}\n", key().verifier()).into_bytes());
    Folder { kind: base.kind, files: files.clone(), pinned: key().verifier().to_string(), succession: None }
}

fn whole(base: &Folder, log: &Log) -> Folder {
    let mut files = base.files.clone();
    let (mut rows, mut at) = (String::new(), 0);
    while at < log.size {
        if let Some(line) = log.lines.get(&at) {
            rows.push_str(line);
            rows.push('\n');
            at += 1;
            continue;
        }
        let (&(level, index), hash) = log.holes.iter().find(|((level, index), _)| index << level == at).unwrap();
        let count = 1u64 << level;
        rows.push_str(&format!(
            "{{\"purged\":{{\"count\":{count},\"first\":{},\"hash\":\"{hash}\"}}}}\n",
            index << level
        ));
        at += count;
    }
    files.insert("entries.jsonl".to_owned(), rows.into_bytes());
    sealed(base, log, &mut files)
}

/// The package with the entries that it has, as they are now.
fn package(base: &Folder, log: &Log, dice: &mut Dice) -> Folder {
    let mut files = base.files.clone();
    let Json::Object(mut proof) = Json::parse(&files["proofs/complete.json"]).unwrap().value else {
        panic!("no object")
    };
    let checkpoint = log.checkpoint();
    let terms = proof.get("terms").cloned().unwrap();
    let seq_of = |line: &str| changes::members(line).get("seq").and_then(Json::as_u64).unwrap();
    let shown: Vec<u64> = proof
        .get("entries")
        .and_then(Json::as_array)
        .unwrap()
        .iter()
        .map(|one| seq_of(one.get("line").unwrap().as_str().unwrap()))
        .collect();
    let mut shown: BTreeSet<u64> = shown.into_iter().filter(|seq| *seq < log.size).collect();
    // Entries that have nothing to do with it are shown, or one that it takes is not.
    match dice.below(8) {
        0 => _ = shown.insert(*dice.of(&log.lines.keys().copied().collect::<Vec<_>>())),
        1 => _ = shown.remove(&dice.of(&shown.iter().copied().collect::<Vec<_>>()).clone()),
        _ => {}
    }
    let path = |seq: u64| merkle::inclusion_proof(log, seq, log.size).unwrap();
    let entries = shown.iter().map(|seq| {
        let hashes: Vec<String> = path(*seq).iter().map(Hash::to_string).collect();
        super::object([("line", log.lines[seq].as_str().into()), ("path", hashes.into())])
    });
    proof.insert("entries", entries.collect::<Vec<Json>>());
    proof.insert("checkpoint", checkpoint.to_string());
    let mut proof = Json::from(proof);
    if dice.below(6) == 0 {
        changes::node(&mut proof, 5, dice);
    }
    files.insert("proofs/complete.json".to_owned(), format!("{}\n", proof.to_canonical()).into_bytes());
    files.retain(|name, _| !name.starts_with("proofs/entry-"));
    let since = changes::members(std::str::from_utf8(&files["package.json"]).unwrap()).get("since").cloned().unwrap();
    let mut lines = String::new();
    for seq in shown {
        let line = &log.lines[&seq];
        let names = |one: &Json| terms.as_array().unwrap().iter().any(|term| term == one);
        // A line that does not even parse is left out of what is listed: it is refused in the proof.
        let Ok(parsed) = Json::parse(line.as_bytes()) else { continue };
        let named = parsed.value.get("patient_ids").and_then(Json::as_array).is_some_and(|all| all.iter().any(names));
        let early = since
            .as_str()
            .is_some_and(|since| parsed.value.get("recorded_at").and_then(Json::as_str).is_some_and(|at| at < since));
        if !named || early {
            continue;
        }
        lines.push_str(line);
        lines.push('\n');
        let one =
            InclusionProof { seq, line: line.clone().into_bytes(), path: path(seq), checkpoint: checkpoint.clone() };
        files.insert(inclusion_name(seq), one.to_string().into_bytes());
    }
    files.insert("entries.jsonl".to_owned(), lines.into_bytes());
    sealed(base, log, &mut files)
}

/// Folders under keys that no honest signer has, with signatures that a careless library accepts: under a point of small order, or one that
/// is encoded in a second way, everything is signed.
pub fn weak_keys(bases: &[Folder]) -> Vec<(usize, Folder)> {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut negative = identity;
    negative[31] = 0x80;
    // p + 1, which is 1 again.
    let mut again = [0xff; 32];
    (again[0], again[31]) = (0xee, 0x7f);
    let zero = [0; 32];
    // R is the base point, S is 1: it holds if [k]A vanishes.
    let mut base_point = [0x66; 32];
    base_point[0] = 0x58;
    let signature = [&base_point[..], &identity].concat();
    let mut folders = Vec::new();
    for (at, base) in bases.iter().enumerate() {
        for public in [identity, negative, again, zero] {
            let blob = [&[1], &public[..]].concat();
            let id = Hash::of(&[NAME.as_bytes(), b"\n", &blob].concat());
            let text = format!("{NAME}+{}+{}", &id.to_string()[..8], STANDARD.encode(&blob));
            let mut folder = base.clone();
            let note = String::from_utf8(folder.files["checkpoint"].clone()).unwrap();
            let body: Vec<&str> = note.lines().skip(1).take(2).collect();
            let line = STANDARD.encode([&id.0[..4], &signature].concat());
            let note = format!("{NAME}\n{}\n{}\n\n— {NAME} {line}\n", body[0], body[1]);
            folder.files.insert("checkpoint".to_owned(), note.into_bytes());
            folder.files.insert("public-key".to_owned(), format!("{text}\n").into_bytes());
            folder.pinned = text;
            folders.push((at, folder));
        }
    }
    folders
}
