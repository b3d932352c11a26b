//! A package: what the log has of one patient in one period, with the proof that nothing is missing.
//!
//! Invariant: a package proves exactly what its parts do. The completeness proof is of the whole log, so it holds for every
//! period; the inclusion proofs repeat what it shows, one entry each, for tools that read only those.

use super::{CLAIM, head, malformed, object, one_line, said, verdict};
use crate::entry::{Entry, Facet};
use crate::json::{Json, Object};
use crate::note::{Succession, VerifierKey};
use crate::proof::{CheckError, Checked, CompleteProof, InclusionProof, MAX_PROOF_BYTES, Mapping, Proof, Proven};
use crate::purge::PurgeRecord;
use crate::seqs::SeqSet;
use crate::{Hash, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The format that [`PackageClaim`] names.
pub const FORMAT: &str = "attestlog/package@v1";

const COMPLETE: &str = "proofs/complete.json";

/// The name of the file with the inclusion proof of an entry.
pub fn inclusion_name(seq: u64) -> String {
    format!("proofs/entry-{seq}.proof")
}

/// What a package is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageClaim {
    /// The patient.
    pub patient: String,
    /// Entries that were recorded from this time on; `None` if from the beginning.
    pub since: Option<Timestamp>,
    /// Entries that were recorded before this time; `None` if to the end.
    pub until: Option<Timestamp>,
}

impl PackageClaim {
    /// The text of `package.json`.
    pub fn to_text(&self) -> String {
        let time = |time: Option<Timestamp>| Json::from(time.map(|time| time.to_string()));
        let claim = Object::from_iter([
            ("format", Json::from(FORMAT)),
            ("patient", self.patient.as_str().into()),
            ("since", time(self.since)),
            ("until", time(self.until)),
        ]);
        format!("{}\n", Json::from(claim).to_canonical())
    }

    fn parse(bytes: &[u8]) -> Result<PackageClaim, CheckError> {
        let claim = object(CLAIM, one_line(CLAIM, bytes)?, &["format", "patient", "since", "until"])?;
        if claim.get("format").and_then(Json::as_str) != Some(FORMAT) {
            return Err(malformed(format!("{CLAIM} is of another format")));
        }
        let patient =
            claim.get("patient").and_then(Json::as_str).ok_or_else(|| malformed("package.json names nobody"))?;
        let time = |key| match claim.get(key) {
            Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) if time.to_string() == *text => Ok(Some(time)),
                _ => Err(malformed(format!("{CLAIM}: {key} is not a time"))),
            },
            _ => Err(malformed(format!("{CLAIM}: {key} is not a time"))),
        };
        let claim = PackageClaim { patient: patient.to_owned(), since: time("since")?, until: time("until")? };
        match (claim.since, claim.until) {
            (Some(since), Some(until)) if since >= until => Err(malformed("the period is empty")),
            _ => Ok(claim),
        }
    }

    /// Whether an entry that was recorded at this time belongs to the period.
    pub fn includes(&self, recorded_at: Timestamp) -> bool {
        self.since.is_none_or(|since| recorded_at >= since) && self.until.is_none_or(|until| recorded_at < until)
    }
}

/// What a package proves. Only [`check_package`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvenPackage {
    claim: PackageClaim,
    complete: Checked,
    entries: Vec<(u64, String)>,
    /// Sentences about purges that do not fit the log's clock.
    odd: Vec<String>,
}

impl ProvenPackage {
    /// What the package is about.
    pub fn claim(&self) -> &PackageClaim {
        &self.claim
    }

    /// What its completeness proof proves, of the whole log.
    pub fn complete(&self) -> &Checked {
        &self.complete
    }

    /// Seq and line of each entry of the patient in the period.
    pub fn entries(&self) -> &[(u64, String)] {
        &self.entries
    }

    /// Whether it is proven of the patient, and not only of pseudonyms, and not by an epoch that is closed.
    pub fn holds(&self) -> bool {
        self.complete.holds()
    }

    /// What was proved and what was not, in the sentences of docs/proof-format.md, section 12. They have the patient's name as it is:
    /// escape them before they reach a terminal or a page.
    pub fn sentences(&self) -> Vec<String> {
        let Proven::Complete { size, mapping, entries, purged, unknown, newest, .. } = self.complete.proven() else {
            return Vec::new();
        };
        let said = said::OfPackage {
            signed: &self.complete,
            patient: &self.claim.patient,
            hidden: *mapping == Mapping::Unproven,
            since: self.claim.since,
            until: self.claim.until,
            size: *size,
            within: SeqSet::from_iter(self.entries.iter().map(|(seq, _)| *seq)),
            outside: (entries.len() - self.entries.len()) as u64,
            purged,
            unknown,
            odd: &self.odd,
            newest: *newest,
        };
        said.sentences()
    }

