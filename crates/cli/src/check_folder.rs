//! `check FOLDER`: checks a package or an evidence folder, with only what its reader has from elsewhere.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::render::{clean, count, counted};
use attestlog::Facet;
use attestlog::folders::{CLAIM, EvidenceCheck, ProvenPackage, check_package};
use attestlog::json::{Json, Object};
use attestlog::note::{Succession, VerifierKey};
use attestlog::proof::{CheckError, Checked, MAX_PROOF_BYTES, Standing};
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

/// What the reader has from elsewhere.
pub struct Kept<'a> {
    pub key: &'a VerifierKey,
    pub succession: Option<&'a Succession>,
    /// What a package must be about.
    pub about: Option<(Facet, &'a str)>,
}

pub fn check(cx: &Context, dir: &Path, kept: &Kept, json: bool) -> Outcome {
    let mut out = cx.out();
    let checked = match dir.join(CLAIM).exists() {
        true => package(dir, kept).map(|proven| {
            let told = tell(&proven);
            (proven.to_json(), proven.holds(), told)
        }),
        false if kept.about.is_some() => Err(CheckError::Contradicted(
            "an evidence folder is about everybody, and says nothing of one value".to_owned(),
        )
        .into()),
        false => evidence(dir, kept),
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

fn package(dir: &Path, kept: &Kept) -> Result<ProvenPackage, Fault> {
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
    let proven = check_package(&files, kept.key, kept.succession)?;
    match kept.about {
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

fn evidence(dir: &Path, kept: &Kept) -> Result<(Json, bool, Vec<String>), Fault> {
    let file = |name: &str| {
        read(&dir.join(name))?.ok_or_else(|| Fault::from(CheckError::Malformed(format!("{name} is missing"))))
    };
    let mut check = EvidenceCheck::new(&file("public-key")?, &file("checkpoint")?, kept.key, kept.succession)?;
    rows(&dir.join("entries.jsonl"), |row| check.row(row))?;
    rows(&dir.join("purges.jsonl"), |row| check.purge_row(row))?;
    let proven = check.finish()?;
    let checkpoint = proven.checkpoint().checkpoint();
    let told = vec![
        format!(
            "{}: each of the log's first {} is in its place and as it was when the checkpoint was signed",
            if proven.holds() { "proved" } else { CLOSED },
            counted(checkpoint.size(), "entry", "entries")
        ),
        format!("  log    {}", clean(checkpoint.origin())),
        format!("  root   {}", checkpoint.root()),
        format!("  gone   {} that purges took, as the log records", counted(proven.purged().len(), "entry", "entries")),
        format!("  epoch  {}", epoch(proven.signed())),
    ];
    Ok((proven.to_json(), proven.holds(), told))
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

/// What a folder is that was signed in an epoch which has ended.
const CLOSED: &str = "NOT PROVED, only the signatures hold";

/// The epoch, and what its signature is worth.
fn epoch(checked: &Checked) -> String {
    let Some(number) = checked.epoch() else { return "not checked (that takes --succession)".to_owned() };
    match checked.standing() {
        Standing::Closed => format!(
            "{number}, which has ended: whoever held its key and the log key may have made this since; a proof from here to a later \
             checkpoint shows that the log went on (check --extended-by, for proofs/complete.json or checkpoint)"
        ),
        Standing::Extended => format!("{number}, which ended here, and the log went on"),
        _ => format!("{number}, the present one"),
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
        _ if proven.complete().standing() == Standing::Closed => {
            format!("{CLOSED}: {all} the patient {:?}", clean(&claim.patient))
        }
        true => format!("proved: in the whole log exactly {all} the patient {:?}", clean(&claim.patient)),
        false => format!("NOT PROVED OF ANYBODY, only of pseudonyms: {all} those that were looked for"),
    };
    let seqs: Vec<String> = entries.iter().map(|(seq, _)| count(*seq)).collect();
    vec![
        format!("{verdict} in the period"),
        format!("  period  {period}, by the log's clock"),
        format!("  log     {}", clean(proven.complete().origin())),
        format!("  entries {}", seqs.join(", ")),
        format!("  epoch   {}", epoch(proven.complete())),
    ]
}
