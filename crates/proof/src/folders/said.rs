//! What a checker says of a folder that holds: what was proved and what was not (docs/proof-format.md, section 12). The other two
//! checkers say the same sentences in the same cases; a test compares them.

use crate::Timestamp;
use crate::json::Json;
use crate::proof::{Checked, Standing};
use crate::purge::PurgeRecord;
use crate::seqs::SeqSet;

/// The most characters that a sentence shows of a set.
const MOST_OF_A_SET: usize = 400;
/// The most characters of a name that are listed, and the most purges that do not fit the clock.
const MOST: usize = 8;

/// How many there are, and which.
fn some(seqs: &SeqSet) -> String {
    if seqs.is_empty() {
        return "none".to_owned();
    }
    let text = seqs.to_string();
    match text.get(..MOST_OF_A_SET) {
        Some(start) if text.len() > MOST_OF_A_SET => format!("{} ({start}…)", seqs.len()),
        _ => format!("{} ({text})", seqs.len()),
    }
}

/// What is said of a package.
pub(super) struct OfPackage<'p> {
    /// What the signatures prove.
    pub signed: &'p Checked,
    pub patient: &'p str,
    /// Whether it is proven of pseudonyms only, and not of the patient.
    pub hidden: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub size: u64,
    /// The patient's entries in the period.
    pub within: SeqSet,
    /// How many more of the patient's entries there are.
    pub outside: u64,
    pub purged: &'p SeqSet,
    pub unknown: &'p SeqSet,
    /// Sentences about purges that do not fit the log's clock.
    pub odd: &'p [String],
    pub newest: Option<Timestamp>,
}

impl OfPackage<'_> {
    pub(super) fn sentences(&self) -> Vec<String> {
        let patient = Json::from(self.patient).to_canonical();
        let time = |time: Option<Timestamp>, or: &str| time.map_or_else(|| or.to_owned(), |time| time.to_string());
        let size = self.size;
        let (since, until) = (time(self.since, "the beginning"), time(self.until, "the end"));
        let within = format!("and were recorded from {since} to {until} by its own clock: {}.", some(&self.within));
        let mut said: Vec<String> = closed(self.signed).into_iter().collect();
        if self.hidden {
            said.push(format!(
                "NOT PROVED of the patient {patient}: names in this log are hidden. That the pseudonyms which were looked for are this \
                 patient's is the word of whoever holds the log's keys."
            ));
        }
        said.push(match (self.hidden, said.is_empty()) {
            (true, _) => format!(
                "By the log's own index, these are all of its first {size} entries that have one of those pseudonyms, or that name in \
                 clear, {within}"
            ),
            (false, true) => format!(
                "Proved of the patient {patient}: by the log's own index, these are all of its first {size} entries that name the \
                 patient {within}"
            ),
            (false, false) => format!(
                "By the log's own index, these are all of its first {size} entries that name the patient {patient} {within}"
            ),
        });
        if self.outside > 0 {
            said.push(format!("More of them were recorded outside that period: {}.", self.outside));
        }
        if !self.purged.is_empty() {
            said.push(format!(
                "More of them, recorded at whatever time, were purged, as the log says: {}. Whether it was time is not checked.",
                some(self.purged)
            ));
        }
        if !self.unknown.is_empty() {
            said.push(format!("Purged too, and nobody can tell any more whom they named: {}.", some(self.unknown)));
        }
        said.extend(self.odd.iter().take(MOST).cloned());
        said.extend(beyond_ascii(self.patient));
        said.extend(self.newest.map(|at| format!("The newest entry that the package shows was recorded at {at}.")));
        said.push(
            "Not shown: that this index was right when the log wrote it. Who has the whole log can compare (attestlog verify)."
                .to_owned(),
        );
        said.extend(never(self.signed));
        said
    }
}

/// What is said of an evidence folder.
pub(super) fn of_evidence(signed: &Checked, size: u64, gone: &SeqSet, odd: &[String]) -> Vec<String> {
    let mut said: Vec<String> = closed(signed).into_iter().collect();
    let begin = if said.is_empty() { "Proved: of" } else { "Of" };
    said.push(format!(
        "{begin} the log's first {size} entries, these are here, each in its place and as it was when the checkpoint was signed: {}.",
        size - gone.len()
    ));
    if !gone.is_empty() {
        said.push(format!(
            "The others were purged, as the log says: {}. Whether it was time is not checked.",
            some(gone)
        ));
    }
    said.extend(odd.iter().take(MOST).cloned());
    said.push(
        "Not shown: that the log's index, on which proofs about one patient rest, agrees with these entries: its rows are not in this \
         folder."
            .to_owned(),
    );
    said.extend(never(signed));
    said
}

/// What is said first where the signing epoch has ended.
fn closed(signed: &Checked) -> Option<String> {
    let epoch = signed.epoch().filter(|_| signed.standing() == Standing::Closed)?;
    Some(format!(
        "NOT PROVED, only the signatures hold: epoch {epoch}, whose key signed this, has ended. Whoever held that key and the log's may \
         have made all of it since. That the log went on from here takes a proof (attestlog check --extended-by)."
    ))
}

/// What is said last: whose key signed, and what no folder shows.
fn never(signed: &Checked) -> [String; 2] {
    let epoch = match signed.epoch() {
        Some(epoch) => format!("The key of epoch {epoch} signed, too."),
        None => "Not shown: that the key of an epoch signed, too. That takes the log's succession, from elsewhere."
            .to_owned(),
    };
    let rest = "Not shown: that every call was recorded; that what was recorded of a call is true; what came after this checkpoint; that \
                the log was not made anew by whoever holds its keys.";
    [epoch, rest.to_owned()]
}

/// What does not fit the log's clock in a purge: the entry at `seq`, recorded at `at`, of a log whose first entry was recorded when it
/// `began`.
pub(super) fn odd(seq: u64, purge: &PurgeRecord, at: Timestamp, began: Option<Timestamp>) -> Option<String> {
    let says = format!("The purge of entry {seq} says that it took what had expired by {}, which is", purge.cut_off);
    match began {
        _ if purge.count == 0 => None,
        _ if purge.cut_off > at => Some(format!("{says} later than it was recorded: {at}.")),
        Some(began) if purge.cut_off < began => Some(format!("{says} before the log began: {began}.")),
        _ => None,
    }
}

/// The characters of a name that may look like others.
fn beyond_ascii(name: &str) -> Option<String> {
    let mut found: Vec<char> = Vec::new();
    for c in name.chars().filter(|c| !c.is_ascii()) {
        if !found.contains(&c) && found.len() < MOST {
            found.push(c);
        }
    }
    let found: Vec<String> = found.into_iter().map(|c| format!("U+{:04X}", u32::from(c))).collect();
    (!found.is_empty()).then(|| {
        format!(
            "The patient's name has characters that may look like others: {}. Nothing is said of a name that only looks the same.",
            found.join(", ")
        )
    })
}
