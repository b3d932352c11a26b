//! Whether those who reviewed emergency grants, and purges that took some, may have done so by the entries themselves.
//!
//! The log asks its index who used a grant before it takes a review (Y4), and before a purge takes the grant (R15). What was
//! decided then stays in the chain, so it is tried again here without the index (R76). A reviewer whom a policy hides is
//! compared by the pseudonym in the entry: one of another key is not known to be the same person.

use super::finding::FindingKind as K;
use crate::grants::OpenGrant;
use crate::json::Json;
use crate::redact::look;
use crate::retention::SeqSet;
use attestlog_proof::entry::{Kind, SystemEvent};
use std::collections::{BTreeMap, BTreeSet};

/// What entries until now say of one grant, or of what calls name as one.
#[derive(Debug, Default)]
struct Known {
    /// Who used it, and whose it is.
    users: BTreeSet<String>,
    last_use: Option<u64>,
    last_review: Option<u64>,
    /// Whether it is known to be a grant, though its entry may be gone.
    is_grant: bool,
}

/// The grants by seq.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<u64, Known>);

impl Grants {
    /// A call under a grant. In the order of seqs, also among what the log itself says.
    pub(super) fn used(&mut self, seq: u64, grant: u64, user: String) {
        let known = self.0.entry(grant).or_default();
        known.users.insert(user);
        known.last_use = Some(seq);
    }

    /// What is wrong with what the log itself says at `seq`; `purges` has what each purge took.
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
