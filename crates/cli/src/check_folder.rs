//! `check FOLDER`: checks a package or an evidence folder, with only what its reader has from elsewhere.
//!
//! Somebody else made the folder, so no link is followed and no pipe is waited for. A link counts as missing and a pipe as an empty file,
//! as they do for the checker in a browser (docs/proof-format.md, section 10).

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::render::clean;
use attestlog::Facet;
use attestlog::folders::{CLAIM, EvidenceCheck, ProvenEvidence, ProvenPackage, check_package};
use attestlog::json::{Json, Object};
use attestlog::note::{Succession, VerifierKey};
use attestlog::proof::{CheckError, Checked, MAX_PROOF_BYTES, Standing};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

/// The most files that are read from `proofs/`: one for each entry of one completeness proof.
const MAX_FILES: usize = 1 << 20;
/// The most bytes that the files of a package have together.
const MAX_TOGETHER: usize = 1 << 30;

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
    let checked = match opened(&dir.join(CLAIM)) {
        Ok(Some(_)) => package(dir, kept).map(|proven| {
            let told = told(proven.complete(), proven.holds(), &proven.sentences());
            (proven.to_json(), proven.holds(), told)
        }),
        Ok(None) if kept.about.is_some() => Err(CheckError::Contradicted(
            "an evidence folder is about everybody, and says nothing of one value".to_owned(),
        )
        .into()),
        Ok(None) => evidence(dir, kept).map(|proven| {
            let told = told(proven.signed(), proven.holds(), &proven.sentences());
            (proven.to_json(), proven.holds(), told)
        }),
        Err(fault) => Err(fault),
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
    let mut names: Vec<String> = [CLAIM, "entries.jsonl", "checkpoint", "public-key"].map(str::to_owned).to_vec();
    names.extend(proofs(dir)?);
    let (mut files, mut together) = (BTreeMap::new(), 0);
    for name in names {
        let Some(bytes) = read(dir, &name)? else { continue };
        together += bytes.len();
        if together > MAX_TOGETHER {
            return Err(malformed("the files of the package are too large together"));
        }
        files.insert(name, bytes);
    }
    let proven = check_package(&files, kept.key, kept.succession)?;
    if let Some((facet, value)) = kept.about {
        proven.complete().clone().about(facet, value)?;
    }
    Ok(proven)
}

/// The names of the files in `proofs`. What is in folders in it counts as little as the folders.
fn proofs(dir: &Path) -> Result<Vec<String>, Fault> {
    let proofs = dir.join("proofs");
    let fault = |e: std::io::Error| Failure::file(&proofs, &e);
    let mut names = Vec::new();
    if !std::fs::symlink_metadata(&proofs).is_ok_and(|about| about.is_dir()) {
        return Ok(names);
    }
    for file in std::fs::read_dir(&proofs).map_err(fault)? {
        let file = file.map_err(fault)?;
        let kind = file.file_type().map_err(fault)?;
        if kind.is_symlink() || kind.is_dir() {
            continue;
        }
        // A name that is no Unicode is that of no proof.
        names.push(format!("proofs/{}", file.file_name().to_string_lossy()));
        if names.len() > MAX_FILES {
            return Err(malformed("there are too many files in proofs"));
        }
    }
    Ok(names)
}

fn malformed(what: impl Into<String>) -> Fault {
    CheckError::Malformed(what.into()).into()
}

/// What the file at this place has; `None` if there is none.
fn opened(path: &Path) -> Result<Option<Box<dyn Read>>, Fault> {
    let missing = |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_symlink() || about.is_dir() => return Ok(None),
        Ok(about) if !about.is_file() => return Ok(Some(Box::new(std::io::empty()))),
        Err(e) if missing(&e) => return Ok(None),
        Err(e) => return Err(Failure::file(path, &e).into()),
        Ok(_) => {}
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use nix::fcntl::OFlag;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    }
    Ok(Some(Box::new(options.open(path).map_err(|e| Failure::file(path, &e))?)))
}

/// A file of a bounded size; `None` if there is none.
fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let path = dir.join(name);
    let Some(file) = opened(&path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(MAX_PROOF_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| Failure::file(&path, &e))?;
    match bytes.len() > MAX_PROOF_BYTES {
        true => Err(malformed(format!("{name} is too large"))),
        false => Ok(Some(bytes)),
    }
}

fn evidence(dir: &Path, kept: &Kept) -> Result<ProvenEvidence, Fault> {
    let missing = |name: &str| malformed(format!("{name} is missing"));
    let file = |name: &str| read(dir, name)?.ok_or_else(|| missing(name));
    let mut check = EvidenceCheck::new(&file("public-key")?, &file("checkpoint")?, kept.key, kept.succession)?;
    let rows = |name: &str| opened(&dir.join(name))?.ok_or_else(|| missing(name));
    let (entries, purges) = (rows("entries.jsonl")?, rows("purges.jsonl")?);
    each_row(dir, "entries.jsonl", entries, |row| check.row(row))?;
    each_row(dir, "purges.jsonl", purges, |row| check.purge_row(row))?;
    Ok(check.finish()?)
}

/// Hands on each row of a file, with its newline. No row is longer than a proof may be.
fn each_row(
    dir: &Path,
    name: &str,
    file: Box<dyn Read>,
    mut take: impl FnMut(&[u8]) -> Result<(), CheckError>,
) -> Result<(), Fault> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut row = Vec::new();
    loop {
        row.clear();
        let read = (&mut file).take(MAX_PROOF_BYTES as u64 + 1).read_until(b'\n', &mut row);
        match read.map_err(|e| Failure::file(dir.join(name), &e))? {
            0 => return Ok(()),
            read if read > MAX_PROOF_BYTES => return Err(malformed(format!("a row of {name} is too large"))),
            _ => take(&row)?,
        }
    }
}

fn told(signed: &Checked, holds: bool, sentences: &[String]) -> Vec<String> {
    let verdict = match holds {
        true => "PROVED",
        false if signed.standing() == Standing::Closed => "NOT PROVED, only the signatures hold",
        false => "NOT PROVED OF ANYBODY, only of pseudonyms",
    };
    let head = [verdict.to_owned(), format!("  log   {}", clean(signed.origin()))];
    head.into_iter().chain(sentences.iter().map(|sentence| clean(sentence))).collect()
}