    /// `{"epoch","kind":"package","ok","origin","patient","pinned":true,"purged","root","says":[SENTENCE…],"seqs","since","size","unknown",
    /// "until","verdict"}`.
    pub fn to_json(&self) -> Json {
        let Proven::Complete { size, root, purged, unknown, .. } = self.complete.proven() else { return Json::Null };
        let time = |time: Option<Timestamp>| Json::from(time.map(|time| time.to_string()));
        Object::from_iter([
            ("epoch", Json::from(self.complete.epoch())),
            ("kind", "package".into()),
            ("ok", self.holds().into()),
            ("origin", self.complete.origin().into()),
            ("patient", self.claim.patient.as_str().into()),
            ("pinned", true.into()),
            ("purged", purged.to_json()),
            ("root", root.to_string().into()),
            ("says", self.sentences().into()),
            ("seqs", self.entries.iter().map(|(seq, _)| *seq).collect::<Vec<_>>().into()),
            ("since", time(self.claim.since)),
            ("size", (*size).into()),
            ("unknown", unknown.to_json()),
            ("until", time(self.claim.until)),
            (
                "verdict",
                verdict(self.complete.standing(), self.complete.proven().mapping() == Mapping::Unproven).into(),
            ),
        ])
        .into()
    }
}

/// Checks a package. `files` has the contents of its files by name, those of `proofs/` with that before their names; other files may
/// be left out, except that every file of `proofs/` must be there. With a succession, the epoch key's signature is checked too.
///
/// # Errors
/// The [`CheckError`] that says why it proves nothing.
pub fn check_package(
    files: &BTreeMap<String, Vec<u8>>,
    key: &VerifierKey,
    succession: Option<&Succession>,
) -> Result<ProvenPackage, CheckError> {
    let file = |name: &str| files.get(name).map(Vec::as_slice).ok_or_else(|| malformed(format!("{name} is missing")));
    let checkpoint = head(file("public-key")?, file("checkpoint")?, key)?;
    if checkpoint.checkpoint().size() == 0 {
        return Err(malformed("the log is empty"));
    }
    let claim = PackageClaim::parse(file(CLAIM)?)?;
    let Proof::Complete(proof) = Proof::parse(file(COMPLETE)?)? else {
        return Err(malformed(format!("{COMPLETE} is a proof of another kind")));
    };
    if proof.to_string().as_bytes() != file(COMPLETE)? {
        return Err(malformed(format!("{COMPLETE} is not canonical JSON")));
    }
    if proof.facet != Facet::Patient || proof.value != claim.patient {
        return Err(CheckError::Contradicted("the proof is about something else than the package".to_owned()));
    }
    if proof.checkpoint != checkpoint {
        return Err(CheckError::Contradicted("the proof is of another checkpoint".to_owned()));
    }
    let times = times(&proof);
    let complete = Proof::Complete(proof).check(key, succession)?;
    let Proven::Complete { entries, purges, .. } = complete.proven() else {
        return Err(malformed("not a completeness proof"));
    };
    let began = times.get(&0).copied();
    let purges: BTreeMap<u64, &PurgeRecord> = purges.iter().map(|(seq, purge)| (*seq, purge)).collect();
    let odd = purges.iter().filter_map(|(seq, purge)| said::odd(*seq, purge, *times.get(seq)?, began)).collect();
    let mut within = Vec::new();
    for (seq, line) in entries {
        let entry = Entry::from_line(line).map_err(|e| CheckError::Entry(e.to_string()))?;
        if claim.includes(entry.body.recorded_at) {
            within.push((*seq, line.clone()));
        }
    }
    let lines: String = within.iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect();
    if file("entries.jsonl")? != lines.as_bytes() {
        return Err(CheckError::Contradicted("entries.jsonl is not what was proven".to_owned()));
    }
    let mut names = BTreeSet::from([COMPLETE.to_owned()]);
    let (size, root) = (checkpoint.checkpoint().size(), checkpoint.checkpoint().root());
    for (seq, line) in &within {
        let name = inclusion_name(*seq);
        let bytes = file(&name)?;
        let one = InclusionProof::parse(bytes)?;
        if one.seq != *seq
            || one.line != line.as_bytes()
            || one.checkpoint != checkpoint
            || bytes.len() > MAX_PROOF_BYTES
        {
            return Err(CheckError::Contradicted(format!("{name} is about something else")));
        }
        crate::merkle::verify_inclusion(*seq, size, Hash::leaf(&one.line), &one.path, root)?;
        names.insert(name);
    }
    match files.keys().find(|name| name.starts_with("proofs/") && !names.contains(*name)) {
        Some(name) => Err(malformed(format!("{name} is a proof too many"))),
        None => Ok(ProvenPackage { claim, complete, entries: within, odd }),
    }
}

/// When the first entry and those of purges were recorded, as far as a proof shows them.
fn times(proof: &CompleteProof) -> BTreeMap<u64, Timestamp> {
    // Reading them all once more would double the work.
    let wanted = |at: usize, line: &str| at == 0 || line.contains("\"kind\":\"purge\"");
    let shown = proof.entries.iter().enumerate().filter(|(at, shown)| wanted(*at, &shown.line));
    let entries = shown.filter_map(|(_, shown)| Entry::from_line(&shown.line).ok());
    entries.map(|entry| (entry.seq, entry.body.recorded_at)).collect()
}
