//! What preparing a call needs to know of the store: limits, policies, keys.

use super::Shared;
use super::guard::guarded;
use super::subjects::NewSubject;
use crate::Result;
use crate::entry::CallLimits;
use crate::policy::Policies;
use std::sync::Arc;

/// The ground that a call is prepared on.
pub(crate) trait Ground {
    fn limits(&self) -> &CallLimits;
    fn policies(&self) -> Arc<Policies>;
    /// Whether the store's keys are here, so that values can be sealed.
    fn has_keys(&self) -> bool;
    /// Whether the store has keys, here or elsewhere.
    fn is_keyed(&self) -> bool;
    fn random(&self, out: &mut [u8]);
    /// The keyed digest of a whole result, where there is a key.
    fn digest(&self, whole: &[u8]) -> Option<String>;
    /// The key for those with these pseudonyms, and whether it is on the disk already.
    fn subject(&self, spellings: &[Vec<String>]) -> Result<(NewSubject, bool)>;
}

impl Ground for Shared {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn policies(&self) -> Arc<Policies> {
        Shared::policies(self)
    }

    fn has_keys(&self) -> bool {
        self.keys().is_some()
    }

    fn is_keyed(&self) -> bool {
        !self.ledger().pseudonym_keys.is_empty()
    }

    fn random(&self, out: &mut [u8]) {
        self.random.fill(out);
    }

    fn digest(&self, whole: &[u8]) -> Option<String> {
        Shared::digest(self, whole)
    }

    fn subject(&self, spellings: &[Vec<String>]) -> Result<(NewSubject, bool)> {
        guarded(|| Shared::subject(self, spellings))
    }
}
