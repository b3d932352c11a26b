//! The short names of an entry: whom and what it concerns, and which tool, server, model and agent were at work.
//!
//! They are what entries are found by, so a policy keeps them or writes pseudonyms, and an e-mail address may be
//! somebody's name here. But credentials, and numbers that are surely those of a card, a bank account or a social
//! security card, are no names, nor is what has a hidden name in it: whatever is called so is written as a pseudonym under
//! every policy, as a whole, and found by its clear name.
//!
//! Invariant Y6: whatever entries are found by is written in clear, or as the pseudonym of its normal form under one of the
//! store's keys, and [`Sanitizer::terms`] gives all of these: queries, statistics, alerts, grants, holds and proofs ask
//! nothing else. A pseudonym that is asked for stands for itself; one that is given as a name to be recorded is no name
//! (R55): it is written as the pseudonym of what was given, so that nobody becomes somebody else by it. Only where the store has no keys it is masked; then a search for what would be masked is refused.

use super::context::{Context, Root};
use super::detect::{self, Hit};
use super::key_names::stays_text;
use super::policy::{Detector, IdentityKind};
use super::pseudonym::PseudonymKey;
use super::sanitize::Sanitizer;
use super::spans::placeholder;
use super::treated::{Action, Treated};
use crate::Result;
use crate::names::domain;
use crate::names::is_pseudonym;
use crate::spelling::{is_look_alike, normal};
use attestlog_proof::entry::Facet;

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

/// Under which name an entry says of a name that it only looks like a plain one.
const LOOK_ALIKE: &str = "look_alike";

