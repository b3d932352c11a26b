//! Checks, by the entries alone, whether emergency grants were reviewed by somebody entitled to, and whether purges
//! that took grants were allowed to.
//!
//! The log uses its index to find out who used a grant before it accepts a review (Y4), and before a purge takes the
//! grant (R15). Both decisions are in the chain, so they are checked again here without the index (R76). A reviewer
//! whom a policy hides is compared by the pseudonym in the entry: a pseudonym under another key is not recognised as
//! the same person.

use super::finding::FindingKind as K;
use crate::grants::OpenGrant;
use crate::json::Json;
use crate::redact::look;
use crate::retention::SeqSet;
use attestlog_proof::entry::{Kind, SystemEvent};
use std::collections::{BTreeMap, BTreeSet};

/// What the entries so far say about one grant, or about a seq that calls name as their grant.
#[derive(Debug, Default)]
struct Known {
    /// The user of the grant, and everybody who used it.
    users: BTreeSet<String>,
    last_use: Option<u64>,
    last_review: Option<u64>,
    /// Whether it is known to be a grant; its own entry may be purged.
    is_grant: bool,
}

/// The grants by seq.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<u64, Known>);

impl Grants {
    /// Adds a call under a grant. Calls and system events must be added in the order of their seqs.
    pub(super) fn used(&mut self, seq: u64, grant: u64, user: String) {
        let known = self.0.entry(grant).or_default();
        known.users.insert(user);
        known.last_use = Some(seq);
    }

    /// Adds the system event at `seq` and returns what is wrong with it; `purges` holds what each purge took.
    pub(super) fn said(&mut self, seq: u64, own: &SystemEvent, purges: &BTreeMap<u64, SeqSet>) -> Vec<(K, String)> {
        let detail = own.detail.to_json();
        let grant = detail.get("grant").and_then(Json::as_u64);
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        match (own.kind, grant) {
            (Kind::BreakGlassOpened, _) if OpenGrant::from_json(&detail).is_ok() => {
                let known = self.0.entry(seq).or_default();
                known.is_grant = true;
                known.users.extend(text("user").map(str::to_owned));
                Vec::new()
            }
            (Kind::BreakGlassClosed, Some(grant)) => {
                self.0.entry(grant).or_default().is_grant = true;
                Vec::new()
            }
            (Kind::BreakGlassReviewed, Some(grant)) => {
                let known = self.0.entry(grant).or_default();
                (known.is_grant, known.last_review) = (true, Some(seq));
                let plain = |name: &str| look(name).to_lowercase();
                let reviewer = plain(text("reviewer").unwrap_or_default());
                let users = known.users.iter().map(String::as_str).chain(text("user"));
                match users.into_iter().any(|user| plain(user) == reviewer) {
                    true => {
                        let detail =
                            format!("emergency grant {grant} was reviewed by its user, or by somebody who used it");
                        vec![(K::OwnEntryInvalid, detail)]
                    }
                    false => Vec::new(),
                }
            }
            (Kind::Purge, _) => {
                let Some(taken) = purges.get(&seq) else { return Vec::new() };
                let unreviewed = |(grant, known): &(&u64, &Known)| {
                    known.is_grant
                        && known.last_use.is_some_and(|last| known.last_review < Some(last))
                        && taken.contains(**grant)
                };
                let told = |(grant, _)| {
                    let detail =
                        format!("it took emergency grant {grant}, which was used after its last review, or had none");
                    (K::PurgedEarly, detail)
                };
                self.0.iter().filter(unreviewed).map(told).collect()
            }
            _ => Vec::new(),
        }
    }
}
