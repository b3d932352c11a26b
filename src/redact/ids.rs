//! The short names of an entry: whom and what it concerns, and which tool, server, model and agent were at work.
//!
//! They are what entries are found by, so a policy keeps them or writes pseudonyms, and an e-mail address may be
//! somebody's name here. But credentials, and numbers that are surely those of a card, a bank account or a social
//! security card, are no names: a user, patient or conversation that is called so is written as a pseudonym under every
//! policy and found by its clear name; in the others they are masked.

use super::context::{Context, Root};
use super::detect::{self, Hit};
use super::found::placeholder;
use super::members::stays_text;
use super::policy::{Detector, Facet};
use super::pseudonym::{PseudonymKey, is_pseudonym};
use super::sanitize::Sanitizer;
use super::treated::{Action, Treated};
use crate::error::Result;

/// What is looked for in names.
const IN_NAMES: u16 = {
    let looked_for = [
        Detector::PrivateKey,
        Detector::Jwt,
        Detector::ConnectionString,
        Detector::ApiKey,
        Detector::Bearer,
        Detector::Credential,
        Detector::Iban,
        Detector::Card,
        Detector::Ssn,
        Detector::NationalId,
    ];
    let (mut bits, mut i) = (0, 0);
    while i < looked_for.len() {
        bits |= 1 << looked_for[i] as u16;
        i += 1;
    }
    bits
};

/// Nothing that is looked for is shorter.
const SHORTEST: usize = 9;

impl Sanitizer {
    fn scan_name(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        if text.len() >= SHORTEST {
            detect::scan(text, None, self.wanted & IN_NAMES, &mut hits);
        }
        hits
    }

    /// How a facet of the entry is written: as it is, or as a pseudonym under the newest key. Without a key a name that
    /// must not be written is masked.
    pub fn facet(&self, facet: Facet, clear: &str) -> String {
        if is_pseudonym(clear) {
            return clear.to_owned();
        }
        let hidden = self.policy.facet(facet) == Action::Pseudonymise;
        match (hidden || self.is_no_name(clear), self.pseudonyms.first()) {
            (true, Some(key)) => key.pseudonym(facet.name(), clear),
            (true, None) => self.masked(clear),
            (false, _) => clear.to_owned(),
        }
    }

    /// Whether a name of somebody holds what must not be written, whatever the policy says of names.
    pub(crate) fn is_no_name(&self, text: &str) -> bool {
        !self.scan_name(text).is_empty()
    }

    fn masked(&self, clear: &str) -> String {
        let spans = self.merge(&mut self.scan_name(clear));
        match spans.is_empty() {
            true => placeholder(None),
            false => self.apply(clear, &spans, |_| Action::Mask),
        }
    }

    /// What was found in a name of somebody that the policy would keep, for the record of what was done.
    pub(crate) fn treated_facet(&self, facet: Facet, path: &str, clear: &str) -> Vec<Treated> {
        if self.policy.facet(facet) == Action::Pseudonymise || is_pseudonym(clear) {
            return Vec::new();
        }
        let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
        let spans = self.merge(&mut self.scan_name(clear));
        let whole = |detector: &str| Treated {
            path: path.to_owned(),
            detector: detector.to_owned(),
            action,
            start: None,
            end: None,
        };
        spans.iter().map(|span| whole(self.name(span.kind))).collect()
    }

    /// A name of a tool, a server, a model, an agent or a call as it is written.
    pub(crate) fn treat_name(&self, path: &str, text: &mut String, context: &mut Context<'_>) {
        let mut hits = self.scan_name(text);
        if hits.is_empty() {
            return;
        }
        let spans = self.merge(&mut hits);
        let treated = spans.iter().map(|span| Treated {
            path: path.to_owned(),
            detector: self.name(span.kind).to_owned(),
            action: stays_text(self.shown_action(text, span)),
            start: None,
            end: None,
        });
        context.treated.extend(treated);
        *text = self.apply(text, &spans, stays_text);
    }

    /// A short text about the call, `purpose`, as it is written: treated like any text, under `text` and its key.
    ///
    /// # Errors
    /// As [`treat`](Sanitizer::treat).
    pub(crate) fn treat_said(&self, key: &str, text: &mut String, context: &mut Context<'_>) -> Result<()> {
        self.treat_member(Root::Text, key, text, context)
    }

    /// The ids of all live pseudonym keys, newest first.
    pub(crate) fn pseudonym_keys(&self) -> impl Iterator<Item = &str> {
        self.pseudonyms.iter().map(PseudonymKey::id)
    }

    /// The pseudonyms of a facet's clear value under all live keys, newest first, whatever the policy says now.
    pub(crate) fn pseudonyms_of(&self, facet: Facet, clear: &str) -> Vec<String> {
        self.pseudonyms.iter().map(|key| key.pseudonym(facet.name(), clear)).collect()
    }

    /// Everything under which a facet's clear value may have been written: its pseudonym under every live key, newest
    /// first, and the value itself where the policy keeps it or it is a pseudonym already.
    pub fn lookup(&self, facet: Facet, clear: &str) -> Vec<String> {
        if is_pseudonym(clear) {
            return vec![clear.to_owned()];
        }
        let own = (self.policy.facet(facet) == Action::Keep).then(|| clear.to_owned());
        own.into_iter().chain(self.pseudonyms_of(facet, clear)).collect()
    }

    /// A name of another kind, or a purpose, as a query has to look for it.
    pub(crate) fn lookup_name(&self, text: &str, said: bool) -> Option<String> {
        let (mut written, mut context) = (text.to_owned(), Context::new());
        match said {
            true => self.treat_said("purpose", &mut written, &mut context).ok()?,
            false => self.treat_name("", &mut written, &mut context),
        }
        (written != text).then_some(written)
    }
}
