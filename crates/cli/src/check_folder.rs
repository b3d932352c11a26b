//! `check FOLDER`: checks a package or an evidence folder, with only the log's public key.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::render::{clean, count, counted};
use attestlog::Facet;
use attestlog::folders::{CLAIM, EvidenceCheck, ProvenPackage, check_package};
use attestlog::json::{Json, Object};
use attestlog::note::VerifierKey;
use attestlog::proof::{CheckError, MAX_PROOF_BYTES};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

/// The most files that are read from `proofs/`: one for each entry of one completeness proof.
const MAX_FILES: usize = 1 << 20;

/// Why a folder was not checked to its end.
enum Fault {
    Refused(CheckError),
    Unread(Failure),
}

impl From<CheckError> for Fault {
    fn from(e: CheckError) -> Fault {
        Fault::Refused(e)
    }
}

impl From<Failure> for Fault {
    fn from(e: Failure) -> Fault {
        Fault::Unread(e)
    }
}

pub fn check(cx: &Context, dir: &Path, key: &VerifierKey, about: Option<(Facet, &str)>, json: bool) -> Outcome {
    let mut out = cx.out();
    let checked = match dir.join(CLAIM).exists() {
        true => package(dir, key, about).map(|proven| {
            let told = tell(&proven);
            (proven.to_json(), proven.holds(), told)
        }),
        false if about.is_some() => Err(CheckError::Contradicted(
            "an evidence folder is about everybody, and says nothing of one value".to_owned(),
        )
        .into()),
        false => evidence(dir, key).map(|(json, told)| (json, true, told)),
    };
    let (found, holds, told) = match checked {
        Ok(found) => found,
        Err(Fault::Unread(failure)) => return Err(failure),
        Err(Fault::Refused(e)) if json => {
            let refused = [("error", Json::from(e.to_string())), ("ok", false.into()), ("verdict", "failed".into())];
            out.line(Json::from(Object::from_iter(refused)).to_canonical().as_str())?;
            out.flush()?;
            return Ok(End::Found);
        }
        Err(Fault::Refused(e)) => return Err(Failure::Found(format!("{}: proves nothing: {e}", dir.display()))),
    };
    match json {
        true => out.line(found.to_canonical().as_str())?,
        false => told.iter().try_for_each(|line| out.line(line))?,
    }
    out.flush()?;
    Ok(if holds { End::Done } else { End::Found })
}

fn package(dir: &Path, key: &VerifierKey, about: Option<(Facet, &str)>) -> Result<ProvenPackage, Fault> {
    let mut files = BTreeMap::new();
    for name in [CLAIM, "entries.jsonl", "checkpoint", "public-key"] {
        if let Some(bytes) = read(&dir.join(name))? {
            files.insert(name.to_owned(), bytes);
        }
    }
    let proofs = dir.join("proofs");
    let list = std::fs::read_dir(&proofs).map_err(|e| Failure::file(&proofs, &e))?;
    for (number, file) in list.enumerate() {
        let file = file.map_err(|e| Failure::file(&proofs, &e))?;
        if number == MAX_FILES {
            return Err(
                CheckError::Malformed("there are more files in proofs than one proof has entries".to_owned()).into()
            );
        }
        let bytes =
            read(&file.path())?.ok_or_else(|| Failure::Input(format!("{}: has gone", file.path().display())))?;
        files.insert(format!("proofs/{}", file.file_name().to_string_lossy()), bytes);
    }
    let proven = check_package(&files, key)?;
    match about {
        None => Ok(proven),
        Some((facet, value)) => {
            proven.complete().clone().about(facet, value)?;
            Ok(proven)
        }
    }
}

/// A file of a bounded size; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let fault = |e: std::io::Error| Failure::file(path, &e);
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(about) if !about.is_file() => {
            return Err(CheckError::Malformed(format!("{} is not a regular file", path.display())).into());
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_PROOF_BYTES as u64 + 1).read_to_end(&mut bytes)).map_err(fault)?;
    match bytes.len() > MAX_PROOF_BYTES {
        true => Err(CheckError::TooLarge(bytes.len()).into()),
        false => Ok(Some(bytes)),
    }
}

fn evidence(dir: &Path, key: &VerifierKey) -> Result<(Json, Vec<String>), Fault> {
    let file = |name: &str| {
        read(&dir.join(name))?.ok_or_else(|| Fault::from(CheckError::Malformed(format!("{name} is missing"))))
    };
    let mut check = EvidenceCheck::new(&file("public-key")?, &file("checkpoint")?, key)?;
    rows(&dir.join("entries.jsonl"), |row| check.row(row))?;
    rows(&dir.join("purges.jsonl"), |row| check.purge_row(row))?;
    let proven = check.finish()?;
    let checkpoint = proven.checkpoint().checkpoint();
    let told = vec![
        format!(
            "proved: each of the log's first {} is in its place and as it was when the checkpoint was signed",
            counted(checkpoint.size(), "entry", "entries")
        ),
        format!("  log    {}", clean(checkpoint.origin())),
        format!("  root   {}", checkpoint.root()),
        format!("  gone   {} that purges took, as the log records", counted(proven.purged().len(), "entry", "entries")),
        "  epoch  not checked (that takes the succession, and verify)".to_owned(),
    ];
    Ok((proven.to_json(), told))
}

/// Hands on each row of a file, with its newline. No row is longer than a proof may be.
fn rows(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), CheckError>) -> Result<(), Fault> {
    let fault = |e: std::io::Error| Failure::file(path, &e);
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(fault)?);
    let mut row = Vec::new();
    loop {
        row.clear();
        let read = (&mut file).take(MAX_PROOF_BYTES as u64 + 1).read_until(b'\n', &mut row).map_err(fault)?;
        if read == 0 {
            return Ok(());
        }
        if read > MAX_PROOF_BYTES {
            return Err(CheckError::TooLarge(read).into());
        }
        take(&row)?;
    }
}

fn tell(proven: &ProvenPackage) -> Vec<String> {
    let claim = proven.claim();
    let entries = proven.entries();
    let all = counted(entries.len() as u64, "entry names", "entries name");
    let shown = |time: Option<attestlog::Timestamp>, otherwise: &str| {
        time.map_or_else(|| otherwise.to_owned(), |time| time.to_string())
    };
    let period = format!("{} to {}", shown(claim.since, "the beginning"), shown(claim.until, "the end"));
    let verdict = match proven.holds() {
        true => format!("proved: in the whole log exactly {all} the patient {:?}", clean(&claim.patient)),
        false => format!("NOT PROVED OF ANYBODY, only of pseudonyms: {all} those that were looked for"),
    };
    let seqs: Vec<String> = entries.iter().map(|(seq, _)| count(*seq)).collect();
    vec![
        format!("{verdict} in the period"),
        format!("  period  {period}, by the log's clock"),
        format!("  log     {}", clean(proven.complete().origin())),
        format!("  entries {}", seqs.join(", ")),
        "  epoch   not checked (check proofs/complete.json with --succession)".to_owned(),
    ]
}