/// Under which name an entry says that a name was given in the form of a pseudonym.
const PSEUDONYM: &str = "pseudonym";

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
    pub fn facet(&self, facet: IdentityKind, clear: &str) -> String {
        let clear = &*normal(clear);
        let hidden = self.policy.facet(facet) == Action::Pseudonymise;
        match (hidden || self.is_no_name(clear), self.newest(facet.field(), clear)) {
            (true, Some(pseudonym)) => pseudonym,
            (true, None) => self.masked(clear),
            (false, _) => clear.to_owned(),
        }
    }

    /// The pseudonym of a facet's clear value under the key that writes; `None` without a key.
    pub(crate) fn newest(&self, field: Facet, clear: &str) -> Option<String> {
        self.pseudonyms.first().map(|key| key.pseudonym(field.as_str(), clear))
    }

    /// Whether a name of somebody holds what must not be written, whatever the policy says of names.
    /// So does a text in the form of a pseudonym: written as it is it would be somebody else's (R55).
    pub(crate) fn is_no_name(&self, text: &str) -> bool {
        is_pseudonym(text) || !self.scan_name(text).is_empty()
    }

    fn masked(&self, clear: &str) -> String {
        let spans = self.merge(&mut self.scan_name(clear));
        match spans.is_empty() {
            true => placeholder(None),
            false => self.apply(clear, &spans, |_| Action::Mask),
        }
    }

    /// What was found in a name of somebody that the policy would keep, and whether it only looks like another, for the
    /// record of what was done.
    pub(crate) fn treated_facet(&self, facet: IdentityKind, path: &str, clear: &str) -> Vec<Treated> {
        let whole = |detector: &str, action| Treated {
            path: path.to_owned(),
            detector: detector.to_owned(),
            action,
            start: None,
            end: None,
        };
        let alike = is_look_alike(clear).then(|| whole(LOOK_ALIKE, Action::Keep));
        if is_pseudonym(&normal(clear)) {
            let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
            return vec![whole(PSEUDONYM, action)];
        }
        if self.policy.facet(facet) == Action::Pseudonymise {
            return alike.into_iter().collect();
        }
        let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
        let spans = self.merge(&mut self.scan_name(clear));
        spans.iter().map(|span| whole(self.name(span.kind), action)).chain(alike).collect()
    }

    /// A name of a tool, a server, a model, an agent or a call as it is written. One that entries are found by is a
    /// pseudonym as a whole where it holds what must not be written.
    pub(crate) fn treat_name(&self, field: Option<Facet>, path: &str, text: &mut String, context: &mut Context<'_>) {
        if let Some(field) = field.filter(|_| is_pseudonym(&normal(text))) {
            let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
            let (path, detector) = (path.to_owned(), PSEUDONYM.to_owned());
            context.treated.push(Treated { path, detector, action, start: None, end: None });
            *text = self.newest(field, text).unwrap_or_else(|| placeholder(None));
            return;
        }
        if field == Some(Facet::Tool) && is_look_alike(text) {
            let (path, detector) = (path.to_owned(), LOOK_ALIKE.to_owned());
            context.treated.push(Treated { path, detector, action: Action::Keep, start: None, end: None });
        }
        let mut hits = self.scan_name(text);
        if hits.is_empty() {
            return;
        }
        let spans = self.merge(&mut hits);
        let pseudonym = field.and_then(|field| self.newest(field, text));
        let treated = spans.iter().map(|span| Treated {
            path: path.to_owned(),
            detector: self.name(span.kind).to_owned(),
            action: match pseudonym {
                Some(_) => Action::Pseudonymise,
                None => stays_text(self.shown_action(text, span)),
            },
            start: None,
            end: None,
        });
        context.treated.extend(treated);
        *text = pseudonym.unwrap_or_else(|| self.apply(text, &spans, stays_text));
    }

    /// A short text about the call that entries are found by, `purpose`: what would be treated in any text under `text` and
    /// its key makes the whole a pseudonym, and without keys it is treated like any text.
    ///
    /// # Errors
    /// As [`treat`](Sanitizer::treat).
    pub(crate) fn treat_said(&self, key: &str, text: &mut String, context: &mut Context<'_>) -> Result<()> {
        if is_pseudonym(&normal(text)) {
            self.treat_name(Some(Facet::Purpose), key, text, context);
            return Ok(());
        }
        let (clear, before) = (text.clone(), context.treated.len());
        self.treat_member(Root::Text, key, text, context)?;
        if let Some(pseudonym) = self.newest(Facet::Purpose, &clear).filter(|_| *text != clear) {
            *text = pseudonym;
            for treated in context.treated.iter_mut().skip(before) {
                *treated = Treated { action: Action::Pseudonymise, start: None, end: None, ..treated.clone() };
            }
        }
        Ok(())
    }

    /// The ids of all live pseudonym keys, newest first.
    pub(crate) fn pseudonym_keys(&self) -> impl Iterator<Item = &str> {
        self.pseudonyms.iter().map(PseudonymKey::id)
    }

    /// The pseudonyms of a facet's clear value under all live keys, newest first, whatever the policy says now.
    pub(crate) fn pseudonyms_of(&self, field: Facet, clear: &str) -> Vec<String> {
        self.pseudonyms.iter().map(|key| key.pseudonym(field.as_str(), clear)).collect()
    }

    /// Everything under which a facet's clear value may have been written under this or another policy: its normal form,
    /// and the pseudonym of that under every live key, newest first. A pseudonym stands for itself.
    pub(crate) fn terms(&self, field: Facet, clear: &str) -> Vec<String> {
        let clear = normal(clear);
        let pseudonyms = match domain(field) {
            Some(_) if !is_pseudonym(&clear) => self.pseudonyms_of(field, &clear),
            _ => Vec::new(),
        };
        std::iter::once(clear.into_owned()).chain(pseudonyms).collect()
    }

    /// Everything under which a patient's, a user's or a conversation's clear name may stand in a log: as it is, and as a
    /// pseudonym under every live key, newest first. A pseudonym stands for itself.
    pub fn lookup(&self, facet: IdentityKind, clear: &str) -> Vec<String> {
        self.terms(facet.field(), clear)
    }

    /// Whether the value of a facet would have been masked when it was recorded, so that nobody can tell whether it was:
    /// only where there is no key for a pseudonym.
    pub(crate) fn would_mask(&self, field: Facet, clear: &str) -> bool {
        if !self.pseudonyms.is_empty() || domain(field).is_none() {
            return false;
        }
        match field {
            // It stands for itself, and nothing that a caller gave is written so.
            _ if is_pseudonym(&normal(clear)) => false,
            Facet::Purpose => {
                let mut said = clear.to_owned();
                self.treat_said("purpose", &mut said, &mut Context::new()).is_err() || said != clear
            }
            _ => self.is_no_name(clear),
        }
    }
}
