//! The newest conversations, and how each of them went.

use super::{Calls, Part, Query};
use crate::store::OpenStore;
use crate::{Facet, Result, Timestamp};
use std::collections::BTreeSet;

/// The most conversations that are told at once.
const MOST: u64 = 1000;
/// The most users of one that are named.
const USERS: usize = 10;

/// A conversation, in figures.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// Who started its calls, in the order of their first calls; at most ten.
    pub users: Vec<String>,
    /// The earliest time of its calls, by the caller's clock.
    pub first: Timestamp,
    /// The latest.
    pub last: Timestamp,
    /// The number of its calls; see [`Calls`].
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them have no end.
    pub unfinished: u64,
}

attestlog_proof::json_form!(members Conversation { id, users, first, last, calls, failed, unfinished });

/// Some conversations.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Conversations {
    /// Those with the newest entries, newest first.
    pub newest: Vec<Conversation>,
    /// If there are older ones: where to go on.
    pub next: Option<OlderConversations>,
}

attestlog_proof::json_form!(members Conversations { newest, next });

/// Where a list of conversations goes on: with those whose newest entry came before the last one that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OlderConversations {
    /// The newest entry of the conversation that was listed last.
    pub before: u64,
    /// Entries from this seq on came after the list was begun; they move no conversation.
    pub size: u64,
}

attestlog_proof::json_form!(members OlderConversations { before, size });

impl OpenStore {
    /// The newest conversations with an entry that `query` finds, at most `most` and at most 1,000; or those that follow.
    pub(crate) fn conversations(
        &self,
        query: &Query,
        most: u64,
        older: Option<OlderConversations>,
    ) -> Result<Conversations> {
        self.check_damage()?;
        let (most, mut seen, mut ids) = (most.min(MOST) as usize, BTreeSet::new(), Vec::new());
        let size = older.map_or_else(|| self.size(), |older| older.size.min(self.size()));
        let newest = Query { limit: None, after: None, ..query.clone().newest_first() };
        let (mut next, mut last) = (None, older.map_or(size, |older| older.before));
        for entry in self.query(&newest.clone().after(last))? {
            let entry = match entry {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            let Some(call) = entry.call().filter(|call| !seen.contains(&call.conversation_id)) else { continue };
            let id = call.conversation_id.clone();
            seen.insert(id.clone());
            // What was listed before has an entry that came later.
            if let Some(older) = older {
                let mut of = newest.clone().after(size).limit(1);
                of.facets.insert(Facet::Conversation, vec![id.clone()]);
                if self.query(&of)?.next().transpose()?.is_some_and(|newest| newest.seq >= older.before) {
                    continue;
                }
            }
            if ids.len() == most {
                next = Some(OlderConversations { before: last, size });
                break;
            }
            last = entry.seq;
            ids.push(id);
        }
        let told = ids.into_iter().map(|id| self.conversation(id));
        Ok(Conversations { newest: told.filter_map(Result::transpose).collect::<Result<_>>()?, next })
    }

    /// The figures of one; `None` if a purge has just taken it.
    fn conversation(&self, id: String) -> Result<Option<Conversation>> {
        let (mut calls, mut users, mut times) = (Calls::new(), Vec::<String>::new(), None);
        for entry in self.query(&Query::new().conversation(id.as_str()))? {
            let entry = match entry {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            let part = calls.take(&entry);
            let Some(call) = entry.call() else { continue };
            let (first, last) = times.unwrap_or((call.timestamp, call.timestamp));
            times = Some((first.min(call.timestamp), last.max(call.timestamp)));
            if part == Some(Part::First) && users.len() < USERS && !users.contains(&call.user_id) {
                users.push(call.user_id.clone());
            }
        }
        Ok(times.map(|(first, last)| Conversation {
            id,
            users,
            first,
            last,
            calls: calls.calls(),
            failed: calls.failed(),
            unfinished: calls.unfinished(),
        }))
    }
}
