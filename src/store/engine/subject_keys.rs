//! In-memory cache of data subjects' keys.

use crate::redact::SubjectKey;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many keys are cached, so that not every entry has to unwrap its subject's key again.
const CACHED: usize = 4096;

/// A key as it is stored in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The pseudonyms of the subjects that the key belongs to, sorted.
    pub members: Vec<String>,
    /// The master key that wraps it.
    pub master: [u8; 4],
    /// The key, encrypted.
    pub wrapped: Vec<u8>,
}

/// A new key, to be committed with the entry that is sealed under it.
#[derive(Debug, Clone)]
pub(crate) struct NewSubject {
    pub id: String,
    pub key: SubjectKey,
    pub members: Vec<String>,
}

/// The in-memory cache of data subjects' keys.
#[derive(Debug, Default)]
pub(crate) struct Subjects(Mutex<Known>);

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By tag.
    pub(crate) keys: HashMap<String, Cached>,
    /// Keys destroyed since the store was opened: an entry prepared earlier must not bring one back.
    pub(crate) destroyed: HashSet<String>,
}

#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) subject: NewSubject,
    pub(crate) durable: bool,
}

impl Subjects {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks these keys as being on the disk.
    pub(crate) fn settled(&self, ids: &[(String, Row)]) {
        if ids.is_empty() {
            return;
        }
        let mut known = self.lock();
        for cached in known.keys.values_mut() {
            cached.durable |= ids.iter().any(|(id, _)| *id == cached.subject.id);
        }
    }
}

impl Known {
    pub(crate) fn remember(&mut self, tag: String, subject: NewSubject, durable: bool) {
        if self.keys.len() >= CACHED {
            // Only durable keys are dropped: a key that is not on the disk yet can be found nowhere else.
            self.forget();
        }
        self.keys.insert(tag, Cached { subject, durable });
    }

    /// The ids of keys that belong to one of these pseudonyms and may not be on the disk yet.
    pub(crate) fn pending_of(&self, pseudonyms: &[String]) -> Vec<String> {
        let concerned = self.keys.values().filter(|c| !c.durable && concerns(&c.subject.members, pseudonyms));
        concerned.map(|c| c.subject.id.clone()).collect()
    }

    /// Drops all keys that are in the file.
    pub(crate) fn forget(&mut self) {
        self.keys.retain(|_, cached| !cached.durable);
    }

    /// Drops keys that were destroyed.
    pub(crate) fn destroy(&mut self, ids: &[String]) {
        self.keys.retain(|_, cached| !ids.contains(&cached.subject.id));
        self.destroyed.extend(ids.iter().cloned());
    }
}

/// Whether a key with these members belongs to one of these pseudonyms.
pub(crate) fn concerns(members: &[String], pseudonyms: &[String]) -> bool {
    members.iter().any(|member| pseudonyms.contains(member))
}
